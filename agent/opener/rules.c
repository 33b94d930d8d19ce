/*
 * rules.c - how a path becomes a descriptor, or does not.
 *
 * Nothing outside the roots is opened. A root is a folder that the configuration names; below it
 * every step is openat2 beneath the directory before it, without links and without leaving the file
 * system, and each directory must belong to an owner that is trusted and be writable by nobody
 * else. A link is read, not followed: its target must lie, as text, in a root, and is opened
 * beneath that root in the same way, at most HOPS_MAX times in a row. What is opened must be a
 * regular file with one name that belongs to a trusted owner. So a container that plants links,
 * hard links, fifos or devices in a folder it can write to gains nothing.
 *
 * A look tells numbers only: it takes the same steps, and does not ask whom the folders belong to.
 *
 * The right to pass the modes of root's folders and files, where this process has it, is raised for
 * the length of each (sandbox.h).
 *
 * Where the kernel has no openat2 (before 5.6), each step is openat with O_NOFOLLOW, and another
 * file system is known by its device.
 */
#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <linux/openat2.h>

#include "taffrail/sandbox.h"

#define HOPS_MAX 3u

/* ---- steps ------------------------------------------------------------------------------------
 */

static int stat_fd(int fd, struct statx *out)
{
    return statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS | STATX_BTIME, out) < 0 ? -errno : 0;
}

static bool is_same_device(const struct statx *a, const struct statx *b)
{
    return a->stx_dev_major == b->stx_dev_major && a->stx_dev_minor == b->stx_dev_minor;
}

/* Takes the next component off a path. 0 or -ENAMETOOLONG. */
static int take_part(const char **path, char name[NAME_MAX + 1])
{
    size_t size = strcspn(*path, "/");

    if (size > NAME_MAX) {
        return -ENAMETOOLONG;
    }
    memcpy(name, *path, size);
    name[size] = '\0';
    *path += size;
    *path += **path == '/';
    return 0;
}

static int open_old_step(int dir_fd, const char *name, int flags)
{
    struct statx above = {0}, below = {0};
    int fd = openat(dir_fd, name, flags);
    int rc = fd < 0 ? -errno : stat_fd(dir_fd, &above);

    if (rc == 0) {
        rc = stat_fd(fd, &below);
    }
    if (rc == 0 && !is_same_device(&above, &below)) {
        rc = -EXDEV;
    }
    if (rc < 0 && fd >= 0) {
        (void)close(fd);
    }
    return rc < 0 ? rc : fd;
}

/* As openat2 does it, as far as an older kernel can. */
static int open_old(int dir_fd, const char *path, int flags)
{
    int fd = dir_fd;

    while (fd >= 0 && *path != '\0') {
        char name[NAME_MAX + 1];
        int below = take_part(&path, name);

        below = below == 0 ? open_old_step(fd, name, flags) : below;
        if (fd != dir_fd) {
            (void)close(fd);
        }
        fd = below;
    }
    return fd;
}

/* Down from a folder, never through a link. Of a path with several components all are opened so. */
static int open_beneath(int dir_fd, const char *path, int flags, enum tf_open_why *why)
{
    struct open_how how = {.flags = (uint64_t)(flags | O_NOFOLLOW | O_CLOEXEC),
                           .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS |
                                      RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV};
    int fd = (int)syscall(SYS_openat2, dir_fd, path, &how, sizeof how);

    fd = fd < 0 ? -errno : fd;
    if (fd == -ENOSYS || fd == -EPERM) { /* an old kernel, or a filter that knows it not */
        fd = open_old(dir_fd, path, (int)how.flags);
    }
    if (fd == -EXDEV) {
        *why = TF_WHY_MOUNT;
        return -EPERM;
    }
    return fd;
}

/* ---- trust ------------------------------------------------------------------------------------
 */

static bool is_trusted_user(const struct tf_opener *opener, uint32_t user)
{
    for (size_t i = 0; i < opener->owner_count; i++) {
        if (opener->owners[i].user == user) {
            return true;
        }
    }
    return false;
}

static bool is_trusted_group(const struct tf_opener *opener, uint32_t group)
{
    for (size_t i = 0; i < opener->owner_count; i++) {
        if (opener->owners[i].group == group) {
            return true;
        }
    }
    return false;
}

/* With an access list the group's bits are its mask: who may write stands in the list (acl(5)). */
static bool has_access_list(int fd)
{
    return fgetxattr(fd, "system.posix_acl_access", NULL, 0) > 0;
}

static bool others_may_write(const struct tf_opener *opener, int fd, const struct statx *status)
{
    return (status->stx_mode & S_IWOTH) != 0 ||
           ((status->stx_mode & S_IWGRP) != 0 &&
            (!is_trusted_group(opener, status->stx_gid) || has_access_list(fd)));
}

