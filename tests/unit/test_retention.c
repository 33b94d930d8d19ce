/*
 * test_retention.c - what becomes of a spool's past: deleted in order, never what an output still
 * needs, dropped with an exact count where the word `drop_oldest` is written; keys that are
 * changed, handed to an auditor, missing, destroyed. Kills between the steps.
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
#include <zlib.h>

#include "../../agent/spool/seal.h"

#include "taffrail/log.h"

#define DEADLINE_MS   30000u
#define RECEIVED_MAX  1024u
#define TEXT_MAX      256u
#define SEGMENT_BYTES (1u << 20)
#define A_SEGMENT     15u /* frames of append_large in one, at least */

static const char auditor_pem[] = "-----BEGIN PUBLIC KEY-----\n"
                                  "MCowBQYDK2VuAyEAOUjP4K0d22ldeA5ZB3GV2mxWUGsCcyl5SrAryoCBXE0=\n"
                                  "-----END PUBLIC KEY-----\n";
static const char private_pem[] =
    "-----BEGIN PRIVATE KEY-----\n"
    "MC4CAQAwBQYDK2VuBCIEIEYSxVAmP8itWDdd8/VXqsUx0mhQkD5VqfI/IdhTTorI\n"
    "-----END PRIVATE KEY-----\n";

/* While set, no space can be allocated. */
static atomic_bool is_full;

int fallocate(int fd, int mode, off_t offset, off_t size)
{
    if (atomic_load(&is_full)) {
        errno = ENOSPC;
        return -1;
    }
    return (int)syscall(SYS_fallocate, fd, mode, offset, size);
}

/* How many syncs may still begin, and how many wait for that. */
static atomic_uint syncs_allowed, syncs_held;

int fdatasync(int fd)
{
    (void)atomic_fetch_add(&syncs_held, 1);
    while (atomic_load(&syncs_allowed) == 0) {
        (void)usleep(1000);
    }
    (void)atomic_fetch_sub(&syncs_held, 1);
    if (atomic_load(&syncs_allowed) != UINT32_MAX) {
        (void)atomic_fetch_sub(&syncs_allowed, 1);
    }
    return (int)syscall(SYS_fdatasync, fd);
}

/* ---- fixture -------------------------------------------------------------------------------- */

struct received {
    uint64_t seq, gap_from, gap_to;
    bool is_gap;
    char text[TEXT_MAX];
};

struct fixture {
    uv_loop_t loop;
    uv_timer_t deadline;
    bool late, closed, ack, is_down;
    char root[64], path[80], keys[2][96], auditor[96];
    struct tf_text key_items[2], match_item;
    struct tf_texts match;
    struct tf_spool_options options;
    struct tf_spool *spool;
    struct tf_feed *feed;
    struct received got[RECEIVED_MAX];
    uint32_t count, dones, events;
    char event[64], told[256]; /* the last event of the spool */
};

static void on_deadline(uv_timer_t *timer)
{
    ((struct fixture *)timer->data)->late = true;
}

static void on_event(void *ctx, const char *event, const char *text)
{
    struct fixture *f = ctx;

    f->events++;
    (void)snprintf(f->event, sizeof f->event, "%s", event);
    (void)snprintf(f->told, sizeof f->told, "%s", text);
}

static void on_done(void *ctx, int status, uint64_t seq)
{
    (void)seq;
    ((struct fixture *)ctx)->dones += status == 0;
}

static void unpack(struct tf_slice gzip, char *text)
{
    z_stream stream = {0};

    memset(text, 0, TEXT_MAX);
    assert_int_equal(inflateInit2(&stream, 15 + 16), Z_OK);
    stream.next_in = (Bytef *)(uintptr_t)gzip.data;
    stream.avail_in = (uInt)gzip.size;
    stream.next_out = (Bytef *)text;
    stream.avail_out = TEXT_MAX - 1;
    (void)inflate(&stream, Z_FINISH);
    (void)inflateEnd(&stream);
}

static void on_ready(void *ctx)
{
    struct fixture *f = ctx;
    struct tf_frame *frame;

    while (!f->is_down && f->count < RECEIVED_MAX && tf_feed_next(f->feed, &frame) == 0) {
        struct received *got = &f->got[f->count++];

        *got = (struct received){.seq = frame->seq,
                                 .is_gap = frame->is_gap_span,
                                 .gap_from = frame->gap_from,
                                 .gap_to = frame->gap_to};
        unpack(frame->payload, got->text);
        if (f->ack) {
            assert_true(tf_feed_ack(f->feed, frame->seq));
        }
        tf_frame_unref(frame);
    }
}

static int try_open(struct fixture *f)
{
    static const char *const names[] = {"one"};
    struct tf_spool_callbacks callbacks = {.ctx = f, .on_event = on_event};
    struct tf_error err;
    int rc;

    tf_error_init(&err);
    rc = tf_spool_open(&f->loop, &f->options, names, 1, &callbacks, &f->spool, &err);
    if (rc < 0) {
        print_message("open: %s\n", tf_error_first(&err));
    }
    tf_error_fini(&err);
    return rc;
}

static void open_feed(struct fixture *f, bool ack, uint32_t window)
{
    struct tf_feed_options options = {.name = "one",
                                      .match = &f->match,
                                      .window = window,
                                      .unsaved_max = 64,
                                      .on_ready = on_ready,
                                      .ctx = f};

    f->count = 0;
    f->ack = ack;
    assert_int_equal(tf_feed_open(f->spool, &options, &f->feed), 0);
}

static void open_spool(struct fixture *f)
{
    f->closed = false;
    f->dones = f->events = 0;
    assert_int_equal(try_open(f), 0);
}

static void on_closed(void *ctx)
{
    ((struct fixture *)ctx)->closed = true;
}

typedef bool condition_fn(struct fixture *f);

/* Turns the loop until the condition holds, or the deadline. */
static void run_until(struct fixture *f, condition_fn *holds)
{
    f->late = false;
    assert_int_equal(uv_timer_start(&f->deadline, on_deadline, DEADLINE_MS, 0), 0);
    while (!holds(f) && !f->late) {
        (void)uv_run(&f->loop, UV_RUN_ONCE);
    }
    (void)uv_timer_stop(&f->deadline);
    assert_true(holds(f));
}

static bool has_one(struct fixture *f)
{
    return f->count >= 1;
}

