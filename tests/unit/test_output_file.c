/*
 * test_output_file.c - the file output writes each record exactly once, the stdout output at least
 * once: over restarts, kills, failed calls, renamed, shortened and replaced files.
 *
 * The spool is a real one. pwrite, fdatasync and ftruncate are defined here, before libc's, so that
 * one of them fails on one named file when a test says so.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <zlib.h>

#include "../../outputs/printer.h"

#include "taffrail/event.h"
#include "taffrail/log.h"
#include "taffrail/output.h"

#define DEADLINE_MS  20000u
#define PATH_BYTES   128u
#define NUMBERS_MAX  4096u
#define FILE_MAX     (4u << 20)
#define OPTIONS_MAX  256u
#define SPOOL_BYTES  (1u << 20)
#define FRAME_EVENTS 5u

/* ---- faults --------------------------------------------------------------------------------- */

enum call { CALL_NONE, CALL_WRITE, CALL_SHORT, CALL_SYNC, CALL_CUT };

/* The next such call on a file whose name ends so fails, once. */
static atomic_int fail_call;
static const char *fail_file;

static bool fails_now(enum call call, int fd)
{
    char link[64], target[PATH_BYTES * 2];
    int wanted = (int)call;
    ssize_t size;
    size_t end;

    if (atomic_load(&fail_call) != wanted) {
        return false;
    }
    (void)snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    size = readlink(link, target, sizeof target);
    end = strlen(fail_file);
    return size >= (ssize_t)end && memcmp(target + size - end, fail_file, end) == 0 &&
           atomic_compare_exchange_strong(&fail_call, &wanted, CALL_NONE);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t offset)
{
    if (fails_now(CALL_WRITE, fd)) {
        (void)syscall(SYS_pwrite64, fd, data, size / 3, offset); /* some of it gets there */
        errno = ENOSPC;
        return -1;
    }
    if (fails_now(CALL_SHORT, fd)) {
        size /= 2;
    }
    return syscall(SYS_pwrite64, fd, data, size, offset);
}

int fdatasync(int fd)
{
    if (fails_now(CALL_SYNC, fd)) {
        errno = EIO;
        return -1;
    }
    return (int)syscall(SYS_fdatasync, fd);
}

int ftruncate(int fd, off_t size)
{
    if (fails_now(CALL_CUT, fd)) {
        errno = EIO;
        return -1;
    }
    return (int)syscall(SYS_ftruncate, fd, size);
}

static void fail_next(enum call call, const char *file)
{
    fail_file = file;
    atomic_store(&fail_call, call);
}

/* ---- fixture -------------------------------------------------------------------------------- */

struct fixture {
    uv_loop_t loop;
    uv_timer_t deadline;
    bool late;
    char root[64], spool_path[PATH_BYTES], file[PATH_BYTES], other[PATH_BYTES];
    struct tf_spool_options spool_options;
    struct tf_text match_item;
    struct tf_texts match;
    const struct tf_output_kind *kind;
    _Alignas(16) char options[OPTIONS_MAX];
    struct tf_spool *spool;
    struct tf_feed *feed;
    void *self;
    bool output_closed, spool_closed;
    uint32_t taken, dones;
    uint32_t next; /* number of the next event */
    int saved_stdout, pipe_end;
};

static void on_deadline(uv_timer_t *timer)
{
    ((struct fixture *)timer->data)->late = true;
}

/* Turns the loop until reached says so, or the deadline; says whether it was reached. */
static bool turn(struct fixture *f, bool (*reached)(const struct fixture *f), uint64_t ms)
{
    bool is_reached;

    f->late = false;
    (void)uv_timer_start(&f->deadline, on_deadline, ms, 0);
    while (!(is_reached = reached(f)) && !f->late) {
        (void)uv_run(&f->loop, UV_RUN_ONCE);
    }
    (void)uv_timer_stop(&f->deadline);
    return is_reached;
}

static void run_until(struct fixture *f, bool (*reached)(const struct fixture *f))
{
    assert_true(turn(f, reached, DEADLINE_MS));
}

static bool never(const struct fixture *f)
{
    (void)f;
    return false;
}

static bool all_done(const struct fixture *f)
{
    return f->dones == f->taken;
}

static bool is_delivered(const struct fixture *f)
{
    struct tf_feed_status status;

    tf_feed_status(f->feed, &status);
    return f->dones == f->taken && status.pending == 0;
}

static bool is_up(const struct fixture *f)
{
    struct tf_output_status status;

    f->kind->status(f->self, &status);
    return status.up;
}

static bool is_down(const struct fixture *f)
{
    return !is_up(f);
}

static bool is_output_closed(const struct fixture *f)
{
    return f->output_closed;
}

static bool is_spool_closed(const struct fixture *f)
{
    return f->spool_closed;
}

static void *option_at(struct fixture *f, const char *name)
{
    const struct tf_option *option = f->kind->options;

    while (option->name != NULL && strcmp(option->name, name) != 0) {
        option++;
    }
    assert_non_null(option->name);
    assert_true(option->offset + sizeof(struct tf_text) <= sizeof f->options + 32);
    return f->options + option->offset;
}

