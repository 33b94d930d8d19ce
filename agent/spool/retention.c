/*
 * retention.c - what is deleted, and whether there is room (docs/guarantees.md F1, F2).
 *
 * Whole segments, oldest first, never the newest. In this order:
 *
 *     kept      what the saved cursors of all outputs have passed: when retain.age or retain.size
 *               is over, at once without them, and first of all when the disk is short
 *     unsent    only with drop_oldest, when there is no room and nothing kept is left; cursors are
 *               saved before; a segment with a frame in flight is spared, and all behind it. What
 *               outputs will never see is derived by their feeds (F3)
 *
 * The steps of one deletion:
 *
 *     REST      nothing is planned
 *     LOOK      a worker looks for the first seal that stays, for the notice, in one segment
 *               after another: what was there before the first key, or ended by a crash, has none
 *     NOTICE    the notice `expire` is on its way to the disk
 *     DUE       it is durable: at the next free moment a worker zeroes the key slots
 *               (spool.shred), syncs, unlinks, and syncs the directory. What failed is tried again
 *               by the next tick, under the same notice; what is dropped waits for frames that
 *               were handed out since
 *
 * When no segment can be made since the disk is full, deletion does not wait for its notice: what
 * it says is saved with the cursors (cursors.c), which takes no space, and the notice is written as
 * soon as there is a segment again, by the next start too. A crash after any step is followed by
 * the same decision at the next start, with a notice of its own. Attempts that came to nothing lie
 * between the numbers of segments and go with them.
 *
 * Room: undelivered bytes below max_size, keep_free left on the disk, and a segment to write to.
 * With drop_oldest the newest segment alone always has room, since it is never deleted.
 */
#include "seal.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "taffrail/log.h"

#define RESTED_TICKS_MAX 30u /* a look at the disk so often when idle */

static const char *const causes[] = {[TF_EXPIRE_AGE] = "older than spool.retain.age",
                                     [TF_EXPIRE_SIZE] = "more than spool.retain.size",
                                     [TF_EXPIRE_KEEP_FREE] = "the disk is short of space",
                                     [TF_EXPIRE_DROP_OLDEST] = "drop_oldest: the spool is full",
                                     [TF_EXPIRE_DELIVERED] = "delivered"};

/* ---- room ----------------------------------------------------------------------------------- */

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

static bool drops(const struct tf_spool *spool)
{
    return spool->options.on_full == TF_ON_FULL_DROP_OLDEST;
}

/* No segment can be made, since the disk is full. */
static bool is_disk_full(const struct tf_spool *spool)
{
    return spool->needs_segment &&
           (spool->status.error == -ENOSPC || spool->status.error == -EDQUOT);
}

static bool is_disk_short(const struct tf_spool *spool)
{
    return spool->free_bytes < spool->options.keep_free_bytes || is_disk_full(spool);
}

/* All that is undelivered lies in the newest segment. */
static bool only_newest_pends(const struct tf_spool *spool)
{
    uint64_t address, events;

    tf_feeds_lowest(spool, &address, &events);
    return spool->segment_count > 0 && address >= spool->segments[spool->segment_count - 1].base;
}

static bool has_room(const struct tf_spool *spool)
{
    return !spool->create_wait && !spool->closing &&
           spool->free_bytes >= spool->options.keep_free_bytes &&
           (tf_pending_bytes(spool) < spool->options.max_size_bytes ||
            (drops(spool) && only_newest_pends(spool)));
}

static void drop_for_room(struct tf_spool *spool);

void tf_room_changed(struct tf_spool *spool)
{
    bool had = spool->had_room;

    spool->had_room = has_room(spool);
    if (had && !spool->had_room) {
        spool->full_since_ms = uv_now(spool->loop);
    } else if (!had && spool->had_room) {
        spool->status.full_ms += uv_now(spool->loop) - spool->full_since_ms;
    }
    if (!spool->had_room && !spool->closing && drops(spool)) {
        drop_for_room(spool);
    } else if (had && !spool->had_room && !spool->closing) {
        tf_log(TF_LOG_WARN, "spool-full", TF_DETAILS(TF_STR("spool", spool->path)),
               "no room: inputs wait until outputs have taken what is there");
    }
    if (!had && spool->had_room && spool->callbacks.on_room != NULL) {
        spool->callbacks.on_room(spool->callbacks.ctx);
    }
}

