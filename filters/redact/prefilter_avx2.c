/*
 * prefilter_avx2.c - the first stage for x86-64 with AVX2: a block at once.
 */
#include "prefilter_scan.h"

#if defined(__x86_64__)
#include <immintrin.h>

#define TARGET __attribute__((target("avx2")))

typedef __m256i vec;

TARGET static inline vec load(const uint8_t *at)
{
    return _mm256_loadu_si256((const __m256i *)(const void *)at);
}

TARGET static inline vec table(const uint8_t *at)
{
    return _mm256_broadcastsi128_si256(_mm_load_si128((const __m128i *)(const void *)at));
}

TARGET static inline vec lookup(vec entries, vec index)
{
    return _mm256_shuffle_epi8(entries, index);
}

TARGET static inline vec low_nibbles(vec v)
{
    return _mm256_and_si256(v, _mm256_set1_epi8(15));
}

TARGET static inline vec high_nibbles(vec v)
{
    return _mm256_and_si256(_mm256_srli_epi16(v, 4), _mm256_set1_epi8(15));
}

TARGET static inline vec both(vec a, vec b)
{
    return _mm256_and_si256(a, b);
}

TARGET static inline vec either(vec a, vec b)
{
    return _mm256_or_si256(a, b);
}

TARGET static inline vec ones(void)
{
    return _mm256_set1_epi8(-1);
}

TARGET static inline vec lower(vec v)
{
    return _mm256_or_si256(v, _mm256_set1_epi8(0x20));
}

TARGET static inline uint32_t nonzero(vec v)
{
    return ~(uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi8(v, _mm256_setzero_si256()));
}

TARGET static inline uint32_t in_range(vec v, char first, char width)
{
    vec over = _mm256_sub_epi8(v, _mm256_set1_epi8(first));

    return (uint32_t)_mm256_movemask_epi8(
        _mm256_cmpeq_epi8(_mm256_min_epu8(over, _mm256_set1_epi8(width)), over));
}

TARGET static inline uint32_t equal(vec v, char byte)
{
    return (uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi8(v, _mm256_set1_epi8(byte)));
}

#include "prefilter_simd.h"

TARGET void tf_redact_scan_avx2(struct tf_redact_prefilter_scan *scan)
{
    scan_text(scan);
}
#endif
