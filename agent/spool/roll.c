/*
 * roll.c - the segments that a spool has, and the next one: planned, made on a worker, adopted.
 *
 * A plan takes what is fixed when it is made: the folded state, the mark that it builds on, keys of
 * its own, the numbers of its snapshot; a worker then makes the file (segment.c) and touches only
 * the plan. A segment that cannot be made (full disk) loses nothing: drafts wait, inputs pause, and
 * it is tried again each second. When to roll is the writer's to say.
 */
#include "seal.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include <openssl/rand.h>

#include "taffrail/log.h"

/* ---- segments known ------------------------------------------------------------------------- */

int tf_segments_reserve(struct tf_spool *spool, size_t more)
{
    size_t needed = spool->segment_count + more;

    if (needed > spool->segment_capacity) {
        size_t capacity = needed + 64;
        struct tf_segment *segments = realloc(spool->segments, capacity * sizeof *segments);

        if (segments == NULL) {
            return -ENOMEM;
        }
        spool->segments = segments;
        spool->segment_capacity = capacity;
    }
    return 0;
}

int tf_segments_add(struct tf_spool *spool, const struct tf_segment *segment)
{
    int rc = tf_segments_reserve(spool, 1);
    struct tf_segment *added;

    if (rc < 0) {
        return rc;
    }
    added = &spool->segments[spool->segment_count];
    *added = *segment;
    added->base = spool->segment_count == 0 ? 0 : added[-1].base + added[-1].end;
    spool->segment_count++;
    return 0;
}

