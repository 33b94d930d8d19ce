/*
 * test_redact_seen.c - what repeats in a batch fares as it would alone.
 *
 * What is searched once a batch is told by its bytes and by all else that its outcome hangs on: the
 * key, an open private key, the words that a batch begins with.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../filters/redact/seen.h"
#include "redact_fixture.h"
#include "taffrail/journal.h"

#define RECORDS  400u
#define FIELDS   8u /* a record; some of them in a map */
#define SEED     20261129u
#define KEY_LINE "q83vEjRWeJCrze8SNFZ4kKvN7xI0VniQq83vEjRWeJCrze8SNFZ4kKvN7xI0VniQ"
#define TOKEN    "ghp_a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8"

static const char *const keys[] = {
    "log",  "MESSAGE", "_PID", "_COMM", "name",  "value",        "pwd",          "auth", "password",
    "_EXE", "unit",    "dsn",  "a",     "token", "x-vault-salt", "gh" TOKEN "x", "key",  TOKEN,
};
static const char *const values[] = {
    "",
    "0",
    "info",
    "/usr/sbin/sshd -D",
    "hunter22xyz",
    "Zm9vYmFyYmF6cXV4",
    "DB_PASSWORD",
    "password",
    TOKEN,
    "see " TOKEN,
    KEY_LINE,
    "{\"password\":\"hunter22\"}",
    "pass\\u0077ord=hunter22",
    "nothing \\u0077ritten",
    "-----BEGIN PRIVATE KEY-----",
    "-----END PRIVATE KEY-----",
    "4111 1111 1111 1111",
    "1795983110605070",
    "postgres://a:hunter22@h/x",
    "caf\xe9",
};

static uint32_t draw(uint64_t *seed, size_t count)
{
    *seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(*seed >> 33) % (uint32_t)count;
}

/* The record with that number, always the same one. */
static void add_random(struct tf_batch *batch, uint32_t number)
{
    uint64_t seed = SEED + number * UINT64_C(7919);
    uint32_t in_map = draw(&seed, FIELDS);

    assert_non_null(tf_batch_add_record(batch, 1, TF_STREAM_STDOUT));
    for (uint32_t i = 0; i < FIELDS; i++) {
        const char *key = keys[draw(&seed, TF_COUNT(keys))];
        const char *value = values[draw(&seed, TF_COUNT(values))];

        if (i == in_map) {
            assert_int_equal(tf_batch_add_map_field(batch, "journald", FIELDS - i), 0);
        }
        assert_int_equal(tf_batch_add_text_field(batch, key, tf_slice_text(value)), 0);
    }
}

/* Appends a record as it is now, so that two can be compared. */
static void write_out(const struct tf_batch *batch, uint32_t number, struct tf_buf *out)
{
    const struct tf_record *record = &batch->records[number];

    (void)tf_buf_append_byte(out, (char)record->flags);
    for (uint32_t i = 0; i < record->field_count; i++) {
        const struct tf_field *field = &batch->fields[record->first_field + i];

        (void)tf_buf_append(out, batch->text.data + field->key_at, field->key_size);
        (void)tf_buf_append_byte(out, '=');
        if (field->type == TF_VALUE_TEXT) {
            (void)tf_buf_append(out, batch->text.data + field->value.text.at,
                                field->value.text.size);
        }
        (void)tf_buf_append_byte(out, '\n');
    }
    assert_int_equal(out->error, 0);
}

static void apply(struct fixture *f)
{
    assert_int_equal(tf_filter_redact.apply(f->self, f->scratch, f->state, &f->batch), 0);
}

static void records_of_one_batch_fare_as_alone(void **state)
{
    struct fixture *f = *state;
    struct tf_buf together, alone;
    uint32_t changed = 0;

    tf_buf_init(&together, 1u << 20);
    tf_buf_init(&alone, 1u << 20);
    for (uint32_t i = 0; i < RECORDS; i++) {
        add_random(&f->batch, i);
    }
    apply(f);
    for (uint32_t i = 0; i < RECORDS; i++) {
        write_out(&f->batch, i, &together);
        changed += (f->batch.records[i].flags & TF_RECORD_REDACTED) != 0;
    }
    assert_in_range(changed, RECORDS / 4, RECORDS); /* almost any has a secret */
    tf_filter_redact.state_load(f->state, TF_STREAM_STDOUT, &(struct tf_stream_state){0});
    for (uint32_t i = 0; i < RECORDS; i++) {
        assert_int_equal(tf_batch_reset(&f->batch), 0);
        add_random(&f->batch, i);
        apply(f);
        write_out(&f->batch, 0, &alone);
    }
    assert_int_equal(together.size, alone.size);
    assert_memory_equal(together.data, alone.data, alone.size);
    tf_buf_fini(&together);
    tf_buf_fini(&alone);
}

