/*
 * frame.c - a durable frame in memory, and the frame that tells an output of a hole.
 *
 * A body is shared by all feeds and the cache; each feed hands it out in a struct tf_frame of its
 * own, since `prev` differs between outputs. A hole's frame is made from the directory alone: its
 * name is a hash of spool id, from and to, its time that of the segment, so that it is the same
 * bytes after every start (docs/guarantees.md F3).
 */
#include "feed.h"

#include <stdio.h>
#include <stdlib.h>

#include "taffrail/event.h"

#define GAP_TAG "taffrail.audit"

/* A frame as handed out: the header's struct before what it borrows from. */
struct handed {
    struct tf_frame frame;
    struct tf_body *body;
};

struct tf_body *tf_body_new(const struct tf_frame_header *header, struct tf_slice tag)
{
    struct tf_body *body = calloc(1, sizeof *body);

    if (body == NULL || tag.size > TF_TAG_MAX) {
        free(body);
        return NULL;
    }
    body->refs = 1;
    body->header = *header;
    if (tag.size > 0) {
        memcpy(body->tag, tag.data, tag.size);
    }
    tf_buf_init(&body->payload, TF_BODY_MAX);
    return body;
}

void tf_body_unref(struct tf_body *body)
{
    if (body != NULL && --body->refs == 0) {
        tf_buf_fini(&body->payload);
        free(body);
    }
}

void tf_frame_ref(struct tf_frame *frame)
{
    frame->refs++;
}

void tf_frame_unref(struct tf_frame *frame)
{
    if (frame != NULL && --frame->refs == 0) {
        struct handed *handed = TF_CONTAINER_OF(frame, struct handed, frame);

        tf_body_unref(handed->body);
        free(handed);
    }
}

struct tf_frame *tf_frame_new(struct tf_body *body, uint64_t prev)
{
    struct handed *handed = calloc(1, sizeof *handed);

    if (handed == NULL) {
        tf_body_unref(body);
        return NULL;
    }
    handed->body = body;
    handed->frame = (struct tf_frame){.seq = body->header.seq,
                                      .prev = prev,
                                      .type = body->header.type,
                                      .events = body->header.events,
                                      .refs = 1,
                                      .time_min_ns = body->header.time_min_ns,
                                      .time_max_ns = body->header.time_max_ns,
                                      .tag = body->tag,
                                      .payload = tf_buf_slice(&body->payload)};
    memcpy(handed->frame.spool_id, body->spool_id, TF_SPOOL_ID_BYTES);
    memcpy(handed->frame.chain, body->chain, TF_CHAIN_BYTES);
    return &handed->frame;
}

struct tf_frame *tf_frame_make(const struct tf_frame *like, struct tf_buf *payload)
{
    struct tf_frame_header header = {.type = (uint8_t)like->type, .seq = like->seq};
    struct tf_body *body = tf_body_new(&header, tf_slice_text(like->tag));
    struct tf_frame *frame;

    if (body == NULL) {
        tf_buf_fini(payload);
        return NULL;
    }
    body->payload = *payload;
    tf_buf_init(payload, TF_BODY_MAX);
    frame = tf_frame_new(body, like->prev);
    if (frame != NULL) {
        uint32_t refs = frame->refs;
        const char *tag = frame->tag;
        struct tf_slice bytes = frame->payload;

        *frame = *like;
        frame->refs = refs;
        frame->tag = tag;
        frame->payload = bytes;
    }
    return frame;
}

/* ---- gaps ----------------------------------------------------------------------------------- */

static void put_text(struct tf_buf *out, const char *key, const char *value)
{
    tf_msgpack_text(out, tf_slice_text(key));
    tf_msgpack_text(out, tf_slice_text(value));
}

static void put_count(struct tf_buf *out, const char *key, uint64_t value)
{
    tf_msgpack_text(out, tf_slice_text(key));
    tf_msgpack_uint(out, value);
}

