/*
 * journal_fixture.h - for tests of the journal's decoders: captures, what journald made of them,
 * and records as sets of fields.
 */
#ifndef TAFFRAIL_TEST_JOURNAL_FIXTURE_H
#define TAFFRAIL_TEST_JOURNAL_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "taffrail/journal.h"
#include "taffrail/json.h"

#define FIXTURES      TF_SOURCE_DIR "/tests/fixtures/journald/"
#define FILE_MAX      (1u << 20)
#define FIELDS_MAX    64u
#define RECORDS_MAX   8u
#define NOW_NS        (INT64_C(1700000000) * TF_S_IN_NS)
#define TEXT(literal) tf_slice(literal, sizeof(literal) - 1)

/* A file of the fixtures; freed by the caller. */
static inline struct tf_slice read_fixture(const char *name)
{
    char path[512];
    char *data = malloc(FILE_MAX);
    FILE *file;
    size_t size;

    assert_non_null(data);
    assert_true(snprintf(path, sizeof path, FIXTURES "%s", name) < (int)sizeof path);
    file = fopen(path, "rbe");
    assert_non_null(file);
    size = fread(data, 1, FILE_MAX, file);
    assert_true(size < FILE_MAX);
    assert_int_equal(fclose(file), 0);
    return tf_slice(data, size);
}

/* ---- records -----------------------------------------------------------------------------------
 */

static inline struct tf_slice key_of(const struct tf_batch *batch, const struct tf_field *field)
{
    return tf_batch_slice(batch, field->key_at, field->key_size);
}

static inline struct tf_slice text_of(const struct tf_batch *batch, const struct tf_field *field)
{
    assert_int_equal(field->type, TF_VALUE_TEXT);
    assert_int_equal(batch->text.data[field->value.text.at + field->value.text.size], '\n');
    return tf_batch_slice(batch, field->value.text.at, field->value.text.size);
}

/* The number of the field behind `at` and all that it holds. */
static inline uint32_t behind(const struct tf_batch *batch, uint32_t at)
{
    const struct tf_field *field = &batch->fields[at];
    bool holds = field->type == TF_VALUE_MAP || field->type == TF_VALUE_ARRAY;
    uint32_t next = at + 1;

    for (uint32_t i = 0; holds && i < field->value.count; i++) {
        next = behind(batch, next);
    }
    return next;
}

/* A field of a record, "journald.PRIORITY" one of the map; NULL: it is not there. */
static inline const struct tf_field *find_field(const struct tf_batch *batch, uint32_t record,
                                                const char *path)
{
    const struct tf_record *in = &batch->records[record];
    uint32_t at = in->first_field, end = at + in->field_count;
    const char *dot = strchr(path, '.');
    struct tf_slice name = tf_slice(path, dot != NULL ? (size_t)(dot - path) : strlen(path));

    while (at < end) {
        const struct tf_field *field = &batch->fields[at];

        if (!tf_slice_equal(key_of(batch, field), name)) {
            at = behind(batch, at);
        } else if (dot != NULL) {
            assert_int_equal(field->type, TF_VALUE_MAP);
            end = behind(batch, at);
            at++;
            name = tf_slice_text(dot + 1);
            dot = NULL;
        } else {
            return field;
        }
    }
    return NULL;
}

/* Asserts that a field of the record reads so; NULL: it is not there. */
static inline void assert_field(const struct tf_batch *batch, uint32_t record, const char *path,
                                const char *wanted)
{
    const struct tf_field *field = find_field(batch, record, path);

    if (wanted == NULL) {
        assert_null(field);
        return;
    }
    assert_non_null(field);
    assert_int_equal(text_of(batch, field).size, strlen(wanted));
    assert_memory_equal(text_of(batch, field).data, wanted, strlen(wanted));
}

/* Appends all that there is of a record, so that two can be compared. */
static inline void print_record(const struct tf_batch *batch, uint32_t number, struct tf_buf *out)
{
    const struct tf_record *record = &batch->records[number];

    (void)tf_buf_printf(out, "%lld %u %u:", (long long)record->time_ns, record->flags,
                        record->true_bytes);
    for (uint32_t i = 0; i < record->field_count; i++) {
        const struct tf_field *field = &batch->fields[record->first_field + i];
        struct tf_slice key = key_of(batch, field);

        (void)tf_buf_append(out, key.data, key.size);
        if (field->type == TF_VALUE_TEXT) {
            struct tf_slice text = text_of(batch, field);

            (void)tf_buf_append_byte(out, '=');
            (void)tf_buf_append(out, text.data, text.size);
        } else {
            (void)tf_buf_printf(out, " %u %lld", field->type,
                                field->type == TF_VALUE_INT ? (long long)field->value.i
                                                            : (long long)field->value.count);
        }
        (void)tf_buf_append_byte(out, '\n');
    }
    assert_int_equal(out->error, 0);
}

/* ---- sets of fields ----------------------------------------------------------------------------
 */

/* The fields of an entry, a name once for each of its values; values point into `bytes`. */
struct field_set {
    struct {
        char name[TF_JOURNAL_NAME_MAX + 1];
        struct tf_slice value;
    } items[FIELDS_MAX];
    uint32_t count;
};

static inline void add_to_set(struct field_set *set, struct tf_slice name, struct tf_slice value)
{
    assert_true(set->count < FIELDS_MAX);
    assert_true(name.size <= TF_JOURNAL_NAME_MAX);
    memcpy(set->items[set->count].name, name.data, name.size);
    set->items[set->count].name[name.size] = '\0';
    set->items[set->count++].value = value;
}

