/*
 * reader.h - the parts of taffrail-journal, the program that reads journald's files.
 *
 * It alone links libsystemd: a file that is cut while it is mapped kills the reader of it (SIGBUS),
 * and that must not be the agent. The agent starts it, reads entries from its standard output, and
 * starts it again, behind the last whole entry, when it ends.
 *
 *     main.c     the command line
 *     read.c     where reading begins, what was lost, the loop
 *     write.c    an entry, or a word of the reader's own, as export format
 *     files.c    the folders, and what libsystemd passes over in silence
 *     sandbox.c  what the program may still do
 */
#ifndef TAFFRAIL_JOURNAL_READER_H
#define TAFFRAIL_JOURNAL_READER_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <systemd/sd-journal.h>

#include "taffrail/journal.h"

/* The program's exit codes. */
enum {
    TF_READER_DONE = 0,    /* stdin ended, or --once and all is written */
    TF_READER_FAILED = 1,  /* not to be mended by starting it again at once */
    TF_READER_USAGE = 2,   /* also: no such cursor can be */
    TF_READER_RESTART = 3, /* the journal cannot be read on by this process: start it again */
};

/* ---- main.c ---- */

enum tf_reader_start {
    TF_READER_START_OLDEST,
    TF_READER_START_NEWEST, /* what comes from now on */
    TF_READER_START_BOOT,   /* the first entry of the boot that runs */
    TF_READER_START_SINCE,
    TF_READER_START_AFTER, /* a cursor */
};

/* A word of the filter; libsystemd's sd_journal_add_match and its two joiners. */
struct tf_reader_term {
    enum { TF_READER_MATCH, TF_READER_OR, TF_READER_AND } kind;
    const char *match; /* NAME=VALUE */
};

#define TF_READER_TERMS_MAX 1024u /* more are refused */

struct tf_reader_options {
    const char *directory;      /* NULL: the system's folders */
    const char *namespace_name; /* NULL: the default one */
    enum tf_reader_start start;
    const char *after;
    uint64_t since_usec;
    struct tf_reader_term terms[TF_READER_TERMS_MAX];
    size_t term_count;
    int priority_max; /* -1: all */
    bool is_once;
    bool is_verbose;
};

/* ---- write.c ---- */

struct tf_reader_out;

/* Returns new, writing to fd, or NULL. priority_max: entries above are not written; -1: all are. */
struct tf_reader_out *tf_reader_out_new(int fd, int priority_max);
void tf_reader_out_free(struct tf_reader_out *out); /* accepts NULL; writes nothing */

/*
 * Writes the entry on which journal stands, whole or not at all. The longest values lose what is
 * behind TF_JOURNAL_FIELD_MAX bytes, the longest entries the fields behind TF_JOURNAL_ENTRY_MAX:
 * the agent keeps no more, and one byte more than that tells it so.
 *
 * Returns 1; 0: passed over, its priority is too low; -EPIPE and other errors of write(2) negated
 * when the pipe is gone (tf_reader_out_is_gone); else libsystemd's: this entry cannot be read.
 * *is_short: libsystemd left a field out without a word (since 250 it does with a damaged one).
 */
int tf_reader_out_entry(struct tf_reader_out *out, sd_journal *journal, const char *cursor,
                        bool *is_short);

/* Writes a word: pairs of name and value up to a NULL; a NULL value leaves its pair out. */
void tf_reader_out_word(struct tf_reader_out *out, const char *name, const char *value, ...)
    __attribute__((sentinel));

void tf_reader_out_flush(struct tf_reader_out *out); /* blocks: that is the backpressure */
bool tf_reader_out_is_gone(const struct tf_reader_out *out);

/* ---- files.c ---- */

struct tf_reader_files;

/* Returns new, or NULL. options and out are borrowed. */
struct tf_reader_files *tf_reader_files_new(const struct tf_reader_options *options,
                                            struct tf_reader_out *out);
void tf_reader_files_free(struct tf_reader_files *files);

/* The folders, whether they exist or not. */
size_t tf_reader_files_folders(const struct tf_reader_files *files, const char *const **paths);

/* Remembers which folders are there. */
void tf_reader_files_note_folders(struct tf_reader_files *files);

/* A folder has come or was replaced since: libsystemd does not follow that, a new process does. */
bool tf_reader_files_have_moved(const struct tf_reader_files *files);

/*
 * Looks at every journal file's header, and tells each fault once. Returns true when a file may be
 * in the making, so that another look is due in some seconds.
 */
bool tf_reader_files_look(struct tf_reader_files *files);

#define TF_READER_MEND_ACCESS                                                                      \
    "add the agent's user to the group systemd-journal, or start it with CAP_DAC_READ_SEARCH"

/* Tells a fault once. */
void tf_reader_files_tell(struct tf_reader_files *files, const char *path, const char *reason,
                          const char *mend);

/* ---- sandbox.c ---- */

/*
 * Both give up rights for good, layer by layer; a layer that the kernel lacks is passed over. The
 * first before any file is opened, the second when libsystemd has opened the folders.
 */
struct tf_reader_sandbox {
    bool has_no_new_privs, has_no_capabilities, has_limits, has_seccomp;
    int landlock_abi; /* 0: none */
    bool reads_all;   /* CAP_DAC_READ_SEARCH was handed on, and is in effect */
};
void tf_reader_sandbox_rights(struct tf_reader_sandbox *sandbox);
void tf_reader_sandbox_files(struct tf_reader_sandbox *sandbox, const char *const *folders,
                             size_t folder_count);
void tf_reader_sandbox_print(const struct tf_reader_sandbox *sandbox); /* a line on stderr */

/* ---- read.c ---- */

/* Reads until there is a reason to end. Returns the exit code. */
int tf_reader_run(const struct tf_reader_options *options);

#endif
