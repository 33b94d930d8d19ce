/*
 * gzip.c - the gzip of a payload, once, as it stays in the spool and goes over the wire.
 *
 * ISA-L at level 1 where the build has it (five times as fast at a better ratio), else zlib at
 * level 1. ISA-L bounds its output less tightly than zlib: what does not fit goes to zlib, whose
 * bound is known. One struct serves one worker at a time and keeps its buffers.
 */
#include "internal.h"

#include <errno.h>
#include <stdlib.h>
#include <zlib.h>

#ifdef TF_HAVE_ISAL
#include <isa-l/igzip_lib.h>
#endif

#define GZIP_WINDOW_BITS (15 + 16) /* 16: gzip rather than zlib framing */
#define OUT_MIN_BYTES    (1u << 20)

struct tf_gzip {
    bool use_isal;
#ifdef TF_HAVE_ISAL
    struct isal_zstream isal;
    uint8_t level_buffer[ISAL_DEF_LVL1_DEFAULT];
#endif
    z_stream zlib;
};

struct tf_gzip *tf_gzip_new(int compress)
{
    struct tf_gzip *gzip = calloc(1, sizeof *gzip);

    if (gzip == NULL) {
        return NULL;
    }
#ifdef TF_HAVE_ISAL
    gzip->use_isal = compress != TF_COMPRESS_ZLIB;
#else
    (void)compress;
#endif
    if (deflateInit2(&gzip->zlib, 1, Z_DEFLATED, GZIP_WINDOW_BITS, 8, Z_DEFAULT_STRATEGY) != Z_OK) {
        free(gzip);
        return NULL;
    }
    return gzip;
}

void tf_gzip_free(struct tf_gzip *gzip)
{
    if (gzip != NULL) {
        (void)deflateEnd(&gzip->zlib);
        free(gzip);
    }
}

#ifdef TF_HAVE_ISAL
/* Returns false when the output did not fit. */
static bool run_isal(struct tf_gzip *gzip, struct tf_slice in, struct tf_buf *out, size_t room)
{
    struct isal_zstream *stream = &gzip->isal;

    isal_deflate_init(stream);
    stream->gzip_flag = IGZIP_GZIP;
    stream->level = 1;
    stream->level_buf = gzip->level_buffer;
    stream->level_buf_size = sizeof gzip->level_buffer;
    stream->end_of_stream = 1;
    stream->flush = NO_FLUSH;
    stream->next_in = (uint8_t *)(uintptr_t)in.data;
    stream->avail_in = (uint32_t)in.size;
    stream->next_out = (uint8_t *)out->data + out->size;
    stream->avail_out = (uint32_t)room;
    if (isal_deflate(stream) != COMP_OK || stream->internal_state.state != ZSTATE_END) {
        return false;
    }
    out->size += stream->total_out;
    return true;
}
#endif

int tf_gzip_run(struct tf_gzip *gzip, struct tf_slice in, struct tf_buf *out)
{
    size_t room;
    int rc;

    if (in.size > TF_BODY_MAX) {
        return -EMSGSIZE;
    }
    room = deflateBound(&gzip->zlib, (uLong)in.size) + 64;
    rc = tf_buf_reserve(out, room < OUT_MIN_BYTES ? OUT_MIN_BYTES : room);
    if (rc < 0) {
        return rc;
    }
#ifdef TF_HAVE_ISAL
    if (gzip->use_isal && run_isal(gzip, in, out, room)) {
        return 0;
    }
#endif
    if (deflateReset(&gzip->zlib) != Z_OK) {
        return -EIO;
    }
    gzip->zlib.next_in = (Bytef *)(uintptr_t)in.data;
    gzip->zlib.avail_in = (uInt)in.size;
    gzip->zlib.next_out = (Bytef *)out->data + out->size;
    gzip->zlib.avail_out = (uInt)room;
    if (deflate(&gzip->zlib, Z_FINISH) != Z_STREAM_END) {
        return -EIO;
    }
    out->size += gzip->zlib.total_out;
    return 0;
}
