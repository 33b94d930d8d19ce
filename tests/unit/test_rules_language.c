/*
 * The language of rules: what is read, what is refused and how that is told, what is derived, how
 * rules are switched and measured. What the engine makes of them is in test_redact.c.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "../../filters/redact/derive.h"
#include "../../filters/redact/engine.h"
#include "../../filters/redact/language.h"
#include "../../filters/redact/ruleset.h"

/* ---- derive --------------------------------------------------------------------------------- */

/* What is derived as one text: [fold ]LEAD|line: TEXT TEXT, or "nothing". */
static void derived_text(const char *regex, char *out, size_t size)
{
    struct tf_redact_derived derived;
    size_t at;

    tf_redact_derive(regex, &derived);
    if (derived.count == 0) {
        (void)snprintf(out, size, "nothing");
        return;
    }
    at = (size_t)snprintf(out, size, "%s", derived.fold ? "fold " : "");
    at += derived.is_fixed ? (size_t)snprintf(out + at, size - at, "%u:", derived.lead)
                           : (size_t)snprintf(out + at, size - at, "line:");
    for (size_t i = 0; i < derived.count; i++) {
        at += (size_t)snprintf(out + at, size - at, " %s", derived.texts[i]);
    }
}

static void literals_are_derived_from_a_regex(void **state)
{
    static const struct {
        const char *regex, *wanted;
    } cases[] = {
        {"A(?:KIA|SIA)[A-Z2-7]{16}", "0: AKIA ASIA"},
        {"(?i)x-amz-(?:signature|token)(?:=|%3d)(\\S+)",
         "fold 0: x-amz-signature= x-amz-signature%3d x-amz-token= x-amz-token%3d"},
        {"[A-Za-z0-9_~.]{3}8Q~[A-Z]{31}", "3: 8Q~"},
        {"(?i)[\\w.-]{0,50}?token[=:]\\S+", "fold line: token: token="},
        {"do[opr]_v1_[a-f0-9]{64}", "0: doo_v1_ dop_v1_ dor_v1_"},
        {"sk-(?:proj-[a-z]{20}|ant-[a-z]+)", "0: sk-proj- sk-ant-"},
        {"foo?bar", "0: foobar fobar"},
        {"foo??bar", "0: foobar fobar"},
        {"(abc)+x", "0: abc"},
        {"(abc)++x", "0: abc"},
        {"(?:abc)*defg", "line: defg"},
        {"(?:abc|xabc[0-9])y", "0: abc xabc"},
        {"ab{2,}cd", "0: abb"},
        {"a{3}b{5}", "0: aaabbbb"},
        {"x{0}abcd", "0: abcd"},
        {"[ab][cd][ef][gh][ij]klm", "4: iklm jklm"},
        {"[0-9]{4}abc", "4: abc"},
        {"[0-9]{70}abcd", "line: abcd"},
        {"(?<![a-z])sig=(x)\\1", "0: sig=x"},
        {"(?=abc)(?!d)(?<=e)efgh", "0: efgh"},
        {"^abc$", "0: abc"},
        {"\\babc\\z", "0: abc"},
        {"\\x41KIA\\x00foo", "0: AKIA"},
        {"\\$\\.\\*\\/", "0: $.*/"},
        {"a\\tb\\nc", "0: a\tb\nc"},
        {"(?i:ab)CDE", "fold 0: abcde"},
        {"(a(?i)bcd|efg)hIJ", "fold 0: abcdhij efghij"},
        {"(?i)a(?-i)BCD", "fold 0: abcd"},
        {"(?<n>abcd)\\.", "0: abcd."},
        {"(?P<n>abcd)(?'m'e)", "0: abcde"},
        {"(?#note)abc(?>de)(?|f|g)", "0: abcdef abcdeg"},
        {"[[:alpha:]]{3}_tok_", "3: _tok_"},
        {"[]abc]xyz", "0: ]xyz axyz bxyz cxyz"},
        {"[a\\-z]xyz", "0: -xyz axyz zxyz"},
        {"[^a]xyz", "1: xyz"},
        {"[\\dab]xyz", "1: xyz"},
        {"a.xyz", "2: xyz"},
        {"\\Rxyz", "line: xyz"},
        {"ab{c}d", "0: ab{c}d"},
        {"abcdefghijklmnopqrstuvwxyz0123456789", "0: abcdefghijklmnopqrstuvwx"},
        {"abc|abcdef", "0: abc"},
        /* Nothing: too short, too open, or not known here. */
        {"", "nothing"},
        {"ab", "nothing"},
        {"abc|", "nothing"},
        {"abc|\\w+", "nothing"},
        {"[A-Za-z0-9+/]{40}", "nothing"},
        {"(?:abcd)?", "nothing"},
        {"(?x) a b c d", "nothing"},
        {"\\Qabcd\\E", "nothing"},
        {"(*COMMIT)abcd", "nothing"},
        {"(*atomic:abcd)", "nothing"},
        {"(?R)abcd", "nothing"},
        {"(?(1)a|b)abcd", "nothing"},
        {"(?P=n)abcd", "nothing"},
        {"(?^)abcd", "nothing"},
        {"\\p{Lu}abcd", "nothing"},
        {"abc\\Kdef", "nothing"},
        {"abcd\\g{1}", "nothing"},
        {"abcd\\12", "nothing"},
        {"abcd\\", "nothing"},
        {"abcd\\x4", "nothing"},
        {"abcd{,3}", "nothing"},
        {"abcd{3", "nothing"},
        {"abcd{4,3}", "nothing"},
        {"abcd(", "nothing"},
        {"abcd)", "nothing"},
        {"abcd[", "nothing"},
        {"abcd[[.a.]]", "nothing"},
        {"abcd[[:alpha", "nothing"},
        {"abcd[\\8]", "nothing"},
        {"(?<n", "nothing"},
        {"+abcd", "nothing"},
    };
    char text[1024];

    (void)state;
    for (size_t i = 0; i < TF_COUNT(cases); i++) {
        derived_text(cases[i].regex, text, sizeof text);
        if (strcmp(text, cases[i].wanted) != 0) {
            fail_msg("%s: derived \"%s\", wanted \"%s\"", cases[i].regex, text, cases[i].wanted);
        }
    }
}

