/*
 * internal.h - what the files of the HTTP room share.
 *
 *     server.c       listening, the daemon of libmicrohttpd on the loop, limits and time
 *     connection.c   one connection: a link and a pair of sockets, or a plain socket
 *     request.c      what libmicrohttpd tells of a request, and what the handler says
 *     address.c      where to listen
 *     none.c         in place of all but address.c in a build without libmicrohttpd
 */
#ifndef TAFFRAIL_HTTP_INTERNAL_H
#define TAFFRAIL_HTTP_INTERNAL_H

#include "taffrail/http.h"

#include <microhttpd.h>

struct tf_http_connection;

struct tf_http {
    uv_loop_t *loop;
    struct tf_tls *tls; /* NULL: plain */
    struct tf_http_limits limits;
    struct tf_http_handler handler;
    char unix_path[sizeof((struct tf_http_address *)NULL)->unix_path];
    union {
        uv_stream_t stream;
        uv_tcp_t tcp;
        uv_pipe_t pipe;
    } listener;
    uv_poll_t poll;  /* of the daemon's epoll descriptor */
    uv_timer_t soon; /* the daemon has something to do without an event */
    uv_timer_t tick; /* deadlines; runs while there are connections */
    unsigned open_handles;
    struct MHD_Daemon *daemon;
    bool is_running;                        /* inside the daemon */
    struct tf_http_connection *connections; /* the newest first */
    uint32_t unproved, proved;
    bool closing;
    void (*on_closed)(void *ctx);
    void *closed_ctx;
};

/* The daemon has something to do: it runs in the next turn of the loop. */
void tf_http_soon(struct tf_http *http);
void tf_http_refuse(struct tf_http *http, struct tf_http_connection *conn, const char *reason,
                    const char *text);
/* Closes another connection, plain as conn, that asks for nothing now. False: there is none. */
bool tf_http_make_room(struct tf_http *http, const struct tf_http_connection *conn);
/* "192.0.2.7:5000", "[2001:db8::1]:5000" */
void tf_http_print_address(const struct sockaddr_storage *address, char text[TF_HTTP_PEER_MAX + 1]);
/* A connection was freed. */
void tf_http_connection_ended(struct tf_http *http);

/* ---- connections ---------------------------------------------------------------------------- */

#define TF_HTTP_NEVER UINT64_MAX

struct tf_http_connection {
    struct tf_http *http;
    struct tf_http_connection *before, *next;
    char identity[TF_IDENTITY_MAX + 1]; /* "": not proved */
    char peer[TF_HTTP_PEER_MAX + 1];
    bool is_proved;   /* or plain */
    bool had_request; /* one head was whole */
    bool closing;
    bool in_daemon; /* between libmicrohttpd's two notices */
    int fd;         /* the daemon's; ours only while in_daemon, to shut it down */
    struct tf_http_request *request;
    uint64_t deadline_ms; /* TF_HTTP_NEVER: none */
    /* With TLS: what the link brings goes through a pair of sockets, whose other end is fd. */
    struct tf_link *link;
    uv_pipe_t pair;
    bool has_pair;   /* open, or closing */
    bool pair_stops; /* not read: the link has too much to send */
};

/* Takes one connection from the listener. 0 or a negative errno. */
int tf_http_connection_accept(struct tf_http *http);
void tf_http_connection_close(struct tf_http_connection *conn, const char *reason);
/* libmicrohttpd's notices; the first answers which connection it is. */
struct tf_http_connection *tf_http_connection_of_fd(struct tf_http *http, int fd);
void tf_http_connection_left_daemon(struct tf_http_connection *conn);

/* ---- requests ------------------------------------------------------------------------------- */

enum MHD_Result tf_http_on_access(void *ctx, struct MHD_Connection *mhd, const char *url,
                                  const char *method, const char *version, const char *data,
                                  size_t *size, void **slot);
void tf_http_on_completed(void *ctx, struct MHD_Connection *mhd, void **slot,
                          enum MHD_RequestTerminationCode code);
/* Its connection closes: the daemon shall end it. */
void tf_http_request_drop(struct tf_http_request *request);

#endif
