/*
 * format.c - the bytes of a spool, to and from structs. The tables are in docs/spool-format.md.
 *
 * Pure: bytes in, structs out, no I/O and no memory of its own; every length is checked before it
 * is used, zero fields must be zero, every checksum is checked first. Integers are little-endian,
 * but for those inside msgpack. A decoder writes its result only when all of it is sound.
 */
#include "internal.h"

#include <errno.h>

#include "taffrail/event.h"

static const char segment_magic[8] = {'T', 'F', 'S', 'E', 'G', '\r', '\n', '\x1a'};
static const char spool_magic[8] = {'T', 'F', 'S', 'P', 'L', '\r', '\n', '\x1a'};

#define FORMAT_VERSION  1u
#define SUITE_GCM       1u
#define SEGMENT_FLAGS   15u
#define CURSOR_BYTES    112u
#define META_KEYS       3u
#define DELTA_PARTS     3u
#define SECTOR_CRC_AT   508u
#define FRAME_CRC_AT    60u
#define SPOOL_CRC_AT    60u
#define SLOT_ZERO_AT    96u
#define SECTOR0_ZERO_AT 208u

static bool all_zero(const uint8_t *data, size_t size)
{
    uint8_t any = 0;

    for (size_t i = 0; i < size; i++) {
        any |= data[i];
    }
    return any == 0;
}

void tf_sector0_encode(const struct tf_sector0 *sector, uint8_t out[TF_SECTOR_BYTES])
{
    memset(out, 0, TF_SECTOR_BYTES);
    memcpy(out, segment_magic, 8);
    tf_store16(out + 8, FORMAT_VERSION);
    tf_store16(out + 10, SUITE_GCM);
    tf_store32(out + 12, sector->flags);
    memcpy(out + 16, sector->spool_id, 16);
    memcpy(out + 32, sector->segment_id, 16);
    memcpy(out + 48, sector->run_id, 16);
    tf_store64(out + 64, sector->segment_no);
    tf_store64(out + 72, sector->first_seq);
    tf_store64(out + 80, (uint64_t)sector->created_ns);
    tf_store64(out + 88, sector->prev_end);
    memcpy(out + 96, sector->prev_segment_id, 16);
    memcpy(out + 112, sector->prev_chain, 32);
    memcpy(out + 144, sector->dek_id, 32);
    memcpy(out + 176, sector->prev_spool_id, 16);
    tf_store64(out + 192, sector->prev_last_seq);
    tf_store64(out + 200, sector->events_before);
    tf_store32(out + SECTOR_CRC_AT, tf_crc32c(0, out, SECTOR_CRC_AT));
}

int tf_sector0_decode(const uint8_t in[TF_SECTOR_BYTES], struct tf_sector0 *out)
{
    struct tf_sector0 sector = {0};

    if (memcmp(in, segment_magic, 8) != 0 ||
        tf_load32(in + SECTOR_CRC_AT) != tf_crc32c(0, in, SECTOR_CRC_AT) ||
        tf_load16(in + 8) != FORMAT_VERSION || tf_load16(in + 10) != SUITE_GCM ||
        !all_zero(in + SECTOR0_ZERO_AT, SECTOR_CRC_AT - SECTOR0_ZERO_AT)) {
        return -EPROTO;
    }
    sector.flags = tf_load32(in + 12);
    memcpy(sector.spool_id, in + 16, 16);
    memcpy(sector.segment_id, in + 32, 16);
    memcpy(sector.run_id, in + 48, 16);
    sector.segment_no = tf_load64(in + 64);
    sector.first_seq = tf_load64(in + 72);
    sector.created_ns = (int64_t)tf_load64(in + 80);
    sector.prev_end = tf_load64(in + 88);
    memcpy(sector.prev_segment_id, in + 96, 16);
    memcpy(sector.prev_chain, in + 112, 32);
    memcpy(sector.dek_id, in + 144, 32);
    memcpy(sector.prev_spool_id, in + 176, 16);
    sector.prev_last_seq = tf_load64(in + 192);
    sector.events_before = tf_load64(in + 200);
    if ((sector.flags & ~SEGMENT_FLAGS) != 0 || sector.segment_no == 0 ||
        sector.first_seq <= sector.prev_last_seq || sector.prev_end > TF_SEGMENT_MAX_BYTES) {
        return -EPROTO;
    }
    *out = sector;
    return 0;
}

