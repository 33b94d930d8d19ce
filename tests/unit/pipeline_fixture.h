/*
 * pipeline_fixture.h - what stands around an input in a test, on a real pipeline and spool: a disk
 * that fails or waits, a filter that waits or fails, and an output that keeps every record as a
 * line of JSON, in order.
 *
 * fdatasync is defined here, before libc's. Include it in one file of a program only.
 */
#ifndef TAFFRAIL_PIPELINE_FIXTURE_H
#define TAFFRAIL_PIPELINE_FIXTURE_H

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>
#include <zlib.h>

#include "../../agent/pipeline/internal.h"

#define RECORDS_MAX 60000u
#define PLAIN_MAX   (32u << 20)

/* ---- faults --------------------------------------------------------------------------------- */

static atomic_int fail_syncs; /* so many calls fail */
static atomic_bool hold_syncs, hold_filter;
static atomic_bool filter_waits;              /* a batch is held */
static atomic_int fail_filter;                /* so many calls have no memory */
static atomic_uint filter_takes = UINT32_MAX; /* records at most; more are too large together */

/* Those faults are of segments: cursors are saved by the clock, and would be in the way. */
static bool is_segment(int fd)
{
    char link[64], path[256] = "";

    (void)snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    return readlink(link, path, sizeof path - 1) > 0 && strstr(path, ".seg") != NULL;
}

int fdatasync(int fd)
{
    if (!is_segment(fd)) {
        return (int)syscall(SYS_fdatasync, fd);
    }
    while (atomic_load(&hold_syncs)) {
        (void)usleep(1000);
    }
    if (atomic_load(&fail_syncs) > 0) {
        (void)atomic_fetch_sub(&fail_syncs, 1);
        errno = EIO;
        return -1;
    }
    return (int)syscall(SYS_fdatasync, fd);
}

/* What the output was given. */
static struct {
    struct tf_feed *feed;
    char *records[RECORDS_MAX];
    uint32_t count;
    bool is_deaf; /* it acks nothing, so that it gets everything again */
} kept;

/* ---- a filter that waits, or fails ------------------------------------------------------------
 */

static int filter_open(const struct tf_filter_args *args, void **self, struct tf_error *err)
{
    (void)args;
    (void)err;
    *self = &kept;
    return 0;
}

static void filter_close(void *self)
{
    (void)self;
}

static void *filter_scratch_new(void *self)
{
    return self;
}

/* A record with "too-large" is so by itself. */
static bool is_too_large(const struct tf_batch *batch)
{
    return batch->record_count > atomic_load(&filter_takes) ||
           memmem(batch->text.data, batch->text.size, "too-large", 9) != NULL;
}

static int filter_apply(void *self, void *scratch, void *state, struct tf_batch *batch)
{
    (void)self;
    (void)scratch;
    (void)state;
    while (atomic_load(&hold_filter)) {
        atomic_store(&filter_waits, true);
        (void)usleep(1000);
    }
    atomic_store(&filter_waits, false);
    if (atomic_load(&fail_filter) > 0) {
        (void)atomic_fetch_sub(&fail_filter, 1);
        return -ENOMEM;
    }
    return is_too_large(batch) ? -EMSGSIZE : 0;
}

static const struct tf_filter_kind waiting_filter = {.name = "waiting",
                                                     .open = filter_open,
                                                     .close = filter_close,
                                                     .scratch_new = filter_scratch_new,
                                                     .scratch_free = filter_close,
                                                     .apply = filter_apply};

/* ---- an output that keeps every record --------------------------------------------------------
 */

static void keep_records(const struct tf_frame *frame)
{
    unsigned char *plain = malloc(PLAIN_MAX);
    z_stream z = {.next_in = (Bytef *)(uintptr_t)frame->payload.data,
                  .avail_in = (uInt)frame->payload.size,
                  .next_out = plain,
                  .avail_out = PLAIN_MAX};
    size_t at = 0;

    assert_int_equal(inflateInit2(&z, 15 + 16), Z_OK);
    assert_int_equal(inflate(&z, Z_FINISH), Z_STREAM_END);
    (void)inflateEnd(&z);
    while (at < z.total_out) {
        struct tf_buf line;
        size_t used = 0;

        assert_true(kept.count < RECORDS_MAX);
        tf_buf_init(&line, PLAIN_MAX * 2);
        (void)tf_event_print_json(tf_slice(plain + at, z.total_out - at), tf_slice_text(frame->tag),
                                  &line, &used);
        (void)tf_buf_append_byte(&line, 0);
        kept.records[kept.count++] = line.data;
        at += used > 0 ? used : z.total_out;
    }
    free(plain);
}

static int output_open(const struct tf_output_args *args, void **self, struct tf_error *err)
{
    (void)args;
    (void)err;
    *self = &kept;
    return 0;
}

static void output_wake(void *self)
{
    struct tf_frame *frame;

    (void)self;
    while (tf_feed_next(kept.feed, &frame) == 0) {
        keep_records(frame);
        if (!kept.is_deaf) {
            (void)tf_feed_ack(kept.feed, frame->seq);
        }
        tf_frame_unref(frame);
    }
}

static int output_start(void *self, struct tf_feed *feed, struct tf_error *err)
{
    (void)err;
    kept.feed = feed;
    output_wake(self);
    return 0;
}

static void output_close(void *self, void (*on_closed)(void *ctx), void *ctx)
{
    (void)self;
    on_closed(ctx);
}

static const struct tf_output_kind fake_output = {.name = "fake",
                                                  .window = 32,
                                                  .open = output_open,
                                                  .start = output_start,
                                                  .wake = output_wake,
                                                  .close = output_close};

static uint32_t count_records(const char *text)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < kept.count; i++) {
        count += strstr(kept.records[i], text) != NULL;
    }
    return count;
}

static inline const char *record_with(const char *text)
{
    for (uint32_t i = 0; i < kept.count; i++) {
        if (strstr(kept.records[i], text) != NULL) {
            return kept.records[i];
        }
    }
    return "";
}

static void forget_records(void)
{
    for (uint32_t i = 0; i < kept.count; i++) {
        free(kept.records[i]);
    }
    kept.count = 0;
}

/* Nothing fails or waits any more. */
static void mend_all(void)
{
    atomic_store(&hold_filter, false);
    atomic_store(&hold_syncs, false);
    atomic_store(&fail_syncs, 0);
    atomic_store(&fail_filter, 0);
    atomic_store(&filter_takes, UINT32_MAX);
    kept.is_deaf = false;
}

#endif
