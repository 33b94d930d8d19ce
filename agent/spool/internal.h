/*
 * internal.h - what the files of the spool share.
 *
 *     ages.c       when frames were read
 *     format.c     bytes of headers, slots, meta and deltas; pure
 *     crypto.c     frames sealed and opened, chain
 *     slots.c      key slots of a segment: its DEK, wrapped for whoever may read it
 *     hpke.c       one message to an X25519 key
 *     auditor.c    an auditor's key
 *     index.c      a segment's sparse index
 *     seal.h       seals, notices and their files
 *     keys.c       key files
 *     gzip.c       compression of payloads
 *     state.c      the folded state
 *     scan.c       frame after frame out of one segment, over damage
 *     rewrap.c     key slots rewritten: rotation, auditor, shred
 *     segment.c    a new segment: allocated, headed, with its snapshot
 *     listing.c    which files of a directory are segments, and which of them count
 *     recover.c    what a start accepts
 *     sparse.h     the index at a segment's end, as a reader uses it
 *     archive.c    a spool opened only to read
 *     writer.c     drafts to durable frames
 *     roll.c       the segments there are, and how the next one is made
 *     cursors.c    the file of cursors, and when it is saved
 *     feed.c       what outputs see
 *     retention.c  what is deleted, and whether there is room
 *     witness.c    what collectors answer, and a fork
 *     receipt.c    bytes and signature of a collector's receipt (taffrail/receipt.h)
 *     weak.c       what about place and keys weakens the promises
 *     spool.c      open, close, status
 */
#ifndef TAFFRAIL_SPOOL_INTERNAL_H
#define TAFFRAIL_SPOOL_INTERNAL_H

#include <assert.h>

#include <uv.h>

#include "taffrail/spool.h"

#define TF_SECTOR_BYTES         512u
#define TF_SEGMENT_HEADER_BYTES 4096u
#define TF_SEGMENT_SLOTS        7u
#define TF_SEGMENT_MAX_BYTES    (UINT64_C(1) << 30)
#define TF_SEGMENT_FRAMES_MAX   (1u << 20)
#define TF_FRAME_HEADER_BYTES   64u
#define TF_FRAME_TRAILER_BYTES  36u /* chain, CRC32C */
#define TF_BODY_MAX             (16u << 20)
#define TF_META_MAX             (1u << 20)
#define TF_GCM_TAG_BYTES        16u
#define TF_NONCE_BYTES          12u
#define TF_KEY_BYTES            32u
#define TF_KEY_ID_BYTES         8u
#define TF_DIGEST_BYTES         32u
#define TF_SPOOL_META_BYTES     64u
#define TF_SPOOL_KEYS_MAX       16u
#define TF_PRIVATE_KEYS_MAX     4u
#define TF_SNAPSHOT_CHUNK_BYTES (512u << 10)
#define TF_CURSORS_MAX          32u /* outputs */
#define TF_CURSOR_NAME_BYTES    64u
#define TF_CURSOR_SLOT_BYTES    4096u
#define TF_SEGMENT_NAME_BYTES   25u /* "%020u.seg" and NUL */

static_assert(TF_DRAFT_PAYLOAD_MAX + TF_DRAFT_DELTAS_MAX + (128u << 10) <= TF_BODY_MAX,
              "a draft that does not compress fits a frame");

/* ---- format.c: pure; all return 0 or -EPROTO unless said ------------------------------------ */

enum tf_segment_flag {
    TF_SEGMENT_SEALING = 1,
    TF_SEGMENT_FIRST_OF_RUN = 2,
    TF_SEGMENT_AFTER_UNCLEAN = 4,
    TF_SEGMENT_NEW_LINEAGE = 8,
};

struct tf_sector0 {
    uint32_t flags;
    uint8_t spool_id[TF_SPOOL_ID_BYTES];
    uint8_t segment_id[16];
    uint8_t run_id[16];
    uint64_t segment_no, first_seq;
    int64_t created_ns;
    uint64_t prev_end;
    uint8_t prev_segment_id[16];
    uint8_t prev_chain[TF_CHAIN_BYTES];
    uint8_t dek_id[TF_DIGEST_BYTES];
    uint8_t prev_spool_id[TF_SPOOL_ID_BYTES];
    uint64_t prev_last_seq, events_before;
};

enum tf_slot_kind { TF_SLOT_EMPTY = 0, TF_SLOT_KEK = 1, TF_SLOT_RECIPIENT = 2 };
struct tf_key_slot {
    uint8_t kind; /* enum tf_slot_kind */
    uint8_t key_id[TF_KEY_ID_BYTES];
    uint8_t enc[32];
    uint8_t wrapped[48];
};

enum tf_frame_flag { TF_FRAME_ENCRYPTED = 1, TF_FRAME_SNAPSHOT = 2, TF_FRAME_MORE = 4 };
struct tf_frame_header {
    uint8_t type, flags;
    uint64_t seq;
    int64_t time_min_ns, time_max_ns;
    uint32_t events, body_bytes;
    uint8_t nonce[TF_NONCE_BYTES];
    uint64_t durable;
};
/* A footer is the seal that closes its segment. */
static inline bool tf_frame_is_seal(const struct tf_frame_header *header)
{
    return header->type == TF_FRAME_SEAL || header->type == TF_FRAME_FOOTER;
}

