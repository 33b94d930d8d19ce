/*
 * probe.c - tries each receiver of a forward output once, for `check --connect`.
 *
 *     NEXT        the timer begins with the next address, or host, or ends it
 *     RESOLVING   the host's name is looked up, for connect_timeout at most
 *     CONNECTING  a link with the output's own settings: whatever it refuses, `run` would refuse
 *     LISTENING   the handshake is done; the receiver has QUIET_MS to say that it will not have us
 *     ASKED       it has not; close_notify was sent, and is answered, or not within ANSWER_MS
 *     GIVEN_UP    it was not; the link is being closed
 *
 * As in reach.c all addresses of a name are tried in turn until one is good; what is told is the
 * one that came furthest, and beside it what was wrong with the others.
 *
 * No byte of the forward protocol is sent, so nothing can be stored. That our certificate is taken
 * must show all the same, and with TLS 1.3 the handshake is over here before it is looked at there
 * (RFC 8446, section 4.4.2): an alert may follow, and a collector whose `allow` has no entry for us
 * closes. So it is `ok` where the receiver says something, or has kept the connection for QUIET_MS
 * and then answers our close_notify with its own: it reads in order, and has read our certificate
 * by then. Where it does neither, that is said.
 *
 * Bounds: TF_ANSWER_BYTES_MAX are read; a host takes connect_timeout for each address, as long
 * again for its handshake, and then QUIET_MS, ANSWER_MS and the end of a link.
 */
#include "internal.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define QUIET_MS   1000u /* and two ways to the receiver and back */
#define ANSWER_MS  2000u
#define DATE_CHARS 10 /* of a time: "2026-11-02" */

enum probing { NEXT, RESOLVING, CONNECTING, LISTENING, ASKED, GIVEN_UP };

enum step { RESOLVE, CONNECT, HELLO, CERTIFICATE, NAME, OURS, FORWARD, STEPS };
static_assert(STEPS <= TF_PROBE_STEPS_MAX, "there is room for each step");

static const char *const step_names[STEPS] = {
    "resolve", "connect", "hello", "their certificate", "their name", "our certificate", "forward",
};

struct prober {
    struct forward *output;
    struct tf_probe_events events;
    uv_timer_t timer;
    enum probing state;
    uint32_t host_index;
    struct lookup *lookup; /* that is waited for, or NULL */
    uint32_t lookups;      /* that the resolver has not ended, those given up too */
    uint64_t began_ms;
    struct tf_forward_addresses addresses;
    uint32_t address_index;
    struct tf_link *link;
    bool wants_key; /* it said HELO */
    size_t answer_bytes;
    char answer[TF_ANSWER_BYTES_MAX];

    char receiver[TF_FORWARD_HOST_TEXT_BYTES];
    char own_identity[TF_IDENTITY_MAX + 1], own[TF_PROBE_TEXT_MAX + 1]; /* and until when */
    struct tf_probe host; /* as far as the address does not matter */
    struct tf_probe best; /* of the addresses tried */
    bool has_best;
    char others[TF_PROBE_TEXT_MAX + 1];
};

/* One that was given up ends when the resolver does. */
struct lookup {
    uv_getaddrinfo_t request;
    struct prober *prober;
};

static void on_timer(uv_timer_t *timer);

static void turn_to(struct prober *prober, enum probing state, uint64_t after_ms)
{
    prober->state = state;
    (void)uv_timer_start(&prober->timer, on_timer, after_ms, 0);
}

/* ---- what is told --------------------------------------------------------------------------- */

static void set_text(char text[TF_PROBE_TEXT_MAX + 1], const char *format, va_list args)
{
    (void)vsnprintf(text, TF_PROBE_TEXT_MAX + 1, format, args);
    for (char *at = text; *at != '\0'; at++) {
        if ((unsigned char)*at < 0x20 || *at == 0x7f) {
            *at = '?';
        }
    }
}

static void tell(struct tf_probe *probe, enum step step, enum tf_probe_state state,
                 const char *format, ...) TF_PRINTF(4, 5);
static void tell(struct tf_probe *probe, enum step step, enum tf_probe_state state,
                 const char *format, ...)
{
    va_list args;

    probe->steps[step].state = state;
    va_start(args, format);
    set_text(probe->steps[step].text, format, args);
    va_end(args);
}

