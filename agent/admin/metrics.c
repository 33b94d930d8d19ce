/*
 * metrics.c - facts as Prometheus' text format, version 0.0.4: one table, a row a metric.
 *
 *     # HELP name help
 *     # TYPE name counter
 *     name{input="container",reason="slow"} 0
 *
 * A row says whose the metric is (the agent's; an input's of some kind; a filter's that learns; an
 * output's), where the number is in that struct, and how it is written. With words it is an array,
 * with a sample for each word. What is no plain number has a function. Labels are configured names
 * and words of tables of ours, so their number is bounded; values are escaped all the same, for own
 * rules have names, too.
 */
#include "internal.h"

#include <inttypes.h>

/* Where the agent itself is meant and not a plugin, none of which may be called so. */
#define OWN_NAME "taffrail"

enum scope { AGENT, INPUTS, SENDERS, RECEIVERS, CONTAINERS, JOURNALS, KUBERNETES, OUTPUTS };
enum form { COUNT, COUNT32, FLAG, MILLISECONDS, NANOSECONDS_TIME, HISTOGRAM };

struct metric {
    const char *name, *type, *help;
    enum scope scope;
    enum form form;
    size_t offset; /* in struct tf_facts, tf_status_input, _filter or _output */
    const char *label;
    const char *const *words;
    unsigned word_count;
    void (*write)(const struct metric *metric, const struct tf_facts *facts, struct tf_buf *out);
};

/* ---- one sample ----------------------------------------------------------------------------- */

/* Text between quotes: `\`, `"` and newlines escaped; control bytes and what is not UTF-8 is `?`.
 */
static void put_value(struct tf_buf *out, const char *text)
{
    bool is_utf8 = tf_utf8_valid(text, strlen(text));

    for (; *text != '\0'; text++) {
        uint8_t byte = (uint8_t)*text;

        if (byte == '\n') {
            (void)tf_buf_append_text(out, "\\n");
        } else if (byte == '"' || byte == '\\') {
            (void)tf_buf_append_byte(out, '\\');
            (void)tf_buf_append_byte(out, byte);
        } else {
            bool is_bad = byte < ' ' || byte == 0x7f || (byte >= 0x80 && !is_utf8);

            (void)tf_buf_append_byte(out, is_bad ? '?' : byte);
        }
    }
}

struct labels {
    const char *keys[3], *values[3]; /* key NULL: there is none */
};

static void put_name(struct tf_buf *out, const char *name, const char *suffix,
                     const struct labels *labels)
{
    bool has_any = false;

    (void)tf_buf_printf(out, "%s%s", name, suffix);
    for (size_t i = 0; i < TF_COUNT(labels->keys); i++) {
        if (labels->keys[i] != NULL) {
            (void)tf_buf_printf(out, "%s%s=\"", has_any ? "," : "{", labels->keys[i]);
            put_value(out, labels->values[i]);
            (void)tf_buf_append_byte(out, '"');
            has_any = true;
        }
    }
    (void)tf_buf_append_text(out, has_any ? "} " : " ");
}

static void put_count(struct tf_buf *out, const struct metric *metric, const struct labels *labels,
                      uint64_t value)
{
    put_name(out, metric->name, "", labels);
    (void)tf_buf_printf(out, "%" PRIu64 "\n", value);
}

static void put_double(struct tf_buf *out, const struct metric *metric, const struct labels *labels,
                       double value)
{
    put_name(out, metric->name, "", labels);
    (void)tf_buf_printf(out, "%.9g\n", value);
}

static void put_histogram(struct tf_buf *out, const struct metric *metric, struct labels labels,
                          const struct tf_histogram *histogram)
{
    uint64_t below = 0;
    char bound[32];
    size_t last = TF_COUNT(labels.keys) - 1;

    labels.keys[last] = "le";
    labels.values[last] = bound;
    for (unsigned i = 0; i < TF_HISTOGRAM_BOUNDS; i++) {
        below += histogram->counts[i];
        (void)snprintf(bound, sizeof bound, "%g", (double)tf_histogram_bounds_us[i] / 1e6);
        put_name(out, metric->name, "_bucket", &labels);
        (void)tf_buf_printf(out, "%" PRIu64 "\n", below);
    }
    below += histogram->counts[TF_HISTOGRAM_BOUNDS];
    (void)snprintf(bound, sizeof bound, "+Inf");
    put_name(out, metric->name, "_bucket", &labels);
    (void)tf_buf_printf(out, "%" PRIu64 "\n", below);
    labels.keys[last] = NULL;
    put_name(out, metric->name, "_sum", &labels);
    (void)tf_buf_printf(out, "%.9g\n", (double)histogram->sum_us / 1e6);
    put_name(out, metric->name, "_count", &labels);
    (void)tf_buf_printf(out, "%" PRIu64 "\n", below);
}

