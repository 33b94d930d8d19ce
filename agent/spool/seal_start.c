/*
 * seal_start.c - what a start makes of seal.state and of the seals that it finds
 * (docs/guarantees.md G3, G5).
 *
 *     no state, never sealed    unsealed, quietly
 *     no state, but the newest segment says that sealing was on, or none that is sound: lost.
 *                               Frames go on unsealed; a notice, an event and the status say so
 *     one past the newest seal  as it should be
 *     at it, or older           a crash before it moved, or put back: it evolves past that seal
 *     newer                     the spool was cut or put back: goes on from the state; `verify`
 *                               tells of it
 *     spool.seal is off         the state stays as it is, for a start that seals again
 *
 * Only what counts is looked at: segments as recover.c lists them, back to the newest seal or to
 * where the state says that it stands. Runs after that was made durable, before the run's first
 * segment.
 */
#include "seal.h"

#include <errno.h>

#include "taffrail/log.h"

#define NO_KEY     "there is no first key"
#define DAMAGED    "seal.state is damaged or of another spool"
#define GONE       "seal.state is gone"
#define EVOLVE_MAX (UINT64_C(1) << 24) /* five years of seals; beyond, the state is no use */

struct found_seal {
    bool any;
    uint64_t seq;
    struct tf_seal seal;
};

/* What of later frames comes behind what of earlier ones. */
static void join_cover(const struct tf_cover *earlier, struct tf_cover *later)
{
    later->from_seq = earlier->from_seq != 0 ? earlier->from_seq : later->from_seq;
    later->bytes += earlier->bytes;
    later->gaps += earlier->gaps;
    tf_times_join(earlier->time_min_ns, earlier->time_max_ns, &later->time_min_ns,
                  &later->time_max_ns);
}

/* The frames of one segment behind the state's seal, and the last seal of this series in it. */
static int look_at(const struct tf_spool *spool, const struct tf_segment *segment,
                   const struct tf_seal_key *key, struct found_seal *found, struct tf_cover *cover)
{
    struct tf_scanned frame;
    struct tf_scan scan;
    int rc = tf_scan_open(&scan, spool->dir_fd, segment->no, NULL);

    *cover = (struct tf_cover){0};
    if (rc < 0) {
        cover->from_seq = segment->first_seq > key->sealed_seq ? segment->first_seq : 0;
        return rc == -EPROTO || rc == -ENOENT ? 0 : rc; /* damaged: what is there counts by name */
    }
    scan.end = segment->end;
    while ((rc = tf_scan_next(&scan, &frame)) == 1) {
        bool is_seal = tf_frame_is_seal(&frame.header);
        struct tf_seal seal;

        if (frame.header.seq <= key->sealed_seq && !is_seal) {
            continue;
        }
        if (!is_seal) {
            tf_cover_add(cover, &frame.header);
        } else if (tf_seal_decode(frame.content, &seal) == 0 &&
                   memcmp(seal.id, key->id, sizeof seal.id) == 0) {
            *cover = (struct tf_cover){0};
            found->any = true;
            found->seq = frame.header.seq;
            found->seal = seal;
        }
    }
    tf_scan_close(&scan);
    return rc;
}

/* Segments from the newest back, until one has a seal or the state's place is reached. */
static int find_newest(struct tf_spool *spool, const struct tf_seal_key *key,
                       struct found_seal *found)
{
    struct tf_cover all = {0};
    int rc = 0;

    for (size_t i = spool->segment_count; rc == 0 && i-- > 0 && !found->any;) {
        struct tf_cover cover;

        if (spool->segments[i].last_seq < key->sealed_seq) {
            break;
        }
        rc = look_at(spool, &spool->segments[i], key, found, &cover);
        join_cover(&cover, &all);
    }
    spool->mark_cover = all;
    return rc;
}

/* Past the newest seal; writes the state. */
static int evolve(struct tf_sealing *sealing, const struct found_seal *found)
{
    struct tf_seal_key *key = sealing->next;
    int rc = 0;

    *key = *sealing->key;
    while (rc == 0 && key->number <= found->seal.number) {
        rc = tf_seal_key_next(key);
    }
    if (rc < 0) {
        return rc;
    }
    memcpy(key->prev_mac, found->seal.mac, TF_DIGEST_BYTES);
    key->sealed_seq = found->seq;
    rc = tf_seal_state_move(sealing->fd, key, &sealing->slot);
    if (rc == 0) {
        *sealing->key = *key;
    }
    return rc;
}

