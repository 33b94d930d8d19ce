/*
 * fuzz_gitleaks.c - any bytes as a rule file of gitleaks, and as a regex of RE2.
 *
 * What must hold: a file is taken, or there is an error; what is written is a file of rules without
 * an error, of which each rule does as its example says. A regex that is taken is written in
 * printable ASCII without {{, and what is told of its matches holds for them.
 * The input: a regex, a NUL, a text; or, where there is no NUL, a file.
 */
#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "../../filters/redact/import/gitleaks.h"
#include "../../filters/redact/language.h"
#include "../../filters/redact/import/re2_match.h"
#include "../../filters/redact/ruleset.h"
#include "taffrail/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* ---- a regex -------------------------------------------------------------------------------- */

static size_t longest_run(const char *text, size_t size, bool digits_only)
{
    size_t longest = 0, run = 0;

    for (size_t i = 0; i < size; i++) {
        bool is = isdigit((unsigned char)text[i]) ||
                  (!digits_only && (isalnum((unsigned char)text[i]) ||
                                    (text[i] != '\0' && strchr("+/_-", text[i]) != NULL)));

        run = is ? run + 1 : 0;
        longest = run > longest ? run : longest;
    }
    return longest;
}

/* What is told of all matches, at one. */
static void check_match(const struct tf_redact_re2 *re2, const pcre2_code *code,
                        struct tf_slice text)
{
    pcre2_match_data *data = pcre2_match_data_create(4, NULL);
    pcre2_match_context *context = pcre2_match_context_create(NULL);
    const PCRE2_SIZE *ends = pcre2_get_ovector_pointer(data);

    (void)pcre2_set_match_limit(context, 10000);
    if (pcre2_match(code, (PCRE2_SPTR)text.data, text.size, 0, 0, data, context) > 0) {
        const char *match = text.data + ends[0];
        size_t size = ends[1] - ends[0];

        assert(size >= tf_redact_re2_least(re2->root));
        assert(longest_run(match, size, true) >=
               tf_redact_re2_run(re2->root, TF_REDACT_RE2_DIGITS));
        assert(longest_run(match, size, false) >=
               tf_redact_re2_run(re2->root, TF_REDACT_RE2_TOKEN));
    }
    pcre2_match_context_free(context);
    pcre2_match_data_free(data);
}

static void check_written(const struct tf_redact_re2 *re2, struct tf_slice text)
{
    struct tf_buf out;
    PCRE2_SIZE offset;
    int reason;
    pcre2_code *code;

    tf_buf_init(&out, TF_REDACT_REGEX_MAX);
    if (tf_redact_re2_write(re2, &out) == 0 && out.size > 0) {
        for (size_t i = 0; i < out.size; i++) {
            assert(out.data[i] >= ' ' && out.data[i] < 0x7f);
        }
        assert(memmem(out.data, out.size, "{{", 2) == NULL);
        code = pcre2_compile((PCRE2_SPTR)out.data, out.size, PCRE2_DOLLAR_ENDONLY | PCRE2_NEVER_UTF,
                             &reason, &offset, NULL);
        if (code != NULL) {
            check_match(re2, code, text);
        }
        pcre2_code_free(code);
    }
    tf_buf_fini(&out);
}

static void read_regex(const char *regex, struct tf_slice text)
{
    void *arena = tf_arena_new();
    struct tf_redact_re2 re2;
    struct tf_redact_re2_error error;
    struct tf_buf example;
    int rc;

    assert(arena != NULL);
    rc = strlen(regex) < 512 ? tf_redact_re2_parse(regex, arena, &re2, &error) : -ENOMEM;
    assert(rc == 0 || rc == -ENOMEM || (error.what != NULL && error.at <= strlen(regex)));
    if (rc == 0) {
        enum tf_redact_re2_secret secret = tf_redact_re2_choose(&re2, 0);

        assert(re2.groups > 0 || secret == TF_REDACT_RE2_WHOLE);
        check_written(&re2, text);
        tf_buf_init(&example, TF_REDACT_RE2_EXAMPLE_MAX);
        (void)tf_redact_re2_example(re2.root, 3, &example);
        tf_buf_fini(&example);
    }
    tf_arena_free(arena);
}

/* ---- a file --------------------------------------------------------------------------------- */

static void check_rules(const struct tf_buf *yaml)
{
    struct tf_redact_language_args args = {
        .yaml = tf_buf_slice(yaml), .file = "f", .arena = tf_arena_new()};
    struct tf_redact_rule *rules;
    struct tf_redact_verdict verdict;
    struct tf_error err;
    size_t count;
    int rc;

    assert(args.arena != NULL);
    tf_error_init(&err);
    rc = tf_redact_language_parse(&args, &rules, &count, &err);
    assert(rc == -ENOMEM || (rc == 0 && count > 0 && err.errors == 0));
    for (size_t i = 0; rc == 0 && i < count; i++) {
        if (tf_redact_rule_try(&rules[i], &verdict) != -ENOMEM) {
            assert(verdict.text[0] == '\0');
        }
        for (size_t j = 0; j < i; j++) {
            assert(strcmp(rules[i].id, rules[j].id) != 0);
        }
    }
    tf_error_fini(&err);
    tf_arena_free(args.arena);
}

static void import(const char *text, size_t size)
{
    static const struct tf_redact_rule taken[] = {{.id = "a"}, {.id = "gitleaks-a"}};
    const struct tf_redact_gitleaks_args args = {
        .toml = tf_slice(text, size), .file = "f", .taken = taken, .taken_count = TF_COUNT(taken)};
    struct tf_error err;
    struct tf_buf yaml;
    int rc;

    tf_error_init(&err);
    tf_buf_init(&yaml, TF_REDACT_FILE_MAX);
    rc = tf_redact_gitleaks_import(&args, &yaml, &err);
    assert(rc == -ENOMEM || (rc < 0) == (err.errors > 0));
    assert((rc < 0) == (yaml.size == 0));
    if (rc == 0) {
        check_rules(&yaml);
    }
    tf_buf_fini(&yaml);
    tf_error_fini(&err);
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
        read_regex(copy, tf_slice(nul + 1, size - (size_t)(nul + 1 - copy)));
    } else {
        import(copy, size);
    }
    free(copy);
    return 0;
}
