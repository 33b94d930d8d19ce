/*
 * test_sealing.c - seals on a live spool: when they come, what they cover, and that their numbers
 * have neither hole nor repeat over rolls, failed syncs, kills and restored states.
 *
 * The truth is told by tests/integration/read_segment.py, which knows the page only, and checks
 * each MAC by the verification key. pwrite and fdatasync are defined here, before libc's, so that
 * one of them fails when a test says so.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../agent/spool/seal.h"

#include "taffrail/log.h"

#define DEADLINE_MS   60000u
#define SEGMENT_BYTES (1u << 20)
#define LARGE_BYTES   65536u

/* ---- faults --------------------------------------------------------------------------------- */

/* The n-th call from now fails; 0: none. */
static atomic_int fail_sync_in;
/* Writes of this size fail while set: blocks of seal.state. */
static atomic_int fail_blocks;

ssize_t pwrite(int fd, const void *data, size_t size, off_t offset)
{
    if (size == TF_SEAL_STATE_BYTES / 2 && atomic_load(&fail_blocks) != 0) {
        errno = EIO;
        return -1;
    }
    return syscall(SYS_pwrite64, fd, data, size, offset);
}

int fdatasync(int fd)
{
    if (atomic_load(&fail_sync_in) > 0 && atomic_fetch_sub(&fail_sync_in, 1) == 1) {
        errno = EIO;
        return -1;
    }
    return (int)syscall(SYS_fdatasync, fd);
}

/* ---- fixture -------------------------------------------------------------------------------- */

struct fixture {
    uv_loop_t loop;
    uv_timer_t deadline;
    bool late, closed;
    char root[64], path[80], key_file[96];
    struct tf_spool_options options;
    struct tf_spool *spool;
    uint32_t taken, dones, cancels, events;
};

static void on_deadline(uv_timer_t *timer)
{
    ((struct fixture *)timer->data)->late = true;
}

static void start_deadline(struct fixture *f, uint64_t ms)
{
    f->late = false;
    assert_int_equal(uv_timer_start(&f->deadline, on_deadline, ms, 0), 0);
}

static void run_for(struct fixture *f, uint64_t ms)
{
    start_deadline(f, ms);
    while (!f->late) {
        (void)uv_run(&f->loop, UV_RUN_ONCE);
    }
}

static struct tf_spool_status status_of(const struct fixture *f)
{
    struct tf_spool_status status;

    tf_spool_status(f->spool, &status);
    return status;
}

/* Turns the loop until so many seals are durable and nothing is on its way. */
static void run_until_seals(struct fixture *f, uint64_t seals)
{
    start_deadline(f, DEADLINE_MS);
    while (!f->late && (status_of(f).seals < seals || f->spool->sealing->seq != 0)) {
        (void)uv_run(&f->loop, UV_RUN_ONCE);
    }
    (void)uv_timer_stop(&f->deadline);
    assert_int_equal(status_of(f).seals, seals);
}

static void run_until_done(struct fixture *f, uint32_t dones)
{
    start_deadline(f, DEADLINE_MS);
    while (!f->late && f->dones < dones) {
        (void)uv_run(&f->loop, UV_RUN_ONCE);
    }
    (void)uv_timer_stop(&f->deadline);
    assert_int_equal(f->dones, dones);
}

static void on_done(void *ctx, int status, uint64_t seq)
{
    struct fixture *f = ctx;

    (void)seq;
    f->dones++;
    f->cancels += status != 0;
}

static void on_event(void *ctx, const char *event, const char *text)
{
    (void)event;
    (void)text;
    ((struct fixture *)ctx)->events++;
}

static int try_open(struct fixture *f)
{
    struct tf_spool_callbacks callbacks = {.ctx = f, .on_event = on_event};
    struct tf_error err;
    int rc;

    tf_error_init(&err);
    rc = tf_spool_open(&f->loop, &f->options, NULL, 0, &callbacks, &f->spool, &err);
    f->closed = false;
    tf_error_fini(&err);
    return rc;
}

static void open_spool(struct fixture *f)
{
    assert_int_equal(try_open(f), 0);
    f->spool->sealing->every_ms = UINT32_MAX; /* only what a test asks for */
}

