/* test_histogram.c - what is added stands between its bounds, and a quantile is the bound above. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "taffrail/histogram.h"

static void each_time_has_one_place(void **state)
{
    struct tf_histogram histogram = {0};
    uint64_t sum = 0;

    (void)state;
    for (unsigned i = 0; i < TF_HISTOGRAM_BOUNDS; i++) {
        assert_true(i == 0 || tf_histogram_bounds_us[i] > tf_histogram_bounds_us[i - 1]);
        tf_histogram_add(&histogram, tf_histogram_bounds_us[i]); /* a bound is within it */
        sum += tf_histogram_bounds_us[i];
        assert_int_equal(histogram.counts[i], 1);
    }
    tf_histogram_add(&histogram, UINT32_MAX);
    assert_int_equal(histogram.counts[TF_HISTOGRAM_BOUNDS], 1);
    assert_int_equal(histogram.sum_us, sum + UINT32_MAX);
    assert_int_equal(tf_histogram_count(&histogram), TF_HISTOGRAM_BOUNDS + 1);
}

static void quantiles_are_the_bound_above(void **state)
{
    struct tf_histogram histogram = {0};

    (void)state;
    assert_int_equal(tf_histogram_quantile_us(&histogram, 500), 0);
    tf_histogram_add(&histogram, 1);
    assert_int_equal(tf_histogram_quantile_us(&histogram, 500), 500);
    assert_int_equal(tf_histogram_quantile_us(&histogram, 990), 500);
    for (int i = 0; i < 197; i++) {
        tf_histogram_add(&histogram, 2000);
    }
    tf_histogram_add(&histogram, 90000);
    tf_histogram_add(&histogram, UINT64_C(4000000000));
    assert_int_equal(tf_histogram_quantile_us(&histogram, 500), 2500);
    assert_int_equal(tf_histogram_quantile_us(&histogram, 990), 2500);
    assert_int_equal(tf_histogram_quantile_us(&histogram, 995), 100000);
    assert_true(tf_histogram_quantile_us(&histogram, 1000) == UINT64_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_time_has_one_place),
        cmocka_unit_test(quantiles_are_the_bound_above),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
