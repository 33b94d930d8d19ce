/*
 * The import of gitleaks' rules: each kind of rule as it is written, each thing that cannot be
 * taken as it is told, the bounds, and that what is written is a file of rules that does what it
 * says.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../filters/redact/engine.h"
#include "../../filters/redact/import/gitleaks.h"
#include "../../filters/redact/language.h"
#include "../../filters/redact/ruleset.h"

static const struct tf_redact_rule taken[] = {
    {.id = "slack-token"}, {.id = "gitleaks-jwt"}, {.id = "jwt"}};

struct fixture {
    void *arena;
    struct tf_error err;
    struct tf_buf toml, yaml;
    struct tf_redact_rule *rules;
    size_t count;
    size_t taken_count;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);

    tf_error_init(&f->err);
    tf_buf_init(&f->toml, 4u << 20);
    tf_buf_init(&f->yaml, TF_REDACT_FILE_MAX);
    f->taken_count = TF_COUNT(taken);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    tf_buf_fini(&f->yaml);
    tf_buf_fini(&f->toml);
    tf_error_fini(&f->err);
    tf_arena_free(f->arena);
    free(f);
    return 0;
}

/* Imports; what is written must be sound, and each rule do as its example says. */
static int import(struct fixture *f, struct tf_slice toml)
{
    const struct tf_redact_gitleaks_args args = {
        .toml = toml, .file = "g.toml", .taken = taken, .taken_count = f->taken_count};
    struct tf_redact_language_args again = {.file = "own.yaml"};
    struct tf_redact_verdict verdict;
    int rc;

    tf_error_fini(&f->err);
    tf_arena_free(f->arena);
    tf_buf_clear(&f->yaml);
    f->arena = tf_arena_new();
    f->count = 0;
    rc = tf_redact_gitleaks_import(&args, &f->yaml, &f->err);
    assert_true((rc == 0) == (f->err.errors == 0));
    if (rc < 0) {
        assert_int_equal(f->yaml.size, 0);
        return rc;
    }
    again.yaml = tf_buf_slice(&f->yaml);
    again.arena = f->arena;
    if (tf_redact_language_parse(&again, &f->rules, &f->count, &f->err) < 0) {
        fail_msg("%s\n%.*s", tf_error_first(&f->err), (int)f->yaml.size, f->yaml.data);
    }
    for (size_t i = 0; i < f->count; i++) {
        assert_int_equal(tf_redact_rule_try(&f->rules[i], &verdict), 0);
        assert_string_equal(verdict.text, "");
        assert_int_equal(verdict.match, 1);
    }
    assert_int_equal(tf_buf_append_byte(&f->yaml, 0), 0);
    return rc;
}

static int import_text(struct fixture *f, const char *toml)
{
    return import(f, tf_slice_text(toml));
}

/* All findings as one text, or a text that holds none. */
static char *findings(const struct tf_error *err)
{
    char *text = NULL;
    size_t size = 0;
    FILE *to = open_memstream(&text, &size);

    (void)tf_error_print(err, to);
    (void)fclose(to);
    return text;
}

static void assert_found(const struct fixture *f, const char *wanted)
{
    char *got = findings(&f->err);

    if (strstr(got, wanted) == NULL) {
        print_error("wanted: %s\ngot: %s\n", wanted, got);
        free(got);
        fail();
    }
    free(got);
}

static void assert_written(const struct fixture *f, const char *wanted)
{
    if (strstr(f->yaml.data, wanted) == NULL) {
        fail_msg("wanted: %s\ngot: %s", wanted, f->yaml.data);
    }
}

/* Whether the first rule finds something in a text. */
static bool finds(const struct fixture *f, const char *text)
{
    struct tf_redact_rule rule = f->rules[0];
    struct tf_redact_verdict verdict;

    rule.match[0] = text;
    assert_int_equal(tf_redact_rule_try(&rule, &verdict), 0);
    return verdict.text[0] == '\0';
}

#define RULE(id, regex, more) "[[rules]]\nid = '" id "'\nregex = '''" regex "'''\n" more "\n"

/* ---- what is written ------------------------------------------------------------------------ */

