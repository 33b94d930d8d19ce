/*
 * test_hpke.c - HPKE as RFC 9180 has it, keys of auditors, and the slots that they open.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../../agent/spool/internal.h"

static size_t from_hex(const char *hex, uint8_t *out)
{
    size_t size = strlen(hex) / 2;

    for (size_t i = 0; i < size; i++) {
        const char digits[3] = {hex[2 * i], hex[2 * i + 1], '\0'};

        out[i] = (uint8_t)strtoul(digits, NULL, 16);
    }
    return size;
}

/* RFC 9180, A.1.1, sequence number 0. */
static const char private_hex[] =
    "4612c550263fc8ad58375df3f557aac531d26850903e55a9f23f21d8534e8ac8";
static const char public_hex[] = "3948cfe0ad1ddb695d780e59077195da6c56506b027329794ab02bca80815c4d";
static const char fresh_hex[] = "52c4a758a802cd8b936eceea314432798d5baf2d7e9235dc084ab1b9cfa2f736";
static const char enc_hex[] = "37fda3567bdbd628e88668c3c8d7e97d1d1253b6d4ea6d44c150f741f1bf4431";
static const char sealed_hex[] = "f938558b5d72f1a23810b4be2ab4f84331acc02fc97babc53a52ae8218a355a9"
                                 "6d8770ac83d07bea87e13c512a";
static const char info[] = "Ode on a Grecian Urn", aad[] = "Count-0",
                  text[] = "Beauty is truth, truth beauty";

static void the_vector_of_the_rfc_comes_out(void **state)
{
    uint8_t recipient[32], fresh[32], wanted_enc[32], enc[32], wanted[64], out[64];
    uint8_t private_key[32], plain[64] = {0};
    size_t size = from_hex(sealed_hex, wanted);
    struct tf_hpke_message message = {
        .info = tf_slice_text(info), .aad = tf_slice_text(aad), .text = tf_slice_text(text)};

    (void)state;
    (void)from_hex(public_hex, recipient);
    (void)from_hex(fresh_hex, fresh);
    (void)from_hex(enc_hex, wanted_enc);
    (void)from_hex(private_hex, private_key);
    assert_int_equal(tf_hpke_seal(TF_HPKE_AES_128_GCM, recipient, fresh, &message, enc, out), 0);
    assert_memory_equal(enc, wanted_enc, 32);
    assert_int_equal(size, strlen(text) + TF_GCM_TAG_BYTES);
    assert_memory_equal(out, wanted, size);
    message.text = tf_slice(wanted, size);
    assert_int_equal(tf_hpke_open(TF_HPKE_AES_128_GCM, private_key, enc, &message, plain), 0);
    assert_string_equal((const char *)plain, text);
}

static void an_altered_byte_anywhere_opens_nothing(void **state)
{
    uint8_t recipient[32], private_key[32], fresh[32], enc[32], out[48], plain[32], dek[32] = {7};
    struct tf_hpke_message message = {.info = tf_slice_text(info), .text = tf_slice(dek, 32)};

    (void)state;
    (void)from_hex(public_hex, recipient);
    (void)from_hex(private_hex, private_key);
    (void)from_hex(fresh_hex, fresh);
    assert_int_equal(tf_hpke_seal(TF_HPKE_AES_256_GCM, recipient, fresh, &message, enc, out), 0);
    message.text = tf_slice(out, sizeof out);
    assert_int_equal(tf_hpke_open(TF_HPKE_AES_256_GCM, private_key, enc, &message, plain), 0);
    assert_memory_equal(plain, dek, 32);
    for (size_t i = 0; i < sizeof out; i++) {
        out[i] ^= 1;
        assert_int_equal(tf_hpke_open(TF_HPKE_AES_256_GCM, private_key, enc, &message, plain),
                         -EBADMSG);
        out[i] ^= 1;
    }
    for (size_t i = 0; i < sizeof enc; i++) {
        enc[i] ^= 1;
        assert_int_equal(tf_hpke_open(TF_HPKE_AES_256_GCM, private_key, enc, &message, plain),
                         -EBADMSG);
        enc[i] ^= 1;
    }
    message.info = tf_slice_text("another");
    assert_int_equal(tf_hpke_open(TF_HPKE_AES_256_GCM, private_key, enc, &message, plain),
                     -EBADMSG);
}

