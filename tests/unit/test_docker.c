/* test_docker.c - lines of docker's json-file log, good and hostile. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "taffrail/decode.h"

#define SECOND_OF_TEST INT64_C(1763892904) /* 2025-11-23T10:15:04Z */
#define TIME           "\"time\":\"2025-11-23T10:15:04Z\""
#define REPLACED       "\xef\xbf\xbd" /* U+FFFD */

static int setup(void **state)
{
    struct tf_batch *batch = calloc(1, sizeof *batch);

    *state = batch;
    return batch == NULL ? -1 : tf_batch_init(batch);
}

static int teardown(void **state)
{
    tf_batch_fini(*state);
    free(*state);
    return 0;
}

/* Parses line from memory of its very size, so that a read past its end is seen. */
static int parse(struct tf_batch *batch, struct tf_slice line, struct tf_docker_line *out)
{
    char *copy = malloc(line.size + (line.size == 0));
    int rc;

    assert_non_null(copy);
    memcpy(copy, line.data, line.size);
    rc = tf_docker_parse(tf_slice(copy, line.size), batch, out);
    free(copy);
    return rc;
}

static struct tf_docker_line parse_good(struct tf_batch *batch, const char *line)
{
    struct tf_docker_line out;

    assert_int_equal(parse(batch, tf_slice_text(line), &out), 0);
    assert_int_equal(batch->text.data[out.text_at - 1], '\n');
    assert_int_equal(batch->text.data[out.text_at + out.text_size], '\n');
    assert_int_equal(batch->text.size, out.text_at + out.text_size + 1);
    return out;
}

/* What a string in JSON becomes. */
static void check_text(struct tf_batch *batch, const char *json, struct tf_slice expected)
{
    char line[512];
    struct tf_docker_line out;

    (void)snprintf(line, sizeof line, "{\"log\":\"%s\",\"stream\":\"stdout\"," TIME "}", json);
    out = parse_good(batch, line);
    assert_int_equal(out.text_size, expected.size);
    assert_memory_equal(batch->text.data + out.text_at, expected.data, expected.size);
}

static void lines_of_docker_are_read(void **state)
{
    struct tf_docker_line out =
        parse_good(*state, "{\"log\":\"hello\\n\",\"stream\":\"stderr\"," TIME "}");

    assert_int_equal(out.stream, TF_STREAM_STDERR);
    assert_true(out.time_ns == SECOND_OF_TEST * TF_S_IN_NS);
    assert_false(out.partial);
    assert_int_equal(out.text_size, 5);
    out = parse_good(*state, "{\"log\":\"piece\",\"stream\":\"stdout\","
                             "\"time\":\"2025-11-23T12:15:04.5+02:00\"}");
    assert_int_equal(out.stream, TF_STREAM_STDOUT);
    assert_true(out.time_ns == SECOND_OF_TEST * TF_S_IN_NS + TF_S_IN_NS / 2);
    assert_true(out.partial);
}

static void only_the_last_newline_is_taken_off(void **state)
{
    check_text(*state, "", tf_slice("", 0));
    check_text(*state, "\\n", tf_slice("", 0));
    check_text(*state, "a\\n\\n", tf_slice_text("a\n"));
    check_text(*state, "a\\r\\n", tf_slice_text("a\r"));
    check_text(*state, "a\\u000a", tf_slice_text("a"));
}

static void escapes_are_undone(void **state)
{
    check_text(*state, "\\\"\\\\\\/\\b\\f\\n\\r\\t.", tf_slice_text("\"\\/\b\f\n\r\t."));
    check_text(*state, "\\u003c\\u003E\\u0026", tf_slice_text("<>&"));
    check_text(*state, "nul\\u0000nul", tf_slice("nul\0nul", 7));
    check_text(*state, "\\u00e9\\u20AC\\u2028", tf_slice_text("é€\u2028"));
    check_text(*state, "\\ud83d\\ude00 \\uDBFF\\uDFFF", tf_slice_text("😀 \U0010FFFF"));
}

static void lone_surrogates_are_replaced(void **state)
{
    check_text(*state, "\\ud83d", tf_slice_text(REPLACED));
    check_text(*state, "\\ude00\\ud83d", tf_slice_text(REPLACED REPLACED));
    check_text(*state, "\\ud83d\\n.", tf_slice_text(REPLACED "\n."));
    check_text(*state, "\\ud83d\\u0041", tf_slice_text(REPLACED "A"));
    check_text(*state, "\\ud83d\\ud83d\\ude00", tf_slice_text(REPLACED "😀"));
}

