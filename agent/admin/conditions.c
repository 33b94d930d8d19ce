/*
 * conditions.c - what needs somebody, found in a status.
 *
 * A condition is a code and a subject: an output, a certificate's use, or nothing. Each look says
 * of each whether it is so now:
 *
 *     absent ─is so─> asked ─for DELAYS of its code─> holds ─is not so─> absent
 *
 * What is an event and lasts by nobody's doing (a gap, a clock that was set) holds for LATELY_MS
 * from the last time that its counter rose; an error of the disk for ERROR_MS, since it is tried
 * again each second.
 */
#include "internal.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define DOWN_MS         3000u  /* a connection that is replaced is no condition */
#define KUBERNETES_MS   30000u /* an API server that is upgraded is none */
#define BOOKS_MS        2000u
#define LATELY_MS       (15u * 60u * 1000u)
#define ERROR_MS        60000u
#define CLOCK_NS        (2 * TF_S_IN_NS) /* NTP slews what is less than 0.128 s */
#define EXPIRING_S      (14 * 86400)
#define FILLING_PERCENT 80u

const struct tf_condition_kind tf_condition_kinds[TF_CONDITIONS] = {
    [TF_CONDITION_DISK_ERROR] = {.code = "disk-error",
                                 .safe =
                                     "what was acknowledged to a source is on disk; the rest is "
                                     "read again",
                                 .blocks_ready = true,
                                 .is_audited = true},
    [TF_CONDITION_SPOOL_FULL] = {.code = "spool-full",
                                 .safe = "inputs wait, records stay where they are",
                                 .blocks_ready = true,
                                 .is_audited = true},
    [TF_CONDITION_BOOKS] = {.code = "books",
                            .safe = "nothing is deleted for it; keep spool and log for the report",
                            .is_logged = true,
                            .is_audited = true},
    [TF_CONDITION_GAP] = {.code = "gap", .safe = "the loss is recorded, all else is complete"},
    [TF_CONDITION_KEY_MISSING] = {.code = "key-missing",
                                  .safe = "the segments wait, nothing is skipped"},
    [TF_CONDITION_CERT_EXPIRED] = {.code = "cert-expired",
                                   .safe = "records wait in the spool",
                                   .is_logged = true,
                                   .is_audited = true},
    [TF_CONDITION_OUTPUT_DOWN] = {.code = "output-down",
                                  .safe = "records wait in the spool",
                                  .is_audited = true},
    [TF_CONDITION_SPOOL_FILLING] = {.code = "spool-filling",
                                    .safe = "all is kept until it is full",
                                    .is_logged = true,
                                    .is_audited = true},
    [TF_CONDITION_INPUT_UNREADABLE] = {.code = "input-unreadable",
                                       .safe = "it is tried again; what can be read is read",
                                       .is_logged = true,
                                       .is_audited = true},
    [TF_CONDITION_KUBERNETES_DOWN] = {.code = "kubernetes-down",
                                      .safe = "records go on, with the labels that are known",
                                      .is_audited = true},
    [TF_CONDITION_WITHHELD] = {.code = "withheld",
                               .safe = "no secret left; the text is missing from its record"},
    [TF_CONDITION_SEAL_LOST] = {.code = "seal-lost",
                                .safe = "records go on; what is written now is not sealed"},
    [TF_CONDITION_CLOCK] = {.code = "clock",
                            .safe = "records keep their order; their times do not compare over it",
                            .is_logged = true,
                            .is_audited = true},
    [TF_CONDITION_CERT_EXPIRING] = {.code = "cert-expiring",
                                    .safe = "all goes on until then",
                                    .is_logged = true,
                                    .is_audited = true},
    [TF_CONDITION_REDACTION_OFF] = {.code = "redaction-off",
                                    .safe = "records are complete; secrets in them are not masked",
                                    .is_logged = true}, /* the audit has it from the start on */
    [TF_CONDITION_SANDBOX_PARTIAL] = {.code = "sandbox-partial",
                                      .safe = "all works; the layers that are on still confine it",
                                      .is_logged = true,
                                      .is_audited = true},
};

/* ---- the list ------------------------------------------------------------------------------- */

/* Room for all that one look may ask for. Names are configured, so it grows at the first look only.
 */
