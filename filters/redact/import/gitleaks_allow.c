/*
 * gitleaks_allow.c - gitleaks' allowlists: what they let pass, said by allow and stopwords.
 *
 * A list lets a secret pass when one of its regexes matches it, or a stopword stands in it; with
 * condition AND, when both do. What a log has not, paths and commits, and what is not judged here,
 * the line, is left out: it only lets less pass. A regex that over bytes would match more than it
 * means is left out too.
 *
 * The regexes of the file's own lists stand in one fragment, {{allowed}}, that every rule uses. Of
 * a rule's, each is one item of allow, and its stopwords are stopwords. Where there are too many,
 * they are joined: regexes by |, words to one regex that finds them in any case.
 */
#include "gitleaks_allow.h"

#include <ctype.h>
#include <errno.h>

#include "../language.h"
#include "re2.h"
#include "taffrail/config.h"

#define FRAGMENT "allowed"

static const char *const keys[] = {"description", "condition", "commits",     "paths", "regexes",
                                   "regextarget", "stopwords", "targetrules", NULL};

/* ---- joining -------------------------------------------------------------------------------- */

/* Appends an item and those behind it, as one regex, as far as they fit. Returns the first that did
 * not. A long one stands alone. */
static const struct tf_gitleaks_item *join(const struct tf_gitleaks_item *item, struct tf_buf *to)
{
    size_t start = to->size;

    if (item->next == NULL || strlen(item->text) + 4 > TF_GITLEAKS_JOINED_MAX) {
        (void)tf_buf_append_text(to, item->text);
        return item->next;
    }
    for (; item != NULL; item = item->next) {
        if (to->size - start + strlen(item->text) + 5 > TF_GITLEAKS_JOINED_MAX) {
            break;
        }
        (void)tf_buf_append_text(to, to->size > start ? "|(?:" : "(?:");
        (void)tf_buf_append_text(to, item->text);
        (void)tf_buf_append_byte(to, ')');
    }
    return item;
}

static void append_word(struct tf_buf *to, const char *word)
{
    for (; *word != '\0'; word++) {
        if (isalnum((unsigned char)*word)) {
            (void)tf_buf_append_byte(to, (uint8_t)*word);
        } else {
            (void)tf_buf_printf(to, "\\x%02x", (uint8_t)*word);
        }
    }
}

/* The same of words; each has TF_GITLEAKS_JOINED_MAX / 8 bytes at most. */
static const struct tf_gitleaks_item *join_words(const struct tf_gitleaks_item *item,
                                                 struct tf_buf *to)
{
    size_t start = to->size;

    for (; item != NULL; item = item->next) {
        if (to->size - start + 4 * strlen(item->text) + 6 > TF_GITLEAKS_JOINED_MAX) {
            break;
        }
        (void)tf_buf_append_text(to, to->size > start ? "|" : "(?i:");
        append_word(to, item->text);
    }
    (void)tf_buf_append_byte(to, ')');
    return item;
}

/* ---- reading -------------------------------------------------------------------------------- */

/* Writes an allowing regex as PCRE2. Returns why it is left out, or NULL. */
static const char *write_allowing(const struct tf_redact_re2 *re2, struct tf_buf *to,
                                  char reason[128])
{
    if (re2->has_wide || re2->has_unicode) {
        return "its class beyond ASCII would match more over bytes";
    }
    if (tf_redact_re2_write(re2, to) == -EMSGSIZE) {
        return "it is longer than 16384 bytes";
    }
    if (to->error == 0 && to->size == 0) {
        return "it is empty, and would let all pass";
    }
    return to->error == 0 && !tf_gitleaks_compiles(to, reason) ? reason : NULL;
}

static void take_regex(const struct tf_gitleaks_scope *scope, const struct tf_toml *value,
                       struct tf_gitleaks_list *to)
{
    void *arena = tf_arena_new(); /* the tree is not kept */
    struct tf_redact_re2 re2;
    struct tf_redact_re2_error error;
    struct tf_buf regex;
    char reason[128];
    const char *why = NULL;
    int rc = arena != NULL ? tf_redact_re2_parse(value->text, arena, &re2, &error) : -ENOMEM;

