/*
 * prefilter.c - the first stage: Teddy over fingerprints, and bit-parallel classes.
 *
 * Each literal has a fingerprint, its rarest 4 bytes (3 of a short one), and lies in one of sixteen
 * buckets. For each position of the text, and each of its next 4 bytes, two tables of 16 entries,
 * by low and by high nibble, tell which buckets allow that byte there (pshufb looks up 16 or 32 at
 * once); the AND of all eight is the set of buckets that may begin here. Mostly it is empty. Where
 * it is not, a hash of three bytes leads to the literals, which are compared in full: so what a
 * kernel reports does not depend on how sharp its tables are, and all kernels report the same.
 *
 * Classes work on masks of 64 bits, one bit a byte, the first 32 being examined and the rest
 * looked ahead into: a run of digits of at least n begins where the digit mask, shifted and ANDed
 * by doubling, still has its bit, and the byte before is no digit.
 *
 * Cost is linear in the text: chains are as long as the rules make them, not the text.
 */
#include "prefilter.h"

#include <assert.h>
#include <errno.h>

#if defined(__x86_64__)
#include <immintrin.h>
#define TARGET_SSSE3 __attribute__((target("ssse3")))
#define TARGET_AVX2  __attribute__((target("avx2")))
#endif

#define BLOCK   32u
#define BUCKETS 16u
#define BYTES   256u

struct bucket {
    uint16_t low[TF_REDACT_FINGERPRINT];
    uint16_t high[TF_REDACT_FINGERPRINT];
};

/* What one block of 32 bytes holds, a bit a byte. */
struct masks {
    uint32_t candidates, digits, dividers, capitals, at_signs;
};

struct scan {
    const struct tf_redact_prefilter *filter;
    const uint8_t *text;
    size_t from, to;
    struct tf_redact_hits *hits;
    struct masks last; /* of the block before */
    bool digit_before; /* at the byte before `last` */
};

static inline uint8_t fold(uint8_t byte)
{
    return byte >= 'A' && byte <= 'Z' ? byte | 0x20 : byte;
}

static inline uint32_t hash(uint32_t fingerprint)
{
    return fingerprint * 0x9e3779b1u >> (32 - TF_REDACT_HASH_BITS);
}

/* How common a byte is in logs, roughly, in bits of a probability. */
static unsigned commonness(uint8_t byte, bool folded)
{
    if (folded && byte >= 'a' && byte <= 'z') {
        return strchr("etaoinsr", byte) != NULL ? 9 : 7;
    }
    if (byte == ' ' || byte == '"' || byte == ':') {
        return 9;
    }
    if (byte >= 'a' && byte <= 'z') {
        return strchr("etaoinsr", byte) != NULL ? 8 : 6;
    }
    if (byte >= '0' && byte <= '9') {
        return 7;
    }
    return strchr("-_./=", byte) != NULL ? 6 : 3;
}

/* Where the rarest window of a keyword begins. */
static size_t rarest(const char *text, size_t size, bool folded)
{
    size_t width = size < TF_REDACT_FINGERPRINT ? size : TF_REDACT_FINGERPRINT;
    unsigned least = ~0u;
    size_t best = 0;

    for (size_t at = 0; at + width <= size; at++) {
        unsigned sum = 0;

        for (size_t i = 0; i < width; i++) {
            sum += commonness((uint8_t)text[at + i], folded);
        }
        if (sum < least) {
            least = sum;
            best = at;
        }
    }
    return best;
}

static int add_literal(struct tf_redact_prefilter *filter, const char *text, bool folded,
                       uint16_t rule)
{
    struct tf_redact_literal *literal;
    size_t size = text != NULL ? strlen(text) : 0;

    if (filter->literal_count == TF_REDACT_LITERALS_MAX || size > UINT8_MAX ||
        (text != NULL && size < TF_REDACT_LITERAL_MIN)) {
        return -EINVAL;
    }
    literal = &filter->literals[filter->literal_count++];
    *literal = (struct tf_redact_literal){
        .text = text, .size = (uint16_t)size, .rule = rule, .fold = folded};
    if (text != NULL) {
        const uint8_t *window;

        literal->at = (uint8_t)rarest(text, size, folded);
        window = (const uint8_t *)text + literal->at;
        literal->fingerprint = (uint32_t)fold(window[0]) | (uint32_t)fold(window[1]) << 8 |
                               (uint32_t)fold(window[2]) << 16;
    }
    return 0;
}

