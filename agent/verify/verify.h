/*
 * verify.h - whether a spool is whole and unchanged, as far as what is given can prove it.
 *
 *     files.c    which segments there are, and which of them count
 *     walk.c     frame after frame out of one segment's bytes; trusts nothing
 *     content.c  what a data key shows: tags, nonces, payloads, deltas, indexes
 *     seals.c    seals in order, seal.state
 *     notices.c  what the spool says of itself: expiry, renewed seals, forks, receipt keys
 *     witness.c  receipts, and a collector's record, against the frames that are there
 *     find.c     the frame with a number, by headers
 *     report.c   findings, for people and for programs
 *     verify.c   the whole: segments in order, and what lies between them
 *     receipts.c `verify --receipts`: a collector's record, out of its own spool
 *
 * Reads only, takes no lock, keeps a frame at a time: memory does not grow with frames. A live
 * spool may be written to and expire meanwhile; nothing of that is an alarm. The algorithm and what
 * each verdict means: docs/evidence.md; bytes: docs/spool-format.md.
 */
#ifndef TAFFRAIL_VERIFY_VERIFY_H
#define TAFFRAIL_VERIFY_VERIFY_H

#include "../spool/seal.h"
#include "taffrail/progress.h"
#include "taffrail/receipt.h"

#define TF_VERIFY_FINDINGS_MAX     64u /* further ones are counted */
#define TF_VERIFY_SEAL_KEYS_MAX    8u
#define TF_VERIFY_RECEIPT_KEYS_MAX 32u
#define TF_VERIFY_RECEIPTS_LATE    64u /* further ones are judged by the keys told so far */
#define TF_VERIFY_TEXT_BYTES       256u
#define TF_VERIFY_EVENTS_MAX       (64u << 20) /* of one payload; a relay may pass 32 MiB */

/* Rising: the worst leads. Those before TF_VERDICT_NOTHING are exit 0. */
enum tf_verdict {
    TF_VERDICT_INTACT,
    TF_VERDICT_NOTHING_YET, /* no segment, and none was sealed */
    TF_VERDICT_TORN,
    TF_VERDICT_GAP,
    TF_VERDICT_NOTHING, /* no segment, and nothing tells whether there were any */
    TF_VERDICT_DAMAGED,
    TF_VERDICT_FORGED,
    TF_VERDICT_CUT,
    TF_VERDICT_FORKED,
    TF_VERDICTS,
};

/* Where something was found; 0: not said. */
struct tf_verify_place {
    uint64_t segment_no, seq, byte;
    bool is_end; /* the spool ends with seq */
};

struct tf_verify_finding {
    enum tf_verdict verdict;
    const char *code; /* docs/evidence.md lists them */
    struct tf_verify_place at;
    uint64_t more; /* of the same kind right behind it */
    char text[TF_VERIFY_TEXT_BYTES];
};

struct tf_verify_options {
    const char *path;              /* a spool, or one segment */
    const struct tf_keyring *ring; /* NULL: none */
    const struct tf_seal_key *seal_keys;
    size_t seal_key_count;
    const uint8_t (*receipt_keys)[TF_RECEIPT_KEY_BYTES];
    size_t receipt_key_count;
    const char *witness; /* NULL: none */
    bool has_expect;
    uint64_t expect; /* a frame that must be there */
};

struct tf_verify_report {
    enum tf_verdict verdict;
    bool has_expired; /* segments went while they were read */
    struct tf_verify_finding findings[TF_VERIFY_FINDINGS_MAX];
    size_t finding_count, dropped;

    uint8_t spool_id[TF_SPOOL_ID_BYTES];
    bool is_segment; /* one segment, not a spool */
    uint64_t segments, void_segments, frames, events, gaps, seals, bytes;
    int64_t time_min_ns, time_max_ns; /* of events; 0: none */
    uint64_t first_seq, last_seq;

    uint64_t opened_segments, unopened_segments; /* by a data key */

