/*
 * modes.h - what becomes of a secret that was found: masked, hashed, left in part, or dropped.
 */
#ifndef TAFFRAIL_REDACT_MODES_H
#define TAFFRAIL_REDACT_MODES_H

#include "ruleset.h"

#define TF_REDACT_MASK_MAX_BYTES      128u /* of a replacement with its rule's id */
#define TF_REDACT_REPLACEMENT_DEFAULT "[REDACTED:{rule}]"
#define TF_REDACT_WITHHELD_TEXT       "[WITHHELD]"
#define TF_REDACT_HASH_KEY_BYTES      32u

enum tf_redact_mode {
    TF_REDACT_MASK,    /* the replacement stands in its place; its length is not told */
    TF_REDACT_HASH,    /* [HASH:rule:keyid:mark]: the same secret has the same mark */
    TF_REDACT_PARTIAL, /* what the rule keeps of it stays, a quarter at most */
    TF_REDACT_DROP,    /* the record is dropped and counted */
};

struct tf_redact_options;

/* By rule. Immutable after open. */
struct tf_redact_modes {
    const struct tf_redact_rule *rules;
    size_t count;
    uint8_t *mode;
    char (*masks)[TF_REDACT_MASK_MAX_BYTES + 1];
    bool has_hash, has_partial, has_drop;  /* for some rule */
    uint8_t key[TF_REDACT_HASH_KEY_BYTES]; /* derived from the key file's */
    char key_id[9];
};

/*
 * Reads mode, modes, hash_key and replacement. All that is wrong goes to err; places that were not
 * written are `at`. on: by rule; those that are off have mode mask. Returns 0, -EINVAL or -ENOMEM;
 * close it in each case.
 */
int tf_redact_modes_open(struct tf_redact_modes *modes, const struct tf_redact_ruleset *set,
                         const struct tf_redact_options *options, const bool *on,
                         const struct tf_place *at, struct tf_error *err);
void tf_redact_modes_close(struct tf_redact_modes *modes);

/* "mask", "hash", "partial", "drop". */
const char *tf_redact_mode_name(const struct tf_redact_modes *modes, uint16_t rule);

/* A worker's state of the hash; returns new, or NULL. Without hash it holds nothing. */
struct tf_redact_hash;
struct tf_redact_hash *tf_redact_hash_new(const struct tf_redact_modes *modes);
void tf_redact_hash_free(struct tf_redact_hash *hash);

/*
 * Appends what stands in place of a secret that the rule found; rule TF_REDACT_WITHHELD: the word
 * for that. is_whole: the secret is one match of that rule, not a union with others, so parts of it
 * may stay. Where hashing fails, it is masked. out's sticky error tells.
 */
void tf_redact_modes_put(const struct tf_redact_modes *modes, struct tf_redact_hash *hash,
                         uint16_t rule, struct tf_slice secret, bool is_whole, struct tf_buf *out);

/* Whether a text is, as a whole, a mark as this or another agent leaves it by default:
 * [REDACTED:id], [HASH:id:keyid:mark] or [WITHHELD]. */
bool tf_redact_is_mark(struct tf_slice text);

/* `taffrail-hash-1:` and the base64 of 32 bytes, with or without a newline. 0 or -EPROTO. */
int tf_redact_hash_key_parse(struct tf_slice text, uint8_t key[TF_REDACT_HASH_KEY_BYTES]);

#endif
