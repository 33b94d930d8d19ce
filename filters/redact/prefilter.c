/*
 * prefilter.c - the first stage: Teddy over fingerprints, and bit-parallel classes.
 *
 * Each literal has a fingerprint, its rarest 4 bytes (3 of a short one), and lies in one of sixteen
 * buckets, or of 32 when there are many. For each position of the text, and each of its next 4
 * bytes, two tables of 16 entries, by low and by high nibble, tell which buckets allow that byte
 * there (a shuffle looks up 16 or 32 at once); the AND of all eight is the set of buckets that may
 * begin here. Mostly it is empty. Where it is not, a hash of three bytes leads to the literals,
 * which are compared in full: so what a kernel reports does not depend on how sharp its tables are,
 * and all kernels report the same. A keyword that several rules share is compared once.
 *
 * Classes work on masks of 64 bits, one bit a byte, the first 32 being examined and the rest
 * looked ahead into: a run of digits of at least n begins where the digit mask, shifted and ANDed
 * by doubling, still has its bit, and the byte before is no digit.
 *
 * Cost is linear in the text: chains are as long as the rules make them, not the text.
 * Not here: the kernels (prefilter_avx2.c, _ssse3.c, _neon.c), but for the plain one.
 */
#include <assert.h>
#include <errno.h>

#include "prefilter_scan.h"

#define BUCKETS_FEW  16u
#define BUCKETS_MAX  (TF_REDACT_SETS * 8u)
#define LITERALS_FEW 64u /* more of them get all the buckets */
#define BYTES        256u

struct bucket {
    uint16_t low[TF_REDACT_FINGERPRINT];
    uint16_t high[TF_REDACT_FINGERPRINT];
    double cost; /* how much of all text it believes in */
};

static inline uint8_t fold(uint8_t byte)
{
    return byte >= 'A' && byte <= 'Z' ? byte | 0x20 : byte;
}

static inline uint32_t fingerprint_at(const uint8_t *text)
{
    return (uint32_t)fold(text[0]) | (uint32_t)fold(text[1]) << 8 | (uint32_t)fold(text[2]) << 16;
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

/* Where the rarest window of a keyword begins. One byte over and over is common in a bad text. */
static size_t rarest(const char *text, size_t size, bool folded)
{
    size_t width = size < TF_REDACT_FINGERPRINT ? size : TF_REDACT_FINGERPRINT;
    unsigned least = ~0u;
    size_t best = 0;

    for (size_t at = 0; at + width <= size; at++) {
        unsigned sum = 0, repeats = 0;

        for (size_t i = 0; i < width; i++) {
            sum += commonness((uint8_t)text[at + i], folded);
            repeats += i > 0 && text[at + i] == text[at + i - 1];
        }
        sum += repeats * 4;
        if (sum < least) {
            least = sum;
            best = at;
        }
    }
    return best;
}

/* Adds a literal; at *slot, when it is given, in front of those that are there already. */
static int add_literal(struct tf_redact_prefilter *filter, const char *text, bool folded,
                       uint16_t rule, uint16_t *slot)
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
        literal->fingerprint = fingerprint_at(window);
    }
    if (slot != NULL) {
        literal->same = *slot;
        *slot = (uint16_t)filter->literal_count;
    }
    return 0;
}

int tf_redact_prefilter_add_run(struct tf_redact_prefilter *filter, enum tf_redact_requires kind,
                                uint32_t count, uint16_t number)
{
    struct tf_redact_gate *gate = filter->gates;

    assert(kind == TF_REDACT_REQUIRES_DIGITS || kind == TF_REDACT_REQUIRES_TOKEN);
    count = count < 1 ? 1 : count > TF_REDACT_RUN_MAX ? TF_REDACT_RUN_MAX : count;
    while (gate < filter->gates + filter->gate_count &&
           (gate->kind != kind || gate->count != count)) {
        gate++;
    }
    if (gate == filter->gates + filter->gate_count) { /* 64 are as many as there can be */
        assert(filter->gate_count < TF_REDACT_GATES_MAX);
        filter->gate_count++;
        *gate = (struct tf_redact_gate){.kind = kind, .count = count};
    }
    filter->classes = true;
    filter->tokens = filter->tokens || kind == TF_REDACT_REQUIRES_TOKEN;
    return add_literal(filter, NULL, false, number, &gate->literal);
}

