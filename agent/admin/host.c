/*
 * host.c - by which names a browser may ask: the header Host (RFC 9110, section 7.2).
 *
 * A page of somebody else reaches loopback through a name that it controls (DNS rebinding). Such a
 * name stands in Host, and no page can make a browser send another; an address or localhost is
 * nobody else's to give.
 */
#include "internal.h"

#include "taffrail/http.h"

/* Nothing, or a colon and digits. */
static bool is_port(const char *text)
{
    return text[0] == '\0' ||
           (text[0] == ':' && strspn(text + 1, "0123456789") == strlen(text + 1));
}

/* A scope ("%eth0") is only of use to who is on the same link. */
static bool is_v6(const char *text)
{
    struct sockaddr_in6 address;

    return strchr(text, '%') == NULL && uv_ip6_addr(text, 0, &address) == 0;
}

static bool is_v4_or_localhost(const char *text)
{
    struct sockaddr_in address;

    return strcasecmp(text, "localhost") == 0 || uv_ip4_addr(text, 0, &address) == 0;
}

bool tf_admin_host_is_ours(const char *host)
{
    char name[TF_HTTP_PEER_MAX + 1];
    bool has_bracket;
    size_t size;

    if (host == NULL) {
        return false;
    }
    has_bracket = host[0] == '[';
    host += has_bracket;
    size = strcspn(host, has_bracket ? "]" : ":");
    if (size >= sizeof name || (has_bracket && host[size] != ']') ||
        !is_port(host + size + has_bracket)) {
        return false;
    }
    memcpy(name, host, size);
    name[size] = '\0';
    return has_bracket ? is_v6(name) : is_v4_or_localhost(name);
}
