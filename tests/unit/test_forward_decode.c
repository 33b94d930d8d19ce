/*
 * test_forward_decode.c - forward messages: all modes, who may state what, and hostile bytes.
 *
 * Messages are written with tf_msgpack_*; what was decoded is shown as JSON-like text and compared.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>
#include <zlib.h>

#include "taffrail/decode.h"
#include "taffrail/event.h"

#define NOW_NS INT64_C(77)

/* ---- writing messages
 * ---------------------------------------------------------------------------- */

static void put_text(struct tf_buf *buf, const char *text)
{
    tf_msgpack_text(buf, tf_slice_text(text));
}

static void put_time(struct tf_buf *buf, uint32_t seconds, uint32_t nanoseconds)
{
    uint8_t ext[10] = {0xd7, 0};

    for (unsigned i = 0; i < 4; i++) {
        ext[2 + i] = (uint8_t)(seconds >> (24 - 8 * i));
        ext[6 + i] = (uint8_t)(nanoseconds >> (24 - 8 * i));
    }
    assert_int_equal(tf_buf_append(buf, ext, sizeof ext), 0);
}

static void put_record(struct tf_buf *buf, const char *key, const char *value)
{
    tf_msgpack_map(buf, 1);
    put_text(buf, key);
    put_text(buf, value);
}

static void put_entry(struct tf_buf *buf, uint32_t seconds, const char *key, const char *value)
{
    tf_msgpack_array(buf, 2);
    put_time(buf, seconds, 5);
    put_record(buf, key, value);
}

static void put_taffrail(struct tf_buf *buf, uint64_t version)
{
    uint8_t bytes[32] = {9, 8, 7};

    put_text(buf, "taffrail");
    tf_msgpack_map(buf, 6);
    put_text(buf, "v");
    tf_msgpack_uint(buf, version);
    put_text(buf, "spool");
    tf_msgpack_bytes(buf, tf_slice(bytes, 16));
    put_text(buf, "seq");
    tf_msgpack_uint(buf, UINT64_C(1) << 41);
    put_text(buf, "prev");
    tf_msgpack_uint(buf, 12);
    put_text(buf, "chain");
    tf_msgpack_bytes(buf, tf_slice(bytes, 32));
    put_text(buf, "later");
    tf_msgpack_nil(buf);
}

static void put_gzip(struct tf_buf *buf, const void *data, size_t size)
{
    z_stream z = {.next_in = (z_const Bytef *)data, .avail_in = (uInt)size};
    size_t bound = size + 1024;

    assert_int_equal(deflateInit2(&z, 9, Z_DEFLATED, 31, 8, Z_DEFAULT_STRATEGY), Z_OK);
    assert_int_equal(tf_buf_reserve(buf, bound), 0);
    z.next_out = (Bytef *)buf->data + buf->size;
    z.avail_out = (uInt)bound;
    assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
    buf->size += z.total_out;
    deflateEnd(&z);
}

static struct tf_buf new_buf(void)
{
    struct tf_buf buf;

    tf_buf_init(&buf, 64u << 20);
    return buf;
}

/* ---- showing batches
 * ----------------------------------------------------------------------------- */

static uint32_t show_field(const struct tf_batch *batch, uint32_t index, struct tf_buf *out)
{
    const struct tf_field *field = &batch->fields[index];
    const char *text = batch->text.data;

    if (field->key_size > 0) {
        (void)tf_buf_printf(out, "%.*s:", (int)field->key_size, text + field->key_at);
    }
    index++;
    switch (field->type) {
    case TF_VALUE_TEXT:
        (void)tf_buf_printf(out, "%.*s", (int)field->value.text.size, text + field->value.text.at);
        break;
    case TF_VALUE_BYTES:
        (void)tf_buf_printf(out, "<%u>", field->value.text.size);
        break;
    case TF_VALUE_INT:
        (void)tf_buf_printf(out, "%lld", (long long)field->value.i);
        break;
    case TF_VALUE_UINT:
        (void)tf_buf_printf(out, "+%llu", (unsigned long long)field->value.u);
        break;
    case TF_VALUE_DOUBLE:
        (void)tf_buf_printf(out, "%g", field->value.d);
        break;
    case TF_VALUE_MAP:
    case TF_VALUE_ARRAY:
        (void)tf_buf_append_text(out, field->type == TF_VALUE_MAP ? "{" : "[");
        for (uint32_t i = 0; i < field->value.count; i++) {
            (void)tf_buf_append_text(out, i > 0 ? "," : "");
            index = show_field(batch, index, out);
        }
        (void)tf_buf_append_text(out, field->type == TF_VALUE_MAP ? "}" : "]");
        break;
    default:
        (void)tf_buf_append_text(out, field->type == TF_VALUE_TRUE    ? "true"
                                      : field->type == TF_VALUE_FALSE ? "false"
                                                                      : "nil");
    }
    return index;
}

