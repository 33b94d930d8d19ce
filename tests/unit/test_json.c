/* test_json.c - strings and small documents of JSON, good and hostile, in memory of their very
 * size. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "taffrail/json.h"

#define REPLACED "\xef\xbf\xbd" /* U+FFFD */

/* What json becomes, in new memory of as many bytes as it has; NULL when it is no string. */
static char *undo(struct tf_slice json, bool takes_controls, size_t *size, size_t *left)
{
    char *copy = malloc(json.size + (json.size == 0)), *to = malloc(json.size + (json.size == 0));
    struct tf_json in = tf_json(tf_slice(copy, json.size));
    char *end;

    assert_non_null(copy);
    assert_non_null(to);
    memcpy(copy, json.data, json.size);
    end = tf_json_text(&in, to, takes_controls);
    *left = (size_t)(in.end - in.at);
    free(copy);
    if (end == NULL) {
        free(to);
        return NULL;
    }
    *size = (size_t)(end - to);
    return to;
}

static void check(struct tf_slice json, struct tf_slice wanted)
{
    size_t size = 0, left = 0;
    char *text = undo(json, false, &size, &left);

    assert_non_null(text);
    assert_int_equal(size, wanted.size);
    assert_memory_equal(text, wanted.data, size);
    assert_int_equal(left, 0);
    free(text);
}

static bool is_string(struct tf_slice json, bool takes_controls)
{
    size_t size, left;
    char *text = undo(json, takes_controls, &size, &left);

    free(text);
    return text != NULL;
}

static void strings_are_read(void **state)
{
    (void)state;
    check(tf_slice_text("\"\""), tf_slice_text(""));
    check(tf_slice_text(" \t\r\n\"a\""), tf_slice_text("a"));
    check(tf_slice_text("\"0123456789abcdef0123456789abcdef é\""),
          tf_slice_text("0123456789abcdef0123456789abcdef é"));
    check(tf_slice_text("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u0041\""),
          tf_slice_text("\"\\/\b\f\n\r\tA"));
    check(tf_slice_text("\"\\u0000\""), tf_slice("\0", 1));
    check(tf_slice_text("\"\\ud83d\\ude00\\ud83d\\ude00\""), tf_slice_text("😀😀"));
    check(tf_slice_text("\"\\ude00\\ud83d\\u0041\""), tf_slice_text(REPLACED REPLACED "A"));
    check(tf_slice_text("\"\x7f\xff\""), tf_slice_text("\x7f\xff"));
}

/* At each place in a step, and behind the last whole one. */
static void controls_are_refused_where_they_may_not_stand(void **state)
{
    char json[64];

    (void)state;
    for (size_t size = 3; size <= sizeof json; size++) {
        for (size_t at = 1; at < size - 1; at++) {
            for (int byte = 0; byte <= ' '; byte += byte < 31 ? 31 : 1) {
                memset(json, 'x', size);
                json[0] = json[size - 1] = '"';
                json[at] = (char)byte;
                assert_int_equal(is_string(tf_slice(json, size), false), byte == ' ');
                assert_true(is_string(tf_slice(json, size), true));
            }
        }
    }
}

static void broken_strings_are_refused(void **state)
{
    static const char *const broken[] = {
        "",          " ",           "a",         "\"",          "\"a",          "\"\\\"",
        "\"\\",      "\"\\x\"",     "\"\\u12\"", "\"\\u123g\"", "\"\\u",        "'a'",
        "\"\\ud83d", "\"\\U0041\"", "\"\\0\"",   "\"\\\n\"",    "\"\\ud83d\\u", "\"\\ud83d\\ude0\"",
    };

    (void)state;
    for (size_t i = 0; i < TF_COUNT(broken); i++) {
        if (is_string(tf_slice_text(broken[i]), false)) {
            fail_msg("%s is no string", broken[i]);
        }
    }
}

static void raw_strings_are_as_they_are_written(void **state)
{
    struct tf_json in = tf_json(tf_slice_text(" \"a\\\"\\\\\" : \"cut\\"));
    struct tf_slice raw;

    (void)state;
    assert_true(tf_json_raw(&in, &raw));
    assert_true(tf_slice_equal(raw, tf_slice_text("a\\\"\\\\")));
    assert_false(tf_json_take(&in, ','));
    assert_true(tf_json_take(&in, ':'));
    assert_false(tf_json_raw(&in, &raw));
}

static void expect_slice(bool is_there, struct tf_slice got, const char *wanted)
{
    assert_true(is_there);
    assert_true(tf_slice_equal(got, tf_slice_text(wanted)));
}