void tf_key_slot_encode(const struct tf_key_slot *slot, uint8_t out[TF_SECTOR_BYTES])
{
    memset(out, 0, TF_SECTOR_BYTES);
    memcpy(out, "TFKS", 4);
    out[4] = slot->kind;
    memcpy(out + 8, slot->key_id, 8);
    memcpy(out + 16, slot->enc, 32);
    memcpy(out + 48, slot->wrapped, 48);
    tf_store32(out + SECTOR_CRC_AT, tf_crc32c(0, out, SECTOR_CRC_AT));
}

int tf_key_slot_decode(const uint8_t in[TF_SECTOR_BYTES], struct tf_key_slot *out)
{
    if (all_zero(in, TF_SECTOR_BYTES)) {
        *out = (struct tf_key_slot){.kind = TF_SLOT_EMPTY};
        return 0;
    }
    if (memcmp(in, "TFKS", 4) != 0 ||
        tf_load32(in + SECTOR_CRC_AT) != tf_crc32c(0, in, SECTOR_CRC_AT) ||
        in[4] > TF_SLOT_RECIPIENT || !all_zero(in + 5, 3) ||
        !all_zero(in + SLOT_ZERO_AT, SECTOR_CRC_AT - SLOT_ZERO_AT)) {
        return -EPROTO;
    }
    out->kind = in[4];
    memcpy(out->key_id, in + 8, 8);
    memcpy(out->enc, in + 16, 32);
    memcpy(out->wrapped, in + 48, 48);
    return 0;
}

void tf_frame_header_encode(const struct tf_frame_header *header,
                            uint8_t out[TF_FRAME_HEADER_BYTES])
{
    memcpy(out, "TFRM", 4);
    out[4] = header->type;
    out[5] = header->flags;
    tf_store16(out + 6, 0);
    tf_store64(out + 8, header->seq);
    tf_store64(out + 16, (uint64_t)header->time_min_ns);
    tf_store64(out + 24, (uint64_t)header->time_max_ns);
    tf_store32(out + 32, header->events);
    tf_store32(out + 36, header->body_bytes);
    memcpy(out + 40, header->nonce, TF_NONCE_BYTES);
    tf_store64(out + 52, header->durable);
    tf_store32(out + FRAME_CRC_AT, tf_crc32c(0, out, FRAME_CRC_AT));
}

/* Types 4, 5 and 6 are in clear; 2 and 4 are flags of positions frames only. */
static bool flags_fit(uint8_t type, uint8_t flags)
{
    if (type == TF_FRAME_SEAL || type == TF_FRAME_FOOTER || type == TF_FRAME_NOTICE) {
        return flags == 0;
    }
    if (type != TF_FRAME_POSITIONS) {
        return flags == TF_FRAME_ENCRYPTED;
    }
    return flags == TF_FRAME_ENCRYPTED || flags == (TF_FRAME_ENCRYPTED | TF_FRAME_SNAPSHOT) ||
           flags == (TF_FRAME_ENCRYPTED | TF_FRAME_SNAPSHOT | TF_FRAME_MORE);
}

int tf_frame_header_decode(const uint8_t in[TF_FRAME_HEADER_BYTES], struct tf_frame_header *out)
{
    struct tf_frame_header header = {0};

    if (memcmp(in, "TFRM", 4) != 0 ||
        tf_load32(in + FRAME_CRC_AT) != tf_crc32c(0, in, FRAME_CRC_AT) || tf_load16(in + 6) != 0) {
        return -EPROTO;
    }
    header.type = in[4];
    header.flags = in[5];
    header.seq = tf_load64(in + 8);
    header.time_min_ns = (int64_t)tf_load64(in + 16);
    header.time_max_ns = (int64_t)tf_load64(in + 24);
    header.events = tf_load32(in + 32);
    header.body_bytes = tf_load32(in + 36);
    memcpy(header.nonce, in + 40, TF_NONCE_BYTES);
    header.durable = tf_load64(in + 52);
    if (header.type < TF_FRAME_DATA || header.type > TF_FRAME_INDEX ||
        !flags_fit(header.type, header.flags) || TF_SEQ_N(header.seq) == 0 ||
        header.durable >= header.seq || header.body_bytes < TF_GCM_TAG_BYTES ||
        header.body_bytes > TF_BODY_MAX) {
        return -EPROTO;
    }
    *out = header;
    return 0;
}

void tf_spool_meta_encode(const uint8_t spool_id[TF_SPOOL_ID_BYTES],
                          uint8_t out[TF_SPOOL_META_BYTES])
{
    memset(out, 0, TF_SPOOL_META_BYTES);
    memcpy(out, spool_magic, 8);
    tf_store16(out + 8, FORMAT_VERSION);
    memcpy(out + 16, spool_id, TF_SPOOL_ID_BYTES);
    tf_store32(out + SPOOL_CRC_AT, tf_crc32c(0, out, SPOOL_CRC_AT));
}

