/*
 * gitleaks.c - the rules of gitleaks (its version 8) in the language of language.c.
 *
 *     1. the file: toml.c; keys in any case, as gitleaks reads them
 *     2. allowlists: gitleaks_allow.c
 *     3. each rule: its regex by re2.c, what is masked, what leads to it
 *     4. an example by re2_match.c: the rule is read as language.c reads it and tried on it; only a
 *        rule that finds its example is written
 *
 * Where the two differ, the translation errs on the side of masking: what makes a rule find less is
 * left out when it cannot be said here, and that is told. Nothing of the TOML gets into the YAML
 * but in quotes, or as a word of [a-z0-9-].
 */
#include "gitleaks.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>

#include "../derive.h"
#include "../engine.h"
#include "gitleaks_allow.h"
#include "../language.h"
#include "re2_match.h"
#include "../ruleset.h"
#include "taffrail/config.h"

#define WORD_BYTES    (TF_REDACT_NAME_MAX + 1)
#define ID_PREFIX     "gitleaks-"
#define WORDS_MAX     256u /* of a rule's keywords, only so many are looked at */
#define KEYWORD_MAX   255u
#define ATTEMPTS      16u  /* at an example */
#define TOKEN_LEAST   8u   /* a shorter run is in every text */
#define DIGITS_LEAST  4u   /* and so is one of fewer digits */
#define RUN_MOST      32u  /* the scan looks for no longer one */
#define ENTROPY_LEAST 0.01 /* bits a byte; less is none */
#define ENTROPY_MOST  8.0
#define HEAD_MAX      (4u * TF_REDACT_REGEX_MAX)
#define ABOUT                                                                                      \
    "# Made from a rule file of gitleaks by taffrail rules import (docs/rules.md).\n"              \
    "# The examples are made up: each is a text that its rule finds, not a secret.\n"

struct importer {
    const struct tf_redact_gitleaks_args *args;
    struct tf_gitleaks_job job;
    struct tf_gitleaks_scope scope;
    const struct tf_toml *root;
    struct tf_gitleaks_allowlist *allowlists; /* of the file */
    bool has_fragment;
    struct tf_gitleaks_list ids; /* of what is written */
    struct tf_buf head, *yaml;
};

/* A rule being translated. */
struct rule {
    struct importer *importer;
    struct tf_gitleaks_scope scope;
    const struct tf_toml *table;
    char who[WORD_BYTES + 16];
    char id[WORD_BYTES];
    struct tf_redact_re2 re2;
    enum tf_redact_re2_secret secret;
    const char *regex;
    const char *word;   /* a text must hold it, or another keyword, beside a match; or NULL */
    struct tf_buf text; /* its YAML, without examples */
    bool failed;
};

static const char *const file_keys[] = {"title", "description", "minversion", "extend",
                                        "rules", "allowlist",   "allowlists", NULL};
static const char *const extend_keys[] = {"usedefault", "path", "url", "disabledrules", NULL};
static const char *const rule_keys[] = {
    "id",   "description", "regex",      "path",      "entropy",    "secretgroup", "keywords",
    "tags", "required",    "skipreport", "allowlist", "allowlists", NULL};

/* The same of what makes that the rule cannot be taken. */
TF_PRINTF(3, 4)
static void leave_out(struct rule *rule, const struct tf_place *at, const char *format, ...)
{
    char text[512];
    va_list arguments;

    va_start(arguments, format);
    (void)vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    tf_gitleaks_tell(&rule->scope, at, "it is left out: %s", text);
    rule->failed = true;
}

/* ---- ids ------------------------------------------------------------------------------------ */