static void other_bytes_stay_as_they_are(void **state)
{
    struct tf_batch *batch = *state;
    static const char line[] =
        "{\"log\":\"\xff\xfe nul \0 tab \t é\\n\",\"stream\":\"stdout\"," TIME "}";
    static const char text[] = "\xff\xfe nul \0 tab \t é";
    struct tf_docker_line out;

    assert_int_equal(parse(batch, tf_slice(line, sizeof line - 1), &out), 0);
    assert_int_equal(out.text_size, sizeof text - 1);
    assert_memory_equal(batch->text.data + out.text_at, text, sizeof text - 1);
}

/* Escapes at each place of a step of the fast copy. */
static void long_texts_are_copied_whole(void **state)
{
    struct tf_batch *batch = *state;
    char line[256], expected[256];

    for (size_t before = 0; before < 40; before++) {
        for (size_t behind = 0; behind < 20; behind++) {
            struct tf_docker_line out;

            (void)snprintf(line, sizeof line, "{" TIME ",\"log\":\"%.*s\\t%.*s\"}", (int)before,
                           "0123456789012345678901234567890123456789", (int)behind,
                           "abcdefghijklmnopqrst");
            (void)snprintf(expected, sizeof expected, "%.*s\t%.*s\n", (int)before,
                           "0123456789012345678901234567890123456789", (int)behind,
                           "abcdefghijklmnopqrst");
            out = parse_good(batch, line);
            assert_int_equal(out.text_size + 1, strlen(expected));
            assert_memory_equal(batch->text.data + out.text_at, expected, strlen(expected));
        }
    }
}

static void keys_stand_in_any_order_and_others_are_skipped(void **state)
{
    static const char *const lines[] = {
        "{" TIME ",\"stream\":\"stdout\",\"log\":\"x\\n\"}",
        " {\t\"stream\" : \"stdout\" , " TIME " ,\"log\":\"x\\n\" } \r",
        "{\"attrs\":{\"log\":\"no\",\"t\\\"ag\":[]},\"log\":\"x\\n\"," TIME
        ",\"stream\":\"stdout\"}",
        "{\"a\":null,\"b\":[1,-2.5E+3,[{}],{\"c\":[true,false]}],\"log\":\"x\\n\"," TIME
        ",\"stream\":\"stdout\",\"\":\"\\\\\"}",
        "{\"d\":[[[[[[[[[[[[[[[]]]]]]]]]]]]]]],\"log\":\"x\\n\"," TIME ",\"stream\":\"stdout\"}",
    };

    for (size_t i = 0; i < TF_COUNT(lines); i++) {
        struct tf_docker_line out = parse_good(*state, lines[i]);

        assert_int_equal(out.text_size, 1);
        assert_int_equal(out.stream, TF_STREAM_STDOUT);
    }
}

static void unknown_streams_are_other(void **state)
{
    static const char *const lines[] = {
        "{\"log\":\"x\\n\"," TIME "}",
        "{\"log\":\"x\\n\",\"stream\":\"stdin\"," TIME "}",
        "{\"log\":\"x\\n\",\"stream\":\"stdoux\"," TIME "}",
        "{\"log\":\"x\\n\",\"stream\":\"std\\u006fut\"," TIME "}",
    };

    for (size_t i = 0; i < TF_COUNT(lines); i++) {
        assert_int_equal(parse_good(*state, lines[i]).stream, TF_STREAM_OTHER);
    }
}

