/*
 * scan.c - frame after frame out of one segment, over damage.
 *
 * Every frame that comes out has passed header CRC, body CRC and chain; GCM, nonce and digest too,
 * but for a scan without keys. Where the next frame is bad, the bytes after it are searched for the
 * next sound header whose frame passes too; what lies between is a hole, told with that frame.
 * Whether a hole is rot or the end of what counts is the caller's to judge (docs/guarantees.md C5).
 * Behind a hole the chain goes on from the value stored in the first good frame.
 *
 * One scan belongs to one thread at a time. Sectors that the disk cannot read are taken as zero.
 */
#include "seal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "taffrail/log.h"

#define WINDOW_BYTES (256u << 10) /* of the search for a next header */
#define BLOCK_BYTES  4096u

/* Reads as much as there is; -errno. */
static ssize_t read_some(int fd, uint8_t *to, size_t size, uint64_t offset)
{
    size_t done = 0;

    while (done < size) {
        ssize_t n = pread(fd, to + done, size - done, (off_t)(offset + done));

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return -errno;
        }
        if (n == 0) {
            break;
        }
        done += (size_t)n;
    }
    return (ssize_t)done;
}

int tf_read_around(int fd, void *to, size_t size, uint64_t offset, bool *is_bad)
{
    uint8_t *bytes = to;
    ssize_t n = read_some(fd, bytes, size, offset);

    if (n >= 0) {
        memset(bytes + n, 0, size - (size_t)n);
        return 0;
    }
    if (n != -EIO) {
        return (int)n;
    }
    for (size_t done = 0; done < size;) { /* block by block around the bad sectors */
        size_t step = BLOCK_BYTES - (size_t)((offset + done) % BLOCK_BYTES);

        step = step < size - done ? step : size - done;
        n = read_some(fd, bytes + done, step, offset + done);
        if (n < 0 && n != -EIO) {
            return (int)n;
        }
        *is_bad |= n < 0;
        n = n < 0 ? 0 : n;
        memset(bytes + done + n, 0, step - (size_t)n);
        done += step;
    }
    return 0;
}

int tf_read_at(int fd, void *to, size_t size, uint64_t offset)
{
    bool is_bad = false;

    return tf_read_around(fd, to, size, offset, &is_bad);
}

void tf_wait_for_disk(const char *file)
{
    tf_log(TF_LOG_ERROR, "disk-error", TF_DETAILS(TF_STR("file", file)),
           "the disk cannot read a part of it; tried again in 1000 ms, some times");
    uv_sleep(1000);
}

int tf_read_patiently(int fd, const char *file, void *to, size_t size, uint64_t offset)
{
    bool is_bad = true;
    int rc = 0;

    for (uint32_t tries = 0; rc == 0 && is_bad && tries <= TF_READ_TRIES_MAX; tries++) {
        if (tries > 0) {
            tf_wait_for_disk(file);
        }
        is_bad = false;
        rc = tf_read_around(fd, to, size, offset, &is_bad);
    }
    return rc;
}

static int open_keys(struct tf_scan *scan, const uint8_t *header, const struct tf_keyring *ring)
{
    scan->keys = tf_secure_new(sizeof *scan->keys);
    if (scan->keys == NULL) {
        return -ENOMEM;
    }
    return tf_dek_open(ring, &scan->sector, header + TF_SECTOR_BYTES, scan->keys);
}