int tf_redact_prefilter_add(struct tf_redact_prefilter *filter, const struct tf_redact_rule *rule,
                            uint16_t number)
{
    int rc = 0;

    if (rule->class_ != TF_REDACT_NO_CLASS) {
        rc = add_literal(filter, NULL, false, number);
        filter->class_literal[rule->class_] = (uint16_t)filter->literal_count;
        filter->classes = true;
    }
    for (size_t i = 0; rc == 0 && i < TF_REDACT_KEYWORDS_MAX && rule->keywords[i] != NULL; i++) {
        rc = add_literal(filter, rule->keywords[i], (rule->flags & TF_REDACT_FOLD) != 0, number);
    }
    return rc;
}

/* Lets a literal's fingerprint into a bucket. */
static void widen(struct bucket *bucket, const struct tf_redact_literal *literal)
{
    for (size_t i = 0; i < TF_REDACT_FINGERPRINT; i++) {
        uint8_t byte;

        if (literal->at + i >= literal->size) { /* a short one: anything goes */
            bucket->low[i] = bucket->high[i] = 0xffff;
            continue;
        }
        byte = (uint8_t)literal->text[literal->at + i];
        bucket->low[i] |= (uint16_t)(1u << (byte & 15));
        bucket->high[i] |= (uint16_t)(1u << (byte >> 4));
        if (literal->fold && byte >= 'a' && byte <= 'z') {
            bucket->high[i] |= (uint16_t)(1u << ((byte & ~0x20) >> 4));
        }
    }
}

/* In how many fingerprints of all a bucket believes. */
static double cost(const struct bucket *bucket)
{
    double product = 1;

    for (size_t i = 0; i < TF_REDACT_FINGERPRINT; i++) {
        product *= __builtin_popcount(bucket->low[i]) * __builtin_popcount(bucket->high[i]);
    }
    return product;
}

static void choose_bucket(struct bucket *buckets, const struct tf_redact_literal *literal)
{
    double least = 1e30;
    size_t best = 0;

    for (size_t i = 0; i < BUCKETS; i++) {
        struct bucket wider = buckets[i];
        double more;

        widen(&wider, literal);
        more = cost(&wider) - cost(&buckets[i]);
        if (more < least) {
            least = more;
            best = i;
        }
    }
    widen(&buckets[best], literal);
}

static void fill_tables(struct tf_redact_prefilter *filter, const struct bucket *buckets)
{
    for (unsigned b = 0; b < BUCKETS; b++) {
        for (size_t i = 0; i < TF_REDACT_FINGERPRINT; i++) {
            for (unsigned nibble = 0; nibble < 16; nibble++) {
                filter->low[b / 8][i][nibble] |=
                    (uint8_t)((buckets[b].low[i] >> nibble & 1u) << b % 8);
                filter->high[b / 8][i][nibble] |=
                    (uint8_t)((buckets[b].high[i] >> nibble & 1u) << b % 8);
            }
            for (unsigned byte = 0; byte < BYTES; byte++) {
                unsigned in = buckets[b].low[i] >> (byte & 15) & buckets[b].high[i] >> (byte >> 4);

                filter->bytes[i][byte] |= (uint16_t)((in & 1u) << b);
            }
        }
    }
}

static int choose_kernel(enum tf_redact_kernel wanted, enum tf_redact_kernel *kernel)
{
    enum tf_redact_kernel best = TF_REDACT_KERNEL_SCALAR;

#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("ssse3")) {
        best = TF_REDACT_KERNEL_SSSE3;
    }
    if (__builtin_cpu_supports("avx2")) {
        best = TF_REDACT_KERNEL_AVX2;
    }
