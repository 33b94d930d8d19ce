/*
 * prefilter_scan.h - what the kernels of the first stage share.
 *
 * A kernel makes the masks of each block of 32 bytes and gives them to take_block.
 */
#ifndef TAFFRAIL_REDACT_PREFILTER_SCAN_H
#define TAFFRAIL_REDACT_PREFILTER_SCAN_H

#include "prefilter.h"
#include "prefilter_buckets.h"

#define TF_REDACT_BLOCK 32u

/* What one block holds, a bit a byte. */
struct tf_redact_masks {
    uint32_t candidates;                           /* where a fingerprint may begin */
    uint32_t digits, dividers, capitals, at_signs; /* asked for when there are classes */
    uint32_t tokens;                               /* when there are gates for them */
};

struct tf_redact_prefilter_scan {
    const struct tf_redact_prefilter *filter;
    const uint8_t *text;
    size_t from, to;
    struct tf_redact_hits *hits;
    struct tf_redact_masks last; /* of the block before */
    bool digit_before;           /* at the byte before `last` */
    bool token_before;
};

/* Whether four bytes may begin a fingerprint. Most candidates may not, so it is asked in place. */
static inline bool tf_redact_may_begin(const struct tf_redact_prefilter *filter,
                                       const uint8_t *text)
{
    uint32_t place = tf_redact_sketch_place(text);

    return (filter->sketch[place / 8] >> place % 8 & 1u) != 0;
}

/* Compares the literals whose fingerprint may be at text[p]. */
void tf_redact_prefilter_confirm(struct tf_redact_prefilter_scan *scan, size_t p);

/* Examines the block before, at base, for classes and gates, now that the bytes behind it are
 * known. */
void tf_redact_prefilter_classes(struct tf_redact_prefilter_scan *scan, size_t base,
                                 const struct tf_redact_masks *now);

/* Takes in the masks of the block at p, of which only the bytes before scan->to count. */
static inline void tf_redact_prefilter_take(struct tf_redact_prefilter_scan *scan, size_t p,
                                            struct tf_redact_masks *now)
{
    if (scan->to - p < TF_REDACT_BLOCK) {
        uint32_t keep = (1u << (scan->to - p)) - 1;

        now->candidates &= keep;
        now->digits &= keep;
        now->dividers &= keep;
        now->capitals &= keep;
        now->at_signs &= keep;
        now->tokens &= keep;
    }
    if (scan->filter->classes) { /* of the first block, base wraps, but nothing is found there */
        tf_redact_prefilter_classes(scan, p - TF_REDACT_BLOCK, now);
    }
    while (now->candidates != 0) {
        size_t at = p + (size_t)__builtin_ctz(now->candidates);

        if (tf_redact_may_begin(scan->filter, scan->text + at)) {
            tf_redact_prefilter_confirm(scan, at);
        }
        now->candidates &= now->candidates - 1;
    }
}

/* The kernels. Each is there on its own machine only. */
void tf_redact_scan_ssse3(struct tf_redact_prefilter_scan *scan);
void tf_redact_scan_avx2(struct tf_redact_prefilter_scan *scan);
void tf_redact_scan_neon(struct tf_redact_prefilter_scan *scan);

#endif
