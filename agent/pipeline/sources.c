/*
 * sources.c - the queue of awake sources, and the pump jobs that read them on workers.
 *
 *     ASLEEP --wake--> QUEUED --job free--> RUNNING --again--> QUEUED (at the end)
 *                                              \--else--> ASLEEP
 *     any --remove--> REMOVED; on_removed when its last batch is durable or gone
 *
 * Sources take turns by deficit round robin: a turn is a block of TF_BLOCK_BYTES, and one that took
 * more in a turn (a message of some MiB) passes others' turns by until it is made up for. Urgent
 * ones have a queue of their own, which is served every second time.
 *
 * A source may ask to be woken by time: an input that has read its share, a filter that holds a
 * record until its next piece comes, or that does not know the source yet. One timer does it for
 * all, and runs only while one of them asks.
 *
 * Never two jobs of one source at once, so a source's batches reach the frame builder in order.
 * Jobs start only while the spool has room and little is waiting for its sync: that is all the
 * pressure there is, and files simply wait in their files.
 */
#include "internal.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- the queue ----------------------------------------------------------------------------------
 */

static struct source_queue *queue_of(struct tf_pipeline *pipeline, const struct tf_source *source)
{
    return &pipeline->queues[source->is_urgent ? 0 : 1];
}

static void enqueue(struct tf_pipeline *pipeline, struct tf_source *source)
{
    struct source_queue *queue = queue_of(pipeline, source);

    source->state = TF_SOURCE_QUEUED;
    source->next = NULL;
    if (queue->last != NULL) {
        queue->last->next = source;
    } else {
        queue->first = source;
    }
    queue->last = source;
}

static struct tf_source *dequeue(struct source_queue *queue)
{
    struct tf_source *source = queue->first;

    queue->first = source->next;
    if (queue->first == NULL) {
        queue->last = NULL;
    }
    source->next = NULL;
    return source;
}

/* Deficit round robin: one that took more than its share in a turn passes until it is made up for.
 */
static struct tf_source *next_source(struct tf_pipeline *pipeline)
{
    struct source_queue *urgent = &pipeline->queues[0], *others = &pipeline->queues[1];
    bool is_urgent = urgent->first != NULL && (others->first == NULL || !pipeline->was_urgent);
    struct tf_source *source = dequeue(is_urgent ? urgent : others);

    while (source->deficit_bytes < 0) {
        source->deficit_bytes += TF_BLOCK_BYTES;
        enqueue(pipeline, source);
        source = dequeue(is_urgent ? urgent : others);
    }
    pipeline->was_urgent = is_urgent;
    return source;
}

static void unlink_queued(struct tf_pipeline *pipeline, struct tf_source *source)
{
    struct source_queue *queue = queue_of(pipeline, source);
    struct tf_source *before = NULL;
    struct tf_source *at = queue->first;

    while (at != NULL && at != source) {
        before = at;
        at = at->next;
    }
    if (at == NULL) {
        return;
    }
    if (before != NULL) {
        before->next = source->next;
    } else {
        queue->first = source->next;
    }
    if (queue->last == source) {
        queue->last = before;
    }
}

void tf_source_hurry(struct tf_source *source, bool is_urgent)
{
    if (source->is_urgent == is_urgent) {
        return;
    }
    if (source->state != TF_SOURCE_QUEUED) {
        source->is_urgent = is_urgent;
        return;
    }
    unlink_queued(source->pipeline, source);
    source->is_urgent = is_urgent;
    enqueue(source->pipeline, source);
}

/* ---- by time ------------------------------------------------------------------------------------
 */

static void on_wake_timer(uv_timer_t *timer);

static void arm_wake_timer(struct tf_pipeline *pipeline, uint64_t wake_at_ms)
{
    uint64_t now_ms = uv_now(pipeline->loop);

    if (pipeline->wake_at_ms != 0 && pipeline->wake_at_ms <= wake_at_ms) {
        return;
    }
    pipeline->wake_at_ms = wake_at_ms;
    (void)uv_timer_start(&pipeline->wake_timer, on_wake_timer,
                         wake_at_ms > now_ms ? wake_at_ms - now_ms : 0, 0);
}

