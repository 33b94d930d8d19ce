/*
 * auditor.c - an auditor's X25519 key: the public half in PEM (SPKI) on the node, the private half
 * in PEM (PKCS#8, a passphrase allowed) with the auditor.
 *
 * Parsers are pure: bytes in, raw keys out. Any other kind of key is refused, and so is a public
 * key of small order, to which nothing could be sealed. Not here: files and their modes (keys.c),
 * what is sealed to the key (slots.c).
 */
#include "internal.h"

#include <errno.h>

#include <openssl/bio.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>

int tf_recipient_id(const uint8_t public_key[TF_KEY_BYTES], uint8_t id[TF_KEY_ID_BYTES])
{
    struct tf_slice raw = tf_slice(public_key, TF_KEY_BYTES);
    uint8_t digest[TF_DIGEST_BYTES];
    int rc = tf_sha256(&raw, 1, digest);

    if (rc == 0) {
        memcpy(id, digest, TF_KEY_ID_BYTES);
    }
    return rc;
}

/* True when something can be sealed to it: an exchange with it gives no zeros. */
static bool is_usable(const uint8_t public_key[TF_KEY_BYTES])
{
    static const uint8_t any[TF_KEY_BYTES] = {[0] = 8, [31] = 64}; /* no secret is made of it */
    uint8_t enc[TF_KEY_BYTES], out[TF_GCM_TAG_BYTES + 1];
    const struct tf_hpke_message message = {.text = tf_slice("", 1)};

    return tf_hpke_seal(TF_HPKE_AES_256_GCM, public_key, any, &message, enc, out) == 0;
}

int tf_auditor_parse(struct tf_slice pem, uint8_t public_key[TF_KEY_BYTES])
{
    BIO *bio = pem.size > INT32_MAX ? NULL : BIO_new_mem_buf(pem.data, (int)pem.size);
    EVP_PKEY *key = bio == NULL ? NULL : PEM_read_bio_PUBKEY(bio, NULL, NULL, NULL);
    size_t size = TF_KEY_BYTES;
    bool ok = key != NULL && EVP_PKEY_get_base_id(key) == EVP_PKEY_X25519 &&
              EVP_PKEY_get_raw_public_key(key, public_key, &size) == 1 && size == TF_KEY_BYTES &&
              is_usable(public_key);

    EVP_PKEY_free(key);
    BIO_free(bio);
    ERR_clear_error();
    return ok ? 0 : -EPROTO;
}

struct asked {
    struct tf_slice passphrase;
    bool was_asked;
};

static int on_passphrase(char *text, int size, int writing, void *arg)
{
    struct asked *asked = arg;

    (void)writing;
    asked->was_asked = true;
    if (asked->passphrase.data == NULL || asked->passphrase.size > (size_t)size) {
        return -1;
    }
    memcpy(text, asked->passphrase.data, asked->passphrase.size);
    return (int)asked->passphrase.size;
}

int tf_private_parse(struct tf_slice pem, struct tf_slice passphrase, struct tf_private_key *out)
{
    struct asked asked = {.passphrase = passphrase};
    BIO *bio = pem.size > INT32_MAX ? NULL : BIO_new_mem_buf(pem.data, (int)pem.size);
    EVP_PKEY *key = bio == NULL ? NULL : PEM_read_bio_PrivateKey(bio, NULL, on_passphrase, &asked);
    size_t size = TF_KEY_BYTES;
    int rc = key == NULL ? (asked.was_asked ? -EACCES : -EPROTO) : 0;

    if (rc == 0 &&
        (EVP_PKEY_get_base_id(key) != EVP_PKEY_X25519 ||
         EVP_PKEY_get_raw_private_key(key, out->key, &size) != 1 || size != TF_KEY_BYTES)) {
        rc = -EPROTO;
    }
    if (rc == 0) {
        rc = tf_x25519_public(out->key, out->public_key);
    }
    if (rc == 0) {
        rc = tf_recipient_id(out->public_key, out->id);
    }
    EVP_PKEY_free(key);
    BIO_free(bio);
    ERR_clear_error();
    return rc;
}
