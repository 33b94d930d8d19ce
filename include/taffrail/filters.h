/*
 * filters.h - the filters of a configuration in their order: what `run` ships by and `tap` shows
 * by.
 *
 * The whole is immutable once it is open, and shared by all workers. Scratch belongs to a job,
 * states to a source: an entry for each filter, never used by two threads at once (filter.h).
 */
#ifndef TAFFRAIL_FILTERS_H
#define TAFFRAIL_FILTERS_H

#include "taffrail/config.h"
#include "taffrail/event.h"
#include "taffrail/filter.h"

#define TF_AUDIT_TAG "taffrail.audit"

struct tf_filters;

/*
 * Opens every filter of the list (borrowed for the life of *out), so that all findings come in
 * one run. Returns new in *out, also half-built with a negative result (NULL only without memory),
 * which is the first filter's that failed.
 */
int tf_filters_open(const struct tf_plugin_list *list, struct tf_filters **out,
                    struct tf_error *err);
void tf_filters_close(struct tf_filters *filters); /* accepts NULL */

/* Returns new; NULL: no memory. */
void **tf_filters_scratch_new(const struct tf_filters *filters);
void tf_filters_scratch_free(const struct tf_filters *filters, void **scratch); /* accepts NULL */

/* Returns new, loaded with what was saved of the source's streams; NULL: no memory. */
void **tf_filters_states_new(const struct tf_filters *filters,
                             const struct tf_stream_state saved[TF_STREAMS]);
void tf_filters_states_free(const struct tf_filters *filters, void **states); /* accepts NULL */
void tf_filters_states_save(const struct tf_filters *filters, void *const *states,
                            struct tf_stream_state out[TF_STREAMS]);

/*
 * Worker. Runs the filters that take batch->tag over a batch of a source. Returns 0, or what the
 * first filter that failed returned: then nothing of the batch may be passed on.
 */
int tf_filters_apply(const struct tf_filters *filters, void *const *scratch, void *const *states,
                     struct tf_batch *batch);

/* What all filters hold back of the source. */
void tf_filters_held(const struct tf_filters *filters, void *const *states,
                     struct tf_filter_held *out);
/* Adds to counts, one for each filter, the records that it holds of the source, `times` times. */
void tf_filters_count_held(const struct tf_filters *filters, void *const *states, int64_t times,
                           int64_t *counts);

/* Loop. Runs the filters that see all over a batch that has no source state: tiny and rare ones. */
int tf_filters_apply_own(const struct tf_filters *filters, struct tf_batch *batch);

/* Adds the agent's `host` and `labels` to the newest record. Returns 0, -ENOMEM or -EMSGSIZE. */
int tf_filters_add_labels(const struct tf_agent_options *agent, struct tf_batch *batch);

/*
 * Loop, for a source, before its first batch and when a filter has learned more: what is the same
 * for all its records. metadata holds one record with what the input knows of it; the agent's host
 * and labels are added (agent NULL: not those, its records have their own), the filters in their
 * order add to it and are told, and those that see all go over it. Returns 0, -ENOMEM or -EMSGSIZE.
 */
int tf_filters_constants(const struct tf_filters *filters, void *const *states, const char *tag,
                         const struct tf_agent_options *agent, struct tf_batch *metadata,
                         struct tf_constants *out);

/* ---- filters that learn (filter.h); loop ---- */

/* Before the agent is confined: what they will need then. The first that fails ends it. */
int tf_filters_prepare(const struct tf_filters *filters, const char *host, struct tf_needs *needs,
                       struct tf_error *err);
/* Starts them. The first that fails ends it; tf_filters_stop is due all the same. */
int tf_filters_start(const struct tf_filters *filters, const struct tf_filter_start *start,
                     struct tf_error *err);
/* Stops all, started or not, then calls on_stopped; also within this call. */
void tf_filters_stop(struct tf_filters *filters, void (*on_stopped)(void *ctx), void *ctx);
/* What all of them say before a job. One may wait and another have learned more: it says so once.
 */
struct tf_filters_turn {
    bool waits, renews;
    uint64_t until_ms; /* of the one that waits the longest */
};
struct tf_filters_turn tf_filters_turn(const struct tf_filters *filters, void *const *states,
                                       const char *tag, uint64_t now_ms);

#endif
