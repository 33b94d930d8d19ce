/*
 * toml.c - a strict reader of TOML 1.0, as far as rule files need it.
 *
 *     bytes     UTF-8 without control characters; that is looked at first, so no byte of it is NUL
 *     line      nothing | [path] | [[path]] | path = value; behind each, a comment
 *     path      names parted by dots; bare ([A-Za-z0-9_-]), or in quotes on one line
 *     value     "text", 'text', """text""", three single quotes too, integers, floats, true, false,
 *               [arrays] over any lines, {inline tables} on one
 *
 * Refused besides what TOML refuses: dates and times, inf and nan, \u0000, and what passes the
 * bounds in toml.h. The first mistake ends it.
 *
 * How a table came to be decides what may still be added to it:
 *
 *     BY_PATH     a header named one inside it; its own header may follow, once
 *     BY_HEADER   its header was read; keys are added until the next header
 *     BY_DOTS     a dotted key made it; dotted keys of the same table may add to it
 *     BY_ITEMS    an array, by [[path]]; a further header adds an item
 *     CLOSED      written as a value; nothing is added
 */
#include "toml.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>

#include "taffrail/config.h"

#define NUMBER_MAX 64u /* bytes; a longer one is refused */

enum { BY_PATH, BY_HEADER, BY_DOTS, BY_ITEMS, CLOSED };

struct reader {
    const char *at, *end, *line_start;
    unsigned line;
    const char *file;
    void *arena;
    struct tf_error *err;
    struct tf_buf scratch; /* the text being read */
    size_t nodes;
    unsigned depth;
    bool no_memory;
};

/* A dotted key. */
struct path {
    const char *names[TF_TOML_DEPTH_MAX];
    struct tf_place places[TF_TOML_DEPTH_MAX];
    size_t count;
};

static bool read_value(struct reader *reader, struct tf_toml *value);

/* ---- what is refused ------------------------------------------------------------------------ */

static struct tf_place place(const struct reader *reader)
{
    return (struct tf_place){reader->file, reader->line,
                             (unsigned)(reader->at - reader->line_start) + 1};
}

/* Adds an error; returns false, so that a check stays one statement. */
TF_PRINTF(3, 4)
static bool refuse_at(struct reader *reader, const struct tf_place *at, const char *format, ...)
{
    char text[512];
    va_list arguments;

    va_start(arguments, format);
    (void)vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    (void)tf_error_add(reader->err, at, "%s", text);
    return false;
}

static bool refuse(struct reader *reader, const char *what)
{
    const struct tf_place at = place(reader);

    return refuse_at(reader, &at, "%s", what);
}

/* What is wrong passes a bound. */
static bool refuse_more(struct reader *reader, unsigned max, const char *what)
{
    const struct tf_place at = place(reader);

    return refuse_at(reader, &at, "more than %u %s", max, what);
}

static bool is_control(uint8_t byte)
{
    return (byte < ' ' && byte != '\t' && byte != '\n') || byte == 0x7f;
}

/* One line, without its newline. */
static bool check_line(struct reader *reader, const char *end)
{
    size_t size = (size_t)(end - reader->at);
    bool has_return = size > 0 && end < reader->end && end[-1] == '\r';

    if (!tf_utf8_valid(reader->at, size)) {
        return refuse(reader, "the line is not UTF-8; save the file as UTF-8");
    }
    for (end -= has_return ? 1 : 0; reader->at < end; reader->at++) {
        if (is_control((uint8_t)*reader->at)) {
            return refuse(reader, "a control character may not stand in TOML; write it as an "
                                  "escape in double quotes");
        }
    }
    return true;
}

/* All bytes, before anything is read. Leaves the reader at the beginning. */
static bool check_bytes(struct reader *reader)
{
    const char *start = reader->at;
    bool ok = true;

    while (ok && reader->at < reader->end) {
        const char *newline = memchr(reader->at, '\n', (size_t)(reader->end - reader->at));
        const char *end = newline != NULL ? newline : reader->end;

        reader->line_start = reader->at;
        ok = check_line(reader, end);
        if (ok) {
            reader->at = newline != NULL ? newline + 1 : end;
            reader->line++;
        }
    }
    if (ok) {
        reader->at = reader->line_start = start;
        reader->line = 1;
    }
    return ok;
}

