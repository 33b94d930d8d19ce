/*
 * spool.h - the ordered segments on disk: buffer, checkpoint store and evidence in one.
 *
 * The spool takes drafts of frames in order, compresses and encrypts them on workers, chains and
 * appends them one at a time, syncs, and tells when they are durable. It keeps the folded state:
 * what the deltas in the frames add up to (positions of sources, names received). Feeds read it,
 * each with a cursor of its own. It knows neither inputs nor outputs. The bytes are in
 * docs/spool-format.md, the order of steps in docs/guarantees.md. All functions run on the loop;
 * file I/O and crypto run on workers.
 */
#ifndef TAFFRAIL_SPOOL_H
#define TAFFRAIL_SPOOL_H

#include <uv.h>

#include "taffrail/config.h"
#include "taffrail/histogram.h"
#include "taffrail/sandbox.h"

#define TF_SPOOL_ID_BYTES    16u
#define TF_CHAIN_BYTES       32u
#define TF_FRAME_NAME_BYTES  16u
#define TF_TAG_MAX           255u
#define TF_STATE_KEY_MAX     1024u
#define TF_STATE_VALUE_MAX   65536u
#define TF_STATE_LIST_MAX    64u          /* values kept of a list: K of docs/guarantees.md D4 */
#define TF_DRAFT_PAYLOAD_MAX (15u << 20)  /* events before compression */
#define TF_DRAFT_DELTAS_MAX  (512u << 10) /* together, encoded, one frame always holds both */

/* Frame numbers, shown as run/n. */
#define TF_SEQ_RUN(seq) ((uint64_t)(seq) >> 40)
#define TF_SEQ_N(seq)   ((uint64_t)(seq) & ((UINT64_C(1) << 40) - 1))

enum tf_frame_type {
    TF_FRAME_DATA = 1,
    TF_FRAME_POSITIONS = 2,
    TF_FRAME_GAP = 3,
    TF_FRAME_SEAL = 4,
    TF_FRAME_FOOTER = 5,
    TF_FRAME_NOTICE = 6,
    TF_FRAME_INDEX = 7,
};

struct tf_spool;
struct tf_feed;

/* ---- deltas: how frames change the folded state ------------------------------------------- */

enum tf_delta_op {
    TF_DELTA_SET = 1,    /* key := value */
    TF_DELTA_DELETE = 2, /* forget key */
    TF_DELTA_PUSH = 3,   /* key is a list: append value, keep the newest TF_STATE_LIST_MAX */
    TF_DELTA_NOTE = 4,   /* changes nothing: stays in the frame, for readers */
};

/* Appends one delta, msgpack [op, bin key, bin value], to deltas. Errors stick in deltas. Any
 * thread. */
void tf_delta_append(struct tf_buf *deltas, enum tf_delta_op op, struct tf_slice key,
                     struct tf_slice value);

/* The folded value of key; borrows until the next append. False when there is none (or key is a
 * list). */
bool tf_state_get(const struct tf_spool *spool, struct tf_slice key, struct tf_slice *value);

/* The values of a list, oldest first; returns how many were written to values. */
size_t tf_state_list(const struct tf_spool *spool, struct tf_slice key,
                     struct tf_slice values[TF_STATE_LIST_MAX]);

/* Calls fn for each key that begins with prefix, in order of key; of a list with value of size 0.
 * fn must not change the spool. */
typedef void tf_state_fn(void *ctx, struct tf_slice key, struct tf_slice value);
void tf_state_each(const struct tf_spool *spool, struct tf_slice prefix, tf_state_fn *fn,
                   void *ctx);

/* ---- boxes: small files of other rooms, sealed under the spool's key (box.c) ----------------- */

struct tf_box;
#define TF_BOX_TEXT_MAX (16u << 20)

/* purpose is a fixed word: what was sealed for another does not open. Returns new, independent of
 * the spool's life; NULL: no memory. Once made it may be used on any thread. */
struct tf_box *tf_box_new(const struct tf_spool *spool, const char *purpose);
void tf_box_free(struct tf_box *box); /* accepts NULL */
/* Appends. Returns 0, -ENOMEM, -EMSGSIZE or -EIO. */
int tf_box_seal(const struct tf_box *box, struct tf_slice text, struct tf_buf *out);
/* Appends the text. -EPROTO: it is no box; -EBADMSG: it was changed, or sealed by another key. */
int tf_box_open(const struct tf_box *box, struct tf_slice sealed, struct tf_buf *out);

/* ---- writing -------------------------------------------------------------------------------- */

/*
 * A frame to be. The caller fills it, tf_spool_append takes it whole (payload and deltas are
 * emptied). done comes exactly once, on the loop, in order of number: status 0 when the frame is
 * durable (in mode `never`: appended), -ECANCELED when the run ended before (a failed write or
 * sync) or the spool closes: the data is then not in the spool, and its source goes back to the
 * folded state.
 */
