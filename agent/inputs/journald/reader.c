/*
 * reader.c - mode reader: a child process reads the journal's files and writes the export format to
 * a pipe; this file starts it, watches it, and starts it again behind the last entry.
 *
 *     STARTING ─ spawned ─> RUNNING ─ ended, or killed: broken, silent ─> ENDING
 *        ^                                                                  │ pipe at its end,
 *        │                                                                  │ all whole entries
 *        └──────────────── timer: 0.1 s to 10 s ────────────────────────────┘ decoded
 *
 * One reader for each folder of `paths`, or one for the system's journal. The child keeps nothing:
 * it begins behind the cursor that it is called with, and ends when its stdin does. So a crash, a
 * hang, a kill is mended by starting it again behind the newest entry that was received whole; half
 * an entry in the pipe is forgotten. The cursor is stored with the entry, in one frame.
 *
 * Where the child dies again and again behind the same entry, what follows that cannot be read: it
 * is then told to go on later, by STEPS_US, each step a gap record.
 *
 * Pressure: while the pump has enough the pipe is not read; the child waits in its write, and
 * journald does not notice.
 */
#include "internal.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "taffrail/sandbox.h"

#define SILENCE_MS     30000u /* without a heartbeat it hangs: three of them */
#define BACKOFF_MIN_MS 100u
#define BACKOFF_MAX_MS 10000u
#define SOUND_MS       60000u /* a child that lived so long did not die of its first entry */
#define DEATHS_MAX     3u     /* at one cursor, until it is stepped over */
#define LINE_MAX_BYTES 512u   /* of what the child says on stderr */

#define EXIT_CANNOT_READ_ON 3 /* TF_READER_RESTART of taffrail-journal */

/* How far behind the cursor reading goes on, more each time. */
static const int64_t steps_us[] = {1, 1000, 1000000, 60000000, INT64_C(3600000000)};

enum reader_state { READER_STARTING, READER_RUNNING, READER_ENDING };

struct reader {
    struct tf_journal_stream stream; /* first */
    const struct tf_child_program *program;
    const char *directory;   /* NULL: the system's, or the namespace's */
    char which[TF_PATH_MAX]; /* of its position */
    enum reader_state state;
    bool is_paused; /* the pipe is not read */
    bool goes_back; /* to what is durable: the run ended (C8) */
    bool is_closing, is_removed;
    int64_t first_us; /* when it was started first: where start_at newest begins */
    struct tf_child_run run;
    uv_pipe_t out, err;
    uint32_t open_handles; /* of these two */
    uv_timer_t timer;
    uint64_t heard_ms, spawned_ms;
    bool hung; /* it was killed for its silence */
    int exit_signal;
    int64_t exit_code;
    char after[TF_JOURNAL_CURSOR_MAX + 1];      /* where this child began */
    char died_after[TF_JOURNAL_CURSOR_MAX + 1]; /* the cursor of the last deaths */
    uint32_t deaths;
    int64_t step_us; /* 0: none */
    /* journalctl gives the entry of the cursor again: the worker's while a job runs. */
    bool expects_after, is_after_gone;
    bool is_after_settled; /* what came first is handed on */
    char line[LINE_MAX_BYTES];
    size_t line_size;
};

struct readers {
    struct tf_child_program program;
};

static void spawn(struct reader *reader);
static void end(struct reader *reader);

static struct reader *reader_of(struct tf_journal_stream *stream)
{
    return (struct reader *)stream;
}

static const char *name_of(const struct reader *reader)
{
    return reader->stream.base.input->name;
}

/* ---- the child's words ---------------------------------------------------------------------- */

static void on_room(uv_handle_t *handle, size_t wanted, uv_buf_t *buf)
{
    struct reader *reader = handle->data;

    (void)wanted;
    *buf = tf_journal_stream_room(&reader->stream);
}

static void close_handle(uv_handle_t *handle);

static void pause_if_full(struct reader *reader)
{
    if (!reader->is_paused && !tf_journal_stream_has_room(&reader->stream)) {
        reader->is_paused = true;
        (void)uv_read_stop((uv_stream_t *)&reader->out);
    }
}

