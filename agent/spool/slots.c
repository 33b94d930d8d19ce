/*
 * slots.c - the key slots of a segment: its DEK, wrapped for whoever may read it.
 *
 * A KEK's slot is AES-256-KW under a key derived from the KEK, the segment's id and its number; no
 * nonce can go wrong. What comes out is bound by dek_id in sector 0, compared in constant time: a
 * slot that was moved here, or another key's, is an error, never another text. A recipient's slot
 * is HPKE to the auditor's key (hpke.c), bound to all of sector 0. Formulas: docs/spool-format.md.
 * When slots are rewritten: rewrap.c.
 */
#include "internal.h"

#include <errno.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/rand.h>

#define WRAPPED_BYTES         40u
#define RECIPIENT_LABEL_BYTES sizeof recipient_label /* with its NUL */

static const char recipient_label[] = "taffrail/1 recipient";

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

static int wrap_for_kek(const struct tf_kek *kek, const struct tf_sector0 *sector,
                        const uint8_t dek[TF_KEY_BYTES], struct tf_key_slot *slot)
{
    uint8_t kw[TF_KEY_BYTES];
    int rc = wrapping_key(kek, sector, kw);

    *slot = (struct tf_key_slot){.kind = TF_SLOT_KEK};
    memcpy(slot->key_id, kek->id, TF_KEY_ID_BYTES);
    if (rc == 0) {
        rc = key_wrap(kw, true, dek, TF_KEY_BYTES, slot->wrapped);
    }
    OPENSSL_cleanse(kw, sizeof kw);
    return rc;
}

/* info of the recipient's slot: label ‖ H(sector 0). */
static int recipient_info(const struct tf_sector0 *sector,
                          uint8_t info[RECIPIENT_LABEL_BYTES + TF_DIGEST_BYTES])
{
    uint8_t raw[TF_SECTOR_BYTES];
    struct tf_slice whole = tf_slice(raw, sizeof raw);

    tf_sector0_encode(sector, raw);
    memcpy(info, recipient_label, RECIPIENT_LABEL_BYTES);
    return tf_sha256(&whole, 1, info + RECIPIENT_LABEL_BYTES);
}

static int wrap_for_auditor(const struct tf_keyring *ring, const struct tf_sector0 *sector,
                            const uint8_t dek[TF_KEY_BYTES], struct tf_key_slot *slot)
{
    uint8_t info[RECIPIENT_LABEL_BYTES + TF_DIGEST_BYTES], fresh[TF_KEY_BYTES];
    struct tf_hpke_message message = {.info = tf_slice(info, sizeof info),
                                      .text = tf_slice(dek, TF_KEY_BYTES)};
    int rc = RAND_priv_bytes(fresh, sizeof fresh) == 1 ? 0 : -EIO;

    *slot = (struct tf_key_slot){.kind = TF_SLOT_RECIPIENT};
    memcpy(slot->key_id, ring->auditor_id, TF_KEY_ID_BYTES);
    if (rc == 0) {
        rc = recipient_info(sector, info);
    }
    if (rc == 0) {
        rc = tf_hpke_seal(TF_HPKE_AES_256_GCM, ring->auditor, fresh, &message, slot->enc,
                          slot->wrapped);
    }
    OPENSSL_cleanse(fresh, sizeof fresh);
    return rc;
}

int tf_dek_new(const struct tf_keyring *ring, struct tf_sector0 *sector,
               struct tf_key_slot slots[TF_SEGMENT_SLOTS], struct tf_frame_keys *keys)
{
    uint8_t dek[TF_KEY_BYTES];
    int rc = RAND_priv_bytes(dek, sizeof dek) == 1 ? 0 : -EIO;

    if (rc == 0) {
        rc = dek_id(dek, sector, sector->dek_id);
    }
    if (rc == 0) {
        rc = wrap_for_kek(&ring->keks[0], sector, dek, &slots[0]);
    }
    if (rc == 0 && ring->has_auditor) {
        rc = wrap_for_auditor(ring, sector, dek, &slots[1]);
    }
    if (rc == 0) {
        rc = derive(dek, sector, keys);
    }
    OPENSSL_cleanse(dek, sizeof dek);
    return rc;
}

static int unwrap_by_kek(const struct tf_kek *kek, const struct tf_sector0 *sector,
                         const struct tf_key_slot *slot, uint8_t dek[TF_KEY_BYTES + 8])
{
    uint8_t kw[TF_KEY_BYTES];
    int rc = wrapping_key(kek, sector, kw);

    if (rc == 0) {
        rc = key_wrap(kw, false, slot->wrapped, WRAPPED_BYTES, dek);
    }
    OPENSSL_cleanse(kw, sizeof kw);
    return rc;
}

