/* test_event.c - events are what the msgpack library reads back: every value, every mark, no key
 * twice. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <msgpack.h>

#include "taffrail/decode.h"
#include "taffrail/event.h"

#define TIME_NS   (INT64_C(1763892904) * TF_S_IN_NS + 120000000)
#define OUT_BYTES (64u << 20)

struct fixture {
    struct tf_batch batch;
    struct tf_buf out;
    struct tf_events_summary summary;
    msgpack_unpacked unpacked;
    size_t read_at;
    uint32_t seconds, nanoseconds; /* of the event read last */
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);

    assert_non_null(f);
    assert_int_equal(tf_batch_init(&f->batch), 0);
    tf_buf_init(&f->out, OUT_BYTES);
    msgpack_unpacked_init(&f->unpacked);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    msgpack_unpacked_destroy(&f->unpacked);
    tf_batch_fini(&f->batch);
    tf_buf_fini(&f->out);
    free(f);
    return 0;
}

static struct tf_record *add_record(struct fixture *f)
{
    struct tf_record *record = tf_batch_add_record(&f->batch, TIME_NS, TF_STREAM_STDOUT);

    assert_non_null(record);
    return record;
}

static struct tf_field *add_field(struct fixture *f, const char *key, enum tf_value_type type)
{
    struct tf_field *field;
    uint32_t at;

    assert_int_equal(tf_batch_add_text(&f->batch, key, strlen(key), &at), 0);
    field = tf_batch_add_field(&f->batch, at, (uint32_t)strlen(key), type);
    assert_non_null(field);
    return field;
}

static void add_text(struct fixture *f, const char *key, const char *value)
{
    assert_int_equal(tf_batch_add_text_field(&f->batch, key, tf_slice_text(value)), 0);
}

static void encode(struct fixture *f, const struct tf_constants *constants)
{
    assert_int_equal(tf_events_encode(&f->batch, constants, &f->out, &f->summary), 0);
}

static uint32_t big_endian32(const char *at)
{
    const uint8_t *byte = (const uint8_t *)at;

    return (uint32_t)byte[0] << 24 | (uint32_t)byte[1] << 16 | (uint32_t)byte[2] << 8 | byte[3];
}

/* The map of the next event. */
static const msgpack_object_map *next_map(struct fixture *f)
{
    const msgpack_object *items;

    assert_int_equal(msgpack_unpack_next(&f->unpacked, f->out.data, f->out.size, &f->read_at),
                     MSGPACK_UNPACK_SUCCESS);
    assert_int_equal(f->unpacked.data.type, MSGPACK_OBJECT_ARRAY);
    assert_int_equal(f->unpacked.data.via.array.size, 2);
    items = f->unpacked.data.via.array.ptr;
    assert_int_equal(items[0].type, MSGPACK_OBJECT_EXT);
    assert_int_equal(items[0].via.ext.type, 0);
    assert_int_equal(items[0].via.ext.size, 8);
    f->seconds = big_endian32(items[0].via.ext.ptr);
    f->nanoseconds = big_endian32(items[0].via.ext.ptr + 4);
    assert_int_equal(items[1].type, MSGPACK_OBJECT_MAP);
    return &items[1].via.map;
}

static bool is_key(const msgpack_object *key, const char *name)
{
    assert_int_equal(key->type, MSGPACK_OBJECT_STR);
    return tf_slice_equal(tf_slice(key->via.str.ptr, key->via.str.size), tf_slice_text(name));
}

/* The value under a key, which must stand there once; NULL when it does not. */
static const msgpack_object *find(const msgpack_object_map *map, const char *key)
{
    const msgpack_object *found = NULL;

    for (uint32_t i = 0; i < map->size; i++) {
        if (is_key(&map->ptr[i].key, key)) {
            assert_null(found);
            found = &map->ptr[i].val;
        }
    }
    return found;
}

static void assert_text(const msgpack_object_map *map, const char *key, const char *wanted)
{
    const msgpack_object *value = find(map, key);

    assert_non_null(value);
    assert_int_equal(value->type, MSGPACK_OBJECT_STR);
    assert_true(
        tf_slice_equal(tf_slice(value->via.str.ptr, value->via.str.size), tf_slice_text(wanted)));
}

static const msgpack_object_map *find_map(const msgpack_object_map *map, const char *key)
{
    const msgpack_object *value = find(map, key);

    assert_non_null(value);
    assert_int_equal(value->type, MSGPACK_OBJECT_MAP);
    return &value->via.map;
}

