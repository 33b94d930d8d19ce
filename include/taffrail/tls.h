/*
 * tls.h - mutual TLS links on the loop, and the identities that they prove.
 *
 * TLS 1.3 (1.2 by name), both ends verified, no tickets, no session cache, no early
 * data. A link owns its socket and an SSL over two memory BIOs. Loop only.
 */
#ifndef TAFFRAIL_TLS_H
#define TAFFRAIL_TLS_H

#include <uv.h>

#include "taffrail/config.h"

/* Immutable settings of one endpoint, shared by its links (reference counted). */
struct tf_tls;

/* The files that endpoints were loaded from, each as it was then. */
struct tf_tls_files;

/* Loads and checks files, and notes them in files (borrowed; NULL: nowhere); errors name file,
 * owner, mode, subject and dates. Returns new. */
int tf_tls_client_new(const struct tf_tls_options *options, struct tf_tls_files *files,
                      struct tf_tls **out, struct tf_error *err);
int tf_tls_server_new(const struct tf_tls_options *options, struct tf_tls_files *files,
                      struct tf_tls **out, struct tf_error *err);
void tf_tls_unref(struct tf_tls *tls); /* accepts NULL */

/* ---- files that change (docs/reload.md) ----------------------------------------------------- */

#define TF_TLS_LOOK_MS 10000u

struct tf_tls_files *tf_tls_files_new(void);        /* NULL: no memory */
void tf_tls_files_free(struct tf_tls_files *files); /* accepts NULL; its loop has ended */

struct tf_tls_watch {
    uv_loop_t *loop;
    uint64_t every_ms;
    /* path (borrowed for the call), and maybe others, are not as they were loaded or as they were
     * when this was called last. A negative return: it is called again at the next look. */
    int (*on_change)(void *ctx, const char *path);
    void *ctx;
};

/* Looks at the files from time to time, by stat(2) on a worker; no more endpoints may be loaded
 * with them. unwatch ends that, at any time; a look that is under way holds the loop until it is
 * done. */
void tf_tls_files_watch(struct tf_tls_files *files, const struct tf_tls_watch *watch);
void tf_tls_files_unwatch(struct tf_tls_files *files);

#define TF_IDENTITY_MAX    511u
#define TF_LINK_REASON_MAX 255u

/* What our own certificate proves to a listener. False when it would prove nothing there. */
bool tf_tls_own_identity(const struct tf_tls *tls, char identity[TF_IDENTITY_MAX + 1]);

/* When our own certificate ends: seconds since the epoch, UTC. */
int64_t tf_tls_until_s(const struct tf_tls *tls);

/* Appends both for people: "as spiffe://demo/node/7, certificate for 71 days". */
void tf_tls_summarize(const struct tf_tls *tls, struct tf_buf *out);

/* Checks mode and owner of a file with a secret on an open descriptor. Adds to err and returns
 * -EINVAL when others may read it. */
int tf_secret_file_check(int fd, const char *path, const struct tf_place *at, struct tf_error *err);

struct tf_link;

struct tf_link_events {
    void *ctx;
    /* Handshake done and the peer verified. identity: its URI SAN, or "dns:NAME"; borrowed for the
     * call. */
    void (*on_open)(void *ctx, const char *identity);
    /* Plaintext; borrowed for the call. A negative return closes the link with that status. */
    int (*on_data)(void *ctx, const char *data, size_t size);
    /* Queued bytes fell below TF_LINK_LOW_BYTES after having been above. */
    void (*on_drained)(void *ctx);
    /* Always last, exactly once, also after tf_link_close. status 0: close_notify, or our own close
     * with everything sent. The link is freed after it. */
    void (*on_closed)(void *ctx, int status, const char *reason);
};

#define TF_LINK_HIGH_BYTES                                                                         \
    (4u << 20) /* tf_link_write may be refused above it by the caller's own choice */
#define TF_LINK_LOW_BYTES (1u << 20)

/*
 * Connects to address, verifies the chain and that the peer proves host (DNS name or IP literal) or
 * one of options.identity. Phases have timeouts: connect_timeout_ms for connect, the same for the
 * handshake. Returns new; then on_open or on_closed comes. 0 or a negative errno.
 */
int tf_link_connect(uv_loop_t *loop, struct tf_tls *tls, const struct sockaddr *address,
                    const char *host, uint64_t connect_timeout_ms,
                    const struct tf_link_events *events, struct tf_link **out);

/* Accepts from a listening stream and shakes hands within handshake_timeout_ms; at most 128 KiB are
 * taken before it is done. */
int tf_link_accept(uv_stream_t *listener, struct tf_tls *tls, uint64_t handshake_timeout_ms,
                   const struct tf_link_events *events, struct tf_link **out);

/* Encrypts and queues parts (copied). Returns 0, -ENOTCONN, -ENOMEM. */
int tf_link_write(struct tf_link *link, const struct tf_slice *parts, size_t count);
size_t tf_link_queued_bytes(const struct tf_link *link);
void tf_link_read_stop(struct tf_link *link); /* backpressure: TCP will make the peer wait */
void tf_link_read_start(struct tf_link *link);
void tf_link_close(struct tf_link *link,
                   const char *reason); /* sends close_notify; a second call does nothing */
const char *tf_link_peer(const struct tf_link *link); /* "192.0.2.7:24224" */

/* ---- how far a link came, for `check --connect` --------------------------------------------- */

/* What a link is at, or ended in; each step before it was sound. */
enum tf_link_step {
    TF_LINK_CONNECT,
    TF_LINK_HELLO,       /* until they show a certificate */
    TF_LINK_ISSUER,      /* it comes from no CA of ours */
    TF_LINK_CERTIFICATE, /* it is not good otherwise: dates, strength, usage */
    TF_LINK_NAME,
    TF_LINK_OURS,  /* TLS 1.3 is open before the other end has looked at our certificate */
    TF_LINK_TAKEN, /* the other end has taken it: with TLS 1.2 once open, else by data from it */
};

struct tf_link_facts {
    enum tf_link_step step;
    uint64_t connect_ms, hello_ms; /* how long these took; 0 when they were not done */
    char hello[96];                /* "TLS 1.3, TLS_AES_256_GCM_SHA384, X25519", or "" */
    /* "CN=logs; DNS:logs.example.com; 2026-10-01 to 2027-01-01; chain of 1", or "" */
    char certificate[TF_LINK_REASON_MAX + 1];
    char identity[TF_IDENTITY_MAX + 1]; /* as of on_open, or "" */
};

/* Of a client's link, in every callback of it too. */
void tf_link_facts(const struct tf_link *link, struct tf_link_facts *facts);

/* Sends close_notify and reads on. Who answers it in kind has done its side of the handshake:
 * on_closed then has status 0. Nothing may be written any more. */
void tf_link_ask_end(struct tf_link *link);

/* allow entries: exact, or `*` for one whole path segment (URI) or one DNS label. */
bool tf_identity_match(const char *pattern, const char *identity);

#endif
