/*
 * admin.c - the endpoint, and the look at the agent each second.
 *
 *     path       who may ask                           answer
 *     /metrics   all                                   Prometheus' text
 *     /healthz   all                                   200: the loop turns
 *     /readyz    all                                   200, or 503 with what is wrong
 *     /status    Unix socket, loopback, with TLS       JSON
 *     /          the same                              the page, for a browser
 *
 * GET and HEAD only, so there is nothing that a foreign page could make a browser do; what it could
 * make a browser read, by a name that leads to loopback, is refused by its Host (DNS rebinding):
 * an address or localhost, else 421. No cookie, no CORS, no query is looked at. Every answer has
 * the same headers.
 *
 * Bounds: CONNECTIONS for each address, HEAD_BYTES, IDLE_MS; a body is thrown away. Whoever asks is
 * answered at once, from a copy that grows with inputs, outputs and rules (struct tf_status).
 */
#include "internal.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "taffrail/http.h"
#include "taffrail/input.h"
#include "taffrail/log.h"

#define CONNECTIONS     32u
#define HEAD_BYTES      8192u
#define IDLE_MS         10000u
#define LOOK_MS         1000u
#define ANSWER_MAX      (4u << 20) /* 128 inputs and outputs and 1000 rules take 1 MiB */
#define TEXT_TYPE       "text/plain; charset=utf-8"
#define NOTHING_ALLOWED "default-src 'none'; frame-ancestors 'none'"

/* One address that is listened on. */
struct door {
    struct tf_admin *admin;
    const struct tf_text *text;
    struct tf_http_address address;
    struct tf_http *http;       /* NULL: not listened on */
    bool is_local, checks_host; /* all is told; by TCP without TLS */
};

struct tf_admin {
    struct tf_admin_args args;
    struct tf_tls *tls;
    struct door doors[TF_ADMIN_ADDRESSES_MAX];
    size_t door_count;
    struct tf_pipeline *pipeline; /* NULL: not started */
    struct tf_conditions conditions;
    struct tf_histogram loop_delay;
    int64_t started_ns;
    uv_timer_t timer;
    bool has_timer;
    uint64_t due_ns; /* of the timer, by uv_hrtime */
    unsigned open_handles;
    bool is_closing;
    void (*on_closed)(void *ctx);
    void *closed_ctx;
};

/* ---- one look ------------------------------------------------------------------------------- */

static int64_t boot_ns(void)
{
    struct timespec now = {0};

    (void)clock_gettime(CLOCK_BOOTTIME, &now); /* cannot fail on Linux since 2.6.39 */
    return now.tv_sec * TF_S_IN_NS + now.tv_nsec;
}

/* Ended by tf_status_fini(&facts->status). */
static int look(struct tf_admin *admin, struct tf_facts *facts)
{
    int rc;

    *facts = (struct tf_facts){.version = admin->args.version,
                               .revision = admin->args.revision,
                               .host = admin->args.config->agent.host.text,
                               .conditions = &admin->conditions,
                               .now_ns = tf_now_ns(),
                               .started_ns = admin->started_ns,
                               .reloads = *admin->args.reloads,
                               .loop_delay = admin->loop_delay};
    tf_config_digest(&admin->args.config->mark, facts->digest);
    rc = tf_pipeline_status(admin->pipeline, &facts->status);
    if (rc < 0) {
        return rc;
    }
    tf_facts_certificates(facts, admin->tls == NULL ? 0 : tf_tls_until_s(admin->tls));
    if (!facts->status
             .is_stopping) { /* then nothing may be audited, and outputs go by themselves */
        rc = tf_conditions_look(&admin->conditions,
                                &(struct tf_look){.status = &facts->status,
                                                  .certificates = facts->certificates,
                                                  .certificate_count = facts->certificate_count,
                                                  .now_ns = facts->now_ns,
                                                  .boot_ns = boot_ns(),
                                                  .now_ms = uv_now(admin->args.loop) + 1});
    }
    if (rc < 0) {
        tf_status_fini(&facts->status);
        return rc;
    }
    facts->is_ready = tf_facts_ready(&facts->status, &admin->conditions);
    return 0;
}

/* An end is told where its begin was; the audit has a word for that of an output alone. */
static void on_change(void *ctx, const struct tf_condition *condition)
{
    struct tf_admin *admin = ctx;
    const struct tf_condition_kind *kind = &tf_condition_kinds[condition->code];

    if (kind->is_logged) {
        tf_log(condition->holds ? TF_LOG_WARN : TF_LOG_INFO, kind->code,
               TF_DETAILS(TF_STR(condition->holds ? "subject" : "over", condition->subject)),
               condition->holds ? "%s; %s" : "no more: %s; %s", condition->text, kind->safe);
    }
    if (kind->is_audited && condition->holds) {
        (void)tf_pipeline_audit(admin->pipeline, kind->code, condition->text,
                                TF_DETAILS(TF_STR("subject", condition->subject)));
    } else if (condition->code == TF_CONDITION_OUTPUT_DOWN) {
        (void)tf_pipeline_audit(admin->pipeline, "output-up", "the output is connected again",
                                TF_DETAILS(TF_STR("subject", condition->subject)));
    }
}

