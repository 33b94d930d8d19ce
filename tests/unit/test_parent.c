/*
 * test_parent.c - the parent and mains that do what a test says: they work, crash, hang, lie.
 *
 * The parent runs in a process of its own, for it gives up rights and takes signals. What mains
 * have seen is in memory that all of them share.
 */
#include <dlfcn.h>
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "taffrail/log.h"
#include "taffrail/parent.h"

#define MAINS_MAX 8
#define LATE_MS   1500u /* of one that hangs; time enough for one that does not */
#define WAIT_MS   60000u
#define NOBODY    65534

#define SOON_MS     300u
#define FOR_EVER_MS 3600000u
#define FILE_SAID   "/node\n.pem" /* by a main that asks */
#define REASON      "certificates changed: /node?.pem"

enum act {
    WORK,
    IS_UNSOUND,    /* says so, asks for another, and ends with 2 */
    IS_HINDERED,   /* is not sound, though its configuration has no error; ends with 3 */
    ENDS_LOADING,  /* with 3, and says nothing */
    DIES_LOADING,  /* of a signal */
    HANGS_LOADING, /* for ever */
    HANGS_AS_USER, /* so, and as another user */
    WAITS_LOADING, /* until the test lets it */
    DIES_WITH_GO,  /* ends with 3 when it has its GO */
    DIES_SOUND,    /* when the test lets it: says SOUND, and dies of a signal */
    ALIVE_LEAVING, /* says so once it hears LEAVE */
    HANGS_LEAVING, /* hears LEAVE, and does nothing */
    HANGS_WORKING, /* hears nothing */
    DIES_WORKING,  /* of a signal, once it works */
    ENDS_WORKING,  /* with 5 */
    SAYS_ALL,      /* every word and much nonsense, then works */
    ASKS,          /* for another main, often, when it hears BOOKS or STOP */
};

/* What befalls the parent. */
enum fault { NO_FAULT, NO_SOCKETS, NO_FORK, SIGNALS_AFTER_END };

/* Seen by all processes. */
static struct shared {
    enum act acts[MAINS_MAX];
    atomic_int started, hanging, working, leaving, left, stopped, refused, orphans, books,
        may_go_on;
    atomic_int pids[MAINS_MAX];
    atomic_int fault, kills;
    atomic_ullong started_ms[MAINS_MAX];
    struct tf_message go, refusal;
} * shared;

static pid_t parent;
static bool is_parent;  /* this process is */
static int log_fd = -1; /* the parent's stderr, where a test reads it */

/* ---- faults ---------------------------------------------------------------------------------- */

static bool suffers(enum fault fault)
{
    return is_parent && atomic_load(&shared->fault) == (int)fault;
}

int socketpair(int family, int type, int protocol, int fds[2])
{
    if (suffers(NO_SOCKETS)) {
        errno = EMFILE;
        return -1;
    }
    return (int)syscall(SYS_socketpair, family, type, protocol, fds);
}

pid_t fork(void)
{
    if (suffers(NO_FORK)) {
        errno = EAGAIN;
        return -1;
    }
    return ((pid_t(*)(void))dlsym(RTLD_NEXT, "fork"))();
}

int kill(pid_t pid, int number)
{
    if (is_parent && pid != getpid()) {
        atomic_fetch_add(&shared->kills, 1);
    }
    return (int)syscall(SYS_kill, pid, number);
}

/* From then on the number may be another process's. */
pid_t waitpid(pid_t pid, int *status, int options)
{
    pid_t ended = ((pid_t(*)(pid_t, int *, int))dlsym(RTLD_NEXT, "waitpid"))(pid, status, options);

    if (ended > 0 && suffers(SIGNALS_AFTER_END)) {
        (void)kill(getpid(), SIGTERM);
        (void)kill(getpid(), SIGINT);
        (void)kill(getpid(), SIGABRT);
    }
    return ended;
}

static uint64_t renew_ms, again_ms, loading_ms; /* of the parent's */
static uint32_t leave_ms;                       /* that a main says it needs */
static unsigned asks;                           /* of a main that does, each time */