/* Makes an id or a tag of a text: letters and digits, in lower case, the rest as one dash. */
static void make_word(const char *text, char word[WORD_BYTES])
{
    size_t size = 0;

    for (; *text != '\0' && size < WORD_BYTES - 1; text++) {
        if (isalnum((unsigned char)*text)) {
            word[size++] = (char)tolower((unsigned char)*text);
        } else if (size > 0 && word[size - 1] != '-') {
            word[size++] = '-';
        }
    }
    size -= size > 0 && word[size - 1] == '-' ? 1 : 0;
    word[size] = '\0';
}

static bool is_shipped(const struct importer *importer, const char *id)
{
    bool is = false;

    for (size_t i = 0; i < importer->args->taken_count; i++) {
        is |= strcmp(importer->args->taken[i].id, id) == 0;
    }
    return is;
}

static bool is_taken(const struct importer *importer, const char *id)
{
    bool is = is_shipped(importer, id);

    for (const struct tf_gitleaks_item *item = importer->ids.first; item != NULL;
         item = item->next) {
        is |= strcmp(item->text, id) == 0;
    }
    return is;
}

/* The rule's id: its own, made a word; where that is taken, with a prefix, then with a number. */
static void make_id(struct rule *rule, const char *written)
{
    char word[WORD_BYTES], base[WORD_BYTES];
    unsigned number = 1;
    bool is_prefixed;

    make_word(written, word);
    if (word[0] == '\0' || strcmp(word, "null") == 0) { /* null is no text in YAML */
        memcpy(word, "rule", sizeof "rule");
    }
    is_prefixed = is_shipped(rule->importer, word);
    (void)snprintf(base, sizeof base, "%s%.*s", is_prefixed ? ID_PREFIX : "",
                   (int)(sizeof base - (is_prefixed ? sizeof ID_PREFIX : 1)), word);
    memcpy(rule->id, base, sizeof base);
    while (is_taken(rule->importer, rule->id)) { /* there are less than 1000 rules */
        (void)snprintf(rule->id, sizeof rule->id, "%.*s-%u", (int)sizeof base - 6, base, ++number);
    }
}

/* ---- the regex ------------------------------------------------------------------------------ */

/* Makes the secret of the tree what it is to gitleaks. */
static void choose_secret(struct rule *rule, const struct tf_toml *regex)
{
    const struct tf_toml *group =
        tf_gitleaks_get_typed(&rule->scope, rule->table, "secretgroup", TF_TOML_INTEGER);
    int64_t number = group != NULL ? group->integer : 0;

    if (number < 0 || number > rule->re2.groups) {
        leave_out(rule, &group->at, "secretGroup: the regex has no group %lld; write one up to %u",
                  (long long)number, rule->re2.groups);
        return;
    }
    rule->secret = tf_redact_re2_choose(&rule->re2, (unsigned)number);
    if (rule->secret == TF_REDACT_RE2_UNCLEAR) {
        tf_gitleaks_tell(
            &rule->scope, &regex->at,
            "regex: any of some groups may hold the secret, so the whole match is masked, whatever "
            "entropy and allowlists say; write secretGroup to mask one");
    }
}

static void tell_approximate(const struct rule *rule, const struct tf_toml *regex)
{
    if (rule->re2.has_wide) {
        tf_gitleaks_tell(
            &rule->scope, &regex->at,
            "regex: a class with characters beyond ASCII is taken to have all of these, so it may "
            "find more; write the class out if that is too much");
    }
    if (rule->re2.has_unicode) {
        tf_gitleaks_tell(
            &rule->scope, &regex->at,
            "regex: \\p looks at single bytes here, so beyond ASCII it finds other characters; "
            "write the class out if these are needed");
    }
}

