/*
 * upload.c - mode upload: what systemd-journal-upload sends, over HTTP with mutual TLS.
 *
 *     post       one request of a sender: its body is entries in export format, chunked
 *     uploader   one proved identity: a source, the stream that decodes, and what was taken of it
 *
 *     post waits     the uploader of its identity goes: an older post of it was broken off
 *     post receives  its body goes into the stream, as far as there is room
 *     post is whole  waits until all of it is decoded and durable
 *     answered       202, or 400 when it ended within an entry or was no export format
 *
 * A sender writes its state only after a 2xx, so after every break it sends all of its post again
 * (uploaded.c). The numbers that were taken go into the frame of the entries (docs/guarantees.md
 * B2): both are durable, or neither. What was taken and is not durable yet counts as taken as long
 * as the uploader lives. When a post breaks off, its uploader goes with it, and the next post waits
 * until that has no batch on its way any more: the folded state then says exactly what is stored.
 * So a newer post of an identity cuts the older one and loses nothing. A rewind (C8) is the same
 * for all.
 *
 * In the worker, `taken` is the state behind the newest batch, `newer` that of the entries decoded
 * since. An entry is asked for again when the batch was full: so it is `last` at first, and joins
 * `newer` when the next one is asked for, or the cursor says that it was taken.
 *
 * Bounds: UPLOAD_CONNECTIONS, UPLOAD_PER_IDENTITY; a stream's own; a sender that waits for us is
 * not read from. An identity unseen for 30 days is forgotten. An uploader without posts goes after
 * a minute.
 */
#include "internal.h"
#include "uploaded.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "taffrail/event.h"
#include "taffrail/http.h"

#define DEFAULT_LISTEN      "0.0.0.0:19532" /* as systemd-journal-remote */
#define CONTENT_TYPE        "application/vnd.fdo.journal"
#define UPLOAD_CONNECTIONS  512u
#define UPLOAD_PER_IDENTITY 4u
#define HEAD_BYTES          (32u << 10)
#define HANDSHAKE_MS        10000u
#define HEAD_MS             10000u
#define IDLE_MS             300000u
#define LOOK_MS             30000u /* while there are uploaders */
#define FORGET_MS           3600000u
#define UNUSED_MS           60000u
#define UNSEEN_S            (30 * 24 * 3600)
#define TOLD_A_SECOND       10u

struct post;

struct uploader {
    struct tf_journal_stream stream; /* first */
    struct uploader *next;
    struct upload *upload;
    char identity[TF_IDENTITY_MAX + 1];
    struct tf_buf key;
    struct post *post; /* that it receives, or waits to answer */
    bool closing;
    uint64_t used_ms;
    /* The worker's while a job runs. */
    struct tf_uploaded taken, newer;
    struct tf_seqnum last;
    bool has_last;
};

struct post {
    struct post *next;
    struct upload *upload;
    struct tf_http_request *request;
    struct uploader *uploader; /* NULL: waits for one, or is done */
    bool is_done;              /* answered or cut */
    bool is_whole;             /* its end came */
};

struct upload {
    struct tf_journald *input;
    struct tf_tls *tls;
    struct tf_http *http;
    struct tf_http_address address;
    struct uploader *uploaders;
    struct post *posts; /* the newest first */
    uv_timer_t timer;
    bool stopping;
    uint64_t next_forget_ms;
    uint64_t told_from_ms;
    uint32_t told, untold;
};

static const char *listen_text(const struct tf_journald *input)
{
    const char *text = input->options->listen.text;

    return text == NULL ? DEFAULT_LISTEN : text;
}

/* ---- what was taken (worker) ---------------------------------------------------------------- */

static struct uploader *uploader_of(struct tf_journal_stream *stream)
{
    return (struct uploader *)stream;
}

static void settle_last(struct uploader *uploader)
{
    if (uploader->has_last) {
        uploader->has_last = false;
        tf_uploaded_add(&uploader->newer, &uploader->last);
    }
}

static bool is_repeat(void *ctx, struct tf_slice cursor)
{
    struct uploader *uploader = ctx;
    struct tf_seqnum seqnum;

    if (!tf_seqnum_of_cursor(cursor, &seqnum)) {
        return false; /* of another tool: never one */
    }
    if (tf_uploaded_has(&uploader->taken, &seqnum)) {
        return true;
    }
    settle_last(uploader);
    uploader->last = seqnum;
    uploader->has_last = true;
    return false;
}

