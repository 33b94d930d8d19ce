/*
 * keys.c - key files: `taffrail-kek-1:` and the base64 of 32 bytes, one line.
 *
 * A file is opened once and judged by its descriptor: regular, owned by root or by us, no access
 * for others, no write for the group; group read only as tf_group_read_is_ours has it. Links are
 * followed, since mounted secrets are links. Without `spool.keys` the first start on an empty spool
 * makes SPOOL.key, 0600, beside the directory. Texts of keys are wiped; keys live in the secure
 * heap. An auditor's public key is no secret: only who may write to it counts. His private key
 * (readers only) is judged as a KEK is. Not here: what a key opens (slots.c), the PEM of an
 * auditor's keys (auditor.c).
 */
#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/crypto.h>
#include <openssl/rand.h>

#define PREFIX               "taffrail-kek-1:"
#define BASE64_CHARS         44u   /* of 32 bytes */
#define FILE_MAX_BYTES       128u  /* of a KEK */
#define PEM_MAX_BYTES        4096u /* of an auditor's key */
#define PASSPHRASE_MAX_BYTES 1024u

static int sextet(char c)
{
    if (c >= 'A' && c <= 'Z') {
        return c - 'A';
    }
    if (c >= 'a' && c <= 'z') {
        return c - 'a' + 26;
    }
    if (c >= '0' && c <= '9') {
        return c - '0' + 52;
    }
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* 44 characters of base64, the last of them '=', to 32 bytes. */
static int decode_key(const char *text, uint8_t key[TF_KEY_BYTES])
{
    uint32_t bits = 0;
    size_t size = 0;

    if (text[BASE64_CHARS - 1] != '=') {
        return -EPROTO;
    }
    for (size_t i = 0; i < BASE64_CHARS - 1; i++) {
        int value = sextet(text[i]);

        if (value < 0) {
            return -EPROTO;
        }
        bits = bits << 6 | (uint32_t)value;
        if (i % 4 != 0) {
            key[size++] = (uint8_t)(bits >> (6 - 2 * (i % 4)));
        }
    }
    return (bits & 3) == 0 && size == TF_KEY_BYTES ? 0 : -EPROTO; /* spare bits are zero */
}

int tf_key_parse(struct tf_slice text, uint8_t key[TF_KEY_BYTES])
{
    size_t prefix = sizeof PREFIX - 1;

    if (text.size > 0 && text.data[text.size - 1] == '\n') {
        text.size--;
    }
    if (text.size > 0 && text.data[text.size - 1] == '\r') {
        text.size--;
    }
    if (text.size != prefix + BASE64_CHARS || memcmp(text.data, PREFIX, prefix) != 0) {
        return -EPROTO;
    }
    return decode_key(text.data + prefix, key);
}

static int check_mode(int fd, const struct stat *st, const char *file, const struct tf_place *at,
                      struct tf_error *err)
{
    unsigned mode = (unsigned)st->st_mode & 0777;

    if (!S_ISREG(st->st_mode)) {
        return tf_error_add(err, at, "key file \"%s\" is not a regular file; name the file itself",
                            file);
    }
    if (st->st_uid != 0 && st->st_uid != geteuid()) {
        return tf_error_add(err, at,
                            "key file \"%s\" belongs to uid %lu; chown it to root or to us", file,
                            (unsigned long)st->st_uid);
    }
    if ((mode & 037) != 0 || !tf_group_read_is_ours(fd, st)) {
        return tf_error_add(err, at,
                            "key file \"%s\" has mode %04o, so others may reach it; "
                            "chmod 0600",
                            file, mode);
    }
    return 0;
}

/* A public key: who may write to it decides who reads the spool. */
static int check_public(const struct stat *st, const char *file, const struct tf_place *at,
                        struct tf_error *err)
{
    if (!S_ISREG(st->st_mode)) {
        return tf_error_add(err, at, "key file \"%s\" is not a regular file; name the file itself",
                            file);
    }
    if ((st->st_uid != 0 && st->st_uid != geteuid()) || (st->st_mode & 022) != 0) {
        return tf_error_add(err, at,
                            "key file \"%s\" may be written by others (mode %04o, uid %lu), who "
                            "could put their own key there; chown it to root or to us, chmod 0644",
                            file, (unsigned)st->st_mode & 0777, (unsigned long)st->st_uid);
    }
    return 0;
}

/* Opens file, judges it, and reads at most size bytes. Returns how many, or -EINVAL. */
static ssize_t read_file(const char *file, const struct tf_place *at, bool is_secret, char *text,
                         size_t size, struct tf_error *err)
{
    struct stat st;
    ssize_t n = -1;
    int fd = open(file, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    int rc;

    if (fd < 0) {
        char reason[64];

        return tf_error_add(err, at,
                            "key file \"%s\": %s; put the key back, without it the spool "
                            "cannot be read",
                            file, uv_strerror_r(-errno, reason, sizeof reason));
    }
    rc = fstat(fd, &st) < 0 ? tf_error_add(err, at, "key file \"%s\" cannot be examined", file)
         : is_secret        ? check_mode(fd, &st, file, at, err)
                            : check_public(&st, file, at, err);
    if (rc == 0) {
        n = read(fd, text, size);
        rc = n < 0 ? tf_error_add(err, at, "key file \"%s\" cannot be read", file) : 0;
    }
    (void)close(fd);
    return rc < 0 ? rc : n;
}

static int take_kek(const char *file, const struct tf_place *at, struct tf_slice text,
                    struct tf_kek *kek, struct tf_error *err)
{
    if (tf_key_parse(text, kek->key) < 0) {
        return tf_error_add(err, at,
                            "key file \"%s\" is not one line `%s` and base64; make "
                            "one with `taffrail pki spool`",
                            file, PREFIX);
    }
    if (tf_kek_id(kek) < 0) {
        return tf_error_add(err, at, "key file \"%s\": OpenSSL cannot derive its id", file);
    }
    return 0;
}

static int load_file(const char *file, const struct tf_place *at, struct tf_kek *kek,
                     struct tf_error *err)
{
    char text[FILE_MAX_BYTES];
    ssize_t size = read_file(file, at, true, text, sizeof text, err);
    int rc = size < 0 ? (int)size : take_kek(file, at, tf_slice(text, (size_t)size), kek, err);

    OPENSSL_cleanse(text, sizeof text);
    return rc;
}

int tf_key_beside_path(const char *spool_path, char *out, size_t size)
{
    size_t length = strlen(spool_path);
    int n;

    while (length > 1 && spool_path[length - 1] == '/') {
        length--;
    }
    n = snprintf(out, size, "%.*s.key", (int)length, spool_path);
    return n < 0 || (size_t)n >= size ? -ENAMETOOLONG : 0;
}

/* Syncs the folder that file is in, so that its name lasts. */
static int sync_parent(const char *file)
{
    const char *slash = strrchr(file, '/');
    char *folder = slash == NULL ? strdup(".") : strndup(file, (size_t)(slash - file) + 1);
    int fd, rc;

    if (folder == NULL) {
        return -ENOMEM;
    }
    fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    free(folder);
    if (fd < 0) {
        return -errno;
    }
    rc = fsync(fd) == 0 ? 0 : -errno;
    (void)close(fd);
    return rc;
}

static int write_key(int fd)
{
    uint8_t key[TF_KEY_BYTES];
    struct tf_buf text;
    int rc;

    tf_buf_init(&text, FILE_MAX_BYTES);
    (void)tf_buf_append_text(&text, PREFIX);
    rc = RAND_priv_bytes(key, sizeof key) == 1 ? 0 : -EIO;
    if (rc == 0) {
        (void)tf_base64_append(&text, key, sizeof key);
        (void)tf_buf_append_byte(&text, '\n');
        rc = text.error;
    }
    if (rc == 0) {
        ssize_t n = write(fd, text.data, text.size);

        rc = n == (ssize_t)text.size ? 0 : n < 0 ? -errno : -EIO;
    }
    if (rc == 0 && fsync(fd) < 0) {
        rc = -errno;
    }
    OPENSSL_cleanse(key, sizeof key);
    if (text.data != NULL) {
        OPENSSL_cleanse(text.data, text.capacity);
    }
    tf_buf_fini(&text);
    return rc;
}

/* Made under another name first: a key file that exists is whole. */
static int make_key(const char *file, const struct tf_place *at, struct tf_error *err)
{
    char fresh[4096 + 8], reason[64];
    int n = snprintf(fresh, sizeof fresh, "%s.new", file);
    int fd, rc;

    if (n < 0 || (size_t)n >= sizeof fresh) {
        return tf_error_add(err, at, "the path of the spool is too long");
    }
    (void)unlink(fresh); /* of a start that was killed here; nothing was encrypted with it */
    fd = open(fresh, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    rc = fd < 0 ? -errno : write_key(fd);
    if (fd >= 0) {
        (void)close(fd);
    }
    if (rc == 0 && link(fresh, file) < 0) { /* unlike rename, never replaces a key */
        rc = -errno;
    }
    if (fd >= 0) {
        (void)unlink(fresh);
    }
    if (rc == 0) {
        rc = sync_parent(file);
    }
    if (rc < 0) {
        return tf_error_add(err, at,
                            "key file \"%s\" cannot be made: %s; make the folder writable "
                            "or set spool.keys",
                            file, uv_strerror_r(rc, reason, sizeof reason));
    }
    return 0;
}

static int load_beside(const struct tf_spool_options *options, bool may_make,
                       struct tf_keyring *ring, bool *made, struct tf_error *err)
{
    char file[4096];
    int rc;

    if (tf_key_beside_path(options->path.text, file, sizeof file) < 0) {
        return tf_error_add(err, &options->path.at, "the path of the spool is too long");
    }
    if (access(file, F_OK) != 0 && errno == ENOENT) {
        if (!may_make) {
            return -ENOENT;
        }
        rc = make_key(file, &options->path.at, err);
        if (rc < 0) {
            return rc;
        }
        *made = true;
    }
    rc = load_file(file, &options->path.at, &ring->keks[0], err);
    ring->count = rc == 0 ? 1 : 0;
    return rc;
}

int tf_keys_load(const struct tf_spool_options *options, bool may_make, struct tf_keyring *ring,
                 bool *made, struct tf_error *err)
{
    int rc = 0;

    *made = false;
    if (options->keys.count == 0) {
        return load_beside(options, may_make, ring, made, err);
    }
    if (options->keys.count > TF_SPOOL_KEYS_MAX) {
        return tf_error_add(err, &options->keys.at, "%zu keys are too many; at most %u",
                            options->keys.count, TF_SPOOL_KEYS_MAX);
    }
    for (size_t i = 0; i < options->keys.count; i++) {
        const struct tf_text *file = &options->keys.items[i];

        if (load_file(file->text, &file->at, &ring->keks[i], err) < 0) {
            rc = -EINVAL; /* and on to the next */
        }
    }
    ring->count = rc == 0 ? (uint32_t)options->keys.count : 0;
    return rc;
}

int tf_auditor_load(const struct tf_spool_options *options, struct tf_keyring *ring,
                    struct tf_error *err)
{
    const struct tf_text *file = &options->auditor;
    char text[PEM_MAX_BYTES];
    ssize_t size;

    ring->has_auditor = false;
    if (file->text == NULL) {
        return 0;
    }
    size = read_file(file->text, &file->at, false, text, sizeof text, err);
    if (size < 0) {
        return (int)size;
    }
    if (tf_auditor_parse(tf_slice(text, (size_t)size), ring->auditor) < 0 ||
        tf_recipient_id(ring->auditor, ring->auditor_id) < 0) {
        return tf_error_add(err, &file->at,
                            "spool.auditor: \"%s\" is not a public X25519 key in PEM; `openssl "
                            "genpkey -algorithm x25519` makes a pair, `openssl pkey -pubout` "
                            "takes out its public half",
                            file->text);
    }
    ring->has_auditor = true;
    return 0;
}

/* ---- readers -------------------------------------------------------------------------------- */

/* The first line of a passphrase's file, of size bytes, into passphrase. */
static int load_passphrase(const char *file, char *passphrase, size_t size, struct tf_slice *out,
                           struct tf_error *err)
{
    const struct tf_place nowhere = {0};
    ssize_t n = file == NULL ? 0 : read_file(file, &nowhere, true, passphrase, size, err);

    if (n < 0) {
        return (int)n;
    }
    *out = tf_slice(file == NULL ? NULL : passphrase, 0);
    while (out->size < (size_t)n && passphrase[out->size] != '\n' &&
           passphrase[out->size] != '\r') {
        out->size++;
    }
    return 0;
}

static int take_private(const struct tf_reader_keys *from, const char *file, struct tf_slice pem,
                        struct tf_keyring *ring, struct tf_error *err)
{
    const struct tf_place nowhere = {0};
    char text[PASSPHRASE_MAX_BYTES];
    struct tf_slice passphrase;
    int rc;

    if (ring->private_count == TF_PRIVATE_KEYS_MAX) {
        return tf_error_add(err, &nowhere, "more than %u private keys", TF_PRIVATE_KEYS_MAX);
    }
    rc = load_passphrase(from->passphrase_file, text, sizeof text, &passphrase, err);
    if (rc == 0) {
        rc = tf_private_parse(pem, passphrase, &ring->privates[ring->private_count]);
        OPENSSL_cleanse(text, sizeof text);
        ring->private_count += rc == 0;
        rc = rc == 0 ? 0
             : rc == -EACCES
                 ? tf_error_add(err, &nowhere,
                                "key file \"%s\" wants %s passphrase; --passphrase-file FILE "
                                "names the file that holds it",
                                file, from->passphrase_file == NULL ? "a" : "another")
                 : tf_error_add(err, &nowhere, "key file \"%s\" is not a private X25519 key", file);
    }
    return rc;
}

/* A KEK or an auditor's private key: its first bytes tell. */
static int load_any(const struct tf_reader_keys *from, const char *file, struct tf_keyring *ring,
                    struct tf_error *err)
{
    static const char pem[] = "-----BEGIN ";
    const struct tf_place nowhere = {0};
    char text[PEM_MAX_BYTES];
    ssize_t size = read_file(file, &nowhere, true, text, sizeof text, err);
    struct tf_slice content = tf_slice(text, size < 0 ? 0 : (size_t)size);
    int rc = size < 0 ? (int)size : 0;

    if (rc == 0 && content.size > sizeof pem && memcmp(text, pem, sizeof pem - 1) == 0) {
        rc = take_private(from, file, content, ring, err);
    } else if (rc == 0) {
        rc = take_kek(file, &nowhere, content, &ring->keks[ring->count], err);
        ring->count += rc == 0;
    }
    OPENSSL_cleanse(text, sizeof text);
    return rc;
}

static int load_files(const struct tf_reader_keys *from, struct tf_keyring *ring,
                      struct tf_error *err)
{
    const struct tf_place nowhere = {0};
    int rc = 0;

    if (from->file_count > TF_SPOOL_KEYS_MAX) {
        return tf_error_add(err, &nowhere, "%zu keys are too many; at most %u", from->file_count,
                            TF_SPOOL_KEYS_MAX);
    }
    for (size_t i = 0; i < from->file_count; i++) {
        rc = load_any(from, from->files[i], ring, err) < 0 ? -EINVAL : rc; /* and on to the next */
    }
    return rc;
}

static int load_reader(const struct tf_reader_keys *from, struct tf_keyring *ring,
                       struct tf_error *err)
{
    struct tf_spool_options beside = {.path = {.text = from->spool_path}};
    bool made;

    if (from->file_count > 0) {
        return load_files(from, ring, err);
    }
    if (from->options != NULL) {
        return tf_keys_load(from->options, false, ring, &made, err);
    }
    return from->spool_path == NULL ? -ENOENT : tf_keys_load(&beside, false, ring, &made, err);
}

int tf_reader_keys_load(const struct tf_reader_keys *from, struct tf_keyring **out,
                        struct tf_error *err)
{
    struct tf_keyring *ring = tf_secure_new(sizeof *ring);
    int rc = ring == NULL ? -ENOMEM : load_reader(from, ring, err);

    if (rc < 0) {
        tf_keyring_free(ring);
        return rc;
    }
    *out = ring;
    return 0;
}

void tf_keyring_free(struct tf_keyring *ring)
{
    tf_secure_free(ring, sizeof *ring);
}
