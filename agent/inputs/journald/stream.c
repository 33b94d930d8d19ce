/*
 * stream.c - bytes of the export format become batches.
 *
 *     owner reads ─> arrived ─(loop)─> block ─(worker: pump)─> batch
 *                                        └ a part of an entry stays
 *
 * While no job of the source runs, and the block is decoded but for its rest, the rest is put in
 * front of what arrived, which becomes the block: the buffers change places, and no more than the
 * rest is copied, unless it is long. The worker decodes the block, and `pumped` passes what it
 * consumed. What the stream notes (journald's own suppression, words of the reader) ends a batch,
 * so that its gap record stands behind the records before it, and the position in front of what
 * follows.
 *
 * A batch that is too large when encoded is read again in half, down to one entry; an entry that
 * alone is too large is passed over with a gap.
 */
#include "internal.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#define READ_BYTES   (64u << 10)
#define HEAD_BYTES   4096u /* in front of what arrives, for the rest of most entries */
#define BUFFER_MAX   (TF_JOURNAL_ENTRY_MAX + HEAD_BYTES + TF_JOURNAL_ARRIVED_MAX + READ_BYTES)
#define NO_MEMORY_MS 100u

static struct tf_journal_stream *stream_of(struct tf_journal_source *self)
{
    return (struct tf_journal_stream *)self;
}

struct tf_slice tf_journal_stream_block(const struct tf_journal_stream *stream)
{
    return tf_slice(stream->block.data + stream->block_from,
                    stream->block.size - stream->block_from);
}

struct tf_slice tf_journal_stream_arrived(const struct tf_journal_stream *stream)
{
    return stream->arrived.size > HEAD_BYTES
               ? tf_slice(stream->arrived.data + HEAD_BYTES, stream->arrived.size - HEAD_BYTES)
               : tf_slice(NULL, 0);
}

/* Whether the block holds more than the part of an entry that the last pump left. */
static bool has_undecoded(const struct tf_journal_stream *stream)
{
    return tf_journal_stream_block(stream).size > stream->rest_bytes;
}

/* What arrived becomes the block, behind the rest. */
static void change_places(struct tf_journal_stream *stream)
{
    struct tf_buf arrived = stream->arrived;
    struct tf_slice rest = tf_journal_stream_block(stream);

    if (rest.size > 0) {
        memcpy(arrived.data + HEAD_BYTES - rest.size, rest.data, rest.size);
    }
    stream->arrived = stream->block;
    stream->block = arrived;
    stream->block_from = HEAD_BYTES - rest.size;
    tf_buf_clear(&stream->arrived);
}

/* The same where the rest is long. Returns 0 or -ENOMEM. */
static int append_arrived(struct tf_journal_stream *stream)
{
    struct tf_slice arrived = tf_journal_stream_arrived(stream);
    int rc;

    tf_buf_consume(&stream->block, stream->block_from);
    stream->block_from = 0;
    rc = tf_buf_append(&stream->block, arrived.data, arrived.size);
    if (rc < 0) {
        stream->block.error = 0;
        return rc;
    }
    tf_buf_clear(&stream->arrived);
    return 0;
}

/* Loop: more to decode if there is, and a job for it. */
static void refill(struct tf_journal_stream *stream)
{
    if (stream->base.source.state == TF_SOURCE_RUNNING || stream->status < 0) {
        return;
    }
    if (!has_undecoded(stream) && tf_journal_stream_arrived(stream).size > 0) {
        if (tf_journal_stream_block(stream).size <= HEAD_BYTES) {
            change_places(stream);
        } else if (append_arrived(stream) < 0) {
            return; /* no memory: tried again when more comes */
        }
    }
    if (has_undecoded(stream)) {
        tf_source_wake(&stream->base.source);
    }
}

/* ---- what comes ----------------------------------------------------------------------------- */

uv_buf_t tf_journal_stream_room(struct tf_journal_stream *stream)
{
    size_t head = stream->arrived.size < HEAD_BYTES ? HEAD_BYTES - stream->arrived.size : 0;

    if (tf_buf_reserve(&stream->arrived, head + READ_BYTES) < 0) {
        stream->arrived.error = 0;
        return uv_buf_init(NULL, 0);
    }
    stream->arrived.size += head;
    return uv_buf_init(stream->arrived.data + stream->arrived.size, READ_BYTES);
}

void tf_journal_stream_wrote(struct tf_journal_stream *stream, size_t size)
{
    stream->arrived.size += size;
    refill(stream);
}

bool tf_journal_stream_has_room(const struct tf_journal_stream *stream)
{
    return tf_journal_stream_arrived(stream).size < TF_JOURNAL_ARRIVED_MAX;
}

bool tf_journal_stream_is_drained(const struct tf_journal_stream *stream)
{
    return stream->status < 0 ||
           (stream->base.source.state != TF_SOURCE_RUNNING &&
            tf_journal_stream_arrived(stream).size == 0 && !has_undecoded(stream));
}

size_t tf_journal_stream_rest_bytes(const struct tf_journal_stream *stream)
{
    return tf_journal_stream_block(stream).size + tf_journal_stream_arrived(stream).size;
}

