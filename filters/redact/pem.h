/*
 * pem.h - a private key that is logged a line a record.
 *
 * One such state belongs to each source; it has a byte for each stream.
 */
#ifndef TAFFRAIL_REDACT_PEM_H
#define TAFFRAIL_REDACT_PEM_H

#include "engine.h"
#include "taffrail/filter.h"

#define TF_REDACT_PEM_LINES_MAX 200u /* masked behind a BEGIN that has no END */

struct tf_redact_pem {
    uint8_t left[TF_STREAMS]; /* base64-shaped lines that are still masked; 0: no key is open */
};

/*
 * Follows a stream through one value's lines, and adds to scan the spans, by rule, of those lines
 * that belong to an open key. Call it when a key is open, or scan->private_key_seen is set.
 */
void tf_redact_pem_follow(uint8_t *left, struct tf_slice value, struct tf_redact_scan *scan,
                          uint16_t rule);

/* Two bytes at most. A state that cannot be read opens a key: it masks rather than passes. */
void tf_redact_pem_save(const struct tf_redact_pem *pem, enum tf_stream stream,
                        struct tf_stream_state *out);
void tf_redact_pem_load(struct tf_redact_pem *pem, enum tf_stream stream,
                        const struct tf_stream_state *in);

#endif
