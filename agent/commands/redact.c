/*
 * redact.c - `taffrail redact`: stdin to stdout, a line a line, without its secrets.
 *
 * Runs the redact filter, with its default options or those of a configuration, over batches of one
 * record a line, so that it masks what the agent would, private keys over many lines too. Lines
 * pass as soon as they are complete; what is there at once goes through the filter at once. A line
 * longer than LINE_MAX_BYTES is withheld whole: a secret could lie across any cut. A line that a
 * rule of mode drop takes out is not written.
 *
 *     --explain  where and why, on stderr; positions and rules, never the secret
 *     --json     the same, one object a hit: line, from, to, rule, pack, mode; or line, from, to,
 *                withheld (the reason)
 *     --check    writes no text; exits 1 when something was found
 *     -c FILE    with the options and rules of that configuration
 *     --rules FILE  the default rules and own ones, without a configuration
 *
 * Exits 0; 1 when --check found something; 2 on wrong usage or configuration; 3 when it could not
 * run.
 */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "../../filters/redact/redact.h"
#include "taffrail/commands.h"
#include "taffrail/config.h"
#include "taffrail/filter.h"

#define LINE_MAX_BYTES (16u << 20)
#define READ_BYTES     (256u << 10)
#define FLUSH_BYTES    (1u << 20)
#define RULE_FILES_MAX 32u
#define WITHHELD_LINE  "[WITHHELD]"

static const char usage[] =
    "usage: taffrail redact [-c FILE | --rules FILE...] [--explain | --json] [--check] <TEXT\n"
    "Writes the lines of stdin without their secrets.\n"
    "  -c FILE       as this configuration says; without, the default rules\n"
    "  --rules FILE  the default rules and those of a file; may be given several times\n"
    "  --explain     tells on stderr where which rule masked, never what\n"
    "  --json        the same, one JSON object a hit\n"
    "  --check       writes no text; exits 1 when something was found, to guard a CI log\n"
    "example: echo 'password=hunter22' | taffrail redact --explain\n";

struct run {
    const char *config_file;
    struct tf_text rule_files[RULE_FILES_MAX];
    size_t rule_file_count;
    bool explain, json, check;
    struct tf_config *config;
    void *arena; /* of the default options */
    void *filter, *scratch, *state;
    struct tf_batch batch;
    struct tf_buf input; /* what has no newline yet, LINE_MAX_BYTES at most */
    bool skipping;       /* in a line that was too long */
    uint64_t line;       /* number of the batch's first line, from 1 */
    uint64_t found;
};

/* ---- what was found ---------------------------------------------------------------------------
 */

/* Ids, packs and modes are plain; a keyword may hold quotes. */
static void print_quoted(const char *text)
{
    (void)fputc('"', stderr);
    for (; *text != 0; text++) {
        (void)fprintf(stderr, *text == '"' || *text == '\\' ? "\\%c" : "%c", *text);
    }
    (void)fputc('"', stderr);
}

static void explain(unsigned long long line, const struct tf_filter_hit *hit)
{
    (void)fprintf(stderr, "line %llu, bytes %u to %u: ", line, hit->from, hit->to);
    if (hit->rule == NULL) {
        (void)fprintf(stderr, "withheld (could not be scanned in bounds)\n");
        return;
    }
    (void)fprintf(stderr, "%s (pack %s, %s", hit->rule, hit->pack, hit->mode);
    if (hit->keyword != NULL) {
        (void)fputs(", keyword ", stderr);
        print_quoted(hit->keyword);
    }
    (void)fputs(")\n", stderr);
}

static void explain_json(unsigned long long line, const struct tf_filter_hit *hit)
{
    (void)fprintf(stderr, "{\"line\":%llu,\"from\":%u,\"to\":%u,", line, hit->from, hit->to);
    if (hit->rule == NULL) {
        (void)fprintf(stderr, "\"withheld\":\"%s\"}\n",
                      hit->reason != NULL ? hit->reason : "unknown");
        return;
    }
    (void)fprintf(stderr, "\"rule\":\"%s\",\"pack\":\"%s\",\"mode\":\"%s\"}\n", hit->rule,
                  hit->pack, hit->mode);
}

/* Told by the filter of each change. */
static void on_hit(void *ctx, const struct tf_filter_hit *hit)
{
    struct run *run = ctx;

    run->found++;
    if (run->explain) {
        explain(run->line + hit->record, hit);
    } else if (run->json) {
        explain_json(run->line + hit->record, hit);
    }
}

/* ---- the filter -------------------------------------------------------------------------------
 */

/* The options of the configuration's redact filter. Returns 0, or -EINVAL with the errors in err.
 */