int tf_spool_meta_decode(const uint8_t in[TF_SPOOL_META_BYTES], uint8_t spool_id[TF_SPOOL_ID_BYTES])
{
    if (memcmp(in, spool_magic, 8) != 0 ||
        tf_load32(in + SPOOL_CRC_AT) != tf_crc32c(0, in, SPOOL_CRC_AT) ||
        tf_load16(in + 8) != FORMAT_VERSION || !all_zero(in + 10, 6) ||
        !all_zero(in + 32, SPOOL_CRC_AT - 32)) {
        return -EPROTO;
    }
    memcpy(spool_id, in + 16, TF_SPOOL_ID_BYTES);
    return 0;
}

void tf_cursor_slot_encode(const struct tf_cursor_table *table, uint8_t out[TF_CURSOR_SLOT_BYTES])
{
    uint8_t *at = out + 8;

    memset(out, 0, TF_CURSOR_SLOT_BYTES);
    memcpy(out, "TFC1", 4);
    tf_store32(out + 4, table->count);
    for (uint32_t i = 0; i < table->count; i++, at += CURSOR_BYTES) {
        const struct tf_cursor *cursor = &table->entries[i];

        memcpy(at, cursor->name, TF_CURSOR_NAME_BYTES);
        tf_store64(at + 64, cursor->seq);
        tf_store64(at + 72, cursor->prev);
        tf_store64(at + 80, cursor->events);
        tf_store64(at + 88, cursor->file.device);
        tf_store64(at + 96, cursor->file.inode);
        tf_store64(at + 104, cursor->file.length);
    }
    tf_store64(at, (uint64_t)table->owed.time_ns);
    tf_store64(at + 8, table->owed.last_no);
    tf_store64(at + 16, table->owed.last_seq);
    tf_store64(at + 24, table->owed.first_seal);
    tf_store64(at + 32, (uint64_t)table->owed.cause);
    tf_store64(at + 40, table->counter);
    tf_store32(at + 48, tf_crc32c(0, out, (size_t)(at + 48 - out)));
}

int tf_cursor_slot_decode(const uint8_t in[TF_CURSOR_SLOT_BYTES], struct tf_cursor_table *out)
{
    uint32_t count = tf_load32(in + 4);
    const uint8_t *at = in + 8;
    const uint8_t *end;

    if (memcmp(in, "TFC1", 4) != 0 || count > TF_CURSORS_MAX) {
        return -EPROTO;
    }
    end = at + (size_t)count * CURSOR_BYTES;
    if (tf_load32(end + 48) != tf_crc32c(0, in, (size_t)(end + 48 - in))) {
        return -EPROTO;
    }
    for (uint32_t i = 0; i < count; i++) {
        if (memchr(at + i * CURSOR_BYTES, '\0', TF_CURSOR_NAME_BYTES) == NULL) {
            return -EPROTO;
        }
    }
    memset(out, 0, sizeof *out);
    out->count = count;
    out->owed = (struct tf_expiry){.time_ns = (int64_t)tf_load64(end),
                                   .last_no = tf_load64(end + 8),
                                   .last_seq = tf_load64(end + 16),
                                   .first_seal = tf_load64(end + 24),
                                   .cause = (uint8_t)tf_load64(end + 32)};
    out->counter = tf_load64(end + 40);
    for (uint32_t i = 0; i < count; i++, at += CURSOR_BYTES) {
        struct tf_cursor *cursor = &out->entries[i];

        memcpy(cursor->name, at, TF_CURSOR_NAME_BYTES);
        cursor->seq = tf_load64(at + 64);
        cursor->prev = tf_load64(at + 72);
        cursor->events = tf_load64(at + 80);
        cursor->file.device = tf_load64(at + 88);
        cursor->file.inode = tf_load64(at + 96);
        cursor->file.length = tf_load64(at + 104);
    }
    return 0;
}

/* ---- msgpack: only what meta and deltas are made of ----------------------------------------- */

static bool take_byte(struct tf_slice *rest, uint8_t *byte)
{
    if (rest->size == 0) {
        return false;
    }
    *byte = (uint8_t)rest->data[0];
    rest->data++;
    rest->size--;
    return true;
}

static bool take_bytes(struct tf_slice *rest, size_t size, struct tf_slice *out)
{
    if (rest->size < size) {
        return false;
    }
    *out = tf_slice(rest->data, size);
    rest->data += size;
    rest->size -= size;
    return true;
}

