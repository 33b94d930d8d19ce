/*
 * feed.h - a replay as an output sees it: a feed of frames that hold what was picked.
 */
#ifndef TAFFRAIL_REPLAY_FEED_H
#define TAFFRAIL_REPLAY_FEED_H

#include "job.h"
#include "pick.h"

struct tf_replay_feed;

struct tf_replay_feed_options {
    uv_loop_t *loop;
    struct tf_pick *pick; /* a worker's while the feed is open: look at it after on_closed */
    struct tf_job *job;
    const char *name;  /* of the job; written on each record */
    uint32_t window;   /* frames handed out and not acked, at most; 1..32 */
    uint64_t max_rate; /* bytes a second, of payloads as sent; 0: no bound */
    /* Appends the audit event that stands before the first record, or with is_end behind the last
     * acked one. NULL: there is none. 0 or -errno. */
    int (*say)(void *ctx, const struct tf_job_state *state, bool is_end, struct tf_buf *event);
    void (*on_ready)(void *ctx); /* tf_feed_next has a frame again */
    /* Nothing is in flight and nothing will be handed out: all was acked and saved (0), it was
     * stopped (-ECANCELED), or reading or saving failed (other -errno). Once. */
    void (*on_idle)(void *ctx, int status);
    void *ctx;
};

/* Returns new; 0, -ENOMEM, or what `say` returned. */
int tf_replay_feed_open(const struct tf_replay_feed_options *options, struct tf_replay_feed **out);
struct tf_feed *tf_replay_feed_get(struct tf_replay_feed *replay); /* for the output */

/* Hands nothing out any more; on_idle comes when what is in flight is acked. */
void tf_replay_feed_stop(struct tf_replay_feed *replay);
/* Does not wait for acks any more: on_idle comes when what was acked is saved. */
void tf_replay_feed_give_up(struct tf_replay_feed *replay);

/* Frees when nothing runs any more; then calls on_closed. After on_idle, and after the output. */
void tf_replay_feed_close(struct tf_replay_feed *replay, void (*on_closed)(void *ctx), void *ctx);

/* How far acks are, of the bytes to be read; on the loop. found runs ahead of records. */
struct tf_replay_progress {
    uint64_t passed, bytes, records, found;
};
void tf_replay_feed_progress(const struct tf_replay_feed *replay, struct tf_replay_progress *out);

#endif
