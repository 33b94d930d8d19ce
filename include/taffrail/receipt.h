/*
 * receipt.h - what a collector signs of a sender's spool: 192 bytes, docs/protocol.md section 6.
 *
 * Pure functions on bytes, for who makes receipts (the forward input), who checks them (the forward
 * output) and who judges them later (verify). Any thread.
 */
#ifndef TAFFRAIL_RECEIPT_H
#define TAFFRAIL_RECEIPT_H

#include "taffrail/spool.h"

#define TF_RECEIPT_SIGNED_BYTES 128u /* the statement; the signature follows */
#define TF_RECEIPT_ID_BYTES     8u
#define TF_RECEIPT_DIGEST_BYTES 32u

struct tf_receipt {
    uint8_t key_id[TF_RECEIPT_ID_BYTES];
    uint8_t spool_id[TF_SPOOL_ID_BYTES];
    uint64_t seq;
    uint8_t chain[TF_CHAIN_BYTES];             /* of that frame: commits to all before it */
    uint8_t identity[TF_RECEIPT_DIGEST_BYTES]; /* SHA-256 of what the sender proved */
    int64_t time_ns;
    uint64_t counter;
};

/* H(public key), whose first TF_RECEIPT_ID_BYTES are the key id. */
void tf_receipt_fingerprint(const uint8_t key[TF_RECEIPT_KEY_BYTES],
                            uint8_t out[TF_RECEIPT_DIGEST_BYTES]);

/* The statement: the first TF_RECEIPT_SIGNED_BYTES of a receipt. */
void tf_receipt_encode(const struct tf_receipt *receipt, uint8_t out[TF_RECEIPT_SIGNED_BYTES]);

/* Reads a statement; says nothing of its signature. 0, or -EPROTO: it is none of this version. */
int tf_receipt_decode(const uint8_t bytes[TF_RECEIPT_BYTES], struct tf_receipt *out);

/* Whether key made the signature, is the key that the statement names, and is one that signs (not
 * of small order). 0; -EBADMSG; -EIO: OpenSSL failed. */
int tf_receipt_check(const uint8_t bytes[TF_RECEIPT_BYTES],
                     const uint8_t key[TF_RECEIPT_KEY_BYTES]);

#endif
