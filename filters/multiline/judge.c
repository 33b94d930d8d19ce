/*
 * judge.c - whether a line belongs to the record before it, starts one, or stands alone.
 *
 * Presets. Each has its own small machine of states (presets.c), and all run side by side: what is
 * open is a trace of each preset that is in a state. A line that continues at least one of them
 * belongs to the record, and the others are out of it. A line that continues none ends the record
 * and is judged as if nothing had been open: it starts a trace of each preset that has a rule for
 * it, or stands alone. So the order of the presets means nothing.
 *
 * Most lines start nothing. Each rule that starts a trace has literals, and one pass over the line
 * (literals.c) tells which of them it holds: only the rules of these are tried.
 *
 * Own patterns, one machine of two states, outside and inside:
 *
 *     it matches start                                       STARTS
 *     else outside, and both start and end are given         ALONE
 *     else it matches continue or end, or no continue is     CONTINUES
 *     else start is given                                    ALONE
 *     else                                                   STARTS
 *
 * A stream is outside at its start, behind a line that is ALONE, and behind one that matches end
 * and is not ALONE: that is the last of its record.
 *
 * An expression that reaches its limits does not match. PCRE2 counts its steps against MATCH_LIMIT,
 * which is about a tenth of a millisecond.
 */
#include "multiline.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "literals.h"

#define RULES_MAX      192u /* of all presets */
#define REASON_BYTES   128u
#define NAMES_BYTES    128u
#define MATCH_LIMIT    20000u
#define HEAP_LIMIT_KIB 1024u
#define INSIDE         1u

static_assert(TF_TRACE_LAST == 0, "a preset without a state has no part in the record");

struct rule {
    uint16_t from, to;
    uint64_t literals; /* one of them must stand in a line that starts a trace by it */
    pcre2_code *code;
};

struct preset {
    const struct rule *rules;
    size_t count;
};

struct tf_judge {
    struct rule rules[RULES_MAX];
    size_t rule_count;
    struct preset presets[TF_PRESETS_MAX];
    size_t preset_count; /* 0: own patterns */
    struct tf_literals literals;
    pcre2_code *start, *continues, *end; /* NULL: not given */
    bool has_jit;
};

struct tf_judge_scratch {
    pcre2_match_data *data;
    pcre2_match_context *context;
};

/* ---- making one ---------------------------------------------------------------------------------
 */

/* name: of the pattern, for the error. */
static int compile(struct tf_judge *judge, const struct tf_text *regex, const char *name,
                   pcre2_code **out, struct tf_error *err)
{
    char text[REASON_BYTES];
    size_t offset;
    int reason;

    *out = pcre2_compile((PCRE2_SPTR)regex->text, PCRE2_ZERO_TERMINATED,
                         PCRE2_DOLLAR_ENDONLY | PCRE2_NEVER_UTF, &reason, &offset, NULL);
    if (*out == NULL) {
        (void)pcre2_get_error_message(reason, (PCRE2_UCHAR *)text, sizeof text);
        return tf_error_add(err, &regex->at, "%s: \"%s\" is no regex of PCRE2: %s, at byte %zu",
                            name, regex->text, text, offset);
    }
    if (pcre2_jit_compile(*out, PCRE2_JIT_COMPLETE) != 0) {
        judge->has_jit = false; /* pcre2_match then interprets it */
    }
    return 0;
}

static uint64_t add_literals(struct tf_judge *judge, const char *texts)
{
    uint64_t bits = 0;

    while (texts != NULL) {
        const char *bar = strchr(texts, '|');
        size_t size = bar != NULL ? (size_t)(bar - texts) : strlen(texts);

        bits |= UINT64_C(1) << tf_literals_add(&judge->literals, tf_slice(texts, size));
        texts = bar != NULL ? bar + 1 : NULL;
    }
    return bits;
}

static int add_preset(struct tf_judge *judge, const struct tf_trace_preset *from,
                      const struct tf_place *at, struct tf_error *err)
{
    struct preset *preset = &judge->presets[judge->preset_count++];
    int rc = 0;

    preset->rules = &judge->rules[judge->rule_count];
    for (const struct tf_trace_rule *rule = from->rules; rule->regex != NULL && rc == 0; rule++) {
        struct tf_text regex = {.text = rule->regex, .at = *at};
        struct rule *to = &judge->rules[judge->rule_count++];

        assert(judge->rule_count <= RULES_MAX);
        assert((rule->literals != NULL) == ((rule->from & TF_TRACE_START) != 0));
        to->from = rule->from;
        to->to = rule->to;
        to->literals = add_literals(judge, rule->literals);
        rc = compile(judge, &regex, from->name, &to->code, err);
        preset->count++;
    }
    return rc;
}

static const struct tf_trace_preset *find_preset(const char *name)
{
    for (size_t i = 0; i < TF_PRESETS_MAX; i++) {
        if (strcmp(tf_trace_presets[i].name, name) == 0) {
            return &tf_trace_presets[i];
        }
    }
    return NULL;
}

