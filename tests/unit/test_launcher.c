/*
 * test_launcher.c - the launcher: its messages, and the process, with programs of the system in
 * place of taffrail-journal: echo and false end by themselves, cat when its stdin does.
 *
 * The process is there only with CAP_DAC_READ_SEARCH, which this program has from root. What the
 * reader then may is for tests/integration/test_launcher.py.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../agent/launcher/internal.h"
#include "../../agent/sandbox/internal.h"

#include "taffrail/log.h"

#define LATE_MS   30000
#define RUNS_MAX  (TF_LAUNCH_COUNT_MAX + 1)
#define NOT_ENDED INT64_MIN

/* ---- faults --------------------------------------------------------------------------------- */

/* Of the launcher that is started next. */
static enum fault { NO_FAULT, NO_STDOUT, NO_SIGNALS, NO_PIPES, NO_ROOT } fault;
static int spawn_error;
static unsigned fails_at_action; /* counted from 1; 0: none does */

static void *real(const char *name)
{
    return dlsym(RTLD_NEXT, name);
}

static bool befalls(enum fault what)
{
    if (fault == what) {
        errno = EMFILE;
    }
    return fault == what;
}

/* All are before libc's. */
int dup2(int fd, int as)
{
    return as == STDOUT_FILENO && befalls(NO_STDOUT) ? -1
                                                     : ((int (*)(int, int))real("dup2"))(fd, as);
}

int signalfd(int fd, const sigset_t *mask, int flags)
{
    return befalls(NO_SIGNALS)
               ? -1
               : ((int (*)(int, const sigset_t *, int))real("signalfd"))(fd, mask, flags);
}

int pipe2(int fds[2], int flags)
{
    return befalls(NO_PIPES) ? -1 : ((int (*)(int *, int))real("pipe2"))(fds, flags);
}

int chdir(const char *path)
{
    return befalls(NO_ROOT) ? -1 : ((int (*)(const char *))real("chdir"))(path);
}

int posix_spawn_file_actions_adddup2(posix_spawn_file_actions_t *actions, int fd, int as)
{
    if (fails_at_action > 0 && --fails_at_action == 0) {
        return ENOMEM;
    }
    return ((int (*)(posix_spawn_file_actions_t *, int, int))real(
        "posix_spawn_file_actions_adddup2"))(actions, fd, as);
}

int posix_spawn(pid_t *pid, const char *path, const posix_spawn_file_actions_t *actions,
                const posix_spawnattr_t *attributes, char *const *args, char *const *environment)
{
    int (*spawn)(pid_t *, const char *, const posix_spawn_file_actions_t *,
                 const posix_spawnattr_t *, char *const *, char *const *);

    *(void **)&spawn = real("posix_spawn");
    return spawn_error != 0 ? spawn_error
                            : spawn(pid, path, actions, attributes, args, environment);
}

/* ---- a world -------------------------------------------------------------------------------- */

#define HASTE 5 /* how much faster a test is that waits for what hangs */

struct run {
    struct tf_launched launched; /* first */
    int64_t code;
    int signal;
    int out_fd; /* our end */
};

struct world {
    uv_loop_t loop;
    uv_timer_t deadline;
    struct tf_launcher *launcher;
    bool is_hasty;
    unsigned ended, gone;
    struct run runs[RUNS_MAX];
};

static struct world *world;

/* Before libuv's. */
int uv_timer_start(uv_timer_t *timer, uv_timer_cb fn, uint64_t timeout_ms, uint64_t repeat_ms)
{
    int (*start)(uv_timer_t *, uv_timer_cb, uint64_t, uint64_t);

    *(void **)&start = real("uv_timer_start");
    if (world->is_hasty && timer != &world->deadline) {
        timeout_ms /= HASTE;
    }
    return start(timer, fn, timeout_ms, repeat_ms);
}

static void on_gone(void *ctx)
{
    (void)ctx;
    assert_null(world->launcher->running);
    world->gone++;
}

static void on_ended(struct tf_launched *launched, int64_t code, int signal)
{
    struct run *run = (struct run *)launched;

    assert_int_equal(run->code, NOT_ENDED); /* once */
    run->code = code;
    run->signal = signal;
    world->ended++;
}

