/*
 * connection.c - one connection: TLS is ours, HTTP is libmicrohttpd's.
 *
 *     peer <─TLS─> tf_link <─plain─> pair ══socketpair══ fd <─> libmicrohttpd
 *     peer <──────────────plain──────────────────────── fd <─> libmicrohttpd
 *
 *     with TLS:  accepted ─handshake, admits, limits─> proved: the pair is made, the daemon has fd
 *     plain:     accepted, the daemon has the socket
 *     closing:   from whichever side; the link sends what it has, the daemon sees the end of fd
 *     freed      when link, pair and daemon have all let go
 *
 * Backpressure: what the pair does not take now is kept (16 KiB at most) and the link is not read
 * meanwhile; the pair is not read while the link has more than TF_LINK_HIGH_BYTES to send.
 */
#include "internal.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "taffrail/log.h"

#define READ_BYTES (16u << 10)

/* ---- the end -------------------------------------------------------------------------------- */

static void free_when_let_go(struct tf_http_connection *conn)
{
    struct tf_http *http = conn->http;

    if (!conn->closing || conn->link != NULL || conn->has_pair || conn->in_daemon) {
        return;
    }
    assert(conn->request == NULL);
    if (conn->before != NULL) {
        conn->before->next = conn->next;
    } else {
        http->connections = conn->next;
    }
    if (conn->next != NULL) {
        conn->next->before = conn->before;
    }
    free(conn);
    tf_http_connection_ended(http);
}

static void on_pair_closed(uv_handle_t *handle)
{
    struct tf_http_connection *conn = handle->data;

    conn->has_pair = false;
    free_when_let_go(conn);
}

static void leave(struct tf_http_connection *conn)
{
    if (conn->is_proved) {
        conn->http->proved--;
    } else {
        conn->http->unproved--;
    }
}

void tf_http_connection_close(struct tf_http_connection *conn, const char *reason)
{
    if (conn->closing) {
        return;
    }
    conn->closing = true;
    conn->deadline_ms = TF_HTTP_NEVER;
    leave(conn);
    tf_log(TF_LOG_DEBUG, "http",
           TF_DETAILS(TF_STR("peer", conn->peer), TF_STR("identity", conn->identity)), "%s",
           reason);
    if (conn->request != NULL) {
        tf_http_request_drop(conn->request);
    }
    if (conn->link != NULL) {
        tf_link_close(conn->link, reason);
    }
    if (conn->has_pair) {
        uv_close((uv_handle_t *)&conn->pair, on_pair_closed);
    } else if (conn->in_daemon) {
        (void)shutdown(conn->fd, SHUT_RDWR);
    }
    tf_http_soon(conn->http);
    free_when_let_go(conn);
}

void tf_http_connection_left_daemon(struct tf_http_connection *conn)
{
    conn->in_daemon = false;
    if (conn->closing) {
        free_when_let_go(conn);
    } else if (conn->http->tls == NULL) {
        tf_http_connection_close(conn, "closed");
    } /* else what the pair still holds is sent first: on_pair_read finds its end */
}

/* ---- to and from the daemon ----------------------------------------------------------------- */

struct tf_http_connection *tf_http_connection_of_fd(struct tf_http *http, int fd)
{
    struct tf_http_connection *conn = http->connections;

    while (conn != NULL && (conn->in_daemon || conn->closing || conn->fd != fd)) {
        conn = conn->next;
    }
    return conn;
}

/* The daemon owns fd from now on, also after an error. */
static int give(struct tf_http_connection *conn, int fd)
{
    static const struct sockaddr nowhere = {.sa_family = AF_UNIX};

    conn->fd = fd;
    conn->deadline_ms = uv_now(conn->http->loop) + conn->http->limits.head_ms;
    if (MHD_add_connection(conn->http->daemon, fd, &nowhere, sizeof nowhere.sa_family) != MHD_YES) {
        conn->fd = -1;
        return -ENOMEM;
    }
    tf_http_soon(conn->http);
    return 0;
}

static void on_alloc(uv_handle_t *handle, size_t size, uv_buf_t *buf)
{
    (void)handle;
    (void)size;
    buf->base = malloc(READ_BYTES);
    buf->len = buf->base == NULL ? 0 : READ_BYTES; /* UV_ENOBUFS: it is closed */
}

