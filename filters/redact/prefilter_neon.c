/*
 * prefilter_neon.c - the first stage for arm64, where NEON always is: two halves of 16 bytes a
 * block.
 */
#include "prefilter_scan.h"

#if defined(__aarch64__)
#include <arm_neon.h>

#define TARGET

typedef uint8x16_t vec;

static inline vec load(const uint8_t *at)
{
    return vld1q_u8(at);
}

static inline vec table(const uint8_t *at)
{
    return vld1q_u8(at);
}

static inline vec lookup(vec entries, vec index)
{
    return vqtbl1q_u8(entries, index);
}

static inline vec low_nibbles(vec v)
{
    return vandq_u8(v, vdupq_n_u8(15));
}

static inline vec high_nibbles(vec v)
{
    return vshrq_n_u8(v, 4);
}

static inline vec both(vec a, vec b)
{
    return vandq_u8(a, b);
}

static inline vec either(vec a, vec b)
{
    return vorrq_u8(a, b);
}

static inline vec ones(void)
{
    return vdupq_n_u8(0xff);
}

static inline vec lower(vec v)
{
    return vorrq_u8(v, vdupq_n_u8(0x20));
}

/* The highest bits of bytes that are 0 or 0xff, gathered. */
static inline uint32_t gather(vec v)
{
    static const uint8_t bits[16] = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
    vec chosen = vandq_u8(v, vld1q_u8(bits));

    return (uint32_t)vaddv_u8(vget_low_u8(chosen)) | (uint32_t)vaddv_u8(vget_high_u8(chosen)) << 8;
}

static inline uint32_t nonzero(vec v)
{
    return gather(vtstq_u8(v, v));
}

static inline uint32_t in_range(vec v, char first, char width)
{
    return gather(vcleq_u8(vsubq_u8(v, vdupq_n_u8((uint8_t)first)), vdupq_n_u8((uint8_t)width)));
}

static inline uint32_t equal(vec v, char byte)
{
    return gather(vceqq_u8(v, vdupq_n_u8((uint8_t)byte)));
}

#include "prefilter_simd.h"

void tf_redact_scan_neon(struct tf_redact_prefilter_scan *scan)
{
    scan_text(scan);
}
#endif
