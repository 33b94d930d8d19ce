/*
 * filter.c - the kubernetes filter: a pod's labels on the records of its logs.
 *
 * The path of a log tells namespace, pod and uid; what it does not tell is learned from the API
 * server (api.c), and put into the constants of the source once, and again when it changes. So no
 * record is looked at, and reading never waits for the server but at the start of a source whose
 * pod is not known yet: for `wait` at most, in its file. A source goes through
 *
 *     NEW ─turn: its pod is known─> KNOWN ─the pod changed─> KNOWN, constants made again
 *      └─turn: not yet─> WAITING ─on_change: known─> KNOWN
 *                           └─wait is over─> WITHOUT ─the pods changed, it is among them─> KNOWN
 *
 * Records of a source that is WITHOUT are counted, as hits of a rule "unknown-pod". All but that
 * runs on the loop. redact comes behind this filter and goes over the constants of a source, so it
 * sees labels and annotations as it sees lines.
 */
#include "kubernetes.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "../fields.h"

#include "taffrail/http_client.h"

#define SERVER_BYTES   600u
#define NODE_BYTES_MAX 253u
#define ACCOUNT        "/var/run/secrets/kubernetes.io/serviceaccount/"

enum mode { API, KUBELET };

static const struct tf_option options[] = {
    {.name = "mode",
     .type = TF_OPTION_CHOICE,
     .offset = offsetof(struct tf_kubernetes_options, mode),
     .choices = "api|kubelet",
     .def = "api",
     .about = "where labels come from: the API server; kubelet is not there yet"},
    {.name = "labels",
     .type = TF_OPTION_TEXTS,
     .offset = offsetof(struct tf_kubernetes_options, labels),
     .def = "['*']",
     .about = "globs of the labels that are kept, by key"},
    {.name = "annotations",
     .type = TF_OPTION_TEXTS,
     .offset = offsetof(struct tf_kubernetes_options, annotations),
     .about = "globs of the annotations that are kept, by key"},
    {.name = "wait",
     .type = TF_OPTION_TIME,
     .offset = offsetof(struct tf_kubernetes_options, wait_ms),
     .def = "2s",
     .max = 60000,
     .about = "how long a log waits at its start for its pod to be known"},
    {.name = "node",
     .type = TF_OPTION_TEXT,
     .offset = offsetof(struct tf_kubernetes_options, node),
     .about = "the node whose pods are watched; by default NODE_NAME of the environment, else "
              "agent.host"},
    {.name = "server",
     .type = TF_OPTION_TEXT,
     .offset = offsetof(struct tf_kubernetes_options, server),
     .about = "https://HOST:PORT of the API server; by default as the kubelet tells a pod"},
    {.name = "ca",
     .type = TF_OPTION_PATH,
     .offset = offsetof(struct tf_kubernetes_options, ca),
     .def = ACCOUNT "ca.crt",
     .about = "who may have signed the API server's certificate; read again before each request"},
    {.name = "token",
     .type = TF_OPTION_PATH,
     .offset = offsetof(struct tf_kubernetes_options, token),
     .def = ACCOUNT "token",
     .about = "the service account's token; read again before each request"},
    {0}};

struct kubernetes {
    const struct tf_kubernetes_options *options;
    const char *name;
    struct tf_place at;
    uint16_t index;
    struct tf_pods pods;
    uint64_t waiting;
    char server[SERVER_BYTES];
    struct tf_server address;   /* of server */
    const char *node;           /* NULL: not prepared */
    struct tf_api *api;         /* NULL: not started */
    struct tf_pod_cache *cache; /* the same */
    void (*on_change)(void *ctx);
    void *change_ctx;
    void (*on_stopped)(void *ctx);
    void *stopped_ctx;
};

/* ---- what a source has to do with a pod ---------------------------------------------------------
 */

enum phase { NEW, WAITING, KNOWN, WITHOUT, NONE };

struct state {
    struct kubernetes *owner;
    enum phase phase;   /* NONE: it is no pod's */
    struct tf_pod *pod; /* used; with KNOWN */
    uint64_t version;   /* of the pod that its constants have; WITHOUT: of the pods it is not in */
    uint64_t until_ms;  /* WAITING */
    char *names;        /* owned: uid, namespace, name, one behind the other */
    struct tf_pod_name name; /* borrows from names */
};

