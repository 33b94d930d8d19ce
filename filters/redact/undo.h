/*
 * undo.h - a text with its escapes undone, so that what they hide is found.
 */
#ifndef TAFFRAIL_REDACT_UNDO_H
#define TAFFRAIL_REDACT_UNDO_H

#include "taffrail/base.h"

#define TF_REDACT_UNDO_DEPTH      4u /* passes: what is escaped three times, then what that hid */
#define TF_REDACT_UNDO_KEEP_BYTES (256u * 1024u) /* a larger buffer is freed after its use */

/* A text as it is undone; zeroed at first. */
struct tf_redact_undone {
    char *text; /* TF_REDACT_READAHEAD_BYTES behind it are zero */
    size_t size;
    uint32_t *widths; /* how many of the written bytes each byte stands for; 0: what came before */
    size_t capacity;
    unsigned depth;
    bool has_unquoted; /* a string's quotes in JSON no longer tell how deep it lies */
};

/* Whether a text may hold anything to undo: a quick look, so that most texts cost no more. */
bool tf_redact_may_undo(struct tf_slice text);

/*
 * Undoes a written text once. Returns 1 when out->text is another text than the written one, 0 when
 * nothing is to be undone, -ENOMEM. Linear in the text.
 */
int tf_redact_undo(struct tf_redact_undone *out, struct tf_slice written);

/* Undoes what is left in out once more; returns as tf_redact_undo. 0 also past
 * TF_REDACT_UNDO_DEPTH. */
int tf_redact_undo_again(struct tf_redact_undone *out);

/* Wipes the text; frees the buffers when they are large, or all are asked for. */
void tf_redact_undone_wipe(struct tf_redact_undone *undone, bool all);

/* A place in the written text, found by going on from an earlier one. Starts zeroed. */
struct tf_redact_written {
    size_t undone, written;
};

/* Goes on to a place of the undone text, not before the last one; returns that of the written
 * text: of the first byte that the byte there stands for, with what was left out before it. */
size_t tf_redact_written_at(const struct tf_redact_undone *undone, struct tf_redact_written *place,
                            size_t at);

/* How many bytes at the start of a text do not count in a name: a colour code, a zero-width
 * character, a soft hyphen; 0: what stands there counts. size is 1 at least. */
size_t tf_redact_uncounted(const uint8_t *text, size_t size);

/* The Latin letter that a Cyrillic or Greek one of two bytes looks like, or 0. */
char tf_redact_look_alike(uint8_t first, uint8_t second);

#endif
