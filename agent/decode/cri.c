/*
 * cri.c - one line of a Kubernetes CRI container log: "TIME STREAM TAGS TEXT".
 *
 * TAGS are parted by ':'; the first is P (a piece, more follows) or F (the last piece), further
 * ones are ignored. TEXT is everything behind the third space and may be empty; a line that the
 * runtime cut at a container's exit may end right behind the tags.
 */
#include "taffrail/decode.h"

#include <errno.h>

/* Cuts the word before the next space off rest; false when there is no space. */
static bool cut_word(struct tf_slice *rest, struct tf_slice *word)
{
    const char *space = rest->size > 0 ? memchr(rest->data, ' ', rest->size) : NULL;
    size_t size;

    if (space == NULL) {
        return false;
    }
    size = (size_t)(space - rest->data);
    *word = tf_slice(rest->data, size);
    *rest = tf_slice(space + 1, rest->size - size - 1);
    return true;
}

int tf_cri_split(struct tf_slice line, struct tf_cri_line *out)
{
    struct tf_slice rest = line, time, stream, tags;
    struct tf_cri_line found = {0};

    if (!cut_word(&rest, &time) || !cut_word(&rest, &stream)) {
        return -EPROTO;
    }
    if (!cut_word(&rest, &tags)) {
        tags = rest;
        rest = tf_slice(line.data + line.size, 0);
    }
    if (tf_slice_equal(stream, tf_slice_text("stdout"))) {
        found.stream = TF_STREAM_STDOUT;
    } else if (tf_slice_equal(stream, tf_slice_text("stderr"))) {
        found.stream = TF_STREAM_STDERR;
    } else {
        return -EPROTO;
    }
    if (tags.size == 0 || (tags.data[0] != 'P' && tags.data[0] != 'F') ||
        (tags.size > 1 && tags.data[1] != ':')) {
        return -EPROTO;
    }
    if (tf_time_parse(time, &found.time_ns) < 0) {
        return -EPROTO;
    }
    found.partial = tags.data[0] == 'P';
    found.text = rest;
    *out = found;
    return 0;
}