static void on_timer(uv_timer_t *timer);

static void arm(struct tf_admin *admin)
{
    uv_update_time(admin->args.loop);
    admin->due_ns = uv_hrtime() + LOOK_MS * (uint64_t)TF_MS_IN_NS;
    (void)uv_timer_start(&admin->timer, on_timer, LOOK_MS, 0);
}

static void on_timer(uv_timer_t *timer)
{
    struct tf_admin *admin = timer->data;
    uint64_t now_ns = uv_hrtime();
    struct tf_facts facts;

    tf_histogram_add(&admin->loop_delay,
                     now_ns > admin->due_ns ? (now_ns - admin->due_ns) / 1000 : 0);
    if (look(admin, &facts) == 0) {
        tf_status_fini(&facts.status);
    } /* else the next one may have memory */
    arm(admin);
}

/* ---- routes --------------------------------------------------------------------------------- */

static unsigned answer_health(const struct tf_facts *facts, struct tf_buf *out)
{
    (void)facts;
    (void)tf_buf_append_text(out, "ok\n");
    return 200;
}

static unsigned answer_ready(const struct tf_facts *facts, struct tf_buf *out)
{
    tf_ready_write(facts, out);
    return facts->is_ready ? 200 : 503;
}

static unsigned answer_metrics(const struct tf_facts *facts, struct tf_buf *out)
{
    tf_metrics_write(facts, out);
    return 200;
}

static unsigned answer_status(const struct tf_facts *facts, struct tf_buf *out)
{
    tf_status_write(facts, out);
    return 200;
}

static unsigned answer_page(const struct tf_facts *facts, struct tf_buf *out)
{
    (void)facts;
    (void)tf_buf_append(out, tf_page, tf_page_bytes);
    return 200;
}

static const struct route {
    const char *path, *type;
    bool is_for_all, needs_look, wants_process; /* facts are empty without a look */
    unsigned (*answer)(const struct tf_facts *facts, struct tf_buf *out);
    const char *policy;
} routes[] = {
    {"/metrics", "text/plain; version=0.0.4; charset=utf-8", true, true, true, answer_metrics,
     NOTHING_ALLOWED},
    {"/healthz", TEXT_TYPE, true, false, false, answer_health, NOTHING_ALLOWED},
    {"/readyz", TEXT_TYPE, true, true, false, answer_ready, NOTHING_ALLOWED},
    {"/status", "application/json", false, true, false, answer_status, NOTHING_ALLOWED},
    {"/", "text/html; charset=utf-8", false, false, false, answer_page, tf_page_policy},
};

static const struct route *find_route(const struct door *door, const char *path)
{
    for (size_t i = 0; i < TF_COUNT(routes); i++) {
        if (strcmp(routes[i].path, path) == 0 && (routes[i].is_for_all || door->is_local)) {
            return &routes[i];
        }
    }
    return NULL;
}

static void answer(struct tf_http_request *request, unsigned status, const char *type,
                   const char *policy, struct tf_slice body)
{
    const struct tf_http_field fields[] = {
        {"Content-Security-Policy", policy},
        {"X-Content-Type-Options", "nosniff"},
        {"Referrer-Policy", "no-referrer"},
        {"Cache-Control", "no-store"},
        {"Cross-Origin-Resource-Policy", "same-origin"},
        {"X-Frame-Options", "DENY"},
        {NULL, NULL},
    };
    const struct tf_http_answer whole = {.status = status,
                                         .type = type,
                                         .allow = status == 405 ? "GET, HEAD" : NULL,
                                         .fields = fields,
                                         .body = body};

    tf_http_answer(request, &whole);
}

static void refuse(struct tf_http_request *request, unsigned status, const char *text)
{
    answer(request, status, TEXT_TYPE, NOTHING_ALLOWED, tf_slice_text(text));
}

static void answer_route(struct tf_admin *admin, struct tf_http_request *request,
                         const struct route *route)
{
    struct tf_facts facts = {0};
    struct tf_buf body;
    unsigned status;

    if (route->needs_look && look(admin, &facts) < 0) {
        refuse(request, 503, "no memory for an answer\n");
        return;
    }
    if (route->wants_process) {
        tf_facts_process(&facts);
        tf_log_counts(facts.log_lines);
    }
    tf_buf_init(&body, ANSWER_MAX);
    status = route->answer(&facts, &body);
    if (body.error != 0) {
        refuse(request, 503, "no memory for an answer\n");
    } else {
        answer(request, status, route->type, route->policy, tf_buf_slice(&body));
    }
    tf_buf_fini(&body);
    tf_status_fini(&facts.status);
}