static void a_rule_is_written_whole(void **state)
{
    static const char toml[] =
        "title = 'a title'\n"
        "[allowlist]\nregexes = ['^x+$']\nstopwords = ['Sample']\n" RULE(
            "shop-key", "\\b(shk_[0-9a-z]{24})(?:['\"\\s]|$)",
            "description = \"the shop's \\\"key\\\"\"\nentropy = 3\nkeywords = ['SHK_']\n"
            "tags = ['key', 'shop']\n[rules.allowlist]\nregexes = ['^a']\nstopwords = ['demo']");
    static const char wanted[] =
        "# Made from a rule file of gitleaks by taffrail rules import (docs/rules.md).\n"
        "# The examples are made up: each is a text that its rule finds, not a secret.\n"
        "pack: gitleaks\n"
        "fragments:\n"
        "  allowed: '^x+$'\n"
        "rules:\n"
        "  - id: shop-key\n"
        "    description: 'the shop''s \"key\"'\n"
        "    regex: '\\b(shk_[0-9a-z]{24})(?:[''\"\\s]|$)'\n"
        "    secret_group: 1\n"
        "    entropy: 3\n"
        "    allow:\n"
        "      - '{{allowed}}'\n"
        "      - '^a'\n"
        "    stopwords:\n"
        "      - 'demo'\n"
        "      - 'sample'\n"
        "    tags:\n"
        "      - 'key'\n"
        "      - 'shop'\n"
        "    examples:\n"
        "      match:\n"
        "        - 'shk_";
    struct fixture *f = *state;

    assert_int_equal(import_text(f, toml), 0);
    assert_int_equal(f->err.warnings, 0);
    if (strncmp(f->yaml.data, wanted, strlen(wanted)) != 0) {
        fail_msg("%s", f->yaml.data);
    }
    assert_non_null(strstr(f->yaml.data + strlen(wanted), "{{}}"));
    assert_string_equal(f->rules[0].keywords[0], "shk_");
}

static void keys_are_read_in_any_case(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(import_text(f,
                                 "[[Rules]]\nID = 'a'\nREGEX = 'abcd(e)(f)'\nSecretgroup = 2\n"
                                 "[[Rules.AllowLists]]\nStopWords = 'x'\nRegexTarget = 'match'\n"),
                     0);
    assert_int_equal(f->err.warnings, 0);
    assert_written(f, "    regex: 'abcd(?:e)(f)'\n");
    assert_written(f, "    stopwords:\n      - 'x'\n");
}

static void what_leads_to_a_match_is_found(void **state)
{
    static const struct {
        const char *toml, *written, *told; /* NULL: nothing is told */
    } cases[] = {
        /* Derived when it is read; keywords are not written. */
        {RULE("a", "tkt_\\d+", "keywords = ['tkt_']"), "\\d+'\n    examples", NULL},
        {RULE("a", "tkt_\\d+", ""), "\\d+'\n    examples", NULL},
        {RULE("a", "(?:sk|rk)_(?:live|test)_\\d+", "keywords = ['SK_live', 'rk_']"),
         "\\d+'\n    examples",
         "g.toml:4:1: warning: rule \"a\": keywords: a match need not hold one, so they are left"},
        {RULE("a", "(?:sk|rk)_(?:live|test)_\\d+", "keywords = ['sk_live', 'sk_test', 'rk_']"),
         "\\d+'\n    examples", NULL},
        {RULE("a", "key-[a-f]{4}", "keywords = ['mailer']"), "{4}'\n    examples",
         "keywords: a match need not hold one, so they are left out, and it finds more; write "
         "them"},
        /* Nothing can be derived: keywords, which a text must hold. */
        {RULE("a", "\\b[a-f0-9]{40}\\b", "keywords = ['mailer', 'Sender']"),
         "    keywords:\n      - 'mailer'\n      - 'sender'\n    fold: true\n    search: line\n",
         NULL},
        {RULE("a", "\\p{Lu}x_token=\\d", "keywords = ['TOKEN', 'x']"),
         "    keywords:\n      - 'token'\n    fold: true\n    search: line\n",
         "\\p looks at single"},
        /* Else what it requires. */
        {RULE("a", "\\b[a-f0-9]{40}\\b", "keywords = ['q']"), "    requires: token(32)\n",
         "g.toml:4:1: warning: rule \"a\": keywords: a match need not hold one of 3 bytes or more"},
        {RULE("a", "\\b[a-f0-9]{16}\\b", ""), "    requires: token(16)\n", NULL},
        {RULE("a", "\\b\\d{6}-\\d{3}\\b", ""), "    requires: digits(6)\n", NULL},
        /* Else nothing. */
        {RULE("a", "\\w+:\\w+@", "keywords = ['@']"), "    allow_slow: true\n",
         "g.toml:4:1: warning: rule \"a\": nothing in its regex leads to a match, so it is tried"},
        {RULE("a", "[a-f0-9]{7}:", ""), "    allow_slow: true\n",
         "g.toml:1:3: warning: rule \"a\": nothing in its regex leads to a match"},
    };
    struct fixture *f = *state;

    for (size_t i = 0; i < TF_COUNT(cases); i++) {
        assert_int_equal(import_text(f, cases[i].toml), 0);
        assert_written(f, cases[i].written);
        assert_int_equal(f->err.warnings, cases[i].told != NULL);
        if (cases[i].told != NULL) {
            assert_found(f, cases[i].told);
        }
    }
}

static void more_keywords_than_are_looked_at_are_told(void **state)
{
    struct fixture *f = *state;

    (void)tf_buf_append_text(&f->toml, "[[rules]]\nid = 'a'\nregex = '\\pL(?:k1z|k40z)'\n"
                                       "keywords = [");
    for (unsigned i = 0; i < 260; i++) {
        (void)tf_buf_printf(&f->toml, "'k%uz',", i);
    }
    (void)tf_buf_append_text(&f->toml, "]\n");
    assert_int_equal(import(f, tf_buf_slice(&f->toml)), 0);
    assert_found(f, "keywords: only the first 256 are looked at; take out what the others hold");
    assert_written(f, "    allow_slow: true\n"); /* k40z does not fit into 31 */
}

