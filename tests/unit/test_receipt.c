/*
 * test_receipt.c - the bytes of a receipt as docs/protocol.md has them, and that nothing in them
 * can be changed.
 *
 * The signature is made here by OpenSSL directly, so that maker and checker are not one code.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <openssl/evp.h>
#include <openssl/sha.h>

#include "taffrail/receipt.h"

static EVP_PKEY *pkey;
static uint8_t key[TF_RECEIPT_KEY_BYTES];

static int set_up(void **state)
{
    static const uint8_t seed[32] = {7};
    size_t size = sizeof key;

    (void)state;
    pkey = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, seed, sizeof seed);
    return pkey != NULL && EVP_PKEY_get_raw_public_key(pkey, key, &size) == 1 ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    EVP_PKEY_free(pkey);
    return 0;
}

static struct tf_receipt example(void)
{
    struct tf_receipt receipt = {.seq = UINT64_C(3) << 40 | 41877,
                                 .time_ns = INT64_C(1764000000123456789),
                                 .counter = UINT64_C(1) << 33};
    uint8_t fingerprint[TF_RECEIPT_DIGEST_BYTES];

    tf_receipt_fingerprint(key, fingerprint);
    memcpy(receipt.key_id, fingerprint, sizeof receipt.key_id);
    memset(receipt.spool_id, 's', sizeof receipt.spool_id);
    memset(receipt.chain, 'c', sizeof receipt.chain);
    memset(receipt.identity, 'i', sizeof receipt.identity);
    return receipt;
}

static void sign(uint8_t bytes[TF_RECEIPT_BYTES])
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    size_t size = 64;

    assert_non_null(ctx);
    assert_int_equal(EVP_DigestSignInit(ctx, NULL, NULL, NULL, pkey), 1);
    assert_int_equal(EVP_DigestSign(ctx, bytes + 128, &size, bytes, 128), 1);
    assert_int_equal(size, 64);
    EVP_MD_CTX_free(ctx);
}

static void the_bytes_are_as_the_page_says(void **state)
{
    struct tf_receipt receipt = example(), read;
    uint8_t bytes[TF_RECEIPT_BYTES] = {0}, digest[32];

    (void)state;
    tf_receipt_encode(&receipt, bytes);
    assert_memory_equal(bytes, "taffrail/1 rcpt", 16);
    (void)SHA256(key, sizeof key, digest);
    assert_memory_equal(bytes + 16, digest, 8);
    assert_memory_equal(bytes + 24, receipt.spool_id, 16);
    assert_memory_equal(bytes + 40, "\x95\xa3\0\0\0\x03\0\0", 8);
    assert_memory_equal(bytes + 48, receipt.chain, 32);
    assert_memory_equal(bytes + 80, receipt.identity, 32);
    assert_true(tf_load64(bytes + 112) == (uint64_t)receipt.time_ns);
    assert_true(tf_load64(bytes + 120) == receipt.counter);
    assert_int_equal(tf_receipt_decode(bytes, &read), 0);
    assert_memory_equal(&read, &receipt, sizeof read);
}

static void no_bit_of_it_can_be_changed(void **state)
{
    struct tf_receipt receipt = example();
    uint8_t bytes[TF_RECEIPT_BYTES], other[TF_RECEIPT_KEY_BYTES];

    (void)state;
    tf_receipt_encode(&receipt, bytes);
    sign(bytes);
    assert_int_equal(tf_receipt_check(bytes, key), 0);
    for (size_t bit = 0; bit < sizeof bytes * 8; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_int_equal(tf_receipt_check(bytes, key), -EBADMSG);
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    memcpy(other, key, sizeof other);
    other[5] ^= 1;
    assert_int_equal(tf_receipt_check(bytes, other), -EBADMSG);
}

static void another_label_is_no_receipt(void **state)
{
    struct tf_receipt receipt = example(), read;
    uint8_t bytes[TF_RECEIPT_BYTES] = {0};

    (void)state;
    for (size_t i = 0; i < 16; i++) {
        tf_receipt_encode(&receipt, bytes);
        bytes[i] ^= 0x20;
        assert_int_equal(tf_receipt_decode(bytes, &read), -EPROTO);
    }
}

/* OpenSSL takes this signature of any text under the first of these keys. */
static void a_key_under_which_all_can_sign_is_refused(void **state)
{
    static const uint8_t first_bytes[] = {0, 1, 0xec, 0xed, 0xee};
    struct tf_receipt receipt = example();

    (void)state;
    for (size_t i = 0; i < 2 * sizeof first_bytes; i++) {
        uint8_t weak[TF_RECEIPT_KEY_BYTES], fingerprint[32], bytes[TF_RECEIPT_BYTES] = {0};

        memset(weak, i % 5 < 2 ? 0 : 0xff, sizeof weak);
        weak[0] = first_bytes[i % 5];
        weak[31] = (uint8_t)((weak[31] & 0x7f) | (i >= 5 ? 0x80 : 0));
        tf_receipt_fingerprint(weak, fingerprint);
        memcpy(receipt.key_id, fingerprint, sizeof receipt.key_id);
        for (unsigned time = 0; time < 16; time++) {
            receipt.time_ns = time;
            tf_receipt_encode(&receipt, bytes);
            assert_int_equal(tf_receipt_check(bytes, weak), -EBADMSG);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_bytes_are_as_the_page_says),
        cmocka_unit_test(no_bit_of_it_can_be_changed),
        cmocka_unit_test(another_label_is_no_receipt),
        cmocka_unit_test(a_key_under_which_all_can_sign_is_refused),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
