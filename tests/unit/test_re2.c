/*
 * Regexes of RE2: how each part is written for PCRE2, what is refused, which group is the secret,
 * what is told of matches, and that examples match.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "../../filters/redact/import/re2_match.h"
#include "taffrail/config.h"

#define REGEX_MAX 16384u

struct fixture {
    void *arena;
    struct tf_redact_re2 re2;
    struct tf_redact_re2_error error;
    struct tf_buf out;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);

    f->arena = tf_arena_new();
    tf_buf_init(&f->out, REGEX_MAX);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    tf_buf_fini(&f->out);
    tf_arena_free(f->arena);
    free(f);
    return 0;
}

static void parse(struct fixture *f, const char *regex)
{
    if (tf_redact_re2_parse(regex, f->arena, &f->re2, &f->error) < 0) {
        fail_msg("%s: %s, at %zu", regex, f->error.what, f->error.at);
    }
}

/* As it is written now, a C string. */
static const char *written(struct fixture *f)
{
    tf_buf_clear(&f->out);
    assert_int_equal(tf_redact_re2_write(&f->re2, &f->out), 0);
    assert_int_equal(tf_buf_append_byte(&f->out, 0), 0);
    return f->out.data;
}

static pcre2_code *compile(const char *regex)
{
    int reason;
    PCRE2_SIZE offset;

    return pcre2_compile((PCRE2_SPTR)regex, PCRE2_ZERO_TERMINATED,
                         PCRE2_DOLLAR_ENDONLY | PCRE2_NEVER_UTF, &reason, &offset, NULL);
}

static bool matches(const char *regex, const char *text, size_t size)
{
    pcre2_code *code = compile(regex);
    pcre2_match_data *data = code != NULL ? pcre2_match_data_create(8, NULL) : NULL;
    bool is = data != NULL && pcre2_match(code, (PCRE2_SPTR)text, size, 0, 0, data, NULL) > 0;

    assert_non_null(data);
    pcre2_match_data_free(data);
    pcre2_code_free(code);
    return is;
}

/* ---- writing -------------------------------------------------------------------------------- */