static void forget_time(struct tf_source *source)
{
    struct tf_pipeline *pipeline = source->pipeline;

    if (source->wake_at_ms == 0) {
        return;
    }
    if (source->timed_previous != NULL) {
        source->timed_previous->timed_next = source->timed_next;
    } else {
        pipeline->timed = source->timed_next;
    }
    if (source->timed_next != NULL) {
        source->timed_next->timed_previous = source->timed_previous;
    }
    source->timed_previous = source->timed_next = NULL;
    source->wake_at_ms = 0;
}

static void wake_at(struct tf_source *source, uint64_t at_ms)
{
    struct tf_pipeline *pipeline = source->pipeline;

    source->wake_at_ms = at_ms;
    source->timed_next = pipeline->timed;
    if (pipeline->timed != NULL) {
        pipeline->timed->timed_previous = source;
    }
    pipeline->timed = source;
    arm_wake_timer(pipeline, at_ms);
}

static void on_wake_timer(uv_timer_t *timer)
{
    struct tf_pipeline *pipeline = timer->data;
    uint64_t now_ms = uv_now(pipeline->loop), earliest_ms = UINT64_MAX;
    struct tf_source *next;

    pipeline->wake_at_ms = 0;
    for (struct tf_source *source = pipeline->timed; source != NULL; source = next) {
        next = source->timed_next;
        if (source->wake_at_ms <= now_ms) {
            forget_time(source);
            if (source->state == TF_SOURCE_ASLEEP) {
                enqueue(pipeline, source);
            }
        } else if (source->wake_at_ms < earliest_ms) {
            earliest_ms = source->wake_at_ms;
        }
    }
    if (earliest_ms != UINT64_MAX) {
        arm_wake_timer(pipeline, earliest_ms);
    }
    tf_sources_run(pipeline);
}

void tf_sources_start(struct tf_pipeline *pipeline)
{
    (void)uv_timer_init(pipeline->loop,
                        &pipeline->wake_timer); /* cannot fail: it only fills the struct */
    pipeline->wake_timer.data = pipeline;
}

/* ---- jobs ---------------------------------------------------------------------------------------
 */

/* A batch that could not even be masked is never passed: its records are dropped, and the read is
 * repeated. */
static void fill_job(struct job *job)
{
    struct tf_source *source = job->source;
    const struct tf_filters *filters = job->pipeline->filters;
    struct tf_stream_state states[TF_STREAMS];

    job->batch.now_ms = uv_hrtime() / (uint64_t)TF_MS_IN_NS;
    source->kind->pump(source, &job->batch, &job->result);
    if (job->result.status < 0) {
        return;
    }
    (void)snprintf(job->tag, sizeof job->tag, "%s", source->tag);
    job->batch.tag = job->tag;
    if (job->result.has_position || job->batch.record_count > 0) {
        job->status = tf_filters_apply(filters, job->scratch, source->filter_states, &job->batch);
    } /* else nothing that filters hold may go out: without a position it would come again */
    if (job->status < 0) {
        return;
    }
    tf_filters_held(filters, source->filter_states, &job->held);
    job->status = tf_events_encode(&job->batch, &source->constants, &job->events, &job->summary);
    if (job->status == 0 && job->result.has_position) {
        tf_filters_states_save(filters, source->filter_states, states);
        source->kind->position(source, job->held.from, states, &job->deltas);
        job->status = job->deltas.error;
    }
}

/* Worker. */
static void run_job(uv_work_t *work)
{
    struct job *job = TF_CONTAINER_OF(work, struct job, work);
    const struct tf_filters *filters = job->pipeline->filters;

    memset(job->held_change, 0, filters->count * sizeof *job->held_change);
    tf_filters_count_held(filters, job->source->filter_states, -1, job->held_change);
    fill_job(job);
    tf_filters_count_held(filters, job->source->filter_states, 1, job->held_change);
}

void tf_sources_fini(struct tf_source *source)
{
    tf_filters_states_free(source->pipeline->filters, source->filter_states);
    source->filter_states = NULL;
    tf_constants_fini(&source->constants);
}

static void note_held(struct tf_pipeline *pipeline, const struct job *job)
{
    job->source->held_records = job->held.records;
    for (size_t i = 0; i < pipeline->filters->count; i++) {
        pipeline->books.held[i] += job->held_change[i];
    }
}