int tf_redact_prefilter_add(struct tf_redact_prefilter *filter, const struct tf_redact_rule *rule,
                            uint16_t number)
{
    int rc = 0;

    if (rule->class_ != TF_REDACT_NO_CLASS) {
        rc = add_literal(filter, NULL, false, number, &filter->class_literal[rule->class_]);
        filter->classes = true;
    } else if (rule->keywords[0] == NULL && (rule->requires == TF_REDACT_REQUIRES_DIGITS ||
                                             rule->requires == TF_REDACT_REQUIRES_TOKEN)) {
        rc = tf_redact_prefilter_add_run(filter, rule->requires, rule->requires_count, number);
    }
    for (size_t i = 0; rc == 0 && i < TF_REDACT_KEYWORDS_MAX && rule->keywords[i] != NULL; i++) {
        rc = add_literal(filter, rule->keywords[i], (rule->flags & TF_REDACT_FOLD) != 0, number,
                         NULL);
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

/* How common the bytes are that a position of a bucket allows; the weights of all make about 1. */
static double share(uint16_t low, uint16_t high, const double weights[BYTES])
{
    double sum = 0;

    for (unsigned upper = high; upper != 0; upper &= upper - 1) {
        const double *row = weights + 16u * (unsigned)__builtin_ctz(upper);

        for (unsigned lower = low; lower != 0; lower &= lower - 1) {
            sum += row[__builtin_ctz(lower)];
        }
    }
    return sum;
}

static double cost(const struct bucket *bucket, const double weights[BYTES])
{
    double product = 1;

    for (size_t i = 0; i < TF_REDACT_FINGERPRINT; i++) {
        product *= share(bucket->low[i], bucket->high[i], weights);
    }
    return product;
}

static void choose_bucket(struct bucket *buckets, unsigned count, const double weights[BYTES],
                          const struct tf_redact_literal *literal)
{
    double least = 1e30;
    struct bucket best = {0};
    size_t chosen = 0;

    for (size_t i = 0; i < count; i++) {
        struct bucket wider = buckets[i];

        widen(&wider, literal);
        wider.cost = cost(&wider, weights);
        if (wider.cost - buckets[i].cost < least) {
            least = wider.cost - buckets[i].cost;
            best = wider;
            chosen = i;
        }
    }
    buckets[chosen] = best;
}

static void fill_tables(struct tf_redact_prefilter *filter, const struct bucket *buckets)
{
    for (unsigned b = 0; b < BUCKETS_MAX; b++) {
        for (size_t i = 0; i < TF_REDACT_FINGERPRINT; i++) {
            for (unsigned nibble = 0; nibble < 16; nibble++) {
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

static bool kernel_works(enum tf_redact_kernel kernel)
{
    switch (kernel) {
#if defined(__x86_64__)
    case TF_REDACT_KERNEL_AVX2:
        return __builtin_cpu_supports("avx2") != 0;
    case TF_REDACT_KERNEL_SSSE3:
        return __builtin_cpu_supports("ssse3") != 0;
#elif defined(__aarch64__)
    case TF_REDACT_KERNEL_NEON:
        return true;
#endif
    case TF_REDACT_KERNEL_SCALAR:
        return true;
    default:
        return false;
    }
}

static int choose_kernel(enum tf_redact_kernel wanted, enum tf_redact_kernel *kernel)
{
    static const enum tf_redact_kernel best_first[] = {TF_REDACT_KERNEL_AVX2, TF_REDACT_KERNEL_NEON,
                                                       TF_REDACT_KERNEL_SSSE3,
                                                       TF_REDACT_KERNEL_SCALAR};

#if defined(__x86_64__)
    __builtin_cpu_init();
#endif
    for (size_t i = 0; i < TF_COUNT(best_first); i++) {
        if ((wanted == TF_REDACT_KERNEL_AUTO || wanted == best_first[i]) &&
            kernel_works(best_first[i])) {
            *kernel = best_first[i];
            return 0;
        }
    }
    return -ENOTSUP;
}

/* Puts a literal into its hash chain. Returns false when its text is there already: it then
 * stands in that one's chain. */
static bool chain(struct tf_redact_prefilter *filter, uint32_t number)
{
    struct tf_redact_literal *literal = &filter->literals[number];
    uint16_t *head = &filter->heads[hash(literal->fingerprint)];

    for (uint16_t i = *head; i != 0; i = filter->literals[i - 1].next) {
        struct tf_redact_literal *other = &filter->literals[i - 1];

        if (other->fold == literal->fold && strcmp(other->text, literal->text) == 0) {
            literal->same = other->same;
            other->same = (uint16_t)(number + 1);
            return false;
        }
    }
    literal->next = *head;
    *head = (uint16_t)(number + 1);
    return true;
}

int tf_redact_prefilter_build(struct tf_redact_prefilter *filter, enum tf_redact_kernel kernel)
{
    struct bucket buckets[BUCKETS_MAX] = {0};
    unsigned count = filter->literal_count <= LITERALS_FEW ? BUCKETS_FEW : BUCKETS_MAX;
    double weights[BYTES];

    for (unsigned byte = 0; byte < BYTES; byte++) {
        weights[byte] =
            byte < 0x20 || byte > 0x7e ? 0.0005 : (1u << commonness((uint8_t)byte, false)) / 8192.0;
    }
    for (uint32_t i = 0; i < filter->literal_count; i++) {
        if (filter->literals[i].text != NULL && chain(filter, i)) {
            choose_bucket(buckets, count, weights, &filter->literals[i]);
        }
    }
    filter->sets = count / 8;
    fill_tables(filter, buckets);
    return choose_kernel(kernel, &filter->kernel);
}

/* Keeps hits sorted; new ones belong within a few places of the end. */
static void add_hit(struct tf_redact_prefilter_scan *scan, size_t at, uint16_t literal)
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
    const uint8_t *wanted = (const uint8_t *)literal->text;
    size_t i = 0;

    if (!literal->fold) { /* mostly the first byte differs */
        return text[0] == wanted[0] && text[literal->size - 1] == wanted[literal->size - 1] &&
               memcmp(text, wanted, literal->size) == 0;
    }
    while (i < literal->size && fold(text[i]) == wanted[i]) {
        i++;
    }
    return i == literal->size;
}

void tf_redact_prefilter_confirm(struct tf_redact_prefilter_scan *scan, size_t p)
{
    const uint8_t *text = scan->text + p;
    uint32_t fingerprint = fingerprint_at(text);
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

static void add_all(struct tf_redact_prefilter_scan *scan, size_t base, uint32_t found,
                    uint16_t literal)
{
    while (literal != 0 && found != 0) {
        add_hit(scan, base + (size_t)__builtin_ctz(found), (uint16_t)(literal - 1));
        found &= found - 1;
    }
}

/* Where a run of at least count bytes begins; mask has a bit a byte, before is the byte before. */
static uint32_t run_starts(uint64_t mask, bool before, uint32_t count)
{
    uint64_t run = mask;
    uint32_t have = 1;

    while (have * 2 <= count) {
        run &= run >> have;
        have *= 2;
    }
    run &= run >> (count - have);
    return (uint32_t)(run & ~(mask << 1 | (uint64_t)before));
}

static void find_runs(struct tf_redact_prefilter_scan *scan, size_t base,
                      const struct tf_redact_masks *now)
{
    const struct tf_redact_prefilter *f = scan->filter;
    uint64_t digits = scan->last.digits | (uint64_t)now->digits << 32;
    uint64_t tokens = scan->last.tokens | (uint64_t)now->tokens << 32;

    for (uint32_t i = 0; i < f->gate_count; i++) {
        const struct tf_redact_gate *gate = &f->gates[i];
        bool is_digits = gate->kind == TF_REDACT_REQUIRES_DIGITS;

        add_all(scan, base,
                run_starts(is_digits ? digits : tokens,
                           is_digits ? scan->digit_before : scan->token_before, gate->count),
                gate->literal);
    }
}

void tf_redact_prefilter_classes(struct tf_redact_prefilter_scan *scan, size_t base,
                                 const struct tf_redact_masks *now)
{
    const uint16_t *literals = scan->filter->class_literal;
    uint64_t d = scan->last.digits | (uint64_t)now->digits << 32;
    uint64_t dividers = scan->last.dividers | (uint64_t)now->dividers << 32;
    uint64_t capitals = scan->last.capitals | (uint64_t)now->capitals << 32;
    uint64_t d2 = d & d >> 1, d4 = d2 & d2 >> 2, d8 = d4 & d4 >> 4;
    uint64_t starts = d & ~(d << 1 | (uint64_t)scan->digit_before);
    uint64_t card = starts & ((d8 & d8 >> 5) | (d4 & dividers >> 4 & d4 >> 5));
    uint64_t iban = capitals & capitals >> 1 & d2 >> 2;

    if (((uint32_t)card | (uint32_t)iban | scan->last.at_signs) != 0) {
        add_all(scan, base, (uint32_t)card, literals[TF_REDACT_CARD]);
        add_all(scan, base, (uint32_t)iban, literals[TF_REDACT_IBAN]);
        add_all(scan, base, scan->last.at_signs, literals[TF_REDACT_AT]);
    }
    if (scan->filter->gate_count > 0) {
        find_runs(scan, base, now);
    }
    scan->digit_before = scan->last.digits >> 31;
    scan->token_before = scan->last.tokens >> 31;
    scan->last = *now;
}

static bool is_token(uint8_t byte)
{
    return (uint8_t)(byte - '0') < 10 || (uint8_t)((byte | 0x20) - 'a') < 26 || byte == '+' ||
           byte == '/' || byte == '_' || byte == '-';
}

static void add_class(uint8_t byte, uint32_t bit, struct tf_redact_masks *out)
{
    if ((uint8_t)(byte - '0') < 10) {
        out->digits |= bit;
    } else if (byte == ' ' || byte == '-') {
        out->dividers |= bit;
    } else if ((uint8_t)(byte - 'A') < 26) {
        out->capitals |= bit;
    } else if (byte == '@') {
        out->at_signs |= bit;
    }
}

static void scan_scalar(struct tf_redact_prefilter_scan *scan)
{
    const struct tf_redact_prefilter *f = scan->filter;

    for (size_t p = scan->from; p < scan->to && !scan->hits->full; p += TF_REDACT_BLOCK) {
        struct tf_redact_masks now = {0};

        for (unsigned i = 0; i < TF_REDACT_BLOCK && p + i < scan->to; i++) {
            const uint8_t *t = scan->text + p + i;

            if ((f->bytes[0][t[0]] & f->bytes[1][t[1]] & f->bytes[2][t[2]] & f->bytes[3][t[3]]) !=
                0) {
                now.candidates |= 1u << i;
            }
            if (f->classes) {
                add_class(t[0], 1u << i, &now);
                now.tokens |= f->tokens && is_token(t[0]) ? 1u << i : 0;
            }
        }
        tf_redact_prefilter_take(scan, p, &now);
    }
}

static void run_kernel(struct tf_redact_prefilter_scan *scan)
{
    switch (scan->filter->kernel) {
#if defined(__x86_64__)
    case TF_REDACT_KERNEL_AVX2:
        tf_redact_scan_avx2(scan);
        break;
    case TF_REDACT_KERNEL_SSSE3:
        tf_redact_scan_ssse3(scan);
        break;
#elif defined(__aarch64__)
    case TF_REDACT_KERNEL_NEON:
        tf_redact_scan_neon(scan);
        break;
#endif
    default:
        scan_scalar(scan);
    }
}

void tf_redact_prefilter_scan(const struct tf_redact_prefilter *filter, const char *text,
                              size_t from, size_t to, struct tf_redact_hits *hits)
{
    struct tf_redact_prefilter_scan scan = {
        .filter = filter, .text = (const uint8_t *)text, .from = from, .to = to, .hits = hits};
    size_t blocks = (to - from + TF_REDACT_BLOCK - 1) / TF_REDACT_BLOCK;

    assert(from <= to && to <= UINT32_MAX);
    hits->count = 0;
    hits->full = false;
    run_kernel(&scan);
    if (filter->classes && blocks > 0 && !hits->full) {
        struct tf_redact_masks nothing = {0};

        tf_redact_prefilter_classes(&scan, from + (blocks - 1) * TF_REDACT_BLOCK, &nothing);
    }
}