static void each_part_is_written_for_pcre2(void **state)
{
    static const struct {
        const char *regex, *wanted;
    } cases[] = {
        {"", ""},
        {"abc-/'\"#@ ", "abc-/'\"#@ "},
        {"a|b||", "a|b||"},
        {"\\.\\*\\-\\_\\ \\/", "\\.\\*-_ /"},
        {"a.b^$\\A\\z\\b\\B", "a.b^$\\A\\z\\b\\B"},
        {"\\d\\D\\s\\S\\w\\W", "\\d\\D\\s\\S\\w\\W"},
        {"a*b+c?d{2}e{2,}f{2,3}", "a*b+c?d{2}e{2,}f{2,3}"},
        {"a*?b+?c??d{2}?e{2,}?f{2,3}?", "a*?b+?c??d{2}e{2,}?f{2,3}?"},
        {"a{1}b{0}c{0,1}d{0,}e{1,}", "a{1}b{0}c?d*e+"},
        /* What is no repeat is a bracket; none begins a fragment. */
        {"a{}{,2}{x}{02}{1,02}{1,2,3}", "a\\{\\}\\{,2\\}\\{x\\}\\{02\\}\\{1,02\\}\\{1,2,3\\}"},
        {"{{name}}", "\\{\\{name\\}\\}"},
        {"\\{{2}", "(?:\\{){2}"},
        /* Characters. */
        {"\\x41\\x{42}\\x{0043}\\101\\012\\0", "ABCA\\n\\x00"},
        {"\\a\\f\\n\\r\\t\\v", "\\x07\\f\\n\\r\\t\\x0b"},
        {"\t\n\x7f", "\\t\\n\\x7f"},
        {"é\\x{e9}€\\x{1F511}", "\\xc3\\xa9\\xc3\\xa9\\xe2\\x82\\xac\\xf0\\x9f\\x94\\x91"},
        {"é?", "(?:\\xc3\\xa9)?"},
        {"\\Qa.b\\E+c", "a\\.b+c"},
        {"\\Q(|)", "\\(\\|\\)"},
        {"a\\Q\\Eb", "ab"},
        {"^*\\b?", "(?:^)*(?:\\b)?"},
        /* Classes: alike, and not. */
        {"[a-z][^a-z_.-][]a][^]a][-a][a-][\\w.-][\\d\\S]",
         "[a-z][^a-z_.-][]a][^]a][-a][a-][\\w.-][\\d\\S]"},
        {"[\\x60\\n\\]\\-][[:alpha:]_][[:^digit:]]", "[\\x60\\n\\]\\-][[:alpha:]_][[:^digit:]]"},
        {"[[a]", "[\\[a]"},
        {"[[.a.]]", "[.\\[a]\\]"},
        {"[\\w-.]", "[\\-.0-9A-Z_a-z]"},
        {"[a-c-e]", "[\\-a-ce]"},
        {"[{{]", "[\\{]"},
        {"[\\v\\101\\x{42}]", "[\\x0bAB]"},
        {"[[:word:]\t]", "[\\t0-9A-Z_a-z]"},
        {"[[:ascii:]][^[:ascii:]é]", "[[:ascii:]][\\x80-\\xff]"},
        {"[^\\x{0}-\\x{7f}]", "[\\x80-\\xff]"},
        {"[\\x00-\\x{10ffff}]", "[\\x00-\\xff]"},
        {"[^\\v]", "[^\\x0b]"},
        /* Beyond ASCII. */
        {"[é]", "(?:[\\xc2-\\xf4][\\x80-\\xbf]{1,3})"},
        {"[aà-ü]+", "(?:[a]|[\\xc2-\\xf4][\\x80-\\xbf]{1,3})+"},
        {"[^é]", "[\\x00-\\xff]"},
        {"[^aé]", "[^a]"},
        {"\\pL\\PN\\p{Greek}\\p{^Lu}[\\pL1]", "\\pL\\PN\\p{Greek}\\p{^Lu}[\\pL1]"},
        {"\\p{Lu}(?i)\\p{Lu}(?-i)\\p{Lu}", "\\p{Lu}(?i)\\p{L&}(?-i)\\p{Lu}"},
        /* Groups: what is no secret is none. */
        {"(a)(?P<n>b)(?<m>c)(?:d)", "(?:a)(?:b)(?:c)(?:d)"},
        {"(?i)a(?-i)b(?i:c)(?s-m:d)(?im-s)e", "(?i)a(?-i)b(?i:c)(?s-m:d)(?im-s)e"},
        {"(?)a", "a"},
        /* What (?U) turns round, as far as it reaches. */
        {"(?U)a*b*?c{2}", "a*?b*c{2}"},
        {"(?U:a*)b*(?iU)c+(?-U)d+", "(?:a*?)b*(?i)c+?d+"},
        {"((?U)a*)b*", "(?:a*?)b*"},
    };
    struct fixture *f = *state;
    pcre2_code *code;

    for (size_t i = 0; i < TF_COUNT(cases); i++) {
        parse(f, cases[i].regex);
        if (strcmp(written(f), cases[i].wanted) != 0) {
            fail_msg("%s: written %s, wanted %s", cases[i].regex, f->out.data, cases[i].wanted);
        }
        code = compile(f->out.data);
        assert_non_null(code);
        pcre2_code_free(code);
    }
}

static void what_is_taken_for_more_is_known(void **state)
{
    struct fixture *f = *state;

    parse(f, "[é]");
    assert_true(f->re2.has_wide && !f->re2.has_unicode);
    parse(f, "é\\D[^a]");
    assert_false(f->re2.has_wide || f->re2.has_unicode);
    parse(f, "[\\p{Lu}]");
    assert_true(f->re2.has_unicode);
    parse(f, "\\PL");
    assert_true(f->re2.has_unicode);
    parse(f, "[\"'“”]x");
    assert_true(matches(written(f), "“x", strlen("“x")));
    assert_true(matches(written(f), "'x", 2));
}

