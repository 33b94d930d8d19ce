/*
 * input.c - the forward input: the collector's ear, for messages of the Fluent Forward Protocol v1
 * over mutual TLS.
 *
 * open checks options and loads certificates, start makes or loads the key of receipts and listens,
 * close stops reading, waits until what was handed on is durable and acked, then ends. Who may send
 * is said by `allow`: the identity that the handshake proved decides, an identity without an entry
 * is turned away.
 *
 * Limits over all connections, and what happens at them:
 *
 *     not yet authenticated    TF_UNPROVED_FACTOR * limits.handshakes: accept waits
 *     the same, one address    TF_UNPROVED_ADDRESS (an address is a /64 of IPv6): refused
 *     connections, per_identity              refused
 *     memory                   reading stops; one connection at a time reads its message to the end
 *     refusals told            TF_REFUSALS_TOLD a second in log and audit, the others counted
 *
 * Each refusal is counted, logged as `refused` with its reason and peer, and recorded in the audit.
 * docs/forward-input.md has the words. Not here: a connection's bytes (connection.c), names
 * (names.c).
 */
#include "internal.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define BACKLOG         512
#define TICK_MAX_MS     250u
#define TICK_MIN_MS     20u
#define TICK_SOON_MS    5u
#define FORGET_EVERY_MS (3600u * 1000u)

/* ---- options -------------------------------------------------------------------------------- */

static const struct tf_option limits_table[] = {
    {.name = "connections",
     .type = TF_OPTION_COUNT,
     .offset = offsetof(struct limits, connections),
     .def = "4096",
     .min = 1,
     .max = 65536,
     .about = "authenticated connections at once; further ones are refused"},
    {.name = "per_identity",
     .type = TF_OPTION_COUNT,
     .offset = offsetof(struct limits, per_identity),
     .def = "8",
     .min = 1,
     .max = 65536,
     .about = "connections of one identity at once; further ones are refused"},
    {.name = "message",
     .type = TF_OPTION_SIZE,
     .offset = offsetof(struct limits, message_bytes),
     .def = "8MiB",
     .min = 1024,
     .max = TF_MESSAGE_BYTES_MAX,
     .about = "largest message, as encoded; a larger one is refused"},
    {.name = "memory",
     .type = TF_OPTION_SIZE,
     .offset = offsetof(struct limits, memory_bytes),
     .def = "256MiB",
     .min = 1 << 20,
     .about = "bytes held in messages over all connections; then reading stops in turn"},
    {.name = "idle",
     .type = TF_OPTION_TIME,
     .offset = offsetof(struct limits, idle_ms),
     .def = "5m",
     .min = 100,
     .about = "a connection without a byte for so long is closed"},
    {.name = "progress",
     .type = TF_OPTION_TIME,
     .offset = offsetof(struct limits, progress_ms),
     .def = "60s",
     .min = 100,
     .about = "a message must be whole within it"},
    {.name = "handshake",
     .type = TF_OPTION_TIME,
     .offset = offsetof(struct limits, handshake_ms),
     .def = "10s",
     .min = 100,
     .about = "a TLS handshake must be done within it"},
    {.name = "handshakes",
     .type = TF_OPTION_COUNT,
     .offset = offsetof(struct limits, handshakes),
     .def = "64",
     .min = 1,
     .max = 1024,
     .about = "four times as many connections may be not yet authenticated; then accept waits"},
    {0}};

static const struct tf_option allow_table[] = {
    {.name = "identity",
     .type = TF_OPTION_TEXT,
     .offset = offsetof(struct allow, identity),
     .required = true,
     .about = "URI, or dns:NAME; * stands for one whole path segment or label"},
    {.name = "tags",
     .type = TF_OPTION_TEXTS,
     .offset = offsetof(struct allow, tags),
     .def = "**",
     .about = "globs of the tags it may send; taffrail.audit always"},
    {.name = "relay",
     .type = TF_OPTION_SWITCH,
     .offset = offsetof(struct allow, relay),
     .def = "false",
     .about = "it may pass on records with the identities of others"},
    {0}};

static const struct tf_option options_table[] = {
    {.name = "listen",
     .type = TF_OPTION_TEXT,
     .offset = offsetof(struct forward_options, listen),
     .def = "0.0.0.0:24224",
     .about = "address and port, [ADDRESS]:PORT for IPv6; port 0 takes a free one"},
    {.name = "tls",
     .type = TF_OPTION_TABLE,
     .offset = offsetof(struct forward_options, tls),
     .required = true,
     .table = tf_tls_option_table,
     .about = "own certificate and key, and who signs those of senders"},
    {.name = "allow",
     .type = TF_OPTION_TABLES,
     .offset = offsetof(struct forward_options, allow),
     .required = true,
     .table = allow_table,
     .table_bytes = sizeof(struct allow),
     .about = "who may send what"},
    {.name = "limits",
     .type = TF_OPTION_TABLE,
     .offset = offsetof(struct forward_options, limits),
     .table = limits_table,
     .about = "bounds of what senders may use"},
    {0}};

