/*
 * listen.c - mode export_socket: a stream socket that journald writes its entries to
 * (ForwardToSocket=, systemd 256 and later: Journal Export Format without cursors).
 *
 * journald writes to it with blocking calls, so a receiver that does not read stops all logging of
 * the host (systemd issue 40360). So a connection is always read, and what has no room is dropped,
 * whole entries at a time:
 *
 *     PASSING    everything goes to the stream
 *     FINISHING  there is no room, and an entry has begun: up to the end of an entry
 *     DROPPING   entries are counted, until the stream is decoded to its end; then a gap `overrun`
 *                says how many, between what came before and after
 *
 * Nothing of it can be read again. What was decoded and not durable when a sync fails is lost, and
 * a gap `unsynced` says so; a kill loses it too. A connection that ends within an entry loses that:
 * journald writes entries whole, so its missing end may hold fields, and a part is no entry.
 *
 * Who may write: root and our own user by SO_PEERCRED (unix(7)), since an entry says of itself who
 * logged it. A loopback port can only be as safe as the machine's users.
 */
#include "internal.h"
#include "socket.h"

#include "taffrail/http.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define LISTEN_PATH     "/run/taffrail/journal.sock"
#define CONNECTIONS_MAX 4u
#define BACKLOG         16
#define READ_BYTES      (64u << 10)
#define WAITING_MAX     (4u << 20) /* of bytes: past it there is no room */
#define PENDING_MAX     (WAITING_MAX + TF_JOURNAL_ENTRY_MAX + (1u << 20)) /* and one entry more */
#define DRAIN_MS        2000u /* at most, when the input closes */
#define TELL_EVERY_MS   1000u

enum mode { PASSING, FINISHING, DROPPING };

union stream_handle {
    uv_handle_t handle;
    uv_stream_t stream;
    uv_pipe_t pipe;
    uv_tcp_t tcp;
};

struct listener {
    struct tf_journald *input;
    struct tf_socket_file file;
    bool is_tcp, is_open;
    struct sockaddr_storage address;
    union stream_handle handle;
    uint32_t connections;
    uint64_t told_ms, untold;
};

struct lost {
    uint64_t entries, bytes;
};

struct connection {
    struct tf_journal_stream stream; /* first */
    struct listener *listener;
    union stream_handle handle;
    uv_timer_t timer; /* of the end */
    uint32_t open_handles;
    enum mode mode;
    struct tf_export_skip skip;
    bool is_inside;     /* the newest byte is not the end of an entry */
    bool is_ending;     /* nothing more is read */
    bool is_late;       /* nor waited for */
    const char *broken; /* why it ends before its peer ended it */
    struct lost dropped;
    struct tf_buf pending; /* what the stream has no room for yet */

    /* For a failed sync: what of it is durable at least, and the gap that may not be. */
    uint64_t passed_bytes, safe_bytes, mark_bytes;
    uint64_t mark_batch, unsure_batch;
    struct lost unsure;
    char in[READ_BYTES];
};

/* How many of the bytes end with the last end of an entry in them (0: none); adds how many end. 0,
 * or -EPROTO behind that. */
static int walk(struct tf_export_skip *skip, struct tf_slice bytes, size_t *end_at,
                uint64_t *entries)
{
    size_t at = 0;

    *end_at = 0;
    while (at < bytes.size) {
        uint64_t ended = 0;
        int64_t used = tf_export_skip(skip, tf_slice(bytes.data + at, bytes.size - at), 0, &ended);

        if (used < 0) {
            return (int)used;
        }
        at += (size_t)used;
        *end_at = ended > 0 ? at : *end_at;
        *entries += ended;
    }
    return 0;
}

/* ---- gaps ------------------------------------------------------------------------------------ */

static void tell_gap(struct connection *conn, const char *reason, uint64_t bytes_max,
                     const char *text)
{
    if (tf_source_gap(&conn->stream.base.source, reason, text, bytes_max, NULL) < 0) {
        tf_log(TF_LOG_ERROR, "gap", TF_DETAILS(TF_STR("input", conn->listener->input->name)),
               "a gap could not be stored: %s", text);
    }
}

