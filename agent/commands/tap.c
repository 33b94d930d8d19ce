/*
 * tap.c - `taffrail tap`: what would be shipped of a container's log files, or of entries of the
 * journal as journalctl exports them, on stdout.
 *
 * Each file is read to its end and goes the way that the agent sends it: lines, the filters of the
 * configuration in their order, events; only then the events are printed instead of spooled. What
 * the path tells (pod, container), the host's name and the labels stand on each record, as the
 * agent would write them. The container input whose `paths` name the file tells how it is read and
 * under which tag, or else the first one. Without a configuration the filter is redact with its
 * defaults. What a filter holds back until more lines come goes out at the end of the file. Nothing
 * is sent, stored or changed.
 *
 * stdout is NDJSON (docs/records.md) or text for eyes; stderr is a summary, and a message for each
 * file that could not be read: the others are read all the same. When the reader of stdout goes
 * away, as `head` does, tap ends without a word.
 *
 * Exits 0; 2 on wrong usage or configuration; 3 when a file could not be read or the output not be
 * written.
 */
#include "taffrail/commands.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "taffrail/container.h"
#include "taffrail/event.h"
#include "taffrail/filters.h"
#include "taffrail/journal.h"

#define READ_BYTES      (256u << 10)
#define INPUT_MAX_BYTES (16u << 20)  /* read and not decoded yet; past it the file is given up */
#define EVENTS_MAX      (512u << 20) /* of one batch; a full one fits with its keys and labels */
#define PRINTED_BYTES   (256u << 10) /* written at once */
#define PRINTED_MAX     (256u << 20) /* a line of JSON; escapes make it six times its text */
#define HOST_BYTES      256u
#define TAG             "container"
#define JOURNAL_TAG     "journald"

static const char usage[] =
    "usage: taffrail tap [-c CONFIG] [--format FORMAT] [--text] FILE...\n"
    "Prints what would be shipped of the files, without their secrets; sends and stores nothing.\n"
    "  -c CONFIG  by the filters, tag and labels of that configuration; without, redaction only\n"
    "  --format   auto, docker, cri or plain: how the lines are read; by default as the input's\n"
    "             format says: by content. journal: the files are of `journalctl -o export`\n"
    "  --text     lines for eyes instead of NDJSON\n"
    "examples: taffrail tap /var/log/pods/*/*/*.log | head -1\n"
    "          taffrail tap -c conf/taffrail.yaml --text app.log\n"
    "          journalctl -n 10 -o export | taffrail tap --format journal --text /dev/stdin\n"
    "exit: 0 fine, 2 usage or configuration, 3 a file could not be read\n";

static_assert(TF_JOURNAL_ENTRY_MAX + READ_BYTES <= INPUT_MAX_BYTES, "a part of an entry fits");

#define FORMAT_JOURNAL (TF_FORMAT_PLAIN + 1)
#define FORMATS        (FORMAT_JOURNAL + 1)

struct run {
    enum tf_format format;
    bool is_journal; /* instead of a format */
    bool text, redact_off;
    const char *config_file;  /* NULL: none */
    struct tf_config *config; /* NULL: none */
    /* What the configuration says, or what stands in its place. */
    const struct tf_plugin_list *list;
    const struct tf_agent_options *agent;
    struct tf_plugin_config redact;
    struct tf_plugin_list redact_alone;
    struct tf_agent_options no_agent;
    char host[HOST_BYTES];
    void *arena;
    struct tf_filters *filters;
    void **scratch;
    struct tf_batch batch;
    struct tf_buf input, events, printed;
    uint64_t files[FORMATS]; /* read, by format */
    uint64_t lines, entries, records, redactions, filtered, withheld, malformed;
    int write_error; /* of stdout; nothing more is read then */
};

