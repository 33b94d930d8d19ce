/*
 * reach.c - whom the forward output calls, and when.
 *
 * The host: the first in the order of `hosts` that may be tried. One that failed may be tried again
 * after a random part (full jitter) of 500 ms, doubled with each failure up to 30 s. Only an ack
 * ends a host's failures: with TLS 1.3 a peer that refuses our certificate looks fine at first. Its
 * name is looked up for each attempt, and all of its addresses are tried in turn.
 *
 * A connection that max_age ended is no failure, nor is one that the peer closes in good order with
 * nothing in flight, once after an ack: it is replaced at once.
 *
 * All that leads to another attempt goes through the timer, so a failure never calls itself.
 */
#include "internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "taffrail/chance.h"
#include "taffrail/log.h"

#define BACKOFF_BASE_MS 500u
#define BACKOFF_CAP_MS  30000u

/* ---- time and chance ------------------------------------------------------------------------ */

static uint64_t backoff_ms(uint32_t failures)
{
    return tf_random_up_to(tf_backoff_ms(BACKOFF_BASE_MS, BACKOFF_CAP_MS, failures));
}

/* ---- whom to call --------------------------------------------------------------------------- */

/* The first host that may be tried now, else the one that may be soonest. */
static struct forward_host *pick(struct forward *self)
{
    uint64_t now = uv_now(self->loop);
    struct forward_host *soonest = &self->hosts[0];

    for (uint32_t i = 0; i < self->host_count; i++) {
        struct forward_host *host = &self->hosts[i];

        if (host->retry_at_ms <= now) {
            return host;
        }
        if (host->retry_at_ms < soonest->retry_at_ms) {
            soonest = host;
        }
    }
    return soonest;
}

void tf_forward_schedule(struct forward *self)
{
    uint64_t now = uv_now(self->loop), at_ms = pick(self)->retry_at_ms;

    self->state = FORWARD_WAITING;
    (void)uv_timer_start(&self->timer, tf_forward_on_timer, at_ms > now ? at_ms - now : 0, 0);
}

static void tell_down(struct forward *self, const char *reason)
{
    const struct forward_host *next = pick(self);
    uint64_t now = uv_now(self->loop);
    char text[TF_FORWARD_HOST_TEXT_BYTES];

    tf_forward_host_print(&next->at, text);
    if (next != self->host && next->retry_at_ms <= now) {
        tf_log(TF_LOG_WARN, "output-down",
               TF_DETAILS(TF_STR("output", self->name), TF_STR("peer", self->peer)),
               "%s; next is %s, records wait in the spool", reason, text);
        return;
    }
    tf_log(TF_LOG_WARN, "output-down",
           TF_DETAILS(TF_STR("output", self->name), TF_STR("peer", self->peer)),
           "%s; retry in %" PRIu64 " ms, records wait in the spool", reason,
           next->retry_at_ms > now ? next->retry_at_ms - now : 0);
}

static void host_failed(struct forward *self, const char *reason)
{
    struct forward_host *host = self->host;

    host->failures += host->failures < UINT32_MAX;
    host->retry_at_ms = uv_now(self->loop) + backoff_ms(host->failures);
    self->planned = false;
    (void)snprintf(self->down, sizeof self->down, "%s", reason);
    tell_down(self, reason);
    tf_forward_schedule(self);
}

void tf_forward_note(struct forward *self, const char *format, ...)
{
    va_list args;

    if (self->why[0] != '\0') {
        return;
    }
    va_start(args, format);
    (void)vsnprintf(self->why, sizeof self->why, format, args);
    va_end(args);
}

/* What a link says of its end; text is room for what it does not say. */
static const char *reason_of(const char *reason, int status, char *text, size_t size)
{
    if (reason != NULL && reason[0] != '\0') {
        return reason;
    }
    return status == 0 ? "the receiver closed the connection" : uv_strerror_r(status, text, size);
}

/* ---- addresses ------------------------------------------------------------------------------ */

static void name_peer(struct forward *self, const struct sockaddr_storage *address)
{
    char ip[64] = "";
    bool is_ipv6 = address->ss_family == AF_INET6;

    (void)uv_ip_name((const struct sockaddr *)address, ip, sizeof ip);
    (void)snprintf(self->peer, sizeof self->peer, "%s%s%s:%u", is_ipv6 ? "[" : "", ip,
                   is_ipv6 ? "]" : "", self->host->at.port);
}

