/*
 * feed.c - what one output sees of the spool: the next frame, acks in any order, its cursor.
 *
 * Only durable frames leave (docs/guarantees.md C7). Recent ones come from a cache that all feeds
 * share (2 MiB); what lies further back is read by a worker, a few frames ahead, so that memory
 * does not grow with the backlog. Frames of tags that do not match are passed over and counted.
 *
 * Each frame handed out is an item in a ring, in order of number, until it and all before it are
 * acked; then the cursor moves behind it and behind what was passed over after it. At most `window`
 * items wait for their ack, and at most `unsaved_max` lie beyond the saved cursor (D2). Rewound
 * items keep their frame and `prev`, and are handed out again.
 *
 * What is missing between two frames (rot, a segment that is gone) is handed out as a gap span,
 * whatever the tags, made from the directory alone: its name is a hash of spool id, from and to,
 * its time that of the segment, so that it is the same bytes after every start (F3).
 *
 * A segment whose key is missing stops the feed there, loudly, until the key is back: nothing is
 * skipped, since a cursor cannot come back. One that only the auditor can read was delivered before
 * it became so; a cursor from an older copy of the spool that lies before it is told of a gap.
 */
#include "feed.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "taffrail/log.h"

#define ITEMS_MAX       128u
#define PASSED_MAX      64u /* frames passed over in one call; then the loop has its turn */
#define SAVE_AFTER_ACKS 32u
#define WINDOW_MAX      32u
#define REMIND_MS       60000u /* an error that lasts is logged so often */

enum item_step { ITEM_READY, ITEM_HANDED, ITEM_ACKED };
struct item {
    struct tf_frame *frame; /* NULL once acked */
    enum item_step step;
    bool is_gap;
    uint64_t seq, ordinal, prev_after;
    uint64_t handed_ns;   /* when it was handed out last, by uv_hrtime */
    uint64_t events;      /* its own */
    uint64_t own_events;  /* so far, with it */
    struct tf_spot after; /* behind it and all that was passed over after it */
};

struct tf_feed {
    const struct tf_feed_ops *ops; /* NULL: of a spool, all below counts */
    void *self;
    struct tf_feed *next;
    struct tf_spool *spool;
    struct tf_feed_options options;
    uint32_t index; /* of its cursor */
    struct item items[ITEMS_MAX];
    uint32_t item_first, item_count, in_flight;
    struct tf_ahead ahead[TF_AHEAD_ROOM];
    uint32_t ahead_first, ahead_count;
    struct tf_spot at;     /* behind the last frame taken or passed over */
    struct tf_spot read;   /* how far the reader came, once ahead is empty */
    struct tf_spot cursor; /* where the cursor is */
    uint64_t last_sent, ordinal, cursor_ordinal;
    struct tf_read_job *job;
    bool reading, stalled, starving, wake;
    int told; /* the error that was logged last, and when */
    uint64_t told_ms;
    uint32_t acks_since_save;
    uint64_t pending_at_start, acked, skipped, expired, rejected, acked_bytes;
    uint64_t gaps[TF_HOLE_UNREADABLE + 1]; /* by reason */
    struct tf_histogram ack, delivery;
    /* a cursor with its file, to be saved */
    bool save_asked, save_running;
    uint64_t save_seq, save_ordinal;
    struct tf_file_cursor save_file;
    tf_feed_saved_fn *on_saved;
    void *saved_ctx;
};

/* ---- reading back -----------------------------------------------------------------------------
 */

static void job_free(struct tf_read_job *job)
{
    if (job != NULL) {
        tf_scan_close(&job->scan);
        free(job);
    }
}

static void mark_wake(struct tf_feed *feed);

static void read_work(uv_work_t *work)
{
    tf_feed_read(TF_CONTAINER_OF(work, struct tf_read_job, work));
}

static void drop_results(struct tf_read_job *job)
{
    for (uint32_t i = 0; i < job->count; i++) {
        tf_body_unref(job->out[i].body);
    }
    job->count = 0;
}

