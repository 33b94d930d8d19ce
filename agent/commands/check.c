/*
 * check.c - `taffrail check`: all that is wrong with a configuration, before it runs.
 *
 *     load     keys, values, names, tags: all of them in one run
 *     build    every plugin is opened as `run` would: rules compile, certificates and keys load
 *     spool    its folder, mode and keys, without changing anything
 *     connect  only with --connect, and when the others find nothing wrong (check_connect.c)
 *
 * Build and spool need a configuration, so they come when the first finds no error. Without
 * --connect the network is not tried; nothing is sent or written, and of logs it is looked only how
 * many there are.
 *
 * Findings go to stderr, or with --json to stdout, an object a line. Exits 0 when the configuration
 * is sound; 1 when something is wrong; 2 on wrong usage, or a file that cannot be read; 3 without
 * memory.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <uv.h>

#include "check_connect.h"

#include "taffrail/admin.h"
#include "taffrail/commands.h"
#include "taffrail/log.h"
#include "taffrail/pipeline.h"
#include "taffrail/sandbox.h"
#include "taffrail/spool.h"

#define SUMMARY_MAX (64u << 10)

static const char usage[] =
    "usage: taffrail check [-c FILE] [--connect] [--json] [--strict]\n"
    "Tells all that is wrong with a configuration. Opens every plugin as run would, so rules,\n"
    "certificates and keys are looked at too; changes nothing, and tries no network unless told.\n"
    "  -c FILE    configuration (" TF_CONFIG_FILE_DEFAULT ")\n"
    "  --connect  when it is sound, try each host of the outputs, step by step; sends no record\n"
    "  --json     findings on stdout, one JSON object a line\n"
    "  --strict   warnings count as errors\n"
    "exit: 0 sound, 1 something is wrong, 2 usage or the file cannot be read\n"
    "example: taffrail check -c conf/taffrail.yaml && taffrail run -c conf/taffrail.yaml\n"
    "         taffrail check -c conf/taffrail.yaml --connect\n"
    "         taffrail check -c conf/taffrail.yaml --json --strict >findings.ndjson\n";

struct check {
    const char *file;
    bool as_json, is_strict, connects;
    struct tf_config *config;
    struct tf_error err;
    struct tf_buf reads, ships; /* what inputs and outputs tell of themselves */
};

static void on_stopped(void *ctx)
{
    *(bool *)ctx = true;
}

static void on_admin_closed(void *ctx)
{
    (void)ctx;
}

static int build_admin(struct check *check, uv_loop_t *loop)
{
    static const struct tf_reloads none;
    struct tf_admin *admin = NULL;
    int rc = tf_admin_new(
        &(struct tf_admin_args){
            .loop = loop, .config = check->config, .version = "", .reloads = &none},
        &admin, &check->err);

    if (rc == 0) {
        tf_admin_close(admin, on_admin_closed, NULL); /* never started: at once */
    }
    return rc;
}

/* Opens every plugin, and closes it again. */
static int build(struct check *check)
{
    struct tf_pipeline *pipeline = NULL;
    bool is_stopped = false;
    uv_loop_t loop;
    int rc = uv_loop_init(&loop), admin_rc;

    if (rc < 0) {
        return rc;
    }
    admin_rc = build_admin(check, &loop);
    rc = tf_pipeline_new(&loop, check->config, &pipeline, &check->err);
    if (rc == 0 && check->err.errors == 0 && !check->connects) {
        tf_pipeline_summarize(pipeline, &check->reads, &check->ships);
    }
    if (pipeline != NULL) {
        tf_pipeline_stop(pipeline, on_stopped, &is_stopped);
        (void)uv_run(&loop, UV_RUN_DEFAULT);
        tf_pipeline_free(pipeline);
        rc = rc == 0 && !is_stopped ? -EBUSY : rc;
    }
    (void)uv_loop_close(&loop);
    return rc == 0 ? admin_rc : rc;
}

/* Returns 0 when all was looked at, whatever was found; else a negative errno. */
static int look(struct check *check)
{
    size_t errors;
    int rc = tf_config_load(check->file, &tf_plugins, &check->config, &check->err);

    if (rc < 0) {
        return rc;
    }
    (void)tf_sandbox_check(&check->config->sandbox, &check->err);
    rc = build(check);
    errors = check->err.errors;
    if (rc == 0 || (rc != -ENOMEM && errors > 0)) {
        rc = tf_spool_check(&check->config->spool, &check->err);
    }
    return check->err.errors > 0 && rc != -ENOMEM ? 0 : rc;
}

/* ---- what is told --------------------------------------------------------------------------- */

static void print_size(FILE *to, uint64_t bytes)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    size_t i = 0;
    uint64_t whole = bytes;

    while (i + 1 < TF_COUNT(units) && whole >= 1024 && whole % 1024 == 0) {
        whole /= 1024;
        i++;
    }
    (void)fprintf(to, "%llu%s", (unsigned long long)whole, units[i]);
}

static void print_summary(FILE *to, const char *title, const struct tf_buf *text)
{
    (void)fprintf(to, "  %-8s%.*s\n", title, (int)text->size, text->data);
}

static void print_spool(FILE *to, const struct tf_spool_options *spool)
{
    uint64_t free_bytes = tf_spool_free_bytes(spool);
    bool is_large = free_bytes >> 30 >= 10;
    char count[TF_COUNT_TEXT_BYTES];

    (void)fprintf(to, "  spool   %s: ", spool->path.text);
    print_size(to, spool->max_size_bytes);
    (void)fprintf(to, ", encrypted%s", tf_spool_would_seal(spool) ? ", sealed" : "");
    if (free_bytes != UINT64_MAX) {
        (void)fprintf(to, "; %s %s free on its disk",
                      tf_count_text(free_bytes >> (is_large ? 30 : 20), count),
                      is_large ? "GiB" : "MiB");
    }
    (void)fputs("\n", to);
}

