/*
 * process.c - the process that opens logs: how it starts, and how it ends.
 *
 * It is forked while there is one thread and no key in memory, and has nothing of main's but its
 * end of a socket pair and stderr. It ends when main's end is closed, however main dies; signals to
 * the whole group are main's to obey. When it is gone nothing can be opened any more: main has no
 * right to start another, and stops (run.c).
 */
#include "internal.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "taffrail/log.h"
#include "taffrail/sandbox.h"

#define PROCESS_NAME    "taffrail-opener" /* 15 characters, as many as the kernel keeps */
#define DESCRIPTORS_MAX 256
#define CONFINING_MS    10000 /* it takes milliseconds, unless a disk hangs */

struct tf_opener_process {
    struct tf_client client;
    pid_t pid; /* -1: not started */
    bool has_ended;
    const char **names;
    struct tf_opener *rules;
    size_t count;
};

/* ---- making -----------------------------------------------------------------------------------
 */

struct tf_opener_process *tf_opener_process_new(void)
{
    struct tf_opener_process *process = calloc(1, sizeof *process);

    if (process == NULL || tf_client_init(&process->client) < 0) {
        free(process);
        return NULL;
    }
    process->pid = -1;
    return process;
}

int tf_opener_process_add(struct tf_opener_process *process, const char *name,
                          struct tf_opener *rules)
{
    const char **names = realloc(process->names, (process->count + 1) * sizeof *names);
    struct tf_opener *all = realloc(process->rules, (process->count + 1) * sizeof *all);

    process->names = names != NULL ? names : process->names;
    process->rules = all != NULL ? all : process->rules;
    if (names == NULL || all == NULL) {
        tf_opener_fini(rules);
        return -ENOMEM;
    }
    names[process->count] = name;
    all[process->count++] = *rules;
    *rules = (struct tf_opener){.roots = NULL};
    return 0;
}

void tf_opener_process_attach(struct tf_opener_process *process, const char *name,
                              struct tf_opener *opener)
{
    size_t i = 0;

    while (strcmp(process->names[i], name) != 0) {
        i++;
        assert(i < process->count); /* every container input was added */
    }
    assert(opener->root_count == process->rules[i].root_count); /* from the same options */
    opener->process = process;
    opener->number = (uint16_t)i;
}

/* ---- start and end ----------------------------------------------------------------------------
 */

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

/* It makes no process, keeps no core, and has few descriptors at a time. */
static void set_limits(void)
{
    const struct rlimit none = {0, 0}, few = {DESCRIPTORS_MAX, DESCRIPTORS_MAX};

    (void)setrlimit(RLIMIT_CORE, &none);
    (void)setrlimit(RLIMIT_NPROC, &none);
    (void)setrlimit(RLIMIT_NOFILE, &few);
}

static int confine(const struct tf_opener_process *process, struct tf_sandbox_status *out)
{
    struct tf_needs *needs = tf_needs_new();
    int rc;

    for (size_t i = 0; i < process->count && needs != NULL; i++) {
        for (size_t j = 0; j < process->rules[i].root_count; j++) {
            tf_needs_path(needs, TF_NEED_READ, process->rules[i].roots[j]);
        }
    }
    rc = needs != NULL ? tf_sandbox_close_opener(needs, out) : -ENOMEM;
    tf_needs_free(needs);
    return rc;
}

/* The first message says what holds of its sandbox. */
static int run(const struct tf_opener_process *process, int socket_fd)
{
    struct tf_sandbox_status status;
    struct iovec part = {.iov_base = &status, .iov_len = sizeof status};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};

    (void)prctl(PR_SET_NAME, PROCESS_NAME, 0UL, 0UL, 0UL);
    ignore_signals();
    close_others(socket_fd);
    set_limits();
    if (confine(process, &status) < 0 ||
        sendmsg(STDIN_FILENO, &message, MSG_NOSIGNAL) != sizeof status) {
        return 1;
    }
    return tf_opener_serve(STDIN_FILENO, process->rules, process->count) == 0 ? 0 : 1;
}

static int wait_until_ready(struct tf_opener_process *process, int socket_fd)
{
    struct pollfd poll_fd = {.fd = socket_fd, .events = POLLIN};
    struct tf_sandbox_status status;
    ssize_t size;

    if (poll(&poll_fd, 1, CONFINING_MS) == 0) {
        (void)kill(process->pid, SIGKILL);
        process->pid = -1; /* not waited for: what hangs in the kernel does not die */
        return -ETIMEDOUT;
    }
    do {
        size = recv(socket_fd, &status, sizeof status, 0);
    } while (size < 0 && errno == EINTR);
    if (size != sizeof status) {
        return size < 0 ? -errno : -ESHUTDOWN; /* it could not confine itself */
    }
    tf_sandbox_note(TF_ROLE_OPENER, status.has);
    tf_log(status.layers == TF_SANDBOX_LAYERS ? TF_LOG_INFO : TF_LOG_WARN, "opener",
           TF_DETAILS(TF_NUM("pid", process->pid), TF_NUM("landlock", status.landlock_abi),
                      TF_STR("seccomp", tf_sandbox_calls[status.calls]),
                      TF_BOOL("reads_all_logs", status.may_read_all)),
           "a process of its own opens logs, with %u of %u layers on", status.layers,
           (unsigned)TF_SANDBOX_LAYERS);
    return 0;
}

int tf_opener_process_start(struct tf_opener_process *process)
{
    int pair[2], rc;

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) {
        return -errno;
    }
    process->pid = fork();
    if (process->pid == 0) {
        (void)close(pair[0]);
        _exit(run(process, pair[1]));
    }
    rc = process->pid < 0 ? -errno : 0;
    (void)close(pair[1]);
    if (rc == 0) {
        rc = wait_until_ready(process, pair[0]);
    }
    tf_client_connect(&process->client, pair[0]);
    return rc;
}

bool tf_opener_process_has_ended(struct tf_opener_process *process)
{
    if (process != NULL && !process->has_ended && process->pid > 0 &&
        waitpid(process->pid, NULL, WNOHANG) != 0) { /* also where nobody keeps its end for us */
        process->has_ended = true;
    }
    return process != NULL && process->has_ended;
}

void tf_opener_process_free(struct tf_opener_process *process)
{
    if (process == NULL) {
        return;
    }
    tf_client_fini(&process->client);
    if (process->pid > 0 && !process->has_ended) {
        (void)waitpid(process->pid, NULL, 0); /* it reads the end of its socket, at once */
    }
    for (size_t i = 0; i < process->count; i++) {
        tf_opener_fini(&process->rules[i]);
    }
    free(process->rules);
    free(process->names);
    free(process);
}

/* ---- asking -----------------------------------------------------------------------------------
 */

void tf_process_perform(struct tf_opener_process *process, uint16_t number,
                        const struct tf_asked *asked, struct tf_answer *answer)
{
    tf_client_perform(&process->client, number, process->rules[number].root_count, asked, answer);
}
