/*
 * process.c - a process of its own beside main: how it begins, and how it ends.
 *
 * It has nothing of main's but its end of a socket pair and stderr. Signals to the whole group are
 * main's to obey.
 */
#include "taffrail/process.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "taffrail/base.h"

#define REPORT_MS 10000 /* it takes milliseconds, unless a disk hangs */

/* ---- in it ---------------------------------------------------------------------------------- */

/* The socket as stdin, and stderr, are all that is left open. */
static void close_others(int socket_fd)
{
    (void)dup2(socket_fd, STDIN_FILENO);
    (void)close(STDOUT_FILENO);
    if (syscall(SYS_close_range, STDERR_FILENO + 1, ~0U, 0U) != 0) { /* before Linux 5.9 */
        for (int fd = STDERR_FILENO + 1, max = (int)sysconf(_SC_OPEN_MAX); fd < max; fd++) {
            (void)close(fd);
        }
    }
}

/* Main is told to stop, and ends it. */
static void ignore_signals(void)
{
    static const int numbers[] = {SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGPIPE};

    for (size_t i = 0; i < TF_COUNT(numbers); i++) {
        (void)signal(numbers[i], SIG_IGN);
    }
}

static int begin(const struct tf_process_work *work, int socket_fd)
{
    (void)prctl(PR_SET_NAME, work->name, 0UL, 0UL, 0UL);
    ignore_signals();
    close_others(socket_fd);
    return work->run(work->ctx);
}

int tf_process_report(void *report, size_t report_bytes)
{
    struct tf_packet packet = {.data = report, .size = report_bytes};

    return tf_packet_send(STDIN_FILENO, &packet);
}

/* ---- in main -------------------------------------------------------------------------------- */

static int hear_report(struct tf_process *process, int socket_fd, void *report, size_t report_bytes)
{
    struct pollfd poll_fd = {.fd = socket_fd, .events = POLLIN};
    struct tf_packet packet = {.data = report, .room = report_bytes};
    int rc;

    do {
        rc = poll(&poll_fd, 1, REPORT_MS);
    } while (rc < 0 && errno == EINTR);
    if (rc == 0) {
        (void)kill(process->pid, SIGKILL);
        process->pid = 0; /* not waited for: what hangs in the kernel does not die */
        return -ETIMEDOUT;
    }
    rc = tf_packet_receive(socket_fd, &packet);
    tf_packet_close(&packet);
    if (rc < 0) {
        return rc;
    }
    return packet.size == report_bytes ? 0 : -ESHUTDOWN;
}

int tf_process_start(struct tf_process *process, const struct tf_process_work *work, void *report,
                     size_t report_bytes)
{
    int pair[2], rc;

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) {
        return -errno;
    }
    process->pid = fork();
    if (process->pid == 0) {
        (void)close(pair[0]);
        _exit(begin(work, pair[1]));
    }
    rc = process->pid < 0 ? -errno : 0;
    (void)close(pair[1]);
    if (rc == 0) {
        rc = hear_report(process, pair[0], report, report_bytes);
    }
    if (rc < 0) {
        (void)close(pair[0]);
        tf_process_wait(process);
        return rc;
    }
    return pair[0];
}

bool tf_process_has_ended(struct tf_process *process)
{
    if (!process->has_ended && process->pid > 0 &&
        waitpid(process->pid, NULL, WNOHANG) != 0) { /* also where nobody keeps its end for us */
        process->has_ended = true;
    }
    return process->has_ended;
}

void tf_process_wait(struct tf_process *process)
{
    if (process->pid > 0 && !process->has_ended) {
        (void)waitpid(process->pid, NULL, 0);
        process->has_ended = true;
    }
}
