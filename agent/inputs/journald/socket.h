/*
 * socket.h - a unix socket with a name in the file system: made, and taken away again.
 */
#ifndef TAFFRAIL_JOURNALD_SOCKET_H
#define TAFFRAIL_JOURNALD_SOCKET_H

#include <sys/types.h>
#include <sys/un.h>

#include "taffrail/config.h"
#include "taffrail/sandbox.h"

#define TF_SOCKET_PATH_BYTES sizeof(((struct sockaddr_un *)0)->sun_path)

struct tf_socket_file {
    int fd; /* -1: none */
    dev_t device;
    ino_t inode;
    char path[TF_SOCKET_PATH_BYTES];
};

/* The path that `listen` names, "unix:/PATH" or "/PATH"; absent: fallback. fd is -1 then. 0, or
 * -EINVAL with a finding. */
int tf_socket_file_name(struct tf_socket_file *file, const struct tf_text *listen,
                        const char *fallback, struct tf_error *err);

/*
 * Binds a new socket of type (SOCK_DGRAM, SOCK_STREAM) there, mode 0666. What an ended program left
 * is unlinked; a socket that somebody listens on, and what is no socket, is an error. 0 or a
 * negative errno, said in err.
 */
int tf_socket_file_open(struct tf_socket_file *file, int type, const struct tf_place *at,
                        struct tf_error *err);

/* To make it, and take it away, once the agent is confined. */
void tf_socket_file_needs(const struct tf_socket_file *file, struct tf_needs *needs);

/* Takes the name away when it is still that of this socket. The descriptor is the caller's. */
void tf_socket_file_unlink(const struct tf_socket_file *file);

#endif