/* One file on its way. It has lines, or it is a journal's. */
struct file {
    const char *path;
    char *full, *real; /* the path from the root, and that on disk; NULL: not known */
    struct tf_log_path names;
    struct tf_reading reading;
    char *tag;
    int fd;
    struct tf_lines *lines;
    struct tf_export *journal;
    void **states; /* of the filters */
    struct tf_constants constants;
};

/* ---- the filters --------------------------------------------------------------------------------
 */

/* The filters of no configuration: redact with its defaults. */
static int default_filters(struct run *run)
{
    run->arena = tf_arena_new();
    if (run->arena == NULL) {
        return -ENOMEM;
    }
    run->redact = (struct tf_plugin_config){.kind = &tf_filter_redact, .name = "redact"};
    run->redact.options = tf_arena_alloc(run->arena, tf_filter_redact.options_bytes);
    if (run->redact.options == NULL) {
        return -ENOMEM;
    }
    run->redact_alone = (struct tf_plugin_list){.items = &run->redact, .count = 1};
    run->list = &run->redact_alone;
    return tf_options_default(tf_filter_redact.options, run->redact.options, run->arena);
}

static void default_agent(struct run *run)
{
    if (gethostname(run->host, sizeof run->host - 1) == 0 && run->host[0] != '\0') {
        run->no_agent.host.text = run->host; /* unknown is absent */
    }
    run->agent = &run->no_agent;
}

/* Returns 0; -EINVAL when err tells why not; or a negative errno. */
static int load(struct run *run, struct tf_error *err)
{
    int rc;

    if (run->config_file == NULL) {
        default_agent(run);
        return default_filters(run);
    }
    rc = tf_config_load(run->config_file, &tf_plugins, &run->config, err);
    if (rc < 0) {
        return rc == -ENOMEM ? rc : -EINVAL;
    }
    run->redact_off = run->config->redact_off;
    run->list = &run->config->filters;
    run->agent = &run->config->agent;
    return 0;
}

static int open_filters(struct run *run, struct tf_error *err)
{
    int rc = load(run, err);

    if (rc == 0) {
        rc = tf_filters_open(run->list, &run->filters, err);
        rc = rc < 0 && err->errors > 0 ? -EINVAL : rc;
    }
    if (rc == 0) {
        run->scratch = tf_filters_scratch_new(run->filters);
        rc = run->scratch != NULL ? 0 : -ENOMEM;
    }
    return rc;
}

static int start(struct run *run)
{
    struct tf_error err;
    int rc;

    tf_buf_init(&run->input, INPUT_MAX_BYTES);
    tf_buf_init(&run->events, EVENTS_MAX);
    tf_buf_init(&run->printed, PRINTED_MAX);
    tf_error_init(&err);
    rc = open_filters(run, &err);
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
    tf_filters_scratch_free(run->filters, run->scratch);
    tf_filters_close(run->filters);
    tf_config_free(run->config);
    tf_arena_free(run->arena);
    wipe(&run->input);
    tf_buf_fini(&run->events);
    tf_buf_fini(&run->printed);
}

/* ---- out ----------------------------------------------------------------------------------------
 */

static int write_printed(struct run *run)
{
    run->write_error = tf_buf_write(&run->printed, STDOUT_FILENO, NULL);
    return run->write_error;
}

static int print_events(struct run *run, const char *tag)
{
    struct tf_slice rest = tf_buf_slice(&run->events);
    int rc = 0;

    while (rc == 0 && rest.size > 0) {
        size_t used = 0;

        rc = run->text ? tf_event_print_text(rest, tf_slice_text(tag), &run->printed, &used)
                       : tf_event_print_json(rest, tf_slice_text(tag), &run->printed, &used);
        rest = tf_slice(rest.data + used, rest.size - used);
        if (rc == 0 && run->printed.size >= PRINTED_BYTES) {
            rc = write_printed(run);
        }
    }
    return rc == 0 ? write_printed(run) : rc;
}

/* Hits of redact's rules; what other filters tell of theirs, what was withheld, and the records
 * that were dropped for a hit are none.
 */
