/*
 * stdout.c - output `stdout`: lines into whatever the standard output is, at least once.
 *
 * A frame is acked when its last byte was written; a kill in between prints it again. Nothing can
 * be cut off a pipe: of a frame that turns out to be no gzip of events the lines before the bad
 * place are out already; it is rejected, and the log says so.
 *
 *     IDLE     nothing to print
 *     WORKING  a worker prints up to FRAMES_MAX frames
 *     WAITING  the pipe is full: PAUSE_MS; or after an error: RETRY_MS; then on where it was
 *     STOPPED  nobody reads (EPIPE) or there is no standard output: records stay in the spool
 *
 * The descriptor may be shared with others, so it stays blocking: the worker asks poll first, at
 * most FULL_MS long, and then writes no more than a pipe takes at once (PIPE_BUF), so that a reader
 * that sleeps keeps neither a worker nor the end of the agent waiting.
 */
#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "taffrail/event.h"
#include "taffrail/log.h"
#include "taffrail/output.h"

#include "printer.h"

#define FRAMES_MAX 8u
#define FULL_MS    20
#define PAUSE_MS   50u
#define RETRY_MS   1000u

enum format { FORMAT_NDJSON, FORMAT_TEXT };
struct stdout_options {
    int format;
};

enum step { STEP_BEGIN, STEP_NEXT, STEP_WRITE };

/* What a worker has for itself while `state` is WORKING. Frames before `done` are finished. */
struct job {
    uv_work_t work;
    struct tf_frame *frames[FRAMES_MAX];
    bool rejected[FRAMES_MAX];
    uint32_t frame_count, done;
    enum step step;
    struct tf_printer printer;
    size_t written; /* of printer.out */
    bool is_file;   /* never full in the sense of a pipe */
    int status;     /* -EAGAIN: full */
};

enum state { IDLE, WORKING, WAITING, STOPPED };
struct stdout_output {
    struct tf_output_args args;
    struct tf_feed *feed; /* NULL: not started */
    uv_timer_t timer;
    enum state state;
    bool up, closing;
    uint64_t retries;
    void (*on_closed)(void *ctx);
    void *closed_ctx;
    struct job job;
};

/* ---- on a worker ---------------------------------------------------------------------------- */

/* As write, but a reader that is gone gives -EPIPE and no signal, whatever the process does. */
static ssize_t write_quietly(const char *data, size_t size)
{
    static const struct timespec now;
    sigset_t pipe_only, before, pending;
    ssize_t n;

    (void)sigemptyset(&pipe_only);
    (void)sigaddset(&pipe_only, SIGPIPE);
    (void)pthread_sigmask(SIG_BLOCK, &pipe_only, &before);
    n = write(STDOUT_FILENO, data, size);
    if (n < 0) {
        n = -errno;
    }
    (void)sigpending(&pending);
    if (n == -EPIPE && sigismember(&pending, SIGPIPE) == 1) {
        (void)sigtimedwait(&pipe_only, NULL, &now);
    }
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    return n;
}

/* 1: takes PIPE_BUF bytes; -EAGAIN: full. An end without reader is found by the write. */
static int wait_for_room(void)
{
    struct pollfd ask = {.fd = STDOUT_FILENO, .events = POLLOUT};
    int rc = poll(&ask, 1, FULL_MS);

    if (rc < 0) {
        return errno == EINTR ? -EAGAIN : -errno;
    }
    return rc == 0 ? -EAGAIN : 1;
}

static int write_out(struct job *job)
{
    while (job->written < job->printer.out.size) {
        size_t left = job->printer.out.size - job->written;
        ssize_t n;
        int rc = 1;

        if (!job->is_file) {
            left = left < PIPE_BUF ? left : PIPE_BUF;
            rc = wait_for_room();
        }
        if (rc < 0) {
            return rc;
        }
        n = write_quietly(job->printer.out.data + job->written, left);
        if (n < 0 && n != -EINTR) {
            return (int)n;
        }
        job->written += n > 0 ? (size_t)n : 0;
    }
    return 0;
}