static void on_read(uv_work_t *work, int status)
{
    struct tf_read_job *job = TF_CONTAINER_OF(work, struct tf_read_job, work);
    struct tf_spool *spool = job->spool;
    struct tf_feed *feed = job->feed;
    int rc = status < 0 ? status : job->status;

    spool->feed_jobs--;
    if (feed == NULL) {
        drop_results(job);
        job_free(job);
        tf_spool_advance_close(spool);
        return;
    }
    feed->reading = false;
    if (rc < 0 && rc == feed->told && uv_now(spool->loop) - feed->told_ms < REMIND_MS) {
        feed->stalled = true;
        return;
    }
    if (rc < 0) {
        char reason[64];

        feed->stalled = true;
        feed->told = rc;
        feed->told_ms = uv_now(spool->loop);
        tf_log(TF_LOG_ERROR, rc == -ENOKEY ? "key-missing" : "disk-error",
               TF_DETAILS(TF_STR("output", feed->options.name), TF_NUM("segment", job->segment.no)),
               "%s; frames wait in the spool, retry in 1000 ms",
               rc == -ENOKEY ? "no key of spool.keys opens the segment, add the one it was "
                               "written with"
                             : uv_strerror_r(rc, reason, sizeof reason));
        return;
    }
    feed->told = 0;
    memcpy(feed->ahead, job->out, job->count * sizeof job->out[0]);
    feed->ahead_first = 0;
    feed->ahead_count = job->count;
    feed->read = job->at;
    job->count = 0;
    mark_wake(feed);
}

/* The first segment with frames above seq; NULL when there is none. */
static const struct tf_segment *segment_above(const struct tf_spool *spool, uint64_t seq)
{
    size_t low = 0, high = spool->segment_count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (spool->segments[middle].last_seq <= seq) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < spool->segment_count ? &spool->segments[low] : NULL;
}

/* ---- the ring of items ---------------------------------------------------------------------- */

static struct item *item_at(struct tf_feed *feed, uint32_t i)
{
    return &feed->items[(feed->item_first + i) % ITEMS_MAX];
}

static struct tf_cursor *cursor_of(const struct tf_feed *feed)
{
    return &feed->spool->now.entries[feed->index];
}

static void move_cursor(struct tf_feed *feed, const struct tf_spot *spot)
{
    struct tf_cursor *cursor = cursor_of(feed);

    if (spot->seq < cursor->seq) {
        return; /* a cursor from a spool that was put back: it waits for the new numbers */
    }
    feed->cursor = *spot;
    cursor->seq = spot->seq;
    cursor->events = spot->events;
}

/* The feed has looked at all up to spot, and nothing there needs an ack. */
static void pass(struct tf_feed *feed, const struct tf_spot *spot)
{
    feed->at = *spot;
    if (feed->item_count == 0) {
        move_cursor(feed, spot);
    } else {
        item_at(feed, feed->item_count - 1)->after = *spot;
    }
}

static struct item *push_item(struct tf_feed *feed, struct tf_frame *frame, uint64_t events,
                              const struct tf_spot *after)
{
    struct item *item = item_at(feed, feed->item_count);

    assert(feed->item_count < ITEMS_MAX);
    if (!frame->is_gap_span) {
        feed->last_sent = frame->seq;
    }
    *item = (struct item){.frame = frame,
                          .step = ITEM_READY,
                          .is_gap = frame->is_gap_span,
                          .seq = frame->seq,
                          .ordinal = ++feed->ordinal,
                          .prev_after = feed->last_sent,
                          .events = events,
                          .own_events = after->events,
                          .after = *after};
    feed->item_count++;
    feed->at = *after;
    return item;
}

/* Moves the cursor over acked items at the front. */
static void pop_acked(struct tf_feed *feed)
{
    while (feed->item_count > 0 && item_at(feed, 0)->step == ITEM_ACKED) {
        const struct item *item = item_at(feed, 0);

        feed->cursor_ordinal = item->ordinal;
        move_cursor(feed, &item->after);
        cursor_of(feed)->prev = item->prev_after;
        feed->item_first = (feed->item_first + 1) % ITEMS_MAX;
        feed->item_count--;
    }
}

