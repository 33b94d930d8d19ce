/*
 * test_lookup.c - what is found in an event, and what a mark leaves alone.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "taffrail/event.h"

#define TIME_NS (INT64_C(1700000000) * TF_S_IN_NS + 5)

static void put_text(struct tf_buf *out, const char *key, const char *value)
{
    tf_msgpack_text(out, tf_slice_text(key));
    tf_msgpack_text(out, tf_slice_text(value));
}

static void put_head(struct tf_buf *out, uint32_t pairs)
{
    static const uint8_t time[] = {0xd7, 0, 0x65, 0x53, 0xf1, 0x00, 0, 0, 0, 5};

    tf_msgpack_array(out, 2);
    (void)tf_buf_append(out, time, sizeof time);
    tf_msgpack_map(out, pairs);
}

/* {kubernetes: {namespace_name, labels: {app.io/name}}, log, n: -7, list: [a, 2], taffrail} */
static void put_event(struct tf_buf *out)
{
    put_head(out, 5);
    tf_msgpack_text(out, tf_slice_text("kubernetes"));
    tf_msgpack_map(out, 2);
    put_text(out, "namespace_name", "shop");
    tf_msgpack_text(out, tf_slice_text("labels"));
    tf_msgpack_map(out, 1);
    put_text(out, "app.io/name", "cart");
    put_text(out, "log", "charge failed");
    tf_msgpack_text(out, tf_slice_text("n"));
    tf_msgpack_int(out, -7);
    tf_msgpack_text(out, tf_slice_text("list"));
    tf_msgpack_array(out, 2);
    tf_msgpack_text(out, tf_slice_text("a"));
    tf_msgpack_uint(out, 2);
    tf_msgpack_text(out, tf_slice_text("taffrail"));
    tf_msgpack_map(out, 2);
    tf_msgpack_text(out, tf_slice_text("malformed"));
    tf_msgpack_bool(out, true);
    put_text(out, "replayed", "older");
}

static bool equals(void *ctx, struct tf_slice text)
{
    return tf_slice_equal(text, tf_slice_text(ctx));
}

static bool finds(const struct tf_buf *event, const char *path, const char *value)
{
    char text[64];

    (void)snprintf(text, sizeof text, "%s", value);
    return tf_event_any(tf_buf_slice(event), tf_slice_text(path), equals, text);
}

static int setup(void **state)
{
    static struct tf_buf event;

    tf_buf_init(&event, 65536);
    put_event(&event);
    assert_int_equal(event.error, 0);
    *state = &event;
    return 0;
}

static int teardown(void **state)
{
    tf_buf_fini(*state);
    return 0;
}

static void values_are_found_by_path(void **state)
{
    assert_true(finds(*state, "log", "charge failed"));
    assert_true(finds(*state, "kubernetes.namespace_name", "shop"));
    assert_true(finds(*state, "kubernetes.labels.app.io/name", "cart"));
    assert_true(finds(*state, "n", "-7"));
    assert_true(finds(*state, "list", "a"));
    assert_true(finds(*state, "list", "2"));
    assert_true(finds(*state, "taffrail.malformed", "true"));
}

static void what_is_not_there_is_not_found(void **state)
{
    assert_false(finds(*state, "log", "charge"));
    assert_false(finds(*state, "lo", "charge failed"));
    assert_false(finds(*state, "log.x", "charge failed"));
    assert_false(finds(*state, "log.", "charge failed"));
    assert_false(finds(*state, "kubernetes", "shop"));
    assert_false(finds(*state, "namespace_name", "shop"));
    assert_false(finds(*state, "", "shop"));
}

static void size_and_time_are_told_of_whole_events_only(void **state)
{
    const struct tf_buf *event = *state;
    int64_t time_ns = 0;

    assert_int_equal(tf_event_measure(tf_buf_slice(event), &time_ns), event->size);
    assert_int_equal(time_ns, TIME_NS);
    for (size_t size = 0; size < event->size; size++) {
        struct tf_buf out;

        tf_buf_init(&out, 65536);
        assert_int_equal(tf_event_measure(tf_slice(event->data, size), &time_ns), -EPROTO);
        assert_int_equal(
            tf_event_mark(tf_slice(event->data, size), "replayed", tf_slice("x", 1), &out),
            -EPROTO);
        assert_int_equal(out.size, 0);
        tf_buf_fini(&out);
    }
}

static void a_mark_replaces_its_own_kind_only(void **state)
{
    struct tf_buf out;
    int64_t time_ns = 0;

    tf_buf_init(&out, 65536);
    assert_int_equal(
        tf_event_mark(tf_buf_slice(*state), "replayed", tf_slice_text("case-42"), &out), 0);
    assert_int_equal(tf_event_measure(tf_buf_slice(&out), &time_ns), out.size);
    assert_int_equal(time_ns, TIME_NS);
    assert_true(finds(&out, "taffrail.replayed", "case-42"));
    assert_false(finds(&out, "taffrail.replayed", "older"));
    assert_true(finds(&out, "taffrail.malformed", "true"));
    assert_true(finds(&out, "list", "2"));
    tf_buf_fini(&out);
}

static void an_event_without_marks_gets_some(void **state)
{
    struct tf_buf event, out;

    (void)state;
    tf_buf_init(&event, 65536);
    tf_buf_init(&out, 65536);
    put_head(&event, 1);
    put_text(&event, "log", "x");
    assert_int_equal(tf_event_mark(tf_buf_slice(&event), "replayed", tf_slice_text("j"), &out), 0);
    assert_true(finds(&out, "taffrail.replayed", "j"));
    assert_true(finds(&out, "log", "x"));
    tf_buf_fini(&event);
    tf_buf_fini(&out);
}

static void a_buffer_that_is_full_is_left_as_it_was(void **state)
{
    struct tf_buf out;

    tf_buf_init(&out, 40);
    assert_int_equal(tf_event_mark(tf_buf_slice(*state), "replayed", tf_slice_text("j"), &out),
                     -EMSGSIZE);
    assert_int_equal(out.size, 0);
    assert_int_equal(out.error, 0);
    tf_buf_fini(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(values_are_found_by_path, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_not_there_is_not_found, setup, teardown),
        cmocka_unit_test_setup_teardown(size_and_time_are_told_of_whole_events_only, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_mark_replaces_its_own_kind_only, setup, teardown),
        cmocka_unit_test_setup_teardown(an_event_without_marks_gets_some, setup, teardown),
        cmocka_unit_test_setup_teardown(a_buffer_that_is_full_is_left_as_it_was, setup, teardown),
    };

    return cmocka_run_group_tests_name("lookup", tests, NULL, NULL);
}
