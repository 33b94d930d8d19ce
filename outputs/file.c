/*
 * file.c - output `file`: NDJSON lines in one file, each record exactly once (docs/outputs.md).
 *
 * Order of a batch (docs/guarantees.md E1): write its lines; sync the file; save the cursor, which
 * is the number of the last frame with the file's device, inode and length; only then do the frames
 * count as acked. A start, a failed write and a failed sync all do one thing: open the file that
 * the saved cursor names, cut it to the saved length, go on behind the saved number.
 *
 * The path's file is not the cursor's (E3): somebody renamed it. The old one is cut and synced (by
 * its descriptor, after a start by its inode in the same folder), the path's file is opened or
 * made, and its cursor is saved before the first line goes there. A file that is shorter than saved
 * is never filled up: its true length is saved. Text that others left without a newline at the end
 * gets one first.
 *
 *     IDLE     nothing to write
 *     WORKING  a worker looks after the file, then writes and syncs up to FRAMES_MAX frames
 *     SAVING   the spool saves the cursor: of the batch, or of a file that is new or was shortened
 *     WAITING  RETRY_MS after an error; frames are kept, and the rest waits in the spool
 *
 * A cursor that could not be saved may be on disk all the same: it is saved again as it is, and the
 * file is not cut meanwhile. A frame that is no gzip of events is rejected, whole: its lines are
 * cut off again. A lock (flock) keeps a second writer away.
 */
#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "taffrail/event.h"
#include "taffrail/log.h"
#include "taffrail/output.h"

#include "printer.h"

#define FRAMES_MAX         8u
#define BATCH_BYTES        (4u << 20) /* inflated, about; one frame may pass it */
#define RETRY_MS           1000u
#define FOLDER_ENTRIES_MAX 65536u /* looked through for a renamed file; then it is not found */

struct file_options {
    struct tf_text path;
    uint64_t mode;
};

/* What a worker has for itself while `state` is WORKING. */
struct job {
    uv_work_t work;
    const char *name, *path, *folder;
    mode_t mode;
    struct tf_frame *frames[FRAMES_MAX];
    bool rejected[FRAMES_MAX];
    uint32_t frame_count;
    int fd;       /* -1: open by `at` */
    bool has_at;  /* false: no cursor was ever saved */
    bool changed; /* `at` is new: it is saved before anything is written */
    bool ends_line;
    struct tf_file_cursor at; /* as saved, unless changed */
    uint64_t length;          /* behind the written lines */
    struct tf_printer printer;
    const char *step; /* of a failure, for the log */
    int status;
};

enum state { IDLE, WORKING, SAVING, WAITING };
struct file_output {
    struct tf_output_args args;
    char *folder;
    struct tf_feed *feed; /* NULL: not started */
    uv_timer_t timer;
    enum state state;
    bool up, written; /* written: SAVING is of a batch, not of a new file */
    bool closing;
    uint64_t opens, retries;
    void (*on_closed)(void *ctx);
    void *closed_ctx;
    struct job job;
};

/* ---- on a worker: finding and cutting the file ---------------------------------------------- */

static int fail(struct job *job, const char *step, int rc)
{
    job->step = step;
    return rc;
}

static int fail_errno(struct job *job, const char *step)
{
    int rc = -errno;

    if (rc == -EACCES) {
        tf_sandbox_look(job->folder);
    }
    return fail(job, step, rc);
}

static void drop_fd(struct job *job)
{
    if (job->fd >= 0) {
        (void)close(job->fd); /* all that counts was synced */
    }
    job->fd = -1;
}

static bool is_at(const struct job *job, const struct stat *st)
{
    return (uint64_t)st->st_dev == job->at.device && (uint64_t)st->st_ino == job->at.inode;
}

