/*
 * sparse.c - finds the index at the end of a segment, and by it what need not be read.
 *
 * The index frame stands before the footer, whose size varies with its receipts, so the last
 * TAIL_BYTES are searched from behind for its header. It counts only when GCM opens it: it is then
 * this segment's own. What is wrong with an index is no finding: without one the segment is read by
 * its headers.
 *
 * Stretch 0 is what lies before the first entry (the snapshot), stretch k begins at entry k - 1.
 */
#include "sparse.h"

#include <errno.h>
#include <stdlib.h>

/* The largest index with its meta and frame, and the largest footer behind it. */
#define TAIL_BYTES (TF_INDEX_MAX * TF_INDEX_ENTRY_BYTES + TF_SEAL_MAX_BYTES + 1024u)

/* Opens the frame at tail[at]; 1, 0: it is not a sound index, or -errno. */
static int open_index(struct tf_scan *scan, struct tf_slice tail, size_t at, struct tf_sparse *out)
{
    const uint8_t *raw = (const uint8_t *)tail.data + at;
    struct tf_frame_header header;
    struct tf_slice payload;
    struct tf_meta meta;
    int rc;

    if (tf_frame_header_decode(raw, &header) < 0 || header.type != TF_FRAME_INDEX ||
        header.body_bytes > tail.size - at - TF_FRAME_HEADER_BYTES) {
        return 0;
    }
    rc = tf_frame_open(scan->keys, raw, tf_slice(raw + TF_FRAME_HEADER_BYTES, header.body_bytes),
                       &scan->plain, &meta, &payload);
    if (rc == 0) {
        rc = tf_index_decode(meta.deltas, out->entries);
    }
    if (rc < 0) {
        return rc == -EBADMSG || rc == -EPROTO ? 0 : rc;
    }
    out->count = (uint32_t)rc;
    out->time_min_ns = header.time_min_ns;
    out->time_max_ns = header.time_max_ns;
    out->begin = scan->end - (tail.size - at);
    out->seq = header.seq;
    return out->count > 0 && out->entries[out->count - 1].offset < out->begin &&
                   out->entries[out->count - 1].seq < out->seq &&
                   out->entries[0].seq >= scan->sector.first_seq
               ? 1
               : 0;
}

int tf_sparse_find(struct tf_scan *scan, struct tf_sparse *out)
{
    uint64_t left = scan->end - TF_SEGMENT_HEADER_BYTES;
    size_t size = left < TAIL_BYTES ? (size_t)left : TAIL_BYTES;
    char *tail;
    int rc;

    out->count = 0;
    if (scan->end < TF_SEGMENT_HEADER_BYTES + TF_FRAME_HEADER_BYTES) {
        return 0;
    }
    tail = malloc(size);
    if (tail == NULL) {
        return -ENOMEM;
    }
    rc = tf_read_at(scan->fd, tail, size, scan->end - size);
    for (size_t at = size - TF_FRAME_HEADER_BYTES + 1; rc == 0 && at-- > 0;) {
        if (memcmp(tail + at, "TFRM", 4) == 0) {
            rc = open_index(scan, tf_slice(tail, size), at, out);
        }
    }
    free(tail);
    if (rc != 1) {
        out->count = 0;
    }
    return rc;
}

static bool overlaps(int64_t min_ns, int64_t max_ns, const struct tf_scan_want *want)
{
    return max_ns >= want->from_ns && min_ns < want->to_ns;
}

bool tf_sparse_may_match(const struct tf_sparse *sparse, const struct tf_scan_want *want)
{
    return sparse->count == 0 || (sparse->seq > want->after_seq &&
                                  overlaps(sparse->time_min_ns, sparse->time_max_ns, want));
}

static void stretch_at(const struct tf_sparse *sparse, const struct tf_stretch *segment, uint32_t k,
                       struct tf_stretch *out)
{
    *out = *segment;
    if (k > 0) {
        const struct tf_index_entry *entry = &sparse->entries[k - 1];

        out->from.offset = entry->offset;
        out->from.seq = entry->seq - 1;
        out->from.events = entry->events_before;
    }
    if (k < sparse->count) {
        out->end = sparse->entries[k].offset;
        out->last_seq = sparse->entries[k].seq - 1;
    } else if (sparse->count > 0) {
        out->end = sparse->begin;
        out->last_seq = sparse->seq - 1;
    }
}

static bool has_events(const struct tf_sparse *sparse, uint32_t k)
{
    return k == sparse->count ||
           sparse->entries[k].events_before > sparse->entries[k - 1].events_before;
}

bool tf_sparse_next(const struct tf_sparse *sparse, const struct tf_stretch *segment,
                    const struct tf_scan_want *want, uint32_t *at, struct tf_stretch *out)
{
    while (*at <= sparse->count) {
        uint32_t k = (*at)++;

        stretch_at(sparse, segment, k, out);
        if (out->end <= out->from.offset ||
            (out->last_seq != 0 && out->last_seq <= want->after_seq)) {
            continue;
        }
        if (k == 0 ||
            (has_events(sparse, k) && overlaps(sparse->entries[k - 1].time_min_ns,
                                               sparse->entries[k - 1].time_max_ns, want))) {
            return true;
        }
    }
    return false;
}