/* How long its ack and its delivery took. */
static void note_times(struct tf_feed *feed, const struct item *item)
{
    uint64_t read_ms = tf_ages_find(&feed->spool->ages, item->seq);
    uint64_t now_ms = uv_now(feed->spool->loop);

    if (item->handed_ns != 0) {
        tf_histogram_add(&feed->ack, (uv_hrtime() - item->handed_ns) / 1000);
    }
    if (read_ms != 0 && now_ms >= read_ms) {
        tf_histogram_add(&feed->delivery, (now_ms - read_ms) * 1000);
    }
}

static void finish_item(struct tf_feed *feed, struct item *item, bool rejected)
{
    if (!rejected && !item->is_gap) {
        feed->acked_bytes += item->frame->payload.size;
        note_times(feed, item);
    }
    assert(item->step != ITEM_ACKED);
    feed->in_flight -= item->step == ITEM_HANDED;
    item->step = ITEM_ACKED;
    tf_frame_unref(item->frame);
    item->frame = NULL;
    if (item->is_gap) {
        feed->expired += item->events;
    } else if (rejected) {
        feed->rejected += item->events;
    } else {
        feed->acked += item->events;
    }
}

static bool finish_seq(struct tf_feed *feed, uint64_t seq, bool rejected)
{
    for (uint32_t i = 0; i < feed->item_count; i++) {
        struct item *item = item_at(feed, i);

        if (item->seq != seq) {
            continue;
        }
        if (item->step == ITEM_ACKED) {
            return false;
        }
        finish_item(feed, item, rejected);
        pop_acked(feed);
        if (++feed->acks_since_save >= SAVE_AFTER_ACKS) {
            feed->acks_since_save = 0;
            tf_cursors_save(feed->spool);
        }
        mark_wake(feed);
        return true;
    }
    return false;
}

struct tf_spool *tf_feed_spool(const struct tf_feed *feed)
{
    return feed->spool;
}

bool tf_feed_ack(struct tf_feed *feed, uint64_t seq)
{
    return feed->ops != NULL ? feed->ops->finish(feed->self, seq, false)
                             : finish_seq(feed, seq, false);
}

bool tf_feed_reject(struct tf_feed *feed, uint64_t seq)
{
    return feed->ops != NULL ? feed->ops->finish(feed->self, seq, true)
                             : finish_seq(feed, seq, true);
}

void tf_feed_rewind(struct tf_feed *feed)
{
    if (feed->ops != NULL) {
        feed->ops->rewind(feed->self);
        return;
    }
    for (uint32_t i = 0; i < feed->item_count; i++) {
        struct item *item = item_at(feed, i);

        if (item->step == ITEM_HANDED) {
            item->step = ITEM_READY;
            feed->in_flight--;
        }
    }
    mark_wake(feed);
}

/* ---- the next frame ------------------------------------------------------------------------- */

static bool tag_matches(const struct tf_feed *feed, const char *tag)
{
    for (size_t i = 0; i < feed->options.match->count; i++) {
        if (tf_glob_match(feed->options.match->items[i].text, tf_slice_text(tag), '.')) {
            return true;
        }
    }
    return false;
}

/* Takes the reference to entry->body. 1: an item was pushed; 0: passed over; -ENOMEM: not taken. */
static int take(struct tf_feed *feed, const struct tf_ahead *entry, struct item **out)
{
    struct tf_frame *frame;
    uint64_t events = entry->body == NULL ? entry->hole_events : entry->body->header.events;

    if (entry->body != NULL && !tag_matches(feed, entry->body->tag)) {
        feed->skipped += events;
        pass(feed, &entry->after);
        tf_body_unref(entry->body);
        return 0;
    }
    if (entry->body == NULL) {
        frame = tf_gap_frame_new(entry, feed->last_sent);
    } else {
        entry->body->refs++; /* so that it is still there when this fails */
        frame = tf_frame_new(entry->body, feed->last_sent);
    }
    if (frame == NULL) {
        return -ENOMEM;
    }
    tf_body_unref(entry->body);
    if (frame->is_gap_span) {
        char text[TF_HOLE_TEXT_BYTES];

        feed->gaps[entry->reason]++;
        tf_hole_text(entry, text);
        tf_log(TF_LOG_ERROR, "gap",
               TF_DETAILS(TF_STR("output", feed->options.name), TF_NUM("records", events)),
               "%s; the output is told", text);
    }
    *out = push_item(feed, frame, events, &entry->after);
    return 1;
}

