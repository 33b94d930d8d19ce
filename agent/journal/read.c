/*
 * read.c - where reading begins, what was lost before, and the loop.
 *
 * One thread, blocking writes: when the pipe is full the program waits, and journald does not care.
 *
 *     opening ──▶ behind a cursor ──▶ judged ──▶ reading ◀──▶ waiting
 *        └──────── any other start ────────────────▲
 *
 * Opening waits for a folder that is not there. Behind a cursor nothing is read before it is known
 * whether the cursor's entry still exists; when no entry follows (the host crashed and lost it),
 * that is known with the first new one. Waiting ends by inotify (journald makes readers look at
 * most every 250 ms), or by the timer: heartbeats, folders.
 *
 * Views: with matches there is a second, unfiltered view of the journal. It tells whether a cursor
 * exists, and how far the journal goes: that position is written when the filtered view has been
 * read to its end afterwards, so that a quiet filter does not fall behind (and its cursor is not
 * vacuumed away). An entry that was written on the way there may lie behind that position, which
 * then is not told: the agent would go back to it, and have the entry twice.
 *
 * What libsystemd calls broken (EBADMSG and the like from sd_journal_next) is left to a new
 * process.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "reader.h"

#define HEARTBEAT_MS     10000
#define FOLDERS_MS       2000 /* between two looks at which folders are there */
#define LOOK_MS          5000 /* at least, between two looks at files */
#define ENTRIES_A_TURN   1024 /* between two looks at stdin, the clock and new files */
#define SAME_INSTANT_MAX 64   /* entries of one microsecond that are looked through */
#define DATA_THRESHOLD   ((size_t)TF_JOURNAL_FIELD_MAX + TF_JOURNAL_NAME_MAX + 2)
#define EXIT_NONE        (-1)

struct reader {
    const struct tf_reader_options *options;
    struct tf_reader_out *out;
    struct tf_reader_files *files;
    sd_journal *journal; /* what is read */
    sd_journal *whole;   /* unfiltered; the same when there are no matches */
    bool is_judged;      /* it is known whether the cursor's entry exists */
    bool has_entry;      /* the journal stands on an entry that is not written yet */
    char *written;       /* cursor of the newest entry that was written, or told of; or NULL */
    char *passed;        /* cursor of the newest entry, when it was passed over; or NULL */
    char *idle;          /* cursor that was written last when idle; or NULL */
    int64_t heartbeat_ms, folders_ms, look_ms; /* when due */
    bool wants_look;
};

