/*
 * session.c - one connection of the forward output: what is sent, and what waits for its ack.
 *
 * Nothing is sent before the peer is verified. What was not acked when a connection ended goes
 * again on the next one, in order of number, the same bytes under the same names
 * (docs/guarantees.md, D1 to D3). At most TF_FORWARD_WINDOW frames wait for their acks, which may
 * come in any order, and at most TF_LINK_HIGH_BYTES and one frame wait in the link.
 *
 * The connection ends when the oldest frame has waited ack_timeout, when the receiver refuses a
 * message, and when it says what no honest one would: see answer.c, and UNKNOWN_ACKS_MAX and
 * ANSWERS_SECOND_MAX here. When it is max_age old, give or take a tenth, nothing more is sent, and
 * it ends with the last ack.
 *
 * Inside of on_data it ends by the returned value, elsewhere by tf_link_close, in good order.
 */
#include "internal.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "taffrail/chance.h"
#include "taffrail/log.h"

#define UNKNOWN_ACKS_MAX   16u
#define ANSWERS_SECOND_MAX (1u << 20) /* bytes that a receiver may send in a second */

/* ---- time, and the end ----------------------------------------------------------------------- */

static uint64_t jittered_age_ms(uint64_t age_ms)
{
    return age_ms - age_ms / 10 + tf_random_up_to(age_ms / 5);
}

/* The next thing that time alone brings. Called after each change of what it depends on. */
static void arm(struct forward *self)
{
    uint64_t now = uv_now(self->loop), at_ms = UINT64_MAX;

    if (self->sent_count > 0) {
        at_ms = self->window[0].sent_at_ms + self->options->ack_timeout_ms;
    } else if (self->state == FORWARD_DRAINING) {
        at_ms = now; /* the last ack has come */
    }
    if (self->state == FORWARD_UP && self->drain_at_ms < at_ms) {
        at_ms = self->drain_at_ms;
    }
    if (at_ms != UINT64_MAX && (self->state == FORWARD_UP || self->state == FORWARD_DRAINING)) {
        (void)uv_timer_start(&self->timer, tf_forward_on_timer, at_ms > now ? at_ms - now : 0, 0);
    } else {
        (void)uv_timer_stop(&self->timer);
    }
}

/* Notes why; in on_data its value is what to return. */
static int broken(struct forward *self, const char *reason)
{
    tf_forward_note(self, "%s", reason);
    return -EPROTO;
}

/* Not from inside on_data. */
static void drop(struct forward *self)
{
    self->state = FORWARD_DROPPING;
    arm(self);
    tf_link_close(self->link, self->why); /* on_closed may have come when this returns */
}

void tf_forward_check(struct forward *self)
{
    uint64_t now = uv_now(self->loop);

    if (self->sent_count > 0 && now >= self->window[0].sent_at_ms + self->options->ack_timeout_ms) {
        tf_forward_note(self, "no ack of frame %" PRIu64 "/%" PRIu64 " in %" PRIu64 " ms",
                        TF_SEQ_RUN(self->window[0].seq), TF_SEQ_N(self->window[0].seq),
                        self->options->ack_timeout_ms);
        drop(self);
        return;
    }
    if (self->state == FORWARD_UP && now >= self->drain_at_ms) {
        self->state = FORWARD_DRAINING;
    }
    if (self->state == FORWARD_DRAINING && self->sent_count == 0) {
        self->planned = true;
        tf_forward_note(self, "max_age is reached");
        drop(self);
        return;
    }
    arm(self);
}

/* ---- sending -------------------------------------------------------------------------------- */

/* 0, or a negative errno when the connection has to end. */
static int send_frame(struct forward *self, const struct tf_frame *frame)
{
    struct forward_sent *sent = &self->window[self->sent_count];
    struct tf_slice parts[3];
    char text[64];
    int rc = tf_forward_message(frame, &self->around, parts, sent->chunk);

    if (rc == 0) {
        rc = tf_link_write(self->link, parts, TF_COUNT(parts));
    }
    if (rc < 0) {
        if (rc != -ENOTCONN) { /* the link is closing, and will say why */
            tf_forward_note(self, "send: %s", uv_strerror_r(rc, text, sizeof text));
        }
        return rc;
    }
    tf_forward_witness_sent(self, frame);
    assert(frame->seq > self->last_seq); /* D3: rising on each connection */
    sent->seq = self->last_seq = frame->seq;
    sent->sent_at_ms = uv_now(self->loop);
    self->sent_count++;
    self->retries += frame->seq <= self->highest_seq;
    self->highest_seq = frame->seq > self->highest_seq ? frame->seq : self->highest_seq;
    tf_crash_point("ship.sent");
    return 0;
}

/* Sends what there is, as far as window and queue allow. 0, or why the connection has to end. */
static int pump(struct forward *self)
{
    int rc = 0;

    while (rc == 0 && self->state == FORWARD_UP && self->sent_count < TF_FORWARD_WINDOW &&
           tf_link_queued_bytes(self->link) <= TF_LINK_HIGH_BYTES) {
        struct tf_frame *frame;

        if (tf_feed_next(self->feed, &frame) < 0) {
            break; /* wake tells */
        }
        rc = send_frame(self, frame);
        tf_frame_unref(frame);
    }
    arm(self);
    return rc;
}

