/*
 * engine.c - the second stage: PCRE2 says at each candidate whether, and how far, a rule matches.
 *
 * The outcome is that of searching each value for each rule from left to right, a search going on
 * behind a match, but only positions where a keyword stands are tried. A match that its check, its
 * entropy, a stopword or an allowing regex refuses counts as none, and the search goes on one byte
 * behind its start.
 *
 *   - A rule with keywords is compiled anchored and without start optimisation, so that a failing
 *     attempt does not look ahead in the line. Rules of the LINE kind, and those without keyword or
 *     class, are compiled to be searched: once in each value that holds their keyword, the run or
 *     the byte that they require, or in each value when they require nothing.
 *   - The subject begins with the value, so that a look-behind sees what is there, and ends 48
 *     bytes behind the candidate. A match that wants to see more (PCRE2_PARTIAL_HARD) is tried
 *     again with a window four times larger, until that is the whole value: no secret is cut, and
 *     what an attempt costs is known from its window. Most fail at first sight.
 *   - 64 attempts of a rule in a value that saw more and failed, a match limit, any other error but
 *     no-match, or more work than a value is allowed (engine.h): from there to its end the value is
 *     withheld. These limits count steps, not time.
 *
 * A value is one subject, even when it holds newlines, and nothing matches across its end.
 */
#include "engine.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#define PAIRS               8u /* groups that a rule may have, with the whole match */
#define JIT_STACK_MIN_BYTES (64u << 10)
#define JIT_STACK_MAX_BYTES (1u << 20)
#define HEAP_LIMIT_KIB      8192u
#define INSERTION_SORT_MAX  32u
#define DECODE_RULE         TF_REDACT_RULES_MAX /* in place of a rule: base64 begins here */
#define INNER_HITS          8192u
#define INNER_SPANS         64u

struct compiled {
    pcre2_code *code; /* NULL: the rule is off */
    bool jit;
    bool searched;      /* not anchored */
    bool refusable;     /* a match must pass more than its regex and check */
    uint32_t follow[8]; /* a bit a byte */
    pcre2_code *allow[TF_REDACT_ALLOW_MAX];
};

struct tf_redact_engine {
    const struct tf_redact_rule *rules;
    size_t count;
    bool jit, decode_base64, count_steps;
    struct compiled compiled[TF_REDACT_RULES_MAX];
    uint16_t always[TF_REDACT_RULES_MAX]; /* rules that are searched in each value */
    uint32_t always_count;
    uint16_t sought[TF_REDACT_RULES_MAX]; /* those that are searched when their keyword is there */
    uint32_t sought_count;
    uint64_t lead_max; /* how far before its keyword a match may begin */
    struct tf_redact_prefilter prefilter;
};

/* How far a rule has come in the value of that epoch. */
struct tf_redact_progress {
    uint32_t epoch;
    uint32_t next; /* no match begins before */
    uint32_t failed;
    bool searched; /* a rule that is searched is done */
};

/* The value that is being scanned. */
struct value {
    const char *text;
    size_t size;
};

/* A rule that neither keyword nor class leads to. */
static bool is_unled(const struct tf_redact_rule *rule)
{
    return rule->keywords[0] == NULL && rule->class_ == TF_REDACT_NO_CLASS;
}

static pcre2_code *compile(const char *regex, uint32_t options,
                           struct tf_redact_engine_error *error)
{
    PCRE2_SIZE offset;
    int reason;
    pcre2_code *code =
        pcre2_compile((PCRE2_SPTR)regex, PCRE2_ZERO_TERMINATED,
                      options | PCRE2_DOLLAR_ENDONLY | PCRE2_NEVER_UTF, &reason, &offset, NULL);

    if (code == NULL) {
        (void)pcre2_get_error_message(reason, (PCRE2_UCHAR *)error->text, sizeof error->text);
    }
    return code;
}

