/*
 * held.c - text that is held while its end has not come, with a bound (held.h).
 *
 * Up to the limit the buffer is plain text. Past it:
 *
 *     0          head_bytes                       limit
 *     | the head | the newest bytes, as a ring     |
 *
 * so that head and tail of a text of any length stay in memory that never grows past the limit. The
 * ring's next place follows from total alone.
 */
#include "held.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#define MARK_BYTES_MAX 40u /* "[18446744073709551615 bytes left out]" is 37 */

static_assert(MARK_BYTES_MAX < TF_SPAN_CUT_MIN / 4, "a cut text keeps more than its mark");

/* ---- spans -------------------------------------------------------------------------------------
 */

struct tf_span tf_span_of(struct tf_slice text)
{
    return (struct tf_span){.part = {text}};
}

uint64_t tf_span_size(const struct tf_span *span)
{
    return span->part[0].size + span->left_out + span->part[1].size + span->part[2].size;
}

/* Where a part begins in the whole text. */
static uint64_t part_at(const struct tf_span *span, unsigned i)
{
    uint64_t at = 0;

    if (i > 0) {
        at = span->part[0].size + span->left_out;
    }
    return i > 1 ? at + span->part[1].size : at;
}

uint8_t tf_span_byte(const struct tf_span *span, uint64_t at)
{
    for (unsigned i = 0; i < TF_COUNT(span->part); i++) {
        uint64_t start = part_at(span, i);

        if (at >= start && at - start < span->part[i].size) {
            return (uint8_t)span->part[i].data[at - start];
        }
    }
    assert(!"a byte of a span that is left out");
    return 0;
}

void tf_span_shorten(struct tf_span *span)
{
    unsigned i = TF_COUNT(span->part) - 1;

    while (i > 0 && span->part[i].size == 0) {
        i--;
    }
    assert(span->part[i].size > 0);
    span->part[i].size--;
}

/* Appends the bytes from `from` to `to` that are there. The buffer's sticky error tells. */
static void append_range(const struct tf_span *span, uint64_t from, uint64_t to, struct tf_buf *out)
{
    for (unsigned i = 0; i < TF_COUNT(span->part); i++) {
        uint64_t start = part_at(span, i), end = start + span->part[i].size;
        uint64_t first = from > start ? from : start, last = to < end ? to : end;

        if (first < last) {
            (void)tf_buf_append(out, span->part[i].data + (first - start), (size_t)(last - first));
        }
    }
}

static bool inside_character(const struct tf_span *span, uint64_t at)
{
    return (tf_span_byte(span, at) & 0xc0) == 0x80;
}

/* The place where a character begins, at or before `at`; at most three bytes back. */
static uint64_t character_before(const struct tf_span *span, uint64_t at)
{
    for (unsigned i = 0; i < 3 && inside_character(span, at); i++) {
        at--;
    }
    return at;
}

/* The same at or behind it. */
static uint64_t character_behind(const struct tf_span *span, uint64_t at)
{
    for (unsigned i = 0; i < 3 && inside_character(span, at); i++) {
        at++;
    }
    return at;
}

int tf_span_append(const struct tf_span *span, uint64_t max_bytes, struct tf_buf *out,
                   struct tf_cut *cut)
{
    uint64_t size = tf_span_size(span), around = max_bytes / 8;
    uint64_t head_end = max_bytes / 2, tail_start, head_shown, tail_shown;
    size_t at = out->size;

