/*
 * fuzz_parse_json.c - any bytes as the texts of a batch, through the filter parse_json.
 *
 * The first byte steers: limits, and what stands beside the text. Lines of the rest are records;
 * the rest as a whole is read once more from memory of its very size. What must hold: apply
 * succeeds, the batch can be encoded and printed, a record that is not parsed is unchanged, one
 * that is parsed keeps its other field.
 */
#include <assert.h>
#include <stdlib.h>

#include "../../filters/parse_json/parse_json.h"
#include "taffrail/event.h"
#include "taffrail/filter.h"

#define RECORDS_MAX 64u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void add_record(struct tf_batch *batch, uint8_t bits, struct tf_slice text)
{
    assert(tf_batch_add_record(batch, 1, TF_STREAM_STDOUT) != NULL);
    assert(tf_batch_add_text_field(batch, "log", text) == 0);
    if ((bits & 1) != 0) {
        assert(tf_batch_add_text_field(batch, "severity", tf_slice_text("beside")) == 0);
    }
}

/* Whether the record's field number `at` is the text. */
static bool is_text(const struct tf_batch *batch, uint32_t at, struct tf_slice text)
{
    const struct tf_field *field = &batch->fields[at];

    return field->type == TF_VALUE_TEXT &&
           tf_slice_equal(tf_batch_slice(batch, field->value.text.at, field->value.text.size),
                          text);
}

static void check_record(const struct tf_batch *batch, uint32_t number, uint8_t bits,
                         struct tf_slice text)
{
    const struct tf_record *record = &batch->records[number];
    uint32_t fields = (bits & 1) != 0 ? 2 : 1, first = number * fields;
    bool has_other = (bits & 1) == 0;

    if (record->first_field == first) {
        assert(record->field_count == fields && record->time_ns == 1);
        assert(is_text(batch, first, text));
        return;
    }
    assert((size_t)record->first_field + record->field_count <= batch->field_count);
    assert(record->field_count <= TF_PARSE_JSON_FIELDS_MAX);
    for (uint32_t i = 0; i < record->field_count && i < 2 && !has_other; i++) {
        has_other = is_text(batch, record->first_field + i, tf_slice_text("beside"));
    }
    assert(has_other);
}

/* Events are sound, and can be shown. */
static void check_events(const struct tf_batch *batch)
{
    struct tf_events_summary summary;
    struct tf_buf events, shown;
    size_t at = 0, used;

    tf_buf_init(&events, 64u << 20);
    tf_buf_init(&shown, 64u << 20);
    assert(tf_events_encode(batch, NULL, &events, &summary) == 0);
    assert(summary.events == batch->record_count);
    while (at < events.size) {
        assert(tf_event_print_json(tf_slice(events.data + at, events.size - at), tf_slice_text("t"),
                                   &shown, &used) == 0);
        at += used;
    }
    tf_buf_fini(&events);
    tf_buf_fini(&shown);
}

static void read_exactly(struct tf_slice text, const struct tf_parse_json_limits *limits,
                         struct tf_parse_json_body *body)
{
    char *copy = malloc(text.size + 1);
    struct tf_buf arena;

    assert(copy != NULL);
    memcpy(copy + 1, text.data, text.size); /* it ends where the memory does */
    tf_buf_init(&arena, TF_BATCH_TEXT_MAX);
    assert(tf_buf_reserve(&arena, text.size) == 0);
    (void)tf_parse_json_read(tf_slice(copy + 1, text.size), limits, &arena, body);
    tf_buf_fini(&arena);
    free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct tf_parse_json_options options = {.into.text = "fields", .max_depth = 16};
    const struct tf_filter_args args = {.name = "parse_json", .options = &options};
    struct tf_slice lines[RECORDS_MAX];
    const char *at = (const char *)data + 1, *end = (const char *)data + size;
    uint8_t bits = size > 0 ? data[0] : 0;
    struct tf_parse_json_limits limits = {.depth = 14, .keys = 256, .fields = 768};
    struct tf_error err;
    struct tf_batch batch;
    void *self, *scratch;

    if (size == 0) {
        return 0;
    }
    options.max_depth -= (bits & 2) != 0 ? 12 : 0;
    options.max_keys = (bits & 4) != 0 ? 3 : 768;
    tf_error_init(&err);
    assert(tf_filter_parse_json.open(&args, &self, &err) == 0);
    scratch = tf_filter_parse_json.scratch_new(self);
    assert(scratch != NULL && tf_batch_init(&batch) == 0);
    read_exactly(tf_slice(at, (size_t)(end - at)), &limits, scratch);
    while (at < end && batch.record_count < RECORDS_MAX) {
        const char *stop = (bits & 8) != 0 ? memchr(at, '\n', (size_t)(end - at)) : NULL;

        stop = stop != NULL ? stop : end;
        lines[batch.record_count] = tf_slice(at, (size_t)(stop - at));
        add_record(&batch, bits, lines[batch.record_count]);
        at = stop + 1;
    }
    assert(tf_filter_parse_json.apply(self, scratch, NULL, &batch) == 0);
    for (uint32_t i = 0; i < batch.record_count; i++) {
        check_record(&batch, i, bits, lines[i]);
    }
    check_events(&batch);
    tf_batch_fini(&batch);
    tf_filter_parse_json.scratch_free(scratch);
    tf_filter_parse_json.close(self);
    tf_error_fini(&err);
    return 0;
}