static struct tf_slice value_of(const struct fixture *f, uint32_t record)
{
    const struct tf_field *field = &f->batch.fields[f->batch.records[record].first_field];

    return tf_batch_slice(&f->batch, field->value.text.at, field->value.text.size);
}

static void texts_of_one_hash_are_told_apart(void **state)
{
    static const char clean[] = "user alice xxxxxxxxxxxxxx from the east end of the town, now";
    static const char secret[] = "user alice pwd=hunter22xx from the east end of the town, now";
    struct fixture *f = *state;
    struct tf_redact_seen *seen = calloc(1, sizeof *seen);
    char arena[2 * sizeof clean + TF_REDACT_READAHEAD_BYTES] = {0};
    uint32_t size = sizeof clean - 1;

    memcpy(arena, clean, size);
    memcpy(arena + sizeof clean, secret, size);
    assert_ptr_equal(tf_redact_seen_place(seen, arena, 0, size),
                     tf_redact_seen_place(seen, arena, sizeof clean, size));
    free(seen);
    for (int i = 0; i < 2; i++) {
        assert_non_null(tf_batch_add_record(&f->batch, 1, TF_STREAM_STDOUT));
        assert_int_equal(
            tf_batch_add_text_field(&f->batch, "note", tf_slice_text(i == 0 ? clean : secret)), 0);
    }
    apply(f);
    assert_true(tf_slice_equal(value_of(f, 0), tf_slice_text(clean)));
    assert_null(memmem(value_of(f, 1).data, value_of(f, 1).size, "hunter22", 8));
}

static void an_open_key_masks_what_was_clean(void **state)
{
    static const char *const texts[][2] = {{"log", KEY_LINE},
                                           {"note", KEY_LINE},
                                           {"log", "-----BEGIN PRIVATE KEY-----"},
                                           {"log", KEY_LINE},
                                           {"note", KEY_LINE}};
    struct fixture *f = *state;

    for (size_t i = 0; i < TF_COUNT(texts); i++) {
        assert_non_null(tf_batch_add_record(&f->batch, 1, TF_STREAM_STDOUT));
        assert_int_equal(
            tf_batch_add_text_field(&f->batch, texts[i][0], tf_slice_text(texts[i][1])), 0);
    }
    apply(f);
    assert_true(tf_slice_equal(value_of(f, 0), tf_slice_text(KEY_LINE)));
    assert_true(tf_slice_equal(value_of(f, 3), tf_slice_text("[REDACTED:private-key]")));
    assert_true(tf_slice_equal(value_of(f, 4), tf_slice_text(KEY_LINE)));
}

/* A text that was not seen before has no place; one that was is told by its bytes. */
static void a_text_is_seen_once_it_is_noted(void **state)
{
    static const char arena[TF_REDACT_READAHEAD_BYTES + 40] =
        "same text\nsame text\nsame test\nsame";
    struct tf_redact_seen *seen = calloc(1, sizeof *seen);
    struct tf_redact_seen_text *place = tf_redact_seen_place(seen, arena, 0, 9);

    (void)state;
    assert_false(tf_redact_seen_is(place, arena, 0, 9));
    *place = (struct tf_redact_seen_text){.at = 0, .size = 9};
    assert_true(tf_redact_seen_is(tf_redact_seen_place(seen, arena, 10, 9), arena, 10, 9));
    assert_false(tf_redact_seen_is(tf_redact_seen_place(seen, arena, 20, 9), arena, 20, 9));
    assert_ptr_equal(tf_redact_seen_place(seen, arena, 0, 4),
                     tf_redact_seen_place(seen, arena, 30, 4)); /* what is behind does not count */
    assert_false(tf_redact_seen_is(tf_redact_seen_place(seen, arena, 30, 4), arena, 30, 4));
    free(seen);
}

