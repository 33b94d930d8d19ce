/*
 * internal.h - what the files of the journald input share.
 *
 *     input.c        options, which mode, start and close, what all modes share
 *     stream.c       bytes of the export format become batches: blocks, pump jobs, notes
 *     position.c     the cursor as a position in the spool
 *     select.c       which entries are wanted, as options and as arguments of the reader
 *     reader.c       mode reader: a child process that reads the journal's files, watched
 *     child.c        which program that is, and what it is called with
 *     run.c          one run of it, by this process or by the launcher
 *     folders.c      which folders hold the journal, and what reading them needs
 *     launch.c       whether there is to be a launcher (launcher.h)
 *     datagram.c     modes native and syslog: a datagram socket that clients write to
 *     ring.c         datagrams that arrived, kept until they are durable
 *     listen.c       mode export_socket: what journald forwards (ForwardToSocket=)
 *     socket.c       a unix socket with a name in the file system
 *     upload.c       mode upload: what systemd-journal-upload sends
 *     uploaded.c     how far an uploader's entries have been taken
 *
 * A mode makes sources. Each is either a stream of export format (struct tf_journal_stream) or a
 * datagram socket; all end in the decoders of journal.h. Loop, unless it says worker.
 * docs/journald.md.
 */
#ifndef TAFFRAIL_JOURNALD_INTERNAL_H
#define TAFFRAIL_JOURNALD_INTERNAL_H

#include "taffrail/decode.h"
#include "taffrail/input.h"
#include "taffrail/journal.h"
#include "taffrail/launcher.h"
#include "taffrail/pipeline.h"
#include "taffrail/tls.h"

#define TF_PATH_MAX         4096u
#define TF_JOURNAL_NOTE_MAX 1024u /* bytes of what a stream says besides records */
#define TF_JOURNAL_ARRIVED_MAX                                                                     \
    TF_BLOCK_BYTES /* waiting for the pump: past it the owner stops reading */

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
    /* What it will need once the agent is confined. */
    void (*needs)(const struct tf_journald *input, struct tf_needs *needs);
    /* Begins. 0 or a negative errno, said in err. */
    int (*start)(struct tf_journald *input, struct tf_error *err);
    /* No new sources from now on; the input closes its sources itself. May be NULL. */
    void (*stop)(struct tf_journald *input);
    /* Adds what the input's own status does not have. May be NULL. */
    void (*status)(const struct tf_journald *input, struct tf_input_status *status);
    /* Frees what check and start have made, when all is closed. May be NULL. */
    void (*free)(struct tf_journald *input);
};
extern const struct tf_journald_way tf_journald_reader, tf_journald_native, tf_journald_syslog,
    tf_journald_export_socket, tf_journald_upload;

struct tf_journald {
    const char *name, *tag;
    struct tf_place at;
    uv_loop_t *loop;
    struct tf_tls_files *tls_files; /* as in tf_input_args */
    struct tf_launcher *launcher;   /* starts taffrail-journal; NULL: we do */
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
    /* Loop: a block was decoded, and the next is not yet: what the worker left may be looked at.
     * May be NULL. */
    void (*pumped)(struct tf_journal_stream *stream);
    /* Worker: the position behind what was decoded. NULL: it has none. */
    void (*position)(struct tf_journal_stream *stream, struct tf_buf *deltas);
    /* Loop: the newest pump is undone, its bytes are decoded again. May be NULL. */
    void (*undo)(struct tf_journal_stream *stream);
    void (*rewind)(struct tf_journal_stream *stream);
    /* Worker: what is read says that it cannot be. May be NULL. */
    void (*failed)(struct tf_journal_stream *stream);
    void (*close)(struct tf_journal_stream *stream);
    void (*free)(struct tf_journal_stream *stream); /* calls tf_journal_stream_fini */
};

