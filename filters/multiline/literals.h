/*
 * literals.h - which of a few dozen words stand in a line; nearly always none, and that is fast.
 */
#ifndef TAFFRAIL_FILTERS_LITERALS_H
#define TAFFRAIL_FILTERS_LITERALS_H

#include "taffrail/base.h"

#define TF_LITERALS_MAX             64u
#define TF_LITERAL_MIN              4u /* bytes */
#define TF_LITERAL_MAP_BITS         16u
#define TF_LITERALS_READAHEAD_BYTES 16u

/* Three bytes that stand at `at` in that literal. */
struct tf_trigram {
    uint32_t bytes;
    uint8_t literal, at;
    uint8_t next; /* of the same bucket, by its number and 1; 0: none */
};

struct tf_literals {
    uint64_t map[(1u << TF_LITERAL_MAP_BITS) / 64]; /* a bit for the hash of each trigram */
    uint8_t buckets[256];                           /* trigrams by hash, as `next` */
    struct tf_trigram trigrams[2 * TF_LITERALS_MAX];
    uint32_t trigram_count;
    struct tf_slice texts[TF_LITERALS_MAX];
    uint32_t count;
};

/* Adds a literal, once (borrows text as long as the set lives); returns its number. A zeroed set
 * is empty. */
uint32_t tf_literals_add(struct tf_literals *set, struct tf_slice text);

/* A bit for each literal that stands in text. TF_LITERALS_READAHEAD_BYTES behind it may be read. */
uint64_t tf_literals_find(const struct tf_literals *set, struct tf_slice text);

#endif
