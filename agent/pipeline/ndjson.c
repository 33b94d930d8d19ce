/*
 * ndjson.c - one msgpack event as a line of JSON for programs, or as a line of text for eyes.
 *
 * JSON (RFC 8259), one line an event: `time`, `tag`, then the event's map in its order.
 *
 *     msgpack                JSON
 *     str                    string; control characters, also DEL and U+0080 to U+009F, as \u00XX
 *     bin, str not UTF-8     base64 under the key with `_b64`; in an array {"_b64": base64}
 *     integers               all digits
 *     float                  the shortest that reads back the same; "NaN", "Infinity", "-Infinity"
 *     EventTime as a value   its RFC 3339 text
 *     nil, bool, map, array  null, true and false, object, array
 *
 * A name stands once in an object when it stood once in the map: a name that could be taken for one
 * of ours gets `_` behind it. So `time` and `tag` of the record itself become `time_` and `tag_`
 * (and `time_` becomes `time__`), and `x_b64` that is no base64 becomes `x_b64_`. A byte of a key
 * that is not UTF-8 becomes U+FFFD.
 *
 * Text for eyes: "HH:MM:SS.mmm namespace/pod/container  out  log". Nothing that moves a cursor or
 * turns the direction of writing gets through: control and bidi characters are shown as \n, \t,
 * \xNN or \uNNNN, bytes that are not UTF-8 as \xNN. A record without a text shows its JSON.
 *
 * The bytes may be hostile (unpack.h); nesting ends at TF_BATCH_DEPTH_MAX, the event's array
 * counted.
 */
#include "taffrail/event.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>

#include "unpack.h"

#define SOURCE_WIDTH 18 /* of the names' column for eyes; longer ones move the rest */
#define ID_SHOWN_MAX 12u

/* ---- bytes out ----------------------------------------------------------------------------------
 */

/* As tf_buf_append, without a call when there is room. The buffer's sticky error tells. */
static inline void put_bytes(struct tf_buf *out, const void *data, size_t size)
{
    if (out->error == 0 && size < out->capacity - out->size) {
        memcpy(out->data + out->size, data, size);
        out->size += size;
    } else {
        (void)tf_buf_append(out, data, size);
    }
}

static inline void put_byte(struct tf_buf *out, char byte)
{
    put_bytes(out, &byte, 1);
}

static inline void put_literal(struct tf_buf *out, const char *text)
{
    put_bytes(out, text, strlen(text));
}

/* ---- JSON strings -------------------------------------------------------------------------------
 */

#define EACH_BYTE(byte)         (UINT64_C(0x0101010101010101) * (byte))
#define ZERO_BYTES(word)        (((word)-EACH_BYTE(1)) & ~(word)&EACH_BYTE(0x80))
#define EQUAL_BYTES(word, byte) ZERO_BYTES((word) ^ EACH_BYTE(byte))

/* Whether a byte cannot be copied as it is: controls, quote, backslash, DEL, and 0xc2, with which
 * U+0080 to U+009F begin. Other bytes from 0x80 on were checked to be UTF-8. */
static bool is_special(uint8_t byte)
{
    return byte < 0x20 || byte == '"' || byte == '\\' || byte == 0x7f || byte == 0xc2;
}

/* The bytes from the front that can be copied as they are. */
static size_t plain_size(const char *data, size_t size)
{
    size_t at = 0;

    for (; size - at >= 8; at += 8) {
        uint64_t word, special;

        memcpy(&word, data + at, 8);
        special = (word - EACH_BYTE(0x20)) & ~word & EACH_BYTE(0x80);
        special |= EQUAL_BYTES(word, '"') | EQUAL_BYTES(word, '\\');
        special |= EQUAL_BYTES(word, 0x7f) | EQUAL_BYTES(word, 0xc2);
        if (special != 0) {
            break;
        }
    }
    while (at < size && !is_special((uint8_t)data[at])) {
        at++;
    }
    return at;
}

