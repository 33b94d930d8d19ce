/*
 * engine.c - the second stage: PCRE2 says at each candidate whether, and how far, a rule matches.
 *
 * The outcome is that of searching each value for each rule from left to right, a search going on
 * behind a match, but only positions where a keyword stands are tried. A match that its check
 * refuses counts as none, and the search goes on one byte behind its start.
 *
 *   - A rule is compiled anchored and without start optimisation, so that a failing attempt does
 * not look ahead in the line; rules of the LINE kind are compiled to be searched.
 *   - The subject begins with the value, so that a look-behind sees what is there, and ends 4 KiB
 *     behind the candidate. A match that wants to see more (PCRE2_PARTIAL_HARD) is tried again with
 *     a window four times larger, until that is the whole value: no secret is cut.
 *   - 64 failed attempts of a rule in a value, a match limit, or any other error but no-match: from
 *     there to its end the value is withheld. These limits count steps, not time.
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

struct compiled {
    pcre2_code *code; /* NULL: the rule is off */
    bool jit;
    uint32_t follow[8]; /* a bit a byte */
};

struct tf_redact_engine {
    const struct tf_redact_rule *rules;
    size_t count;
    bool jit;
    struct compiled compiled[TF_REDACT_RULES_MAX];
    struct tf_redact_prefilter prefilter;
};

/* How far a rule has come in the value of that epoch. */
struct tf_redact_progress {
    uint32_t epoch;
    uint32_t next; /* no match begins before */
    uint32_t failed;
    bool searched; /* a rule of the LINE kind is done */
};

/* The value that is being scanned. */
struct value {
    const char *text;
    size_t size;
};

static int compile_rule(struct tf_redact_engine *engine, size_t number, bool no_jit,
                        struct tf_redact_engine_error *error)
{
    const struct tf_redact_rule *rule = &engine->rules[number];
    struct compiled *compiled = &engine->compiled[number];
    uint32_t options = PCRE2_DOLLAR_ENDONLY | PCRE2_NEVER_UTF, groups = 0;
    PCRE2_SIZE offset;
    int reason;

    if ((rule->flags & TF_REDACT_LINE) == 0) {
        options |= PCRE2_ANCHORED | PCRE2_NO_START_OPTIMIZE;
    }
    compiled->code = pcre2_compile((PCRE2_SPTR)rule->regex, PCRE2_ZERO_TERMINATED, options, &reason,
                                   &offset, NULL);
    error->rule = number;
    if (compiled->code == NULL) {
        (void)pcre2_get_error_message(reason, (PCRE2_UCHAR *)error->text, sizeof error->text);
        return -EINVAL;
    }
    (void)pcre2_pattern_info(compiled->code, PCRE2_INFO_CAPTURECOUNT, &groups);
    if (groups >= PAIRS || rule->secret_group > groups) {
        strncpy(error->text, "has too many groups, or not the one to mask", sizeof error->text - 1);
        return -EINVAL;
    }
    compiled->jit = !no_jit && pcre2_jit_compile(compiled->code,
                                                 PCRE2_JIT_COMPLETE | PCRE2_JIT_PARTIAL_HARD) == 0;
    engine->jit = engine->jit && compiled->jit;
    for (const char *byte = rule->follow; byte != NULL && *byte != 0; byte++) {
        compiled->follow[(uint8_t)*byte / 32] |= 1u << (uint8_t)*byte % 32;
    }
    return 0;
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
    for (size_t i = 0; rc == 0 && i < args->count; i++) {
        if (args->on != NULL ? args->on[i] : (args->rules[i].flags & TF_REDACT_OFF) == 0) {
            rc = compile_rule(engine, i, args->no_jit, error);
            if (rc == 0) {
                rc = tf_redact_prefilter_add(&engine->prefilter, &args->rules[i], (uint16_t)i);
            }
        }
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
        }
        free(engine);
    }
}