static void show(const struct tf_batch *batch, struct tf_buf *out)
{
    for (uint32_t i = 0; i < batch->record_count; i++) {
        const struct tf_record *record = &batch->records[i];
        uint32_t index = record->first_field;

        (void)tf_buf_printf(out, "%lld", (long long)record->time_ns);
        while (index < record->first_field + record->field_count) {
            (void)tf_buf_append_byte(out, ' ');
            index = show_field(batch, index, out);
        }
        (void)tf_buf_append_byte(out, '\n');
    }
    (void)tf_buf_append_byte(out, 0);
}

struct how {
    bool is_relay;
    const char *contradicts;
};

static int decode(const struct tf_buf *message, struct how how, struct tf_batch *batch)
{
    struct tf_message_head head;
    int rc = tf_message_head(tf_buf_slice(message), &head);

    assert_int_equal(message->error, 0);
    if (rc < 0) {
        return rc;
    }
    return tf_message_decode(tf_buf_slice(message), &head, "dns:a", how.is_relay, how.contradicts,
                             NOW_NS, batch);
}

/* Decodes, compares and frees message. */
static void expect(struct tf_buf *message, struct how how, const char *wanted)
{
    struct tf_msgpack_scan scan = {0};
    struct tf_buf shown = new_buf();
    struct tf_batch batch;

    assert_true(tf_msgpack_size(tf_buf_slice(message), &scan) == (int64_t)message->size);
    assert_int_equal(tf_batch_init(&batch), 0);
    assert_int_equal(decode(message, how, &batch), 0);
    assert_int_equal(batch.read_bytes, message->size);
    show(&batch, &shown);
    assert_string_equal(shown.data, wanted);
    tf_buf_fini(&shown);
    tf_batch_fini(&batch);
    tf_buf_fini(message);
}

static void expect_error(struct tf_buf *message, int wanted)
{
    struct tf_batch batch;

    assert_int_equal(tf_batch_init(&batch), 0);
    assert_int_equal(decode(message, (struct how){0}, &batch), wanted);
    assert_int_equal(batch.record_count, 0);
    tf_batch_fini(&batch);
    tf_buf_fini(message);
}

/* ---- modes
 * --------------------------------------------------------------------------------------- */

static void message_mode_takes_seconds_and_now(void **state)
{
    struct tf_buf message = new_buf();

    (void)state;
    tf_msgpack_array(&message, 3);
    put_text(&message, "app");
    tf_msgpack_uint(&message, 2);
    put_record(&message, "log", "x");
    expect(&message, (struct how){0}, "2000000000 identity:dns:a log:x\n");

    message = new_buf();
    tf_msgpack_array(&message, 4);
    put_text(&message, "app");
    put_time(&message, 0, 0);
    put_record(&message, "log", "x");
    tf_msgpack_nil(&message);
    expect(&message, (struct how){0}, "77 identity:dns:a log:x\n");
}

static void forward_mode_takes_each_entry(void **state)
{
    struct tf_buf message = new_buf();

    (void)state;
    tf_msgpack_array(&message, 2);
    put_text(&message, "app");
    tf_msgpack_array(&message, 2);
    put_entry(&message, 1, "log", "one");
    tf_msgpack_array(&message, 2); /* v1.5: [[time, {metadata}], record] */
    tf_msgpack_array(&message, 2);
    put_time(&message, 2, 0);
    put_record(&message, "m", "meta");
    put_record(&message, "log", "two");
    expect(
        &message, (struct how){0},
        "1000000005 identity:dns:a log:one\n2000000000 identity:dns:a log:two metadata:{m:meta}\n");
}

