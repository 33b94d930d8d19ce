/*
 * verify.c - the whole: segments in order, and what lies between them.
 *
 * Each segment that counts is walked once, from its first frame to where its successor says that it
 * ends; then what follows there is looked at, since a failed sync leaves frames behind that do not
 * count, and a forger may call sealed ones so. Of the newest segment nobody says where it ends: bad
 * bytes there are a torn tail, unless a later frame's `durable` tells that they were whole once
 * (docs/guarantees.md C5). While it is written to, a frame may be read half: such bytes are read
 * again for a moment before they are judged.
 *
 * What each piece needs of the past is a few numbers, a chain value and the seal's key: struct
 * tf_verify. When something is missing, these drift: comparisons that would only repeat the same
 * finding are left out (is_adrift, is_uncounted) until a header or a seal tells them again.
 */
#include "verify.h"

#include <errno.h>
#include <time.h>

#include <openssl/crypto.h>

#define REREADS   3u
#define REREAD_NS (10 * TF_MS_IN_NS)

static bool is_zero(const uint8_t *bytes, size_t size)
{
    uint8_t any = 0;

    for (size_t i = 0; i < size; i++) {
        any |= bytes[i];
    }
    return any == 0;
}

/* ---- between two segments ------------------------------------------------------------------- */

/* Something between the last segment walked and this one is not there. */
static void tell_missing(struct tf_verify *verify, const struct tf_verify_file *file)
{
    struct tf_verify_place at = {.segment_no = file->no, .seq = file->first_seq};
    const struct tf_verify_file *unsound = NULL;

    for (const struct tf_verify_file *other = verify->files.items; other < file; other++) {
        if (other->no > verify->before->no && other->state == TF_FILE_UNSOUND) {
            unsound = other;
        }
    }
    if (unsound != NULL) {
        at.segment_no = unsound->no;
        tf_verify_tell(verify, unsound->is_crc_sound ? TF_VERDICT_FORGED : TF_VERDICT_DAMAGED,
                       "header", &at, "%s: frames up to %llu/%llu are not judged",
                       unsound->is_crc_sound ? "its header has a sound checksum and cannot be"
                                             : "its header does not hold",
                       (unsigned long long)TF_SEQ_RUN(file->prev_last_seq),
                       (unsigned long long)TF_SEQ_N(file->prev_last_seq));
    } else {
        tf_verify_tell(verify, TF_VERDICT_FORGED, "segment-missing", &at,
                       "the segment before it, up to frame %llu/%llu, is not there",
                       (unsigned long long)TF_SEQ_RUN(file->prev_last_seq),
                       (unsigned long long)TF_SEQ_N(file->prev_last_seq));
    }
}

static void check_run(struct tf_verify *verify, const struct tf_sector0 *sector,
                      const struct tf_verify_place *at)
{
    uint64_t run = TF_SEQ_RUN(sector->first_seq);
    bool same_id = memcmp(sector->run_id, verify->run_id, sizeof sector->run_id) == 0;
    bool is_first = (sector->flags & TF_SEGMENT_FIRST_OF_RUN) != 0;

    if (is_first ? run <= verify->run || same_id : run != verify->run || !same_id) {
        tf_verify_tell(verify, TF_VERDICT_FORGED, "boundary-run", at,
                       "its run contradicts that of the segment before it");
    }
}

static void check_lineage(struct tf_verify *verify, const struct tf_sector0 *sector,
                          const struct tf_verify_place *at)
{
    bool is_new = (sector->flags & TF_SEGMENT_NEW_LINEAGE) != 0;
    const uint8_t *expected = is_new ? sector->prev_spool_id : sector->spool_id;

    if (memcmp(expected, verify->before->spool_id, TF_SPOOL_ID_BYTES) != 0 ||
        (!is_new && !is_zero(sector->prev_spool_id, TF_SPOOL_ID_BYTES))) {
        tf_verify_tell(verify, TF_VERDICT_FORGED, "boundary-spool", at,
                       "its spool contradicts that of the segment before it");
    }
}