static void tell_time(struct tf_probe *probe, enum step step, uint64_t took_ms)
{
    probe->steps[step].is_timed = true;
    probe->steps[step].took_ms = took_ms;
}

static void tell_about(struct tf_probe *probe, enum step step, const char *text)
{
    (void)snprintf(probe->steps[step].about, sizeof probe->steps[step].about, "%s", text);
}

static void set_mend(struct tf_probe *probe, const char *format, ...) TF_PRINTF(2, 3);
static void set_mend(struct tf_probe *probe, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    set_text(probe->mend, format, args);
    va_end(args);
}

/* The step that failed; STEPS when none did. */
static uint32_t reached(const struct tf_probe *probe)
{
    const struct tf_probe_step *failed = tf_probe_find(probe, TF_PROBE_FAILED);

    return failed == NULL ? STEPS : (uint32_t)(failed - probe->steps);
}

/* What was wrong with an address that is not the one told. */
static void tell_other(struct prober *prober, const struct tf_probe *probe)
{
    uint32_t failed = reached(probe);
    size_t used = strlen(prober->others);
    const char *address = failed > CONNECT ? probe->steps[CONNECT].text : "";

    assert(failed < STEPS);
    (void)snprintf(prober->others + used, sizeof prober->others - used, "%s%s%s%s",
                   used > 0 ? "; " : "", address, address[0] != '\0' ? ": " : "",
                   probe->steps[failed].text);
}

static void take_attempt(struct prober *prober, const struct tf_probe *attempt)
{
    if (!prober->has_best || reached(attempt) > reached(&prober->best)) {
        if (prober->has_best) {
            tell_other(prober, &prober->best);
        }
        prober->best = *attempt;
        prober->has_best = true;
    } else {
        tell_other(prober, attempt);
    }
    turn_to(prober, NEXT, 0);
}

/* ---- judging a connection ------------------------------------------------------------------- */

static const char *connect_mend(int status)
{
    if (status == -ECONNREFUSED) {
        return "start the receiver there, or put its port into hosts";
    }
    if (status == -ETIMEDOUT) {
        return "let the firewalls in between pass it, or put the receiver's address into hosts";
    }
    return "look at this machine's routes and firewall, or put the receiver's address into hosts";
}

/* Not taken, whether by an alert or by closing: why is known there only. */
static void tell_refused(const struct prober *prober, struct tf_probe *probe, enum step step,
                         const char *text)
{
    tell(probe, step, TF_PROBE_FAILED, "%s", text);
    tell_about(probe, step, prober->own);
    set_mend(probe,
             "look into the receiver's log; its tls.ca must hold the CA of our certificate, its "
             "allow have an entry for %s",
             prober->own_identity);
}

static void tell_ours(const struct prober *prober, struct tf_probe *probe,
                      enum tf_probe_state state)
{
    tell(probe, OURS, state, "%s", prober->own);
    if (state == TF_PROBE_UNKNOWN) {
        tell_about(probe, OURS, "not refused so far; that it is taken shows with the first ack");
    }
}

/* The receiver has said something in the forward protocol, or in another. */
static void judge_answer(const struct prober *prober, struct tf_probe *probe)
{
    if (prober->wants_key) {
        tell(probe, FORWARD, TF_PROBE_FAILED, "wants a shared key, none is set");
        set_mend(probe, "unset it there, mutual TLS proves both ends; a shared key is not in this "
                        "release");
    } else {
        tell(probe, FORWARD, TF_PROBE_FAILED, "said what is not of the forward protocol");
        set_mend(probe, "put the port of a receiver of the forward protocol into hosts");
    }
}

/* The handshake is done on our side: what has the receiver made of it? */
static void judge_open(const struct prober *prober, struct tf_probe *probe, bool is_taken,
                       int status, const char *reason)
{
    bool is_kept = prober->state == ASKED || prober->state == GIVEN_UP;
    const char *text = status == 0 ? "closed by the receiver right after the hello" : reason;

    if (!is_taken && (!is_kept || status == -EACCES)) {
        tell_refused(prober, probe, OURS, text);
        return;
    }
    is_taken |= prober->state == ASKED && status == 0;
    tell_ours(prober, probe, is_taken ? TF_PROBE_OK : TF_PROBE_UNKNOWN);
    if (prober->answer_bytes > 0) {
        judge_answer(prober, probe);
    } else if (!is_kept) {
        tell_refused(prober, probe, FORWARD, text);
    } else {
        tell(probe, FORWARD, TF_PROBE_OK, "wants no shared key; nothing was sent");
    }
}

