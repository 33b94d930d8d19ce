/*
 * test_spool_faults.c - every call by which the spool changes or reads its disk fails once, at each
 * of its passes, with each error; then for a while. The spool goes on or waits, says what is wrong,
 * and when the cause ends every event is delivered, once by name, and the books add up.
 *
 * The calls are defined here, before libc's. A life is: open, 24 events of which each takes a tenth
 * of a segment, an output that acks, close, open again, 6 more. A source is played that goes back
 * to the folded state when a run ends. The loop's timers run 50 times faster: the spool waits for
 * seconds before it tries again.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>
#include <zlib.h>

#include "../../agent/spool/internal.h"

#include "taffrail/log.h"

#define HASTE         50u
#define EVENTS        24u
#define MORE          6u
#define PAYLOAD_BYTES (100u << 10)
#define SEGMENT_BYTES (UINT64_C(1) << 20)
#define OPENS_MAX     400u
#define DEADLINE_MS   60000u

/* ---- faults --------------------------------------------------------------------------------- */

enum call {
    OPEN,
    WRITE,
    PWRITE,
    FDATASYNC,
    FSYNC,
    FALLOCATE,
    FTRUNCATE,
    UNLINK,
    RENAME,
    PREAD,
    CALLS
};
static const char *const call_names[CALLS] = {"openat",   "write",     "pwrite",    "fdatasync",
                                              "fsync",    "fallocate", "ftruncate", "unlinkat",
                                              "renameat", "pread"};

static struct {
    atomic_int call;         /* that fails, or -1 */
    atomic_int first, count; /* passes first <= n < first + count fail */
    atomic_int error;
    atomic_bool is_short; /* a write or read takes half instead */
    atomic_int passes[CALLS], failed;
} faults;

static bool fails(enum call call)
{
    int pass = atomic_fetch_add(&faults.passes[call], 1);

    if (atomic_load(&faults.call) != (int)call || pass < atomic_load(&faults.first) ||
        pass - atomic_load(&faults.first) >= atomic_load(&faults.count)) {
        return false;
    }
    atomic_fetch_add(&faults.failed, 1);
    errno = atomic_load(&faults.error);
    return true;
}

int openat(int dir_fd, const char *path, int flags, ...)
{
    mode_t mode = 0;
    va_list args;

    va_start(args, flags);
    if ((flags & O_CREAT) != 0) {
        mode = va_arg(args, mode_t);
    }
    va_end(args);
    if ((flags & O_CREAT) != 0 && fails(OPEN)) {
        return -1;
    }
    return (int)syscall(SYS_openat, dir_fd, path, flags, mode);
}

ssize_t write(int fd, const void *data, size_t size)
{
    if (size == TF_SPOOL_META_BYTES && fails(WRITE)) { /* spool.meta; others are the test's own */
        return atomic_load(&faults.is_short) ? syscall(SYS_write, fd, data, size / 2) : -1;
    }
    return syscall(SYS_write, fd, data, size);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t offset)
{
    if (fails(PWRITE)) {
        ssize_t half = syscall(SYS_pwrite64, fd, data, size / 2, offset);

        errno = atomic_load(&faults.error);
        return atomic_load(&faults.is_short) ? half : -1;
    }
    return syscall(SYS_pwrite64, fd, data, size, offset);
}

ssize_t pread(int fd, void *data, size_t size, off_t offset)
{
    if (fails(PREAD)) {
        return atomic_load(&faults.is_short) && size > 1
                   ? syscall(SYS_pread64, fd, data, size / 2, offset)
                   : -1;
    }
    return syscall(SYS_pread64, fd, data, size, offset);
}

void uv_sleep(unsigned ms)
{
    (void)usleep(ms * 1000 / HASTE);
}

int fdatasync(int fd)
{
    return fails(FDATASYNC) ? -1 : (int)syscall(SYS_fdatasync, fd);
}

int fsync(int fd)
{
    return fails(FSYNC) ? -1 : (int)syscall(SYS_fsync, fd);
}

int fallocate(int fd, int mode, off_t offset, off_t size)
{
    return fails(FALLOCATE) ? -1 : (int)syscall(SYS_fallocate, fd, mode, offset, size);
}

int ftruncate(int fd, off_t size)
{
    return fails(FTRUNCATE) ? -1 : (int)syscall(SYS_ftruncate, fd, size);
}

int unlinkat(int dir_fd, const char *path, int flags)
{
    return fails(UNLINK) ? -1 : (int)syscall(SYS_unlinkat, dir_fd, path, flags);
}