/* Compares what sector 0 says of the segment before with what was read of it. */
static void check_boundary(struct tf_verify *verify, const struct tf_sector0 *sector)
{
    struct tf_verify_place at = {.segment_no = sector->segment_no, .seq = sector->first_seq};
    char told[TF_COUNTED_TEXT_BYTES], there[TF_COUNT_TEXT_BYTES];

    check_run(verify, sector, &at);
    check_lineage(verify, sector, &at);
    if (sector->prev_last_seq != verify->seq && !verify->is_adrift) {
        tf_verify_tell(verify, TF_VERDICT_FORGED, "boundary-number", &at,
                       "it builds on frame %llu/%llu, the segment before ends with %llu/%llu",
                       (unsigned long long)TF_SEQ_RUN(sector->prev_last_seq),
                       (unsigned long long)TF_SEQ_N(sector->prev_last_seq),
                       (unsigned long long)TF_SEQ_RUN(verify->seq),
                       (unsigned long long)TF_SEQ_N(verify->seq));
        tf_seals_hole(verify);
    } else if (memcmp(sector->prev_chain, verify->chain, TF_CHAIN_BYTES) != 0 &&
               !verify->is_adrift) {
        tf_verify_tell(verify, TF_VERDICT_FORGED, "boundary-chain", &at,
                       "it builds on another chain value than the segment before ends with");
    }
    if (sector->events_before != verify->events && !verify->is_uncounted) {
        tf_verify_tell(verify, TF_VERDICT_FORGED, "boundary-events", &at,
                       "it counts %s before it, by the frames the count is %s",
                       tf_counted_text(sector->events_before, "event", told),
                       tf_count_text(verify->events, there));
    }
}

/* The first segment that is kept: does it say that something was before it? */
static void check_first(struct tf_verify *verify, const struct tf_sector0 *sector)
{
    struct tf_verify_place at = {.segment_no = sector->segment_no, .seq = sector->first_seq};
    bool is_first = is_zero(sector->prev_segment_id, 16);

    if (is_first && (sector->prev_end != 0 || sector->prev_last_seq != 0 ||
                     sector->events_before != 0 || !is_zero(sector->prev_chain, TF_CHAIN_BYTES))) {
        tf_verify_tell(verify, TF_VERDICT_FORGED, "boundary-first", &at,
                       "it builds on nothing, and says how that ended");
    }
    verify->report->first_seq = sector->first_seq;
    verify->report->is_start_absent = !is_first;
    verify->seals.is_first_known = is_first;
    if (!is_first) {
        tf_seals_hole(verify);
    }
}

/* ---- one segment ---------------------------------------------------------------------------- */

static void count_frame(struct tf_verify *verify, const struct tf_walked *frame)
{
    struct tf_verify_report *report = verify->report;
    const struct tf_frame_header *header = &frame->header;

    report->frames++;
    report->last_seq = header->seq;
    report->gaps += header->type == TF_FRAME_GAP;
    report->seals += tf_frame_is_seal(header);
    if (!tf_frame_has_events(header)) {
        return;
    }
    report->events += header->events;
    verify->events += header->events;
    tf_times_add(header, &report->time_min_ns, &report->time_max_ns);
}