static int check_dir(const struct tf_opener *opener, int fd, enum tf_open_why *why)
{
    struct statx status;
    int rc = stat_fd(fd, &status);

    if (rc < 0) {
        return rc;
    }
    if (!is_trusted_user(opener, status.stx_uid)) {
        *why = TF_WHY_FOLDER_OWNER;
        return -EPERM;
    }
    if (others_may_write(opener, fd, &status)) {
        *why = TF_WHY_FOLDER_MODE;
        return -EPERM;
    }
    return 0;
}

static int check_file(const struct tf_opener *opener, const struct statx *status,
                      enum tf_open_why *why)
{
    if (!S_ISREG(status->stx_mode)) {
        *why = TF_WHY_KIND;
    } else if (status->stx_nlink > 1) {
        *why = TF_WHY_NAMES;
    } else if (!is_trusted_user(opener, status->stx_uid)) {
        *why = TF_WHY_OWNER;
    } else {
        return 0;
    }
    return -EPERM;
}

/* ---- folders ----------------------------------------------------------------------------------
 */

/* Takes fd, of a directory, or a negative errno; returns it when it may be used. */
static int checked_dir(const struct tf_opener *opener, int fd, enum tf_open_why *why)
{
    int rc = fd < 0 ? fd : check_dir(opener, fd, why);

    if (rc < 0 && fd >= 0) {
        (void)close(fd);
    }
    return rc < 0 ? rc : fd;
}

/* The operator's own words. */
static int open_root(const char *root, int flags)
{
    int fd = open(root, flags | O_DIRECTORY | O_CLOEXEC);

    fd = fd < 0 ? -errno : fd;
    if (fd == -EACCES) {
        tf_sandbox_look(root);
    }
    return fd;
}

/* Opens a folder below a root, "" for the root; each on the way is one that may be read. */
static int open_folder(const struct tf_opener *opener, const char *root, const char *path,
                       enum tf_open_why *why)
{
    const int flags = O_RDONLY | O_NONBLOCK | O_NOCTTY;
    int fd = checked_dir(opener, open_root(root, flags), why);

    while (fd >= 0 && *path != '\0') {
        char name[NAME_MAX + 1];
        int below = take_part(&path, name);

        below = below == 0 ? open_beneath(fd, name, flags | O_DIRECTORY, why) : below;
        (void)close(fd);
        fd = checked_dir(opener, below, why);
    }
    return fd;
}

/* The same for a look: good to go on from, and for no reading. */
static int reach_folder(const char *root, const char *path, enum tf_open_why *why)
{
    int root_fd = open_root(root, O_PATH), fd;

    if (root_fd < 0 || *path == '\0') {
        return root_fd;
    }
    fd = open_beneath(root_fd, path, O_PATH | O_DIRECTORY, why);
    (void)close(root_fd);
    return fd;
}

/* ---- links ------------------------------------------------------------------------------------
 */

/* What a spot's last name lies in, and how it stands. */
struct found {
    int dir_fd;       /* owned */
    const char *name; /* in the spot; "": the root itself */
    struct statx status;
};

/* The bytes of rest that name its folder. */
static size_t folder_size(const char *rest)
{
    const char *slash = strrchr(rest, '/');

    return slash != NULL ? (size_t)(slash - rest) : 0;
}

static const char *last_name(const char *rest)
{
    const char *slash = strrchr(rest, '/');

    return slash != NULL ? slash + 1 : rest;
}

/* The folder that a spot lies in. */
static int open_above(const struct tf_opener *opener, const struct tf_spot *spot, bool is_look,
                      enum tf_open_why *why)
{
    const char *root = opener->roots[spot->root];
    size_t size = folder_size(spot->rest);
    char path[TF_FILE_PATH_MAX];

    memcpy(path, spot->rest, size);
    path[size] = '\0';
    return is_look ? reach_folder(root, path, why) : open_folder(opener, root, path, why);
}

/* Replaces spot by where the link in its last name leads, as text. */
static int read_link(const struct tf_opener *opener, int dir_fd, struct tf_spot *spot,
                     enum tf_open_why *why)
{
    char target[TF_FILE_PATH_MAX], joined[3 * TF_FILE_PATH_MAX], normal[TF_FILE_PATH_MAX];
    ssize_t size = readlinkat(dir_fd, last_name(spot->rest), target, sizeof target - 1);
    int rc;

    if (size < 0) {
        return -errno;
    }
    if ((size_t)size == sizeof target - 1) {
        return -ENAMETOOLONG;
    }
    target[size] = '\0';
    if (target[0] == '/') {
        (void)snprintf(joined, sizeof joined, "%s", target);
    } else {
        (void)snprintf(joined, sizeof joined, "%s/%.*s/%s", opener->roots[spot->root],
                       (int)folder_size(spot->rest), spot->rest, target);
    }
    rc = tf_path_normalize(joined, normal);
    if (rc == 0) {
        rc = tf_opener_find(opener, normal, spot);
    }
    if (rc == -EPERM) {
        *why = TF_WHY_OUTSIDE;
    }
    return rc;
}

/* Goes to the spot, and on to where its links lead: then spot is that. 0 with out filled, which
 * stands there and is no link. */
