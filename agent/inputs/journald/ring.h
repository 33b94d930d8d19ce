/*
 * ring.h - datagrams that arrived, kept until they are durable.
 *
 *     durable ≤ handed ≤ arrived      offsets that only rise; the place is the offset modulo the
 * size [durable, handed)  in the pipeline: decoded again after a failed sync (docs/guarantees.md
 * C8) [handed, arrived)  to be decoded
 *
 * One mapping that never moves, so that a worker reads in it while the loop receives behind that.
 * An item is a head, its datagram behind it, in one piece: what would not fit before the end of the
 * mapping begins at its start, and the rest is passed over. Bounds: TF_RING_HELD_MAX and
 * TF_RING_FDS_MAX, past which nothing is received; one datagram of TF_DATAGRAM_MAX more may be in
 * it. What is durable is wiped at once, since it is not redacted, and its memory is given back.
 */
#ifndef TAFFRAIL_JOURNALD_RING_H
#define TAFFRAIL_JOURNALD_RING_H

#include "taffrail/journal.h"

#define TF_DATAGRAM_MAX  (8u << 20) /* libsystemd raises its send buffer to that */
#define TF_RING_HELD_MAX (4u << 20)
#define TF_RING_FDS_MAX  64u

struct tf_ring_item {
    uint32_t bytes;
    int32_t fd;          /* a memfd that is the datagram; -1: none */
    uint32_t file_bytes; /* of that */
    struct tf_journal_sender sender;
};

struct tf_ring {
    char *memory; /* NULL: none */
    uint64_t durable, handed, arrived;
    uint64_t given;    /* memory up to here was given back */
    size_t held_bytes; /* of items, their heads too */
    uint32_t held_items, held_fds;
};

int tf_ring_init(struct tf_ring *ring);  /* 0 or -ENOMEM */
void tf_ring_fini(struct tf_ring *ring); /* closes what descriptors it holds */

bool tf_ring_has_room(const struct tf_ring *ring);
/* Where the next item may be written, and TF_DATAGRAM_MAX bytes behind it; the next call gives the
 * same. Only with room. */
struct tf_ring_item *tf_ring_next(struct tf_ring *ring);
char *tf_ring_data(const struct tf_ring_item *item);
void tf_ring_keep(struct tf_ring *ring); /* that item is filled: it has arrived */
void tf_ring_drop(struct tf_ring *ring); /* what was written there is nothing */

/* The item at *at, and *at behind it; NULL: there is none before `to`. Also on a worker, for what
 * the loop leaves alone. */
const struct tf_ring_item *tf_ring_walk(const struct tf_ring *ring, uint64_t *at, uint64_t to);

/* What is before `to` is durable, or came to nothing. */
void tf_ring_release(struct tf_ring *ring, uint64_t to);

#endif