static void on_request(void *ctx, struct tf_http_request *request)
{
    struct door *door = ctx;
    const char *method = tf_http_method(request);
    const struct route *route = find_route(door, tf_http_path(request));

    if (door->checks_host && !tf_admin_host_is_ours(tf_http_header(request, "Host"))) {
        refuse(request, 421, "ask by address or as localhost\n");
    } else if (strcmp(method, "GET") != 0 && strcmp(method, "HEAD") != 0) {
        refuse(request, 405, "only GET and HEAD\n");
    } else if (route == NULL) {
        refuse(request, 404,
               door->is_local ? "here are / /status /metrics /healthz /readyz\n"
                              : "here are /metrics /healthz /readyz\n");
    } else {
        answer_route(door->admin, request, route);
    }
}

static void on_refused(void *ctx, const struct tf_http_refusal *refusal)
{
    (void)ctx;
    tf_log(TF_LOG_INFO, "admin-refused",
           TF_DETAILS(TF_STR("reason", refusal->reason), TF_STR("peer", refusal->peer)), "%s",
           refusal->text);
}

/* ---- new ------------------------------------------------------------------------------------ */

static int add_door(struct tf_admin *admin, const struct tf_text *text, struct tf_error *err)
{
    const struct tf_admin_options *options = &admin->args.config->admin;
    struct door *door = &admin->doors[admin->door_count];
    bool is_unix, has_tls;

    if (tf_http_address_parse(text->text, &door->address) < 0) {
        return tf_error_add(
            err, &text->at,
            "admin.listen \"%s\" is no address; write unix:/run/taffrail/admin.sock, "
            "127.0.0.1:24280, [::1]:24280 or off",
            text->text);
    }
    is_unix = door->address.unix_path[0] != '\0';
    if (is_unix && door->address.unix_path[0] != '/') {
        return tf_error_add(err, &text->at,
                            "admin.listen \"%s\" is relative; write unix: and a path from / on",
                            text->text);
    }
    has_tls = options->has_tls && !is_unix;
    door->admin = admin;
    door->text = text;
    door->is_local = has_tls || tf_http_address_is_local(&door->address);
    door->checks_host = !is_unix && !has_tls && door->is_local;
    admin->door_count++;
    return 0;
}

static int check_tls(struct tf_admin *admin, struct tf_error *err)
{
    const struct tf_admin_options *options = &admin->args.config->admin;
    bool has_tcp = false;

    if (!options->has_tls) {
        return 0;
    }
    for (size_t i = 0; i < admin->door_count; i++) {
        has_tcp |= admin->doors[i].address.unix_path[0] == '\0';
    }
    if (!has_tcp) {
        return tf_error_add(err, &options->tls.ca.at,
                            "admin.tls: no address of admin.listen uses it; take it out, or listen "
                            "on ADDRESS:PORT");
    }
    return tf_tls_server_new(&options->tls, admin->args.config->tls_files, &admin->tls, err);
}

static void free_admin(struct tf_admin *admin)
{
    tf_conditions_fini(&admin->conditions);
    tf_tls_unref(admin->tls);
    free(admin);
}

int tf_admin_new(const struct tf_admin_args *args, struct tf_admin **out, struct tf_error *err)
{
    const struct tf_admin_options *options = &args->config->admin;
    struct tf_admin *admin = calloc(1, sizeof *admin);
    int rc = 0, other;

    if (admin == NULL) {
        return -ENOMEM;
    }
    admin->args = *args;
    admin->started_ns = tf_now_ns();
    admin->conditions.on_change = on_change;
    admin->conditions.ctx = admin;
    if (options->is_written && options->listen.count > 0 && !tf_http_is_built()) {
        rc = tf_error_add(err, &options->listen.at,
                          "admin.listen needs the HTTP server, which this build leaves out; build "
                          "with libmicrohttpd (-DTF_HTTP=ON), or write off");
    }
    for (size_t i = 0; i < options->listen.count; i++) {
        other = add_door(admin, &options->listen.items[i], err);
        rc = rc == 0 ? other : rc;
    }
    other = rc == 0 ? check_tls(admin, err) : 0;
    rc = rc == 0 ? other : rc;
    if (rc < 0) {
        free_admin(admin);
        return rc;
    }
    *out = admin;
    return 0;
}

