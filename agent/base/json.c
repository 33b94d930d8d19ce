/*
 * json.c - strings of JSON, passed over or with their escapes undone.
 *
 * The hot path copies and looks for what ends a run - a quote, a backslash, a control character
 * where none may stand - at the same time, STEP bytes a step. A step needs STEP bytes of input, and
 * no more was written than was read, so a store stays in the room that the caller has made.
 */
#include "taffrail/json.h"

#ifdef __SSE2__
#include <emmintrin.h>
#endif

#define STEP         16u
#define CONTROLS_END 0x20u

/* So that `low` is a constant in the steps. */
#define INLINE __attribute__((always_inline)) static inline

/* Where the first quote, backslash or byte below `low` of the STEP bytes at `at` is; STEP when
 * there is none. */
static inline unsigned find_special(const char *at, uint8_t low)
{
#ifdef __SSE2__
    __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)at);
    __m128i found = _mm_or_si128(_mm_cmpeq_epi8(bytes, _mm_set1_epi8('"')),
                                 _mm_cmpeq_epi8(bytes, _mm_set1_epi8('\\')));
    __m128i below = _mm_subs_epu8(_mm_set1_epi8((char)low), bytes); /* not 0 where it is below */
    unsigned mask;

    found = _mm_or_si128(found, _mm_cmpgt_epi8(below, _mm_setzero_si128()));
    mask = (unsigned)_mm_movemask_epi8(found) | 1u << STEP;
    return (unsigned)__builtin_ctz(mask);
#else
    unsigned i = 0;

    while (i < STEP && at[i] != '"' && at[i] != '\\' && (uint8_t)at[i] >= low) {
        i++;
    }
    return i;
#endif
}

static void skip_run(struct tf_json *in)
{
    while ((size_t)(in->end - in->at) >= STEP) {
        unsigned found = find_special(in->at, 0);

        in->at += found;
        if (found < STEP) {
            return;
        }
    }
    while (in->at < in->end && *in->at != '"' && *in->at != '\\') {
        in->at++;
    }
}

bool tf_json_raw(struct tf_json *in, struct tf_slice *out)
{
    const char *start;

    if (!tf_json_take(in, '"')) {
        return false;
    }
    start = in->at;
    skip_run(in);
    while (in->end - in->at >= 2 && *in->at == '\\') {
        in->at += 2; /* whatever is behind it, a quote too, does not end the string */
        skip_run(in);
    }
    if (in->at == in->end || *in->at == '\\') {
        return false;
    }
    *out = tf_slice(start, (size_t)(in->at - start));
    in->at++;
    return true;
}

/* ---- with escapes undone ------------------------------------------------------------------------
 */

/* Copies to the next quote, backslash or byte below `low`, or to the end; returns where the copy
 * ends. */
INLINE char *copy_run(struct tf_json *in, char *to, uint8_t low)
{
    const char *at = in->at;

    for (; (size_t)(in->end - at) >= STEP; at += STEP, to += STEP) {
        unsigned found = find_special(at, low);

        memcpy(to, at, STEP); /* past the run too */
        if (found < STEP) {
            in->at = at + found;
            return to + found;
        }
    }
    while (at < in->end && *at != '"' && *at != '\\' && (uint8_t)*at >= low) {
        *to++ = *at++;
    }
    in->at = at;
    return to;
}

/* Four hexadecimal digits, or -1. */
static int32_t read_hex(struct tf_json *in)
{
    int32_t value = 0;

    if (in->end - in->at < 4) {
        return -1;
    }
    for (unsigned i = 0; i < 4; i++) {
        char c = in->at[i];

        if (c >= '0' && c <= '9') {
            value = value << 4 | (c - '0');
        } else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f') {
            value = value << 4 | ((c | 0x20) - 'a' + 10);
        } else {
            return -1;
        }
    }
    in->at += 4;
    return value;
}

static char *put_utf8(char *to, uint32_t code)
{
    if (code < 0x80) {
        *to++ = (char)code;
    } else if (code < 0x800) {
        *to++ = (char)(0xc0 | code >> 6);
        *to++ = (char)(0x80 | (code & 0x3f));
    } else if (code < 0x10000) {
        *to++ = (char)(0xe0 | code >> 12);
        *to++ = (char)(0x80 | (code >> 6 & 0x3f));
        *to++ = (char)(0x80 | (code & 0x3f));
    } else {
        *to++ = (char)(0xf0 | code >> 18);
        *to++ = (char)(0x80 | (code >> 12 & 0x3f));
        *to++ = (char)(0x80 | (code >> 6 & 0x3f));
        *to++ = (char)(0x80 | (code & 0x3f));
    }
    return to;
}

/* Behind "\u": one code unit, or two that are a pair. NULL when the digits are none. */
static char *copy_unicode(struct tf_json *in, char *to)
{
    int32_t first = read_hex(in), second;
    struct tf_json ahead = *in;

    if (first < 0) {
        return NULL;
    }
    if (first < 0xd800 || first > 0xdfff) {
        return put_utf8(to, (uint32_t)first);
    }
    if (first < 0xdc00 && ahead.end - ahead.at >= 2 && ahead.at[0] == '\\' && ahead.at[1] == 'u') {
        ahead.at += 2;
        second = read_hex(&ahead);
        if (second >= 0xdc00 && second <= 0xdfff) {
            *in = ahead;
            return put_utf8(to, 0x10000u + ((uint32_t)(first - 0xd800) << 10) +
                                    (uint32_t)(second - 0xdc00));
        }
    }
    return put_utf8(to, 0xfffd); /* alone: what follows is looked at for itself */
}

/* Behind a backslash. NULL when it is no escape. */
static inline char *copy_escape(struct tf_json *in, char *to)
{
    static const char plain[UINT8_MAX + 1] = {
        ['"'] = '"',  ['\\'] = '\\', ['/'] = '/',  ['b'] = '\b',
        ['f'] = '\f', ['n'] = '\n',  ['r'] = '\r', ['t'] = '\t'};
    uint8_t byte;

    if (in->at == in->end) {
        return NULL;
    }
    byte = (uint8_t)*in->at++;
    if (plain[byte] != 0) {
        *to = plain[byte];
        return to + 1;
    }
    return byte == 'u' ? copy_unicode(in, to) : NULL;
}

/* Copies to the quote that ends the string, and passes over that. NULL when it is no string. */
INLINE char *copy_text(struct tf_json *in, char *to, uint8_t low)
{
    for (;;) {
        to = copy_run(in, to, low);
        if (in->at == in->end || (low > 0 && *in->at != '"' && *in->at != '\\')) {
            return NULL; /* no end, or a control character */
        }
        if (*in->at++ == '"') {
            return to;
        }
        to = copy_escape(in, to);
        if (to == NULL) {
            return NULL;
        }
    }
}

char *tf_json_text(struct tf_json *in, char *to, bool takes_controls)
{
    if (!tf_json_take(in, '"')) {
        return NULL;
    }
    return takes_controls ? copy_text(in, to, 0) : copy_text(in, to, CONTROLS_END);
}