static int64_t now_ms(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static int fail(const char *what, int rc)
{
    (void)fprintf(stderr, "taffrail-journal: %s: %s\n", what, strerrordesc_np(-rc));
    return rc;
}

/* ---- opening -----------------------------------------------------------------------------------
 */

static int open_view(const struct tf_reader_options *options, sd_journal **out)
{
    sd_journal *journal = NULL;
    int rc;

    if (options->directory != NULL) {
        rc = sd_journal_open_directory(&journal, options->directory, 0);
    } else if (options->namespace_name != NULL) {
        rc = sd_journal_open_namespace(&journal, options->namespace_name, 0);
    } else {
        rc = sd_journal_open(&journal, 0); /* of all machines: no SD_JOURNAL_LOCAL_ONLY */
    }
    if (rc < 0) {
        return rc;
    }
    /* Values are given whole, but no program's gigabyte of zeros is unpacked: the agent keeps no
     * more. */
    (void)sd_journal_set_data_threshold(journal, DATA_THRESHOLD);
    rc = sd_journal_get_fd(journal); /* before any seek: what comes from now on is noticed */
    if (rc < 0) {
        sd_journal_close(journal);
        return rc;
    }
    *out = journal;
    return 0;
}

static int add_matches(sd_journal *journal, const struct tf_reader_options *options)
{
    int rc = 0;

    for (size_t i = 0; i < options->term_count && rc >= 0; i++) {
        const struct tf_reader_term *term = &options->terms[i];
        if (term->kind == TF_READER_OR) {
            rc = sd_journal_add_disjunction(journal);
        } else if (term->kind == TF_READER_AND) {
            rc = sd_journal_add_conjunction(journal);
        } else {
            rc = sd_journal_add_match(journal, term->match, 0);
        }
    }
    return rc;
}

static bool has_matches(const struct tf_reader_options *options)
{
    return options->term_count > 0;
}

static int open_views(struct reader *reader)
{
    int rc = open_view(reader->options, &reader->journal);

    if (rc < 0) {
        return rc;
    }
    reader->whole = reader->journal;
    if (!has_matches(reader->options)) {
        return 0;
    }
    reader->whole = NULL;
    return open_view(reader->options, &reader->whole);
}

static void close_views(struct reader *reader)
{
    if (reader->whole != reader->journal) {
        sd_journal_close(reader->whole);
    }
    sd_journal_close(reader->journal);
    reader->whole = reader->journal = NULL;
}

/* ---- the pipes and the clock -------------------------------------------------------------------
 */

/* Has the agent closed stdin? What it may write there is passed over. With --once nobody asks. */
static bool has_stdin_ended(const struct reader *reader, short events)
{
    char bytes[512];

    if (reader->options->is_once || (events & (POLLIN | POLLHUP | POLLERR | POLLNVAL)) == 0) {
        return false;
    }
    return (events & POLLIN) == 0 || read(STDIN_FILENO, bytes, sizeof bytes) <= 0;
}

static void beat(struct reader *reader)
{
    int64_t now = now_ms();

    if (now < reader->heartbeat_ms) {
        return;
    }
    reader->heartbeat_ms = now + HEARTBEAT_MS;
    tf_reader_out_word(reader->out, "__READER_HEARTBEAT", "1", NULL);
    tf_reader_out_flush(reader->out);
}

/* EXIT_NONE, or why to end. timeout_ms: 0 only looks. */
static int wait_for(struct reader *reader, struct pollfd *fds, nfds_t count, int timeout_ms)
{
    fds[0] = (struct pollfd){.fd = reader->options->is_once ? -1 : STDIN_FILENO, .events = POLLIN};
    if (poll(fds, count, timeout_ms) < 0 && errno != EINTR) {
        (void)fail("poll", -errno);
        return TF_READER_FAILED;
    }
    if (has_stdin_ended(reader, fds[0].revents) || tf_reader_out_is_gone(reader->out)) {
        return TF_READER_DONE;
    }
    beat(reader);
    return EXIT_NONE;
}

/* ---- entries -----------------------------------------------------------------------------------
 */

static void tell_short(struct reader *reader, const char *cursor)
{
    char path[64];

    /* The path of its file is libsystemd's secret; the id of the file's family is in the cursor. */
    (void)snprintf(path, sizeof path, "journal with seqnum id %.32s", cursor + 2);
    tf_reader_files_tell(reader->files, path, "damaged: entries lack fields that cannot be read",
                         "journalctl --verify tells the file");
}

static void tell_unreadable(struct reader *reader, const char *cursor, int rc)
{
    char text[256];

    (void)snprintf(text, sizeof text, "an entry of the journal cannot be read: %s",
                   strerrordesc_np(-rc));
    tf_reader_out_word(reader->out, "__READER_GAP", "unreadable", "__READER_TEXT", text,
                       "__READER_ENTRIES", "1", "__READER_CURSOR", cursor, NULL);
}

static void keep_passed(struct reader *reader, char *cursor)
{
    free(reader->passed);
    reader->passed = cursor;
}

/* Writes the entry on which the journal stands. */
static void deliver(struct reader *reader)
{
    char *cursor = NULL;
    bool is_short = false;
    int rc = sd_journal_get_cursor(reader->journal, &cursor);

    if (rc >= 0) {
        rc = tf_reader_out_entry(reader->out, reader->journal, cursor, &is_short);
    }
    if (rc < 0) {
        tell_unreadable(reader, cursor, rc);
    }
    if (is_short) {
        tell_short(reader, cursor);
    }
    if (rc == 0) {
        keep_passed(reader, cursor);
        return;
    }
    keep_passed(reader, NULL);
    if (cursor != NULL) {
        free(reader->written);
        reader->written = cursor;
    }
}

static void write_idle(struct reader *reader, char *cursor)
{
    if (reader->idle == NULL || strcmp(reader->idle, cursor) != 0) {
        tf_reader_out_word(reader->out, "__READER_CURSOR", cursor, NULL);
    }
    free(reader->idle);
    reader->idle = cursor;
}

/* Entries were passed over: says how far. */
static void write_passed(struct reader *reader)
{
    if (reader->passed != NULL) {
        write_idle(reader, reader->passed);
        reader->passed = NULL;
    }
}

/* New files are seen; EXIT_NONE, or why to end. */
static int process(struct reader *reader, sd_journal *journal)
{
    int rc = sd_journal_process(journal);

    if (rc < 0) {
        (void)fail("the journal cannot be followed", rc);
        return TF_READER_RESTART;
    }
    reader->wants_look |= rc == SD_JOURNAL_INVALIDATE;
    return EXIT_NONE;
}

/* Within a long way through the journal. */
static int take_breath(struct reader *reader)
{
    struct pollfd fds[1];
    int code = process(reader, reader->journal);

    if (now_ms() >= reader->heartbeat_ms) {
        write_passed(reader);
    }
    return code == EXIT_NONE ? wait_for(reader, fds, 1, 0) : code;
}

/* Writes all there is. EXIT_NONE: to the end. */
static int drain(struct reader *reader)
{
    int rc, code = process(reader, reader->journal);

    for (unsigned count = 1; code == EXIT_NONE; count++) {
        if (!reader->has_entry) {
            rc = sd_journal_next(reader->journal);
            if (rc < 0) {
                (void)fail("the journal cannot be read on", rc);
                return TF_READER_RESTART;
            }
            if (rc == 0) {
                return EXIT_NONE;
            }
        }
        reader->has_entry = false;
        deliver(reader);
        if (count % ENTRIES_A_TURN == 0) {
            code = take_breath(reader);
        }
    }
    return code;
}

/* ---- cursors -----------------------------------------------------------------------------------
 */

/*
 * The parts of a cursor: s, the family of files that count their entries together; i, the count; b,
 * the boot; m and t, the times; x, the hash of all fields.
 */
struct parts {
    const char *family, *boot; /* 32 digits each */
    uint64_t number, monotonic_usec, realtime_usec, hash;
};

static bool parse_id(const char *cursor, const char *key, const char **out)
{
    const char *at = strstr(cursor, key);

    if (at == NULL || strspn(at + strlen(key), "0123456789abcdef") != 32) {
        return false;
    }
    *out = at + strlen(key);
    return true;
}

static bool parse_hex(const char *cursor, const char *key, uint64_t *out)
{
    const char *at = strstr(cursor, key);
    char *end;

    if (at == NULL) {
        return false;
    }
    *out = strtoull(at + strlen(key), &end, 16);
    return *end == ';' || *end == '\0';
}

static bool parse_cursor(const char *cursor, struct parts *out)
{
    return parse_id(cursor, "s=", &out->family) && parse_hex(cursor, ";i=", &out->number) &&
           parse_id(cursor, ";b=", &out->boot) && parse_hex(cursor, ";m=", &out->monotonic_usec) &&
           parse_hex(cursor, ";t=", &out->realtime_usec) && parse_hex(cursor, ";x=", &out->hash);
}

static bool is_one_family(const struct parts *a, const struct parts *b)
{
    return memcmp(a->family, b->family, 32) == 0;
}

/*
 * Do they mean one entry? journald numbers the entries of /run anew when it moves them to /var (and
 * sd_journal_test_cursor would not know them again), but boot, times and content stay.
 */
static bool is_same_entry(const struct parts *a, const struct parts *b)
{
    if (is_one_family(a, b)) {
        return a->number == b->number;
    }
    return memcmp(a->boot, b->boot, 32) == 0 && a->monotonic_usec == b->monotonic_usec &&
           a->realtime_usec == b->realtime_usec && a->hash == b->hash;
}

/* Does the tail of the journal lie behind the written entry, or is it that? As libsystemd sorts:
 * within a family by number, within a boot by its clock, else by time. */
static bool is_beyond(const char *tail, const char *written)
{
    struct parts a, b;

    if (!parse_cursor(tail, &a) || !parse_cursor(written, &b)) {
        return false;
    }
    if (is_one_family(&a, &b)) {
        return a.number >= b.number;
    }
    return memcmp(a.boot, b.boot, 32) == 0 ? a.monotonic_usec > b.monotonic_usec
                                           : a.realtime_usec > b.realtime_usec;
}

/* ---- where to begin ----------------------------------------------------------------------------
 */

/* Cursor (returns new) of the newest entry, on which the view then stands. 0: there is none. */
static int tail_cursor(sd_journal *view, char **out)
{
    int rc = sd_journal_seek_tail(view);

    if (rc >= 0) {
        rc = sd_journal_previous(view);
    }
    return rc <= 0 ? rc : sd_journal_get_cursor(view, out) < 0 ? 0 : 1;
}

/* Does the view stand on the cursor's entry? *realtime_usec: of the entry on which it stands. */
static bool stands_on(sd_journal *view, const char *cursor, uint64_t *realtime_usec)
{
    struct parts wanted, found;
    char *text = NULL;
    bool is_same = false;

    *realtime_usec = 0;
    if (sd_journal_get_cursor(view, &text) < 0) {
        return false;
    }
    if (parse_cursor(cursor, &wanted) && parse_cursor(text, &found)) {
        is_same = is_same_entry(&wanted, &found);
        *realtime_usec = found.realtime_usec;
    }
    free(text);
    return is_same;
}

/* The next entry written is the first behind the cursor that the filter wants. */
static int seek_behind(struct reader *reader, const char *cursor)
{
    uint64_t realtime_usec;
    int rc = sd_journal_seek_cursor(reader->journal, cursor);

    if (rc >= 0) {
        rc = sd_journal_next(reader->journal);
    }
    reader->has_entry = rc > 0 && !stands_on(reader->journal, cursor, &realtime_usec);
    return rc;
}

static int begin_behind_tail(struct reader *reader, char *tail)
{
    int rc;

    if (tail == NULL) {
        return sd_journal_seek_head(reader->journal); /* it is empty: all that comes is new */
    }
    rc = seek_behind(reader, tail);
    write_idle(reader, tail); /* so that a restart before the first entry loses nothing */
    return rc;
}

static int begin_newest(struct reader *reader)
{
    char *tail = NULL;
    int rc = tail_cursor(reader->whole, &tail);

    return rc < 0 ? rc : begin_behind_tail(reader, tail);
}

/* Cursor (returns new) of the boot's first entry. 0: it has none. */
static int boot_cursor(sd_journal *view, sd_id128_t boot, char **out)
{
    char match[sizeof "_BOOT_ID=" + SD_ID128_STRING_MAX] = "_BOOT_ID=";
    int rc;

    (void)sd_id128_to_string(boot, match + strlen(match));
    rc = sd_journal_add_match(view, match, 0);
    if (rc >= 0) {
        rc = sd_journal_seek_head(view);
    }
    if (rc >= 0) {
        rc = sd_journal_next(view);
    }
    if (rc > 0) {
        rc = sd_journal_get_cursor(view, out) < 0 ? 0 : 1;
    }
    sd_journal_flush_matches(view);
    return rc;
}

/*
 * By the field _BOOT_ID, as journalctl does: sd_journal_seek_monotonic_usec would begin at the head
 * of each file that does not know the boot. The tail comes first, so that a first entry that is
 * written meanwhile is behind it.
 */
static int begin_boot(struct reader *reader)
{
    sd_id128_t boot;
    char *tail = NULL, *first = NULL;
    int rc = sd_id128_get_boot(&boot);

    if (rc >= 0) {
        rc = tail_cursor(reader->whole, &tail);
    }
    if (rc >= 0) {
        rc = boot_cursor(reader->whole, boot, &first);
    }
    if (rc == 0) {
        return begin_behind_tail(reader, tail);
    }
    if (rc > 0) {
        rc = sd_journal_seek_cursor(reader->journal, first);
    }
    free(first);
    free(tail);
    return rc;
}

static int begin(struct reader *reader)
{
    int rc = 0;

    reader->is_judged = reader->options->start != TF_READER_START_AFTER;
    switch (reader->options->start) {
    case TF_READER_START_OLDEST:
        rc = sd_journal_seek_head(reader->journal);
        break;
    case TF_READER_START_NEWEST:
        rc = begin_newest(reader);
        break;
    case TF_READER_START_BOOT:
        rc = begin_boot(reader);
        break;
    case TF_READER_START_SINCE:
        rc = sd_journal_seek_realtime_usec(reader->journal, reader->options->since_usec);
        break;
    case TF_READER_START_AFTER:
        rc = sd_journal_seek_cursor(reader->journal, reader->options->after);
        break;
    }
    return rc;
}

/* ---- what was lost -----------------------------------------------------------------------------
 */

/*
 * Does the cursor's entry exist? The view was sought there, and stands on the first entry that is
 * not before it. Files that were numbered apart are merged by time, so within one microsecond
 * another file's entry may come first.
 */
static bool is_there(sd_journal *view, const char *cursor)
{
    uint64_t wanted_usec = 0, realtime_usec;

    (void)parse_hex(cursor, ";t=", &wanted_usec);
    for (int i = 0; i < SAME_INSTANT_MAX; i++) {
        if (stands_on(view, cursor, &realtime_usec)) {
            return true;
        }
        if (realtime_usec != wanted_usec || sd_journal_next(view) <= 0) {
            return false;
        }
    }
    return false;
}

/* How many entries lie between the two; -1: unknown, they are not numbered together. */
static int64_t count_between(const char *before, const char *behind)
{
    struct parts from, to;

    if (!parse_cursor(before, &from) || !parse_cursor(behind, &to) || !is_one_family(&from, &to) ||
        to.number <= from.number) {
        return -1;
    }
    return (int64_t)(to.number - from.number - 1);
}

static void write_vacuumed(struct reader *reader, int64_t count)
{
    char entries[24];
    bool is_exact = count > 0 && !has_matches(reader->options) && reader->options->priority_max < 0;

    (void)snprintf(entries, sizeof entries, "%lld", (long long)count);
    tf_reader_out_word(reader->out, "__READER_GAP", "vacuumed", "__READER_TEXT",
                       "the entry read last is no longer in the journal; what came between it and "
                       "the oldest entry left is lost",
                       "__READER_ENTRIES", is_exact ? entries : NULL, NULL);
}

/* The cursor's entry is gone; next is the first that follows. */
static void tell_lost(struct reader *reader, const char *next)
{
    int64_t count = next == NULL ? -1 : count_between(reader->options->after, next);

    if (count != 0) { /* 0: that one entry is gone, and it was read */
        write_vacuumed(reader, count);
    }
}

/* Behind the cursor, with what was lost told. rc of libsystemd; not judged: nothing follows yet. */
static int judge(struct reader *reader)
{
    const char *after = reader->options->after;
    char *next = NULL;
    int rc = sd_journal_seek_cursor(reader->whole, after);

    if (rc >= 0) {
        rc = sd_journal_next(reader->whole);
    }
    if (rc <= 0) {
        return rc;
    }
    reader->is_judged = true;
    (void)sd_journal_get_cursor(reader->whole, &next);
    if (is_there(reader->whole, after)) {
        /* When there is one view, it stands on the cursor's entry, and goes on behind it. */
        rc = reader->whole == reader->journal ? 0 : seek_behind(reader, after);
    } else {
        tell_lost(reader, next);
        rc = seek_behind(reader, after);
    }
    free(next);
    return rc;
}

/* ---- the loop ----------------------------------------------------------------------------------
 */

/* Writes what there is. Behind a filter, says how far the journal was read. */
static int read_on(struct reader *reader)
{
    char *tail = NULL;
    int rc = 0, code = process(reader, reader->whole);

    if (code == EXIT_NONE && !reader->is_judged) {
        code = process(reader, reader->journal);
        rc = code == EXIT_NONE ? judge(reader) : 0;
    }
    if (code == EXIT_NONE && rc >= 0 && reader->is_judged && reader->whole != reader->journal) {
        rc = tail_cursor(reader->whole, &tail);
    }
    if (rc < 0) {
        (void)fail("the journal cannot be read on", rc);
        code = TF_READER_RESTART;
    }
    if (code == EXIT_NONE && reader->is_judged) {
        code = drain(reader);
    }
    if (code != EXIT_NONE) {
        free(tail);
        return code;
    }
    if (tail != NULL && (reader->written == NULL || is_beyond(tail, reader->written))) {
        keep_passed(reader, tail);
    } else {
        free(tail);
    }
    write_passed(reader);
    return EXIT_NONE;
}

static void look(struct reader *reader)
{
    int64_t now = now_ms();

    if (!reader->wants_look || now < reader->look_ms) {
        return;
    }
    reader->look_ms = now + LOOK_MS;
    reader->wants_look = tf_reader_files_look(reader->files);
}

static int64_t earlier(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* When libsystemd wants to be asked, on the loop's clock. */
static int64_t journal_due_ms(sd_journal *journal)
{
    uint64_t usec = UINT64_MAX;

    if (sd_journal_get_timeout(journal, &usec) < 0 || usec == UINT64_MAX) {
        return INT64_MAX;
    }
    return (int64_t)(usec / 1000) + 1;
}

static int wait_on(struct reader *reader)
{
    struct pollfd fds[3];
    sd_journal *views[] = {reader->journal, reader->whole};
    int64_t now = now_ms(), due = earlier(reader->heartbeat_ms, reader->folders_ms);

    for (size_t i = 0; i < 2; i++) {
        fds[i + 1] = (struct pollfd){.fd = sd_journal_get_fd(views[i]),
                                     .events = (short)sd_journal_get_events(views[i])};
        due = earlier(due, journal_due_ms(views[i]));
    }
    if (reader->wants_look) {
        due = earlier(due, reader->look_ms);
    }
    return wait_for(reader, fds, 3, due <= now ? 0 : (int)(due - now));
}

static int check_folders(struct reader *reader)
{
    int64_t now = now_ms();

    if (now < reader->folders_ms) {
        return EXIT_NONE;
    }
    reader->folders_ms = now + FOLDERS_MS;
    return tf_reader_files_have_moved(reader->files) ? TF_READER_RESTART : EXIT_NONE;
}

static int follow(struct reader *reader)
{
    int code = EXIT_NONE;

    while (code == EXIT_NONE) {
        look(reader);
        code = read_on(reader);
        tf_reader_out_flush(reader->out);
        if (code == EXIT_NONE && reader->options->is_once) {
            return TF_READER_DONE;
        }
        if (code == EXIT_NONE) {
            code = wait_on(reader);
        }
        if (code == EXIT_NONE) {
            code = check_folders(reader);
        }
    }
    return tf_reader_out_is_gone(reader->out) ? TF_READER_DONE : code;
}

/* Opens, as soon as the folder is there. */
static int open_when_there(struct reader *reader)
{
    struct pollfd fds[1];
    const char *const *folders;
    int code = EXIT_NONE;

    (void)tf_reader_files_folders(reader->files, &folders);
    while (code == EXIT_NONE) {
        int rc;
        tf_reader_files_note_folders(reader->files);
        rc = open_views(reader);
        if (rc >= 0) {
            return EXIT_NONE;
        }
        close_views(reader);
        tf_reader_files_tell(reader->files, folders[0], strerrordesc_np(-rc),
                             rc == -EACCES ? "the reader waits for it; " TF_READER_MEND_ACCESS
                                           : "the reader waits for it; name a folder of journal "
                                             "files that its user may read");
        tf_reader_out_flush(reader->out);
        code = reader->options->is_once ? TF_READER_FAILED : wait_for(reader, fds, 1, FOLDERS_MS);
    }
    return code;
}

static int begin_filtered(struct reader *reader)
{
    int rc = add_matches(reader->journal, reader->options);

    if (rc < 0) {
        (void)fail("a match is refused", rc);
        return TF_READER_USAGE;
    }
    rc = begin(reader);
    if (rc == -EINVAL && reader->options->start == TF_READER_START_AFTER) {
        (void)fail("no cursor", rc);
        return TF_READER_USAGE;
    }
    if (rc < 0) {
        (void)fail("the journal cannot be read", rc);
        return TF_READER_RESTART;
    }
    return EXIT_NONE;
}

static int run(struct reader *reader)
{
    struct tf_reader_sandbox sandbox = {0};
    const char *const *folders;
    size_t folder_count;
    int code;

    tf_reader_sandbox_rights(&sandbox);
    code = open_when_there(reader);
    if (code != EXIT_NONE) {
        return code;
    }
    folder_count = tf_reader_files_folders(reader->files, &folders);
    tf_reader_sandbox_files(&sandbox, folders, folder_count);
    if (reader->options->is_verbose) {
        tf_reader_sandbox_print(&sandbox);
    }
    code = begin_filtered(reader);
    return code == EXIT_NONE ? follow(reader) : code;
}

int tf_reader_run(const struct tf_reader_options *options)
{
    struct reader reader = {.options = options, .wants_look = true};
    int code = TF_READER_FAILED;

    (void)signal(SIGPIPE, SIG_IGN); /* write(2) tells it */
    reader.heartbeat_ms = now_ms() + HEARTBEAT_MS;
    reader.out = tf_reader_out_new(STDOUT_FILENO, options->priority_max);
    if (reader.out != NULL) {
        reader.files = tf_reader_files_new(options, reader.out);
    }
    if (reader.files != NULL) {
        code = run(&reader);
    }
    if (reader.out != NULL) {
        tf_reader_out_flush(reader.out);
    }
    close_views(&reader);
    free(reader.written);
    free(reader.passed);
    free(reader.idle);
    tf_reader_files_free(reader.files);
    tf_reader_out_free(reader.out);
    return code;
}