static void on_out(uv_stream_t *out, ssize_t size, const uv_buf_t *buf)
{
    struct reader *reader = out->data;

    (void)buf;
    if (size == UV_ENOBUFS) { /* no memory: the timer tries again */
        reader->is_paused = true;
        (void)uv_read_stop(out);
    } else if (size < 0) {
        close_handle((uv_handle_t *)out);
    } else if (size > 0) {
        reader->heard_ms = uv_now(out->loop);
        tf_journal_stream_wrote(&reader->stream, (size_t)size);
        pause_if_full(reader);
    }
}

/* Also of a child that has ended: what it wrote is in the pipe. */
static void resume(struct reader *reader)
{
    if (reader->is_paused && !uv_is_closing((uv_handle_t *)&reader->out) &&
        tf_journal_stream_has_room(&reader->stream)) {
        reader->is_paused = false;
        reader->heard_ms = uv_now(reader->out.loop); /* our pause is not its silence */
        (void)uv_read_start((uv_stream_t *)&reader->out, on_room, on_out);
    }
}

static void on_err_room(uv_handle_t *handle, size_t wanted, uv_buf_t *buf)
{
    struct reader *reader = handle->data;

    (void)wanted;
    *buf =
        uv_buf_init(reader->line + reader->line_size, LINE_MAX_BYTES - (unsigned)reader->line_size);
}

/* Which layers hold in the child, in words of taffrail-journal. False: it says something else. */
static bool take_layers(const struct reader *reader, const char *line)
{
    static const char begin[] = "taffrail-journal: sandbox:";
    bool has[TF_SANDBOX_LAYERS], reads_all;
    char layers[TF_SANDBOX_TEXT_BYTES];
    unsigned count = 0;

    if (strncmp(line, begin, sizeof begin - 1) != 0) {
        return false;
    }
    for (unsigned i = 0; i < TF_SANDBOX_LAYERS; i++) {
        has[i] = strstr(line + sizeof begin - 1, tf_sandbox_layers[i]) != NULL;
        count += has[i];
    }
    reads_all = strstr(line + sizeof begin - 1, " reads_all") != NULL;
    tf_sandbox_note(TF_ROLE_JOURNAL_READER, has, reads_all);
    tf_sandbox_text(has, layers);
    tf_log(count == TF_SANDBOX_LAYERS ? TF_LOG_INFO : TF_LOG_WARN, "journal-sandbox",
           TF_DETAILS(TF_STR("input", name_of(reader)), TF_STR("layers", layers),
                      TF_BOOL("reads_all_logs", reads_all)),
           "the journal is read by a process with %u of %u layers on", count,
           (unsigned)TF_SANDBOX_LAYERS);
    return true;
}

static void tell_line(struct reader *reader, size_t size)
{
    char line[LINE_MAX_BYTES + 1];

    memcpy(line, reader->line, size);
    line[size] = '\0';
    if (take_layers(reader, line)) {
        return;
    }
    tf_log(TF_LOG_WARN, "journal-reader", TF_DETAILS(TF_STR("input", name_of(reader))), "%s", line);
}

/* What it says on stderr goes to our own log, a line each. */
static void on_err(uv_stream_t *err, ssize_t size, const uv_buf_t *buf)
{
    struct reader *reader = err->data;
    char *end_of_line;

    (void)buf;
    if (size < 0) {
        if (reader->line_size > 0) {
            tell_line(reader, reader->line_size);
        }
        close_handle((uv_handle_t *)err);
        return;
    }
    reader->line_size += (size_t)size;
    while ((end_of_line = memchr(reader->line, '\n', reader->line_size)) != NULL) {
        size_t line = (size_t)(end_of_line - reader->line);

        tell_line(reader, line);
        reader->line_size -= line + 1;
        memmove(reader->line, end_of_line + 1, reader->line_size);
    }
    if (reader->line_size == LINE_MAX_BYTES) {
        tell_line(reader, LINE_MAX_BYTES);
        reader->line_size = 0;
    }
}

/* ---- starting ------------------------------------------------------------------------------- */