/* The words of a batch are not searched; the same ones elsewhere are. */
static void words_of_the_batch_make_no_text_clean(void **state)
{
    static const char rules[] = "rules:\n"
                                "  - id: word\n"
                                "    description: words that every batch has\n"
                                "    regex: 'stderr|severity'\n"
                                "    keywords: [stderr, severity]\n"
                                "    examples: {match: [stderr], no_match: [x]}\n";
    char path[] = "/tmp/taffrail-seen-XXXXXX";
    struct tf_text file = {.text = path};
    struct tf_redact_options options = {.rules = {.items = &file, .count = 1},
                                        .max_cost = {.text = "1000us"}};
    const struct tf_filter_args args = {.name = "redact", .options = &options};
    int fd = mkstemp(path);
    struct fixture f = {.self = NULL};
    struct tf_error err;
    struct tf_field *field;

    (void)state;
    assert_int_equal(write(fd, rules, sizeof rules - 1), (ssize_t)sizeof rules - 1);
    assert_int_equal(close(fd), 0);
    tf_error_init(&err);
    assert_int_equal(tf_filter_redact.open(&args, &f.self, &err), 0);
    tf_error_fini(&err);
    f.scratch = tf_filter_redact.scratch_new(f.self);
    assert_int_equal(tf_batch_init(&f.batch), 0);
    assert_non_null(tf_batch_add_record(&f.batch, 1, TF_STREAM_STDOUT));
    field = tf_batch_add_field(&f.batch,
                               f.batch.words + (uint32_t)offsetof(struct tf_batch_words, severity),
                               8, TF_VALUE_TEXT);
    field->value.text.at = f.batch.text_stderr;
    field->value.text.size = 6;
    assert_int_equal(tf_batch_add_text_field(&f.batch, "severity", tf_slice_text("stderr")), 0);
    apply(&f);
    assert_int_equal(f.batch.fields[0].key_size, 8);
    assert_int_equal(f.batch.fields[0].value.text.size, 6);
    assert_int_equal(f.batch.fields[1].key_size, strlen("[REDACTED:word]"));
    assert_int_equal(f.batch.fields[1].value.text.size, strlen("[REDACTED:word]"));
    tf_filter_redact.scratch_free(f.scratch);
    tf_filter_redact.close(f.self);
    tf_batch_fini(&f.batch);
    assert_int_equal(unlink(path), 0);
}

/* Records whose one field is the same bytes of the arena: as decoders have it of lines that repeat.
 */
static void add_sharing(struct tf_batch *batch, const char *key, const char *value, uint32_t count)
{
    uint32_t key_at, value_at;

    assert_int_equal(tf_batch_add_text(batch, key, strlen(key), &key_at), 0);
    assert_int_equal(tf_batch_add_text(batch, value, strlen(value), &value_at), 0);
    for (uint32_t i = 0; i < count; i++) {
        struct tf_field *field;

        assert_non_null(tf_batch_add_record(batch, 1, TF_STREAM_STDOUT));
        field = tf_batch_add_field(batch, key_at, (uint32_t)strlen(key), TF_VALUE_TEXT);
        field->value.text.at = value_at;
        field->value.text.size = (uint32_t)strlen(value);
    }
}

static void assert_values(const struct fixture *f, uint32_t from, uint32_t to, const char *expected)
{
    for (uint32_t i = from; i < to; i++) {
        assert_true(tf_slice_equal(value_of(f, i), tf_slice_text(expected)));
    }
}

static void a_secret_in_shared_text_is_masked_in_each_field(void **state)
{
    struct fixture *f = *state;

    add_sharing(&f->batch, "_CMDLINE", "backup --password=hunter22xyz", 5);
    add_sharing(&f->batch, "password", "hunter22xyz", 3);
    add_sharing(&f->batch, "_EXE", "/usr/bin/curl", 3);
    apply(f);
    assert_values(f, 0, 5, "backup --password=[REDACTED:cli-password]");
    assert_values(f, 5, 8, "[REDACTED:assigned-password]");
    assert_values(f, 8, 11, "/usr/bin/curl");
}

/* A text that was overwritten for the first of them could hold the end of the secret for others. */
static void shared_text_is_withheld_from_each_field_without_memory(void **state)
{
    static const char secret[] = TOKEN;
    struct fixture *f = *state;
    uint32_t secret_at;

    add_sharing(&f->batch, "note", TOKEN, 4);
    secret_at = f->batch.fields[0].value.text.at;
    f->batch.text.limit_bytes = f->batch.text.size; /* no room for another byte */
    apply(f);
    f->batch.text.limit_bytes = TF_BATCH_TEXT_MAX;
    assert_values(f, 0, 4, "[WITHHELD]");
    assert_memory_equal(f->batch.text.data + secret_at, secret, sizeof secret - 1);
    for (uint32_t i = 0; i < 4; i++) {
        assert_string_equal(f->batch.records[i].withheld_reason, "memory");
    }
}

/* An entry of the export format with that number, always the same one. */
static void write_entry(uint32_t number, struct tf_buf *out)
{
    static const char *const names[] = {"MESSAGE",       "_CMDLINE", "_EXE",
                                        "_SYSTEMD_UNIT", "NOTE",     "TOKEN",
                                        "_COMM",         "PASSWORD", "SYSLOG_IDENTIFIER"};
    uint64_t seed = SEED + number * UINT64_C(104729);

    (void)tf_buf_printf(out, "__CURSOR=%u\n", number);
    for (uint32_t i = 0; i < FIELDS; i++) {
        const char *name = names[draw(&seed, TF_COUNT(names))];

        (void)tf_buf_printf(out, "%s=%s\n", name, values[draw(&seed, TF_COUNT(values))]);
    }
    (void)tf_buf_append_byte(out, '\n');
    assert_int_equal(out->error, 0);
}

