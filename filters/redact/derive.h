/*
 * derive.h - which literals every match of a regex must hold.
 */
#ifndef TAFFRAIL_REDACT_DERIVE_H
#define TAFFRAIL_REDACT_DERIVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TF_REDACT_DERIVED_MAX       24u /* literals; a longer list is no prefilter */
#define TF_REDACT_DERIVED_BYTES     24u /* of one; what is longer is cut */
#define TF_REDACT_DERIVED_LEAST     3u  /* bytes of the shortest; below, nothing is derived */
#define TF_REDACT_DERIVED_LEAD_MAX  64u
#define TF_REDACT_DERIVED_DEPTH_MAX 16u /* of groups; deeper, nothing is derived */

struct tf_redact_derived {
    char texts[TF_REDACT_DERIVED_MAX][TF_REDACT_DERIVED_BYTES + 1];
    size_t count;  /* 0: nothing could be derived */
    bool fold;     /* texts are in lower case, and stand for any */
    bool is_fixed; /* each stands `lead` bytes behind the start of its match; else anywhere in it */
    uint8_t lead;
};

/*
 * Derives what every match of regex (PCRE2, bytes, no options) must hold: one of the texts. It errs
 * on the side of nothing: of syntax that it does not know, it derives nothing. Bounded by the
 * length of the regex.
 */
void tf_redact_derive(const char *regex, struct tf_redact_derived *out);

#endif