static void the_secret_is_that_of_gitleaks(void **state)
{
    static const struct {
        const char *toml, *wanted;
    } cases[] = {
        {RULE("a", "abcd(?:e)", ""), "regex: 'abcd(?:e)'\n    examples"},
        {RULE("a", "abcd(e)(f)", ""), "regex: 'abcd(e)(?:f)'\n    secret_group: 1\n"},
        {RULE("a", "abcd(e)(f)", "secretGroup = 2"), "'abcd(?:e)(f)'\n    secret_group: 1\n"},
        {RULE("a", "abcd(e)|abcd(f)", ""), "'(?|abcd(e)|abcd(f))'\n    secret_group: 1\n"},
        {RULE("a", "abcd(e)|abcd(f)", "secretGroup = 2"),
         "'abcd(?:e)|abcd(f)'\n    secret_group: 1\n"},
    };
    struct fixture *f = *state;

    for (size_t i = 0; i < TF_COUNT(cases); i++) {
        assert_int_equal(import_text(f, cases[i].toml), 0);
        assert_int_equal(f->err.warnings, 0);
        assert_written(f, cases[i].wanted);
    }
    assert_int_equal(import_text(f, RULE("a", "abcd(e)?(f)?",
                                         "entropy = 2\n[rules.allowlist]\n"
                                         "stopwords = ['x']")),
                     0);
    assert_found(f,
                 "g.toml:3:9: warning: rule \"a\": regex: any of some groups may hold the secret");
    assert_written(f, "regex: 'abcd(?:e)?(?:f)?'\n    examples"); /* no entropy, no stopwords */
}

static void ids_are_words_that_nobody_has(void **state)
{
    static const struct {
        const char *toml, *wanted, *told;
    } cases[] = {
        {RULE("My Rule_1.", "abcd", ""), "  - id: my-rule-1\n",
         "g.toml:2:6: warning: rule \"My Rule_1.\": its id becomes \"my-rule-1\": ids are of "
         "[a-z0-9-]"},
        {RULE("--a--", "abcd", ""), "  - id: a\n", "its id becomes \"a\""},
        {RULE("...", "abcd", ""), "  - id: rule\n", "its id becomes \"rule\""},
        {RULE("null", "abcd", ""), "  - id: rule\n", "its id becomes \"rule\""},
        {RULE("slack-token", "abcd", ""), "  - id: gitleaks-slack-token\n",
         "its id becomes \"gitleaks-slack-token\""},
        {RULE("JWT", "abcd", ""), "  - id: gitleaks-jwt-2\n", "its id becomes \"gitleaks-jwt-2\""},
        {RULE("a", "abcd", "") RULE("a", "efgh", "") RULE("A", "ijkl", ""), "  - id: a-3\n",
         "g.toml:6:6: warning: rule \"a\": its id becomes \"a-2\""},
        {RULE("abcdefghijklmnopqrstuvwxyz-abcdefghijklmnopqrstuvwxyz-0123456789-0123456789", "abcd",
              ""),
         "  - id: abcdefghijklmnopqrstuvwxyz-abcdefghijklmnopqrstuvwxyz-012345678\n",
         "its id becomes \"abcdefghijklmnopqrstuvwxyz-"},
    };
    struct fixture *f = *state;

    for (size_t i = 0; i < TF_COUNT(cases); i++) {
        assert_int_equal(import_text(f, cases[i].toml), 0);
        assert_written(f, cases[i].wanted);
        assert_found(f, cases[i].told);
    }
}

/* Whatever stands in the TOML, it is a text in the YAML. */
static void no_text_breaks_out_of_its_quotes(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(
        import_text(f, "[[rules]]\nid = \"a\\n- x: \"\ndescription = \"'\\n  - id: b\\\\ \\u0085 "
                       "\\u2028 \\uFEFF é \\U0001F511 \\u007f\"\n"
                       "regex = \"ab'cd\\n\\\"{{x}}{{}}é\"\n"
                       "[rules.allowlist]\nstopwords = [\"'\\n: é\"]\nregexes = [\"'\\n#{{}}\"]\n"),
        0);
    assert_int_equal(f->count, 1);
    assert_string_equal(f->rules[0].id, "a-x");
    assert_string_equal(f->rules[0].about,
                        "'\n  - id: b\\ \xc2\x85 \xe2\x80\xa8 \xef\xbb\xbf é 🔑 \x7f");
    assert_string_equal(f->rules[0].match[0], "ab'cd\n\"{{x}}{{}}é");
    assert_string_equal(f->rules[0].stopwords[0], "'\n: é");
    assert_string_equal(f->rules[0].allow[0], "'\\n#\\{\\{\\}\\}");
    assert_int_equal(import_text(f, RULE("a", "ab€d", "")), 0); /* its middle is in a character */
    assert_string_equal(f->rules[0].match[0], "ab€d");
}