static void groups_too_deep_give_nothing(void **state)
{
    char regex[256] = "", text[256];

    (void)state;
    for (size_t i = 0; i <= TF_REDACT_DERIVED_DEPTH_MAX; i++) {
        regex[i] = '(';
    }
    strncat(regex, "abcd", sizeof regex - strlen(regex) - 1);
    for (size_t i = 0; i <= TF_REDACT_DERIVED_DEPTH_MAX; i++) {
        strncat(regex, ")", sizeof regex - strlen(regex) - 1);
    }
    derived_text(regex, text, sizeof text);
    assert_string_equal(text, "nothing");
    regex[strlen(regex) - 1] = '\0';
    derived_text(regex + 1, text, sizeof text);
    assert_string_equal(text, "0: abcd");
}

/* Whether a match, text[from..to), holds what was derived, where that says. */
static bool holds(const struct tf_redact_derived *derived, const char *text, size_t from, size_t to)
{
    for (size_t i = 0; i < derived->count; i++) {
        size_t size = strlen(derived->texts[i]);

        for (size_t at = from; at + size <= to; at++) {
            bool is = derived->fold ? strncasecmp(text + at, derived->texts[i], size) == 0
                                    : memcmp(text + at, derived->texts[i], size) == 0;

            if (is && (!derived->is_fixed || at == from + derived->lead)) {
                return true;
            }
        }
    }
    return false;
}

/* ---- files ---------------------------------------------------------------------------------- */

struct fixture {
    void *arena;
    struct tf_error err;
    struct tf_redact_rule *rules;
    size_t count;
    char folder[64];
    char paths[4][96];
    struct tf_text items[4];
    struct tf_texts own;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);

    f->arena = tf_arena_new();
    tf_error_init(&f->err);
    (void)snprintf(f->folder, sizeof f->folder, "/tmp/tf-rules-XXXXXX");
    if (mkdtemp(f->folder) == NULL) {
        return -1;
    }
    f->own = (struct tf_texts){.items = f->items};
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    for (size_t i = 0; i < f->own.count; i++) {
        (void)unlink(f->paths[i]);
    }
    (void)rmdir(f->folder);
    tf_error_fini(&f->err);
    tf_arena_free(f->arena);
    free(f);
    return 0;
}

static int parse(struct fixture *f, const char *yaml)
{
    const struct tf_redact_language_args args = {.yaml = tf_slice_text(yaml),
                                                 .file = "r.yaml",
                                                 .arena = f->arena,
                                                 .shared = tf_redact_shared_fragments()};

    tf_error_fini(&f->err);
    tf_error_init(&f->err);
    return tf_redact_language_parse(&args, &f->rules, &f->count, &f->err);
}

/* All findings as one text. */
static char *findings(const struct tf_error *err)
{
    char *text = NULL;
    size_t size = 0;
    FILE *to = open_memstream(&text, &size);

    (void)tf_error_print(err, to);
    (void)fclose(to);
    return text;
}

static void assert_found(const struct tf_error *err, const char *wanted)
{
    char *got = findings(err);

    if (strstr(got, wanted) == NULL) {
        print_error("wanted: %s\ngot: %s\n", wanted, got);
        free(got);
        fail();
    }
    free(got);
}

static void add_file(struct fixture *f, const char *yaml)
{
    size_t i = f->own.count++;
    FILE *to;

    (void)snprintf(f->paths[i], sizeof f->paths[i], "%s/%zu.yaml", f->folder, i);
    to = fopen(f->paths[i], "w");
    assert_non_null(to);
    assert_true(fputs(yaml, to) >= 0);
    assert_int_equal(fclose(to), 0);
    f->items[i] = (struct tf_text){f->paths[i], {"t.yaml", 7, 9}};
}

/* ---- language ------------------------------------------------------------------------------- */

static const char whole[] = "pack: shop\n"
                            "fragments:\n"
                            "  hex: '[0-9a-f]'\n"
                            "  long: '{{hex}}{8}'\n"
                            "rules:\n"
                            "  - id: ticket\n"
                            "    description: internal ticket\n"
                            "    regex: 'tkt_{{long}}-(${HOME}|\\d+)'\n"
                            "    keywords: [tkt_]\n"
                            "    fold: true\n"
                            "    follow: 'ab'\n"
                            "    lead: 0\n"
                            "    secret_group: 1\n"
                            "    check: basic\n"
                            "    entropy: 3.5\n"
                            "    allow: ['^{{hex}}$', x]\n"
                            "    stopwords: [example, test]\n"
                            "    keep: {first: 4, last: 2}\n"
                            "    allow_slow: true\n"
                            "    tags: [token, shop-token]\n"
                            "    off: true\n"
                            "    guessable: true\n"
                            "    examples:\n"
                            "      match: ['tkt_{{}}0123{{}}', b]\n"
                            "      no_match: \"a\\nb\"\n"
                            "  - id: shape\n"
                            "    description: d\n"
                            "    regex: '@'\n"
                            "    class: at\n"
                            "    search: line\n"
                            "    check: mod97\n"
                            "    examples: {match: '@'}\n"
                            "  - id: digits\n"
                            "    description: d\n"
                            "    regex: '\\d{9}'\n"
                            "    requires: digits(9)\n"
                            "    examples: {match: '123456789'}\n"
                            "  - id: byte\n"
                            "    description: d\n"
                            "    regex: '\\w~'\n"
                            "    requires: 'byte(~)'\n"
                            "    examples: {match: 'a~'}\n"
                            "  - id: run\n"
                            "    description: d\n"
                            "    regex: '\\w{32}'\n"
                            "    requires: token(32)\n"
                            "    examples: {match: a}\n"
                            "  - id: derived\n"
                            "    description: d\n"
                            "    regex: '(?i)..Abcd\\d'\n"
                            "    examples: {match: xxabcd1}\n"
                            "  - id: inner\n"
                            "    description: d\n"
                            "    regex: '\\d*abcd'\n"
                            "    examples: {match: abcd}\n";