static void on_closed(void *ctx)
{
    ((struct fixture *)ctx)->closed = true;
}

static void close_spool(struct fixture *f)
{
    tf_spool_close(f->spool, on_closed, f);
    start_deadline(f, DEADLINE_MS);
    while (!f->closed && !f->late) {
        (void)uv_run(&f->loop, UV_RUN_ONCE);
    }
    (void)uv_timer_stop(&f->deadline);
    assert_true(f->closed);
    f->spool = NULL;
}

/* One frame with one event, of about size bytes that do not compress. */
static void append(struct fixture *f, uint32_t size)
{
    static uint8_t payload[LARGE_BYTES + 16];
    static uint32_t x = 1;
    struct tf_frame_draft draft = {.type = TF_FRAME_DATA,
                                   .time_min_ns = f->taken + 1,
                                   .time_max_ns = f->taken + 2,
                                   .events = 1,
                                   .done = on_done,
                                   .ctx = f};

    payload[0] = 0xc5; /* a msgpack bin, so that the reader prints it */
    payload[1] = (uint8_t)((size & 0xffff) >> 8);
    payload[2] = (uint8_t)size;
    for (uint32_t i = 3; i < size + 3; i++) {
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        payload[i] = (uint8_t)x;
    }
    f->taken++;
    tf_buf_init(&draft.payload, TF_DRAFT_PAYLOAD_MAX);
    tf_buf_init(&draft.deltas, TF_DRAFT_DELTAS_MAX);
    assert_int_equal(tf_buf_append(&draft.payload, payload, size + 3), 0);
    tf_delta_append(&draft.deltas, TF_DELTA_SET, tf_slice_text("pos"), tf_slice_text("x"));
    assert_int_equal(tf_spool_append(f->spool, &draft), 0);
}

static void append_synced(struct fixture *f, uint32_t count, uint32_t size)
{
    for (uint32_t i = 0; i < count; i++) {
        append(f, size);
    }
    tf_spool_sync(f->spool);
    run_until_done(f, f->taken);
}

static void run_shell(const char *command)
{
    assert_int_equal(system(command), 0); /* NOLINT: a test's own folder */
}