static int sync_folder(struct job *job)
{
    int fd = open(job->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int rc;

    if (fd < 0) {
        return fail_errno(job, "open the folder");
    }
    rc = fsync(fd) == 0 ? 0 : fail_errno(job, "sync the folder");
    (void)close(fd);
    return rc;
}

/* Whether the next line needs a newline before it. */
static int look_at_line_end(struct job *job)
{
    char last = '\n';

    if (job->at.length > 0 && pread(job->fd, &last, 1, (off_t)(job->at.length - 1)) < 0) {
        return fail_errno(job, "read");
    }
    job->ends_line = last == '\n';
    return 0;
}

/* Makes the open file as long as the cursor says, or the cursor as short as the file is. What is
 * too much is an unfinished write; or text of others, when all of ours was saved. */
static int settle_length(struct job *job, bool all_saved)
{
    struct stat st;

    if (fstat(job->fd, &st) < 0) {
        return fail_errno(job, "examine");
    }
    if ((uint64_t)st.st_size > job->at.length) {
        if (ftruncate(job->fd, (off_t)job->at.length) < 0) {
            return fail_errno(job, "cut");
        }
        if (all_saved) {
            tf_log(TF_LOG_WARN, "file-cut",
                   TF_DETAILS(TF_STR("output", job->name), TF_STR("file", job->path),
                              TF_NUM("bytes", (uint64_t)st.st_size - job->at.length)),
                   "somebody else wrote into the file; that was cut off");
        }
    } else if ((uint64_t)st.st_size < job->at.length) {
        tf_log(TF_LOG_WARN, "file-short",
               TF_DETAILS(TF_STR("output", job->name), TF_STR("file", job->path),
                          TF_NUM("bytes_missing", job->at.length - (uint64_t)st.st_size)),
               "somebody shortened the file; what was cut off is not written again");
        job->at.length = (uint64_t)st.st_size;
        job->changed = true;
        return look_at_line_end(job);
    }
    return 0;
}

static int open_regular(struct job *job, const char *path)
{
    struct stat st;
    int fd = open(path, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);

    if (fd < 0) {
        return fail_errno(job, "open");
    }
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
        (void)close(fd);
        return fail(job, "open, it is not a regular file", -EINVAL);
    }
    return fd;
}

static int create(struct job *job)
{
    int fd = open(job->path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, job->mode);
    int rc;

    if (fd < 0) {
        return fail_errno(job, "create");
    }
    rc = fchmod(fd, job->mode) == 0 && fsync(fd) == 0 ? 0 : fail_errno(job, "create");
    if (rc == 0) {
        rc = sync_folder(job);
    }
    if (rc < 0) {
        (void)close(fd);
        return rc;
    }
    return fd;
}

static int lock_file(struct job *job)
{
    if (flock(job->fd, LOCK_EX | LOCK_NB) < 0) {
        return errno == EWOULDBLOCK ? fail(job, "lock, somebody else writes it", -EBUSY)
                                    : fail_errno(job, "lock");
    }
    return 0;
}

/* The path's file, which is not the cursor's: made, or gone on with behind what is there. */
static int open_other(struct job *job)
{
    struct stat st = {0};
    int rc;

    job->fd = create(job);
    if (job->fd == -EEXIST) {
        job->fd = open_regular(job, job->path);
    }
    if (job->fd < 0) {
        return job->fd;
    }
    rc = lock_file(job);
    if (rc == 0 && fstat(job->fd, &st) < 0) {
        rc = fail_errno(job, "examine");
    }
    if (rc == 0) {
        rc = sync_folder(job); /* its name may be as new as the file: no cursor before it is safe */
    }
    if (rc < 0) {
        return rc;
    }
    job->at = (struct tf_file_cursor){.device = (uint64_t)st.st_dev,
                                      .inode = (uint64_t)st.st_ino,
                                      .length = (uint64_t)st.st_size};
    job->has_at = true;
    job->changed = true;
    if (st.st_size > 0) {
        tf_log(TF_LOG_INFO, "file-taken",
               TF_DETAILS(TF_STR("output", job->name), TF_STR("file", job->path),
                          TF_NUM("bytes", st.st_size)),
               "the file holds text already; lines are added behind it");
    }
    return look_at_line_end(job);
}