static void every_type_reads_back(void **state)
{
    struct fixture *f = *state;
    const msgpack_object_map *map;

    add_record(f);
    add_text(f, "log",
             "gr\xc3\xbc\xc3\x9f"
             "e");
    add_field(f, "int", TF_VALUE_INT)->value.i = INT64_MIN;
    add_field(f, "uint", TF_VALUE_UINT)->value.u = UINT64_MAX;
    add_field(f, "double", TF_VALUE_DOUBLE)->value.d = 0.1;
    add_field(f, "true", TF_VALUE_TRUE);
    add_field(f, "false", TF_VALUE_FALSE);
    add_field(f, "nil", TF_VALUE_NIL);
    add_field(f, "", TF_VALUE_TRUE);
    encode(f, NULL);
    map = next_map(f);
    assert_int_equal(f->seconds, 1763892904);
    assert_int_equal(f->nanoseconds, 120000000);
    assert_int_equal(map->size, 8);
    assert_text(map, "log",
                "gr\xc3\xbc\xc3\x9f"
                "e");
    assert_true(find(map, "int")->via.i64 == INT64_MIN);
    assert_true(find(map, "uint")->via.u64 == UINT64_MAX);
    assert_true(find(map, "double")->via.f64 == 0.1);
    assert_true(find(map, "true")->via.boolean);
    assert_false(find(map, "false")->via.boolean);
    assert_int_equal(find(map, "nil")->type, MSGPACK_OBJECT_NIL);
    assert_true(find(map, "")->via.boolean);
    assert_int_equal(f->read_at, f->out.size);
    assert_int_equal(f->summary.events, 1);
}

static void integers_read_back_at_every_width(void **state)
{
    static const int64_t values[] = {
        0,  127, 128, 255,  256,  65535,     65536,         UINT32_MAX, INT64_MAX,
        -1, -32, -33, -128, -129, INT16_MIN, INT16_MIN - 1, INT32_MIN,  (int64_t)INT32_MIN - 1};
    struct fixture *f = *state;

    for (size_t i = 0; i < TF_COUNT(values); i++) {
        const msgpack_object *value;
        struct tf_buf small;

        assert_int_equal(tf_batch_reset(&f->batch), 0);
        add_record(f);
        add_field(f, "n", TF_VALUE_INT)->value.i = values[i];
        encode(f, NULL);
        value = find(next_map(f), "n");
        assert_true(value->via.i64 == values[i]);
        tf_buf_init(&small, 16); /* the same bytes as by hand: the smallest form */
        tf_msgpack_int(&small, values[i]);
        assert_memory_equal(f->out.data + f->out.size - small.size, small.data, small.size);
        tf_buf_fini(&small);
    }
}

static void texts_read_back_at_every_head_and_bytes_are_bin(void **state)
{
    static const size_t sizes[] = {0, 31, 32, 255, 256, 65535, 65536, 200000};
    struct fixture *f = *state;
    char *text = malloc(200000);

    assert_non_null(text);
    memset(text, 'a', 200000);
    for (size_t i = 0; i < TF_COUNT(sizes) * 3; i++) {
        enum tf_value_type type = i % 3 == 1 ? TF_VALUE_BYTES : TF_VALUE_TEXT;
        const msgpack_object *value;
        struct tf_field *field;
        size_t size = sizes[i / 3];
        uint32_t at;

        assert_int_equal(tf_batch_reset(&f->batch), 0);
        add_record(f);
        text[0] = i % 3 == 2 ? (char)0xff : 'a'; /* not UTF-8 */
        assert_int_equal(tf_batch_add_text(&f->batch, text, size, &at), 0);
        field = add_field(f, "log", type);
        field->value.text.at = at;
        field->value.text.size = (uint32_t)size;
        encode(f, NULL);
        value = find(next_map(f), "log");
        assert_int_equal(value->type, i % 3 == 0 || (i % 3 == 2 && size == 0) ? MSGPACK_OBJECT_STR
                                                                              : MSGPACK_OBJECT_BIN);
        assert_int_equal(value->via.bin.size, size);
        assert_true(size == 0 || memcmp(value->via.bin.ptr, text, size) == 0);
    }
    free(text);
}