static struct tf_needs *needs_of(const char *program)
{
    struct tf_needs *needs = tf_needs_new();

    assert_non_null(needs);
    tf_needs_path(needs, TF_NEED_RUN, program);
    return needs;
}

static void begin(const char *program)
{
    const struct tf_sandbox_options options = {0};
    struct tf_needs *needs = needs_of(program);

    assert_int_equal(tf_launcher_start(program, &options, needs, &world->launcher), 0);
    tf_needs_free(needs);
    tf_launcher_attach(world->launcher, &world->loop, on_gone, NULL);
}

static int run_with(struct run *run, char *const *args)
{
    int out[2], rc;

    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    *run = (struct run){.launched = {.on_ended = on_ended}, .code = NOT_ENDED, .out_fd = out[0]};
    rc = tf_launcher_run(world->launcher, &run->launched, args, out[1], STDERR_FILENO);
    (void)close(out[1]);
    return rc;
}

static struct run *start(char *const *args)
{
    assert_int_equal(run_with(&world->runs[0], args), 0);
    return &world->runs[0];
}

static char *const no_args[] = {"", NULL};

static void on_deadline(uv_timer_t *timer)
{
    uv_stop(timer->loop);
}

static void run_until_ended(unsigned count)
{
    (void)uv_timer_start(&world->deadline, on_deadline, LATE_MS, 0);
    while (world->ended < count && uv_is_active((uv_handle_t *)&world->deadline)) {
        (void)uv_run(&world->loop, UV_RUN_ONCE);
    }
    (void)uv_timer_stop(&world->deadline);
    assert_int_equal(world->ended, count);
}

/* What was written, until nobody holds the other end. */
static const char *all_of(int fd)
{
    static char text[256];
    struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
    size_t used = 0;
    ssize_t size = 1;

    while (size > 0) {
        assert_int_equal(poll(&poll_fd, 1, LATE_MS), 1);
        size = read(fd, text + used, sizeof text - 1 - used);
        used += size > 0 ? (size_t)size : 0;
    }
    text[used] = '\0';
    return text;
}

static int set_up(void **state)
{
    *state = world = calloc(1, sizeof *world);
    assert_non_null(world);
    assert_int_equal(uv_loop_init(&world->loop), 0);
    assert_int_equal(uv_timer_init(&world->loop, &world->deadline), 0);
    return 0;
}

static int tear_down(void **state)
{
    for (size_t i = 0; i < RUNS_MAX; i++) {
        if (world->runs[i].out_fd > 0) {
            (void)close(world->runs[i].out_fd);
        }
    }
    tf_launcher_detach(world->launcher);
    uv_close((uv_handle_t *)&world->deadline, NULL);
    (void)uv_run(&world->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&world->loop), 0);
    tf_launcher_free(world->launcher);
    fault = NO_FAULT;
    spawn_error = 0;
    fails_at_action = 0;
    free(*state);
    return 0;
}

/* ---- the process ---------------------------------------------------------------------------- */

static void what_it_starts_writes_and_its_end_is_told(void **state)
{
    char *const args[] = {"", "--after=s=1;i=2", "--or", NULL};

    (void)state;
    begin("/bin/echo");
    (void)start(args);
    run_until_ended(1);
    assert_int_equal(world->runs[0].code, 0);
    assert_int_equal(world->runs[0].signal, 0);
    assert_string_equal(all_of(world->runs[0].out_fd), "--after=s=1;i=2 --or\n");
    (void)close(world->runs[0].out_fd);
    (void)start(no_args); /* another */
    run_until_ended(2);
    assert_int_equal(world->runs[0].code, 0);
}

static void an_exit_status_and_a_signal_are_told(void **state)
{
    (void)state;
    begin("/bin/false");
    (void)start(no_args);
    run_until_ended(1);
    assert_int_equal(world->runs[0].code, 1);
    tf_launcher_kill(world->launcher, &world->runs[0].launched); /* too late, and no matter */
    (void)close(world->runs[0].out_fd);
    (void)start(no_args);
    run_until_ended(2);
    assert_int_equal(world->runs[0].code, 1);
}

