/* test_config.c - one file becomes typed options, or all that is wrong with it, in words. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../agent/config/internal.h"
#include "taffrail/filter.h"
#include "taffrail/input.h"
#include "taffrail/log.h"
#include "taffrail/output.h"

/* ---- kinds of our own, with an option of each type ------------------------------------------ */

struct read_options {
    struct tf_texts paths, exclude;
    int start_at;
    uint64_t max_line_bytes, rescan_ms, count, any_size;
    bool follow;
};

static const struct tf_option exclude_table[] = {
    {.name = "pod", .type = TF_OPTION_TEXTS, .offset = offsetof(struct read_options, exclude)},
    {0},
};

static const struct tf_option read_table[] = {
    {.name = "paths",
     .type = TF_OPTION_PATHS,
     .offset = offsetof(struct read_options, paths),
     .def = "[\"/var/log/*.log\", docker]"},
    {.name = "exclude", .type = TF_OPTION_TABLE, .table = exclude_table},
    {.name = "start_at",
     .type = TF_OPTION_CHOICE,
     .offset = offsetof(struct read_options, start_at),
     .def = "newest",
     .choices = "oldest|newest"},
    {.name = "max_line",
     .type = TF_OPTION_SIZE,
     .offset = offsetof(struct read_options, max_line_bytes),
     .def = "1MiB",
     .min = 4096,
     .max = 16 << 20},
    {.name = "rescan",
     .type = TF_OPTION_TIME,
     .offset = offsetof(struct read_options, rescan_ms),
     .def = "10s",
     .min = 1000,
     .max = 3600000},
    {.name = "count",
     .type = TF_OPTION_COUNT,
     .offset = offsetof(struct read_options, count),
     .max = 2000},
    {.name = "any_size", .type = TF_OPTION_SIZE, .offset = offsetof(struct read_options, any_size)},
    {.name = "follow",
     .type = TF_OPTION_SWITCH,
     .offset = offsetof(struct read_options, follow),
     .def = "true"},
    {0},
};

struct allow_item {
    struct tf_text identity;
    struct tf_texts tags;
};

struct receive_options {
    struct tf_tables allow;
};

static const struct tf_option allow_table[] = {
    {.name = "identity",
     .type = TF_OPTION_TEXT,
     .offset = offsetof(struct allow_item, identity),
     .required = true,
     .about = "who"},
    {.name = "tags",
     .type = TF_OPTION_TEXTS,
     .offset = offsetof(struct allow_item, tags),
     .def = "**"},
    {0},
};

static const struct tf_option receive_table[] = {
    {.name = "allow",
     .type = TF_OPTION_TABLES,
     .offset = offsetof(struct receive_options, allow),
     .required = true,
     .table = allow_table,
     .table_bytes = sizeof(struct allow_item)},
    {0},
};

struct send_options {
    struct tf_texts hosts;
    struct tf_text cert;
    bool has_tls;
};

static const struct tf_option tls_table[] = {
    {.name = "cert",
     .type = TF_OPTION_PATH,
     .offset = offsetof(struct send_options, cert),
     .required = true,
     .about = "certificate"},
    {0},
};

static const struct tf_option send_table[] = {
    {.name = "hosts",
     .type = TF_OPTION_TEXTS,
     .offset = offsetof(struct send_options, hosts),
     .required = true,
     .is_exclusive = true,
     .about = "where to send"},
    {.name = "tls",
     .type = TF_OPTION_TABLE,
     .table = tls_table,
     .present_offset = offsetof(struct send_options, has_tls)},
    {0},
};

struct write_options {
    struct tf_text path;
    uint64_t mode;
};

static const struct tf_option write_table[] = {
    {.name = "path",
     .type = TF_OPTION_PATH,
     .offset = offsetof(struct write_options, path),
     .def = "/srv/records"},
    {.name = "mode",
     .type = TF_OPTION_OCTAL,
     .offset = offsetof(struct write_options, mode),
     .def = "0640",
     .max = 0777},
    {0},
};

struct redact_options {
    struct tf_text replacement;
};

static const struct tf_option redact_table[] = {
    {.name = "replacement",
     .type = TF_OPTION_TEXT,
     .offset = offsetof(struct redact_options, replacement),
     .def = "[REDACTED:{rule}]"},
    {0},
};

static const struct tf_input_kind read_kind = {
    .name = "read", .options = read_table, .options_bytes = sizeof(struct read_options)};
static const struct tf_input_kind receive_kind = {.name = "receive",
                                                  .options = receive_table,
                                                  .options_bytes = sizeof(struct receive_options),
                                                  .is_receiver = true};
static const struct tf_filter_kind redact_kind = {
    .name = "redact", .options = redact_table, .options_bytes = sizeof(struct redact_options)};
static const struct tf_filter_kind edit_kind = {.name = "edit"};
static const struct tf_output_kind send_kind = {
    .name = "send", .options = send_table, .options_bytes = sizeof(struct send_options)};
static const struct tf_output_kind write_kind = {
    .name = "write", .options = write_table, .options_bytes = sizeof(struct write_options)};

#define LONG_KEY(number)                                                                           \
    {                                                                                              \
        .name = "a_key_so_long_that_a_list_of_some_such_does_not_fit_into_one_hint_"               \
                "although_hints_have_room_for_many_" number,                                       \
        .type = TF_OPTION_COUNT, .offset = offsetof(struct send_options, hosts)                    \
    }

static const struct tf_option link_table[] = {
    {.name = "tls", .type = TF_OPTION_TABLE, .required = true, .table = tls_table, .about = "both"},
    LONG_KEY("1"),
    LONG_KEY("2"),
    LONG_KEY("3"),
    LONG_KEY("4"),
    LONG_KEY("5"),
    {0},
};

static const struct tf_input_kind *const inputs[] = {&read_kind, &receive_kind, NULL};
static const struct tf_filter_kind *const filters[] = {&redact_kind, &edit_kind, NULL};
static const struct tf_output_kind link_kind = {
    .name = "link", .options = link_table, .options_bytes = sizeof(struct send_options)};
static const struct tf_output_kind *const outputs[] = {&send_kind, &write_kind, &link_kind, NULL};
static const struct tf_plugins plugins = {inputs, filters, outputs};

/* ---- helpers -------------------------------------------------------------------------------- */

#define OUTPUTS     "outputs: [write: {}]\n"
#define SMALL_INPUT "inputs: [read: {}]\n"
#define SMALL       SMALL_INPUT OUTPUTS

static int parse(const char *text, size_t size, struct tf_config **out, struct tf_error *err)
{
    return tf_config_parse(tf_slice(text, size), "t.yaml", "/etc/taffrail", &plugins, out, err);
}

static char *printed(const struct tf_error *err)
{
    char *text = NULL;
    size_t size;
    FILE *to = open_memstream(&text, &size);

    assert_non_null(to);
    (void)tf_error_print(err, to);
    assert_int_equal(fclose(to), 0);
    return text;
}

/* Every finding of text, exactly; text may hold NULs when size is given. */
static void finds_in(const char *text, size_t size, const char *wanted)
{
    struct tf_config *config = NULL;
    struct tf_error err;
    char *got;

    tf_error_init(&err);
    assert_int_equal(parse(text, size, &config, &err), -EINVAL);
    assert_null(config);
    got = printed(&err);
    assert_string_equal(got, wanted);
    free(got);
    tf_error_fini(&err);
}

static void finds(const char *text, const char *wanted)
{
    finds_in(text, strlen(text), wanted);
}

/* A value in the input `read`: what follows "t.yaml:1:16: error: ". */
static void read_finds(const char *options, const char *wanted)
{
    char text[4096], findings[4096];

    (void)snprintf(text, sizeof text, "inputs: [read: {%s}]\n" OUTPUTS, options);
    (void)snprintf(findings, sizeof findings, "t.yaml:1:%zu: error: %s\n",
                   strcspn(options, ":") + 19, wanted);
    finds(text, findings);
}

/* The configuration of a sound text. */
static struct tf_config *sound(const char *text)
{
    struct tf_config *config = NULL;
    struct tf_error err;

    tf_error_init(&err);
    if (parse(text, strlen(text), &config, &err) < 0) {
        fail_msg("%s", tf_error_first(&err));
    }
    assert_int_equal(err.errors, 0);
    tf_error_fini(&err);
    return config;
}

static const struct read_options *read_of(const struct tf_config *config)
{
    return config->inputs.items[0].options;
}

/* ---- sound files ---------------------------------------------------------------------------- */