static void on_timer(uv_timer_t *timer)
{
    struct reader *reader = timer->data;
    uint64_t silent_ms = uv_now(timer->loop) - reader->heard_ms;

    resume(reader);
    if (reader->state == READER_STARTING) {
        spawn(reader);
    } else if (reader->state == READER_ENDING) {
        (void)uv_timer_start(timer, on_timer, SILENCE_MS, 0);
    } else {
        if (!reader->is_paused && silent_ms >= SILENCE_MS && !reader->program->is_journalctl) {
            reader->hung = true;
            tf_child_run_kill(&reader->run);
            return;
        }
        silent_ms = reader->is_paused ? 0 : silent_ms;
        (void)uv_timer_start(timer, on_timer,
                             silent_ms < SILENCE_MS ? SILENCE_MS - silent_ms : SILENCE_MS, 0);
    }
}

static void start_later(struct reader *reader, uint64_t after_ms)
{
    reader->state = READER_STARTING;
    (void)uv_timer_start(&reader->timer, on_timer, after_ms, 0);
}

static void on_child_ended(struct tf_child_run *run, int64_t code, int signal)
{
    struct reader *reader = TF_CONTAINER_OF(run, struct reader, run);

    reader->exit_code = code;
    reader->exit_signal = signal;
    reader->state = READER_ENDING;
    end(reader);
}

static int64_t cursor_us(const char *cursor)
{
    const char *time = strstr(cursor, ";t=");

    return time == NULL ? -1 : (int64_t)(strtoull(time + 3, NULL, 16) & INT64_MAX);
}

/* Where this child begins: behind what was received, or where start_at says. */
static struct tf_child_start child_start(struct reader *reader)
{
    struct tf_journald *input = reader->stream.base.input;
    struct tf_slice cursor = tf_export_cursor(reader->stream.decoder);
    struct tf_child_start start = {.directory = reader->directory, .since_us = -1};

    memcpy(reader->after, cursor.data, cursor.size);
    reader->after[cursor.size] = '\0';
    start.after = reader->after;
    if (reader->step_us > 0) {
        start.since_us = cursor_us(reader->after) + reader->step_us;
        start.after = "";
    } else if (cursor.size == 0 && input->start_at == TF_START_NEWEST) {
        start.since_us = reader->first_us;
    } else if (cursor.size == 0 && input->start_at == TF_START_TIME) {
        start.since_us = input->start_ns / 1000;
    }
    return start;
}

static void take_end(struct reader *reader, uv_pipe_t *pipe, int fd)
{
    /* Neither can fail: they fill the struct, and fd is one of a pair that was just made. */
    (void)uv_pipe_init(reader->stream.base.input->loop, pipe, 0);
    (void)uv_pipe_open(pipe, fd);
    pipe->data = reader;
    reader->open_handles++;
}

static int run_child(struct reader *reader, char **args)
{
    int fds[2], rc;

    reader->run.launcher =
        reader->program->is_journalctl ? NULL : reader->stream.base.input->launcher;
    reader->run.on_ended = on_child_ended;
    rc = tf_child_run_start(&reader->run, reader->stream.base.input->loop, args, fds);
    if (rc == 0) {
        take_end(reader, &reader->out, fds[0]);
        take_end(reader, &reader->err, fds[1]);
    }
    return rc;
}

static void spawn(struct reader *reader)
{
    struct tf_child_start start = child_start(reader);
    struct tf_child_args args = {0};
    int rc;

    tf_child_args_fill(reader->stream.base.input, reader->program, &start, &args);
    reader->hung = false;
    reader->is_paused = false;
    reader->line_size = 0;
    reader->expects_after = reader->program->is_journalctl && start.after[0] != '\0';
    reader->is_after_settled = !reader->expects_after;
    reader->spawned_ms = reader->heard_ms = uv_now(reader->timer.loop);
    rc = args.error != 0 ? args.error : run_child(reader, args.items);
    tf_child_args_fini(&args);
    if (rc < 0) {
        reader->stream.base.input->status.restarts++;
        tf_log(TF_LOG_WARN, "journal-reader",
               TF_DETAILS(TF_STR("input", name_of(reader)), TF_NUM("retry_ms", BACKOFF_MAX_MS)),
               "the journal reader could not be started: %s", uv_strerror(rc));
        start_later(reader, BACKOFF_MAX_MS);
        return;
    }
    reader->state = READER_RUNNING;
    (void)uv_read_start((uv_stream_t *)&reader->out, on_room, on_out);
    (void)uv_read_start((uv_stream_t *)&reader->err, on_err_room, on_err);
    (void)uv_timer_start(&reader->timer, on_timer, SILENCE_MS, 0);
}