static void a_rule_has_all_that_is_written(void **state)
{
    struct fixture *f = *state;
    const struct tf_redact_rule *rule;

    assert_int_equal(parse(f, whole), 0);
    assert_int_equal(f->err.errors + f->err.warnings, 0);
    assert_int_equal(f->count, 7);
    rule = &f->rules[0];
    assert_string_equal(rule->id, "ticket");
    assert_string_equal(rule->pack, "shop");
    assert_string_equal(rule->about, "internal ticket");
    assert_string_equal(rule->regex, "tkt_[0-9a-f]{8}-(${HOME}|\\d+)"); /* not the environment's */
    assert_string_equal(rule->keywords[0], "tkt_");
    assert_null(rule->keywords[1]);
    assert_int_equal(rule->flags, TF_REDACT_FOLD | TF_REDACT_OFF);
    assert_string_equal(rule->follow, "ab");
    assert_int_equal(rule->secret_group, 1);
    assert_int_equal(rule->check, TF_REDACT_BASIC);
    assert_true(rule->entropy_min > 3.4 && rule->entropy_min < 3.6);
    assert_string_equal(rule->allow[0], "^[0-9a-f]$");
    assert_string_equal(rule->allow[1], "x");
    assert_string_equal(rule->stopwords[1], "test");
    assert_int_equal(rule->keep_first, 4);
    assert_int_equal(rule->keep_last, 2);
    assert_true(rule->allow_slow && rule->guessable && rule->is_own);
    assert_string_equal(rule->tags[1], "shop-token");
    assert_string_equal(rule->match[0], "tkt_0123");
    assert_string_equal(rule->match[1], "b");
    assert_string_equal(rule->no_match[0], "a\nb");
    assert_string_equal(rule->at.file, "r.yaml");
    assert_int_equal(rule->at.line, 6);
}

static void how_a_rule_is_searched(void **state)
{
    struct fixture *f = *state;
    const struct tf_redact_rule *rules;

    assert_int_equal(parse(f, whole), 0);
    rules = f->rules;
    assert_int_equal(rules[1].class_, TF_REDACT_AT);
    assert_int_equal(rules[1].flags, TF_REDACT_LINE);
    assert_int_equal(rules[1].check, TF_REDACT_MOD97);
    assert_int_equal(rules[2].requires, TF_REDACT_REQUIRES_DIGITS);
    assert_int_equal(rules[2].requires_count, 9);
    assert_int_equal(rules[2].flags, TF_REDACT_LINE);
    assert_int_equal(rules[3].requires, TF_REDACT_REQUIRES_BYTE);
    assert_int_equal(rules[3].requires_count, '~');
    assert_int_equal(rules[4].requires, TF_REDACT_REQUIRES_TOKEN);
    assert_string_equal(rules[5].keywords[0], "abcd");
    assert_int_equal(rules[5].lead, 2);
    assert_int_equal(rules[5].flags, TF_REDACT_FOLD);
    assert_string_equal(rules[6].keywords[0], "abcd");
    assert_int_equal(rules[6].flags, TF_REDACT_LINE);
}

static void a_pack_that_ships_has_no_place(void **state)
{
    struct fixture *f = *state;
    const struct tf_redact_language_args args = {
        .yaml = tf_slice_text(whole), .file = "r.yaml", .arena = f->arena, .is_shipped = true};

    assert_int_equal(tf_redact_language_parse(&args, &f->rules, &f->count, &f->err), 0);
    assert_null(f->rules[0].at.file);
    assert_false(f->rules[0].is_own);
}

#define HEAD    "rules:\n  - id: a\n    description: d\n"
#define REGEX   "    regex: 'abcd(e)?'\n"
#define EXAMPLE "    examples: {match: abcd}\n"

