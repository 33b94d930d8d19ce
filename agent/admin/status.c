/*
 * status.c - facts as one JSON object, for the page, `taffrail status` and programs.
 *
 * Its keys are an interface (docs/admin.md). Counters are since the start; rates are made by who
 * asks twice. Times are RFC 3339 in UTC, durations seconds. No text of a record, no path, no
 * secret.
 */
#include "internal.h"

#include <inttypes.h>

#include "taffrail/json.h"

/* Whether the value that comes next is the first of its object or array. */
struct json {
    struct tf_buf *out;
    bool is_first;
};

static void key(struct json *json, const char *name)
{
    if (!json->is_first) {
        (void)tf_buf_append_byte(json->out, ',');
    }
    json->is_first = false;
    if (name != NULL) {
        (void)tf_buf_printf(json->out, "\"%s\":", name);
    }
}

/* name NULL: an item of an array. */
static void begin(struct json *json, const char *name, char bracket)
{
    key(json, name);
    (void)tf_buf_append_byte(json->out, (uint8_t)bracket);
    json->is_first = true;
}

static void end(struct json *json, char bracket)
{
    (void)tf_buf_append_byte(json->out, (uint8_t)bracket);
    json->is_first = false;
}

static void text(struct json *json, const char *name, const char *value)
{
    key(json, name);
    tf_json_put(json->out, value);
}

static void number(struct json *json, const char *name, uint64_t value)
{
    key(json, name);
    (void)tf_buf_printf(json->out, "%" PRIu64, value);
}

static void seconds(struct json *json, const char *name, double value)
{
    key(json, name);
    (void)tf_buf_printf(json->out, "%.3f", value);
}

static void flag(struct json *json, const char *name, bool value)
{
    key(json, name);
    (void)tf_buf_append_text(json->out, value ? "true" : "false");
}

static void moment(struct json *json, const char *name, int64_t time_ns)
{
    char written[TF_TIME_TEXT_BYTES];

    tf_time_format(time_ns, written);
    memcpy(written + 23, "Z", 2); /* milliseconds are enough here */
    text(json, name, written);
}

/* ---- parts ---------------------------------------------------------------------------------- */

static void put_condition(void *ctx, const struct tf_condition *condition)
{
    struct json *json = ctx;
    const struct tf_condition_kind *kind = &tf_condition_kinds[condition->code];

    begin(json, NULL, '{');
    text(json, "code", kind->code);
    text(json, "subject", condition->subject);
    text(json, "text", condition->text);
    text(json, "safe", kind->safe);
    moment(json, "since", condition->since_ns);
    flag(json, "blocks_ready", kind->blocks_ready);
    end(json, '}');
}

static void put_input(struct json *json, const struct tf_status_input *input)
{
    begin(json, NULL, '{');
    text(json, "name", input->name);
    text(json, "kind", input->kind);
    number(json, "sources", input->own.sources);
    number(json, "connections", input->own.connections);
    number(json, "bytes", input->bytes);
    number(json, "records", input->records);
    number(json, "malformed", input->malformed);
    number(json, "truncated", input->truncated);
    number(json, "refused", input->own.refused);
    number(json, "errors", tf_admin_sum(input->own.errors, TF_INPUT_ERRORS));
    number(json, "lag_bytes", input->own.lag_bytes);
    seconds(json, "lag_seconds", (double)input->own.lag_ms / 1e3);
    end(json, '}');
}

static void put_spool(struct json *json, const struct tf_status *status)
{
    static const char *const seals[] = {
        [TF_SEALED_OFF] = "off", [TF_SEALED_ON] = "on", [TF_SEALED_LOST] = "lost"};
    const struct tf_spool_status *spool = &status->spool;

    begin(json, "spool", '{');
    number(json, "pending_bytes", spool->bytes_pending);
    number(json, "pending_records", spool->pending_events);
    number(json, "retained_bytes", spool->bytes_retained);
    number(json, "max_bytes", spool->max_bytes);
    number(json, "free_bytes", spool->free_bytes);
    number(json, "segments", spool->segments);
    number(json, "written_bytes", spool->written_bytes);
    flag(json, "has_room", status->has_room);
    text(json, "seal", seals[spool->seal]);
    if (spool->sealed_ns != 0) {
        moment(json, "sealed", spool->sealed_ns);
    }
    end(json, '}');
}

