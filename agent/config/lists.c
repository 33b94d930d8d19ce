/*
 * lists.c - inputs, filters and outputs: lists of maps with one key, the kind.
 *
 * Names are unique in their list: cursors, positions and logs go by them. Redact is the last
 * filter, on every record, and is added when it is not written; only `redact: off` takes it out.
 * Each input's tag is matched by some output, as far as that can be known: a receiver's tags are
 * not.
 */
#include "internal.h"

#include <assert.h>
#include <stdio.h>

#include "taffrail/filter.h"
#include "taffrail/input.h"
#include "taffrail/output.h"

#define NAME_MAX_BYTES 63u
#define TAG_MAX_BYTES  255u
#define INPUTS_MAX     64u
#define FILTERS_MAX    16u
#define OUTPUTS_MAX    32u /* the spool's cursors have room for so many */
#define OWN_NAME       "taffrail"
#define REDACT         "redact"

/* ---- kinds ---------------------------------------------------------------------------------- */

/* What each entry of a list has besides its kind's own keys. */
struct common {
    struct tf_text name, tag;
    struct tf_texts match;
};

#define NAME_OPTION                                                                                \
    {                                                                                              \
        .name = "name", .type = TF_OPTION_TEXT, .offset = offsetof(struct common, name)            \
    }

static const struct tf_option input_options[] = {
    NAME_OPTION,
    {.name = "tag", .type = TF_OPTION_TEXT, .offset = offsetof(struct common, tag)},
    {0},
};

static const struct tf_option match_options[] = {
    NAME_OPTION,
    {.name = "match",
     .type = TF_OPTION_TEXTS,
     .offset = offsetof(struct common, match),
     .def = "[\"**\"]",
     .required = true}, /* so an empty list is an error */
    {0},
};

/* What the three sorts of kinds have in common. */
struct kind {
    const void *descriptor; /* NULL: none of that number */
    const char *name;
    const struct tf_option *options;
    size_t options_bytes;
    bool is_receiver;
};

typedef struct kind kind_at_fn(const struct tf_plugins *plugins, size_t index);

static struct kind input_at(const struct tf_plugins *plugins, size_t index)
{
    const struct tf_input_kind *kind = plugins->inputs[index];

    if (kind == NULL) {
        return (struct kind){0};
    }
    return (struct kind){kind, kind->name, kind->options, kind->options_bytes, kind->is_receiver};
}

static struct kind filter_at(const struct tf_plugins *plugins, size_t index)
{
    const struct tf_filter_kind *kind = plugins->filters[index];

    if (kind == NULL) {
        return (struct kind){0};
    }
    return (struct kind){kind, kind->name, kind->options, kind->options_bytes, false};
}

static struct kind output_at(const struct tf_plugins *plugins, size_t index)
{
    const struct tf_output_kind *kind = plugins->outputs[index];

    if (kind == NULL) {
        return (struct kind){0};
    }
    return (struct kind){kind, kind->name, kind->options, kind->options_bytes, false};
}

/* One of the three lists, as far as they differ. */
struct list_kind {
    const char *section, *noun;
    const char *example;      /* an entry, for messages */
    const char *example_name; /* for the second of a kind */
    kind_at_fn *kind_at;
    const struct tf_option *common;
    size_t count_max;
    bool is_required;
    bool may_be_empty; /* where it is written so */
};

static const struct list_kind input_list = {
    .section = "inputs",
    .noun = "input",
    .example = "container: {}",
    .example_name = "apps",
    .kind_at = input_at,
    .common = input_options,
    .count_max = INPUTS_MAX,
    .is_required = true,
    .may_be_empty = true, /* for readers of a spool; `run` refuses it */
};
static const struct list_kind filter_list = {
    .section = "filters",
    .noun = "filter",
    .example = "redact: {}",
    .example_name = "more",
    .kind_at = filter_at,
    .common = match_options,
    .count_max = FILTERS_MAX,
};
static const struct list_kind output_list = {
    .section = "outputs",
    .noun = "output",
    .example = "forward: {hosts: [logs.example.com], tls: {ca: ca.pem, cert: node.pem, key: "
               "node.key}}",
    .example_name = "archive",
    .kind_at = output_at,
    .common = match_options,
    .count_max = OUTPUTS_MAX,
    .is_required = true,
};

struct kind_words {
    const struct tf_plugins *plugins;
    kind_at_fn *kind_at;
};