static int resolve(const struct tf_opener *opener, struct tf_answer *answer, bool is_look,
                   struct found *out)
{
    struct tf_spot *spot = &answer->spot;

    for (unsigned hops = 0;; hops++) {
        int fd = open_above(opener, spot, is_look, &answer->why);
        int rc = fd;

        if (fd < 0) {
            return rc;
        }
        out->name = last_name(spot->rest);
        rc = statx(fd, out->name, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW,
                   STATX_BASIC_STATS | STATX_BTIME, &out->status) < 0
                 ? -errno
                 : 0;
        if (rc == 0 && !S_ISLNK(out->status.stx_mode)) {
            out->dir_fd = fd;
            return 0;
        }
        if (rc == 0 && hops == HOPS_MAX) {
            answer->why = TF_WHY_HOPS;
            rc = -EPERM;
        }
        if (rc == 0) {
            answer->opened.is_link = true;
            rc = read_link(opener, fd, spot, &answer->why);
        }
        (void)close(fd);
        if (rc < 0) {
            return rc;
        }
    }
}

/* ---- what is asked ----------------------------------------------------------------------------
 */

static int64_t to_ns(const struct statx_timestamp *time)
{
    return time->tv_sec * TF_S_IN_NS + time->tv_nsec;
}

static void fill(const struct statx *status, struct tf_opened *out)
{
    out->id.device = makedev(status->stx_dev_major, status->stx_dev_minor);
    out->id.inode = status->stx_ino;
    out->id.born_ns = (status->stx_mask & STATX_BTIME) != 0 ? to_ns(&status->stx_btime) : 0;
    out->size = status->stx_size;
    out->changed_ns = to_ns(&status->stx_mtime);
    out->altered_ns = to_ns(&status->stx_ctime);
    out->mode = status->stx_mode;
}

/* Opens what was found, once more looking at what that is: it may be another by now. */
static int open_found(const struct tf_opener *opener, const struct found *found,
                      struct tf_answer *answer)
{
    struct statx status;
    int fd, rc = check_file(opener, &found->status, &answer->why); /* first: devices act on it */

    if (rc < 0) {
        return rc;
    }
    fd = open_beneath(found->dir_fd, found->name, O_RDONLY | O_NONBLOCK | O_NOCTTY, &answer->why);
    rc = fd < 0 ? fd : stat_fd(fd, &status);
    if (rc == 0) {
        rc = check_file(opener, &status, &answer->why);
    }
    if (rc < 0) {
        if (fd >= 0) {
            (void)close(fd);
        }
        return rc;
    }
    fill(&status, &answer->opened);
    answer->opened.fd = fd;
    return 0;
}

static int open_file(const struct tf_opener *opener, struct tf_answer *answer)
{
    struct found found;
    int rc = resolve(opener, answer, false, &found);

    if (rc < 0) {
        return rc;
    }
    rc = open_found(opener, &found, answer);
    (void)close(found.dir_fd);
    return rc;
}

static int open_dir(const struct tf_opener *opener, struct tf_answer *answer)
{
    const struct tf_spot *spot = &answer->spot;
    int fd = open_folder(opener, opener->roots[spot->root], spot->rest, &answer->why);

    answer->opened.fd = fd < 0 ? -1 : fd;
    return fd < 0 ? fd : 0;
}

static int look(const struct tf_opener *opener, struct tf_answer *answer)
{
    struct found found;
    int rc = resolve(opener, answer, true, &found);

    if (rc == 0) {
        fill(&found.status, &answer->opened);
        (void)close(found.dir_fd);
    }
    return rc;
}

/* Adding a watch asks for the right to read, so it is given for what can be read already. */
static int watch(const struct tf_asked *asked, struct tf_answer *answer)
{
    int flags = fcntl(asked->fd, F_GETFL);
    char path[64];

    if (flags < 0) {
        return -errno;
    }
    if ((flags & O_PATH) != 0 || (flags & O_ACCMODE) != O_RDONLY) {
        return -EPERM;
    }
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", asked->fd);
    answer->watch = inotify_add_watch(asked->inotify_fd, path, asked->mask);
    return answer->watch < 0 ? -errno : 0;
}

static int perform(const struct tf_opener *opener, const struct tf_asked *asked,
                   struct tf_answer *answer)
{
    switch (asked->op) {
    case TF_OPEN_FILE:
        return open_file(opener, answer);
    case TF_OPEN_DIR:
        return open_dir(opener, answer);
    case TF_OPEN_LOOK:
        return look(opener, answer);
    case TF_OPEN_WATCH:
        return watch(asked, answer);
    }
    return -EPROTO;
}

void tf_rules_perform(const struct tf_opener *opener, const struct tf_asked *asked,
                      struct tf_answer *answer)
{
    *answer = (struct tf_answer){.watch = -1, .opened = {.fd = -1}};
    answer->spot = asked->spot;
    tf_sandbox_raise();
    answer->rc = perform(opener, asked, answer);
    tf_sandbox_lower();
}
