/*
 * parent.c - starts main, and another one beside it at SIGHUP or when main asks; passes signals on,
 * and what main says to the service manager.
 *
 *     LOADING ─ SOUND heard ─> SOUND ─ GO said ─> WORKING ─ LEAVE said ─> LEAVING ─ ended ─> gone
 *        └─ dies, or is late: refused                └─ ends: so does the parent
 *
 * The first main gets its GO at once. A next one gets it when the one that works has ended: only
 * then spool and listeners are free. There are two at most; a SIGHUP meanwhile is kept for later.
 *
 * Main asks for another main by RENEW, when files of certificates have changed (tls.h). It may ask
 * as often as it likes: at most one begins in renew_ms, what is asked for meanwhile is kept, and
 * one that is refused is tried again after again_ms. One that takes over has read all files, and
 * looks at them for itself.
 *
 * It is one loop over a signalfd and one channel for each main, without threads and libuv, so that
 * it may fork at any time. It keeps the rights that a main begins with, none of them in effect
 * (sandbox.h), so it trusts nothing that it is told: a main that lies can end itself, or be taken
 * for one that works.
 */
#include "taffrail/parent.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "taffrail/base.h"
#include "taffrail/commands.h"
#include "taffrail/log.h"
#include "taffrail/notify.h"
#include "taffrail/sandbox.h"

#define MESSAGES_A_TURN 16u
#define START_USEC      "600000000" /* as the unit's TimeoutStartSec: a spool of many segments */
#define RENEWAL_TEXT    "certificates changed: %.800s" /* a longer path is cut */

enum state { NONE, LOADING, SOUND, WORKING, LEAVING };

struct process {
    enum state state;
    pid_t pid;
    int fd;               /* of its channel; -1: it closed it */
    uint64_t deadline_ms; /* then it is killed; 0: never */
    bool was_late, is_unsound, is_ready;
    uint32_t leave_ms, errors;
    struct tf_config_mark mark;
    char status[TF_MESSAGE_TEXT_BYTES]; /* for the service manager */
};

struct parent {
    const struct tf_parent_args *args;
    int signal_fd;
    sigset_t mask_before;
    struct tf_notify notify;
    struct process current, next;
    bool wants_reload;                   /* SIGHUP came while there was no time for it */
    int stop_signal;                     /* 0: it shall not stop */
    int kill_signal;                     /* a second one, for which main was killed; or 0 */
    uint64_t began_ms;                   /* of the reload */
    bool is_renewal;                     /* it is for certificates, too */
    uint64_t renewal_ms, renewal_min_ms; /* when one is due, 0: never; when the next may be */
    char renewed[TF_MESSAGE_TEXT_BYTES]; /* the file that the newest is for */
    struct tf_reloads reloads;
    int status; /* of wait(2): how main ended */
    bool nobody_took_over;
};

static uint64_t now_ms(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / TF_MS_IN_NS;
}

/* ---- the service manager -------------------------------------------------------------------- */

static void notify(const struct parent *parent, const char *format, ...) TF_PRINTF(2, 3);
static void notify(const struct parent *parent, const char *format, ...)
{
    char lines[TF_MESSAGE_TEXT_BYTES + 256];
    va_list args;
    int rc;

    va_start(args, format);
    (void)vsnprintf(lines, sizeof lines, format, args);
    va_end(args);
    rc = tf_notify_send(&parent->notify, lines);
    if (rc < 0) {
        tf_log(TF_LOG_WARN, "notify", NULL, 0, "the service manager cannot be told: %s",
               strerrordesc_np(-rc));
    }
}

/* Between GO and READY the loop does not turn yet. */
static void be_patient(const struct parent *parent)
{
    if (parent->notify.watchdog_ms > 0) {
        notify(parent, "WATCHDOG=1\nWATCHDOG_USEC=" START_USEC);
    }
}

static void notify_ready(const struct parent *parent)
{
    notify(parent, "READY=1\nSTATUS=%s", parent->current.status);
    if (parent->notify.watchdog_ms > 0 && parent->reloads.taken > 0) {
        notify(parent, "WATCHDOG_USEC=%llu",
               (unsigned long long)parent->notify.watchdog_ms * 2 * 1000);
    }
}