/* ---- allowlists ----------------------------------------------------------------------------- */

static void allowlists_let_pass_what_they_do_there(void **state)
{
    static const struct {
        const char *lists;
        const char *found, *passed; /* secrets, letters and digits, of the rule tkt_(\w+) */
    } cases[] = {
        {"[rules.allowlist]\nregexes = ['^abc', 'x{3}']\nstopwords = ['Demo']",
         "tkt_aabc tkt_xx tkt_dem", NULL},
        {"[rules.allowlist]\nregexes = ['^abc', 'x{3}']\nstopwords = ['Demo']", NULL,
         "tkt_abcd tkt_axxxa tkt_aDEMO1"},
        {"[[rules.allowlists]]\nregexes = ['^a']\n[[rules.allowlists]]\nregexes = ['^b']",
         "tkt_cab", "tkt_acc tkt_bcc"},
        {"[[rules.allowlists]]\ncondition = 'AND'\nregexes = ['^a', 'z$']\nstopwords = ['7', '8']",
         "tkt_a9 tkt_b7 tkt_z8a", "tkt_a1x7x tkt_B8z"},
        {"[[rules.allowlists]]\ncondition = '&&'\nregexes = ['^a']", "tkt_ba", "tkt_ab"},
        {"[[rules.allowlists]]\ncondition = '||'\nregexes = ['^a']\nstopwords = ['b']", "tkt_cc",
         "tkt_ac tkt_cb"},
        {"[[rules.allowlists]]\nregexTarget = 'secret'\nregexes = ['^ab$']", "tkt_abb", "tkt_ab"},
        {"[[rules.allowlists]]\ncondition = 'AND'\nregexes = []\nstopwords = ['a']", "tkt_a", NULL},
        {"[[allowlists]]\ntargetRules = ['other', 'a']\nregexes = ['^q']", "tkt_aq", "tkt_qa"},
        {"[[allowlists]]\ntargetRules = 'a'\nstopwords = ['q']", "tkt_aa", "tkt_aqa"},
        {"[[allowlists]]\ntargetRules = ['other']\nregexes = ['^q']", "tkt_qa", NULL},
        {"[[allowlists]]\nregexes = ['^q']\n[[allowlists]]\nregexes = ['r$']\nstopwords = ['Z']",
         "tkt_aqra", "tkt_qa tkt_ar tkt_aza"},
    };
    struct fixture *f = *state;

    for (size_t i = 0; i < TF_COUNT(cases); i++) {
        char text[64];

        tf_buf_clear(&f->toml);
        (void)tf_buf_append_text(&f->toml, RULE("a", "tkt_(\\w+)", ""));
        (void)tf_buf_append_text(&f->toml, cases[i].lists);
        assert_int_equal(import(f, tf_buf_slice(&f->toml)), 0);
        for (const char *at = cases[i].found; at != NULL; at = strchr(at, ' ')) {
            at += strspn(at, " ");
            (void)snprintf(text, sizeof text, "%.*s", (int)strcspn(at, " "), at);
            if (!finds(f, text)) {
                fail_msg("case %zu: %s is not found\n%s", i, text, f->yaml.data);
            }
        }
        for (const char *at = cases[i].passed; at != NULL; at = strchr(at, ' ')) {
            at += strspn(at, " ");
            (void)snprintf(text, sizeof text, "%.*s", (int)strcspn(at, " "), at);
            if (finds(f, text)) {
                fail_msg("case %zu: %s is found\n%s", i, text, f->yaml.data);
            }
        }
    }
}

static void regexes_of_the_match_are_taken_where_it_is_the_secret(void **state)
{
    static const char list[] =
        "[[rules.allowlists]]\nregexTarget = 'match'\nregexes = ['^tkt_a']\n";
    struct fixture *f = *state;

    (void)tf_buf_append_text(&f->toml, RULE("a", "tkt_\\w+", ""));
    (void)tf_buf_append_text(&f->toml, list);
    assert_int_equal(import(f, tf_buf_slice(&f->toml)), 0);
    assert_int_equal(f->err.warnings, 0);
    assert_true(finds(f, "tkt_b") && !finds(f, "tkt_a"));
    tf_buf_clear(&f->toml);
    (void)tf_buf_append_text(&f->toml, RULE("a", "tkt_(\\w+)", ""));
    (void)tf_buf_append_text(&f->toml, list);
    assert_int_equal(import(f, tf_buf_slice(&f->toml)), 0);
    assert_found(f, "g.toml:5:9: warning: rule \"a\": regexTarget: the match is not judged here");
    assert_true(finds(f, "tkt_a"));
}

