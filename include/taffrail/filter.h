/*
 * filter.h - the contract of a filter: it changes a batch in place.
 *
 * A filter is immutable after open and shared by all workers. Scratch belongs to a worker's job,
 * source state to a source; neither is ever used by two threads at once. apply runs on a worker and
 * does no I/O. State that changes how later records are treated travels in the position (at most
 * TF_FILTER_STATE_BYTES a stream, by save and load); a state that cannot be read must mask, not
 * pass.
 *
 * A filter may also learn, on the loop and from elsewhere, what is the same for all records of a
 * source (kubernetes: a pod's labels). Then it has start, turn, enrich and stop, and what it learns
 * belongs to the loop: apply sees of it only what turn has put into the source's state. Nothing is
 * looked up for a record: turn asks once a job, and the constants are made again when it says so.
 */
#ifndef TAFFRAIL_FILTER_H
#define TAFFRAIL_FILTER_H

#include <uv.h>

#include "taffrail/batch.h"
#include "taffrail/config.h"
#include "taffrail/sandbox.h"

struct tf_spool;

#define TF_FILTER_STATE_BYTES 32u

/* One stream's saved state of all filters: size 0 is "nothing open". */
struct tf_stream_state {
    uint8_t size;
    uint8_t bytes[TF_FILTER_STATE_BYTES];
};

struct tf_filter_args {
    const char *name;
    const void *options; /* the kind's options struct; borrowed for the life of the filter */
    struct tf_place at;
    uint16_t index; /* for tf_batch_tally */
};

/*
 * What a filter holds back of a source. Its records are counted as `held`; the position of the
 * source does not pass them, so that a restart reads them again.
 */
struct tf_filter_held {
    uint64_t from[TF_STREAMS]; /* where the oldest held record of the stream starts; UINT64_MAX:
                                  none is */
    uint32_t records;
    uint64_t deadline_ms; /* by the clock of tf_batch.now_ms: then apply is called though nothing
                             came; 0: none */
};

/* One change of a text: where and why, never what stood there. */
struct tf_filter_hit {
    uint32_t record;     /* its number in the batch */
    uint32_t from, to;   /* bytes of the key or value as it was; of a number, of its digits */
    const char *rule;    /* id; NULL: withheld */
    const char *pack;    /* of the rule; NULL: withheld */
    const char *mode;    /* mask, hash, partial or drop; NULL: withheld */
    const char *keyword; /* what led there; NULL: a shape, or a name */
    const char *reason;  /* why it was withheld; NULL otherwise */
};

/* Told of each hit, in the order of values, then bytes. hit is borrowed for the call, the texts in
 * it live as long as the filter. On the worker that applies. */
typedef void tf_filter_hit_fn(void *ctx, const struct tf_filter_hit *hit);

/* What there is to tell of a filter with rules. */
struct tf_filter_facts {
    uint32_t rules, own_rules; /* that are on */
    double ns_a_line;          /* what they cost on ordinary logs, measured now; 0: not known */
    double own_ns_a_line,
        own_ns_max;     /* own rules by themselves, when it was opened; their budget */
    const char *kernel; /* of the scan */
    bool has_jit;       /* for all of them */
};

/* With what a filter that learns begins. Borrowed until it has stopped. */
struct tf_filter_start {
    uv_loop_t *loop;
    struct tf_spool *spool;
    const char *folder;           /* the spool's, for a file KIND-NAME of its own */
    void (*on_change)(void *ctx); /* turn may answer otherwise now: sources that wait are asked */
    void *ctx;
};

/* What is to be done before a job of a source. */
enum tf_filter_turn {
    TF_TURN_GO,
    TF_TURN_RENEW, /* go, after its constants are made again */
    TF_TURN_WAIT,  /* not now; asked again at on_change, or at *until_ms */
};

/* How a filter that learns stands. */
struct tf_filter_status {
    bool is_up;              /* what it learns from can be reached */
    char why[256];           /* not; "" */
    uint64_t known;          /* pods */
    uint64_t requests;       /* that were answered, since start */
    uint64_t failures;       /* that were not, or with an error */
    uint64_t left_out;       /* of what was answered, for a bound or since it is malformed */
    uint64_t waiting;        /* sources that wait now */
    uint64_t cache_failures; /* its file could not be read, or written */
};

