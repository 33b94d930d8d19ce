/*
 * client.c - asking the process that opens, from any thread but the loop's.
 *
 * One request at a time; whoever asks waits for the reply, as he would for an open. A reply is
 * checked as if its writer were hostile: it is of this request and its rules, and has a descriptor
 * only where one was asked for. After the first that is not, or when the other end is gone, nothing
 * is asked any more.
 */
#include "internal.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

static int send_request(int fd, const struct tf_request *request)
{
    uint8_t bytes[TF_REQUEST_BYTES_MAX];
    struct tf_packet packet = {.data = bytes,
                               .fds = {request->asked.inotify_fd, request->asked.fd}};

    packet.fd_count = request->asked.op == TF_OPEN_WATCH ? 2 : 0;
    packet.size = tf_request_encode(request, bytes);
    return tf_packet_send(fd, &packet);
}

/* The descriptor of a reply goes to answer->opened.fd. */
static int receive_reply(int fd, uint32_t *id, struct tf_answer *answer)
{
    uint8_t bytes[TF_REPLY_BYTES_MAX];
    struct tf_packet packet = {.data = bytes, .room = sizeof bytes};
    int rc = tf_packet_receive(fd, &packet);

    if (rc > 0) {
        rc = packet.fd_count <= 1 ? tf_reply_decode(bytes, packet.size, id, answer) : -EPROTO;
    } else if (rc == 0) {
        rc = -EPIPE;
    }
    if (rc < 0) {
        tf_packet_close(&packet);
        return rc;
    }
    answer->opened.fd = packet.fd_count > 0 ? packet.fds[0] : -1;
    return 0;
}

/* It is of this request, of its rules, and has a descriptor only where one was asked for. */
static bool is_fit(const struct tf_request *request, size_t root_count, uint32_t id,
                   const struct tf_answer *answer)
{
    enum tf_open_op op = request->asked.op;
    bool may_have_fd = answer->rc == 0 && (op == TF_OPEN_FILE || op == TF_OPEN_DIR);

    return id == request->id && (answer->opened.fd < 0 || may_have_fd) &&
           (op == TF_OPEN_WATCH || answer->spot.root < root_count);
}

/* 0 with an answer, or a negative errno: the process is of no use any more. */
static int exchange(struct tf_client *client, struct tf_request *request, size_t root_count,
                    struct tf_answer *answer)
{
    enum tf_open_op op = request->asked.op;
    uint32_t id = 0;
    int rc;

    request->id = ++client->id;
    rc = send_request(client->fd, request);
    if (rc == -ETOOMANYREFS) { /* as in server.c; nothing was asked */
        *answer = (struct tf_answer){.rc = -EMFILE, .watch = -1, .opened = {.fd = -1}};
        return 0;
    }
    if (rc == 0) {
        rc = receive_reply(client->fd, &id, answer);
    }
    if (rc < 0) {
        return rc;
    }
    if (!is_fit(request, root_count, id, answer)) {
        if (answer->opened.fd >= 0) {
            (void)close(answer->opened.fd);
        }
        return -EPROTO;
    }
    if (answer->rc == 0 && answer->opened.fd < 0 && (op == TF_OPEN_FILE || op == TF_OPEN_DIR)) {
        answer->rc = -EMFILE; /* there was no room for it here */
    }
    return 0;
}

void tf_client_perform(struct tf_client *client, uint16_t number, size_t root_count,
                       const struct tf_asked *asked, struct tf_answer *answer)
{
    struct tf_request request = {.number = number, .asked = *asked};
    int rc = -ESHUTDOWN;

    uv_mutex_lock(&client->mutex);
    if (!client->is_shut) {
        rc = exchange(client, &request, root_count, answer);
    }
    if (rc < 0 && !client->is_shut) {
        client->is_shut = true;
        (void)shutdown(client->fd, SHUT_RDWR); /* if it lives it ends now, and the loop is told */
    }
    uv_mutex_unlock(&client->mutex);
    if (rc < 0) {
        *answer = (struct tf_answer){
            .rc = -ESHUTDOWN, .why = TF_WHY_GONE, .watch = -1, .opened = {.fd = -1}};
    }
}

/* Without the mutex, which whoever waits has. */
void tf_client_shut(struct tf_client *client)
{
    (void)shutdown(client->fd, SHUT_RDWR);
}

int tf_client_init(struct tf_client *client)
{
    *client = (struct tf_client){.fd = -1, .is_shut = true};
    return uv_mutex_init(&client->mutex);
}

void tf_client_connect(struct tf_client *client, int fd)
{
    client->fd = fd;
    client->is_shut = false;
}

void tf_client_fini(struct tf_client *client)
{
    if (client->fd >= 0) {
        (void)close(client->fd);
    }
    uv_mutex_destroy(&client->mutex);
}
