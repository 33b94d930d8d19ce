/*
 * hpke.c - Hybrid Public Key Encryption (RFC 9180), base mode, one message: sealed to an X25519
 * key, opened by its private half. OpenSSL 3.0 has no call for it.
 *
 *     suite        DHKEM(X25519, HKDF-SHA256) 0x0020, HKDF-SHA256 0x0001, AES-256-GCM 0x0002
 *     encap        skE fresh; enc = pk(skE); dh = X25519(skE, pkR)
 *     KEM secret   LabeledExpand(LabeledExtract("", "eae_prk", dh), "shared_secret", enc ‖ pkR)
 *     key, nonce   section 5.1, with an empty psk; the message is number 0
 *
 * A shared secret of zeros (a point of small order, the key of zeros among them) is refused, as
 * section 7.1.4 demands. The suite with AES-128-GCM is there for the RFC's test vector A.1 only.
 * Secrets on the stack are wiped.
 */
#include "internal.h"

#include <assert.h>
#include <errno.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>

#define KEM_ID      0x0020u
#define KDF_ID      0x0001u
#define CONTEXT_MAX (1u + 2 * TF_DIGEST_BYTES)
#define WORD(text)  tf_slice(text, sizeof(text) - 1) /* without its NUL */

/* What names the algorithm in labels: "KEM" and its id, or "HPKE" and three ids. */
struct suite {
    uint8_t id[10];
    size_t size;
};

static struct suite kem_suite(void)
{
    return (struct suite){.id = {'K', 'E', 'M', KEM_ID >> 8, KEM_ID & 0xff}, .size = 5};
}

static struct suite hpke_suite(enum tf_hpke_aead aead)
{
    return (struct suite){
        .id = {'H', 'P', 'K', 'E', 0, KEM_ID, 0, KDF_ID, (uint8_t)(aead >> 8), (uint8_t)aead},
        .size = 10};
}

/* LabeledExtract: HKDF-Extract(salt, "HPKE-v1" ‖ suite ‖ label ‖ ikm). salt has 32 bytes, or is
 * NULL: empty, which HMAC takes for zeros. */
static int extract(const struct suite *suite, const uint8_t *salt, struct tf_slice label,
                   struct tf_slice ikm, uint8_t out[TF_DIGEST_BYTES])
{
    static const uint8_t zeros[TF_DIGEST_BYTES] = {0};
    struct tf_slice parts[] = {WORD("HPKE-v1"), tf_slice(suite->id, suite->size), label, ikm};

    return tf_hmac(salt == NULL ? zeros : salt, TF_DIGEST_BYTES, parts, TF_COUNT(parts), out);
}

/* LabeledExpand to at most 32 bytes. */
static int expand(const struct suite *suite, const uint8_t prk[TF_DIGEST_BYTES],
                  struct tf_slice label, struct tf_slice info, uint8_t *out, size_t size)
{
    uint8_t length[2] = {0, (uint8_t)size}, full[TF_DIGEST_BYTES];
    struct tf_slice parts[] = {tf_slice(length, 2), WORD("HPKE-v1"),
                               tf_slice(suite->id, suite->size), label, info};
    int rc;

    assert(size <= TF_DIGEST_BYTES);
    rc = tf_expand(prk, parts, TF_COUNT(parts), full);
    if (rc == 0) {
        memcpy(out, full, size);
    }
    OPENSSL_cleanse(full, sizeof full);
    return rc;
}

int tf_x25519_public(const uint8_t private_key[TF_KEY_BYTES], uint8_t out[TF_KEY_BYTES])
{
    EVP_PKEY *key = EVP_PKEY_new_raw_private_key(EVP_PKEY_X25519, NULL, private_key, TF_KEY_BYTES);
    size_t size = TF_KEY_BYTES;
    bool ok = key != NULL && EVP_PKEY_get_raw_public_key(key, out, &size) == 1;

    EVP_PKEY_free(key);
    return ok ? 0 : -EIO;
}