static void run_for(struct fixture *f, uint64_t ms)
{
    f->late = false;
    assert_int_equal(uv_timer_start(&f->deadline, on_deadline, ms, 0), 0);
    while (!f->late) {
        (void)uv_run(&f->loop, UV_RUN_ONCE);
    }
}

static bool is_closed(struct fixture *f)
{
    return f->closed;
}

static void close_feed(struct fixture *f)
{
    tf_feed_close(f->feed);
    f->feed = NULL;
}

static void close_spool(struct fixture *f)
{
    close_feed(f);
    tf_spool_close(f->spool, on_closed, f);
    run_until(f, is_closed);
    f->spool = NULL;
}

static void write_text(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

    assert_true(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
    (void)close(fd);
}

static void make_key(const char *path, char letter)
{
    char text[] = "taffrail-kek-1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n";

    text[20] = letter;
    write_text(path, text);
}

/* The first count of keys, from number first on. */
static void use_keys(struct fixture *f, uint32_t first, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        f->key_items[i] = (struct tf_text){.text = f->keys[(first + i) % 2]};
    }
    f->options.keys = (struct tf_texts){.items = f->key_items, .count = count};
}

static void fill_fixture(struct fixture *f)
{
    (void)snprintf(f->path, sizeof f->path, "%s/spool", f->root);
    (void)snprintf(f->keys[0], sizeof f->keys[0], "%s/first.key", f->root);
    (void)snprintf(f->keys[1], sizeof f->keys[1], "%s/second.key", f->root);
    (void)snprintf(f->auditor, sizeof f->auditor, "%s/auditor.pem", f->root);
    f->match_item = (struct tf_text){.text = "**"};
    f->match = (struct tf_texts){.items = &f->match_item, .count = 1};
    f->options = (struct tf_spool_options){.path = {.text = f->path},
                                           .max_size_bytes = UINT64_C(1) << 30,
                                           .sync = {TF_SYNC_INTERVAL, 200},
                                           .shred = true,
                                           .segment_size_bytes = SEGMENT_BYTES};
    use_keys(f, 0, 1);
    tf_log_configure(getenv("TF_LOUD") != NULL ? TF_LOG_DEBUG : TF_LOG_ERROR + 1, TF_LOG_LOGFMT);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);

    if (f == NULL) {
        return -1;
    }
    (void)snprintf(f->root, sizeof f->root, "/tmp/test_retention.XXXXXX");
    if (mkdtemp(f->root) == NULL || uv_loop_init(&f->loop) != 0) {
        return -1;
    }
    (void)uv_timer_init(&f->loop, &f->deadline);
    f->deadline.data = f;
    fill_fixture(f);
    make_key(f->keys[0], 'B');
    make_key(f->keys[1], 'C');
    write_text(f->auditor, auditor_pem);
    atomic_store(&is_full, false);
    atomic_store(&syncs_allowed, UINT32_MAX);
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
    if (system(command) != 0) { /* NOLINT: a test's own folder */
        print_message("left: %s\n", f->root);
    }
    free(f);
    return rc;
}

/* 64 KiB that do not compress, with the number in front. */
static void append_large(struct fixture *f, uint32_t number)
{
    static uint8_t noise[65536];
    struct tf_frame_draft draft = {.type = TF_FRAME_DATA,
                                   .tag = "a",
                                   .time_min_ns = 1,
                                   .time_max_ns = 2,
                                   .events = 1,
                                   .done = on_done,
                                   .ctx = f};
    uint32_t x = number * 2654435761u + 1;
    char text[32];

    for (size_t i = 0; i < sizeof noise; i++) {
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        noise[i] = (uint8_t)x;
    }
    memset(noise, 0, TEXT_MAX);
    (void)snprintf(text, sizeof text, "event-%u", number);
    memcpy(noise, text, strlen(text));
    tf_buf_init(&draft.payload, TF_DRAFT_PAYLOAD_MAX);
    tf_buf_init(&draft.deltas, TF_DRAFT_DELTAS_MAX);
    assert_int_equal(tf_buf_append(&draft.payload, noise, sizeof noise), 0);
    tf_delta_append(&draft.deltas, TF_DELTA_SET, tf_slice_text("pos"), tf_slice_text(text));
    assert_int_equal(tf_spool_append(f->spool, &draft), 0);
}

/* Appends count frames with the numbers from from on, and has them durable. */
static void append_many(struct fixture *f, uint32_t from, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        uint32_t wanted = f->dones + 1;

        append_large(f, from + i);
        if (i % 8 == 7 || i + 1 == count) {
            tf_spool_sync(f->spool);
            wanted += i % 8;
            f->late = false;
            (void)uv_timer_start(&f->deadline, on_deadline, DEADLINE_MS, 0);
            while (f->dones < wanted && !f->late) {
                (void)uv_run(&f->loop, UV_RUN_ONCE);
            }
            (void)uv_timer_stop(&f->deadline);
            assert_int_equal(f->dones, wanted);
        }
    }
}

static struct tf_spool_status status_of(struct fixture *f)
{
    struct tf_spool_status status;

    tf_spool_status(f->spool, &status);
    return status;
}

static void assert_books(const struct fixture *f)
{
    struct tf_feed_status feed;
    struct tf_spool_status spool;

    tf_feed_status(f->feed, &feed);
    tf_spool_status(f->spool, &spool);
    assert_int_equal(feed.pending_at_start + spool.spooled_events,
                     feed.acked + feed.skipped + feed.expired + feed.rejected + feed.pending);
}

static bool has_segment(const struct fixture *f, unsigned no)
{
    char path[128];

    (void)snprintf(path, sizeof path, "%s/%020u.seg", f->path, no);
    return access(path, F_OK) == 0;
}

/* 0 when one of the keys opens the segment. private: only the auditor's; else those in use. */
static int open_by(struct fixture *f, bool by_auditor, uint64_t no)
{
    struct tf_keyring *ring = tf_secure_new(sizeof *ring);
    struct tf_error err;
    struct tf_scan scan;
    bool made;
    int dir_fd = open(f->path, O_RDONLY | O_DIRECTORY), rc;

    assert_non_null(ring);
    tf_error_init(&err);
    if (by_auditor) {
        ring->private_count = 1;
        rc = tf_private_parse(tf_slice_text(private_pem), tf_slice(NULL, 0), &ring->privates[0]);
    } else {
        rc = tf_keys_load(&f->options, false, ring, &made, &err);
    }
    assert_int_equal(rc, 0);
    rc = tf_scan_open(&scan, dir_fd, no, ring);
    tf_scan_close(&scan);
    tf_keyring_free(ring);
    tf_error_fini(&err);
    (void)close(dir_fd);
    return rc;
}