static void many_stopwords_become_regexes(void **state)
{
    struct fixture *f = *state;
    char text[64];

    (void)tf_buf_append_text(&f->toml, RULE("a", "tkt_([\\w.-]+)", ""));
    (void)tf_buf_append_text(&f->toml, "[rules.allowlist]\nstopwords = [");
    for (unsigned i = 0; i < 1500; i++) {
        (void)tf_buf_printf(&f->toml, "'W-%u.w',", i);
    }
    (void)tf_buf_append_text(&f->toml, "]\n");
    assert_int_equal(import(f, tf_buf_slice(&f->toml)), 0);
    assert_int_equal(f->err.warnings, 0);
    assert_null(f->rules[0].stopwords[0]);
    for (unsigned i = 0; i < 1500; i += 499) {
        (void)snprintf(text, sizeof text, "tkt_aw-%u.Wz", i);
        assert_false(finds(f, text));
        (void)snprintf(text, sizeof text, "tkt_aw-%uxW", i);
        assert_true(finds(f, text));
    }
}

/* A file with one list of n regexes, of size bytes each, for the rule or for all. */
static void write_regexes(struct fixture *f, const char *header, unsigned n, int size)
{
    tf_buf_clear(&f->toml);
    (void)tf_buf_append_text(&f->toml, RULE("a", "tkt_(\\w+)", ""));
    (void)tf_buf_printf(&f->toml, "[%s]\nregexes = [", header);
    for (unsigned i = 0; i < n; i++) {
        (void)tf_buf_printf(&f->toml, "'^%0*u$',", size, i + 1000);
    }
    (void)tf_buf_append_text(&f->toml, "]\n");
}

static void many_regexes_are_joined(void **state)
{
    struct fixture *f = *state;

    write_regexes(f, "rules.allowlist", 7, 4);
    assert_int_equal(import(f, tf_buf_slice(&f->toml)), 0);
    assert_string_equal(f->rules[0].allow[6], "^1006$");
    write_regexes(f, "rules.allowlist", 40, 4);
    assert_int_equal(import(f, tf_buf_slice(&f->toml)), 0);
    assert_int_equal(f->err.warnings, 0);
    assert_true(finds(f, "tkt_10399") && !finds(f, "tkt_1000") && !finds(f, "tkt_1039"));
    write_regexes(f, "allowlist", 40, 4);
    assert_int_equal(import(f, tf_buf_slice(&f->toml)), 0);
    assert_int_equal(f->err.warnings, 0);
    assert_true(finds(f, "tkt_10399") && !finds(f, "tkt_1000") && !finds(f, "tkt_1039"));
    /* More than fits is told; what fits is taken. */
    write_regexes(f, "rules.allowlist", 40, 2000);
    assert_int_equal(import(f, tf_buf_slice(&f->toml)), 0);
    assert_found(f, "g.toml:1:3: warning: rule \"a\": its allowlists have more than fits into 7");
    write_regexes(f, "allowlist", 40, 2000);
    assert_int_equal(import(f, tf_buf_slice(&f->toml)), 0);
    assert_found(f, "g.toml:5:2: warning: the file's allowlist: more regexes than fit into 8192");
    write_regexes(f, "rules.allowlist", 9, 9000);
    assert_int_equal(import(f, tf_buf_slice(&f->toml)), 0);
    assert_found(f, "its allowlists have more than fits into 7 regexes");
}

static void append_many(struct tf_buf *to, const char *before, size_t n, const char *after)
{
    (void)tf_buf_append_text(to, before);
    for (size_t i = 0; i < n; i++) {
        (void)tf_buf_append_byte(to, 'a');
    }
    (void)tf_buf_append_text(to, after);
}

static void a_demand_that_does_not_fit_is_told(void **state)
{
    struct fixture *f = *state;

    write_regexes(f, "rules.allowlist", 10, 1000);
    (void)tf_buf_append_text(&f->toml, "condition = 'AND'\nstopwords = ['x']\n");
    assert_int_equal(import(f, tf_buf_slice(&f->toml)), 0);
    assert_found(f,
                 "g.toml:5:8: warning: rule \"a\": it demands more regexes and stopwords than fit");
    assert_int_equal(f->err.warnings, 1);
    write_regexes(f, "rules.allowlist", 1, 16000);
    append_many(&f->toml, "condition = 'AND'\nstopwords = ['", 1000, "']\n");
    assert_int_equal(import(f, tf_buf_slice(&f->toml)), 0);
    assert_found(f, "it demands more regexes and stopwords than fit");
    assert_null(f->rules[0].allow[0]);
}

/* ---- what cannot be taken ------------------------------------------------------------------- */

#define GOOD RULE("good", "abcd", "")

