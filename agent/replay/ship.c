/*
 * ship.c - one output, one replay feed and a loop, until the job is done or is stopped.
 *
 *     job file and output opened → feed started → idle: done, stopped or failed
 *         → output closed → feed closed → signals closed → the loop ends
 *
 * A signal stops handing out; what is in flight has agent.stop_timeout for its acks, so that the
 * job goes on exactly there. A second signal ends it at once: what was acked since the last save is
 * then shipped again. The job file of a job that is done stays, and says so.
 */
#include "ship.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <openssl/evp.h>
#include <uv.h>

#include "audit.h"
#include "feed.h"
#include "taffrail/commands.h"
#include "taffrail/log.h"
#include "taffrail/output.h"
#include "taffrail/progress.h"

#define TURN_MS    200u
#define DIGEST_MAX 65536u

struct ship {
    const struct tf_ship_options *options;
    const struct tf_plugin_config *output;
    const struct tf_output_kind *kind;
    void *self; /* of the output; NULL: not open */
    uv_loop_t loop;
    uv_signal_t signals[2];
    uv_timer_t timer;
    struct tf_job job;
    struct tf_replay_audit audit;
    struct tf_pick pick;
    struct tf_replay_feed *feed;
    struct tf_progress progress;
    uint8_t spool_id[TF_SPOOL_ID_BYTES];
    uint64_t begun_ns, stop_deadline_ms, losses_before; /* losses: of the job, when it went on */
    bool is_watching;                                   /* signals and timer are open */
    int signal;                                         /* 0: none came */
    int status;                                         /* of the feed */
    unsigned percent;
};

/* ---- words --------------------------------------------------------------------------------------
 */

/* Losses that were told when the job was begun, or went on: it stays incomplete. */
static void tell_losses_before(uint64_t losses)
{
    char count[TF_COUNT_TEXT_BYTES];

    if (losses > 0) {
        (void)fprintf(stderr, "incomplete: %s %s told before\n", tf_count_text(losses, count),
                      losses == 1 ? "loss was" : "losses were");
    }
}

static void tell_done_before(const struct ship *ship)
{
    char count[TF_COUNT_TEXT_BYTES], time[TF_TIME_TEXT_BYTES];

    tf_time_format(ship->job.state.begun_ns, time);
    (void)fprintf(stderr,
                  "job %s is done: %s %s shipped, begun %.19sZ; choose another --job to "
                  "ship them again\n",
                  ship->options->job, tf_count_text(ship->job.state.records, count),
                  tf_plural(ship->job.state.records, "record was", "records were"), time);
    tell_losses_before(ship->job.state.losses);
}

static void tell_shipped(struct ship *ship)
{
    char found[TF_COUNT_TEXT_BYTES], total[TF_COUNTED_TEXT_BYTES], segments[TF_COUNTED_TEXT_BYTES];
    struct tf_archive_status status;

    tf_archive_status(ship->options->archive, &status);
    (void)fprintf(stderr,
                  "%s of %s shipped to %s, %" PRIu64 " of %s read, %.1f s; job %s is done "
                  "(%s.job)",
                  tf_count_text(ship->job.state.records, found),
                  tf_counted_text(status.events, "record", total), ship->options->output,
                  status.read, tf_counted_text(status.segments, "segment", segments),
                  (double)(uv_hrtime() - ship->begun_ns) / (double)TF_S_IN_NS, ship->options->job,
                  ship->options->job);
    tf_gaps_print(&ship->pick.gaps, stderr);
    tf_undecided_print(tf_query_undecided(ship->options->query), stderr);
    tell_losses_before(ship->losses_before);
}

