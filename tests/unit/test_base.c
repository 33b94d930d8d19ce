/* test_base.c - buffers, bytes, time and globs keep what base.h says. */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/time.h>
#include <unistd.h>

#include <cmocka.h>

#include "taffrail/base.h"
#include "taffrail/chance.h"

static void buffer_never_passes_its_limit(void **state)
{
    struct tf_buf buf;

    (void)state;
    tf_buf_init(&buf, 1000);
    for (int i = 0; i < 1000; i++) {
        assert_int_equal(tf_buf_append_byte(&buf, (uint8_t)i), 0);
    }
    assert_int_equal(tf_buf_append_byte(&buf, 0), -EMSGSIZE);
    assert_int_equal(buf.size, 1000);
    assert_int_equal(tf_buf_append(&buf, "", 0), -EMSGSIZE); /* the first error sticks */
    tf_buf_clear(&buf);
    assert_int_equal(tf_buf_printf(&buf, "%s-%d", "a", 7), 0);
    assert_memory_equal(buf.data, "a-7", 3);
    tf_buf_consume(&buf, 2);
    assert_int_equal(buf.size, 1);
    assert_int_equal(buf.data[0], '7');
    assert_int_equal(tf_buf_reserve(&buf, SIZE_MAX), -EMSGSIZE); /* no overflow */
    tf_buf_fini(&buf);
}

static volatile sig_atomic_t stop;

static void on_alarm(int number)
{
    stop = number;
}

/* The alarm comes again and again: the first may be there before the write that it has to end. */
static void a_buffer_is_written_whole_or_until_a_signal(void **state)
{
    struct sigaction action = {.sa_handler = on_alarm};
    struct itimerval every = {.it_interval = {.tv_usec = 5000}, .it_value = {.tv_usec = 5000}};
    struct itimerval never = {.it_value = {0}};
    struct tf_buf buf;
    char back[8];
    int ends[2];

    (void)state;
    assert_int_equal(pipe(ends), 0);
    tf_buf_init(&buf, 1u << 20);
    assert_int_equal(tf_buf_append_text(&buf, "abc"), 0);
    assert_int_equal(tf_buf_write(&buf, ends[1], NULL), 0);
    assert_int_equal(buf.size, 0);
    assert_int_equal(read(ends[0], back, sizeof back), 3);
    assert_memory_equal(back, "abc", 3);
    for (int i = 0; i < 1 << 18; i++) { /* more than a pipe takes */
        assert_int_equal(tf_buf_append_byte(&buf, 0), 0);
    }
    assert_int_equal(sigaction(SIGALRM, &action, NULL), 0);
    assert_int_equal(setitimer(ITIMER_REAL, &every, NULL), 0);
    assert_int_equal(tf_buf_write(&buf, ends[1], &stop), -EINTR);
    assert_int_equal(setitimer(ITIMER_REAL, &never, NULL), 0);
    assert_int_equal(stop, SIGALRM);
    assert_int_equal(tf_buf_write(&buf, -1, NULL), -EBADF);
    assert_int_equal(buf.size, 1 << 18);
    tf_buf_fini(&buf);
    (void)close(ends[0]);
    (void)close(ends[1]);
}

static void crc_is_castagnoli(void **state)
{
    uint8_t zeros[32] = {0};

    (void)state;
    assert_int_equal(tf_crc32c(0, "123456789", 9), 0xe3069283);
    assert_int_equal(tf_crc32c(0, zeros, sizeof zeros), 0x8a9136aa); /* RFC 3720 B.4 */
    assert_int_equal(tf_crc32c(tf_crc32c(0, "12345", 5), "6789", 4), 0xe3069283);
}