struct tf_meta {
    struct tf_slice tag, deltas;
    const uint8_t *digest; /* TF_DIGEST_BYTES, of the payload */
};

/* A gap's payload is an event too. */
static inline bool tf_frame_has_events(const struct tf_frame_header *header)
{
    return header->type == TF_FRAME_DATA || header->type == TF_FRAME_GAP;
}

struct tf_delta {
    enum tf_delta_op op;
    struct tf_slice key, value;
};

struct tf_cursor {
    char name[TF_CURSOR_NAME_BYTES];
    uint64_t seq, prev, events;
    struct tf_file_cursor file;
};

/* What a notice `expire` says. */
struct tf_expiry {
    int cause; /* enum tf_expire_cause */
    int64_t time_ns;
    uint64_t last_no, last_seq; /* of what goes; last_no 0: nothing */
    uint64_t first_seal;        /* of what stays */
};

struct tf_cursor_table {
    uint64_t counter;
    uint32_t count;
    struct tf_cursor entries[TF_CURSORS_MAX];
    struct tf_expiry owed; /* deleted on a full disk, ahead of its notice */
};

void tf_sector0_encode(const struct tf_sector0 *sector, uint8_t out[TF_SECTOR_BYTES]);
int tf_sector0_decode(const uint8_t in[TF_SECTOR_BYTES], struct tf_sector0 *out);
void tf_key_slot_encode(const struct tf_key_slot *slot, uint8_t out[TF_SECTOR_BYTES]);
int tf_key_slot_decode(const uint8_t in[TF_SECTOR_BYTES], struct tf_key_slot *out);
void tf_frame_header_encode(const struct tf_frame_header *header,
                            uint8_t out[TF_FRAME_HEADER_BYTES]);
int tf_frame_header_decode(const uint8_t in[TF_FRAME_HEADER_BYTES], struct tf_frame_header *out);
void tf_spool_meta_encode(const uint8_t spool_id[TF_SPOOL_ID_BYTES],
                          uint8_t out[TF_SPOOL_META_BYTES]);
int tf_spool_meta_decode(const uint8_t in[TF_SPOOL_META_BYTES],
                         uint8_t spool_id[TF_SPOOL_ID_BYTES]);
void tf_cursor_slot_encode(const struct tf_cursor_table *table, uint8_t out[TF_CURSOR_SLOT_BYTES]);
int tf_cursor_slot_decode(const uint8_t in[TF_CURSOR_SLOT_BYTES], struct tf_cursor_table *out);

/* Meta: appends to out, whose sticky error tells. */
void tf_meta_encode(struct tf_buf *out, const struct tf_meta *meta);
int tf_meta_decode(struct tf_slice bytes, struct tf_meta *out);

/* Plaintext of an encrypted frame: meta length, meta, payload. meta_bytes are the raw bytes. */
int tf_plain_decode(struct tf_slice plain, uint8_t type, struct tf_meta *meta,
                    struct tf_slice *meta_bytes, struct tf_slice *payload);

/* Takes one delta off the front of rest. Returns 1, 0 at the end, -EPROTO. */
int tf_delta_next(struct tf_slice *rest, struct tf_delta *out);

/* ---- crypto.c: any thread; 0, -ENOMEM, -EIO (OpenSSL failed) or as said --------------------- */

/* In the secure heap: tf_secure_new. */
struct tf_frame_keys {
    uint8_t ke[TF_KEY_BYTES], kn[TF_KEY_BYTES];
    uint8_t spool_id[TF_SPOOL_ID_BYTES], segment_id[16];
};

struct tf_kek {
    uint8_t key[TF_KEY_BYTES];
    uint8_t id[TF_KEY_ID_BYTES];
};
/* An auditor's X25519 key. Only readers have one. */
struct tf_private_key {
    uint8_t key[TF_KEY_BYTES], public_key[TF_KEY_BYTES];
    uint8_t id[TF_KEY_ID_BYTES]; /* of the public key */
};
/* In the secure heap. After it was loaded it is only read, on any thread. */
struct tf_keyring {
    uint32_t count; /* the first encrypts */
    struct tf_kek keks[TF_SPOOL_KEYS_MAX];
    uint32_t private_count;
    struct tf_private_key privates[TF_PRIVATE_KEYS_MAX];
    bool has_auditor; /* new segments can be read with his key too */
    uint8_t auditor[TF_KEY_BYTES], auditor_id[TF_KEY_ID_BYTES];
};

void *tf_secure_new(size_t size);               /* zeroed; NULL: no memory */
void tf_secure_free(void *memory, size_t size); /* wipes; accepts NULL */

#define TF_LABEL(text) tf_slice(text, sizeof(text)) /* with its NUL */

int tf_sha256(const struct tf_slice *parts, size_t count, uint8_t out[TF_DIGEST_BYTES]);
int tf_hmac(const uint8_t *key, size_t key_size, const struct tf_slice *parts, size_t count,
            uint8_t out[TF_DIGEST_BYTES]);
/* HKDF-Expand (RFC 5869, 2.3) to 32 bytes, its one block; at most 5 parts of info. */
int tf_expand(const uint8_t key[TF_KEY_BYTES], const struct tf_slice *info, size_t count,
              uint8_t out[TF_DIGEST_BYTES]);
