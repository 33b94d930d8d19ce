/*
 * content.c - what a data key shows: tags, nonces, digests, payloads, deltas, indexes.
 *
 * Whoever lacks the key that opens a segment cannot have made its frames, and moving one to another
 * place breaks its tag: segment id, number and times are authenticated with it. What the key's
 * holder may have made wrongly is looked at too: the gzip must be one, end within its bound and
 * hold as many events as the header says, deltas and index must be of the format, index entries
 * must point at frames that are there.
 *
 * A segment whose key is not given is counted, its frames are checked by the chain alone. One
 * without any slot was shredded: notices.c asks whether somebody said so.
 */
#include "verify.h"

#include <errno.h>

#include "taffrail/archive.h"
#include "taffrail/event.h"

#define DEPTH_MAX 32u

/* ---- slots ---------------------------------------------------------------------------------- */

/* Counts slots; tells those that do not hold. */
static void look_at_slots(struct tf_verify *verify, const struct tf_walk *walk, unsigned *sound,
                          unsigned *empty)
{
    *sound = *empty = 0;
    for (uint32_t i = 0; i < TF_SEGMENT_SLOTS; i++) {
        uint64_t at = (uint64_t)(i + 1) * TF_SECTOR_BYTES;
        struct tf_verify_place place = {.segment_no = walk->sector.segment_no, .byte = at};
        struct tf_key_slot slot;

        if (tf_key_slot_decode(walk->head + at, &slot) < 0) {
            tf_verify_tell(verify, TF_VERDICT_DAMAGED, "slot", &place, "key slot %u does not hold",
                           i + 1);
        } else if (slot.kind == TF_SLOT_EMPTY) {
            (*empty)++;
        } else {
            (*sound)++;
        }
    }
}

/* Slots are rewritten in place while the agent lives: one that is half written is read again. */
static int settle_slots(struct tf_verify *verify)
{
    struct tf_walk *walk = &verify->walk;
    struct tf_key_slot slot;
    int rc = 0;

    for (uint32_t i = 1; rc == 0 && i <= TF_SEGMENT_SLOTS; i++) {
        uint8_t *at = walk->head + (size_t)i * TF_SECTOR_BYTES;

        for (unsigned tries = 0; rc == 0 && tries < 3 && tf_key_slot_decode(at, &slot) < 0;
             tries++) {
            rc = tf_read_at(walk->fd, at, TF_SECTOR_BYTES, (uint64_t)i * TF_SECTOR_BYTES);
        }
    }
    return rc;
}

static int open_keys(struct tf_verify *verify, const struct tf_walk *walk, unsigned sound)
{
    struct tf_verify_place at = {.segment_no = walk->sector.segment_no, .byte = TF_SECTOR_BYTES};
    struct tf_content *content = &verify->content;
    int rc;

    content->keys = tf_secure_new(sizeof *content->keys);
    if (content->keys == NULL) {
        return -ENOMEM;
    }
    rc = tf_dek_open(verify->options->ring, &walk->sector, walk->head + TF_SECTOR_BYTES,
                     content->keys);
    if (rc == 0) {
        verify->report->opened_segments++;
        return 0;
    }
    tf_content_close(verify);
    verify->report->unopened_segments++;
    if (rc == -EPROTO && sound > 0) {
        tf_verify_tell(verify, TF_VERDICT_FORGED, "data-key", &at,
                       "a slot names a key that was given, and it opens no key of this segment");
    }
    return rc == -EPROTO || rc == -ENOKEY ? 0 : rc;
}

int tf_content_open(struct tf_verify *verify, const struct tf_walk *walk)
{
    unsigned sound, empty;
    int rc = settle_slots(verify);

    if (rc < 0) {
        return rc;
    }
    look_at_slots(verify, walk, &sound, &empty);
    if (empty == TF_SEGMENT_SLOTS) {
        verify->notices.shredded_no = walk->sector.segment_no;
    }
    if (verify->options->ring == NULL) {
        verify->report->unopened_segments++;
        return 0;
    }
    return open_keys(verify, walk, sound);
}

void tf_content_close(struct tf_verify *verify)
{
    tf_secure_free(verify->content.keys, sizeof *verify->content.keys);
    verify->content.keys = NULL;
}

/* ---- payloads ------------------------------------------------------------------------------- */

/* A big-endian length; false when the bytes end before it does. */
static bool take_length(struct tf_slice *rest, unsigned size, uint64_t *out)
{
    *out = 0;
    if (rest->size < size) {
        return false;
    }
    for (unsigned i = 0; i < size; i++) {
        *out = *out << 8 | (uint8_t)rest->data[i];
    }
    *rest = tf_slice(rest->data + size, rest->size - size);
    return true;
}