/* Appends one special character; returns the bytes that it took. */
static size_t put_special(struct tf_buf *out, const char *data, size_t size)
{
    static const char shorts[] = {['\b'] = 'b', ['\t'] = 't', ['\n'] = 'n', ['\f'] = 'f',
                                  ['\r'] = 'r', ['"'] = '"',  ['\\'] = '\\'};
    uint8_t byte = (uint8_t)data[0];

    if (byte < sizeof shorts && shorts[byte] != 0) {
        char escape[2] = {'\\', shorts[byte]};

        put_bytes(out, escape, sizeof escape);
        return 1;
    }
    if (byte == 0xc2 && size > 1) {
        uint8_t low = (uint8_t)data[1];

        if (low >= 0xa0) {
            put_bytes(out, data, 2);
        } else {
            (void)tf_buf_printf(out, "\\u00%02x", low);
        }
        return 2;
    }
    (void)tf_buf_printf(out, "\\u00%02x", byte);
    return 1;
}

/* Appends valid UTF-8 as the inside of a JSON string. */
static void put_escaped(struct tf_buf *out, struct tf_slice text)
{
    size_t at = 0;

    while (at < text.size && out->error == 0) {
        size_t plain = plain_size(text.data + at, text.size - at);

        put_bytes(out, text.data + at, plain);
        at += plain;
        if (at < text.size) {
            at += put_special(out, text.data + at, text.size - at);
        }
    }
}

/* The size of the valid UTF-8 character at the front, 0 when there is none. */
static size_t character_size(const char *data, size_t size)
{
    uint8_t lead = (uint8_t)data[0];
    size_t wanted = lead < 0x80 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;

    return wanted <= size && tf_utf8_valid(data, wanted) ? wanted : 0;
}

/* The same for any bytes: one that is not UTF-8 becomes U+FFFD. */
static void put_any_escaped(struct tf_buf *out, struct tf_slice text)
{
    if (tf_utf8_valid(text.data, text.size)) {
        put_escaped(out, text);
        return;
    }
    for (size_t at = 0; at < text.size && out->error == 0;) {
        size_t size = character_size(text.data + at, text.size - at);

        if (size == 0) {
            put_literal(out, "\xef\xbf\xbd");
            at++;
        } else {
            put_escaped(out, tf_slice(text.data + at, size));
            at += size;
        }
    }
}

/* Whether key is `name`, or `name` with `_` behind it, any number of them. */
static bool ends_with_name(struct tf_slice key, const char *name, bool whole)
{
    size_t name_size = strlen(name);

    while (key.size > name_size && key.data[key.size - 1] == '_') {
        key.size--;
    }
    if (key.size < name_size || (whole && key.size != name_size)) {
        return false;
    }
    return memcmp(key.data + key.size - name_size, name, name_size) == 0;
}

/* Whether a field's name could be taken for one of ours. */
static bool looks_like_ours(struct tf_slice key, bool is_top)
{
    if (ends_with_name(key, "_b64", false)) {
        return true;
    }
    return is_top && (ends_with_name(key, "time", true) || ends_with_name(key, "tag", true));
}

static void put_name(struct tf_buf *out, struct tf_slice key, bool is_base64, bool is_top)
{
    put_byte(out, '"');
    put_any_escaped(out, key);
    if (is_base64) {
        put_literal(out, "_b64\":");
    } else if (looks_like_ours(key, is_top)) {
        put_literal(out, "_\":");
    } else {
        put_literal(out, "\":");
    }
}

/* ---- JSON values --------------------------------------------------------------------------------
 */

/* As next; a str that is not UTF-8 is taken for bin. */
static int next_checked(struct reader *in, struct token *out)
{
    int rc = next(in, out);

    if (rc == 0 && out->kind == TF_MSGPACK_STR &&
        !tf_utf8_valid(out->bytes.data, out->bytes.size)) {
        out->kind = TF_MSGPACK_BIN;
    }
    return rc;
}

static void put_real(struct tf_buf *out, double real)
{
    const char *quote = isfinite(real) ? "" : "\""; /* JSON has no such numbers */
    char text[TF_DOUBLE_TEXT_BYTES];

    tf_double_format(real, text);
    put_literal(out, quote);
    put_literal(out, text);
    put_literal(out, quote);
}