int tf_scan_open(struct tf_scan *scan, int dir_fd, uint64_t no, const struct tf_keyring *ring)
{
    char name[TF_SEGMENT_NAME_BYTES];
    uint8_t header[TF_SEGMENT_HEADER_BYTES];
    struct stat st;
    int rc;

    *scan = (struct tf_scan){.fd = -1};
    tf_buf_init(&scan->raw, TF_BODY_MAX + WINDOW_BYTES);
    tf_buf_init(&scan->plain, TF_BODY_MAX);
    tf_segment_name(no, name);
    scan->fd = openat(dir_fd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    if (scan->fd < 0) {
        return -errno;
    }
    rc = fstat(scan->fd, &st) < 0 ? -errno : S_ISREG(st.st_mode) ? 0 : -EPROTO;
    if (rc == 0) {
        rc = tf_read_around(scan->fd, header, sizeof header, 0, &scan->has_bad);
    }
    if (rc == 0) {
        rc = tf_sector0_decode(header, &scan->sector);
    }
    if (rc == 0 && scan->sector.segment_no != no) {
        rc = -EPROTO;
    }
    if (rc == 0 && ring != NULL) {
        rc = open_keys(scan, header, ring);
    }
    if (rc == -EPROTO && scan->keys != NULL && /* slots may be rewritten just now: look again */
        tf_read_around(scan->fd, header + TF_SECTOR_BYTES, sizeof header - TF_SECTOR_BYTES,
                       TF_SECTOR_BYTES, &scan->has_bad) == 0) {
        rc = tf_dek_open(ring, &scan->sector, header + TF_SECTOR_BYTES, scan->keys);
    }
    if (rc == 0) {
        scan->end = (uint64_t)st.st_size < TF_SEGMENT_MAX_BYTES ? (uint64_t)st.st_size
                                                                : TF_SEGMENT_MAX_BYTES;
        scan->at = (struct tf_spot){.segment_no = no,
                                    .offset = TF_SEGMENT_HEADER_BYTES,
                                    .seq = scan->sector.first_seq - 1,
                                    .events = scan->sector.events_before};
        memcpy(scan->at.chain, scan->sector.prev_chain, TF_CHAIN_BYTES);
        rc = tf_chain_open(scan->at.chain, header);
    }
    if (rc < 0) {
        bool has_bad = scan->has_bad;

        tf_scan_close(scan);
        scan->has_bad = has_bad;
    }
    return rc;
}

void tf_scan_close(struct tf_scan *scan)
{
    if (scan->fd >= 0) {
        (void)close(scan->fd);
    }
    tf_secure_free(scan->keys, sizeof *scan->keys);
    tf_buf_fini(&scan->raw);
    tf_buf_fini(&scan->plain);
    *scan = (struct tf_scan){.fd = -1};
}

static uint64_t frame_bytes(const struct tf_frame_header *header)
{
    return (uint64_t)TF_FRAME_HEADER_BYTES + header->body_bytes + TF_FRAME_TRAILER_BYTES;
}

/* 1 when a sound header of this run, with room for its frame, is at offset; else 0, or -errno. */
static int read_header(struct tf_scan *scan, uint64_t offset, uint8_t *raw,
                       struct tf_frame_header *header)
{
    int rc;

    if (offset + TF_FRAME_HEADER_BYTES > scan->end) {
        return 0;
    }
    rc = tf_read_around(scan->fd, raw, TF_FRAME_HEADER_BYTES, offset, &scan->has_bad);
    if (rc < 0) {
        return rc;
    }
    if (tf_frame_header_decode(raw, header) < 0 || header->seq <= scan->at.seq ||
        TF_SEQ_RUN(header->seq) != TF_SEQ_RUN(scan->sector.first_seq) ||
        header->seq - scan->sector.first_seq >= TF_SEGMENT_FRAMES_MAX ||
        offset + frame_bytes(header) > scan->end) {
        return 0;
    }
    return 1;
}

/* Checks body and trailer, which raw holds, and opens the frame. 1, 0: bad, or -errno. */
static int check_frame(struct tf_scan *scan, const uint8_t *raw, bool chained,
                       struct tf_scanned *out, uint8_t chain[TF_CHAIN_BYTES])
{
    struct tf_slice body = tf_slice(scan->raw.data, out->header.body_bytes);
    const uint8_t *trailer = (const uint8_t *)body.data + body.size;
    uint8_t leaf[TF_DIGEST_BYTES];
    int rc;

    if (tf_load32(trailer + TF_CHAIN_BYTES) !=
        tf_crc32c(0, body.data, body.size + TF_CHAIN_BYTES)) {
        return 0;
    }
    memcpy(chain, trailer, TF_CHAIN_BYTES);
    if (chained) {
        uint8_t expected[TF_CHAIN_BYTES];

        memcpy(expected, scan->at.chain, TF_CHAIN_BYTES);
        rc = tf_leaf(scan->sector.segment_id, raw, body, leaf);
        if (rc == 0) {
            rc = tf_chain_next(expected, leaf, out->header.durable);
        }
        if (rc < 0) {
            return rc;
        }
        if (memcmp(expected, chain, TF_CHAIN_BYTES) != 0) {
            return 0;
        }
    }
    out->meta = (struct tf_meta){0};
    out->payload = out->content = tf_slice(NULL, 0);
    if (scan->keys == NULL) {
        bool is_clear = (out->header.flags & TF_FRAME_ENCRYPTED) == 0;

        out->content = is_clear ? tf_slice(body.data, body.size - TF_GCM_TAG_BYTES) : out->content;
        return 1;
    }
    if ((out->header.flags & TF_FRAME_ENCRYPTED) == 0) {
        rc = tf_frame_open_clear(scan->keys, raw, body, &out->content);
    } else {
        rc = tf_frame_open(scan->keys, raw, body, &scan->plain, &out->meta, &out->payload);
    }
    return rc == 0 ? 1 : rc == -EBADMSG || rc == -EPROTO ? 0 : rc;
}

/* Tries the frame at offset; 1, 0 or -errno. On 1 scan->at is behind it. */
static int try_frame(struct tf_scan *scan, uint64_t offset, struct tf_scanned *out)
{
    uint8_t raw[TF_FRAME_HEADER_BYTES], chain[TF_CHAIN_BYTES];
    bool follows = offset == scan->at.offset;
    size_t rest;
    int rc = read_header(scan, offset, raw, &out->header);

    if (rc <= 0) {
        return rc;
    }
    if (follows != (out->header.seq == scan->at.seq + 1)) {
        return 0;
    }
    rest = out->header.body_bytes + TF_FRAME_TRAILER_BYTES;
    tf_buf_clear(&scan->raw);
    rc = tf_buf_reserve(&scan->raw, rest);
    if (rc == 0) {
        rc = tf_read_around(scan->fd, scan->raw.data, rest, offset + TF_FRAME_HEADER_BYTES,
                            &scan->has_bad);
    }
    if (rc == 0) {
        rc = check_frame(scan, raw, follows && !scan->is_unanchored, out, chain);
    }
    if (rc == 1) {
        scan->is_unanchored = false;
        out->begin = offset;
        scan->at.offset = offset + frame_bytes(&out->header);
        scan->at.seq = out->header.seq;
        scan->at.events += tf_frame_has_events(&out->header) ? out->header.events : 0;
        memcpy(scan->at.chain, chain, TF_CHAIN_BYTES);
    }
    return rc;
}

/* The first place in the window where a header may stand: its checksum holds, or it goes on behind
 * the window. Bytes full of "TFRM" cost a checksum each, not a window. NULL: there is none. */
static const char *find_header(const char *window, size_t size)
{
    const char *end = window + size, *hit = window;

    while ((hit = memmem(hit, (size_t)(end - hit), "TFRM", 4)) != NULL) {
        const uint8_t *raw = (const uint8_t *)hit;

        if ((size_t)(end - hit) < TF_FRAME_HEADER_BYTES ||
            tf_load32(raw + 60) == tf_crc32c(0, raw, 60)) {
            return hit;
        }
        hit++;
    }
    return NULL;
}

/* The next offset from *offset on where a header may stand. 1 or 0: none up to end; or -errno. */
static int find_magic(struct tf_scan *scan, uint64_t *offset)
{
    int rc;

    while (*offset + TF_FRAME_HEADER_BYTES <= scan->end) {
        uint64_t left = scan->end - *offset;
        size_t size = left < WINDOW_BYTES ? (size_t)left : WINDOW_BYTES;
        const char *hit;

        tf_buf_clear(&scan->raw);
        rc = tf_buf_reserve(&scan->raw, size);
        if (rc == 0) {
            rc = tf_read_around(scan->fd, scan->raw.data, size, *offset, &scan->has_bad);
        }
        if (rc < 0) {
            return rc;
        }
        hit = find_header(scan->raw.data, size);
        if (hit != NULL) {
            *offset += (uint64_t)(hit - scan->raw.data);
            return 1;
        }
        *offset += size - 3;
    }
    return 0;
}

int tf_scan_next(struct tf_scan *scan, struct tf_scanned *out)
{
    uint64_t from = scan->at.seq + 1, lost_events = 0, known_seq = scan->at.seq;
    uint64_t offset = scan->at.offset;
    int rc = try_frame(scan, offset, out);

    out->hole_from = out->hole_to = out->hole_events = out->hole_frames = 0;
    while (rc == 0) {
        struct tf_frame_header header;
        uint8_t raw[TF_FRAME_HEADER_BYTES];

        rc = read_header(scan, offset, raw, &header);
        if (rc == 1 && header.seq > known_seq) { /* a bad frame whose header can be read */
            known_seq = header.seq;
            lost_events += tf_frame_has_events(&header) ? header.events : 0;
        }
        offset++;
        rc = rc < 0 ? rc : find_magic(scan, &offset);
        if (rc <= 0) {
            out->hole_events = lost_events;
            return rc;
        }
        rc = try_frame(scan, offset, out);
        if (rc == 1) {
            out->hole_from = from;
            out->hole_to = out->header.seq - 1;
            out->hole_frames = out->hole_to - from + 1;
            out->hole_events = lost_events;
            scan->at.events += lost_events;
        }
    }
    return rc;
}

int tf_scan_look_ahead(struct tf_scan *scan, const struct tf_scanned *first, uint64_t *durable)
{
    struct tf_spot here = scan->at;
    struct tf_scanned frame;
    int rc;

    *durable = first->header.durable;
    while ((rc = tf_scan_next(scan, &frame)) == 1) {
        if (frame.header.durable > *durable) {
            *durable = frame.header.durable;
        }
    }
    scan->at = here;
    return rc;
}

/* Moves behind a frame of which only the header was read: the next one stands alone. */
static void pass_over(struct tf_scan *scan, const struct tf_frame_header *header)
{
    scan->is_unanchored = true;
    scan->at.offset += frame_bytes(header);
    scan->at.seq = header->seq;
    scan->at.events += tf_frame_has_events(header) ? header->events : 0;
}

int tf_scan_skip(struct tf_scan *scan, uint64_t seq)
{
    while (scan->at.seq < seq) {
        struct tf_frame_header header;
        uint8_t raw[TF_FRAME_HEADER_BYTES];
        int rc = read_header(scan, scan->at.offset, raw, &header);

        if (rc < 0) {
            return rc;
        }
        if (rc == 0 || header.seq != scan->at.seq + 1 || header.seq > seq) {
            return 0;
        }
        rc = tf_read_around(scan->fd, scan->at.chain, TF_CHAIN_BYTES,
                            scan->at.offset + TF_FRAME_HEADER_BYTES + header.body_bytes,
                            &scan->has_bad);
        if (rc < 0) {
            return rc;
        }
        pass_over(scan, &header);
    }
    return 0;
}

/* May the frame hold wanted events, as far as its header tells? */
static bool has_wanted(const struct tf_frame_header *header, const struct tf_scan_want *want)
{
    return tf_frame_has_events(header) && header->events > 0 && header->seq > want->after_seq &&
           header->time_max_ns >= want->from_ns && header->time_min_ns < want->to_ns;
}

int tf_scan_hop(struct tf_scan *scan, const struct tf_scan_want *want)
{
    for (;;) {
        struct tf_frame_header header;
        uint8_t raw[TF_FRAME_HEADER_BYTES];
        int rc = read_header(scan, scan->at.offset, raw, &header);

        if (rc <= 0 || header.seq != scan->at.seq + 1) {
            return rc < 0 ? rc : 0;
        }
        if (want->is_for_seals ? tf_frame_is_seal(&header) : has_wanted(&header, want)) {
            return 0;
        }
        pass_over(scan, &header);
    }
}
