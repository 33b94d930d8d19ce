/*
 * walk.c - frame after frame out of one segment's bytes; trusts nothing.
 *
 * Unlike the agent's own scan (../spool/scan.c) it hides nothing that a start may pass over: a
 * frame comes out when its two checksums hold, and what else is wrong with it (number, chain) is
 * said with it. Bytes that are no such frame are searched for the next one whose number may follow;
 * how many there were is said too. Whether that is rot, a torn tail or a crime is verify.c's to
 * judge.
 *
 * The chain is computed, not read. Behind a frame whose stored value is another than the computed
 * one, one of the two goes on: if only the stored value was altered, the next frame still follows
 * the computed one. Behind missing frames it goes on from what the first one there has stored.
 *
 * Bounds: one frame in memory, at most 16 MiB; a segment of at most 1 GiB and 2^20 frames. Hostile
 * headers may claim large bodies again and again, so a search may look at SEARCH_FACTOR times the
 * segment's bytes altogether; then the rest counts as bad.
 */
#include "verify.h"

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#define WINDOW_BYTES  (256u << 10)
#define SEARCH_FACTOR 4u

int tf_walk_open_raw(struct tf_walk *walk, int fd)
{
    struct stat st;
    int rc;

    *walk = (struct tf_walk){.fd = fd};
    tf_buf_init(&walk->raw, TF_BODY_MAX + WINDOW_BYTES);
    rc = fstat(fd, &st) < 0 ? -errno : S_ISREG(st.st_mode) ? 0 : -EPROTO;
    if (rc == 0) {
        rc = tf_read_at(fd, walk->head, sizeof walk->head, 0);
    }
    if (rc < 0) {
        tf_walk_close(walk);
        return rc;
    }
    walk->size = walk->end =
        (uint64_t)st.st_size < TF_SEGMENT_MAX_BYTES ? (uint64_t)st.st_size : TF_SEGMENT_MAX_BYTES;
    walk->budget = SEARCH_FACTOR * walk->size + TF_BODY_MAX;
    return 0;
}

int tf_walk_open(struct tf_walk *walk, int fd)
{
    int rc = tf_walk_open_raw(walk, fd);

    if (rc < 0) {
        return rc;
    }
    rc = tf_sector0_decode(walk->head, &walk->sector);
    if (rc == 0) {
        walk->offset = TF_SEGMENT_HEADER_BYTES;
        walk->seq = walk->sector.first_seq - 1;
        memcpy(walk->chain, walk->sector.prev_chain, TF_CHAIN_BYTES);
        rc = tf_chain_open(walk->chain, walk->head);
    }
    if (rc < 0) {
        tf_walk_close(walk);
    }
    return rc;
}

void tf_walk_close(struct tf_walk *walk)
{
    if (walk->fd >= 0) {
        (void)close(walk->fd);
    }
    tf_buf_fini(&walk->raw);
    *walk = (struct tf_walk){.fd = -1};
}

static bool header_crc_holds(const uint8_t *raw)
{
    return memcmp(raw, "TFRM", 4) == 0 && tf_load32(raw + 60) == tf_crc32c(0, raw, 60);
}

static uint64_t frame_bytes(const struct tf_frame_header *header)
{
    return (uint64_t)TF_FRAME_HEADER_BYTES + header->body_bytes + TF_FRAME_TRAILER_BYTES;
}

/* Fills raw. 1 when header and body at offset hold and end below `end`; 0; -errno. */
static int read_frame(struct tf_walk *walk, uint64_t offset, uint64_t end, struct tf_walked *out)
{
    size_t rest;
    const uint8_t *trailer;
    int rc;

    if (offset + TF_FRAME_HEADER_BYTES > end) {
        return 0;
    }
    rc = tf_read_at(walk->fd, out->raw, TF_FRAME_HEADER_BYTES, offset);
    if (rc < 0) {
        return rc;
    }
    if (tf_frame_header_decode(out->raw, &out->header) < 0) {
        out->is_header_wrong = header_crc_holds(out->raw);
        return 0;
    }
    out->told_bytes = frame_bytes(&out->header);
    if (offset + out->told_bytes > end) {
        out->is_past_end = true;
        return 0;
    }
    rest = out->header.body_bytes + TF_FRAME_TRAILER_BYTES;
    tf_buf_clear(&walk->raw);
    rc = tf_buf_reserve(&walk->raw, rest);
    if (rc == 0) {
        rc = tf_read_at(walk->fd, walk->raw.data, rest, offset + TF_FRAME_HEADER_BYTES);
    }
    if (rc < 0) {
        return rc;
    }
    out->body = tf_slice(walk->raw.data, out->header.body_bytes);
    trailer = (const uint8_t *)walk->raw.data + out->header.body_bytes;
    out->begin = offset;
    out->bytes = out->told_bytes;
    return tf_load32(trailer + TF_CHAIN_BYTES) == tf_crc32c(0, walk->raw.data, rest - 4);
}

