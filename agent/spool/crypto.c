/*
 * crypto.c - frames sealed and opened, the chain. See docs/spool-format.md.
 *
 * AES-256-GCM under a data key (DEK) of the segment's own; the nonce is a pseudo-random function of
 * the whole message (HMAC over AAD and meta, and meta holds the payload's digest D), so that no
 * crash, clone or restored backup repeats one with another text. Opening recomputes nonce and D:
 * what comes out is what went in, or -EBADMSG. Clear frames (seals, notices) are authenticated by
 * the same call without plaintext. Keys live in OpenSSL's secure heap and are wiped after use. Not
 * here: how a DEK is wrapped (slots.c).
 */
#include "seal.h"

#include <assert.h>
#include <errno.h>

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/params.h>

#define AAD_HEADER_BYTES  40u
#define LEAF_HEADER_BYTES 52u
#define NONCE_AT          40u
#define DURABLE_AT        52u
#define SECURE_HEAP_BYTES (256u << 10)
#define SECURE_HEAP_UNIT  32u
#define HMAC_PARTS_MAX    6u

void *tf_secure_new(size_t size)
{
    if (!CRYPTO_secure_malloc_initialized()) {
        (void)CRYPTO_secure_malloc_init(SECURE_HEAP_BYTES, SECURE_HEAP_UNIT);
    }
    return OPENSSL_secure_zalloc(size);
}

void tf_secure_free(void *memory, size_t size)
{
    OPENSSL_secure_clear_free(memory, size);
}

int tf_sha256(const struct tf_slice *parts, size_t count, uint8_t out[TF_DIGEST_BYTES])
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool ok = ctx != NULL && EVP_DigestInit_ex(ctx, EVP_sha256(), NULL) == 1;

    for (size_t i = 0; ok && i < count; i++) {
        ok = EVP_DigestUpdate(ctx, parts[i].data, parts[i].size) == 1;
    }
    ok = ok && EVP_DigestFinal_ex(ctx, out, NULL) == 1;
    EVP_MD_CTX_free(ctx);
    return ok ? 0 : -EIO;
}

int tf_hmac(const uint8_t *key, size_t key_size, const struct tf_slice *parts, size_t count,
            uint8_t out[TF_DIGEST_BYTES])
{
    char digest[] = "SHA256";
    OSSL_PARAM params[] = {OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
                           OSSL_PARAM_construct_end()};
    EVP_MAC *mac = EVP_MAC_fetch(NULL, "HMAC", NULL);
    EVP_MAC_CTX *ctx = mac == NULL ? NULL : EVP_MAC_CTX_new(mac);
    size_t size = 0;
    bool ok = ctx != NULL && EVP_MAC_init(ctx, key, key_size, params) == 1;

    for (size_t i = 0; ok && i < count; i++) {
        ok = EVP_MAC_update(ctx, (const uint8_t *)parts[i].data, parts[i].size) == 1;
    }
    ok = ok && EVP_MAC_final(ctx, out, &size, TF_DIGEST_BYTES) == 1 && size == TF_DIGEST_BYTES;
    EVP_MAC_CTX_free(ctx);
    EVP_MAC_free(mac);
    return ok ? 0 : -EIO;
}

int tf_expand(const uint8_t key[TF_KEY_BYTES], const struct tf_slice *info, size_t count,
              uint8_t out[TF_DIGEST_BYTES])
{
    struct tf_slice parts[HMAC_PARTS_MAX];

    assert(count < HMAC_PARTS_MAX);
    for (size_t i = 0; i < count; i++) {
        parts[i] = info[i];
    }
    parts[count] = tf_slice("\x01", 1);
    return tf_hmac(key, TF_KEY_BYTES, parts, count + 1, out);
}

int tf_kek_id(struct tf_kek *kek)
{
    struct tf_slice info = TF_LABEL("taffrail/1 kek id");
    uint8_t full[TF_DIGEST_BYTES];
    int rc = tf_expand(kek->key, &info, 1, full);

    if (rc == 0) {
        memcpy(kek->id, full, TF_KEY_ID_BYTES);
    }
    return rc;
}

static void aad_parts(const struct tf_frame_keys *keys, const uint8_t *header,
                      struct tf_slice parts[4])
{
    parts[0] = TF_LABEL("taffrail/1 frame");
    parts[1] = tf_slice(keys->spool_id, 16);
    parts[2] = tf_slice(keys->segment_id, 16);
    parts[3] = tf_slice(header, AAD_HEADER_BYTES);
}