    tf_buf_init(&regex, TF_REDACT_REGEX_MAX);
    if (rc == 0) {
        why = write_allowing(&re2, &regex, reason);
    } else if (rc == -EINVAL) {
        why = error.what;
    }
    scope->job->no_memory |= rc == -ENOMEM || regex.error == -ENOMEM;
    if (why != NULL) {
        tf_gitleaks_tell(scope, &value->at,
                         "regexes: %s; this one is left out, so more is masked: mend it if that is "
                         "too much",
                         why);
    } else if (!scope->job->no_memory) {
        tf_gitleaks_append(scope, to, tf_gitleaks_keep(scope, &regex));
    }
    tf_buf_fini(&regex);
    tf_arena_free(arena);
}

static void take_stopword(const struct tf_gitleaks_scope *scope, const struct tf_toml *value,
                          struct tf_gitleaks_list *to)
{
    size_t size = strlen(value->text);

    if (size == 0 || size > TF_GITLEAKS_JOINED_MAX / 8) {
        tf_gitleaks_tell(scope, &value->at,
                         "stopwords: one is %s; it is left out, take it out there too",
                         size == 0 ? "empty, and would let all pass" : "longer than any secret");
        return;
    }
    tf_gitleaks_append(scope, to, tf_gitleaks_keep_lower(scope, value->text));
}

/* condition. False: it is unknown, and the list is not taken. */
static bool read_condition(const struct tf_gitleaks_scope *scope, const struct tf_toml *table,
                           bool *is_and)
{
    const struct tf_toml *value = tf_gitleaks_get_text(scope, table, "condition");

    *is_and =
        value != NULL && (strcasecmp(value->text, "and") == 0 || strcmp(value->text, "&&") == 0);
    if (value == NULL || *is_and || strcasecmp(value->text, "or") == 0 ||
        strcmp(value->text, "||") == 0) {
        return true;
    }
    tf_gitleaks_tell(scope, &value->at,
                     "condition: \"%.*s\" is not known; the allowlist is left out, write AND or OR",
                     TF_GITLEAKS_QUOTE_MAX, value->text);
    return false;
}

/* Paths and commits, which a log does not have. False: then the list lets nothing pass. */
static bool pass_paths(const struct tf_gitleaks_scope *scope, const struct tf_toml *table,
                       bool is_and)
{
    static const char *const absent[] = {"paths", "commits"};
    bool ok = true;

    for (size_t i = 0; i < TF_COUNT(absent); i++) {
        const struct tf_toml *value = tf_gitleaks_get(table, absent[i]);

        if (value != NULL && (value->type == TF_TOML_TEXT || value->count > 0)) {
            tf_gitleaks_tell(
                scope, &value->key_at, "%s: a log has none; %s, so more is masked", absent[i],
                is_and ? "the allowlist demands them and is left out" : "they are left out");
            ok = !is_and;
        }
    }
    return ok;
}

/* regexTarget. False: the regexes are not taken. */
static bool read_target(const struct tf_gitleaks_scope *scope, const struct tf_toml *table,
                        bool *on_match)
{
    const struct tf_toml *value = tf_gitleaks_get_text(scope, table, "regextarget");

    *on_match = value != NULL && strcmp(value->text, "match") == 0;
    if (value == NULL || *on_match || strcmp(value->text, "secret") == 0) {
        return true;
    }
    tf_gitleaks_tell(scope, &value->at,
                     "regexTarget: \"%.*s\" is not judged here, only the secret; the regexes are "
                     "left out, so more is masked",
                     TF_GITLEAKS_QUOTE_MAX, value->text);
    return false;
}

/* Of a list that demands a regex and a stopword: one regex that looks ahead for each. */
static void demand_both(const struct tf_gitleaks_scope *scope, struct tf_gitleaks_allowlist *list)
{
    const struct tf_gitleaks_item *regexes_left = NULL, *words_left = NULL;
    struct tf_gitleaks_list out = {.count = 0};
    struct tf_buf both;

    tf_buf_init(&both, 3 * TF_REDACT_REGEX_MAX);
    if (list->regexes.count > 0 && list->stopwords.count > 0) { /* else nothing can be both */
        (void)tf_buf_append_text(&both, "\\A(?=(?s:.*?)(?:");
        regexes_left = join(list->regexes.first, &both);
        (void)tf_buf_append_text(&both, "))(?=(?s:.*?)");
        words_left = join_words(list->stopwords.first, &both);
        (void)tf_buf_append_byte(&both, ')');
        tf_gitleaks_append(scope, &out, tf_gitleaks_keep(scope, &both));
    }
    if (regexes_left != NULL || words_left != NULL || both.size > TF_REDACT_REGEX_MAX) {
        tf_gitleaks_tell(scope, &list->at,
                         "it demands more regexes and stopwords than fit into one regex of 16384 "
                         "bytes; the rest is left out, so more is masked: part the list");
        out.count = both.size > TF_REDACT_REGEX_MAX ? 0 : out.count;
        out.first = out.count == 0 ? NULL : out.first;
    }
    list->regexes = out;
    list->stopwords = (struct tf_gitleaks_list){.count = 0};
    tf_buf_fini(&both);
}