static void smallest_file_has_all_defaults(void **state)
{
    struct tf_config *config = sound(SMALL);
    const struct write_options *file = config->outputs.items[0].options;
    const struct redact_options *redact = config->filters.items[0].options;
    char host[256] = "";

    (void)state;
    assert_int_equal(gethostname(host, sizeof host - 1), 0);
    assert_string_equal(config->agent.host.text, host);
    assert_null(config->agent.host.at.file);
    assert_int_equal(config->agent.log_level, TF_LOG_INFO);
    assert_int_equal(config->agent.log_format, TF_LOG_LOGFMT);
    assert_int_equal(config->agent.workers, 0);
    assert_int_equal(config->agent.stop_timeout_ms, 10000);
    assert_string_equal(config->spool.path.text, "/var/lib/taffrail/spool");
    assert_true(config->spool.max_size_bytes == 1u << 30);
    assert_true(config->spool.keep_free_bytes == 1u << 30);
    assert_int_equal(config->spool.on_full, TF_ON_FULL_PAUSE);
    assert_int_equal(config->spool.sync.mode, TF_SYNC_INTERVAL);
    assert_int_equal(config->spool.sync.interval_ms, 200);
    assert_int_equal(config->spool.keys.count, 0);
    assert_int_equal(config->spool.retain_age_ms, 0);
    assert_null(config->spool.auditor.text);
    assert_true(config->spool.shred);
    assert_int_equal(config->spool.retain_size_bytes, 0);
    assert_int_equal(config->spool.compress, TF_COMPRESS_AUTO);
    assert_int_equal(config->spool.segment_size_bytes, 64 << 20);
    assert_int_equal(config->inputs.count, 1);
    assert_ptr_equal(config->inputs.items[0].kind, &read_kind);
    assert_string_equal(config->inputs.items[0].name, "read");
    assert_string_equal(config->inputs.items[0].tag, "read");
    assert_int_equal(config->inputs.items[0].at.line, 1);
    assert_int_equal(config->inputs.items[0].at.column, 10);
    assert_string_equal(config->outputs.items[0].match.items[0].text, "**");
    assert_string_equal(file->path.text, "/srv/records");
    assert_int_equal(file->mode, 0640);
    assert_int_equal(config->filters.count, 1);
    assert_string_equal(config->filters.items[0].name, "redact");
    assert_string_equal(redact->replacement.text, "[REDACTED:{rule}]");
    assert_false(config->redact_off);
    tf_config_free(config);
}

static void absent_options_have_defaults_and_a_place(void **state)
{
    struct tf_config *config = sound("outputs:\n  - write: {}\ninputs:\n  - read: {}\n");
    const struct read_options *options = read_of(config);

    (void)state;
    assert_int_equal(options->paths.count, 2);
    assert_string_equal(options->paths.items[0].text, "/var/log/*.log");
    assert_string_equal(options->paths.items[1].text, "/etc/taffrail/docker");
    assert_int_equal(options->paths.at.line, 4);
    assert_int_equal(options->paths.at.column, 5);
    assert_string_equal(options->paths.at.file, "t.yaml");
    assert_int_equal(options->exclude.count, 0);
    assert_int_equal(options->exclude.at.line, 4);
    assert_int_equal(options->start_at, 1);
    assert_int_equal(options->max_line_bytes, 1 << 20);
    assert_int_equal(options->rescan_ms, 10000);
    assert_int_equal(options->count, 0);
    assert_true(options->follow);
    tf_config_free(config);
}

static void every_type_is_read(void **state)
{
    struct tf_config *config = sound(
        "agent:\n"
        "  host: node-7\n"
        "  labels: {cluster: prod, empty: '', yes: 'no'}\n"
        "  log: {level: error, format: json}\n"
        "  workers: 16\n"
        "  stop_timeout: 0\n"
        "inputs:\n"
        "  - read: {name: apps-1, tag: 'apps.{namespace}', paths: logs/*.log, exclude: {pod: [a, "
        "b]},\n"
        "           start_at: oldest, max_line: 4096B, rescan: 2m, count: 2000, follow: false}\n"
        "  - receive: {allow: [{identity: x}, {identity: y, tags: [t, u]}]}\n"
        "outputs:\n"
        "  - send: {name: audit, match: [taffrail.audit, '**'], hosts: h, tls: {cert: c.pem}}\n"
        "  - write: {path: out, mode: 0600}\n");
    const struct read_options *options = read_of(config);
    const struct receive_options *receive = config->inputs.items[1].options;
    const struct allow_item *allow = receive->allow.items;
    const struct send_options *send = config->outputs.items[0].options;
    const struct write_options *file = config->outputs.items[1].options;

    (void)state;
    assert_string_equal(config->agent.host.text, "node-7");
    assert_int_equal(config->agent.labels.count, 3);
    assert_string_equal(config->agent.labels.items[0].key.text, "cluster");
    assert_string_equal(config->agent.labels.items[0].value.text, "prod");
    assert_string_equal(config->agent.labels.items[1].value.text, "");
    assert_int_equal(config->agent.log_level, TF_LOG_ERROR);
    assert_int_equal(config->agent.log_format, TF_LOG_JSON);
    assert_int_equal(config->agent.workers, 16);
    assert_int_equal(config->agent.stop_timeout_ms, 0);
    assert_string_equal(config->inputs.items[0].name, "apps-1");
    assert_string_equal(config->inputs.items[0].tag, "apps.{namespace}");
    assert_int_equal(options->paths.count, 1);
    assert_string_equal(options->paths.items[0].text, "/etc/taffrail/logs/*.log");
    assert_string_equal(options->exclude.items[1].text, "b");
    assert_int_equal(options->start_at, 0);
    assert_int_equal(options->max_line_bytes, 4096);
    assert_int_equal(options->rescan_ms, 120000);
    assert_int_equal(options->count, 2000);
    assert_false(options->follow);
    assert_int_equal(receive->allow.count, 2);
    assert_string_equal(allow[0].identity.text, "x");
    assert_string_equal(allow[0].tags.items[0].text, "**");
    assert_string_equal(allow[1].tags.items[1].text, "u");
    assert_string_equal(config->outputs.items[0].name, "audit");
    assert_string_equal(send->hosts.items[0].text, "h");
    assert_true(send->has_tls);
    assert_string_equal(send->cert.text, "/etc/taffrail/c.pem");
    assert_string_equal(file->path.text, "/etc/taffrail/out");
    assert_int_equal(file->mode, 0600);
    tf_config_free(config);
}

static void every_key_of_the_spool_is_read(void **state)
{
    struct tf_config *config = sound("spool:\n"
                                     "  path: ./spool\n"
                                     "  max_size: 4GiB\n"
                                     "  keep_free: 0\n"
                                     "  sync: 5ms\n"
                                     "  keys: [a.key, /k/b.key]\n"
                                     "  auditor: audit/auditor.pem\n"
                                     "  retain: {age: 7d, size: 20GB}\n"
                                     "  on_full: drop_oldest\n"
                                     "  shred: false\n"
                                     "  compress: zlib\n"
                                     "  segment_size: 1024KiB\n"
                                     "inputs: [read: {paths: a}]\n"
                                     "outputs: [write: {path: out}]\n");

    (void)state;
    assert_string_equal(config->spool.path.text, "/etc/taffrail/spool");
    assert_true(config->spool.max_size_bytes == UINT64_C(4) << 30);
    assert_int_equal(config->spool.keep_free_bytes, 0);
    assert_int_equal(config->spool.sync.interval_ms, 5);
    assert_string_equal(config->spool.keys.items[0].text, "/etc/taffrail/a.key");
    assert_string_equal(config->spool.keys.items[1].text, "/k/b.key");
    assert_int_equal(config->spool.retain_age_ms, 7 * 86400000);
    assert_non_null(strstr(config->spool.auditor.text, "/audit/auditor.pem"));
    assert_int_equal(config->spool.on_full, TF_ON_FULL_DROP_OLDEST);
    assert_false(config->spool.shred);
    assert_true(config->spool.retain_size_bytes == UINT64_C(20000000000));
    assert_int_equal(config->spool.compress, TF_COMPRESS_ZLIB);
    assert_int_equal(config->spool.segment_size_bytes, 1 << 20);
    tf_config_free(config);
}

static void sizes_and_times_have_all_their_units(void **state)
{
    static const struct {
        const char *text;
        uint64_t bytes;
    } sizes[] = {{"7B", 7},
                 {"3KiB", 3072},
                 {"2MiB", 2 << 20},
                 {"1GiB", 1 << 30},
                 {"2TiB", UINT64_C(2) << 40},
                 {"3KB", 3000},
                 {"2MB", 2000000},
                 {"1GB", 1000000000},
                 {"2TB", UINT64_C(2000000000000)},
                 {"0", 0},
                 {"0MiB", 0}};
    static const struct {
        const char *text;
        uint64_t ms;
    } times[] = {{"1000ms", 1000}, {"2s", 2000}, {"3m", 180000}, {"1h", 3600000}};

    (void)state;
    for (size_t i = 0; i < TF_COUNT(sizes); i++) {
        char text[128];
        struct tf_config *config;

        (void)snprintf(text, sizeof text, "inputs: [read: {any_size: %s}]\n" OUTPUTS,
                       sizes[i].text);
        config = sound(text);
        assert_true(read_of(config)->any_size == sizes[i].bytes);
        tf_config_free(config);
    }
    for (size_t i = 0; i < TF_COUNT(times); i++) {
        char text[128];
        struct tf_config *config;

        (void)snprintf(text, sizeof text, "inputs: [read: {rescan: %s}]\n" OUTPUTS, times[i].text);
        config = sound(text);
        assert_true(read_of(config)->rescan_ms == times[i].ms);
        tf_config_free(config);
    }
}

static void sync_is_a_time_always_or_never(void **state)
{
    struct tf_config *config = sound("spool: {sync: always}\n" SMALL);

    (void)state;
    assert_int_equal(config->spool.sync.mode, TF_SYNC_ALWAYS);
    assert_int_equal(config->spool.sync.interval_ms, 200);
    tf_config_free(config);
    config = sound("spool: {sync: never}\n" SMALL);
    assert_int_equal(config->spool.sync.mode, TF_SYNC_NEVER);
    assert_int_equal(config->spool.sync.interval_ms, 200);
    tf_config_free(config);
}

