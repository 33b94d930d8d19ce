/*
 * ruleset.c - one list of rules out of those that ship and one's own, and what is told of each.
 *
 * The packs that ship are parsed once in the life of the process, by the first that asks, and are
 * never freed: they are part of the program. A ruleset copies them behind its own rules, so that an
 * engine has one array. What could be wrong in a pack was found by its tests; when one is not sound
 * all the same, no ruleset is made, and redaction does not start without its rules.
 */
#include "ruleset.h"

#include <ctype.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <uv.h>

#include "engine.h"
#include "language.h"

#define STOP_SEARCH_MAX                                                                            \
    4096u /* bytes of an example in which the place is sought where a regex stops */

struct tf_redact_ruleset {
    void *arena;
    struct tf_redact_rule *rules; /* own ones first */
    size_t count;
};

/* ---- what ships ----------------------------------------------------------------------------- */

static struct {
    pthread_once_t once;
    int rc;
    struct tf_error err;
    void *arena; /* never freed, like all of it */
    struct tf_redact_rule *rules;
    size_t count;
} shipped = {.once = PTHREAD_ONCE_INIT};

/* A rule whose id is the same as that of an earlier one, or NULL. */
static const struct tf_redact_rule *twin(const struct tf_redact_rule *rules, size_t index)
{
    for (size_t i = 0; i < index; i++) {
        if (strcmp(rules[i].id, rules[index].id) == 0) {
            return &rules[i];
        }
    }
    return NULL;
}

static int add_pack(const struct tf_redact_pack *pack)
{
    const struct tf_redact_language_args args = {.yaml = tf_slice(pack->bytes, pack->size),
                                                 .file = pack->file,
                                                 .arena = shipped.arena,
                                                 .shared = tf_redact_shared_fragments(),
                                                 .is_shipped = true};
    struct tf_redact_rule *rules;
    size_t count;
    int rc = tf_redact_language_parse(&args, &rules, &count, &shipped.err);

    if (rc == 0 && shipped.count + count > TF_REDACT_RULES_MAX) {
        rc = tf_error_add(&shipped.err, NULL, "more than %u rules ship", TF_REDACT_RULES_MAX);
    }
    for (size_t i = 0; rc == 0 && i < count; i++) {
        shipped.rules[shipped.count] = rules[i];
        if (twin(shipped.rules, shipped.count) != NULL) {
            rc = tf_error_add(&shipped.err, NULL, "two rules that ship are called \"%s\"",
                              rules[i].id);
        }
        shipped.count++;
    }
    return rc;
}

static void load_shipped(void)
{
    tf_error_init(&shipped.err);
    shipped.arena = tf_arena_new();
    shipped.rules = calloc(TF_REDACT_RULES_MAX, sizeof *shipped.rules);
    shipped.rc = shipped.arena == NULL || shipped.rules == NULL ? -ENOMEM : 0;
    for (size_t i = 0; shipped.rc == 0 && i < tf_redact_packs_count; i++) {
        shipped.rc = add_pack(&tf_redact_packs[i]);
    }
}

/* ---- own rules ------------------------------------------------------------------------------ */

/* Behind those that are there. Rules that are not sound are left out, and told. */
static int add_own(struct tf_redact_ruleset *set, const struct tf_text *path, struct tf_slice yaml,
                   struct tf_error *err)
{
    const struct tf_redact_language_args args = {.yaml = yaml,
                                                 .file = path->text,
                                                 .arena = set->arena,
                                                 .shared = tf_redact_shared_fragments()};
    struct tf_redact_rule *rules;
    size_t count;
    int rc = tf_redact_language_parse(&args, &rules, &count, err);

    if (rc == -ENOMEM) {
        return rc;
    }
    for (size_t i = 0; i < count; i++) {
        if (set->count + shipped.count >= TF_REDACT_RULES_MAX) {
            return tf_error_add(err, &rules[i].at,
                                "from here on there are more than %u rules, %zu of which ship; "
                                "take some out",
                                TF_REDACT_RULES_MAX, shipped.count);
        }
        set->rules[set->count++] = rules[i];
    }
    return rc;
}