#endif
    if (wanted > best) {
        return -ENOTSUP;
    }
    *kernel = wanted == TF_REDACT_KERNEL_AUTO ? best : wanted;
    return 0;
}

int tf_redact_prefilter_build(struct tf_redact_prefilter *filter, enum tf_redact_kernel kernel)
{
    struct bucket buckets[BUCKETS] = {0};

    for (uint32_t i = 0; i < filter->literal_count; i++) {
        struct tf_redact_literal *literal = &filter->literals[i];

        if (literal->text != NULL) {
            uint16_t *head = &filter->heads[hash(literal->fingerprint)];

            literal->next = *head;
            *head = (uint16_t)(i + 1);
            choose_bucket(buckets, literal);
        }
    }
    fill_tables(filter, buckets);
    return choose_kernel(kernel, &filter->kernel);
}

/* Keeps hits sorted; new ones belong within a few places of the end. */
static void add_hit(struct scan *scan, size_t at, uint16_t literal)
{
    struct tf_redact_hits *hits = scan->hits;
    uint32_t i = hits->count;

    if (i == hits->capacity) {
        hits->full = true;
        return;
    }
    while (i > 0 && hits->items[i - 1].at > at) {
        hits->items[i] = hits->items[i - 1];
        i--;
    }
    hits->items[i] = (struct tf_redact_hit){.at = (uint32_t)at, .literal = literal};
    hits->count++;
}

static bool literal_is_at(const struct tf_redact_literal *literal, const uint8_t *text)
{
    if (!literal->fold) {
        return memcmp(text, literal->text, literal->size) == 0;
    }
    for (size_t i = 0; i < literal->size; i++) {
        if (fold(text[i]) != (uint8_t)literal->text[i]) {
            return false;
        }
    }
    return true;
}

/* Compares the literals whose fingerprint may be at p. */
static void confirm(struct scan *scan, size_t p)
{
    const uint8_t *text = scan->text + p;
    uint32_t fingerprint =
        (uint32_t)fold(text[0]) | (uint32_t)fold(text[1]) << 8 | (uint32_t)fold(text[2]) << 16;
    uint16_t i = scan->filter->heads[hash(fingerprint)];

    while (i != 0) {
        const struct tf_redact_literal *literal = &scan->filter->literals[i - 1];

        if (literal->fingerprint == fingerprint && p >= scan->from + literal->at &&
            literal->size <= scan->to - (p - literal->at) &&
            literal_is_at(literal, text - literal->at)) {
            add_hit(scan, p - literal->at, (uint16_t)(i - 1));
        }
        i = literal->next;
    }
}

static void add_class(struct scan *scan, size_t base, uint32_t found, enum tf_redact_class class_)
{
    uint16_t literal = scan->filter->class_literal[class_];

    while (literal != 0 && found != 0) {
        add_hit(scan, base + (size_t)__builtin_ctz(found), (uint16_t)(literal - 1));
        found &= found - 1;
    }
}

/* Examines the block before, now that the bytes behind it are known. */
static inline void find_classes(struct scan *scan, size_t base, const struct masks *now)
{
    uint64_t d = scan->last.digits | (uint64_t)now->digits << 32;
    uint64_t dividers = scan->last.dividers | (uint64_t)now->dividers << 32;
    uint64_t capitals = scan->last.capitals | (uint64_t)now->capitals << 32;
    uint64_t d2 = d & d >> 1, d4 = d2 & d2 >> 2, d8 = d4 & d4 >> 4;
    uint64_t starts = d & ~(d << 1 | (uint64_t)scan->digit_before);
    uint64_t card = starts & ((d8 & d8 >> 5) | (d4 & dividers >> 4 & d4 >> 5));
    uint64_t iban = capitals & capitals >> 1 & d2 >> 2;

    if (((uint32_t)card | (uint32_t)iban | scan->last.at_signs) != 0) {
        add_class(scan, base, (uint32_t)card, TF_REDACT_CARD);
        add_class(scan, base, (uint32_t)iban, TF_REDACT_IBAN);
        add_class(scan, base, scan->last.at_signs, TF_REDACT_AT);
    }
    scan->digit_before = scan->last.digits >> 31;
    scan->last = *now;
}