typedef void tf_draft_done_fn(void *ctx, int status, uint64_t seq);
struct tf_frame_draft {
    enum tf_frame_type type; /* DATA, GAP or POSITIONS (then without payload and tag) */
    char tag[TF_TAG_MAX + 1];
    int64_t time_min_ns, time_max_ns;
    uint32_t events;
    uint64_t read_ms;      /* when the first of it was read, by the loop's clock; 0: not told */
    struct tf_buf payload; /* encoded events */
    struct tf_buf deltas;  /* from tf_delta_append */
    tf_draft_done_fn *done;
    void *ctx;
};

/* An audit event of the spool: an event word of docs/records.md and a sentence. */
typedef void tf_spool_event_fn(void *ctx, const char *event, const char *text);

struct tf_spool_callbacks {
    void *ctx;
    tf_spool_event_fn *on_event; /* may come from inside any call: takes note, does its part later;
                                    texts are borrowed for the call; may be NULL */
    /* A failed write or sync ended the run, and a new one has begun: all sources go back to the
     * folded state. */
    void (*on_new_run)(void *ctx);
    /* tf_spool_has_room changed from false to true. */
    void (*on_room)(void *ctx);
};

/* How far the seal has come (docs/evidence.md). */
enum tf_seal_state { TF_SEALED_OFF, TF_SEALED_ON, TF_SEALED_LOST };

/* What a disk can refuse. */
enum tf_disk_error {
    TF_DISK_WRITE, /* a write or sync at the tail: the run ended */
    TF_DISK_SEGMENT,
    TF_DISK_CURSORS,
    TF_DISK_SEAL,
    TF_DISK_DELETE,
    TF_DISK_ERRORS
};

/* How the spool stands, for the books, `ready` and the bench. */
struct tf_spool_status {
    uint64_t segments, bytes_pending, bytes_retained, pending_events;
    uint64_t written_bytes, spooled_events; /* since start */
    uint64_t run;
    uint64_t torn_bytes;     /* set aside by the last start */
    uint64_t damaged_frames; /* passed over by the last start */
    bool key_is_beside;      /* made at first start, beside the spool */
    enum tf_seal_state seal;
    uint64_t seals, sealed_seq;      /* seals made so far; newest frame under a seal */
    int64_t sealed_ns;               /* when that was; 0: never */
    uint64_t expired_events;         /* deleted before every output had them, since start */
    uint64_t unreadable_segments;    /* that no key opens; they wait */
    int error;                       /* last disk error, 0 when well */
    uint64_t errors[TF_DISK_ERRORS]; /* since start */
    uint64_t max_bytes, free_bytes;  /* bound of bytes_pending; left on the disk */
    uint64_t full_ms;                /* without room, since start */
    struct tf_histogram sync;
};

/*
 * Makes what lies beside or above the spool's own files, once: its folder, the key where none is
 * named. From then on tf_spool_open and all that follows writes in the folder only; key files are
 * still read. Adds to needs what that is. is_reload: another main may have this spool open, which
 * then is no error; what tf_spool_open would find wrong is found now, as by tf_spool_check. Errors
 * as of tf_spool_open.
 */
int tf_spool_prepare(const struct tf_spool_options *options, bool is_reload, struct tf_needs *needs,
                     struct tf_error *err);

/*
 * Opens a spool, makes it when the directory is empty or absent, recovers it, and makes durable
 * what it accepts (docs/guarantees.md C6). Blocks: called before the loop runs. outputs names the
 * configured outputs: cursors of others are forgotten. callbacks is copied. Returns new in *out.
 * Errors go to err with the place of the option: -EINVAL for a key, mode or option that is wrong
 * (exit 2), other negative errno when the disk or lock refuses (exit 3).
 */
int tf_spool_open(uv_loop_t *loop, const struct tf_spool_options *options,
                  const char *const *outputs, size_t output_count,
                  const struct tf_spool_callbacks *callbacks, struct tf_spool **out,
                  struct tf_error *err);

/* What tf_spool_open would find wrong, without changing anything. For `check`. */
int tf_spool_check(const struct tf_spool_options *options, struct tf_error *err);

/* Free on its disk; before a first start, on that of the folder above. UINT64_MAX: not known. */
uint64_t tf_spool_free_bytes(const struct tf_spool_options *options);

/* Whether an agent seals what it writes there: a first key was made. */
bool tf_spool_would_seal(const struct tf_spool_options *options);