static uint64_t count_redactions(const struct run *run)
{
    uint64_t hits = 0;

    for (uint32_t i = 0; i < run->batch.tally_count; i++) {
        const struct tf_tally *tally = &run->batch.tallies[i];

        if (run->list->items[tally->filter].kind == &tf_filter_redact &&
            !tf_rule_is_withheld(tally->rule) && !tf_rule_is_dropped(tally->rule)) {
            hits += tally->hits;
        }
    }
    return hits;
}

/* Sends the batch on its way, and empties it. The file's lines are all there, so no filter waits
 * for time to pass: now_ms stays 0. */
static int pass_batch(struct run *run, struct file *file, bool is_last)
{
    struct tf_batch *batch = &run->batch;
    struct tf_events_summary summary = {0};
    int rc;

    batch->tag = file->tag;
    batch->may_hold = true;
    batch->is_last = is_last;
    rc = tf_filters_apply(run->filters, run->scratch, file->states, batch);
    tf_buf_clear(&run->events);
    if (rc == 0) {
        rc = tf_events_encode(batch, &file->constants, &run->events, &summary);
    }
    if (rc == 0) {
        rc = print_events(run, file->tag);
    }
    if (rc < 0) {
        return rc;
    }
    run->records += summary.events;
    run->filtered += summary.dropped;
    run->withheld += summary.withheld;
    run->malformed += batch->malformed;
    run->redactions += count_redactions(run);
    return tf_batch_reset(batch);
}

/* ---- in -----------------------------------------------------------------------------------------
 */

/* The path as it was given tells the names, or else the path as it is on disk. */
static void find_names(struct file *file)
{
    char folder[PATH_MAX];

    if (file->path[0] == '/') {
        file->full = strdup(file->path);
    } else if (getcwd(folder, sizeof folder) == NULL ||
               asprintf(&file->full, "%s/%s", folder, file->path) < 0) {
        file->full = NULL;
    }
    file->real = realpath(file->path, NULL);
    if (!tf_log_path_parse(tf_slice_text(file->path), &file->names) && file->real != NULL) {
        (void)tf_log_path_parse(tf_slice_text(file->real), &file->names);
    }
}

/* How the file is read, and its tag: by its input, or else by the first one that reads files. */
static int choose_reading(struct run *run, struct file *file)
{
    const struct tf_plugin_list none = {.count = 0};
    const struct tf_plugin_list *inputs = run->config != NULL ? &run->config->inputs : &none;
    const struct tf_plugin_config *input = NULL;
    int rc;

    if (file->full != NULL) {
        input = tf_container_find(inputs, file->full);
    }
    if (input == NULL && file->real != NULL) {
        input = tf_container_find(inputs, file->real);
    }
    if (input == NULL) {
        input = tf_container_find(inputs, NULL);
    }
    if (run->is_journal) {
        file->tag = strdup(JOURNAL_TAG);
        return file->tag != NULL ? 0 : -ENOMEM;
    }
    rc = tf_container_reading(input, &file->reading);
    if (rc < 0) {
        return rc;
    }
    if (run->format != TF_FORMAT_AUTO) {
        file->reading.format = run->format;
        file->reading.encoding =
            run->format == TF_FORMAT_PLAIN ? file->reading.encoding : TF_ENCODING_UTF8;
    }
    file->tag = tf_container_tag(input != NULL ? input->tag : TAG, &file->names);
    return file->tag != NULL ? 0 : -ENOMEM;
}

/* The constants of a file. Leaves the batch empty. */
static int make_constants(struct run *run, struct file *file)
{
    struct tf_batch *batch = &run->batch;
    int rc = tf_batch_add_record(batch, 0, TF_STREAM_OTHER) != NULL ? 0 : -ENOMEM;

    if (rc == 0) {
        rc = tf_log_path_describe(&file->names, run->agent->host.text, batch);
    }
    if (rc == 0) {
        rc = tf_filters_constants(run->filters, file->states, file->tag, run->agent, batch,
                                  &file->constants);
    }
    return rc == 0 ? tf_batch_reset(batch) : rc;
}