/* What failed, and its mend; each step before it is told already. */
static void judge(const struct prober *prober, struct tf_probe *probe,
                  const struct tf_link_facts *facts, int status, const char *reason)
{
    static const char connecting[] = "connect ";

    switch (facts->step) {
    case TF_LINK_CONNECT:
        if (strncmp(reason, connecting, sizeof connecting - 1) == 0) {
            reason += sizeof connecting - 1; /* the step is called so */
        }
        tell(probe, CONNECT, TF_PROBE_FAILED, "%s", reason);
        set_mend(probe, "%s", connect_mend(status));
        break;
    case TF_LINK_HELLO:
        tell(probe, HELLO, TF_PROBE_FAILED, "%s", reason);
        set_mend(probe, "put a port into hosts where a receiver speaks TLS, 1.3 unless "
                        "tls.min_version says 1.2");
        break;
    case TF_LINK_ISSUER:
        tell(probe, CERTIFICATE, TF_PROBE_FAILED, "%s", reason);
        tell_about(probe, CERTIFICATE, facts->certificate);
        set_mend(probe,
                 "put the CA that issued it into %s, or find out why the name leads to another "
                 "receiver",
                 prober->output->options->tls.ca.text);
        break;
    case TF_LINK_CERTIFICATE:
        tell(probe, CERTIFICATE, TF_PROBE_FAILED, "%s", reason);
        tell_about(probe, CERTIFICATE, facts->certificate);
        set_mend(probe, "give the receiver one that is valid today, strong, and for servers");
        break;
    case TF_LINK_NAME:
        tell(probe, NAME, TF_PROBE_FAILED, "%s", reason);
        set_mend(probe,
                 "give the receiver a certificate with that name; or if it is whom you mean, "
                 "put what it proves into tls.identity");
        break;
    case TF_LINK_OURS:
    case TF_LINK_TAKEN:
        judge_open(prober, probe, facts->step == TF_LINK_TAKEN, status, reason);
        break;
    }
}

/* Tells the link, which has ended, in steps. */
static void conclude(struct prober *prober, int status, const char *reason)
{
    const struct sockaddr_storage *address = &prober->addresses.items[prober->address_index - 1];
    struct tf_probe attempt = prober->host;
    struct tf_link_facts facts;
    char ip[64];

    tf_link_facts(prober->link, &facts);
    (void)uv_ip_name((const struct sockaddr *)address, ip, sizeof ip);
    if (facts.step > TF_LINK_CONNECT) {
        tell(&attempt, CONNECT, TF_PROBE_OK, "%s", ip);
        tell_time(&attempt, CONNECT, facts.connect_ms);
    }
    if (facts.step > TF_LINK_HELLO) {
        tell(&attempt, HELLO, TF_PROBE_OK, "%s", facts.hello);
        tell_time(&attempt, HELLO, facts.hello_ms);
    }
    if (facts.step > TF_LINK_CERTIFICATE) {
        tell(&attempt, CERTIFICATE, TF_PROBE_OK, "%s", facts.certificate);
    }
    if (facts.step > TF_LINK_NAME) {
        tell(&attempt, NAME, TF_PROBE_OK, "%s", facts.identity);
    }
    judge(prober, &attempt, &facts, status, reason);
    take_attempt(prober, &attempt);
}

/* ---- a connection --------------------------------------------------------------------------- */

static void on_link_open(void *ctx, const char *identity)
{
    struct prober *prober = ctx;
    struct tf_link_facts facts;

    (void)identity;
    tf_link_facts(prober->link, &facts);
    turn_to(prober, LISTENING, QUIET_MS + 2 * facts.connect_ms);
}

/* The first thing that it says decides; an answer longer than its bound is none. */
static int on_link_data(void *ctx, const char *data, size_t size)
{
    struct prober *prober = ctx;
    size_t room = sizeof prober->answer - prober->answer_bytes;
    struct tf_answer answer;
    int64_t used;

    size = size < room ? size : room;
    memcpy(prober->answer + prober->answer_bytes, data, size);
    prober->answer_bytes += size;
    used = tf_answer_parse(tf_slice(prober->answer, prober->answer_bytes), &answer);
    if (used == 0) {
        return 0;
    }
    prober->wants_key = used > 0 && answer.kind == TF_ANSWER_HELLO;
    return -EPROTO; /* the link closes, in good order */
}

