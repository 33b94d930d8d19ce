/* test_cri.c - CRI lines and RFC 3339 times, good and hostile. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "taffrail/decode.h"

#define SECOND_OF_TEST INT64_C(1763892904) /* 2025-11-23T10:15:04Z */

static void times_are_read_to_the_nanosecond(void **state)
{
    static const struct {
        const char *text;
        int64_t time_ns;
    } good[] = {
        {"2025-11-23T10:15:04Z", SECOND_OF_TEST * TF_S_IN_NS},
        {"2025-11-23T10:15:04.123456789Z", SECOND_OF_TEST * TF_S_IN_NS + 123456789},
        {"2025-11-23T10:15:04.12Z", SECOND_OF_TEST * TF_S_IN_NS + 120000000},
        {"2025-11-23T12:15:04.000000001+02:00", SECOND_OF_TEST * TF_S_IN_NS + 1},
        {"2025-11-22T10:16:04-23:59", SECOND_OF_TEST * TF_S_IN_NS},
        {"1970-01-01T00:00:00Z", 0},
        {"2000-02-29T00:00:00Z", INT64_C(951782400) * TF_S_IN_NS},
        {"2016-12-31T23:59:60Z", INT64_C(1483228800) * TF_S_IN_NS - 1},
    };
    int64_t time_ns;

    (void)state;
    for (size_t i = 0; i < TF_COUNT(good); i++) {
        assert_int_equal(tf_time_parse(tf_slice_text(good[i].text), &time_ns), 0);
        assert_true(time_ns == good[i].time_ns);
    }
}

static void malformed_times_are_refused(void **state)
{
    static const char *const bad[] = {
        "",
        "2025-11-23T10:15:04",
        "2025-11-23 10:15:04Z",
        "2025-02-29T00:00:00Z",
        "2025-13-01T00:00:00Z",
        "2025-11-23T24:00:00Z",
        "2025-11-23T10:15:04.1234567890Z",
        "2025-11-23T10:15:04Zx",
        "2025-11-23T10:15:04+0200",
        "2025-11-23T10:15:04+24:00",
        "0001-01-01T00:00:00Z",
        "20x5-11-23T10:15:04Z",
    };
    int64_t time_ns = 7;

    (void)state;
    for (size_t i = 0; i < TF_COUNT(bad); i++) {
        assert_int_equal(tf_time_parse(tf_slice_text(bad[i]), &time_ns), -EPROTO);
    }
    assert_true(time_ns == 7); /* written only on success */
}

static void lines_are_split(void **state)
{
    static const struct {
        const char *line, *text;
        enum tf_stream stream;
        bool partial;
    } good[] = {
        {"2025-11-23T10:15:04Z stdout F hello  world ", "hello  world ", TF_STREAM_STDOUT, false},
        {"2025-11-23T10:15:04Z stderr P piece", "piece", TF_STREAM_STDERR, true},
        {"2025-11-23T10:15:04Z stdout F ", "", TF_STREAM_STDOUT, false},
        {"2025-11-23T10:15:04Z stdout P", "", TF_STREAM_STDOUT, true},
        {"2025-11-23T10:15:04Z stdout F:x:y later tags", "later tags", TF_STREAM_STDOUT, false},
    };
    struct tf_cri_line out;

    (void)state;
    for (size_t i = 0; i < TF_COUNT(good); i++) {
        assert_int_equal(tf_cri_split(tf_slice_text(good[i].line), &out), 0);
        assert_true(tf_slice_equal(out.text, tf_slice_text(good[i].text)));
        assert_int_equal(out.stream, good[i].stream);
        assert_int_equal(out.partial, good[i].partial);
        assert_true(out.time_ns == SECOND_OF_TEST * TF_S_IN_NS);
    }
}

static void malformed_lines_are_refused(void **state)
{
    static const char *const bad[] = {
        "",
        "no time at all",
        "2025-11-23T10:15:04Z",
        "2025-11-23T10:15:04Z stdout",
        "2025-11-23T10:15:04Z stdin F x",
        "2025-11-23T10:15:04Z stdout X x",
        "2025-11-23T10:15:04Z stdout FF x",
        "2025-11-23T10:15:04Z stdout  x",
        "2025-11-23T10:15:04Z  stdout F x",
        " stdout F x",
    };
    struct tf_cri_line out;

    (void)state;
    for (size_t i = 0; i < TF_COUNT(bad); i++) {
        assert_int_equal(tf_cri_split(tf_slice_text(bad[i]), &out), -EPROTO);
    }
}

/* Every prefix of a good line, in memory of its own, so that a read past its end is seen. */
static void cut_lines_are_never_read_past_their_end(void **state)
{
    static const char whole[] = "2025-11-23T10:15:04.123456789+01:00 stderr P:x tail of text";

    (void)state;
    for (size_t size = 0; size < sizeof whole; size++) {
        char *copy = malloc(size + (size == 0));
        struct tf_cri_line out;

        assert_non_null(copy);
        memcpy(copy, whole, size);
        (void)tf_cri_split(tf_slice(copy, size), &out);
        free(copy);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(times_are_read_to_the_nanosecond),
        cmocka_unit_test(malformed_times_are_refused),
        cmocka_unit_test(lines_are_split),
        cmocka_unit_test(malformed_lines_are_refused),
        cmocka_unit_test(cut_lines_are_never_read_past_their_end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