static void what_cannot_be_taken_is_told(void **state)
{
    static const struct {
        const char *toml, *told;
    } cases[] = {
        {"[extend]\nuseDefault = true\n" GOOD, "g.toml:2:1: warning: the file: extend: what is "
                                               "extended is not read; import that file too"},
        {"[extend]\npath = 'x'\n" GOOD, "g.toml:2:1: warning: the file: extend: what is extended"},
        {"[extend]\nurl = 'x'\n" GOOD, "g.toml:2:1: warning: the file: extend: what is extended"},
        {"[extend]\ndisabledRules = ['x']\n" GOOD,
         "g.toml:2:1: warning: the file: extend: disabledRules are of the file that is extended"},
        {"[extend]\nfoo = 1\n" GOOD, "the file: key \"foo\" is not known here; it is left out"},
        {"extend = 1\n" GOOD, "g.toml:1:10: warning: the file: extend: a table is expected"},
        {"foo = 1\n" GOOD, "g.toml:1:1: warning: the file: key \"foo\" is not known here"},
        {GOOD "[[rules]]\nregex = 'abcd'\n",
         "g.toml:5:3: warning: a rule: it is left out: it has no id; give it one"},
        {GOOD "[[rules]]\nid = 3\nregex = 'abcd'\n",
         "g.toml:6:6: warning: the file: id: a text is expected; it is left out, write one"},
        {GOOD "[[rules]]\nid = 'x'\npath = 'y'\n",
         "g.toml:5:3: warning: rule \"x\": it is left out: it has a path only, and a log has none"},
        {GOOD "[[rules]]\nid = 'x'\nentropy = 3\n", "g.toml:5:3: warning: rule \"x\": it is left "
                                                    "out: it has no regex, as a rule that changes"},
        {GOOD "[[rules]]\nid = 'x'\nregex = ''\n", "rule \"x\": it is left out: it has no regex"},
        {GOOD RULE("x", "abcd", "path = 'y'"),
         "g.toml:8:1: warning: rule \"x\": path: a log has none, so the rule looks at every text"},
        {GOOD RULE("x", "abcd", "skipReport = true"),
         "g.toml:8:1: warning: rule \"x\": it is left out: skipReport: gitleaks does not report"},
        {GOOD RULE("x", "abcd", "[[rules.required]]\nid = 'good'"),
         "g.toml:8:9: warning: rule \"x\": required: rules stand alone here, so it finds more"},
        {GOOD RULE("x", "abcd", "foo = 1"),
         "g.toml:8:1: warning: rule \"x\": key \"foo\" is not known"},
        {GOOD RULE("x", "ab(?=cd)", ""),
         "g.toml:7:9: warning: rule \"x\": it is left out: regex: RE2 has no such group; it looks "
         "neither ahead nor behind, at byte 2; write it by hand for PCRE2"},
        {GOOD RULE("x", "abcd\\p{Klingon}", ""),
         "g.toml:7:9: warning: rule \"x\": it is left out: regex: PCRE2 says: unknown property"},
        {GOOD RULE("x", "(?:(?:abcd){999}){999}", ""), "it is left out: regex: PCRE2 says: "},
        {GOOD RULE("x", "(?i)", ""),
         "rule \"x\": it is left out: no text could be made that it finds"},
        {GOOD RULE("x", "(?)", ""), "rule \"x\": it is left out: regex: PCRE2 says: it is empty"},
        {GOOD RULE("x", "ab\\bcd", ""), "g.toml:5:3: warning: rule \"x\": it is left out: no text "
                                        "could be made that it finds, and"},
        {GOOD RULE("x", "tkt_[01]{8}", "entropy = 4"), "no text could be made that it finds"},
        {GOOD RULE("x", "tkt_[01]{8}", "entropy = 8.5"),
         "g.toml:8:11: warning: rule \"x\": it is left out: entropy: a byte has 8 bits at most"},
        {GOOD RULE("x", "tkt_(a)", "secretGroup = 2"),
         "g.toml:8:15: warning: rule \"x\": it is left out: secretGroup: the regex has no group 2; "
         "write one up to 1"},
        {GOOD RULE("x", "tkt_(a)", "secretGroup = -1"), "secretGroup: the regex has no group -1"},
        {GOOD RULE("x", "tkt_[é]", ""),
         "g.toml:7:9: warning: rule \"x\": regex: a class with characters beyond ASCII is taken"},
        {GOOD RULE("x", "tkt_\\pL", ""), "rule \"x\": regex: \\p looks at single bytes here"},
        {GOOD RULE("x", "abcd", "tags = ['A b', 'c']"),
         "g.toml:8:9: warning: rule \"x\": tags: \"A b\" becomes \"a-b\"; name it so in enable"},
        {GOOD RULE("x", "abcd", "tags = ['a', 'b', 'c', 'd', 'e', 'f']"),
         "g.toml:8:34: warning: rule \"x\": tags: \"f\" is left out: a rule has 5 at most"},
        {GOOD RULE("x", "abcd", "tags = ['?']"), "tags: \"?\" is left out"},
        {GOOD RULE("x", "abcd", "tags = [1]"),
         "g.toml:8:9: warning: rule \"x\": an item: a text is"},
        {GOOD RULE("x", "abcd", "keywords = 1"), "keywords: an array is expected; it is left out"},
        {GOOD RULE("x", "abcd", "entropy = '3'"), "entropy: a number is expected; it is left out"},
        {"rules = 1", "g.toml:1:9: warning: the file: rules: an array is expected"},
        {"rules = [1]", "g.toml:1:10: warning: the file: an item: a table is expected"},
        /* Allowlists. */
        {GOOD "[rules.allowlist]\npaths = ['x']\n", "g.toml:6:1: warning: rule \"good\": paths: a "
                                                    "log has none; they are left out, so more is"},
        {GOOD "[rules.allowlist]\ncommits = 'x'\n",
         "rule \"good\": commits: a log has none; they are"},
        {GOOD "[[rules.allowlists]]\ncondition = 'and'\npaths = ['x']\nregexes = ['a']\n",
         "g.toml:7:1: warning: rule \"good\": paths: a log has none; the allowlist demands them "
         "and"},
        {GOOD "[[rules.allowlists]]\ncondition = 'xor'\nregexes = ['a']\n",
         "g.toml:6:13: warning: rule \"good\": condition: \"xor\" is not known; the allowlist is "
         "left"},
        {GOOD "[[rules.allowlists]]\nregexTarget = 'line'\nregexes = ['a']\n",
         "g.toml:6:15: warning: rule \"good\": regexTarget: \"line\" is not judged here, only the"},
        {GOOD "[[rules.allowlists]]\nregexes = ['(']\n",
         "g.toml:6:12: warning: rule \"good\": regexes: the group has no end; this one is left "
         "out"},
        {GOOD "[[rules.allowlists]]\nregexes = ['[é]', 'x']\n",
         "regexes: its class beyond ASCII would match more over bytes; this one is left out"},
        {GOOD "[[rules.allowlists]]\nregexes = ['\\pL']\n",
         "regexes: its class beyond ASCII would"},
        {GOOD "[[rules.allowlists]]\nregexes = ['']\n",
         "regexes: it is empty, and would let all pass"},
        {GOOD "[[rules.allowlists]]\nregexes = ['(?:(?:abcd){999}){999}']\n",
         "regexes: regular expression is too large; this one is left out"},
        {GOOD "[[rules.allowlists]]\nstopwords = ['']\n",
         "g.toml:6:14: warning: rule \"good\": stopwords: one is empty, and would let all pass"},
        {GOOD "[[rules.allowlists]]\nfoo = 1\n", "rule \"good\": key \"foo\" is not known here"},
        {GOOD "[rules]\n", "g.toml:5:2: error: \"rules\" is there already"},
        {GOOD "[rules.allowlists]\nregexes = ['a']\n", "allowlists: an array is expected"},
        {"[[allowlists]]\ntargetRules = ['good', 'bad', 3]\nregexes = ['a']\n" GOOD,
         "g.toml:2:24: warning: the file: targetRules: there is no rule \"bad\" in the file"},
        {"[allowlist]\npaths = ['x']\n" GOOD,
         "g.toml:2:1: warning: the file's allowlist: paths: a log has none; they are left out"},
    };
    struct fixture *f = *state;

    for (size_t i = 0; i < TF_COUNT(cases); i++) {
        int rc = import_text(f, cases[i].toml);

        assert_found(f, cases[i].told);
        assert_true(rc < 0 || strstr(f->yaml.data, "- id: good\n") != NULL);
    }
}

