/*
 * filters.c - the filters of a configuration, opened once and run in their order.
 *
 * A filter takes a batch when its `match` names the batch's tag. What agents say of themselves
 * (taffrail.audit, received too) and the constants of a source go through the filters that see all,
 * and no others.
 */
#include "internal.h"

#include <errno.h>
#include <stdlib.h>

static int open_filter(struct filter *filter, const struct tf_plugin_config *item, uint16_t index,
                       struct tf_error *err)
{
    struct tf_filter_args args = {
        .name = item->name, .options = item->options, .at = item->at, .index = index};

    filter->kind = item->kind;
    filter->match = &item->match;
    return filter->kind->open(&args, &filter->self, err);
}

/* The first failure counts, also one that is no finding (no memory): nothing ever runs without a
 * filter that was asked for. */
int tf_filters_open(const struct tf_plugin_list *list, struct tf_filters **out,
                    struct tf_error *err)
{
    struct tf_filters *filters = calloc(1, sizeof *filters);
    int first = 0;

    *out = filters;
    if (filters == NULL) {
        return -ENOMEM;
    }
    filters->items = calloc(list->count + 1, sizeof *filters->items);
    if (filters->items == NULL) {
        return -ENOMEM;
    }
    for (size_t i = 0; i < list->count; i++) {
        struct filter *filter = &filters->items[filters->count];
        int rc = open_filter(filter, &list->items[i], (uint16_t)i, err);

        if (rc == 0) {
            filters->count++;
            filter->own_scratch = filter->kind->scratch_new(filter->self);
            rc = filter->own_scratch == NULL ? -ENOMEM : 0;
        }
        first = first == 0 ? rc : first;
    }
    return first;
}

void tf_filters_close(struct tf_filters *filters)
{
    if (filters == NULL) {
        return;
    }
    for (size_t i = 0; i < filters->count; i++) {
        if (filters->items[i].own_scratch != NULL) {
            filters->items[i].kind->scratch_free(filters->items[i].own_scratch);
        }
        filters->items[i].kind->close(filters->items[i].self);
    }
    free(filters->items);
    free(filters);
}

/* ---- scratch and states -------------------------------------------------------------------------
 */

void **tf_filters_scratch_new(const struct tf_filters *filters)
{
    void **scratch = calloc(filters->count + 1, sizeof *scratch);

    for (size_t i = 0; scratch != NULL && i < filters->count; i++) {
        scratch[i] = filters->items[i].kind->scratch_new(filters->items[i].self);
        if (scratch[i] == NULL) {
            tf_filters_scratch_free(filters, scratch);
            return NULL;
        }
    }
    return scratch;
}

void tf_filters_scratch_free(const struct tf_filters *filters, void **scratch)
{
    for (size_t i = 0; scratch != NULL && i < filters->count; i++) {
        if (scratch[i] != NULL) {
            filters->items[i].kind->scratch_free(scratch[i]);
        }
    }
    free(scratch);
}

static void *new_state(const struct filter *filter, const struct tf_stream_state saved[TF_STREAMS])
{
    void *state = filter->kind->state_new(filter->self);

    for (unsigned stream = 0;
         state != NULL && filter->kind->state_load != NULL && stream < TF_STREAMS; stream++) {
        filter->kind->state_load(state, (enum tf_stream)stream, &saved[stream]);
    }
    return state;
}

void **tf_filters_states_new(const struct tf_filters *filters,
                             const struct tf_stream_state saved[TF_STREAMS])
{
    void **states = calloc(filters->count + 1, sizeof *states);

    for (size_t i = 0; states != NULL && i < filters->count; i++) {
        if (filters->items[i].kind->state_new == NULL) {
            continue;
        }
        states[i] = new_state(&filters->items[i], saved);
        if (states[i] == NULL) {
            tf_filters_states_free(filters, states);
            return NULL;
        }
    }
    return states;
}

