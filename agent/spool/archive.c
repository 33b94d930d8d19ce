/*
 * archive.c - a spool opened only to read (include/taffrail/archive.h).
 *
 * The directory is listed, the newest segment that can be read is found, and from it back those
 * that count (listing.c). They are read oldest first:
 *
 *     end of a segment   its successor's prev_end; of the newest as far as frames are good, and
 *                        over rot, which docs/guarantees.md C5 tells from a torn tail
 *     inside             stretches that the index does not rule out (sparse.c), in them frames
 *                        that their headers do not rule out
 *     between            a segment that does not build on the one before it: what is missing is
 *                        told
 *
 * The descriptor of the segment that is read stays open, so that its expiry takes nothing from us;
 * one that is gone before it was opened is told (F4). A live agent may be in the middle of a frame:
 * a hole in the newest segment is believed only when it is there at a second look.
 *
 * Not here: whether the chain from segment to segment and the seals hold (verify).
 */
#include "taffrail/archive.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <zlib.h>

#include "expiry.h"
#include "sparse.h"

#define GZIP_WINDOW_BITS (15 + 16) /* 16: gzip rather than zlib framing */
#define INFLATE_STEP     (256u << 10)

struct tf_archive {
    int dir_fd;
    struct tf_keyring *ring;
    struct tf_listing listing;
    size_t *chosen; /* those that count, newest first */
    size_t count;
    struct tf_scan_want want;

    size_t next;       /* place in the order, oldest first, of the segment to open next */
    uint64_t done_seq; /* all numbers up to it are behind us */
    uint8_t last_id[16];
    int64_t last_created_ns;
    bool has_last;

    /* the segment being read */
    bool is_open, is_newest, is_counted, in_stretch, was_searched, is_torn;
    size_t current;
    uint64_t no;
    struct tf_scan scan;
    struct tf_stretch segment, stretch;
    uint32_t stretch_at;
    struct tf_sparse sparse;
    struct tf_scanned frame; /* held back, behind the hole before it */
    bool has_frame;

    uint64_t read, events, bytes, passed;
};

static const struct tf_listed *found_at(const struct tf_archive *archive, size_t place)
{
    return &archive->listing.files[archive->chosen[archive->count - 1 - place]];
}

/* ---- which segments count ----------------------------------------------------------------------
 */

/* Whether a segment can be the newest: it opens and holds a frame. 1, 0, or -errno. *events is what
 * stands in it, as headers tell. */
static int try_newest(struct tf_archive *archive, const struct tf_listed *file, uint64_t *events)
{
    struct tf_scanned frame;
    struct tf_scan scan;
    int rc = tf_scan_open(&scan, archive->dir_fd, file->no, archive->ring);

    *events = file->sector.events_before;
    if (rc == -ENOKEY) {
        return 1;
    }
    if (rc == 0) {
        rc = tf_scan_next(&scan, &frame);
    }
    if (rc == 1) {
        (void)tf_scan_skip(&scan, UINT64_MAX);
        *events = scan.at.events;
    }
    tf_scan_close(&scan);
    return rc == -ENOENT || rc == -EPROTO ? 0 : rc;
}