/* What `pki seal` does, with the key kept in a file. from_run 0: from the first frame on. */
static void make_first_key(struct fixture *f, uint64_t from_run, bool replace)
{
    struct tf_seal_key key;
    char text[TF_SEAL_TEXT_BYTES], path[128];
    uint8_t meta[TF_SPOOL_META_BYTES], spool_id[TF_SPOOL_ID_BYTES];
    int fd = open(f->path, O_RDONLY | O_DIRECTORY), file;

    (void)snprintf(path, sizeof path, "%s/spool.meta", f->path);
    file = open(path, O_RDONLY);
    assert_true(fd >= 0 && file >= 0);
    assert_int_equal(read(file, meta, sizeof meta), sizeof meta);
    (void)close(file);
    assert_int_equal(tf_spool_meta_decode(meta, spool_id), 0);
    assert_int_equal(tf_seal_key_new(spool_id, &key), 0);
    assert_int_equal(tf_seal_text(&key, text), 0);
    file = open(f->key_file, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_int_equal(write(file, text, sizeof text - 1), sizeof text - 1);
    (void)close(file);
    key.sealed_seq = from_run << 40;
    assert_int_equal(tf_seal_state_make(fd, &key, replace), 0);
    (void)close(fd);
}

/* A spool that was opened once, unsealed, and has a first key. */
static void make_sealed(struct fixture *f)
{
    open_spool(f);
    assert_int_equal(status_of(f).seal, TF_SEALED_OFF);
    close_spool(f);
    make_first_key(f, 0, false);
}

/* The independent reader agrees; returns how many seals it counts. */
static unsigned read_seals(const struct fixture *f)
{
    char command[512], line[256];
    unsigned got = 0;
    FILE *reader;
    int status;

    (void)snprintf(command, sizeof command,
                   "/usr/bin/python3 '%s' --seal-key '%s' '%s' 2>&1 >/dev/null",
                   TF_SOURCE_DIR "/tests/integration/read_segment.py", f->key_file, f->path);
    reader = popen(command, "r"); /* NOLINT: fixed words and the test's own folder */
    assert_non_null(reader);
    while (fgets(line, sizeof line, reader) != NULL) {
        if (strstr(line, " seals,") != NULL) {
            got = (unsigned)strtoul(line, NULL, 10);
        } else if (strncmp(line, "0 damages", 9) != 0) {
            print_message("reader: %s", line);
        }
    }
    status = pclose(reader);
    assert_int_equal(status, 0);
    return got;
}

static void assert_sealed(const struct fixture *f, unsigned seals)
{
    assert_int_equal(read_seals(f), seals);
}

/* What clear frames of all segments say, oldest first. */
struct clear_frames {
    uint32_t seal_count, footer_count, notice_count, index_count, segment_count;
    uint32_t sealing_flags;
    struct tf_seal seals[256];
    struct tf_notice notices[64];
};

static void look_at(struct clear_frames *out, struct tf_scan *scan)
{
    struct tf_scanned frame;

    out->segment_count++;
    out->sealing_flags += (scan->sector.flags & TF_SEGMENT_SEALING) != 0;
    while (tf_scan_next(scan, &frame) == 1) {
        if (frame.header.type == TF_FRAME_SEAL || frame.header.type == TF_FRAME_FOOTER) {
            assert_int_equal(tf_seal_decode(frame.content, &out->seals[out->seal_count++]), 0);
            out->footer_count += frame.header.type == TF_FRAME_FOOTER;
        } else if (frame.header.type == TF_FRAME_NOTICE) {
            assert_int_equal(tf_notice_decode(frame.content, &out->notices[out->notice_count++]),
                             0);
        }
        out->index_count += frame.header.type == TF_FRAME_INDEX;
    }
}

static const struct clear_frames *clear_frames(const struct fixture *f)
{
    static struct clear_frames frames;
    int fd = open(f->path, O_RDONLY | O_DIRECTORY);

    assert_true(fd >= 0);
    memset(&frames, 0, sizeof frames);
    for (uint64_t no = 1; no < 300; no++) {
        struct tf_scan scan;

        if (tf_scan_open(&scan, fd, no, NULL) == 0) {
            look_at(&frames, &scan);
            tf_scan_close(&scan);
        }
    }
    (void)close(fd);
    return &frames;
}

static uint32_t count_notices(const struct fixture *f, enum tf_notice_kind kind)
{
    const struct clear_frames *frames = clear_frames(f);
    uint32_t count = 0;

    for (uint32_t i = 0; i < frames->notice_count; i++) {
        count += frames->notices[i].kind == kind;
    }
    return count;
}

static void copy(const struct fixture *f, const char *from, const char *to)
{
    char command[512];

    (void)snprintf(command, sizeof command, "cd '%s' && rm -rf '%s' && cp -a '%s' '%s'", f->root,
                   to, from, to);
    run_shell(command);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);

    if (f == NULL) {
        return -1;
    }
    (void)snprintf(f->root, sizeof f->root, "/tmp/test_sealing.XXXXXX");
    if (mkdtemp(f->root) == NULL || uv_loop_init(&f->loop) != 0) {
        return -1;
    }
    (void)uv_timer_init(&f->loop, &f->deadline);
    f->deadline.data = f;
    (void)snprintf(f->path, sizeof f->path, "%s/spool", f->root);
    (void)snprintf(f->key_file, sizeof f->key_file, "%s/seal.key", f->root);
    f->options = (struct tf_spool_options){.path = {.text = f->path},
                                           .max_size_bytes = UINT64_C(1) << 30,
                                           .retain_size_bytes = UINT64_C(1) << 30,
                                           .sync = {TF_SYNC_INTERVAL, 200},
                                           .segment_size_bytes = SEGMENT_BYTES};
    tf_log_configure(TF_LOG_ERROR + 1, TF_LOG_LOGFMT);
    atomic_store(&fail_sync_in, 0);
    atomic_store(&fail_blocks, 0);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    char command[128];
    int rc;

    if (f->spool != NULL) {
        close_spool(f);
    }
    uv_close((uv_handle_t *)&f->deadline, NULL);
    (void)uv_run(&f->loop, UV_RUN_DEFAULT);
    rc = uv_loop_close(&f->loop);
    (void)snprintf(command, sizeof command, "rm -rf '%s'", f->root);
    run_shell(command);
    free(f);
    return rc;
}

