/*
 * redact.h - what the files of the filter share: its options, and one opened filter.
 */
#ifndef TAFFRAIL_REDACT_H
#define TAFFRAIL_REDACT_H

#include "engine.h"
#include "modes.h"
#include "names.h"
#include "ruleset.h"
#include "taffrail/filter.h"

#define TF_REDACT_NO_RULE UINT16_MAX

/* A zeroed struct is the default set with the default replacement. */
struct tf_redact_options {
    struct tf_texts enable, disable; /* ids, packs or tags */
    struct tf_texts rules;           /* paths of own rules */
    struct tf_texts decode;
    int mode;                /* enum tf_redact_mode */
    struct tf_pairs modes;   /* id, pack or tag: mode */
    struct tf_text hash_key; /* path */
    struct tf_text replacement;
    bool mark;
    struct tf_text max_cost; /* a time in ns or us */
};

/* Immutable after open; shared by all workers. */
struct tf_redact_filter {
    struct tf_redact_ruleset *set;
    struct tf_redact_engine *engine;
    struct tf_redact_modes modes;
    const struct tf_redact_rule *rules; /* the set's */
    size_t count;
    uint16_t index;
    uint16_t private_key;                 /* number of that rule, or NO_RULE when it is off */
    uint16_t name_rules[TF_REDACT_NAMES]; /* by what a name gives away; NO_RULE when off */
    uint32_t on_count;
    double own_ns_a_line, own_ns_max;
    bool mark;
};

/* apply.c: the members of the descriptor that work on a batch. */
void *tf_redact_scratch_new(void *self);
void tf_redact_scratch_free(void *scratch);
void tf_redact_observe(void *scratch, tf_filter_hit_fn *on_hit, void *ctx);
int tf_redact_apply(void *self, void *scratch, void *state, struct tf_batch *batch);

#endif