static void digest_is_the_hash_of_the_bytes(void **state)
{
    static const uint8_t start[] = {0xe3, 0xb0}; /* of nothing */
    struct tf_config *one = sound(SMALL), *two = sound(SMALL "# more\n");

    (void)state;
    assert_memory_not_equal(one->mark.digest, start, sizeof start);
    assert_memory_not_equal(one->mark.digest, two->mark.digest, sizeof one->mark.digest);
    tf_config_free(one);
    tf_config_free(two);
    tf_config_free(NULL);
}

static void changes(const char *before, const char *after, const char *wanted)
{
    struct tf_config *one = sound(before), *two = sound(after);
    char names[TF_CONFIG_NAMES_BYTES];

    tf_config_changed(&one->mark, &two->mark, names);
    assert_string_equal(names, wanted);
    tf_config_free(one);
    tf_config_free(two);
}

static void a_section_is_changed_by_what_it_says(void **state)
{
    (void)state;
    changes(SMALL, SMALL, "nothing");
    changes(SMALL, "# otherwise laid out\n" OUTPUTS "inputs:\n  - read:\n      {}\n", "nothing");
    changes(SMALL, SMALL "spool: {sync: never}\n", "spool");
    changes(SMALL "spool: {sync: never}\n", SMALL "spool: {sync: always}\n", "spool");
    changes(SMALL "agent: {host: ab}\n", SMALL "agent: {host: abc}\n", "agent");
    changes(SMALL "agent: {host: ab}\nsandbox: {}\nadmin: {}\nspool: {}\nfilters: []\n", SMALL,
            "agent,filters,spool,sandbox,admin");
}

/* ---- environment ---------------------------------------------------------------------------- */

static void variables_expand_inside_values(void **state)
{
    struct tf_config *config;

    (void)state;
    assert_int_equal(setenv("TF_TEST_HOST", "node-9", 1), 0);
    assert_int_equal(setenv("TF_TEST_EMPTY", "", 1), 0);
    assert_int_equal(setenv("TF_TEST_DOLLAR", "${TF_TEST_HOST}", 1), 0);
    assert_int_equal(unsetenv("TF_TEST_UNSET"), 0);
    config = sound(
        "agent: {host: \"a-${TF_TEST_HOST}.${TF_TEST_UNSET:-b:-c}$\",\n"
        "        labels: {a: '${TF_TEST_EMPTY}', b: '${TF_TEST_EMPTY:-full}',\n"
        "                 c: '${TF_TEST_DOLLAR}', '${d}': $HOME}}\n"
        "spool: {path: '${TF_TEST_UNSET:-/s}/x', max_size: '${TF_TEST_UNSET:-2}MiB'}\n" SMALL);
    assert_string_equal(config->agent.host.text, "a-node-9.b:-c$");
    assert_string_equal(config->agent.labels.items[0].value.text, "");
    assert_string_equal(config->agent.labels.items[1].value.text, "full");
    assert_string_equal(config->agent.labels.items[2].value.text, "${TF_TEST_HOST}");
    assert_string_equal(config->agent.labels.items[3].key.text, "${d}");
    assert_string_equal(config->agent.labels.items[3].value.text, "$HOME");
    assert_string_equal(config->spool.path.text, "/s/x");
    assert_int_equal(config->spool.max_size_bytes, 2 << 20);
    tf_config_free(config);
}

static void wrong_variables_are_told_without_what_they_hold(void **state)
{
    char big[40000];

    (void)state;
    memset(big, 'x', sizeof big - 1);
    big[sizeof big - 1] = '\0';
    assert_int_equal(setenv("TF_TEST_SECRET", "hunter22M", 1), 0);
    assert_int_equal(setenv("TF_TEST_NUMBER", "64", 1), 0);
    assert_int_equal(setenv("TF_TEST_LETTER", "64M", 1), 0);
    assert_int_equal(setenv("TF_TEST_LATIN", "\xe9t\xe9", 1), 0);
    assert_int_equal(setenv("TF_TEST_BIG", big, 1), 0);
    assert_int_equal(unsetenv("TF_TEST_UNSET"), 0);
    finds("agent:\n"
          "  host: ${TF_TEST_UNSET}\n"
          "  labels: {a: '${}', b: '${1x}', c: 'x${y', d: '${TF_TEST_LATIN}',\n"
          "           e: '${TF_TEST_BIG}${TF_TEST_BIG}', f: '${a b}'}\n"
          "  workers: ${TF_TEST_SECRET}\n"
          "  stop_timeout: ${TF_TEST_LETTER}\n"
          "spool:\n"
          "  max_size: ${TF_TEST_LETTER}\n"
          "  keep_free: ${TF_TEST_NUMBER}\n"
          "  sync: ${TF_TEST_SECRET}\n"
          "  path: '${TF_TEST_UNSET:-}'\n" SMALL,
          "t.yaml:2:9: error: agent.host: ${TF_TEST_UNSET} is not set; set it, or write "
          "${TF_TEST_UNSET:-default}\n"
          "t.yaml:3:15: error: agent.labels: \"${}\" holds no variable's name between ${ and }; "
          "write ${NAME} or ${NAME:-default}\n"
          "t.yaml:3:25: error: agent.labels: \"${1x}\" holds no variable's name between ${ and }; "
          "write ${NAME} or ${NAME:-default}\n"
          "t.yaml:3:37: error: agent.labels: \"x${y\" has no } behind its ${; "
          "write ${NAME}\n"
          "t.yaml:3:48: error: agent.labels: what ${TF_TEST_LATIN} holds is not UTF-8\n"
          "t.yaml:4:15: error: agent.labels: \"${TF_TEST_BIG}${TF_TEST_BIG}\", as it expands, is "
          "longer than 64KiB; no key needs so much\n"
          "t.yaml:4:50: error: agent.labels: \"${a b}\" holds no variable's name between ${ and }; "
          "write ${NAME} or ${NAME:-default}\n"
          "t.yaml:5:12: error: agent.workers: \"${TF_TEST_SECRET}\", as it expands, is not a "
          "count; write a whole number\n"
          "t.yaml:6:17: error: agent.stop_timeout: \"${TF_TEST_LETTER}\", as it expands, is not a "
          "time; write a whole number and ms, s, m, h or d, such as 30s\n"
          "t.yaml:8:13: error: spool.max_size: \"${TF_TEST_LETTER}\", as it expands, is not a "
          "size; write a whole number and B, KiB, MiB, GiB or TiB, such as 64KiB\n"
          "t.yaml:9:14: error: spool.keep_free: \"${TF_TEST_NUMBER}\", as it expands, has no "
          "unit; put one behind it, such as KiB or s\n"
          "t.yaml:10:9: error: spool.sync: \"${TF_TEST_SECRET}\", as it expands, is not a time, "
          "always or never; write a time such as 200ms\n"
          "t.yaml:11:9: error: spool.path: \"${TF_TEST_UNSET:-}\", as it expands, is empty; write "
          "a text, or leave it out\n");
}

/* ---- wrong values --------------------------------------------------------------------------- */

static void a_wrong_size_is_told_with_what_could_be_meant(void **state)
{
    (void)state;
    read_finds("max_line: 1M", "max_line: \"1M\" is not a size; write 1MiB (1,048,576 bytes) or "
                               "1MB (1,000,000)");
    read_finds("max_line: 64 kb", "max_line: \"64 kb\" is not a size; write 64KiB (65,536 bytes) "
                                  "or 64KB (64,000)");
    read_finds("max_line: 3gib", "max_line: \"3gib\" is not a size; write 3GiB (3,221,225,472 "
                                 "bytes) or 3GB (3,000,000,000)");
    read_finds("max_line: 1048576",
               "max_line: \"1048576\" is not a size, it has no unit; write 1048576B or 1048576KiB");
    for (const char *const *text =
             (const char *const[]){"much", "1.5MiB", "-1MiB", "5x", "KiB", "99999999999999999999B",
                                   "99999999999999999T", NULL};
         *text != NULL; text++) {
        char option[64], wanted[256];

        (void)snprintf(option, sizeof option, "max_line: %s", *text);
        (void)snprintf(wanted, sizeof wanted,
                       "max_line: \"%s\" is not a size; write a whole number and B, KiB, MiB, GiB "
                       "or TiB, such as 64KiB",
                       *text);
        read_finds(option, wanted);
    }
}

static void a_wrong_time_is_told_with_what_could_be_meant(void **state)
{
    (void)state;
    read_finds("rescan: 30sec", "rescan: \"30sec\" is not a time; write 30s");
    read_finds("rescan: 5 min", "rescan: \"5 min\" is not a time; write 5m");
    read_finds("rescan: 5000msec", "rescan: \"5000msec\" is not a time; write 5000ms");
    read_finds("rescan: 5 Hours", "rescan: \"5 Hours\" is not a time; write 5h");
    read_finds("rescan: 30", "rescan: \"30\" is not a time, it has no unit; write 30s or 30ms");
    read_finds("rescan: 2w", "rescan: \"2w\" is not a time; write a whole number and ms, s, m, h "
                             "or d, such as 30s");
    read_finds("rescan: soon", "rescan: \"soon\" is not a time; write a whole number and ms, s, m, "
                               "h or d, such as 30s");
}