/* What is wrong before the frame, or with where it stands. */
static void judge_place(struct tf_verify *verify, const struct tf_walked *frame)
{
    struct tf_walk *walk = &verify->walk;
    struct tf_verify_place at = {
        .segment_no = walk->sector.segment_no, .seq = frame->header.seq, .byte = frame->begin};
    char frames[TF_COUNTED_TEXT_BYTES];

    if (frame->bad_bytes > 0) {
        struct tf_verify_place bad = {.segment_no = at.segment_no,
                                      .seq = frame->header.seq - frame->missing,
                                      .byte = frame->bad_from};
        char bytes[TF_COUNTED_TEXT_BYTES], begin[TF_COUNT_TEXT_BYTES];

        tf_verify_tell(verify, frame->is_header_wrong ? TF_VERDICT_FORGED : TF_VERDICT_DAMAGED,
                       frame->is_header_wrong ? "frame-header" : "frame-damaged", &bad,
                       "%s, %s: %s; frames go on at byte %s",
                       tf_counted_text(frame->bad_bytes, "byte", bytes),
                       tf_counted_text(frame->missing, "frame", frames),
                       frame->is_header_wrong ? "a header that holds and cannot be"
                                              : "a checksum does not hold",
                       tf_count_text(frame->begin, begin));
    } else if (frame->is_misplaced) {
        tf_verify_tell(verify, TF_VERDICT_FORGED, "frame-order", &at,
                       "its number does not belong here: doubled, moved or renumbered");
    } else if (frame->missing > 0) {
        tf_verify_tell(verify, TF_VERDICT_FORGED, "frames-missing", &at,
                       "%s missing before it, and no bytes in place of %s",
                       tf_counted_text(frame->missing, "frame", frames),
                       frame->missing == 1 ? "it" : "them");
    }
    if (frame->is_chain_wrong) {
        tf_verify_tell(verify, TF_VERDICT_FORGED, "chain", &at,
                       "its checksums hold, the chain does not");
    }
}

static int take_frame(struct tf_verify *verify, const struct tf_walked *frame)
{
    struct tf_slice content = tf_slice(NULL, 0);
    int rc;

    judge_place(verify, frame);
    if (frame->is_misplaced) {
        tf_seals_hole(verify);
        verify->is_uncounted = true;
        return 0;
    }
    if (frame->missing > 0 || frame->bad_bytes > 0) {
        tf_seals_hole(verify);
        verify->is_uncounted = true;
    }
    rc = tf_content_check(verify, &verify->walk, frame, &content);
    if (rc < 0) {
        return rc;
    }
    if (tf_frame_is_seal(&frame->header)) {
        rc = tf_seals_seal(verify, &verify->walk, frame, content);
    } else {
        tf_seals_frame(verify, frame);
        if (frame->header.type == TF_FRAME_NOTICE) {
            tf_notices_take(verify, frame, content);
        }
    }
    count_frame(verify, frame);
    return rc;
}

/* Frames behind where the segment ends do not count; a seal among them may be a sign. */
static int look_behind(struct tf_verify *verify, uint64_t from)
{
    struct tf_walk *walk = &verify->walk;
    struct tf_verify_place at = {.segment_no = walk->sector.segment_no, .byte = from};
    struct tf_walked frame;
    char bytes[TF_COUNTED_TEXT_BYTES], whole[TF_COUNTED_TEXT_BYTES];
    uint64_t offset = from, written, frames = 0;
    int rc = tf_walk_written_end(walk, from, &written);

    if (rc < 0 || written == from) {
        return rc;
    }
    while ((rc = tf_walk_search(walk, &offset, UINT64_MAX, 0, &frame)) == 1) {
        frames++;
        offset += frame.bytes;
        rc = tf_frame_is_seal(&frame.header) ? tf_seals_void(verify, walk, &frame) : 0;
        if (rc < 0) {
            return rc;
        }
    }
    tf_verify_tell(verify, TF_VERDICT_TORN, "superseded", &at,
                   "%s behind its end, with %s: as a crash or a failed sync leaves it; it does not "
                   "count",
                   tf_counted_text(written - from, "byte", bytes),
                   tf_counted_text(frames, "whole frame", whole));
    return rc;
}

