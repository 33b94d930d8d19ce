/*
 * language.c - the language of rules, in YAML: read by an option table, then made sound.
 *
 *     1. the file by its table: keys, types, what is required (agent/config/options.c)
 *     2. fragments, those of the shared file first: each may use those before it; {{name}} in a
 *        regex or allow is its text, the last of that name
 *     3. each rule: words, numbers and lists in their bounds, regexes that compile, keywords that
 *        fit to how the rule is searched; without keywords, they are derived from the regex
 *
 * A rule with a mistake is left out and the next is read, so that all are told in one run. In an
 * example, {{}} is nothing: it parts what would look like a real secret to those who scan files.
 */
#include "language.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "derive.h"
#include "taffrail/config.h"

#define KEYWORD_MAX_BYTES 255u
#define ENTROPY_MAX       8.0
#define TOKEN_MAX         64u
#define TEXT_MAX          16384u /* of an example */

/* A rule as it is written. */
struct written {
    struct tf_text id, description, regex, follow, entropy, requires;
    struct tf_texts keywords, allow, stopwords, tags, match, no_match;
    uint64_t lead, secret_group, keep_first, keep_last;
    int search, class_, check;
    bool fold, allow_slow, off, guessable;
};

struct written_file {
    struct tf_text pack;
    struct tf_pairs fragments;
    struct tf_tables rules;
};

/* What the rules of a file share. */
struct reader {
    const struct tf_redact_language_args *args;
    struct tf_error *err;
    struct tf_pair fragments[2 * TF_REDACT_FRAGMENTS_MAX]; /* those that are put together */
    size_t fragment_count;
    const char *pack;
    bool no_memory;
};

/* ---- tables --------------------------------------------------------------------------------- */

static const struct tf_option keep_options[] = {
    {.name = "first",
     .type = TF_OPTION_COUNT,
     .offset = offsetof(struct written, keep_first),
     .max = UINT8_MAX,
     .about = "characters at its beginning"},
    {.name = "last",
     .type = TF_OPTION_COUNT,
     .offset = offsetof(struct written, keep_last),
     .max = UINT8_MAX,
     .about = "characters at its end"},
    {0},
};

static const struct tf_option example_options[] = {
    {.name = "match",
     .type = TF_OPTION_TEXTS,
     .offset = offsetof(struct written, match),
     .required = true,
     .about = "texts in which it finds something"},
    {.name = "no_match",
     .type = TF_OPTION_TEXTS,
     .offset = offsetof(struct written, no_match),
     .about = "texts in which it finds nothing"},
    {0},
};