static void tell_dropped(struct connection *conn)
{
    char text[160];

    if (conn->dropped.entries == 0 && conn->dropped.bytes == 0) {
        return;
    }
    (void)snprintf(
        text, sizeof text, "%llu %s of %llu bytes from journald %s dropped: there was no room",
        (unsigned long long)conn->dropped.entries,
        tf_plural(conn->dropped.entries, "entry", "entries"),
        (unsigned long long)conn->dropped.bytes, tf_plural(conn->dropped.entries, "was", "were"));
    tell_gap(conn, "overrun", conn->dropped.bytes, text);
    conn->unsure.entries += conn->dropped.entries;
    conn->unsure.bytes += conn->dropped.bytes;
    conn->unsure_batch = conn->stream.batches;
    conn->dropped = (struct lost){0};
}

/* ---- the end of a connection ----------------------------------------------------------------- */

static void on_handle_closed(uv_handle_t *handle)
{
    struct connection *conn = handle->data;

    assert(conn->open_handles > 0);
    if (--conn->open_handles == 0) {
        conn->listener->connections--;
        conn->listener->input->status.connections--;
        tf_journal_source_remove(&conn->stream.base);
    }
}

/* All that was taken is in the pipeline, so that a gap comes in order. */
static bool is_drained(const struct connection *conn)
{
    return conn->pending.size == 0 && tf_journal_stream_is_drained(&conn->stream);
}

/* Entries that wait and are not decoded, forgotten with a gap. No job runs. */
static void tell_left(struct connection *conn, uint64_t bytes)
{
    const struct tf_slice parts[] = {tf_journal_stream_block(&conn->stream),
                                     tf_journal_stream_arrived(&conn->stream),
                                     tf_buf_slice(&conn->pending)};
    struct tf_export_skip skip = {0};
    uint64_t entries = 0;
    char text[160];

    for (size_t i = 0; i < TF_COUNT(parts); i++) {
        size_t end_at;

        (void)walk(&skip, parts[i], &end_at, &entries); /* its fault was told */
    }
    (void)snprintf(text, sizeof text,
                   "%llu %s of %llu bytes from journald %s not stored before the agent "
                   "stopped",
                   (unsigned long long)entries, tf_plural(entries, "entry", "entries"),
                   (unsigned long long)bytes, tf_plural(entries, "was", "were"));
    tf_journal_stream_restart(&conn->stream, tf_slice(NULL, 0)); /* a job may begin with the gap */
    tf_buf_wipe(&conn->pending);
    tell_gap(conn, "overrun", bytes, text);
}

/* All that came whole was decoded, or will not be. */
static void finish(struct connection *conn)
{
    struct tf_journal_stream *stream = &conn->stream;
    uint64_t rest_bytes = tf_journal_stream_rest_bytes(stream) + conn->pending.size;

    if (uv_is_closing((const uv_handle_t *)&conn->timer)) {
        return;
    }
    if (conn->is_late && rest_bytes > 0) {
        tell_left(conn, rest_bytes);
    }
    tell_dropped(conn);
    if (conn->broken != NULL) {
        tell_gap(conn, "unreadable", rest_bytes > 0 ? rest_bytes : UINT64_MAX, conn->broken);
    } else if (!conn->is_late && rest_bytes > 0) {
        tell_gap(conn, "unreadable", rest_bytes, "journald's connection ended within an entry");
    }
    uv_close((uv_handle_t *)&conn->timer, on_handle_closed);
}

/* A source that is gone could not tell what a failed sync lost: it stays until all is durable. */
static void finish_when_drained(struct connection *conn)
{
    const struct tf_journal_stream *stream = &conn->stream;
    bool is_idle = stream->base.source.state != TF_SOURCE_RUNNING;
    bool is_durable = stream->batches == stream->durable_batches;

    if (conn->is_ending && is_idle &&
        (conn->is_late || (is_durable && (stream->status < 0 || is_drained(conn))))) {
        finish(conn);
    }
}

/* Reads no more; what came whole is still decoded. */
static void end(struct connection *conn, const char *broken)
{
    if (conn->is_ending) {
        return;
    }
    conn->is_ending = true;
    conn->broken = broken;
    uv_close(&conn->handle.handle, on_handle_closed);
    tf_log(TF_LOG_DEBUG, "sender", TF_DETAILS(TF_STR("input", conn->listener->input->name)),
           "journald's connection ended");
    finish_when_drained(conn);
}

