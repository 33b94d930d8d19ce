/*
 * internal.h - what the files of the container input share.
 *
 *     input.c      options, descriptor, start and close
 *     follow.c     the files that are followed, on the loop: their sources and positions
 *     sweep.c      scans: when they run
 *     found.c      what a scan found becomes files that are followed
 *     ends.c       how files end, by what a scan did not find
 *     stored.c     positions in the folded state, and those that belong to no file
 *     look.c       looks: what was just made is opened at once, on a thread of its own
 *     reading.c    by which input a file is read, and its tag
 *     globs.c      the globs of `paths`, taken apart for the walk
 *     discovery.c  the walk over the globs, on a worker
 *     snapshot.c   whether anything changed since the last look, on a worker
 *     judge.c      what an unknown sibling is, on a worker
 *     shadow.c     compressed files that are copies, or go on where a file has gone
 *     file.c       one file: read, compare, decode, on a worker
 *     mend.c       how it goes on after it was cut or changed, on a worker
 *     blocks.c     the buffers for blocks
 *     gunzip.c     a compressed file read as its text
 *     position.c   the position of a file as bytes
 *     watch.c      inotify: hints, never the truth
 *     summary.c    what `check` tells of it
 *
 * Words: a *primary* is a file that a glob names; a *sibling* is what rotation made of one, in the
 * same directory, with the primary's name in front; the *base* of both is the primary's path.
 * docs/container-input.md tells the whole.
 */
#ifndef TAFFRAIL_INPUTS_CONTAINER_INTERNAL_H
#define TAFFRAIL_INPUTS_CONTAINER_INTERNAL_H

#include <dirent.h>
#include <sys/inotify.h>

#include "taffrail/container.h"
#include "taffrail/decode.h"
#include "taffrail/input.h"
#include "taffrail/opener.h"

#define TF_FILES_MAX 65536u /* followed at once; past it the rest waits, with a warning */

/* ---- position.c -------------------------------------------------------------------------------
 */

#define TF_PRINT_BYTES      64u
#define TF_PRINT_HASH_BYTES 16u
#define TF_PRINTS           5u
#define TF_PRINT_HEADS      3u    /* from this one on they may be of the file's beginning */
#define TF_HEAD_MAX         4096u /* and end before that */

/* The hash of the last TF_PRINT_BYTES (or fewer, at the start of a file) before offset. Offset 0:
 * no print. */
struct tf_print {
    uint64_t offset;
    uint8_t hash[TF_PRINT_HASH_BYTES];
};

struct tf_position {
    uint64_t done[TF_STREAMS];
    struct tf_print prints[TF_PRINTS]; /* first the one before the largest done, then older ones;
                                          the last two of the beginning, while it is small */
    struct tf_stream_state states[TF_STREAMS];
    enum tf_format format;
    bool finished;        /* read to its end for good */
    bool is_gzip;         /* offsets and prints are those of its text */
    struct tf_slice path; /* the base; borrows */
};

/* Appends the value. The sticky error of out tells. */
void tf_position_encode(const struct tf_position *position, struct tf_buf *out);

/* Reads a value. out->path borrows from it. Returns 0 or -EPROTO; out is then as before. */
int tf_position_decode(struct tf_slice value, struct tf_position *out);

/* Appends "file/INPUT/DEVICE:INODE:BORN". */
void tf_position_key(const char *input, const struct tf_file_id *id, struct tf_buf *out);

/* Reads the identity behind "file/INPUT/". Returns 0 or -EPROTO. */
int tf_position_key_parse(struct tf_slice key, const char *input, struct tf_file_id *id);

uint64_t tf_position_first(const struct tf_position *position); /* the smallest done */
uint64_t tf_position_last(const struct tf_position *position);  /* the largest */

/* How many bytes before offset a print covers. */
static inline size_t tf_print_size(uint64_t offset)
{
    return offset < TF_PRINT_BYTES ? (size_t)offset : TF_PRINT_BYTES;
}

/* bytes borrows tf_print_size(offset) bytes. */
void tf_print_take(const void *bytes, uint64_t offset, struct tf_print *out);
bool tf_print_matches(const struct tf_print *print, const void *bytes);