static bool has_all(struct fixture *f)
{
    struct tf_feed_status status;

    tf_feed_status(f->feed, &status);
    return status.pending == 0;
}

static bool is_one_segment(struct fixture *f)
{
    return status_of(f).segments == 1;
}

#define NUMBERS_LOOKED_AT 6000u

/* The last notice of a kind that is left in the spool; false: none. */
static bool find_notice(struct fixture *f, enum tf_notice_kind kind, struct tf_notice *out)
{
    struct tf_keyring *ring = tf_secure_new(sizeof *ring);
    struct tf_notice notice;
    struct tf_error err;
    bool made, found = false;
    int dir_fd = open(f->path, O_RDONLY | O_DIRECTORY);

    assert_non_null(ring);
    tf_error_init(&err);
    assert_int_equal(tf_keys_load(&f->options, false, ring, &made, &err), 0);
    for (uint64_t no = 1; no < NUMBERS_LOOKED_AT; no++) {
        struct tf_scanned frame;
        struct tf_scan scan;
        int rc = tf_scan_open(&scan, dir_fd, no, ring);

        while (rc == 0 && tf_scan_next(&scan, &frame) == 1) {
            if (frame.header.type == TF_FRAME_NOTICE &&
                tf_notice_decode(frame.content, &notice) == 0 && notice.kind == kind) {
                *out = notice;
                found = true;
            }
        }
        tf_scan_close(&scan);
    }
    tf_keyring_free(ring);
    tf_error_fini(&err);
    (void)close(dir_fd);
    return found;
}

static bool has_no_first(struct fixture *f)
{
    return !has_segment(f, 1);
}

static bool has_no_second(struct fixture *f)
{
    return !has_segment(f, 2);
}

static void come_up(struct fixture *f)
{
    f->is_down = false;
    on_ready(f);
}

/* ---- retention ------------------------------------------------------------------------------ */

static void what_is_delivered_goes_in_order_with_a_word(void **state)
{
    struct fixture *f = *state;
    struct tf_notice notice;

    open_spool(f);
    open_feed(f, true, 8);
    append_many(f, 0, 3 * A_SEGMENT);
    run_until(f, has_all);
    run_until(f, is_one_segment);
    assert_false(has_segment(f, 1));
    assert_true(f->events > 0);
    assert_string_equal(f->event, "expired");
    assert_non_null(strstr(f->told, "delivered; all had reached every output"));
    assert_int_equal(status_of(f).expired_events, 0);
    assert_books(f);
    assert_true(find_notice(f, TF_NOTICE_EXPIRE, &notice));
    assert_true(notice.a > 0 && !has_segment(f, (unsigned)notice.a));
    assert_true(has_segment(f, (unsigned)notice.a + 1));
    assert_true(notice.b > 0 && notice.time_ns > 0);
    assert_int_equal(notice.id[0], TF_EXPIRE_DELIVERED);
}

static bool has_expired_first(struct fixture *f)
{
    return !has_segment(f, 1) && status_of(f).bytes_retained <= 3u << 20;
}

static void what_is_kept_stays_up_to_its_size(void **state)
{
    struct fixture *f = *state;
    struct tf_spool_status status;

    f->options.retain_size_bytes = 2u << 20;
    open_spool(f);
    open_feed(f, true, 8);
    append_many(f, 0, 6 * A_SEGMENT);
    run_until(f, has_all);
    run_until(f, has_expired_first);
    run_for(f, 1500);
    status = status_of(f);
    assert_in_range(status.bytes_retained, 1u << 20, 3u << 20);
    assert_false(has_segment(f, 1));
    assert_non_null(strstr(f->told, "spool.retain.size"));
}

static void what_is_kept_goes_before_inputs_wait(void **state)
{
    struct fixture *f = *state;

    f->options.retain_age_ms = 3600000;
    open_spool(f);
    open_feed(f, true, 8);
    append_many(f, 0, 3 * A_SEGMENT);
    run_until(f, has_all);
    run_for(f, 1500);
    assert_true(has_segment(f, 1));
    atomic_store(&is_full, true); /* the next segment cannot be made */
    for (uint32_t i = 0; i < 2 * A_SEGMENT; i++) {
        append_large(f, 100 + i);
    }
    tf_spool_sync(f->spool);
    run_until(f, has_no_first); /* though its notice waits for space */
    assert_non_null(strstr(f->told, "short of space"));
    atomic_store(&is_full, false);
    run_until(f, has_all);
    assert_books(f);
}

/* Appends until the next segment is wanted, and the disk has no space for it. */
static void fill_up(struct fixture *f)
{
    atomic_store(&is_full, true);
    for (uint32_t i = 0; !f->spool->create_wait && i < 2 * A_SEGMENT; i++) {
        append_large(f, 1000 + i);
        run_for(f, 20);
    }
    assert_true(f->spool->create_wait);
}

static bool is_saved(struct fixture *f)
{
    return !tf_cursors_dirty(f->spool) && !f->spool->saving;
}

static bool has_notice_on_its_way(struct fixture *f)
{
    return f->spool->retention_step == TF_RETENTION_NOTICE;
}

static bool has_sync_held(struct fixture *f)
{
    (void)f;
    return atomic_load(&syncs_held) == 1;
}

static bool has_next_sync_held(struct fixture *f)
{
    (void)f;
    return atomic_load(&syncs_allowed) == 0 && atomic_load(&syncs_held) == 1;
}

/*
 * Segment 1 went ahead of its notice, since the disk was full. That becomes durable while the
 * notice of segment 2 is on its way, and is no leave to delete that, too. The numbers between the
 * segments make it two deletions.
 */