/* ---- tests ---------------------------------------------------------------------------------- */

static void a_first_key_begins_a_series(void **state)
{
    struct fixture *f = *state;

    make_sealed(f);
    open_spool(f);
    assert_int_equal(status_of(f).seal, TF_SEALED_ON);
    run_until_seals(f, 1); /* what is there, at once */
    append_synced(f, 3, 100);
    close_spool(f); /* a footer */
    assert_sealed(f, 2);
    open_spool(f);
    close_spool(f);
    assert_sealed(f, 3); /* the snapshot of each start is covered too */
}

static void an_idle_spool_is_sealed_once(void **state)
{
    struct fixture *f = *state;

    make_sealed(f);
    open_spool(f);
    run_until_seals(f, 1);
    append_synced(f, 2, 100);
    assert_int_equal(status_of(f).seals, 1); /* not at each frame */
    f->spool->sealing->every_ms = 300;
    run_until_seals(f, 2);
    run_for(f, 3500); /* ticks, but nothing to seal */
    assert_int_equal(status_of(f).seals, 2);
    assert_int_equal(status_of(f).sealed_seq, tf_spool_newest_seq(f->spool));
    assert_true(status_of(f).sealed_ns > 0);
    assert_int_equal(f->events, 1); /* seal-started */
    close_spool(f);
    assert_int_equal(count_notices(f, TF_NOTICE_SEAL_BEGUN), 1);
    assert_sealed(f, 3); /* the footer is for the index */
}

static void many_bytes_are_sealed_before_their_time(void **state)
{
    struct fixture *f = *state;

    make_sealed(f);
    open_spool(f);
    run_until_seals(f, 1);
    f->spool->sealing->every_bytes = 3 * LARGE_BYTES - 1000;
    append_synced(f, 2, LARGE_BYTES - 1);
    assert_int_equal(f->spool->sealing->seq, 0);
    append_synced(f, 1, LARGE_BYTES - 1);
    run_until_seals(f, 2);
    close_spool(f);
    assert_sealed(f, 3);
}

static void each_segment_ends_with_index_and_footer(void **state)
{
    struct fixture *f = *state;
    const struct clear_frames *frames;
    struct tf_spool_status status;

    f->options.segment_size_bytes = 4 * SEGMENT_BYTES;
    make_sealed(f);
    open_spool(f);
    run_until_seals(f, 1);
    append_synced(f, 150, LARGE_BYTES - 1);
    status = status_of(f);
    assert_int_equal(status.segments, 4); /* one of the unsealed start */
    close_spool(f);
    frames = clear_frames(f);
    assert_int_equal(frames->index_count, 3);
    assert_int_equal(frames->footer_count, 3);
    assert_int_equal(frames->sealing_flags, 3);
    assert_sealed(f, 4); /* and the entries of the index are true */
}

static void without_a_key_there_is_an_index_and_no_seal(void **state)
{
    struct fixture *f = *state;

    open_spool(f);
    append_synced(f, 40, LARGE_BYTES - 1);
    close_spool(f);
    assert_int_equal(clear_frames(f)->seal_count, 0);
    assert_int_equal(clear_frames(f)->index_count, 3);
    assert_int_equal(clear_frames(f)->sealing_flags, 0);
    make_first_key(f, 0, false);
    f->options.seal = TF_SEAL_OFF;
    open_spool(f);
    append_synced(f, 1, 100);
    assert_int_equal(status_of(f).seal, TF_SEALED_OFF);
    close_spool(f);
    assert_int_equal(clear_frames(f)->seal_count, 0);
    f->options.seal = TF_SEAL_REQUIRED;
    open_spool(f); /* all of it is covered now */
    close_spool(f);
    assert_int_equal(clear_frames(f)->seals[0].events, 41);
    assert_sealed(f, 2);
}

