/*
 * histogram.h - how often something took how long: counters between fixed bounds.
 *
 * One set of bounds for all, so that any two may be compared: from the sync of a fast disk to a
 * delivery that waited an hour. Adding is a short search and two additions: once a frame, never
 * once a record. No lock: each belongs to one thread.
 */
#ifndef TAFFRAIL_HISTOGRAM_H
#define TAFFRAIL_HISTOGRAM_H

#include "taffrail/base.h"

#define TF_HISTOGRAM_BOUNDS 18u
extern const uint64_t tf_histogram_bounds_us[TF_HISTOGRAM_BOUNDS]; /* rising */

struct tf_histogram {
    uint64_t counts[TF_HISTOGRAM_BOUNDS + 1]; /* up to each bound, above the one before; the last is
                                                 beyond all */
    uint64_t sum_us;
};

void tf_histogram_add(struct tf_histogram *histogram, uint64_t us);
uint64_t tf_histogram_count(const struct tf_histogram *histogram);
/* The bound that so many of a thousand stayed below or at; beyond all bounds UINT64_MAX; 0: none
 * was added. */
uint64_t tf_histogram_quantile_us(const struct tf_histogram *histogram, unsigned permille);

#endif