/* ---- bytes ---------------------------------------------------------------------------------- */

static char peek(const struct reader *reader)
{
    return reader->at < reader->end ? *reader->at : '\0';
}

static bool starts(const struct reader *reader, const char *text)
{
    size_t size = strlen(text);

    return (size_t)(reader->end - reader->at) >= size && memcmp(reader->at, text, size) == 0;
}

static bool at_newline(const struct reader *reader)
{
    return peek(reader) == '\n' || peek(reader) == '\r';
}

static void skip_newline(struct reader *reader)
{
    reader->at += *reader->at == '\r' ? 2 : 1; /* check_bytes let no other \r pass */
    reader->line++;
    reader->line_start = reader->at;
}

static void skip_blanks(struct reader *reader)
{
    while (peek(reader) == ' ' || peek(reader) == '\t') {
        reader->at++;
    }
}

static void skip_comment(struct reader *reader)
{
    while (reader->at < reader->end && !at_newline(reader)) {
        reader->at++;
    }
}

/* Blanks, newlines and comments. */
static void skip_lines(struct reader *reader)
{
    for (skip_blanks(reader); at_newline(reader) || peek(reader) == '#'; skip_blanks(reader)) {
        if (peek(reader) == '#') {
            skip_comment(reader);
        } else {
            skip_newline(reader);
        }
    }
}

/* ---- nodes ---------------------------------------------------------------------------------- */

static char *copy(struct reader *reader, const char *text, size_t size)
{
    char *to = tf_arena_alloc(reader->arena, size + 1);

    if (to == NULL) {
        reader->no_memory = true;
    } else if (size > 0) {
        memcpy(to, text, size);
    }
    return to;
}

static struct tf_toml *find(const struct tf_toml *table, const char *key)
{
    struct tf_toml *item = table->first;

    assert(key != NULL);
    while (item != NULL && strcmp(item->key, key) != 0) {
        item = item->next;
    }
    return item;
}

static void append(struct tf_toml *to, struct tf_toml *item)
{
    if (to->last != NULL) {
        to->last->next = item;
    } else {
        to->first = item;
    }
    to->last = item;
    to->count++;
}

/* A node that stands in no array or table yet; NULL: that was told, or there is no memory. */
static struct tf_toml *make_node(struct reader *reader, enum tf_toml_type type, int made_by)
{
    struct tf_toml *node = NULL;

    if (reader->nodes == TF_TOML_NODES_MAX) {
        (void)refuse_more(reader, TF_TOML_NODES_MAX, "values up to here; part the file");
        return NULL;
    }
    reader->nodes++;
    node = tf_arena_alloc(reader->arena, sizeof *node);
    if (node == NULL) {
        reader->no_memory = true;
        return NULL;
    }
    *node = (struct tf_toml){.type = type, .at = place(reader), .made_by = made_by};
    return node;
}

/* Puts a node into a table that does not have the key. */
static bool put(struct reader *reader, struct tf_toml *table, const struct path *path, size_t part,
                struct tf_toml *node)
{
    if (table->count == TF_TOML_KEYS_MAX) {
        return refuse_at(reader, &path->places[part], "the table has more than %u keys; part it",
                         TF_TOML_KEYS_MAX);
    }
    node->key = path->names[part];
    node->key_at = path->places[part];
    append(table, node);
    return true;
}

/* The same with a new node; NULL: that was told, or there is no memory. */
static struct tf_toml *add(struct reader *reader, struct tf_toml *table, const struct path *path,
                           size_t part, enum tf_toml_type type, int made_by)
{
    struct tf_toml *node = make_node(reader, type, made_by);

    if (node != NULL) {
        node->at = path->places[part];
    }
    return node != NULL && put(reader, table, path, part, node) ? node : NULL;
}

/* ---- texts ---------------------------------------------------------------------------------- */

