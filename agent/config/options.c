/*
 * options.c - fills an options struct from a YAML map, driven by its option table.
 *
 * Each key of the table is read from the map, or set to its default; keys of the map that no table
 * has are refused, with the nearest known one. A default is what one would write in YAML: a scalar
 * as it is, a list or map in brackets. What is absent has the place of the enclosing key, so that a
 * later error about it points somewhere useful.
 */
#include "internal.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>

#define WORD_MAX   64u /* longer words have no near one */
#define PREFIX_MAX 128u

/* ---- the nearest word ----------------------------------------------------------------------- */

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* How many letters were added, left out, changed or swapped with their neighbour; both words have
 * WORD_MAX bytes at most. */
static size_t distance(const char *a, size_t a_size, const char *b, size_t b_size)
{
    size_t rows[3][WORD_MAX + 1]; /* the one before last, the last, the new one; in turn */

    for (size_t j = 0; j <= b_size; j++) {
        rows[0][j] = j;
    }
    for (size_t i = 1; i <= a_size; i++) {
        size_t *row = rows[i % 3], *last = rows[(i + 2) % 3], *before = rows[(i + 1) % 3];

        row[0] = i;
        for (size_t j = 1; j <= b_size; j++) {
            bool is_same = tolower((unsigned char)a[i - 1]) == tolower((unsigned char)b[j - 1]);

            row[j] = least(least(last[j], row[j - 1]) + 1, last[j - 1] + (is_same ? 0 : 1));
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
                row[j] = least(row[j], before[j - 2] + 1);
            }
        }
    }
    return rows[a_size % 3][b_size];
}

static struct tf_hint list_known(const void *words, size_t count, tf_word_fn *get)
{
    struct tf_hint hint = {"known:"};
    size_t at = strlen(hint.text);

    for (size_t i = 0; i < count; i++) {
        const char *word = get(words, i);

        if (at + strlen(word) + 8 > sizeof hint.text) {
            (void)snprintf(hint.text + at, sizeof hint.text - at, ", ...");
            break;
        }
        at += (size_t)snprintf(hint.text + at, sizeof hint.text - at, "%s %s", i > 0 ? "," : "",
                               word);
    }
    return hint;
}

struct tf_hint tf_hint_nearest(const char *word, const void *words, size_t count, tf_word_fn *get)
{
    size_t size = strlen(word);
    size_t bound = size < 6 ? 1 : size / 3, best = bound + 1;
    const char *nearest = NULL;
    struct tf_hint hint;

    for (size_t i = 0; i < count && size <= WORD_MAX; i++) {
        const char *known = get(words, i);
        size_t away = strlen(known) <= WORD_MAX ? distance(word, size, known, strlen(known)) : best;

        if (away < best) {
            best = away;
            nearest = known;
        }
    }
    if (nearest == NULL) {
        return list_known(words, count, get);
    }
    (void)snprintf(hint.text, sizeof hint.text, "nearest: \"%s\"", nearest);
    return hint;
}

/* ---- keys ----------------------------------------------------------------------------------- */

static size_t count_options(const struct tf_option *table)
{
    size_t count = 0;

    while (table != NULL && table[count].name != NULL) {
        count++;
    }
    return count;
}

/* One or two tables as one list of words. */
struct tables {
    const struct tf_option *first, *second;
    size_t first_count, second_count;
};

static const char *table_word(const void *words, size_t index)
{
    const struct tables *tables = words;

    return index < tables->first_count ? tables->first[index].name
                                       : tables->second[index - tables->first_count].name;
}

/* `input "container"`, `tls of output "forward"`, `spool`. */
static void name_scope(const struct tf_scope *scope, char *out, size_t size)
{
    int prefix_size = (int)strlen(scope->prefix);

    if (scope->plugin == NULL) {
        (void)snprintf(out, size, "%.*s", prefix_size - 1, scope->prefix);
    } else if (prefix_size == 0) {
        (void)snprintf(out, size, "%s", scope->plugin);
    } else {
        (void)snprintf(out, size, "%.*s of %s", prefix_size - 1, scope->prefix, scope->plugin);
    }
}

void tf_options_refuse_unknown(const struct tf_scope *scope, const struct tf_option *first,
                               const struct tf_option *second, const struct tf_yaml *map)
{
    struct tables tables = {first, second, count_options(first), count_options(second)};
    size_t count = tables.first_count + tables.second_count;
    char where[2 * PREFIX_MAX];

    name_scope(scope, where, sizeof where);
    for (const struct tf_yaml *item = map->first; item != NULL; item = item->next) {
        size_t i = 0;

        while (i < count && strcmp(table_word(&tables, i), item->key) != 0) {
            i++;
        }
        if (i == count) {
            (void)tf_error_add(scope->reader->err, &item->key_at, "unknown key %s in %s; %s",
                               tf_quote(item->key).text, where,
                               tf_hint_nearest(item->key, &tables, count, table_word).text);
        }
    }
}

