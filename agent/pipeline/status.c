/*
 * status.c - how the pipeline stands, copied for whoever asks; what inputs count by fixed words.
 */
#include "internal.h"

#include <errno.h>
#include <stdlib.h>

const char *const tf_gaps[TF_GAPS] = {"copytruncate", "deleted",    "drop-oldest", "vacuumed",
                                      "suppressed",   "unreadable", "damaged",     "overrun",
                                      "position",     "other"};

const char *const tf_input_errors[TF_INPUT_ERRORS] = {
    [TF_INPUT_OPEN] = "open", [TF_INPUT_READ] = "read", [TF_INPUT_ACCEPT] = "accept"};

const char *const tf_rotations[TF_ROTATIONS] = {
    [TF_ROTATION_RENAME] = "rename", [TF_ROTATION_COPYTRUNCATE] = "copytruncate"};

const char *const tf_refusals[TF_REFUSALS] = {
    "identity",  "address",   "connections", "per-identity", "handshake",  "slow", "tag",
    "malformed", "too-large", "spools",      "user",         "descriptor", "other"};

const char *const tf_contradictions[TF_CONTRADICTIONS] = {"fork", "back", "between", "new-spool",
                                                          "unseen"};

static unsigned find_word(const char *const *words, unsigned count, const char *word)
{
    unsigned i = 0;

    while (i + 1 < count && strcmp(words[i], word) != 0) {
        i++;
    }
    return i;
}

void tf_input_refused(struct tf_input_status *status, const char *reason, uint64_t count)
{
    status->refused += count;
    status->refused_by[find_word(tf_refusals, TF_REFUSALS, reason)] += count;
}

void tf_input_contradicted(struct tf_input_status *status, const char *kind)
{
    status->contradictions++;
    status->contradicted_by[find_word(tf_contradictions, TF_CONTRADICTIONS, kind)]++;
}

void tf_pipeline_count_gap(struct tf_pipeline *pipeline, const char *reason, uint64_t bytes_max)
{
    unsigned i = find_word(tf_gaps, TF_GAPS, reason);

    pipeline->gaps[i]++;
    pipeline->gap_bytes[i] += bytes_max != UINT64_MAX ? bytes_max : 0;
}

/* ---- the copy ------------------------------------------------------------------------------- */

static uint64_t distance(uint64_t a, uint64_t b)
{
    return a > b ? a - b : b - a;
}

uint64_t tf_status_missing(const struct tf_spool_status *spool, const struct tf_feed_status *feed)
{
    return distance(feed->pending_at_start + spool->spooled_events,
                    feed->acked + feed->skipped + feed->expired + feed->rejected + feed->pending);
}

static void copy_inputs(const struct tf_pipeline *pipeline, struct tf_status *out)
{
    for (size_t i = 0; i < pipeline->input_count; i++) {
        const struct input *input = &pipeline->inputs[i];
        struct tf_status_input *to = &out->inputs[out->input_count++];

        *to = (struct tf_status_input){.name = input->name,
                                       .kind = input->kind->name,
                                       .is_receiver = input->kind->is_receiver,
                                       .bytes = input->bytes,
                                       .records = input->records,
                                       .malformed = input->malformed,
                                       .truncated = input->truncated};
        if (input->open && input->kind->status != NULL) {
            input->kind->status(input->self, &to->own);
        }
    }
}

/* The books of what was read, and of the worst output. */
static void copy_books(const struct tf_pipeline *pipeline, struct tf_status *out)
{
    const struct books *books = &pipeline->books;
    struct tf_status_books *to = &out->books;

    *to = (struct tf_status_books){.decoded = books->decoded + tf_books_held(pipeline),
                                   .spooled = books->spooled,
                                   .joined = books->joined,
                                   .filtered = books->filtered,
                                   .held = tf_books_held(pipeline),
                                   .own = books->own,
                                   .redacted = books->redacted,
                                   .withheld = books->withheld};
    memcpy(to->withheld_by, books->withheld_by, sizeof to->withheld_by);
    to->missing = distance(books->spooled, out->spool.spooled_events);
    for (size_t i = 0; i < out->output_count; i++) {
        uint64_t missing = tf_status_missing(&out->spool, &out->outputs[i].feed);

        to->missing = missing > to->missing ? missing : to->missing;
    }
}

