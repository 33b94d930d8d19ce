/*
 * seal.c - when a live spool seals, and how its key moves on (docs/guarantees.md G).
 *
 *     idle       nothing is on its way
 *     asked      a seal has its number in the list of the writer
 *     written    made over the chain before it, in the batch that a worker writes and syncs
 *     moving     synced; a worker writes the next key into the other slot of seal.state, zeroes the
 *                old one; then the old key is wiped: idle
 *     waiting    that failed: it is tried again each second, and meanwhile no seal is made
 *
 * A write or sync that fails ends the run before `moving`: nothing has evolved, and the next seal
 * has the same number, over the then newest chain. A crash anywhere leads to the same keys, since a
 * start evolves past the newest seal that it accepts (seal_start.c). With nothing unsealed none is
 * made.
 *
 * Receipts of outputs stay in memory until a seal that holds them is durable; a collector's key is
 * noted when it is new, and the folded state (list "witness/keys") remembers it. It is noted again
 * at the beginning of each segment: whatever is kept of a spool has the keys of its receipts.
 */
#include "seal.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include <openssl/crypto.h>

#include "taffrail/log.h"

#define RECEIPT_KEYS "witness/keys"

int tf_sealing_new(struct tf_spool *spool)
{
    struct tf_sealing *sealing = calloc(1, sizeof *sealing);

    if (sealing == NULL) {
        return -ENOMEM;
    }
    sealing->fd = -1;
    sealing->every_ms = TF_SEAL_EVERY_MS;
    sealing->every_bytes = TF_SEAL_EVERY_BYTES;
#ifdef TF_TEST_HOOKS
    if (getenv("TAFFRAIL_SEAL_MS") != NULL) {
        sealing->every_ms = strtoul(getenv("TAFFRAIL_SEAL_MS"), NULL, 10);
    }
#endif
    spool->sealing = sealing;
    return 0;
}

void tf_sealing_free(struct tf_spool *spool)
{
    struct tf_sealing *sealing = spool->sealing;

    if (sealing == NULL) {
        return;
    }
    if (sealing->fd >= 0) {
        (void)close(sealing->fd);
    }
    tf_secure_free(sealing->key, sizeof *sealing->key);
    tf_secure_free(sealing->next, sizeof *sealing->next);
    free(sealing);
    spool->sealing = NULL;
}

bool tf_seal_is_on(const struct tf_spool *spool)
{
    return spool->sealing->state == TF_SEALED_ON;
}

uint64_t tf_seal_next_number(const struct tf_spool *spool)
{
    const struct tf_sealing *sealing = spool->sealing;

    return sealing->state == TF_SEALED_ON ? sealing->key->number : sealing->off_number;
}

bool tf_seal_is_busy(const struct tf_spool *spool)
{
    return spool->sealing->seq != 0 && !spool->sealing->move_wait;
}

bool tf_seal_is_possible(const struct tf_spool *spool)
{
    return tf_seal_is_on(spool) && spool->sealing->seq == 0 && spool->fd >= 0 && !spool->finished &&
           spool->failed == 0;
}

bool tf_seal_is_due(const struct tf_spool *spool)
{
    const struct tf_sealing *sealing = spool->sealing;

    return tf_seal_is_possible(spool) && !spool->closing && spool->appended_cover.from_seq != 0 &&
           (sealing->at_once || spool->appended_cover.bytes >= sealing->every_bytes ||
            uv_now(spool->loop) - sealing->since_ms >= sealing->every_ms);
}

void tf_seal_asked(struct tf_spool *spool, uint64_t seq)
{
    assert(spool->sealing->seq == 0);
    spool->sealing->seq = seq;
    spool->sealing->at_once = false;
}

/* ---- making one ----------------------------------------------------------------------------- */