static const struct tf_option rule_options[] = {
    {.name = "id",
     .type = TF_OPTION_TEXT,
     .offset = offsetof(struct written, id),
     .required = true,
     .about = "its name, [a-z0-9-]"},
    {.name = "description",
     .type = TF_OPTION_TEXT,
     .offset = offsetof(struct written, description),
     .required = true,
     .about = "what it finds"},
    {.name = "regex",
     .type = TF_OPTION_TEXT,
     .offset = offsetof(struct written, regex),
     .required = true,
     .about = "PCRE2, over bytes"},
    {.name = "keywords",
     .type = TF_OPTION_TEXTS,
     .offset = offsetof(struct written, keywords),
     .about = "texts, one of which begins every match; by default derived from the regex"},
    {.name = "fold",
     .type = TF_OPTION_SWITCH,
     .offset = offsetof(struct written, fold),
     .about = "keywords are found in any case"},
    {.name = "search",
     .type = TF_OPTION_CHOICE,
     .offset = offsetof(struct written, search),
     .def = "start",
     .choices = "start|line",
     .about = "where a match begins: at its keyword, or anywhere before it"},
    {.name = "follow",
     .type = TF_OPTION_TEXT,
     .offset = offsetof(struct written, follow),
     .about = "bytes, one of which must come behind a keyword"},
    {.name = "lead",
     .type = TF_OPTION_COUNT,
     .offset = offsetof(struct written, lead),
     .max = UINT8_MAX,
     .about = "how many bytes of a match come before its keyword"},
    {.name = "class",
     .type = TF_OPTION_CHOICE,
     .offset = offsetof(struct written, class_),
     .def = "none",
     .choices = "none|card|iban|at",
     .about = "a shape, in place of keywords"},
    {.name = "secret_group",
     .type = TF_OPTION_COUNT,
     .offset = offsetof(struct written, secret_group),
     .max = 7,
     .about = "the group that is masked; by default the whole match"},
    {.name = "check",
     .type = TF_OPTION_CHOICE,
     .offset = offsetof(struct written, check),
     .def = "none",
     .choices = "none|luhn|mod97|basic",
     .about = "what a secret must also pass"},
    {.name = "entropy",
     .type = TF_OPTION_TEXT,
     .offset = offsetof(struct written, entropy),
     .about = "bits a byte that a secret has at least"},
    {.name = "allow",
     .type = TF_OPTION_TEXTS,
     .offset = offsetof(struct written, allow),
     .about = "regexes: a secret that one matches is none"},
    {.name = "stopwords",
     .type = TF_OPTION_TEXTS,
     .offset = offsetof(struct written, stopwords),
     .about = "a secret that holds one, in any case, is none"},
    {.name = "keep",
     .type = TF_OPTION_TABLE,
     .table = keep_options,
     .about = "what mode partial leaves"},
    {.name = "requires",
     .type = TF_OPTION_TEXT,
     .offset = offsetof(struct written, requires),
     .about = "what a text must hold before it is searched"},
    {.name = "allow_slow",
     .type = TF_OPTION_SWITCH,
     .offset = offsetof(struct written, allow_slow),
     .about = "it may cost more than the budget"},
    {.name = "tags",
     .type = TF_OPTION_TEXTS,
     .offset = offsetof(struct written, tags),
     .about = "words that switch it, too"},
    {.name = "off",
     .type = TF_OPTION_SWITCH,
     .offset = offsetof(struct written, off),
     .about = "it is not in the default set"},
    {.name = "guessable",
     .type = TF_OPTION_SWITCH,
     .offset = offsetof(struct written, guessable),
     .about = "its secrets can be guessed, so they are hashed only when it is named"},
    {.name = "examples",
     .type = TF_OPTION_TABLE,
     .table = example_options,
     .required = true,
     .about = "its tests"},
    {0},
};

const struct tf_option tf_redact_file_options[] = {
    {.name = "pack",
     .type = TF_OPTION_TEXT,
     .offset = offsetof(struct written_file, pack),
     .def = TF_REDACT_OWN_PACK,
     .about = "what switches all its rules"},
    {.name = "fragments",
     .type = TF_OPTION_MAP,
     .offset = offsetof(struct written_file, fragments),
     .about = "parts of regexes"},
    {.name = "rules",
     .type = TF_OPTION_TABLES,
     .offset = offsetof(struct written_file, rules),
     .required = true,
     .table = rule_options,
     .table_bytes = sizeof(struct written),
     .about = "the rules"},
    {0},
};

static const struct tf_option shared_options[] = {
    {.name = "fragments",
     .type = TF_OPTION_MAP,
     .offset = offsetof(struct written_file, fragments),
     .required = true,
     .about = "parts of regexes, for all rule files"},
    {0},
};

/* ---- texts ---------------------------------------------------------------------------------- */

static bool is_word(const char *text)
{
    size_t size = strlen(text);

    return size > 0 && size <= TF_REDACT_NAME_MAX &&
           strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789-") == size;
}

/* Copies what buf holds into the arena. NULL: no memory. */
static const char *keep_text(struct reader *reader, const struct tf_buf *buf)
{
    char *copy = tf_arena_alloc(reader->args->arena, buf->size + 1);

    if (copy == NULL) {
        reader->no_memory = true;
    } else if (buf->size > 0) {
        memcpy(copy, buf->data, buf->size);
    }
    return copy;
}

