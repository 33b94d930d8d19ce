/*
 * test_spool.c - what the spool promises: order, durability, nothing altered, nothing lost in
 * silence, over restarts, cuts, flipped bytes, failed writes and rolled segments.
 *
 * pwrite and fdatasync are defined here, before libc's, so that one of them fails when a test says
 * so.
 */
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
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <zlib.h>

#include "../../agent/spool/internal.h"

#include "taffrail/log.h"

#define DEADLINE_MS   20000u
#define RECEIVED_MAX  512u
#define TEXT_MAX      64u
#define DONES_MAX     1024u
#define SEGMENT_BYTES (1u << 20)
#define MANY_SEGMENTS 150u /* more than the table has room for at first */

/* ---- faults --------------------------------------------------------------------------------- */

/* The n-th call from now fails; 0: none. */
static atomic_int fail_write_in, fail_sync_in, fail_allocate_in;

static bool fails_now(atomic_int *in)
{
    int left = atomic_load(in);

    return left > 0 && atomic_fetch_sub(in, 1) == 1;
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t offset)
{
    if (fails_now(&fail_write_in)) {
        (void)syscall(SYS_pwrite64, fd, data, size / 3, offset); /* some of it gets there */
        errno = EIO;
        return -1;
    }
    return syscall(SYS_pwrite64, fd, data, size, offset);
}

int fdatasync(int fd)
{
    if (fails_now(&fail_sync_in)) {
        errno = EIO;
        return -1;
    }
    return (int)syscall(SYS_fdatasync, fd);
}

int fallocate(int fd, int mode, off_t offset, off_t size)
{
    if (fails_now(&fail_allocate_in)) {
        errno = ENOSPC;
        return -1;
    }
    return (int)syscall(SYS_fallocate, fd, mode, offset, size);
}

/* ---- fixture -------------------------------------------------------------------------------- */

struct received {
    uint64_t seq, prev;
    bool is_gap;
    char text[TEXT_MAX];
};

struct output {
    struct tf_feed *feed;
    struct received got[RECEIVED_MAX];
    uint32_t count;
    bool ack; /* at once */
};

struct fixture {
    uv_loop_t loop;
    uv_timer_t deadline;
    bool late;
    char root[64], path[80];
    struct tf_spool_options options;
    struct tf_text match_items[2];
    struct tf_texts match_all, match_b;
    struct tf_spool *spool;
    struct output outputs[2];
    const char *names[2];
    uint32_t name_count;
    uint64_t done_seqs[DONES_MAX];
    uint32_t taken, dones, durables, cancels, new_runs;
    bool closed;
};

static void on_new_run(void *ctx)
{
    ((struct fixture *)ctx)->new_runs++;
}

static void on_done(void *ctx, int status, uint64_t seq)
{
    struct fixture *f = ctx;

    if (f->dones < DONES_MAX) {
        f->done_seqs[f->dones] = status == 0 ? seq : 0;
    }
    f->dones++;
    f->durables += status == 0;
    f->cancels += status == -ECANCELED;
}

static void on_deadline(uv_timer_t *timer)
{
    ((struct fixture *)timer->data)->late = true;
}

/* Turns the loop until *value reaches wanted, or the deadline. */
static void run_until(struct fixture *f, const uint32_t *value, uint32_t wanted)
{
    f->late = false;
    assert_int_equal(uv_timer_start(&f->deadline, on_deadline, DEADLINE_MS, 0), 0);
    while (*value < wanted && !f->late) {
        (void)uv_run(&f->loop, UV_RUN_ONCE);
    }
    (void)uv_timer_stop(&f->deadline);
    assert_true(*value >= wanted);
}

