/*
 * fuzz_redact.c - any bytes through the redact filter, as values, keys and streams of a batch.
 *
 * The first byte steers: its bits set the stream, the kind of field, and whether the state goes
 * through save and load. Lines of the rest are records; a line's part before a tab is its key. What
 * must hold: apply succeeds, every text stays in the arena, a record without marks is unchanged,
 * and only a marked record has a withheld field.
 */
#include <assert.h>
#include <stdlib.h>

#include "../../filters/redact/redact.h"

#define RECORDS_MAX 256u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void *filter, *scratch;

static void open_once(void)
{
    static const struct tf_redact_options options;
    const struct tf_filter_args args = {.name = "redact", .options = &options};
    struct tf_error err;
    int rc;

    if (filter != NULL) {
        return;
    }
    tf_error_init(&err);
    rc = tf_filter_redact.open(&args, &filter, &err);
    assert(rc == 0);
    tf_error_fini(&err);
    scratch = tf_filter_redact.scratch_new(filter);
    assert(scratch != NULL);
}

static void add_record(struct tf_batch *batch, uint8_t bits, const char *line, size_t size)
{
    const char *tab = memchr(line, '\t', size);
    size_t key_size = tab != NULL ? (size_t)(tab - line) : 0;
    struct tf_field *field;
    uint32_t key_at = batch->key_log, at;
    int rc = 0;

    if (tab != NULL) {
        rc = tf_batch_add_text(batch, line, key_size, &key_at);
        line = tab + 1;
        size -= key_size + 1;
    }
    rc = rc == 0 ? tf_batch_add_text(batch, line, size, &at) : rc;
    assert(rc == 0);
    assert(tf_batch_add_record(batch, 0, (enum tf_stream)(bits % TF_STREAMS)) != NULL);
    field = tf_batch_add_field(batch, key_at, tab != NULL ? (uint32_t)key_size : 3,
                               (bits & 8) != 0 ? TF_VALUE_BYTES : TF_VALUE_TEXT);
    assert(field != NULL);
    field->value.text.at = at;
    field->value.text.size = (uint32_t)size;
}

static void check(const struct tf_batch *batch, const struct tf_field *before)
{
    for (uint32_t i = 0; i < batch->record_count; i++) {
        const struct tf_record *record = &batch->records[i];
        const struct tf_field *field = &batch->fields[i];

        assert((size_t)field->key_at + field->key_size <= batch->text.size);
        assert((size_t)field->value.text.at + field->value.text.size < batch->text.size);
        assert(field->withheld == ((record->flags & TF_RECORD_WITHHELD) != 0));
        if (record->flags == 0) {
            assert(field->value.text.at == before[i].value.text.at);
            assert(field->value.text.size == before[i].value.text.size);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct tf_field before[RECORDS_MAX];
    struct tf_stream_state saved;
    struct tf_batch batch;
    const char *at = (const char *)data + 1, *end = (const char *)data + size;
    uint8_t bits = size > 0 ? data[0] : 0;
    void *state;

    if (size == 0) {
        return 0;
    }
    open_once();
    state = tf_filter_redact.state_new(filter);
    assert(state != NULL && tf_batch_init(&batch) == 0);
    while (at < end && batch.record_count < RECORDS_MAX) {
        char split = (bits & 16) != 0 ? '\0' : '\n';
        const char *stop = memchr(at, split, (size_t)(end - at));

        stop = stop != NULL ? stop : end;
        add_record(&batch, bits, at, (size_t)(stop - at));
        at = stop + 1;
    }
    if (batch.field_count > 0) {
        memcpy(before, batch.fields, batch.field_count * sizeof *before);
    }
    if ((bits & 32) != 0) { /* a state of any bytes */
        saved.size = bits % (TF_FILTER_STATE_BYTES + 1);
        memset(saved.bytes, bits, sizeof saved.bytes);
        tf_filter_redact.state_load(state, (enum tf_stream)(bits % TF_STREAMS), &saved);
    }
    assert(tf_filter_redact.apply(filter, scratch, state, &batch) == 0);
    check(&batch, before);
    tf_filter_redact.state_save(state, (enum tf_stream)(bits % TF_STREAMS), &saved);
    assert(saved.size <= TF_FILTER_STATE_BYTES);
    tf_batch_fini(&batch);
    tf_filter_redact.state_free(state);
    return 0;
}