static void append_utf8(struct tf_buf *to, uint32_t code)
{
    if (code < 0x80) {
        (void)tf_buf_append_byte(to, (uint8_t)code);
    } else if (code < 0x800) {
        (void)tf_buf_append_byte(to, (uint8_t)(0xc0 | code >> 6));
    } else if (code < 0x10000) {
        (void)tf_buf_append_byte(to, (uint8_t)(0xe0 | code >> 12));
        (void)tf_buf_append_byte(to, (uint8_t)(0x80 | (code >> 6 & 0x3f)));
    } else {
        (void)tf_buf_append_byte(to, (uint8_t)(0xf0 | code >> 18));
        (void)tf_buf_append_byte(to, (uint8_t)(0x80 | (code >> 12 & 0x3f)));
        (void)tf_buf_append_byte(to, (uint8_t)(0x80 | (code >> 6 & 0x3f)));
    }
    if (code >= 0x80) {
        (void)tf_buf_append_byte(to, (uint8_t)(0x80 | (code & 0x3f)));
    }
}

/* Behind \u or \U: so many hexadecimal digits. */
static bool read_code(struct reader *reader, size_t digits)
{
    uint32_t code = 0;

    for (size_t i = 0; i < digits; i++) {
        char digit = peek(reader);

        if (!isxdigit((unsigned char)digit)) {
            return refuse(reader, "a hexadecimal digit is missing; \\u takes four, \\U eight");
        }
        code = code << 4 |
               (uint32_t)(isdigit((unsigned char)digit) ? digit - '0' : (digit | 0x20) - 'a' + 10);
        reader->at++;
    }
    if (code == 0 || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff)) {
        return refuse(reader, "the escape before it is no character that a text may hold; mend "
                              "its number");
    }
    append_utf8(&reader->scratch, code);
    return true;
}

/* at is behind the backslash. */
static bool read_escape(struct reader *reader)
{
    static const char letters[] = "btnfr\"\\", bytes[] = "\b\t\n\f\r\"\\";
    char letter = peek(reader);
    const char *found = letter != '\0' ? strchr(letters, letter) : NULL;

    if (found != NULL) {
        reader->at++;
        (void)tf_buf_append_byte(&reader->scratch, (uint8_t)bytes[found - letters]);
        return true;
    }
    if (letter == 'u' || letter == 'U') {
        reader->at++;
        return read_code(reader, letter == 'u' ? 4 : 8);
    }
    return refuse(reader, "TOML has no such escape; write \\\\ for a backslash, or the text in "
                          "single quotes, where it is plain");
}

/* A backslash before the end of a line: it and all blanks and newlines behind it are nothing. */
static bool skip_joint(struct reader *reader)
{
    const char *before = reader->at;

    reader->at++;
    skip_blanks(reader);
    if (!at_newline(reader)) {
        reader->at = before;
        return false;
    }
    while (skip_blanks(reader), at_newline(reader)) {
        skip_newline(reader);
    }
    return true;
}

/* Of three quotes in a row and up to two more, the last three end the text. */
static bool ends_long_text(struct reader *reader, char quote)
{
    size_t quotes = 0;

    while (quotes < 5 && reader->at + quotes < reader->end && reader->at[quotes] == quote) {
        quotes++;
    }
    if (quotes < 3) {
        return false;
    }
    (void)tf_buf_append(&reader->scratch, reader->at, quotes - 3);
    reader->at += quotes;
    return true;
}

/* at is behind the three quotes. */
static bool read_long_text(struct reader *reader, char quote)
{
    struct tf_place start = place(reader);

    if (at_newline(reader)) {
        skip_newline(reader);
    }
    while (!ends_long_text(reader, quote)) {
        if (reader->at == reader->end) {
            return refuse_at(reader, &start,
                             "the text that begins here has no end; close it with "
                             "three quotes");
        }
        if (at_newline(reader)) {
            skip_newline(reader);
            (void)tf_buf_append_byte(&reader->scratch, '\n');
        } else if (quote == '"' && peek(reader) == '\\') {
            if (!skip_joint(reader)) {
                reader->at++;
                if (!read_escape(reader)) {
                    return false;
                }
            }
        } else {
            (void)tf_buf_append_byte(&reader->scratch, (uint8_t)*reader->at++);
        }
    }
    return true;
}

