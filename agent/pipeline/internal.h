/*
 * internal.h - what the files of the pipeline share.
 *
 *     filters.c   the filters in their order
 *     sources.c   the queue of awake sources, pump jobs on workers
 *     frames.c    open frames, one a tag, and when they are closed
 *     books.c     the ledger: what is counted when a frame is durable, and how it is told
 *     records.c   gaps, audit records, the constants of a source
 *     events.c    what the spool has to say, as audit records
 *     status.c    all of that for whoever asks
 *     pipeline.c  build, start, stop
 */
#ifndef TAFFRAIL_PIPELINE_INTERNAL_H
#define TAFFRAIL_PIPELINE_INTERNAL_H

#include "taffrail/filters.h"
#include "taffrail/pipeline.h"
#include "taffrail/status.h"

#define TF_JOBS_MAX        16u /* pump jobs at once, at most */
#define TF_OPEN_FRAMES_MAX 64u /* distinct tags open at once; past it the oldest is closed */

/* One pump job: everything that a worker touches. Kept and used again. */
struct job {
    struct tf_pipeline *pipeline;
    struct tf_source *source; /* NULL: free */
    uv_work_t work;
    struct tf_batch batch;
    struct tf_buf events;
    struct tf_buf deltas;
    struct tf_pump_result result;
    struct tf_events_summary summary;
    struct tf_filter_held held;
    void **scratch;       /* one for each filter */
    int64_t *held_change; /* the same: how many records more it holds of the source */
    char tag[TF_TAG_MAX + 1];
    int status; /* of filtering and encoding */
};

/* What a batch added to a frame, told when the frame is durable. */
struct part {
    struct tf_source *source; /* NULL: the agent's own */
    uint64_t cookie;
    uint32_t records, joined, filtered, redacted, withheld, malformed, truncated;
    uint32_t withheld_by[TF_WITHHELD_REASONS];
    const struct tf_batch *batch; /* for its tallies, while it is added; NULL: none */
};

/* A frame that takes batches. `number` counts frames opened, so that a source knows where its
 * newest batch is. */
struct open_frame {
    struct tf_pipeline *pipeline;
    uint64_t number;
    struct tf_frame_draft draft;
    struct part *parts;
    uint32_t part_count, part_capacity;
    struct tf_tally *tallies; /* of all its batches */
    uint32_t tally_count, tally_capacity;
};

/* The ledger (docs/architecture.md): decoded = spooled + joined + filtered + held. In records. */
struct books {
    int64_t *held; /* now, by each filter; the rest since start */
    uint64_t decoded, spooled, joined, filtered, redacted, withheld, lost_batches;
    uint64_t own; /* of decoded, what no input read: the agent's own records */
    uint64_t withheld_by[TF_WITHHELD_REASONS];
};

/* Hits of one filter's rule since start; with TF_RULE_WITHHELD what its limits withheld, with
 * TF_RULE_DROPPED the records that it dropped. */
struct rule_book {
    uint16_t filter, rule;
    bool is_told; /* in the log, that it withheld */
    uint64_t hits;
};

/* An event of the spool that waits to become a record. */
struct event {
    struct event *next;
    char name[32];
    char text[];
};
#define TF_EVENTS_MAX 64u /* waiting; further ones are in the log alone, and counted there */

struct filter {
    const struct tf_filter_kind *kind;
    void *self;
    void *own_scratch; /* for the loop: gaps, audit records, constants */
    const struct tf_texts *match;
};

struct tf_filters {
    struct filter *items;
    size_t count, stopped;
    void (*on_stopped)(void *ctx);
    void *stopped_ctx;
};

struct input {
    const struct tf_input_kind *kind;
    const char *name;
    void *self;
    bool open;
    uint64_t bytes;                         /* read */
    uint64_t records, malformed, truncated; /* as the ledger's: in durable frames */
};

struct output {
    struct tf_pipeline *pipeline;
    const struct tf_output_kind *kind;
    const char *name;
    const struct tf_texts *match;
    void *self;
    struct tf_feed *feed;
};

struct tf_pipeline {
    uv_loop_t *loop;
    const struct tf_config *config;
    struct tf_spool *spool;
    struct tf_filters *filters;
    struct input *inputs;
    size_t input_count;
    struct output *outputs;
    size_t output_count;