static int open_decoder(const struct run *run, struct file *file)
{
    static const struct tf_journal_rules all = {.select = NULL};
    int rc;

    if (run->is_journal) {
        return tf_export_new(&all, &file->journal);
    }
    rc = tf_lines_new(file->reading.format, file->reading.max_line_bytes, &file->lines);

    if (rc == 0) {
        tf_lines_set_encoding(file->lines, file->reading.encoding);
    }
    return rc;
}

/* Decodes the entries of the input; at its end there is no part of one. */
static int take_entries(struct run *run, struct file *file, bool at_end)
{
    struct tf_export_result result = {.is_full = true};
    size_t at = 0;
    int rc = 0;

    while (rc == 0 &&
           (result.is_full || result.is_broken || result.note.kind != TF_JOURNAL_NOTE_NONE)) {
        int64_t taken =
            tf_export_decode(file->journal, tf_slice(run->input.data + at, run->input.size - at),
                             tf_now_ns(), &run->batch, &result);

        run->entries += run->batch.record_count;
        rc = taken < 0 ? (int)taken : pass_batch(run, file, false);
        at += taken > 0 ? (size_t)taken : 0;
    }
    tf_buf_consume(&run->input, at);
    return rc == 0 && at_end && run->input.size > 0 ? -ENODATA : rc;
}

/* Decodes what can be decoded of the input. */
static int take_input(struct run *run, struct file *file, bool at_end)
{
    size_t at = 0;
    int64_t taken;
    uint32_t records;
    int rc = 0;

    if (run->is_journal) {
        return take_entries(run, file, at_end);
    }
    do {
        taken = tf_lines_decode(file->lines, tf_slice(run->input.data + at, run->input.size - at),
                                at_end, tf_now_ns(), &run->batch);
        records = run->batch.record_count;
        rc = taken < 0 ? (int)taken : pass_batch(run, file, false);
        at += taken > 0 ? (size_t)taken : 0;
    } while (rc == 0 && at < run->input.size && (taken > 0 || records > 0));
    tf_buf_consume(&run->input, at);
    return rc;
}

/* Emits the pieces that wait for others, and what filters hold; there is nothing to come. */
static int flush_file(struct run *run, struct file *file)
{
    bool is_full = true;
    int rc = 0;

    if (run->is_journal) {
        return pass_batch(run, file, true);
    }
    while (rc == 0 && is_full) {
        rc = tf_lines_flush(file->lines, &run->batch);
        is_full = rc == -EMSGSIZE && run->batch.record_count > 0;
        if (rc == 0 || is_full) {
            rc = pass_batch(run, file, !is_full);
        }
    }
    return rc;
}

static int read_file(struct run *run, struct file *file)
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

/* All that must be there before the first line. */
static int prepare_file(struct run *run, struct file *file)
{
    static const struct tf_stream_state nothing_saved[TF_STREAMS];
    int rc = tf_batch_reset(&run->batch);

    if (rc < 0) {
        return rc;
    }
    find_names(file);
    rc = choose_reading(run, file);
    if (rc == 0) {
        rc = open_decoder(run, file);
    }
    if (rc == 0) {
        file->states = tf_filters_states_new(run->filters, nothing_saved);
        rc = file->states != NULL ? make_constants(run, file) : -ENOMEM;
    }
    return rc;
}

static void file_fini(struct run *run, struct file *file)
{
    tf_constants_fini(&file->constants);
    tf_filters_states_free(run->filters, file->states);
    tf_lines_free(file->lines);
    tf_export_free(file->journal);
    free(file->tag);
    free(file->full);
    free(file->real);
    if (file->fd >= 0) {
        (void)close(file->fd);
    }
}

