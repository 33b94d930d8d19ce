/*
 * forward_message.c - a message of the Fluent Forward Protocol v1, without its events: where it
 * ends while it arrives, and what stands around them.
 *
 *     Message        [tag, time, record, option?]
 *     Forward        [tag, [[time, record], ...], option?]
 *     PackedForward  [tag, bin or str of [time, record] one behind the other, option?]
 *     compressed     the same, option.compressed is "gzip", one or several gzip members
 *
 * The option map of a taffrail sender holds, beside `chunk`, `size` and `compressed`:
 *
 *     taffrail: {v: 1, spool: bin 16, seq, prev: uint, chain: bin 32, gap?: [from, to],
 *                replayed?: str}
 *
 * When it is absent, of another version or unsound, the sender is foreign.
 * Not here: the events (forward.c); names, acks, who may send which tag (agent/inputs/forward).
 */
#include "forward.h"

#define TAG_MAX   255u
#define CHUNK_MAX 128u
#define JOB_MAX   255u

/* ---- the end of a message -----------------------------------------------------------------------
 */

/* Counts a finished value in the containers around it; true when the outermost one is complete. */
static bool finish_value(struct tf_msgpack_scan *scan)
{
    while (scan->depth > 0) {
        if (--scan->left[scan->depth - 1] > 0) {
            return false;
        }
        scan->depth--;
    }
    return true;
}

int64_t tf_msgpack_size(struct tf_slice bytes, struct tf_msgpack_scan *scan)
{
    while (scan->at < bytes.size) {
        struct reader in = reader_of(tf_slice(bytes.data + scan->at, bytes.size - scan->at));
        const uint8_t *start = in.at;
        struct token token;
        int rc = read_head(&in, &token);
        uint64_t size, children;

        if (rc == -EAGAIN) {
            break;
        }
        if (rc < 0) {
            return rc;
        }
        children = children_of(&token);
        size = (uint64_t)(in.at - start) + (has_content(&token) ? token.number : 0);
        if (scan->at + size + children > TF_MESSAGE_BYTES_MAX) {
            return -EMSGSIZE;
        }
        if (size > bytes.size - scan->at) {
            break;
        }
        scan->at += (size_t)size;
        if (children > 0) {
            if (scan->depth == TF_COUNT(scan->left)) {
                return -EPROTO;
            }
            scan->left[scan->depth++] = (uint32_t)children;
        } else if (finish_value(scan)) {
            return (int64_t)scan->at;
        }
    }
    return bytes.size >= TF_MESSAGE_BYTES_MAX ? -EMSGSIZE : 0;
}

/* ---- the head -----------------------------------------------------------------------------------
 */

static bool is_tag(struct tf_slice tag)
{
    if (tag.size == 0 || tag.size > TAG_MAX || !tf_utf8_valid(tag.data, tag.size)) {
        return false;
    }
    for (size_t i = 0; i < tag.size; i++) {
        if ((uint8_t)tag.data[i] < 0x20 || tag.data[i] == 0x7f) {
            return false;
        }
    }
    return true;
}

static struct tf_slice between(const struct reader *start, const struct reader *end)
{
    return tf_slice((const char *)start->at, (size_t)(end->at - start->at));
}

/* Finds the events behind the tag; *used is how many items of the message they take. */
static int find_events(struct reader *in, struct tf_message_layout *out, uint64_t *used)
{
    struct reader start = *in;
    struct token token;
    int rc = next(in, &token);

    if (rc < 0) {
        return rc;
    }
    *used = 1;
    if (token.kind == TF_MSGPACK_ARRAY) {
        out->mode = ENTRIES;
        out->count = token.number;
        out->events = *in;
        rc = skip(in, token.number);
        out->raw = between(&start, in);
        return rc;
    }
    if (token.kind == TF_MSGPACK_STR || token.kind == TF_MSGPACK_BIN) {
        out->mode = PACKED;
        out->events = reader_of(token.bytes);
        out->raw = token.bytes;
        return 0;
    }
    out->mode = ONE;
    out->events = start;
    *used = 2;
    rc = skip(in, 1);
    out->raw = between(&start, in);
    return rc;
}

int tf_message_find(struct tf_slice message, struct tf_message_layout *out)
{
    struct reader in = reader_of(message);
    struct token token, items;
    uint64_t used = 0;
    int rc = next_of(&in, TF_MSGPACK_ARRAY, &items);

    *out = (struct tf_message_layout){0};
    if (rc == 0) {
        rc = next_of(&in, TF_MSGPACK_STR, &token);
    }
    if (rc < 0 || !is_tag(token.bytes)) {
        return -EPROTO;
    }
    out->tag = token.bytes;
    rc = find_events(&in, out, &used);
    if (rc < 0 || items.number < 1 + used || items.number > 2 + used) {
        return -EPROTO;
    }
    if (items.number == 2 + used) {
        rc = next(&in, &token);
        if (rc < 0 || (token.kind != TF_MSGPACK_MAP && token.kind != TF_MSGPACK_NIL)) {
            return -EPROTO;
        }
        out->has_option = token.kind == TF_MSGPACK_MAP;
        out->option_pairs = token.kind == TF_MSGPACK_MAP ? token.number : 0;
        out->option = in;
        rc = skip(&in, children_of(&token));
    }
    return rc == 0 && bytes_left(&in) == 0 ? 0 : -EPROTO;
}

