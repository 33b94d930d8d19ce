/*
 * internal.h - what the files of the journald input share.
 *
 *     input.c        options, which mode, start and close, what all modes share
 *     stream.c       bytes of the export format become batches: blocks, pump jobs, notes
 *     position.c     the cursor as a position in the spool
 *     select.c       which entries are wanted, as options and as arguments of the reader
 *     reader.c       mode reader: a child process that reads the journal's files, watched
 *     child.c        which program that is, and what it is called with
 *     datagram.c     modes native and syslog: a datagram socket that clients write to
 *     listen.c       mode export_socket: what journald forwards (ForwardToSocket=)
 *     upload.c       mode upload: what systemd-journal-upload sends
 *
 * A mode makes sources. Each is either a stream of export format (struct tf_journal_stream) or a
 * datagram socket; all end in the decoders of journal.h. Loop, unless it says worker.
 * docs/journald.md.
 */
#ifndef TAFFRAIL_JOURNALD_INTERNAL_H
#define TAFFRAIL_JOURNALD_INTERNAL_H

#include "taffrail/input.h"
#include "taffrail/journal.h"
#include "taffrail/pipeline.h"
#include "taffrail/tls.h"

#define TF_JOURNAL_ARRIVED_MAX                                                                     \
    (512u << 10) /* waiting for the pump: past it the owner stops reading */

/* ---- options -------------------------------------------------------------------------------- */

enum tf_journald_mode {
    TF_JOURNALD_READER,
    TF_JOURNALD_NATIVE,
    TF_JOURNALD_EXPORT_SOCKET,
    TF_JOURNALD_SYSLOG,
    TF_JOURNALD_UPLOAD,
};
enum tf_journald_helper { TF_HELPER_AUTO, TF_HELPER_READER, TF_HELPER_JOURNALCTL };

struct tf_journald_allow {
    struct tf_text identity;
};

struct tf_journald_options {
    int mode;   /* enum tf_journald_mode */
    int helper; /* enum tf_journald_helper */
    struct tf_texts paths;
    struct tf_text namespace_name;
    struct tf_texts units, exclude_units, identifiers;
    struct tf_text priority;
    struct tf_tables matches; /* of struct tf_pairs */
    struct tf_text start_at;
    struct tf_text listen;
    struct tf_tls_options tls;
    bool has_tls;
    struct tf_tables allow; /* of struct tf_journald_allow */
};

/* ---- the input ------------------------------------------------------------------------------ */

enum tf_journal_start { TF_START_OLDEST, TF_START_NEWEST, TF_START_BOOT, TF_START_TIME };

struct tf_journald;
struct tf_journal_source;

/* What one way of getting entries does. */
struct tf_journald_way {
    /* Checks its options; opens nothing. 0 or -EINVAL, all errors said. */
    int (*check)(struct tf_journald *input, struct tf_error *err);
    /* Begins. 0 or a negative errno, said in err. */
    int (*start)(struct tf_journald *input, struct tf_error *err);
    /* No new sources from now on; the input closes its sources itself. May be NULL. */
    void (*stop)(struct tf_journald *input);
    /* Frees what check and start have made, when all is closed. May be NULL. */
    void (*free)(struct tf_journald *input);
};
extern const struct tf_journald_way tf_journald_reader, tf_journald_native, tf_journald_syslog,
    tf_journald_export_socket, tf_journald_upload;

struct tf_journald {
    const char *name, *tag;
    struct tf_place at;
    uv_loop_t *loop;
    const struct tf_journald_options *options;
    const struct tf_journald_way *way;
    void *own; /* of the way */
    struct tf_journal_select select;
    void *arena; /* of what select points to, and child arguments */
    enum tf_journal_start start_at;
    int64_t start_ns; /* of TF_START_TIME */
    struct tf_pipeline *pipeline;
    struct tf_journal_source *sources;
    uint32_t open_handles; /* of the input and its way, not of sources */
    bool closing;
    void (*on_closed)(void *ctx);
    void *closed_ctx;
    struct tf_input_status status;
};

/* Closes a handle of the way; counted, so that nothing is freed before. handle->data is changed. */
void tf_journald_close_handle(struct tf_journald *input, uv_handle_t *handle);

/* ---- sources -------------------------------------------------------------------------------- */