/* Up to 8 receipts that no durable seal holds; a later seal goes on behind the last one taken. */
static void take_receipts(struct tf_sealing *sealing, struct tf_seal *seal)
{
    uint32_t count = sealing->receipt_count, first = sealing->receipt_first;

    memset(sealing->carried, 0, sizeof sealing->carried);
    for (uint32_t k = 0; k < count && seal->receipt_count < TF_SEAL_RECEIPTS_MAX; k++) {
        uint32_t i = (first + k) % count;
        const struct tf_receipt_slot *slot = &sealing->receipts[i];

        if (slot->version != 0) {
            memcpy(seal->receipts[seal->receipt_count++], slot->bytes, TF_RECEIPT_BYTES);
            sealing->carried[i] = slot->version;
            sealing->receipt_first = i + 1;
        }
    }
}

static void fill_seal(struct tf_sealing *sealing, const struct tf_spot *end,
                      const struct tf_cover *cover, struct tf_seal *seal)
{
    const struct tf_seal_key *key = sealing->key;

    *seal = (struct tf_seal){.number = key->number,
                             .from_seq = cover->from_seq,
                             .to_seq = end->seq,
                             .events = end->events,
                             .gaps = cover->gaps,
                             .time_min_ns = cover->time_min_ns,
                             .time_max_ns = cover->time_max_ns};
    memcpy(seal->id, key->id, sizeof seal->id);
    memcpy(seal->chain, end->chain, sizeof seal->chain);
    memcpy(seal->prev_mac, key->prev_mac, sizeof seal->prev_mac);
    take_receipts(sealing, seal);
}

int tf_seal_make(struct tf_spool *spool, const struct tf_spot *end, const struct tf_cover *cover,
                 struct tf_write *write)
{
    struct tf_sealing *sealing = spool->sealing;
    uint8_t content[TF_SEAL_MAX_BYTES], raw[TF_FRAME_HEADER_BYTES];
    struct tf_seal seal;
    size_t size;
    int rc;

    assert(write->header.seq == sealing->seq);
    memcpy(sealing->key->spool_id, spool->keys->spool_id, TF_SPOOL_ID_BYTES); /* of its lineage */
    fill_seal(sealing, end, cover, &seal);
    size = tf_seal_encode(&seal, content);
    write->header.body_bytes = (uint32_t)(size + TF_GCM_TAG_BYTES); /* the MAC covers it */
    tf_frame_header_encode(&write->header, raw);
    rc = tf_seal_mac(sealing->key, spool->keys->segment_id, raw,
                     tf_slice(content, size - TF_DIGEST_BYTES), seal.mac);
    if (rc == 0) {
        memcpy(sealing->mac, seal.mac, TF_DIGEST_BYTES);
        (void)tf_seal_encode(&seal, content);
        rc = tf_frame_seal_clear(spool->keys, &write->header, tf_slice(content, size),
                                 &write->frame, write->leaf, &write->body_crc);
    }
    return rc;
}

/* ---- the key moves on ----------------------------------------------------------------------- */

static void move_work(uv_work_t *work)
{
    struct tf_sealing *sealing = TF_CONTAINER_OF(work, struct tf_sealing, work);

    sealing->status = tf_seal_state_move(sealing->fd, sealing->next, &sealing->slot);
}

static void forget_receipts(struct tf_sealing *sealing)
{
    for (uint32_t i = 0; i < sealing->receipt_count; i++) {
        if (sealing->carried[i] == sealing->receipts[i].version) { /* no newer one has come */
            sealing->receipts[i].version = 0;
        }
    }
}

static void move_failed(struct tf_spool *spool, int rc)
{
    char reason[64];

    spool->sealing->move_wait = true;
    tf_disk_failed(spool, TF_DISK_SEAL, rc);
    tf_log(TF_LOG_ERROR, "disk-error", TF_DETAILS(TF_STR("spool", spool->path)),
           "seal.state cannot be written: %s; no seal is made meanwhile; retry in 1000 ms",
           uv_strerror_r(rc, reason, sizeof reason));
}

