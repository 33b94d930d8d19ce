/*
 * replay.c - `taffrail replay`: finds, or ships again, what a spool has kept.
 *
 *     options → archive and query → with --verify the whole spool is judged first (agent/verify)
 *         → print to stdout, or ship to an output (agent/replay/ship.h)
 *
 * The spool is only read: no lock, no change. stdout is NDJSON as the file output writes it, or
 * text for eyes; stderr is a progress line on a terminal and a summary, which says what was not
 * there. When the reader of stdout goes away, as `head` does, it ends without a word.
 *
 * Exits 0; 1 when frames that were asked for are damaged, gone or not readable; 2 on wrong usage, a
 * wrong key or configuration; 3 when the disk or the output refuses; 128 + n after signal n.
 */
#include "taffrail/commands.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <uv.h>

#include "../replay/ship.h"
#include "../verify/verify.h"
#include "taffrail/event.h"
#include "taffrail/progress.h"

#define PRINTED_BYTES (256u << 10) /* written at once */
#define PRINTED_MAX   (256u << 20) /* a line of JSON; escapes make it six times its text */
#define VERDICT_MAX   (1u << 20)
#define FOLLOW_MS     200
#define RATE_MAX      (UINT64_C(1) << 40)

static const char usage[] =
    "usage: taffrail replay SPOOL [options]\n"
    "Finds what the spool has kept, or ships it again. The spool may be live, a copy, or "
    "read-only;\n"
    "nothing in it is changed.\n"
    "  --from TIME, --to TIME  of the records: 2026-11-20, 2026-11-20T08:00:00Z, -2h, now; --to "
    "+72h\n"
    "                          is behind --from\n"
    "  --where FIELD=VALUE     of the record, * and ? in VALUE; several must all hold\n"
    "  --grep REGEX            in the text `log` (PCRE2)\n"
    "  --limit N               ends after N records\n"
    "  --follow                goes on with what a live agent adds\n"
    "  --text                  lines for eyes instead of NDJSON\n"
    "  --verify                judges the whole spool first, as taffrail verify does without a "
    "seal\n"
    "                          key; unless it is sound, nothing is printed or shipped\n"
    "  --key FILE              the spool's key, or an auditor's private key; several are fine\n"
    "  --passphrase-file FILE  of the auditor's key\n"
    "  -c FILE                 a configuration: its spool.keys, its outputs\n"
    "  --to-output NAME --job ID [--max-rate RATE]\n"
    "                          ships to an output of the configuration, each record marked "
    "replayed:\n"
    "                          ID. ID.job, in this folder, keeps how far it came: the same "
    "command\n"
    "                          goes on there\n"
    "examples: taffrail replay /var/lib/taffrail/spool --from -2h --grep 'charge failed' --text\n"
    "          taffrail replay copy/spool --key spool.key --where kubernetes.namespace_name=shop\n"
    "exit: 0 fine, 1 something is damaged or gone, 2 usage or configuration, 3 could not run\n";

struct options {
    const char *spool, *config_file, *output, *job, *passphrase_file;
    const char *keys[TF_SPOOL_KEYS_MAX];
    size_t key_count;
    struct tf_query_options query;
    uint64_t limit, max_rate;
    bool text, follow, verify;
};

struct run {
    const struct options *options;
    const char *path;         /* of the spool */
    struct tf_config *config; /* NULL: none was named */
    struct tf_archive *archive;
    struct tf_query *query;
    struct tf_pick pick;
    struct tf_progress progress;
    struct tf_buf printed;
    int64_t begun_ns;
    int write_error; /* of stdout; nothing more is read then */
};

static volatile sig_atomic_t stop_signal;

static void on_stop_signal(int number)
{
    stop_signal = number;
}

/* ---- options ------------------------------------------------------------------------------------
 */

static int wrong_usage(const char *option, const char *why)
{
    (void)fprintf(stderr, "replay: %s%s\n%s", option, why, usage);
    return TF_EXIT_USAGE;
}

static bool parse_count(const char *text, uint64_t *out)
{
    char *end;

    errno = 0;
    *out = strtoull(text, &end, 10);
    return errno == 0 && end != text && *end == '\0' && text[0] >= '0' && text[0] <= '9' &&
           *out > 0;
}

