/*
 * witness.c - what collectors answer: where a receipt's frame would lie, and what a fork begins.
 *
 * A collector that has a frame which this spool never made has seen another history under its id:
 * the spool was put back to an older copy, or two agents run from one. Then
 *
 *     noticing  a notice of kind fork is appended, and synced
 *     wanted    the segment is finished; nothing more goes into it
 *     planned   the next one has a new spool id, drawn once, and names the old one; its run is
 *               above that of the foreign frame, so that no number of that history is used again
 *     begun     it is durable (then spool.meta follows): new frames are of the new lineage
 *
 * Frames that are not acked go out as they are, under the id that they were written with. What a
 * collector says is a stranger's word, though signed: at most LINEAGES_MAX lineages begin in one
 * process, LINEAGE_MS apart, and a foreign run counts only within RUNS_MAX of ours. A fork without
 * a new lineage is told once a minute.
 */
#include "seal.h"

#include <errno.h>
#include <stdio.h>

#include <openssl/rand.h>

#include "taffrail/log.h"

#define LINEAGES_MAX 4u
#define LINEAGE_MS   60000u
#define RUNS_MAX     1024u

bool tf_spool_may_have(const struct tf_spool *spool, uint64_t seq)
{
    for (size_t i = spool->segment_count; i-- > 0;) {
        const struct tf_segment *segment = &spool->segments[i];

        if (seq > segment->last_seq) {
            return i + 1 < spool->segment_count; /* in what is missing, or beyond the newest */
        }
        if (seq >= segment->first_seq) {
            return true;
        }
        if (seq > segment->prev_last_seq) {
            return false; /* numbers that came to nothing, and never left */
        }
    }
    return true; /* deleted since, as far as anybody knows here */
}

bool tf_spool_is_lineage(const struct tf_spool *spool, const uint8_t id[TF_SPOOL_ID_BYTES])
{
    for (size_t i = spool->segment_count; i-- > 0;) {
        const struct tf_segment *segment = &spool->segments[i];

        if (memcmp(segment->spool_id, id, TF_SPOOL_ID_BYTES) == 0 ||
            (segment->begins_lineage && /* of which nothing may be left */
             memcmp(segment->prev_spool_id, id, TF_SPOOL_ID_BYTES) == 0)) {
            return true;
        }
    }
    return memcmp(spool->id, id, TF_SPOOL_ID_BYTES) == 0;
}

void tf_spool_event(struct tf_spool *spool, const char *event, const char *text)
{
    if (!spool->closing && spool->callbacks.on_event != NULL) {
        spool->callbacks.on_event(spool->callbacks.ctx, event, text);
    }
}

/* ---- a fork --------------------------------------------------------------------------------- */

static bool may_begin(const struct tf_spool *spool)
{
    const struct tf_lineage *lineage = &spool->lineage;

    return lineage->begun < LINEAGES_MAX &&
           (lineage->begun_ms == 0 || uv_now(spool->loop) - lineage->begun_ms >= LINEAGE_MS);
}

static void tell_fork(struct tf_spool *spool, uint64_t seq, bool begins)
{
    char text[224];

    (void)snprintf(text, sizeof text,
                   "a collector has frame %llu/%llu of another history of this spool: it was put "
                   "back to an older copy, or runs twice; %s",
                   (unsigned long long)TF_SEQ_RUN(seq), (unsigned long long)TF_SEQ_N(seq),
                   begins ? "a new lineage begins"
                          : "no new lineage begins so soon after the last");
    tf_log(TF_LOG_ERROR, "fork", TF_DETAILS(TF_STR("spool", spool->path)), "%s", text);
    tf_spool_event(spool, "fork", text);
}

static void begin_lineage(struct tf_spool *spool)
{
    spool->lineage.noticing = false;
    spool->lineage.wanted = true;
}

/* When the run ended instead, the new lineage begins without it. */
static void on_noticed(void *ctx, int status, uint64_t seq)
{
    (void)status;
    (void)seq;
    begin_lineage(ctx); /* the writer goes on from here */
}

void tf_spool_forked(struct tf_spool *spool, uint64_t seq, const uint8_t chain[TF_CHAIN_BYTES])
{
    struct tf_lineage *lineage = &spool->lineage;
    struct tf_notice notice = {
        .kind = TF_NOTICE_FORK, .time_ns = tf_now_ns(), .a = seq, .b = spool->mark.seq};
    uint64_t now_ms = uv_now(spool->loop);

    if (spool->closing || lineage->noticing || lineage->wanted) {
        return;
    }
    if (!may_begin(spool)) {
        if (lineage->told_ms == 0 || now_ms - lineage->told_ms >= LINEAGE_MS) {
            lineage->told_ms = now_ms;
            tell_fork(spool, seq, false);
        }
        return;
    }
    memcpy(notice.id, chain, sizeof notice.id);
    lineage->foreign_run = TF_SEQ_RUN(seq);
    lineage->noticing = true;
    if (tf_notice_append(spool, &notice, on_noticed, spool) < 0) {
        lineage->noticing = false; /* no memory: with the next receipt */
        return;
    }
    tell_fork(spool, seq, true);
}

int tf_lineage_plan(struct tf_spool *spool)
{
    struct tf_lineage *lineage = &spool->lineage;
    uint32_t flags = spool->next_flags;

    if (lineage->planned) {
        return 0; /* its segment could not be made: tried again */
    }
    if (RAND_bytes(lineage->id, sizeof lineage->id) != 1) {
        return -EIO;
    }
    if (lineage->foreign_run > spool->run && lineage->foreign_run - spool->run <= RUNS_MAX) {
        spool->run = lineage->foreign_run;
    }
    tf_new_run(spool);
    spool->next_flags |= flags;
    lineage->planned = true;
    return 0;
}

void tf_lineage_adopt(struct tf_spool *spool, const struct tf_sector0 *sector)
{
    struct tf_lineage *lineage = &spool->lineage;

    if ((sector->flags & TF_SEGMENT_NEW_LINEAGE) == 0) {
        return;
    }
    memcpy(spool->id, sector->spool_id, TF_SPOOL_ID_BYTES);
    lineage->wanted = lineage->planned = false;
    lineage->begun++;
    lineage->begun_ms = uv_now(spool->loop);
    tf_log(TF_LOG_WARN, "new-lineage",
           TF_DETAILS(TF_STR("spool", spool->path), TF_NUM("run", spool->run)),
           "a new lineage began: frames from here on have a new spool id");
}
