/*
 * internal.h - what the files of the forward input share.
 *
 *     input.c       options, listening, limits over all connections, start, stop
 *     connection.c  one sender's connection, its limits of time, how it ends
 *     reading.c     when it reads, memory over all connections
 *     message.c     bytes to messages, what becomes of one, pump jobs
 *     taken.c       messages that are not durable yet, acks
 *     names.c       the names of frames received, what contradicts them, what is forgotten
 *     receipt.c     the key that signs receipts, and when one is due
 */
#ifndef TAFFRAIL_FORWARD_INPUT_INTERNAL_H
#define TAFFRAIL_FORWARD_INPUT_INTERNAL_H

#include "taffrail/decode.h"
#include "taffrail/input.h"
#include "taffrail/pipeline.h"
#include "taffrail/receipt.h"
#include "taffrail/tls.h"

#define TF_PEER_MAX           79u
#define TF_UNPROVED_FACTOR    4u    /* not yet authenticated, for each of limits.handshakes */
#define TF_UNPROVED_ADDRESS   16u   /* not yet authenticated from one address */
#define TF_UNACKED_MAX        1024u /* messages of a connection taken and not durable */
#define TF_ACKS_UNREAD_MAX    (256u << 10)
#define TF_KEEP_IDLE_BYTES    (64u << 10)  /* buffers of a connection without a message */
#define TF_READ_SLACK_BYTES   (1u << 20)   /* behind a message that waits */
#define TF_SPOOLS_MAX         64u          /* remembered of one identity */
#define TF_UNSEEN_S           (30 * 86400) /* names of a spool are forgotten after it */
#define TF_REMEMBERED_BYTES   57u
#define TF_NOTE_BYTES         105u
#define TF_NAMES_KEY_MAX      (5u + TF_IDENTITY_MAX + 1u + 2u * TF_SPOOL_ID_BYTES)
#define TF_REFUSALS_TOLD      10u /* a second, over all peers; the others are counted */
#define TF_CONTRADICTION_TOLD 10u /* audit records a minute and identity */

/* ---- options -------------------------------------------------------------------------------- */

struct allow {
    struct tf_text identity;
    struct tf_texts tags;
    bool relay;
};

struct limits {
    uint64_t connections, per_identity, handshakes;
    uint64_t message_bytes, memory_bytes;
    uint64_t idle_ms, handshake_ms, progress_ms;
};

struct forward_options {
    struct tf_text listen;
    struct tf_tls_options tls;
    struct tf_tables allow; /* of struct allow */
    struct limits limits;
};

/* ---- names ---------------------------------------------------------------------------------- */

/* A frame received, as it stands in the folded state (names.c has the layout). */
struct remembered {
    uint8_t chain[TF_CHAIN_BYTES]; /* begins with the name */
    uint64_t seq, prev;
    int64_t seen_s;
    bool is_gap;      /* a derived gap: compared by name only */
    bool is_disputed; /* it contradicted what was known (fork, back, between) */
    bool has_chain;   /* false: an old value, of which only the name was kept */
};

/* A frame that a receipt may name; seq 0: none. */
struct vouched {
    uint64_t seq;
    uint8_t chain[TF_CHAIN_BYTES];
};

/* One proved identity with a connection or names in flight. */
struct sender {
    struct sender *next;
    uint32_t refs, connections;
    struct names *names;
    int64_t told_from_ms; /* contradictions in the audit */
    uint32_t told;
    char identity[];
};

/* What is in flight of one spool of one identity. */
struct names {
    struct names *next; /* of its sender */
    struct forward *forward;
    struct sender *sender;
    uint32_t refs;
    struct connection *current;        /* the newest that sends for it */
    struct taken *first, *last;        /* named, not durable, in order of arrival */
    struct vouched disputed;           /* contradicted since: the next receipt names it */
    char key[TF_NAMES_KEY_MAX + 1];    /* in the folded state */
    char evicts[TF_NAMES_KEY_MAX + 1]; /* forgotten by this spool's first frame, or "" */
};

