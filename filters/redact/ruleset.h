/*
 * ruleset.h - the shipped rules and one's own, together: switched, tested, measured.
 *
 * The rules stand in the order of their claim: own ones first, then the packs as they are listed in
 * CMakeLists.txt, each as it is written. A ruleset is immutable after new; any thread may read it.
 * It must live as long as an engine made from its rules.
 */
#ifndef TAFFRAIL_REDACT_RULESET_H
#define TAFFRAIL_REDACT_RULESET_H

#include "rules.h"
#include "sample.h"
#include "taffrail/config.h"

#define TF_REDACT_COST_MAX_NS  1000u /* of all own rules together, a line; the default budget */
#define TF_REDACT_WORST_MAX_NS 1000u /* of one own rule that is searched, a byte of a bad text */

/* A pack that ships, as it is written; made by the build from conf/rules. */
struct tf_redact_pack {
    const char *file;
    const unsigned char *bytes;
    size_t size;
};
extern const struct tf_redact_pack tf_redact_packs[];
extern const size_t tf_redact_packs_count;

/* Their fragments, which own rules may use too: conf/rules/fragments.yaml. */
extern const struct tf_redact_pack tf_redact_fragments;

static inline struct tf_slice tf_redact_shared_fragments(void)
{
    return tf_slice(tf_redact_fragments.bytes, tf_redact_fragments.size);
}

struct tf_redact_ruleset;

/*
 * Puts the shipped rules and those of own_files (paths; NULL: none) together. Of own rules all is
 * checked, their examples too; what is wrong goes to err, all of it, with its place. Returns new in
 * *out; -EINVAL when anything is wrong; -ENOMEM. A file that cannot be read is an error at the
 * place where it is named.
 */
int tf_redact_ruleset_new(const struct tf_texts *own_files, struct tf_redact_ruleset **out,
                          struct tf_error *err);
void tf_redact_ruleset_free(struct tf_redact_ruleset *set);

/* All rules, for tf_redact_engine_args; at most TF_REDACT_RULES_MAX. */
const struct tf_redact_rule *tf_redact_ruleset_rules(const struct tf_redact_ruleset *set,
                                                     size_t *count);

/* The number of a rule by its id, or -1. */
int tf_redact_ruleset_find(const struct tf_redact_ruleset *set, const char *id);

/* How a word of the configuration names a rule; the higher one counts. */
enum tf_redact_named {
    TF_REDACT_NOT_NAMED,
    TF_REDACT_BY_PACK,
    TF_REDACT_BY_TAG,
    TF_REDACT_BY_ID,
};
enum tf_redact_named tf_redact_rule_named(const struct tf_redact_rule *rule, const char *word);

/* Adds an error with the nearest known word unless word is the id, pack or tag of a rule. Returns 0
 * or -EINVAL. For keys of redact.modes, too. */
int tf_redact_ruleset_check_word(const struct tf_redact_ruleset *set, const struct tf_text *word,
                                 struct tf_error *err);

/*
 * Which rules are on: the default set, changed by packs, then by tags, then by ids, each time first
 * by enable, then by disable. Either may be NULL. on has room for all rules. Unknown words, and
 * ones in both lists, go to err; then -EINVAL, and on counts for nothing.
 */
int tf_redact_ruleset_switch(const struct tf_redact_ruleset *set, const struct tf_texts *enable,
                             const struct tf_texts *disable, bool *on, struct tf_error *err);

/* Why a rule does not do as its examples say; empty text: it does. */
struct tf_redact_verdict {
    char text[256]; /* "match example 1 is not matched; ..."; quotes nothing of the example */
    unsigned match, no_match; /* how many there are */
};

/* Tries a rule, alone, at its examples. Returns 0, also when it fails them; -EINVAL when its regex
 * does not compile (that is in the text), -ENOMEM. */
int tf_redact_rule_try(const struct tf_redact_rule *rule, struct tf_redact_verdict *out);

struct tf_redact_engine;

/* How long an engine takes for the sample, in ns: the best of some passes. 0 or -ENOMEM. */
int tf_redact_engine_time(const struct tf_redact_engine *engine,
                          const struct tf_redact_sample *sample, double *ns);

/* How long a scan of the sample takes with the rules that are on (NULL: the default set), in ns:
 * the best of some. Returns as tf_redact_engine_new. */
int tf_redact_rules_time(const struct tf_redact_sample *sample, const struct tf_redact_rule *rules,
                         size_t count, const bool *on, double *ns);

/* What each of the rules that are wanted (NULL: all) costs, alone, in ns a line of the sample,
 * above what no rule costs. Takes some milliseconds a rule. Returns as tf_redact_engine_new. */
int tf_redact_rules_cost(const struct tf_redact_sample *sample, const struct tf_redact_rule *rules,
                         size_t count, const bool *wanted, double *ns_a_line);

/* What a searched rule costs on texts that nearly match its examples, in ns a byte: the worst, or
 * the first above max_ns. 0, -EINVAL or -ENOMEM. */
int tf_redact_rule_worst(const struct tf_redact_rule *rule, double max_ns, double *ns_a_byte);

/*
 * Measures the own rules that are on (NULL: the default set): together they may cost budget_ns a
 * line, those with allow_slow not counted, and a searched one TF_REDACT_WORST_MAX_NS a byte of a
 * bad text. Errors name the dearest with what they cost; a slow one that is allowed is a warning.
 * *sum_ns is what they cost together. Returns 0, -EINVAL or -ENOMEM.
 */
int tf_redact_ruleset_check_cost(const struct tf_redact_ruleset *set, const bool *on,
                                 uint64_t budget_ns, double *sum_ns, struct tf_error *err);

#endif