/*
 * `pki seal`: makes the first key of a spool, or with renew that of a new series, for the next
 * start to begin with. Takes the spool's lock; makes directory and spool id where there are none,
 * as a start would. keep gets the text of the verification key before seal.state is written, and
 * may refuse with a negative errno, which is returned. *first_seq is the first frame to be sealed.
 * Returns 0; -EINVAL: there is a key already, or one was lost and renew is not set; other negative
 * errno: disk or lock refuse (-EBUSY: an agent runs). All but keep's are told in err. Blocks.
 */
struct tf_seal_begin {
    const struct tf_spool_options *options;
    bool renew;
    int (*keep)(void *ctx, const char *text);
    void *ctx;
};
int tf_spool_seal_begin(const struct tf_seal_begin *begin, uint64_t *first_seq,
                        struct tf_error *err);

/* Syncs what is appended, calls each done, frees; then on_closed. All feeds are closed before. */
void tf_spool_close(struct tf_spool *spool, void (*on_closed)(void *ctx), void *ctx);

/* Makes an empty payload for a draft of data, with the memory of an earlier one where there is
 * some. The caller frees it, or the draft is taken. */
void tf_spool_payload(struct tf_spool *spool, struct tf_buf *payload);

/*
 * Takes a draft; gives it the next number. Whoever fills drafts asks tf_spool_has_room before
 * reading more. Returns 0; else the draft is not taken, and done will not come: -ENOMEM;
 * -EMSGSIZE when payload passes TF_DRAFT_PAYLOAD_MAX or deltas TF_DRAFT_DELTAS_MAX; -EPROTO when
 * the deltas are malformed; -ECANCELED when the spool closes.
 */
int tf_spool_append(struct tf_spool *spool, struct tf_frame_draft *draft);

/* At a stop that may not last longer: what waits for a segment that the disk refuses is cancelled,
 * and nothing more is taken; its sources read it again at the next start. */
void tf_spool_give_up(struct tf_spool *spool);

/* False while undelivered bytes are at max_size or the disk at keep_free: inputs pause. */
bool tf_spool_has_room(const struct tf_spool *spool);

/* Begins a sync that covers all that was taken so far (coalesced; in mode always the spool does it
 * by itself). */
void tf_spool_sync(struct tf_spool *spool);

/* Bytes of payload taken and not yet durable: pumps stop above a bound (pressure). */
size_t tf_spool_unsynced_bytes(const struct tf_spool *spool);

const uint8_t *tf_spool_id(const struct tf_spool *spool); /* TF_SPOOL_ID_BYTES */
const char *tf_spool_path(const struct tf_spool *spool);
void tf_spool_status(const struct tf_spool *spool, struct tf_spool_status *status);

/* ---- witness: what collectors answer ----------------------------------------------------------
 */

#define TF_RECEIPT_BYTES     192u /* docs/protocol.md */
#define TF_RECEIPT_KEY_BYTES 32u

/* The newest receipt that an output got and checked: it goes into the next seal. Copied; of an
 * output that the spool was not opened with it is not kept. */
void tf_spool_receipt(struct tf_spool *spool, const char *output,
                      const uint8_t receipt[TF_RECEIPT_BYTES]);
/* A collector's public key: a notice the first time that this spool sees it. */
void tf_spool_receipt_key(struct tf_spool *spool, const uint8_t key[TF_RECEIPT_KEY_BYTES]);
/* A sound receipt names a frame that this spool never made, or made otherwise: it was rolled back
 * or cloned. A notice, an audit event; a new lineage begins. */
void tf_spool_forked(struct tf_spool *spool, uint64_t seq, const uint8_t chain[TF_CHAIN_BYTES]);
/* The number of the newest durable frame. */
uint64_t tf_spool_newest_seq(const struct tf_spool *spool);
/* Whether a durable frame of that number exists, or was deleted: false when it is beyond the
 * newest, or between two segments, where no frame of ours ever was. */
bool tf_spool_may_have(const struct tf_spool *spool, uint64_t seq);
/* Whether id is this spool's, or that of an earlier lineage of which segments are kept. */
bool tf_spool_is_lineage(const struct tf_spool *spool, const uint8_t id[TF_SPOOL_ID_BYTES]);
/* An audit event of an output: handed to on_event. */
void tf_spool_event(struct tf_spool *spool, const char *event, const char *text);

/* ---- reading: feeds ---------------------------------------------------------------------------
 */

/*
 * A durable frame as an output sees it. Shared: tf_frame_ref and tf_frame_unref, on the loop.
 * payload is the gzip of the events. A derived gap (docs/guarantees.md F3) has is_gap_span set,
 * seq = gap_to, and a payload whose one record says what was deleted.
 */