static bool parse_rate(const char *text, uint64_t *out)
{
    return tf_rate_parse(text, out) && *out > 0 && *out <= RATE_MAX;
}

/* Options that take a text. Returns where it goes, or NULL. */
static const char **text_option(struct options *options, const char *name)
{
    const struct {
        const char *name, **to;
    } texts[] = {{"-c", &options->config_file},
                 {"--from", &options->query.from},
                 {"--to", &options->query.to},
                 {"--grep", &options->query.grep},
                 {"--to-output", &options->output},
                 {"--job", &options->job},
                 {"--passphrase-file", &options->passphrase_file}};

    for (size_t i = 0; i < TF_COUNT(texts); i++) {
        if (strcmp(name, texts[i].name) == 0) {
            return texts[i].to;
        }
    }
    if (strcmp(name, "--key") == 0 && options->key_count < TF_SPOOL_KEYS_MAX) {
        return &options->keys[options->key_count++];
    }
    if (strcmp(name, "--where") == 0 && options->query.where_count < TF_WHERE_MAX) {
        return &options->query.where[options->query.where_count++];
    }
    return NULL;
}

/* Takes one option with its value, if it has one; moves *i. */
static int parse_option(struct options *options, int argc, char **argv, int *i)
{
    const char *name = argv[*i], **text;
    const char *value = *i + 1 < argc ? argv[*i + 1] : NULL;

    if (strcmp(name, "--text") == 0) {
        options->text = true;
        return TF_EXIT_FINE;
    }
    if (strcmp(name, "--follow") == 0) {
        options->follow = true;
        return TF_EXIT_FINE;
    }
    if (strcmp(name, "--verify") == 0) {
        options->verify = true;
        return TF_EXIT_FINE;
    }
    text = text_option(options, name);
    *i += 1;
    if (text != NULL && value != NULL) {
        *text = value;
        return TF_EXIT_FINE;
    }
    if (text != NULL) {
        return wrong_usage(name, " takes a value");
    }
    if (strcmp(name, "--limit") == 0) {
        return value != NULL && parse_count(value, &options->limit)
                   ? TF_EXIT_FINE
                   : wrong_usage(name, " takes a number from 1 on");
    }
    if (strcmp(name, "--max-rate") == 0) {
        return value != NULL && parse_rate(value, &options->max_rate)
                   ? TF_EXIT_FINE
                   : wrong_usage(name, " takes a rate, such as 5MiB/s");
    }
    return wrong_usage(name, strcmp(name, "--key") == 0 || strcmp(name, "--where") == 0
                                 ? " is given too often"
                                 : " is no option of it");
}

/* What does not go together. */
static int check_options(const struct options *options)
{
    if (options->spool == NULL && options->config_file == NULL) {
        return wrong_usage("", "name a spool");
    }
    if (options->output == NULL && (options->job != NULL || options->max_rate != 0)) {
        return wrong_usage("", "--job and --max-rate go with --to-output");
    }
    if (options->output != NULL && options->job == NULL) {
        return wrong_usage("", "--to-output needs --job ID: records are marked with it");
    }
    if (options->output != NULL && (options->text || options->follow)) {
        return wrong_usage("", "--text and --follow print; they do not go with --to-output");
    }
    if (options->job != NULL && !tf_job_name_is_sound(options->job)) {
        return wrong_usage("--job", " takes 1 to 64 of a-z, A-Z, 0-9, _, - and dots within");
    }
    return TF_EXIT_FINE;
}

static int parse_options(int argc, char **argv, struct options *options)
{
    *options = (struct options){.limit = UINT64_MAX};
    for (int i = 1; i < argc; i++) {
        int rc = TF_EXIT_FINE;

        if (argv[i][0] == '-' && argv[i][1] != '\0') {
            rc = parse_option(options, argc, argv, &i);
        } else if (options->spool == NULL) {
            options->spool = argv[i];
        } else {
            rc = wrong_usage(argv[i], ": one spool at a time");
        }
        if (rc != TF_EXIT_FINE) {
            return rc;
        }
    }
    return check_options(options);
}

/* ---- printing -----------------------------------------------------------------------------------
 */

static int write_printed(struct run *run)
{
    run->write_error = tf_buf_write(&run->printed, STDOUT_FILENO, &stop_signal);
    return run->write_error;
}

