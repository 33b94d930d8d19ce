/*
 * process.h - a process of its own beside main: how it begins and ends, and how both speak.
 *
 * Main forks it while there is one thread and no key in memory. It ends when main's end of their
 * socket is closed, however main dies. docs/architecture.md.
 */
#ifndef TAFFRAIL_PROCESS_H
#define TAFFRAIL_PROCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* ---- the process ---------------------------------------------------------------------------- */

struct tf_process {
    const char *name;
    pid_t pid; /* 0: not started */
    bool has_ended;
    int killer[2]; /* a byte sent from [1] to [0] kills the process */
};

struct tf_process_work {
    const char *name; /* for ps; 15 characters at most, static */
    /* All that it does, in it; ends it. Its end of the socket is stdin, and besides that stderr is
     * open alone; signals that tell main to stop do nothing. Returns the exit code. */
    int (*run)(void *ctx);
    void *ctx;
};

/*
 * Forks it, and waits until it has sent its first message, which becomes *report, of that size.
 * Returns main's end of the socket (SOCK_SEQPACKET), which is the caller's; or a negative errno:
 * -ESHUTDOWN where it ended without a word, -ETIMEDOUT where it said none within 10 s; then it is
 * gone.
 */
int tf_process_start(struct tf_process *process, const struct tf_process_work *work, void *report,
                     size_t report_bytes);

/* In it. 0 or a negative errno. */
int tf_process_report(void *report, size_t report_bytes);

/* Main, after SIGCHLD: it is no more. */
bool tf_process_has_ended(struct tf_process *process);

/* Main, at any time, also where its sandbox forbids it to send signals: SIGKILL. */
void tf_process_kill(const struct tf_process *process);

/* When main's end of the socket is closed, which it reads at once: waits for its end, for 2 s;
 * kills it; waits 1 s more. One that hangs in the kernel does not end of that, and is left behind:
 * said.
 */
void tf_process_wait(struct tf_process *process);

/* ---- a message with descriptors --------------------------------------------------------------
 */

#define TF_PACKET_FDS 2u

struct tf_packet {
    void *data;  /* borrowed; to receive: room for what comes */
    size_t size; /* of what is sent, or came */
    size_t room; /* to receive */
    int fds[TF_PACKET_FDS];
    size_t fd_count;
    bool lacks_fds; /* received: some had no room, here or among this process's descriptors */
};

int tf_packet_send(int socket_fd, struct tf_packet *packet); /* 0 or a negative errno */
/* 1 with what has come, 0 where the other end is closed, or a negative errno, -EPROTO for what is
 * too long. Whatever it returns, the descriptors in out are the caller's. */
int tf_packet_receive(int socket_fd, struct tf_packet *out);
void tf_packet_close(struct tf_packet *packet); /* its descriptors */
bool tf_packet_is_unread(int socket_fd); /* the other end has not received all that was sent */

#endif
