/*
 * tap.c - `taffrail tap`: what would be shipped of a container's log files, on stdout.
 *
 * Each file is read to its end and goes the way that the agent sends it: lines, the redact filter
 * with its defaults, events; only then the events are printed instead of spooled. What the path
 * tells (pod, container) and the host's name stand on each record, as the agent would write them.
 * Nothing is sent, stored or changed.
 *
 * stdout is NDJSON (docs/records.md) or text for eyes; stderr is a summary, and a message for each
 * file that could not be read: the others are read all the same. When the reader of stdout goes
 * away, as `head` does, tap ends without a word.
 *
 * Exits 0; 2 on wrong usage; 3 when a file could not be read or the output not be written.
 */
#include "taffrail/commands.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "taffrail/decode.h"
#include "taffrail/event.h"
#include "taffrail/filter.h"

#define LINE_MAX_BYTES  (1u << 20) /* the container input's default; longer: head and tail */
#define READ_BYTES      (256u << 10)
#define INPUT_MAX_BYTES (16u << 20)  /* read and not decoded yet; past it the file is given up */
#define EVENTS_MAX      (160u << 20) /* of one batch; a full one fits with its keys */
#define PRINTED_BYTES   (256u << 10) /* written at once */
#define PRINTED_MAX     (256u << 20) /* a line of JSON; escapes make it six times its text */
#define HOST_BYTES      256u
#define TAG             "container"

static const char usage[] =
    "usage: taffrail tap [--format auto|docker|cri|plain] [--text] FILE...\n"
    "Prints what would be shipped of the files, without their secrets; sends and stores nothing.\n"
    "  --format  how the lines are read; by default each file's content tells\n"
    "  --text    lines for eyes instead of NDJSON\n"
    "examples: taffrail tap /var/log/pods/*/*/*.log | head -1\n"
    "          taffrail tap --text app.log\n"
    "exit: 0 fine, 2 usage, 3 a file could not be read\n";

struct run {
    enum tf_format format;
    bool text;
    char host[HOST_BYTES];
    void *filter, *scratch, *arena;
    struct tf_batch batch;
    struct tf_buf input, events, printed;
    uint64_t files[TF_FORMAT_PLAIN + 1]; /* read, by format */
    uint64_t lines, records, redactions, withheld, malformed;
    int write_error; /* of stdout; nothing more is read then */
};

/* One file on its way. */
struct file {
    const char *path;
    int fd;
    struct tf_lines *lines;
    void *state; /* of the filter */
    struct tf_constants constants;
};

/* ---- the filter ---------------------------------------------------------------------------------
 */

static int open_filter(struct run *run, struct tf_error *err)
{
    struct tf_filter_args args = {.name = "redact"};
    void *options;
    int rc;

    run->arena = tf_arena_new();
    options =
        run->arena != NULL ? tf_arena_alloc(run->arena, tf_filter_redact.options_bytes) : NULL;
    if (options == NULL) {
        return -ENOMEM;
    }
    rc = tf_options_default(tf_filter_redact.options, options, run->arena);
    if (rc < 0) {
        return rc;
    }
    args.options = options;
    rc = tf_filter_redact.open(&args, &run->filter, err);
    if (rc < 0) {
        return rc;
    }
    run->scratch = tf_filter_redact.scratch_new(run->filter);
    return run->scratch != NULL ? 0 : -ENOMEM;
}

static int start(struct run *run)
{
    struct tf_error err;
    int rc;

    tf_buf_init(&run->input, INPUT_MAX_BYTES);
    tf_buf_init(&run->events, EVENTS_MAX);
    tf_buf_init(&run->printed, PRINTED_MAX);
    if (gethostname(run->host, sizeof run->host - 1) < 0) {
        run->host[0] = '\0'; /* unknown is absent */
    }
    tf_error_init(&err);
    rc = open_filter(run, &err);
    tf_error_print(&err, stderr);
    tf_error_fini(&err);
    return rc == 0 ? tf_batch_init(&run->batch) : rc;
}

static void wipe(struct tf_buf *buf)
{
    if (buf->data != NULL) {
        explicit_bzero(buf->data, buf->capacity);
    }
    tf_buf_fini(buf);
}