static int reserve(struct tf_conditions *conditions, const struct tf_look *look)
{
    size_t wanted = (size_t)TF_CONDITIONS + look->status->input_count + look->status->output_count +
                    look->status->filter_count + 2 * look->certificate_count;
    struct tf_condition *items;

    if (wanted <= conditions->capacity) {
        return 0;
    }
    items = realloc(conditions->items, wanted * sizeof *items);
    if (items == NULL) {
        return -ENOMEM;
    }
    conditions->items = items;
    conditions->capacity = wanted;
    return 0;
}

void tf_conditions_fini(struct tf_conditions *conditions)
{
    free(conditions->items);
    *conditions = (struct tf_conditions){0};
}

/* Made when it is not there. */
static struct tf_condition *find(struct tf_conditions *conditions, enum tf_condition_code code,
                                 const char *subject)
{
    struct tf_condition *item;

    for (size_t i = 0; i < conditions->count; i++) {
        item = &conditions->items[i];
        if (item->code == code && strcmp(item->subject, subject) == 0) {
            return item;
        }
    }
    assert(conditions->count < conditions->capacity);
    item = &conditions->items[conditions->count++];
    *item = (struct tf_condition){.code = code};
    (void)snprintf(item->subject, sizeof item->subject, "%s", subject);
    return item;
}

static void tell(const struct tf_conditions *conditions, const struct tf_condition *item)
{
    if (conditions->on_change != NULL) {
        conditions->on_change(conditions->ctx, item);
    }
}

/* It is so, or not, by this look; it holds once it was so for delay_ms. */
static void judge(struct tf_conditions *conditions, const struct tf_look *look,
                  struct tf_condition *item, bool is_so, uint64_t delay_ms)
{
    if (!is_so) {
        bool held = item->holds;

        item->asked_ms = 0;
        item->holds = false;
        if (held) {
            tell(conditions, item);
        }
        return;
    }
    item->asked_ms = item->asked_ms == 0 ? look->now_ms : item->asked_ms;
    if (!item->holds && look->now_ms - item->asked_ms >= delay_ms) {
        item->holds = true;
        item->since_ns = look->now_ns - (int64_t)delay_ms * TF_MS_IN_NS;
        tell(conditions, item);
    }
}

/* So, since its counter rose within that time. */
static bool has_risen(const struct tf_look *look, struct tf_condition *item, uint64_t value,
                      uint64_t within_ms)
{
    if (value > item->value) {
        item->rose_ms = look->now_ms;
    }
    item->value = value;
    return item->rose_ms != 0 && look->now_ms - item->rose_ms < within_ms;
}

#define SAY(item, ...) (void)snprintf((item)->text, sizeof(item)->text, __VA_ARGS__)

/* ---- one function a room -------------------------------------------------------------------- */

static void look_at_output(struct tf_conditions *conditions, const struct tf_look *look,
                           const struct tf_status_output *output)
{
    struct tf_condition *item = find(conditions, TF_CONDITION_OUTPUT_DOWN, output->name);
    char waiting[TF_COUNTED_TEXT_BYTES];

    SAY(item, "output %s: %s; %s in the spool for it", output->name,
        output->own.why[0] != '\0' ? output->own.why : "not connected",
        tf_counted_text(output->feed.pending, "record", waiting));
    judge(conditions, look, item, !output->own.up, DOWN_MS);
}

static void look_at_spool(struct tf_conditions *conditions, const struct tf_look *look)
{
    const struct tf_spool_status *spool = &look->status->spool;
    bool is_full = look->status->is_started && !look->status->has_room;
    bool is_filling = spool->bytes_pending > spool->max_bytes / 100 * FILLING_PERCENT;
    struct tf_condition *full = find(conditions, TF_CONDITION_SPOOL_FULL, "");
    struct tf_condition *filling = find(conditions, TF_CONDITION_SPOOL_FILLING, "");
    struct tf_condition *error = find(conditions, TF_CONDITION_DISK_ERROR, "");
    char reason[64];

    SAY(full,
        "the spool has no room: %" PRIu64 " MiB are not delivered, %" PRIu64
        " MiB are free on its disk",
        spool->bytes_pending >> 20, spool->free_bytes >> 20);
    judge(conditions, look, full, is_full, 0);
    SAY(filling, "the spool is %" PRIu64 " %% full",
        spool->max_bytes == 0 ? 0 : spool->bytes_pending * 100 / spool->max_bytes);
    judge(conditions, look, filling, is_filling && !is_full, 0);
    if (spool->error != 0) {
        SAY(error, "the spool's disk refuses: %s",
            uv_strerror_r(spool->error, reason, sizeof reason));
    }
    judge(conditions, look, error,
          has_risen(look, error, tf_admin_sum(spool->errors, TF_DISK_ERRORS), ERROR_MS), 0);
}

