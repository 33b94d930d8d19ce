/*
 * redact.h - what the filter's own command and tests see of it.
 */
#ifndef TAFFRAIL_REDACT_H
#define TAFFRAIL_REDACT_H

#include "engine.h"
#include "taffrail/filter.h"

/* The filter's options; a zeroed struct is the default set with the default replacement. */
struct tf_redact_options {
    struct tf_texts enable;
    struct tf_texts disable;
    struct tf_text replacement;
};

/* Told of each mask that is put on, in the order of values, then bytes. rule NULL: withheld. */
typedef void tf_redact_seen_fn(void *ctx, uint32_t record, const struct tf_redact_span *span,
                               const struct tf_redact_rule *rule);

/* Sets who is told by this scratch; NULL: nobody. Only positions and rules are told, never text. */
void tf_redact_observe(void *scratch, tf_redact_seen_fn *on_seen, void *ctx);

#endif