static void values_are_found_by_key(void **state)
{
    struct tf_slice text = tf_slice_text(
        "{ \"a\" : [ {\"b\": \"}]\\\"\"} , -1.5e3, true ] ,\n\"c\":{}, \"d\" : null }\n");
    struct tf_slice value, item;
    struct tf_json in;

    (void)state;
    assert_true(tf_json_is_whole(text));
    expect_slice(tf_json_member(text, "c", &value), value, "{}");
    expect_slice(tf_json_member(text, "d", &value), value, "null");
    assert_true(tf_json_member(text, "a", &value));
    in = tf_json(value);
    assert_true(tf_json_next_item(&in, &item));
    expect_slice(tf_json_member(item, "b", &value), value, "\"}]\\\"\"");
    assert_false(tf_json_member(text, "b", &value));
    assert_false(tf_json_member(tf_slice_text("{}"), "", &value));
    expect_slice(tf_json_next_item(&in, &item), item, "-1.5e3");
    expect_slice(tf_json_next_item(&in, &item), item, "true");
    assert_false(tf_json_next_item(&in, &item));
}

/* In memory of its very size, cut at each byte. */
static void members_and_items_come_in_their_order(void **state)
{
    struct tf_json in = tf_json(tf_slice_text(" {\"a\" : [1, {\"x\":2}] ,\"b\":\"c,\\\"}\"} "));
    struct tf_slice name, value;

    (void)state;
    assert_true(tf_json_next_member(&in, &name, &value));
    expect_slice(true, name, "a");
    expect_slice(true, value, "[1, {\"x\":2}]");
    assert_true(tf_json_next_member(&in, &name, &value));
    expect_slice(true, name, "b");
    expect_slice(true, value, "\"c,\\\"}\"");
    assert_false(tf_json_next_member(&in, &name, &value));
    in = tf_json(tf_slice_text("[1, {\"x\":2}]"));
    assert_true(tf_json_next_item(&in, &value));
    expect_slice(true, value, "1");
    assert_true(tf_json_next_item(&in, &value));
    expect_slice(true, value, "{\"x\":2}");
    assert_false(tf_json_next_item(&in, &value));
    in = tf_json(tf_slice_text("{}"));
    assert_false(tf_json_next_member(&in, &name, &value));
    in = tf_json(tf_slice_text("[]"));
    assert_false(tf_json_next_item(&in, &value));
    in = tf_json(tf_slice_text("7"));
    assert_false(tf_json_next_item(&in, &value));
}

static void broken_documents_are_refused(void **state)
{
    static const char *const broken[] = {"",      "{",     "[1,]", "{\"a\":}", "{\"a\" 1}",
                                         "{1:2}", "[1 2]", "{} x", "[\"",      "}"};
    static const char sound[] = "{\"a\":[1,{\"b\":\"c\"}],\"d\":2}";
    char deep[2 * TF_JSON_DEPTH_MAX + 2];
    struct tf_slice value;

    (void)state;
    for (size_t i = 0; i < TF_COUNT(broken); i++) {
        assert_false(tf_json_is_whole(tf_slice_text(broken[i])));
    }
    for (size_t size = 0; size < sizeof sound - 1; size++) {
        char *copy = malloc(size + (size == 0));

        memcpy(copy, sound, size);
        assert_false(tf_json_is_whole(tf_slice(copy, size)));
        (void)tf_json_member(tf_slice(copy, size), "d", &value);
        free(copy);
    }
    memset(deep, '[', sizeof deep / 2);
    memset(deep + sizeof deep / 2, ']', sizeof deep / 2);
    assert_false(tf_json_is_whole(tf_slice(deep, sizeof deep)));
    assert_true(tf_json_is_whole(tf_slice(deep + 2, sizeof deep - 4)));
}

static void what_is_put_is_a_string(void **state)
{
    struct tf_buf out;

    (void)state;
    tf_buf_init(&out, 4096);
    tf_json_put(&out, "a\"\\\n\x7f</é");
    expect_slice(true, tf_buf_slice(&out), "\"a\\u0022\\u005c\\u000a\\u007f\\u003c/é\"");
    tf_buf_clear(&out);
    tf_json_put(&out, "x\xff");
    expect_slice(true, tf_buf_slice(&out), "\"x\\ufffd\"");
    assert_true(tf_json_is_whole(tf_buf_slice(&out)));
    tf_buf_fini(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(strings_are_read),
        cmocka_unit_test(controls_are_refused_where_they_may_not_stand),
        cmocka_unit_test(broken_strings_are_refused),
        cmocka_unit_test(raw_strings_are_as_they_are_written),
        cmocka_unit_test(values_are_found_by_key),
        cmocka_unit_test(members_and_items_come_in_their_order),
        cmocka_unit_test(broken_documents_are_refused),
        cmocka_unit_test(what_is_put_is_a_string),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