static int frame_nonce(const struct tf_frame_keys *keys, const uint8_t *header,
                       struct tf_slice meta, uint8_t nonce[TF_NONCE_BYTES])
{
    struct tf_slice parts[6];
    uint8_t length[4], full[TF_DIGEST_BYTES];
    int rc;

    tf_store32(length, (uint32_t)meta.size);
    aad_parts(keys, header, parts);
    parts[4] = tf_slice(length, 4);
    parts[5] = meta;
    rc = tf_hmac(keys->kn, TF_KEY_BYTES, parts, TF_COUNT(parts), full);
    if (rc == 0) {
        memcpy(nonce, full, TF_NONCE_BYTES);
    }
    return rc;
}

/* The same over AAD and the content of a clear frame, which has no length before it. */
static int clear_nonce(const struct tf_frame_keys *keys, const uint8_t *header,
                       struct tf_slice content, uint8_t nonce[TF_NONCE_BYTES])
{
    struct tf_slice parts[5];
    uint8_t full[TF_DIGEST_BYTES];
    int rc;

    aad_parts(keys, header, parts);
    parts[4] = content;
    rc = tf_hmac(keys->kn, TF_KEY_BYTES, parts, TF_COUNT(parts), full);
    if (rc == 0) {
        memcpy(nonce, full, TF_NONCE_BYTES);
    }
    return rc;
}

/* Feeds bytes into a cipher; to is NULL for AAD. Sizes are far below INT_MAX. */
static bool cipher_update(EVP_CIPHER_CTX *ctx, uint8_t *to, struct tf_slice bytes)
{
    int size = 0;

    return bytes.size == 0 ||
           EVP_CipherUpdate(ctx, to, &size, (const uint8_t *)bytes.data, (int)bytes.size) == 1;
}

static EVP_CIPHER_CTX *cipher_begin(const struct tf_frame_keys *keys, const uint8_t *header,
                                    const uint8_t *nonce, bool encrypt)
{
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    struct tf_slice parts[4];
    bool ok = ctx != NULL &&
              EVP_CipherInit_ex(ctx, EVP_aes_256_gcm(), NULL, keys->ke, nonce, encrypt) == 1;

    aad_parts(keys, header, parts);
    for (size_t i = 0; ok && i < TF_COUNT(parts); i++) {
        ok = cipher_update(ctx, NULL, parts[i]);
    }
    if (!ok) {
        EVP_CIPHER_CTX_free(ctx);
        return NULL;
    }
    return ctx;
}

static int encrypt_body(const struct tf_frame_keys *keys, const struct tf_frame_header *header,
                        const uint8_t *raw, const struct tf_slice plain[3], uint8_t *body)
{
    EVP_CIPHER_CTX *ctx = cipher_begin(keys, raw, header->nonce, true);
    bool ok = ctx != NULL;
    int more = 0;

    for (size_t i = 0; ok && i < 3; i++) {
        ok = cipher_update(ctx, body, plain[i]);
        body += plain[i].size;
    }
    ok = ok && EVP_CipherFinal_ex(ctx, body, &more) == 1 &&
         EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_GCM_GET_TAG, TF_GCM_TAG_BYTES, body) == 1;
    EVP_CIPHER_CTX_free(ctx);
    return ok ? 0 : -EIO;
}

int tf_leaf(const uint8_t segment_id[16], const uint8_t header[TF_FRAME_HEADER_BYTES],
            struct tf_slice body, uint8_t leaf[TF_DIGEST_BYTES])
{
    struct tf_slice parts[] = {TF_LABEL("taffrail/1 leaf"), tf_slice(segment_id, 16),
                               tf_slice(header, LEAF_HEADER_BYTES), body};

    return tf_sha256(parts, TF_COUNT(parts), leaf);
}

/* Leaf and checksum of a body that is in place behind raw; frame grows by the whole frame. */
static int close_body(const struct tf_frame_keys *keys, uint8_t *raw, size_t body_bytes,
                      struct tf_buf *frame, uint8_t leaf[TF_DIGEST_BYTES], uint32_t *body_crc)
{
    struct tf_slice body = tf_slice(raw + TF_FRAME_HEADER_BYTES, body_bytes);
    int rc = tf_leaf(keys->segment_id, raw, body, leaf);

    memset(raw + TF_FRAME_HEADER_BYTES + body_bytes, 0, TF_FRAME_TRAILER_BYTES);
    *body_crc = tf_crc32c(0, body.data, body.size);
    if (rc == 0) {
        frame->size += TF_FRAME_HEADER_BYTES + body_bytes + TF_FRAME_TRAILER_BYTES;
    }
    return rc;
}

