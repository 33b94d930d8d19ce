/*
 * opener.c - how the path of a log becomes a descriptor, when whoever writes the log is hostile.
 *
 * Nothing outside the roots is opened. A root is a folder that the configuration names; below it
 * every step is openat2 beneath the directory before it, without links and without leaving the file
 * system (component by component with O_NOFOLLOW where the kernel has no openat2), and each
 * directory must belong to root or to us and be writable by nobody else. A link is read, not
 * followed: its target must lie, as text, in a root, and is opened beneath that root in the same
 * way, at most 3 times in a row. What is opened must be a regular file with one name that belongs
 * to root or to us. The right to pass the modes of root's folders and files, where the agent has
 * it, is raised for the length of such a call (sandbox.h). So a container that plants links, hard
 * links, fifos or devices in a folder it can write to gains nothing.
 */
#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <linux/openat2.h>

#define HOPS_MAX  3u
#define ROOTS_MAX 1024u

void tf_opener_init(struct tf_opener *opener)
{
    *opener = (struct tf_opener){.user = geteuid(), .group = getegid()};
}

void tf_opener_fini(struct tf_opener *opener)
{
    for (size_t i = 0; i < opener->root_count; i++) {
        free(opener->roots[i]);
    }
    free(opener->roots);
    *opener = (struct tf_opener){0};
}

/* Drops the last component of out. */
static size_t go_up(const char *out, size_t size)
{
    while (size > 0 && out[size - 1] != '/') {
        size--;
    }
    return size > 0 ? size - 1 : 0;
}

int tf_path_normalize(const char *path, char out[TF_FILE_PATH_MAX])
{
    size_t size = 0;

    if (path[0] != '/') {
        return -EINVAL;
    }
    while (*path != '\0') {
        size_t part = strcspn(path, "/");

        if (part == 2 && memcmp(path, "..", 2) == 0) {
            size = go_up(out, size);
        } else if (part > 0 && !(part == 1 && path[0] == '.')) {
            if (size + 1 + part + 1 > TF_FILE_PATH_MAX) {
                return -EMSGSIZE;
            }
            out[size++] = '/';
            memcpy(out + size, path, part);
            size += part;
        }
        path += part;
        path += *path == '/' ? 1 : 0;
    }
    if (size == 0) {
        out[size++] = '/';
    }
    out[size] = '\0';
    return 0;
}

int tf_opener_add_root(struct tf_opener *opener, const char *path)
{
    char normal[TF_FILE_PATH_MAX];
    int rc = tf_path_normalize(path, normal);
    char **roots;

    if (rc < 0) {
        return rc;
    }
    if (opener->root_count == ROOTS_MAX) {
        return -EMSGSIZE;
    }
    roots = realloc(opener->roots, (opener->root_count + 1) * sizeof *roots);
    if (roots == NULL) {
        return -ENOMEM;
    }
    opener->roots = roots;
    roots[opener->root_count] = strdup(normal);
    if (roots[opener->root_count] == NULL) {
        return -ENOMEM;
    }
    opener->root_count++;
    return 0;
}

/* One step down, never through a link. */
static int open_beneath(int dir_fd, const char *name, int flags)
{
    struct open_how how = {
        .flags = (uint64_t)(flags | O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC),
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV};
    int fd = (int)syscall(SYS_openat2, dir_fd, name, &how, sizeof how);

    if (fd < 0 &&
        (errno == ENOSYS || errno == EPERM)) { /* an old kernel, or a filter that knows it not */
        fd = openat(dir_fd, name, (int)how.flags);
    }
    return fd < 0 ? -errno : fd;
}

/* A mount below a root is refused like a link. Returns fd's error as the callers tell it. */
static int tell_refusal(int fd, const char **why)
{
    if (fd == -EXDEV) {
        *why = "another file system is mounted there";
        return -EPERM;
    }
    *why = uv_strerror(fd);
    return fd;
}

static bool owner_is_trusted(const struct tf_opener *opener, uint32_t user)
{
    return user == 0 || user == opener->user;
}

static int check_dir(const struct tf_opener *opener, int fd, const char **why)
{
    struct stat status;

    if (fstat(fd, &status) < 0) {
        return -errno;
    }
    if (!owner_is_trusted(opener, status.st_uid)) {
        *why = "its folder belongs to another user";
        return -EPERM;
    }
    if ((status.st_mode & S_IWOTH) != 0 ||
        ((status.st_mode & S_IWGRP) != 0 && status.st_gid != 0 && status.st_gid != opener->group)) {
        *why = "others may write to its folder";
        return -EPERM;
    }
    return 0;
}

