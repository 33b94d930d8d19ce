/*
 * find.c - the frame with a number, by headers.
 *
 * Receipts and a collector's record name frames by number. The segment is found by the first
 * numbers, the frame by going from header to header, onwards from the last one that was found: for
 * names that rise, as they do, each header is read once. The walk has checked, or will check, what
 * stands there. The last WAYPOINTS places are remembered, since repeats go back a little.
 *
 * Over bytes that are no header the next sound frame is searched. What may have stood there, or in
 * a segment whose header does not hold, is not known: rot must not look like another history. The
 * last search is remembered, so that many names in one hole cost one. headers_read counts what all
 * of it costs, for who must bound it: headers, and bytes that were searched as so many of those.
 */
#include "verify.h"

#include <errno.h>

static void go_to(struct tf_find *find, const struct tf_waypoint *point)
{
    find->offset = point->offset;
    find->seq = point->seq;
}

void tf_find_close(struct tf_find *find)
{
    tf_walk_close(&find->walk);
    tf_secure_free(find->keys, sizeof *find->keys);
    tf_buf_fini(&find->plain);
    *find = (struct tf_find){.walk = {.fd = -1}, .headers_read = find->headers_read};
}

/* The chosen segment that may hold the number, or NULL. */
static const struct tf_verify_file *find_file(const struct tf_verify *verify, uint64_t seq)
{
    const struct tf_verify_files *files = &verify->files;
    size_t low = 0, high = files->count;

    while (low < high) { /* numbers rise with names, but for files that do not count */
        size_t middle = low + (high - low) / 2;
        size_t probe = middle;

        while (probe < high && !files->items[probe].is_chosen) {
            probe++;
        }
        if (probe == high || files->items[probe].first_seq > seq) {
            high = middle;
        } else {
            low = probe + 1;
        }
    }
    while (low > 0 && !files->items[low - 1].is_chosen) {
        low--;
    }
    return low == 0 ? NULL : &files->items[low - 1];
}

/* The next one that counts, or NULL. */
static const struct tf_verify_file *next_chosen(const struct tf_verify *verify,
                                                const struct tf_verify_file *file)
{
    const struct tf_verify_file *last = verify->files.items + verify->files.count;

    for (const struct tf_verify_file *next = file + 1; next < last; next++) {
        if (next->is_chosen) {
            return next;
        }
    }
    return NULL;
}

static bool follows(const struct tf_verify_file *next, const struct tf_verify_file *file)
{
    return memcmp(next->prev_id, file->id, 16) == 0;
}

/* Where the segment ends by its successor. */
static uint64_t end_of(const struct tf_verify *verify, const struct tf_verify_file *file)
{
    const struct tf_verify_file *next = next_chosen(verify, file);

    return next != NULL && follows(next, file) ? next->prev_end : UINT64_MAX;
}

/* Would it be in a segment, behind this one, that is not there? */
static bool is_in_missing(const struct tf_verify *verify, const struct tf_verify_file *file,
                          uint64_t seq)
{
    const struct tf_verify_file *next = next_chosen(verify, file);

    return next != NULL && !follows(next, file) && seq <= next->prev_last_seq;
}

static int open_file(struct tf_verify *verify, const struct tf_verify_file *file)
{
    struct tf_find *find = &verify->find;
    uint64_t end = end_of(verify, file);
    int fd, rc;

    tf_find_close(find);
    fd = tf_verify_file_open(&verify->files, file);
    rc = fd < 0 ? fd : tf_walk_open(&find->walk, fd);
    if (rc < 0) {
        return rc == -EPROTO ? 0 : rc;
    }
    find->file = file;
    find->offset = TF_SEGMENT_HEADER_BYTES;
    find->seq = file->first_seq;
    find->end = end < find->walk.size ? end : find->walk.size;
    tf_buf_init(&find->plain, TF_BODY_MAX);
    if (verify->options->ring == NULL) {
        return 1;
    }
    find->keys = tf_secure_new(sizeof *find->keys);
    if (find->keys == NULL) {
        return -ENOMEM;
    }
    rc = tf_dek_open(verify->options->ring, &find->walk.sector, find->walk.head + TF_SECTOR_BYTES,
                     find->keys);
    if (rc < 0) {
        tf_secure_free(find->keys, sizeof *find->keys);
        find->keys = NULL;
    }
    return rc == 0 || rc == -ENOKEY || rc == -EPROTO ? 1 : rc;
}

/* The first sound frame behind what is no header. 1, 0 or -errno; the last hole is remembered. */
static int search_hole(struct tf_find *find)
{
    struct tf_hole *hole = &find->hole;
    struct tf_walked frame;
    uint64_t offset = find->offset, written = 0;
    int rc;

    if (hole->offset == find->offset) { /* 0: none yet, and no frame is there */
        return hole->next_seq != 0;
    }
    rc = tf_walk_search(&find->walk, &offset, find->end, find->seq - 1, &frame);
    if (rc == 0) {
        rc = tf_walk_written_end(&find->walk, find->offset, &written);
    }
    if (rc < 0) {
        return rc;
    }
    *hole = (struct tf_hole){.offset = find->offset,
                             .next_offset = rc == 1 ? offset : find->end,
                             .next_seq = rc == 1 ? frame.header.seq : 0,
                             .is_written = written > find->offset};
    find->headers_read += (hole->next_offset - hole->offset) / TF_FRAME_HEADER_BYTES;
    return rc;
}