static int read_own(struct tf_redact_ruleset *set, const struct tf_text *path, struct tf_error *err)
{
    struct tf_buf yaml;
    char reason[128];
    int rc;

    if (path->text == NULL) {
        return -EINVAL; /* that was told */
    }
    tf_buf_init(&yaml, TF_REDACT_FILE_MAX + 1);
    rc = tf_config_read_file(path->text, &yaml);
    if (rc == -EMSGSIZE) {
        rc = tf_error_add(err, &path->at, "rule file %s is larger than %u bytes; part it",
                          path->text, TF_REDACT_FILE_MAX);
    } else if (rc < 0) {
        rc = tf_error_add(err, &path->at,
                          "rule file %s cannot be read: %s; mend that, or take it "
                          "out of rules",
                          path->text, uv_strerror_r(rc, reason, sizeof reason));
    } else {
        rc = add_own(set, path, tf_buf_slice(&yaml), err);
    }
    tf_buf_fini(&yaml);
    return rc;
}

/* Own rules must not share an id with any other. */
static int check_ids(const struct tf_redact_ruleset *set, size_t own_count, struct tf_error *err)
{
    int rc = 0;

    for (size_t i = 0; i < own_count; i++) {
        const struct tf_redact_rule *rule = &set->rules[i], *other = twin(set->rules, i);

        if (other != NULL) {
            rc = tf_error_add(err, &rule->at,
                              "rule \"%s\": this id is taken in %s, line %u; take "
                              "another",
                              rule->id, other->at.file, other->at.line);
        }
        for (size_t j = 0; j < shipped.count; j++) {
            if (strcmp(rule->id, shipped.rules[j].id) == 0) {
                rc = tf_error_add(err, &rule->at,
                                  "rule \"%s\": a rule that ships is called so; take another id, "
                                  "and disable the one that ships when this takes its place",
                                  rule->id);
            }
        }
    }
    return rc;
}

static int check_examples(const struct tf_redact_ruleset *set, size_t own_count,
                          struct tf_error *err)
{
    int rc = 0;

    for (size_t i = 0; i < own_count && rc != -ENOMEM; i++) {
        const struct tf_redact_rule *rule = &set->rules[i];
        struct tf_redact_verdict verdict;
        int tried = tf_redact_rule_try(rule, &verdict);

        if (tried == -ENOMEM) {
            rc = tried;
        } else if (verdict.text[0] != '\0') {
            rc = tf_error_add(err, &rule->at, "rule \"%s\": %s; mend the rule or the example",
                              rule->id, verdict.text);
        }
    }
    return rc;
}

/* All of own_files, then what they must be together. */
static int fill(struct tf_redact_ruleset *set, const struct tf_texts *own_files,
                struct tf_error *err)
{
    size_t own_count;
    int rc = 0, rc2;

    for (size_t i = 0; own_files != NULL && i < own_files->count; i++) {
        rc2 = read_own(set, &own_files->items[i], err);
        if (rc2 == -ENOMEM) {
            return rc2;
        }
        rc = rc2 < 0 ? rc2 : rc;
    }
    own_count = set->count;
    rc2 = check_ids(set, own_count, err);
    rc = rc2 < 0 ? rc2 : rc;
    rc2 = check_examples(set, own_count, err);
    rc = rc2 < 0 ? rc2 : rc;
    memcpy(set->rules + own_count, shipped.rules, shipped.count * sizeof *set->rules);
    set->count += shipped.count;
    return rc;
}

int tf_redact_ruleset_new(const struct tf_texts *own_files, struct tf_redact_ruleset **out,
                          struct tf_error *err)
{
    struct tf_redact_ruleset *set;
    int rc;