/* Decodes entries into the batch. */
static void decode(struct fixture *f, uint32_t from, uint32_t to)
{
    static const struct tf_journal_rules rules;
    struct tf_export_result result;
    struct tf_export *stream;
    struct tf_buf bytes;

    tf_buf_init(&bytes, 1u << 20);
    for (uint32_t i = from; i < to; i++) {
        write_entry(i, &bytes);
    }
    assert_int_equal(tf_export_new(&rules, &stream), 0);
    assert_int_equal(tf_export_decode(stream, tf_buf_slice(&bytes), 1, &f->batch, &result),
                     bytes.size);
    assert_int_equal(f->batch.record_count, to - from);
    tf_export_free(stream);
    tf_buf_fini(&bytes);
}

static void entries_that_share_lines_fare_as_alone(void **state)
{
    struct fixture *f = *state;
    struct tf_buf together, alone;

    tf_buf_init(&together, 1u << 20);
    tf_buf_init(&alone, 1u << 20);
    decode(f, 0, RECORDS);
    assert_true(f->batch.shared_bytes > f->batch.text.size); /* most lines repeat */
    apply(f);
    for (uint32_t i = 0; i < RECORDS; i++) {
        write_out(&f->batch, i, &together);
    }
    tf_filter_redact.state_load(f->state, TF_STREAM_OTHER, &(struct tf_stream_state){0});
    for (uint32_t i = 0; i < RECORDS; i++) {
        assert_int_equal(tf_batch_reset(&f->batch), 0);
        decode(f, i, i + 1);
        apply(f);
        write_out(&f->batch, 0, &alone);
    }
    assert_int_equal(together.size, alone.size);
    assert_memory_equal(together.data, alone.data, alone.size);
    tf_buf_fini(&together);
    tf_buf_fini(&alone);
}

static void entries_that_share_lines_hide_all_without_memory(void **state)
{
    struct fixture *f = *state;
    struct tf_buf out;

    tf_buf_init(&out, 1u << 20);
    decode(f, 0, RECORDS);
    f->batch.text.limit_bytes = f->batch.text.size;
    apply(f);
    f->batch.text.limit_bytes = TF_BATCH_TEXT_MAX;
    for (uint32_t i = 0; i < RECORDS; i++) {
        write_out(&f->batch, i, &out);
    }
    assert_non_null(memmem(out.data, out.size, "=[WITHHELD]\n", 12));
    assert_null(memmem(out.data, out.size, "4111 1111", 9));
    assert_null(memmem(out.data, out.size, TOKEN + 12, 8)); /* nor its tail */
    assert_null(memmem(out.data, out.size, "hunter22\"", 9));
    assert_null(memmem(out.data, out.size, "PASSWORD=hunter", 15));
    tf_buf_fini(&out);
}

/* What is allowed to a batch does not shrink with its text. */
static void shared_text_counts_for_the_work_that_is_allowed(void **state)
{
    struct fixture *f = *state;
    char dense[4096] = "";
    uint32_t withheld = 0;

    while (strlen(dense) < sizeof dense - 72) {
        (void)strncat(dense, "password=hunter22 token: abcdefgh1 the order was placed; ", 64);
    }
    add_sharing(&f->batch, "_CMDLINE", dense, 64);
    f->batch.shared_bytes = 63 * strlen(dense);
    apply(f);
    for (uint32_t i = 0; i < 64; i++) {
        withheld += (f->batch.records[i].flags & TF_RECORD_WITHHELD) != 0;
    }
    assert_int_equal(withheld, 0);
    assert_int_equal(tf_batch_reset(&f->batch), 0);
    add_sharing(&f->batch, "_CMDLINE", dense, 64);
    apply(f);
    for (uint32_t i = 0; i < 64; i++) {
        withheld += (f->batch.records[i].flags & TF_RECORD_WITHHELD) != 0;
    }
    assert_int_not_equal(withheld, 0); /* else this shows nothing */
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, redact_setup, redact_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(records_of_one_batch_fare_as_alone),
        TEST(texts_of_one_hash_are_told_apart),
        TEST(an_open_key_masks_what_was_clean),
        TEST(a_secret_in_shared_text_is_masked_in_each_field),
        TEST(shared_text_is_withheld_from_each_field_without_memory),
        TEST(entries_that_share_lines_fare_as_alone),
        TEST(entries_that_share_lines_hide_all_without_memory),
        TEST(shared_text_counts_for_the_work_that_is_allowed),
        cmocka_unit_test(a_text_is_seen_once_it_is_noted),
        cmocka_unit_test(words_of_the_batch_make_no_text_clean),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