/* Takes in the masks of the block at p, of which only the bytes before scan->to count. */
static inline void take_block(struct scan *scan, size_t p, struct masks *now)
{
    if (scan->to - p < BLOCK) {
        uint32_t keep = (1u << (scan->to - p)) - 1;

        now->candidates &= keep;
        now->digits &= keep;
        now->dividers &= keep;
        now->capitals &= keep;
        now->at_signs &= keep;
    }
    while (now->candidates != 0) {
        confirm(scan, p + (size_t)__builtin_ctz(now->candidates));
        now->candidates &= now->candidates - 1;
    }
    if (scan->filter->classes) {
        find_classes(scan, p - BLOCK, now); /* of the first block, base wraps, but none is found */
    }
}

static void scan_scalar(struct scan *scan)
{
    const struct tf_redact_prefilter *f = scan->filter;

    for (size_t p = scan->from; p < scan->to && !scan->hits->full; p += BLOCK) {
        struct masks now = {0};

        for (unsigned i = 0; i < BLOCK && p + i < scan->to; i++) {
            const uint8_t *t = scan->text + p + i;
            uint32_t bit = 1u << i;

            if ((f->bytes[0][t[0]] & f->bytes[1][t[1]] & f->bytes[2][t[2]] & f->bytes[3][t[3]]) !=
                0) {
                now.candidates |= bit;
            }
            if ((uint8_t)(t[0] - '0') < 10) {
                now.digits |= bit;
            } else if (t[0] == ' ' || t[0] == '-') {
                now.dividers |= bit;
            } else if ((uint8_t)(t[0] - 'A') < 26) {
                now.capitals |= bit;
            } else if (t[0] == '@') {
                now.at_signs |= bit;
            }
        }
        take_block(scan, p, &now);
    }
}

#if defined(__x86_64__)
TARGET_SSSE3 static inline uint32_t candidates16(const struct tf_redact_prefilter *f,
                                                 const uint8_t *at)
{
    const __m128i nibble = _mm_set1_epi8(15);
    __m128i found[2] = {_mm_set1_epi8(-1), _mm_set1_epi8(-1)};

    for (int i = 0; i < (int)TF_REDACT_FINGERPRINT; i++) {
        __m128i v = _mm_loadu_si128((const __m128i *)(const void *)(at + i));
        __m128i low = _mm_and_si128(v, nibble);
        __m128i high = _mm_and_si128(_mm_srli_epi16(v, 4), nibble);

        for (int set = 0; set < 2; set++) {
            __m128i by_low = _mm_load_si128((const __m128i *)(const void *)f->low[set][i]);
            __m128i by_high = _mm_load_si128((const __m128i *)(const void *)f->high[set][i]);

            found[set] = _mm_and_si128(found[set], _mm_and_si128(_mm_shuffle_epi8(by_low, low),
                                                                 _mm_shuffle_epi8(by_high, high)));
        }
    }
    return 0xffffu ^ (uint32_t)_mm_movemask_epi8(
                         _mm_cmpeq_epi8(_mm_or_si128(found[0], found[1]), _mm_setzero_si128()));
}

TARGET_SSSE3 static inline uint32_t range16(__m128i v, char first, char width)
{
    __m128i over = _mm_sub_epi8(v, _mm_set1_epi8(first));

    return (uint32_t)_mm_movemask_epi8(
        _mm_cmpeq_epi8(_mm_min_epu8(over, _mm_set1_epi8(width)), over));
}

TARGET_SSSE3 static inline uint32_t equal16(__m128i v, char byte)
{
    return (uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(v, _mm_set1_epi8(byte)));
}

