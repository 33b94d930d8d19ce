/*
 * server.c - a listener, and libmicrohttpd's daemon on the loop.
 *
 * The daemon has no thread and no listening socket: its epoll descriptor is polled by the loop, and
 * it runs when that is readable, when a connection was given or resumed, and when it says itself
 * that something is left (`soon`). It knows no time limit; those are here, looked at each tick
 * while there are connections.
 *
 * Limits, and what happens at them:
 *
 *     connections, per_identity    refused
 *     handshakes                   TF_HTTP_UNPROVED_MAX: the oldest makes room
 *     head_bytes                   libmicrohttpd answers 414, 431 or 413
 *     head_ms                      refused: slow
 *     idle_ms                      closed
 *
 * The end: connections are cut, the daemon runs until it has let go of all, then it is stopped.
 * libmicrohttpd's own log is off: it says nothing that the answers do not.
 */
#include "internal.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "taffrail/log.h"

#define BACKLOG     128
#define TICK_MIN_MS 10u
#define TICK_MAX_MS 1000u
#define UNIX_MODE   0660

bool tf_http_is_built(void)
{
    return true;
}

static void free_when_closed(struct tf_http *http);

/* ---- the daemon ----------------------------------------------------------------------------- */

static void on_soon(uv_timer_t *timer);

static void run_daemon(struct tf_http *http)
{
    MHD_UNSIGNED_LONG_LONG wait_ms = 0;

    if (http->daemon == NULL) {
        return;
    }
    http->is_running = true;
    (void)MHD_run(http->daemon);
    http->is_running = false;
    if (MHD_get_timeout(http->daemon, &wait_ms) == MHD_YES) {
        (void)uv_timer_start(&http->soon, on_soon, wait_ms, 0);
    }
    free_when_closed(http);
}

static void on_soon(uv_timer_t *timer)
{
    run_daemon(timer->data);
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    (void)status;
    (void)events;
    run_daemon(poll->data);
}

void tf_http_soon(struct tf_http *http)
{
    if (http->daemon != NULL) {
        (void)uv_timer_start(&http->soon, on_soon, 0, 0);
    }
}

/* A connection has come to the daemon, or left it. */
static void on_notice(void *ctx, struct MHD_Connection *mhd, void **slot,
                      enum MHD_ConnectionNotificationCode code)
{
    struct tf_http_connection *conn;

    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        const union MHD_ConnectionInfo *info =
            MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD);

        conn = info == NULL ? NULL : tf_http_connection_of_fd(ctx, info->connect_fd);
        assert(conn != NULL);
        conn->in_daemon = true;
        *slot = conn;
    } else {
        conn = *slot;
        *slot = NULL;
        tf_http_connection_left_daemon(conn);
    }
}

static int start_daemon(struct tf_http *http)
{
    const union MHD_DaemonInfo *info;

    http->daemon = MHD_start_daemon(
        MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_NO_LISTEN_SOCKET, 0, NULL, NULL,
        tf_http_on_access, http, MHD_OPTION_NOTIFY_COMPLETED, tf_http_on_completed, http,
        MHD_OPTION_NOTIFY_CONNECTION, on_notice, http, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
        (size_t)http->limits.head_bytes, MHD_OPTION_CONNECTION_LIMIT,
        (unsigned)http->limits.connections + BACKLOG, /* those that are to be closed count */
        MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_END);
    if (http->daemon == NULL) {
        return -ENOMEM;
    }
    info = MHD_get_daemon_info(http->daemon, MHD_DAEMON_INFO_EPOLL_FD);
    if (info == NULL || info->epoll_fd < 0) {
        MHD_stop_daemon(http->daemon);
        http->daemon = NULL;
        return -ENOSYS;
    }
    return info->epoll_fd;
}

/* ---- limits and time ------------------------------------------------------------------------ */

void tf_http_refuse(struct tf_http *http, struct tf_http_connection *conn, const char *reason,
                    const char *text)
{
    struct tf_http_refusal refusal = {
        .reason = reason, .text = text, .identity = conn->identity, .peer = conn->peer};

    if (http->handler.on_refused != NULL && !http->closing) {
        http->handler.on_refused(http->handler.ctx, &refusal);
    }
}

/* The same address of IP, or all of a Unix socket. */
static bool is_same_peer(const struct tf_http_connection *a, const struct tf_http_connection *b)
{
    const char *port = strrchr(a->peer, ':');
    size_t size = port == NULL ? strlen(a->peer) : (size_t)(port - a->peer) + 1;

    return strncmp(a->peer, b->peer, size) == 0;
}

static bool is_silent(const struct tf_http_connection *conn)
{
    return !conn->closing && conn->request == NULL;
}

static uint32_t count_silent(const struct tf_http *http, const struct tf_http_connection *peer)
{
    uint32_t count = 0;

    for (const struct tf_http_connection *at = http->connections; at != NULL; at = at->next) {
        count += is_silent(at) && is_same_peer(at, peer);
    }
    return count;
}

