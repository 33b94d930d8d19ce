/* test_error.c - findings come out in the order of their places, escaped, none lost in silence. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "taffrail/error.h"

static void printed(const struct tf_error *err, bool as_json, char *text, size_t size)
{
    FILE *to = fmemopen(text, size, "w");

    assert_non_null(to);
    if (as_json) {
        tf_error_print_json(err, to);
    } else {
        (void)tf_error_print(err, to);
    }
    assert_int_equal(fclose(to), 0);
}

static void findings_are_sorted_by_place(void **state)
{
    struct tf_error err;
    char text[1000] = {0};

    (void)state;
    tf_error_init(&err);
    assert_string_equal(tf_error_first(&err), "no error");
    tf_warning_add(&err, &(struct tf_place){"t.yaml", 9, 2}, "later");
    assert_int_equal(
        tf_error_add(&err, &(struct tf_place){"t.yaml", 3, 7}, "unknown key \"%s\"", "ex\x1blude"),
        -EINVAL);
    (void)tf_error_add(&err, NULL, "nowhere");
    printed(&err, false, text, sizeof text);
    assert_string_equal(text, "error: nowhere\nt.yaml:3:7: error: unknown key "
                              "\"ex\\x1blude\"\nt.yaml:9:2: warning: later\n");
    assert_int_equal(err.errors, 2);
    assert_int_equal(err.warnings, 1);
    tf_error_fini(&err);
}

static void json_is_one_object_a_finding(void **state)
{
    struct tf_error err;
    char text[1000] = {0};

    (void)state;
    tf_error_init(&err);
    (void)tf_error_add(&err, &(struct tf_place){"t.yaml", 1, 2}, "say \"a\\b\"");
    printed(&err, true, text, sizeof text);
    assert_string_equal(text, "{\"file\":\"t.yaml\",\"line\":1,\"column\":2,\"severity\":\"error\","
                              "\"text\":\"say \\\"a\\\\b\\\"\"}\n");
    tf_error_fini(&err);
}

static void findings_past_the_bound_are_counted(void **state)
{
    struct tf_error err;

    (void)state;
    tf_error_init(&err);
    for (int i = 0; i < (int)TF_FINDINGS_MAX + 5; i++) {
        (void)tf_error_add(&err, NULL, "%d", i);
    }
    assert_int_equal(err.count, TF_FINDINGS_MAX);
    assert_int_equal(err.dropped, 5);
    assert_int_equal(err.errors, TF_FINDINGS_MAX + 5);
    tf_error_fini(&err);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(findings_are_sorted_by_place),
        cmocka_unit_test(json_is_one_object_a_finding),
        cmocka_unit_test(findings_past_the_bound_are_counted),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