static void containers_keep_their_order(void **state)
{
    struct fixture *f = *state;
    const msgpack_object_map *map, *inner;
    const msgpack_object *array;

    add_record(f);
    add_field(f, "outer", TF_VALUE_MAP)->value.count = 2;
    add_field(f, "list", TF_VALUE_ARRAY)->value.count = 20;
    for (unsigned i = 0; i < 20; i++) {
        add_field(f, "", TF_VALUE_UINT)->value.u = i;
    }
    add_field(f, "", TF_VALUE_MAP)->value.count = 0;
    add_text(f, "log", "behind");
    encode(f, NULL);
    map = next_map(f);
    assert_int_equal(map->size, 2);
    assert_text(map, "log", "behind");
    inner = find_map(map, "outer");
    array = find(inner, "list");
    assert_int_equal(array->via.array.size, 20);
    assert_int_equal(array->via.array.ptr[19].via.u64, 19);
    assert_int_equal(find_map(inner, "")->size, 0);
}

static void marks_stand_in_their_map_and_only_then(void **state)
{
    struct fixture *f = *state;
    const msgpack_object_map *marks;
    struct tf_record *record = add_record(f);

    add_text(f, "log", "x");
    record->flags = TF_RECORD_MALFORMED | TF_RECORD_TRUNCATED | TF_RECORD_UNFINISHED |
                    TF_RECORD_WITHHELD | TF_RECORD_REDACTED;
    record->true_bytes = 4000000;
    record->withheld_reason = "budget";
    add_record(f)->flags = TF_RECORD_REDACTED;
    record = add_record(f);
    record->flags = TF_RECORD_WITHHELD; /* without a reason */
    encode(f, NULL);
    marks = find_map(next_map(f), "taffrail");
    assert_int_equal(marks->size, 4);
    assert_true(find(marks, "malformed")->via.boolean);
    assert_int_equal(find(marks, "truncated")->via.u64, 4000000);
    assert_true(find(marks, "unfinished")->via.boolean);
    assert_text(marks, "withheld", "budget");
    assert_int_equal(next_map(f)->size, 0);
    assert_text(find_map(next_map(f), "taffrail"), "withheld", "unknown");
    assert_int_equal(f->summary.events, 3);
    assert_int_equal(f->summary.redacted, 2);
    assert_int_equal(f->summary.withheld, 2);
    assert_string_equal(tf_withheld_reasons[0], "budget");
    assert_int_equal(f->summary.withheld_by[0], 1);
    assert_int_equal(f->summary.withheld_by[TF_WITHHELD_REASONS - 1], 1);
    assert_int_equal(f->summary.malformed, 1);
    assert_int_equal(f->summary.truncated, 1);
}

static void marks_of_a_decoder_are_merged_and_ours_are_stronger(void **state)
{
    struct fixture *f = *state;
    const msgpack_object_map *map, *marks;
    struct tf_record *record = add_record(f);

    add_text(f, "log", "x");
    add_field(f, "taffrail", TF_VALUE_MAP)->value.count = 5;
    add_text(f, "withheld", "window");
    add_text(f, "contradicts", "fork");
    add_field(f, "nested", TF_VALUE_ARRAY)->value.count = 1;
    add_field(f, "", TF_VALUE_NIL);
    add_text(f, "contradicts", "twice");
    add_text(f, "unfinished", "kept");
    add_text(f, "stream", "stdout");
    record->flags = TF_RECORD_WITHHELD;
    record->withheld_reason = "budget";
    encode(f, NULL);
    map = next_map(f);
    assert_int_equal(map->size, 3);
    assert_true(is_key(&map->ptr[0].key, "taffrail")); /* before the fields */
    assert_text(map, "stream", "stdout");
    marks = find_map(map, "taffrail");
    assert_int_equal(marks->size, 4);
    assert_text(marks, "withheld", "budget");
    assert_text(marks, "contradicts", "fork");
    assert_int_equal(find(marks, "nested")->via.array.size, 1);
    assert_text(marks, "unfinished", "kept");
}

static void empty_marks_are_absent_and_marks_that_are_no_map_are_left_out(void **state)
{
    struct fixture *f = *state;
    const msgpack_object_map *map;

    add_record(f);
    add_field(f, "taffrail", TF_VALUE_MAP)->value.count = 0;
    add_record(f);
    add_text(f, "taffrail", "posing");
    encode(f, NULL);
    assert_int_equal(next_map(f)->size, 0);
    map = next_map(f);
    assert_int_equal(map->size, 1);
    assert_true(find(find_map(map, "taffrail"), "malformed")->via.boolean);
}