int renameat(int old_dir, const char *old_path, int new_dir, const char *new_path)
{
    return fails(RENAME) ? -1 : (int)syscall(SYS_renameat, old_dir, old_path, new_dir, new_path);
}

int uv_timer_start(uv_timer_t *timer, uv_timer_cb fn, uint64_t timeout_ms, uint64_t repeat_ms)
{
    static int (*start)(uv_timer_t *, uv_timer_cb, uint64_t, uint64_t);

    if (start == NULL) {
        start = (int (*)(uv_timer_t *, uv_timer_cb, uint64_t, uint64_t))dlsym(RTLD_NEXT,
                                                                              "uv_timer_start");
    }
    if (timeout_ms >= DEADLINE_MS) {
        return start(timer, fn, timeout_ms, repeat_ms);
    }
    return start(timer, fn, (timeout_ms + HASTE - 1) / HASTE, (repeat_ms + HASTE - 1) / HASTE);
}

/* ---- a life --------------------------------------------------------------------------------- */

struct life {
    uv_loop_t loop;
    uv_timer_t deadline;
    bool is_late, is_closed;
    char root[64], path[80];
    struct tf_spool_options options;
    struct tf_text all;
    struct tf_texts match;
    struct tf_spool *spool;
    struct tf_feed *feed;
    uint32_t next, end;           /* events to append */
    uint64_t seqs[EVENTS + MORE]; /* the frame that each was delivered in; 0: not yet */
    uint32_t delivered, doubled, gaps;
    uint32_t durable;
    const char *payload;
    bool is_down; /* the output */
};

static void fill(struct life *life);

/* Where the folded state says that the source goes on. */
static uint32_t resume_at(const struct life *life)
{
    struct tf_slice value;

    return tf_state_get(life->spool, tf_slice_text("pos"), &value) ? tf_load32(value.data) + 1 : 0;
}

static void on_new_run(void *ctx)
{
    struct life *life = ctx;

    life->next = resume_at(life);
    life->durable = life->next;
}

static void on_room(void *ctx)
{
    (void)ctx; /* the loop of run_until fills */
}

static void on_done(void *ctx, int status, uint64_t seq)
{
    struct life *life = ctx;

    (void)seq;
    life->durable += status == 0;
}

static void append(struct life *life, uint32_t number)
{
    struct tf_frame_draft draft = {.type = TF_FRAME_DATA,
                                   .tag = "a",
                                   .time_min_ns = 1,
                                   .time_max_ns = 2,
                                   .events = 1,
                                   .done = on_done,
                                   .ctx = life};
    uint8_t bytes[4];

    tf_store32(bytes, number);
    tf_buf_init(&draft.payload, TF_DRAFT_PAYLOAD_MAX);
    tf_buf_init(&draft.deltas, TF_DRAFT_DELTAS_MAX);
    (void)tf_buf_append(&draft.payload, bytes, sizeof bytes);
    (void)tf_buf_append(&draft.payload, life->payload, PAYLOAD_BYTES);
    tf_delta_append(&draft.deltas, TF_DELTA_SET, tf_slice_text("pos"),
                    tf_slice(bytes, sizeof bytes));
    assert_int_equal(tf_spool_append(life->spool, &draft), 0);
}

static void fill(struct life *life)
{
    if (life->spool == NULL) {
        return;
    }
    while (life->next < life->end && tf_spool_has_room(life->spool) &&
           tf_spool_unsynced_bytes(life->spool) < 4 * PAYLOAD_BYTES) {
        append(life, life->next++);
    }
    tf_spool_sync(life->spool);
}

static uint32_t number_of(struct tf_slice gzip)
{
    z_stream z = {.next_in = (Bytef *)(uintptr_t)gzip.data, .avail_in = (uInt)gzip.size};
    uint8_t bytes[4];

    assert_int_equal(inflateInit2(&z, 15 + 16), Z_OK);
    z.next_out = bytes;
    z.avail_out = sizeof bytes;
    (void)inflate(&z, Z_SYNC_FLUSH);
    (void)inflateEnd(&z);
    assert_int_equal(z.avail_out, 0);
    return tf_load32(bytes);
}

static void on_ready(void *ctx)
{
    struct life *life = ctx;
    struct tf_frame *frame;

    while (!life->is_down && tf_feed_next(life->feed, &frame) == 0) {
        if (frame->is_gap_span) {
            life->gaps++;
        } else {
            uint32_t number = number_of(frame->payload);

            assert_in_range(number, 0, EVENTS + MORE - 1);
            life->doubled += life->seqs[number] != 0 && life->seqs[number] != frame->seq;
            life->delivered += life->seqs[number] == 0;
            life->seqs[number] = frame->seq;
        }
        assert_true(tf_feed_ack(life->feed, frame->seq));
        tf_frame_unref(frame);
    }
}