static int compile_allowed(struct compiled *compiled, const struct tf_redact_rule *rule,
                           bool no_jit, struct tf_redact_engine_error *error)
{
    for (size_t i = 0; i < TF_REDACT_ALLOW_MAX && rule->allow[i] != NULL; i++) {
        compiled->allow[i] = compile(rule->allow[i], 0, error);
        if (compiled->allow[i] == NULL) {
            return -EINVAL;
        }
        if (!no_jit) { /* where it does not work, pcre2_match interprets */
            (void)pcre2_jit_compile(compiled->allow[i], PCRE2_JIT_COMPLETE);
        }
    }
    compiled->refusable =
        rule->allow[0] != NULL || rule->stopwords[0] != NULL || rule->entropy_min > 0;
    return 0;
}

static int compile_rule(struct tf_redact_engine *engine, size_t number, bool no_jit,
                        struct tf_redact_engine_error *error)
{
    const struct tf_redact_rule *rule = &engine->rules[number];
    struct compiled *compiled = &engine->compiled[number];
    uint32_t options = engine->count_steps ? PCRE2_AUTO_CALLOUT : 0, groups = 0;

    error->rule = number;
    compiled->searched = (rule->flags & TF_REDACT_LINE) != 0 || is_unled(rule);
    if (!compiled->searched) {
        options |= PCRE2_ANCHORED | PCRE2_NO_START_OPTIMIZE;
    }
    compiled->code = compile(rule->regex, options, error);
    if (compiled->code == NULL) {
        return -EINVAL;
    }
    (void)pcre2_pattern_info(compiled->code, PCRE2_INFO_CAPTURECOUNT, &groups);
    if (groups >= PAIRS || rule->secret_group > groups) {
        (void)snprintf(error->text, sizeof error->text,
                       "it has %u groups, and %u at most count; write (?:...) for those that are "
                       "not masked",
                       groups, PAIRS - 1);
        return -EINVAL;
    }
    compiled->jit = !no_jit && pcre2_jit_compile(compiled->code,
                                                 PCRE2_JIT_COMPLETE | PCRE2_JIT_PARTIAL_HARD) == 0;
    engine->jit = engine->jit && compiled->jit;
    for (const char *byte = rule->follow; byte != NULL && *byte != 0; byte++) {
        compiled->follow[(uint8_t)*byte / 32] |= 1u << (uint8_t)*byte % 32;
    }
    return compile_allowed(compiled, rule, no_jit, error);
}

/* Takes a rule in, and makes it be found. */
static int add_rule(struct tf_redact_engine *engine, size_t number, bool no_jit,
                    struct tf_redact_engine_error *error)
{
    const struct tf_redact_rule *rule = &engine->rules[number];
    int rc = compile_rule(engine, number, no_jit, error);

    if (rc < 0) {
        return rc;
    }
    engine->lead_max = rule->lead > engine->lead_max ? rule->lead : engine->lead_max;
    if ((rule->flags & TF_REDACT_LINE) != 0 && rule->keywords[0] != NULL) {
        engine->sought[engine->sought_count++] = (uint16_t)number;
    }
    if (is_unled(rule) && (rule->requires == TF_REDACT_REQUIRES_NOTHING ||
                           rule->requires == TF_REDACT_REQUIRES_BYTE)) {
        engine->always[engine->always_count++] = (uint16_t)number;
    }
    rc = tf_redact_prefilter_add(&engine->prefilter, rule, (uint16_t)number);
    if (rc < 0) {
        strncpy(error->text, "has too many keywords, or one shorter than 3 bytes",
                sizeof error->text - 1);
    }
    return rc;
}

int tf_redact_engine_new(const struct tf_redact_engine_args *args, struct tf_redact_engine **out,
                         struct tf_redact_engine_error *error)
{
    struct tf_redact_engine *engine = calloc(1, sizeof *engine);
    int rc = 0;