int tf_kek_id(struct tf_kek *kek); /* fills id from key */

/*
 * Encrypts: appends header, body and an empty trailer to frame. header comes without nonce and
 * body_bytes, which are filled in; its bytes up to 51 are final, `durable` is not. leaf and
 * body_crc are for tf_frame_finish. -EMSGSIZE when the body or meta passes its bound.
 */
int tf_frame_seal(const struct tf_frame_keys *keys, struct tf_frame_header *header,
                  struct tf_slice meta, struct tf_slice payload, struct tf_buf *frame,
                  uint8_t leaf[TF_DIGEST_BYTES], uint32_t *body_crc);

/* Sets durable, header CRC, chain (moved on) and trailer of one frame of size bytes at data. */
int tf_frame_finish(uint8_t *data, size_t size, uint64_t durable,
                    const uint8_t leaf[TF_DIGEST_BYTES], uint32_t body_crc,
                    uint8_t chain[TF_CHAIN_BYTES]);

/*
 * Opens an encrypted body. plain is emptied and filled; meta and payload borrow from it.
 * -EBADMSG: damaged or forged (tag, nonce, D); -EPROTO: authentic but not this format.
 */
int tf_frame_open(const struct tf_frame_keys *keys, const uint8_t raw[TF_FRAME_HEADER_BYTES],
                  struct tf_slice body, struct tf_buf *plain, struct tf_meta *meta,
                  struct tf_slice *payload);

int tf_leaf(const uint8_t segment_id[16], const uint8_t header[TF_FRAME_HEADER_BYTES],
            struct tf_slice body, uint8_t leaf[TF_DIGEST_BYTES]);
int tf_chain_open(uint8_t chain[TF_CHAIN_BYTES], const uint8_t sector0[TF_SECTOR_BYTES]);
int tf_chain_next(uint8_t chain[TF_CHAIN_BYTES], const uint8_t leaf[TF_DIGEST_BYTES],
                  uint64_t durable);

/* ---- slots.c: as crypto.c -------------------------------------------------------------------- */

/*
 * Draws a DEK, fills sector->dek_id, which must be all that is missing there, and keys, and wraps
 * it into slots: for the ring's first KEK, and for its auditor when it has one. 0 or -errno.
 */
int tf_dek_new(const struct tf_keyring *ring, struct tf_sector0 *sector,
               struct tf_key_slot slots[TF_SEGMENT_SLOTS], struct tf_frame_keys *keys);

/*
 * Opens the DEK of a segment by any key of the ring. slots are the raw sectors 1-7.
 * Returns 0; -ENOKEY when sound slots are there but none for a key of the ring; -EPROTO when no
 * slot is sound, or the one that should open does not.
 */
int tf_dek_open(const struct tf_keyring *ring, const struct tf_sector0 *sector,
                const uint8_t *slots, struct tf_frame_keys *keys);

/* The slot that lets the ring's first KEK open the DEK, which any key of the ring opens now. Errors
 * as of tf_dek_open. */
int tf_dek_rewrap(const struct tf_keyring *ring, const struct tf_sector0 *sector,
                  const uint8_t *slots, struct tf_key_slot *out);

#define TF_KEK_UNKNOWN 254u /* of no KEK in the ring */
#define TF_KEK_NONE    255u
/* Who may open a segment, by the ids in its sound slots. Nothing is proved by that. */
struct tf_slots_found {
    uint8_t kek; /* index in the ring of the first KEK that has a slot; TF_KEK_UNKNOWN, _NONE */
    bool has_old_kek; /* a KEK slot of another than the ring's first */
    bool has_recipient;
    uint8_t unknown_id[TF_KEY_ID_BYTES]; /* with TF_KEK_UNKNOWN: of a KEK that is wanted */
};
struct tf_slots_found tf_slots_look(const struct tf_keyring *ring, const uint8_t *slots);
/* Only the auditor's key opens it: nothing here ever will. */
static inline bool tf_slots_are_auditors(const struct tf_slots_found *slots)
{
    return slots->kek == TF_KEK_NONE && slots->has_recipient;
}

/* ---- hpke.c: as crypto.c -------------------------------------------------------------------- */

enum tf_hpke_aead { TF_HPKE_AES_128_GCM = 1, TF_HPKE_AES_256_GCM = 2 };
struct tf_hpke_message {
    struct tf_slice info, aad;
    struct tf_slice text; /* to seal; or what was sealed, with its tag */
};

/*
 * Seals text to the recipient's public key: out has room for text and TF_GCM_TAG_BYTES. fresh are
 * 32 random bytes that are used once and then wiped. -EBADMSG: a key to which nothing can be
 * sealed.
 */
int tf_hpke_seal(enum tf_hpke_aead aead, const uint8_t recipient[TF_KEY_BYTES],
                 const uint8_t fresh[TF_KEY_BYTES], const struct tf_hpke_message *message,
                 uint8_t enc[TF_KEY_BYTES], uint8_t *out);
/* out has room for text without its tag. -EBADMSG: for another key, or altered. */
int tf_hpke_open(enum tf_hpke_aead aead, const uint8_t private_key[TF_KEY_BYTES],
                 const uint8_t enc[TF_KEY_BYTES], const struct tf_hpke_message *message,
                 uint8_t *out);