static void use_file(struct fixture *f, const char *path, uint64_t mode)
{
    struct tf_text text = {.text = path};

    f->kind = &tf_output_file;
    assert_true(f->kind->options_bytes <= sizeof f->options);
    memcpy(option_at(f, "path"), &text, sizeof text);
    memcpy(option_at(f, "mode"), &mode, sizeof mode);
}

static void use_stdout(struct fixture *f, int format)
{
    f->kind = &tf_output_stdout;
    assert_true(f->kind->options_bytes <= sizeof f->options);
    memcpy(option_at(f, "format"), &format, sizeof format);
}

static int new_output(struct fixture *f)
{
    struct tf_output_args args = {.name = "one", .options = f->options, .loop = &f->loop};
    struct tf_error err;
    int rc;

    tf_error_init(&err);
    rc = f->kind->open(&args, &f->self, &err);
    if (rc < 0 && rc != -ENOMEM) {
        assert_int_equal(err.errors, 1);
    }
    tf_error_fini(&err);
    return rc;
}

static void on_ready(void *ctx)
{
    struct fixture *f = ctx;

    f->kind->wake(f->self);
}

static int start_all(struct fixture *f)
{
    static const char *const names[] = {"one"};
    const struct tf_spool_callbacks callbacks = {.ctx = f};
    struct tf_feed_options feed = {
        .name = "one", .match = &f->match, .on_ready = on_ready, .ctx = f};
    struct tf_error err;
    int rc;

    tf_error_init(&err);
    rc = tf_spool_open(&f->loop, &f->spool_options, names, 1, &callbacks, &f->spool, &err);
    feed.window = f->kind->window;
    feed.unsaved_max = f->kind->unsaved_max;
    if (rc == 0) {
        rc = tf_feed_open(f->spool, &feed, &f->feed);
    }
    if (rc == 0) {
        rc = f->kind->start(f->self, f->feed, &err);
    }
    tf_error_fini(&err);
    return rc;
}

static void open_all(struct fixture *f)
{
    assert_int_equal(new_output(f), 0);
    assert_int_equal(start_all(f), 0);
}

static void on_output_closed(void *ctx)
{
    struct fixture *f = ctx;

    tf_feed_close(f->feed);
    f->feed = NULL;
    f->self = NULL;
    f->output_closed = true;
}

static void on_spool_closed(void *ctx)
{
    ((struct fixture *)ctx)->spool_closed = true;
}

static void close_all(struct fixture *f)
{
    f->output_closed = f->spool_closed = false;
    f->kind->close(f->self, on_output_closed, f);
    run_until(f, is_output_closed);
    if (f->spool != NULL) {
        tf_spool_close(f->spool, on_spool_closed, f);
        f->spool = NULL;
        run_until(f, is_spool_closed);
    }
}

static void on_done(void *ctx, int status, uint64_t seq)
{
    (void)seq;
    if (status == 0) {
        ((struct fixture *)ctx)->dones++;
    }
}

/* [EventTime, {log: text, pad: …}] with pad_bytes of padding. */
static void put_event(struct tf_buf *out, const char *text, size_t pad_bytes)
{
    static const uint8_t time[] = {0xd7, 0, 0x67, 0, 0, 0, 0, 0, 0, 0};
    char *pad = calloc(1, pad_bytes + 1);

    assert_non_null(pad);
    memset(pad, 'x', pad_bytes);
    tf_msgpack_array(out, 2);
    (void)tf_buf_append(out, time, sizeof time);
    tf_msgpack_map(out, pad_bytes > 0 ? 2 : 1);
    if (pad_bytes > 0) {
        tf_msgpack_text(out, tf_slice_text("pad"));
        tf_msgpack_text(out, tf_slice(pad, pad_bytes));
    }
    tf_msgpack_text(out, tf_slice_text("log"));
    tf_msgpack_text(out, tf_slice_text(text));
    free(pad);
}

static void append_payload(struct fixture *f, struct tf_buf *payload, uint32_t events)
{
    struct tf_frame_draft draft = {.type = TF_FRAME_DATA,
                                   .tag = "a",
                                   .time_min_ns = 1,
                                   .time_max_ns = 2,
                                   .events = events,
                                   .payload = *payload,
                                   .done = on_done,
                                   .ctx = f};
    char position[32];

    (void)snprintf(position, sizeof position, "event-%u", f->next);
    tf_buf_init(&draft.deltas, TF_DRAFT_DELTAS_MAX);
    tf_delta_append(&draft.deltas, TF_DELTA_SET, tf_slice_text("pos"), tf_slice_text(position));
    assert_int_equal(tf_spool_append(f->spool, &draft), 0);
    f->taken++;
}