static int refuse_preset(const struct tf_text *name, struct tf_error *err)
{
    char names[NAMES_BYTES] = "";
    size_t used = 0;

    for (size_t i = 0; i < TF_PRESETS_MAX; i++) {
        used += (size_t)snprintf(names + used, sizeof names - used, "%s%s", i > 0 ? ", " : "",
                                 tf_trace_presets[i].name);
        assert(used < sizeof names);
    }
    return tf_error_add(err, &name->at, "presets: there is no \"%s\"; there are %s", name->text,
                        names);
}

/* Those before it in the list have it too. */
static bool is_repeated(const struct tf_texts *presets, size_t number)
{
    for (size_t i = 0; i < number; i++) {
        if (strcmp(presets->items[i].text, presets->items[number].text) == 0) {
            return true;
        }
    }
    return false;
}

static int add_presets(struct tf_judge *judge, const struct tf_texts *presets, struct tf_error *err)
{
    int rc = 0, rc2;

    for (size_t i = 0; i < presets->count; i++) {
        const struct tf_text *name = &presets->items[i];
        const struct tf_trace_preset *preset = find_preset(name->text);

        if (preset == NULL) {
            rc2 = refuse_preset(name, err);
        } else if (is_repeated(presets, i)) {
            rc2 = tf_error_add(err, &name->at, "presets: \"%s\" is written twice; keep one",
                               name->text);
        } else {
            rc2 = add_preset(judge, preset, &name->at, err);
        }
        rc = rc < 0 ? rc : rc2;
    }
    return rc;
}

static int add_patterns(struct tf_judge *judge, const struct tf_multiline_options *options,
                        struct tf_error *err)
{
    const struct {
        const char *name;
        const struct tf_text *regex;
        pcre2_code **code;
    } patterns[] = {{"start", &options->start, &judge->start},
                    {"continue", &options->continues, &judge->continues},
                    {"end", &options->end, &judge->end}};
    int rc = 0, rc2;

    for (size_t i = 0; i < TF_COUNT(patterns); i++) {
        const struct tf_text *regex = patterns[i].regex;

        rc2 = 0;
        if (regex->text != NULL && regex->text[0] == '\0') {
            rc2 =
                tf_error_add(err, &regex->at, "%s: an empty regex matches every line; leave it out",
                             patterns[i].name);
        } else if (regex->text != NULL) {
            rc2 = compile(judge, regex, patterns[i].name, patterns[i].code, err);
        }
        rc = rc < 0 ? rc : rc2;
    }
    return rc;
}

int tf_judge_new(const struct tf_multiline_options *options, const struct tf_place *at,
                 struct tf_judge **out, struct tf_error *err)
{
    bool has_own =
        options->start.text != NULL || options->continues.text != NULL || options->end.text != NULL;
    struct tf_judge *judge;
    int rc;

    if (has_own == (options->presets.count > 0)) {
        return tf_error_add(err, at,
                            has_own ? "presets and own patterns do not go together; take out "
                                      "presets, or start, continue and end"
                                    : "it joins nothing; give it presets: [java, ...], or one of "
                                      "start, continue and end");
    }
    judge = calloc(1, sizeof *judge);
    if (judge == NULL) {
        return -ENOMEM;
    }
    judge->has_jit = true;
    rc = has_own ? add_patterns(judge, options, err) : add_presets(judge, &options->presets, err);
    if (rc < 0) {
        tf_judge_free(judge);
        return rc;
    }
    if (!judge->has_jit) {
        tf_warning_add(err, at,
                       "the JIT compiler of PCRE2 does not work here; lines are joined without "
                       "it, slower");
    }
    *out = judge;
    return 0;
}

void tf_judge_free(struct tf_judge *judge)
{
    if (judge == NULL) {
        return;
    }
    for (size_t i = 0; i < judge->rule_count; i++) {
        pcre2_code_free(judge->rules[i].code);
    }
    pcre2_code_free(judge->start);
    pcre2_code_free(judge->continues);
    pcre2_code_free(judge->end);
    free(judge);
}

struct tf_judge_scratch *tf_judge_scratch_new(void)
{
    struct tf_judge_scratch *scratch = calloc(1, sizeof *scratch);

    if (scratch == NULL) {
        return NULL;
    }
    scratch->data = pcre2_match_data_create(1, NULL);
    scratch->context = pcre2_match_context_create(NULL);
    if (scratch->data == NULL || scratch->context == NULL) {
        tf_judge_scratch_free(scratch);
        return NULL;
    }
    (void)pcre2_set_match_limit(scratch->context, MATCH_LIMIT);
    (void)pcre2_set_heap_limit(scratch->context, HEAP_LIMIT_KIB);
    return scratch;
}