static uint64_t now_ms(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* ---- a main ---------------------------------------------------------------------------------- */

static void say(const struct tf_channel *channel, enum tf_word word, uint32_t number)
{
    (void)tf_channel_send(channel, &(struct tf_message){.word = word, .number = number});
}

static void say_all(const struct tf_channel *channel)
{
    char bytes[sizeof(struct tf_message) + 8];

    for (int word = 0; word < TF_WORDS; word++) {
        struct tf_message message = {.word = (enum tf_word)word, .number = UINT32_MAX};

        memset(message.text, '\n', sizeof message.text - 1);
        (void)tf_channel_send(channel, &message);
    }
    for (size_t size = 0; size < sizeof bytes; size += 97) {
        memset(bytes, (int)size | 1, sizeof bytes);
        (void)send(channel->fd, bytes, size + 1, MSG_DONTWAIT);
    }
}

static void ask(const struct tf_channel *channel)
{
    for (unsigned i = 0; i < asks; i++) {
        (void)tf_channel_send(channel,
                              &(struct tf_message){.word = TF_WORD_RENEW, .text = FILE_SAID});
    }
}

static void hang(void)
{
    for (;;) {
        (void)pause();
    }
}

static int work(const struct tf_channel *channel, enum act act)
{
    struct tf_message message;

    for (;;) {
        int rc = tf_channel_wait(channel, &message);

        if (rc < 0) {
            atomic_fetch_add(&shared->orphans, 1);
            return 0;
        }
        if (act == ASKS && (message.word == TF_WORD_BOOKS || message.word == TF_WORD_STOP)) {
            ask(channel);
        }
        if (message.word == TF_WORD_STOP) {
            (void)usleep(act == ASKS ? 50000 : 0); /* the parent has time to do wrong */
            atomic_fetch_add(&shared->stopped, 1);
            return 0;
        }
        atomic_fetch_add(&shared->leaving, message.word == TF_WORD_LEAVE);
        if (message.word == TF_WORD_LEAVE && act == HANGS_LEAVING) {
            hang();
        }
        if (message.word == TF_WORD_LEAVE && act == ALIVE_LEAVING) {
            say(channel, TF_WORD_ALIVE, 0);
        }
        if (message.word == TF_WORD_LEAVE) {
            atomic_fetch_add(&shared->left, 1);
            return 0;
        }
        if (message.word == TF_WORD_REFUSED) {
            shared->refusal = message;
            atomic_fetch_add(&shared->refused, 1);
        }
        atomic_fetch_add(&shared->books, message.word == TF_WORD_BOOKS);
    }
}

/* Until SOUND. False: it ends, with *code. */
static bool load(const struct tf_channel *channel, enum act act, int *code)
{
    if (act == IS_UNSOUND) {
        say(channel, TF_WORD_UNSOUND, 3);
        say(channel, TF_WORD_RENEW, 0); /* once: the end of a flood would end it, as the parent's */
        *code = 2;
        return false;
    }
    if (act == IS_HINDERED) {
        say(channel, TF_WORD_UNSOUND, 0);
    }
    if (act == IS_HINDERED || act == ENDS_LOADING) {
        *code = 3;
        return false;
    }
    if (act == DIES_LOADING) {
        (void)kill(getpid(), SIGKILL);
    }
    if (act == HANGS_AS_USER && setresuid(NOBODY, NOBODY, NOBODY) == 0) { /* root may */
        tf_channel_end_with_parent(channel, true);
    }
    if (act == HANGS_LOADING || act == HANGS_AS_USER) {
        atomic_fetch_add(&shared->hanging, 1);
        hang();
    }
    while ((act == WAITS_LOADING || act == DIES_SOUND) && atomic_load(&shared->may_go_on) == 0) {
        (void)usleep(1000);
    }
    return true;
}

/* From GO on. */
static int begin_work(const struct tf_channel *channel, enum act act, int number)
{
    if (act == DIES_WITH_GO) {
        return 3;
    }
    (void)tf_channel_send(channel,
                          &(struct tf_message){.word = TF_WORD_READY, .text = "reads\nMAINPID=1"});
    atomic_store(&shared->working, number + 1);
    if (act == DIES_WORKING) {
        (void)kill(getpid(), SIGKILL);
    }
    if (act == HANGS_WORKING) {
        hang();
    }
    return act == ENDS_WORKING ? 5 : work(channel, act);
}

static int fake_main(void *ctx, const struct tf_channel *channel)
{
    int number = atomic_fetch_add(&shared->started, 1), code;
    enum act act = shared->acts[number];

    (void)ctx;
    is_parent = false;
    atomic_store(&shared->pids[number], (int)getpid());
    atomic_store(&shared->started_ms[number], now_ms());
    if (!load(channel, act, &code)) {
        return code;
    }
    tf_channel_end_with_parent(channel, false);
    if (act == SAYS_ALL) {
        say_all(channel);
    }
    (void)tf_channel_send(channel, &(struct tf_message){.word = TF_WORD_SOUND,
                                                        .number = leave_ms,
                                                        .mark.digest = {(uint8_t)(number + 1)}});
    if (act == DIES_SOUND) {
        (void)kill(getpid(), SIGKILL);
    }
    (void)signal(SIGTERM, SIG_IGN); /* main stops at it, by its loop */
    if (tf_channel_wait(channel, &shared->go) < 0) {
        atomic_fetch_add(&shared->orphans, 1);
        return 0;
    }
    return shared->go.word == TF_WORD_GO ? begin_work(channel, act, number)
                                         : 3; /* as run.c does it */
}

/* ---- the fixture ----------------------------------------------------------------------------- */

static int set_up(void **state)
{
    (void)state;
    renew_ms = again_ms = loading_ms = leave_ms = FOR_EVER_MS;
    asks = 100;
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return shared == MAP_FAILED ? -1 : 0;
}

static int tear_down(void **state)
{
    (void)state;
    return munmap(shared, sizeof *shared);
}

static void start(const enum act *acts, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        shared->acts[i] = acts[i];
    }
    parent = fork();
    assert_true(parent >= 0);
    if (parent == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0UL, 0UL,
                    0UL); /* nothing of a test that failed stays */
        is_parent = true;
        if (log_fd >= 0) {
            (void)dup2(log_fd, STDERR_FILENO);
        }
        _exit(tf_parent_run(&(struct tf_parent_args){.main = fake_main,
                                                     .loading_ms = loading_ms,
                                                     .renew_ms = renew_ms,
                                                     .again_ms = again_ms}));
    }
}

