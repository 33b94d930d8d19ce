/*
 * request.c - one request, between libmicrohttpd and its handler.
 *
 *     HEAD      inside on_request
 *     BODY      libmicrohttpd reads; each piece goes to on_data, or away
 *     PAUSED    on_data took less than there was: suspended until tf_http_resume
 *     WHOLE     on_end was told: suspended until there is an answer
 *     QUEUED    libmicrohttpd sends the answer
 *
 * libmicrohttpd calls tf_http_on_access with nothing when the head is whole, with each piece of the
 * body, and with nothing again when the body is whole, then as often as it runs until an answer is
 * queued. It takes an answer at the first and the last of these only, so one that is given between
 * waits for the end of the body. After an answer at the first it closes the connection, so without
 * a body the last is waited for. After the first it says 100 Continue where that was asked for, if
 * no answer was queued. A suspended request costs nothing and sees nothing, also not that its
 * connection ended: tf_http_request_drop resumes it, and it ends at the next call.
 */
#include "internal.h"

#include <assert.h>
#include <stdlib.h>

enum request_state { REQUEST_HEAD, REQUEST_BODY, REQUEST_PAUSED, REQUEST_WHOLE, REQUEST_QUEUED };

struct tf_http_request {
    enum request_state state;
    struct tf_http_connection *conn;
    struct MHD_Connection *mhd;
    const char *method, *path; /* libmicrohttpd's, as long as the request */
    struct tf_http_life life;
    bool in_data;                  /* inside on_data */
    bool resumes;                  /* asked for in there */
    bool dropped;                  /* its connection closes */
    size_t discarded_bytes;        /* of the body */
    struct MHD_Response *response; /* to be queued */
    unsigned status;
};

static bool is_suspended(const struct tf_http_request *request)
{
    return request->state == REQUEST_PAUSED || request->state == REQUEST_WHOLE;
}

/* Suspended requests wait for us, all others for the other end. */
static void set_deadline(struct tf_http_request *request)
{
    struct tf_http *http = request->conn->http;

    request->conn->deadline_ms =
        is_suspended(request) ? TF_HTTP_NEVER : uv_now(http->loop) + http->limits.idle_ms;
}

static void suspend(struct tf_http_request *request, enum request_state state)
{
    assert(!is_suspended(request));
    request->state = state;
    MHD_suspend_connection(request->mhd);
}

static void resume(struct tf_http_request *request)
{
    MHD_resume_connection(request->mhd);
    tf_http_soon(request->conn->http);
}

static enum MHD_Result queue_answer(struct tf_http_request *request)
{
    enum MHD_Result rc = MHD_queue_response(request->mhd, request->status, request->response);

    MHD_destroy_response(request->response);
    request->response = NULL;
    request->state = REQUEST_QUEUED;
    set_deadline(request);
    return rc;
}

/* ---- what libmicrohttpd tells --------------------------------------------------------------- */

static bool has_body(const struct tf_http_request *request)
{
    const char *length = tf_http_header(request, MHD_HTTP_HEADER_CONTENT_LENGTH);

    return tf_http_header(request, MHD_HTTP_HEADER_TRANSFER_ENCODING) != NULL ||
           (length != NULL && strcmp(length, "0") != 0);
}

static enum MHD_Result begin(struct tf_http *http, struct MHD_Connection *mhd, const char *url,
                             const char *method, void **slot)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    struct tf_http_connection *conn = info == NULL ? NULL : info->socket_context;
    struct tf_http_request *request;

    if (conn == NULL || conn->closing) {
        return MHD_NO;
    }
    request = calloc(1, sizeof *request);
    if (request == NULL) {
        return MHD_NO;
    }
    assert(conn->request == NULL);
    request->conn = conn;
    request->mhd = mhd;
    request->method = method;
    request->path = url;
    conn->request = request;
    conn->had_request = true;
    *slot = request;
    http->handler.on_request(http->handler.ctx, request);
    if (request->response != NULL && !request->dropped && has_body(request)) {
        return queue_answer(request);
    }
    request->state = REQUEST_BODY;
    set_deadline(request);
    return request->dropped ? MHD_NO : MHD_YES;
}

static enum MHD_Result discard(struct tf_http_request *request, size_t *size)
{
    request->discarded_bytes += *size;
    *size = 0;
    return request->discarded_bytes > TF_HTTP_DISCARD_MAX ? MHD_NO : MHD_YES;
}

static enum MHD_Result take_piece(struct tf_http_request *request, const char *data, size_t *size)
{
    size_t taken;

    if (request->response != NULL || request->life.on_data == NULL) {
        return discard(request, size);
    }
    request->in_data = true;
    request->resumes = false;
    taken = request->life.on_data(request->life.ctx, tf_slice(data, *size));
    request->in_data = false;
    assert(taken <= *size);
    *size -= taken;
    if (request->dropped) {
        return MHD_NO;
    }
    if (request->response != NULL) {
        return discard(request, size);
    }
    if (*size > 0) { /* left without a suspend, it would come only behind what is received next */
        suspend(request, REQUEST_PAUSED);
        if (request->resumes) {
            tf_http_resume(request);
        }
    }
    return MHD_YES;
}