bool tf_redact_engine_jit(const struct tf_redact_engine *engine)
{
    return engine->jit;
}

bool tf_redact_engine_on(const struct tf_redact_engine *engine, size_t rule)
{
    return rule < engine->count && engine->compiled[rule].code != NULL;
}

struct tf_redact_scan *tf_redact_scan_new(const struct tf_redact_engine *engine)
{
    struct tf_redact_scan *scan = calloc(1, sizeof *scan);

    if (scan == NULL) {
        return NULL;
    }
    scan->engine = engine;
    scan->private_key_rule = TF_REDACT_WITHHELD;
    scan->spans = calloc(TF_REDACT_SPANS_MAX, sizeof *scan->spans);
    scan->hits.items = calloc(TF_REDACT_HITS_MAX, sizeof *scan->hits.items);
    scan->hits.capacity = TF_REDACT_HITS_MAX;
    scan->progress = calloc(TF_REDACT_RULES_MAX, sizeof *scan->progress);
    scan->match_data = pcre2_match_data_create(PAIRS, NULL);
    scan->match_context = pcre2_match_context_create(NULL);
    scan->jit_stack =
        engine->jit ? pcre2_jit_stack_create(JIT_STACK_MIN_BYTES, JIT_STACK_MAX_BYTES, NULL) : NULL;
    if (scan->spans == NULL || scan->hits.items == NULL || scan->progress == NULL ||
        scan->match_data == NULL || scan->match_context == NULL) {
        tf_redact_scan_free(scan);
        return NULL;
    }
    (void)pcre2_set_heap_limit(scan->match_context, HEAP_LIMIT_KIB);
    if (scan->jit_stack != NULL) { /* without: the machine's own, 32 KiB of it */
        pcre2_jit_stack_assign(scan->match_context, NULL, scan->jit_stack);
    }
    return scan;
}

