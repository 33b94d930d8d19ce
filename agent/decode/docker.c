/*
 * docker.c - one line of a docker json-file log: {"log":"text\n","stream":"stdout","time":"..."}.
 *
 * A JSON object (RFC 8259) as docker writes it, with some room:
 *
 *   - keys stand in any order; `log` and `time` must be there, a missing or unknown `stream` is
 *     TF_STREAM_OTHER; a second `log`, `stream` or `time` makes the line malformed, since it
 *     cannot be told which one is meant; keys are compared as they are written, without escapes
 *   - other keys are skipped with whatever they hold, to a depth of DEPTH_MAX: their brackets,
 *     commas, colons and quotes must be sound, their escapes are not looked at
 *   - in `log` every escape of JSON is undone, \u0000 too; a surrogate without its partner becomes
 *     U+FFFD; all other bytes are taken as they are, be they control characters or not UTF-8
 *   - white space may stand around every token, nothing else behind the object
 *
 * The hot path copies text and looks for quotes and backslashes at the same time, 16 bytes a step,
 * right into the batch. That never needs more room than the line itself: an escape is longer than
 * what it stands for. A malformed line leaves the batch as it was.
 * Not here: what becomes of pieces and of malformed lines (lines.c).
 */
#include "taffrail/decode.h"

#include <assert.h>
#include <errno.h>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

#define DEPTH_MAX 16u
#define STEP      16u

static_assert(STEP <= TF_BUF_SLACK_BYTES, "a step may store past the end of the arena");

struct reader {
    const char *at, *end;
};

enum seen { SEEN_LOG = 1, SEEN_STREAM = 2, SEEN_TIME = 4 };

/* ---- tokens ------------------------------------------------------------------------------------
 */

static void skip_space(struct reader *in)
{
    while (in->at < in->end &&
           (*in->at == ' ' || *in->at == '\t' || *in->at == '\r' || *in->at == '\n')) {
        in->at++;
    }
}

/* Passes over `byte` and the space before it. */
static bool take(struct reader *in, char byte)
{
    skip_space(in);
    if (in->at == in->end || *in->at != byte) {
        return false;
    }
    in->at++;
    return true;
}

/* Where the first quote or backslash of the STEP bytes at `at` is; STEP when there is none. */
static unsigned find_special(const char *at)
{
#ifdef __SSE2__
    __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)at);
    __m128i found = _mm_or_si128(_mm_cmpeq_epi8(bytes, _mm_set1_epi8('"')),
                                 _mm_cmpeq_epi8(bytes, _mm_set1_epi8('\\')));
    unsigned mask = (unsigned)_mm_movemask_epi8(found) | 1u << STEP;

    return (unsigned)__builtin_ctz(mask);
#else
    unsigned i = 0;

    while (i < STEP && at[i] != '"' && at[i] != '\\') {
        i++;
    }
    return i;
#endif
}

static void skip_run(struct reader *in)
{
    while ((size_t)(in->end - in->at) >= STEP) {
        unsigned found = find_special(in->at);

        in->at += found;
        if (found < STEP) {
            return;
        }
    }
    while (in->at < in->end && *in->at != '"' && *in->at != '\\') {
        in->at++;
    }
}

