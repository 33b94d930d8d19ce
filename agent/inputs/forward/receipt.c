/*
 * receipt.c - the key that signs receipts, and when one goes with an ack (docs/protocol.md, section
 * 6).
 *
 * The key is Ed25519, PEM (PKCS#8), in SPOOL.receipt-key beside the spool: made at the first start
 * with a forward input, under another name first and linked, so that one that exists is whole and
 * none is ever replaced. It is judged as all files with a secret; a wrong one is an error, since
 * receipts by another key would pass for another collector's. A passphrase is never asked for.
 *
 * A receipt goes to senders whose frames have names, with the ack of a durable frame: the first of
 * a connection, then one a second, and whenever nothing is owed any more, so that the last frame
 * before a silence has one. It names what names.c says. Signing (some 40 us) runs on the loop.
 */
#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/sha.h>

#define SUFFIX         ".receipt-key"
#define FILE_MAX_BYTES 4096
#define EVERY_MS       1000u

struct receipt_key {
    EVP_PKEY *pkey;
    uint8_t public_key[TF_RECEIPT_KEY_BYTES];
    uint8_t fingerprint[TF_RECEIPT_DIGEST_BYTES];
    uint64_t counter; /* receipts signed by this process */
};

/* ---- the file ------------------------------------------------------------------------------- */

/* An encrypted key must not make OpenSSL ask at a terminal. */
static int no_passphrase(char *buf, int size, int writing, void *ctx)
{
    (void)buf;
    (void)size;
    (void)writing;
    (void)ctx;
    return -1;
}

/* The key in an open file, or NULL. */
static EVP_PKEY *read_pem(int fd)
{
    char text[FILE_MAX_BYTES];
    ssize_t size = read(fd, text, sizeof text);
    BIO *bio = size <= 0 ? NULL : BIO_new_mem_buf(text, (int)size);
    EVP_PKEY *pkey = bio == NULL ? NULL : PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, NULL);

    BIO_free(bio);
    OPENSSL_cleanse(text, sizeof text);
    ERR_clear_error();
    if (pkey != NULL && EVP_PKEY_get_id(pkey) != EVP_PKEY_ED25519) {
        EVP_PKEY_free(pkey);
        pkey = NULL;
    }
    return pkey;
}

static int write_pem(int fd, EVP_PKEY *pkey)
{
    BIO *bio = BIO_new(BIO_s_secmem());
    char *text = NULL;
    long size;
    ssize_t n;
    int rc = -EIO;

    if (bio != NULL && PEM_write_bio_PKCS8PrivateKey(bio, pkey, NULL, NULL, 0, NULL, NULL) == 1) {
        size = BIO_get_mem_data(bio, &text);
        n = size <= 0 ? -1 : write(fd, text, (size_t)size);
        rc = n == size ? 0 : n < 0 ? -errno : -ENOSPC;
    }
    BIO_free(bio);
    ERR_clear_error();
    return rc == 0 && fsync(fd) < 0 ? -errno : rc;
}

/* Syncs the folder that file is in, so that its name lasts. */
static int sync_folder(const char *file)
{
    const char *slash = strrchr(file, '/');
    char *folder = slash == NULL ? strdup(".") : strndup(file, (size_t)(slash - file) + 1);
    int fd = folder == NULL ? -1 : open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int rc = folder == NULL ? -ENOMEM : fd < 0 || fsync(fd) < 0 ? -errno : 0;

    free(folder);
    if (fd >= 0) {
        (void)close(fd);
    }
    return rc;
}

