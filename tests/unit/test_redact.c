/* test_redact.c - what is found is masked, the rest is left alone, and both stages agree. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "../../filters/redact/pem.h"
#include "../../filters/redact/redact.h"

#define VALUES_MAX      2400u
#define TEXT_MAX        (16u << 20)
#define KEY_LINE        "q83vEjRWeJCrze8SNFZ4kKvN7xI0VniQq83vEjRWeJCrze8SNFZ4kKvN7xI0VniQ"
#define TOKEN_36        "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8"
#define KERNELS         3u
#define DIFFERENTS_SEED 20261124u
#define FAR_APART       7919u /* values that are asked for one behind the other; a prime */

/* The filter, a batch, and a state. */
struct fixture {
    void *self, *scratch, *state;
    struct tf_batch batch;
};

static const struct tf_redact_options default_options;

/* The rules that ship. */
static struct tf_redact_ruleset *ruleset;
static const struct tf_redact_rule *all_rules;
static size_t all_rules_count;

static int load_rules(void **state)
{
    struct tf_error err;
    int rc;

    (void)state;
    tf_error_init(&err);
    rc = tf_redact_ruleset_new(NULL, &ruleset, &err);
    (void)tf_error_print(&err, stderr);
    tf_error_fini(&err);
    if (rc == 0) {
        all_rules = tf_redact_ruleset_rules(ruleset, &all_rules_count);
    }
    return rc;
}

static int free_rules(void **state)
{
    (void)state;
    tf_redact_ruleset_free(ruleset);
    return 0;
}

static void open_filter(struct fixture *f, const struct tf_redact_options *options)
{
    struct tf_filter_args args = {.name = "redact", .options = options, .index = 3};
    struct tf_error err;

    tf_error_init(&err);
    assert_int_equal(tf_filter_redact.open(&args, &f->self, &err), 0);
    assert_int_equal(err.count, 0);
    tf_error_fini(&err);
    f->scratch = tf_filter_redact.scratch_new(f->self);
    f->state = tf_filter_redact.state_new(f->self);
    assert_non_null(f->scratch);
    assert_non_null(f->state);
}

static void close_filter(struct fixture *f)
{
    tf_filter_redact.state_free(f->state);
    tf_filter_redact.scratch_free(f->scratch);
    tf_filter_redact.close(f->self);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);

    *state = f;
    if (f == NULL || tf_batch_init(&f->batch) < 0) {
        return -1;
    }
    open_filter(f, &default_options);
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    close_filter(f);
    tf_batch_fini(&f->batch);
    free(f);
    return 0;
}

static void add(struct fixture *f, const char *key, const char *value)
{
    assert_non_null(tf_batch_add_record(&f->batch, 1, TF_STREAM_STDOUT));
    assert_int_equal(tf_batch_add_text_field(&f->batch, key, tf_slice_text(value)), 0);
}

static void apply(struct fixture *f)
{
    assert_int_equal(tf_filter_redact.apply(f->self, f->scratch, f->state, &f->batch), 0);
}

static void assert_field(const struct fixture *f, uint32_t number, const char *text)
{
    const struct tf_field *field = &f->batch.fields[number];
    char *got = calloc(1, field->value.text.size + 1);

    assert_true(field->type == TF_VALUE_TEXT || field->type == TF_VALUE_BYTES);
    memcpy(got, f->batch.text.data + field->value.text.at, field->value.text.size);
    assert_string_equal(got, text);
    free(got);
}

/* One value through the filter. */
static void assert_masked(struct fixture *f, const char *key, const char *value, const char *masked)
{
    assert_int_equal(tf_batch_reset(&f->batch), 0);
    add(f, key, value);
    apply(f);
    assert_field(f, 0, masked);
}

static void values_read_as_documented(void **state)
{
    struct fixture *f = *state;

    assert_masked(f, "log", "Authorization: Bearer 0123456789abcdefghijklmnopqrstuvwxyz",
                  "Authorization: Bearer [REDACTED:bearer-token]");
    assert_masked(f, "log", "token=abcdefgh12", "token=[REDACTED:assigned-secret]");
    assert_masked(f, "log", "password=hunter22", "password=[REDACTED:assigned-password]");
    assert_masked(f, "log", "{\\\"password\\\":\\\"a\\\\\\\"b\\\",\\\"x\\\":1}",
                  "{\\\"password\\\":\\\"[REDACTED:assigned-password]\\\",\\\"x\\\":1}");
    assert_masked(f, "log", "{\"a\":{\"password\":\"a\\\"b\"},\"x\":1}",
                  "{\"a\":{\"password\":\"[REDACTED:assigned-password]\"},\"x\":1}");
    assert_masked(
        f, "log",
        "u=postgres://app:hunter2@db:5432/x AKIA"
        "IOSFODNN7EXAMPLE end",
        "u=postgres://app:[REDACTED:postgres-url]@db:5432/x [REDACTED:aws-access-key] end");
    assert_masked(f, "log", "card 4111 1111 1111 1111.", "card [REDACTED:card].");
}