static void *state_new(void *self)
{
    struct state *state = calloc(1, sizeof *state);

    if (state != NULL) {
        state->owner = self;
        state->phase = NONE;
    }
    return state;
}

static void leave_phase(struct state *state)
{
    state->owner->waiting -= state->phase == WAITING;
    if (state->pod != NULL) {
        state->pod->users--;
        state->pod = NULL;
    }
}

static void state_free(void *self)
{
    struct state *state = self;

    leave_phase(state);
    free(state->names);
    free(state);
}

static struct tf_slice text_at(const struct tf_fields *fields, const char *path)
{
    uint32_t at = tf_fields_find(fields, tf_slice_text(path), NULL);
    const struct tf_field *field = at != TF_FIELDS_NONE ? &fields->items[at] : NULL;

    if (field == NULL || field->type != TF_VALUE_TEXT) {
        return tf_slice("", 0);
    }
    return tf_slice(fields->arena + field->value.text.at, field->value.text.size);
}

static char *put_name(char *to, struct tf_slice name, struct tf_slice *out)
{
    memcpy(to, name.data, name.size);
    *out = tf_slice(to, name.size);
    return to + name.size;
}

/* The first time only: its path does not change. */
static void describe(void *self, void *of_source, const char *tag, const struct tf_batch *constants)
{
    struct tf_fields fields = tf_fields_of(constants, &constants->records[0]);
    struct tf_pod_name name = {.uid = text_at(&fields, "kubernetes.pod_id"),
                               .namespace_name = text_at(&fields, "kubernetes.namespace_name"),
                               .name = text_at(&fields, "kubernetes.pod_name")};
    struct state *state = of_source;
    char *to;

    (void)self;
    (void)tag;
    if (state->names != NULL || name.namespace_name.size == 0 || name.name.size == 0) {
        return;
    }
    state->names = malloc(name.uid.size + name.namespace_name.size + name.name.size);
    if (state->names == NULL) {
        return; /* it goes without */
    }
    to = put_name(state->names, name.uid, &state->name.uid);
    to = put_name(to, name.namespace_name, &state->name.namespace_name);
    (void)put_name(to, name.name, &state->name.name);
    state->phase = NEW;
}

static enum tf_filter_turn know(struct state *state, struct tf_pod *pod)
{
    leave_phase(state);
    state->phase = KNOWN;
    state->pod = pod;
    pod->users++;
    state->version = pod->version;
    return TF_TURN_RENEW;
}

static enum tf_filter_turn go_without(struct state *state)
{
    leave_phase(state);
    state->phase = WITHOUT;
    state->version = state->owner->pods.version;
    return TF_TURN_GO;
}

/* Its pod is not known. */
static enum tf_filter_turn wait_or_go(struct state *state, uint64_t now_ms, uint64_t *until_ms)
{
    if (state->phase == NEW) {
        state->phase = WAITING;
        state->owner->waiting++;
        state->until_ms = now_ms + state->owner->options->wait_ms;
    }
    if (state->phase == WAITING && now_ms < state->until_ms) {
        *until_ms = state->until_ms;
        return TF_TURN_WAIT;
    }
    return go_without(state);
}

static enum tf_filter_turn turn(void *self, void *of_source, uint64_t now_ms, uint64_t *until_ms)
{
    struct kubernetes *kubernetes = self;
    struct state *state = of_source;
    struct tf_pod *pod;

    if (state->phase == NONE || (state->phase == KNOWN && state->version == state->pod->version) ||
        (state->phase == WITHOUT && state->version == kubernetes->pods.version)) {
        return TF_TURN_GO;
    }
    pod = state->phase == KNOWN ? state->pod : tf_pods_find(&kubernetes->pods, &state->name);
    return pod != NULL ? know(state, pod) : wait_or_go(state, now_ms, until_ms);
}

/* ---- the constants of a source ------------------------------------------------------------------
 */