static void on_late(uv_timer_t *timer)
{
    struct connection *conn = timer->data;

    conn->is_late = true;
    conn->stream.status = -ECANCELED; /* but for the job that runs nothing more is decoded */
    finish_when_drained(conn);
}

/* ---- bytes ----------------------------------------------------------------------------------- */

/* As much as the stream has room for; the size of that. */
static size_t feed(struct connection *conn, struct tf_slice bytes)
{
    size_t done = 0;

    while (done < bytes.size && tf_journal_stream_has_room(&conn->stream)) {
        uv_buf_t room = tf_journal_stream_room(&conn->stream);
        size_t size = room.len < bytes.size - done ? room.len : bytes.size - done;

        if (size == 0) {
            break; /* no memory: tried again with what comes next */
        }
        memcpy(room.base, bytes.data + done, size);
        tf_journal_stream_wrote(&conn->stream, size);
        done += size;
    }
    return done;
}

static void feed_pending(struct connection *conn)
{
    if (conn->pending.size > 0) {
        tf_buf_consume(&conn->pending, feed(conn, tf_buf_slice(&conn->pending)));
    }
    if (conn->pending.size == 0 && conn->pending.capacity > READ_BYTES) {
        tf_buf_wipe(&conn->pending); /* not redacted yet */
    }
}

static void pass(struct connection *conn, struct tf_slice bytes)
{
    size_t done;

    feed_pending(conn);
    conn->passed_bytes += bytes.size;
    done = conn->pending.size == 0 ? feed(conn, bytes) : 0;
    if (tf_buf_append(&conn->pending, bytes.data + done, bytes.size - done) < 0) {
        end(conn, "there was no room for all of an entry; its connection was closed");
    }
}

static bool has_room(const struct connection *conn)
{
    return conn->pending.size < WAITING_MAX;
}

static void drop(struct connection *conn, uint64_t entries, size_t bytes)
{
    conn->dropped.entries += entries;
    conn->dropped.bytes += bytes;
}

static void resume(struct connection *conn)
{
    tell_dropped(conn);
    conn->mode = PASSING;
}

/* end_at of bytes end an entry, the last one of `entries` in them; 0: none does. */
static void take_dropping(struct connection *conn, struct tf_slice bytes, size_t end_at,
                          uint64_t entries)
{
    if (end_at == 0 || !is_drained(conn)) {
        drop(conn, entries, bytes.size);
        return;
    }
    drop(conn, entries, end_at);
    resume(conn);
    pass(conn, tf_slice(bytes.data + end_at, bytes.size - end_at));
}

static void take_finishing(struct connection *conn, struct tf_slice bytes, size_t end_at)
{
    if (end_at > 0) {
        conn->mode = DROPPING;
        pass(conn, tf_slice(bytes.data, end_at));
        drop(conn, 0, bytes.size - end_at);
        return;
    }
    pass(conn, bytes);
}

static void take(struct connection *conn, struct tf_slice bytes)
{
    bool was_inside = conn->is_inside;
    uint64_t entries = 0;
    size_t end_at;
    int rc = walk(&conn->skip, bytes, &end_at, &entries);

    bytes.size = rc < 0 ? end_at : bytes.size; /* what is whole before the fault counts */
    conn->is_inside = bytes.size > 0 ? end_at < bytes.size : was_inside;
    if (conn->mode == DROPPING && !was_inside && is_drained(conn)) {
        resume(conn);
    }
    if (conn->mode == DROPPING) {
        take_dropping(conn, bytes, end_at, entries);
    } else if (conn->mode == FINISHING) {
        take_finishing(conn, bytes, end_at);
    } else {
        pass(conn, bytes);
    }
    if (conn->mode == PASSING && !has_room(conn)) {
        conn->mode = conn->is_inside ? FINISHING : DROPPING;
    }
    if (rc < 0) {
        end(conn, "what journald sent is no export format; its connection was closed");
    }
}

static void on_alloc(uv_handle_t *handle, size_t size, uv_buf_t *buf)
{
    struct connection *conn = handle->data;

    (void)size;
    *buf = uv_buf_init(conn->in, sizeof conn->in);
}

