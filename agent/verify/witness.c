/*
 * witness.c - receipts, and a collector's record, against the frames that are there.
 *
 * A receipt (docs/protocol.md, section 6) is a signed statement that a collector had a frame with
 * this number and this chain value; the value commits to all before it. Its key is one that was
 * given; only when none was, one that the spool says a collector showed, and the report tells so:
 * who writes the spool can name a key of his own. A false signature is forged, another chain value
 * a fork, a number behind the end a cut.
 *
 * A witness is what `verify --receipts` printed on the collector: NDJSON, a frame a line. Each that
 * is still kept must be here with the same chain value, and with a data key its payload's digest
 * must be the same too. Lines are read one at a time; numbers that rise, as they do, cost one pass.
 *
 * The notice with a key may stand behind the first receipt that wants it: receipts without a key
 * are judged once more when all was read.
 *
 * What jumps to and fro goes over the same headers again and again. How many may be read is bounded
 * (find_budget): a receipt behind that counts as not followed, a witness is refused, with its line.
 */
#include "verify.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "taffrail/json.h"

#define LINE_MAX_BYTES    8192u
#define FLAG_GAP          1u
#define HEADERS_FREE      (1u << 22) /* that receipts, then a witness, may read; and for each frame */
#define HEADERS_PER_FRAME 16u
#define FLAG_REPLAYED     2u

/* Headers that names in any order may cost. */
static uint64_t find_budget(const struct tf_verify *verify)
{
    return HEADERS_FREE + HEADERS_PER_FRAME * verify->report->frames;
}

/* ---- receipts ------------------------------------------------------------------------------- */

static int check_signature(const uint8_t *bytes, const uint8_t (*keys)[TF_RECEIPT_KEY_BYTES],
                           size_t count, const struct tf_receipt *receipt, bool *is_known)
{
    for (size_t i = 0; i < count; i++) {
        uint8_t id[TF_RECEIPT_DIGEST_BYTES];

        tf_receipt_fingerprint(keys[i], id);
        if (memcmp(id, receipt->key_id, TF_RECEIPT_ID_BYTES) == 0) {
            *is_known = true;
            return tf_receipt_check(bytes, keys[i]);
        }
    }
    return 0;
}

/* What a receipt says of a frame that is kept. */
static int compare_receipt(struct tf_verify *verify, const struct tf_receipt *receipt,
                           bool is_known, const struct tf_verify_place *at)
{
    struct tf_verify_report *report = verify->report;
    struct tf_found found;
    int rc;

    if (receipt->seq < report->first_seq) {
        return 0; /* expired */
    }
    if (verify->find.headers_read > find_budget(verify)) {
        report->receipts_checked -= is_known; /* receipts that jump to and fro: a forger's */
        report->receipts_unfollowed += is_known;
        return 0;
    }
    rc = tf_find_frame(verify, receipt->seq, false, &found);
    if (rc == 1 && memcmp(found.chain, receipt->chain, TF_CHAIN_BYTES) != 0) {
        rc = tf_find_is_whole(verify);
        rc = rc == 0 ? -EBADMSG : rc;
    }
    if (rc < 0) {
        return rc == -ENOENT || rc == -EBADMSG ? 0 : rc; /* expired meanwhile; damaged: told */
    }
    if (rc == 0 || memcmp(found.chain, receipt->chain, TF_CHAIN_BYTES) != 0) {
        tf_verify_tell(verify, TF_VERDICT_FORKED, "receipt-chain", at,
                       "a collector's receipt names frame %llu/%llu, which %s",
                       (unsigned long long)TF_SEQ_RUN(receipt->seq),
                       (unsigned long long)TF_SEQ_N(receipt->seq),
                       rc == 0 ? "is not here" : "is another one here");
    } else if (is_known && receipt->seq >= report->receipt_seq) {
        report->receipt_seq = receipt->seq;
        report->receipt_time_ns = receipt->time_ns;
    }
    return 0;
}

/* By a key that was given, or by one that the spool names: that proves only where none was given.
 */
static int check_keys(const struct tf_verify *verify, const uint8_t *bytes,
                      const struct tf_receipt *receipt, bool *is_known)
{
    const struct tf_verify_options *options = verify->options;
    bool is_told = false;
    int rc;

    *is_known = false;
    rc = check_signature(bytes, options->receipt_keys, options->receipt_key_count, receipt,
                         is_known);
    if (rc == 0 && !*is_known) {
        rc = check_signature(bytes, verify->notices.keys, verify->notices.key_count, receipt,
                             &is_told);
        *is_known = is_told && options->receipt_key_count == 0;
    }
    return rc;
}

