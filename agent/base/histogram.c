/*
 * histogram.c - counters between fixed bounds.
 */
#include "taffrail/histogram.h"

const uint64_t tf_histogram_bounds_us[TF_HISTOGRAM_BOUNDS] = {
    500,    1000,    2500,    5000,    10000,    25000,    50000,    100000,    250000,
    500000, 1000000, 2500000, 5000000, 10000000, 30000000, 60000000, 300000000, 3600000000};

void tf_histogram_add(struct tf_histogram *histogram, uint64_t us)
{
    unsigned i = 0;

    while (i < TF_HISTOGRAM_BOUNDS && us > tf_histogram_bounds_us[i]) {
        i++;
    }
    histogram->counts[i]++;
    histogram->sum_us += us;
}

uint64_t tf_histogram_count(const struct tf_histogram *histogram)
{
    uint64_t count = 0;

    for (unsigned i = 0; i <= TF_HISTOGRAM_BOUNDS; i++) {
        count += histogram->counts[i];
    }
    return count;
}

uint64_t tf_histogram_quantile_us(const struct tf_histogram *histogram, unsigned permille)
{
    uint64_t count = tf_histogram_count(histogram), below = 0;

    if (count == 0) {
        return 0;
    }
    for (unsigned i = 0; i < TF_HISTOGRAM_BOUNDS; i++) {
        below += histogram->counts[i];
        if (below >=
            count - count / 1000 * (1000 - permille) - count % 1000 * (1000 - permille) / 1000) {
            return tf_histogram_bounds_us[i];
        }
    }
    return UINT64_MAX;
}