int tf_message_option(const struct tf_message_layout *layout, const char *name, struct reader *at)
{
    struct reader in = layout->option;
    struct token key;

    for (uint64_t i = 0; i < layout->option_pairs; i++) {
        if (next(&in, &key) < 0 || skip(&in, children_of(&key)) < 0) {
            return -EPROTO;
        }
        if (is_str(&key, name)) {
            *at = in;
            return 0;
        }
        if (skip(&in, 1) < 0) {
            return -EPROTO;
        }
    }
    return -ENOENT;
}

enum seen {
    SEEN_V = 1,
    SEEN_SPOOL = 2,
    SEEN_SEQ = 4,
    SEEN_PREV = 8,
    SEEN_CHAIN = 16,
    SEEN_ALL = 31
};

static bool read_fixed(struct reader *in, uint8_t *to, size_t size)
{
    struct token token;

    if (next_of(in, TF_MSGPACK_BIN, &token) < 0 || token.bytes.size != size) {
        return false;
    }
    memcpy(to, token.bytes.data, size);
    return true;
}

static bool read_number(struct reader *in, uint64_t *to)
{
    struct token token;

    if (next_of(in, TF_MSGPACK_UINT, &token) < 0) {
        return false;
    }
    *to = token.number;
    return true;
}

static bool read_gap(struct reader *in, struct tf_message_head *head)
{
    struct token token;

    return next_of(in, TF_MSGPACK_ARRAY, &token) == 0 && token.number == 2 &&
           read_number(in, &head->gap_from) && read_number(in, &head->gap_to) &&
           head->gap_from > 0 && head->gap_from <= head->gap_to;
}

static bool read_job(struct reader *in, struct tf_message_head *head)
{
    struct token token;

    if (next_of(in, TF_MSGPACK_STR, &token) < 0 || token.bytes.size == 0 ||
        token.bytes.size > JOB_MAX) {
        return false;
    }
    head->replayed = token.bytes;
    return tf_utf8_valid(token.bytes.data, token.bytes.size);
}

static bool read_taffrail_pair(struct reader *in, struct tf_message_head *head, unsigned *seen)
{
    struct token key;
    uint64_t version = 0;

    if (next_of(in, TF_MSGPACK_STR, &key) < 0) {
        return false;
    }
    if (is_str(&key, "v")) {
        *seen |= SEEN_V;
        return read_number(in, &version) && version == 1;
    }
    if (is_str(&key, "spool")) {
        *seen |= SEEN_SPOOL;
        return read_fixed(in, head->spool_id, sizeof head->spool_id);
    }
    if (is_str(&key, "seq")) {
        *seen |= SEEN_SEQ;
        return read_number(in, &head->seq);
    }
    if (is_str(&key, "prev")) {
        *seen |= SEEN_PREV;
        return read_number(in, &head->prev);
    }
    if (is_str(&key, "chain")) {
        *seen |= SEEN_CHAIN;
        return read_fixed(in, head->chain, sizeof head->chain);
    }
    if (is_str(&key, "gap")) {
        return read_gap(in, head);
    }
    if (is_str(&key, "replayed")) {
        return read_job(in, head);
    }
    return skip(in, 1) == 0;
}

static bool read_taffrail(struct reader in, struct tf_message_head *head)
{
    struct token map;
    unsigned seen = 0;

    if (next_of(&in, TF_MSGPACK_MAP, &map) < 0) {
        return false;
    }
    for (uint64_t i = 0; i < map.number; i++) {
        if (!read_taffrail_pair(&in, head, &seen)) {
            return false;
        }
    }
    return seen == SEEN_ALL && head->prev <= head->seq;
}

static int read_chunk(const struct tf_message_layout *layout, struct tf_slice *chunk)
{
    struct reader at;
    struct token token;
    int rc = tf_message_option(layout, "chunk", &at);

    if (rc == -ENOENT) {
        return 0;
    }
    if (rc < 0 || next_of(&at, TF_MSGPACK_STR, &token) < 0 || token.bytes.size > CHUNK_MAX) {
        return -EPROTO;
    }
    *chunk = token.bytes;
    return 0;
}

int tf_message_head(struct tf_slice message, struct tf_message_head *head)
{
    struct tf_message_layout layout;
    struct reader at;
    int rc = tf_message_find(message, &layout);

    *head = (struct tf_message_head){0};
    if (rc < 0) {
        return rc;
    }
    head->tag = layout.tag;
    head->events = layout.raw;
    rc = tf_message_option(&layout, "taffrail", &at);
    if (rc == 0) {
        head->has_taffrail = read_taffrail(at, head);
        if (!head->has_taffrail) { /* nothing of an unsound one may count */
            *head = (struct tf_message_head){.tag = layout.tag, .events = layout.raw};
        }
    } else if (rc != -ENOENT) {
        return rc;
    }
    return read_chunk(&layout, &head->chunk);
}
