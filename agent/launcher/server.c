/*
 * server.c - the process that starts taffrail-journal: it waits for requests and for children.
 *
 * Main may be in the hands of an attacker, so a request is not trusted. Whatever it says, one
 * program is started, by a name that main cannot change, with options of a list, and both Landlock
 * and the filter of system calls hold there too. What is no request ends the process.
 *
 * Its children end with it: killed, or, when it is killed itself, by the end of their stdin, a pipe
 * of which it has the other end alone.
 */
#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "taffrail/log.h"

struct child {
    pid_t pid; /* 0: none */
    uint32_t id;
};

struct server {
    const char *program;
    int signal_fd;   /* SIGCHLD */
    int lifeline[2]; /* [0] is the stdin of all children */
    struct child children[TF_LAUNCH_COUNT_MAX];
};

/* ---- children ------------------------------------------------------------------------------- */

static struct child *find(struct server *server, uint32_t id)
{
    for (size_t i = 0; i < TF_COUNT(server->children); i++) {
        if (server->children[i].pid > 0 && server->children[i].id == id) {
            return &server->children[i];
        }
    }
    return NULL;
}

static int tell(uint32_t id, enum tf_launch_end end, int number)
{
    uint8_t bytes[TF_LAUNCH_NOTICE_BYTES];
    const struct tf_launch_notice notice = {.end = end, .id = id, .number = (uint32_t)number};
    struct tf_packet packet = {.data = bytes, .size = sizeof bytes};

    tf_launch_notice_encode(&notice, bytes);
    return tf_packet_send(STDIN_FILENO, &packet);
}

/* 0, or an errno, also of the exec. */
static int spawn_with(const struct server *server, char *const *args, const int fds[2],
                      posix_spawn_file_actions_t *actions, posix_spawnattr_t *attributes,
                      pid_t *pid)
{
    static char locale[] = "LC_ALL=C.UTF-8";
    char *const environment[] = {locale, NULL};
    sigset_t all, none;
    int rc;

    (void)sigfillset(&all);
    (void)sigemptyset(&none);
    (void)posix_spawnattr_setsigdefault(attributes, &all);
    (void)posix_spawnattr_setsigmask(attributes, &none);
    (void)posix_spawnattr_setflags(attributes, POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK);
    rc = posix_spawn_file_actions_adddup2(actions, server->lifeline[0], STDIN_FILENO);
    rc = rc == 0 ? posix_spawn_file_actions_adddup2(actions, fds[0], STDOUT_FILENO) : rc;
    rc = rc == 0 ? posix_spawn_file_actions_adddup2(actions, fds[1], STDERR_FILENO) : rc;
    return rc == 0 ? posix_spawn(pid, server->program, actions, attributes, args, environment) : rc;
}

static int spawn(const struct server *server, char *const *args, const int fds[2], pid_t *pid)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    int rc;

    (void)posix_spawn_file_actions_init(&actions); /* cannot fail, as the next (glibc) */
    (void)posix_spawnattr_init(&attributes);
    rc = spawn_with(server, args, fds, &actions, &attributes, pid);
    (void)posix_spawnattr_destroy(&attributes);
    (void)posix_spawn_file_actions_destroy(&actions);
    return rc;
}

static int start(struct server *server, struct tf_launch_request *request, const int fds[2])
{
    struct child *child = server->children, *end = child + TF_COUNT(server->children);
    int rc = EAGAIN;

    while (child < end && child->pid > 0) {
        child++;
    }
    if (child < end) {
        request->args[0] = server->program;
        rc = spawn(server, (char *const *)(uintptr_t)request->args, fds, &child->pid);
        child->pid = rc == 0 ? child->pid : 0;
        child->id = request->id;
    }
    return rc == 0 ? 0 : tell(request->id, TF_LAUNCH_FAILED, rc);
}

