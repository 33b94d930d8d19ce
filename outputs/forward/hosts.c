/*
 * hosts.c - `hosts` of the forward output, from text to name and port, from a name to addresses.
 *
 *     logs.example.com    192.0.2.10:24224    [2001:db8::10]:24224
 *
 * The name is what the peer's certificate must prove (unless tls.identity names others), so it is
 * taken as it is written, and what no certificate could prove is refused here: an empty label, an
 * address that is none, a URL.
 */
#include "internal.h"

#include <stdio.h>
#include <strings.h>

#define LABEL_MAX 63u
#define PORT_MAX  65535u

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_name_character(char c)
{
    return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' || c == '_';
}

/* Labels of 1 to 63 characters, parted by single dots. */
static bool is_dns_name(struct tf_slice name)
{
    size_t label_bytes = 0;

    for (size_t i = 0; i < name.size; i++) {
        if (name.data[i] == '.' && label_bytes > 0) {
            label_bytes = 0;
        } else if (!is_name_character(name.data[i]) || ++label_bytes > LABEL_MAX) {
            return false;
        }
    }
    return label_bytes > 0;
}

/* What a resolver may take for a number, whatever it looks like to us. */
static bool looks_like_ipv4(struct tf_slice name)
{
    size_t last = name.size;

    while (last > 0 && name.data[last - 1] != '.') {
        last--;
    }
    return last < name.size && is_digit(name.data[last]);
}

static int check_name(const struct tf_text *text, struct tf_slice name, bool in_brackets,
                      struct tf_error *err)
{
    char copy[TF_FORWARD_NAME_MAX + 1] = {0};
    unsigned char address[16];

    if (name.size == 0 || name.size > TF_FORWARD_NAME_MAX) {
        return tf_error_add(err, &text->at,
                            "hosts: \"%s\" has a name of %zu characters, 1 to %u are allowed",
                            text->text, name.size, TF_FORWARD_NAME_MAX);
    }
    memcpy(copy, name.data, name.size);
    if (in_brackets) {
        return strchr(copy, '%') == NULL && uv_inet_pton(AF_INET6, copy, address) == 0
                   ? 0
                   : tf_error_add(err, &text->at,
                                  "hosts: \"%s\" is not an IPv6 address; write [2001:db8::10]:%u",
                                  copy, TF_FORWARD_PORT);
    }
    if (looks_like_ipv4(name) && uv_inet_pton(AF_INET, copy, address) != 0) {
        return tf_error_add(err, &text->at,
                            "hosts: \"%s\" is neither a name nor an address; write four numbers "
                            "0..255 parted by dots",
                            copy);
    }
    if (!is_dns_name(name)) {
        return tf_error_add(err, &text->at,
                            "hosts: \"%s\" is not a host name; write host or host:port", copy);
    }
    return 0;
}

static int parse_port(const struct tf_text *text, struct tf_slice port, uint16_t *out,
                      struct tf_error *err)
{
    unsigned number = 0;
    bool sound = port.size > 0;

    for (size_t i = 0; i < port.size && sound; i++) {
        sound = is_digit(port.data[i]) && number <= PORT_MAX;
        number = sound ? number * 10 + (unsigned)(port.data[i] - '0') : number;
    }
    if (!sound || number < 1 || number > PORT_MAX) {
        return tf_error_add(err, &text->at, "hosts: port %.*s is not in 1..%u; forward uses %u",
                            (int)(port.size < 32 ? port.size : 32), port.data, PORT_MAX,
                            TF_FORWARD_PORT);
    }
    *out = (uint16_t)number;
    return 0;
}

/* Where the name ends: behind the bracket, at the colon, or at the end. */
static int split(const struct tf_text *text, struct tf_slice *name, struct tf_slice *port,
                 struct tf_error *err)
{
    const char *at = text->text, *end = at + strlen(at), *colon;

