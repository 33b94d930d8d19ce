/*
 * fuzz_rules.c - any bytes as a file of rules, and as a regex to derive from.
 *
 * What must hold: a file is taken, or there is at least one error; lists of a rule that is taken
 * end with NULL; what is derived stands in a match of the regex, where it says, whenever the rest
 * of the input holds one. The input: a regex, a NUL, a text; or, where there is no NUL, a file.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <strings.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "../../filters/redact/derive.h"
#include "../../filters/redact/language.h"
#include "taffrail/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Whether the match text[from..to) holds one of the literals. */
static bool holds(const struct tf_redact_derived *derived, const char *text, size_t from, size_t to)
{
    for (size_t i = 0; i < derived->count; i++) {
        size_t bytes = strlen(derived->texts[i]);

        assert(bytes >= TF_REDACT_DERIVED_LEAST);
        for (size_t at = from; at + bytes <= to; at++) {
            bool is = derived->fold ? strncasecmp(text + at, derived->texts[i], bytes) == 0
                                    : memcmp(text + at, derived->texts[i], bytes) == 0;

            if (is && (!derived->is_fixed || at == from + derived->lead)) {
                return true;
            }
        }
    }
    return false;
}

static void check_match(const pcre2_code *code, const struct tf_redact_derived *derived,
                        struct tf_slice text)
{
    pcre2_match_data *data = pcre2_match_data_create_from_pattern(code, NULL);
    pcre2_match_context *context = pcre2_match_context_create(NULL);
    const PCRE2_SIZE *ends;

    assert(data != NULL && context != NULL);
    (void)pcre2_set_match_limit(context, 10000);
    if (pcre2_match(code, (PCRE2_SPTR)text.data, text.size, 0, 0, data, context) > 0) {
        ends = pcre2_get_ovector_pointer(data);
        assert(ends[0] > ends[1] || holds(derived, text.data, ends[0], ends[1]));
    }
    pcre2_match_context_free(context);
    pcre2_match_data_free(data);
}

static void derive(const char *regex, struct tf_slice text)
{
    struct tf_redact_derived derived;
    PCRE2_SIZE offset;
    int reason;
    pcre2_code *code;

    tf_redact_derive(regex, &derived);
    assert(derived.count <= TF_REDACT_DERIVED_MAX);
    if (derived.count == 0 || strlen(regex) > 256) {
        return;
    }
    code = pcre2_compile((PCRE2_SPTR)regex, PCRE2_ZERO_TERMINATED,
                         PCRE2_DOLLAR_ENDONLY | PCRE2_NEVER_UTF, &reason, &offset, NULL);
    if (code != NULL) {
        check_match(code, &derived, text);
    }
    pcre2_code_free(code);
}

static void check_rule(const struct tf_redact_rule *rule)
{
    assert(rule->id != NULL && rule->pack != NULL && rule->regex != NULL && rule->about != NULL);
    assert(rule->keywords[TF_REDACT_KEYWORDS_MAX - 1] == NULL);
    assert(rule->match[0] != NULL && rule->match[TF_REDACT_EXAMPLES_MAX - 1] == NULL);
    assert(rule->no_match[TF_REDACT_EXAMPLES_MAX - 1] == NULL);
    assert(rule->tags[TF_REDACT_TAGS_MAX - 1] == NULL);
    assert(rule->allow[TF_REDACT_ALLOW_MAX - 1] == NULL);
    assert(rule->stopwords[TF_REDACT_STOPWORDS_MAX - 1] == NULL);
    for (size_t i = 0; rule->keywords[i] != NULL; i++) {
        assert(strlen(rule->keywords[i]) >= TF_REDACT_DERIVED_LEAST);
    }
}

static void parse(const char *text, size_t size)
{
    struct tf_redact_language_args args = {.yaml = tf_slice(text, size), .file = "f"};
    struct tf_redact_rule *rules;
    struct tf_error err;
    size_t count;
    int rc;

    args.arena = tf_arena_new();
    assert(args.arena != NULL);
    tf_error_init(&err);
    rc = tf_redact_language_parse(&args, &rules, &count, &err);
    assert(rc == -ENOMEM || (rc < 0) == (err.errors > 0));
    for (size_t i = 0; i < count; i++) {
        check_rule(&rules[i]);
    }
    tf_error_fini(&err);
    tf_arena_free(args.arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *copy = malloc(size + 1); /* exact: reading past it is seen */
    const char *nul;

    if (copy == NULL) {
        return 0;
    }
    memcpy(copy, data, size);
    copy[size] = '\0';
    nul = memchr(copy, '\0', size);
    if (nul != NULL) {
        derive(copy, tf_slice(nul + 1, size - (size_t)(nul + 1 - copy)));
    } else {
        parse(copy, size);
    }
    free(copy);
    return 0;
}
