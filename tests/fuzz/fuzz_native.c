/*
 * fuzz_native.c - hostile datagrams of the journal's native protocol.
 *
 * What becomes of one is written down in export format, and read again from there: each field with
 * its values must come back. A client must not make a field of journald's own.
 */
#include <assert.h>
#include <stdlib.h>

#include "taffrail/journal.h"

#define OUT_MAX (64u << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct tf_journal_sender SENDER = {
    .is_known = true, .pid = 4711, .uid = 1000, .gid = 1001, .received_ns = 5000};

static struct tf_slice text_at(const struct tf_batch *batch, uint32_t at, uint32_t size)
{
    assert((size_t)at + size < batch->text.size);
    return tf_batch_slice(batch, at, size);
}

static void write_value(const struct tf_batch *batch, struct tf_slice name,
                        const struct tf_field *field, struct tf_buf *out)
{
    struct tf_slice value = text_at(batch, field->value.text.at, field->value.text.size);
    uint8_t length[8];

    assert(field->type == TF_VALUE_TEXT);
    assert(value.data[value.size] == '\n');
    tf_store64(length, value.size);
    (void)tf_buf_append(out, name.data, name.size);
    (void)tf_buf_append_byte(out, '\n');
    (void)tf_buf_append(out, length, sizeof length);
    (void)tf_buf_append(out, value.data, value.size);
    (void)tf_buf_append_byte(out, '\n');
}

static void check_trusted(struct tf_slice name, struct tf_slice value)
{
    static const char *const own[][2] = {
        {"_PID", "4711"}, {"_UID", "1000"}, {"_GID", "1001"}, {"_TRANSPORT", "journal"}};
    bool is_own = false;

    for (size_t i = 0; i < TF_COUNT(own); i++) {
        is_own = is_own || (tf_slice_equal(name, tf_slice_text(own[i][0])) &&
                            tf_slice_equal(value, tf_slice_text(own[i][1])));
    }
    assert(is_own);
}

/* The record's fields in export format: `log`, and what is in `journald`. */
static void write_record(const struct tf_batch *batch, const struct tf_record *record,
                         struct tf_buf *out)
{
    const struct tf_field *fields = &batch->fields[record->first_field];
    uint32_t at = 0;

    for (; fields[at].type != TF_VALUE_MAP; at++) {
        if (tf_slice_equal(text_at(batch, fields[at].key_at, fields[at].key_size),
                           tf_slice_text("log"))) {
            write_value(batch, tf_slice_text("MESSAGE"), &fields[at], out);
        }
    }
    for (at++; at < record->field_count; at++) {
        struct tf_slice name = text_at(batch, fields[at].key_at, fields[at].key_size);
        uint32_t values = fields[at].type == TF_VALUE_ARRAY ? fields[at].value.count : 0;

        assert(name.size > 0 && name.size <= TF_JOURNAL_NAME_MAX);
        if (name.data[0] == '_') {
            check_trusted(name,
                          text_at(batch, fields[at].value.text.at, fields[at].value.text.size));
        }
        if (values == 0) {
            write_value(batch, name, &fields[at], out);
        }
        for (; values > 0; values--) {
            write_value(batch, name, &fields[++at], out);
        }
    }
    (void)tf_buf_append_byte(out, '\n');
}

/* Writes all records of the batch, and empties it. */
static void write_batch(struct tf_batch *batch, struct tf_buf *out)
{
    for (uint32_t i = 0; i < batch->record_count; i++) {
        write_record(batch, &batch->records[i], out);
    }
    if (tf_batch_reset(batch) < 0) {
        abort();
    }
}

/* Reads what write_batch wrote, and writes it again. */
static void read_again(const struct tf_buf *from, uint32_t records, struct tf_buf *to)
{
    const struct tf_journal_rules rules = {.select = NULL};
    struct tf_export_result result;
    struct tf_export *stream = NULL;
    struct tf_batch batch;

    if (tf_batch_init(&batch) < 0 || tf_export_new(&rules, &stream) < 0) {
        abort();
    }
    tf_buf_init(to, OUT_MAX);
    assert(tf_export_decode(stream, tf_buf_slice(from), 1, &batch, &result) == (int64_t)from->size);
    assert(batch.record_count == records);
    write_batch(&batch, to);
    assert(from->size == to->size);
    tf_export_free(stream);
    tf_batch_fini(&batch);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct tf_batch batch;
    struct tf_buf once, again, third;
    char *copy = malloc(size == 0 ? 1 : size); /* exact: reading past it is seen */
    int added;

    if (copy == NULL || tf_batch_init(&batch) < 0) {
        abort();
    }
    memcpy(copy, data, size);
    tf_buf_init(&once, OUT_MAX);
    added = tf_native_decode(tf_slice(copy, size), &SENDER, NULL, &batch);
    assert(added >= 0);
    assert((uint32_t)added == batch.record_count);
    write_batch(&batch, &once);
    if (added > 0) {
        read_again(&once, (uint32_t)added, &again); /* now MESSAGE is the first field */
        read_again(&again, (uint32_t)added, &third);
        assert(memcmp(again.data, third.data, again.size) == 0);
        tf_buf_fini(&again);
        tf_buf_fini(&third);
    }
    tf_batch_fini(&batch);
    tf_buf_fini(&once);
    free(copy);
    return 0;
}
