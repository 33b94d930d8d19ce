/*
 * seal.h - seals and notices as bytes and keys: shared by the writer, `pki seal` and `verify`.
 *
 *     seal_format.c  contents of seals, notices and the index; seal.state; the text of a
 *                    verification key. Pure
 *     seal_keys.c    K_0, its successors, MACs
 *     seal_state.c   the file seal.state: two slots, in place
 *     seal.c         when a live spool seals (docs/guarantees.md G)
 *     seal_start.c   what a start makes of the state and the seals that it finds
 *     index.c        the index frame
 *
 * Layouts and formulas: docs/spool-format.md, section Seal.
 */
#ifndef TAFFRAIL_SPOOL_SEAL_H
#define TAFFRAIL_SPOOL_SEAL_H

#include "internal.h"

#define TF_SEAL_ID_BYTES     8u
#define TF_SEAL_RECEIPTS_MAX 8u
#define TF_SEAL_FIXED_BYTES  160u /* content without receipts */
#define TF_SEAL_MAX_BYTES    (TF_SEAL_FIXED_BYTES + TF_SEAL_RECEIPTS_MAX * TF_RECEIPT_BYTES)
#define TF_SEAL_SLOT_BYTES   120u
#define TF_SEAL_STATE_BYTES  8192u
#define TF_SEAL_TEXT_BYTES   106u /* "TFS1-", 84 characters in 17 groups, NUL */
#define TF_NOTICE_BYTES      72u
#define TF_INDEX_ENTRY_BYTES 40u
#define TF_INDEX_MAX         1024u

struct tf_seal {
    uint64_t number;
    uint8_t id[TF_SEAL_ID_BYTES];
    uint64_t from_seq, to_seq;
    uint8_t chain[TF_CHAIN_BYTES];
    uint64_t events;
    uint32_t gaps, receipt_count;
    int64_t time_min_ns, time_max_ns;
    uint8_t prev_mac[TF_DIGEST_BYTES];
    uint8_t receipts[TF_SEAL_RECEIPTS_MAX][TF_RECEIPT_BYTES];
    uint8_t mac[TF_DIGEST_BYTES];
};

enum tf_notice_kind {
    TF_NOTICE_RECOVERY = 1,
    TF_NOTICE_EXPIRE = 2,
    TF_NOTICE_KEY_CHANGE = 3,
    TF_NOTICE_FORK = 4,
    TF_NOTICE_SEAL_LOST = 5,
    TF_NOTICE_SEAL_BEGUN = 6,
    TF_NOTICE_RECEIPT_KEY = 7,
};
enum tf_expire_cause {
    TF_EXPIRE_AGE = 1,
    TF_EXPIRE_SIZE = 2,
    TF_EXPIRE_KEEP_FREE = 3,
    TF_EXPIRE_DROP_OLDEST = 4,
    TF_EXPIRE_DELIVERED = 5,
};
struct tf_notice {
    uint16_t kind; /* enum tf_notice_kind */
    int64_t time_ns;
    uint64_t a, b, c; /* docs/spool-format.md says what, for each kind */
    uint8_t id[32];
};

struct tf_index_entry {
    uint64_t seq, offset;
    int64_t time_min_ns, time_max_ns;
    uint64_t events_before;
};

/* In the secure heap. */
struct tf_seal_key {
    uint8_t spool_id[TF_SPOOL_ID_BYTES];
    uint8_t id[TF_SEAL_ID_BYTES];
    uint64_t number; /* of the seal that key makes */
    uint8_t key[TF_KEY_BYTES];
    uint8_t prev_mac[TF_DIGEST_BYTES];
    uint64_t sealed_seq;
};

/* ---- seal_format.c: 0 or -EPROTO ------------------------------------------------------------ */

/* Content without MAC, or with it (mac is the last 32 bytes). Returns the size with MAC. */
size_t tf_seal_encode(const struct tf_seal *seal, uint8_t out[TF_SEAL_MAX_BYTES]);
int tf_seal_decode(struct tf_slice content, struct tf_seal *out);
void tf_notice_encode(const struct tf_notice *notice, uint8_t out[TF_NOTICE_BYTES]);
int tf_notice_decode(struct tf_slice content, struct tf_notice *out);
void tf_index_entry_encode(const struct tf_index_entry *entry, uint8_t out[TF_INDEX_ENTRY_BYTES]);
/* Entries of a whole index, which must rise; at most TF_INDEX_MAX. Returns how many, or -EPROTO. */
int tf_index_decode(struct tf_slice bytes, struct tf_index_entry out[TF_INDEX_MAX]);
void tf_seal_slot_encode(const struct tf_seal_key *key, uint8_t out[TF_SEAL_SLOT_BYTES]);
int tf_seal_slot_decode(const uint8_t in[TF_SEAL_SLOT_BYTES], struct tf_seal_key *out);
/* Of a key with number 0. 0 or -EIO. */
int tf_seal_text(const struct tf_seal_key *key, char out[TF_SEAL_TEXT_BYTES]);
/* Letters in either case, hyphens and blanks anywhere. Fills spool_id, id, key; number 0. 0,
 * -EPROTO, -EIO. */