static void utf8_is_strict(void **state)
{
    static const struct {
        const char *bytes;
        bool valid;
    } cases[] = {
        {"", true},
        {"plain ascii, long enough for words", true},
        {"\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80", true},
        {"\xc0\x80", false},         /* overlong */
        {"\xe0\x9f\xbf", false},     /* overlong */
        {"\xed\xa0\x80", false},     /* surrogate */
        {"\xf4\x90\x80\x80", false}, /* above U+10FFFF */
        {"\xf0\x8f\xbf\xbf", false}, /* overlong */
        {"12345678\xff", false},
        {"\xe2\x82", false}, /* cut */
        {"\x80", false},
    };

    (void)state;
    for (size_t i = 0; i < TF_COUNT(cases); i++) {
        assert_int_equal(tf_utf8_valid(cases[i].bytes, strlen(cases[i].bytes)), cases[i].valid);
    }
}

/* Short texts are looked at several bytes at once. */
static void utf8_is_strict_at_every_place(void **state)
{
    (void)state;
    for (size_t size = 0; size <= 20; size++) {
        char text[20];

        memset(text, 'a', sizeof text);
        assert_true(tf_utf8_valid(text, size));
        for (size_t at = 0; at < size; at++) {
            text[at] = '\xff';
            assert_false(tf_utf8_valid(text, size));
            text[at] = 'a';
        }
    }
}

static void base64_has_the_vectors_of_rfc_4648(void **state)
{
    static const char *const plain[] = {"", "f", "fo", "foo", "foob", "fooba", "foobar"};
    static const char *const coded[] = {"",         "Zg==",     "Zm8=",    "Zm9v",
                                        "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"};

    (void)state;
    for (size_t i = 0; i < TF_COUNT(plain); i++) {
        struct tf_buf buf;

        tf_buf_init(&buf, 100);
        assert_int_equal(tf_base64_append(&buf, plain[i], strlen(plain[i])), 0);
        assert_true(tf_slice_equal(tf_buf_slice(&buf), tf_slice_text(coded[i])));
        tf_buf_fini(&buf);
    }
}

static void globs_stop_at_their_separator(void **state)
{
    static const struct {
        const char *pattern, *text;
        char separator;
        bool matches;
    } cases[] = {
        {"*", "journald", '.', true},
        {"*", "container.shop", '.', false},
        {"**", "container.shop", '.', true},
        {"container.*", "container.shop", '.', true},
        {"container.*", "container.shop.x", '.', false},
        {"/var/log/pods/*/*/*.log", "/var/log/pods/a_b_c/app/0.log", '/', true},
        {"/var/log/pods/*/*/*.log", "/var/log/pods/a_b_c/app/x/0.log", '/', false},
        {"/srv/**/*.log", "/srv/a/b/c.log", '/', true},
        {"/srv/**/x*.log", "/srv/a/xb/xc.log", '/', true},
        {"istio-*", "istio-proxy", '\0', true},
        {"a?c", "abc", '/', true},
        {"a?c", "a/c", '/', false},
        {"", "", '/', true},
        {"a", "", '/', false},
        {"*a*a*a*b", "aaaaaaaaaaaaaaaaaaaaaaaa", '\0', false},
    };

    (void)state;
    for (size_t i = 0; i < TF_COUNT(cases); i++) {
        assert_int_equal(
            tf_glob_match(cases[i].pattern, tf_slice_text(cases[i].text), cases[i].separator),
            cases[i].matches);
    }
}

static void time_has_nine_digits(void **state)
{
    char text[TF_TIME_TEXT_BYTES];

    (void)state;
    tf_time_format(INT64_C(1763892904) * TF_S_IN_NS + 120000000, text);
    assert_string_equal(text, "2025-11-23T10:15:04.120000000Z");
    tf_time_format(-1, text);
    assert_string_equal(text, "1969-12-31T23:59:59.999999999Z");
    tf_time_format(INT64_MAX, text);
    assert_string_equal(text, "2262-04-11T23:47:16.854775807Z");
}

static void little_endian_reads_back(void **state)
{
    uint8_t bytes[8];

    (void)state;
    tf_store64(bytes, UINT64_C(0x0102030405060708));
    assert_int_equal(bytes[0], 8);
    assert_true(tf_load64(bytes) == UINT64_C(0x0102030405060708));
}