/* The first segment whose number is not below no; segment_count when there is none. */
static size_t segment_index(const struct tf_spool *spool, uint64_t no)
{
    size_t low = 0, high = spool->segment_count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (spool->segments[middle].no < no) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

const struct tf_segment *tf_segments_find(const struct tf_spool *spool, uint64_t no)
{
    size_t i = segment_index(spool, no);

    return i < spool->segment_count && spool->segments[i].no == no ? &spool->segments[i] : NULL;
}

uint64_t tf_spot_address(const struct tf_spool *spool, const struct tf_spot *spot)
{
    const struct tf_segment *last;
    size_t i;

    if (spool->segment_count == 0) {
        return 0;
    }
    last = &spool->segments[spool->segment_count - 1];
    if (spot->seq >= spool->mark.seq) {
        return last->base + last->end;
    }
    i = segment_index(spool, spot->segment_no);
    if (spot->segment_no != 0 && i < spool->segment_count) {
        bool inside = spool->segments[i].no == spot->segment_no;

        return spool->segments[i].base + (inside ? spot->offset : 0);
    }
    for (i = spool->segment_count;
         i-- > 1;) { /* only a number is known: where its segment begins */
        if (spool->segments[i].prev_last_seq <= spot->seq) {
            break;
        }
    }
    return spool->segments[i].base;
}

/* ---- making a segment ----------------------------------------------------------------------- */

void tf_new_run(struct tf_spool *spool)
{
    spool->run++;
    spool->next_seq = spool->run << 40 | 1;
    spool->next_flags = TF_SEGMENT_FIRST_OF_RUN;
    if (RAND_bytes(spool->run_id, sizeof spool->run_id) != 1) {
        memset(spool->run_id, 0, sizeof spool->run_id); /* names runs for readers, no more */
    }
}

/* Randomness is drawn here, on the loop: libuv's workers would never free OpenSSL's generators. */
static int plan_keys(struct tf_spool *spool)
{
    struct tf_segment_plan *plan = &spool->plan;

    plan->keys = tf_secure_new(sizeof *plan->keys);
    if (plan->keys == NULL) {
        return -ENOMEM;
    }
    if (RAND_bytes(plan->sector.segment_id, sizeof plan->sector.segment_id) != 1) {
        return -EIO;
    }
    return tf_dek_new(spool->ring, &plan->sector, plan->slots, plan->keys);
}

/* Set when sealing was lost, too: the next start is to know. */
static uint32_t sealing_flag(const struct tf_spool *spool)
{
    return spool->sealing->state == TF_SEALED_OFF ? 0 : TF_SEGMENT_SEALING;
}

int tf_plan_segment(struct tf_spool *spool)
{
    struct tf_segment_plan *plan = &spool->plan;
    int rc = tf_segments_reserve(spool, 1); /* may move them: no pointer to one is kept over it */

    if (rc == 0 && spool->lineage.wanted) {
        rc = tf_lineage_plan(spool);
    }
    *plan = (struct tf_segment_plan){.dir_fd = spool->dir_fd,
                                     .size_bytes = spool->options.segment_size_bytes,
                                     .synced_seq = spool->mark.seq,
                                     .old_fd = spool->old_fd,
                                     .old_written = spool->old_written,
                                     .fd = -1};
    if (rc == 0) {
        rc = tf_snapshot_new(&spool->state, &plan->chunks, &plan->chunk_count);
    }
    if (rc < 0) {
        return rc;
    }
    plan->sector = (struct tf_sector0){.flags = spool->next_flags | sealing_flag(spool),
                                       .segment_no = spool->next_segment_no++,
                                       .first_seq = spool->next_seq,
                                       .created_ns = tf_now_ns(),
                                       .prev_end = spool->mark.offset,
                                       .prev_last_seq = spool->mark.seq,
                                       .events_before = spool->mark.events};
    memcpy(plan->sector.spool_id, spool->id, TF_SPOOL_ID_BYTES);
    if (spool->lineage.planned) {
        plan->sector.flags |= TF_SEGMENT_NEW_LINEAGE;
        memcpy(plan->sector.prev_spool_id, spool->id, TF_SPOOL_ID_BYTES);
        memcpy(plan->sector.spool_id, spool->lineage.id, TF_SPOOL_ID_BYTES);
    }
    memcpy(plan->sector.run_id, spool->run_id, sizeof spool->run_id);
    memcpy(plan->sector.prev_chain, spool->mark.chain, TF_CHAIN_BYTES);
    if (spool->segment_count > 0) {
        const struct tf_segment *last = &spool->segments[spool->segment_count - 1];

        memcpy(plan->sector.prev_segment_id, last->id, sizeof last->id);
    }
    spool->next_seq += plan->chunk_count; /* used up even when this comes to nothing */
    return plan_keys(spool);
}

void tf_plan_drop(struct tf_spool *spool)
{
    tf_snapshot_free(spool->plan.chunks, spool->plan.chunk_count);
    spool->plan.chunks = NULL;
    spool->plan.chunk_count = 0;
    tf_secure_free(spool->plan.keys, sizeof *spool->plan.keys);
    spool->plan.keys = NULL;
}

/* The frames of a snapshot are covered by the next seal, as all others. */
static void cover_snapshot(struct tf_spool *spool)
{
    const struct tf_segment_plan *plan = &spool->plan;
    struct tf_cover *cover = &spool->mark_cover;

    cover->from_seq = cover->from_seq == 0 ? plan->sector.first_seq : cover->from_seq;
    cover->bytes += plan->end.offset - TF_SEGMENT_HEADER_BYTES;
    spool->appended_cover = spool->synced_cover = *cover;
    tf_seal_appended(spool);
}

void tf_plan_adopt(struct tf_spool *spool)
{
    struct tf_segment_plan *plan = &spool->plan;
    struct tf_segment segment = {.no = plan->sector.segment_no,
                                 .first_seq = plan->sector.first_seq,
                                 .last_seq = plan->end.seq,
                                 .end = plan->end.offset,
                                 .prev_last_seq = plan->sector.prev_last_seq,
                                 .events_before = plan->sector.events_before,
                                 .created_ns = plan->sector.created_ns,
                                 .begins_lineage =
                                     (plan->sector.flags & TF_SEGMENT_NEW_LINEAGE) != 0,
                                 .slots = {.has_recipient = spool->ring->has_auditor}};
    int rc;

    memcpy(segment.id, plan->sector.segment_id, sizeof segment.id);
    memcpy(segment.spool_id, plan->sector.spool_id, sizeof segment.spool_id);
    memcpy(segment.prev_spool_id, plan->sector.prev_spool_id, sizeof segment.prev_spool_id);
    rc = tf_segments_add(spool, &segment);
    assert(rc == 0); /* reserved when it was planned */
    (void)rc;
    tf_secure_free(spool->keys, sizeof *spool->keys);
    spool->keys = plan->keys;
    plan->keys = NULL;
    spool->fd = plan->fd;
    spool->old_fd = plan->old_fd;
    spool->appended = spool->synced = spool->mark = plan->end;
    cover_snapshot(spool);
    spool->index_count = 0;
    spool->finished = false;
    spool->written_end = plan->end.offset;
    spool->frames_in_segment = (uint32_t)plan->chunk_count;
    spool->has_data_frames = false;
    spool->needs_segment = spool->create_wait = false;
    spool->next_flags = 0;
    tf_lineage_adopt(spool, &plan->sector);
    tf_plan_drop(spool);
}

static void create_work(uv_work_t *work)
{
    struct tf_spool *spool = TF_CONTAINER_OF(work, struct tf_spool, create_work);

    spool->create_status = tf_segment_create(&spool->plan); /* the loop leaves the plan alone */
}

static void create_failed(struct tf_spool *spool, int rc)
{
    char reason[64];

    tf_plan_drop(spool);
    spool->create_wait = true;
    tf_disk_failed(spool, TF_DISK_SEGMENT, rc);
    tf_log(TF_LOG_ERROR, rc == -ENOSPC || rc == -EDQUOT ? "spool-full" : "disk-error",
           TF_DETAILS(TF_STR("spool", spool->path)),
           "a segment cannot be made: %s; inputs wait, nothing is lost; retry in 1000 ms",
           uv_strerror_r(rc, reason, sizeof reason));
}

static void on_created(uv_work_t *work, int status)
{
    struct tf_spool *spool = TF_CONTAINER_OF(work, struct tf_spool, create_work);
    int rc = status < 0 ? status : spool->create_status;

    spool->creating = false;
    if (rc < 0) {
        create_failed(spool, rc);
    } else {
        spool->old_fd = -1;
        tf_plan_adopt(spool);
        tf_seal_repeat_keys(spool);
        spool->status.error = 0;
    }
    tf_retention_run(spool); /* the old one may be deleted; or something must be, for space */
    tf_room_changed(spool);
    tf_writer_pump(spool);
    tf_spool_advance_close(spool);
}

void tf_segment_begin(struct tf_spool *spool)
{
    int rc = tf_plan_segment(spool);

    if (rc == 0) {
        rc = uv_queue_work(spool->loop, &spool->create_work, create_work, on_created);
    }
    if (rc < 0) {
        create_failed(spool, rc);
        tf_room_changed(spool);
        return;
    }
    spool->creating = true;
}