static const char *fragment(const struct reader *reader, struct tf_slice name)
{
    for (size_t i = reader->fragment_count; i > 0; i--) {
        if (tf_slice_equal(tf_slice_text(reader->fragments[i - 1].key.text), name)) {
            return reader->fragments[i - 1].value.text;
        }
    }
    return NULL;
}

/* Appends text with its fragments put in. Returns false when that was told. */
static bool append_expanded(struct reader *reader, const struct tf_text *text, const char *whose,
                            struct tf_buf *to)
{
    const char *from = text->text, *open, *close;

    while ((open = strstr(from, "{{")) != NULL && (close = strstr(open, "}}")) != NULL) {
        struct tf_slice name = tf_slice(open + 2, (size_t)(close - open - 2));
        const char *found = fragment(reader, name);

        if (found == NULL) {
            (void)tf_error_add(reader->err, &text->at,
                               "%s: there is no fragment {{%.*s}} before it; add it to fragments, "
                               "or write \\{ for a bracket that is meant",
                               whose, name.size < 64 ? (int)name.size : 64, name.data);
            return false;
        }
        (void)tf_buf_append(to, from, (size_t)(open - from));
        (void)tf_buf_append_text(to, found);
        from = close + 2;
    }
    (void)tf_buf_append_text(to, from);
    return true;
}

/* The text with its fragments put in, or NULL: that was told. */
static const char *expand(struct reader *reader, const struct tf_text *text, const char *whose)
{
    const char *out = NULL;
    struct tf_buf buf;
    bool ok;

    if (text->text == NULL) {
        return NULL;
    }
    tf_buf_init(&buf, TF_REDACT_REGEX_MAX);
    ok = append_expanded(reader, text, whose, &buf);
    if (buf.error == -EMSGSIZE) {
        (void)tf_error_add(reader->err, &text->at,
                           "%s: it is longer than %u bytes with its fragments; shorten it", whose,
                           TF_REDACT_REGEX_MAX);
    } else if (buf.error != 0) {
        reader->no_memory = true;
    } else if (ok) {
        out = keep_text(reader, &buf);
    }
    tf_buf_fini(&buf);
    return out;
}

/* ---- one rule ------------------------------------------------------------------------------- */

/* A rule being made. */
struct making {
    struct reader *reader;
    const struct written *written;
    struct tf_redact_rule *rule;
    bool failed;
};

TF_PRINTF(3, 4)
static void refuse(struct making *making, const struct tf_place *at, const char *format, ...)
{
    char text[512];
    va_list arguments;

    va_start(arguments, format);
    (void)vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    making->failed = true;
    (void)tf_error_add(making->reader->err, at, "rule \"%.63s\": %s", making->written->id.text,
                       text);
}

/* Fills to, which ends with NULL, from a list of less than max texts. */
static void take_texts(struct making *making, const char *what, const struct tf_texts *from,
                       const char **to, size_t max)
{
    if (from->count >= max) {
        refuse(making, &from->at, "%s: %zu are too many; write %zu or less", what, from->count,
               max - 1);
        return;
    }
    for (size_t i = 0; i < from->count; i++) {
        to[i] = from->items[i].text;
        making->failed |= to[i] == NULL; /* that was told */
    }
}

/* Tries whether a regex compiles; *groups is how many it has. */
static void try_regex(struct making *making, const char *what, const struct tf_text *written,
                      const char *regex, uint32_t *groups)
{
    int reason;
    PCRE2_SIZE offset;
    PCRE2_UCHAR text[128];
    pcre2_code *code;

    code = pcre2_compile((PCRE2_SPTR)regex, PCRE2_ZERO_TERMINATED,
                         PCRE2_DOLLAR_ENDONLY | PCRE2_NEVER_UTF, &reason, &offset, NULL);
    if (code != NULL) {
        (void)pcre2_pattern_info(code, PCRE2_INFO_CAPTURECOUNT, groups);
        pcre2_code_free(code);
        return;
    }
    (void)pcre2_get_error_message(reason, text, sizeof text);
    refuse(making, &written->at, "%s: %s, at byte %zu%s; mend it there", what, (const char *)text,
           (size_t)offset, strcmp(regex, written->text) != 0 ? " with its fragments put in" : "");
}

