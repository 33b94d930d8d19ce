/*
 * frames.c - the frame builder: batches go into open frames, one a tag, and leave as drafts.
 *
 * A batch goes whole, with its position, into one frame (docs/guarantees.md B2); the limit is soft.
 * A frame is closed when it reaches TF_FRAME_SOFT_BYTES, when the timer of spool.sync fires
 * (started by the first record), in mode `always` and while stopping at once, or when a batch of
 * its newest source goes to another frame: batches of one source never overtake each other. A frame
 * of type gap holds one batch and is closed at once. Positions without events join the open frame
 * of their source's tag; where there is none, one frame of type positions gathers them.
 *
 * A draft that ends with -ECANCELED left nothing in the spool: its parts are let go, and on_new_run
 * sends every source back to the folded state.
 */
#include "internal.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#define JOINED_MAX_BYTES (6u << 20) /* a message is at most 8 MiB */

static void frame_free(struct open_frame *frame)
{
    if (frame == NULL) {
        return;
    }
    tf_buf_fini(&frame->draft.payload);
    tf_buf_fini(&frame->draft.deltas);
    free(frame->parts);
    free(frame->tallies);
    free(frame);
}

static void release_part(struct tf_pipeline *pipeline, const struct part *part, int status)
{
    if (status == 0) {
        tf_books_take(pipeline, part);
    }
    if (part->source == NULL) {
        return;
    }
    if (status == 0 && part->cookie != 0 && part->source->kind->committed != NULL) {
        part->source->kind->committed(part->source, part->cookie);
    }
    tf_sources_unref(part->source);
}

static void on_draft_done(void *ctx, int status, uint64_t seq)
{
    struct open_frame *frame = ctx;
    struct tf_pipeline *pipeline = frame->pipeline;

    (void)seq;
    for (uint32_t i = 0; i < frame->part_count; i++) {
        release_part(pipeline, &frame->parts[i], status);
    }
    if (status == 0) {
        tf_books_take_tallies(pipeline, frame->tallies, frame->tally_count);
    }
    frame_free(frame);
    tf_sources_run(pipeline);
}

static void on_sync_timer(uv_timer_t *timer);

static void forget_open(struct tf_pipeline *pipeline, uint32_t index)
{
    pipeline->open_count--;
    memmove(&pipeline->open[index], &pipeline->open[index + 1],
            (pipeline->open_count - index) * sizeof(pipeline->open[0]));
}

/* Hands the frame to the spool; the oldest open frame has the lowest index, so order is kept. */
static void close_frame(struct tf_pipeline *pipeline, uint32_t index)
{
    struct open_frame *frame = pipeline->open[index];

    forget_open(pipeline, index);
    pipeline->appended_bytes += frame->draft.payload.size + frame->draft.deltas.size;
    if (tf_spool_append(pipeline->spool, &frame->draft) < 0) {
        pipeline->rewinding =
            true; /* no memory: the sources go back, from the loop's next turn on */
        on_draft_done(frame, -ECANCELED, 0);
        (void)uv_timer_start(&pipeline->sync_timer, on_sync_timer, 0, 0);
        return;
    }
    if (pipeline->appended_bytes >= TF_UNSYNCED_MAX_BYTES) {
        pipeline->appended_bytes = 0;
        tf_spool_sync(pipeline->spool);
    }
}

static void close_open(struct tf_pipeline *pipeline, const struct open_frame *frame)
{
    for (uint32_t i = 0; i < pipeline->open_count; i++) {
        if (pipeline->open[i] == frame) {
            close_frame(pipeline, i);
            return;
        }
    }
}

void tf_frames_close_all(struct tf_pipeline *pipeline)
{
    while (pipeline->open_count > 0) {
        close_frame(pipeline, 0);
    }
    pipeline->appended_bytes = 0;
    tf_spool_sync(pipeline->spool);
}

void tf_frames_drop_all(struct tf_pipeline *pipeline)
{
    while (pipeline->open_count > 0) {
        struct open_frame *frame = pipeline->open[0];

        forget_open(pipeline, 0);
        on_draft_done(frame, -ECANCELED, 0);
    }
}