/* The tree as PCRE2. */
static void write_regex(struct rule *rule, const struct tf_toml *value)
{
    struct tf_buf regex;
    char reason[128];
    int rc;

    tf_buf_init(&regex, TF_REDACT_REGEX_MAX);
    rc = tf_redact_re2_write(&rule->re2, &regex);
    if (rc == -EMSGSIZE) {
        leave_out(rule, &value->at, "regex: it is longer than %u bytes; part it",
                  TF_REDACT_REGEX_MAX);
    } else if (rc == 0 && (regex.size == 0 || !tf_gitleaks_compiles(&regex, reason))) {
        leave_out(rule, &value->at, "regex: PCRE2 says: %s; write it by hand for PCRE2",
                  regex.size == 0 ? "it is empty" : reason);
    } else {
        rule->regex = tf_gitleaks_keep(&rule->scope, &regex);
        tell_approximate(rule, value);
    }
    tf_buf_fini(&regex);
}

static void read_regex(struct rule *rule, const struct tf_toml *value)
{
    struct tf_redact_re2_error error;
    int rc = tf_redact_re2_parse(value->text, rule->scope.arena, &rule->re2, &error);

    if (rc == -EINVAL) {
        leave_out(rule, &value->at, "regex: %s, at byte %zu; write it by hand for PCRE2",
                  error.what, error.at);
        return;
    }
    rule->importer->job.no_memory |= rc == -ENOMEM;
    if (rc == 0) {
        choose_secret(rule, value);
    }
    if (rc == 0 && !rule->failed) {
        write_regex(rule, value);
    }
}

/* ---- what leads to a match ------------------------------------------------------------------ */

/* gitleaks' keywords, in lower case; some text of a file holds one. */
struct words {
    const char *items[WORDS_MAX];
    size_t count;
};

static void read_words(struct rule *rule, struct words *words)
{
    const struct tf_toml *item = tf_gitleaks_first_text(&rule->scope, rule->table, "keywords");

    for (; item != NULL; item = tf_gitleaks_next_text(&rule->scope, item)) {
        if (words->count == WORDS_MAX) {
            tf_gitleaks_tell(&rule->scope, &item->at,
                             "keywords: only the first %u are looked at; take out what "
                             "the others hold too",
                             WORDS_MAX);
            return;
        }
        words->items[words->count] = tf_gitleaks_keep_lower(&rule->scope, item->text);
        words->count += words->items[words->count] != NULL ? 1 : 0;
    }
}

/* Whether each of the derived texts holds one of the words. */
static bool derived_hold(const struct tf_redact_derived *derived, const struct words *words)
{
    bool all = true;

    for (size_t i = 0; i < derived->count && all; i++) {
        bool one = false;

        for (size_t j = 0; j < words->count && !one; j++) {
            one = strcasestr(derived->texts[i], words->items[j]) != NULL;
        }
        all = one;
    }
    return all && derived->count > 0;
}

/* Whether all of them can be keywords here. */
static bool are_usable(const struct words *words)
{
    bool are = words->count > 0 && words->count < TF_REDACT_KEYWORDS_MAX;

    for (size_t i = 0; i < words->count && are; i++) {
        size_t size = strlen(words->items[i]);

        are = size >= TF_REDACT_DERIVED_LEAST && size <= KEYWORD_MAX;
    }
    return are;
}

/* Keeps those that can be. */
static void keep_usable(struct words *words)
{
    size_t kept = 0;

    for (size_t i = 0; i < words->count && kept < TF_REDACT_KEYWORDS_MAX - 1; i++) {
        size_t size = strlen(words->items[i]);

        if (size >= TF_REDACT_DERIVED_LEAST && size <= KEYWORD_MAX) {
            words->items[kept++] = words->items[i];
        }
    }
    words->count = kept;
}

static void write_words(struct rule *rule, const struct words *words)
{
    (void)tf_buf_append_text(&rule->text, "    keywords:\n");
    for (size_t i = 0; i < words->count; i++) {
        tf_gitleaks_put_item(&rule->text, "      ", words->items[i]);
    }
    (void)tf_buf_append_text(&rule->text, "    fold: true\n    search: line\n");
}