/* An older print that matches shows by itself that a text of so many bytes is a copy: it is of 64
 * bytes, or there are no more. */
static inline bool tf_print_tells(const struct tf_print *print, uint64_t text_bytes)
{
    return print->offset >= TF_PRINT_BYTES || text_bytes < TF_PRINT_BYTES;
}

/* -1, 0 or 1, for sorting. */
int tf_file_id_compare(const struct tf_file_id *a, const struct tf_file_id *b);

/* ---- discovery.c ------------------------------------------------------------------------------
 */

/* A glob taken apart: a folder without wildcards, then the components below it. */
struct tf_path_glob {
    char *folder;
    char *text; /* the whole, for globs with `**` */
    char
        *text_short; /* the same without its first "** /", which also stands for nothing; or NULL */
    char **parts;
    size_t part_count;
};

int tf_path_glob_init(struct tf_path_glob *glob,
                      const char *pattern); /* 0, -ENOMEM, -EINVAL, -EMSGSIZE */
void tf_path_glob_fini(struct tf_path_glob *glob);
/* The glob names the file name[0..size) of the folder dir. */
bool tf_path_glob_names(const struct tf_path_glob *glob, const char *dir, const char *name,
                        size_t size);
/* The folder `name` is one that its component `part` names. Not for globs with `**`. */
bool tf_path_glob_descends(const struct tf_path_glob *glob, size_t part, const char *name);
/* How many components of the glob the folder dir is, below the glob's fixed one; -1: it is none
 * that the glob can name. */
int tf_path_glob_depth(const struct tf_path_glob *glob, const char *dir);
/* dir/name, or what of name stands before an ending of rotation, is a file that the glob names. */
bool tf_path_glob_takes(const struct tf_path_glob *glob, const char *dir, const char *name);

#define TF_DEPTH_MAX   32u /* folders below the fixed one */
#define TF_GZIP_ENDING ".gz"

/* dir/name. False: it is too long, so nothing can be opened there. */
bool tf_path_join(const char *dir, const char *name, char out[TF_FILE_PATH_MAX]);

bool tf_is_compressed_name(const char *name); /* but .gz */
bool tf_is_gzip_name(const char *name);

uint64_t tf_path_hash(struct tf_slice path);

struct tf_selection {
    struct tf_texts namespaces, pods, containers;
};

/* What the loop knows when a scan begins. Sorted by id. */
struct tf_known {
    struct tf_file_id id;
    uint64_t base_hash;
    struct tf_print prints[TF_PRINTS];
    uint64_t size;    /* of a finished file: as it was then */
    bool is_followed; /* its descriptor is open: no need to open it again */
    bool is_finished;
    bool is_found; /* by this scan */
    bool is_gzip;
};

/* What an unknown compressed sibling is. */
enum tf_verdict {
    TF_VERDICT_NONE,    /* not judged: no compressed one, or known */
    TF_VERDICT_WAIT,    /* not known yet */
    TF_VERDICT_NEW,     /* nothing of it was read */
    TF_VERDICT_KNOWN,   /* it holds what a known file holds */
    TF_VERDICT_REFUSED, /* its text is too large */
};
#define TF_SUFFIX_MAX 40u

struct tf_found {
    struct tf_file_id id;
    uint64_t size;
    int64_t changed_ns;
    char *base; /* owned */
    int fd;     /* owned; -1: not opened, because it is known */
    bool is_sibling, has_successor;
    bool is_first_glob; /* no glob before this one could name it by another path */
    bool is_left_out; /* by include and exclude, or because it cannot be opened: only known to exist
                       */
    bool is_gzip;
    bool is_cut;   /* it does not hold what its stored position says */
    bool replaces; /* set by the loop: match is gone, and this file goes on there */
    enum tf_verdict verdict;
    struct tf_file_id match;    /* of the known file, with TF_VERDICT_KNOWN */
    uint64_t match_offset;      /* to which that one was read when it was compared */
    bool is_short;              /* it ends before that */
    struct tf_print end;        /* of a short one that is not compressed */
    uint64_t text_bytes;        /* all of its text */
    char suffix[TF_SUFFIX_MAX]; /* of a sibling's name, behind the base's, cut; without .gz */
    struct tf_position *start;  /* owned: where the reading begins; NULL: at its start */
};