static void tell_torn(struct tf_verify *verify, const struct tf_walked *end)
{
    struct tf_walk *walk = &verify->walk;
    struct tf_verify_place at = {
        .segment_no = walk->sector.segment_no, .seq = walk->seq + 1, .byte = walk->offset};
    char bytes[TF_COUNTED_TEXT_BYTES], figure[TF_COUNT_TEXT_BYTES];

    if (end->is_header_wrong) {
        tf_verify_tell(verify, TF_VERDICT_FORGED, "frame-header", &at,
                       "a header that holds and cannot be");
        tf_seals_hole(verify);
    } else if (end->told_bytes > 0) {
        uint64_t there = end->bad_bytes < end->told_bytes ? end->bad_bytes : end->told_bytes;

        tf_verify_tell(verify, TF_VERDICT_TORN, "torn-tail", &at,
                       "%s of %s, as a crash leaves it, or a cut: only a witness tells",
                       tf_count_text(there, figure),
                       tf_counted_text(end->told_bytes, "byte", bytes));
    } else {
        tf_verify_tell(verify, TF_VERDICT_TORN, "torn-tail", &at,
                       "%s, as a crash leaves it, or a cut: only a witness tells",
                       tf_counted_text(end->bad_bytes, "byte", bytes));
    }
}

/* The segment has a successor that says where it ends, and no frame ends there. */
static void tell_short(struct tf_verify *verify, const struct tf_walked *end)
{
    struct tf_walk *walk = &verify->walk;
    struct tf_verify_place at = {
        .segment_no = walk->sector.segment_no, .seq = walk->seq + 1, .byte = walk->offset};
    char bytes[TF_COUNTED_TEXT_BYTES], named[TF_COUNT_TEXT_BYTES];

    if (walk->size < verify->end) {
        tf_verify_tell(verify, TF_VERDICT_FORGED, "segment-short", &at,
                       "it has %s, the segment behind it builds on %s",
                       tf_counted_text(walk->size, "byte", bytes),
                       tf_count_text(verify->end, named));
    } else if (end->is_past_end) {
        tf_verify_tell(verify, TF_VERDICT_FORGED, "boundary-end", &at,
                       "the segment behind it says that this one ends at byte %s, where no frame "
                       "ends",
                       tf_count_text(verify->end, named));
    } else {
        tf_verify_tell(verify, end->is_header_wrong ? TF_VERDICT_FORGED : TF_VERDICT_DAMAGED,
                       end->is_header_wrong ? "frame-header" : "frame-damaged", &at,
                       "%s; nothing sound up to the segment's end at byte %s",
                       end->is_header_wrong ? "a header that holds and cannot be"
                                            : "a checksum does not hold",
                       tf_count_text(verify->end, named));
    }
    verify->is_adrift = verify->is_uncounted = true;
    tf_seals_hole(verify);
}

/* Puts the walk back where it was, but for its memory and what its searches have cost. */
static void step_back(struct tf_walk *walk, const struct tf_walk *before)
{
    struct tf_buf raw = walk->raw;
    uint64_t budget = walk->budget, durable = walk->durable;

    *walk = *before;
    walk->raw = raw;
    walk->budget = budget;
    walk->durable = durable;
}

/* The highest number that frames behind the bad bytes tell to have been synced: by `durable`, or
 * because seal.state is past their seal. */
static int find_durable(struct tf_verify *verify, const struct tf_walked *first)
{
    struct tf_walk *walk = &verify->walk;
    struct tf_walked frame = {0};
    uint64_t offset = first->begin, seq = 0;
    int rc;

    while ((rc = tf_walk_search(walk, &offset, walk->end, seq, &frame)) == 1) {
        uint64_t durable = tf_frame_is_seal(&frame.header) && tf_seals_was_synced(verify, &frame)
                               ? frame.header.seq
                               : frame.header.durable;

        walk->durable = durable > walk->durable ? durable : walk->durable;
        offset += frame.bytes;
        seq = frame.header.seq;
    }
    return rc;
}

/* True when the frames missing before this one were whole once: rot, not a torn tail (C5). */
static int is_rot(struct tf_verify *verify, const struct tf_walked *frame, bool *out)
{
    uint64_t last = frame->header.seq - 1;
    int rc = verify->walk.durable == 0 ? find_durable(verify, frame) : 0;

    *out = verify->walk.durable >= last;
    return rc;
}