    (void)pthread_once(&shipped.once, load_shipped);
    if (shipped.rc == -EINVAL) {
        const struct tf_finding *first = shipped.err.findings; /* a pack has but errors */

        return tf_error_add(err, NULL, "the rules that ship are not sound: %s, line %u: %s",
                            first->file != NULL ? first->file : "all packs", first->line,
                            first->text);
    }
    set = shipped.rc == 0 ? calloc(1, sizeof *set) : NULL;
    if (set == NULL) {
        return -ENOMEM;
    }
    set->arena = tf_arena_new();
    set->rules = calloc(TF_REDACT_RULES_MAX, sizeof *set->rules);
    rc = set->arena == NULL || set->rules == NULL ? -ENOMEM : fill(set, own_files, err);
    if (rc == 0) {
        *out = set;
        set = NULL;
    }
    tf_redact_ruleset_free(set);
    return rc;
}

void tf_redact_ruleset_free(struct tf_redact_ruleset *set)
{
    if (set != NULL) {
        tf_arena_free(set->arena);
        free(set->rules);
        free(set);
    }
}

const struct tf_redact_rule *tf_redact_ruleset_rules(const struct tf_redact_ruleset *set,
                                                     size_t *count)
{
    *count = set->count;
    return set->rules;
}

int tf_redact_ruleset_find(const struct tf_redact_ruleset *set, const char *id)
{
    for (size_t i = 0; i < set->count; i++) {
        if (strcmp(set->rules[i].id, id) == 0) {
            return (int)i;
        }
    }
    return -1;
}

/* ---- words ---------------------------------------------------------------------------------- */

enum tf_redact_named tf_redact_rule_named(const struct tf_redact_rule *rule, const char *word)
{
    if (strcmp(rule->id, word) == 0) {
        return TF_REDACT_BY_ID;
    }
    for (size_t i = 0; i < TF_REDACT_TAGS_MAX && rule->tags[i] != NULL; i++) {
        if (strcmp(rule->tags[i], word) == 0) {
            return TF_REDACT_BY_TAG;
        }
    }
    return strcmp(rule->pack, word) == 0 ? TF_REDACT_BY_PACK : TF_REDACT_NOT_NAMED;
}

/* How many of the first letters two words share; a mistake is seldom at the beginning. */
static size_t shared(const char *a, const char *b)
{
    size_t i = 0;

    while (a[i] != '\0' && a[i] == b[i]) {
        i++;
    }
    return i;
}

int tf_redact_ruleset_check_word(const struct tf_redact_ruleset *set, const struct tf_text *word,
                                 struct tf_error *err)
{
    const char *nearest = "";
    size_t best = 2; /* less is nothing alike */

    if (word->text == NULL) {
        return -EINVAL; /* that was told */
    }
    for (size_t i = 0; i < set->count; i++) {
        const struct tf_redact_rule *rule = &set->rules[i];

        if (tf_redact_rule_named(rule, word->text) != TF_REDACT_NOT_NAMED) {
            return 0;
        }
        if (shared(word->text, rule->id) > best) {
            best = shared(word->text, rule->id);
            nearest = rule->id;
        }
        if (shared(word->text, rule->pack) > best) {
            best = shared(word->text, rule->pack);
            nearest = rule->pack;
        }
    }
    return tf_error_add(
        err, &word->at,
        "\"%.64s\" is no rule, pack or tag; %s%s%s\"taffrail rules list\" shows all", word->text,
        nearest[0] != '\0' ? "nearest: \"" : "", nearest, nearest[0] != '\0' ? "\"; " : "");
}

/* One list of words, in so far as they name rules in that way. */
static void switch_named(const struct tf_redact_ruleset *set, const struct tf_texts *words,
                         enum tf_redact_named how, bool to, bool *on)
{
    for (size_t i = 0; words != NULL && i < words->count; i++) {
        for (size_t rule = 0; rule < set->count; rule++) {
            if (tf_redact_rule_named(&set->rules[rule], words->items[i].text) == how) {
                on[rule] = to;
            }
        }
    }
}