    bool has_seal_key, is_sealed, is_start_absent;
    uint64_t between_from, between_to; /* last of one series, first of the next; 0: one series */
    uint64_t first_sealed_seq;         /* lowest that a proved seal covers */
    uint64_t proved_seq;               /* newest frame under a proved seal; 0: none */
    uint64_t sealed_seq;               /* newest frame under any seal */
    int64_t proved_time_ns;            /* latest event under a proved seal */
    bool is_proof_holed;               /* what is damaged lies under it */

    uint64_t receipts,
        receipts_checked;         /* embedded; whose signature holds, and that were compared */
    uint64_t receipts_unkeyed;    /* that no key is known for */
    uint64_t receipts_unfollowed; /* whose frames were not looked for: find_budget */
    uint64_t receipt_seq;         /* the newest whose signature holds; 0: none */
    int64_t receipt_time_ns;
    bool is_receipt_key_given; /* its key was given, not only told by the spool */

    bool has_witness;
    uint64_t witness_records, witness_compared, witness_gone; /* gone: no longer kept */
    uint64_t witness_seq;                                     /* newest that is equal; 0: none */
    uint64_t witness_digests;                                 /* payloads compared too */
};

/*
 * Walks it all. progress was begun. Returns 0 when it could be judged, whatever was found; -ENOENT,
 * -EACCES and such with a finding in err when it could not. -EINVAL: the witness is not what it
 * should be.
 */
int tf_verify_run(const struct tf_verify_options *options, struct tf_progress *progress,
                  struct tf_verify_report *report, struct tf_error *err);

/* 0, or 1 when something is wrong: the exit code. */
int tf_verify_outcome(const struct tf_verify_report *report);

/* For people, some lines; or one JSON object. Appends to out. */
void tf_verify_print(const struct tf_verify_report *report, struct tf_buf *out);
void tf_verify_print_json(const struct tf_verify_report *report, struct tf_buf *out);

/*
 * Prints what a collector recorded of frames from spools whose id begins with agent (lower-case
 * hex), a line each, to a descriptor. *records is how many. Returns 0; 1 when damage was met, told
 * in err; -errno.
 */
struct tf_receipts_job {
    const char *path, *agent;
    const struct tf_keyring *ring;
    int out_fd;
    uint64_t records;
};
int tf_verify_receipts(struct tf_receipts_job *job, struct tf_progress *progress,
                       struct tf_error *err);

/* ---- shared inside the room ----------------------------------------------------------------- */

/* files.c */

enum tf_file_state {
    TF_FILE_SOUND,
    TF_FILE_UNSOUND, /* no sector 0 that holds */
    TF_FILE_FOREIGN, /* of another spool */
    TF_FILE_RENAMED, /* sector 0 has another number */
};
struct tf_verify_file {
    uint64_t no, first_seq, prev_last_seq, prev_end, size;
    uint8_t id[16], prev_id[16];
    uint8_t spool_id[TF_SPOOL_ID_BYTES], prev_spool_id[TF_SPOOL_ID_BYTES];
    enum tf_file_state state;
    bool is_new_lineage, is_chosen;
    bool is_crc_sound; /* of sector 0, whatever stands in it */
};
struct tf_verify_files {
    int dir_fd;
    struct tf_verify_file *items; /* by number */
    size_t count;
    uint64_t newest_no; /* the highest that was listed, whatever became of it; 0: none */
    bool has_meta;
    uint8_t meta_id[TF_SPOOL_ID_BYTES];      /* of spool.meta */
    char single[TF_SEGMENT_NAME_BYTES * 16]; /* one segment's name, whatever it is; else "" */
};
struct tf_verify;

/* Opens the spool, or one segment, and reads spool.meta. */
int tf_verify_files_open(struct tf_verify *verify, struct tf_error *err);
/* Adds that a file of the spool cannot be read, and why; returns rc. */
int tf_verify_cannot_read(const struct tf_verify *verify, const char *name, int rc,
                          struct tf_error *err);