static void put_quantile(struct json *json, const char *name, const struct tf_histogram *histogram,
                         unsigned permille)
{
    uint64_t us = tf_histogram_quantile_us(histogram, permille);

    if (tf_histogram_count(histogram) > 0) {
        us = us == UINT64_MAX ? tf_histogram_bounds_us[TF_HISTOGRAM_BOUNDS - 1] : us;
        key(json, name);
        (void)tf_buf_printf(json->out, "%g", (double)us / 1e6);
    }
}

static void put_output(struct json *json, const struct tf_facts *facts,
                       const struct tf_status_output *output)
{
    const struct tf_feed_status *feed = &output->feed;

    begin(json, NULL, '{');
    text(json, "name", output->name);
    text(json, "kind", output->kind);
    flag(json, "up", output->own.up);
    text(json, "peer", output->own.peer);
    text(json, "identity", output->own.identity);
    text(json, "why", output->own.why);
    number(json, "pending_at_start", feed->pending_at_start);
    number(json, "acked", feed->acked);
    number(json, "acked_bytes", feed->acked_bytes);
    number(json, "skipped", feed->skipped);
    number(json, "expired", feed->expired);
    number(json, "rejected", feed->rejected);
    number(json, "pending", feed->pending);
    number(json, "pending_bytes", feed->pending_bytes);
    seconds(json, "oldest_seconds", tf_admin_oldest_s(feed, facts->now_ns));
    number(json, "inflight", feed->in_flight);
    number(json, "retries", output->own.retries);
    put_quantile(json, "ack_p50_seconds", &feed->ack, 500);
    put_quantile(json, "ack_p99_seconds", &feed->ack, 990);
    put_quantile(json, "delivery_p99_seconds", &feed->delivery, 990);
    end(json, '}');
}

static void put_rules(struct json *json, const struct tf_status *status)
{
    begin(json, "redaction", '{');
    flag(json, "off", status->is_redaction_off);
    number(json, "redacted", status->books.redacted);
    number(json, "withheld", status->books.withheld);
    begin(json, "rules", '[');
    for (size_t i = 0; i < status->rule_count; i++) {
        const struct tf_status_rule *rule = &status->rules[i];

        if (tf_admin_is_redaction(rule)) {
            begin(json, NULL, '{');
            text(json, "rule", rule->rule);
            number(json, "hits", rule->hits);
            end(json, '}');
        }
    }
    end(json, ']');
    end(json, '}');
}

static void put_certificates(struct json *json, const struct tf_facts *facts)
{
    begin(json, "certificates", '[');
    for (size_t i = 0; i < facts->certificate_count; i++) {
        const struct tf_certificate *certificate = &facts->certificates[i];
        int64_t left_s = certificate->until_s - facts->now_ns / TF_S_IN_NS;

        begin(json, NULL, '{');
        text(json, "use", certificate->use);
        moment(json, "until", certificate->until_s * TF_S_IN_NS);
        number(json, "days", left_s > 0 ? (uint64_t)left_s / 86400 : 0);
        end(json, '}');
    }
    end(json, ']');
}

static void put_sandbox(struct json *json, const struct tf_sandbox_status *sandbox)
{
    begin(json, "sandbox", '{');
    begin(json, "layers", '[');
    for (unsigned i = 0; i < TF_SANDBOX_LAYERS; i++) {
        begin(json, NULL, '{');
        text(json, "layer", tf_sandbox_layers[i]);
        flag(json, "on", sandbox->has[i]);
        end(json, '}');
    }
    end(json, ']');
    number(json, "landlock", (uint64_t)sandbox->landlock_abi);
    text(json, "seccomp", tf_sandbox_calls[sandbox->calls]);
    text(json, "memory", tf_sandbox_memories[sandbox->memory]);
    flag(json, "reads_all_logs", sandbox->may_read_all);
    flag(json, "opener", sandbox->has_opener);
    begin(json, "roles", '[');
    for (unsigned i = 0; i < TF_SANDBOX_ROLES; i++) {
        if (sandbox->roles[i].is_there) {
            char layers[TF_SANDBOX_TEXT_BYTES];

            tf_sandbox_text(sandbox->roles[i].has, layers);
            begin(json, NULL, '{');
            text(json, "role", tf_sandbox_roles[i]);
            text(json, "layers", layers);
            flag(json, "reads_all_logs", sandbox->roles[i].may_read_all);
            end(json, '}');
        }
    }
    end(json, ']');
    end(json, '}');
}