static void bounds_are_told_in_units(void **state)
{
    (void)state;
    read_finds("max_line: 1KiB", "max_line: \"1KiB\" is too small; write 4KiB or more");
    read_finds("max_line: 0", "max_line: \"0\" is too small; write 4KiB or more");
    read_finds("max_line: 17MiB", "max_line: \"17MiB\" is too large; write 16MiB or less");
    read_finds("max_line: 18000000TiB", "max_line: \"18000000TiB\" is too large; write 16MiB or "
                                        "less");
    read_finds("rescan: 10ms", "rescan: \"10ms\" is too small; write 1s or more");
    read_finds("rescan: 7d", "rescan: \"7d\" is too large; write 1h or less");
    read_finds("count: 2001", "count: \"2001\" is too large; write 2,000 or less");
}

static void other_scalars_say_what_they_want(void **state)
{
    (void)state;
    read_finds("count: 1e3", "count: \"1e3\" is not a count; write a whole number");
    read_finds("count: -1", "count: \"-1\" is not a count; write a whole number");
    read_finds("follow: yes", "follow: \"yes\" is not a switch; write true or false");
    read_finds("start_at: old", "start_at: \"old\" is not one of oldest|newest");
    read_finds("start_at: oldest|newest",
               "start_at: \"oldest|newest\" is not one of oldest|newest");
    finds("inputs: [read: {}]\noutputs: [write: {mode: 640}]\n",
          "t.yaml:2:25: error: mode: \"640\" is not a file mode; write it with a zero in front, "
          "such as 0640\n");
    finds("inputs: [read: {}]\noutputs: [write: {mode: 04755}]\n",
          "t.yaml:2:25: error: mode: \"04755\" is too large; write 0777 or less\n");
    finds("spool: {sync: sometimes}\n" SMALL,
          "t.yaml:1:15: error: spool.sync: \"sometimes\" is not a time, always or never; write a "
          "time such as 200ms\n");
    finds("spool: {sync: 0}\n" SMALL,
          "t.yaml:1:15: error: spool.sync: \"0\" is too small; write 1ms or more\n");
}

static void a_value_of_the_wrong_shape_says_what_it_wants(void **state)
{
    (void)state;
    read_finds("count: [1]", "count: this is a list; write one value");
    read_finds("count: {a: 1}", "count: this is a map; write one value");
    read_finds("paths: {a: b}", "paths: this is a map; write a list or one text");
    read_finds("paths: ~", "paths: is empty; write a list or one text, or leave the key out");
    read_finds("paths: ''", "paths: \"\" is empty; write a text, or leave it out");
    read_finds("paths: ~/x.log", "paths: \"~/x.log\" begins with ~, which only a shell knows; "
                                 "write the whole path, or ${HOME}");
    read_finds("exclude: kube", "exclude: this is a text; write exclude: {pod: ...}");
    read_finds("exclude: [kube]", "exclude: this is a list, not a map; write exclude: {pod: ...}");
    finds("agent:\n  host:\n  labels: [a]\n  log: ~\nspool:\n" SMALL,
          "t.yaml:2:8: error: agent.host: is empty; write one value, or leave the key out\n"
          "t.yaml:3:11: error: agent.labels: this is a list; write a map of texts\n"
          "t.yaml:4:8: error: agent.log: it is empty; write log: {level: ...}\n"
          "t.yaml:5:7: error: spool: it is empty; write spool: {path: ...}\n");
    finds("inputs:\n  - receive: {allow: {identity: x}}\n  - receive: {name: b, allow: [x]}\n"
          "  - receive: {name: c, allow: []}\n" OUTPUTS,
          "t.yaml:2:22: error: allow: this is a map, not a list of maps; write allow: [{identity: "
          "...}]\n"
          "t.yaml:3:32: error: allow: this is a text; write allow: [{identity: ...}]\n"
          "t.yaml:4:31: error: allow: the list is empty; it needs at least one\n");
}

static void the_sandbox_has_two_modes(void **state)
{
    struct tf_config *config = sound(SMALL);

    (void)state;
    assert_int_equal(config->sandbox.mode, TF_SANDBOX_NORMAL);
    tf_config_free(config);
    config = sound("sandbox: {mode: strict}\n" SMALL);
    assert_int_equal(config->sandbox.mode, TF_SANDBOX_STRICT);
    tf_config_free(config);
    finds("sandbox: {mode: default}\n" SMALL,
          "t.yaml:1:17: error: sandbox.mode: \"default\" is not one of normal|strict\n");
}

static void agent_values_are_checked(void **state)
{
    struct tf_buf text;

    (void)state;
    finds("agent: {host: '', labels: {'': x}}\n" SMALL,
          "t.yaml:1:15: error: agent.host: a host name has 1 to 255 bytes and no control "
          "characters\n"
          "t.yaml:1:28: error: agent.labels: a key is empty; name it\n");
    finds("agent: {host: \"a\\nb\"}\n" SMALL,
          "t.yaml:1:15: error: agent.host: a host name has 1 to 255 bytes and no control "
          "characters\n");
    finds("agent: {workers: 0}\n" SMALL,
          "t.yaml:1:18: error: agent.workers: \"0\" is too small; write 1 or more\n");
    tf_buf_init(&text, 4096);
    (void)tf_buf_append_text(&text, "agent: {labels: {");
    for (int i = 0; i < 65; i++) {
        (void)tf_buf_printf(&text, "k%d: v, ", i);
    }
    assert_int_equal(tf_buf_append_text(&text, "}}\n" SMALL), 0);
    finds_in(text.data, text.size,
             "t.yaml:1:17: error: agent.labels: 65 are too many; write 64 or less\n");
    tf_buf_fini(&text);
}

static void quoted_values_are_cut_and_escaped(void **state)
{
    (void)state;
    read_finds("count: 0123456789012345678901234567890123456789012345678901234567890123",
               "count: \"0123456789012345678901234567890123456789012345678901234567890123\" is not "
               "a count; write a whole number");
    read_finds("count: 012345678901234567890123456789012345678901234567890123456789012345678",
               "count: \"0123456789012345678901234567890123456789012345678901234567890123...\" is "
               "not a count; write a whole number");
    read_finds("count: 012345678901234567890123456789012345678901234567890123456789012éx",
               "count: \"012345678901234567890123456789012345678901234567890123456789012...\" is "
               "not a count; write a whole number");
    read_finds("count: \"1\\e[31m\"", "count: \"1\\x1b[31m\" is not a count; write a whole number");
}

/* ---- keys, kinds, sections ------------------------------------------------------------------ */

static void an_unknown_key_names_the_nearest(void **state)
{
    (void)state;
    finds("inputs:\n  - read:\n      exlude: {pod: x}\n      puths: a\n      start: oldest\n"
          "      exclude: {pdo: x}\n      Follow: true\n      mxa_line: 1MiB\n" OUTPUTS,
          "t.yaml:3:7: error: unknown key \"exlude\" in input \"read\"; nearest: \"exclude\"\n"
          "t.yaml:4:7: error: unknown key \"puths\" in input \"read\"; nearest: \"paths\"\n"
          "t.yaml:5:7: error: unknown key \"start\" in input \"read\"; known: name, tag, paths, "
          "exclude, start_at, max_line, rescan, count, any_size, follow\n"
          "t.yaml:6:17: error: unknown key \"pdo\" in exclude of input \"read\"; nearest: \"pod\"\n"
          "t.yaml:7:7: error: unknown key \"Follow\" in input \"read\"; nearest: \"follow\"\n"
          "t.yaml:8:7: error: unknown key \"mxa_line\" in input \"read\"; nearest: \"max_line\"\n");
}

static void keys_of_other_releases_are_unknown(void **state)
{
    (void)state;
    finds("kafka: {listen: x}\nsandbox: {calls: strict}\nspool: {seel: auto, key: [x]}\n"
          "agent: {log: {colour: x}}\nimputs: []\n"
          "filters: [multiline: {}]\ninputs: [journald: {}, raed: {}]\noutputs: [kafka: {}]\n",
          "t.yaml:1:1: error: unknown section \"kafka\"; known: agent, inputs, filters, spool, "
          "sandbox, outputs, admin\n"
          "t.yaml:2:11: error: unknown key \"calls\" in sandbox; known: mode, opener, "
          "required, user\n"
          "t.yaml:3:9: error: unknown key \"seel\" in spool; nearest: \"seal\"\n"
          "t.yaml:3:21: error: unknown key \"key\" in spool; nearest: \"keys\"\n"
          "t.yaml:4:15: error: unknown key \"colour\" in agent.log; known: level, format\n"
          "t.yaml:5:1: error: unknown section \"imputs\"; nearest: \"inputs\"\n"
          "t.yaml:6:11: error: unknown filter \"multiline\"; known: redact, edit\n"
          "t.yaml:7:10: error: unknown input \"journald\"; known: read, receive\n"
          "t.yaml:7:24: error: unknown input \"raed\"; nearest: \"read\"\n"
          "t.yaml:8:11: error: unknown output \"kafka\"; known: send, write, link\n");
}

static void long_words_have_no_near_one(void **state)
{
    (void)state;
    finds("inputs: [read: {}, "
          "long56789012345678901234567890123456789012345678901234567890123456789: {}]\n" OUTPUTS,
          "t.yaml:1:20: error: unknown input "
          "\"long567890123456789012345678901234567890123456789012345678901234...\"; known: read, "
          "receive\n");
}

