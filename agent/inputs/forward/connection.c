/*
 * connection.c - one sender's connection, from accept to its last reference.
 *
 *     accepted --handshake, allow--> proved: a source of the pipeline
 *     proved:   bytes are messages (message.c), messages are taken (taken.c)
 *     ended:    the peer closed; what came whole is still taken, then the source goes
 *     closing:  by us; what was not handed on is dropped unacked
 *     draining: the input closes; acks that are owed still go out, then the link closes
 *
 * A connection is freed with its last reference: its link, its source, each ack that it is owed,
 * whoever looks at it. Until then it may be touched, closing or not.
 */
#include "internal.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- references ----------------------------------------------------------------------------- */

void tf_connection_ref(struct connection *conn)
{
    conn->refs++;
}

static void connection_free(struct connection *conn)
{
    struct forward *forward = conn->forward;

    assert(conn->job == NULL && conn->first == NULL && conn->names == NULL && !conn->paused);
    if (conn->before != NULL) {
        conn->before->next = conn->next;
    } else {
        forward->connections = conn->next;
    }
    if (conn->next != NULL) {
        conn->next->before = conn->before;
    }
    tf_buf_wipe(&conn->in);
    tf_buf_wipe(&conn->message);
    if (conn->sender != NULL) {
        tf_sender_unref(forward, conn->sender);
    }
    free(conn);
    tf_forward_input_finish(forward);
}

void tf_connection_unref(struct connection *conn)
{
    assert(conn->refs > 0);
    if (--conn->refs == 0) {
        connection_free(conn);
    }
}

/* ---- closing -------------------------------------------------------------------------------- */

/* It counts no more among the connections of its sender. */
static void leave(struct connection *conn)
{
    struct forward *forward = conn->forward;

    if (!conn->proved) {
        conn->proved = true;
        assert(forward->unproved > 0);
        forward->unproved--;
        tf_forward_proved(forward);
    } else if (conn->counted) {
        conn->counted = false;
        assert(conn->sender != NULL);
        conn->sender->connections--;
        forward->proved--;
    }
    if (conn->names != NULL) {
        struct names *names = conn->names;

        conn->names = NULL;
        names->current = names->current == conn ? NULL : names->current;
        tf_names_unref(names);
    }
    tf_reading_unpause(conn);
}

static void drop_input(struct connection *conn)
{
    tf_buf_wipe(&conn->in);
    conn->in_at = conn->whole_bytes = 0;
    conn->began_ms = 0;
    if (conn->is_source && conn->source.state != TF_SOURCE_RUNNING) {
        tf_taken_drop_job(conn); /* one that runs will be handed on, or end with its source */
    }
    tf_reading_charge(conn);
    tf_reading_resume(conn->forward);
}

static void remove_source(struct connection *conn)
{
    if (conn->is_source) {
        conn->is_source = false;
        tf_source_remove(&conn->source); /* on_removed may come in it */
    }
}

void tf_connection_close(struct connection *conn, const char *reason)
{
    if (conn->closing) {
        return;
    }
    conn->closing = true;
    tf_connection_ref(conn);
    leave(conn);
    drop_input(conn);
    remove_source(conn);
    if (conn->link != NULL) {
        tf_link_close(conn->link, reason);
    }
    tf_connection_unref(conn);
}

void tf_connection_refuse(struct connection *conn, const char *reason, const char *text)
{
    if (conn->closing) {
        return;
    }
    tf_forward_tell_refused(conn->forward, conn, reason, text);
    tf_connection_close(conn, text);
}

void tf_connection_drain(struct connection *conn)
{
    if (conn->closing || conn->draining) {
        return;
    }
    if (!conn->is_source || conn->link == NULL) {
        tf_connection_close(conn, "the collector stops");
        return;
    }
    conn->draining = true;
    tf_reading_update(conn);
    drop_input(conn);
    remove_source(conn);
    tf_connection_end_draining(conn);
}

void tf_connection_end_draining(struct connection *conn)
{
    if (conn->draining && conn->acks_owed == 0 && conn->job == NULL && conn->first == NULL) {
        tf_connection_close(conn, "the collector stops");
    }
}

/* ---- link events ---------------------------------------------------------------------------- */

static const struct allow *find_allow(const struct forward *forward, const char *identity)
{
    const struct allow *items = forward->options->allow.items;

    for (size_t i = 0; i < forward->options->allow.count; i++) {
        if (tf_identity_match(items[i].identity.text, identity)) {
            return &items[i];
        }
    }
    return NULL;
}

static int begin_source(struct connection *conn)
{
    int rc;

    conn->source.kind = &tf_input_forward;
    conn->source.tag = conn->tag;
    rc = tf_source_add(conn->forward->pipeline, conn->forward, &conn->source, NULL);
    if (rc == 0) {
        conn->is_source = true;
        tf_connection_ref(conn); /* until on_removed */
    }
    return rc;
}

