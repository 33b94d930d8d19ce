/*
 * reading.c - when a connection reads: bounds of the memory that waiting messages hold.
 *
 * Reading stops while a whole message waits behind the one that is pumped, while acks lie unread,
 * and while all connections together hold limits.memory; TCP then makes senders wait. For memory,
 * connections stop in a queue: all read on when there is room, and while there is none the first of
 * them has its turn until its message is whole and goes, so that partial messages can never block
 * each other. So at most limits.memory, one message, and one read of each connection are held.
 */
#include "internal.h"

/* ---- memory, over all connections ----------------------------------------------------------- */

static bool is_memory_full(const struct connection *conn)
{
    const struct forward *forward = conn->forward;

    return forward->held_bytes >= forward->limits.memory_bytes && forward->turn != conn;
}

void tf_reading_unpause(struct connection *conn)
{
    struct forward *forward = conn->forward;
    struct connection *before = NULL;
    struct connection *at = forward->paused_first;

    if (!conn->paused) {
        return;
    }
    while (at != conn) {
        before = at;
        at = at->paused_next;
    }
    if (before != NULL) {
        before->paused_next = conn->paused_next;
    } else {
        forward->paused_first = conn->paused_next;
    }
    if (forward->paused_last == conn) {
        forward->paused_last = before;
    }
    conn->paused = false;
    conn->paused_next = NULL;
}

static void pause_reading(struct connection *conn)
{
    struct forward *forward = conn->forward;

    conn->paused = true;
    conn->paused_next = NULL;
    if (forward->paused_last != NULL) {
        forward->paused_last->paused_next = conn;
    } else {
        forward->paused_first = conn;
    }
    forward->paused_last = conn;
}

/* Lets paused connections read on: all while there is memory, else one in turn, so that its message
 * becomes whole and goes. */
void tf_reading_resume(struct forward *forward)
{
    while (forward->paused_first != NULL) {
        struct connection *conn = forward->paused_first;

        if (forward->held_bytes >= forward->limits.memory_bytes) {
            if (forward->turn != NULL) {
                return;
            }
            forward->turn = conn;
        }
        tf_reading_unpause(conn);
        tf_reading_update(conn);
    }
}

/* Counts what the connection's buffers hold, gives back what an idle one does not need. */
void tf_reading_charge(struct connection *conn)
{
    struct forward *forward = conn->forward;
    size_t now = 0;

    if (conn->in.size == 0 && conn->in.capacity > TF_KEEP_IDLE_BYTES / 2) {
        tf_buf_wipe(&conn->in);
    }
    if (conn->job == NULL && conn->message.capacity > TF_KEEP_IDLE_BYTES / 2) {
        tf_buf_wipe(&conn->message);
    }
    now += conn->in.size > 0 ? conn->in.capacity : 0;
    now += conn->job != NULL ? conn->message.capacity : 0;
    forward->held_bytes = forward->held_bytes - conn->charged_bytes + now;
    conn->charged_bytes = now;
    if (forward->turn == conn && (now == 0 || conn->job != NULL)) {
        forward->turn = NULL;
    }
}

/* ---- one connection ------------------------------------------------------------------------- */

static bool may_read(const struct connection *conn)
{
    return !conn->draining && conn->whole_bytes == 0 && !conn->paused &&
           tf_link_queued_bytes(conn->link) <= TF_ACKS_UNREAD_MAX;
}

void tf_reading_update(struct connection *conn)
{
    bool want;

    if (conn->link == NULL || conn->closing) {
        return;
    }
    if (!conn->paused && conn->in.size > 0 && conn->whole_bytes == 0 && is_memory_full(conn)) {
        pause_reading(conn);
    }
    want = may_read(conn);
    if (want == conn->reading) {
        return;
    }
    conn->reading = want;
    conn->heard_ms = uv_now(conn->forward->loop);
    if (conn->began_ms != 0) {
        conn->began_ms = conn->heard_ms; /* our pause is not the sender's */
    }
    if (want) {
        tf_link_read_start(conn->link);
        return;
    }
    tf_link_read_stop(conn->link);
    if (!conn->paused && conn->whole_bytes == 0) { /* for acks; most are only queued for a moment */
        tf_forward_tick_soon(conn->forward);
    }
}
