/*
 * seen.h - the texts and keys of a batch that were looked at, so that the same bytes are not looked
 * at again.
 *
 * Fields repeat: a batch of journal entries has some twenty keys, and most of its values are those
 * of the entry before. Two tables of a fixed size, emptied for each batch, hold by their place in
 * its arena the texts in which nothing was found, and the keys with what they say. A text's hash
 * leads to one place, where the newest stands; only equal bytes count as seen. So no text outlives
 * its batch here, and one who sends texts of one hash gains that each is searched, as any other.
 *
 * What was noted must not be written over in the arena until the table is emptied.
 */
#ifndef TAFFRAIL_REDACT_SEEN_H
#define TAFFRAIL_REDACT_SEEN_H

#include "names.h"

#define TF_REDACT_SEEN_TEXTS 2048u
#define TF_REDACT_SEEN_KEYS  1024u /* so many that two of some thirty seldom share a place */

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

/* All zero: empty. An empty text is clean, and an empty key says nothing. */
struct tf_redact_seen {
    struct tf_redact_seen_text texts[TF_REDACT_SEEN_TEXTS];
    struct tf_redact_key keys[TF_REDACT_SEEN_KEYS];
};

/* The key arena[at..at+size); good until the next call. TF_REDACT_READAHEAD_BYTES behind the arena
 * must be readable, for all of these. */
struct tf_redact_key *tf_redact_seen_key(struct tf_redact_seen *seen, const char *arena,
                                         uint32_t at, uint32_t size);

/* The place of a text, whether it is there or not. */
struct tf_redact_seen_text *tf_redact_seen_place(struct tf_redact_seen *seen, const char *arena,
                                                 uint32_t at, uint32_t size);

/* Whether what stands in a place is the same text. */
bool tf_redact_seen_is(const struct tf_redact_seen_text *text, const char *arena, uint32_t at,
                       uint32_t size);

#endif
