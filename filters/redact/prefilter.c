/*
 * prefilter.c - the first stage: Teddy over fingerprints, and bit-parallel classes.
 *
 * Each literal has a fingerprint, four bytes of it, or its last three and what may follow, and lies
 * in one of 16 buckets, or of 32 when there are many (prefilter_buckets.c). For each position of
 * the text, and each of its next 4 bytes, two tables of 16 entries, by low and by high nibble, tell
 * which buckets allow that byte there (a shuffle looks up 16 or 32 at once); the AND of all eight
 * is the set of buckets that may begin here. Mostly it is empty. Where it is not, a sketch of the
 * four bytes in use lets one in fifty pass; then a hash of three bytes leads to the literals, which
 * are compared in full. All kernels have the same tables, and so the same hits. A keyword that
 * several rules share is compared once.
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

#include "prefilter_buckets.h"
#include "prefilter_scan.h"

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

/* Adds a rule's literal; at *slot, when it is given, in front of those that are there already. */
static int add_literal(struct tf_redact_prefilter *filter, const char *text,
                       const struct tf_redact_rule *rule, uint16_t number, uint16_t *slot)
{
    struct tf_redact_literal *literal;
    size_t size = text != NULL ? strlen(text) : 0;

    if (filter->literal_count == TF_REDACT_LITERALS_MAX || size > UINT8_MAX ||
        (text != NULL && size < TF_REDACT_LITERAL_MIN)) {
        return -EINVAL;
    }
    literal = &filter->literals[filter->literal_count++];
    *literal = (struct tf_redact_literal){.text = text, .size = (uint16_t)size, .rule = number};
    if (text != NULL) {
        literal->fold = (rule->flags & TF_REDACT_FOLD) != 0;
        literal->any_follows = rule->follow == NULL;
        for (const char *byte = rule->follow; byte != NULL && *byte != '\0'; byte++) {
            literal->follow[(uint8_t)*byte / 32] |= 1u << (uint8_t)*byte % 32;
        }
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
    return add_literal(filter, NULL, NULL, number, &gate->literal);
}

int tf_redact_prefilter_add(struct tf_redact_prefilter *filter, const struct tf_redact_rule *rule,
                            uint16_t number)
{
    int rc = 0;

    if (rule->class_ != TF_REDACT_NO_CLASS) {
        rc = add_literal(filter, NULL, rule, number, &filter->class_literal[rule->class_]);
        filter->classes = true;
    } else if (rule->keywords[0] == NULL && (rule->requires == TF_REDACT_REQUIRES_DIGITS ||
                                             rule->requires == TF_REDACT_REQUIRES_TOKEN)) {
        rc = tf_redact_prefilter_add_run(filter, rule->requires, rule->requires_count, number);
    }
    for (size_t i = 0; rc == 0 && i < TF_REDACT_KEYWORDS_MAX && rule->keywords[i] != NULL; i++) {
        rc = add_literal(filter, rule->keywords[i], rule, number, NULL);
    }
    return rc;
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

/* Notes in the sketch which four bytes a literal's fingerprint may begin. */
static void sketch(struct tf_redact_prefilter *filter, const struct tf_redact_literal *literal)
{
    bool is_short = literal->at + TF_REDACT_FINGERPRINT > literal->size;
    uint8_t bytes[TF_REDACT_FINGERPRINT] = {0};

    memcpy(bytes, literal->text + literal->at, is_short ? sizeof bytes - 1 : sizeof bytes);
    for (unsigned byte = 0; byte < (is_short ? 256 : 1); byte++) {
        uint32_t place;

        if (is_short) {
            bytes[sizeof bytes - 1] = (uint8_t)byte;
        }
        if (!is_short || literal->any_follows ||
            tf_redact_literal_follows(literal, (uint8_t)byte)) {
            place = tf_redact_sketch_place(bytes);
            filter->sketch[place / 8] |= (uint8_t)(1u << place % 8);
        }
    }
}

static struct tf_redact_probe make_probe(const struct tf_redact_literal *literal, size_t number)
{
    struct tf_redact_probe probe = {
        .fingerprint = fingerprint_at((const uint8_t *)literal->text + literal->at),
        .literal = (uint16_t)number,
        .at = literal->at,
        .size = (uint8_t)literal->size};
    uint8_t head[sizeof probe.head] = {0}, cases[sizeof head] = {0}, mask[sizeof head] = {0};

    for (size_t i = 0; i < sizeof head && i < literal->size; i++) {
        uint8_t byte = (uint8_t)literal->text[i];

        head[i] = byte;
        cases[i] = literal->fold && byte >= 'a' && byte <= 'z' ? 0x20 : 0;
        mask[i] = 0xff;
    }
    memcpy(&probe.head, head, sizeof head);
    memcpy(&probe.head_case, cases, sizeof cases);
    memcpy(&probe.head_mask, mask, sizeof mask);
    return probe;
}

/* Lays the probes out by their hashes. */
static void fill_probes(struct tf_redact_prefilter *filter)
{
    uint16_t *begins = filter->begins;

    for (uint32_t i = 0; i < filter->literal_count; i++) { /* how many there are of each hash */
        const struct tf_redact_literal *literal = &filter->literals[i];

        if (literal->is_first) {
            begins[hash(fingerprint_at((const uint8_t *)literal->text + literal->at))]++;
        }
    }
    for (uint32_t i = 1; i < TF_COUNT(filter->begins); i++) { /* where they end */
        begins[i] = (uint16_t)(begins[i] + begins[i - 1]);
    }
    for (uint32_t i = 0; i < filter->literal_count; i++) { /* and begin, when all are laid */
        if (filter->literals[i].is_first) {
            struct tf_redact_probe probe = make_probe(&filter->literals[i], i);

            filter->probes[--begins[hash(probe.fingerprint)]] = probe;
        }
    }
}

/* Texts by all their bytes, while those that are the same are sought. */
struct texts {
    uint16_t heads[1u << TF_REDACT_HASH_BITS]; /* index + 1 */
    uint16_t next[TF_REDACT_LITERALS_MAX];
};

/* The earlier literal with the same text; or NULL, and this one is noted. */
static struct tf_redact_literal *find_same(struct tf_redact_prefilter *filter, uint32_t number,
                                           struct texts *texts)
{
    const struct tf_redact_literal *literal = &filter->literals[number];
    uint16_t *head;
    uint32_t sum = 0;

    for (uint32_t i = 0; i < literal->size; i++) {
        sum = sum * 31 + (uint8_t)literal->text[i];
    }
    head = &texts->heads[hash(sum)];
    for (uint16_t i = *head; i != 0; i = texts->next[i - 1]) {
        struct tf_redact_literal *other = &filter->literals[i - 1];

        if (other->fold == literal->fold && strcmp(other->text, literal->text) == 0) {
            return other;
        }
    }
    texts->next[number] = *head;
    *head = (uint16_t)(number + 1);
    return NULL;
}

/* Hangs literals with a text that an earlier one has on that one. */
static void join_same(struct tf_redact_prefilter *filter)
{
    struct texts texts = {.heads = {0}};

    for (uint32_t i = 0; i < filter->literal_count; i++) {
        struct tf_redact_literal *literal = &filter->literals[i], *first;

        if (literal->text == NULL) {
            continue;
        }
        first = find_same(filter, i, &texts);
        if (first == NULL) {
            literal->is_first = true;
            continue;
        }
        literal->same = first->same;
        first->same = (uint16_t)(i + 1);
        first->any_follows = first->any_follows || literal->any_follows;
        for (size_t j = 0; j < TF_COUNT(literal->follow); j++) {
            first->follow[j] |= literal->follow[j];
        }
    }
}

int tf_redact_prefilter_build(struct tf_redact_prefilter *filter, enum tf_redact_kernel kernel)
{
    join_same(filter);
    tf_redact_prefilter_fill(filter);
    for (uint32_t i = 0; i < filter->literal_count; i++) {
        if (filter->literals[i].is_first) {
            sketch(filter, &filter->literals[i]);
        }
    }
    fill_probes(filter);
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

/* Compares what is behind a literal's first eight bytes. */
static bool rest_is_at(const struct tf_redact_literal *literal, const uint8_t *text)
{
    const uint8_t *wanted = (const uint8_t *)literal->text;
    size_t i = sizeof(uint64_t);

    while (i < literal->size && (literal->fold ? fold(text[i]) : text[i]) == wanted[i]) {
        i++;
    }
    return i >= literal->size;
}

void tf_redact_prefilter_confirm(struct tf_redact_prefilter_scan *scan, size_t p)
{
    const struct tf_redact_prefilter *filter = scan->filter;
    const uint8_t *text = scan->text + p;
    uint32_t fingerprint = fingerprint_at(text), h = hash(fingerprint);

    for (uint32_t i = filter->begins[h]; i < filter->begins[h + 1]; i++) {
        const struct tf_redact_probe *probe = &filter->probes[i];
        uint64_t bytes;

        if (probe->fingerprint != fingerprint || p < scan->from + probe->at ||
            probe->size > scan->to - (p - probe->at)) {
            continue;
        }
        memcpy(&bytes, text - probe->at, sizeof bytes);
        if (((bytes | probe->head_case) & probe->head_mask) == probe->head &&
            rest_is_at(&filter->literals[probe->literal], text - probe->at)) {
            add_hit(scan, p - probe->at, probe->literal);
        }
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
