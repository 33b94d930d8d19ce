/*
 * uploaded.h - how far an uploader's entries have been taken: the highest number of each of its
 * journals. Pure; any thread.
 */
#ifndef TAFFRAIL_JOURNALD_UPLOADED_H
#define TAFFRAIL_JOURNALD_UPLOADED_H

#include <stdbool.h>
#include <stdint.h>

#include "taffrail/base.h"

#define TF_SEQNUM_ID_BYTES    16u
#define TF_UPLOADED_IDS_MAX   16u
#define TF_UPLOADED_BYTES_MAX (10u + TF_UPLOADED_IDS_MAX * (TF_SEQNUM_ID_BYTES + 8u))

/* The number of one entry: journald counts up within a seqnum id. */
struct tf_seqnum {
    uint8_t id[TF_SEQNUM_ID_BYTES];
    uint64_t number;
};

/* The newest first. */
struct tf_uploaded {
    uint32_t count;
    struct tf_seqnum highest[TF_UPLOADED_IDS_MAX];
    int64_t seen_s; /* UTC, when it was written */
};

/* The `s=` and `i=` of a cursor; false: this is no cursor of journald's. */
bool tf_seqnum_of_cursor(struct tf_slice cursor, struct tf_seqnum *out);

/* Whether an entry of that id with that number or a higher one was taken. */
bool tf_uploaded_has(const struct tf_uploaded *uploaded, const struct tf_seqnum *seqnum);
/* It is taken: its id is the newest. The one unseen for longest makes room. */
void tf_uploaded_add(struct tf_uploaded *uploaded, const struct tf_seqnum *seqnum);

/* The value of a position: uploaded.c has its layout. write returns its size. */
size_t tf_uploaded_write(const struct tf_uploaded *uploaded, uint8_t bytes[TF_UPLOADED_BYTES_MAX]);
bool tf_uploaded_read(struct tf_slice bytes, struct tf_uploaded *out); /* false: not one */

#endif