static void on_sync_timer(uv_timer_t *timer)
{
    struct tf_pipeline *pipeline = timer->data;

    if (pipeline->rewinding) {
        tf_sources_rewind(pipeline);
        return;
    }
    tf_frames_close_all(pipeline);
}

static struct open_frame *frame_new(struct tf_pipeline *pipeline, enum tf_frame_type type,
                                    const char *tag)
{
    struct open_frame *frame = calloc(1, sizeof *frame);

    if (frame == NULL) {
        return NULL;
    }
    frame->pipeline = pipeline;
    frame->number = ++pipeline->frames_opened;
    frame->draft.read_ms = uv_now(pipeline->loop);
    frame->draft.type = type;
    frame->draft.done = on_draft_done;
    frame->draft.ctx = frame;
    (void)snprintf(frame->draft.tag, sizeof frame->draft.tag, "%s", tag);
    if (type == TF_FRAME_DATA) {
        tf_spool_payload(pipeline->spool, &frame->draft.payload);
    } else {
        tf_buf_init(&frame->draft.payload, TF_DRAFT_PAYLOAD_MAX);
    }
    tf_buf_init(&frame->draft.deltas, TF_DRAFT_DELTAS_MAX);
    if (!uv_is_active((const uv_handle_t *)&pipeline->sync_timer)) {
        (void)uv_timer_start(&pipeline->sync_timer, on_sync_timer,
                             pipeline->config->spool.sync.interval_ms, 0);
    }
    return frame;
}

/* Closes every open frame up to the one that holds the source's newest batch, unless that is
 * `keep`. */
static void close_older(struct tf_pipeline *pipeline, const struct tf_source *source,
                        const struct open_frame *keep)
{
    if (source == NULL || source->last_frame == 0 ||
        (keep != NULL && source->last_frame == keep->number)) {
        return;
    }
    for (uint32_t i = 0; i < pipeline->open_count; i++) {
        if (pipeline->open[i]->number == source->last_frame) {
            close_frame(pipeline, i);
            return;
        }
    }
}

static struct open_frame *find_open(struct tf_pipeline *pipeline, enum tf_frame_type type,
                                    const char *tag)
{
    for (uint32_t i = 0; i < pipeline->open_count; i++) {
        struct open_frame *frame = pipeline->open[i];

        if (frame->draft.type == type && strcmp(frame->draft.tag, tag) == 0) {
            return frame;
        }
    }
    return NULL;
}

/* The open frame that a batch of this type and tag joins, or NULL. */
static struct open_frame *find_joinable(struct tf_pipeline *pipeline, enum tf_frame_type type,
                                        const char *tag)
{
    struct open_frame *frame = NULL;

    if (type == TF_FRAME_GAP) {
        return NULL;
    }
    frame = find_open(pipeline, TF_FRAME_DATA, tag);
    if (frame == NULL && type == TF_FRAME_POSITIONS) {
        frame = find_open(pipeline, TF_FRAME_POSITIONS, "");
    }
    return frame;
}

/* A frame that joins batches stays within what a receiver takes in one message, however badly it
 * compresses. */
static bool has_room_for(const struct open_frame *frame, const struct tf_buf *events,
                         const struct tf_events_summary *summary, const struct tf_buf *deltas)
{
    return summary->events <= TF_BATCH_RECORDS_MAX - frame->draft.events &&
           frame->draft.payload.size + events->size <= JOINED_MAX_BYTES &&
           deltas->size <= TF_DRAFT_DELTAS_MAX - frame->draft.deltas.size;
}

static int add_part(struct open_frame *frame, const struct part *part)
{
    if (frame->part_count == frame->part_capacity) {
        uint32_t capacity = frame->part_capacity == 0 ? 8 : frame->part_capacity * 2;
        struct part *parts = realloc(frame->parts, capacity * sizeof *parts);

        if (parts == NULL) {
            return -ENOMEM;
        }
        frame->parts = parts;
        frame->part_capacity = capacity;
    }
    frame->parts[frame->part_count++] = *part;
    frame->parts[frame->part_count - 1].batch = NULL; /* only now it is filled */
    return 0;
}

static struct tf_tally *find_tally(struct open_frame *frame, const struct tf_tally *wanted)
{
    for (uint32_t i = 0; i < frame->tally_count; i++) {
        if (frame->tallies[i].filter == wanted->filter && frame->tallies[i].rule == wanted->rule) {
            return &frame->tallies[i];
        }
    }
    return NULL;
}

