/*
 * docker.c - one line of a docker json-file log: {"log":"text\n","stream":"stdout","time":"..."}.
 *
 * A JSON object (RFC 8259) as docker writes it, with some room:
 *
 *   - keys stand in any order; `log` and `time` must be there, a missing or unknown `stream` is
 *     TF_STREAM_OTHER; a second `log`, `stream` or `time` makes the line malformed, since it
 *     cannot be told which one is meant; keys are compared as they are written, without escapes
 *   - other keys are skipped with whatever they hold, to a depth of DEPTH_MAX: their brackets,
 *     commas, colons and quotes must be sound, their escapes are not looked at
 *   - in `log` every escape of JSON is undone, \u0000 too; a surrogate without its partner becomes
 *     U+FFFD; all other bytes are taken as they are, be they control characters or not UTF-8
 *   - white space may stand around every token, nothing else behind the object
 *
 * The text is written right into the batch, which never needs more room than the line itself. A
 * malformed line leaves the batch as it was.
 * Not here: what becomes of pieces and of malformed lines (lines.c).
 */
#include "taffrail/decode.h"

#include <errno.h>

#include "taffrail/json.h"

#define DEPTH_MAX 16u

enum seen { SEEN_LOG = 1, SEEN_STREAM = 2, SEEN_TIME = 4 };

/* ---- tokens ------------------------------------------------------------------------------------
 */

/* true, false, null, or a number: a run of their letters. */
static bool skip_word(struct tf_json *in)
{
    const char *start = in->at;

    while (in->at < in->end && ((*in->at >= 'a' && *in->at <= 'z') || *in->at == 'E' ||
                                (*in->at >= '0' && *in->at <= '9') || *in->at == '-' ||
                                *in->at == '+' || *in->at == '.')) {
        in->at++;
    }
    return in->at > start;
}

/* One value of any kind; depth counts the containers around it. */
static bool skip_value(struct tf_json *in, unsigned depth)
{
    struct tf_slice raw;
    char close;

    tf_json_skip_space(in);
    if (in->at == in->end) {
        return false;
    }
    if (*in->at == '"') {
        return tf_json_raw(in, &raw);
    }
    if (*in->at != '{' && *in->at != '[') {
        return skip_word(in);
    }
    close = *in->at == '{' ? '}' : ']';
    in->at++;
    if (depth == DEPTH_MAX) {
        return false;
    }
    if (tf_json_take(in, close)) {
        return true;
    }
    do {
        if (close == '}' && (!tf_json_raw(in, &raw) || !tf_json_take(in, ':'))) {
            return false;
        }
        if (!skip_value(in, depth + 1)) {
            return false;
        }
    } while (tf_json_take(in, ','));
    return tf_json_take(in, close);
}

/* The string at in, unescaped, at the end of the arena, where room was made for it. */
static bool read_text(struct tf_json *in, struct tf_buf *arena, struct tf_docker_line *out)
{
    char *start = arena->data + arena->size, *to = tf_json_text(in, start, true);

    if (to == NULL) {
        return false;
    }
    out->partial = to == start || to[-1] != '\n';
    out->text_at = (uint32_t)arena->size;
    out->text_size = (uint32_t)(to - start) - (out->partial ? 0 : 1);
    return true;
}

/* ---- the line ----------------------------------------------------------------------------------
 */

static enum tf_stream stream_of(struct tf_slice name)
{
    if (name.size == 6 && memcmp(name.data, "stdout", 6) == 0) {
        return TF_STREAM_STDOUT;
    }
    if (name.size == 6 && memcmp(name.data, "stderr", 6) == 0) {
        return TF_STREAM_STDERR;
    }
    return TF_STREAM_OTHER;
}

static enum seen key_of(struct tf_slice key)
{
    if (key.size == 3 && memcmp(key.data, "log", 3) == 0) {
        return SEEN_LOG;
    }
    if (key.size == 6 && memcmp(key.data, "stream", 6) == 0) {
        return SEEN_STREAM;
    }
    return key.size == 4 && memcmp(key.data, "time", 4) == 0 ? SEEN_TIME : 0;
}

/* One "key": value. */
static bool read_pair(struct tf_json *in, struct tf_buf *arena, unsigned *seen,
                      struct tf_docker_line *out)
{
    struct tf_slice raw;
    enum seen key;

    if (!tf_json_raw(in, &raw) || !tf_json_take(in, ':')) {
        return false;
    }
    key = key_of(raw);
    if ((*seen & key) != 0) {
        return false;
    }
    *seen |= key;
    switch (key) {
    case SEEN_LOG:
        return read_text(in, arena, out);
    case SEEN_STREAM:
        if (!tf_json_raw(in, &raw)) {
            return false;
        }
        out->stream = stream_of(raw);
        return true;
    case SEEN_TIME:
        return tf_json_raw(in, &raw) && tf_time_parse(raw, &out->time_ns) == 0;
    default:
        return skip_value(in, 1);
    }
}

static bool read_line(struct tf_json *in, struct tf_buf *arena, struct tf_docker_line *out)
{
    unsigned seen = 0;

    if (!tf_json_take(in, '{')) {
        return false;
    }
    do {
        if (!read_pair(in, arena, &seen, out)) {
            return false;
        }
    } while (tf_json_take(in, ','));
    if (!tf_json_take(in, '}')) {
        return false;
    }
    tf_json_skip_space(in);
    return in->at == in->end && (seen & SEEN_LOG) != 0 && (seen & SEEN_TIME) != 0;
}

int tf_docker_parse(struct tf_slice line, struct tf_batch *batch, struct tf_docker_line *out)
{
    struct tf_json in;
    struct tf_docker_line found = {.stream = TF_STREAM_OTHER};
    int rc;

    if (line.size == 0) {
        return -EPROTO;
    }
    if (line.size >= TF_BATCH_TEXT_MAX) {
        return -EMSGSIZE;
    }
    in = tf_json(line);
    rc = tf_buf_reserve(&batch->text, line.size + 1);
    if (rc < 0) {
        batch->text.error = 0; /* the batch stays sound */
        return rc;
    }
    if (!read_line(&in, &batch->text, &found)) {
        explicit_bzero(batch->text.data + batch->text.size, line.size); /* what it may have left */
        return -EPROTO;
    }
    batch->text.size = (size_t)found.text_at + found.text_size;
    batch->text.data[batch->text.size++] = '\n';
    *out = found;
    return 0;
}
