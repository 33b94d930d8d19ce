/*
 * feed_read.c - frames that lie further back than the cache, read by a worker a few at a time, so
 * that memory does not grow with the backlog.
 *
 * What is missing between two frames (rot, a segment that cannot be read) comes out as a hole.
 * While that is since the disk cannot read, it is tried again BAD_READS_MAX times before.
 */
#include "feed.h"

#include <errno.h>

#define AHEAD_BYTES   (1u << 20)
#define LOOKED_MAX    4096u /* frames read by one job, positions too */
#define BAD_READS_MAX 5u    /* a second apart */

static int position_scan(struct tf_read_job *job)
{
    struct tf_scan *scan = &job->scan;
    int rc = 0;

    if (scan->fd < 0 || memcmp(scan->sector.segment_id, job->segment.id, 16) != 0) {
        tf_scan_close(scan);
        rc = tf_scan_open(scan, job->spool->dir_fd, job->segment.no, job->spool->ring);
        if (rc == 0 && memcmp(scan->sector.segment_id, job->segment.id, 16) != 0) {
            rc = -EPROTO;
        }
    } else if (job->from.segment_no == 0) {
        tf_scan_close(scan); /* from its beginning: simply anew */
        rc = tf_scan_open(scan, job->spool->dir_fd, job->segment.no, job->spool->ring);
    }
    if (rc < 0) {
        return rc;
    }
    scan->end = job->segment.end;
    if (job->from.segment_no != 0) {
        scan->at = job->from;
        scan->is_unanchored = false;
        return 0;
    }
    rc = tf_scan_skip(scan, job->from.seq);
    if (rc == 0 && scan->at.seq == job->from.seq) {
        scan->at.events = job->from.events;
    }
    return rc;
}

static void add_hole(struct tf_read_job *job, uint64_t from, uint64_t to, uint64_t events,
                     const struct tf_spot *after)
{
    struct tf_ahead *hole = &job->out[job->count++];

    from = from > job->from.seq ? from : job->from.seq + 1;
    *hole = (struct tf_ahead){.hole_from = from,
                              .hole_to = to,
                              .hole_events = events,
                              .time_ns = job->segment.created_ns,
                              .after = *after};
    memcpy(hole->hole_spool_id, job->segment.spool_id, TF_SPOOL_ID_BYTES);
    hole->after.seq = to;
}

/* Events between where the reader is and the end of the segment; its successor's header knows. */
static uint64_t events_left(const struct tf_read_job *job, uint64_t so_far)
{
    return job->events_end > so_far ? job->events_end - so_far : 0;
}

/* The segment cannot be read at all: all of it is a hole. */
static void whole_hole(struct tf_read_job *job, enum tf_hole_reason reason)
{
    uint64_t lost = events_left(job, job->from.events);

    job->at = (struct tf_spot){.seq = job->segment.last_seq, .events = job->from.events + lost};
    add_hole(job, job->from.seq + 1, job->segment.last_seq, lost, &job->at);
    job->out[job->count - 1].reason = reason;
}

static int add_frame(struct tf_read_job *job, const struct tf_scanned *frame)
{
    const struct tf_spot *at = &job->scan.at;
    struct tf_body *body;

    if (frame->hole_to > job->from.seq) {
        struct tf_spot before = *at;

        before.offset = frame->begin;
        before.events -= tf_frame_has_events(&frame->header) ? frame->header.events : 0;
        add_hole(job, frame->hole_from, frame->hole_to, frame->hole_events, &before);
    }
    if (!tf_frame_has_events(&frame->header) || frame->header.seq <= job->from.seq) {
        return 0;
    }
    body = tf_body_new(&frame->header, frame->meta.tag);
    if (body == NULL ||
        tf_buf_append(&body->payload, frame->payload.data, frame->payload.size) < 0) {
        tf_body_unref(body);
        return -ENOMEM;
    }
    memcpy(body->spool_id, job->segment.spool_id, TF_SPOOL_ID_BYTES);
    memcpy(body->chain, at->chain, TF_CHAIN_BYTES);
    job->out[job->count++] = (struct tf_ahead){.body = body, .after = *at};
    return 0;
}

static int read_frames(struct tf_read_job *job)
{
    struct tf_scanned frame;
    size_t bytes = 0;
    int rc = 1;

    for (uint32_t frames = 0, looked = 0;
         rc == 1 && frames < TF_AHEAD_MAX && bytes < AHEAD_BYTES && looked < LOOKED_MAX &&
         job->scan.at.offset < job->scan.end;
         looked++) {
        uint32_t before = job->count;
        struct tf_spot here = job->scan.at;

        rc = tf_scan_next(&job->scan, &frame);
        if (rc == 1 && add_frame(job, &frame) < 0) {
            job->scan.at = here; /* read again, when there is memory */
            job->count = before;
            rc = -ENOMEM;
        }
        frames += job->count > before;
        bytes += rc == 1 ? frame.payload.size : 0;
    }
    job->at = job->scan.at;
    if (rc < 0) {
        return job->count > 0 ? 0 : rc;
    }
    if (rc == 0 || job->at.offset >= job->scan.end) {
        if (job->at.seq < job->segment.last_seq) {
            uint64_t from = job->at.seq + 1, events = events_left(job, job->at.events);

            /* without offset, since the chain is not known here */
            job->at =
                (struct tf_spot){.seq = job->segment.last_seq, .events = job->at.events + events};
            add_hole(job, from, job->at.seq, events, &job->at);
        }
    }
    return 0;
}

/* A hole is lost to its output: it is not told of one that may be read in a moment. */
static bool is_to_wait(struct tf_read_job *job)
{
    bool has_hole = false;

    for (uint32_t i = 0; i < job->count; i++) {
        has_hole |= job->out[i].body == NULL;
    }
    if (!has_hole || !job->scan.has_bad || job->bad_reads == BAD_READS_MAX) {
        job->bad_reads = 0;
        return false;
    }
    job->bad_reads++;
    return true;
}

static void drop_all(struct tf_read_job *job)
{
    for (uint32_t i = 0; i < job->count; i++) {
        tf_body_unref(job->out[i].body);
    }
    job->count = 0;
    tf_scan_close(&job->scan);
}

void tf_feed_read(struct tf_read_job *job)
{
    int rc;

    job->scan.has_bad = false;
    rc = position_scan(job);
    job->count = 0;
    if (rc == -ENOENT || rc == -EPROTO) {
        whole_hole(job, TF_HOLE_DAMAGED);
        rc = 0;
    } else if (rc == -ENOKEY && tf_slots_are_auditors(&job->segment.slots)) {
        whole_hole(job, TF_HOLE_UNREADABLE);
        rc = 0;
    } else if (rc == 0) {
        rc = read_frames(job);
    }
    if (rc == 0 && is_to_wait(job)) {
        drop_all(job);
        rc = -EIO;
    }
    job->status = rc;
}