int tf_frame_seal(const struct tf_frame_keys *keys, struct tf_frame_header *header,
                  struct tf_slice meta, struct tf_slice payload, struct tf_buf *frame,
                  uint8_t leaf[TF_DIGEST_BYTES], uint32_t *body_crc)
{
    uint8_t length[4] = {0};
    struct tf_slice plain[3] = {tf_slice(length, 4), meta, payload};
    size_t body_bytes = 4 + meta.size + payload.size + TF_GCM_TAG_BYTES;
    uint8_t *raw;
    int rc;

    if (meta.size > TF_META_MAX || payload.size > TF_BODY_MAX || body_bytes > TF_BODY_MAX) {
        return -EMSGSIZE;
    }
    rc = tf_buf_reserve(frame, TF_FRAME_HEADER_BYTES + body_bytes + TF_FRAME_TRAILER_BYTES);
    if (rc < 0) {
        return rc;
    }
    raw = (uint8_t *)frame->data + frame->size;
    tf_store32(length, (uint32_t)meta.size);
    header->body_bytes = (uint32_t)body_bytes;
    memset(header->nonce, 0, TF_NONCE_BYTES);
    tf_frame_header_encode(header, raw);
    rc = frame_nonce(keys, raw, meta, header->nonce);
    if (rc == 0) {
        tf_frame_header_encode(header, raw);
        rc = encrypt_body(keys, header, raw, plain, raw + TF_FRAME_HEADER_BYTES);
    }
    return rc == 0 ? close_body(keys, raw, body_bytes, frame, leaf, body_crc) : rc;
}

/* GMAC over AAD and content; tag has room for it. */
static int make_tag(const struct tf_frame_keys *keys, const uint8_t *raw, struct tf_slice content,
                    uint8_t *tag)
{
    EVP_CIPHER_CTX *ctx = cipher_begin(keys, raw, raw + NONCE_AT, true);
    uint8_t nothing[TF_GCM_TAG_BYTES];
    int more = 0;
    bool ok = ctx != NULL && cipher_update(ctx, NULL, content) &&
              EVP_CipherFinal_ex(ctx, nothing, &more) == 1 &&
              EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_GCM_GET_TAG, TF_GCM_TAG_BYTES, tag) == 1;

    EVP_CIPHER_CTX_free(ctx);
    return ok ? 0 : -EIO;
}

int tf_frame_seal_clear(const struct tf_frame_keys *keys, struct tf_frame_header *header,
                        struct tf_slice content, struct tf_buf *frame,
                        uint8_t leaf[TF_DIGEST_BYTES], uint32_t *body_crc)
{
    size_t body_bytes = content.size + TF_GCM_TAG_BYTES;
    uint8_t *raw, *body;
    int rc;

    if (content.size > TF_META_MAX) {
        return -EMSGSIZE;
    }
    rc = tf_buf_reserve(frame, TF_FRAME_HEADER_BYTES + body_bytes + TF_FRAME_TRAILER_BYTES);
    if (rc < 0) {
        return rc;
    }
    raw = (uint8_t *)frame->data + frame->size;
    body = raw + TF_FRAME_HEADER_BYTES;
    header->body_bytes = (uint32_t)body_bytes;
    memset(header->nonce, 0, TF_NONCE_BYTES);
    tf_frame_header_encode(header, raw);
    rc = clear_nonce(keys, raw, content, header->nonce);
    if (rc == 0) {
        tf_frame_header_encode(header, raw);
        memcpy(body, content.data, content.size);
        rc = make_tag(keys, raw, content, body + content.size);
    }
    return rc == 0 ? close_body(keys, raw, body_bytes, frame, leaf, body_crc) : rc;
}

int tf_frame_finish(uint8_t *data, size_t size, uint64_t durable,
                    const uint8_t leaf[TF_DIGEST_BYTES], uint32_t body_crc,
                    uint8_t chain[TF_CHAIN_BYTES])
{
    uint8_t *trailer = data + size - TF_FRAME_TRAILER_BYTES;
    int rc = tf_chain_next(chain, leaf, durable);

    assert(size > TF_FRAME_HEADER_BYTES + TF_FRAME_TRAILER_BYTES);
    if (rc < 0) {
        return rc;
    }
    tf_store64(data + DURABLE_AT, durable);
    tf_store32(data + 60, tf_crc32c(0, data, 60));
    memcpy(trailer, chain, TF_CHAIN_BYTES);
    tf_store32(trailer + TF_CHAIN_BYTES, tf_crc32c(body_crc, chain, TF_CHAIN_BYTES));
    return 0;
}

