/*
 * pipeline.c - builds, starts and stops an agent.
 *
 *     new     opens every plugin: what `check` does too; nothing is read, sent or written
 *     prepare what is made before the process is confined (sandbox.h), and what is needed then
 *     start   spool (recovers), then outputs, filters, inputs (docs/guarantees.md C6)
 *     stop    inputs close → open frames are appended and synced → outputs get until
 *             agent.stop_timeout to have them acked → outputs, feeds, filters, spool close
 */
#include "internal.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#define STOP_POLL_MS 10u
#define SUMMARY_MAX  8192u /* of one input or output */

/* All plugins of a list are opened, so that all findings come in one run; the first failure counts,
 * also one that is no finding (no memory): nothing ever runs without a plugin that was asked for.
 */
static int open_inputs(struct tf_pipeline *pipeline, struct tf_error *err)
{
    const struct tf_plugin_list *list = &pipeline->config->inputs;
    int first = 0;

    if (list->count == 0) {
        return tf_error_add(err, &list->at,
                            "there are no inputs: replay and verify can use this file, run cannot; "
                            "write inputs: [container: {}]");
    }
    for (size_t i = 0; i < list->count; i++) {
        const struct tf_plugin_config *item = &list->items[i];
        struct input *input = &pipeline->inputs[pipeline->input_count];
        struct tf_input_args args = {.name = item->name,
                                     .tag = item->tag,
                                     .host = pipeline->config->agent.host.text,
                                     .options = item->options,
                                     .at = item->at,
                                     .loop = pipeline->loop,
                                     .opener = pipeline->config->opener,
                                     .tls_files = pipeline->config->tls_files,
                                     .launcher = pipeline->config->launcher};
        int rc;

        input->kind = item->kind;
        input->name = item->name;
        rc = input->kind->open(&args, &input->self, err);
        if (rc == 0) {
            input->open = true;
            pipeline->input_count++;
        }
        first = first == 0 ? rc : first;
    }
    return first;
}

static int open_outputs(struct tf_pipeline *pipeline, struct tf_error *err)
{
    const struct tf_plugin_list *list = &pipeline->config->outputs;
    int first = 0;

    for (size_t i = 0; i < list->count; i++) {
        const struct tf_plugin_config *item = &list->items[i];
        struct output *output = &pipeline->outputs[pipeline->output_count];
        struct tf_output_args args = {.name = item->name,
                                      .options = item->options,
                                      .at = item->at,
                                      .loop = pipeline->loop,
                                      .tls_files = pipeline->config->tls_files};
        int rc;

        output->pipeline = pipeline;
        output->kind = item->kind;
        output->name = item->name;
        output->match = &item->match;
        rc = output->kind->open(&args, &output->self, err);
        if (rc == 0) {
            pipeline->output_count++;
        }
        first = first == 0 ? rc : first;
    }
    return first;
}

uint32_t tf_pipeline_workers(const struct tf_agent_options *options)
{
    uint64_t workers = options->workers;

    if (workers == 0) {
        workers = uv_available_parallelism();
        workers = workers > 4 ? 4 : workers;
    }
    return (uint32_t)(workers > TF_JOBS_MAX ? TF_JOBS_MAX : workers);
}

static int make_job(struct tf_pipeline *pipeline, struct job *job)
{
    int rc = tf_batch_init(&job->batch);

    if (rc < 0) {
        return rc;
    }
    job->pipeline = pipeline;
    tf_buf_init(&job->events, TF_DRAFT_PAYLOAD_MAX);
    tf_buf_init(&job->deltas, TF_DRAFT_DELTAS_MAX);
    job->scratch = tf_filters_scratch_new(pipeline->filters);
    job->held_change = calloc(pipeline->filters->count + 1, sizeof *job->held_change);
    return job->scratch != NULL && job->held_change != NULL ? 0 : -ENOMEM;
}

int tf_pipeline_new(uv_loop_t *loop, const struct tf_config *config, struct tf_pipeline **out,
                    struct tf_error *err)
{
    struct tf_pipeline *pipeline = calloc(1, sizeof *pipeline);
    int rcs[3], rc = -ENOMEM;