/* Lists and chooses; tells what should not be there. */
int tf_verify_files_list(struct tf_verify *verify, struct tf_error *err);
/* Was a segment made since they were listed? 1, 0 or -errno. */
int tf_verify_files_grew(const struct tf_verify_files *files);
void tf_verify_files_close(struct tf_verify_files *files);
/* A descriptor, or -errno; -ENOENT: it is gone. */
int tf_verify_file_open(const struct tf_verify_files *files, const struct tf_verify_file *file);
/* Is the id the spool's, or that of an earlier lineage? */
bool tf_verify_is_own_spool(const struct tf_verify *verify, const uint8_t id[TF_SPOOL_ID_BYTES]);

/* walk.c */

struct tf_walk {
    int fd;
    uint64_t size, end; /* of the file; where what counts ends, as far as it is known */
    uint8_t head[TF_SEGMENT_HEADER_BYTES];
    struct tf_sector0 sector;
    uint64_t offset, seq;          /* of the next byte; of the last frame */
    uint8_t chain[TF_CHAIN_BYTES]; /* computed */
    uint8_t other[TF_CHAIN_BYTES]; /* stored where that was another: one of both goes on */
    bool has_other, is_unanchored; /* unanchored: the next frame's chain cannot be checked */
    uint64_t budget;               /* bytes that a search may still look at */
    uint64_t durable;              /* what is known to have been synced; 0: not asked yet */
    struct tf_buf raw;             /* body, chain, CRC of one frame */
};

enum tf_walked_kind {
    TF_WALKED_END,   /* nothing but zeros, or nothing, up to end */
    TF_WALKED_BAD,   /* bytes that are no sound frame, and none behind them */
    TF_WALKED_FRAME, /* checksums hold */
};
struct tf_walked {
    enum tf_walked_kind kind;
    struct tf_frame_header header;
    uint8_t raw[TF_FRAME_HEADER_BYTES];
    struct tf_slice body; /* borrows from the walk */
    uint64_t begin, bytes;
    uint8_t before[TF_CHAIN_BYTES]; /* the chain's value before this frame */
    bool has_before;                /* before is known */
    uint64_t bad_from, bad_bytes;   /* before it, or at the end (BAD): bytes that are no frame */
    uint64_t missing;               /* numbers missing before it */
    bool is_misplaced;              /* its number does not rise, or is of another run */
    bool is_chain_wrong;
    bool is_header_wrong; /* what is bad begins with a header that holds and says nonsense */
    bool is_past_end;     /* or with a frame that does not end where the segment ends */
    uint64_t told_bytes;  /* BAD: size of the frame by its header, if that holds */
};

/* fd is the walk's from now on, on failure too. 0; -EPROTO: no sound sector 0; -errno. */
int tf_walk_open(struct tf_walk *walk, int fd);
/* The same whatever sector 0 is: only for tf_walk_search, which then takes any number. */
int tf_walk_open_raw(struct tf_walk *walk, int fd);
void tf_walk_close(struct tf_walk *walk);
/* The next sound frame, or how it ends. 0 or -errno. */
int tf_walk_next(struct tf_walk *walk, struct tf_walked *out);
/* The first sound frame at or behind *offset and below end whose number is above `above`; 1, 0,
 * -errno. */
int tf_walk_search(struct tf_walk *walk, uint64_t *offset, uint64_t end, uint64_t above,
                   struct tf_walked *out);
/* End of the last byte that is not zero, at least from. */
int tf_walk_written_end(struct tf_walk *walk, uint64_t from, uint64_t *end);

/* content.c */

struct tf_content {
    struct tf_frame_keys *keys; /* NULL: no key opens this segment */
    struct tf_buf plain, events;
};
/* Opens the data key; tells damaged, swapped and empty slots. 0 or -errno. */
int tf_content_open(struct tf_verify *verify, const struct tf_walk *walk);
void tf_content_close(struct tf_verify *verify);
/* Checks one frame that follows; content of a clear one is returned (empty: it does not hold). */
int tf_content_check(struct tf_verify *verify, struct tf_walk *walk, const struct tf_walked *frame,
                     struct tf_slice *clear);