/* ---- what is to go -------------------------------------------------------------------------- */

/* Why kept segment i is to go; 0: it stays. kept_bytes: of it and all kept behind it. */
static enum tf_expire_cause expiry(const struct tf_spool *spool, size_t i, uint64_t kept_bytes,
                                   int64_t now_ns)
{
    const struct tf_spool_options *options = &spool->options;
    uint64_t closed_ms = (uint64_t)(spool->segments[i + 1].created_ns / TF_MS_IN_NS);
    uint64_t now_ms = (uint64_t)(now_ns / TF_MS_IN_NS);

    if (options->retain_age_ms == 0 && options->retain_size_bytes == 0) {
        return TF_EXPIRE_DELIVERED;
    }
    if (is_disk_short(spool)) {
        return TF_EXPIRE_KEEP_FREE;
    }
    if (options->retain_age_ms != 0 && now_ms >= closed_ms + options->retain_age_ms) {
        return TF_EXPIRE_AGE;
    }
    return options->retain_size_bytes != 0 && kept_bytes > options->retain_size_bytes
               ? TF_EXPIRE_SIZE
               : 0;
}

/* How many of the oldest segments are to go, for one cause. */
static size_t count_expired(const struct tf_spool *spool, enum tf_expire_cause *cause)
{
    uint64_t passed = tf_cursors_saved_min(spool);
    uint64_t kept_bytes = 0;
    int64_t now_ns = tf_now_ns();
    size_t acked = 0, expired = 0;

    while (acked + 1 < spool->segment_count && spool->segments[acked].last_seq <= passed) {
        kept_bytes += spool->segments[acked].end;
        acked++;
    }
    for (; expired < acked; expired++) {
        enum tf_expire_cause why = expiry(spool, expired, kept_bytes, now_ns);

        if (why == 0 || (expired > 0 && why != *cause)) {
            break;
        }
        *cause = why;
        kept_bytes -= spool->segments[expired].end;
    }
    return expired;
}

/* How many segments drop_oldest deletes now: until undelivered bytes are below max_size; where the
 * disk is short, one, and then it is asked again. */
static size_t count_dropped(const struct tf_spool *spool)
{
    uint64_t tail = tf_spot_address(spool, &spool->mark), low, events;
    uint64_t in_flight = tf_feeds_first_in_flight(spool);
    bool is_short = is_disk_short(spool);
    size_t count = 0;

    tf_feeds_lowest(spool, &low, &events);
    while (count + 1 < spool->segment_count && spool->segments[count].last_seq < in_flight &&
           (is_short || tail - low >= spool->options.max_size_bytes)) {
        const struct tf_segment *next = &spool->segments[++count];

        low = next->base > low ? next->base : low;
        is_short = false;
    }
    return count;
}

/* ---- on a worker ---------------------------------------------------------------------------- */

/*
 * The first seal in a segment, by headers alone; frames that do not hold are passed over, as by who
 * verifies it. While sealing was off, as its header tells, no seal was made.
 */
static bool find_seal(const struct tf_retention_job *job, uint64_t *number)
{
    const struct tf_scan_want seals = {.is_for_seals = true};
    struct tf_scanned frame;
    struct tf_scan scan;
    bool found = false;
    int rc = tf_scan_open(&scan, job->dir_fd, job->kept_no, NULL);

    if (rc < 0 || (scan.sector.flags & TF_SEGMENT_SEALING) == 0) {
        tf_scan_close(&scan);
        return false;
    }
    scan.end = job->kept_end < scan.end ? job->kept_end : scan.end;
    while (!found && tf_scan_hop(&scan, &seals) == 0 && tf_scan_next(&scan, &frame) == 1) {
        found = tf_frame_is_seal(&frame.header) && frame.content.size >= sizeof *number;
    }
    if (found) {
        *number = tf_load64(frame.content.data);
    }
    tf_scan_close(&scan);
    return found;
}

static int delete_one(const struct tf_retention_job *job, uint64_t no)
{
    char name[TF_SEGMENT_NAME_BYTES];
    int rc = job->shred ? tf_slots_shred(job->dir_fd, no) : 0;

    tf_segment_name(no, name);
    if (rc == 0 && unlinkat(job->dir_fd, name, 0) < 0 && errno != ENOENT) {
        rc = -errno;
    }
    return rc;
}