void tf_sources_unref(struct tf_source *source)
{
    assert(source->jobs > 0);
    if (--source->jobs > 0 || source->state != TF_SOURCE_REMOVED) {
        return;
    }
    tf_filters_count_held(source->pipeline->filters, source->filter_states, -1,
                          source->pipeline->books.held);
    tf_sources_fini(source);
    source->kind->on_removed(source);
}

static int hand_on(struct job *job)
{
    struct tf_source *source = job->source;
    struct part part = {
        .source = source,
        .cookie = job->result.cookie,
        .records = job->summary.events,
        .joined = job->batch.joined,
        .filtered = job->summary.dropped,
        .redacted = job->summary.redacted,
        .withheld = job->summary.withheld,
        .malformed = job->summary.malformed,
        .truncated = job->summary.truncated,
        .batch = &job->batch,
    };
    static_assert(sizeof part.withheld_by == sizeof job->summary.withheld_by, "copied");
    enum tf_frame_type type = job->summary.events > 0 ? TF_FRAME_DATA : TF_FRAME_POSITIONS;
    int rc;

    memcpy(part.withheld_by, job->summary.withheld_by, sizeof part.withheld_by);
    tf_books_tell_withheld(job->pipeline, job->batch.tallies, job->batch.tally_count);
    if (job->summary.events == 0 && job->deltas.size == 0 && part.cookie == 0) {
        tf_books_take(job->pipeline, &part);
        tf_books_take_tallies(job->pipeline, job->batch.tallies, job->batch.tally_count);
        return 0;
    }
    source->jobs++;
    rc = tf_frames_add(job->pipeline, type, job->tag, &job->events, &job->summary, &job->deltas,
                       &part);
    if (rc < 0) {
        source->jobs--; /* the running job still holds one */
    }
    return rc;
}

/* A batch that was pumped and could not be taken: what was read must be read again. */
static void lose_batch(struct tf_pipeline *pipeline, struct tf_source *source, int status)
{
    pipeline->books.lost_batches++;
    pipeline->rewinding = true;
    tf_log(TF_LOG_ERROR, "batch", TF_DETAILS(TF_STR("source", source->tag)),
           "a batch could not be taken: %s; its source goes back", uv_strerror(status));
}

void tf_sources_rewind(struct tf_pipeline *pipeline)
{
    if (!pipeline->rewinding || pipeline->jobs_running > 0) {
        return;
    }
    tf_frames_drop_all(pipeline);
    pipeline->rewinding = false;
    for (size_t i = 0; i < pipeline->input_count; i++) {
        if (pipeline->inputs[i].open) {
            pipeline->inputs[i].kind->rewind(pipeline->inputs[i].self);
        }
    }
}

/* When the source is to be woken by time, if at all. */
static void set_time(struct tf_source *source, uint64_t input_ms, uint64_t filters_ms)
{
    uint64_t at_ms = input_ms;

    if (at_ms == 0 || (filters_ms != 0 && filters_ms < at_ms)) {
        at_ms = filters_ms;
    }
    forget_time(source);
    if (at_ms != 0 && source->state != TF_SOURCE_REMOVED) {
        wake_at(source, at_ms);
    }
}

static void after_job(uv_work_t *work, int status)
{
    struct job *job = TF_CONTAINER_OF(work, struct job, work);
    struct tf_pipeline *pipeline = job->pipeline;
    struct tf_source *source = job->source;
    struct tf_pump_result result;
    struct tf_filter_held held = job->held;
    int rc = status < 0 ? status : job->status;

    if (rc == -EMSGSIZE) { /* the same read would only fail again: the input must take less */
        job->result.status = rc;
        job->result.again = false;
        rc = 0;
    }
    if (rc == 0 && job->result.status == 0 && !pipeline->rewinding) {
        rc = hand_on(job);
    }
    if (rc < 0) {
        lose_batch(pipeline, source, rc);
    }
    note_held(pipeline, job);
    pipeline->inputs[source->input].bytes += job->batch.read_bytes;
    source->deficit_bytes += (int64_t)TF_BLOCK_BYTES - (int64_t)job->batch.read_bytes;
    source->deficit_bytes = source->deficit_bytes < 0 ? source->deficit_bytes : 0;
    result = job->result;
    pipeline->jobs_running--;
    job->source = NULL; /* from here on the job may run for another source, already in `pumped` */
    if (source->state == TF_SOURCE_RUNNING) {
        source->state = TF_SOURCE_ASLEEP;
        source->kind->pumped(source, &result);
    }
    set_time(source, result.wake_at_ms, held.deadline_ms);
    if (source->state == TF_SOURCE_ASLEEP && (result.again || source->wake_again)) {
        source->wake_again = false;
        enqueue(pipeline, source);
    }
    tf_sources_unref(source);
    tf_sources_rewind(pipeline);
    tf_sources_run(pipeline);
}

