/*
 * recover.c - what a start accepts: a function of the directory (docs/guarantees.md C4-C6).
 *
 * The newest segment with a sound header and snapshot is folded frame by frame. A bad frame there
 * is rot when a later good frame says that it was durable: it is passed over and counted. Otherwise
 * it is a torn tail, and it and all that follows, good or not, is void. Older segments were durable
 * before their successors were made; the successor's header says where they end, so they are not
 * read. Headers that a later one skips are void. Then the file and the directory are synced, the
 * key of the seal is moved past the newest seal, and the first segment of the new run is made.
 * Nothing is truncated, renamed or removed, so a start that is killed changes nothing.
 *
 * A snapshot lost to rot is made good from the segment before it, which ends where it began.
 */
#include "seal.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "taffrail/log.h"

#define BASE_DEPTH  8u /* segments to go back for a lost snapshot */
#define CHUNK_BYTES (256u << 10)

struct recovery {
    struct tf_spool *spool;
    struct tf_listing listing;
    uint64_t highest_run;
    uint32_t newest_flags; /* of the segment that was accepted */
    uint8_t newest_id[TF_SPOOL_ID_BYTES];
};

/* ---- folding one segment -------------------------------------------------------------------- */

struct fold {
    struct recovery *recovery;
    size_t index;
    bool newest;    /* then C5 decides what counts */
    unsigned depth; /* of going back for a snapshot */
    struct tf_scan scan;
    bool in_snapshot, lost_snapshot;
    bool knows_durable;
    uint64_t durable; /* highest mark in a good frame behind the first hole */
    uint64_t damaged;
};

static int fold_segment(struct fold *fold);

/* The state at the beginning of a segment whose snapshot is lost: the end of the one before it. */
static int fold_base(struct fold *fold)
{
    const struct tf_listed *file = &fold->recovery->listing.files[fold->index];
    struct tf_state *state = &fold->recovery->spool->state;

    fold->in_snapshot = false;
    tf_state_fini(state);
    for (size_t i = fold->index; i-- > 0 && fold->depth < BASE_DEPTH;) {
        const struct tf_listed *before = &fold->recovery->listing.files[i];

        if (before->sound &&
            memcmp(before->sector.segment_id, file->sector.prev_segment_id, 16) == 0) {
            struct fold base = {.recovery = fold->recovery, .index = i, .depth = fold->depth + 1};
            int rc = fold_segment(&base);

            tf_scan_close(&base.scan);
            if (rc == 0 || rc == -ENOMEM ||
                (rc == -ENOKEY && !tf_slots_are_auditors(&before->slots))) {
                return rc;
            }
            tf_state_fini(state);
            break;
        }
    }
    tf_log(TF_LOG_ERROR, "spool-recovered", TF_DETAILS(TF_NUM("segment", file->no)),
           "positions are lost with a damaged snapshot; sources are read again from their start");
    return 0;
}

static int fold_frame(struct fold *fold, const struct tf_scanned *frame)
{
    struct tf_state *state = &fold->recovery->spool->state;
    bool is_snapshot = (frame->header.flags & TF_FRAME_SNAPSHOT) != 0;
    int rc = 0;

    if (frame->hole_to != 0) {
        fold->damaged += frame->hole_frames;
        fold->lost_snapshot |= fold->in_snapshot;
    }
    if (fold->in_snapshot && is_snapshot && !fold->lost_snapshot) {
        rc = tf_state_fold(state, frame->meta.deltas);
        fold->in_snapshot = (frame->header.flags & TF_FRAME_MORE) != 0;
        return rc;
    }
    if (fold->in_snapshot && is_snapshot && (frame->header.flags & TF_FRAME_MORE) != 0) {
        return 0; /* a part without the rest */
    }
    if (fold->in_snapshot) {
        rc = fold_base(fold);
    }
    if (rc == 0 && !is_snapshot && frame->header.type != TF_FRAME_INDEX) { /* no deltas there */
        rc = tf_state_fold(state, frame->meta.deltas);
    }
    return rc;
}

/* True when the frames missing before this one are rot, not the end of what counts (C5). */
static int hole_is_rot(struct fold *fold, const struct tf_scanned *frame, bool *is_rot)
{
    int rc = 0;

    if (fold->newest && !fold->knows_durable) {
        rc = tf_scan_look_ahead(&fold->scan, frame, &fold->durable);
        fold->knows_durable = true;
    }
    *is_rot = !fold->newest || fold->durable >= frame->hole_to;
    return rc;
}

