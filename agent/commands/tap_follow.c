/*
 * tap_follow.c - `taffrail tap -f`: the files are printed, and then what is appended to them.
 *
 * Each file has its descriptor, decoder, filter states and input; the input's memory is given back
 * while it is empty. A turn goes over all files, reads at most TURN_READS blocks of each, and
 * prints what was held for long enough; when nothing came, the next turn is WAIT_MS later. That is
 * all there is of waiting: no watches, so it is the same on every file system.
 *
 * At the end of a file its path is looked at, as `tail -F` does:
 *
 *     the same file, as long      nothing to do
 *     the same file, shorter      it was cut (copytruncate): what is held goes out, and it is read
 *                                 from its start. One that has grown past the old end since the
 *                                 last turn is not noticed
 *     another file                it was rotated: one turn later, for what its writer still had to
 *                                 say, the old one ends, and the new one is read from its start
 *     nothing there               waited for; what is still appended to the old one is printed
 *
 * SIGINT and SIGTERM end it after a turn, and what is held goes out; a second one ends it at once,
 * also where stdout's reader does not read. That the reader went away is seen while waiting, too.
 */
#include "tap.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "taffrail/commands.h"

#define WAIT_MS    250
#define TURN_READS 16u

struct followed {
    struct tf_tap_file file; /* fd -1: not open */
    struct stat opened;      /* which one it is */
    uint64_t offset;
    uint64_t held_at, held_since_ms; /* of the oldest piece; UINT64_MAX: none is held */
    bool is_left;                    /* the path named another file one turn ago */
    bool is_told;                    /* that it cannot be opened */
    bool is_given_up;
};

static volatile sig_atomic_t stopped;

static void on_signal(int number)
{
    (void)number;
    stopped = 1;
}

static void catch_signals(void)
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND};

    (void)sigemptyset(&action.sa_mask);
    (void)sigaction(SIGINT, &action, NULL);
    (void)sigaction(SIGTERM, &action, NULL);
}