static void the_notice_of_one_deletion_does_not_stand_for_the_next(void **state)
{
    struct fixture *f = *state;

    f->options.retain_age_ms = 3600000;
    open_spool(f);
    open_feed(f, true, 8);
    append_many(f, 0, A_SEGMENT + 5);
    f->spool->next_segment_no += 5000;
    append_many(f, 100, A_SEGMENT);
    run_until(f, has_all);
    run_until(f, is_saved);
    f->is_down = true;
    fill_up(f);
    run_until(f, has_no_first);
    f->spool->slots_running = true; /* holds the next deletion back */
    atomic_store(&syncs_allowed, 0);
    atomic_store(&is_full, false);
    run_until(f, has_sync_held);
    f->spool->options.retain_size_bytes = 1;
    f->spool->slots_running = false;
    run_until(f, has_notice_on_its_way);
    atomic_store(&syncs_allowed, 1);
    run_until(f, has_next_sync_held);
    run_for(f, 500);
    assert_true(has_segment(f, 2));
    assert_int_equal(atomic_load(&syncs_held), 1); /* the second one's */
    atomic_store(&syncs_allowed, UINT32_MAX);
    run_until(f, has_no_second);
    come_up(f);
}

static bool has_no_notice_owed(struct fixture *f)
{
    return f->spool->saved.owed.last_no == 0;
}

/* A copy of the folder is what a kill leaves. */
static void a_kill_ahead_of_the_notice_does_not_lose_it(void **state)
{
    struct fixture *f = *state;
    struct tf_notice notice;
    char command[256];

    f->options.retain_age_ms = 3600000;
    open_spool(f);
    open_feed(f, true, 8);
    append_many(f, 0, 3 * A_SEGMENT);
    run_until(f, has_all);
    run_until(f, is_saved);
    f->is_down = true;
    fill_up(f);
    run_until(f, has_no_first);
    (void)snprintf(command, sizeof command, "cp -r '%s' '%s.killed'", f->path, f->path);
    assert_int_equal(system(command), 0); /* NOLINT: a test's own folder */
    atomic_store(&is_full, false);
    close_spool(f);
    (void)strcat(f->path, ".killed"); /* NOLINT: it has room */
    open_spool(f);
    open_feed(f, true, 8);
    assert_true(f->spool->now.owed.last_no > 0);
    run_until(f, has_no_notice_owed);
    assert_true(find_notice(f, TF_NOTICE_EXPIRE, &notice));
    assert_true(notice.a > 0 && notice.b > 0 && notice.time_ns > 0);
    assert_int_equal(notice.id[0], TF_EXPIRE_KEEP_FREE);
    assert_true(f->spool->segments[0].prev_last_seq <= notice.b);
}

static int keep_no_key(void *ctx, const char *text)
{
    (void)ctx;
    (void)text;
    return 0;
}

static void make_first_key(struct fixture *f)
{
    struct tf_seal_begin begin = {.options = &f->options, .keep = keep_no_key};
    struct tf_error err;
    uint64_t first_seq;

    tf_error_init(&err);
    assert_int_equal(tf_spool_seal_begin(&begin, &first_seq, &err), 0);
    tf_error_fini(&err);
}

static bool has_three_seals(struct fixture *f)
{
    return status_of(f).seals >= 3;
}

/* verify compares it with the first seal that it finds, whatever segment that is in. */
static void the_notice_names_the_first_seal_that_stays_wherever_it_is(void **state)
{
    struct fixture *f = *state;
    struct tf_notice notice;

    f->options.retain_age_ms = 3600000;
    open_spool(f);
    open_feed(f, true, 8);
    append_many(f, 0, 3 * A_SEGMENT); /* before there is a key */
    close_spool(f);
    make_first_key(f);
    open_spool(f);
    f->spool->sealing->every_bytes = 1; /* each frame */
    open_feed(f, true, 8);
    for (uint32_t i = 0; !has_three_seals(f) && i < 8; i++) {
        append_many(f, 100 + i, 1);
        run_for(f, 200);
    }
    run_until(f, has_three_seals);
    run_until(f, has_all);
    f->spool->options.retain_age_ms = 0;
    f->spool->options.retain_size_bytes = f->spool->segments[f->spool->segment_count - 1].base - 1;
    run_until(f, has_no_first);
    assert_true(has_segment(f, 2)); /* which has no seal */
    assert_true(find_notice(f, TF_NOTICE_EXPIRE, &notice));
    assert_int_equal(notice.a, 1);
    assert_int_equal(notice.c, 0);
}

/* The offset of frame number index of a segment, and the number of its first seal. */
static uint64_t look_into_segment(const struct fixture *f, uint64_t no, uint32_t index,
                                  uint64_t *first_seal)
{
    int dir_fd = open(f->path, O_RDONLY | O_DIRECTORY);
    struct tf_scanned frame;
    struct tf_scan scan;
    uint64_t offset = 0;
    bool found = false;

    assert_int_equal(tf_scan_open(&scan, dir_fd, no, NULL), 0);
    for (uint32_t i = 0; !found; i++) {
        assert_int_equal(tf_scan_next(&scan, &frame), 1);
        offset = i == index ? frame.begin : offset;
        found = tf_frame_is_seal(&frame.header);
    }
    *first_seal = tf_load64(frame.content.data);
    tf_scan_close(&scan);
    (void)close(dir_fd);
    assert_true(offset > 0);
    return offset;
}

/* verify passes over it, too. */
static void rot_in_front_of_a_seal_does_not_hide_it(void **state)
{
    struct fixture *f = *state;
    struct tf_notice notice;
    uint64_t offset, first_seal;
    char path[128];
    int fd;

    f->options.retain_age_ms = 3600000;
    make_first_key(f);
    open_spool(f);
    open_feed(f, true, 8);
    append_many(f, 0, 3 * A_SEGMENT);
    run_until(f, has_all);
    run_for(f, 500);
    offset = look_into_segment(f, 2, 1, &first_seal);
    (void)snprintf(path, sizeof path, "%s/%020u.seg", f->path, 2u);
    fd = open(path, O_WRONLY);
    assert_true(fd >= 0 && pwrite(fd, "\xff", 1, (off_t)offset + 8) == 1); /* of its number */
    (void)close(fd);
    f->spool->options.retain_age_ms = 0;
    f->spool->options.retain_size_bytes = f->spool->segments[f->spool->segment_count - 1].base - 1;
    run_until(f, has_no_first);
    assert_true(has_segment(f, 2));
    assert_true(find_notice(f, TF_NOTICE_EXPIRE, &notice));
    assert_int_equal(notice.c, first_seal);
}

static bool has_two_seals(struct fixture *f)
{
    return status_of(f).seals >= 2;
}