static void benign_lines_are_unchanged(void **state)
{
    static const char *const lines[] = {
        "request 7d9f1c1e-3f1b-4f6e-9a54-0c2f8f3f6f10 done in 42 ms",
        "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08 pulled",
        "commit da39a3ee5e6b4b0d3255bfef95601890afd80709 by 17 authors",
        "token expired",
        "token: expired",
        "Bearer token expired",
        "invalid token, try again",
        "Failed password for root from 192.0.2.7 port 22 ssh2",
        "basic authentication failed",
        "GET /api/v1/tokens?limit=100 HTTP/1.1 200 1234 \"-\" \"curl/8.5.0\"",
        "max_tokens=4096 prompt_tokens=123456789",
        "secretName: tls-certificate",
        "PWD=/home/u",
        "https://example.com:8443/a?b=c@d",
        "2026-11-24T08:00:00.123456789Z level=info msg=ok",
        "trace_id=4111111111111111-a span=1700000000000000000",
        "cookies enabled; secretary=Anna",
        "-----BEGIN CERTIFICATE-----",
        "password: null",
        "token=[REDACTED:x] stays",
        "disk-0123456789abcdef0123456789abcdef task-abcdefghijklmnopqrstuvwxyz",
        "",
        "@",
        "://",
    };
    struct fixture *f = *state;

    for (size_t i = 0; i < TF_COUNT(lines); i++) {
        assert_masked(f, "log", lines[i], lines[i]);
        assert_int_equal(f->batch.records[0].flags, 0);
        assert_int_equal(f->batch.tally_count, 0);
    }
}

static void names_give_their_values_away(void **state)
{
    static const char *const names[] = {
        "password",         "dbPassword",
        "DB_PASSWORD",      "pass\xe2\x80\x8bword",
        "p\xd0\xb0ssword",  "\x1b[31mpassword\x1b[0m",
        "pass-phrase",      "user.passwd",
        "pass\xc2\xadword",
    };
    struct fixture *f = *state;

    for (size_t i = 0; i < TF_COUNT(names); i++) {
        assert_masked(f, names[i], "x", "[REDACTED:assigned-password]");
        assert_true(f->batch.records[0].flags & TF_RECORD_REDACTED);
    }
    assert_masked(f, "client_secret", "ab cd", "[REDACTED:assigned-secret]");
    assert_masked(f, "X-Api-Key", "1", "[REDACTED:api-key]");
    assert_masked(f, "authorization", "Bearer x", "[REDACTED:authorization]");
    assert_masked(f, "password", "[REDACTED:bearer-token]", "[REDACTED:bearer-token]");
    assert_masked(f, "password", "[REDACTED:bearer-token]x]", "[REDACTED:assigned-password]");
    assert_masked(f, "tokens", "12345", "12345");
    assert_masked(f, "passport", "x", "x");
}

/* In a field and in JSON, what is no value stays, and what only looks like it does not. */
static void what_is_no_value_stays(void **state)
{
    static const char *const nothing[] = {
        "",
        "null",
        "[FILTERED]",
        "(hidden)",
        "<redacted>",
        "REDACTED",
        "****",
        "XXXXXXXX",
        "${TOKEN}",
        "{{ .pw }}",
        "%(token)s",
        "<token>",
        "\xe2\x80\xa2\xe2\x80\xa2\xe2\x80\xa2",
        "[REDACTED:x]",
    };
    static const char *const values[] = {
        "null1",   "[Tiger]",  "(hidden", "<redacted]", "hidden)",       "x", "XXXXX1", "${T}x",
        "{{a}} b", "{{a}}b}}", "%(t)x",   "[]",         "\xe2\x80\xa2x",
    };
    struct fixture *f = *state;
    char text[64];

    for (size_t i = 0; i < TF_COUNT(nothing) + TF_COUNT(values); i++) {
        bool stays = i < TF_COUNT(nothing);
        const char *value = stays ? nothing[i] : values[i - TF_COUNT(nothing)];

        assert_int_equal(tf_batch_reset(&f->batch), 0);
        (void)snprintf(text, sizeof text, "{\"password\":\"%s\"}", value);
        add(f, "log", text);
        add(f, "password", value);
        apply(f);
        assert_field(f, 0, stays ? text : "{\"password\":\"[REDACTED:assigned-password]\"}");
        assert_field(f, 1, stays ? value : "[REDACTED:assigned-password]");
    }
}

static void nested_fields_and_keys_are_scanned(void **state)
{
    struct fixture *f = *state;
    struct tf_batch *batch = &f->batch;
    struct tf_field *field;

    /* {a: {tokens?: [..]}}: map of token: [x, {b: y}], password: 1234, plain: [Bearer …] */
    assert_non_null(tf_batch_add_record(batch, 1, TF_STREAM_STDOUT));
    assert_int_equal(tf_batch_add_map_field(batch, "a", 3), 0);
    assert_int_equal(tf_batch_add_text_field(batch, "token", tf_slice_text("")), 0);
    batch->fields[1].type = TF_VALUE_ARRAY;
    batch->fields[1].value.count = 2;
    assert_int_equal(tf_batch_add_text_field(batch, "", tf_slice_text("x")), 0);
    assert_int_equal(tf_batch_add_map_field(batch, "", 1), 0);
    assert_int_equal(tf_batch_add_text_field(batch, "b", tf_slice_text("y")), 0);
    assert_int_equal(tf_batch_add_int_field(batch, "password", 1234), 0);
    assert_int_equal(tf_batch_add_text_field(batch, "ghp_" TOKEN_36, tf_slice_text("v")), 0);
    batch->fields[6].type = TF_VALUE_BYTES;
    apply(f);
    assert_field(f, 2, "[REDACTED:assigned-secret]");
    assert_field(f, 4, "y");
    assert_field(f, 5, "[REDACTED:assigned-password]");
    assert_field(f, 6, "v");
    field = &batch->fields[6];
    assert_int_equal(field->key_size, strlen("[REDACTED:github-token]"));
    assert_memory_equal(batch->text.data + field->key_at, "[REDACTED:github-token]\n",
                        field->key_size + 1);
    assert_int_equal(batch->tally_count, 3);
    for (uint32_t i = 0; i < batch->tally_count; i++) {
        assert_int_equal(batch->tallies[i].filter, 3);
        assert_non_null(tf_filter_redact.rule_name(f->self, batch->tallies[i].rule));
    }
}

