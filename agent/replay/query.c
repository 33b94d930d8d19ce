/*
 * query.c - what a replay looks for, from the command line's texts to a yes or no for each event.
 *
 * Conditions are globs over the whole value: `*` crosses everything, there are no separators.
 * `tag` is the record's tag, all other names are paths into the event. The regex is compiled
 * without UTF, so that no byte of a text can be wrong, with JIT where there is one.
 */
#include "query.h"

#include <errno.h>
#include <stdlib.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "taffrail/decode.h"
#include "taffrail/event.h"

#define FIELD_MAX_BYTES   255u
#define PATTERN_MAX_BYTES 1024u
#define GLOB_TEXT_MAX     (64u << 10) /* longer values are not decided: pattern times text steps */
#define STEPS_MAX         1000000u    /* PCRE2's match limit */
#define HEAP_MAX_KIB      65536u
#define JIT_STACK_MIN     (64u << 10)
#define JIT_STACK_MAX     (4u << 20)
#define DATE_CHARS        10u
#define SECONDS_MAX       INT64_C(3153600000) /* a hundred years */

struct condition {
    struct tf_slice field;
    const char *pattern;
};

struct tf_query {
    int64_t from_ns, to_ns;
    struct condition conditions[TF_WHERE_MAX];
    size_t condition_count;
    pcre2_code *code; /* NULL: no regex */
    pcre2_match_data *match_data;
    pcre2_match_context *match_context;
    pcre2_jit_stack *jit_stack;
    bool is_undecided; /* of the event that is looked at */
    uint64_t undecided;
};

/* ---- times --------------------------------------------------------------------------------------
 */

static int64_t unit_seconds(char unit)
{
    switch (unit) {
    case 's':
        return 1;
    case 'm':
        return 60;
    case 'h':
        return 3600;
    case 'd':
        return 86400;
    default:
        return 0;
    }
}

/* "1h30m" to seconds; at least one part. */
static int parse_duration(const char *text, int64_t *seconds)
{
    *seconds = 0;
    do {
        int64_t value = 0, unit;
        const char *digits = text;

        while (*text >= '0' && *text <= '9' && value < SECONDS_MAX) {
            value = value * 10 + (*text++ - '0');
        }
        unit = unit_seconds(*text);
        if (text == digits || unit == 0 || value > SECONDS_MAX / unit) {
            return -EINVAL;
        }
        *seconds += value * unit;
        text++;
    } while (*text != '\0' && *seconds <= SECONDS_MAX);
    return *seconds <= SECONDS_MAX ? 0 : -EINVAL;
}

int tf_when_parse(const char *text, int64_t now_ns, const int64_t *from_ns, int64_t *out)
{
    char full[DATE_CHARS + sizeof "T00:00:00Z"];
    int64_t seconds;

    if (strcmp(text, "now") == 0) {
        *out = now_ns;
        return 0;
    }
    if (text[0] == '-' || text[0] == '+') {
        if ((text[0] == '+' && from_ns == NULL) || parse_duration(text + 1, &seconds) < 0) {
            return -EINVAL;
        }
        *out = text[0] == '-' ? now_ns - seconds * TF_S_IN_NS : *from_ns + seconds * TF_S_IN_NS;
        return 0;
    }
    if (strlen(text) == DATE_CHARS) {
        memcpy(full, text, DATE_CHARS);
        memcpy(full + DATE_CHARS, "T00:00:00Z", sizeof "T00:00:00Z");
        text = full;
    }
    return tf_time_parse(tf_slice_text(text), out) == 0 ? 0 : -EINVAL;
}

static int parse_span(struct tf_query *query, const struct tf_query_options *options,
                      int64_t now_ns, struct tf_error *err)
{
    query->from_ns = INT64_MIN;
    query->to_ns = INT64_MAX;
    if (options->from != NULL && tf_when_parse(options->from, now_ns, NULL, &query->from_ns) < 0) {
        return tf_error_add(err, NULL,
                            "--from: \"%s\" is no time; write 2026-11-20, 2026-11-20T08:00:00Z or "
                            "-2h",
                            options->from);
    }
    if (options->to != NULL &&
        tf_when_parse(options->to, now_ns, options->from != NULL ? &query->from_ns : NULL,
                      &query->to_ns) < 0) {
        return tf_error_add(err, NULL,
                            "--to: \"%s\" is no time; write 2026-11-20, 2026-11-20T08:00:00Z, -2h, "
                            "or with --from +72h",
                            options->to);
    }
    if (query->from_ns >= query->to_ns) {
        return tf_error_add(err, NULL, "--to is not after --from; nothing can be between them");
    }
    return 0;
}

/* ---- conditions ---------------------------------------------------------------------------------
 */

static int parse_where(struct tf_query *query, const char *text, struct tf_error *err)
{
    struct condition *condition = &query->conditions[query->condition_count];
    const char *equals = strchr(text, '=');
    size_t size = equals == NULL ? 0 : (size_t)(equals - text);

    if (size == 0 || size > FIELD_MAX_BYTES || strlen(equals + 1) > PATTERN_MAX_BYTES) {
        return tf_error_add(err, NULL,
                            "--where: \"%.80s\" is not FIELD=VALUE; write "
                            "kubernetes.namespace_name=shop, or with * and ? in the value",
                            text);
    }
    *condition = (struct condition){.field = tf_slice(text, size), .pattern = equals + 1};
    query->condition_count++;
    return 0;
}

