/*
 * writer.c - drafts become durable frames, in order.
 *
 *     WAITING    taken; gets its number when the segment has room for it and a worker is free
 *     ENCODING   on a worker: gzip, D, meta, encryption, leaf
 *     ENCODED    waits for its turn
 *     WRITING    chained, in the batch that a worker writes at the tail, and syncs if that is due
 *     WRITTEN    appended; durable when a sync that began later has succeeded: then released
 *
 * Steps never overtake each other in the list. Released means: its deltas are folded into the
 * state, feeds see it, done(0) is called. The folded state thus never holds what could be lost
 * (docs/guarantees.md C1 is kept more strictly than it asks), and a run that ends has nothing to
 * take back.
 *
 * A failed write or sync is never repeated (C8): every draft not released is cancelled, the segment
 * ends at the mark, and a new run begins in a new segment. A segment that cannot be made (full
 * disk) loses nothing: drafts wait, inputs pause, and it is tried again each second.
 *
 * The spool's own frames - seals, footers, an index - have their place and number in the list as
 * drafts have. A seal covers the chain before it, so it is made when its batch is. A segment that
 * is full, or at a close, is finished first: index, then footer, then nothing more.
 *
 * Three marks: appended (whole frames at the tail), synced (C2; the `durable` of new headers), and
 * mark, up to which frames are released: synced, in mode `never` appended.
 */
#include "seal.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "taffrail/log.h"

#define BATCH_BYTES     (2u << 20) /* of one write; one frame may be larger */
#define KEEP_BYTES      (2u << 20) /* larger buffers are given back */
#define SPARE_MIN_BYTES (1u << 20) /* smaller ones are no burden to make */
#define WORST_OVERHEAD  1024u
#define OWN_FRAMES_MAX  4u    /* a seal, an index, a footer */
#define OWN_ROOM_BYTES  4096u /* for the seals among them */

/* ---- drafts --------------------------------------------------------------------------------- */

static void write_free(struct tf_write *write)
{
    if (write == NULL) {
        return;
    }
    tf_buf_fini(&write->payload);
    tf_buf_fini(&write->deltas);
    tf_buf_fini(&write->packed);
    tf_buf_fini(&write->frame);
    free(write);
}

static void take_buffer(struct tf_buf *to, struct tf_buf *from)
{
    size_t limit_bytes = from->limit_bytes;

    *to = *from;
    tf_buf_init(from, limit_bytes);
}

static void fill_header(struct tf_write *write, const struct tf_frame_draft *draft)
{
    write->header = (struct tf_frame_header){.type = (uint8_t)draft->type,
                                             .flags = TF_FRAME_ENCRYPTED,
                                             .time_min_ns = draft->time_min_ns,
                                             .time_max_ns = draft->time_max_ns,
                                             .events = draft->events};
}

static struct tf_write *write_new(struct tf_spool *spool)
{
    struct tf_write *write = calloc(1, sizeof *write);

    if (write != NULL) {
        write->spool = spool;
        tf_buf_init(&write->packed, TF_BODY_MAX);
        tf_buf_init(&write->frame, TF_BODY_MAX + TF_FRAME_HEADER_BYTES + TF_FRAME_TRAILER_BYTES);
    }
    return write;
}

/* Of bytes in payload and deltas. */
static void count_bytes(struct tf_spool *spool, struct tf_write *write, size_t bytes)
{
    write->counted_bytes = bytes;
    write->worst_bytes = bytes + bytes / 512 + WORST_OVERHEAD;
    spool->unsynced_bytes += bytes;
}

/* To the end of the list. */
static void enlist(struct tf_spool *spool, struct tf_write *write, size_t bytes)
{
    count_bytes(spool, write, bytes);
    write->ordinal = ++spool->taken;
    if (spool->last != NULL) {
        spool->last->next = write;
    } else {
        spool->first = write;
    }
    spool->last = write;
    spool->first_waiting = spool->first_waiting == NULL ? write : spool->first_waiting;
    spool->first_unwritten = spool->first_unwritten == NULL ? write : spool->first_unwritten;
    tf_writer_pump(spool);
}

