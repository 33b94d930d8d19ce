/*
 * sparse.h - the index of one segment, as a reader uses it: which stretches may hold what it wants.
 */
#ifndef TAFFRAIL_SPOOL_SPARSE_H
#define TAFFRAIL_SPOOL_SPARSE_H

#include "seal.h"

struct tf_sparse {
    uint32_t count; /* 0: there is no index; then one stretch is the whole segment */
    struct tf_index_entry entries[TF_INDEX_MAX];
    int64_t time_min_ns, time_max_ns; /* of the whole segment; with an index */
    uint64_t begin, seq;              /* of the index frame itself */
};

/* A part of a segment: frames from `from` on, up to byte end and number last_seq (0: not known). */
struct tf_stretch {
    struct tf_spot from;
    uint64_t end, last_seq;
};

/* Looks for the index of an open segment whose end is known. The scan stays where it is. Returns 1,
 * 0: none that is sound, or -errno. */
int tf_sparse_find(struct tf_scan *scan, struct tf_sparse *out);

/* False when no event of the segment can be wanted. True without an index. */
bool tf_sparse_may_match(const struct tf_sparse *sparse, const struct tf_scan_want *want);

/*
 * The next stretch that may hold something wanted, from *at on (0 at first), which is moved behind
 * it. segment: at the first frame of the segment, to its end. False when there is none.
 */
bool tf_sparse_next(const struct tf_sparse *sparse, const struct tf_stretch *segment,
                    const struct tf_scan_want *want, uint32_t *at, struct tf_stretch *out);

#endif
