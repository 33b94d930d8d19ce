/*
 * none.c - the HTTP room of a build without libmicrohttpd: no server can be started, so nothing
 * else is ever called.
 */
#include "taffrail/http.h"

#include <errno.h>
#include <stdlib.h>

bool tf_http_is_built(void)
{
    return false;
}

int tf_http_start(uv_loop_t *loop, const struct tf_http_address *address, struct tf_tls *tls,
                  const struct tf_http_limits *limits, const struct tf_http_handler *handler,
                  struct tf_http **out)
{
    (void)loop;
    (void)address;
    (void)tls;
    (void)limits;
    (void)handler;
    (void)out;
    return -ENOSYS;
}

unsigned tf_http_bound(const struct tf_http *http, char text[TF_HTTP_PEER_MAX + 1])
{
    (void)http;
    (void)text;
    abort();
}

uint32_t tf_http_connections(const struct tf_http *http)
{
    (void)http;
    abort();
}

void tf_http_close(struct tf_http *http, void (*on_closed)(void *ctx), void *ctx)
{
    (void)http;
    (void)on_closed;
    (void)ctx;
    abort();
}

const char *tf_http_method(const struct tf_http_request *request)
{
    (void)request;
    abort();
}

const char *tf_http_path(const struct tf_http_request *request)
{
    (void)request;
    abort();
}

const char *tf_http_identity(const struct tf_http_request *request)
{
    (void)request;
    abort();
}

const char *tf_http_peer(const struct tf_http_request *request)
{
    (void)request;
    abort();
}

const char *tf_http_header(const struct tf_http_request *request, const char *name)
{
    (void)request;
    (void)name;
    abort();
}

void tf_http_follow(struct tf_http_request *request, const struct tf_http_life *life)
{
    (void)request;
    (void)life;
    abort();
}

void tf_http_resume(struct tf_http_request *request)
{
    (void)request;
    abort();
}

void tf_http_answer(struct tf_http_request *request, const struct tf_http_answer *answer)
{
    (void)request;
    (void)answer;
    abort();
}

void tf_http_cut(struct tf_http_request *request, const char *reason)
{
    (void)request;
    (void)reason;
    abort();
}