/* As expand, of a rule's key. */
static const char *expand_in_rule(struct making *making, const struct tf_text *text,
                                  const char *what)
{
    char whose[TF_REDACT_NAME_MAX + 32];
    const char *out;

    (void)snprintf(whose, sizeof whose, "rule \"%.63s\": %s", making->written->id.text, what);
    out = expand(making->reader, text, whose);
    making->failed |= out == NULL;
    return out;
}

static void make_regex(struct making *making)
{
    const struct written *written = making->written;
    struct tf_redact_rule *rule = making->rule;
    uint32_t groups = UINT8_MAX;

    rule->regex = expand_in_rule(making, &written->regex, "regex");
    rule->secret_group = (uint8_t)written->secret_group;
    if (rule->regex == NULL) {
        return; /* that was told */
    }
    if (rule->regex[0] == '\0') {
        refuse(making, &written->regex.at, "regex: it is empty, and would match everywhere");
    } else if (!making->reader->args->is_shipped) {
        try_regex(making, "regex", &written->regex, rule->regex, &groups);
    }
    if (!making->failed && written->secret_group > groups) {
        refuse(making, &written->regex.at,
               "secret_group: the regex has no group %u; it has %u; write a smaller one, or leave "
               "it out",
               rule->secret_group, groups);
    }
}

static void make_allow(struct making *making)
{
    const struct tf_texts *allow = &making->written->allow;
    uint32_t groups;

    take_texts(making, "allow", allow, making->rule->allow, TF_REDACT_ALLOW_MAX);
    for (size_t i = 0; i < allow->count && i < TF_REDACT_ALLOW_MAX - 1; i++) {
        const char *regex = expand_in_rule(making, &allow->items[i], "allow");

        making->rule->allow[i] = regex;
        if (regex != NULL && !making->reader->args->is_shipped) {
            try_regex(making, "allow", &allow->items[i], regex, &groups);
        }
    }
}

static bool has_capital(const char *text)
{
    bool has = false;

    for (; *text != '\0'; text++) {
        has |= isupper((unsigned char)*text) != 0;
    }
    return has;
}

static void check_keyword(struct making *making, const struct tf_text *keyword)
{
    size_t size = strlen(keyword->text);

    if (size < TF_REDACT_DERIVED_LEAST || size > KEYWORD_MAX_BYTES) {
        refuse(making, &keyword->at, "keywords: \"%.64s\" has not %u to %u bytes; %s",
               keyword->text, TF_REDACT_DERIVED_LEAST, KEYWORD_MAX_BYTES,
               size < TF_REDACT_DERIVED_LEAST
                   ? "write more of what stands there, or leave keywords out"
                   : "shorten it");
    } else if (making->written->fold && has_capital(keyword->text)) {
        refuse(making, &keyword->at,
               "keywords: \"%.64s\" has capitals, and fold finds any case; write it in lower case",
               keyword->text);
    }
}

/* Without keywords: from the regex. */
static void derive_keywords(struct making *making)
{
    struct tf_redact_rule *rule = making->rule;
    struct tf_redact_derived derived;

    if (rule->regex == NULL) {
        return;
    }
    tf_redact_derive(rule->regex, &derived);
    for (size_t i = 0; i < derived.count; i++) {
        struct tf_buf text = {.data = derived.texts[i], .size = strlen(derived.texts[i])};

        rule->keywords[i] = keep_text(making->reader, &text);
    }
    rule->flags |= derived.fold ? TF_REDACT_FOLD : 0;
    if (!derived.is_fixed) {
        rule->flags |= TF_REDACT_LINE; /* also when nothing was found: searched in every text */
    }
    rule->lead = (rule->flags & TF_REDACT_LINE) != 0 ? 0 : derived.lead;
}