static int open_once(struct life *life)
{
    struct tf_spool_callbacks callbacks = {
        .ctx = life, .on_new_run = on_new_run, .on_room = on_room};
    struct tf_feed_options options = {.name = "one",
                                      .match = &life->match,
                                      .window = 8,
                                      .unsaved_max = 64,
                                      .on_ready = on_ready,
                                      .ctx = life};
    const char *const names[] = {"one"};
    struct tf_error err;
    int rc;

    tf_error_init(&err);
    rc = tf_spool_open(&life->loop, &life->options, names, 1, &callbacks, &life->spool, &err);
    if (rc < 0) { /* it says why */
        assert_string_not_equal(tf_error_first(&err), "");
        life->spool = NULL;
    } else {
        life->next = life->durable = resume_at(life);
        assert_int_equal(tf_feed_open(life->spool, &options, &life->feed), 0);
    }
    tf_error_fini(&err);
    return rc;
}

/* A start that fails is tried again, as the service manager would. */
static void open_spool(struct life *life)
{
    uint32_t tries = 0;

    while (open_once(life) < 0) {
        assert_in_range(++tries, 1, OPENS_MAX);
    }
}

static void on_deadline(uv_timer_t *timer)
{
    ((struct life *)timer->data)->is_late = true;
}

static void run_until_delivered(struct life *life, uint32_t count)
{
    life->end = count;
    life->is_late = false;
    (void)uv_timer_start(&life->deadline, on_deadline, DEADLINE_MS, 0);
    while ((life->delivered < count || life->durable < count) && !life->is_late) {
        fill(life);
        on_ready(life);
        (void)uv_run(&life->loop, UV_RUN_ONCE);
    }
    (void)uv_timer_stop(&life->deadline);
    assert_int_equal(life->delivered, count);
}

static void on_closed(void *ctx)
{
    ((struct life *)ctx)->is_closed = true;
}

static void close_spool(struct life *life)
{
    struct tf_feed_status feed;
    struct tf_spool_status spool;

    tf_feed_status(life->feed, &feed);
    tf_spool_status(life->spool, &spool);
    assert_int_equal(feed.pending_at_start + spool.spooled_events,
                     feed.acked + feed.skipped + feed.expired + feed.rejected + feed.pending);
    tf_feed_close(life->feed);
    life->is_closed = false;
    tf_spool_close(life->spool, on_closed, life);
    while (!life->is_closed) {
        (void)uv_run(&life->loop, UV_RUN_ONCE);
    }
    life->spool = NULL;
}

static void remove_tree(const char *path)
{
    char command[128];

    (void)snprintf(command, sizeof command, "rm -rf '%s'", path);
    assert_int_equal(system(command), 0); /* NOLINT: a test's own folder */
}

static void begin_life(struct life *life)
{
    for (unsigned i = 0; i < CALLS; i++) {
        atomic_store(&faults.passes[i], 0);
    }
    atomic_store(&faults.failed, 0);
    (void)snprintf(life->root, sizeof life->root, "/tmp/test_spool_faults.XXXXXX");
    assert_non_null(mkdtemp(life->root));
    (void)snprintf(life->path, sizeof life->path, "%s/spool", life->root);
    assert_int_equal(uv_loop_init(&life->loop), 0);
    (void)uv_timer_init(&life->loop, &life->deadline);
    life->deadline.data = life;
    life->options = (struct tf_spool_options){.path = {.text = life->path},
                                              .max_size_bytes = UINT64_C(1) << 30,
                                              .sync = {TF_SYNC_INTERVAL, 200},
                                              .segment_size_bytes = SEGMENT_BYTES};
    life->all = (struct tf_text){.text = "**"};
    life->match = (struct tf_texts){.items = &life->all, .count = 1};
}

static void end_life(struct life *life)
{
    assert_int_equal(life->doubled, 0);
    assert_int_equal(life->gaps, 0);
    close_spool(life);
    uv_close((uv_handle_t *)&life->deadline, NULL);
    (void)uv_run(&life->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&life->loop), 0);
    remove_tree(life->root);
}

static void live(const char *payload)
{
    struct life life = {.payload = payload};

    begin_life(&life);
    open_spool(&life);
    run_until_delivered(&life, EVENTS);
    close_spool(&life);
    open_spool(&life);
    run_until_delivered(&life, EVENTS + MORE);
    end_life(&life);
}

