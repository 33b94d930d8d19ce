/*
 * names.h - names that give their values away: of fields, and in texts that hold JSON.
 */
#ifndef TAFFRAIL_REDACT_NAMES_H
#define TAFFRAIL_REDACT_NAMES_H

#include "engine.h"

/* What a name gives away. */
enum tf_redact_name {
    TF_REDACT_NO_NAME,
    TF_REDACT_PASSWORD_NAME,
    TF_REDACT_SECRET_NAME,
    TF_REDACT_API_KEY_NAME,
    TF_REDACT_AUTHORIZATION_NAME,
    TF_REDACT_COOKIE_NAME,
    TF_REDACT_NAMES,
};

/* The id of the rule that such a name stands for; NULL for the first. */
const char *tf_redact_name_id(enum tf_redact_name name);

enum tf_redact_name tf_redact_name_of(struct tf_slice key);

/* The same for the name of a list, so of `passwords` too. */
enum tf_redact_name tf_redact_name_of_list(struct tf_slice key);

/* Whether a name introduces that of a pair, {"name":"DB_PASSWORD","value":"..."}; and its value. */
bool tf_redact_names_a_name(struct tf_slice key);
bool tf_redact_names_a_value(struct tf_slice key);

/* Whether a text under such a name is none of its values: empty, a word such as null, or what
 * another filter has left, as ****, [FILTERED], <redacted>, or an empty template, as ${TOKEN}. */
bool tf_redact_is_nothing(struct tf_slice text);

/* Whether a number, written out, could be a secret of that kind: of a password any, else one of six
 * digits or more that is no item of a list. */
bool tf_redact_number_is_secret(enum tf_redact_name name, struct tf_slice number, bool is_item);

/*
 * Looks through a text for JSON, also escaped in a string once, twice or three times, and adds
 * spans to scan for the values that their names give away: strings, numbers, and those in arrays
 * under the name. rules: by enum tf_redact_name, UINT16_MAX: not asked for. Linear in the text.
 */
void tf_redact_names_scan(struct tf_slice text, const uint16_t rules[TF_REDACT_NAMES],
                          struct tf_redact_scan *scan);

#endif
