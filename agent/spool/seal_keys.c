/*
 * seal_keys.c - the first key of a seal, its successors, and the MACs they make.
 *
 * K_0 is random; K_{s+1} is derived from K_s one way, and K_s is wiped: whoever takes the machine
 * over after seal s cannot make another seal s or an earlier one. The holder of K_0 makes them all,
 * and so checks them all. docs/spool-format.md, section Seal.
 */
#include "seal.h"

#include <errno.h>

#include <openssl/crypto.h>
#include <openssl/rand.h>

#define MAC_HEADER_BYTES 40u

int tf_seal_key_id(struct tf_seal_key *key)
{
    struct tf_slice info = TF_LABEL("taffrail/1 seal id");
    uint8_t full[TF_DIGEST_BYTES];
    int rc;

    assert(key->number == 0);
    rc = tf_expand(key->key, &info, 1, full);
    if (rc == 0) {
        memcpy(key->id, full, TF_SEAL_ID_BYTES);
    }
    return rc;
}

int tf_seal_key_new(const uint8_t spool_id[TF_SPOOL_ID_BYTES], struct tf_seal_key *out)
{
    *out = (struct tf_seal_key){0};
    memcpy(out->spool_id, spool_id, TF_SPOOL_ID_BYTES);
    if (RAND_priv_bytes(out->key, TF_KEY_BYTES) != 1) {
        return -EIO;
    }
    return tf_seal_key_id(out);
}

int tf_seal_key_next(struct tf_seal_key *key)
{
    struct tf_slice info = TF_LABEL("taffrail/1 seal next");
    uint8_t next[TF_DIGEST_BYTES];
    int rc = tf_expand(key->key, &info, 1, next);

    if (rc == 0) {
        memcpy(key->key, next, TF_KEY_BYTES);
        key->number++;
    }
    OPENSSL_cleanse(next, sizeof next);
    return rc;
}

int tf_seal_mac(const struct tf_seal_key *key, const uint8_t segment_id[16],
                const uint8_t raw[TF_FRAME_HEADER_BYTES], struct tf_slice content,
                uint8_t mac[TF_DIGEST_BYTES])
{
    struct tf_slice info = TF_LABEL("taffrail/1 seal mac");
    struct tf_slice parts[] = {TF_LABEL("taffrail/1 seal"),
                               tf_slice(key->spool_id, TF_SPOOL_ID_BYTES), tf_slice(segment_id, 16),
                               tf_slice(raw, MAC_HEADER_BYTES), content};
    uint8_t mac_key[TF_DIGEST_BYTES];
    int rc = tf_expand(key->key, &info, 1, mac_key);

    if (rc == 0) {
        rc = tf_hmac(mac_key, sizeof mac_key, parts, TF_COUNT(parts), mac);
    }
    OPENSSL_cleanse(mac_key, sizeof mac_key);
    return rc;
}