int tf_spool_append(struct tf_spool *spool, struct tf_frame_draft *draft)
{
    struct tf_write *write;
    size_t bytes = draft->payload.size + draft->deltas.size;
    int rc;

    assert(draft->type == TF_FRAME_DATA || draft->type == TF_FRAME_GAP ||
           draft->type == TF_FRAME_POSITIONS);
    assert(draft->type != TF_FRAME_POSITIONS || draft->payload.size == 0);
    if (spool->closing || spool->gave_up) {
        return -ECANCELED;
    }
    if (draft->payload.error != 0 || draft->deltas.error != 0) {
        return draft->payload.error != 0 ? draft->payload.error : draft->deltas.error;
    }
    if (draft->payload.size > TF_DRAFT_PAYLOAD_MAX || draft->deltas.size > TF_DRAFT_DELTAS_MAX) {
        return -EMSGSIZE;
    }
    write = write_new(spool);
    if (write == NULL) {
        return -ENOMEM;
    }
    rc = tf_state_prepare(&spool->state, tf_buf_slice(&draft->deltas), &write->changes);
    if (rc < 0) {
        write_free(write);
        return rc;
    }
    write->done = draft->done;
    write->ctx = draft->ctx;
    fill_header(write, draft);
    memcpy(write->tag, draft->tag, strnlen(draft->tag, TF_TAG_MAX));
    write->read_ms = draft->read_ms;
    take_buffer(&write->payload, &draft->payload);
    take_buffer(&write->deltas, &draft->deltas);
    enlist(spool, write, bytes);
    return 0;
}

/* NULL: no memory. */
static struct tf_write *notice_new(struct tf_spool *spool, const struct tf_notice *notice)
{
    struct tf_write *write = write_new(spool);
    uint8_t content[TF_NOTICE_BYTES];

    if (write == NULL) {
        return NULL;
    }
    tf_notice_encode(notice, content);
    tf_buf_init(&write->payload, TF_NOTICE_BYTES);
    if (tf_buf_append(&write->payload, content, sizeof content) < 0) {
        write_free(write);
        return NULL;
    }
    write->header = (struct tf_frame_header){.type = TF_FRAME_NOTICE};
    return write;
}

int tf_notice_append(struct tf_spool *spool, const struct tf_notice *notice, tf_draft_done_fn *done,
                     void *ctx)
{
    struct tf_write *write = spool->closing ? NULL : notice_new(spool, notice);

    if (write == NULL) {
        return spool->closing ? -ECANCELED : -ENOMEM;
    }
    write->done = done;
    write->ctx = ctx;
    enlist(spool, write, TF_NOTICE_BYTES);
    return 0;
}

/* ---- the spool's own frames ------------------------------------------------------------------ */

/* In front of what waits, behind all that has its number. */
static void insert_own(struct tf_spool *spool, struct tf_write *write)
{
    struct tf_write **link = &spool->first;

    while (*link != spool->first_waiting) {
        link = &(*link)->next;
    }
    write->next = *link;
    *link = write;
    spool->last = write->next == NULL ? write : spool->last;
    if (spool->first_unwritten == spool->first_waiting) {
        spool->first_unwritten = write;
    }
}

void tf_notice_put_first(struct tf_spool *spool, const struct tf_notice *notice)
{
    struct tf_write *write = spool->closing ? NULL : notice_new(spool, notice);

    if (write != NULL) {
        count_bytes(spool, write, TF_NOTICE_BYTES);
        write->ordinal = spool->appended_ordinal;
        insert_own(spool, write);
        spool->first_waiting = write;
    }
}