int tf_x25519_public(const uint8_t private_key[TF_KEY_BYTES], uint8_t out[TF_KEY_BYTES]);

/* ---- auditor.c: pure ------------------------------------------------------------------------ */

int tf_recipient_id(const uint8_t public_key[TF_KEY_BYTES], uint8_t id[TF_KEY_ID_BYTES]);
/* A public key in PEM. 0, or -EPROTO: not an X25519 key, or one to which nothing can be sealed. */
int tf_auditor_parse(struct tf_slice pem, uint8_t public_key[TF_KEY_BYTES]);
/* A private key in PEM; passphrase.data NULL: none. 0; -EACCES: it wants another passphrase;
 * -EPROTO; -EIO. */
int tf_private_parse(struct tf_slice pem, struct tf_slice passphrase, struct tf_private_key *out);

/* ---- keys.c --------------------------------------------------------------------------------- */

/* Room for "<spool path>.key" is the caller's. Returns 0 or -ENAMETOOLONG. */
int tf_key_beside_path(const char *spool_path, char *out, size_t size);

/*
 * Loads the listed keys, or the one beside the spool, which is made when may_make is set and it is
 * missing. Returns 0 (ring filled), -ENOENT when there is none and none may be made (nothing is
 * added to err), -EINVAL with a finding.
 */
int tf_keys_load(const struct tf_spool_options *options, bool may_make, struct tf_keyring *ring,
                 bool *made, struct tf_error *err);

/* The auditor's public key into the ring, when the options name one. 0, or -EINVAL with a finding.
 */
int tf_auditor_load(const struct tf_spool_options *options, struct tf_keyring *ring,
                    struct tf_error *err);

/* One key file's content, "taffrail-kek-1:" base64. Pure: fuzzable. 0 or -EPROTO. */
int tf_key_parse(struct tf_slice text, uint8_t key[TF_KEY_BYTES]);

/* Where a reader (`verify`, `replay`) has its keys from: the first of these that is there. */
struct tf_reader_keys {
    const char *const *files; /* --key FILE: each a KEK, or an auditor's private key in PEM */
    size_t file_count;
    const char *passphrase_file;            /* of an auditor's key; NULL: it has none */
    const struct tf_spool_options *options; /* of a configuration (-c), or NULL */
    const char *spool_path;                 /* then SPOOL.key beside it; or NULL */
};

/*
 * Returns new in *out: tf_keyring_free. 0; -ENOENT when there is no key at all, and nothing is
 * added to err: read on without; -EINVAL with a finding; -ENOMEM. Blocks.
 */
int tf_reader_keys_load(const struct tf_reader_keys *from, struct tf_keyring **out,
                        struct tf_error *err);
void tf_keyring_free(struct tf_keyring *ring); /* wipes; accepts NULL */

/* ---- gzip.c --------------------------------------------------------------------------------- */

struct tf_gzip;                            /* one worker at a time */
struct tf_gzip *tf_gzip_new(int compress); /* enum tf_compress; returns new, NULL: no memory */
void tf_gzip_free(struct tf_gzip *gzip);
/* Appends the gzip of in to out. 0, -ENOMEM, -EMSGSIZE. */
int tf_gzip_run(struct tf_gzip *gzip, struct tf_slice in, struct tf_buf *out);

/* ---- state.c -------------------------------------------------------------------------------- */

struct tf_state_entry;
struct tf_state {
    struct tf_state_entry **entries; /* by key */
    size_t count, capacity;
    size_t promised; /* entries that prepared changes may still add */
};

/* Deltas with all the memory that they need, so that applying them cannot fail. */
struct tf_changes {
    struct tf_change *items;
    size_t count, capacity;
};

void tf_state_fini(struct tf_state *state);
int tf_state_prepare(struct tf_state *state, struct tf_slice deltas, struct tf_changes *changes);
void tf_state_apply(struct tf_state *state, struct tf_changes *changes);   /* empties changes */
void tf_state_abandon(struct tf_state *state, struct tf_changes *changes); /* empties changes */
int tf_state_fold(struct tf_state *state, struct tf_slice deltas);         /* prepare and apply */
bool tf_state_find(const struct tf_state *state, struct tf_slice key, struct tf_slice *value);
size_t tf_state_find_list(const struct tf_state *state, struct tf_slice key,
                          struct tf_slice values[TF_STATE_LIST_MAX]);
void tf_state_walk(const struct tf_state *state, struct tf_slice prefix, tf_state_fn *fn,
                   void *ctx);
/* The whole state as deltas, in at least one chunk of about TF_SNAPSHOT_CHUNK_BYTES. Returns new
 * in *chunks, *count of them; free with tf_snapshot_free. 0 or -ENOMEM. */
int tf_snapshot_new(const struct tf_state *state, struct tf_buf **chunks, size_t *count);
void tf_snapshot_free(struct tf_buf *chunks, size_t count);

/* ---- segments ------------------------------------------------------------------------------- */

/* The frames that no seal covers yet. */
struct tf_cover {
    uint64_t from_seq; /* the first; 0: none */
    uint64_t bytes;
    uint32_t gaps;
    int64_t time_min_ns, time_max_ns; /* both 0: no events */
};
/* A frame more; a seal covers all before it. */
void tf_cover_add(struct tf_cover *cover, const struct tf_frame_header *header);
/* Widens the times by those of a frame with events. */
void tf_times_add(const struct tf_frame_header *header, int64_t *min_ns, int64_t *max_ns);
/* Widens them by others; 0 and 0: none. */
void tf_times_join(int64_t more_min_ns, int64_t more_max_ns, int64_t *min_ns, int64_t *max_ns);

