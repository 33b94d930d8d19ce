/*
 * keys.c - key files: `taffrail-kek-1:` and the base64 of 32 bytes, one line.
 *
 * A file is opened once and judged by its descriptor: regular, owned by root or by us, no access
 * for others, no write for the group; group read only where the owner is root and the group ours
 * (mounted secrets are 0440 so). Links are followed, since mounted secrets are links. Without
 * `spool.keys` the first start on an empty spool makes SPOOL.key, 0600, beside the directory.
 * Texts of keys are wiped; keys live in the secure heap. Not here: what a key opens (crypto.c).
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

#define PREFIX         "taffrail-kek-1:"
#define BASE64_CHARS   44u /* of 32 bytes */
#define FILE_MAX_BYTES 128u
#define GROUPS_MAX     1024

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

static bool is_our_group(gid_t group)
{
    gid_t groups[GROUPS_MAX];
    int count = getgroups(GROUPS_MAX, groups);

    for (int i = 0; i < count; i++) {
        if (groups[i] == group) {
            return true;
        }
    }
    return group == getegid();
}

static int check_mode(const struct stat *st, const char *file, const struct tf_place *at,
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
    if ((mode & 037) != 0 ||
        ((mode & 040) != 0 && (st->st_uid != 0 || !is_our_group(st->st_gid)))) {
        return tf_error_add(err, at,
                            "key file \"%s\" has mode %04o, so others may reach it; "
                            "chmod 0600",
                            file, mode);
    }
    return 0;
}

static int load_file(const char *file, const struct tf_place *at, struct tf_kek *kek,
                     struct tf_error *err)
{
    char text[FILE_MAX_BYTES];
    struct stat st;
    ssize_t size = -1;
    int fd = open(file, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    int rc;

    if (fd < 0) {
        char reason[64];

        return tf_error_add(err, at,
                            "key file \"%s\": %s; put the key back, without it the spool "
                            "cannot be read",
                            file, uv_strerror_r(-errno, reason, sizeof reason));
    }
    rc = fstat(fd, &st) == 0 ? check_mode(&st, file, at, err)
                             : tf_error_add(err, at, "key file \"%s\" cannot be examined", file);
    if (rc == 0) {
        size = read(fd, text, sizeof text);
        rc = size < 0 || tf_key_parse(tf_slice(text, (size_t)size), kek->key) < 0
                 ? tf_error_add(err, at,
                                "key file \"%s\" is not one line `%s` and base64; make "
                                "one with `taffrail pki spool`",
                                file, PREFIX)
                 : 0;
    }
    if (rc == 0 && tf_kek_id(kek) < 0) {
        rc = tf_error_add(err, at, "key file \"%s\": OpenSSL cannot derive its id", file);
    }
    OPENSSL_cleanse(text, sizeof text);
    (void)close(fd);
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

/* ---- readers -------------------------------------------------------------------------------- */

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
        if (load_file(from->files[i], &nowhere, &ring->keks[i], err) < 0) {
            rc = -EINVAL; /* and on to the next */
        }
    }
    ring->count = rc == 0 ? (uint32_t)from->file_count : 0;
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