static void it_kills_the_one_that_is_meant(void **state)
{
    (void)state;
    begin("/bin/cat");
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(run_with(&world->runs[i], no_args), 0);
    }
    tf_launcher_kill(world->launcher, &world->runs[1].launched);
    run_until_ended(1);
    assert_int_equal(world->runs[1].signal, SIGKILL);
    assert_int_equal(world->runs[0].code, NOT_ENDED);
    tf_launcher_kill(world->launcher, &world->runs[0].launched);
    tf_launcher_kill(world->launcher, &world->runs[2].launched);
    run_until_ended(3);
}

static void what_cannot_be_started_is_told(void **state)
{
    (void)state;
    begin("/bin/no-such-program");
    (void)start(no_args);
    run_until_ended(1);
    assert_int_equal(world->runs[0].code, -ENOENT);
}

static void a_start_without_memory_or_processes_is_told(void **state)
{
    static const int errors[] = {ENOMEM, EAGAIN};

    for (size_t i = 0; i < TF_COUNT(errors); i++) {
        spawn_error = errors[i];
        begin("/bin/cat");
        (void)start(no_args);
        run_until_ended(1);
        assert_int_equal(world->runs[0].code, -errors[i]);
        (void)tear_down(state);
        (void)set_up(state);
    }
    for (unsigned i = 1; i <= 3; i++) { /* stdin, stdout, stderr */
        fails_at_action = i;
        begin("/bin/cat");
        (void)start(no_args);
        run_until_ended(1);
        assert_int_equal(world->runs[0].code, -ENOMEM);
        (void)tear_down(state);
        (void)set_up(state);
    }
}

static void one_that_cannot_prepare_is_not_started(void **state)
{
    const struct tf_sandbox_options options = {0};

    (void)state;
    for (enum fault i = NO_STDOUT; i <= NO_ROOT; i++) {
        struct tf_needs *needs = needs_of("/bin/cat");

        fault = i;
        assert_int_equal(tf_launcher_start("/bin/cat", &options, needs, &world->launcher),
                         -ESHUTDOWN);
        tf_needs_free(needs);
    }
}

static void past_its_bound_none_is_started(void **state)
{
    (void)state;
    begin("/bin/cat");
    for (size_t i = 0; i < RUNS_MAX; i++) {
        assert_int_equal(run_with(&world->runs[i], no_args), 0);
    }
    run_until_ended(1);
    assert_int_equal(world->runs[RUNS_MAX - 1].code, -EAGAIN);
    for (size_t i = 0; i < RUNS_MAX - 1; i++) {
        tf_launcher_kill(world->launcher, &world->runs[i].launched);
    }
    run_until_ended(RUNS_MAX);
    (void)close(world->runs[0].out_fd);
    (void)start(no_args); /* there is room again */
    tf_launcher_kill(world->launcher, &world->runs[0].launched);
    run_until_ended(RUNS_MAX + 1);
    assert_int_equal(world->runs[0].signal, SIGKILL);
}

static void past_the_bounds_of_a_message_nothing_is_asked(void **state)
{
    static char long_text[TF_LAUNCH_TEXT_MAX];
    static char *many[TF_LAUNCH_ARGS_MAX + 3];
    char *const just_fits[] = {"", long_text, NULL}, *const too_long[] = {"", long_text, "--or",
                                                                          NULL};

    (void)state;
    memset(long_text, 'x', sizeof long_text);
    memcpy(long_text, "--match=", 8);
    begin("/bin/echo");
    for (size_t i = 0; i < TF_COUNT(many) - 1; i++) {
        many[i] = "--or";
    }
    assert_int_equal(run_with(&world->runs[0], many), -E2BIG);
    long_text[sizeof long_text - 1] = '\0';
    assert_int_equal(run_with(&world->runs[3], too_long), -E2BIG);
    assert_int_equal(run_with(&world->runs[1], just_fits), 0);
    run_until_ended(1);
    assert_int_equal(world->runs[1].code, 0);
    many[TF_LAUNCH_ARGS_MAX + 1] = NULL;
    assert_int_equal(run_with(&world->runs[2], many), 0);
    run_until_ended(2);
    assert_int_equal(world->runs[2].code, 0);
    assert_int_equal(world->runs[0].code, NOT_ENDED);
    assert_int_equal(world->runs[3].code, NOT_ENDED);
}