/*
 * Bad bytes in the newest segment, and what is behind them. A frame that is being written becomes
 * whole in a moment. Returns 1: read it again; 0: it is as it is.
 */
static int look_again(struct tf_verify *verify, const struct tf_walk *before, unsigned *rereads)
{
    struct timespec pause = {.tv_nsec = REREAD_NS};

    if (verify->report->is_segment || *rereads >= REREADS) {
        return 0;
    }
    (*rereads)++;
    (void)nanosleep(&pause, NULL);
    step_back(&verify->walk, before);
    return 1;
}

/* Judges bad bytes of the newest segment. *ends: they are its end. */
static int judge_bad(struct tf_verify *verify, const struct tf_walk *before,
                     struct tf_walked *frame, bool *ends)
{
    bool rot = true;
    int rc = 0;

    *ends = frame->kind == TF_WALKED_BAD;
    if (frame->kind == TF_WALKED_FRAME && !frame->is_header_wrong) {
        rc = is_rot(verify, frame, &rot);
        *ends = !rot;
        step_back(&verify->walk, before); /* the search used the buffer: read again, or given up */
        if (rc == 0 && rot) {
            rc = tf_walk_next(&verify->walk, frame);
        }
    }
    if (rc == 0 && *ends) {
        tell_torn(verify, frame);
    }
    return rc;
}

static int walk_frames(struct tf_verify *verify, bool is_newest)
{
    struct tf_walk *walk = &verify->walk;
    unsigned rereads = 0;
    bool ends = false;
    int rc = 0;

    while (rc == 0) {
        struct tf_walk before = *walk;
        struct tf_walked frame;

        rc = tf_walk_next(walk, &frame);
        if (rc == 0 && frame.bad_bytes > 0 && is_newest) {
            if (look_again(verify, &before, &rereads) == 1) {
                continue;
            }
            rc = judge_bad(verify, &before, &frame, &ends);
            if (rc < 0 || ends) {
                return rc;
            }
        }
        if (rc == 0 && frame.kind != TF_WALKED_FRAME) {
            if (!is_newest && walk->offset != verify->end) {
                tell_short(verify, &frame);
            }
            return 0;
        }
        if (rc == 0) {
            rereads = 0;
            tf_progress_add(verify->progress, frame.bytes, NULL);
            rc = take_frame(verify, &frame);
        }
    }
    return rc;
}

/* Where the segment ends, if a successor says so; else its size. */
static bool find_end(struct tf_verify *verify, const struct tf_verify_file *file)
{
    const struct tf_verify_file *last = verify->files.items + verify->files.count;

    for (const struct tf_verify_file *next = file + 1; next < last; next++) {
        if (next->is_chosen) {
            bool is_linked = memcmp(next->prev_id, file->id, 16) == 0;

            verify->end = is_linked ? next->prev_end : verify->walk.size;
            if (is_linked && next->prev_end < verify->walk.end) {
                verify->walk.end = next->prev_end;
            }
            return is_linked;
        }
    }
    verify->end = verify->walk.size;
    return false;
}

static void begin_segment(struct tf_verify *verify, const struct tf_verify_file *file)
{
    const struct tf_sector0 *sector = &verify->walk.sector;

    if (verify->first == file) {
        check_first(verify, sector);
    } else if (verify->before == NULL) {
        tf_seals_hole(verify);
    } else if (memcmp(sector->prev_segment_id, verify->before->id, 16) != 0) {
        tell_missing(verify, file);
        tf_seals_hole(verify);
    } else {
        check_boundary(verify, sector);
    }
    verify->events = sector->events_before;
    verify->run = TF_SEQ_RUN(sector->first_seq);
    memcpy(verify->run_id, sector->run_id, sizeof verify->run_id);
    verify->is_adrift = verify->is_uncounted = false;
}