static const char *kind_word(const void *words, size_t index)
{
    const struct kind_words *kinds = words;

    return kinds->kind_at(kinds->plugins, index).name;
}

/* The kind called name; descriptor is NULL when there is none, and *count is how many there are. */
static struct kind find_kind(const struct tf_load *load, const struct list_kind *list,
                             const char *name, size_t *count)
{
    struct kind found = {0}, kind;

    for (*count = 0; (kind = list->kind_at(load->plugins, *count)).descriptor != NULL; ++*count) {
        found = strcmp(kind.name, name) == 0 ? kind : found;
    }
    return found;
}

/* ---- names and tags ------------------------------------------------------------------------- */

static bool is_made_of(const char *text, const char *more)
{
    size_t i = 0;

    while ((text[i] >= 'a' && text[i] <= 'z') || (text[i] >= '0' && text[i] <= '9') ||
           (text[i] != '\0' && strchr(more, text[i]) != NULL)) {
        i++;
    }
    return text[i] == '\0';
}

/* Takes the name that is written, or the kind's. */
static void take_name(struct tf_load *load, const struct tf_text *written, const char *kind,
                      struct tf_plugin_config *item)
{
    const char *name = written->text != NULL ? written->text : kind;
    size_t size = strlen(name);

    item->name = name;
    if (size == 0 || size > NAME_MAX_BYTES || !is_made_of(name, "_-")) {
        (void)tf_error_add(load->reader.err, &written->at,
                           "name: %s is no name; write 1 to %u of a-z, 0-9, - and _",
                           tf_quote(name).text, NAME_MAX_BYTES);
    } else if (strcmp(name, OWN_NAME) == 0) {
        (void)tf_error_add(load->reader.err, &written->at,
                           "name: \"" OWN_NAME "\" is the agent's own; take another");
    }
}

/* Names are how cursors, metrics and logs know a plugin: twice in a list is an error. */
static void check_unique(struct tf_load *load, const struct list_kind *list,
                         const struct tf_plugin_list *items, const struct tf_text *written)
{
    const struct tf_plugin_config *newest = &items->items[items->count - 1];

    for (size_t i = 0; i + 1 < items->count; i++) {
        if (strcmp(items->items[i].name, newest->name) != 0) {
            continue;
        }
        if (written->text != NULL) {
            (void)tf_error_add(load->reader.err, &written->at,
                               "two %s are called %s (line %u); give this one another name",
                               list->section, tf_quote(newest->name).text, items->items[i].at.line);
        } else {
            (void)tf_error_add(load->reader.err, &newest->at,
                               "two %s are called %s (line %u); give this one a name, such as "
                               "\"name: %s\"",
                               list->section, tf_quote(newest->name).text, items->items[i].at.line,
                               list->example_name);
        }
        return;
    }
}

static const struct tf_texts *texts_of(const struct tf_plugin_config *item,
                                       const struct tf_option *option)
{
    return (const struct tf_texts *)((const char *)item->options + option->offset);
}

static bool holds_text(const struct tf_texts *texts, const char *text)
{
    for (size_t i = 0; i < texts->count; i++) {
        if (strcmp(texts->items[i].text, text) == 0) {
            return true;
        }
    }
    return false;
}

/* Two outputs to one host would close each other's connections (docs/forward-output.md). */
static void check_exclusive(struct tf_load *load, const struct list_kind *list,
                            const struct tf_plugin_list *items, const struct tf_option *option)
{
    const struct tf_plugin_config *newest = &items->items[items->count - 1];
    const struct tf_texts *texts = texts_of(newest, option);

    for (size_t i = 0; i < (items->count - 1) * texts->count; i++) {
        const struct tf_plugin_config *older = &items->items[i / texts->count];
        const struct tf_text *text = &texts->items[i % texts->count];

        if (older->kind == newest->kind && holds_text(texts_of(older, option), text->text)) {
            (void)tf_error_add(
                load->reader.err, &text->at,
                "%s: %s is in %s \"%s\" (line %u) too; take it out of one of the two", option->name,
                tf_quote(text->text).text, list->noun, older->name, older->at.line);
        }
    }
}

/* The size of a place holder such as {pod} at text, or 0. */
static size_t placeholder_bytes(const char *text)
{
    static const char *const known[] = {"{namespace}", "{pod}", "{container}"};

    for (size_t i = 0; i < TF_COUNT(known); i++) {
        if (strncmp(text, known[i], strlen(known[i])) == 0) {
            return strlen(known[i]);
        }
    }
    return 0;
}

