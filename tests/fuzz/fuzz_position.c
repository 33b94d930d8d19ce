/*
 * fuzz_position.c - positions, their keys and paths from hostile bytes.
 *
 * What decodes must encode to the same bytes again, and keep the invariants that the reader relies
 * on.
 */
#include <assert.h>
#include <stdlib.h>

#include "../../agent/inputs/container/internal.h"

static void value(const uint8_t *data, size_t size)
{
    struct tf_position position;
    struct tf_buf out;

    if (tf_position_decode(tf_slice(data, size), &position) < 0) {
        return;
    }
    assert(position.prints[0].offset == tf_position_last(&position));
    assert(tf_position_first(&position) <= tf_position_last(&position));
    assert(tf_position_last(&position) <= INT64_MAX);
    for (unsigned i = 0; i < TF_STREAMS; i++) {
        assert(position.states[i].size <= TF_FILTER_STATE_BYTES);
    }
    tf_buf_init(&out, TF_STATE_VALUE_MAX);
    tf_position_encode(&position, &out);
    assert(out.error != 0 || tf_slice_equal(tf_buf_slice(&out), tf_slice(data, size)));
    tf_buf_fini(&out);
}

/* A number may be written in two ways ("01"), so only the identity must survive. */
static void key(const uint8_t *data, size_t size)
{
    struct tf_file_id id, again;
    struct tf_buf out;

    if (tf_position_key_parse(tf_slice(data, size), "a", &id) < 0) {
        return;
    }
    tf_buf_init(&out, TF_STATE_KEY_MAX);
    tf_position_key("a", &id, &out);
    assert(out.error != 0 || (tf_position_key_parse(tf_buf_slice(&out), "a", &again) == 0 &&
                              tf_file_id_compare(&id, &again) == 0));
    tf_buf_fini(&out);
}

static void path(const uint8_t *data, size_t size)
{
    char normal[TF_FILE_PATH_MAX], again[TF_FILE_PATH_MAX];
    char *text = strndup((const char *)data, size);
    struct tf_path_glob glob;

    if (text == NULL) {
        return;
    }
    if (tf_path_normalize(text, normal) == 0) {
        assert(normal[0] == '/' && strstr(normal, "//") == NULL && strstr(normal, "/../") == NULL);
        assert(tf_path_normalize(normal, again) == 0 && strcmp(normal, again) == 0);
    }
    (void)tf_path_glob_init(&glob, text);
    tf_path_glob_fini(&glob);
    (void)tf_is_compressed_name(text);
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    value(data, size);
    key(data, size);
    path(data, size);
    return 0;
}
