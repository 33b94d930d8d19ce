/*
 * body.c - one JSON object, strictly read (RFC 8259) into the fields of a record.
 *
 * One pass, no recursion: `open` holds the containers around the next token by their number, and a
 * container's count is how many children it has so far. A step takes the end of the innermost
 * container, or its next child:
 *
 *     } ]          closes it; behind a comma no child stands here, so a comma cannot end a
 * container , "key":     before a child, in so far as it is not the first, and a map's value a
 * scalar, or one that opens
 *
 * Keys and texts are undone right into the arena's end, a text with its '\n', a key with `":`, so
 * that redaction, which looks for its keywords in the arena as a whole, finds those that end so.
 * They never need more room than the object itself: each is shorter than what it stands for, with
 * its quotes, by two bytes at least; a number that stays text has the byte that must follow it.
 *
 * A key twice in a map is found by a tag of 32 bits for each key so far: that is quadratic in their
 * number, which is at most TF_PARSE_JSON_FIELDS_MAX, and quick for the few that bodies have.
 */
#include "parse_json.h"

#include <assert.h>

struct reading {
    const struct tf_parse_json_limits *limits;
    struct tf_json in;
    struct tf_parse_json_body *body;
    const char *arena; /* offsets count from here */
    char *to;          /* where the next text goes */
    uint32_t open[TF_BATCH_DEPTH_MAX];
    uint32_t depth; /* of what is open */
};

static uint32_t offset_of(const struct reading *r, const char *at)
{
    return (uint32_t)(at - r->arena);
}

static uint32_t number_of(const struct reading *r, const struct tf_field *field)
{
    return (uint32_t)(field - r->body->fields);
}

static struct tf_slice key_of(const struct reading *r, const struct tf_field *field)
{
    return tf_slice(r->arena + field->key_at, field->key_size);
}

/* ---- keys ---------------------------------------------------------------------------------------
 */

static uint64_t mix(uint64_t tag, uint64_t word)
{
    tag = (tag ^ word) * UINT64_C(0x9e3779b97f4a7c15);
    return tag ^ tag >> 32;
}

/* The last bytes of a key, 8 at most. */
static uint64_t last_word(struct tf_slice key)
{
    const char *end = key.data + key.size;

    if (key.size >= 8) {
        return tf_load64(end - 8);
    }
    if (key.size >= 4) {
        return tf_load32(key.data) | (uint64_t)tf_load32(end - 4) << 32;
    }
    return key.size == 0 ? 0
                         : (uint8_t)key.data[0] | (uint64_t)(uint8_t)key.data[key.size / 2] << 8 |
                               (uint64_t)(uint8_t)end[-1] << 16;
}

static uint32_t tag_of(struct tf_slice key, uint32_t map)
{
    uint64_t tag = mix(map, key.size);

    for (size_t at = 0; at + 8 < key.size; at += 8) {
        tag = mix(tag, tf_load64(key.data + at));
    }
    return (uint32_t)mix(tag, last_word(key));
}

/* Notes the key of a field; false when its map has it already, or there are too many. */
static bool note_key(struct reading *r, const struct tf_field *field)
{
    struct tf_parse_json_body *body = r->body;
    uint32_t map = r->open[r->depth - 1];
    struct tf_slice text = key_of(r, field);
    uint32_t tag = tag_of(text, map);

    for (uint32_t i = 0; i < body->key_count; i++) {
        const struct tf_parse_json_key *key = &body->keys[i];

        if (key->tag == tag && key->map == map &&
            tf_slice_equal(key_of(r, &body->fields[key->field]), text)) {
            return false;
        }
    }
    if (body->key_count == r->limits->keys) {
        return false;
    }
    body->keys[body->key_count++] = (struct tf_parse_json_key){
        .tag = tag, .map = (uint16_t)map, .field = (uint16_t)number_of(r, field)};
    return true;
}

/* A string, undone. */
static bool read_string(struct reading *r, struct tf_slice *text)
{
    char *start = r->to, *end = tf_json_text(&r->in, start, false);

    if (end == NULL) {
        return false;
    }
    *text = tf_slice(start, (size_t)(end - start));
    r->to = end;
    return true;
}

static bool read_key(struct reading *r, struct tf_field *field)
{
    struct tf_slice key;

    if (!read_string(r, &key) || key.size > TF_PARSE_JSON_KEY_MAX || !tf_json_take(&r->in, ':')) {
        return false;
    }
    *r->to++ = '"';
    *r->to++ = ':';
    field->key_at = offset_of(r, key.data);
    field->key_size = (uint32_t)key.size;
    return note_key(r, field);
}

/* ---- values -------------------------------------------------------------------------------------
 */

