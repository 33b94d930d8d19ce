/* fuzz_cri.c - hostile CRI lines, times and paths: what is found must lie inside what was given. */
#include <assert.h>
#include <stdlib.h>

#include "taffrail/decode.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_inside(struct tf_slice part, struct tf_slice whole)
{
    assert(part.size == 0 ||
           (part.data >= whole.data && part.data + part.size <= whole.data + whole.size));
}

static void path(struct tf_slice text)
{
    struct tf_log_path out;
    struct tf_batch batch;
    bool found = tf_log_path_parse(text, &out);

    check_inside(out.namespace_name, text);
    check_inside(out.pod_name, text);
    check_inside(out.pod_uid, text);
    check_inside(out.container_name, text);
    check_inside(out.container_id, text);
    assert(found == (out.pod_name.size > 0 || out.container_id.size > 0));
    if (found && tf_batch_init(&batch) == 0) {
        if (tf_batch_add_record(&batch, 0, TF_STREAM_OTHER) != NULL) {
            (void)tf_log_path_describe(&out, "node", &batch);
        }
        tf_batch_fini(&batch);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *copy = malloc(size == 0 ? 1 : size); /* exact: reading past it is seen */
    struct tf_slice text = tf_slice(copy, size);
    struct tf_cri_line line;
    int64_t time_ns;

    if (copy == NULL) {
        return 0;
    }
    memcpy(copy, data, size);
    if (tf_cri_split(text, &line) == 0) {
        check_inside(line.text, text);
        assert(line.stream != TF_STREAM_OTHER);
    }
    (void)tf_time_parse(text, &time_ns);
    path(text);
    free(copy);
    return 0;
}