static void put_scalar(struct tf_buf *out, const struct token *token)
{
    char time[TF_TIME_TEXT_BYTES];

    switch (token->kind) {
    case TF_MSGPACK_NIL:
        put_literal(out, "null");
        break;
    case TF_MSGPACK_FLAG:
        put_literal(out, token->number != 0 ? "true" : "false");
        break;
    case TF_MSGPACK_UINT:
        (void)tf_buf_printf(out, "%llu", (unsigned long long)token->number);
        break;
    case TF_MSGPACK_INT:
        (void)tf_buf_printf(out, "%lld", (long long)token->number);
        break;
    case TF_MSGPACK_DOUBLE:
        put_real(out, token->real);
        break;
    case TF_MSGPACK_EXT:
        tf_time_format(token->time_ns, time);
        (void)tf_buf_printf(out, "\"%s\"", time);
        break;
    default:
        break; /* texts and containers are not scalars */
    }
}

static void put_text(struct tf_buf *out, const struct token *token)
{
    put_byte(out, '"');
    if (token->kind == TF_MSGPACK_BIN) {
        (void)tf_base64_append(out, token->bytes.data, token->bytes.size);
    } else {
        put_escaped(out, token->bytes);
    }
    put_byte(out, '"');
}

static int put_container(struct tf_buf *out, struct reader *in, const struct token *container,
                         unsigned depth);

/* Puts a value, its token taken already. Recursion ends with depth. 0 or -EPROTO. */
static int put_value(struct tf_buf *out, struct reader *in, const struct token *token,
                     unsigned depth)
{
    if (token->kind == TF_MSGPACK_ARRAY || token->kind == TF_MSGPACK_MAP) {
        return put_container(out, in, token, depth);
    }
    if (token->kind == TF_MSGPACK_STR || token->kind == TF_MSGPACK_BIN) {
        put_text(out, token);
    } else {
        put_scalar(out, token);
    }
    return 0;
}

static int put_pair(struct tf_buf *out, struct reader *in, unsigned depth, bool is_top)
{
    struct token key, value = {.kind = TF_MSGPACK_NIL};
    int rc = next_of(in, TF_MSGPACK_STR, &key);

    if (rc == 0) {
        rc = next_checked(in, &value);
    }
    if (rc < 0) {
        return rc;
    }
    put_name(out, key.bytes, value.kind == TF_MSGPACK_BIN, is_top);
    return put_value(out, in, &value, depth);
}

/* An item has no name to put `_b64` behind: it becomes an object of that name. */
static int put_item(struct tf_buf *out, struct reader *in, unsigned depth)
{
    struct token value = {.kind = TF_MSGPACK_NIL};
    int rc = next_checked(in, &value);

    if (rc < 0 || value.kind != TF_MSGPACK_BIN) {
        return rc < 0 ? rc : put_value(out, in, &value, depth);
    }
    put_literal(out, "{\"_b64\":");
    put_text(out, &value);
    put_byte(out, '}');
    return 0;
}

/* An array or a map, its head taken already; depth is its own. */
static int put_container(struct tf_buf *out, struct reader *in, const struct token *container,
                         unsigned depth)
{
    bool is_map = container->kind == TF_MSGPACK_MAP;
    int rc = depth > TF_BATCH_DEPTH_MAX ? -EPROTO : 0;

    put_byte(out, is_map ? '{' : '[');
    for (uint64_t i = 0; i < container->number && rc == 0; i++) {
        if (i > 0) {
            put_byte(out, ',');
        }
        rc = is_map ? put_pair(out, in, depth + 1, false) : put_item(out, in, depth + 1);
        rc = rc == 0 ? out->error : rc;
    }
    put_byte(out, is_map ? '}' : ']');
    return rc;
}

/* The pairs of the event's map behind time and tag. */
static int put_event(struct tf_slice tag, struct reader *in, struct tf_buf *out)
{
    struct token time = {.kind = TF_MSGPACK_NIL}, map = {.kind = TF_MSGPACK_NIL};
    int rc = read_event_head(in, &time, &map);

    if (rc < 0) {
        return rc;
    }
    put_literal(out, "{\"time\":");
    put_scalar(out, &time);
    put_literal(out, ",\"tag\":\"");
    put_any_escaped(out, tag);
    put_byte(out, '"');
    for (uint64_t i = 0; i < map.number && rc == 0; i++) {
        put_byte(out, ',');
        rc = put_pair(out, in, 3, true);
        rc = rc == 0 ? out->error : rc;
    }
    put_literal(out, "}\n");
    return rc == 0 ? out->error : rc;
}