static void nothing_matches_across_the_end_of_a_value(void **state)
{
    struct fixture *f = *state;

    add(f, "log", "password=");
    add(f, "log", "hunter22");
    add(f, "log", "ghp_a1B2c3D4e5F6g7H8i9J0");
    add(f, "log", "k1L2m3N4o5P6q7R8");
    add(f, "log", "first\npassword=hunter22\nlast");
    apply(f);
    assert_field(f, 0, "password=");
    assert_field(f, 1, "hunter22");
    assert_field(f, 2, "ghp_a1B2c3D4e5F6g7H8i9J0");
    assert_field(f, 3, "k1L2m3N4o5P6q7R8");
    assert_field(f, 4, "first\npassword=[REDACTED:assigned-password]\nlast");
}

static void a_key_over_many_records_is_masked_to_its_end(void **state)
{
    struct fixture *f = *state;
    struct tf_stream_state saved;

    add(f, "log", "-----BEGIN RSA PRIVATE KEY-----");
    add(f, "log", KEY_LINE);
    add(f, "log", "another thread: done in 42 ms");
    assert_non_null(tf_batch_add_record(&f->batch, 1, TF_STREAM_STDERR));
    assert_int_equal(tf_batch_add_text_field(&f->batch, "log", tf_slice_text(KEY_LINE)), 0);
    apply(f);
    assert_field(f, 0, "[REDACTED:private-key]");
    assert_field(f, 1, "[REDACTED:private-key]");
    assert_field(f, 2, "another thread: done in 42 ms");
    assert_field(f, 3, KEY_LINE); /* another stream */

    tf_filter_redact.state_save(f->state, TF_STREAM_STDERR, &saved);
    assert_int_equal(saved.size, 0);
    tf_filter_redact.state_save(f->state, TF_STREAM_STDOUT, &saved);
    assert_true(saved.size > 0 && saved.size <= TF_FILTER_STATE_BYTES);
    close_filter(f); /* as after a restart */
    open_filter(f, &default_options);
    tf_filter_redact.state_load(f->state, TF_STREAM_STDOUT, &saved);
    assert_int_equal(tf_batch_reset(&f->batch), 0);
    add(f, "log", "2026-11-24 INFO " KEY_LINE);
    add(f, "log", "Kg==\r");
    add(f, "log", "-----END RSA PRIVATE KEY-----");
    add(f, "log", KEY_LINE);
    apply(f);
    assert_field(f, 0, "2026-11-24 INFO [REDACTED:private-key]");
    assert_field(f, 1, "[REDACTED:private-key]\r");
    assert_field(f, 2, "-----END RSA PRIVATE KEY-----");
    assert_field(f, 3, KEY_LINE);
}

static void a_key_without_end_is_bounded(void **state)
{
    struct fixture *f = *state;
    struct tf_stream_state unsound = {.size = 3, .bytes = {9, 9, 9}};

    add(f, "log", "-----BEGIN PRIVATE KEY-----");
    for (unsigned i = 0; i <= TF_REDACT_PEM_LINES_MAX; i++) {
        add(f, "log", KEY_LINE);
    }
    apply(f);
    assert_field(f, TF_REDACT_PEM_LINES_MAX, "[REDACTED:private-key]");
    assert_field(f, TF_REDACT_PEM_LINES_MAX + 1, KEY_LINE);
    tf_filter_redact.state_load(f->state, TF_STREAM_STDOUT, &unsound);
    assert_masked(f, "log", KEY_LINE, "[REDACTED:private-key]"); /* in doubt it masks */
    tf_filter_redact.state_load(f->state, TF_STREAM_STDOUT, &(struct tf_stream_state){0});
    assert_masked(f, "log", "-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----\nok",
                  "[REDACTED:private-key]\nok");
    assert_masked(f, "log", KEY_LINE, KEY_LINE);
}

static void options_switch_rules_and_set_the_replacement(void **state)
{
    struct fixture *f = *state;
    struct tf_text on[] = {{.text = "email"}}, off[] = {{.text = "cloud"}, {.text = "jwt"}};
    struct tf_text wrong[] = {{.text = "nonsense"}};
    struct tf_redact_options options = {.enable = {.items = on, .count = 1},
                                        .disable = {.items = off, .count = 2},
                                        .replacement = {.text = "<{rule}>"}};
    struct tf_filter_args args = {.name = "redact", .options = &options};
    struct tf_filter_facts before, after;
    struct tf_error err;
    void *self = NULL;

    tf_filter_redact.facts(f->self, &before);
    assert_true(before.rules >= 220 && before.own_rules == 0 && before.ns_a_line > 0);
    close_filter(f);
    open_filter(f, &options);
    tf_filter_redact.facts(f->self, &after);
    assert_true(after.rules < before.rules);
    assert_masked(f, "log",
                  "a@example.com AKIA"
                  "IOSFODNN7EXAMPLE ghp_" TOKEN_36,
                  "<email> AKIA"
                  "IOSFODNN7EXAMPLE <github-token>");
    options.enable.items = wrong;
    tf_error_init(&err);
    assert_int_equal(tf_filter_redact.open(&args, &self, &err), -EINVAL);
    assert_null(self);
    assert_int_equal(err.errors, 1);
    options.enable.count = 0;
    options.replacement.text = "a\nb";
    assert_int_equal(tf_filter_redact.open(&args, &self, &err), -EINVAL);
    tf_error_fini(&err);
}