static void position(struct tf_journal_stream *stream, struct tf_buf *deltas)
{
    struct uploader *uploader = uploader_of(stream);
    uint8_t bytes[TF_UPLOADED_BYTES_MAX];
    struct tf_seqnum seqnum;

    if (uploader->has_last && tf_seqnum_of_cursor(tf_export_cursor(stream->decoder), &seqnum) &&
        seqnum.number == uploader->last.number &&
        memcmp(seqnum.id, uploader->last.id, sizeof seqnum.id) == 0) {
        settle_last(uploader);
    }
    uploader->has_last = false; /* else it did not fit, and is asked for again */
    uploader->newer.seen_s = tf_now_ns() / TF_S_IN_NS;
    uploader->taken = uploader->newer;
    tf_delta_append(deltas, TF_DELTA_SET, tf_buf_slice(&uploader->key),
                    tf_slice(bytes, tf_uploaded_write(&uploader->taken, bytes)));
}

/* Loop, and no job runs: the newest batch was too large, and is decoded again. */
static void undo(struct tf_journal_stream *stream)
{
    struct uploader *uploader = uploader_of(stream);

    uploader->newer = uploader->taken;
    uploader->has_last = false;
}

/* ---- uploaders ------------------------------------------------------------------------------ */

static void remove_uploader(struct uploader *uploader)
{
    if (!uploader->closing) {
        uploader->closing = true;
        tf_journal_source_remove(&uploader->stream.base); /* may free it */
    }
}

static void finish_post(struct post *post)
{
    post->is_done = true;
    if (post->uploader != NULL) {
        post->uploader->post = NULL;
        post->uploader->used_ms = uv_now(post->upload->input->loop);
        post->uploader = NULL;
    }
}

static void answer(struct post *post, unsigned status, const char *text)
{
    struct tf_http_answer answer = {
        .status = status, .type = "text/plain", .body = tf_slice_text(text)};

    finish_post(post);
    tf_http_answer(post->request, &answer);
}

static void cut(struct post *post, const char *reason)
{
    struct uploader *uploader = post->uploader;

    finish_post(post);
    tf_http_cut(post->request, reason);
    if (uploader != NULL) {
        remove_uploader(uploader);
    }
}

/* What came is not what was promised: the rest of the stream goes. */
static void refuse_body(struct uploader *uploader, const char *text)
{
    answer(uploader->post, 400, text);
    remove_uploader(uploader);
}

/* Whether all that came is durable. */
static bool is_durable(const struct tf_journal_stream *stream)
{
    return tf_journal_stream_is_drained(stream) && stream->batches == stream->durable_batches;
}

static void changed(struct tf_journal_stream *stream)
{
    struct uploader *uploader = uploader_of(stream);
    struct post *post = uploader->post;

    if (post == NULL || uploader->closing) {
        return;
    }
    if (stream->status < 0) {
        refuse_body(uploader, "this is not the journal export format\n");
    } else if (!post->is_whole) {
        if (tf_journal_stream_has_room(stream)) {
            tf_http_resume(post->request);
        }
    } else if (is_durable(stream)) {
        if (tf_journal_stream_rest_bytes(stream) > 0) {
            refuse_body(uploader, "the body ends within an entry\n");
        } else {
            answer(post, 202, "OK.\n");
        }
    }
}

static void rewind_uploader(struct tf_journal_stream *stream)
{
    struct uploader *uploader = uploader_of(stream);

    if (uploader->post != NULL) {
        cut(uploader->post, "the agent goes back to what is durable");
    } else {
        remove_uploader(uploader);
    }
}

static void close_uploader(struct tf_journal_stream *stream)
{
    remove_uploader(uploader_of(stream));
}

static void attach_waiting(struct upload *upload, const char *identity);

static void free_memory(struct uploader *uploader)
{
    tf_buf_fini(&uploader->key);
    free(uploader);
}

static void free_uploader(struct tf_journal_stream *stream)
{
    struct uploader *uploader = uploader_of(stream);
    struct upload *upload = uploader->upload;
    struct uploader **at = &upload->uploaders;
    char identity[TF_IDENTITY_MAX + 1];

    assert(uploader->post == NULL || upload->stopping);
    if (uploader->post != NULL) {
        finish_post(uploader->post);
    }
    while (*at != uploader) {
        at = &(*at)->next;
    }
    *at = uploader->next;
    memcpy(identity, uploader->identity, sizeof identity);
    tf_journal_stream_fini(stream);
    free_memory(uploader);
    attach_waiting(upload, identity);
}