/* ---- how each ends by the other ------------------------------------------------------------- */

static void without_the_launcher_nothing_runs(void **state)
{
    (void)state;
    begin("/bin/cat");
    assert_int_equal(run_with(&world->runs[0], no_args), 0);
    assert_int_equal(run_with(&world->runs[1], no_args), 0);
    assert_int_equal(kill(world->launcher->process.pid, SIGTERM), 0); /* which is main's to obey */
    tf_launcher_kill(world->launcher, &world->runs[0].launched);
    run_until_ended(1);
    assert_int_equal(world->gone, 0);
    assert_int_equal(kill(world->launcher->process.pid, SIGKILL), 0);
    run_until_ended(2);
    assert_int_equal(world->gone, 1);
    assert_int_equal(world->runs[1].code, -ESHUTDOWN);
    assert_string_equal(all_of(world->runs[1].out_fd), ""); /* it saw the end of its stdin */
    assert_int_equal(run_with(&world->runs[2], no_args), -ESHUTDOWN);
    tf_launcher_kill(world->launcher, &world->runs[2].launched);
    (void)uv_run(&world->loop, UV_RUN_NOWAIT);
    assert_int_equal(world->gone, 1); /* once */
}

static void expect_killed(pid_t pid)
{
    siginfo_t end;

    assert_int_equal(waitid(P_PID, (id_t)pid, &end, WEXITED | WNOWAIT), 0);
    assert_int_equal(end.si_code, CLD_KILLED);
    assert_int_equal(end.si_status, SIGKILL);
}

static void one_that_is_stopped_is_killed(void **state)
{
    pid_t pid;

    (void)state;
    world->is_hasty = true;
    begin("/bin/cat");
    pid = world->launcher->process.pid;
    (void)start(no_args);
    assert_int_equal(kill(pid, SIGSTOP), 0);
    assert_int_equal(waitid(P_PID, (id_t)pid, &(siginfo_t){0}, WSTOPPED), 0);
    tf_launcher_kill(world->launcher, &world->runs[0].launched);
    run_until_ended(1);
    assert_int_equal(world->runs[0].code, -ESHUTDOWN);
    assert_int_equal(world->gone, 1);
    assert_string_equal(all_of(world->runs[0].out_fd), "");
    expect_killed(pid);
}

static void one_that_reads_is_not_killed(void **state)
{
    (void)state;
    world->is_hasty = true;
    begin("/bin/cat");
    (void)start(no_args);
    tf_launcher_kill(world->launcher, &world->runs[0].launched);
    while (uv_is_active((uv_handle_t *)&world->launcher->late)) {
        (void)uv_run(&world->loop, UV_RUN_ONCE);
    }
    assert_int_equal(world->runs[0].signal, SIGKILL);
    assert_false(world->launcher->is_shut);
}

static int lie(void *ctx)
{
    struct tf_sandbox_status status = {0};
    char nonsense[] = "nonsense";

    (void)ctx;
    (void)tf_process_report(&status, sizeof status);
    (void)tf_process_report(nonsense, sizeof nonsense);
    return pause();
}

static void one_that_says_what_is_no_notice_is_killed(void **state)
{
    const struct tf_process_work work = {.name = "liar", .run = lie};
    struct tf_sandbox_status status;

    (void)state;
    world->launcher = calloc(1, sizeof *world->launcher);
    assert_non_null(world->launcher);
    world->launcher->fd =
        tf_process_start(&world->launcher->process, &work, &status, sizeof status);
    assert_true(world->launcher->fd >= 0);
    tf_launcher_attach(world->launcher, &world->loop, on_gone, NULL);
    assert_int_equal(run_with(&world->runs[0], no_args), 0);
    run_until_ended(1);
    assert_int_equal(world->gone, 1);
    expect_killed(world->launcher->process.pid);
}