#define START(...)                                                                                 \
    start((const enum act[]){__VA_ARGS__}, sizeof((enum act[]){__VA_ARGS__}) / sizeof(enum act))

static void reaches(atomic_int *value, int wanted)
{
    for (unsigned ms = 0; atomic_load(value) < wanted && ms < WAIT_MS; ms++) {
        (void)usleep(1000);
    }
    assert_int_equal(atomic_load(value), wanted);
}

static void reload(void)
{
    assert_int_equal(kill(parent, SIGHUP), 0);
}

/* Its exit code, or 128 and the signal. */
static int ended(void)
{
    int status = 0;

    assert_int_equal(waitpid(parent, &status, 0), parent);
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

static int stopped_by(int number)
{
    assert_int_equal(kill(parent, number), 0);
    return ended();
}

static bool is_there(int number)
{
    return kill(atomic_load(&shared->pids[number]), 0) == 0;
}

/* `state` as in /proc/PID/status. A process of which all threads but the first have ended: only
 * then a dead one is dead for its parent, too. */
static void reaches_state(pid_t pid, const char *state)
{
    char path[64], text[2048] = "";

    (void)snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    for (unsigned ms = 0; ms < WAIT_MS; ms++) {
        FILE *file = fopen(path, "re");

        assert_non_null(file);
        text[fread(text, 1, sizeof text - 1, file)] = '\0';
        (void)fclose(file);
        if (strstr(text, state) != NULL && strstr(text, "\nThreads:\t1\n") != NULL) {
            return;
        }
        (void)usleep(1000);
    }
    fail_msg("%d does not reach \"%s\"", (int)pid, state);
}

/* It has ended; nobody need have waited for it. */
static void is_dead(int number)
{
    reaches_state(atomic_load(&shared->pids[number]), "State:\tZ");
}

/* ---- tests ----------------------------------------------------------------------------------- */

static void a_next_main_works_when_the_last_has_left(void **state)
{
    (void)state;
    START(WORK, WORK, WORK);
    reaches(&shared->working, 1);
    assert_false(shared->go.is_reload);
    reload();
    reaches(&shared->working, 2);
    assert_int_equal(atomic_load(&shared->left), 1);
    assert_true(shared->go.is_reload);
    assert_int_equal(shared->go.mark.digest[0], 1); /* of the main before */
    assert_int_equal(shared->go.reloads.taken, 1);
    assert_int_equal(shared->go.reloads.renewals_taken, 0);
    assert_string_equal(shared->go.text, "");
    assert_false(is_there(0));
    reload();
    reaches(&shared->working, 3);
    assert_int_equal(shared->go.mark.digest[0], 2);
    assert_int_equal(stopped_by(SIGTERM), 0);
    assert_int_equal(atomic_load(&shared->stopped), 1);
}

static void is_refused(const char *why, unsigned errors)
{
    reload();
    reaches(&shared->refused, 1);
    assert_string_equal(shared->refusal.text, why);
    assert_int_equal(shared->refusal.number, errors);
    assert_int_equal(shared->refusal.reloads.refused, 1);
    assert_int_equal(atomic_load(&shared->left), 0);
    (void)usleep(20000);
    assert_int_equal(atomic_load(&shared->started), 2); /* whatever it asked for */
    reload();                                           /* and a sound one is taken after it */
    reaches(&shared->working, 3);
    assert_int_equal(shared->go.reloads.refused, 1);
    assert_int_equal(stopped_by(SIGINT), 0);
}

static void one_that_is_not_sound_changes_nothing(void **state)
{
    (void)state;
    START(WORK, IS_UNSOUND, WORK);
    reaches(&shared->working, 1);
    is_refused("3 errors", 3);
}

static void one_that_its_machine_hinders_changes_nothing(void **state)
{
    (void)state;
    START(WORK, IS_HINDERED, WORK);
    reaches(&shared->working, 1);
    is_refused("this machine refuses it", 0);
}

static void one_that_dies_changes_nothing(void **state)
{
    (void)state;
    START(WORK, DIES_LOADING, WORK);
    reaches(&shared->working, 1);
    is_refused("loading it, the new process died of signal 9", 0);
}

static void one_that_ends_changes_nothing(void **state)
{
    (void)state;
    START(WORK, ENDS_LOADING, WORK);
    reaches(&shared->working, 1);
    is_refused("loading it, the new process ended with 3", 0);
}

static void one_that_hangs_is_killed(void **state)
{
    (void)state;
    loading_ms = LATE_MS;
    START(WORK, HANGS_LOADING, WORK);
    reaches(&shared->working, 1);
    is_refused("it was not loaded within 1500 ms", 0);
    assert_false(is_there(1));
}

static void a_second_reload_waits_for_the_first(void **state)
{
    (void)state;
    START(WORK, WAITS_LOADING, WORK);
    reaches(&shared->working, 1);
    reload();
    reaches(&shared->started, 2);
    reload();
    reload();
    (void)usleep(20000);
    assert_int_equal(atomic_load(&shared->started), 2); /* never two beside the one that works */
    atomic_store(&shared->may_go_on, 1);
    reaches(&shared->working, 3);
    assert_int_equal(shared->go.reloads.taken, 2);
    assert_int_equal(stopped_by(SIGTERM), 0);
}

static void one_that_will_not_leave_is_killed(void **state)
{
    (void)state;
    leave_ms = LATE_MS;
    START(HANGS_LEAVING, WORK);
    reaches(&shared->working, 1);
    reload();
    reaches(&shared->working, 2);
    assert_false(is_there(0));
    assert_int_equal(stopped_by(SIGTERM), 0);
}

static void one_that_fails_with_its_go_ends_all(void **state)
{
    (void)state;
    START(WORK, DIES_WITH_GO);
    reaches(&shared->working, 1);
    reload();
    assert_int_equal(ended(), 3);
}

/* Also when the parent sees both its SOUND and its end at once. */
static void one_that_dies_sound_changes_nothing(void **state)
{
    (void)state;
    START(WORK, DIES_SOUND, WORK);
    reaches(&shared->working, 1);
    reload();
    reaches(&shared->started, 2);
    assert_int_equal(kill(parent, SIGSTOP), 0);
    atomic_store(&shared->may_go_on, 1);
    is_dead(1);
    assert_int_equal(kill(parent, SIGCONT), 0);
    reaches(&shared->refused, 1);
    assert_string_equal(shared->refusal.text, "loading it, the new process died of signal 9");
    assert_int_equal(atomic_load(&shared->leaving), 0);
    reload();
    reaches(&shared->working, 3);
    assert_int_equal(stopped_by(SIGTERM), 0);
}

static void one_that_dies_when_the_last_leaves_ends_all(void **state)
{
    char text[2048] = "";

    (void)state;
    log_fd = memfd_create("log", MFD_CLOEXEC);
    leave_ms = LATE_MS;
    START(HANGS_LEAVING, WORK);
    reaches(&shared->working, 1);
    reload();
    reaches(&shared->leaving, 1);
    assert_int_equal(kill(atomic_load(&shared->pids[1]), SIGKILL), 0);
    assert_int_equal(ended(), 3);
    assert_true(pread(log_fd, text, sizeof text - 1, 0) > 0);
    assert_non_null(strstr(text, "event=main-died msg=\"the new main died when"));
    (void)close(log_fd);
    log_fd = -1;
}

static void the_parent_ends_as_main_did(void **state)
{
    (void)state;
    START(ENDS_WORKING);
    assert_int_equal(ended(), 5);
    START(DIES_WORKING, DIES_WORKING);
    assert_int_equal(ended(), 128 + SIGKILL);
}

static void fails_to_start(enum fault fault, const char *why)
{
    char text[2048] = "";

    log_fd = memfd_create("log", MFD_CLOEXEC);
    atomic_store(&shared->fault, fault);
    START(WORK);
    assert_int_equal(ended(), 3);
    assert_true(pread(log_fd, text, sizeof text - 1, 0) > 0);
    assert_non_null(strstr(text, why));
    (void)close(log_fd);
    log_fd = -1;
}

static void without_a_first_main_there_is_no_parent(void **state)
{
    (void)state;
    fails_to_start(NO_SOCKETS, "cannot start: Too many open files");
    fails_to_start(NO_FORK, "cannot start: Resource temporarily unavailable");
    assert_int_equal(atomic_load(&shared->started), 0);
}

static void without_a_next_main_nothing_changes(void **state)
{
    (void)state;
    START(WORK, WORK);
    reaches(&shared->working, 1);
    atomic_store(&shared->fault, NO_SOCKETS);
    reload();
    reaches(&shared->refused, 1);
    assert_string_equal(shared->refusal.text, "no process for it: Too many open files");
    atomic_store(&shared->fault, NO_FORK);
    reload();
    reaches(&shared->refused, 2);
    assert_string_equal(shared->refusal.text,
                        "no process for it: Resource temporarily unavailable");
    atomic_store(&shared->fault, NO_FAULT);
    reload();
    reaches(&shared->working, 2);
    assert_int_equal(shared->go.reloads.refused, 2);
    assert_int_equal(stopped_by(SIGTERM), 0);
}

static void what_loads_ends_with_the_main_that_works(void **state)
{
    (void)state;
    START(WORK, HANGS_LOADING);
    reaches(&shared->working, 1);
    reload();
    reaches(&shared->hanging, 1);
    assert_int_equal(kill(atomic_load(&shared->pids[0]), SIGKILL), 0);
    assert_int_equal(ended(), 128 + SIGKILL);
    assert_false(is_there(1));
}

static void no_signal_goes_to_one_that_was_waited_for(void **state)
{
    (void)state;
    atomic_store(&shared->fault, SIGNALS_AFTER_END);
    START(ENDS_WORKING);
    assert_int_equal(ended(), 5);
    assert_int_equal(atomic_load(&shared->kills), 0);
}

static void a_stop_ends_what_is_loading(void **state)
{
    (void)state;
    START(WORK, HANGS_LOADING);
    reaches(&shared->working, 1);
    reload();
    reaches(&shared->started, 2);
    assert_int_equal(stopped_by(SIGTERM), 0);
    assert_false(is_there(1));
    assert_int_equal(atomic_load(&shared->refused), 0);
}

static void a_stop_reaches_one_that_loads_first(void **state)
{
    (void)state;
    START(HANGS_LOADING);
    reaches(&shared->started, 1);
    (void)usleep(20000); /* its signals are as they were */
    assert_int_equal(stopped_by(SIGTERM), 0);
}

/* The smaller number is read first, though both come at once. */
static void is_ended_by_two_signals(void)
{
    assert_int_equal(kill(parent, SIGINT), 0);
    assert_int_equal(stopped_by(SIGTERM), 128 + SIGTERM);
    assert_false(is_there(0));
}

static void a_second_stop_kills_one_that_hangs(void **state)
{
    (void)state;
    START(HANGS_WORKING);
    reaches(&shared->working, 1);
    is_ended_by_two_signals();
}

static void a_second_stop_kills_one_that_will_not_leave(void **state)
{
    (void)state;
    START(HANGS_LEAVING, WORK);
    reaches(&shared->working, 1);
    reload();
    reaches(&shared->leaving, 1);
    is_ended_by_two_signals();
    assert_false(is_there(1));
}

static void the_end_of_the_parent_is_heard(void **state)
{
    (void)state;
    START(WORK);
    reaches(&shared->working, 1);
    assert_int_equal(stopped_by(SIGKILL), 128 + SIGKILL);
    reaches(&shared->orphans, 1);
}

/* They are this process's children then. */
static void dies_with_its_parent(enum act act)
{
    int status = 0;
    pid_t pid = 0;

    START(act);
    reaches(&shared->hanging, 1);
    assert_int_equal(stopped_by(SIGKILL), 128 + SIGKILL);
    for (unsigned ms = 0; pid == 0 && ms < WAIT_MS; ms++) {
        (void)usleep(1000);
        pid = waitpid(atomic_load(&shared->pids[0]), &status, WNOHANG);
    }
    assert_int_equal(pid, atomic_load(&shared->pids[0]));
    assert_int_equal(WTERMSIG(status), SIGTERM);
}

static void one_that_loads_dies_with_its_parent(void **state)
{
    (void)state;
    dies_with_its_parent(HANGS_LOADING);
}

static void one_that_loads_as_another_user_dies_with_its_parent(void **state)
{
    (void)state;
    dies_with_its_parent(HANGS_AS_USER);
}

/* Also by one that waits for its GO: no copy of the parent's end is left in it. */
static void the_end_of_the_parent_is_heard_in_a_reload(void **state)
{
    (void)state;
    START(HANGS_LEAVING, WORK);
    reaches(&shared->working, 1);
    reload();
    reaches(&shared->started, 2);
    (void)usleep(50000);
    assert_int_equal(stopped_by(SIGKILL), 128 + SIGKILL);
    reaches(&shared->orphans, 1);
    (void)kill(atomic_load(&shared->pids[0]), SIGKILL);
}

static void signals_are_passed_on(void **state)
{
    (void)state;
    START(WORK);
    reaches(&shared->working, 1);
    assert_int_equal(kill(parent, SIGUSR1), 0);
    reaches(&shared->books, 1);
    assert_int_equal(stopped_by(SIGINT), 0);
}

static void books_are_not_asked_of_one_that_loads(void **state)
{
    (void)state;
    START(WAITS_LOADING);
    reaches(&shared->started, 1);
    assert_int_equal(kill(parent, SIGUSR1), 0);
    (void)usleep(20000); /* the parent has taken it */
    atomic_store(&shared->may_go_on, 1);
    reaches(&shared->working, 1);
    assert_int_equal(stopped_by(SIGTERM), 0);
    assert_int_equal(atomic_load(&shared->books), 0);
}

static void what_kills_is_passed_on_to_one_that_hangs(void **state)
{
    (void)state;
    START(HANGS_WORKING);
    reaches(&shared->working, 1);
    assert_int_equal(stopped_by(SIGABRT), 128 + SIGABRT);
    assert_false(is_there(0));
}

/* ---- what the service manager hears -----------------------------------------------------------
 */

static int listen_as_manager(char path[64])
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    (void)snprintf(path, 64, "/tmp/taffrail-parent-%d", (int)getpid());
    (void)unlink(path);
    (void)snprintf(at.sun_path, sizeof at.sun_path, "%s", path);
    assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(setenv("NOTIFY_SOCKET", path, 1), 0);
    return fd;
}