static const struct tf_journal_stream_owner owner = {
    .changed = changed,
    .position = position,
    .undo = undo,
    .rewind = rewind_uploader,
    .close = close_uploader,
    .free = free_uploader,
};

static int make_key(const struct upload *upload, const char *identity, struct tf_buf *key)
{
    tf_buf_init(key, TF_STATE_KEY_MAX);
    return tf_buf_printf(key, "journal/%s/upload/%s", upload->input->name, identity);
}

/* The identity is on every record, stronger than anything in it. */
static int add_source(struct uploader *uploader)
{
    struct tf_batch metadata;
    int rc = tf_batch_init(&metadata);

    if (rc == 0 && tf_batch_add_record(&metadata, 0, TF_STREAM_OTHER) == NULL) {
        rc = -ENOMEM;
    }
    if (rc == 0) {
        rc = tf_batch_add_text_field(&metadata, "identity", tf_slice_text(uploader->identity));
    }
    if (rc == 0) {
        rc = tf_journal_stream_init(&uploader->stream, uploader->upload->input, &owner, &metadata);
    }
    tf_batch_fini(&metadata);
    return rc;
}

static struct uploader *make_uploader(struct upload *upload, const char *identity)
{
    struct uploader *uploader = calloc(1, sizeof *uploader);
    struct tf_slice value;

    if (uploader == NULL) {
        return NULL;
    }
    uploader->upload = upload;
    (void)snprintf(uploader->identity, sizeof uploader->identity, "%s", identity);
    if (make_key(upload, identity, &uploader->key) < 0) {
        free_memory(uploader);
        return NULL;
    }
    if (tf_state_get(tf_pipeline_spool(upload->input->pipeline), tf_buf_slice(&uploader->key),
                     &value)) {
        (void)tf_uploaded_read(value, &uploader->taken);
        uploader->newer = uploader->taken;
    }
    uploader->stream.rules = (struct tf_journal_rules){.select = &upload->input->select,
                                                       .keeps_host = true,
                                                       .is_repeat = is_repeat,
                                                       .ctx = uploader};
    uploader->stream.base.source.is_received = true;
    if (add_source(uploader) < 0) {
        free_memory(uploader);
        return NULL;
    }
    uploader->next = upload->uploaders;
    upload->uploaders = uploader;
    return uploader;
}

static struct uploader *find_uploader(const struct upload *upload, const char *identity)
{
    struct uploader *at = upload->uploaders;

    while (at != NULL && strcmp(at->identity, identity) != 0) {
        at = at->next;
    }
    return at;
}

/* ---- posts ---------------------------------------------------------------------------------- */

static void on_look(uv_timer_t *timer);

/* Gives the post its uploader; one that is going is waited for. */
static void attach(struct post *post)
{
    struct upload *upload = post->upload;
    const char *identity = tf_http_identity(post->request);
    struct uploader *uploader = find_uploader(upload, identity);

    if (uploader != NULL && uploader->closing) {
        return;
    }
    if (uploader == NULL) {
        uploader = make_uploader(upload, identity);
        if (uploader == NULL) {
            cut(post, "no memory for a sender");
            return;
        }
        if (uv_timer_get_due_in(&upload->timer) > LOOK_MS) {
            (void)uv_timer_start(&upload->timer, on_look, LOOK_MS, 0);
        }
    }
    assert(uploader->post == NULL);
    uploader->post = post;
    post->uploader = uploader;
}

static void attach_waiting(struct upload *upload, const char *identity)
{
    for (struct post *post = upload->posts; post != NULL && !upload->stopping; post = post->next) {
        if (!post->is_done && post->uploader == NULL &&
            strcmp(tf_http_identity(post->request), identity) == 0) {
            attach(post);
            if (post->uploader != NULL) {
                tf_http_resume(post->request);
                changed(&post->uploader->stream); /* its body may be whole, with nothing in it */
            }
            return;
        }
    }
}

static size_t on_data(void *ctx, struct tf_slice piece)
{
    struct post *post = ctx;
    struct tf_journal_stream *stream;
    size_t taken = 0;

    if (post->uploader == NULL) {
        return post->is_done ? piece.size : 0;
    }
    stream = &post->uploader->stream;
    if (stream->status < 0) {
        return 0; /* `changed` answers */
    }
    while (taken < piece.size && tf_journal_stream_has_room(stream)) {
        uv_buf_t room = tf_journal_stream_room(stream);
        size_t size = piece.size - taken < room.len ? piece.size - taken : room.len;

        if (size == 0) {
            cut(post, "no memory for entries");
            break;
        }
        memcpy(room.base, piece.data + taken, size);
        tf_journal_stream_wrote(stream, size);
        taken += size;
    }
    return taken;
}

