/*
 * file.c - one file, on a worker: read a block, compare what stood before it, decode; mend.
 *
 * Each read begins up to 64 bytes before the offset, in the same pread, and those bytes are
 * compared with the print kept of them (docs/guarantees.md B4). When they differ, or the file is
 * shorter, nothing is decoded: io->mend says how to go on, and the loop writes it down and starts
 * the file anew from there. In order:
 *
 *     TF_MEND_SIBLING  a copy in the same directory holds the bytes before the position: it is read
 * on from there, then this file from its start (`copytruncate`, nothing lost) TF_MEND_OLDER    an
 * older print still matches: from there (the file lost its own tail) TF_MEND_START    nothing
 * matches: from the start
 *
 * Older prints stand about 4 KiB, 64 KiB, 1 MiB and 16 MiB back, each taken anew when it is twice
 * as far.
 *
 * The blocks' buffers belong to a pool of as many as jobs run at once: an idle file has none.
 */
#include "internal.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define POOL_MAX           16u
#define GOOD_PUMPS_TO_GROW 64u
#define HELD_MAX_MS        30000u
#define SIBLINGS_MAX       4096u /* names looked at for a copy */

static const uint64_t print_distance[TF_PRINTS] = {0, 4u << 10, 64u << 10, 1u << 20, 16u << 20};

/* ---- blocks
 * -------------------------------------------------------------------------------------- */

struct tf_block_pool {
    uv_mutex_t mutex;
    struct tf_buf *free[POOL_MAX];
    unsigned count;
};

struct tf_block_pool *tf_block_pool_new(void)
{
    struct tf_block_pool *pool = calloc(1, sizeof *pool);

    if (pool != NULL && uv_mutex_init(&pool->mutex) < 0) {
        free(pool);
        pool = NULL;
    }
    return pool;
}

static void block_free(struct tf_buf *block)
{
    if (block != NULL) {
        tf_buf_fini(block);
        free(block);
    }
}

void tf_block_pool_free(struct tf_block_pool *pool)
{
    if (pool == NULL) {
        return;
    }
    while (pool->count > 0) {
        block_free(pool->free[--pool->count]);
    }
    uv_mutex_destroy(&pool->mutex);
    free(pool);
}

struct tf_buf *tf_block_get(struct tf_block_pool *pool)
{
    struct tf_buf *block = NULL;

    uv_mutex_lock(&pool->mutex);
    if (pool->count > 0) {
        block = pool->free[--pool->count];
    }
    uv_mutex_unlock(&pool->mutex);
    if (block != NULL) {
        return block;
    }
    block = calloc(1, sizeof *block);
    if (block == NULL) {
        return NULL;
    }
    tf_buf_init(block, TF_BLOCK_BYTES + TF_PRINT_BYTES);
    if (tf_buf_reserve(block, TF_BLOCK_BYTES + TF_PRINT_BYTES) < 0) {
        block_free(block);
        return NULL;
    }
    return block;
}

void tf_block_put(struct tf_block_pool *pool, struct tf_buf *block)
{
    explicit_bzero(block->data, block->size); /* it may hold what redaction takes out */
    tf_buf_clear(block);
    uv_mutex_lock(&pool->mutex);
    if (pool->count < POOL_MAX) {
        pool->free[pool->count++] = block;
        block = NULL;
    }
    uv_mutex_unlock(&pool->mutex);
    block_free(block);
}

/* ---- prints
 * -------------------------------------------------------------------------------------- */

/* Reads until size bytes are there or the file ends. Returns the count or a negative errno. */
static ssize_t read_at(int fd, char *to, size_t size, uint64_t offset)
{
    size_t got = 0;

    while (got < size) {
        ssize_t n = pread(fd, to + got, size - got, (off_t)(offset + got));

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return -errno;
        }
        if (n == 0) {
            break;
        }
        got += (size_t)n;
    }
    return (ssize_t)got;
}

/* Bytes of the file, or of the text of a compressed one. The count, or a negative errno; -EAGAIN:
 * call again. */