struct tf_snapshot {
    struct tf_buf entries, last_path;
    int64_t began_ns;
    bool is_usable;
};

/* All on a worker but fini. */
void tf_snapshot_begin(struct tf_snapshot *snapshot);
void tf_snapshot_fini(struct tf_snapshot *snapshot);
/* Notes how a path stands, as tf_opener_look tells. */
void tf_snapshot_add(struct tf_snapshot *snapshot, const struct tf_opener *opener,
                     const char *path);
/* The same of what was looked at before: rc and seen are what the look gave. */
void tf_snapshot_note(struct tf_snapshot *snapshot, const char *path, int rc,
                      const struct tf_opened *seen);
/* The same of an open folder. */
void tf_snapshot_add_dir(struct tf_snapshot *snapshot, int fd, const char *path);
/* Nothing that was noted has changed. */
bool tf_snapshot_holds(const struct tf_snapshot *snapshot, const struct tf_opener *opener);

struct tf_looker;

struct tf_scan {
    /* Set by the loop. */
    const struct tf_opener *opener;
    const struct tf_path_glob *globs;
    size_t glob_count;
    const struct tf_selection *include, *exclude;
    struct tf_known *known;
    size_t known_count;
    char **only; /* a look: nothing but these paths, owned; NULL: everything */
    size_t only_count;
    struct tf_looker *looker; /* for watches of folders; NULL: none */
    uint32_t open_max;
    bool keeps_none; /* what was found is closed again */
    bool start_newest;
    uint64_t judge_bytes; /* text of compressed siblings that may still be looked through */
    /* Set by the worker. */
    struct tf_found *found;
    size_t found_count, found_capacity;
    uint32_t opened;
    struct tf_snapshot snapshot;
    uint64_t unreadable; /* files and folders that could not be opened, or may not be read */
    bool is_complete;    /* every directory could be read: what was not found is not there */
    int watch_error;
    uint64_t took_ms;
};

/* Opens the folder of path for listing: cuts path there, and *name is what stood behind. Returns 0,
 * or a negative errno. Worker. */
int tf_scan_list_folder(const struct tf_opener *opener, char path[TF_FILE_PATH_MAX],
                        const char **name, DIR **out);

/* What an opener gave: refused for good, or not there. Else another try may give something else. */
bool tf_scan_is_final(int rc);

void tf_scan_run(struct tf_scan *scan); /* worker */
void tf_scan_fini(struct tf_scan *scan);
void tf_scan_sort_known(struct tf_scan *scan);
const struct tf_known *tf_scan_known(const struct tf_scan *scan, const struct tf_file_id *id);

/* ---- judge.c ----------------------------------------------------------------------------------
 */

/* A file to look at: base_size characters of name are the primary's name in this directory; base is
 * the path that tells the names, which is a link's where one leads here. */
struct tf_candidate {
    const char *dir_path, *name, *base;
    size_t base_size;
    bool is_first_glob;
};

/* The unknown sibling holds what a file of its base, which is known, holds too: while that is
 * followed, found is left out; else the loop decides (shadow.c). Not for compressed ones. Returns
 * 0, or a negative errno where it cannot be told now. Worker.
 */
int tf_judge_copy(const struct tf_scan *scan, const struct tf_candidate *candidate,
                  const struct tf_opened *copy, struct tf_found *found);

/* What an unknown compressed sibling is. Sets match with TF_VERDICT_KNOWN, text_bytes with that
 * and with TF_VERDICT_NEW. Worker. */
enum tf_verdict tf_judge(struct tf_scan *scan, const struct tf_opened *opened, uint64_t base_hash,
                         struct tf_found *found);

/* ---- gunzip.c ---------------------------------------------------------------------------------
 */