/* Undoes what was appended after an error, so that out is as before the call. */
static int settle(struct tf_buf *out, size_t size_before, int rc)
{
    if (rc < 0) {
        out->size = size_before;
        out->error = 0;
    }
    return rc;
}

int tf_event_print_json(struct tf_slice event, struct tf_slice tag, struct tf_buf *out,
                        size_t *used)
{
    struct reader in = reader_of(event);
    size_t size_before = out->size;
    int rc;

    if (out->error != 0) {
        return out->error;
    }
    rc = settle(out, size_before, put_event(tag, &in, out));
    if (rc == 0) {
        *used = event.size - bytes_left(&in);
    }
    return rc;
}

/* ---- for eyes -----------------------------------------------------------------------------------
 */

/* What a line for eyes shows of an event. */
struct shown {
    struct tf_slice namespace_name, pod_name, container_name, container_id, stream;
    struct tf_slice log;
    bool has_log;
};

static bool is_name(struct tf_slice key, const char *name)
{
    return tf_slice_equal(key, tf_slice_text(name));
}

/* A text under `kubernetes`. */
static void note_name(struct shown *shown, struct tf_slice key, struct tf_slice text)
{
    if (is_name(key, "namespace_name")) {
        shown->namespace_name = text;
    } else if (is_name(key, "pod_name")) {
        shown->pod_name = text;
    } else if (is_name(key, "container_name")) {
        shown->container_name = text;
    }
}

/* A text of the record itself. `log` is the record's text, or else what others call it. */
static void note_text(struct shown *shown, struct tf_slice key, struct tf_slice text)
{
    bool is_other = is_name(key, "message") || is_name(key, "msg") || is_name(key, "MESSAGE");

    if (is_name(key, "log") || (is_other && !shown->has_log)) {
        shown->has_log = true;
        shown->log = text;
    } else if (is_name(key, "stream")) {
        shown->stream = text;
    } else if (is_name(key, "container_name") && shown->container_name.size == 0) {
        shown->container_name = text;
    } else if (is_name(key, "container_id")) {
        shown->container_id = text;
    }
}

/* Reads the pairs of the event's map, or with `inside` those of `kubernetes`. */
static int find_shown(struct reader *in, uint64_t pairs, bool inside, struct shown *shown)
{
    int rc = 0;

    for (uint64_t i = 0; i < pairs && rc == 0; i++) {
        struct token key, value = {.kind = TF_MSGPACK_NIL};

        rc = next_of(in, TF_MSGPACK_STR, &key);
        if (rc == 0) {
            rc = next(in, &value);
        }
        if (rc < 0) {
            return rc;
        }
        if (value.kind == TF_MSGPACK_MAP && !inside && is_name(key.bytes, "kubernetes")) {
            rc = find_shown(in, value.number, true, shown);
        } else if ((value.kind == TF_MSGPACK_STR || value.kind == TF_MSGPACK_BIN) && inside) {
            note_name(shown, key.bytes, value.bytes);
        } else if (value.kind == TF_MSGPACK_STR || value.kind == TF_MSGPACK_BIN) {
            note_text(shown, key.bytes, value.bytes);
        } else {
            rc = skip_children(in, &value);
        }
    }
    return rc;
}

/* The code point of a valid character of `size` bytes. */
static uint32_t code_point(const char *data, size_t size)
{
    static const uint8_t masks[] = {0, 0x7f, 0x1f, 0x0f, 0x07};
    uint32_t code = (uint8_t)data[0] & masks[size];

    for (size_t i = 1; i < size; i++) {
        code = code << 6 | ((uint8_t)data[i] & 0x3f);
    }
    return code;
}

/* Controls, line and paragraph separators, and what turns the direction of writing. */
static bool is_unsafe(uint32_t code)
{
    return code < 0x20 || (code >= 0x7f && code < 0xa0) || code == 0x061c ||
           (code >= 0x200e && code <= 0x200f) || (code >= 0x2028 && code <= 0x202e) ||
           (code >= 0x2066 && code <= 0x2069);
}