static void a_full_arena_withholds_whole_texts(void **state)
{
    struct fixture *f = *state;
    const char *line = "xx password=hunter22 yy";

    add(f, "log", line);
    add(f, "password", "abc");
    f->batch.text.limit_bytes = f->batch.text.size; /* no room for another byte */
    apply(f);
    f->batch.text.limit_bytes = TF_BATCH_TEXT_MAX;
    assert_field(f, 0, "[WITHHELD]");
    assert_field(f, 1, "[WITHHELD]");
    for (uint32_t i = 0; i < 2; i++) {
        assert_true(f->batch.fields[i].withheld);
        assert_true(f->batch.records[i].flags & TF_RECORD_WITHHELD);
        assert_string_equal(f->batch.records[i].withheld_reason, "memory");
    }
}

/* An engine of one's own rules and a scan. */
struct bench {
    struct tf_redact_engine *engine;
    struct tf_redact_scan *scan;
};

static struct bench bench_new(const struct tf_redact_rule *rules, size_t count, const bool *on,
                              enum tf_redact_kernel kernel, bool no_jit)
{
    struct tf_redact_engine_args args = {
        .rules = rules, .count = count, .on = on, .kernel = kernel, .no_jit = no_jit};
    struct tf_redact_engine_error error;
    struct bench bench = {0};
    int rc = tf_redact_engine_new(&args, &bench.engine, &error);

    if (rc == -ENOTSUP) {
        return bench;
    }
    if (rc != 0) {
        print_error("rule %s: %s\n", rules[error.rule].id, error.text);
    }
    assert_int_equal(rc, 0);
    bench.scan = tf_redact_scan_new(bench.engine);
    assert_non_null(bench.scan);
    return bench;
}

static void bench_free(struct bench *bench)
{
    tf_redact_scan_free(bench->scan);
    tf_redact_engine_free(bench->engine);
}

/* Scans one value by itself and merges. */
static void scan_alone(struct bench *bench, const char *value, size_t size)
{
    char *text = calloc(1, size + TF_REDACT_READAHEAD_BYTES);

    memcpy(text, value, size);
    tf_redact_scan_text(bench->scan, text, size);
    tf_redact_scan_value(bench->scan, text, 0, size);
    tf_redact_scan_merge(bench->scan, size);
    free(text);
}

static void every_rule_keeps_its_examples(void **state)
{
    (void)state;
    assert_true(all_rules_count >= 30);
    for (size_t i = 0; i < all_rules_count; i++) {
        const struct tf_redact_rule *rule = &all_rules[i];
        bool on = true;
        struct bench bench = bench_new(rule, 1, &on, TF_REDACT_KERNEL_AUTO, false);

        assert_non_null(rule->match[0]);
        assert_non_null(rule->no_match[0]);
        for (size_t j = 0; j < TF_REDACT_EXAMPLES_MAX && rule->match[j] != NULL; j++) {
            scan_alone(&bench, rule->match[j], strlen(rule->match[j]));
            if (bench.scan->span_count == 0 || bench.scan->reason != NULL) {
                fail_msg("%s: match example %zu is not matched", rule->id, j + 1);
            }
        }
        for (size_t j = 0; j < TF_REDACT_EXAMPLES_MAX && rule->no_match[j] != NULL; j++) {
            scan_alone(&bench, rule->no_match[j], strlen(rule->no_match[j]));
            if (bench.scan->span_count != 0) {
                fail_msg("%s: no_match example %zu is matched, bytes %u to %u", rule->id, j + 1,
                         bench.scan->spans[0].start, bench.scan->spans[0].end);
            }
        }
        for (size_t j = 0; j < i; j++) {
            assert_string_not_equal(rule->id, all_rules[j].id);
        }
        bench_free(&bench);
    }
}

/* Values in one text, as in a batch's arena. */
struct corpus {
    char *text;
    size_t size;
    size_t at[VALUES_MAX], bytes[VALUES_MAX];
    size_t count;
    uint64_t seed;
};

static uint32_t draw(struct corpus *corpus, uint32_t below)
{
    corpus->seed = corpus->seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(corpus->seed >> 33) % below;
}

static void put(struct corpus *corpus, const char *text, size_t size)
{
    assert_true(corpus->size + size < TEXT_MAX);
    memcpy(corpus->text + corpus->size, text, size);
    corpus->size += size;
}

/* Any of a rule's examples, or NULL. */
static const char *draw_example(struct corpus *corpus, const char *const *examples)
{
    uint32_t count = 0;

    while (count < TF_REDACT_EXAMPLES_MAX && examples[count] != NULL) {
        count++;
    }
    return count > 0 ? examples[draw(corpus, count)] : NULL;
}

/* A piece of a line: an example, a keyword, digits, a run of one class, or any bytes. */
static void put_piece(struct corpus *corpus)
{
    static const char alphabet[] = "abcdefABCDEF0123456789-_.:=/+\"'\\ @;,&\n[]";
    const struct tf_redact_rule *rule = &all_rules[draw(corpus, (uint32_t)all_rules_count)];
    uint32_t what = draw(corpus, 12), n = draw(corpus, 40);
    const char *example = draw_example(corpus, what < 5 ? rule->match : rule->no_match);
    char run[8192];

    if (what < 7) {
        put(corpus, example != NULL ? example : "", example != NULL ? strlen(example) : 0);
    } else if (what < 8 && rule->keywords[0] != NULL) {
        put(corpus, rule->keywords[0], strlen(rule->keywords[0]));
    } else if (what < 9) { /* long: past the first window, at times the second */
        size_t size = draw(corpus, 30) == 0 ? sizeof run : n * 4;

        memset(run, alphabet[draw(corpus, 24)], size);
        put(corpus, run, size);
        put(corpus, run, draw(corpus, 8) == 0 ? size : 0);
    } else {
        for (uint32_t i = 0; i < n; i++) {
            run[i] =
                what == 11 ? (char)draw(corpus, 256) : alphabet[draw(corpus, sizeof alphabet - 1)];
        }
        put(corpus, run, n);
    }
}