    *error = (struct tf_redact_engine_error){0};
    if (engine == NULL) {
        return -ENOMEM;
    }
    if (args->count > TF_REDACT_RULES_MAX) {
        strncpy(error->text, "too many rules", sizeof error->text - 1);
        rc = -EINVAL;
        goto done;
    }
    engine->rules = args->rules;
    engine->count = args->count;
    engine->jit = true;
    engine->decode_base64 = args->decode_base64;
    engine->count_steps = args->count_steps;
    for (size_t i = 0; rc == 0 && i < args->count; i++) {
        if (args->on != NULL ? args->on[i] : (args->rules[i].flags & TF_REDACT_OFF) == 0) {
            rc = add_rule(engine, i, args->no_jit, error);
        }
    }
    if (rc == 0 && args->decode_base64) {
        rc = tf_redact_prefilter_add_run(&engine->prefilter, TF_REDACT_REQUIRES_TOKEN,
                                         TF_REDACT_BASE64_MIN, DECODE_RULE);
    }
    if (rc == 0) {
        rc = tf_redact_prefilter_build(&engine->prefilter, args->kernel);
    }
    if (rc == 0) {
        *out = engine;
        engine = NULL;
    }
done:
    tf_redact_engine_free(engine);
    return rc;
}

void tf_redact_engine_free(struct tf_redact_engine *engine)
{
    if (engine != NULL) {
        for (size_t i = 0; i < engine->count; i++) {
            pcre2_code_free(engine->compiled[i].code);
            for (size_t j = 0; j < TF_REDACT_ALLOW_MAX; j++) {
                pcre2_code_free(engine->compiled[i].allow[j]);
            }
        }
        free(engine);
    }
}

bool tf_redact_engine_jit(const struct tf_redact_engine *engine)
{
    return engine->jit;
}

const char *tf_redact_engine_kernel(const struct tf_redact_engine *engine)
{
    static const char *const names[TF_REDACT_KERNELS] = {"auto", "scalar", "ssse3", "avx2", "neon"};

    return names[engine->prefilter.kernel];
}

bool tf_redact_engine_on(const struct tf_redact_engine *engine, size_t rule)
{
    return rule < engine->count && engine->compiled[rule].code != NULL;
}

static int count_step(pcre2_callout_block *block, void *ctx)
{
    uint64_t *steps = ctx;

    (void)block;
    ++*steps;
    return 0;
}

static struct tf_redact_scan *make_scan(const struct tf_redact_engine *engine, uint32_t hits,
                                        uint32_t spans)
{
    struct tf_redact_scan *scan = calloc(1, sizeof *scan);

    if (scan == NULL) {
        return NULL;
    }
    scan->engine = engine;
    scan->private_key_rule = TF_REDACT_WITHHELD;
    scan->spans = calloc(spans, sizeof *scan->spans);
    scan->span_capacity = spans;
    scan->hits.items = calloc(hits, sizeof *scan->hits.items);
    scan->hits.capacity = hits;
    scan->progress = calloc(TF_REDACT_RULES_MAX, sizeof *scan->progress);
    scan->match_data = pcre2_match_data_create(PAIRS, NULL);
    scan->allow_data = pcre2_match_data_create(PAIRS, NULL);
    scan->match_context = pcre2_match_context_create(NULL);
    scan->jit_stack =
        engine->jit ? pcre2_jit_stack_create(JIT_STACK_MIN_BYTES, JIT_STACK_MAX_BYTES, NULL) : NULL;
    if (scan->spans == NULL || scan->hits.items == NULL || scan->progress == NULL ||
        scan->match_data == NULL || scan->allow_data == NULL || scan->match_context == NULL) {
        tf_redact_scan_free(scan);
        return NULL;
    }
    (void)pcre2_set_heap_limit(scan->match_context, HEAP_LIMIT_KIB);
    if (scan->jit_stack != NULL) { /* without: the machine's own, 32 KiB of it */
        pcre2_jit_stack_assign(scan->match_context, NULL, scan->jit_stack);
    }
    if (engine->count_steps) {
        (void)pcre2_set_callout(scan->match_context, count_step, &scan->work.steps);
    }
    return scan;
}

static struct tf_redact_scan *make_outer_scan(const struct tf_redact_engine *engine, uint32_t hits)
{
    struct tf_redact_scan *scan = make_scan(engine, hits, TF_REDACT_SPANS_MAX);

