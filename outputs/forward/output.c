/*
 * output.c - the forward output: delivers frames to a collector over mutual TLS, at least once.
 *
 * What is sent is docs/protocol.md, section 2; how it is retried, docs/forward-output.md. States:
 *
 *     WAITING     no connection; the timer tells when a host may be tried again
 *     RESOLVING   the host's name is looked up
 *     CONNECTING  its addresses are tried in turn; nothing is sent before the peer is verified
 *     UP          frames are sent, acks taken
 *     DRAINING    the connection is max_age old: acks are taken, nothing more is sent
 *     DROPPING    the connection is being closed
 *     ENDING      close was called; self is freed when timer, lookup and link are closed
 *
 * Each state leads to the next, those with a connection back to WAITING, each to ENDING. When a
 * connection ends, what it did not get acked goes back to the feed (tf_feed_rewind).
 *
 * Left to others: whom to call (reach.c), what goes over a connection (session.c), what receivers
 * sign (receipt.c), a look at receivers without a start (probe.c), identities and certificates
 * (agent/tls), order and cursors (the feed).
 */
#include "internal.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

static const struct tf_option forward_options[] = {
    {.name = "hosts",
     .type = TF_OPTION_TEXTS,
     .is_exclusive = true,
     .offset = offsetof(struct tf_forward_options, hosts),
     .required = true,
     .about = "Receivers, host or host:port (24224), the first that works is used."},
    {.name = "tls",
     .type = TF_OPTION_TABLE,
     .offset = offsetof(struct tf_forward_options, tls),
     .required = true,
     .table = tf_tls_option_table,
     .about = "Certificates of this end, and who the receiver must prove to be."},
    {.name = "ack_timeout",
     .type = TF_OPTION_TIME,
     .offset = offsetof(struct tf_forward_options, ack_timeout_ms),
     .def = "60s",
     .min = 1000,
     .max = 3600000,
     .about = "A frame that is not acknowledged for so long is sent again on a new connection."},
    {.name = "connect_timeout",
     .type = TF_OPTION_TIME,
     .offset = offsetof(struct tf_forward_options, connect_timeout_ms),
     .def = "10s",
     .min = 100,
     .max = 600000,
     .about = "For connecting to one address, and as long again for its handshake."},
    {.name = "max_age",
     .type = TF_OPTION_TIME,
     .offset = offsetof(struct tf_forward_options, max_age_ms),
     .def = "1h",
     .min = 10000,
     .max = UINT64_C(7) * 86400000,
     .about = "A connection is replaced when it is so old, give or take a tenth."},
    {0},
};

void tf_forward_on_timer(uv_timer_t *timer)
{
    struct forward *self = timer->data;

    if (self->state == FORWARD_WAITING) {
        tf_forward_attempt(self);
    } else if (self->state == FORWARD_UP || self->state == FORWARD_DRAINING) {
        tf_forward_check(self);
    }
}

static int read_hosts(struct forward *self, const struct tf_texts *hosts, struct tf_error *err)
{
    int rc = 0;

    if (hosts->count == 0 || hosts->count > TF_FORWARD_HOSTS_MAX) {
        return tf_error_add(err, &hosts->at, "hosts: %zu are given, 1 to %u are allowed",
                            hosts->count, TF_FORWARD_HOSTS_MAX);
    }
    for (size_t i = 0; i < hosts->count; i++) {
        struct tf_forward_host *host = &self->hosts[self->host_count].at;
        bool is_new = true;

        if (tf_forward_host_parse(&hosts->items[i], host, err) < 0) {
            rc = -EINVAL;
            continue;
        }
        for (uint32_t k = 0; k < self->host_count && is_new; k++) {
            is_new = !tf_forward_host_equal(&self->hosts[k].at, host);
        }
        if (is_new) {
            self->host_count++;
        } else {
            rc = tf_error_add(err, &hosts->items[i].at, "hosts: \"%s\" is listed twice; leave one",
                              hosts->items[i].text);
        }
    }
    return rc;
}

static void forward_free(struct forward *self)
{
    tf_tls_unref(self->tls);
    tf_buf_fini(&self->answers);
    tf_buf_fini(&self->around);
    free(self);
}