static void more_marks_than_the_bound_are_left_out(void **state)
{
    struct fixture *f = *state;

    add_record(f);
    add_field(f, "taffrail", TF_VALUE_MAP)->value.count = 100;
    for (unsigned i = 0; i < 100; i++) {
        char key[8];

        (void)snprintf(key, sizeof key, "m%u", i);
        add_text(f, key, "v");
    }
    encode(f, NULL);
    assert_int_equal(find_map(next_map(f), "taffrail")->size, 64);
}

static void the_first_of_a_doubled_key_stands(void **state)
{
    struct fixture *f = *state;
    const msgpack_object_map *map;

    add_record(f);
    add_text(f, "log", "first");
    add_field(f, "log", TF_VALUE_MAP)->value.count = 1;
    add_text(f, "log", "inside");
    add_text(f, "other", "o");
    encode(f, NULL);
    map = next_map(f);
    assert_int_equal(map->size, 3);
    assert_text(map, "log", "first");
    assert_text(map, "other", "o");
    assert_true(find(find_map(map, "taffrail"), "malformed")->via.boolean);
}

static void doubled_keys_of_a_wide_record_are_found(void **state)
{
    struct fixture *f = *state;
    const msgpack_object_map *map;
    char key[16];

    add_record(f);
    for (unsigned i = 0; i < 600; i++) {
        (void)snprintf(key, sizeof key, "key%u", i % 200);
        add_field(f, key, TF_VALUE_UINT)->value.u = i;
    }
    add_text(f, "taffrail", "no map");
    encode(f, NULL);
    map = next_map(f);
    assert_int_equal(map->size, 201);
    for (unsigned i = 0; i < 200; i++) {
        (void)snprintf(key, sizeof key, "key%u", i);
        assert_int_equal(find(map, key)->via.u64, i);
        assert_true(is_key(&map->ptr[i + 1].key, key)); /* the order stays */
    }
    assert_true(find(find_map(map, "taffrail"), "malformed")->via.boolean);
}

static void constants_come_first_and_are_stronger(void **state)
{
    struct fixture *f = *state;
    struct tf_constants constants;
    const msgpack_object_map *map;

    add_record(f);
    add_text(f, "host", "node-7");
    add_field(f, "kubernetes", TF_VALUE_MAP)->value.count = 1;
    add_text(f, "pod_name", "pay-0");
    add_text(f, "a_name_of_more_than_thirty_one_bytes", "long");
    add_text(f, "host", "twice");
    add_field(f, "taffrail", TF_VALUE_MAP)->value.count = 0;
    assert_int_equal(tf_constants_encode(&f->batch, &constants), 0);
    assert_int_equal(constants.count, 3);
    assert_int_equal(tf_batch_reset(&f->batch), 0);
    add_record(f);
    add_text(f, "log", "x");
    add_text(f, "host", "posing");
    add_text(f, "a_name_of_more_than_thirty_one_bytes", "posing");
    add_record(f);
    for (unsigned i = 0; i < 30; i++) { /* a wide one */
        char key[8];

        (void)snprintf(key, sizeof key, "k%u", i);
        add_text(f, key, "v");
    }
    add_text(f, "kubernetes", "posing");
    encode(f, &constants);
    map = next_map(f);
    assert_int_equal(map->size, 5);
    assert_true(is_key(&map->ptr[0].key, "host"));
    assert_true(is_key(&map->ptr[3].key, "taffrail"));
    assert_text(map, "host", "node-7");
    assert_text(map, "a_name_of_more_than_thirty_one_bytes", "long");
    assert_text(find_map(map, "kubernetes"), "pod_name", "pay-0");
    map = next_map(f);
    assert_int_equal(map->size, 34);
    assert_text(find_map(map, "kubernetes"), "pod_name", "pay-0");
    tf_constants_fini(&constants);
    tf_constants_fini(&constants);
}

static void no_record_makes_no_constants(void **state)
{
    struct fixture *f = *state;
    struct tf_constants constants;

    assert_int_equal(tf_constants_encode(&f->batch, &constants), 0);
    assert_int_equal(constants.count, 0);
    add_record(f)->flags = TF_RECORD_DROPPED;
    add_text(f, "host", "x");
    tf_constants_fini(&constants);
    assert_int_equal(tf_constants_encode(&f->batch, &constants), 0);
    assert_int_equal(constants.count, 0);
    add_record(f);
    encode(f, &constants);
    assert_int_equal(next_map(f)->size, 0);
    tf_constants_fini(&constants);
}