TARGET_SSSE3 static void scan_ssse3(struct scan *scan)
{
    for (size_t p = scan->from; p < scan->to && !scan->hits->full; p += BLOCK) {
        struct masks now = {0};

        for (unsigned half = 0; half < BLOCK; half += 16) {
            const uint8_t *at = scan->text + p + half;
            __m128i v = _mm_loadu_si128((const __m128i *)(const void *)at);

            now.candidates |= candidates16(scan->filter, at) << half;
            now.digits |= range16(v, '0', 9) << half;
            now.dividers |= (equal16(v, ' ') | equal16(v, '-')) << half;
            now.capitals |= range16(v, 'A', 25) << half;
            now.at_signs |= equal16(v, '@') << half;
        }
        take_block(scan, p, &now);
    }
}

TARGET_AVX2 static inline uint32_t candidates32(const struct tf_redact_prefilter *f,
                                                const uint8_t *at)
{
    const __m256i nibble = _mm256_set1_epi8(15);
    __m256i found[2] = {_mm256_set1_epi8(-1), _mm256_set1_epi8(-1)};

    for (int i = 0; i < (int)TF_REDACT_FINGERPRINT; i++) {
        __m256i v = _mm256_loadu_si256((const __m256i *)(const void *)(at + i));
        __m256i low = _mm256_and_si256(v, nibble);
        __m256i high = _mm256_and_si256(_mm256_srli_epi16(v, 4), nibble);

        for (int set = 0; set < 2; set++) {
            __m256i by_low = _mm256_broadcastsi128_si256(
                _mm_load_si128((const __m128i *)(const void *)f->low[set][i]));
            __m256i by_high = _mm256_broadcastsi128_si256(
                _mm_load_si128((const __m128i *)(const void *)f->high[set][i]));

            found[set] =
                _mm256_and_si256(found[set], _mm256_and_si256(_mm256_shuffle_epi8(by_low, low),
                                                              _mm256_shuffle_epi8(by_high, high)));
        }
    }
    return ~(uint32_t)_mm256_movemask_epi8(
        _mm256_cmpeq_epi8(_mm256_or_si256(found[0], found[1]), _mm256_setzero_si256()));
}

TARGET_AVX2 static inline uint32_t range32(__m256i v, char first, char width)
{
    __m256i over = _mm256_sub_epi8(v, _mm256_set1_epi8(first));

    return (uint32_t)_mm256_movemask_epi8(
        _mm256_cmpeq_epi8(_mm256_min_epu8(over, _mm256_set1_epi8(width)), over));
}

TARGET_AVX2 static inline uint32_t equal32(__m256i v, char byte)
{
    return (uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi8(v, _mm256_set1_epi8(byte)));
}

TARGET_AVX2 static void scan_avx2(struct scan *scan)
{
    for (size_t p = scan->from; p < scan->to && !scan->hits->full; p += BLOCK) {
        const uint8_t *at = scan->text + p;
        __m256i v = _mm256_loadu_si256((const __m256i *)(const void *)at);
        struct masks now = {
            .candidates = candidates32(scan->filter, at),
            .digits = range32(v, '0', 9),
            .dividers = equal32(v, ' ') | equal32(v, '-'),
            .capitals = range32(v, 'A', 25),
            .at_signs = equal32(v, '@'),
        };

        take_block(scan, p, &now);
    }
}
#endif

void tf_redact_prefilter_scan(const struct tf_redact_prefilter *filter, const char *text,
                              size_t from, size_t to, struct tf_redact_hits *hits)
{
    struct scan scan = {
        .filter = filter, .text = (const uint8_t *)text, .from = from, .to = to, .hits = hits};
    size_t blocks = (to - from + BLOCK - 1) / BLOCK;

    assert(from <= to && to <= UINT32_MAX);
    hits->count = 0;
    hits->full = false;
    switch (filter->kernel) {
#if defined(__x86_64__)
    case TF_REDACT_KERNEL_AVX2:
        scan_avx2(&scan);
        break;
    case TF_REDACT_KERNEL_SSSE3:
        scan_ssse3(&scan);
        break;
#endif
    default:
        scan_scalar(&scan);
    }
    if (filter->classes && blocks > 0 && !hits->full) {
        struct masks nothing = {0};

        find_classes(&scan, from + (blocks - 1) * BLOCK, &nothing);
    }
}