/* A frame with the next number; seals are made when their batch is. 0, -ENOMEM, -EIO. */
static int add_own(struct tf_spool *spool, enum tf_frame_type type)
{
    struct tf_write *write = write_new(spool);
    int rc = write == NULL ? -ENOMEM : 0;

    if (rc == 0) {
        write->header =
            (struct tf_frame_header){.type = (uint8_t)type,
                                     .flags = type == TF_FRAME_INDEX ? TF_FRAME_ENCRYPTED : 0,
                                     .seq = spool->next_seq};
        write->step = TF_DRAFT_ENCODED;
        write->ordinal =
            spool->first_waiting == NULL ? spool->taken : spool->first_waiting->ordinal - 1;
        rc = type == TF_FRAME_INDEX ? tf_index_make(spool, write) : 0;
    }
    if (rc < 0) {
        write_free(write);
        return rc;
    }
    insert_own(spool, write);
    spool->next_seq++;
    spool->frames_in_segment++;
    if (type != TF_FRAME_INDEX) {
        tf_seal_asked(spool, write->header.seq);
    }
    return 0;
}

/* Index and footer, behind all that is written. Without memory there are none: readers do without
 * an index, and the next seal covers what this one would have. */
static void finish_segment(struct tf_spool *spool)
{
    bool has_index = spool->index_count > 0 && add_own(spool, TF_FRAME_INDEX) == 0;

    if (tf_seal_is_possible(spool) && (has_index || spool->appended_cover.from_seq != 0)) {
        (void)add_own(spool, TF_FRAME_FOOTER);
    }
    spool->finished = true;
}

void tf_writer_finish(struct tf_spool *spool)
{
    assert(spool->first == NULL);
    if (spool->fd >= 0 && !spool->finished) {
        finish_segment(spool);
        tf_writer_pump(spool);
    }
}

/* ---- encoding, on workers ------------------------------------------------------------------- */

static int encode(struct tf_write *write)
{
    uint8_t digest[TF_DIGEST_BYTES];
    struct tf_slice payload;
    struct tf_meta meta = {
        .tag = tf_slice_text(write->tag), .deltas = tf_buf_slice(&write->deltas), .digest = digest};
    struct tf_buf bytes;
    int rc = 0;

    if (write->header.type == TF_FRAME_NOTICE) {
        return tf_frame_seal_clear(write->keys, &write->header, tf_buf_slice(&write->payload),
                                   &write->frame, write->leaf, &write->body_crc);
    }
    if (write->header.type != TF_FRAME_POSITIONS) {
        rc = tf_gzip_run(write->gzip, tf_buf_slice(&write->payload), &write->packed);
    }
    payload = tf_buf_slice(&write->packed);
    if (rc == 0) {
        rc = tf_sha256(&payload, 1, digest);
    }
    if (rc < 0) {
        return rc;
    }
    tf_buf_init(&bytes, TF_META_MAX);
    tf_meta_encode(&bytes, &meta);
    rc = bytes.error;
    if (rc == 0) {
        rc = tf_frame_seal(write->keys, &write->header, tf_buf_slice(&bytes), payload,
                           &write->frame, write->leaf, &write->body_crc);
    }
    tf_buf_fini(&bytes);
    return rc;
}

/* gzip was given more than it needed: the cache counts what is used, so no more is kept. */
static void trim(struct tf_buf *buf)
{
    char *data = buf->size == 0 ? NULL : realloc(buf->data, buf->size + TF_BUF_SLACK_BYTES);

    if (data != NULL) {
        buf->data = data;
        buf->capacity = buf->size;
    }
}

static bool is_spare(const struct tf_buf *payload)
{
    return payload->capacity >= SPARE_MIN_BYTES && payload->capacity <= KEEP_BYTES;
}

static void encode_work(uv_work_t *work)
{
    struct tf_write *write = TF_CONTAINER_OF(work, struct tf_write, work);

    write->status = encode(write);
    trim(&write->packed);
    if (!is_spare(&write->payload)) {
        tf_buf_fini(&write->payload);
    }
    tf_buf_fini(&write->deltas);
}

/* A payload's memory is new pages for each frame, unless the next one takes it over. While others
 * are being encoded, memory is at its peak, and none is kept. */
static void keep_spare(struct tf_spool *spool, struct tf_write *write)
{
    if (spool->spare.data == NULL && spool->encoding == 0 && is_spare(&write->payload)) {
        take_buffer(&spool->spare, &write->payload);
        tf_buf_clear(&spool->spare);
    }
    tf_buf_fini(&write->payload);
}