static void put_unsafe(struct tf_buf *out, uint32_t code)
{
    if (code == '\n' || code == '\t' || code == '\r') {
        put_literal(out, code == '\n' ? "\\n" : code == '\t' ? "\\t" : "\\r");
    } else if (code < 0x80) {
        (void)tf_buf_printf(out, "\\x%02x", (unsigned)code);
    } else {
        (void)tf_buf_printf(out, "\\u%04x", (unsigned)code);
    }
}

/* Appends any bytes so that a terminal shows them and does nothing else. */
static void put_shown(struct tf_buf *out, struct tf_slice text)
{
    for (size_t at = 0; at < text.size && out->error == 0;) {
        size_t run = at, size;
        uint32_t code;

        while (run < text.size && text.data[run] >= 0x20 && text.data[run] < 0x7f) {
            run++;
        }
        put_bytes(out, text.data + at, run - at);
        at = run;
        if (at == text.size) {
            break;
        }
        size = character_size(text.data + at, text.size - at);
        if (size == 0) {
            (void)tf_buf_printf(out, "\\x%02x", (uint8_t)text.data[at]);
            at++;
            continue;
        }
        code = code_point(text.data + at, size);
        if (is_unsafe(code)) {
            put_unsafe(out, code);
        } else {
            put_bytes(out, text.data + at, size);
        }
        at += size;
    }
}

static void put_source(struct tf_buf *out, const struct shown *shown, struct tf_slice tag)
{
    const struct tf_slice parts[] = {shown->namespace_name, shown->pod_name, shown->container_name};
    size_t start = out->size;

    for (size_t i = 0; i < TF_COUNT(parts); i++) {
        if (parts[i].size > 0 && out->size > start) {
            put_byte(out, '/');
        }
        put_shown(out, parts[i]);
    }
    if (out->size == start && shown->container_id.size > 0) {
        size_t size = shown->container_id.size;

        put_shown(out,
                  tf_slice(shown->container_id.data, size < ID_SHOWN_MAX ? size : ID_SHOWN_MAX));
    } else if (out->size == start) {
        put_shown(out, tag);
    }
    if (out->size - start < SOURCE_WIDTH) {
        (void)tf_buf_printf(out, "%*s", (int)(SOURCE_WIDTH - (out->size - start)), "");
    }
}

/* The event's map as JSON, for a record without a text. map is its head, in stands behind it. */
static int put_map_shown(struct tf_buf *out, struct reader in, const struct token *map)
{
    struct tf_buf json;
    int rc;

    tf_buf_init(&json, out->limit_bytes);
    rc = put_container(&json, &in, map, 2);
    rc = rc == 0 ? json.error : rc;
    if (rc == 0) {
        put_shown(out, tf_buf_slice(&json));
    }
    tf_buf_fini(&json);
    return rc;
}

static int put_line(struct tf_slice tag, struct reader *in, struct tf_buf *out)
{
    char text[TF_TIME_TEXT_BYTES];
    struct token time = {.kind = TF_MSGPACK_NIL}, map = {.kind = TF_MSGPACK_NIL};
    struct reader pairs;
    struct shown shown = {.has_log = false};
    int rc = read_event_head(in, &time, &map);

    pairs = *in;
    if (rc == 0) {
        rc = find_shown(in, map.number, false, &shown);
    }
    if (rc < 0) {
        return rc;
    }
    tf_time_format(time.time_ns, text);
    put_bytes(out, text + 11, 12); /* HH:MM:SS.mmm */
    put_byte(out, ' ');
    put_source(out, &shown, tag);
    put_literal(out, is_name(shown.stream, "stdout")   ? "  out  "
                     : is_name(shown.stream, "stderr") ? "  err  "
                                                       : "  -    ");
    if (shown.has_log) {
        put_shown(out, shown.log);
    } else {
        rc = put_map_shown(out, pairs, &map);
    }
    put_byte(out, '\n');
    return rc == 0 ? out->error : rc;
}

int tf_event_print_text(struct tf_slice event, struct tf_slice tag, struct tf_buf *out,
                        size_t *used)
{
    struct reader in = reader_of(event);
    size_t size_before = out->size;
    int rc;

    if (out->error != 0) {
        return out->error;
    }
    rc = settle(out, size_before, put_line(tag, &in, out));
    if (rc == 0) {
        *used = event.size - bytes_left(&in);
    }
    return rc;
}
