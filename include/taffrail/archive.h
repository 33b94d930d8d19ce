/*
 * archive.h - a spool opened only to read: live, copied, on read-only media.
 *
 * No lock, no change, nothing but openat and pread in the directory. Frames come in order of
 * number, one at a time, as a start would accept them (docs/spool-format.md, "What counts"); what
 * is missing between them comes too, as what it is. Segments and frames whose times cannot match
 * are passed over by the index at a segment's end, or by frame headers where there is none.
 *
 * It blocks; no libuv. One thread at a time. docs/replay.md is about what users see of it.
 */
#ifndef TAFFRAIL_ARCHIVE_H
#define TAFFRAIL_ARCHIVE_H

#include "taffrail/config.h"
#include "taffrail/spool.h"

struct tf_archive;

/* Keys are those of the first of these that is there. */
struct tf_archive_options {
    const char *path;
    const char *const *key_files; /* each a KEK, or an auditor's private key */
    size_t key_count;
    const char *passphrase_file;           /* of an auditor's key, or NULL */
    const struct tf_spool_options *config; /* of a configuration, or NULL; then SPOOL.key */
};

/* What is looked for. Times are of events, from <= t < to. */
struct tf_archive_query {
    int64_t from_ns, to_ns; /* INT64_MIN, INT64_MAX: all */
    uint64_t after_seq;     /* frames up to it are passed over; 0: none */
};

enum tf_archived_kind {
    TF_ARCHIVED_FRAME,      /* of data, or with the records of a gap */
    TF_ARCHIVED_DAMAGED,    /* frames that cannot be read, in a segment that can */
    TF_ARCHIVED_MISSING,    /* segments that ought to be between two others */
    TF_ARCHIVED_EXPIRED,    /* a segment that was deleted while the archive was read (F4) */
    TF_ARCHIVED_UNREADABLE, /* a segment that no key opens */
};

/* Slices borrow from the archive until its next call. */
struct tf_archived {
    enum tf_archived_kind kind;
    enum tf_frame_type type; /* of a frame: DATA or GAP */
    uint64_t segment_no;
    uint64_t seq; /* of a frame */
    uint8_t chain[TF_CHAIN_BYTES];
    int64_t time_min_ns, time_max_ns;
    uint32_t events;
    struct tf_slice tag, payload; /* payload: gzip of events */
    /* of all other kinds: these numbers are not there; from 0: all up to to_seq, before the oldest
     * segment, and no notice says that they expired */
    uint64_t from_seq, to_seq;
    uint64_t lost_events; /* as far as headers tell */
};

struct tf_archive_status {
    uint64_t segments;       /* that count, as listed last */
    uint64_t read;           /* of which frames were read; the others cannot match */
    uint64_t events;         /* in all of them, as headers tell */
    uint64_t seq;            /* all frames up to it are behind us */
    uint64_t bytes, passed;  /* of those that may match; of these, behind us */
    const uint8_t *spool_id; /* TF_SPOOL_ID_BYTES, of the newest */
};

/*
 * Opens the spool at options->path and the keys. Returns new in *out, to be closed. Findings go to
 * err: -EINVAL for a wrong key or no spool; other negative errno when the directory cannot be read
 * (also added to err).
 */
int tf_archive_open(const struct tf_archive_options *options, struct tf_archive **out,
                    struct tf_error *err);
void tf_archive_close(struct tf_archive *archive); /* accepts NULL */

/* Begins anew, at the oldest segment. */
void tf_archive_query(struct tf_archive *archive, const struct tf_archive_query *query);

/* Returns 1: *out is the next; 0: the end, as far as it is written; -errno: the disk, or memory.
 * After 0, more may come when an agent writes there: ask again later. */
int tf_archive_next(struct tf_archive *archive, struct tf_archived *out);

/* Looks for segments made since the last look. After tf_archive_next returned 0. 0 or -errno. */
int tf_archive_refresh(struct tf_archive *archive);

void tf_archive_status(const struct tf_archive *archive, struct tf_archive_status *status);

/*
 * Inflates a payload into out, which is emptied; its limit is the bound. 0, -EPROTO (no gzip, or
 * bytes behind it), -EMSGSIZE, -ENOMEM. Any thread.
 */
int tf_archive_inflate(struct tf_slice payload, struct tf_buf *out);

#endif