static void each_mistake_has_its_place_and_mend(void **state)
{
    static const struct {
        const char *yaml, *wanted;
    } cases[] = {
        {"", "r.yaml: error: the rule file is empty; write a map"},
        {"- a\n", "r.yaml:1:1: error: the rule file is not a map; it begins with \"pack:\""},
        {"pack: x\n", "r.yaml:1:1: error: key \"rules\" is missing in the rule file"},
        {"rules: []\n", "r.yaml:1:8: error: rules: the list is empty"},
        {"rulez: []\n",
         "r.yaml:1:1: error: unknown key \"rulez\" in the rule file; nearest: \"rules\""},
        {"pack: A b\n" HEAD REGEX EXAMPLE, "r.yaml:1:7: error: pack: \"A b\" is no name of a pack"},
        {"fragments: {a: '{{b}}', b: x}\n" HEAD REGEX EXAMPLE,
         "r.yaml:1:16: error: fragments: there is no fragment {{b}} before it"},
        {HEAD "    regex: 'a{{no}}'\n" EXAMPLE,
         "r.yaml:4:12: error: rule \"a\": regex: there is no fragment {{no}} before it; add it to"},
        {HEAD "    regex: 'ab(c'\n" EXAMPLE,
         "r.yaml:4:12: error: rule \"a\": regex: missing closing parenthesis, at byte 4; mend it"},
        {"fragments: {f: '(c'}\n" HEAD "    regex: 'ab{{f}}'\n" EXAMPLE,
         "at byte 4 with its fragments put in; mend it there"},
        {HEAD "    regex: ''\n" EXAMPLE, "r.yaml:4:12: error: rule \"a\": regex: it is empty"},
        {HEAD "    regex: 'abc\\x{100}'\n" EXAMPLE, "r.yaml:4:12: error: rule \"a\": regex: "},
        {HEAD "    secret_group: 2\n" REGEX EXAMPLE,
         "r.yaml:5:12: error: rule \"a\": secret_group: the regex has no group 2; it has 1;"},
        {"rules:\n  - id: A_b\n    description: d\n" REGEX EXAMPLE,
         "r.yaml:2:9: error: rule \"A_b\": this is no id; write [a-z0-9-]{1,63}"},
        {"rules:\n  - description: d\n" REGEX EXAMPLE, "r.yaml:2:5: error: key \"id\" is missing"},
        {"rules:\n  - id: a\n" REGEX EXAMPLE, "r.yaml:2:5: error: key \"description\" is missing"},
        {HEAD EXAMPLE, "error: key \"regex\" is missing"},
        {HEAD REGEX, "error: key \"examples\" is missing"},
        {HEAD REGEX "    examples: {match: []}\n", "rules.examples.match: the list is empty"},
        {HEAD REGEX "    keywords: [ab]\n" EXAMPLE,
         "r.yaml:5:16: error: rule \"a\": keywords: \"ab\" has not 3 to 255 bytes; write more of"},
        {HEAD REGEX "    keywords: [abC]\n    fold: true\n" EXAMPLE,
         "r.yaml:5:16: error: rule \"a\": keywords: \"abC\" has capitals, and fold finds any case"},
        {HEAD REGEX "    keywords: [abcd]\n    class: card\n" EXAMPLE,
         "r.yaml:2:9: error: rule \"a\": only one of keywords, class and requires can lead to"},
        {HEAD REGEX "    follow: x\n" EXAMPLE,
         "r.yaml:5:13: error: rule \"a\": follow: there are no keywords"},
        {HEAD REGEX "    lead: 1\n" EXAMPLE, "rule \"a\": lead: there are no keywords"},
        {HEAD REGEX "    lead: 1\n    search: line\n    keywords: [abcd]\n" EXAMPLE,
         "rule \"a\": lead and search: line exclude each other; keep one"},
        {HEAD REGEX "    lead: 256\n" EXAMPLE,
         "rules.lead: \"256\" is too large; write 255 or less"},
        {HEAD REGEX "    entropy: 9\n" EXAMPLE,
         "r.yaml:5:14: error: rule \"a\": entropy: \"9\" is not 0 to 8 bits a byte"},
        {HEAD REGEX "    entropy: .\n" EXAMPLE, "entropy: \".\" is not"},
        {HEAD REGEX "    entropy: 1.2.3\n" EXAMPLE, "entropy: \"1.2.3\" is not"},
        {HEAD REGEX "    requires: digits\n" EXAMPLE,
         "r.yaml:5:15: error: rule \"a\": requires: \"digits\" is not known; write digits(9)"},
        {HEAD REGEX "    requires: digits(0)\n" EXAMPLE, "requires: \"digits(0)\" is not known"},
        {HEAD REGEX "    requires: token(65)\n" EXAMPLE, "requires: \"token(65)\" is not known"},
        {HEAD REGEX "    requires: token(9)x)\n" EXAMPLE, "requires: \"token(9)x)\" is not known"},
        {HEAD REGEX "    requires: byte()\n" EXAMPLE, "requires: \"byte()\" is not known"},
        {HEAD REGEX "    check: crc\n" EXAMPLE,
         "r.yaml:5:12: error: rules.check: \"crc\" is not one of none|luhn|mod97|basic"},
        {HEAD REGEX "    tags: [A]\n" EXAMPLE,
         "r.yaml:5:12: error: rule \"a\": tags: \"A\" is no tag"},
        {HEAD REGEX "    tags: [a, b, c, d, e, f]\n" EXAMPLE,
         "r.yaml:5:11: error: rule \"a\": tags: 6 are too many; write 5 or less"},
        {HEAD REGEX "    stopwords: [Ex]\n" EXAMPLE, "stopwords: \"Ex\" is empty or has capitals"},
        {HEAD REGEX "    allow: ['x', '(']\n" EXAMPLE,
         "r.yaml:5:18: error: rule \"a\": allow: missing closing parenthesis"},
        {HEAD REGEX "    keep: {first: 256}\n" EXAMPLE, "rules.keep.first: \"256\" is too large"},
        {HEAD REGEX "    keep: {frist: 1}\n" EXAMPLE, "unknown key \"frist\""},
        {HEAD REGEX
         "    examples: {match: [a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a,"
         " a, a, a, a]}\n",
         "examples.match: 24 are too many; write 23 or less"},
    };
    struct fixture *f = *state;

    for (size_t i = 0; i < TF_COUNT(cases); i++) {
        assert_int_equal(parse(f, cases[i].yaml), -EINVAL);
        assert_found(&f->err, cases[i].wanted);
    }
}

static void all_mistakes_are_told_in_one_run(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(parse(f,
                           "rules:\n"
                           "  - {id: A, description: d, regex: '(', entropy: x,"
                           " examples: {match: a}}\n"
                           "  - {id: sound, description: d, regex: abc, examples: {match: abc}}\n"
                           "  - {id: b, description: d, regex: 'a', stopwords: [X],"
                           " examples: {match: a}}\n"),
                     -EINVAL);
    assert_int_equal(f->err.errors, 4);
    assert_int_equal(f->count, 1);
    assert_string_equal(f->rules[0].id, "sound");
    assert_int_equal(parse(f, "rules:\n"
                              "  - {id: a, description: d, regex: abc, check: x,"
                              " examples: {match: abc}}\n"
                              "  - {id: B, description: d, regex: abc, examples: {match: abc}}\n"),
                     -EINVAL);
    assert_int_equal(f->err.errors, 2);
    assert_int_equal(f->count, 0); /* what a wrong key meant is not known */
}

/* Appends to a text that has room for it; returns how much. */
TF_PRINTF(2, 3)
static size_t put(char *to, const char *format, ...)
{
    va_list arguments;
    int size;

    va_start(arguments, format);
    size = vsnprintf(to, 4096, format, arguments);
    va_end(arguments);
    assert_true(size >= 0 && size < 4096);
    return (size_t)size;
}