/* One line, whatever main says. */
static void keep_line(char line[TF_MESSAGE_TEXT_BYTES], const char *text)
{
    size_t i = 0;

    for (; text[i] != '\0'; i++) {
        line[i] = (unsigned char)text[i] < ' ' ? '?' : text[i];
    }
    line[i] = '\0';
}

/* ---- starting ------------------------------------------------------------------------------- */

static void close_fd(int *fd)
{
    if (*fd >= 0) {
        (void)close(*fd);
    }
    *fd = -1;
}

/* In the child: nothing of the parent's is left in it, so that the end of the parent shows. */
static int be_main(struct parent *parent, int fd)
{
    struct tf_channel channel = {.fd = fd,
                                 .alive_ms = parent->notify.watchdog_ms,
                                 .is_reload = parent->current.state != NONE};

    close_fd(&parent->signal_fd);
    close_fd(&parent->current.fd);
    close_fd(&parent->next.fd);
    tf_notify_close(&parent->notify);
    tf_channel_end_with_parent(&channel, true);
    (void)signal(SIGHUP, SIG_IGN); /* a terminal sends signals to both; these are the parent's */
    (void)signal(SIGUSR1, SIG_IGN);
    (void)sigprocmask(SIG_SETMASK, &parent->mask_before, NULL);
    return parent->args->main(parent->args->ctx, &channel);
}

/* Does not return in the child. */
static int start_main(struct parent *parent, struct process *process)
{
    int fds[2];
    pid_t pid;

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0) {
        return -errno;
    }
    pid = fork();
    if (pid < 0) {
        int rc = -errno;

        (void)close(fds[0]);
        (void)close(fds[1]);
        return rc;
    }
    if (pid == 0) {
        (void)close(fds[0]);
        exit(be_main(parent, fds[1])); // NOLINT(concurrency-mt-unsafe): its threads have ended
    }
    (void)close(fds[1]);
    *process = (struct process){.state = LOADING, .pid = pid, .fd = fds[0]};
    return 0;
}

/* ---- a reload ------------------------------------------------------------------------------- */

static void say(const struct process *process, const struct tf_message *message)
{
    if (process->fd >= 0) {
        const struct tf_channel channel = {.fd = process->fd};

        (void)tf_channel_send(&channel, message); /* the end of one that is gone is seen by reap */
    }
}

static void refuse(struct parent *parent, const char *why, uint32_t errors)
{
    struct tf_message message = {.word = TF_WORD_REFUSED, .number = errors};

    parent->reloads.refused++;
    if (parent->is_renewal) {
        parent->reloads.renewals_refused++;
        (void)snprintf(message.text, sizeof message.text, RENEWAL_TEXT "; %s", parent->renewed,
                       why);
        if (parent->renewal_ms == 0) {
            parent->renewal_ms = now_ms() + parent->args->again_ms;
        }
    } else {
        (void)snprintf(message.text, sizeof message.text, "%s", why);
    }
    message.reloads = parent->reloads;
    say(&parent->current, &message);
    if (parent->current.state == WORKING) {
        notify_ready(parent);
    }
}

static void begin_reload(struct parent *parent)
{
    char why[128];
    int rc;

    parent->wants_reload = false;
    parent->began_ms = now_ms();
    parent->is_renewal = parent->renewal_ms != 0;
    parent->renewal_ms = 0;
    if (parent->is_renewal) {
        parent->renewal_min_ms = parent->began_ms + parent->args->renew_ms;
    }
    notify(parent, "RELOADING=1\nMONOTONIC_USEC=%llu\nSTATUS=loading a new configuration",
           (unsigned long long)parent->began_ms * 1000);
    rc = start_main(parent, &parent->next);
    if (rc < 0) {
        (void)snprintf(why, sizeof why, "no process for it: %s", strerrordesc_np(-rc));
        refuse(parent, why, 0);
        return;
    }
    parent->next.deadline_ms = parent->began_ms + parent->args->loading_ms;
}

static bool may_reload(const struct parent *parent)
{
    return parent->stop_signal == 0 && parent->current.state == WORKING &&
           parent->current.is_ready && parent->next.state == NONE;
}