/* What a client sent, of a record: MESSAGE, and what is in `journald` under no name with '_'. */
static inline void client_fields(const struct tf_batch *batch, uint32_t record,
                                 struct field_set *set)
{
    const struct tf_field *log = find_field(batch, record, "log");
    const struct tf_field *map = find_field(batch, record, "journald");
    uint32_t at, end;

    set->count = 0;
    if (log != NULL) {
        add_to_set(set, TEXT("MESSAGE"), text_of(batch, log));
    }
    assert_non_null(map);
    at = (uint32_t)(map - batch->fields);
    end = behind(batch, at);
    for (at++; at < end; at = behind(batch, at)) {
        const struct tf_field *field = &batch->fields[at];

        if (key_of(batch, field).data[0] == '_') {
            continue;
        }
        if (field->type == TF_VALUE_TEXT) {
            add_to_set(set, key_of(batch, field), text_of(batch, field));
            continue;
        }
        assert_int_equal(field->type, TF_VALUE_ARRAY);
        for (uint32_t i = 1; i <= field->value.count; i++) {
            add_to_set(set, key_of(batch, field), text_of(batch, &batch->fields[at + i]));
        }
    }
}

static inline bool has_in_set(const struct field_set *set, const char *name, struct tf_slice value)
{
    for (uint32_t i = 0; i < set->count; i++) {
        if (strcmp(set->items[i].name, name) == 0 && tf_slice_equal(set->items[i].value, value)) {
            return true;
        }
    }
    return false;
}

static inline void assert_same_set(const char *of, const struct field_set *got,
                                   const struct field_set *wanted)
{
    for (uint32_t i = 0; i < wanted->count; i++) {
        if (!has_in_set(got, wanted->items[i].name, wanted->items[i].value)) {
            fail_msg("%s: %s is not there, or another", of, wanted->items[i].name);
        }
    }
    if (got->count != wanted->count) {
        fail_msg("%s: %u fields, not %u", of, got->count, wanted->count);
    }
}

/* ---- expected.json -----------------------------------------------------------------------------
 */

struct expected {
    char name[128];
    struct field_set entries[RECORDS_MAX];
    uint32_t count;
};

/* Strings are written into `arena`, which has room for all. */
static inline struct tf_slice read_string(struct tf_json *in, struct tf_buf *arena)
{
    char *from, *end;

    assert_int_equal(tf_buf_reserve(arena, (size_t)(in->end - in->at)), 0);
    from = arena->data + arena->size;
    end = tf_json_text(in, from, false);
    assert_non_null(end);
    arena->size += (size_t)(end - from);
    return tf_slice(from, (size_t)(end - from));
}

static inline bool is_number_next(struct tf_json *in)
{
    tf_json_skip_space(in);
    return in->at < in->end && *in->at >= '0' && *in->at <= '9';
}

/* The rest of an array of bytes, behind its '['. */
static inline struct tf_slice read_bytes(struct tf_json *in, struct tf_buf *arena)
{
    char *from = arena->data + arena->size;

    do {
        char *end;

        tf_json_skip_space(in);
        *from++ = (char)strtol(in->at, &end, 10);
        in->at = end;
    } while (tf_json_take(in, ','));
    assert_true(tf_json_take(in, ']'));
    arena->size = (size_t)(from - arena->data);
    return tf_slice(arena->data, arena->size);
}

/* A string, an array of bytes, or an array of both: as many values. */
static inline void read_values(struct tf_json *in, struct tf_buf *arena, struct field_set *set,
                               struct tf_slice name)
{
    bool is_many = tf_json_take(in, '[');
    size_t at = arena->size;

    if (is_many && is_number_next(in)) {
        (void)read_bytes(in, arena);
        add_to_set(set, name, tf_slice(arena->data + at, arena->size - at));
        return;
    }
    do {
        add_to_set(set, name, read_string(in, arena));
    } while (is_many && tf_json_take(in, ','));
    assert_true(!is_many || tf_json_take(in, ']'));
}

static inline void read_set(struct tf_json *in, struct tf_buf *arena, struct field_set *set)
{
    set->count = 0;
    assert_true(tf_json_take(in, '{'));
    do {
        struct tf_slice name = read_string(in, arena);

        assert_true(tf_json_take(in, ':'));
        read_values(in, arena, set, name);
    } while (tf_json_take(in, ','));
    assert_true(tf_json_take(in, '}'));
}

/* Calls on_file for each file that an expected.json names, with the entries that it became. */
static inline void each_expected(const char *json_name, void (*on_file)(const struct expected *))
{
    struct tf_slice json = read_fixture(json_name);
    struct expected *expected = calloc(1, sizeof *expected);
    struct tf_json in = tf_json(json);
    struct tf_buf arena;
    uint32_t files = 0;

    assert_non_null(expected);
    tf_buf_init(&arena, 4 * FILE_MAX);
    assert_int_equal(tf_buf_reserve(&arena, 3 * FILE_MAX), 0); /* it never moves */
    assert_true(tf_json_take(&in, '{'));
    do {
        struct tf_slice name = read_string(&in, &arena);

        assert_true(
            snprintf(expected->name, sizeof expected->name, "%.*s", (int)name.size, name.data) > 0);
        expected->count = 0;
        assert_true(tf_json_take(&in, ':') && tf_json_take(&in, '['));
        while (!tf_json_take(&in, ']')) {
            assert_true(expected->count < RECORDS_MAX);
            read_set(&in, &arena, &expected->entries[expected->count++]);
            (void)tf_json_take(&in, ',');
        }
        on_file(expected);
        files++;
    } while (tf_json_take(&in, ','));
    assert_true(tf_json_take(&in, '}'));
    assert_true(files > 5);
    tf_buf_fini(&arena);
    free(expected);
    free((void *)(uintptr_t)json.data);
}

#endif