void tf_redact_scan_free(struct tf_redact_scan *scan)
{
    if (scan != NULL) {
        pcre2_jit_stack_free(scan->jit_stack);
        pcre2_match_context_free(scan->match_context);
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
    scan->text_bytes = scan->hits.full ? 0 : size;
}

static void withhold(struct tf_redact_scan *scan, size_t from, const char *reason)
{
    if (from < scan->withheld_from) {
        scan->withheld_from = (uint32_t)from;
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
    if (scan->span_count == TF_REDACT_SPANS_MAX) {
        withhold(scan, start, "budget");
        return;
    }
    scan->spans[scan->span_count++] = (struct tf_redact_span){
        .start = (uint32_t)start, .end = (uint32_t)end, .rule = rule, .keyword = keyword};
}

/* One match from start on, of the value's first `seen` bytes. Returns as pcre2_match. */
static int match(struct tf_redact_scan *scan, size_t number, const struct value *value,
                 size_t start, size_t seen)
{
    const struct compiled *compiled = &scan->engine->compiled[number];
    uint32_t options = seen < value->size ? PCRE2_PARTIAL_HARD : 0;

    if (compiled->jit) {
        return pcre2_jit_match(compiled->code, (PCRE2_SPTR)value->text, seen, start, options,
                               scan->match_data, scan->match_context);
    }
    return pcre2_match(compiled->code, (PCRE2_SPTR)value->text, seen, start, options,
                       scan->match_data, scan->match_context);
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
    if (stands == 0) {
        return false;
    }
    tf_redact_scan_add(scan, start, start + stands, (uint16_t)number, keyword);
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
    int rc;

    if (progress->failed == TF_REDACT_ATTEMPTS_MAX) {
        withhold(scan, start, "budget");
        return;
    }
    (void)pcre2_set_match_limit(scan->match_context, TF_REDACT_ANCHORED_LIMIT);
    do {
        size_t seen = value->size - start > window ? start + window : value->size;

        rc = match(scan, number, value, start, seen);
        window = window > SIZE_MAX / 4 ? SIZE_MAX : window * 4;
    } while (rc == PCRE2_ERROR_PARTIAL);
    if (rc < 0 && rc != PCRE2_ERROR_NOMATCH) {
        withhold(scan, start, "match-limit");
    } else if (rc < 0 || !accept(scan, number, value, keyword, &next)) {
        progress->failed++;
        progress->next = (uint32_t)start + 1; /* another keyword of the rule at the same place */
    } else {
        progress->next = (uint32_t)next;
    }
}

/* Searches a value for a rule whose keyword is inside its match. */
static void search(struct tf_redact_scan *scan, size_t number, const struct value *value,
                   const char *keyword)
{
    struct tf_redact_progress *progress = &scan->progress[number];
    size_t at = 0;

    progress->searched = true;
    (void)pcre2_set_match_limit(scan->match_context, TF_REDACT_LINE_LIMIT);
    while (at < value->size && at < scan->withheld_from) {
        int rc = match(scan, number, value, at, value->size);

        if (rc == PCRE2_ERROR_NOMATCH) {
            return;
        }
        if (rc < 0) {
            withhold(scan, at, "match-limit");
        } else if (!accept(scan, number, value, keyword, &at) &&
                   ++progress->failed > TF_REDACT_ATTEMPTS_MAX) {
            withhold(scan, at, "budget");
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
    const struct tf_redact_rule *rule = &scan->engine->rules[literal->rule];
    struct tf_redact_progress *progress = &scan->progress[literal->rule];

    if (progress->epoch != scan->epoch) {
        *progress = (struct tf_redact_progress){.epoch = scan->epoch};
    }
    if (literal->rule == scan->private_key_rule) {
        scan->private_key_seen = true;
    }
    if ((rule->flags & TF_REDACT_LINE) != 0) {
        if (!progress->searched) {
            search(scan, literal->rule, value, literal->text);
        }
        return;
    }
    if (at < rule->lead || at - rule->lead < progress->next ||
        at - rule->lead >= scan->withheld_from ||
        !may_follow(scan, literal, value, at + literal->size)) {
        return;
    }
    try_at(scan, literal->rule, value, at - rule->lead, literal->text);
}

/* The first hit at or behind a place. */
static uint32_t first_hit(const struct tf_redact_hits *hits, size_t at)
{
    uint32_t low = 0, high = hits->count;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;

        if (hits->items[middle].at < at) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

void tf_redact_scan_value(struct tf_redact_scan *scan, const char *text, size_t at, size_t size)
{
    const struct value value = {.text = text + at, .size = size};
    const struct tf_redact_literal *literals = scan->engine->prefilter.literals;

    scan->span_count = 0;
    scan->private_key_seen = false;
    scan->reason = NULL;
    scan->withheld_from = UINT32_MAX;
    if (++scan->epoch == 0) { /* it went round: no stale progress may look current */
        memset(scan->progress, 0, TF_REDACT_RULES_MAX * sizeof *scan->progress);
        scan->epoch = 1;
    }
    if (at + size > scan->text_bytes) {
        tf_redact_prefilter_scan(&scan->engine->prefilter, text, at, at + size, &scan->hits);
        scan->text_bytes = 0; /* hits cover this value only */
    }
    for (uint32_t i = first_hit(&scan->hits, at); i < scan->hits.count; i++) {
        const struct tf_redact_hit *hit = &scan->hits.items[i];
        const struct tf_redact_literal *literal = &literals[hit->literal];

        if (hit->at >= at + size) {
            break;
        }
        if (literal->size <= at + size - hit->at) {
            examine(scan, literal, &value, hit->at - at);
        }
    }
    if (scan->hits.full && scan->hits.count > 0) {
        withhold(scan, scan->hits.items[scan->hits.count - 1].at - at, "budget");
    }
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
    if (kept == TF_REDACT_SPANS_MAX) { /* the last one goes into it too */
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