static void on_end(void *ctx)
{
    struct post *post = ctx;

    post->is_whole = true;
    if (post->uploader != NULL) {
        changed(&post->uploader->stream);
    }
}

static void on_over(void *ctx, bool is_answered)
{
    struct post *post = ctx;
    struct post **at = &post->upload->posts;
    struct uploader *uploader = post->uploader;

    (void)is_answered; /* without an answer it sends again, and all of it is a repeat */
    while (*at != post) {
        at = &(*at)->next;
    }
    *at = post->next;
    finish_post(post);
    free(post);
    if (uploader != NULL) { /* broken off */
        remove_uploader(uploader);
    }
}

static void begin_post(struct upload *upload, struct tf_http_request *request)
{
    struct post *post = calloc(1, sizeof *post);

    if (post == NULL) {
        tf_http_cut(request, "no memory for a request");
        return;
    }
    post->upload = upload;
    post->request = request;
    tf_http_follow(request,
                   &(struct tf_http_life){
                       .ctx = post, .on_data = on_data, .on_end = on_end, .on_over = on_over});
    for (struct post *at = upload->posts; at != NULL; at = at->next) {
        if (!at->is_done && strcmp(tf_http_identity(at->request), tf_http_identity(request)) == 0) {
            cut(at, "a newer connection of its identity sends");
        }
    }
    post->next = upload->posts;
    upload->posts = post;
    attach(post);
}

/* ---- requests ------------------------------------------------------------------------------- */

static bool is_journal(const char *type)
{
    size_t size = strlen(CONTENT_TYPE);

    return type != NULL && strncasecmp(type, CONTENT_TYPE, size) == 0 &&
           (type[size] == '\0' || type[size] == ';' || type[size] == ' ');
}

static void on_request(void *ctx, struct tf_http_request *request)
{
    struct tf_http_answer answer = {.type = "text/plain"};
    const char *encoding = tf_http_header(request, "Content-Encoding");

    if (strcmp(tf_http_path(request), "/upload") != 0) {
        answer.status = 404;
        answer.body = tf_slice_text("journal entries are sent to /upload\n");
    } else if (strcmp(tf_http_method(request), "POST") != 0) {
        answer.status = 405;
        answer.allow = "POST";
        answer.body = tf_slice_text("journal entries are sent by POST\n");
    } else if (!is_journal(tf_http_header(request, "Content-Type"))) {
        answer.status = 415;
        answer.body = tf_slice_text("the body must be " CONTENT_TYPE "\n");
    } else if (encoding != NULL && strcasecmp(encoding, "identity") != 0) {
        answer.status = 415;
        answer.body = tf_slice_text("compressed bodies are not taken; remove Compression= and "
                                    "ForceCompression= from journal-upload.conf\n");
    } else {
        begin_post(ctx, request);
        return;
    }
    tf_http_answer(request, &answer);
}

static bool admits(void *ctx, const char *identity)
{
    const struct upload *upload = ctx;
    const struct tf_journald_options *options = upload->input->options;
    const struct tf_journald_allow *items = options->allow.items;

    for (size_t i = 0; i < options->allow.count; i++) {
        if (tf_identity_match(items[i].identity.text, identity)) {
            return true;
        }
    }
    return false;
}

static bool may_tell(struct upload *upload)
{
    uint64_t now_ms = uv_now(upload->input->loop);

    if (upload->told_from_ms == 0 || now_ms - upload->told_from_ms >= 1000) {
        upload->told_from_ms = now_ms;
        upload->told = 0;
    }
    if (upload->told >= TOLD_A_SECOND) {
        upload->untold++;
        return false;
    }
    upload->told++;
    return true;
}

static void on_refused(void *ctx, const struct tf_http_refusal *refusal)
{
    struct upload *upload = ctx;
    struct tf_journald *input = upload->input;

    tf_input_refused(&input->status, refusal->reason, 1);
    if (!may_tell(upload)) {
        return;
    }
    tf_log(TF_LOG_WARN, "refused",
           TF_DETAILS(TF_STR("reason", refusal->reason), TF_STR("peer", refusal->peer),
                      TF_STR("identity", refusal->identity), TF_STR("input", input->name),
                      TF_NUM("untold", upload->untold)),
           "%s", refusal->text);
    (void)tf_pipeline_audit(
        input->pipeline, "refused", refusal->text,
        TF_DETAILS(TF_STR("reason", refusal->reason), TF_STR("peer", refusal->peer),
                   TF_STR("sender", refusal->identity), TF_STR("input", input->name),
                   TF_NUM("untold", upload->untold)));
    upload->untold = 0;
}

