/*
 * file.c - one file, on a worker: read a block, compare what stood before it, decode.
 *
 * Each read begins up to 64 bytes before the offset, in the same pread, and those bytes are
 * compared with the print kept of them (docs/guarantees.md B4). When they differ, or the file is
 * shorter, nothing is decoded: mend.c finds how to go on, and the loop writes it down and starts
 * the file anew from there.
 *
 * Older prints stand about 4 KiB, 64 KiB, 1 MiB and 16 MiB back, each taken anew when it is twice
 * as far. Before that, up to 2 and 32 MiB, the last two are of the file's beginning: a copy that
 * lacks the last lines, since these were read before the file was cut, is known by them.
 *
 * A pump also holds the bounds of the file: its rate, and how long pieces of a record are held.
 */
#include "internal.h"

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#define GOOD_PUMPS_TO_GROW 64u

static const uint64_t print_distance[TF_PRINTS] = {0, 4u << 10, 64u << 10, 1u << 20, 16u << 20};

/* ---- prints
 * -------------------------------------------------------------------------------------- */

ssize_t tf_file_read(int fd, char *to, size_t size, uint64_t offset)
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
        return tf_file_read(io->fd, to, size, offset);
    }
    if (io->gunzip == NULL) {
        io->gunzip = tf_gunzip_new(io->fd);
    }
    return io->gunzip != NULL ? tf_gunzip_read(io->gunzip, to, size, offset) : -ENOMEM;
}

int tf_file_print_text(struct tf_file_io *io, uint64_t offset, struct tf_print *out)
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
    ssize_t got = tf_file_read(fd, bytes, size, offset - size);

    if (got < 0) {
        return (int)got;
    }
    if ((size_t)got < size) {
        return -ENODATA;
    }
    tf_print_take(bytes, offset, out);
    return 0;
}

int tf_file_compare(int fd, const struct tf_print *print)
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
    return tf_file_compare(fd, print) == 1;
}

/* The block holds the bytes of a print at offset. */
static bool is_within(const struct tf_buf *block, uint64_t block_at, uint64_t offset)
{
    return offset - tf_print_size(offset) >= block_at && offset <= block_at + block->size;
}

/* A print at offset, from the block when it holds those bytes, else from the file. */
static int print_from(struct tf_file_io *io, const struct tf_buf *block, uint64_t block_at,
                      uint64_t offset, struct tf_print *out)
{
    size_t size = tf_print_size(offset);

    if (is_within(block, block_at, offset)) {
        tf_print_take(block->data + (offset - size - block_at), offset, out);
        return 0;
    }
    return tf_file_print_text(io, offset, out);
}

/* The prints of a file's beginning: one of its first line, if that is short, or docker's (its lines
 * end with a time, others begin with it, if they have one); one of its first 64 bytes, unless that
 * is of as many. */
static bool lacks_head(const struct tf_position *position, unsigned i)
{
    return position->prints[i].offset == 0 &&
           (i == TF_PRINTS - 1 ||
            (i >= TF_PRINT_HEADS && position->prints[i + 1].offset < TF_PRINT_BYTES));
}

/* 0: there is none. */
static uint64_t head_offset(const char *bytes, size_t size, enum tf_format format, unsigned i)
{
    const char *newline = memchr(bytes, '\n', size < TF_HEAD_MAX ? size : TF_HEAD_MAX);
    size_t line = newline != NULL ? (size_t)(newline - bytes) + 1 : 0;

    if (i == TF_PRINTS - 1 && line > 0 && (line < TF_PRINT_BYTES || format == TF_FORMAT_DOCKER)) {
        return line;
    }
    return size < TF_PRINT_BYTES ? 0 : TF_PRINT_BYTES;
}

static int print_head(struct tf_file_io *io, const struct tf_buf *block, uint64_t block_at,
                      unsigned i)
{
    char bytes[TF_HEAD_MAX];
    const char *from = block->data;
    ssize_t size = (ssize_t)block->size;
    uint64_t offset;

    if (block_at > 0) {
        from = bytes;
        size = tf_file_read(io->fd, bytes, sizeof bytes, 0);
    }
    if (size < 0) {
        return (int)size;
    }
    offset = head_offset(from, (size_t)size, io->position.format, i);
    tf_print_take(from + (offset - tf_print_size(offset)), offset, &io->position.prints[i]);
    return 0;
}