static int refuse(const struct tf_spool_options *options, const char *why, const char *renew,
                  struct tf_error *err)
{
    return tf_error_add(err, &options->path.at,
                        "spool.seal is required, and %s; stop the agent, then taffrail pki seal "
                        "%s%s",
                        why, renew, options->path.text);
}

static int lost(struct tf_spool *spool, const char *why, struct tf_error *err)
{
    struct tf_sealing *sealing = spool->sealing;

    if (spool->options.seal == TF_SEAL_REQUIRED) {
        return refuse(&spool->options, why, "--renew ", err);
    }
    sealing->state = TF_SEALED_LOST;
    sealing->event = "seal-lost";
    sealing->event_text = "the spool goes on unsealed: seal.state is lost or damaged";
    tf_log(
        TF_LOG_ERROR, "seal-lost", TF_DETAILS(TF_STR("spool", spool->path)),
        "%s; frames go on unsealed; begin a new series: stop the agent, taffrail pki seal --renew",
        why);
    return 0;
}

/* The state is sound: where it stands against the spool, told. */
static int adopt(struct tf_spool *spool, struct tf_error *err)
{
    struct tf_sealing *sealing = spool->sealing;
    struct tf_seal_key *key = sealing->key;
    struct found_seal found = {0};
    int rc = find_newest(spool, key, &found);

    if (rc == 0 && found.any && found.seal.number >= key->number &&
        found.seal.number - key->number >= EVOLVE_MAX) {
        return lost(spool, "seal.state is far behind the newest seal", err);
    }
    if (rc == 0 && found.any && found.seal.number >= key->number) {
        sealing->evolved = found.seal.number - key->number; /* 0: a crash before it moved */
        rc = evolve(sealing, &found);
    } else if (rc == 0) {
        rc = tf_seal_state_zero(sealing->fd, 1 - sealing->slot);
    }
    if (rc < 0) {
        return rc;
    }
    if (sealing->evolved > 0) {
        tf_log(TF_LOG_WARN, "seal-state", TF_DETAILS(TF_NUM("seals", sealing->evolved)),
               "seal.state was older than the spool, as if put back; it was moved on");
    } else if (spool->mark.seq < key->sealed_seq && key->number > 0) {
        tf_log(TF_LOG_WARN, "seal-state", TF_DETAILS(TF_NUM("seal", key->number)),
               "seal.state is newer than the spool: frames were cut, or the spool was put back; it "
               "goes on, and verify tells of it");
    }
    if (spool->options.sync.mode == TF_SYNC_NEVER) {
        tf_log(
            TF_LOG_WARN, "seal-state", NULL, 0,
            "spool.sync is never: after a power loss the seal may be ahead of what the disk has, "
            "as if frames had been cut");
    }
    sealing->begun = key->number == 0;
    sealing->at_once = spool->mark_cover.from_seq != 0;
    sealing->state = TF_SEALED_ON;
    return 0;
}

/* While sealing is off the state stays as it is: its number is that of the first seal to come. What
 * cannot be read is for the start that seals again to judge. */
static int remember_number(struct tf_spool *spool)
{
    struct tf_seal_key *key = tf_secure_new(sizeof *key);
    uint32_t slot;

    if (key == NULL) {
        return -ENOMEM;
    }
    if (tf_seal_state_read(spool->dir_fd, key, &slot) == 0 &&
        tf_spool_is_lineage(spool, key->spool_id)) {
        spool->sealing->off_number = key->number;
    }
    tf_secure_free(key, sizeof *key);
    return 0;
}

/* No seal.state. */
static int absent(struct tf_spool *spool, bool was_on, struct tf_error *err)
{
    if (was_on) {
        return lost(spool, GONE, err);
    }
    if (spool->options.seal == TF_SEAL_REQUIRED) {
        return refuse(&spool->options, NO_KEY, "", err);
    }
    return 0;
}