/* base: the struct that metric->offset is of. */
static void put_member(struct tf_buf *out, const struct metric *metric, const struct labels *labels,
                       const void *base)
{
    const void *at = (const char *)base + metric->offset;

    switch (metric->form) {
    case COUNT:
        put_count(out, metric, labels, *(const uint64_t *)at);
        break;
    case COUNT32:
        put_count(out, metric, labels, *(const uint32_t *)at);
        break;
    case FLAG:
        put_count(out, metric, labels, *(const bool *)at);
        break;
    case MILLISECONDS:
        put_double(out, metric, labels, (double)*(const uint64_t *)at / 1e3);
        break;
    case NANOSECONDS_TIME:
        put_name(out, metric->name, "", labels);
        (void)tf_buf_printf(out, "%.3f\n", (double)*(const int64_t *)at / 1e9);
        break;
    case HISTOGRAM:
        put_histogram(out, metric, *labels, at);
        break;
    }
}

static void put_members(struct tf_buf *out, const struct metric *metric, struct labels labels,
                        const void *base)
{
    const uint64_t *values = (const uint64_t *)(const void *)((const char *)base + metric->offset);

    if (metric->words == NULL) {
        put_member(out, metric, &labels, base);
        return;
    }
    for (unsigned i = 0; i < metric->word_count; i++) {
        labels.keys[1] = metric->label;
        labels.values[1] = metric->words[i];
        put_count(out, metric, &labels, values[i]);
    }
}

/* ---- whose it is ---------------------------------------------------------------------------- */

static bool is_of(const struct tf_status_input *input, enum scope scope)
{
    bool is_container = strcmp(input->kind, "container") == 0;

    return scope == INPUTS || (scope == SENDERS && !is_container) ||
           (scope == RECEIVERS && input->is_receiver) || (scope == CONTAINERS && is_container) ||
           (scope == JOURNALS && strcmp(input->kind, "journald") == 0);
}

static void put_samples(struct tf_buf *out, const struct metric *metric,
                        const struct tf_facts *facts)
{
    const struct tf_status *status = &facts->status;

    if (metric->write != NULL) {
        metric->write(metric, facts, out);
    } else if (metric->scope == AGENT) {
        put_members(out, metric, (struct labels){{NULL}, {NULL}}, facts);
    } else if (metric->scope == OUTPUTS) {
        for (size_t i = 0; i < status->output_count; i++) {
            put_members(out, metric, (struct labels){{"output"}, {status->outputs[i].name}},
                        &status->outputs[i]);
        }
    } else if (metric->scope == KUBERNETES) {
        for (size_t i = 0; i < status->filter_count; i++) {
            if (status->filters[i].learns) {
                put_members(out, metric, (struct labels){{"filter"}, {status->filters[i].name}},
                            &status->filters[i]);
            }
        }
    } else {
        for (size_t i = 0; i < status->input_count; i++) {
            if (is_of(&status->inputs[i], metric->scope)) {
                put_members(out, metric, (struct labels){{"input"}, {status->inputs[i].name}},
                            &status->inputs[i]);
            }
        }
    }
}

/* ---- those with a function ------------------------------------------------------------------ */

static void put_build(const struct metric *metric, const struct tf_facts *facts, struct tf_buf *out)
{
    put_count(out, metric,
              &(struct labels){{"version", "revision"}, {facts->version, facts->revision}}, 1);
}

static void put_digest(const struct metric *metric, const struct tf_facts *facts,
                       struct tf_buf *out)
{
    put_count(out, metric, &(struct labels){{"digest"}, {facts->digest}}, 1);
}

static void put_conditions(const struct metric *metric, const struct tf_facts *facts,
                           struct tf_buf *out)
{
    for (unsigned code = 0; code < TF_CONDITIONS; code++) {
        put_count(out, metric, &(struct labels){{"code"}, {tf_condition_kinds[code].code}},
                  tf_conditions_hold(facts->conditions, (enum tf_condition_code)code));
    }
}

