/*
 * fuzz_docker.c - hostile lines of docker's json-file log.
 *
 * What is taken must lie in the arena, between newlines, no longer than the line; what is refused
 * must leave the batch as it was.
 */
#include <assert.h>
#include <stdlib.h>

#include "taffrail/decode.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *copy = malloc(size == 0 ? 1 : size); /* exact: reading past it is seen */
    struct tf_docker_line out;
    struct tf_batch batch;
    size_t before;

    if (copy == NULL) {
        return 0;
    }
    memcpy(copy, data, size);
    if (tf_batch_init(&batch) == 0) {
        before = batch.text.size;
        if (tf_docker_parse(tf_slice(copy, size), &batch, &out) == 0) {
            assert(out.text_at == before && out.text_size < size);
            assert(batch.text.size == before + out.text_size + 1);
            assert(batch.text.data[batch.text.size - 1] == '\n');
            assert(out.stream < TF_STREAMS);
        } else {
            assert(batch.text.size == before && batch.text.error == 0);
        }
        tf_batch_fini(&batch);
    }
    free(copy);
    return 0;
}