void tf_judge_scratch_free(struct tf_judge_scratch *scratch)
{
    if (scratch != NULL) {
        pcre2_match_context_free(scratch->context);
        pcre2_match_data_free(scratch->data);
        free(scratch);
    }
}

/* ---- judging ------------------------------------------------------------------------------------
 */

/* An error, which limits are too, is no match. */
static bool matches(const pcre2_code *code, struct tf_judge_scratch *scratch, struct tf_slice line)
{
    return pcre2_match(code, (PCRE2_SPTR)line.data, line.size, 0, 0, scratch->data,
                       scratch->context) >= 0;
}

/* The first rule of the preset that takes the line; NULL: none. literals: those in the line. */
static const struct rule *find_rule(const struct preset *preset, uint16_t state, uint64_t literals,
                                    struct tf_judge_scratch *scratch, struct tf_slice line)
{
    for (size_t i = 0; i < preset->count; i++) {
        const struct rule *rule = &preset->rules[i];

        if ((rule->from & state) != 0 &&
            (state != TF_TRACE_START || (rule->literals & literals) != 0) &&
            matches(rule->code, scratch, line)) {
            return rule;
        }
    }
    return NULL;
}

/* Each trace that is open takes its next step; those that have none are out. Tells whether one
 * goes on. */
static bool continue_traces(const struct tf_judge *judge, struct tf_judge_scratch *scratch,
                            struct tf_standing *standing, struct tf_slice line)
{
    bool goes_on = false;

    for (size_t i = 0; i < judge->preset_count; i++) {
        const struct rule *rule = NULL;

        if (standing->states[i] != 0) {
            rule = find_rule(&judge->presets[i], standing->states[i], 0, scratch, line);
        }
        standing->states[i] = rule != NULL ? rule->to : 0;
        goes_on = goes_on || rule != NULL;
    }
    return goes_on;
}

/* The same for a line with nothing open before it. */
static bool start_traces(const struct tf_judge *judge, struct tf_judge_scratch *scratch,
                         struct tf_standing *standing, struct tf_slice line)
{
    uint64_t literals = tf_literals_find(&judge->literals, line);
    bool starts = false;

    for (size_t i = 0; literals != 0 && i < judge->preset_count; i++) {
        const struct rule *rule =
            find_rule(&judge->presets[i], TF_TRACE_START, literals, scratch, line);

        standing->states[i] = rule != NULL ? rule->to : 0;
        starts = starts || rule != NULL;
    }
    return starts;
}

static bool is_open(const struct tf_standing *standing)
{
    uint16_t states = 0;

    for (size_t i = 0; i < TF_PRESETS_MAX; i++) {
        states |= standing->states[i];
    }
    return states != 0;
}

static struct tf_verdict judge_by_presets(const struct tf_judge *judge,
                                          struct tf_judge_scratch *scratch,
                                          struct tf_standing *standing, struct tf_slice line)
{
    struct tf_verdict verdict = {.kind = TF_LINE_ALONE};

    if (is_open(standing) && continue_traces(judge, scratch, standing, line)) {
        verdict.kind = TF_LINE_CONTINUES;
        verdict.is_last = !is_open(standing);
    } else if (start_traces(judge, scratch, standing, line)) {
        verdict.kind = TF_LINE_STARTS;
    }
    return verdict;
}

static struct tf_verdict judge_by_patterns(const struct tf_judge *judge,
                                           struct tf_judge_scratch *scratch,
                                           struct tf_standing *standing, struct tf_slice line)
{
    bool ends = judge->end != NULL && matches(judge->end, scratch, line);
    bool is_outside = judge->start != NULL && judge->end != NULL && standing->states[0] != INSIDE;
    struct tf_verdict verdict = {.kind = judge->start != NULL ? TF_LINE_ALONE : TF_LINE_STARTS};

    if (judge->start != NULL && matches(judge->start, scratch, line)) {
        verdict.kind = TF_LINE_STARTS;
    } else if (is_outside) {
        verdict.kind = TF_LINE_ALONE;
    } else if (judge->continues == NULL || ends || matches(judge->continues, scratch, line)) {
        verdict.kind = TF_LINE_CONTINUES;
    }
    verdict.is_last = ends && verdict.kind != TF_LINE_ALONE;
    standing->states[0] = verdict.kind == TF_LINE_ALONE || verdict.is_last ? 0 : INSIDE;
    return verdict;
}

struct tf_verdict tf_judge_line(const struct tf_judge *judge, struct tf_judge_scratch *scratch,
                                struct tf_standing *standing, struct tf_slice line)
{
    struct tf_slice seen =
        tf_slice(line.data, line.size < TF_JUDGE_LOOK_BYTES ? line.size : TF_JUDGE_LOOK_BYTES);

    return judge->preset_count > 0 ? judge_by_presets(judge, scratch, standing, seen)
                                   : judge_by_patterns(judge, scratch, standing, seen);
}