/* A place behind a frame: what a reader or writer must know to go on there. */
struct tf_spot {
    uint64_t segment_no, offset;
    uint64_t seq;    /* of the frame before it */
    uint64_t events; /* up to and with it, since the spool was made */
    uint8_t chain[TF_CHAIN_BYTES];
};

struct tf_segment {
    uint64_t no, first_seq, last_seq;
    uint64_t end;           /* bytes that count; of the newest: durable */
    uint64_t base;          /* ends of all segments before it, added up */
    uint64_t prev_last_seq; /* from its header */
    uint64_t events_before;
    int64_t created_ns;
    uint8_t id[16], spool_id[TF_SPOOL_ID_BYTES];
    bool begins_lineage; /* after that of prev_spool_id */
    uint8_t prev_spool_id[TF_SPOOL_ID_BYTES];
    struct tf_slots_found slots; /* as found by the start, or left by rewrap.c */
    bool slots_failed;           /* rewriting them; not tried again in this life */
    bool has_no_seal;            /* as found: retention.c; false: not known */
};

void tf_segment_name(uint64_t no, char name[TF_SEGMENT_NAME_BYTES]);

/* Reads all of size bytes at offset; what lies past the end, or in sectors that the disk cannot
 * read, is zero. 0 or -errno. */
int tf_read_at(int fd, void *to, size_t size, uint64_t offset);
/* The same; sets *is_bad when there are such sectors. A disk that is away for a moment looks so. */
int tf_read_around(int fd, void *to, size_t size, uint64_t offset, bool *is_bad);
/* At a start, which blocks: a file that cannot be read is tried again each second, so often, before
 * what is read as zero counts. */
#define TF_READ_TRIES_MAX 5u
int tf_read_patiently(int fd, const char *file, void *to, size_t size, uint64_t offset);
void tf_wait_for_disk(const char *file); /* says so, and waits that second */
int tf_sync_dir(int dir_fd);

/* A segment to be made; runs on a worker, touches only itself. */
struct tf_segment_plan {
    int dir_fd;
    struct tf_sector0 sector;
    struct tf_key_slot slots[TF_SEGMENT_SLOTS];
    struct tf_frame_keys *keys; /* the plan's, until it is adopted */
    uint64_t size_bytes;        /* to allocate */
    struct tf_buf *chunks;      /* snapshot */
    size_t chunk_count;
    uint64_t synced_seq; /* `durable` of its first frames */
    int old_fd;          /* of the segment before it, or -1: released behind old_written, closed */
    uint64_t old_written;
    /* out, on success */
    int fd;
    struct tf_spot end;
};
int tf_segment_create(struct tf_segment_plan *plan);

/* ---- listing.c ------------------------------------------------------------------------------ */

struct tf_listed {
    uint64_t no;
    uint64_t run; /* of its frames, also where only their first header is sound; 0: not known */
    bool sound;   /* sector is */
    bool has_bad; /* the disk could not read a part of it */
    struct tf_sector0 sector;
    struct tf_slots_found slots;
};
struct tf_listing {
    struct tf_listed *files; /* by number */
    size_t count, capacity;
};

/* Lists the names of segments, at most 2^20; nothing of the files is read. 0 or -errno. */
int tf_listing_read(int dir_fd, struct tf_listing *out);
void tf_listing_fini(struct tf_listing *listing);
/* Reads the header; ring NULL: not its slots. It is sound when sector 0 is that file's. 0 (a
 * planted link or folder too: not sound), -ENOENT, other -errno. */
int tf_listed_read(int dir_fd, const struct tf_keyring *ring, struct tf_listed *file);
/* Headers of other spools are not sound any more. spool_id is spool.meta's; NULL: it is lost, and
 * the newest decides. 0 or -ENOMEM. */
int tf_listing_keep_own(struct tf_listing *listing, const uint8_t *spool_id);
/*
 * The segments that count, by docs/spool-format.md, newest first: walks back from files[newest]. A
 * sound header that begins behind the number on which its successor builds is an attempt that came
 * to nothing. chosen has room for newest + 1. Returns how many.
 */
size_t tf_listing_choose(const struct tf_listing *listing, size_t newest, size_t *chosen);

/* ---- scan.c --------------------------------------------------------------------------------- */

struct tf_scan {
    int fd;
    struct tf_sector0 sector;
    struct tf_frame_keys *keys; /* NULL: only checksums and chain are checked, nothing opened */
    struct tf_spot at;
    uint64_t end;       /* bytes to look at */
    bool is_unanchored; /* at.chain was read, not computed */
    bool has_bad;       /* sectors that the disk could not read were met; set, never cleared */
    struct tf_buf raw, plain;
};

/* One good frame, and the hole before it (hole_to 0: none). Slices borrow from the scan. */
struct tf_scanned {
    struct tf_frame_header header;
    uint64_t begin; /* its offset */
    struct tf_meta meta;
    struct tf_slice payload;
    struct tf_slice content;     /* of a clear frame: seal, footer, notice; else empty */
    uint64_t hole_from, hole_to; /* numbers */
    uint64_t hole_events;        /* as far as headers in it could be read */
    uint64_t hole_frames;        /* numbers missing */
};