static void hears(int fd, const char *begin)
{
    char text[2048];
    ssize_t size = recv(fd, text, sizeof text - 1, 0);

    assert_true(size > 0);
    text[size] = '\0';
    if (strncmp(text, begin, strlen(begin)) != 0) {
        fail_msg("heard %s instead of %s", text, begin);
    }
}

static void a_reload_is_told_and_main_says_one_line(void **state)
{
    char path[64];
    int fd = listen_as_manager(path);

    (void)state;
    START(WORK, IS_UNSOUND, WORK);
    hears(fd, "READY=1\nSTATUS=reads?MAINPID=1");
    reload();
    hears(fd, "RELOADING=1\nMONOTONIC_USEC=");
    hears(fd, "READY=1\nSTATUS=reads?MAINPID=1");
    reaches(&shared->refused, 1);
    reload();
    hears(fd, "RELOADING=1\nMONOTONIC_USEC=");
    hears(fd, "READY=1\nSTATUS=reads?MAINPID=1");
    assert_int_equal(stopped_by(SIGTERM), 0);
    (void)close(fd);
    (void)unlink(path);
    (void)unsetenv("NOTIFY_SOCKET");
}

/* Its end may take longer than the watchdog waits. */
static void one_that_leaves_feeds_the_watchdog(void **state)
{
    char path[64];
    int fd = listen_as_manager(path);

    (void)state;
    START(ALIVE_LEAVING, WORK);
    hears(fd, "READY=1");
    reload();
    hears(fd, "RELOADING=1\nMONOTONIC_USEC=");
    hears(fd, "WATCHDOG=1");
    hears(fd, "READY=1");
    assert_int_equal(stopped_by(SIGTERM), 0);
    (void)close(fd);
    (void)unlink(path);
    (void)unsetenv("NOTIFY_SOCKET");
}

