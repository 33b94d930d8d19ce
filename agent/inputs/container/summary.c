/*
 * summary.c - what `check` tells of the input: how many files it would follow on this machine.
 *
 * One scan, as at a first start, but nothing stays open. A count of 0 shows a glob that names
 * nothing, before the agent runs; what is refused, or this user may not open, is counted apart.
 */
#include "internal.h"

#include <stdlib.h>

static int compare_ids(const void *a, const void *b)
{
    const struct tf_found *one = a, *other = b;

    return tf_file_id_compare(&one->id, &other->id);
}

/* Empty for a path that tells no pod. */
static struct tf_slice pod_uid(const struct tf_found *found)
{
    struct tf_log_path path;

    (void)tf_log_path_parse(tf_slice_text(found->base), &path);
    return path.pod_uid;
}

static int compare_pods(const void *a, const void *b)
{
    struct tf_slice one = pod_uid(a), other = pod_uid(b);
    size_t size = one.size < other.size ? one.size : other.size;
    int order = size > 0 ? memcmp(one.data, other.data, size) : 0;

    return order != 0 ? order : (one.size > other.size) - (one.size < other.size);
}

/* Those to be read, each once, whatever paths lead to it; they move to the front. A compressed one
 * may be a copy of what was read, which only a running agent knows. */
static size_t take_files(struct tf_found *found, size_t count)
{
    size_t files = 0;

    qsort(found, count, sizeof *found, compare_ids);
    for (size_t i = 0; i < count; i++) {
        bool is_read = !found[i].is_left_out || found[i].verdict == TF_VERDICT_WAIT;

        if (is_read && (files == 0 || compare_ids(&found[files - 1], &found[i]) != 0)) {
            struct tf_found other = found[files];

            found[files++] = found[i];
            found[i] = other;
        }
    }
    return files;
}

static size_t count_pods(struct tf_found *found, size_t count)
{
    size_t pods = 0;

    qsort(found, count, sizeof *found, compare_pods);
    for (size_t i = 0; i < count; i++) {
        pods +=
            pod_uid(&found[i]).size > 0 && (i == 0 || compare_pods(&found[i - 1], &found[i]) != 0);
    }
    return pods;
}

void tf_container_summarize(void *self, struct tf_buf *out)
{
    struct tf_container *input = self;
    struct tf_scan scan = {.opener = &input->opener,
                           .globs = input->globs,
                           .glob_count = input->glob_count,
                           .include = &input->options->include,
                           .exclude = &input->options->exclude,
                           .keeps_none = true};
    char count[TF_COUNTED_TEXT_BYTES];
    size_t files = 0, pods = 0;

    tf_scan_run(&scan);
    if (scan.found_count > 0) {
        files = take_files(scan.found, scan.found_count);
        pods = count_pods(scan.found, files);
    }
    (void)tf_buf_append_text(out, tf_counted_text(files, "file", count));
    if (pods > 0) {
        (void)tf_buf_printf(out, " in %s", tf_counted_text(pods, "pod", count));
    }
    if (scan.unreadable > 0) {
        (void)tf_buf_printf(out, ", %s that may not be read",
                            tf_count_text(scan.unreadable, count));
    }
    tf_scan_fini(&scan);
}