static void what_re2_refuses_is_refused(void **state)
{
    static const struct {
        const char *regex;
        size_t at;
        const char *what;
    } cases[] = {
        {"*a", 0, "there is nothing before it to repeat"},
        {"a|+", 2, "there is nothing before it to repeat"},
        {"(*UTF)a", 1, "there is nothing before it to repeat"},
        {"a(?i){2}", 5, "there is nothing before it to repeat"},
        {"{2}", 0, "there is nothing before it to repeat"},
        {"a++", 2, "RE2 takes no repeat of a repeat"},
        {"a{2}{3}", 4, "RE2 takes no repeat of a repeat"},
        {"a*??", 3, "RE2 takes no repeat of a repeat"},
        {"a{1001}", 1, "RE2 repeats 1000 times at most, and from less to more"},
        {"a{1,1001}", 1, "RE2 repeats 1000 times at most"},
        {"a{99999999999999999999}", 1, "RE2 repeats 1000 times at most"},
        {"a{3,2}", 1, "RE2 repeats 1000 times at most"},
        {"(?=a)", 0, "RE2 has no such group; it looks neither ahead nor behind"},
        {"(?!a)", 0, "RE2 has no such group"},
        {"(?>a)", 0, "RE2 has no such group"},
        {"(?#a)", 0, "RE2 has no such group"},
        {"(?", 0, "RE2 has no such group"},
        {"(?x)", 0, "RE2 has no such group"},
        {"(?<=a)", 0, "RE2 has no look-behind, and a name is of letters, digits and _"},
        {"(?P<a-b>c)", 0, "RE2 has no look-behind, and a name"},
        {"(?P<a", 0, "RE2 has no look-behind, and a name"},
        {"(?i--s)", 4, "these flags are no group of RE2"},
        {"(?iiiiiiiiiiiiiiiii)", 17, "these flags are no group of RE2"},
        {"(a", 0, "the group has no end"},
        {"a)", 1, "there is no group that ends here"},
        {"[a", 0, "the class has no end"},
        {"[", 0, "the class has no end"},
        {"[z-a]", 1, "the range ends before it begins"},
        {"[[:foo:]]", 1, "there is no class of this name"},
        {"[^\\x00-\\x{10FFFF}]", 0, "the class holds nothing"},
        {"[\\pL[]", 0, "this class, with \\p in it, has no counterpart"},
        {"(?i)[\\p{Lu}]", 4, "this class, with \\p in it, has no counterpart"},
        {"\\", 1, "RE2 has no such escape"},
        {"\\1", 1, "RE2 has no such escape"},
        {"\\8", 1, "RE2 has no such escape"},
        {"\\Z", 1, "RE2 has no such escape"},
        {"\\E", 1, "RE2 has no such escape"},
        {"\\C", 1, "RE2 has no such escape"},
        {"[\\b]", 2, "RE2 has no such escape"},
        {"[\\", 2, "RE2 has no such escape"},
        {"\\é", 1, "RE2 has no such escape"},
        {"\\x4", 3, "\\x takes two hexadecimal digits, or a character's in braces"},
        {"\\x{}", 3, "\\x takes two hexadecimal digits"},
        {"\\x{41", 5, "\\x takes two hexadecimal digits"},
        {"\\x{110000}", 9, "\\x takes two hexadecimal digits"},
        {"\\p", 1, "\\p takes a letter, or a name in braces"},
        {"\\p{Lu", 1, "\\p takes a letter, or a name in braces"},
        {"\\p1", 1, "\\p takes a letter, or a name in braces"},
        {"a\xc3", 1, "this is not UTF-8"},
    };
    struct fixture *f = *state;

    for (size_t i = 0; i < TF_COUNT(cases); i++) {
        int rc = tf_redact_re2_parse(cases[i].regex, f->arena, &f->re2, &f->error);

        if (rc != -EINVAL || f->error.at != cases[i].at ||
            strncmp(f->error.what, cases[i].what, strlen(cases[i].what)) != 0) {
            fail_msg("%s: %s, at %zu", cases[i].regex, rc < 0 ? f->error.what : "is taken",
                     f->error.at);
        }
    }
}

