/*
 * rewrap.c - key slots rewritten in place: the only bytes of a segment that ever are.
 *
 *     rotation   a segment that an older KEK opens gets a slot of the first one in a free sector;
 *                synced; then the slots of other KEKs are zeroed; synced. No data is rewritten
 *     auditor    once a segment with a recipient's slot is closed and all saved cursors have passed
 *                it, its KEK slots are zeroed; synced: from then on only the auditor reads it
 *     shred      all slots are zeroed, synced; then the file is deleted (retention.c)
 *
 * A slot is one sector, so that a crash leaves it old or new; after any of them some step above is
 * still to do, and is done after the next start. A pass goes from segment to segment, one job of a
 * worker at a time, while the loop runs, and never beside a job that deletes. What failed is tried
 * again after the next start. The newest segment is left alone: a start must be able to read it.
 */
#include "seal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "taffrail/log.h"

#define SLOTS_BYTES  (TF_SEGMENT_SLOTS * TF_SECTOR_BYTES)
#define REMIND_TICKS 60u /* so often it is said that keys are missing */

/* ---- on a worker ---------------------------------------------------------------------------- */

static int open_segment(int dir_fd, uint64_t no)
{
    char name[TF_SEGMENT_NAME_BYTES];
    struct stat st;
    int fd;

    tf_segment_name(no, name);
    fd = openat(dir_fd, name, O_RDWR | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        return -errno;
    }
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size < TF_SEGMENT_HEADER_BYTES) {
        (void)close(fd);
        return -EPROTO;
    }
    return fd;
}

static int write_slot(int fd, uint32_t i, const uint8_t sector[TF_SECTOR_BYTES])
{
    ssize_t n = pwrite(fd, sector, TF_SECTOR_BYTES, (off_t)(i + 1) * TF_SECTOR_BYTES);

    return n == TF_SECTOR_BYTES ? 0 : n < 0 ? -errno : -EIO;
}

static int sync_slots(int fd)
{
    return fdatasync(fd) == 0 ? 0 : -errno;
}

/* Zeroes the slots of KEKs but the one with the id spared (NULL: all), and syncs. */
static int zero_keks(int fd, uint8_t *slots, const uint8_t *spared)
{
    int rc = 0;

    for (uint32_t i = 0; rc == 0 && i < TF_SEGMENT_SLOTS; i++) {
        uint8_t *raw = slots + (size_t)i * TF_SECTOR_BYTES;
        struct tf_key_slot slot;

        if (tf_key_slot_decode(raw, &slot) == 0 && slot.kind == TF_SLOT_KEK &&
            (spared == NULL || memcmp(slot.key_id, spared, TF_KEY_ID_BYTES) != 0)) {
            memset(raw, 0, TF_SECTOR_BYTES);
            rc = write_slot(fd, i, raw);
        }
    }
    return rc == 0 ? sync_slots(fd) : rc;
}

/* A sector for a new slot: an empty one, else one that is no sound slot and so opens nothing. */
static int free_slot(const uint8_t *slots, uint32_t *out)
{
    struct tf_key_slot slot;
    bool found = false;

    for (uint32_t i = 0; i < TF_SEGMENT_SLOTS; i++) {
        int rc = tf_key_slot_decode(slots + (size_t)i * TF_SECTOR_BYTES, &slot);

        if (rc == 0 && slot.kind == TF_SLOT_EMPTY) {
            *out = i;
            return 0;
        }
        if (rc < 0 && !found) {
            *out = i;
            found = true;
        }
    }
    return found ? 0 : -ENOSPC;
}

/* Adds the slot of the first KEK. */
static int add_slot(int fd, const struct tf_keyring *ring, const struct tf_sector0 *sector,
                    uint8_t *slots)
{
    struct tf_key_slot slot;
    uint32_t i;
    int rc = tf_dek_rewrap(ring, sector, slots, &slot);

    if (rc == 0) {
        rc = free_slot(slots, &i);
    }
    if (rc == 0) {
        tf_key_slot_encode(&slot, slots + (size_t)i * TF_SECTOR_BYTES);
        rc = write_slot(fd, i, slots + (size_t)i * TF_SECTOR_BYTES);
    }
    if (rc == 0) {
        rc = sync_slots(fd);
    }
    if (rc == 0) {
        tf_crash_point("rewrap.added");
    }
    return rc;
}

