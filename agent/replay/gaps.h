/*
 * gaps.h - what a replay could not give: gap records inside its span, and what the spool lacks.
 *
 * At most TF_GAPS_MAX of each are kept, all are counted.
 */
#ifndef TAFFRAIL_REPLAY_GAPS_H
#define TAFFRAIL_REPLAY_GAPS_H

#include <stdio.h>

#include "taffrail/archive.h"

#define TF_GAPS_MAX       64u
#define TF_GAP_TEXT_BYTES 200u

/* A record that the agent wrote of a loss. */
struct tf_gap_record {
    int64_t time_ns;
    char text[TF_GAP_TEXT_BYTES]; /* "shop/pay-0, up to 18 KiB lost at copytruncate" */
};

/* One stretch of frames, or of segments, that was not there to be read. */
struct tf_gap_loss {
    enum tf_archived_kind kind;
    uint64_t first_segment, last_segment, from_seq, to_seq, events;
};

struct tf_gaps {
    struct tf_gap_record records[TF_GAPS_MAX];
    struct tf_gap_loss losses[TF_GAPS_MAX];
    uint64_t record_count, loss_count;
};

/* Notes an event if it is a gap record. tag is the record's. */
void tf_gaps_add_event(struct tf_gaps *gaps, int64_t time_ns, struct tf_slice tag,
                       struct tf_slice event);
/* Notes what an archive did not find, or a frame that is none. Neighbours are joined. */
void tf_gaps_add_loss(struct tf_gaps *gaps, const struct tf_archived *lost);

/* "; 1 gap inside: …" behind a summary, then a line for each loss; ends the line. */
void tf_gaps_print(const struct tf_gaps *gaps, FILE *to);

/* A line: so many records were shown though a condition could not be decided. Nothing for 0. */
void tf_undecided_print(uint64_t count, FILE *to);

#endif