static void what_is_too_large_is_refused(void **state)
{
    struct fixture *f = *state;
    size_t size = 3u << 19;
    char *yaml = malloc(size + 1), *at = yaml;

    assert_non_null(yaml);
    memset(yaml, '#', size);
    yaml[size] = '\0';
    assert_int_equal(parse(f, yaml), -EINVAL);
    assert_found(&f->err, "r.yaml: error: larger than 1048576 bytes; part it into several files");

    at += put(at, "fragments: {a: '%01000d'}\nrules:\n  - id: a\n    description: d\n    regex: '",
              0);
    for (size_t i = 0; i < 20; i++) {
        at += put(at, "{{a}}");
    }
    (void)put(at, "'\n" EXAMPLE);
    assert_int_equal(parse(f, yaml), -EINVAL);
    assert_found(&f->err, "regex: it is longer than 16384 bytes with its fragments; shorten it");

    at = yaml + put(yaml, HEAD REGEX "    examples: {match: '{{}}");
    memset(at, 'x', 17000);
    (void)put(at + 17000, "'}\n");
    assert_int_equal(parse(f, yaml), -EINVAL);
    assert_found(&f->err, "examples: one is longer than 16384 bytes; shorten it");

    at = yaml + put(yaml, "fragments:\n");
    for (size_t i = 0; i <= TF_REDACT_FRAGMENTS_MAX; i++) {
        at += put(at, "  f%zu: x\n", i);
    }
    (void)put(at, HEAD REGEX EXAMPLE);
    assert_int_equal(parse(f, yaml), -EINVAL);
    assert_found(&f->err, "fragments: 65 are too many; write 64 or less");
    free(yaml);
}

/* ---- rulesets ------------------------------------------------------------------------------- */

#define OWN(id, regex, match, more)                                                                \
    "  - {id: " id ", description: d, regex: '" regex "', examples: {match: " match "}" more "}\n"

static void own_rules_stand_before_those_that_ship(void **state)
{
    struct fixture *f = *state;
    struct tf_redact_ruleset *plain = NULL, *set = NULL;
    const struct tf_redact_rule *rules;
    size_t plain_count, count;

    add_file(f, "rules:\n" OWN("one", "tkt_\\d+", "tkt_1", ""));
    add_file(f, "rules:\n" OWN("two", "sess-\\d+", "sess-1", ", off: true"));
    assert_int_equal(tf_redact_ruleset_new(NULL, &plain, &f->err), 0);
    assert_int_equal(tf_redact_ruleset_new(&f->own, &set, &f->err), 0);
    (void)tf_redact_ruleset_rules(plain, &plain_count);
    rules = tf_redact_ruleset_rules(set, &count);
    assert_int_equal(count, plain_count + 2);
    assert_true(plain_count > 0 && count <= TF_REDACT_RULES_MAX);
    assert_string_equal(rules[0].id, "one");
    assert_string_equal(rules[0].pack, TF_REDACT_OWN_PACK);
    assert_string_equal(rules[1].id, "two");
    assert_false(rules[2].is_own);
    assert_int_equal(tf_redact_ruleset_find(set, "two"), 1);
    assert_int_equal(tf_redact_ruleset_find(set, "no-such"), -1);
    tf_redact_ruleset_free(set);
    tf_redact_ruleset_free(plain);
    tf_redact_ruleset_free(NULL);
}

static void a_wrong_own_file_makes_no_ruleset(void **state)
{
    struct fixture *f = *state;
    struct tf_redact_ruleset *set = NULL;

    add_file(f, "rules:\n" OWN("one", "tkt_\\d+", "tkt_", "")
                    OWN("aws-access-key", "abc", "abc", "") OWN("open", "(", "abc", ""));
    add_file(f, "rules:\n" OWN("one", "abc", "abc", ""));
    add_file(f, "");
    (void)unlink(f->paths[2]);
    f->items[3] = (struct tf_text){NULL, {"t.yaml", 1, 1}}; /* a mistake that was told */
    f->own.count = 4;
    assert_int_equal(tf_redact_ruleset_new(&f->own, &set, &f->err), -EINVAL);
    f->own.count = 3;
    assert_null(set);
    assert_found(&f->err,
                 "0.yaml:2:10: error: rule \"one\": match example 1 is not matched; keyword "
                 "\"tkt_\" is there, the pattern stops at byte 4; mend the rule or");
    assert_found(&f->err,
                 "0.yaml:3:10: error: rule \"aws-access-key\": a rule that ships is called so");
    assert_found(&f->err, "0.yaml:4:");
    assert_found(&f->err, "1.yaml:2:10: error: rule \"one\": this id is taken in ");
    assert_found(&f->err, "t.yaml:7:9: error: rule file ");
    assert_found(&f->err, "cannot be read: no such file or directory");
}

static void a_huge_own_file_is_refused(void **state)
{
    struct fixture *f = *state;
    struct tf_redact_ruleset *set = NULL;

    add_file(f, "rules: []\n");
    assert_int_equal(truncate(f->paths[0], TF_REDACT_FILE_MAX + 2), 0);
    assert_int_equal(tf_redact_ruleset_new(&f->own, &set, &f->err), -EINVAL);
    assert_found(&f->err, "t.yaml:7:9: error: rule file ");
    assert_found(&f->err, "is larger than 1048576 bytes; part it");
}

static void more_rules_than_an_engine_takes_are_refused(void **state)
{
    struct fixture *f = *state;
    struct tf_redact_ruleset *set = NULL;
    char *yaml = malloc(TF_REDACT_RULES_MAX * 128 + 128), *at = yaml;

    assert_non_null(yaml);
    at += put(at, "rules:\n");
    for (unsigned i = 0; i <= TF_REDACT_RULES_MAX; i++) {
        at += put(at, OWN("r%u", "abc%u", "abc%u", ""), i, i, i);
    }
    add_file(f, yaml);
    free(yaml);
    assert_int_equal(tf_redact_ruleset_new(&f->own, &set, &f->err), -EINVAL);
    assert_found(&f->err, "from here on there are more than");
}