    if (scan != NULL && engine->decode_base64) {
        scan->inner = make_scan(engine, INNER_HITS, INNER_SPANS);
        scan->decoded = calloc(1, TF_REDACT_DECODED_MAX + 2 * TF_REDACT_READAHEAD_BYTES);
        if (scan->inner == NULL || scan->decoded == NULL) {
            tf_redact_scan_free(scan);
            return NULL;
        }
        scan->inner->borrows_work = true;
    }
    return scan;
}

struct tf_redact_scan *tf_redact_scan_new(const struct tf_redact_engine *engine)
{
    return make_outer_scan(engine, TF_REDACT_HITS_MAX);
}

struct tf_redact_scan *tf_redact_scan_new_inner(const struct tf_redact_engine *engine)
{
    struct tf_redact_scan *scan = make_outer_scan(engine, INNER_HITS);

    if (scan != NULL) {
        scan->borrows_work = true;
    }
    return scan;
}

void tf_redact_scan_free(struct tf_redact_scan *scan)
{
    if (scan != NULL) {
        tf_redact_scan_free(scan->inner);
        if (scan->decoded != NULL) {
            explicit_bzero(scan->decoded, TF_REDACT_DECODED_MAX);
        }
        free(scan->decoded);
        pcre2_jit_stack_free(scan->jit_stack);
        pcre2_match_context_free(scan->match_context);
        pcre2_match_data_free(scan->allow_data);
        pcre2_match_data_free(scan->match_data);
        free(scan->progress);
        free(scan->hits.items);
        free(scan->spans);
        free(scan);
    }
}

void tf_redact_scan_text(struct tf_redact_scan *scan, const char *text, size_t size)
{
    tf_redact_prefilter_scan(&scan->engine->prefilter, text, 0, size, &scan->hits);
    scan->covered = !scan->hits.full;
    scan->text_bytes = size;
    if (!scan->borrows_work) {
        scan->pool = TF_REDACT_WORK_POOL + (uint64_t)size * TF_REDACT_WORK_POOL_A_BYTE;
    }
}

void tf_redact_scan_withhold(struct tf_redact_scan *scan, size_t from, uint16_t rule,
                             const char *reason)
{
    if (from < scan->withheld_from) {
        scan->withheld_from = (uint32_t)from;
        scan->withheld_rule = rule;
        scan->reason = reason;
    }
}

void tf_redact_scan_add(struct tf_redact_scan *scan, size_t start, size_t end, uint16_t rule,
                        const char *keyword)
{
    assert(start <= end);
    if (start == end) {
        return;
    }
    if (scan->span_count == scan->span_capacity) {
        tf_redact_scan_withhold(scan, start, rule, "budget");
        return;
    }
    scan->spans[scan->span_count++] = (struct tf_redact_span){
        .start = (uint32_t)start, .end = (uint32_t)end, .rule = rule, .keyword = keyword};
}

void tf_redact_scan_allow(struct tf_redact_scan *scan, uint64_t bytes)
{
    scan->pool += bytes * TF_REDACT_WORK_POOL_A_BYTE;
}

/* Takes work from what the value is allowed, then from the pool. Returns false when both are used
 * up. */
static bool spend(struct tf_redact_scan *scan, uint64_t work)
{
    uint64_t own = work < scan->allowance ? work : scan->allowance;

    scan->allowance -= own;
    work -= own;
    if (work > scan->pool) {
        scan->pool = 0;
        return false;
    }
    scan->pool -= work;
    return true;
}

/* One match from start on, of the value's first `seen` bytes. Returns as pcre2_match. */
static int match(struct tf_redact_scan *scan, size_t number, const struct value *value,
                 size_t start, size_t seen)
{
    const struct compiled *compiled = &scan->engine->compiled[number];
    uint32_t options = seen < value->size ? PCRE2_PARTIAL_HARD : 0;

    scan->work.attempts++;
    if (compiled->jit) {
        return pcre2_jit_match(compiled->code, (PCRE2_SPTR)value->text, seen, start, options,
                               scan->match_data, scan->match_context);
    }
    return pcre2_match(compiled->code, (PCRE2_SPTR)value->text, seen, start, options,
                       scan->match_data, scan->match_context);
}