/* Opens segment no and its keys; without ring it is read without keys. 0; -ENOENT; -ENOKEY;
 * -EPROTO; other -errno. at is its first frame, end the file's size. */
int tf_scan_open(struct tf_scan *scan, int dir_fd, uint64_t no, const struct tf_keyring *ring);
void tf_scan_close(struct tf_scan *scan); /* sound on a zeroed struct with fd -1 */
/* 1: a frame, and at has moved behind it; 0: no good frame up to end (at stays); -errno. */
int tf_scan_next(struct tf_scan *scan, struct tf_scanned *out);
/* The highest `durable` of first and all good frames behind it; the scan stays where it is, what it
 * gave before is lost. Tells rot from the end of what counts (C5). 0 or -errno. */
int tf_scan_look_ahead(struct tf_scan *scan, const struct tf_scanned *first, uint64_t *durable);
/* Moves over frames up to number seq by their headers alone; stops at the first that is bad. */
int tf_scan_skip(struct tf_scan *scan, uint64_t seq);
/*
 * Moves over frames that hold no events of from_ns <= t < to_ns, or have a number up to after_seq,
 * by their headers alone: up to the first that may, or is bad, or the end. Headers are not proved
 * here: whoever may write the file may hide a frame so; `verify` finds it. 0 or -errno.
 */
struct tf_scan_want {
    int64_t from_ns, to_ns;
    uint64_t after_seq;
    bool is_for_seals; /* nothing of the above: up to the first seal or footer */
};
int tf_scan_hop(struct tf_scan *scan, const struct tf_scan_want *want);

/* ---- the spool ------------------------------------------------------------------------------ */

/* The part of a frame that feeds share. On the loop. */
struct tf_body {
    uint32_t refs;
    struct tf_frame_header header;
    uint8_t spool_id[TF_SPOOL_ID_BYTES];
    uint8_t chain[TF_CHAIN_BYTES];
    char tag[TF_TAG_MAX + 1];
    struct tf_buf payload;
};
struct tf_body *tf_body_new(const struct tf_frame_header *header, struct tf_slice tag);
void tf_body_unref(struct tf_body *body); /* accepts NULL */

struct tf_cached {
    struct tf_body *body;
    struct tf_spot after;
};
#define TF_CACHE_MAX_BYTES  (2u << 20)
#define TF_CACHE_MAX_FRAMES 1024u

#define TF_ENCODERS 4u
enum tf_draft_step {
    TF_DRAFT_WAITING,
    TF_DRAFT_ENCODING,
    TF_DRAFT_ENCODED,
    TF_DRAFT_WRITING,
    TF_DRAFT_WRITTEN,
};

/* ages.c: when frames were read. Loop only. */
#define TF_AGES_MAX 1024u
struct tf_age {
    uint64_t seq, read_ms;
};
struct tf_ages {
    struct tf_age items[TF_AGES_MAX]; /* in order of number */
    uint32_t count;
    uint32_t stride, passed; /* one frame of so many gets an entry; frames since it */
};
/* seq rises from call to call; nobody asks for what is up to lowest_seq any more. */
void tf_ages_note(struct tf_ages *ages, uint64_t seq, uint64_t read_ms, uint64_t lowest_seq);
uint64_t tf_ages_find(const struct tf_ages *ages, uint64_t seq); /* 0: not known */

/* A draft on its way; in one list, in order. */
struct tf_write {
    struct tf_write *next;
    struct tf_spool *spool;
    enum tf_draft_step step;
    bool orphan; /* its run ended while a worker had it */
    uint32_t encoder;
    uint64_t ordinal; /* of all drafts taken */
    struct tf_frame_header header;
    char tag[TF_TAG_MAX + 1];
    struct tf_buf payload, deltas;
    uint64_t read_ms;     /* 0: not told */
    size_t counted_bytes; /* in unsynced_bytes */
    size_t worst_bytes;   /* its frame has at most so many */
    struct tf_changes changes;
    tf_draft_done_fn *done;
    void *ctx;
    uv_work_t work;
    const struct tf_frame_keys *keys; /* of the segment it belongs to */
    struct tf_gzip *gzip;
    struct tf_buf packed; /* gzip of payload */
    struct tf_buf frame;
    uint8_t leaf[TF_DIGEST_BYTES];
    uint32_t body_crc;
    int status;
    struct tf_spot after; /* once written */
};

struct tf_io_job {
    uv_work_t work;
    int fd, dir_fd;
    struct tf_buf bytes;
    uint64_t offset;
    bool sync;
    struct tf_spot end;        /* once written */
    struct tf_cover cover;     /* at end */
    bool sync_wanted, is_seal; /* by a frame in it; a seal is */
    uint64_t free_bytes, sync_ns;
    int status;
};

struct tf_save_job {
    uv_work_t work;
    int fd;
    uint32_t slot;
    struct tf_cursor_table table;
    uint64_t ordinals[TF_CURSORS_MAX];
    uint8_t bytes[TF_CURSOR_SLOT_BYTES];
    int status;
};