static ssize_t read_text(struct tf_file_io *io, char *to, size_t size, uint64_t offset)
{
    if (!io->position.is_gzip) {
        return read_at(io->fd, to, size, offset);
    }
    if (io->gunzip == NULL) {
        io->gunzip = tf_gunzip_new(io->fd);
    }
    return io->gunzip != NULL ? tf_gunzip_read(io->gunzip, to, size, offset) : -ENOMEM;
}

/* As tf_file_print, for a compressed file too. */
static int print_at(struct tf_file_io *io, uint64_t offset, struct tf_print *out)
{
    char bytes[TF_PRINT_BYTES];
    size_t size = tf_print_size(offset);
    ssize_t got = read_text(io, bytes, size, offset - size);

    if (got < 0 || (size_t)got < size) {
        return got < 0 ? (int)got : -ENODATA;
    }
    tf_print_take(bytes, offset, out);
    return 0;
}

int tf_file_print(int fd, uint64_t offset, struct tf_print *out)
{
    char bytes[TF_PRINT_BYTES];
    size_t size = tf_print_size(offset);
    ssize_t got = read_at(fd, bytes, size, offset - size);

    if (got < 0) {
        return (int)got;
    }
    if ((size_t)got < size) {
        return -ENODATA;
    }
    tf_print_take(bytes, offset, out);
    return 0;
}

/* 1 when the file holds those bytes, 0 when not, or -errno: a failed read says nothing of them. */
static int compare(int fd, const struct tf_print *print)
{
    struct tf_print now;
    int rc = tf_file_print(fd, print->offset, &now);

    if (rc < 0) {
        return rc == -ENODATA ? 0 : rc;
    }
    return memcmp(now.hash, print->hash, sizeof now.hash) == 0 ? 1 : 0;
}

bool tf_file_matches(int fd, const struct tf_print *print)
{
    return compare(fd, print) == 1;
}

/* A print at offset, from the block when it holds those bytes, else from the file. */
static int print_from(struct tf_file_io *io, const struct tf_buf *block, uint64_t block_at,
                      uint64_t offset, struct tf_print *out)
{
    size_t size = tf_print_size(offset);

    if (offset - size >= block_at && offset <= block_at + block->size) {
        tf_print_take(block->data + (offset - size - block_at), offset, out);
        return 0;
    }
    return print_at(io, offset, out);
}

/* Brings the prints behind the largest done. One that cannot be taken is left out: it only helps.
 */
static int take_prints(struct tf_file_io *io, const struct tf_buf *block, uint64_t block_at)
{
    struct tf_position *position = &io->position;
    uint64_t last = tf_position_last(position);
    uint64_t below;
    int rc = print_from(io, block, block_at, last, &position->prints[0]);

    if (rc < 0) {
        return rc;
    }
    below = last;
    for (unsigned i = 1; i < TF_PRINTS && !position->is_gzip; i++) { /* that is never cut */
        struct tf_print *print = &position->prints[i];
        uint64_t distance = print_distance[i];

        if (last > distance && (print->offset == 0 || last - print->offset >= 2 * distance) &&
            print_from(io, block, block_at, last - distance, print) < 0) {
            *print = (struct tf_print){0};
        }
        if (print->offset >= below) { /* the order of the position */
            *print = (struct tf_print){0};
        }
        below = print->offset != 0 ? print->offset : below;
    }
    return 0;
}

int tf_file_hold_back(struct tf_file_io *io, const uint64_t held_from[TF_STREAMS])
{
    struct tf_position *position = &io->position;
    uint64_t last = tf_position_last(position), now;
    int rc;

    for (unsigned i = 0; i < TF_STREAMS; i++) {
        if (held_from[i] < position->done[i]) {
            position->done[i] = held_from[i];
        }
    }
    now = tf_position_last(position);
    if (now == last) {
        return 0;
    }
    for (unsigned i = 1; i < TF_PRINTS; i++) {
        if (position->prints[i].offset >= now) {
            position->prints[i] = (struct tf_print){0};
        }
    }
    while ((rc = print_at(io, now, &position->prints[0])) == -EAGAIN) {
        continue; /* far back in a compressed file: rare, and bounded by what is held */
    }
    return rc;
}

