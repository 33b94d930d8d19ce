/*
 * gitleaks_shared.c - how the import reads values, keeps texts, tells and writes.
 *
 * A value of a wrong type is told and counts as absent: the rest of a rule may still be good.
 */
#include "gitleaks_shared.h"

#include <ctype.h>
#include <stdarg.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "taffrail/config.h"

/* ---- telling -------------------------------------------------------------------------------- */

void tf_gitleaks_tell(const struct tf_gitleaks_scope *scope, const struct tf_place *at,
                      const char *format, ...)
{
    char text[640];
    va_list arguments;

    va_start(arguments, format);
    (void)vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    tf_warning_add(scope->job->err, at, "%s: %s", scope->who, text);
}

/* ---- values --------------------------------------------------------------------------------- */

const struct tf_toml *tf_gitleaks_get(const struct tf_toml *table, const char *key)
{
    const struct tf_toml *item = table->first;

    while (item != NULL && strcasecmp(item->key, key) != 0) {
        item = item->next;
    }
    return item;
}

void tf_gitleaks_tell_unknown(const struct tf_gitleaks_scope *scope, const struct tf_toml *table,
                              const char *const *known)
{
    for (const struct tf_toml *item = table->first; item != NULL; item = item->next) {
        size_t i = 0;

        while (known[i] != NULL && strcasecmp(known[i], item->key) != 0) {
            i++;
        }
        if (known[i] == NULL) {
            tf_gitleaks_tell(
                scope, &item->key_at,
                "key \"%.*s\" is not known here; it is left out, look what gitleaks does with it",
                TF_GITLEAKS_QUOTE_MAX, item->key);
        }
    }
}

bool tf_gitleaks_is(const struct tf_gitleaks_scope *scope, const struct tf_toml *value,
                    enum tf_toml_type type)
{
    static const char *const names[] = {"a text",        "an integer", "a number",
                                        "true or false", "an array",   "a table"};
    bool is = value->type == type || (type == TF_TOML_FLOAT && value->type == TF_TOML_INTEGER);

    if (!is) {
        tf_gitleaks_tell(scope, &value->at, "%.*s: %s is expected; it is left out, write one",
                         TF_GITLEAKS_QUOTE_MAX, value->key != NULL ? value->key : "an item",
                         names[type]);
    }
    return is;
}

const struct tf_toml *tf_gitleaks_get_typed(const struct tf_gitleaks_scope *scope,
                                            const struct tf_toml *table, const char *key,
                                            enum tf_toml_type type)
{
    const struct tf_toml *value = tf_gitleaks_get(table, key);

    return value != NULL && tf_gitleaks_is(scope, value, type) ? value : NULL;
}

const struct tf_toml *tf_gitleaks_get_text(const struct tf_gitleaks_scope *scope,
                                           const struct tf_toml *table, const char *key)
{
    const struct tf_toml *value = tf_gitleaks_get_typed(scope, table, key, TF_TOML_TEXT);

    return value != NULL && value->text[0] != '\0' ? value : NULL;
}

/* The first from an item on that is a text. */
static const struct tf_toml *skip_others(const struct tf_gitleaks_scope *scope,
                                         const struct tf_toml *item)
{
    while (item != NULL && !tf_gitleaks_is(scope, item, TF_TOML_TEXT)) {
        item = item->next;
    }
    return item;
}

const struct tf_toml *tf_gitleaks_first_text(const struct tf_gitleaks_scope *scope,
                                             const struct tf_toml *table, const char *key)
{
    const struct tf_toml *value = tf_gitleaks_get(table, key);

    if (value == NULL || value->type == TF_TOML_TEXT) {
        return value;
    }
    return tf_gitleaks_is(scope, value, TF_TOML_ARRAY) ? skip_others(scope, value->first) : NULL;
}

const struct tf_toml *tf_gitleaks_next_text(const struct tf_gitleaks_scope *scope,
                                            const struct tf_toml *item)
{
    return item->key != NULL ? NULL : skip_others(scope, item->next);
}

/* ---- lists ---------------------------------------------------------------------------------- */

void tf_gitleaks_append(const struct tf_gitleaks_scope *scope, struct tf_gitleaks_list *list,
                        const char *text)
{
    struct tf_gitleaks_item *item =
        text != NULL ? tf_arena_alloc(scope->arena, sizeof *item) : NULL;

    if (item == NULL) {
        scope->job->no_memory = true;
        return;
    }
    item->text = text;
    if (list->last != NULL) {
        list->last->next = item;
    } else {
        list->first = item;
    }
    list->last = item;
    list->count++;
}

