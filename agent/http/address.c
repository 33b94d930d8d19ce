/*
 * address.c - where to listen, as it is written in a configuration.
 */
#include "taffrail/http.h"

#include <errno.h>
#include <stdio.h>

static int parse_port(const char *text)
{
    int port = 0;

    if (*text == '\0') {
        return -EINVAL;
    }
    for (; *text != '\0'; text++) {
        if (*text < '0' || *text > '9') {
            return -EINVAL;
        }
        port = port * 10 + (*text - '0');
        if (port > 65535) {
            return -EINVAL;
        }
    }
    return port;
}

static int parse_unix(const char *path, struct tf_http_address *out)
{
    size_t size = strlen(path);

    if (size == 0 || size >= sizeof out->unix_path) {
        return -EINVAL;
    }
    memcpy(out->unix_path, path, size + 1);
    return 0;
}

int tf_http_address_parse(const char *text, struct tf_http_address *out)
{
    const char *colon = strrchr(text, ':');
    size_t size = colon == NULL ? 0 : (size_t)(colon - text);
    bool is_v6 = size > 2 && text[0] == '[' && text[size - 1] == ']';
    char host[TF_HTTP_PEER_MAX + 1];
    int port, rc;

    *out = (struct tf_http_address){0};
    if (strncmp(text, "unix:", 5) == 0) {
        return parse_unix(text + 5, out);
    }
    port = colon == NULL ? -EINVAL : parse_port(colon + 1);
    if (port < 0 || size == 0 || size >= sizeof host) {
        return -EINVAL;
    }
    (void)snprintf(host, sizeof host, "%.*s", (int)(is_v6 ? size - 2 : size), text + is_v6);
    rc = is_v6 ? uv_ip6_addr(host, port, (struct sockaddr_in6 *)&out->address)
               : uv_ip4_addr(host, port, (struct sockaddr_in *)&out->address);
    return rc == 0 ? 0 : -EINVAL;
}

bool tf_http_address_is_local(const struct tf_http_address *address)
{
    const struct sockaddr_in *v4 = (const struct sockaddr_in *)&address->address;
    const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)&address->address;

    return address->unix_path[0] != '\0' ||
           (address->address.ss_family == AF_INET ? ntohl(v4->sin_addr.s_addr) >> 24 == 127
                                                  : IN6_IS_ADDR_LOOPBACK(&v6->sin6_addr) != 0);
}