static void run_for(struct fixture *f, uint64_t ms)
{
    f->late = false;
    assert_int_equal(uv_timer_start(&f->deadline, on_deadline, ms, 0), 0);
    while (!f->late) {
        (void)uv_run(&f->loop, UV_RUN_ONCE);
    }
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

static void drain(struct output *output)
{
    struct tf_frame *frame;

    while (output->count < RECEIVED_MAX && tf_feed_next(output->feed, &frame) == 0) {
        struct received *got = &output->got[output->count++];

        *got =
            (struct received){.seq = frame->seq, .prev = frame->prev, .is_gap = frame->is_gap_span};
        unpack(frame->payload, got->text);
        if (output->ack) {
            assert_true(tf_feed_ack(output->feed, frame->seq));
        }
        tf_frame_unref(frame);
    }
}

static void on_ready(void *ctx)
{
    drain(ctx);
}

static int try_open(struct fixture *f)
{
    struct tf_spool_callbacks callbacks = {.ctx = f, .on_new_run = on_new_run};
    struct tf_error err;
    int rc;

    tf_error_init(&err);
    rc = tf_spool_open(&f->loop, &f->options, f->names, f->name_count, &callbacks, &f->spool, &err);
    if (rc < 0) {
        print_message("open: %s\n", tf_error_first(&err));
    }
    tf_error_fini(&err);
    return rc;
}

static void open_spool(struct fixture *f)
{
    assert_int_equal(try_open(f), 0);
    f->closed = false;
}

static void open_feed(struct fixture *f, uint32_t i, const struct tf_texts *match, uint32_t window)
{
    struct tf_feed_options options = {.name = f->names[i],
                                      .match = match,
                                      .window = window,
                                      .unsaved_max = 64,
                                      .on_ready = on_ready,
                                      .ctx = &f->outputs[i]};
    bool ack = f->outputs[i].ack;

    memset(&f->outputs[i], 0, sizeof f->outputs[i]);
    f->outputs[i].ack = ack;
    assert_int_equal(tf_feed_open(f->spool, &options, &f->outputs[i].feed), 0);
}

static void on_closed(void *ctx)
{
    ((struct fixture *)ctx)->closed = true;
}

static void close_spool(struct fixture *f)
{
    for (uint32_t i = 0; i < 2; i++) {
        tf_feed_close(f->outputs[i].feed);
        f->outputs[i].feed = NULL;
    }
    tf_spool_close(f->spool, on_closed, f);
    f->late = false;
    assert_int_equal(uv_timer_start(&f->deadline, on_deadline, DEADLINE_MS, 0), 0);
    while (!f->closed && !f->late) {
        (void)uv_run(&f->loop, UV_RUN_ONCE);
    }
    (void)uv_timer_stop(&f->deadline);
    assert_true(f->closed);
    f->spool = NULL;
}

/* One frame with one event: text; its delta sets key "pos" to text and pushes it to "list". */
static void append_bytes(struct fixture *f, const char *tag, const char *text, const void *payload,
                         size_t size)
{
    struct tf_frame_draft draft = {.type = TF_FRAME_DATA,
                                   .time_min_ns = 1,
                                   .time_max_ns = 2,
                                   .events = 1,
                                   .done = on_done,
                                   .ctx = f};

    (void)snprintf(draft.tag, sizeof draft.tag, "%s", tag);
    tf_buf_init(&draft.payload, TF_DRAFT_PAYLOAD_MAX);
    tf_buf_init(&draft.deltas, TF_DRAFT_PAYLOAD_MAX);
    assert_int_equal(tf_buf_append(&draft.payload, payload, size), 0);
    tf_delta_append(&draft.deltas, TF_DELTA_SET, tf_slice_text("pos"), tf_slice_text(text));
    tf_delta_append(&draft.deltas, TF_DELTA_PUSH, tf_slice_text("list"), tf_slice_text(text));
    assert_int_equal(tf_spool_append(f->spool, &draft), 0);
    assert_int_equal(draft.payload.size, 0);
}

static void append_text(struct fixture *f, const char *tag, const char *text)
{
    append_bytes(f, tag, text, text, strlen(text));
}

static void append_many(struct fixture *f, const char *tag, uint32_t from, uint32_t count)
{
    uint32_t wanted = f->dones + count;

    for (uint32_t i = 0; i < count; i++) {
        char text[TEXT_MAX];

        (void)snprintf(text, sizeof text, "event-%u", from + i);
        append_text(f, tag, text);
    }
    tf_spool_sync(f->spool);
    run_until(f, &f->dones, wanted);
}

static void remove_tree(const char *path)
{
    char command[512];

    (void)snprintf(command, sizeof command, "rm -rf '%s'", path);
    if (system(command) != 0) { /* NOLINT: a test's own folder */
        print_message("left: %s\n", path);
    }
}

static void copy_tree(const char *from, const char *to)
{
    char command[512];

    (void)snprintf(command, sizeof command, "rm -rf '%s' && cp -a --sparse=always '%s' '%s'", to,
                   from, to);
    assert_int_equal(system(command), 0);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);

    if (f == NULL) {
        return -1;
    }
    (void)snprintf(f->root, sizeof f->root, "/tmp/test_spool.XXXXXX");
    if (mkdtemp(f->root) == NULL || uv_loop_init(&f->loop) != 0) {
        return -1;
    }
    (void)uv_timer_init(&f->loop, &f->deadline);
    f->deadline.data = f;
    (void)snprintf(f->path, sizeof f->path, "%s/spool", f->root);
    f->options = (struct tf_spool_options){.path = {.text = f->path},
                                           .max_size_bytes = UINT64_C(1) << 30,
                                           .sync = {TF_SYNC_INTERVAL, 200},
                                           .segment_size_bytes = SEGMENT_BYTES};
    f->match_items[0] = (struct tf_text){.text = "**"};
    f->match_items[1] = (struct tf_text){.text = "b.**"};
    f->match_all = (struct tf_texts){.items = &f->match_items[0], .count = 1};
    f->match_b = (struct tf_texts){.items = &f->match_items[1], .count = 1};
    f->names[0] = "one";
    f->names[1] = "two";
    f->name_count = 1;
    f->outputs[0].ack = f->outputs[1].ack = true;
    tf_log_configure(TF_LOG_ERROR + 1, TF_LOG_LOGFMT);
    atomic_store(&fail_write_in, 0);
    atomic_store(&fail_sync_in, 0);
    atomic_store(&fail_allocate_in, 0);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    int rc;

    if (f->spool != NULL) {
        close_spool(f);
    }
    uv_close((uv_handle_t *)&f->deadline, NULL);
    (void)uv_run(&f->loop, UV_RUN_DEFAULT);
    rc = uv_loop_close(&f->loop);
    remove_tree(f->root);
    free(f);
    return rc;
}

static void newest_segment(const struct fixture *f, const char *path, char *out, size_t size)
{
    for (unsigned no = 99; no > 0; no--) {
        (void)snprintf(out, size, "%s/%020u.seg", path, no);
        if (access(out, F_OK) == 0) {
            return;
        }
    }
    (void)f;
    fail_msg("no segment");
}

static void assert_state(struct fixture *f, const char *text)
{
    struct tf_slice value;

    assert_true(tf_state_get(f->spool, tf_slice_text("pos"), &value));
    assert_int_equal(value.size, strlen(text));
    assert_memory_equal(value.data, text, value.size);
}