void tf_gitleaks_append_all(const struct tf_gitleaks_scope *scope, struct tf_gitleaks_list *list,
                            const struct tf_gitleaks_list *from)
{
    for (const struct tf_gitleaks_item *item = from->first; item != NULL; item = item->next) {
        tf_gitleaks_append(scope, list, item->text);
    }
}

char *tf_gitleaks_keep(const struct tf_gitleaks_scope *scope, const struct tf_buf *buf)
{
    char *text = buf->error == 0 ? tf_arena_alloc(scope->arena, buf->size + 1) : NULL;

    if (text == NULL) {
        scope->job->no_memory = true;
    } else if (buf->size > 0) {
        memcpy(text, buf->data, buf->size);
    }
    return text;
}

char *tf_gitleaks_keep_lower(const struct tf_gitleaks_scope *scope, const char *text)
{
    size_t size = strlen(text);
    char *copy = tf_arena_alloc(scope->arena, size + 1);

    scope->job->no_memory |= copy == NULL;
    for (size_t i = 0; copy != NULL && i < size; i++) {
        copy[i] = (char)tolower((unsigned char)text[i]);
    }
    return copy;
}

/* ---- texts ---------------------------------------------------------------------------------- */

bool tf_gitleaks_compiles(const struct tf_buf *regex, char reason[128])
{
    int number;
    PCRE2_SIZE offset;
    pcre2_code *code =
        pcre2_compile((PCRE2_SPTR)regex->data, regex->size, PCRE2_DOLLAR_ENDONLY | PCRE2_NEVER_UTF,
                      &number, &offset, NULL);

    if (code == NULL) {
        (void)pcre2_get_error_message(number, (PCRE2_UCHAR *)reason, 128);
    }
    pcre2_code_free(code);
    return code != NULL;
}

/* Whether a character may stand in YAML as it is, and is seen. */
static bool is_plain(uint32_t code)
{
    return (code >= ' ' && code < 0x7f) ||
           (code > 0xa0 && code != 0x2028 && code != 0x2029 && code != 0xfeff && code < 0xfffe) ||
           code > 0xffff;
}

/* The character at a place of valid UTF-8; *size is how many bytes it has. */
static uint32_t char_at(const char *text, size_t *size)
{
    uint8_t lead = (uint8_t)*text;
    uint32_t code;

    *size = lead < 0x80 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
    code = lead < 0x80 ? lead : lead & (0x7fu >> *size);
    for (size_t i = 1; i < *size; i++) {
        code = code << 6 | ((uint8_t)text[i] & 0x3f);
    }
    return code;
}

/* In single quotes, where a backslash is plain; in double ones only where it must be. */
void tf_gitleaks_put_text(struct tf_buf *to, const char *text)
{
    bool all_plain = true;
    size_t size;

    for (const char *at = text; *at != '\0'; at += size) {
        all_plain &= is_plain(char_at(at, &size));
    }
    (void)tf_buf_append_byte(to, all_plain ? '\'' : '"');
    for (const char *at = text; *at != '\0'; at += size) {
        uint32_t code = char_at(at, &size);

        if (!is_plain(code)) {
            (void)tf_buf_printf(to, "\\u%04X", code);
            continue;
        }
        if (all_plain ? code == '\'' : code == '"' || code == '\\') {
            (void)tf_buf_append_byte(to, all_plain ? '\'' : '\\');
        }
        (void)tf_buf_append(to, at, size);
    }
    (void)tf_buf_append_byte(to, all_plain ? '\'' : '"');
}

void tf_gitleaks_put_key(struct tf_buf *to, const char *key, const char *text)
{
    (void)tf_buf_printf(to, "    %s: ", key);
    tf_gitleaks_put_text(to, text);
    (void)tf_buf_append_byte(to, '\n');
}

void tf_gitleaks_put_item(struct tf_buf *to, const char *indent, const char *text)
{
    (void)tf_buf_printf(to, "%s- ", indent);
    tf_gitleaks_put_text(to, text);
    (void)tf_buf_append_byte(to, '\n');
}

void tf_gitleaks_put_list(struct tf_buf *to, const char *key, const struct tf_gitleaks_list *list)
{
    if (list->count > 0) {
        (void)tf_buf_printf(to, "    %s:\n", key);
    }
    for (const struct tf_gitleaks_item *item = list->first; item != NULL; item = item->next) {
        tf_gitleaks_put_item(to, "      ", item->text);
    }
}