void tf_journal_stream_restart(struct tf_journal_stream *stream, struct tf_slice after)
{
    assert(stream->base.source.state != TF_SOURCE_RUNNING);
    tf_buf_clear(&stream->arrived);
    tf_buf_clear(&stream->block);
    stream->block_from = 0;
    stream->rest_bytes = 0;
    stream->status = 0;
    stream->take_bytes = 0;
    stream->durable_batches = stream->batches;
    tf_export_restart(stream->decoder, after);
}

/* ---- pump ----------------------------------------------------------------------------------- */

static void copy_text(char *to, size_t room, struct tf_slice text)
{
    size_t size = text.size < room ? text.size : room - 1;

    if (size > 0) {
        memcpy(to, text.data, size);
    }
    to[size] = '\0';
}

/* The block moves on before the note is told. */
static void copy_note(struct tf_journal_stream *stream)
{
    copy_text(stream->note_reason, sizeof stream->note_reason, stream->result.note.reason);
    copy_text(stream->note_text, sizeof stream->note_text, stream->result.note.text);
}

/* A heartbeat of the reader moves no position. */
static bool has_moved(const struct tf_journal_stream *stream)
{
    return !tf_slice_equal(tf_export_cursor(stream->decoder),
                           tf_slice(stream->before, stream->before_size));
}

static void stream_pump(struct tf_journal_source *self, struct tf_batch *batch,
                        struct tf_pump_result *result)
{
    struct tf_journal_stream *stream = stream_of(self);
    struct tf_slice bytes = tf_journal_stream_block(stream);
    struct tf_slice before = tf_export_cursor(stream->decoder);
    int64_t consumed;

    if (stream->take_bytes != 0 && stream->take_bytes < bytes.size) {
        bytes.size = stream->take_bytes;
    }
    memcpy(stream->before, before.data, before.size);
    stream->before_size = before.size;
    stream->result = (struct tf_export_result){0};
    stream->consumed = 0;
    consumed = tf_export_decode(stream->decoder, bytes, tf_now_ns(), batch, &stream->result);
    if (consumed < 0) {
        result->status = (int)consumed;
        result->wake_at_ms = consumed == -ENOMEM ? batch->now_ms + NO_MEMORY_MS : 0;
        return;
    }
    stream->took = bytes.size;
    stream->consumed = (size_t)consumed;
    stream->records = batch->record_count;
    if (stream->result.note.kind != TF_JOURNAL_NOTE_NONE) {
        copy_note(stream);
    }
    if (stream->result.note.kind == TF_JOURNAL_NOTE_ERROR && stream->owner->failed != NULL) {
        stream->owner->failed(stream);
    }
    result->has_position = stream->owner->position != NULL && has_moved(stream);
    if (batch->record_count > 0 || result->has_position) {
        result->cookie = stream->batches + 1;
    }
}

static void stream_position(struct tf_journal_source *self, struct tf_buf *deltas)
{
    struct tf_journal_stream *stream = stream_of(self);

    stream->owner->position(stream, deltas);
}

/* ---- after it ------------------------------------------------------------------------------- */

/* A word of docs/guarantees.md, whatever the reader says. */
static const char *known_reason(const char *reason)
{
    return strcmp(reason, "vacuumed") == 0 ? "vacuumed" : "unreadable";
}

void tf_journal_stream_gap(struct tf_journal_stream *stream, const char *reason, const char *text)
{
    struct tf_buf deltas;

    tf_buf_init(&deltas, TF_STATE_VALUE_MAX);
    if (stream->owner->position != NULL && tf_export_cursor(stream->decoder).size > 0) {
        stream->owner->position(stream, &deltas);
    }
    if (tf_source_gap(&stream->base.source, reason, text, UINT64_MAX, &deltas) < 0) {
        tf_log(TF_LOG_ERROR, "gap", TF_DETAILS(TF_STR("input", stream->base.input->name)),
               "no memory to record it: %s", text);
    }
    tf_buf_fini(&deltas);
}

static void tell_suppressed(struct tf_journal_stream *stream)
{
    uint64_t entries = stream->result.note.entries;
    char text[TF_JOURNAL_NOTE_MAX + 128];

    stream->base.input->status.suppressed += entries;
    (void)snprintf(text, sizeof text, "journald suppressed %" PRIu64 " %s%s%s by its rate limit",
                   entries, entries == 1 ? "message" : "messages",
                   stream->note_text[0] == '\0' ? "" : " of ", stream->note_text);
    tf_journal_stream_gap(stream, "suppressed", text);
}

static void tell_gap(struct tf_journal_stream *stream)
{
    uint64_t entries = stream->result.note.entries;
    char text[TF_JOURNAL_NOTE_MAX + 64];

    if (entries == UINT64_MAX) {
        (void)snprintf(text, sizeof text, "%s", stream->note_text);
    } else {
        (void)snprintf(text, sizeof text, "%" PRIu64 " %s: %s", entries,
                       entries == 1 ? "entry" : "entries", stream->note_text);
    }
    tf_journal_stream_gap(stream, known_reason(stream->note_reason), text);
}

