/*
 * test_seal.c - seals, notices and keys as bytes: against values that another implementation made
 * (Python's hashlib, hmac and cryptography, from docs/spool-format.md alone), and against damage.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "../../agent/spool/seal.h"

#define SEAL_RUN (UINT64_C(3) << 40)
#define KEY_TEXT                                                                                   \
    "TFS1-208H4-4RM2M-B1E60-S38DH-R78Y3-Y0830-M3GJ2-RD1W8-H658Q-34DHT-7S14C-JJEA9-B5MQK-2CSN6-"    \
    "WWKPF-9YS49-NNPG"

/* Bytes that count up from first. */
static void count_up(uint8_t *to, size_t size, uint8_t first)
{
    for (size_t i = 0; i < size; i++) {
        to[i] = (uint8_t)(first + i);
    }
}

static void assert_hex(const uint8_t *bytes, size_t size, const char *hex)
{
    char text[2 * TF_DIGEST_BYTES + 1];

    assert_true(size <= TF_DIGEST_BYTES);
    for (size_t i = 0; i < size; i++) {
        (void)snprintf(text + 2 * i, 3, "%02x", bytes[i]);
    }
    assert_string_equal(text, hex);
}

static struct tf_seal_key first_key(void)
{
    struct tf_seal_key key = {0};

    count_up(key.spool_id, sizeof key.spool_id, 0x10);
    count_up(key.key, sizeof key.key, 0x80);
    assert_int_equal(tf_seal_key_id(&key), 0);
    return key;
}

static struct tf_frame_keys frame_keys(void)
{
    struct tf_frame_keys keys;

    count_up(keys.spool_id, sizeof keys.spool_id, 0x10);
    count_up(keys.segment_id, sizeof keys.segment_id, 0x30);
    count_up(keys.ke, sizeof keys.ke, 0x40);
    count_up(keys.kn, sizeof keys.kn, 0x60);
    return keys;
}

static struct tf_seal sample_seal(const struct tf_seal_key *key)
{
    struct tf_seal seal = {.number = key->number,
                           .from_seq = SEAL_RUN | 5,
                           .to_seq = SEAL_RUN | 9,
                           .events = 77,
                           .gaps = 1,
                           .receipt_count = 1,
                           .time_min_ns = -5,
                           .time_max_ns = 1000};

    memcpy(seal.id, key->id, sizeof seal.id);
    count_up(seal.chain, sizeof seal.chain, 0xa0);
    count_up(seal.prev_mac, sizeof seal.prev_mac, 0xc0);
    for (size_t i = 0; i < TF_RECEIPT_BYTES; i++) {
        seal.receipts[0][i] = (uint8_t)(i * 7);
    }
    return seal;
}

static void keys_evolve_as_written(void **state)
{
    struct tf_seal_key key = first_key();

    (void)state;
    assert_hex(key.id, sizeof key.id, "34e826e4ad08f82c");
    assert_int_equal(tf_seal_key_next(&key), 0);
    assert_int_equal(tf_seal_key_next(&key), 0);
    assert_int_equal(key.number, 2);
    assert_hex(key.key, sizeof key.key,
               "01179df98b1b4ed667bf920fc33def2e84c13206f3887984896d47e5b3017a19");
}

static void new_keys_differ(void **state)
{
    uint8_t spool_id[TF_SPOOL_ID_BYTES] = {7};
    struct tf_seal_key a, b;

    (void)state;
    assert_int_equal(tf_seal_key_new(spool_id, &a), 0);
    assert_int_equal(tf_seal_key_new(spool_id, &b), 0);
    assert_memory_equal(a.spool_id, spool_id, sizeof spool_id);
    assert_memory_not_equal(a.key, b.key, sizeof a.key);
    assert_memory_not_equal(a.id, b.id, sizeof a.id);
}