static int forward_open(const struct tf_output_args *args, void **out, struct tf_error *err)
{
    struct forward *self = calloc(1, sizeof *self);
    int rc, tls_rc;

    if (self == NULL) {
        return -ENOMEM;
    }
    self->options = args->options;
    self->loop = args->loop;
    (void)snprintf(self->name, sizeof self->name, "%s", args->name);
    tf_buf_init(&self->answers, TF_ANSWER_BYTES_MAX);
    tf_buf_init(&self->around, TF_AROUND_BYTES_MAX);
    rc = read_hosts(self, &self->options->hosts, err);
    tls_rc = tf_tls_client_new(&self->options->tls, args->tls_files, &self->tls, err);
    rc = rc < 0 ? rc : tls_rc;
    if (rc < 0) {
        forward_free(self);
        return rc;
    }
    tf_forward_witness_init(self);
    *out = self;
    return 0;
}

static void forward_needs(const void *ptr, struct tf_needs *needs)
{
    const struct forward *self = ptr;

    for (uint32_t i = 0; i < self->host_count; i++) {
        tf_needs_port(needs, TF_NEED_CONNECT, self->hosts[i].at.port);
        if (!tf_forward_host_is_literal(&self->hosts[i].at)) {
            tf_needs_names(needs);
        }
    }
}

static int forward_start(void *ptr, struct tf_feed *feed, struct tf_error *err)
{
    struct forward *self = ptr;

    (void)err;
    assert(self->feed == NULL);
    self->feed = feed;
    (void)uv_timer_init(self->loop, &self->timer);
    self->timer.data = self;
    self->timer_open = true;
    tf_forward_schedule(self);
    return 0;
}

static void forward_wake(void *ptr)
{
    tf_forward_pump(ptr);
}

void tf_forward_finish(struct forward *self)
{
    void (*on_closed)(void *ctx) = self->on_closed;
    void *ctx = self->closed_ctx;

    if (self->timer_open || self->lookup_open || self->link != NULL) {
        return;
    }
    forward_free(self);
    on_closed(ctx);
}

static void on_timer_closed(uv_handle_t *handle)
{
    struct forward *self = handle->data;

    self->timer_open = false;
    tf_forward_finish(self);
}

static void forward_close(void *ptr, void (*on_closed)(void *ctx), void *ctx)
{
    struct forward *self = ptr;
    bool started = self->timer_open;

    assert(self->on_closed == NULL);
    self->on_closed = on_closed;
    self->closed_ctx = ctx;
    self->state = FORWARD_ENDING;
    if (!started) {
        tf_forward_finish(self);
        return;
    }
    if (self->lookup_open) {
        (void)uv_cancel((uv_req_t *)&self->lookup); /* else it ends with the resolver's timeout */
    }
    if (self->link != NULL) {
        tf_link_close(self->link, "this end stops");
    }
    uv_close((uv_handle_t *)&self->timer, on_timer_closed); /* comes later: self is still there */
}

static void forward_summarize(const void *ptr, struct tf_buf *out)
{
    const struct forward *self = ptr;
    char hosts[TF_COUNTED_TEXT_BYTES];

    (void)tf_buf_printf(out, "%s, ", tf_counted_text(self->host_count, "host", hosts));
    tf_tls_summarize(self->tls, out);
}

static void forward_status(const void *ptr, struct tf_output_status *status)
{
    const struct forward *self = ptr;

    *status = (struct tf_output_status){.up = self->state == FORWARD_UP ||
                                              self->state == FORWARD_DRAINING,
                                        .failures = self->failures,
                                        .certificate_until_s = tf_tls_until_s(self->tls),
                                        .connects = self->connects,
                                        .retries = self->retries};
    (void)snprintf(status->why, sizeof status->why, "%s", self->down);
    if (status->up) {
        (void)snprintf(status->peer, sizeof status->peer, "%s", self->peer);
        (void)snprintf(status->identity, sizeof status->identity, "%s", self->identity);
    }
}

const struct tf_output_kind tf_output_forward = {
    .name = "forward",
    .options = forward_options,
    .options_bytes = sizeof(struct tf_forward_options),
    .window = TF_FORWARD_WINDOW,
    .unsaved_max = TF_FORWARD_UNSAVED_MAX,
    .open = forward_open,
    .needs = forward_needs,
    .summarize = forward_summarize,
    .start = forward_start,
    .wake = forward_wake,
    .close = forward_close,
    .status = forward_status,
    .probe = tf_forward_probe,
};