struct tf_gunzip;
struct tf_gunzip *tf_gunzip_new(int fd);       /* borrows fd; NULL: no memory */
void tf_gunzip_free(struct tf_gunzip *gunzip); /* accepts NULL */
/*
 * Reads text at offset, at most half a MiB. Returns the bytes got, fewer than size only where the
 * text ends; -EAGAIN when it has inflated as much as a worker should at once (call again); or
 * another -errno.
 */
ssize_t tf_gunzip_read(struct tf_gunzip *gunzip, char *to, size_t size, uint64_t offset);
/* It ends within a member, or a checksum does not hold. Known when the end was reached. */
bool tf_gunzip_is_damaged(const struct tf_gunzip *gunzip);

/* ---- file.c -----------------------------------------------------------------------------------
 */

enum tf_mend_kind { TF_MEND_NONE, TF_MEND_SIBLING, TF_MEND_OLDER, TF_MEND_START };

/* How to go on after the bytes before the offset changed (docs/guarantees.md B4). */
struct tf_mend {
    enum tf_mend_kind kind;
    struct tf_opened sibling; /* fd owned */
    bool is_gzip;             /* the sibling */
    bool is_short;            /* it ends before the position: nothing is left to read in it */
    uint64_t held_to;         /* where the newest print stands that it holds */
    struct tf_print end;      /* of a short one that is not compressed */
    uint64_t lost_bytes;      /* seen in the file, and in the sibling not; or not compared */
    struct tf_position position;
};

/* What a worker touches of a file while its pump runs; the loop only when none does. */
struct tf_file_io {
    int fd, watch;
    int watch_error;
    bool wants_watch;
    bool is_verified;  /* position was compared with the file */
    bool is_final;     /* set by the loop: nobody writes any more */
    bool is_held;      /* by a filter: the position may change though nothing is read */
    bool is_throttled; /* the last pump read nothing for max_rate_bytes */
    bool is_damaged;   /* a compressed file does not hold all of its text */
    bool is_deleted;
    struct tf_gunzip *gunzip; /* of a compressed file; NULL until its first pump */
    struct tf_lines *lines;   /* NULL between pumps while it would hold nothing */
    enum tf_format format;    /* with which the next lines begin */
    enum tf_encoding encoding;
    uint64_t line_limit_bytes;
    struct tf_position position; /* path borrows from the file */
    uint64_t offset;             /* where the next read begins */
    struct tf_print tail;        /* before offset */
    uint32_t block_bytes;        /* TF_BLOCK_BYTES, less after -EMSGSIZE */
    uint32_t good_pumps;
    uint64_t cookie;
    uint64_t size;           /* at the last look */
    uint64_t largest_size;   /* of all looks that found it unchanged */
    uint64_t max_rate_bytes; /* a second; 0: no bound */
    int64_t tokens_bytes;    /* that may be read now; below 0: it waits */
    uint64_t refilled_ms;
    uint64_t held_at;       /* where the oldest held piece starts; UINT64_MAX: none */
    uint64_t held_since_ms; /* seen first then */
    struct tf_mend *mend;   /* owned; the loop has not come to it yet. NULL most of the time */
};

struct tf_container;
struct tf_block_pool;

/* Buffers for blocks, shared by all jobs, so that an idle file has none. */
struct tf_buf *tf_block_get(struct tf_block_pool *pool); /* NULL: no memory */
void tf_block_put(struct tf_block_pool *pool, struct tf_buf *block);
struct tf_block_pool *tf_block_pool_new(void);
void tf_block_pool_free(struct tf_block_pool *pool);

struct tf_file_read {
    struct tf_block_pool *pool;
    const struct tf_opener *opener;
    const char *base;
    const struct tf_file_id *id;
    int inotify_fd;
};

/* The pump of one file. Worker. */
void tf_file_pump(struct tf_file_io *io, const struct tf_file_read *read, struct tf_batch *batch,
                  struct tf_pump_result *result);

/* No stream's position may pass held_from. Worker, after the pump. 0, or -errno. */
int tf_file_hold_back(struct tf_file_io *io, const uint64_t held_from[TF_STREAMS]);