/* True when the slot of the first KEK opens the segment, not only says so. */
static bool opens_by_first(const struct tf_keyring *ring, const struct tf_sector0 *sector,
                           const uint8_t *slots)
{
    struct tf_keyring *first = tf_secure_new(sizeof *first);
    struct tf_frame_keys *keys = tf_secure_new(sizeof *keys);
    bool opens = false;

    if (first != NULL && keys != NULL) {
        first->count = 1;
        first->keks[0] = ring->keks[0];
        opens = tf_dek_open(first, sector, slots, keys) == 0;
    }
    tf_keyring_free(first);
    tf_secure_free(keys, sizeof *keys);
    return opens;
}

static int rewrite(const struct tf_slots_job *job, int fd, const struct tf_sector0 *sector,
                   uint8_t *slots)
{
    int rc = 0;

    if (job->for_auditor) {
        return tf_slots_look(job->ring, slots).has_recipient ? zero_keks(fd, slots, NULL) : -EPROTO;
    }
    if (!opens_by_first(job->ring, sector, slots)) {
        rc = add_slot(fd, job->ring, sector, slots);
    }
    if (rc == 0 && !opens_by_first(job->ring, sector, slots)) {
        rc = -EPROTO;
    }
    return rc == 0 ? zero_keks(fd, slots, job->ring->keks[0].id) : rc;
}

static void slots_work(uv_work_t *work)
{
    struct tf_slots_job *job = TF_CONTAINER_OF(work, struct tf_slots_job, work);
    uint8_t header[TF_SEGMENT_HEADER_BYTES] = {0};
    struct tf_sector0 sector;
    int fd = open_segment(job->dir_fd, job->no);
    int rc = fd < 0 ? fd : tf_read_at(fd, header, sizeof header, 0);

    if (rc == 0) {
        rc = tf_sector0_decode(header, &sector);
    }
    if (rc == 0 && memcmp(sector.segment_id, job->id, sizeof job->id) != 0) {
        rc = -EPROTO;
    }
    if (rc == 0) {
        rc = rewrite(job, fd, &sector, header + TF_SECTOR_BYTES);
        tf_crash_point("rewrap.zeroed");
    }
    if (fd >= 0) {
        (void)close(fd);
    }
    job->found = tf_slots_look(job->ring, header + TF_SECTOR_BYTES);
    job->status = rc;
}

int tf_slots_shred(int dir_fd, uint64_t no)
{
    static const uint8_t zeros[SLOTS_BYTES] = {0};
    int fd = open_segment(dir_fd, no), rc = 0;
    ssize_t n;

    if (fd < 0) {
        return fd == -ENOENT || fd == -EPROTO || fd == -ELOOP ? 0 : fd; /* nothing that opens */
    }
    n = pwrite(fd, zeros, sizeof zeros, TF_SECTOR_BYTES);
    if (n != (ssize_t)sizeof zeros) {
        rc = n < 0 ? -errno : -EIO;
    }
    rc = rc == 0 ? sync_slots(fd) : rc;
    (void)close(fd);
    return rc;
}

/* ---- on the loop ---------------------------------------------------------------------------- */

uint64_t tf_slots_unreadable(const struct tf_spool *spool)
{
    uint64_t count = 0;

    for (size_t i = 0; i < spool->segment_count; i++) {
        count += spool->segments[i].slots.kek == TF_KEK_UNKNOWN;
    }
    return count;
}

static void tell_missing(struct tf_spool *spool)
{
    uint64_t count = tf_slots_unreadable(spool);
    char text[160];

    if (count == 0 || spool->remind_ticks++ % REMIND_TICKS != 0) {
        return;
    }
    (void)snprintf(text, sizeof text,
                   "no key of spool.keys opens %llu segment%s; what is in them waits, add the key "
                   "that they were written with and start again",
                   (unsigned long long)count, count == 1 ? "" : "s");
    tf_log(TF_LOG_ERROR, "key-missing",
           TF_DETAILS(TF_STR("spool", spool->path), TF_NUM("segments", count)), "%s", text);
    if (spool->remind_ticks == 1 && spool->callbacks.on_event != NULL) {
        spool->callbacks.on_event(spool->callbacks.ctx, "key-missing", text);
    }
}