/* What the end means, told and as an exit code. */
static int tell_end(struct ship *ship)
{
    const char *job = ship->options->job;
    char reason[64];

    if (ship->status == 0) {
        tell_shipped(ship);
        return ship->pick.gaps.loss_count + ship->losses_before > 0 ? TF_EXIT_FOUND : TF_EXIT_FINE;
    }
    if (ship->status == -ECANCELED) {
        (void)fprintf(stderr, "stopped at %u%% (%s); the same command goes on from there (%s.job)",
                      ship->percent, ship->signal == SIGINT ? "SIGINT" : "SIGTERM", job);
        tf_gaps_print(&ship->pick.gaps, stderr);
        return 128 + ship->signal;
    }
    (void)fprintf(stderr,
                  "replay: %s; stopped at %u%%, the same command goes on from there (%s.job)",
                  uv_strerror_r(ship->status, reason, sizeof reason), ship->percent, job);
    tf_gaps_print(&ship->pick.gaps, stderr);
    return TF_EXIT_CANNOT_RUN;
}

/* ---- the job ------------------------------------------------------------------------------------
 */

static void add_word(struct tf_buf *words, const char *word)
{
    (void)tf_buf_append_text(words, word == NULL ? "" : word);
    (void)tf_buf_append_byte(words, 0);
}

/* What is shipped, and where: a job goes on only with the same. */
static int make_digest(const struct tf_ship_options *options, uint8_t out[TF_JOB_DIGEST_BYTES])
{
    const struct tf_query_options *query = options->words;
    struct tf_buf words;
    bool ok;

    tf_buf_init(&words, DIGEST_MAX);
    add_word(&words, options->output);
    add_word(&words, query->from);
    add_word(&words, query->to);
    add_word(&words, query->grep);
    for (size_t i = 0; i < query->where_count; i++) {
        add_word(&words, query->where[i]);
    }
    (void)tf_buf_printf(&words, "%" PRIu64, options->limit);
    ok = words.error == 0 && EVP_Digest(words.data, words.size, out, NULL, EVP_sha256(), NULL) == 1;
    tf_buf_fini(&words);
    return ok ? 0 : -ENOMEM;
}

/* 0: goes on or begins; 1: it is done; -EINVAL with a finding; other -errno. */
static int open_job(struct ship *ship, struct tf_error *err)
{
    const struct tf_ship_options *options = ship->options;
    struct tf_job_state fresh = {.step = TF_JOB_RUNNING, .begun_ns = tf_now_ns()};
    int dir_fd, rc = make_digest(options, fresh.digest);

    tf_query_span(options->query, &fresh.from_ns, &fresh.to_ns);
    memcpy(fresh.spool_id, ship->spool_id, TF_SPOOL_ID_BYTES);
    dir_fd = rc < 0 ? -1 : open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir_fd < 0) {
        return rc < 0 ? rc : -errno;
    }
    rc = tf_job_open(dir_fd, options->job, &fresh, &ship->job, err);
    (void)close(dir_fd);
    ship->audit.goes_on = rc == 1;
    if (rc <= 0) {
        return rc;
    }
    if (memcmp(ship->job.state.digest, fresh.digest, TF_JOB_DIGEST_BYTES) != 0) {
        return tf_error_add(err, NULL,
                            "--job: \"%s.job\" was begun with other options; give those, or choose "
                            "another id",
                            options->job);
    }
    if (memcmp(ship->job.state.spool_id, fresh.spool_id, TF_SPOOL_ID_BYTES) != 0) {
        return tf_error_add(err, NULL, "--job: \"%s.job\" is of another spool; choose another id",
                            options->job);
    }
    tf_query_set_span(options->query, ship->job.state.from_ns, ship->job.state.to_ns);
    return ship->job.state.step == TF_JOB_DONE ? 1 : 0;
}

/* ---- the end, step by step ----------------------------------------------------------------------
 */

static void on_feed_closed(void *ctx)
{
    struct ship *ship = ctx;

    ship->feed = NULL;
    if (!ship->is_watching) {
        return; /* it never ran */
    }
    for (size_t i = 0; i < TF_COUNT(ship->signals); i++) {
        uv_close((uv_handle_t *)&ship->signals[i], NULL);
    }
    uv_close((uv_handle_t *)&ship->timer, NULL);
}