void tf_spool_payload(struct tf_spool *spool, struct tf_buf *payload)
{
    tf_buf_init(payload, TF_DRAFT_PAYLOAD_MAX);
    if (spool->spare.data != NULL) {
        take_buffer(payload, &spool->spare);
        payload->limit_bytes = TF_DRAFT_PAYLOAD_MAX;
    }
}

static void on_encoded(uv_work_t *work, int status)
{
    struct tf_write *write = TF_CONTAINER_OF(work, struct tf_write, work);
    struct tf_spool *spool = write->spool;
    int rc = status < 0 ? status : write->status;

    spool->gzip_busy[write->encoder] = false;
    spool->encoding--;
    keep_spare(spool, write);
    if (write->orphan) {
        write_free(write);
    } else {
        write->step = TF_DRAFT_ENCODED;
        spool->failed = rc < 0 ? rc : spool->failed;
    }
    tf_writer_pump(spool);
    tf_spool_advance_close(spool);
}

static bool segment_is_full(const struct tf_spool *spool, const struct tf_write *write)
{
    uint64_t planned = spool->appended.offset + spool->flying_bytes + write->worst_bytes +
                       tf_index_room(spool) + OWN_ROOM_BYTES;

    return spool->frames_in_segment >= TF_SEGMENT_FRAMES_MAX - OWN_FRAMES_MAX ||
           (spool->has_data_frames && planned > spool->options.segment_size_bytes);
}

static void encode_waiting(struct tf_spool *spool)
{
    while (spool->first_waiting != NULL && spool->encoding < TF_ENCODERS && spool->fd >= 0 &&
           !spool->finished && !spool->lineage.wanted &&
           !segment_is_full(spool, spool->first_waiting)) {
        struct tf_write *write = spool->first_waiting;
        uint32_t encoder = 0;

        while (spool->gzip_busy[encoder]) {
            encoder++;
        }
        assert(encoder < TF_ENCODERS);
        write->encoder = encoder;
        write->gzip = spool->gzips[encoder];
        write->keys = spool->keys;
        write->header.seq = spool->next_seq;
        if (uv_queue_work(spool->loop, &write->work, encode_work, on_encoded) < 0) {
            return; /* no memory: tried again with the next event */
        }
        spool->next_seq++;
        spool->frames_in_segment++;
        /* with notices alone in it, a segment takes any frame: else one that is larger than
         * segments would find room in none, where each begins with notices */
        spool->has_data_frames |= write->header.type != TF_FRAME_NOTICE;
        spool->flying_bytes += write->worst_bytes;
        spool->gzip_busy[encoder] = true;
        spool->encoding++;
        write->step = TF_DRAFT_ENCODING;
        spool->first_waiting = write->next;
    }
}

/* ---- writing, one job at a time ------------------------------------------------------------- */

static int write_bytes(const struct tf_io_job *job)
{
    size_t half = 0;
    ssize_t n;

#ifdef TF_TEST_HOOKS
    if (job->bytes.size > 0 && getenv("TAFFRAIL_CRASH") != NULL) { /* so that half can be there */
        half = job->bytes.size / 2;
        n = pwrite(job->fd, job->bytes.data, half, (off_t)job->offset);
        if (n != (ssize_t)half) {
            return n < 0 ? -errno : -EIO;
        }
    }
#endif
    tf_crash_point("frame.half");
    n = pwrite(job->fd, job->bytes.data + half, job->bytes.size - half,
               (off_t)(job->offset + half));
    if (n != (ssize_t)(job->bytes.size - half)) {
        return n < 0 ? -errno : -EIO; /* a short write too: never repeated (A4) */
    }
    tf_crash_point("frame.written");
    return 0;
}

static void io_work(uv_work_t *work)
{
    struct tf_io_job *job = TF_CONTAINER_OF(work, struct tf_io_job, work);

    job->status = job->bytes.size == 0 ? 0 : write_bytes(job);
    if (job->status == 0 && job->is_seal) {
        tf_crash_point("seal.written");
    }
    if (job->status == 0 && job->sync) {
        uint64_t began_ns = uv_hrtime();

        tf_crash_point("sync.begun");
        job->status = fdatasync(job->fd) == 0 ? 0 : -errno;
        job->sync_ns = uv_hrtime() - began_ns;
        if (job->status == 0) {
            tf_crash_point("sync.done");
        }
        if (job->status == 0 && job->is_seal) {
            tf_crash_point("seal.synced");
        }
    }
    job->free_bytes = tf_free_bytes(job->dir_fd);
}

