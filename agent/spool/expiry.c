/*
 * expiry.c - looks for the notice that came before the deletion of the oldest segments.
 *
 * A notice is a clear frame, proved by its checksums and the chain inside its segment; no key is
 * asked. Of all other frames the headers are read. The directory is listed anew: on a live spool
 * the notice may stand in a segment that is younger than what the caller knows of.
 *
 * Not here: whether the notices agree with chain and seals (verify).
 */
#include "expiry.h"

#include <errno.h>

#include "seal.h"

/* The frame at scan->at is a notice. 1: of the expiry of seq; 0; or -errno. */
static int reads_notice(struct tf_scan *scan, uint64_t seq)
{
    struct tf_scanned frame;
    struct tf_notice notice;
    int rc = tf_scan_next(scan, &frame);

    return rc == 1 && frame.header.type == TF_FRAME_NOTICE &&
                   tf_notice_decode(frame.content, &notice) == 0
               ? notice.kind == TF_NOTICE_EXPIRE && notice.b >= seq
           : rc < 0 ? rc
                    : 0;
}

/* As far as headers are good. 1, 0, or -errno. */
static int search(struct tf_scan *scan, uint64_t seq)
{
    int found = 0;

    while (found == 0 && scan->at.offset < scan->end) {
        uint8_t raw[TF_FRAME_HEADER_BYTES];
        struct tf_frame_header header;
        uint64_t before = scan->at.seq;
        int rc = tf_read_at(scan->fd, raw, sizeof raw, scan->at.offset);

        if (rc < 0 || tf_frame_header_decode(raw, &header) < 0) {
            return rc;
        }
        found = header.type == TF_FRAME_NOTICE ? reads_notice(scan, seq)
                                               : tf_scan_skip(scan, before + 1);
        if (scan->at.seq == before) {
            break;
        }
    }
    return found;
}

int tf_expiry_is_noticed(int dir_fd, uint64_t seq)
{
    struct tf_listing listing;
    int rc = tf_listing_read(dir_fd, &listing);

    for (size_t i = rc < 0 ? 0 : listing.count; rc == 0 && i-- > 0;) {
        struct tf_scan scan;

        rc = tf_scan_open(&scan, dir_fd, listing.files[i].no, NULL);
        rc = rc == 0 ? search(&scan, seq) : rc == -ENOENT || rc == -EPROTO ? 0 : rc;
        tf_scan_close(&scan);
    }
    tf_listing_fini(&listing);
    return rc;
}