/* One step of the frame at `done`. Returns 0 to go on, or an error after which the same step, or
 * after -ENOMEM the frame, is tried again. */
static int print_step(struct job *job)
{
    const struct tf_frame *frame = job->frames[job->done];
    int rc = 0;

    switch (job->step) {
    case STEP_BEGIN:
        rc = tf_printer_begin(&job->printer, frame->payload, tf_slice_text(frame->tag));
        job->step = rc == 0 ? STEP_NEXT : STEP_BEGIN;
        return rc;
    case STEP_NEXT:
        rc = tf_printer_next(&job->printer);
        job->written = 0;
        if (rc == 1) {
            job->step = STEP_WRITE;
            return 0;
        }
        job->step = STEP_BEGIN;
        job->rejected[job->done] = rc == -EPROTO;
        job->done += rc == 0 || rc == -EPROTO;
        return rc == -EPROTO ? 0 : rc;
    case STEP_WRITE:
        rc = write_out(job);
        job->step = rc == 0 ? STEP_NEXT : STEP_WRITE;
        return rc;
    }
    return rc;
}

static void print_work(uv_work_t *work)
{
    struct job *job = TF_CONTAINER_OF(work, struct job, work);
    struct stat st;
    int rc = 0;

    job->is_file = fstat(STDOUT_FILENO, &st) == 0 && S_ISREG(st.st_mode);
    while (rc == 0 && job->done < job->frame_count) {
        rc = print_step(job);
    }
    if (rc == 0) {
        tf_printer_trim(&job->printer);
    }
    job->status = rc;
}

/* ---- on the loop ---------------------------------------------------------------------------- */

static void free_output(struct stdout_output *output)
{
    void (*on_closed)(void *ctx) = output->on_closed;
    void *ctx = output->closed_ctx;

    for (uint32_t i = 0; i < output->job.frame_count; i++) {
        tf_frame_unref(output->job.frames[i]);
    }
    tf_printer_fini(&output->job.printer);
    free(output);
    on_closed(ctx);
}

static void on_timer_closed(uv_handle_t *handle)
{
    free_output(handle->data);
}

static void advance(struct stdout_output *output);

static void on_timer(uv_timer_t *timer)
{
    advance(timer->data);
}

static void reject(struct stdout_output *output, const struct tf_frame *frame)
{
    if (tf_feed_reject(output->feed, frame->seq)) {
        tf_log(TF_LOG_ERROR, "rejected",
               TF_DETAILS(TF_STR("output", output->args.name), TF_NUM("records", frame->events)),
               "frame %llu/%llu is not a gzip of whole events; records behind the bad place are "
               "not printed",
               (unsigned long long)TF_SEQ_RUN(frame->seq),
               (unsigned long long)TF_SEQ_N(frame->seq));
    }
}

/* Acks the frames that are out, and moves the others to the front. */
static void settle_frames(struct stdout_output *output)
{
    struct job *job = &output->job;
    uint32_t left = job->frame_count - job->done;

    for (uint32_t i = 0; i < job->done; i++) {
        if (job->rejected[i]) {
            reject(output, job->frames[i]);
        } else {
            (void)tf_feed_ack(output->feed, job->frames[i]->seq);
        }
        tf_frame_unref(job->frames[i]);
    }
    memmove(job->frames, job->frames + job->done, left * sizeof job->frames[0]);
    memset(job->rejected, 0, sizeof job->rejected);
    job->frame_count = left;
    job->done = 0;
}

static void wait_for(struct stdout_output *output, uint64_t ms)
{
    output->state = WAITING;
    (void)uv_timer_start(&output->timer, on_timer, ms, 0);
}