/* Whether an allowing regex, a stopword or too little entropy says that a secret is none. */
static bool is_refused(struct tf_redact_scan *scan, size_t number, const char *text, size_t size)
{
    const struct tf_redact_rule *rule = &scan->engine->rules[number];
    const struct compiled *compiled = &scan->engine->compiled[number];

    if (rule->entropy_min > 0 && tf_redact_entropy(text, size) < rule->entropy_min) {
        return true;
    }
    if (size <= TF_REDACT_STOPWORD_BYTES && tf_redact_has_word(text, size, rule->stopwords)) {
        return true;
    }
    for (size_t i = 0; size <= TF_REDACT_ALLOW_BYTES && i < TF_REDACT_ALLOW_MAX; i++) {
        if (compiled->allow[i] == NULL) {
            break;
        }
        if (pcre2_match(compiled->allow[i], (PCRE2_SPTR)text, size, 0, 0, scan->allow_data,
                        scan->match_context) >= 0) { /* an error allows nothing */
            return true;
        }
    }
    return false;
}

/* Books a match: true when it stands. *next is where the search goes on. */
static bool accept(struct tf_redact_scan *scan, size_t number, const struct value *value,
                   const char *keyword, size_t *next)
{
    const struct tf_redact_rule *rule = &scan->engine->rules[number];
    const PCRE2_SIZE *ends = pcre2_get_ovector_pointer(scan->match_data);
    PCRE2_SIZE start = ends[0], end = ends[1];
    size_t stands;

    if (ends[2 * rule->secret_group] != PCRE2_UNSET) {
        start = ends[2 * rule->secret_group];
        end = ends[2 * rule->secret_group + 1];
    }
    *next = ends[0] + 1;
    if (start >= end || end > value->size) { /* \K may turn them round */
        return false;
    }
    stands = tf_redact_check_match(rule->check, value->text + start, end - start);
    if (stands == 0 || (scan->engine->compiled[number].refusable &&
                        is_refused(scan, number, value->text + start, stands))) {
        return false;
    }
    tf_redact_scan_add(scan, start, start + stands, (uint16_t)number, keyword);
    if (!spend(scan, TF_REDACT_WORK_SPAN)) {
        tf_redact_scan_withhold(scan, start, (uint16_t)number, "budget");
    }
    end = stands < end - start ? start + stands : ends[1];
    *next = end > ends[0] ? end : ends[0] + 1;
    return true;
}

/* Tries a rule at a candidate. */
static void try_at(struct tf_redact_scan *scan, size_t number, const struct value *value,
                   size_t start, const char *keyword)
{
    struct tf_redact_progress *progress = &scan->progress[number];
    size_t window = TF_REDACT_WINDOW_BYTES, next;
    bool saw_more;
    int rc;

    if (progress->failed == TF_REDACT_ATTEMPTS_MAX) {
        tf_redact_scan_withhold(scan, start, (uint16_t)number, "budget");
        return;
    }
    (void)pcre2_set_match_limit(scan->match_context, TF_REDACT_ANCHORED_LIMIT);
    do {
        size_t seen = value->size - start > window ? start + window : value->size;

        if (!spend(scan, TF_REDACT_WORK_ATTEMPT + seen - start)) {
            tf_redact_scan_withhold(scan, start, (uint16_t)number, "budget");
            return;
        }
        scan->work.bytes += seen - start;
        rc = match(scan, number, value, start, seen);
        saw_more = window > TF_REDACT_WINDOW_BYTES;
        window = window > SIZE_MAX / 4 ? SIZE_MAX : window * 4;
    } while (rc == PCRE2_ERROR_PARTIAL);
    if (rc < 0 && rc != PCRE2_ERROR_NOMATCH) {
        tf_redact_scan_withhold(scan, start, (uint16_t)number, "match-limit");
    } else if (rc < 0 || !accept(scan, number, value, keyword, &next)) {
        progress->failed += saw_more ? 1 : 0;
        progress->next = (uint32_t)start + 1; /* another keyword of the rule at the same place */
    } else {
        progress->next = (uint32_t)next;
    }
}

