/*
 * index.c - the sparse index of a segment: gathered while frames are appended, written as a frame
 * before the footer of a segment that is closed in order.
 *
 * An entry stands for a stretch of frames, from the first one in it on; a stretch has at least a
 * 512th of the segment's size and 1 MiB, so that 1,024 entries suffice. It is a hint for readers:
 * a segment without one, after a crash, is read from its beginning. Layout: docs/spool-format.md.
 */
#include "seal.h"

#include <errno.h>

#define STRETCHES         512u
#define STRETCH_MIN_BYTES (UINT64_C(1) << 20)

static uint64_t stretch_bytes(const struct tf_spool *spool)
{
    uint64_t bytes = spool->options.segment_size_bytes / STRETCHES;

    return bytes > STRETCH_MIN_BYTES ? bytes : STRETCH_MIN_BYTES;
}

size_t tf_index_room(const struct tf_spool *spool)
{
    uint64_t entries = spool->options.segment_size_bytes / stretch_bytes(spool) + 1;

    return (size_t)entries * TF_INDEX_ENTRY_BYTES + TF_FRAME_HEADER_BYTES + TF_FRAME_TRAILER_BYTES;
}

void tf_index_note(struct tf_spool *spool, const struct tf_frame_header *header, uint64_t offset,
                   uint64_t events_before)
{
    uint32_t count = spool->index_count;
    struct tf_index_entry *last = &spool->index[count == 0 ? 0 : count - 1];

    if (tf_frame_is_seal(header) || header->type == TF_FRAME_INDEX) {
        return; /* nothing to look for */
    }
    if (count == 0 || (offset - last->offset >= stretch_bytes(spool) && count < TF_INDEX_MAX)) {
        last = &spool->index[spool->index_count++];
        *last = (struct tf_index_entry){
            .seq = header->seq, .offset = offset, .events_before = events_before};
    }
    tf_times_add(header, &last->time_min_ns, &last->time_max_ns);
}

/* The entries as bytes, and the times of all of them into header. */
static void encode_entries(const struct tf_spool *spool, struct tf_frame_header *header,
                           struct tf_buf *out)
{
    for (uint32_t i = 0; i < spool->index_count; i++) {
        const struct tf_index_entry *entry = &spool->index[i];
        uint8_t bytes[TF_INDEX_ENTRY_BYTES];

        tf_index_entry_encode(entry, bytes);
        (void)tf_buf_append(out, bytes, sizeof bytes); /* errors stick */
        tf_times_join(entry->time_min_ns, entry->time_max_ns, &header->time_min_ns,
                      &header->time_max_ns);
    }
}

int tf_index_make(const struct tf_spool *spool, struct tf_write *write)
{
    uint8_t digest[TF_DIGEST_BYTES];
    struct tf_slice nothing = tf_slice(NULL, 0);
    struct tf_buf entries, meta;
    int rc = tf_sha256(&nothing, 1, digest);

    tf_buf_init(&entries, TF_INDEX_MAX * TF_INDEX_ENTRY_BYTES);
    tf_buf_init(&meta, TF_META_MAX);
    encode_entries(spool, &write->header, &entries);
    tf_meta_encode(&meta, &(struct tf_meta){.deltas = tf_buf_slice(&entries), .digest = digest});
    rc = rc < 0 ? rc : entries.error != 0 ? entries.error : meta.error;
    if (rc == 0) {
        rc = tf_frame_seal(spool->keys, &write->header, tf_buf_slice(&meta), nothing, &write->frame,
                           write->leaf, &write->body_crc);
    }
    tf_buf_fini(&entries);
    tf_buf_fini(&meta);
    return rc;
}