static void tell_note(struct tf_journal_stream *stream)
{
    switch (stream->result.note.kind) {
    case TF_JOURNAL_NOTE_NONE:
        break;
    case TF_JOURNAL_NOTE_SUPPRESSED:
        tell_suppressed(stream);
        break;
    case TF_JOURNAL_NOTE_GAP:
        tell_gap(stream);
        break;
    case TF_JOURNAL_NOTE_ERROR:
        stream->base.input->status.errors[TF_INPUT_READ]++;
        tf_log(TF_LOG_ERROR, "unreadable", TF_DETAILS(TF_STR("input", stream->base.input->name)),
               "%s", stream->note_text);
        break;
    }
}

/* What the last pump did is undone: its bytes are decoded again. */
static void take_again(struct tf_journal_stream *stream)
{
    stream->rest_bytes = 0;
    tf_export_restart(stream->decoder, tf_slice(stream->before, stream->before_size));
    if (stream->owner->undo != NULL) {
        stream->owner->undo(stream);
    }
}

/* The batch is too large when it is encoded: from its start again, with half as much. An entry that
 * is too large by itself is passed over. */
static void take_less(struct tf_journal_stream *stream)
{
    if (stream->records > 1) {
        stream->take_bytes = stream->consumed / 2 > 0 ? stream->consumed / 2 : 1;
        take_again(stream);
        return;
    }
    stream->block_from += stream->consumed;
    stream->rest_bytes = 0; /* what is behind it was not looked at */
    tf_journal_stream_gap(stream, "overrun",
                          "an entry with its secrets masked is larger than a frame may be");
}

/* What was consumed leaves the block. */
static void move_on(struct tf_journal_stream *stream)
{
    bool is_whole = stream->took == tf_journal_stream_block(stream).size; /* that the decoder saw */
    bool stopped = stream->result.is_full || stream->result.note.kind != TF_JOURNAL_NOTE_NONE;

    stream->block_from += stream->consumed;
    if (!stopped && stream->consumed == 0 && !is_whole) {
        stream->take_bytes *= 2; /* an entry is larger than what it was to take */
    } else if (!stopped && is_whole) {
        stream->take_bytes = 0;
    }
    stream->rest_bytes = !stopped && is_whole ? tf_journal_stream_block(stream).size : 0;
    stream->base.input->status.repeats += stream->result.repeats;
}

static void stream_pumped(struct tf_journal_source *self, const struct tf_pump_result *result)
{
    struct tf_journal_stream *stream = stream_of(self);

    if (result->status == -ENOMEM) { /* it is woken by time */
        take_again(stream);
        return;
    }
    if (result->status == -EMSGSIZE) {
        take_less(stream);
    } else if (result->status < 0) {
        stream->status = result->status;
    } else {
        stream->batches += result->cookie != 0;
        move_on(stream);
        if (stream->result.is_broken) {
            stream->status = -EPROTO;
        }
        if (stream->owner->pumped != NULL) {
            stream->owner->pumped(stream);
        }
        tell_note(stream);
    }
    refill(stream);
    stream->owner->changed(stream);
}

static void stream_committed(struct tf_journal_source *self, uint64_t cookie)
{
    struct tf_journal_stream *stream = stream_of(self);

    if (cookie > stream->durable_batches) {
        stream->durable_batches = cookie;
    }
    stream->owner->changed(stream);
}

/* ---- life ----------------------------------------------------------------------------------- */

static void stream_rewind(struct tf_journal_source *self)
{
    stream_of(self)->owner->rewind(stream_of(self));
}

static void stream_close(struct tf_journal_source *self)
{
    stream_of(self)->owner->close(stream_of(self));
}

static void stream_free(struct tf_journal_source *self)
{
    stream_of(self)->owner->free(stream_of(self));
}

static const struct tf_journal_source_ops stream_ops = {
    .pump = stream_pump,
    .position = stream_position,
    .pumped = stream_pumped,
    .committed = stream_committed,
    .rewind = stream_rewind,
    .close = stream_close,
    .free = stream_free,
};

int tf_journal_stream_init(struct tf_journal_stream *stream, struct tf_journald *input,
                           const struct tf_journal_stream_owner *owner, struct tf_batch *metadata)
{
    int rc = tf_export_new(&stream->rules, &stream->decoder);

    if (rc < 0) {
        return rc;
    }
    stream->owner = owner;
    tf_buf_init(&stream->arrived, BUFFER_MAX);
    tf_buf_init(&stream->block, BUFFER_MAX);
    rc = tf_journal_source_add(input, &stream->base, &stream_ops, metadata);
    if (rc < 0) {
        tf_journal_stream_fini(stream);
    }
    return rc;
}

void tf_journal_stream_fini(struct tf_journal_stream *stream)
{
    tf_export_free(stream->decoder);
    stream->decoder = NULL;
    tf_buf_wipe(&stream->arrived); /* not redacted yet */
    tf_buf_wipe(&stream->block);
}
