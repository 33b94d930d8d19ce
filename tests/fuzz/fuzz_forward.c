/*
 * fuzz_forward.c - hostile forward messages through all three steps, and the size scan in two
 * parts.
 *
 * Byte 0 chooses: relay or not, contradicts or not, and where the scan is cut. What decodes must
 * carry the proved identity as each record's first field.
 */
#include <stdlib.h>

#include "taffrail/decode.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_records(const struct tf_batch *batch, bool is_relay)
{
    for (uint32_t i = 0; i < batch->record_count; i++) {
        const struct tf_record *record = &batch->records[i];
        const struct tf_field *field = &batch->fields[record->first_field];

        if (record->field_count == 0 || field->key_size != 8 ||
            memcmp(batch->text.data + field->key_at, "identity", 8) != 0) {
            abort();
        }
        if (!is_relay && (field->value.text.size != 5 ||
                          memcmp(batch->text.data + field->value.text.at, "dns:a", 5) != 0)) {
            abort();
        }
    }
}

static void check_scan(struct tf_slice message, size_t cut)
{
    struct tf_msgpack_scan whole = {0}, parts = {0};
    int64_t at_once = tf_msgpack_size(message, &whole);
    int64_t in_parts = tf_msgpack_size(tf_slice(message.data, cut), &parts);

    if (in_parts == 0) {
        in_parts = tf_msgpack_size(message, &parts);
    }
    if (at_once != in_parts || at_once > (int64_t)message.size) {
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct tf_message_head head;
    struct tf_batch batch;
    struct tf_slice message;
    bool is_relay;

    if (size < 2) {
        return 0;
    }
    message = tf_slice(data + 1, size - 1);
    is_relay = (data[0] & 1) != 0;
    check_scan(message, (size_t)(data[0] >> 2) % message.size);
    if (tf_message_head(message, &head) < 0 || tf_batch_init(&batch) < 0) {
        return 0;
    }
    if (tf_message_decode(message, &head, "dns:a", is_relay, (data[0] & 2) != 0 ? "fork" : NULL, 1,
                          &batch) == 0) {
        check_records(&batch, is_relay);
    }
    tf_batch_fini(&batch);
    return 0;
}