static int read_config(struct run *run, struct tf_filter_args *args, struct tf_error *err)
{
    int rc = tf_config_load(run->config_file, &tf_plugins, &run->config, err);

    if (rc < 0) {
        return rc == -ENOMEM ? rc : -EINVAL;
    }
    for (size_t i = 0; i < run->config->filters.count; i++) {
        const struct tf_plugin_config *item = &run->config->filters.items[i];

        if (item->kind == &tf_filter_redact) {
            args->options = item->options;
            args->at = item->at;
            return 0;
        }
    }
    return tf_error_add(err, NULL, "%s: redact is off there; leave -c out, or switch it on",
                        run->config_file);
}

static int default_options(struct run *run, struct tf_filter_args *args)
{
    void *options = NULL;
    int rc = -ENOMEM;

    run->arena = tf_arena_new();
    if (run->arena != NULL) {
        options = tf_arena_alloc(run->arena, tf_filter_redact.options_bytes);
    }
    if (options != NULL) {
        rc = tf_options_default(tf_filter_redact.options, options, run->arena);
    }
    if (rc == 0) {
        struct tf_redact_options *redact = options;

        redact->rules = (struct tf_texts){.items = run->rule_files, .count = run->rule_file_count};
    }
    args->options = options;
    return rc;
}

static int start(struct run *run)
{
    struct tf_filter_args args = {.name = "redact"};
    struct tf_error err;
    int rc;

    tf_error_init(&err);
    rc = run->config_file != NULL ? read_config(run, &args, &err) : default_options(run, &args);
    if (rc == 0) {
        rc = tf_filter_redact.open(&args, &run->filter, &err);
    }
    (void)tf_error_print(&err, stderr);
    tf_error_fini(&err);
    if (rc == 0) {
        run->scratch = tf_filter_redact.scratch_new(run->filter);
        run->state = tf_filter_redact.state_new(run->filter);
        rc = run->scratch == NULL || run->state == NULL ? -ENOMEM : tf_batch_init(&run->batch);
    }
    if (rc == 0) {
        tf_filter_redact.observe(run->scratch, on_hit, run);
    }
    return rc;
}

static void finish(struct run *run)
{
    tf_batch_fini(&run->batch);
    if (run->filter != NULL) {
        tf_filter_redact.state_free(run->state);
        tf_filter_redact.scratch_free(run->scratch);
        tf_filter_redact.close(run->filter);
    }
    tf_config_free(run->config);
    tf_arena_free(run->arena);
    if (run->input.data != NULL) {
        explicit_bzero(run->input.data, run->input.capacity);
    }
    tf_buf_fini(&run->input);
}

/* ---- lines ------------------------------------------------------------------------------------
 */

static int write_text(const struct run *run, const char *data, size_t size)
{
    if (run->check || size == 0 || fwrite_unlocked(data, 1, size, stdout) == size) {
        return 0;
    }
    return errno != 0 ? -errno : -EIO;
}

/* Redacts and writes the lines of the batch; the last one has its newline when `ended`. */
static int flush_batch(struct run *run, bool ended)
{
    struct tf_batch *batch = &run->batch;
    int rc = tf_filter_redact.apply(run->filter, run->scratch, run->state, batch);

    for (uint32_t i = 0; rc == 0 && i < batch->record_count; i++) {
        const struct tf_record *record = &batch->records[i];
        const struct tf_field *field = &batch->fields[record->first_field];

        if ((record->flags & TF_RECORD_DROPPED) != 0) {
            continue;
        }
        rc = write_text(run, batch->text.data + field->value.text.at, field->value.text.size);
        if (rc == 0 && (ended || i + 1 < batch->record_count)) {
            rc = write_text(run, "\n", 1);
        }
    }
    run->line += batch->record_count;
    if (rc == 0) {
        rc = tf_batch_reset(batch);
    }
    return rc;
}

static int add_line(struct run *run, const char *line, size_t size)
{
    struct tf_batch *batch = &run->batch;
    struct tf_field *field = NULL;
    uint32_t at;
    int rc = tf_batch_add_text(batch, line, size, &at);

    if (rc == 0 && tf_batch_add_record(batch, 0, TF_STREAM_STDOUT) != NULL) {
        field = tf_batch_add_field(batch, batch->key_log, 3, TF_VALUE_TEXT);
    }
    if (field == NULL) {
        return rc < 0 ? rc : -ENOMEM;
    }
    field->value.text.at = at;
    field->value.text.size = (uint32_t)size;
    return 0;
}