static int print_event(void *ctx, struct tf_slice event, struct tf_slice tag)
{
    struct run *run = ctx;
    size_t used;
    int rc = run->options->text ? tf_event_print_text(event, tag, &run->printed, &used)
                                : tf_event_print_json(event, tag, &run->printed, &used);

    return rc == 0 && run->printed.size >= PRINTED_BYTES ? write_printed(run) : rc;
}

static void show_progress(struct run *run)
{
    struct tf_archive_status status;
    char found[48];
    uint64_t done;

    tf_archive_status(run->archive, &status);
    (void)snprintf(found, sizeof found, "%llu found", (unsigned long long)run->pick.found);
    run->progress.total_bytes = status.bytes;
    done = status.passed > run->progress.done_bytes ? status.passed - run->progress.done_bytes : 0;
    tf_progress_add(&run->progress, done, found);
}

/* Prints what there is now. */
static int print_frames(struct run *run)
{
    struct tf_archived frame;
    int rc = 0;

    while (rc == 0 && stop_signal == 0) {
        rc = tf_pick_next(&run->pick, &frame);
        if (rc == 1) {
            rc = tf_pick_events(&run->pick, &frame, print_event, run);
            show_progress(run);
        } else {
            break;
        }
    }
    return rc < 0 ? rc : write_printed(run);
}

/* Waits for more. False when nobody reads stdout any more. */
static bool wait_for_more(void)
{
    struct pollfd out = {.fd = STDOUT_FILENO};

    return poll(&out, 1, FOLLOW_MS) <= 0 || (out.revents & (POLLERR | POLLNVAL)) == 0;
}

static int print_all(struct run *run)
{
    int rc = print_frames(run);

    while (rc == 0 && run->options->follow && stop_signal == 0 && !tf_pick_is_full(&run->pick)) {
        tf_progress_end(&run->progress); /* from now on it would only stand still */
        run->progress.is_terminal = false;
        if (!wait_for_more()) {
            run->write_error = -EPIPE;
            return -EPIPE;
        }
        rc = tf_archive_refresh(run->archive);
        if (rc == 0) {
            rc = print_frames(run);
        }
    }
    return rc;
}

/* ---- telling ------------------------------------------------------------------------------------
 */

static void tell_summary(const struct run *run)
{
    char found[TF_COUNT_TEXT_BYTES], total[TF_COUNTED_TEXT_BYTES], segments[TF_COUNTED_TEXT_BYTES];
    struct tf_archive_status status;

    tf_archive_status(run->archive, &status);
    (void)fprintf(stderr, "%s of %s, %llu of %s read, %.1f s",
                  tf_count_text(run->pick.found, found),
                  tf_counted_text(status.events, "record", total), (unsigned long long)status.read,
                  tf_counted_text(status.segments, "segment", segments),
                  (double)((int64_t)uv_hrtime() - run->begun_ns) / (double)TF_S_IN_NS);
    tf_gaps_print(&run->pick.gaps, stderr);
    tf_undecided_print(tf_query_undecided(run->query), stderr);
}

static int tell_end(struct run *run, int rc)
{
    char text[128];

    if (run->write_error == -EPIPE) {
        return TF_EXIT_FINE;
    }
    if (rc < 0 && stop_signal == 0) {
        (void)fprintf(stderr, "replay: %s: %s; stopped\n",
                      run->write_error != 0 ? "standard output" : run->path,
                      strerror_r(-rc, text, sizeof text));
        return TF_EXIT_CANNOT_RUN;
    }
    tell_summary(run);
    if (stop_signal != 0) {
        return 128 + stop_signal;
    }
    return run->pick.gaps.loss_count > 0 ? TF_EXIT_FOUND : TF_EXIT_FINE;
}

/* ---- the command --------------------------------------------------------------------------------
 */

static int print(struct run *run)
{
    int rc;

    tf_buf_init(&run->printed, PRINTED_MAX);
    tf_pick_init(&run->pick, run->archive, run->query, 0);
    run->pick.limit = run->options->limit;
    tf_progress_begin(&run->progress, "replay", 0);
    run->progress.is_terminal &= isatty(STDOUT_FILENO) == 0; /* they would share the screen */
    rc = print_all(run);
    tf_progress_end(&run->progress);
    rc = tell_end(run, rc);
    tf_pick_fini(&run->pick);
    tf_buf_fini(&run->printed);
    return rc;
}