/* Of the address that has most of them the oldest one, so that whoever opens many loses their own.
 */
bool tf_http_make_room(struct tf_http *http, const struct tf_http_connection *conn)
{
    struct tf_http_connection *found = NULL;
    uint32_t most = 0;

    for (struct tf_http_connection *at = http->connections; at != NULL; at = at->next) {
        uint32_t count = at == conn || !is_silent(at) ? 0 : count_silent(http, at);

        if (count > 0 && count >= most) {
            found = at;
            most = count;
        }
    }
    if (found == NULL) {
        return false;
    }
    tf_http_refuse(http, found, "connections", "it made room for another: there are too many");
    tf_http_connection_close(found, "it made room for another");
    return true;
}

static void make_unproved_room(struct tf_http *http)
{
    struct tf_http_connection *oldest = NULL;

    for (struct tf_http_connection *at = http->connections; at != NULL; at = at->next) {
        oldest = !at->is_proved && !at->closing ? at : oldest;
    }
    if (http->unproved > TF_HTTP_UNPROVED_MAX && oldest != NULL) {
        tf_http_connection_close(oldest, "too many are not authenticated yet");
    }
}

static void on_tick(uv_timer_t *timer)
{
    struct tf_http *http = timer->data;
    struct tf_http_connection *next;

    for (struct tf_http_connection *at = http->connections; at != NULL; at = next) {
        next = at->next; /* a close frees no other */
        if (uv_now(http->loop) < at->deadline_ms) {
            continue;
        }
        if (!at->had_request) {
            tf_http_refuse(http, at, "slow", "it sent no whole head in time");
        }
        tf_http_connection_close(at, at->had_request ? "idle" : "no whole head in time");
    }
}

static void start_tick(struct tf_http *http)
{
    const struct tf_http_limits *limits = &http->limits;
    uint64_t tick_ms = (limits->idle_ms < limits->head_ms ? limits->idle_ms : limits->head_ms) / 4;

    tick_ms = tick_ms < TICK_MIN_MS ? TICK_MIN_MS : tick_ms;
    tick_ms = tick_ms > TICK_MAX_MS ? TICK_MAX_MS : tick_ms;
    if (!uv_is_active((uv_handle_t *)&http->tick)) {
        (void)uv_timer_start(&http->tick, on_tick, tick_ms, tick_ms);
    }
}

static void on_connection(uv_stream_t *listener, int status)
{
    struct tf_http *http = listener->data;
    int rc = status < 0 ? status : tf_http_connection_accept(http);

    if (rc < 0) {
        tf_log(TF_LOG_ERROR, "listen", NULL, 0, "a connection could not be accepted: %s",
               uv_strerror(rc));
        return;
    }
    make_unproved_room(http);
    if (http->connections != NULL) {
        start_tick(http);
    }
}

/* ---- start ---------------------------------------------------------------------------------- */

void tf_http_print_address(const struct sockaddr_storage *address, char text[TF_HTTP_PEER_MAX + 1])
{
    char host[INET6_ADDRSTRLEN] = "unknown";
    unsigned port = ntohs(((const struct sockaddr_in *)address)->sin_port); /* of IPv6 there too */

    (void)uv_ip_name((const struct sockaddr *)address, host, sizeof host);
    (void)snprintf(text, TF_HTTP_PEER_MAX + 1, address->ss_family == AF_INET6 ? "[%s]:%u" : "%s:%u",
                   host, port);
}

/* A socket on which nobody listens any more is in the way of a new one. */
static void remove_stale(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct stat status;
    int fd;

    if (lstat(path, &status) < 0 || !S_ISSOCK(status.st_mode)) {
        return;
    }
    (void)snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd >= 0) {
        if (connect(fd, (const struct sockaddr *)&address, sizeof address) < 0 &&
            errno == ECONNREFUSED) {
            (void)unlink(path);
        }
        (void)close(fd);
    }
}

/* Returns the descriptor. The mode is set before the name is made, so that it is never wider, not
 * for a moment (unix(7)); then once more, since umask takes from the first. */
static int bind_unix(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), rc;

    if (fd < 0) {
        return -errno;
    }
    (void)snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    if (fchmod(fd, UNIX_MODE) < 0 ||
        bind(fd, (const struct sockaddr *)&address, sizeof address) < 0) {
        rc = -errno;
        (void)close(fd);
        return rc;
    }
    if (fchmodat(AT_FDCWD, path, UNIX_MODE, 0) < 0) {
        rc = -errno;
        (void)unlink(path);
        (void)close(fd);
        return rc;
    }
    return fd;
}

static int listen_unix(struct tf_http *http, const char *path)
{
    int fd, rc;

    remove_stale(path);
    fd = bind_unix(path);
    if (fd < 0) {
        return fd;
    }
    (void)snprintf(http->unix_path, sizeof http->unix_path, "%s", path);
    rc = uv_pipe_open(&http->listener.pipe, fd);
    if (rc < 0) {
        (void)close(fd);
        return rc;
    }
    return uv_listen(&http->listener.stream, BACKLOG, on_connection);
}

