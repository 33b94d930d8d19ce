/*
 * names.c - what the C library reads to look up a host name (getaddrinfo(3)).
 *
 * Which sources there are, the hosts, the name servers: files in /etc, which as a whole stays
 * closed, for it has the machine's passwords and keys. Where such a file is a link into a folder
 * that a program keeps for it (systemd-resolved, NetworkManager), that folder is open, and what the
 * program puts there is read. Where the file itself lies in /etc and is replaced, stale.c tells.
 */
#include "internal.h"

#include <stdlib.h>

#define DNS_PORT 53u

static const char *const files[] = {"/etc/resolv.conf", "/etc/nsswitch.conf", "/etc/hosts",
                                    "/etc/host.conf",   "/etc/gai.conf",      "/etc/services",
                                    "/etc/ld.so.cache"};

static void allow_file(const struct tf_landlock *rules, const char *path)
{
    char real[PATH_MAX], folder[PATH_MAX], above[PATH_MAX];

    (void)tf_landlock_allow(rules, path, TF_LANDLOCK_READ_FILE);
    if (realpath(path, real) != NULL && strcmp(real, path) != 0 && tf_needs_folder(real, folder) &&
        tf_needs_folder(folder, above) && strncmp(real, "/etc/", 5) != 0) {
        (void)tf_landlock_allow(rules, folder, TF_LANDLOCK_READ);
    }
}

bool tf_names_allow(const struct tf_landlock *rules)
{
    bool is_noted = true;

    for (size_t i = 0; i < TF_COUNT(files); i++) {
        is_noted &= tf_stale_note(files[i], true);
        allow_file(rules, files[i]);
    }
    tf_landlock_allow_port(rules, DNS_PORT, TF_LANDLOCK_CONNECT_TCP);
    return is_noted;
}