/* Appends a text under a key, behind all fields. */
static int append_text(struct tf_batch *batch, struct tf_slice key, struct tf_slice value)
{
    struct tf_field field = {.key_size = (uint32_t)key.size, .type = TF_VALUE_TEXT};
    int rc = tf_batch_add_text(batch, key.data, key.size, &field.key_at);

    if (rc == 0) {
        rc = tf_batch_add_text(batch, value.data, value.size, &field.value.text.at);
    }
    field.value.text.size = (uint32_t)value.size;
    return rc == 0 && tf_batch_append_field(batch, &field) == NULL ? -EMSGSIZE : rc;
}

/* The same of a map, when there is anything in it. */
static int append_map(struct tf_batch *batch, const char *key, struct tf_slice pairs,
                      uint32_t count)
{
    struct tf_field field = {.key_size = (uint32_t)strlen(key), .type = TF_VALUE_MAP};
    struct tf_slice name, value;
    int rc = count > 0 ? tf_batch_add_text(batch, key, strlen(key), &field.key_at) : 0;

    field.value.count = count;
    if (rc == 0 && count > 0) {
        rc = tf_batch_append_field(batch, &field) != NULL ? 0 : -EMSGSIZE;
    }
    while (rc == 0 && tf_pod_pair(&pairs, &name, &value)) {
        rc = append_text(batch, name, value);
    }
    return rc;
}

static int append_pod(struct tf_batch *batch, const struct tf_pod_view *pod, uint32_t *added)
{
    int rc = 0;

    *added =
        (pod->owner_name.size > 0 ? 2 : 0) + (pod->label_count > 0) + (pod->annotation_count > 0);
    if (pod->owner_name.size > 0) {
        rc = append_text(batch, tf_slice_text("owner_kind"), pod->owner_kind);
    }
    if (rc == 0 && pod->owner_name.size > 0) {
        rc = append_text(batch, tf_slice_text("owner_name"), pod->owner_name);
    }
    if (rc == 0) {
        rc = append_map(batch, "labels", pod->labels, pod->label_count);
    }
    if (rc == 0) {
        rc = append_map(batch, "annotations", pod->annotations, pod->annotation_count);
    }
    return rc;
}

/* Appends copies of the record's fields from..to. 0 or -EMSGSIZE. */
static int append_copies(struct tf_batch *batch, const struct tf_record *record, uint32_t from,
                         uint32_t to)
{
    for (uint32_t i = from; i < to; i++) {
        struct tf_field copy = batch->fields[record->first_field + i];

        if (tf_batch_append_field(batch, &copy) == NULL) {
            return -EMSGSIZE;
        }
    }
    return 0;
}

/* Another filter of this kind was here: no key stands twice in a map. */
static bool is_enriched(const struct tf_fields *fields)
{
    static const char *const names[] = {"kubernetes.labels", "kubernetes.annotations",
                                        "kubernetes.owner_name"};
    bool is_there = false;

    for (size_t i = 0; i < TF_COUNT(names); i++) {
        is_there |= tf_fields_find(fields, tf_slice_text(names[i]), NULL) != TF_FIELDS_NONE;
    }
    return is_there;
}

/* The record again, with what is known of its pod at the end of `kubernetes`. */
static int enrich(void *self, void *of_source, struct tf_batch *constants)
{
    const struct state *state = of_source;
    struct tf_record *record = &constants->records[0];
    struct tf_fields fields = tf_fields_of(constants, record);
    uint32_t map = tf_fields_child(&fields, tf_fields_top(&fields), tf_slice_text("kubernetes"));
    uint32_t first = constants->field_count, added = 0, behind;
    struct tf_pod_view pod;
    int rc;

    (void)self;
    if (state->phase != KNOWN || map == TF_FIELDS_NONE || is_enriched(&fields) ||
        tf_pod_decode(tf_slice(state->pod->bytes, state->pod->size), &pod) < 0) {
        return 0;
    }
    behind = tf_fields_behind(&fields, map);
    rc = append_copies(constants, record, 0, behind);
    if (rc == 0) {
        rc = append_pod(constants, &pod, &added);
    }
    if (rc == 0) {
        rc = append_copies(constants, record, behind, record->field_count);
    }
    if (rc == 0) {
        constants->fields[first + map].value.count += added;
        record->first_field = first;
        record->field_count = constants->field_count - first;
    }
    return rc;
}

/* ---- batches ------------------------------------------------------------------------------------
 */

/* It has no scratch; any memory will do, for NULL means that there is none. */
static void *scratch_new(void *self)
{
    (void)self;
    return malloc(1);
}

