/*
 * fuzz_gunzip.c - whatever the bytes of a compressed file and the places it is read from, the text
 * is that of the file's start, and a read ends.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../../agent/inputs/container/internal.h"

#define STEPS_MAX 64u /* a read may inflate a bomb step by step; here it need not */

static ssize_t read_on(struct tf_gunzip *gunzip, char *to, size_t size, uint64_t offset)
{
    ssize_t got = -EAGAIN;

    for (unsigned i = 0; i < STEPS_MAX && got == -EAGAIN; i++) {
        got = tf_gunzip_read(gunzip, to, size, offset);
    }
    return got;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char first[4096], again[4096];
    int fd = memfd_create("fuzz", 0);
    struct tf_gunzip *gunzip;
    ssize_t all;

    assert(fd >= 0 && write(fd, data, size) == (ssize_t)size);
    gunzip = tf_gunzip_new(fd);
    assert(gunzip != NULL);
    all = read_on(gunzip, first, sizeof first, 0);
    for (size_t i = 0; i + 2 < size && i < 32; i += 2) {
        size_t at = (size_t)data[i] << 4, want = (size_t)data[i + 1] << 3;
        ssize_t got = read_on(gunzip, again, want, at);

        if (all >= 0 && got > 0 && at < (size_t)all) {
            size_t same = (size_t)all - at < (size_t)got ? (size_t)all - at : (size_t)got;

            assert(memcmp(first + at, again, same) == 0);
        }
    }
    tf_gunzip_free(gunzip);
    (void)close(fd);
    return 0;
}