static void on_pair_read(uv_stream_t *pair, ssize_t size, const uv_buf_t *buf)
{
    struct tf_http_connection *conn = pair->data;
    struct tf_slice part = tf_slice(buf->base, size > 0 ? (size_t)size : 0);

    if (size < 0) {
        tf_http_connection_close(conn, "the last answer is sent");
    } else if (size > 0 && conn->link != NULL) {
        (void)tf_link_write(conn->link, &part, 1); /* a failure ends in on_link_closed */
        if (conn->deadline_ms != TF_HTTP_NEVER) {
            conn->deadline_ms = uv_now(conn->http->loop) + conn->http->limits.idle_ms;
        }
        if (tf_link_queued_bytes(conn->link) > TF_LINK_HIGH_BYTES) {
            conn->pair_stops = true;
            (void)uv_read_stop(pair);
        }
    }
    free(buf->base);
}

static int make_pair(struct tf_http_connection *conn)
{
    int ends[2], rc;

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) < 0) {
        return -errno;
    }
    rc = uv_pipe_init(conn->http->loop, &conn->pair, 0);
    if (rc < 0) {
        (void)close(ends[0]);
        (void)close(ends[1]);
        return rc;
    }
    conn->pair.data = conn;
    conn->has_pair = true;
    rc = uv_pipe_open(&conn->pair, ends[0]);
    if (rc < 0) {
        (void)close(ends[0]);
        (void)close(ends[1]);
        return rc;
    }
    rc = uv_read_start((uv_stream_t *)&conn->pair, on_alloc, on_pair_read);
    if (rc < 0) {
        (void)close(ends[1]);
        return rc;
    }
    return give(conn, ends[1]);
}

/* ---- link events ---------------------------------------------------------------------------- */

/* How many others of its identity there are. */
static uint32_t count_same(const struct tf_http_connection *conn)
{
    uint32_t count = 0;

    for (const struct tf_http_connection *at = conn->http->connections; at != NULL; at = at->next) {
        count += at->is_proved && !at->closing && strcmp(at->identity, conn->identity) == 0;
    }
    return count;
}

static void refuse(struct tf_http_connection *conn, const char *reason, const char *text)
{
    tf_http_refuse(conn->http, conn, reason, text);
    tf_http_connection_close(conn, text);
}

static void on_link_open(void *ctx, const char *identity)
{
    struct tf_http_connection *conn = ctx;
    struct tf_http *http = conn->http;

    if (conn->closing) {
        return;
    }
    (void)snprintf(conn->identity, sizeof conn->identity, "%s", identity);
    if (http->handler.admits != NULL && !http->handler.admits(http->handler.ctx, identity)) {
        refuse(conn, "identity", "no allow entry has its identity");
    } else if (http->proved >= http->limits.connections) {
        refuse(conn, "connections", "there are too many connections");
    } else if (count_same(conn) >= http->limits.per_identity) {
        refuse(conn, "per-identity", "there are too many connections of its identity");
    } else {
        conn->is_proved = true;
        http->unproved--;
        http->proved++;
        if (make_pair(conn) < 0) {
            tf_http_connection_close(conn, "no memory or descriptor for a connection");
        }
    }
}

struct rest {
    uv_write_t write;
    struct tf_http_connection *conn;
    char data[];
};

static void on_rest_written(uv_write_t *write, int status)
{
    struct rest *rest = TF_CONTAINER_OF(write, struct rest, write);
    struct tf_http_connection *conn = rest->conn;

    (void)status; /* an end is read from the pair */
    free(rest);
    if (!conn->closing && conn->link != NULL) {
        tf_link_read_start(conn->link);
    }
}

/* What the pair had no room for; nothing follows until it is written. */
static int keep_rest(struct tf_http_connection *conn, const char *data, size_t size)
{
    struct rest *rest = malloc(sizeof *rest + size);
    uv_buf_t buf;
    int rc;

    if (rest == NULL) {
        return -ENOMEM;
    }
    rest->conn = conn;
    memcpy(rest->data, data, size);
    buf = uv_buf_init(rest->data, (unsigned)size);
    rc = uv_write(&rest->write, (uv_stream_t *)&conn->pair, &buf, 1, on_rest_written);
    if (rc < 0) {
        free(rest);
        return rc;
    }
    tf_link_read_stop(conn->link);
    return 0;
}

static int on_link_data(void *ctx, const char *data, size_t size)
{
    struct tf_http_connection *conn = ctx;
    uv_buf_t buf = uv_buf_init((char *)(uintptr_t)data, (unsigned)size);
    int n;

    if (conn->closing || !conn->has_pair) {
        return 0;
    }
    n = uv_try_write((uv_stream_t *)&conn->pair, &buf, 1);
    if (n < 0 && n != UV_EAGAIN) {
        return 0; /* the daemon closed it: read from the pair */
    }
    n = n < 0 ? 0 : n;
    if ((size_t)n < size && keep_rest(conn, data + n, size - (size_t)n) < 0) {
        tf_http_connection_close(conn, "no memory for what came");
    }
    return 0;
}