/* checked is what check_keys returned. */
static int settle_receipt(struct tf_verify *verify, const struct tf_receipt *receipt, int checked,
                          bool is_known, const struct tf_verify_place *at)
{
    if (checked == -EBADMSG) {
        tf_verify_tell(verify, TF_VERDICT_FORGED, "receipt-signature", at,
                       "it holds a receipt whose signature does not hold");
        return 0;
    }
    if (checked < 0) {
        return checked;
    }
    verify->report->receipts_checked += is_known;
    verify->report->receipts_unkeyed += !is_known;
    return compare_receipt(verify, receipt, is_known, at);
}

int tf_receipt_judge(struct tf_verify *verify, const uint8_t bytes[TF_RECEIPT_BYTES],
                     struct tf_verify_place at)
{
    struct tf_late_receipts *late = &verify->late;
    struct tf_receipt receipt;
    bool is_known;
    int rc;

    verify->report->receipts++;
    if (tf_receipt_decode(bytes, &receipt) < 0 ||
        !tf_verify_is_own_spool(verify, receipt.spool_id)) {
        tf_verify_tell(verify, TF_VERDICT_FORGED, "receipt", &at,
                       "it holds a receipt that is none, or of another spool");
        return 0;
    }
    if (receipt.seq >= at.seq) {
        tf_verify_tell(verify, TF_VERDICT_FORGED, "receipt", &at,
                       "it holds a receipt for a frame that comes behind it");
        return 0;
    }
    rc = check_keys(verify, bytes, &receipt, &is_known);
    if (rc == 0 && !is_known && late->count < TF_VERIFY_RECEIPTS_LATE) {
        memcpy(late->items[late->count].bytes, bytes, TF_RECEIPT_BYTES);
        late->items[late->count++].at = at;
        return 0;
    }
    return settle_receipt(verify, &receipt, rc, is_known, &at);
}

int tf_receipts_end(struct tf_verify *verify)
{
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < verify->late.count; i++) {
        const struct tf_late_receipt *late = &verify->late.items[i];
        struct tf_receipt receipt;
        bool is_known;

        rc = tf_receipt_decode(late->bytes, &receipt); /* it did before */
        if (rc == 0) {
            int checked = check_keys(verify, late->bytes, &receipt, &is_known);

            rc = settle_receipt(verify, &receipt, checked, is_known, &late->at);
        }
    }
    return rc;
}

/* ---- a line of the witness ------------------------------------------------------------------ */

static bool read_hex(struct tf_slice text, uint8_t *out, size_t size)
{
    if (text.size != 2 * size) {
        return false;
    }
    for (size_t i = 0; i < text.size; i++) {
        char c = text.data[i];
        int value = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;

        if (value < 0) {
            return false;
        }
        out[i / 2] = (uint8_t)(i % 2 == 0 ? value << 4 : out[i / 2] | value);
    }
    return true;
}

static bool read_number(struct tf_slice text, uint64_t *out)
{
    *out = 0;
    for (size_t i = 0; i < text.size; i++) {
        if (text.data[i] < '0' || text.data[i] > '9' || *out > (UINT64_MAX - 9) / 10) {
            return false;
        }
        *out = *out * 10 + (uint64_t)(text.data[i] - '0');
    }
    return text.size > 0;
}

bool tf_verify_seq(struct tf_slice text, uint64_t *seq)
{
    const char *slash = memchr(text.data, '/', text.size);
    uint64_t run, n;
    size_t before = slash == NULL ? 0 : (size_t)(slash - text.data);

    if (slash == NULL || !read_number(tf_slice(text.data, before), &run) ||
        !read_number(tf_slice(slash + 1, text.size - before - 1), &n) || run >= UINT64_C(1) << 24 ||
        n >= UINT64_C(1) << 40) {
        return false;
    }
    *seq = run << 40 | n;
    return true;
}

/* It is printed again: nothing but what RFC 3339 is made of. */
static bool is_time(struct tf_slice text)
{
    for (size_t i = 0; i < text.size; i++) {
        if (memchr("0123456789-:.TZ", text.data[i], 15) == NULL) {
            return false;
        }
    }
    return text.size >= 20 && text.size < TF_TIME_TEXT_BYTES;
}