/* What a text must hold, where no keyword leads to a match. */
static void write_requires(struct rule *rule, const struct tf_place *at, bool has_words)
{
    size_t digits = tf_redact_re2_run(rule->re2.root, TF_REDACT_RE2_DIGITS);
    size_t token = tf_redact_re2_run(rule->re2.root, TF_REDACT_RE2_TOKEN);
    bool by_digits = digits >= DIGITS_LEAST;
    size_t run = by_digits ? digits : token;

    run = run < RUN_MOST ? run : RUN_MOST;
    if (!by_digits && run < TOKEN_LEAST) {
        (void)tf_buf_append_text(&rule->text, "    allow_slow: true\n");
        tf_gitleaks_tell(
            &rule->scope, at,
            "nothing in its regex leads to a match, so it is tried on every text, however long "
            "that takes (allow_slow); give it keywords or requires, or disable it");
        return;
    }
    (void)tf_buf_printf(&rule->text, "    requires: %s(%zu)\n", by_digits ? "digits" : "token",
                        run);
    if (has_words) {
        tf_gitleaks_tell(
            &rule->scope, at,
            "keywords: a match need not hold one of 3 bytes or more, so they are left out, and it "
            "finds more; write them with search: line to find it only in a text that holds one");
    }
}

static void write_lead(struct rule *rule)
{
    const struct tf_toml *keywords = tf_gitleaks_get(rule->table, "keywords");
    const struct tf_place *at = keywords != NULL ? &keywords->key_at : &rule->table->at;
    struct tf_redact_derived derived;
    struct words words = {.count = 0};
    bool has_words, holds;

    read_words(rule, &words);
    has_words = words.count > 0;
    tf_redact_derive(rule->regex, &derived);
    holds = derived_hold(&derived, &words) ||
            tf_redact_re2_holds(rule->re2.root, words.items, words.count);
    if (derived.count > 0) {
        if (has_words && !holds) {
            tf_gitleaks_tell(
                &rule->scope, at,
                "keywords: a match need not hold one, so they are left out, and it finds more; "
                "write them with search: line to find it only in a text that holds one");
        }
        return;
    }
    if (are_usable(&words)) { /* as there: a text must hold one, wherever */
        write_words(rule, &words);
        rule->word = words.items[0];
        return;
    }
    keep_usable(&words);
    if (tf_redact_re2_holds(rule->re2.root, words.items, words.count)) {
        write_words(rule, &words);
    } else {
        write_requires(rule, at, has_words);
    }
}

/* ---- the rest of a rule --------------------------------------------------------------------- */

static void write_entropy(struct rule *rule)
{
    const struct tf_toml *value =
        tf_gitleaks_get_typed(&rule->scope, rule->table, "entropy", TF_TOML_FLOAT);

    if (value == NULL || value->number < ENTROPY_LEAST) {
        return;
    }
    if (value->number > ENTROPY_MOST) {
        leave_out(rule, &value->at,
                  "entropy: a byte has 8 bits at most, so it finds nothing; write 3.5 or so");
        return;
    }
    (void)tf_buf_printf(&rule->text, "    entropy: %.4g\n", value->number);
}

static void write_tags(struct rule *rule)
{
    struct tf_gitleaks_list tags = {.count = 0};
    char word[WORD_BYTES];

    for (const struct tf_toml *item = tf_gitleaks_first_text(&rule->scope, rule->table, "tags");
         item != NULL; item = tf_gitleaks_next_text(&rule->scope, item)) {
        make_word(item->text, word);
        if (word[0] == '\0' || tags.count == TF_REDACT_TAGS_MAX - 1) {
            tf_gitleaks_tell(
                &rule->scope, &item->at,
                "tags: \"%.*s\" is left out: a rule has %u at most, of [a-z0-9-]; take out what "
                "switches nothing",
                TF_GITLEAKS_QUOTE_MAX, item->text, TF_REDACT_TAGS_MAX - 1);
            continue;
        }
        if (strcmp(word, item->text) != 0) {
            tf_gitleaks_tell(&rule->scope, &item->at,
                             "tags: \"%.*s\" becomes \"%s\"; name it so in enable and disable",
                             TF_GITLEAKS_QUOTE_MAX, item->text, word);
        }
        tf_gitleaks_append(&rule->scope, &tags, tf_gitleaks_keep_lower(&rule->scope, word));
    }
    tf_gitleaks_put_list(&rule->text, "tags", &tags);
}