/* Once it is on again the first seal that is there has the number that comes next. */
static void while_sealing_is_off_the_notice_names_the_seal_to_come(void **state)
{
    struct fixture *f = *state;
    struct tf_notice notice;

    f->options.retain_age_ms = 3600000;
    make_first_key(f);
    open_spool(f);
    f->spool->sealing->every_bytes = 1; /* each frame */
    open_feed(f, true, 8);
    append_many(f, 0, 8);
    run_until(f, has_two_seals);
    run_until(f, has_all);
    close_spool(f);
    f->options.seal = TF_SEAL_OFF;
    f->options.retain_age_ms = 0;
    open_spool(f);
    open_feed(f, true, 8);
    append_many(f, 8, A_SEGMENT);
    run_until(f, has_all);
    run_until(f, is_one_segment);
    assert_true(find_notice(f, TF_NOTICE_EXPIRE, &notice));
    assert_true(notice.c >= 2);
    close_spool(f);
    f->options.seal = TF_SEAL_AUTO;
    open_spool(f);
    open_feed(f, true, 8);
    assert_int_equal(notice.c, tf_seal_next_number(f->spool));
}

/* A disk that is full for an hour uses up a number each second. */
static void numbers_that_came_to_nothing_take_no_segment_with_them(void **state)
{
    struct fixture *f = *state;
    struct tf_notice notice;

    open_spool(f);
    f->spool->next_segment_no += 5000;
    open_feed(f, true, 8);
    append_many(f, 0, A_SEGMENT + 5);
    run_until(f, has_all);
    run_until(f, has_no_first);
    run_until(f, is_one_segment);
    assert_true(find_notice(f, TF_NOTICE_EXPIRE, &notice));
    assert_int_equal(notice.a, 1);
    assert_int_equal(notice.id[0], TF_EXPIRE_DELIVERED);
    assert_non_null(strstr(f->told, "delivered; all had reached every output"));
}

/* ---- drop_oldest ---------------------------------------------------------------------------- */

static bool is_within(struct fixture *f)
{
    return tf_spool_has_room(f->spool);
}

/* The records that got says were dropped. */
static unsigned told_records(const struct received *got)
{
    const char *at = memmem(got->text, TEXT_MAX, "records", 7);
    const uint8_t *value = (const uint8_t *)at + 7;

    assert_non_null(at);
    return *value < 0x80    ? *value
           : *value == 0xcc ? value[1]
                            : (unsigned)(value[1] << 8 | value[2]);
}

static void assert_text(const struct received *got, const char *text)
{
    assert_non_null(memmem(got->text, TEXT_MAX, text, strlen(text)));
}

static uint32_t check_received(struct fixture *f, uint32_t total)
{
    uint32_t next = 0, lost = 0;

    for (uint32_t i = 0; i < f->count; i++) {
        unsigned number;

        if (f->got[i].is_gap) {
            uint32_t records = told_records(&f->got[i]);

            assert_non_null(memmem(f->got[i].text, TEXT_MAX, "drop-oldest", 11));
            assert_text(&f->got[i], "drop_oldest made room");
            if (TF_SEQ_RUN(f->got[i].gap_from) == 0) {
                assert_text(&f->got[i], "all frames up to ");
            }
            lost += records;
            next += records;
            continue;
        }
        assert_int_equal(sscanf(f->got[i].text, "event-%u", &number), 1);
        assert_int_equal(number, next); /* each once, or counted in a gap */
        next++;
    }
    assert_int_equal(next, total);
    return lost;
}

static void drop_oldest_tells_exactly_what_is_lost(void **state)
{
    struct fixture *f = *state;
    struct tf_feed_status feed;
    uint32_t total = 8 * A_SEGMENT, lost;

    f->options.max_size_bytes = 4u << 20;
    f->options.on_full = TF_ON_FULL_DROP_OLDEST;
    open_spool(f);
    f->is_down = true;
    open_feed(f, true, 8);
    for (uint32_t i = 0; i < total; i += A_SEGMENT) {
        append_many(f, i, A_SEGMENT);
        run_until(f, is_within);
    }
    assert_false(has_segment(f, 1));
    assert_in_range(status_of(f).bytes_pending, 1u << 20, 5u << 20);
    assert_true(status_of(f).expired_events > 0);
    come_up(f);
    run_until(f, has_all);
    lost = check_received(f, total);
    assert_int_equal(lost, status_of(f).expired_events);
    tf_feed_status(f->feed, &feed);
    assert_int_equal(feed.expired, lost);
    assert_int_equal(feed.acked, total - lost);
    assert_books(f);
}

static void a_frame_in_flight_spares_its_segment(void **state)
{
    struct fixture *f = *state;
    uint64_t full_ms, began_ms;

    f->options.max_size_bytes = 4u << 20;
    f->options.on_full = TF_ON_FULL_DROP_OLDEST;
    open_spool(f);
    open_feed(f, false, 1);
    began_ms = uv_now(&f->loop);
    append_many(f, 0, 6 * A_SEGMENT);
    run_until(f, has_one);
    run_for(f, 1500);
    assert_int_equal(f->count, 1);
    assert_true(has_segment(f, 1)); /* its first frame may be delivered this very moment */
    assert_false(tf_spool_has_room(f->spool));
    full_ms = status_of(f).full_ms;
    assert_true(full_ms > 0 && full_ms <= uv_now(&f->loop) - began_ms);
    run_for(f, 50);
    assert_true(status_of(f).full_ms >= full_ms + 50); /* it goes on */
    tf_feed_rewind(f->feed);                           /* as when the connection ends */
    f->ack = true;
    f->count = 0;
    run_until(f, has_all);
    (void)check_received(f, 6 * A_SEGMENT);
    assert_true(tf_spool_has_room(f->spool));
    full_ms = status_of(f).full_ms;
    run_for(f, 50);
    assert_int_equal(status_of(f).full_ms, full_ms);
}

/* Fills the spool until something is to be dropped. */
static void fill_until_planned(struct fixture *f)
{
    f->options.max_size_bytes = 4u << 20;
    f->options.on_full = TF_ON_FULL_DROP_OLDEST;
    open_spool(f);
    f->is_down = true;
    open_feed(f, false, 1);
    append_many(f, 0, 56);
    for (uint32_t i = 0; f->spool->retention_step == TF_RETENTION_REST && i < 2 * A_SEGMENT; i++) {
        append_many(f, 56 + i, 1);
    }
}

