/*
 * api.c - list and watch of one node's pods, over the HTTP client.
 *
 *     RESTING --timer--> READING (token and authorities, on a worker) --> LISTING or WATCHING
 *     LISTING --whole--> WATCHING
 *     LISTING, WATCHING --ended, failed--> RESTING
 *
 * A list is made when there is no version to go on from: at the start from the API server's cache
 * (resourceVersion=0), from its store after 410 Gone, and when it has refused a version twice,
 * whatever else failed between. A watch is ended by the server after some minutes, and begins anew
 * where it was; bookmarks keep that place fresh while nothing changes. So the token, which the
 * kubelet replaces each hour, and the authorities are read again before each request: at most
 * WATCH_S + JITTER_S apart, and after a 401.
 *
 * Between two requests lie 0.5 to 1 s, at random, doubled with each failure in a row up to 30 s,
 * whatever failed: a server that ends every watch at once is asked no faster than that. Only a
 * watch that brings something, or lasts, makes it short again. The server counts as up as soon as
 * it answers; once two watches were answered and came to nothing, only when one brings something or
 * lasts: else it would be up with each list, and down with the watch behind it.
 *
 * Only metadata is asked for (PartialObjectMetadata); a server that knows no such thing sends whole
 * pods, which is the same to object.c.
 */
#include "kubernetes.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "taffrail/chance.h"
#include "taffrail/http_client.h"
#include "taffrail/log.h"
#include "taffrail/sandbox.h"

#define WATCH_S         290u /* and up to as much as JITTER_S more */
#define JITTER_S        30u
#define LATE_MS         60000u /* a server may end its watch so much later, or take for a list */
#define CONNECT_MS      10000u
#define REST_MS         1000u
#define REST_MAX_MS     30000u
#define LASTING_MS      30000u /* a watch that is open for so long is sound, if nothing changes */
#define VAIN_MAX        2u     /* watches that came to nothing; then an answer alone is not "up" */
#define REFUSALS_MAX    2u     /* of one version, which is then forgotten */
#define TOKEN_BYTES_MAX (16u << 10)
#define CA_BYTES_MAX    (1u << 20)
#define URL_BYTES       1024u
#define WHY_BYTES       256u
#define LIST_BYTES_MAX  (64u << 20) /* of the JSON of one list; more is an error */

#define KINDS(list)                                                                                \
    "Accept: application/json;as=PartialObjectMetadata" list ";g=meta.k8s.io;v=v1,application/"    \
    "json"
#define BEARER "Authorization: Bearer "

/* Read on a worker. */
struct credentials {
    const char *token_path, *ca_path;
    struct tf_buf header, ca; /* header: BEARER and the token, a C string */
    const char *path;         /* which is being read */
    int status;
};

struct tf_api {
    struct tf_api_args args;
    struct tf_pod_events events;
    struct tf_http_client *client;
    struct tf_split split;
    uv_timer_t timer;
    uv_work_t work;
    struct credentials credentials;
    bool is_reading, is_closing;
    bool is_changed;   /* pods were, since on_change */
    bool lists_newest; /* the next list is not to come from the server's cache */
    /* of the request that runs */
    bool is_listing;             /* else it watches */
    bool is_fruitful;            /* a watch brought something, or lasts */
    bool is_unsound;             /* it brought what no API server sends */
    enum tf_pod_answer ended_by; /* GONE, REFUSED, NO_MEMORY: by an event */
    uint64_t list_bytes;
    uint32_t failures; /* in a row */
    uint32_t vain;     /* watches that failed with an answer, since one was fruitful */
    uint32_t refusals; /* of the version; a failure of another kind neither adds nor takes */
    bool is_up;
    char why[WHY_BYTES];
    uint64_t requests, failed;
    void (*on_closed)(void *ctx);
    void *closed_ctx;
};

/* ---- time ---------------------------------------------------------------------------------------
 */

static void on_timer(uv_timer_t *timer);