/* Takes one anew when it is not there, or twice as far as it should be. */
static int renew_print(struct tf_file_io *io, const struct tf_buf *block, uint64_t block_at,
                       unsigned i)
{
    struct tf_print *print = &io->position.prints[i];
    uint64_t last = io->position.prints[0].offset, distance = print_distance[i];
    int rc = 0;

    if (lacks_head(&io->position, i)) {
        rc = print_head(io, block, block_at, i);
    } else if (last > distance && (print->offset == 0 || last - print->offset >= 2 * distance)) {
        rc = print_from(io, block, block_at, last - distance, print);
    } else {
        return 0;
    }
    if (rc == 0 && !is_within(block, block_at, print->offset)) { /* it may have been cut since */
        rc = tf_file_matches(io->fd, &io->position.prints[0]) ? 0 : -ENODATA;
    }
    return rc;
}

/* Brings the prints behind the largest done. One that cannot be taken is left out: it only helps.
 */
static int take_prints(struct tf_file_io *io, const struct tf_buf *block, uint64_t block_at)
{
    struct tf_position *position = &io->position;
    uint64_t last = tf_position_last(position), above = 0;
    int rc = print_from(io, block, block_at, last, &position->prints[0]);

    if (rc < 0) {
        return rc;
    }
    for (unsigned i = TF_PRINTS - 1; i > 0 && !position->is_gzip; i--) { /* that is never cut */
        struct tf_print *print = &position->prints[i];

        if (renew_print(io, block, block_at, i) < 0 || print->offset >= last ||
            print->offset <= above) { /* the order of the position */
            *print = (struct tf_print){0};
        }
        above = print->offset != 0 ? print->offset : above;
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
    while ((rc = tf_file_print_text(io, now, &position->prints[0])) == -EAGAIN) {
        continue; /* far back in a compressed file: rare, and bounded by what is held */
    }
    return rc;
}

/* ---- reading
 * ----------------------------------------------------------------------------------------- */

static int look(struct tf_file_io *io, const struct tf_file_read *read,
                struct tf_pump_result *result)
{
    struct stat status;

    if (io->wants_watch && io->watch < 0 && read->inotify_fd >= 0) { /* before the size is taken */
        int rc = tf_opener_watch(read->opener, read->inotify_fd, io->fd, TF_WATCH_FILE_MASK);

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
    rc = tf_file_print_text(io, last, &now);
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
    rc = tf_file_print_text(io, io->offset, &io->tail);
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
    if (batch->now_ms - io->held_since_ms < TF_PIECES_WAIT_MS) {
        result->wake_at_ms = io->held_since_ms + TF_PIECES_WAIT_MS;
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

/* A file that waits for more has no lines: they are made for each turn of reading. */
static int make_lines(struct tf_file_io *io)
{
    const uint64_t done[TF_STREAMS] = {io->offset, io->offset, io->offset};
    int rc;

    if (io->lines != NULL) {
        return 0;
    }
    rc = tf_lines_new(io->format, io->line_limit_bytes, &io->lines);
    if (rc == 0) {
        tf_lines_set_encoding(io->lines, io->encoding);
        tf_lines_restart(io->lines, io->offset, done);
    }
    return rc;
}

/* All that the lines know is the offset and the format. */
static bool knows_nothing_else(const struct tf_file_io *io)
{
    uint64_t done[TF_STREAMS];

    tf_lines_done(io->lines, done); /* text that is held begins before the offset */
    for (unsigned i = 0; i < TF_STREAMS; i++) {
        if (done[i] != io->offset) {
            return false;
        }
    }
    return tf_lines_format(io->lines) != TF_FORMAT_AUTO && io->encoding != TF_ENCODING_UTF16;
}

static void drop_lines(struct tf_file_io *io)
{
    if (io->lines != NULL && io->is_verified && knows_nothing_else(io)) {
        io->format = tf_lines_format(io->lines);
        tf_lines_free(io->lines);
        io->lines = NULL;
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
    if (rc == 0) {
        rc = make_lines(io);
    }
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
        rc = tf_file_mend(io, read);
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
    if (result->status == 0 && !result->again && io->mend == NULL) {
        drop_lines(io);
    }
}
