/*
 * witness.c - what collectors answer: where a receipt's frame would lie, and the event of a fork.
 *
 * A collector that has a frame which this spool never made has seen another history under its id:
 * the spool was put back to an older copy, or two run from one. docs/guarantees.md, H.
 */
#include "seal.h"

#include <stdio.h>

#include "taffrail/log.h"

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
        if (memcmp(spool->segments[i].spool_id, id, TF_SPOOL_ID_BYTES) == 0) {
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

void tf_spool_forked(struct tf_spool *spool, uint64_t seq, const uint8_t chain[TF_CHAIN_BYTES])
{
    char text[160];

    (void)chain;
    (void)snprintf(text, sizeof text,
                   "a collector has frame %llu/%llu of another history of this spool: it was put "
                   "back to an older copy, or runs twice",
                   (unsigned long long)TF_SEQ_RUN(seq), (unsigned long long)TF_SEQ_N(seq));
    tf_log(TF_LOG_ERROR, "fork", TF_DETAILS(TF_STR("spool", spool->path), TF_NUM("seq", seq)), "%s",
           text);
    tf_spool_event(spool, "fork", text);
}
