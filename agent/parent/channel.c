/*
 * channel.c - messages between the parent and main: a SOCK_SEQPACKET pair, so each is whole.
 *
 * Both ends are one program, so a message is its struct. But main reads what anybody writes, and
 * the parent has rights that main gave up: it believes no message, and does nothing by one but
 * pass words on to the service manager and start a next main, which reads its files by itself.
 */
#include "taffrail/parent.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include "taffrail/base.h"
#include "taffrail/log.h"

bool tf_message_read(const void *bytes, size_t size_bytes, struct tf_message *out)
{
    const unsigned char *at = bytes;
    uint32_t word, log_format;

    if (size_bytes != sizeof *out) {
        return false;
    }
    /* Looked at as bytes: in an enum or a bool others than its own must not even be read. */
    memcpy(&word, at + offsetof(struct tf_message, word), sizeof word);
    memcpy(&log_format, at + offsetof(struct tf_message, log_format), sizeof log_format);
    if (word >= TF_WORDS || log_format > TF_LOG_JSON ||
        at[offsetof(struct tf_message, is_reload)] > 1 ||
        at[offsetof(struct tf_message, text) + TF_MESSAGE_TEXT_BYTES - 1] != '\0') {
        return false;
    }
    memcpy(out, bytes, sizeof *out);
    return true;
}

int tf_channel_send(const struct tf_channel *channel, const struct tf_message *message)
{
    ssize_t sent;

    do {
        sent = send(channel->fd, message, sizeof *message, MSG_DONTWAIT | MSG_NOSIGNAL);
    } while (sent < 0 && errno == EINTR);
    return sent < 0 ? (errno == ECONNRESET ? -EPIPE : -errno) : 0;
}

int tf_channel_receive(const struct tf_channel *channel, struct tf_message *out)
{
    struct tf_message bytes;
    ssize_t got;

    do {
        got = recv(channel->fd, &bytes, sizeof bytes, MSG_DONTWAIT | MSG_TRUNC);
    } while (got < 0 && errno == EINTR);
    if (got <= 0) {
        return got == 0 || errno == ECONNRESET ? -EPIPE : -errno;
    }
    return tf_message_read(&bytes, (size_t)got, out) ? 0 : -EPROTO;
}

void tf_channel_end_with_parent(const struct tf_channel *channel, bool is_wanted)
{
    struct pollfd poll_fd = {.fd = channel->fd};
    int flags = fcntl(channel->fd, F_GETFL);

    (void)fcntl(channel->fd, F_SETSIG, SIGTERM);
    (void)fcntl(channel->fd, F_SETOWN, getpid());
    (void)fcntl(channel->fd, F_SETFL, is_wanted ? flags | O_ASYNC : flags & ~O_ASYNC);
    if (is_wanted && poll(&poll_fd, 1, 0) > 0) { /* it has ended */
        (void)raise(SIGTERM);
    }
}

int tf_channel_wait(const struct tf_channel *channel, struct tf_message *out)
{
    struct pollfd poll_fd = {.fd = channel->fd, .events = POLLIN};
    int rc;

    do {
        (void)poll(&poll_fd, 1, -1);
        rc = tf_channel_receive(channel, out);
    } while (rc == -EAGAIN);
    return rc;
}