/* NULL: no memory. Nothing is in it when it cannot be taken. */
static struct tf_gitleaks_allowlist *read_list(const struct tf_gitleaks_scope *scope,
                                               const struct tf_toml *table)
{
    struct tf_gitleaks_allowlist *list = tf_arena_alloc(scope->arena, sizeof *list);
    bool is_and, has_regexes = tf_gitleaks_get(table, "regexes") != NULL;
    const struct tf_toml *item;

    scope->job->no_memory |= list == NULL;
    tf_gitleaks_tell_unknown(scope, table, keys);
    if (list == NULL || !read_condition(scope, table, &is_and) ||
        !pass_paths(scope, table, is_and)) {
        return list;
    }
    list->at = table->at;
    list->targets = tf_gitleaks_get(table, "targetrules");
    if (read_target(scope, table, &list->on_match)) {
        for (item = tf_gitleaks_first_text(scope, table, "regexes"); item != NULL;
             item = tf_gitleaks_next_text(scope, item)) {
            take_regex(scope, item, &list->regexes);
        }
    }
    for (item = tf_gitleaks_first_text(scope, table, "stopwords"); item != NULL;
         item = tf_gitleaks_next_text(scope, item)) {
        take_stopword(scope, item, &list->stopwords);
    }
    if (is_and && has_regexes && tf_gitleaks_get(table, "stopwords") != NULL) {
        demand_both(scope, list);
    }
    return list;
}

/* Both keys count: that of older files has one table. */
struct tf_gitleaks_allowlist *tf_gitleaks_allow_read(const struct tf_gitleaks_scope *scope,
                                                     const struct tf_toml *table)
{
    const struct tf_toml *item = tf_gitleaks_get_typed(scope, table, "allowlist", TF_TOML_TABLE);
    struct tf_gitleaks_allowlist *first = NULL, **end = &first;

    if (item != NULL) {
        *end = read_list(scope, item);
        end = *end != NULL ? &(*end)->next : end;
    }
    item = tf_gitleaks_get_typed(scope, table, "allowlists", TF_TOML_ARRAY);
    for (item = item != NULL ? item->first : NULL; item != NULL; item = item->next) {
        if (tf_gitleaks_is(scope, item, TF_TOML_TABLE)) {
            *end = read_list(scope, item);
            end = *end != NULL ? &(*end)->next : end;
        }
    }
    return first;
}

/* ---- the fragment --------------------------------------------------------------------------- */

/* Whether an allowlist of the file stands in the fragment. */
static bool is_for_all(const struct tf_gitleaks_allowlist *list)
{
    return list->targets == NULL && !list->on_match;
}

bool tf_gitleaks_allow_write_fragment(const struct tf_gitleaks_scope *scope,
                                      const struct tf_gitleaks_allowlist *of_file,
                                      struct tf_buf *to)
{
    struct tf_gitleaks_list all = {.count = 0};
    const struct tf_gitleaks_item *rest;
    struct tf_buf regex;
    const char *text;

    for (const struct tf_gitleaks_allowlist *list = of_file; list != NULL; list = list->next) {
        if (is_for_all(list)) {
            tf_gitleaks_append_all(scope, &all, &list->regexes);
        }
    }
    if (all.count == 0 || scope->job->no_memory) {
        return false;
    }
    tf_buf_init(&regex, TF_REDACT_REGEX_MAX);
    rest = join(all.first, &regex);
    text = tf_gitleaks_keep(scope, &regex);
    tf_buf_fini(&regex);
    if (rest != NULL) {
        tf_gitleaks_tell(scope, &of_file->at,
                         "more regexes than fit into %u bytes are for every rule; the rest is left "
                         "out, so more is masked: shorten them",
                         TF_GITLEAKS_JOINED_MAX);
    }
    (void)tf_buf_append_text(to, "fragments:\n  " FRAGMENT ": ");
    tf_gitleaks_put_text(to, text != NULL ? text : "");
    (void)tf_buf_append_byte(to, '\n');
    return true;
}

/* ---- a rule's ------------------------------------------------------------------------------- */

