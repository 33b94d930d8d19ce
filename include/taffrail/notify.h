/*
 * notify.h - tells the service manager how the agent is, by sd_notify(3)'s protocol, without
 * libsystemd.
 *
 * A message is a datagram of lines NAME=VALUE to the socket that NOTIFY_SOCKET names. Where no
 * manager asks for any, nothing is sent and nothing fails.
 */
#ifndef TAFFRAIL_NOTIFY_H
#define TAFFRAIL_NOTIFY_H

#include <sys/socket.h>
#include <sys/un.h>

#include "taffrail/base.h"

struct tf_notify {
    int fd; /* -1: nobody asks */
    struct sockaddr_un to;
    socklen_t to_bytes;
    uint64_t watchdog_ms; /* between two signs of life; 0: none wanted */
};

/*
 * Takes NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID out of the environment, so that no child
 * speaks in our name; so it comes before the first thread. The socket is a path or, after '@', an
 * abstract name. Returns 0, also when nobody asks; -EINVAL for another kind of socket, -errno when
 * none can be made: then nothing will be sent. Ended by tf_notify_close in each case.
 */
int tf_notify_open(struct tf_notify *notify);

/*
 * Sends lines parted by '\n', such as "READY=1\nSTATUS=reads container". A manager that does not
 * take them holds the caller for TF_NOTIFY_PATIENCE_MS at most. Returns 0 or a negative errno.
 */
#define TF_NOTIFY_PATIENCE_MS 1000
int tf_notify_send(const struct tf_notify *notify, const char *lines);

/* Sends nothing any more. */
void tf_notify_close(struct tf_notify *notify);

#endif
