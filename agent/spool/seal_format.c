/*
 * seal_format.c - seals, notices, index entries, seal.state and verification keys, to and from
 * structs. The tables are in docs/spool-format.md.
 *
 * Pure: bytes in, structs out, no I/O and no memory of its own. Every length is checked before it
 * is used, what is zero must be zero, and a result is written only when all of it is sound. What a
 * decoder accepts encodes to the same bytes again; of a key's text, to the one way to write it.
 */
#include "seal.h"

#include <errno.h>

#include <openssl/crypto.h>

#define SEAL_RECEIPTS_AT  128u
#define NOTICE_ID_AT      40u
#define STATE_VERSION     1u
#define STATE_ZERO_AT     112u
#define STATE_CRC_AT      116u
#define TEXT_CHECK_BYTES  4u
#define TEXT_RAW_BYTES    (TF_SPOOL_ID_BYTES + TF_KEY_BYTES + TEXT_CHECK_BYTES)
#define TEXT_LETTERS      84u /* of 5 bits each, the last 4 bits zero */
#define TEXT_GROUP        5u
#define TEXT_PREFIX       "TFS1"
#define TEXT_PREFIX_BYTES 4u

static const char letters[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";

static_assert(TEXT_LETTERS * 5 >= TEXT_RAW_BYTES * 8, "the letters hold the bytes");
static_assert(TEXT_PREFIX_BYTES + TEXT_LETTERS + (TEXT_LETTERS + TEXT_GROUP - 1) / TEXT_GROUP + 1 ==
                  TF_SEAL_TEXT_BYTES,
              "prefix, letters, a hyphen before each group, NUL");

/* ---- what is covered ------------------------------------------------------------------------ */

static void widen(int64_t more_min_ns, int64_t more_max_ns, int64_t *min_ns, int64_t *max_ns)
{
    bool is_first = *min_ns == 0 && *max_ns == 0;

    *min_ns = is_first || more_min_ns < *min_ns ? more_min_ns : *min_ns;
    *max_ns = is_first || more_max_ns > *max_ns ? more_max_ns : *max_ns;
}

void tf_times_join(int64_t more_min_ns, int64_t more_max_ns, int64_t *min_ns, int64_t *max_ns)
{
    if (more_min_ns != 0 || more_max_ns != 0) {
        widen(more_min_ns, more_max_ns, min_ns, max_ns);
    }
}

/* An event of 1970 counts: a frame says by itself whether it has any. */
void tf_times_add(const struct tf_frame_header *header, int64_t *min_ns, int64_t *max_ns)
{
    if (tf_frame_has_events(header) && header->events > 0) {
        widen(header->time_min_ns, header->time_max_ns, min_ns, max_ns);
    }
}

void tf_cover_add(struct tf_cover *cover, const struct tf_frame_header *header)
{
    if (tf_frame_is_seal(header)) {
        *cover = (struct tf_cover){0};
        return;
    }
    cover->from_seq = cover->from_seq == 0 ? header->seq : cover->from_seq;
    cover->bytes += TF_FRAME_HEADER_BYTES + (uint64_t)header->body_bytes + TF_FRAME_TRAILER_BYTES;
    cover->gaps += header->type == TF_FRAME_GAP;
    tf_times_add(header, &cover->time_min_ns, &cover->time_max_ns);
}

/* ---- seals ---------------------------------------------------------------------------------- */

size_t tf_seal_encode(const struct tf_seal *seal, uint8_t out[TF_SEAL_MAX_BYTES])
{
    size_t at = SEAL_RECEIPTS_AT;

    assert(seal->receipt_count <= TF_SEAL_RECEIPTS_MAX);
    tf_store64(out, seal->number);
    memcpy(out + 8, seal->id, TF_SEAL_ID_BYTES);
    tf_store64(out + 16, seal->from_seq);
    tf_store64(out + 24, seal->to_seq);
    memcpy(out + 32, seal->chain, TF_CHAIN_BYTES);
    tf_store64(out + 64, seal->events);
    tf_store32(out + 72, seal->gaps);
    tf_store32(out + 76, seal->receipt_count);
    tf_store64(out + 80, (uint64_t)seal->time_min_ns);
    tf_store64(out + 88, (uint64_t)seal->time_max_ns);
    memcpy(out + 96, seal->prev_mac, TF_DIGEST_BYTES);
    for (uint32_t i = 0; i < seal->receipt_count; i++, at += TF_RECEIPT_BYTES) {
        memcpy(out + at, seal->receipts[i], TF_RECEIPT_BYTES);
    }
    memcpy(out + at, seal->mac, TF_DIGEST_BYTES);
    return at + TF_DIGEST_BYTES;
}

int tf_seal_decode(struct tf_slice content, struct tf_seal *out)
{
    const uint8_t *in = (const uint8_t *)content.data;
    uint32_t count;

    if (content.size < TF_SEAL_FIXED_BYTES) {
        return -EPROTO;
    }
    count = tf_load32(in + 76);
    if (count > TF_SEAL_RECEIPTS_MAX ||
        content.size != TF_SEAL_FIXED_BYTES + (size_t)count * TF_RECEIPT_BYTES ||
        tf_load64(in + 16) == 0 || tf_load64(in + 16) > tf_load64(in + 24)) {
        return -EPROTO;
    }
    *out = (struct tf_seal){.number = tf_load64(in),
                            .from_seq = tf_load64(in + 16),
                            .to_seq = tf_load64(in + 24),
                            .events = tf_load64(in + 64),
                            .gaps = tf_load32(in + 72),
                            .receipt_count = count,
                            .time_min_ns = (int64_t)tf_load64(in + 80),
                            .time_max_ns = (int64_t)tf_load64(in + 88)};
    memcpy(out->id, in + 8, TF_SEAL_ID_BYTES);
    memcpy(out->chain, in + 32, TF_CHAIN_BYTES);
    memcpy(out->prev_mac, in + 96, TF_DIGEST_BYTES);
    memcpy(out->receipts, in + SEAL_RECEIPTS_AT, (size_t)count * TF_RECEIPT_BYTES);
    memcpy(out->mac, in + content.size - TF_DIGEST_BYTES, TF_DIGEST_BYTES);
    return 0;
}

/* ---- notices -------------------------------------------------------------------------------- */

void tf_notice_encode(const struct tf_notice *notice, uint8_t out[TF_NOTICE_BYTES])
{
    memset(out, 0, TF_NOTICE_BYTES);
    tf_store16(out, notice->kind);
    tf_store64(out + 8, (uint64_t)notice->time_ns);
    tf_store64(out + 16, notice->a);
    tf_store64(out + 24, notice->b);
    tf_store64(out + 32, notice->c);
    memcpy(out + NOTICE_ID_AT, notice->id, sizeof notice->id);
}

int tf_notice_decode(struct tf_slice content, struct tf_notice *out)
{
    static const uint8_t zero[6];
    const uint8_t *in = (const uint8_t *)content.data;

    if (content.size != TF_NOTICE_BYTES || memcmp(in + 2, zero, sizeof zero) != 0 ||
        tf_load16(in) < TF_NOTICE_RECOVERY || tf_load16(in) > TF_NOTICE_RECEIPT_KEY) {
        return -EPROTO;
    }
    *out = (struct tf_notice){.kind = tf_load16(in),
                              .time_ns = (int64_t)tf_load64(in + 8),
                              .a = tf_load64(in + 16),
                              .b = tf_load64(in + 24),
                              .c = tf_load64(in + 32)};
    memcpy(out->id, in + NOTICE_ID_AT, sizeof out->id);
    return 0;
}

/* ---- index ---------------------------------------------------------------------------------- */

void tf_index_entry_encode(const struct tf_index_entry *entry, uint8_t out[TF_INDEX_ENTRY_BYTES])
{
    tf_store64(out, entry->seq);
    tf_store64(out + 8, entry->offset);
    tf_store64(out + 16, (uint64_t)entry->time_min_ns);
    tf_store64(out + 24, (uint64_t)entry->time_max_ns);
    tf_store64(out + 32, entry->events_before);
}

int tf_index_decode(struct tf_slice bytes, struct tf_index_entry out[TF_INDEX_MAX])
{
    const uint8_t *in = (const uint8_t *)bytes.data;
    size_t count = bytes.size / TF_INDEX_ENTRY_BYTES;

    if (bytes.size % TF_INDEX_ENTRY_BYTES != 0 || count > TF_INDEX_MAX) {
        return -EPROTO;
    }
    for (size_t i = 0; i < count; i++, in += TF_INDEX_ENTRY_BYTES) {
        struct tf_index_entry entry = {.seq = tf_load64(in),
                                       .offset = tf_load64(in + 8),
                                       .time_min_ns = (int64_t)tf_load64(in + 16),
                                       .time_max_ns = (int64_t)tf_load64(in + 24),
                                       .events_before = tf_load64(in + 32)};

        if (entry.offset < TF_SEGMENT_HEADER_BYTES || entry.offset >= TF_SEGMENT_MAX_BYTES ||
            entry.time_min_ns > entry.time_max_ns ||
            (i > 0 && (entry.seq <= out[i - 1].seq || entry.offset <= out[i - 1].offset ||
                       entry.events_before < out[i - 1].events_before))) {
            return -EPROTO;
        }
        out[i] = entry;
    }
    return (int)count;
}

/* ---- seal.state ----------------------------------------------------------------------------- */

void tf_seal_slot_encode(const struct tf_seal_key *key, uint8_t out[TF_SEAL_SLOT_BYTES])
{
    memset(out, 0, TF_SEAL_SLOT_BYTES);
    memcpy(out, "TFSS", 4);
    tf_store32(out + 4, STATE_VERSION);
    memcpy(out + 8, key->spool_id, TF_SPOOL_ID_BYTES);
    memcpy(out + 24, key->id, TF_SEAL_ID_BYTES);
    tf_store64(out + 32, key->number);
    memcpy(out + 40, key->key, TF_KEY_BYTES);
    memcpy(out + 72, key->prev_mac, TF_DIGEST_BYTES);
    tf_store64(out + 104, key->sealed_seq);
    tf_store32(out + STATE_CRC_AT, tf_crc32c(0, out, STATE_CRC_AT));
}

int tf_seal_slot_decode(const uint8_t in[TF_SEAL_SLOT_BYTES], struct tf_seal_key *out)
{
    if (memcmp(in, "TFSS", 4) != 0 || tf_load32(in + 4) != STATE_VERSION ||
        tf_load32(in + STATE_ZERO_AT) != 0 ||
        tf_load32(in + STATE_CRC_AT) != tf_crc32c(0, in, STATE_CRC_AT)) {
        return -EPROTO;
    }
    memcpy(out->spool_id, in + 8, TF_SPOOL_ID_BYTES);
    memcpy(out->id, in + 24, TF_SEAL_ID_BYTES);
    out->number = tf_load64(in + 32);
    memcpy(out->key, in + 40, TF_KEY_BYTES);
    memcpy(out->prev_mac, in + 72, TF_DIGEST_BYTES);
    out->sealed_seq = tf_load64(in + 104);
    return 0;
}

/* ---- the text of a verification key ---------------------------------------------------------- */

/* The first bytes of H(spool id, K_0): a slip of the pen is found. */
static int text_check(const uint8_t raw[TEXT_RAW_BYTES], uint8_t out[TF_DIGEST_BYTES])
{
    struct tf_slice both = tf_slice(raw, TEXT_RAW_BYTES - TEXT_CHECK_BYTES);

    return tf_sha256(&both, 1, out);
}

int tf_seal_text(const struct tf_seal_key *key, char out[TF_SEAL_TEXT_BYTES])
{
    uint8_t raw[TEXT_RAW_BYTES + 1] = {0}, check[TF_DIGEST_BYTES];
    char *to = out + TEXT_PREFIX_BYTES;
    int rc;

    assert(key->number == 0);
    memcpy(raw, key->spool_id, TF_SPOOL_ID_BYTES);
    memcpy(raw + TF_SPOOL_ID_BYTES, key->key, TF_KEY_BYTES);
    rc = text_check(raw, check);
    memcpy(raw + TEXT_RAW_BYTES - TEXT_CHECK_BYTES, check, TEXT_CHECK_BYTES);
    memcpy(out, TEXT_PREFIX, TEXT_PREFIX_BYTES);
    for (size_t i = 0; i < TEXT_LETTERS; i++) {
        size_t bit = i * 5;
        unsigned pair = (unsigned)raw[bit / 8] << 8 | raw[bit / 8 + 1];

        if (i % TEXT_GROUP == 0) {
            *to++ = '-';
        }
        *to++ = letters[pair >> (11 - bit % 8) & 31];
    }
    *to = '\0';
    OPENSSL_cleanse(raw, sizeof raw);
    return rc;
}

/* Crockford's: either case, O is 0, I and L are 1. -1 for what is no letter of it. */
static int letter_value(char c)
{
    const char *hit;

    c = c >= 'a' && c <= 'z' ? (char)(c - 'a' + 'A') : c;
    c = c == 'O' ? '0' : c == 'I' || c == 'L' ? '1' : c;
    hit = c == '\0' ? NULL : strchr(letters, c);
    return hit == NULL ? -1 : (int)(hit - letters);
}

/* The values of all letters, prefix and key. 0 or -EPROTO. */
static int read_letters(struct tf_slice text, uint8_t values[TEXT_PREFIX_BYTES + TEXT_LETTERS])
{
    size_t count = 0;

    for (size_t i = 0; i < text.size; i++) {
        char c = text.data[i];
        int value;

        if (c == '-' || c == ' ' || c == '\t' || c == '\r' || c == '\n') {
            continue;
        }
        value = letter_value(c);
        if (value < 0 || count == TEXT_PREFIX_BYTES + TEXT_LETTERS) {
            return -EPROTO;
        }
        values[count++] = (uint8_t)value;
    }
    for (size_t i = 0; i < TEXT_PREFIX_BYTES && count > 0; i++) {
        if (values[i] != letter_value(TEXT_PREFIX[i])) {
            return -EPROTO;
        }
    }
    return count == TEXT_PREFIX_BYTES + TEXT_LETTERS ? 0 : -EPROTO;
}

int tf_seal_text_parse(struct tf_slice text, struct tf_seal_key *out)
{
    uint8_t values[TEXT_PREFIX_BYTES + TEXT_LETTERS] = {0}, check[TF_DIGEST_BYTES];
    uint8_t raw[TEXT_RAW_BYTES + 1] = {0};
    int rc = read_letters(text, values);

    for (size_t i = 0; i < TEXT_LETTERS; i++) {
        size_t bit = i * 5;
        unsigned pair = (unsigned)values[TEXT_PREFIX_BYTES + i] << (11 - bit % 8);

        raw[bit / 8] |= (uint8_t)(pair >> 8);
        raw[bit / 8 + 1] |= (uint8_t)pair;
    }
    if (rc == 0) {
        rc = text_check(raw, check);
    }
    if (rc == 0 &&
        (raw[TEXT_RAW_BYTES] != 0 ||
         CRYPTO_memcmp(check, raw + TEXT_RAW_BYTES - TEXT_CHECK_BYTES, TEXT_CHECK_BYTES) != 0)) {
        rc = -EPROTO;
    }
    if (rc == 0) {
        *out = (struct tf_seal_key){0};
        memcpy(out->spool_id, raw, TF_SPOOL_ID_BYTES);
        memcpy(out->key, raw + TF_SPOOL_ID_BYTES, TF_KEY_BYTES);
        rc = tf_seal_key_id(out);
    }
    OPENSSL_cleanse(raw, sizeof raw);
    OPENSSL_cleanse(values, sizeof values);
    return rc;
}