static int take_ahead(struct tf_feed *feed, struct item **out)
{
    int rc = take(feed, &feed->ahead[feed->ahead_first], out);

    if (rc >= 0) {
        feed->ahead_first++;
        feed->ahead_count--;
    }
    return rc;
}

/* All data frames above feed->at are in the cache. 1, 0: passed over, -EAGAIN: none, -ENOMEM. */
static int take_cached(struct tf_feed *feed, struct item **out)
{
    struct tf_spool *spool = feed->spool;
    const struct tf_cached *cached = tf_cache_find(spool, feed->at.seq);
    struct tf_ahead entry;
    int rc;

    if (feed->job != NULL && feed->job->scan.fd >= 0) {
        tf_scan_close(
            &feed->job->scan); /* caught up: the segment may be deleted and its space freed */
    }
    if (cached == NULL) {
        if (spool->mark.seq > feed->at.seq) {
            pass(feed, &spool->mark); /* positions only */
        }
        return -EAGAIN;
    }
    entry = (struct tf_ahead){.body = cached->body, .after = cached->after};
    entry.body->refs++;
    rc = take(feed, &entry, out);
    if (rc < 0) {
        tf_body_unref(entry.body);
    }
    return rc;
}

/* Events that vanished in an older hole, known only from the next header, are lost too. */
static void settle_events(struct tf_feed *feed, const struct tf_segment *segment)
{
    struct tf_spot spot = feed->at;

    if (segment->events_before > spot.events) {
        feed->expired += segment->events_before - spot.events;
        spot.events = segment->events_before;
        pass(feed, &spot);
    }
}

/* Starts a job, or puts a derived hole into ahead. 0: look again; -EAGAIN: wait; -ENOMEM. */
static int begin_read(struct tf_feed *feed)
{
    struct tf_spool *spool = feed->spool;
    const struct tf_segment *segment = segment_above(spool, feed->at.seq);
    struct tf_read_job *job = feed->job;
    bool inside;

    if (segment == NULL || tf_retention_deletes(spool, segment->no)) {
        return -EAGAIN;
    }
    if (segment->prev_last_seq > feed->at.seq) { /* what lay between is gone */
        struct tf_spot after = {.seq = segment->prev_last_seq, .events = segment->events_before};
        uint64_t lost = after.events > feed->at.events ? after.events - feed->at.events : 0;

        feed->ahead_first = 0;
        feed->ahead_count = 1;
        feed->ahead[0] = (struct tf_ahead){
            .reason = spool->options.on_full == TF_ON_FULL_DROP_OLDEST ? TF_HOLE_DROPPED
                                                                       : TF_HOLE_DAMAGED,
            .hole_from = feed->at.seq + 1,
            .hole_to = after.seq,
            .hole_events = lost,
            .time_ns = segment->created_ns,
            .after = after};
        memcpy(feed->ahead[0].hole_spool_id, segment->spool_id, TF_SPOOL_ID_BYTES);
        feed->read = after;
        return 0;
    }
    inside = feed->at.segment_no == segment->no && feed->at.offset >= TF_SEGMENT_HEADER_BYTES;
    if (!inside && segment->prev_last_seq == feed->at.seq) {
        settle_events(feed, segment);
    }
    if (job == NULL) {
        job = calloc(1, sizeof *job);
        if (job == NULL) {
            return -ENOMEM;
        }
        job->spool = spool;
        job->feed = feed;
        job->scan.fd = -1;
        feed->job = job;
    }
    job->segment = *segment;
    job->events_end = segment + 1 < spool->segments + spool->segment_count
                          ? segment[1].events_before
                          : spool->mark.events;
    job->from =
        inside ? feed->at : (struct tf_spot){.seq = feed->at.seq, .events = feed->at.events};
    if (uv_queue_work(spool->loop, &job->work, read_work, on_read) < 0) {
        return -ENOMEM;
    }
    feed->reading = true;
    spool->feed_jobs++;
    return -EAGAIN;
}