static void when_main_is_gone_so_is_what_it_had_started(void **state)
{
    int out[2];
    pid_t pid;

    (void)state;
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    pid = fork();
    if (pid == 0) {
        (void)close(out[0]);
        begin("/bin/cat");
        world->runs[0].launched.on_ended = on_ended;
        _exit(tf_launcher_run(world->launcher, &world->runs[0].launched, no_args, out[1],
                              STDERR_FILENO) == 0
                  ? 0
                  : 1);
    }
    (void)close(out[1]);
    assert_true(pid > 0);
    assert_string_equal(all_of(out[0]), "");
    (void)close(out[0]);
}

#define FDS_MAX 3u /* one more than a message may have */

static void send_with(int socket_fd, const void *data, size_t size, size_t fd_count)
{
    static const int fds[FDS_MAX] = {STDERR_FILENO, STDERR_FILENO, STDERR_FILENO};
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof fds)] = {0};
    struct cmsghdr *head = (struct cmsghdr *)control;
    struct iovec part = {.iov_base = (void *)(uintptr_t)data, .iov_len = size};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};

    if (fd_count > 0) {
        *head = (struct cmsghdr){.cmsg_level = SOL_SOCKET,
                                 .cmsg_type = SCM_RIGHTS,
                                 .cmsg_len = CMSG_LEN(fd_count * sizeof fds[0])};
        memcpy(CMSG_DATA(head), fds, fd_count * sizeof fds[0]);
        message.msg_control = control;
        message.msg_controllen = CMSG_SPACE(fd_count * sizeof fds[0]);
    }
    assert_int_equal(sendmsg(socket_fd, &message, MSG_NOSIGNAL), (ssize_t)size);
}

/* A main that says anything, so many times. Returns what the process ends with: 0 for the end of
 * its socket. */
static int serve(const char *program, const void *data, size_t size, size_t fd_count,
                 unsigned times)
{
    static const struct tf_sandbox_options options = {0};
    struct tf_needs *needs = needs_of(program);
    struct tf_launch_work work = {.program = program, .options = &options, .needs = needs};
    struct tf_process process = {0};
    struct tf_sandbox_status status;
    struct pollfd ended = {.events = 0}; /* the other end is closed */
    siginfo_t end;

    ended.fd = tf_process_start(
        &process, &(struct tf_process_work){.name = "launch", .run = tf_launch_serve, .ctx = &work},
        &status, sizeof status);
    assert_true(ended.fd >= 0);
    tf_needs_free(needs);
    for (unsigned i = 0; i < times; i++) {
        send_with(ended.fd, data, size, fd_count);
    }
    if (poll(&ended, 1, 200) == 0) { /* it took that, and goes on */
        (void)shutdown(ended.fd, SHUT_WR);
    }
    assert_int_equal(waitid(P_PID, (id_t)process.pid, &end, WEXITED | WNOWAIT), 0);
    (void)close(ended.fd);
    tf_process_wait(&process);
    assert_int_equal(end.si_code, CLD_EXITED);
    return end.si_status;
}

#define REQUEST(op, text)                                                                          \
    (op "\0\0\0"                                                                                   \
        "\1\0\0\0" text)
#define SERVE(bytes, fd_count) serve("/bin/false", bytes, sizeof(bytes) - 1, fd_count, 1)

static void what_is_no_request_ends_it(void **state)
{
    (void)state;
    assert_int_equal(SERVE(REQUEST("\1", "--or\0"), 2), 0);
    assert_int_equal(SERVE(REQUEST("\2", ""), 0), 0);
    assert_int_equal(SERVE("nonsense", 0), 1);
    assert_int_equal(SERVE(REQUEST("\1", "--or\0"), 1), 1);
    assert_int_equal(SERVE(REQUEST("\1", "--or\0"), 0), 1);
    assert_int_equal(SERVE(REQUEST("\1", "--or\0"), FDS_MAX), 1);
    assert_int_equal(SERVE(REQUEST("\2", ""), 1), 1);
    assert_int_equal(SERVE(REQUEST("\1", "--once\0"), 2), 1);
    assert_int_equal(SERVE(REQUEST("\1", "/etc/shadow\0"), 2), 1);
}

/* By its number it could not be told from the first any more. */
static void another_of_the_number_of_one_that_runs_ends_it(void **state)
{
    (void)state;
    assert_int_equal(serve("/bin/cat", REQUEST("\1", ""), TF_LAUNCH_HEAD, 2, 1), 0);
    assert_int_equal(serve("/bin/cat", REQUEST("\1", ""), TF_LAUNCH_HEAD, 2, 2), 1);
}