static void finish(struct run *run)
{
    tf_batch_fini(&run->batch);
    if (run->filter != NULL) {
        tf_filter_redact.scratch_free(run->scratch);
        tf_filter_redact.close(run->filter);
    }
    tf_arena_free(run->arena);
    wipe(&run->input);
    tf_buf_fini(&run->events);
    tf_buf_fini(&run->printed);
}

/* ---- out ----------------------------------------------------------------------------------------
 */

static int write_printed(struct run *run)
{
    size_t at = 0;

    while (at < run->printed.size) {
        ssize_t put = write(STDOUT_FILENO, run->printed.data + at, run->printed.size - at);

        if (put < 0 && errno != EINTR) {
            run->write_error = -errno;
            return run->write_error;
        }
        at += put > 0 ? (size_t)put : 0;
    }
    tf_buf_clear(&run->printed);
    return 0;
}

static int print_events(struct run *run)
{
    struct tf_slice rest = tf_buf_slice(&run->events);
    int rc = 0;

    while (rc == 0 && rest.size > 0) {
        size_t used = 0;

        rc = run->text ? tf_event_print_text(rest, tf_slice_text(TAG), &run->printed, &used)
                       : tf_event_print_json(rest, tf_slice_text(TAG), &run->printed, &used);
        rest = tf_slice(rest.data + used, rest.size - used);
        if (rc == 0 && run->printed.size >= PRINTED_BYTES) {
            rc = write_printed(run);
        }
    }
    return rc == 0 ? write_printed(run) : rc;
}

/* Sends the batch on its way, and empties it. */
static int pass_batch(struct run *run, struct file *file)
{
    struct tf_batch *batch = &run->batch;
    struct tf_events_summary summary = {0};
    int rc = tf_filter_redact.apply(run->filter, run->scratch, file->state, batch);

    tf_buf_clear(&run->events);
    if (rc == 0) {
        rc = tf_events_encode(batch, &file->constants, &run->events, &summary);
    }
    if (rc == 0) {
        rc = print_events(run);
    }
    if (rc < 0) {
        return rc;
    }
    run->records += summary.events;
    run->withheld += summary.withheld;
    run->malformed += batch->malformed;
    for (uint32_t i = 0; i < batch->tally_count; i++) {
        run->redactions += batch->tallies[i].hits;
    }
    return tf_batch_reset(batch);
}

/* ---- in -----------------------------------------------------------------------------------------
 */

/* What the path as it was given tells, or else the path as it is on disk. */
static int describe_path(struct run *run, const char *path)
{
    const char *host = run->host[0] != '\0' ? run->host : NULL;
    struct tf_log_path names;
    char *real = NULL;
    int rc;

    if (!tf_log_path_parse(tf_slice_text(path), &names)) {
        real = realpath(path, NULL);
        if (real != NULL) {
            (void)tf_log_path_parse(tf_slice_text(real), &names);
        }
    }
    rc = tf_log_path_describe(&names, host, &run->batch);
    free(real);
    return rc;
}

/* The constants of a file, redacted like all text. Leaves the batch empty. */
static int make_constants(struct run *run, struct file *file)
{
    struct tf_batch *batch = &run->batch;
    int rc = tf_batch_add_record(batch, 0, TF_STREAM_OTHER) != NULL ? 0 : -ENOMEM;

    if (rc == 0 && run->host[0] != '\0') {
        rc = tf_batch_add_text_field(batch, "host", tf_slice_text(run->host));
    }
    if (rc == 0) {
        rc = describe_path(run, file->path);
    }
    if (rc == 0) {
        rc = tf_filter_redact.apply(run->filter, run->scratch, NULL, batch);
    }
    if (rc == 0) {
        rc = tf_constants_encode(batch, &file->constants);
    }
    return rc == 0 ? tf_batch_reset(batch) : rc;
}

/* Decodes what can be decoded of the input. */
static int take_input(struct run *run, struct file *file, bool at_end)
{
    size_t at = 0;
    int64_t taken;
    uint32_t records;
    int rc = 0;

    do {
        taken = tf_lines_decode(file->lines, tf_slice(run->input.data + at, run->input.size - at),
                                at_end, tf_now_ns(), &run->batch);
        records = run->batch.record_count;
        rc = taken < 0 ? (int)taken : pass_batch(run, file);
        at += taken > 0 ? (size_t)taken : 0;
    } while (rc == 0 && at < run->input.size && (taken > 0 || records > 0));
    tf_buf_consume(&run->input, at);
    return rc;
}