static uint64_t rest(struct tf_api *api)
{
    uint64_t limit_ms = tf_backoff_ms(REST_MS, REST_MAX_MS, api->failures);

    limit_ms = limit_ms / 2 + tf_random_up_to(limit_ms / 2);
    (void)uv_timer_start(&api->timer, on_timer, limit_ms, 0);
    return limit_ms;
}

/* ---- how it stands ------------------------------------------------------------------------------
 */

static void fail(struct tf_api *api, const char *why)
{
    uint64_t rest_ms;

    api->failed++;
    api->failures++;
    api->is_up = false;
    (void)snprintf(api->why, sizeof api->why, "%s", why);
    rest_ms = rest(api);
    tf_log(TF_LOG_WARN, "kubernetes-down", TF_DETAILS(TF_STR("filter", api->args.name)),
           "the API server gives no labels: %s; records have the labels that are known, retry in "
           "%" PRIu64 " ms",
           why, rest_ms);
}

static void note_up(struct tf_api *api)
{
    if (!api->is_up) {
        api->is_up = true;
        api->why[0] = '\0';
        tf_log(TF_LOG_INFO, "kubernetes-up", TF_DETAILS(TF_STR("filter", api->args.name)),
               "the API server answers");
    }
}

/* All of a list, or the head of a watch. */
static void note_answer(struct tf_api *api)
{
    if (api->vain < VAIN_MAX) {
        note_up(api);
    }
}

static void note_fruit(struct tf_api *api)
{
    api->is_fruitful = true;
    api->vain = api->refusals = 0;
    note_up(api);
}

static void on_lasting(uv_timer_t *timer)
{
    struct tf_api *api = timer->data;

    api->failures = 0;
    note_fruit(api);
}

/* The head of an answer with status 200 has come. */
static void on_begun(void *ctx)
{
    struct tf_api *api = ctx;

    api->requests++;
    if (!api->is_listing) {
        (void)uv_timer_start(&api->timer, on_lasting, LASTING_MS, 0); /* the rest replaces it */
        note_answer(api);
    }
}

void tf_api_status(const struct tf_api *api, struct tf_filter_status *out)
{
    out->is_up = api->is_up;
    (void)snprintf(out->why, sizeof out->why, "%s", api->why);
    out->known = api->args.pods->count;
    out->requests = api->requests;
    out->failures = api->failed;
    out->left_out = api->events.left_out + api->args.pods->left_out;
}

static void tell_changes(struct tf_api *api)
{
    tf_pods_drop_old(api->args.pods, uv_now(api->args.loop));
    if (api->is_changed) {
        api->is_changed = false;
        api->args.on_change(api->args.ctx);
    }
}

/* ---- token and authorities ----------------------------------------------------------------------
 */

static int read_file(const char *path, size_t bytes_max, struct tf_buf *out)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    struct stat st;
    int rc = fd < 0 || fstat(fd, &st) < 0 ? -errno : S_ISREG(st.st_mode) ? 0 : -EINVAL;

    if (rc == -EACCES) {
        tf_sandbox_look(path);
    }
    while (rc == 0 && (rc = tf_buf_reserve(out, 4096)) == 0) {
        ssize_t n = read(fd, out->data + out->size, 4096);

        if (n <= 0) {
            rc = n < 0 ? -errno : 1;
            break;
        }
        out->size += (size_t)n;
        rc = out->size <= bytes_max ? 0 : -EFBIG;
    }
    if (fd >= 0) {
        (void)close(fd);
    }
    return rc < 0 ? rc : 0;
}

/* A token is one line of visible characters: it goes into a header. */
static int end_token(struct tf_buf *header, size_t begin)
{
    while (header->size > begin && (uint8_t)header->data[header->size - 1] <= ' ') {
        header->size--;
    }
    for (size_t i = begin; i < header->size; i++) {
        if ((uint8_t)header->data[i] <= ' ' || (uint8_t)header->data[i] >= 0x7f) {
            return -EINVAL;
        }
    }
    return header->size > begin ? tf_buf_append_byte(header, '\0') : -EINVAL;
}