static void on_output_closed(void *ctx)
{
    struct ship *ship = ctx;

    ship->self = NULL;
    if (ship->feed != NULL) {
        tf_replay_feed_close(ship->feed, on_feed_closed, ship);
    } else {
        on_feed_closed(ship);
    }
}

/* How far it is. */
static void look(struct ship *ship)
{
    struct tf_replay_progress progress;
    char found[64];
    uint64_t before = ship->progress.done_bytes;

    tf_replay_feed_progress(ship->feed, &progress);
    (void)snprintf(found, sizeof found, "%" PRIu64 " found, %" PRIu64 " acknowledged",
                   progress.found, progress.records);
    ship->progress.total_bytes = progress.bytes;
    tf_progress_add(&ship->progress, progress.passed > before ? progress.passed - before : 0,
                    found);
    ship->percent = progress.bytes == 0
                        ? 0
                        : (unsigned)((double)progress.passed * 100 / (double)progress.bytes);
    ship->percent = ship->percent > 99 ? 99 : ship->percent; /* done is said otherwise */
}

static void on_idle(void *ctx, int status)
{
    struct ship *ship = ctx;

    look(ship);
    ship->status = status;
    ship->kind->close(ship->self, on_output_closed, ship);
}

static void on_ready(void *ctx)
{
    struct ship *ship = ctx;

    ship->kind->wake(ship->self);
}

static int say(void *ctx, const struct tf_job_state *state, bool is_end, struct tf_buf *event)
{
    struct ship *ship = ctx;

    return tf_replay_audit_write(&ship->audit, state, is_end,
                                 tf_query_undecided(ship->options->query), event);
}

static void on_signal(uv_signal_t *handle, int number)
{
    struct ship *ship = handle->data;

    if (ship->signal != 0) {
        _exit(128 + number); /* asked twice; the job file is sound at any instant */
    }
    ship->signal = number;
    ship->stop_deadline_ms = uv_now(&ship->loop) + ship->options->config->agent.stop_timeout_ms;
    tf_replay_feed_stop(ship->feed);
}

static void on_turn(uv_timer_t *timer)
{
    struct ship *ship = timer->data;

    if (ship->feed == NULL) {
        return;
    }
    if (ship->signal != 0 && uv_now(&ship->loop) >= ship->stop_deadline_ms) {
        tf_replay_feed_give_up(ship->feed);
    }
    look(ship);
}

/* ---- the beginning ------------------------------------------------------------------------------
 */

static int find_output(struct ship *ship, struct tf_error *err)
{
    const struct tf_plugin_list *list = &ship->options->config->outputs;

    for (size_t i = 0; i < list->count; i++) {
        if (strcmp(list->items[i].name, ship->options->output) == 0) {
            ship->output = &list->items[i];
            ship->kind = ship->output->kind;
            return 0;
        }
    }
    return tf_error_add(err, &list->at, "--to-output: there is no output \"%s\" in %s",
                        ship->options->output, ship->options->config->file);
}

static int open_output(struct ship *ship, struct tf_error *err)
{
    struct tf_output_args args = {.name = ship->output->name,
                                  .options = ship->output->options,
                                  .at = ship->output->at,
                                  .loop = &ship->loop};

    return ship->kind->open(&args, &ship->self, err);
}

static void watch(struct ship *ship)
{
    static const int numbers[] = {SIGINT, SIGTERM};

    static_assert(TF_COUNT(numbers) == TF_COUNT(((struct ship *)0)->signals), "one handle each");
    for (size_t i = 0; i < TF_COUNT(numbers); i++) {
        (void)uv_signal_init(&ship->loop, &ship->signals[i]); /* fails only with a failed loop */
        ship->signals[i].data = ship;
        (void)uv_signal_start(&ship->signals[i], on_signal, numbers[i]);
    }
    (void)uv_timer_init(&ship->loop, &ship->timer);
    ship->timer.data = ship;
    ship->is_watching = true;
    (void)uv_timer_start(&ship->timer, on_turn, TURN_MS, TURN_MS);
}

