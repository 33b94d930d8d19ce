/*
 * prefilter_ssse3.c - the first stage for x86-64 with SSSE3: two halves of 16 bytes a block.
 */
#include "prefilter_scan.h"

#if defined(__x86_64__)
#include <immintrin.h>

#define TARGET __attribute__((target("ssse3")))

typedef __m128i vec;

TARGET static inline vec load(const uint8_t *at)
{
    return _mm_loadu_si128((const __m128i *)(const void *)at);
}

TARGET static inline vec table(const uint8_t *at)
{
    return _mm_load_si128((const __m128i *)(const void *)at);
}

TARGET static inline vec lookup(vec entries, vec index)
{
    return _mm_shuffle_epi8(entries, index);
}

TARGET static inline vec low_nibbles(vec v)
{
    return _mm_and_si128(v, _mm_set1_epi8(15));
}

TARGET static inline vec high_nibbles(vec v)
{
    return _mm_and_si128(_mm_srli_epi16(v, 4), _mm_set1_epi8(15));
}

TARGET static inline vec both(vec a, vec b)
{
    return _mm_and_si128(a, b);
}

TARGET static inline vec either(vec a, vec b)
{
    return _mm_or_si128(a, b);
}

TARGET static inline vec ones(void)
{
    return _mm_set1_epi8(-1);
}

TARGET static inline vec lower(vec v)
{
    return _mm_or_si128(v, _mm_set1_epi8(0x20));
}

TARGET static inline uint32_t nonzero(vec v)
{
    return 0xffffu ^ (uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(v, _mm_setzero_si128()));
}

TARGET static inline uint32_t in_range(vec v, char first, char width)
{
    vec over = _mm_sub_epi8(v, _mm_set1_epi8(first));

    return (uint32_t)_mm_movemask_epi8(
        _mm_cmpeq_epi8(_mm_min_epu8(over, _mm_set1_epi8(width)), over));
}

TARGET static inline uint32_t equal(vec v, char byte)
{
    return (uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(v, _mm_set1_epi8(byte)));
}

#include "prefilter_simd.h"

TARGET void tf_redact_scan_ssse3(struct tf_redact_prefilter_scan *scan)
{
    scan_text(scan);
}
#endif
