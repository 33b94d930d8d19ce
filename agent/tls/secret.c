/*
 * secret.c - who may read a file that holds a secret.
 *
 * Judged by the open descriptor, so that the file cannot be exchanged in between: a regular file,
 * owned by root or by us, nothing for others, no write or execute for the group; read for the group
 * only as tf_group_read_is_ours has it. Links are followed, since mounted secrets are links.
 */
#include "internal.h"

#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define OWNER_TEXT_BYTES 32u

static void owner_text(uid_t owner, char text[OWNER_TEXT_BYTES])
{
    if (owner == 0) {
        (void)snprintf(text, OWNER_TEXT_BYTES, "root");
    } else {
        (void)snprintf(text, OWNER_TEXT_BYTES, "uid %lu", (unsigned long)owner);
    }
}

int tf_secret_check_option(int fd, const char *option, const char *path, const struct tf_place *at,
                           struct tf_error *err)
{
    char owner[OWNER_TEXT_BYTES];
    struct stat st;
    unsigned mode;

    if (fstat(fd, &st) < 0) {
        return tf_error_add(err, at, "%s%s cannot be examined (errno %d)", option, path, errno);
    }
    if (!S_ISREG(st.st_mode)) {
        return tf_error_add(err, at, "%s%s is not a regular file; name the file itself", option,
                            path);
    }
    mode = (unsigned)st.st_mode & 0777;
    owner_text(st.st_uid, owner);
    if (st.st_uid != 0 && st.st_uid != geteuid()) {
        return tf_error_add(err, at,
                            "%s%s belongs to another user (mode %04o, owner %s); chown it to root "
                            "or to the agent's user",
                            option, path, mode, owner);
    }
    if ((mode & 037) != 0 || !tf_group_read_is_ours(fd, &st)) {
        return tf_error_add(err, at,
                            "%s%s can be read by others (mode %04o, owner %s); chmod 0600 %s, in "
                            "Kubernetes defaultMode: 0440 and fsGroup",
                            option, path, mode, owner, path);
    }
    return 0;
}

int tf_secret_file_check(int fd, const char *path, const struct tf_place *at, struct tf_error *err)
{
    return tf_secret_check_option(fd, "", path, at, err);
}