/* A gap that the spool found is told to each output by itself. */
static void add_spool_gaps(const struct tf_feed_status *feed, struct tf_status *out)
{
    out->gaps[find_word(tf_gaps, TF_GAPS, "damaged")] += feed->gaps_damaged;
    out->gaps[find_word(tf_gaps, TF_GAPS, "drop-oldest")] += feed->gaps_dropped;
    out->gaps[find_word(tf_gaps, TF_GAPS, "unreadable")] += feed->gaps_unreadable;
}

static void copy_outputs(const struct tf_pipeline *pipeline, struct tf_status *out)
{
    for (size_t i = 0; i < pipeline->output_count; i++) {
        const struct output *output = &pipeline->outputs[i];
        struct tf_status_output *to;

        if (output->feed == NULL) {
            continue; /* not started */
        }
        to = &out->outputs[out->output_count++];
        *to = (struct tf_status_output){.name = output->name, .kind = output->kind->name};
        tf_feed_status(output->feed, &to->feed);
        if (output->kind->status != NULL) {
            output->kind->status(output->self, &to->own);
        }
        add_spool_gaps(&to->feed, out);
    }
}

static void copy_rules(const struct tf_pipeline *pipeline, struct tf_status *out)
{
    for (uint32_t i = 0; i < pipeline->rule_book_count; i++) {
        const struct rule_book *book = &pipeline->rule_books[i];

        if (book->hits > 0 || tf_rule_is_dropped(book->rule)) {
            out->rules[out->rule_count++] = (struct tf_status_rule){
                .filter = pipeline->config->filters.items[book->filter].name,
                .kind = pipeline->config->filters.items[book->filter].kind_name,
                .rule = tf_books_rule_name(pipeline, book),
                .is_withheld = tf_rule_is_withheld(book->rule),
                .is_dropped = tf_rule_is_dropped(book->rule),
                .hits = book->hits};
        }
    }
}

/* Hits of all rules: of a filter which holds records back what it joined, of one that learns, which
 * has one rule at most, what went on without (filter.h). */
static uint64_t hits_of(const struct tf_pipeline *pipeline, size_t filter)
{
    uint64_t hits = 0;

    for (uint32_t i = 0; i < pipeline->rule_book_count; i++) {
        hits += pipeline->rule_books[i].filter == filter ? pipeline->rule_books[i].hits : 0;
    }
    return hits;
}

static void copy_filters(const struct tf_pipeline *pipeline, struct tf_status *out)
{
    for (size_t i = 0; i < pipeline->filters->count; i++) {
        const struct filter *filter = &pipeline->filters->items[i];
        struct tf_status_filter *to = &out->filters[out->filter_count];

        if (filter->kind->held == NULL && filter->kind->status == NULL) {
            continue;
        }
        to->name = pipeline->config->filters.items[i].name;
        if (filter->kind->held != NULL) {
            to->joins = true;
            to->joined = hits_of(pipeline, i);
            to->held = (uint64_t)pipeline->books.held[i];
        } else {
            to->learns = true;
            to->unknown_records = hits_of(pipeline, i);
            filter->kind->status(filter->self, &to->own);
        }
        out->filter_count++;
    }
}

int tf_pipeline_status(const struct tf_pipeline *pipeline, struct tf_status *out)
{
    *out = (struct tf_status){.is_started = pipeline->is_started,
                              .is_stopping = pipeline->stopping,
                              .is_redaction_off = pipeline->config->redact_off};
    out->inputs = calloc(pipeline->input_count + 1, sizeof *out->inputs);
    out->outputs = calloc(pipeline->output_count + 1, sizeof *out->outputs);
    out->filters = calloc(pipeline->filters->count + 1, sizeof *out->filters);
    out->rules = calloc((size_t)pipeline->rule_book_count + 1, sizeof *out->rules);
    if (out->inputs == NULL || out->outputs == NULL || out->filters == NULL || out->rules == NULL) {
        tf_status_fini(out);
        return -ENOMEM;
    }
    tf_sandbox_status(&out->sandbox);
    memcpy(out->gaps, pipeline->gaps, sizeof out->gaps);
    memcpy(out->gap_bytes, pipeline->gap_bytes, sizeof out->gap_bytes);
    if (pipeline->spool != NULL) {
        tf_spool_status(pipeline->spool, &out->spool);
        out->has_room = tf_spool_has_room(pipeline->spool);
        copy_outputs(pipeline, out);
        copy_books(pipeline, out);
    }
    copy_inputs(pipeline, out);
    copy_filters(pipeline, out);
    copy_rules(pipeline, out);
    return 0;
}

void tf_status_fini(struct tf_status *status)
{
    free(status->inputs);
    free(status->outputs);
    free(status->filters);
    free(status->rules);
    *status = (struct tf_status){0};
}
