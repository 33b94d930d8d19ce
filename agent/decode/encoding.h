/*
 * encoding.h - text in other encodings than UTF-8: where its lines end, and what it is in UTF-8.
 * Private to agent/decode.
 *
 * ISO 8859-1, whose bytes are the first 256 code points; UTF-16 (RFC 2781): the byte order is that
 * of the mark at the file's start, little-endian where there is none.
 */
#ifndef TAFFRAIL_DECODE_ENCODING_H
#define TAFFRAIL_DECODE_ENCODING_H

#include "taffrail/decode.h"

#define TF_UTF16_MARK_BYTES 2u

/* The bytes of a newline. */
static inline size_t tf_newline_bytes(enum tf_encoding encoding)
{
    return encoding == TF_ENCODING_UTF16 ? 2 : 1;
}

/* The first newline's first byte in text, which begins at `offset` of the file; NULL: there is
 * none. */
const char *tf_newline_find(enum tf_encoding encoding, bool is_big_endian, struct tf_slice text,
                            uint64_t offset);

/*
 * Appends text as UTF-8; it begins `at` bytes behind its line's start (half a code unit at the
 * front is passed over). What is no text becomes U+FFFD. Returns as tf_buf_append.
 */
int tf_encoding_append(enum tf_encoding encoding, bool is_big_endian, struct tf_slice text,
                       uint64_t at, struct tf_buf *out);

#endif
