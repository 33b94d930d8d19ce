/*
 * http.h - an HTTP/1.1 server on the loop.
 *
 * libmicrohttpd reads heads and bodies; TLS, sockets, limits and time are ours. A server listens on
 * one address: TCP with mutual TLS (a request then has the identity that was proved), or plain on a
 * Unix socket or loopback. A build without libmicrohttpd has no server: tf_http_start says so.
 *
 * The life of a request; a connection has one at a time, in order, also when more were sent:
 *
 *     on_request   the head is whole. The handler looks at method and path and either answers, or
 *                  keeps the request and says by tf_http_follow what shall be told of it
 *       on_data*   a piece of the body. What the handler does not take now waits, and the sender
 *                  with it, until tf_http_resume
 *       on_end     the body is whole (once, also when there is none)
 *     tf_http_answer, at any time from on_request on, once
 *       on_over    always last, once: the answer is sent, or the connection is gone. From then on
 *                  the request may not be touched
 *
 * An answer before on_end: what is left of the body is thrown away, TF_HTTP_DISCARD_MAX bytes at
 * most, then the connection is cut. A body that nobody follows is thrown away likewise. A handler:
 *
 *     static void on_request(void *ctx, struct tf_http_request *request)
 *     {
 *         struct tf_http_answer answer = {.status = 404, .type = "text/plain"};
 *
 *         (void)ctx;
 *         if (strcmp(tf_http_path(request), "/healthz") != 0) {
 *             answer.body = tf_slice_text("not here\n");
 *         } else if (strcmp(tf_http_method(request), "GET") != 0) {
 *             answer.status = 405;
 *             answer.allow = "GET";
 *         } else {
 *             answer.status = 200;
 *             answer.body = tf_slice_text("ok\n");
 *         }
 *         tf_http_answer(request, &answer);
 *     }
 *
 * Bounds: struct tf_http_limits. Loop only.
 */
#ifndef TAFFRAIL_HTTP_H
#define TAFFRAIL_HTTP_H

#include <uv.h>

#include "taffrail/tls.h"

#define TF_HTTP_DISCARD_MAX  (1u << 20)
#define TF_HTTP_UNPROVED_MAX 64u /* handshakes at once; then the oldest makes room */
#define TF_HTTP_PEER_MAX     63u

struct tf_http;
struct tf_http_request;

/* ---- a request ------------------------------------------------------------------------------ */

/* Borrowed until on_over. identity is NULL without TLS; peer "192.0.2.7:5000", or "unix". */
const char *tf_http_method(const struct tf_http_request *request);
const char *tf_http_path(const struct tf_http_request *request); /* without the query */
const char *tf_http_identity(const struct tf_http_request *request);
const char *tf_http_peer(const struct tf_http_request *request);
/* The value of a header, its name in any case; NULL: it was not sent. */
const char *tf_http_header(const struct tf_http_request *request, const char *name);

struct tf_http_life {
    void *ctx;
    /* Returns how much was taken, at most piece.size. NULL: the body is thrown away. */
    size_t (*on_data)(void *ctx, struct tf_slice piece);
    void (*on_end)(void *ctx); /* may be NULL */
    /* is_answered: the answer was handed to the connection, all of it. May be NULL. */
    void (*on_over)(void *ctx, bool is_answered);
};

/* In on_request only; copied. */
void tf_http_follow(struct tf_http_request *request, const struct tf_http_life *life);
/* on_data comes again with what was not taken, soon, not in this call. */
void tf_http_resume(struct tf_http_request *request);

struct tf_http_field {
    const char *name, *value;
};

struct tf_http_answer {
    unsigned status;
    const char *type;                   /* Content-Type; may be NULL */
    const char *allow;                  /* Allow, of a 405; may be NULL */
    const struct tf_http_field *fields; /* further headers, up to one without name; may be NULL */
    struct tf_slice body;               /* copied; a HEAD is answered without it */
};
/* Without memory for it the connection is cut. A second answer is ignored. */
void tf_http_answer(struct tf_http_request *request, const struct tf_http_answer *answer);
/* Ends the connection without an answer; on_over follows, not in this call. reason is a sentence
 * for the log. */
void tf_http_cut(struct tf_http_request *request, const char *reason);

/* ---- a server ------------------------------------------------------------------------------- */

/* Somebody was turned away. Borrowed for the call. */
struct tf_http_refusal {
    const char *reason;          /* identity, connections, per-identity, handshake, slow */
    const char *text;            /* a sentence */
    const char *identity, *peer; /* identity "": not proved */
};

struct tf_http_handler {
    void *ctx;
    /* With TLS: whether this identity may connect. */
    bool (*admits)(void *ctx, const char *identity);
    void (*on_refused)(void *ctx, const struct tf_http_refusal *refusal); /* may be NULL */
    void (*on_request)(void *ctx, struct tf_http_request *request);
};

struct tf_http_limits {
    /* Proved ones; more are refused. Without TLS all: one that asks for nothing then makes room. */
    uint32_t connections;
    uint32_t per_identity; /* more of one are refused */
    uint32_t head_bytes;   /* a longer head is answered with 431 or 414; also a body's piece */
    uint64_t handshake_ms;
    uint64_t head_ms; /* from a connection's begin to its first head */
    /* No head since the last request, no byte of a body that is wanted, or nothing taken of an
     * answer (without TLS: not all of it) for so long: the connection is closed. */
    uint64_t idle_ms;
};

struct tf_http_address {
    struct sockaddr_storage address; /* of TCP */
    char unix_path[108];             /* "": TCP */
};

/* "ADDRESS:PORT", "[ADDRESS]:PORT", both in numbers, or "unix:PATH". 0 or -EINVAL. */
int tf_http_address_parse(const char *text, struct tf_http_address *out);
/* A Unix socket or loopback: who gets there is on this machine. */
bool tf_http_address_is_local(const struct tf_http_address *address);

bool tf_http_is_built(void);

/*
 * Listens. tls is borrowed until on_closed; NULL (plain) on a Unix socket, or where the caller has
 * checked that plain is right. A Unix socket that nobody listens on any more is replaced, and has
 * mode 0660. Returns new, or a negative errno: -ENOSYS without libmicrohttpd.
 */
int tf_http_start(uv_loop_t *loop, const struct tf_http_address *address, struct tf_tls *tls,
                  const struct tf_http_limits *limits, const struct tf_http_handler *handler,
                  struct tf_http **out);
/* "127.0.0.1:19532", where it listens in truth; "" of a Unix socket. Returns the port. */
unsigned tf_http_bound(const struct tf_http *http, char text[TF_HTTP_PEER_MAX + 1]);
uint32_t tf_http_connections(const struct tf_http *http); /* proved, or all without TLS */
/* Stops listening, cuts connections (on_over comes), then calls on_closed; frees http. */
void tf_http_close(struct tf_http *http, void (*on_closed)(void *ctx), void *ctx);

#endif