/* seals.c */

struct tf_seal_file { /* seal.state */
    struct tf_seal_key *key;
    int rc; /* 0; -ENOENT; -EPROTO: neither slot holds */
};
struct tf_seals {
    const struct tf_seal_key *first; /* K_0 of this series, if it was given */
    struct tf_seal_key *key, *last;  /* K of next_number, K of the seal before; secure heap */
    bool is_seen;                    /* a seal of this series */
    bool is_first_known;             /* nothing before the first segment has expired */
    bool is_blind;                   /* since the last seal something could not be counted */
    uint8_t id[TF_SEAL_ID_BYTES], prev_mac[TF_DIGEST_BYTES];
    uint64_t next_number, last_seq; /* last_seq: of the last seal */
    uint64_t first_after;           /* the first frame behind it; 0: none yet */
    uint32_t gaps;                  /* this and the next two: of frames since the last seal */
    int64_t time_min_ns, time_max_ns;
    uint64_t unsealed_bytes;
    uint64_t first_number, first_seq; /* of the first seal that is kept */
    bool is_first_begun;              /* a notice that is kept began its series */
    bool has_void;                    /* a true seal was found among bytes that do not count */
    uint64_t void_number;
    struct tf_verify_place void_at;
    bool has_begun; /* a notice announced a series */
    uint8_t begun_id[TF_SEAL_ID_BYTES];
    struct tf_seal_file before, after; /* the walk */
};
/* Reads seal.state. 0, or -errno with a finding in err. */
int tf_seals_begin(struct tf_verify *verify, struct tf_error *err);
/* A frame that is no seal, in order. */
void tf_seals_frame(struct tf_verify *verify, const struct tf_walked *frame);
int tf_seals_seal(struct tf_verify *verify, const struct tf_walk *walk,
                  const struct tf_walked *frame, struct tf_slice content);
/* A seal among bytes that do not count. */
int tf_seals_void(struct tf_verify *verify, const struct tf_walk *walk,
                  const struct tf_walked *frame);
void tf_seals_hole(struct tf_verify *verify); /* frames are missing here */
/* Does seal.state tell that this seal, which may not count, was synced? */
bool tf_seals_was_synced(const struct tf_verify *verify, const struct tf_walked *frame);
/* Reads seal.state again, and judges it. 0, or -errno with a finding in err. */
int tf_seals_end(struct tf_verify *verify, struct tf_error *err);
/* Behind tf_seals_end: is seal.state, by a key that was given, as it was made for a spool that had
 * no run yet? */
bool tf_seals_is_unbegun(const struct tf_verify *verify);
void tf_seals_fini(struct tf_verify *verify);

/* notices.c */

struct tf_notices {
    bool has_expire;
    uint64_t segment_no, seq; /* up to which the furthest expire notice goes */
    uint64_t exact_seal;      /* number of the first seal behind the first kept frame */
    bool has_exact, has_bound;
    uint64_t bound_seal; /* the first kept seal has at most this number */
    unsigned cause;
    uint64_t shredded_no; /* the newest segment without slots; 0: none */
    uint8_t keys[TF_VERIFY_RECEIPT_KEYS_MAX][TF_RECEIPT_KEY_BYTES];
    size_t key_count;
};
void tf_notices_take(struct tf_verify *verify, const struct tf_walked *frame,
                     struct tf_slice content);
/* When all was read: is what is absent in front named, are shredded segments? 0 or -errno. */
int tf_notices_end(struct tf_verify *verify);

/* find.c: the chain value of a frame by its number */