static void assert_books(const struct fixture *f, uint32_t i)
{
    struct tf_feed_status feed;
    struct tf_spool_status spool;

    tf_feed_status(f->outputs[i].feed, &feed);
    tf_spool_status(f->spool, &spool);
    assert_int_equal(feed.pending_at_start + spool.spooled_events,
                     feed.acked + feed.skipped + feed.expired + feed.rejected + feed.pending);
}

/* ---- tests ---------------------------------------------------------------------------------- */

static void frames_come_out_in_order_with_their_bytes(void **state)
{
    struct fixture *f = *state;
    struct received *got = f->outputs[0].got;

    open_spool(f);
    open_feed(f, 0, &f->match_all, 8);
    append_many(f, "a", 0, 20);
    run_until(f, &f->outputs[0].count, 20);
    for (uint32_t i = 0; i < 20; i++) {
        char text[TEXT_MAX];

        (void)snprintf(text, sizeof text, "event-%u", i);
        assert_string_equal(got[i].text, text);
        assert_int_equal(got[i].prev, i == 0 ? 0 : got[i - 1].seq);
        assert_int_equal(got[i].seq, f->done_seqs[i]);
        assert_int_equal(TF_SEQ_RUN(got[i].seq), 1);
    }
    assert_state(f, "event-19");
    assert_books(f, 0);
}

/* An independent program, written by docs/spool-format.md alone, decrypts and checks what is here.
 */
/* Else every frame has new pages of the kernel's for its payload. */
static void a_payload_has_the_memory_of_an_earlier_one(void **state)
{
    struct fixture *f = *state;
    static uint8_t zeros[3u << 19];
    struct tf_buf first, second;

    open_spool(f);
    append_bytes(f, "a", "large", zeros, sizeof zeros);
    tf_spool_sync(f->spool);
    run_until(f, &f->dones, 1);
    tf_spool_payload(f->spool, &first);
    tf_spool_payload(f->spool, &second);
    assert_true(first.capacity >= sizeof zeros);
    assert_int_equal(first.size, 0);
    assert_int_equal(second.capacity, 0);
    assert_int_equal(first.limit_bytes, TF_DRAFT_PAYLOAD_MAX);
    tf_buf_fini(&first);
}

static void the_page_alone_reads_a_spool(void **state)
{
    struct fixture *f = *state;
    char command[1024], line[512];
    uint32_t next = 0;
    FILE *reader;

    for (uint32_t run = 0; run < 2; run++) {
        open_spool(f);
        open_feed(f, 0, &f->match_all, 8);
        for (uint32_t i = 0; i < 10; i++) {
            char text[TEXT_MAX];
            int size = snprintf(text + 1, sizeof text - 1, "event-%u", run * 10 + i);

            text[0] = (char)(0xa0 | size); /* a msgpack str */
            append_bytes(f, "a", text + 1, text, (size_t)size + 1);
        }
        tf_spool_sync(f->spool);
        run_until(f, &f->dones, (run + 1) * 10);
        close_spool(f);
    }
    (void)snprintf(command, sizeof command, "/usr/bin/python3 '%s' '%s' 2>/dev/null",
                   TF_SOURCE_DIR "/tests/integration/read_segment.py", f->path);
    reader = popen(command, "r"); /* NOLINT: fixed words and the test's own folder */
    assert_non_null(reader);
    while (fgets(line, sizeof line, reader) != NULL) {
        char wanted[64];

        (void)snprintf(wanted, sizeof wanted, "\"event\": \"event-%u\"}", next);
        assert_non_null(strstr(line, wanted));
        next++;
    }
    assert_int_equal(pclose(reader), 0); /* and found no damage */
    assert_int_equal(next, 20);
}

static void nothing_leaves_before_it_is_synced(void **state)
{
    struct fixture *f = *state;

    open_spool(f);
    open_feed(f, 0, &f->match_all, 8);
    append_text(f, "a", "first");
    run_for(f, 100);
    assert_int_equal(f->dones, 0);
    assert_int_equal(f->outputs[0].count, 0);
    assert_true(tf_spool_unsynced_bytes(f->spool) > 0);
    tf_spool_sync(f->spool);
    run_until(f, &f->outputs[0].count, 1);
    assert_int_equal(tf_spool_unsynced_bytes(f->spool), 0);
}

static void reopened_spool_feeds_unacked_frames(void **state)
{
    struct fixture *f = *state;
    uint64_t first;

    f->outputs[0].ack = false;
    open_spool(f);
    open_feed(f, 0, &f->match_all, 8);
    append_many(f, "a", 0, 3);
    run_until(f, &f->outputs[0].count, 3);
    first = f->outputs[0].got[0].seq;
    assert_true(tf_feed_ack(f->outputs[0].feed, first));
    assert_false(tf_feed_ack(f->outputs[0].feed, first));
    close_spool(f);
    open_spool(f);
    assert_state(f, "event-2");
    open_feed(f, 0, &f->match_all, 8);
    run_until(f, &f->outputs[0].count, 2);
    assert_string_equal(f->outputs[0].got[0].text, "event-1");
    assert_int_equal(f->outputs[0].got[0].prev, first);
    assert_string_equal(f->outputs[0].got[1].text, "event-2");
    append_many(f, "a", 3, 1);
    run_until(f, &f->outputs[0].count, 3);
    assert_int_equal(TF_SEQ_RUN(f->outputs[0].got[2].seq), 2);
    assert_int_equal(f->outputs[0].got[2].prev, f->outputs[0].got[1].seq);
    assert_books(f, 0);
}