/* ---- forgetting ----------------------------------------------------------------------------- */

struct forgetting {
    struct upload *upload;
    size_t prefix_size;
    int64_t now_s;
    struct tf_buf deltas;
};

static void forget_old(void *ctx, struct tf_slice key, struct tf_slice value)
{
    struct forgetting *forgetting = ctx;
    struct tf_uploaded uploaded;
    char identity[TF_IDENTITY_MAX + 1];
    size_t size = key.size - forgetting->prefix_size;

    if (size > TF_IDENTITY_MAX || !tf_uploaded_read(value, &uploaded) ||
        forgetting->now_s - uploaded.seen_s <= UNSEEN_S ||
        forgetting->deltas.size + (size_t)2 * TF_STATE_KEY_MAX >= forgetting->deltas.limit_bytes) {
        return;
    }
    memcpy(identity, key.data + forgetting->prefix_size, size);
    identity[size] = '\0';
    if (find_uploader(forgetting->upload, identity) == NULL) {
        tf_delta_append(&forgetting->deltas, TF_DELTA_DELETE, key, tf_slice(NULL, 0));
    }
}

static void forget(struct upload *upload)
{
    struct forgetting forgetting = {.upload = upload, .now_s = tf_now_ns() / TF_S_IN_NS};
    struct tf_pipeline *pipeline = upload->input->pipeline;
    struct tf_buf prefix;

    tf_buf_init(&forgetting.deltas, 64u << 10); /* what does not fit goes next time */
    if (make_key(upload, "", &prefix) == 0) {
        forgetting.prefix_size = prefix.size;
        tf_state_each(tf_pipeline_spool(pipeline), tf_buf_slice(&prefix), forget_old, &forgetting);
    }
    if (forgetting.deltas.size > 0 && forgetting.deltas.error == 0) {
        (void)tf_pipeline_deltas(pipeline, NULL, &forgetting.deltas);
    }
    tf_buf_fini(&forgetting.deltas);
    tf_buf_fini(&prefix);
}

static void on_look(uv_timer_t *timer)
{
    struct upload *upload = timer->data;
    uint64_t now_ms = uv_now(upload->input->loop);
    struct uploader *next;

    for (struct uploader *at = upload->uploaders; at != NULL; at = next) {
        next = at->next;
        if (at->post == NULL && now_ms - at->used_ms >= UNUSED_MS) {
            remove_uploader(at);
        }
    }
    if (now_ms >= upload->next_forget_ms) {
        upload->next_forget_ms = now_ms + FORGET_MS;
        forget(upload);
    }
    (void)uv_timer_start(timer, on_look, upload->uploaders != NULL ? LOOK_MS : FORGET_MS, 0);
}

/* ---- begin and end -------------------------------------------------------------------------- */

static int check_allow(const struct tf_journald *input, struct tf_error *err)
{
    const struct tf_tables *allow = &input->options->allow;
    const struct tf_journald_allow *items = allow->items;
    int rc = 0;

    if (allow->count == 0) {
        rc = tf_error_add(err, allow->at.line > 0 ? &allow->at : &input->at,
                          "allow is empty, so nobody may upload; write allow: [{identity: "
                          "\"spiffe://example.com/node/*\"}]");
    }
    for (size_t i = 0; i < allow->count; i++) {
        if (items[i].identity.text[0] == '\0') {
            rc = tf_error_add(err, &items[i].identity.at, "an entry of allow has no identity");
        }
    }
    return rc;
}

static int check_tls(const struct tf_journald *input, struct upload *upload, struct tf_error *err)
{
    const struct tf_tls_options *tls = &input->options->tls;

    if (tls->ca.text == NULL || tls->cert.text == NULL || tls->key.text == NULL) {
        return tf_error_add(err, &input->at,
                            "mode upload needs tls: {ca: FILE, cert: FILE, key: FILE}; senders "
                            "must prove who they are");
    }
    return tf_tls_server_new(tls, input->tls_files, &upload->tls, err);
}

static int check_address(const struct tf_journald *input, struct upload *upload,
                         struct tf_error *err)
{
    const char *text = listen_text(input);

