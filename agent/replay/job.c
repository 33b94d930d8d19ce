/*
 * job.c - JOB.job: two slots of 148 bytes, a 4 KiB block each, written in turn, in place, then
 * synced; the sound one with the higher counter counts. Integers little-endian:
 *
 *     offset  bytes  field
 *          0      4  magic    "TFJ1"
 *          4      4  step     1 running, 2 done
 *          8     16  spool id
 *         24     32  digest   of the options
 *         56      8  seq
 *         64  8 + 8  records, bytes acked
 *         80  8 + 8  from, to (ns, signed)
 *         96      8  begun (ns)
 *        104     24  of an output file device, inode, length
 *        128      8  losses   told so far
 *        136      8  counter
 *        144      4  crc32c   over all that precedes it
 *
 * A crash leaves the old slot or the new one. The file is locked (flock) while a process has it.
 */
#include "job.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <uv.h>

#define BLOCK_BYTES (TF_JOB_FILE_BYTES / 2)
#define NAME_BYTES  (TF_JOB_NAME_MAX + sizeof ".job")

static const uint8_t magic[4] = {'T', 'F', 'J', '1'};

bool tf_job_name_is_sound(const char *name)
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                                  "0123456789_-.";
    size_t size = strlen(name);

    return size >= 1 && size <= TF_JOB_NAME_MAX && name[0] != '.' && name[size - 1] != '.' &&
           strspn(name, letters) == size;
}

void tf_job_encode(const struct tf_job_state *state, uint8_t out[TF_JOB_SLOT_BYTES])
{
    memcpy(out, magic, sizeof magic);
    tf_store32(out + 4, state->step);
    memcpy(out + 8, state->spool_id, TF_SPOOL_ID_BYTES);
    memcpy(out + 24, state->digest, TF_JOB_DIGEST_BYTES);
    tf_store64(out + 56, state->seq);
    tf_store64(out + 64, state->records);
    tf_store64(out + 72, state->bytes);
    tf_store64(out + 80, (uint64_t)state->from_ns);
    tf_store64(out + 88, (uint64_t)state->to_ns);
    tf_store64(out + 96, (uint64_t)state->begun_ns);
    tf_store64(out + 104, state->file.device);
    tf_store64(out + 112, state->file.inode);
    tf_store64(out + 120, state->file.length);
    tf_store64(out + 128, state->losses);
    tf_store64(out + 136, state->counter);
    tf_store32(out + 144, tf_crc32c(0, out, 144));
}

int tf_job_decode(const uint8_t in[TF_JOB_SLOT_BYTES], struct tf_job_state *out)
{
    struct tf_job_state state = {.step = tf_load32(in + 4),
                                 .seq = tf_load64(in + 56),
                                 .records = tf_load64(in + 64),
                                 .bytes = tf_load64(in + 72),
                                 .from_ns = (int64_t)tf_load64(in + 80),
                                 .to_ns = (int64_t)tf_load64(in + 88),
                                 .begun_ns = (int64_t)tf_load64(in + 96),
                                 .file = {.device = tf_load64(in + 104),
                                          .inode = tf_load64(in + 112),
                                          .length = tf_load64(in + 120)},
                                 .losses = tf_load64(in + 128),
                                 .counter = tf_load64(in + 136)};

    if (memcmp(in, magic, sizeof magic) != 0 || tf_load32(in + 144) != tf_crc32c(0, in, 144) ||
        (state.step != TF_JOB_RUNNING && state.step != TF_JOB_DONE) ||
        state.from_ns >= state.to_ns) {
        return -EPROTO;
    }
    memcpy(state.spool_id, in + 8, TF_SPOOL_ID_BYTES);
    memcpy(state.digest, in + 24, TF_JOB_DIGEST_BYTES);
    *out = state;
    return 0;
}

/* ---- the file -----------------------------------------------------------------------------------
 */