static void figures_are_grouped_and_their_noun_agrees(void **state)
{
    char text[TF_COUNT_TEXT_BYTES], counted[TF_COUNTED_TEXT_BYTES];

    (void)state;
    assert_string_equal(tf_count_text(0, text), "0");
    assert_string_equal(tf_count_text(999, text), "999");
    assert_string_equal(tf_count_text(1000, text), "1,000");
    assert_string_equal(tf_count_text(UINT64_MAX, text), "18,446,744,073,709,551,615");
    assert_string_equal(tf_plural(0, "entry", "entries"), "entries");
    assert_string_equal(tf_plural(1, "entry", "entries"), "entry");
    assert_string_equal(tf_plural(2, "entry", "entries"), "entries");
    assert_string_equal(tf_counted_text(0, "frame", counted), "0 frames");
    assert_string_equal(tf_counted_text(1, "frame", counted), "1 frame");
    assert_string_equal(tf_counted_text(1204, "frame", counted), "1,204 frames");
    assert_string_equal(tf_counted_text(UINT64_MAX, "of twenty-eight characters..", counted),
                        "18,446,744,073,709,551,615 of twenty-eight characters..s");
}

static void a_double_reads_back_the_same(void **state)
{
    static const struct {
        double value;
        const char *text;
    } cases[] = {
        {3, "3.0"},
        {-0.5, "-0.5"},
        {0.1 + 0.2, "0.30000000000000004"},
        {1e300, "1e+300"},
        {NAN, "NaN"},
        {INFINITY, "Infinity"},
        {-INFINITY, "-Infinity"},
        {-2.2250738585072014e-308, "-2.2250738585072014e-308"},
    };
    char text[TF_DOUBLE_TEXT_BYTES];

    (void)state;
    for (size_t i = 0; i < TF_COUNT(cases); i++) {
        tf_double_format(cases[i].value, text);
        assert_string_equal(text, cases[i].text);
    }
}

static void chance_stays_within_its_limit(void **state)
{
    bool is_seen[4] = {false};

    (void)state;
    for (int i = 0; i < 1000; i++) {
        uint64_t value = tf_random_up_to(3);

        assert_true(value <= 3);
        is_seen[value] = true;
    }
    assert_true(is_seen[0] && is_seen[1] && is_seen[2] && is_seen[3]);
    assert_int_equal(tf_random_up_to(0), 0);
    assert_true(tf_random_up_to(UINT64_MAX) != tf_random_up_to(UINT64_MAX));
}

static void a_pause_doubles_up_to_its_cap(void **state)
{
    (void)state;
    assert_int_equal(tf_backoff_ms(500, 30000, 0), 500);
    assert_int_equal(tf_backoff_ms(500, 30000, 1), 500);
    assert_int_equal(tf_backoff_ms(500, 30000, 2), 1000);
    assert_int_equal(tf_backoff_ms(500, 30000, 6), 16000);
    assert_int_equal(tf_backoff_ms(500, 30000, 7), 30000);
    assert_int_equal(tf_backoff_ms(500, 30000, UINT32_MAX), 30000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(buffer_never_passes_its_limit),
        cmocka_unit_test(a_buffer_is_written_whole_or_until_a_signal),
        cmocka_unit_test(crc_is_castagnoli),
        cmocka_unit_test(utf8_is_strict),
        cmocka_unit_test(utf8_is_strict_at_every_place),
        cmocka_unit_test(base64_has_the_vectors_of_rfc_4648),
        cmocka_unit_test(globs_stop_at_their_separator),
        cmocka_unit_test(time_has_nine_digits),
        cmocka_unit_test(little_endian_reads_back),
        cmocka_unit_test(figures_are_grouped_and_their_noun_agrees),
        cmocka_unit_test(chance_stays_within_its_limit),
        cmocka_unit_test(a_pause_doubles_up_to_its_cap),
        cmocka_unit_test(a_double_reads_back_the_same),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
