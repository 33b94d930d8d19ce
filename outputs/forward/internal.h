/*
 * internal.h - what the files of the forward output share.
 *
 *     hosts.c    `hosts`, from text to name and port, from a name to addresses
 *     message.c  a frame as one message of the protocol
 *     answer.c   what a receiver may say back: the bounded parser
 *     receipt.c  what the receiver signs of what it has: judged, kept, or a fork
 *     reach.c    whom to call and when: hosts, addresses, backoff, the end of a connection
 *     session.c  one connection: what is sent, what waits for its ack
 *     probe.c    each receiver tried once, and nothing sent, for `check --connect`
 *     output.c   the states, the options and the plugin
 */
#ifndef TAFFRAIL_FORWARD_INTERNAL_H
#define TAFFRAIL_FORWARD_INTERNAL_H

#include "taffrail/output.h"
#include "taffrail/receipt.h"
#include "taffrail/tls.h"

#define TF_FORWARD_PORT            24224u
#define TF_FORWARD_HOSTS_MAX       16u
#define TF_FORWARD_NAME_MAX        253u /* of a DNS name */
#define TF_FORWARD_HOST_TEXT_BYTES (TF_FORWARD_NAME_MAX + sizeof "[]:65535")
#define TF_FORWARD_WINDOW          32u /* frames sent and not acked, D2 of docs/guarantees.md */
#define TF_FORWARD_UNSAVED_MAX     64u
#define TF_FORWARD_ADDRESSES_MAX   16u /* of one name; more are not tried */
#define TF_ANSWER_BYTES_MAX        4096u
#define TF_CHUNK_BYTES             24u   /* base64 of a frame's name */
#define TF_AROUND_BYTES_MAX        1024u /* of a message without its payload */

struct tf_forward_options {
    struct tf_texts hosts;
    struct tf_tls_options tls;
    uint64_t ack_timeout_ms, connect_timeout_ms, max_age_ms;
};

/* ---- hosts.c -------------------------------------------------------------------------------- */

struct tf_forward_host {
    char name[TF_FORWARD_NAME_MAX + 1]; /* DNS name, or IP literal without brackets */
    uint16_t port;
};

/*
 * Reads "host[:port]"; an IPv6 literal stands in brackets. Returns 0, or -EINVAL with the mend in
 * err; *out is then unchanged.
 */
int tf_forward_host_parse(const struct tf_text *text, struct tf_forward_host *out,
                          struct tf_error *err);

/* Writes "name:port", an IPv6 literal in brackets. */
void tf_forward_host_print(const struct tf_forward_host *host,
                           char text[TF_FORWARD_HOST_TEXT_BYTES]);

/* True when both lead to one place: equal ports, and names that differ in case at most. */
bool tf_forward_host_equal(const struct tf_forward_host *a, const struct tf_forward_host *b);

/* Its name is an address: nothing is looked up. */
bool tf_forward_host_is_literal(const struct tf_forward_host *host);

struct tf_forward_addresses {
    struct sockaddr_storage items[TF_FORWARD_ADDRESSES_MAX];
    uint32_t count;
};

/* Adds the address that a literal is. False: it is none, and nothing was added. */
bool tf_forward_addresses_literal(struct tf_forward_addresses *list,
                                  const struct tf_forward_host *host);

/* Asks the system's resolver, on a worker, for as long as it takes. */
int tf_forward_look_up(uv_loop_t *loop, uv_getaddrinfo_t *request,
                       const struct tf_forward_host *host, uv_getaddrinfo_cb on_looked_up);

/* Adds what it answered, in its order. */
void tf_forward_addresses_add(struct tf_forward_addresses *list, const struct addrinfo *answer);

/* ---- message.c ------------------------------------------------------------------------------ */

/*
 * Makes the message of a frame: parts borrow from frame and from around, whose limit is
 * TF_AROUND_BYTES_MAX at least, until the next call with it. chunk is the id that the ack will
 * name, not ended by NUL. Returns 0 or -ENOMEM.
 */
int tf_forward_message(const struct tf_frame *frame, struct tf_buf *around,
                       struct tf_slice parts[3], char chunk[TF_CHUNK_BYTES]);

/* ---- answer.c ------------------------------------------------------------------------------- */

enum tf_answer_kind {
    TF_ANSWER_ACK,
    TF_ANSWER_REFUSAL, /* a map without `ack` */
    TF_ANSWER_HELLO,   /* the receiver wants the handshake with a shared key */
};

struct tf_answer {
    enum tf_answer_kind kind;
    struct tf_slice chunk;        /* of an ack; all borrow from the bytes parsed */
    struct tf_slice receipt, key; /* as they came, of any size; data NULL: not there */
};

/*
 * Reads the first answer in bytes. Returns its size; 0 when more bytes are needed; -EMSGSIZE when
 * it is, or says that it will be, longer than TF_ANSWER_BYTES_MAX; -EPROTO when it is no answer.
 * Pure.
 */