static void mutate(struct corpus *corpus, char *text, size_t size)
{
    for (uint32_t i = draw(corpus, 4); i > 0 && size > 0; i--) {
        text[draw(corpus, (uint32_t)size)] =
            (char)(draw(corpus, 3) == 0 ? draw(corpus, 256) : ' ' + draw(corpus, 95));
    }
}

static struct corpus *corpus_new(uint64_t seed)
{
    struct corpus *corpus = calloc(1, sizeof *corpus);

    corpus->text = calloc(1, TEXT_MAX + TF_REDACT_READAHEAD_BYTES);
    corpus->seed = seed;
    put(corpus, "\n", 1);
    while (corpus->count < VALUES_MAX) {
        size_t at = corpus->size;

        for (uint32_t i = draw(corpus, 6); i > 0; i--) {
            put_piece(corpus);
        }
        if (draw(corpus, 2) == 0) {
            mutate(corpus, corpus->text + at, corpus->size - at);
        }
        corpus->at[corpus->count] = at;
        corpus->bytes[corpus->count++] = corpus->size - at;
        put(corpus, draw(corpus, 4) == 0 ? "" : "\n", 1); /* values stand apart */
    }
    return corpus;
}

static void corpus_free(struct corpus *corpus)
{
    free(corpus->text);
    free(corpus);
}

/* A rule for the plain search. */
struct plain {
    const struct tf_redact_rule *rule;
    pcre2_code *code, *allow[TF_REDACT_ALLOW_MAX];
    pcre2_match_data *data, *allow_data;
};

static pcre2_code *compile_plainly(const char *regex)
{
    PCRE2_SIZE offset;
    int error;
    pcre2_code *code = pcre2_compile((PCRE2_SPTR)regex, PCRE2_ZERO_TERMINATED, PCRE2_DOLLAR_ENDONLY,
                                     &error, &offset, NULL);

    assert_non_null(code);
    (void)pcre2_jit_compile(code, PCRE2_JIT_COMPLETE);
    return code;
}

static void plain_init(struct plain *plain, const struct tf_redact_rule *rule)
{
    *plain = (struct plain){.rule = rule, .code = compile_plainly(rule->regex)};
    plain->data = pcre2_match_data_create(8, NULL);
    plain->allow_data = pcre2_match_data_create(8, NULL);
    for (size_t i = 0; i < TF_REDACT_ALLOW_MAX && rule->allow[i] != NULL; i++) {
        plain->allow[i] = compile_plainly(rule->allow[i]);
    }
}

static void plain_fini(struct plain *plain)
{
    pcre2_match_data_free(plain->data);
    pcre2_match_data_free(plain->allow_data);
    pcre2_code_free(plain->code);
    for (size_t i = 0; i < TF_REDACT_ALLOW_MAX; i++) {
        pcre2_code_free(plain->allow[i]);
    }
}

/* How much of a match stands. */
static size_t judge_plainly(const struct plain *plain, const char *text, size_t size)
{
    const struct tf_redact_rule *rule = plain->rule;
    size_t stands = tf_redact_check_match(rule->check, text, size);

    if (stands == 0 || tf_redact_entropy(text, stands) < rule->entropy_min ||
        (stands <= TF_REDACT_STOPWORD_BYTES && tf_redact_has_word(text, stands, rule->stopwords))) {
        return 0;
    }
    for (size_t i = 0; i < TF_REDACT_ALLOW_MAX && plain->allow[i] != NULL; i++) {
        if (stands <= TF_REDACT_ALLOW_BYTES &&
            pcre2_match(plain->allow[i], (PCRE2_SPTR)text, stands, 0, 0, plain->allow_data, NULL) >=
                0) {
            return 0;
        }
    }
    return stands;
}

/* Searches a value for one rule in the plain way, and marks what it finds. */
static void search_plainly(const struct plain *plain, const char *value, size_t size,
                           uint8_t *marks)
{
    const PCRE2_SIZE *ends = pcre2_get_ovector_pointer(plain->data);
    size_t secret_group = plain->rule->secret_group, at = 0;

    while (at < size &&
           pcre2_match(plain->code, (PCRE2_SPTR)value, size, at, 0, plain->data, NULL) > 0) {
        size_t group = ends[2 * secret_group] == PCRE2_UNSET ? 0 : secret_group;
        size_t start = ends[2 * group], end = ends[2 * group + 1];
        size_t stands = start < end ? judge_plainly(plain, value + start, end - start) : 0;

        memset(marks + start, 1, stands);
        if (stands == 0) {
            at = ends[0] + 1;
        } else {
            at = stands < end - start ? start + stands : ends[1];
        }
    }
}

/* Marks, a byte a byte of the text, by every rule on every value. */
static uint8_t *mark_plainly(const struct corpus *corpus)
{
    uint8_t *marks = calloc(1, corpus->size + 1);

    for (size_t i = 0; i < all_rules_count; i++) {
        struct plain plain;

        plain_init(&plain, &all_rules[i]);
        for (size_t v = 0; v < corpus->count; v++) {
            search_plainly(&plain, corpus->text + corpus->at[v], corpus->bytes[v],
                           marks + corpus->at[v]);
        }
        plain_fini(&plain);
    }
    return marks;
}