/* Puts one frame, chained, behind what the job has. */
static int add_to_batch(struct tf_spool *spool, struct tf_write *write)
{
    struct tf_io_job *job = &spool->io;
    int rc =
        tf_frame_is_seal(&write->header) ? tf_seal_make(spool, &job->end, &job->cover, write) : 0;

    if (rc == 0) {
        rc = tf_frame_finish((uint8_t *)write->frame.data, write->frame.size, spool->synced.seq,
                             write->leaf, write->body_crc, job->end.chain);
    }
    if (rc == 0) {
        rc = tf_buf_append(&job->bytes, write->frame.data, write->frame.size);
    }
    if (rc < 0) {
        return rc;
    }
    write->header.durable = spool->synced.seq;
    job->end.offset += write->frame.size;
    job->end.seq = write->header.seq;
    job->end.events += write->header.type == TF_FRAME_POSITIONS ? 0 : write->header.events;
    tf_cover_add(&job->cover, &write->header);
    job->is_seal |= tf_frame_is_seal(&write->header);
    job->sync_wanted |= write->header.type >= TF_FRAME_SEAL;
    write->after = job->end;
    write->step = TF_DRAFT_WRITING;
    tf_buf_fini(&write->frame);
    return 0;
}

/* Chains the encoded frames at the head of the unwritten ones into the job. 0 or -errno. */
static int fill_batch(struct tf_spool *spool)
{
    struct tf_io_job *job = &spool->io;
    struct tf_write *write = spool->first_unwritten;
    int rc = 0;

    job->end = spool->appended;
    job->cover = spool->appended_cover;
    job->sync_wanted = job->is_seal = false;
    for (; rc == 0 && write != NULL && write->step == TF_DRAFT_ENCODED &&
           job->bytes.size < BATCH_BYTES;
         write = write->next) {
        rc = add_to_batch(spool, write);
    }
    return rc;
}

/* The ordinal up to which everything is, or will be with this batch, at the tail. */
static uint64_t reached_ordinal(const struct tf_spool *spool)
{
    const struct tf_write *write = spool->first_unwritten;

    while (write != NULL && write->step == TF_DRAFT_WRITING) {
        write = write->next;
    }
    return write == NULL ? spool->taken : write->ordinal - 1;
}

static bool roll_is_due(const struct tf_spool *spool)
{
    if (spool->fd < 0 || spool->first_unwritten != spool->first_waiting) {
        return false;
    }
    return spool->lineage.wanted ||
           (spool->first_waiting != NULL && segment_is_full(spool, spool->first_waiting));
}

static bool sync_is_due(const struct tf_spool *spool)
{
    uint64_t reached = reached_ordinal(spool);

    if (spool->io.end.seq == spool->synced.seq) {
        return false;
    }
    if (spool->io.sync_wanted || roll_is_due(spool) ||
        (spool->sync_target > spool->synced_ordinal && reached >= spool->sync_target)) {
        return true;
    }
    return spool->options.sync.mode == TF_SYNC_ALWAYS && spool->io.bytes.size > 0;
}

static void on_io_done(uv_work_t *work, int status);

static void start_io(struct tf_spool *spool)
{
    struct tf_io_job *job = &spool->io;
    int rc;

    if (spool->io_running || spool->fd < 0 || spool->failed != 0) {
        return;
    }
    job->fd = spool->fd;
    job->dir_fd = spool->dir_fd;
    job->offset = spool->appended.offset;
    job->status = 0;
    tf_buf_clear(&job->bytes);
    rc = fill_batch(spool);
    job->sync = sync_is_due(spool);
    if (rc == 0 && job->bytes.size == 0 && !job->sync) {
        return;
    }
    if (rc == 0) {
        rc = uv_queue_work(spool->loop, &job->work, io_work, on_io_done);
    }
    if (rc < 0) {
        spool->failed = rc; /* the chain has moved on: the run cannot */
        return;
    }
    spool->io_running = true;
    if (job->offset + job->bytes.size > spool->written_end) {
        spool->written_end = job->offset + job->bytes.size;
    }
}

