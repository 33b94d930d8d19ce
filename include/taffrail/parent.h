/*
 * parent.h - the process that starts main, and another main beside it, at SIGHUP and when files of
 * certificates have changed (docs/reload.md).
 *
 * It reads nothing but signals, exit states and main's messages. Both speak over a socket pair,
 * in messages of one size, whole or not at all.
 */
#ifndef TAFFRAIL_PARENT_H
#define TAFFRAIL_PARENT_H

#include <stdbool.h>
#include <stdint.h>

#include "taffrail/config.h"

enum tf_word {
    /* main says */
    TF_WORD_SOUND,    /* all is loaded, spool and listeners are not touched; waits for GO */
    TF_WORD_UNSOUND,  /* it is not; ends now */
    TF_WORD_READY,    /* it works */
    TF_WORD_ALIVE,    /* the loop turns */
    TF_WORD_STOPPING, /* it will end */
    TF_WORD_RENEW,    /* a file of a certificate has changed, and only another main may read it */
    /* the parent says */
    TF_WORD_GO,      /* spool and listeners are free */
    TF_WORD_STOP,    /* end */
    TF_WORD_LEAVE,   /* let spool and listeners go and end: another main takes over */
    TF_WORD_REFUSED, /* another main was not sound */
    TF_WORD_BOOKS,   /* print them */
    TF_WORDS
};

/* Reloads since the parent's start. */
struct tf_reloads {
    uint64_t taken, refused;
    uint64_t renewals_taken, renewals_refused; /* of these, those for certificates */
};

#define TF_MESSAGE_TEXT_BYTES 1024u

struct tf_message {
    enum tf_word word;
    uint32_t number;            /* SOUND: how long LEAVE may take, and STOPPING the end, in ms;
                                   UNSOUND, REFUSED: errors of the configuration, 0: the reason is
                                   another; STOP: the signal */
    uint32_t log_format;        /* SOUND: the parent's log has it too */
    struct tf_config_mark mark; /* SOUND: of its configuration; GO: of the main before */
    bool is_reload;             /* GO: there was a main before */
    uint64_t began_ms;          /* GO: when the parent was told to reload, by CLOCK_MONOTONIC */
    struct tf_reloads reloads;  /* GO, REFUSED: with this one */
    char text[TF_MESSAGE_TEXT_BYTES]; /* READY: what it does; REFUSED: why; RENEW: the file; GO:
                                         the reason of the reload, or "" for a signal */
};

/* ---- for main ------------------------------------------------------------------------------- */

struct tf_channel {
    int fd;            /* readable: a message, or the end of the parent */
    uint64_t alive_ms; /* between two ALIVE; 0: none are wanted */
    bool is_reload;    /* another main works meanwhile: it owns spool and listeners until GO */
};

/* Never blocks. Returns 0; -EAGAIN when the parent does not read, -EPIPE when it is gone. */
int tf_channel_send(const struct tf_channel *channel, const struct tf_message *message);

/* Never blocks. Returns 0; -EAGAIN when there is none, -EPIPE at the parent's end, -EPROTO for what
 * is none. */
int tf_channel_receive(const struct tf_channel *channel, struct tf_message *out);

/*
 * Main hears nothing while it loads. As long as this is wanted, which it is from the start, the end
 * of the parent, also an earlier one, ends main by SIGTERM; so would a word: it is not wanted any
 * more before SOUND. A main that becomes another user says it again, as the kernel asks who wants
 * the signal. (PR_SET_PDEATHSIG asks whether the dying parent may send it, which has no right to
 * signal another user.)
 */
void tf_channel_end_with_parent(const struct tf_channel *channel, bool is_wanted);

/* Waits for it; same returns, but for -EAGAIN. */
int tf_channel_wait(const struct tf_channel *channel, struct tf_message *out);

/* Bytes as a message: its words and numbers are in their ranges, its text ends. False: it is none.
 */
bool tf_message_read(const void *bytes, size_t size_bytes, struct tf_message *out);

/* ---- for the command ------------------------------------------------------------------------ */

struct tf_parent_args {
    int (*main)(void *ctx, const struct tf_channel *channel); /* in the child; its exit code */
    void *ctx;
    uint64_t loading_ms; /* a next main that is not sound by then is killed */
    uint64_t renew_ms;   /* at least, from one reload by RENEW to the next */
    uint64_t again_ms;   /* a refused one is tried again after it */
};

/*
 * Becomes the parent: gives up rights, starts main, and returns when that has ended, with its exit
 * code. Comes before the first thread. Takes NOTIFY_SOCKET and its like out of the environment.
 */
int tf_parent_run(const struct tf_parent_args *args);

#endif
