/*
 * fuzz_syslog.c - hostile syslog datagrams: each is one record, whose text is a part of it, and
 * which lost nothing: what is not in the fields is in SYSLOG_RAW.
 */
#include <assert.h>
#include <stdlib.h>

#include "taffrail/journal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct tf_journal_sender sender = {.received_ns = 1};
    char *copy = malloc(size == 0 ? 1 : size); /* exact: reading past it is seen */
    const struct tf_record *record;
    struct tf_batch batch;
    size_t known_bytes = 0;
    bool has_raw = false;

    if (copy == NULL || tf_batch_init(&batch) < 0) {
        abort();
    }
    memcpy(copy, data, size);
    assert(tf_syslog_decode(tf_slice(copy, size), &sender, NULL, &batch) == 1);
    assert(batch.record_count == 1);
    record = &batch.records[0];
    for (uint32_t i = 0; i < record->field_count; i++) {
        const struct tf_field *field = &batch.fields[record->first_field + i];
        struct tf_slice key = tf_batch_slice(&batch, field->key_at, field->key_size), value;

        if (field->type != TF_VALUE_TEXT) {
            continue;
        }
        value = tf_batch_slice(&batch, field->value.text.at, field->value.text.size);
        assert((size_t)field->value.text.at + value.size < batch.text.size);
        assert(value.data[value.size] == '\n');
        if (i == 0) {
            assert(tf_slice_equal(key, tf_slice_text("log")));
            assert(value.size == 0 || memmem(copy, size, value.data, value.size) != NULL);
        }
        if (tf_slice_equal(key, tf_slice_text("SYSLOG_RAW"))) {
            assert(tf_slice_equal(value, tf_slice(copy, size)));
            has_raw = true;
        }
        known_bytes += value.size;
    }
    /* Without SYSLOG_RAW only punctuation is missing: "<999>1 ", spaces, "[]: ", a byte order mark,
     * and seven times "- ". */
    assert(has_raw || known_bytes + 40 >= size);
    tf_batch_fini(&batch);
    free(copy);
    return 0;
}
