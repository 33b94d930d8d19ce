/*
 * fuzz_launch.c - what a hostile main may ask the launcher for, and what a hostile launcher may
 * tell main (docs/launcher.md): the first byte says which.
 *
 * What decodes must encode to the same bytes again, and its arguments are options of a list.
 */
#include <assert.h>

#include "../../agent/launcher/internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try_request(const uint8_t *data, size_t size)
{
    static uint8_t again[TF_LAUNCH_BYTES_MAX];
    struct tf_launch_request request;

    if (tf_launch_request_decode(data, size, &request) < 0) {
        return;
    }
    for (size_t i = 1; request.args[i] != NULL; i++) {
        assert(i <= TF_LAUNCH_ARGS_MAX && request.op == TF_LAUNCH_START);
        assert(strncmp(request.args[i], "--", 2) == 0);
    }
    assert(tf_launch_request_encode(&request, again) == (int)size);
    assert(memcmp(again, data, size) == 0);
}

static void try_notice(const uint8_t *data, size_t size)
{
    uint8_t again[TF_LAUNCH_NOTICE_BYTES];
    struct tf_launch_notice notice;

    if (tf_launch_notice_decode(data, size, &notice) < 0) {
        return;
    }
    tf_launch_notice_encode(&notice, again);
    assert(size == sizeof again && memcmp(again, data, size) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > 0 && data[0] % 2 == 0) {
        try_request(data + 1, size - 1);
    } else if (size > 0) {
        try_notice(data + 1, size - 1);
    }
    return 0;
}