static void a_frame_that_is_handed_out_meanwhile_spares_its_segment(void **state)
{
    struct fixture *f = *state;

    fill_until_planned(f);
    assert_int_not_equal(f->spool->retention_step, TF_RETENTION_REST);
    assert_true(has_segment(f, 1));
    come_up(f); /* begins to read */
    run_until(f, has_one);
    run_for(f, 1500);
    assert_int_equal(f->count, 1);
    assert_true(has_segment(f, 1));
    assert_true(tf_feed_ack(f->feed, f->got[0].seq));
    f->ack = true;
    run_until(f, has_no_first);
    run_until(f, has_all);
}

/* A folder in its place can be neither shredded nor unlinked. */
static void a_deletion_that_fails_is_tried_again_by_and_by_under_one_notice(void **state)
{
    struct fixture *f = *state;
    char path[128];
    uint64_t taken;

    (void)snprintf(path, sizeof path, "%s/%020u.seg", f->path, 1u);
    fill_until_planned(f);
    taken = f->spool->taken;
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkdir(path, 0700), 0);
    run_for(f, 3500);
    assert_in_range(f->spool->taken - taken, 0, 1);
    assert_int_equal(rmdir(path), 0);
    run_until(f, is_within);
    assert_int_equal(status_of(f).segments, f->spool->segment_count);
    assert_true(f->spool->segments[0].no > 1);
}

static void the_newest_segment_alone_always_has_room(void **state)
{
    struct fixture *f = *state;

    f->options.max_size_bytes = 300000; /* less than a segment */
    f->options.on_full = TF_ON_FULL_DROP_OLDEST;
    f->is_down = true;
    open_spool(f);
    open_feed(f, true, 8);
    append_many(f, 0, 8);
    assert_true(tf_spool_has_room(f->spool));
    append_many(f, 8, 3 * A_SEGMENT);
    run_until(f, is_within);
    come_up(f);
    run_until(f, has_all);
    (void)check_received(f, 8 + 3 * A_SEGMENT); /* what is gone may still come from the cache */
}

/* ---- rotation ------------------------------------------------------------------------------- */

static bool is_all_by_second_key(struct fixture *f)
{
    return open_by(f, false, 1) == 0 && open_by(f, false, 2) == 0 && open_by(f, false, 3) == 0;
}

static void rotation_rewraps_slots_and_no_data(void **state)
{
    struct fixture *f = *state;
    static uint8_t before[SEGMENT_BYTES], after[SEGMENT_BYTES];
    struct tf_notice notice;
    char path[128];
    FILE *file;

    f->options.retain_age_ms = 3600000;
    open_spool(f);
    append_many(f, 0, 3 * A_SEGMENT);
    close_spool(f);
    (void)snprintf(path, sizeof path, "%s/%020u.seg", f->path, 1);
    file = fopen(path, "r");
    assert_non_null(file);
    assert_true(fread(before, 1, sizeof before, file) > 5000);
    (void)fclose(file);
    use_keys(f, 1, 1); /* the new key alone: the newest segment cannot be read */
    assert_int_equal(try_open(f), -EINVAL);
    f->spool = NULL;
    use_keys(f, 1, 2); /* the new one first, the old one still reads */
    open_spool(f);
    f->options.keys.count = 1; /* for open_by */
    run_until(f, is_all_by_second_key);
    assert_true(find_notice(f, TF_NOTICE_KEY_CHANGE, &notice));
    close_spool(f);
    file = fopen(path, "r");
    assert_non_null(file);
    assert_true(fread(after, 1, sizeof after, file) > 5000);
    (void)fclose(file);
    assert_memory_equal(before, after, 512);
    assert_memory_equal(before + 4096, after + 4096, sizeof before - 4096);
    use_keys(f, 0, 1);
    assert_int_equal(open_by(f, false, 1), -ENOKEY); /* the old slot is gone */
    use_keys(f, 1, 1);                               /* the old key's file may be removed */
    assert_int_equal(unlink(f->keys[0]), 0);
    open_spool(f);
    open_feed(f, true, 8);
    run_until(f, has_all);
    assert_int_equal(f->count, 3 * A_SEGMENT);
}

static bool is_through(struct fixture *f)
{
    return f->count == 2 * A_SEGMENT + 1;
}

static bool has_two_unreadable(struct fixture *f)
{
    return status_of(f).unreadable_segments >= 2;
}

static void a_segment_without_its_key_waits(void **state)
{
    struct fixture *f = *state;

    open_spool(f);
    append_many(f, 0, 2 * A_SEGMENT);
    close_spool(f);
    use_keys(f, 1, 2);
    open_spool(f); /* dies before its slots are rewritten: put the old files back */
    close_spool(f);
    use_keys(f, 1, 1);
    open_spool(f);
    open_feed(f, true, 8);
    append_many(f, 2 * A_SEGMENT, 1);
    run_until(f, has_two_unreadable);
    run_for(f, 1500);
    assert_int_equal(f->count, 0);
    assert_string_equal(f->event, "key-missing");
    assert_int_equal(f->events, 1);
    assert_books(f);
    close_spool(f);
    use_keys(f, 1, 2);
    open_spool(f);
    open_feed(f, true, 8);
    run_until(f, is_through);
    assert_int_equal(check_received(f, 2 * A_SEGMENT + 1), 0);
    assert_int_equal(status_of(f).unreadable_segments, 0);
}

/* ---- auditor -------------------------------------------------------------------------------- */

static bool is_first_the_auditors(struct fixture *f)
{
    return open_by(f, false, 1) == -ENOKEY;
}

static void what_is_delivered_is_the_auditors_alone(void **state)
{
    struct fixture *f = *state;

    f->options.retain_age_ms = 3600000;
    f->options.auditor = (struct tf_text){.text = f->auditor};
    open_spool(f);
    open_feed(f, false, 8);
    append_many(f, 0, 2 * A_SEGMENT);
    run_for(f, 1500);
    assert_int_equal(open_by(f, false, 1), 0); /* not delivered yet */
    assert_int_equal(open_by(f, true, 1), 0);
    f->ack = true;
    for (uint32_t i = 0; i < f->count; i++) {
        assert_true(tf_feed_ack(f->feed, f->got[i].seq));
    }
    run_until(f, has_all);
    run_until(f, is_first_the_auditors);
    assert_int_equal(open_by(f, true, 1), 0);
    assert_int_equal(status_of(f).unreadable_segments, 0);
    close_spool(f);
    open_spool(f); /* nothing of a start needs it */
    open_feed(f, true, 8);
    append_many(f, 2 * A_SEGMENT, 1);
    run_until(f, has_all);
    assert_int_equal(f->count, 1);
    assert_books(f);
}