/* What has a meaning only together with keywords. */
static void refuse_without_keywords(struct making *making)
{
    const struct written *written = making->written;

    if (written->follow.text != NULL) {
        refuse(making, &written->follow.at,
               "follow: there are no keywords; write them, or leave "
               "follow out");
    }
    if (written->lead > 0) {
        refuse(making, &written->id.at,
               "lead: there are no keywords; write them, or leave lead out");
    }
}

static void make_keywords(struct making *making)
{
    const struct written *written = making->written;
    struct tf_redact_rule *rule = making->rule;
    bool has_keywords = written->keywords.count > 0, has_class = written->class_ != 0;

    rule->flags |= written->search == 1 ? TF_REDACT_LINE : 0;
    rule->class_ = (enum tf_redact_class)written->class_;
    if (has_keywords + has_class + (written->requires.text != NULL) > 1) {
        refuse(making, &written->id.at,
               "only one of keywords, class and requires can lead to a match; keep one");
        return;
    }
    if (!has_keywords) {
        refuse_without_keywords(making);
        if (written->requires.text != NULL) {
            rule->flags |= TF_REDACT_LINE;
        } else if (!has_class) {
            derive_keywords(making);
        }
        return;
    }
    take_texts(making, "keywords", &written->keywords, rule->keywords, TF_REDACT_KEYWORDS_MAX);
    for (size_t i = 0; i < written->keywords.count; i++) {
        if (written->keywords.items[i].text != NULL) {
            check_keyword(making, &written->keywords.items[i]);
        }
    }
    rule->flags |= written->fold ? TF_REDACT_FOLD : 0;
    rule->follow = written->follow.text;
    rule->lead = (uint8_t)written->lead;
    if (written->lead > 0 && written->search == 1) {
        refuse(making, &written->id.at, "lead and search: line exclude each other; keep one");
    }
}

/* digits(9), token(32), byte(@): what is read is written again, so nothing else passes. */
static void make_requires(struct making *making)
{
    const struct tf_text *requires = &making->written->requires;
    struct tf_redact_rule *rule = making->rule;
    unsigned count = 0;
    char again[32] = "", byte = '\0';

    if (requires->text == NULL) {
        return;
    }
    if (sscanf(requires->text, "digits(%3u", &count) == 1) {
        rule->requires = TF_REDACT_REQUIRES_DIGITS;
        (void)snprintf(again, sizeof again, "digits(%u)", count);
    } else if (sscanf(requires->text, "token(%3u", &count) == 1) {
        rule->requires = TF_REDACT_REQUIRES_TOKEN;
        (void)snprintf(again, sizeof again, "token(%u)", count);
    } else if (sscanf(requires->text, "byte(%c", &byte) == 1) {
        rule->requires = TF_REDACT_REQUIRES_BYTE;
        (void)snprintf(again, sizeof again, "byte(%c)", byte);
    }
    rule->requires_count = rule->requires == TF_REDACT_REQUIRES_BYTE ? (uint8_t)byte : count;
    if (strcmp(again, requires->text) != 0 || (count == 0 && strncmp(again, "byte", 4) != 0) ||
        count > TOKEN_MAX) {
        refuse(making, &requires->at,
               "requires: \"%.64s\" is not known; write digits(9), token(32) or byte(@), with at "
               "most %u",
               requires->text, TOKEN_MAX);
    }
}