/* What a lead byte of msgpack announces: bytes of the value itself, and how many values follow. */
struct lead {
    unsigned length_bytes;  /* of the length that stands first; 0: fixed */
    uint64_t fixed;         /* bytes, or values */
    unsigned values_factor; /* 0: it is bytes; 1: array, 2: map */
    unsigned extra;         /* bytes beyond the length: the type of ext */
    bool is_known;
};

static struct lead read_lead(uint8_t byte)
{
    static const struct lead table[32] = {
        [0x00] = {0, 0, 0, 0, true}, [0x02] = {0, 0, 0, 0, true}, [0x03] = {0, 0, 0, 0, true},
        [0x04] = {1, 0, 0, 0, true}, [0x05] = {2, 0, 0, 0, true}, [0x06] = {4, 0, 0, 0, true},
        [0x07] = {1, 0, 0, 1, true}, [0x08] = {2, 0, 0, 1, true}, [0x09] = {4, 0, 0, 1, true},
        [0x0a] = {0, 4, 0, 0, true}, [0x0b] = {0, 8, 0, 0, true}, [0x0c] = {0, 1, 0, 0, true},
        [0x0d] = {0, 2, 0, 0, true}, [0x0e] = {0, 4, 0, 0, true}, [0x0f] = {0, 8, 0, 0, true},
        [0x10] = {0, 1, 0, 0, true}, [0x11] = {0, 2, 0, 0, true}, [0x12] = {0, 4, 0, 0, true},
        [0x13] = {0, 8, 0, 0, true}, [0x14] = {0, 2, 0, 0, true}, [0x15] = {0, 3, 0, 0, true},
        [0x16] = {0, 5, 0, 0, true}, [0x17] = {0, 9, 0, 0, true}, [0x18] = {0, 17, 0, 0, true},
        [0x19] = {1, 0, 0, 0, true}, [0x1a] = {2, 0, 0, 0, true}, [0x1b] = {4, 0, 0, 0, true},
        [0x1c] = {2, 0, 1, 0, true}, [0x1d] = {4, 0, 1, 0, true}, [0x1e] = {2, 0, 2, 0, true},
        [0x1f] = {4, 0, 2, 0, true},
    };

    if (byte < 0x80 || byte >= 0xe0) {
        return (struct lead){.is_known = true};
    }
    if (byte < 0x90) {
        return (struct lead){.fixed = byte & 15, .values_factor = 2, .is_known = true};
    }
    if (byte < 0xa0) {
        return (struct lead){.fixed = byte & 15, .values_factor = 1, .is_known = true};
    }
    if (byte < 0xc0) {
        return (struct lead){.fixed = byte & 31, .is_known = true};
    }
    return table[byte - 0xc0];
}

/* Passes over one value with all that it holds; at most DEPTH_MAX deep, without recursion. */
static bool pass_value(struct tf_slice *rest)
{
    uint64_t left[DEPTH_MAX] = {1};
    unsigned depth = 0;

    for (;;) {
        struct lead lead;
        uint64_t length;

        while (left[depth] == 0) {
            if (depth == 0) {
                return true;
            }
            depth--;
        }
        left[depth]--;
        if (rest->size == 0) {
            return false;
        }
        lead = read_lead((uint8_t)rest->data[0]);
        *rest = tf_slice(rest->data + 1, rest->size - 1);
        length = lead.fixed;
        if (!lead.is_known ||
            (lead.length_bytes > 0 && !take_length(rest, lead.length_bytes, &length))) {
            return false;
        }
        if (lead.values_factor == 0) {
            length += lead.extra;
            if (length > rest->size) {
                return false;
            }
            *rest = tf_slice(rest->data + length, rest->size - length);
        } else if (length * lead.values_factor > rest->size || depth + 1 == DEPTH_MAX) {
            return false; /* each value has at least a byte */
        } else {
            left[++depth] = length * lead.values_factor;
        }
    }
}

/* The number of values in a payload, or -1. */
static int64_t count_events(struct tf_slice rest)
{
    int64_t count = 0;

    while (rest.size > 0) {
        if (!pass_value(&rest)) {
            return -1;
        }
        count++;
    }
    return count;
}

static int check_payload(struct tf_verify *verify, const struct tf_walked *frame,
                         struct tf_slice payload, const struct tf_verify_place *at)
{
    struct tf_buf *events = &verify->content.events;
    char told[TF_COUNTED_TEXT_BYTES];
    int64_t count;
    int rc;