static void look_at_evidence(struct tf_conditions *conditions, const struct tf_look *look)
{
    const struct tf_spool_status *spool = &look->status->spool;
    struct tf_condition *key = find(conditions, TF_CONDITION_KEY_MISSING, "");
    struct tf_condition *seal = find(conditions, TF_CONDITION_SEAL_LOST, "");
    struct tf_condition *books = find(conditions, TF_CONDITION_BOOKS, "");
    char segments[TF_COUNTED_TEXT_BYTES];

    SAY(key, "no key of spool.keys opens %s",
        tf_counted_text(spool->unreadable_segments, "segment", segments));
    judge(conditions, look, key, spool->unreadable_segments > 0, 0);
    SAY(seal, "the seal was lost");
    judge(conditions, look, seal, spool->seal == TF_SEALED_LOST, 0);
    SAY(books, "the books do not balance by %" PRIu64, look->status->books.missing);
    judge(conditions, look, books, look->status->books.missing != 0, BOOKS_MS);
}

static void look_at_records(struct tf_conditions *conditions, const struct tf_look *look)
{
    const struct tf_status *status = look->status;
    uint64_t gaps = tf_admin_sum(status->gaps, TF_GAPS);
    struct tf_condition *gap = find(conditions, TF_CONDITION_GAP, "");
    struct tf_condition *withheld = find(conditions, TF_CONDITION_WITHHELD, "");
    struct tf_condition *off = find(conditions, TF_CONDITION_REDACTION_OFF, "");
    char text[TF_COUNTED_TEXT_BYTES], bytes[TF_COUNTED_TEXT_BYTES];

    SAY(gap, "%s since the start, up to %s lost", tf_counted_text(gaps, "gap", text),
        tf_counted_text(tf_admin_sum(status->gap_bytes, TF_GAPS), "byte", bytes));
    judge(conditions, look, gap, has_risen(look, gap, gaps, LATELY_MS), 0);
    SAY(withheld, "%s with a text withheld since the start",
        tf_counted_text(status->books.withheld, "record", text));
    judge(conditions, look, withheld, has_risen(look, withheld, status->books.withheld, LATELY_MS),
          0);
    SAY(off, "redaction is off by configuration");
    judge(conditions, look, off, status->is_redaction_off, 0);
}

/* The wall clock and the machine's age go on alike, unless somebody sets the clock. */
static void look_at_clock(struct tf_conditions *conditions, const struct tf_look *look)
{
    int64_t apart_ns = look->now_ns - look->boot_ns;
    int64_t set_ns = conditions->clock_ns != 0 ? apart_ns - conditions->clock_ns : 0;
    struct tf_condition *item = find(conditions, TF_CONDITION_CLOCK, "");
    char seconds[TF_COUNTED_TEXT_BYTES];

    conditions->clock_ns = apart_ns;
    if (set_ns >= CLOCK_NS || set_ns <= -CLOCK_NS) {
        conditions->clock_sets++;
        SAY(item, "the clock was set %s by %s", set_ns > 0 ? "forward" : "back",
            tf_counted_text((uint64_t)llabs(set_ns / TF_S_IN_NS), "second", seconds));
    }
    judge(conditions, look, item, has_risen(look, item, conditions->clock_sets, LATELY_MS), 0);
}

static void look_at_input(struct tf_conditions *conditions, const struct tf_look *look,
                          const struct tf_status_input *input)
{
    struct tf_condition *item = find(conditions, TF_CONDITION_INPUT_UNREADABLE, input->name);
    uint64_t errors = tf_admin_sum(input->own.errors, TF_INPUT_ERRORS);
    char times[TF_COUNTED_TEXT_BYTES];

    SAY(item, "input %s: it failed to open, read or accept something %s since the start",
        input->name, tf_counted_text(errors, "time", times));
    judge(conditions, look, item, has_risen(look, item, errors, LATELY_MS), 0);
}

