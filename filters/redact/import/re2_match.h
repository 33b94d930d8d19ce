/*
 * re2_match.h - what the matches of a regex are like, and how one is made.
 */
#ifndef TAFFRAIL_REDACT_RE2_MATCH_H
#define TAFFRAIL_REDACT_RE2_MATCH_H

#include "re2.h"

#define TF_REDACT_RE2_EXAMPLE_MAX 2048u /* bytes */

/* The least number of bytes that a match of the node has. */
size_t tf_redact_re2_least(const struct tf_redact_re2_node *node);

/* How many bytes in a row, all of one kind, each match holds at least: digits, or letters, digits
 * and +/_-. */
enum tf_redact_re2_run { TF_REDACT_RE2_DIGITS, TF_REDACT_RE2_TOKEN };
size_t tf_redact_re2_run(const struct tf_redact_re2_node *node, enum tf_redact_re2_run kind);

/* Whether each match must hold one of the words, which are in lower case, in any case. False also
 * where that cannot be seen. */
bool tf_redact_re2_holds(const struct tf_redact_re2_node *node, const char *const *words,
                         size_t count);

/*
 * Appends a text that the regex may match; what it asserts is not looked at, so try it. Attempts
 * differ: 0 is the shortest. The same attempt gives the same text. Returns false when it would be
 * too long, or hold what no example can.
 */
bool tf_redact_re2_example(const struct tf_redact_re2_node *node, unsigned attempt,
                           struct tf_buf *to);

#endif