static int tap_file(struct run *run, const char *path)
{
    struct file file = {.path = path, .fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY)};
    int rc = file.fd >= 0 ? prepare_file(run, &file) : -errno;

    if (rc == 0) {
        rc = read_file(run, &file);
    }
    if (rc == 0) {
        rc = flush_file(run, &file);
    }
    if (rc == 0) {
        run->files[run->is_journal ? FORMAT_JOURNAL : tf_lines_format(file.lines)]++;
    }
    run->lines += file.lines != NULL ? tf_lines_count(file.lines) : 0;
    file_fini(run, &file);
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
    if (rc == -EPROTO) {
        (void)fputs(": not the journal's export format (journalctl -o export); not read on\n",
                    stderr);
        return;
    }
    if (rc == -ENODATA) {
        (void)fputs(": ends inside an entry, which is left out\n", stderr);
        return;
    }
    (void)fprintf(stderr, ": %s; other files are read all the same\n",
                  strerror_r(-rc, text, sizeof text));
}

/* A figure and its noun, or what agrees with none. */
static void tell_count(const char *before, uint64_t count, const char *noun, const char *plural)
{
    char figure[TF_COUNT_TEXT_BYTES];

    (void)fprintf(stderr, "%s%s %s", before, tf_count_text(count, figure),
                  count == 1 ? noun : plural);
}

static void tell_files(const struct run *run)
{
    static const char *const names[] = {[TF_FORMAT_AUTO] = "without lines",
                                        [TF_FORMAT_DOCKER] = "docker",
                                        [TF_FORMAT_CRI] = "cri",
                                        [TF_FORMAT_PLAIN] = "plain",
                                        [FORMAT_JOURNAL] = "journal"};
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
    if (run->is_journal) {
        tell_count(", ", run->entries, "entry", "entries");
    } else {
        tell_count(", ", run->lines, "line", "lines");
    }
    tell_count(", ", run->records, "record", "records");
    tell_count(", ", run->redactions, "redaction", "redactions");
    if (run->filtered > 0) {
        tell_count(", ", run->filtered, "filtered", "filtered");
    }
    if (run->withheld > 0) {
        tell_count(", ", run->withheld, "withheld", "withheld");
    }
    if (run->malformed > 0) {
        tell_count(", ", run->malformed, "malformed", "malformed");
    }
    (void)fputs("; nothing was sent or stored\n", stderr);
    if (run->redact_off) {
        (void)fputs("tap: redaction is off in this configuration: secrets are shown\n", stderr);
    }
}

static int wrong_usage(const char *option, const char *why)
{
    (void)fprintf(stderr, "tap: %s%s\n%s", option, why, usage);
    return TF_EXIT_USAGE;
}

static int parse_format(const char *text, struct run *run)
{
    static const char *const names[] = {[TF_FORMAT_AUTO] = "auto",
                                        [TF_FORMAT_DOCKER] = "docker",
                                        [TF_FORMAT_CRI] = "cri",
                                        [TF_FORMAT_PLAIN] = "plain",
                                        [FORMAT_JOURNAL] = "journal"};

    for (size_t i = 0; text != NULL && i < TF_COUNT(names); i++) {
        if (strcmp(text, names[i]) == 0) {
            run->is_journal = i == FORMAT_JOURNAL;
            run->format = run->is_journal ? TF_FORMAT_AUTO : (enum tf_format)i;
            return TF_EXIT_FINE;
        }
    }
    return wrong_usage("--format", " takes auto, docker, cri, plain or journal");
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
            if (parse_format(i < argc ? argv[i] : NULL, run) != TF_EXIT_FINE) {
                return TF_EXIT_USAGE;
            }
        } else if (strcmp(argv[i], "-c") == 0) {
            i++;
            if (i >= argc) {
                return wrong_usage("-c", " takes a configuration");
            }
            run->config_file = argv[i];
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
    if (rc == -EINVAL) { /* told already */
        return TF_EXIT_USAGE;
    }
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