    if (pipeline == NULL) {
        return -ENOMEM;
    }
    pipeline->loop = loop;
    pipeline->config = config;
    pipeline->workers = tf_pipeline_workers(&config->agent);
    pipeline->inputs = calloc(config->inputs.count + 1, sizeof *pipeline->inputs);
    pipeline->outputs = calloc(config->outputs.count + 1, sizeof *pipeline->outputs);
    if (pipeline->inputs == NULL || pipeline->outputs == NULL) {
        goto done;
    }
    rc = tf_filters_open(&config->filters, &pipeline->filters, err);
    if (pipeline->filters == NULL) {
        goto done;
    }
    rcs[0] = tf_books_open(pipeline);
    rcs[1] = open_inputs(pipeline, err);
    rcs[2] = open_outputs(pipeline, err);
    for (size_t i = 0; i < TF_COUNT(rcs) && rc == 0; i++) {
        rc = rcs[i];
    }
    *out = pipeline; /* also half-built: what was opened is closed by tf_pipeline_stop */
    pipeline = NULL;
done:
    tf_pipeline_free(pipeline);
    return rc;
}

void tf_pipeline_takes_over(struct tf_pipeline *pipeline, const char *changed, const char *why)
{
    pipeline->changed = changed;
    pipeline->why = why;
}

/* "NAME: SAID", or the name alone. Empties said. */
static void add_summary(struct tf_buf *out, const char *name, struct tf_buf *said)
{
    (void)tf_buf_printf(out, "%s%s%s", out->size > 0 ? "; " : "", name, said->size > 0 ? ": " : "");
    (void)tf_buf_append(out, said->data, said->size);
    tf_buf_clear(said);
}

void tf_pipeline_summarize(struct tf_pipeline *pipeline, struct tf_buf *reads, struct tf_buf *ships)
{
    struct tf_buf said;

    tf_buf_init(&said, SUMMARY_MAX);
    for (size_t i = 0; i < pipeline->input_count; i++) {
        const struct input *input = &pipeline->inputs[i];

        if (input->kind->summarize != NULL) {
            input->kind->summarize(input->self, &said);
        }
        add_summary(reads, input->name, &said);
    }
    for (size_t i = 0; i < pipeline->output_count; i++) {
        const struct output *output = &pipeline->outputs[i];

        if (output->kind->summarize != NULL) {
            output->kind->summarize(output->self, &said);
        }
        add_summary(ships, output->name, &said);
    }
    tf_buf_fini(&said);
}

int tf_pipeline_prepare(struct tf_pipeline *pipeline, bool is_reload, struct tf_needs *needs,
                        struct tf_error *err)
{
    const struct tf_spool_options *spool = &pipeline->config->spool;
    int rc = tf_spool_prepare(spool, is_reload, needs, err);

    if (rc == 0) {
        rc = tf_filters_prepare(pipeline->filters, pipeline->config->agent.host.text, needs, err);
    }
    for (size_t i = 0; i < pipeline->input_count && rc == 0; i++) {
        const struct input *input = &pipeline->inputs[i];

        if (input->kind->prepare != NULL) {
            rc = input->kind->prepare(input->self, spool->path.text, needs, err);
        }
    }
    for (size_t i = 0; i < pipeline->output_count; i++) {
        const struct output *output = &pipeline->outputs[i];

        if (output->kind->needs != NULL) {
            output->kind->needs(output->self, needs);
        }
    }
    return rc;
}

static void on_feed_ready(void *ctx)
{
    struct output *output = ctx;

    output->kind->wake(output->self);
}

static int start_outputs(struct tf_pipeline *pipeline, struct tf_error *err)
{
    for (size_t i = 0; i < pipeline->output_count; i++) {
        struct output *output = &pipeline->outputs[i];
        struct tf_feed_options options = {.name = output->name,
                                          .match = output->match,
                                          .window = output->kind->window,
                                          .unsaved_max = output->kind->unsaved_max,
                                          .on_ready = on_feed_ready,
                                          .ctx = output};
        int rc = tf_feed_open(pipeline->spool, &options, &output->feed);

        if (rc == 0) {
            rc = output->kind->start(output->self, output->feed, err);
        }
        if (rc < 0) {
            return rc;
        }
    }
    return 0;
}

