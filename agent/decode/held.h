/*
 * held.h - text that is held while its end has not come: pieces of a record, or a line longer than
 * a block. Private to agent/decode.
 *
 * Bounded: of what is longer than limit_bytes, the first head_bytes and the last bytes are kept.
 */
#ifndef TAFFRAIL_DECODE_HELD_H
#define TAFFRAIL_DECODE_HELD_H

#include "taffrail/batch.h"

/*
 * Text in up to three parts, in order; left_out bytes are missing between the first and the second.
 * Borrows.
 */
struct tf_span {
    struct tf_slice part[3];
    uint64_t left_out;
};

struct tf_span tf_span_of(struct tf_slice text);
uint64_t tf_span_size(const struct tf_span *span); /* with what is left out */
/* The byte at a position that is not left out. */
uint8_t tf_span_byte(const struct tf_span *span, uint64_t at);
/* Takes the last byte away. The span is not empty. */
void tf_span_shorten(struct tf_span *span);

/*
 * Appends at most max_bytes of span: all of it, or its head, "[N bytes left out]" and its tail, cut
 * between characters. Of the head's end and the tail's beginning up to TF_SPAN_AROUND bytes, an
 * eighth of max_bytes at most, are left out too, but stand there to be searched: *cut tells where,
 * and N counts them (its field is the caller's; zeroed when all of the span is there). max_bytes is
 * TF_SPAN_CUT_MIN at least, and the span has the bytes around the cut: max_bytes / 2 + 1 at its
 * head, as many at its tail. Returns as tf_buf_append.
 */
#define TF_SPAN_CUT_MIN 256u
#define TF_SPAN_AROUND  4096u
int tf_span_append(const struct tf_span *span, uint64_t max_bytes, struct tf_buf *out,
                   struct tf_cut *cut);

struct tf_held {
    struct tf_buf buf; /* head, then the tail as a ring once total passes the buffer's limit */
    size_t head_bytes;
    uint64_t total; /* bytes given so far */
    uint64_t start; /* file offset of the first of its lines */
    int64_t time_ns;
    uint32_t pieces; /* 0: nothing is held */
};

/* Returns new, or NULL: no memory. */
struct tf_held *tf_held_new(size_t head_bytes, size_t limit_bytes);
void tf_held_free(struct tf_held *held); /* wiped: it may be a secret */
void tf_held_clear(struct tf_held *held);

/* Appends. What a span leaves out must lie behind head_bytes. Returns 0 or -ENOMEM. */
int tf_held_put(struct tf_held *held, const struct tf_span *span);

/* What is held; borrows until the next call. */
struct tf_span tf_held_span(const struct tf_held *held);

#endif