/* 1: pushed an item; 0: passed something over; -EAGAIN; -ENOMEM. */
static int advance(struct tf_feed *feed, struct item **out)
{
    if (feed->reading || feed->stalled) {
        return -EAGAIN;
    }
    if (feed->ahead_count > 0) {
        return take_ahead(feed, out);
    }
    if (feed->read.seq > feed->at.seq) { /* what the reader passed over behind its last frame */
        pass(feed, &feed->read);
    }
    if (feed->at.seq >= feed->spool->cache_floor) {
        return take_cached(feed, out);
    }
    return begin_read(feed);
}

static struct item *first_ready(struct tf_feed *feed)
{
    for (uint32_t i = 0; i < feed->item_count; i++) {
        if (item_at(feed, i)->step == ITEM_READY) {
            return item_at(feed, i);
        }
    }
    return NULL;
}

/* D2; frames rewound are older than the newest and pass. */
static bool beyond_saved(const struct tf_feed *feed)
{
    uint64_t saved = feed->spool->saved_ordinals[feed->index];

    return feed->options.unsaved_max != 0 && feed->ordinal + 1 - saved > feed->options.unsaved_max;
}

int tf_feed_next(struct tf_feed *feed, struct tf_frame **out)
{
    struct item *item;
    int rc = 0;

    if (feed->ops != NULL) {
        return feed->ops->next(feed->self, out);
    }
    feed->starving = true;
    if (feed->in_flight >= feed->options.window) {
        return -EAGAIN;
    }
    item = first_ready(feed);
    if (item == NULL && (feed->item_count == ITEMS_MAX || beyond_saved(feed))) {
        if (tf_cursors_dirty(feed->spool) && !feed->spool->saving) {
            tf_cursors_save(feed->spool);
        }
        return -EAGAIN;
    }
    for (uint32_t passed = 0; item == NULL && rc == 0; passed++) {
        if (passed == PASSED_MAX) {
            mark_wake(feed);
            return -EAGAIN;
        }
        rc = advance(feed, &item);
    }
    if (item == NULL) {
        feed->stalled |= rc == -ENOMEM; /* the tick tries again */
        return -EAGAIN;
    }
    feed->starving = false;
    item->handed_ns = uv_hrtime();
    item->step = ITEM_HANDED;
    feed->in_flight++;
    tf_frame_ref(item->frame);
    *out = item->frame;
    return 0;
}

/* ---- waking --------------------------------------------------------------------------------- */

static void on_wake(uv_timer_t *timer)
{
    struct tf_spool *spool = timer->data;
    struct tf_feed *feed;

    tf_room_changed(spool); /* acks may have made room */
    feed = spool->feeds;
    while (feed != NULL) {
        if (!feed->wake || !feed->starving) {
            feed = feed->next;
            continue;
        }
        feed->wake = feed->starving = false;
        feed->options.on_ready(feed->options.ctx);
        feed = spool->feeds; /* the callback may have closed feeds */
    }
}

static void mark_wake(struct tf_feed *feed)
{
    feed->wake = true;
    if (!feed->spool->closing) {
        (void)uv_timer_start(&feed->spool->wake_timer, on_wake, 0, 0);
    }
}

void tf_feeds_wake(struct tf_spool *spool)
{
    for (struct tf_feed *feed = spool->feeds; feed != NULL; feed = feed->next) {
        mark_wake(feed);
    }
}

void tf_feeds_tick(struct tf_spool *spool)
{
    for (struct tf_feed *feed = spool->feeds; feed != NULL; feed = feed->next) {
        feed->acks_since_save = 0;
        if (feed->stalled) {
            feed->stalled = false;
            mark_wake(feed);
        }
    }
}

