/*
 * tap.c - `taffrail tap`: what would be shipped of a container's log files, or of entries of the
 * journal as journalctl exports them, on stdout.
 *
 * Each file is read to its end and goes the way that the agent sends it: lines, the filters of the
 * configuration in their order, events; only then the events are printed instead of spooled. What
 * the path tells (pod, container), the host's name and the labels stand on each record, as the
 * agent would write them. The container input whose `paths` name the file tells how it is read and
 * under which tag, or else the first one. Without a configuration the filter is redact with its
 * defaults. What a filter holds back until more lines come goes out at the end of the file. With -f
 * the files are followed (tap_follow.c). Nothing is sent, stored or changed.
 *
 * stdout is NDJSON (docs/records.md) or text for eyes; stderr is a summary, and a message for each
 * file that could not be read: the others are read all the same. When the reader of stdout goes
 * away, as `head` does, tap ends without a word.
 *
 * Exits 0; 2 on wrong usage or configuration; 3 when a file could not be read or the output not be
 * written.
 */
#include "tap.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "taffrail/commands.h"
#include "taffrail/event.h"

#define READ_BYTES      (256u << 10)
#define INPUT_MAX_BYTES (16u << 20)  /* read and not decoded yet; past it the file is given up */
#define EVENTS_MAX      (512u << 20) /* of one batch; a full one fits with its keys and labels */
#define PRINTED_BYTES   (256u << 10) /* written at once */
#define PRINTED_MAX     (256u << 20) /* a line of JSON; escapes make it six times its text */
#define TAG             "container"
#define JOURNAL_TAG     "journald"

static const char usage[] =
    "usage: taffrail tap [-f] [-c CONFIG] [--format FORMAT] [--text] FILE...\n"
    "Prints what would be shipped of the files, without their secrets; sends and stores nothing.\n"
    "  -f         goes on with what is appended, over rotation, until SIGINT or SIGTERM; a file\n"
    "             that is not there is waited for\n"
    "  -c CONFIG  by the filters, tag and labels of that configuration; without, redaction only\n"
    "  --format   auto, docker, cri or plain: how the lines are read; by default as the input's\n"
    "             format says: by content. journal: the files are of `journalctl -o export`\n"
    "  --text     lines for eyes instead of NDJSON\n"
    "examples: taffrail tap /var/log/pods/*/*/*.log | head -1\n"
    "          taffrail tap -f -c conf/taffrail.yaml --text app.log\n"
    "          journalctl -n 10 -o export | taffrail tap --format journal --text /dev/stdin\n"
    "exit: 0 fine, 2 usage or configuration, 3 a file could not be read\n";

static_assert(TF_JOURNAL_ENTRY_MAX + READ_BYTES <= INPUT_MAX_BYTES, "a part of an entry fits");

/* ---- the filters --------------------------------------------------------------------------------
 */

/* The filters of no configuration: redact with its defaults. */
static int default_filters(struct tf_tap *tap)
{
    tap->arena = tf_arena_new();
    if (tap->arena == NULL) {
        return -ENOMEM;
    }
    tap->redact = (struct tf_plugin_config){.kind = &tf_filter_redact, .name = "redact"};
    tap->redact.options = tf_arena_alloc(tap->arena, tf_filter_redact.options_bytes);
    if (tap->redact.options == NULL) {
        return -ENOMEM;
    }
    tap->redact_alone = (struct tf_plugin_list){.items = &tap->redact, .count = 1};
    tap->list = &tap->redact_alone;
    return tf_options_default(tf_filter_redact.options, tap->redact.options, tap->arena);
}

static void default_agent(struct tf_tap *tap)
{
    if (gethostname(tap->host, sizeof tap->host - 1) == 0 && tap->host[0] != '\0') {
        tap->no_agent.host.text = tap->host; /* unknown is absent */
    }
    tap->agent = &tap->no_agent;
}

/* Returns 0; -EINVAL when err tells why not; or a negative errno. */
static int load(struct tf_tap *tap, struct tf_error *err)
{
    int rc;

    if (tap->config_file == NULL) {
        default_agent(tap);
        return default_filters(tap);
    }
    rc = tf_config_load(tap->config_file, &tf_plugins, &tap->config, err);
    if (rc < 0) {
        return rc == -ENOMEM ? rc : -EINVAL;
    }
    tap->redact_off = tap->config->redact_off;
    tap->list = &tap->config->filters;
    tap->agent = &tap->config->agent;
    return 0;
}