int tf_seal_text_parse(struct tf_slice text, struct tf_seal_key *out);

/* ---- seal_keys.c: 0 or -EIO ------------------------------------------------------------------ */

int tf_seal_key_new(const uint8_t spool_id[TF_SPOOL_ID_BYTES], struct tf_seal_key *out);
int tf_seal_key_id(struct tf_seal_key *key); /* fills id from key, which is K_0 */
/* K_s to K_{s+1}; number rises. The old key is wiped. */
int tf_seal_key_next(struct tf_seal_key *key);
/* content: tf_seal_encode's, without its last 32 bytes. raw: the frame's header, whose first 40
 * bytes are final. */
int tf_seal_mac(const struct tf_seal_key *key, const uint8_t segment_id[16],
                const uint8_t raw[TF_FRAME_HEADER_BYTES], struct tf_slice content,
                uint8_t mac[TF_DIGEST_BYTES]);

/* ---- clear frames, in crypto.c ----------------------------------------------------------------
 */

/* As tf_frame_seal, for types 4 to 6: body = content, tag. */
int tf_frame_seal_clear(const struct tf_frame_keys *keys, struct tf_frame_header *header,
                        struct tf_slice content, struct tf_buf *frame,
                        uint8_t leaf[TF_DIGEST_BYTES], uint32_t *body_crc);
/* The content of a clear body, borrowed, after tag and nonce were checked. 0, -EBADMSG, -EIO. */
int tf_frame_open_clear(const struct tf_frame_keys *keys, const uint8_t raw[TF_FRAME_HEADER_BYTES],
                        struct tf_slice body, struct tf_slice *content);

/* ---- seal_state.c: on a worker, or before the loop runs -------------------------------------- */

/* Reads the newest sound slot. 0; -ENOENT: no file; -EPROTO: no sound slot; other -errno. */
int tf_seal_state_read(int dir_fd, struct tf_seal_key *out, uint32_t *slot);
/* Makes the file, preallocated and written, with key in slot 0; with replace an old one is
 * overwritten in place first. Synced. 0, -EEXIST, other -errno. */
int tf_seal_state_make(int dir_fd, const struct tf_seal_key *key, bool replace);
/* Writes next into the other slot, syncs, zeroes slot, syncs. *slot is then the other one. */
int tf_seal_state_move(int fd, const struct tf_seal_key *next, uint32_t *slot);
int tf_seal_state_open(int dir_fd);            /* a descriptor for moves, or -errno */
int tf_seal_state_zero(int fd, uint32_t slot); /* and syncs */

/* ---- index.c -------------------------------------------------------------------------------- */

/* A frame was appended at offset. */
void tf_index_note(struct tf_spool *spool, const struct tf_frame_header *header, uint64_t offset,
                   uint64_t events_before);
/* Fills the frame of write, whose header has type, flags and seq. 0, -ENOMEM, -EIO. */
int tf_index_make(const struct tf_spool *spool, struct tf_write *write);
size_t tf_index_room(const struct tf_spool *spool); /* bytes that its frame takes, about */

/* ---- seal.c: on the loop -------------------------------------------------------------------- */

#define TF_SEAL_EVERY_MS     9000u /* with a tick of 1 s and a sync: at most 10 s behind */
#define TF_SEAL_EVERY_BYTES  (UINT64_C(64) << 20)
#define TF_RECEIPT_KEYS_LATE 8u /* notices of new keys on their way */

/* The newest receipt of one output. */
struct tf_receipt_slot {
    char output[TF_CURSOR_NAME_BYTES];
    uint8_t bytes[TF_RECEIPT_BYTES];
    uint64_t version; /* rises with each receipt; 0: none since the last seal that holds it */
};

struct tf_receipt_key_slot {
    bool used;
    uint8_t key[TF_RECEIPT_KEY_BYTES];
};