static void put_books(struct json *json, const struct tf_status *status)
{
    const struct tf_status_books *books = &status->books;

    begin(json, "books", '{');
    number(json, "decoded", books->decoded);
    number(json, "spooled", books->spooled);
    number(json, "joined", books->joined);
    number(json, "filtered", books->filtered);
    number(json, "held", books->held);
    number(json, "missing", books->missing);
    flag(json, "balanced", books->missing == 0);
    number(json, "gaps", tf_admin_sum(status->gaps, TF_GAPS));
    number(json, "gap_bytes_max", tf_admin_sum(status->gap_bytes, TF_GAPS));
    end(json, '}');
}

static void count_condition(void *ctx, const struct tf_condition *condition)
{
    (void)condition;
    (*(size_t *)ctx)++;
}

static const char *state_of(const struct tf_facts *facts)
{
    size_t conditions = 0;

    if (facts->status.is_stopping) {
        return "stopping";
    }
    tf_conditions_each(facts->conditions, count_condition, &conditions);
    return conditions > 0 ? "degraded" : "healthy";
}

void tf_status_write(const struct tf_facts *facts, struct tf_buf *out)
{
    const struct tf_status *status = &facts->status;
    struct json json = {.out = out, .is_first = true};

    begin(&json, NULL, '{');
    text(&json, "version", facts->version);
    text(&json, "revision", facts->revision);
    text(&json, "host", facts->host);
    text(&json, "digest", facts->digest);
    begin(&json, "reloads", '{');
    number(&json, "taken", facts->reloads.taken);
    number(&json, "refused", facts->reloads.refused);
    begin(&json, "certificates", '{');
    number(&json, "taken", facts->reloads.renewals_taken);
    number(&json, "refused", facts->reloads.renewals_refused);
    end(&json, '}');
    end(&json, '}');
    text(&json, "state", state_of(facts));
    flag(&json, "ready", facts->is_ready);
    moment(&json, "time", facts->now_ns);
    moment(&json, "started", facts->started_ns);
    seconds(&json, "uptime_seconds", (double)(facts->now_ns - facts->started_ns) / 1e9);
    begin(&json, "conditions", '[');
    tf_conditions_each(facts->conditions, put_condition, &json);
    end(&json, ']');
    begin(&json, "inputs", '[');
    for (size_t i = 0; i < status->input_count; i++) {
        put_input(&json, &status->inputs[i]);
    }
    end(&json, ']');
    put_spool(&json, status);
    begin(&json, "outputs", '[');
    for (size_t i = 0; i < status->output_count; i++) {
        put_output(&json, facts, &status->outputs[i]);
    }
    end(&json, ']');
    put_rules(&json, status);
    put_certificates(&json, facts);
    put_sandbox(&json, &status->sandbox);
    put_books(&json, status);
    end(&json, '}');
    (void)tf_buf_append_byte(out, '\n');
}

/* ---- /readyz -------------------------------------------------------------------------------- */

static void put_blocking(void *ctx, const struct tf_condition *condition)
{
    if (tf_condition_kinds[condition->code].blocks_ready) {
        (void)tf_buf_printf(ctx, "%s: %s; %s\n", tf_condition_kinds[condition->code].code,
                            condition->text, tf_condition_kinds[condition->code].safe);
    }
}

void tf_ready_write(const struct tf_facts *facts, struct tf_buf *out)
{
    if (facts->is_ready) {
        (void)tf_buf_append_text(out, "ready\n");
        return;
    }
    if (!facts->status.is_started) {
        (void)tf_buf_append_text(out, "starting\n");
    }
    if (facts->status.is_stopping) {
        (void)tf_buf_append_text(out, "stopping\n");
    }
    tf_conditions_each(facts->conditions, put_blocking, out);
}
