/*
 * http_client.h - HTTP/1.1 over TLS from our side, on the loop, by libcurl.
 *
 * A client has one connection and at most one request at a time, a GET whose answer is handed on as
 * it comes, so that an answer may last for hours. The server's certificate and name are always
 * verified, against the authorities of the request and no others; nothing is read from the
 * environment, no redirect is followed, no proxy is asked, no cookie is kept. A build without
 * libcurl has no client.
 */
#ifndef TAFFRAIL_HTTP_CLIENT_H
#define TAFFRAIL_HTTP_CLIENT_H

#include <uv.h>

#include "taffrail/base.h"

#define TF_HTTP_WHY_BYTES 256u

struct tf_http_client;

struct tf_http_outcome {
    bool is_whole;               /* an answer came, and all of it */
    unsigned status;             /* 0: none came */
    char why[TF_HTTP_WHY_BYTES]; /* when it is not whole: what went wrong, without secrets */
};

struct tf_http_get {
    const char *url;               /* https:// */
    const char *const *headers;    /* "Name: value", NULL at the end; never logged */
    struct tf_slice authorities;   /* PEM */
    uint64_t connect_ms, whole_ms; /* how long it may take */
    void (*on_begun)(void *ctx);   /* the head of an answer with status 200 has come; as on_data */
    /* A piece of the body of an answer with status 200; data borrowed for the call. Below 0: the
     * request ends, not whole. It may not call the client. */
    int (*on_data)(void *ctx, struct tf_slice data);
    /* Once, from the loop: the request is over; the next may be made here. */
    void (*on_done)(void *ctx, const struct tf_http_outcome *outcome);
    void *ctx;
};

/* Of libcurl; NULL in a build without it. */
const char *tf_http_client_version(void);
/* Returns new; 0, -ENOMEM, or -ENOSYS without libcurl. */
int tf_http_client_new(uv_loop_t *loop, struct tf_http_client **out);
/* Begins; copies what it was given. No other request runs. 0, -ENOMEM or -EINVAL: then on_done does
 * not come. */
int tf_http_client_get(struct tf_http_client *client, const struct tf_http_get *get);
/* Ends what runs, without on_done, and frees it; then on_closed. */
void tf_http_client_close(struct tf_http_client *client, void (*on_closed)(void *ctx), void *ctx);

#endif
