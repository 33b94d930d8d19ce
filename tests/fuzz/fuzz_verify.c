/*
 * fuzz_verify.c - a whole spool of one segment, of arbitrary bytes, verified; and a witness's
 * lines.
 *
 * The first byte tells what to mend, since random bytes would not come past a checksum: sector 0's,
 * and those of the frames that the bytes seem to be. Then the walk, seals, notices and report run
 * on a segment in memory. Numbers must rise, what is read must lie in the file, the report must be
 * whole.
 */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../../agent/verify/verify.h"

#define SIZE_MAX_BYTES (256u << 10)

static void mend_sector(uint8_t *data)
{
    memcpy(data, "TFSEG\r\n\x1a\1\0\1\0", 12);
    tf_store32(data + 12, tf_load32(data + 12) & 15);
    data[71] = 0;
    memset(data + 208, 0, 300);
    tf_store32(data + 508, tf_crc32c(0, data, 508));
}

static void mend_frames(uint8_t *data, size_t size)
{
    size_t at = TF_SEGMENT_HEADER_BYTES;
    uint64_t seq = tf_load64(data + 72);

    while (at + 64 + 16 + 36 <= size) {
        uint32_t body = 16 + tf_load32(data + at + 36) % 2048;

        if (at + 64 + body + 36 > size) {
            return;
        }
        memcpy(data + at, "TFRM", 4);
        data[at + 4] = (uint8_t)(1 + data[at + 4] % 7);
        data[at + 5] = data[at + 4] >= 4 && data[at + 4] <= 6 ? 0 : 1;
        tf_store16(data + at + 6, 0);
        if (data[at + 8] % 8 != 0) {
            tf_store64(data + at + 8, seq);
        }
        tf_store32(data + at + 36, body);
        tf_store32(data + at + 60, tf_crc32c(0, data + at, 60));
        tf_store32(data + at + 64 + body + 32, tf_crc32c(0, data + at + 64, body + 32));
        at += 64 + body + 36;
        seq++;
    }
}

static int memory_file(const uint8_t *data, size_t size)
{
    int fd = memfd_create("segment", MFD_CLOEXEC);

    assert(fd >= 0 && write(fd, data, size) == (ssize_t)size);
    return fd;
}

static void walk(const uint8_t *data, size_t size)
{
    struct tf_walk walk;
    struct tf_walked frame = {.kind = TF_WALKED_FRAME};
    uint64_t last = 0;

    if (tf_walk_open(&walk, memory_file(data, size)) < 0) {
        return;
    }
    while (frame.kind == TF_WALKED_FRAME && tf_walk_next(&walk, &frame) == 0) {
        assert(walk.offset <= size && frame.bad_bytes <= size);
        if (frame.kind == TF_WALKED_FRAME && !frame.is_misplaced) {
            assert(frame.header.seq > last && frame.begin + frame.bytes <= size);
            last = frame.header.seq;
        }
    }
    tf_walk_close(&walk);
}

static void verify(const uint8_t *data, size_t size)
{
    static struct tf_verify_report report;
    struct tf_seal_key key = {0};
    char path[64];
    int fd = memory_file(data, size);
    struct tf_verify_options options = {.path = path, .seal_keys = &key, .seal_key_count = 1};
    struct tf_progress progress = {0};
    struct tf_error err;
    struct tf_buf out;

    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    tf_error_init(&err);
    tf_buf_init(&out, 1u << 20);
    if (tf_verify_run(&options, &progress, &report, &err) == 0) {
        tf_verify_print(&report, &out);
        tf_verify_print_json(&report, &out);
        assert(out.error == 0 && out.size > 0);
        assert(report.finding_count <= TF_VERIFY_FINDINGS_MAX);
    }
    tf_buf_fini(&out);
    tf_error_fini(&err);
    (void)close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct tf_witness_record record;
    uint8_t *copy;

    (void)tf_witness_parse(tf_slice(data, size), &record);
    if (size < 1 + TF_SEGMENT_HEADER_BYTES - 3584 || size > SIZE_MAX_BYTES) {
        return 0;
    }
    size += 3584 - 1; /* key slots are zeros */
    copy = calloc(1, size);
    if (copy == NULL) {
        return 0;
    }
    memcpy(copy, data + 1, 512);
    memcpy(copy + TF_SEGMENT_HEADER_BYTES, data + 513, size - TF_SEGMENT_HEADER_BYTES);
    if ((data[0] & 1) != 0) {
        mend_sector(copy);
    }
    if ((data[0] & 2) != 0) {
        mend_frames(copy, size);
    }
    walk(copy, size);
    verify(copy, size);
    free(copy);
    return 0;
}