static void admin_is_a_list_of_addresses_or_off(void **state)
{
    struct tf_config *config = sound(SMALL);

    (void)state;
    assert_int_equal(config->admin.listen.count, 1);
    assert_string_equal(config->admin.listen.items[0].text, "unix:/run/taffrail/admin.sock");
    assert_false(config->admin.is_written || config->admin.has_tls);
    tf_config_free(config);
    config = sound(SMALL "admin: {listen: off}\n");
    assert_true(config->admin.listen.count == 0 && config->admin.is_written);
    tf_config_free(config);
    config =
        sound(SMALL "admin: {listen: ['unix:/a', '[::1]:1'], tls: {ca: a, cert: b, key: c}}\n");
    assert_true(config->admin.listen.count == 2 && config->admin.has_tls);
    tf_config_free(config);
    finds(SMALL "admin: {listen: ['127.0.0.1:1', off]}\n",
          "t.yaml:3:33: error: admin.listen: off stands alone; leave it, or the addresses\n");
    finds(SMALL "admin: {listen: [a, a, a, a, a, a, a, a, a], tls: {ca: a}}\n",
          "t.yaml:3:17: error: admin.listen: 9 addresses are too many; write 8 or less\n"
          "t.yaml:3:46: error: key \"cert\" is missing in admin.tls; write cert: ... (Our "
          "certificate in PEM, then its intermediates.)\n"
          "t.yaml:3:46: error: key \"key\" is missing in admin.tls; write key: ... (The "
          "certificate's private key in PEM; others may not read it.)\n");
}

static void a_required_key_is_missed(void **state)
{
    (void)state;
    finds("inputs:\n  - read: {}\noutputs:\n  - send: {tls: {}}\n  - send: {hosts: [], name: b}\n",
          "t.yaml:4:5: error: key \"hosts\" is missing in output \"send\"; write hosts: ... (where "
          "to send)\n"
          "t.yaml:4:12: error: key \"cert\" is missing in tls of output \"send\"; write cert: ... "
          "(certificate)\n"
          "t.yaml:5:19: error: hosts: the list is empty; it needs at least one\n");
    finds("inputs: [receive: {allow: [{tags: x}]}]\n" OUTPUTS,
          "t.yaml:1:28: error: key \"identity\" is missing in allow of input \"receive\"; write "
          "identity: ... (who)\n");
}

static void a_required_map_is_missed_once(void **state)
{
    (void)state;
    finds("inputs: [read: {}]\noutputs: [link: {}]\n",
          "t.yaml:2:11: error: key \"tls\" is missing in output \"link\"; write tls: ... (both)\n");
}

static void a_long_list_of_known_words_is_cut(void **state)
{
    struct tf_config *config = NULL;
    struct tf_error err;
    static const char text[] =
        "inputs: [read: {}]\noutputs: [link: {nothing: 1, tls: {cert: c}}]\n";
    const char *first;

    (void)state;
    tf_error_init(&err);
    assert_int_equal(parse(text, strlen(text), &config, &err), -EINVAL);
    assert_int_equal(err.errors, 1);
    first = tf_error_first(&err);
    assert_string_equal(first + strlen(first) - strlen("_many_4, ..."), "_many_4, ...");
    tf_error_fini(&err);
}

/* ---- lists ---------------------------------------------------------------------------------- */

static void an_entry_is_a_map_with_one_key(void **state)
{
    (void)state;
    finds("inputs:\n  - read\n  - {}\n  - ~\n  - read: {}\n    name: b\n  - read:\n  - read: []\n"
          "  - read: x\n  - [read]\n" OUTPUTS,
          "t.yaml:2:5: error: inputs: \"read\" is not a map; write container: {}\n"
          "t.yaml:3:5: error: inputs: an entry is a map with one key, such as container: {}\n"
          "t.yaml:4:5: error: inputs: an entry is a map with one key, such as container: {}\n"
          "t.yaml:6:5: error: inputs: \"name\" stands beside \"read\", an entry has one key; "
          "indent it to put it into read, or begin an entry with -\n"
          "t.yaml:7:10: error: input \"read\" is empty, not a map; write read: {...}, or read: {} "
          "for its defaults\n"
          "t.yaml:8:11: error: input \"read\" is a list, not a map; write read: {...}, or read: {} "
          "for its defaults\n"
          "t.yaml:9:11: error: input \"read\" is a text, not a map; write read: {...}, or read: {} "
          "for its defaults\n"
          "t.yaml:10:5: error: inputs: an entry is a map with one key, such as container: {}\n");
}

static void inputs_and_outputs_are_needed(void **state)
{
    static const char no_outputs[] =
        "there are no outputs; write outputs: [forward: {hosts: [logs.example.com], tls: {ca: "
        "ca.pem, cert: node.pem, key: node.key}}]\n";
    char wanted[512];

    (void)state;
    (void)snprintf(wanted, sizeof wanted,
                   "t.yaml: error: there are no inputs; write inputs: [container: {}]\n"
                   "t.yaml: error: %s",
                   no_outputs);
    finds("agent: {}\n", wanted);
    /* written as an empty list: for who only reads a spool */
    (void)snprintf(wanted, sizeof wanted, "t.yaml:2:1: error: %s", no_outputs);
    finds("inputs: []\noutputs: []\n", wanted);
    finds("inputs: {read: {}}\n" OUTPUTS,
          "t.yaml:1:9: error: inputs: this is not a list; write inputs: [container: {}]\n");
    finds("filters:\n" SMALL,
          "t.yaml:1:9: error: filters: this is not a list; write filters: [redact: {}]\n");
}

static void lists_are_bounded(void **state)
{
    struct tf_buf text;

    (void)state;
    tf_buf_init(&text, 4096);
    (void)tf_buf_append_text(&text, OUTPUTS "inputs: [");
    for (int i = 0; i < 65; i++) {
        (void)tf_buf_append_text(&text, "read: {}, ");
    }
    assert_int_equal(tf_buf_append_text(&text, "]\n"), 0);
    finds_in(text.data, text.size,
             "t.yaml:2:9: error: inputs: 65 are too many; write 64 or less\n");
    tf_buf_fini(&text);
}

static void names_are_unique_and_plain(void **state)
{
    (void)state;
    finds("inputs:\n  - read: {}\n  - read: {}\n  - read: {name: b}\n  - read: {name: b}\n"
          "filters: [edit: {}, edit: {}]\n"
          "outputs:\n  - write: {}\n  - write: {}\n  - send: {name: Up, hosts: a}\n"
          "  - send: {name: taffrail, hosts: b}\n  - send: {name: '', hosts: c}\n"
          "  - send: {name: a23456789012345678901234567890123456789012345678901234567890123x, "
          "hosts: d}\n",
          "t.yaml:3:5: error: two inputs are called \"read\" (line 2); give this one a name, such "
          "as \"name: apps\"\n"
          "t.yaml:5:18: error: two inputs are called \"b\" (line 4); give this one another name\n"
          "t.yaml:6:21: error: two filters are called \"edit\" (line 6); give this one a name, "
          "such as \"name: more\"\n"
          "t.yaml:9:5: error: two outputs are called \"write\" (line 8); give this one a name, "
          "such as \"name: archive\"\n"
          "t.yaml:10:18: error: name: \"Up\" is no name; write 1 to 63 of a-z, 0-9, - and _\n"
          "t.yaml:11:18: error: name: \"taffrail\" is the agent's own; take another\n"
          "t.yaml:12:18: error: name: \"\" is no name; write 1 to 63 of a-z, 0-9, - and _\n"
          "t.yaml:13:18: error: name: "
          "\"a23456789012345678901234567890123456789012345678901234567890123x\" is no name; write "
          "1 to 63 of a-z, 0-9, - and _\n");
}

/* ---- tags and match ------------------------------------------------------------------------- */

static void tags_are_checked(void **state)
{
    (void)state;
    finds("inputs:\n  - read: {name: a, tag: 'a b'}\n  - read: {name: b, tag: '{node}'}\n"
          "  - read: {name: c, tag: taffrail.audit}\n  - read: {name: d, tag: taffrail}\n"
          "  - receive: {tag: x, allow: [{identity: i}]}\n  - read: {name: e, tag: "
          "taffrails}\n" OUTPUTS,
          "t.yaml:2:26: error: tag: \"a b\" is no tag; write 1 to 255 of letters, digits and . _ "
          "- /\n"
          "t.yaml:3:26: error: tag: \"{node}\" has braces around something else than {namespace}, "
          "{pod} or {container}; write one of these\n"
          "t.yaml:4:26: error: tag: \"taffrail.audit\" is the agent's own; take another\n"
          "t.yaml:5:26: error: tag: \"taffrail\" is the agent's own; take another\n"
          "t.yaml:6:20: error: tag: input \"receive\" keeps the senders' tags; leave tag out\n");
}

static void an_input_that_no_output_matches_is_told(void **state)
{
    (void)state;
    finds("inputs:\n  - read: {}\n  - read: {name: b, tag: apps.web}\n"
          "  - receive: {allow: [{identity: i}]}\n"
          "outputs:\n  - write: {match: [taffrail.audit, apps.*]}\n",
          "t.yaml:2:5: error: no output matches the tag \"read\" of input \"read\"; add it to the "
          "match of one, or take the input out\n");
    finds(SMALL_INPUT "outputs: [write: {match: []}]\n",
          "t.yaml:2:26: error: match: the list is empty; it needs at least one\n");
    finds(SMALL_INPUT "outputs: [write: {match: x}, nothing: {}]\n", /* which may have matched */
          "t.yaml:2:30: error: unknown output \"nothing\"; known: send, write, link\n");
}