static void a_main_that_says_anything_harms_itself_alone(void **state)
{
    (void)state;
    START(SAYS_ALL, SAYS_ALL, WORK);
    reaches(&shared->working, 2); /* it said RENEW, too */
    reload();
    reaches(&shared->working, 3);
    assert_int_equal(stopped_by(SIGTERM), 0);
}

/* ---- certificates ---------------------------------------------------------------------------- */

static void main_asks(void)
{
    assert_int_equal(kill(parent, SIGUSR1), 0);
}

static void another_main_begins_when_main_asks(void **state)
{
    (void)state;
    START(ASKS, WORK);
    reaches(&shared->working, 1);
    main_asks();
    reaches(&shared->working, 2);
    assert_string_equal(shared->go.text, REASON);
    assert_int_equal(shared->go.reloads.taken, 1);
    assert_int_equal(shared->go.reloads.renewals_taken, 1);
    (void)usleep(20000);
    assert_int_equal(atomic_load(&shared->started), 2); /* however often it asked */
    assert_int_equal(stopped_by(SIGTERM), 0);
}

static void what_is_asked_for_too_early_comes_later(void **state)
{
    uint64_t asked_ms;

    (void)state;
    renew_ms = SOON_MS;
    START(ASKS, ASKS, WORK);
    reaches(&shared->working, 1);
    asked_ms = now_ms();
    main_asks();
    reaches(&shared->working, 2);
    main_asks();
    reaches(&shared->working, 3);
    assert_true(atomic_load(&shared->started_ms[2]) >= asked_ms + SOON_MS);
    assert_int_equal(shared->go.reloads.renewals_taken, 2);
    assert_int_equal(stopped_by(SIGTERM), 0);
}