/* Points of small order: the exchange gives zeros, whoever does it. */
static void keys_of_small_order_are_refused(void **state)
{
    static const char *const keys[] = {
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    };
    uint8_t fresh[32], enc[32], out[48], plain[32], bad[32], private_key[32];
    struct tf_hpke_message message = {.text = tf_slice(out, 32)};

    (void)state;
    (void)from_hex(fresh_hex, fresh);
    (void)from_hex(private_hex, private_key);
    memset(out, 0, sizeof out);
    for (size_t i = 0; i < TF_COUNT(keys); i++) {
        uint8_t sealed[48];

        (void)from_hex(keys[i], bad);
        message.text = tf_slice(out, 32);
        assert_int_equal(tf_hpke_seal(TF_HPKE_AES_256_GCM, bad, fresh, &message, enc, sealed),
                         -EBADMSG);
        message.text = tf_slice(out, 48);
        assert_int_equal(tf_hpke_open(TF_HPKE_AES_256_GCM, private_key, bad, &message, plain),
                         -EBADMSG);
    }
}

/* The private key of A.1 as `openssl pkey` writes it; with a passphrase, AES-256-CBC, "open me". */
static const char public_pem[] = "-----BEGIN PUBLIC KEY-----\n"
                                 "MCowBQYDK2VuAyEAOUjP4K0d22ldeA5ZB3GV2mxWUGsCcyl5SrAryoCBXE0=\n"
                                 "-----END PUBLIC KEY-----\n";
static const char private_pem[] =
    "-----BEGIN PRIVATE KEY-----\n"
    "MC4CAQAwBQYDK2VuBCIEIEYSxVAmP8itWDdd8/VXqsUx0mhQkD5VqfI/IdhTTorI\n"
    "-----END PRIVATE KEY-----\n";
static const char locked_pem[] =
    "-----BEGIN ENCRYPTED PRIVATE KEY-----\n"
    "MIGbMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAh7XawtpLA/OQICCAAw\n"
    "DAYIKoZIhvcNAgkFADAdBglghkgBZQMEASoEELF15nYj1iMY7MkmGCg1FqgEQMaE\n"
    "GfTDLcXoXcia0S7FHYMmgBzp/dUQE3lSG/ZojYqKMlXpOeqsnGmHoMZPXOpof3as\n"
    "aFtR8GEqPZoTIwWvsz0=\n"
    "-----END ENCRYPTED PRIVATE KEY-----\n";
static const char other_pem[] = "-----BEGIN PUBLIC KEY-----\n"
                                "MCowBQYDK2VwAyEAvNX/8Q/BG/3IUpNi7WhojgI+NzKsAMvAKJC+iSx+kF0=\n"
                                "-----END PUBLIC KEY-----\n";

static void only_x25519_keys_are_taken(void **state)
{
    struct tf_private_key key = {0}, again = {0};
    uint8_t public_key[32], wanted[32];
    struct tf_slice none = tf_slice(NULL, 0);

    (void)state;
    (void)from_hex(public_hex, wanted);
    assert_int_equal(tf_auditor_parse(tf_slice_text(public_pem), public_key), 0);
    assert_memory_equal(public_key, wanted, 32);
    assert_int_equal(tf_private_parse(tf_slice_text(private_pem), none, &key), 0);
    assert_memory_equal(key.public_key, wanted, 32);
    assert_int_equal(tf_private_parse(tf_slice_text(locked_pem), none, &again), -EACCES);
    assert_int_equal(tf_private_parse(tf_slice_text(locked_pem), tf_slice_text("wrong"), &again),
                     -EACCES);
    assert_int_equal(tf_private_parse(tf_slice_text(locked_pem), tf_slice_text("open me"), &again),
                     0);
    assert_memory_equal(&key, &again, sizeof key);
    assert_int_equal(tf_auditor_parse(tf_slice_text(other_pem), public_key), -EPROTO);
    assert_int_equal(tf_auditor_parse(tf_slice_text(private_pem), public_key), -EPROTO);
    assert_int_equal(tf_auditor_parse(tf_slice_text(""), public_key), -EPROTO);
    assert_int_equal(tf_private_parse(tf_slice_text(public_pem), none, &again), -EPROTO);
    assert_int_equal(tf_private_parse(tf_slice_text("-----BEGIN "), none, &again), -EPROTO);
}

/* ---- slots ---------------------------------------------------------------------------------- */

struct sealed {
    struct tf_sector0 sector;
    struct tf_frame_keys keys;
    uint8_t raw[TF_SEGMENT_SLOTS * TF_SECTOR_BYTES];
};

static void encode(const struct tf_key_slot *slots, uint8_t *raw)
{
    memset(raw, 0, TF_SEGMENT_SLOTS * TF_SECTOR_BYTES);
    for (size_t i = 0; i < TF_SEGMENT_SLOTS; i++) {
        if (slots[i].kind != TF_SLOT_EMPTY) {
            tf_key_slot_encode(&slots[i], raw + i * TF_SECTOR_BYTES);
        }
    }
}