/* The filters' word before a job: false when the source is to wait. */
static bool takes_turn(struct tf_source *source)
{
    struct tf_pipeline *pipeline = source->pipeline;
    struct tf_filters_turn turn = tf_filters_turn(pipeline->filters, source->filter_states,
                                                  source->tag, uv_now(pipeline->loop));
    int rc = 0;

    source->wants_renewal = source->wants_renewal || turn.renews;
    source->waits_for_filter = turn.waits;
    if (turn.waits) {
        source->state = TF_SOURCE_ASLEEP;
        forget_time(source);
        wake_at(source, turn.until_ms);
        return false;
    }
    if (source->wants_renewal) {
        source->wants_renewal = false;
        rc = tf_source_renew(source);
    }
    if (rc < 0) {
        tf_log(TF_LOG_WARN, "constants", TF_DETAILS(TF_STR("source", source->tag)),
               "what a filter knows of a source cannot be put on its records: %s; they stay as "
               "they were",
               uv_strerror(rc));
    }
    return true;
}

void tf_sources_ask_again(struct tf_pipeline *pipeline)
{
    struct tf_source *next;

    for (struct tf_source *source = pipeline->timed; source != NULL; source = next) {
        next = source->timed_next;
        if (source->waits_for_filter && source->state == TF_SOURCE_ASLEEP) {
            forget_time(source);
            enqueue(pipeline, source);
        }
    }
    tf_sources_run(pipeline);
}

static bool may_pump(const struct tf_pipeline *pipeline)
{
    return !pipeline->rewinding &&
           (pipeline->queues[0].first != NULL || pipeline->queues[1].first != NULL) &&
           pipeline->jobs_running < pipeline->workers && tf_spool_has_room(pipeline->spool) &&
           tf_spool_unsynced_bytes(pipeline->spool) < TF_PRESSURE_BYTES;
}

static struct job *free_job(struct tf_pipeline *pipeline)
{
    for (uint32_t i = 0; i < pipeline->workers; i++) {
        if (pipeline->jobs[i].source == NULL) {
            return &pipeline->jobs[i];
        }
    }
    return NULL;
}

void tf_sources_run(struct tf_pipeline *pipeline)
{
    while (may_pump(pipeline)) {
        struct job *job = free_job(pipeline);
        struct tf_source *source;

        assert(job != NULL);
        if (tf_batch_reset(&job->batch) < 0) {
            return; /* the next finished job tries again */
        }
        source = next_source(pipeline);
        if (!takes_turn(source)) {
            continue;
        }
        source->state = TF_SOURCE_RUNNING;
        source->wake_again = false;
        source->jobs++;
        job->source = source;
        job->status = 0;
        job->result = (struct tf_pump_result){0};
        job->summary = (struct tf_events_summary){0};
        job->held = (struct tf_filter_held){0};
        tf_buf_clear(&job->events);
        tf_buf_clear(&job->deltas);
        pipeline->jobs_running++;
        if (uv_queue_work(pipeline->loop, &job->work, run_job, after_job) < 0) {
            abort(); /* only for a NULL callback */
        }
    }
}

void tf_source_wake(struct tf_source *source)
{
    if (source->state == TF_SOURCE_RUNNING) {
        source->wake_again = true;
    } else if (source->state == TF_SOURCE_ASLEEP) {
        enqueue(source->pipeline, source);
        tf_sources_run(source->pipeline);
    }
}

void tf_source_remove(struct tf_source *source)
{
    if (source->state == TF_SOURCE_REMOVED) {
        return;
    }
    if (source->state == TF_SOURCE_QUEUED) {
        unlink_queued(source->pipeline, source);
    }
    forget_time(source);
    source->state = TF_SOURCE_REMOVED;
    source->jobs++; /* so that the last reference goes through one door */
    tf_sources_unref(source);
}