static int check_words(const struct tf_redact_ruleset *set, const struct tf_texts *words,
                       const struct tf_texts *others, struct tf_error *err)
{
    int rc = 0;

    for (size_t i = 0; words != NULL && i < words->count; i++) {
        const struct tf_text *word = &words->items[i];
        int known = tf_redact_ruleset_check_word(set, word, err);

        rc = known < 0 ? known : rc;
        for (size_t j = 0; known == 0 && others != NULL && j < others->count; j++) {
            if (others->items[j].text != NULL && strcmp(word->text, others->items[j].text) == 0) {
                rc = tf_error_add(err, &word->at,
                                  "\"%s\" is in enable and in disable; take it out of one",
                                  word->text);
            }
        }
    }
    return rc;
}

int tf_redact_ruleset_switch(const struct tf_redact_ruleset *set, const struct tf_texts *enable,
                             const struct tf_texts *disable, bool *on, struct tf_error *err)
{
    int rc = check_words(set, enable, disable, err);
    int rc2 = check_words(set, disable, NULL, err);

    if (rc < 0 || rc2 < 0) {
        return -EINVAL;
    }
    for (size_t i = 0; i < set->count; i++) {
        on[i] = (set->rules[i].flags & TF_REDACT_OFF) == 0;
    }
    for (int how = TF_REDACT_BY_PACK; how <= TF_REDACT_BY_ID; how++) {
        switch_named(set, enable, (enum tf_redact_named)how, true, on);
        switch_named(set, disable, (enum tf_redact_named)how, false, on);
    }
    return 0;
}

/* ---- examples ------------------------------------------------------------------------------- */

static void scan_example(struct tf_redact_scan *scan, const char *text, char *copy)
{
    size_t size = strlen(text);

    memcpy(copy, text, size);
    tf_redact_scan_text(scan, copy, size);
    tf_redact_scan_value(scan, copy, 0, size);
    tf_redact_scan_merge(scan, size);
}

/* Where a keyword stands in text, or NULL. */
static const char *find_keyword(const struct tf_redact_rule *rule, const char *text,
                                const char **keyword)
{
    for (size_t i = 0; i < TF_REDACT_KEYWORDS_MAX && rule->keywords[i] != NULL; i++) {
        const char *found = (rule->flags & TF_REDACT_FOLD) != 0
                                ? strcasestr(text, rule->keywords[i])
                                : strstr(text, rule->keywords[i]);

        if (found != NULL) {
            *keyword = rule->keywords[i];
            return found;
        }
    }
    return NULL;
}

/* How far into text a match that begins at start could go: the longest beginning of text that may
 * still become one. */
static size_t find_stop(const pcre2_code *code, pcre2_match_data *data, const char *text,
                        size_t start)
{
    size_t end = strlen(text);

    while (end > start) {
        int rc = pcre2_match(code, (PCRE2_SPTR)text, end, start,
                             PCRE2_ANCHORED | PCRE2_PARTIAL_HARD, data, NULL);

        if (rc != PCRE2_ERROR_NOMATCH) {
            break;
        }
        end--;
    }
    return end;
}

/* Why a rule with a keyword in text did not match. */
static void explain_keyword(const struct tf_redact_rule *rule, const char *text, const char *at,
                            const char *keyword, struct tf_buf *to)
{
    size_t keyword_at = (size_t)(at - text), size = strlen(text);
    PCRE2_SIZE offset;
    int reason;
    pcre2_code *code =
        pcre2_compile((PCRE2_SPTR)rule->regex, PCRE2_ZERO_TERMINATED,
                      PCRE2_DOLLAR_ENDONLY | PCRE2_NEVER_UTF, &reason, &offset, NULL);
    pcre2_match_data *data = code != NULL ? pcre2_match_data_create_from_pattern(code, NULL) : NULL;

    if (data == NULL) {
        (void)tf_buf_append_text(to, "the pattern cannot be tried");
    } else if (pcre2_match(code, (PCRE2_SPTR)text, size, 0, 0, data, NULL) >= 0) {
        (void)tf_buf_append_text(to, "the pattern is there, but not at a keyword, or what it found "
                                     "is refused by follow, check, entropy, allow or stopwords");
    } else {
        (void)tf_buf_printf(to, "keyword \"%.32s\" is there", keyword);
        if ((rule->flags & TF_REDACT_LINE) == 0 && keyword_at >= rule->lead &&
            size <= STOP_SEARCH_MAX) {
            (void)tf_buf_printf(to, ", the pattern stops at byte %zu",
                                find_stop(code, data, text, keyword_at - rule->lead));
        } else {
            (void)tf_buf_append_text(to, ", the pattern does not match");
        }
    }
    pcre2_match_data_free(data);
    pcre2_code_free(code);
}