static void make_ring(struct tf_keyring *ring, uint8_t first)
{
    memset(ring, 0, sizeof *ring);
    ring->count = 2;
    memset(ring->keks[0].key, first, 32);
    memset(ring->keks[1].key, first + 1, 32);
    assert_int_equal(tf_kek_id(&ring->keks[0]), 0);
    assert_int_equal(tf_kek_id(&ring->keks[1]), 0);
}

static void seal_one(const struct tf_keyring *ring, struct sealed *out)
{
    struct tf_key_slot slots[TF_SEGMENT_SLOTS] = {0};

    memset(out, 0, sizeof *out);
    out->sector.segment_no = 7;
    out->sector.first_seq = 9;
    memset(out->sector.segment_id, 5, 16);
    assert_int_equal(tf_dek_new(ring, &out->sector, slots, &out->keys), 0);
    encode(slots, out->raw);
}

static void each_of_a_segments_keys_opens_it_and_no_other(void **state)
{
    struct tf_keyring ring, auditor = {0}, stranger;
    struct tf_frame_keys keys;
    struct sealed sealed;

    (void)state;
    make_ring(&ring, 1);
    make_ring(&stranger, 40);
    ring.has_auditor = true;
    (void)from_hex(public_hex, ring.auditor);
    assert_int_equal(tf_recipient_id(ring.auditor, ring.auditor_id), 0);
    auditor.private_count = 1;
    assert_int_equal(
        tf_private_parse(tf_slice_text(private_pem), tf_slice(NULL, 0), &auditor.privates[0]), 0);
    seal_one(&ring, &sealed);
    assert_int_equal(tf_dek_open(&ring, &sealed.sector, sealed.raw, &keys), 0);
    assert_memory_equal(&keys, &sealed.keys, sizeof keys);
    assert_int_equal(tf_dek_open(&auditor, &sealed.sector, sealed.raw, &keys), 0);
    assert_memory_equal(&keys, &sealed.keys, sizeof keys);
    assert_int_equal(tf_dek_open(&stranger, &sealed.sector, sealed.raw, &keys), -ENOKEY);
    memset(sealed.raw, 0, TF_SECTOR_BYTES); /* the KEK's slot is zeroed: the auditor's alone */
    assert_int_equal(tf_dek_open(&ring, &sealed.sector, sealed.raw, &keys), -ENOKEY);
    assert_int_equal(tf_slots_look(&ring, sealed.raw).kek, TF_KEK_NONE);
    assert_true(tf_slots_look(&ring, sealed.raw).has_recipient);
    assert_int_equal(tf_dek_open(&auditor, &sealed.sector, sealed.raw, &keys), 0);
    sealed.sector.first_seq++; /* another sector 0: the slot is not this segment's */
    assert_int_equal(tf_dek_open(&auditor, &sealed.sector, sealed.raw, &keys), -EPROTO);
    memset(sealed.raw, 0, sizeof sealed.raw);
    assert_int_equal(tf_dek_open(&ring, &sealed.sector, sealed.raw, &keys), -EPROTO);
}

static void a_slot_wrapped_anew_opens_the_same_keys(void **state)
{
    struct tf_keyring old, both, fresh;
    struct tf_key_slot slots[TF_SEGMENT_SLOTS] = {0};
    struct tf_frame_keys keys;
    struct sealed sealed;

    (void)state;
    make_ring(&old, 1);
    make_ring(&both, 9);
    both.keks[1] = old.keks[0];
    fresh = both;
    fresh.count = 1;
    seal_one(&old, &sealed);
    assert_int_equal(tf_slots_look(&both, sealed.raw).kek, 1);
    assert_true(tf_slots_look(&both, sealed.raw).has_old_kek);
    assert_int_equal(tf_slots_look(&fresh, sealed.raw).kek, TF_KEK_UNKNOWN);
    assert_int_equal(tf_dek_rewrap(&fresh, &sealed.sector, sealed.raw, &slots[3]), -ENOKEY);
    assert_int_equal(tf_dek_rewrap(&both, &sealed.sector, sealed.raw, &slots[3]), 0);
    encode(slots, sealed.raw);
    assert_int_equal(tf_dek_open(&fresh, &sealed.sector, sealed.raw, &keys), 0);
    assert_memory_equal(&keys, &sealed.keys, sizeof keys);
    assert_int_equal(tf_dek_open(&old, &sealed.sector, sealed.raw, &keys), -ENOKEY);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_vector_of_the_rfc_comes_out),
        cmocka_unit_test(an_altered_byte_anywhere_opens_nothing),
        cmocka_unit_test(keys_of_small_order_are_refused),
        cmocka_unit_test(only_x25519_keys_are_taken),
        cmocka_unit_test(each_of_a_segments_keys_opens_it_and_no_other),
        cmocka_unit_test(a_slot_wrapped_anew_opens_the_same_keys),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