/* Opens the file with the cursor's inode in the folder; -ENOENT when it is not there. */
static int find_renamed(struct job *job)
{
    DIR *folder = opendir(job->folder);
    int fd = -ENOENT;

    if (folder == NULL) {
        return fail_errno(job, "read the folder");
    }
    for (uint32_t i = 0; fd == -ENOENT && i < FOLDER_ENTRIES_MAX; i++) {
        const struct dirent *entry = readdir(folder);
        struct stat st;

        if (entry == NULL) {
            break;
        }
        if (entry->d_ino != job->at.inode ||
            fstatat(dirfd(folder), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
            !is_at(job, &st) || !S_ISREG(st.st_mode)) {
            continue;
        }
        fd = openat(dirfd(folder), entry->d_name,
                    O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
        fd = fd < 0 ? fail_errno(job, "open the renamed file") : fd;
    }
    (void)closedir(folder);
    return fd;
}

/* Cuts and syncs the open file, which is not the path's any more, and closes it. */
static int leave_old(struct job *job)
{
    int rc = settle_length(job, false);

    if (rc == 0 && fsync(job->fd) < 0) {
        rc = fail_errno(job, "sync the renamed file");
    }
    drop_fd(job);
    if (rc == 0) {
        tf_log(TF_LOG_INFO, "rotated",
               TF_DETAILS(TF_STR("output", job->name), TF_STR("file", job->path)),
               "the file was renamed; lines go on in a new one");
    }
    return rc;
}

static int open_after_rename(struct job *job)
{
    int rc = 0;

    job->fd = find_renamed(job);
    if (job->fd >= 0) {
        rc = leave_old(job);
    } else if (job->fd == -ENOENT) {
        tf_log(TF_LOG_WARN, "file-gone",
               TF_DETAILS(TF_STR("output", job->name), TF_STR("file", job->path)),
               "the file written to before is not in its folder; lines behind the saved cursor "
               "may be there twice");
    } else {
        rc = job->fd;
    }
    return rc < 0 ? rc : open_other(job);
}

static int open_at(struct job *job)
{
    struct stat st;
    int rc;

    job->fd = open_regular(job, job->path);
    if (job->fd < 0 && job->fd != -ENOENT) {
        return job->fd;
    }
    if (job->fd >= 0 && fstat(job->fd, &st) < 0) {
        return fail_errno(job, "examine");
    }
    if (job->fd < 0 || !is_at(job, &st)) {
        drop_fd(job);
        return open_after_rename(job);
    }
    rc = lock_file(job);
    if (rc == 0) {
        rc = settle_length(job, false);
    }
    return rc < 0 ? rc : look_at_line_end(job);
}

/* Between two batches: is the open file still the path's, and as long as it was? */
static int look_again(struct job *job)
{
    struct stat st;
    int rc = lstat(job->path, &st) == 0 ? 0 : -errno;

    if (rc < 0 && rc != -ENOENT) {
        return fail(job, "examine", rc);
    }
    if (rc == 0 && is_at(job, &st)) {
        return settle_length(job, true);
    }
    rc = leave_old(job);
    return rc < 0 ? rc : open_other(job);
}

/* ---- on a worker: writing ------------------------------------------------------------------- */

static int write_all(struct job *job, const char *data, size_t size)
{
    while (size > 0) {
        ssize_t n =
            pwrite(job->fd, data, size < TF_PRINTER_PIECE_BYTES ? size : TF_PRINTER_PIECE_BYTES,
                   (off_t)job->length);

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return n < 0 ? fail_errno(job, "write") : fail(job, "write", -EIO);
        }
        data += n;
        size -= (size_t)n;
        job->length += (uint64_t)n;
    }
    return 0;
}

static int write_piece(struct job *job, struct tf_slice piece)
{
    size_t half = 0;
    int rc = 0;

#ifdef TF_TEST_HOOKS
    if (getenv("TAFFRAIL_CRASH") != NULL) { /* so that half can be there */
        half = piece.size / 2;
        rc = write_all(job, piece.data, half);
    }
#endif
    tf_crash_point("file.half");
    return rc < 0 ? rc : write_all(job, piece.data + half, piece.size - half);
}

/* The frame's lines behind job->length, all or none. */
static int write_frame(struct job *job, uint32_t i)
{
    const struct tf_frame *frame = job->frames[i];
    uint64_t begin = job->length;
    int rc = tf_printer_begin(&job->printer, frame->payload, tf_slice_text(frame->tag));

    while (rc == 0 && (rc = tf_printer_next(&job->printer)) == 1) {
        rc = write_piece(job, tf_buf_slice(&job->printer.out));
    }
    if (rc == -EPROTO) {
        job->rejected[i] = true;
        job->length = begin;
        rc = ftruncate(job->fd, (off_t)begin) == 0 ? 0 : fail_errno(job, "cut");
    } else if (rc == -ENOMEM) {
        (void)fail(job, "inflate", rc);
    }
    return rc;
}

static int write_frames(struct job *job)
{
    int rc = 0;

    job->length = job->at.length;
    if (!job->ends_line) {
        rc = write_all(job, "\n", 1);
    }
    for (uint32_t i = 0; rc == 0 && i < job->frame_count; i++) {
        job->rejected[i] = false;
        rc = write_frame(job, i);
    }
    tf_printer_trim(&job->printer);
    if (rc == 0) {
        tf_crash_point("file.written");
        rc = fdatasync(job->fd) == 0 ? 0 : fail_errno(job, "sync");
    }
    if (rc == 0) {
        job->ends_line = true;
        tf_crash_point("file.synced");
    }
    return rc;
}

static void file_work(uv_work_t *work)
{
    struct job *job = TF_CONTAINER_OF(work, struct job, work);
    int rc = job->fd >= 0 ? look_again(job) : job->has_at ? open_at(job) : open_other(job);

    if (rc == 0 && !job->changed && job->frame_count > 0) {
        rc = write_frames(job);
    }
    if (rc < 0) {
        drop_fd(job); /* and opened again by the cursor, which cuts it */
    }
    job->status = rc;
}

/* ---- on the loop ---------------------------------------------------------------------------- */

static void advance(struct file_output *output);

static void release_frames(struct file_output *output)
{
    for (uint32_t i = 0; i < output->job.frame_count; i++) {
        tf_frame_unref(output->job.frames[i]);
    }
    output->job.frame_count = 0;
}

static void free_output(struct file_output *output)
{
    void (*on_closed)(void *ctx) = output->on_closed;
    void *ctx = output->closed_ctx;

    release_frames(output);
    drop_fd(&output->job);
    tf_printer_fini(&output->job.printer);
    free(output->folder);
    free(output);
    if (on_closed != NULL) {
        on_closed(ctx);
    }
}

static void on_timer_closed(uv_handle_t *handle)
{
    free_output(handle->data);
}

static void retry_later(struct file_output *output, const char *step, int rc);

static void on_retry(uv_timer_t *timer)
{
    struct file_output *output = timer->data;

    output->retries++;
    advance(output);
}

/* Takes frames until they fill a batch. */
static void collect(struct file_output *output)
{
    struct job *job = &output->job;
    size_t bytes = 0;

    for (uint32_t i = 0; i < job->frame_count; i++) {
        bytes += tf_printer_estimate(job->frames[i]->payload);
    }
    while (job->frame_count < FRAMES_MAX && bytes < BATCH_BYTES &&
           tf_feed_next(output->feed, &job->frames[job->frame_count]) == 0) {
        bytes += tf_printer_estimate(job->frames[job->frame_count]->payload);
        job->frame_count++;
    }
}

static void on_saved(void *ctx, int status)
{
    struct file_output *output = ctx;

    assert(output->state == SAVING);
    if (status < 0) {
        retry_later(output, "save the cursor", status);
        return;
    }
    output->job.changed = false;
    if (output->written) {
        output->written = false;
        release_frames(output);
    }
    output->state = IDLE;
    advance(output);
}

/* The cursor with the number of the batch; of a file without a batch, with the number it has. */
static void save(struct file_output *output)
{
    const struct job *job = &output->job;
    uint64_t seq = output->written ? job->frames[job->frame_count - 1]->seq : 0;

    output->state = SAVING;
    tf_feed_save_file(output->feed, seq, &job->at, on_saved, output);
}

static void reject_frames(struct file_output *output)
{
    struct job *job = &output->job;

    for (uint32_t i = 0; i < job->frame_count; i++) {
        const struct tf_frame *frame = job->frames[i];

        if (job->rejected[i] && tf_feed_reject(output->feed, frame->seq)) {
            tf_log(
                TF_LOG_ERROR, "rejected",
                TF_DETAILS(TF_STR("output", output->args.name), TF_NUM("records", frame->events)),
                "frame %llu/%llu is not a gzip of whole events; none of its records is written",
                (unsigned long long)TF_SEQ_RUN(frame->seq),
                (unsigned long long)TF_SEQ_N(frame->seq));
        }
    }
}

static void tell_up(struct file_output *output)
{
    if (!output->up) {
        output->up = true;
        output->opens++;
        tf_log(TF_LOG_INFO, "output-up",
               TF_DETAILS(TF_STR("output", output->args.name), TF_STR("file", output->job.path)),
               "lines are written");
    }
}

static void on_worked(uv_work_t *work, int status)
{
    struct job *job = TF_CONTAINER_OF(work, struct job, work);
    struct file_output *output = TF_CONTAINER_OF(job, struct file_output, job);
    int rc = status < 0 ? status : job->status;

    assert(output->state == WORKING);
    if (rc < 0) {
        retry_later(output, status < 0 ? "start a job" : job->step, rc);
        return;
    }
    tell_up(output);
    output->state = IDLE;
    if (job->changed) {
        save(output);
    } else if (job->frame_count > 0) {
        job->at.length = job->length;
        output->written = true;
        reject_frames(output);
        save(output);
    } else {
        advance(output);
    }
}

static void begin_work(struct file_output *output)
{
    int rc;

    output->state = WORKING;
    rc = uv_queue_work(output->args.loop, &output->job.work, file_work, on_worked);
    if (rc < 0) {
        retry_later(output, "start a job", rc);
    }
}

static void finish_close(struct file_output *output)
{
    if (!uv_is_closing((uv_handle_t *)&output->timer)) {
        uv_close((uv_handle_t *)&output->timer, on_timer_closed);
    }
}

/* What is next; nothing runs for this output now. */
static void advance(struct file_output *output)
{
    if (output->closing) {
        finish_close(output);
        return;
    }
    if (output->written) { /* its cursor could not be saved */
        save(output);
        return;
    }
    collect(output);
    if (output->job.frame_count > 0 || output->job.fd < 0 || output->job.changed) {
        begin_work(output);
        return;
    }
    output->state = IDLE;
}

static void retry_later(struct file_output *output, const char *step, int rc)
{
    char reason[64];

    output->up = false;
    output->state = WAITING;
    tf_log(TF_LOG_WARN, "output-down",
           TF_DETAILS(TF_STR("output", output->args.name), TF_STR("file", output->job.path)),
           "%s: %s; retry in %u ms, records wait in the spool", step,
           uv_strerror_r(rc, reason, sizeof reason), RETRY_MS);
    if (output->closing) {
        finish_close(output);
        return;
    }
    (void)uv_timer_start(&output->timer, on_retry, RETRY_MS, 0);
}

/* ---- the contract --------------------------------------------------------------------------- */

static int check_path(const struct file_options *options, struct tf_error *err)
{
    const char *path = options->path.text;
    struct stat st;

    if (path[0] == '\0' || path[strlen(path) - 1] == '/') {
        return tf_error_add(err, &options->path.at, "path: \"%s\" names no file", path);
    }
    if (lstat(path, &st) == 0 && !S_ISREG(st.st_mode)) {
        return tf_error_add(err, &options->path.at,
                            "path: \"%s\" is %s; the file output cuts what it writes after a "
                            "crash, so name a file of its own",
                            path, S_ISLNK(st.st_mode) ? "a link" : "not a regular file");
    }
    if ((options->mode & 0600) != 0600) {
        return tf_error_add(err, &options->path.at,
                            "mode: %04o keeps the owner from reading and writing; 0640 is usual",
                            (unsigned)options->mode);
    }
    return 0;
}

static int check_folder(const struct file_options *options, const char *folder,
                        struct tf_error *err)
{
    struct stat st;

    if (stat(folder, &st) < 0 || !S_ISDIR(st.st_mode)) {
        return tf_error_add(err, &options->path.at,
                            "path: there is no folder \"%s\"; make it, its owner decides who may "
                            "rename the file",
                            folder);
    }
    return 0;
}

static char *folder_of(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash == NULL ? strdup(".") : strndup(path, (size_t)(slash - path) + 1);
}

static int file_open(const struct tf_output_args *args, void **self, struct tf_error *err)
{
    const struct file_options *options = args->options;
    struct file_output *output;
    int rc;

    if (options->path.text == NULL) {
        return tf_error_add(err, &args->at, "output \"%s\" has no path", args->name);
    }
    rc = check_path(options, err);
    if (rc < 0) {
        return rc;
    }
    output = calloc(1, sizeof *output);
    if (output == NULL) {
        return -ENOMEM;
    }
    output->args = *args;
    output->job.fd = -1;
    output->job.name = args->name;
    output->job.path = options->path.text;
    output->job.mode = (mode_t)options->mode;
    tf_printer_init(&output->job.printer, tf_event_print_json);
    output->folder = folder_of(options->path.text);
    rc = output->folder == NULL ? -ENOMEM : check_folder(options, output->folder, err);
    if (rc < 0) {
        free_output(output);
        return rc;
    }
    output->job.folder = output->folder;
    *self = output;
    return 0;
}

static void file_needs(const void *self, struct tf_needs *needs)
{
    tf_needs_path(needs, TF_NEED_WRITE, ((const struct file_output *)self)->folder);
}

static void file_summarize(const void *self, struct tf_buf *out)
{
    (void)tf_buf_append_text(out, ((const struct file_output *)self)->job.path);
}

static int file_start(void *self, struct tf_feed *feed, struct tf_error *err)
{
    struct file_output *output = self;
    uint64_t seq;

    (void)err;
    (void)uv_timer_init(output->args.loop, &output->timer);
    output->timer.data = output;
    output->feed = feed;
    output->job.has_at = tf_feed_saved_file(feed, &output->job.at, &seq);
    begin_work(output);
    return 0;
}

static void file_wake(void *self)
{
    struct file_output *output = self;

    if (output->feed != NULL && output->state == IDLE) {
        advance(output);
    }
}

static void file_close(void *self, void (*on_closed)(void *ctx), void *ctx)
{
    struct file_output *output = self;

    output->on_closed = on_closed;
    output->closed_ctx = ctx;
    output->closing = true;
    if (output->feed == NULL) {
        free_output(output);
    } else if (output->state == IDLE || output->state == WAITING) {
        finish_close(output);
    }
}

static void file_status(const void *self, struct tf_output_status *status)
{
    const struct file_output *output = self;

    *status = (struct tf_output_status){
        .up = output->up, .connects = output->opens, .retries = output->retries};
}

static const struct tf_option file_options[] = {
    {.name = "path",
     .type = TF_OPTION_PATH,
     .offset = offsetof(struct file_options, path),
     .required = true,
     .about = "the file; nothing from a record becomes part of its name"},
    {.name = "mode",
     .type = TF_OPTION_OCTAL,
     .offset = offsetof(struct file_options, mode),
     .def = "0640",
     .max = 0777,
     .about = "mode of a file that is made, whatever the umask"},
    {0},
};

const struct tf_output_kind tf_output_file = {
    .name = "file",
    .options = file_options,
    .options_bytes = sizeof(struct file_options),
    .window = FRAMES_MAX,
    .open = file_open,
    .needs = file_needs,
    .summarize = file_summarize,
    .start = file_start,
    .wake = file_wake,
    .close = file_close,
    .status = file_status,
};