static void acks_out_of_order_move_the_cursor_without_holes(void **state)
{
    struct fixture *f = *state;
    struct tf_feed_status status;
    struct received *got = f->outputs[0].got;

    f->outputs[0].ack = false;
    open_spool(f);
    open_feed(f, 0, &f->match_all, 8);
    append_many(f, "a", 0, 5);
    run_until(f, &f->outputs[0].count, 5);
    assert_true(tf_feed_ack(f->outputs[0].feed, got[2].seq));
    assert_true(tf_feed_ack(f->outputs[0].feed, got[1].seq));
    tf_feed_status(f->outputs[0].feed, &status);
    assert_true(status.cursor_seq < got[0].seq);
    assert_true(tf_feed_reject(f->outputs[0].feed, got[0].seq));
    tf_feed_status(f->outputs[0].feed, &status);
    assert_int_equal(status.cursor_seq, got[2].seq);
    assert_int_equal(status.rejected, 1);
    assert_int_equal(status.pending, 2);
    assert_books(f, 0);
    assert_false(tf_feed_ack(f->outputs[0].feed, 12345));
    tf_feed_rewind(f->outputs[0].feed);
    f->outputs[0].count = 0;
    run_until(f, &f->outputs[0].count, 2);
    assert_string_equal(got[0].text, "event-3");
}

static void two_outputs_go_at_their_own_speed(void **state)
{
    struct fixture *f = *state;
    struct tf_feed_status status;

    f->name_count = 2;
    f->outputs[1].ack = false;
    open_spool(f);
    open_feed(f, 0, &f->match_all, 8);
    open_feed(f, 1, &f->match_b, 2);
    for (uint32_t i = 0; i < 10; i++) {
        append_many(f, i % 2 == 0 ? "a.x" : "b.x", i, 1);
    }
    run_until(f, &f->outputs[0].count, 10);
    run_until(f, &f->outputs[1].count, 2);
    assert_int_equal(f->outputs[1].count, 2); /* its window */
    assert_string_equal(f->outputs[1].got[0].text, "event-1");
    assert_string_equal(f->outputs[1].got[1].text, "event-3");
    assert_int_equal(f->outputs[1].got[1].prev, f->outputs[1].got[0].seq);
    assert_books(f, 1);
    close_spool(f);
    f->outputs[1].ack = true;
    open_spool(f);
    open_feed(f, 0, &f->match_all, 8);
    open_feed(f, 1, &f->match_b, 2);
    run_until(f, &f->outputs[1].count, 5);
    assert_string_equal(f->outputs[1].got[4].text, "event-9");
    run_for(f, 20);
    assert_int_equal(f->outputs[0].count, 0);
    tf_feed_status(f->outputs[1].feed, &status);
    assert_int_equal(status.pending, 0);
    assert_books(f, 1);
}

/* Opens a copy whose newest segment is as a test made it; counts what comes out. */
static void open_copy(struct fixture *f, uint32_t complete, bool *unaltered)
{
    open_spool(f);
    open_feed(f, 0, &f->match_all, 32);
    append_many(f, "a", 1000, 1);
    while (f->outputs[0].count == 0 ||
           strcmp(f->outputs[0].got[f->outputs[0].count - 1].text, "event-1000") != 0) {
        run_until(f, &f->outputs[0].count, f->outputs[0].count + 1);
    }
    *unaltered = true;
    for (uint32_t i = 0; i + 1 < f->outputs[0].count; i++) {
        unsigned number;

        if (!f->outputs[0].got[i].is_gap) {
            *unaltered &=
                sscanf(f->outputs[0].got[i].text, "event-%u", &number) == 1 && number < complete;
        }
    }
    assert_books(f, 0);
}

static size_t read_file(const char *path, uint8_t *to, size_t size)
{
    int fd = open(path, O_RDONLY);
    ssize_t n;

    assert_true(fd >= 0);
    n = read(fd, to, size);
    (void)close(fd);
    assert_true(n > 0);
    return (size_t)n;
}

static void write_file(const char *path, const uint8_t *from, size_t size)
{
    int fd = open(path, O_WRONLY | O_TRUNC);

    assert_true(fd >= 0);
    assert_true(write(fd, from, size) == (ssize_t)size);
    (void)close(fd);
}

/* Where each frame of a segment begins; returns how many. */
static uint32_t find_frames(const uint8_t *bytes, size_t size, size_t *begins, uint32_t max)
{
    struct tf_frame_header header;
    size_t at = TF_SEGMENT_HEADER_BYTES;
    uint32_t count = 0;

    while (count < max && at + 64 <= size && tf_frame_header_decode(bytes + at, &header) == 0) {
        begins[count++] = at;
        at += TF_FRAME_HEADER_BYTES + header.body_bytes + TF_FRAME_TRAILER_BYTES;
    }
    begins[count] = at;
    return count;
}

static void make_master(struct fixture *f, char *master, size_t size)
{
    open_spool(f);
    for (uint32_t i = 0; i < 3; i++) {
        append_many(f, "a", i, 1); /* each synced, so that `durable` moves */
    }
    (void)snprintf(master, size, "%s/master", f->root);
    copy_tree(f->path, master); /* as a crash leaves it: without index */
    close_spool(f);
}

