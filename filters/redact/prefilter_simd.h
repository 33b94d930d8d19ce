/*
 * prefilter_simd.h - the one scan that all vector kernels are.
 *
 * Included once by each kernel, behind its own `vec` (16 or 32 bytes) and what can be done with it:
 * load, table (16 entries, the same for each 16 bytes), lookup, low_nibbles, high_nibbles, both,
 * either, ones, nonzero, in_range, equal, lower. nonzero, in_range and equal give a bit a byte.
 * TARGET is the attribute of the kernel's functions.
 */

/* Where a fingerprint may begin, of `sets` times eight buckets. */
TARGET static inline __attribute__((always_inline)) uint32_t
candidates(const struct tf_redact_prefilter *f, const uint8_t *at, unsigned sets)
{
    vec found[TF_REDACT_SETS];
    vec any;

    for (unsigned set = 0; set < sets; set++) {
        found[set] = ones();
    }
    for (unsigned i = 0; i < TF_REDACT_FINGERPRINT; i++) {
        vec bytes = load(at + i);
        vec low = low_nibbles(bytes), high = high_nibbles(bytes);

        for (unsigned set = 0; set < sets; set++) {
            found[set] = both(found[set], both(lookup(table(f->low[set][i]), low),
                                               lookup(table(f->high[set][i]), high)));
        }
    }
    any = found[0];
    for (unsigned set = 1; set < sets; set++) {
        any = either(any, found[set]);
    }
    return nonzero(any);
}

TARGET static inline __attribute__((always_inline)) void
add_classes(const struct tf_redact_prefilter *f, const uint8_t *at, unsigned shift,
            struct tf_redact_masks *out)
{
    vec bytes = load(at);
    uint32_t digits = in_range(bytes, '0', 9);

    out->digits |= digits << shift;
    out->dividers |= (equal(bytes, ' ') | equal(bytes, '-')) << shift;
    out->capitals |= in_range(bytes, 'A', 25) << shift;
    out->at_signs |= equal(bytes, '@') << shift;
    if (f->tokens) {
        out->tokens |= (digits | in_range(lower(bytes), 'a', 25) | equal(bytes, '+') |
                        equal(bytes, '/') | equal(bytes, '_') | equal(bytes, '-'))
                       << shift;
    }
}

TARGET static inline __attribute__((always_inline)) void
scan_sets(struct tf_redact_prefilter_scan *scan, unsigned sets)
{
    const struct tf_redact_prefilter *f = scan->filter;

    for (size_t p = scan->from; p < scan->to && !scan->hits->full; p += TF_REDACT_BLOCK) {
        struct tf_redact_masks now = {0};

        for (unsigned part = 0; part < TF_REDACT_BLOCK; part += sizeof(vec)) {
            now.candidates |= candidates(f, scan->text + p + part, sets) << part;
            if (f->classes) {
                add_classes(f, scan->text + p + part, part, &now);
            }
        }
        tf_redact_prefilter_take(scan, p, &now);
    }
}

TARGET static inline void scan_text(struct tf_redact_prefilter_scan *scan)
{
    if (scan->filter->sets <= 2) {
        scan_sets(scan, 2);
    } else {
        scan_sets(scan, TF_REDACT_SETS);
    }
}