/* Folds the segment into the state; scan.at is then where it ends. 0; -EPROTO: void; -ENOKEY. */
static int fold_segment(struct fold *fold)
{
    struct recovery *recovery = fold->recovery;
    const struct tf_listed *file = &recovery->listing.files[fold->index];
    struct tf_scanned frame;
    int rc = tf_scan_open(&fold->scan, recovery->spool->dir_fd, file->no, recovery->spool->ring);

    if (rc < 0) {
        return rc;
    }
    for (size_t i = fold->index + 1; i < recovery->listing.count;
         i++) { /* a later header may know the end */
        if (recovery->listing.files[i].sound &&
            memcmp(recovery->listing.files[i].sector.prev_segment_id, file->sector.segment_id,
                   16) == 0 &&
            recovery->listing.files[i].sector.prev_end < fold->scan.end) {
            fold->scan.end = recovery->listing.files[i].sector.prev_end;
        }
    }
    tf_state_fini(&recovery->spool->state);
    fold->in_snapshot = true;
    for (;;) {
        struct tf_spot before = fold->scan.at;
        bool is_rot = true;

        rc = tf_scan_next(&fold->scan, &frame);
        if (rc == 1 && frame.hole_to != 0 && !fold->knows_durable && fold->newest) {
            rc = hole_is_rot(fold, &frame, &is_rot); /* reads ahead: the frame must be read again */
            fold->scan.at = before;
            if (rc == 0 && is_rot) {
                continue;
            }
        } else if (rc == 1 && frame.hole_to != 0) {
            (void)hole_is_rot(fold, &frame, &is_rot);
        }
        if (rc <= 0 || !is_rot) {
            fold->scan.at = before;
            break;
        }
        rc = fold_frame(fold, &frame);
        if (rc < 0) {
            return rc;
        }
    }
    return rc < 0 ? rc : fold->in_snapshot && fold->newest ? -EPROTO : 0;
}

/* ---- what lies behind the end --------------------------------------------------------------- */

/* The end of the last byte that is not zero, at least from. */
static int written_end(int fd, uint64_t from, uint64_t *out)
{
    off_t size = lseek(fd, 0, SEEK_END);
    uint8_t *chunk = malloc(CHUNK_BYTES);
    uint64_t end = from;
    int rc = chunk == NULL ? -ENOMEM : size < 0 ? -errno : 0;

    for (uint64_t at = from; rc == 0 && at < (uint64_t)size; at += CHUNK_BYTES) {
        rc = tf_read_at(fd, chunk, CHUNK_BYTES, at);
        for (size_t i = CHUNK_BYTES; rc == 0 && i > 0; i--) {
            if (chunk[i - 1] != 0) {
                end = at + i;
                break;
            }
        }
    }
    free(chunk);
    *out = end;
    return rc;
}