static void handle_error(struct stdout_output *output, int rc)
{
    bool gone = rc == -EPIPE || rc == -EBADF;
    char reason[64];

    output->up = false;
    output->retries++;
    tf_log(gone ? TF_LOG_ERROR : TF_LOG_WARN, "output-down",
           TF_DETAILS(TF_STR("output", output->args.name)), "write: %s; %s",
           uv_strerror_r(rc, reason, sizeof reason),
           gone ? "nothing more is printed, records wait in the spool for the next start"
                : "retry in 1000 ms, records wait in the spool");
    if (gone) {
        output->state = STOPPED;
    } else {
        wait_for(output, RETRY_MS);
    }
}

static void on_printed(uv_work_t *work, int status)
{
    struct job *job = TF_CONTAINER_OF(work, struct job, work);
    struct stdout_output *output = TF_CONTAINER_OF(job, struct stdout_output, job);
    int rc = status < 0 ? status : job->status;

    assert(output->state == WORKING);
    settle_frames(output);
    output->state = IDLE;
    if (rc == -EAGAIN && !output->closing) {
        wait_for(output, PAUSE_MS);
    } else if (rc < 0 && !output->closing) {
        handle_error(output, rc);
    } else {
        output->up |= rc == 0;
        advance(output);
    }
}

/* What is next; nothing runs for this output now. */
static void advance(struct stdout_output *output)
{
    struct job *job = &output->job;
    int rc;

    if (output->closing) {
        if (!uv_is_closing((uv_handle_t *)&output->timer)) {
            uv_close((uv_handle_t *)&output->timer, on_timer_closed);
        }
        return;
    }
    while (job->frame_count < FRAMES_MAX &&
           tf_feed_next(output->feed, &job->frames[job->frame_count]) == 0) {
        job->frame_count++;
    }
    output->state = IDLE;
    if (job->frame_count == 0) {
        return;
    }
    output->state = WORKING;
    rc = uv_queue_work(output->args.loop, &job->work, print_work, on_printed);
    if (rc < 0) {
        handle_error(output, rc);
    }
}

/* ---- the contract --------------------------------------------------------------------------- */

static int stdout_open(const struct tf_output_args *args, void **self, struct tf_error *err)
{
    const struct stdout_options *options = args->options;
    struct stdout_output *output = calloc(1, sizeof *output);

    (void)err;
    if (output == NULL) {
        return -ENOMEM;
    }
    output->args = *args;
    tf_printer_init(&output->job.printer,
                    options->format == FORMAT_TEXT ? tf_event_print_text : tf_event_print_json);
    *self = output;
    return 0;
}

static int stdout_start(void *self, struct tf_feed *feed, struct tf_error *err)
{
    struct stdout_output *output = self;

    (void)err;
    (void)uv_timer_init(output->args.loop, &output->timer);
    output->timer.data = output;
    output->feed = feed;
    output->up = true;
    advance(output);
    return 0;
}

static void stdout_wake(void *self)
{
    struct stdout_output *output = self;

    if (output->feed != NULL && output->state == IDLE) {
        advance(output);
    }
}

static void stdout_close(void *self, void (*on_closed)(void *ctx), void *ctx)
{
    struct stdout_output *output = self;

    output->on_closed = on_closed;
    output->closed_ctx = ctx;
    output->closing = true;
    if (output->feed == NULL) {
        free_output(output);
    } else if (output->state != WORKING) {
        advance(output);
    }
}

static void stdout_status(const void *self, struct tf_output_status *status)
{
    const struct stdout_output *output = self;

    *status = (struct tf_output_status){.up = output->up, .retries = output->retries};
}

static const struct tf_option stdout_options[] = {
    {.name = "format",
     .type = TF_OPTION_CHOICE,
     .offset = offsetof(struct stdout_options, format),
     .def = "ndjson",
     .choices = "ndjson|text",
     .about = "ndjson for programs, text for eyes"},
    {0},
};

const struct tf_output_kind tf_output_stdout = {
    .name = "stdout",
    .options = stdout_options,
    .options_bytes = sizeof(struct stdout_options),
    .window = FRAMES_MAX,
    .open = stdout_open,
    .start = stdout_start,
    .wake = stdout_wake,
    .close = stdout_close,
    .status = stdout_status,
};