static void retention_work(uv_work_t *work)
{
    struct tf_retention_job *job = TF_CONTAINER_OF(work, struct tf_retention_job, work);

    job->status = 0;
    if (job->is_look) {
        job->has_seal = find_seal(job, &job->expiry.first_seal);
        return;
    }
    if (job->expiry.cause == TF_EXPIRE_DROP_OLDEST) {
        tf_crash_point("drop.cursors");
    }
    for (uint64_t no = job->from; job->status == 0 && no < job->to; no++) {
        job->status = delete_one(job, no);
    }
    if (job->from < job->to) {
        tf_crash_point("drop.unlinked");
    }
    if (job->status == 0 && job->from < job->to) {
        job->status = tf_sync_dir(job->dir_fd);
    }
    job->free_bytes = tf_free_bytes(job->dir_fd);
}

/* ---- the steps ------------------------------------------------------------------------------ */

/* Records in the segments that are gone and that some output never had. */
static uint64_t lost_events(const struct tf_spool *spool, size_t gone)
{
    uint64_t begin = spool->segments[0].events_before, end = spool->segments[gone].events_before;
    uint64_t address, events;

    tf_feeds_lowest(spool, &address, &events);
    begin = events > begin ? events : begin;
    return end > begin ? end - begin : 0;
}

static void tell_gone(struct tf_spool *spool, size_t gone)
{
    const struct tf_retention_job *job = &spool->retention;
    const struct tf_segment *first = spool->segments, *last = first + gone - 1;
    uint64_t lost = lost_events(spool, gone);
    char text[256], unsent[96] = "all had reached every output";

    spool->status.expired_events += lost;
    if (lost > 0) {
        (void)snprintf(unsent, sizeof unsent, "%llu %s in them had not reached every output",
                       (unsigned long long)lost, tf_plural(lost, "record", "records"));
    }
    (void)snprintf(text, sizeof text,
                   "segments %llu to %llu, up to frame %llu/%llu, are deleted: %s; %s",
                   (unsigned long long)first->no, (unsigned long long)last->no,
                   (unsigned long long)TF_SEQ_RUN(last->last_seq),
                   (unsigned long long)TF_SEQ_N(last->last_seq), causes[job->expiry.cause], unsent);
    tf_log(lost > 0 ? TF_LOG_WARN : TF_LOG_INFO, "expired",
           TF_DETAILS(TF_STR("spool", spool->path), TF_NUM("records", lost)), "%s", text);
    if (spool->callbacks.on_event != NULL) {
        spool->callbacks.on_event(spool->callbacks.ctx, "expired", text);
    }
}

static void forget_gone(struct tf_spool *spool)
{
    struct tf_retention_job *job = &spool->retention;
    size_t gone = 0;

    while (gone + 1 < spool->segment_count && spool->segments[gone].no < job->to) {
        gone++;
    }
    if (gone > 0) {
        tell_gone(spool, gone);
        tf_feeds_forget(spool, spool->segments[gone].no);
    }
    spool->segment_count -= gone;
    memmove(spool->segments, spool->segments + gone,
            spool->segment_count * sizeof spool->segments[0]);
    spool->lowest_no = job->to > spool->lowest_no ? job->to : spool->lowest_no;
}

static void looked(struct tf_spool *spool);

static void on_retained(uv_work_t *work, int status)
{
    struct tf_retention_job *job = TF_CONTAINER_OF(work, struct tf_retention_job, work);
    struct tf_spool *spool = TF_CONTAINER_OF(job, struct tf_spool, retention);
    int rc = status < 0 ? status : job->status;

    spool->retaining = false;
    if (job->is_look) {
        looked(spool);
    } else if (rc < 0) {
        char reason[64];

        tf_disk_failed(spool, TF_DISK_DELETE, rc);
        spool->retention_step = TF_RETENTION_DUE;
        spool->retention_wait = true;
        tf_log(TF_LOG_ERROR, "disk-error", TF_DETAILS(TF_STR("spool", spool->path)),
               "a segment cannot be deleted: %s; retry in 1000 ms",
               uv_strerror_r(rc, reason, sizeof reason));
    } else {
        spool->free_bytes = job->free_bytes;
        forget_gone(spool);
    }
    tf_feeds_wake(spool); /* those that waited in tf_retention_deletes */
    tf_slots_run(spool);
    tf_room_changed(spool);
    tf_spool_advance_close(spool);
}

