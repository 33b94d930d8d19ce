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

#define EVENT_TIME_BYTES 8u

enum kind { NIL, FLAG, UINT, INT, DOUBLE, STR, BIN, TIME, ARRAY, MAP };

/* One value without its children. */
struct token {
    enum kind kind;
    uint64_t number; /* UINT; the bits of INT; FLAG; items of ARRAY, pairs of MAP */
    double real;
    int64_t time_ns;
    struct tf_slice bytes; /* STR, BIN */
};

struct reader {
    const uint8_t *at, *end;
};

/* What a lead byte says: the kind, the bytes of the number or length behind it, or that itself. */
struct lead {
    enum kind kind;
    uint8_t wide;
    uint8_t fixed;
};

#define NO_SUCH_LEAD UINT8_MAX

/* Leads 0xc0 to 0xdf. Of ext only EventTime is known: fixext 8, or ext 8 with that length. */
static const struct lead LEADS[32] = {
    {NIL, 0, 0},
    {NIL, NO_SUCH_LEAD, 0},
    {FLAG, 0, 0},
    {FLAG, 0, 1},
    {BIN, 1, 0},
    {BIN, 2, 0},
    {BIN, 4, 0},
    {TIME, 1, 0},
    {NIL, NO_SUCH_LEAD, 0},
    {NIL, NO_SUCH_LEAD, 0},
    {DOUBLE, 4, 0},
    {DOUBLE, 8, 0},
    {UINT, 1, 0},
    {UINT, 2, 0},
    {UINT, 4, 0},
    {UINT, 8, 0},
    {INT, 1, 0},
    {INT, 2, 0},
    {INT, 4, 0},
    {INT, 8, 0},
    {NIL, NO_SUCH_LEAD, 0},
    {NIL, NO_SUCH_LEAD, 0},
    {NIL, NO_SUCH_LEAD, 0},
    {TIME, 0, EVENT_TIME_BYTES},
    {NIL, NO_SUCH_LEAD, 0},
    {STR, 1, 0},
    {STR, 2, 0},
    {STR, 4, 0},
    {ARRAY, 2, 0},
    {ARRAY, 4, 0},
    {MAP, 2, 0},
    {MAP, 4, 0},
};

static inline struct lead lead_of(uint8_t byte)
{
    if (byte < 0x80) {
        return (struct lead){UINT, 0, byte};
    }
    if (byte < 0x90) {
        return (struct lead){MAP, 0, byte & 0x0f};
    }
    if (byte < 0xa0) {
        return (struct lead){ARRAY, 0, byte & 0x0f};
    }
    if (byte < 0xc0) {
        return (struct lead){STR, 0, byte & 0x1f};
    }
    if (byte >= 0xe0) {
        return (struct lead){INT, 0, byte};
    }
    return LEADS[byte - 0xc0];
}

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

    if (token->kind == INT) {
        token->number = (uint64_t)((int64_t)(token->number << shift) >> shift);
    } else if (token->kind == DOUBLE && wide == sizeof single) {
        memcpy(&single, &narrow, sizeof single);
        token->real = (double)single;
    } else if (token->kind == DOUBLE) {
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
    struct lead lead;
    uint64_t children;

    if (bytes_left(in) == 0) {
        return -EPROTO;
    }
    lead = lead_of(*in->at++);
    if (lead.wide == NO_SUCH_LEAD || bytes_left(in) < lead.wide) {
        return -EPROTO;
    }
    *out = (struct token){.kind = lead.kind};
    out->number = lead.wide > 0 ? take_number(in, lead.wide) : lead.fixed;
    set_number(out, lead.wide);
    if (out->kind == TIME) {
        return take_time(in, out);
    }
    if (out->kind == STR || out->kind == BIN) {
        if (out->number > bytes_left(in)) {
            return -EPROTO;
        }
        out->bytes = tf_slice(in->at, (size_t)out->number);
        in->at += out->number;
        return 0;
    }
    children = out->kind == MAP ? out->number * 2 : out->kind == ARRAY ? out->number : 0;
    return children <= bytes_left(in) ? 0 : -EPROTO;
}

static inline int next_of(struct reader *in, enum kind kind, struct token *out)
{
    int rc = next(in, out);

    return rc == 0 && out->kind != kind ? -EPROTO : rc;
}

/* The array, the time and the head of the map. */
static inline int read_event_head(struct reader *in, struct token *time, struct token *map)
{
    struct token array;
    int rc = next_of(in, ARRAY, &array);

    if (rc == 0 && array.number != 2) {
        rc = -EPROTO;
    }
    if (rc == 0) {
        rc = next_of(in, TIME, time);
    }
    return rc == 0 ? next_of(in, MAP, map) : rc;
}

static inline struct reader reader_of(struct tf_slice bytes)
{
    const uint8_t *data = (const uint8_t *)bytes.data;

    return (struct reader){.at = data, .end = data == NULL ? data : data + bytes.size};
}

/* Passes over what a value holds, its token taken already. Each step takes a byte at least. */
static inline int skip_children(struct reader *in, const struct token *token)
{
    uint64_t left = token->kind == MAP ? token->number * 2 : token->number;
    struct token child;

    if (token->kind != MAP && token->kind != ARRAY) {
        return 0;
    }
    for (; left > 0; left--) {
        int rc = next(in, &child);

        if (rc < 0) {
            return rc;
        }
        left += child.kind == MAP ? child.number * 2 : child.kind == ARRAY ? child.number : 0;
    }
    return 0;
}

#endif
