/*
 * seals.c - seals in order, and seal.state.
 *
 * A seal's number is the number of its key, so who has taken the node over after seal s can make
 * none up to s: numbers that rise by one without a hole, each with the MAC of its own key, over a
 * chain value that commits to all before, are what this looks for (docs/guarantees.md G4). What
 * stands in a seal is compared with what was counted; with K_0 its MAC too.
 *
 * Where frames are missing, a seal may be among them: then numbers may jump, and the counts of the
 * next seal are taken over. Where the oldest segments have expired, the first number is what the
 * notice says (notices.c). seal.state stands one past the newest seal, or at it (between two
 * steps of G2). It is read before the segments are listed and after the walk, since a live spool
 * seals meanwhile: the first reading must not be ahead, the second not behind. Its spool id is of
 * the lineage in which it was written: until the next seal that may be the one before.
 *
 * What a seal proves counts up to the first thing that is forged.
 */
#include "verify.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include <openssl/crypto.h>

#define JUMP_MAX        (1u << 20)           /* numbers that may be missing with missing frames */
#define NUMBER_MAX      (UINT64_C(1) << 28)  /* the first kept; the key evolves so often */
#define UNSEALED_MAX    (UINT64_C(96) << 20) /* 64 MiB behind at most, and two frames */
#define STATE_READS     5u
#define STATE_SLOT_2_AT 4096u

/* ---- seal.state ----------------------------------------------------------------------------- */

/* Reads the sound slot with the higher number. */
static void read_slots(int fd, struct tf_seal_key *slot, struct tf_seal_file *file)
{
    static const uint64_t offsets[] = {0, STATE_SLOT_2_AT};

    for (unsigned i = 0; file->rc == -EPROTO && i < STATE_READS; i++) { /* slots change in place */
        for (size_t k = 0; k < TF_COUNT(offsets); k++) {
            uint8_t raw[TF_SEAL_SLOT_BYTES];

            if (tf_read_at(fd, raw, sizeof raw, offsets[k]) == 0 &&
                tf_seal_slot_decode(raw, slot) == 0 &&
                (file->rc != 0 || slot->number > file->key->number)) {
                *file->key = *slot;
                file->rc = 0;
            }
            OPENSSL_cleanse(raw, sizeof raw);
        }
    }
}

/* One that is not there, or does not hold, is to be judged: file->rc. Of one that cannot be opened
 * nothing is known. 0, or -errno with a finding in err. */