/* ---- ending --------------------------------------------------------------------------------- */

static void on_closed(uv_handle_t *handle)
{
    struct reader *reader = handle->data;

    reader->open_handles--;
    end(reader);
}

static void close_handle(uv_handle_t *handle)
{
    if (!uv_is_closing(handle)) {
        uv_close(handle, on_closed);
    }
}

/* Ends the child, if it has not ended yet; what its pipe holds comes again. */
static void kill_child(struct reader *reader)
{
    if (reader->state == READER_RUNNING) {
        tf_child_run_kill(&reader->run);
    }
    if (reader->open_handles > 0) {
        close_handle((uv_handle_t *)&reader->out);
    }
}

static void describe_end(const struct reader *reader, char *text, size_t size)
{
    if (reader->hung) {
        (void)snprintf(text, size, "was silent for %u s and was killed", SILENCE_MS / 1000);
    } else if (reader->stream.status < 0) {
        (void)snprintf(text, size, "wrote what is no export format and was killed");
    } else if (reader->exit_signal != 0) {
        (void)snprintf(text, size, "died of signal %d", reader->exit_signal);
    } else if (reader->exit_code < 0) {
        (void)snprintf(text, size, "could not be started: %s", uv_strerror((int)reader->exit_code));
    } else {
        (void)snprintf(text, size, "ended with status %" PRId64, reader->exit_code);
    }
}

/* Deaths at one cursor; one that lived for a while did not die of what comes next. */
static void count_death(struct reader *reader)
{
    struct tf_slice cursor = tf_export_cursor(reader->stream.decoder);
    bool is_same = tf_slice_equal(cursor, tf_slice_text(reader->died_after));
    bool is_early = uv_now(reader->timer.loop) - reader->spawned_ms < SOUND_MS || reader->hung;

    if (!is_same) {
        memcpy(reader->died_after, cursor.data, cursor.size);
        reader->died_after[cursor.size] = '\0';
        reader->step_us = 0;
    }
    reader->deaths = is_same && is_early ? reader->deaths + 1 : 1;
}

/* Of what it read, as far as one can tell: by a fault (SIGBUS), hanging, by its own word that it
 * cannot read on, or writing what is no export format. Not what somebody did to it (SIGKILL, also
 * of the kernel's without memory), and not what another start would not change (a missing library).
 */
static bool died_of_reading(const struct reader *reader)
{
    static const int faults[] = {SIGBUS, SIGSEGV, SIGABRT, SIGILL, SIGFPE, SIGSYS};

    for (size_t i = 0; i < TF_COUNT(faults); i++) {
        if (reader->exit_signal == faults[i]) {
            return true;
        }
    }
    return reader->hung || reader->stream.status < 0 || reader->exit_code == EXIT_CANNOT_READ_ON;
}

/* Died again and again behind one entry, of what it read: go on later in time, but not later than
 * now, since what is written from now on can be read. */
static void step_over(struct reader *reader)
{
    int64_t most_us = tf_now_ns() / 1000 - cursor_us(reader->died_after);
    size_t step = reader->deaths - DEATHS_MAX;
    char text[160];

    if (reader->deaths < DEATHS_MAX || !died_of_reading(reader) ||
        cursor_us(reader->died_after) < 0 || reader->program->is_journalctl) {
        return;
    }
    step = step < TF_COUNT(steps_us) ? step : TF_COUNT(steps_us) - 1;
    reader->step_us += steps_us[step];
    most_us = most_us < 1 ? 1 : most_us;
    reader->step_us = reader->step_us < most_us ? reader->step_us : most_us;
    (void)snprintf(text, sizeof text,
                   "the journal cannot be read behind an entry; up to %" PRId64
                   " us of it are passed over",
                   reader->step_us);
    tf_journal_stream_gap(&reader->stream, "unreadable", text);
}

static uint64_t backoff_ms(const struct reader *reader)
{
    uint64_t backoff = BACKOFF_MIN_MS << (reader->deaths < 8 ? reader->deaths - 1 : 7);

    return backoff < BACKOFF_MAX_MS ? backoff : BACKOFF_MAX_MS;
}

