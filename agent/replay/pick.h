/*
 * pick.h - from an archive's frames to the events that a query looks for.
 */
#ifndef TAFFRAIL_REPLAY_PICK_H
#define TAFFRAIL_REPLAY_PICK_H

#include "gaps.h"
#include "query.h"

struct tf_pick {
    struct tf_archive *archive;
    struct tf_query *query;
    const struct tf_texts *match; /* globs on tags, of an output; NULL: every tag */
    uint64_t limit;               /* events, at most; UINT64_MAX: all */
    uint64_t found;
    struct tf_gaps gaps;
    struct tf_buf plain;
};

/* All are borrowed while the pick lives. Asks the archive for the query's span, behind after_seq.
 */
void tf_pick_init(struct tf_pick *pick, struct tf_archive *archive, struct tf_query *query,
                  uint64_t after_seq);
void tf_pick_fini(struct tf_pick *pick);

/* The next frame that may hold something; what is missing before it is noted. 1, 0: the end, or
 * the limit is reached; -errno. */
int tf_pick_next(struct tf_pick *pick, struct tf_archived *out);

/* Calls fn with each event of the frame that is looked for. A frame that holds no events is noted
 * as damaged. Returns 0, fn's error, or -ENOMEM. */
typedef int tf_picked_fn(void *ctx, struct tf_slice event, struct tf_slice tag);
int tf_pick_events(struct tf_pick *pick, const struct tf_archived *frame, tf_picked_fn *fn,
                   void *ctx);

/* Whether the output takes records of that tag. */
bool tf_pick_takes_tag(const struct tf_pick *pick, struct tf_slice tag);
bool tf_pick_is_full(const struct tf_pick *pick); /* limit is reached */

#endif
