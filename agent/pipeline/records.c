/*
 * records.c - what the agent says itself, in band: gaps, audit records, deltas alone; and the
 * constants of a source.
 *
 * They are batches of their own with the tag taffrail.audit, made on the loop and redacted as any
 * other. A gap goes into a frame of type gap, with the position that follows it, in order behind
 * its source's batches.
 */
#include "internal.h"

#include <errno.h>

#define GAP_DETAILS_MAX 4

/* An empty batch with one record, for the fields that follow. tf_batch_fini is the caller's. */
static int begin_own(struct tf_batch *batch, int64_t time_ns)
{
    int rc = tf_batch_init(batch);

    if (rc == 0 && tf_batch_add_record(batch, time_ns, TF_STREAM_OTHER) == NULL) {
        rc = -ENOMEM;
    }
    return rc;
}

static int add_details(struct tf_batch *batch, const struct tf_detail *details, size_t count)
{
    int rc = 0;

    for (size_t i = 0; i < count && rc == 0; i++) {
        if (details[i].text != NULL) {
            rc = tf_batch_add_text_field(batch, details[i].key, tf_slice_text(details[i].text));
        } else {
            rc = tf_batch_add_int_field(batch, details[i].key, details[i].number);
        }
    }
    return rc;
}

/* Appends batch as one frame of its own. Its source's constants (pod and container) stand on a gap
 * too. */
static int emit(struct tf_pipeline *pipeline, struct tf_source *source, struct tf_batch *batch,
                struct tf_buf *deltas)
{
    struct tf_buf events, none;
    struct tf_events_summary summary = {0};
    struct part part = {.source = source, .batch = batch};
    int rc = tf_filters_apply_own(pipeline->filters, batch);

    tf_buf_init(&events, TF_DRAFT_PAYLOAD_MAX);
    tf_buf_init(&none, TF_STATE_VALUE_MAX);
    if (rc == 0) {
        rc = tf_events_encode(batch, source != NULL ? &source->constants : NULL, &events, &summary);
    }
    if (rc == 0) {
        part.records = summary.events;
        if (source != NULL) {
            source->jobs++; /* before: a frame that cannot be appended lets it go at once */
        }
        rc = tf_frames_add(pipeline, source != NULL ? TF_FRAME_GAP : TF_FRAME_DATA, TF_AUDIT_TAG,
                           &events, &summary, deltas != NULL ? deltas : &none, &part);
        if (rc < 0 && source != NULL) {
            source->jobs--;
        }
    }
    tf_buf_fini(&events);
    tf_buf_fini(&none);
    return rc;
}

int tf_source_gap(struct tf_source *source, const char *reason, const char *text,
                  uint64_t bytes_max, struct tf_buf *deltas)
{
    const char *input = source->pipeline->config->inputs.items[source->input].name;
    struct tf_detail details[GAP_DETAILS_MAX] = {TF_STR("reason", reason), TF_STR("input", input)};
    struct tf_batch batch;
    size_t count = 2;
    int rc = begin_own(&batch, tf_now_ns());

    if (source->path != NULL) {
        details[count++] = TF_STR("source", source->path);
    }
    if (bytes_max != UINT64_MAX) {
        details[count++] = TF_NUM("bytes_max", (int64_t)bytes_max);
    }
    if (rc == 0) {
        rc = tf_batch_add_text_field(&batch, "event", tf_slice_text("gap"));
    }
    if (rc == 0) {
        rc = tf_batch_add_text_field(&batch, "log", tf_slice_text(text));
    }
    if (rc == 0) {
        rc = add_details(&batch, details, count);
    }
    if (rc == 0) {
        rc = emit(source->pipeline, source, &batch, deltas);
    }
    if (rc == 0) {
        tf_pipeline_count_gap(source->pipeline, reason, bytes_max);
    }
    tf_batch_fini(&batch);
    tf_log(TF_LOG_ERROR, "gap", details, count, "%s", text);
    return rc;
}

int tf_pipeline_deltas(struct tf_pipeline *pipeline, struct tf_source *source,
                       struct tf_buf *deltas)
{
    struct tf_buf none;
    struct tf_events_summary summary = {0};
    struct part part = {.source = source};
    int rc;

    tf_buf_init(&none, 1);
    if (source != NULL) {
        source->jobs++;
    }
    rc = tf_frames_add(pipeline, TF_FRAME_POSITIONS, source != NULL ? source->tag : "", &none,
                       &summary, deltas, &part);
    if (rc < 0 && source != NULL) {
        source->jobs--;
    }
    tf_buf_fini(&none);
    return rc;
}

int tf_pipeline_audit(struct tf_pipeline *pipeline, const char *event, const char *text,
                      const struct tf_detail *details, size_t count)
{
    struct tf_batch batch;
    int rc = begin_own(&batch, tf_now_ns());

    if (rc == 0) {
        rc = tf_filters_add_labels(&pipeline->config->agent, &batch);
    }
    if (rc == 0) {
        rc = tf_batch_add_text_field(&batch, "event", tf_slice_text(event));
    }
    if (rc == 0) {
        rc = tf_batch_add_text_field(&batch, "log", tf_slice_text(text));
    }
    if (rc == 0) {
        rc = add_details(&batch, details, count);
    }
    if (rc == 0) {
        rc = emit(pipeline, NULL, &batch, NULL);
    }
    tf_batch_fini(&batch);
    return rc;
}

static int encode_constants(struct tf_source *source, struct tf_batch *metadata,
                            struct tf_constants *out)
{
    const struct tf_pipeline *pipeline = source->pipeline;
    const struct tf_agent_options *agent =
        source->kind->is_receiver || source->is_received ? NULL : &pipeline->config->agent;

    return tf_filters_constants(pipeline->filters, source->filter_states, source->tag, agent,
                                metadata, out);
}

static int make_constants(struct tf_source *source, struct tf_batch *metadata)
{
    struct tf_batch own;
    int rc;

    if (metadata != NULL) {
        return encode_constants(source, metadata, &source->constants);
    }
    rc = begin_own(&own, 0);
    if (rc == 0) {
        rc = encode_constants(source, &own, &source->constants);
    }
    tf_batch_fini(&own);
    return rc;
}

int tf_source_renew(struct tf_source *source)
{
    struct tf_constants renewed = {0};
    struct tf_batch metadata;
    int rc;

    if (source->kind->describe == NULL) {
        return 0;
    }
    rc = source->kind->describe(source, &metadata);
    if (rc == 0) {
        rc = encode_constants(source, &metadata, &renewed);
    }
    tf_batch_fini(&metadata);
    if (rc == 0) {
        tf_constants_fini(&source->constants);
        source->constants = renewed;
    }
    return rc;
}

static const struct tf_stream_state nothing_saved[TF_STREAMS];

int tf_source_add(struct tf_pipeline *pipeline, void *input_self, struct tf_source *source,
                  struct tf_batch *metadata)
{
    int rc;

    source->pipeline = pipeline;
    source->state = TF_SOURCE_ASLEEP;
    for (size_t i = 0; i < pipeline->input_count; i++) {
        if (pipeline->inputs[i].self == input_self) {
            source->input = (uint16_t)i;
        }
    }
    source->filter_states = tf_filters_states_new(
        pipeline->filters, source->states != NULL ? source->states : nothing_saved);
    source->states = NULL;
    rc = source->filter_states != NULL ? make_constants(source, metadata) : -ENOMEM;
    if (rc < 0) {
        tf_sources_fini(source);
    }
    return rc;
}

struct tf_spool *tf_pipeline_spool(struct tf_pipeline *pipeline)
{
    return pipeline->spool;
}