static void a_file_without_a_rule_is_an_error(void **state)
{
    static const struct {
        const char *toml, *told;
    } cases[] = {
        {"", "g.toml: error: no rule of it can be taken, so nothing is written; name a rule file"},
        {"rules = []", "g.toml: error: no rule of it can be taken"},
        {RULE("a", "(", ""), "g.toml: error: no rule of it can be taken"},
        {"a = ", "g.toml:1:5: error: a value is missing"},
    };
    struct fixture *f = *state;

    for (size_t i = 0; i < TF_COUNT(cases); i++) {
        assert_int_equal(import_text(f, cases[i].toml), -EINVAL);
        assert_found(f, cases[i].told);
    }
}

static void what_is_too_long_is_left_out(void **state)
{
    struct fixture *f = *state;

    append_many(&f->toml, GOOD "[[rules]]\nid = 'long'\nregex = '", TF_REDACT_REGEX_MAX + 1, "'\n");
    append_many(&f->toml, RULE("more", "efgh", "") "[rules.allowlist]\nregexes = ['",
                TF_REDACT_REGEX_MAX + 1, "']\n");
    append_many(&f->toml, "stopwords = ['", 1025, "']\n");
    assert_int_equal(import(f, tf_buf_slice(&f->toml)), 0);
    assert_int_equal(f->count, 2);
    assert_found(f, "rule \"long\": it is left out: regex: it is longer than 16384 bytes; part it");
    assert_found(f, "rule \"more\": regexes: it is longer than 16384 bytes; this one is left out");
    assert_found(f, "rule \"more\": stopwords: one is longer than any secret; it is left out");
}

