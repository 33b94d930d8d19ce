/*
 * fuzz_select_edit.c - records of any shape through select and edit, then into events.
 *
 * The bytes build records whose keys are few, so that paths meet them in all ways: nested, dotted,
 * twice. What must hold: select changes no field; edit leaves sound trees, no deeper than a record
 * may be, with the cut on a text; every record prints; a second edit by the same rules that only
 * remove or add finds nothing to do.
 */
#include <stdlib.h>

#include "../../filters/fields.h"
#include "taffrail/event.h"
#include "taffrail/filter.h"

#define RECORDS_MAX 64u
#define OUT_BYTES   (64u << 20)

static const char yaml[] =
    "inputs: [container: {}]\n"
    "outputs: [stdout: {}]\n"
    "filters:\n"
    "- select:\n"
    "    drop: [{name: a, where: {a.b: '^x+$', c: ''}}, {name: t, where: {tag: z}},\n"
    "           {name: n, where: {a: '^(-?[0-9]+)+[.]$'}}]\n"
    "    keep: [{name: b, where: {b: '[^y]'}}, {name: c, where: {a.b.c: ''}},\n"
    "           {name: d, where: {c: ''}}, {name: e, where: {a: ''}}]\n"
    "- edit:\n"
    "    rename: {a.b: c.b, c: b.a.c, log: a.log, a.b.c: c, b.b: a.a.a.a.a.a.a.a.a.a.a.a.a.b}\n"
    "    remove: [b.c, a.a]\n"
    "    add: {a.b.c: x, c.c: y, b: z}\n"
    "- edit: {name: again, remove: [c.c.c], add: {a.b.c: x, c.c: y, b: z}}\n";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct opened {
    const struct tf_filter_kind *kind;
    void *self, *scratch;
};

static struct opened filters[3];

static void check(bool holds)
{
    if (!holds) {
        abort();
    }
}

static void open_once(void)
{
    struct tf_config *config;
    struct tf_error err;

    if (filters[0].self != NULL) {
        return;
    }
    tf_error_init(&err);
    check(tf_config_parse(tf_slice_text(yaml), "t.yaml", "/", &tf_plugins, &config, &err) == 0);
    for (size_t i = 0; i < TF_COUNT(filters); i++) {
        const struct tf_plugin_config *item = &config->filters.items[i];
        const struct tf_filter_args args = {.name = item->name, .options = item->options};
        struct opened *filter = &filters[i];

        filter->kind = item->kind;
        check(filter->kind->open(&args, &filter->self, &err) == 0);
        filter->scratch = filter->kind->scratch_new(filter->self);
        check(filter->scratch != NULL);
    }
    tf_error_fini(&err); /* the configuration stays: the filters borrow from it */
}

static void run(const struct opened *filter, struct tf_batch *batch)
{
    check(filter->kind->apply(filter->self, filter->scratch, NULL, batch) == 0);
}

/* ---- records from bytes --------------------------------------------------------------------- */

struct reader {
    const uint8_t *at, *end;
};

static uint8_t next(struct reader *in)
{
    return in->at < in->end ? *in->at++ : 0;
}

static void put_text(struct tf_batch *batch, struct reader *in, struct tf_field *field)
{
    size_t size = next(in) % 40u, left = (size_t)(in->end - in->at);

    size = size < left ? size : left;
    check(tf_batch_add_text(batch, in->at, size, &field->value.text.at) == 0);
    field->value.text.size = (uint32_t)size;
    in->at += size;
}

/* A field and, while it is not too deep, what it holds. */
static void put_field(struct tf_batch *batch, struct reader *in, bool has_key, uint32_t nested)
{
    static const char *const keys[] = {"a", "b", "c", "a.b", "b.c", "log", "a.a", ""};
    const char *key = keys[next(in) % TF_COUNT(keys)];
    uint8_t lead = next(in);
    uint32_t key_at, number = batch->field_count, count = lead / 16u % 4u;
    enum tf_value_type type = (enum tf_value_type)(lead % (TF_VALUE_ARRAY + 1u));
    bool holds = type == TF_VALUE_MAP || type == TF_VALUE_ARRAY;
    struct tf_field *field;

    check(tf_batch_add_text(batch, key, strlen(key), &key_at) == 0);
    if (holds && nested == TF_MAPS_NESTED_MAX) {
        type = TF_VALUE_NIL;
        holds = false;
    }
    field = tf_batch_add_field(batch, key_at, has_key ? (uint32_t)strlen(key) : 0, type);
    check(field != NULL);
    if (type == TF_VALUE_TEXT || type == TF_VALUE_BYTES) {
        put_text(batch, in, field);
    } else if (!holds) {
        field->value.u = (uint64_t)next(in) << 56 | next(in);
    }
    for (uint32_t i = 0; holds && i < count; i++) {
        put_field(batch, in, type == TF_VALUE_MAP, nested + 1);
    }
    if (holds) {
        batch->fields[number].value.count = count;
    }
}