static int make_file(const char *file)
{
    char fresh[PATH_MAX];
    int n = snprintf(fresh, sizeof fresh, "%s.new", file);
    EVP_PKEY *pkey;
    int fd, rc;

    if (n < 0 || (size_t)n >= sizeof fresh) {
        return -ENAMETOOLONG;
    }
    pkey = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    if (pkey == NULL) {
        ERR_clear_error();
        return -EIO;
    }
    (void)unlink(fresh); /* of a start that was killed here; nothing was signed with it */
    fd = open(fresh, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    rc = fd < 0 ? -errno : write_pem(fd, pkey);
    EVP_PKEY_free(pkey);
    if (fd >= 0) {
        (void)close(fd);
    }
    if (rc == 0 && link(fresh, file) < 0) { /* unlike rename, never replaces a key */
        rc = -errno;
    }
    if (fd >= 0) {
        (void)unlink(fresh);
    }
    return rc == 0 ? sync_folder(file) : rc;
}

static int load_file(const char *file, const struct tf_place *at, EVP_PKEY **out,
                     struct tf_error *err)
{
    char reason[64];
    int fd = open(file, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    int rc;

    if (fd < 0) {
        return tf_error_add(err, at, "receipt key \"%s\": %s", file,
                            uv_strerror_r(-errno, reason, sizeof reason));
    }
    rc = tf_secret_file_check(fd, file, at, err);
    if (rc == 0) {
        *out = read_pem(fd);
        if (*out == NULL) {
            rc = tf_error_add(err, at,
                              "receipt key \"%s\" is not an Ed25519 key in PEM without passphrase; "
                              "put the right one back, or move it away and a new one is made",
                              file);
        }
    }
    (void)close(fd);
    return rc;
}

/* ---- open ----------------------------------------------------------------------------------- */

/* "SPOOL.receipt-key"; slashes at the end of the path are not part of the name. */
static int beside(const char *spool_path, char out[PATH_MAX])
{
    size_t size = strlen(spool_path);
    int n;

    while (size > 1 && spool_path[size - 1] == '/') {
        size--;
    }
    n = snprintf(out, PATH_MAX, "%.*s" SUFFIX, (int)size, spool_path);
    return n < 0 || n >= PATH_MAX ? -ENAMETOOLONG : 0;
}

static void tell(const struct receipt_key *key, const char *file, bool made)
{
    static const char digits[] = "0123456789abcdef";
    char hex[2 * TF_RECEIPT_DIGEST_BYTES + 1] = "";

    for (size_t i = 0; i < TF_RECEIPT_DIGEST_BYTES; i++) {
        hex[2 * i] = digits[key->fingerprint[i] >> 4];
        hex[2 * i + 1] = digits[key->fingerprint[i] & 15];
    }
    tf_log(TF_LOG_INFO, "receipt-key",
           TF_DETAILS(TF_STR("fingerprint", hex), TF_STR("file", file), TF_BOOL("made", made)),
           "receipts are signed by this key; auditors compare its fingerprint");
}

int tf_receipt_key_open(const char *spool_path, const struct tf_place *at, struct receipt_key **out,
                        struct tf_error *err)
{
    char file[PATH_MAX], reason[64];
    struct receipt_key *key;
    size_t size = TF_RECEIPT_KEY_BYTES;
    bool made = false;
    int rc = beside(spool_path, file);

    if (rc == 0 && access(file, F_OK) != 0 && errno == ENOENT) {
        rc = make_file(file);
        made = true;
    }
    if (rc < 0) {
        return tf_error_add(err, at,
                            "receipt key \"%s\" cannot be made: %s; make its folder "
                            "writable",
                            file, uv_strerror_r(rc, reason, sizeof reason));
    }
    key = calloc(1, sizeof *key);
    if (key == NULL) {
        return -ENOMEM;
    }
    rc = load_file(file, at, &key->pkey, err);
    if (rc == 0 && EVP_PKEY_get_raw_public_key(key->pkey, key->public_key, &size) != 1) {
        rc =
            tf_error_add(err, at, "receipt key \"%s\": OpenSSL cannot derive its public key", file);
    }
    if (rc < 0) {
        tf_receipt_key_free(key);
        return rc;
    }
    tf_receipt_fingerprint(key->public_key, key->fingerprint);
    tell(key, file, made);
    *out = key;
    return 0;
}

void tf_receipt_key_free(struct receipt_key *key)
{
    if (key != NULL) {
        EVP_PKEY_free(key->pkey);
        free(key);
    }
}

/* ---- receipts ------------------------------------------------------------------------------- */

static int sign(const struct receipt_key *key, uint8_t bytes[TF_RECEIPT_BYTES])
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    size_t size = TF_RECEIPT_BYTES - TF_RECEIPT_SIGNED_BYTES;
    bool ok = ctx != NULL && EVP_DigestSignInit(ctx, NULL, NULL, NULL, key->pkey) == 1 &&
              EVP_DigestSign(ctx, bytes + TF_RECEIPT_SIGNED_BYTES, &size, bytes,
                             TF_RECEIPT_SIGNED_BYTES) == 1 &&
              size == TF_RECEIPT_BYTES - TF_RECEIPT_SIGNED_BYTES;

    EVP_MD_CTX_free(ctx);
    ERR_clear_error();
    return ok ? 0 : -EIO;
}

static int make_receipt(struct connection *conn, const struct vouched *vouched,
                        uint8_t bytes[TF_RECEIPT_BYTES])
{
    struct receipt_key *key = conn->forward->receipt_key;
    const char *identity = conn->sender->identity;
    struct tf_receipt receipt = {.seq = vouched->seq, .time_ns = tf_now_ns()};

    memcpy(receipt.key_id, key->fingerprint, TF_RECEIPT_ID_BYTES);
    tf_names_spool(conn->names, receipt.spool_id);
    memcpy(receipt.chain, vouched->chain, TF_CHAIN_BYTES);
    (void)SHA256((const unsigned char *)identity, strlen(identity), receipt.identity);
    receipt.counter = ++key->counter;
    tf_receipt_encode(&receipt, bytes);
    return sign(key, bytes);
}

static bool is_due(const struct connection *conn)
{
    return conn->names != NULL && (conn->receipt_ms == 0 || conn->acks_owed == 0 ||
                                   uv_now(conn->forward->loop) - conn->receipt_ms >= EVERY_MS);
}

uint32_t tf_receipt_append(struct connection *conn, struct tf_buf *pairs)
{
    uint8_t bytes[TF_RECEIPT_BYTES];
    struct vouched vouched;
    uint32_t count = 1;

    if (!is_due(conn)) {
        return 0;
    }
    vouched = tf_names_vouch(conn->names);
    if (vouched.seq == 0 || make_receipt(conn, &vouched, bytes) < 0) {
        return 0; /* an ack without a receipt is still an ack; the next one says what this had to */
    }
    tf_names_vouched(conn->names);
    tf_msgpack_text(pairs, tf_slice_text("receipt"));
    tf_msgpack_bytes(pairs, tf_slice(bytes, sizeof bytes));
    if (conn->receipt_ms == 0) {
        tf_msgpack_text(pairs, tf_slice_text("key"));
        tf_msgpack_bytes(pairs,
                         tf_slice(conn->forward->receipt_key->public_key, TF_RECEIPT_KEY_BYTES));
        count = 2;
    }
    conn->receipt_ms = uv_now(conn->forward->loop);
    return count;
}
