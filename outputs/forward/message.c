/*
 * message.c - a frame as one message of the forward protocol, CompressedPackedForward.
 *
 *     [tag, bin payload, {size, chunk, compressed: "gzip",
 *                         taffrail: {v: 1, spool, seq, prev, chain, gap?: [from, to],
 *                                    replayed?: job}}]
 *
 * The payload goes as it stands in the spool, so a message that is sent again is the same bytes.
 * `chunk` is str: some receivers close on bin. A derived gap says so by `gap`; it has the number of
 * the last frame that it stands for, and is compared by its name only (docs/protocol.md, section
 * 2).
 */
#include "internal.h"

#include <errno.h>

#include "taffrail/event.h"

static void put_key(struct tf_buf *out, const char *key)
{
    tf_msgpack_text(out, tf_slice_text(key));
}

static void put_uint(struct tf_buf *out, const char *key, uint64_t value)
{
    put_key(out, key);
    tf_msgpack_uint(out, value);
}

/* The lead and length of a bin, whose bytes follow from elsewhere. */
static void put_bin_head(struct tf_buf *out, size_t size)
{
    static const uint8_t leads[] = {0xc4, 0xc5, 0xc6}; /* length in 1, 2, 4 bytes */
    unsigned width = size <= UINT8_MAX ? 0 : size <= UINT16_MAX ? 1 : 2;

    (void)tf_buf_append_byte(out, leads[width]);
    for (unsigned left = 1u << width; left > 0; left--) {
        (void)tf_buf_append_byte(out, (uint8_t)(size >> (8 * (left - 1))));
    }
}

static void put_taffrail(struct tf_buf *out, const struct tf_frame *frame)
{
    put_key(out, "taffrail");
    tf_msgpack_map(out, 5 + frame->is_gap_span + (frame->replayed != NULL));
    put_uint(out, "v", 1);
    put_key(out, "spool");
    tf_msgpack_bytes(out, tf_slice(frame->spool_id, TF_SPOOL_ID_BYTES));
    put_uint(out, "seq", frame->seq);
    put_uint(out, "prev", frame->prev);
    put_key(out, "chain");
    tf_msgpack_bytes(out, tf_slice(frame->chain, TF_CHAIN_BYTES));
    if (frame->is_gap_span) {
        put_key(out, "gap");
        tf_msgpack_array(out, 2);
        tf_msgpack_uint(out, frame->gap_from);
        tf_msgpack_uint(out, frame->gap_to);
    }
    if (frame->replayed != NULL) {
        put_key(out, "replayed");
        tf_msgpack_text(out, tf_slice_text(frame->replayed));
    }
}

int tf_forward_message(const struct tf_frame *frame, struct tf_buf *around,
                       struct tf_slice parts[3], char chunk[TF_CHUNK_BYTES])
{
    size_t head_bytes;

    tf_buf_clear(around);
    (void)tf_base64_append(around, frame->chain, TF_FRAME_NAME_BYTES);
    if (around->error != 0) {
        return -ENOMEM;
    }
    memcpy(chunk, around->data, TF_CHUNK_BYTES);
    tf_buf_clear(around);
    tf_msgpack_array(around, 3);
    tf_msgpack_text(around, tf_slice_text(frame->tag));
    put_bin_head(around, frame->payload.size);
    head_bytes = around->size;
    tf_msgpack_map(around, 4);
    put_uint(around, "size", frame->events);
    put_key(around, "chunk");
    tf_msgpack_text(around, tf_slice(chunk, TF_CHUNK_BYTES));
    put_key(around, "compressed");
    put_key(around, "gzip");
    put_taffrail(around, frame);
    if (around->error != 0) {
        return -ENOMEM;
    }
    parts[0] = tf_slice(around->data, head_bytes);
    parts[1] = frame->payload;
    parts[2] = tf_slice(around->data + head_bytes, around->size - head_bytes);
    return 0;
}
