/*
 * fuzz_lines.c - hostile files in hostile blocks.
 *
 * The first two bytes choose the format, max_line and where the file is cut. Read whole, and read
 * in two blocks with a restart between them at the positions reported there, it must give the same
 * records.
 */
#include <assert.h>
#include <stdlib.h>

#include "taffrail/decode.h"

#define OUT_MAX (64u << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Appends the batch's records to out, and empties it. */
static void collect(struct tf_batch *batch, struct tf_buf *out)
{
    for (uint32_t i = 0; i < batch->record_count; i++) {
        const struct tf_record *record = &batch->records[i];

        (void)tf_buf_printf(out, "%lld %u %u %u:", (long long)record->time_ns, record->flags,
                            record->stream, record->true_bytes);
        for (uint32_t k = 0; k < record->field_count; k++) {
            const struct tf_field *field = &batch->fields[record->first_field + k];

            (void)tf_buf_append(out, batch->text.data + field->value.text.at,
                                field->value.text.size + 1);
        }
    }
    if (tf_batch_reset(batch) < 0) {
        abort();
    }
}

/* Decodes a block that is all of what there is, in as many calls as the batch needs. */
static size_t decode(struct tf_lines *lines, struct tf_slice block, bool final,
                     struct tf_batch *batch, struct tf_buf *out)
{
    size_t used = 0;
    int64_t step;

    do {
        step =
            tf_lines_decode(lines, tf_slice(block.data + used, block.size - used), final, 1, batch);
        if (step < 0) {
            abort();
        }
        used += (size_t)step;
        collect(batch, out);
    } while (step > 0 && used < block.size);
    return used;
}

static void finish(struct tf_lines *lines, struct tf_batch *batch, struct tf_buf *out)
{
    if (tf_lines_flush(lines, batch) < 0 || tf_lines_held_at(lines) != UINT64_MAX) {
        abort();
    }
    collect(batch, out);
}

static void read_whole(struct tf_lines *lines, struct tf_slice file, struct tf_batch *batch,
                       struct tf_buf *out)
{
    if (decode(lines, file, true, batch, out) != file.size) {
        abort();
    }
    finish(lines, batch, out);
}

static void read_in_two(struct tf_lines *lines, struct tf_slice file, size_t cut,
                        struct tf_batch *batch, struct tf_buf *out)
{
    uint64_t done[TF_STREAMS], at;

    (void)decode(lines, tf_slice(file.data, cut), false, batch, out);
    tf_lines_done(lines, done);
    at = done[0] < done[1] ? done[0] : done[1];
    at = at < done[2] ? at : done[2];
    assert(at <= cut);
    tf_lines_restart(lines, at, done);
    (void)decode(lines, tf_slice(file.data + at, file.size - at), true, batch, out);
    finish(lines, batch, out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct tf_lines *lines = NULL;
    struct tf_buf whole, parts;
    struct tf_slice file;
    struct tf_batch batch;
    enum tf_format format;

    if (size < 3) {
        return 0;
    }
    format = (enum tf_format)(1 + data[0] % 3);
    file = tf_slice(data + 2, size - 2);
    tf_buf_init(&whole, OUT_MAX);
    tf_buf_init(&parts, OUT_MAX);
    if (tf_lines_new(format, 256 + data[0], &lines) < 0 || tf_batch_init(&batch) < 0) {
        abort();
    }
    read_whole(lines, file, &batch, &whole);
    tf_lines_restart(lines, 0, (uint64_t[TF_STREAMS]){0});
    read_in_two(lines, file, data[1] * file.size / 256, &batch, &parts);
    if (whole.size != parts.size ||
        (whole.size > 0 && memcmp(whole.data, parts.data, whole.size) != 0)) {
        abort();
    }
    tf_lines_free(lines);
    tf_batch_fini(&batch);
    tf_buf_fini(&whole);
    tf_buf_fini(&parts);
    return 0;
}