static void append_frame(struct fixture *f, uint32_t events, size_t pad_bytes)
{
    struct tf_buf payload;

    tf_buf_init(&payload, TF_DRAFT_PAYLOAD_MAX);
    for (uint32_t i = 0; i < events; i++) {
        char text[32];

        (void)snprintf(text, sizeof text, "event-%u", f->next++);
        put_event(&payload, text, pad_bytes);
    }
    assert_int_equal(payload.error, 0);
    append_payload(f, &payload, events);
}

static void append_frames(struct fixture *f, uint32_t frames)
{
    for (uint32_t i = 0; i < frames; i++) {
        append_frame(f, FRAME_EVENTS, 0);
    }
    tf_spool_sync(f->spool);
    run_until(f, all_done);
}

static void deliver(struct fixture *f, uint32_t frames)
{
    append_frames(f, frames);
    run_until(f, is_delivered);
}

static size_t read_file(const char *path, char *to, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    size_t have = 0;
    ssize_t n = 1;

    assert_true(fd >= 0);
    while (n > 0 && have < size) {
        n = read(fd, to + have, size - have);
        have += n > 0 ? (size_t)n : 0;
    }
    (void)close(fd);
    assert_int_equal(n, 0);
    return have;
}

/* The lines are whole and are events from..to-1, in order, each once. */
static void assert_lines(const char *text, size_t size, uint32_t from, uint32_t to)
{
    size_t at = 0;

    for (uint32_t number = from; number < to; number++) {
        const char *end = memchr(text + at, '\n', size - at);
        char wanted[32];
        int wanted_size = snprintf(wanted, sizeof wanted, "event-%u\"", number);

        assert_non_null(end);
        assert_int_equal(text[at], '{');
        assert_int_equal(end[-1], '}');
        assert_non_null(memmem(text + at, (size_t)(end - text) - at, wanted, (size_t)wanted_size));
        at = (size_t)(end - text) + 1;
    }
    assert_int_equal(at, size);
}

static void assert_file(const char *path, uint32_t from, uint32_t to)
{
    static char text[FILE_MAX];

    assert_lines(text, read_file(path, text, sizeof text), from, to);
}

static void add_to_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    (void)close(fd);
}

static off_t size_of(const char *path)
{
    struct stat st;

    assert_int_equal(stat(path, &st), 0);
    return st.st_size;
}

static void set_paths(struct fixture *f)
{
    (void)snprintf(f->spool_path, sizeof f->spool_path, "%s/spool", f->root);
    (void)snprintf(f->file, sizeof f->file, "%s/out.ndjson", f->root);
    (void)snprintf(f->other, sizeof f->other, "%s/out.ndjson.1", f->root);
    f->spool_options = (struct tf_spool_options){.path = {.text = f->spool_path},
                                                 .max_size_bytes = UINT64_C(1) << 30,
                                                 .sync = {TF_SYNC_INTERVAL, 50},
                                                 .segment_size_bytes = SPOOL_BYTES};
    f->match_item = (struct tf_text){.text = "**"};
    f->match = (struct tf_texts){.items = &f->match_item, .count = 1};
    f->saved_stdout = f->pipe_end = -1;
    use_file(f, f->file, 0640);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);

    if (f == NULL) {
        return -1;
    }
    (void)snprintf(f->root, sizeof f->root, "/tmp/test_output.XXXXXX");
    if (mkdtemp(f->root) == NULL || uv_loop_init(&f->loop) != 0) {
        return -1;
    }
    (void)uv_timer_init(&f->loop, &f->deadline);
    f->deadline.data = f;
    set_paths(f);
    tf_log_configure(TF_LOG_ERROR + 1, TF_LOG_LOGFMT);
    atomic_store(&fail_call, CALL_NONE);
    *state = f;
    return 0;
}