static void a_failed_sync_of_a_seal_evolves_nothing(void **state)
{
    struct fixture *f = *state;
    uint64_t run;

    make_sealed(f);
    open_spool(f);
    run_until_seals(f, 1);
    run = status_of(f).run;
    append_synced(f, 1, 100);
    tf_spool_receipt(f->spool, "one", (const uint8_t[TF_RECEIPT_BYTES]){7});
    f->spool->sealing->at_once = true;
    atomic_store(&fail_sync_in, 1);
    start_deadline(f, DEADLINE_MS);
    while (status_of(f).run == run && !f->late) {
        (void)uv_run(&f->loop, UV_RUN_ONCE);
    }
    assert_int_equal(status_of(f).run, run + 1);
    assert_int_equal(status_of(f).seals, 1);
    append_synced(f, 2, 100);
    f->spool->sealing->at_once = true;
    run_until_seals(f, 2);
    close_spool(f);
    assert_sealed(f, 3);
    assert_int_equal(clear_frames(f)->seal_count, 4); /* one of them void, with number 1 too */
    assert_int_equal(clear_frames(f)->seals[2].receipt_count, 1); /* the receipt was kept */
}

static void a_state_that_cannot_be_written_stops_seals_only(void **state)
{
    struct fixture *f = *state;

    make_sealed(f);
    open_spool(f);
    run_until_seals(f, 1);
    append_synced(f, 1, 100);
    atomic_store(&fail_blocks, 1);
    f->spool->sealing->at_once = true;
    start_deadline(f, DEADLINE_MS);
    while (!f->spool->sealing->move_wait && !f->late) {
        (void)uv_run(&f->loop, UV_RUN_ONCE);
    }
    append_synced(f, 40, LARGE_BYTES - 1); /* segments roll, without footers */
    assert_int_equal(f->cancels, 0);
    assert_int_equal(status_of(f).seals, 1);
    atomic_store(&fail_blocks, 0);
    run_until_seals(f, 2);
    close_spool(f);
    assert_sealed(f, 3);
}

static void a_state_put_back_moves_on(void **state)
{
    struct fixture *f = *state;

    make_sealed(f);
    open_spool(f);
    run_until_seals(f, 1);
    close_spool(f); /* nothing unsealed: no footer */
    copy(f, "spool/seal.state", "old.state");
    for (uint32_t i = 0; i < 3; i++) {
        open_spool(f);
        append_synced(f, 20, LARGE_BYTES - 1);
        close_spool(f);
    }
    copy(f, "old.state", "spool/seal.state");
    open_spool(f);
    assert_true(f->spool->sealing->evolved > 0);
    close_spool(f);
    assert_sealed(f, clear_frames(f)->seal_count);
    assert_int_equal(count_notices(f, TF_NOTICE_RECOVERY), 1);
    assert_true(clear_frames(f)->notices[clear_frames(f)->notice_count - 1].c > 0);
}

static void a_spool_put_back_goes_on_from_the_state(void **state)
{
    struct fixture *f = *state;
    uint64_t seals;

    make_sealed(f);
    open_spool(f);
    close_spool(f);
    copy(f, "spool", "old");
    open_spool(f);
    append_synced(f, 3, 100);
    close_spool(f);
    copy(f, "spool/seal.state", "new.state");
    copy(f, "old", "spool");
    copy(f, "new.state", "spool/seal.state");
    open_spool(f);
    seals = status_of(f).seals;
    assert_true(seals >= 2);
    append_synced(f, 1, 100);
    close_spool(f);
    assert_int_equal(clear_frames(f)->seals[clear_frames(f)->seal_count - 1].number, seals);
}

/* As on a full disk: the spool is as it was, not one that lost its state. */
static void a_first_key_that_cannot_be_written_leaves_nothing(void **state)
{
    struct fixture *f = *state;
    struct tf_seal_key key = {0};
    int fd;

    open_spool(f);
    close_spool(f);
    fd = open(f->path, O_RDONLY | O_DIRECTORY);
    atomic_store(&fail_blocks, 1);
    assert_true(tf_seal_state_make(fd, &key, false) < 0);
    atomic_store(&fail_blocks, 0);
    (void)close(fd);
    open_spool(f);
    assert_int_equal(status_of(f).seal, TF_SEALED_OFF);
    close_spool(f);
    make_first_key(f, 0, false);
}