/* A line that cannot be held is withheld; what came before it is written first. */
static int withhold_line(struct run *run)
{
    const struct tf_filter_hit whole = {.from = 0, .to = LINE_MAX_BYTES, .reason = "line too long"};

    on_hit(run, &whole);
    run->skipping = true;
    tf_buf_clear(&run->input);
    return write_text(run, WITHHELD_LINE, sizeof WITHHELD_LINE - 1);
}

/* Takes in the input's complete lines, and at the end of the stream the rest. */
static int take_lines(struct run *run, bool at_end)
{
    size_t at = 0;
    int rc = 0;

    while (rc == 0 && at < run->input.size) {
        const char *newline = memchr(run->input.data + at, '\n', run->input.size - at);
        size_t end = newline != NULL ? (size_t)(newline - run->input.data) : run->input.size;

        if (newline == NULL && !at_end && !run->skipping) {
            break;
        }
        if (run->skipping) { /* its text was answered for; its newline passes */
            rc = newline != NULL ? write_text(run, "\n", 1) : 0;
            run->skipping = newline == NULL;
            run->line += newline != NULL ? 1 : 0;
        } else {
            rc = add_line(run, run->input.data + at, end - at);
        }
        at = newline != NULL ? end + 1 : end;
        if (rc == 0 && (run->batch.text.size > FLUSH_BYTES ||
                        run->batch.record_count == TF_BATCH_RECORDS_MAX)) {
            rc = flush_batch(run, newline != NULL);
        }
        if (rc == 0 && newline == NULL && run->batch.record_count > 0) {
            rc = flush_batch(run, false);
        }
    }
    if (rc == 0 && run->batch.record_count > 0) {
        rc = flush_batch(run, true);
    }
    tf_buf_consume(&run->input, at);
    if (rc == 0 && !run->check && fflush(stdout) != 0) {
        rc = -errno;
    }
    return rc;
}

static int read_all(struct run *run)
{
    for (;;) {
        ssize_t got;
        int rc = tf_buf_reserve(&run->input, READ_BYTES);

        if (rc < 0) {
            return rc;
        }
        got = read(STDIN_FILENO, run->input.data + run->input.size, READ_BYTES);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            return -errno;
        }
        run->input.size += (size_t)got;
        rc = take_lines(run, got == 0);
        if (rc == 0 && run->input.size > LINE_MAX_BYTES) {
            rc = withhold_line(run);
        }
        if (rc < 0 || got == 0) {
            return rc;
        }
    }
}

/* TF_EXIT_FINE: go on; *done: the help was asked for. */
static int read_arguments(int argc, char **argv, struct run *run, bool *done)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0) {
            (void)fputs(usage, stdout);
            *done = true;
            return TF_EXIT_FINE;
        }
        if (strcmp(argv[i], "--explain") == 0) {
            run->explain = true;
        } else if (strcmp(argv[i], "--json") == 0) {
            run->json = true;
        } else if (strcmp(argv[i], "--check") == 0) {
            run->check = true;
        } else if (strcmp(argv[i], "-c") == 0 && i + 1 < argc) {
            run->config_file = argv[++i];
        } else if (strcmp(argv[i], "--rules") == 0 && i + 1 < argc &&
                   run->rule_file_count < RULE_FILES_MAX) {
            run->rule_files[run->rule_file_count++].text = argv[++i];
        } else {
            (void)fprintf(stderr, "redact: \"%s\" is no option of it\n%s", argv[i], usage);
            return TF_EXIT_USAGE;
        }
    }
    if (run->config_file != NULL && run->rule_file_count > 0) {
        (void)fprintf(stderr, "redact: -c and --rules exclude each other; name the files in the "
                              "configuration\n");
        return TF_EXIT_USAGE;
    }
    if (run->explain && run->json) {
        (void)fprintf(stderr, "redact: --explain and --json tell the same; choose one\n");
        return TF_EXIT_USAGE;
    }
    return TF_EXIT_FINE;
}

int tf_command_redact(int argc, char **argv)
{
    struct run run = {.line = 1};
    bool done = false;
    int rc = read_arguments(argc, argv, &run, &done);

    if (rc != TF_EXIT_FINE || done) {
        return rc;
    }
    tf_buf_init(&run.input, LINE_MAX_BYTES + READ_BYTES + 1);
    rc = start(&run);
    if (rc == -EINVAL) { /* told already */
        finish(&run);
        return TF_EXIT_USAGE;
    }
    if (rc == 0) {
        rc = read_all(&run);
    }
    finish(&run);
    if (rc < 0) {
        char text[128];

        (void)fprintf(stderr, "redact: %s; what is not written was not passed on\n",
                      strerror_r(-rc, text, sizeof text));
        return TF_EXIT_CANNOT_RUN;
    }
    return run.check && run.found > 0 ? TF_EXIT_FOUND : TF_EXIT_FINE;
}