/* Goes over what is no header, to the next sound frame up to seq. 1, 0: nothing was written there,
 * -EBADMSG: bytes that are no frame, and what has the number may be among them, other -errno. */
static int pass_damage(struct tf_find *find, uint64_t seq)
{
    int rc = search_hole(find);

    if (rc == 1 && find->hole.next_seq > seq) {
        return -EBADMSG;
    }
    if (rc == 1) {
        find->offset = find->hole.next_offset;
        find->seq = find->hole.next_seq;
        return 1;
    }
    return rc < 0 ? rc : find->hole.is_written ? -EBADMSG : 0;
}

/* Goes to the header with the number. 1, 0, -EBADMSG: it may be among what is damaged, other
 * -errno. */
static int go_on(struct tf_find *find, uint64_t seq, uint8_t raw[TF_FRAME_HEADER_BYTES],
                 struct tf_frame_header *header)
{
    while (find->offset + TF_FRAME_HEADER_BYTES <= find->end) {
        int rc = tf_read_at(find->walk.fd, raw, TF_FRAME_HEADER_BYTES, find->offset);

        find->headers_read++;
        if (rc < 0) {
            return rc;
        }
        if (tf_frame_header_decode(raw, header) < 0) {
            rc = pass_damage(find, seq);
            if (rc <= 0) {
                return rc;
            }
            continue;
        }
        if (header->seq > seq) {
            return 0;
        }
        if (header->seq == seq) {
            return 1;
        }
        find->waypoints[header->seq % TF_WAYPOINTS] =
            (struct tf_waypoint){.seq = header->seq, .offset = find->offset};
        find->offset +=
            (uint64_t)TF_FRAME_HEADER_BYTES + header->body_bytes + TF_FRAME_TRAILER_BYTES;
        find->seq = header->seq + 1;
    }
    return 0;
}

/* D of the frame at find->offset, if it opens. */
static int read_digest(struct tf_find *find, const uint8_t *raw,
                       const struct tf_frame_header *header, struct tf_found *found)
{
    struct tf_meta meta;
    struct tf_slice payload;
    int rc;

    tf_buf_clear(&find->walk.raw);
    rc = tf_buf_reserve(&find->walk.raw, header->body_bytes);
    if (rc == 0) {
        rc = tf_read_at(find->walk.fd, find->walk.raw.data, header->body_bytes,
                        find->offset + TF_FRAME_HEADER_BYTES);
    }
    if (rc == 0) {
        rc = tf_frame_open(find->keys, raw, tf_slice(find->walk.raw.data, header->body_bytes),
                           &find->plain, &meta, &payload);
    }
    if (rc == 0) {
        found->has_digest = true;
        memcpy(found->digest, meta.digest, TF_DIGEST_BYTES);
    }
    return rc == -EBADMSG || rc == -EPROTO ? 0 : rc;
}

int tf_find_frame(struct tf_verify *verify, uint64_t seq, bool with_digest, struct tf_found *found)
{
    struct tf_find *find = &verify->find;
    const struct tf_verify_file *file = find_file(verify, seq);
    const struct tf_waypoint *point = &find->waypoints[seq % TF_WAYPOINTS];
    struct tf_frame_header header;
    uint8_t raw[TF_FRAME_HEADER_BYTES];
    int rc = 1;

    *found = (struct tf_found){0};
    if (file == NULL) {
        return 0;
    }
    if (find->file != file || (find->seq > seq && point->seq != seq)) {
        rc = open_file(verify, file);
    } else if (find->seq > seq) {
        go_to(find, point);
    }
    if (rc == 1) {
        rc = go_on(find, seq, raw, &header);
        rc = rc == 0 && is_in_missing(verify, file, seq) ? -EBADMSG : rc;
    }
    if (rc == 1) {
        int read = tf_read_at(find->walk.fd, found->chain, TF_CHAIN_BYTES,
                              find->offset + TF_FRAME_HEADER_BYTES + header.body_bytes);

        found->type = header.type;
        if (read == 0 && with_digest && find->keys != NULL &&
            (header.flags & TF_FRAME_ENCRYPTED) != 0) {
            read = read_digest(find, raw, &header, found);
        }
        rc = read < 0 ? read : 1;
    }
    return rc;
}

int tf_find_is_whole(struct tf_verify *verify)
{
    struct tf_find *find = &verify->find;
    uint64_t offset = find->offset;
    struct tf_walked frame;
    int rc = tf_walk_search(&find->walk, &offset, find->end, find->seq - 1, &frame);

    return rc == 1 ? offset == find->offset : rc;
}
