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

#define DEPTH_MAX 4u

enum shape { OTHER, STR, BIN, ARRAY, MAP, NEVER };

struct token {
    enum shape shape;
    struct tf_slice bytes; /* of a STR or BIN */
    uint32_t children;     /* of ARRAY, MAP (two for a pair) */
};

struct reader {
    const uint8_t *at, *end;
};

/* What a lead byte says. */
struct lead {
    enum shape shape;
    uint8_t wide;  /* bytes of the length or count behind it */
    uint8_t fixed; /* bytes of content, or items, besides that */
};

/* Leads 0xc0 to 0xdf, of which 0xc1 does not exist. Ext has its type among the content. */
static const struct lead LEADS[32] = {
    {OTHER, 0, 0},  {NEVER, 0, 0}, {OTHER, 0, 0}, {OTHER, 0, 0}, {BIN, 1, 0},   {BIN, 2, 0},
    {BIN, 4, 0},    {OTHER, 1, 1}, {OTHER, 2, 1}, {OTHER, 4, 1}, {OTHER, 0, 4}, {OTHER, 0, 8},
    {OTHER, 0, 1},  {OTHER, 0, 2}, {OTHER, 0, 4}, {OTHER, 0, 8}, {OTHER, 0, 1}, {OTHER, 0, 2},
    {OTHER, 0, 4},  {OTHER, 0, 8}, {OTHER, 0, 2}, {OTHER, 0, 3}, {OTHER, 0, 5}, {OTHER, 0, 9},
    {OTHER, 0, 17}, {STR, 1, 0},   {STR, 2, 0},   {STR, 4, 0},   {ARRAY, 2, 0}, {ARRAY, 4, 0},
    {MAP, 2, 0},    {MAP, 4, 0},
};

static struct lead lead_of(uint8_t byte)
{
    if (byte < 0x80 || byte >= 0xe0) {
        return (struct lead){OTHER, 0, 0};
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
    return LEADS[byte - 0xc0];
}

/* The lead of a value and its number: the size of its content, or its items. */
static int read_head(struct reader *in, enum shape *shape, uint32_t *number)
{
    size_t left = (size_t)(in->end - in->at);
    struct lead lead;
    uint64_t value = 0;

    if (left == 0) {
        return -EAGAIN;
    }
    lead = lead_of(*in->at);
    if (lead.shape == NEVER) {
        return -EPROTO;
    }
    if (left < 1u + lead.wide) {
        return -EAGAIN;
    }
    for (unsigned i = 1; i <= lead.wide; i++) {
        value = value << 8 | in->at[i];
    }
    value += lead.fixed;
    if (value > TF_ANSWER_BYTES_MAX) {
        return -EMSGSIZE; /* each byte and each item takes one */
    }
    in->at += 1u + lead.wide;
    *shape = lead.shape;
    *number = (uint32_t)value;
    return 0;
}

/* One value without its children. 0, -EAGAIN when the bytes end before, -EPROTO, -EMSGSIZE. */
static int next(struct reader *in, struct token *out)
{
    enum shape shape;
    uint32_t number;
    int rc = read_head(in, &shape, &number);

    if (rc < 0) {
        return rc;
    }
    *out = (struct token){.shape = shape};
    if (shape == ARRAY || shape == MAP) {
        out->children = number * (shape == MAP ? 2 : 1);
        return 0;
    }
    if ((size_t)(in->end - in->at) < number) {
        return -EAGAIN;
    }
    out->bytes = tf_slice(in->at, number);
    in->at += number;
    return 0;
}

/* Passes over one whole value at this depth, which is the container's own. Recursion ends at
 * DEPTH_MAX. */
static int pass(struct reader *in, unsigned depth)
{
    struct token token;
    int rc = next(in, &token);

    if (rc == 0 && (token.shape == ARRAY || token.shape == MAP) && depth > DEPTH_MAX) {
        return -EPROTO;
    }
    for (uint32_t i = 0; rc == 0 && i < token.children; i++) {
        rc = pass(in, depth + 1);
    }
    return rc;
}

static bool is_text(const struct token *token, const char *text)
{
    return token->shape == STR && tf_slice_equal(token->bytes, tf_slice_text(text));
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
    if (token.shape != BIN) {
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
    if (token.shape != STR) {
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
    if (rc == 0 && token.shape == ARRAY && token.children > 0) {
        out->kind = TF_ANSWER_HELLO;
        rc = next(in, &token);
        return rc == 0 && !is_text(&token, "HELO") ? -EPROTO : rc;
    }
    if (rc < 0 || token.shape != MAP) {
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
