/*
 * input.h - the contract of an input: it names sources and fills batches for them.
 *
 * A source is one thing that is read: a file, one authenticated sender. The input owns its sources
 * and embeds struct tf_source as the first member of its own struct. The pipeline (pipeline.h)
 * queues the sources that are awake, runs pump jobs on workers (never two of one source at once),
 * filters, encodes, builds frames, and tells when they are durable.
 *
 * Life of a source, on the loop but for pump and position:
 *     tf_source_add → describe → (tf_source_wake → pump → position → pumped → … committed)* →
 * tf_source_remove → freed in on_removed
 */
#ifndef TAFFRAIL_INPUT_H
#define TAFFRAIL_INPUT_H

#include <uv.h>

#include "taffrail/config.h"
#include "taffrail/event.h"
#include "taffrail/filter.h"
#include "taffrail/log.h"
#include "taffrail/sandbox.h"
#include "taffrail/spool.h"

struct tf_launcher;
struct tf_opener_process;
struct tf_pipeline;
struct tf_source;
struct tf_tls_files;

/* What one pump job did. Zeroed before pump. */
struct tf_pump_result {
    /*
     * 0, or a negative errno: nothing counts as consumed, and the input decides in `pumped`.
     * The pipeline sets -EMSGSIZE when the batch, encoded, passes TF_DRAFT_PAYLOAD_MAX: the input
     * goes back to before this pump and reads a smaller block, or refuses the message.
     */
    int status;
    bool again;          /* there is more to read now: back to the end of the queue */
    bool has_position;   /* position() is to be called, even when the batch is empty (bytes consumed
                            without a record) */
    uint64_t cookie;     /* handed to committed once durable, when not 0 */
    uint64_t wake_at_ms; /* by the loop's clock: the source is woken then; 0: not by time */
    /* Gaps found by the pump: the input asks for records on the loop, in pumped, by tf_source_gap.
     */
};

struct tf_input_args {
    const char *name;
    const char *tag;     /* may hold {namespace}, {pod}, {container}: the input fills them */
    const char *host;    /* agent.host */
    const void *options; /* borrowed for the life of the input */
    struct tf_place at;
    uv_loop_t *loop;
    struct tf_opener_process *opener; /* opens log files (opener.h); NULL: the input does */
    struct tf_tls_files *tls_files;   /* for tf_tls_server_new (tls.h); NULL: not wanted */
    struct tf_launcher
        *launcher; /* starts the journal's reader (launcher.h); NULL: the input does */
};

/* What an input could not do, and what it saw rotation do: the words of metrics. */
enum tf_input_error { TF_INPUT_OPEN, TF_INPUT_READ, TF_INPUT_ACCEPT, TF_INPUT_ERRORS };
enum tf_rotation { TF_ROTATION_RENAME, TF_ROTATION_COPYTRUNCATE, TF_ROTATIONS };
extern const char *const tf_input_errors[TF_INPUT_ERRORS];
extern const char *const tf_rotations[TF_ROTATIONS];

/* Why a peer or a message was refused, and how a sender's frame contradicts what is known: the
 * words of log, audit and metrics. What has no word here is counted as the last. */
#define TF_REFUSALS       13u
#define TF_CONTRADICTIONS 5u
extern const char *const tf_refusals[TF_REFUSALS];
extern const char *const tf_contradictions[TF_CONTRADICTIONS];

struct tf_input_status {
    uint64_t sources, connections, refused, repeats, contradictions;
    uint64_t refused_by[TF_REFUSALS], contradicted_by[TF_CONTRADICTIONS];
    int64_t certificate_until_s; /* end of our own certificate, UTC; 0: there is none */
    uint64_t errors[TF_INPUT_ERRORS];
    uint64_t rotations[TF_ROTATIONS];
    uint64_t rate_ms;       /* that sources waited for max_rate, of each one */
    uint64_t suppressed;    /* entries that journald itself dropped */
    uint64_t restarts;      /* of the journal reader */
    uint64_t lag_bytes;     /* not read yet, of all sources */
    uint64_t lag_ms;        /* since the source that is behind the longest was at its end */
    uint64_t deleted_bytes; /* of lag_bytes, in files without a name */
};

/* Count so many more. */
void tf_input_refused(struct tf_input_status *status, const char *reason, uint64_t count);
void tf_input_contradicted(struct tf_input_status *status, const char *kind);