static void a_tail_cut_at_any_byte_is_set_aside(void **state)
{
    struct fixture *f = *state;
    static uint8_t bytes[SEGMENT_BYTES];
    char master[96], file[160];
    size_t begins[8], size;
    uint32_t frames;

    make_master(f, master, sizeof master);
    newest_segment(f, master, file, sizeof file);
    size = read_file(file, bytes, sizeof bytes);
    frames = find_frames(bytes, size, begins, 7);
    assert_int_equal(frames, 4); /* snapshot and three */
    for (size_t cut = begins[3]; cut <= begins[4]; cut++) {
        struct tf_spool_status status;
        char copy[160];
        bool unaltered;
        uint32_t whole = cut == begins[4] ? 3 : 2;

        copy_tree(master, f->path);
        newest_segment(f, f->path, copy, sizeof copy);
        write_file(copy, bytes, cut);
        open_copy(f, whole, &unaltered);
        tf_spool_status(f->spool, &status);
        assert_true(unaltered);
        assert_int_equal(f->outputs[0].count, whole + 1);
        assert_int_equal(status.damaged_frames, 0);
        assert_true(status.torn_bytes <= cut - begins[whole + 1]);
        assert_true(cut == begins[whole + 1] || status.torn_bytes > 0);
        close_spool(f);
    }
}

static void a_flipped_byte_is_told_and_alters_nothing(void **state)
{
    struct fixture *f = *state;
    static uint8_t bytes[SEGMENT_BYTES];
    char master[96], file[160];
    size_t begins[8], size;

    make_master(f, master, sizeof master);
    newest_segment(f, master, file, sizeof file);
    size = read_file(file, bytes, sizeof bytes);
    assert_int_equal(find_frames(bytes, size, begins, 7), 4);
    for (uint32_t frame = 0; frame < 4; frame++) {
        size_t step = frame == 1 ? 1 : 7; /* every byte of one in the middle, samples of others */

        for (size_t at = begins[frame]; at < begins[frame + 1]; at += step) {
            struct tf_spool_status status;
            char copy[160];
            bool unaltered, rot = frame < 3; /* a later frame says that it was durable */
            uint32_t gaps = 0, good = frame == 0 ? 3 : 2;

            copy_tree(master, f->path);
            newest_segment(f, f->path, copy, sizeof copy);
            bytes[at] ^= 0x41;
            write_file(copy, bytes, size);
            bytes[at] ^= 0x41;
            open_copy(f, 3, &unaltered);
            tf_spool_status(f->spool, &status);
            assert_true(unaltered);
            for (uint32_t i = 0; i < f->outputs[0].count; i++) {
                gaps += f->outputs[0].got[i].is_gap;
            }
            assert_int_equal(gaps, rot);
            assert_int_equal(f->outputs[0].count, good + gaps + 1);
            assert_int_equal(status.damaged_frames, rot);
            if (rot) {
                assert_int_equal(status.torn_bytes, 0);
            } else { /* one less when the last byte became zero: nothing seems written there */
                assert_in_range(status.torn_bytes, begins[4] - begins[3] - 1,
                                begins[4] - begins[3]);
            }
            close_spool(f);
        }
    }
}

static void failed_call_begins_a_new_run(struct fixture *f, atomic_int *fault)
{
    uint64_t seen[DONES_MAX];
    uint32_t count = 0;

    open_spool(f);
    open_feed(f, 0, &f->match_all, 8);
    append_many(f, "a", 0, 3);
    run_until(f, &f->outputs[0].count, 3);
    atomic_store(fault, 1);
    append_many(f, "a", 3, 2);
    assert_int_equal(f->durables, 3);
    assert_int_equal(f->cancels, 2);
    assert_int_equal(f->new_runs, 1);
    assert_state(f, "event-2"); /* back to what is durable */
    append_many(f, "a", 3, 2);
    run_until(f, &f->outputs[0].count, 5);
    assert_int_equal(f->cancels, 2);
    assert_string_equal(f->outputs[0].got[3].text, "event-3");
    assert_int_equal(TF_SEQ_RUN(f->outputs[0].got[3].seq), 2);
    assert_int_equal(f->outputs[0].got[3].prev, f->outputs[0].got[2].seq);
    for (uint32_t i = 0; i < 5; i++) {
        for (uint32_t k = 0; k < count; k++) {
            assert_true(seen[k] != f->outputs[0].got[i].seq);
        }
        seen[count++] = f->outputs[0].got[i].seq;
    }
    assert_books(f, 0);
    close_spool(f);
    open_spool(f); /* and what lies on disk says the same */
    assert_state(f, "event-4");
    f->names[0] = "fresh";
    close_spool(f);
    open_spool(f);
    open_feed(f, 0, &f->match_all, 8);
    run_for(f, 50);
    for (uint32_t i = 0; i < f->outputs[0].count; i++) {
        assert_false(f->outputs[0].got[i].is_gap && i > 0);
    }
}

static void a_failed_write_begins_a_new_run(void **state)
{
    failed_call_begins_a_new_run(*state, &fail_write_in);
}

static void a_failed_sync_begins_a_new_run(void **state)
{
    failed_call_begins_a_new_run(*state, &fail_sync_in);
}

/* 64 KiB that do not compress, with the number in front. */
static void append_large(struct fixture *f, uint32_t number)
{
    static uint8_t noise[65536];
    uint32_t x = number * 2654435761u + 1;
    char text[TEXT_MAX];

    for (size_t i = 0; i < sizeof noise; i++) {
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        noise[i] = (uint8_t)x;
    }
    memset(noise, 0, TEXT_MAX);
    (void)snprintf(text, sizeof text, "event-%u", number);
    memcpy(noise, text, strlen(text));
    append_bytes(f, "a", text, noise, sizeof noise);
}

