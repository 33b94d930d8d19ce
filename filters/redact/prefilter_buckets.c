/*
 * prefilter_buckets.c - which literals share a bucket, so that ordinary text seldom looks like one.
 *
 * A bucket allows, at each of four positions, the bytes whose low nibble is in one set and whose
 * high nibble in another: the more literals it holds, the more it believes in. What it costs is how
 * often four bytes of ordinary logs fit to it, the product of how common the bytes are that each
 * position allows. Literals are put in one after the other. Each goes to the bucket, and by the
 * four bytes of it, that cost least more: a window that other literals have, or of rare bytes. To
 * what a window costs comes how often just these bytes stand in ordinary logs (" fro" is common,
 * "ghp_" is not), since each such place is compared in full.
 *
 * How common bytes are is counted once, in the built-in sample of ordinary lines.
 * Building takes about 10 ms for 1,200 literals: literals x windows x buckets.
 */
#include "prefilter_buckets.h"

#include <pthread.h>
#include <stdlib.h>

#include "sample.h"

#define BUCKETS_FEW     16u
#define BUCKETS_MAX     (TF_REDACT_SETS * 8u)
#define LITERALS_FEW    64u /* more of them get all the buckets */
#define BYTES           256u
#define NIBBLES         16u
#define COMPARE_WEIGHT  4.0f /* what a comparison in full costs, in candidates */
#define UNSEEN_BYTES    0.5f /* a byte that the sample does not have counts as so many */
#define COST_IMPOSSIBLE 1e30f
#define CROWD_MAX       4u    /* literals that share a window, so that a bad text costs little */
#define COST_BAD        0.01f /* of a window that a bad text would be made of */

struct bucket {
    uint16_t low[TF_REDACT_FINGERPRINT];
    uint16_t high[TF_REDACT_FINGERPRINT];
    float cost; /* how much of all text it believes in */
};

/* What is common in ordinary logs. */
static struct {
    pthread_once_t once;
    /* The share of the bytes with a high nibble, and a low one of a set: by the sets of eight. */
    float share[NIBBLES][2][BYTES];
    float four[1u << TF_REDACT_SKETCH_BITS]; /* the share of four bytes, by their sketch */
} common = {.once = PTHREAD_ONCE_INIT};

static void fill_share(const float weights[BYTES])
{
    for (unsigned high = 0; high < NIBBLES; high++) {
        for (unsigned half = 0; half < 2; half++) {
            const float *row = weights + NIBBLES * high + 8 * half;

            for (unsigned set = 1; set < BYTES; set++) {
                unsigned lowest = (unsigned)__builtin_ctz(set);

                common.share[high][half][set] =
                    common.share[high][half][set & (set - 1)] + row[lowest];
            }
        }
    }
}

/* Without memory for the sample, all bytes are as common as each other. */
static void count_common(void)
{
    struct tf_redact_sample sample = tf_redact_sample_new();
    const uint8_t *text = (const uint8_t *)sample.text;
    size_t size = text != NULL ? sample.size : 0;
    float weights[BYTES], all = (float)size + BYTES * UNSEEN_BYTES;

    for (unsigned byte = 0; byte < BYTES; byte++) {
        weights[byte] = UNSEEN_BYTES / all;
    }
    for (size_t i = 0; i < size; i++) { /* four bytes from the last ones on: zeros stand there */
        weights[text[i]] += 1 / all;
        common.four[tf_redact_sketch_place(text + i)] += 1 / all;
    }
    fill_share(weights);
    free(sample.text);
}

/* ---- buckets --------------------------------------------------------------------------------- */

static void allow(struct bucket *bucket, size_t position, uint8_t byte)
{
    bucket->low[position] |= (uint16_t)(1u << (byte & 15));
    bucket->high[position] |= (uint16_t)(1u << (byte >> 4));
}

/* Lets what may stand behind a literal into a bucket. */
static void allow_follow(struct bucket *bucket, size_t position,
                         const struct tf_redact_literal *literal)
{
    if (literal->any_follows) {
        bucket->low[position] = bucket->high[position] = 0xffff;
        return;
    }
    for (unsigned byte = 0; byte < BYTES; byte++) {
        if (tf_redact_literal_follows(literal, (uint8_t)byte)) {
            allow(bucket, position, (uint8_t)byte);
        }
    }
}

static float cost_of(const struct bucket *bucket)
{
    float product = 1;

    for (size_t i = 0; i < TF_REDACT_FINGERPRINT; i++) {
        float sum = 0;

        for (unsigned high = bucket->high[i]; high != 0; high &= high - 1) {
            const float(*share)[BYTES] = common.share[__builtin_ctz(high)];

            sum += share[0][bucket->low[i] & 0xff] + share[1][bucket->low[i] >> 8];
        }
        product *= sum;
    }
    return product;
}