/* "ADDRESS:PORT" or "[ADDRESS]:PORT", both in numbers. */
static int parse_listen(const struct tf_text *listen, struct sockaddr_storage *out,
                        struct tf_error *err)
{
    const char *text = listen->text;
    const char *colon = text == NULL ? NULL : strrchr(text, ':');
    char host[TF_PEER_MAX + 1];
    size_t size = colon == NULL ? 0 : (size_t)(colon - text);
    bool is_v6 = size > 2 && text[0] == '[' && text[size - 1] == ']';
    unsigned long port = 0;
    int rc = -EINVAL;

    if (is_v6) {
        text++;
        size -= 2;
    }
    for (const char *at = colon == NULL ? "" : colon + 1; *at != '\0'; at++) {
        port =
            *at >= '0' && *at <= '9' && port <= 65535 ? port * 10 + (unsigned)(*at - '0') : 65536;
    }
    if (colon != NULL && colon[1] != '\0' && size > 0 && size < sizeof host && port <= 65535) {
        memcpy(host, text, size);
        host[size] = '\0';
        rc = is_v6 ? uv_ip6_addr(host, (int)port, (struct sockaddr_in6 *)out)
                   : uv_ip4_addr(host, (int)port, (struct sockaddr_in *)out);
    }
    if (rc != 0) {
        return tf_error_add(err, &listen->at,
                            "listen \"%s\" is not an address and port; write 0.0.0.0:24224 or "
                            "[::]:24224",
                            listen->text == NULL ? "" : listen->text);
    }
    return 0;
}

static int check_allow(const struct tf_tables *allow, const struct tf_place *at,
                       struct tf_error *err)
{
    const struct allow *items = allow->items;
    int rc = 0;

    if (allow->count == 0) {
        rc = tf_error_add(err, allow->at.line > 0 ? &allow->at : at,
                          "allow is empty, so nobody may send; write allow: [{identity: "
                          "\"spiffe://example.com/node/*\"}]");
    }
    for (size_t i = 0; i < allow->count; i++) {
        if (items[i].identity.text == NULL || items[i].identity.text[0] == '\0') {
            rc = tf_error_add(err, at, "an entry of allow has no identity");
        }
        for (size_t k = 0; k < items[i].tags.count; k++) {
            if (items[i].tags.items[k].text[0] == '\0') {
                rc = tf_error_add(err, &items[i].tags.items[k].at, "a tag glob is empty");
            }
        }
    }
    return rc;
}

static int check_tls(const struct tf_tls_options *tls, const struct tf_place *at,
                     struct tf_error *err)
{
    if (tls->ca.text == NULL || tls->cert.text == NULL || tls->key.text == NULL) {
        return tf_error_add(err, at,
                            "forward needs tls: {ca: FILE, cert: FILE, key: FILE}; senders must "
                            "prove who they are");
    }
    return 0;
}

static int forward_open(const struct tf_input_args *args, void **self, struct tf_error *err)
{
    struct forward *forward = calloc(1, sizeof *forward);
    int rc, other;

    if (forward == NULL) {
        return -ENOMEM;
    }
    forward->name = args->name;
    forward->at = args->at;
    forward->loop = args->loop;
    forward->options = args->options;
    forward->limits = forward->options->limits;
    rc = parse_listen(&forward->options->listen, &forward->address, err);
    other = check_allow(&forward->options->allow, &args->at, err);
    rc = rc == 0 ? other : rc;
    other = check_tls(&forward->options->tls, &args->at, err);
    if (other == 0) {
        other = tf_tls_server_new(&forward->options->tls, args->tls_files, &forward->tls, err);
    }
    rc = rc == 0 ? other : rc;
    if (rc < 0) {
        tf_tls_unref(forward->tls);
        free(forward);
        return rc;
    }
    *self = forward;
    return 0;
}

/* ---- telling refusals ----------------------------------------------------------------------- */

/* Whether one more may be told in this second. */
static bool may_tell(struct forward *forward)
{
    uint64_t now_ms = uv_now(forward->loop);

    if (forward->told_from_ms == 0 || now_ms - forward->told_from_ms >= 1000) {
        forward->told_from_ms = now_ms;
        forward->told = 0;
    }
    if (forward->told < TF_REFUSALS_TOLD) {
        forward->told++;
        return true;
    }
    forward->untold++;
    return false;
}