/* ---- mending
 * --------------------------------------------------------------------------------------- */

/* What the file's position becomes when it goes on at an older print, or (0) at its start. */
static void go_back_to(const struct tf_position *from, unsigned print, struct tf_position *out)
{
    *out = (struct tf_position){.path = from->path, .is_gzip = from->is_gzip};
    if (print == 0) {
        return;
    }
    for (unsigned i = 0; i < TF_STREAMS; i++) {
        out->done[i] = from->prints[print].offset;
        out->states[i] = from->states[i];
    }
    out->format = from->format;
    out->prints[0] = from->prints[print];
    for (unsigned i = print + 1; i < TF_PRINTS; i++) {
        out->prints[i] = from->prints[i];
    }
}

static bool is_sibling_name(const char *name, const char *base)
{
    size_t size = strlen(base);

    return strncmp(name, base, size) == 0 && (name[size] == '.' || name[size] == '-') &&
           !tf_is_compressed_name(name);
}

/* The compressed sibling holds the bytes before the position. */
static bool text_matches(int fd, const struct tf_print *print)
{
    struct tf_file_io io = {.fd = fd, .position = {.is_gzip = true}};
    struct tf_print found;
    int rc;

    while ((rc = print_at(&io, print->offset, &found)) == -EAGAIN) {
        continue;
    }
    tf_gunzip_free(io.gunzip);
    return rc == 0 && memcmp(found.hash, print->hash, sizeof found.hash) == 0;
}

static bool sibling_matches(const struct tf_opened *opened, const struct tf_print *print,
                            bool is_gzip)
{
    if (is_gzip) {
        return text_matches(opened->fd, print);
    }
    return opened->size >= print->offset && tf_file_matches(opened->fd, print);
}

/* Opens the sibling `name` when it holds the bytes before the position; keeps the newest. */
static void try_sibling(struct tf_file_io *io, const struct tf_file_read *read, int dir_fd,
                        const char *dir, const char *name)
{
    struct tf_mend *mend = io->mend;
    struct tf_opened opened;
    bool is_better, is_gzip = tf_is_gzip_name(name);

    if (tf_opener_file(read->opener, dir_fd, dir, name, &opened) < 0) {
        return;
    }
    is_better = (mend->kind == TF_MEND_NONE || opened.changed_ns > mend->sibling.changed_ns) &&
                sibling_matches(&opened, &io->position.prints[0], is_gzip);
    if (!is_better) {
        (void)close(opened.fd);
        return;
    }
    if (mend->kind != TF_MEND_NONE) {
        (void)close(mend->sibling.fd);
    }
    mend->kind = TF_MEND_SIBLING;
    mend->sibling = opened;
    mend->is_gzip = is_gzip;
}

static void look_for_copy(struct tf_file_io *io, const struct tf_file_read *read)
{
    char dir_path[TF_FILE_PATH_MAX];
    const char *slash = strrchr(read->base, '/');
    char path[TF_FILE_PATH_MAX];
    const char *why, *name;
    int fd, base_fd;
    DIR *dir;

    (void)snprintf(dir_path, sizeof dir_path, "%.*s", (int)(slash - read->base), read->base);
    base_fd = tf_opener_dir(read->opener, dir_path[0] == '\0' ? "/" : dir_path, &why);
    if (base_fd < 0) {
        return;
    }
    fd = tf_opener_link_dir(read->opener, base_fd, dir_path, slash + 1, path, &name);
    (void)close(base_fd);
    dir = fd < 0 ? NULL : fdopendir(fd);
    if (dir == NULL) {
        if (fd >= 0) {
            (void)close(fd);
        }
        return;
    }
    for (unsigned i = 0; i < SIBLINGS_MAX; i++) {
        const struct dirent *entry = readdir(dir);

        if (entry == NULL) {
            break;
        }
        if (is_sibling_name(entry->d_name, name)) {
            try_sibling(io, read, fd, path, entry->d_name);
        }
    }
    (void)closedir(dir);
}