static bool matches(const char *tag, const char *glob)
{
    struct tf_config *config = NULL;
    struct tf_error err;
    char text[600];
    int rc;

    (void)snprintf(text, sizeof text,
                   "inputs: [read: {tag: '%s'}]\noutputs: [write: {match: '%s'}]\n", tag, glob);
    tf_error_init(&err);
    rc = parse(text, strlen(text), &config, &err);
    assert_int_equal(err.errors, rc == 0 ? 0 : 1);
    tf_error_fini(&err);
    tf_config_free(config);
    return rc == 0;
}

static void placeholders_match_what_they_may_become(void **state)
{
    static const struct {
        const char *tag, *glob;
        bool matches;
    } cases[] = {
        {"apps.web", "apps.*", true},
        {"apps.web", "apps", false},
        {"c.{namespace}", "c.shop", true},
        {"c.{namespace}", "c.*", true},
        {"c.{namespace}", "c", false},
        {"c.{namespace}", "d.*", false},
        {"c.{namespace}", "**", true},
        {"c.{namespace}", "*", false},
        {"{pod}", "x", true},
        {"{pod}.end", "*.end", true},
        {"{pod}.end", "*.and", false},
        {"{pod}.{container}", "a.b", true},
        {"{pod}.{container}", "ab", false},
        {"c.{pod}.z", "c.?.z", true},
        {"c.{pod}.z", "c.?.y", false},
        {"c.{pod}.z", "**z", true},
        {"a.b.{pod}", "*.{pod}", false},
        {"a.b.{pod}", "**.x", true},
    };

    (void)state;
    for (size_t i = 0; i < TF_COUNT(cases); i++) {
        if (matches(cases[i].tag, cases[i].glob) != cases[i].matches) {
            fail_msg("tag %s, glob %s", cases[i].tag, cases[i].glob);
        }
    }
}

/* ---- redact --------------------------------------------------------------------------------- */

static void redact_is_last_though_it_is_not_written(void **state)
{
    struct tf_config *config = sound("filters: [edit: {}]\n" SMALL);

    (void)state;
    assert_int_equal(config->filters.count, 2);
    assert_ptr_equal(config->filters.items[0].kind, &edit_kind);
    assert_ptr_equal(config->filters.items[1].kind, &redact_kind);
    assert_string_equal(config->filters.items[1].match.items[0].text, "**");
    assert_int_equal(config->filters.items[1].at.line, 0);
    tf_config_free(config);
    config = sound("filters: [edit: {match: x}, redact: {replacement: '', match: ['**']}]\n" SMALL);
    assert_int_equal(config->filters.count, 2);
    assert_string_equal(
        ((const struct redact_options *)config->filters.items[1].options)->replacement.text, "");
    tf_config_free(config);
}

static void redact_off_is_a_warning(void **state)
{
    static const char text[] = "filters: [edit: {}, redact: off]\nspool: {sync: never}\n" SMALL;
    struct tf_config *config = NULL;
    struct tf_error err;
    char *got;

    (void)state;
    tf_error_init(&err);
    assert_int_equal(parse(text, strlen(text), &config, &err), 0);
    assert_true(config->redact_off);
    assert_int_equal(config->filters.count, 1);
    got = printed(&err);
    assert_string_equal(got,
                        "t.yaml:1:29: warning: redact is off: secrets in logs reach the spool and "
                        "the outputs as they are\n"
                        "t.yaml:2:15: warning: spool.sync is never: when the machine fails, what "
                        "the kernel had not written is lost\n");
    free(got);
    tf_error_fini(&err);
    tf_config_free(config);
}

static void nothing_escapes_redact(void **state)
{
    (void)state;
    finds("filters:\n  - redact: {}\n  - edit: {}\n  - redact: {name: b}\n" SMALL,
          "t.yaml:3:5: error: filter \"edit\" comes after redact, where no rule would see what it "
          "adds; move it above line 2\n"
          "t.yaml:4:5: error: redact is written twice, first in line 2; keep one\n");
    finds("filters: [redact: off, redact: {}]\n" SMALL,
          "t.yaml:1:19: warning: redact is off: secrets in logs reach the spool and the outputs as "
          "they are\n"
          "t.yaml:1:24: error: redact is written twice, and off in one of them; keep one\n");
    finds("filters: [redact: {match: [a]}]\n" SMALL,
          "t.yaml:1:27: error: match: redact looks at every record; leave match out\n");
    finds("filters: [redact: on]\n" SMALL,
          "t.yaml:1:19: error: filter \"redact\" is a text, not a map; write redact: {...}, or "
          "redact: {} for its defaults\n");
    finds("filters: [edit: off]\n" SMALL,
          "t.yaml:1:17: error: filter \"edit\" is a text, not a map; write edit: {...}, or edit: "
          "{} for its defaults\n");
}

/* ---- YAML ----------------------------------------------------------------------------------- */

static void yaml_beyond_ours_is_refused(void **state)
{
    (void)state;
    finds("agent: &a {host: &b x, labels: !m {k: !!str v}, workers: *b}\n*c : x\n" SMALL,
          "t.yaml:1:8: error: YAML anchors are not used here; write the value out, or put it in "
          "quotes when its & is meant\n"
          "t.yaml:1:18: error: YAML anchors are not used here; write the value out, or put it in "
          "quotes when its & is meant\n"
          "t.yaml:1:32: error: YAML tags are not used here; leave it out, or put the value in "
          "quotes when its ! is meant\n"
          "t.yaml:1:39: error: YAML tags are not used here; leave it out, or put the value in "
          "quotes when its ! is meant\n"
          "t.yaml:1:58: error: a value that begins with * needs quotes, or YAML takes it for an "
          "alias; write it as \"*b\"\n"
          "t.yaml:2:1: error: a value that begins with * needs quotes, or YAML takes it for an "
          "alias; write it as \"*c\"\n");
    finds("agent: *a\nfilters: *b\ninputs: [*c, read: *d, read: {exclude: *e, paths: [*f]}]\n"
          "outputs: [write: {match: *g}]\n",
          "t.yaml:1:8: error: a value that begins with * needs quotes, or YAML takes it for an "
          "alias; write it as \"*a\"\n"
          "t.yaml:2:10: error: a value that begins with * needs quotes, or YAML takes it for an "
          "alias; write it as \"*b\"\n"
          "t.yaml:3:10: error: a value that begins with * needs quotes, or YAML takes it for an "
          "alias; write it as \"*c\"\n"
          "t.yaml:3:20: error: a value that begins with * needs quotes, or YAML takes it for an "
          "alias; write it as \"*d\"\n"
          "t.yaml:3:40: error: a value that begins with * needs quotes, or YAML takes it for an "
          "alias; write it as \"*e\"\n"
          "t.yaml:3:52: error: a value that begins with * needs quotes, or YAML takes it for an "
          "alias; write it as \"*f\"\n"
          "t.yaml:4:26: error: a value that begins with * needs quotes, or YAML takes it for an "
          "alias; write it as \"*g\"\n");
    finds("- a\n", "t.yaml:1:1: error: the file is not a map; it needs inputs and outputs\n");
    finds("*a\n", "t.yaml:1:1: error: a value that begins with * needs quotes, or YAML takes it "
                  "for an alias; write it as \"*a\"\n");
}

static void a_glob_without_quotes_is_told_so(void **state)
{
    (void)state;
    finds("inputs:\n  - read: {paths: [**/*.log]}\n" OUTPUTS,
          "t.yaml:2:20: error: a value that begins with * needs quotes, or YAML takes it for an "
          "alias; write it as \"*...\"\n");
    finds(SMALL_INPUT "outputs:\n  - write:\n      match: *.web\n",
          "t.yaml:4:14: error: a value that begins with * needs quotes, or YAML takes it for an "
          "alias; write it as \"*...\"\n");
}

static void keys_are_texts_and_written_once(void **state)
{
    (void)state;
    finds(SMALL
          "agent:\n  host: a\n  host: {b: [c]}\n  log: {level: info, level: warn}\n" SMALL_INPUT,
          "t.yaml:5:3: error: key \"host\" is written twice, first in line 4; keep one\n"
          "t.yaml:6:22: error: key \"level\" is written twice, first in line 6; keep one\n"
          "t.yaml:7:1: error: key \"inputs\" is written twice, first in line 1; keep one\n");
    finds(SMALL "agent: {[a]: b}\n",
          "t.yaml:3:9: error: a key is a text, not a list; put {{...}} and [...] in quotes where "
          "they are meant as text\n");
    finds(SMALL "agent: {host: {{node}}}\n",
          "t.yaml:3:16: error: a key is a text, not a map; put {{...}} and [...] in quotes where "
          "they are meant as text\n");
    finds(SMALL "agent: {\"ho\\0st\": \"a\", host: \"a\\0b\"}\n",
          "t.yaml:3:9: error: a key holds a NUL character; take it out\n"
          "t.yaml:3:30: error: the value holds a NUL character; take it out\n");
}

