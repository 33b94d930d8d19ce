/*
 * prefilter.h - one pass over a text finds where rules may match.
 *
 * Immutable after build; any thread may scan with it.
 */
#ifndef TAFFRAIL_REDACT_PREFILTER_H
#define TAFFRAIL_REDACT_PREFILTER_H

#include "rules.h"

#define TF_REDACT_LITERALS_MAX    4096u
#define TF_REDACT_HASH_BITS       12u
#define TF_REDACT_FINGERPRINT     4u
#define TF_REDACT_SKETCH_BITS     16u
#define TF_REDACT_SETS            4u /* of eight buckets */
#define TF_REDACT_LITERAL_MIN     3u
#define TF_REDACT_CLASSES         4u
#define TF_REDACT_GATES_MAX       64u /* runs that are looked for: two kinds, 32 lengths */
#define TF_REDACT_RUN_MAX         32u /* a longer run is looked for as one of so many bytes */
#define TF_REDACT_READAHEAD_BYTES 64u /* the scan may load so far behind its end */

enum tf_redact_kernel {
    TF_REDACT_KERNEL_AUTO,
    TF_REDACT_KERNEL_SCALAR,
    TF_REDACT_KERNEL_SSSE3,
    TF_REDACT_KERNEL_AVX2,
    TF_REDACT_KERNEL_NEON,
};
#define TF_REDACT_KERNELS 5u /* with AUTO */

/* A keyword of a rule; or a class, or a run that it requires (text NULL). */
struct tf_redact_literal {
    const char *text;
    uint16_t size;
    uint16_t rule;
    uint16_t same; /* the same text, of another rule; 0: last; else index + 1 */
    bool fold;
    /* The rest is used of the first of those with the same text only. */
    bool is_first;
    bool any_follows;   /* some rule lets anything stand behind it, or nothing */
    uint8_t at;         /* where in text its fingerprint begins */
    uint32_t follow[8]; /* a bit a byte: what the rules let stand behind it */
};

/* What of a literal is compared at a candidate. */
struct tf_redact_probe {
    /* Its first eight bytes: those of a text are them when (bytes | head_case) & head_mask is head.
     */
    uint64_t head, head_case, head_mask;
    uint32_t fingerprint; /* the first three bytes of it, in lower case */
    uint16_t literal;
    uint8_t at, size; /* the literal's */
};

/* A literal at a position of the text; those of its `same` chain are there too. */
struct tf_redact_hit {
    uint32_t at;
    uint16_t literal;
};

struct tf_redact_hits {
    struct tf_redact_hit *items; /* sorted by at */
    uint32_t count, capacity;
    bool full; /* the scan stopped for want of room: hits from the last one on are unknown */
};

/* A run of digits or token bytes that some rule asks for. */
struct tf_redact_gate {
    enum tf_redact_requires kind; /* DIGITS or TOKEN */
    uint32_t count;               /* 1..TF_REDACT_RUN_MAX */
    uint16_t literal;             /* index + 1 */
};

struct tf_redact_prefilter {
    /* Sets of eight buckets; by position in the fingerprint and by nibble, a bit a bucket. */
    uint8_t low[TF_REDACT_SETS][TF_REDACT_FINGERPRINT][16] __attribute__((aligned(16)));
    uint8_t high[TF_REDACT_SETS][TF_REDACT_FINGERPRINT][16] __attribute__((aligned(16)));
    uint32_t bytes[TF_REDACT_FINGERPRINT][256];        /* the same by byte, a bit a bucket */
    uint8_t sketch[1u << (TF_REDACT_SKETCH_BITS - 3)]; /* a bit for each hash of four bytes */
    /* Probes by the hash of their fingerprint: those of a hash end where the next one's begin. */
    uint16_t begins[(1u << TF_REDACT_HASH_BITS) + 1];
    struct tf_redact_probe probes[TF_REDACT_LITERALS_MAX];
    struct tf_redact_literal literals[TF_REDACT_LITERALS_MAX];
    uint32_t literal_count;
    uint32_t sets;                             /* in use: 2, or 4 for many literals */
    uint16_t class_literal[TF_REDACT_CLASSES]; /* index + 1; 0: that class is off */
    struct tf_redact_gate gates[TF_REDACT_GATES_MAX];
    uint32_t gate_count;
    bool classes; /* there are classes or gates */
    bool tokens;  /* a gate looks for token bytes */
    enum tf_redact_kernel kernel;
};

/* Adds a rule's keywords, or its class; of one with neither, the run that it requires. Returns 0,
 * or -EINVAL when there are too many, or a keyword is shorter than 3 bytes. */
int tf_redact_prefilter_add(struct tf_redact_prefilter *filter, const struct tf_redact_rule *rule,
                            uint16_t number);

/* Adds a hit for `number` where a run of at least count bytes of that kind begins, DIGITS or TOKEN.
 * Returns 0, or -EINVAL when there are too many. */
int tf_redact_prefilter_add_run(struct tf_redact_prefilter *filter, enum tf_redact_requires kind,
                                uint32_t count, uint16_t number);

/* After the last rule. Returns -ENOTSUP when this machine has no such kernel; AUTO always works. */
int tf_redact_prefilter_build(struct tf_redact_prefilter *filter, enum tf_redact_kernel kernel);

/* Whether some rule of a literal, of is_first, lets `byte` stand behind it. */
static inline bool tf_redact_literal_follows(const struct tf_redact_literal *literal, uint8_t byte)
{
    return (literal->follow[byte / 32] >> byte % 32 & 1u) != 0;
}

/*
 * Finds the literals that lie wholly in text[from..to); those behind which stands what no rule lets
 * follow are told or not. TF_REDACT_READAHEAD_BYTES behind `to` must
 * be readable; what they hold does not matter. Empties hits first.
 */
void tf_redact_prefilter_scan(const struct tf_redact_prefilter *filter, const char *text,
                              size_t from, size_t to, struct tf_redact_hits *hits);

#endif