/* And takes over what was asked for. */
static void a_signal_need_not_wait(void **state)
{
    (void)state;
    START(ASKS, ASKS, WORK);
    reaches(&shared->working, 1);
    main_asks();
    reaches(&shared->working, 2);
    main_asks();
    reaches(&shared->books, 2); /* it has asked */
    (void)usleep(20000);
    assert_int_equal(atomic_load(&shared->started), 2);
    reload();
    reaches(&shared->working, 3);
    assert_string_equal(shared->go.text, REASON);
    assert_int_equal(stopped_by(SIGTERM), 0);
}

static void one_that_is_refused_is_tried_again(void **state)
{
    uint64_t asked_ms;

    (void)state;
    again_ms = SOON_MS;
    asks = 1;
    START(ASKS, IS_UNSOUND, WORK);
    reaches(&shared->working, 1);
    asked_ms = now_ms();
    main_asks();
    reaches(&shared->refused, 1);
    assert_string_equal(shared->refusal.text, REASON "; 3 errors");
    assert_int_equal(shared->refusal.reloads.refused, 1);
    assert_int_equal(shared->refusal.reloads.renewals_refused, 1);
    reaches(&shared->working, 3);
    assert_true(atomic_load(&shared->started_ms[2]) >= asked_ms + SOON_MS);
    assert_int_equal(shared->go.reloads.renewals_refused, 1);
    assert_int_equal(shared->go.reloads.renewals_taken, 1);
    assert_int_equal(stopped_by(SIGTERM), 0);
}

