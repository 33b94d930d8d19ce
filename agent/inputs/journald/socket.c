/*
 * socket.c - a unix socket with a name in the file system.
 *
 * The name of a socket stays when its program is killed; connect(2) then gives ECONNREFUSED
 * (unix(7)). Only such a one is replaced: two that listen under one name would part the clients
 * between them, and the one that is replaced would never know.
 */
#include "socket.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uv.h>

static struct sockaddr_un address_of(const struct tf_socket_file *file)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    memcpy(address.sun_path, file->path, sizeof address.sun_path);
    return address;
}

int tf_socket_file_name(struct tf_socket_file *file, const struct tf_text *listen,
                        const char *fallback, struct tf_error *err)
{
    const char *path = listen->text == NULL ? fallback : listen->text;

    path = strncmp(path, "unix:", 5) == 0 ? path + 5 : path;
    *file = (struct tf_socket_file){.fd = -1};
    if (path[0] != '/' || path[1] == '\0') {
        return tf_error_add(err, &listen->at,
                            "listen \"%s\" is not the path of a socket; write unix:%s",
                            listen->text, fallback);
    }
    if (strlen(path) >= sizeof file->path) {
        return tf_error_add(err, &listen->at, "the path of a socket has at most %zu bytes: %s",
                            sizeof file->path - 1, path);
    }
    memcpy(file->path, path, strlen(path) + 1);
    return 0;
}

/* 0: somebody listens; else a negative errno. */
static int knock(const struct tf_socket_file *file, int type)
{
    struct sockaddr_un address = address_of(file);
    int fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int rc;

    if (fd < 0) {
        return -errno;
    }
    rc = connect(fd, (const struct sockaddr *)&address, sizeof address) < 0 ? -errno : 0;
    (void)close(fd);
    /* It is of another type, or so busy that its queue is full. */
    return rc == -EPROTOTYPE || rc == -EAGAIN ? 0 : rc;
}

/* Makes the name free. */
static int clear_name(const struct tf_socket_file *file, int type, const struct tf_place *at,
                      struct tf_error *err)
{
    struct stat found;
    int rc;

    if (lstat(file->path, &found) < 0) {
        return errno == ENOENT ? 0 : -errno;
    }
    if (!S_ISSOCK(found.st_mode)) {
        (void)tf_error_add(err, at, "%s is there and is no socket; choose another path",
                           file->path);
        return -EEXIST;
    }
    rc = knock(file, type);
    if (rc == 0) {
        (void)tf_error_add(err, at,
                           "somebody listens on %s already (journald, or another agent); stop it, "
                           "or choose another path",
                           file->path);
        return -EADDRINUSE;
    }
    if (rc == -ECONNREFUSED) {
        rc = unlink(file->path) < 0 && errno != ENOENT ? -errno : 0;
    }
    return rc;
}

/* Who sends a datagram and when, from the first one on. */
static int wants_sender(int fd)
{
    static const int on = 1;

    return setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof on) < 0
               ? -1
               : setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof on);
}

static int bind_name(struct tf_socket_file *file, int type)
{
    struct sockaddr_un address = address_of(file);
    struct stat made;
    int fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int rc;

    if (fd < 0) {
        return -errno;
    }
    if ((type == SOCK_DGRAM && wants_sender(fd) < 0) ||
        bind(fd, (const struct sockaddr *)&address, sizeof address) < 0) {
        rc = -errno;
        (void)close(fd);
        return rc;
    }
    if (lstat(file->path, &made) < 0 || chmod(file->path, 0666) < 0) {
        rc = -errno;
        (void)unlink(file->path);
        (void)close(fd);
        return rc;
    }
    file->fd = fd;
    file->device = made.st_dev;
    file->inode = made.st_ino;
    return 0;
}

int tf_socket_file_open(struct tf_socket_file *file, int type, const struct tf_place *at,
                        struct tf_error *err)
{
    size_t findings = err->count;
    int rc = clear_name(file, type, at, err);

    if (rc == 0) {
        rc = bind_name(file, type);
    }
    if (rc < 0 && err->count == findings) {
        (void)tf_error_add(err, at, "cannot listen on %s: %s%s", file->path, uv_strerror(rc),
                           rc == -ENOENT ? "; make its folder first" : "");
    }
    return rc;
}

void tf_socket_file_needs(const struct tf_socket_file *file, struct tf_needs *needs)
{
    tf_needs_path(needs, TF_NEED_SOCKET, file->path);
}

void tf_socket_file_unlink(const struct tf_socket_file *file)
{
    struct stat found;

    if (lstat(file->path, &found) == 0 && found.st_dev == file->device &&
        found.st_ino == file->inode) {
        (void)unlink(file->path);
    }
}
