/*
 * fuzz_config.c - any bytes as a configuration: it is taken, or there is at least one error.
 *
 * The kinds have an option of each type, and short names, so that the fuzzer finds them.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "taffrail/config.h"
#include "taffrail/filter.h"
#include "taffrail/input.h"
#include "taffrail/output.h"

struct options {
    struct tf_text text, path;
    struct tf_texts texts, paths;
    struct tf_pairs map;
    struct tf_tables tables;
    struct tf_sync_option sync;
    uint64_t size, time, count, octal;
    int choice;
    bool flag, has_table;
};

static const struct tf_option inner[] = {
    {.name = "m", .type = TF_OPTION_MAP, .offset = offsetof(struct options, map)},
    {.name = "y", .type = TF_OPTION_SYNC, .offset = offsetof(struct options, sync), .def = "1s"},
    {0},
};

static const struct tf_option item[] = {
    {.name = "t", .type = TF_OPTION_TEXT, .offset = 0, .required = true, .about = "a text"},
    {0},
};

static const struct tf_option table[] = {
    {.name = "t", .type = TF_OPTION_TEXT, .offset = offsetof(struct options, text)},
    {.name = "p", .type = TF_OPTION_PATH, .offset = offsetof(struct options, path), .def = "x"},
    {.name = "l", .type = TF_OPTION_TEXTS, .offset = offsetof(struct options, texts)},
    {.name = "g",
     .type = TF_OPTION_PATHS,
     .offset = offsetof(struct options, paths),
     .def = "[\"/a/**\", b]"},
    {.name = "s",
     .type = TF_OPTION_SIZE,
     .offset = offsetof(struct options, size),
     .min = 3,
     .max = 1 << 20},
    {.name = "d", .type = TF_OPTION_TIME, .offset = offsetof(struct options, time), .max = 99999},
    {.name = "c", .type = TF_OPTION_COUNT, .offset = offsetof(struct options, count), .min = 2},
    {.name = "o", .type = TF_OPTION_OCTAL, .offset = offsetof(struct options, octal), .max = 0777},
    {.name = "b", .type = TF_OPTION_SWITCH, .offset = offsetof(struct options, flag)},
    {.name = "w",
     .type = TF_OPTION_CHOICE,
     .offset = offsetof(struct options, choice),
     .choices = "one|two|three"},
    {.name = "i",
     .type = TF_OPTION_TABLE,
     .table = inner,
     .present_offset = offsetof(struct options, has_table)},
    {.name = "q",
     .type = TF_OPTION_TABLES,
     .offset = offsetof(struct options, tables),
     .table = item,
     .table_bytes = sizeof(struct tf_text)},
    {0},
};

static const struct tf_input_kind reader = {
    .name = "r", .options = table, .options_bytes = sizeof(struct options)};
static const struct tf_input_kind receiver = {
    .name = "v", .options = table, .options_bytes = sizeof(struct options), .is_receiver = true};
static const struct tf_filter_kind redact = {
    .name = "redact", .options = table, .options_bytes = sizeof(struct options)};
static const struct tf_filter_kind edit = {.name = "e"};
static const struct tf_output_kind writer = {
    .name = "w", .options = table, .options_bytes = sizeof(struct options)};

static const struct tf_input_kind *const inputs[] = {&reader, &receiver, NULL};
static const struct tf_filter_kind *const filters[] = {&redact, &edit, NULL};
static const struct tf_output_kind *const outputs[] = {&writer, NULL};
static const struct tf_plugins plugins = {inputs, filters, outputs};

/* What holds of every configuration that is taken. */
static void check(const struct tf_config *config)
{
    assert(config->inputs.count > 0 && config->outputs.count > 0);
    assert(config->agent.host.text != NULL && config->agent.host.text[0] != '\0');
    assert(config->spool.path.text[0] == '/');
    assert(config->redact_off || config->filters.items[config->filters.count - 1].kind == &redact);
    for (size_t i = 0; i < config->inputs.count; i++) {
        const struct options *options = config->inputs.items[i].options;

        assert(strlen(config->inputs.items[i].name) <= 63);
        assert(options->path.text[0] == '/' && options->paths.count > 0);
        assert(options->size <= 1 << 20 && options->octal <= 0777 && options->choice <= 2);
    }
    for (size_t i = 0; i < config->outputs.count; i++) {
        assert(config->outputs.items[i].match.count > 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct tf_config *config = NULL;
    struct tf_error err;
    char *copy = malloc(size == 0 ? 1 : size); /* exact: reading past it is seen */
    int rc;

    if (copy == NULL) {
        return 0;
    }
    memcpy(copy, data, size);
    tf_error_init(&err);
    rc = tf_config_parse(tf_slice(copy, size), "f", "/etc", &plugins, &config, &err);
    free(copy); /* nothing may borrow from it */
    if (rc == 0) {
        check(config);
    } else {
        assert(config == NULL && (err.errors > 0 || rc == -ENOMEM));
    }
    tf_config_free(config);
    tf_error_fini(&err);
    return 0;
}