/* What is still to be said once a rotation is through. */
static void tell_rotated(struct tf_spool *spool)
{
    if (spool->rewrapped == 0) {
        return;
    }
    for (uint32_t k = 1; k < spool->ring->count; k++) {
        uint64_t count = 0;

        for (size_t i = 0; i < spool->segment_count; i++) {
            count += spool->segments[i].slots.kek == k;
        }
        tf_log(count == 0 ? TF_LOG_INFO : TF_LOG_WARN, "spool-key",
               TF_DETAILS(TF_NUM("key", k + 1), TF_NUM("rewrapped", spool->rewrapped),
                          TF_NUM("segments", count)),
               count == 0
                   ? "no segment needs this key of spool.keys any more; destroy it where it "
                     "is kept, and take it out of the list"
                   : "segments still need this key of spool.keys; the next start tries again");
    }
    spool->rewrapped = 0;
}

static void on_slots_done(uv_work_t *work, int status)
{
    struct tf_slots_job *job = TF_CONTAINER_OF(work, struct tf_slots_job, work);
    struct tf_spool *spool = TF_CONTAINER_OF(job, struct tf_spool, slots_job);
    const struct tf_segment *found = tf_segments_find(spool, job->no);
    struct tf_segment *segment = found == NULL ? NULL : &spool->segments[found - spool->segments];
    int rc = status < 0 ? status : job->status;

    spool->slots_running = false;
    if (segment != NULL && rc == 0) {
        segment->slots = job->found;
        spool->rewrapped += !job->for_auditor;
    } else if (segment != NULL) {
        char reason[64];

        segment->slots_failed = true;
        tf_log(TF_LOG_ERROR, "disk-error",
               TF_DETAILS(TF_STR("spool", spool->path), TF_NUM("segment", job->no)),
               "its key slots cannot be rewritten: %s; %s, the next start tries again",
               uv_strerror_r(rc, reason, sizeof reason),
               job->for_auditor ? "the node's own key still opens it"
                                : "it still needs its old key");
    }
    tf_retention_run(spool);
    tf_slots_run(spool);
    tf_spool_advance_close(spool);
}

/* True when something is to be done to the segment now. */
static bool is_due(const struct tf_segment *segment, uint64_t passed, bool *for_auditor)
{
    const struct tf_slots_found *slots = &segment->slots;

    if (segment->slots_failed || slots->kek == TF_KEK_NONE) {
        return false;
    }
    *for_auditor = slots->has_recipient && segment->last_seq <= passed;
    return *for_auditor || (slots->kek != TF_KEK_UNKNOWN && slots->has_old_kek);
}

void tf_slots_run(struct tf_spool *spool)
{
    struct tf_slots_job *job = &spool->slots_job;
    uint64_t passed = tf_cursors_saved_min(spool);
    size_t i = 0;

    if (spool->slots_running || spool->retaining || spool->closing) {
        return;
    }
    while (i + 1 < spool->segment_count &&
           !is_due(&spool->segments[i], passed, &job->for_auditor)) {
        i++;
    }
    if (i + 1 >= spool->segment_count) {
        tell_rotated(spool);
        return;
    }
    job->dir_fd = spool->dir_fd;
    job->ring = spool->ring;
    job->no = spool->segments[i].no;
    memcpy(job->id, spool->segments[i].id, sizeof job->id);
    if (uv_queue_work(spool->loop, &job->work, slots_work, on_slots_done) == 0) {
        spool->slots_running = true;
    }
}

void tf_slots_opened(struct tf_spool *spool)
{
    struct tf_notice notice = {.kind = TF_NOTICE_KEY_CHANGE, .time_ns = tf_now_ns()};

    if (spool->key_changed) {
        memcpy(notice.id, spool->ring->keks[0].id, TF_KEY_ID_BYTES);
        (void)tf_notice_append(spool, &notice, NULL, NULL); /* no memory: the slots tell, too */
    }
}

void tf_slots_tick(struct tf_spool *spool)
{
    tell_missing(spool);
    tf_slots_run(spool);
}