int64_t tf_answer_parse(struct tf_slice bytes, struct tf_answer *out);

/* ---- receipt.c: what is known of frames lately sent -------------------------------------------
 */

#define TF_FORWARD_KNOWN 256u /* frames whose chain value is kept; older ones are not compared */

struct forward_known {
    uint64_t seq;
    uint8_t chain[TF_CHAIN_BYTES];
};

/* What an output knows of its receiver as a witness. */
struct forward_witness {
    struct forward_known known[TF_FORWARD_KNOWN]; /* a ring */
    uint32_t known_at, known_count;
    bool knows_identity;
    uint8_t identity[TF_RECEIPT_DIGEST_BYTES]; /* of our own, as a receipt has it */
    bool has_key;                              /* of this connection */
    uint8_t key[TF_RECEIPT_KEY_BYTES];
    uint64_t newest_seq; /* of the sound receipts; 0: none yet */
    uint64_t told_ms;    /* a bad one in the audit; 0: never */
};

/* ---- the output's state: reach.c, session.c and output.c ------------------------------------- */

#define TF_FORWARD_OUTPUT_MAX 63u /* of the output's name */

enum forward_state {
    FORWARD_WAITING,
    FORWARD_RESOLVING,
    FORWARD_CONNECTING,
    FORWARD_UP,
    FORWARD_DRAINING,
    FORWARD_DROPPING,
    FORWARD_ENDING,
};

struct forward_host {
    struct tf_forward_host at;
    uint32_t failures; /* since the last ack */
    uint64_t retry_at_ms;
};

/* A frame that waits for its ack. */
struct forward_sent {
    uint64_t seq, sent_at_ms;
    char chunk[TF_CHUNK_BYTES];
};

struct forward {
    const struct tf_forward_options *options;
    char name[TF_FORWARD_OUTPUT_MAX + 1];
    uv_loop_t *loop;
    struct tf_tls *tls;
    struct tf_feed *feed; /* NULL: never started */
    struct forward_host hosts[TF_FORWARD_HOSTS_MAX];
    uint32_t host_count;

    enum forward_state state;
    uv_timer_t timer;
    uv_getaddrinfo_t lookup;
    bool timer_open, lookup_open;
    struct forward_host *host; /* tried or connected */
    struct tf_forward_addresses addresses;
    uint32_t address_index;
    struct tf_link *link;
    char peer[128], identity[TF_IDENTITY_MAX + 1];
    char why[TF_LINK_REASON_MAX + 1];  /* why we close it, or why the last address failed */
    char down[TF_LINK_REASON_MAX + 1]; /* why the last connection or attempt failed; "" once up */
    bool planned; /* this end, or this attempt, is no failure: max_age, or closed while idle */
    bool may_close_idle;

    /* of the connection */
    struct forward_sent window[TF_FORWARD_WINDOW]; /* in order of number */
    uint32_t sent_count, unknown_acks;
    uint64_t last_seq, drain_at_ms;
    struct tf_buf answers; /* the beginning of one that is not whole yet */
    uint64_t answers_since_ms, answers_bytes;

    struct tf_buf around;
    uint64_t highest_seq; /* ever sent, by this process */
    uint64_t connects;    /* connections with a verified peer */
    uint64_t retries;     /* frames sent again */
    uint64_t failures;    /* addresses and names that came to no such connection */
    struct forward_witness witness;
    void (*on_closed)(void *ctx);
    void *closed_ctx;
};

/* receipt.c: learns who we are; forgets the key of the last connection; notes a frame as it is
 * sent; judges what came with an ack. */
void tf_forward_witness_init(struct forward *self);
void tf_forward_witness_reset(struct forward *self);
void tf_forward_witness_sent(struct forward *self, const struct tf_frame *frame);
void tf_forward_witness_answer(struct forward *self, const struct tf_answer *answer);

/* reach.c: waits until a host may be tried; tries one; what on_closed of a link does. */
void tf_forward_schedule(struct forward *self);
void tf_forward_attempt(struct forward *self);
void tf_forward_link_closed(void *ctx, int status, const char *reason);

/* Notes why a connection ends; the first reason stays, what follows is its consequence. */
void tf_forward_note(struct forward *self, const char *format, ...) TF_PRINTF(2, 3);

/* session.c: what a link does while it lives; sends what there is; what time alone brings. */
extern const struct tf_link_events tf_forward_link_events;
void tf_forward_pump(struct forward *self);
void tf_forward_check(struct forward *self);

/* probe.c: `probe` of the plugin. */
int tf_forward_probe(void *self, const struct tf_probe_events *events);

/* output.c: the timer's one callback; calls on_closed and frees self when all handles are closed.
 */
void tf_forward_on_timer(uv_timer_t *timer);
void tf_forward_finish(struct forward *self);

#endif
