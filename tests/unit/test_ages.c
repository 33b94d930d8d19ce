/* test_ages.c - when frames were read is known from durable to acked, in bounded memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "../../agent/spool/internal.h"

static struct tf_ages ages;

static void a_frame_has_its_own_time(void **state)
{
    (void)state;
    ages = (struct tf_ages){.count = 0};
    assert_int_equal(tf_ages_find(&ages, 5), 0);
    for (uint64_t seq = 10; seq < 20; seq++) {
        tf_ages_note(&ages, seq, 1000 + seq, 0);
    }
    assert_int_equal(tf_ages_find(&ages, 9), 0); /* of an earlier life */
    assert_int_equal(tf_ages_find(&ages, 10), 1010);
    assert_int_equal(tf_ages_find(&ages, 19), 1019);
}

/* Outputs keep up: every frame that is not acked is known to the millisecond, however many there
 * were. */
static void what_is_delivered_makes_room(void **state)
{
    (void)state;
    ages = (struct tf_ages){.count = 0};
    for (uint64_t seq = 1; seq <= 100000; seq++) {
        tf_ages_note(&ages, seq, seq, seq > 400 ? seq - 400 : 0);
        for (uint64_t waiting = seq > 400 ? seq - 399 : 1; waiting <= seq; waiting += 133) {
            assert_int_equal(tf_ages_find(&ages, waiting), waiting);
        }
    }
}

/* An output is down: times get coarse, to a few hundred frames, never too late. */
static void a_backlog_has_coarse_times(void **state)
{
    (void)state;
    ages = (struct tf_ages){.count = 0};
    for (uint64_t seq = 1; seq <= 100000; seq++) {
        tf_ages_note(&ages, seq, seq, 0);
        assert_true(ages.count <= TF_AGES_MAX);
    }
    assert_int_equal(tf_ages_find(&ages, 1), 1);
    for (uint64_t seq = 1; seq <= 100000; seq += 997) {
        assert_in_range(tf_ages_find(&ages, seq), seq > 256 ? seq - 256 : 1, seq);
    }
}

/* It is up again: times get fine again. */
static void a_delivered_backlog_is_forgotten(void **state)
{
    uint64_t seq = 100000;

    (void)state;
    assert_true(ages.stride > 1);
    for (uint64_t end = seq + 100000; seq < end; seq++) {
        tf_ages_note(&ages, seq, seq, seq - 10);
    }
    assert_int_equal(ages.stride, 1);
    assert_int_equal(tf_ages_find(&ages, seq - 5), seq - 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_frame_has_its_own_time),
        cmocka_unit_test(what_is_delivered_makes_room),
        cmocka_unit_test(a_backlog_has_coarse_times),
        cmocka_unit_test(a_delivered_backlog_is_forgotten),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