/* Takes fd, a directory or a negative errno. */
static int checked_dir(const struct tf_opener *opener, int fd, const char **why)
{
    int rc;

    if (fd < 0) {
        return tell_refusal(fd, why);
    }
    *why = "its folder cannot be checked";
    rc = check_dir(opener, fd, why);
    if (rc < 0) {
        (void)close(fd);
        return rc;
    }
    return fd;
}

static int open_subdir(const struct tf_opener *opener, int dir_fd, const char *name,
                       const char **why)
{
    return checked_dir(opener, open_beneath(dir_fd, name, O_DIRECTORY), why);
}

/* The size of the longest root that path lies in, or is; 0: none. */
static const char *find_root(const struct tf_opener *opener, const char *path)
{
    const char *found = NULL;
    size_t found_size = 0;

    for (size_t i = 0; i < opener->root_count; i++) {
        const char *root = opener->roots[i];
        size_t size = strcmp(root, "/") == 0 ? 0 : strlen(root);

        if (strncmp(path, root, size) == 0 && (path[size] == '/' || path[size] == '\0') &&
            (found == NULL || size > found_size)) {
            found = root;
            found_size = size;
        }
    }
    return found;
}

/* Goes down from fd (taken), one component of rest after the other. */
static int walk_down(const struct tf_opener *opener, int fd, const char *rest, const char **why)
{
    while (fd >= 0) {
        char part[NAME_MAX + 1];
        size_t size;
        int below;

        rest += strspn(rest, "/");
        size = strcspn(rest, "/");
        if (size == 0) {
            return fd;
        }
        if (size > NAME_MAX) {
            (void)close(fd);
            *why = "a name is too long";
            return -ENAMETOOLONG;
        }
        memcpy(part, rest, size);
        part[size] = '\0';
        rest += size;
        below = open_subdir(opener, fd, part, why);
        (void)close(fd);
        fd = below;
    }
    return fd;
}

static int open_dir(const struct tf_opener *opener, const char *path, const char **why)
{
    const char *root = find_root(opener, path);
    size_t root_size;
    int fd;

    if (root == NULL) {
        *why = "it leads out of link_roots";
        return -EPERM;
    }
    root_size = strcmp(root, "/") == 0 ? 0 : strlen(root);
    fd = open(root, O_RDONLY | O_DIRECTORY | O_NONBLOCK | O_CLOEXEC); /* the operator's own words */
    fd = fd < 0 ? -errno : fd;
    if (fd == -EACCES) {
        tf_sandbox_look(root);
    }
    fd = checked_dir(opener, fd, why);
    return walk_down(opener, fd, path + root_size, why);
}

static int fill_opened(int fd, struct tf_opened *out)
{
    struct statx status;

    if (statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS | STATX_BTIME, &status) < 0) {
        return -errno;
    }
    out->id.device = makedev(status.stx_dev_major, status.stx_dev_minor);
    out->id.inode = status.stx_ino;
    out->id.born_ns = (status.stx_mask & STATX_BTIME) != 0
                          ? status.stx_btime.tv_sec * TF_S_IN_NS + status.stx_btime.tv_nsec
                          : 0;
    out->size = status.stx_size;
    out->changed_ns = status.stx_mtime.tv_sec * TF_S_IN_NS + status.stx_mtime.tv_nsec;
    return 0;
}

static int check_file(const struct tf_opener *opener, const struct stat *status, const char **why)
{
    if (!S_ISREG(status->st_mode)) {
        *why = "not a regular file";
    } else if (status->st_nlink > 1) {
        *why = "it has several names (hard links)";
    } else if (!owner_is_trusted(opener, status->st_uid)) {
        *why = "it belongs to another user";
    } else {
        return 0;
    }
    return -EPERM;
}

/* Opens what is no link. */
static int open_regular(const struct tf_opener *opener, int dir_fd, const char *name,
                        struct tf_opened *out)
{
    struct stat status;
    int fd = open_beneath(dir_fd, name, 0);
    int rc;

    if (fd < 0) {
        return tell_refusal(fd, &out->why);
    }
    rc = fstat(fd, &status) < 0 ? -errno : check_file(opener, &status, &out->why);
    if (rc == 0) {
        rc = fill_opened(fd, out);
    }
    if (rc < 0) {
        (void)close(fd);
        return rc;
    }
    out->fd = fd;
    return 0;
}

/* Where the link `name` in dir_path leads, as text. */
static int read_link(int dir_fd, const char *dir_path, const char *name, char out[TF_FILE_PATH_MAX])
{
    char target[TF_FILE_PATH_MAX], joined[2 * TF_FILE_PATH_MAX + 2];
    ssize_t size = readlinkat(dir_fd, name, target, sizeof target - 1);

    if (size < 0) {
        return -errno;
    }
    if ((size_t)size == sizeof target - 1) {
        return -ENAMETOOLONG;
    }
    target[size] = '\0';
    (void)snprintf(joined, sizeof joined, "%s%s%s", target[0] == '/' ? "" : dir_path,
                   target[0] == '/' ? "" : "/", target);
    return tf_path_normalize(joined, out);
}

