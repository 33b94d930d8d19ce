/*
 * values.c - one YAML value as one typed value.
 *
 *     size    digits and a unit: B, KiB MiB GiB TiB (1024), KB MB GB TB (1000)
 *     time    digits and a unit: ms s m h d
 *     count   digits            octal   a zero and 3 or 4 octal digits
 *     switch  true, false       choice  one of the option's words
 *     text, path, lists and maps of them
 *
 * A 0 needs no unit. `${NAME}` and `${NAME:-default}` expand first; what comes from the environment
 * is not expanded again. Messages quote a value as it is written, so never what the environment
 * holds, and at most TF_CONFIG_QUOTE_MAX bytes of it.
 */
#include "internal.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>

#define KIB UINT64_C(1024)
#define KB  UINT64_C(1000)

struct unit {
    const char *name;
    uint64_t factor;
};

static const struct unit size_units[] = {
    {"B", 1},
    {"KiB", KIB},
    {"MiB", KIB *KIB},
    {"GiB", KIB *KIB *KIB},
    {"TiB", KIB *KIB *KIB *KIB},
    {"KB", KB},
    {"MB", KB *KB},
    {"GB", KB *KB *KB},
    {"TB", KB *KB *KB *KB},
};
static const struct unit time_units[] = {
    {"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}, {"d", 86400000},
};

/* A scalar being read. */
struct value {
    const struct tf_scope *scope;
    const struct tf_option *option;
    const struct tf_yaml *node;
    const char *text; /* expanded */
    bool is_expanded; /* text is not what is written */
};

struct number_text {
    char text[TF_COUNT_TEXT_BYTES];
};

struct tf_quote tf_quote(const char *text)
{
    struct tf_quote quote;
    size_t size = strnlen(text, TF_CONFIG_QUOTE_MAX + 1);
    bool is_cut = size > TF_CONFIG_QUOTE_MAX;

    size = is_cut ? TF_CONFIG_QUOTE_MAX : size;
    while (is_cut && size > 0 && ((uint8_t)text[size] & 0xc0) == 0x80) {
        size--; /* not within a character */
    }
    (void)snprintf(quote.text, sizeof quote.text, "\"%.*s%s\"", (int)size, text,
                   is_cut ? "..." : "");
    return quote;
}

void *tf_reader_alloc(struct tf_config_reader *reader, size_t size)
{
    void *memory = tf_arena_alloc(reader->arena, size);

    reader->no_memory |= memory == NULL;
    return memory;
}

char *tf_reader_copy(struct tf_config_reader *reader, const char *text, size_t size)
{
    char *copy = tf_reader_alloc(reader, size + 1);

    if (copy != NULL) {
        memcpy(copy, text, size);
    }
    return copy;
}

/* Adds `PREFIX NAME: "VALUE" WHAT`. */
static void refuse(const struct value *value, const char *what)
{
    (void)tf_error_add(value->scope->reader->err, &value->node->at, "%s%s: %s%s %s",
                       value->scope->prefix, value->option->name, tf_quote(value->node->text).text,
                       value->is_expanded ? ", as it expands," : "", what);
}

/* ---- environment ---------------------------------------------------------------------------- */

static bool is_name(const char *text, size_t size)
{
    bool ok = size > 0 && !isdigit((unsigned char)text[0]);

    for (size_t i = 0; ok && i < size; i++) {
        ok = isalnum((unsigned char)text[i]) || text[i] == '_';
    }
    return ok;
}

/* Appends what stands in the braces, inner of size bytes. Returns false when that was told. */
static bool append_variable(const struct value *value, const char *inner, size_t size,
                            struct tf_buf *to)
{
    struct tf_error *err = value->scope->reader->err;
    const char *dash = memmem(inner, size, ":-", 2);
    size_t name_size = dash != NULL ? (size_t)(dash - inner) : size;
    char name[256];
    const char *found;

    if (!is_name(inner, name_size) || name_size >= sizeof name) {
        (void)tf_error_add(err, &value->node->at,
                           "%s%s: %s holds no variable's name between ${ and }; write ${NAME} or "
                           "${NAME:-default}",
                           value->scope->prefix, value->option->name,
                           tf_quote(value->node->text).text);
        return false;
    }
    memcpy(name, inner, name_size);
    name[name_size] = '\0';
    found = getenv(name);
    if (dash != NULL && (found == NULL || found[0] == '\0')) {
        (void)tf_buf_append(to, dash + 2, size - name_size - 2);
    } else if (found == NULL) {
        (void)tf_error_add(err, &value->node->at,
                           "%s%s: ${%.64s} is not set; set it, or write ${%.64s:-default}",
                           value->scope->prefix, value->option->name, name, name);
        return false;
    } else if (!tf_utf8_valid(found, strlen(found))) {
        (void)tf_error_add(err, &value->node->at, "%s%s: what ${%.64s} holds is not UTF-8",
                           value->scope->prefix, value->option->name, name);
        return false;
    } else {
        (void)tf_buf_append_text(to, found);
    }
    return true;
}

static bool append_expanded(const struct value *value, struct tf_buf *to)
{
    const char *from = value->node->text;
    bool ok = true;

    while (ok && *from != '\0') {
        const char *open = strstr(from, "${");
        const char *close = open != NULL ? strchr(open, '}') : NULL;

        if (open == NULL) {
            (void)tf_buf_append_text(to, from);
            return true;
        }
        if (close == NULL) {
            refuse(value, "has no } behind its ${; write ${NAME}");
            return false;
        }
        (void)tf_buf_append(to, from, (size_t)(open - from));
        ok = append_variable(value, open + 2, (size_t)(close - open - 2), to);
        from = close + 1;
    }
    return ok;
}

/* Sets value->text. Returns false when it cannot be had: that was told. */
static bool expand(struct value *value)
{
    struct tf_config_reader *reader = value->scope->reader;
    struct tf_buf out;
    bool ok;

    value->text = value->node->text;
    if (value->node->is_default || reader->is_literal || strstr(value->text, "${") == NULL) {
        return true;
    }
    tf_buf_init(&out, TF_CONFIG_VALUE_MAX);
    ok = append_expanded(value, &out);
    value->is_expanded = true;
    if (out.error == -EMSGSIZE) {
        refuse(value, "is longer than 64KiB; no key needs so much");
    } else if (out.error != 0) {
        reader->no_memory = true;
    } else if (ok) {
        value->text = tf_reader_copy(reader, out.size > 0 ? out.data : "", out.size);
    }
    ok = ok && out.error == 0 && value->text != NULL;
    tf_buf_fini(&out);
    return ok;
}

/* ---- numbers -------------------------------------------------------------------------------- */

/* Digits at the front of text; *end is what follows. False: no digit, or too large. */
static bool read_digits(const char *text, const char **end, uint64_t *number)
{
    uint64_t sum = 0;
    const char *at = text;

    for (; isdigit((unsigned char)*at); at++) {
        if (__builtin_mul_overflow(sum, 10u, &sum) ||
            __builtin_add_overflow(sum, (uint64_t)(*at - '0'), &sum)) {
            return false;
        }
    }
    *end = at;
    *number = sum;
    return at != text;
}

static struct number_text grouped(uint64_t number)
{
    struct number_text out;

    (void)tf_count_text(number, out.text);
    return out;
}

/* As one would write it: sizes and times in the largest unit that divides them. */
static struct number_text in_units(uint64_t number, enum tf_option_type type)
{
    bool is_size = type == TF_OPTION_SIZE || type == TF_OPTION_RATE;
    const struct unit *units = is_size ? size_units : time_units;
    size_t best = 0;
    struct number_text out;

    if (type == TF_OPTION_OCTAL) {
        (void)snprintf(out.text, sizeof out.text, "%04llo", (unsigned long long)number);
        return out;
    }
    if (type == TF_OPTION_COUNT) {
        return grouped(number);
    }
    for (size_t i = 1; i < 5; i++) { /* of sizes, the binary ones */
        best = number > 0 && number % units[i].factor == 0 ? i : best;
    }
    (void)snprintf(out.text, sizeof out.text, "%llu%s%s",
                   (unsigned long long)(number / units[best].factor), units[best].name,
                   type == TF_OPTION_RATE ? "/s" : "");
    return out;
}

static void check_bounds(const struct value *value, uint64_t number, uint64_t *member)
{
    const struct tf_option *option = value->option;
    char what[96];

    if (number < option->min) {
        (void)snprintf(what, sizeof what, "is too small; write %s or more",
                       in_units(option->min, option->type).text);
        refuse(value, what);
    } else if (option->max != 0 && number > option->max) {
        (void)snprintf(what, sizeof what, "is too large; write %s or less",
                       in_units(option->max, option->type).text);
        refuse(value, what);
    } else {
        *member = number;
    }
}

/* A size with a unit that nobody writes so: what could be meant. */
static void refuse_size(const struct value *value, uint64_t number, const char *unit)
{
    static const char letters[] = "KMGT";
    const char *letter = strchr(letters, toupper((unsigned char)*unit));
    size_t power = letter != NULL && *letter != '\0' ? (size_t)(letter - letters) + 1 : 0;
    uint64_t binary, decimal;
    char what[160];

    if (value->is_expanded || power == 0 ||
        __builtin_mul_overflow(number, size_units[power].factor, &binary) ||
        __builtin_mul_overflow(number, size_units[power + 4].factor, &decimal)) {
        refuse(value, "is not a size; write a whole number and B, KiB, MiB, GiB or TiB, such as "
                      "64KiB");
        return;
    }
    (void)snprintf(what, sizeof what, "is not a size; write %llu%s (%s bytes) or %llu%s (%s)",
                   (unsigned long long)number, size_units[power].name, grouped(binary).text,
                   (unsigned long long)number, size_units[power + 4].name, grouped(decimal).text);
    refuse(value, what);
}

static void refuse_time(const struct value *value, uint64_t number, const char *unit)
{
    const char *letter = strchr("smhd", tolower((unsigned char)*unit));
    char what[96];

    if (value->is_expanded || letter == NULL || *letter == '\0') {
        refuse(value, "is not a time; write a whole number and ms, s, m, h or d, such as 30s");
        return;
    }
    (void)snprintf(what, sizeof what, "is not a time; write %llu%s", (unsigned long long)number,
                   strncasecmp(unit, "ms", 2) == 0 || strncasecmp(unit, "mil", 3) == 0
                       ? "ms"
                       : (char[2]){*letter, '\0'});
    refuse(value, what);
}

static void refuse_bare(const struct value *value, uint64_t number, bool is_size)
{
    char what[96];

    if (value->is_expanded) {
        refuse(value, "has no unit; put one behind it, such as KiB or s");
        return;
    }
    (void)snprintf(what, sizeof what, "is not a %s, it has no unit; write %llu%s or %llu%s",
                   is_size ? "size" : "time", (unsigned long long)number, is_size ? "B" : "s",
                   (unsigned long long)number, is_size ? "KiB" : "ms");
    refuse(value, what);
}

/* A size or a time. */
static void read_measure(const struct value *value, bool is_size, uint64_t *member)
{
    const struct unit *units = is_size ? size_units : time_units;
    size_t count = is_size ? TF_COUNT(size_units) : TF_COUNT(time_units), i = 0;
    const char *unit = "?";
    uint64_t number = 0;

    if (!read_digits(value->text, &unit, &number)) {
        unit = "?";
    }
    while (i < count && strcmp(units[i].name, unit) != 0) {
        i++;
    }
    if (i < count) {
        if (__builtin_mul_overflow(number, units[i].factor, &number)) {
            number = UINT64_MAX;
        }
        check_bounds(value, number, member);
    } else if (unit[0] == '\0' && number == 0) {
        check_bounds(value, 0, member);
    } else if (unit[0] == '\0') {
        refuse_bare(value, number, is_size);
    } else {
        unit += strspn(unit, " ");
        (is_size ? refuse_size : refuse_time)(value, number, unit);
    }
}

/* The factor of a unit, or 0. */
static uint64_t size_factor(const char *name, size_t size)
{
    for (size_t i = 0; i < TF_COUNT(size_units); i++) {
        if (strlen(size_units[i].name) == size && memcmp(size_units[i].name, name, size) == 0) {
            return size_units[i].factor;
        }
    }
    return 0;
}

bool tf_rate_parse(const char *text, uint64_t *out)
{
    static const char per_second[] = "/s";
    const char *unit = "", *end;
    uint64_t number = 0, factor;

    (void)read_digits(text, &unit, &number); /* without digits no unit follows */
    end = strstr(unit, per_second);
    factor = end != NULL && end[2] == '\0' ? size_factor(unit, (size_t)(end - unit)) : 0;
    if (factor == 0) {
        return false;
    }
    *out = __builtin_mul_overflow(number, factor, &number) ? UINT64_MAX : number;
    return true;
}

static void read_rate(const struct value *value, uint64_t *member)
{
    uint64_t number = 0;

    if (!tf_rate_parse(value->text, &number)) {
        refuse(value, "is not a rate; write a size and /s, such as 20MiB/s");
        return;
    }
    check_bounds(value, number, member);
}

static void read_count(const struct value *value, uint64_t *member)
{
    const char *end;
    uint64_t number;

    if (!read_digits(value->text, &end, &number) || *end != '\0') {
        refuse(value, "is not a count; write a whole number");
        return;
    }
    check_bounds(value, number, member);
}

static void read_octal(const struct value *value, uint64_t *member)
{
    size_t size = strlen(value->text);

    if (size < 4 || size > 5 || value->text[0] != '0' || strspn(value->text, "01234567") != size) {
        refuse(value, "is not a file mode; write it with a zero in front, such as 0640");
        return;
    }
    check_bounds(value, strtoull(value->text, NULL, 8), member);
}

/* ---- words ---------------------------------------------------------------------------------- */

static void read_switch(const struct value *value, bool *member)
{
    bool is_true = strcmp(value->text, "true") == 0;

    if (!is_true && strcmp(value->text, "false") != 0) {
        refuse(value, "is not a switch; write true or false");
        return;
    }
    *member = is_true;
}

static void read_choice(const struct value *value, int *member)
{
    const char *word = value->option->choices;
    size_t size = strlen(value->text);
    char what[256];

    for (int i = 0;; i++) {
        size_t word_size = strcspn(word, "|");

        if (size == word_size && memcmp(word, value->text, size) == 0) {
            *member = i;
            return;
        }
        if (word[word_size] == '\0') {
            break;
        }
        word += word_size + 1;
    }
    (void)snprintf(what, sizeof what, "is not one of %s", value->option->choices);
    refuse(value, what);
}

static void read_sync(const struct value *value, struct tf_sync_option *member)
{
    static const uint64_t default_ms = 200; /* where the file names no time */

    if (strcmp(value->text, "always") == 0 || strcmp(value->text, "never") == 0) {
        member->mode = value->text[0] == 'a' ? TF_SYNC_ALWAYS : TF_SYNC_NEVER;
        member->interval_ms = default_ms;
    } else if (isdigit((unsigned char)value->text[0])) {
        member->mode = TF_SYNC_INTERVAL;
        read_measure(value, false, &member->interval_ms);
    } else {
        refuse(value, "is not a time, always or never; write a time such as 200ms");
    }
}

/* ---- texts ---------------------------------------------------------------------------------- */

/* The path without "./" in front, behind the folder when it is relative. */
static const char *resolve(struct tf_config_reader *reader, const char *path)
{
    size_t folder_size, path_size;
    char *out;

    if (path[0] == '/' || reader->folder == NULL) {
        return path;
    }
    while (path[0] == '.' && path[1] == '/') {
        path += 1 + strspn(path + 1, "/");
    }
    folder_size = strlen(reader->folder);
    while (folder_size > 0 && reader->folder[folder_size - 1] == '/') {
        folder_size--;
    }
    path_size = strlen(path);
    out = tf_reader_alloc(reader, folder_size + path_size + 2);
    if (out != NULL) {
        memcpy(out, reader->folder, folder_size);
        out[folder_size] = '/';
        memcpy(out + folder_size + 1, path, path_size);
    }
    return out;
}

static bool is_path(const struct tf_option *option)
{
    return option->type == TF_OPTION_PATH || option->type == TF_OPTION_PATHS;
}

static void read_text(const struct value *value, struct tf_text *member)
{
    const struct tf_option *option = value->option;

    member->at = value->node->at;
    if (value->text[0] == '\0' && option->type != TF_OPTION_TEXT && option->type != TF_OPTION_MAP &&
        option->type != TF_OPTION_MAPS) {
        refuse(value, "is empty; write a text, or leave it out");
    } else if (is_path(option) && value->text[0] == '~') {
        refuse(value, "begins with ~, which only a shell knows; write the whole path, or ${HOME}");
    } else {
        member->text = is_path(option) ? resolve(value->scope->reader, value->text) : value->text;
    }
}

/* What a value of the wrong shape should have been. */
static const char *shape_word(const struct tf_option *option)
{
    switch (option->type) {
    case TF_OPTION_TEXTS:
    case TF_OPTION_PATHS:
        return "a list or one text";
    case TF_OPTION_MAP:
        return "a map of texts";
    case TF_OPTION_MAPS:
        return "a list of maps of texts";
    default:
        return "one value";
    }
}

static void refuse_shape(const struct tf_scope *scope, const struct tf_option *option,
                         const struct tf_yaml *node)
{
    if (node->type == TF_YAML_BAD) {
        return;
    }
    if (tf_yaml_is_null(node)) {
        (void)tf_error_add(scope->reader->err, &node->at,
                           "%s%s: is empty; write %s, or leave the key out", scope->prefix,
                           option->name, shape_word(option));
        return;
    }
    (void)tf_error_add(scope->reader->err, &node->at, "%s%s: this is a %s; write %s", scope->prefix,
                       option->name,
                       node->type == TF_YAML_MAP    ? "map"
                       : node->type == TF_YAML_LIST ? "list"
                                                    : "text",
                       shape_word(option));
}

static void read_scalar(const struct tf_scope *scope, const struct tf_option *option,
                        const struct tf_yaml *node, void *member)
{
    struct value value = {.scope = scope, .option = option, .node = node};

    if (node->type != TF_YAML_TEXT || tf_yaml_is_null(node)) {
        refuse_shape(scope, option, node);
        return;
    }
    if (!expand(&value)) {
        return;
    }
    switch (option->type) {
    case TF_OPTION_SIZE:
    case TF_OPTION_TIME:
        read_measure(&value, option->type == TF_OPTION_SIZE, member);
        break;
    case TF_OPTION_RATE:
        read_rate(&value, member);
        break;
    case TF_OPTION_COUNT:
        read_count(&value, member);
        break;
    case TF_OPTION_OCTAL:
        read_octal(&value, member);
        break;
    case TF_OPTION_SWITCH:
        read_switch(&value, member);
        break;
    case TF_OPTION_CHOICE:
        read_choice(&value, member);
        break;
    case TF_OPTION_SYNC:
        read_sync(&value, member);
        break;
    default:
        read_text(&value, member);
    }
}

static void read_texts(const struct tf_scope *scope, const struct tf_option *option,
                       const struct tf_yaml *node, struct tf_texts *member)
{
    bool is_one = node->type == TF_YAML_TEXT && !tf_yaml_is_null(node);
    const struct tf_yaml *item = is_one ? node : node->first;
    size_t count = is_one ? 1 : node->count;

    member->at = node->at;
    if (!is_one && node->type != TF_YAML_LIST) {
        refuse_shape(scope, option, node);
        return;
    }
    if (count == 0 && option->required) {
        (void)tf_error_add(scope->reader->err, &node->at,
                           "%s%s: the list is empty; it needs at least one", scope->prefix,
                           option->name);
        return;
    }
    member->items = tf_reader_alloc(scope->reader, count * sizeof *member->items);
    for (size_t i = 0; member->items != NULL && i < count; i++, item = item->next) {
        read_scalar(scope, option, item, &member->items[i]);
        member->count = i + 1;
    }
}

static void read_map(const struct tf_scope *scope, const struct tf_option *option,
                     const struct tf_yaml *node, struct tf_pairs *member)
{
    const struct tf_yaml *item = node->first;

    member->at = node->at;
    if (node->type != TF_YAML_MAP) {
        refuse_shape(scope, option, node);
        return;
    }
    member->items = tf_reader_alloc(scope->reader, node->count * sizeof *member->items);
    for (size_t i = 0; member->items != NULL && i < node->count; i++, item = item->next) {
        if (item->key[0] == '\0') {
            (void)tf_error_add(scope->reader->err, &item->key_at, "%s%s: a key is empty; name it",
                               scope->prefix, option->name);
        }
        member->items[i].key = (struct tf_text){item->key, item->key_at};
        read_scalar(scope, option, item, &member->items[i].value);
        member->count = i + 1;
    }
}

static void read_maps(const struct tf_scope *scope, const struct tf_option *option,
                      const struct tf_yaml *node, struct tf_tables *member)
{
    bool is_one = node->type == TF_YAML_MAP;
    const struct tf_yaml *item = is_one ? node : node->first;
    size_t count = is_one ? 1 : node->count;
    struct tf_pairs *items;

    member->at = node->at;
    if (!is_one && node->type != TF_YAML_LIST) {
        refuse_shape(scope, option, node);
        return;
    }
    items = tf_reader_alloc(scope->reader, count * sizeof *items);
    member->items = items;
    for (size_t i = 0; items != NULL && i < count; i++, item = item->next) {
        read_map(scope, option, item, &items[i]);
        member->count = i + 1;
    }
}

void tf_value_read(const struct tf_scope *scope, const struct tf_option *option,
                   const struct tf_yaml *node, void *member)
{
    switch (option->type) {
    case TF_OPTION_TEXTS:
    case TF_OPTION_PATHS:
        read_texts(scope, option, node, member);
        break;
    case TF_OPTION_MAP:
        read_map(scope, option, node, member);
        break;
    case TF_OPTION_MAPS:
        read_maps(scope, option, node, member);
        break;
    default:
        read_scalar(scope, option, node, member);
    }
}