static int listen_tcp(struct tf_http *http, const struct sockaddr_storage *address)
{
    int rc = uv_tcp_bind(&http->listener.tcp, (const struct sockaddr *)address, 0);

    return rc < 0 ? rc : uv_listen(&http->listener.stream, BACKLOG, on_connection);
}

static void on_handle_closed(uv_handle_t *handle)
{
    struct tf_http *http = handle->data;

    assert(http->open_handles > 0);
    http->open_handles--;
    free_when_closed(http);
}

/* From the first handle on, only closing frees. */
static int init_handles(struct tf_http *http, bool is_unix, int epoll_fd)
{
    int rc = uv_poll_init(http->loop, &http->poll, epoll_fd);

    if (rc < 0) {
        return rc;
    }
    http->poll.data = http;
    rc = is_unix ? uv_pipe_init(http->loop, &http->listener.pipe, 0)
                 : uv_tcp_init(http->loop, &http->listener.tcp);
    assert(rc == 0); /* neither opens anything yet */
    http->listener.stream.data = http;
    (void)uv_timer_init(http->loop, &http->soon);
    http->soon.data = http;
    (void)uv_timer_init(http->loop, &http->tick);
    http->tick.data = http;
    http->open_handles = 4;
    return 0;
}

static void on_nothing(void *ctx)
{
    (void)ctx;
}

int tf_http_start(uv_loop_t *loop, const struct tf_http_address *address, struct tf_tls *tls,
                  const struct tf_http_limits *limits, const struct tf_http_handler *handler,
                  struct tf_http **out)
{
    bool is_unix = address->unix_path[0] != '\0';
    struct tf_http *http = calloc(1, sizeof *http);
    int rc;

    if (http == NULL) {
        return -ENOMEM;
    }
    assert(tls == NULL || !is_unix);
    http->loop = loop;
    http->tls = tls;
    http->limits = *limits;
    http->handler = *handler;
    rc = start_daemon(http);
    if (rc >= 0) {
        rc = init_handles(http, is_unix, rc);
    }
    if (rc < 0) {
        if (http->daemon != NULL) {
            MHD_stop_daemon(http->daemon);
        }
        free(http);
        return rc;
    }
    rc = is_unix ? listen_unix(http, address->unix_path) : listen_tcp(http, &address->address);
    if (rc == 0) {
        rc = uv_poll_start(&http->poll, UV_READABLE, on_poll);
    }
    if (rc < 0) {
        tf_http_close(http, on_nothing, NULL);
        return rc;
    }
    *out = http;
    return 0;
}

unsigned tf_http_bound(const struct tf_http *http, char text[TF_HTTP_PEER_MAX + 1])
{
    struct sockaddr_storage address = {0};
    int size = sizeof address;

    text[0] = '\0';
    if (http->unix_path[0] != '\0' ||
        uv_tcp_getsockname(&http->listener.tcp, (struct sockaddr *)&address, &size) < 0) {
        return 0;
    }
    tf_http_print_address(&address, text);
    return ntohs(((const struct sockaddr_in *)&address)->sin_port);
}

uint32_t tf_http_connections(const struct tf_http *http)
{
    return http->proved;
}

/* ---- the end -------------------------------------------------------------------------------- */

static void free_when_closed(struct tf_http *http)
{
    void (*on_closed)(void *ctx) = http->on_closed;
    void *ctx = http->closed_ctx;

    if (!http->closing || http->is_running || http->connections != NULL) {
        return;
    }
    if (http->daemon != NULL) {
        uv_close((uv_handle_t *)&http->poll, on_handle_closed);
        uv_close((uv_handle_t *)&http->soon, on_handle_closed);
        MHD_stop_daemon(http->daemon);
        http->daemon = NULL;
    }
    if (http->open_handles == 0) {
        free(http);
        on_closed(ctx);
    }
}

void tf_http_connection_ended(struct tf_http *http)
{
    if (http->connections == NULL) {
        (void)uv_timer_stop(&http->tick);
        tf_http_soon(http); /* not from in here: the daemon may be running */
    }
}

void tf_http_close(struct tf_http *http, void (*on_closed)(void *ctx), void *ctx)
{
    struct tf_http_connection *next;

    assert(!http->closing);
    http->closing = true;
    http->on_closed = on_closed;
    http->closed_ctx = ctx;
    for (struct tf_http_connection *at = http->connections; at != NULL; at = next) {
        next = at->next;
        tf_http_connection_close(at, "the listener stops");
    }
    if (http->unix_path[0] != '\0') {
        (void)unlink(http->unix_path);
    }
    uv_close((uv_handle_t *)&http->listener, on_handle_closed);
    uv_close((uv_handle_t *)&http->tick, on_handle_closed);
    tf_http_soon(http);
}