void tf_admin_needs(const struct tf_admin *admin, struct tf_needs *needs)
{
    for (size_t i = 0; i < admin->door_count; i++) {
        const struct tf_http_address *address = &admin->doors[i].address;

        if (address->unix_path[0] != '\0') {
            tf_needs_path(needs, TF_NEED_SOCKET, address->unix_path);
        } else { /* both kinds of address have their port at the same place */
            tf_needs_port(needs, TF_NEED_LISTEN,
                          ntohs(((const struct sockaddr_in *)&address->address)->sin_port));
        }
    }
}

/* ---- start ---------------------------------------------------------------------------------- */

static int open_door(struct door *door)
{
    static const struct tf_http_limits limits = {.connections = CONNECTIONS,
                                                 .per_identity = CONNECTIONS,
                                                 .head_bytes = HEAD_BYTES,
                                                 .handshake_ms = IDLE_MS,
                                                 .head_ms = IDLE_MS,
                                                 .idle_ms = IDLE_MS};
    const struct tf_http_handler handler = {
        .ctx = door, .on_request = on_request, .on_refused = on_refused};
    struct tf_admin *admin = door->admin;
    bool is_unix = door->address.unix_path[0] != '\0';
    char bound[TF_HTTP_PEER_MAX + 1];
    int rc = tf_http_start(admin->args.loop, &door->address, is_unix ? NULL : admin->tls, &limits,
                           &handler, &door->http);

    if (rc < 0) {
        door->http = NULL;
        return rc;
    }
    admin->open_handles++;
    (void)tf_http_bound(door->http, bound);
    tf_log(TF_LOG_INFO, "admin", TF_DETAILS(TF_STR("address", is_unix ? door->text->text : bound)),
           is_unix || door->is_local ? "status and metrics are read here"
                                     : "metrics are read here, and nothing else");
    return 0;
}

/* What to do where it cannot listen. */
static const char *mend_of(const struct door *door, int rc)
{
    if (door->address.unix_path[0] != '\0') {
        return "the folder of a socket must be there, and ours to write";
    }
    return rc == -EACCES ? "ports below 1024 want a right that the agent gives up; take another"
           : rc == -EADDRINUSE ? "another program has it; take another port"
                               : "write an address of this machine";
}

int tf_admin_start(struct tf_admin *admin, struct tf_pipeline *pipeline, struct tf_error *err)
{
    bool is_wanted = admin->args.config->admin.is_written;
    int first = 0;

    admin->pipeline = pipeline;
    (void)uv_timer_init(admin->args.loop,
                        &admin->timer); /* cannot fail: it only fills the struct */
    admin->timer.data = admin;
    admin->has_timer = true;
    admin->open_handles = 1;
    arm(admin);
    if (!tf_http_is_built()) { /* a written address was refused before */
        tf_log(TF_LOG_INFO, "admin", NULL, 0,
               "this build leaves out the HTTP server, so status and metrics cannot be read");
        return 0;
    }
    for (size_t i = 0; i < admin->door_count; i++) {
        struct door *door = &admin->doors[i];
        int rc = open_door(door);
        char reason[64];

        if (rc < 0 && is_wanted) {
            (void)tf_error_add(err, &door->text->at, "admin.listen: cannot listen on %s: %s; %s",
                               door->text->text, uv_strerror_r(rc, reason, sizeof reason),
                               mend_of(door, rc));
            first = first == 0 ? rc : first;
        } else if (rc < 0) {
            tf_log(TF_LOG_WARN, "admin", TF_DETAILS(TF_STR("address", door->text->text)),
                   "cannot listen, so status and metrics cannot be read: %s; make its folder, or "
                   "write admin: {listen: off}",
                   uv_strerror_r(rc, reason, sizeof reason));
        }
    }
    return first;
}

/* ---- the end -------------------------------------------------------------------------------- */

static void one_closed(struct tf_admin *admin)
{
    void (*on_closed)(void *ctx) = admin->on_closed;
    void *ctx = admin->closed_ctx;

    assert(admin->open_handles > 0);
    if (--admin->open_handles == 0) {
        free_admin(admin);
        on_closed(ctx);
    }
}

static void on_door_closed(void *ctx)
{
    one_closed(ctx);
}

static void on_timer_closed(uv_handle_t *handle)
{
    one_closed(handle->data);
}

void tf_admin_close(struct tf_admin *admin, void (*on_closed)(void *ctx), void *ctx)
{
    if (admin == NULL || !admin->has_timer) {
        if (admin != NULL) {
            free_admin(admin);
        }
        on_closed(ctx);
        return;
    }
    assert(!admin->is_closing);
    admin->is_closing = true;
    admin->on_closed = on_closed;
    admin->closed_ctx = ctx;
    for (size_t i = 0; i < admin->door_count; i++) {
        if (admin->doors[i].http != NULL) {
            tf_http_close(admin->doors[i].http, on_door_closed, admin);
        }
    }
    uv_close((uv_handle_t *)&admin->timer, on_timer_closed);
}