static void reload_if_wanted(struct parent *parent)
{
    bool is_due = parent->renewal_ms != 0 && now_ms() >= parent->renewal_ms;

    if (may_reload(parent) && (parent->wants_reload || is_due)) {
        begin_reload(parent);
    }
}

/* The last one has ended. */
static void let_next_work(struct parent *parent)
{
    struct tf_message message = {.word = TF_WORD_GO,
                                 .is_reload = true,
                                 .mark = parent->current.mark,
                                 .began_ms = parent->began_ms};

    parent->reloads.taken++;
    if (parent->is_renewal) {
        parent->reloads.renewals_taken++;
        (void)snprintf(message.text, sizeof message.text, RENEWAL_TEXT, parent->renewed);
    }
    message.reloads = parent->reloads;
    parent->renewal_ms = 0;
    parent->current = parent->next;
    parent->next = (struct process){.fd = -1};
    parent->current.state = WORKING;
    be_patient(parent);
    say(&parent->current, &message);
}

/* ---- what main says ------------------------------------------------------------------------- */

static void on_sound(struct parent *parent, struct process *process,
                     const struct tf_message *message)
{
    if (process->state != LOADING) {
        return;
    }
    process->state = SOUND;
    process->deadline_ms = 0;
    process->leave_ms = message->number;
    process->mark = message->mark;
    tf_log_configure(TF_LOG_INFO, (enum tf_log_format)message->log_format);
    if (process == &parent->current) {
        process->state = WORKING;
        say(process, &(struct tf_message){.word = TF_WORD_GO});
    } else if (parent->current.state == WORKING) {
        parent->current.state = LEAVING;
        parent->current.deadline_ms = now_ms() + parent->current.leave_ms;
        say(&parent->current, &(struct tf_message){.word = TF_WORD_LEAVE});
    }
}

static void on_renew(struct parent *parent, const struct tf_message *message)
{
    uint64_t now = now_ms();

    parent->renewal_ms = now > parent->renewal_min_ms ? now : parent->renewal_min_ms;
    keep_line(parent->renewed, message->text);
}

static void on_message(struct parent *parent, struct process *process,
                       const struct tf_message *message)
{
    bool works = process == &parent->current && process->state == WORKING;
    bool leaves = process == &parent->current && process->state == LEAVING;

    if (message->word == TF_WORD_SOUND) {
        on_sound(parent, process, message);
    } else if (message->word == TF_WORD_UNSOUND) {
        process->is_unsound = true;
        process->errors = message->number;
    } else if (message->word == TF_WORD_ALIVE && (works || leaves)) {
        notify(parent, "WATCHDOG=1");
    } else if (message->word == TF_WORD_READY && works && !process->is_ready) {
        process->is_ready = true;
        keep_line(process->status, message->text);
        notify_ready(parent);
    } else if (message->word == TF_WORD_STOPPING && works) {
        keep_line(process->status, message->text);
        notify(parent, "STOPPING=1\nEXTEND_TIMEOUT_USEC=%llu\nSTATUS=%s",
               (unsigned long long)message->number * 1000, process->status);
    } else if (message->word == TF_WORD_RENEW && works) {
        on_renew(parent, message);
    }
}

static void hear(struct parent *parent, struct process *process)
{
    struct tf_message message;
    int rc = 0;

    for (unsigned i = 0; i < MESSAGES_A_TURN && process->fd >= 0 && rc != -EAGAIN; i++) {
        rc = tf_channel_receive(&(struct tf_channel){.fd = process->fd}, &message);
        if (rc == 0) {
            on_message(parent, process, &message);
        } else if (rc != -EAGAIN && rc != -EPROTO) {
            close_fd(&process->fd); /* its end comes by SIGCHLD */
        }
    }
}

/* ---- ends ----------------------------------------------------------------------------------- */

static void describe_end(const struct parent *parent, const struct process *process, int status,
                         char *text, size_t size)
{
    char count[TF_COUNTED_TEXT_BYTES];

    if (process->was_late) {
        (void)snprintf(text, size, "it was not loaded within %llu ms",
                       (unsigned long long)parent->args->loading_ms);
    } else if (WIFSIGNALED(status)) {
        (void)snprintf(text, size, "loading it, the new process died of signal %d",
                       WTERMSIG(status));
    } else if (!process->is_unsound) {
        (void)snprintf(text, size, "loading it, the new process ended with %d",
                       WEXITSTATUS(status));
    } else if (process->errors == 0) { /* it has said what */
        (void)snprintf(text, size, "this machine refuses it");
    } else {
        (void)snprintf(text, size, "%s", tf_counted_text(process->errors, "error", count));
    }
}