static void on_moved(uv_work_t *work, int status)
{
    struct tf_sealing *sealing = TF_CONTAINER_OF(work, struct tf_sealing, work);
    struct tf_spool *spool = work->data;
    int rc = status < 0 ? status : sealing->status;

    sealing->moving = false;
    if (rc < 0) {
        move_failed(spool, rc);
    } else {
        *sealing->key = *sealing->next; /* the old key is gone from memory too */
        OPENSSL_cleanse(sealing->next, sizeof *sealing->next);
        sealing->seq = 0;
        sealing->sealed_ns = tf_now_ns();
    }
    tf_writer_pump(spool);
    tf_spool_advance_close(spool);
}

static void begin_move(struct tf_spool *spool)
{
    struct tf_sealing *sealing = spool->sealing;
    int rc;

    sealing->move_wait = false;
    sealing->work.data = spool;
    rc = uv_queue_work(spool->loop, &sealing->work, move_work, on_moved);
    if (rc < 0) {
        move_failed(spool, rc);
        return;
    }
    sealing->moving = true;
}

void tf_seal_synced(struct tf_spool *spool)
{
    struct tf_sealing *sealing = spool->sealing;

    if (sealing->seq == 0 || sealing->moving || sealing->move_wait ||
        spool->synced.seq < sealing->seq) {
        return;
    }
    forget_receipts(sealing);
    *sealing->next = *sealing->key;
    if (tf_seal_key_next(sealing->next) < 0) { /* OpenSSL failed: no key, no seal */
        sealing->state = TF_SEALED_LOST;
        sealing->seq = 0;
        sealing->event = "seal-lost";
        sealing->event_text = "the next key of the seal could not be made; a start tries again";
        return;
    }
    memcpy(sealing->next->prev_mac, sealing->mac, TF_DIGEST_BYTES);
    sealing->next->sealed_seq = sealing->seq;
    begin_move(spool);
}

void tf_seal_appended(struct tf_spool *spool)
{
    struct tf_sealing *sealing = spool->sealing;

    if (spool->appended_cover.from_seq == 0) {
        sealing->since_ms = 0;
    } else if (sealing->since_ms == 0) {
        sealing->since_ms = uv_now(spool->loop);
    }
}

/* A seal that is synced stays; one that was not is as if it had never been. */
void tf_seal_run_ended(struct tf_spool *spool)
{
    struct tf_sealing *sealing = spool->sealing;

    if (!sealing->moving && !sealing->move_wait) {
        sealing->seq = 0;
    }
    sealing->since_ms = 0; /* a disk that fails is not asked again at once */
    tf_seal_appended(spool);
}

void tf_seal_tick(struct tf_spool *spool)
{
    struct tf_sealing *sealing = spool->sealing;
    const char *event = sealing->event;

    sealing->event = NULL;
    if (event != NULL && spool->callbacks.on_event != NULL) {
        spool->callbacks.on_event(spool->callbacks.ctx, event, sealing->event_text);
    }
    if (sealing->move_wait) {
        begin_move(spool);
    }
}

void tf_seal_status(const struct tf_spool *spool, struct tf_spool_status *status)
{
    const struct tf_sealing *sealing = spool->sealing;

    status->seal = sealing->state;
    if (sealing->key != NULL && sealing->key->number > 0) {
        status->seals = sealing->key->number;
        status->sealed_seq = sealing->key->sealed_seq;
        status->sealed_ns = sealing->sealed_ns;
    }
}

/* ---- witness -------------------------------------------------------------------------------- */

void tf_spool_receipt(struct tf_spool *spool, const char *output,
                      const uint8_t receipt[TF_RECEIPT_BYTES])
{
    struct tf_sealing *sealing = spool->sealing;
    uint32_t i = 0;

    while (i < sealing->receipt_count && strcmp(sealing->receipts[i].output, output) != 0) {
        i++;
    }
    if (i == TF_CURSORS_MAX || strlen(output) >= TF_CURSOR_NAME_BYTES) {
        return; /* no output of the configuration */
    }
    if (i == sealing->receipt_count) {
        sealing->receipt_count++;
        memcpy(sealing->receipts[i].output, output, strlen(output) + 1);
    }
    memcpy(sealing->receipts[i].bytes, receipt, TF_RECEIPT_BYTES);
    sealing->receipts[i].version = ++sealing->receipt_version;
}