static void packed_mode_takes_bin_and_str(void **state)
{
    struct tf_buf events = new_buf();

    (void)state;
    put_entry(&events, 1, "log", "one");
    put_entry(&events, 2, "log", "two");
    for (unsigned i = 0; i < 2; i++) {
        struct tf_buf message = new_buf();

        tf_msgpack_array(&message, 2);
        put_text(&message, "app");
        if (i == 0) {
            tf_msgpack_bytes(&message, tf_buf_slice(&events));
        } else {
            tf_msgpack_text(&message, tf_buf_slice(&events));
        }
        expect(&message, (struct how){0},
               "1000000005 identity:dns:a log:one\n2000000005 identity:dns:a log:two\n");
    }
    tf_buf_fini(&events);
}

static struct tf_buf compressed_message(const struct tf_buf *payload, const char *algorithm)
{
    struct tf_buf message = new_buf();

    tf_msgpack_array(&message, 3);
    put_text(&message, "app");
    tf_msgpack_bytes(&message, tf_buf_slice(payload));
    put_record(&message, "compressed", algorithm);
    return message;
}

static void gzip_takes_several_members(void **state)
{
    struct tf_buf events = new_buf(), payload = new_buf(), message;
    size_t half;

    (void)state;
    put_entry(&events, 1, "log", "one");
    half = events.size - 3; /* an event may go over the border of two members */
    put_entry(&events, 2, "log", "two");
    put_gzip(&payload, events.data, half);
    put_gzip(&payload, "", 0);
    put_gzip(&payload, events.data + half, events.size - half);
    message = compressed_message(&payload, "gzip");
    expect(&message, (struct how){0},
           "1000000005 identity:dns:a log:one\n2000000005 identity:dns:a log:two\n");

    message = compressed_message(&payload, "zstd");
    expect_error(&message, -EPROTO);
    message = compressed_message(&events, "gzip");
    expect_error(&message, -EPROTO);
    payload.size -= 5; /* the last member ends too early */
    message = compressed_message(&payload, "gzip");
    expect_error(&message, -EPROTO);
    tf_buf_clear(&payload);
    message = compressed_message(&payload, "gzip");
    expect_error(&message, -EPROTO);
    tf_buf_fini(&events);
    tf_buf_fini(&payload);
}

static void bombs_are_refused(void **state)
{
    size_t size = 20u << 20;
    char *zeros = calloc(1, size);
    struct tf_buf payload = new_buf(), message;

    (void)state;
    assert_non_null(zeros);
    put_gzip(&payload, zeros, size); /* over 16 MiB, and a ratio of about 1028 */
    message = compressed_message(&payload, "gzip");
    expect_error(&message, -EMSGSIZE);
    tf_buf_clear(&payload);
    put_gzip(&payload, zeros, 4u << 20); /* over the ratio only */
    message = compressed_message(&payload, "gzip");
    expect_error(&message, -EMSGSIZE);
    tf_buf_clear(&payload);
    put_gzip(&payload, zeros, 1u << 20); /* small: read, and then it is no event */
    message = compressed_message(&payload, "gzip");
    expect_error(&message, -EPROTO);
    tf_buf_fini(&payload);
    free(zeros);
}

/* One record that repeats is what an honest agent sends most easily near ratio 1000. */
static void an_honest_repetitive_frame_is_taken(void **state)
{
    struct tf_buf events = new_buf(), payload = new_buf(), message;
    size_t size = (1u << 20) - 64;
    char *line = malloc(size + 1);
    struct tf_batch batch;

    (void)state;
    assert_non_null(line);
    memset(line, ' ', size);
    line[size] = '\0';
    put_entry(&events, 1, "log", line);
    put_gzip(&payload, events.data, events.size);
    message = compressed_message(&payload, "gzip");
    assert_int_equal(tf_batch_init(&batch), 0);
    assert_int_equal(decode(&message, (struct how){0}, &batch), 0);
    assert_int_equal(batch.record_count, 1);
    tf_batch_fini(&batch);
    tf_buf_fini(&message);
    tf_buf_fini(&payload);
    tf_buf_fini(&events);
    free(line);
}

