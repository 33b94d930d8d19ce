/*
 * receipt.c - receipts: what a collector signs of what it has (docs/protocol.md, section 6).
 *
 * A receipt that comes with an ack is
 *
 *     bad      it is none, its key is missing or did not sign it, or it is of another identity or
 *              spool: logged, an audit event once a minute, otherwise without effect
 *     old      of an earlier lineage of this spool, or not newer than one that this output had
 *     sound    of a frame of ours: kept for the next seal, with its key
 *     a fork   sound, and of a frame that this spool never made (a number beyond the newest durable
 *              one, or where none of ours is) or made otherwise (another chain value)
 *
 * Numbers are compared with the spool's segments, chain values with the TF_FORWARD_KNOWN frames
 * that were sent last. Nothing here ends a connection: the ack counts either way.
 */
#include "internal.h"

#include <assert.h>
#include <errno.h>

#include <openssl/sha.h>

#include "taffrail/log.h"

#define TELL_MS 60000u

void tf_forward_witness_init(struct forward *self)
{
    struct forward_witness *witness = &self->witness;
    char identity[TF_IDENTITY_MAX + 1];

    witness->knows_identity = tf_tls_own_identity(self->tls, identity);
    if (witness->knows_identity) {
        (void)SHA256((const unsigned char *)identity, strlen(identity), witness->identity);
    }
}

void tf_forward_witness_reset(struct forward *self)
{
    self->witness.has_key = false;
}

/* ---- frames lately sent --------------------------------------------------------------------- */

static const struct forward_known *find_known(const struct forward_witness *witness, uint64_t seq)
{
    for (uint32_t i = 0; i < witness->known_count; i++) {
        if (witness->known[i].seq == seq) {
            return &witness->known[i];
        }
    }
    return NULL;
}

void tf_forward_witness_sent(struct forward *self, const struct tf_frame *frame)
{
    struct forward_witness *witness = &self->witness;
    struct forward_known *known = &witness->known[witness->known_at];

    if (frame->is_gap_span || find_known(witness, frame->seq) != NULL) {
        return; /* its chain value is none, or it is sent again: the same bytes */
    }
    known->seq = frame->seq;
    memcpy(known->chain, frame->chain, TF_CHAIN_BYTES);
    witness->known_at = (witness->known_at + 1) % TF_FORWARD_KNOWN;
    witness->known_count += witness->known_count < TF_FORWARD_KNOWN;
}

/* ---- judging -------------------------------------------------------------------------------- */

static void tell_bad(struct forward *self, const char *why)
{
    uint64_t now = uv_now(self->loop);
    char text[160];

    tf_log(TF_LOG_WARN, "receipt-bad",
           TF_DETAILS(TF_STR("output", self->name), TF_STR("peer", self->peer),
                      TF_STR("identity", self->identity)),
           "a receipt of the collector is not sound: %s; the ack counts all the same", why);
    if (self->witness.told_ms != 0 && now - self->witness.told_ms < TELL_MS) {
        return;
    }
    self->witness.told_ms = now;
    (void)snprintf(text, sizeof text, "output %s: a receipt of the collector is not sound: %s",
                   self->name, why);
    tf_spool_event(tf_feed_spool(self->feed), "receipt-bad", text);
}

/* Why a receipt is bad, or NULL; *out is then what it states. */
static const char *judge(const struct forward *self, struct tf_slice bytes, struct tf_receipt *out)
{
    const struct forward_witness *witness = &self->witness;
    const uint8_t *raw = (const uint8_t *)bytes.data;

    if (bytes.size != TF_RECEIPT_BYTES || tf_receipt_decode(raw, out) < 0) {
        return "it is no receipt of this version";
    }
    if (!witness->has_key) {
        return "no key came before it";
    }
    if (tf_receipt_check(raw, witness->key) < 0) {
        return "its signature is not by the collector's key";
    }
    if (witness->knows_identity &&
        memcmp(out->identity, witness->identity, sizeof witness->identity) != 0) {
        return "it is of another identity";
    }
    if (!tf_spool_is_lineage(tf_feed_spool(self->feed), out->spool_id)) {
        return "it is of another spool";
    }
    return NULL;
}

static bool is_fork(const struct forward *self, const struct tf_receipt *receipt)
{
    const struct tf_spool *spool = tf_feed_spool(self->feed);
    const struct forward_known *known = find_known(&self->witness, receipt->seq);

    return !tf_spool_may_have(spool, receipt->seq) ||
           (known != NULL && memcmp(known->chain, receipt->chain, TF_CHAIN_BYTES) != 0);
}

static void take_sound(struct forward *self, const struct tf_receipt *receipt, const uint8_t *bytes)
{
    struct tf_spool *spool = tf_feed_spool(self->feed);

    if (memcmp(receipt->spool_id, tf_spool_id(spool), TF_SPOOL_ID_BYTES) != 0) {
        return; /* what an earlier lineage had was judged when it was the newest */
    }
    if (is_fork(self, receipt)) {
        tf_spool_forked(spool, receipt->seq, receipt->chain);
        return;
    }
    tf_spool_receipt_key(spool, self->witness.key);
    if (receipt->seq > self->witness.newest_seq) {
        self->witness.newest_seq = receipt->seq;
        tf_spool_receipt(spool, self->name, bytes);
    }
}

void tf_forward_witness_answer(struct forward *self, const struct tf_answer *answer)
{
    struct tf_receipt receipt;
    const char *why;

    if (answer->key.data != NULL && answer->key.size == TF_RECEIPT_KEY_BYTES) {
        memcpy(self->witness.key, answer->key.data, TF_RECEIPT_KEY_BYTES);
        self->witness.has_key = true;
    }
    if (answer->receipt.data == NULL || tf_feed_spool(self->feed) == NULL) {
        return; /* a replay has no seals that would hold one */
    }
    why = judge(self, answer->receipt, &receipt);
    if (why != NULL) {
        tell_bad(self, why);
        return;
    }
    take_sound(self, &receipt, (const uint8_t *)answer->receipt.data);
}
