/*
 * rules.h - what a rule is, and the rules that are compiled in.
 *
 * A rule is data: a regex (PCRE2, bytes, no UTF) and the literals one of which begins every match,
 * `lead` bytes behind its start. The scan looks for the literals only; the regex confirms there. A
 * rule with TF_REDACT_LINE has its literal inside the match: it is searched once in each value that
 * holds one. A rule with a class instead of keywords is found by the shape of its first bytes.
 */
#ifndef TAFFRAIL_REDACT_RULES_H
#define TAFFRAIL_REDACT_RULES_H

#include "taffrail/base.h"

#define TF_REDACT_KEYWORDS_MAX 20u
#define TF_REDACT_EXAMPLES_MAX 5u

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
};

/* In the order of their claim: where matches overlap, the first of the rules names the mask. */
extern const struct tf_redact_rule tf_redact_rules[];
extern const size_t tf_redact_rules_count;

/* How many bytes of a match stand: size, less (MOD97 cuts behind the number), or 0 for none. */
size_t tf_redact_check_match(enum tf_redact_check check, const char *text, size_t size);

/*
 * The rule for a field whose name gives its value away, such as `db_password`; NULL for none. The
 * name is compared in lower case, without `_`, `-`, `.`, blanks, controls, colour codes and
 * zero-width characters, and with Cyrillic and Greek look-alikes folded.
 */
const char *tf_redact_name_rule(struct tf_slice name);

#endif