static void on_new_run(void *ctx)
{
    struct tf_pipeline *pipeline = ctx;

    pipeline->rewinding = true;
    tf_log(TF_LOG_WARN, "disk-error", NULL, 0,
           "a write or sync failed; a new run began, sources go back to what is safe");
    tf_frames_drop_all(pipeline); /* they build on what was lost */
    tf_sources_rewind(pipeline);
}

static void on_room(void *ctx)
{
    tf_sources_run(ctx);
}

static void on_filter_change(void *ctx)
{
    tf_sources_ask_again(ctx);
}

static int start_filters(struct tf_pipeline *pipeline, struct tf_error *err)
{
    const struct tf_filter_start start = {.loop = pipeline->loop,
                                          .spool = pipeline->spool,
                                          .folder = pipeline->config->spool.path.text,
                                          .on_change = on_filter_change,
                                          .ctx = pipeline};

    return tf_filters_start(pipeline->filters, &start, err);
}

static int open_spool(struct tf_pipeline *pipeline, struct tf_error *err)
{
    const char **names = calloc(pipeline->output_count + 1, sizeof *names);
    struct tf_spool_callbacks callbacks = {
        .ctx = pipeline, .on_event = tf_events_take, .on_new_run = on_new_run, .on_room = on_room};
    int rc;

    if (names == NULL) {
        return -ENOMEM;
    }
    for (size_t i = 0; i < pipeline->output_count; i++) {
        names[i] = pipeline->outputs[i].name;
    }
    rc = tf_spool_open(pipeline->loop, &pipeline->config->spool, names, pipeline->output_count,
                       &callbacks, &pipeline->spool, err);
    free(names);
    return rc;
}

/* Which rules are on, and what they cost here. */
static void log_rules(const struct tf_pipeline *pipeline)
{
    for (size_t i = 0; i < pipeline->filters->count; i++) {
        const struct filter *filter = &pipeline->filters->items[i];
        struct tf_filter_facts facts;

        if (filter->kind->facts != NULL) {
            filter->kind->facts(filter->self, &facts);
            tf_log(TF_LOG_INFO, "rules",
                   TF_DETAILS(TF_NUM("own", facts.own_rules),
                              TF_NUM("ns_per_line", facts.ns_a_line),
                              TF_STR("kernel", facts.kernel), TF_BOOL("jit", facts.has_jit)),
                   "%u %s on", facts.rules, tf_plural(facts.rules, "rule", "rules"));
        }
    }
}

/* In which state of confinement these records were made. */
static int audit_sandbox(struct tf_pipeline *pipeline)
{
    struct tf_sandbox_status status;

    tf_sandbox_status(&status);
    if (!status.is_closed) {
        return 0;
    }
    return tf_pipeline_audit(
        pipeline, "sandbox",
        status.layers == TF_SANDBOX_LAYERS ? "all layers of the sandbox are on"
                                           : "the sandbox lacks a layer",
        TF_DETAILS(TF_NUM("layers", status.layers), TF_NUM("landlock", status.landlock_abi),
                   TF_STR("no_new_privs", status.has[TF_LAYER_NO_NEW_PRIVS] ? "on" : "off"),
                   TF_STR("capabilities", status.has[TF_LAYER_CAPABILITIES] ? "on" : "off"),
                   TF_STR("seccomp", tf_sandbox_calls[status.calls])));
}