/* ---- cursors with files --------------------------------------------------------------------- */

void tf_feed_save_file(struct tf_feed *feed, uint64_t seq, const struct tf_file_cursor *file,
                       tf_feed_saved_fn *on_saved, void *ctx)
{
    if (feed->ops != NULL) {
        feed->ops->save_file(feed->self, seq, file, on_saved, ctx);
        return;
    }
    assert(!feed->save_asked); /* one at a time: the output waits for on_saved */
    feed->save_asked = true;
    feed->save_running = false;
    feed->save_seq = seq;
    feed->save_file = *file;
    feed->on_saved = on_saved;
    feed->saved_ctx = ctx;
    tf_cursors_save(feed->spool);
}

bool tf_feed_saved_file(const struct tf_feed *feed, struct tf_file_cursor *file, uint64_t *seq)
{
    const struct tf_cursor *saved;

    if (feed->ops != NULL) {
        return feed->ops->saved_file(feed->self, file, seq);
    }
    saved = &feed->spool->saved.entries[feed->index];
    if (saved->file.device == 0 && saved->file.inode == 0) {
        return false;
    }
    *file = saved->file;
    *seq = saved->seq;
    return true;
}

void tf_feeds_begin_save(struct tf_spool *spool, struct tf_cursor_table *table)
{
    for (struct tf_feed *feed = spool->feeds; feed != NULL; feed = feed->next) {
        struct tf_cursor *cursor = &table->entries[feed->index];

        spool->ordinals[feed->index] = feed->cursor_ordinal;
        if (!feed->save_asked) {
            continue;
        }
        feed->save_running = true;
        feed->save_ordinal = feed->cursor_ordinal;
        cursor->file = feed->save_file;
        for (uint32_t i = 0; i < feed->item_count && item_at(feed, i)->seq <= feed->save_seq; i++) {
            const struct item *item = item_at(feed, i);

            feed->save_ordinal = item->ordinal;
            cursor->seq = item->after.seq > cursor->seq ? item->after.seq : cursor->seq;
            cursor->events = item->after.events;
            cursor->prev = item->prev_after;
        }
        spool->ordinals[feed->index] = feed->save_ordinal;
    }
}

static void file_saved(struct tf_feed *feed, int status)
{
    tf_feed_saved_fn *on_saved = feed->on_saved;
    void *ctx = feed->saved_ctx;

    feed->save_asked = feed->save_running = false;
    if (status == 0) {
        cursor_of(feed)->file = feed->save_file;
        for (uint32_t i = 0; i < feed->item_count; i++) {
            struct item *item = item_at(feed, i);

            if (item->ordinal <= feed->save_ordinal && item->step != ITEM_ACKED) {
                finish_item(feed, item, false);
            }
        }
        pop_acked(feed);
    }
    if (on_saved != NULL) {
        on_saved(ctx, status); /* may close the feed */
    }
}

void tf_feeds_end_save(struct tf_spool *spool, int status)
{
    struct tf_feed *feed = spool->feeds;

    while (feed != NULL) {
        if (!feed->save_running) {
            feed->spool->save_wanted |= feed->save_asked;
            feed = feed->next;
            continue;
        }
        file_saved(feed, status);
        feed = spool->feeds;
    }
    tf_feeds_wake(spool);
}

/* ---- open, close, status -------------------------------------------------------------------- */

/* Where a feed begins: behind its cursor; without one, at the oldest frame that the node can read,
 * or behind the newest. */