struct tf_frame {
    uint64_t seq;
    /* of the lineage it was written in: older frames keep theirs */
    uint8_t spool_id[TF_SPOOL_ID_BYTES];
    uint64_t prev;                 /* number of the frame before it that this feed sends; 0: none */
    uint8_t chain[TF_CHAIN_BYTES]; /* its first TF_FRAME_NAME_BYTES are the frame's name */
    enum tf_frame_type type;       /* DATA or GAP */
    uint32_t events;
    uint32_t refs;
    int64_t time_min_ns, time_max_ns;
    bool is_gap_span;
    uint64_t gap_from, gap_to;
    const char *tag;
    struct tf_slice payload;
    const char *replayed; /* the job of a replay, or NULL */
};
/* A frame that no feed of a spool made: numbers and a copy of the tag of like; takes payload, on
 * failure too. NULL: no memory. */
struct tf_frame *tf_frame_make(const struct tf_frame *like, struct tf_buf *payload);
void tf_frame_ref(struct tf_frame *frame);
void tf_frame_unref(struct tf_frame *frame); /* accepts NULL */

struct tf_feed_options {
    const char *name;             /* of the output; at most 63 bytes */
    const struct tf_texts *match; /* tag globs; TAG taffrail.audit matches as any other */
    bool start_newest;            /* a new cursor begins behind the newest frame */
    uint32_t window;              /* frames handed out and not acked, at most; 1..32 */
    uint32_t unsaved_max;         /* frames beyond the saved cursor, at most (D2); 0: no bound */
    void (*on_ready)(
        void *ctx); /* tf_feed_next has a frame again; never from inside a tf_feed call */
    void *ctx;
};

/* What the file output saves with its cursor (docs/guarantees.md E). */
struct tf_file_cursor {
    uint64_t device, inode, length;
};

/* Books of one output: pending at start + spooled = acked + skipped + expired + rejected + pending.
 * In events. */
struct tf_feed_status {
    uint64_t pending_at_start, acked, skipped, expired, rejected, pending;
    uint64_t pending_bytes;
    uint64_t cursor_seq, saved_seq;
    uint32_t in_flight;
    int64_t oldest_pending_ns;
    uint64_t acked_bytes; /* payloads, as sent */
    /* Gaps that it was told of, since start. */
    uint64_t gaps_damaged, gaps_dropped, gaps_unreadable;
    struct tf_histogram ack;      /* from handed out to acked */
    struct tf_histogram delivery; /* from read to acked; of what this process has read */
};

/* Opens the feed of a configured output. Returns new; 0 or -ENOMEM. */
int tf_feed_open(struct tf_spool *spool, const struct tf_feed_options *options,
                 struct tf_feed **out);
void tf_feed_close(struct tf_feed *feed); /* unacked frames stay pending; accepts NULL */
struct tf_spool *tf_feed_spool(const struct tf_feed *feed); /* NULL: a replay's, of no spool */

/*
 * The next frame, shared with the caller (unref it). Returns 0; -EAGAIN when there is none now, the
 * window or the bound of unsaved frames is reached, or it is being read from disk: on_ready tells
 * when to ask again.
 */
int tf_feed_next(struct tf_feed *feed, struct tf_frame **out);

/* The frame handed out as number seq was acknowledged (any order). Unknown numbers are ignored:
 * returns false. */
bool tf_feed_ack(struct tf_feed *feed, uint64_t seq);

/* Refused for good: counted as rejected, and the cursor may pass it. */
bool tf_feed_reject(struct tf_feed *feed, uint64_t seq);

/*
 * For the file output: acks all frames up to seq and saves cursor and file together; on_saved comes
 * when that slot is synced (status 0), or could not be (negative errno: nothing counts as acked).
 */
typedef void tf_feed_saved_fn(void *ctx, int status);
void tf_feed_save_file(struct tf_feed *feed, uint64_t seq, const struct tf_file_cursor *file,
                       tf_feed_saved_fn *on_saved, void *ctx);

/* The saved file cursor and its number; false when none was saved. */
bool tf_feed_saved_file(const struct tf_feed *feed, struct tf_file_cursor *file, uint64_t *seq);

/* Everything handed out and not acked is handed out again, in order. */
void tf_feed_rewind(struct tf_feed *feed);

void tf_feed_status(const struct tf_feed *feed, struct tf_feed_status *status);

/*
 * A feed whose frames come from elsewhere (a replay): the functions above, but for open and status,
 * lead to these. Returns new, NULL: no memory; tf_feed_close frees it, not self.
 */
struct tf_feed_ops {
    int (*next)(void *self, struct tf_frame **out);
    bool (*finish)(void *self, uint64_t seq, bool rejected); /* acked, or refused for good */
    void (*rewind)(void *self);
    void (*save_file)(void *self, uint64_t seq, const struct tf_file_cursor *file,
                      tf_feed_saved_fn *on_saved, void *ctx);
    bool (*saved_file)(const void *self, struct tf_file_cursor *file, uint64_t *seq);
};
struct tf_feed *tf_feed_new(const struct tf_feed_ops *ops, void *self);

#endif