static void a_verdict_tells_why_an_example_fails(void **state)
{
    static const struct {
        const char *rule, *wanted;
    } cases[] = {
        {OWN("a", "tkt_\\d+x", "'a tkt_12'", ""),
         "match example 1 is not matched; keyword \"tkt_\" is there, the pattern stops at byte 8"},
        {OWN("a", "tkt_\\d", "none", ""), "match example 1 is not matched; none of its keywords"},
        {OWN("a", "\\d*tkt_x", "tkt_", ""), "none of its keywords is there"},
        {OWN("a", "\\d*tkt_\\w", "tkt_", ""),
         "keyword \"tkt_\" is there, the pattern does not match"},
        {OWN("a", "\\d{4}", "abc", ""),
         "the pattern does not match, or what it found is refused by"},
        {OWN("a", "xtkt_\\d", "xtkt_1", ", keywords: [tkt_]"),
         "the pattern is there, but not at a keyword, or what it found is refused by"},
        {"  - {id: a, description: d, regex: 'tkt_\\d', examples: {match: tkt_1, no_match: [x, "
         "'a tkt_2 b']}}\n",
         "no_match example 2 is matched, bytes 2 to 7"},
    };
    struct fixture *f = *state;
    struct tf_redact_verdict verdict;
    char yaml[512];

    for (size_t i = 0; i < TF_COUNT(cases); i++) {
        (void)snprintf(yaml, sizeof yaml, "rules:\n%s", cases[i].rule);
        assert_int_equal(parse(f, yaml), 0);
        assert_int_equal(tf_redact_rule_try(&f->rules[0], &verdict), 0);
        if (strstr(verdict.text, cases[i].wanted) == NULL) {
            fail_msg("case %zu: %s", i, verdict.text);
        }
    }
    assert_int_equal(verdict.match, 1);
    assert_int_equal(verdict.no_match, 2);
    f->rules[0].regex = "(";
    assert_int_equal(tf_redact_rule_try(&f->rules[0], &verdict), -EINVAL);
    assert_non_null(strstr(verdict.text, "it is not sound: "));
}

/* ---- switching ------------------------------------------------------------------------------ */

static const char switched[] = "pack: shop\nrules:\n" OWN("a", "aaaa", "aaaa", ", tags: [token]")
    OWN("b", "bbbb", "bbbb", ", tags: [token, other]") OWN("c", "cccc", "cccc", ", off: true");

static struct tf_texts words(struct tf_text *items, const char *const *texts)
{
    struct tf_texts out = {.items = items};

    for (; texts[out.count] != NULL; out.count++) {
        items[out.count] = (struct tf_text){texts[out.count], {"t.yaml", 5, 1}};
    }
    return out;
}

static void an_id_counts_more_than_a_tag_and_that_more_than_a_pack(void **state)
{
    static const struct {
        const char *enable[4], *disable[4], *wanted; /* a, b and c */
    } cases[] = {
        {{NULL}, {NULL}, "110"},           {{"shop"}, {NULL}, "111"},
        {{NULL}, {"shop"}, "000"},         {{"a"}, {"shop"}, "100"},
        {{"shop"}, {"c"}, "110"},          {{"token"}, {"shop"}, "110"},
        {{"shop"}, {"token"}, "001"},      {{"b", "c"}, {"token"}, "011"},
        {{"other"}, {"shop", "b"}, "000"},
    };
    struct fixture *f = *state;
    struct tf_redact_ruleset *set = NULL;
    bool on[TF_REDACT_RULES_MAX];
    struct tf_text items[2][4];

    add_file(f, switched);
    assert_int_equal(tf_redact_ruleset_new(&f->own, &set, &f->err), 0);
    for (size_t i = 0; i < TF_COUNT(cases); i++) {
        struct tf_texts enable = words(items[0], cases[i].enable);
        struct tf_texts disable = words(items[1], cases[i].disable);

        assert_int_equal(tf_redact_ruleset_switch(set, &enable, &disable, on, &f->err), 0);
        for (size_t j = 0; j < 3; j++) {
            if (on[j] != (cases[i].wanted[j] == '1')) {
                fail_msg("case %zu, rule %zu", i, j);
            }
        }
    }
    assert_int_equal(tf_redact_ruleset_switch(set, NULL, NULL, on, &f->err), 0);
    tf_redact_ruleset_free(set);
}

static void words_that_name_nothing_are_refused(void **state)
{
    static const char *const wrong[] = {"aws-access-kex", "zz", NULL};
    static const char *const both[] = {"a", "shop", NULL}, *const again[] = {"shop", NULL};
    struct fixture *f = *state;
    struct tf_redact_ruleset *set = NULL;
    bool on[TF_REDACT_RULES_MAX];
    struct tf_text items[2][4], untold = {.text = NULL};
    struct tf_texts enable = words(items[0], wrong), disable = words(items[1], wrong);

    add_file(f, switched);
    assert_int_equal(tf_redact_ruleset_new(&f->own, &set, &f->err), 0);
    assert_int_equal(tf_redact_ruleset_switch(set, &enable, &disable, on, &f->err), -EINVAL);
    assert_int_equal(f->err.errors, 4);
    assert_found(&f->err, "t.yaml:5:1: error: \"aws-access-kex\" is no rule, pack or tag; nearest: "
                          "\"aws-access-key\"; \"taffrail rules list\" shows all");
    assert_found(&f->err, "\"zz\" is no rule, pack or tag; \"taffrail rules list\" shows all");
    enable = words(items[0], both);
    disable = words(items[1], again);
    assert_int_equal(tf_redact_ruleset_switch(set, &enable, &disable, on, &f->err), -EINVAL);
    assert_found(&f->err, "\"shop\" is in enable and in disable; take it out of one");
    assert_int_equal(tf_redact_ruleset_check_word(set, &untold, &f->err), -EINVAL);
    assert_int_equal(f->err.errors, 5);
    tf_redact_ruleset_free(set);
}