/* What is to be told of a filter with rules; it is opened once more for that. */
static struct tf_filter_facts find_facts(const struct tf_plugin_config *item)
{
    const struct tf_filter_kind *kind = item->kind;
    const struct tf_filter_args args = {
        .name = item->name, .options = item->options, .at = item->at};
    struct tf_filter_facts facts = {.rules = 0};
    struct tf_error err;
    void *self;

    tf_error_init(&err);
    if (kind->facts != NULL && kind->open(&args, &self, &err) == 0) {
        kind->facts(self, &facts);
        kind->close(self);
    }
    tf_error_fini(&err);
    return facts;
}

static void print_filters(FILE *to, const struct tf_config *config)
{
    (void)fputs("  filters ", to);
    for (size_t i = 0; i < config->filters.count; i++) {
        const struct tf_plugin_config *item = &config->filters.items[i];
        struct tf_filter_facts facts = find_facts(item);

        (void)fprintf(to, "%s%s", i > 0 ? ", " : "", item->name);
        if (facts.rules > 0) {
            (void)fprintf(to, ": %u %s, %.0f ns a line here", facts.rules,
                          tf_plural(facts.rules, "rule", "rules"), facts.ns_a_line);
        }
        if (facts.own_rules > 0) {
            (void)fprintf(to, "; %u own, %.0f of %.0f ns", facts.own_rules, facts.own_ns_a_line,
                          facts.own_ns_max);
        }
    }
    if (config->redact_off) {
        (void)fprintf(to, "%sredact is off", config->filters.count > 0 ? ", " : "");
    }
    (void)fputs("\n", to);
}

static void print_sound(FILE *to, const struct check *check)
{
    const struct tf_config *config = check->config;

    (void)fprintf(to, "%s: sound", check->file);
    if (check->err.warnings > 0) {
        (void)fprintf(to, ", %zu warning%s", check->err.warnings,
                      check->err.warnings == 1 ? "" : "s");
    }
    (void)fputs("\n", to);
    print_summary(to, "reads", &check->reads);
    print_filters(to, config);
    print_spool(to, &config->spool);
    print_summary(to, "ships", &check->ships);
    (void)fputs("not tried: the network (--connect)\n", to);
}

static void print_unsound(const struct check *check)
{
    const struct tf_error *err = &check->err;

    if (check->config == NULL) {
        (void)fputs("not looked at yet: rules, certificates and the spool\n", stderr);
    }
    if (check->connects) {
        (void)fputs("not tried yet: the network\n", stderr);
    }
    (void)fprintf(stderr, "%zu error%s, %zu warning%s; %s\n", err->errors,
                  err->errors == 1 ? "" : "s", err->warnings, err->warnings == 1 ? "" : "s",
                  err->errors > 0 ? "this configuration would not start"
                                  : "--strict takes warnings for errors");
}

/* Prints all, and goes on to the network if that is wanted; returns the exit code. */
static int report(const struct check *check, int rc)
{
    bool is_sound = check->err.errors == 0 && !(check->is_strict && check->err.warnings > 0);
    char reason[128];

    if (check->as_json) {
        tf_error_print_json(&check->err, stdout);
    } else {
        (void)tf_error_print(&check->err, stderr);
    }
    if (rc < 0 && (rc == -ENOMEM || check->err.errors == 0)) {
        (void)fprintf(stderr, "check: cannot go on: %s\n",
                      uv_strerror_r(rc, reason, sizeof reason));
        return TF_EXIT_CANNOT_RUN;
    }
    if (rc < 0 && rc != -EINVAL) {
        return TF_EXIT_USAGE; /* the file cannot be read, and that is said */
    }
    if (!is_sound) {
        print_unsound(check);
        return TF_EXIT_FOUND;
    }
    if (check->connects) {
        return tf_check_connect(check->config, check->as_json);
    }
    print_sound(check->as_json ? stderr : stdout, check);
    return TF_EXIT_FINE;
}

/* Returns TF_EXIT_FINE to go on; else, or with *is_help, what to exit with. */
static int read_arguments(int argc, char **argv, struct check *check, bool *is_help)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0) {
            *is_help = true;
            (void)fputs(usage, stdout);
            return TF_EXIT_FINE;
        }
        if (strcmp(argv[i], "-c") == 0 && i + 1 < argc) {
            check->file = argv[++i];
        } else if (strcmp(argv[i], "--json") == 0) {
            check->as_json = true;
        } else if (strcmp(argv[i], "--strict") == 0) {
            check->is_strict = true;
        } else if (strcmp(argv[i], "--connect") == 0) {
            check->connects = true;
        } else {
            (void)fprintf(stderr, "check: \"%s\" is no option of it\n%s", argv[i], usage);
            return TF_EXIT_USAGE;
        }
    }
    return TF_EXIT_FINE;
}

int tf_command_check(int argc, char **argv)
{
    struct check check = {.file = TF_CONFIG_FILE_DEFAULT};
    bool is_help = false;
    int code = read_arguments(argc, argv, &check, &is_help);

    if (is_help || code != TF_EXIT_FINE) {
        return code;
    }
    tf_log_configure(TF_LOG_ERROR, TF_LOG_LOGFMT); /* what is built only to be looked at is quiet */
    tf_error_init(&check.err);
    tf_buf_init(&check.reads, SUMMARY_MAX);
    tf_buf_init(&check.ships, SUMMARY_MAX);
    code = report(&check, look(&check));
    tf_buf_fini(&check.reads);
    tf_buf_fini(&check.ships);
    tf_error_fini(&check.err);
    tf_config_free(check.config);
    return code;
}