static void put_records(const struct metric *metric, const struct tf_facts *facts,
                        struct tf_buf *out)
{
    for (size_t i = 0; i < facts->status.input_count; i++) {
        put_count(out, metric, &(struct labels){{"input"}, {facts->status.inputs[i].name}},
                  facts->status.inputs[i].records);
    }
    put_count(out, metric, &(struct labels){{"input"}, {OWN_NAME}}, facts->status.books.own);
}

/* What no filter joined were pieces of lines that a runtime had split. */
static void put_joined(const struct metric *metric, const struct tf_facts *facts,
                       struct tf_buf *out)
{
    const struct tf_status *status = &facts->status;
    uint64_t rest = status->books.joined;

    for (size_t i = 0; i < status->filter_count; i++) {
        const struct tf_status_filter *filter = &status->filters[i];

        if (filter->joins) {
            put_count(out, metric, &(struct labels){{"filter"}, {filter->name}}, filter->joined);
            rest -= filter->joined <= rest ? filter->joined : rest;
        }
    }
    put_count(out, metric, &(struct labels){{"filter"}, {OWN_NAME}}, rest);
}

static void put_held(const struct metric *metric, const struct tf_facts *facts, struct tf_buf *out)
{
    for (size_t i = 0; i < facts->status.filter_count; i++) {
        const struct tf_status_filter *filter = &facts->status.filters[i];

        if (filter->joins) {
            put_count(out, metric, &(struct labels){{"filter"}, {filter->name}}, filter->held);
        }
    }
}

static void put_reloads(const struct metric *metric, const struct tf_facts *facts,
                        struct tf_buf *out)
{
    put_count(out, metric, &(struct labels){{"result"}, {"taken"}}, facts->reloads.taken);
    put_count(out, metric, &(struct labels){{"result"}, {"refused"}}, facts->reloads.refused);
}

static void put_renewals(const struct metric *metric, const struct tf_facts *facts,
                         struct tf_buf *out)
{
    put_count(out, metric, &(struct labels){{"result"}, {"taken"}}, facts->reloads.renewals_taken);
    put_count(out, metric, &(struct labels){{"result"}, {"refused"}},
              facts->reloads.renewals_refused);
}

static void put_layers(const struct metric *metric, const struct tf_facts *facts,
                       struct tf_buf *out)
{
    for (unsigned i = 0; i < TF_SANDBOX_LAYERS; i++) {
        put_count(out, metric, &(struct labels){{"layer"}, {tf_sandbox_layers[i]}},
                  facts->status.sandbox.has[i]);
    }
}

static void put_strict(const struct metric *metric, const struct tf_facts *facts,
                       struct tf_buf *out)
{
    const struct labels none = {0};

    put_count(out, metric, &none, facts->status.sandbox.calls == TF_CALLS_STRICT);
}

/* A batch with hits of very many rules tells some of them together: the rest is theirs. */
static void put_filtered(const struct metric *metric, const struct tf_facts *facts,
                         struct tf_buf *out)
{
    uint64_t rest = facts->status.books.filtered;

    for (size_t i = 0; i < facts->status.rule_count; i++) {
        const struct tf_status_rule *rule = &facts->status.rules[i];

        if (rule->is_dropped) {
            put_count(out, metric, &(struct labels){{"filter", "rule"}, {rule->filter, rule->rule}},
                      rule->hits);
            rest -= rule->hits <= rest ? rule->hits : rest;
        }
    }
    put_count(out, metric, &(struct labels){{"filter", "rule"}, {OWN_NAME, "others"}}, rest);
}

static void put_redactions(const struct metric *metric, const struct tf_facts *facts,
                           struct tf_buf *out)
{
    for (size_t i = 0; i < facts->status.rule_count; i++) {
        const struct tf_status_rule *rule = &facts->status.rules[i];

        if (tf_admin_is_redaction(rule)) {
            put_count(out, metric, &(struct labels){{"rule"}, {rule->rule}}, rule->hits);
        }
    }
}

static void put_spool_bytes(const struct metric *metric, const struct tf_facts *facts,
                            struct tf_buf *out)
{
    put_count(out, metric, &(struct labels){{"state"}, {"pending"}},
              facts->status.spool.bytes_pending);
    put_count(out, metric, &(struct labels){{"state"}, {"retained"}},
              facts->status.spool.bytes_retained);
}

static void put_oldest(const struct metric *metric, const struct tf_facts *facts,
                       struct tf_buf *out)
{
    for (size_t i = 0; i < facts->status.output_count; i++) {
        const struct tf_status_output *output = &facts->status.outputs[i];

        put_double(out, metric, &(struct labels){{"output"}, {output->name}},
                   tf_admin_oldest_s(&output->feed, facts->now_ns));
    }
}