static int audit_start(struct tf_pipeline *pipeline)
{
    char digest[TF_CONFIG_DIGEST_BYTES];
    int rc;

    tf_config_digest(&pipeline->config->mark, digest);
    if (pipeline->changed == NULL) {
        rc = tf_pipeline_audit(pipeline, "start", "the agent starts",
                               TF_DETAILS(TF_STR("digest", digest)));
    } else {
        rc = tf_pipeline_audit(
            pipeline, "reload", pipeline->why,
            TF_DETAILS(TF_STR("digest", digest), TF_STR("changed", pipeline->changed)));
    }
    if (rc == 0) {
        rc = audit_sandbox(pipeline);
    }
    if (rc == 0 && pipeline->config->redact_off) {
        rc = tf_pipeline_audit(pipeline, "redaction-off", "redaction is off by configuration", NULL,
                               0);
    }
    return rc;
}

int tf_pipeline_start(struct tf_pipeline *pipeline, struct tf_error *err)
{
    int rc = 0;

    for (uint32_t i = 0; i < pipeline->workers && rc == 0; i++) {
        rc = make_job(pipeline, &pipeline->jobs[i]);
    }
    if (rc == 0) {
        rc = open_spool(pipeline, err);
    }
    if (rc < 0) {
        return rc;
    }
    (void)uv_timer_init(pipeline->loop,
                        &pipeline->sync_timer); /* cannot fail: it only fills the struct */
    (void)uv_timer_init(pipeline->loop, &pipeline->stop_timer);
    pipeline->sync_timer.data = pipeline;
    pipeline->stop_timer.data = pipeline;
    tf_sources_start(pipeline);
    (void)uv_timer_init(pipeline->loop, &pipeline->event_timer);
    pipeline->event_timer.data = pipeline;
    pipeline->open_handles = 4;
    log_rules(pipeline);
    rc = start_outputs(pipeline, err);
    if (rc == 0) {
        rc = audit_start(pipeline);
        tf_events_flush(pipeline);
    }
    if (rc == 0) {
        rc = start_filters(pipeline, err);
    }
    for (size_t i = 0; i < pipeline->input_count && rc == 0; i++) {
        rc = pipeline->inputs[i].kind->start(pipeline->inputs[i].self, pipeline, err);
    }
    pipeline->is_started = rc == 0;
    return rc;
}

/* ---- stop: one step's last callback begins the next ------------------------------------------ */

static void finish(struct tf_pipeline *pipeline)
{
    pipeline->on_stopped(pipeline->stopped_ctx);
}

static void on_timer_closed(uv_handle_t *handle)
{
    struct tf_pipeline *pipeline = handle->data;

    assert(pipeline->open_handles > 0);
    if (--pipeline->open_handles == 0) {
        finish(pipeline);
    }
}

static void on_spool_closed(void *ctx)
{
    struct tf_pipeline *pipeline = ctx;

    pipeline->spool = NULL;
    if (pipeline->open_handles == 0) {
        finish(pipeline);
        return;
    }
    uv_close((uv_handle_t *)&pipeline->sync_timer, on_timer_closed);
    uv_close((uv_handle_t *)&pipeline->stop_timer, on_timer_closed);
    uv_close((uv_handle_t *)&pipeline->wake_timer, on_timer_closed);
    uv_close((uv_handle_t *)&pipeline->event_timer, on_timer_closed);
}

static void on_filters_stopped(void *ctx)
{
    struct tf_pipeline *pipeline = ctx;

    if (pipeline->spool != NULL) {
        tf_spool_close(pipeline->spool, on_spool_closed, pipeline);
        return;
    }
    on_spool_closed(pipeline);
}

static void close_feed_then_next(void *ctx);

static void close_next_output(void *ctx)
{
    struct tf_pipeline *pipeline = ctx;

    if (pipeline->output_count > 0) {
        struct output *output = &pipeline->outputs[--pipeline->output_count];

        if (output->feed != NULL) {
            pipeline->closing_feed = output->feed;
        }
        output->kind->close(output->self, close_feed_then_next, pipeline);
        return;
    }
    tf_filters_stop(pipeline->filters, on_filters_stopped, pipeline);
}

static void close_feed_then_next(void *ctx)
{
    struct tf_pipeline *pipeline = ctx;

    tf_feed_close(pipeline->closing_feed);
    pipeline->closing_feed = NULL;
    close_next_output(pipeline);
}