static void on_open(void *ctx, const char *identity)
{
    struct connection *conn = ctx;
    struct forward *forward = conn->forward;

    if (conn->closing) {
        return;
    }
    conn->sender = tf_sender_get(forward, identity);
    if (conn->sender == NULL) {
        tf_connection_close(conn, "out of memory");
        return;
    }
    conn->allow = find_allow(forward, identity);
    if (conn->allow == NULL) {
        tf_connection_refuse(conn, "identity", "no allow entry has its identity");
    } else if (forward->proved >= forward->limits.connections) {
        tf_connection_refuse(conn, "connections", "limits.connections is reached");
    } else if (conn->sender->connections >= forward->limits.per_identity) {
        tf_connection_refuse(conn, "per-identity", "limits.per_identity is reached");
    } else if (begin_source(conn) < 0) {
        tf_connection_close(conn, "out of memory");
    } else {
        conn->heard_ms = uv_now(forward->loop);
        leave(conn); /* the unproved */
        conn->counted = true;
        conn->sender->connections++;
        forward->proved++;
        tf_log(TF_LOG_DEBUG, "sender",
               TF_DETAILS(TF_STR("identity", identity), TF_STR("peer", conn->peer)), "connected");
    }
}

static int on_data(void *ctx, const char *data, size_t size)
{
    struct connection *conn = ctx;

    if (conn->closing || conn->draining || size == 0) {
        return 0; /* dropped unacked */
    }
    conn->heard_ms = uv_now(conn->forward->loop);
    if (conn->in.size == conn->in_at) {
        conn->began_ms = conn->heard_ms;
    }
    if (tf_buf_append(&conn->in, data, size) < 0) {
        tf_connection_close(conn, "no memory for a message");
        return 0;
    }
    tf_connection_take(conn);
    return 0;
}

static void on_closed(void *ctx, int status, const char *reason)
{
    struct connection *conn = ctx;

    conn->link = NULL;
    if (!conn->closing && !conn->proved) { /* a probe that only connects is nobody's business */
        if (status != 0 && status != UV_EOF && status != UV_ECONNRESET) {
            tf_forward_tell_refused(conn->forward, conn, "handshake", reason);
        }
        tf_connection_close(conn, reason);
    } else if (!conn->closing) {
        tf_log(TF_LOG_DEBUG, "sender",
               TF_DETAILS(TF_STR("identity", conn->sender->identity), TF_STR("peer", conn->peer)),
               "%s", reason);
        conn->ended = true;
        tf_reading_unpause(conn);
        tf_connection_take(conn);
    }
    tf_connection_unref(conn); /* NOLINT(clang-analyzer-unix.Malloc): the link's own reference */
}

/* ---- begin and time limits ------------------------------------------------------------------ */

/* "192.0.2.7:5000", "[2001:db8::1]:5000" */
static void note_peer(struct connection *conn)
{
    const char *peer = tf_link_peer(conn->link);
    const char *colon = strrchr(peer, ':');
    size_t size = colon == NULL ? strlen(peer) : (size_t)(colon - peer);
    uint8_t v6[16];

    if (size > 1 && peer[0] == '[') {
        peer++;
        size -= 2;
    }
    (void)snprintf(conn->address, sizeof conn->address, "%.*s", (int)size, peer);
    (void)snprintf(conn->peer, sizeof conn->peer, "%s", tf_link_peer(conn->link));
    if (uv_inet_pton(AF_INET, conn->address, conn->address_key + 12) == 0) {
        conn->address_key[11] = 4;
    } else if (uv_inet_pton(AF_INET6, conn->address, v6) == 0) {
        static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};

        if (memcmp(v6, mapped, sizeof mapped) == 0) {
            conn->address_key[11] = 4;
            memcpy(conn->address_key + 12, v6 + 12, 4);
        } else {
            memcpy(conn->address_key, v6, 8); /* whoever has one address has its /64 */
        }
    }
}

int tf_connection_accept(struct forward *forward, struct connection **out)
{
    struct connection *conn = calloc(1, sizeof *conn);
    struct tf_link_events events = {
        .ctx = conn, .on_open = on_open, .on_data = on_data, .on_closed = on_closed};
    int rc;

    if (conn == NULL) {
        return -ENOMEM;
    }
    rc = tf_link_accept((uv_stream_t *)&forward->listener, forward->tls,
                        forward->limits.handshake_ms, &events, &conn->link);
    if (rc < 0) {
        free(conn);
        return rc;
    }
    conn->forward = forward;
    conn->refs = 1; /* the link's */
    conn->reading = true;
    conn->heard_ms = uv_now(forward->loop);
    tf_buf_init(&conn->in, (size_t)forward->limits.message_bytes + TF_READ_SLACK_BYTES);
    tf_buf_init(&conn->message, conn->in.limit_bytes);
    note_peer(conn);
    conn->next = forward->connections;
    if (conn->next != NULL) {
        conn->next->before = conn;
    }
    forward->connections = conn;
    forward->unproved++;
    *out = conn;
    return 0;
}

void tf_connection_tick(struct connection *conn)
{
    const struct limits *limits = &conn->forward->limits;
    uint64_t now_ms = uv_now(conn->forward->loop);
    bool is_waiting;

    if (conn->closing || conn->draining || !conn->is_source || conn->link == NULL) {
        return;
    }
    tf_reading_update(conn);
    is_waiting = conn->paused || conn->whole_bytes > 0 || conn->job != NULL ||
                 conn->acks_owed > 0 || conn->first != NULL; /* for us */
    if (conn->reading && conn->began_ms != 0 && conn->whole_bytes == 0 &&
        now_ms - conn->began_ms >= limits->progress_ms) {
        tf_connection_refuse(conn, "slow", "a message was not whole within limits.progress");
    } else if (!is_waiting && now_ms - conn->heard_ms >= limits->idle_ms) {
        tf_connection_close(conn, "idle for limits.idle");
    }
}