/* An ack that is owed for a chunk. */
struct ack {
    struct ack *next;
    struct connection *conn; /* holds a reference */
    size_t chunk_size;
    char chunk[];
};

/* A message taken and not yet durable. */
struct taken {
    struct taken *next; /* of its connection, in order */
    struct taken *names_next, *names_before;
    struct names *names; /* NULL: without a name */
    struct remembered value;
    int64_t received_ns;
    uint8_t digest[TF_RECEIPT_DIGEST_BYTES]; /* of its events as received; the worker's */
    const char *contradicts;
    bool is_replay;   /* noted and not remembered: in no list of names */
    bool evicts;      /* its frame forgets names->evicts */
    uint64_t cookie;  /* 0: nobody waits for it */
    struct ack *acks; /* of the sender, and of repeats of it */
};

/* What the names say about a message. */
struct judgement {
    bool is_durable;         /* a repeat of a durable one */
    struct taken *original;  /* or of this one */
    const char *contradicts; /* else: a kind, or NULL */
    uint64_t last_seq;       /* of the identity's newest other spool, for new-spool */
    bool is_full;            /* no room for another spool */
};

/* ---- connections ---------------------------------------------------------------------------- */

struct connection {
    struct tf_source source; /* first */
    struct connection *next, *before;
    struct forward *forward;
    uint32_t refs;         /* link, source, each ack owed, whoever looks at it */
    struct tf_link *link;  /* NULL when closed */
    struct sender *sender; /* NULL until proved */
    const struct allow *allow;
    struct names *names; /* that it sends for, or NULL */
    char peer[TF_PEER_MAX + 1], address[TF_PEER_MAX + 1];
    uint8_t address_key[16];

    bool proved, counted; /* counted: among its sender's connections */
    bool is_source;
    bool closing;  /* everything not handed on is dropped, no acks */
    bool draining; /* the input closes: acks that are owed still go out */
    bool ended;    /* the peer ended: what came whole is still taken */
    bool reading;

    struct tf_buf in; /* from the link, consumed up to in_at */
    size_t in_at;
    size_t whole_bytes; /* of the message at in_at, when it is whole */
    struct tf_msgpack_scan scan;
    uint64_t heard_ms; /* last bytes */
    uint64_t began_ms; /* of a message that is not whole; 0: none */
    size_t charged_bytes;
    bool paused; /* for memory */
    struct connection *paused_next;

    /* The message that is being pumped: a worker's while the source runs. */
    struct tf_buf message;
    struct tf_message_head head;
    struct taken *job;
    char tag[TF_TAG_MAX + 1];

    struct taken *first, *last; /* handed on */
    uint32_t taken_count, acks_owed;
    uint64_t receipt_ms; /* when it got the newest; 0: none yet */
};

struct forward {
    const char *name;
    struct tf_place at;
    uv_loop_t *loop;
    const struct forward_options *options;
    struct limits limits;
    struct sockaddr_storage address;
    struct tf_tls *tls;
    struct tf_pipeline *pipeline;
    struct receipt_key *receipt_key;
    uv_tcp_t listener;
    uv_timer_t timer;
    uint32_t open_handles;
    bool accept_waits, closing;
    void (*on_closed)(void *ctx);
    void *closed_ctx;

    struct connection *connections;
    struct sender *senders;
    uint32_t unproved, proved;
    uint64_t next_cookie;
    size_t held_bytes;
    struct connection *paused_first, *paused_last;
    struct connection *turn; /* reads although memory is full, until its message is handed on */

    uint64_t told_from_ms, next_forget_ms;
    uint32_t told, untold;
    struct tf_input_status status;
};

/* input.c */
typedef void tf_connection_fn(struct connection *conn);
void tf_forward_each(struct forward *forward, tf_connection_fn *fn); /* fn may close any */
void tf_forward_tick_soon(struct forward *forward); /* acks are queued: look again */
void tf_forward_proved(struct forward *forward);    /* one handshake is over: accept again */
void tf_forward_input_finish(
    struct forward *forward); /* when it closes and nothing is left: the end */