static void groups_too_deep_are_refused(void **state)
{
    struct fixture *f = *state;
    char regex[2 * TF_REDACT_RE2_DEPTH_MAX + 4] = "";

    memset(regex, '(', TF_REDACT_RE2_DEPTH_MAX + 1);
    memset(regex + TF_REDACT_RE2_DEPTH_MAX + 1, ')', TF_REDACT_RE2_DEPTH_MAX + 1);
    assert_int_equal(tf_redact_re2_parse(regex, f->arena, &f->re2, &f->error), -EINVAL);
    assert_string_equal(f->error.what, "groups stand in groups more than 64 deep");
    regex[2 * TF_REDACT_RE2_DEPTH_MAX + 1] = '\0';
    parse(f, regex + 1);
}

/* Cut anywhere, a regex is taken or refused; nothing behind its end is read. */
static void a_cut_regex_is_no_danger(void **state)
{
    static const char whole[] =
        "(?P<n>a{2,3}?[^\\x{e9}-ü[:alpha:]\\w-])|(?i-s:\\p{Lu}\\Qx\\E*)\\101";
    struct fixture *f = *state;

    for (size_t i = 0; i < sizeof whole; i++) {
        char *copy = malloc(i + 1);

        assert_non_null(copy);
        memcpy(copy, whole, i);
        copy[i] = '\0';
        (void)tf_redact_re2_parse(copy, f->arena, &f->re2, &f->error);
        free(copy);
    }
}

static void what_does_not_fit_is_told(void **state)
{
    struct fixture *f = *state;

    parse(f, "abcdef");
    tf_buf_fini(&f->out);
    tf_buf_init(&f->out, 4);
    assert_int_equal(tf_redact_re2_write(&f->re2, &f->out), -EMSGSIZE);
}

/* ---- the secret ----------------------------------------------------------------------------- */

static void one_group_is_the_secret(void **state)
{
    static const struct {
        const char *regex;
        unsigned number;
        enum tf_redact_re2_secret secret;
        const char *wanted;
    } cases[] = {
        {"a(?:b)", 0, TF_REDACT_RE2_WHOLE, "a(?:b)"},
        {"a(b)c", 0, TF_REDACT_RE2_GROUP_1, "a(b)c"},
        {"a(b)?c", 0, TF_REDACT_RE2_GROUP_1, "a(b)?c"},
        {"(?P<n>a)=(b)", 0, TF_REDACT_RE2_GROUP_1, "(a)=(?:b)"},
        {"(a)=(b)", 2, TF_REDACT_RE2_GROUP_1, "(?:a)=(b)"},
        {"((a)(b))", 0, TF_REDACT_RE2_GROUP_1, "((?:a)(?:b))"},
        {"((a)(b))", 3, TF_REDACT_RE2_GROUP_1, "(?:(?:a)(b))"},
        {"(?:a(b))(c)", 0, TF_REDACT_RE2_GROUP_1, "(?:a(b))(?:c)"},
        {"(ab)+(c)", 0, TF_REDACT_RE2_GROUP_1, "(ab)+(?:c)"},
        /* A branch each: all are group 1. */
        {"a(b)|c(d)", 0, TF_REDACT_RE2_GROUP_1, "(?|a(b)|c(d))"},
        {"(?i)a(b)|c(d)|e", 0, TF_REDACT_RE2_GROUP_1, "(?|(?i)a(b)|c(d)|e)"},
        {"x(?:a(b)|c(d))y", 0, TF_REDACT_RE2_GROUP_1, "x(?|a(b)|c(d))y"},
        {"x(?i-s:a(b)|c(d))(e)", 0, TF_REDACT_RE2_GROUP_1, "x(?|(?i-s)a(b)|c(d))(?:e)"},
        {"(?:a|b(c))d", 0, TF_REDACT_RE2_GROUP_1, "(?:a|b(c))d"},
        {"(?:a(b)|c(?:d(e)|f(g)))", 0, TF_REDACT_RE2_GROUP_1, "(?|a(b)|c(?|d(e)|f(g)))"},
        {"a(b)|c(d)", 2, TF_REDACT_RE2_GROUP_1, "a(?:b)|c(d)"},
        /* Which it is depends on the match. */
        {"a(b)?(c)", 0, TF_REDACT_RE2_UNCLEAR, "a(?:b)?(?:c)"},
        {"a(b*)(c)", 0, TF_REDACT_RE2_UNCLEAR, "a(?:b*)(?:c)"},
        {"(?:a|b(c))(d)", 0, TF_REDACT_RE2_UNCLEAR, "(?:a|b(?:c))(?:d)"},
        {"(?:a(b)|c(d))+", 0, TF_REDACT_RE2_UNCLEAR, "(?:a(?:b)|c(?:d))+"},
        {"x|(?:a(b)?(c))", 0, TF_REDACT_RE2_UNCLEAR, "x|(?:a(?:b)?(?:c))"},
    };
    struct fixture *f = *state;

    for (size_t i = 0; i < TF_COUNT(cases); i++) {
        enum tf_redact_re2_secret secret;

        parse(f, cases[i].regex);
        secret = tf_redact_re2_choose(&f->re2, cases[i].number);
        if (secret != cases[i].secret || strcmp(written(f), cases[i].wanted) != 0) {
            fail_msg("%s: secret %d, written %s", cases[i].regex, (int)secret, written(f));
        }
    }
}