static int open_filters(struct tf_tap *tap, struct tf_error *err)
{
    int rc = load(tap, err);

    if (rc == 0) {
        rc = tf_filters_open(tap->list, &tap->filters, err);
        rc = rc < 0 && err->errors > 0 ? -EINVAL : rc;
    }
    if (rc == 0) {
        tap->scratch = tf_filters_scratch_new(tap->filters);
        rc = tap->scratch != NULL ? 0 : -ENOMEM;
    }
    return rc;
}

static int start(struct tf_tap *tap)
{
    struct tf_error err;
    int rc;

    tf_buf_init(&tap->events, EVENTS_MAX);
    tf_buf_init(&tap->printed, PRINTED_MAX);
    tf_error_init(&err);
    rc = open_filters(tap, &err);
    tf_error_print(&err, stderr);
    tf_error_fini(&err);
    return rc == 0 ? tf_batch_init(&tap->batch) : rc;
}

static void finish(struct tf_tap *tap)
{
    tf_batch_fini(&tap->batch);
    tf_filters_scratch_free(tap->filters, tap->scratch);
    tf_filters_close(tap->filters);
    tf_config_free(tap->config);
    tf_arena_free(tap->arena);
    tf_buf_fini(&tap->events);
    tf_buf_fini(&tap->printed);
}

/* ---- out ----------------------------------------------------------------------------------------
 */

static int write_printed(struct tf_tap *tap)
{
    tap->write_error = tf_buf_write(&tap->printed, STDOUT_FILENO, NULL);
    return tap->write_error;
}

static int print_events(struct tf_tap *tap, const char *tag)
{
    struct tf_slice rest = tf_buf_slice(&tap->events);
    int rc = 0;

    while (rc == 0 && rest.size > 0) {
        size_t used = 0;

        rc = tap->text ? tf_event_print_text(rest, tf_slice_text(tag), &tap->printed, &used)
                       : tf_event_print_json(rest, tf_slice_text(tag), &tap->printed, &used);
        rest = tf_slice(rest.data + used, rest.size - used);
        if (rc == 0 && tap->printed.size >= PRINTED_BYTES) {
            rc = write_printed(tap);
        }
    }
    return rc == 0 ? write_printed(tap) : rc;
}

/* Hits of redact's rules; what other filters tell of theirs, what was withheld, and the records
 * that were dropped for a hit are none.
 */
static uint64_t count_redactions(const struct tf_tap *tap)
{
    uint64_t hits = 0;

    for (uint32_t i = 0; i < tap->batch.tally_count; i++) {
        const struct tf_tally *tally = &tap->batch.tallies[i];

        if (tap->list->items[tally->filter].kind == &tf_filter_redact &&
            !tf_rule_is_withheld(tally->rule) && !tf_rule_is_dropped(tally->rule)) {
            hits += tally->hits;
        }
    }
    return hits;
}

int tf_tap_pass(struct tf_tap *tap, struct tf_tap_file *file, bool is_last)
{
    struct tf_batch *batch = &tap->batch;
    struct tf_events_summary summary = {0};
    int rc;

    batch->tag = file->tag;
    batch->may_hold = true;
    batch->is_last = is_last;
    batch->now_ms = tap->now_ms;
    rc = tf_filters_apply(tap->filters, tap->scratch, file->states, batch);
    tf_buf_clear(&tap->events);
    if (rc == 0) {
        rc = tf_events_encode(batch, &file->constants, &tap->events, &summary);
    }
    if (rc == 0) {
        rc = print_events(tap, file->tag);
    }
    if (rc < 0) {
        return rc;
    }
    tap->records += summary.events;
    tap->filtered += summary.dropped;
    tap->withheld += summary.withheld;
    tap->malformed += batch->malformed;
    tap->redactions += count_redactions(tap);
    return tf_batch_reset(batch);
}

/* ---- in -----------------------------------------------------------------------------------------
 */

/* The path as it was given tells the names, or else the path as it is on disk. */
static void find_names(struct tf_tap_file *file)
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
static int choose_reading(struct tf_tap *tap, struct tf_tap_file *file)
{
    const struct tf_plugin_list none = {.count = 0};
    const struct tf_plugin_list *inputs = tap->config != NULL ? &tap->config->inputs : &none;
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
    if (tap->is_journal) {
        file->tag = strdup(JOURNAL_TAG);
        return file->tag != NULL ? 0 : -ENOMEM;
    }
    rc = tf_container_reading(input, &file->reading);
    if (rc < 0) {
        return rc;
    }
    if (tap->format != TF_FORMAT_AUTO) {
        file->reading.format = tap->format;
        file->reading.encoding =
            tap->format == TF_FORMAT_PLAIN ? file->reading.encoding : TF_ENCODING_UTF8;
    }
    file->tag = tf_container_tag(input != NULL ? input->tag : TAG, &file->names);
    return file->tag != NULL ? 0 : -ENOMEM;
}