static void syntax_errors_have_a_place_and_a_mend(void **state)
{
    (void)state;
    finds("agent:\n\thost: a\n", "t.yaml:2:1: error: a tab cannot indent YAML; write spaces\n");
    finds("agent: {host: ${NODE_NAME}}\n",
          "t.yaml:1:16: error: ${...} needs quotes within brackets; write \"${...}\"\n");
    finds("agent:\n  host: @node\n",
          "t.yaml:2:9: error: a value cannot begin with @; put it in quotes\n");
    finds("agent: {labels: {a: 'é', b: [}}\n",
          "t.yaml:1:31: error: not YAML: did not find expected node content, while parsing a flow "
          "node of line 1; look at indentation, brackets, quotes\n");
    finds(
        "agent:\n  host: a\n workers: 1\n",
        "t.yaml:3:2: error: not YAML: did not find expected key, while parsing a block mapping of "
        "line 1; look at indentation, brackets, quotes\n");
    finds("agent: a: b\n", "t.yaml:1:9: error: not YAML: mapping values are not allowed in this "
                           "context; look at indentation, brackets, quotes\n");
    finds("agent: 'a\n", "t.yaml:2:1: error: not YAML: found unexpected end of stream, while "
                         "scanning a quoted scalar of line 1; look at indentation, brackets, "
                         "quotes\n");
    finds(SMALL "---\n" SMALL,
          "t.yaml:3:1: error: a second document begins; one file holds one, take the --- out\n");
}

static void bytes_that_yaml_does_not_have_are_told(void **state)
{
    (void)state;
    finds("agent:\n  host: a\xff\n",
          "t.yaml:2:10: error: the file is not UTF-8 here; save it as UTF-8\n");
    finds("agent:\n  host: \xc3",
          "t.yaml:2:9: error: the file is not UTF-8 here; save it as UTF-8\n");
    finds("agent:\n  host: é\x01\n",
          "t.yaml:2:11: error: character U+0001 may not stand in YAML; write it as an escape in "
          "double quotes\n");
    finds_in("a: \0\n", 5,
             "t.yaml:1:4: error: character U+0000 may not stand in YAML; write it as an escape in "
             "double quotes\n");
}

static void places_count_bytes_of_lines(void **state)
{
    (void)state;
    finds("\xef\xbb\xbf"
          "kafka: {}\r\n# é\r\n" SMALL "agent: {labels: {é: 'a\xe2\x80\xa8 b'}, worker: 1}\n",
          "t.yaml:1:1: error: unknown section \"kafka\"; known: agent, inputs, filters, spool, "
          "sandbox, outputs, admin\n"
          "t.yaml:5:33: error: unknown key \"worker\" in agent; nearest: \"workers\"\n");
}

static void an_empty_file_is_told_so(void **state)
{
    (void)state;
    finds("", "t.yaml: error: the file is empty; it needs inputs and outputs\n");
    finds("# nothing\n", "t.yaml: error: the file is empty; it needs inputs and outputs\n");
    finds("---\n", "t.yaml:2:1: error: the file is not a map; it needs inputs and outputs\n");
}

/* count times piece between head and tail. */
static void finds_many(const char *head, const char *piece, size_t count, const char *wanted)
{
    struct tf_buf text;

    tf_buf_init(&text, 2u << 20);
    (void)tf_buf_append_text(&text, head);
    for (size_t i = 0; i < count; i++) {
        (void)tf_buf_printf(&text, piece, i);
    }
    assert_int_equal(text.error, 0);
    finds_in(text.data, text.size, wanted);
    tf_buf_fini(&text);
}

/* Some of the pieces have no use for their number. */
#pragma GCC diagnostic ignored "-Wformat-extra-args"

static void hostile_files_hit_bounds(void **state)
{
    (void)state;
    finds_many("a: ", "[", 100, "t.yaml:1:19: error: nested deeper than 16; no key goes so deep\n");
    finds_many("a: [", "x,", 60000,
               "t.yaml:1:100001: error: the file has more than 50000 values; write fewer\n");
    finds_many("", "k%zu: 1\n", 1500,
               "t.yaml:1001:1: error: the map has more than 1000 keys; write fewer\n");
    finds_many("# ", "%010zu", 110000,
               "t.yaml: error: larger than 1048576 bytes; no configuration needs so many\n");
}

static void a_huge_environment_is_no_memory(void **state)
{
    struct tf_config *config = NULL;
    struct tf_error err;
    struct tf_buf text;
    char big[60000];

    (void)state;
    memset(big, 'x', sizeof big - 1);
    big[sizeof big - 1] = '\0';
    assert_int_equal(setenv("TF_TEST_BIG", big, 1), 0);
    tf_buf_init(&text, 1u << 20);
    (void)tf_buf_append_text(&text, "inputs: [read: {paths: [");
    for (size_t i = 0; i < 2000; i++) {
        (void)tf_buf_append_text(&text, "'${TF_TEST_BIG}',");
    }
    assert_int_equal(tf_buf_append_text(&text, "]}]\n" OUTPUTS), 0);
    tf_error_init(&err);
    assert_int_equal(parse(text.data, text.size, &config, &err), -ENOMEM);
    tf_error_fini(&err);
    tf_buf_fini(&text);
    assert_int_equal(unsetenv("TF_TEST_BIG"), 0);
}

/* ---- files ---------------------------------------------------------------------------------- */

static void write_file(const char *file, const char *text)
{
    FILE *to = fopen(file, "w");

    assert_non_null(to);
    assert_true(fputs(text, to) >= 0);
    assert_int_equal(fclose(to), 0);
}

static void a_file_resolves_paths_by_its_folder(void **state)
{
    char folder[] = "/tmp/tf-config-XXXXXX", file[128], wanted[160], *here = getcwd(NULL, 0);
    struct tf_config *config = NULL;
    struct tf_error err;

    (void)state;
    assert_non_null(here);
    assert_non_null(mkdtemp(folder));
    (void)snprintf(file, sizeof file, "%s/t.yaml", folder);
    write_file(file, "spool: {path: ./s}\n" SMALL);
    tf_error_init(&err);
    assert_int_equal(tf_config_load(file, &plugins, &config, &err), 0);
    (void)snprintf(wanted, sizeof wanted, "%s/s", folder);
    assert_string_equal(config->spool.path.text, wanted);
    assert_string_equal(config->file, file);
    tf_config_free(config);
    assert_int_equal(chdir("/tmp"), 0);
    assert_int_equal(tf_config_load(file + strlen("/tmp/"), &plugins, &config, &err), 0);
    assert_string_equal(config->spool.path.text, wanted);
    tf_config_free(config);
    assert_int_equal(chdir(folder), 0);
    assert_int_equal(tf_config_load("t.yaml", &plugins, &config, &err), 0);
    assert_string_equal(config->spool.path.text, wanted);
    tf_config_free(config);
    assert_int_equal(chdir(here), 0);
    assert_int_equal(err.count, 0);
    tf_error_fini(&err);
    assert_int_equal(unlink(file), 0);
    assert_int_equal(rmdir(folder), 0);
    free(here);
}

static void unreadable_files_are_told(void **state)
{
    struct tf_config *config = NULL;
    struct tf_error err;
    char *got;

    (void)state;
    tf_error_init(&err);
    assert_int_equal(tf_config_load("/nowhere/t.yaml", &plugins, &config, &err), -ENOENT);
    assert_int_equal(tf_config_load("/tmp", &plugins, &config, &err), -EISDIR);
    assert_int_equal(tf_config_load("/dev/zero", &plugins, &config, &err), -EINVAL);
    assert_null(config);
    got = printed(&err);
    assert_string_equal(got,
                        "/dev/zero: error: larger than 1048576 bytes; no configuration needs so "
                        "many\n"
                        "/nowhere/t.yaml: error: cannot be read: no such file or directory; name a "
                        "configuration with -c FILE\n"
                        "/tmp: error: cannot be read: illegal operation on a directory; name a "
                        "configuration with -c FILE\n");
    free(got);
    tf_error_fini(&err);
}

/* ---- what is shipped: the kinds, the examples and the reference ----------------------------- */

static char *project_file(const char *name)
{
    char path[1024];
    char *text = NULL;
    size_t size = 0;
    FILE *from;

    (void)snprintf(path, sizeof path, "%s/%s", TF_SOURCE_DIR, name);
    from = fopen(path, "r");
    assert_non_null(from);
    assert_true(getdelim(&text, &size, '\0', from) > 0);
    assert_int_equal(fclose(from), 0);
    return text;
}

static void examples_are_sound(void **state)
{
    static const char *const names[] = {"conf/taffrail.yaml", "conf/collector.yaml",
                                        "conf/forensic.yaml"};

    (void)state;
    for (size_t i = 0; i < TF_COUNT(names); i++) {
        char path[1024];
        struct tf_config *config = NULL;
        struct tf_error err;

        (void)snprintf(path, sizeof path, "%s/%s", TF_SOURCE_DIR, names[i]);
        tf_error_init(&err);
        if (tf_config_load(path, &tf_plugins, &config, &err) < 0 || err.count > 0) {
            fail_msg("%s: %s", names[i], tf_error_first(&err));
        }
        tf_error_fini(&err);
        tf_config_free(config);
    }
}

/* The row of a key in the part of the reference that begins with heading. */
static void find_row(const char *reference, const char *heading, const char *key, char row[1024])
{
    const char *section = strstr(reference, heading);
    const char *end = section != NULL ? strstr(section + 3, "\n## ") : NULL;
    char wanted[256];
    const char *found;

    (void)snprintf(wanted, sizeof wanted, "\n| `%s` |", key);
    found = section != NULL ? strstr(section, wanted) : NULL;
    if (found == NULL || (end != NULL && found > end)) {
        fail_msg("%s has no row for %s", heading + 1, key);
    }
    (void)snprintf(row, 1024, "%.*s", (int)strcspn(found + 1, "\n"), found + 1);
}

