/*
 * engine.h - from candidates to spans: which bytes of a value are to be masked.
 *
 * An engine is immutable and shared; a scan is a worker's scratch. Texts are looked through at once
 * (tf_redact_scan_text), then asked value by value (tf_redact_scan_value).
 */
#ifndef TAFFRAIL_REDACT_ENGINE_H
#define TAFFRAIL_REDACT_ENGINE_H

#include "prefilter.h"

#define TF_REDACT_RULES_MAX      1024u
#define TF_REDACT_WINDOW_BYTES   48u /* what a match sees first; four times more on demand */
#define TF_REDACT_ATTEMPTS_MAX   64u /* that a rule may fail, after it saw more; then withheld */
#define TF_REDACT_HITS_MAX       262144u /* candidates at once; past it values are scanned alone */
#define TF_REDACT_SPANS_MAX      8192u   /* in a value; past it the rest is withheld */
#define TF_REDACT_ANCHORED_LIMIT 10000u  /* PCRE2's match limit for a rule at its keyword */
#define TF_REDACT_LINE_LIMIT     10000u  /* and for one that is searched, at each place */
#define TF_REDACT_WITHHELD       0xffffu /* in place of a rule */
#define TF_REDACT_DECODED_MAX    65536u  /* bytes of base64 undone in a value; past it, none is */
#define TF_REDACT_BASE64_MIN     16u     /* a shorter run of it is not undone */
#define TF_REDACT_ALLOW_BYTES    4096u   /* a longer secret is never allowed by a regex */
#define TF_REDACT_STOPWORD_BYTES 256u    /* nor by a stopword, when it is longer than this */

/*
 * Work is counted in bytes that PCRE2 may have looked at, and more for each try and each match. One
 * is about two nanoseconds. A value has its own allowance; what it needs more it takes from the
 * pool of the text that it was scanned with. Where both are used up, it is withheld. So a few dense
 * lines pass, and a flood of them does not.
 */
#define TF_REDACT_WORK_ATTEMPT     48u
#define TF_REDACT_WORK_SPAN        96u
#define TF_REDACT_WORK_A_BYTE      6u /* of the value */
#define TF_REDACT_WORK_A_VALUE     128u
#define TF_REDACT_WORK_POOL_A_BYTE 3u      /* of the text */
#define TF_REDACT_WORK_POOL        131072u /* and for each text; a block of input has 256 KiB */
#define TF_REDACT_WORK_INNER       2u      /* taken for each byte that was decoded or undone */

struct tf_redact_engine;

struct tf_redact_span {
    uint32_t start, end; /* in the value */
    uint16_t rule;       /* number in the engine's rules, or TF_REDACT_WITHHELD */
    bool is_encoded;     /* what matched is in base64 there */
    const char *keyword; /* what led there; NULL for a class, or a name */
};

struct tf_redact_scan {
    struct tf_redact_span *spans;
    uint32_t span_count, span_capacity;
    uint16_t private_key_rule; /* to be told of */
    bool private_key_seen;     /* that rule had a candidate in the value, before what is withheld */
    const char *reason;     /* why something is withheld: budget, match-limit; NULL: nothing is */
    uint32_t withheld_from; /* UINT32_MAX: nothing is */
    uint16_t withheld_rule; /* whose limits were reached; TF_REDACT_WITHHELD: of none alone */
    /* The rest is engine.c's. */
    const struct tf_redact_engine *engine;
    struct tf_redact_hits hits;
    uint32_t near; /* the hit that was found last: the next one is seldom far */
    size_t text_bytes;
    bool covered; /* the text, by hits; otherwise each value is scanned alone */
    struct tf_redact_progress *progress;
    uint32_t epoch;
    void *match_data, *match_context, *jit_stack;
    void *allow_data;
    uint64_t allowance, pool; /* of work that is left */
    struct tf_redact_work {   /* done since the scan was made */
        uint64_t attempts, bytes;
        uint64_t steps; /* of PCRE2; only where the engine counts them */
    } work;
    bool borrows_work;            /* this is an inner one */
    struct tf_redact_scan *inner; /* for what base64 hides; NULL: it is not undone */
    char *decoded;
    uint32_t decoded_left;
};