static int decrypt_body(const struct tf_frame_keys *keys, const uint8_t *raw, struct tf_slice body,
                        struct tf_buf *plain)
{
    EVP_CIPHER_CTX *ctx = cipher_begin(keys, raw, raw + NONCE_AT, false);
    size_t size = body.size - TF_GCM_TAG_BYTES;
    int more = 0;
    bool ok = ctx != NULL &&
              cipher_update(ctx, (uint8_t *)plain->data, tf_slice(body.data, size)) &&
              EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_GCM_SET_TAG, TF_GCM_TAG_BYTES,
                                  (void *)(uintptr_t)(body.data + size)) == 1 &&
              EVP_CipherFinal_ex(ctx, (uint8_t *)plain->data + size, &more) == 1;

    EVP_CIPHER_CTX_free(ctx);
    if (!ok) {
        OPENSSL_cleanse(plain->data, size);
        return -EBADMSG;
    }
    plain->size = size;
    return 0;
}

int tf_frame_open(const struct tf_frame_keys *keys, const uint8_t raw[TF_FRAME_HEADER_BYTES],
                  struct tf_slice body, struct tf_buf *plain, struct tf_meta *meta,
                  struct tf_slice *payload)
{
    uint8_t nonce[TF_NONCE_BYTES], digest[TF_DIGEST_BYTES];
    struct tf_slice meta_bytes;
    int rc;

    if (body.size < TF_GCM_TAG_BYTES || body.size > TF_BODY_MAX) {
        return -EPROTO;
    }
    tf_buf_clear(plain);
    rc = tf_buf_reserve(plain, body.size);
    if (rc == 0) {
        rc = decrypt_body(keys, raw, body, plain);
    }
    if (rc == 0) {
        rc = tf_plain_decode(tf_buf_slice(plain), raw[4], meta, &meta_bytes, payload);
    }
    if (rc == 0) {
        rc = frame_nonce(keys, raw, meta_bytes, nonce);
    }
    if (rc == 0) {
        rc = tf_sha256(payload, 1, digest);
    }
    if (rc == 0 && (CRYPTO_memcmp(nonce, raw + NONCE_AT, sizeof nonce) != 0 ||
                    CRYPTO_memcmp(digest, meta->digest, sizeof digest) != 0)) {
        rc = -EBADMSG;
    }
    return rc;
}

int tf_frame_open_clear(const struct tf_frame_keys *keys, const uint8_t raw[TF_FRAME_HEADER_BYTES],
                        struct tf_slice body, struct tf_slice *content)
{
    uint8_t nonce[TF_NONCE_BYTES], tag[TF_GCM_TAG_BYTES];
    struct tf_slice bytes;
    int rc;

    if (body.size < TF_GCM_TAG_BYTES || body.size > TF_META_MAX) {
        return -EBADMSG;
    }
    bytes = tf_slice(body.data, body.size - TF_GCM_TAG_BYTES);
    rc = clear_nonce(keys, raw, bytes, nonce);
    if (rc == 0) {
        rc = make_tag(keys, raw, bytes, tag);
    }
    if (rc == 0 && (CRYPTO_memcmp(nonce, raw + NONCE_AT, sizeof nonce) != 0 ||
                    CRYPTO_memcmp(tag, body.data + bytes.size, sizeof tag) != 0)) {
        rc = -EBADMSG;
    }
    if (rc == 0) {
        *content = bytes;
    }
    return rc;
}

int tf_chain_open(uint8_t chain[TF_CHAIN_BYTES], const uint8_t sector0[TF_SECTOR_BYTES])
{
    uint8_t digest[TF_DIGEST_BYTES];
    struct tf_slice sector = tf_slice(sector0, TF_SECTOR_BYTES);
    struct tf_slice parts[] = {TF_LABEL("taffrail/1 open"), tf_slice(chain, TF_CHAIN_BYTES),
                               tf_slice(digest, sizeof digest)};
    int rc = tf_sha256(&sector, 1, digest);

    return rc == 0 ? tf_sha256(parts, TF_COUNT(parts), chain) : rc;
}

int tf_chain_next(uint8_t chain[TF_CHAIN_BYTES], const uint8_t leaf[TF_DIGEST_BYTES],
                  uint64_t durable)
{
    uint8_t mark[8];
    struct tf_slice parts[] = {TF_LABEL("taffrail/1 chain"), tf_slice(chain, TF_CHAIN_BYTES),
                               tf_slice(leaf, TF_DIGEST_BYTES), tf_slice(mark, 8)};

    tf_store64(mark, durable);
    return tf_sha256(parts, TF_COUNT(parts), chain);
}