static int write_slot(int fd, uint32_t slot, const struct tf_job_state *state)
{
    uint8_t bytes[TF_JOB_SLOT_BYTES];
    ssize_t n;

    tf_job_encode(state, bytes);
    n = pwrite(fd, bytes, sizeof bytes, (off_t)slot * BLOCK_BYTES);
    if (n != (ssize_t)sizeof bytes) {
        return n < 0 ? -errno : -EIO;
    }
    return fdatasync(fd) < 0 ? -errno : 0;
}

int tf_job_save(struct tf_job *job, const struct tf_job_state *state)
{
    struct tf_job_state next = *state;
    int rc;

    next.counter = job->state.counter + 1;
    rc = write_slot(job->fd, job->slot ^ 1, &next);
    if (rc == 0) {
        job->slot ^= 1;
        job->state = next;
    }
    return rc;
}

/* The newest sound slot. 0 or -EPROTO. */
static int read_slots(struct tf_job *job)
{
    bool found = false;

    for (uint32_t slot = 0; slot < 2; slot++) {
        uint8_t bytes[TF_JOB_SLOT_BYTES];
        struct tf_job_state state;

        if (pread(job->fd, bytes, sizeof bytes, (off_t)slot * BLOCK_BYTES) !=
                (ssize_t)sizeof bytes ||
            tf_job_decode(bytes, &state) < 0) {
            continue;
        }
        if (!found || state.counter > job->state.counter) {
            job->state = state;
            job->slot = slot;
        }
        found = true;
    }
    return found ? 0 : -EPROTO;
}

static int refuse(struct tf_error *err, const char *file, const char *why)
{
    return tf_error_add(err, NULL, "--job: \"%s\" %s", file, why);
}

static int open_old(struct tf_job *job, const char *file, struct tf_error *err)
{
    struct stat st;

    if (flock(job->fd, LOCK_EX | LOCK_NB) < 0) {
        return refuse(err, file, "is being run by another process; wait for it or stop it");
    }
    if (fstat(job->fd, &st) < 0 || !S_ISREG(st.st_mode) || read_slots(job) < 0) {
        return refuse(err, file, "is no sound job file; move it away, or choose another id");
    }
    return 1;
}

static int make_new(struct tf_job *job, int dir_fd, const char *file,
                    const struct tf_job_state *fresh)
{
    int rc;

    job->fd = openat(dir_fd, file, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (job->fd < 0) {
        return -errno;
    }
    job->state = *fresh;
    job->slot = 0;
    rc = flock(job->fd, LOCK_EX | LOCK_NB) < 0 ? -errno
                                               : -posix_fallocate(job->fd, 0, TF_JOB_FILE_BYTES);
    if (rc == 0) {
        rc = write_slot(job->fd, 0, fresh);
    }
    if (rc == 0 && (fsync(job->fd) < 0 || fsync(dir_fd) < 0)) {
        rc = -errno;
    }
    if (rc < 0) {
        (void)unlinkat(dir_fd, file, 0); /* nothing was shipped yet */
    }
    return rc;
}

int tf_job_open(int dir_fd, const char *name, const struct tf_job_state *fresh, struct tf_job *job,
                struct tf_error *err)
{
    char file[NAME_BYTES], reason[64];
    int rc;

    *job = (struct tf_job){.fd = -1};
    (void)snprintf(file, sizeof file, "%s.job", name);
    job->fd = openat(dir_fd, file, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (job->fd >= 0) {
        rc = open_old(job, file, err);
    } else {
        rc = errno == ENOENT ? make_new(job, dir_fd, file, fresh) : -errno;
        if (rc < 0) {
            (void)tf_error_add(err, NULL, "--job: \"%s\": %s; go to a folder that can be written",
                               file, uv_strerror_r(rc, reason, sizeof reason));
        }
    }
    if (rc < 0) {
        tf_job_close(job);
    }
    return rc;
}

void tf_job_close(struct tf_job *job)
{
    if (job->fd >= 0) {
        (void)close(job->fd);
    }
    job->fd = -1;
}