static void read_work(uv_work_t *work)
{
    struct tf_api *api = TF_CONTAINER_OF(work, struct tf_api, work);
    struct credentials *own = &api->credentials;

    /* At once, for a buffer that grows leaves the token behind. */
    own->status = tf_buf_reserve(&own->header, own->header.limit_bytes);
    if (own->status == 0) {
        own->status = tf_buf_append_text(&own->header, BEARER);
    }
    if (own->status == 0) {
        own->status = read_file(own->token_path, TOKEN_BYTES_MAX, &own->header);
    }
    if (own->status == 0) {
        own->status = end_token(&own->header, strlen(BEARER));
    }
    if (own->status == 0) {
        own->path = own->ca_path;
        own->status = read_file(own->ca_path, CA_BYTES_MAX, &own->ca);
    }
}

static void forget_credentials(struct tf_api *api)
{
    tf_buf_wipe(&api->credentials.header);
    tf_buf_fini(&api->credentials.ca);
}

static void fail_reading(struct tf_api *api, int rc)
{
    char why[WHY_BYTES], reason[64];

    (void)snprintf(why, sizeof why, "%.160s cannot be used: %s", api->credentials.path,
                   uv_strerror_r(rc, reason, sizeof reason));
    forget_credentials(api);
    fail(api, why);
}

static void on_read(uv_work_t *work, int status);

static void begin_reading(struct tf_api *api)
{
    int rc;

    api->credentials.path = api->credentials.token_path;
    rc = uv_queue_work(api->args.loop, &api->work, read_work, on_read);
    api->is_reading = rc == 0;
    if (rc < 0) {
        fail_reading(api, rc);
    }
}

static void on_timer(uv_timer_t *timer)
{
    begin_reading(timer->data);
}

/* ---- requests -----------------------------------------------------------------------------------
 */

static int on_object(void *ctx, enum tf_split_part part, struct tf_slice object)
{
    struct tf_api *api = ctx;
    uint64_t now_ms = uv_now(api->args.loop);
    enum tf_pod_answer answer;

    if (part == TF_SPLIT_TOO_LARGE) {
        api->events.left_out++;
        return 0;
    }
    if (!api->is_listing) {
        answer = tf_pod_events_take(&api->events, object, now_ms);
    } else if (part == TF_SPLIT_METADATA) {
        answer = tf_pod_events_metadata(&api->events, object);
    } else {
        answer = tf_pod_events_item(&api->events, object, now_ms);
    }
    api->is_changed = api->is_changed || answer == TF_EVENT_CHANGED;
    if (answer == TF_EVENT_GONE || answer == TF_EVENT_REFUSED) {
        api->ended_by = answer;
        return -ECANCELED;
    }
    if (answer == TF_EVENT_NO_MEMORY) {
        return -ENOMEM;
    }
    if (!api->is_listing && answer != TF_EVENT_MALFORMED) {
        note_fruit(api);
    }
    return 0;
}

static int on_data(void *ctx, struct tf_slice data)
{
    struct tf_api *api = ctx;
    int rc = 0;

    api->list_bytes += api->is_listing ? data.size : 0;
    if (api->list_bytes <= LIST_BYTES_MAX) {
        rc = tf_split_feed(&api->split, data, on_object, api);
    }
    if (rc == -ENOMEM) { /* for an object, or for what is made of it */
        api->ended_by = TF_EVENT_NO_MEMORY;
    }
    api->is_unsound = rc == -EPROTO || api->list_bytes > LIST_BYTES_MAX;
    tell_changes(api);
    return api->is_unsound ? -EPROTO : rc;
}