static void restore_stdout(struct fixture *f)
{
    if (f->saved_stdout >= 0) {
        (void)dup2(f->saved_stdout, STDOUT_FILENO);
        (void)close(f->saved_stdout);
        f->saved_stdout = -1;
    }
    if (f->pipe_end >= 0) {
        (void)close(f->pipe_end);
        f->pipe_end = -1;
    }
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    char command[128];
    int rc;

    restore_stdout(f);
    if (f->self != NULL) {
        close_all(f);
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

/* ---- the file ------------------------------------------------------------------------------- */

static void each_record_is_there_once(void **state)
{
    struct fixture *f = *state;
    struct tf_feed_status status;
    struct stat st;
    mode_t mask = umask(077);

    open_all(f);
    (void)umask(mask);
    deliver(f, 30);
    assert_true(is_up(f));
    tf_feed_status(f->feed, &status);
    assert_int_equal(status.acked, f->next);
    assert_int_equal(status.rejected, 0);
    assert_int_equal(stat(f->file, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0640); /* whatever the umask */
    close_all(f);
    assert_file(f->file, 0, f->next);
    open_all(f);
    deliver(f, 3);
    close_all(f);
    assert_file(f->file, 0, f->next);
}

static void a_backlog_is_written_in_batches(void **state)
{
    struct fixture *f = *state;

    open_all(f);
    close_all(f);
    assert_int_equal(size_of(f->file), 0); /* made at the start, without a record */
    open_all(f);
    for (uint32_t i = 0; i < 12; i++) {
        append_frame(f, 3, 70000); /* lines that lie over the steps of the inflater */
    }
    deliver(f, 1);
    close_all(f);
    assert_file(f->file, 0, f->next);
}

static void what_was_not_saved_is_cut_at_a_start(void **state)
{
    struct fixture *f = *state;

    open_all(f);
    deliver(f, 2);
    close_all(f);
    add_to_file(f->file, "{\"log\":\"event-10\"}\n{\"log\":\"unfin");
    open_all(f);
    deliver(f, 1);
    close_all(f);
    assert_file(f->file, 0, f->next);
}

static void text_of_others_is_cut_while_running(void **state)
{
    struct fixture *f = *state;

    open_all(f);
    deliver(f, 2);
    add_to_file(f->file, "echo was here\n");
    deliver(f, 2);
    close_all(f);
    assert_file(f->file, 0, f->next);
}

static void a_renamed_file_is_left_and_a_new_one_made(void **state)
{
    struct fixture *f = *state;
    uint32_t first;

    open_all(f);
    deliver(f, 3);
    first = f->next;
    assert_int_equal(rename(f->file, f->other), 0);
    deliver(f, 3);
    close_all(f);
    assert_file(f->other, 0, first);
    assert_file(f->file, first, f->next);
}

static void a_file_renamed_between_two_runs_is_found(void **state)
{
    struct fixture *f = *state;
    uint32_t first;

    open_all(f);
    deliver(f, 3);
    close_all(f);
    first = f->next;
    add_to_file(f->file, "{\"log\":\"unfinished"); /* as a kill leaves it */
    assert_int_equal(rename(f->file, f->other), 0);
    open_all(f);
    deliver(f, 3);
    close_all(f);
    assert_file(f->other, 0, first);
    assert_file(f->file, first, f->next);
}

static void a_file_that_is_gone_is_made_again(void **state)
{
    struct fixture *f = *state;
    uint32_t first;

    open_all(f);
    deliver(f, 2);
    first = f->next;
    assert_int_equal(unlink(f->file), 0);
    deliver(f, 2);
    close_all(f);
    assert_file(f->file, first, f->next);
    first = f->next;
    assert_int_equal(rename(f->file, f->other), 0);
    add_to_file(f->file, ""); /* another inode, while the first lives */
    assert_int_equal(unlink(f->other), 0);
    open_all(f);
    deliver(f, 2);
    close_all(f);
    assert_file(f->file, first, f->next);
}

static void lines_go_behind_what_others_wrote(void **state)
{
    struct fixture *f = *state;
    static char text[FILE_MAX];
    const char *before = "not ours, and no newline";
    size_t size;

    add_to_file(f->file, before);
    open_all(f);
    deliver(f, 2);
    close_all(f);
    add_to_file(f->file, "unfinished");
    open_all(f);
    deliver(f, 2);
    close_all(f);
    size = read_file(f->file, text, sizeof text);
    assert_memory_equal(text, before, strlen(before));
    assert_int_equal(text[strlen(before)], '\n');
    assert_lines(text + strlen(before) + 1, size - strlen(before) - 1, 0, f->next);
}

static void a_shortened_file_is_not_filled_up(void **state)
{
    struct fixture *f = *state;
    static char text[FILE_MAX];
    uint32_t first;
    size_t size;

    open_all(f);
    deliver(f, 2);
    close_all(f);
    first = f->next;
    assert_int_equal(truncate(f->file, 10), 0);
    open_all(f);
    deliver(f, 1);
    close_all(f);
    size = read_file(f->file, text, sizeof text);
    assert_null(memchr(text, '\0', size));
    assert_int_equal(text[10], '\n');
    assert_lines(text + 11, size - 11, first, f->next);
    open_all(f);
    first = f->next;
    assert_int_equal(truncate(f->file, 0), 0); /* while it is open */
    deliver(f, 1);
    close_all(f);
    assert_file(f->file, first, f->next);
}

static void a_failed_call_doubles_and_loses_nothing(void **state)
{
    static const struct {
        enum call call;
        const char *file;
    } faults[] = {
        {CALL_WRITE, "/out.ndjson"}, {CALL_SYNC, "/out.ndjson"}, {CALL_WRITE, "/cursors"}};
    struct fixture *f = *state;

    open_all(f);
    deliver(f, 2);
    for (size_t i = 0; i < TF_COUNT(faults); i++) {
        struct tf_output_status status;

        fail_next(faults[i].call, faults[i].file);
        append_frames(f, 2);
        run_until(f, is_down);
        append_frames(f, 1); /* waits in the spool */
        run_until(f, is_delivered);
        assert_int_equal(atomic_load(&fail_call), CALL_NONE);
        assert_file(f->file, 0, f->next);
        run_until(f, is_up);
        f->kind->status(f->self, &status);
        assert_true(status.retries > i);
    }
}

static void a_short_write_is_gone_on_with(void **state)
{
    struct fixture *f = *state;

    open_all(f);
    fail_next(CALL_SHORT, "/out.ndjson");
    deliver(f, 4);
    assert_int_equal(atomic_load(&fail_call), CALL_NONE);
    assert_true(is_up(f));
    close_all(f);
    assert_file(f->file, 0, f->next);
}

static void a_failed_cut_is_tried_again(void **state)
{
    struct fixture *f = *state;

    open_all(f);
    deliver(f, 2);
    fail_next(CALL_CUT, "/out.ndjson");
    add_to_file(f->file, "echo was here\n");
    append_frames(f, 1);
    run_until(f, is_down);
    close_all(f); /* while it waits */
    open_all(f);
    run_until(f, is_delivered);
    close_all(f);
    assert_file(f->file, 0, f->next);
}

static void a_second_writer_is_kept_away(void **state)
{
    struct fixture *f = *state;
    int fd = open(f->file, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    assert_int_equal(flock(fd, LOCK_EX), 0);
    open_all(f);
    append_frames(f, 1);
    assert_false(turn(f, is_up, 100));
    (void)close(fd);
    run_until(f, is_delivered);
    close_all(f);
    assert_file(f->file, 0, f->next);
}

static void a_link_in_the_place_of_the_file_is_not_followed(void **state)
{
    struct fixture *f = *state;
    uint32_t first;

    add_to_file(f->other, "precious\n");
    open_all(f);
    deliver(f, 1);
    first = f->next;
    assert_int_equal(unlink(f->file), 0);
    assert_int_equal(symlink(f->other, f->file), 0);
    append_frames(f, 1);
    run_until(f, is_down);
    assert_int_equal(size_of(f->other), 9);
    assert_int_equal(unlink(f->file), 0);
    run_until(f, is_delivered);
    close_all(f);
    assert_file(f->file, first, f->next);
}

static void a_frame_that_cannot_be_read_is_rejected_whole(void **state)
{
    struct fixture *f = *state;
    struct tf_feed_status status;
    struct tf_buf payload;

    open_all(f);
    append_frame(f, 2, 0);
    tf_buf_init(&payload, TF_DRAFT_PAYLOAD_MAX);
    for (uint32_t i = 0; i < 20; i++) {
        put_event(&payload, "never", 70000); /* so that some of it is written before */
    }
    (void)tf_buf_append_byte(&payload, 0xc1); /* msgpack has no such byte */
    append_payload(f, &payload, 21);
    append_frame(f, 2, 0);
    tf_spool_sync(f->spool);
    run_until(f, is_delivered);
    tf_feed_status(f->feed, &status);
    assert_int_equal(status.rejected, 21);
    assert_int_equal(status.acked, 4);
    assert_true(is_up(f));
    close_all(f);
    assert_file(f->file, 0, f->next);
}

static void wrong_options_are_refused(void **state)
{
    struct fixture *f = *state;
    char path[PATH_BYTES * 2];

    use_file(f, f->root, 0640);
    assert_int_equal(new_output(f), -EINVAL);
    (void)snprintf(path, sizeof path, "%s/", f->root);
    use_file(f, path, 0640);
    assert_int_equal(new_output(f), -EINVAL);
    (void)snprintf(path, sizeof path, "%s/absent/out", f->root);
    use_file(f, path, 0640);
    assert_int_equal(new_output(f), -EINVAL);
    assert_int_equal(symlink("/dev/null", f->file), 0);
    use_file(f, f->file, 0640);
    assert_int_equal(new_output(f), -EINVAL);
    use_file(f, f->other, 0240);
    assert_int_equal(new_output(f), -EINVAL);
    use_file(f, NULL, 0640);
    assert_int_equal(new_output(f), -EINVAL);
    use_file(f, f->other, 0640);
    assert_int_equal(new_output(f), 0);
    close_all(f); /* never started */
    assert_int_equal(access(f->other, F_OK), -1);
}

#ifdef TF_TEST_HOOKS
/* ---- kills: this program again, as a writer that dies at a crash point ---------------------- */

static int writer_main(const char *root, uint32_t target)
{
    static struct fixture fixture;
    struct fixture *f = &fixture;
    struct tf_slice value;

    (void)snprintf(f->root, sizeof f->root, "%s", root);
    set_paths(f);
    tf_log_configure(TF_LOG_ERROR + 1, TF_LOG_LOGFMT);
    if (uv_loop_init(&f->loop) != 0) {
        return 1;
    }
    (void)uv_timer_init(&f->loop, &f->deadline);
    f->deadline.data = f;
    if (new_output(f) < 0 || start_all(f) < 0) {
        return 1;
    }
    if (tf_state_get(f->spool, tf_slice_text("pos"), &value)) {
        (void)sscanf(value.data, "event-%u", &f->next);
    }
    while (f->next < target) {
        append_frame(f, FRAME_EVENTS, 0);
        if (f->next < target) { /* a kill may have left one of two */
            append_frame(f, FRAME_EVENTS, 0);
        }
        tf_spool_sync(f->spool);
        (void)turn(f, is_delivered, DEADLINE_MS);
    }
    if (!turn(f, is_delivered, DEADLINE_MS)) {
        return 1;
    }
    close_all(f);
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
        (void)execl("/proc/self/exe", "test_output_file", "--writer", f->root, number,
                    (char *)NULL);
        _exit(9);
    }
    assert_true(pid > 0 && waitpid(pid, &status, 0) == pid);
    assert_true(WIFSIGNALED(status) ? WTERMSIG(status) == SIGKILL : WEXITSTATUS(status) == 0);
    return WIFSIGNALED(status);
}

static void a_kill_at_any_step_doubles_and_loses_nothing(void **state)
{
    static const char *const points[] = {"file.half", "file.written", "file.synced",
                                         "cursor.written", "cursor.synced"};
    struct fixture *f = *state;
    uint32_t target = 0, kills = 0;

    for (uint32_t i = 0; i < TF_COUNT(points); i++) {
        for (uint32_t n = 1; n <= 3; n++) {
            char crash[64];

            (void)snprintf(crash, sizeof crash, "%s:%u", points[i], n);
            target += 8 * FRAME_EVENTS;
            kills += run_writer(f, crash, target);
        }
    }
    assert_int_equal(kills, 15);
    assert_false(run_writer(f, NULL, target));
    assert_file(f->file, 0, target);
}

static void a_kill_and_a_rename_double_and_lose_nothing(void **state)
{
    static const char *const points[] = {"file.half:2", "file.written:2", "file.synced:2"};
    struct fixture *f = *state;
    static char text[FILE_MAX];
    uint32_t target = 0;
    size_t size = 0;

    for (uint32_t i = 0; i < TF_COUNT(points); i++) {
        char name[PATH_BYTES * 2];

        target += 8 * FRAME_EVENTS;
        assert_true(run_writer(f, points[i], target));
        (void)snprintf(name, sizeof name, "%s.%u", f->file, i);
        assert_int_equal(rename(f->file, name), 0);
    }
    assert_false(run_writer(f, NULL, target));
    for (uint32_t i = 0; i < TF_COUNT(points); i++) {
        char name[PATH_BYTES * 2];

        (void)snprintf(name, sizeof name, "%s.%u", f->file, i);
        size += read_file(name, text + size, sizeof text - size);
    }
    size += read_file(f->file, text + size, sizeof text - size);
    assert_lines(text, size, 0, target);
}
#endif

/* ---- stdout --------------------------------------------------------------------------------- */

/* Puts a pipe in the place of stdout until restore_stdout. */
static void take_stdout(struct fixture *f)
{
    int ends[2];

    assert_int_equal(fflush(stdout), 0);
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    f->saved_stdout = dup(STDOUT_FILENO);
    assert_true(f->saved_stdout >= 0 && dup2(ends[1], STDOUT_FILENO) >= 0);
    (void)close(ends[1]);
    f->pipe_end = ends[0];
    assert_int_equal(fcntl(f->pipe_end, F_SETFL, O_NONBLOCK), 0);
}

static char piped[FILE_MAX];
static size_t piped_size;

static bool drained_and_delivered(const struct fixture *f)
{
    ssize_t n = read(f->pipe_end, piped + piped_size, sizeof piped - piped_size);

    piped_size += n > 0 ? (size_t)n : 0;
    return is_delivered(f) && n <= 0;
}

static void stdout_prints_what_the_pipe_takes(void **state)
{
    struct fixture *f = *state;
    struct tf_feed_status status;
    bool delivered;

    use_stdout(f, 0);
    take_stdout(f);
    open_all(f);
    piped_size = 0;
    for (uint32_t i = 0; i < 10; i++) {
        append_frame(f, 4, 20000);
    }
    append_frames(f, 1);
    (void)turn(f, never, 80); /* the pipe is full, and nobody waits for it */
    tf_feed_status(f->feed, &status);
    assert_true(status.pending > 0);
    delivered = turn(f, drained_and_delivered, DEADLINE_MS);
    restore_stdout(f);
    assert_true(delivered && is_up(f));
    assert_lines(piped, piped_size, 0, f->next);
}

static void a_full_pipe_does_not_hold_up_the_end(void **state)
{
    struct fixture *f = *state;
    uint64_t began;

    use_stdout(f, 0);
    take_stdout(f);
    open_all(f);
    for (uint32_t i = 0; i < 4; i++) {
        append_frame(f, 4, 20000);
    }
    append_frames(f, 1);
    (void)turn(f, never, 80);
    began = uv_hrtime();
    close_all(f);
    assert_true(uv_hrtime() - began < 15 * UINT64_C(1000000000));
    open_all(f); /* at least once: unacked frames come again */
    piped_size = 0;
    assert_true(turn(f, drained_and_delivered, DEADLINE_MS));
    restore_stdout(f);
    assert_non_null(memmem(piped, piped_size, "event-0\"", 8));
}

static void a_reader_that_is_gone_stops_stdout(void **state)
{
    struct fixture *f = *state;
    struct tf_feed_status status;
    bool delivered;

    use_stdout(f, 0);
    take_stdout(f);
    (void)close(f->pipe_end);
    f->pipe_end = -1;
    open_all(f);
    append_frames(f, 2);
    run_until(f, is_down);
    append_frames(f, 1);
    (void)turn(f, never, 50);
    restore_stdout(f);
    tf_feed_status(f->feed, &status);
    assert_int_equal(status.acked, 0);
    assert_int_equal(status.pending, f->next);
    close_all(f);
    take_stdout(f);
    open_all(f); /* and at the next start they are there */
    piped_size = 0;
    delivered = turn(f, drained_and_delivered, DEADLINE_MS);
    restore_stdout(f);
    assert_true(delivered);
    assert_lines(piped, piped_size, 0, f->next);
}

static void stdout_may_be_a_file_or_fail_for_a_while(void **state)
{
    struct fixture *f = *state;
    int full = open("/dev/full", O_WRONLY | O_CLOEXEC), fd;
    bool down, delivered;

    use_stdout(f, 1);
    assert_true(full >= 0);
    take_stdout(f);
    assert_true(dup2(full, STDOUT_FILENO) >= 0);
    (void)close(full);
    open_all(f);
    append_frames(f, 2);
    down = turn(f, is_down, DEADLINE_MS);
    fd = open(f->file, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0 && dup2(fd, STDOUT_FILENO) >= 0);
    (void)close(fd);
    delivered = turn(f, is_delivered, DEADLINE_MS);
    restore_stdout(f);
    assert_true(down && delivered);
    close_all(f);
    piped_size = read_file(f->file, piped, sizeof piped);
    assert_int_not_equal(piped[0], '{'); /* text, for eyes */
    for (uint32_t i = 0, at = 0; i < f->next; i++) {
        const char *end = memchr(piped + at, '\n', piped_size - at);
        char wanted[32];
        int size = snprintf(wanted, sizeof wanted, "event-%u", i);

        assert_non_null(end);
        assert_non_null(memmem(piped + at, (size_t)(end - piped) - at, wanted, (size_t)size));
        at = (uint32_t)(end - piped) + 1;
    }
}

static void stdout_rejects_what_it_cannot_read(void **state)
{
    struct fixture *f = *state;
    struct tf_feed_status status;
    struct tf_buf payload;
    bool delivered;

    use_stdout(f, 0);
    take_stdout(f);
    open_all(f);
    piped_size = 0;
    append_frame(f, 2, 0);
    tf_buf_init(&payload, TF_DRAFT_PAYLOAD_MAX);
    (void)tf_buf_append_byte(&payload, 0xc1);
    append_payload(f, &payload, 1);
    append_frame(f, 2, 0);
    tf_spool_sync(f->spool);
    delivered = turn(f, drained_and_delivered, DEADLINE_MS);
    restore_stdout(f);
    assert_true(delivered);
    tf_feed_status(f->feed, &status);
    assert_int_equal(status.rejected, 1);
    assert_lines(piped, piped_size, 0, f->next);
    close_all(f);
    use_stdout(f, 0);
    assert_int_equal(new_output(f), 0);
    close_all(f); /* never started */
}

/* ---- lines ---------------------------------------------------------------------------------- */

static void pack(struct tf_slice in, struct tf_buf *out)
{
    z_stream stream = {0};

    assert_int_equal(deflateInit2(&stream, 1, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
    tf_buf_init(out, 32u << 20);
    assert_int_equal(tf_buf_reserve(out, deflateBound(&stream, in.size)), 0);
    stream.next_in = (Bytef *)(uintptr_t)in.data;
    stream.avail_in = (uInt)in.size;
    stream.next_out = (Bytef *)out->data;
    stream.avail_out = (uInt)out->capacity;
    assert_int_equal(deflate(&stream, Z_FINISH), Z_STREAM_END);
    out->size = stream.total_out;
    assert_int_equal(deflateEnd(&stream), Z_OK);
}

/* Returns the outcome of the last call, and what came before it. */
static int print_all(struct tf_printer *printer, struct tf_slice payload, size_t *bytes,
                     size_t *longest)
{
    int rc = tf_printer_begin(printer, payload, tf_slice_text("a"));

    *bytes = *longest = 0;
    while (rc == 0 && (rc = tf_printer_next(printer)) == 1) {
        assert_int_equal(printer->out.data[printer->out.size - 1], '\n');
        *bytes += printer->out.size;
        *longest = printer->out.size > *longest ? printer->out.size : *longest;
        rc = 0;
        if (printer->ended && printer->raw_at == printer->raw.size) {
            break;
        }
    }
    tf_printer_trim(printer);
    return rc;
}

static void lines_come_in_bounded_pieces(void **state)
{
    struct tf_buf raw, payload;
    struct tf_printer printer;
    size_t bytes, longest;

    (void)state;
    tf_printer_init(&printer, tf_event_print_json);
    tf_buf_init(&raw, 32u << 20);
    for (uint32_t i = 0; i < 3000; i++) {
        put_event(&raw, "short", 1000);
    }
    pack(tf_buf_slice(&raw), &payload);
    assert_int_equal(tf_printer_estimate(tf_buf_slice(&payload)), raw.size);
    assert_int_equal(print_all(&printer, tf_buf_slice(&payload), &bytes, &longest), 0);
    assert_true(bytes > 3000u * 1000u && longest <= TF_PRINTER_PIECE_BYTES);
    tf_buf_fini(&payload);
    tf_buf_clear(&raw);
    put_event(&raw, "long", 5u << 20); /* one event over many steps */
    put_event(&raw, "short", 0);
    pack(tf_buf_slice(&raw), &payload);
    assert_int_equal(print_all(&printer, tf_buf_slice(&payload), &bytes, &longest), 0);
    assert_true(bytes > 5u << 20);
    tf_buf_fini(&payload);
    pack(tf_slice(NULL, 0), &payload);
    assert_int_equal(print_all(&printer, tf_buf_slice(&payload), &bytes, &longest), 0);
    assert_int_equal(bytes, 0);
    tf_buf_fini(&payload);
    tf_buf_fini(&raw);
    tf_printer_fini(&printer);
}

static void broken_payloads_are_refused(void **state)
{
    struct tf_buf raw, payload;
    struct tf_printer printer;
    size_t bytes, longest;

    (void)state;
    tf_printer_init(&printer, tf_event_print_json);
    tf_buf_init(&raw, 32u << 20);
    put_event(&raw, "whole", 3000);
    put_event(&raw, "whole", 3000);
    pack(tf_buf_slice(&raw), &payload);
    for (size_t cut = 0; cut < payload.size; cut++) {
        struct tf_slice part = tf_slice(payload.data, cut);

        assert_int_equal(print_all(&printer, part, &bytes, &longest), -EPROTO);
    }
    (void)tf_buf_append_byte(&payload, 0); /* bytes behind the end */
    assert_int_equal(print_all(&printer, tf_buf_slice(&payload), &bytes, &longest), -EPROTO);
    tf_buf_fini(&payload);
    pack(tf_slice(raw.data, raw.size - 1), &payload); /* the last event is not whole */
    assert_int_equal(print_all(&printer, tf_buf_slice(&payload), &bytes, &longest), -EPROTO);
    tf_buf_fini(&payload);
    assert_int_equal(tf_buf_reserve(&raw, 20u << 20), 0);
    memset(raw.data, 0xdb, 20u << 20); /* a bomb: an event that has no end */
    pack(tf_slice(raw.data, 20u << 20), &payload);
    assert_int_equal(print_all(&printer, tf_buf_slice(&payload), &bytes, &longest), -EPROTO);
    assert_true(printer.total <= TF_PRINTER_FRAME_MAX_BYTES + 1);
    tf_buf_fini(&payload);
    tf_buf_fini(&raw);
    tf_printer_fini(&printer);
}

#define OUTPUT_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        OUTPUT_TEST(each_record_is_there_once),
        OUTPUT_TEST(a_backlog_is_written_in_batches),
        OUTPUT_TEST(what_was_not_saved_is_cut_at_a_start),
        OUTPUT_TEST(text_of_others_is_cut_while_running),
        OUTPUT_TEST(a_renamed_file_is_left_and_a_new_one_made),
        OUTPUT_TEST(a_file_renamed_between_two_runs_is_found),
        OUTPUT_TEST(a_file_that_is_gone_is_made_again),
        OUTPUT_TEST(lines_go_behind_what_others_wrote),
        OUTPUT_TEST(a_shortened_file_is_not_filled_up),
        OUTPUT_TEST(a_failed_call_doubles_and_loses_nothing),
        OUTPUT_TEST(a_short_write_is_gone_on_with),
        OUTPUT_TEST(a_failed_cut_is_tried_again),
        OUTPUT_TEST(a_second_writer_is_kept_away),
        OUTPUT_TEST(a_link_in_the_place_of_the_file_is_not_followed),
        OUTPUT_TEST(a_frame_that_cannot_be_read_is_rejected_whole),
        OUTPUT_TEST(wrong_options_are_refused),
#ifdef TF_TEST_HOOKS
        OUTPUT_TEST(a_kill_at_any_step_doubles_and_loses_nothing),
        OUTPUT_TEST(a_kill_and_a_rename_double_and_lose_nothing),
#endif
        OUTPUT_TEST(stdout_prints_what_the_pipe_takes),
        OUTPUT_TEST(a_full_pipe_does_not_hold_up_the_end),
        OUTPUT_TEST(a_reader_that_is_gone_stops_stdout),
        OUTPUT_TEST(stdout_may_be_a_file_or_fail_for_a_while),
        OUTPUT_TEST(stdout_rejects_what_it_cannot_read),
        cmocka_unit_test(lines_come_in_bounded_pieces),
        cmocka_unit_test(broken_payloads_are_refused),
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