void tf_forward_tell_refused(struct forward *forward, const struct connection *conn,
                             const char *reason, const char *text)
{
    const char *identity = conn->sender == NULL ? "" : conn->sender->identity;

    tf_input_refused(&forward->status, reason, 1);
    if (forward->closing || !may_tell(forward)) {
        return;
    }
    tf_log(TF_LOG_WARN, "refused",
           TF_DETAILS(TF_STR("address", conn->address), TF_STR("reason", reason),
                      TF_STR("peer", conn->peer), TF_STR("identity", identity),
                      TF_STR("input", forward->name), TF_NUM("untold", forward->untold)),
           "%s", text);
    (void)tf_pipeline_audit(forward->pipeline, "refused", text,
                            TF_DETAILS(TF_STR("reason", reason), TF_STR("peer", conn->peer),
                                       TF_STR("sender", identity), TF_STR("input", forward->name),
                                       TF_NUM("untold", forward->untold)));
    forward->untold = 0;
}

/* ---- accepting ------------------------------------------------------------------------------ */

static uint32_t count_unproved(const struct forward *forward, const struct connection *one)
{
    uint32_t count = 0;

    for (const struct connection *at = forward->connections; at != NULL; at = at->next) {
        count += !at->proved && !at->closing &&
                 memcmp(at->address_key, one->address_key, sizeof one->address_key) == 0;
    }
    return count;
}

static void accept_one(struct forward *forward)
{
    struct connection *conn;
    int rc;

    if (forward->unproved >= TF_UNPROVED_FACTOR * forward->limits.handshakes) {
        forward->accept_waits = true;
        return;
    }
    forward->accept_waits = false;
    rc = tf_connection_accept(forward, &conn);
    if (rc < 0) {
        forward->status.errors[TF_INPUT_ACCEPT]++;
        forward->accept_waits = rc == -ENOMEM || rc == -EMFILE || rc == -ENFILE; /* tried again */
        return;
    }
    if (count_unproved(forward, conn) > TF_UNPROVED_ADDRESS) {
        tf_connection_refuse(conn, "address", "too many of its address are not authenticated yet");
    }
}

static void on_connection(uv_stream_t *listener, int status)
{
    struct forward *forward = listener->data;

    if (status < 0) {
        forward->status.errors[TF_INPUT_ACCEPT]++;
        tf_log(TF_LOG_ERROR, "listen", TF_DETAILS(TF_STR("input", forward->name)),
               "a connection could not be accepted: %s", uv_strerror(status));
        return;
    }
    accept_one(forward);
}

void tf_forward_proved(struct forward *forward)
{
    if (forward->accept_waits && !forward->closing) {
        accept_one(forward);
    }
}

void tf_forward_each(struct forward *forward, tf_connection_fn *fn)
{
    struct connection *conn = forward->connections;

    if (conn != NULL) {
        tf_connection_ref(conn);
    }
    while (conn != NULL) { /* one that is held stays in the list, so its next is sound */
        struct connection *next;

        fn(conn);
        next = conn->next;
        if (next != NULL) {
            tf_connection_ref(next);
        }
        tf_connection_unref(conn);
        conn = next;
    }
}

/* ---- start and time ------------------------------------------------------------------------- */

static void on_tick(uv_timer_t *timer)
{
    struct forward *forward = timer->data;

    tf_forward_each(forward, tf_connection_tick);
    tf_forward_proved(forward);
    if (uv_now(forward->loop) >= forward->next_forget_ms) {
        forward->next_forget_ms = uv_now(forward->loop) + FORGET_EVERY_MS;
        tf_names_forget(forward);
    }
}

static uint64_t tick_ms(const struct limits *limits)
{
    uint64_t tick = limits->idle_ms < limits->progress_ms ? limits->idle_ms : limits->progress_ms;

    tick /= 4;
    tick = tick < TICK_MIN_MS ? TICK_MIN_MS : tick;
    return tick > TICK_MAX_MS ? TICK_MAX_MS : tick;
}

void tf_forward_tick_soon(struct forward *forward)
{
    if (!forward->closing) {
        (void)uv_timer_start(&forward->timer, on_tick, TICK_SOON_MS, tick_ms(&forward->limits));
    }
}

static int begin_listening(struct forward *forward)
{
    int rc = uv_tcp_bind(&forward->listener, (const struct sockaddr *)&forward->address, 0);

    if (rc == 0) {
        rc = uv_listen((uv_stream_t *)&forward->listener, BACKLOG, on_connection);
    }
    return rc;
}