static void start_again(struct reader *reader)
{
    struct tf_journald *input = reader->stream.base.input;
    char text[128];

    describe_end(reader, text, sizeof text);
    count_death(reader);
    step_over(reader);
    input->status.restarts++;
    tf_log(TF_LOG_WARN, "journal-reader",
           TF_DETAILS(TF_STR("input", input->name), TF_STR("program", reader->program->path),
                      TF_NUM("deaths", reader->deaths), TF_NUM("retry_ms", backoff_ms(reader))),
           "the journal reader %s; it starts again behind the last entry", text);
    tf_journal_stream_restart(&reader->stream, tf_export_cursor(reader->stream.decoder));
    start_later(reader, backoff_ms(reader));
}

static void go_back(struct reader *reader)
{
    char cursor[TF_JOURNAL_CURSOR_MAX + 1] = "";

    (void)tf_journal_position_get(reader->stream.base.input, reader->which, cursor);
    tf_journal_stream_restart(&reader->stream, tf_slice_text(cursor));
    reader->goes_back = false;
    reader->step_us = 0;
    start_later(reader, 0);
}

static void on_timer_closed(uv_handle_t *handle)
{
    struct reader *reader = handle->data;

    tf_journal_source_remove(&reader->stream.base);
}

/* The child is gone and its handles are closed; what it wrote whole is decoded first. */
static void end(struct reader *reader)
{
    if (reader->state == READER_RUNNING || reader->open_handles > 0 || reader->is_removed) {
        return;
    }
    if (reader->is_closing) {
        reader->is_removed = true;
        uv_close((uv_handle_t *)&reader->timer, on_timer_closed);
    } else if (reader->state != READER_ENDING ||
               reader->stream.base.source.state == TF_SOURCE_RUNNING) {
        return;
    } else if (reader->goes_back) {
        go_back(reader);
    } else if (tf_journal_stream_is_drained(&reader->stream)) {
        start_again(reader);
    }
}

/* ---- as the owner of its stream ------------------------------------------------------------- */

static void reader_changed(struct tf_journal_stream *stream)
{
    struct reader *reader = reader_of(stream);

    if (stream->status < 0) {
        kill_child(reader);
    }
    resume(reader);
    end(reader);
}

static void reader_pumped(struct tf_journal_stream *stream)
{
    struct reader *reader = reader_of(stream);

    reader->is_after_settled = !reader->expects_after;
    if (reader->is_after_gone) {
        reader->is_after_gone = false;
        tf_journal_stream_gap(stream, "vacuumed",
                              "the entry that was read last is gone from the "
                              "journal, and may be others after it");
    }
}

/* When the newest pump began where the child did, the entry of the cursor comes once more. */
static void reader_undo(struct tf_journal_stream *stream)
{
    struct reader *reader = reader_of(stream);

    reader->is_after_gone = false;
    reader->expects_after = !reader->is_after_settled;
}

static void reader_position(struct tf_journal_stream *stream, struct tf_buf *deltas)
{
    tf_journal_position_append(stream->base.input->name, reader_of(stream)->which,
                               tf_export_cursor(stream->decoder), deltas);
}

static void reader_rewind(struct tf_journal_stream *stream)
{
    struct reader *reader = reader_of(stream);

    reader->goes_back = true;
    if (reader->state == READER_STARTING) {
        go_back(reader);
        return;
    }
    kill_child(reader);
    end(reader);
}

static void reader_close(struct tf_journal_stream *stream)
{
    struct reader *reader = reader_of(stream);

    reader->is_closing = true;
    kill_child(reader);
    end(reader);
}

static void reader_free(struct tf_journal_stream *stream)
{
    tf_journal_stream_fini(stream);
    free(reader_of(stream));
}

/* It may be another folder of the same name, or of a machine's, which the sandbox refuses: a look
 * at the disk. */
static void reader_failed(struct tf_journal_stream *stream)
{
    struct tf_texts folders = tf_journald_folders(stream->base.input->options);

    for (size_t i = 0; i < folders.count; i++) {
        tf_sandbox_look(folders.items[i].text);
    }
}

static const struct tf_journal_stream_owner owner = {.changed = reader_changed,
                                                     .failed = reader_failed,
                                                     .pumped = reader_pumped,
                                                     .undo = reader_undo,
                                                     .position = reader_position,
                                                     .rewind = reader_rewind,
                                                     .close = reader_close,
                                                     .free = reader_free};