/* Searches a value for a rule whose match may begin anywhere. */
static void search(struct tf_redact_scan *scan, size_t number, const struct value *value,
                   const char *keyword)
{
    struct tf_redact_progress *progress = &scan->progress[number];
    size_t at = 0;

    progress->searched = true;
    (void)pcre2_set_match_limit(scan->match_context, TF_REDACT_LINE_LIMIT);
    while (at < value->size && at < scan->withheld_from) {
        size_t from = at;
        int rc = match(scan, number, value, at, value->size);

        if (rc == PCRE2_ERROR_NOMATCH) {
            scan->work.bytes += value->size - from;
            return;
        }
        if (rc < 0) {
            tf_redact_scan_withhold(scan, at, (uint16_t)number, "match-limit");
        } else if (!accept(scan, number, value, keyword, &at) &&
                   ++progress->failed > TF_REDACT_ATTEMPTS_MAX) {
            tf_redact_scan_withhold(scan, at, (uint16_t)number, "budget");
        }
        scan->work.bytes += at - from;
        if (!spend(scan, TF_REDACT_WORK_ATTEMPT + at - from)) { /* one search costs nothing */
            tf_redact_scan_withhold(scan, at, (uint16_t)number, "budget");
        }
    }
}

/* A rule's first candidate in a value makes a new start. */
static struct tf_redact_progress *progress_of(struct tf_redact_scan *scan, size_t number)
{
    struct tf_redact_progress *progress = &scan->progress[number];

    if (progress->epoch != scan->epoch) {
        *progress = (struct tf_redact_progress){.epoch = scan->epoch};
    }
    return progress;
}

/* Rules that nothing in the text leads to. */
static void search_always(struct tf_redact_scan *scan, const struct value *value)
{
    for (uint32_t i = 0; i < scan->engine->always_count; i++) {
        uint16_t number = scan->engine->always[i];
        const struct tf_redact_rule *rule = &scan->engine->rules[number];

        if (rule->requires != TF_REDACT_REQUIRES_BYTE ||
            memchr(value->text, (int)rule->requires_count, value->size) != NULL) {
            (void)progress_of(scan, number);
            search(scan, number, value, NULL);
        }
    }
}

/* Searches for the rules whose keywords may be among the candidates that are not looked at: their
 * matches may begin before what is withheld. */
static void seek_all(struct tf_redact_scan *scan, const struct value *value)
{
    for (uint32_t i = 0; i < scan->engine->sought_count; i++) {
        uint16_t number = scan->engine->sought[i];

        if (!progress_of(scan, number)->searched) {
            search(scan, number, value, NULL);
        }
    }
}

static bool may_follow(const struct tf_redact_scan *scan, const struct tf_redact_literal *literal,
                       const struct value *value, size_t end)
{
    const uint32_t *follow = scan->engine->compiled[literal->rule].follow;
    uint8_t byte;

    if (scan->engine->rules[literal->rule].follow == NULL) {
        return true;
    }
    if (end >= value->size) {
        return false;
    }
    byte = (uint8_t)value->text[end];
    return (follow[byte / 32] >> byte % 32 & 1u) != 0;
}