/* at is behind the quote. */
static bool read_short_text(struct reader *reader, char quote)
{
    while (peek(reader) != quote) {
        if (reader->at == reader->end || at_newline(reader)) {
            return refuse(reader, "the line ends within a text; close its quote, or write three "
                                  "quotes for one over lines");
        }
        if (quote == '"' && peek(reader) == '\\') {
            reader->at++;
            if (!read_escape(reader)) {
                return false;
            }
        } else {
            (void)tf_buf_append_byte(&reader->scratch, (uint8_t)*reader->at++);
        }
    }
    reader->at++;
    return true;
}

/* A text in quotes. False: that was told, or there is no memory. */
static bool read_text(struct reader *reader, bool may_be_long, const char **text)
{
    char quote = *reader->at;
    const char *three = quote == '"' ? "\"\"\"" : "'''";
    bool is_long = may_be_long && starts(reader, three), ok;

    tf_buf_clear(&reader->scratch);
    reader->at += is_long ? 3 : 1;
    ok = is_long ? read_long_text(reader, quote) : read_short_text(reader, quote);
    reader->no_memory |= reader->scratch.error != 0; /* no text is longer than the file */
    if (!ok || reader->no_memory) {
        return false;
    }
    *text = copy(reader, reader->scratch.data, reader->scratch.size);
    return *text != NULL;
}

/* ---- numbers -------------------------------------------------------------------------------- */

static bool is_number_byte(char byte)
{
    return isalnum((unsigned char)byte) || (byte != '\0' && strchr("+-_.:", byte) != NULL);
}

/* Takes out underscores, each of which stands between two digits. */
static bool take_underscores(const char *text, char *out)
{
    for (size_t i = 0; text[i] != '\0'; i++) {
        if (text[i] != '_') {
            *out++ = text[i];
        } else if (i == 0 || !isxdigit((unsigned char)text[i - 1]) ||
                   !isxdigit((unsigned char)text[i + 1])) {
            return false;
        }
    }
    *out = '\0';
    return true;
}

static size_t count_digits(const char *text)
{
    return strspn(text, "0123456789");
}

/* [+-]?(0|[1-9][0-9]*): its size, or 0. */
static size_t whole_part(const char *text)
{
    size_t sign = *text == '+' || *text == '-' ? 1 : 0, digits = count_digits(text + sign);

    return digits == 0 || (digits > 1 && text[sign] == '0') ? 0 : sign + digits;
}

/* A whole part, then a fraction, an exponent or both. */
static bool is_float(const char *text)
{
    size_t whole = whole_part(text), digits = 0;

    text += whole;
    if (*text == '.') {
        digits = count_digits(++text);
        text += digits;
        if (digits == 0) {
            return false;
        }
    }
    if (*text == 'e' || *text == 'E') {
        text += text[1] == '+' || text[1] == '-' ? 2 : 1;
        digits = count_digits(text);
        text += digits;
    }
    return whole > 0 && digits > 0 && *text == '\0';
}

/* 0x, 0o and 0b too. */
static bool is_integer(const char *text, int64_t *value)
{
    static const char *const digits[] = {"0123456789abcdefABCDEF", "01234567", "01"};
    static const int bases[] = {16, 8, 2};
    size_t whole = whole_part(text);
    int base = 10;

    for (size_t i = 0; i < TF_COUNT(bases); i++) {
        if (text[0] == '0' && text[1] == "xob"[i]) {
            text += 2;
            base = bases[i];
            whole = strspn(text, digits[i]);
        }
    }
    errno = 0;
    *value = strtoll(text, NULL, base);
    return whole > 0 && text[whole] == '\0' && errno == 0;
}

static bool is_date(const char *text)
{
    size_t digits = count_digits(text);

    return (digits == 4 && text[4] == '-') || (digits == 2 && text[2] == ':');
}