static uint64_t clock_ms(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* ---- one file -----------------------------------------------------------------------------------
 */

/* Opens what is at the path now, if anything is. A path that cannot be opened is told once, and
 * tried again. Returns 0, or a negative errno: it is not followed. */
static int open_file(struct tf_tap *tap, struct followed *followed)
{
    struct tf_tap_file *file = &followed->file;

    /* Without O_NONBLOCK a FIFO would wait for its writer. */
    file->fd = open(file->path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (file->fd < 0) {
        if (!followed->is_told) {
            tf_tap_tell(file->path, -errno, "waited for");
        }
        followed->is_told = true;
        return 0;
    }
    if (fstat(file->fd, &followed->opened) < 0) {
        return -errno;
    }
    if (!S_ISREG(followed->opened.st_mode)) {
        return -ESPIPE;
    }
    followed->offset = 0;
    followed->held_at = UINT64_MAX;
    followed->is_left = followed->is_told = false;
    return tf_tap_file_prepare(tap, file);
}

/* The file ends here; its path is opened again. */
static int end_file(struct tf_tap *tap, struct followed *followed)
{
    int rc = tf_tap_file_end(tap, &followed->file);

    if (rc == -ENODATA && stopped == 0) { /* its journal goes on in another file */
        tf_tap_tell(followed->file.path, rc, "");
    }
    tf_tap_file_close(tap, &followed->file);
    return rc == -ENODATA ? 0 : rc;
}

/* Reads on. Returns 1 when there may be more, 0 at the end, or a negative errno. */
static int read_on(struct tf_tap *tap, struct followed *followed)
{
    struct tf_tap_file *file = &followed->file;
    ssize_t got = 1;

    for (unsigned i = 0; i < TURN_READS && got > 0 && stopped == 0; i++) {
        got = tf_tap_file_read(tap, file);
        followed->offset += got > 0 ? (uint64_t)got : 0;
    }
    if (file->input.size == 0) {
        tf_buf_wipe(&file->input);
    }
    return got > 0 ? 1 : (int)got;
}

/* At its end: was it cut, or did another one take its place? Returns 1 when it is to be read
 * (again) without waiting, 0, or a negative errno. */
static int look_at_path(struct tf_tap *tap, struct followed *followed)
{
    struct stat there;
    bool is_same;
    int rc;

    if (stat(followed->file.path, &there) < 0) {
        return 0;
    }
    is_same = there.st_dev == followed->opened.st_dev && there.st_ino == followed->opened.st_ino;
    if (is_same && (uint64_t)there.st_size >= followed->offset) {
        followed->is_left = false;
        return 0;
    }
    if (!is_same && !followed->is_left) {
        followed->is_left = true;
        return 0;
    }
    rc = end_file(tap, followed);
    return rc < 0 ? rc : 1;
}

/* Prints what was held for as long as it may be: pieces as the agent does, the rest as the filters
 * say. */
static int release_held(struct tf_tap *tap, struct followed *followed)
{
    struct tf_tap_file *file = &followed->file;
    uint64_t held_at = file->lines != NULL ? tf_lines_held_at(file->lines) : UINT64_MAX;
    struct tf_filter_held held;

    if (held_at != followed->held_at) {
        followed->held_at = held_at;
        followed->held_since_ms = tap->now_ms;
    }
    if (held_at != UINT64_MAX && tap->now_ms - followed->held_since_ms >= TF_PIECES_WAIT_MS) {
        return tf_tap_file_flush(tap, file, false);
    }
    tf_filters_held(tap->filters, file->states, &held);
    return held.deadline_ms != 0 && tap->now_ms >= held.deadline_ms ? tf_tap_pass(tap, file, false)
                                                                    : 0;
}

/* Returns 1 when there may be more to read, 0, or a negative errno: it is not followed. */
static int turn(struct tf_tap *tap, struct followed *followed)
{
    int rc = tf_batch_reset(&tap->batch); /* another one may have been given up in the middle */
    int more;

    if (rc == 0 && followed->file.fd < 0) {
        rc = open_file(tap, followed);
    }
    if (rc < 0 || followed->file.fd < 0) {
        return rc;
    }
    more = read_on(tap, followed);
    if (more >= 0) {
        rc = release_held(tap, followed);
    }
    if (more == 0 && rc == 0) {
        more = look_at_path(tap, followed);
    }
    return rc < 0 ? rc : more;
}

static void give_up(struct tf_tap *tap, struct followed *followed, int rc)
{
    tf_tap_tell(followed->file.path, rc, "not followed");
    tf_tap_file_close(tap, &followed->file);
    followed->is_given_up = true;
}

/* ---- all of them --------------------------------------------------------------------------------
 */

/* Until the next turn, or until the reader of stdout goes away. */
static void wait_for_more(struct tf_tap *tap)
{
    struct pollfd out = {.fd = STDOUT_FILENO}; /* errors are told without being asked for */

    if (poll(&out, 1, WAIT_MS) > 0) {
        tap->write_error = -EPIPE;
    }
}

/* One turn of each. Returns how many are followed still; *more: there is more to read at once. */
static size_t turn_all(struct tf_tap *tap, struct followed *all, size_t count, bool *more)
{
    size_t left = 0;

    for (size_t i = 0; i < count && tap->write_error == 0 && stopped == 0; i++) {
        int rc;

        if (all[i].is_given_up) {
            continue;
        }
        tap->now_ms = clock_ms();
        rc = turn(tap, &all[i]);
        if (rc < 0 && tap->write_error == 0) {
            give_up(tap, &all[i], rc);
        } else {
            *more = *more || rc > 0;
            left++;
        }
    }
    return left;
}

/* What is held of all files goes out. */
static void end_all(struct tf_tap *tap, struct followed *all, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        int rc = tf_batch_reset(&tap->batch); /* as in turn */

        if (rc == 0 && all[i].file.fd >= 0 && tap->write_error == 0) {
            rc = end_file(tap, &all[i]);
        }
        if (rc < 0 && tap->write_error == 0) {
            give_up(tap, &all[i], rc);
        }
        tf_tap_file_close(tap, &all[i].file);
    }
}

int tf_tap_follow(struct tf_tap *tap, char *const *paths, size_t count)
{
    struct followed *all = calloc(count, sizeof *all);
    int outcome = TF_EXIT_FINE;
    size_t left = count;

    if (all == NULL) {
        tf_tap_tell(paths[0], -ENOMEM, "not followed");
        return TF_EXIT_CANNOT_RUN;
    }
    for (size_t i = 0; i < count; i++) {
        all[i].file = (struct tf_tap_file){.path = paths[i], .fd = -1};
    }
    catch_signals();
    while (left > 0 && tap->write_error == 0 && stopped == 0) {
        bool more = false;

        left = turn_all(tap, all, count, &more);
        if (!more && left > 0 && tap->write_error == 0 && stopped == 0) {
            wait_for_more(tap);
        }
    }
    end_all(tap, all, count);
    for (size_t i = 0; i < count; i++) {
        outcome = all[i].is_given_up ? TF_EXIT_CANNOT_RUN : outcome;
    }
    free(all);
    return outcome;
}
