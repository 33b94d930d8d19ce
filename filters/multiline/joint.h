/*
 * joint.h - the lines of one stream that are to become one record.
 */
#ifndef TAFFRAIL_FILTERS_JOINT_H
#define TAFFRAIL_FILTERS_JOINT_H

#include "taffrail/batch.h"

/* A record of the batch that is a line, and its field that holds the text: numbers in the batch. */
struct tf_line {
    uint32_t record, field;
};

struct tf_joint {
    uint32_t lines; /* 0: there is none */
    uint64_t source_at;
    uint64_t deadline_ms;
    /* Where its first and its newest line stand in this batch; TF_JOINT_GONE: in an earlier one. */
    struct tf_line first;
    uint32_t last;
    /* All lines, '\n' between them. Empty while the only line stands in this batch. */
    struct tf_buf text;
    /* What the first line's record was, once its batch is gone. The fields' offsets are those of
     * bytes; the text of first.field, then its number among the fields, is left out. */
    struct tf_record record;
    struct tf_buf fields; /* of struct tf_field */
    struct tf_buf bytes;
};
#define TF_JOINT_GONE         UINT32_MAX
#define TF_JOINT_FIELDS_MAX   256u /* of a record that is held from batch to batch */
#define TF_JOINT_FIELDS_BYTES (64u << 10)

/* max_bytes: of the text. */
void tf_joint_init(struct tf_joint *joint, size_t max_bytes);
void tf_joint_fini(struct tf_joint *joint); /* wipes and frees; sound to use again */

void tf_joint_start(struct tf_joint *joint, const struct tf_batch *batch, struct tf_line line,
                    uint64_t deadline_ms);

/* The size of its text. */
size_t tf_joint_bytes(const struct tf_joint *joint, const struct tf_batch *batch);

/* Whether the line has the fields of the first one, but for the text. */
bool tf_joint_agrees(const struct tf_joint *joint, const struct tf_batch *batch,
                     struct tf_line line);

/* Takes the line in. Its text must fit. Returns 0 or -ENOMEM. */
int tf_joint_add(struct tf_joint *joint, struct tf_batch *batch, struct tf_line line);

/*
 * It becomes a record: where its last line stands or, when that is not in the batch, in a place
 * that is made at *at, which then moves on by one. Returns 0; -ENOMEM or -EMSGSIZE, then the batch
 * is good for nothing. Never -EMSGSIZE when its first line stands in the batch and the text fits
 * there.
 */
int tf_joint_end(struct tf_joint *joint, struct tf_batch *batch, uint32_t *at);

/*
 * At the end of the batch: its lines are gone from it; without lines, memory is freed. Returns 0;
 * -EMSGSIZE when the record has too many fields to be held: it may only be ended then; -ENOMEM.
 */
int tf_joint_hold(struct tf_joint *joint, struct tf_batch *batch);

#endif
