/*
 * sources.c - the queue of awake sources, and the pump jobs that read them on workers.
 *
 *     ASLEEP --wake--> QUEUED --job free--> RUNNING --again--> QUEUED (at the end: round robin)
 *                                              \--else--> ASLEEP
 *     any --remove--> REMOVED; on_removed when its last batch is durable or gone
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

static void enqueue(struct tf_pipeline *pipeline, struct tf_source *source)
{
    source->state = TF_SOURCE_QUEUED;
    source->next = NULL;
    if (pipeline->queue_last != NULL) {
        pipeline->queue_last->next = source;
    } else {
        pipeline->queue_first = source;
    }
    pipeline->queue_last = source;
}

static struct tf_source *dequeue(struct tf_pipeline *pipeline)
{
    struct tf_source *source = pipeline->queue_first;

    pipeline->queue_first = source->next;
    if (pipeline->queue_first == NULL) {
        pipeline->queue_last = NULL;
    }
    source->next = NULL;
    return source;
}

static void unlink_queued(struct tf_pipeline *pipeline, struct tf_source *source)
{
    struct tf_source *before = NULL;
    struct tf_source *at = pipeline->queue_first;

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
        pipeline->queue_first = source->next;
    }
    if (pipeline->queue_last == source) {
        pipeline->queue_last = before;
    }
}

static bool filter_applies(const struct filter *filter, const char *tag)
{
    struct tf_slice text = tf_slice_text(tag);

    for (size_t i = 0; i < filter->match->count; i++) {
        if (tf_glob_match(filter->match->items[i].text, text, '.')) {
            return true;
        }
    }
    return filter->match->count == 0;
}

/* Worker. A batch that could not even be masked is never passed: its records are dropped, and the
 * read is repeated. */
static int apply_filters(struct job *job)
{
    struct tf_pipeline *pipeline = job->pipeline;

    for (size_t i = 0; i < pipeline->filter_count; i++) {
        struct filter *filter = &pipeline->filters[i];
        int rc = 0;

        if (filter_applies(filter, job->tag)) {
            rc = filter->kind->apply(filter->self, job->scratch[i], job->source->filter_states[i],
                                     &job->batch);
        }
        if (rc < 0) {
            return rc;
        }
    }
    tf_batch_close_cuts(&job->batch); /* where redaction is off */
    return 0;
}

static void save_states(const struct job *job, struct tf_stream_state states[TF_STREAMS])
{
    const struct tf_pipeline *pipeline = job->pipeline;

    memset(states, 0, TF_STREAMS * sizeof states[0]);
    for (size_t i = 0; i < pipeline->filter_count; i++) {
        const struct filter *filter = &pipeline->filters[i];

        if (filter->kind->state_save == NULL || job->source->filter_states[i] == NULL) {
            continue;
        }
        for (unsigned stream = 0; stream < TF_STREAMS; stream++) {
            filter->kind->state_save(job->source->filter_states[i], (enum tf_stream)stream,
                                     &states[stream]);
        }
    }
}

static void run_job(uv_work_t *work)
{
    struct job *job = TF_CONTAINER_OF(work, struct job, work);
    struct tf_source *source = job->source;
    struct tf_stream_state states[TF_STREAMS];

    source->kind->pump(source, &job->batch, &job->result);
    if (job->result.status < 0) {
        return;
    }
    (void)snprintf(job->tag, sizeof job->tag, "%s", source->tag);
    job->status = apply_filters(job);
    if (job->status < 0) {
        return;
    }
    job->status = tf_events_encode(&job->batch, &source->constants, &job->events, &job->summary);
    if (job->status == 0 && job->result.has_position) {
        save_states(job, states);
        source->kind->position(source, states, &job->deltas);
        job->status = job->deltas.error;
    }
}

void tf_sources_fini(struct tf_source *source)
{
    for (size_t i = 0; source->filter_states != NULL && i < source->pipeline->filter_count; i++) {
        if (source->filter_states[i] != NULL) {
            source->pipeline->filters[i].kind->state_free(source->filter_states[i]);
        }
    }
    free(source->filter_states);
    source->filter_states = NULL;
    tf_constants_fini(&source->constants);
}

void tf_sources_unref(struct tf_source *source)
{
    assert(source->jobs > 0);
    if (--source->jobs > 0 || source->state != TF_SOURCE_REMOVED) {
        return;
    }
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
        .batch = &job->batch,
    };
    enum tf_frame_type type = job->summary.events > 0 ? TF_FRAME_DATA : TF_FRAME_POSITIONS;
    int rc;

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

static void after_job(uv_work_t *work, int status)
{
    struct job *job = TF_CONTAINER_OF(work, struct job, work);
    struct tf_pipeline *pipeline = job->pipeline;
    struct tf_source *source = job->source;
    struct tf_pump_result result;
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
    result = job->result;
    pipeline->jobs_running--;
    job->source = NULL; /* from here on the job may run for another source, already in `pumped` */
    if (source->state == TF_SOURCE_RUNNING) {
        source->state = TF_SOURCE_ASLEEP;
        source->kind->pumped(source, &result);
    }
    if (source->state == TF_SOURCE_ASLEEP && (result.again || source->wake_again)) {
        source->wake_again = false;
        enqueue(pipeline, source);
    }
    tf_sources_unref(source);
    tf_sources_rewind(pipeline);
    tf_sources_run(pipeline);
}

static bool may_pump(const struct tf_pipeline *pipeline)
{
    return !pipeline->rewinding && pipeline->queue_first != NULL &&
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
        source = dequeue(pipeline);
        source->state = TF_SOURCE_RUNNING;
        source->wake_again = false;
        source->jobs++;
        job->source = source;
        job->status = 0;
        job->result = (struct tf_pump_result){0};
        job->summary = (struct tf_events_summary){0};
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
    source->state = TF_SOURCE_REMOVED;
    source->jobs++; /* so that the last reference goes through one door */
    tf_sources_unref(source);
}