static void refuse_missing(const struct tf_scope *scope, const struct tf_option *option)
{
    char where[2 * PREFIX_MAX];

    name_scope(scope, where, sizeof where);
    (void)tf_error_add(
        scope->reader->err, &scope->at, "key \"%s\" is missing in %s; write %s: ...%s%s%s",
        option->name, where, option->name, option->about != NULL ? " (" : "",
        option->about != NULL ? option->about : "", option->about != NULL ? ")" : "");
}

/* ---- defaults ------------------------------------------------------------------------------- */

static void place_nodes(struct tf_yaml *node, struct tf_place at)
{
    for (; node != NULL; node = node->next) {
        node->at = at;
        node->key_at = at;
        node->is_default = true;
        if (node->type == TF_YAML_LIST || node->type == TF_YAML_MAP) {
            place_nodes(node->first, at);
        }
    }
}

/* The default as a node. Tables are written by us: what is wrong with one is told like any error.
 * NULL: it cannot be had. */
static struct tf_yaml *default_node(const struct tf_scope *scope, const struct tf_option *option)
{
    bool is_composed = option->type == TF_OPTION_TEXTS || option->type == TF_OPTION_PATHS ||
                       option->type == TF_OPTION_MAP || option->type == TF_OPTION_MAPS;
    struct tf_yaml *node = NULL;

    if (is_composed && (option->def[0] == '[' || option->def[0] == '{')) {
        int rc = tf_yaml_parse(tf_slice_text(option->def), scope->at.file, scope->reader->arena,
                               &node, scope->reader->err);

        scope->reader->no_memory |= rc == -ENOMEM;
    } else {
        node = tf_reader_alloc(scope->reader, sizeof *node);
        if (node != NULL) {
            *node = (struct tf_yaml){.type = TF_YAML_TEXT, .text = option->def};
        }
    }
    place_nodes(node, scope->at);
    return node;
}

/* What lists, maps and texts have though they are absent: a place. */
static void place_absent(const struct tf_scope *scope, const struct tf_option *option, void *member)
{
    switch (option->type) {
    case TF_OPTION_TEXT:
    case TF_OPTION_PATH:
        ((struct tf_text *)member)->at = scope->at;
        break;
    case TF_OPTION_TEXTS:
    case TF_OPTION_PATHS:
        ((struct tf_texts *)member)->at = scope->at;
        break;
    case TF_OPTION_MAP:
        ((struct tf_pairs *)member)->at = scope->at;
        break;
    case TF_OPTION_MAPS:
    case TF_OPTION_TABLES:
        ((struct tf_tables *)member)->at = scope->at;
        break;
    default:
        break;
    }
}

static void fill_absent(const struct tf_scope *scope, const struct tf_option *option, void *member)
{
    const struct tf_yaml *node;

    if (option->required && option->def == NULL && !scope->is_absent) {
        refuse_missing(scope, option);
    }
    place_absent(scope, option, member);
    if (option->def != NULL) {
        node = default_node(scope, option);
        if (node != NULL) {
            tf_value_read(scope, option, node, member);
        }
    }
}

/* ---- nested tables -------------------------------------------------------------------------- */

static void refuse_shape(const struct tf_scope *scope, const struct tf_option *option,
                         const struct tf_yaml *node, bool wants_list)
{
    if (node->type == TF_YAML_BAD) {
        return;
    }
    (void)tf_error_add(scope->reader->err, &node->at, "%s%s: %s; write %s: %s{%s: ...}%s",
                       scope->prefix, option->name,
                       node->type == TF_YAML_MAP    ? "this is a map, not a list of maps"
                       : node->type == TF_YAML_LIST ? "this is a list, not a map"
                       : tf_yaml_is_null(node)      ? "it is empty"
                                                    : "this is a text",
                       option->name, wants_list ? "[" : "", option->table[0].name,
                       wants_list ? "]" : "");
}

