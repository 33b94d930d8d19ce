/*
 * encoding.c - ISO 8859-1 and UTF-16 (encoding.h).
 */
#include "encoding.h"

#define REPLACEMENT 0xfffdu

const char *tf_newline_find(enum tf_encoding encoding, bool is_big_endian, struct tf_slice text,
                            uint64_t offset)
{
    size_t at = 0;

    if (encoding != TF_ENCODING_UTF16) {
        return text.size > 0 ? memchr(text.data, '\n', text.size) : NULL;
    }
    while (at < text.size) { /* the byte that is '\n' stands first or second in its code unit */
        const char *found = memchr(text.data + at, '\n', text.size - at);
        size_t first;

        if (found == NULL) {
            return NULL;
        }
        at = (size_t)(found - text.data) + 1;
        first = at - 1 - (is_big_endian ? 1 : 0);
        if (at - 1 >= (is_big_endian ? 1u : 0u) && (offset + first) % 2 == 0 &&
            first + 2 <= text.size && text.data[is_big_endian ? first : first + 1] == '\0') {
            return text.data + first;
        }
    }
    return NULL;
}

static void append_code_point(struct tf_buf *out, uint32_t c)
{
    uint8_t bytes[4];
    size_t size = 0;

    if (c < 0x80) {
        bytes[size++] = (uint8_t)c;
    } else if (c < 0x800) {
        bytes[size++] = (uint8_t)(0xc0 | c >> 6);
    } else if (c < 0x10000) {
        bytes[size++] = (uint8_t)(0xe0 | c >> 12);
        bytes[size++] = (uint8_t)(0x80 | (c >> 6 & 0x3f));
    } else {
        bytes[size++] = (uint8_t)(0xf0 | c >> 18);
        bytes[size++] = (uint8_t)(0x80 | (c >> 12 & 0x3f));
        bytes[size++] = (uint8_t)(0x80 | (c >> 6 & 0x3f));
    }
    if (c >= 0x80) {
        bytes[size++] = (uint8_t)(0x80 | (c & 0x3f));
    }
    (void)tf_buf_append(out, bytes, size);
}

static uint32_t unit_at(struct tf_slice text, size_t at, bool is_big_endian)
{
    uint32_t a = (uint8_t)text.data[at], b = (uint8_t)text.data[at + 1];

    return is_big_endian ? a << 8 | b : b << 8 | a;
}

static void append_utf16(struct tf_slice text, bool is_big_endian, struct tf_buf *out)
{
    size_t at = 0;

    while (at + 2 <= text.size) {
        uint32_t unit = unit_at(text, at, is_big_endian), next = 0;

        at += 2;
        if (unit >= 0xd800 && unit < 0xdc00 && at + 2 <= text.size) {
            next = unit_at(text, at, is_big_endian);
        }
        if (next >= 0xdc00 && next < 0xe000) {
            at += 2;
            unit = 0x10000 + ((unit - 0xd800) << 10) + (next - 0xdc00);
        } else if (unit >= 0xd800 && unit < 0xe000) {
            unit = REPLACEMENT; /* half of a pair */
        }
        append_code_point(out, unit);
    }
    if (at < text.size) {
        append_code_point(out, REPLACEMENT); /* half of a code unit */
    }
}

int tf_encoding_append(enum tf_encoding encoding, bool is_big_endian, struct tf_slice text,
                       uint64_t at, struct tf_buf *out)
{
    if (encoding == TF_ENCODING_UTF16) {
        size_t skip = at % 2 != 0 && text.size > 0 ? 1 : 0;

        append_utf16(tf_slice(text.data + skip, text.size - skip), is_big_endian, out);
        return out->error;
    }
    for (size_t i = 0; i < text.size; i++) {
        append_code_point(out, (uint8_t)text.data[i]);
    }
    return out->error;
}