static bool read_number(struct reader *reader, struct tf_toml *value)
{
    char written[NUMBER_MAX + 1], plain[NUMBER_MAX + 1];
    size_t size = 0;

    while (size < NUMBER_MAX && reader->at + size < reader->end &&
           is_number_byte(reader->at[size])) {
        written[size] = reader->at[size];
        size++;
    }
    written[size] = '\0';
    if (is_date(written)) {
        return refuse(reader, "dates and times are not read here; write it as a text in quotes");
    }
    if (size == NUMBER_MAX || !take_underscores(written, plain)) {
        return refuse(reader, "this is no number; write digits, or a text in quotes");
    }
    if (is_integer(plain, &value->integer)) {
        value->type = TF_TOML_INTEGER;
        value->number = (double)value->integer;
    } else if (is_float(plain)) {
        value->type = TF_TOML_FLOAT;
        value->number = strtod(plain, NULL);
    } else {
        return refuse(reader, "this is no number that is read here; write digits such as 3 or 3.5 "
                              "(no leading zero, inf or nan), or a text in quotes");
    }
    reader->at += size;
    return true;
}

/* ---- paths ---------------------------------------------------------------------------------- */

static bool read_name(struct reader *reader, const char **name)
{
    const char *start = reader->at;

    if (peek(reader) == '"' || peek(reader) == '\'') {
        return read_text(reader, false, name);
    }
    while (isalnum((unsigned char)peek(reader)) || peek(reader) == '_' || peek(reader) == '-') {
        reader->at++;
    }
    if (reader->at == start) {
        return refuse(reader, "a key is missing; write one of letters, digits, _ and -, or one in "
                              "quotes");
    }
    *name = copy(reader, start, (size_t)(reader->at - start));
    return *name != NULL;
}

/* Names parted by dots, and the blanks around them. */
static bool read_path(struct reader *reader, struct path *path)
{
    path->count = 0;
    for (;;) {
        skip_blanks(reader);
        if (path->count == TF_TOML_DEPTH_MAX) {
            return refuse_more(reader, TF_TOML_DEPTH_MAX, "parts of a key; shorten it");
        }
        path->places[path->count] = place(reader);
        if (!read_name(reader, &path->names[path->count])) {
            return false;
        }
        path->count++;
        skip_blanks(reader);
        if (peek(reader) != '.') {
            return true;
        }
        reader->at++;
    }
}

/* ---- values --------------------------------------------------------------------------------- */

/* Where the value of a dotted key goes. NULL: that was told, or there is no memory. */
static struct tf_toml *table_of_key(struct reader *reader, struct tf_toml *table,
                                    const struct path *path)
{
    for (size_t i = 0; table != NULL && i + 1 < path->count; i++) {
        struct tf_toml *inner = find(table, path->names[i]);

        if (inner == NULL) {
            inner = add(reader, table, path, i, TF_TOML_TABLE, BY_DOTS);
        } else if (inner->type != TF_TOML_TABLE || inner->made_by != BY_DOTS) {
            (void)refuse_at(reader, &path->places[i],
                            "\"%.64s\" is defined in line %u, and takes no more keys; put them "
                            "there",
                            path->names[i], inner->key_at.line);
            return NULL;
        }
        table = inner;
    }
    return table;
}

/* path = value */
static bool read_entry(struct reader *reader, struct tf_toml *table)
{
    struct path path = {.count = 0};
    struct tf_toml *value, *twin;

    if (!read_path(reader, &path)) {
        return false;
    }
    if (peek(reader) != '=') {
        return refuse(reader, "a = is missing behind the key; write key = value");
    }
    reader->at++;
    skip_blanks(reader);
    table = table_of_key(reader, table, &path);
    value = table != NULL ? make_node(reader, TF_TOML_TEXT, CLOSED) : NULL;
    if (value == NULL || !read_value(reader, value)) {
        return false;
    }
    twin = find(table, path.names[path.count - 1]);
    if (twin != NULL) {
        return refuse_at(reader, &path.places[path.count - 1],
                         "key \"%.64s\" is there already, in line %u; keep one", twin->key,
                         twin->key_at.line);
    }
    return put(reader, table, &path, path.count - 1, value);
}

