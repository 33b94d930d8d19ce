/*
 * fuzz_opener_reply.c - what a hostile opener may reply to main (docs/opener.md).
 *
 * What decodes must encode to the same bytes again, and its path lies below a root.
 */
#include <assert.h>

#include "../../agent/opener/internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t again[TF_REPLY_BYTES_MAX];
    struct tf_answer answer;
    char path[TF_FILE_PATH_MAX + 8] = "/r/", normal[TF_FILE_PATH_MAX];
    uint32_t id;

    if (tf_reply_decode(data, size, &id, &answer) < 0) {
        return 0;
    }
    assert(answer.rc <= 0 && answer.why < TF_WHY_GONE && answer.opened.fd == -1);
    assert(tf_reply_encode(id, &answer, again) == size && memcmp(again, data, size) == 0);
    memcpy(path + 3, answer.spot.rest, strlen(answer.spot.rest) + 1);
    if (answer.spot.rest[0] != '\0' && tf_path_normalize(path, normal) == 0) {
        assert(strcmp(path, normal) == 0);
    }
    return 0;
}