static bool has_sound_placeholders(const char *tag)
{
    while (*tag != '\0') {
        size_t size = placeholder_bytes(tag);

        if (size == 0 && (*tag == '{' || *tag == '}')) {
            return false;
        }
        tag += size > 0 ? size : 1;
    }
    return true;
}

static void take_tag(struct tf_load *load, const struct tf_text *written, const struct kind *kind,
                     struct tf_plugin_config *item)
{
    struct tf_error *err = load->reader.err;
    const char *tag = written->text;

    item->tag = tag != NULL ? tag : item->name;
    if (tag == NULL) {
        return;
    }
    if (kind->is_receiver) {
        (void)tf_error_add(err, &written->at,
                           "tag: input \"%s\" keeps the senders' tags; leave tag out", kind->name);
    } else if (tag[0] == '\0' || strlen(tag) > TAG_MAX_BYTES ||
               !is_made_of(tag, "ABCDEFGHIJKLMNOPQRSTUVWXYZ._-/{}")) {
        (void)tf_error_add(err, &written->at,
                           "tag: %s is no tag; write 1 to %u of letters, digits and . _ - /",
                           tf_quote(tag).text, TAG_MAX_BYTES);
    } else if (!has_sound_placeholders(tag)) {
        (void)tf_error_add(err, &written->at,
                           "tag: %s has braces around something else than {namespace}, {pod} or "
                           "{container}; write one of these",
                           tf_quote(tag).text);
    } else if (strcmp(tag, OWN_NAME) == 0 ||
               strncmp(tag, OWN_NAME ".", strlen(OWN_NAME) + 1) == 0) {
        (void)tf_error_add(err, &written->at, "tag: %s is the agent's own; take another",
                           tf_quote(tag).text);
    }
}

/*
 * Whether glob matches what tag may become: a place holder may become any text. By columns: after
 * i bytes of the tag, can[j] tells whether j bytes of the glob may be used up.
 */
static bool may_match(const char *glob, const char *tag)
{
    bool can[TAG_MAX_BYTES + 2] = {true}, next[TAG_MAX_BYTES + 2];
    size_t size = strlen(glob);

    if (strchr(tag, '{') == NULL || size > TAG_MAX_BYTES) {
        return tf_glob_match(glob, tf_slice_text(tag), '.');
    }
    for (;;) {
        size_t skip = placeholder_bytes(tag);
        bool is_any = skip > 0;

        for (size_t j = 0; j < size; j++) { /* stars may be passed; any text may use up anything */
            can[j + 1] |= can[j] && (is_any || glob[j] == '*');
        }
        if (*tag == '\0') {
            return can[size];
        }
        memset(next, 0, sizeof next);
        for (size_t j = 0; j <= size; j++) {
            bool is_star = j > 0 && glob[j - 1] == '*';
            bool is_double = is_star && j > 1 && glob[j - 2] == '*';

            next[j] = (is_any && can[j]) || (can[j] && is_star && (*tag != '.' || is_double)) ||
                      (j > 0 && can[j - 1] && (glob[j - 1] == '?' || glob[j - 1] == *tag));
        }
        memcpy(can, next, sizeof can);
        tag += is_any ? skip : 1;
    }
}

/* Records that no output wants would be read for nothing, and most likely by mistake. */
static void check_matched(struct tf_load *load, const struct tf_plugin_config *input)
{
    const struct tf_input_kind *kind = input->kind;
    const struct tf_plugin_list *outputs = &load->config->outputs;
    bool is_matched = kind->is_receiver;

    for (size_t i = 0; i < outputs->count && !is_matched; i++) {
        const struct tf_texts *match = &outputs->items[i].match;

        for (size_t j = 0; j < match->count && !is_matched; j++) {
            is_matched =
                match->items[j].text == NULL || may_match(match->items[j].text, input->tag);
        }
        is_matched |= match->count == 0;
    }
    if (!is_matched) {
        (void)tf_error_add(load->reader.err, &input->at,
                           "no output matches the tag %s of input \"%s\"; add it to the match of "
                           "one, or take the input out",
                           tf_quote(input->tag).text, input->name);
    }
}

/* ---- lists ---------------------------------------------------------------------------------- */