    *name = tf_slice(at, 0);
    *port = tf_slice(NULL, 0);
    if (*at == '[') {
        const char *bracket = strchr(at, ']');

        if (bracket == NULL || (bracket[1] != '\0' && bracket[1] != ':')) {
            return tf_error_add(err, &text->at,
                                "hosts: \"%s\" has no sound bracket; write [2001:db8::10]:%u", at,
                                TF_FORWARD_PORT);
        }
        *name = tf_slice(at + 1, (size_t)(bracket - at) - 1);
        colon = bracket[1] == ':' ? bracket + 1 : NULL;
    } else {
        colon = strchr(at, ':');
        if (colon != NULL && strchr(colon + 1, ':') != NULL) {
            return tf_error_add(err, &text->at,
                                "hosts: \"%s\" has several colons; write an IPv6 address in "
                                "brackets, [2001:db8::10]:%u",
                                at, TF_FORWARD_PORT);
        }
        *name = tf_slice(at, (size_t)((colon != NULL ? colon : end) - at));
    }
    if (colon != NULL) {
        *port = tf_slice(colon + 1, (size_t)(end - colon) - 1);
    }
    return 0;
}

int tf_forward_host_parse(const struct tf_text *text, struct tf_forward_host *out,
                          struct tf_error *err)
{
    struct tf_forward_host host = {.port = TF_FORWARD_PORT};
    struct tf_slice name = {0}, port = {0};
    int rc;

    if (strncmp(text->text, "srv:", 4) == 0) {
        return tf_error_add(err, &text->at,
                            "hosts: \"%s\": looking up SRV names is not in this release; list the "
                            "hosts behind it",
                            text->text);
    }
    if (strstr(text->text, "://") != NULL) {
        return tf_error_add(err, &text->at, "hosts: \"%s\" is a URL; write host or host:port",
                            text->text);
    }
    rc = split(text, &name, &port, err);
    if (rc == 0) {
        rc = check_name(text, name, text->text[0] == '[', err);
    }
    if (rc == 0 && port.data != NULL) {
        rc = parse_port(text, port, &host.port, err);
    }
    if (rc < 0) {
        return rc;
    }
    memcpy(host.name, name.data, name.size);
    *out = host;
    return 0;
}

void tf_forward_host_print(const struct tf_forward_host *host,
                           char text[TF_FORWARD_HOST_TEXT_BYTES])
{
    bool is_ipv6 = strchr(host->name, ':') != NULL;

    (void)snprintf(text, TF_FORWARD_HOST_TEXT_BYTES, "%s%s%s:%u", is_ipv6 ? "[" : "", host->name,
                   is_ipv6 ? "]" : "", host->port);
}

bool tf_forward_host_equal(const struct tf_forward_host *a, const struct tf_forward_host *b)
{
    return a->port == b->port && strcasecmp(a->name, b->name) == 0;
}

bool tf_forward_host_is_literal(const struct tf_forward_host *host)
{
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;

    return uv_ip4_addr(host->name, host->port, &v4) == 0 ||
           uv_ip6_addr(host->name, host->port, &v6) == 0;
}

/* ---- addresses ------------------------------------------------------------------------------ */

static void add_address(struct tf_forward_addresses *list, const struct sockaddr *address)
{
    size_t size;

    if (address->sa_family == AF_INET) {
        size = sizeof(struct sockaddr_in);
    } else if (address->sa_family == AF_INET6) {
        size = sizeof(struct sockaddr_in6);
    } else {
        return;
    }
    if (list->count < TF_FORWARD_ADDRESSES_MAX) {
        memcpy(&list->items[list->count++], address, size);
    }
}

bool tf_forward_addresses_literal(struct tf_forward_addresses *list,
                                  const struct tf_forward_host *host)
{
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } address = {0};

    if (uv_ip4_addr(host->name, host->port, &address.v4) != 0 &&
        uv_ip6_addr(host->name, host->port, &address.v6) != 0) {
        return false;
    }
    add_address(list, &address.any);
    return true;
}

int tf_forward_look_up(uv_loop_t *loop, uv_getaddrinfo_t *request,
                       const struct tf_forward_host *host, uv_getaddrinfo_cb on_looked_up)
{
    const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    char port[8];

    (void)snprintf(port, sizeof port, "%u", host->port);
    return uv_getaddrinfo(loop, request, on_looked_up, host->name, port, &hints);
}

void tf_forward_addresses_add(struct tf_forward_addresses *list, const struct addrinfo *answer)
{
    for (const struct addrinfo *item = answer; item != NULL; item = item->ai_next) {
        add_address(list, item->ai_addr);
    }
}
