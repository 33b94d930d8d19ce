/*
 * rules.h - what a rule is. How one is written: docs/rules.md, language.c; the list: ruleset.h.
 *
 * A rule is data: a regex (PCRE2, bytes, no UTF) and the literals one of which begins every match,
 * `lead` bytes behind its start. The scan looks for the literals only; the regex confirms there. A
 * rule with TF_REDACT_LINE has its literal inside the match: it is searched once in each value that
 * holds one. A rule with a class instead of keywords is found by the shape of its first bytes.
 */
#ifndef TAFFRAIL_REDACT_RULES_H
#define TAFFRAIL_REDACT_RULES_H

#include "taffrail/error.h"

#define TF_REDACT_KEYWORDS_MAX  32u
#define TF_REDACT_EXAMPLES_MAX  24u
#define TF_REDACT_TAGS_MAX      6u
#define TF_REDACT_ALLOW_MAX     8u
#define TF_REDACT_STOPWORDS_MAX 24u

#define TF_REDACT_FOLD 0x1u /* keywords are written in lower case and found in any */
#define TF_REDACT_LINE 0x2u /* the match may begin anywhere before its keyword */
#define TF_REDACT_OFF  0x4u /* not in the default set */

enum tf_redact_class {
    TF_REDACT_NO_CLASS,
    TF_REDACT_CARD, /* a run of digits begins: 13 of them, or 4, a blank or dash, 4 */
    TF_REDACT_IBAN, /* two capitals, two digits */
    TF_REDACT_AT,   /* an at sign */
};

/* What a match must also pass. */
enum tf_redact_check {
    TF_REDACT_NO_CHECK,
    TF_REDACT_LUHN,  /* ISO/IEC 7812-1, annex B, over its digits */
    TF_REDACT_MOD97, /* ISO 13616: the country's length, remainder 1; the match ends there */
    TF_REDACT_BASIC, /* RFC 7617: base64 of printable text with a colon */
};

/* What a rule without a keyword asks of a value before its regex is tried there. */
enum tf_redact_requires {
    TF_REDACT_REQUIRES_NOTHING,
    TF_REDACT_REQUIRES_DIGITS, /* a run of requires_count digits */
    TF_REDACT_REQUIRES_TOKEN,  /* a run of requires_count bytes of [A-Za-z0-9+/_-] */
    TF_REDACT_REQUIRES_BYTE,   /* the byte requires_count */
};

/* Lists end with NULL, also when they are full: the last place is never used. */
struct tf_redact_rule {
    const char *id;
    const char *pack;
    const char *about;
    const char *regex;
    const char *keywords[TF_REDACT_KEYWORDS_MAX]; /* 3 bytes or more each; ends with NULL */
    const char *follow; /* bytes one of which must come behind a keyword; NULL: any, or none */
    uint8_t lead;
    uint8_t flags;
    uint8_t secret_group; /* what is masked; 0: the whole match */
    enum tf_redact_check check;
    enum tf_redact_class class_;
    const char *match[TF_REDACT_EXAMPLES_MAX];
    const char *no_match[TF_REDACT_EXAMPLES_MAX];
    /* Zero in all that follows: not asked for. */
    const char *tags[TF_REDACT_TAGS_MAX];   /* switched by these too */
    const char *allow[TF_REDACT_ALLOW_MAX]; /* regexes: a secret that one matches is none */
    const char
        *stopwords[TF_REDACT_STOPWORDS_MAX]; /* lower case: a secret that holds one is none */
    double entropy_min;                      /* bits a byte of the secret (Shannon), at least */
    uint8_t keep_first, keep_last;           /* what mode partial leaves, in characters */
    enum tf_redact_requires requires;
    uint32_t requires_count;
    bool allow_slow;    /* it may cost more than the budget of own rules */
    bool is_own;        /* from a file of redact.rules */
    bool guessable;     /* values of a small space (cards, phones): hashed only when named */
    struct tf_place at; /* where it was written; no file: shipped */
};

/* How many bytes of a match stand: size, less (MOD97 cuts behind the number), or 0 for none. */
size_t tf_redact_check_match(enum tf_redact_check check, const char *text, size_t size);

/*
 * The rule for a field whose name gives its value away, such as `db_password`; NULL for none. The
 * name is compared in lower case, without `_`, `-`, `.`, blanks, controls, colour codes and
 * zero-width characters, and with Cyrillic and Greek look-alikes folded.
 */
const char *tf_redact_name_rule(struct tf_slice name);

#endif
