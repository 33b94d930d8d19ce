/*
 * tap.h - what `tap` shares between reading files to their end (tap.c) and following them
 * (tap_follow.c).
 */
#ifndef TAFFRAIL_COMMANDS_TAP_H
#define TAFFRAIL_COMMANDS_TAP_H

#include "taffrail/container.h"
#include "taffrail/filters.h"
#include "taffrail/journal.h"

#define TF_TAP_FORMAT_JOURNAL (TF_FORMAT_PLAIN + 1)
#define TF_TAP_FORMATS        (TF_TAP_FORMAT_JOURNAL + 1)
#define TF_TAP_HOST_BYTES     256u

struct tf_tap {
    enum tf_format format;
    bool is_journal; /* instead of a format */
    bool text, follows, redact_off;
    const char *config_file;  /* NULL: none */
    struct tf_config *config; /* NULL: none */
    /* What the configuration says, or what stands in its place. */
    const struct tf_plugin_list *list;
    const struct tf_agent_options *agent;
    struct tf_plugin_config redact;
    struct tf_plugin_list redact_alone;
    struct tf_agent_options no_agent;
    char host[TF_TAP_HOST_BYTES];
    void *arena;
    struct tf_filters *filters;
    void **scratch;
    struct tf_batch batch;
    struct tf_buf events, printed;
    uint64_t files[TF_TAP_FORMATS]; /* read, by format */
    uint64_t lines, entries, records, redactions, filtered, withheld, malformed;
    uint64_t now_ms; /* for filters that wait; 0: nothing is waited for */
    int write_error; /* of stdout; nothing more is read then */
};

/* One file on its way. It has lines, or it is a journal's. */
struct tf_tap_file {
    const char *path;
    char *full, *real; /* the path from the root, and that on disk; NULL: not known */
    struct tf_log_path names;
    struct tf_reading reading;
    char *tag;
    int fd;              /* owned; -1: none */
    struct tf_buf input; /* read and not decoded yet */
    struct tf_lines *lines;
    struct tf_export *journal;
    void **states; /* of the filters */
    struct tf_constants constants;
};

/* Makes all that must be there before the first line; file has its path and fd. Returns 0, -ENOMEM
 * or -EMSGSIZE; tf_tap_file_close is due all the same. */
int tf_tap_file_prepare(struct tf_tap *tap, struct tf_tap_file *file);
/* Counts and frees what there is of it; accepts a file with nothing but fd -1. */
void tf_tap_file_close(struct tf_tap *tap, struct tf_tap_file *file);

/* Reads once, and prints the whole lines. Returns the bytes read, 0 at the end, or a negative
 * errno: then the file is not read on, and the batch is not empty. */
ssize_t tf_tap_file_read(struct tf_tap *tap, struct tf_tap_file *file);
/* Prints the pieces that wait for others; is_last: what filters hold too. 0 or a negative errno. */
int tf_tap_file_flush(struct tf_tap *tap, struct tf_tap_file *file, bool is_last);
/* Nothing comes any more: prints all that is left, and counts the file as read. Returns 0, or a
 * negative errno: -ENODATA where it ends inside an entry. */
int tf_tap_file_end(struct tf_tap *tap, struct tf_tap_file *file);
/* Sends the batch through the filters and prints it; an empty one too, for what they hold. */
int tf_tap_pass(struct tf_tap *tap, struct tf_tap_file *file, bool is_last);

/* Says on stderr why the file is not read (on). consequence ends the sentence where rc is what the
 * system says, and has no sentence of its own. */
void tf_tap_tell(const char *path, int rc, const char *consequence);

/* Follows the files until a signal ends it, stdout cannot be written (tap->write_error), or no
 * file is left. Returns the exit code. */
int tf_tap_follow(struct tf_tap *tap, char *const *paths, size_t count);

#endif