static void look_at_filter(struct tf_conditions *conditions, const struct tf_look *look,
                           const struct tf_status_filter *filter)
{
    struct tf_condition *item = find(conditions, TF_CONDITION_KUBERNETES_DOWN, filter->name);
    char without[TF_COUNTED_TEXT_BYTES];

    SAY(item, "filter %s: the API server gives no labels: %s; %s without labels since the start",
        filter->name, filter->own.why, tf_counted_text(filter->unknown_records, "record", without));
    judge(conditions, look, item, !filter->own.is_up, KUBERNETES_MS);
}

static void look_at_certificate(struct tf_conditions *conditions, const struct tf_look *look,
                                const struct tf_certificate *certificate)
{
    int64_t left_s = certificate->until_s - look->now_ns / TF_S_IN_NS;
    struct tf_condition *expired = find(conditions, TF_CONDITION_CERT_EXPIRED, certificate->use);
    struct tf_condition *expiring = find(conditions, TF_CONDITION_CERT_EXPIRING, certificate->use);
    char days[TF_COUNTED_TEXT_BYTES];

    SAY(expired, "the certificate of %s has ended", certificate->use);
    judge(conditions, look, expired, left_s <= 0, 0);
    SAY(expiring, "the certificate of %s ends in %s", certificate->use,
        tf_counted_text(left_s > 0 ? (uint64_t)left_s / 86400 : 0, "day", days));
    judge(conditions, look, expiring, left_s > 0 && left_s < EXPIRING_S, 0);
}

/* What tf_sandbox_close did not get. */
static void look_at_sandbox(struct tf_conditions *conditions, const struct tf_look *look)
{
    const struct tf_sandbox_status *sandbox = &look->status->sandbox;
    struct tf_condition *item = find(conditions, TF_CONDITION_SANDBOX_PARTIAL, "");
    char lacks[128] = "";

    for (unsigned i = 0; i < TF_SANDBOX_LAYERS; i++) {
        size_t size = strlen(lacks);

        if (!sandbox->has[i]) {
            (void)snprintf(lacks + size, sizeof lacks - size, "%s %s", size > 0 ? "," : "",
                           tf_sandbox_layers[i]);
        }
    }
    SAY(item, "the sandbox lacks%s", lacks);
    judge(conditions, look, item, sandbox->is_closed && sandbox->layers < TF_SANDBOX_LAYERS, 0);
}

int tf_conditions_look(struct tf_conditions *conditions, const struct tf_look *look)
{
    if (reserve(conditions, look) < 0) {
        return -ENOMEM;
    }
    look_at_spool(conditions, look);
    look_at_evidence(conditions, look);
    look_at_records(conditions, look);
    look_at_clock(conditions, look);
    look_at_sandbox(conditions, look);
    for (size_t i = 0; i < look->status->input_count; i++) {
        look_at_input(conditions, look, &look->status->inputs[i]);
    }
    for (size_t i = 0; i < look->status->filter_count; i++) {
        if (look->status->filters[i].learns) {
            look_at_filter(conditions, look, &look->status->filters[i]);
        }
    }
    for (size_t i = 0; i < look->status->output_count; i++) {
        look_at_output(conditions, look, &look->status->outputs[i]);
    }
    for (size_t i = 0; i < look->certificate_count; i++) {
        look_at_certificate(conditions, look, &look->certificates[i]);
    }
    return 0;
}

/* ---- asking --------------------------------------------------------------------------------- */

void tf_conditions_each(const struct tf_conditions *conditions,
                        void (*fn)(void *ctx, const struct tf_condition *condition), void *ctx)
{
    for (unsigned code = 0; code < TF_CONDITIONS; code++) {
        for (size_t i = 0; i < conditions->count; i++) {
            if (conditions->items[i].code == code && conditions->items[i].holds) {
                fn(ctx, &conditions->items[i]);
            }
        }
    }
}

bool tf_conditions_hold(const struct tf_conditions *conditions, enum tf_condition_code code)
{
    for (size_t i = 0; i < conditions->count; i++) {
        if (conditions->items[i].code == code && conditions->items[i].holds) {
            return true;
        }
    }
    return false;
}