struct tf_input_kind {
    const char *name;
    const struct tf_option *options;
    size_t options_bytes;
    /* A received record keeps its own host and labels; others get the agent's. */
    bool is_receiver;
    /* Checks and loads what the options name (certificates, roots); opens no source, binds no port.
     * Returns new in *self. */
    int (*open)(const struct tf_input_args *args, void **self, struct tf_error *err);
    /* For `run`, after open: makes what it could not make once the agent is confined, and says what
     * it will need then; what it does not say is refused. Returns 0 or a negative errno, said in
     * err. NULL: it needs nothing. */
    int (*prepare)(void *self, const char *spool_path, struct tf_needs *needs,
                   struct tf_error *err);
    /* For `check`, after open, never started: appends what it would do on this machine, in words
     * that follow its name ("214 files in 38 pods"). May look at what it would read. NULL: there
     * is nothing to tell. */
    void (*summarize)(void *self, struct tf_buf *out);
    /* Begins: finds sources, listens. The spool is recovered; its folded state is read by
     * tf_pipeline_spool. Returns 0 or a negative errno, said in err. */
    int (*start)(void *self, struct tf_pipeline *pipeline, struct tf_error *err);
    /* Loop. Fills metadata, which is empty, with what tf_source_add was given, for a filter that
     * has learned more of the source. NULL: its sources have nothing that a filter knows. Returns
     * 0 or -ENOMEM. */
    int (*describe)(const struct tf_source *source, struct tf_batch *metadata);
    /* Worker. Reads one block (at most TF_BLOCK_BYTES, or one message) and decodes it into batch
     * (empty, reset). */
    void (*pump)(struct tf_source *source, struct tf_batch *batch, struct tf_pump_result *result);
    /* Worker, after the filters: appends the deltas that go into the same frame as this batch.
     * held_from: no stream's position may pass it (tf_filter_held). */
    void (*position)(struct tf_source *source, const uint64_t held_from[TF_STREAMS],
                     const struct tf_stream_state states[TF_STREAMS], struct tf_buf *deltas);
    /* Loop, after each pump: the source sleeps unless result->again or it is woken. May call
     * tf_source_gap, tf_source_remove. */
    void (*pumped)(struct tf_source *source, const struct tf_pump_result *result);
    /* Loop: the batch with this cookie is durable. May be NULL. */
    void (*committed)(struct tf_source *source, uint64_t cookie);
    /* Loop: no job of it runs and nothing refers to it any more: free it. */
    void (*on_removed)(struct tf_source *source);
    /* Loop, after a new run (C8): every source goes back to what the folded state says; receivers
     * close their connections. No pump job runs. */
    void (*rewind)(void *self);
    /* Stops reading and listening, removes its sources, then calls on_closed and frees self. Also
     * for an input that was never started. */
    void (*close)(void *self, void (*on_closed)(void *ctx), void *ctx);
    void (*status)(const void *self, struct tf_input_status *status); /* may be NULL */
    /* Says in the own log what its figures are, or which sources are furthest behind. May be NULL.
     */
    void (*tell_lag)(const void *self);
};

#define TF_BLOCK_BYTES (256u << 10)

enum tf_source_state { TF_SOURCE_ASLEEP, TF_SOURCE_QUEUED, TF_SOURCE_RUNNING, TF_SOURCE_REMOVED };

struct tf_source {
    /* Set by the input before tf_source_add; borrowed strings live as long as the source. */
    const struct tf_input_kind *kind;
    const char *tag;
    const char *path; /* of the file that is read, for its gaps; NULL: it reads none */
    bool is_received; /* its records keep their own host and labels, as those of a receiver */
    uint16_t input;   /* set by tf_source_add: index of the input */
    const struct tf_stream_state *states; /* TF_STREAMS, from the position, loaded into the filters
                                             by tf_source_add, which forgets them; NULL: none */
    /* The pipeline's own. */
    struct tf_pipeline *pipeline;
    enum tf_source_state state;
    bool is_urgent;        /* every second job is for such ones */
    bool wake_again;       /* woken while running */
    bool waits_for_filter; /* asleep until a filter knows more, or its time is up */
    bool wants_renewal;    /* a filter has learned more since its constants were made */
    int64_t deficit_bytes; /* at most 0: taken beyond its share */
    uint32_t held_records; /* by its filters, after its last job: a pump then has a position */
    uint32_t jobs;         /* batches not yet durable, and the running one */
    uint64_t wake_at_ms;   /* 0: not by time */
    struct tf_source *timed_previous, *timed_next; /* those that are woken by time */
    struct tf_constants constants;
    void **filter_states;
    struct tf_source *next; /* in the queue */
    uint64_t last_frame;    /* builder's number of the open frame that holds its newest batch */
};

/* ---- what the pipeline offers to inputs; all on the loop ---------------------------------------
 */

/*
 * Makes a source known. metadata (borrowed, may be NULL) holds one record whose fields are the same
 * for each record of the source; agent.host and labels are added unless the kind is a receiver; all
 * of it passes redaction now. Returns 0 or -ENOMEM: then nothing is kept, the source may be freed.
 */
int tf_source_add(struct tf_pipeline *pipeline, void *input_self, struct tf_source *source,
                  struct tf_batch *metadata);

/* There may be something to read. Cheap; as often as one likes. */
void tf_source_wake(struct tf_source *source);

/* From now on it goes before others (they still get every second job), or as all do. */
void tf_source_hurry(struct tf_source *source, bool is_urgent);

/* No more pumps; on_removed comes when its last job is done (durable or not). */
void tf_source_remove(struct tf_source *source);

/*
 * A gap record of this source, tag taffrail.audit, in a frame of type gap of its own, in order
 * behind the source's batches. deltas (emptied; may be NULL) holds the position that follows it.
 * bytes_max is UINT64_MAX when unknown. reason is one of the words of docs/guarantees.md. text is a
 * sentence.
 */
int tf_source_gap(struct tf_source *source, const char *reason, const char *text,
                  uint64_t bytes_max, struct tf_buf *deltas);

/* Deltas alone (forget a position), in order behind the source's batches; source may be NULL.
 * Emptied. */
int tf_pipeline_deltas(struct tf_pipeline *pipeline, struct tf_source *source,
                       struct tf_buf *deltas);

/* An audit record, tag taffrail.audit: event word, sentence, details (strings and numbers as
 * fields). */
int tf_pipeline_audit(struct tf_pipeline *pipeline, const char *event, const char *text,
                      const struct tf_detail *details, size_t count);

struct tf_spool *tf_pipeline_spool(struct tf_pipeline *pipeline);

extern const struct tf_input_kind tf_input_container;
extern const struct tf_input_kind tf_input_forward;
extern const struct tf_input_kind tf_input_journald;

#endif