#define TF_UNLINKS_MAX 4096u /* numbers tried by one job */
struct tf_retention_job {
    uv_work_t work;
    int dir_fd;
    bool is_look, shred;
    struct tf_expiry expiry;
    uint64_t from, to; /* segments from <= no < to; voids and numbers never used among them */
    uint64_t kept_no, kept_end; /* a segment that stays, looked into for a seal */
    bool has_seal;              /* it has one */
    uint64_t free_bytes;
    int status;
};
enum tf_retention_step {
    TF_RETENTION_REST,
    TF_RETENTION_LOOK,
    TF_RETENTION_NOTICE,
    TF_RETENTION_DUE,
};

/* Key slots of one segment to rewrite. */
struct tf_slots_job {
    uv_work_t work;
    int dir_fd;
    const struct tf_keyring *ring;
    uint64_t no;
    uint8_t id[16];
    bool for_auditor;            /* zero the KEK's slots; else: wrap for the first KEK */
    struct tf_slots_found found; /* afterwards */
    int status;
};
struct tf_index_entry;
struct tf_sealing;

/* A new lineage, begun by a fork: witness.c. */
struct tf_lineage {
    bool noticing; /* the notice of the fork is on its way */
    bool wanted;   /* the next segment begins it; nothing more goes into this one */
    bool planned;  /* it has its id, and the run its number */
    uint8_t id[TF_SPOOL_ID_BYTES];
    uint64_t foreign_run; /* of the frame that told of the fork */
    uint32_t begun;       /* since start */
    uint64_t begun_ms;    /* the newest; 0: none */
    uint64_t told_ms;     /* a fork without one; 0: none */
};

struct tf_spool {
    uv_loop_t *loop;
    char *path;
    struct tf_spool_options options; /* numbers only; texts are not kept */
    struct tf_spool_callbacks callbacks;
    int dir_fd, lock_fd;
    uint8_t id[TF_SPOOL_ID_BYTES];
    struct tf_keyring *ring;
    bool key_is_beside;

    struct tf_state state;
    struct tf_segment *segments; /* oldest first; the last is written to */
    size_t segment_count, segment_capacity;
    uint64_t next_segment_no, lowest_no; /* of any file, void ones too */

    /* writer */
    uint64_t run, next_seq;
    uint8_t run_id[16];
    int fd; /* of the newest segment; -1: none yet */
    struct tf_frame_keys *keys;
    struct tf_spot appended, synced, mark;
    struct tf_cover appended_cover, synced_cover, mark_cover; /* at each of them */
    uint64_t written_end;                                     /* bytes ever written to fd */
    struct tf_index_entry *index; /* of the newest segment, TF_INDEX_MAX */
    uint32_t index_count;
    bool finished; /* index and footer are made: no more frames in it */
    uint32_t frames_in_segment;
    bool has_data_frames; /* the newest segment has more than a snapshot and notices */
    struct tf_write *first, *last, *first_waiting, *first_unwritten;
    size_t flying_bytes; /* at most so many will be appended by what workers have */
    int failed;          /* why the run must end */
    int old_fd;          /* of the segment before a new one, until that is durable */
    uint64_t old_written;
    uint64_t taken, sync_target; /* ordinals */
    uint64_t appended_ordinal, synced_ordinal;
    size_t unsynced_bytes;
    struct tf_gzip *gzips[TF_ENCODERS];
    bool gzip_busy[TF_ENCODERS];
    struct tf_buf spare; /* the memory of a payload that was encoded, for the next draft */
    uint32_t encoding;
    struct tf_io_job io;
    bool io_running, needs_segment, creating, create_wait, releasing;
    uint32_t next_flags; /* of the next segment */
    uv_work_t create_work;
    struct tf_segment_plan plan;
    int create_status;

    struct tf_sealing *sealing; /* seal.c */
    struct tf_lineage lineage;

    /* cursors */
    int cursors_fd;
    struct tf_cursor_table now, saved;
    bool is_new[TF_CURSORS_MAX]; /* no place yet: 0 is one, too */
    bool unsaved_names;          /* the file does not know of some cursor */
    uint64_t ordinals[TF_CURSORS_MAX], saved_ordinals[TF_CURSORS_MAX];
    struct tf_save_job save;
    uint32_t good_slot;
    bool saving, save_wanted;

    /* feeds */
    struct tf_feed *feeds;
    uint32_t feed_jobs;
    struct tf_cached *cache; /* ring of TF_CACHE_MAX_FRAMES */
    uint32_t cache_first, cache_count;
    size_t cache_bytes;
    uint64_t retained_seq; /* next_seq when retention looked last */
    uint32_t rested_ticks;
    uint64_t cache_floor; /* all data frames above this number are in the cache */
    struct tf_ages ages;
    uv_timer_t wake_timer, tick_timer;
    uint32_t open_handles;

    struct tf_slots_job slots_job;
    bool slots_running;
    bool key_changed;   /* the newest segment found was another KEK's than the ring's first */
    uint64_t rewrapped; /* and not yet told */
    uint32_t remind_ticks;

    struct tf_retention_job retention;
    enum tf_retention_step retention_step;
    struct tf_expiry told;   /* by the last notice */
    bool owed_tried;         /* a save of now.owed has ended */
    uint32_t notices_coming; /* notices of it that are not durable yet */
    bool retaining;          /* a job of it runs */
    bool retention_wait;     /* it failed: until the next tick */
    bool just_saved;         /* the call comes from a save of cursors */
    uint64_t free_bytes;
    bool had_room;
    uint64_t full_since_ms; /* while it has none */