/* Reads until size bytes are there or the file ends. The count, or a negative errno. */
ssize_t tf_file_read(int fd, char *to, size_t size, uint64_t offset);
/* As tf_file_print, of the text of a compressed file too; -EAGAIN: call again. */
int tf_file_print_text(struct tf_file_io *io, uint64_t offset, struct tf_print *out);
/* 1 when the file holds those bytes, 0 when not, or -errno: a failed read says nothing of them. */
int tf_file_compare(int fd, const struct tf_print *print);
bool tf_file_matches(int fd, const struct tf_print *print);
int tf_file_print(int fd, uint64_t offset, struct tf_print *out); /* 0, -errno, -ENODATA */

/* ---- mend.c -----------------------------------------------------------------------------------
 */

/* 0 with io->mend set, or -errno. */
int tf_file_mend(struct tf_file_io *io, const struct tf_file_read *read);

/* ---- follow.c ---------------------------------------------------------------------------------
 */

enum tf_file_state {
    TF_FILE_WAITING,  /* has a descriptor, no source yet: its position is not durable */
    TF_FILE_ACTIVE,   /* has a source */
    TF_FILE_LEAVING,  /* its source is removed and has batches that are not durable */
    TF_FILE_FINISHED, /* read to its end, closed; remembered while it exists */
};

enum tf_file_after { TF_AFTER_REVIVE, TF_AFTER_FINISH, TF_AFTER_FORGET, TF_AFTER_DROP };

struct tf_file {
    struct tf_source source; /* first */
    struct tf_container *input;
    struct tf_file_id id;
    char *base;
    char *tag;
    uint64_t base_hash;
    uint32_t scan_number; /* of the newest scan that had begun when it was made */
    uint32_t mended_scan; /* the same, when it was found to be cut */
    struct tf_file *next_in_bucket, *next_by_watch, *next_to_wake;
    struct tf_file *previous, *next; /* all files */
    enum tf_file_state state;
    enum tf_file_after after;
    int watch;           /* -1: none */
    bool is_seen;        /* by the last scan */
    uint8_t unseen;      /* complete scans in a row that did not see it, once it is finished */
    bool is_provisional; /* found by a look; a scan may know it by another path, a link's */
    bool is_sibling, has_successor;
    bool is_at_end;  /* the last pump read all there was */
    bool is_quiet;   /* at its end, with quiet_size bytes, one scan ago */
    bool is_deleted; /* has no name any more */
    uint64_t quiet_size, size, offset;
    uint64_t deleted_since_ms;
    uint64_t throttled_to_ms; /* max_rate: as far as that was counted */
    uint64_t behind_since_ms; /* there is something to read since then; 0: it is at its end */
    uint64_t found_size;      /* by the last scan, when it is behind */
    uint64_t cookie_durable;
    uint64_t line_limit_bytes;
    uint32_t block_bytes;
    uint32_t refusals;         /* -EMSGSIZE since the last batch that was taken */
    struct tf_file *waits_for; /* its sibling is read first */
    struct tf_file *follower;
    struct tf_file *adopted; /* the copy that is read before this file begins anew */
    bool is_gzip;
    bool has_error;              /* the next scan wakes it */
    bool has_heir;               /* a copy goes on where it was, before it was cut */
    bool has_shadow;             /* a compressed file holds the same */
    bool is_shadow;              /* of shadow_of */
    bool replaces;               /* its first position takes the place of shadow_of's */
    bool tells_replaced;         /* the next position says so */
    bool is_undecided;           /* a compressed file that is not judged yet may be its copy */
    struct tf_file_id shadow_of; /* with is_shadow and replaces */
    uint64_t text_bytes;         /* of a shadow */
    struct tf_position *start;   /* owned: where to begin without a position; NULL: at its start */
    struct tf_print *prints;     /* owned, TF_PRINTS, under the mutex: see tf_follow_prints */
    struct tf_file_io io;
};

#define TF_FILE_BUCKETS   1024u
#define TF_FILE_BLOCK_MIN 4096u

struct tf_container_options {
    struct tf_texts paths, link_roots, owners;
    struct tf_selection include, exclude;
    int format;   /* enum tf_format */
    int encoding; /* enum tf_encoding */
    int start_at; /* 0 oldest, 1 newest */
    uint64_t max_line_bytes;
    uint64_t max_rate_bytes; /* a second, of each file; 0: no bound */
    uint64_t rescan_ms;
    struct {
        uint64_t size_bytes, age_ms;
    } deleted;
};