/* The constants of a file. Leaves the batch empty. */
static int make_constants(struct tf_tap *tap, struct tf_tap_file *file)
{
    struct tf_batch *batch = &tap->batch;
    int rc = tf_batch_add_record(batch, 0, TF_STREAM_OTHER) != NULL ? 0 : -ENOMEM;

    if (rc == 0) {
        rc = tf_log_path_describe(&file->names, tap->agent->host.text, batch);
    }
    if (rc == 0) {
        rc = tf_filters_constants(tap->filters, file->states, file->tag, tap->agent, batch,
                                  &file->constants);
    }
    return rc == 0 ? tf_batch_reset(batch) : rc;
}

static int open_decoder(const struct tf_tap *tap, struct tf_tap_file *file)
{
    static const struct tf_journal_rules all = {.select = NULL};
    int rc;

    if (tap->is_journal) {
        return tf_export_new(&all, &file->journal);
    }
    rc = tf_lines_new(file->reading.format, file->reading.max_line_bytes, &file->lines);

    if (rc == 0) {
        tf_lines_set_encoding(file->lines, file->reading.encoding);
    }
    return rc;
}

/* Decodes the entries of the input; at its end there is no part of one. */
static int take_entries(struct tf_tap *tap, struct tf_tap_file *file, bool at_end)
{
    struct tf_export_result result = {.is_full = true};
    size_t at = 0;
    int rc = 0;

    while (rc == 0 &&
           (result.is_full || result.is_broken || result.note.kind != TF_JOURNAL_NOTE_NONE)) {
        int64_t taken =
            tf_export_decode(file->journal, tf_slice(file->input.data + at, file->input.size - at),
                             tf_now_ns(), &tap->batch, &result);

        tap->entries += tap->batch.record_count;
        rc = taken < 0 ? (int)taken : tf_tap_pass(tap, file, false);
        at += taken > 0 ? (size_t)taken : 0;
    }
    tf_buf_consume(&file->input, at);
    return rc == 0 && at_end && file->input.size > 0 ? -ENODATA : rc;
}

/* Decodes what can be decoded of the input. */
static int take_input(struct tf_tap *tap, struct tf_tap_file *file, bool at_end)
{
    size_t at = 0;
    int64_t taken;
    uint32_t records;
    int rc = 0;

    if (tap->is_journal) {
        return take_entries(tap, file, at_end);
    }
    do {
        taken = tf_lines_decode(file->lines, tf_slice(file->input.data + at, file->input.size - at),
                                at_end, tf_now_ns(), &tap->batch);
        records = tap->batch.record_count;
        rc = taken < 0 ? (int)taken : tf_tap_pass(tap, file, false);
        at += taken > 0 ? (size_t)taken : 0;
    } while (rc == 0 && at < file->input.size && (taken > 0 || records > 0));
    tf_buf_consume(&file->input, at);
    return rc;
}

int tf_tap_file_flush(struct tf_tap *tap, struct tf_tap_file *file, bool is_last)
{
    bool is_full = true;
    int rc = 0;

    if (tap->is_journal) {
        return tf_tap_pass(tap, file, is_last);
    }
    while (rc == 0 && is_full) {
        rc = tf_lines_flush(file->lines, &tap->batch);
        is_full = rc == -EMSGSIZE && tap->batch.record_count > 0;
        if (rc == 0 || is_full) {
            rc = tf_tap_pass(tap, file, is_last && !is_full);
        }
    }
    return rc;
}

ssize_t tf_tap_file_read(struct tf_tap *tap, struct tf_tap_file *file)
{
    int rc = tf_buf_reserve(&file->input, READ_BYTES);
    ssize_t got;

    if (rc < 0) {
        return rc;
    }
    do {
        got = read(file->fd, file->input.data + file->input.size, READ_BYTES);
    } while (got < 0 && errno == EINTR);
    if (got <= 0) {
        return got < 0 ? -errno : 0;
    }
    file->input.size += (size_t)got;
    rc = take_input(tap, file, false);
    return rc < 0 ? rc : got;
}

/* Lines that leave it open were read as plain ones. */
static size_t format_of(const struct tf_tap *tap, const struct tf_tap_file *file)
{
    enum tf_format format;

    if (tap->is_journal) {
        return TF_TAP_FORMAT_JOURNAL;
    }
    format = tf_lines_format(file->lines);
    return format == TF_FORMAT_AUTO && tf_lines_count(file->lines) > 0 ? TF_FORMAT_PLAIN : format;
}