/* Nor does it wait for that time when main asks again, also while the other still loads. */
static void one_that_is_refused_is_tried_when_main_asks(void **state)
{
    (void)state;
    renew_ms = asks = 1; /* the end of a flood would be another time */
    loading_ms = LATE_MS;
    START(ASKS, HANGS_LOADING, IS_UNSOUND, WORK);
    reaches(&shared->working, 1);
    main_asks();
    reaches(&shared->started, 2);
    main_asks();
    reaches(&shared->books, 2);
    reaches(&shared->refused, 2);
    (void)usleep(20000);
    assert_int_equal(atomic_load(&shared->started), 3);
    main_asks();
    reaches(&shared->working, 4);
    assert_int_equal(stopped_by(SIGTERM), 0);
}

/* It has read what was asked for meanwhile, or asks for itself. */
static void one_that_takes_over_is_enough(void **state)
{
    (void)state;
    renew_ms = 1;
    START(ASKS, WAITS_LOADING, WORK);
    reaches(&shared->working, 1);
    main_asks();
    reaches(&shared->started, 2);
    main_asks();
    reaches(&shared->books, 2);
    (void)usleep(20000);
    atomic_store(&shared->may_go_on, 1);
    reaches(&shared->working, 2);
    (void)usleep(20000);
    assert_int_equal(atomic_load(&shared->started), 2);
    assert_int_equal(stopped_by(SIGTERM), 0);
}