static int walk_segment(struct tf_verify *verify, const struct tf_verify_file *file, int fd)
{
    struct tf_walk *walk = &verify->walk;
    uint64_t end;
    bool has_end;
    int rc = tf_walk_open(walk, fd);

    if (rc == -EPROTO) { /* it was sound when it was listed */
        struct tf_verify_place at = {.segment_no = file->no};

        tf_verify_tell(verify, TF_VERDICT_DAMAGED, "header", &at, "its header does not hold");
        verify->before = NULL;
        return 0;
    }
    if (rc < 0) {
        return rc;
    }
    has_end = find_end(verify, file);
    verify->first = verify->first != NULL ? verify->first : file;
    begin_segment(verify, file);
    rc = tf_content_open(verify, walk);
    if (rc == 0) {
        rc = walk_frames(verify, !has_end);
    }
    verify->report->segments++;
    verify->report->bytes += walk->offset;
    verify->seq = walk->seq;
    verify->is_adrift |= walk->is_unanchored;
    memcpy(verify->chain, walk->chain, TF_CHAIN_BYTES);
    end = has_end ? verify->end : 0;
    if (rc == 0 && has_end && end < walk->size) {
        rc = look_behind(verify, end);
    }
    tf_content_close(verify);
    tf_walk_close(walk);
    verify->before = file;
    return rc;
}

/* Segments that went meanwhile. Those before the first one read had expired when we came. */
static void tell_expired(struct tf_verify *verify, const struct tf_verify_file *first,
                         const struct tf_verify_file *last)
{
    struct tf_verify_place at = {.segment_no = first->no};

    if (verify->before == NULL) {
        return;
    }
    verify->report->has_expired = true;
    tf_verify_tell(verify, TF_VERDICT_GAP, "expired-while-reading", &at,
                   "segments %llu..%llu expired while reading; begin again to see what is left",
                   (unsigned long long)first->no, (unsigned long long)last->no);
    verify->before = NULL;
}

static int walk_segments(struct tf_verify *verify)
{
    const struct tf_verify_file *gone_first = NULL, *gone_last = NULL;
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < verify->files.count; i++) {
        const struct tf_verify_file *file = &verify->files.items[i];
        int fd;

        if (!file->is_chosen) {
            continue;
        }
        fd = tf_verify_file_open(&verify->files, file);
        if (fd == -ENOENT) {
            gone_first = gone_first != NULL ? gone_first : file;
            gone_last = file;
            continue;
        }
        if (fd < 0) {
            return fd;
        }
        if (gone_first != NULL) {
            tell_expired(verify, gone_first, gone_last);
            gone_first = NULL;
        }
        rc = walk_segment(verify, file, fd);
    }
    if (rc == 0 && gone_first != NULL) {
        tell_expired(verify, gone_first, gone_last);
    }
    return rc;
}

static int check_expect(struct tf_verify *verify)
{
    const struct tf_verify_report *report = verify->report;
    uint64_t seq = verify->options->expect;
    struct tf_verify_place at = {.seq = seq};
    struct tf_found found;
    int rc;

    if (!verify->options->has_expect) {
        return 0;
    }
    if (report->frames == 0 || seq > report->last_seq) {
        tf_verify_tell(verify, TF_VERDICT_CUT, "expect", &at,
                       "expected, and nothing is kept up to it: the spool ends at %llu/%llu",
                       (unsigned long long)TF_SEQ_RUN(report->last_seq),
                       (unsigned long long)TF_SEQ_N(report->last_seq));
        return 0;
    }
    if (seq < report->first_seq) {
        tf_verify_tell(verify, TF_VERDICT_CUT, "expect", &at,
                       "expected, and no longer kept: the spool begins at %llu/%llu",
                       (unsigned long long)TF_SEQ_RUN(report->first_seq),
                       (unsigned long long)TF_SEQ_N(report->first_seq));
        return 0;
    }
    rc = tf_find_frame(verify, seq, false, &found);
    if (rc == 1) { /* one that rots is told: damaged */
        return 0;
    }
    if (rc < 0 && rc != -ENOENT && rc != -EBADMSG) {
        return rc;
    }
    tf_verify_tell(verify, TF_VERDICT_CUT, "expect", &at,
                   rc == 0 ? "expected, and it is not here: no frame that counts has this number"
                           : "expected, and what is left there is not whole");
    return 0;
}

