/*
 * fuzz_host.c - Host headers of hostile pages.
 *
 * What is taken is localhost or an address: it has no letter that an address or its port has not,
 * and getaddrinfo takes it without asking anybody.
 */
#include <assert.h>
#include <netdb.h>
#include <stdlib.h>

#include "../../agent/admin/internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_numeric(const char *host)
{
    const struct addrinfo hints = {.ai_flags = AI_NUMERICHOST};
    struct addrinfo *found = NULL;
    bool is_v6 = host[0] == '[';
    size_t length = strcspn(host + is_v6, is_v6 ? "]" : ":");
    char *name = strndup(host + is_v6, length);

    assert(name != NULL);
    assert(strcasecmp(name, "localhost") == 0 || getaddrinfo(name, NULL, &hints, &found) == 0);
    if (found != NULL) {
        freeaddrinfo(found);
    }
    free(name);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *host = strndup((const char *)data, size); /* exact: reading past it is seen */

    if (host == NULL) {
        return 0;
    }
    if (tf_admin_host_is_ours(host)) {
        check_numeric(host);
    }
    free(host);
    return 0;
}
