/*
 * message.c - bytes to messages, messages to batches.
 *
 * A message is judged when it is whole and nothing else of its connection is being pumped: by its
 * tag (allow), then by its name (names.c). A repeat is never pumped: it is acked at once when its
 * original is durable, and with it when not (docs/guarantees.md D5). Everything else is one batch
 * (B2): the worker decodes it, with identity and marks, and appends its name to the same frame
 * (D4).
 *
 * The worker reads message, head and job and writes tag and the job's digest; the loop leaves them
 * alone while the source runs. Nothing of a message that is refused is stored, and what came behind
 * it is dropped.
 */
#include "internal.h"

#include <errno.h>
#include <stdlib.h>

#include <openssl/sha.h>

#define AUDIT_TAG   "taffrail.audit"
#define MSGPACK_NIL '\xc0'

/* ---- a whole message ------------------------------------------------------------------------ */

static bool is_tag_allowed(const struct connection *conn)
{
    const struct tf_texts *tags = &conn->allow->tags;

    if (tf_slice_equal(conn->head.tag, tf_slice_text(AUDIT_TAG))) {
        return true;
    }
    for (size_t i = 0; i < tags->count; i++) {
        if (tf_glob_match(tags->items[i].text, conn->head.tag, '.')) {
            return true;
        }
    }
    return false;
}

/* An ack map without `ack` is a no (docs/protocol.md). */
static void refuse_tag(struct connection *conn)
{
    struct tf_slice empty_map = tf_slice("\x80", 1);

    if (conn->link != NULL && conn->head.chunk.size > 0) {
        (void)tf_link_write(conn->link, &empty_map, 1);
    }
    tf_connection_refuse(conn, "tag", "its allow entry does not have this tag");
}

static bool is_named(const struct tf_message_head *head)
{
    return head->has_taffrail && head->replayed.size == 0;
}

/* The newest connection that sends for a spool is the only one (D3). */
static int attach(struct connection *conn)
{
    struct names *names = tf_names_get(conn->forward, conn->sender, conn->head.spool_id);
    struct connection *older;

    if (names == NULL) {
        return -ENOMEM;
    }
    if (conn->names == names) {
        tf_names_unref(names); /* it has one */
        return 0;
    }
    if (conn->names != NULL) {
        conn->names->current = NULL;
        tf_names_unref(conn->names);
    }
    older = names->current;
    conn->names = names;
    names->current = conn;
    if (older != NULL) {
        tf_connection_close(older, "a newer connection sends for its spool");
    }
    return 0;
}

static void tell_contradiction(struct connection *conn, const struct judgement *judgement)
{
    static const char text[] = "a sender's frame contradicts what was received before";
    struct forward *forward = conn->forward;
    struct sender *sender = conn->sender;
    uint64_t now_ms = uv_now(forward->loop);
    const char *spool = conn->names->key + strlen(conn->names->key) - 2 * TF_SPOOL_ID_BYTES;

    tf_input_contradicted(&forward->status, judgement->contradicts);
    tf_log(TF_LOG_WARN, "contradiction",
           TF_DETAILS(TF_STR("identity", sender->identity), TF_STR("kind", judgement->contradicts),
                      TF_STR("input", forward->name), TF_STR("peer", conn->peer),
                      TF_STR("spool", spool), TF_NUM("seq", conn->head.seq),
                      TF_NUM("prev", conn->head.prev), TF_NUM("last", judgement->last_seq)),
           text);
    if (sender->told == 0 || now_ms - sender->told_from_ms >= 60000) {
        sender->told = 0;
        sender->told_from_ms = now_ms;
    }
    if (sender->told++ >= TF_CONTRADICTION_TOLD) {
        return; /* the records themselves are marked */
    }
    (void)tf_pipeline_audit(
        forward->pipeline, "contradiction", text,
        TF_DETAILS(TF_STR("sender", sender->identity), TF_STR("kind", judgement->contradicts),
                   TF_STR("input", forward->name), TF_STR("spool", spool),
                   TF_NUM("seq", conn->head.seq), TF_NUM("prev", conn->head.prev),
                   TF_NUM("last", judgement->last_seq)));
}

static void fill_value(const struct tf_message_head *head, struct remembered *value)
{
    memcpy(value->chain, head->chain, TF_CHAIN_BYTES);
    value->seq = head->seq;
    value->prev = head->prev;
    value->is_gap = head->gap_from != 0;
    value->has_chain = true;
}

/* One that cannot be in the history that is known; a new spool or a hole in what came here can. */
static bool is_disputed(const char *contradicts)
{
    return contradicts != NULL && strcmp(contradicts, "new-spool") != 0 &&
           strcmp(contradicts, "unseen") != 0;
}

