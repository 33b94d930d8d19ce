/*
 * internal.h - what the files of the opener room share.
 *
 *     opener.c    roots and owners; the functions of opener.h: by itself, or by the process
 *     rules.c     how a path becomes a descriptor, or does not: the one place that opens
 *     message.c   requests and replies as bytes
 *     server.c    the process: reads a request, asks rules.c, replies
 *     client.c    asking it
 *     process.c   how it starts and ends; messages with descriptors are process.h's
 */
#ifndef TAFFRAIL_OPENER_INTERNAL_H
#define TAFFRAIL_OPENER_INTERNAL_H

#include <uv.h>

#include "taffrail/base.h"
#include "taffrail/opener.h"
#include "taffrail/process.h"

struct tf_owner {
    uint32_t user, group; /* UINT32_MAX: none */
};

/* A path below a root: of components that are no "." or "..", a slash between them; "" is the root
 * itself. */
struct tf_spot {
    uint16_t root;
    char rest[TF_FILE_PATH_MAX];
};

enum tf_open_op {
    TF_OPEN_FILE = 1,
    TF_OPEN_DIR,
    TF_OPEN_LOOK,
    TF_OPEN_WATCH,
};

struct tf_asked {
    enum tf_open_op op;
    struct tf_spot spot; /* but for TF_OPEN_WATCH */
    int inotify_fd, fd;  /* for TF_OPEN_WATCH; borrowed */
    uint32_t mask;
};

/* Why something was refused; the texts are in opener.c. */
enum tf_open_why {
    TF_WHY_ERROR, /* what the errno says */
    TF_WHY_OUTSIDE,
    TF_WHY_MOUNT,
    TF_WHY_FOLDER_OWNER,
    TF_WHY_FOLDER_MODE,
    TF_WHY_KIND,
    TF_WHY_NAMES,
    TF_WHY_OWNER,
    TF_WHY_HOPS,
    TF_WHY_GONE, /* of the process; it does not say so itself */
    TF_WHYS,
};

struct tf_answer {
    int rc; /* 0 or a negative errno */
    enum tf_open_why why;
    int watch;               /* of TF_OPEN_WATCH */
    struct tf_spot spot;     /* where it stands, links followed */
    struct tf_opened opened; /* fd: of TF_OPEN_FILE and TF_OPEN_DIR; its why is not set */
};

/* ---- opener.c ----------------------------------------------------------------------------------
 */

/* The root that a normal path lies in, or is; the longest. 0 or -EPERM. */
int tf_opener_find(const struct tf_opener *opener, const char *path, struct tf_spot *out);

/* ---- rules.c -----------------------------------------------------------------------------------
 */

/* Does what is asked, in this process. Fills all of answer. */
void tf_rules_perform(const struct tf_opener *opener, const struct tf_asked *asked,
                      struct tf_answer *answer);

/* ---- message.c ---------------------------------------------------------------------------------
 */

#define TF_REQUEST_HEAD      16u
#define TF_REQUEST_BYTES_MAX (TF_REQUEST_HEAD + TF_FILE_PATH_MAX - 1)
#define TF_REPLY_HEAD        72u
#define TF_REPLY_BYTES_MAX   (TF_REPLY_HEAD + TF_FILE_PATH_MAX - 1)

struct tf_request {
    uint32_t id;
    uint16_t number; /* of the rules */
    struct tf_asked asked;
};

/* Returns the bytes written. */
size_t tf_request_encode(const struct tf_request *request, uint8_t out[TF_REQUEST_BYTES_MAX]);
size_t tf_reply_encode(uint32_t id, const struct tf_answer *answer,
                       uint8_t out[TF_REPLY_BYTES_MAX]);

/* 0 or -EPROTO; out is then undefined. Descriptors are not set. */
int tf_request_decode(const uint8_t *data, size_t size, struct tf_request *out);
int tf_reply_decode(const uint8_t *data, size_t size, uint32_t *id, struct tf_answer *out);

/* ---- server.c ----------------------------------------------------------------------------------
 */

/*
 * Replies to what comes on the socket, until the other end is closed (returns 0), or what comes is
 * no request (-EPROTO, logged) or cannot be read (another -errno, logged).
 */
int tf_opener_serve(int socket_fd, const struct tf_opener *openers, size_t count);

/* ---- client.c ----------------------------------------------------------------------------------
 */

struct tf_client {
    uv_mutex_t mutex; /* of all below: one request at a time */
    int fd;           /* owned; -1: none */
    uint32_t id;      /* of the last request */
    bool is_shut;     /* asking is of no use */
};

int tf_client_init(struct tf_client *client);             /* 0 or a negative errno */
void tf_client_connect(struct tf_client *client, int fd); /* takes fd, before any is asked */
void tf_client_shut(struct tf_client *client); /* who waits for a reply is refused, too */
void tf_client_fini(struct tf_client *client);

/* As tf_rules_perform, with these rules, which have root_count roots, at the other end of fd.
 * -ESHUTDOWN where nobody answers, or not as the protocol says. */
void tf_client_perform(struct tf_client *client, uint16_t number, size_t root_count,
                       const struct tf_asked *asked, struct tf_answer *answer);

/* ---- process.c ---------------------------------------------------------------------------------
 */

/* As tf_rules_perform, by the process. -ESHUTDOWN where that is gone. */
void tf_process_perform(struct tf_opener_process *process, uint16_t number,
                        const struct tf_asked *asked, struct tf_answer *answer);

#endif