static bool key_is_known(const struct tf_spool *spool, const uint8_t key[TF_RECEIPT_KEY_BYTES])
{
    const struct tf_sealing *sealing = spool->sealing;
    struct tf_slice seen[TF_STATE_LIST_MAX], wanted = tf_slice(key, TF_RECEIPT_KEY_BYTES);
    size_t count = tf_state_find_list(&spool->state, tf_slice_text(RECEIPT_KEYS), seen);
    bool known = false;

    for (size_t i = 0; i < count; i++) {
        known |= tf_slice_equal(seen[i], wanted);
    }
    for (uint32_t i = 0; i < TF_RECEIPT_KEYS_LATE; i++) {
        const struct tf_receipt_key_slot *slot = &sealing->late_keys[i];

        known |= slot->used && memcmp(slot->key, key, TF_RECEIPT_KEY_BYTES) == 0;
    }
    return known;
}

static void on_key_kept(void *ctx, int status, uint64_t seq)
{
    struct tf_receipt_key_slot *slot = ctx;

    (void)status; /* not kept: it is noted again with the next connection */
    (void)seq;
    slot->used = false;
}

/* Remembers the key in the folded state. */
static int keep_key(struct tf_spool *spool, struct tf_receipt_key_slot *slot)
{
    struct tf_frame_draft draft = {.type = TF_FRAME_POSITIONS, .done = on_key_kept, .ctx = slot};
    int rc;

    tf_buf_init(&draft.deltas, TF_DRAFT_DELTAS_MAX);
    tf_delta_append(&draft.deltas, TF_DELTA_PUSH, tf_slice_text(RECEIPT_KEYS),
                    tf_slice(slot->key, TF_RECEIPT_KEY_BYTES));
    slot->used = true;
    rc = tf_spool_append(spool, &draft);
    slot->used = rc == 0 && slot->used;
    tf_buf_fini(&draft.deltas);
    return rc;
}

void tf_spool_receipt_key(struct tf_spool *spool, const uint8_t key[TF_RECEIPT_KEY_BYTES])
{
    struct tf_receipt_key_slot *slot = spool->sealing->late_keys;
    struct tf_notice notice = {.kind = TF_NOTICE_RECEIPT_KEY, .time_ns = tf_now_ns()};
    uint32_t i = 0;

    if (key_is_known(spool, key)) {
        return;
    }
    while (i < TF_RECEIPT_KEYS_LATE && slot[i].used) {
        i++;
    }
    if (i == TF_RECEIPT_KEYS_LATE) {
        return; /* eight new ones at once: the next connection brings it again */
    }
    memcpy(slot[i].key, key, TF_RECEIPT_KEY_BYTES);
    memcpy(notice.id, key, sizeof notice.id);
    if (keep_key(spool, &slot[i]) == 0) {
        (void)tf_notice_append(spool, &notice, NULL, NULL); /* it syncs; no memory: none */
    }
}

void tf_seal_repeat_keys(struct tf_spool *spool)
{
    struct tf_notice notice = {.kind = TF_NOTICE_RECEIPT_KEY, .time_ns = tf_now_ns()};
    struct tf_slice keys[TF_STATE_LIST_MAX];
    size_t count = tf_state_find_list(&spool->state, tf_slice_text(RECEIPT_KEYS), keys);

    for (size_t i = 0; i < count; i++) {
        if (keys[i].size == sizeof notice.id) {
            memcpy(notice.id, keys[i].data, sizeof notice.id);
            tf_notice_put_first(spool, &notice);
        }
    }
}

uint64_t tf_spool_newest_seq(const struct tf_spool *spool)
{
    return spool->mark.seq;
}