/* A big-endian length of 1, 2 or 4 bytes, then so many bytes. */
static bool take_sized(struct tf_slice *rest, unsigned length_bytes, struct tf_slice *out)
{
    size_t size = 0;
    uint8_t byte;

    for (unsigned i = 0; i < length_bytes; i++) {
        if (!take_byte(rest, &byte)) {
            return false;
        }
        size = size << 8 | byte;
    }
    return take_bytes(rest, size, out);
}

static bool take_bin(struct tf_slice *rest, struct tf_slice *out)
{
    uint8_t head;

    return take_byte(rest, &head) && head >= 0xc4 && head <= 0xc6 &&
           take_sized(rest, 1u << (head - 0xc4), out);
}

static bool take_text(struct tf_slice *rest, struct tf_slice *out)
{
    uint8_t head;

    if (!take_byte(rest, &head)) {
        return false;
    }
    if ((head & 0xe0) == 0xa0) {
        return take_bytes(rest, head & 0x1f, out);
    }
    return head == 0xd9 && take_sized(rest, 1, out); /* a tag has at most 255 bytes */
}

static bool take_key(struct tf_slice *rest, const char *key)
{
    struct tf_slice text;

    return take_text(rest, &text) && tf_slice_equal(text, tf_slice_text(key));
}

void tf_meta_encode(struct tf_buf *out, const struct tf_meta *meta)
{
    tf_msgpack_map(out, META_KEYS);
    tf_msgpack_text(out, tf_slice_text("tag"));
    tf_msgpack_text(out, meta->tag);
    tf_msgpack_text(out, tf_slice_text("pos"));
    tf_msgpack_bytes(out, meta->deltas);
    tf_msgpack_text(out, tf_slice_text("d"));
    tf_msgpack_bytes(out, tf_slice(meta->digest, TF_DIGEST_BYTES));
}

int tf_meta_decode(struct tf_slice bytes, struct tf_meta *out)
{
    struct tf_meta meta;
    struct tf_slice digest;
    uint8_t head;

    if (bytes.size > TF_META_MAX || !take_byte(&bytes, &head) || head != (0x80 | META_KEYS) ||
        !take_key(&bytes, "tag") || !take_text(&bytes, &meta.tag) || !take_key(&bytes, "pos") ||
        !take_bin(&bytes, &meta.deltas) || !take_key(&bytes, "d") || !take_bin(&bytes, &digest)) {
        return -EPROTO;
    }
    if (digest.size != TF_DIGEST_BYTES || bytes.size != 0 ||
        (meta.tag.size > 0 && memchr(meta.tag.data, '\0', meta.tag.size) != NULL)) {
        return -EPROTO;
    }
    meta.digest = (const uint8_t *)digest.data;
    *out = meta;
    return 0;
}

int tf_plain_decode(struct tf_slice plain, uint8_t type, struct tf_meta *meta,
                    struct tf_slice *meta_bytes, struct tf_slice *payload)
{
    struct tf_slice rest = plain;
    struct tf_slice length, bytes;
    int rc;

    if (!take_bytes(&rest, 4, &length) || tf_load32(length.data) > TF_META_MAX ||
        !take_bytes(&rest, tf_load32(length.data), &bytes)) {
        return -EPROTO;
    }
    if ((type == TF_FRAME_POSITIONS || type == TF_FRAME_INDEX) && rest.size != 0) {
        return -EPROTO;
    }
    rc = tf_meta_decode(bytes, meta);
    if (rc == 0) {
        *meta_bytes = bytes;
        *payload = rest;
    }
    return rc;
}

void tf_delta_append(struct tf_buf *deltas, enum tf_delta_op op, struct tf_slice key,
                     struct tf_slice value)
{
    if (key.size > TF_STATE_KEY_MAX || value.size > TF_STATE_VALUE_MAX) {
        deltas->error = deltas->error != 0 ? deltas->error : -EMSGSIZE;
        return;
    }
    tf_msgpack_array(deltas, DELTA_PARTS);
    tf_msgpack_uint(deltas, (uint64_t)op);
    tf_msgpack_bytes(deltas, key);
    tf_msgpack_bytes(deltas, value);
}

int tf_delta_next(struct tf_slice *rest, struct tf_delta *out)
{
    struct tf_delta delta;
    uint8_t head, op;

    if (rest->size == 0) {
        return 0;
    }
    if (!take_byte(rest, &head) || head != (0x90 | DELTA_PARTS) || !take_byte(rest, &op) ||
        op < TF_DELTA_SET || op > TF_DELTA_NOTE || !take_bin(rest, &delta.key) ||
        !take_bin(rest, &delta.value) || delta.key.size > TF_STATE_KEY_MAX ||
        delta.value.size > TF_STATE_VALUE_MAX) {
        return -EPROTO;
    }
    delta.op = op;
    *out = delta;
    return 1;
}
