/*
 * gunzip.c - a compressed log file, read as its text, forward.
 *
 * zlib inflates into a window, of which the bytes from the last read's offset on are kept: each
 * read begins a few bytes before the end of the one before. A read from further back begins anew at
 * the file's start, which is slow and right. One call inflates STEP_BYTES at most, so that a worker
 * is not held up by the way to an offset far inside.
 *
 * The format is gzip (RFC 1952): members one behind the other, each with a checksum that zlib
 * compares. What stands behind the last member and is none is passed over, as gzip does. A file
 * that ends within a member, or whose checksum does not hold, is damaged: its text is what could be
 * read.
 */
#include "internal.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include <zlib.h>

#define WINDOW_BYTES (1u << 20)
#define INPUT_BYTES  (64u << 10)
#define STEP_BYTES   (4u << 20)
#define MAGIC_BYTES  2u
#define GZIP_BITS    (15 + 16) /* the largest window; a gzip header is expected */

struct tf_gunzip {
    int fd;
    z_stream stream;
    uint64_t in_at;  /* in the file, behind what was given to zlib */
    uint64_t out_at; /* text offset of window[0] */
    size_t out_size;
    bool is_in_member, has_ended, is_damaged;
    unsigned char input[INPUT_BYTES];
    char window[WINDOW_BYTES];
};

struct tf_gunzip *tf_gunzip_new(int fd)
{
    struct tf_gunzip *gunzip = calloc(1, sizeof *gunzip);

    if (gunzip != NULL && inflateInit2(&gunzip->stream, GZIP_BITS) != Z_OK) {
        free(gunzip);
        gunzip = NULL;
    }
    if (gunzip != NULL) {
        gunzip->fd = fd;
    }
    return gunzip;
}

void tf_gunzip_free(struct tf_gunzip *gunzip)
{
    if (gunzip != NULL) {
        (void)inflateEnd(&gunzip->stream);
        explicit_bzero(gunzip->window, sizeof gunzip->window); /* it may hold secrets */
        free(gunzip);
    }
}

bool tf_gunzip_is_damaged(const struct tf_gunzip *gunzip)
{
    return gunzip->is_damaged;
}

static void begin_anew(struct tf_gunzip *gunzip)
{
    (void)inflateReset(&gunzip->stream);
    gunzip->stream.avail_in = 0;
    gunzip->in_at = gunzip->out_at = 0;
    gunzip->out_size = 0;
    gunzip->is_in_member = gunzip->has_ended = gunzip->is_damaged = false;
}

/* 0, or -errno. At the end of the file avail_in stays 0. */
static int fill_input(struct tf_gunzip *gunzip)
{
    ssize_t got;

    do {
        got = pread(gunzip->fd, gunzip->input, sizeof gunzip->input, (off_t)gunzip->in_at);
    } while (got < 0 && errno == EINTR);
    if (got < 0) {
        return -errno;
    }
    gunzip->stream.next_in = gunzip->input;
    gunzip->stream.avail_in = (uInt)got;
    gunzip->in_at += (uint64_t)got;
    return 0;
}

static void end(struct tf_gunzip *gunzip, bool is_damaged)
{
    gunzip->has_ended = true;
    gunzip->is_damaged = is_damaged;
}

/* What one call of inflate has said. */
static void take_outcome(struct tf_gunzip *gunzip, int outcome)
{
    if (outcome == Z_STREAM_END) {
        gunzip->is_in_member = false;
        (void)inflateReset(&gunzip->stream);
    } else if (outcome == Z_OK || outcome == Z_BUF_ERROR) {
        gunzip->is_in_member = true;
    } else { /* behind whole members what has not even the magic is none of our business */
        end(gunzip, gunzip->is_in_member || gunzip->stream.total_in > MAGIC_BYTES ||
                        gunzip->out_at + gunzip->out_size == 0);
    }
}

/* Inflates some more behind what is in the window, which has room. 0, or -errno. */
static int inflate_more(struct tf_gunzip *gunzip)
{
    z_stream *stream = &gunzip->stream;
    int rc = stream->avail_in == 0 ? fill_input(gunzip) : 0;

    if (rc < 0) {
        return rc;
    }
    if (stream->avail_in == 0) {
        end(gunzip, gunzip->is_in_member || gunzip->in_at == 0);
        return 0;
    }
    stream->next_out = (unsigned char *)gunzip->window + gunzip->out_size;
    stream->avail_out = (uInt)(sizeof gunzip->window - gunzip->out_size);
    rc = inflate(stream, Z_NO_FLUSH);
    gunzip->out_size = sizeof gunzip->window - stream->avail_out;
    if (rc == Z_MEM_ERROR) {
        return -ENOMEM;
    }
    take_outcome(gunzip, rc);
    return 0;
}

/* Forgets what stands before offset in the window. */
static void drop_before(struct tf_gunzip *gunzip, uint64_t offset)
{
    size_t drop = offset - gunzip->out_at < gunzip->out_size ? (size_t)(offset - gunzip->out_at)
                                                             : gunzip->out_size;

    memmove(gunzip->window, gunzip->window + drop, gunzip->out_size - drop);
    gunzip->out_at += drop;
    gunzip->out_size -= drop;
}

ssize_t tf_gunzip_read(struct tf_gunzip *gunzip, char *to, size_t size, uint64_t offset)
{
    uint64_t inflated = 0;

    assert(size <= WINDOW_BYTES / 2);
    if (offset < gunzip->out_at) {
        begin_anew(gunzip);
    }
    while (!gunzip->has_ended && gunzip->out_at + gunzip->out_size < offset + size) {
        uint64_t before = gunzip->out_at + gunzip->out_size;
        int rc;

        if (inflated >= STEP_BYTES) {
            return -EAGAIN;
        }
        if (gunzip->out_size > WINDOW_BYTES / 2 || gunzip->out_at + gunzip->out_size <= offset) {
            drop_before(gunzip, offset);
        }
        rc = inflate_more(gunzip);
        if (rc < 0) {
            return rc;
        }
        inflated += gunzip->out_at + gunzip->out_size - before;
    }
    if (offset > gunzip->out_at + gunzip->out_size) {
        return 0;
    }
    if (size > gunzip->out_at + gunzip->out_size - offset) {
        size = (size_t)(gunzip->out_at + gunzip->out_size - offset);
    }
    memcpy(to, gunzip->window + (offset - gunzip->out_at), size);
    return (ssize_t)size;
}