static void every_value_type_is_kept(void **state)
{
    static const uint8_t values[] = {
        0x8a, 0xa1, 'a',  0xc0, 0xa1, 'b',  0xc3, 0xa1, 'c', 0xff, 0xa1, 'd',  0xd1,
        0xff, 0x00, 0xa1, 'e',  0xcd, 0x01, 0x00, 0xa1, 'f', 0xca, 0x3f, 0xc0, 0,
        0,    0xa1, 'g',  0xc4, 0x02, 1,    2,    0xa1, 'h', 0x92, 0x01, 0x81, 0xa1,
        'i',  0x90, 0xa1, 'j',  0xd7, 0,    0,    0,    0,   1,    0,    0,    0,
        2,    0xa1, 'k',  0xcb, 0x3f, 0xe0, 0,    0,    0,   0,    0,    0};
    struct tf_buf message = new_buf();

    (void)state;
    tf_msgpack_array(&message, 3);
    put_text(&message, "app");
    tf_msgpack_uint(&message, 1);
    assert_int_equal(tf_buf_append(&message, values, sizeof values), 0);
    expect(&message, (struct how){0},
           "1000000000 identity:dns:a a:nil b:true c:-1 d:-256 e:+256 f:1.5 g:<2> h:[+1,{i:[]}] "
           "j:1970-01-01T00:00:01.000000002Z k:0.5\n");
}

/* ---- who may state what
 * -------------------------------------------------------------------------- */

static void put_forged(struct tf_buf *buf, unsigned kind)
{
    static const char *const names[] = {"time", "tag", "host", "log"};

    tf_msgpack_map(buf, 8);
    for (unsigned i = 0; i < TF_COUNT(names); i++) {
        put_text(buf, names[i]);
        put_text(buf, "f");
    }
    put_text(buf, "identity");
    put_text(buf, "dns:boss");
    put_text(buf, "via");
    tf_msgpack_array(buf, 1);
    put_text(buf, "dns:v");
    put_text(buf, "claimed");
    put_record(buf, "old", "c");
    put_text(buf, "taffrail");
    tf_msgpack_map(buf, 2);
    put_text(buf, "malformed");
    tf_msgpack_bool(buf, true);
    put_text(buf, kind == 0 ? "x" : "contradicts");
    put_text(buf, "back");
}

static struct tf_buf forged(bool has_taffrail, uint64_t version)
{
    struct tf_buf message = new_buf();

    tf_msgpack_array(&message, 4);
    put_text(&message, "app");
    tf_msgpack_uint(&message, 1);
    put_forged(&message, 1);
    tf_msgpack_map(&message, has_taffrail ? 2 : 1);
    put_text(&message, "chunk");
    put_text(&message, "Q0hVTks=");
    if (has_taffrail) {
        put_taffrail(&message, version);
    }
    return message;
}

static void a_foreign_sender_claims_only(void **state)
{
    static const char wanted[] =
        "1000000000 identity:dns:a log:f claimed:{time:f,tag:f,host:f,identity:dns:boss,"
        "via:[dns:v],claimed:{old:c},taffrail:{malformed:true,contradicts:back}}\n";
    struct tf_buf message = forged(false, 0);

    (void)state;
    expect(&message, (struct how){0}, wanted);
    message = forged(false, 0); /* an entry with relay does not make it a taffrail */
    expect(&message, (struct how){.is_relay = true}, wanted);
    message = forged(true, 2); /* a version nobody knows yet */
    expect(&message, (struct how){0}, wanted);
}

static void a_taffrail_sender_keeps_its_own_keys(void **state)
{
    struct tf_buf message = forged(true, 1);

    (void)state;
    expect(&message, (struct how){.contradicts = "fork"},
           "1000000000 identity:dns:a time:f tag:f host:f log:f "
           "claimed:{identity:dns:boss,via:[dns:v],claimed:{old:c}} "
           "taffrail:{malformed:true,contradicts:fork}\n");
}