/* The ids of a segment, and of the one that it builds on, as docs/spool-format.md has them. */
static void read_ids(const struct fixture *f, uint32_t no, uint8_t own[16], uint8_t before[16])
{
    char path[PATH_MAX];
    int fd;

    (void)snprintf(path, sizeof path, "%s/%020u.seg", f->path, no);
    fd = open(path, O_RDONLY);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, own, 16, 32), 16);
    assert_int_equal(pread(fd, before, 16, 96), 16);
    (void)close(fd);
}

/* The table of segments is moved when it grows; the header of the new one is made meanwhile. */
static void each_of_many_segments_names_the_one_before(void **state)
{
    struct fixture *f = *state;
    uint8_t own[16], before[16], last[16];

    open_spool(f);
    f->spool->options.segment_size_bytes = 4096; /* no more than a frame in each */
    for (uint32_t i = 0; i < MANY_SEGMENTS; i++) {
        append_many(f, "a", i, 1);
    }
    assert_true(f->spool->segment_count >= MANY_SEGMENTS);
    read_ids(f, 1, last, before);
    for (uint32_t no = 2; no <= MANY_SEGMENTS; no++) {
        read_ids(f, no, own, before);
        assert_memory_equal(before, last, sizeof before);
        memcpy(last, own, sizeof last);
    }
}

static void segments_roll_are_read_back_and_deleted(void **state)
{
    struct fixture *f = *state;
    struct tf_spool_status status;
    struct tf_slice values[TF_STATE_LIST_MAX];
    uint32_t total = 200;

    f->outputs[0].ack = false;
    open_spool(f);
    open_feed(f, 0, &f->match_all, 4);
    for (uint32_t i = 0; i < total; i++) {
        append_large(f, i);
        if (i % 10 == 9) {
            tf_spool_sync(f->spool);
            run_until(f, &f->dones, i + 1);
        }
    }
    tf_spool_status(f->spool, &status);
    assert_true(status.segments > 10);
    assert_true(status.bytes_pending > total * 65536u);
    assert_int_equal(status.pending_events, total);
    assert_books(f, 0);
    for (uint32_t i = 0; i < f->outputs[0].count; i++) {
        assert_true(tf_feed_ack(f->outputs[0].feed, f->outputs[0].got[i].seq));
    }
    f->outputs[0].ack = true;
    run_until(f, &f->outputs[0].count, total); /* most of it from disk: the cache has 8 MiB */
    for (uint32_t i = 0; i < total; i++) {
        char text[TEXT_MAX];

        (void)snprintf(text, sizeof text, "event-%u", i);
        assert_string_equal(f->outputs[0].got[i].text, text);
        assert_int_equal(f->outputs[0].got[i].prev, i == 0 ? 0 : f->outputs[0].got[i - 1].seq);
    }
    assert_books(f, 0);
    for (unsigned i = 0; status.segments > 1 && i < 200; i++) { /* cursor saved, then deleted */
        run_for(f, 100);
        tf_spool_status(f->spool, &status);
    }
    assert_int_equal(status.segments, 1);
    assert_int_equal(status.bytes_pending, 0);
    assert_int_equal(tf_state_list(f->spool, tf_slice_text("list"), values), TF_STATE_LIST_MAX);
    close_spool(f);
    open_spool(f);
    assert_state(f, "event-199");
    assert_int_equal(tf_state_list(f->spool, tf_slice_text("list"), values), TF_STATE_LIST_MAX);
    assert_memory_equal(values[0].data, "event-136", 9);
}

static void a_segment_that_cannot_be_made_loses_nothing(void **state)
{
    struct fixture *f = *state;
    struct tf_spool_status status;

    open_spool(f);
    open_feed(f, 0, &f->match_all, 8);
    atomic_store(&fail_allocate_in, 1);
    for (uint32_t i = 0; i < 30; i++) {
        append_large(f, i);
    }
    tf_spool_sync(f->spool);
    for (unsigned i = 0; i < 100 && tf_spool_has_room(f->spool); i++) {
        run_for(f, 300);
    }
    assert_false(tf_spool_has_room(f->spool)); /* a full disk: wait, and try again */
    assert_true(f->dones < 30);
    run_until(f, &f->outputs[0].count, 30);
    assert_int_equal(f->durables, 30);
    assert_int_equal(f->new_runs, 0);
    assert_true(tf_spool_has_room(f->spool));
    tf_spool_status(f->spool, &status);
    assert_int_equal(status.error, 0);
    assert_string_equal(f->outputs[0].got[29].text, "event-29");
    assert_books(f, 0);
    close_spool(f);
    atomic_store(&fail_allocate_in, 1); /* a start on a full disk sends what is kept */
    open_spool(f);
    assert_false(tf_spool_has_room(f->spool));
    assert_state(f, "event-29");
    append_many(f, "a", 30, 1);
    assert_int_equal(f->cancels, 0);
}