static int compile(struct tf_query *query, const char *regex, struct tf_error *err)
{
    PCRE2_SIZE at = 0;
    int reason = 0;

    query->code = pcre2_compile((PCRE2_SPTR)regex, PCRE2_ZERO_TERMINATED, PCRE2_NEVER_BACKSLASH_C,
                                &reason, &at, NULL);
    if (query->code == NULL) {
        char text[128];

        (void)pcre2_get_error_message(reason, (PCRE2_UCHAR *)text, sizeof text);
        return tf_error_add(err, NULL, "--grep: %s at byte %zu of \"%.80s\"", text, at, regex);
    }
    query->match_data = pcre2_match_data_create(1, NULL);
    query->match_context = pcre2_match_context_create(NULL);
    if (query->match_data == NULL || query->match_context == NULL) {
        return -ENOMEM;
    }
    (void)pcre2_set_match_limit(query->match_context, STEPS_MAX);
    (void)pcre2_set_heap_limit(query->match_context, HEAP_MAX_KIB);
    if (pcre2_jit_compile(query->code, PCRE2_JIT_COMPLETE) == 0) { /* else it is interpreted */
        query->jit_stack = pcre2_jit_stack_create(JIT_STACK_MIN, JIT_STACK_MAX, NULL);
        pcre2_jit_stack_assign(query->match_context, NULL, query->jit_stack);
    }
    return 0;
}

int tf_query_new(const struct tf_query_options *options, int64_t now_ns, struct tf_query **out,
                 struct tf_error *err)
{
    struct tf_query *query = calloc(1, sizeof *query);
    int rc, more;

    if (query == NULL) {
        return -ENOMEM;
    }
    rc = parse_span(query, options, now_ns, err);
    for (size_t i = 0; i < options->where_count; i++) {
        more = parse_where(query, options->where[i], err);
        rc = rc < 0 ? rc : more;
    }
    if (options->grep != NULL) {
        more = compile(query, options->grep, err);
        rc = rc < 0 ? rc : more;
    }
    if (rc < 0) {
        tf_query_free(query);
        return rc;
    }
    *out = query;
    return 0;
}

void tf_query_free(struct tf_query *query)
{
    if (query != NULL) {
        pcre2_jit_stack_free(query->jit_stack);
        pcre2_match_context_free(query->match_context);
        pcre2_match_data_free(query->match_data);
        pcre2_code_free(query->code);
        free(query);
    }
}

void tf_query_span(const struct tf_query *query, int64_t *from_ns, int64_t *to_ns)
{
    *from_ns = query->from_ns;
    *to_ns = query->to_ns;
}

void tf_query_set_span(struct tf_query *query, int64_t from_ns, int64_t to_ns)
{
    query->from_ns = from_ns;
    query->to_ns = to_ns;
}

uint64_t tf_query_undecided(const struct tf_query *query)
{
    return query->undecided;
}

/* ---- one event ----------------------------------------------------------------------------------
 */

struct look {
    struct tf_query *query;
    const char *pattern;
};

static bool matches_glob(void *ctx, struct tf_slice text)
{
    const struct look *look = ctx;

    if (text.size > GLOB_TEXT_MAX) {
        look->query->is_undecided = true;
        return true;
    }
    return tf_glob_match(look->pattern, text, '\0');
}

static bool matches_regex(void *ctx, struct tf_slice text)
{
    struct tf_query *query = ctx;
    int rc = pcre2_match(query->code, (PCRE2_SPTR)(text.size == 0 ? "" : text.data), text.size, 0,
                         0, query->match_data, query->match_context);

    if (rc < 0 && rc != PCRE2_ERROR_NOMATCH) {
        query->is_undecided = true;
        return true;
    }
    return rc >= 0;
}

static bool holds(struct tf_query *query, const struct condition *condition, struct tf_slice tag,
                  struct tf_slice event)
{
    struct look look = {.query = query, .pattern = condition->pattern};

    if (tf_slice_equal(condition->field, tf_slice_text("tag"))) {
        return matches_glob(&look, tag);
    }
    return tf_event_any(event, condition->field, matches_glob, &look);
}

bool tf_query_matches(struct tf_query *query, int64_t time_ns, struct tf_slice tag,
                      struct tf_slice event)
{
    if (time_ns < query->from_ns || time_ns >= query->to_ns) {
        return false;
    }
    query->is_undecided = false;
    for (size_t i = 0; i < query->condition_count; i++) {
        if (!holds(query, &query->conditions[i], tag, event)) {
            return false;
        }
    }
    if (query->code != NULL && !tf_event_any(event, tf_slice_text("log"), matches_regex, query)) {
        return false;
    }
    query->undecided += query->is_undecided;
    return true;
}