static void a_key_as_text_is_read_back(void **state)
{
    struct tf_seal_key key = first_key(), back;
    char text[TF_SEAL_TEXT_BYTES], loose[2 * TF_SEAL_TEXT_BYTES];
    size_t size = 0;

    (void)state;
    assert_int_equal(tf_seal_text(&key, text), 0);
    assert_string_equal(text, KEY_TEXT);
    assert_int_equal(tf_seal_text_parse(tf_slice_text(text), &back), 0);
    assert_memory_equal(&back, &key, sizeof key);
    for (size_t i = 0; text[i] != '\0';
         i++) { /* small, with blanks, O and L as people write them */
        char c = text[i];

        loose[size++] = (char)(c == '0' ? 'o' : c == '1' ? 'l' : c >= 'A' && c <= 'Z' ? c + 32 : c);
        loose[size++] = i % 3 == 0 ? ' ' : '-';
    }
    loose[size++] = '\n';
    assert_int_equal(tf_seal_text_parse(tf_slice(loose, size), &back), 0);
    assert_memory_equal(&back, &key, sizeof key);
}

static void a_slip_in_a_key_is_found(void **state)
{
    char text[] = KEY_TEXT;
    struct tf_seal_key back;

    (void)state;
    for (size_t i = 0; i < sizeof text - 1; i++) {
        char was = text[i];

        if (was == '-') {
            continue;
        }
        text[i] = was == '7' ? '8' : '7';
        assert_int_equal(tf_seal_text_parse(tf_slice_text(text), &back), -EPROTO);
        text[i] = 'U'; /* no letter of Crockford's */
        assert_int_equal(tf_seal_text_parse(tf_slice_text(text), &back), -EPROTO);
        text[i] = was;
        assert_int_equal(tf_seal_text_parse(tf_slice(text, i), &back), -EPROTO);
    }
    assert_int_equal(tf_seal_text_parse(tf_slice_text(KEY_TEXT "0"), &back), -EPROTO);
}

/* ---- a seal frame --------------------------------------------------------------------------- */

static size_t seal_frame(struct tf_buf *frame, struct tf_frame_header *header,
                         uint8_t leaf[TF_DIGEST_BYTES], uint8_t content[TF_SEAL_MAX_BYTES])
{
    struct tf_frame_keys keys = frame_keys();
    struct tf_seal_key key = first_key();
    uint8_t raw[TF_FRAME_HEADER_BYTES];
    struct tf_seal seal;
    uint32_t crc;
    size_t size;

    assert_int_equal(tf_seal_key_next(&key), 0);
    assert_int_equal(tf_seal_key_next(&key), 0);
    seal = sample_seal(&key);
    size = tf_seal_encode(&seal, content);
    *header = (struct tf_frame_header){.type = TF_FRAME_SEAL,
                                       .seq = SEAL_RUN | 10,
                                       .body_bytes = (uint32_t)(size + TF_GCM_TAG_BYTES)};
    tf_frame_header_encode(header, raw);
    assert_int_equal(tf_seal_mac(&key, keys.segment_id, raw,
                                 tf_slice(content, size - TF_DIGEST_BYTES), seal.mac),
                     0);
    assert_int_equal(tf_seal_encode(&seal, content), size);
    tf_buf_init(frame, 1 << 20);
    assert_int_equal(tf_frame_seal_clear(&keys, header, tf_slice(content, size), frame, leaf, &crc),
                     0);
    return size;
}