/* Cursors that are lost begin at the oldest frame that the node can still read. */
static void a_new_cursor_passes_over_what_is_the_auditors(void **state)
{
    struct fixture *f = *state;
    char path[128];

    f->options.retain_age_ms = 3600000;
    f->options.auditor = (struct tf_text){.text = f->auditor};
    open_spool(f);
    open_feed(f, true, 8);
    append_many(f, 0, 2 * A_SEGMENT);
    run_until(f, has_all);
    run_until(f, is_first_the_auditors);
    close_spool(f);
    (void)snprintf(path, sizeof path, "%s/cursors", f->path);
    assert_int_equal(unlink(path), 0);
    open_spool(f);
    open_feed(f, true, 8);
    append_many(f, 2 * A_SEGMENT, 1);
    run_until(f, has_all);
    assert_true(f->count > 0);
    for (uint32_t i = 0; i < f->count; i++) {
        assert_false(f->got[i].is_gap);
    }
    assert_books(f);
}

/* ---- what check tells ----------------------------------------------------------------------- */

static void filesystems_that_copy_on_write_are_named(void **state)
{
    (void)state;
    assert_string_equal(tf_copying_filesystem(0x9123683e), "btrfs");
    assert_string_equal(tf_copying_filesystem(0xf2f52010), "f2fs");
    assert_string_equal(tf_copying_filesystem(0x6969), "nfs");
    assert_null(tf_copying_filesystem(0xef53));     /* ext4 */
    assert_null(tf_copying_filesystem(0x58465342)); /* xfs */
}

/* Does check say so? */
static bool check_says(const struct fixture *f, const char *text)
{
    struct tf_error err;
    bool says = false;

    tf_error_init(&err);
    (void)tf_spool_check(&f->options, &err);
    for (size_t i = 0; i < err.count; i++) {
        says |= strstr(err.findings[i].text, text) != NULL;
    }
    tf_error_fini(&err);
    return says;
}

/* As if another key had wrapped that segment's. */
static void change_key_id(const struct fixture *f, uint64_t no)
{
    uint8_t raw[TF_SECTOR_BYTES];
    struct tf_key_slot slot;
    char path[128];
    int fd;

    (void)snprintf(path, sizeof path, "%s/%020llu.seg", f->path, (unsigned long long)no);
    fd = open(path, O_RDWR);
    assert_int_equal(pread(fd, raw, sizeof raw, TF_SECTOR_BYTES), sizeof raw);
    assert_int_equal(tf_key_slot_decode(raw, &slot), 0);
    memset(slot.key_id, 0xab, sizeof slot.key_id);
    tf_key_slot_encode(&slot, raw);
    assert_int_equal(pwrite(fd, raw, sizeof raw, TF_SECTOR_BYTES), sizeof raw);
    (void)close(fd);
}

static void check_names_each_key_that_an_older_segment_needs(void **state)
{
    struct fixture *f = *state;

    f->options.retain_age_ms = 3600000;
    open_spool(f);
    append_many(f, 0, 2 * A_SEGMENT);
    close_spool(f);
    assert_false(check_says(f, "no key of spool.keys"));
    change_key_id(f, 1);
    assert_true(
        check_says(f, "opens 1 segment up to 1, written for the key with id abababababababab"));
    assert_false(check_says(f, "the newest"));
    use_keys(f, 1, 1);
    assert_true(check_says(f, "written for the key with id abababababababab"));
    assert_true(check_says(f, ", the newest; add the key"));
}

static void a_wrong_auditors_key_is_told(void **state)
{
    struct fixture *f = *state;
    struct tf_error err;

    f->options.auditor = (struct tf_text){.text = f->auditor};
    write_text(f->auditor, "-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----\n");
    assert_int_equal(try_open(f), -EINVAL);
    write_text(f->auditor, auditor_pem);
    assert_int_equal(chmod(f->auditor, 0666), 0); /* anyone could put his own there */
    tf_error_init(&err);
    assert_int_equal(tf_spool_check(&f->options, &err), -EINVAL);
    tf_error_fini(&err);
    f->spool = NULL;
}

/* ---- readers -------------------------------------------------------------------------------- */

static int read_keys(const struct tf_reader_keys *from, uint32_t keks, uint32_t privates)
{
    struct tf_keyring *ring = NULL;
    struct tf_error err;
    int rc;

    tf_error_init(&err);
    rc = tf_reader_keys_load(from, &ring, &err);
    if (rc == 0) {
        assert_int_equal(ring->count, keks);
        assert_int_equal(ring->private_count, privates);
    }
    assert_int_equal(err.errors > 0, rc == -EINVAL);
    tf_keyring_free(ring);
    tf_error_fini(&err);
    return rc;
}

static void readers_take_any_key_that_is_given(void **state)
{
    struct fixture *f = *state;
    char private_file[128];
    const char *files[3] = {f->keys[0], private_file, f->keys[1]};
    struct tf_reader_keys from = {.files = files, .file_count = 3};

    (void)snprintf(private_file, sizeof private_file, "%s/auditor.key", f->root);
    write_text(private_file, private_pem);
    assert_int_equal(read_keys(&from, 2, 1), 0);
    assert_int_equal(chmod(private_file, 0644), 0);
    assert_int_equal(read_keys(&from, 0, 0), -EINVAL);
    from = (struct tf_reader_keys){.options = &f->options, .spool_path = f->path};
    assert_int_equal(read_keys(&from, 1, 0), 0);
    from.options = NULL;
    assert_int_equal(read_keys(&from, 0, 0), -ENOENT);
    f->options.keys.count = 0;
    open_spool(f); /* makes the key beside it */
    assert_int_equal(read_keys(&from, 1, 0), 0);
}

#ifdef TF_TEST_HOOKS
/* ---- kills: this program again -------------------------------------------------------------- */

/* Appends A_SEGMENT frames behind what the folded state says, with an output that is down, then
 * waits until there is room and nothing more is to do to slots. */