static void on_next_ended(struct parent *parent, int status)
{
    char why[128];

    parent->next.state = NONE; /* what it says last may count its errors, but it is not sound */
    hear(parent, &parent->next);
    describe_end(parent, &parent->next, status, why, sizeof why);
    close_fd(&parent->next.fd);
    if (parent->stop_signal == 0) {
        refuse(parent, why, parent->next.errors);
    }
}

static void on_current_ended(struct parent *parent, int status)
{
    bool was_leaving;

    hear(parent, &parent->current);
    close_fd(&parent->current.fd);
    was_leaving = parent->current.state == LEAVING && parent->stop_signal == 0;
    if (was_leaving && parent->next.state == SOUND) {
        let_next_work(parent);
        return;
    }
    parent->current.state = NONE;
    parent->status = status;
    parent->nobody_took_over = was_leaving;
}

/* As a container's first process it has children of others, too. */
static void reap(struct parent *parent)
{
    int status;
    pid_t pid;

    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        if (parent->next.state != NONE && pid == parent->next.pid) {
            on_next_ended(parent, status);
        } else if (parent->current.state != NONE && pid == parent->current.pid) {
            on_current_ended(parent, status);
        }
    }
}

/* Not one that was waited for: its number may be another's by now. */
static void kill_process(const struct process *process, int number)
{
    if (process->state != NONE) {
        tf_sandbox_kill(process->pid, number);
    }
}

static void kill_late(struct process *process)
{
    if (process->deadline_ms != 0 && now_ms() >= process->deadline_ms) {
        process->was_late = true;
        process->deadline_ms = 0;
        kill_process(process, SIGKILL);
    }
}

/* ---- signals -------------------------------------------------------------------------------- */

static void stop(struct parent *parent, int number)
{
    if (parent->stop_signal != 0) { /* main may hang; what is committed is safe at any instant */
        parent->kill_signal = number;
        kill_process(&parent->current, SIGKILL);
        return;
    }
    parent->stop_signal = number;
    kill_process(&parent->next, SIGKILL); /* it has nothing to lose */
    if (parent->current.state == LOADING || parent->current.fd < 0) {
        kill_process(&parent->current, number); /* it hears nothing yet, or any more */
    } else {
        say(&parent->current,
            &(struct tf_message){.word = TF_WORD_STOP, .number = (uint32_t)number});
    }
}

static void on_signal(struct parent *parent, int number)
{
    switch (number) {
    case SIGHUP:
        parent->wants_reload = true;
        break;
    case SIGUSR1:
        if (parent->current.state == WORKING) { /* one that waits for its GO takes nothing else */
            say(&parent->current, &(struct tf_message){.word = TF_WORD_BOOKS});
        }
        break;
    case SIGTERM:
    case SIGINT:
        stop(parent, number);
        break;
    case SIGCHLD:
        reap(parent);
        break;
    default: /* of a watchdog, for a main that hangs */
        kill_process(&parent->current, number);
        break;
    }
}

static void read_signals(struct parent *parent)
{
    struct signalfd_siginfo info;

    while (read(parent->signal_fd, &info, sizeof info) == (ssize_t)sizeof info) {
        on_signal(parent, (int)info.ssi_signo);
    }
}

/* Those that are blocked wait, also for a container's first process, which others do not reach. */
static int watch_signals(struct parent *parent)
{
    static const int numbers[] = {SIGHUP, SIGTERM, SIGINT, SIGUSR1, SIGCHLD, SIGABRT, SIGQUIT};
    sigset_t mask;

    (void)sigemptyset(&mask);
    for (size_t i = 0; i < TF_COUNT(numbers); i++) {
        (void)sigaddset(&mask, numbers[i]);
    }
    (void)sigprocmask(SIG_BLOCK, &mask, &parent->mask_before);
    parent->signal_fd = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
    return parent->signal_fd < 0 ? -errno : 0;
}