/* Emits the pieces that wait for others; there are none to come. */
static int flush_lines(struct run *run, struct file *file)
{
    bool is_full = true;
    int rc = 0;

    while (rc == 0 && is_full) {
        rc = tf_lines_flush(file->lines, &run->batch);
        is_full = rc == -EMSGSIZE && run->batch.record_count > 0;
        if (rc == 0 || is_full) {
            rc = pass_batch(run, file);
        }
    }
    return rc;
}

static int read_lines(struct run *run, struct file *file)
{
    int rc;

    tf_buf_clear(&run->input);
    for (;;) {
        ssize_t got;

        rc = tf_buf_reserve(&run->input, READ_BYTES);
        if (rc < 0) {
            return rc;
        }
        got = read(file->fd, run->input.data + run->input.size, READ_BYTES);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            return -errno;
        }
        run->input.size += (size_t)got;
        rc = take_input(run, file, got == 0);
        if (rc < 0 || got == 0) {
            return rc;
        }
    }
}

static int tap_file(struct run *run, const char *path)
{
    struct file file = {.path = path, .fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY)};
    int rc = file.fd >= 0 ? tf_batch_reset(&run->batch) : -errno;

    if (rc == 0) {
        rc = tf_lines_new(run->format, LINE_MAX_BYTES, &file.lines);
    }
    if (rc == 0) {
        file.state = tf_filter_redact.state_new(run->filter);
        rc = file.state != NULL ? make_constants(run, &file) : -ENOMEM;
    }
    if (rc == 0) {
        rc = read_lines(run, &file);
    }
    if (rc == 0) {
        rc = flush_lines(run, &file);
    }
    if (rc == 0) {
        run->files[tf_lines_format(file.lines)]++;
    }
    run->lines += file.lines != NULL ? tf_lines_count(file.lines) : 0;
    tf_constants_fini(&file.constants);
    tf_filter_redact.state_free(file.state);
    tf_lines_free(file.lines);
    if (file.fd >= 0) {
        (void)close(file.fd);
    }
    return rc;
}

/* ---- the command --------------------------------------------------------------------------------
 */

/* A path without what would move a terminal's cursor. */
static void tell_path(const char *path)
{
    for (; *path != '\0'; path++) {
        (void)fputc((uint8_t)*path < ' ' || *path == 0x7f ? '?' : *path, stderr);
    }
}

static void tell_unread(const char *path, int rc)
{
    char text[128];

    (void)fputs("tap: ", stderr);
    tell_path(path);
    if (rc == -EMSGSIZE) {
        (void)fputs(": a line or its record is longer than can be held; not read on\n", stderr);
        return;
    }
    (void)fprintf(stderr, ": %s; other files are read all the same\n",
                  strerror_r(-rc, text, sizeof text));
}

/* A figure with thousands separators, and its noun. */
static void tell_count(const char *before, uint64_t count, const char *noun, const char *plural)
{
    char digits[32];
    int size = snprintf(digits, sizeof digits, "%llu", (unsigned long long)count);

    (void)fputs(before, stderr);
    for (int i = 0; i < size; i++) {
        if (i > 0 && (size - i) % 3 == 0) {
            (void)fputc(',', stderr);
        }
        (void)fputc(digits[i], stderr);
    }
    (void)fprintf(stderr, " %s", count == 1 ? noun : plural);
}

static void tell_files(const struct run *run)
{
    static const char *const names[] = {[TF_FORMAT_AUTO] = "without lines",
                                        [TF_FORMAT_DOCKER] = "docker",
                                        [TF_FORMAT_CRI] = "cri",
                                        [TF_FORMAT_PLAIN] = "plain"};
    uint64_t total = 0;
    const char *before = " (";

    for (size_t i = 0; i < TF_COUNT(names); i++) {
        total += run->files[i];
    }
    tell_count("tap: ", total, "file", "files");
    for (size_t i = TF_COUNT(names); i-- > 0;) {
        if (run->files[i] == 0) {
            continue;
        }
        if (run->files[i] == total) {
            (void)fprintf(stderr, "%s%s", before, names[i]);
        } else {
            tell_count(before, run->files[i], names[i], names[i]);
        }
        before = ", ";
    }
    (void)fputs(total > 0 ? ")" : "", stderr);
}