/* What a signal tells is not looked at: several can be one. */
static int reap(struct server *server)
{
    struct signalfd_siginfo info;
    int status, rc = 0;
    pid_t pid;

    (void)!read(server->signal_fd, &info, sizeof info);
    while (rc == 0 && (pid = waitpid(-1, &status, WNOHANG)) > 0) {
        for (size_t i = 0; i < TF_COUNT(server->children); i++) {
            struct child *child = &server->children[i];

            if (child->pid == pid) {
                child->pid = 0;
                rc = WIFSIGNALED(status) ? tell(child->id, TF_LAUNCH_SIGNALLED, WTERMSIG(status))
                                         : tell(child->id, TF_LAUNCH_EXITED, WEXITSTATUS(status));
            }
        }
    }
    return rc;
}

static void end_all(const struct server *server)
{
    for (size_t i = 0; i < TF_COUNT(server->children); i++) {
        const struct child *child = &server->children[i];

        if (child->pid > 0) {
            (void)kill(child->pid, SIGKILL);
            (void)waitpid(child->pid, NULL, 0);
        }
    }
}

/* ---- requests ------------------------------------------------------------------------------- */

static int perform(struct server *server, const struct tf_packet *received)
{
    struct tf_launch_request request;
    struct child *child;

    if (received->lacks_fds ||
        tf_launch_request_decode(received->data, received->size, &request) < 0 ||
        received->fd_count != (request.op == TF_LAUNCH_START ? TF_PACKET_FDS : 0)) {
        return -EPROTO;
    }
    child = find(server, request.id);
    if (request.op == TF_LAUNCH_START) {
        return child == NULL ? start(server, &request, received->fds) : -EPROTO;
    }
    if (child != NULL) { /* else it has just ended, and that is told */
        (void)kill(child->pid, SIGKILL);
    }
    return 0;
}

/* 1, 0 where main's end is closed, or a negative errno. */
static int hear(struct server *server)
{
    uint8_t bytes[TF_LAUNCH_BYTES_MAX];
    struct tf_packet received = {.data = bytes, .room = sizeof bytes};
    int rc = tf_packet_receive(STDIN_FILENO, &received), done;

    if (rc > 0) {
        done = perform(server, &received);
        rc = done < 0 ? done : rc;
    }
    tf_packet_close(&received);
    return rc;
}

static int wait_once(struct server *server)
{
    struct pollfd fds[] = {{.fd = STDIN_FILENO, .events = POLLIN},
                           {.fd = server->signal_fd, .events = POLLIN}};
    int rc = 0;

    if (poll(fds, TF_COUNT(fds), -1) < 0) {
        return errno == EINTR ? 1 : -errno;
    }
    if (fds[1].revents != 0) {
        rc = reap(server);
    }
    if (rc == 0) {
        rc = fds[0].revents != 0 ? hear(server) : 1;
    }
    return rc;
}

/* ---- the process ---------------------------------------------------------------------------- */

/* What needs calls that it does not make later. */
static int prepare(struct server *server)
{
    const struct rlimit none = {0, 0};
    sigset_t child;

    (void)setrlimit(RLIMIT_CORE, &none);
    (void)sigemptyset(&child);
    (void)sigaddset(&child, SIGCHLD);
    (void)sigprocmask(SIG_BLOCK, &child, NULL);
    if (dup2(STDIN_FILENO, STDOUT_FILENO) < 0) { /* so that no other is ever one of the three */
        return -errno;
    }
    server->signal_fd = signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK);
    if (server->signal_fd < 0 || pipe2(server->lifeline, O_CLOEXEC) < 0 || chdir("/") < 0) {
        return -errno;
    }
    return 0;
}

int tf_launch_serve(void *work_of_it)
{
    const struct tf_launch_work *work = work_of_it;
    static struct server server;
    struct tf_sandbox_status status;
    int rc;

    server.program = work->program;
    if (prepare(&server) < 0 ||
        tf_sandbox_close_launcher(work->options, work->needs, &status) < 0 ||
        tf_process_report(&status, sizeof status) < 0) {
        return 1;
    }
    do {
        rc = wait_once(&server);
    } while (rc > 0);
    end_all(&server);
    if (rc == 0 || rc == -EPIPE || rc == -ECONNRESET) {
        return 0; /* main has ended */
    }
    tf_log(TF_LOG_ERROR, "launcher", NULL, 0, "%s; it ends",
           rc == -EPROTO ? "what was asked for is no request" : uv_strerror(rc));
    return 1;
}