/* What the frame of a taffrail sender's message says of it: names, or of a replay a note alone. */
static int name_job(struct connection *conn, struct taken *job, const struct judgement *judgement)
{
    job->received_ns = tf_now_ns();
    fill_value(&conn->head, &job->value);
    job->value.seen_s = job->received_ns / TF_S_IN_NS;
    if (!is_named(&conn->head)) {
        job->is_replay = true;
        job->names = tf_names_get(conn->forward, conn->sender, conn->head.spool_id);
        return job->names == NULL ? -ENOMEM : 0;
    }
    job->contradicts = judgement->contradicts;
    job->value.is_disputed = is_disputed(job->contradicts);
    job->evicts = conn->names->evicts[0] != '\0' && conn->names->first == NULL;
    if (job->value.is_disputed) {
        tf_names_dispute(conn->names);
    }
    tf_names_add(conn->names, job);
    return 0;
}

static int accept_repeat(struct connection *conn, const struct judgement *judgement)
{
    conn->forward->status.repeats++;
    if (judgement->original != NULL) {
        return tf_ack_owe(conn, conn->head.chunk, &judgement->original->acks);
    }
    if (conn->head.chunk.size > 0) {
        tf_ack_write(conn, conn->head.chunk);
    }
    return 0;
}

/* Makes conn->message the job of its source. */
static int begin_job(struct connection *conn, const struct judgement *judgement)
{
    struct taken *job = calloc(1, sizeof *job);

    if (job == NULL) {
        return -ENOMEM;
    }
    if (conn->head.has_taffrail && name_job(conn, job, judgement) < 0) {
        free(job);
        return -ENOMEM;
    }
    if (tf_ack_owe(conn, conn->head.chunk, &job->acks) < 0) {
        tf_names_remove(job);
        free(job);
        return -ENOMEM;
    }
    if (job->acks != NULL || job->names != NULL) {
        job->cookie = ++conn->forward->next_cookie;
    }
    conn->job = job;
    if (judgement->contradicts != NULL) {
        tell_contradiction(conn, judgement);
    }
    tf_reading_charge(conn);
    tf_source_wake(&conn->source);
    return 0;
}

/* conn->message holds a whole object that is not nil. */
static void accept_message(struct connection *conn)
{
    struct judgement judgement = {0};
    int rc = tf_message_head(tf_buf_slice(&conn->message), &conn->head);

    if (rc < 0) {
        tf_connection_refuse(conn, "malformed", "not a message of the forward protocol");
        return;
    }
    if (!is_tag_allowed(conn)) {
        refuse_tag(conn);
        return;
    }
    if (is_named(&conn->head)) {
        rc = attach(conn);
        if (conn->closing) { /* it waited for what the older connection had not handed on */
            return;
        }
        if (rc == 0) {
            tf_names_judge(conn->names, &conn->head, &judgement);
        }
    }
    if (judgement.is_full) {
        tf_connection_refuse(conn, "spools", "its identity sends for too many spools at once");
        return;
    }
    if (rc == 0) {
        rc = judgement.is_durable || judgement.original != NULL ? accept_repeat(conn, &judgement)
                                                                : begin_job(conn, &judgement);
    }
    if (rc < 0) {
        tf_connection_close(conn, "out of memory");
    }
}

/* ---- bytes to messages ---------------------------------------------------------------------- */

static void consume(struct connection *conn, size_t size)
{
    conn->in_at += size;
    conn->whole_bytes = 0;
    conn->scan = (struct tf_msgpack_scan){0};
    if (conn->in_at == conn->in.size) {
        tf_buf_clear(&conn->in);
        conn->in_at = 0;
    }
    conn->began_ms = conn->in.size == 0 ? 0 : uv_now(conn->forward->loop);
}

/* Looks for the end of the first message. False when it is not there, or conn was refused. */
static bool find_whole(struct connection *conn)
{
    size_t left = conn->in.size - conn->in_at;
    uint64_t max_bytes = conn->forward->limits.message_bytes;
    int64_t size;

    if (conn->whole_bytes > 0) {
        return true;
    }
    if (left == 0) {
        return false;
    }
    size = tf_msgpack_size(tf_slice(conn->in.data + conn->in_at, left), &conn->scan);
    if (size == -EMSGSIZE || (size == 0 && left > max_bytes) ||
        (size > 0 && (uint64_t)size > max_bytes)) {
        tf_connection_refuse(conn, "too-large", "a message is larger than limits.message");
    } else if (size < 0) {
        tf_connection_refuse(conn, "malformed", "not msgpack, or nested too deep");
    } else if (size > 0) {
        conn->whole_bytes = (size_t)size;
        return true;
    }
    return false;
}