/* The first start after the output was down all the while: all is read from the disk. */
static void live_from_disk(const char *payload)
{
    struct life life = {.payload = payload, .is_down = true};
    int armed = atomic_exchange(&faults.call, -1);

    begin_life(&life);
    open_spool(&life);
    life.end = EVENTS;
    while (life.durable < EVENTS) {
        fill(&life);
        (void)uv_run(&life.loop, UV_RUN_ONCE);
    }
    close_spool(&life);
    life.is_down = false;
    atomic_store(&faults.passes[PREAD], 0);
    atomic_store(&faults.call, armed);
    open_spool(&life);
    run_until_delivered(&life, EVENTS + MORE);
    end_life(&life);
}

/* ---- tests ---------------------------------------------------------------------------------- */

/* Text that does not compress, so that segments fill. */
static char *noise(void)
{
    char *bytes = malloc(PAYLOAD_BYTES);
    uint32_t x = 1;

    assert_non_null(bytes);
    for (size_t i = 0; i < PAYLOAD_BYTES; i++) {
        x = x * 1664525u + 1013904223u;
        bytes[i] = (char)(x >> 24);
    }
    return bytes;
}

static void set_fault(int call, int first, int count, int error, bool is_short)
{
    atomic_store(&faults.call, call);
    atomic_store(&faults.first, first);
    atomic_store(&faults.count, count);
    atomic_store(&faults.error, error);
    atomic_store(&faults.is_short, is_short);
}

/* Each pass of the call fails alone, until a life ends before it. */
static void fail_each_pass(enum call call, int error, bool is_short)
{
    char *payload = noise();
    int pass = 0, lives = 0;

    do {
        set_fault((int)call, pass, 1, error, is_short);
        live(payload);
        lives++;
        pass++;
    } while (atomic_load(&faults.failed) > 0);
    print_message("%s: %d passes\n", call_names[call], lives - 1);
    assert_in_range(lives, 2, 1000); /* the call is made at all */
    free(payload);
}

/* From each third pass on the call fails 20 times. */
static void fail_for_a_while(enum call call, int error)
{
    char *payload = noise();
    int pass = 0;

    do {
        set_fault((int)call, pass, 20, error, false);
        live(payload);
        pass += 3;
    } while (atomic_load(&faults.failed) > 0);
    free(payload);
}

static void each_call_may_fail_once(void **state)
{
    static const int errors[] = {ENOSPC, EIO, EROFS};

    (void)state;
    for (int call = 0; call < CALLS; call++) {
        fail_each_pass((enum call)call, errors[call % 3], false);
    }
}

static void each_write_may_be_short(void **state)
{
    (void)state;
    fail_each_pass(PWRITE, 0, true);
    fail_each_pass(WRITE, 0, true);
    fail_each_pass(PREAD, 0, true);
}

static void a_full_disk_is_waited_for(void **state)
{
    (void)state;
    fail_for_a_while(FALLOCATE, ENOSPC);
    fail_for_a_while(PWRITE, ENOSPC);
    fail_for_a_while(OPEN, ENOSPC);
}

static void a_failing_or_read_only_disk_is_waited_for(void **state)
{
    (void)state;
    fail_for_a_while(FDATASYNC, EIO);
    fail_for_a_while(FSYNC, EIO);
    fail_for_a_while(PWRITE, EROFS);
    fail_for_a_while(UNLINK, EROFS);
}

/* Of what is read at a start and by a feed; for less than either gives up on a sector. */
static void a_disk_that_cannot_read_is_waited_for(void **state)
{
    static const int counts[] = {1, 8};
    char *payload = noise();

    (void)state;
    for (size_t i = 0; i < TF_COUNT(counts); i++) {
        int pass = 0;

        do {
            set_fault(PREAD, pass, counts[i], EIO, false);
            live_from_disk(payload);
            pass += counts[i] / 2 + 1;
        } while (atomic_load(&faults.failed) > 0);
        assert_true(pass > 8);
    }
    free(payload);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_call_may_fail_once),
        cmocka_unit_test(each_write_may_be_short),
        cmocka_unit_test(a_full_disk_is_waited_for),
        cmocka_unit_test(a_failing_or_read_only_disk_is_waited_for),
        cmocka_unit_test(a_disk_that_cannot_read_is_waited_for),
    };

    set_fault(-1, 0, 0, 0, false);
    tf_log_configure(TF_LOG_ERROR + 1, TF_LOG_LOGFMT);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