/* Makes the newest segment durable before anything builds on it (C6). */
static int sync_newest(struct tf_spool *spool, uint64_t no)
{
    char name[TF_SEGMENT_NAME_BYTES];
    int rc;

    tf_segment_name(no, name);
    spool->old_fd = openat(spool->dir_fd, name, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
    if (spool->old_fd < 0 || fsync(spool->old_fd) < 0) {
        return -errno;
    }
    rc = tf_sync_dir(spool->dir_fd);
    if (rc == 0) {
        tf_crash_point("start.synced");
    }
    return rc;
}

/* ---- the list of segments ------------------------------------------------------------------- */

static uint64_t file_bytes(const struct tf_spool *spool, uint64_t no)
{
    char name[TF_SEGMENT_NAME_BYTES];
    uint64_t bytes = TF_SEGMENT_HEADER_BYTES;
    int fd;

    tf_segment_name(no, name);
    fd = openat(spool->dir_fd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    if (fd >= 0) {
        off_t size = lseek(fd, 0, SEEK_END);

        bytes = size < 0 ? bytes : (uint64_t)size;
        (void)close(fd);
    }
    return bytes;
}

static int build_list(struct recovery *recovery, size_t newest, const struct tf_spot *end)
{
    struct tf_spool *spool = recovery->spool;
    size_t *chosen = calloc(newest + 1, sizeof *chosen);
    size_t count = chosen == NULL ? 0 : tf_listing_choose(&recovery->listing, newest, chosen);
    int rc = chosen == NULL ? -ENOMEM : tf_segments_reserve(spool, newest + 2);

    for (size_t i = count; rc == 0 && i-- > 0;) {
        const struct tf_listed *file = &recovery->listing.files[chosen[i]];
        struct tf_segment segment = {.no = file->no,
                                     .first_seq = file->sector.first_seq,
                                     .last_seq = end->seq,
                                     .end = end->offset,
                                     .prev_last_seq = file->sector.prev_last_seq,
                                     .events_before = file->sector.events_before,
                                     .created_ns = file->sector.created_ns,
                                     .begins_lineage =
                                         (file->sector.flags & TF_SEGMENT_NEW_LINEAGE) != 0,
                                     .slots = file->slots};

        memcpy(segment.id, file->sector.segment_id, 16);
        memcpy(segment.spool_id, file->sector.spool_id, TF_SPOOL_ID_BYTES);
        memcpy(segment.prev_spool_id, file->sector.prev_spool_id, TF_SPOOL_ID_BYTES);
        if (i > 0) {
            const struct tf_sector0 *after = &recovery->listing.files[chosen[i - 1]].sector;
            bool linked = memcmp(after->prev_segment_id, segment.id, 16) == 0;

            segment.last_seq = after->prev_last_seq;
            segment.end = linked ? after->prev_end : file_bytes(spool, file->no);
        }
        rc = tf_segments_add(spool, &segment);
    }
    free(chosen);
    return rc;
}

/* What cannot be read now and later can would be lost for ever, once a run builds on less. */
static int fold_patiently(struct fold *fold)
{
    const struct fold begin = *fold;
    int rc = fold_segment(fold);

    for (uint32_t tries = 0; fold->scan.has_bad && tries < TF_READ_TRIES_MAX; tries++) {
        tf_scan_close(&fold->scan);
        tf_state_fini(&fold->recovery->spool->state);
        tf_wait_for_disk(fold->recovery->spool->path);
        *fold = begin;
        rc = fold_segment(fold);
    }
    return rc;
}

/* Finds and folds the newest sound segment. 1: found, 0: none, or -errno. */
static int accept_newest(struct recovery *recovery, const struct tf_place *at, struct tf_error *err)
{
    struct tf_spool *spool = recovery->spool;

    for (size_t i = recovery->listing.count; i-- > 0;) {
        struct fold fold = {.recovery = recovery, .index = i, .newest = true};
        struct tf_spot end;
        int rc;

        fold.scan.fd = -1;
        rc = recovery->listing.files[i].sound ? fold_patiently(&fold) : -EPROTO;
        end = fold.scan.at;
        if (rc == 0) {
            rc = written_end(fold.scan.fd, end.offset, &spool->old_written);
        }
        tf_scan_close(&fold.scan);
        if (rc == 0) {
            spool->mark = end;
            spool->status.torn_bytes = spool->old_written - end.offset;
            spool->status.damaged_frames = fold.damaged;
            spool->key_changed = recovery->listing.files[i].slots.has_old_kek;
            recovery->newest_flags = recovery->listing.files[i].sector.flags;
            memcpy(recovery->newest_id, recovery->listing.files[i].sector.spool_id,
                   TF_SPOOL_ID_BYTES);
            rc = build_list(recovery, i, &end);
            return rc < 0 ? rc : 1;
        }
        if (rc == -ENOKEY && tf_slots_are_auditors(&recovery->listing.files[i].slots)) {
            return tf_error_add(err, at,
                                "the segments behind %llu are damaged, and only the auditor's key "
                                "opens that one; keep the spool as evidence, and name a new "
                                "spool.path",
                                (unsigned long long)recovery->listing.files[i].no);
        }
        if (rc == -ENOKEY) {
            return tf_error_add(err, at,
                                "no key of spool.keys opens segment %llu, the newest; add "
                                "the key that it was written with, or positions would be lost",
                                (unsigned long long)recovery->listing.files[i].no);
        }
        if (rc != -EPROTO) {
            return rc;
        }
        tf_state_fini(&spool->state);
        tf_log(TF_LOG_ERROR, "spool-recovered",
               TF_DETAILS(TF_NUM("segment", recovery->listing.files[i].no)),
               "segment has no sound header and snapshot: it does not count, frames in it are lost "
               "if it was ever used; it stays as evidence");
    }
    return 0;
}

static void tell(const struct tf_spool *spool)
{
    if (spool->status.torn_bytes > 0) {
        tf_log(TF_LOG_WARN, "spool-recovered",
               TF_DETAILS(TF_NUM("bytes", spool->status.torn_bytes)),
               "torn tail: as a crash leaves it; not accepted, sources are read again from there");
    }
    if (spool->status.damaged_frames > 0) {
        tf_log(TF_LOG_ERROR, "spool-recovered",
               TF_DETAILS(TF_NUM("frames", spool->status.damaged_frames)),
               "damaged frames passed over; each output is told by a gap record");
    }
}

/* The first segment of the run; a full disk is waited for, since what is kept can be sent. */
static int begin_run(struct tf_spool *spool)
{
    int rc;

    spool->next_flags |= spool->status.torn_bytes > 0 ? TF_SEGMENT_AFTER_UNCLEAN : 0;
    rc = tf_plan_segment(spool);
    if (rc == 0) {
        rc = tf_segment_create(&spool->plan);
    }
    if (rc == 0) {
        tf_plan_adopt(spool);
        return 0;
    }
    tf_plan_drop(spool);
    if (rc != -ENOSPC && rc != -EDQUOT) {
        return rc;
    }
    spool->status.error = rc;
    spool->needs_segment = true;
    spool->create_wait = true;
    tf_log(TF_LOG_ERROR, "spool-full", NULL, 0,
           "no space for a segment; inputs wait, what is kept is sent; retry in 1000 ms");
    return 0;
}

/* A crash came between the first segment of a lineage and spool.meta, or that segment is damaged.
 */
static int follow_lineage(struct recovery *recovery)
{
    struct tf_spool *spool = recovery->spool;

    if (memcmp(recovery->newest_id, spool->id, TF_SPOOL_ID_BYTES) == 0) {
        return 0;
    }
    memcpy(spool->id, recovery->newest_id, TF_SPOOL_ID_BYTES);
    tf_log(TF_LOG_WARN, "spool-recovered", TF_DETAILS(TF_STR("spool", spool->path)),
           "spool.meta had the id of another lineage; it follows the newest segment");
    return tf_spool_meta_write(spool->dir_fd, spool->id);
}

/* Names and headers of all segments. */
static int list_patiently(const struct tf_spool *spool, struct tf_listing *listing)
{
    bool has_bad = true;
    int rc = 0;

    for (uint32_t tries = 0; rc == 0 && has_bad && tries <= TF_READ_TRIES_MAX; tries++) {
        if (tries > 0) {
            tf_listing_fini(listing);
            tf_wait_for_disk(spool->path);
        }
        has_bad = false;
        rc = tf_listing_read(spool->dir_fd, listing);
        for (size_t i = 0; rc == 0 && i < listing->count; i++) {
            rc = tf_listed_read(spool->dir_fd, spool->ring, &listing->files[i]);
            has_bad |= listing->files[i].has_bad;
        }
    }
    return rc;
}

int tf_spool_recover(struct tf_spool *spool, const struct tf_place *at, struct tf_error *err)
{
    struct recovery recovery = {.spool = spool, .highest_run = spool->run};
    char reason[64];
    int rc = list_patiently(spool, &recovery.listing);

    for (size_t i = 0; rc == 0 && i < recovery.listing.count; i++) {
        const struct tf_listed *file = &recovery.listing.files[i];

        /* a number seen in any header is never used again */
        recovery.highest_run = file->run > recovery.highest_run ? file->run : recovery.highest_run;
    }
    if (rc == 0) {
        rc = tf_listing_keep_own(&recovery.listing, spool->id);
    }
    spool->next_segment_no =
        recovery.listing.count == 0 ? 1 : recovery.listing.files[recovery.listing.count - 1].no + 1;
    spool->lowest_no = recovery.listing.count == 0 ? 1 : recovery.listing.files[0].no;
    if (rc == 0) {
        rc = accept_newest(&recovery, at, err);
    }
    if (rc == 1) {
        tf_crash_point("start.folded");
        rc = sync_newest(spool, spool->mark.segment_no);
        rc = rc == 0 ? follow_lineage(&recovery) : rc;
    }
    tf_listing_fini(&recovery.listing);
    if (rc == 0) {
        rc = tf_seal_start(spool, recovery.newest_flags, err);
    }
    if (rc == 0) {
        tell(spool);
        spool->run = recovery.highest_run;
        spool->synced = spool->appended = spool->mark;
        spool->synced_cover = spool->appended_cover = spool->mark_cover;
        tf_new_run(spool);
        rc = begin_run(spool);
    }
    if (rc < 0 && rc != -EINVAL) {
        (void)tf_error_add(err, at, "spool \"%s\": %s; see what its disk says", spool->path,
                           uv_strerror_r(rc, reason, sizeof reason));
    }
    return rc;
}
