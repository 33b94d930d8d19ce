/*
 * prefilter_buckets.h - which literals share a bucket; the prefilter's own.
 */
#ifndef TAFFRAIL_REDACT_PREFILTER_BUCKETS_H
#define TAFFRAIL_REDACT_PREFILTER_BUCKETS_H

#include "prefilter.h"

/* The place of four bytes in the sketch, the same for letters of any case. */
static inline uint32_t tf_redact_sketch_place(const uint8_t *text)
{
    uint32_t bytes;

    memcpy(&bytes, text, sizeof bytes);
    return (bytes | 0x20202020u) * 0x9e3779b1u >> (32 - TF_REDACT_SKETCH_BITS);
}

/* Chooses where in each literal its fingerprint begins, and its bucket; fills sets, low, high and
 * bytes of the filter. */
void tf_redact_prefilter_fill(struct tf_redact_prefilter *filter);

#endif