static void put_connects(const struct metric *metric, const struct tf_facts *facts,
                         struct tf_buf *out)
{
    for (size_t i = 0; i < facts->status.output_count; i++) {
        const struct tf_status_output *output = &facts->status.outputs[i];
        struct labels labels = {{"output", "result"}, {output->name, "up"}};

        if (strcmp(output->kind, "forward") == 0) {
            put_count(out, metric, &labels, output->own.connects);
            labels.values[1] = "failed";
            put_count(out, metric, &labels, output->own.failures);
        }
    }
}

/* A frame goes again for one reason: the connection ended before its ack. */
static void put_retries(const struct metric *metric, const struct tf_facts *facts,
                        struct tf_buf *out)
{
    for (size_t i = 0; i < facts->status.output_count; i++) {
        const struct tf_status_output *output = &facts->status.outputs[i];

        put_count(out, metric, &(struct labels){{"output", "reason"}, {output->name, "connection"}},
                  output->own.retries);
    }
}

/* Outputs refuse for good only what is no frame of ours. */
static void put_rejected(const struct metric *metric, const struct tf_facts *facts,
                         struct tf_buf *out)
{
    for (size_t i = 0; i < facts->status.output_count; i++) {
        const struct tf_status_output *output = &facts->status.outputs[i];

        put_count(out, metric, &(struct labels){{"output", "reason"}, {output->name, "malformed"}},
                  output->feed.rejected);
    }
}

/* The spool is full for all inputs alike; max_rate is of each log. */
static void put_paused(const struct metric *metric, const struct tf_facts *facts,
                       struct tf_buf *out)
{
    for (size_t i = 0; i < facts->status.input_count; i++) {
        const struct tf_status_input *input = &facts->status.inputs[i];
        struct labels labels = {{"input", "reason"}, {input->name, "spool_full"}};

        put_double(out, metric, &labels, (double)facts->status.spool.full_ms / 1e3);
        if (is_of(input, CONTAINERS)) {
            labels.values[1] = "max_rate";
            put_double(out, metric, &labels, (double)input->own.rate_ms / 1e3);
        }
    }
}

static void put_certificates(const struct metric *metric, const struct tf_facts *facts,
                             struct tf_buf *out)
{
    for (size_t i = 0; i < facts->certificate_count; i++) {
        put_count(out, metric, &(struct labels){{"use"}, {facts->certificates[i].use}},
                  (uint64_t)facts->certificates[i].until_s);
    }
}

static void put_cpu(const struct metric *metric, const struct tf_facts *facts, struct tf_buf *out)
{
    put_double(out, metric, &(struct labels){{NULL}, {NULL}}, facts->cpu_s);
}

/* ---- the table ------------------------------------------------------------------------------ */

static const char *const disk_words[TF_DISK_ERRORS] = {[TF_DISK_WRITE] = "write",
                                                       [TF_DISK_SEGMENT] = "segment",
                                                       [TF_DISK_CURSORS] = "cursors",
                                                       [TF_DISK_SEAL] = "seal",
                                                       [TF_DISK_DELETE] = "delete"};
static const char *const level_words[] = {"debug", "info", "warn", "error"};

#define C               "counter"
#define G               "gauge"
#define H               "histogram"
#define AT(member)      .offset = offsetof(struct tf_facts, member)
#define IN(member)      .offset = offsetof(struct tf_status_input, member)
#define LEARNED(member) .offset = offsetof(struct tf_status_filter, member)
#define OUT(member)     .offset = offsetof(struct tf_status_output, member)
#define BY(key, table)  .label = (key), .words = (table), .word_count = TF_COUNT(table)