/* All of a list has come: the watch goes on from there. */
static void end_list(struct tf_api *api)
{
    api->is_changed |= tf_pods_end_list(api->args.pods, uv_now(api->args.loop));
    api->lists_newest = false;
    note_answer(api);
    tf_log(TF_LOG_INFO, "kubernetes-list", TF_DETAILS(TF_STR("filter", api->args.name)),
           "%" PRIu32 " pods are known, of node %s and lately deleted", api->args.pods->count,
           api->args.node);
    begin_reading(api);
}

/* As it should, or for a version that is too old. One that brought nothing and was short is no
 * reason to ask again soon. */
static void end_watch(struct tf_api *api)
{
    api->refusals = 0;
    api->failures = api->is_fruitful ? 0 : api->failures + 1;
    (void)rest(api);
}

/* Why the request brought nothing more, in words; "" when it ended as it should. */
static const char *why_ended(const struct tf_api *api, const struct tf_http_outcome *outcome)
{
    if (api->ended_by == TF_EVENT_NO_MEMORY) {
        return "there is no memory for what it sends";
    }
    if (api->ended_by == TF_EVENT_REFUSED) {
        return "the server ended the watch with an error";
    }
    if (outcome->status == 401) {
        return "401 Unauthorized: the token was refused; it is read again";
    }
    if (outcome->status == 403) {
        return "403 Forbidden: this account needs the verbs list and watch on pods";
    }
    if (!api->is_unsound && (!outcome->is_whole || outcome->status != 200)) {
        return outcome->why;
    }
    if (api->is_unsound || !tf_split_is_whole(&api->split) ||
        (api->is_listing && api->events.version[0] == '\0')) {
        return "the answer is not what an API server sends";
    }
    return "";
}

/* The server answers, and from this version on it gives nothing: the version is too large after a
 * restore of its store (504), or none (400), or what comes next cannot be taken. Token, rights and
 * a server that is busy or begins (401, 403, 429, 503) are another matter: a list would cost it
 * more. */
static bool is_version_refused(const struct tf_api *api, const struct tf_http_outcome *outcome)
{
    bool is_error = outcome->status == 400 || outcome->status == 500 || outcome->status == 504;

    return !api->is_fruitful && (is_error || api->is_unsound || api->ended_by == TF_EVENT_REFUSED);
}

static void forget_version(struct tf_api *api)
{
    api->events.version[0] = '\0';
    api->lists_newest = true;
    api->refusals = 0;
}

static void fail_request(struct tf_api *api, const struct tf_http_outcome *outcome, const char *why)
{
    fail(api, why);
    if (api->is_listing) {
        api->events.version[0] = '\0';
        return;
    }
    api->vain += !api->is_fruitful && outcome->status != 0;
    api->refusals += is_version_refused(api, outcome);
    if (api->refusals == REFUSALS_MAX) {
        forget_version(api);
    }
}

static void on_done(void *ctx, const struct tf_http_outcome *outcome)
{
    struct tf_api *api = ctx;
    bool is_gone = api->ended_by == TF_EVENT_GONE || outcome->status == 410;
    const char *why = is_gone ? "" : why_ended(api, outcome);

    tf_split_fini(&api->split);
    if (is_gone) {
        forget_version(api);
        end_watch(api);
    } else if (why[0] != '\0') {
        fail_request(api, outcome, why);
    } else if (api->is_listing) {
        end_list(api);
    } else {
        end_watch(api);
    }
    tell_changes(api);
}

static void make_url(const struct tf_api *api, char url[URL_BYTES])
{
    const struct tf_api_args *args = &api->args;
    size_t host = strlen(args->server);
    int size = snprintf(url, URL_BYTES, "%s%sapi/v1/pods?fieldSelector=spec.nodeName%%3D%s",
                        args->server, args->server[host - 1] == '/' ? "" : "/", args->node);

    assert(size > 0 && size < (int)URL_BYTES - 256);
    if (!api->is_listing) {
        (void)snprintf(url + size, URL_BYTES - (size_t)size,
                       "&watch=true&allowWatchBookmarks=true&resourceVersion=%s&timeoutSeconds=%u",
                       api->events.version, WATCH_S + (unsigned)tf_random_up_to(JITTER_S));
    } else if (!api->lists_newest) {
        (void)snprintf(url + size, URL_BYTES - (size_t)size, "&resourceVersion=0");
    }
}

