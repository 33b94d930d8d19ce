/*
 * feed.h - what the files of a feed share.
 *
 *     frame.c      a durable frame in memory, shared by feeds; the frame that tells of a hole
 *     cache.c      the newest frames, kept for feeds that have caught up
 *     feed_read.c  frames further back, read by a worker
 *     feed.c       one output's ring, acks and cursor
 */
#ifndef TAFFRAIL_SPOOL_FEED_H
#define TAFFRAIL_SPOOL_FEED_H

#include "internal.h"

#define TF_AHEAD_MAX  4u                     /* frames read by one job */
#define TF_AHEAD_ROOM (2 * TF_AHEAD_MAX + 2) /* each frame may bring a hole with it */

/* Why frames are missing. */
enum tf_hole_reason {
    TF_HOLE_DAMAGED,
    TF_HOLE_DROPPED,    /* deleted whole, to make room */
    TF_HOLE_UNREADABLE, /* only the auditor's key opens them */
};

/* A frame (body), or a hole (body NULL), that waits to be taken. */
struct tf_ahead {
    struct tf_body *body;
    enum tf_hole_reason reason;
    uint64_t hole_from, hole_to, hole_events;
    uint8_t hole_spool_id[TF_SPOOL_ID_BYTES]; /* of the segment that tells of it */
    int64_t time_ns;
    struct tf_spot after;
};

/* A worker's look into one segment, from `from` on. Filled by the feed, read by tf_feed_read. */
struct tf_read_job {
    uv_work_t work;
    struct tf_spool *spool;
    struct tf_feed *feed; /* NULL: closed meanwhile */
    struct tf_scan scan;  /* stays open between jobs */
    struct tf_segment segment;
    uint64_t events_end; /* up to the segment's end, since the spool was made */
    struct tf_spot from; /* offset 0: the segment's beginning, then over frames up to seq */
    struct tf_ahead out[TF_AHEAD_ROOM];
    uint32_t count;
    struct tf_spot at;
    uint32_t bad_reads; /* jobs in a row that met what the disk could not read */
    int status;
};

/* frame.c. Takes the reference to body, on failure too. NULL: no memory. */
struct tf_frame *tf_frame_new(struct tf_body *body, uint64_t prev);
/* Which frames are missing, and why, for people. */
#define TF_HOLE_TEXT_BYTES 160u
void tf_hole_text(const struct tf_ahead *hole, char text[TF_HOLE_TEXT_BYTES]);
/* The frame that tells an output of a hole. NULL: no memory. */
struct tf_frame *tf_gap_frame_new(const struct tf_ahead *hole, uint64_t prev);

/* cache.c. The first cached frame above seq, or NULL. */
const struct tf_cached *tf_cache_find(const struct tf_spool *spool, uint64_t seq);
void tf_cache_clear(struct tf_spool *spool, uint64_t floor);

/* feed_read.c. On a worker: fills job->out, count, at and status. */
void tf_feed_read(struct tf_read_job *job);

#endif