    if (tf_http_address_parse(text, &upload->address) < 0 || upload->address.unix_path[0] != '\0') {
        return tf_error_add(err, &input->options->listen.at,
                            "listen \"%s\" is not an address and port; write " DEFAULT_LISTEN
                            " or [::]:19532",
                            text);
    }
    return 0;
}

static int upload_check(struct tf_journald *input, struct tf_error *err)
{
    struct upload *upload = calloc(1, sizeof *upload);
    int rc = 0, other;

    if (upload == NULL) {
        return -ENOMEM;
    }
    upload->input = input;
    input->own = upload;
    if (!tf_http_is_built()) {
        rc = tf_error_add(err, &input->at,
                          "mode upload needs the HTTP server, which this build leaves out; build "
                          "with libmicrohttpd (-DTF_HTTP=ON)");
    }
    other = check_address(input, upload, err);
    rc = rc == 0 ? other : rc;
    other = check_allow(input, err);
    rc = rc == 0 ? other : rc;
    other = check_tls(input, upload, err);
    return rc == 0 ? other : rc;
}

static void upload_needs(const struct tf_journald *input, struct tf_needs *needs)
{
    const struct upload *upload = input->own;

    /* Both kinds of address have their port at the same place. */
    tf_needs_port(needs, TF_NEED_LISTEN,
                  ntohs(((const struct sockaddr_in *)&upload->address.address)->sin_port));
}

static void log_listening(const struct upload *upload)
{
    char text[TF_HTTP_PEER_MAX + 1];
    unsigned port = tf_http_bound(upload->http, text);

    tf_log(TF_LOG_INFO, "listening",
           TF_DETAILS(TF_STR("address", text), TF_NUM("port", port),
                      TF_STR("input", upload->input->name)),
           "systemd-journal-upload may connect");
}

static int upload_start(struct tf_journald *input, struct tf_error *err)
{
    static const struct tf_http_limits limits = {.connections = UPLOAD_CONNECTIONS,
                                                 .per_identity = UPLOAD_PER_IDENTITY,
                                                 .head_bytes = HEAD_BYTES,
                                                 .handshake_ms = HANDSHAKE_MS,
                                                 .head_ms = HEAD_MS,
                                                 .idle_ms = IDLE_MS};
    struct upload *upload = input->own;
    struct tf_http_handler handler = {
        .ctx = upload, .admits = admits, .on_refused = on_refused, .on_request = on_request};
    int rc =
        tf_http_start(input->loop, &upload->address, upload->tls, &limits, &handler, &upload->http);

    if (rc < 0) {
        (void)tf_error_add(err, &input->options->listen.at, "cannot listen on %s: %s",
                           listen_text(input), uv_strerror(rc));
        return rc;
    }
    (void)uv_timer_init(input->loop, &upload->timer); /* cannot fail */
    upload->timer.data = upload;
    (void)uv_timer_start(&upload->timer, on_look, 0, 0); /* what grew old while nobody ran */
    log_listening(upload);
    return 0;
}

static void on_http_closed(void *ctx)
{
    struct upload *upload = ctx;
    struct tf_journald *input = upload->input;

    input->open_handles--; /* never the last one: the timer is open */
    tf_journald_close_handle(input, (uv_handle_t *)&upload->timer);
}

static void upload_stop(struct tf_journald *input)
{
    struct upload *upload = input->own;

    upload->stopping = true;
    if (upload->http != NULL) {
        struct tf_http *http = upload->http;

        upload->http = NULL;
        input->open_handles++;
        (void)uv_timer_stop(&upload->timer);
        tf_http_close(http, on_http_closed, upload);
    }
}

static void upload_status(const struct tf_journald *input, struct tf_input_status *status)
{
    const struct upload *upload = input->own;

    status->connections = upload->http == NULL ? 0 : tf_http_connections(upload->http);
    status->certificate_until_s = upload->tls == NULL ? 0 : tf_tls_until_s(upload->tls);
}

static void upload_free(struct tf_journald *input)
{
    struct upload *upload = input->own;

    if (upload != NULL) {
        assert(upload->uploaders == NULL && upload->posts == NULL);
        tf_tls_unref(upload->tls);
        free(upload);
    }
}

const struct tf_journald_way tf_journald_upload = {
    .check = upload_check,
    .needs = upload_needs,
    .start = upload_start,
    .stop = upload_stop,
    .status = upload_status,
    .free = upload_free,
};
