/*
 * notify.c - sd_notify(3)'s protocol: a datagram to the service manager.
 *
 * The protocol is stable and documented for those who do not link libsystemd (sd_notify(3),
 * "Notes"; sd_watchdog_enabled(3)). A path begins with '/'; '@' stands for the NUL of an abstract
 * socket. The vsock addresses that virtual machines are given are not for services, and are
 * refused.
 */
#include "taffrail/notify.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/time.h>
#include <unistd.h>

static int parse_address(const char *name, struct tf_notify *notify)
{
    size_t size = strlen(name);

    if ((name[0] != '/' && name[0] != '@') || size < 2 || size >= sizeof notify->to.sun_path) {
        return -EINVAL;
    }
    notify->to = (struct sockaddr_un){.sun_family = AF_UNIX};
    memcpy(notify->to.sun_path, name, size);
    if (name[0] == '@') {
        notify->to.sun_path[0] = '\0';
    }
    /* Of an abstract name every byte counts, so none is added. */
    notify->to_bytes = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + size);
    return 0;
}

/* A decimal number and nothing else; 0 when it is none. */
static uint64_t parse_number(const char *text)
{
    char *end;
    unsigned long long number;

    if (text == NULL || text[0] < '0' || text[0] > '9') {
        return 0;
    }
    errno = 0;
    number = strtoull(text, &end, 10);
    return errno == 0 && *end == '\0' ? number : 0;
}

/* Half of what the manager waits for, as sd_watchdog_enabled(3) advises. */
static uint64_t find_watchdog_ms(void)
{
    const char *pid = getenv("WATCHDOG_PID");
    uint64_t usec = parse_number(getenv("WATCHDOG_USEC"));

    if (usec == 0 || (pid != NULL && parse_number(pid) != (uint64_t)getpid())) {
        return 0; /* it is meant for another process */
    }
    return usec < 2000 ? 1 : usec / 2000;
}

static int open_socket(struct tf_notify *notify)
{
    const struct timeval patience = {.tv_sec = TF_NOTIFY_PATIENCE_MS / 1000};

    notify->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (notify->fd < 0) {
        notify->fd = -1;
        return -errno;
    }
    (void)setsockopt(notify->fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    return 0;
}

int tf_notify_open(struct tf_notify *notify)
{
    const char *name = getenv("NOTIFY_SOCKET");
    int rc = 0;

    *notify = (struct tf_notify){.fd = -1};
    if (name != NULL) {
        rc = parse_address(name, notify);
        if (rc == 0) {
            rc = open_socket(notify);
        }
        notify->watchdog_ms = rc == 0 ? find_watchdog_ms() : 0;
    }
    (void)unsetenv("NOTIFY_SOCKET");
    (void)unsetenv("WATCHDOG_USEC");
    (void)unsetenv("WATCHDOG_PID");
    return rc;
}

int tf_notify_send(const struct tf_notify *notify, const char *lines)
{
    ssize_t sent;

    if (notify->fd < 0) {
        return 0;
    }
    do {
        sent = sendto(notify->fd, lines, strlen(lines), MSG_NOSIGNAL,
                      (const struct sockaddr *)&notify->to, notify->to_bytes);
    } while (sent < 0 && errno == EINTR);
    return sent < 0 ? -errno : 0;
}

void tf_notify_close(struct tf_notify *notify)
{
    if (notify->fd >= 0) {
        (void)close(notify->fd);
        notify->fd = -1;
    }
}
