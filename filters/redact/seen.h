/*
 * seen.h - the texts and keys of a batch that were looked at, so that the same bytes are not looked
 * at again.
 *
 * Fields repeat: a batch of journal entries has some twenty keys, and most of its values are those
 * of the entry before. Tables of a fixed size, emptied for each batch, hold by their place in its
 * arena the texts in which nothing was found, the keys with what they say, and fields of which both
 * are so: most share their line with an earlier one (batch.h), and are told by its place alone. A
 * text's hash leads to one place, where the newest stands; only equal bytes count as seen. So no
 * text outlives its batch here, and one who sends texts of one hash gains that each is searched, as
 * any other.
 *
 * What was noted must not be written over in the arena until the table is emptied.
 */
#ifndef TAFFRAIL_REDACT_SEEN_H
#define TAFFRAIL_REDACT_SEEN_H

#include "names.h"

#define TF_REDACT_SEEN_TEXTS  2048u
#define TF_REDACT_SEEN_FIELDS 512u
#define TF_REDACT_SEEN_KEYS   512u /* places for two, so that hardly one of some thirty has none */

struct tf_redact_seen_text {
    uint32_t at, size; /* in the arena */
};

/* What a key says. */
struct tf_redact_key {
    struct tf_redact_seen_text text;
    enum tf_redact_name name; /* what it gives away, unless it is that of a list */
    bool names_a_name, names_a_value;
    bool is_main;  /* the record's own text is under it */
    bool is_clean; /* the caller's: nothing was found in it */
};

/* A field in whose key and value nothing was found. */
struct tf_redact_seen_field {
    struct tf_redact_seen_text key_text, value;
    struct tf_redact_key key; /* what the key says */
};

/* All zero: empty. An empty text is clean, and an empty key says nothing. */
struct tf_redact_seen {
    struct tf_redact_seen_field fields[TF_REDACT_SEEN_FIELDS];
    struct tf_redact_seen_text texts[TF_REDACT_SEEN_TEXTS];
    struct tf_redact_key keys[TF_REDACT_SEEN_KEYS][2]; /* the newer first */
};

/* The key arena[at..at+size); good until the next call. TF_REDACT_READAHEAD_BYTES behind the arena
 * must be readable, for all of these. */
struct tf_redact_key *tf_redact_seen_key(struct tf_redact_seen *seen, const char *arena,
                                         uint32_t at, uint32_t size);

/* The place of a field with such a key and value, whether it is there or not. */
static inline struct tf_redact_seen_field *tf_redact_seen_field(struct tf_redact_seen *seen,
                                                                uint32_t key_at, uint32_t value_at)
{
    uint32_t mixed = (key_at ^ value_at << 16 ^ value_at >> 16) * 0x9e3779b1u;

    return &seen->fields[(mixed >> 16) % TF_REDACT_SEEN_FIELDS];
}

/* Whether what stands in a place is a field of the same key and value: at the same places. An empty
 * place is none: no field lies at the arena's first byte. */
static inline bool tf_redact_seen_field_is(const struct tf_redact_seen_field *seen,
                                           struct tf_redact_seen_text key,
                                           struct tf_redact_seen_text value)
{
    return seen->key_text.at == key.at && seen->key_text.size == key.size &&
           seen->value.at == value.at && seen->value.size == value.size && value.at > 0;
}

/* The place of a text, whether it is there or not. */
struct tf_redact_seen_text *tf_redact_seen_place(struct tf_redact_seen *seen, const char *arena,
                                                 uint32_t at, uint32_t size);

/* Whether what stands in a place is the same text. */
bool tf_redact_seen_is(const struct tf_redact_seen_text *text, const char *arena, uint32_t at,
                       uint32_t size);

#endif