static void constants_have_bounds(void **state)
{
    struct fixture *f = *state;
    struct tf_constants constants = {.count = 7};
    char *text = calloc(1, 70000);

    assert_non_null(text);
    add_record(f);
    for (unsigned i = 0; i < 65; i++) {
        char key[8];

        (void)snprintf(key, sizeof key, "k%u", i);
        add_text(f, key, "v");
    }
    assert_int_equal(tf_constants_encode(&f->batch, &constants), -EMSGSIZE);
    assert_int_equal(tf_batch_reset(&f->batch), 0);
    add_record(f);
    assert_int_equal(tf_batch_add_text_field(&f->batch, "k", tf_slice(text, 70000)), 0);
    assert_int_equal(tf_constants_encode(&f->batch, &constants), -EMSGSIZE);
    assert_int_equal(constants.count, 7); /* written only on success */
    free(text);
}

static void dropped_records_are_counted_and_times_are_told(void **state)
{
    struct fixture *f = *state;

    add_record(f)->time_ns = 5;
    add_record(f)->flags = TF_RECORD_DROPPED;
    add_record(f)->time_ns = 3;
    add_record(f)->time_ns = 9;
    encode(f, NULL);
    assert_int_equal(f->summary.events, 3);
    assert_int_equal(f->summary.dropped, 1);
    assert_int_equal(f->summary.time_min_ns, 3);
    assert_int_equal(f->summary.time_max_ns, 9);
    assert_int_equal(tf_batch_reset(&f->batch), 0);
    encode(f, NULL);
    assert_int_equal(f->summary.events, 0);
    assert_int_equal(f->summary.time_min_ns, 0);
}

static void times_outside_of_event_time_are_clamped(void **state)
{
    struct fixture *f = *state;

    add_record(f)->time_ns = -5;
    add_record(f)->time_ns = INT64_MAX;
    encode(f, NULL);
    (void)next_map(f);
    assert_int_equal(f->seconds, 0);
    assert_int_equal(f->nanoseconds, 0);
    (void)next_map(f);
    assert_int_equal(f->seconds, UINT32_MAX);
    assert_int_equal(f->nanoseconds, 999999999);
}

static void keys_are_always_text(void **state)
{
    struct fixture *f = *state;
    const msgpack_object_map *map;

    add_record(f);
    add_text(f,
             "b\xff"
             "d",
             "x");
    encode(f, NULL);
    map = next_map(f);
    assert_text(map, "b?d", "x");
}

static void a_full_buffer_is_as_before(void **state)
{
    struct fixture *f = *state;
    struct tf_events_summary summary = {.events = 77};
    struct tf_buf small;

    tf_buf_init(&small, 1000);
    assert_int_equal(tf_buf_append_text(&small, "before"), 0);
    add_record(f);
    add_text(f, "log", "fits");
    add_record(f);
    assert_int_equal(tf_batch_add_text_field(&f->batch, "log", tf_batch_slice(&f->batch, 0, 20)),
                     0);
    for (unsigned i = 0; i < 100; i++) {
        add_text(f, "another", "0123456789");
    }
    assert_int_equal(tf_events_encode(&f->batch, NULL, &small, &summary), -EMSGSIZE);
    assert_int_equal(small.size, 6);
    assert_int_equal(small.error, 0);
    assert_int_equal(summary.events, 77);
    small.error = -ENOMEM; /* an earlier error sticks */
    assert_int_equal(tf_events_encode(&f->batch, NULL, &small, &summary), -ENOMEM);
    assert_int_equal(small.error, -ENOMEM);
    tf_buf_fini(&small);
}

/* What is encoded here is what the forward decoder of a collector takes. */
static void a_collector_reads_what_was_encoded(void **state)
{
    struct fixture *f = *state;
    struct tf_message_head head;
    struct tf_batch received;
    struct tf_buf message;

    for (unsigned i = 0; i < 50; i++) {
        add_record(f)->flags = i % 2 == 0 ? TF_RECORD_MALFORMED : 0;
        add_text(f, "stream", "stdout");
        add_text(f, "log", i % 3 == 0 ? "b\xff" : "text");
    }
    encode(f, NULL);
    tf_buf_init(&message, OUT_BYTES);
    tf_msgpack_array(&message, 2);
    tf_msgpack_text(&message, tf_slice_text("container"));
    tf_msgpack_bytes(&message, tf_buf_slice(&f->out));
    assert_int_equal(message.error, 0);
    assert_int_equal(tf_batch_init(&received), 0);
    assert_int_equal(tf_message_head(tf_buf_slice(&message), &head), 0);
    assert_int_equal(
        tf_message_decode(tf_buf_slice(&message), &head, "dns:a", false, NULL, 1, &received), 0);
    assert_int_equal(received.record_count, 50);
    assert_true(received.records[0].time_ns == TIME_NS);
    tf_buf_clear(&f->out);
    assert_int_equal(tf_events_encode(&received, NULL, &f->out, &f->summary), 0);
    assert_text(next_map(f), "identity", "dns:a");
    tf_batch_fini(&received);
    tf_buf_fini(&message);
}