static void begin_request(struct tf_api *api)
{
    char url[URL_BYTES];
    const char *headers[3] = {KINDS("List"), api->credentials.header.data};
    struct tf_http_get get = {.url = url,
                              .headers = headers,
                              .authorities = tf_buf_slice(&api->credentials.ca),
                              .connect_ms = CONNECT_MS,
                              .whole_ms = LATE_MS,
                              .on_begun = on_begun,
                              .on_data = on_data,
                              .on_done = on_done,
                              .ctx = api};
    int rc;

    api->is_listing = api->events.version[0] == '\0';
    api->ended_by = TF_EVENT_NONE;
    api->is_fruitful = api->is_unsound = false;
    api->list_bytes = 0;
    if (api->is_listing) {
        tf_pods_begin_list(api->args.pods);
    } else {
        headers[0] = KINDS("");
        get.whole_ms += UINT64_C(1000) * (WATCH_S + JITTER_S);
    }
    make_url(api, url);
    tf_split_init(&api->split, api->is_listing ? TF_SPLIT_LIST : TF_SPLIT_WATCH);
    rc = tf_http_client_get(api->client, &get);
    if (rc < 0) {
        fail(api, uv_strerror(rc));
    }
}

static void finish_close(struct tf_api *api);

static void on_read(uv_work_t *work, int status)
{
    struct tf_api *api = TF_CONTAINER_OF(work, struct tf_api, work);
    int rc = status < 0 ? status : api->credentials.status;

    api->is_reading = false;
    if (api->is_closing) {
        finish_close(api);
        return;
    }
    if (rc < 0) {
        fail_reading(api, rc);
        return;
    }
    begin_request(api);
    forget_credentials(api);
}

/* ---- life ---------------------------------------------------------------------------------------
 */

int tf_api_new(const struct tf_api_args *args, struct tf_api **out)
{
    struct tf_api *api = calloc(1, sizeof *api);
    int rc = api != NULL ? tf_http_client_new(args->loop, &api->client) : -ENOMEM;

    if (rc < 0) {
        free(api);
        return rc;
    }
    api->args = *args;
    api->events = (struct tf_pod_events){.pods = args->pods, .choice = args->choice};
    api->credentials.token_path = args->options->token.text;
    api->credentials.ca_path = args->options->ca.text;
    tf_buf_init(&api->credentials.header, TOKEN_BYTES_MAX + 8192);
    tf_buf_init(&api->credentials.ca, CA_BYTES_MAX + 8192);
    (void)snprintf(api->why, sizeof api->why, "not asked yet");
    (void)uv_timer_init(args->loop, &api->timer); /* cannot fail: it only fills the struct */
    api->timer.data = api;
    (void)uv_timer_start(&api->timer, on_timer, 0, 0);
    *out = api;
    return 0;
}

static void on_timer_closed(uv_handle_t *handle)
{
    struct tf_api *api = handle->data;
    void (*on_closed)(void *ctx) = api->on_closed;
    void *ctx = api->closed_ctx;

    tf_split_fini(&api->split);
    forget_credentials(api);
    free(api);
    on_closed(ctx);
}

static void on_client_closed(void *ctx)
{
    struct tf_api *api = ctx;

    uv_close((uv_handle_t *)&api->timer, on_timer_closed);
}

/* From here on neither the timer nor a request calls any more. */
static void finish_close(struct tf_api *api)
{
    (void)uv_timer_stop(&api->timer);
    tf_http_client_close(api->client, on_client_closed, api);
}

void tf_api_close(struct tf_api *api, void (*on_closed)(void *ctx), void *ctx)
{
    api->is_closing = true;
    api->on_closed = on_closed;
    api->closed_ctx = ctx;
    if (!api->is_reading) {
        finish_close(api);
    }
}