void tf_hole_text(const struct tf_ahead *hole, char text[TF_HOLE_TEXT_BYTES])
{
    static const char *const what[] = {
        [TF_HOLE_DAMAGED] = "damaged or gone",
        [TF_HOLE_DROPPED] = "gone: the spool was full, and drop_oldest made room",
        [TF_HOLE_UNREADABLE] = "readable with the auditor's key only"};
    unsigned long long run = TF_SEQ_RUN(hole->hole_to), n = TF_SEQ_N(hole->hole_to);

    if (hole->hole_from == hole->hole_to) {
        (void)snprintf(text, TF_HOLE_TEXT_BYTES, "frame %llu/%llu is %s", run, n,
                       what[hole->reason]);
    } else if (TF_SEQ_RUN(hole->hole_from) == 0) { /* behind nothing: there is no frame 0/1 */
        (void)snprintf(text, TF_HOLE_TEXT_BYTES, "all frames up to %llu/%llu are %s", run, n,
                       what[hole->reason]);
    } else {
        (void)snprintf(text, TF_HOLE_TEXT_BYTES, "frames %llu/%llu to %llu/%llu are %s",
                       (unsigned long long)TF_SEQ_RUN(hole->hole_from),
                       (unsigned long long)TF_SEQ_N(hole->hole_from), run, n, what[hole->reason]);
    }
}

/* [EventTime, {event: gap, …}], as event.h has it. */
static void gap_event(const struct tf_ahead *hole, struct tf_buf *out)
{
    static const char *const reasons[] = {[TF_HOLE_DAMAGED] = "damaged",
                                          [TF_HOLE_DROPPED] = "drop-oldest",
                                          [TF_HOLE_UNREADABLE] = "unreadable"};
    uint64_t time = hole->time_ns < 0 ? 0 : (uint64_t)hole->time_ns;
    uint64_t parts[2] = {time / 1000000000u, time % 1000000000u};
    char text[TF_HOLE_TEXT_BYTES];

    tf_msgpack_array(out, 2);
    (void)tf_buf_append_byte(out, 0xd7); /* fixext 8 */
    (void)tf_buf_append_byte(out, 0);
    for (int i = 0; i < 8; i++) {
        (void)tf_buf_append_byte(out, (uint8_t)(parts[i / 4] >> (24 - 8 * (i % 4))));
    }
    tf_hole_text(hole, text);
    tf_msgpack_map(out, 6);
    put_text(out, "event", "gap");
    put_text(out, "reason", reasons[hole->reason]);
    put_text(out, "log", text);
    put_count(out, "frame_from", hole->hole_from);
    put_count(out, "frame_to", hole->hole_to);
    put_count(out, "records", hole->hole_events); /* as far as headers could be read */
}

static int gap_name(const struct tf_ahead *hole, uint8_t *chain)
{
    static const char label[] = "taffrail/1 gap";
    uint8_t numbers[16];
    struct tf_slice parts[] = {tf_slice(label, sizeof label),
                               tf_slice(hole->hole_spool_id, TF_SPOOL_ID_BYTES),
                               tf_slice(numbers, sizeof numbers)};

    tf_store64(numbers, hole->hole_from);
    tf_store64(numbers + 8, hole->hole_to);
    return tf_sha256(parts, TF_COUNT(parts), chain);
}

struct tf_frame *tf_gap_frame_new(const struct tf_ahead *hole, uint64_t prev)
{
    struct tf_frame_header header = {.type = TF_FRAME_GAP,
                                     .seq = hole->hole_to,
                                     .time_min_ns = hole->time_ns,
                                     .time_max_ns = hole->time_ns,
                                     .events = 1};
    struct tf_body *body = tf_body_new(&header, tf_slice_text(GAP_TAG));
    struct tf_gzip *gzip = tf_gzip_new(TF_COMPRESS_ZLIB); /* 150 bytes: fit for the loop */
    struct tf_frame *frame;
    struct tf_buf event;
    bool ok;

    tf_buf_init(&event, 4096);
    gap_event(hole, &event);
    ok = body != NULL && gzip != NULL && event.error == 0 && gap_name(hole, body->chain) == 0 &&
         tf_gzip_run(gzip, tf_buf_slice(&event), &body->payload) == 0;
    tf_buf_fini(&event);
    tf_gzip_free(gzip);
    if (!ok) {
        tf_body_unref(body);
        return NULL;
    }
    memcpy(body->spool_id, hole->hole_spool_id, TF_SPOOL_ID_BYTES);
    frame = tf_frame_new(body, prev);
    if (frame != NULL) {
        frame->is_gap_span = true;
        frame->gap_from = hole->hole_from;
        frame->gap_to = hole->hole_to;
    }
    return frame;
}