/* ---- the loop ------------------------------------------------------------------------------- */

static int timeout_ms(const struct parent *parent)
{
    const struct process *processes[] = {&parent->current, &parent->next};
    uint64_t now = now_ms();
    uint64_t first =
        may_reload(parent) && parent->renewal_ms != 0 ? parent->renewal_ms : UINT64_MAX;

    for (size_t i = 0; i < TF_COUNT(processes); i++) {
        uint64_t deadline = processes[i]->state == NONE ? 0 : processes[i]->deadline_ms;

        first = deadline != 0 && deadline < first ? deadline : first;
    }
    if (first == UINT64_MAX) {
        return -1;
    }
    first = first > now ? first - now : 0;
    return first < INT_MAX ? (int)first : INT_MAX;
}

static void turn(struct parent *parent)
{
    struct pollfd fds[] = {{.fd = parent->signal_fd, .events = POLLIN},
                           {.fd = parent->current.fd, .events = POLLIN},
                           {.fd = parent->next.fd, .events = POLLIN}};

    (void)poll(fds, TF_COUNT(fds), timeout_ms(parent)); /* those below 0 are left out */
    read_signals(parent); /* ends first: what a dead one said before is no reason to do anything */
    hear(parent, &parent->current);
    hear(parent, &parent->next);
    kill_late(&parent->current);
    kill_late(&parent->next);
    reload_if_wanted(parent);
}

/* Ends as main did. */
static int end_as(const struct parent *parent)
{
    int number = WTERMSIG(parent->status);
    sigset_t mask;

    if (parent->nobody_took_over) {
        tf_log(TF_LOG_ERROR, "main-died", NULL, 0,
               "the new main died when the old one had been told to leave; the agent ends, to be "
               "started again");
        return TF_EXIT_CANNOT_RUN;
    }
    if (!WIFSIGNALED(parent->status)) {
        return WEXITSTATUS(parent->status);
    }
    if (number == parent->stop_signal) {
        return TF_EXIT_FINE; /* it was stopped while it loaded */
    }
    if (parent->kill_signal != 0 && number == SIGKILL) {
        return 128 + parent->kill_signal;
    }
    if (parent->stop_signal == 0) {
        tf_log(TF_LOG_ERROR, "main-died", TF_DETAILS(TF_NUM("signal", number)),
               "the agent's main process died of a signal; what was not committed is read again "
               "by the next start");
    }
    (void)signal(number, SIG_DFL);
    (void)sigemptyset(&mask);
    (void)sigaddset(&mask, number);
    (void)sigprocmask(SIG_UNBLOCK, &mask, NULL);
    (void)kill(getpid(), number);
    return 128 + number;
}

static void narrow(void)
{
    const struct rlimit none = {0, 0};

    (void)umask(077);
    (void)setrlimit(RLIMIT_CORE, &none);
    tf_sandbox_parent();
}

int tf_parent_run(const struct tf_parent_args *args)
{
    struct parent parent = {
        .args = args, .signal_fd = -1, .current = {.fd = -1}, .next = {.fd = -1}};
    int rc = tf_notify_open(&parent.notify);

    if (rc < 0) {
        tf_log(TF_LOG_WARN, "notify", NULL, 0, "the service manager cannot be told: %s",
               strerrordesc_np(-rc));
    }
    narrow();
    rc = watch_signals(&parent);
    if (rc == 0) {
        rc = start_main(&parent, &parent.current);
    }
    if (rc < 0) {
        tf_log(TF_LOG_ERROR, "start", NULL, 0, "cannot start: %s", strerrordesc_np(-rc));
    }
    while (parent.current.state != NONE) {
        turn(&parent);
    }
    if (parent.next.state != NONE) { /* it hears the end of its channel, but may be busy */
        kill_process(&parent.next, SIGKILL);
        (void)waitpid(parent.next.pid, NULL, 0);
    }
    close_fd(&parent.next.fd);
    close_fd(&parent.signal_fd);
    tf_notify_close(&parent.notify);
    return rc < 0 ? TF_EXIT_CANNOT_RUN : end_as(&parent);
}
