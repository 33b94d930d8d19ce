/*
 * events.c - what the spool has to say (a fork, a seal that was lost), as audit records.
 *
 * An event comes from inside a call of the spool, or of an output while it takes acks, where no
 * record may be appended. So it is copied, and becomes a record with the loop's next turn; those of
 * the start wait until the record of the start is made. At most TF_EVENTS_MAX wait: each is in the
 * log too, where whoever raises it says it first.
 */
#include "internal.h"

#include <stdio.h>
#include <stdlib.h>

static void on_event_timer(uv_timer_t *timer)
{
    tf_events_flush(timer->data);
}

void tf_events_take(void *ctx, const char *event, const char *text)
{
    struct tf_pipeline *pipeline = ctx;
    size_t size = strlen(text) + 1;
    struct event *taken =
        pipeline->event_count < TF_EVENTS_MAX ? malloc(sizeof *taken + size) : NULL;

    if (taken == NULL) {
        pipeline->events_lost++;
        return;
    }
    taken->next = NULL;
    (void)snprintf(taken->name, sizeof taken->name, "%s", event);
    memcpy(taken->text, text, size);
    if (pipeline->last_event != NULL) {
        pipeline->last_event->next = taken;
    } else {
        pipeline->first_event = taken;
    }
    pipeline->last_event = taken;
    pipeline->event_count++;
    if (pipeline->open_handles > 0) {
        (void)uv_timer_start(&pipeline->event_timer, on_event_timer, 0, 0);
    }
}

static struct event *pop(struct tf_pipeline *pipeline)
{
    struct event *event = pipeline->first_event;

    if (event != NULL) {
        pipeline->first_event = event->next;
        pipeline->last_event = event->next == NULL ? NULL : pipeline->last_event;
        pipeline->event_count--;
    }
    return event;
}

/* Nobody closes frames any more. */
static bool is_over(const struct tf_pipeline *pipeline)
{
    return pipeline->inputs_closed && !uv_is_active((const uv_handle_t *)&pipeline->stop_timer);
}

void tf_events_flush(struct tf_pipeline *pipeline)
{
    struct event *event;

    if (is_over(pipeline)) {
        return; /* what waits is dropped with the pipeline */
    }
    while ((event = pop(pipeline)) != NULL) {
        (void)tf_pipeline_audit(pipeline, event->name, event->text, NULL, 0); /* the log has it */
        free(event);
    }
    if (pipeline->events_lost > 0) {
        tf_log(TF_LOG_WARN, "events-lost", TF_DETAILS(TF_NUM("count", pipeline->events_lost)),
               "audit records of the spool were not made; the log has what they said");
        pipeline->events_lost = 0;
    }
}

void tf_events_drop(struct tf_pipeline *pipeline)
{
    struct event *event;

    while ((event = pop(pipeline)) != NULL) {
        free(event);
    }
}