static void damage_state(const struct fixture *f)
{
    char path[128];
    int fd;

    (void)snprintf(path, sizeof path, "%s/seal.state", f->path);
    fd = open(path, O_WRONLY);
    assert_true(fd >= 0);
    for (off_t at = 0; at < TF_SEAL_STATE_BYTES; at += 4096) {
        assert_int_equal(pwrite(fd, "lost", 4, at + 40), 4);
    }
    (void)close(fd);
}

static void a_lost_state_is_said_until_a_new_series_begins(void **state)
{
    struct fixture *f = *state;

    make_sealed(f);
    open_spool(f);
    append_synced(f, 1, 100);
    close_spool(f);
    damage_state(f);
    for (uint32_t i = 0; i < 2; i++) {
        char path[128];

        open_spool(f);
        assert_int_equal(status_of(f).seal, TF_SEALED_LOST);
        append_synced(f, 1, 100);
        run_for(f, 1500);
        assert_int_equal(f->events, i + 1); /* seal-lost, each time */
        close_spool(f);
        assert_int_equal(count_notices(f, TF_NOTICE_SEAL_LOST), i + 1);
        (void)snprintf(path, sizeof path, "%s/seal.state", f->path);
        (void)unlink(path); /* gone altogether */
    }
    f->options.seal = TF_SEAL_REQUIRED;
    assert_int_equal(try_open(f), -EINVAL);
    make_first_key(f, 5, true); /* the next run: what was unsealed stays so */
    open_spool(f);
    append_synced(f, 1, 100);
    close_spool(f);
    assert_int_equal(count_notices(f, TF_NOTICE_SEAL_BEGUN), 2);
    assert_sealed(f, 1);
    open_spool(f);
    close_spool(f);
    assert_sealed(f, 2);
}

static void receipts_go_into_seals(void **state)
{
    struct fixture *f = *state;
    const struct clear_frames *frames;

    make_sealed(f);
    open_spool(f);
    run_until_seals(f, 1);
    for (uint8_t i = 0; i < 10; i++) {
        uint8_t receipt[TF_RECEIPT_BYTES] = {i};
        char output[8];

        (void)snprintf(output, sizeof output, "out-%u", i);
        tf_spool_receipt(f->spool, output, receipt);
    }
    for (uint32_t i = 0; i < 3; i++) {
        append_synced(f, 1, 100);
        f->spool->sealing->at_once = true;
        run_until_seals(f, i + 2);
    }
    close_spool(f);
    frames = clear_frames(f);
    assert_int_equal(frames->seals[1].receipt_count, 8);
    assert_int_equal(frames->seals[1].receipts[7][0], 7);
    assert_int_equal(frames->seals[2].receipt_count, 2);
    assert_int_equal(frames->seals[2].receipts[1][0], 9);
    assert_int_equal(frames->seals[3].receipt_count, 0);
    assert_sealed(f, 5);
}

static void a_collectors_key_is_noted_once_a_segment(void **state)
{
    struct fixture *f = *state;
    uint8_t one[TF_RECEIPT_KEY_BYTES] = {1}, two[TF_RECEIPT_KEY_BYTES] = {2};

    open_spool(f);
    tf_spool_receipt_key(f->spool, one);
    tf_spool_receipt_key(f->spool, one); /* before it is durable */
    append_synced(f, 1, 100);
    tf_spool_receipt_key(f->spool, one);
    tf_spool_receipt_key(f->spool, two);
    close_spool(f);
    open_spool(f);
    tf_spool_receipt_key(f->spool, two);
    close_spool(f);
    assert_int_equal(count_notices(f, TF_NOTICE_RECEIPT_KEY), 2 * 2);
    open_spool(f);
    append_synced(f, 40, LARGE_BYTES);
    close_spool(f);
    assert_true(clear_frames(f)->segment_count >= 5);
    assert_int_equal(count_notices(f, TF_NOTICE_RECEIPT_KEY), 2 * clear_frames(f)->segment_count);
}