static void set_text(const struct reading *r, struct tf_field *field, struct tf_slice text)
{
    field->type = TF_VALUE_TEXT;
    field->value.text.at = offset_of(r, text.data);
    field->value.text.size = (uint32_t)text.size;
}

/* What the body itself says of the record; value is a text, or a number as it is written. */
static void know(struct reading *r, const struct tf_field *field, struct tf_slice value,
                 bool is_text)
{
    if (r->depth == 1) {
        const struct tf_parse_json_pair pair = {key_of(r, field), value, is_text};

        tf_parse_json_know(&r->body->known, &pair, number_of(r, field));
    }
}

static bool read_text(struct reading *r, struct tf_field *field)
{
    struct tf_slice text;

    if (!read_string(r, &text)) {
        return false;
    }
    *r->to++ = '\n';
    set_text(r, field, text);
    know(r, field, text, true);
    return true;
}

static bool read_number(struct reading *r, struct tf_field *field)
{
    struct tf_slice digits;

    if (!tf_parse_json_number(&r->in, &digits, field)) {
        return false;
    }
    if (field->type == TF_VALUE_TEXT) {
        memcpy(r->to, digits.data, digits.size);
        set_text(r, field, tf_slice(r->to, digits.size));
        r->to += digits.size;
        *r->to++ = '\n';
    }
    know(r, field, digits, false);
    return true;
}

static bool read_word(struct reading *r, struct tf_field *field, const char *word,
                      enum tf_value_type type)
{
    size_t size = strlen(word);

    if ((size_t)(r->in.end - r->in.at) < size || memcmp(r->in.at, word, size) != 0) {
        return false;
    }
    r->in.at += size;
    field->type = (uint8_t)type;
    return true;
}

static bool open_container(struct reading *r, struct tf_field *field, enum tf_value_type type)
{
    if (r->depth == r->limits->depth) {
        return false;
    }
    r->in.at++;
    field->type = (uint8_t)type;
    field->value.count = 0;
    r->open[r->depth++] = number_of(r, field);
    return true;
}

static bool read_value(struct reading *r, struct tf_field *field)
{
    tf_json_skip_space(&r->in);
    if (r->in.at == r->in.end) {
        return false;
    }
    switch (*r->in.at) {
    case '"':
        return read_text(r, field);
    case '{':
        return open_container(r, field, TF_VALUE_MAP);
    case '[':
        return open_container(r, field, TF_VALUE_ARRAY);
    case 't':
        return read_word(r, field, "true", TF_VALUE_TRUE);
    case 'f':
        return read_word(r, field, "false", TF_VALUE_FALSE);
    case 'n':
        return read_word(r, field, "null", TF_VALUE_NIL);
    default:
        return read_number(r, field);
    }
}

/* ---- the body -----------------------------------------------------------------------------------
 */

static bool read_step(struct reading *r)
{
    struct tf_parse_json_body *body = r->body;
    struct tf_field *around = &body->fields[r->open[r->depth - 1]], *field;
    bool is_map = around->type == TF_VALUE_MAP;

    if (tf_json_take(&r->in, is_map ? '}' : ']')) {
        r->depth--;
        return true;
    }
    if ((around->value.count > 0 && !tf_json_take(&r->in, ',')) ||
        body->field_count == r->limits->fields) {
        return false;
    }
    around->value.count++;
    field = &body->fields[body->field_count++];
    *field = (struct tf_field){0};
    return (!is_map || read_key(r, field)) && read_value(r, field);
}

static bool read_object(struct reading *r)
{
    if (!tf_json_take(&r->in, '{')) {
        return false;
    }
    r->body->fields[0] = (struct tf_field){.type = TF_VALUE_MAP};
    r->body->field_count = 1;
    r->depth = 1; /* open[0] is the body, field 0 */
    while (r->depth > 0) {
        if (!read_step(r)) {
            return false;
        }
    }
    tf_json_skip_space(&r->in);
    return r->in.at == r->in.end && r->body->fields[0].value.count > 0;
}

int64_t tf_parse_json_read(struct tf_slice text, const struct tf_parse_json_limits *limits,
                           const struct tf_buf *arena, struct tf_parse_json_body *body)
{
    char *start = arena->data + arena->size;
    struct reading r = {
        .limits = limits, .in = tf_json(text), .body = body, .arena = arena->data, .to = start};

    assert(limits->depth > 0 && limits->depth <= TF_BATCH_DEPTH_MAX);
    assert(limits->fields > 0 && limits->fields <= TF_PARSE_JSON_FIELDS_MAX);
    body->key_count = 0;
    body->known = (struct tf_parse_json_known){0};
    if (!tf_utf8_valid(text.data, text.size) || !read_object(&r)) {
        return -1;
    }
    assert((size_t)(r.to - start) <= text.size);
    return r.to - start;
}