struct tf_redact_engine_args {
    const struct tf_redact_rule *rules; /* borrowed for the life of the engine */
    size_t count;
    const bool *on; /* by rule; NULL: those of the default set */
    enum tf_redact_kernel kernel;
    bool no_jit;
    bool decode_base64; /* a run of base64 whose text a rule matches is masked whole */
    bool count_steps;   /* slow: for tests */
};

/* What was wrong with a rule. */
struct tf_redact_engine_error {
    size_t rule;
    char text[160];
};

/*
 * Compiles the rules that are on. Returns new in *out. Returns -ENOMEM, -ENOTSUP (no such kernel)
 * or -EINVAL, with *error written for the last. Where JIT does not work, the interpreter is used.
 */
int tf_redact_engine_new(const struct tf_redact_engine_args *args, struct tf_redact_engine **out,
                         struct tf_redact_engine_error *error);
void tf_redact_engine_free(struct tf_redact_engine *engine);
bool tf_redact_engine_jit(const struct tf_redact_engine *engine);           /* for all rules */
const char *tf_redact_engine_kernel(const struct tf_redact_engine *engine); /* "avx2" */
bool tf_redact_engine_on(const struct tf_redact_engine *engine, size_t rule);

/* Returns new, or NULL. */
struct tf_redact_scan *tf_redact_scan_new(const struct tf_redact_engine *engine);
void tf_redact_scan_free(struct tf_redact_scan *scan);

/* Finds the candidates of a text. TF_REDACT_READAHEAD_BYTES behind it must be readable. Values in
 * it stand apart: a byte that is no letter, digit or any of +/_- is between two. */
void tf_redact_scan_text(struct tf_redact_scan *scan, const char *text, size_t size);

/* Allows as much work more as so many bytes of text bring: for values that share text. */
void tf_redact_scan_allow(struct tf_redact_scan *scan, uint64_t bytes);

/*
 * Finds what is to be masked of the value text[at..at+size): spans, not yet merged. Text is the one
 * given to tf_redact_scan_text, with the same bytes, at the same place or another.
 */
void tf_redact_scan_value(struct tf_redact_scan *scan, const char *text, size_t at, size_t size);

/* Whether a keyword of some rule stands in these bytes of the text given to tf_redact_scan_text;
 * true as well when that is not known. */
bool tf_redact_scan_has_keyword(struct tf_redact_scan *scan, size_t at, size_t size);

/*
 * A scan for texts that are made from values of another one: what base64 or escapes hid. Returns
 * new, or NULL.
 */
struct tf_redact_scan *tf_redact_scan_new_inner(const struct tf_redact_engine *engine);

/* Scans such a text, as one value, at the expense of the value that was last scanned with outer.
 * TF_REDACT_READAHEAD_BYTES behind it must be readable. False: that value has no work left. */
bool tf_redact_scan_inner(struct tf_redact_scan *inner, struct tf_redact_scan *outer,
                          const char *text, size_t size);

/* From there on the value last scanned is withheld, because of that rule's limits; reason is a
 * static word. What was withheld before, from an earlier place, stays so. */
void tf_redact_scan_withhold(struct tf_redact_scan *scan, size_t from, uint16_t rule,
                             const char *reason);

/* Adds a span of the value last scanned. When there is no room, the value's rest is withheld. */
void tf_redact_scan_add(struct tf_redact_scan *scan, size_t start, size_t end, uint16_t rule,
                        const char *keyword);

/* Sorts the spans and unites those that overlap, under the name of the first rule of the table.
 * What is withheld reaches to the end of the value of size bytes. */
void tf_redact_scan_merge(struct tf_redact_scan *scan, size_t size);

/* Shannon's entropy of a text, in bits a byte: 0 to 8. */
double tf_redact_entropy(const char *text, size_t size);

/* Whether a text holds one of the words, which are in lower case and end with NULL. */
bool tf_redact_has_word(const char *text, size_t size, const char *const *words);

/*
 * Undoes base64, standard or URL-safe, without padding; what is left of less than 8 bits is
 * dropped. Writes size * 3 / 4 bytes at most. Returns how many. Text holds base64 characters only.
 */
size_t tf_redact_base64_decode(const char *text, size_t size, char *out);

/* The value of a base64 character of either alphabet, or -1. */
int tf_redact_base64_value(uint8_t byte);

/* Masks the run of base64 that begins at `run` in a value when it decodes, at one of its four
 * phases, to a text with a match. For the engine. */
void tf_redact_decode_run(struct tf_redact_scan *scan, const char *value, size_t size, size_t run);

#endif