/* Moves the place back behind the newest newline before it, so that no half line goes out; false
 * when there is none within a block. */
static bool go_to_line_start(struct tf_file_io *io, const struct tf_file_read *read,
                             struct tf_position *position)
{
    uint64_t at = position->prints[0].offset;
    size_t size = at < TF_BLOCK_BYTES ? (size_t)at : TF_BLOCK_BYTES;
    struct tf_buf *block = tf_block_get(read->pool);
    const char *newline;
    bool found = false;

    if (block == NULL) {
        return false;
    }
    if (read_at(io->fd, block->data, size, at - size) == (ssize_t)size) {
        block->size = size;
        newline = memrchr(block->data, '\n', size);
        if (newline != NULL) {
            at = at - size + (size_t)(newline - block->data) + 1;
            found = tf_file_print(io->fd, at, &position->prints[0]) == 0;
        }
    }
    tf_block_put(read->pool, block);
    for (unsigned i = 1; i < TF_PRINTS; i++) {
        if (position->prints[i].offset >= at) {
            position->prints[i] = (struct tf_print){0};
        }
    }
    for (unsigned i = 0; i < TF_STREAMS; i++) {
        position->done[i] = at;
    }
    return found;
}

/* What was seen in the file, and not read, and is not in its copy. */
static uint64_t bytes_not_copied(const struct tf_file_io *io)
{
    uint64_t from = tf_position_last(&io->position);

    from = io->mend->sibling.size > from ? io->mend->sibling.size : from;
    return io->largest_size > from ? io->largest_size - from : 0;
}

/* 0 with io->mend set, or -errno. */
static int mend(struct tf_file_io *io, const struct tf_file_read *read)
{
    assert(io->mend == NULL);
    io->mend = calloc(1, sizeof *io->mend);
    if (io->mend == NULL) {
        return -ENOMEM;
    }
    if (!io->is_deleted && !io->position.is_gzip && io->position.prints[0].offset > 0) {
        look_for_copy(io, read);
    }
    if (io->mend->kind == TF_MEND_SIBLING) {
        io->mend->lost_bytes = io->mend->is_gzip ? 0 : bytes_not_copied(io);
        go_back_to(&io->position, 0, &io->mend->position);
        return 0;
    }
    for (unsigned i = 1; i < TF_PRINTS && !io->position.is_gzip; i++) {
        int same =
            io->position.prints[i].offset == 0 ? 0 : compare(io->fd, &io->position.prints[i]);

        if (same < 0) {
            return same;
        }
        if (same == 1) {
            go_back_to(&io->position, i, &io->mend->position);
            if (!go_to_line_start(io, read, &io->mend->position)) {
                continue; /* further back, in the end the start */
            }
            io->mend->kind = TF_MEND_OLDER;
            return 0;
        }
    }
    io->mend->kind = TF_MEND_START;
    go_back_to(&io->position, 0, &io->mend->position);
    return 0;
}

/* ---- reading
 * ----------------------------------------------------------------------------------------- */

static int look(struct tf_file_io *io, const struct tf_file_read *read,
                struct tf_pump_result *result)
{
    struct stat status;

    if (io->wants_watch && io->watch < 0 && read->inotify_fd >= 0) { /* before the size is taken */
        int rc = tf_watch_add(read->inotify_fd, io->fd, TF_WATCH_FILE_MASK);

        io->watch = rc < 0 ? -1 : rc;
        io->watch_error = rc < 0 ? rc : 0;
        io->wants_watch = false;
        result->again = rc >= 0; /* a hint may come before the loop knows whose it is */
    }
    if (fstat(io->fd, &status) < 0) {
        return -errno;
    }
    io->size = (uint64_t)status.st_size;
    io->is_deleted = status.st_nlink == 0;
    return 0;
}

/* The file does not reach so far. */
static bool is_shorter(const struct tf_file_io *io, uint64_t offset)
{
    return !io->position.is_gzip && io->size < offset;
}

