/*
 * fields_fixture.h - a filter from a line of configuration, records from JSON, and back to JSON.
 *
 * Records are written in JSON without escapes. Beyond JSON, <text> is a value of bytes.
 */
#ifndef TAFFRAIL_TEST_FIELDS_FIXTURE_H
#define TAFFRAIL_TEST_FIELDS_FIXTURE_H

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "taffrail/event.h"
#include "taffrail/filter.h"

struct fixture {
    struct tf_config *config;
    const struct tf_filter_kind *kind;
    void *self, *scratch, *state;
    struct tf_batch batch;
};

static inline int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);

    assert_non_null(f);
    *state = f;
    return tf_batch_init(&f->batch);
}

static inline void close_filter(struct fixture *f)
{
    if (f->self != NULL) {
        if (f->state != NULL) {
            f->kind->state_free(f->state);
        }
        f->kind->scratch_free(f->scratch);
        f->kind->close(f->self);
    }
    tf_config_free(f->config);
    f->self = f->state = f->config = NULL;
}

static inline int teardown(void **state)
{
    struct fixture *f = *state;

    close_filter(f);
    tf_batch_fini(&f->batch);
    free(f);
    return 0;
}

/* Reads the filter, `select: {...}`, and opens it; returns what open does, or -EINVAL when the
 * configuration itself is wrong. */
static inline int try_filter(struct fixture *f, const char *filter, struct tf_error *err)
{
    char yaml[16384];
    int size = snprintf(yaml, sizeof yaml,
                        "inputs: [container: {}]\noutputs: [stdout: {}]\nfilters:\n- %s\n", filter);
    struct tf_filter_args args = {.index = 3};
    const struct tf_plugin_config *item;
    int rc;

    assert_in_range(size, 1, sizeof yaml - 1);
    close_filter(f);
    rc = tf_config_parse(tf_slice_text(yaml), "t.yaml", "/", &tf_plugins, &f->config, err);
    if (rc < 0) {
        return rc;
    }
    item = &f->config->filters.items[0];
    f->kind = item->kind;
    args.name = item->name;
    args.options = item->options;
    args.at = item->at;
    return f->kind->open(&args, &f->self, err);
}

static inline void open_filter(struct fixture *f, const char *filter)
{
    struct tf_error err;

    tf_error_init(&err);
    if (try_filter(f, filter, &err) != 0) {
        fail_msg("%s: %s", filter, tf_error_first(&err));
    }
    tf_error_fini(&err);
    f->scratch = f->kind->scratch_new(f->self);
    assert_non_null(f->scratch);
    if (f->kind->state_new != NULL) {
        f->state = f->kind->state_new(f->self);
        assert_non_null(f->state);
    }
}

/* It is refused, and this is all that is said. */
static inline void assert_refused(struct fixture *f, const char *filter, const char *wanted)
{
    struct tf_error err;
    size_t size;
    char *text;
    FILE *to = open_memstream(&text, &size);

    tf_error_init(&err);
    assert_int_equal(try_filter(f, filter, &err), -EINVAL);
    assert_null(f->self);
    (void)tf_error_print(&err, to);
    assert_int_equal(fclose(to), 0);
    assert_string_equal(text, wanted);
    free(text);
    tf_error_fini(&err);
}

/* ---- records from JSON ---------------------------------------------------------------------- */

/* The text up to `end`, in the arena. *json is then behind it. */
static inline uint32_t take_text(struct tf_batch *batch, const char **json, char end,
                                 uint32_t *size)
{
    const char *stop = strchr(*json, end);
    uint32_t at = 0;

    assert_non_null(stop);
    *size = (uint32_t)(stop - *json);
    assert_int_equal(tf_batch_add_text(batch, *json, *size, &at), 0);
    *json = stop + 1;
    return at;
}

static inline void add_value(struct tf_batch *batch, const char **json, uint32_t key_at,
                             uint32_t key_size);

/* The children of a map or an array whose bracket was taken; returns how many. */
static inline uint32_t add_children(struct tf_batch *batch, const char **json, char end)
{
    uint32_t count = 0;

    while (**json != end) {
        uint32_t key_at = 0, key_size = 0;

        if (end == '}') {
            assert_int_equal(**json, '"');
            ++*json;
            key_at = take_text(batch, json, '"', &key_size);
            assert_int_equal(**json, ':');
            ++*json;
        }
        add_value(batch, json, key_at, key_size);
        *json += **json == ',' ? 1 : 0;
        count++;
    }
    ++*json;
    return count;
}