    struct job jobs[TF_JOBS_MAX];
    uint32_t workers, jobs_running;
    struct source_queue {
        struct tf_source *first, *last;
    } queues[2];             /* urgent sources, others */
    bool was_urgent;         /* the newest job's source */
    struct tf_source *timed; /* those that are woken by time */
    uv_timer_t wake_timer;
    uint64_t wake_at_ms; /* when it fires; 0: it does not run */

    struct open_frame *open[TF_OPEN_FRAMES_MAX];
    uint32_t open_count;
    uint64_t frames_opened;
    uv_timer_t sync_timer; /* runs while a frame is open */
    size_t appended_bytes; /* since the last sync was asked for */

    struct event *first_event, *last_event;
    uint32_t event_count, events_lost;
    uv_timer_t event_timer;

    struct books books;
    uint64_t gaps[TF_GAPS], gap_bytes[TF_GAPS]; /* of inputs, since start; bytes at most */
    struct rule_book *rule_books;
    uint32_t rule_book_count, rule_book_capacity;
    bool is_started, stopping, inputs_closed, rewinding;
    uv_timer_t stop_timer;
    bool is_leaving;                             /* another main takes over */
    const char *changed;                         /* since the main before; NULL: there was none */
    const char *why;                             /* it took over from that */
    uint64_t stop_deadline_ms, acks_deadline_ms; /* the second is not later */
    struct tf_feed *closing_feed;                /* of the output that is closing now */
    uint32_t open_handles;
    void (*on_stopped)(void *ctx);
    void *stopped_ctx;
};

/* frames.c: takes events and deltas (emptied) as one batch into one frame; never splits it. 0 or
 * -ENOMEM: nothing was taken. */
int tf_frames_add(struct tf_pipeline *pipeline, enum tf_frame_type type, const char *tag,
                  struct tf_buf *events, const struct tf_events_summary *summary,
                  struct tf_buf *deltas, const struct part *part);
void tf_frames_close_all(
    struct tf_pipeline *pipeline); /* appends every open frame, asks for a sync */
void tf_frames_drop_all(struct tf_pipeline *pipeline); /* C8: what was not appended is read again */

/* events.c */
void tf_events_take(void *ctx, const char *event, const char *text); /* a tf_spool_event_fn */
void tf_events_flush(struct tf_pipeline *pipeline); /* those that wait become records now */
void tf_events_drop(struct tf_pipeline *pipeline);

/* books.c */
/* Makes room for what each filter holds, and the books of the rules that drop records. 0 or
 * -ENOMEM. */
int tf_books_open(struct tf_pipeline *pipeline);
void tf_books_close(struct tf_pipeline *pipeline);
void tf_books_take(struct tf_pipeline *pipeline, const struct part *part); /* of a durable frame */
void tf_books_take_tallies(struct tf_pipeline *pipeline, const struct tf_tally *tallies,
                           uint32_t count);
/* Says in the log and the audit, once for each rule, that its limits withheld a text. */
void tf_books_tell_withheld(struct tf_pipeline *pipeline, const struct tf_tally *tallies,
                            uint32_t count);
/* Of a book's rule; "others" and "none" where none is named. */
const char *tf_books_rule_name(const struct tf_pipeline *pipeline, const struct rule_book *book);
uint64_t tf_books_held(const struct tf_pipeline *pipeline); /* by all filters */
int tf_books_audit(struct tf_pipeline *pipeline);           /* the record of event stop */

/* status.c */
void tf_pipeline_count_gap(struct tf_pipeline *pipeline, const char *reason, uint64_t bytes_max);

/* records.c: makes the constants of a source again. 0, -ENOMEM, -EMSGSIZE: they are as before. */
int tf_source_renew(struct tf_source *source);

/* sources.c */
void tf_sources_ask_again(struct tf_pipeline *pipeline); /* those that wait for a filter */
void tf_sources_start(struct tf_pipeline *pipeline);
void tf_sources_run(
    struct tf_pipeline *pipeline); /* starts jobs while there is work, room and no pressure */
void tf_sources_rewind(struct tf_pipeline *pipeline); /* when rewinding is set: at once, or behind
                                                         the last running job */
void tf_sources_fini(struct tf_source *source);       /* frees what tf_source_add made */
void tf_sources_unref(struct tf_source *source);      /* one of its batches is durable or gone */

#endif