/* at is behind the bracket, as for the next. */
static bool read_array(struct reader *reader, struct tf_toml *array)
{
    array->type = TF_TOML_ARRAY;
    for (skip_lines(reader); peek(reader) != ']'; skip_lines(reader)) {
        struct tf_toml *item = make_node(reader, TF_TOML_TEXT, CLOSED);

        if (item == NULL || !read_value(reader, item)) {
            return false;
        }
        append(array, item);
        skip_lines(reader);
        if (peek(reader) == ',') {
            reader->at++;
        } else if (peek(reader) != ']') {
            return refuse(reader, "the array goes on without a comma, or has no end; write , or ]");
        }
    }
    reader->at++;
    return true;
}

static bool read_inline_table(struct reader *reader, struct tf_toml *table)
{
    table->type = TF_TOML_TABLE;
    skip_blanks(reader);
    while (peek(reader) != '}' || table->count > 0) { /* a comma demands another */
        if (!read_entry(reader, table)) {
            return false;
        }
        skip_blanks(reader);
        if (peek(reader) == '}') {
            break;
        }
        if (peek(reader) != ',') {
            return refuse(reader, "an inline table ends on its line; write , or }, or a [table]");
        }
        reader->at++;
        skip_blanks(reader);
    }
    reader->at++;
    return true;
}

static bool read_nested(struct reader *reader, struct tf_toml *value)
{
    bool is_array = *reader->at == '[', ok;

    if (reader->depth == TF_TOML_DEPTH_MAX) {
        return refuse_more(reader, TF_TOML_DEPTH_MAX, "values in one another; flatten them");
    }
    reader->depth++;
    reader->at++;
    ok = is_array ? read_array(reader, value) : read_inline_table(reader, value);
    reader->depth--;
    return ok;
}

static bool read_value(struct reader *reader, struct tf_toml *value)
{
    char byte = peek(reader);

    if (byte == '"' || byte == '\'') {
        return read_text(reader, true, &value->text);
    }
    if (byte == '[' || byte == '{') {
        return read_nested(reader, value);
    }
    if (starts(reader, "true") || starts(reader, "false")) {
        value->type = TF_TOML_BOOLEAN;
        value->truth = byte == 't';
        reader->at += value->truth ? 4 : 5;
        return true;
    }
    if (is_number_byte(byte)) {
        return read_number(reader, value);
    }
    return refuse(reader, "a value is missing; write a text in quotes, a number, true, false, [ or "
                          "{");
}

/* ---- headers -------------------------------------------------------------------------------- */

/* The table that a header's last name stands in. NULL: that was told, or there is no memory. */
static struct tf_toml *table_of_header(struct reader *reader, struct tf_toml *table,
                                       const struct path *path)
{
    for (size_t i = 0; table != NULL && i + 1 < path->count; i++) {
        struct tf_toml *inner = find(table, path->names[i]);

        if (inner == NULL) {
            inner = add(reader, table, path, i, TF_TOML_TABLE, BY_PATH);
        } else if (inner->type == TF_TOML_ARRAY && inner->made_by == BY_ITEMS) {
            inner = inner->last;
        } else if (inner->type != TF_TOML_TABLE || inner->made_by == CLOSED) {
            (void)refuse_at(reader, &path->places[i],
                            "\"%.64s\" is a value, in line %u, and no table can be added to it; "
                            "put the keys there",
                            path->names[i], inner->key_at.line);
            return NULL;
        }
        table = inner;
    }
    return table;
}

/* [path] */
static struct tf_toml *open_table(struct reader *reader, struct tf_toml *table,
                                  const struct path *path)
{
    size_t last = path->count - 1;
    struct tf_toml *found = find(table, path->names[last]);

    if (found == NULL) {
        return add(reader, table, path, last, TF_TOML_TABLE, BY_HEADER);
    }
    if (found->type != TF_TOML_TABLE || found->made_by != BY_PATH) {
        (void)refuse_at(reader, &path->places[last],
                        "\"%.64s\" is there already, in line %u; put its keys together",
                        path->names[last], found->key_at.line);
        return NULL;
    }
    found->made_by = BY_HEADER;
    return found;
}