/* Keys that mean nothing here, and one that means that gitleaks tells nothing. */
static void pass_others(struct rule *rule)
{
    const struct tf_toml *path = tf_gitleaks_get(rule->table, "path"),
                         *required = tf_gitleaks_get(rule->table, "required");
    const struct tf_toml *skip =
        tf_gitleaks_get_typed(&rule->scope, rule->table, "skipreport", TF_TOML_BOOLEAN);

    if (path != NULL) {
        tf_gitleaks_tell(&rule->scope, &path->key_at,
                         "path: a log has none, so the rule looks at every text; "
                         "disable it if that finds too much");
    }
    if (required != NULL) {
        tf_gitleaks_tell(
            &rule->scope, &required->key_at,
            "required: rules stand alone here, so it finds more; disable it if that is too much");
    }
    if (skip != NULL && skip->truth) {
        leave_out(rule, &skip->key_at,
                  "skipReport: gitleaks does not report what it finds; take "
                  "the key out to have it masked");
    }
}

static void write_allowed(struct rule *rule)
{
    const struct importer *importer = rule->importer;
    const struct tf_gitleaks_allow_args args = {
        .own = tf_gitleaks_allow_read(&rule->scope, rule->table),
        .of_file = importer->allowlists,
        .has_fragment = importer->has_fragment,
        .id = tf_gitleaks_get(rule->table, "id")->text,
        .is_whole = rule->secret == TF_REDACT_RE2_WHOLE,
        .at = rule->table->at};

    tf_gitleaks_allow_write(&rule->scope, &args, &rule->text);
}

/* All but the examples. */
static void write_rule(struct rule *rule)
{
    const struct tf_toml *about = tf_gitleaks_get_text(&rule->scope, rule->table, "description");

    (void)tf_buf_printf(&rule->text, "  - id: %s\n", rule->id);
    tf_gitleaks_put_key(&rule->text, "description", about != NULL ? about->text : rule->id);
    tf_gitleaks_put_key(&rule->text, "regex", rule->regex);
    write_lead(rule);
    if (rule->secret == TF_REDACT_RE2_GROUP_1) {
        (void)tf_buf_append_text(&rule->text, "    secret_group: 1\n");
    }
    if (rule->secret != TF_REDACT_RE2_UNCLEAR) {
        write_entropy(rule);
        write_allowed(rule);
    }
    write_tags(rule);
}

/* ---- examples ------------------------------------------------------------------------------- */

/* A part of an example, in which {{}} is nothing: what is there and reads so gets one inside. */
static void append_part(struct tf_buf *to, const char *text, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        bool is_mark = size - i >= 4 && memcmp(text + i, "{{}}", 4) == 0;

        (void)tf_buf_append_text(to, is_mark ? "{{{}}{}}" : "");
        if (is_mark) {
            i += 3;
        } else {
            (void)tf_buf_append_byte(to, (uint8_t)text[i]);
        }
    }
}

/* The rule with an example, parted in its middle, so that no scanner takes it for a secret. */
static void append_example(struct tf_buf *to, const struct tf_buf *text)
{
    size_t middle = text->size / 2;
    struct tf_buf parted;

    while (middle > 0 && ((uint8_t)text->data[middle] & 0xc0) == 0x80) {
        middle--; /* not within a character */
    }
    tf_buf_init(&parted, 2 * TF_REDACT_RE2_EXAMPLE_MAX + 16);
    append_part(&parted, text->data, middle);
    (void)tf_buf_append_text(&parted, "{{}}");
    append_part(&parted, text->data + middle, text->size - middle);
    (void)tf_buf_append_byte(&parted, '\0');
    (void)tf_buf_append_text(to, "    examples:\n      match:\n");
    if (parted.error == 0) {
        tf_gitleaks_put_item(to, "        ", parted.data);
    }
    tf_buf_fini(&parted);
}