/* ---- cost ----------------------------------------------------------------------------------- */

static void the_sample_is_always_the_same(void **state)
{
    struct tf_redact_sample a = tf_redact_sample_new(), b = tf_redact_sample_new();

    (void)state;
    assert_true(a.size >= 65536 && a.lines > 100 && a.text[a.size - 1] == '\n');
    assert_int_equal(a.size, b.size);
    assert_memory_equal(a.text, b.text, a.size);
    free(a.text);
    free(b.text);
}

static void own_rules_keep_to_their_budget(void **state)
{
    struct fixture *f = *state;
    struct tf_redact_ruleset *set = NULL;
    double sum_ns;

    add_file(f, "rules:\n" OWN("cheap", "tkt_\\d+", "tkt_1", ""));
    add_file(f, "rules:\n" OWN("slow", "[a-z][a-z0-9_.-]{0,50}?[!|^]", "a1!", ""));
    f->own.count = 1;
    assert_int_equal(tf_redact_ruleset_new(&f->own, &set, &f->err), 0);
    assert_int_equal(tf_redact_ruleset_check_cost(set, NULL, 100000, &sum_ns, &f->err), 0);
    tf_redact_ruleset_free(set);
    f->own.count = 2;
    assert_int_equal(tf_redact_ruleset_new(&f->own, &set, &f->err), 0);
    assert_int_equal(f->err.errors + f->err.warnings, 0);
    assert_int_equal(tf_redact_ruleset_check_cost(set, NULL, 1, &sum_ns, &f->err), -EINVAL);
    assert_found(&f->err, "1.yaml:2:10: error: rule \"slow\" costs ");
    assert_found(&f->err, "ns a line of ordinary logs, all own rules ");
    tf_redact_ruleset_free(set);
}

/* It costs nothing on ordinary lines, and seconds on a bad one. */
static void a_rule_that_a_bad_text_makes_dear_is_refused(void **state)
{
    struct fixture *f = *state;
    struct tf_redact_ruleset *set = NULL;
    double sum_ns;

    add_file(f, "rules:\n" OWN("evil", "x[a-z]{0,2000}[0-9]{0,3}[a-z]{0,2000}=[0-9]+secret",
                               "xabc=12secret", ", requires: 'byte(=)'"));
    assert_int_equal(tf_redact_ruleset_new(&f->own, &set, &f->err), 0);
    assert_int_equal(tf_redact_ruleset_check_cost(set, NULL, 1000000, &sum_ns, &f->err), -EINVAL);
    assert_found(&f->err, "0.yaml:2:10: error: rule \"evil\" costs ");
    assert_found(&f->err, "ns a byte of a text that nearly matches, and 1000 are allowed");
    tf_redact_ruleset_free(set);
}

static void a_slow_rule_may_be_allowed_or_off(void **state)
{
    struct fixture *f = *state;
    struct tf_redact_ruleset *set = NULL;
    double sum_ns;

    add_file(f, "rules:\n" OWN("slow", "[a-z][a-z0-9_.-]{0,50}?[!|^]", "a1!", ", allow_slow: true")
                    OWN("off", "[a-z][a-z0-9_.-]{0,50}?[!|^]", "a1!", ", off: true"));
    assert_int_equal(tf_redact_ruleset_new(&f->own, &set, &f->err), 0);
    assert_int_equal(tf_redact_ruleset_check_cost(set, NULL, 1, &sum_ns, &f->err), 0);
    assert_true(sum_ns > 1);
    assert_int_equal(f->err.warnings, 1);
    assert_found(&f->err, "0.yaml:2:10: warning: rule \"slow\" costs ");
    tf_redact_ruleset_free(set);
}

/* The rules in docs/rules.md, a block in YAML, do as they say. */
static void the_documentation_is_right(void **state)
{
    struct fixture *f = *state;
    struct tf_redact_verdict verdict;
    struct tf_buf text;
    char *from, *to;

    tf_buf_init(&text, 1u << 20);
    assert_int_equal(tf_config_read_file(TF_SOURCE_DIR "/docs/rules.md", &text), 0);
    assert_int_equal(tf_buf_append_byte(&text, 0), 0);
    from = strstr(text.data, "```yaml\n");
    assert_non_null(from);
    to = strstr(from + 8, "```");
    assert_non_null(to);
    *to = '\0';
    if (parse(f, from + 8) < 0) {
        (void)tf_error_print(&f->err, stderr);
    }
    tf_buf_fini(&text);
    assert_int_equal(f->count, 5);
    for (size_t i = 0; i < f->count; i++) {
        assert_int_equal(tf_redact_rule_try(&f->rules[i], &verdict), 0);
        assert_string_equal(verdict.text, "");
    }
}

static int parse_shared(struct fixture *f, const char *shared, const char *yaml)
{
    const struct tf_redact_language_args args = {.yaml = tf_slice_text(yaml),
                                                 .file = "r.yaml",
                                                 .arena = f->arena,
                                                 .shared = tf_slice_text(shared)};

    tf_error_fini(&f->err);
    tf_error_init(&f->err);
    return tf_redact_language_parse(&args, &f->rules, &f->count, &f->err);
}

static void fragments_may_be_shared(void **state)
{
    static const char yaml[] = "fragments: {b: '{{a}}2', c: new}\nrules:\n"
                               "  - {id: x, description: d, regex: 'abc{{a}}{{b}}{{c}}',\n"
                               "     examples: {match: [abc112new]}}\n";
    struct fixture *f = *state;

    assert_int_equal(parse_shared(f, "fragments: {a: '1', c: old}\n", yaml), 0);
    assert_string_equal(f->rules[0].regex, "abc112new");
    assert_int_equal(parse_shared(f, "", yaml), -EINVAL);
    assert_found(&f->err, "r.yaml:1:16: error: fragments: there is no fragment {{a}} before it");
    assert_int_equal(parse_shared(f, "fragments: {a: '1'}\nrules: []\n", yaml), -EINVAL);
    assert_found(&f->err, "fragments.yaml:2:1: error");
}