/* A field of a record; all that read the same share their text, or each has its own. */
static void add_either(struct fixture *f, const char *key, struct tf_slice value,
                       enum tf_value_type type, bool shares)
{
    uint32_t count = f->batch.field_count, key_at = 0, at = 0;
    struct tf_field *field;

    for (uint32_t i = 0; shares && i < count && at == 0; i++) {
        const struct tf_field *earlier = &f->batch.fields[i];
        struct tf_slice name = tf_batch_slice(&f->batch, earlier->key_at, earlier->key_size);
        bool is_text = earlier->type == TF_VALUE_TEXT || earlier->type == TF_VALUE_BYTES;

        key_at = tf_slice_equal(name, tf_slice_text(key)) ? earlier->key_at : key_at;
        if (is_text && earlier->value.text.size >= value.size &&
            memcmp(f->batch.text.data + earlier->value.text.at, value.data, value.size) == 0) {
            at = earlier->value.text.at;
        }
    }
    if (key_at == 0) {
        assert_int_equal(tf_batch_add_text(&f->batch, key, strlen(key), &key_at), 0);
    }
    if (at == 0) {
        assert_int_equal(tf_batch_add_text(&f->batch, value.data, value.size, &at), 0);
    }
    field = tf_batch_add_field(&f->batch, key_at, (uint32_t)strlen(key), type);
    field->value.text.at = at;
    field->value.text.size = (uint32_t)value.size;
}

static void fields_that_share_text_are_written_as_others(void **state)
{
    static const char *const names[] = {"a", "_CMDLINE",
                                        "a_name_of_more_than_thirty_two_bytes_it_is"};
    static const char *const texts[] = {"plain text", "plain", "caf\xe9", "plain text",
                                        "caf\xc3\xa9"};
    struct fixture *f = *state;
    struct tf_buf first;

    for (int shares = 0; shares < 2; shares++) {
        assert_int_equal(tf_batch_reset(&f->batch), 0);
        for (uint32_t i = 0; i < 60; i++) {
            enum tf_value_type type = i % 7 == 0 ? TF_VALUE_BYTES : TF_VALUE_TEXT;

            (void)add_record(f);
            assert_int_equal(tf_batch_add_map_field(&f->batch, "journald", 2), 0);
            add_either(f, names[i % 3], tf_slice_text(texts[i % 5]), type, shares == 1);
            add_either(f, names[(i + 1) % 3], tf_slice_text(texts[(i + 2) % 5]), TF_VALUE_TEXT,
                       shares == 1);
        }
        if (shares == 0) {
            encode(f, NULL);
            first = f->out;
            tf_buf_init(&f->out, first.limit_bytes);
        }
    }
    encode(f, NULL);
    assert_int_equal(f->out.size, first.size);
    assert_memory_equal(f->out.data, first.data, first.size);
    tf_buf_fini(&first);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(every_type_reads_back),
        TEST(fields_that_share_text_are_written_as_others),
        TEST(integers_read_back_at_every_width),
        TEST(texts_read_back_at_every_head_and_bytes_are_bin),
        TEST(containers_keep_their_order),
        TEST(marks_stand_in_their_map_and_only_then),
        TEST(marks_of_a_decoder_are_merged_and_ours_are_stronger),
        TEST(empty_marks_are_absent_and_marks_that_are_no_map_are_left_out),
        TEST(more_marks_than_the_bound_are_left_out),
        TEST(the_first_of_a_doubled_key_stands),
        TEST(doubled_keys_of_a_wide_record_are_found),
        TEST(constants_come_first_and_are_stronger),
        TEST(no_record_makes_no_constants),
        TEST(constants_have_bounds),
        TEST(dropped_records_are_counted_and_times_are_told),
        TEST(times_outside_of_event_time_are_clamped),
        TEST(keys_are_always_text),
        TEST(a_full_buffer_is_as_before),
        TEST(a_collector_reads_what_was_encoded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