/* Compares one value's spans with its marks. */
static void assert_marks(const struct bench *bench, const struct corpus *corpus, size_t v,
                         const uint8_t *marks, size_t *withheld)
{
    uint8_t *got = calloc(1, corpus->bytes[v] + 1);

    marks += corpus->at[v];
    for (uint32_t i = 0; i < bench->scan->span_count; i++) {
        const struct tf_redact_span *span = &bench->scan->spans[i];

        assert_true(span->start < span->end && span->end <= corpus->bytes[v]);
        assert_true(i == 0 || span[-1].end <= span->start);
        memset(got + span->start, 1, span->end - span->start);
    }
    *withheld += bench->scan->reason != NULL ? 1 : 0;
    for (size_t i = 0; i < corpus->bytes[v]; i++) {
        if (got[i] != marks[i] && (bench->scan->reason == NULL || marks[i] == 1)) {
            print_error("%.*s\n", (int)(corpus->bytes[v] < 600 ? corpus->bytes[v] : 600),
                        corpus->text + corpus->at[v]);
            fail_msg("value %zu, byte %zu: engine %u, plain search %u", v, i, got[i], marks[i]);
        }
    }
    free(got);
}

/* Every kernel, over the whole text, in order and out of it, and value by value. */
static void compare_kernels(const struct corpus *corpus, const uint8_t *marks)
{
    bool on[TF_REDACT_RULES_MAX];

    memset(on, 1, sizeof on);
    for (unsigned kernel = 1; kernel <= KERNELS; kernel++) {
        struct bench bench =
            bench_new(all_rules, all_rules_count, on, (enum tf_redact_kernel)kernel, false);
        size_t withheld = 0;

        if (bench.scan == NULL) {
            print_message("kernel %u is not on this machine\n", kernel);
            continue;
        }
        tf_redact_scan_text(bench.scan, corpus->text, corpus->size);
        assert_true(kernel > 1 || bench.scan->text_bytes > 0);
        for (size_t v = 0; v < 3 * corpus->count; v++) {
            size_t value = v < corpus->count ? v : v * FAR_APART % corpus->count;

            if (v == 2 * corpus->count) {
                bench.scan->text_bytes = 0; /* from here on each value by itself */
            }
            tf_redact_scan_value(bench.scan, corpus->text, corpus->at[value], corpus->bytes[value]);
            tf_redact_scan_merge(bench.scan, corpus->bytes[value]);
            assert_marks(&bench, corpus, value, marks, &withheld);
        }
        assert_true(withheld < corpus->count * 3 / 100);
        bench_free(&bench);
    }
}

/* From one seed; with TAFFRAIL_DIFFERENTIAL_SECONDS from new ones for so long. */
static void the_engine_finds_what_a_plain_search_finds(void **state)
{
    const char *seconds = getenv("TAFFRAIL_DIFFERENTIAL_SECONDS");
    time_t end = time(NULL) + (seconds != NULL ? strtol(seconds, NULL, 10) : 0);
    uint64_t seed = seconds != NULL ? (uint64_t)time(NULL) : DIFFERENTS_SEED;
    size_t compared = 0;

    (void)state;
    do {
        struct corpus *corpus = corpus_new(seed);
        uint8_t *marks = mark_plainly(corpus);
        size_t marked = 0;

        for (size_t i = 0; i < corpus->size; i++) {
            marked += marks[i];
        }
        assert_true(marked > corpus->count);
        print_message("seed %llu\n", (unsigned long long)seed++);
        compare_kernels(corpus, marks);
        compared += corpus->count;
        free(marks);
        corpus_free(corpus);
    } while (time(NULL) < end);
    print_message("%zu texts compared\n", compared);
}

static void kernels_report_the_same_hits(void **state)
{
    struct corpus *corpus = corpus_new(7);
    struct tf_redact_hits hits[KERNELS] = {{0}};

    (void)state;
    for (unsigned kernel = 0; kernel < KERNELS; kernel++) {
        struct tf_redact_prefilter *filter = calloc(1, sizeof *filter);
        int rc;

        for (size_t i = 0; i < all_rules_count; i++) {
            assert_int_equal(tf_redact_prefilter_add(filter, &all_rules[i], (uint16_t)i), 0);
        }
        rc = tf_redact_prefilter_build(filter, (enum tf_redact_kernel)(kernel + 1));
        hits[kernel].items = calloc(1u << 20, sizeof *hits[kernel].items);
        hits[kernel].capacity = 1u << 20;
        for (size_t cut = 0; rc == 0 && cut < 70; cut++) { /* every alignment and short ends */
            tf_redact_prefilter_scan(filter, corpus->text, cut, corpus->size - cut, &hits[kernel]);
            assert_false(hits[kernel].full);
            if (kernel > 0 && cut == 69) {
                assert_int_equal(hits[kernel].count, hits[0].count);
                for (uint32_t i = 0; i < hits[0].count; i++) {
                    assert_int_equal(hits[kernel].items[i].at, hits[0].items[i].at);
                }
            }
            tf_redact_prefilter_scan(filter, corpus->text, corpus->at[9], corpus->at[9] + cut,
                                     &hits[kernel]);
            if (cut == 69) {
                tf_redact_prefilter_scan(filter, corpus->text, cut, corpus->size - cut,
                                         &hits[kernel]);
            }
        }
        free(filter);
    }
    assert_true(hits[0].count > 1000);
    for (unsigned kernel = 0; kernel < KERNELS; kernel++) {
        free(hits[kernel].items);
    }
    corpus_free(corpus);
}