int tf_seal_start(struct tf_spool *spool, uint32_t newest_flags, struct tf_error *err)
{
    struct tf_sealing *sealing = spool->sealing;
    bool was_on = (newest_flags & TF_SEGMENT_SEALING) != 0;
    int rc;

    if (spool->options.seal == TF_SEAL_OFF) {
        return remember_number(spool);
    }
    sealing->key = tf_secure_new(sizeof *sealing->key);
    sealing->next = tf_secure_new(sizeof *sealing->next);
    if (sealing->key == NULL || sealing->next == NULL) {
        return -ENOMEM;
    }
    rc = tf_seal_state_read(spool->dir_fd, sealing->key, &sealing->slot);
    if (rc == -ENOENT) {
        return absent(spool, was_on, err);
    }
    if (rc == 0 && !tf_spool_is_lineage(spool, sealing->key->spool_id)) {
        rc = -EPROTO;
    }
    if (rc == -EPROTO) {
        return lost(spool, DAMAGED, err);
    }
    if (rc == 0) {
        sealing->fd = tf_seal_state_open(spool->dir_fd);
        rc = sealing->fd < 0 ? sealing->fd : 0;
    }
    return rc == 0 ? adopt(spool, err) : rc;
}

int tf_seal_check(int dir_fd, const struct tf_spool_options *options, struct tf_error *err)
{
    struct tf_seal_key *key;
    uint32_t slot;
    int rc;

    if (options->seal == TF_SEAL_OFF) {
        return 0;
    }
    key = tf_secure_new(sizeof *key);
    if (key == NULL) {
        return -ENOMEM;
    }
    rc = dir_fd < 0 ? -ENOENT : tf_seal_state_read(dir_fd, key, &slot);
    tf_secure_free(key, sizeof *key);
    if (rc < 0 && options->seal == TF_SEAL_REQUIRED) {
        return rc == -ENOENT ? refuse(options, NO_KEY, "", err)
                             : refuse(options, DAMAGED, "--renew ", err);
    }
    if (rc == -EPROTO) {
        tf_warning_add(err, &options->path.at,
                       "seal.state is damaged: the agent would go on unsealed; begin a new series: "
                       "taffrail pki seal --renew %s",
                       options->path.text);
    }
    if (rc == 0 && options->sync.mode == TF_SYNC_NEVER) {
        tf_warning_add(
            err, &options->path.at,
            "spool.sync is never, and the spool is sealed: after a power loss the seal "
            "may be ahead of what the disk has, as if frames had been cut; write a time");
    }
    return rc == 0;
}

void tf_seal_opened(struct tf_spool *spool)
{
    struct tf_sealing *sealing = spool->sealing;
    int64_t now_ns = tf_now_ns();
    struct tf_notice recovery = {.kind = TF_NOTICE_RECOVERY,
                                 .time_ns = now_ns,
                                 .a = spool->status.torn_bytes,
                                 .b = spool->status.damaged_frames,
                                 .c = sealing->evolved};
    struct tf_notice lost = {.kind = TF_NOTICE_SEAL_LOST, .time_ns = now_ns};
    struct tf_notice begun = {.kind = TF_NOTICE_SEAL_BEGUN, .time_ns = now_ns};

    if (spool->fd >= 0) { /* else once there is a segment */
        tf_seal_repeat_keys(spool);
        tf_writer_pump(spool);
    }
    if (recovery.a != 0 || recovery.b != 0 || recovery.c != 0) {
        (void)tf_notice_append(spool, &recovery, NULL, NULL);
    }
    if (sealing->state == TF_SEALED_LOST) {
        (void)tf_notice_append(spool, &lost, NULL, NULL);
    }
    if (tf_seal_is_on(spool) && sealing->begun) {
        begun.a = spool->appended_cover.from_seq != 0 ? spool->appended_cover.from_seq
                                                      : spool->next_seq; /* no segment yet */
        memcpy(begun.id, sealing->key->id, TF_SEAL_ID_BYTES);
        (void)tf_notice_append(spool, &begun, NULL, NULL);
        sealing->event = "seal-started";
        sealing->event_text = "a first key was made: the spool is sealed from here on";
    }
}