static void begin_at(struct tf_feed *feed)
{
    struct tf_spool *spool = feed->spool;
    struct tf_cursor *cursor = cursor_of(feed);

    if (spool->is_new[feed->index] && feed->options.start_newest) {
        feed->at = spool->mark;
    } else if (cursor->seq >= spool->mark.seq) {
        feed->at = spool->mark;
        if (cursor->seq > spool->mark.seq) { /* of a spool that was put back */
            feed->at = (struct tf_spot){.seq = cursor->seq, .events = spool->mark.events};
        }
    } else if (spool->is_new[feed->index] && spool->segment_count > 0) {
        const struct tf_segment *first = spool->segments;

        for (size_t i = 1; i < spool->segment_count && tf_slots_are_auditors(&first->slots); i++) {
            first++;
        }
        feed->at = (struct tf_spot){.seq = first->prev_last_seq, .events = first->events_before};
    } else {
        feed->at = (struct tf_spot){.seq = cursor->seq, .events = cursor->events};
    }
    if (feed->at.events > spool->mark.events) {
        feed->at.events = spool->mark.events;
    }
    spool->is_new[feed->index] = false;
    feed->read = feed->cursor = feed->at;
    cursor->seq = feed->at.seq;
    cursor->events = feed->at.events;
    feed->last_sent = cursor->prev;
    feed->pending_at_start = spool->mark.events - feed->at.events;
}

int tf_feed_open(struct tf_spool *spool, const struct tf_feed_options *options,
                 struct tf_feed **out)
{
    struct tf_feed *feed = calloc(1, sizeof *feed);
    bool known = false;

    if (feed == NULL) {
        return -ENOMEM;
    }
    assert(options->window >= 1 && options->window <= WINDOW_MAX);
    feed->spool = spool;
    feed->options = *options;
    for (uint32_t i = 0; i < spool->now.count && !known; i++) {
        known = strcmp(spool->now.entries[i].name, options->name) == 0;
        feed->index = i;
    }
    assert(known); /* tf_spool_open was given the names of all outputs */
    feed->ordinal = feed->cursor_ordinal = spool->saved_ordinals[feed->index];
    if (spool->feeds == NULL) {
        tf_cache_clear(spool, spool->mark.seq);
    }
    begin_at(feed);
    feed->next = spool->feeds;
    spool->feeds = feed;
    feed->starving = true;
    mark_wake(feed);
    if (tf_cursors_dirty(spool)) {
        tf_cursors_save(spool);
    }
    *out = feed;
    return 0;
}

struct tf_feed *tf_feed_new(const struct tf_feed_ops *ops, void *self)
{
    struct tf_feed *feed = calloc(1, sizeof *feed);

    if (feed != NULL) {
        feed->ops = ops;
        feed->self = self;
    }
    return feed;
}

static void detach(struct tf_feed *feed)
{
    struct tf_feed **link = &feed->spool->feeds;

    while (*link != feed) {
        link = &(*link)->next;
    }
    *link = feed->next;
}

void tf_feed_close(struct tf_feed *feed)
{
    if (feed == NULL) {
        return;
    }
    if (feed->ops != NULL) {
        free(feed);
        return;
    }
    detach(feed);
    for (uint32_t i = 0; i < feed->item_count; i++) {
        tf_frame_unref(item_at(feed, i)->frame);
    }
    for (uint32_t i = 0; i < feed->ahead_count; i++) {
        tf_body_unref(feed->ahead[feed->ahead_first + i].body);
    }
    if (feed->reading) {
        feed->job->feed = NULL; /* its after-callback frees it */
    } else {
        job_free(feed->job);
    }
    if (feed->spool->feeds == NULL) {
        tf_cache_clear(feed->spool, feed->spool->mark.seq);
    }
    free(feed);
}

void tf_feeds_fini(struct tf_spool *spool)
{
    assert(spool->feeds == NULL);
    if (spool->cache != NULL) {
        tf_cache_clear(spool, 0);
    }
    free(spool->cache);
}

static const struct tf_feed *find_feed(const struct tf_spool *spool, uint32_t index)
{
    const struct tf_feed *feed = spool->feeds;

    while (feed != NULL && feed->index != index) {
        feed = feed->next;
    }
    return feed;
}

void tf_feeds_lowest(const struct tf_spool *spool, uint64_t *address, uint64_t *events)
{
    *address = tf_spot_address(spool, &spool->mark);
    *events = spool->mark.events;
    for (uint32_t i = 0; i < spool->now.count; i++) {
        const struct tf_feed *feed = find_feed(spool, i);
        struct tf_spot spot = {.seq = spool->now.entries[i].seq,
                               .events = spool->now.entries[i].events};
        uint64_t at = tf_spot_address(spool, feed != NULL ? &feed->cursor : &spot);

        *address = at < *address ? at : *address;
        *events = spot.events < *events ? spot.events : *events;
    }
}