int tf_tap_file_end(struct tf_tap *tap, struct tf_tap_file *file)
{
    int rc = take_input(tap, file, true);

    if (rc == 0 || rc == -ENODATA) {
        int flushed = tf_tap_file_flush(tap, file, true);

        rc = flushed < 0 ? flushed : rc;
    }
    if (rc == 0) {
        tap->files[format_of(tap, file)]++;
    }
    return rc;
}

int tf_tap_file_prepare(struct tf_tap *tap, struct tf_tap_file *file)
{
    static const struct tf_stream_state nothing_saved[TF_STREAMS];
    int rc = tf_batch_reset(&tap->batch);

    if (rc < 0) {
        return rc;
    }
    tf_buf_init(&file->input, INPUT_MAX_BYTES);
    find_names(file);
    rc = choose_reading(tap, file);
    if (rc == 0) {
        rc = open_decoder(tap, file);
    }
    if (rc == 0) {
        file->states = tf_filters_states_new(tap->filters, nothing_saved);
        rc = file->states != NULL ? make_constants(tap, file) : -ENOMEM;
    }
    return rc;
}

void tf_tap_file_close(struct tf_tap *tap, struct tf_tap_file *file)
{
    tap->lines += file->lines != NULL ? tf_lines_count(file->lines) : 0;
    tf_constants_fini(&file->constants);
    tf_filters_states_free(tap->filters, file->states);
    tf_lines_free(file->lines);
    tf_export_free(file->journal);
    tf_buf_wipe(&file->input);
    free(file->tag);
    free(file->full);
    free(file->real);
    if (file->fd >= 0) {
        (void)close(file->fd);
    }
    *file = (struct tf_tap_file){.path = file->path, .fd = -1};
}

static int tap_file(struct tf_tap *tap, const char *path)
{
    struct tf_tap_file file = {.path = path, .fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY)};
    ssize_t rc = file.fd >= 0 ? tf_tap_file_prepare(tap, &file) : -errno;

    if (rc == 0) {
        do {
            rc = tf_tap_file_read(tap, &file);
        } while (rc > 0);
    }
    if (rc == 0) {
        rc = tf_tap_file_end(tap, &file);
    }
    tf_tap_file_close(tap, &file);
    return (int)rc;
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

void tf_tap_tell(const char *path, int rc, const char *consequence)
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
    if (rc == -ESPIPE) {
        (void)fputs(": is no regular file, which -f needs; without -f it is read to its end\n",
                    stderr);
        return;
    }
    if (rc == -ENODATA) {
        (void)fputs(": ends inside an entry, which is left out\n", stderr);
        return;
    }
    (void)fprintf(stderr, ": %s; %s\n", strerror_r(-rc, text, sizeof text), consequence);
}

/* A figure and its noun, or what agrees with none. */
static void tell_count(const char *before, uint64_t count, const char *noun, const char *plural)
{
    char figure[TF_COUNT_TEXT_BYTES];

    (void)fprintf(stderr, "%s%s %s", before, tf_count_text(count, figure),
                  count == 1 ? noun : plural);
}

static void tell_files(const struct tf_tap *tap)
{
    static const char *const names[] = {[TF_FORMAT_AUTO] = "without lines",
                                        [TF_FORMAT_DOCKER] = "docker",
                                        [TF_FORMAT_CRI] = "cri",
                                        [TF_FORMAT_PLAIN] = "plain",
                                        [TF_TAP_FORMAT_JOURNAL] = "journal"};
    uint64_t total = 0;
    const char *before = " (";

    for (size_t i = 0; i < TF_COUNT(names); i++) {
        total += tap->files[i];
    }
    tell_count("tap: ", total, "file", "files");
    for (size_t i = TF_COUNT(names); i-- > 0;) {
        if (tap->files[i] == 0) {
            continue;
        }
        if (tap->files[i] == total) {
            (void)fprintf(stderr, "%s%s", before, names[i]);
        } else {
            tell_count(before, tap->files[i], names[i], names[i]);
        }
        before = ", ";
    }
    (void)fputs(total > 0 ? ")" : "", stderr);
}

static void tell_summary(const struct tf_tap *tap)
{
    tell_files(tap);
    if (tap->is_journal) {
        tell_count(", ", tap->entries, "entry", "entries");
    } else {
        tell_count(", ", tap->lines, "line", "lines");
    }
    tell_count(", ", tap->records, "record", "records");
    tell_count(", ", tap->redactions, "redaction", "redactions");
    if (tap->filtered > 0) {
        tell_count(", ", tap->filtered, "filtered", "filtered");
    }
    if (tap->withheld > 0) {
        tell_count(", ", tap->withheld, "withheld", "withheld");
    }
    if (tap->malformed > 0) {
        tell_count(", ", tap->malformed, "malformed", "malformed");
    }
    (void)fputs("; nothing was sent or stored\n", stderr);
    if (tap->redact_off) {
        (void)fputs("tap: redaction is off in this configuration: secrets are shown\n", stderr);
    }
}