    tf_buf_clear(events);
    rc = payload.size == 0 ? 0 : tf_archive_inflate(payload, events);
    if (rc == -ENOMEM) {
        return rc;
    }
    count = rc == 0 ? count_events(tf_buf_slice(events)) : -1;
    if (count < 0 || (uint64_t)count != frame->header.events) {
        tf_verify_tell(verify, TF_VERDICT_FORGED, "payload", at,
                       "authentic, but its payload does not hold %s, as its header says",
                       tf_counted_text(frame->header.events, "event", told));
    }
    return 0;
}

/* ---- deltas and indexes --------------------------------------------------------------------- */

static bool deltas_hold(struct tf_slice rest)
{
    struct tf_delta delta;
    int rc;

    do {
        rc = tf_delta_next(&rest, &delta);
    } while (rc == 1);
    return rc == 0;
}

/* 1: each entry stands at a frame with its number, below this one; 0; -errno. */
static int index_holds(const struct tf_walk *walk, const struct tf_walked *frame,
                       struct tf_slice bytes)
{
    static struct tf_index_entry entries[TF_INDEX_MAX];
    int count = tf_index_decode(bytes, entries);

    for (int i = 0; i < count; i++) {
        uint8_t raw[TF_FRAME_HEADER_BYTES];
        struct tf_frame_header header;
        int rc;

        if (entries[i].offset >= frame->begin) {
            return 0;
        }
        rc = tf_read_at(walk->fd, raw, sizeof raw, entries[i].offset);
        if (rc < 0) {
            return rc;
        }
        if (tf_frame_header_decode(raw, &header) == 0 && header.seq != entries[i].seq) {
            return 0; /* one that does not hold was told, and is not the index's fault */
        }
    }
    return count >= 0;
}

static int check_meta(struct tf_verify *verify, const struct tf_walk *walk,
                      const struct tf_walked *frame, struct tf_slice deltas,
                      const struct tf_verify_place *at)
{
    int holds = frame->header.type == TF_FRAME_INDEX ? index_holds(walk, frame, deltas)
                                                     : deltas_hold(deltas);

    if (holds == 0) {
        tf_verify_tell(verify, TF_VERDICT_FORGED, "content", at,
                       "authentic, but not of the format: its %s do not hold",
                       frame->header.type == TF_FRAME_INDEX ? "index entries" : "deltas");
    }
    return holds < 0 ? holds : 0;
}

/* ---- one frame ------------------------------------------------------------------------------ */

static int check_encrypted(struct tf_verify *verify, const struct tf_walk *walk,
                           const struct tf_walked *frame, const struct tf_verify_place *at)
{
    struct tf_meta meta;
    struct tf_slice payload;
    int rc = tf_frame_open(verify->content.keys, frame->raw, frame->body, &verify->content.plain,
                           &meta, &payload);

    if (rc == -EBADMSG || rc == -EPROTO) {
        tf_verify_tell(verify, TF_VERDICT_FORGED, rc == -EBADMSG ? "tag" : "content", at,
                       rc == -EBADMSG
                           ? "its checksums hold, its encryption does not: not made, or not "
                             "made for this place, by who has the key"
                           : "authentic, but not of the format");
        return 0;
    }
    if (rc == 0) {
        rc = check_meta(verify, walk, frame, meta.deltas, at);
    }
    if (rc == 0 && tf_frame_has_events(&frame->header)) {
        rc = check_payload(verify, frame, payload, at);
    }
    return rc;
}

int tf_content_check(struct tf_verify *verify, struct tf_walk *walk, const struct tf_walked *frame,
                     struct tf_slice *clear)
{
    struct tf_verify_place at = {
        .segment_no = walk->sector.segment_no, .seq = frame->header.seq, .byte = frame->begin};
    bool is_encrypted = (frame->header.flags & TF_FRAME_ENCRYPTED) != 0;
    int rc;

    if (!is_encrypted) {
        *clear = tf_slice(frame->body.data, frame->body.size - TF_GCM_TAG_BYTES);
    }
    if (verify->content.keys == NULL) {
        return 0;
    }
    if (is_encrypted) {
        return check_encrypted(verify, walk, frame, &at);
    }
    rc = tf_frame_open_clear(verify->content.keys, frame->raw, frame->body, clear);
    if (rc == -EBADMSG || rc == -EPROTO) {
        tf_verify_tell(verify, TF_VERDICT_FORGED, "tag", &at,
                       "its checksums hold, its tag does not: not made, or not made for this "
                       "place, by who has the key");
        return 0;
    }
    return rc;
}