/* The id in spool.meta; NULL when that is lost. */
static const uint8_t *read_id(int dir_fd, uint8_t id[TF_SPOOL_ID_BYTES])
{
    uint8_t bytes[TF_SPOOL_META_BYTES];
    int fd = openat(dir_fd, "spool.meta", O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    bool is_sound = fd >= 0 && tf_read_at(fd, bytes, sizeof bytes, 0) == 0 &&
                    tf_spool_meta_decode(bytes, id) == 0;

    if (fd >= 0) {
        (void)close(fd);
    }
    return is_sound ? id : NULL;
}

static int read_sectors(struct tf_archive *archive, struct tf_listing *listing)
{
    uint8_t id[TF_SPOOL_ID_BYTES];

    for (size_t i = 0; i < listing->count; i++) {
        int rc = tf_listed_read(archive->dir_fd, archive->ring, &listing->files[i]);

        if (rc < 0 && rc != -ENOENT) {
            return rc;
        }
    }
    return tf_listing_keep_own(listing, read_id(archive->dir_fd, id));
}

/* Takes a listing (and frees it, or what it replaces) whose sectors are read. */
static int adopt(struct tf_archive *archive, struct tf_listing *listing)
{
    size_t *chosen = calloc(listing->count + 1, sizeof *chosen);
    size_t count = 0;
    uint64_t events = 0;
    int rc = chosen == NULL ? -ENOMEM : 0;

    for (size_t i = listing->count; rc == 0 && i-- > 0;) {
        if (!listing->files[i].sound) {
            continue;
        }
        rc = try_newest(archive, &listing->files[i], &events);
        if (rc == 1) {
            count = tf_listing_choose(listing, i, chosen);
        }
    }
    if (rc < 0) {
        free(chosen);
        tf_listing_fini(listing);
        return rc;
    }
    free(archive->chosen);
    tf_listing_fini(&archive->listing);
    archive->listing = *listing;
    archive->chosen = chosen;
    archive->count = count;
    archive->events = count == 0 ? 0 : events - found_at(archive, 0)->sector.events_before;
    return 0;
}

static int list(struct tf_archive *archive)
{
    struct tf_listing listing;
    int rc = tf_listing_read(archive->dir_fd, &listing);

    if (rc == 0) {
        rc = read_sectors(archive, &listing);
    }
    if (rc < 0) {
        tf_listing_fini(&listing);
        return rc;
    }
    return adopt(archive, &listing);
}

/* Whether found_at(place) is what the segment with that id was followed by. */
static bool follows(const struct tf_archive *archive, size_t place, const uint8_t id[16])
{
    return memcmp(found_at(archive, place)->sector.prev_segment_id, id, 16) == 0;
}

static uint64_t file_bytes(int fd)
{
    struct stat st;

    return fstat(fd, &st) < 0 ? 0 : (uint64_t)st.st_size;
}

/* Where a segment ends that chosen[place] comes after; UINT64_MAX: not told. */
static uint64_t told_end(const struct tf_archive *archive, size_t place, const uint8_t id[16])
{
    return place < archive->count && follows(archive, place, id)
               ? found_at(archive, place)->sector.prev_end
               : UINT64_MAX;
}

/* The bytes that are to be read from place on, as far as headers tell. */
static uint64_t bytes_from(const struct tf_archive *archive, size_t place)
{
    uint64_t bytes = 0;

    for (; place < archive->count; place++) {
        const struct tf_listed *file = found_at(archive, place);
        uint64_t end = told_end(archive, place + 1, file->sector.segment_id);

        if (end == UINT64_MAX) {
            char name[TF_SEGMENT_NAME_BYTES];
            struct stat st;

            tf_segment_name(file->no, name);
            end = fstatat(archive->dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0
                      ? 0
                      : (uint64_t)st.st_size;
        }
        bytes += end;
    }
    return bytes;
}

/* ---- open, close, query ------------------------------------------------------------------------
 */

static int open_failed(struct tf_error *err, const char *path, int rc)
{
    char reason[64];

    (void)tf_error_add(err, NULL, "spool \"%s\": %s", path,
                       uv_strerror_r(rc, reason, sizeof reason));
    return rc;
}

static int load_keys(struct tf_archive *archive, const struct tf_archive_options *options,
                     struct tf_error *err)
{
    struct tf_reader_keys from = {.files = options->key_files,
                                  .file_count = options->key_count,
                                  .passphrase_file = options->passphrase_file,
                                  .options = options->config,
                                  .spool_path = options->path};
    int rc = tf_reader_keys_load(&from, &archive->ring, err);

    if (rc == -ENOENT) {
        return tf_error_add(err, NULL,
                            "spool \"%s\": there is no key beside it; name one with --key FILE, or "
                            "the configuration that has it with -c FILE",
                            options->path);
    }
    return rc == -ENOMEM ? open_failed(err, options->path, rc) : rc;
}

int tf_archive_open(const struct tf_archive_options *options, struct tf_archive **out,
                    struct tf_error *err)
{
    struct tf_archive *archive = calloc(1, sizeof *archive);
    int rc;

    if (archive == NULL) {
        return open_failed(err, options->path, -ENOMEM);
    }
    archive->scan.fd = -1;
    archive->dir_fd = open(options->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    rc = archive->dir_fd < 0 ? open_failed(err, options->path, -errno)
                             : load_keys(archive, options, err);
    if (rc == 0) {
        rc = list(archive);
        if (rc < 0) {
            rc = open_failed(err, options->path, rc);
        } else if (archive->count == 0) {
            rc = tf_error_add(err, NULL,
                              "spool \"%s\": there is no sound segment in it; name the "
                              "directory that has the .seg files",
                              options->path);
        }
    }
    if (rc < 0) {
        tf_archive_close(archive);
        return rc;
    }
    tf_archive_query(archive, &(struct tf_archive_query){.from_ns = INT64_MIN, .to_ns = INT64_MAX});
    *out = archive;
    return 0;
}

static void close_segment(struct tf_archive *archive)
{
    tf_scan_close(&archive->scan);
    archive->is_open = archive->has_frame = archive->in_stretch = false;
}

void tf_archive_close(struct tf_archive *archive)
{
    if (archive == NULL) {
        return;
    }
    close_segment(archive);
    if (archive->dir_fd >= 0) {
        (void)close(archive->dir_fd);
    }
    tf_keyring_free(archive->ring);
    tf_listing_fini(&archive->listing);
    free(archive->chosen);
    free(archive);
}

void tf_archive_query(struct tf_archive *archive, const struct tf_archive_query *query)
{
    close_segment(archive);
    archive->want = (struct tf_scan_want){
        .from_ns = query->from_ns, .to_ns = query->to_ns, .after_seq = query->after_seq};
    archive->next = 0;
    archive->has_last = false;
    archive->done_seq = query->after_seq;
    archive->read = archive->passed = 0;
    archive->bytes = bytes_from(archive, 0);
}

/* ---- one segment -------------------------------------------------------------------------------
 */

static void tell_lost(struct tf_archived *out, enum tf_archived_kind kind, uint64_t no,
                      uint64_t from_seq, uint64_t to_seq)
{
    *out = (struct tf_archived){
        .kind = kind, .segment_no = no, .from_seq = from_seq, .to_seq = to_seq};
}

/* True when all key slots are zero: the segment is about to be deleted. */
static bool is_shredded(const struct tf_archive *archive, uint64_t no)
{
    static const uint8_t zero[TF_SEGMENT_HEADER_BYTES - TF_SECTOR_BYTES];
    uint8_t slots[sizeof zero];
    char name[TF_SEGMENT_NAME_BYTES];
    bool is_zero;
    int fd;

    tf_segment_name(no, name);
    fd = openat(archive->dir_fd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        return errno == ENOENT;
    }
    is_zero = tf_read_at(fd, slots, sizeof slots, TF_SECTOR_BYTES) == 0 &&
              memcmp(slots, zero, sizeof zero) == 0;
    (void)close(fd);
    return is_zero;
}

static void done_up_to(struct tf_archive *archive, uint64_t seq)
{
    archive->done_seq = seq > archive->done_seq ? seq : archive->done_seq;
}

/* A segment that cannot be opened. 1: told, or -errno. */
static int tell_unopened(struct tf_archive *archive, size_t place, int rc, struct tf_archived *out)
{
    const struct tf_listed *file = found_at(archive, place);
    uint64_t last = place + 1 < archive->count ? found_at(archive, place + 1)->sector.prev_last_seq
                                               : file->sector.first_seq;
    enum tf_archived_kind kind = TF_ARCHIVED_DAMAGED;

    if (rc == -ENOENT || (rc == -EPROTO && is_shredded(archive, file->no))) {
        kind = TF_ARCHIVED_EXPIRED;
    } else if (rc == -ENOKEY) {
        kind = TF_ARCHIVED_UNREADABLE;
    } else if (rc != -EPROTO) {
        return rc;
    }
    tell_lost(out, kind, file->no, file->sector.first_seq, last);
    if (place + 1 < archive->count) {
        out->lost_events =
            found_at(archive, place + 1)->sector.events_before - file->sector.events_before;
    }
    done_up_to(archive, last);
    return 1;
}

/* What was before the oldest segment may have expired; then a notice says so. 1: it does not, and
 * *out does; 0; or -errno. */
static int tell_unnoticed(struct tf_archive *archive, const struct tf_sector0 *sector,
                          struct tf_archived *out)
{
    int rc = sector->prev_last_seq == 0 || sector->created_ns < archive->want.from_ns
                 ? 1
                 : tf_expiry_is_noticed(archive->dir_fd, sector->prev_last_seq);

    done_up_to(archive, sector->prev_last_seq);
    if (rc != 0) {
        return rc < 0 ? rc : 0;
    }
    tell_lost(out, TF_ARCHIVED_MISSING, sector->segment_no, 0, sector->prev_last_seq);
    out->lost_events = sector->events_before;
    return 1;
}

/* The segments between the last one and this, or before the oldest, are not there. 1: *out says so;
 * 0: none is missing; or -errno. */
static int tell_missing(struct tf_archive *archive, size_t place, struct tf_archived *out)
{
    const struct tf_sector0 *sector = &found_at(archive, place)->sector;
    bool linked = archive->has_last && follows(archive, place, archive->last_id);

    if (linked || sector->prev_last_seq <= archive->done_seq) {
        return 0;
    }
    if (!archive->has_last && archive->want.after_seq == 0) {
        return tell_unnoticed(archive, sector, out);
    }
    if (archive->has_last && (archive->last_created_ns >= archive->want.to_ns ||
                              sector->created_ns < archive->want.from_ns)) {
        archive->done_seq = sector->prev_last_seq;
        return 0; /* times of headers are only told, but here they need not be more */
    }
    tell_lost(out, archive->has_last ? TF_ARCHIVED_MISSING : TF_ARCHIVED_EXPIRED,
              sector->segment_no, archive->done_seq + 1, sector->prev_last_seq);
    archive->done_seq = sector->prev_last_seq;
    return 1;
}

static bool is_restricted(const struct tf_scan_want *want)
{
    return want->from_ns != INT64_MIN || want->to_ns != INT64_MAX || want->after_seq != 0;
}

/* Sets where the open segment ends, by what the listing says now. */
static void set_end(struct tf_archive *archive, size_t successor)
{
    uint64_t told = told_end(archive, successor, archive->last_id);
    uint64_t size = file_bytes(archive->scan.fd);

    archive->is_newest = successor >= archive->count;
    archive->segment.end = told < size ? told : size;
    if (archive->segment.end > TF_SEGMENT_MAX_BYTES) {
        archive->segment.end = TF_SEGMENT_MAX_BYTES;
    }
    archive->segment.last_seq =
        told == UINT64_MAX ? 0 : found_at(archive, successor)->sector.prev_last_seq;
}

static void leave_segment(struct tf_archive *archive)
{
    done_up_to(archive, archive->segment.last_seq);
    done_up_to(archive, archive->scan.at.seq);
    done_up_to(archive, archive->sparse.count > 0 ? archive->sparse.seq : 0);
    archive->passed += archive->segment.end;
    close_segment(archive);
}

/* Its index says that nothing in it is wanted. */
static void skip_segment(struct tf_archive *archive)
{
    leave_segment(archive);
    archive->passed -= archive->segment.end;
    archive->bytes -= archive->bytes < archive->segment.end ? archive->bytes : archive->segment.end;
}

/* Opens the segment at place. 1: *out tells why not; 0; or -errno. */
static int open_segment(struct tf_archive *archive, size_t place, struct tf_archived *out)
{
    const struct tf_listed *file = found_at(archive, place);
    int rc;

    memcpy(archive->last_id, file->sector.segment_id, 16);
    archive->last_created_ns = file->sector.created_ns;
    archive->has_last = true;
    rc = tf_scan_open(&archive->scan, archive->dir_fd, file->no, archive->ring);
    if (rc == 0 && memcmp(archive->scan.sector.segment_id, file->sector.segment_id, 16) != 0) {
        tf_scan_close(&archive->scan);
        rc = -EPROTO;
    }
    if (rc < 0) {
        return tell_unopened(archive, place, rc, out);
    }
    archive->is_open = true;
    archive->no = file->no;
    archive->is_counted = archive->was_searched = archive->is_torn = false;
    archive->stretch_at = 0;
    archive->sparse.count = 0;
    archive->segment.from = archive->scan.at;
    set_end(archive, place + 1);
    archive->scan.end = archive->segment.end;
    if (!archive->is_newest && is_restricted(&archive->want)) {
        rc = tf_sparse_find(&archive->scan, &archive->sparse);
    }
    return rc < 0 ? rc : 0;
}

/* All of it was behind us when the query began. */
static void pass_segment(struct tf_archive *archive, size_t place)
{
    const struct tf_sector0 *sector = &found_at(archive, place)->sector;
    uint64_t end = told_end(archive, place + 1, sector->segment_id);

    archive->next++;
    archive->passed += end == UINT64_MAX ? 0 : end;
    memcpy(archive->last_id, sector->segment_id, 16);
    archive->last_created_ns = sector->created_ns;
    archive->has_last = true;
}

/* The next segment that may hold something wanted. 1: *out tells of a loss; 0: one is open, or
 * there is none; or -errno. */
static int advance(struct tf_archive *archive, struct tf_archived *out)
{
    while (!archive->is_open && archive->next < archive->count) {
        size_t place = archive->next;
        bool is_last = place + 1 == archive->count;
        int rc;

        if (!is_last &&
            found_at(archive, place + 1)->sector.prev_last_seq <= archive->want.after_seq) {
            pass_segment(archive, place);
            continue;
        }
        rc = tell_missing(archive, place, out);
        if (rc != 0) {
            return rc;
        }
        archive->next++;
        rc = open_segment(archive, place, out);
        if (rc != 0) {
            return rc;
        }
        if (!tf_sparse_may_match(&archive->sparse, &archive->want)) {
            skip_segment(archive);
        }
    }
    return 0;
}

/* ---- frames ------------------------------------------------------------------------------------
 */

/* Where nothing was written yet the file is zero, or ends. */
static bool is_unwritten(const struct tf_archive *archive)
{
    static const uint8_t zero[TF_FRAME_HEADER_BYTES];
    uint8_t raw[TF_FRAME_HEADER_BYTES];

    return tf_read_at(archive->scan.fd, raw, sizeof raw, archive->scan.at.offset) == 0 &&
           memcmp(raw, zero, sizeof zero) == 0;
}

/* A hole in the newest segment: 1: rot, and the frame behind it is read again; 0: what counts ends
 * before it; or -errno. */
static int judge_hole(struct tf_archive *archive, const struct tf_spot *before)
{
    struct tf_scan *scan = &archive->scan;
    uint64_t durable;
    int rc;

    scan->at = *before;
    rc = tf_scan_next(scan, &archive->frame);
    if (rc != 1 || archive->frame.hole_to == 0) {
        return rc; /* it was being written at the first look */
    }
    rc = tf_scan_look_ahead(scan, &archive->frame, &durable);
    scan->at = *before;
    if (rc < 0 || durable < archive->frame.hole_to) {
        archive->is_torn = true;
        return rc < 0 ? rc : 0;
    }
    return tf_scan_next(scan, &archive->frame);
}

/* The next good frame of the stretch into archive->frame. 1, 0: there is none, or -errno. */
static int read_frame(struct tf_archive *archive)
{
    struct tf_scan *scan = &archive->scan;
    struct tf_spot before;
    int rc = tf_scan_hop(scan, &archive->want);

    if (rc < 0 || scan->at.offset >= scan->end) {
        return rc;
    }
    if (archive->is_newest &&
        (archive->is_torn || (archive->was_searched && is_unwritten(archive)))) {
        return 0;
    }
    before = scan->at;
    rc = tf_scan_next(scan, &archive->frame);
    if (rc == 1 && archive->frame.hole_to != 0 && archive->is_newest) {
        rc = judge_hole(archive, &before);
    }
    archive->was_searched |= rc == 0;
    archive->read += rc == 1 && !archive->is_counted;
    archive->is_counted |= rc == 1;
    return rc;
}

static bool is_wanted(const struct tf_archive *archive, const struct tf_frame_header *header)
{
    return tf_frame_has_events(header) && header->events > 0 &&
           header->seq > archive->want.after_seq && header->time_max_ns >= archive->want.from_ns &&
           header->time_min_ns < archive->want.to_ns;
}

static void give_frame(struct tf_archive *archive, struct tf_archived *out)
{
    const struct tf_scanned *frame = &archive->frame;

    *out = (struct tf_archived){.kind = TF_ARCHIVED_FRAME,
                                .type = frame->header.type,
                                .segment_no = archive->no,
                                .seq = frame->header.seq,
                                .time_min_ns = frame->header.time_min_ns,
                                .time_max_ns = frame->header.time_max_ns,
                                .events = frame->header.events,
                                .tag = frame->meta.tag,
                                .payload = frame->payload};
    memcpy(out->chain, archive->scan.at.chain, TF_CHAIN_BYTES);
}

/* The stretch is read to its end. True: *out tells what is missing there. */
static bool end_stretch(struct tf_archive *archive, struct tf_archived *out)
{
    uint64_t from = archive->scan.at.seq + 1, last = archive->stretch.last_seq;

    archive->in_stretch = false;
    if (last < from || last <= archive->want.after_seq) {
        return false;
    }
    tell_lost(out, TF_ARCHIVED_DAMAGED, archive->no, from, last);
    out->lost_events = archive->frame.hole_events; /* of the look that found no more */
    return true;
}

static void begin_stretch(struct tf_archive *archive)
{
    struct tf_scan *scan = &archive->scan;

    archive->in_stretch = true;
    scan->end = archive->stretch.end;
    if (scan->at.offset != archive->stretch.from.offset) {
        scan->at = archive->stretch.from;
        scan->is_unanchored = true;
    }
}

/* 1: *out is something; 0: look again; -EAGAIN: the end, for now; other -errno. */
static int step(struct tf_archive *archive, struct tf_archived *out)
{
    int rc;

    if (archive->has_frame) {
        archive->has_frame = false;
        give_frame(archive, out);
        return 1;
    }
    if (!archive->in_stretch) {
        if (!tf_sparse_next(&archive->sparse, &archive->segment, &archive->want,
                            &archive->stretch_at, &archive->stretch)) {
            leave_segment(archive);
            return 0;
        }
        begin_stretch(archive);
    }
    rc = read_frame(archive);
    if (rc == 0) {
        return archive->is_newest ? -EAGAIN : end_stretch(archive, out) ? 1 : 0;
    }
    if (rc < 0) {
        return rc;
    }
    archive->done_seq = archive->scan.at.seq;
    archive->has_frame = is_wanted(archive, &archive->frame.header);
    if (archive->frame.hole_to != 0) {
        tell_lost(out, TF_ARCHIVED_DAMAGED, archive->no, archive->frame.hole_from,
                  archive->frame.hole_to);
        out->lost_events = archive->frame.hole_events;
        return 1;
    }
    return 0;
}

int tf_archive_next(struct tf_archive *archive, struct tf_archived *out)
{
    for (;;) {
        int rc = archive->is_open ? 0 : advance(archive, out);

        if (rc != 0) {
            return rc;
        }
        if (!archive->is_open) {
            return 0;
        }
        rc = step(archive, out);
        if (rc != 0) {
            return rc == -EAGAIN ? 0 : rc;
        }
    }
}

/* ---- what a live agent adds --------------------------------------------------------------------
 */

/* The newest segment may have been given a successor, or have grown. */
static void look_at_end(struct tf_archive *archive)
{
    if (archive->is_open && archive->is_newest) {
        set_end(archive, archive->next);
        archive->stretch.end = archive->segment.end;
        archive->stretch.last_seq = archive->segment.last_seq;
        archive->scan.end = archive->segment.end;
    }
}

int tf_archive_refresh(struct tf_archive *archive)
{
    struct tf_listing listing;
    uint64_t known = archive->listing.files[archive->listing.count - 1].no;
    int rc = tf_listing_read(archive->dir_fd, &listing);

    if (rc < 0 || listing.count == 0 || listing.files[listing.count - 1].no == known) {
        tf_listing_fini(&listing);
        look_at_end(archive);
        return rc;
    }
    rc = read_sectors(archive, &listing);
    if (rc < 0) {
        tf_listing_fini(&listing);
        return rc;
    }
    rc = adopt(archive, &listing);
    if (rc < 0) {
        return rc;
    }
    archive->next = 0;
    while (archive->next < archive->count &&
           found_at(archive, archive->next)->sector.first_seq <=
               (archive->is_open ? archive->scan.at.seq + 1 : archive->done_seq) &&
           (!archive->is_open || found_at(archive, archive->next)->no <= archive->no)) {
        archive->next++;
    }
    archive->bytes = archive->passed + (archive->is_open ? archive->segment.end : 0) +
                     bytes_from(archive, archive->next);
    look_at_end(archive);
    return 0;
}

void tf_archive_status(const struct tf_archive *archive, struct tf_archive_status *status)
{
    uint64_t seq = archive->scan.at.seq - archive->has_frame;

    *status = (struct tf_archive_status){
        .segments = archive->count,
        .seq = archive->is_open && seq > archive->done_seq ? seq
               : archive->has_frame                        ? archive->scan.at.seq - 1
                                                           : archive->done_seq,
        .read = archive->read,
        .events = archive->events,
        .bytes = archive->bytes,
        .passed = archive->passed + (archive->is_open ? archive->scan.at.offset : 0),
        .spool_id =
            archive->count > 0 ? found_at(archive, archive->count - 1)->sector.spool_id : NULL};
}

/* ---- payloads ----------------------------------------------------------------------------------
 */

/* One step of the stream into the room behind out. 1: it ended; 0; or -errno. */
static int inflate_step(z_stream *stream, struct tf_buf *out)
{
    size_t room, left = out->limit_bytes - out->size;
    int rc = tf_buf_reserve(out, left < INFLATE_STEP ? left : INFLATE_STEP);

    if (rc < 0 || left == 0) {
        return rc < 0 ? rc : -EMSGSIZE;
    }
    room = out->capacity - out->size < left ? out->capacity - out->size : left;
    stream->next_out = (Bytef *)out->data + out->size;
    stream->avail_out = (uInt)room;
    rc = inflate(stream, Z_NO_FLUSH);
    out->size += room - stream->avail_out;
    if (rc == Z_STREAM_END) {
        return stream->avail_in == 0 ? 1 : -EPROTO;
    }
    if (rc == Z_OK && room > stream->avail_out) {
        return 0;
    }
    return rc == Z_MEM_ERROR ? -ENOMEM : -EPROTO;
}

int tf_archive_inflate(struct tf_slice payload, struct tf_buf *out)
{
    z_stream stream = {0};
    int rc;

    tf_buf_clear(out);
    if (payload.size > TF_BODY_MAX) {
        return -EPROTO;
    }
    if (inflateInit2(&stream, GZIP_WINDOW_BITS) != Z_OK) {
        return -ENOMEM;
    }
    stream.next_in = (Bytef *)(uintptr_t)payload.data;
    stream.avail_in = (uInt)payload.size;
    do {
        rc = inflate_step(&stream, out);
    } while (rc == 0);
    (void)inflateEnd(&stream);
    return rc == 1 ? 0 : rc;
}
