/*
 * status.h - how a running pipeline stands: a copy of what its rooms know, for metrics, conditions
 * and pages.
 *
 * Taken on the loop, in time that grows with inputs, outputs and rules, never with records. Texts
 * are borrowed from the pipeline: a copy is used before the loop goes on, and ended with it.
 */
#ifndef TAFFRAIL_STATUS_H
#define TAFFRAIL_STATUS_H

#include "taffrail/event.h"
#include "taffrail/input.h"
#include "taffrail/output.h"
#include "taffrail/pipeline.h"
#include "taffrail/sandbox.h"

/* Reasons of gaps. What has no word here is counted as the last. */
#define TF_GAPS 10u
extern const char *const tf_gaps[TF_GAPS];

struct tf_status_input {
    const char *name, *kind;
    bool is_receiver;
    uint64_t bytes, records, malformed, truncated; /* since start; records that are durable */
    struct tf_input_status own;
};

struct tf_status_output {
    const char *name, *kind;
    struct tf_output_status own;
    struct tf_feed_status feed;
};

/* Of a filter that joins records, or of one that learns (kubernetes). */
struct tf_status_filter {
    const char *name;
    bool joins, learns;
    uint64_t joined; /* since start */
    uint64_t held;   /* now, until their next piece comes */
    struct tf_filter_status own;
    uint64_t unknown_records; /* since start, that went on without what it would have known */
};

/* What a filter's rule has done since start. */
struct tf_status_rule {
    const char *filter, *kind, *rule;
    bool is_withheld; /* hits of its limits */
    bool is_dropped;  /* records that it dropped */
    uint64_t hits;
};

/* The ledger, in records (docs/architecture.md). */
struct tf_status_books {
    uint64_t decoded, spooled, joined, filtered, held, redacted, withheld;
    uint64_t own; /* of decoded, what no input read: the agent's own records */
    uint64_t withheld_by[TF_WITHHELD_REASONS];
    uint64_t missing; /* 0, or the books do not balance */
};

struct tf_status {
    bool is_started, is_stopping; /* is_started: the spool is open, inputs read */
    bool has_room;                /* else inputs wait */
    bool is_redaction_off;
    struct tf_sandbox_status sandbox;
    struct tf_spool_status spool; /* zeroed while there is none */
    struct tf_status_books books;
    uint64_t gaps[TF_GAPS], gap_bytes[TF_GAPS]; /* bytes: at most, where a size is known */
    struct tf_status_input *inputs;
    struct tf_status_output *outputs;
    struct tf_status_filter *filters;
    struct tf_status_rule *rules;
    size_t input_count, output_count, filter_count, rule_count;
};

/* Fills *out; ended by tf_status_fini. Returns 0 or -ENOMEM. */
int tf_pipeline_status(const struct tf_pipeline *pipeline, struct tf_status *out);
void tf_status_fini(struct tf_status *status);

/* What is missing in the books of one output, or too much. 0: they balance. */
uint64_t tf_status_missing(const struct tf_spool_status *spool, const struct tf_feed_status *feed);

#endif