static void file_cursors_count_when_saved(void **state)
{
    struct fixture *f = *state;
    struct tf_file_cursor file = {.device = 7, .inode = 8, .length = 900}, saved;
    struct tf_feed_status status;
    uint64_t seq;

    f->outputs[0].ack = false;
    open_spool(f);
    open_feed(f, 0, &f->match_all, 8);
    append_many(f, "a", 0, 3);
    run_until(f, &f->outputs[0].count, 3);
    assert_false(tf_feed_saved_file(f->outputs[0].feed, &saved, &seq));
    tf_feed_save_file(f->outputs[0].feed, f->outputs[0].got[1].seq, &file, NULL, NULL);
    tf_feed_status(f->outputs[0].feed, &status);
    assert_int_equal(status.acked, 0);
    for (unsigned i = 0; status.acked == 0 && i < 200; i++) {
        run_for(f, 100);
        tf_feed_status(f->outputs[0].feed, &status);
    }
    assert_int_equal(status.acked, 2);
    assert_int_equal(status.saved_seq, f->outputs[0].got[1].seq);
    close_spool(f);
    open_spool(f);
    open_feed(f, 0, &f->match_all, 8);
    assert_true(tf_feed_saved_file(f->outputs[0].feed, &saved, &seq));
    assert_int_equal(saved.length, 900);
    run_until(f, &f->outputs[0].count, 1);
    assert_string_equal(f->outputs[0].got[0].text, "event-2");
}

