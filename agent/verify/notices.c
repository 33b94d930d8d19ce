/*
 * notices.c - what the spool says of itself: expiry, renewed seals, forks, receipt keys.
 *
 * The oldest segments may be absent when an expire notice, which is in the chain and came before
 * the deletion, names them (docs/guarantees.md F). It also says which number the first seal behind
 * them has; that is compared where the notice ends exactly before what is kept, and is a bound
 * where a deletion was interrupted. Root may abuse expiry to delete, never to alter: `--expect` is
 * against that.
 *
 * On a live spool the notice may stand in a segment that was made after the listing. So before what
 * is absent or shredded without a notice is told, the spool is listed again: when there are newer
 * segments, it is to be read again.
 */
#include "verify.h"

static void take_expire(struct tf_verify *verify, const struct tf_notice *notice)
{
    struct tf_notices *notices = &verify->notices;
    uint64_t absent_seq = verify->first->prev_last_seq; /* all up to it is not kept */

    if (!notices->has_expire || notice->b > notices->seq) {
        notices->has_expire = true;
        notices->segment_no = notice->a;
        notices->seq = notice->b;
        notices->cause = notice->id[0];
    }
    if (notice->b == absent_seq) {
        notices->has_exact = true;
        notices->exact_seal = notice->c;
    } else if (notice->b > absent_seq && !notices->has_bound) {
        notices->has_bound = true;
        notices->bound_seal = notice->c;
    }
}

/* Each segment names them again. */
static void take_key(struct tf_notices *notices, const uint8_t key[TF_RECEIPT_KEY_BYTES])
{
    for (size_t i = 0; i < notices->key_count; i++) {
        if (memcmp(notices->keys[i], key, TF_RECEIPT_KEY_BYTES) == 0) {
            return;
        }
    }
    if (notices->key_count < TF_VERIFY_RECEIPT_KEYS_MAX) {
        memcpy(notices->keys[notices->key_count++], key, TF_RECEIPT_KEY_BYTES);
    }
}

void tf_notices_take(struct tf_verify *verify, const struct tf_walked *frame,
                     struct tf_slice content)
{
    struct tf_notices *notices = &verify->notices;
    struct tf_verify_place at = {.segment_no = verify->walk.sector.segment_no,
                                 .seq = frame->header.seq,
                                 .byte = frame->begin};
    struct tf_notice notice;

    if (tf_notice_decode(content, &notice) < 0) {
        tf_verify_tell(verify, TF_VERDICT_FORGED, "notice", &at,
                       "its checksums hold, and it is no notice");
        return;
    }
    switch (notice.kind) {
    case TF_NOTICE_EXPIRE:
        take_expire(verify, &notice);
        break;
    case TF_NOTICE_FORK:
        tf_verify_tell(
            verify, TF_VERDICT_FORKED, "fork-notice", &at,
            "the agent says so itself: a collector had frame %llu/%llu of another "
            "history when this one ended with %llu/%llu",
            (unsigned long long)TF_SEQ_RUN(notice.a), (unsigned long long)TF_SEQ_N(notice.a),
            (unsigned long long)TF_SEQ_RUN(notice.b), (unsigned long long)TF_SEQ_N(notice.b));
        break;
    case TF_NOTICE_SEAL_BEGUN:
        verify->seals.has_begun = true;
        memcpy(verify->seals.begun_id, notice.id, TF_SEAL_ID_BYTES);
        break;
    case TF_NOTICE_RECEIPT_KEY:
        take_key(notices, notice.id);
        break;
    default:
        break;
    }
}

/* The first seal that is kept, against what the notice says of it. */
static void check_first_seal(struct tf_verify *verify)
{
    const struct tf_notices *notices = &verify->notices;
    const struct tf_seals *seals = &verify->seals;
    struct tf_verify_place at = {.seq = seals->first_seq};
    uint64_t expected = notices->has_exact ? notices->exact_seal : notices->bound_seal;
    bool is_wrong = notices->has_exact   ? seals->first_number != expected
                    : notices->has_bound ? seals->first_number > expected
                                         : false;

    /* one that begins a new series is not the one that the notice knew of */
    if (verify->report->is_sealed && seals->first_seq != 0 && is_wrong && !seals->is_first_begun) {
        tf_verify_tell(verify, TF_VERDICT_FORGED, "expire-seal", &at,
                       "the first seal that is kept is number %llu, by the expire notice it is "
                       "%llu",
                       (unsigned long long)seals->first_number, (unsigned long long)expected);
    }
}

static const char *cause_text(unsigned cause)
{
    static const char *const texts[] = {
        [TF_EXPIRE_AGE] = "age",
        [TF_EXPIRE_SIZE] = "size",
        [TF_EXPIRE_KEEP_FREE] = "keep_free",
        [TF_EXPIRE_DROP_OLDEST] = "drop_oldest",
        [TF_EXPIRE_DELIVERED] = "delivered",
    };

    return cause < TF_COUNT(texts) && texts[cause] != NULL ? texts[cause]
                                                           : "no cause that is known";
}

static void tell_unread(struct tf_verify *verify, uint64_t segment_no)
{
    struct tf_verify_place at = {.segment_no = segment_no};

    verify->report->has_expired = true;
    tf_verify_tell(verify, TF_VERDICT_GAP, "expired-while-reading", &at,
                   "segments were made while reading, and a notice of what expired may stand in "
                   "them; begin again");
}

static void check_absent(struct tf_verify *verify, bool has_grown)
{
    const struct tf_notices *notices = &verify->notices;
    const struct tf_verify_file *file = verify->first;
    struct tf_verify_place at = {.segment_no = file->no, .seq = file->first_seq};
    bool is_named = notices->has_expire && notices->seq >= file->prev_last_seq;

    if (!is_named && has_grown) {
        tell_unread(verify, file->no);
        return;
    }
    if (!is_named) {
        tf_verify_tell(verify, TF_VERDICT_FORGED, "start-missing", &at,
                       "what was before it, up to frame %llu/%llu, is not there, and no notice "
                       "says that it expired",
                       (unsigned long long)TF_SEQ_RUN(file->prev_last_seq),
                       (unsigned long long)TF_SEQ_N(file->prev_last_seq));
        return;
    }
    tf_verify_tell(verify, TF_VERDICT_GAP, "expired", &at,
                   "kept from here; what was before it expired (%s), as a notice says",
                   cause_text(notices->cause));
    check_first_seal(verify);
}

/* A segment is shredded, and no notice that was read says so. */
static void check_shredded(struct tf_verify *verify, bool has_grown)
{
    const struct tf_notices *notices = &verify->notices;
    struct tf_verify_place at = {.segment_no = notices->shredded_no, .byte = TF_SECTOR_BYTES};

    if (notices->shredded_no == 0 ||
        (notices->has_expire && notices->segment_no >= notices->shredded_no)) {
        return;
    }
    if (has_grown) {
        tell_unread(verify, notices->shredded_no);
        return;
    }
    tf_verify_tell(verify, TF_VERDICT_DAMAGED, "slots-empty", &at,
                   "it has no key slot, and no notice says that it was to be shredded");
}

int tf_notices_end(struct tf_verify *verify)
{
    int grown;

    if (verify->report->is_segment) {
        return 0;
    }
    grown = tf_verify_files_grew(&verify->files);
    if (grown < 0) {
        return grown;
    }
    if (verify->report->is_start_absent) {
        check_absent(verify, grown == 1);
    }
    check_shredded(verify, grown == 1);
    return 0;
}