static bool is_target(const struct tf_gitleaks_allowlist *list, const char *id)
{
    const struct tf_toml *item = list->targets;

    if (item != NULL && item->type == TF_TOML_ARRAY) {
        item = item->first;
    }
    while (item != NULL && (item->type != TF_TOML_TEXT || strcmp(item->text, id) != 0)) {
        item = item->key == NULL ? item->next : NULL; /* with a key, it is alone */
    }
    return item != NULL;
}

/* What a rule may have. */
struct allowed {
    struct tf_gitleaks_list regexes, stopwords;
};

/* Adds a list that is for the rule; of one of the file that is for all, only its stopwords. */
static void add(const struct tf_gitleaks_scope *scope, const struct tf_gitleaks_allow_args *args,
                const struct tf_gitleaks_allowlist *list, bool in_fragment, struct allowed *to)
{
    tf_gitleaks_append_all(scope, &to->stopwords, &list->stopwords);
    if (in_fragment || list->regexes.count == 0) {
        return;
    }
    if (!list->on_match || args->is_whole) {
        tf_gitleaks_append_all(scope, &to->regexes, &list->regexes);
    } else {
        tf_gitleaks_tell(scope, &list->at,
                         "regexTarget: the match is not judged here, only the secret in it; the "
                         "regexes are left out, so more is masked");
    }
}

static void gather(const struct tf_gitleaks_scope *scope, const struct tf_gitleaks_allow_args *args,
                   struct allowed *to)
{
    const struct tf_gitleaks_allowlist *list;

    for (list = args->own; list != NULL; list = list->next) {
        add(scope, args, list, false, to);
    }
    for (list = args->of_file; list != NULL; list = list->next) {
        if (list->targets == NULL || is_target(list, args->id)) {
            add(scope, args, list, is_for_all(list), to);
        }
    }
}

/* Stopwords that are too many become regexes. */
static void fit_stopwords(const struct tf_gitleaks_scope *scope, struct allowed *allowed)
{
    const struct tf_gitleaks_item *word = allowed->stopwords.first;
    struct tf_buf regex;

    if (allowed->stopwords.count < TF_REDACT_STOPWORDS_MAX) {
        return;
    }
    tf_buf_init(&regex, TF_REDACT_REGEX_MAX);
    while (word != NULL && !scope->job->no_memory) {
        tf_buf_clear(&regex);
        word = join_words(word, &regex);
        tf_gitleaks_append(scope, &allowed->regexes, tf_gitleaks_keep(scope, &regex));
    }
    tf_buf_fini(&regex);
    allowed->stopwords = (struct tf_gitleaks_list){.count = 0};
}

/* Regexes that are too many are joined. Returns the first for which there is no room. */
static const struct tf_gitleaks_item *write_regexes(const struct tf_gitleaks_scope *scope,
                                                    const struct tf_gitleaks_list *regexes,
                                                    size_t room, struct tf_buf *to)
{
    const struct tf_gitleaks_item *item = regexes->first;
    bool fits = regexes->count <= room;
    struct tf_buf regex;

    tf_buf_init(&regex, TF_REDACT_REGEX_MAX);
    for (; item != NULL && room > 0 && !scope->job->no_memory; room--) {
        const char *text = item->text;

        if (fits) {
            item = item->next;
        } else {
            tf_buf_clear(&regex);
            item = join(item, &regex);
            text = tf_gitleaks_keep(scope, &regex);
        }
        tf_gitleaks_put_item(to, "      ", text != NULL ? text : "");
    }
    tf_buf_fini(&regex);
    return item;
}

void tf_gitleaks_allow_write(const struct tf_gitleaks_scope *scope,
                             const struct tf_gitleaks_allow_args *args, struct tf_buf *to)
{
    struct allowed allowed = {.regexes = {.count = 0}};
    size_t room = TF_REDACT_ALLOW_MAX - 1 - (args->has_fragment ? 1 : 0);

    gather(scope, args, &allowed);
    fit_stopwords(scope, &allowed);
    if (allowed.regexes.count > 0 || args->has_fragment) {
        (void)tf_buf_append_text(to, "    allow:\n");
    }
    if (args->has_fragment) {
        tf_gitleaks_put_item(to, "      ", "{{" FRAGMENT "}}");
    }
    if (write_regexes(scope, &allowed.regexes, room, to) != NULL) {
        tf_gitleaks_tell(scope, &args->at,
                         "its allowlists have more than fits into %u regexes; the rest is left "
                         "out, so more is masked: shorten them",
                         TF_REDACT_ALLOW_MAX - 1);
    }
    tf_gitleaks_put_list(to, "stopwords", &allowed.stopwords);
}