static bool all_acked(const struct tf_pipeline *pipeline)
{
    for (size_t i = 0; i < pipeline->output_count; i++) {
        struct tf_feed_status status;

        if (pipeline->outputs[i].feed == NULL) {
            continue; /* an output before it did not start */
        }
        tf_feed_status(pipeline->outputs[i].feed, &status);
        if (status.pending > 0) {
            return false;
        }
    }
    return true;
}

/* Until the inputs are closed it only hurries their frames; then it waits for acks. */
static void on_stop_poll(uv_timer_t *timer)
{
    struct tf_pipeline *pipeline = timer->data;
    bool is_late = uv_now(pipeline->loop) >= pipeline->stop_deadline_ms;
    bool is_synced, waits_for_acks;

    tf_frames_close_all(pipeline);
    if (is_late && pipeline->spool != NULL) {
        tf_spool_give_up(pipeline->spool);
    }
    is_synced = tf_spool_unsynced_bytes(pipeline->spool) == 0;
    waits_for_acks = uv_now(pipeline->loop) < pipeline->acks_deadline_ms && !all_acked(pipeline);
    if (!pipeline->inputs_closed || ((!is_synced || waits_for_acks) && !is_late)) {
        return;
    }
    (void)uv_timer_stop(timer);
    tf_pipeline_log_books(pipeline);
    close_next_output(pipeline);
}

static void close_next_input(void *ctx)
{
    struct tf_pipeline *pipeline = ctx;

    for (size_t i = 0; i < pipeline->input_count; i++) {
        if (pipeline->inputs[i].open) {
            pipeline->inputs[i].open = false;
            pipeline->inputs[i].kind->close(pipeline->inputs[i].self, close_next_input, pipeline);
            return;
        }
    }
    pipeline->inputs_closed = true;
    if (pipeline->open_handles == 0) {
        close_next_output(pipeline); /* never started */
        return;
    }
    tf_events_flush(pipeline);
    (void)tf_books_audit(pipeline); /* without memory for it, the log has the books */
}

static void begin_stop(struct tf_pipeline *pipeline)
{
    uint64_t now_ms = uv_now(pipeline->loop);
    uint64_t patience_ms = pipeline->config->agent.stop_timeout_ms;

    pipeline->stop_deadline_ms = now_ms + patience_ms;
    if (pipeline->is_leaving && patience_ms > TF_LEAVE_ACKS_MS) {
        patience_ms = TF_LEAVE_ACKS_MS;
    }
    pipeline->acks_deadline_ms = now_ms + patience_ms;
    (void)uv_timer_start(&pipeline->stop_timer, on_stop_poll, 0, STOP_POLL_MS);
}

void tf_pipeline_leave(struct tf_pipeline *pipeline, void (*on_stopped)(void *ctx), void *ctx)
{
    pipeline->is_leaving = true;
    tf_pipeline_stop(pipeline, on_stopped, ctx);
}

void tf_pipeline_stop(struct tf_pipeline *pipeline, void (*on_stopped)(void *ctx), void *ctx)
{
    if (pipeline->stopping) {
        return;
    }
    pipeline->stopping = true;
    pipeline->on_stopped = on_stopped;
    pipeline->stopped_ctx = ctx;
    if (pipeline->open_handles > 0) {
        begin_stop(pipeline);
    }
    close_next_input(pipeline);
}

static void job_fini(struct tf_pipeline *pipeline, struct job *job)
{
    tf_filters_scratch_free(pipeline->filters, job->scratch);
    free(job->held_change);
    tf_buf_fini(&job->events);
    tf_buf_fini(&job->deltas);
    tf_batch_fini(&job->batch);
}

void tf_pipeline_free(struct tf_pipeline *pipeline)
{
    if (pipeline == NULL) {
        return;
    }
    for (uint32_t i = 0; i < pipeline->workers; i++) {
        job_fini(pipeline, &pipeline->jobs[i]);
    }
    tf_books_close(pipeline);
    tf_filters_close(pipeline->filters);
    free(pipeline->inputs);
    free(pipeline->outputs);
    tf_events_drop(pipeline);
    free(pipeline);
}
