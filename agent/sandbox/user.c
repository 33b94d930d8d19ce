/*
 * user.c - from root to another user, who keeps no more than capabilities.c leaves.
 */
#include "internal.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <sys/prctl.h>
#include <unistd.h>

static int refuse(const struct tf_text *user, struct tf_error *err, const char *why)
{
    return tf_error_add(err, &user->at, "sandbox.user: \"%s\" %s", user->text, why);
}

static int become(const struct passwd *entry, const struct tf_text *user, struct tf_error *err)
{
    if (prctl(PR_SET_KEEPCAPS, 1UL, 0UL, 0UL, 0UL) != 0 ||
        initgroups(entry->pw_name, entry->pw_gid) != 0 ||
        setresgid(entry->pw_gid, entry->pw_gid, entry->pw_gid) != 0 ||
        setresuid(entry->pw_uid, entry->pw_uid, entry->pw_uid) != 0) {
        return refuse(user, err, "cannot be taken: the right to change users is missing");
    }
    (void)prctl(PR_SET_KEEPCAPS, 0UL, 0UL, 0UL, 0UL);
    return 0;
}

/* NULL: and that is said. */
static const struct passwd *find(const struct tf_text *user, struct tf_error *err)
{
    const struct passwd *entry = getpwnam(user->text); // NOLINT(concurrency-mt-unsafe): one thread

    if (entry == NULL) {
        (void)refuse(user, err, "is no user of this machine; make it, or leave the key out");
    }
    return entry;
}

int tf_user_check(const struct tf_text *user, struct tf_error *err)
{
    return find(user, err) != NULL ? 0 : -EINVAL;
}

int tf_user_become(const struct tf_text *user, struct tf_error *err)
{
    const struct passwd *entry = find(user, err);

    if (entry == NULL) {
        return -EINVAL;
    }
    if (entry->pw_uid == geteuid()) {
        return 0;
    }
    if (geteuid() != 0) {
        return refuse(user, err, "cannot be taken: only root may; leave the key out");
    }
    return become(entry, user, err);
}