/* Worker. journalctl begins with the entry of the cursor, if that is still there. */
static bool is_repeat(void *ctx, struct tf_slice cursor)
{
    struct reader *reader = ctx;
    bool is_it;

    if (!reader->expects_after) {
        return false;
    }
    reader->expects_after = false;
    is_it = tf_slice_equal(cursor, tf_slice_text(reader->after));
    /* With matches it may only be unwanted. */
    reader->is_after_gone = !is_it && reader->stream.base.input->select.match_count == 0;
    return is_it;
}

/* ---- the way -------------------------------------------------------------------------------- */

static int add_reader(struct tf_journald *input, const char *directory)
{
    const struct readers *readers = input->own;
    struct reader *reader = calloc(1, sizeof *reader);
    char cursor[TF_JOURNAL_CURSOR_MAX + 1] = "";
    int rc;

    if (reader == NULL) {
        return -ENOMEM;
    }
    reader->program = &readers->program;
    reader->directory = directory;
    (void)snprintf(reader->which, sizeof reader->which, "%s%s",
                   directory != NULL                             ? directory
                   : input->options->namespace_name.text != NULL ? "namespace:"
                                                                 : "system",
                   directory == NULL && input->options->namespace_name.text != NULL
                       ? input->options->namespace_name.text
                       : "");
    reader->stream.rules = (struct tf_journal_rules){.select = &input->select,
                                                     .is_reader = !reader->program->is_journalctl,
                                                     .is_repeat = is_repeat,
                                                     .ctx = reader};
    rc = tf_journal_stream_init(&reader->stream, input, &owner, NULL);
    if (rc < 0) {
        free(reader);
        return rc;
    }
    (void)tf_journal_position_get(input, reader->which, cursor);
    tf_export_restart(reader->stream.decoder, tf_slice_text(cursor));
    (void)uv_timer_init(input->loop, &reader->timer); /* cannot fail */
    reader->timer.data = reader;
    reader->first_us = tf_now_ns() / 1000;
    start_later(reader, 0);
    return 0;
}

static int reader_check(struct tf_journald *input, struct tf_error *err)
{
    struct readers *readers = calloc(1, sizeof *readers);
    const struct tf_texts *paths = &input->options->paths;
    int rc;

    if (readers == NULL) {
        return -ENOMEM;
    }
    input->own = readers;
    rc = tf_child_find(input, &readers->program, err);
    for (size_t i = 0; i < paths->count; i++) {
        if (strlen(paths->items[i].text) >= TF_STATE_KEY_MAX - 128) {
            rc = tf_error_add(err, &paths->items[i].at, "paths: the path is too long");
        }
        for (size_t k = 0; k < i; k++) {
            if (strcmp(paths->items[k].text, paths->items[i].text) == 0) {
                rc = tf_error_add(err, &paths->items[i].at,
                                  "paths: %s is there twice, and all of it would come twice; leave "
                                  "one out",
                                  paths->items[i].text);
            }
        }
    }
    return rc;
}

/* With a launcher it is that which starts the program, and has these needs. */
static void reader_needs(const struct tf_journald *input, struct tf_needs *needs)
{
    const struct readers *readers = input->own;
    struct tf_texts folders = tf_journald_folders(input->options);

    if (input->launcher == NULL || readers->program.is_journalctl) {
        tf_needs_path(needs, TF_NEED_RUN, readers->program.path);
        tf_journald_folder_needs(&folders, TF_NEED_READ, needs);
    } else {
        tf_journald_folder_needs(&folders, TF_NEED_LOOK, needs);
    }
}

static int reader_start(struct tf_journald *input, struct tf_error *err)
{
    const struct tf_texts *paths = &input->options->paths;
    int rc = 0;

    (void)err;
    if (paths->count == 0) {
        return add_reader(input, NULL);
    }
    for (size_t i = 0; i < paths->count && rc == 0; i++) {
        rc = add_reader(input, paths->items[i].text);
    }
    return rc;
}

static void readers_free(struct tf_journald *input)
{
    free(input->own);
}

const struct tf_journald_way tf_journald_reader = {
    .check = reader_check, .needs = reader_needs, .start = reader_start, .free = readers_free};
