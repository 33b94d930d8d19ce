/*
 * seal.h - seals and notices as bytes and keys: shared by the writer, `pki seal` and `verify`.
 *
 *     seal_format.c  contents of seals, notices and the index; seal.state; the text of a
 *                    verification key. Pure
 *     seal_keys.c    K_0, its successors, MACs
 *     seal_state.c   the file seal.state: two slots, in place
 *     seal.c         when a live spool seals (docs/guarantees.md G)
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

/* ---- notices, in writer.c ---------------------------------------------------------------------
 */

/* Appends a notice; done as of a draft: it is durable, or its run ended. On the loop. */
int tf_notice_append(struct tf_spool *spool, const struct tf_notice *notice, tf_draft_done_fn *done,
                     void *ctx);

#endif