/* node NULL: absent. */
static void fill_table(const struct tf_scope *scope, const struct tf_option *option,
                       const struct tf_yaml *node, struct tf_place at, void *member)
{
    char prefix[PREFIX_MAX];
    struct tf_scope inner = {.reader = scope->reader,
                             .plugin = scope->plugin,
                             .prefix = prefix,
                             .at = at,
                             .is_absent = node == NULL};

    (void)snprintf(prefix, sizeof prefix, "%s%s.", scope->prefix, option->name);
    tf_options_fill(&inner, option->table, node, member);
    if (node != NULL) {
        tf_options_refuse_unknown(&inner, option->table, NULL, node);
    }
}

static void read_table(const struct tf_scope *scope, const struct tf_option *option,
                       const struct tf_yaml *node, void *options, void *member)
{
    if (node != NULL && node->type != TF_YAML_MAP) {
        refuse_shape(scope, option, node, false);
        return;
    }
    if (node == NULL && option->required && !scope->is_absent) {
        refuse_missing(scope, option);
    }
    if (node != NULL && option->present_offset != 0) {
        *(bool *)((char *)options + option->present_offset) = true;
    }
    fill_table(scope, option, node, node != NULL ? node->key_at : scope->at, member);
}

static void read_tables(const struct tf_scope *scope, const struct tf_option *option,
                        const struct tf_yaml *node, struct tf_tables *member)
{
    const struct tf_yaml *item = node->first;

    member->at = node->at;
    if (node->type != TF_YAML_LIST) {
        refuse_shape(scope, option, node, true);
        return;
    }
    if (node->count == 0 && option->required) {
        (void)tf_error_add(scope->reader->err, &node->at,
                           "%s%s: the list is empty; it needs at least one", scope->prefix,
                           option->name);
        return;
    }
    member->items = tf_reader_alloc(scope->reader, node->count * option->table_bytes);
    for (size_t i = 0; member->items != NULL && i < node->count; i++, item = item->next) {
        if (item->type == TF_YAML_MAP) {
            fill_table(scope, option, item, item->at,
                       (char *)member->items + i * option->table_bytes);
        } else {
            refuse_shape(scope, option, item, true);
        }
        member->count = i + 1;
    }
}

void tf_options_fill(const struct tf_scope *scope, const struct tf_option *table,
                     const struct tf_yaml *map, void *options)
{
    for (const struct tf_option *option = table; option != NULL && option->name != NULL; option++) {
        const struct tf_yaml *node = tf_yaml_get(map, option->name);
        void *member = (char *)options + option->offset;

        if (option->type == TF_OPTION_TABLE) {
            read_table(scope, option, node, options, member);
        } else if (node == NULL) {
            fill_absent(scope, option, member);
        } else if (option->type == TF_OPTION_TABLES) {
            read_tables(scope, option, node, member);
        } else {
            tf_value_read(scope, option, node, member);
        }
    }
}

int tf_options_default(const struct tf_option *table, void *options, void *arena)
{
    struct tf_error err;
    struct tf_config_reader reader = {.arena = arena, .err = &err};
    const struct tf_scope scope = {.reader = &reader, .prefix = "", .is_absent = true};
    int rc;

    tf_error_init(&err);
    tf_options_fill(&scope, table, NULL, options);
    rc = reader.no_memory ? -ENOMEM : err.errors > 0 ? -EINVAL : 0;
    tf_error_fini(&err);
    return rc;
}

int tf_options_parse(struct tf_slice yaml, const char *file, const char *what,
                     const struct tf_option *table, void *options, void *arena,
                     struct tf_error *err)
{
    struct tf_config_reader reader = {.arena = arena, .err = err, .is_literal = true};
    const struct tf_scope scope = {.reader = &reader,
                                   .plugin = what,
                                   .prefix = "",
                                   .at = {.file = file, .line = 1, .column = 1}};
    size_t errors_before = err->errors;
    struct tf_yaml *root = NULL;
    int rc;

    if (yaml.size > TF_CONFIG_FILE_MAX) {
        return tf_error_add(err, &(struct tf_place){.file = file},
                            "larger than %u bytes; part it into several files", TF_CONFIG_FILE_MAX);
    }
    rc = tf_yaml_parse(yaml, file, arena, &root, err);
    if (rc == -ENODATA) {
        return tf_error_add(err, &(struct tf_place){.file = file}, "%s is empty; write a map",
                            what);
    }
    if (rc < 0) {
        return rc;
    }
    if (root->type != TF_YAML_MAP) {
        return tf_error_add(err, &root->at, "%s is not a map; it begins with \"%s:\"", what,
                            table[0].name);
    }
    tf_options_fill(&scope, table, root, options);
    tf_options_refuse_unknown(&scope, table, NULL, root);
    if (reader.no_memory) {
        return -ENOMEM;
    }
    return err->errors > errors_before ? -EINVAL : 0;
}