static void a_frame_larger_than_a_segment_finds_room_behind_notices(void **state)
{
    struct fixture *f = *state;
    uint8_t key[TF_RECEIPT_KEY_BYTES] = {1};
    struct tf_frame_draft draft = {.type = TF_FRAME_DATA, .events = 1, .done = on_done, .ctx = f};
    uint32_t x = 1;

    open_spool(f);
    tf_spool_receipt_key(f->spool, key);
    append_synced(f, 1, 100);
    tf_buf_init(&draft.payload, TF_DRAFT_PAYLOAD_MAX);
    tf_buf_init(&draft.deltas, TF_DRAFT_DELTAS_MAX);
    for (uint64_t i = 0; i < f->options.segment_size_bytes + 100; i++) {
        x = x * 1664525u + 1013904223u;
        (void)tf_buf_append_byte(&draft.payload, (char)(x >> 24));
    }
    assert_int_equal(tf_spool_append(f->spool, &draft), 0);
    f->taken++;
    append_synced(f, 1, 100);
    assert_in_range(f->spool->segment_count, 2, 3);
    close_spool(f);
}

/* What verify knows when it meets the first receipt. */
static void a_segment_names_keys_before_it_seals(void **state)
{
    struct fixture *f = *state;
    uint8_t key[TF_RECEIPT_KEY_BYTES] = {1};
    struct tf_scanned frame;
    struct tf_scan scan;
    int dir_fd;

    make_sealed(f);
    open_spool(f);
    tf_spool_receipt_key(f->spool, key);
    for (uint32_t i = 0; f->spool->segment_count < 4; i++) {
        append(f, LARGE_BYTES); /* some wait for each segment */
        run_for(f, 1);
    }
    append_synced(f, 1, 100);
    close_spool(f);
    dir_fd = open(f->path, O_RDONLY | O_DIRECTORY);
    assert_int_equal(tf_scan_open(&scan, dir_fd, 4, NULL), 0);
    assert_int_equal(tf_scan_next(&scan, &frame), 1); /* the snapshot */
    assert_int_equal(tf_scan_next(&scan, &frame), 1);
    assert_int_equal(frame.header.type, TF_FRAME_NOTICE);
    tf_scan_close(&scan);
    (void)close(dir_fd);
}

static void mode_never_syncs_seals(void **state)
{
    struct fixture *f = *state;

    f->options.sync.mode = TF_SYNC_NEVER;
    make_sealed(f);
    open_spool(f);
    append_synced(f, 30, LARGE_BYTES - 1);
    close_spool(f);
    assert_sealed(f, clear_frames(f)->seal_count);
    assert_true(clear_frames(f)->seal_count >= 3);
}

#ifdef TF_TEST_HOOKS
/* ---- kills: this program again, as an agent that seals all the time and dies at a crash point --
 */

#define WRITER_FRAMES 24u

static int writer_main(const char *root)
{
    static struct fixture f;

    (void)snprintf(f.path, sizeof f.path, "%s/spool", root);
    f.options = (struct tf_spool_options){.path = {.text = f.path},
                                          .max_size_bytes = UINT64_C(1) << 30,
                                          .retain_size_bytes = UINT64_C(1) << 30,
                                          .sync = {TF_SYNC_INTERVAL, 200},
                                          .segment_size_bytes = SEGMENT_BYTES};
    tf_log_configure(TF_LOG_ERROR + 1, TF_LOG_LOGFMT);
    if (uv_loop_init(&f.loop) != 0 || try_open(&f) < 0) {
        return 1;
    }
    f.spool->sealing->every_ms = 0;
    for (uint32_t i = 0; i < WRITER_FRAMES; i++) { /* and then the segment rolls */
        append(&f, LARGE_BYTES - 1);
        tf_spool_sync(f.spool);
        while (f.dones < f.taken) {
            (void)uv_run(&f.loop, UV_RUN_ONCE);
        }
    }
    tf_spool_close(f.spool, on_closed, &f);
    while (!f.closed) {
        (void)uv_run(&f.loop, UV_RUN_ONCE);
    }
    (void)uv_loop_close(&f.loop);
    return f.cancels == 0 ? 0 : 1;
}

