/*
 * server.c - the process that opens: one request after the other, and nothing kept between them.
 *
 * Main may be in the hands of an attacker, so a request is not trusted: it names rules and a root
 * by number, and a path below that, and rules.c says what comes of it. Two descriptors come with a
 * request for a watch, and none with others; they are closed when it is done. What is no request
 * ends the process.
 */
#include "internal.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include <uv.h>

#include "taffrail/log.h"
#include "taffrail/sandbox.h"

#define WATCH_FDS 2 /* the inotify descriptor, and what is watched */

struct received {
    uint8_t data[TF_REQUEST_BYTES_MAX];
    size_t size;
    int fds[WATCH_FDS];
    size_t fd_count;
};

static void close_all(struct received *received)
{
    for (size_t i = 0; i < received->fd_count; i++) {
        (void)close(received->fds[i]);
    }
    received->fd_count = 0;
}

static void take_descriptors(struct msghdr *message, struct received *out)
{
    for (struct cmsghdr *head = CMSG_FIRSTHDR(message); head != NULL;
         head = CMSG_NXTHDR(message, head)) {
        size_t bytes = head->cmsg_len - CMSG_LEN(0);

        if (head->cmsg_level != SOL_SOCKET || head->cmsg_type != SCM_RIGHTS) {
            continue;
        }
        for (size_t at = 0; at + sizeof(int) <= bytes && out->fd_count < WATCH_FDS;
             at += sizeof(int)) {
            memcpy(&out->fds[out->fd_count++], CMSG_DATA(head) + at, sizeof(int));
        }
    }
}

/* 1 with what has come, 0 where the other end is closed, or a negative errno. */
static int receive(int socket_fd, struct received *out)
{
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(WATCH_FDS * sizeof(int))];
    struct iovec part = {.iov_base = out->data, .iov_len = sizeof out->data};
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = control,
                             .msg_controllen = sizeof control};
    ssize_t size;

    out->fd_count = 0;
    do {
        size = recvmsg(socket_fd, &message, MSG_CMSG_CLOEXEC);
    } while (size < 0 && errno == EINTR);
    if (size < 0) {
        return -errno;
    }
    take_descriptors(&message, out);
    out->size = (size_t)size;
    if ((message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0) {
        return -EPROTO;
    }
    return size > 0;
}

static int decode(const struct received *received, const struct tf_opener *openers, size_t count,
                  struct tf_request *out)
{
    struct tf_asked *asked = &out->asked;
    bool is_watch;

    if (tf_request_decode(received->data, received->size, out) < 0 || out->number >= count) {
        return -EPROTO;
    }
    is_watch = asked->op == TF_OPEN_WATCH;
    if (received->fd_count != (is_watch ? WATCH_FDS : 0) ||
        (!is_watch && asked->spot.root >= openers[out->number].root_count)) {
        return -EPROTO;
    }
    if (is_watch) {
        asked->inotify_fd = received->fds[0];
        asked->fd = received->fds[1];
    }
    return 0;
}

static int reply(int socket_fd, uint32_t id, const struct tf_answer *answer)
{
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {0};
    uint8_t data[TF_REPLY_BYTES_MAX];
    struct iovec part = {.iov_base = data, .iov_len = tf_reply_encode(id, answer, data)};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    ssize_t size;

    if (answer->opened.fd >= 0) {
        struct cmsghdr *head;

        message.msg_control = control;
        message.msg_controllen = sizeof control;
        head = CMSG_FIRSTHDR(&message);
        head->cmsg_level = SOL_SOCKET;
        head->cmsg_type = SCM_RIGHTS;
        head->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(head), &answer->opened.fd, sizeof(int));
    }
    do {
        size = sendmsg(socket_fd, &message, MSG_NOSIGNAL);
    } while (size < 0 && errno == EINTR);
    return size < 0 ? -errno : 0;
}

static int serve_one(int socket_fd, const struct received *received,
                     const struct tf_opener *openers, size_t count)
{
    struct tf_request request;
    struct tf_answer answer;
    int rc = decode(received, openers, count, &request);

    if (rc < 0) {
        return rc;
    }
    tf_rules_perform(&openers[request.number], &request.asked, &answer);
    rc = reply(socket_fd, request.id, &answer);
    if (answer.opened.fd >= 0) {
        (void)close(answer.opened.fd);
    }
    return rc;
}

int tf_opener_serve(int socket_fd, const struct tf_opener *openers, size_t count)
{
    struct received received;
    int rc;

    while ((rc = receive(socket_fd, &received)) > 0) {
        rc = serve_one(socket_fd, &received, openers, count);
        close_all(&received);
        if (rc < 0 || tf_sandbox_is_outdated()) { /* only another start can open that */
            break;
        }
    }
    close_all(&received);
    if (rc == -EPIPE || rc == -ECONNRESET) {
        rc = 0; /* main has ended */
    }
    if (rc < 0) {
        tf_log(TF_LOG_ERROR, "opener", NULL, 0, "%s; it ends",
               rc == -EPROTO ? "what was asked for is no request" : uv_strerror(rc));
    }
    return rc;
}
