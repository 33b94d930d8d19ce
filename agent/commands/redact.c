/*
 * redact.c - `taffrail redact`: stdin to stdout, a line a line, without its secrets.
 *
 * Runs the redact filter's default set over batches of one record a line, so that it masks what the
 * agent would, private keys over many lines too. Lines pass as soon as they are complete. A line
 * longer than LINE_MAX_BYTES is withheld whole: a secret could lie across any cut.
 *
 *     --explain  where and why, on stderr; positions and rules, never the secret
 *     --check    writes no text; exits 1 when something was found
 *
 * Exits 0; 1 when --check found something; 2 on wrong usage; 3 when it could not run.
 */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "../../filters/redact/redact.h"

int tf_command_redact(int argc, char **argv);

#define LINE_MAX_BYTES (16u << 20)
#define READ_BYTES     65536u
#define WITHHELD_LINE  "[WITHHELD]"

enum { FINE = 0, FOUND = 1, USAGE = 2, CANNOT_RUN = 3 };

static const char usage[] =
    "usage: taffrail redact [--explain] [--check] <TEXT\n"
    "Writes the lines of stdin without their secrets.\n"
    "  --explain  tells on stderr where which rule masked, never what\n"
    "  --check    writes no text; exits 1 when something was found, to guard a CI log\n"
    "example: echo 'password=hunter22' | taffrail redact --explain\n";

struct run {
    bool explain, check;
    void *filter, *scratch, *state;
    struct tf_batch batch;
    struct tf_buf input; /* what has no newline yet, LINE_MAX_BYTES at most */
    bool skipping;       /* in a line that was too long */
    uint64_t line;       /* number of the batch's first line, from 1 */
    uint64_t found;
};

/* Told by the filter of each mask. */
static void on_seen(void *ctx, uint32_t record, const struct tf_redact_span *span,
                    const struct tf_redact_rule *rule)
{
    struct run *run = ctx;
    unsigned long long line = run->line + record;

    run->found++;
    if (!run->explain) {
        return;
    }
    if (rule == NULL) {
        fprintf(stderr, "line %llu, bytes %u to %u: withheld (could not be scanned in bounds)\n",
                line, span->start, span->end);
        return;
    }
    fprintf(stderr, "line %llu, bytes %u to %u: %s (pack %s, mask", line, span->start, span->end,
            rule->id, rule->pack);
    if (span->keyword != NULL) { /* a quote in a keyword is shown escaped */
        fputs(", keyword \"", stderr);
        for (const char *byte = span->keyword; *byte != 0; byte++) {
            fprintf(stderr, *byte == '"' || *byte == '\\' ? "\\%c" : "%c", *byte);
        }
        fputc('"', stderr);
    }
    fputs(")\n", stderr);
}

static int start(struct run *run)
{
    static const struct tf_redact_options defaults;
    const struct tf_filter_args args = {.name = "redact", .options = &defaults};
    struct tf_error err;
    int rc;

    tf_error_init(&err);
    rc = tf_filter_redact.open(&args, &run->filter, &err);
    tf_error_print(&err, stderr);
    tf_error_fini(&err);
    if (rc == 0) {
        run->scratch = tf_filter_redact.scratch_new(run->filter);
        run->state = tf_filter_redact.state_new(run->filter);
        rc = run->scratch == NULL || run->state == NULL ? -ENOMEM : tf_batch_init(&run->batch);
    }
    if (rc == 0) {
        tf_redact_observe(run->scratch, on_seen, run);
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
    if (run->input.data != NULL) {
        explicit_bzero(run->input.data, run->input.capacity);
    }
    tf_buf_fini(&run->input);
}

static int write_text(const struct run *run, const char *data, size_t size)
{
    if (run->check || size == 0 || fwrite(data, 1, size, stdout) == size) {
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
        const struct tf_field *field = &batch->fields[batch->records[i].first_field];

        rc = write_text(run, batch->text.data + field->value.text.at, field->value.text.size);
        if (rc == 0 && (ended || i + 1 < batch->record_count)) {
            rc = write_text(run, "\n", 1);
        }
    }
    run->line += batch->record_count;
    if (rc == 0) {
        rc = tf_batch_reset(batch);
    }
    if (rc == 0 && !run->check && fflush(stdout) != 0) {
        rc = -errno;
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
    struct tf_redact_span whole = {.start = 0, .end = LINE_MAX_BYTES, .rule = TF_REDACT_WITHHELD};

    on_seen(run, 0, &whole, NULL);
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
        char *newline = memchr(run->input.data + at, '\n', run->input.size - at);
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
        if (rc == 0 && newline == NULL && run->batch.record_count > 0) {
            rc = flush_batch(run, false);
        }
    }
    if (rc == 0 && run->batch.record_count > 0) {
        rc = flush_batch(run, true);
    }
    tf_buf_consume(&run->input, at);
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

int tf_command_redact(int argc, char **argv)
{
    struct run run = {.line = 1};
    int rc;

    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0) {
            fputs(usage, stdout);
            return FINE;
        }
        if (strcmp(argv[i], "--explain") == 0) {
            run.explain = true;
        } else if (strcmp(argv[i], "--check") == 0) {
            run.check = true;
        } else {
            fprintf(stderr, "redact: \"%s\" is no option of it\n%s", argv[i], usage);
            return USAGE;
        }
    }
    tf_buf_init(&run.input, LINE_MAX_BYTES + READ_BYTES + 1);
    rc = start(&run);
    if (rc == 0) {
        rc = read_all(&run);
    }
    finish(&run);
    if (rc < 0) {
        char text[128];

        fprintf(stderr, "redact: %s; what is not written was not passed on\n",
                strerror_r(-rc, text, sizeof text));
        return CANNOT_RUN;
    }
    return run.check && run.found > 0 ? FOUND : FINE;
}