static void a_seal_frame_is_as_written(void **state)
{
    uint8_t content[TF_SEAL_MAX_BYTES], leaf[TF_DIGEST_BYTES], digest[TF_DIGEST_BYTES];
    struct tf_frame_header header;
    struct tf_buf frame;
    size_t size = seal_frame(&frame, &header, leaf, content);
    struct tf_slice whole = tf_slice(content, size);

    (void)state;
    assert_int_equal(size, TF_SEAL_FIXED_BYTES + TF_RECEIPT_BYTES);
    assert_hex(content + size - 32, 32,
               "9b97c8057937538d33346045c50905d77edab5a38d62e58ef94aa37c85299145");
    assert_hex(header.nonce, sizeof header.nonce, "ee60afb8d8adeef3ccdadc2b");
    assert_hex((uint8_t *)frame.data + TF_FRAME_HEADER_BYTES + size, 16,
               "7a7f0914936a70d98f7b99aac8b143b8");
    assert_hex(leaf, sizeof leaf,
               "e7bae502ec94267f58cd8405fdb177d9e36f1035962f8e30c175062cc31f7c7e");
    assert_int_equal(tf_sha256(&whole, 1, digest), 0);
    assert_hex(digest, sizeof digest,
               "1f890f4541d3f13a2c34624c950dd668a9710f1614e880f09a9133169d305352");
    tf_buf_fini(&frame);
}

static void a_clear_frame_opens_only_unaltered(void **state)
{
    uint8_t content[TF_SEAL_MAX_BYTES], leaf[TF_DIGEST_BYTES];
    struct tf_frame_keys keys = frame_keys();
    struct tf_frame_header header;
    struct tf_slice body, opened;
    struct tf_buf frame;
    size_t size = seal_frame(&frame, &header, leaf, content);
    uint8_t *raw = (uint8_t *)frame.data;

    (void)state;
    body = tf_slice(raw + TF_FRAME_HEADER_BYTES, header.body_bytes);
    assert_int_equal(tf_frame_open_clear(&keys, raw, body, &opened), 0);
    assert_int_equal(opened.size, size);
    assert_memory_equal(opened.data, content, size);
    for (size_t i = 0; i < TF_FRAME_HEADER_BYTES + header.body_bytes; i++) {
        if (i >= 52 && i < 64) {
            continue; /* durable and the header's CRC: the chain has them */
        }
        raw[i] ^= 0x20;
        assert_int_equal(tf_frame_open_clear(&keys, raw, body, &opened), -EBADMSG);
        raw[i] ^= 0x20;
    }
    assert_int_equal(tf_frame_open_clear(&keys, raw, tf_slice(body.data, 15), &opened), -EBADMSG);
    keys.segment_id[3] ^= 1; /* moved to another segment */
    assert_int_equal(tf_frame_open_clear(&keys, raw, body, &opened), -EBADMSG);
    tf_buf_fini(&frame);
}

/* ---- contents ------------------------------------------------------------------------------- */

static void a_seal_is_read_back(void **state)
{
    struct tf_seal_key key = first_key();
    struct tf_seal seal = sample_seal(&key), back;
    uint8_t content[TF_SEAL_MAX_BYTES], again[TF_SEAL_MAX_BYTES];
    size_t size = tf_seal_encode(&seal, content);

    (void)state;
    assert_int_equal(tf_seal_decode(tf_slice(content, size), &back), 0);
    assert_int_equal(tf_seal_encode(&back, again), size);
    assert_memory_equal(again, content, size);
    for (size_t cut = 0; cut < size; cut++) {
        assert_int_equal(tf_seal_decode(tf_slice(content, cut), &back), -EPROTO);
    }
    tf_store32(content + 76, TF_SEAL_RECEIPTS_MAX + 1);
    assert_int_equal(tf_seal_decode(tf_slice(content, size), &back), -EPROTO);
    tf_store32(content + 76, UINT32_MAX);
    assert_int_equal(tf_seal_decode(tf_slice(content, size), &back), -EPROTO);
    tf_store32(content + 76, 1);
    tf_store64(content + 16, SEAL_RUN | 10); /* from behind to */
    assert_int_equal(tf_seal_decode(tf_slice(content, size), &back), -EPROTO);
}