/* Each key of a table has its row, with its default or "required". */
static void check_reference(const char *reference, const char *heading, const char *prefix,
                            const struct tf_option *table)
{
    for (; table != NULL && table->name != NULL; table++) {
        bool is_table = table->type == TF_OPTION_TABLE || table->type == TF_OPTION_TABLES;
        char key[128], inner[129], row[1024], def[128];

        (void)snprintf(key, sizeof key, "%s%s", prefix, table->name);
        assert_non_null(table->about);
        if (!is_table || table->required) {
            find_row(reference, heading, key, row);
            (void)snprintf(def, sizeof def, "| `%s` |", table->def != NULL ? table->def : "");
            if ((table->required && strstr(row, "| required |") == NULL) ||
                (table->def != NULL && table->def[0] != '[' && strstr(row, def) == NULL)) {
                fail_msg("the row of %s tells another default: %s", key, row);
            }
        }
        if (is_table && strcmp(table->name, "tls") != 0) {
            (void)snprintf(inner, sizeof inner, "%s.", key);
            check_reference(reference, heading, inner, table->table);
        } else if (is_table) {
            check_reference(reference, "\n## TLS\n", "", table->table);
        }
    }
}

static void reference_has_every_key(void **state)
{
    char *reference = project_file("docs/configuration.md");
    char heading[128];

    (void)state;
    for (size_t i = 0; tf_config_sections[i].name != NULL; i++) {
        (void)snprintf(heading, sizeof heading, "\n## Section `%s`\n", tf_config_sections[i].name);
        check_reference(reference, heading, "", tf_config_sections[i].table);
    }
    for (size_t i = 0; tf_plugins.inputs[i] != NULL; i++) {
        (void)snprintf(heading, sizeof heading, "\n## Input `%s`\n", tf_plugins.inputs[i]->name);
        check_reference(reference, heading, "", tf_plugins.inputs[i]->options);
    }
    for (size_t i = 0; tf_plugins.filters[i] != NULL; i++) {
        (void)snprintf(heading, sizeof heading, "\n## Filter `%s`\n", tf_plugins.filters[i]->name);
        check_reference(reference, heading, "", tf_plugins.filters[i]->options);
    }
    for (size_t i = 0; tf_plugins.outputs[i] != NULL; i++) {
        (void)snprintf(heading, sizeof heading, "\n## Output `%s`\n", tf_plugins.outputs[i]->name);
        check_reference(reference, heading, "", tf_plugins.outputs[i]->options);
    }
    free(reference);
}

/* The tables of shipped kinds are our own mistakes: every default is one that may be written. */
static void shipped_defaults_are_sound(void **state)
{
    void *arena = tf_arena_new();

    (void)state;
    for (size_t i = 0; tf_plugins.inputs[i] != NULL; i++) {
        const struct tf_input_kind *kind = tf_plugins.inputs[i];

        assert_int_equal(
            tf_options_default(kind->options, tf_arena_alloc(arena, kind->options_bytes), arena),
            0);
    }
    for (size_t i = 0; tf_plugins.filters[i] != NULL; i++) {
        const struct tf_filter_kind *kind = tf_plugins.filters[i];

        assert_int_equal(
            tf_options_default(kind->options, tf_arena_alloc(arena, kind->options_bytes), arena),
            0);
    }
    for (size_t i = 0; tf_plugins.outputs[i] != NULL; i++) {
        const struct tf_output_kind *kind = tf_plugins.outputs[i];

        assert_int_equal(
            tf_options_default(kind->options, tf_arena_alloc(arena, kind->options_bytes), arena),
            0);
    }
    tf_arena_free(arena);
}

/* ---- tables and arena ----------------------------------------------------------------------- */

static void tables_fill_their_defaults(void **state)
{
    static const struct tf_option wrong[] = {{.name = "size", .type = TF_OPTION_SIZE, .def = "1M"},
                                             {0}};
    void *arena = tf_arena_new();
    struct read_options options = {0};
    struct send_options send = {0};
    uint64_t size = 0;

    (void)state;
    assert_int_equal(tf_options_default(read_table, &options, arena), 0);
    assert_int_equal(options.paths.count, 2);
    assert_string_equal(options.paths.items[1].text, "docker"); /* no folder: as it is */
    assert_null(options.paths.at.file);
    assert_int_equal(options.max_line_bytes, 1 << 20);
    assert_int_equal(tf_options_default(send_table, &send, arena), 0); /* nothing is required */
    assert_int_equal(send.hosts.count, 0);
    assert_null(send.cert.text);
    assert_false(send.has_tls);
    assert_int_equal(tf_options_default(NULL, NULL, arena), 0);
    assert_int_equal(tf_options_default(wrong, &size, arena), -EINVAL);
    tf_arena_free(arena);
}

static void arena_is_zeroed_aligned_and_bounded(void **state)
{
    static const char zeros[100000];
    void *arena = tf_arena_new();
    size_t count = 0;

    (void)state;
    for (size_t size = 0; size < sizeof zeros; size += size / 2 + 1) {
        char *memory = tf_arena_alloc(arena, size);

        assert_non_null(memory);
        assert_int_equal((uintptr_t)memory % 16, 0);
        assert_memory_equal(memory, zeros, size);
        memset(memory, 0xff, size);
    }
    while (tf_arena_alloc(arena, 1 << 20) != NULL) {
        count++;
    }
    assert_in_range(count, 32, 64);
    assert_null(tf_arena_alloc(arena, SIZE_MAX - 3));
    tf_arena_free(arena);
    tf_arena_free(NULL);
}

static void a_host_belongs_to_one_output(void **state)
{
    (void)state;
    finds("inputs: [read: {}]\n"
          "outputs:\n"
          "  - send: {hosts: [a, b]}\n"
          "  - send: {name: two, hosts: [c, b]}\n"
          "  - send: {name: three, hosts: d}\n",
          "t.yaml:4:34: error: hosts: \"b\" is in output \"send\" (line 3) too; take it out of one "
          "of "
          "the two\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_host_belongs_to_one_output),
        cmocka_unit_test(smallest_file_has_all_defaults),
        cmocka_unit_test(absent_options_have_defaults_and_a_place),
        cmocka_unit_test(every_type_is_read),
        cmocka_unit_test(every_key_of_the_spool_is_read),
        cmocka_unit_test(sizes_and_times_have_all_their_units),
        cmocka_unit_test(sync_is_a_time_always_or_never),
        cmocka_unit_test(digest_is_the_hash_of_the_bytes),
        cmocka_unit_test(a_section_is_changed_by_what_it_says),
        cmocka_unit_test(variables_expand_inside_values),
        cmocka_unit_test(wrong_variables_are_told_without_what_they_hold),
        cmocka_unit_test(a_wrong_size_is_told_with_what_could_be_meant),
        cmocka_unit_test(a_wrong_time_is_told_with_what_could_be_meant),
        cmocka_unit_test(bounds_are_told_in_units),
        cmocka_unit_test(other_scalars_say_what_they_want),
        cmocka_unit_test(a_value_of_the_wrong_shape_says_what_it_wants),
        cmocka_unit_test(the_sandbox_has_two_modes),
        cmocka_unit_test(agent_values_are_checked),
        cmocka_unit_test(quoted_values_are_cut_and_escaped),
        cmocka_unit_test(an_unknown_key_names_the_nearest),
        cmocka_unit_test(keys_of_other_releases_are_unknown),
        cmocka_unit_test(long_words_have_no_near_one),
        cmocka_unit_test(admin_is_a_list_of_addresses_or_off),
        cmocka_unit_test(a_required_key_is_missed),
        cmocka_unit_test(a_required_map_is_missed_once),
        cmocka_unit_test(a_long_list_of_known_words_is_cut),
        cmocka_unit_test(an_entry_is_a_map_with_one_key),
        cmocka_unit_test(inputs_and_outputs_are_needed),
        cmocka_unit_test(lists_are_bounded),
        cmocka_unit_test(names_are_unique_and_plain),
        cmocka_unit_test(tags_are_checked),
        cmocka_unit_test(an_input_that_no_output_matches_is_told),
        cmocka_unit_test(placeholders_match_what_they_may_become),
        cmocka_unit_test(redact_is_last_though_it_is_not_written),
        cmocka_unit_test(redact_off_is_a_warning),
        cmocka_unit_test(nothing_escapes_redact),
        cmocka_unit_test(yaml_beyond_ours_is_refused),
        cmocka_unit_test(a_glob_without_quotes_is_told_so),
        cmocka_unit_test(keys_are_texts_and_written_once),
        cmocka_unit_test(syntax_errors_have_a_place_and_a_mend),
        cmocka_unit_test(bytes_that_yaml_does_not_have_are_told),
        cmocka_unit_test(places_count_bytes_of_lines),
        cmocka_unit_test(an_empty_file_is_told_so),
        cmocka_unit_test(hostile_files_hit_bounds),
        cmocka_unit_test(a_huge_environment_is_no_memory),
        cmocka_unit_test(a_file_resolves_paths_by_its_folder),
        cmocka_unit_test(unreadable_files_are_told),
        cmocka_unit_test(examples_are_sound),
        cmocka_unit_test(reference_has_every_key),
        cmocka_unit_test(shipped_defaults_are_sound),
        cmocka_unit_test(tables_fill_their_defaults),
        cmocka_unit_test(arena_is_zeroed_aligned_and_bounded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