/* Lets the fingerprint of a literal that begins at `at` in it into a bucket. */
static void widen(struct bucket *bucket, const struct tf_redact_literal *literal, size_t at)
{
    for (size_t i = 0; i < TF_REDACT_FINGERPRINT; i++) {
        uint8_t byte;

        if (at + i >= literal->size) {
            allow_follow(bucket, i, literal);
            continue;
        }
        byte = (uint8_t)literal->text[at + i];
        allow(bucket, i, byte);
        if (literal->fold && byte >= 'a' && byte <= 'z') {
            allow(bucket, i, byte & (uint8_t)~0x20);
        }
    }
    bucket->cost = cost_of(bucket);
}

/* How many windows a literal has; the last one may reach a byte behind it. */
static size_t count_windows(const struct tf_redact_literal *literal)
{
    if (literal->size < TF_REDACT_FINGERPRINT) {
        return 1;
    }
    return literal->size - TF_REDACT_FINGERPRINT + (literal->any_follows ? 1u : 2u);
}

/* One byte over and over is what a bad text is made of. */
static bool is_one_byte(const char *window)
{
    return memcmp(window, window + 1, TF_REDACT_FINGERPRINT - 1) == 0;
}

/* What a window costs besides its bucket: what it is compared with in full, and how often. */
static float cost_of_window(const uint8_t *crowd, const struct tf_redact_literal *literal,
                            size_t at)
{
    uint32_t place;

    if (at + TF_REDACT_FINGERPRINT > literal->size) {
        return 0; /* more than one place */
    }
    place = tf_redact_sketch_place((const uint8_t *)literal->text + at);
    if (crowd[place] > CROWD_MAX || is_one_byte(literal->text + at)) {
        return COST_BAD;
    }
    return COMPARE_WEIGHT * common.four[place];
}

static void choose(struct bucket *buckets, unsigned count, uint8_t *crowd,
                   struct tf_redact_literal *literal)
{
    size_t windows = count_windows(literal), chosen = 0;
    struct bucket best = {.cost = 0};
    float least = COST_IMPOSSIBLE;

    for (size_t at = 0; at < windows; at++) {
        float besides = cost_of_window(crowd, literal, at);

        for (size_t i = 0; i < count && besides < least; i++) {
            struct bucket wider = buckets[i];

            widen(&wider, literal, at);
            if (wider.cost - buckets[i].cost + besides < least) {
                least = wider.cost - buckets[i].cost + besides;
                best = wider;
                chosen = i;
                literal->at = (uint8_t)at;
            }
        }
    }
    buckets[chosen] = best;
    if (literal->at + TF_REDACT_FINGERPRINT <= literal->size) {
        uint32_t place = tf_redact_sketch_place((const uint8_t *)literal->text + literal->at);

        crowd[place] += crowd[place] < UINT8_MAX ? 1 : 0;
    }
}

/* ---- tables ---------------------------------------------------------------------------------- */

static void fill_tables(struct tf_redact_prefilter *filter, const struct bucket *buckets)
{
    for (unsigned b = 0; b < BUCKETS_MAX; b++) {
        for (size_t i = 0; i < TF_REDACT_FINGERPRINT; i++) {
            for (unsigned nibble = 0; nibble < NIBBLES; nibble++) {
                filter->low[b / 8][i][nibble] |=
                    (uint8_t)((buckets[b].low[i] >> nibble & 1u) << b % 8);
                filter->high[b / 8][i][nibble] |=
                    (uint8_t)((buckets[b].high[i] >> nibble & 1u) << b % 8);
            }
            for (unsigned byte = 0; byte < BYTES; byte++) {
                unsigned in = buckets[b].low[i] >> (byte & 15) & buckets[b].high[i] >> (byte >> 4);

                filter->bytes[i][byte] |= (in & 1u) << b;
            }
        }
    }
}

void tf_redact_prefilter_fill(struct tf_redact_prefilter *filter)
{
    struct bucket buckets[BUCKETS_MAX] = {{.cost = 0}};
    uint8_t crowd[1u << TF_REDACT_SKETCH_BITS] = {0}; /* literals by the sketch of their window */
    unsigned count = filter->literal_count <= LITERALS_FEW ? BUCKETS_FEW : BUCKETS_MAX;

    (void)pthread_once(&common.once, count_common);
    for (uint32_t i = 0; i < filter->literal_count; i++) {
        if (filter->literals[i].is_first) {
            choose(buckets, count, crowd, &filter->literals[i]);
        }
    }
    filter->sets = count / 8;
    fill_tables(filter, buckets);
}