/* -EBADMSG when the secret is zero: their key is of small order. */
static int agree(const uint8_t private_key[TF_KEY_BYTES], const uint8_t public_key[TF_KEY_BYTES],
                 uint8_t secret[TF_KEY_BYTES])
{
    static const uint8_t zeros[TF_KEY_BYTES] = {0};
    EVP_PKEY *ours = EVP_PKEY_new_raw_private_key(EVP_PKEY_X25519, NULL, private_key, TF_KEY_BYTES);
    EVP_PKEY *theirs = EVP_PKEY_new_raw_public_key(EVP_PKEY_X25519, NULL, public_key, TF_KEY_BYTES);
    EVP_PKEY_CTX *ctx = ours == NULL ? NULL : EVP_PKEY_CTX_new(ours, NULL);
    size_t size = TF_KEY_BYTES;
    int rc = ctx == NULL || theirs == NULL || EVP_PKEY_derive_init(ctx) != 1 ? -EIO : 0;

    if (rc == 0 &&
        (EVP_PKEY_derive_set_peer(ctx, theirs) != 1 || EVP_PKEY_derive(ctx, secret, &size) != 1 ||
         size != TF_KEY_BYTES || CRYPTO_memcmp(secret, zeros, sizeof zeros) == 0)) {
        rc = -EBADMSG;
    }
    EVP_PKEY_CTX_free(ctx);
    EVP_PKEY_free(theirs);
    EVP_PKEY_free(ours);
    return rc;
}

/* The KEM's shared secret of either side: private_key is the sender's fresh one or the
 * recipient's, peer the other's public key. */
static int kem_secret(const uint8_t private_key[TF_KEY_BYTES], const uint8_t peer[TF_KEY_BYTES],
                      const uint8_t enc[TF_KEY_BYTES], const uint8_t recipient[TF_KEY_BYTES],
                      uint8_t out[TF_DIGEST_BYTES])
{
    struct suite suite = kem_suite();
    uint8_t dh[TF_KEY_BYTES], prk[TF_DIGEST_BYTES], context[2 * TF_KEY_BYTES];
    int rc = agree(private_key, peer, dh);

    memcpy(context, enc, TF_KEY_BYTES);
    memcpy(context + TF_KEY_BYTES, recipient, TF_KEY_BYTES);
    if (rc == 0) {
        rc = extract(&suite, NULL, WORD("eae_prk"), tf_slice(dh, sizeof dh), prk);
    }
    if (rc == 0) {
        rc = expand(&suite, prk, WORD("shared_secret"), tf_slice(context, sizeof context), out,
                    TF_DIGEST_BYTES);
    }
    OPENSSL_cleanse(dh, sizeof dh);
    OPENSSL_cleanse(prk, sizeof prk);
    return rc;
}

static size_t key_bytes(enum tf_hpke_aead aead)
{
    return aead == TF_HPKE_AES_128_GCM ? 16 : TF_KEY_BYTES;
}

/* Section 5.1 with mode 0 and the empty psk. */
static int schedule(enum tf_hpke_aead aead, const uint8_t shared[TF_DIGEST_BYTES],
                    struct tf_slice info, uint8_t key[TF_KEY_BYTES], uint8_t nonce[TF_NONCE_BYTES])
{
    struct suite suite = hpke_suite(aead);
    struct tf_slice nothing = tf_slice("", 0), whole;
    uint8_t context[CONTEXT_MAX] = {0}, secret[TF_DIGEST_BYTES];
    int rc = extract(&suite, NULL, WORD("psk_id_hash"), nothing, context + 1);

    if (rc == 0) {
        rc = extract(&suite, NULL, WORD("info_hash"), info, context + 1 + TF_DIGEST_BYTES);
    }
    if (rc == 0) {
        rc = extract(&suite, shared, WORD("secret"), nothing, secret);
    }
    whole = tf_slice(context, sizeof context);
    if (rc == 0) {
        rc = expand(&suite, secret, WORD("key"), whole, key, key_bytes(aead));
    }
    if (rc == 0) {
        rc = expand(&suite, secret, WORD("base_nonce"), whole, nonce, TF_NONCE_BYTES);
    }
    OPENSSL_cleanse(secret, sizeof secret);
    return rc;
}