static void no_hit_reaches_past_the_end_of_a_scan(void **state)
{
    static const char text[] =
        "x 4111111111111111 4222 2222 2222 2 DE89 3704 eyJ ghp_ a@b token= "
        "4111111111111111 AKIA DE89 3704 hooks.slack.com 4111 1111 1111 1111";
    char padded[sizeof text + TF_REDACT_READAHEAD_BYTES] = {0};
    struct tf_redact_hit items[64];
    struct tf_redact_hits hits = {.items = items, .capacity = TF_COUNT(items)};

    (void)state;
    memcpy(padded, text, sizeof text);
    for (unsigned kernel = 1; kernel <= KERNELS; kernel++) {
        struct tf_redact_prefilter *filter = calloc(1, sizeof *filter);
        uint32_t most = 0;
        int rc;

        for (size_t i = 0; i < all_rules_count; i++) {
            assert_int_equal(tf_redact_prefilter_add(filter, &all_rules[i], (uint16_t)i), 0);
        }
        rc = tf_redact_prefilter_build(filter, (enum tf_redact_kernel)kernel);
        for (size_t to = 0; rc == 0 && to < sizeof text; to++) {
            tf_redact_prefilter_scan(filter, padded, 0, to, &hits);
            for (uint32_t i = 0; i < hits.count; i++) {
                size_t size = filter->literals[items[i].literal].size;

                assert_true(items[i].at + (size > 0 ? size : 1) <= to);
                assert_true(i == 0 || items[i - 1].at <= items[i].at);
            }
            most = hits.count > most ? hits.count : most;
        }
        assert_true(rc < 0 || most >= 13);
        free(filter);
    }
}

static const struct tf_redact_rule test_rules[] = {
    {.id = "dear", .regex = "aaa(?:a+)+$", .keywords = {"aaa"}},
    {.id = "failing", .regex = "key=[0-9]{4}", .keywords = {"key="}},
    {.id = "long", .regex = "BEG([a-z]+)END", .keywords = {"BEG"}, .secret_group = 1},
    {.id = "inside", .regex = "(?:x+x+)+yyy", .keywords = {"yyy"}, .flags = TF_REDACT_LINE},
};

static void limits_withhold_the_rest(void **state)
{
    (void)state;
    for (int no_jit = 0; no_jit < 2; no_jit++) {
        struct bench bench =
            bench_new(test_rules, TF_COUNT(test_rules), NULL, TF_REDACT_KERNEL_AUTO, no_jit != 0);
        char text[8192] = "key=1234 ";
        size_t size = 9, unit = TF_REDACT_WINDOW_BYTES + 8;

        scan_alone(&bench, "see aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa! tail", 54);
        assert_int_equal(bench.scan->span_count, 1);
        assert_int_equal(bench.scan->spans[0].rule, TF_REDACT_WITHHELD);
        assert_int_equal(bench.scan->spans[0].start, 4);
        assert_int_equal(bench.scan->spans[0].end, 54);
        assert_string_equal(bench.scan->reason, "match-limit");
        scan_alone(&bench, "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx yyy", 51);
        assert_string_equal(bench.scan->reason, "match-limit");
        for (unsigned i = 0; i < TF_REDACT_ATTEMPTS_MAX + 2; i++, size += unit) {
            memset(text + size, 'q', unit);
            memcpy(text + size, "BEG", 3);
            text[size + unit - 1] = ' ';
        }
        scan_alone(&bench, text, size);
        assert_int_equal(bench.scan->span_count, 2); /* the good one, and the rest */
        assert_int_equal(bench.scan->spans[0].end, 8);
        assert_int_equal(bench.scan->spans[1].start, 9 + unit * TF_REDACT_ATTEMPTS_MAX);
        assert_int_equal(bench.scan->spans[1].end, size);
        assert_string_equal(bench.scan->reason, "budget");
        assert_int_equal(bench.scan->withheld_rule, 2);
        for (size = 0; size < 2000; size += 5) { /* these fail at first sight */
            memcpy(text + size, "key= ", 5);
        }
        scan_alone(&bench, text, size);
        assert_int_equal(bench.scan->span_count, 0);
        bench_free(&bench);
    }
}

static void a_secret_longer_than_the_window_is_not_cut(void **state)
{
    size_t sizes[] = {TF_REDACT_WINDOW_BYTES - 6, TF_REDACT_WINDOW_BYTES, 5000, 70000, 300000};

    (void)state;
    for (size_t i = 0; i < TF_COUNT(sizes); i++) {
        struct bench bench =
            bench_new(test_rules, TF_COUNT(test_rules), NULL, TF_REDACT_KERNEL_AUTO, i == 2);
        char *text = calloc(1, sizes[i] + 100);

        memset(text, 'q', sizes[i] + 10);
        memcpy(text, "BEG", 3);
        memcpy(text + 3 + sizes[i], "ENDxx", 5);
        scan_alone(&bench, text, sizes[i] + 8);
        assert_int_equal(bench.scan->span_count, 1);
        assert_int_equal(bench.scan->spans[0].start, 3);
        assert_int_equal(bench.scan->spans[0].end, 3 + sizes[i]);
        free(text);
        bench_free(&bench);
    }
}