static void a_relay_is_added_to_via(void **state)
{
    struct tf_buf message = forged(true, 1);

    (void)state;
    expect(&message, (struct how){.is_relay = true},
           "1000000000 identity:dns:boss via:[dns:v,dns:a] time:f tag:f host:f log:f "
           "claimed:{old:c} taffrail:{malformed:true,contradicts:back}\n");
}

static void the_head_tells_names(void **state)
{
    struct tf_buf message = forged(true, 1);
    struct tf_message_head head;

    (void)state;
    assert_int_equal(tf_message_head(tf_buf_slice(&message), &head), 0);
    assert_true(head.has_taffrail);
    assert_true(tf_slice_equal(head.tag, tf_slice_text("app")));
    assert_true(tf_slice_equal(head.chunk, tf_slice_text("Q0hVTks=")));
    assert_true(head.seq == UINT64_C(1) << 41 && head.prev == 12);
    assert_int_equal(head.chain[2], 7);
    assert_int_equal(head.spool_id[0], 9);
    tf_buf_fini(&message);
    message = forged(true, 2);
    assert_int_equal(tf_message_head(tf_buf_slice(&message), &head), 0);
    assert_false(head.has_taffrail);
    assert_true(head.seq == 0 && head.chain[2] == 0 && head.chunk.size == 8);
    tf_buf_fini(&message);
}

/* ---- hostile bytes
 * ------------------------------------------------------------------------------- */

static void every_cut_waits_and_no_cut_decodes(void **state)
{
    struct tf_buf message = forged(true, 1);
    struct tf_msgpack_scan scan = {0};

    (void)state;
    for (size_t i = 0; i < message.size; i++) {
        struct tf_message_head head;
        char *exact = malloc(i + 1); /* so that a read past the end is seen */

        assert_non_null(exact);
        memcpy(exact, message.data, i);
        assert_true(tf_msgpack_size(tf_slice(message.data, i), &scan) == 0);
        assert_int_equal(tf_message_head(tf_slice(exact, i), &head), -EPROTO);
        free(exact);
    }
    assert_true(tf_msgpack_size(tf_buf_slice(&message), &scan) == (int64_t)message.size);
    tf_buf_fini(&message);
}

static void hostile_bytes_are_refused(void **state)
{
    static const struct {
        const char *bytes;
        size_t size;
    } bad[] = {
#define BAD(text) {text, sizeof(text) - 1}
        BAD("\xc1"),
        BAD("\x80"),
        BAD("\x91\xa1"
            "a"),
        BAD("\x93\xa0\x01\x80"),     /* empty tag */
        BAD("\x93\xa1\x01\x01\x80"), /* control character in the tag */
        BAD("\x93\xa1\xff\x01\x80"), /* tag is no UTF-8 */
        BAD("\x93\xc4\x01"
            "a\x01\x80"), /* tag is bin */
        BAD("\x93\xa1"
            "a\xff\x80"), /* time below 0 */
        BAD("\x93\xa1"
            "a\xcb\0\0\0\0\0\0\0\0\x80"), /* time is a float */
        BAD("\x93\xa1"
            "a\xcf\xff\xff\xff\xff\xff\xff\xff\xff\x80"),
        BAD("\x93\xa1"
            "a\xd7\0\0\0\0\1\x3b\x9a\xca\0\x80"), /* 10^9 ns */
        BAD("\x93\xa1"
            "a\xd7\1\0\0\0\1\0\0\0\0\x80"), /* ext type 1 */
        BAD("\x93\xa1"
            "a\x01\x90"), /* record is an array */
        BAD("\x93\xa1"
            "a\x01\x81\x01\x01"), /* key is a number */
        BAD("\x93\xa1"
            "a\x01\x81\xa1\xff\x01"), /* key is no UTF-8 */
        BAD("\x93\xa1"
            "a\x01\xdf\xff\xff\xff\xff"),
        BAD("\x92\xa1"
            "a\xdd\xff\xff\xff\xff"),
        BAD("\x92\xa1"
            "a\xc6\xff\xff\xff\xff"),
        BAD("\x92\xa1"
            "a\x91\x93\x01\x80\x80"), /* entry of three */
        BAD("\x92\xa1"
            "a\xc4\x03\x92\x01\x81"), /* packed event is cut */
        BAD("\x94\xa1"
            "a\x01\x80\xa1x"), /* option is text */
        BAD("\x94\xa1"
            "a\x01\x80\x81\xa5"
            "chunk\xc4\x01x"), /* chunk is bin */
        BAD("\x93\xa1"
            "a\x01\x80\x80"), /* more than the message */
#undef BAD
    };

    (void)state;
    for (size_t i = 0; i < TF_COUNT(bad); i++) {
        struct tf_buf message = new_buf();

        assert_int_equal(tf_buf_append(&message, bad[i].bytes, bad[i].size), 0);
        expect_error(&message, -EPROTO);
    }
}

