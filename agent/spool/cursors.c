/*
 * cursors.c - how far each output has come, kept across a crash.
 *
 * One small file of two slots, a 4 KiB block each, written in turn, in place, then synced; the
 * newest sound slot counts. A reader sees the old cursors or the new ones, never a mixture. A slot,
 * integers little-endian (encoded in format.c):
 *
 *     offset  bytes  field
 *          0      4  magic      "TFC1"
 *          4      4  count      0..TF_CURSORS_MAX (32)
 *          8  112*n  entries    output name (64, padded with NUL), then 8 each: seq, prev, events
 *                               so far, and of an output file device, inode, length
 *    8+112*n     40  owed       a notice `expire` that is to be written: 8 each: time, segment_no,
 *                               seq, seal, cause; else zero
 *   48+112*n      8  counter    rises by one with each write
 *   56+112*n      4  crc32c     over all that precedes it
 *
 * Invariants: a cursor never moves back, and never passes a frame that is not acked. The slot that
 * was synced last is never the one written to, whatever failed. When the file is lost or damaged,
 * every cursor starts at the oldest frame, and the log says so. Space is allocated when the file is
 * made, so that a full disk cannot keep cursors from being saved, nor what retention.c deletes then
 * from being known after a crash.
 *
 * Not here: acks that come out of order (feed.c), deleting segments (retention.c).
 */
#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "taffrail/log.h"

/* Allocates what is missing; a slot that is whole stays as it is. */
static int make_file(struct tf_spool *spool, off_t size)
{
    uint8_t zeros[TF_CURSOR_SLOT_BYTES] = {0};

    for (int i = 0; i < 2; i++) {
        ssize_t n;

        if (size >= (off_t)(i + 1) * (off_t)TF_CURSOR_SLOT_BYTES) {
            continue;
        }
        n = pwrite(spool->cursors_fd, zeros, sizeof zeros, (off_t)i * TF_CURSOR_SLOT_BYTES);

        if (n != (ssize_t)sizeof zeros) {
            return n < 0 ? -errno : -ENOSPC;
        }
    }
    if (fsync(spool->cursors_fd) < 0) {
        return -errno;
    }
    return tf_sync_dir(spool->dir_fd);
}

/* The newest sound slot into table; false when there is none. *written: some slot had bytes. */
static int read_slots(struct tf_spool *spool, struct tf_cursor_table *table, bool *found,
                      bool *written)
{
    uint8_t slot[TF_CURSOR_SLOT_BYTES];
    struct tf_cursor_table read;

    spool->good_slot = 1;
    for (uint32_t i = 0; i < 2; i++) {
        int rc = tf_read_patiently(spool->cursors_fd, "cursors", slot, sizeof slot,
                                   (uint64_t)i * TF_CURSOR_SLOT_BYTES);

        if (rc < 0) {
            return rc;
        }
        *written |= tf_load32(slot) != 0;
        if (tf_cursor_slot_decode(slot, &read) == 0 && (!*found || read.counter > table->counter)) {
            *table = read;
            *found = true;
            spool->good_slot = i;
        }
    }
    return 0;
}

static const struct tf_cursor *find_cursor(const struct tf_cursor_table *table, const char *name)
{
    for (uint32_t i = 0; i < table->count; i++) {
        if (strcmp(table->entries[i].name, name) == 0) {
            return &table->entries[i];
        }
    }
    return NULL;
}

int tf_cursors_open(struct tf_spool *spool, const char *const *outputs, size_t output_count,
                    bool is_new, uint64_t *highest_run)
{
    struct tf_cursor_table old = {0};
    bool found = false, written = false;
    off_t size;
    int rc;

    spool->cursors_fd = openat(spool->dir_fd, "cursors",
                               O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK, 0600);
    size = spool->cursors_fd < 0 ? -1 : lseek(spool->cursors_fd, 0, SEEK_END);
    if (size < 0) {
        return -errno;
    }
    rc = size < 2 * (off_t)TF_CURSOR_SLOT_BYTES ? make_file(spool, size) : 0;
    if (rc == 0) {
        rc = read_slots(spool, &old, &found, &written);
    }
    if (rc < 0) {
        return rc;
    }
    if (!found && (written || !is_new)) {
        tf_log(TF_LOG_WARN, "cursors-lost", NULL, 0,
               "the file of cursors is damaged or gone; outputs begin at the oldest frame kept");
    }
    *highest_run = 0;
    for (uint32_t i = 0; i < old.count; i++) {
        uint64_t run = TF_SEQ_RUN(old.entries[i].seq);

        *highest_run = run > *highest_run ? run : *highest_run;
    }
    spool->saved = (struct tf_cursor_table){
        .counter = old.counter, .count = (uint32_t)output_count, .owed = old.owed};
    for (size_t i = 0; i < output_count; i++) {
        struct tf_cursor *cursor = &spool->saved.entries[i];
        const struct tf_cursor *known = find_cursor(&old, outputs[i]);

        if (known != NULL) {
            *cursor = *known;
        }
        spool->is_new[i] = known == NULL;
        spool->unsaved_names |= known == NULL;
        memset(cursor->name, 0, sizeof cursor->name);
        memcpy(cursor->name, outputs[i], strlen(outputs[i]));
    }
    spool->now = spool->saved;
    return 0;
}