static void log_listening(const struct forward *forward)
{
    struct sockaddr_storage bound = {0};
    int size = sizeof bound;
    char host[TF_PEER_MAX + 1] = "", text[TF_PEER_MAX + 16];
    unsigned port;

    if (uv_tcp_getsockname(&forward->listener, (struct sockaddr *)&bound, &size) == 0) {
        (void)uv_ip_name((const struct sockaddr *)&bound, host, sizeof host);
    }
    port = ntohs(((const struct sockaddr_in *)&bound)->sin_port); /* of IPv6 it is there too */
    (void)snprintf(text, sizeof text, bound.ss_family == AF_INET6 ? "[%s]:%u" : "%s:%u", host,
                   port);
    tf_log(
        TF_LOG_INFO, "listening",
        TF_DETAILS(TF_STR("address", text), TF_NUM("port", port), TF_STR("input", forward->name)),
        "senders may connect");
}

static int forward_prepare(void *self, const char *spool_path, struct tf_needs *needs,
                           struct tf_error *err)
{
    struct forward *forward = self;

    /* Both kinds of address have their port at the same place. */
    tf_needs_port(needs, TF_NEED_LISTEN,
                  ntohs(((const struct sockaddr_in *)&forward->address)->sin_port));
    return tf_receipt_key_open(spool_path, &forward->at, &forward->receipt_key, err);
}

static int forward_start(void *self, struct tf_pipeline *pipeline, struct tf_error *err)
{
    struct forward *forward = self;
    int rc = uv_tcp_init(forward->loop, &forward->listener);

    if (rc < 0) {
        return rc;
    }
    forward->pipeline = pipeline;
    forward->listener.data = forward;
    (void)uv_timer_init(forward->loop, &forward->timer); /* cannot fail */
    forward->timer.data = forward;
    forward->open_handles = 2;
    if (forward->receipt_key == NULL) { /* it was not prepared: not `run` */
        rc = tf_receipt_key_open(tf_spool_path(tf_pipeline_spool(pipeline)), &forward->at,
                                 &forward->receipt_key, err);
        if (rc < 0) {
            return rc;
        }
    }
    rc = begin_listening(forward);
    if (rc < 0) {
        (void)tf_error_add(err, &forward->options->listen.at, "cannot listen on %s: %s",
                           forward->options->listen.text, uv_strerror(rc));
        return rc;
    }
    forward->next_forget_ms = uv_now(forward->loop); /* what grew old while nobody ran */
    (void)uv_timer_start(&forward->timer, on_tick, tick_ms(&forward->limits),
                         tick_ms(&forward->limits));
    log_listening(forward);
    return 0;
}

/* ---- end ------------------------------------------------------------------------------------ */

static void close_one(struct connection *conn)
{
    tf_connection_close(conn, "the collector goes back to what is durable");
}

static void forward_rewind(void *self)
{
    tf_forward_each(self, close_one);
}

void tf_forward_input_finish(struct forward *forward)
{
    void (*on_closed)(void *ctx) = forward->on_closed;
    void *ctx = forward->closed_ctx;

    if (!forward->closing || forward->open_handles > 0 || forward->connections != NULL) {
        return;
    }
    assert(forward->senders == NULL && forward->held_bytes == 0);
    tf_receipt_key_free(forward->receipt_key);
    tf_tls_unref(forward->tls);
    free(forward);
    on_closed(ctx);
}

static void on_handle_closed(uv_handle_t *handle)
{
    struct forward *forward = handle->data;

    assert(forward->open_handles > 0);
    forward->open_handles--;
    tf_forward_input_finish(forward);
}

static void forward_close(void *self, void (*on_closed)(void *ctx), void *ctx)
{
    struct forward *forward = self;

    forward->closing = true;
    forward->on_closed = on_closed;
    forward->closed_ctx = ctx;
    if (forward->open_handles == 0) {
        tf_forward_input_finish(forward); /* never started */
        return;
    }
    tf_forward_each(forward, tf_connection_drain);
    uv_close((uv_handle_t *)&forward->listener, on_handle_closed);
    uv_close((uv_handle_t *)&forward->timer, on_handle_closed);
}

static void forward_summarize(void *self, struct tf_buf *out)
{
    const struct forward *forward = self;

    (void)tf_buf_printf(out, "on %s, ", forward->options->listen.text);
    tf_tls_summarize(forward->tls, out);
}

static void forward_status(const void *self, struct tf_input_status *status)
{
    const struct forward *forward = self;

    *status = forward->status;
    status->connections = forward->proved;
    status->sources = forward->proved;
    status->certificate_until_s = tf_tls_until_s(forward->tls);
}

const struct tf_input_kind tf_input_forward = {
    .name = "forward",
    .options = options_table,
    .options_bytes = sizeof(struct forward_options),
    .is_receiver = true,
    .open = forward_open,
    .prepare = forward_prepare,
    .summarize = forward_summarize,
    .start = forward_start,
    .pump = tf_connection_pump,
    .position = tf_connection_position,
    .pumped = tf_connection_pumped,
    .committed = tf_connection_committed,
    .on_removed = tf_connection_on_removed,
    .rewind = forward_rewind,
    .close = forward_close,
    .status = forward_status,
};