    struct tf_spool_status status;
    bool gave_up, closing, close_saved, closed;
    void (*on_closed)(void *ctx);
    void *closed_ctx;
};

/* recover.c: everything of a start up to the first segment of the run. 0 or -errno with a
 * finding. */
int tf_spool_recover(struct tf_spool *spool, const struct tf_place *at, struct tf_error *err);

/* roll.c */
int tf_segments_add(struct tf_spool *spool, const struct tf_segment *segment);
int tf_segments_reserve(struct tf_spool *spool, size_t more);
const struct tf_segment *tf_segments_find(const struct tf_spool *spool, uint64_t no);
uint64_t tf_spot_address(const struct tf_spool *spool, const struct tf_spot *spot);
int tf_plan_segment(struct tf_spool *spool); /* fills spool->plan */
void tf_new_run(struct tf_spool *spool);     /* the next number is 1 of the next run */
void tf_plan_drop(struct tf_spool *spool);
void tf_plan_adopt(struct tf_spool *spool); /* the plan worked: the newest segment is its */
void tf_segment_begin(
    struct tf_spool *spool); /* plans one and has it made; no worker uses the keys */

/* writer.c */
void tf_writer_pump(struct tf_spool *spool);
/* Notes what the disk refused, for the status. */
void tf_disk_failed(struct tf_spool *spool, enum tf_disk_error what, int error);
void tf_writer_tick(struct tf_spool *spool);   /* tries again to make a segment; seals in time */
void tf_writer_finish(struct tf_spool *spool); /* at close: index and footer */
void tf_writer_cancel(struct tf_spool *spool); /* at close: what cannot be written */

/* witness.c */
int tf_lineage_plan(struct tf_spool *spool);                              /* 0 or -EIO */
void tf_lineage_adopt(struct tf_spool *spool, const struct tf_sector0 *); /* its segment is there */

/* cursors.c */
int tf_cursors_open(struct tf_spool *spool, const char *const *outputs, size_t output_count,
                    bool is_new, uint64_t *highest_run);
void tf_cursors_save(struct tf_spool *spool); /* begins, or is remembered */
bool tf_cursors_dirty(const struct tf_spool *spool);
bool tf_cursors_begun(const struct tf_spool *spool);         /* each output has a place */
uint64_t tf_cursors_saved_min(const struct tf_spool *spool); /* UINT64_MAX: no output */

/* feed.c */
void tf_feeds_released(struct tf_spool *spool, struct tf_write *write); /* durable: to the cache */
void tf_feeds_wake(struct tf_spool *spool);
void tf_feeds_tick(struct tf_spool *spool);
void tf_feeds_begin_save(struct tf_spool *spool, struct tf_cursor_table *table);
void tf_feeds_end_save(struct tf_spool *spool, int status);
void tf_feeds_fini(struct tf_spool *spool);
/* The lowest number of a frame that some output has and did not ack, or that is being read;
 * UINT64_MAX: none. */
uint64_t tf_feeds_first_in_flight(const struct tf_spool *spool);
/* Segments below no are deleted: their descriptors are let go. */
void tf_feeds_forget(struct tf_spool *spool, uint64_t no);
/* The lowest place of any output, in bytes since the oldest segment, and events up to it. */
void tf_feeds_lowest(const struct tf_spool *spool, uint64_t *address, uint64_t *events);
uint64_t tf_feeds_lowest_seq(const struct tf_spool *spool); /* of all cursors */

/* rewrap.c */
void tf_slots_opened(struct tf_spool *spool); /* the notice of a new first key */
void tf_slots_run(struct tf_spool *spool);    /* begins the next job, when one is due */
void tf_slots_tick(struct tf_spool *spool);   /* the same, and says which keys are missing */
uint64_t tf_slots_unreadable(const struct tf_spool *spool); /* segments that no key opens */
int tf_slots_shred(int dir_fd, uint64_t no);                /* on a worker */

/* retention.c */
void tf_retention_run(struct tf_spool *spool);
void tf_retention_tick(struct tf_spool *spool); /* the same, and tries again what failed */
/* A worker is deleting that segment: nobody begins to read it. Feeds are woken behind that. */
bool tf_retention_deletes(const struct tf_spool *spool, uint64_t no);
void tf_room_changed(struct tf_spool *spool); /* looks anew; tells on_room */
uint64_t tf_free_bytes(int dir_fd);           /* of the disk; any thread */
uint64_t tf_pending_bytes(const struct tf_spool *spool);

/* weak.c: adds warnings; the options are sound. */
void tf_spool_weaknesses(const struct tf_spool_options *options, struct tf_error *err);
/* The name of a filesystem, by statfs, that does not overwrite in place here; else NULL. */
const char *tf_copying_filesystem(uint32_t type);

/* spool.c: replaces spool.meta, whole or not at all, synced; a worker, or before the loop runs. */
int tf_spool_meta_write(int dir_fd, const uint8_t id[TF_SPOOL_ID_BYTES]);
/* called at the end of each after-callback while closing. */
void tf_spool_advance_close(struct tf_spool *spool);

#endif