struct tf_journal_stream {
    struct tf_journal_source base; /* first */
    const struct tf_journal_stream_owner *owner;
    struct tf_journal_rules rules;
    struct tf_export *decoder;
    struct tf_buf arrived; /* behind room for a rest: not yet handed to the pump */
    struct tf_buf block;   /* the worker's while a job runs: a rest, and what arrived */
    size_t block_from;     /* where it begins: what was before is consumed */
    size_t rest_bytes;     /* of the block, decoded so far: a part of an entry */
    size_t take_bytes;     /* 0: all of the block; less after a batch that was too large */
    int status;            /* negative: what came is no export format; only restart helps */
    uint64_t batches, durable_batches; /* with records or a position: handed on, and committed */
    /* The newest pump: the worker's until `pumped`. */
    size_t took, consumed; /* bytes of the block */
    uint32_t records;
    struct tf_export_result result;
    char note_reason[32], note_text[TF_JOURNAL_NOTE_MAX];
    char before[TF_JOURNAL_CURSOR_MAX]; /* the cursor before it */
    size_t before_size;
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
/* What is not consumed yet: the block, and behind it what arrived. Not while a job of it runs. */
struct tf_slice tf_journal_stream_block(const struct tf_journal_stream *stream);
struct tf_slice tf_journal_stream_arrived(const struct tf_journal_stream *stream);
/* Forgets what is left; what comes next is the start of an entry. Not while a job of it runs. */
void tf_journal_stream_restart(struct tf_journal_stream *stream, struct tf_slice after);
/* A gap record in order behind what was decoded, with the position there. reason: a static word. */
void tf_journal_stream_gap(struct tf_journal_stream *stream, const char *reason, const char *text);

/* ---- positions (position.c) ----------------------------------------------------------------- */

/* A position is the cursor of an entry, under the key "journal/INPUT/WHICH". */
void tf_journal_position_append(const char *input, const char *which, struct tf_slice cursor,
                                struct tf_buf *deltas);
/* Copies the stored cursor; false: there is none. */
bool tf_journal_position_get(struct tf_journald *input, const char *which,
                             char cursor[TF_JOURNAL_CURSOR_MAX + 1]);

/* ---- which entries are wanted (select.c) ---------------------------------------------------- */

/*
 * The same as arguments of taffrail-journal or journalctl, as far as they can say it without losing
 * an entry: the decoders decide in any case.
 */
struct tf_child_args;
void tf_journald_select_args(const struct tf_journald *input, bool is_journalctl,
                             struct tf_child_args *args);

/* Fills input->select, start_at, start_ns from the options. 0, -EINVAL (all errors said), -ENOMEM.
 */
int tf_journald_select(struct tf_journald *input, struct tf_error *err);

/* ---- the program that reads the journal's files (child.c) ----------------------------------- */

struct tf_child_program {
    char path[TF_PATH_MAX];
    bool is_journalctl;
};

bool tf_child_find_reader(struct tf_child_program *out); /* taffrail-journal */

/* Finds it: beside our own program, in libexec, or journalctl. 0, or -ENOENT with an error. */
int tf_child_find(const struct tf_journald *input, struct tf_child_program *out,
                  struct tf_error *err);

/* An argument vector. The first failure sticks in `error`. */
struct tf_child_args {
    char **items; /* ends in NULL */
    size_t count, capacity;
    int error;
};
void tf_child_args_add(struct tf_child_args *args, const char *format, ...) TF_PRINTF(2, 3);
void tf_child_args_fini(struct tf_child_args *args);

/* Where the child is to begin. */
struct tf_child_start {
    const char *directory; /* NULL: the system's folders, or the namespace of the options */
    const char *after;     /* cursor, or "": none */
    int64_t since_us;      /* without a cursor: at this time; negative: where start_at says */
};
void tf_child_args_fill(const struct tf_journald *input, const struct tf_child_program *program,
                        const struct tf_child_start *start, struct tf_child_args *args);

/* ---- a run of it (run.c) -------------------------------------------------------------------- */

struct tf_child_run {
    struct tf_launcher *launcher; /* NULL: by ourselves */
    /* Once, when it has ended: with code, or of signal. A negative code is an errno: it could not
     * be started. */
    void (*on_ended)(struct tf_child_run *run, int64_t code, int signal);
    /* run.c's own. */
    struct tf_launched launched;
    uv_process_t process;
    uv_pipe_t in;
    uint32_t open_handles;
    int64_t code;
    int signal;
};

/* Starts args[0]; fds become our ends of its stdout and stderr. Returns 0; on_ended is then called,
 * later. Or a negative errno: it is not. */
int tf_child_run_start(struct tf_child_run *run, uv_loop_t *loop, char **args, int fds[2]);
void tf_child_run_kill(struct tf_child_run *run);

/* ---- which folders (folders.c) -------------------------------------------------------------- */

bool tf_journald_is_machine(const char *name); /* of a folder, or a link to one */
/* Those of the options, or the usual ones; borrowed. */
struct tf_texts tf_journald_folders(const struct tf_journald_options *options);
/* What reading them needs, as kind. */
void tf_journald_folder_needs(const struct tf_texts *folders, enum tf_need kind,
                              struct tf_needs *needs);

#endif