/* The bytes between two quotes, as they are written. */
static bool read_raw(struct reader *in, struct tf_slice *out)
{
    const char *start;

    if (!take(in, '"')) {
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

/* true, false, null, or a number: a run of their letters. */
static bool skip_word(struct reader *in)
{
    const char *start = in->at;

    while (in->at < in->end && ((*in->at >= 'a' && *in->at <= 'z') || *in->at == 'E' ||
                                (*in->at >= '0' && *in->at <= '9') || *in->at == '-' ||
                                *in->at == '+' || *in->at == '.')) {
        in->at++;
    }
    return in->at > start;
}

/* One value of any kind; depth counts the containers around it. */
static bool skip_value(struct reader *in, unsigned depth)
{
    struct tf_slice raw;
    char close;

    skip_space(in);
    if (in->at == in->end) {
        return false;
    }
    if (*in->at == '"') {
        return read_raw(in, &raw);
    }
    if (*in->at != '{' && *in->at != '[') {
        return skip_word(in);
    }
    close = *in->at == '{' ? '}' : ']';
    in->at++;
    if (depth == DEPTH_MAX) {
        return false;
    }
    if (take(in, close)) {
        return true;
    }
    do {
        if (close == '}' && (!read_raw(in, &raw) || !take(in, ':'))) {
            return false;
        }
        if (!skip_value(in, depth + 1)) {
            return false;
        }
    } while (take(in, ','));
    return take(in, close);
}

/* ---- the text ----------------------------------------------------------------------------------
 */

/* Copies to the next quote or backslash, or to the end; returns where the copy ends. */
static char *copy_run(struct reader *in, char *to)
{
    const char *at = in->at;

    for (; (size_t)(in->end - at) >= STEP; at += STEP, to += STEP) {
        unsigned found = find_special(at);

        memcpy(to, at, STEP); /* past the run too: the arena has slack */
        if (found < STEP) {
            in->at = at + found;
            return to + found;
        }
    }
    while (at < in->end && *at != '"' && *at != '\\') {
        *to++ = *at++;
    }
    in->at = at;
    return to;
}

/* Four hexadecimal digits, or -1. */
static int32_t read_hex(struct reader *in)
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
static char *copy_unicode(struct reader *in, char *to)
{
    int32_t first = read_hex(in), second;
    struct reader ahead = *in;

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
static char *copy_escape(struct reader *in, char *to)
{
    if (in->at == in->end) {
        return NULL;
    }
    switch (*in->at++) {
    case '"':
        *to = '"';
        break;
    case '\\':
        *to = '\\';
        break;
    case '/':
        *to = '/';
        break;
    case 'b':
        *to = '\b';
        break;
    case 'f':
        *to = '\f';
        break;
    case 'n':
        *to = '\n';
        break;
    case 'r':
        *to = '\r';
        break;
    case 't':
        *to = '\t';
        break;
    case 'u':
        return copy_unicode(in, to);
    default:
        return NULL;
    }
    return to + 1;
}

/* The string at in, unescaped, at the end of the arena, where room was made for it. */
static bool read_text(struct reader *in, struct tf_buf *arena, struct tf_docker_line *out)
{
    char *start = arena->data + arena->size, *to = start;

    if (!take(in, '"')) {
        return false;
    }
    for (;;) {
        to = copy_run(in, to);
        if (in->at == in->end) {
            return false;
        }
        if (*in->at++ == '"') {
            break;
        }
        to = copy_escape(in, to);
        if (to == NULL) {
            return false;
        }
    }
    out->partial = to == start || to[-1] != '\n';
    out->text_at = (uint32_t)arena->size;
    out->text_size = (uint32_t)(to - start) - (out->partial ? 0 : 1);
    return true;
}

/* ---- the line ----------------------------------------------------------------------------------
 */

static enum tf_stream stream_of(struct tf_slice name)
{
    if (name.size == 6 && memcmp(name.data, "stdout", 6) == 0) {
        return TF_STREAM_STDOUT;
    }
    if (name.size == 6 && memcmp(name.data, "stderr", 6) == 0) {
        return TF_STREAM_STDERR;
    }
    return TF_STREAM_OTHER;
}

static enum seen key_of(struct tf_slice key)
{
    if (key.size == 3 && memcmp(key.data, "log", 3) == 0) {
        return SEEN_LOG;
    }
    if (key.size == 6 && memcmp(key.data, "stream", 6) == 0) {
        return SEEN_STREAM;
    }
    return key.size == 4 && memcmp(key.data, "time", 4) == 0 ? SEEN_TIME : 0;
}

/* One "key": value. */
static bool read_pair(struct reader *in, struct tf_buf *arena, unsigned *seen,
                      struct tf_docker_line *out)
{
    struct tf_slice raw;
    enum seen key;

    if (!read_raw(in, &raw) || !take(in, ':')) {
        return false;
    }
    key = key_of(raw);
    if ((*seen & key) != 0) {
        return false;
    }
    *seen |= key;
    switch (key) {
    case SEEN_LOG:
        return read_text(in, arena, out);
    case SEEN_STREAM:
        if (!read_raw(in, &raw)) {
            return false;
        }
        out->stream = stream_of(raw);
        return true;
    case SEEN_TIME:
        return read_raw(in, &raw) && tf_time_parse(raw, &out->time_ns) == 0;
    default:
        return skip_value(in, 1);
    }
}

static bool read_line(struct reader *in, struct tf_buf *arena, struct tf_docker_line *out)
{
    unsigned seen = 0;

    if (!take(in, '{')) {
        return false;
    }
    do {
        if (!read_pair(in, arena, &seen, out)) {
            return false;
        }
    } while (take(in, ','));
    if (!take(in, '}')) {
        return false;
    }
    skip_space(in);
    return in->at == in->end && (seen & SEEN_LOG) != 0 && (seen & SEEN_TIME) != 0;
}

int tf_docker_parse(struct tf_slice line, struct tf_batch *batch, struct tf_docker_line *out)
{
    struct reader in = {.at = line.data, .end = line.data};
    struct tf_docker_line found = {.stream = TF_STREAM_OTHER};
    int rc;

    if (line.size == 0) {
        return -EPROTO;
    }
    if (line.size >= TF_BATCH_TEXT_MAX) {
        return -EMSGSIZE;
    }
    in.end += line.size;
    rc = tf_buf_reserve(&batch->text, line.size + 1);
    if (rc < 0) {
        batch->text.error = 0; /* the batch stays sound */
        return rc;
    }
    if (!read_line(&in, &batch->text, &found)) {
        explicit_bzero(batch->text.data + batch->text.size, line.size); /* what it may have left */
        return -EPROTO;
    }
    batch->text.size = (size_t)found.text_at + found.text_size;
    batch->text.data[batch->text.size++] = '\n';
    *out = found;
    return 0;
}