    *cut = (struct tf_cut){0};
    if (size <= max_bytes) {
        for (unsigned i = 0; i < TF_COUNT(span->part); i++) {
            if (span->part[i].size > 0) {
                (void)tf_buf_append(out, span->part[i].data, span->part[i].size);
            }
        }
        return out->error;
    }
    around = around < TF_SPAN_AROUND ? around : TF_SPAN_AROUND;
    tail_start = character_behind(span, size - (max_bytes - head_end - MARK_BYTES_MAX));
    head_end = character_before(span, head_end);
    head_shown = character_before(span, head_end - around);
    tail_shown = character_behind(span, tail_start + around);
    append_range(span, 0, head_end, out);
    cut->from = (uint32_t)head_shown;
    cut->mark_at = (uint32_t)(out->size - at);
    (void)tf_buf_printf(out, "[%" PRIu64 " bytes left out]", tail_shown - head_shown);
    cut->mark_end = (uint32_t)(out->size - at);
    cut->to = cut->mark_end + (uint32_t)(tail_shown - tail_start);
    append_range(span, tail_start, size, out);
    return out->error;
}

/* ---- held text ---------------------------------------------------------------------------------
 */

struct tf_held *tf_held_new(size_t head_bytes, size_t limit_bytes)
{
    struct tf_held *held = calloc(1, sizeof *held);

    assert(head_bytes < limit_bytes);
    if (held != NULL) {
        tf_buf_init(&held->buf, limit_bytes);
        held->head_bytes = head_bytes;
    }
    return held;
}

void tf_held_free(struct tf_held *held)
{
    if (held == NULL) {
        return;
    }
    if (held->buf.data != NULL) {
        explicit_bzero(held->buf.data, held->buf.capacity);
    }
    tf_buf_fini(&held->buf);
    free(held);
}

void tf_held_clear(struct tf_held *held)
{
    tf_buf_clear(&held->buf);
    held->total = 0;
    held->pieces = 0;
}

/* Where the ring goes on. Only past the limit. */
static size_t ring_at(const struct tf_held *held)
{
    size_t ring_bytes = held->buf.limit_bytes - held->head_bytes;

    return held->head_bytes + (size_t)((held->total - held->head_bytes) % ring_bytes);
}

static int put_bytes(struct tf_held *held, struct tf_slice bytes)
{
    size_t room = held->buf.limit_bytes - held->buf.size;
    size_t plain = bytes.size < room ? bytes.size : room;

    if (plain > 0) {
        int rc = tf_buf_append(&held->buf, bytes.data, plain);

        if (rc < 0) {
            return rc;
        }
        held->total += plain;
    }
    for (size_t at = plain; at < bytes.size;) {
        size_t to = ring_at(held), step = held->buf.limit_bytes - to;

        step = step < bytes.size - at ? step : bytes.size - at;
        memcpy(held->buf.data + to, bytes.data + at, step);
        held->total += step;
        at += step;
    }
    return 0;
}

/* Bytes that are nowhere: the buffer becomes a ring with a hole, which the tail fills again. */
static int put_hole(struct tf_held *held, uint64_t size)
{
    size_t room = held->buf.limit_bytes - held->buf.size;
    int rc = tf_buf_reserve(&held->buf, room);

    assert(held->total >= held->head_bytes);
    if (rc < 0) {
        return rc;
    }
    memset(held->buf.data + held->buf.size, 0, room);
    held->buf.size += room;
    held->total += size;
    return 0;
}

int tf_held_put(struct tf_held *held, const struct tf_span *span)
{
    int rc = put_bytes(held, span->part[0]);

    if (rc == 0 && span->left_out > 0) {
        rc = put_hole(held, span->left_out);
    }
    for (unsigned i = 1; i < TF_COUNT(span->part) && rc == 0; i++) {
        rc = put_bytes(held, span->part[i]);
    }
    return rc;
}

struct tf_span tf_held_span(const struct tf_held *held)
{
    const struct tf_buf *buf = &held->buf;
    struct tf_span span = {0};
    size_t next;

    if (held->total <= buf->limit_bytes) {
        return tf_span_of(tf_buf_slice(buf));
    }
    next = ring_at(held);
    span.part[0] = tf_slice(buf->data, held->head_bytes);
    span.part[1] = tf_slice(buf->data + next, buf->limit_bytes - next);
    span.part[2] = tf_slice(buf->data + held->head_bytes, next - held->head_bytes);
    span.left_out = held->total - buf->limit_bytes;
    return span;
}