/* Whether the file, with one rule, is taken and finds its example. Returns 1, 0 or -ENOMEM. */
static int try_file(const struct tf_buf *yaml)
{
    struct tf_redact_language_args args = {
        .yaml = tf_buf_slice(yaml), .file = "rule", .arena = tf_arena_new()};
    struct tf_redact_verdict verdict;
    struct tf_redact_rule *rules;
    struct tf_error err;
    size_t count = 0;
    int rc = -ENOMEM;

    tf_error_init(&err);
    if (args.arena != NULL) {
        rc = tf_redact_language_parse(&args, &rules, &count, &err);
    }
    if (rc == 0 && count == 1) {
        rc = tf_redact_rule_try(&rules[0], &verdict);
        rc = rc == 0 && verdict.text[0] == '\0' ? 1 : rc;
    }
    tf_error_fini(&err);
    tf_arena_free(args.arena);
    return rc == -EINVAL ? 0 : rc;
}

/* Appends an example that the rule finds. Returns as try_file. */
static int add_example(struct rule *rule)
{
    struct tf_buf example, file;
    int rc = 0;

    tf_buf_init(&example, TF_REDACT_RE2_EXAMPLE_MAX);
    tf_buf_init(&file, TF_REDACT_FILE_MAX);
    for (unsigned i = 0; rc == 0 && i < ATTEMPTS; i++) {
        tf_buf_clear(&example);
        tf_buf_clear(&file);
        if (!tf_redact_re2_example(rule->re2.root, i, &example) || example.size == 0) {
            continue;
        }
        if (rule->word != NULL) {
            (void)tf_buf_printf(&example, " %s", rule->word);
        }
        (void)tf_buf_append(&file, rule->importer->head.data, rule->importer->head.size);
        (void)tf_buf_append(&file, rule->text.data, rule->text.size);
        append_example(&file, &example);
        rc = file.error == -ENOMEM ? -ENOMEM : file.error < 0 ? 0 : try_file(&file);
    }
    if (rc == 1) {
        append_example(&rule->text, &example);
    }
    tf_buf_fini(&file);
    tf_buf_fini(&example);
    return rc;
}

/* ---- the file ------------------------------------------------------------------------------- */

static void tell_id(const struct rule *rule, const struct tf_toml *id)
{
    if (strcmp(rule->id, id->text) != 0) {
        tf_gitleaks_tell(
            &rule->scope, &id->at,
            "its id becomes \"%s\": ids are of [a-z0-9-], and no two rules have the same; name it "
            "so in enable, disable and modes",
            rule->id);
    }
}

/* Puts a finished rule into the file. */
static void add_rule(struct rule *rule, const struct tf_toml *id)
{
    struct importer *importer = rule->importer;
    int rc = add_example(rule);

    if (rc == 0) {
        leave_out(rule, &rule->table->at,
                  "no text could be made that it finds, and a rule needs an example; write it by "
                  "hand with one");
    }
    importer->job.no_memory |= rc < 0 || rule->text.error == -ENOMEM;
    if (rc != 1 || importer->job.no_memory) {
        return;
    }
    if (rule->text.error < 0 || importer->yaml->size + rule->text.size > TF_REDACT_FILE_MAX) {
        leave_out(rule, &rule->table->at, "a rule file has %u bytes at most; import it alone",
                  TF_REDACT_FILE_MAX);
        return;
    }
    (void)tf_buf_append(importer->yaml, rule->text.data, rule->text.size);
    tf_gitleaks_append(&importer->scope, &importer->ids,
                       tf_gitleaks_keep_lower(&importer->scope, rule->id));
    tell_id(rule, id);
}