static int apply(void *self, void *scratch, void *of_source, struct tf_batch *batch)
{
    const struct kubernetes *kubernetes = self;
    const struct state *state = of_source;

    uint32_t count = 0;

    (void)scratch;
    if (state == NULL || state->phase != WITHOUT) {
        return 0;
    }
    for (uint32_t i = 0; i < batch->record_count; i++) {
        count += (batch->records[i].flags & TF_RECORD_DROPPED) == 0;
    }
    if (count > 0) {
        tf_batch_tally(batch, kubernetes->index, 0, count);
    }
    return 0;
}

static const char *rule_name(const void *self, uint16_t rule)
{
    (void)self;
    return rule == 0 ? "unknown-pod" : NULL;
}

/* ---- life ---------------------------------------------------------------------------------------
 */

static int kubernetes_open(const struct tf_filter_args *args, void **self, struct tf_error *err)
{
    const struct tf_kubernetes_options *chosen = args->options;
    struct kubernetes *kubernetes;
    struct tf_server address;

    if (chosen->mode == KUBELET) {
        return tf_error_add(err, &args->at,
                            "mode: kubelet is not there yet; write mode: api, which asks the API "
                            "server for the pods of this node");
    }
    if (tf_http_client_version() == NULL) {
        return tf_error_add(err, &args->at,
                            "this build has no HTTP client for the API server; build it with "
                            "libcurl (-DTF_CURL=ON), or leave the filter out");
    }
    if (chosen->server.text != NULL && tf_server_parse(chosen->server.text, &address) < 0) {
        return tf_error_add(err, &chosen->server.at,
                            "server: %.100s is not https://HOST:PORT; the token goes to no server "
                            "that does not prove its name",
                            chosen->server.text);
    }
    kubernetes = calloc(1, sizeof *kubernetes);
    if (kubernetes == NULL) {
        return -ENOMEM;
    }
    kubernetes->options = chosen;
    kubernetes->name = args->name;
    kubernetes->at = args->at;
    kubernetes->index = args->index;
    *self = kubernetes;
    return 0;
}

static void kubernetes_close(void *self)
{
    struct kubernetes *kubernetes = self;

    tf_pods_fini(&kubernetes->pods);
    free(kubernetes);
}

/* What the kubelet puts into the environment of each pod, unless it is written. */
static int find_server(struct kubernetes *kubernetes, struct tf_error *err)
{
    const char *host = getenv("KUBERNETES_SERVICE_HOST"), *port = getenv("KUBERNETES_SERVICE_PORT");
    const char *written = kubernetes->options->server.text;
    int size;

    if (written == NULL && (host == NULL || port == NULL)) {
        return tf_error_add(
            err, &kubernetes->at,
            "where the API server is cannot be known outside of a pod "
            "(KUBERNETES_SERVICE_HOST is not set); write server: https://HOST:PORT");
    }
    if (written != NULL) {
        size = snprintf(kubernetes->server, SERVER_BYTES, "%s", written);
    } else {
        size =
            snprintf(kubernetes->server, SERVER_BYTES,
                     strchr(host, ':') != NULL ? "https://[%s]:%s" : "https://%s:%s", host, port);
    }
    if (size >= (int)SERVER_BYTES ||
        tf_server_parse(kubernetes->server, &kubernetes->address) < 0) {
        return tf_error_add(err, &kubernetes->at,
                            "server: %.100s is not https://HOST:PORT; the token goes to no server "
                            "that does not prove its name",
                            kubernetes->server);
    }
    return 0;
}

