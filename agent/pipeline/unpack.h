/*
 * unpack.h - the msgpack of an event, read value by value: what ndjson.c and lookup.c share.
 *
 * The bytes may be hostile: a value's length or count is compared with what is left before it is
 * used. A value comes without its children; whoever descends bounds the depth.
 */
#ifndef TAFFRAIL_PIPELINE_UNPACK_H
#define TAFFRAIL_PIPELINE_UNPACK_H

#include <errno.h>

#include "taffrail/event.h"
#include "taffrail/msgpack.h"

#define EVENT_TIME_BYTES 8u

/* One value without its children. */
struct token {
    enum tf_msgpack_kind kind;
    uint64_t number; /* UINT; the bits of INT; FLAG; items of ARRAY, pairs of MAP */
    double real;
    int64_t time_ns;
    struct tf_slice bytes; /* STR, BIN; of EXT only EventTime is known, which is in time_ns */
};

struct reader {
    const uint8_t *at, *end;
};

static inline size_t bytes_left(const struct reader *in)
{
    return (size_t)(in->end - in->at);
}

/* Takes a big-endian integer; the caller has checked that its bytes are there. */
static inline uint64_t take_number(struct reader *in, unsigned bytes)
{
    uint64_t value = 0;

    for (unsigned i = 0; i < bytes; i++) {
        value = value << 8 | *in->at++;
    }
    return value;
}

static inline void set_number(struct token *token, unsigned wide)
{
    uint32_t narrow = (uint32_t)token->number;
    unsigned shift = 64 - 8 * (wide > 0 ? wide : 1);
    float single;

    if (token->kind == TF_MSGPACK_INT) {
        token->number = (uint64_t)((int64_t)(token->number << shift) >> shift);
    } else if (token->kind == TF_MSGPACK_DOUBLE && wide == sizeof single) {
        memcpy(&single, &narrow, sizeof single);
        token->real = (double)single;
    } else if (token->kind == TF_MSGPACK_DOUBLE) {
        memcpy(&token->real, &token->number, sizeof token->real);
    }
}

/* The type and the 8 bytes of an EventTime. */
static inline int take_time(struct reader *in, struct token *token)
{
    uint64_t seconds, nanoseconds;

    if (token->number != EVENT_TIME_BYTES || bytes_left(in) < 1 + EVENT_TIME_BYTES ||
        *in->at++ != 0) {
        return -EPROTO;
    }
    seconds = take_number(in, 4);
    nanoseconds = take_number(in, 4);
    if (nanoseconds >= (uint64_t)TF_S_IN_NS) {
        return -EPROTO;
    }
    token->time_ns = (int64_t)seconds * TF_S_IN_NS + (int64_t)nanoseconds;
    return 0;
}

/* Reads one value without its children, of which there are no more than bytes. 0 or -EPROTO. */
static inline int next(struct reader *in, struct token *out)
{
    struct tf_msgpack_lead lead;
    uint64_t children;

    if (bytes_left(in) == 0) {
        return -EPROTO;
    }
    lead = tf_msgpack_lead(*in->at++);
    if (lead.kind == TF_MSGPACK_NEVER || bytes_left(in) < lead.wide) {
        return -EPROTO;
    }
    *out = (struct token){.kind = lead.kind};
    out->number = lead.wide > 0 ? take_number(in, lead.wide) : lead.fixed;
    set_number(out, lead.wide);
    if (out->kind == TF_MSGPACK_EXT) {
        return take_time(in, out);
    }
    if (out->kind == TF_MSGPACK_STR || out->kind == TF_MSGPACK_BIN) {
        if (out->number > bytes_left(in)) {
            return -EPROTO;
        }
        out->bytes = tf_slice(in->at, (size_t)out->number);
        in->at += out->number;
        return 0;
    }
    children = out->kind == TF_MSGPACK_MAP     ? out->number * 2
               : out->kind == TF_MSGPACK_ARRAY ? out->number
                                               : 0;
    return children <= bytes_left(in) ? 0 : -EPROTO;
}

static inline int next_of(struct reader *in, enum tf_msgpack_kind kind, struct token *out)
{
    int rc = next(in, out);

    return rc == 0 && out->kind != kind ? -EPROTO : rc;
}

/* The array, the time and the head of the map. */
static inline int read_event_head(struct reader *in, struct token *time, struct token *map)
{
    struct token array;
    int rc = next_of(in, TF_MSGPACK_ARRAY, &array);

    if (rc == 0 && array.number != 2) {
        rc = -EPROTO;
    }
    if (rc == 0) {
        rc = next_of(in, TF_MSGPACK_EXT, time);
    }
    return rc == 0 ? next_of(in, TF_MSGPACK_MAP, map) : rc;
}

static inline struct reader reader_of(struct tf_slice bytes)
{
    const uint8_t *data = (const uint8_t *)bytes.data;

    return (struct reader){.at = data, .end = data == NULL ? data : data + bytes.size};
}

/* Passes over what a value holds, its token taken already. Each step takes a byte at least. */
static inline int skip_children(struct reader *in, const struct token *token)
{
    uint64_t left = token->kind == TF_MSGPACK_MAP ? token->number * 2 : token->number;
    struct token child;

    if (token->kind != TF_MSGPACK_MAP && token->kind != TF_MSGPACK_ARRAY) {
        return 0;
    }
    for (; left > 0; left--) {
        int rc = next(in, &child);

        if (rc < 0) {
            return rc;
        }
        left += child.kind == TF_MSGPACK_MAP     ? child.number * 2
                : child.kind == TF_MSGPACK_ARRAY ? child.number
                                                 : 0;
    }
    return 0;
}

#endif