static void translate(struct rule *rule, const struct tf_toml *id)
{
    const struct tf_toml *regex = tf_gitleaks_get_text(&rule->scope, rule->table, "regex");

    tf_gitleaks_tell_unknown(&rule->scope, rule->table, rule_keys);
    if (regex == NULL) {
        leave_out(rule, &rule->table->at,
                  tf_gitleaks_get(rule->table, "path") != NULL
                      ? "it has a path only, and a log has none; write a regex to find something"
                      : "it has no regex, as a rule that changes one of the file that is extended; "
                        "change that one");
        return;
    }
    make_id(rule, id->text);
    pass_others(rule);
    if (!rule->failed) {
        read_regex(rule, regex);
    }
    if (!rule->failed && !rule->importer->job.no_memory) {
        write_rule(rule);
    }
    if (!rule->failed && !rule->importer->job.no_memory) {
        add_rule(rule, id);
    }
}

static void import_rule(struct importer *importer, const struct tf_toml *table)
{
    struct rule rule = {.importer = importer, .scope = importer->scope, .table = table};
    const struct tf_toml *id = tf_gitleaks_get_text(&rule.scope, table, "id");

    if (id == NULL) {
        rule.scope.who = "a rule";
        leave_out(&rule, &table->at, "it has no id; give it one");
        return;
    }
    (void)snprintf(rule.who, sizeof rule.who, "rule \"%.*s\"", (int)TF_REDACT_NAME_MAX, id->text);
    rule.scope.who = rule.who;
    rule.scope.arena = tf_arena_new(); /* what is made of one rule is not kept */
    tf_buf_init(&rule.text, TF_REDACT_FILE_MAX);
    if (rule.scope.arena != NULL) {
        translate(&rule, id);
    } else {
        importer->job.no_memory = true;
    }
    tf_buf_fini(&rule.text);
    tf_arena_free(rule.scope.arena);
}

static void import_rules(struct importer *importer)
{
    const struct tf_gitleaks_scope *scope = &importer->scope;
    const struct tf_toml *rules =
        tf_gitleaks_get_typed(scope, importer->root, "rules", TF_TOML_ARRAY);
    const struct tf_toml *table = rules != NULL ? rules->first : NULL, *from = NULL;
    size_t left = 0;

    for (; table != NULL && !importer->job.no_memory; table = table->next) {
        if (importer->ids.count + importer->args->taken_count >= TF_REDACT_RULES_MAX) {
            from = from != NULL ? from : table;
            left++;
        } else if (tf_gitleaks_is(scope, table, TF_TOML_TABLE)) {
            import_rule(importer, table);
        }
    }
    if (left > 0) {
        tf_gitleaks_tell(scope, &from->at,
                         "from here on %zu rules are left out, as there can be %u, with those that "
                         "ship; take out what ships already, or is not needed",
                         left, TF_REDACT_RULES_MAX);
    }
}

/* The file that this one changes is not read. */
static void pass_extended(const struct importer *importer)
{
    const struct tf_gitleaks_scope *scope = &importer->scope;
    const struct tf_toml *extend =
        tf_gitleaks_get_typed(scope, importer->root, "extend", TF_TOML_TABLE);
    const struct tf_toml *other;

    if (extend == NULL) {
        return;
    }
    tf_gitleaks_tell_unknown(scope, extend, extend_keys);
    other = tf_gitleaks_get(extend, "disabledrules");
    if (other != NULL) {
        tf_gitleaks_tell(scope, &other->key_at,
                         "extend: disabledRules are of the file that is extended; name rules that "
                         "ship in disable instead");
    }
    for (size_t i = 0; i < 3; i++) {
        other = tf_gitleaks_get(extend, extend_keys[i]);
        if (other != NULL && (other->type != TF_TOML_BOOLEAN || other->truth)) {
            tf_gitleaks_tell(scope, &other->key_at,
                             "extend: what is extended is not read; import that file too, or leave "
                             "it to the rules that ship");
        }
    }
}

