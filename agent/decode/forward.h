/*
 * forward.h - what the two files of forward messages share: values of msgpack, and where the parts
 * of a message are. Private to agent/decode.
 *
 *     forward_message.c  the end of a message, its parts, its option map
 *     forward.c          its events
 *
 * The bytes are a stranger's: every length and count is compared with the bytes left before it is
 * used. A value comes without its children; whoever descends bounds the depth.
 */
#ifndef TAFFRAIL_DECODE_FORWARD_H
#define TAFFRAIL_DECODE_FORWARD_H

#include <errno.h>

#include "taffrail/decode.h"
#include "taffrail/msgpack.h"

#define EVENT_TIME_BYTES 8u

struct token {
    enum tf_msgpack_kind kind;
    uint64_t number; /* UINT; the bits of INT; FLAG; items of ARRAY, pairs of MAP */
    double real;
    struct tf_slice bytes; /* STR, BIN, EXT */
};

struct reader {
    const uint8_t *at, *end;
};

static inline struct reader reader_of(struct tf_slice bytes)
{
    const uint8_t *data = (const uint8_t *)bytes.data;

    return (struct reader){.at = data, .end = data == NULL ? data : data + bytes.size};
}

static inline size_t bytes_left(const struct reader *in)
{
    return (size_t)(in->end - in->at);
}

static inline uint64_t big_endian(const uint8_t *at, unsigned bytes)
{
    uint64_t value = 0;

    for (unsigned i = 0; i < bytes; i++) {
        value = value << 8 | at[i];
    }
    return value;
}

static inline double real_of(uint64_t bits, unsigned bytes)
{
    uint32_t narrow = (uint32_t)bits;
    double real;
    float single;

    if (bytes == sizeof single) {
        memcpy(&single, &narrow, sizeof single);
        return (double)single;
    }
    memcpy(&real, &bits, sizeof real);
    return real;
}

static inline int64_t sign_extend(uint64_t bits, unsigned bytes)
{
    unsigned shift = 64 - 8 * bytes;

    return (int64_t)(bits << shift) >> shift;
}

/*
 * Reads a value's head: everything but the content of STR, BIN and EXT, whose size is then in
 * number. Ext must be EventTime. Returns 0, -EAGAIN when bytes end before, -EPROTO. *in moves on
 * success only.
 */
static inline int read_head(struct reader *in, struct token *out)
{
    struct tf_msgpack_lead lead;
    size_t need;

    if (bytes_left(in) == 0) {
        return -EAGAIN;
    }
    lead = tf_msgpack_lead(*in->at);
    if (lead.kind == TF_MSGPACK_NEVER) {
        return -EPROTO;
    }
    need = 1u + lead.wide + (lead.kind == TF_MSGPACK_EXT ? 1u : 0u);
    if (bytes_left(in) < need) {
        return -EAGAIN;
    }
    *out = (struct token){.kind = lead.kind};
    out->number = lead.wide > 0 ? big_endian(in->at + 1, lead.wide) : lead.fixed;
    if (lead.kind == TF_MSGPACK_INT) {
        out->number = (uint64_t)sign_extend(out->number, lead.wide > 0 ? lead.wide : 1);
    } else if (lead.kind == TF_MSGPACK_DOUBLE) {
        out->real = real_of(out->number, lead.wide);
    } else if (lead.kind == TF_MSGPACK_EXT &&
               (in->at[need - 1] != 0 || out->number != EVENT_TIME_BYTES)) {
        return -EPROTO;
    }
    in->at += need;
    return 0;
}

static inline bool has_content(const struct token *token)
{
    return token->kind == TF_MSGPACK_STR || token->kind == TF_MSGPACK_BIN ||
           token->kind == TF_MSGPACK_EXT;
}

/* Values that follow as children. */
static inline uint64_t children_of(const struct token *token)
{
    if (token->kind == TF_MSGPACK_MAP) {
        return token->number * 2;
    }
    return token->kind == TF_MSGPACK_ARRAY ? token->number : 0;
}

/* One value without its children, of which there are as many as bytes at least. 0 or -EPROTO. */
static inline int next(struct reader *in, struct token *out)
{
    if (read_head(in, out) < 0) {
        return -EPROTO;
    }
    if (children_of(out) > bytes_left(in)) {
        return -EPROTO;
    }
    if (has_content(out)) {
        if (out->number > bytes_left(in)) {
            return -EPROTO;
        }
        out->bytes = tf_slice(in->at, (size_t)out->number);
        in->at += out->number;
    }
    return 0;
}

static inline int next_of(struct reader *in, enum tf_msgpack_kind kind, struct token *out)
{
    int rc = next(in, out);

    return rc == 0 && out->kind != kind ? -EPROTO : rc;
}

/* Passes over `values` whole values. Ends, because each step takes a byte at least. */
static inline int skip(struct reader *in, uint64_t values)
{
    struct token token;

    while (values > 0) {
        int rc = next(in, &token);

        if (rc < 0) {
            return rc;
        }
        values = values - 1 + children_of(&token);
    }
    return 0;
}

static inline bool is_str(const struct token *token, const char *text)
{
    return token->kind == TF_MSGPACK_STR && tf_slice_equal(token->bytes, tf_slice_text(text));
}

/* Where the events of a message are. */
struct tf_message_layout {
    struct tf_slice tag;
    struct reader events; /* at time, at the array of entries, or at the first packed event */
    struct tf_slice raw;  /* all of them as they came */
    enum { ONE, ENTRIES, PACKED } mode;
    uint64_t count; /* of entries */
    bool has_option;
    uint64_t option_pairs;
    struct reader option; /* at its first pair */
};

/* Finds the parts of a whole message; slices and readers borrow from it. 0 or -EPROTO. */
int tf_message_find(struct tf_slice message, struct tf_message_layout *out);
/* A value of the option map under a key; the first counts. 0, -ENOENT when absent, -EPROTO. */
int tf_message_option(const struct tf_message_layout *layout, const char *name, struct reader *at);

#endif
