/*
 * slots.c - the key slots of a segment: its DEK, wrapped for whoever may read it.
 *
 * A KEK's slot is AES-256-KW under a key derived from the KEK, the segment's id and its number; no
 * nonce can go wrong. What comes out is bound by dek_id in sector 0, compared in constant time: a
 * slot that was moved here, or another key's, is an error, never another text. Formulas:
 * docs/spool-format.md. When slots are rewritten: rewrap.c.
 */
#include "internal.h"

#include <errno.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/rand.h>

#define WRAPPED_BYTES 40u

/* Kw = HKDF(salt = segment_id, ikm = KEK, info = label, spool_id, segment_no). */
static int wrapping_key(const struct tf_kek *kek, const struct tf_sector0 *sector,
                        uint8_t out[TF_KEY_BYTES])
{
    uint8_t number[8];
    uint8_t prk[TF_DIGEST_BYTES];
    struct tf_slice ikm = tf_slice(kek->key, TF_KEY_BYTES);
    struct tf_slice info[] = {TF_LABEL("taffrail/1 kek wrap"), tf_slice(sector->spool_id, 16),
                              tf_slice(number, 8)};
    int rc;

    tf_store64(number, sector->segment_no);
    rc = tf_hmac(sector->segment_id, 16, &ikm, 1, prk);
    if (rc == 0) {
        rc = tf_expand(prk, info, TF_COUNT(info), out);
    }
    OPENSSL_cleanse(prk, sizeof prk);
    return rc;
}

/* AES-256-KW (RFC 3394), either way. -EBADMSG when unwrapping finds another key's work. */
static int key_wrap(const uint8_t kw[TF_KEY_BYTES], bool wrap, const uint8_t *in, int in_size,
                    uint8_t *out)
{
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    int size = 0, more = 0;
    bool ok;

    if (ctx == NULL) {
        return -ENOMEM;
    }
    EVP_CIPHER_CTX_set_flags(ctx, EVP_CIPHER_CTX_FLAG_WRAP_ALLOW);
    ok = EVP_CipherInit_ex(ctx, EVP_aes_256_wrap(), NULL, kw, NULL, wrap) == 1 &&
         EVP_CipherUpdate(ctx, out, &size, in, in_size) == 1 &&
         EVP_CipherFinal_ex(ctx, out + size, &more) == 1;
    EVP_CIPHER_CTX_free(ctx);
    if (!ok) {
        return wrap ? -EIO : -EBADMSG;
    }
    return size + more == (wrap ? (int)WRAPPED_BYTES : (int)TF_KEY_BYTES) ? 0 : -EBADMSG;
}

static int dek_id(const uint8_t dek[TF_KEY_BYTES], const struct tf_sector0 *sector,
                  uint8_t out[TF_DIGEST_BYTES])
{
    struct tf_slice info[] = {TF_LABEL("taffrail/1 dek id"), tf_slice(sector->segment_id, 16)};

    return tf_expand(dek, info, TF_COUNT(info), out);
}

static int derive(const uint8_t dek[TF_KEY_BYTES], const struct tf_sector0 *sector,
                  struct tf_frame_keys *keys)
{
    struct tf_slice frame_key = TF_LABEL("taffrail/1 frame key");
    struct tf_slice frame_nonce = TF_LABEL("taffrail/1 frame nonce");
    int rc = tf_expand(dek, &frame_key, 1, keys->ke);

    if (rc == 0) {
        rc = tf_expand(dek, &frame_nonce, 1, keys->kn);
    }
    memcpy(keys->spool_id, sector->spool_id, 16);
    memcpy(keys->segment_id, sector->segment_id, 16);
    return rc;
}

int tf_dek_new(const struct tf_kek *kek, struct tf_sector0 *sector, struct tf_key_slot *slot,
               struct tf_frame_keys *keys)
{
    uint8_t dek[TF_KEY_BYTES], kw[TF_KEY_BYTES];
    int rc = RAND_priv_bytes(dek, sizeof dek) == 1 ? 0 : -EIO;

    *slot = (struct tf_key_slot){.kind = TF_SLOT_KEK};
    memcpy(slot->key_id, kek->id, TF_KEY_ID_BYTES);
    if (rc == 0) {
        rc = dek_id(dek, sector, sector->dek_id);
    }
    if (rc == 0) {
        rc = wrapping_key(kek, sector, kw);
    }
    if (rc == 0) {
        rc = key_wrap(kw, true, dek, sizeof dek, slot->wrapped);
    }
    if (rc == 0) {
        rc = derive(dek, sector, keys);
    }
    OPENSSL_cleanse(dek, sizeof dek);
    OPENSSL_cleanse(kw, sizeof kw);
    return rc;
}

static int open_slot(const struct tf_kek *kek, const struct tf_sector0 *sector,
                     const struct tf_key_slot *slot, struct tf_frame_keys *keys)
{
    uint8_t dek[TF_KEY_BYTES + 8], kw[TF_KEY_BYTES], id[TF_DIGEST_BYTES];
    int rc = wrapping_key(kek, sector, kw);

    if (rc == 0) {
        rc = key_wrap(kw, false, slot->wrapped, WRAPPED_BYTES, dek);
    }
    if (rc == 0) {
        rc = dek_id(dek, sector, id);
    }
    if (rc == 0 && CRYPTO_memcmp(id, sector->dek_id, sizeof id) != 0) {
        rc = -EBADMSG;
    }
    if (rc == 0) {
        rc = derive(dek, sector, keys);
    }
    OPENSSL_cleanse(dek, sizeof dek);
    OPENSSL_cleanse(kw, sizeof kw);
    return rc;
}

int tf_dek_open(const struct tf_keyring *ring, const struct tf_sector0 *sector,
                const uint8_t *slots, struct tf_frame_keys *keys)
{
    bool sound = false, tried = false;

    for (uint32_t i = 0; i < TF_SEGMENT_SLOTS; i++) {
        struct tf_key_slot slot;

        if (tf_key_slot_decode(slots + (size_t)i * TF_SECTOR_BYTES, &slot) < 0 ||
            slot.kind == TF_SLOT_EMPTY) {
            continue;
        }
        sound = true;
        for (uint32_t k = 0; slot.kind == TF_SLOT_KEK && k < ring->count; k++) {
            if (memcmp(slot.key_id, ring->keks[k].id, TF_KEY_ID_BYTES) != 0) {
                continue;
            }
            if (open_slot(&ring->keks[k], sector, &slot, keys) == 0) {
                return 0;
            }
            tried = true;
        }
    }
    return sound && !tried ? -ENOKEY : -EPROTO;
}