/* The one kind of an entry, or NULL when it is not so: that was told. */
static const struct tf_yaml *entry_kind(struct tf_load *load, const struct list_kind *list,
                                        const struct tf_yaml *entry)
{
    struct tf_error *err = load->reader.err;

    if (entry->type == TF_YAML_BAD) {
        return NULL;
    }
    if (entry->type == TF_YAML_TEXT && !tf_yaml_is_null(entry)) {
        (void)tf_error_add(err, &entry->at, "%s: %s is not a map; write %s", list->section,
                           tf_quote(entry->text).text, list->example);
        return NULL;
    }
    if (entry->type != TF_YAML_MAP || entry->count == 0) {
        (void)tf_error_add(err, &entry->at, "%s: an entry is a map with one key, such as %s",
                           list->section, list->example);
        return NULL;
    }
    if (entry->count > 1) {
        (void)tf_error_add(err, &entry->first->next->key_at,
                           "%s: %s stands beside %s, an entry has one key; indent it to put it "
                           "into %s, or begin an entry with -",
                           list->section, tf_quote(entry->first->next->key).text,
                           tf_quote(entry->first->key).text, entry->first->key);
        return NULL;
    }
    return entry->first;
}

static bool has_map(struct tf_load *load, const struct list_kind *list, const struct tf_yaml *node)
{
    const char *what = node->type == TF_YAML_LIST ? "is a list" : "is a text";

    if (node->type == TF_YAML_MAP || node->type == TF_YAML_BAD) {
        return node->type == TF_YAML_MAP;
    }
    (void)tf_error_add(load->reader.err, &node->at,
                       "%s \"%s\" %s, not a map; write %s: {...}, or %s: {} for its defaults",
                       list->noun, node->key, tf_yaml_is_null(node) ? "is empty" : what, node->key,
                       node->key);
    return false;
}

/* Reads the map of an entry whose kind is known into the next item. */
static void read_entry(struct tf_load *load, const struct list_kind *list, const struct kind *kind,
                       const struct tf_yaml *node, struct tf_plugin_list *items)
{
    struct tf_plugin_config *item = &items->items[items->count];
    struct common common = {0};
    char plugin[128];
    struct tf_scope scope = {
        .reader = &load->reader, .plugin = plugin, .prefix = "", .at = node->key_at};

    (void)snprintf(plugin, sizeof plugin, "%s \"%.64s\"", list->noun, kind->name);
    item->kind = kind->descriptor;
    item->kind_name = kind->name;
    item->at = node->key_at;
    item->options = tf_reader_alloc(&load->reader, kind->options_bytes);
    if (item->options == NULL) {
        return;
    }
    items->count++;
    tf_options_fill(&scope, list->common, node, &common);
    tf_options_fill(&scope, kind->options, node, item->options);
    tf_options_refuse_unknown(&scope, list->common, kind->options, node);
    item->match = common.match;
    take_name(load, &common.name, kind->name, item);
    check_unique(load, list, items, &common.name);
    for (const struct tf_option *option = kind->options; option != NULL && option->name != NULL;
         option++) {
        if (option->is_exclusive) {
            check_exclusive(load, list, items, option);
        }
    }
    if (list == &input_list) {
        take_tag(load, &common.tag, kind, item);
    }
}

static void read_kind(struct tf_load *load, const struct list_kind *list,
                      const struct tf_yaml *node, struct tf_plugin_list *items)
{
    size_t count;
    struct kind kind = find_kind(load, list, node->key, &count);

    if (kind.descriptor == NULL) {
        const struct kind_words words = {load->plugins, list->kind_at};

        (void)tf_error_add(load->reader.err, &node->key_at, "unknown %s %s; %s", list->noun,
                           tf_quote(node->key).text,
                           tf_hint_nearest(node->key, &words, count, kind_word).text);
    } else if (list == &filter_list && strcmp(kind.name, REDACT) == 0 &&
               node->type == TF_YAML_TEXT && strcmp(node->text, "off") == 0) {
        load->config->redact_off = true;
        tf_warning_add(load->reader.err, &node->at,
                       "redact is off: secrets in logs reach the spool and the outputs as they "
                       "are");
    } else if (has_map(load, list, node)) {
        read_entry(load, list, &kind, node, items);
    }
}

