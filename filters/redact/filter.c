/*
 * filter.c - the descriptor of the redact filter, its options, and what is opened from them.
 *
 * Opening puts the rules together (ruleset.c), switches them, tests and measures one's own,
 * compiles those that are on (engine.c) and settles what becomes of what they find (modes.c). All
 * that is wrong is told at once, as far as one thing does not hang on another. How a batch is
 * scanned is in apply.c.
 */
#include "redact.h"

#include <errno.h>
#include <stdlib.h>

#include "pem.h"

#define COST_MAX_NS UINT64_C(1000000) /* that may be asked for */

static const struct tf_option options[] = {
    {.name = "enable",
     .type = TF_OPTION_TEXTS,
     .offset = offsetof(struct tf_redact_options, enable),
     .about = "rules, packs or tags to switch on besides the default set"},
    {.name = "disable",
     .type = TF_OPTION_TEXTS,
     .offset = offsetof(struct tf_redact_options, disable),
     .about = "rules, packs or tags to switch off"},
    {.name = "rules",
     .type = TF_OPTION_PATHS,
     .offset = offsetof(struct tf_redact_options, rules),
     .about = "files of own rules"},
    {.name = "decode",
     .type = TF_OPTION_TEXTS,
     .offset = offsetof(struct tf_redact_options, decode),
     .about = "encodings to look into: base64"},
    {.name = "mode",
     .type = TF_OPTION_CHOICE,
     .offset = offsetof(struct tf_redact_options, mode),
     .choices = "mask|hash|partial|drop",
     .def = "mask",
     .about = "what becomes of a secret"},
    {.name = "modes",
     .type = TF_OPTION_MAP,
     .offset = offsetof(struct tf_redact_options, modes),
     .about = "the mode of single rules, packs or tags"},
    {.name = "hash_key",
     .type = TF_OPTION_PATH,
     .offset = offsetof(struct tf_redact_options, hash_key),
     .about = "key file for mode hash, as `taffrail pki hash FILE` makes it"},
    {.name = "replacement",
     .type = TF_OPTION_TEXT,
     .offset = offsetof(struct tf_redact_options, replacement),
     .def = TF_REDACT_REPLACEMENT_DEFAULT,
     .about = "what stands in a secret's place; {rule} is the rule's id"},
    {.name = "mark",
     .type = TF_OPTION_SWITCH,
     .offset = offsetof(struct tf_redact_options, mark),
     .def = "false",
     .about = "names the rules that hit on the record"},
    {.name = "max_cost",
     .type = TF_OPTION_TEXT,
     .offset = offsetof(struct tf_redact_options, max_cost),
     .def = "1us",
     .about = "what all own rules together may cost, a line"},
    {0},
};

/* A time such as 500ns or 1us; times of the configuration begin with milliseconds. */
static int read_cost(const struct tf_text *option, uint64_t *cost_ns, struct tf_error *err)
{
    const char *at = option->text;
    uint64_t value = 0, unit = 0;

    *cost_ns = TF_REDACT_COST_MAX_NS;
    if (at == NULL) {
        return 0;
    }
    while (*at >= '0' && *at <= '9' && value <= COST_MAX_NS) {
        value = value * 10 + (uint64_t)(*at++ - '0');
    }
    if (at != option->text) {
        unit = strcmp(at, "ns") == 0 ? 1 : strcmp(at, "us") == 0 ? 1000 : 0;
    }
    if (unit == 0 || value == 0 || value > COST_MAX_NS / unit) {
        return tf_error_add(err, &option->at,
                            "max_cost \"%s\" is no time from 1ns to 1000us; write 1us or 500ns",
                            option->text);
    }
    *cost_ns = value * unit;
    return 0;
}

static int check_decode(const struct tf_texts *decode, struct tf_error *err)
{
    int rc = 0;

    for (size_t i = 0; i < decode->count; i++) {
        if (strcmp(decode->items[i].text, "base64") != 0) {
            rc = tf_error_add(err, &decode->items[i].at,
                              "\"%s\" cannot be decoded; base64 can, or leave it out",
                              decode->items[i].text);
        }
    }
    return rc;
}

static void redact_close(void *self)
{
    struct tf_redact_filter *redact = self;

    if (redact != NULL) {
        tf_redact_engine_free(redact->engine);
        tf_redact_modes_close(&redact->modes);
        tf_redact_ruleset_free(redact->set);
        free(redact);
    }
}

static int build_engine(struct tf_redact_filter *redact, const struct tf_filter_args *args,
                        const bool *on, struct tf_error *err)
{
    const struct tf_redact_options *chosen = args->options;
    struct tf_redact_engine_args engine_args = {.rules = redact->rules,
                                                .count = redact->count,
                                                .on = on,
                                                .decode_base64 = chosen->decode.count > 0};
    struct tf_redact_engine_error error;
    int rc;

    rc = tf_redact_engine_new(&engine_args, &redact->engine, &error);
    if (rc == -EINVAL) {
        return tf_error_add(err, &args->at, "rule \"%s\" is not sound: %s",
                            redact->rules[error.rule].id, error.text);
    }
    if (rc < 0) {
        return rc;
    }
    if (!tf_redact_engine_jit(redact->engine)) {
        tf_warning_add(err, &args->at,
                       "the JIT compiler of PCRE2 does not work here; redaction goes on without "
                       "it, slower");
    }
    return 0;
}