/* A name that goes into a URL as it is: RFC 1123. */
static int find_node(struct kubernetes *kubernetes, const char *host, struct tf_error *err)
{
    const char *node = kubernetes->options->node.text;

    node = node != NULL ? node : getenv("NODE_NAME");
    node = node != NULL && node[0] != '\0' ? node : host;
    if (node == NULL || node[0] == '\0' || strlen(node) > NODE_BYTES_MAX ||
        strspn(node, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-") !=
            strlen(node)) {
        return tf_error_add(err, &kubernetes->at,
                            "node: %.100s is no node's name; write node: ${NODE_NAME}",
                            node != NULL ? node : "nothing");
    }
    kubernetes->node = node;
    return 0;
}

/* Once the agent is confined, nothing that is not told here can be reached. */
static int kubernetes_prepare(void *self, const char *host, struct tf_needs *needs,
                              struct tf_error *err)
{
    struct kubernetes *kubernetes = self;
    int node_rc = find_node(kubernetes, host, err), rc = find_server(kubernetes, err);

    if (rc < 0 || node_rc < 0) {
        return rc < 0 ? rc : node_rc;
    }
    tf_needs_path(needs, TF_NEED_FRESH, kubernetes->options->token.text);
    tf_needs_path(needs, TF_NEED_FRESH, kubernetes->options->ca.text);
    tf_needs_port(needs, TF_NEED_CONNECT, kubernetes->address.port);
    if (!kubernetes->address.is_literal) {
        tf_needs_names(needs);
    }
    return 0;
}

static void on_change(void *ctx)
{
    struct kubernetes *kubernetes = ctx;

    tf_pod_cache_changed(kubernetes->cache);
    kubernetes->on_change(kubernetes->change_ctx);
}

static int kubernetes_start(void *self, const struct tf_filter_start *start, struct tf_error *err)
{
    struct kubernetes *kubernetes = self;
    struct tf_api_args args = {.loop = start->loop,
                               .name = kubernetes->name,
                               .options = kubernetes->options,
                               .choice = {.labels = &kubernetes->options->labels,
                                          .annotations = &kubernetes->options->annotations},
                               .server = kubernetes->server,
                               .node = kubernetes->node,
                               .pods = &kubernetes->pods,
                               .on_change = on_change,
                               .ctx = kubernetes};
    char reason[64];
    int rc;

    assert(kubernetes->node != NULL); /* it was prepared */
    kubernetes->on_change = start->on_change;
    kubernetes->change_ctx = start->ctx;
    rc = tf_pod_cache_new(start, kubernetes->name, &kubernetes->pods, &kubernetes->cache);
    if (rc < 0) {
        return tf_error_add(err, &kubernetes->at, "filter %s: its file in %s cannot be kept: %s",
                            kubernetes->name, start->folder,
                            uv_strerror_r(rc, reason, sizeof reason));
    }
    return tf_api_new(&args, &kubernetes->api);
}

static void on_cache_closed(void *ctx)
{
    struct kubernetes *kubernetes = ctx;

    kubernetes->cache = NULL;
    kubernetes->on_stopped(kubernetes->stopped_ctx);
}

static void on_api_closed(void *ctx)
{
    struct kubernetes *kubernetes = ctx;

    kubernetes->api = NULL;
    if (kubernetes->cache != NULL) {
        tf_pod_cache_close(kubernetes->cache, on_cache_closed, kubernetes);
        return;
    }
    kubernetes->on_stopped(kubernetes->stopped_ctx);
}

static void kubernetes_stop(void *self, void (*on_stopped)(void *ctx), void *ctx)
{
    struct kubernetes *kubernetes = self;

    kubernetes->on_stopped = on_stopped;
    kubernetes->stopped_ctx = ctx;
    if (kubernetes->api != NULL) {
        tf_api_close(kubernetes->api, on_api_closed, kubernetes);
        return;
    }
    on_api_closed(kubernetes);
}

static void kubernetes_status(const void *self, struct tf_filter_status *out)
{
    const struct kubernetes *kubernetes = self;

    *out = (struct tf_filter_status){.waiting = kubernetes->waiting};
    if (kubernetes->api != NULL) {
        tf_api_status(kubernetes->api, out);
        out->cache_failures = tf_pod_cache_failures(kubernetes->cache);
    }
}

const struct tf_filter_kind tf_filter_kubernetes = {
    .name = "kubernetes",
    .options = options,
    .options_bytes = sizeof(struct tf_kubernetes_options),
    .open = kubernetes_open,
    .close = kubernetes_close,
    .scratch_new = scratch_new,
    .scratch_free = free,
    .state_new = state_new,
    .state_free = state_free,
    .describe = describe,
    .apply = apply,
    .rule_name = rule_name,
    .prepare = kubernetes_prepare,
    .start = kubernetes_start,
    .stop = kubernetes_stop,
    .turn = turn,
    .enrich = enrich,
    .status = kubernetes_status,
};
