/*
 * process.c - a process of its own beside main: how it begins, and how it ends.
 *
 * It has nothing of main's but its end of a socket pair and stderr. Signals to the whole group are
 * main's to obey.
 */
#include "taffrail/process.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "taffrail/base.h"
#include "taffrail/log.h"

#define REPORT_MS 10000 /* it takes milliseconds, unless a disk hangs */
#define END_MS    2000u /* it takes as long; or it is stopped, or hangs */
#define KILLED_MS 1000u /* then only the kernel can hold it */

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

/*
 * Landlock lets main send no signal, from its ABI 6 on, so the kernel is asked before main is
 * confined: it sends one when something arrives at a socket (fcntl(2), F_SETOWN and F_SETSIG). It
 * keeps the process, not its number, which may be another's one day. When main's two ends are
 * closed it sends none, as it would for a pipe: this process ends by itself then.
 */
static int make_killer(struct tf_process *process)
{
    int *fds = process->killer;

    if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, fds) < 0 ||
        fcntl(fds[0], F_SETSIG, SIGKILL) < 0 || fcntl(fds[0], F_SETOWN, process->pid) < 0 ||
        fcntl(fds[0], F_SETFL, O_ASYNC) < 0) {
        return -errno;
    }
    return 0;
}

static int hear_report(int socket_fd, void *report, size_t report_bytes)
{
    struct pollfd poll_fd = {.fd = socket_fd, .events = POLLIN};
    struct tf_packet packet = {.data = report, .room = report_bytes};
    int rc;

    do {
        rc = poll(&poll_fd, 1, REPORT_MS);
    } while (rc < 0 && errno == EINTR);
    if (rc == 0) {
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
    pid_t pid;

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) {
        return -errno;
    }
    pid = fork();
    if (pid == 0) {
        (void)close(pair[0]);
        _exit(begin(work, pair[1]));
    }
    rc = pid < 0 ? -errno : 0;
    (void)close(pair[1]);
    if (rc == 0) {
        *process = (struct tf_process){.name = work->name, .pid = pid, .killer = {-1, -1}};
        rc = make_killer(process);
    }
    if (rc == 0) {
        rc = hear_report(pair[0], report, report_bytes);
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

void tf_process_kill(const struct tf_process *process)
{
    if (process->pid > 0) {
        (void)send(process->killer[1], "", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
    }
}

static bool ends_within(struct tf_process *process, unsigned ms)
{
    for (unsigned i = 0; i < ms && !tf_process_has_ended(process); i++) {
        (void)poll(NULL, 0, 1);
    }
    return tf_process_has_ended(process);
}

void tf_process_wait(struct tf_process *process)
{
    if (process->pid == 0) {
        return;
    }
    if (!ends_within(process, END_MS)) {
        tf_process_kill(process);
    }
    if (!ends_within(process, KILLED_MS)) {
        tf_log(TF_LOG_WARN, "process-hangs",
               TF_DETAILS(TF_STR("name", process->name), TF_NUM("pid", process->pid)),
               "it was killed, and has not ended; it is not waited for");
    }
    (void)close(process->killer[0]); /* -1: there is none */
    (void)close(process->killer[1]);
    process->pid = 0;
}