/* One value of the record; unknown keys are passed over. */
static bool read_member(struct tf_slice key, struct tf_slice value, struct tf_witness_record *out)
{
    if (tf_slice_equal(key, tf_slice_text("spool"))) {
        return read_hex(value, out->spool_id, TF_SPOOL_ID_BYTES);
    }
    if (tf_slice_equal(key, tf_slice_text("seq"))) {
        return tf_verify_seq(value, &out->seq);
    }
    if (tf_slice_equal(key, tf_slice_text("prev"))) {
        return tf_verify_seq(value, &out->prev);
    }
    if (tf_slice_equal(key, tf_slice_text("chain"))) {
        return read_hex(value, out->chain, TF_CHAIN_BYTES);
    }
    if (tf_slice_equal(key, tf_slice_text("d"))) {
        return read_hex(value, out->digest, TF_DIGEST_BYTES);
    }
    if (tf_slice_equal(key, tf_slice_text("received"))) {
        out->received = value;
        return is_time(value);
    }
    if (tf_slice_equal(key, tf_slice_text("flags"))) {
        return read_number(value, &out->flags);
    }
    return true;
}

int tf_witness_parse(struct tf_slice line, struct tf_witness_record *out)
{
    struct tf_json in = tf_json(line);
    unsigned members = 0;

    *out = (struct tf_witness_record){0};
    if (!tf_json_take(&in, '{')) {
        return -EPROTO;
    }
    do {
        struct tf_slice key, value;

        if (!tf_json_raw(&in, &key) || !tf_json_take(&in, ':')) {
            return -EPROTO;
        }
        tf_json_skip_space(&in);
        if (in.at < in.end && *in.at == '"') {
            if (!tf_json_raw(&in, &value)) {
                return -EPROTO;
            }
        } else {
            const char *begin = in.at;

            while (in.at < in.end && *in.at >= '0' && *in.at <= '9') {
                in.at++;
            }
            value = tf_slice(begin, (size_t)(in.at - begin));
        }
        if (!read_member(key, value, out)) {
            return -EPROTO;
        }
        members++;
    } while (members < 16 && tf_json_take(&in, ','));
    if (!tf_json_take(&in, '}') || out->seq == 0) {
        return -EPROTO;
    }
    tf_json_skip_space(&in);
    return in.at == in.end ? 0 : -EPROTO;
}

/* ---- the witness ---------------------------------------------------------------------------- */

struct beyond { /* what a collector had behind the end */
    uint64_t frames, last_seq;
    char received[TF_TIME_TEXT_BYTES];
};

static int compare_record(struct tf_verify *verify, const struct tf_witness_record *record)
{
    struct tf_verify_report *report = verify->report;
    struct tf_verify_place at = {.seq = record->seq};
    struct tf_found found;
    int rc = tf_find_frame(verify, record->seq, verify->options->ring != NULL, &found);

    if (rc == 1 && memcmp(found.chain, record->chain, TF_CHAIN_BYTES) != 0) {
        rc = tf_find_is_whole(verify);
        rc = rc == 0 ? -EBADMSG : rc;
    }
    if (rc == -ENOENT) {
        report->witness_gone++; /* meanwhile */
        return 0;
    }
    if (rc < 0) {
        return rc == -EBADMSG ? 0 : rc; /* damaged, as was told */
    }
    report->witness_compared++;
    if (rc == 0) {
        tf_verify_tell(verify, TF_VERDICT_FORKED, "witness-frame", &at,
                       "the collector had it, received %.*s; it is not here, later ones are",
                       (int)record->received.size, record->received.data);
    } else if (memcmp(found.chain, record->chain, TF_CHAIN_BYTES) != 0) {
        tf_verify_tell(verify, TF_VERDICT_FORKED, "witness-chain", &at,
                       "the collector had another frame of this number, received %.*s",
                       (int)record->received.size, record->received.data);
    } else if (found.has_digest && memcmp(found.digest, record->digest, TF_DIGEST_BYTES) != 0) {
        tf_verify_tell(verify, TF_VERDICT_FORKED, "witness-content", &at,
                       "the collector received another payload under its name, %.*s",
                       (int)record->received.size, record->received.data);
    } else if (record->seq > report->witness_seq) {
        report->witness_seq = record->seq;
    }
    report->witness_digests += found.has_digest;
    return 0;
}

