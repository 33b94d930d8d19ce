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
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "taffrail/log.h"

#define FILES_MAX   (1u << 20)
#define BASE_DEPTH  8u /* segments to go back for a lost snapshot */
#define CHUNK_BYTES (256u << 10)

struct found {
    uint64_t no;
    bool sound;
    struct tf_sector0 sector;
    struct tf_slots_found slots;
};

struct recovery {
    struct tf_spool *spool;
    struct found *files; /* by number */
    size_t count, capacity;
    uint64_t highest_run;
    uint8_t (*ids)[TF_SPOOL_ID_BYTES]; /* of this spool's lineages */
    size_t id_count, id_hit;
    uint32_t newest_flags; /* of the segment that was accepted */
    uint8_t newest_id[TF_SPOOL_ID_BYTES];
};

/* "%020u.seg" to its number; false for other names. */
static bool parse_name(const char *name, uint64_t *no)
{
    uint64_t value = 0;

    if (strlen(name) != TF_SEGMENT_NAME_BYTES - 1 || strcmp(name + 20, ".seg") != 0) {
        return false;
    }
    for (size_t i = 0; i < 20; i++) {
        if (name[i] < '0' || name[i] > '9' || value > (UINT64_MAX - 9) / 10) {
            return false;
        }
        value = value * 10 + (uint64_t)(name[i] - '0');
    }
    *no = value;
    return value > 0 && value < UINT64_MAX;
}

static int add_file(struct recovery *recovery, uint64_t no)
{
    if (recovery->count == recovery->capacity) {
        size_t capacity = recovery->capacity == 0 ? 64 : recovery->capacity * 2;
        struct found *files =
            capacity > FILES_MAX ? NULL : realloc(recovery->files, capacity * sizeof *files);

        if (files == NULL) {
            return -ENOMEM;
        }
        recovery->files = files;
        recovery->capacity = capacity;
    }
    recovery->files[recovery->count++] = (struct found){.no = no};
    return 0;
}

static int by_number(const void *a, const void *b)
{
    const struct found *x = a, *y = b;

    return (x->no > y->no) - (x->no < y->no);
}