static int start(struct ship *ship, struct tf_error *err)
{
    struct tf_replay_feed_options options = {.loop = &ship->loop,
                                             .pick = &ship->pick,
                                             .job = &ship->job,
                                             .name = ship->options->job,
                                             .window = ship->kind->window,
                                             .max_rate = ship->options->max_rate,
                                             .say = say,
                                             .on_ready = on_ready,
                                             .on_idle = on_idle,
                                             .ctx = ship};
    int rc = tf_replay_feed_open(&options, &ship->feed);

    if (rc == 0) {
        rc = ship->kind->start(ship->self, tf_replay_feed_get(ship->feed), err);
    }
    return rc;
}

/* The loop, with an output that is open. */
static void run(struct ship *ship, struct tf_error *err)
{
    tf_pick_init(&ship->pick, ship->options->archive, ship->options->query, ship->job.state.seq);
    ship->pick.match = &ship->output->match;
    ship->losses_before = ship->job.state.losses;
    if (ship->options->limit != UINT64_MAX) {
        ship->pick.limit = ship->options->limit > ship->job.state.records
                               ? ship->options->limit - ship->job.state.records
                               : 0;
    }
    tf_progress_begin(&ship->progress, "replay", 0);
    watch(ship);
    ship->status = start(ship, err);
    if (ship->status < 0) {
        ship->kind->close(ship->self, on_output_closed, ship);
    }
    (void)uv_run(&ship->loop, UV_RUN_DEFAULT);
    tf_progress_end(&ship->progress);
}

/* Returns 0 when the loop ran, 1 when the job was done before, or a negative errno. */
static int prepare_and_run(struct ship *ship, struct tf_error *err)
{
    int rc = find_output(ship, err);

    if (rc == 0) {
        rc = tf_replay_audit_open(&ship->audit, err);
    }
    if (rc == 0) {
        rc = open_output(ship, err);
    }
    if (rc < 0) {
        return rc;
    }
    rc = open_job(ship, err);
    if (rc == 0) {
        run(ship, err);
        return 0;
    }
    ship->kind->close(ship->self, on_output_closed, ship);
    return rc;
}

int tf_ship(const struct tf_ship_options *options)
{
    struct ship ship = {.options = options,
                        .begun_ns = uv_hrtime(),
                        .job = {.fd = -1},
                        .audit = {.config = options->config,
                                  .words = options->words,
                                  .output = options->output,
                                  .job = options->job,
                                  .limit = options->limit}};
    struct tf_archive_status status;
    struct tf_error err;
    int code, rc;

    tf_archive_status(options->archive, &status);
    memcpy(ship.spool_id, status.spool_id, TF_SPOOL_ID_BYTES);
    tf_log_configure(TF_LOG_WARN, (enum tf_log_format)options->config->agent.log_format);
    (void)signal(SIGPIPE, SIG_IGN);
    if (uv_loop_init(&ship.loop) < 0) {
        return TF_EXIT_CANNOT_RUN;
    }
    tf_error_init(&err);
    rc = prepare_and_run(&ship, &err);
    (void)tf_error_print(&err, stderr);
    if (rc == 0) {
        code = tell_end(&ship);
        tf_pick_fini(&ship.pick);
    } else if (rc == 1) {
        tell_done_before(&ship);
        code = ship.job.state.losses > 0 ? TF_EXIT_FOUND : TF_EXIT_FINE;
    } else {
        code = rc == -EINVAL ? TF_EXIT_USAGE : TF_EXIT_CANNOT_RUN;
    }
    tf_error_fini(&err);
    tf_replay_audit_close(&ship.audit);
    tf_job_close(&ship.job);
    (void)uv_loop_close(&ship.loop);
    return code;
}
