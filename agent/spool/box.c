/*
 * box.c - small files of other rooms, sealed under the spool's key.
 *
 * What a room keeps beside the frames (the labels of pods) is as foreign and as secret as what is
 * in them, so it is not kept in clear either. A box is for one purpose, a fixed word; a text that
 * was sealed for another does not open. Integers little-endian:
 *
 *     offset  bytes  field
 *          0      4  magic   "TFB1"
 *          4     16  salt    random
 *         20     12  nonce   random
 *         32      n  text    AES-256-GCM, with magic, salt and nonce as associated data
 *       32+n     16  tag
 *
 * Each text has a key of its own, HKDF-Expand(K, label ‖ salt), so that many machines may share the
 * spool's key; K is HKDF-Expand(KEK, label ‖ purpose). The first key of spool.keys seals; any of
 * them opens, so that a key may be replaced. Not here: the file.
 */
#include "internal.h"

#include <errno.h>
#include <stdlib.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/rand.h>

#define SALT_AT    4u
#define SALT_BYTES 16u
#define NONCE_AT   20u
#define TEXT_AT    32u
#define TAG_BYTES  16u

static const char magic[4] = {'T', 'F', 'B', '1'};

/* In the secure heap; only read once it is made. */
struct tf_box {
    uint32_t count; /* the first seals */
    uint8_t keys[TF_SPOOL_KEYS_MAX][TF_KEY_BYTES];
};

struct tf_box *tf_box_new(const struct tf_spool *spool, const char *purpose)
{
    struct tf_slice info[] = {TF_LABEL("taffrail/1 box"), tf_slice_text(purpose)};
    struct tf_box *box = tf_secure_new(sizeof *box);
    int rc = box != NULL ? 0 : -ENOMEM;

    for (uint32_t i = 0; rc == 0 && i < spool->ring->count; i++) {
        rc = tf_expand(spool->ring->keks[i].key, info, TF_COUNT(info), box->keys[i]);
        box->count++;
    }
    if (rc < 0) {
        tf_box_free(box);
        return NULL;
    }
    return box;
}

void tf_box_free(struct tf_box *box)
{
    tf_secure_free(box, sizeof *box);
}

/* A cipher that has taken the head in; NULL: it cannot be made. */
static EVP_CIPHER_CTX *begin(const uint8_t key[TF_KEY_BYTES], const uint8_t head[TEXT_AT],
                             bool is_sealing)
{
    struct tf_slice info[] = {TF_LABEL("taffrail/1 box text"),
                              tf_slice(head + SALT_AT, SALT_BYTES)};
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    uint8_t own[TF_DIGEST_BYTES];
    int size = 0;
    bool ok =
        ctx != NULL && tf_expand(key, info, TF_COUNT(info), own) == 0 &&
        EVP_CipherInit_ex(ctx, EVP_aes_256_gcm(), NULL, own, head + NONCE_AT, is_sealing) == 1 &&
        EVP_CipherUpdate(ctx, NULL, &size, head, TEXT_AT) == 1;

    OPENSSL_cleanse(own, sizeof own);
    if (!ok) {
        EVP_CIPHER_CTX_free(ctx);
        return NULL;
    }
    return ctx;
}

/* sealed begins with the head; what is behind it is written. */
static bool seal(const uint8_t key[TF_KEY_BYTES], struct tf_slice text, uint8_t *sealed)
{
    EVP_CIPHER_CTX *ctx = begin(key, sealed, true);
    uint8_t *to = sealed + TEXT_AT;
    int size = 0;
    bool ok = ctx != NULL &&
              EVP_CipherUpdate(ctx, to, &size, (const uint8_t *)text.data, (int)text.size) == 1 &&
              EVP_CipherFinal_ex(ctx, to + text.size, &size) == 1 &&
              EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_GCM_GET_TAG, TAG_BYTES, to + text.size) == 1;

    EVP_CIPHER_CTX_free(ctx);
    return ok;
}

static bool open_by(const uint8_t key[TF_KEY_BYTES], const uint8_t *sealed, size_t text_bytes,
                    uint8_t *to)
{
    EVP_CIPHER_CTX *ctx = begin(key, sealed, false);
    uint8_t tag[TAG_BYTES];
    int size = 0;
    bool ok;

    memcpy(tag, sealed + TEXT_AT + text_bytes, TAG_BYTES);
    ok = ctx != NULL && EVP_CipherUpdate(ctx, to, &size, sealed + TEXT_AT, (int)text_bytes) == 1 &&
         EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_GCM_SET_TAG, TAG_BYTES, tag) == 1 &&
         EVP_CipherFinal_ex(ctx, to + text_bytes, &size) == 1;
    EVP_CIPHER_CTX_free(ctx);
    return ok;
}

int tf_box_seal(const struct tf_box *box, struct tf_slice text, struct tf_buf *out)
{
    uint8_t *sealed;
    int rc = text.size <= TF_BOX_TEXT_MAX ? 0 : -EMSGSIZE;

    if (rc == 0) {
        rc = tf_buf_reserve(out, TEXT_AT + text.size + TAG_BYTES);
    }
    if (rc < 0) {
        return rc;
    }
    sealed = (uint8_t *)out->data + out->size;
    memcpy(sealed, magic, sizeof magic);
    if (RAND_bytes(sealed + SALT_AT, TEXT_AT - SALT_AT) != 1 || !seal(box->keys[0], text, sealed)) {
        return -EIO;
    }
    out->size += TEXT_AT + text.size + TAG_BYTES;
    return 0;
}

int tf_box_open(const struct tf_box *box, struct tf_slice sealed, struct tf_buf *out)
{
    size_t text_bytes;
    bool is_open = false;
    int rc;

    if (sealed.size < TEXT_AT + TAG_BYTES || memcmp(sealed.data, magic, sizeof magic) != 0 ||
        sealed.size - TEXT_AT - TAG_BYTES > TF_BOX_TEXT_MAX) {
        return -EPROTO;
    }
    text_bytes = sealed.size - TEXT_AT - TAG_BYTES;
    rc = tf_buf_reserve(out, text_bytes);
    for (uint32_t i = 0; rc == 0 && !is_open && i < box->count; i++) {
        is_open = open_by(box->keys[i], (const uint8_t *)sealed.data, text_bytes,
                          (uint8_t *)out->data + out->size);
    }
    if (rc == 0 && !is_open) {
        OPENSSL_cleanse(out->data + out->size, text_bytes);
        return -EBADMSG;
    }
    out->size += rc == 0 ? text_bytes : 0;
    return rc;
}