void tf_filters_states_free(const struct tf_filters *filters, void **states)
{
    for (size_t i = 0; states != NULL && i < filters->count; i++) {
        if (states[i] != NULL) {
            filters->items[i].kind->state_free(states[i]);
        }
    }
    free(states);
}

void tf_filters_states_save(const struct tf_filters *filters, void *const *states,
                            struct tf_stream_state out[TF_STREAMS])
{
    memset(out, 0, TF_STREAMS * sizeof out[0]);
    for (size_t i = 0; i < filters->count; i++) {
        const struct tf_filter_kind *kind = filters->items[i].kind;

        for (unsigned stream = 0;
             kind->state_save != NULL && states[i] != NULL && stream < TF_STREAMS; stream++) {
            kind->state_save(states[i], (enum tf_stream)stream, &out[stream]);
        }
    }
}

void tf_filters_held(const struct tf_filters *filters, void *const *states,
                     struct tf_filter_held *out)
{
    *out = (struct tf_filter_held){.from = {UINT64_MAX, UINT64_MAX, UINT64_MAX}};
    for (size_t i = 0; i < filters->count; i++) {
        struct tf_filter_held held;

        if (filters->items[i].kind->held == NULL || states[i] == NULL) {
            continue;
        }
        filters->items[i].kind->held(states[i], &held);
        out->records += held.records;
        if (held.deadline_ms != 0 &&
            (out->deadline_ms == 0 || held.deadline_ms < out->deadline_ms)) {
            out->deadline_ms = held.deadline_ms;
        }
        for (unsigned stream = 0; stream < TF_STREAMS; stream++) {
            if (held.from[stream] < out->from[stream]) {
                out->from[stream] = held.from[stream];
            }
        }
    }
}

void tf_filters_count_held(const struct tf_filters *filters, void *const *states, int64_t times,
                           int64_t *counts)
{
    for (size_t i = 0; i < filters->count; i++) {
        struct tf_filter_held held;

        if (filters->items[i].kind->held != NULL && states[i] != NULL) {
            filters->items[i].kind->held(states[i], &held);
            counts[i] += times * (int64_t)held.records;
        }
    }
}

/* ---- a batch ------------------------------------------------------------------------------------
 */

static bool filter_applies(const struct filter *filter, const char *tag)
{
    struct tf_slice text = tf_slice_text(tag);

    if (strcmp(tag, TF_AUDIT_TAG) == 0) { /* what agents say of themselves, received too */
        return filter->kind->sees_all;
    }
    for (size_t i = 0; i < filter->match->count; i++) {
        if (tf_glob_match(filter->match->items[i].text, text, '.')) {
            return true;
        }
    }
    return filter->match->count == 0;
}

int tf_filters_apply(const struct tf_filters *filters, void *const *scratch, void *const *states,
                     struct tf_batch *batch)
{
    for (size_t i = 0; i < filters->count; i++) {
        const struct filter *filter = &filters->items[i];
        int rc = 0;

        if (filter_applies(filter, batch->tag)) {
            rc = filter->kind->apply(filter->self, scratch[i], states[i], batch);
        }
        if (rc < 0) {
            return rc;
        }
    }
    tf_batch_close_cuts(batch); /* where redaction is off */
    return 0;
}

int tf_filters_apply_own(const struct tf_filters *filters, struct tf_batch *batch)
{
    int rc = 0;

    for (size_t i = 0; i < filters->count && rc == 0; i++) {
        const struct filter *filter = &filters->items[i];

        if (filter->kind->sees_all) {
            rc = filter->kind->apply(filter->self, filter->own_scratch, NULL, batch);
        }
    }
    return rc;
}

/* ---- constants ----------------------------------------------------------------------------------
 */

int tf_filters_add_labels(const struct tf_agent_options *agent, struct tf_batch *batch)
{
    int rc = 0;

    if (agent->host.text != NULL) {
        rc = tf_batch_add_text_field(batch, "host", tf_slice_text(agent->host.text));
    }
    if (rc == 0 && agent->labels.count > 0) {
        rc = tf_batch_add_map_field(batch, "labels", (uint32_t)agent->labels.count);
    }
    for (size_t i = 0; i < agent->labels.count && rc == 0; i++) {
        rc = tf_batch_add_text_field(batch, agent->labels.items[i].key.text,
                                     tf_slice_text(agent->labels.items[i].value.text));
    }
    return rc;
}