static void queue_job(struct tf_spool *spool, bool is_look)
{
    struct tf_retention_job *job = &spool->retention;

    job->is_look = is_look;
    job->dir_fd = spool->dir_fd;
    job->shred = spool->options.shred;
    if (uv_queue_work(spool->loop, &job->work, retention_work, on_retained) == 0) {
        spool->retaining = true;
    }
}

/* Looks for a seal in a segment that stays, from number i on. */
static void look_into(struct tf_spool *spool, size_t i)
{
    struct tf_retention_job *job = &spool->retention;

    while (i + 1 < spool->segment_count && spool->segments[i].has_no_seal) {
        i++;
    }
    job->kept_no = spool->segments[i].no;
    job->kept_end = spool->segments[i].end;
    spool->retention_step = TF_RETENTION_LOOK;
    queue_job(spool, true);
    if (!spool->retaining) {
        spool->retention_step = TF_RETENTION_REST;
    }
}

/* Called while frames are released, or cancelled: what follows is a job of a worker. One that
 * another follows decides nothing: the last one says more. */
static void on_notice(void *ctx, int status, uint64_t seq)
{
    struct tf_spool *spool = ctx;

    (void)seq;
    assert(spool->notices_coming > 0);
    if (--spool->notices_coming > 0) {
        return;
    }
    if (status == 0 && spool->told.last_no >= spool->now.owed.last_no) {
        spool->now.owed = (struct tf_expiry){0};
    }
    if (spool->retention_step == TF_RETENTION_NOTICE) {
        spool->retention_step = status == 0 ? TF_RETENTION_DUE : TF_RETENTION_REST;
    }
    tf_retention_run(spool);
}

static int write_notice(struct tf_spool *spool, const struct tf_expiry *expiry)
{
    const struct tf_notice notice = {.kind = TF_NOTICE_EXPIRE,
                                     .time_ns = expiry->time_ns,
                                     .a = expiry->last_no,
                                     .b = expiry->last_seq,
                                     .c = expiry->first_seal,
                                     .id = {(uint8_t)expiry->cause}};
    int rc;

    spool->told = *expiry;
    spool->notices_coming++; /* it may come at once */
    rc = tf_notice_append(spool, &notice, on_notice, spool);
    spool->notices_coming -= rc < 0;
    return rc;
}

static void append_notice(struct tf_spool *spool)
{
    spool->retention.expiry.time_ns = tf_now_ns();
    spool->retention_step = TF_RETENTION_NOTICE;
    if (write_notice(spool, &spool->retention.expiry) < 0) {
        spool->retention_step = TF_RETENTION_REST; /* no memory, or closing */
    }
}

/* A segment was looked into. Without a seal in it the next one is, up to the one that was the
 * newest then: behind that, the first seal was still to be made, and begin() has its number. */
static void looked(struct tf_spool *spool)
{
    const struct tf_retention_job *job = &spool->retention;
    const struct tf_segment *kept = tf_segments_find(spool, job->kept_no);
    size_t i = kept == NULL ? 0 : (size_t)(kept - spool->segments);

    if (job->has_seal || spool->closing || kept == NULL || kept->end != job->kept_end ||
        i + 1 == spool->segment_count) {
        append_notice(spool);
        return;
    }
    spool->segments[i].has_no_seal = true;
    look_into(spool, i + 1);
}

/* Plans the deletion of the first count segments. */
static void begin(struct tf_spool *spool, size_t count, enum tf_expire_cause cause)
{
    struct tf_retention_job *job = &spool->retention;
    const struct tf_segment *last;
    uint64_t most; /* numbers of attempts behind it go with the next job */

    job->from = spool->lowest_no;
    most = job->from + TF_UNLINKS_MAX;
    if (spool->segments[0].no >= most) { /* attempts only: nothing that counts goes */
        job->to = most;
        queue_job(spool, false);
        return;
    }
    while (count > 1 && spool->segments[count].no > most) {
        count--;
    }
    last = &spool->segments[count - 1];
    job->to = spool->segments[count].no < most ? spool->segments[count].no : most;
    job->expiry.cause = cause;
    job->expiry.last_no = last->no;
    job->expiry.last_seq = last->last_seq;
    job->expiry.first_seal = tf_seal_next_number(spool);
    look_into(spool, count);
}