/*
 * A seal is made in steps: asked for (seq), made and written, synced, then the state file moves on
 * to the next key on a worker (moving), again each second while that fails (move_wait). One at a
 * time.
 */
struct tf_sealing {
    enum tf_seal_state state;
    struct tf_seal_key *key;  /* makes the next seal; NULL: none is made */
    struct tf_seal_key *next; /* the one after it, while the state moves */
    int fd;                   /* seal.state */
    uint32_t slot;            /* of key in it */
    uint64_t seq;             /* of the seal on its way; 0: none */
    uint8_t mac[TF_DIGEST_BYTES];
    bool moving, move_wait;
    bool at_once;      /* a run ended unsealed */
    uint64_t since_ms; /* when the oldest frame without seal was appended; 0: none */
    uint64_t every_ms, every_bytes;
    int64_t sealed_ns;
    uv_work_t work;
    int status;
    struct tf_receipt_slot receipts[TF_CURSORS_MAX];
    uint32_t receipt_count, receipt_first; /* known; where the next seal begins to take */
    uint64_t receipt_version;
    uint64_t carried[TF_CURSORS_MAX]; /* versions in the seal on its way */
    struct tf_receipt_key_slot late_keys[TF_RECEIPT_KEYS_LATE];
    uint64_t evolved;               /* seals that the state was behind at the start */
    uint64_t off_number;            /* while sealing is off: of the seal that is made next, once it
                                       is on again */
    bool begun;                     /* the first key is new */
    const char *event, *event_text; /* to be told on the loop */
};

int tf_sealing_new(struct tf_spool *spool); /* 0 or -ENOMEM; state off */
void tf_sealing_free(struct tf_spool *spool);
/* What a start finds: reads, evolves and writes seal.state, and says what is not covered yet. 0;
 * -EINVAL with a finding; other -errno. newest_flags: of the newest segment's sector 0. */
int tf_seal_start(struct tf_spool *spool, uint32_t newest_flags, struct tf_error *err);
/* For `check`: what tf_seal_start would find wrong. dir_fd -1: there is no spool yet. 1: it would
 * seal; 0: not; -EINVAL with a finding, -ENOMEM. */
int tf_seal_check(int dir_fd, const struct tf_spool_options *options, struct tf_error *err);
/* Notices of the start; the loop may run from here on. */
void tf_seal_opened(struct tf_spool *spool);
bool tf_seal_is_on(const struct tf_spool *spool);
bool tf_seal_is_busy(const struct tf_spool *spool); /* one is on its way */
bool tf_seal_is_due(const struct tf_spool *spool);
/* May be made now: sealing works, none is on its way, and a segment is open. */
bool tf_seal_is_possible(const struct tf_spool *spool);
void tf_seal_asked(struct tf_spool *spool, uint64_t seq);
/* Makes the frame over all before it: end and cover are there. 0, -ENOMEM, -EIO. */
int tf_seal_make(struct tf_spool *spool, const struct tf_spot *end, const struct tf_cover *cover,
                 struct tf_write *write);
void tf_seal_appended(struct tf_spool *spool); /* appended_cover has changed */
void tf_seal_synced(struct tf_spool *spool);
void tf_seal_run_ended(struct tf_spool *spool);
void tf_seal_tick(struct tf_spool *spool);
void tf_seal_status(const struct tf_spool *spool, struct tf_spool_status *status);

/* ---- seal.c ---------------------------------------------------------------------------------- */

/* A segment was made: notices of all collectors' keys that are known, since the older ones expire
 * with their segments. The caller pumps. */
void tf_seal_repeat_keys(struct tf_spool *spool);
/* The number of the seal that is made next, if sealing is off once it is on again; 0 where it is
 * lost, since only a new series can follow. */
uint64_t tf_seal_next_number(const struct tf_spool *spool);

/* ---- notices, in writer.c ---------------------------------------------------------------------
 */

/* Appends a notice and begins a sync; done as of a draft: it is durable, in mode `never` too, or
 * its run ended. May be NULL. On the loop. 0, -ENOMEM, -ECANCELED: the spool closes. */
int tf_notice_append(struct tf_spool *spool, const struct tf_notice *notice, tf_draft_done_fn *done,
                     void *ctx);
/* In front of all that waits, so before any seal of a segment that was just made; the caller pumps.
 * Without memory it is not there. */
void tf_notice_put_first(struct tf_spool *spool, const struct tf_notice *notice);

#endif