/* GCM over in, with the tag behind the ciphertext. 0; -EBADMSG: the tag is wrong; -EIO. */
static int run_cipher(enum tf_hpke_aead aead, const uint8_t *key, const uint8_t *nonce,
                      bool encrypt, const struct tf_hpke_message *message, uint8_t *out)
{
    const EVP_CIPHER *cipher = aead == TF_HPKE_AES_128_GCM ? EVP_aes_128_gcm() : EVP_aes_256_gcm();
    const uint8_t *in = (const uint8_t *)message->text.data;
    int text = (int)(message->text.size - (encrypt ? 0 : TF_GCM_TAG_BYTES)), size = 0, more = 0;
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    bool ok = ctx != NULL && EVP_CipherInit_ex(ctx, cipher, NULL, key, nonce, encrypt) == 1 &&
              (message->aad.size == 0 ||
               EVP_CipherUpdate(ctx, NULL, &size, (const uint8_t *)message->aad.data,
                                (int)message->aad.size) == 1) &&
              EVP_CipherUpdate(ctx, out, &size, in, text) == 1;
    int rc = -EIO;

    if (ok && encrypt) {
        ok = EVP_CipherFinal_ex(ctx, out + size, &more) == 1 &&
             EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_GCM_GET_TAG, TF_GCM_TAG_BYTES, out + text) == 1;
    } else if (ok) {
        ok = EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_GCM_SET_TAG, TF_GCM_TAG_BYTES,
                                 (void *)(uintptr_t)(in + text)) == 1 &&
             EVP_CipherFinal_ex(ctx, out + size, &more) == 1;
        rc = -EBADMSG;
    }
    EVP_CIPHER_CTX_free(ctx);
    return ok ? 0 : rc;
}

static int run(enum tf_hpke_aead aead, const uint8_t shared[TF_DIGEST_BYTES], bool encrypt,
               const struct tf_hpke_message *message, uint8_t *out)
{
    uint8_t key[TF_KEY_BYTES], nonce[TF_NONCE_BYTES];
    int rc = schedule(aead, shared, message->info, key, nonce);

    if (rc == 0) {
        rc = run_cipher(aead, key, nonce, encrypt, message, out);
    }
    OPENSSL_cleanse(key, sizeof key);
    OPENSSL_cleanse(nonce, sizeof nonce);
    return rc;
}

int tf_hpke_seal(enum tf_hpke_aead aead, const uint8_t recipient[TF_KEY_BYTES],
                 const uint8_t fresh[TF_KEY_BYTES], const struct tf_hpke_message *message,
                 uint8_t enc[TF_KEY_BYTES], uint8_t *out)
{
    uint8_t shared[TF_DIGEST_BYTES];
    int rc = tf_x25519_public(fresh, enc);

    if (rc == 0) {
        rc = kem_secret(fresh, recipient, enc, recipient, shared);
    }
    if (rc == 0) {
        rc = run(aead, shared, true, message, out);
    }
    OPENSSL_cleanse(shared, sizeof shared);
    return rc;
}

int tf_hpke_open(enum tf_hpke_aead aead, const uint8_t private_key[TF_KEY_BYTES],
                 const uint8_t enc[TF_KEY_BYTES], const struct tf_hpke_message *message,
                 uint8_t *out)
{
    uint8_t shared[TF_DIGEST_BYTES], recipient[TF_KEY_BYTES];
    int rc =
        message->text.size < TF_GCM_TAG_BYTES ? -EBADMSG : tf_x25519_public(private_key, recipient);

    if (rc == 0) {
        rc = kem_secret(private_key, enc, enc, recipient, shared);
    }
    if (rc == 0) {
        rc = run(aead, shared, false, message, out);
    }
    OPENSSL_cleanse(shared, sizeof shared);
    return rc;
}