/* A record of this spool. */
static int take_record(struct tf_verify *verify, const struct tf_witness_record *record,
                       struct beyond *beyond)
{
    struct tf_verify_report *report = verify->report;

    if ((record->flags & (FLAG_GAP | FLAG_REPLAYED)) != 0) {
        return 0;
    }
    report->witness_records++;
    if (record->seq < report->first_seq) {
        report->witness_gone++;
        return 0;
    }
    if (record->seq <= report->last_seq) {
        return compare_record(verify, record);
    }
    beyond->frames++;
    if (record->seq > beyond->last_seq) {
        beyond->last_seq = record->seq;
        memcpy(beyond->received, record->received.data, record->received.size);
        beyond->received[record->received.size] = '\0';
    }
    return 0;
}

static void tell_beyond(struct tf_verify *verify, const struct beyond *beyond)
{
    struct tf_verify_place at = {.seq = verify->report->last_seq, .is_end = true};
    char frames[TF_COUNTED_TEXT_BYTES];

    if (beyond->frames > 0) {
        tf_verify_tell(
            verify, TF_VERDICT_CUT, "witness-beyond", &at,
            "the collector had acknowledged %llu/%llu by %.19sZ: %s that it has %s taken away",
            (unsigned long long)TF_SEQ_RUN(beyond->last_seq),
            (unsigned long long)TF_SEQ_N(beyond->last_seq), beyond->received,
            tf_counted_text(beyond->frames, "frame", frames), beyond->frames == 1 ? "was" : "were");
    }
}

/* A file in which nothing is of this spool compares nothing: not to be taken for a proof. */
static int refuse_stranger(const struct tf_verify *verify, unsigned lines, struct tf_error *err)
{
    struct tf_place at = {.file = verify->options->witness};
    const uint8_t *id = verify->report->spool_id;

    if (lines == 0) {
        return tf_error_add(err, &at,
                            "it is empty; export it again: `taffrail verify --receipts "
                            "%02x%02x%02x%02x SPOOL`, on the collector",
                            id[0], id[1], id[2], id[3]);
    }
    return tf_error_add(err, &at,
                        "none of its %u %s of this spool, %02x%02x%02x%02x; export the record of "
                        "this agent, or name its spool",
                        lines, lines == 1 ? "lines is" : "lines are", id[0], id[1], id[2], id[3]);
}

static int read_witness(struct tf_verify *verify, FILE *file, struct tf_error *err)
{
    char line[LINE_MAX_BYTES];
    struct beyond beyond = {0};
    uint64_t headers_max = verify->find.headers_read + find_budget(verify);
    unsigned number = 0;
    bool has_own = false;
    int rc = 0;

    while (rc == 0 && fgets(line, sizeof line, file) != NULL) {
        struct tf_place at = {.file = verify->options->witness, .line = ++number};
        struct tf_witness_record record;
        size_t size = strlen(line);

        if (size == 0 || line[size - 1] != '\n' ||
            tf_witness_parse(tf_slice(line, size - 1), &record) < 0) {
            return tf_error_add(err, &at,
                                "not a line of `taffrail verify --receipts`; export it again");
        }
        if (verify->find.headers_read > headers_max) {
            return tf_error_add(err, &at,
                                "its lines jump to and fro between frames, more than is followed: "
                                "sort them by run and number, or export it again");
        }
        if (tf_verify_is_own_spool(verify, record.spool_id)) {
            has_own = true;
            rc = take_record(verify, &record, &beyond);
        }
    }
    if (rc == 0 && ferror(file) != 0) {
        rc = -EIO;
    }
    if (rc == 0 && !has_own && (verify->files.has_meta || verify->report->segments > 0)) {
        return refuse_stranger(verify, number, err);
    }
    if (rc == 0) {
        tell_beyond(verify, &beyond);
    }
    return rc;
}

int tf_witness_run(struct tf_verify *verify, struct tf_error *err)
{
    FILE *file = fopen(verify->options->witness, "re");
    char reason[64];
    int rc;

    if (file == NULL) {
        return tf_error_add(err, NULL, "witness \"%s\": %s", verify->options->witness,
                            uv_strerror_r(-errno, reason, sizeof reason));
    }
    rc = read_witness(verify, file, err);
    (void)fclose(file);
    if (rc < 0 && rc != -EINVAL) {
        (void)tf_error_add(err, NULL, "witness \"%s\": %s", verify->options->witness,
                           uv_strerror_r(rc, reason, sizeof reason));
    }
    return rc;
}