static void on_link_drained(void *ctx)
{
    struct tf_http_connection *conn = ctx;

    if (conn->pair_stops && !conn->closing) {
        conn->pair_stops = false;
        (void)uv_read_start((uv_stream_t *)&conn->pair, on_alloc, on_pair_read);
    }
}

static void on_link_closed(void *ctx, int status, const char *reason)
{
    struct tf_http_connection *conn = ctx;

    conn->link = NULL;
    if (!conn->closing && !conn->is_proved && status != 0 && status != UV_EOF &&
        status != UV_ECONNRESET) { /* a probe that only connects is nobody's business */
        tf_http_refuse(conn->http, conn, "handshake", reason);
    }
    if (!conn->closing) {
        tf_http_connection_close(conn, reason); /* frees it, when there is no more */
    } else {
        free_when_let_go(conn);
    }
}

/* ---- begin ---------------------------------------------------------------------------------- */

static void free_handle(uv_handle_t *handle)
{
    free(handle);
}

/* The descriptor of one plain connection, out of libuv's hands, or a negative errno. */
static int accept_plain(struct tf_http *http, char peer[TF_HTTP_PEER_MAX + 1])
{
    bool is_unix = http->unix_path[0] != '\0';
    struct sockaddr_storage address = {0};
    int size = sizeof address;
    union {
        uv_handle_t handle;
        uv_stream_t stream;
        uv_tcp_t tcp;
        uv_pipe_t pipe;
    } *from = calloc(1, sizeof *from);
    uv_os_fd_t fd;
    int rc, own = -1;

    if (from == NULL) {
        return -ENOMEM;
    }
    rc = is_unix ? uv_pipe_init(http->loop, &from->pipe, 0) : uv_tcp_init(http->loop, &from->tcp);
    if (rc < 0) {
        free(from);
        return rc;
    }
    rc = uv_accept(&http->listener.stream, &from->stream);
    if (rc == 0) {
        rc = uv_fileno(&from->handle, &fd);
    }
    if (rc == 0) {
        own = fcntl(fd, F_DUPFD_CLOEXEC, 0);
        rc = own < 0 ? -errno : 0;
    }
    (void)snprintf(peer, TF_HTTP_PEER_MAX + 1, "unix");
    if (rc == 0 && !is_unix &&
        uv_tcp_getpeername(&from->tcp, (struct sockaddr *)&address, &size) == 0) {
        tf_http_print_address(&address, peer);
    }
    uv_close(&from->handle, free_handle);
    return rc < 0 ? rc : own;
}

static void begin(struct tf_http *http, struct tf_http_connection *conn)
{
    conn->http = http;
    conn->deadline_ms = TF_HTTP_NEVER;
    conn->next = http->connections;
    if (conn->next != NULL) {
        conn->next->before = conn;
    }
    http->connections = conn;
}

static int accept_one_plain(struct tf_http *http, struct tf_http_connection *conn)
{
    int fd = accept_plain(http, conn->peer);

    if (fd < 0) {
        free(conn);
        return fd;
    }
    begin(http, conn);
    conn->is_proved = true;
    http->proved++;
    if (http->proved > http->limits.connections && !tf_http_make_room(http, conn)) {
        (void)close(fd);
        refuse(conn, "connections", "there are too many connections");
    } else if (give(conn, fd) < 0) {
        tf_http_connection_close(conn, "no memory for a connection");
    }
    return 0;
}

int tf_http_connection_accept(struct tf_http *http)
{
    struct tf_http_connection *conn = calloc(1, sizeof *conn);
    struct tf_link_events events = {.ctx = conn,
                                    .on_open = on_link_open,
                                    .on_data = on_link_data,
                                    .on_drained = on_link_drained,
                                    .on_closed = on_link_closed};
    int rc;

    if (conn == NULL) {
        return -ENOMEM;
    }
    conn->fd = -1;
    if (http->tls == NULL) {
        return accept_one_plain(http, conn);
    }
    rc = tf_link_accept(&http->listener.stream, http->tls, http->limits.handshake_ms, &events,
                        &conn->link);
    if (rc < 0) {
        free(conn);
        return rc;
    }
    begin(http, conn);
    (void)snprintf(conn->peer, sizeof conn->peer, "%s", tf_link_peer(conn->link));
    http->unproved++;
    return 0;
}