static int unwrap_by_private(const struct tf_private_key *key, const struct tf_sector0 *sector,
                             const struct tf_key_slot *slot, uint8_t dek[TF_KEY_BYTES + 8])
{
    uint8_t info[RECIPIENT_LABEL_BYTES + TF_DIGEST_BYTES];
    struct tf_hpke_message message = {.info = tf_slice(info, sizeof info),
                                      .text = tf_slice(slot->wrapped, sizeof slot->wrapped)};
    int rc = recipient_info(sector, info);

    return rc == 0 ? tf_hpke_open(TF_HPKE_AES_256_GCM, key->key, slot->enc, &message, dek) : rc;
}

/* Tries one slot with whatever fits it by id. 0: opened; -ENOKEY: nothing fits; other: it does not
 * open, or not to this segment's DEK. */
static int open_slot(const struct tf_keyring *ring, const struct tf_sector0 *sector,
                     const struct tf_key_slot *slot, uint8_t dek[TF_KEY_BYTES + 8])
{
    uint8_t id[TF_DIGEST_BYTES];
    int rc = -ENOKEY;

    for (uint32_t i = 0; slot->kind == TF_SLOT_KEK && rc != 0 && i < ring->count; i++) {
        if (memcmp(slot->key_id, ring->keks[i].id, TF_KEY_ID_BYTES) == 0) {
            rc = unwrap_by_kek(&ring->keks[i], sector, slot, dek);
        }
    }
    for (uint32_t i = 0; slot->kind == TF_SLOT_RECIPIENT && rc != 0 && i < ring->private_count;
         i++) {
        if (memcmp(slot->key_id, ring->privates[i].id, TF_KEY_ID_BYTES) == 0) {
            rc = unwrap_by_private(&ring->privates[i], sector, slot, dek);
        }
    }
    if (rc == 0) {
        rc = dek_id(dek, sector, id);
    }
    return rc == 0 && CRYPTO_memcmp(id, sector->dek_id, sizeof id) != 0 ? -EBADMSG : rc;
}

static int open_dek(const struct tf_keyring *ring, const struct tf_sector0 *sector,
                    const uint8_t *slots, uint8_t dek[TF_KEY_BYTES + 8])
{
    bool sound = false, tried = false;

    for (uint32_t i = 0; i < TF_SEGMENT_SLOTS; i++) {
        struct tf_key_slot slot;
        int rc;

        if (tf_key_slot_decode(slots + (size_t)i * TF_SECTOR_BYTES, &slot) < 0 ||
            slot.kind == TF_SLOT_EMPTY) {
            continue;
        }
        sound = true;
        rc = open_slot(ring, sector, &slot, dek);
        if (rc == 0) {
            return 0;
        }
        tried |= rc != -ENOKEY;
    }
    return sound && !tried ? -ENOKEY : -EPROTO;
}

int tf_dek_open(const struct tf_keyring *ring, const struct tf_sector0 *sector,
                const uint8_t *slots, struct tf_frame_keys *keys)
{
    uint8_t dek[TF_KEY_BYTES + 8];
    int rc = open_dek(ring, sector, slots, dek);

    if (rc == 0) {
        rc = derive(dek, sector, keys);
    }
    OPENSSL_cleanse(dek, sizeof dek);
    return rc;
}

int tf_dek_rewrap(const struct tf_keyring *ring, const struct tf_sector0 *sector,
                  const uint8_t *slots, struct tf_key_slot *out)
{
    uint8_t dek[TF_KEY_BYTES + 8];
    int rc = open_dek(ring, sector, slots, dek);

    if (rc == 0) {
        rc = wrap_for_kek(&ring->keks[0], sector, dek, out);
    }
    OPENSSL_cleanse(dek, sizeof dek);
    return rc;
}

struct tf_slots_found tf_slots_look(const struct tf_keyring *ring, const uint8_t *slots)
{
    struct tf_slots_found found = {.kek = TF_KEK_NONE};

    for (uint32_t i = 0; i < TF_SEGMENT_SLOTS; i++) {
        struct tf_key_slot slot;

        if (tf_key_slot_decode(slots + (size_t)i * TF_SECTOR_BYTES, &slot) < 0) {
            continue;
        }
        found.has_recipient |= slot.kind == TF_SLOT_RECIPIENT;
        if (slot.kind != TF_SLOT_KEK) {
            continue;
        }
        found.kek = found.kek == TF_KEK_NONE ? TF_KEK_UNKNOWN : found.kek;
        found.has_old_kek |= memcmp(slot.key_id, ring->keks[0].id, TF_KEY_ID_BYTES) != 0;
        memcpy(found.unknown_id, slot.key_id, TF_KEY_ID_BYTES); /* as long as kek is unknown */
        for (uint8_t k = 0; k < ring->count && k < found.kek; k++) {
            if (memcmp(slot.key_id, ring->keks[k].id, TF_KEY_ID_BYTES) == 0) {
                found.kek = k;
            }
        }
    }
    return found;
}