/* The whole spool, before anything of it is shown. TF_EXIT_FINE, or the exit code. */
static int judge(struct run *run, const struct tf_reader_keys *keys, struct tf_error *err)
{
    struct tf_verify_report *report = calloc(1, sizeof *report);
    struct tf_keyring *ring = NULL;
    struct tf_buf text;
    int rc = report == NULL ? -ENOMEM : tf_reader_keys_load(keys, &ring, err);

    tf_buf_init(&text, VERDICT_MAX);
    if (rc == 0) {
        struct tf_verify_options options = {.path = keys->spool_path, .ring = ring};

        tf_progress_begin(&run->progress, "verify", 0);
        rc = tf_verify_run(&options, &run->progress, report, err);
        tf_progress_end(&run->progress);
    }
    if (rc == 0) {
        tf_verify_print(report, &text);
        (void)fwrite(text.data, 1, text.size, stderr);
        rc = tf_verify_outcome(report);
    }
    tf_keyring_free(ring);
    tf_buf_fini(&text);
    free(report);
    return rc < 0 ? TF_EXIT_CANNOT_RUN : rc;
}

static int ship(struct run *run)
{
    struct tf_ship_options options = {.config = run->config,
                                      .archive = run->archive,
                                      .query = run->query,
                                      .words = &run->options->query,
                                      .output = run->options->output,
                                      .job = run->options->job,
                                      .limit = run->options->limit,
                                      .max_rate = run->options->max_rate};

    return tf_ship(&options);
}

/* Opens what the options name. 0, or the exit code, and findings in err. */
static int open_all(struct run *run, struct tf_error *err)
{
    const struct options *options = run->options;
    struct tf_archive_options archive = {.path = options->spool,
                                         .key_files = options->keys,
                                         .key_count = options->key_count,
                                         .passphrase_file = options->passphrase_file};
    const char *file = options->config_file;
    int rc = 0, query_rc;

    if (file == NULL && options->output != NULL) {
        file = TF_CONFIG_FILE_DEFAULT;
    }
    if (file != NULL && tf_config_load(file, &tf_plugins, &run->config, err) < 0) {
        return TF_EXIT_USAGE;
    }
    if (run->config != NULL) {
        archive.config = run->config->spool.keys.count > 0 ? &run->config->spool : NULL;
        archive.path = archive.path != NULL ? archive.path : run->config->spool.path.text;
    }
    query_rc = tf_query_new(&options->query, tf_now_ns(), &run->query, err);
    rc = tf_archive_open(&archive, &run->archive, err);
    if (rc == -EINVAL || query_rc == -EINVAL) {
        return TF_EXIT_USAGE;
    }
    if (rc < 0 || query_rc < 0) {
        return TF_EXIT_CANNOT_RUN;
    }
    run->path = archive.path;
    if (options->verify) {
        struct tf_reader_keys keys = {.files = options->keys,
                                      .file_count = options->key_count,
                                      .passphrase_file = options->passphrase_file,
                                      .options = archive.config,
                                      .spool_path = archive.path};

        return judge(run, &keys, err);
    }
    return TF_EXIT_FINE;
}

static void watch_signals(void)
{
    struct sigaction action = {.sa_handler = on_stop_signal};

    (void)sigemptyset(&action.sa_mask);
    (void)sigaction(SIGINT, &action, NULL);
    (void)sigaction(SIGTERM, &action, NULL);
    (void)signal(SIGPIPE, SIG_IGN); /* write tells it */
}

int tf_command_replay(int argc, char **argv)
{
    struct options options;
    struct run run = {.options = &options, .begun_ns = (int64_t)uv_hrtime()};
    struct tf_error err;
    int code;

    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0) {
            (void)fputs(usage, stdout);
            return TF_EXIT_FINE;
        }
    }
    code = parse_options(argc, argv, &options);
    if (code != TF_EXIT_FINE) {
        return code;
    }
    tf_error_init(&err);
    code = open_all(&run, &err);
    (void)tf_error_print(&err, stderr);
    tf_error_fini(&err);
    if (code == TF_EXIT_FINE) {
        if (options.output == NULL) {
            watch_signals();
        }
        code = options.output != NULL ? ship(&run) : print(&run);
    }
    tf_query_free(run.query);
    tf_archive_close(run.archive);
    tf_config_free(run.config);
    return code;
}