/* May the number be of a frame of this segment? Any may, when that is not known. */
static bool is_of_segment(const struct tf_walk *walk, uint64_t seq)
{
    if (walk->sector.first_seq == 0) {
        return true;
    }
    return TF_SEQ_RUN(seq) == TF_SEQ_RUN(walk->sector.first_seq) && seq >= walk->sector.first_seq &&
           seq - walk->sector.first_seq < TF_SEGMENT_FRAMES_MAX;
}

/* The next offset from *offset on where "TFRM" stands. 1; 0: none up to end; -errno. */
static int find_magic(struct tf_walk *walk, uint64_t *offset, uint64_t end)
{
    while (*offset + TF_FRAME_HEADER_BYTES <= end) {
        size_t size = end - *offset < WINDOW_BYTES ? (size_t)(end - *offset) : WINDOW_BYTES;
        const char *hit;
        int rc;

        tf_buf_clear(&walk->raw);
        rc = tf_buf_reserve(&walk->raw, size);
        if (rc == 0) {
            rc = tf_read_at(walk->fd, walk->raw.data, size, *offset);
        }
        if (rc < 0) {
            return rc;
        }
        hit = memmem(walk->raw.data, size, "TFRM", 4);
        if (hit != NULL) {
            *offset += (uint64_t)(hit - walk->raw.data);
            return 1;
        }
        *offset += size - 3;
    }
    return 0;
}

/* The first sound frame at or behind *offset whose number is above seq. 1, 0, -errno. */
static int search(struct tf_walk *walk, uint64_t *offset, uint64_t end, uint64_t seq,
                  struct tf_walked *out)
{
    int rc;

    while ((rc = find_magic(walk, offset, end)) == 1) {
        uint64_t cost;

        rc = read_frame(walk, *offset, end, out);
        if (rc < 0 || (rc == 1 && out->header.seq > seq && is_of_segment(walk, out->header.seq))) {
            return rc;
        }
        cost = out->told_bytes + WINDOW_BYTES / 64;
        out->told_bytes = 0;
        if (cost > walk->budget) {
            walk->budget = 0;
            return 0;
        }
        walk->budget -= cost;
        (*offset)++;
    }
    return rc;
}

int tf_walk_search(struct tf_walk *walk, uint64_t *offset, uint64_t end, uint64_t above,
                   struct tf_walked *out)
{
    *out = (struct tf_walked){.kind = TF_WALKED_FRAME};
    return search(walk, offset, end < walk->size ? end : walk->size, above, out);
}

int tf_walk_written_end(struct tf_walk *walk, uint64_t from, uint64_t *end)
{
    *end = from;
    for (uint64_t at = from; at < walk->size; at += WINDOW_BYTES) {
        size_t size = walk->size - at < WINDOW_BYTES ? (size_t)(walk->size - at) : WINDOW_BYTES;
        int rc;

        tf_buf_clear(&walk->raw);
        rc = tf_buf_reserve(&walk->raw, size);
        if (rc == 0) {
            rc = tf_read_at(walk->fd, walk->raw.data, size, at);
        }
        if (rc < 0) {
            return rc;
        }
        for (size_t i = size; i > 0; i--) {
            if (walk->raw.data[i - 1] != 0) {
                *end = at + i;
                break;
            }
        }
    }
    return 0;
}

static int chain_after(const uint8_t before[TF_CHAIN_BYTES], const uint8_t leaf[TF_DIGEST_BYTES],
                       uint64_t durable, uint8_t after[TF_CHAIN_BYTES])
{
    memcpy(after, before, TF_CHAIN_BYTES);
    return tf_chain_next(after, leaf, durable);
}