static void tell_summary(const struct run *run)
{
    tell_files(run);
    tell_count(", ", run->lines, "line", "lines");
    tell_count(", ", run->records, "record", "records");
    tell_count(", ", run->redactions, "redaction", "redactions");
    if (run->withheld > 0) {
        tell_count(", ", run->withheld, "withheld", "withheld");
    }
    if (run->malformed > 0) {
        tell_count(", ", run->malformed, "malformed", "malformed");
    }
    (void)fputs("; nothing was sent or stored\n", stderr);
}

static int wrong_usage(const char *option, const char *why)
{
    (void)fprintf(stderr, "tap: %s%s\n%s", option, why, usage);
    return TF_EXIT_USAGE;
}

static int parse_format(const char *text, enum tf_format *format)
{
    static const char *const names[] = {[TF_FORMAT_AUTO] = "auto",
                                        [TF_FORMAT_DOCKER] = "docker",
                                        [TF_FORMAT_CRI] = "cri",
                                        [TF_FORMAT_PLAIN] = "plain"};

    for (size_t i = 0; text != NULL && i < TF_COUNT(names); i++) {
        if (strcmp(text, names[i]) == 0) {
            *format = (enum tf_format)i;
            return TF_EXIT_FINE;
        }
    }
    return wrong_usage("--format", " takes auto, docker, cri or plain");
}

/* Reads the options; *first is the first FILE. Returns TF_EXIT_FINE or TF_EXIT_USAGE. */
static int parse_options(int argc, char **argv, struct run *run, int *first)
{
    int i = 1;

    for (; i < argc && argv[i][0] == '-' && argv[i][1] != '\0'; i++) {
        if (strcmp(argv[i], "--") == 0) {
            i++;
            break;
        }
        if (strcmp(argv[i], "--text") == 0) {
            run->text = true;
        } else if (strcmp(argv[i], "--format") == 0) {
            i++;
            if (parse_format(i < argc ? argv[i] : NULL, &run->format) != TF_EXIT_FINE) {
                return TF_EXIT_USAGE;
            }
        } else if (strcmp(argv[i], "-c") == 0) {
            return wrong_usage("-c", " is not in this release; name the files to read");
        } else if (strcmp(argv[i], "-f") == 0) {
            return wrong_usage("-f", " is not in this release; files are read to their end");
        } else {
            return wrong_usage(argv[i], " is no option of it");
        }
    }
    if (i >= argc) {
        return wrong_usage("", "name at least one file");
    }
    *first = i;
    return TF_EXIT_FINE;
}

static int tap_files(struct run *run, char *const *paths, int count)
{
    int outcome = TF_EXIT_FINE;

    for (int i = 0; i < count && run->write_error == 0; i++) {
        int rc = tap_file(run, paths[i]);

        if (rc < 0 && run->write_error == 0) {
            tell_unread(paths[i], rc);
            outcome = TF_EXIT_CANNOT_RUN;
        }
    }
    return outcome;
}

/* Tells how writing ended. The reader of stdout may go away: that is no failure. */
static int end_writing(const struct run *run)
{
    char text[128];

    if (run->write_error == -EPIPE) {
        return TF_EXIT_FINE;
    }
    (void)fprintf(stderr, "tap: standard output: %s; stopped\n",
                  strerror_r(-run->write_error, text, sizeof text));
    return TF_EXIT_CANNOT_RUN;
}

int tf_command_tap(int argc, char **argv)
{
    struct run run = {.format = TF_FORMAT_AUTO};
    int first = argc, outcome, rc;

    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
        if (strcmp(argv[i], "--help") == 0) {
            (void)fputs(usage, stdout);
            return TF_EXIT_FINE;
        }
    }
    outcome = parse_options(argc, argv, &run, &first);
    if (outcome != TF_EXIT_FINE) {
        return outcome;
    }
    (void)signal(SIGPIPE, SIG_IGN); /* write tells it */
    rc = start(&run);
    if (rc == 0) {
        outcome = tap_files(&run, argv + first, argc - first);
    }
    finish(&run);
    if (rc < 0) {
        char text[128];

        (void)fprintf(stderr, "tap: cannot start: %s\n", strerror_r(-rc, text, sizeof text));
        return TF_EXIT_CANNOT_RUN;
    }
    if (run.write_error != 0) {
        return end_writing(&run);
    }
    tell_summary(&run);
    return outcome;
}