/* Nothing was written since the last look, nothing is to go, and there is room: then the disk is
 * asked only now and then. */
static bool may_rest(struct tf_spool *spool)
{
    bool is_idle = spool->had_room && spool->next_seq == spool->retained_seq;

    spool->retained_seq = spool->next_seq;
    spool->rested_ticks = is_idle ? spool->rested_ticks + 1 : 0;
    return spool->rested_ticks % RESTED_TICKS_MAX != 0;
}

bool tf_retention_deletes(const struct tf_spool *spool, uint64_t no)
{
    const struct tf_retention_job *job = &spool->retention;

    return spool->retaining && !job->is_look && no >= job->from && no < job->to;
}

/* F2: some output has a frame, or reads one, of what was to be dropped. */
static bool is_spared(const struct tf_spool *spool)
{
    const struct tf_expiry *expiry = &spool->retention.expiry;

    return expiry->cause == TF_EXPIRE_DROP_OLDEST &&
           tf_feeds_first_in_flight(spool) <= expiry->last_seq;
}

/*
 * May a deletion go ahead of its notice, which waits for a segment that the disk has no space for?
 * What it says is saved before, beside the cursors, where space is allocated: a start writes it.
 * When even that fails (a filesystem that copies on write), the deletion goes on all the same: else
 * there would never be space again.
 */
static bool may_go_ahead(struct tf_spool *spool)
{
    const struct tf_expiry *told = &spool->told;

    if (!is_disk_full(spool)) {
        return false;
    }
    if (spool->now.owed.last_no != told->last_no) {
        spool->now.owed = *told;
        spool->owed_tried = false;
        tf_cursors_save(spool); /* and then again */
    }
    return spool->owed_tried;
}

/* Goes on with what is planned. True when there is nothing more to do now. */
static bool go_on(struct tf_spool *spool)
{
    enum tf_retention_step step = spool->retention_step;

    if (spool->retaining || spool->retention_wait || spool->slots_running || spool->closing ||
        spool->segment_count == 0) {
        return true;
    }
    if (spool->now.owed.last_no != 0 && spool->notices_coming == 0) {
        (void)write_notice(spool, &spool->now.owed); /* no memory: the next tick does it */
    }
    if ((step == TF_RETENTION_DUE || step == TF_RETENTION_NOTICE) && !is_spared(spool) &&
        (step == TF_RETENTION_DUE || may_go_ahead(spool))) {
        spool->retention_step = TF_RETENTION_REST;
        queue_job(spool, false);
        return true;
    }
    return step != TF_RETENTION_REST;
}

/* Begins to drop what no output may have had. True when it does, or waits for cursors. */
static bool drop(struct tf_spool *spool)
{
    size_t count = drops(spool) && tf_cursors_begun(spool) ? count_dropped(spool) : 0;

    if (count == 0) {
        return false;
    }
    if (tf_cursors_dirty(spool) && !spool->just_saved) {
        tf_cursors_save(spool); /* and then again */
        return true;
    }
    begin(spool, count, TF_EXPIRE_DROP_OLDEST);
    return true;
}

static void drop_for_room(struct tf_spool *spool)
{
    enum tf_expire_cause cause;

    if (!go_on(spool) && !is_disk_short(spool) && count_expired(spool, &cause) == 0) {
        (void)drop(spool);
    }
}

void tf_retention_run(struct tf_spool *spool)
{
    enum tf_expire_cause cause = 0;
    size_t expired;

    if (go_on(spool)) {
        return;
    }
    expired = count_expired(spool, &cause);
    if (expired > 0) {
        begin(spool, expired, cause);
    } else if (!drop(spool) && !may_rest(spool)) {
        spool->retention.from = spool->retention.to = spool->lowest_no;
        queue_job(spool, false);
    }
}

void tf_retention_tick(struct tf_spool *spool)
{
    spool->retention_wait = false;
    tf_retention_run(spool);
}