static void no_more_rules_than_can_be_are_taken(void **state)
{
    struct fixture *f = *state;

    for (unsigned i = 0; i < 6; i++) {
        (void)tf_buf_printf(&f->toml, "[[rules]]\nid = 'r%u'\nregex = 'abc%u'\n", i, i);
    }
    f->taken_count = TF_REDACT_RULES_MAX - 4;
    {
        struct tf_redact_rule *many = calloc(TF_REDACT_RULES_MAX, sizeof *many);
        const struct tf_redact_gitleaks_args args = {.toml = tf_buf_slice(&f->toml),
                                                     .file = "g.toml",
                                                     .taken = many,
                                                     .taken_count = TF_REDACT_RULES_MAX - 4};

        assert_non_null(many);
        for (size_t i = 0; i < TF_REDACT_RULES_MAX; i++) {
            many[i].id = "taken";
        }
        assert_int_equal(tf_redact_gitleaks_import(&args, &f->yaml, &f->err), 0);
        free(many);
    }
    assert_int_equal(tf_buf_append_byte(&f->yaml, 0), 0);
    assert_written(f, "- id: r3\n");
    assert_null(strstr(f->yaml.data, "- id: r4\n"));
    assert_found(f,
                 "g.toml:13:3: warning: the file: from here on 2 rules are left out, as there can "
                 "be 1024, with those that ship");
}

static void no_more_than_a_rule_file_may_have_is_written(void **state)
{
    struct fixture *f = *state;

    for (unsigned i = 0; i < 60; i++) { /* each rule has these, of 7 times 8 KiB */
        if (i == 0) {
            (void)tf_buf_append_text(&f->toml,
                                     "[[allowlists]]\nregexTarget = 'match'\nregexes = [");
            for (unsigned j = 0; j < 56; j++) {
                (void)tf_buf_printf(&f->toml, "'%01000u',", j);
            }
            (void)tf_buf_append_text(&f->toml, "]\n");
        }
        (void)tf_buf_printf(&f->toml, "[[rules]]\nid = 'r%u'\nregex = 'abcd%u'\n", i, i);
    }
    assert_int_equal(import(f, tf_buf_slice(&f->toml)), 0);
    assert_true(f->count > 10 && f->count < 60);
    assert_true(f->yaml.size <= TF_REDACT_FILE_MAX + 1);
    assert_found(f, "it is left out: a rule file has 1048576 bytes at most; import it alone");
}

/* ---- the sample ----------------------------------------------------------------------------- */

static void the_sample_is_taken_and_used(void **state)
{
    struct fixture *f = *state;
    char path[] = "/tmp/tf-gitleaks-XXXXXX";
    struct tf_text item = {.text = path};
    const struct tf_texts own = {.items = &item, .count = 1};
    struct tf_redact_ruleset *set = NULL;
    int fd = mkstemp(path);

    assert_true(fd >= 0);
    assert_int_equal(tf_config_read_file(TF_SOURCE_DIR "/tests/data/gitleaks.toml", &f->toml), 0);
    assert_int_equal(import(f, tf_buf_slice(&f->toml)), 0);
    assert_int_equal(f->count, 22);
    assert_int_equal(f->err.warnings, 21);
    f->yaml.size--; /* the NUL */
    assert_int_equal(write(fd, f->yaml.data, f->yaml.size), f->yaml.size);
    assert_int_equal(close(fd), 0);
    assert_int_equal(tf_redact_ruleset_new(&own, &set, &f->err), 0);
    tf_redact_ruleset_free(set);
    (void)unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_rule_is_written_whole, setup, teardown),
        cmocka_unit_test_setup_teardown(keys_are_read_in_any_case, setup, teardown),
        cmocka_unit_test_setup_teardown(what_leads_to_a_match_is_found, setup, teardown),
        cmocka_unit_test_setup_teardown(more_keywords_than_are_looked_at_are_told, setup, teardown),
        cmocka_unit_test_setup_teardown(the_secret_is_that_of_gitleaks, setup, teardown),
        cmocka_unit_test_setup_teardown(ids_are_words_that_nobody_has, setup, teardown),
        cmocka_unit_test_setup_teardown(no_text_breaks_out_of_its_quotes, setup, teardown),
        cmocka_unit_test_setup_teardown(allowlists_let_pass_what_they_do_there, setup, teardown),
        cmocka_unit_test_setup_teardown(regexes_of_the_match_are_taken_where_it_is_the_secret,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(many_stopwords_become_regexes, setup, teardown),
        cmocka_unit_test_setup_teardown(many_regexes_are_joined, setup, teardown),
        cmocka_unit_test_setup_teardown(a_demand_that_does_not_fit_is_told, setup, teardown),
        cmocka_unit_test_setup_teardown(what_cannot_be_taken_is_told, setup, teardown),
        cmocka_unit_test_setup_teardown(a_file_without_a_rule_is_an_error, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_too_long_is_left_out, setup, teardown),
        cmocka_unit_test_setup_teardown(no_more_rules_than_can_be_are_taken, setup, teardown),
        cmocka_unit_test_setup_teardown(no_more_than_a_rule_file_may_have_is_written, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(the_sample_is_taken_and_used, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