static void depth_fields_and_keys_are_bounded(void **state)
{
    struct tf_buf message = new_buf();
    struct tf_msgpack_scan scan = {0};

    (void)state;
    tf_msgpack_array(&message, 3);
    put_text(&message, "a");
    tf_msgpack_uint(&message, 1);
    tf_msgpack_map(&message, 1);
    put_text(&message, "k");
    for (unsigned i = 0; i < 15; i++) { /* array, map, and 15 more */
        tf_msgpack_array(&message, 1);
    }
    tf_msgpack_nil(&message);
    expect_error(&message, -EPROTO);

    message = new_buf();
    for (unsigned i = 0; i < 100; i++) {
        tf_msgpack_array(&message, 1);
    }
    assert_true(tf_msgpack_size(tf_buf_slice(&message), &scan) == -EPROTO);
    tf_buf_fini(&message);

    message = new_buf();
    tf_msgpack_array(&message, 3);
    put_text(&message, "a");
    tf_msgpack_uint(&message, 1);
    tf_msgpack_map(&message, 1025);
    for (unsigned i = 0; i < 1025; i++) {
        put_text(&message, "k");
        tf_msgpack_nil(&message);
    }
    expect_error(&message, -EMSGSIZE);

    message = new_buf();
    tf_msgpack_array(&message, 3);
    put_text(&message, "a");
    tf_msgpack_uint(&message, 1);
    tf_msgpack_map(&message, 1);
    tf_msgpack_map(&message, 0); /* a map as key */
    tf_msgpack_nil(&message);
    expect_error(&message, -EPROTO);
}

static void oversize_is_known_from_its_head(void **state)
{
    static const char *const heads[] = {"\xc6\x00\x80\x00\x01", "\xdd\x00\x80\x00\x01",
                                        "\xdf\xff\xff\xff\xff"};

    (void)state;
    for (size_t i = 0; i < TF_COUNT(heads); i++) {
        struct tf_msgpack_scan scan = {0};

        assert_true(tf_msgpack_size(tf_slice(heads[i], 5), &scan) == -EMSGSIZE);
    }
}

static void too_many_records_are_refused(void **state)
{
    struct tf_buf message = new_buf();

    (void)state;
    tf_msgpack_array(&message, 2);
    put_text(&message, "a");
    tf_msgpack_array(&message, 65537);
    for (unsigned i = 0; i < 65537; i++) {
        tf_msgpack_array(&message, 2);
        tf_msgpack_uint(&message, 1);
        tf_msgpack_map(&message, 0);
    }
    expect_error(&message, -EMSGSIZE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(message_mode_takes_seconds_and_now),
        cmocka_unit_test(forward_mode_takes_each_entry),
        cmocka_unit_test(packed_mode_takes_bin_and_str),
        cmocka_unit_test(gzip_takes_several_members),
        cmocka_unit_test(bombs_are_refused),
        cmocka_unit_test(an_honest_repetitive_frame_is_taken),
        cmocka_unit_test(every_value_type_is_kept),
        cmocka_unit_test(a_foreign_sender_claims_only),
        cmocka_unit_test(a_taffrail_sender_keeps_its_own_keys),
        cmocka_unit_test(a_relay_is_added_to_via),
        cmocka_unit_test(the_head_tells_names),
        cmocka_unit_test(every_cut_waits_and_no_cut_decodes),
        cmocka_unit_test(hostile_bytes_are_refused),
        cmocka_unit_test(depth_fields_and_keys_are_bounded),
        cmocka_unit_test(oversize_is_known_from_its_head),
        cmocka_unit_test(too_many_records_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
