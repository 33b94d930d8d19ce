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
#include <unistd.h>

#include <uv.h>

#include "taffrail/log.h"
#include "taffrail/sandbox.h"

static int decode(const struct tf_packet *received, const struct tf_opener *openers, size_t count,
                  struct tf_request *out)
{
    struct tf_asked *asked = &out->asked;
    bool is_watch;

    if (received->lacks_fds || tf_request_decode(received->data, received->size, out) < 0 ||
        out->number >= count) {
        return -EPROTO;
    }
    is_watch = asked->op == TF_OPEN_WATCH;
    if (received->fd_count != (is_watch ? TF_PACKET_FDS : 0) ||
        (!is_watch && asked->spot.root >= openers[out->number].root_count)) {
        return -EPROTO;
    }
    if (is_watch) {
        asked->inotify_fd = received->fds[0];
        asked->fd = received->fds[1];
    }
    return 0;
}

/* The kernel counts descriptors on their way for the user, over all processes: where others have
 * used up our share, the answer goes without, as where main has no room for it. */
static int send_anyway(int socket_fd, struct tf_packet *packet)
{
    int rc = tf_packet_send(socket_fd, packet);

    if (rc == -ETOOMANYREFS) {
        packet->fd_count = 0;
        rc = tf_packet_send(socket_fd, packet);
    }
    return rc;
}

static int reply(int socket_fd, uint32_t id, const struct tf_answer *answer)
{
    uint8_t bytes[TF_REPLY_BYTES_MAX];
    struct tf_packet packet = {.data = bytes, .fds = {answer->opened.fd}};

    packet.fd_count = answer->opened.fd >= 0 ? 1 : 0;
    packet.size = tf_reply_encode(id, answer, bytes);
    return send_anyway(socket_fd, &packet);
}

static int serve_one(int socket_fd, const struct tf_packet *received,
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
    uint8_t bytes[TF_REQUEST_BYTES_MAX];
    struct tf_packet received = {.data = bytes, .room = sizeof bytes};
    int rc;

    while ((rc = tf_packet_receive(socket_fd, &received)) > 0) {
        rc = serve_one(socket_fd, &received, openers, count);
        tf_packet_close(&received);
        if (rc < 0 || tf_sandbox_is_outdated()) { /* only another start can open that */
            break;
        }
    }
    tf_packet_close(&received);
    if (rc == -EPIPE || rc == -ECONNRESET) {
        rc = 0; /* main has ended */
    }
    if (rc < 0) {
        tf_log(TF_LOG_ERROR, "opener", NULL, 0, "%s; it ends",
               rc == -EPROTO ? "what was asked for is no request" : uv_strerror(rc));
    }
    return rc;
}