/* Adds the batch's hits to the frame's. Room for all of them is made first. */
static int add_tallies(struct open_frame *frame, const struct tf_batch *batch)
{
    uint32_t wanted = frame->tally_count + batch->tally_count;

    if (wanted > frame->tally_capacity) {
        struct tf_tally *tallies = realloc(frame->tallies, wanted * sizeof *tallies);

        if (tallies == NULL) {
            return -ENOMEM;
        }
        frame->tallies = tallies;
        frame->tally_capacity = wanted;
    }
    for (uint32_t i = 0; i < batch->tally_count; i++) {
        struct tf_tally *known = find_tally(frame, &batch->tallies[i]);

        if (known != NULL) {
            known->hits += batch->tallies[i].hits;
        } else {
            frame->tallies[frame->tally_count++] = batch->tallies[i];
        }
    }
    return 0;
}

static void widen_time(struct tf_frame_draft *draft, const struct tf_events_summary *summary)
{
    if (summary->events == 0) {
        return;
    }
    if (draft->events == 0 || summary->time_min_ns < draft->time_min_ns) {
        draft->time_min_ns = summary->time_min_ns;
    }
    if (draft->events == 0 || summary->time_max_ns > draft->time_max_ns) {
        draft->time_max_ns = summary->time_max_ns;
    }
    draft->events += summary->events;
}

static bool must_close(const struct tf_pipeline *pipeline, const struct open_frame *frame)
{
    return frame->draft.type == TF_FRAME_GAP || frame->draft.payload.size >= TF_FRAME_SOFT_BYTES ||
           pipeline->stopping || pipeline->config->spool.sync.mode == TF_SYNC_ALWAYS;
}

static int fill(struct open_frame *frame, const struct tf_buf *events, const struct tf_buf *deltas,
                const struct part *part)
{
    int rc = tf_buf_reserve(&frame->draft.payload, events->size);

    if (rc == 0) {
        rc = tf_buf_reserve(&frame->draft.deltas, deltas->size);
    }
    if (rc == 0) {
        rc = add_part(frame, part);
    }
    if (rc == 0 && part->batch != NULL) {
        rc = add_tallies(frame, part->batch);
        frame->part_count -= rc < 0 ? 1 : 0;
    }
    if (rc < 0) {
        return rc;
    }
    (void)tf_buf_append(&frame->draft.payload, events->data, events->size);
    (void)tf_buf_append(&frame->draft.deltas, deltas->data, deltas->size);
    return 0;
}

int tf_frames_add(struct tf_pipeline *pipeline, enum tf_frame_type type, const char *tag,
                  struct tf_buf *events, const struct tf_events_summary *summary,
                  struct tf_buf *deltas, const struct part *part)
{
    struct open_frame *frame = find_joinable(pipeline, type, tag);
    bool is_new = frame == NULL || !has_room_for(frame, events, summary, deltas);
    int rc;

    if (pipeline->rewinding && part->source != NULL) {
        return -ECANCELED; /* it builds on a batch that was lost */
    }

    if (frame != NULL && is_new) {
        close_open(pipeline, frame);
        frame = NULL;
    }
    close_older(pipeline, part->source, frame);
    if (pipeline->rewinding && part->source != NULL) {
        return -ECANCELED; /* the one before it could not be appended */
    }
    if (is_new) {
        if (pipeline->open_count == TF_OPEN_FRAMES_MAX) {
            close_frame(pipeline, 0);
        }
        frame = frame_new(pipeline, type, type == TF_FRAME_POSITIONS ? "" : tag);
        if (frame == NULL) {
            return -ENOMEM;
        }
    }
    rc = fill(frame, events, deltas, part);
    if (rc < 0) {
        if (is_new) {
            frame_free(frame);
        }
        return rc;
    }
    widen_time(&frame->draft, summary);
    if (is_new) {
        pipeline->open[pipeline->open_count++] = frame;
    }
    if (part->source != NULL) {
        part->source->last_frame = frame->number;
    }
    tf_buf_clear(events);
    tf_buf_clear(deltas);
    if (must_close(pipeline, frame)) {
        close_open(pipeline, frame);
    }
    return 0;
}