/* Moves the first message to conn->message. The shorter part is copied, so that neither many small
 * messages nor one large one cost more than their bytes. */
static int move_message(struct connection *conn)
{
    size_t size = conn->whole_bytes;
    size_t rest = conn->in.size - conn->in_at - size;

    tf_buf_clear(&conn->message);
    if (size <= rest || conn->in_at > 0) {
        int rc = tf_buf_append(&conn->message, conn->in.data + conn->in_at, size);

        if (rc == 0) {
            consume(conn, size);
        }
        return rc;
    }
    if (rest > 0 && tf_buf_append(&conn->message, conn->in.data + size, rest) < 0) {
        return -ENOMEM;
    }
    conn->in.size = size;
    struct tf_buf message = conn->in;
    conn->in = conn->message;
    conn->message = message;
    conn->in_at = 0;
    consume(conn, 0);
    return 0;
}

/* The bytes before in_at go when they are more than what follows, so that moving them pays. */
static void compact(struct connection *conn)
{
    if (conn->in_at > conn->in.size / 2) {
        tf_buf_consume(&conn->in, conn->in_at);
        conn->in_at = 0;
    }
}

static bool is_heartbeat(const struct connection *conn)
{
    return conn->whole_bytes == 1 && conn->in.data[conn->in_at] == MSGPACK_NIL;
}

static bool may_take(const struct connection *conn)
{
    return conn->is_source && !conn->closing && !conn->draining && conn->job == NULL &&
           conn->taken_count < TF_UNACKED_MAX && conn->acks_owed < TF_UNACKED_MAX;
}

/* Takes whole messages until one is being pumped or none is left. */
void tf_connection_take(struct connection *conn)
{
    tf_connection_ref(conn);
    while (may_take(conn) && find_whole(conn)) {
        if (is_heartbeat(conn)) {
            consume(conn, 1);
        } else if (move_message(conn) < 0) {
            tf_connection_close(conn, "out of memory");
        } else {
            accept_message(conn);
        }
    }
    if (!conn->closing && !conn->draining) {
        compact(conn);
        if (conn->is_source) {
            (void)find_whole(conn); /* so that reading stops when one waits */
        }
    }
    if (!conn->closing && conn->ended && conn->job == NULL && conn->whole_bytes == 0) {
        tf_connection_close(conn, "the sender ended");
    }
    if (!conn->closing) {
        tf_reading_charge(conn);
        tf_reading_update(conn);
        tf_reading_resume(conn->forward);
    }
    tf_connection_unref(conn);
}

/* ---- the source: pump and position on a worker, pumped on the loop -------------------------- */

void tf_connection_pump(struct tf_source *source, struct tf_batch *batch,
                        struct tf_pump_result *result)
{
    struct connection *conn = (struct connection *)source;
    struct taken *job = conn->job;

    if (job->names != NULL) {
        (void)SHA256((const unsigned char *)conn->head.events.data, conn->head.events.size,
                     job->digest); /* fails only for NULL */
    }
    memcpy(conn->tag, conn->head.tag.data, conn->head.tag.size); /* at most TF_TAG_MAX */
    conn->tag[conn->head.tag.size] = '\0';
    source->tag = conn->tag;
    result->status =
        tf_message_decode(tf_buf_slice(&conn->message), &conn->head, conn->sender->identity,
                          conn->allow->relay, job->contradicts, tf_now_ns(), batch);
    result->has_position = job->names != NULL;
    result->cookie = job->cookie;
    tf_crash_point("recv.decoded");
}

void tf_connection_position(struct tf_source *source, const uint64_t held_from[TF_STREAMS],
                            const struct tf_stream_state states[TF_STREAMS], struct tf_buf *deltas)
{
    const struct connection *conn = (const struct connection *)source;

    (void)held_from; /* a message goes whole into one frame: nothing of it is held back */
    (void)states;    /* a connection is not resumed: its sender sends the message whole */
    tf_names_append(conn->job, deltas);
}

static void refuse_batch(struct connection *conn, int status)
{
    if (status == -EPROTO) {
        tf_connection_refuse(conn, "malformed", "an event is not as the forward protocol has it");
    } else if (status == -EMSGSIZE) {
        tf_connection_refuse(conn, "too-large", "too many records or bytes in a message");
    } else {
        tf_connection_close(conn, "out of memory");
    }
}

void tf_connection_pumped(struct tf_source *source, const struct tf_pump_result *result)
{
    struct connection *conn = (struct connection *)source;

    if (result->status < 0) {
        refuse_batch(conn, result->status);
        return;
    }
    tf_taken_hand_on(conn);
    tf_connection_take(conn);
}
