/* test_msgpack.c - each value is written as the msgpack library reads it, in the smallest form. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>
#include <msgpack.h>

#include "taffrail/event.h"

/* Reads the buffer's one object back; fails when bytes are left over. */
static msgpack_object read_one(const struct tf_buf *buf, msgpack_unpacked *into)
{
    size_t at = 0;

    msgpack_unpacked_init(into);
    assert_int_equal(buf->error, 0);
    assert_int_equal(msgpack_unpack_next(into, buf->data, buf->size, &at), MSGPACK_UNPACK_SUCCESS);
    assert_int_equal(at, buf->size);
    return into->data;
}

static void integers_read_back_in_their_smallest_form(void **state)
{
    static const struct {
        int64_t value;
        size_t size;
    } cases[] = {
        {0, 1},     {127, 1},        {128, 2},       {255, 2},    {256, 3},       {65535, 3},
        {65536, 5}, {UINT32_MAX, 5}, {INT64_MAX, 9}, {-1, 1},     {-32, 1},       {-33, 2},
        {-128, 2},  {-129, 3},       {INT16_MIN, 3}, {-32769, 5}, {INT32_MIN, 5}, {INT64_MIN, 9},
    };

    (void)state;
    for (size_t i = 0; i < TF_COUNT(cases); i++) {
        struct tf_buf buf;
        msgpack_unpacked unpacked;
        msgpack_object object;

        tf_buf_init(&buf, 100);
        tf_msgpack_int(&buf, cases[i].value);
        object = read_one(&buf, &unpacked);
        assert_int_equal(buf.size, cases[i].size);
        assert_true(object.via.i64 == cases[i].value);
        assert_int_equal(object.type, cases[i].value < 0 ? MSGPACK_OBJECT_NEGATIVE_INTEGER
                                                         : MSGPACK_OBJECT_POSITIVE_INTEGER);
        msgpack_unpacked_destroy(&unpacked);
        tf_buf_fini(&buf);
    }
}

static void texts_and_bytes_read_back_at_every_head(void **state)
{
    static const size_t sizes[] = {0, 1, 31, 32, 255, 256, 65535, 65536};
    char *data = calloc(1, 65536);

    (void)state;
    assert_non_null(data);
    for (size_t i = 0; i < TF_COUNT(sizes) * 2; i++) {
        size_t size = sizes[i / 2];
        struct tf_buf buf;
        msgpack_unpacked unpacked;
        msgpack_object object;

        tf_buf_init(&buf, 70000);
        if (i % 2 == 0) {
            tf_msgpack_text(&buf, tf_slice(data, size));
        } else {
            tf_msgpack_bytes(&buf, tf_slice(data, size));
        }
        object = read_one(&buf, &unpacked);
        assert_int_equal(object.type, i % 2 == 0 ? MSGPACK_OBJECT_STR : MSGPACK_OBJECT_BIN);
        assert_int_equal(object.via.str.size, size);
        msgpack_unpacked_destroy(&unpacked);
        tf_buf_fini(&buf);
    }
    free(data);
}

static void containers_hold_what_follows(void **state)
{
    static const uint32_t counts[] = {0, 15, 16, 65535, 65536};

    (void)state;
    for (size_t i = 0; i < TF_COUNT(counts); i++) {
        struct tf_buf buf;
        msgpack_unpacked unpacked;
        msgpack_object object;

        tf_buf_init(&buf, 1 << 20);
        tf_msgpack_array(&buf, counts[i]);
        for (uint32_t n = 0; n < counts[i]; n++) {
            tf_msgpack_bool(&buf, n % 2 == 0);
        }
        object = read_one(&buf, &unpacked);
        assert_int_equal(object.via.array.size, counts[i]);
        msgpack_unpacked_destroy(&unpacked);
        tf_buf_clear(&buf);
        tf_msgpack_map(&buf, counts[i]);
        for (uint32_t n = 0; n < counts[i]; n++) {
            tf_msgpack_uint(&buf, n);
            tf_msgpack_nil(&buf);
        }
        object = read_one(&buf, &unpacked);
        assert_int_equal(object.type, MSGPACK_OBJECT_MAP);
        assert_int_equal(object.via.map.size, counts[i]);
        msgpack_unpacked_destroy(&unpacked);
        tf_buf_fini(&buf);
    }
}

static void errors_stick(void **state)
{
    struct tf_buf buf;

    (void)state;
    tf_buf_init(&buf, 4);
    tf_msgpack_text(&buf, tf_slice_text("longer than four"));
    assert_true(buf.error < 0);
    tf_buf_fini(&buf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(integers_read_back_in_their_smallest_form),
        cmocka_unit_test(texts_and_bytes_read_back_at_every_head),
        cmocka_unit_test(containers_hold_what_follows),
        cmocka_unit_test(errors_stick),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
