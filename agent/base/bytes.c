/*
 * bytes.c - CRC32C, UTF-8, base64, globs and the digits of a double: pure functions.
 */
#include "taffrail/base.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- CRC32C, RFC 3720 B.4: reflected polynomial 0x82f63b78 ------------------------------------
 */

static uint32_t crc_bytewise(uint32_t crc, const uint8_t *at, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        crc ^= at[i];
        for (int bit = 0; bit < 8; bit++) {
            crc = (crc >> 1) ^ (0x82f63b78u & (0u - (crc & 1u)));
        }
    }
    return crc;
}

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) static uint32_t crc_sse42(uint32_t crc, const uint8_t *at,
                                                            size_t size)
{
    uint64_t wide = crc;

    for (; size >= 8; size -= 8, at += 8) {
        uint64_t word;

        memcpy(&word, at, 8);
        wide = __builtin_ia32_crc32di(wide, word);
    }
    crc = (uint32_t)wide;
    for (; size > 0; size--, at++) {
        crc = __builtin_ia32_crc32qi(crc, *at);
    }
    return crc;
}
#endif

uint32_t tf_crc32c(uint32_t crc, const void *data, size_t size)
{
#if defined(__x86_64__)
    if (__builtin_cpu_supports("sse4.2")) {
        return ~crc_sse42(~crc, data, size);
    }
#endif
    return ~crc_bytewise(~crc, data, size);
}

/* ---- UTF-8, RFC 3629 section 4 -----------------------------------------------------------------
 */

/* The length of the valid sequence at `at`, 0 when there is none. */
static size_t utf8_sequence(const uint8_t *at, size_t left)
{
    uint8_t low = 0x80, high = 0xbf;
    size_t size;

    if (at[0] < 0x80) {
        return 1;
    }
    if (at[0] < 0xc2 || at[0] > 0xf4) {
        return 0;
    }
    size = at[0] < 0xe0 ? 2 : at[0] < 0xf0 ? 3 : 4;
    if (left < size) {
        return 0;
    }
    if (at[0] == 0xe0) {
        low = 0xa0; /* no overlong form */
    } else if (at[0] == 0xed) {
        high = 0x9f; /* no surrogate */
    } else if (at[0] == 0xf0) {
        low = 0x90;
    } else if (at[0] == 0xf4) {
        high = 0x8f; /* nothing above U+10FFFF */
    }
    if (at[1] < low || at[1] > high) {
        return 0;
    }
    for (size_t i = 2; i < size; i++) {
        if ((at[i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    return size;
}

/* Whether fewer than eight bytes are all ASCII: most texts end so, and many have no more. */
static bool is_short_ascii(const uint8_t *at, size_t size)
{
    uint32_t first, last;
    uint8_t bits = 0;

    if (size >= sizeof first) {
        memcpy(&first, at, sizeof first);
        memcpy(&last, at + size - sizeof last, sizeof last);
        return ((first | last) & 0x80808080u) == 0;
    }
    for (size_t i = 0; i < size; i++) {
        bits |= at[i];
    }
    return bits < 0x80;
}

bool tf_utf8_valid(const char *data, size_t size)
{
    const uint8_t *at = (const uint8_t *)data;

    while (size > 0) {
        size_t step;
        uint64_t word;

        if (size >= 8) {
            memcpy(&word, at, 8);
            if ((word & UINT64_C(0x8080808080808080)) == 0) {
                at += 8;
                size -= 8;
                continue;
            }
        } else if (is_short_ascii(at, size)) {
            return true;
        }
        step = utf8_sequence(at, size);
        if (step == 0) {
            return false;
        }
        at += step;
        size -= step;
    }
    return true;
}

/* ---- base64, RFC 4648 section 4 ----------------------------------------------------------------
 */

int tf_base64_append(struct tf_buf *buf, const void *data, size_t size)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const uint8_t *at = data;
    size_t chars = size / 3 * 4 + (size % 3 != 0 ? 4 : 0);
    int rc = tf_buf_reserve(buf, chars);
    char *to;

    if (rc < 0) {
        return rc;
    }
    to = buf->data + buf->size;
    for (; size >= 3; size -= 3, at += 3) {
        *to++ = digits[at[0] >> 2];
        *to++ = digits[(at[0] & 3) << 4 | at[1] >> 4];
        *to++ = digits[(at[1] & 15) << 2 | at[2] >> 6];
        *to++ = digits[at[2] & 63];
    }
    if (size > 0) {
        uint8_t second = size == 2 ? at[1] : 0;

        *to++ = digits[at[0] >> 2];
        *to++ = digits[(at[0] & 3) << 4 | second >> 4];
        *to++ = size == 2 ? digits[(second & 15) << 2] : '=';
        *to++ = '=';
    }
    buf->size += chars;
    return 0;
}

/* ---- globs
 * ---------------------------------------------------------------------------------------
 *
 * Two marks of where to try again: the newest `*` and the newest `**`. When a `*` cannot stretch
 * any more (the separator stands in its way), the `**` before it stretches: that is all the
 * backtracking there is, so time is bounded by pattern length times text length.
 */
struct retry {
    const char *pattern; /* behind the star; NULL: none */
    size_t at;           /* how far it has stretched */
};

bool tf_glob_match(const char *pattern, struct tf_slice text, char separator)
{
    struct retry star = {0}, deep = {0};
    size_t at = 0;

    for (;;) {
        if (pattern[0] == '*' && pattern[1] == '*') {
            pattern += 2;
            deep = (struct retry){.pattern = pattern, .at = at};
            star = (struct retry){0};
        } else if (pattern[0] == '*') {
            pattern += 1;
            star = (struct retry){.pattern = pattern, .at = at};
        } else if (at == text.size && *pattern == '\0') {
            return true;
        } else if (at < text.size && *pattern != '\0' &&
                   (*pattern == text.data[at] ||
                    (*pattern == '?' && (separator == '\0' || text.data[at] != separator)))) {
            pattern++;
            at++;
        } else if (star.pattern != NULL && star.at < text.size &&
                   (separator == '\0' || text.data[star.at] != separator)) {
            at = ++star.at;
            pattern = star.pattern;
        } else if (deep.pattern != NULL && deep.at < text.size) {
            at = ++deep.at;
            pattern = deep.pattern;
            star = (struct retry){0};
        } else {
            return false;
        }
    }
}

/* ---- numbers ------------------------------------------------------------------------------------
 */

void tf_double_format(double value, char text[TF_DOUBLE_TEXT_BYTES])
{
    int digits = 15;

    if (isnan(value) || isinf(value)) {
        (void)snprintf(text, TF_DOUBLE_TEXT_BYTES, "%s",
                       isnan(value) ? "NaN"
                       : value < 0  ? "-Infinity"
                                    : "Infinity");
        return;
    }
    do {
        (void)snprintf(text, TF_DOUBLE_TEXT_BYTES, "%.*g", digits, value);
    } while (strtod(text, NULL) != value && ++digits <= 17);
    if (strpbrk(text, ".e") == NULL) {
        memcpy(text + strlen(text), ".0", 3); /* still a float for who reads it */
    }
}