struct tf_journal_source_ops {
    void (*pump)(struct tf_journal_source *self, struct tf_batch *batch,
                 struct tf_pump_result *result);                             /* worker */
    void (*position)(struct tf_journal_source *self, struct tf_buf *deltas); /* worker; or NULL */
    void (*pumped)(struct tf_journal_source *self, const struct tf_pump_result *result);
    void (*committed)(struct tf_journal_source *self, uint64_t cookie); /* may be NULL */
    void (*rewind)(struct tf_journal_source *self); /* back to what is durable; no job runs */
    void (*close)(struct tf_journal_source *self);  /* ends in tf_journal_source_remove, soon */
    void (*free)(struct tf_journal_source *self);
};

struct tf_journal_source {
    struct tf_source source; /* first */
    struct tf_journal_source *next;
    struct tf_journald *input;
    const struct tf_journal_source_ops *ops;
};

/* Makes it a source of the input. metadata as in tf_source_add. 0 or -ENOMEM: the caller frees. */
int tf_journal_source_add(struct tf_journald *input, struct tf_journal_source *self,
                          const struct tf_journal_source_ops *ops, struct tf_batch *metadata);
void tf_journal_source_remove(struct tf_journal_source *self); /* ops->free when no job holds it */

/* ---- a stream of export format -------------------------------------------------------------- */

struct tf_journal_stream;

/* What the owner of a stream does. */
struct tf_journal_stream_owner {
    /* Loop: a block was decoded, or one became durable: there may be room, nothing left to decode,
     * nothing left to wait for, or stream->status is negative (the stream is broken). May call any
     * function of the stream, also close. */
    void (*changed)(struct tf_journal_stream *stream);
    /* Worker: the position behind what was decoded. NULL: it has none. */
    void (*position)(struct tf_journal_stream *stream, struct tf_buf *deltas);
    void (*rewind)(struct tf_journal_stream *stream);
    void (*close)(struct tf_journal_stream *stream);
    void (*free)(struct tf_journal_stream *stream); /* calls tf_journal_stream_fini */
};

struct tf_journal_stream {
    struct tf_journal_source base; /* first */
    const struct tf_journal_stream_owner *owner;
    struct tf_journal_rules rules;
    struct tf_export *decoder;
    struct tf_buf arrived; /* not yet handed to the pump */
    struct tf_buf block;   /* the worker's while the source runs: a rest, and what arrived */
    bool is_pumping;       /* woken, and not yet pumped */
    int status;            /* negative: what came is no export format; only restart helps */
    uint64_t batches, durable_batches; /* with records or a position; handed on and committed */
    /* Of the newest pump, the worker's until `pumped`. */
    size_t consumed;
    struct tf_export_result result;
    struct tf_buf note_reason, note_text; /* copies, since the block moves on */
};

/* owner borrowed; stream->base.source.tag and rules set by the caller. 0 or -ENOMEM: nothing kept.
 */
int tf_journal_stream_init(struct tf_journal_stream *stream, struct tf_journald *input,
                           const struct tf_journal_stream_owner *owner, struct tf_batch *metadata);
void tf_journal_stream_fini(struct tf_journal_stream *stream);

/* Where the next bytes may be written: size is the room, at least 64 KiB, or 0 without memory. Then
 * tf_journal_stream_wrote, before anything else. */
uv_buf_t tf_journal_stream_room(struct tf_journal_stream *stream);
void tf_journal_stream_wrote(struct tf_journal_stream *stream, size_t size);

/* More may come: less than TF_JOURNAL_ARRIVED_MAX wait. The owner asks, and stops reading
 * meanwhile.
 */
bool tf_journal_stream_has_room(const struct tf_journal_stream *stream);
/* All whole entries that came are decoded; a part of one may be left
 * (tf_journal_stream_rest_bytes). */
bool tf_journal_stream_is_drained(const struct tf_journal_stream *stream);
size_t tf_journal_stream_rest_bytes(const struct tf_journal_stream *stream);
/* Forgets what is left; what comes next is the start of an entry. Not while it is pumping. */
void tf_journal_stream_restart(struct tf_journal_stream *stream, struct tf_slice after);

/* ---- positions (position.c) ----------------------------------------------------------------- */

/* A position is the cursor of an entry, under the key "journal/INPUT/WHICH". */
void tf_journal_position_append(const char *input, const char *which, struct tf_slice cursor,
                                struct tf_buf *deltas);
/* Copies the stored cursor; false: there is none. */
bool tf_journal_position_get(struct tf_journald *input, const char *which,
                             char cursor[TF_JOURNAL_CURSOR_MAX + 1]);

/* ---- which entries are wanted (select.c) ---------------------------------------------------- */

/* Fills input->select, start_at, start_ns from the options. 0, -EINVAL (all errors said), -ENOMEM.
 */
int tf_journald_select(struct tf_journald *input, struct tf_error *err);

#endif
