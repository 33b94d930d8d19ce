/*
 * progress.h - how far a command that reads much has come.
 *
 * One line on stderr, written over itself, from half a second on, when stderr is a terminal; else
 * nothing, but one line at each SIGUSR1. stdout stays data. One at a time in a process.
 */
#ifndef TAFFRAIL_PROGRESS_H
#define TAFFRAIL_PROGRESS_H

#include "taffrail/base.h"

struct tf_progress {
    const char *command; /* its name begins the line */
    uint64_t total_bytes, done_bytes;
    int64_t begun_ns, looked_ns;
    bool is_terminal, is_ascii, is_shown;
};

/* total_bytes 0: not known yet; it may be set or raised later. Takes SIGUSR1 over. */
void tf_progress_begin(struct tf_progress *progress, const char *command, uint64_t total_bytes);

/* So many bytes more. more is what stands behind the line, such as "904 found", or NULL. Cheap:
 * called for each frame. */
void tf_progress_add(struct tf_progress *progress, uint64_t bytes, const char *more);

/* Wipes the line. */
void tf_progress_end(struct tf_progress *progress);

#endif
