/*
 * server.c - where the API server is: "https://HOST[:PORT][/]", and nothing else of a URL.
 */
#include "kubernetes.h"

#include <arpa/inet.h>
#include <errno.h>

#define SCHEME     "https://"
#define HOST_MAX   253u
#define PORT_USUAL 443u
#define DIGITS_MAX 5u

/* ":PORT" or nothing, then "/" or nothing. */
static int take_port(const char *at, uint16_t *port)
{
    uint32_t value = *at == ':' ? 0 : PORT_USUAL;

    if (*at == ':') {
        at++;
        for (unsigned i = 0; i < DIGITS_MAX && *at >= '0' && *at <= '9'; i++, at++) {
            value = value * 10 + (uint32_t)(*at - '0');
        }
    }
    at += *at == '/';
    if (*at != '\0' || value == 0 || value > UINT16_MAX) {
        return -EINVAL;
    }
    *port = (uint16_t)value;
    return 0;
}

int tf_server_parse(const char *url, struct tf_server *out)
{
    struct tf_server server = {0};
    char host[HOST_MAX + 1];
    struct in_addr v4;
    struct in6_addr v6;
    bool is_bracketed;
    size_t size;

    if (strncmp(url, SCHEME, strlen(SCHEME)) != 0) {
        return -EINVAL;
    }
    url += strlen(SCHEME);
    is_bracketed = *url == '[';
    url += is_bracketed;
    size = strspn(url, is_bracketed ? "0123456789abcdefABCDEF:."
                                    : "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRST"
                                      "UVWXYZ-.");
    if (size == 0 || size > HOST_MAX || (is_bracketed && url[size] != ']')) {
        return -EINVAL;
    }
    memcpy(host, url, size);
    host[size] = '\0';
    if (is_bracketed && inet_pton(AF_INET6, host, &v6) != 1) {
        return -EINVAL;
    }
    server.is_literal = is_bracketed || inet_pton(AF_INET, host, &v4) == 1;
    if (take_port(url + size + is_bracketed, &server.port) < 0) {
        return -EINVAL;
    }
    *out = server;
    return 0;
}