struct tf_filter_kind {
    const char *name;
    const struct tf_option *options;
    size_t options_bytes;
    /* It looks at all there is: the constants of a source, gaps and the agent's own records too.
     * Others see what inputs read, where their `match` takes its tag, but no taffrail.audit. */
    bool sees_all;
    /* Builds *self (returns new). All that is wrong goes to err. Returns 0 or a negative errno. */
    int (*open)(const struct tf_filter_args *args, void **self, struct tf_error *err);
    void (*close)(void *self);
    /* Per worker. NULL on no memory. */
    void *(*scratch_new)(void *self);
    void (*scratch_free)(void *scratch);
    /* Per source; both may be NULL for a filter without state. */
    void *(*state_new)(void *self);
    void (*state_free)(void *state);
    /* What travels in the position; both may be NULL. */
    void (*state_save)(const void *state, enum tf_stream stream, struct tf_stream_state *out);
    void (*state_load)(void *state, enum tf_stream stream, const struct tf_stream_state *in);
    /* Loop, before a source's first batch, and when they change: its tag, and one record with the
     * fields that are the same for each of its records (kubernetes, host, labels), not in the
     * batches. May be missing. */
    void (*describe)(void *self, void *state, const char *tag, const struct tf_batch *constants);
    /* Worker, after apply, and after a pump that came to nothing. Missing for a filter that holds
     * nothing back. One that has it tallies nothing but the records that it joined. */
    void (*held)(const void *state, struct tf_filter_held *out);
    /*
     * Changes the batch. state may be NULL (constants of a source, tap of received messages).
     * Returns 0; -ENOMEM: the batch is lost and its source goes back; -EMSGSIZE when a bound of
     * the batch is passed: the input then takes less at once, or refuses the message.
     */
    int (*apply)(void *self, void *scratch, void *state, struct tf_batch *batch);
    /* The name of a rule for metrics and audit, or NULL when there is no such rule. */
    const char *(*rule_name)(const void *self, uint16_t rule);
    /* Whether records may be dropped by it, so that its count is told from the start on. Missing
     * for a filter that drops none. */
    bool (*rule_drops)(const void *self, uint16_t rule);
    /* What check and the start tell of it; takes some milliseconds. May be missing. */
    void (*facts)(const void *self, struct tf_filter_facts *out);
    /* Sets who is told of what is done with this scratch; NULL: nobody. May be missing. */
    void (*observe)(void *scratch, tf_filter_hit_fn *on_hit, void *ctx);

    /* ---- of a filter that learns; all on the loop, all or none ---- */

    /* For `run`, after open: checks what only a running agent has (host is agent.host, borrowed as
     * long as the filter), and says what it will need once the agent is confined; what it does not
     * say is refused. Returns 0 or a negative errno, said in err. */
    int (*prepare)(void *self, const char *host, struct tf_needs *needs, struct tf_error *err);
    /* Begins to learn; before the first source. `check` and `tap` do not start filters. Returns 0
     * or a negative errno, said in err. */
    int (*start)(void *self, const struct tf_filter_start *start, struct tf_error *err);
    /* Ends that, then calls on_stopped; also for a filter that was not started. */
    void (*stop)(void *self, void (*on_stopped)(void *ctx), void *ctx);
    /* Before each job of a source that its `match` takes. Cheap. */
    enum tf_filter_turn (*turn)(void *self, void *state, uint64_t now_ms, uint64_t *until_ms);
    /* Before describe of the filters behind it: adds to the one record of constants. Returns 0,
     * -ENOMEM or -EMSGSIZE. */
    int (*enrich)(void *self, void *state, struct tf_batch *constants);
    void (*status)(const void *self, struct tf_filter_status *out);
};

extern const struct tf_filter_kind tf_filter_edit;
extern const struct tf_filter_kind tf_filter_kubernetes;
extern const struct tf_filter_kind tf_filter_parse_json;
extern const struct tf_filter_kind tf_filter_multiline;
extern const struct tf_filter_kind tf_filter_redact;
extern const struct tf_filter_kind tf_filter_select;

#endif