/* A cut in the record's first text, when it has one. */
static void put_cut(struct tf_batch *batch, struct tf_record *record)
{
    for (uint32_t i = record->first_field; i < record->first_field + record->field_count; i++) {
        if (batch->fields[i].type == TF_VALUE_TEXT && batch->fields[i].value.text.size >= 4) {
            record->cut =
                (struct tf_cut){.field = i, .from = 1, .mark_at = 1, .mark_end = 2, .to = 3};
            batch->truncated++;
            return;
        }
    }
}

static void put_record(struct tf_batch *batch, struct reader *in)
{
    struct tf_record *record = tf_batch_add_record(batch, 0, TF_STREAM_OTHER);
    uint8_t lead = next(in);

    check(record != NULL);
    for (uint32_t i = 0; i < lead % 8u; i++) {
        put_field(batch, in, true, 0);
    }
    if ((lead & 0x80) != 0) {
        put_cut(batch, record);
    }
}

/* ---- what must hold ------------------------------------------------------------------------- */

static void check_level(const struct tf_batch *batch, const struct tf_fields *fields,
                        struct tf_fields_level level, uint32_t nested)
{
    for (uint32_t at = level.first; at < level.end; at = tf_fields_behind(fields, at)) {
        const struct tf_field *field = &fields->items[at];

        check((size_t)field->key_at + field->key_size < batch->text.size);
        if (field->type == TF_VALUE_MAP || field->type == TF_VALUE_ARRAY) {
            check(nested < TF_MAPS_NESTED_MAX);
            check_level(batch, fields, tf_fields_inside(fields, at), nested + 1);
        } else if (field->type == TF_VALUE_TEXT || field->type == TF_VALUE_BYTES) {
            check((size_t)field->value.text.at + field->value.text.size < batch->text.size);
        }
    }
}

static void check_records(const struct tf_batch *batch)
{
    for (uint32_t i = 0; i < batch->record_count; i++) {
        const struct tf_record *record = &batch->records[i];
        const struct tf_fields fields = tf_fields_of(batch, record);

        check(record->first_field + record->field_count <= batch->field_count);
        check_level(batch, &fields, tf_fields_top(&fields), 0);
        if (record->cut.to > 0) {
            check(record->cut.field - record->first_field < record->field_count);
            check(batch->fields[record->cut.field].type == TF_VALUE_TEXT);
        }
    }
}

static void check_events(const struct tf_batch *batch)
{
    struct tf_events_summary summary;
    struct tf_buf events, line;
    size_t at = 0, used;

    tf_buf_init(&events, OUT_BYTES);
    tf_buf_init(&line, OUT_BYTES);
    check(tf_events_encode(batch, NULL, &events, &summary) == 0);
    for (uint32_t i = 0; i < summary.events; i++) {
        tf_buf_clear(&line);
        check(tf_event_print_json(tf_slice(events.data + at, events.size - at), tf_slice_text("t"),
                                  &line, &used) == 0);
        at += used;
    }
    check(at == events.size);
    tf_buf_fini(&line);
    tf_buf_fini(&events);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct reader in = {.at = data, .end = data + size};
    struct tf_batch batch;
    uint32_t field_count;

    open_once();
    check(tf_batch_init(&batch) == 0);
    while (in.at < in.end && batch.record_count < RECORDS_MAX) {
        put_record(&batch, &in);
    }
    check_records(&batch);
    field_count = batch.field_count;
    run(&filters[0], &batch);
    check(batch.field_count == field_count);
    run(&filters[1], &batch);
    check_records(&batch);
    field_count = batch.field_count;
    run(&filters[2], &batch);
    check(batch.field_count == field_count);
    tf_batch_close_cuts(&batch);
    check_events(&batch);
    tf_batch_fini(&batch);
    return 0;
}