/* One candidate; at is its keyword's place in the value. */
static void examine(struct tf_redact_scan *scan, const struct tf_redact_literal *literal,
                    const struct value *value, size_t at)
{
    const struct tf_redact_rule *rule;

    if (literal->rule == DECODE_RULE) {
        if (scan->inner != NULL && at < scan->withheld_from) {
            tf_redact_decode_run(scan, value->text, value->size, at);
        }
        return;
    }
    rule = &scan->engine->rules[literal->rule];
    if (literal->rule == scan->private_key_rule) {
        scan->private_key_seen = true;
    }
    if (scan->engine->compiled[literal->rule].searched) {
        if (!progress_of(scan, literal->rule)->searched) {
            search(scan, literal->rule, value, literal->text);
        }
        return;
    }
    if (at < rule->lead || at - rule->lead >= scan->withheld_from ||
        !may_follow(scan, literal, value, at + literal->size) ||
        at - rule->lead < progress_of(scan, literal->rule)->next) {
        return;
    }
    try_at(scan, literal->rule, value, at - rule->lead, literal->text);
}

/* Whether what stands behind a literal means something to any of its rules. */
static bool may_all_follow(const struct tf_redact_literal *literal, const struct value *value,
                           size_t end)
{
    return literal->text == NULL || literal->any_follows ||
           (end < value->size && tf_redact_literal_follows(literal, (uint8_t)value->text[end]));
}

/* All rules of the candidate at a hit. */
static void examine_all(struct tf_redact_scan *scan, uint16_t number, const struct value *value,
                        size_t at)
{
    const struct tf_redact_literal *literals = scan->engine->prefilter.literals;
    const struct tf_redact_literal *literal = &literals[number];

    if (literal->size > value->size - at || !may_all_follow(literal, value, at + literal->size)) {
        return;
    }
    examine(scan, literal, value, at);
    while (literal->same != 0) {
        literal = &literals[literal->same - 1];
        examine(scan, literal, value, at);
    }
}

/* The first hit at or behind a place. It is looked for from the last one on, in growing steps:
 * values are asked for nearly in their order. */
static uint32_t first_hit(struct tf_redact_scan *scan, size_t at)
{
    const struct tf_redact_hit *items = scan->hits.items;
    uint32_t count = scan->hits.count, step = 1;
    uint32_t low = scan->near < count ? scan->near : count, high = low;

    for (; low > 0 && items[low - 1].at >= at; step *= 2) {
        high = low - 1;
        low = low > step ? low - step : 0;
    }
    for (; high < count && items[high].at < at; step *= 2) {
        low = high + 1;
        high = count - high > step ? high + step : count;
    }
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;

        if (items[middle].at < at) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    scan->near = low;
    return low;
}

bool tf_redact_scan_has_keyword(struct tf_redact_scan *scan, size_t at, size_t size)
{
    uint32_t i = first_hit(scan, at);

    return !scan->covered || (i < scan->hits.count && scan->hits.items[i].at < at + size);
}

static void begin_value(struct tf_redact_scan *scan, size_t size)
{
    scan->span_count = 0;
    scan->private_key_seen = false;
    scan->reason = NULL;
    scan->withheld_from = UINT32_MAX;
    scan->withheld_rule = TF_REDACT_WITHHELD;
    scan->decoded_left = TF_REDACT_DECODED_MAX;
    if (!scan->borrows_work) {
        scan->allowance = TF_REDACT_WORK_A_VALUE + (uint64_t)size * TF_REDACT_WORK_A_BYTE;
    }
    if (++scan->epoch == 0) { /* it went round: no stale progress may look current */
        memset(scan->progress, 0, TF_REDACT_RULES_MAX * sizeof *scan->progress);
        scan->epoch = 1;
    }
}

/* Makes hits cover one value only; what is in the pool stays. */
static void scan_alone(struct tf_redact_scan *scan, const char *text, size_t at, size_t size)
{
    tf_redact_prefilter_scan(&scan->engine->prefilter, text, at, at + size, &scan->hits);
    scan->covered = false;
}