/* Begins to connect to the next address; the host has failed when there is none. */
static void try_address(struct forward *self)
{
    char why[TF_LINK_REASON_MAX + 1];

    self->state = FORWARD_CONNECTING;
    while (self->address_index < self->addresses.count) {
        const struct sockaddr_storage *address = &self->addresses.items[self->address_index++];
        struct tf_link_events events = tf_forward_link_events;
        char text[64];
        int rc;

        events.ctx = self;
        name_peer(self, address);
        rc = tf_link_connect(self->loop, self->tls, (const struct sockaddr *)address,
                             self->host->at.name, self->options->connect_timeout_ms, &events,
                             &self->link);
        if (rc == 0) {
            return;
        }
        self->failures++;
        self->why[0] = '\0';
        tf_forward_note(self, "connect: %s", uv_strerror_r(rc, text, sizeof text));
    }
    memcpy(why, self->why, sizeof why);
    self->why[0] = '\0';
    host_failed(self, why);
}

static void on_looked_up(uv_getaddrinfo_t *lookup, int status, struct addrinfo *list)
{
    struct forward *self = lookup->data;
    char text[64], reason[TF_LINK_REASON_MAX + 1];

    self->lookup_open = false;
    if (status == 0) {
        tf_forward_addresses_add(&self->addresses, list);
    }
    uv_freeaddrinfo(list);
    if (self->state == FORWARD_ENDING) {
        tf_forward_finish(self);
        return;
    }
    if (status == 0 && self->addresses.count > 0) {
        try_address(self);
        return;
    }
    self->failures++;
    tf_sandbox_look(NULL);
    (void)snprintf(reason, sizeof reason, "resolve: %s",
                   status == 0 ? "the name has no address"
                               : uv_strerror_r(status, text, sizeof text));
    host_failed(self, reason);
}

void tf_forward_attempt(struct forward *self)
{
    char text[64], reason[TF_LINK_REASON_MAX + 1], host[TF_FORWARD_HOST_TEXT_BYTES];
    int rc;

    self->host = pick(self);
    self->addresses.count = self->address_index = 0;
    self->why[0] = '\0';
    tf_forward_host_print(&self->host->at, host);
    (void)snprintf(self->peer, sizeof self->peer, "%.*s", (int)sizeof self->peer - 1, host);
    if (tf_forward_addresses_literal(&self->addresses, &self->host->at)) {
        try_address(self);
        return;
    }
    rc = tf_forward_look_up(self->loop, &self->lookup, &self->host->at, on_looked_up);
    if (rc < 0) {
        (void)snprintf(reason, sizeof reason, "resolve: %s", uv_strerror_r(rc, text, sizeof text));
        host_failed(self, reason);
        return;
    }
    self->lookup.data = self;
    self->lookup_open = true;
    self->state = FORWARD_RESOLVING;
}

/* ---- the end of a connection ---------------------------------------------------------------- */

static void connection_ended(struct forward *self, int status, const char *reason)
{
    char text[64], why[TF_LINK_REASON_MAX + 1];
    bool idle = status == 0 && self->sent_count == 0 && self->why[0] == '\0';

    (void)snprintf(why, sizeof why, "%s",
                   self->why[0] != '\0' ? self->why : reason_of(reason, status, text, sizeof text));
    self->why[0] = '\0';
    self->identity[0] = '\0';
    self->sent_count = 0;
    tf_feed_rewind(self->feed); /* without a connection nothing is handed out */
    if (self->planned || (idle && self->may_close_idle)) {
        self->may_close_idle &= self->planned;
        self->planned = true;
        self->host->retry_at_ms = 0;
        tf_forward_schedule(self);
        return;
    }
    host_failed(self, why);
}

void tf_forward_link_closed(void *ctx, int status, const char *reason)
{
    struct forward *self = ctx;
    char text[64];

    self->link = NULL;
    if (self->state == FORWARD_ENDING) {
        tf_forward_finish(self);
    } else if (self->state == FORWARD_CONNECTING) {
        self->failures++;
        self->why[0] = '\0';
        tf_forward_note(self, "%s", reason_of(reason, status, text, sizeof text));
        tf_log(TF_LOG_DEBUG, "output-address",
               TF_DETAILS(TF_STR("output", self->name), TF_STR("peer", self->peer)), "%s",
               self->why);
        try_address(self);
    } else {
        connection_ended(self, status, reason);
    }
}
