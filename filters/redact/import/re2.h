/*
 * re2.h - a regex in the syntax of Go's regexp, which is RE2's, as a tree; and that as PCRE2.
 *
 * What a tree's matches are like, and how one is made, is in re2_match.h.
 */
#ifndef TAFFRAIL_REDACT_RE2_H
#define TAFFRAIL_REDACT_RE2_H

#include "taffrail/base.h"

#define TF_REDACT_RE2_DEPTH_MAX  64u        /* of groups; deeper is refused */
#define TF_REDACT_RE2_REPEAT_MAX 1000u      /* RE2's own bound; more is refused */
#define TF_REDACT_RE2_ENDLESS    UINT32_MAX /* in place of the most that a repeat takes */

enum tf_redact_re2_kind {
    TF_REDACT_RE2_BYTES,     /* a character, as UTF-8 */
    TF_REDACT_RE2_CLASS,     /* a byte of a set; is_wide: or some character beyond ASCII */
    TF_REDACT_RE2_ANY,       /* . */
    TF_REDACT_RE2_UNICODE,   /* \pL and the like, as it is written */
    TF_REDACT_RE2_ASSERTION, /* ^ $ \A \z \b \B */
    TF_REDACT_RE2_FLAGS,     /* (?i) */
    TF_REDACT_RE2_GROUP,     /* (?:…), with one child, as the next */
    TF_REDACT_RE2_CAPTURE,
    TF_REDACT_RE2_REPEAT,
    TF_REDACT_RE2_SEQUENCE, /* any number of children, as the next */
    TF_REDACT_RE2_CHOICE,
};

struct tf_redact_re2_node {
    enum tf_redact_re2_kind kind;
    bool is_lazy;         /* REPEAT */
    bool is_wide;         /* CLASS */
    bool is_secret;       /* CAPTURE: it stays one; others become plain groups */
    bool is_reset;        /* CHOICE: a secret stands in more than one branch, each as group 1 */
    struct tf_slice text; /* BYTES; of the rest as written: ASSERTION, UNICODE, a CLASS that PCRE2
                             reads alike, the letters of FLAGS and GROUP; else empty */
    const uint32_t *set;  /* CLASS: a bit a byte, 256 of them */
    uint32_t least, most; /* REPEAT */
    unsigned number;      /* CAPTURE, from 1 */
    struct tf_redact_re2_node *first, *next;
};

struct tf_redact_re2 {
    struct tf_redact_re2_node *root;
    unsigned groups;
    bool has_wide;    /* a class with characters beyond ASCII: it is taken for all of these */
    bool has_unicode; /* \p: PCRE2 looks at single bytes */
};

/* Where a regex is not sound, and why. */
struct tf_redact_re2_error {
    size_t at; /* in bytes */
    const char *what;
};

/*
 * Parses a regex, UTF-8. Returns new in *out, in arena; what is written is borrowed from regex.
 * Returns 0; -EINVAL with *error written, for what RE2 refuses too and for what has no counterpart;
 * -ENOMEM.
 */
int tf_redact_re2_parse(const char *regex, void *arena, struct tf_redact_re2 *out,
                        struct tf_redact_re2_error *error);

/* What is the secret of a match. */
enum tf_redact_re2_secret {
    TF_REDACT_RE2_WHOLE,   /* all of it */
    TF_REDACT_RE2_GROUP_1, /* group 1 of what is written */
    TF_REDACT_RE2_UNCLEAR, /* no one group of what is written */
};

/* Makes the group of that number the secret; 0: the first that is not empty, as gitleaks does. The
 * others are then written as plain groups, so that it is group 1. */
enum tf_redact_re2_secret tf_redact_re2_choose(struct tf_redact_re2 *re2, unsigned number);

/* Appends the regex as PCRE2, over bytes, in printable ASCII. Returns as tf_buf_append. */
int tf_redact_re2_write(const struct tf_redact_re2 *re2, struct tf_buf *to);

/* Whether a byte is in a CLASS's set. */
static inline bool tf_redact_re2_has(const struct tf_redact_re2_node *node, uint8_t byte)
{
    return (node->set[byte / 32] >> byte % 32 & 1u) != 0;
}

#endif