/* ---- matches -------------------------------------------------------------------------------- */

static void what_each_match_holds_is_known(void **state)
{
    static const struct {
        const char *regex;
        size_t least, digits, token;
    } cases[] = {
        {"", 0, 0, 0},
        {"abc", 3, 0, 3},
        {"é", 2, 0, 0},
        {"[é]", 1, 0, 0},
        {"[\\pL1]\\pL", 2, 0, 0},
        {"a.b", 3, 0, 1},
        {"\\b[0-9a-f]{8}-[0-9a-f]{4}\\b", 13, 0, 13},
        {"\\d{4}[ -]?\\d{6}", 10, 6, 6},
        {"(?:\\d{3}){4}x", 13, 12, 13},
        {"(?:\\d{3} ){4}", 16, 3, 3},
        {"(?:\\d{3} ){0,4}", 0, 0, 0},
        {"\\d{3}|\\d{5}x", 3, 3, 3},
        {"(?i)a(?-i)b(?:c)?", 2, 0, 2},
        {"[^\\n]{30}", 30, 0, 0},
        {"(?:(?:a{1000}){1000}){1000}", 65536, 0, 65536},
    };
    struct fixture *f = *state;

    for (size_t i = 0; i < TF_COUNT(cases); i++) {
        parse(f, cases[i].regex);
        if (tf_redact_re2_least(f->re2.root) != cases[i].least ||
            tf_redact_re2_run(f->re2.root, TF_REDACT_RE2_DIGITS) != cases[i].digits ||
            tf_redact_re2_run(f->re2.root, TF_REDACT_RE2_TOKEN) != cases[i].token) {
            fail_msg("%s: %zu, %zu, %zu", cases[i].regex, tf_redact_re2_least(f->re2.root),
                     tf_redact_re2_run(f->re2.root, TF_REDACT_RE2_DIGITS),
                     tf_redact_re2_run(f->re2.root, TF_REDACT_RE2_TOKEN));
        }
    }
}

