/*
 * fuzz_export.c - hostile streams of export format.
 *
 * Read whole, and read in pieces of sizes that the data chooses, each piece at another address, a
 * stream must give the same records and end the same way; tf_export_skip must find as many entries.
 * export.c is compiled in with small bounds, so that entries which are consumed while they come are
 * met too.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "../../agent/decode/journal_internal.h"

#undef TF_JOURNAL_ENTRY_MAX
#undef TF_ENTRY_TRUSTED_BYTES
#define TF_JOURNAL_ENTRY_MAX   1024u
#define TF_ENTRY_TRUSTED_BYTES 128u
#include "../../agent/decode/export.c"

#define OUT_MAX (256u << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct outcome {
    struct tf_buf records;
    uint64_t count;
    int rc;
};

/* Every field must lie in the arena, with '\n' behind its text, and maps and arrays be whole. */
static uint32_t print_field(const struct tf_batch *batch, uint32_t at, uint32_t end,
                            struct tf_buf *out)
{
    const struct tf_field *field = &batch->fields[at++];

    assert((size_t)field->key_at + field->key_size <= batch->text.size);
    (void)tf_buf_append(out, batch->text.data + field->key_at, field->key_size);
    (void)tf_buf_printf(out, " %u ", field->type);
    if (field->type == TF_VALUE_TEXT) {
        assert((size_t)field->value.text.at + field->value.text.size < batch->text.size);
        assert(batch->text.data[field->value.text.at + field->value.text.size] == '\n');
        (void)tf_buf_append(out, batch->text.data + field->value.text.at, field->value.text.size);
    } else if (field->type == TF_VALUE_INT) {
        (void)tf_buf_printf(out, "%lld", (long long)field->value.i);
    } else {
        assert(field->value.count > 0);
        for (uint32_t i = 0; i < field->value.count; i++) {
            assert(at < end);
            at = print_field(batch, at, end, out);
        }
    }
    return at;
}

static void collect(struct tf_batch *batch, struct outcome *outcome)
{
    for (uint32_t i = 0; i < batch->record_count; i++) {
        const struct tf_record *record = &batch->records[i];
        uint32_t at = record->first_field, end = at + record->field_count;

        (void)tf_buf_printf(&outcome->records, "%lld %u %u:", (long long)record->time_ns,
                            record->flags, record->true_bytes);
        while (at < end) {
            at = print_field(batch, at, end, &outcome->records);
        }
    }
    outcome->count += batch->record_count;
    if (tf_batch_reset(batch) < 0) {
        abort();
    }
}

/* Decodes what there is; returns bytes used. */
static size_t decode(struct tf_export *stream, struct tf_slice bytes, struct tf_batch *batch,
                     struct outcome *outcome)
{
    struct tf_export_result result = {.is_full = true};
    size_t at = 0;

    while (outcome->rc == 0 &&
           (result.is_full || result.is_broken || result.note.kind != TF_JOURNAL_NOTE_NONE)) {
        int64_t used =
            tf_export_decode(stream, tf_slice(bytes.data + at, bytes.size - at), 1, batch, &result);

        if (used < 0) {
            outcome->rc = (int)used;
        } else {
            at += (size_t)used;
        }
        collect(batch, outcome);
    }
    return at;
}

/* Gives the stream pieces, of sizes that the data chooses; step 0: all at once. */
static void read_stream(const struct tf_journal_rules *rules, struct tf_slice bytes, unsigned step,
                        struct outcome *outcome)
{
    struct tf_export *stream = NULL;
    struct tf_batch batch;
    size_t from = 0, to = 0;

    if (tf_batch_init(&batch) < 0 || tf_export_new(rules, &stream) < 0) {
        abort();
    }
    tf_buf_init(&outcome->records, OUT_MAX);
    while (to < bytes.size && outcome->rc == 0) {
        size_t more = step > 0 ? 1 + ((uint8_t)bytes.data[to] * step + to) % 300 : bytes.size;
        char *copy;

        to = more < bytes.size - to ? to + more : bytes.size;
        copy = malloc(to - from); /* exact: reading past it is seen */
        if (copy == NULL) {
            abort();
        }
        memcpy(copy, bytes.data + from, to - from);
        from += decode(stream, tf_slice(copy, to - from), &batch, outcome);
        assert(outcome->rc < 0 || to - from < TF_JOURNAL_ENTRY_MAX);
        free(copy);
    }
    tf_export_free(stream);
    tf_batch_fini(&batch);
}

static uint64_t count_entries(struct tf_slice bytes, unsigned step, int *rc)
{
    struct tf_export_skip skip = {0};
    uint64_t all = 0, entries;
    int64_t used = 0;

    for (size_t at = 0; at < bytes.size && used >= 0; at += (size_t)used) {
        size_t size = step < bytes.size - at ? step : bytes.size - at;

        used = tf_export_skip(&skip, tf_slice(bytes.data + at, size), step, &entries);
        assert(used != 0);
        all += entries;
    }
    *rc = used < 0 ? (int)used : 0;
    return all;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct tf_slice bytes = tf_slice(data, size);
    struct tf_journal_rules rules = {.is_reader = size > 0 && data[0] == '_'};
    struct outcome whole = {.rc = 0}, parts = {.rc = 0};
    uint64_t skipped;
    int rc;

    read_stream(&rules, bytes, 0, &whole);
    read_stream(&rules, bytes, 7, &parts);
    assert(whole.rc == parts.rc);
    assert(whole.count == parts.count);
    assert(whole.records.size == parts.records.size);
    assert(whole.records.size == 0 ||
           memcmp(whole.records.data, parts.records.data, whole.records.size) == 0);
    skipped = count_entries(bytes, 11, &rc);
    assert(rc == whole.rc);
    assert(rules.is_reader || rc < 0 || skipped == whole.count);
    tf_buf_fini(&whole.records);
    tf_buf_fini(&parts.records);
    return 0;
}