/* ---- releasing, and ending a run ------------------------------------------------------------ */

static void pop_first(struct tf_spool *spool)
{
    struct tf_write *write = spool->first;

    spool->first = write->next;
    spool->last = spool->first == NULL ? NULL : spool->last;
    spool->unsynced_bytes -= write->counted_bytes;
}

static void move_mark(struct tf_spool *spool)
{
    struct tf_segment *segment = &spool->segments[spool->segment_count - 1];

    bool by_append = spool->options.sync.mode == TF_SYNC_NEVER;

    spool->mark = by_append ? spool->appended : spool->synced;
    spool->mark_cover = by_append ? spool->appended_cover : spool->synced_cover;
    segment->end = spool->mark.offset;
    segment->last_seq = spool->mark.seq;
}

static void release(struct tf_spool *spool)
{
    spool->releasing = true;
    while (spool->first != NULL && spool->first->step == TF_DRAFT_WRITTEN &&
           spool->first->header.seq <= spool->mark.seq) {
        struct tf_write *write = spool->first;

        pop_first(spool);
        tf_state_apply(&spool->state, &write->changes);
        if (tf_frame_has_events(&write->header)) {
            spool->status.spooled_events += write->header.events;
            tf_feeds_released(spool, write);
        }
        if (write->done != NULL) {
            write->done(write->ctx, 0, write->header.seq);
        }
        write_free(write);
    }
    spool->releasing = false;
    tf_feeds_wake(spool);
}

static void cancel_all(struct tf_spool *spool)
{
    struct tf_write *write = spool->first;

    spool->first = spool->last = spool->first_waiting = spool->first_unwritten = NULL;
    spool->flying_bytes = 0;
    spool->releasing = true;
    while (write != NULL) {
        struct tf_write *next = write->next;

        spool->unsynced_bytes -= write->counted_bytes;
        tf_state_abandon(&spool->state, &write->changes);
        if (write->done != NULL) {
            write->done(write->ctx, -ECANCELED, 0);
        }
        if (write->step == TF_DRAFT_ENCODING) {
            write->orphan = true; /* its worker's after-callback frees it */
        } else {
            write_free(write);
        }
        write = next;
    }
    spool->releasing = false;
}

void tf_writer_cancel(struct tf_spool *spool)
{
    cancel_all(spool);
}

void tf_spool_give_up(struct tf_spool *spool)
{
    spool->gave_up = true;
    if (spool->create_wait && !spool->creating && spool->first != NULL) {
        cancel_all(spool);
        if (spool->callbacks.on_new_run != NULL) {
            spool->callbacks.on_new_run(spool->callbacks.ctx);
        }
    }
}

/* C8: nothing above the mark had left; it is read again into a new run. */
static void end_run(struct tf_spool *spool)
{
    int error = spool->failed;
    char reason[64];

    tf_log(TF_LOG_ERROR, "disk-error", TF_DETAILS(TF_STR("spool", spool->path)),
           "write or sync failed: %s; run %llu ends, what was not durable is read again",
           uv_strerror_r(error, reason, sizeof reason), (unsigned long long)spool->run);
    spool->failed = 0;
    tf_disk_failed(spool, TF_DISK_WRITE, error);
    spool->old_fd = spool->fd;
    spool->old_written = spool->written_end;
    spool->fd = -1;
    spool->appended = spool->synced = spool->mark;
    spool->appended_cover = spool->synced_cover = spool->mark_cover;
    spool->needs_segment = true;
    tf_new_run(spool);
    tf_seal_run_ended(spool);
    cancel_all(spool);
    spool->appended_ordinal = spool->synced_ordinal = spool->sync_target = spool->taken;
    if (!spool->closing && spool->callbacks.on_new_run != NULL) {
        spool->callbacks.on_new_run(spool->callbacks.ctx);
    }
}