static void the_key_decides(void **state)
{
    struct fixture *f = *state;
    char key[96];
    struct stat st;
    struct tf_error err;

    open_spool(f);
    append_many(f, "a", 0, 1);
    assert_int_equal(try_open(&(struct fixture){.loop = f->loop, .options = f->options}), -EBUSY);
    close_spool(f);
    (void)snprintf(key, sizeof key, "%s.key", f->path);
    assert_int_equal(stat(key, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(chmod(key, 0644), 0);
    assert_int_equal(try_open(f), -EINVAL);
    assert_int_equal(unlink(key), 0);
    assert_int_equal(try_open(f), -EINVAL); /* missing: none is made */
    assert_int_equal(access(key, F_OK), -1);
    f->options.path.text = f->path;
    tf_error_init(&err);
    assert_int_equal(tf_spool_check(&f->options, &err), -EINVAL);
    tf_error_fini(&err);
    f->spool = NULL;
}

static void a_full_spool_says_so(void **state)
{
    struct fixture *f = *state;

    f->outputs[0].ack = false;
    f->options.max_size_bytes = 200000;
    open_spool(f);
    open_feed(f, 0, &f->match_all, 8);
    assert_true(tf_spool_has_room(f->spool));
    for (uint32_t i = 0; i < 4; i++) {
        append_large(f, i);
    }
    tf_spool_sync(f->spool);
    run_until(f, &f->dones, 4);
    assert_false(tf_spool_has_room(f->spool));
    run_until(f, &f->outputs[0].count, 4);
    for (uint32_t i = 0; i < 4; i++) {
        assert_true(tf_feed_ack(f->outputs[0].feed, f->outputs[0].got[i].seq));
    }
    for (unsigned i = 0; !tf_spool_has_room(f->spool) && i < 200; i++) {
        run_for(f, 50);
    }
    assert_true(tf_spool_has_room(f->spool));
}

#ifdef TF_TEST_HOOKS
/* ---- kills: this program again, as a writer that dies at a crash point ---------------------- */

#define WRITER_BURST 8u

/* A source whose position is "pos", and a receiver that keeps what it got in the file "received",
 * NAME NUMBER a line, before it acks. */
struct writer {
    struct fixture f;
    int received_fd;
    uint32_t next;
};

static void on_writer_ready(void *ctx)
{
    struct writer *w = ctx;
    struct tf_frame *frame;

    while (tf_feed_next(w->f.outputs[0].feed, &frame) == 0) {
        char text[TEXT_MAX], line[128];
        int at = 0;

        unpack(frame->payload, text);
        for (uint32_t i = 0; i < TF_FRAME_NAME_BYTES; i++) {
            at += snprintf(line + at, sizeof line - (size_t)at, "%02x", frame->chain[i]);
        }
        at += snprintf(line + at, sizeof line - (size_t)at, " %s\n",
                       frame->is_gap_span ? "gap" : text);
        assert_true(write(w->received_fd, line, (size_t)at) == at);
        (void)tf_feed_ack(w->f.outputs[0].feed, frame->seq);
        tf_frame_unref(frame);
    }
}

static int writer_main(const char *root, uint32_t target)
{
    static struct writer w;
    struct fixture *f = &w.f;
    struct tf_feed_options feed = {
        .name = "one", .window = 8, .unsaved_max = 64, .on_ready = on_writer_ready, .ctx = &w};
    struct tf_feed_status status;
    struct tf_slice value;
    char path[96];

    (void)snprintf(f->path, sizeof f->path, "%s/spool", root);
    f->options = (struct tf_spool_options){.path = {.text = f->path},
                                           .max_size_bytes = UINT64_C(1) << 30,
                                           .sync = {TF_SYNC_INTERVAL, 200},
                                           .segment_size_bytes = SEGMENT_BYTES};
    (void)snprintf(path, sizeof path, "%s/received", root);
    w.received_fd = open(path, O_WRONLY | O_CREAT | O_APPEND, 0600);
    f->names[0] = "one";
    f->name_count = 1;
    f->match_items[0] = (struct tf_text){.text = "**"};
    f->match_all = (struct tf_texts){.items = &f->match_items[0], .count = 1};
    feed.match = &f->match_all;
    tf_log_configure(TF_LOG_ERROR + 1, TF_LOG_LOGFMT);
    if (w.received_fd < 0 || uv_loop_init(&f->loop) != 0 || try_open(f) < 0 ||
        tf_feed_open(f->spool, &feed, &f->outputs[0].feed) < 0) {
        return 1;
    }
    if (tf_state_get(f->spool, tf_slice_text("pos"), &value) &&
        sscanf(value.data, "event-%u", &w.next) == 1) {
        w.next++;
    }
    do {
        for (uint32_t i = 0; i < WRITER_BURST && w.next < target && f->dones + 16 > f->taken; i++) {
            append_large(f, w.next++);
            f->taken++;
        }
        tf_spool_sync(f->spool);
        (void)uv_run(&f->loop, UV_RUN_ONCE);
        tf_feed_status(f->outputs[0].feed, &status);
    } while (w.next < target || f->dones < f->taken || status.pending > 0);
    tf_feed_close(f->outputs[0].feed);
    tf_spool_close(f->spool, on_closed, f);
    while (!f->closed) {
        (void)uv_run(&f->loop, UV_RUN_ONCE);
    }
    (void)uv_loop_close(&f->loop);
    return 0;
}

static bool run_writer(const struct fixture *f, const char *crash, uint32_t target)
{
    char number[16];
    int status = 0;
    pid_t pid = fork();

    (void)snprintf(number, sizeof number, "%u", target);
    if (pid == 0) {
        if (crash != NULL) {
            (void)setenv("TAFFRAIL_CRASH", crash, 1);
        }
        (void)execl("/proc/self/exe", "test_spool", "--writer", f->root, number, (char *)NULL);
        _exit(9);
    }
    assert_true(pid > 0 && waitpid(pid, &status, 0) == pid);
    assert_true(WIFSIGNALED(status) ? WTERMSIG(status) == SIGKILL : WEXITSTATUS(status) == 0);
    return WIFSIGNALED(status);
}

/* Each number is there once: a repeat has the name of the frame it repeats. */
static void check_received(const struct fixture *f, uint32_t target)
{
    static char names[4096][40];
    char path[96], name[40], text[TEXT_MAX];
    uint32_t count = 0;
    FILE *file;

    (void)snprintf(path, sizeof path, "%s/received", f->root);
    file = fopen(path, "r");
    assert_non_null(file);
    memset(names, 0, sizeof names);
    while (fscanf(file, "%39s %63s", name, text) == 2) {
        unsigned number = 4096;

        assert_int_equal(sscanf(text, "event-%u", &number), 1); /* no gap either */
        assert_true(number < target && number < 4096);
        if (names[number][0] != '\0') {
            assert_string_equal(names[number], name);
        } else {
            assert_int_equal(number, count); /* in order, too */
            (void)snprintf(names[number], sizeof names[number], "%s", name);
            count++;
        }
    }
    (void)fclose(file);
    assert_int_equal(count, target);
}

static void a_kill_at_any_step_loses_and_doubles_nothing(void **state)
{
    static const char *const points[] = {"frame.half",   "frame.written",   "sync.begun",
                                         "sync.done",    "roll.old_synced", "roll.created",
                                         "roll.header",  "roll.synced",     "start.folded",
                                         "start.synced", "cursor.written",  "cursor.synced"};
    struct fixture *f = *state;
    uint32_t target = 0, kills = 0;

    for (uint32_t i = 0; i < TF_COUNT(points); i++) {
        for (uint32_t n = 1; n <= 3; n++) {
            char crash[64];

            (void)snprintf(crash, sizeof crash, "%s:%u", points[i], n);
            target += 40;
            kills += run_writer(f, crash, target);
        }
    }
    assert_true(kills >= 30); /* start.* are passed once in a start */
    assert_false(run_writer(f, NULL, target));
    check_received(f, target);
}
#endif

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(frames_come_out_in_order_with_their_bytes, setup, teardown),
        cmocka_unit_test_setup_teardown(a_payload_has_the_memory_of_an_earlier_one, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(the_page_alone_reads_a_spool, setup, teardown),
        cmocka_unit_test_setup_teardown(nothing_leaves_before_it_is_synced, setup, teardown),
        cmocka_unit_test_setup_teardown(reopened_spool_feeds_unacked_frames, setup, teardown),
        cmocka_unit_test_setup_teardown(acks_out_of_order_move_the_cursor_without_holes, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(two_outputs_go_at_their_own_speed, setup, teardown),
        cmocka_unit_test_setup_teardown(a_tail_cut_at_any_byte_is_set_aside, setup, teardown),
        cmocka_unit_test_setup_teardown(a_flipped_byte_is_told_and_alters_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(a_failed_write_begins_a_new_run, setup, teardown),
        cmocka_unit_test_setup_teardown(a_failed_sync_begins_a_new_run, setup, teardown),
        cmocka_unit_test_setup_teardown(segments_roll_are_read_back_and_deleted, setup, teardown),
        cmocka_unit_test_setup_teardown(each_of_many_segments_names_the_one_before, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_segment_that_cannot_be_made_loses_nothing, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(file_cursors_count_when_saved, setup, teardown),
        cmocka_unit_test_setup_teardown(the_key_decides, setup, teardown),
        cmocka_unit_test_setup_teardown(a_full_spool_says_so, setup, teardown),
#ifdef TF_TEST_HOOKS
        cmocka_unit_test_setup_teardown(a_kill_at_any_step_loses_and_doubles_nothing, setup,
                                        teardown),
#endif
    };

#ifdef TF_TEST_HOOKS
    if (argc == 4 && strcmp(argv[1], "--writer") == 0) {
        return writer_main(argv[2], (uint32_t)strtoul(argv[3], NULL, 10));
    }
#endif
    (void)argc;
    (void)argv;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