static void too_many_candidates_or_spans_withhold(void **state)
{
    struct fixture *f = *state;
    size_t size = 4u << 20;
    char *text = calloc(1, size + 1);

    for (size_t i = 0; i + 4 <= size; i += 4) {
        memcpy(text + i, "eyJ ", 4);
    }
    add(f, "log", "password=hunter22");
    add(f, "log", text);
    add(f, "log", "password=hunter23 x");
    apply(f);
    assert_field(f, 0, "password=[REDACTED:assigned-password]");
    assert_true(f->batch.records[1].flags & TF_RECORD_WITHHELD);
    assert_true(f->batch.fields[1].value.text.size < 4 * TF_REDACT_HITS_MAX + 100);
    assert_field(f, 2, "password=[REDACTED:assigned-password] x");
    for (size_t i = 0; i + 16 <= size; i += 16) {
        memcpy(text + i, "token=abcdefgh1 ", 16);
    }
    assert_int_equal(tf_batch_reset(&f->batch), 0);
    add(f, "log", text);
    apply(f);
    assert_string_equal(f->batch.records[0].withheld_reason, "budget");
    assert_null(memmem(f->batch.text.data + f->batch.fields[0].value.text.at,
                       f->batch.fields[0].value.text.size, "abcdefgh1", 9));
    free(text);
}

/* More candidates than are kept at once: then each value is scanned alone, by the same pool. */
static void a_flood_of_candidates_has_one_pool(void **state)
{
    struct bench bench =
        bench_new(test_rules, TF_COUNT(test_rules), NULL, TF_REDACT_KERNEL_AUTO, false);
    size_t size = 5 * (TF_REDACT_HITS_MAX + 100u), value = 100, withheld = 0, allowed = 0;
    char *text = calloc(1, size + TF_REDACT_READAHEAD_BYTES);
    const struct tf_redact_work *work = &bench.scan->work;

    (void)state;
    for (size_t i = 0; i < size; i += 5) {
        memcpy(text + i, "key= ", 5);
    }
    tf_redact_scan_text(bench.scan, text, size);
    assert_true(bench.scan->hits.full);
    for (size_t at = 0; at + value <= size; at += value) {
        tf_redact_scan_value(bench.scan, text, at, value);
        withheld += bench.scan->withheld_from < value ? 1 : 0;
        allowed += TF_REDACT_WORK_A_VALUE + value * TF_REDACT_WORK_A_BYTE;
        allowed += TF_REDACT_WORK_ATTEMPT + value; /* the rule that is searched, once */
    }
    assert_true(withheld > 0 && withheld < size / value);
    allowed += TF_REDACT_WORK_POOL + size * TF_REDACT_WORK_POOL_A_BYTE;
    assert_true(work->attempts * TF_REDACT_WORK_ATTEMPT + work->bytes <= allowed);
    free(text);
    bench_free(&bench);
}

/* Lines as an application writes them that tells its environment with each request. */
static void dense_lines_are_not_withheld(void **state)
{
    static const char *const lines[] = {
        "DB_PASSWORD=hunter22",
        "user=ann password=hunter22 token=abcdefgh12 api_key=abcdefgh1234 ok=1",
        "{\"user\":\"ann\",\"password\":\"hunter22\",\"access_token\":\"abcdefgh12\","
        "\"client_secret\":\"abcdefgh1234\",\"ok\":1}",
        "{\"token\":null,\"password\":null,\"secret\":null}",
        "{\"level\":\"info\",\"msg\":\"{\\\"password\\\":\\\"hunter22\\\",\\\"id\\\":17}\"}",
    };
    struct fixture *f = *state;

    for (size_t i = 0; i < TF_COUNT(lines); i++) {
        uint32_t count = (256u << 10) / (uint32_t)strlen(lines[i]);

        assert_int_equal(tf_batch_reset(&f->batch), 0);
        for (uint32_t j = 0; j < count; j++) {
            add(f, "log", lines[i]);
        }
        apply(f);
        for (uint32_t j = 0; j < count; j++) {
            const struct tf_field *field = &f->batch.fields[j];
            const char *text = f->batch.text.data + field->value.text.at;

            if ((f->batch.records[j].flags & TF_RECORD_WITHHELD) != 0) {
                fail_msg("record %u of %u is withheld: %s", j, count, lines[i]);
            }
            assert_null(memmem(text, field->value.text.size, "hunter22", 8));
            assert_null(memmem(text, field->value.text.size, "abcdefgh12", 10));
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(values_read_as_documented, setup, teardown),
        cmocka_unit_test_setup_teardown(benign_lines_are_unchanged, setup, teardown),
        cmocka_unit_test_setup_teardown(names_give_their_values_away, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_no_value_stays, setup, teardown),
        cmocka_unit_test_setup_teardown(nested_fields_and_keys_are_scanned, setup, teardown),
        cmocka_unit_test_setup_teardown(nothing_matches_across_the_end_of_a_value, setup, teardown),
        cmocka_unit_test_setup_teardown(a_key_over_many_records_is_masked_to_its_end, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_key_without_end_is_bounded, setup, teardown),
        cmocka_unit_test_setup_teardown(options_switch_rules_and_set_the_replacement, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_full_arena_withholds_whole_texts, setup, teardown),
        cmocka_unit_test_setup_teardown(too_many_candidates_or_spans_withhold, setup, teardown),
        cmocka_unit_test(every_rule_keeps_its_examples),
        cmocka_unit_test(limits_withhold_the_rest),
        cmocka_unit_test(a_flood_of_candidates_has_one_pool),
        cmocka_unit_test_setup_teardown(dense_lines_are_not_withheld, setup, teardown),
        cmocka_unit_test(a_secret_longer_than_the_window_is_not_cut),
        cmocka_unit_test(kernels_report_the_same_hits),
        cmocka_unit_test(no_hit_reaches_past_the_end_of_a_scan),
        cmocka_unit_test(the_engine_finds_what_a_plain_search_finds),
    };

    return cmocka_run_group_tests_name("redact", tests, load_rules, free_rules);
}