static int list_files(struct recovery *recovery)
{
    int fd = openat(recovery->spool->dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    const struct dirent *entry;
    uint64_t no;
    int rc = 0;

    if (dir == NULL) {
        rc = -errno;
        if (fd >= 0) {
            (void)close(fd);
        }
        return rc;
    }
    while (rc == 0 && (errno = 0, entry = readdir(dir)) != NULL) {
        if (parse_name(entry->d_name, &no)) {
            rc = add_file(recovery, no);
        }
    }
    rc = rc == 0 && errno != 0 ? -errno : rc;
    (void)closedir(dir);
    if (recovery->count > 0) {
        qsort(recovery->files, recovery->count, sizeof recovery->files[0], by_number);
    }
    return rc;
}

/* A number seen in any header is never used again: the run of a frame counts where sector 0 rots.
 */
static int read_sector(struct recovery *recovery, struct found *file)
{
    char name[TF_SEGMENT_NAME_BYTES];
    uint8_t head[TF_SEGMENT_HEADER_BYTES], raw[TF_FRAME_HEADER_BYTES];
    struct tf_frame_header header;
    uint64_t run = 0;
    int fd, rc;

    tf_segment_name(file->no, name);
    fd = openat(recovery->spool->dir_fd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        return errno == ELOOP ? 0 : -errno; /* a planted link is no segment */
    }
    rc = tf_read_at(fd, head, sizeof head, 0);
    if (rc == 0) {
        rc = tf_read_at(fd, raw, sizeof raw, TF_SEGMENT_HEADER_BYTES);
    }
    (void)close(fd);
    if (rc < 0) {
        return rc == -EISDIR ? 0 : rc;
    }
    file->slots = tf_slots_look(recovery->spool->ring, head + TF_SECTOR_BYTES);
    if (tf_sector0_decode(head, &file->sector) == 0) {
        run = TF_SEQ_RUN(file->sector.first_seq);
        file->sound = file->sector.segment_no == file->no;
    } else if (tf_frame_header_decode(raw, &header) == 0) {
        run = TF_SEQ_RUN(header.seq);
    }
    if (run > recovery->highest_run) {
        recovery->highest_run = run;
    }
    return 0;
}

/* ---- lineages -------------------------------------------------------------------------------- */

static bool is_known(struct recovery *recovery, const uint8_t id[TF_SPOOL_ID_BYTES])
{
    for (size_t i = 0; i < recovery->id_count; i++) {
        size_t at = (recovery->id_hit + i) % recovery->id_count; /* neighbours share theirs */

        if (memcmp(recovery->ids[at], id, TF_SPOOL_ID_BYTES) == 0) {
            recovery->id_hit = at;
            return true;
        }
    }
    return false;
}

static int add_id(struct recovery *recovery, const uint8_t id[TF_SPOOL_ID_BYTES])
{
    uint8_t(*ids)[TF_SPOOL_ID_BYTES] =
        is_known(recovery, id)
            ? NULL
            : realloc(recovery->ids, (recovery->id_count + 1) * sizeof *recovery->ids);

    if (ids != NULL) {
        memcpy(ids[recovery->id_count++], id, TF_SPOOL_ID_BYTES);
        recovery->ids = ids;
    }
    return ids == NULL && !is_known(recovery, id) ? -ENOMEM : 0;
}

/* The header that begins a lineage links its id with the one before. */
static int link_file(struct recovery *recovery, const struct found *file)
{
    const struct tf_sector0 *sector = &file->sector;
    int rc = 0;

    if (!file->sound || (sector->flags & TF_SEGMENT_NEW_LINEAGE) == 0) {
        return 0;
    }
    if (is_known(recovery, sector->prev_spool_id)) {
        rc = add_id(recovery, sector->spool_id);
    } else if (is_known(recovery, sector->spool_id)) {
        rc = add_id(recovery, sector->prev_spool_id);
    }
    return rc;
}

/* Each header comes before the ones that it links, so one look in each direction finds all. */
static int link_files(struct recovery *recovery)
{
    int rc = 0;

    for (size_t i = 0; i < recovery->count && rc == 0; i++) {
        rc = link_file(recovery, &recovery->files[i]);
    }
    for (size_t i = recovery->count; i-- > 0 && rc == 0;) {
        rc = link_file(recovery, &recovery->files[i]);
    }
    return rc;
}

/* The newest sound header; NULL: none. With known_only of a lineage of this spool. */
static const struct found *newest_sound(struct recovery *recovery, bool known_only)
{
    for (size_t i = recovery->count; i-- > 0;) {
        const struct found *file = &recovery->files[i];

        if (file->sound && (!known_only || is_known(recovery, file->sector.spool_id))) {
            return file;
        }
    }
    return NULL;
}

/*
 * Headers of other spools are void. spool.meta has the newest lineage's id, or the one before it
 * when a crash came between its first segment and spool.meta; the others are linked by headers.
 * When none is left (the one header of the newest lineage is damaged), the newest one decides, as
 * when spool.meta is lost.
 */
static int sort_out_foreign(struct recovery *recovery)
{
    const struct found *newest = newest_sound(recovery, false);
    int rc = add_id(recovery, recovery->spool->id);

    rc = rc == 0 ? link_files(recovery) : rc;
    if (rc == 0 && newest != NULL && newest_sound(recovery, true) == NULL) {
        rc = add_id(recovery, newest->sector.spool_id);
        rc = rc == 0 ? link_files(recovery) : rc;
    }
    for (size_t i = 0; i < recovery->count && rc == 0; i++) {
        struct found *file = &recovery->files[i];

        file->sound = file->sound && is_known(recovery, file->sector.spool_id);
    }
    return rc;
}

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

/* The highest `durable` of good frames from here on; the scan is put back. */
static int look_ahead(struct fold *fold, const struct tf_scanned *first)
{
    struct tf_spot here = fold->scan.at;
    struct tf_scanned frame;
    int rc;

    fold->durable = first->header.durable;
    fold->knows_durable = true;
    while ((rc = tf_scan_next(&fold->scan, &frame)) == 1) {
        if (frame.header.durable > fold->durable) {
            fold->durable = frame.header.durable;
        }
    }
    fold->scan.at = here;
    return rc;
}

/* Only the auditor's key opens it: nothing here ever will. */
static bool is_auditors(const struct found *file)
{
    return file->slots.kek == TF_KEK_NONE && file->slots.has_recipient;
}

/* The state at the beginning of a segment whose snapshot is lost: the end of the one before it. */
static int fold_base(struct fold *fold)
{
    const struct found *file = &fold->recovery->files[fold->index];
    struct tf_state *state = &fold->recovery->spool->state;

    fold->in_snapshot = false;
    tf_state_fini(state);
    for (size_t i = fold->index; i-- > 0 && fold->depth < BASE_DEPTH;) {
        const struct found *before = &fold->recovery->files[i];

        if (before->sound &&
            memcmp(before->sector.segment_id, file->sector.prev_segment_id, 16) == 0) {
            struct fold base = {.recovery = fold->recovery, .index = i, .depth = fold->depth + 1};
            int rc = fold_segment(&base);

            tf_scan_close(&base.scan);
            if (rc == 0 || rc == -ENOMEM || (rc == -ENOKEY && !is_auditors(before))) {
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
    int rc = fold->newest && !fold->knows_durable ? look_ahead(fold, frame) : 0;

    *is_rot = !fold->newest || fold->durable >= frame->hole_to;
    return rc;
}

/* Folds the segment into the state; scan.at is then where it ends. 0; -EPROTO: void; -ENOKEY. */
static int fold_segment(struct fold *fold)
{
    struct recovery *recovery = fold->recovery;
    const struct found *file = &recovery->files[fold->index];
    struct tf_scanned frame;
    int rc = tf_scan_open(&fold->scan, recovery->spool->dir_fd, file->no, recovery->spool->ring);

    if (rc < 0) {
        return rc;
    }
    for (size_t i = fold->index + 1; i < recovery->count;
         i++) { /* a later header may know the end */
        if (recovery->files[i].sound &&
            memcmp(recovery->files[i].sector.prev_segment_id, file->sector.segment_id, 16) == 0 &&
            recovery->files[i].sector.prev_end < fold->scan.end) {
            fold->scan.end = recovery->files[i].sector.prev_end;
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

/*
 * Walks from the newest back. A sound header that begins behind the number on which its successor
 * builds is an attempt that came to nothing: void.
 */
static int build_list(struct recovery *recovery, size_t newest, const struct tf_spot *end)
{
    struct tf_spool *spool = recovery->spool;
    const struct tf_sector0 *next = &recovery->files[newest].sector;
    size_t *chosen = calloc(newest + 1, sizeof *chosen);
    size_t count = 0;
    int rc = chosen == NULL ? -ENOMEM : tf_segments_reserve(spool, newest + 2);

    for (size_t i = newest + 1; rc == 0 && i-- > 0;) {
        const struct found *file = &recovery->files[i];

        if (i == newest || (file->sound && file->sector.first_seq <= next->prev_last_seq)) {
            chosen[count++] = i;
            next = &file->sector;
        }
    }
    for (size_t i = count; rc == 0 && i-- > 0;) {
        const struct found *file = &recovery->files[chosen[i]];
        struct tf_segment segment = {.no = file->no,
                                     .first_seq = file->sector.first_seq,
                                     .last_seq = end->seq,
                                     .end = end->offset,
                                     .prev_last_seq = file->sector.prev_last_seq,
                                     .events_before = file->sector.events_before,
                                     .created_ns = file->sector.created_ns,
                                     .slots = file->slots};

        memcpy(segment.id, file->sector.segment_id, 16);
        memcpy(segment.spool_id, file->sector.spool_id, TF_SPOOL_ID_BYTES);
        if (i > 0) {
            const struct tf_sector0 *after = &recovery->files[chosen[i - 1]].sector;
            bool linked = memcmp(after->prev_segment_id, segment.id, 16) == 0;

            segment.last_seq = after->prev_last_seq;
            segment.end = linked ? after->prev_end : file_bytes(spool, file->no);
        }
        rc = tf_segments_add(spool, &segment);
    }
    free(chosen);
    return rc;
}

/* Finds and folds the newest sound segment. 1: found, 0: none, or -errno. */
static int accept_newest(struct recovery *recovery, const struct tf_place *at, struct tf_error *err)
{
    struct tf_spool *spool = recovery->spool;

    for (size_t i = recovery->count; i-- > 0;) {
        struct fold fold = {.recovery = recovery, .index = i, .newest = true};
        struct tf_spot end;
        int rc;

        fold.scan.fd = -1;
        rc = recovery->files[i].sound ? fold_segment(&fold) : -EPROTO;
        end = fold.scan.at;
        if (rc == 0) {
            rc = written_end(fold.scan.fd, end.offset, &spool->old_written);
        }
        tf_scan_close(&fold.scan);
        if (rc == 0) {
            spool->mark = end;
            spool->status.torn_bytes = spool->old_written - end.offset;
            spool->status.damaged_frames = fold.damaged;
            spool->key_changed = recovery->files[i].slots.has_old_kek;
            recovery->newest_flags = recovery->files[i].sector.flags;
            memcpy(recovery->newest_id, recovery->files[i].sector.spool_id, TF_SPOOL_ID_BYTES);
            rc = build_list(recovery, i, &end);
            return rc < 0 ? rc : 1;
        }
        if (rc == -ENOKEY && is_auditors(&recovery->files[i])) {
            return tf_error_add(err, at,
                                "the segments behind %llu are damaged, and only the auditor's key "
                                "opens that one; keep the spool as evidence, and name a new "
                                "spool.path",
                                (unsigned long long)recovery->files[i].no);
        }
        if (rc == -ENOKEY) {
            return tf_error_add(err, at,
                                "no key of spool.keys opens segment %llu, the newest; add "
                                "the key that it was written with, or positions would be lost",
                                (unsigned long long)recovery->files[i].no);
        }
        if (rc != -EPROTO) {
            return rc;
        }
        tf_state_fini(&spool->state);
        tf_log(TF_LOG_ERROR, "spool-recovered",
               TF_DETAILS(TF_NUM("segment", recovery->files[i].no)),
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

int tf_spool_recover(struct tf_spool *spool, const struct tf_place *at, struct tf_error *err)
{
    struct recovery recovery = {.spool = spool, .highest_run = spool->run};
    char reason[64];
    int rc = list_files(&recovery);

    for (size_t i = 0; rc == 0 && i < recovery.count; i++) {
        rc = read_sector(&recovery, &recovery.files[i]);
    }
    if (rc == 0) {
        rc = sort_out_foreign(&recovery);
    }
    spool->next_segment_no = recovery.count == 0 ? 1 : recovery.files[recovery.count - 1].no + 1;
    spool->lowest_no = recovery.count == 0 ? 1 : recovery.files[0].no;
    if (rc == 0) {
        rc = accept_newest(&recovery, at, err);
    }
    if (rc == 1) {
        tf_crash_point("start.folded");
        rc = sync_newest(spool, spool->mark.segment_no);
        rc = rc == 0 ? follow_lineage(&recovery) : rc;
    }
    free(recovery.files);
    free(recovery.ids);
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