static int read_state(struct tf_verify *verify, struct tf_seal_file *file, struct tf_error *err)
{
    struct tf_seal_key *slot = tf_secure_new(sizeof *slot);
    int fd = openat(verify->files.dir_fd, "seal.state",
                    O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    int rc = fd < 0 ? -errno : slot == NULL ? -ENOMEM : 0;

    file->rc = rc == -ENOENT ? -ENOENT : -EPROTO;
    if (rc == 0) {
        read_slots(fd, slot, file);
    }
    if (fd >= 0) {
        (void)close(fd);
    }
    tf_secure_free(slot, sizeof *slot);
    if (rc == 0 || rc == -ENOENT || rc == -ELOOP || rc == -ENXIO) { /* a planted link or socket */
        return 0;
    }
    return tf_verify_cannot_read(verify, "seal.state", rc, err);
}

int tf_seals_begin(struct tf_verify *verify, struct tf_error *err)
{
    struct tf_seals *seals = &verify->seals;

    seals->key = tf_secure_new(sizeof *seals->key);
    seals->last = tf_secure_new(sizeof *seals->last);
    seals->before.key = tf_secure_new(sizeof *seals->before.key);
    seals->after.key = tf_secure_new(sizeof *seals->after.key);
    if (seals->key == NULL || seals->last == NULL || seals->before.key == NULL ||
        seals->after.key == NULL) {
        (void)tf_error_add(err, NULL, "\"%s\": no memory for keys", verify->options->path);
        return -ENOMEM;
    }
    return verify->report->is_segment ? 0 : read_state(verify, &seals->before, err);
}

void tf_seals_fini(struct tf_verify *verify)
{
    struct tf_seals *seals = &verify->seals;

    tf_secure_free(seals->key, sizeof *seals->key);
    tf_secure_free(seals->last, sizeof *seals->last);
    tf_secure_free(seals->before.key, sizeof *seals->before.key);
    tf_secure_free(seals->after.key, sizeof *seals->after.key);
    seals->key = seals->last = seals->before.key = seals->after.key = NULL;
}

/* ---- keys ----------------------------------------------------------------------------------- */

/* Moves the series' key on to number. */
static int evolve(struct tf_seals *seals, uint64_t number)
{
    int rc = 0;

    while (rc == 0 && seals->key->number < number) {
        *seals->last = *seals->key;
        rc = tf_seal_key_next(seals->key);
    }
    return rc;
}

/* The key that was given for the series, if any; seals->key becomes it. */
static void pick_key(struct tf_verify *verify, const uint8_t id[TF_SEAL_ID_BYTES])
{
    struct tf_seals *seals = &verify->seals;

    seals->first = NULL;
    for (size_t i = 0; i < verify->options->seal_key_count; i++) {
        const struct tf_seal_key *key = &verify->options->seal_keys[i];

        if (memcmp(key->id, id, TF_SEAL_ID_BYTES) == 0) {
            seals->first = key;
            *seals->key = *key;
        }
    }
}

/* ---- frames --------------------------------------------------------------------------------- */

void tf_seals_hole(struct tf_verify *verify)
{
    verify->seals.is_blind = true;
}

void tf_seals_frame(struct tf_verify *verify, const struct tf_walked *frame)
{
    struct tf_seals *seals = &verify->seals;
    const struct tf_frame_header *header = &frame->header;

    seals->first_after = seals->first_after != 0 ? seals->first_after : header->seq;
    seals->unsealed_bytes += frame->bytes;
    seals->gaps += header->type == TF_FRAME_GAP;
    tf_times_add(header, &seals->time_min_ns, &seals->time_max_ns);
}

/* ---- a seal --------------------------------------------------------------------------------- */

struct judged {
    struct tf_seal seal;
    struct tf_slice content;
    const struct tf_walk *walk;
    const struct tf_walked *frame;
    struct tf_verify_place at;
};

static const char *since(const struct tf_verify *verify, char text[TF_TIME_TEXT_BYTES])
{
    if (verify->report->proved_time_ns == 0) {
        return "the first seal";
    }
    tf_time_format(verify->report->proved_time_ns, text);
    memcpy(text + 19, "Z", 2); /* whole seconds */
    return text;
}

/* Begins a series, or tells why it may not begin. Returns whether the seal can be judged on. */
static bool enter_series(struct tf_verify *verify, const struct judged *judged)
{
    struct tf_seals *seals = &verify->seals;
    const struct tf_seal *seal = &judged->seal;
    bool had_key = seals->first != NULL;
    bool is_begun = seals->has_begun && memcmp(seals->begun_id, seal->id, TF_SEAL_ID_BYTES) == 0;

    if (seals->is_seen && memcmp(seals->id, seal->id, TF_SEAL_ID_BYTES) == 0) {
        return true;
    }
    if (seals->is_seen && (!is_begun || seal->number != 0)) {
        tf_verify_tell(verify, TF_VERDICT_FORGED, "seal-series", &judged->at,
                       "a seal of another series, which no notice began");
        tf_seals_hole(verify);
        return false;
    }
    pick_key(verify, seal->id);
    if (had_key && seals->first == NULL) {
        tf_verify_tell(verify, TF_VERDICT_FORGED, "seal-renewed", &judged->at,
                       "another series of seals begins: if pki seal --renew was run, give its key "
                       "too; else who took the node over began it");
    } else if (!had_key && seals->first == NULL && verify->options->seal_key_count > 0) {
        tf_verify_tell(verify, TF_VERDICT_FORGED, "seal-key", &judged->at,
                       "no key that was given began these seals: a key of another spool, or this "
                       "is not the spool");
    }
    if (seals->is_seen) {
        verify->report->between_from = seals->last_seq;
        verify->report->between_to = seal->from_seq;
    }
    memcpy(seals->id, seal->id, TF_SEAL_ID_BYTES);
    seals->next_number = 0;
    if (!seals->is_seen && !seals->is_first_known) {
        seals->next_number = seal->number; /* what it must be: tf_notices_end */
    }
    if (!seals->is_seen) {
        seals->first_number = seal->number;
        seals->first_seq = judged->at.seq;
        seals->is_first_begun = is_begun && seal->number == 0;
        verify->report->first_sealed_seq = seal->from_seq;
    }
    memset(seals->prev_mac, 0, sizeof seals->prev_mac);
    seals->is_seen = true;
    return true;
}

/* Is the number the next one? */
static bool check_number(struct tf_verify *verify, const struct judged *judged)
{
    struct tf_seals *seals = &verify->seals;
    uint64_t number = judged->seal.number, next = seals->next_number;
    bool may_jump = seals->is_blind && number > next && number - next <= JUMP_MAX;

    if (number == next || may_jump) {
        return true;
    }
    tf_verify_tell(verify, TF_VERDICT_FORGED, "seal-number", &judged->at,
                   "seal %llu where seal %llu must come: %s", (unsigned long long)number,
                   (unsigned long long)next,
                   number > next ? "seals were taken away" : "made again, or put back");
    tf_seals_hole(verify); /* the next one is judged by itself */
    return false;
}

/* What the seal says, against what was counted. The first difference is told. */
static void check_counts(struct tf_verify *verify, const struct judged *judged, bool is_first)
{
    struct tf_seals *seals = &verify->seals;
    const struct tf_seal *seal = &judged->seal;
    bool follows = seal->number == seals->next_number && !seals->is_blind;
    bool is_counted = follows && (!is_first || seal->from_seq == seals->first_after);
    const char *what = NULL;
    char text[TF_TIME_TEXT_BYTES];

    if (judged->frame->has_before &&
        memcmp(seal->chain, judged->frame->before, TF_CHAIN_BYTES) != 0) {
        tf_verify_tell(verify, TF_VERDICT_FORGED, "seal-chain", &judged->at,
                       "the chain fits, the seal does not: rewritten after %s",
                       since(verify, text));
        return;
    }
    if (seal->to_seq != verify->report->last_seq && judged->frame->missing == 0) {
        what = "last frame";
    } else if (seal->from_seq > seal->to_seq ||
               (follows && !is_first &&
                (seal->from_seq <= seals->last_seq || seal->from_seq > seals->first_after))) {
        what = "first frame";
    } else if (!verify->is_uncounted && seal->events != verify->events) {
        what = "count of events";
    } else if (is_counted && seal->gaps != seals->gaps) {
        what = "count of gaps";
    } else if (is_counted && (seal->time_min_ns != seals->time_min_ns ||
                              seal->time_max_ns != seals->time_max_ns)) {
        what = "time range";
    } else if ((seal->number == 0 || (seal->number == seals->next_number && !is_first)) &&
               memcmp(seal->prev_mac, seals->prev_mac, TF_DIGEST_BYTES) != 0) {
        what = "MAC of the seal before";
    }
    if (what != NULL) {
        tf_verify_tell(verify, TF_VERDICT_FORGED, "seal-content", &judged->at,
                       "seal %llu names another %s than the frames have",
                       (unsigned long long)seal->number, what);
    }
}

/* 1: the MAC holds; 0: not; -EIO. */
static int mac_holds(const struct tf_seal_key *key, const struct judged *judged)
{
    struct tf_seal_key *own = tf_secure_new(sizeof *own);
    uint8_t mac[TF_DIGEST_BYTES];
    int rc;

    if (own == NULL) {
        return -ENOMEM;
    }
    *own = *key; /* a series outlives a lineage: the spool is the segment's */
    memcpy(own->spool_id, judged->walk->sector.spool_id, TF_SPOOL_ID_BYTES);
    rc = tf_seal_mac(own, judged->walk->sector.segment_id, judged->frame->raw,
                     tf_slice(judged->content.data, judged->content.size - TF_DIGEST_BYTES), mac);
    tf_secure_free(own, sizeof *own);
    return rc < 0 ? rc : CRYPTO_memcmp(mac, judged->seal.mac, sizeof mac) == 0;
}

static int check_mac(struct tf_verify *verify, const struct judged *judged)
{
    struct tf_seals *seals = &verify->seals;
    struct tf_verify_report *report = verify->report;
    const struct tf_seal *seal = &judged->seal;
    char text[TF_TIME_TEXT_BYTES];
    int rc;

    if (seals->first == NULL) {
        return 0;
    }
    if (seal->number > NUMBER_MAX) {
        tf_verify_tell(verify, TF_VERDICT_FORGED, "seal-number", &judged->at,
                       "seal %llu: no spool makes so many", (unsigned long long)seal->number);
        seals->first = NULL;
        return 0;
    }
    rc = evolve(seals, seal->number);
    if (rc == 0) {
        rc = mac_holds(seals->key, judged);
    }
    if (rc == 0) {
        tf_verify_tell(verify, TF_VERDICT_FORGED, "seal-mac", &judged->at,
                       "the chain fits, the seal does not: rewritten after %s",
                       since(verify, text));
    } else if (rc == 1 && report->verdict < TF_VERDICT_FORGED) {
        report->proved_seq = judged->at.seq; /* the seal itself too */
        report->is_proof_holed = report->verdict == TF_VERDICT_DAMAGED;
        report->proved_time_ns =
            seal->time_max_ns > report->proved_time_ns ? seal->time_max_ns : report->proved_time_ns;
    }
    return rc < 0 ? rc : evolve(seals, seal->number + 1);
}

/* The seal counts as the last one from here on. */
static void leave_seal(struct tf_verify *verify, const struct judged *judged)
{
    struct tf_seals *seals = &verify->seals;

    if (verify->is_uncounted) {
        verify->events = judged->seal.events;
        verify->is_uncounted = false;
    }
    seals->next_number = judged->seal.number + 1;
    seals->last_seq = judged->at.seq;
    memcpy(seals->prev_mac, judged->seal.mac, TF_DIGEST_BYTES);
    seals->first_after = 0;
    seals->gaps = 0;
    seals->time_min_ns = seals->time_max_ns = 0;
    seals->unsealed_bytes = 0;
    seals->is_blind = false;
    verify->report->is_sealed = true;
    verify->report->sealed_seq = judged->at.seq;
}

int tf_seals_seal(struct tf_verify *verify, const struct tf_walk *walk,
                  const struct tf_walked *frame, struct tf_slice content)
{
    struct judged judged = {.content = content,
                            .walk = walk,
                            .frame = frame,
                            .at = {.segment_no = walk->sector.segment_no,
                                   .seq = frame->header.seq,
                                   .byte = frame->begin}};
    bool is_first = !verify->seals.is_seen;
    int rc = 0;

    if (tf_seal_decode(content, &judged.seal) < 0) {
        tf_verify_tell(verify, TF_VERDICT_FORGED, "seal-format", &judged.at,
                       "its checksums hold, and it is no seal");
        tf_seals_hole(verify);
        return 0;
    }
    is_first |= memcmp(verify->seals.id, judged.seal.id, TF_SEAL_ID_BYTES) != 0;
    if (!enter_series(verify, &judged) || !check_number(verify, &judged)) {
        return 0;
    }
    check_counts(verify, &judged, is_first);
    rc = check_mac(verify, &judged);
    for (uint32_t i = 0; rc == 0 && i < judged.seal.receipt_count; i++) {
        rc = tf_receipt_judge(verify, judged.seal.receipts[i], judged.at);
    }
    leave_seal(verify, &judged);
    return rc;
}

static struct tf_slice content_of(const struct tf_walked *frame)
{
    return tf_slice(frame->body.data, frame->body.size - TF_GCM_TAG_BYTES);
}

int tf_seals_void(struct tf_verify *verify, const struct tf_walk *walk,
                  const struct tf_walked *frame)
{
    struct tf_seals *seals = &verify->seals;
    struct judged judged = {.content = content_of(frame), .walk = walk, .frame = frame};
    int rc;

    if (seals->first == NULL || seals->key->number != seals->next_number ||
        tf_seal_decode(judged.content, &judged.seal) < 0 ||
        judged.seal.number != seals->next_number) {
        return 0;
    }
    rc = mac_holds(seals->key, &judged);
    if (rc == 1) {
        seals->has_void = true;
        seals->void_number = judged.seal.number;
        seals->void_at = (struct tf_verify_place){
            .segment_no = walk->sector.segment_no, .seq = frame->header.seq, .byte = frame->begin};
    }
    return rc < 0 ? rc : 0;
}

bool tf_seals_was_synced(const struct tf_verify *verify, const struct tf_walked *frame)
{
    const struct tf_seal_file *state = &verify->seals.before;
    struct tf_seal seal;

    return state->rc == 0 && tf_seal_decode(content_of(frame), &seal) == 0 &&
           memcmp(seal.id, state->key->id, TF_SEAL_ID_BYTES) == 0 &&
           seal.number < state->key->number;
}

/* ---- the end -------------------------------------------------------------------------------- */

/* Is state the key of its number? Only where that key is at hand. */
static bool state_key_holds(const struct tf_seals *seals, const struct tf_seal_key *state)
{
    const struct tf_seal_key *own = seals->first == NULL                  ? NULL
                                    : state->number == seals->key->number ? seals->key
                                    : state->number == seals->last->number && seals->key->number > 0
                                        ? seals->last
                                        : NULL;

    return own == NULL || CRYPTO_memcmp(own->key, state->key, TF_KEY_BYTES) == 0;
}

static void judge_ahead(struct tf_verify *verify, const struct tf_seal_key *state)
{
    struct tf_seals *seals = &verify->seals;
    struct tf_verify_place at = {.seq = verify->report->last_seq, .is_end = true};

    if (seals->has_void && seals->void_number >= seals->next_number) {
        tf_verify_tell(verify, TF_VERDICT_FORGED, "sealed-void", &seals->void_at,
                       "seal %llu is declared void, and seal.state is past it: sealed frames were "
                       "set aside",
                       (unsigned long long)seals->void_number);
        return;
    }
    if (seals->is_blind ||
        verify->is_end_unread) { /* told already: what is missing since may be what was damaged */
        tf_verify_tell(verify, TF_VERDICT_DAMAGED, "state-ahead", &at,
                       "seal.state is at seal %llu, the newest that holds is %lld: among what is "
                       "damaged, or taken away",
                       (unsigned long long)state->number, (long long)seals->next_number - 1);
        return;
    }
    tf_verify_tell(verify,
                   verify->report->verdict < TF_VERDICT_FORGED ? TF_VERDICT_CUT : TF_VERDICT_FORGED,
                   "state-ahead", &at,
                   "seal.state is at seal %llu, the newest that is there is "
                   "%lld: its end was taken away",
                   (unsigned long long)state->number, (long long)seals->next_number - 1);
}

static void judge_state(struct tf_verify *verify)
{
    struct tf_seals *seals = &verify->seals;
    const struct tf_seal_key *before = seals->before.key, *after = seals->after.key;

    if (!tf_verify_is_own_spool(verify, after->spool_id) && /* a lineage may have begun meanwhile */
        !tf_verify_is_own_spool(verify, before->spool_id)) {
        tf_verify_tell(verify, TF_VERDICT_FORGED, "state-spool", NULL,
                       "seal.state is of another spool");
    } else if (memcmp(after->id, seals->id, TF_SEAL_ID_BYTES) != 0) {
        if (after->number != 0) {
            tf_verify_tell(verify, TF_VERDICT_FORGED, "state-series", NULL,
                           "seal.state is of another series than the seals");
        }
    } else if (memcmp(before->id, after->id, TF_SEAL_ID_BYTES) == 0 &&
               before->number > seals->next_number) {
        judge_ahead(verify, before);
    } else if (after->number + 1 < seals->next_number) {
        tf_verify_tell(verify, TF_VERDICT_FORGED, "state-behind", NULL,
                       "seal.state is at seal %llu, the spool has seal %llu: it was put back, or "
                       "the seals are not its own",
                       (unsigned long long)after->number,
                       (unsigned long long)seals->next_number - 1);
    } else if (!state_key_holds(seals, after)) {
        tf_verify_tell(verify, TF_VERDICT_FORGED, "state-key", NULL,
                       "seal.state has the right number and another key");
    }
}

/* No seal is there: fine when none was ever made. */
static void judge_unsealed(struct tf_verify *verify)
{
    struct tf_seals *seals = &verify->seals;
    const struct tf_seal_key *state = seals->before.key;

    if (seals->before.rc == 0 && state->number > 0) {
        struct tf_verify_place at = {.seq = verify->report->last_seq, .is_end = true};

        tf_verify_tell(verify, TF_VERDICT_CUT, "state-ahead", &at,
                       "no seal is there, seal.state is at seal %llu: they were taken away",
                       (unsigned long long)state->number);
        return;
    }
    if (verify->options->seal_key_count == 0) {
        return;
    }
    pick_key(verify, state->id);
    if (seals->before.rc != 0 || seals->first == NULL || !state_key_holds(seals, state)) {
        tf_verify_tell(verify, TF_VERDICT_FORGED, "seals-absent", NULL,
                       "no seal is there, and seal.state is not what it was before the first");
    }
}

/* K_0 is wiped with the first seal, and seal.state names the run from which on it seals. */
bool tf_seals_is_unbegun(const struct tf_verify *verify)
{
    const struct tf_seals *seals = &verify->seals;
    const struct tf_seal_key *state = seals->before.key;

    return !seals->is_seen && seals->before.rc == 0 && seals->first != NULL && state->number == 0 &&
           TF_SEQ_RUN(state->sealed_seq) <= 1 && tf_verify_is_own_spool(verify, state->spool_id) &&
           state_key_holds(seals, state);
}

int tf_seals_end(struct tf_verify *verify, struct tf_error *err)
{
    struct tf_seals *seals = &verify->seals;
    struct tf_verify_place at = {.seq = seals->first_after};
    int rc;

    if (verify->report->is_segment) {
        return 0;
    }
    if (!seals->is_seen) {
        judge_unsealed(verify);
        return 0;
    }
    rc = read_state(verify, &seals->after, err);
    if (rc < 0) {
        return rc;
    }
    if (seals->before.rc == -ENOENT || seals->after.rc == -ENOENT) {
        tf_verify_tell(verify, TF_VERDICT_FORGED, "state-absent", NULL,
                       "seal.state is not there, and the spool has seals; a copy needs it too");
    } else if (seals->before.rc < 0 || seals->after.rc < 0) {
        tf_verify_tell(verify, TF_VERDICT_DAMAGED, "state-damaged", NULL,
                       "seal.state does not hold");
    } else {
        judge_state(verify);
    }
    if (seals->unsealed_bytes > UNSEALED_MAX) {
        tf_verify_tell(verify, TF_VERDICT_FORGED, "seals-end", &at,
                       "seals end here, frames go on for %llu MiB",
                       (unsigned long long)(seals->unsealed_bytes >> 20));
    }
    return 0;
}
