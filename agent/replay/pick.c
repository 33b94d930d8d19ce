/*
 * pick.c - inflates a frame in bounds, walks its events, asks the query for each.
 *
 * Gap records inside the span are noted whatever the conditions say: what is lost may have been
 * what is looked for.
 */
#include "pick.h"

#include <errno.h>

#include "taffrail/event.h"

#define PLAIN_MAX_BYTES (16u << 20) /* as the outputs; a draft has at most 15 MiB */

void tf_pick_init(struct tf_pick *pick, struct tf_archive *archive, struct tf_query *query,
                  uint64_t after_seq)
{
    struct tf_archive_query span = {.after_seq = after_seq};

    memset(pick, 0, sizeof *pick);
    pick->archive = archive;
    pick->query = query;
    pick->limit = UINT64_MAX;
    tf_buf_init(&pick->plain, PLAIN_MAX_BYTES);
    tf_query_span(query, &span.from_ns, &span.to_ns);
    tf_archive_query(archive, &span);
}

void tf_pick_fini(struct tf_pick *pick)
{
    tf_buf_fini(&pick->plain);
}

bool tf_pick_is_full(const struct tf_pick *pick)
{
    return pick->found >= pick->limit;
}

bool tf_pick_takes_tag(const struct tf_pick *pick, struct tf_slice tag)
{
    for (size_t i = 0; pick->match != NULL && i < pick->match->count; i++) {
        if (tf_glob_match(pick->match->items[i].text, tag, '.')) {
            return true;
        }
    }
    return pick->match == NULL;
}

int tf_pick_next(struct tf_pick *pick, struct tf_archived *out)
{
    while (!tf_pick_is_full(pick)) {
        int rc = tf_archive_next(pick->archive, out);

        if (rc <= 0) {
            return rc;
        }
        if (out->kind != TF_ARCHIVED_FRAME) {
            tf_gaps_add_loss(&pick->gaps, out);
        } else if (tf_pick_takes_tag(pick, out->tag)) {
            return 1;
        }
    }
    return 0;
}

/* What GCM has proved and yet is no gzip of events: a writer's fault, or another format. */
static void note_unsound(struct tf_pick *pick, const struct tf_archived *frame)
{
    struct tf_archived lost = {.kind = TF_ARCHIVED_DAMAGED,
                               .segment_no = frame->segment_no,
                               .from_seq = frame->seq,
                               .to_seq = frame->seq,
                               .lost_events = frame->events};

    tf_gaps_add_loss(&pick->gaps, &lost);
}

static int pick_event(struct tf_pick *pick, struct tf_slice event, int64_t time_ns,
                      struct tf_slice tag, tf_picked_fn *fn, void *ctx)
{
    int64_t from_ns, to_ns;

    tf_query_span(pick->query, &from_ns, &to_ns);
    if (time_ns >= from_ns && time_ns < to_ns) {
        tf_gaps_add_event(&pick->gaps, time_ns, tag, event);
    }
    if (tf_pick_is_full(pick) || !tf_query_matches(pick->query, time_ns, tag, event)) {
        return 0;
    }
    pick->found++;
    return fn(ctx, event, tag);
}

int tf_pick_events(struct tf_pick *pick, const struct tf_archived *frame, tf_picked_fn *fn,
                   void *ctx)
{
    int rc = tf_archive_inflate(frame->payload, &pick->plain);
    struct tf_slice rest = tf_buf_slice(&pick->plain);

    while (rc == 0 && rest.size > 0) {
        int64_t time_ns = 0, size = tf_event_measure(rest, &time_ns);

        if (size <= 0) {
            rc = -EPROTO;
            break;
        }
        rc = pick_event(pick, tf_slice(rest.data, (size_t)size), time_ns, frame->tag, fn, ctx);
        if (rc < 0) {
            return rc;
        }
        rest = tf_slice(rest.data + size, rest.size - (size_t)size);
    }
    if (rc == -EPROTO || rc == -EMSGSIZE) {
        note_unsound(pick, frame);
        return 0;
    }
    return rc;
}
