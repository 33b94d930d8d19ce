/*
 * taken.c - messages that were taken and are not durable, and the acks that are owed for them.
 *
 *     job     judged, waits for its pump or is pumped; one of a connection
 *     taken   handed on to the pipeline, in order
 *     durable its acks go out, its own and those of repeats that waited with it
 *     lost    its source is gone before: its acks are let go, and the connections of repeats that
 *             waited are closed, so that their senders try again
 *
 * A source that is removed while its job runs has that job handed on all the same, without pumped:
 * it then ends by committed, or with the source.
 */
#include "internal.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "taffrail/event.h"

/* ---- acks ----------------------------------------------------------------------------------- */

int tf_ack_owe(struct connection *conn, struct tf_slice chunk, struct ack **list)
{
    struct ack *ack;

    if (chunk.size == 0) {
        return 0;
    }
    ack = calloc(1, sizeof *ack + chunk.size);
    if (ack == NULL) {
        return -ENOMEM;
    }
    ack->conn = conn;
    ack->chunk_size = chunk.size;
    memcpy(ack->chunk, chunk.data, chunk.size);
    ack->next = *list;
    *list = ack;
    conn->acks_owed++;
    tf_connection_ref(conn);
    return 0;
}

void tf_ack_write(struct connection *conn, struct tf_slice chunk)
{
    struct tf_buf map, receipt;
    struct tf_slice parts[2];

    if (conn->link == NULL || conn->closing) {
        return;
    }
    tf_buf_init(&map, 256);
    tf_buf_init(&receipt, 512);
    tf_msgpack_map(&map, 1 + tf_receipt_append(conn, &receipt));
    tf_msgpack_text(&map, tf_slice_text("ack"));
    tf_msgpack_text(&map, chunk);
    parts[0] = tf_buf_slice(&map);
    parts[1] = tf_buf_slice(&receipt);
    if (map.error != 0 || receipt.error != 0 ||
        tf_link_write(conn->link, parts, TF_COUNT(parts)) < 0) {
        tf_connection_close(conn, "an ack could not be written");
    }
    tf_buf_fini(&map);
    tf_buf_fini(&receipt);
    tf_crash_point("ack.sent");
}

/* Sends or lets go all acks of a list. A lost repeat's connection is closed: its sender tries
 * again. */
static void settle_acks(struct ack *ack, const struct connection *owner, bool is_durable)
{
    while (ack != NULL) {
        struct ack *next = ack->next;
        struct connection *conn = ack->conn;

        assert(conn->acks_owed > 0);
        conn->acks_owed--;
        if (is_durable) {
            tf_ack_write(conn, tf_slice(ack->chunk, ack->chunk_size));
        } else if (conn != owner) {
            tf_connection_close(conn, "the original of a repeat was not stored");
        }
        if (conn != owner) {
            tf_connection_end_draining(conn);
            tf_connection_take(conn);
        }
        tf_connection_unref(conn);
        free(ack);
        ack = next;
    }
}

/* ---- messages ------------------------------------------------------------------------------- */

/* Ends a message that is durable, or came to nothing. It is in no list of its connection any more.
 */
static void taken_end(struct connection *conn, struct taken *taken, bool is_durable)
{
    struct ack *acks = taken->acks;

    tf_names_remove(taken);
    free(taken);
    settle_acks(acks, conn, is_durable);
}

void tf_taken_drop_job(struct connection *conn)
{
    struct taken *job = conn->job;

    if (job != NULL) {
        conn->job = NULL;
        taken_end(conn, job, false);
    }
}

void tf_taken_hand_on(struct connection *conn)
{
    struct taken *taken = conn->job;

    conn->job = NULL;
    if (taken == NULL) {
        return; /* it is durable already */
    }
    if (taken->cookie == 0) {
        taken_end(conn, taken, true);
        return;
    }
    if (conn->last != NULL) {
        conn->last->next = taken;
    } else {
        conn->first = taken;
    }
    conn->last = taken;
    conn->taken_count++;
}

/* Takes the message out of its list. It is the first one, but for those whose frame could not be
 * appended: they end with the source. */
static struct taken *find_committed(struct connection *conn, uint64_t cookie)
{
    struct taken *before = NULL;
    struct taken *at = conn->first;

    while (at != NULL && at->cookie != cookie) {
        before = at;
        at = at->next;
    }
    if (at == NULL) { /* its source went while it ran, so pumped did not come */
        at = conn->job;
        conn->job = NULL;
        return at;
    }
    if (before != NULL) {
        before->next = at->next;
    } else {
        conn->first = at->next;
    }
    conn->last = conn->last == at ? before : conn->last;
    conn->taken_count--;
    return at;
}

void tf_connection_committed(struct tf_source *source, uint64_t cookie)
{
    struct connection *conn = (struct connection *)source;
    struct taken *taken = find_committed(conn, cookie);

    tf_crash_point("recv.appended");
    assert(taken != NULL && taken->cookie == cookie);
    tf_connection_ref(conn);
    taken_end(conn, taken, true);
    tf_connection_end_draining(conn);
    tf_connection_take(conn);
    tf_connection_unref(conn);
}

void tf_connection_on_removed(struct tf_source *source)
{
    struct connection *conn = (struct connection *)source;

    tf_taken_drop_job(conn);
    while (conn->first != NULL) {
        struct taken *taken = conn->first;

        conn->first = taken->next;
        conn->last = conn->first == NULL ? NULL : conn->last;
        conn->taken_count--;
        taken_end(conn, taken, false);
    }
    tf_reading_charge(conn);
    tf_reading_resume(conn->forward);
    tf_connection_end_draining(conn);
    tf_connection_unref(conn);
}