static int writer_main(const char *root, bool rotates)
{
    static struct fixture f;
    struct tf_slice value;
    uint32_t next = 0, wanted;

    (void)snprintf(f.root, sizeof f.root, "%s", root);
    fill_fixture(&f);
    if (rotates) {
        use_keys(&f, 1, 2);
        f.options.retain_age_ms = 3600000;
    } else {
        f.options.max_size_bytes = 4u << 20;
        f.options.on_full = TF_ON_FULL_DROP_OLDEST;
    }
    atomic_store(&syncs_allowed, UINT32_MAX);
    if (uv_loop_init(&f.loop) != 0 || try_open(&f) < 0) {
        return 1;
    }
    (void)uv_timer_init(&f.loop, &f.deadline);
    f.deadline.data = &f;
    open_feed(&f, false, 1); /* begins a cursor */
    close_feed(&f);
    if (tf_state_get(f.spool, tf_slice_text("pos"), &value) &&
        sscanf(value.data, "event-%u", &next) == 1) {
        next++;
    }
    for (wanted = next + 2 * A_SEGMENT; next < wanted; next++) {
        append_large(&f, next);
    }
    tf_spool_sync(f.spool);
    run_for(&f, 1500);
    tf_spool_close(f.spool, on_closed, &f);
    run_until(&f, is_closed);
    return 0;
}

static bool run_writer(const struct fixture *f, const char *crash, const char *kind)
{
    int status = 0;
    pid_t pid = fork();

    if (pid == 0) {
        if (crash != NULL) {
            (void)setenv("TAFFRAIL_CRASH", crash, 1);
        }
        (void)execl("/proc/self/exe", "test_retention", kind, f->root, (char *)NULL);
        _exit(9);
    }
    assert_true(pid > 0 && waitpid(pid, &status, 0) == pid);
    assert_true(WIFSIGNALED(status) ? WTERMSIG(status) == SIGKILL : WEXITSTATUS(status) == 0);
    return WIFSIGNALED(status);
}

static uint32_t folded_count(struct fixture *f)
{
    struct tf_slice value;
    uint32_t number;

    assert_true(tf_state_get(f->spool, tf_slice_text("pos"), &value));
    assert_int_equal(sscanf(value.data, "event-%u", &number), 1);
    return number + 1;
}

static void a_kill_while_dropping_miscounts_nothing(void **state)
{
    static const char *const points[] = {"drop.cursors:1",  "drop.unlinked:1", "drop.unlinked:2",
                                         "cursor.synced:2", "drop.unlinked:1", "sync.done:3"};
    struct fixture *f = *state;
    uint32_t kills = 0, total;

    for (uint32_t i = 0; i < 3; i++) {
        assert_false(run_writer(f, NULL, "--drops"));
    }
    for (uint32_t i = 0; i < TF_COUNT(points); i++) {
        kills += run_writer(f, points[i], "--drops");
    }
    assert_true(kills >= 4);
    assert_false(run_writer(f, NULL, "--drops"));
    f->options.max_size_bytes = 4u << 20;
    f->options.on_full = TF_ON_FULL_DROP_OLDEST;
    open_spool(f);
    total = folded_count(f);
    open_feed(f, true, 8);
    run_until(f, has_all);
    assert_true(check_received(f, total) > 0);
}

static void a_kill_while_rotating_leaves_slots_that_open(void **state)
{
    static const char *const points[] = {"rewrap.added:1", "rewrap.zeroed:1", "rewrap.added:1",
                                         "rewrap.zeroed:2"};
    struct fixture *f = *state;
    uint32_t kills = 0, total;

    f->options.retain_age_ms = 3600000;
    open_spool(f);
    append_many(f, 0, 6 * A_SEGMENT);
    close_spool(f);
    for (uint32_t i = 0; i < TF_COUNT(points); i++) {
        kills += run_writer(f, points[i], "--rotates");
    }
    assert_int_equal(kills, TF_COUNT(points));
    assert_false(run_writer(f, NULL, "--rotates"));
    use_keys(f, 1, 1);
    open_spool(f);
    assert_int_equal(status_of(f).unreadable_segments, 0);
    total = folded_count(f);
    open_feed(f, true, 8);
    run_until(f, has_all);
    assert_int_equal(check_received(f, total), 0);
}
#endif

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_is_delivered_goes_in_order_with_a_word, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(what_is_kept_stays_up_to_its_size, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_kept_goes_before_inputs_wait, setup, teardown),
        cmocka_unit_test_setup_teardown(a_kill_ahead_of_the_notice_does_not_lose_it, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(the_notice_of_one_deletion_does_not_stand_for_the_next,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(the_notice_names_the_first_seal_that_stays_wherever_it_is,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(while_sealing_is_off_the_notice_names_the_seal_to_come,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(rot_in_front_of_a_seal_does_not_hide_it, setup, teardown),
        cmocka_unit_test_setup_teardown(numbers_that_came_to_nothing_take_no_segment_with_them,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(drop_oldest_tells_exactly_what_is_lost, setup, teardown),
        cmocka_unit_test_setup_teardown(a_frame_in_flight_spares_its_segment, setup, teardown),
        cmocka_unit_test_setup_teardown(a_frame_that_is_handed_out_meanwhile_spares_its_segment,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(
            a_deletion_that_fails_is_tried_again_by_and_by_under_one_notice, setup, teardown),
        cmocka_unit_test_setup_teardown(the_newest_segment_alone_always_has_room, setup, teardown),
        cmocka_unit_test_setup_teardown(rotation_rewraps_slots_and_no_data, setup, teardown),
        cmocka_unit_test_setup_teardown(a_segment_without_its_key_waits, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_delivered_is_the_auditors_alone, setup, teardown),
        cmocka_unit_test_setup_teardown(a_new_cursor_passes_over_what_is_the_auditors, setup,
                                        teardown),
        cmocka_unit_test(filesystems_that_copy_on_write_are_named),
        cmocka_unit_test_setup_teardown(check_names_each_key_that_an_older_segment_needs, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_wrong_auditors_key_is_told, setup, teardown),
        cmocka_unit_test_setup_teardown(readers_take_any_key_that_is_given, setup, teardown),
#ifdef TF_TEST_HOOKS
        cmocka_unit_test_setup_teardown(a_kill_while_dropping_miscounts_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(a_kill_while_rotating_leaves_slots_that_open, setup,
                                        teardown),
#endif
    };

#ifdef TF_TEST_HOOKS
    if (argc == 3 && (strcmp(argv[1], "--drops") == 0 || strcmp(argv[1], "--rotates") == 0)) {
        return writer_main(argv[2], strcmp(argv[1], "--rotates") == 0);
    }
#endif
    (void)argc;
    (void)argv;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