/* The number of a rule that is on, or NO_RULE. */
static uint16_t find_rule(const struct tf_redact_filter *redact, const char *id)
{
    int number = tf_redact_ruleset_find(redact->set, id);

    return number >= 0 && tf_redact_engine_on(redact->engine, (size_t)number) ? (uint16_t)number
                                                                              : TF_REDACT_NO_RULE;
}

static void find_rules(struct tf_redact_filter *redact, const bool *on)
{
    redact->private_key = find_rule(redact, "private-key");
    redact->name_rules[TF_REDACT_NO_NAME] = TF_REDACT_NO_RULE;
    for (int name = TF_REDACT_NO_NAME + 1; name < TF_REDACT_NAMES; name++) {
        redact->name_rules[name] = find_rule(redact, tf_redact_name_id((enum tf_redact_name)name));
    }
    for (size_t i = 0; i < redact->count; i++) {
        redact->on_count += on[i] ? 1 : 0;
    }
}

/* Everything about one option after the other; the first error is returned, all are told. */
static int open_parts(struct tf_redact_filter *redact, const struct tf_filter_args *args,
                      struct tf_error *err)
{
    const struct tf_redact_options *chosen = args->options;
    bool on[TF_REDACT_RULES_MAX] = {false};
    uint64_t cost_ns;
    int rc = tf_redact_ruleset_new(&chosen->rules, &redact->set, err), rc2;

    rc2 = check_decode(&chosen->decode, err);
    rc = rc < 0 ? rc : rc2;
    rc2 = read_cost(&chosen->max_cost, &cost_ns, err);
    rc = rc < 0 ? rc : rc2;
    if (redact->set == NULL) {
        return rc;
    }
    redact->rules = tf_redact_ruleset_rules(redact->set, &redact->count);
    rc2 = tf_redact_ruleset_switch(redact->set, &chosen->enable, &chosen->disable, on, err);
    rc = rc < 0 ? rc : rc2;
    rc2 = tf_redact_modes_open(&redact->modes, redact->set, chosen, on, &args->at, err);
    rc = rc < 0 ? rc : rc2;
    if (rc == 0) {
        rc = tf_redact_ruleset_check_cost(redact->set, on, cost_ns, &redact->own_ns_a_line, err);
        redact->own_ns_max = (double)cost_ns;
    }
    if (rc == 0) {
        rc = build_engine(redact, args, on, err);
    }
    if (rc == 0) {
        find_rules(redact, on);
    }
    return rc;
}

static int redact_open(const struct tf_filter_args *args, void **self, struct tf_error *err)
{
    const struct tf_redact_options *chosen = args->options;
    struct tf_redact_filter *redact = calloc(1, sizeof *redact);
    int rc;

    if (redact == NULL) {
        return -ENOMEM;
    }
    redact->index = args->index;
    redact->mark = chosen->mark;
    rc = open_parts(redact, args, err);
    if (rc == 0) {
        *self = redact;
        redact = NULL;
    }
    redact_close(redact);
    return rc;
}

static void *state_new(void *self)
{
    (void)self;
    return calloc(1, sizeof(struct tf_redact_pem));
}

static void state_save(const void *state, enum tf_stream stream, struct tf_stream_state *out)
{
    tf_redact_pem_save(state, stream, out);
}

static void state_load(void *state, enum tf_stream stream, const struct tf_stream_state *in)
{
    tf_redact_pem_load(state, stream, in);
}

static const char *rule_name(const void *self, uint16_t rule)
{
    const struct tf_redact_filter *redact = self;

    return rule < redact->count ? redact->rules[rule].id : NULL;
}

static bool rule_drops(const void *self, uint16_t rule)
{
    const struct tf_redact_filter *redact = self;

    return redact->modes.mode[rule] == TF_REDACT_DROP;
}

static void facts(const void *self, struct tf_filter_facts *out)
{
    const struct tf_redact_filter *redact = self;
    struct tf_redact_sample sample = tf_redact_sample_new();
    double ns;

    *out = (struct tf_filter_facts){.rules = redact->on_count,
                                    .own_ns_a_line = redact->own_ns_a_line,
                                    .own_ns_max = redact->own_ns_max,
                                    .kernel = tf_redact_engine_kernel(redact->engine),
                                    .has_jit = tf_redact_engine_jit(redact->engine)};
    for (size_t i = 0; i < redact->count; i++) {
        out->own_rules += redact->rules[i].is_own && tf_redact_engine_on(redact->engine, i) ? 1 : 0;
    }
    if (sample.text != NULL && tf_redact_engine_time(redact->engine, &sample, &ns) == 0) {
        out->ns_a_line = ns / (double)sample.lines;
    }
    free(sample.text);
}

const struct tf_filter_kind tf_filter_redact = {
    .name = "redact",
    .options = options,
    .options_bytes = sizeof(struct tf_redact_options),
    .sees_all = true,
    .open = redact_open,
    .close = redact_close,
    .scratch_new = tf_redact_scratch_new,
    .scratch_free = tf_redact_scratch_free,
    .state_new = state_new,
    .state_free = free,
    .state_save = state_save,
    .state_load = state_load,
    .apply = tf_redact_apply,
    .rule_name = rule_name,
    .rule_drops = rule_drops,
    .facts = facts,
    .observe = tf_redact_observe,
};
