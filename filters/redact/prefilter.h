/*
 * prefilter.h - one pass over a text finds where rules may match.
 *
 * Immutable after build; any thread may scan with it.
 */
#ifndef TAFFRAIL_REDACT_PREFILTER_H
#define TAFFRAIL_REDACT_PREFILTER_H

#include "rules.h"

#define TF_REDACT_LITERALS_MAX    1024u
#define TF_REDACT_HASH_BITS       10u
#define TF_REDACT_FINGERPRINT     4u
#define TF_REDACT_LITERAL_MIN     3u
#define TF_REDACT_CLASSES         4u
#define TF_REDACT_READAHEAD_BYTES 64u /* the scan may load so far behind its end */

enum tf_redact_kernel {
    TF_REDACT_KERNEL_AUTO,
    TF_REDACT_KERNEL_SCALAR,
    TF_REDACT_KERNEL_SSSE3,
    TF_REDACT_KERNEL_AVX2,
};

/* A keyword of a rule, or a class (text NULL). */
struct tf_redact_literal {
    const char *text;
    uint16_t size;
    uint16_t rule;
    uint16_t next; /* in its hash chain; 0: last */
    uint8_t at;    /* where in text its fingerprint begins */
    bool fold;
    uint32_t fingerprint; /* the first three bytes there, in lower case */
};

/* A literal at a position of the text. */
struct tf_redact_hit {
    uint32_t at;
    uint16_t literal;
};

struct tf_redact_hits {
    struct tf_redact_hit *items; /* sorted by at */
    uint32_t count, capacity;
    bool full; /* the scan stopped for want of room: hits from the last one on are unknown */
};

struct tf_redact_prefilter {
    /* Two sets of eight buckets; by position in the fingerprint and by nibble, a bit a bucket. */
    uint8_t low[2][TF_REDACT_FINGERPRINT][16] __attribute__((aligned(16)));
    uint8_t high[2][TF_REDACT_FINGERPRINT][16] __attribute__((aligned(16)));
    uint16_t bytes[TF_REDACT_FINGERPRINT][256]; /* the same by byte, sixteen buckets */
    uint16_t heads[1u << TF_REDACT_HASH_BITS];  /* literals by fingerprint; index + 1 */
    struct tf_redact_literal literals[TF_REDACT_LITERALS_MAX];
    uint32_t literal_count;
    uint16_t class_literal[TF_REDACT_CLASSES]; /* index + 1; 0: that class is off */
    bool classes;
    enum tf_redact_kernel kernel;
};

/* Adds a rule's keywords, or its class. Returns 0, or -EINVAL when there are too many, or a keyword
 * is shorter than 3 bytes. */
int tf_redact_prefilter_add(struct tf_redact_prefilter *filter, const struct tf_redact_rule *rule,
                            uint16_t number);

/* After the last rule. Returns -ENOTSUP when this machine has no such kernel; AUTO always works. */
int tf_redact_prefilter_build(struct tf_redact_prefilter *filter, enum tf_redact_kernel kernel);

/*
 * Finds the literals that lie wholly in text[from..to). TF_REDACT_READAHEAD_BYTES behind `to` must
 * be readable; what they hold does not matter. Empties hits first.
 */
void tf_redact_prefilter_scan(const struct tf_redact_prefilter *filter, const char *text,
                              size_t from, size_t to, struct tf_redact_hits *hits);

#endif
