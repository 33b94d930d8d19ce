/*
 * receipt.c - the bytes of a receipt, and whether its signature holds (docs/protocol.md, section
 * 6).
 *
 * A receipt has no length and no choice in it, so reading one cannot fail but for its label. It is
 * worth nothing before tf_receipt_check: a statement names the key that it claims, and a signature
 * by another one, or under a key of small order, is -EBADMSG.
 */
#include "taffrail/receipt.h"

#include <assert.h>
#include <errno.h>

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/sha.h>

static const uint8_t LABEL[16] = "taffrail/1 rcpt"; /* with its NUL */

enum {
    KEY_ID_AT = 16,
    SPOOL_AT = 24,
    SEQ_AT = 40,
    CHAIN_AT = 48,
    IDENTITY_AT = 80,
    TIME_AT = 112,
    COUNTER_AT = 120,
};
static_assert(COUNTER_AT + 8 == TF_RECEIPT_SIGNED_BYTES, "this is the layout that is signed");

void tf_receipt_fingerprint(const uint8_t key[TF_RECEIPT_KEY_BYTES],
                            uint8_t out[TF_RECEIPT_DIGEST_BYTES])
{
    (void)SHA256(key, TF_RECEIPT_KEY_BYTES, out); /* fails only for NULL */
}

void tf_receipt_encode(const struct tf_receipt *receipt, uint8_t out[TF_RECEIPT_SIGNED_BYTES])
{
    memcpy(out, LABEL, sizeof LABEL);
    memcpy(out + KEY_ID_AT, receipt->key_id, TF_RECEIPT_ID_BYTES);
    memcpy(out + SPOOL_AT, receipt->spool_id, TF_SPOOL_ID_BYTES);
    tf_store64(out + SEQ_AT, receipt->seq);
    memcpy(out + CHAIN_AT, receipt->chain, TF_CHAIN_BYTES);
    memcpy(out + IDENTITY_AT, receipt->identity, TF_RECEIPT_DIGEST_BYTES);
    tf_store64(out + TIME_AT, (uint64_t)receipt->time_ns);
    tf_store64(out + COUNTER_AT, receipt->counter);
}

int tf_receipt_decode(const uint8_t bytes[TF_RECEIPT_BYTES], struct tf_receipt *out)
{
    if (memcmp(bytes, LABEL, sizeof LABEL) != 0) {
        return -EPROTO;
    }
    memcpy(out->key_id, bytes + KEY_ID_AT, TF_RECEIPT_ID_BYTES);
    memcpy(out->spool_id, bytes + SPOOL_AT, TF_SPOOL_ID_BYTES);
    out->seq = tf_load64(bytes + SEQ_AT);
    memcpy(out->chain, bytes + CHAIN_AT, TF_CHAIN_BYTES);
    memcpy(out->identity, bytes + IDENTITY_AT, TF_RECEIPT_DIGEST_BYTES);
    out->time_ns = (int64_t)tf_load64(bytes + TIME_AT);
    out->counter = tf_load64(bytes + COUNTER_AT);
    return 0;
}

/* The points of order 1, 2, 4 and 8, and the two encodings above the prime; the sign is masked. */
static const uint8_t WEAK_KEYS[][TF_RECEIPT_KEY_BYTES] = {
    {0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
     0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
     0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00},
    {0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
     0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
     0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00},
    {0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4,
     0x89, 0xf2, 0xef, 0x98, 0xf0, 0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6,
     0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05},
    {0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b,
     0x76, 0x0d, 0x10, 0x67, 0x0f, 0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39,
     0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a},
    {0xec, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
     0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
     0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f},
    {0xed, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
     0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
     0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f},
    {0xee, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
     0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
     0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f},
};

/* Under such a key anybody can sign anything: OpenSSL takes it, and would take a signature of
 * zeros. */
static bool is_weak(const uint8_t key[TF_RECEIPT_KEY_BYTES])
{
    uint8_t point[TF_RECEIPT_KEY_BYTES];

    memcpy(point, key, sizeof point);
    point[TF_RECEIPT_KEY_BYTES - 1] &= 0x7f;
    for (size_t i = 0; i < TF_COUNT(WEAK_KEYS); i++) {
        if (memcmp(point, WEAK_KEYS[i], sizeof point) == 0) {
            return true;
        }
    }
    return false;
}

static int check_signature(const uint8_t bytes[TF_RECEIPT_BYTES],
                           const uint8_t key[TF_RECEIPT_KEY_BYTES])
{
    EVP_PKEY *pkey = EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, key, TF_RECEIPT_KEY_BYTES);
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    int rc = -EIO;

    if (pkey != NULL && ctx != NULL && EVP_DigestVerifyInit(ctx, NULL, NULL, NULL, pkey) == 1) {
        rc = EVP_DigestVerify(ctx, bytes + TF_RECEIPT_SIGNED_BYTES,
                              TF_RECEIPT_BYTES - TF_RECEIPT_SIGNED_BYTES, bytes,
                              TF_RECEIPT_SIGNED_BYTES) == 1
                 ? 0
                 : -EBADMSG;
    }
    EVP_MD_CTX_free(ctx);
    EVP_PKEY_free(pkey);
    ERR_clear_error(); /* what a bad signature left there is nobody else's */
    return rc;
}

int tf_receipt_check(const uint8_t bytes[TF_RECEIPT_BYTES], const uint8_t key[TF_RECEIPT_KEY_BYTES])
{
    uint8_t fingerprint[TF_RECEIPT_DIGEST_BYTES];

    tf_receipt_fingerprint(key, fingerprint);
    if (memcmp(bytes + KEY_ID_AT, fingerprint, TF_RECEIPT_ID_BYTES) != 0 || is_weak(key)) {
        return -EBADMSG;
    }
    return check_signature(bytes, key);
}
