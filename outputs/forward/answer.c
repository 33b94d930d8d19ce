/*
 * answer.c - what a receiver may say back, read from the bytes of a stranger.
 *
 *     {"ack": chunk, ...}   the message is taken over; `receipt` and `key` are handed on unjudged
 *                           (receipt.c), unknown keys are passed over
 *     {...} without `ack`   refused: send it again later
 *     ["HELO", ...]         the receiver wants the handshake with a shared key first
 *
 * Everything else is an error, and so is an answer of more than TF_ANSWER_BYTES_MAX bytes, or
 * nested deeper than DEPTH_MAX, the outer map counted. Lengths and counts are compared with that
 * limit before they are used. Nothing is allocated; an unfinished answer is read again from its
 * beginning when more of it has come.
 */
#include "internal.h"

#include <errno.h>

#include "taffrail/msgpack.h"

#define DEPTH_MAX 4u

struct token {
    enum tf_msgpack_kind kind;
    struct tf_slice bytes; /* of a STR or BIN */
    uint32_t children;     /* of ARRAY, MAP (two for a pair) */
};

struct reader {
    const uint8_t *at, *end;
};

static bool is_number(enum tf_msgpack_kind kind)
{
    return kind == TF_MSGPACK_UINT || kind == TF_MSGPACK_INT || kind == TF_MSGPACK_DOUBLE;
}

/* The lead of a value and its size: bytes of its content, or items. */
static int read_head(struct reader *in, enum tf_msgpack_kind *kind, uint32_t *size)
{
    size_t left = (size_t)(in->end - in->at);
    struct tf_msgpack_lead lead;
    uint64_t value = 0;

    if (left == 0) {
        return -EAGAIN;
    }
    lead = tf_msgpack_lead(*in->at);
    if (lead.kind == TF_MSGPACK_NEVER) {
        return -EPROTO;
    }
    if (left < 1u + lead.wide) {
        return -EAGAIN;
    }
    for (unsigned i = 1; i <= lead.wide; i++) {
        value = value << 8 | in->at[i];
    }
    value = lead.wide > 0 ? value : lead.fixed;
    if (is_number(lead.kind) || lead.kind == TF_MSGPACK_FLAG) {
        value = 0; /* it has no content behind that */
    }
    value += lead.kind == TF_MSGPACK_EXT; /* its type */
    if (value > TF_ANSWER_BYTES_MAX) {
        return -EMSGSIZE; /* each byte and each item takes one */
    }
    in->at += 1u + lead.wide;
    *kind = lead.kind;
    *size = (uint32_t)value;
    return 0;
}

/* One value without its children. 0, -EAGAIN when the bytes end before, -EPROTO, -EMSGSIZE. */
static int next(struct reader *in, struct token *out)
{
    enum tf_msgpack_kind kind;
    uint32_t size;
    int rc = read_head(in, &kind, &size);

    if (rc < 0) {
        return rc;
    }
    *out = (struct token){.kind = kind};
    if (kind == TF_MSGPACK_ARRAY || kind == TF_MSGPACK_MAP) {
        out->children = size * (kind == TF_MSGPACK_MAP ? 2 : 1);
        return 0;
    }
    if ((size_t)(in->end - in->at) < size) {
        return -EAGAIN;
    }
    out->bytes = tf_slice(in->at, size);
    in->at += size;
    return 0;
}

/* Passes over one whole value at this depth, which is the container's own. Recursion ends at
 * DEPTH_MAX. */
static int pass(struct reader *in, unsigned depth)
{
    struct token token;
    int rc = next(in, &token);

    if (rc == 0 && (token.kind == TF_MSGPACK_ARRAY || token.kind == TF_MSGPACK_MAP) &&
        depth > DEPTH_MAX) {
        return -EPROTO;
    }
    for (uint32_t i = 0; rc == 0 && i < token.children; i++) {
        rc = pass(in, depth + 1);
    }
    return rc;
}

static bool is_text(const struct token *token, const char *text)
{
    return token->kind == TF_MSGPACK_STR && tf_slice_equal(token->bytes, tf_slice_text(text));
}

/* The value of `receipt` or `key`: one that is no bin is handed on as empty, and is then a bad one.
 */
static int read_evidence(struct reader *in, struct tf_slice *out)
{
    struct reader start = *in;
    struct token token;
    int rc = next(in, &token);

    if (rc < 0) {
        return rc;
    }
    if (token.kind != TF_MSGPACK_BIN) {
        *in = start;
        *out = tf_slice("", 0);
        return pass(in, 2);
    }
    *out = token.bytes;
    return 0;
}

/* The first of each key counts; the value of `ack` is a str. */
static int read_pair(struct reader *in, struct tf_answer *out)
{
    struct reader start = *in;
    struct token token;
    int rc = next(in, &token);

    if (rc < 0) {
        return rc;
    }
    if (is_text(&token, "receipt") && out->receipt.data == NULL) {
        return read_evidence(in, &out->receipt);
    }
    if (is_text(&token, "key") && out->key.data == NULL) {
        return read_evidence(in, &out->key);
    }
    if (!is_text(&token, "ack") || out->kind == TF_ANSWER_ACK) {
        *in = start;
        rc = pass(in, 2);
        return rc == 0 ? pass(in, 2) : rc;
    }
    rc = next(in, &token);
    if (rc < 0) {
        return rc;
    }
    if (token.kind != TF_MSGPACK_STR) {
        return -EPROTO;
    }
    out->kind = TF_ANSWER_ACK;
    out->chunk = token.bytes;
    return 0;
}

static int read_answer(struct reader *in, struct tf_answer *out)
{
    struct token token;
    int rc = next(in, &token);
    uint32_t pairs;

    *out = (struct tf_answer){.kind = TF_ANSWER_REFUSAL};
    if (rc == 0 && token.kind == TF_MSGPACK_ARRAY && token.children > 0) {
        out->kind = TF_ANSWER_HELLO;
        rc = next(in, &token);
        return rc == 0 && !is_text(&token, "HELO") ? -EPROTO : rc;
    }
    if (rc < 0 || token.kind != TF_MSGPACK_MAP) {
        return rc < 0 ? rc : -EPROTO;
    }
    pairs = token.children / 2;
    for (uint32_t i = 0; i < pairs && rc == 0; i++) {
        rc = read_pair(in, out);
    }
    return rc;
}

int64_t tf_answer_parse(struct tf_slice bytes, struct tf_answer *out)
{
    struct reader in = {.at = (const uint8_t *)bytes.data};
    int rc;

    if (bytes.size == 0) {
        return 0;
    }
    in.end = in.at + (bytes.size < TF_ANSWER_BYTES_MAX ? bytes.size : TF_ANSWER_BYTES_MAX);
    rc = read_answer(&in, out);
    if (rc == -EAGAIN) {
        return bytes.size < TF_ANSWER_BYTES_MAX ? 0 : -EMSGSIZE;
    }
    return rc < 0 ? rc : (const char *)in.at - bytes.data;
}