/* Counts, logs and records a peer that was turned away; conn stays as it is. */
void tf_forward_tell_refused(struct forward *forward, const struct connection *conn,
                             const char *reason, const char *text);

/* connection.c */
int tf_connection_accept(struct forward *forward, struct connection **out); /* borrowed */
void tf_connection_ref(struct connection *conn);
void tf_connection_unref(struct connection *conn);
/* Drops what is not handed on; a second call does nothing. */
void tf_connection_close(struct connection *conn, const char *reason);
void tf_connection_refuse(struct connection *conn, const char *reason, const char *text);
void tf_connection_drain(struct connection *conn);
void tf_connection_end_draining(struct connection *conn); /* closes it when nothing is owed */
void tf_connection_tick(struct connection *conn);         /* time limits */

/* reading.c */
void tf_reading_update(struct connection *conn);  /* stops or starts it */
void tf_reading_charge(struct connection *conn);  /* counts what its buffers hold */
void tf_reading_unpause(struct connection *conn); /* out of the queue for memory */
void tf_reading_resume(struct forward *forward);  /* whoever may read on */

/* message.c */
void tf_connection_take(struct connection *conn); /* whole messages, until one is being pumped */
void tf_connection_pump(struct tf_source *source, struct tf_batch *batch,
                        struct tf_pump_result *result);
void tf_connection_position(struct tf_source *source, const uint64_t held_from[TF_STREAMS],
                            const struct tf_stream_state states[TF_STREAMS], struct tf_buf *deltas);
void tf_connection_pumped(struct tf_source *source, const struct tf_pump_result *result);

/* taken.c */
/* An ack for chunk, put on list (of a message); none when chunk is empty. 0 or -ENOMEM. */
int tf_ack_owe(struct connection *conn, struct tf_slice chunk, struct ack **list);
void tf_ack_write(struct connection *conn, struct tf_slice chunk);
void tf_taken_drop_job(struct connection *conn); /* that does not run */
void tf_taken_hand_on(struct connection *conn);  /* the job was pumped */
void tf_connection_committed(struct tf_source *source, uint64_t cookie);
void tf_connection_on_removed(struct tf_source *source);

/* receipt.c */
struct receipt_key;
/* Loads the key that lies beside the spool, or makes it. 0, or a negative errno with a finding. */
int tf_receipt_key_open(const char *spool_path, const struct tf_place *at, struct receipt_key **out,
                        struct tf_error *err);
void tf_receipt_key_free(struct receipt_key *key); /* accepts NULL */
/* Appends `receipt`, and with the first of a connection `key`, to the map of an ack, when one is
 * due; returns how many pairs: 0 to 2. */
uint32_t tf_receipt_append(struct connection *conn, struct tf_buf *pairs);

/* names.c */
struct sender *tf_sender_get(struct forward *forward,
                             const char *identity); /* new reference, or NULL */
void tf_sender_unref(struct forward *forward, struct sender *sender);
struct names *tf_names_get(struct forward *forward, struct sender *sender,
                           const uint8_t spool_id[TF_SPOOL_ID_BYTES]); /* new reference, or NULL */
void tf_names_unref(struct names *names);                              /* accepts NULL */
void tf_names_judge(struct names *names, const struct tf_message_head *head, struct judgement *out);
void tf_names_add(struct names *names, struct taken *taken);            /* takes a reference */
void tf_names_remove(struct taken *taken);                              /* durable or gone */
void tf_names_append(const struct taken *taken, struct tf_buf *deltas); /* any thread */
void tf_names_forget(struct forward *forward); /* what was unseen for TF_UNSEEN_S */
/* What a receipt for this spool is to name: the newest frame that is durable here, or what a later
 * frame contradicted, until tf_names_vouched says that such a receipt was made. seq 0: none. */
struct vouched tf_names_vouch(const struct names *names);
void tf_names_vouched(struct names *names);
/* A frame contradicts the history that is known: the next receipt names the newest of that, so that
 * its sender sees what it does not have. */
void tf_names_dispute(struct names *names);
void tf_names_spool(const struct names *names, uint8_t spool_id[TF_SPOOL_ID_BYTES]);

#endif