static void words_are_seen_in_each_match(void **state)
{
    static const char *const words[] = {"token", "key-"};
    static const struct {
        const char *regex;
        bool holds;
    } cases[] = {
        {"my_token", true},          {"(?i)TOK\\bEN", true}, {"[Tt][oO]ken", true},
        {"[Tt]o[kq]en", false},      {"to(?i)ken", true},    {"x(?:token|key-)y", true},
        {"x(?:token|pass)y", false}, {"(token)?", false},    {"(?:token)+", true},
        {"(?:token){0,3}", false},   {"tok", false},         {"to.ken", false},
        {"[tké]oken", false},        {"k|token", false},     {"", false},
    };
    struct fixture *f = *state;
    char regex[512];

    for (size_t i = 0; i < TF_COUNT(cases); i++) {
        parse(f, cases[i].regex);
        if (tf_redact_re2_holds(f->re2.root, words, TF_COUNT(words)) != cases[i].holds) {
            fail_msg("%s", cases[i].regex);
        }
    }
    memset(regex, 'x', sizeof regex);
    memcpy(regex + 300, "token", sizeof "token");
    parse(f, regex);
    assert_true(tf_redact_re2_holds(f->re2.root, words, TF_COUNT(words)));
    assert_false(tf_redact_re2_holds(f->re2.root, words, 0));
}

static void an_example_matches(void **state)
{
    static const char *const regexes[] = {
        "tkt_[0-9a-f]{32}",
        "(?i)\\b(?:shop|store)[_-]?key\\s*[=:]\\s*['\"]?([a-z0-9]{24,})(?:['\"\\s]|$)",
        "a.b[\\x60'\"][^a-z]\\pL\\p{Nd}\\p{Lu}\\pP\\PL\\p{Zs}\\pS\\p{^L}\\PP",
        "[é]x[^\\x00-\\x7f]+[\\pL]é",
        "\\x07[\\n\\t][[:punct:]]\\S",
    };
    struct fixture *f = *state;
    struct tf_buf example;

    tf_buf_init(&example, TF_REDACT_RE2_EXAMPLE_MAX);
    for (size_t i = 0; i < TF_COUNT(regexes); i++) {
        parse(f, regexes[i]);
        for (unsigned attempt = 0; attempt < 8; attempt++) {
            tf_buf_clear(&example);
            assert_true(tf_redact_re2_example(f->re2.root, attempt, &example));
            if (!matches(written(f), example.data, example.size)) {
                fail_msg("%s: %.*s", regexes[i], (int)example.size, example.data);
            }
        }
    }
    tf_buf_fini(&example);
}

static void what_no_example_can_be_is_not_made(void **state)
{
    static const char *const regexes[] = {"\\x00", "a[\\x00]", "a{1000}b{1000}c{1000}",
                                          "(?:(?:(?:^){1000}){1000}){1000}"};
    struct fixture *f = *state;
    struct tf_buf example;

    tf_buf_init(&example, TF_REDACT_RE2_EXAMPLE_MAX);
    for (size_t i = 0; i < TF_COUNT(regexes); i++) {
        parse(f, regexes[i]);
        tf_buf_clear(&example);
        assert_false(tf_redact_re2_example(f->re2.root, 0, &example));
    }
    parse(f, "abc");
    tf_buf_fini(&example);
    tf_buf_init(&example, 2);
    assert_false(tf_redact_re2_example(f->re2.root, 0, &example));
    tf_buf_fini(&example);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(each_part_is_written_for_pcre2, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_taken_for_more_is_known, setup, teardown),
        cmocka_unit_test_setup_teardown(what_re2_refuses_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(groups_too_deep_are_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(a_cut_regex_is_no_danger, setup, teardown),
        cmocka_unit_test_setup_teardown(what_does_not_fit_is_told, setup, teardown),
        cmocka_unit_test_setup_teardown(one_group_is_the_secret, setup, teardown),
        cmocka_unit_test_setup_teardown(what_each_match_holds_is_known, setup, teardown),
        cmocka_unit_test_setup_teardown(words_are_seen_in_each_match, setup, teardown),
        cmocka_unit_test_setup_teardown(an_example_matches, setup, teardown),
        cmocka_unit_test_setup_teardown(what_no_example_can_be_is_not_made, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