static void on_read(uv_stream_t *handle, ssize_t size, const uv_buf_t *buf)
{
    struct connection *conn = handle->data;

    if (size > 0) {
        take(conn, tf_slice(buf->base, (size_t)size));
        explicit_bzero(conn->in, (size_t)size); /* not redacted yet */
    } else if (size < 0) {
        end(conn, NULL);
    }
}

/* ---- what the stream says -------------------------------------------------------------------- */

static void note_durable(struct connection *conn)
{
    const struct tf_journal_stream *stream = &conn->stream;

    if (stream->durable_batches >= conn->mark_batch) {
        conn->safe_bytes = conn->mark_bytes;
    }
    if (stream->durable_batches > conn->unsure_batch) {
        conn->unsure = (struct lost){0};
    }
    if (tf_journal_stream_is_drained(stream)) {
        conn->mark_batch = stream->batches;
        conn->mark_bytes =
            conn->passed_bytes - tf_journal_stream_rest_bytes(stream) - conn->pending.size;
    }
}

static void on_changed(struct tf_journal_stream *stream)
{
    struct connection *conn = (struct connection *)stream;

    note_durable(conn);
    feed_pending(conn);
    if (stream->status < 0) {
        end(conn, "what journald sent is no export format; its connection was closed");
    } else if (conn->mode == DROPPING && !conn->is_inside && !conn->is_ending && is_drained(conn)) {
        resume(conn);
    }
    finish_when_drained(conn);
}

/* journald sends nothing again, so the connection goes on behind the gap. */
static void on_rewind(struct tf_journal_stream *stream)
{
    struct connection *conn = (struct connection *)stream;

    note_durable(conn);
    conn->dropped.entries += conn->unsure.entries;
    conn->dropped.bytes += conn->unsure.bytes;
    conn->unsure = (struct lost){0};
    if (conn->mark_bytes > conn->safe_bytes) {
        tell_gap(conn, "unsynced", conn->mark_bytes - conn->safe_bytes,
                 "entries of journald were lost by a failed write or sync; it does not send again");
    }
    conn->safe_bytes = conn->mark_bytes;
    conn->stream.durable_batches = conn->stream.batches; /* or lost, and told */
    tell_dropped(conn);
    finish_when_drained(conn);
}

/* What journald wrote before the socket closes; bounded by the socket's buffer. */
static void take_waiting(struct connection *conn)
{
    uv_os_fd_t fd;

    if (uv_fileno(&conn->handle.handle, &fd) < 0) {
        return;
    }
    (void)uv_read_stop(&conn->handle.stream);
    (void)shutdown(fd, SHUT_RD);
    while (!conn->is_ending) {
        ssize_t size = recv(fd, conn->in, sizeof conn->in, MSG_DONTWAIT);

        if (size <= 0) {
            break;
        }
        take(conn, tf_slice(conn->in, (size_t)size));
    }
    explicit_bzero(conn->in, sizeof conn->in);
}

static void on_close(struct tf_journal_stream *stream)
{
    struct connection *conn = (struct connection *)stream;

    if (!uv_is_closing((const uv_handle_t *)&conn->timer)) {
        (void)uv_timer_start(&conn->timer, on_late, DRAIN_MS, 0);
        take_waiting(conn);
        end(conn, NULL);
    }
}

static void on_free(struct tf_journal_stream *stream)
{
    tf_buf_wipe(&((struct connection *)stream)->pending);
    tf_journal_stream_fini(stream);
    free(stream);
}

static const struct tf_journal_stream_owner owner = {
    .changed = on_changed, .rewind = on_rewind, .close = on_close, .free = on_free};

/* ---- accepting ------------------------------------------------------------------------------- */

static void tell_refused(struct listener *listener, const char *reason, const char *text)
{
    uint64_t now_ms = uv_now(listener->input->loop);

    tf_input_refused(&listener->input->status, reason, 1);
    tf_log(TF_LOG_WARN, "refused",
           TF_DETAILS(TF_STR("input", listener->input->name), TF_STR("reason", reason)), "%s",
           text);
    if (listener->told_ms != 0 && now_ms - listener->told_ms < TELL_EVERY_MS) {
        listener->untold++;
        return;
    }
    (void)tf_pipeline_audit(listener->input->pipeline, "refused", text,
                            TF_DETAILS(TF_STR("reason", reason),
                                       TF_STR("input", listener->input->name),
                                       TF_NUM("untold", listener->untold)));
    listener->told_ms = now_ms;
    listener->untold = 0;
}