/*
 * No segment was read, and nothing worse was found. Who deletes all of an unsealed spool leaves
 * what an agent leaves that never wrote: that is not intact. Only seal.state can tell a new one.
 */
static int judge_nothing(struct tf_verify *verify)
{
    const struct tf_verify_report *report = verify->report;
    int grown;

    if (report->is_segment || report->segments > 0 || report->verdict >= TF_VERDICT_NOTHING) {
        return 0;
    }
    grown = tf_verify_files_grew(&verify->files);
    if (grown < 0) {
        return grown;
    }
    if (grown == 1) {
        verify->report->has_expired = true;
        tf_verify_tell(verify, TF_VERDICT_GAP, "expired-while-reading", NULL,
                       "all segments were made while reading; begin again");
    } else if (tf_seals_is_unbegun(verify)) {
        tf_verify_tell(verify, TF_VERDICT_NOTHING_YET, "nothing-yet", NULL,
                       "no segment was made, and seal.state is as before the agent's first start");
    } else {
        tf_verify_tell(verify, TF_VERDICT_NOTHING, "nothing", NULL,
                       "no segment that counts: none was made yet, or all were taken away; what "
                       "is left does not tell which");
    }
    return 0;
}

/* seal.state and spool.meta were read before the segments were listed: what is in them is in the
 * list, however long that takes on a live spool. */
static int run(struct tf_verify *verify, struct tf_error *err)
{
    size_t told = err->count;
    char reason[64];
    int rc = walk_segments(verify);

    if (rc == 0) {
        rc = tf_seals_end(verify, err);
    }
    if (rc == 0) {
        rc = tf_receipts_end(verify);
    }
    if (rc == 0) {
        rc = check_expect(verify);
    }
    if (rc == 0 && verify->options->witness != NULL) {
        rc = tf_witness_run(verify, err);
    }
    if (rc == 0) {
        rc = tf_notices_end(verify); /* last, since it lists again; so does the next one */
    }
    if (rc == 0) {
        rc = judge_nothing(verify);
    }
    if (rc < 0 && err->count == told) {
        (void)tf_error_add(err, NULL, "\"%s\": %s", verify->options->path,
                           uv_strerror_r(rc, reason, sizeof reason));
    }
    return rc;
}

int tf_verify_run(const struct tf_verify_options *options, struct tf_progress *progress,
                  struct tf_verify_report *report, struct tf_error *err)
{
    struct tf_verify verify = {.options = options, .report = report, .progress = progress};
    int rc;

    memset(report, 0, sizeof *report);
    report->has_seal_key = options->seal_key_count > 0;
    report->is_receipt_key_given = options->receipt_key_count > 0;
    report->has_witness = options->witness != NULL;
    verify.files.dir_fd = verify.walk.fd = verify.find.walk.fd = -1;
    tf_buf_init(&verify.content.plain, TF_BODY_MAX);
    tf_buf_init(&verify.content.events, TF_VERIFY_EVENTS_MAX);
    rc = tf_verify_files_open(&verify, err);
    if (rc == 0) {
        rc = tf_seals_begin(&verify, err);
    }
    rc = rc == 0 ? tf_verify_files_list(&verify, err) : rc;
    if (rc == 0) {
        rc = run(&verify, err);
    }
    tf_seals_fini(&verify);
    tf_find_close(&verify.find);
    tf_buf_fini(&verify.content.plain);
    tf_buf_fini(&verify.content.events);
    tf_verify_files_close(&verify.files);
    return rc;
}