static void a_notice_is_read_back(void **state)
{
    struct tf_notice notice = {
        .kind = TF_NOTICE_EXPIRE, .time_ns = 5, .a = 1, .b = 2, .c = 3, .id = {TF_EXPIRE_SIZE}};
    struct tf_notice back;
    uint8_t content[TF_NOTICE_BYTES], again[TF_NOTICE_BYTES];

    (void)state;
    tf_notice_encode(&notice, content);
    assert_int_equal(tf_notice_decode(tf_slice(content, sizeof content), &back), 0);
    tf_notice_encode(&back, again);
    assert_memory_equal(again, content, sizeof content);
    assert_int_equal(back.c, 3);
    assert_int_equal(tf_notice_decode(tf_slice(content, sizeof content - 1), &back), -EPROTO);
    content[2] = 1;
    assert_int_equal(tf_notice_decode(tf_slice(content, sizeof content), &back), -EPROTO);
    content[2] = 0;
    content[0] = TF_NOTICE_RECEIPT_KEY + 1;
    assert_int_equal(tf_notice_decode(tf_slice(content, sizeof content), &back), -EPROTO);
    content[0] = 0;
    assert_int_equal(tf_notice_decode(tf_slice(content, sizeof content), &back), -EPROTO);
}

static void an_index_must_rise(void **state)
{
    static struct tf_index_entry out[TF_INDEX_MAX];
    uint8_t bytes[2 * TF_INDEX_ENTRY_BYTES];
    struct tf_index_entry a = {SEAL_RUN | 2, 4096, 1, 2, 10}, b = {SEAL_RUN | 9, 9000, 2, 3, 20};
    struct tf_slice both = tf_slice(bytes, sizeof bytes);

    (void)state;
    tf_index_entry_encode(&a, bytes);
    tf_index_entry_encode(&b, bytes + TF_INDEX_ENTRY_BYTES);
    assert_int_equal(tf_index_decode(both, out), 2);
    assert_memory_equal(&out[1], &b, sizeof b);
    assert_int_equal(tf_index_decode(tf_slice(bytes, sizeof bytes - 1), out), -EPROTO);
    assert_int_equal(tf_index_decode(tf_slice(NULL, 0), out), 0);
    tf_store64(bytes + TF_INDEX_ENTRY_BYTES, SEAL_RUN | 2);
    assert_int_equal(tf_index_decode(both, out), -EPROTO);
    tf_index_entry_encode(&b, bytes + TF_INDEX_ENTRY_BYTES);
    tf_store64(bytes + TF_INDEX_ENTRY_BYTES + 8, 4096);
    assert_int_equal(tf_index_decode(both, out), -EPROTO);
}

static void a_slot_of_the_state_is_read_back(void **state)
{
    struct tf_seal_key key = first_key(), back;
    uint8_t slot[TF_SEAL_SLOT_BYTES];

    (void)state;
    key.number = 9;
    key.sealed_seq = SEAL_RUN | 4;
    count_up(key.prev_mac, sizeof key.prev_mac, 1);
    tf_seal_slot_encode(&key, slot);
    assert_int_equal(tf_seal_slot_decode(slot, &back), 0);
    assert_memory_equal(&back, &key, sizeof key);
    for (size_t i = 0; i < sizeof slot; i++) {
        slot[i] ^= 1;
        assert_int_equal(tf_seal_slot_decode(slot, &back), -EPROTO);
        slot[i] ^= 1;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_evolve_as_written),
        cmocka_unit_test(new_keys_differ),
        cmocka_unit_test(a_key_as_text_is_read_back),
        cmocka_unit_test(a_slip_in_a_key_is_found),
        cmocka_unit_test(a_seal_frame_is_as_written),
        cmocka_unit_test(a_clear_frame_opens_only_unaltered),
        cmocka_unit_test(a_seal_is_read_back),
        cmocka_unit_test(a_notice_is_read_back),
        cmocka_unit_test(an_index_must_rise),
        cmocka_unit_test(a_slot_of_the_state_is_read_back),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