void tf_redact_scan_value(struct tf_redact_scan *scan, const char *text, size_t at, size_t size)
{
    const struct value value = {.text = text + at, .size = size};
    bool is_withheld = false;

    begin_value(scan, size);
    if (!scan->covered || at + size > scan->text_bytes) {
        scan_alone(scan, text, at, size);
    }
    for (uint32_t i = first_hit(scan, at); i < scan->hits.count; i++) {
        const struct tf_redact_hit *hit = &scan->hits.items[i];

        if (hit->at >= at + size) {
            break;
        }
        if (hit->at - at >= scan->withheld_from + scan->engine->lead_max) {
            is_withheld = true; /* no match that begins at its keyword reaches back so far */
            break;
        }
        examine_all(scan, hit->literal, &value, hit->at - at);
    }
    if (is_withheld || scan->hits.full) {
        seek_all(scan, &value);
    }
    if (scan->hits.full && scan->hits.count > 0) {
        size_t last = scan->hits.items[scan->hits.count - 1].at - at;

        last -= last < scan->engine->lead_max ? last : scan->engine->lead_max;
        tf_redact_scan_withhold(scan, last, TF_REDACT_WITHHELD, "budget");
    }
    if (scan->engine->always_count > 0 && size > 0) {
        search_always(scan, &value);
    }
}

bool tf_redact_scan_inner(struct tf_redact_scan *inner, struct tf_redact_scan *outer,
                          const char *text, size_t size)
{
    if (!spend(outer, (uint64_t)size * TF_REDACT_WORK_INNER)) {
        return false;
    }
    inner->allowance = outer->allowance;
    inner->pool = outer->pool;
    tf_redact_scan_text(inner, text, size);
    tf_redact_scan_value(inner, text, 0, size);
    outer->allowance = inner->allowance;
    outer->pool = inner->pool;
    return true;
}

static int compare_spans(const void *a, const void *b)
{
    const struct tf_redact_span *left = a, *right = b;

    if (left->start != right->start) {
        return left->start < right->start ? -1 : 1;
    }
    return (left->rule > right->rule) - (left->rule < right->rule);
}

static void sort_spans(struct tf_redact_span *spans, uint32_t count)
{
    if (count > INSERTION_SORT_MAX) {
        qsort(spans, count, sizeof *spans, compare_spans);
        return;
    }
    for (uint32_t i = 1; i < count; i++) {
        struct tf_redact_span span = spans[i];
        uint32_t to = i;

        while (to > 0 && compare_spans(&spans[to - 1], &span) > 0) {
            spans[to] = spans[to - 1];
            to--;
        }
        spans[to] = span;
    }
}

/* Lays what is withheld over the spans: it takes in all that ends behind its start. */
static void lay_withheld(struct tf_redact_scan *scan, size_t size)
{
    uint32_t kept = 0, start = scan->withheld_from;

    for (uint32_t i = 0; i < scan->span_count; i++) {
        if (scan->spans[i].end <= scan->withheld_from) {
            scan->spans[kept++] = scan->spans[i];
        } else if (scan->spans[i].start < start) {
            start = scan->spans[i].start;
        }
    }
    if (kept == scan->span_capacity) { /* the last one goes into it too */
        kept--;
        start = scan->spans[kept].start < start ? scan->spans[kept].start : start;
    }
    scan->spans[kept++] =
        (struct tf_redact_span){.start = start, .end = (uint32_t)size, .rule = TF_REDACT_WITHHELD};
    scan->span_count = kept;
}

void tf_redact_scan_merge(struct tf_redact_scan *scan, size_t size)
{
    uint32_t kept = 0;

    if (scan->withheld_from < size) {
        lay_withheld(scan, size);
    }
    sort_spans(scan->spans, scan->span_count);
    for (uint32_t i = 0; i < scan->span_count; i++) {
        const struct tf_redact_span *span = &scan->spans[i];
        struct tf_redact_span *last = kept > 0 ? &scan->spans[kept - 1] : NULL;

        if (last == NULL || span->start >= last->end) {
            scan->spans[kept++] = *span;
            continue;
        }
        last->end = span->end > last->end ? span->end : last->end;
        if (last->rule != TF_REDACT_WITHHELD &&
            (span->rule < last->rule || span->rule == TF_REDACT_WITHHELD)) {
            last->rule = span->rule;
            last->keyword = span->keyword;
        }
    }
    scan->span_count = kept;
}