#define TF_WAYPOINTS 256u
struct tf_waypoint {
    uint64_t seq, offset;
};
struct tf_hole {                            /* bytes that are no frame */
    uint64_t offset, next_offset, next_seq; /* the sound frame behind it; next_seq 0: none */
    bool is_written;                        /* with none behind it: not only zeros */
};
struct tf_find {
    const struct tf_verify_file *file; /* the one that is open; NULL: none */
    struct tf_walk walk;
    struct tf_frame_keys *keys;
    struct tf_buf plain;
    uint64_t end, offset, seq; /* of the segment; of the next header */
    uint64_t headers_read;     /* in all, and what searches cost */
    struct tf_hole hole;       /* the last one that was searched; offset 0: none */
    struct tf_waypoint waypoints[TF_WAYPOINTS];
};
struct tf_found {
    uint8_t type;
    uint8_t chain[TF_CHAIN_BYTES];
    bool has_digest;
    uint8_t digest[TF_DIGEST_BYTES]; /* D, when a data key opens it */
};
/* 1; 0: it is not there; -EBADMSG: it may be among bytes that are damaged, or in a segment that is
 * missing; -ENOENT: its segment has expired meanwhile; -errno. */
int tf_find_frame(struct tf_verify *verify, uint64_t seq, bool with_digest, struct tf_found *found);
/* Do the checksums of the frame that was found hold? Else its chain value says nothing. 1, 0 or
 * -errno. */
int tf_find_is_whole(struct tf_verify *verify);
void tf_find_close(struct tf_find *find);

/* witness.c */

/* Receipts whose key the spool may name further on. */
struct tf_late_receipts {
    struct tf_late_receipt {
        uint8_t bytes[TF_RECEIPT_BYTES];
        struct tf_verify_place at;
    } items[TF_VERIFY_RECEIPTS_LATE];
    size_t count;
};
int tf_receipt_judge(struct tf_verify *verify, const uint8_t bytes[TF_RECEIPT_BYTES],
                     struct tf_verify_place at);
/* When all was read: judges the late ones. 0 or -errno. */
int tf_receipts_end(struct tf_verify *verify);
int tf_witness_run(struct tf_verify *verify, struct tf_error *err);
struct tf_witness_record {
    uint8_t spool_id[TF_SPOOL_ID_BYTES];
    uint64_t seq, prev;
    uint8_t chain[TF_CHAIN_BYTES], digest[TF_DIGEST_BYTES];
    struct tf_slice received; /* as it is written; borrows from the line */
    uint64_t flags;           /* 1: derived gap, 2: replayed */
};
/* "3/41870" to a number. */
bool tf_verify_seq(struct tf_slice text, uint64_t *seq);
/* One line of NDJSON. 0 or -EPROTO. Pure. */
int tf_witness_parse(struct tf_slice line, struct tf_witness_record *out);

/* report.c */

/* "0044.seg, frame 2/30118 at byte 4,112" and what else; the first of a kind is kept. */
void tf_verify_tell(struct tf_verify *verify, enum tf_verdict verdict, const char *code,
                    const struct tf_verify_place *at, const char *format, ...) TF_PRINTF(5, 6);

struct tf_verify {
    const struct tf_verify_options *options;
    struct tf_verify_report *report;
    struct tf_progress *progress;
    struct tf_verify_files files;
    bool is_end_unread; /* the newest segment has frames behind a header that does not hold */
    const struct tf_verify_file *first;  /* that was walked; NULL: none yet */
    const struct tf_verify_file *before; /* the segment before, fully walked; NULL: none */
    struct tf_walk walk;
    struct tf_content content;
    struct tf_seals seals;
    struct tf_notices notices;
    struct tf_late_receipts late;
    struct tf_find find;
    /* where the walk over all segments stands */
    uint64_t seq, end, events;
    uint8_t chain[TF_CHAIN_BYTES], run_id[16];
    uint64_t run;
    bool is_adrift;    /* chain or numbers behind the last frame are not known for sure */
    bool is_uncounted; /* events so far are not known */
};

#endif