/* [[path]] */
static struct tf_toml *open_item(struct reader *reader, struct tf_toml *table,
                                 const struct path *path)
{
    size_t last = path->count - 1;
    struct tf_toml *array = find(table, path->names[last]), *item;

    if (array == NULL) {
        array = add(reader, table, path, last, TF_TOML_ARRAY, BY_ITEMS);
    } else if (array->type != TF_TOML_ARRAY || array->made_by != BY_ITEMS) {
        (void)refuse_at(reader, &path->places[last],
                        "\"%.64s\" is there already, in line %u, and is no list of tables; name "
                        "one of them otherwise",
                        path->names[last], array->key_at.line);
        return NULL;
    }
    item = array != NULL ? make_node(reader, TF_TOML_TABLE, BY_HEADER) : NULL;
    if (item != NULL) {
        item->at = path->places[last];
        append(array, item);
    }
    return item;
}

/* A header; *table is then where the keys behind it go. */
static bool read_header(struct reader *reader, struct tf_toml *root, struct tf_toml **table)
{
    bool is_item = starts(reader, "[[");
    struct path path = {.count = 0};
    struct tf_toml *outer;

    reader->at += is_item ? 2 : 1;
    if (!read_path(reader, &path)) {
        return false;
    }
    if (!starts(reader, is_item ? "]]" : "]")) {
        return refuse(reader, is_item ? "]] is missing behind the table's name"
                                      : "] is missing behind the table's name");
    }
    reader->at += is_item ? 2 : 1;
    outer = table_of_header(reader, root, &path);
    if (outer == NULL) {
        return false;
    }
    *table = is_item ? open_item(reader, outer, &path) : open_table(reader, outer, &path);
    return *table != NULL;
}

/* ---- the document --------------------------------------------------------------------------- */

/* Behind a header or a value. */
static bool end_line(struct reader *reader)
{
    skip_blanks(reader);
    if (reader->at == reader->end || at_newline(reader) || peek(reader) == '#') {
        return true;
    }
    return refuse(reader, "something stands behind the value; begin a new line, or quote the "
                          "whole text");
}

static bool read_lines(struct reader *reader, struct tf_toml *root)
{
    struct tf_toml *table = root;
    bool ok = true;

    for (skip_lines(reader); ok && reader->at < reader->end; skip_lines(reader)) {
        ok =
            (peek(reader) == '[' ? read_header(reader, root, &table) : read_entry(reader, table)) &&
            end_line(reader);
    }
    return ok;
}

int tf_toml_parse(struct tf_slice toml, const char *file, void *arena, struct tf_toml **out,
                  struct tf_error *err)
{
    struct reader reader = {.at = toml.data,
                            .line_start = toml.data,
                            .line = 1,
                            .file = file,
                            .arena = arena,
                            .err = err};
    struct tf_toml *root;
    bool ok = false;

    if (toml.size > TF_TOML_FILE_MAX) {
        return tf_error_add(err, &(struct tf_place){.file = file},
                            "the file is larger than %u bytes; part it", TF_TOML_FILE_MAX);
    }
    reader.end = toml.size > 0 ? toml.data + toml.size : toml.data;
    tf_buf_init(&reader.scratch, TF_TOML_FILE_MAX);
    root = make_node(&reader, TF_TOML_TABLE, BY_HEADER);
    if (root != NULL && check_bytes(&reader)) {
        reader.at += starts(&reader, "\xef\xbb\xbf") ? 3 : 0; /* a byte order mark */
        ok = read_lines(&reader, root);
    }
    tf_buf_fini(&reader.scratch);
    if (ok) {
        *out = root;
    }
    return ok ? 0 : reader.no_memory ? -ENOMEM : -EINVAL;
}