struct tf_container {
    const struct tf_container_options *options;
    char *name;
    const char *tag;
    const char *host;
    uv_loop_t *loop;
    struct tf_pipeline *pipeline; /* NULL until started */
    struct tf_opener opener;
    struct tf_path_glob *globs;
    size_t glob_count;
    struct tf_block_pool *pool;

    struct tf_file *buckets[TF_FILE_BUCKETS], *by_watch[TF_FILE_BUCKETS];
    struct tf_file *files;
    uv_mutex_t mutex; /* of the prints of files */
    size_t file_count, descriptor_count, descriptor_max;
    struct tf_input_status counts; /* since start; the rest is made when it is asked for */

    struct tf_scan scan;
    uv_work_t scan_work;
    uv_timer_t scan_timer, hint_timer, wake_timer;
    struct tf_file *to_wake;
    uv_poll_t watch_poll;
    int inotify_fd; /* for files; -1: none */
    bool has_poll;
    struct tf_looker *looker; /* for folders; NULL: none */
    bool is_scanning, wants_scan;
    uint32_t scan_number;
    bool has_scanned;    /* in this run */
    bool is_postponing;  /* the last scan left files for later, since an older one is missing */
    bool has_undecided;  /* the last scan found compressed files that it could not judge */
    bool is_first_start; /* no scan of any run was complete */
    uint64_t scan_took_ms;
    struct tf_snapshot snapshot; /* of the last scan, when that left nothing to do */
    bool snapshot_held;          /* the outcome of comparing it */
    uint64_t comparing_us;       /* how long that took */
    uint32_t snapshot_uses;
    uint64_t untrimmed_files; /* opened by scans since memory went back to the kernel */
    uint32_t complete_scans;  /* of this run, up to TF_STORED_CHECKS */
    uint32_t stored_checks;   /* complete scans that the stored positions were compared with */
    uint32_t open_handles;
    bool is_closing, told_watches, told_descriptors, told_unnamed;
    void (*on_closed)(void *ctx);
    void *closed_ctx;
};

/* The hooks of the contract. */
int tf_follow_describe(const struct tf_source *source, struct tf_batch *batch);
void tf_follow_pump(struct tf_source *source, struct tf_batch *batch,
                    struct tf_pump_result *result);
void tf_follow_position(struct tf_source *source, const uint64_t held_from[TF_STREAMS],
                        const struct tf_stream_state states[TF_STREAMS], struct tf_buf *deltas);
void tf_follow_pumped(struct tf_source *source, const struct tf_pump_result *result);
void tf_follow_committed(struct tf_source *source, uint64_t cookie);
void tf_follow_on_removed(struct tf_source *source);
void tf_follow_rewind(struct tf_container *input);
void tf_follow_close(struct tf_container *input); /* removes every source */

void tf_follow_append_delta(const struct tf_file *file, const struct tf_file_id *id,
                            const struct tf_position *position, struct tf_buf *deltas);
void tf_follow_known(const struct tf_file *file, struct tf_known *out); /* for scans */
struct tf_file *tf_follow_find(const struct tf_container *input, const struct tf_file_id *id);

/* Those of its position, as the loop knows it: while it is pumped, as it was before. */
void tf_follow_prints(const struct tf_file *file, struct tf_print out[TF_PRINTS]);
uint64_t tf_follow_read_to(const struct tf_file *file); /* the first one's offset */

/* A new file without a source. Takes fd (-1: none), on failure too. NULL: no memory. */
struct tf_file *tf_follow_new(struct tf_container *input, const struct tf_file_id *id,
                              struct tf_slice base, int fd);
void tf_follow_drop(struct tf_file *file); /* a file without a source: closes and frees it */

/* Gives it a source, at its stored position or at file->start, and wakes it. */
void tf_follow_activate(struct tf_file *file);
void tf_follow_wake(struct tf_file *file); /* unless a sibling is read first; never in `pumped` */
uint64_t tf_follow_lag_bytes(const struct tf_file *file);
void tf_follow_on_wake_timer(uv_timer_t *timer);