static void on_link_closed(void *ctx, int status, const char *reason)
{
    struct prober *prober = ctx;

    conclude(prober, status, reason);
    prober->link = NULL;
}

static void try_address(struct prober *prober)
{
    const struct sockaddr_storage *address = &prober->addresses.items[prober->address_index++];
    const struct forward *output = prober->output;
    const struct tf_link_events events = {.ctx = prober,
                                          .on_open = on_link_open,
                                          .on_data = on_link_data,
                                          .on_closed = on_link_closed};
    struct tf_probe attempt = prober->host;
    char text[64], ip[64];
    int rc;

    (void)uv_timer_stop(&prober->timer);
    prober->state = CONNECTING;
    prober->wants_key = false;
    prober->answer_bytes = 0;
    rc = tf_link_connect(output->loop, output->tls, (const struct sockaddr *)address,
                         output->hosts[prober->host_index].at.name,
                         output->options->connect_timeout_ms, &events, &prober->link);
    if (rc < 0) {
        (void)uv_ip_name((const struct sockaddr *)address, ip, sizeof ip);
        tell(&attempt, CONNECT, TF_PROBE_FAILED, "%s: %s", ip,
             uv_strerror_r(rc, text, sizeof text));
        set_mend(&attempt, "%s", connect_mend(rc));
        take_attempt(prober, &attempt);
    }
}

/* ---- names ---------------------------------------------------------------------------------- */

static void tell_addresses(struct prober *prober)
{
    char text[TF_PROBE_TEXT_MAX + 1] = "", ip[64];

    for (uint32_t i = 0; i < prober->addresses.count; i++) {
        size_t used = strlen(text);

        (void)uv_ip_name((const struct sockaddr *)&prober->addresses.items[i], ip, sizeof ip);
        (void)snprintf(text + used, sizeof text - used, "%s%s", i > 0 ? ", " : "", ip);
    }
    tell(&prober->host, RESOLVE, TF_PROBE_OK, "%s", text);
}

static void resolve_failed(struct prober *prober, const char *text)
{
    tell(&prober->host, RESOLVE, TF_PROBE_FAILED, "%s", text);
    set_mend(&prober->host, "write a name into hosts that this machine's resolver knows, or an "
                            "address");
    take_attempt(prober, &prober->host);
}

static const char *lookup_reason(int status, char *text, size_t size)
{
    if (status == UV_EAI_NONAME || status == UV_EAI_NODATA) {
        return "no such name";
    }
    return status == 0 ? "the name has no address" : uv_strerror_r(status, text, size);
}

static void finish(struct prober *prober);

static void on_looked_up(uv_getaddrinfo_t *request, int status, struct addrinfo *list)
{
    struct lookup *lookup = TF_CONTAINER_OF(request, struct lookup, request);
    struct prober *prober = lookup->prober;
    bool is_wanted = prober->lookup == lookup;
    char text[64];

    if (is_wanted) {
        prober->lookup = NULL;
        tell_time(&prober->host, RESOLVE, uv_now(prober->output->loop) - prober->began_ms);
        if (status == 0) {
            tf_forward_addresses_add(&prober->addresses, list);
        }
        if (prober->addresses.count > 0) {
            tell_addresses(prober);
            turn_to(prober, NEXT, 0);
        } else {
            resolve_failed(prober, lookup_reason(status, text, sizeof text));
        }
    }
    uv_freeaddrinfo(list);
    free(lookup);
    prober->lookups--;
    finish(prober);
}

static void give_up_lookup(struct prober *prober)
{
    char text[64];

    prober->lookup = NULL;
    (void)snprintf(text, sizeof text, "no answer of the resolver in %llu ms",
                   (unsigned long long)prober->output->options->connect_timeout_ms);
    resolve_failed(prober, text);
}

static void look_up(struct prober *prober, const struct tf_forward_host *host)
{
    uv_loop_t *loop = prober->output->loop;
    struct lookup *lookup = calloc(1, sizeof *lookup);
    char text[64];
    int rc = -ENOMEM;

    if (lookup != NULL) {
        lookup->prober = prober;
        rc = tf_forward_look_up(loop, &lookup->request, host, on_looked_up);
    }
    if (rc < 0) {
        free(lookup);
        resolve_failed(prober, uv_strerror_r(rc, text, sizeof text));
        return;
    }
    prober->lookup = lookup;
    prober->lookups++;
    uv_update_time(loop);
    prober->began_ms = uv_now(loop);
    turn_to(prober, RESOLVING, prober->output->options->connect_timeout_ms);
}