static inline struct tf_field *add_field(struct tf_batch *batch, uint32_t key_at, uint32_t key_size,
                                         enum tf_value_type type)
{
    struct tf_field *field = tf_batch_add_field(batch, key_at, key_size, type);

    assert_non_null(field);
    return field;
}

static inline void add_number(struct tf_batch *batch, const char **json, uint32_t key_at,
                              uint32_t key_size)
{
    size_t size = strspn(*json, "+-.0123456789einfa");
    struct tf_field *field = add_field(batch, key_at, key_size, TF_VALUE_DOUBLE);

    assert_true(size > 0);
    if (strcspn(*json, ".ina") < size) {
        field->value.d = strtod(*json, NULL);
    } else if (**json == '-') {
        field->type = TF_VALUE_INT;
        field->value.i = strtoll(*json, NULL, 10);
    } else {
        field->type = TF_VALUE_UINT;
        field->value.u = strtoull(*json, NULL, 10);
    }
    *json += size;
}

static inline void add_word_or_number(struct tf_batch *batch, const char **json, uint32_t key_at,
                                      uint32_t key_size)
{
    static const struct {
        const char *word;
        enum tf_value_type type;
    } words[] = {{"true", TF_VALUE_TRUE}, {"false", TF_VALUE_FALSE}, {"null", TF_VALUE_NIL}};

    for (size_t i = 0; i < TF_COUNT(words); i++) {
        if (strncmp(*json, words[i].word, strlen(words[i].word)) == 0) {
            (void)add_field(batch, key_at, key_size, words[i].type);
            *json += strlen(words[i].word);
            return;
        }
    }
    add_number(batch, json, key_at, key_size);
}

static inline void add_value(struct tf_batch *batch, const char **json, uint32_t key_at,
                             uint32_t key_size)
{
    char lead = **json;
    uint32_t number = batch->field_count, at, size, count;

    if (lead == '"' || lead == '<') {
        ++*json;
        at = take_text(batch, json, lead == '"' ? '"' : '>', &size);
        (void)add_field(batch, key_at, key_size, lead == '"' ? TF_VALUE_TEXT : TF_VALUE_BYTES);
        batch->fields[number].value.text.at = at;
        batch->fields[number].value.text.size = size;
    } else if (lead == '{' || lead == '[') {
        ++*json;
        (void)add_field(batch, key_at, key_size, lead == '{' ? TF_VALUE_MAP : TF_VALUE_ARRAY);
        count = add_children(batch, json, lead == '{' ? '}' : ']');
        batch->fields[number].value.count = count;
    } else {
        add_word_or_number(batch, json, key_at, key_size);
    }
}

static inline struct tf_record *add_record(struct tf_batch *batch, const char *json)
{
    assert_non_null(tf_batch_add_record(batch, 0, TF_STREAM_STDOUT));
    assert_int_equal(*json++, '{');
    (void)add_children(batch, &json, '}');
    assert_int_equal(*json, '\0');
    return &batch->records[batch->record_count - 1];
}

/* ---- and back ------------------------------------------------------------------------------- */

static inline void apply(struct fixture *f)
{
    assert_int_equal(f->kind->apply(f->self, f->scratch, f->state, &f->batch), 0);
}

/* Record `number` prints as this; it need not be the first, but no record may be dropped. */
static inline void assert_printed(const struct tf_batch *batch, uint32_t number, const char *json)
{
    static const char head[] = "{\"time\":\"1970-01-01T00:00:00.000000000Z\",\"tag\":\"t\"";
    struct tf_events_summary summary;
    struct tf_buf events, line;
    size_t used, at = 0;
    char *rest;

    tf_buf_init(&events, 1u << 26);
    tf_buf_init(&line, 1u << 26);
    assert_int_equal(tf_events_encode(batch, NULL, &events, &summary), 0);
    assert_true(summary.events > number);
    for (uint32_t i = 0; i <= number; i++) {
        tf_buf_clear(&line);
        assert_int_equal(tf_event_print_json(tf_slice(events.data + at, events.size - at),
                                             tf_slice_text("t"), &line, &used),
                         0);
        at += used;
    }
    line.data[line.size - 1] = '\0'; /* in place of its newline */
    assert_memory_equal(line.data, head, sizeof head - 1);
    rest = line.data + sizeof head - 1;
    if (*rest == ',') {
        *rest = '{';
        assert_string_equal(rest, json);
    } else {
        assert_string_equal("{}", json);
        assert_string_equal("}", rest);
    }
    tf_buf_fini(&line);
    tf_buf_fini(&events);
}

#endif