/* Takes its source away; then what `after` says. The file may be gone when this returns. */
void tf_follow_leave(struct tf_file *file, enum tf_file_after after);

/* A gap of this file, and its position forgotten. Leaves it. */
void tf_follow_give_up(struct tf_file *file, const char *text, uint64_t bytes_max);

/* ---- sweep.c ----------------------------------------------------------------------------------
 */

void tf_sweep_start(struct tf_container *input);
void tf_sweep_soon(struct tf_container *input);
void tf_sweep_rewind(struct tf_container *input); /* says again what a lost frame said */
void tf_sweep_stop(struct tf_container *input);

/* ---- found.c ----------------------------------------------------------------------------------
 */

/* Takes over what a scan or a look found. Without memory another scan is asked for. */
void tf_found_apply(struct tf_container *input, struct tf_scan *scan);

/* ---- ends.c -----------------------------------------------------------------------------------
 */

void tf_ends_settle(struct tf_container *input); /* after a scan's files were taken over */
/* Forgets the position of a finished file, and drops it. */
void tf_ends_forget(struct tf_container *input, struct tf_file *file);

/* ---- stored.c ---------------------------------------------------------------------------------
 */

#define TF_STORED_CHECKS 2u /* complete scans that stored positions are compared with */

/* The position of a file in the folded state; its path borrows from there. */
bool tf_stored_position(struct tf_container *input, const struct tf_file_id *id,
                        struct tf_position *out);
void tf_stored_each(struct tf_container *input, tf_state_fn *fn, void *ctx);
/* After a complete scan: tells of positions whose file is gone. */
void tf_stored_check(struct tf_container *input);

/* ---- shadow.c ---------------------------------------------------------------------------------
 */

/* A compressed file that holds what `of` holds, which is followed: it is not read. */
void tf_shadow_add(struct tf_container *input, struct tf_file *of, const struct tf_found *found);
/* One that holds no more than was read: up to `read`, of another file. */
void tf_shadow_read(struct tf_container *input, const struct tf_found *found,
                    const struct tf_position *read);
/* A copy that ends before the position of its file: it counts as read to its end. */
void tf_shadow_read_short(struct tf_container *input, const struct tf_found *found);
/* file was read to its end. What its shadows hold counts as read, by deltas in the frame that says
 * so of file; what one holds beyond is found by the next scan. */
void tf_shadow_settle(struct tf_file *file, struct tf_buf *deltas);
/* file is let go unread. True when a shadow takes over: then its position must stay. */
bool tf_shadow_take_over(struct tf_file *file);
/* Drops a shadow whose file is not followed any more, so that it is judged anew. */
void tf_shadow_check(struct tf_file *shadow);

/* ---- look.c -----------------------------------------------------------------------------------
 */

int tf_looker_new(struct tf_container *input, struct tf_looker **out); /* 0 or a negative errno */
void tf_looker_start(struct tf_looker *looker); /* after the first scan; accepts NULL */
void tf_looker_stop(struct tf_looker *looker);  /* ends its thread; accepts NULL */
void tf_looker_free(struct tf_looker *looker);  /* when no scan runs any more; accepts NULL */
/* Watches an open folder, and notes its path. Any thread. 0 or a negative errno. */
int tf_looker_watch(struct tf_looker *looker, int fd, const char *path);

/* input.c: once files, work and handles are gone, frees the input and tells. */
void tf_container_maybe_closed(struct tf_container *input);

/* ---- watch.c ----------------------------------------------------------------------------------
 */

void tf_watch_start(struct tf_container *input); /* without inotify the input lives by its scans */
void tf_watch_register(struct tf_container *input, struct tf_file *file, int watch);
void tf_watch_tell(struct tf_container *input, int error); /* once: no hints, for this reason */
void tf_watch_forget(struct tf_container *input, struct tf_file *file);

/* ---- summary.c --------------------------------------------------------------------------------
 */

void tf_container_summarize(void *self, struct tf_buf *out); /* as in struct tf_input_kind */

#endif
