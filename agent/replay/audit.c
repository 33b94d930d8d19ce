/*
 * audit.c - the audit event `replay`: who ships what again, and how much it was.
 *
 * A replay has no spool of its own, so its records go where it ships to: one before the first
 * record, each time that a process takes the job up, and one behind the last. They are redacted as
 * all that an agent says of itself, and tagged and marked so too (docs/replay.md).
 */
#include "audit.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#define SENTENCE_BYTES 256u

int tf_replay_audit_open(struct tf_replay_audit *audit, struct tf_error *err)
{
    int rc = tf_filters_open(&audit->config->filters, &audit->filters, err);

    return rc < 0 && err->errors > 0 ? -EINVAL : rc;
}

void tf_replay_audit_close(struct tf_replay_audit *audit)
{
    tf_filters_close(audit->filters);
    audit->filters = NULL;
}

/* ---- fields -------------------------------------------------------------------------------------
 */

/* The record as it grows; the first error stays. */
struct record {
    struct tf_batch batch;
    int rc;
};

/* Nothing for a text that is not there. */
static void add_text(struct record *record, const char *key, const char *text)
{
    if (record->rc == 0 && text != NULL) {
        record->rc = tf_batch_add_text_field(&record->batch, key, tf_slice_text(text));
    }
}

static void add_count(struct record *record, const char *key, uint64_t count)
{
    if (record->rc == 0) {
        record->rc = tf_batch_add_int_field(&record->batch, key,
                                            count > INT64_MAX ? INT64_MAX : (int64_t)count);
    }
}

/* Nothing for an end that is open. */
static void add_time(struct record *record, const char *key, int64_t time_ns)
{
    char text[TF_TIME_TEXT_BYTES];

    if (time_ns != INT64_MIN && time_ns != INT64_MAX) {
        tf_time_format(time_ns, text);
        add_text(record, key, text);
    }
}

/* A list: conditions may name one field twice. */
static void add_where(struct record *record, const struct tf_query_options *words)
{
    struct tf_batch *batch = &record->batch;

    if (words->where_count == 0 || record->rc < 0) {
        return;
    }
    record->rc = tf_batch_add_map_field(batch, "where", (uint32_t)words->where_count);
    if (record->rc == 0) {
        batch->fields[batch->field_count - 1].type = TF_VALUE_ARRAY;
    }
    for (size_t i = 0; i < words->where_count; i++) {
        add_text(record, "", words->where[i]);
    }
}

static void add_spool(struct record *record, const uint8_t spool_id[TF_SPOOL_ID_BYTES])
{
    char hex[2 * TF_SPOOL_ID_BYTES + 1];

    for (size_t i = 0; i < TF_SPOOL_ID_BYTES; i++) {
        (void)snprintf(hex + 2 * i, 3, "%02x", spool_id[i]);
    }
    add_text(record, "spool", hex);
}

/* What all of them have; log is the sentence. */
static void add_subject(struct record *record, const struct tf_replay_audit *audit,
                        const struct tf_job_state *state, const char *step, const char *log)
{
    if (record->rc == 0) {
        record->rc = tf_filters_add_labels(&audit->config->agent, &record->batch);
    }
    add_text(record, "event", "replay");
    add_text(record, "log", log);
    add_text(record, "step", step);
    add_text(record, "job", audit->job);
    add_text(record, "output", audit->output);
    add_count(record, "uid", getuid());
    add_spool(record, state->spool_id);
}

static void add_begin(struct record *record, const struct tf_replay_audit *audit,
                      const struct tf_job_state *state)
{
    char log[SENTENCE_BYTES];

    (void)snprintf(log, sizeof log, "replay of a spool's records to %s, job %s, %s", audit->output,
                   audit->job, audit->goes_on ? "goes on" : "begins");
    add_subject(record, audit, state, audit->goes_on ? "resume" : "begin", log);
    add_time(record, "from", state->from_ns);
    add_time(record, "to", state->to_ns);
    add_where(record, audit->words);
    add_text(record, "grep", audit->words->grep);
    if (audit->limit != UINT64_MAX) {
        add_count(record, "limit", audit->limit);
    }
}

static void add_end(struct record *record, const struct tf_replay_audit *audit,
                    const struct tf_job_state *state, uint64_t undecided)
{
    char log[SENTENCE_BYTES];

    (void)snprintf(log, sizeof log, "replay to %s, job %s, is done: %" PRIu64 " %s", audit->output,
                   audit->job, state->records, tf_plural(state->records, "record", "records"));
    add_subject(record, audit, state, "end", log);
    add_count(record, "records", state->records);
    add_count(record, "losses", state->losses);
    add_count(record, "undecided", undecided);
}

int tf_replay_audit_write(const struct tf_replay_audit *audit, const struct tf_job_state *state,
                          bool is_end, uint64_t undecided, struct tf_buf *out)
{
    struct tf_events_summary summary;
    struct record record;

    record.rc = tf_batch_init(&record.batch);
    if (record.rc == 0 &&
        tf_batch_add_record(&record.batch, tf_now_ns(), TF_STREAM_OTHER) == NULL) {
        record.rc = -ENOMEM;
    }
    if (is_end) {
        add_end(&record, audit, state, undecided);
    } else {
        add_begin(&record, audit, state);
    }
    if (record.rc == 0) {
        record.rc = tf_filters_apply_own(audit->filters, &record.batch);
    }
    if (record.rc == 0) {
        record.rc = tf_events_encode(&record.batch, NULL, out, &summary);
    }
    tf_batch_fini(&record.batch);
    return record.rc;
}