/* Compares the chain and moves it on. */
static int follow_chain(struct tf_walk *walk, struct tf_walked *out)
{
    const uint8_t *stored = (const uint8_t *)out->body.data + out->body.size;
    uint8_t leaf[TF_DIGEST_BYTES], after[TF_CHAIN_BYTES];
    int rc;

    out->has_before = !walk->is_unanchored;
    memcpy(out->before, walk->chain, TF_CHAIN_BYTES);
    if (walk->is_unanchored) {
        memcpy(walk->chain, stored, TF_CHAIN_BYTES);
        walk->is_unanchored = walk->has_other = false;
        return 0;
    }
    rc = tf_leaf(walk->sector.segment_id, out->raw, out->body, leaf);
    if (rc == 0) {
        rc = chain_after(walk->chain, leaf, out->header.durable, after);
    }
    if (rc == 0 && walk->has_other && memcmp(after, stored, TF_CHAIN_BYTES) != 0) {
        uint8_t second[TF_CHAIN_BYTES];

        rc = chain_after(walk->other, leaf, out->header.durable, second);
        if (rc == 0 && memcmp(second, stored, TF_CHAIN_BYTES) == 0) {
            memcpy(after, second, TF_CHAIN_BYTES);
            memcpy(out->before, walk->other, TF_CHAIN_BYTES);
        }
    }
    if (rc < 0) {
        return rc;
    }
    out->is_chain_wrong = walk->has_other = memcmp(after, stored, TF_CHAIN_BYTES) != 0;
    memcpy(walk->chain, after, TF_CHAIN_BYTES);
    memcpy(walk->other, stored, TF_CHAIN_BYTES);
    return 0;
}

/* Nothing sound is left: nothing at all, or bytes that are no frame. */
static int end_of_frames(struct tf_walk *walk, struct tf_walked *out)
{
    uint64_t written;
    int rc = tf_walk_written_end(walk, walk->offset, &written);

    written = written < walk->end ? written : walk->end;
    out->kind = rc == 0 && written == walk->offset ? TF_WALKED_END : TF_WALKED_BAD;
    out->bad_from = walk->offset;
    out->bad_bytes = written - walk->offset;
    return rc;
}

/* Does the next header go on as if the frame before it had the number that it should have? */
static int next_follows(const struct tf_walk *walk)
{
    uint8_t raw[TF_FRAME_HEADER_BYTES];
    struct tf_frame_header header;
    int rc = tf_read_at(walk->fd, raw, sizeof raw, walk->offset);

    return rc < 0 ? rc : tf_frame_header_decode(raw, &header) == 0 && header.seq == walk->seq + 2;
}

int tf_walk_next(struct tf_walk *walk, struct tf_walked *out)
{
    uint64_t offset = walk->offset;
    int rc;

    *out = (struct tf_walked){.kind = TF_WALKED_FRAME};
    rc = read_frame(walk, offset, walk->end, out);
    if (rc == 0) {
        struct tf_walked first = *out;

        offset++;
        rc = search(walk, &offset, walk->end, walk->seq, out);
        out->is_header_wrong = first.is_header_wrong;
        out->is_past_end = first.is_past_end;
        out->bad_from = walk->offset;
        out->bad_bytes = offset - walk->offset;
        out->told_bytes = first.told_bytes;
        if (rc == 0) {
            return end_of_frames(walk, out);
        }
    }
    if (rc < 0) {
        return rc;
    }
    walk->offset = offset + out->bytes;
    if (out->header.seq <= walk->seq || !is_of_segment(walk, out->header.seq)) {
        out->is_misplaced = true;
        return 0;
    }
    out->missing = out->header.seq - walk->seq - 1;
    if (out->missing > 0 && out->bad_bytes == 0) {
        rc = next_follows(walk);
        if (rc < 0) {
            return rc;
        }
        if (rc == 1) {
            out->is_misplaced = true;
            out->missing = 0;
            walk->seq++;
            return follow_chain(walk, out);
        }
    }
    walk->is_unanchored |= out->missing > 0 || out->bad_bytes > 0;
    walk->seq = out->header.seq;
    return follow_chain(walk, out);
}