void tf_forward_pump(struct forward *self)
{
    if (self->state == FORWARD_UP && pump(self) < 0) {
        drop(self);
    }
}

static void on_link_drained(void *ctx)
{
    tf_forward_pump(ctx);
}

static void on_link_open(void *ctx, const char *identity)
{
    struct forward *self = ctx;

    if (self->state != FORWARD_CONNECTING) {
        return;
    }
    self->state = FORWARD_UP;
    self->why[0] = self->down[0] = '\0';
    self->sent_count = self->unknown_acks = 0;
    self->last_seq = 0;
    self->answers_bytes = 0;
    tf_buf_clear(&self->answers);
    tf_forward_witness_reset(self);
    self->drain_at_ms = uv_now(self->loop) + jittered_age_ms(self->options->max_age_ms);
    self->connects++;
    (void)snprintf(self->identity, sizeof self->identity, "%s", identity);
    tf_log(self->planned ? TF_LOG_DEBUG : TF_LOG_INFO, "output-up",
           TF_DETAILS(TF_STR("output", self->name), TF_STR("peer", self->peer),
                      TF_STR("identity", self->identity)),
           "connected");
    self->planned = false;
    tf_forward_pump(self);
}

/* ---- answers -------------------------------------------------------------------------------- */

static struct forward_sent *find_sent(struct forward *self, struct tf_slice chunk)
{
    for (uint32_t i = 0; i < self->sent_count; i++) {
        if (tf_slice_equal(chunk, tf_slice(self->window[i].chunk, TF_CHUNK_BYTES))) {
            return &self->window[i];
        }
    }
    return NULL;
}

static int take_ack(struct forward *self, const struct tf_answer *answer)
{
    struct forward_sent *sent = find_sent(self, answer->chunk);
    uint64_t seq;

    if (sent == NULL) {
        return ++self->unknown_acks < UNKNOWN_ACKS_MAX
                   ? 0
                   : broken(self, "16 acks for messages that were not sent on this connection, or "
                                  "were acked before");
    }
    tf_crash_point("ack.received");
    seq = sent->seq;
    self->sent_count--;
    memmove(sent, sent + 1,
            (size_t)(&self->window[self->sent_count] - sent) * sizeof self->window[0]);
    self->host->failures = 0;
    self->host->retry_at_ms = 0;
    self->may_close_idle = true;
    (void)tf_feed_ack(self->feed, seq);
    tf_forward_witness_answer(self, answer);
    return 0;
}

static int take_answer(struct forward *self, const struct tf_answer *answer)
{
    switch (answer->kind) {
    case TF_ANSWER_ACK:
        return take_ack(self, answer);
    case TF_ANSWER_REFUSAL:
        return broken(self, "the receiver refused a message; its log says why");
    case TF_ANSWER_HELLO:
        return broken(self, "the receiver wants a shared key, which is not in this release; unset "
                            "it there, mutual TLS proves both ends");
    }
    return -EPROTO;
}

static int take_answers(struct forward *self)
{
    struct tf_answer answer;
    size_t used = 0;
    int64_t size;
    int rc = 0;

    do {
        size = tf_answer_parse(tf_slice(self->answers.data + used, self->answers.size - used),
                               &answer);
        if (size > 0) {
            used += (size_t)size;
            rc = take_answer(self, &answer);
        }
    } while (size > 0 && rc == 0);
    if (size < 0) {
        return broken(self, size == -EMSGSIZE
                                ? "the receiver sent an answer of more than 4096 bytes"
                                : "the receiver sent what is no ack of the forward protocol");
    }
    tf_buf_consume(&self->answers, used);
    return rc;
}

static int check_flood(struct forward *self, size_t size)
{
    uint64_t now = uv_now(self->loop);

    if (now - self->answers_since_ms >= 1000) {
        self->answers_since_ms = now;
        self->answers_bytes = 0;
    }
    self->answers_bytes += size;
    return self->answers_bytes <= ANSWERS_SECOND_MAX
               ? 0
               : broken(self, "the receiver sent more than 1 MiB in a second");
}

static int take_data(struct forward *self, const char *data, size_t size)
{
    int rc = check_flood(self, size);

    while (rc == 0 && size > 0) {
        size_t room = TF_ANSWER_BYTES_MAX - self->answers.size;
        size_t part = size < room ? size : room;

        rc = tf_buf_append(&self->answers, data, part);
        if (rc < 0) {
            return broken(self, "out of memory");
        }
        data += part;
        size -= part;
        rc = take_answers(self);
    }
    return rc;
}

static int on_link_data(void *ctx, const char *data, size_t size)
{
    struct forward *self = ctx;
    int rc;

    if (self->state != FORWARD_UP && self->state != FORWARD_DRAINING) {
        return 0;
    }
    rc = take_data(self, data, size);
    if (rc == 0) {
        rc = pump(self);
    }
    if (rc < 0) {
        self->state = FORWARD_DROPPING;
        arm(self);
    }
    return rc;
}

const struct tf_link_events tf_forward_link_events = {
    .on_open = on_link_open,
    .on_data = on_link_data,
    .on_drained = on_link_drained,
    .on_closed = tf_forward_link_closed,
};
