/*
 * client_none.c - the HTTP client of a build without libcurl: none can be made, so nothing else is
 * ever called.
 */
#include "taffrail/http_client.h"

#include <errno.h>
#include <stdlib.h>

const char *tf_http_client_version(void)
{
    return NULL;
}

int tf_http_client_new(uv_loop_t *loop, struct tf_http_client **out)
{
    (void)loop;
    (void)out;
    return -ENOSYS;
}

int tf_http_client_get(struct tf_http_client *client, const struct tf_http_get *get)
{
    (void)client;
    (void)get;
    abort();
}

void tf_http_client_close(struct tf_http_client *client, void (*on_closed)(void *ctx), void *ctx)
{
    (void)client;
    (void)on_closed;
    (void)ctx;
    abort();
}
