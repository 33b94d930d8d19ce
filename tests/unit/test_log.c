/* test_log.c - the own log is one sound line an event, whatever stands in it. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "taffrail/log.h"

static int saved_stderr = -1;
static FILE *captured;

static int capture(void **state)
{
    (void)state;
    captured = tmpfile();
    saved_stderr = dup(STDERR_FILENO);
    return captured == NULL || saved_stderr < 0 || dup2(fileno(captured), STDERR_FILENO) < 0 ? -1
                                                                                             : 0;
}

static int release(void **state)
{
    (void)state;
    (void)dup2(saved_stderr, STDERR_FILENO);
    (void)close(saved_stderr);
    return fclose(captured);
}

static void read_back(char *text, size_t size)
{
    ssize_t n = pread(fileno(captured), text, size - 1, 0);

    text[n > 0 ? n : 0] = '\0';
}

static void foreign_text_stays_one_value(void **state)
{
    char text[4096];

    (void)state;
    tf_log_configure(TF_LOG_INFO, TF_LOG_LOGFMT);
    tf_log(TF_LOG_INFO, "test-escape",
           TF_DETAILS(TF_STR("pod", "a\nlevel=error \"x\" \xff"), TF_BOOL("jit", true)), "n=%d", 3);
    read_back(text, sizeof text);
    assert_non_null(strstr(text, " level=info event=test-escape msg=\"n=3\" "
                                 "pod=\"a\\u000alevel=error \\\"x\\\" \\u00ff\" jit=true\n"));
    assert_ptr_equal(strchr(text, '\n'), text + strlen(text) - 1);
}

static void json_has_the_same_keys(void **state)
{
    char text[4096];

    (void)state;
    tf_log_configure(TF_LOG_INFO, TF_LOG_JSON);
    tf_log(TF_LOG_WARN, "test-json", TF_DETAILS(TF_NUM("segments", -12)), "spool ready");
    read_back(text, sizeof text);
    assert_memory_equal(text, "{\"time\":\"", 9);
    assert_non_null(strstr(
        text,
        "\"level\":\"warn\",\"event\":\"test-json\",\"msg\":\"spool ready\",\"segments\":-12}\n"));
}

static void repeats_of_one_subject_are_told_once(void **state)
{
    char text[4096];
    size_t lines = 0;

    (void)state;
    tf_log_configure(TF_LOG_INFO, TF_LOG_LOGFMT);
    for (int i = 0; i < 50; i++) {
        tf_log(TF_LOG_WARN, "test-repeat", TF_DETAILS(TF_STR("output", "a")), "down");
    }
    tf_log(TF_LOG_WARN, "test-repeat", TF_DETAILS(TF_STR("output", "b")), "down");
    tf_log(TF_LOG_DEBUG, "test-quiet", NULL, 0, "below the level");
    read_back(text, sizeof text);
    for (const char *at = text; (at = strchr(at, '\n')) != NULL; at++) {
        lines++;
    }
    assert_int_equal(lines, 2);
}

static void long_values_are_cut(void **state)
{
    char text[16384], value[5000];

    (void)state;
    memset(value, 'v', sizeof value);
    value[sizeof value - 1] = '\0';
    tf_log_configure(TF_LOG_INFO, TF_LOG_LOGFMT);
    tf_log(TF_LOG_INFO, "test-long", TF_DETAILS(TF_STR("pod", value)), "%s", value);
    read_back(text, sizeof text);
    assert_true(strlen(text) < 1024 + 256 + 200);
    assert_ptr_equal(strchr(text, '\n'), text + strlen(text) - 1);
}

static void written_lines_are_counted(void **state)
{
    uint64_t before[TF_LOG_ERROR + 1], after[TF_LOG_ERROR + 1];

    (void)state;
    tf_log_configure(TF_LOG_INFO, TF_LOG_LOGFMT);
    tf_log_counts(before);
    for (int i = 0; i < 3; i++) {
        tf_log(TF_LOG_WARN, "test-count", TF_DETAILS(TF_STR("output", "a")), "a repeat is no line");
    }
    tf_log(TF_LOG_DEBUG, "test-count", NULL, 0, "below the level");
    tf_log_answer("test-count", NULL, 0, "asked for");
    tf_log_counts(after);
    assert_int_equal(after[TF_LOG_DEBUG], before[TF_LOG_DEBUG]);
    assert_int_equal(after[TF_LOG_INFO], before[TF_LOG_INFO] + 1);
    assert_int_equal(after[TF_LOG_WARN], before[TF_LOG_WARN] + 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(foreign_text_stays_one_value, capture, release),
        cmocka_unit_test_setup_teardown(json_has_the_same_keys, capture, release),
        cmocka_unit_test_setup_teardown(repeats_of_one_subject_are_told_once, capture, release),
        cmocka_unit_test_setup_teardown(long_values_are_cut, capture, release),
        cmocka_unit_test_setup_teardown(written_lines_are_counted, capture, release),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