/* ---- the rules that ship -------------------------------------------------------------------- */

/* Not as it ships: then all is checked. */
static void every_pack_is_sound(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(tf_redact_packs_count, 9);
    for (size_t i = 0; i < tf_redact_packs_count; i++) {
        const struct tf_redact_language_args args = {
            .yaml = tf_slice(tf_redact_packs[i].bytes, tf_redact_packs[i].size),
            .file = tf_redact_packs[i].file,
            .arena = f->arena,
            .shared = tf_redact_shared_fragments()};
        int rc = tf_redact_language_parse(&args, &f->rules, &f->count, &f->err);

        if (rc < 0) {
            (void)tf_error_print(&f->err, stderr);
        }
        assert_int_equal(rc, 0);
        assert_true(f->count > 0);
        for (size_t j = 0; j < f->count; j++) {
            char name[96];

            (void)snprintf(name, sizeof name, "conf/rules/%s.yaml", f->rules[j].pack);
            assert_string_equal(name, tf_redact_packs[i].file);
        }
    }
}

static void every_rule_that_ships_keeps_its_examples(void **state)
{
    struct fixture *f = *state;
    struct tf_redact_ruleset *set = NULL;
    const struct tf_redact_rule *rules;
    struct tf_redact_verdict verdict;
    size_t count, failed = 0;

    assert_int_equal(tf_redact_ruleset_new(NULL, &set, &f->err), 0);
    rules = tf_redact_ruleset_rules(set, &count);
    assert_true(count >= 220);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(tf_redact_rule_try(&rules[i], &verdict), 0);
        if (verdict.text[0] != '\0' || verdict.match < 2 || verdict.no_match < 1) {
            print_error("%s: %s (%u match, %u no_match)\n", rules[i].id, verdict.text,
                        verdict.match, verdict.no_match);
            failed++;
        }
    }
    assert_int_equal(failed, 0);
    tf_redact_ruleset_free(set);
}

/* Of each match in an example, what is derived from the regex must be true. */
static void check_derived(const struct tf_redact_rule *rule, const char *text)
{
    struct tf_redact_derived derived;
    PCRE2_SIZE offset;
    int reason;
    pcre2_code *code =
        pcre2_compile((PCRE2_SPTR)rule->regex, PCRE2_ZERO_TERMINATED,
                      PCRE2_DOLLAR_ENDONLY | PCRE2_NEVER_UTF, &reason, &offset, NULL);
    pcre2_match_data *data;

    assert_non_null(code);
    data = pcre2_match_data_create_from_pattern(code, NULL);
    tf_redact_derive(rule->regex, &derived);
    if (pcre2_match(code, (PCRE2_SPTR)text, strlen(text), 0, 0, data, NULL) > 0) {
        const PCRE2_SIZE *ends = pcre2_get_ovector_pointer(data);

        if (derived.count > 0 && !holds(&derived, text, ends[0], ends[1])) {
            fail_msg("%s: derived \"%s\"..., not in its match", rule->id, derived.texts[0]);
        }
    }
    pcre2_match_data_free(data);
    pcre2_code_free(code);
}

static void what_is_derived_stands_in_every_match(void **state)
{
    struct fixture *f = *state;
    struct tf_redact_ruleset *set = NULL;
    const struct tf_redact_rule *rules;
    size_t count;

    assert_int_equal(tf_redact_ruleset_new(NULL, &set, &f->err), 0);
    rules = tf_redact_ruleset_rules(set, &count);
    for (size_t i = 0; i < count; i++) {
        for (size_t j = 0; rules[i].match[j] != NULL; j++) {
            check_derived(&rules[i], rules[i].match[j]);
        }
        for (size_t j = 0; rules[i].no_match[j] != NULL; j++) {
            check_derived(&rules[i], rules[i].no_match[j]);
        }
    }
    tf_redact_ruleset_free(set);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(literals_are_derived_from_a_regex),
        cmocka_unit_test(groups_too_deep_give_nothing),
        cmocka_unit_test_setup_teardown(a_rule_has_all_that_is_written, setup, teardown),
        cmocka_unit_test_setup_teardown(how_a_rule_is_searched, setup, teardown),
        cmocka_unit_test_setup_teardown(a_pack_that_ships_has_no_place, setup, teardown),
        cmocka_unit_test_setup_teardown(each_mistake_has_its_place_and_mend, setup, teardown),
        cmocka_unit_test_setup_teardown(all_mistakes_are_told_in_one_run, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_too_large_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(own_rules_stand_before_those_that_ship, setup, teardown),
        cmocka_unit_test_setup_teardown(a_wrong_own_file_makes_no_ruleset, setup, teardown),
        cmocka_unit_test_setup_teardown(a_huge_own_file_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(more_rules_than_an_engine_takes_are_refused, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_verdict_tells_why_an_example_fails, setup, teardown),
        cmocka_unit_test_setup_teardown(an_id_counts_more_than_a_tag_and_that_more_than_a_pack,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(words_that_name_nothing_are_refused, setup, teardown),
        cmocka_unit_test(the_sample_is_always_the_same),
        cmocka_unit_test_setup_teardown(own_rules_keep_to_their_budget, setup, teardown),
        cmocka_unit_test_setup_teardown(a_rule_that_a_bad_text_makes_dear_is_refused, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_slow_rule_may_be_allowed_or_off, setup, teardown),
        cmocka_unit_test_setup_teardown(the_documentation_is_right, setup, teardown),
        cmocka_unit_test_setup_teardown(fragments_may_be_shared, setup, teardown),
        cmocka_unit_test_setup_teardown(every_pack_is_sound, setup, teardown),
        cmocka_unit_test_setup_teardown(every_rule_that_ships_keeps_its_examples, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_derived_stands_in_every_match, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