/* As compare, for the largest done. */
static int compare_position(struct tf_file_io *io)
{
    uint64_t last = tf_position_last(&io->position);
    struct tf_print now;
    int rc;

    if (last == 0 || is_shorter(io, last)) {
        return last == 0 ? 1 : 0;
    }
    rc = print_at(io, last, &now);
    if (rc < 0) {
        return rc == -ENODATA ? 0 : rc;
    }
    return memcmp(now.hash, io->position.prints[0].hash, sizeof now.hash) == 0 ? 1 : 0;
}

/* The byte order stands at the file's start. */
static int tell_mark(struct tf_file_io *io)
{
    char mark[2];
    ssize_t got = read_text(io, mark, sizeof mark, 0);

    if (got >= 0) {
        tf_lines_set_mark(io->lines, tf_slice(mark, (size_t)got));
    }
    return got < 0 ? (int)got : 0;
}

/* Before the first read: is this still the file that the position speaks of? 0, 1 to mend, or
 * -errno. */
static int verify(struct tf_file_io *io)
{
    int rc = compare_position(io);

    if (rc <= 0) {
        return rc == 0 ? 1 : rc;
    }
    io->offset = tf_position_first(&io->position);
    rc = print_at(io, io->offset, &io->tail);
    if (rc < 0) {
        return rc == -ENODATA ? 1 : rc;
    }
    rc = io->encoding == TF_ENCODING_UTF16 ? tell_mark(io) : 0;
    if (rc < 0) {
        return rc;
    }
    tf_lines_restart(io->lines, io->offset, io->position.done);
    io->is_verified = true;
    return 0;
}

/* Fills block from before the offset. 0, 1 to mend, or -errno. */
static int read_block(struct tf_file_io *io, struct tf_buf *block)
{
    size_t before = tf_print_size(io->offset);
    ssize_t got = read_text(io, block->data, before + io->block_bytes, io->offset - before);

    if (got < 0) {
        return (int)got;
    }
    block->size = (size_t)got;
    if (block->size < before || is_shorter(io, io->offset)) {
        return 1;
    }
    if (!tf_print_matches(&io->tail, block->data)) {
        return 1;
    }
    io->largest_size = io->size > io->largest_size ? io->size : io->largest_size;
    return 0;
}

/* The file ends here for good: what is held goes out too. */
static void finish(struct tf_file_io *io, struct tf_batch *batch, struct tf_pump_result *result)
{
    int rc = tf_lines_flush(io->lines, batch);

    if (rc == -EMSGSIZE && batch->record_count > 0) {
        result->again = true; /* the batch is full: the rest in the next one */
        return;
    }
    if (rc < 0) {
        result->status = -ENOMEM;
        return;
    }
    io->position.finished = true;
    io->is_damaged = io->gunzip != NULL && tf_gunzip_is_damaged(io->gunzip);
    batch->is_last = true;
    result->has_position = true;
}

/* Pieces whose last one does not come go out as they are. */
static void bound_held(struct tf_file_io *io, struct tf_batch *batch, struct tf_pump_result *result)
{
    uint64_t held_at = tf_lines_held_at(io->lines);
    int rc;

    if (held_at != io->held_at) {
        io->held_at = held_at;
        io->held_since_ms = batch->now_ms;
    }
    if (held_at == UINT64_MAX) {
        return;
    }
    if (batch->now_ms - io->held_since_ms < HELD_MAX_MS) {
        result->wake_at_ms = io->held_since_ms + HELD_MAX_MS;
        return;
    }
    rc = tf_lines_flush(io->lines, batch);
    if (rc == -EMSGSIZE && batch->record_count > 0) {
        result->again = true;
    } else if (rc < 0) {
        result->status = -ENOMEM;
    } else {
        io->held_at = UINT64_MAX;
    }
    result->has_position = true;
}