/* True when it was killed. */
static bool run_writer(const struct fixture *f, const char *crash)
{
    int status = 0;
    pid_t pid = fork();

    if (pid == 0) {
        if (crash != NULL) {
            (void)setenv("TAFFRAIL_CRASH", crash, 1);
        }
        (void)execl("/proc/self/exe", "test_sealing", "--writer", f->root, (char *)NULL);
        _exit(9);
    }
    assert_true(pid > 0 && waitpid(pid, &status, 0) == pid);
    assert_true(WIFSIGNALED(status) ? WTERMSIG(status) == SIGKILL : WEXITSTATUS(status) == 0);
    return WIFSIGNALED(status);
}

static void make_sealed_anew(struct fixture *f)
{
    char command[128];

    (void)snprintf(command, sizeof command, "rm -rf '%s'", f->path);
    run_shell(command);
    make_sealed(f);
}

/* The reader finds numbers without hole or repeat, each MAC right, and the state one past them. */
static void assert_sound(struct fixture *f)
{
    open_spool(f);
    append_synced(f, 1, 100);
    close_spool(f);
    assert_true(read_seals(f) >= 1);
}

static void a_kill_at_any_step_leaves_the_numbers_whole(void **state)
{
    static const char *const points[] = {"seal.written",    "seal.synced", "seal.next",
                                         "seal.zeroed",     "frame.half",  "sync.begun",
                                         "roll.old_synced", "roll.synced"};
    struct fixture *f = *state;

    for (uint32_t i = 0; i < TF_COUNT(points); i++) {
        for (uint32_t n = 1; n <= 3; n += 2) {
            char crash[64];

            make_sealed_anew(f);
            (void)snprintf(crash, sizeof crash, "%s:%u", points[i], n);
            assert_true(run_writer(f, crash) || strncmp(points[i], "roll.", 5) == 0);
            assert_sound(f);
        }
    }
}

/* A crash of the start that repairs what a crash left. */
static void a_kill_of_the_start_after_a_kill_changes_nothing(void **state)
{
    static const char *const first[] = {"seal.synced:2", "seal.next:2"};
    static const char *const second[] = {"start.synced:1", "seal.next:1", "seal.zeroed:1",
                                         "roll.created:1", "roll.synced:1"};
    struct fixture *f = *state;

    for (uint32_t i = 0; i < TF_COUNT(first); i++) {
        for (uint32_t k = 0; k < TF_COUNT(second); k++) {
            make_sealed_anew(f);
            assert_true(run_writer(f, first[i]));
            assert_true(run_writer(f, second[k]));
            assert_sound(f);
        }
    }
}
#endif

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_first_key_begins_a_series, setup, teardown),
        cmocka_unit_test_setup_teardown(an_idle_spool_is_sealed_once, setup, teardown),
        cmocka_unit_test_setup_teardown(many_bytes_are_sealed_before_their_time, setup, teardown),
        cmocka_unit_test_setup_teardown(each_segment_ends_with_index_and_footer, setup, teardown),
        cmocka_unit_test_setup_teardown(without_a_key_there_is_an_index_and_no_seal, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_failed_sync_of_a_seal_evolves_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(a_state_that_cannot_be_written_stops_seals_only, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_state_put_back_moves_on, setup, teardown),
        cmocka_unit_test_setup_teardown(a_spool_put_back_goes_on_from_the_state, setup, teardown),
        cmocka_unit_test_setup_teardown(a_first_key_that_cannot_be_written_leaves_nothing, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_lost_state_is_said_until_a_new_series_begins, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(receipts_go_into_seals, setup, teardown),
        cmocka_unit_test_setup_teardown(a_frame_larger_than_a_segment_finds_room_behind_notices,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(a_segment_names_keys_before_it_seals, setup, teardown),
        cmocka_unit_test_setup_teardown(a_collectors_key_is_noted_once_a_segment, setup, teardown),
        cmocka_unit_test_setup_teardown(mode_never_syncs_seals, setup, teardown),
#ifdef TF_TEST_HOOKS
        cmocka_unit_test_setup_teardown(a_kill_at_any_step_leaves_the_numbers_whole, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_kill_of_the_start_after_a_kill_changes_nothing, setup,
                                        teardown),
#endif
    };

#ifdef TF_TEST_HOOKS
    if (argc == 3 && strcmp(argv[1], "--writer") == 0) {
        return writer_main(argv[2]);
    }
#endif
    (void)argc;
    (void)argv;

    return cmocka_run_group_tests(tests, NULL, NULL);
}