/* Replaces *dir_fd (taken) and path by what the link leads to; *name is its last component, in
 * path. */
static int follow_link(const struct tf_opener *opener, int *dir_fd, char path[TF_FILE_PATH_MAX],
                       const char **name, const char **why)
{
    char target[TF_FILE_PATH_MAX] = "";
    int rc = read_link(*dir_fd, path, *name, target);
    char *slash;

    (void)close(*dir_fd);
    *dir_fd = -1;
    if (rc < 0) {
        *why = "its link cannot be read";
        return rc;
    }
    slash = strrchr(target, '/');
    if (slash == target) {
        *why = "it leads out of link_roots";
        return -EPERM;
    }
    *slash = '\0';
    *dir_fd = open_dir(opener, target, why);
    if (*dir_fd < 0) {
        return *dir_fd;
    }
    memcpy(path, target, sizeof target);
    *name = path + (slash - target) + 1;
    return 0;
}

static int open_link_dir(const struct tf_opener *opener, int dir_fd, const char *dir_path,
                         const char *name, char path[TF_FILE_PATH_MAX], const char **target)
{
    const char *why;
    int rc = 0;

    dir_fd = fcntl(dir_fd, F_DUPFD_CLOEXEC, 0);
    if (dir_fd < 0) {
        return -errno;
    }
    (void)snprintf(path, TF_FILE_PATH_MAX, "%s", dir_path);
    for (unsigned hops = 0; hops < HOPS_MAX && rc == 0; hops++) {
        struct stat status;

        if (fstatat(dir_fd, name, &status, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISLNK(status.st_mode)) {
            break; /* here it ends, also where the file is gone */
        }
        rc = follow_link(opener, &dir_fd, path, &name, &why);
    }
    *target = name;
    return rc < 0 ? rc : dir_fd;
}

static int open_file(const struct tf_opener *opener, int dir_fd, const char *dir_path,
                     const char *name, struct tf_opened *out)
{
    char path[TF_FILE_PATH_MAX];
    int rc = 0;

    *out = (struct tf_opened){.fd = -1, .why = "it cannot be opened"};
    dir_fd = fcntl(dir_fd, F_DUPFD_CLOEXEC, 0);
    if (dir_fd < 0) {
        return -errno;
    }
    (void)snprintf(path, sizeof path, "%s", dir_path);
    for (unsigned hops = 0; rc == 0; hops++) {
        struct stat status;

        if (fstatat(dir_fd, name, &status, AT_SYMLINK_NOFOLLOW) < 0) {
            rc = -errno;
            out->why = uv_strerror(rc);
        } else if (!S_ISLNK(status.st_mode)) {
            rc =
                check_file(opener, &status, &out->why); /* before it is opened: devices act on it */
            rc = rc == 0 ? open_regular(opener, dir_fd, name, out) : rc;
            break;
        } else if (hops == HOPS_MAX) {
            out->why = "too many links";
            rc = -EPERM;
        } else {
            rc = follow_link(opener, &dir_fd, path, &name, &out->why);
        }
    }
    if (dir_fd >= 0) {
        (void)close(dir_fd);
    }
    return rc;
}

/* ---- with the right to read all -------------------------------------------------------------- */

int tf_opener_dir(const struct tf_opener *opener, const char *path, const char **why)
{
    int fd;

    tf_sandbox_raise();
    fd = open_dir(opener, path, why);
    tf_sandbox_lower();
    return fd;
}

int tf_opener_subdir(const struct tf_opener *opener, int dir_fd, const char *name, const char **why)
{
    int fd;

    tf_sandbox_raise();
    fd = open_subdir(opener, dir_fd, name, why);
    tf_sandbox_lower();
    return fd;
}

int tf_opener_link_dir(const struct tf_opener *opener, int dir_fd, const char *dir_path,
                       const char *name, char path[TF_FILE_PATH_MAX], const char **target)
{
    int fd;

    tf_sandbox_raise();
    fd = open_link_dir(opener, dir_fd, dir_path, name, path, target);
    tf_sandbox_lower();
    return fd;
}

int tf_opener_file(const struct tf_opener *opener, int dir_fd, const char *dir_path,
                   const char *name, struct tf_opened *out)
{
    int rc;

    tf_sandbox_raise();
    rc = open_file(opener, dir_fd, dir_path, name, out);
    tf_sandbox_lower();
    return rc;
}