bool tf_cursors_begun(const struct tf_spool *spool)
{
    bool begun = true;

    for (uint32_t i = 0; i < spool->now.count; i++) {
        begun &= !spool->is_new[i];
    }
    return begun;
}

bool tf_cursors_dirty(const struct tf_spool *spool)
{
    return (spool->unsaved_names && tf_cursors_begun(spool)) ||
           spool->now.owed.last_no != spool->saved.owed.last_no ||
           memcmp(spool->now.entries, spool->saved.entries, sizeof spool->now.entries) != 0;
}

uint64_t tf_cursors_saved_min(const struct tf_spool *spool)
{
    uint64_t lowest = UINT64_MAX;

    for (uint32_t i = 0; i < spool->saved.count; i++) {
        uint64_t seq = spool->saved.entries[i].seq;

        lowest = seq < lowest ? seq : lowest;
    }
    return lowest;
}

static void save_work(uv_work_t *work)
{
    struct tf_save_job *job = TF_CONTAINER_OF(work, struct tf_save_job, work);
    ssize_t n;

    tf_cursor_slot_encode(&job->table, job->bytes);
    n = pwrite(job->fd, job->bytes, sizeof job->bytes, (off_t)job->slot * TF_CURSOR_SLOT_BYTES);
    if (n != (ssize_t)sizeof job->bytes) {
        job->status = n < 0 ? -errno : -EIO;
        return;
    }
    tf_crash_point("cursor.written");
    job->status = fdatasync(job->fd) == 0 ? 0 : -errno;
    if (job->status == 0) {
        tf_crash_point("cursor.synced");
    }
}

static void on_saved(uv_work_t *work, int status)
{
    struct tf_save_job *job = TF_CONTAINER_OF(work, struct tf_save_job, work);
    struct tf_spool *spool = TF_CONTAINER_OF(job, struct tf_spool, save);
    int rc = status < 0 ? status : job->status;

    if (rc == 0) {
        spool->saved = job->table;
        spool->good_slot = job->slot;
        spool->unsaved_names = false;
        memcpy(spool->saved_ordinals, job->ordinals, sizeof job->ordinals);
    } else {
        char reason[64];

        tf_disk_failed(spool, TF_DISK_CURSORS, rc);
        tf_log(TF_LOG_ERROR, "disk-error", TF_DETAILS(TF_STR("file", "cursors")),
               "cursors cannot be saved: %s; retry in 1000 ms, what they passed since then is not "
               "deleted meanwhile",
               uv_strerror_r(rc, reason, sizeof reason));
    }
    spool->owed_tried |= job->table.owed.last_no == spool->now.owed.last_no;
    tf_feeds_end_save(spool, rc); /* what its callbacks ask for is remembered */
    for (uint32_t i = 0; rc == 0 && i < spool->now.count; i++) {
        if (spool->saved.entries[i].seq > spool->now.entries[i].seq) {
            spool->now.entries[i] = spool->saved.entries[i]; /* its feed was closed meanwhile */
        }
    }
    spool->saving = false;
    if (spool->save_wanted && rc == 0) {
        tf_cursors_save(spool);
    }
    if (rc == 0) {
        spool->just_saved = true;
        tf_retention_run(spool);
        tf_slots_run(spool);
        spool->just_saved = false;
    }
    tf_room_changed(spool);
    tf_spool_advance_close(spool);
}

void tf_cursors_save(struct tf_spool *spool)
{
    struct tf_save_job *job = &spool->save;

    if (spool->saving) {
        spool->save_wanted = true;
        return;
    }
    spool->save_wanted = false;
    spool->now.counter++;
    job->table = spool->now;
    job->fd = spool->cursors_fd;
    job->slot = 1 - spool->good_slot;
    tf_feeds_begin_save(spool, &job->table);
    memcpy(job->ordinals, spool->ordinals, sizeof job->ordinals);
    spool->saving = true;
    if (uv_queue_work(spool->loop, &job->work, save_work, on_saved) < 0) {
        tf_feeds_end_save(spool, -ENOMEM);
        spool->saving = false;
    }
}