/* False: refused, and said. */
static bool may_send(struct listener *listener, const struct connection *conn)
{
    struct ucred peer;
    socklen_t size = sizeof peer;
    uv_os_fd_t fd;

    if (listener->connections >= CONNECTIONS_MAX) {
        tell_refused(listener, "connections", "journald has one connection; four are open already");
        return false;
    }
    if (listener->is_tcp) {
        return true;
    }
    if (uv_fileno(&conn->handle.handle, &fd) < 0 ||
        getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0 ||
        (peer.uid != 0 && peer.uid != geteuid())) {
        tell_refused(listener, "user",
                     "only root, whom journald runs as, and the agent's own user "
                     "may send entries");
        return false;
    }
    return true;
}

static void on_refused_closed(uv_handle_t *handle)
{
    free(handle->data);
}

static void listen_stop(struct tf_journald *input);

/* A source of its own. 0, or a negative errno: it is the caller's. */
static int begin(struct connection *conn)
{
    struct tf_journald *input = conn->listener->input;
    int rc;

    conn->stream.base.source.tag = input->tag;
    conn->stream.rules = (struct tf_journal_rules){.select = &input->select};
    tf_buf_init(&conn->pending, PENDING_MAX);
    rc = tf_journal_stream_init(&conn->stream, input, &owner, NULL);
    if (rc < 0) {
        return rc;
    }
    (void)uv_timer_init(input->loop, &conn->timer); /* cannot fail */
    conn->timer.data = conn;
    conn->open_handles = 2;
    conn->listener->connections++;
    input->status.connections++;
    rc = uv_read_start(&conn->handle.stream, on_alloc, on_read);
    if (rc < 0) {
        end(conn, "its connection could not be read");
    }
    return 0;
}

static void accept_one(struct listener *listener)
{
    struct connection *conn = calloc(1, sizeof *conn);
    int rc = -ENOMEM;

    if (conn == NULL) { /* journald would wait for who is not accepted; better nobody listens */
        listener->input->status.errors[TF_INPUT_ACCEPT]++;
        tf_log(TF_LOG_ERROR, "listen", TF_DETAILS(TF_STR("input", listener->input->name)),
               "no memory for a connection; the socket is closed");
        listen_stop(listener->input);
        return;
    }
    conn->listener = listener;
    rc = listener->is_tcp ? uv_tcp_init(listener->input->loop, &conn->handle.tcp)
                          : uv_pipe_init(listener->input->loop, &conn->handle.pipe, 0);
    assert(rc == 0); /* without a socket yet there is nothing to fail */
    conn->handle.handle.data = conn;
    rc = uv_accept(&listener->handle.stream, &conn->handle.stream);
    if (rc < 0 || !may_send(listener, conn) || begin(conn) < 0) {
        uv_close(&conn->handle.handle, on_refused_closed);
    }
}

static void on_connection(uv_stream_t *handle, int status)
{
    struct listener *listener = handle->data;

    if (status < 0) {
        listener->input->status.errors[TF_INPUT_ACCEPT]++;
        tf_log(TF_LOG_ERROR, "listen", TF_DETAILS(TF_STR("input", listener->input->name)),
               "a connection could not be accepted: %s", uv_strerror(status));
        return;
    }
    accept_one(listener);
}

/* ---- begin and end --------------------------------------------------------------------------- */

static bool is_loopback(const struct sockaddr_storage *address)
{
    const struct sockaddr_in *v4 = (const struct sockaddr_in *)address;

    return address->ss_family == AF_INET6
               ? IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)address)->sin6_addr)
               : ntohl(v4->sin_addr.s_addr) >> 24 == 127;
}

/* A path is none: it may lack its "unix:" here. */
static bool parse_address(const char *text, struct sockaddr_storage *out)
{
    struct tf_http_address parsed;

    if (tf_http_address_parse(text, &parsed) < 0 || parsed.unix_path[0] != '\0') {
        return false;
    }
    *out = parsed.address;
    return true;
}