/* A launcher whose process is this one, with the other end, fds[1]; it was asked for one run. */
static void be_launcher(int fds[2])
{
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds), 0);
    world->launcher = calloc(1, sizeof *world->launcher);
    assert_non_null(world->launcher);
    world->launcher->fd = fds[0];
    tf_launcher_attach(world->launcher, &world->loop, on_gone, NULL);
    assert_int_equal(run_with(&world->runs[0], no_args), 0);
}

static size_t count_descriptors(void)
{
    size_t count = 0;

    for (int fd = 0; fd < 256; fd++) {
        count += fcntl(fd, F_GETFD) >= 0;
    }
    return count;
}

/* What main makes of a launcher that says this. */
static int64_t hear(const void *data, size_t size, size_t fd_count)
{
    size_t before;
    int fds[2];

    be_launcher(fds);
    before = count_descriptors();
    send_with(fds[1], data, size, fd_count);
    run_until_ended(1);
    assert_int_equal(count_descriptors(), before);
    (void)close(fds[1]);
    return world->runs[0].code;
}

#define NOTICE(end, id, number) (end "\0\0\0" id "\0\0\0" number "\0\0\0")

static void what_is_no_notice_ends_the_asking(void **state)
{
    static const struct {
        const char *bytes;
        int64_t code;
        int signal;
        size_t lacks, fd_count;
    } cases[] = {{NOTICE("\2", "\1", "\7"), 7, 0, 0, 0},
                 {NOTICE("\1", "\1", "\13"), -11, 0, 0, 0},
                 {NOTICE("\3", "\1", "\11"), 0, 9, 0, 0},
                 {NOTICE("\2", "\2", "\7"), -ESHUTDOWN, 0, 0, 0},
                 {NOTICE("\4", "\1", "\7"), -ESHUTDOWN, 0, 0, 0},
                 {NOTICE("\1", "\1", "\0"), -ESHUTDOWN, 0, 0, 0},
                 {NOTICE("\3", "\1", "\101"), -ESHUTDOWN, 0, 0, 0},
                 {NOTICE("\2", "\1", "\7"), -ESHUTDOWN, 0, 1, 0},
                 {NOTICE("\2", "\1", "\7"), -ESHUTDOWN, 0, 0, 1},
                 {NOTICE("\2", "\1", "\7"), -ESHUTDOWN, 0, 0, FDS_MAX}};

    for (size_t i = 0; i < TF_COUNT(cases); i++) {
        assert_int_equal(
            hear(cases[i].bytes, TF_LAUNCH_NOTICE_BYTES - cases[i].lacks, cases[i].fd_count),
            cases[i].code);
        assert_int_equal(world->runs[0].signal, cases[i].signal);
        assert_int_equal(world->gone, cases[i].code == -ESHUTDOWN);
        (void)tear_down(state);
        (void)set_up(state);
    }
}

/* Its socket is full: a kill that cannot be said ends it, a start is only refused. */
static void a_launcher_that_does_not_listen_is_given_up(void **state)
{
    int fds[2], rc = 0;

    (void)state;
    be_launcher(fds);
    while (rc == 0) {
        rc = (int)send(fds[0], "x", 1, MSG_DONTWAIT | MSG_NOSIGNAL) == 1 ? 0 : -errno;
    }
    assert_int_equal(run_with(&world->runs[1], no_args), -EAGAIN);
    assert_false(world->launcher->is_shut);
    tf_launcher_kill(world->launcher, &world->runs[0].launched);
    run_until_ended(1);
    assert_int_equal(world->runs[0].code, -ESHUTDOWN);
    (void)close(fds[1]);
}