static void make_entropy(struct making *making)
{
    const struct tf_text *entropy = &making->written->entropy;
    char *end = NULL;

    if (entropy->text == NULL) {
        return;
    }
    making->rule->entropy_min = strtod(entropy->text, &end);
    if (strspn(entropy->text, "0123456789.") != strlen(entropy->text) || *end != '\0' ||
        end == entropy->text || !(making->rule->entropy_min <= ENTROPY_MAX)) {
        refuse(making, &entropy->at,
               "entropy: \"%.64s\" is not 0 to 8 bits a byte; 3.5 is a usual bound for tokens",
               entropy->text);
    }
}

static void make_tags(struct making *making)
{
    const struct tf_texts *tags = &making->written->tags;

    take_texts(making, "tags", tags, making->rule->tags, TF_REDACT_TAGS_MAX);
    for (size_t i = 0; i < tags->count; i++) {
        if (tags->items[i].text != NULL && !is_word(tags->items[i].text)) {
            refuse(making, &tags->items[i].at, "tags: \"%.64s\" is no tag; write [a-z0-9-]{1,63}",
                   tags->items[i].text);
        }
    }
}

static void make_stopwords(struct making *making)
{
    const struct tf_texts *words = &making->written->stopwords;

    take_texts(making, "stopwords", words, making->rule->stopwords, TF_REDACT_STOPWORDS_MAX);
    for (size_t i = 0; i < words->count; i++) {
        const char *word = words->items[i].text;

        if (word != NULL && (word[0] == '\0' || has_capital(word))) {
            refuse(
                making, &words->items[i].at,
                "stopwords: \"%.64s\" is empty or has capitals; write it in lower case, any case "
                "is found",
                word);
        }
    }
}

/* Takes the {{}} out of an example. */
static void join_example(struct making *making, const char **example)
{
    const char *text = *example, *mark = text != NULL ? strstr(text, "{{}}") : NULL;
    struct tf_buf buf;

    if (mark == NULL) {
        return;
    }
    tf_buf_init(&buf, TEXT_MAX);
    for (; mark != NULL; mark = strstr(text, "{{}}")) {
        (void)tf_buf_append(&buf, text, (size_t)(mark - text));
        text = mark + 4;
    }
    (void)tf_buf_append_text(&buf, text);
    if (buf.error == -EMSGSIZE) {
        refuse(making, &making->written->match.at,
               "examples: one is longer than %u bytes; shorten it", TEXT_MAX);
    }
    making->reader->no_memory |= buf.error == -ENOMEM;
    *example = buf.error == 0 ? keep_text(making->reader, &buf) : "";
    tf_buf_fini(&buf);
}

static void make_examples(struct making *making)
{
    const struct written *written = making->written;
    struct tf_redact_rule *rule = making->rule;

    take_texts(making, "examples.match", &written->match, rule->match, TF_REDACT_EXAMPLES_MAX);
    take_texts(making, "examples.no_match", &written->no_match, rule->no_match,
               TF_REDACT_EXAMPLES_MAX);
    for (size_t i = 0; i < TF_REDACT_EXAMPLES_MAX; i++) {
        join_example(making, &rule->match[i]);
        join_example(making, &rule->no_match[i]);
    }
}

/* Returns whether nothing is wrong with it. */
static bool make_rule(struct reader *reader, const struct written *written,
                      struct tf_redact_rule *rule)
{
    struct making making = {.reader = reader, .written = written, .rule = rule};
    size_t errors_before = reader->err->errors;

    if (written->id.text == NULL) {
        return false; /* that was told */
    }
    *rule = (struct tf_redact_rule){.id = written->id.text,
                                    .pack = reader->pack,
                                    .about = written->description.text,
                                    .check = (enum tf_redact_check)written->check,
                                    .keep_first = (uint8_t)written->keep_first,
                                    .keep_last = (uint8_t)written->keep_last,
                                    .allow_slow = written->allow_slow,
                                    .guessable = written->guessable,
                                    .is_own = !reader->args->is_shipped};
    rule->flags = written->off ? TF_REDACT_OFF : 0;
    if (!reader->args->is_shipped) {
        rule->at = written->id.at;
    }
    if (!is_word(written->id.text)) {
        refuse(&making, &written->id.at, "this is no id; write [a-z0-9-]{1,%u}",
               TF_REDACT_NAME_MAX);
    }
    make_regex(&making);
    make_keywords(&making);
    make_requires(&making);
    make_entropy(&making);
    make_allow(&making);
    make_stopwords(&making);
    make_tags(&making);
    make_examples(&making);
    return !making.failed && rule->about != NULL && reader->err->errors == errors_before;
}

