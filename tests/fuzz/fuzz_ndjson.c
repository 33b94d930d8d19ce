/*
 * fuzz_ndjson.c - hostile events through both printers, and what a batch encodes of hostile text.
 *
 * Byte 0 chooses. Even: the rest is taken for an event; what prints is one line, starts as it must,
 * has no control character, and uses no more bytes than there are; what is looked up ends, and a
 * marked event is an event. Odd: the rest is cut into keys
 * and values of records, whose events must print, one line each.
 */
#include <stdlib.h>

#include "taffrail/event.h"

#define OUT_BYTES (64u << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool holds)
{
    if (!holds) {
        abort();
    }
}

static void check_line(const struct tf_buf *out, bool is_json)
{
    static const char head[] = "{\"time\":\"";

    check(out->size > 12 && out->data[out->size - 1] == '\n');
    check(tf_utf8_valid(out->data, out->size));
    check(!is_json || memcmp(out->data, head, sizeof head - 1) == 0);
    for (size_t i = 0; i + 1 < out->size; i++) {
        check((uint8_t)out->data[i] >= 0x20 && out->data[i] != 0x7f);
    }
}

/* Prints one event both ways; returns the bytes that it took, 0 when it is refused. */
static size_t print_both(struct tf_slice event, struct tf_buf *out)
{
    size_t used = 0, used_text = 0;

    tf_buf_clear(out);
    if (tf_event_print_text(event, tf_slice_text("t"), out, &used_text) == 0) {
        check_line(out, false);
    }
    tf_buf_clear(out);
    if (tf_event_print_json(event, tf_slice_text("t"), out, &used) < 0) {
        check(out->size == 0 && out->error == 0);
        return 0;
    }
    check_line(out, true);
    check(used > 0 && used <= event.size && used == used_text);
    return used;
}

static bool never(void *ctx, struct tf_slice text)
{
    check(text.size == 0 || text.data != NULL);
    (void)ctx;
    return false;
}

/* used: what the printers took, 0 when they refused it. */
static void look_up(struct tf_slice event, size_t used, struct tf_buf *out)
{
    int64_t time_ns, size = tf_event_measure(event, &time_ns);

    (void)tf_event_any(event, tf_slice_text("kubernetes.labels.app.io/name"), never, NULL);
    (void)tf_event_any(event, tf_slice_text("a"), never, NULL);
    check(used == 0 || size == (int64_t)used);
    tf_buf_clear(out);
    if (tf_event_mark(event, "replayed", tf_slice_text("job"), out) == 0) {
        check(size > 0 && tf_event_measure(tf_buf_slice(out), &time_ns) == (int64_t)out->size);
    }
}

/* Cuts at most 15 bytes off the input. */
static struct tf_slice cut(const uint8_t **data, size_t *size)
{
    size_t length = *size > 0 ? (*data)[0] & 15 : 0;
    struct tf_slice part;

    length = length < *size ? length : 0;
    part = tf_slice(*data + (*size > 0 ? 1 : 0), length);
    *data += *size > 0 ? length + 1 : 0;
    *size -= *size > 0 ? length + 1 : 0;
    return part;
}

static uint32_t add_text(struct tf_batch *batch, struct tf_slice text)
{
    uint32_t at = 0;

    check(tf_batch_add_text(batch, text.data, text.size, &at) == 0);
    return at;
}

/* A text field of hostile key and value, under a map now and then. */
static void add_pair(struct tf_batch *batch, const uint8_t **data, size_t *size)
{
    bool nested = (**data & 0x10) != 0, marks = (**data & 0x20) != 0;
    struct tf_slice key = cut(data, size), value = cut(data, size);
    uint32_t key_at = add_text(batch, key), at = add_text(batch, value);
    struct tf_field *field;

    check(!nested || tf_batch_add_map_field(batch, marks ? "taffrail" : "log", 1) == 0);
    field = tf_batch_add_field(batch, key_at, (uint32_t)key.size, TF_VALUE_TEXT);
    check(field != NULL);
    field->value.text.at = at;
    field->value.text.size = (uint32_t)value.size;
}

static void fill(struct tf_batch *batch, const uint8_t *data, size_t size)
{
    while (size > 0) {
        struct tf_record *record = tf_batch_add_record(batch, data[0], TF_STREAM_OTHER);
        unsigned pairs = data[0] & 63;

        check(record != NULL);
        record->flags = data[0] & ~(TF_RECORD_DROPPED);
        data++;
        size--;
        for (unsigned i = 0; i < pairs && size > 0; i++) {
            add_pair(batch, &data, &size);
        }
    }
}

static void check_batch(const uint8_t *data, size_t size, struct tf_buf *out)
{
    struct tf_events_summary summary;
    struct tf_constants constants;
    struct tf_batch batch;
    struct tf_buf events;
    struct tf_slice rest;

    check(tf_batch_init(&batch) == 0);
    tf_buf_init(&events, OUT_BYTES);
    fill(&batch, data, size);
    check(tf_constants_encode(&batch, &constants) == 0);
    if (tf_events_encode(&batch, &constants, &events, &summary) == 0) {
        check(summary.events == batch.record_count);
        rest = tf_buf_slice(&events);
        for (uint32_t i = 0; i < summary.events; i++) {
            size_t used = print_both(rest, out);

            check(used > 0);
            rest = tf_slice(rest.data + used, rest.size - used);
        }
        check(rest.size == 0);
    }
    tf_constants_fini(&constants);
    tf_buf_fini(&events);
    tf_batch_fini(&batch);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct tf_buf out;

    if (size < 1) {
        return 0;
    }
    tf_buf_init(&out, OUT_BYTES);
    if ((data[0] & 1) == 0) {
        size_t used = print_both(tf_slice(data + 1, size - 1), &out);

        look_up(tf_slice(data + 1, size - 1), used, &out);
    } else {
        check_batch(data + 1, size - 1, &out);
    }
    tf_buf_fini(&out);
    return 0;
}