static int listen_check(struct tf_journald *input, struct tf_error *err)
{
    const struct tf_text *listen = &input->options->listen;
    struct listener *listener = calloc(1, sizeof *listener);

    if (listener == NULL) {
        return -ENOMEM;
    }
    input->own = listener;
    listener->input = input;
    listener->file.fd = -1;
    if (listen->text == NULL || !parse_address(listen->text, &listener->address)) {
        return tf_socket_file_name(&listener->file, listen, LISTEN_PATH, err);
    }
    listener->is_tcp = true;
    if (!is_loopback(&listener->address)) {
        return tf_error_add(err, &listen->at,
                            "listen %s can be reached from outside, and whoever reaches it writes "
                            "entries; write unix:" LISTEN_PATH
                            ", or use mode: upload, which is for other machines",
                            listen->text);
    }
    tf_warning_add(err, &listen->at,
                   "every user of this machine can write entries to %s, also in the name of "
                   "others; unix:" LISTEN_PATH " takes them from root only",
                   listen->text);
    return 0;
}

static void listen_needs(const struct tf_journald *input, struct tf_needs *needs)
{
    const struct listener *listener = input->own;

    if (listener->is_tcp) { /* both kinds of address have their port at the same place */
        tf_needs_port(needs, TF_NEED_LISTEN,
                      ntohs(((const struct sockaddr_in *)&listener->address)->sin_port));
    } else {
        tf_socket_file_needs(&listener->file, needs);
    }
}

static int open_listener(struct listener *listener, struct tf_error *err)
{
    struct tf_journald *input = listener->input;
    const struct tf_place *at = &input->options->listen.at;
    int rc;

    if (!listener->is_tcp) {
        rc = tf_socket_file_open(&listener->file, SOCK_STREAM, at, err);
        if (rc < 0) {
            return rc;
        }
    }
    rc = listener->is_tcp ? uv_tcp_init(input->loop, &listener->handle.tcp)
                          : uv_pipe_init(input->loop, &listener->handle.pipe, 0);
    if (rc < 0) {
        return rc;
    }
    listener->handle.handle.data = listener;
    listener->is_open = true;
    if (listener->is_tcp) {
        return uv_tcp_bind(&listener->handle.tcp, (const struct sockaddr *)&listener->address, 0);
    }
    rc = uv_pipe_open(&listener->handle.pipe, listener->file.fd);
    listener->file.fd = rc == 0 ? -1 : listener->file.fd; /* the handle closes it */
    return rc;
}

static int listen_start(struct tf_journald *input, struct tf_error *err)
{
    struct listener *listener = input->own;
    const char *address = listener->is_tcp ? input->options->listen.text : listener->file.path;
    size_t findings = err->count;
    int rc = open_listener(listener, err);

    if (rc == 0) {
        rc = uv_listen(&listener->handle.stream, BACKLOG, on_connection);
    }
    if (rc < 0) {
        if (err->count == findings) {
            (void)tf_error_add(err, &input->options->listen.at, "cannot listen on %s: %s", address,
                               uv_strerror(rc));
        }
        return rc;
    }
    tf_log(TF_LOG_INFO, "listening",
           TF_DETAILS(TF_STR("address", address), TF_STR("input", input->name)),
           "journald may connect (ForwardToSocket=)");
    return 0;
}

static void listen_stop(struct tf_journald *input)
{
    struct listener *listener = input->own;

    if (listener != NULL && listener->is_open) {
        listener->is_open = false;
        if (!listener->is_tcp) {
            tf_socket_file_unlink(&listener->file);
        }
        tf_journald_close_handle(input, &listener->handle.handle);
    }
}

static void listen_free(struct tf_journald *input)
{
    struct listener *listener = input->own;

    if (listener == NULL) {
        return;
    }
    if (listener->file.fd >= 0) {
        tf_socket_file_unlink(&listener->file);
        (void)close(listener->file.fd);
    }
    free(listener);
    input->own = NULL;
}

const struct tf_journald_way tf_journald_export_socket = {.check = listen_check,
                                                          .needs = listen_needs,
                                                          .start = listen_start,
                                                          .stop = listen_stop,
                                                          .free = listen_free};
