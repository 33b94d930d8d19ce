/*
 * retention.c - what is deleted, and whether there is room (docs/guarantees.md F1).
 *
 * Whole segments, oldest first, never the newest, and only what the saved cursors of all outputs
 * have passed; unlink, then sync the directory. retain.age and retain.size say how long they stay
 * after that; when the disk is short of keep_free, kept data goes first. Attempts that came to
 * nothing lie between the numbers of segments and go with them.
 *
 * Room: undelivered bytes below max_size, keep_free left on the disk, and a segment to write to.
 */
#include "internal.h"

#include <errno.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "taffrail/log.h"

#define RESTED_TICKS_MAX 30u /* a look at the disk so often when idle */

uint64_t tf_free_bytes(int dir_fd)
{
    struct statvfs st;

    return fstatvfs(dir_fd, &st) == 0 ? (uint64_t)st.f_bavail * st.f_frsize : UINT64_MAX;
}

uint64_t tf_pending_bytes(const struct tf_spool *spool)
{
    uint64_t address, events;

    tf_feeds_lowest(spool, &address, &events);
    return tf_spot_address(spool, &spool->mark) - address;
}

bool tf_spool_has_room(const struct tf_spool *spool)
{
    return spool->had_room;
}

static bool has_room(const struct tf_spool *spool)
{
    return !spool->create_wait && !spool->closing &&
           spool->free_bytes >= spool->options.keep_free_bytes &&
           tf_pending_bytes(spool) < spool->options.max_size_bytes;
}

void tf_room_changed(struct tf_spool *spool)
{
    bool had = spool->had_room;

    spool->had_room = has_room(spool);
    if (had && !spool->had_room && !spool->closing) {
        tf_log(TF_LOG_WARN, "spool-full", TF_DETAILS(TF_STR("spool", spool->path)),
               "no room: inputs wait until outputs have taken what is there");
    }
    if (!had && spool->had_room && spool->callbacks.on_room != NULL) {
        spool->callbacks.on_room(spool->callbacks.ctx);
    }
}

static bool is_kept(const struct tf_spool *spool, size_t i, uint64_t kept_bytes, int64_t now_ns)
{
    const struct tf_spool_options *options = &spool->options;
    uint64_t closed_ms = (uint64_t)(spool->segments[i + 1].created_ns / TF_MS_IN_NS);
    uint64_t now_ms = (uint64_t)(now_ns / TF_MS_IN_NS);

    if (options->retain_age_ms == 0 && options->retain_size_bytes == 0) {
        return false;
    }
    if (spool->free_bytes < options->keep_free_bytes) {
        return false;
    }
    return (options->retain_age_ms == 0 || now_ms < closed_ms + options->retain_age_ms) &&
           (options->retain_size_bytes == 0 || kept_bytes <= options->retain_size_bytes);
}

/* How many of the oldest segments are to go. */
static size_t count_expired(const struct tf_spool *spool)
{
    uint64_t passed = tf_cursors_saved_min(spool);
    uint64_t kept_bytes = 0;
    int64_t now_ns = tf_now_ns();
    size_t acked = 0, expired = 0;

    while (acked + 1 < spool->segment_count && spool->segments[acked].last_seq <= passed) {
        kept_bytes += spool->segments[acked].end;
        acked++;
    }
    while (expired < acked && !is_kept(spool, expired, kept_bytes, now_ns)) {
        kept_bytes -= spool->segments[expired].end;
        expired++;
    }
    return expired;
}

static void retention_work(uv_work_t *work)
{
    struct tf_retention_job *job = TF_CONTAINER_OF(work, struct tf_retention_job, work);

    job->status = 0;
    for (uint64_t no = job->from; job->status == 0 && no < job->to; no++) {
        char name[TF_SEGMENT_NAME_BYTES];

        tf_segment_name(no, name);
        if (unlinkat(job->dir_fd, name, 0) < 0 && errno != ENOENT) {
            job->status = -errno;
        }
    }
    if (job->status == 0 && job->from < job->to) {
        job->status = tf_sync_dir(job->dir_fd);
    }
    job->free_bytes = tf_free_bytes(job->dir_fd);
}

static void on_retained(uv_work_t *work, int status)
{
    struct tf_retention_job *job = TF_CONTAINER_OF(work, struct tf_retention_job, work);
    struct tf_spool *spool = TF_CONTAINER_OF(job, struct tf_spool, retention);
    int rc = status < 0 ? status : job->status;
    size_t gone = 0;

    spool->retaining = false;
    spool->free_bytes = status < 0 ? spool->free_bytes : job->free_bytes;
    if (rc < 0) {
        char reason[64];

        spool->status.error = rc;
        tf_log(TF_LOG_ERROR, "disk-error", TF_DETAILS(TF_STR("spool", spool->path)),
               "a delivered segment cannot be deleted: %s; retry in 1000 ms",
               uv_strerror_r(rc, reason, sizeof reason));
    } else {
        while (gone + 1 < spool->segment_count && spool->segments[gone].no < job->to) {
            gone++;
        }
        spool->segment_count -= gone;
        memmove(spool->segments, spool->segments + gone,
                spool->segment_count * sizeof spool->segments[0]);
        spool->lowest_no = job->to > spool->lowest_no ? job->to : spool->lowest_no;
    }
    tf_slots_run(spool);
    tf_room_changed(spool);
    tf_spool_advance_close(spool);
}

/* Nothing was written since the last look, nothing is to go, and there is room: then the disk is
 * asked only now and then. */
static bool may_rest(struct tf_spool *spool, size_t expired)
{
    bool is_idle = expired == 0 && spool->had_room && spool->next_seq == spool->retained_seq;

    spool->retained_seq = spool->next_seq;
    spool->rested_ticks = is_idle ? spool->rested_ticks + 1 : 0;
    return spool->rested_ticks % RESTED_TICKS_MAX != 0;
}

void tf_retention_run(struct tf_spool *spool)
{
    struct tf_retention_job *job = &spool->retention;
    size_t expired;

    if (spool->retaining || spool->slots_running || spool->closing || spool->segment_count == 0) {
        return;
    }
    expired = count_expired(spool);
    if (may_rest(spool, expired)) {
        return;
    }
    job->dir_fd = spool->dir_fd;
    job->from = job->to = spool->lowest_no;
    if (expired > 0) {
        job->to = spool->segments[expired].no;
    }
    if (job->to - job->from > TF_UNLINKS_MAX) { /* numbers of attempts; the rest is next */
        job->to = job->from + TF_UNLINKS_MAX;
    }
    if (uv_queue_work(spool->loop, &job->work, retention_work, on_retained) == 0) {
        spool->retaining = true;
    }
}
