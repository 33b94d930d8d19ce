/*
 * segment.c - a new segment: allocated, headed, with its snapshot, durable before anything builds
 * on it (docs/guarantees.md C3).
 *
 * Order: create with its space allocated; write sector 0, key slots and snapshot at once; sync the
 * file; sync the directory; of a new lineage, replace spool.meta (a start that finds the old one
 * does it); only then release what the segment before it had allocated and never written. A segment
 * that could not be finished is removed again; its number is not used twice. Runs on a worker, or
 * at a start, and touches only its plan.
 */
#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "taffrail/log.h"

void tf_segment_name(uint64_t no, char name[TF_SEGMENT_NAME_BYTES])
{
    (void)snprintf(name, TF_SEGMENT_NAME_BYTES, "%020llu.seg", (unsigned long long)no);
}

int tf_sync_dir(int dir_fd)
{
    return fsync(dir_fd) == 0 ? 0 : -errno;
}

/* Sector 0 and key slots into bytes; plan->end is then before the first frame. */
static int encode_head(struct tf_segment_plan *plan, struct tf_buf *bytes)
{
    uint8_t sector[TF_SECTOR_BYTES], slots[TF_SEGMENT_HEADER_BYTES - TF_SECTOR_BYTES] = {0};
    int rc;

    tf_sector0_encode(&plan->sector, sector);
    for (size_t i = 0; i < TF_SEGMENT_SLOTS; i++) {
        if (plan->slots[i].kind != TF_SLOT_EMPTY) {
            tf_key_slot_encode(&plan->slots[i], slots + i * TF_SECTOR_BYTES);
        }
    }
    plan->end = (struct tf_spot){.segment_no = plan->sector.segment_no,
                                 .seq = plan->sector.first_seq - 1,
                                 .events = plan->sector.events_before};
    memcpy(plan->end.chain, plan->sector.prev_chain, TF_CHAIN_BYTES);
    rc = tf_chain_open(plan->end.chain, sector);
    (void)tf_buf_append(bytes, sector, sizeof sector);
    (void)tf_buf_append(bytes, slots, sizeof slots);
    return rc < 0 ? rc : bytes->error;
}

static int encode_snapshot(struct tf_segment_plan *plan, struct tf_buf *bytes)
{
    uint8_t digest[TF_DIGEST_BYTES], leaf[TF_DIGEST_BYTES];
    struct tf_slice nothing = tf_slice(NULL, 0);
    struct tf_buf meta;
    uint32_t crc;
    int rc = tf_sha256(&nothing, 1, digest);

    tf_buf_init(&meta, TF_META_MAX);
    for (size_t i = 0; rc == 0 && i < plan->chunk_count; i++) {
        struct tf_meta content = {.deltas = tf_buf_slice(&plan->chunks[i]), .digest = digest};
        struct tf_frame_header header = {.type = TF_FRAME_POSITIONS,
                                         .flags = TF_FRAME_ENCRYPTED | TF_FRAME_SNAPSHOT,
                                         .seq = plan->end.seq + 1};
        size_t begin = bytes->size;

        header.flags |= i + 1 < plan->chunk_count ? TF_FRAME_MORE : 0;
        tf_buf_clear(&meta);
        tf_meta_encode(&meta, &content);
        rc = meta.error;
        if (rc == 0) {
            rc =
                tf_frame_seal(plan->keys, &header, tf_buf_slice(&meta), nothing, bytes, leaf, &crc);
        }
        if (rc == 0) {
            rc = tf_frame_finish((uint8_t *)bytes->data + begin, bytes->size - begin,
                                 plan->synced_seq, leaf, crc, plan->end.chain);
        }
        plan->end.seq = header.seq;
    }
    tf_buf_fini(&meta);
    plan->end.offset = bytes->size;
    return rc;
}

static int write_all(int fd, const struct tf_buf *bytes)
{
    ssize_t n = pwrite(fd, bytes->data, bytes->size, 0);

    return n == (ssize_t)bytes->size ? 0 : n < 0 ? -errno : -ENOSPC;
}

static int make_durable(struct tf_segment_plan *plan, const char *name, const struct tf_buf *bytes)
{
    int rc;

    plan->fd = openat(plan->dir_fd, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (plan->fd < 0) {
        return -errno;
    }
    if (fallocate(plan->fd, 0, 0, (off_t)plan->size_bytes) < 0 && errno != EOPNOTSUPP) {
        return -errno;
    }
    tf_crash_point("roll.created");
    rc = write_all(plan->fd, bytes);
    if (rc < 0) {
        return rc;
    }
    tf_crash_point("roll.header");
    rc = fsync(plan->fd) == 0 ? 0 : -errno;
    if (rc == 0) {
        rc = tf_sync_dir(plan->dir_fd);
    }
    if (rc == 0) {
        tf_crash_point("roll.synced");
    }
    return rc;
}

/* The segment is what counts: its header links the lineages, and a start makes spool.meta follow.
 */
static void replace_meta(const struct tf_segment_plan *plan)
{
    char reason[64];
    int rc;

    tf_crash_point("lineage.segment");
    rc = tf_spool_meta_write(plan->dir_fd, plan->sector.spool_id);
    if (rc < 0) {
        tf_log(TF_LOG_WARN, "disk-error", NULL, 0,
               "spool.meta could not be replaced: %s; the next start does it",
               uv_strerror_r(rc, reason, sizeof reason));
    }
    tf_crash_point("lineage.meta");
}

static void release_old(struct tf_segment_plan *plan)
{
    if (plan->old_fd >= 0) {
        if (ftruncate(plan->old_fd, (off_t)plan->old_written) < 0) {
            tf_log(TF_LOG_DEBUG, "spool-release", NULL, 0, "unused space stays allocated");
        }
        (void)close(plan->old_fd);
        plan->old_fd = -1;
    }
}

int tf_segment_create(struct tf_segment_plan *plan)
{
    char name[TF_SEGMENT_NAME_BYTES];
    struct tf_buf bytes;
    int rc;

    plan->fd = -1;
    tf_buf_init(&bytes, TF_SEGMENT_MAX_BYTES);
    tf_segment_name(plan->sector.segment_no, name);
    rc = encode_head(plan, &bytes);
    if (rc == 0) {
        rc = encode_snapshot(plan, &bytes);
    }
    if (rc == 0) {
        rc = make_durable(plan, name, &bytes);
    }
    tf_buf_fini(&bytes);
    if (rc == 0 && (plan->sector.flags & TF_SEGMENT_NEW_LINEAGE) != 0) {
        replace_meta(plan);
    }
    if (rc == 0) {
        release_old(plan);
        return 0;
    }
    if (plan->fd >= 0) {
        (void)close(plan->fd);
        (void)unlinkat(plan->dir_fd, name, 0);
        plan->fd = -1;
    }
    return rc;
}