/* ---- the file ------------------------------------------------------------------------------- */

static void read_fragments(struct reader *reader, const struct tf_pairs *written)
{
    if (written->count > TF_REDACT_FRAGMENTS_MAX) {
        (void)tf_error_add(reader->err, &written->at,
                           "fragments: %zu are too many; write %u or less, or part the file",
                           written->count, TF_REDACT_FRAGMENTS_MAX);
        return;
    }
    for (size_t i = 0; i < written->count; i++) {
        const struct tf_pair *pair = &written->items[i];
        struct tf_pair *to = &reader->fragments[reader->fragment_count];

        *to = *pair;
        to->value.text = expand(reader, &pair->value, "fragments");
        if (to->value.text == NULL) {
            to->value.text = ""; /* that was told; what uses it shall not be told of too */
        }
        reader->fragment_count++;
    }
}

/* Of the file that args call shared. */
static int read_shared(struct reader *reader)
{
    const struct tf_redact_language_args *args = reader->args;
    struct written_file file = {.rules = {.count = 0}};
    int rc;

    if (args->shared.size == 0) {
        return 0;
    }
    rc = tf_options_parse(args->shared, "conf/rules/fragments.yaml", "the file of fragments",
                          shared_options, &file, args->arena, reader->err);
    if (rc == 0) {
        read_fragments(reader, &file.fragments);
    }
    return rc;
}

static void read_pack(struct reader *reader, const struct tf_text *pack)
{
    reader->pack = pack->text != NULL ? pack->text : TF_REDACT_OWN_PACK;
    if (pack->text != NULL && !is_word(pack->text)) {
        (void)tf_error_add(reader->err, &pack->at,
                           "pack: \"%.64s\" is no name of a pack; write [a-z0-9-]{1,%u}",
                           pack->text, TF_REDACT_NAME_MAX);
    }
}

int tf_redact_language_parse(const struct tf_redact_language_args *args,
                             struct tf_redact_rule **rules, size_t *count, struct tf_error *err)
{
    struct reader reader = {.args = args, .err = err};
    struct written_file file = {.rules = {.count = 0}};
    size_t errors_before = err->errors, size = strlen(args->file) + 1;
    char *name = tf_arena_alloc(args->arena, size);
    int read;

    *rules = NULL;
    *count = 0;
    if (name == NULL) {
        return -ENOMEM;
    }
    memcpy(name, args->file, size);
    read = read_shared(&reader);
    if (read < 0) {
        return read;
    }
    read = tf_options_parse(args->yaml, name, "the rule file", tf_redact_file_options, &file,
                            args->arena, err);
    if (read == -ENOMEM) {
        return read;
    }
    read_pack(&reader, &file.pack);
    read_fragments(&reader, &file.fragments);
    if (file.rules.count > 0) {
        *rules = tf_arena_alloc(args->arena, file.rules.count * sizeof **rules);
        reader.no_memory |= *rules == NULL;
    }
    for (size_t i = 0; i < file.rules.count && !reader.no_memory; i++) {
        const struct written *written = (const struct written *)file.rules.items + i;

        *count += make_rule(&reader, written, *rules + *count) ? 1 : 0;
    }
    if (reader.no_memory || read < 0) {
        *count = 0;
    }
    if (reader.no_memory) {
        return -ENOMEM;
    }
    return err->errors > errors_before ? -EINVAL : 0;
}