static void batch_written(struct tf_spool *spool)
{
    struct tf_io_job *job = &spool->io;

    spool->status.written_bytes += job->bytes.size;
    while (spool->first_unwritten != NULL && spool->first_unwritten->step == TF_DRAFT_WRITING) {
        struct tf_write *write = spool->first_unwritten;

        write->step = TF_DRAFT_WRITTEN;
        tf_index_note(spool, &write->header, spool->appended.offset, spool->appended.events);
        spool->appended = write->after;
        spool->flying_bytes -= write->worst_bytes;
        spool->appended_ordinal = write->ordinal;
        spool->first_unwritten = write->next;
    }
    assert(spool->appended.seq == job->end.seq);
    spool->appended_cover = job->cover;
    tf_seal_appended(spool);
    if (job->sync) {
        tf_histogram_add(&spool->status.sync, job->sync_ns / 1000);
        spool->synced = spool->appended; /* C2: all of it was written before the sync began */
        spool->synced_cover = spool->appended_cover;
        spool->synced_ordinal = spool->appended_ordinal;
        tf_seal_synced(spool);
    }
    if (job->bytes.capacity > KEEP_BYTES) {
        tf_buf_fini(&job->bytes);
    }
    move_mark(spool);
}

static void on_io_done(uv_work_t *work, int status)
{
    struct tf_io_job *job = TF_CONTAINER_OF(work, struct tf_io_job, work);
    struct tf_spool *spool = TF_CONTAINER_OF(job, struct tf_spool, io);

    spool->io_running = false;
    spool->free_bytes = job->free_bytes;
    if (status < 0 || job->status < 0) {
        spool->failed = status < 0 ? status : job->status;
    } else {
        batch_written(spool);
        release(spool);
    }
    tf_writer_pump(spool);
    tf_room_changed(spool);
    tf_spool_advance_close(spool);
}

/* What the spool itself has to say now. A full segment waits until the seal on its way is done: its
 * footer is the next one. */
static void add_due(struct tf_spool *spool)
{
    if (roll_is_due(spool)) {
        if (!spool->io_running && !spool->finished && !tf_seal_is_busy(spool)) {
            finish_segment(spool);
        }
    } else if (tf_seal_is_due(spool)) {
        (void)add_own(spool, TF_FRAME_SEAL); /* no memory: with the next event */
    }
}

/* Does whatever can be done now. Not entered again from done callbacks. */
void tf_writer_pump(struct tf_spool *spool)
{
    if (spool->releasing) {
        return;
    }
    do {
        if (spool->failed != 0 && !spool->io_running) {
            end_run(spool);
        }
        encode_waiting(spool);
        add_due(spool);
        start_io(spool);
    } while (spool->failed != 0 && !spool->io_running);
    if (!spool->io_running && spool->finished && roll_is_due(spool)) {
        assert(spool->appended.seq == spool->synced.seq); /* else start_io would be syncing */
        tf_crash_point("roll.old_synced");
        spool->old_fd = spool->fd;
        spool->old_written = spool->written_end;
        spool->fd = -1;
        spool->needs_segment = true;
    }
    if (spool->needs_segment && !spool->creating && !spool->create_wait && spool->encoding == 0 &&
        (!spool->closing || spool->first != NULL)) {
        tf_segment_begin(spool); /* no worker uses the old keys any more */
    }
}

void tf_writer_tick(struct tf_spool *spool)
{
    bool retry = spool->create_wait && !spool->creating;

    if (retry) {
        spool->create_wait = false;
    }
    if (retry || tf_seal_is_due(spool)) {
        tf_writer_pump(spool);
    }
}

void tf_spool_sync(struct tf_spool *spool)
{
    if (spool->options.sync.mode != TF_SYNC_NEVER || spool->closing) {
        spool->sync_target = spool->taken;
        tf_writer_pump(spool);
    }
}

size_t tf_spool_unsynced_bytes(const struct tf_spool *spool)
{
    return spool->unsynced_bytes;
}