static void read_list(struct tf_load *load, const struct list_kind *list,
                      const struct tf_yaml *root, struct tf_plugin_list *items)
{
    const struct tf_yaml *node = tf_yaml_get(root, list->section);
    struct tf_error *err = load->reader.err;

    items->at = node != NULL ? node->key_at : (struct tf_place){.file = load->config->file};
    if (node == NULL || (node->type == TF_YAML_LIST && node->count == 0)) {
        if (list->is_required && (node == NULL || !list->may_be_empty)) {
            (void)tf_error_add(err, &items->at, "there are no %s; write %s: [%s]", list->section,
                               list->section, list->example);
        }
    } else if (node->type != TF_YAML_LIST) {
        if (node->type != TF_YAML_BAD) {
            (void)tf_error_add(err, &node->at, "%s: this is not a list; write %s: [%s]",
                               list->section, list->section, list->example);
        }
    } else if (node->count > list->count_max) {
        (void)tf_error_add(err, &node->at, "%s: %zu are too many; write %zu or less", list->section,
                           node->count, list->count_max);
    } else {
        items->items = tf_reader_alloc(&load->reader, (node->count + 1) * sizeof *items->items);
        node = items->items != NULL ? node->first : NULL;
        for (; node != NULL; node = node->next) {
            const struct tf_yaml *kind = entry_kind(load, list, node);

            if (kind != NULL) {
                read_kind(load, list, kind, items);
            }
        }
    }
}

/* ---- redact --------------------------------------------------------------------------------- */

/* It looks at every record, and nothing is added behind it. */
static void check_redact(struct tf_load *load)
{
    const struct tf_plugin_list *filters = &load->config->filters;
    const struct tf_plugin_config *redact = NULL;

    for (size_t i = 0; i < filters->count; i++) {
        const struct tf_plugin_config *item = &filters->items[i];
        bool is_redact = strcmp(item->kind_name, REDACT) == 0;

        if (redact != NULL && !is_redact) {
            (void)tf_error_add(load->reader.err, &item->at,
                               "filter \"%s\" comes after redact, where no rule would see what it "
                               "adds; move it above line %u",
                               item->name, redact->at.line);
        } else if (redact != NULL && strcmp(redact->name, item->name) != 0) {
            (void)tf_error_add(load->reader.err, &item->at,
                               "redact is written twice, first in line %u; keep one",
                               redact->at.line);
        } else if (is_redact && load->config->redact_off) {
            (void)tf_error_add(load->reader.err, &item->at,
                               "redact is written twice, and off in one of them; keep one");
        }
        if (is_redact && item->match.count > 0 &&
            (item->match.count > 1 || item->match.items[0].text == NULL ||
             strcmp(item->match.items[0].text, "**") != 0)) {
            (void)tf_error_add(load->reader.err, &item->match.at,
                               "match: redact looks at every record; leave match out");
        }
        redact = is_redact && redact == NULL ? item : redact;
    }
}

static bool has_redact(const struct tf_plugin_list *filters)
{
    bool has = false;

    for (size_t i = 0; i < filters->count; i++) {
        has |= strcmp(filters->items[i].kind_name, REDACT) == 0;
    }
    return has;
}

/* As if `redact: {}` stood at the end of the list. */
static void append_redact(struct tf_load *load)
{
    struct tf_plugin_list *filters = &load->config->filters;
    struct tf_yaml empty = {.type = TF_YAML_MAP, .key = REDACT};
    size_t count;
    struct kind kind = find_kind(load, &filter_list, REDACT, &count);

    assert(kind.descriptor != NULL); /* no build is without it */
    if (load->config->redact_off || has_redact(filters)) {
        return;
    }
    if (filters->items == NULL) {
        filters->items = tf_reader_alloc(&load->reader, sizeof *filters->items);
    }
    if (filters->items != NULL) {
        empty.at = empty.key_at = (struct tf_place){.file = load->config->file};
        read_entry(load, &filter_list, &kind, &empty, filters);
    }
}

/* ---- all three ------------------------------------------------------------------------------ */

void tf_lists_read(struct tf_load *load, const struct tf_yaml *root)
{
    struct tf_config *config = load->config;
    const struct tf_yaml *outputs = tf_yaml_get(root, output_list.section);

    read_list(load, &input_list, root, &config->inputs);
    read_list(load, &filter_list, root, &config->filters);
    read_list(load, &output_list, root, &config->outputs);
    check_redact(load);
    append_redact(load);
    if (outputs == NULL || outputs->count != config->outputs.count) {
        return; /* one that is wrong may have been meant to match */
    }
    for (size_t i = 0; i < config->inputs.count; i++) {
        check_matched(load, &config->inputs.items[i]);
    }
}