static void decode(struct tf_file_io *io, struct tf_buf *block, struct tf_batch *batch,
                   struct tf_pump_result *result)
{
    size_t before = tf_print_size(io->offset);
    uint64_t block_at = io->offset - before;
    struct tf_slice fresh = tf_slice(block->data + before, block->size - before);
    bool is_full = fresh.size == io->block_bytes;
    bool is_end = io->is_final && !is_full;
    int64_t used = 0;

    if (fresh.size > 0) {
        used = tf_lines_decode(io->lines, fresh, is_end, tf_now_ns(), batch);
    }
    if (used < 0) {
        result->status = (int)used;
        return;
    }
    io->offset += (uint64_t)used;
    io->tokens_bytes -= used;
    if (is_end && (size_t)used == fresh.size) {
        finish(io, batch, result);
    }
    if (result->status == 0 && !io->position.finished) {
        bound_held(io, batch, result);
    }
    if (is_full && used == 0) { /* one line is longer than what was read */
        io->block_bytes =
            io->block_bytes < TF_BLOCK_BYTES / 2 ? io->block_bytes * 2 : TF_BLOCK_BYTES;
    }
    result->again =
        result->again || is_full || (is_end && (size_t)used < fresh.size) ||
        tf_lines_has_line(io->lines, tf_slice(fresh.data + used, fresh.size - (size_t)used));
    if (result->status < 0 || (used == 0 && !result->has_position && !io->is_held)) {
        return;
    }
    result->has_position = true;
    tf_lines_done(io->lines, io->position.done);
    io->position.format = tf_lines_format(io->lines);
    result->status = print_from(io, block, block_at, io->offset, &io->tail);
    if (result->status == 0) {
        result->status = take_prints(io, block, block_at);
    }
}

/* A token bucket, of one second's worth. True: it must wait, until result->wake_at_ms. */
static bool is_over_rate(struct tf_file_io *io, uint64_t now_ms, struct tf_pump_result *result)
{
    int64_t rate = (int64_t)io->max_rate_bytes;
    uint64_t passed_ms = now_ms - io->refilled_ms;

    io->is_throttled = false;
    if (rate == 0) {
        return false;
    }
    passed_ms = io->refilled_ms == 0 ? 0 : passed_ms < 60000 ? passed_ms : 60000;
    io->tokens_bytes += (int64_t)(passed_ms * io->max_rate_bytes / 1000);
    io->tokens_bytes = io->tokens_bytes < rate ? io->tokens_bytes : rate;
    io->refilled_ms = now_ms;
    if (io->tokens_bytes >= 0) {
        return false;
    }
    result->wake_at_ms = now_ms + (uint64_t)(-io->tokens_bytes * 1000 / rate) + 1;
    io->is_throttled = true;
    return true;
}

static void grow_block(struct tf_file_io *io)
{
    if (io->block_bytes < TF_BLOCK_BYTES && ++io->good_pumps == GOOD_PUMPS_TO_GROW) {
        io->good_pumps = 0;
        io->block_bytes *= 2;
    }
}

void tf_file_pump(struct tf_file_io *io, const struct tf_file_read *read, struct tf_batch *batch,
                  struct tf_pump_result *result)
{
    struct tf_buf *block;
    int rc;

    if (io->mend != NULL || io->position.finished) {
        return; /* the loop has not come to it yet */
    }
    batch->may_hold = true;
    if (is_over_rate(io, batch->now_ms, result)) {
        return;
    }
    rc = look(io, read, result);
    if (rc == 0 && !io->is_verified) {
        rc = verify(io);
    }
    block = rc == 0 ? tf_block_get(read->pool) : NULL;
    if (block != NULL) {
        rc = read_block(io, block);
        if (rc == 0) {
            decode(io, block, batch, result);
        }
        tf_block_put(read->pool, block);
    } else if (rc == 0) {
        rc = -ENOMEM;
    }
    if (rc > 0) {
        rc = mend(io, read);
    }
    if (rc == -EAGAIN) { /* on the way to the offset in a compressed file */
        result->again = true;
        return;
    }
    if (rc < 0) {
        result->status = rc;
    }
    if (result->status == 0 && result->has_position) {
        grow_block(io);
        result->cookie = ++io->cookie;
    }
}