static void explain(const struct tf_redact_rule *rule, size_t number, struct tf_buf *to)
{
    const char *text = rule->match[number], *keyword = "";
    const char *at = find_keyword(rule, text, &keyword);

    (void)tf_buf_printf(to, "match example %zu is not matched; ", number + 1);
    if (at != NULL) {
        explain_keyword(rule, text, at, keyword, to);
    } else if (rule->keywords[0] != NULL) {
        (void)tf_buf_append_text(to, "none of its keywords is there");
    } else {
        (void)tf_buf_append_text(to, "the pattern does not match, or what it found is refused by "
                                     "class, requires, check, entropy, allow or stopwords");
    }
}

static void try_examples(const struct tf_redact_rule *rule, struct tf_redact_scan *scan, char *copy,
                         struct tf_redact_verdict *out, struct tf_buf *why)
{
    for (size_t i = 0; i < TF_REDACT_EXAMPLES_MAX && rule->match[i] != NULL; i++) {
        scan_example(scan, rule->match[i], copy);
        out->match++;
        if ((scan->span_count == 0 || scan->reason != NULL) && why->size == 0) {
            explain(rule, i, why);
        }
    }
    for (size_t i = 0; i < TF_REDACT_EXAMPLES_MAX && rule->no_match[i] != NULL; i++) {
        scan_example(scan, rule->no_match[i], copy);
        out->no_match++;
        if (scan->span_count > 0 && why->size == 0) {
            (void)tf_buf_printf(why, "no_match example %zu is matched, bytes %u to %u", i + 1,
                                scan->spans[0].start, scan->spans[0].end);
        }
    }
}

static size_t longest_example(const struct tf_redact_rule *rule)
{
    size_t longest = 0;

    for (size_t i = 0; i < TF_REDACT_EXAMPLES_MAX; i++) {
        size_t a = rule->match[i] != NULL ? strlen(rule->match[i]) : 0;
        size_t b = rule->no_match[i] != NULL ? strlen(rule->no_match[i]) : 0;

        longest = a > longest ? a : longest;
        longest = b > longest ? b : longest;
    }
    return longest;
}

int tf_redact_rule_try(const struct tf_redact_rule *rule, struct tf_redact_verdict *out)
{
    const bool on = true;
    const struct tf_redact_engine_args args = {.rules = rule, .count = 1, .on = &on};
    struct tf_redact_engine *engine = NULL;
    struct tf_redact_engine_error error;
    struct tf_redact_scan *scan = NULL;
    char *copy = NULL;
    struct tf_buf why;
    int rc = tf_redact_engine_new(&args, &engine, &error);

    *out = (struct tf_redact_verdict){.match = 0};
    if (rc == -EINVAL) {
        (void)snprintf(out->text, sizeof out->text, "it is not sound: %s", error.text);
        return rc;
    }
    tf_buf_init(&why, sizeof out->text);
    if (rc == 0) {
        scan = tf_redact_scan_new(engine);
        copy = calloc(1, longest_example(rule) + TF_REDACT_READAHEAD_BYTES + 1);
        rc = scan == NULL || copy == NULL ? -ENOMEM : 0;
    }
    if (rc == 0) {
        try_examples(rule, scan, copy, out, &why);
        (void)snprintf(out->text, sizeof out->text, "%.*s", (int)why.size,
                       why.data != NULL ? why.data : "");
    }
    tf_buf_fini(&why);
    free(copy);
    tf_redact_scan_free(scan);
    tf_redact_engine_free(engine);
    return rc;
}