static int wrong_usage(const char *option, const char *why)
{
    (void)fprintf(stderr, "tap: %s%s\n%s", option, why, usage);
    return TF_EXIT_USAGE;
}

static int parse_format(const char *text, struct tf_tap *tap)
{
    static const char *const names[] = {[TF_FORMAT_AUTO] = "auto",
                                        [TF_FORMAT_DOCKER] = "docker",
                                        [TF_FORMAT_CRI] = "cri",
                                        [TF_FORMAT_PLAIN] = "plain",
                                        [TF_TAP_FORMAT_JOURNAL] = "journal"};

    for (size_t i = 0; text != NULL && i < TF_COUNT(names); i++) {
        if (strcmp(text, names[i]) == 0) {
            tap->is_journal = i == TF_TAP_FORMAT_JOURNAL;
            tap->format = tap->is_journal ? TF_FORMAT_AUTO : (enum tf_format)i;
            return TF_EXIT_FINE;
        }
    }
    return wrong_usage("--format", " takes auto, docker, cri, plain or journal");
}

/* Reads the options; *first is the first FILE. Returns TF_EXIT_FINE or TF_EXIT_USAGE. */
static int parse_options(int argc, char **argv, struct tf_tap *tap, int *first)
{
    int i = 1;

    for (; i < argc && argv[i][0] == '-' && argv[i][1] != '\0'; i++) {
        if (strcmp(argv[i], "--") == 0) {
            i++;
            break;
        }
        if (strcmp(argv[i], "--text") == 0) {
            tap->text = true;
        } else if (strcmp(argv[i], "--format") == 0) {
            i++;
            if (parse_format(i < argc ? argv[i] : NULL, tap) != TF_EXIT_FINE) {
                return TF_EXIT_USAGE;
            }
        } else if (strcmp(argv[i], "-c") == 0) {
            i++;
            if (i >= argc) {
                return wrong_usage("-c", " takes a configuration");
            }
            tap->config_file = argv[i];
        } else if (strcmp(argv[i], "-f") == 0) {
            tap->follows = true;
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

static int tap_files(struct tf_tap *tap, char *const *paths, int count)
{
    int outcome = TF_EXIT_FINE;

    for (int i = 0; i < count && tap->write_error == 0; i++) {
        int rc = tap_file(tap, paths[i]);

        if (rc < 0 && tap->write_error == 0) {
            tf_tap_tell(paths[i], rc, "other files are read all the same");
            outcome = TF_EXIT_CANNOT_RUN;
        }
    }
    return outcome;
}

/* Tells how writing ended. The reader of stdout may go away: that is no failure. */
static int end_writing(const struct tf_tap *tap)
{
    char text[128];

    if (tap->write_error == -EPIPE) {
        return TF_EXIT_FINE;
    }
    (void)fprintf(stderr, "tap: standard output: %s; stopped\n",
                  strerror_r(-tap->write_error, text, sizeof text));
    return TF_EXIT_CANNOT_RUN;
}

int tf_command_tap(int argc, char **argv)
{
    struct tf_tap tap = {.format = TF_FORMAT_AUTO};
    int first = argc, outcome, rc;

    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
        if (strcmp(argv[i], "--help") == 0) {
            (void)fputs(usage, stdout);
            return TF_EXIT_FINE;
        }
    }
    outcome = parse_options(argc, argv, &tap, &first);
    if (outcome != TF_EXIT_FINE) {
        return outcome;
    }
    (void)signal(SIGPIPE, SIG_IGN); /* write tells it */
    rc = start(&tap);
    if (rc == 0) {
        outcome = tap.follows ? tf_tap_follow(&tap, argv + first, (size_t)(argc - first))
                              : tap_files(&tap, argv + first, argc - first);
    }
    finish(&tap);
    if (rc == -EINVAL) { /* told already */
        return TF_EXIT_USAGE;
    }
    if (rc < 0) {
        char text[128];

        (void)fprintf(stderr, "tap: cannot start: %s\n", strerror_r(-rc, text, sizeof text));
        return TF_EXIT_CANNOT_RUN;
    }
    if (tap.write_error != 0) {
        return end_writing(&tap);
    }
    tell_summary(&tap);
    return outcome;
}
