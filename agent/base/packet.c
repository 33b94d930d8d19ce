/*
 * packet.c - a message with descriptors on a SOCK_SEQPACKET socket (unix(7), SCM_RIGHTS).
 *
 * Neither end trusts the other: every descriptor that comes is taken, so that none stays open
 * unknown, and what is longer or has more of them than there is room for is told.
 */
#include "taffrail/process.h"

#include <errno.h>
#include <linux/sock_diag.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

void tf_packet_close(struct tf_packet *packet)
{
    for (size_t i = 0; i < packet->fd_count; i++) {
        (void)close(packet->fds[i]);
    }
    packet->fd_count = 0;
}

int tf_packet_send(int socket_fd, struct tf_packet *packet)
{
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof packet->fds)] = {0};
    size_t bytes = packet->fd_count * sizeof packet->fds[0];
    struct iovec part = {.iov_base = packet->data, .iov_len = packet->size};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    ssize_t size;

    if (packet->fd_count > 0) {
        struct cmsghdr *head = (struct cmsghdr *)control;

        *head = (struct cmsghdr){
            .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(bytes)};
        memcpy(CMSG_DATA(head), packet->fds, bytes);
        message.msg_control = control;
        message.msg_controllen = CMSG_SPACE(bytes);
    }
    do {
        size = sendmsg(socket_fd, &message, MSG_NOSIGNAL);
    } while (size < 0 && errno == EINTR);
    return size < 0 ? -errno : 0;
}

static void take_descriptors(struct msghdr *message, struct tf_packet *out)
{
    for (struct cmsghdr *head = CMSG_FIRSTHDR(message); head != NULL;
         head = CMSG_NXTHDR(message, head)) {
        size_t bytes = head->cmsg_len - CMSG_LEN(0);

        if (head->cmsg_level != SOL_SOCKET || head->cmsg_type != SCM_RIGHTS) {
            continue;
        }
        for (size_t at = 0; at + sizeof(int) <= bytes && out->fd_count < TF_PACKET_FDS;
             at += sizeof(int)) {
            memcpy(&out->fds[out->fd_count++], CMSG_DATA(head) + at, sizeof(int));
        }
    }
}

int tf_packet_receive(int socket_fd, struct tf_packet *out)
{
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof out->fds)];
    struct iovec part = {.iov_base = out->data, .iov_len = out->room};
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
    out->lacks_fds = (message.msg_flags & MSG_CTRUNC) != 0;
    return (message.msg_flags & MSG_TRUNC) != 0 ? -EPROTO : size > 0;
}

/* What was sent is the sender's memory until it is received. */
bool tf_packet_is_unread(int socket_fd)
{
    uint32_t memory[SK_MEMINFO_VARS] = {0};
    socklen_t size = sizeof memory;

    return getsockopt(socket_fd, SOL_SOCKET, SO_MEMINFO, memory, &size) == 0 &&
           memory[SK_MEMINFO_WMEM_ALLOC] > 0;
}