/* ---- one host after the other --------------------------------------------------------------- */

static void begin_host(struct prober *prober)
{
    const struct forward *output = prober->output;
    const struct tf_forward_host *host = &output->hosts[prober->host_index].at;

    prober->host = (struct tf_probe){.receiver = prober->receiver, .step_count = STEPS};
    prober->has_best = false;
    prober->others[0] = '\0';
    prober->addresses.count = prober->address_index = 0;
    tf_forward_host_print(host, prober->receiver);
    prober->host.at = output->options->hosts.items[prober->host_index].at;
    for (uint32_t i = 0; i < STEPS; i++) {
        prober->host.steps[i].name = step_names[i];
        tell(&prober->host, i, TF_PROBE_NOT_REACHED, "%s",
             i == FORWARD ? "not reached; nothing was sent" : "not reached");
    }
    if (tf_forward_addresses_literal(&prober->addresses, host)) {
        tell_addresses(prober);
        try_address(prober);
    } else {
        look_up(prober, host);
    }
}

static void end_host(struct prober *prober)
{
    struct tf_probe_step *connect = &prober->best.steps[CONNECT];

    if (prober->others[0] != '\0') {
        size_t used = strlen(connect->text);

        (void)snprintf(connect->text + used, sizeof connect->text - used, " (%s)", prober->others);
    }
    prober->host_index++;
    prober->events.on_probed(prober->events.ctx, &prober->best);
}

static void on_timer_closed(uv_handle_t *handle)
{
    struct prober *prober = handle->data;
    struct tf_probe_events events = prober->events;

    free(prober);
    events.on_done(events.ctx);
}

/* Ends it once all hosts were told and no lookup is left. */
static void finish(struct prober *prober)
{
    if (prober->host_index == prober->output->host_count && prober->lookups == 0 &&
        !uv_is_closing((uv_handle_t *)&prober->timer)) {
        uv_close((uv_handle_t *)&prober->timer, on_timer_closed);
    }
}

/* The next address while none was good; else the next host. */
static void go_on(struct prober *prober)
{
    bool is_good = prober->has_best && reached(&prober->best) == STEPS;

    if (!is_good && prober->address_index < prober->addresses.count) {
        try_address(prober);
        return;
    }
    if (prober->has_best) {
        end_host(prober);
    }
    if (prober->host_index < prober->output->host_count) {
        begin_host(prober);
    } else {
        finish(prober);
    }
}

static void on_timer(uv_timer_t *timer)
{
    struct prober *prober = timer->data;

    switch (prober->state) {
    case NEXT:
        go_on(prober);
        break;
    case RESOLVING:
        give_up_lookup(prober);
        break;
    case LISTENING:
        turn_to(prober, ASKED, ANSWER_MS);
        tf_link_ask_end(prober->link);
        break;
    case ASKED:
        prober->state = GIVEN_UP;
        tf_link_close(prober->link, "it does not answer close_notify");
        break;
    case CONNECTING: /* the link has a clock of its own */
    case GIVEN_UP:
        break;
    }
}

static void describe_own(struct prober *prober)
{
    const struct tf_tls *tls = prober->output->tls;
    char until[TF_TIME_TEXT_BYTES];

    if (!tf_tls_own_identity(tls, prober->own_identity)) {
        (void)snprintf(prober->own_identity, sizeof prober->own_identity, "a name that it lacks");
    }
    tf_time_format(tf_tls_until_s(tls) * TF_S_IN_NS, until);
    (void)snprintf(prober->own, sizeof prober->own, "%.480s, until %.*s", prober->own_identity,
                   DATE_CHARS, until);
}

int tf_forward_probe(void *self, const struct tf_probe_events *events)
{
    struct prober *prober = calloc(1, sizeof *prober);

    if (prober == NULL) {
        return -ENOMEM;
    }
    prober->output = self;
    prober->events = *events;
    describe_own(prober);
    (void)uv_timer_init(prober->output->loop, &prober->timer); /* cannot fail */
    prober->timer.data = prober;
    turn_to(prober, NEXT, 0);
    return 0;
}