static void malformed_lines_leave_the_batch_alone(void **state)
{
    static const char *const bad[] = {
        "",
        " ",
        "plain text",
        "[]",
        "{}",
        "{\"log\":\"x\\n\"}",
        "{\"stream\":\"stdout\"," TIME "}",
        "{\"log\":\"x\\n\"," TIME "} x",
        "{\"log\":\"x\\n\"," TIME "}{}",
        "{\"log\":\"x\\n\"," TIME ",}",
        "{\"log\":\"x\\n\"," TIME,
        "{\"log\":\"x\\n\" " TIME "}",
        "{\"log\" \"x\\n\"," TIME "}",
        "{log:\"x\\n\"," TIME "}",
        "{\"log\":1," TIME "}",
        "{\"log\":null," TIME "}",
        "{\"log\":\"x\\n\",\"stream\":1," TIME "}",
        "{\"log\":\"x\\n\",\"time\":1}",
        "{\"log\":\"x\\n\",\"time\":\"yesterday\"}",
        "{\"log\":\"x\\x\"," TIME "}",
        "{\"log\":\"x\\u12\"," TIME "}",
        "{\"log\":\"x\\u12g4\"," TIME "}",
        "{\"log\":\"\\ud83d\\u12g4\"," TIME "}",
        "{\"log\":\"x\\",
        "{\"log\":\"x\\u",
        "{\"log\":\"x\\u000",
        "{\"log\":\"x\"," TIME ",\"log\":\"y\"}",
        "{\"log\":\"x\"," TIME "," TIME "}",
        "{\"log\":\"x\",\"stream\":\"stdout\",\"stream\":\"stderr\"," TIME "}",
        "{\"log\":\"x\"," TIME ",\"a\":}",
        "{\"log\":\"x\"," TIME ",\"a\":",
        "{\"log\":\"x\"," TIME ",\"a\":{\"b\"}}",
        "{\"log\":\"x\"," TIME ",\"a\":{\"b\":1]}",
        "{\"log\":\"x\"," TIME ",\"a\":[1,]}",
        "{\"log\":\"x\"," TIME ",\"a\":\"\\",
        "{\"log\":\"x\"," TIME ",\"d\":[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]}",
    };
    struct tf_batch *batch = *state;
    size_t size = batch->text.size;
    struct tf_docker_line out = {.text_at = 7};

    for (size_t i = 0; i < TF_COUNT(bad); i++) {
        assert_int_equal(parse(batch, tf_slice_text(bad[i]), &out), -EPROTO);
        assert_int_equal(batch->text.size, size);
        assert_int_equal(batch->text.error, 0);
    }
    assert_int_equal(out.text_at, 7); /* written only on success */
}

static void cut_lines_are_malformed(void **state)
{
    static const char whole[] = "{\"log\":\"a long enough text \\ud83d\\ude00\\n\",\"stream\":"
                                "\"stdout\",\"attrs\":{\"a\":[1,{}]}," TIME "}";
    struct tf_docker_line out;

    for (size_t size = 0; size < sizeof whole - 1; size++) {
        assert_int_equal(parse(*state, tf_slice(whole, size), &out), -EPROTO);
    }
    assert_int_equal(parse(*state, tf_slice(whole, sizeof whole - 1), &out), 0);
}

static void full_batch_refuses_and_stays_sound(void **state)
{
    struct tf_batch *batch = *state;
    static const char line[] = "{\"log\":\"x\\n\"," TIME "}";
    char *huge = calloc(1, TF_BATCH_TEXT_MAX);
    struct tf_docker_line out;
    uint32_t at;

    assert_non_null(huge);
    assert_int_equal(tf_docker_parse(tf_slice(huge, TF_BATCH_TEXT_MAX), batch, &out), -EMSGSIZE);
    assert_int_equal(tf_batch_add_text(batch, huge, TF_BATCH_TEXT_MAX - batch->text.size - 20, &at),
                     0);
    assert_int_equal(parse(batch, tf_slice_text(line), &out), -EMSGSIZE);
    assert_int_equal(tf_batch_add_text(batch, "still", 5, &at), 0);
    free(huge);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(lines_of_docker_are_read, setup, teardown),
        cmocka_unit_test_setup_teardown(only_the_last_newline_is_taken_off, setup, teardown),
        cmocka_unit_test_setup_teardown(escapes_are_undone, setup, teardown),
        cmocka_unit_test_setup_teardown(lone_surrogates_are_replaced, setup, teardown),
        cmocka_unit_test_setup_teardown(other_bytes_stay_as_they_are, setup, teardown),
        cmocka_unit_test_setup_teardown(long_texts_are_copied_whole, setup, teardown),
        cmocka_unit_test_setup_teardown(keys_stand_in_any_order_and_others_are_skipped, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(unknown_streams_are_other, setup, teardown),
        cmocka_unit_test_setup_teardown(malformed_lines_leave_the_batch_alone, setup, teardown),
        cmocka_unit_test_setup_teardown(cut_lines_are_malformed, setup, teardown),
        cmocka_unit_test_setup_teardown(full_batch_refuses_and_stays_sound, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
