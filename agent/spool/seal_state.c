/*
 * seal_state.c - the file seal.state: the key of the next seal, in two slots, each in a 4 KiB block
 * of its own, written in place and never renamed, so that no old key lives on in a freed block.
 *
 * A move writes the next key into the other slot, syncs, zeroes the old slot, syncs: there is at
 * any instant a sound slot, and after it only the newer key. The sound slot with the higher number
 * counts (docs/guarantees.md G2, G3).
 */
#include "seal.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/crypto.h>

#define NAME        "seal.state"
#define BLOCK_BYTES 4096

static_assert(2 * BLOCK_BYTES == TF_SEAL_STATE_BYTES, "two slots");

static int write_block(int fd, const uint8_t block[BLOCK_BYTES], uint32_t slot)
{
    ssize_t n = pwrite(fd, block, BLOCK_BYTES, (off_t)slot * BLOCK_BYTES);

    if (n != BLOCK_BYTES) {
        return n < 0 ? -errno : -EIO;
    }
    return fdatasync(fd) == 0 ? 0 : -errno;
}

int tf_seal_state_zero(int fd, uint32_t slot)
{
    static const uint8_t zero[BLOCK_BYTES];

    return write_block(fd, zero, slot);
}

static int write_slot(int fd, const struct tf_seal_key *key, uint32_t slot)
{
    uint8_t block[BLOCK_BYTES] = {0};
    int rc;

    tf_seal_slot_encode(key, block);
    rc = write_block(fd, block, slot);
    OPENSSL_cleanse(block, sizeof block);
    return rc;
}

int tf_seal_state_move(int fd, const struct tf_seal_key *next, uint32_t *slot)
{
    uint32_t other = 1 - *slot;
    int rc = write_slot(fd, next, other);

    if (rc == 0) {
        tf_crash_point("seal.next");
        rc = tf_seal_state_zero(fd, *slot);
    }
    if (rc == 0) {
        tf_crash_point("seal.zeroed");
        *slot = other;
    }
    return rc;
}

/* The newest sound slot of what was read. 0 or -EPROTO. */
static int choose(const uint8_t bytes[TF_SEAL_STATE_BYTES], struct tf_seal_key *out, uint32_t *slot)
{
    struct tf_seal_key key;
    int rc = -EPROTO;

    for (uint32_t i = 0; i < 2; i++) {
        if (tf_seal_slot_decode(bytes + (size_t)i * BLOCK_BYTES, &key) == 0 &&
            (rc < 0 || key.number > out->number)) {
            *out = key;
            *slot = i;
            rc = 0;
        }
    }
    OPENSSL_cleanse(&key, sizeof key);
    return rc;
}

int tf_seal_state_read(int dir_fd, struct tf_seal_key *out, uint32_t *slot)
{
    uint8_t bytes[TF_SEAL_STATE_BYTES];
    int fd = openat(dir_fd, NAME, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    struct stat st;
    int rc;

    if (fd < 0) {
        return errno == ELOOP ? -EPROTO : -errno;
    }
    rc = fstat(fd, &st) < 0 ? -errno : S_ISREG(st.st_mode) ? 0 : -EPROTO;
    if (rc == 0) {
        rc = tf_read_patiently(fd, "seal.state", bytes, sizeof bytes, 0);
    }
    if (rc == 0) {
        rc = choose(bytes, out, slot);
    }
    OPENSSL_cleanse(bytes, sizeof bytes);
    (void)close(fd);
    return rc;
}

int tf_seal_state_open(int dir_fd)
{
    int fd = openat(dir_fd, NAME, O_RDWR | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);

    return fd < 0 ? -errno : fd;
}

static int open_new(int dir_fd, bool replace)
{
    int flags = O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | (replace ? 0 : O_EXCL);

    return openat(dir_fd, NAME, flags, 0600);
}

/* Both slots are written, so that a full disk cannot stop a move. */
static int write_anew(int fd, const struct tf_seal_key *key)
{
    int rc = tf_seal_state_zero(fd, 0);

    if (rc == 0) {
        rc = tf_seal_state_zero(fd, 1);
    }
    return rc == 0 ? write_slot(fd, key, 0) : rc;
}

int tf_seal_state_make(int dir_fd, const struct tf_seal_key *key, bool replace)
{
    int fd = open_new(dir_fd, replace);
    int rc;

    if (fd < 0) {
        return -errno;
    }
    rc = write_anew(fd, key);
    (void)close(fd);
    if (rc < 0 && !replace) {
        (void)unlinkat(dir_fd, NAME, 0); /* else a spool that was never sealed would look robbed */
    }
    return rc == 0 ? tf_sync_dir(dir_fd) : rc;
}