static void no_other_main_begins_at_a_stop(void **state)
{
    (void)state;
    START(ASKS, WORK);
    reaches(&shared->working, 1);
    assert_int_equal(stopped_by(SIGTERM), 0);
    assert_int_equal(atomic_load(&shared->started), 1);
}

static void only_messages_are_read(void **state)
{
    struct tf_message message = {.word = TF_WORD_GO, .is_reload = true}, out;
    unsigned char bytes[sizeof message];

    (void)state;
    assert_true(tf_message_read(&message, sizeof message, &out));
    assert_false(tf_message_read(&message, sizeof message - 1, &out));
    memcpy(bytes, &message, sizeof bytes);
    bytes[offsetof(struct tf_message, is_reload)] = 2;
    assert_false(tf_message_read(bytes, sizeof bytes, &out));
    memcpy(bytes, &message, sizeof bytes);
    bytes[offsetof(struct tf_message, word)] = TF_WORDS;
    assert_false(tf_message_read(bytes, sizeof bytes, &out));
    memcpy(bytes, &message, sizeof bytes);
    bytes[offsetof(struct tf_message, log_format)] = TF_LOG_JSON + 1;
    assert_false(tf_message_read(bytes, sizeof bytes, &out));
    memcpy(bytes, &message, sizeof bytes);
    memset(bytes + offsetof(struct tf_message, text), 'x', sizeof message.text);
    assert_false(tf_message_read(bytes, sizeof bytes, &out));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_next_main_works_when_the_last_has_left),
        TEST(one_that_is_not_sound_changes_nothing),
        TEST(one_that_its_machine_hinders_changes_nothing),
        TEST(one_that_dies_changes_nothing),
        TEST(one_that_ends_changes_nothing),
        TEST(one_that_hangs_is_killed),
        TEST(a_second_reload_waits_for_the_first),
        TEST(one_that_will_not_leave_is_killed),
        TEST(one_that_fails_with_its_go_ends_all),
        TEST(one_that_dies_sound_changes_nothing),
        TEST(one_that_dies_when_the_last_leaves_ends_all),
        TEST(the_parent_ends_as_main_did),
        TEST(without_a_first_main_there_is_no_parent),
        TEST(without_a_next_main_nothing_changes),
        TEST(what_loads_ends_with_the_main_that_works),
        TEST(no_signal_goes_to_one_that_was_waited_for),
        TEST(a_stop_ends_what_is_loading),
        TEST(a_stop_reaches_one_that_loads_first),
        TEST(a_second_stop_kills_one_that_hangs),
        TEST(a_second_stop_kills_one_that_will_not_leave),
        TEST(the_end_of_the_parent_is_heard),
        TEST(the_end_of_the_parent_is_heard_in_a_reload),
        TEST(one_that_loads_dies_with_its_parent),
        TEST(one_that_loads_as_another_user_dies_with_its_parent),
        TEST(signals_are_passed_on),
        TEST(books_are_not_asked_of_one_that_loads),
        TEST(what_kills_is_passed_on_to_one_that_hangs),
        TEST(a_reload_is_told_and_main_says_one_line),
        TEST(one_that_leaves_feeds_the_watchdog),
        TEST(a_main_that_says_anything_harms_itself_alone),
        TEST(another_main_begins_when_main_asks),
        TEST(what_is_asked_for_too_early_comes_later),
        TEST(a_signal_need_not_wait),
        TEST(one_that_is_refused_is_tried_again),
        TEST(one_that_is_refused_is_tried_when_main_asks),
        TEST(one_that_takes_over_is_enough),
        TEST(no_other_main_begins_at_a_stop),
        TEST(only_messages_are_read),
    };

    (void)prctl(PR_SET_CHILD_SUBREAPER, 1UL, 0UL, 0UL, 0UL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