static bool has_rule(const struct importer *importer, const char *wanted)
{
    const struct tf_toml *rules = tf_gitleaks_get(importer->root, "rules");
    const struct tf_toml *rule =
        rules != NULL && rules->type == TF_TOML_ARRAY ? rules->first : NULL;
    bool has = false;

    for (; rule != NULL && !has; rule = rule->next) {
        const struct tf_toml *id = rule->type == TF_TOML_TABLE ? tf_gitleaks_get(rule, "id") : NULL;

        has = id != NULL && id->type == TF_TOML_TEXT && strcmp(id->text, wanted) == 0;
    }
    return has;
}

/* Allowlists for rules that are not in the file. */
static void tell_lost_targets(const struct importer *importer)
{
    for (const struct tf_gitleaks_allowlist *list = importer->allowlists; list != NULL;
         list = list->next) {
        const struct tf_toml *item = list->targets;

        if (item != NULL && item->type == TF_TOML_ARRAY) {
            item = item->first;
        }
        for (; item != NULL; item = item->key == NULL ? item->next : NULL) {
            if (item->type != TF_TOML_TEXT || !has_rule(importer, item->text)) {
                tf_gitleaks_tell(&importer->scope, &item->at,
                                 "targetRules: there is no rule \"%.*s\" in the file; nothing is "
                                 "allowed for it, write allow into a rule of your own",
                                 TF_GITLEAKS_QUOTE_MAX, item->text != NULL ? item->text : "");
            }
        }
    }
}

static void import(struct importer *importer)
{
    struct tf_gitleaks_scope lists = importer->scope;

    lists.who = "the file's allowlist";
    tf_gitleaks_tell_unknown(&importer->scope, importer->root, file_keys);
    pass_extended(importer);
    importer->allowlists = tf_gitleaks_allow_read(&lists, importer->root);
    tell_lost_targets(importer);
    (void)tf_buf_append_text(&importer->head, ABOUT "pack: " TF_REDACT_GITLEAKS_PACK "\n");
    importer->has_fragment =
        tf_gitleaks_allow_write_fragment(&lists, importer->allowlists, &importer->head);
    (void)tf_buf_append_text(&importer->head, "rules:\n");
    (void)tf_buf_append(importer->yaml, importer->head.data, importer->head.size);
    if (importer->head.error == 0) {
        import_rules(importer);
    }
}

int tf_redact_gitleaks_import(const struct tf_redact_gitleaks_args *args, struct tf_buf *yaml,
                              struct tf_error *err)
{
    struct importer importer = {.args = args, .job = {.err = err}, .yaml = yaml};
    struct tf_toml *root = NULL;
    int rc = -ENOMEM;

    importer.scope = (struct tf_gitleaks_scope){
        .job = &importer.job, .arena = tf_arena_new(), .who = "the file"};
    if (importer.scope.arena != NULL) {
        rc = tf_toml_parse(args->toml, args->file, importer.scope.arena, &root, err);
    }
    tf_buf_init(&importer.head, HEAD_MAX);
    if (rc == 0) {
        importer.root = root;
        import(&importer);
        rc = importer.job.no_memory || importer.head.error != 0 || yaml->error != 0 ? -ENOMEM : 0;
    }
    if (rc == 0 && importer.ids.count == 0) {
        rc = tf_error_add(err, &(struct tf_place){.file = args->file},
                          "no rule of it can be taken, so nothing is written; name a rule file of "
                          "gitleaks, with [[rules]]");
    }
    if (rc < 0) {
        tf_buf_clear(yaml);
    }
    tf_buf_fini(&importer.head);
    tf_arena_free(importer.scope.arena);
    return rc;
}