/* Without the capability, or Landlock, nothing is started: the input then does that by itself. */
static void without_the_capability_there_is_none(void **state)
{
    const struct tf_sandbox_options options = {0};
    pid_t pid = fork();
    int status = -1;

    (void)state;
    if (pid == 0) {
        struct tf_needs *needs = needs_of("/bin/cat");
        struct tf_launcher *launcher = NULL;

        (void)tf_capabilities_keep(0, false);
        status = tf_launcher_start("/bin/cat", &options, needs, &launcher);
        _exit(launcher == NULL ? -status : 0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(WEXITSTATUS(status), EPERM);
}

/* ---- messages ------------------------------------------------------------------------------- */

static void requests_come_back_as_they_were(void **state)
{
    static uint8_t bytes[TF_LAUNCH_BYTES_MAX];
    const struct tf_launch_request request = {
        .op = TF_LAUNCH_START, .id = 7, .args = {"", "--verbose", "--match=A=\xff\n", "--and"}};
    struct tf_launch_request again;
    int size = tf_launch_request_encode(&request, bytes);

    (void)state;
    assert_int_equal(size, TF_LAUNCH_HEAD + 10 + 13 + 6);
    assert_int_equal(tf_launch_request_decode(bytes, (size_t)size, &again), 0);
    assert_int_equal(again.op, TF_LAUNCH_START);
    assert_int_equal(again.id, 7);
    for (size_t i = 1; i < 4; i++) {
        assert_string_equal(again.args[i], request.args[i]);
    }
    assert_null(again.args[4]);
    for (size_t cut = 1; cut < 6; cut++) { /* each byte of --and, and its NUL */
        assert_int_equal(tf_launch_request_decode(bytes, (size_t)size - cut, &again), -EPROTO);
    }
    assert_int_equal(tf_launch_request_decode(bytes, (size_t)size - 6, &again), 0);
}

static void only_options_of_the_list_are_let_through(void **state)
{
    static const char *const refused[] = {"--once",      "--file=x", "--director",  "-D",     "",
                                          "--or=1",      "--merge",  "--verbose=1", "--help", "x",
                                          "--directory", "--versio", "--version"};
    static uint8_t bytes[TF_LAUNCH_BYTES_MAX];

    (void)state;
    for (size_t i = 0; i < TF_COUNT(refused); i++) {
        struct tf_launch_request request = {.op = TF_LAUNCH_START, .args = {"", refused[i]}};
        struct tf_launch_request again;
        int size = tf_launch_request_encode(&request, bytes);

        assert_int_equal(tf_launch_request_decode(bytes, (size_t)size, &again), -EPROTO);
    }
}

int main(void)
{
#define PROCESS(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest messages[] = {
        cmocka_unit_test(requests_come_back_as_they_were),
        cmocka_unit_test(only_options_of_the_list_are_let_through),
        PROCESS(what_is_no_notice_ends_the_asking),
        PROCESS(a_launcher_that_does_not_listen_is_given_up),
    };
    const struct CMUnitTest process[] = {
        PROCESS(what_it_starts_writes_and_its_end_is_told),
        PROCESS(an_exit_status_and_a_signal_are_told),
        PROCESS(it_kills_the_one_that_is_meant),
        PROCESS(what_cannot_be_started_is_told),
        PROCESS(a_start_without_memory_or_processes_is_told),
        PROCESS(past_its_bound_none_is_started),
        PROCESS(past_the_bounds_of_a_message_nothing_is_asked),
        PROCESS(without_the_launcher_nothing_runs),
        PROCESS(one_that_is_stopped_is_killed),
        PROCESS(one_that_reads_is_not_killed),
        PROCESS(one_that_says_what_is_no_notice_is_killed),
        PROCESS(when_main_is_gone_so_is_what_it_had_started),
        PROCESS(what_is_no_request_ends_it),
        PROCESS(another_of_the_number_of_one_that_runs_ends_it),
        PROCESS(one_that_cannot_prepare_is_not_started),
        PROCESS(without_the_capability_there_is_none),
    };
    int failures = cmocka_run_group_tests_name("messages", messages, NULL, NULL);

    (void)signal(SIGPIPE, SIG_IGN);
    tf_log_configure(TF_LOG_ERROR, TF_LOG_LOGFMT);
    tf_capabilities_bound();
    (void)tf_capabilities_keep(TF_CAPABILITY_READ, true);
    if (!tf_capabilities_may_read_all()) {
        (void)printf("skipped: the launcher's process (no CAP_DAC_READ_SEARCH)\n");
        return failures;
    }
    return failures + cmocka_run_group_tests_name("the process", process, NULL, NULL);
}