static enum MHD_Result take_end(struct tf_http_request *request)
{
    if (request->state == REQUEST_BODY && request->response == NULL &&
        request->life.on_end != NULL) {
        request->state = REQUEST_HEAD; /* an answer in there shall not resume */
        request->life.on_end(request->life.ctx);
    }
    if (request->dropped) {
        return MHD_NO;
    }
    if (request->response != NULL) {
        return queue_answer(request);
    }
    suspend(request, REQUEST_WHOLE);
    return MHD_YES;
}

enum MHD_Result tf_http_on_access(void *ctx, struct MHD_Connection *mhd, const char *url,
                                  const char *method, const char *version, const char *data,
                                  size_t *size, void **slot)
{
    struct tf_http_request *request = *slot;
    enum MHD_Result rc;

    (void)version;
    if (request == NULL) {
        return begin(ctx, mhd, url, method, slot);
    }
    if (request->dropped) {
        return MHD_NO;
    }
    if (request->state == REQUEST_PAUSED) { /* resumed */
        request->state = REQUEST_BODY;
    } else if (request->state == REQUEST_WHOLE) {
        request->state = REQUEST_HEAD;
    }
    rc = *size > 0 ? take_piece(request, data, size) : take_end(request);
    set_deadline(request);
    return rc;
}

void tf_http_on_completed(void *ctx, struct MHD_Connection *mhd, void **slot,
                          enum MHD_RequestTerminationCode code)
{
    struct tf_http_request *request = *slot;
    struct tf_http_connection *conn;

    (void)ctx;
    (void)mhd;
    if (request == NULL) {
        return;
    }
    *slot = NULL;
    conn = request->conn;
    conn->request = NULL;
    conn->deadline_ms = uv_now(conn->http->loop) + conn->http->limits.idle_ms;
    if (request->response != NULL) {
        MHD_destroy_response(request->response);
    }
    if (request->life.on_over != NULL) {
        request->life.on_over(request->life.ctx, code == MHD_REQUEST_TERMINATED_COMPLETED_OK &&
                                                     request->state == REQUEST_QUEUED);
    }
    free(request);
}

void tf_http_request_drop(struct tf_http_request *request)
{
    if (request->dropped) {
        return;
    }
    request->dropped = true;
    if (is_suspended(request)) {
        resume(request);
    }
}

/* ---- what the handler says ------------------------------------------------------------------ */

const char *tf_http_method(const struct tf_http_request *request)
{
    return request->method;
}

const char *tf_http_path(const struct tf_http_request *request)
{
    return request->path;
}

const char *tf_http_identity(const struct tf_http_request *request)
{
    return request->conn->http->tls == NULL ? NULL : request->conn->identity;
}

const char *tf_http_peer(const struct tf_http_request *request)
{
    return request->conn->peer;
}

const char *tf_http_header(const struct tf_http_request *request, const char *name)
{
    return MHD_lookup_connection_value(request->mhd, MHD_HEADER_KIND, name);
}

void tf_http_follow(struct tf_http_request *request, const struct tf_http_life *life)
{
    assert(request->state == REQUEST_HEAD);
    request->life = *life;
}

void tf_http_resume(struct tf_http_request *request)
{
    if (request->in_data) {
        request->resumes = true;
    } else if (request->state == REQUEST_PAUSED && !request->dropped) {
        request->state = REQUEST_BODY;
        set_deadline(request);
        resume(request);
    }
}

static struct MHD_Response *make_response(const struct tf_http_answer *answer)
{
    struct MHD_Response *response = MHD_create_response_from_buffer(
        answer->body.size, (void *)(uintptr_t)answer->body.data, MHD_RESPMEM_MUST_COPY);

    if (response == NULL) {
        return NULL;
    }
    if ((answer->type != NULL &&
         MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, answer->type) == MHD_NO) ||
        (answer->allow != NULL &&
         MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, answer->allow) == MHD_NO)) {
        MHD_destroy_response(response);
        return NULL;
    }
    for (const struct tf_http_field *field = answer->fields; field != NULL && field->name != NULL;
         field++) {
        if (MHD_add_response_header(response, field->name, field->value) == MHD_NO) {
            MHD_destroy_response(response);
            return NULL;
        }
    }
    return response;
}

void tf_http_answer(struct tf_http_request *request, const struct tf_http_answer *answer)
{
    if (request->response != NULL || request->state == REQUEST_QUEUED || request->dropped) {
        return;
    }
    request->response = make_response(answer);
    request->status = answer->status;
    if (request->response == NULL) {
        tf_http_cut(request, "no memory for an answer");
    } else if (is_suspended(request)) {
        resume(request);
    }
}

void tf_http_cut(struct tf_http_request *request, const char *reason)
{
    tf_http_connection_close(request->conn, reason);
}