/* Each filter adds what it has learned, then is told what is there: what those before it added, as
 * for a batch. */
static int describe(const struct tf_filters *filters, void *const *states, const char *tag,
                    struct tf_batch *metadata)
{
    int rc = 0;

    for (size_t i = 0; i < filters->count && rc == 0; i++) {
        const struct filter *filter = &filters->items[i];

        if (filter->kind->enrich != NULL && states[i] != NULL && filter_applies(filter, tag)) {
            rc = filter->kind->enrich(filter->self, states[i], metadata);
        }
        if (rc == 0 && filter->kind->describe != NULL && states[i] != NULL) {
            filter->kind->describe(filter->self, states[i], tag, metadata);
        }
    }
    return rc;
}

int tf_filters_constants(const struct tf_filters *filters, void *const *states, const char *tag,
                         const struct tf_agent_options *agent, struct tf_batch *metadata,
                         struct tf_constants *out)
{
    int rc = agent != NULL ? tf_filters_add_labels(agent, metadata) : 0;

    if (rc == 0) {
        rc = describe(filters, states, tag, metadata);
    }
    if (rc == 0) {
        rc = tf_filters_apply_own(filters, metadata);
    }
    return rc == 0 ? tf_constants_encode(metadata, out) : rc;
}

/* ---- filters that learn -------------------------------------------------------------------------
 */

int tf_filters_prepare(const struct tf_filters *filters, const char *host, struct tf_needs *needs,
                       struct tf_error *err)
{
    int rc = 0;

    for (size_t i = 0; i < filters->count && rc == 0; i++) {
        if (filters->items[i].kind->prepare != NULL) {
            rc = filters->items[i].kind->prepare(filters->items[i].self, host, needs, err);
        }
    }
    return rc;
}

int tf_filters_start(const struct tf_filters *filters, const struct tf_filter_start *start,
                     struct tf_error *err)
{
    int rc = 0;

    for (size_t i = 0; i < filters->count && rc == 0; i++) {
        if (filters->items[i].kind->start != NULL) {
            rc = filters->items[i].kind->start(filters->items[i].self, start, err);
        }
    }
    return rc;
}

static void stop_next(void *ctx)
{
    struct tf_filters *filters = ctx;

    while (filters->stopped < filters->count) {
        const struct filter *filter = &filters->items[filters->stopped++];

        if (filter->kind->stop != NULL) {
            filter->kind->stop(filter->self, stop_next, filters); /* goes on here */
            return;
        }
    }
    filters->on_stopped(filters->stopped_ctx);
}

void tf_filters_stop(struct tf_filters *filters, void (*on_stopped)(void *ctx), void *ctx)
{
    filters->on_stopped = on_stopped;
    filters->stopped_ctx = ctx;
    filters->stopped = 0;
    stop_next(filters);
}

struct tf_filters_turn tf_filters_turn(const struct tf_filters *filters, void *const *states,
                                       const char *tag, uint64_t now_ms)
{
    struct tf_filters_turn all = {.waits = false};

    for (size_t i = 0; i < filters->count; i++) {
        const struct filter *filter = &filters->items[i];
        enum tf_filter_turn turn = TF_TURN_GO;
        uint64_t one_ms = 0;

        if (filter->kind->turn != NULL && states[i] != NULL && filter_applies(filter, tag)) {
            turn = filter->kind->turn(filter->self, states[i], now_ms, &one_ms);
        }
        all.waits = all.waits || turn == TF_TURN_WAIT;
        all.renews = all.renews || turn == TF_TURN_RENEW;
        all.until_ms = one_ms > all.until_ms ? one_ms : all.until_ms;
    }
    return all;
}