uint64_t tf_feeds_lowest_seq(const struct tf_spool *spool)
{
    uint64_t lowest = UINT64_MAX;

    for (uint32_t i = 0; i < spool->now.count; i++) {
        lowest = spool->now.entries[i].seq < lowest ? spool->now.entries[i].seq : lowest;
    }
    return lowest;
}

uint64_t tf_feeds_first_in_flight(const struct tf_spool *spool)
{
    uint64_t first = UINT64_MAX;

    for (struct tf_feed *feed = spool->feeds; feed != NULL; feed = feed->next) {
        bool is_read = feed->ahead_count > 0 && feed->wake; /* its output is told in a moment */

        if ((feed->reading || is_read) && feed->job->from.seq + 1 < first) {
            first = feed->job->from.seq + 1;
        }
        for (uint32_t i = 0; i < feed->item_count; i++) {
            const struct item *item = item_at(feed, i);

            if (item->step == ITEM_HANDED && item->seq < first) {
                first = item->seq;
            }
        }
    }
    return first;
}

void tf_feeds_forget(struct tf_spool *spool, uint64_t no)
{
    for (struct tf_feed *feed = spool->feeds; feed != NULL; feed = feed->next) {
        if (feed->job != NULL && !feed->reading && feed->job->scan.fd >= 0 &&
            feed->job->segment.no < no) {
            tf_scan_close(&feed->job->scan);
        }
    }
}

static int64_t oldest_pending(struct tf_feed *feed)
{
    const struct tf_cached *cached;

    for (uint32_t i = 0; i < feed->item_count; i++) {
        if (item_at(feed, i)->frame != NULL) {
            return item_at(feed, i)->frame->time_min_ns;
        }
    }
    for (uint32_t i = 0; i < feed->ahead_count; i++) {
        const struct tf_ahead *entry = &feed->ahead[feed->ahead_first + i];

        return entry->body != NULL ? entry->body->header.time_min_ns : entry->time_ns;
    }
    if (feed->at.seq < feed->spool->cache_floor) {
        const struct tf_segment *segment = segment_above(feed->spool, feed->at.seq);

        return segment != NULL ? segment->created_ns : 0;
    }
    cached = tf_cache_find(feed->spool, feed->at.seq);
    return cached != NULL ? cached->body->header.time_min_ns : 0;
}

void tf_feed_status(const struct tf_feed *feed, struct tf_feed_status *status)
{
    struct tf_feed *self = (struct tf_feed *)(uintptr_t)feed; /* only read */
    const struct tf_spool *spool = feed->spool;
    uint64_t pending = spool->mark.events - feed->cursor.events;

    for (uint32_t i = 0; i < feed->item_count; i++) {
        const struct item *item = item_at(self, i);

        pending -= item->step == ITEM_ACKED ? item->events : 0;
        pending -= item->after.events - item->own_events;
    }
    *status = (struct tf_feed_status){
        .pending_at_start = feed->pending_at_start,
        .acked = feed->acked,
        .skipped = feed->skipped,
        .expired = feed->expired,
        .rejected = feed->rejected,
        .pending = pending,
        .pending_bytes =
            tf_spot_address(spool, &spool->mark) - tf_spot_address(spool, &feed->cursor),
        .cursor_seq = cursor_of(feed)->seq,
        .saved_seq = spool->saved.entries[feed->index].seq,
        .in_flight = feed->in_flight,
        .oldest_pending_ns = pending > 0 ? oldest_pending(self) : 0,
        .acked_bytes = feed->acked_bytes,
        .gaps_damaged = feed->gaps[TF_HOLE_DAMAGED],
        .gaps_dropped = feed->gaps[TF_HOLE_DROPPED],
        .gaps_unreadable = feed->gaps[TF_HOLE_UNREADABLE],
        .ack = feed->ack,
        .delivery = feed->delivery,
    };
}
