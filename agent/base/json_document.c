/*
 * json_document.c - small documents of JSON (RFC 8259): one value out of them, a string into them.
 *
 * Each look passes over what stands before; that suits documents of some kilobytes that are read
 * once a second, and needs no memory.
 */
#include "taffrail/json.h"

static bool skip_value(struct tf_json *in, unsigned depth);

/* Numbers, true, false, null: what they are is seen by who takes them. */
static bool skip_word(struct tf_json *in)
{
    const char *begin = in->at;

    while (in->at < in->end && strchr("+-.0123456789aeflnrstuE", *in->at) != NULL &&
           *in->at != '\0') {
        in->at++;
    }
    return in->at > begin;
}

/* Behind its opening bracket. */
static bool skip_inside(struct tf_json *in, char end, unsigned depth)
{
    struct tf_slice key;

    if (tf_json_take(in, end)) {
        return true;
    }
    do {
        if (end == '}' && (!tf_json_raw(in, &key) || !tf_json_take(in, ':'))) {
            return false;
        }
        if (!skip_value(in, depth)) {
            return false;
        }
    } while (tf_json_take(in, ','));
    return tf_json_take(in, end);
}

static bool skip_value(struct tf_json *in, unsigned depth)
{
    struct tf_slice text;

    if (depth == TF_JSON_DEPTH_MAX) {
        return false;
    }
    if (tf_json_take(in, '{')) {
        return skip_inside(in, '}', depth + 1);
    }
    if (tf_json_take(in, '[')) {
        return skip_inside(in, ']', depth + 1);
    }
    if (in->at < in->end && *in->at == '"') {
        return tf_json_raw(in, &text);
    }
    return skip_word(in);
}

static bool take_value(struct tf_json *in, struct tf_slice *out)
{
    tf_json_skip_space(in);
    out->data = in->at;
    if (!skip_value(in, 0)) {
        return false;
    }
    out->size = (size_t)(in->at - out->data);
    return true;
}

bool tf_json_member(struct tf_slice object, const char *key, struct tf_slice *out)
{
    struct tf_json in = tf_json(object);
    struct tf_slice name, value;

    if (!tf_json_take(&in, '{')) {
        return false;
    }
    do {
        if (!tf_json_raw(&in, &name) || !tf_json_take(&in, ':') || !take_value(&in, &value)) {
            return false;
        }
        if (tf_slice_equal(name, tf_slice_text(key))) {
            *out = value;
            return true;
        }
    } while (tf_json_take(&in, ','));
    return false;
}

bool tf_json_next_member(struct tf_json *in, struct tf_slice *name, struct tf_slice *value)
{
    return (tf_json_take(in, '{') || tf_json_take(in, ',')) && tf_json_raw(in, name) &&
           tf_json_take(in, ':') && take_value(in, value);
}

bool tf_json_next_item(struct tf_json *in, struct tf_slice *value)
{
    return (tf_json_take(in, '[') || tf_json_take(in, ',')) && take_value(in, value);
}

bool tf_json_is_whole(struct tf_slice text)
{
    struct tf_json in = tf_json(text);
    struct tf_slice value;

    if (!take_value(&in, &value)) {
        return false;
    }
    tf_json_skip_space(&in);
    return in.at == in.end;
}

void tf_json_put(struct tf_buf *out, const char *text)
{
    bool is_utf8 = tf_utf8_valid(text, strlen(text));

    (void)tf_buf_append_byte(out, '"');
    for (; *text != '\0'; text++) {
        uint8_t byte = (uint8_t)*text;

        if (byte >= 0x80 && !is_utf8) {
            (void)tf_buf_append_text(out, "\\ufffd");
        } else if (byte < ' ' || byte == 0x7f || byte == '"' || byte == '\\' || byte == '<') {
            (void)tf_buf_printf(out, "\\u%04x", byte); /* '<': it can close no element */
        } else {
            (void)tf_buf_append_byte(out, byte);
        }
    }
    (void)tf_buf_append_byte(out, '"');
}