/* clang-format off: a row a metric */
static const struct metric metrics[] = {
    {"taffrail_build_info", G, "build, always 1", .write = put_build},
    {"taffrail_config_info", G, "configuration in use, always 1", .write = put_digest},
    {"taffrail_config_reloads_total", C, "reloads taken over or refused", .write = put_reloads},
    {"taffrail_certificate_reloads_total", C, "of these, those for renewed certificates",
     .write = put_renewals},
    {"taffrail_condition", G, "1 while it holds", .write = put_conditions},
    {"taffrail_input_bytes_total", C, "bytes read", INPUTS, COUNT, IN(bytes)},
    {"taffrail_input_records_total", C, "records decoded", .write = put_records},
    {"taffrail_input_sources", G, "sources open", INPUTS, COUNT, IN(own.sources)},
    {"taffrail_input_lag_bytes", G, "bytes not yet read", CONTAINERS, COUNT, IN(own.lag_bytes)},
    {"taffrail_input_lag_seconds", G, "age of the oldest unread line", CONTAINERS, MILLISECONDS,
     IN(own.lag_ms)},
    {"taffrail_input_malformed_records_total", C, "not in the format, shipped as they are", INPUTS,
     COUNT, IN(malformed)},
    {"taffrail_input_truncated_records_total", C, "records over max_line", INPUTS, COUNT,
     IN(truncated)},
    {"taffrail_input_rotations_total", C, "rotations seen", CONTAINERS, COUNT, IN(own.rotations),
     BY("kind", tf_rotations)},
    {"taffrail_input_deleted_bytes", G, "held open though deleted", CONTAINERS, COUNT,
     IN(own.deleted_bytes)},
    {"taffrail_input_paused_seconds_total", C, "time not reading", .write = put_paused},
    {"taffrail_input_errors_total", C, "failures to open, read or accept", INPUTS, COUNT,
     IN(own.errors), BY("reason", tf_input_errors)},
    {"taffrail_input_suppressed_records_total", C, "entries that journald itself dropped", JOURNALS,
     COUNT, IN(own.suppressed)},
    {"taffrail_input_restarts_total", C, "journal reader started again", JOURNALS, COUNT,
     IN(own.restarts)},
    {"taffrail_input_connections", G, "senders connected", SENDERS, COUNT, IN(own.connections)},
    {"taffrail_input_refused_total", C, "peers and messages refused", SENDERS, COUNT,
     IN(own.refused_by), BY("reason", tf_refusals)},
    {"taffrail_input_repeated_frames_total", C, "repeats acknowledged and dropped", RECEIVERS,
     COUNT, IN(own.repeats)},
    {"taffrail_input_contradictions_total", C, "stored and flagged", RECEIVERS, COUNT,
     IN(own.contradicted_by), BY("kind", tf_contradictions)},
    {"taffrail_joined_records_total", C, "became part of another record", .write = put_joined},
    {"taffrail_held_records", G, "waiting for their next piece", .write = put_held},
    {"taffrail_filtered_records_total", C, "dropped by select or redact", .write = put_filtered},
    {"taffrail_kubernetes_up", G, "1 when the API server answers", KUBERNETES, FLAG,
     LEARNED(own.is_up)},
    {"taffrail_kubernetes_pods", G, "pods known, lately deleted ones too", KUBERNETES, COUNT,
     LEARNED(own.known)},
    {"taffrail_kubernetes_waiting_sources", G, "logs that wait for their pod to be known",
     KUBERNETES, COUNT, LEARNED(own.waiting)},
    {"taffrail_kubernetes_requests_total", C, "lists and watches that were answered", KUBERNETES,
     COUNT, LEARNED(own.requests)},
    {"taffrail_kubernetes_failures_total", C, "lists and watches that failed", KUBERNETES, COUNT,
     LEARNED(own.failures)},
    {"taffrail_kubernetes_left_out_total", C,
     "pods, labels and annotations beyond a bound, and what is malformed", KUBERNETES, COUNT,
     LEARNED(own.left_out)},
    {"taffrail_kubernetes_cache_failures_total", C, "times that the pods could not be kept on disk",
     KUBERNETES, COUNT, LEARNED(own.cache_failures)},
    {"taffrail_kubernetes_unknown_records_total", C, "went without labels, their pod not known",
     KUBERNETES, COUNT, LEARNED(unknown_records)},
    {"taffrail_redacted_records_total", C, "records changed by redaction", AGENT, COUNT,
     AT(status.books.redacted)},
    {"taffrail_redactions_total", C, "hits, from a rule's first one on", .write = put_redactions},
    {"taffrail_withheld_records_total", C, "delivered with a field withheld", AGENT, COUNT,
     AT(status.books.withheld_by), BY("reason", tf_withheld_reasons)},
    {"taffrail_spooled_records_total", C, "records committed", AGENT, COUNT,
     AT(status.spool.spooled_events)},
    {"taffrail_spool_bytes", G, "in use", .write = put_spool_bytes},
    {"taffrail_spool_max_bytes", G, "bound of pending", AGENT, COUNT, AT(status.spool.max_bytes)},
    {"taffrail_spool_free_bytes", G, "free on its disk", AGENT, COUNT, AT(status.spool.free_bytes)},
    {"taffrail_spool_segments", G, "segments", AGENT, COUNT, AT(status.spool.segments)},
    {"taffrail_spool_written_bytes_total", C, "bytes appended", AGENT, COUNT,
     AT(status.spool.written_bytes)},
    {"taffrail_spool_sync_seconds", H, "time of a sync", AGENT, HISTOGRAM, AT(status.spool.sync)},
    {"taffrail_spool_errors_total", C, "disk errors", AGENT, COUNT, AT(status.spool.errors),
     BY("reason", disk_words)},
    {"taffrail_spool_sealed_timestamp_seconds", G, "newest seal", AGENT, NANOSECONDS_TIME,
     AT(status.spool.sealed_ns)},
    {"taffrail_gaps_total", C, "gaps recorded", AGENT, COUNT, AT(status.gaps),
     BY("reason", tf_gaps)},
    {"taffrail_gap_bytes_total", C, "bytes lost at most", AGENT, COUNT, AT(status.gap_bytes),
     BY("reason", tf_gaps)},
    {"taffrail_expired_records_total", C, "deleted before this output had them", OUTPUTS, COUNT,
     OUT(feed.expired)},
    {"taffrail_output_up", G, "1 when connected", OUTPUTS, FLAG, OUT(own.up)},
    {"taffrail_output_acked_records_total", C, "acknowledged", OUTPUTS, COUNT, OUT(feed.acked)},
    {"taffrail_output_acked_bytes_total", C, "acknowledged, as sent", OUTPUTS, COUNT,
     OUT(feed.acked_bytes)},
    {"taffrail_output_skipped_records_total", C, "of tags that it does not match", OUTPUTS, COUNT,
     OUT(feed.skipped)},
    {"taffrail_output_pending_records", G, "waiting", OUTPUTS, COUNT, OUT(feed.pending)},
    {"taffrail_output_pending_bytes", G, "waiting", OUTPUTS, COUNT, OUT(feed.pending_bytes)},
    {"taffrail_output_oldest_seconds", G, "age of the oldest waiting", .write = put_oldest},
    {"taffrail_output_inflight_frames", G, "sent, not acknowledged", OUTPUTS, COUNT32,
     OUT(feed.in_flight)},
    {"taffrail_output_retries_total", C, "frames sent again", .write = put_retries},
    {"taffrail_output_connects_total", C, "attempts", .write = put_connects},
    {"taffrail_output_rejected_records_total", C, "refused for good", .write = put_rejected},
    {"taffrail_output_ack_seconds", H, "from sent to acknowledged", OUTPUTS, HISTOGRAM,
     OUT(feed.ack)},
    {"taffrail_delivery_seconds", H, "from read to acknowledged", OUTPUTS, HISTOGRAM,
     OUT(feed.delivery)},
    {"taffrail_certificate_expiry_timestamp_seconds", G, "end of validity",
     .write = put_certificates},
    {"taffrail_ledger_missing_records", G, "0, or the books do not balance", AGENT, COUNT,
     AT(status.books.missing)},
    {"taffrail_sandbox_layer", G, "1 when on", .write = put_layers},
    {"taffrail_sandbox_strict", G, "1 when only calls of a list are allowed", .write = put_strict},
    {"taffrail_loop_delay_seconds", H, "how late the loop runs", AGENT, HISTOGRAM, AT(loop_delay)},
    {"taffrail_log_lines_total", C, "own log", AGENT, COUNT, AT(log_lines),
     BY("level", level_words)},
    {"process_cpu_seconds_total", C, "user and system time", .write = put_cpu},
    {"process_resident_memory_bytes", G, "resident memory", AGENT, COUNT, AT(resident_bytes)},
    {"process_open_fds", G, "open descriptors", AGENT, COUNT, AT(open_fds)},
    {"process_max_fds", G, "bound of open descriptors", AGENT, COUNT, AT(max_fds)},
    {"process_start_time_seconds", G, "start, since the epoch", AGENT, NANOSECONDS_TIME,
     AT(started_ns)},
};
/* clang-format on */

void tf_metrics_write(const struct tf_facts *facts, struct tf_buf *out)
{
    for (size_t i = 0; i < TF_COUNT(metrics); i++) {
        (void)tf_buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", metrics[i].name, metrics[i].help,
                            metrics[i].name, metrics[i].type);
        put_samples(out, &metrics[i], facts);
    }
}
