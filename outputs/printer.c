/*
 * printer.c - inflates a frame in steps of 64 KiB and prints the events that are whole.
 *
 * What is left of an event at the end of a step stays in `raw` until more is inflated. The step
 * grows to what is left there, so that an event of many steps is tried a few times only, not once a
 * step: the cost stays linear. Bounds: raw by TF_PRINTER_FRAME_MAX_BYTES, out by a piece and the
 * longest line that one event can become (each byte at most six, as in "\u0000").
 */
#include "printer.h"

#include <assert.h>
#include <errno.h>

#define STEP_BYTES       65536u
#define ENOUGH_BYTES     (TF_PRINTER_PIECE_BYTES / 2) /* then the piece is handed out */
#define OUT_MAX_BYTES    (6 * (size_t)TF_PRINTER_FRAME_MAX_BYTES + TF_PRINTER_PIECE_BYTES)
#define KEEP_BYTES       (2 * (size_t)TF_PRINTER_PIECE_BYTES)
#define GZIP_WINDOW_BITS (15 + 16) /* 16: gzip framing */

void tf_printer_init(struct tf_printer *printer, tf_printer_print_fn *print)
{
    memset(printer, 0, sizeof *printer);
    printer->print = print;
    printer->ended = true;
    tf_buf_init(&printer->out, OUT_MAX_BYTES);
    tf_buf_init(&printer->raw, TF_PRINTER_FRAME_MAX_BYTES + STEP_BYTES);
}

void tf_printer_fini(struct tf_printer *printer)
{
    if (printer->stream_ready) {
        (void)inflateEnd(&printer->stream);
        printer->stream_ready = false;
    }
    tf_buf_fini(&printer->out);
    tf_buf_fini(&printer->raw);
}

int tf_printer_begin(struct tf_printer *printer, struct tf_slice payload, struct tf_slice tag)
{
    int rc = printer->stream_ready ? inflateReset(&printer->stream)
                                   : inflateInit2(&printer->stream, GZIP_WINDOW_BITS);

    if (rc != Z_OK) {
        return -ENOMEM;
    }
    printer->stream_ready = true;
    printer->stream.next_in = (Bytef *)(uintptr_t)payload.data;
    printer->stream.avail_in = (uInt)payload.size; /* a frame's body is bounded by 16 MiB */
    printer->tag = tag;
    printer->ended = false;
    printer->raw_at = printer->total = 0;
    tf_buf_clear(&printer->raw);
    tf_buf_clear(&printer->out);
    return 0;
}

/* One call of inflate into room bytes behind raw. */
static int inflate_some(struct tf_printer *printer, size_t room)
{
    z_stream *stream = &printer->stream;
    size_t got;
    int rc;

    stream->next_out = (Bytef *)printer->raw.data + printer->raw.size;
    stream->avail_out = (uInt)room;
    rc = inflate(stream, Z_NO_FLUSH);
    got = room - stream->avail_out;
    printer->raw.size += got;
    printer->total += got;
    if (printer->total > TF_PRINTER_FRAME_MAX_BYTES) {
        return -EPROTO;
    }
    if (rc == Z_STREAM_END) {
        printer->ended = true;
        return stream->avail_in == 0 ? 0 : -EPROTO; /* bytes behind the end belong to nobody */
    }
    if (rc == Z_MEM_ERROR) {
        return -ENOMEM;
    }
    return rc == Z_OK && got > 0 ? 0 : -EPROTO; /* Z_BUF_ERROR: the end is missing */
}

/* Adds a step to what is left in raw. */
static int inflate_step(struct tf_printer *printer)
{
    size_t left = printer->raw.size - printer->raw_at;
    size_t step = left < STEP_BYTES ? STEP_BYTES : left;
    size_t most =
        TF_PRINTER_FRAME_MAX_BYTES + 1 - printer->total; /* one more shows that it is too long */
    int rc;

    assert(printer->total <= TF_PRINTER_FRAME_MAX_BYTES);
    tf_buf_consume(&printer->raw, printer->raw_at);
    printer->raw_at = 0;
    step = step < most ? step : most;
    rc = tf_buf_reserve(&printer->raw, step);
    return rc < 0 ? -ENOMEM : inflate_some(printer, step);
}

/* Prints the event at raw_at. -EPROTO: none, or not all of it is there; out is as before. */
static int print_one(struct tf_printer *printer)
{
    size_t before = printer->out.size, used = 0, left = printer->raw.size - printer->raw_at;
    int rc = printer->print(tf_slice(printer->raw.data + printer->raw_at, left), printer->tag,
                            &printer->out, &used);

    if (rc == 0 && (used == 0 || used > left)) {
        rc = -EPROTO;
    }
    if (rc == 0) {
        printer->raw_at += used;
        return 0;
    }
    printer->out.size = before;
    printer->out.error = 0;
    return rc == -ENOMEM ? rc : -EPROTO; /* -EMSGSIZE: longer than an event can become */
}

int tf_printer_next(struct tf_printer *printer)
{
    tf_buf_clear(&printer->out);
    while (printer->out.size < ENOUGH_BYTES) {
        int rc = -EPROTO;

        if (printer->raw_at < printer->raw.size) {
            rc = print_one(printer);
        } else if (printer->ended) {
            break;
        }
        if (rc == -EPROTO && !printer->ended) {
            rc = inflate_step(printer);
        }
        if (rc < 0) {
            return rc;
        }
    }
    return printer->out.size > 0 ? 1 : 0;
}

void tf_printer_trim(struct tf_printer *printer)
{
    if (printer->raw.capacity > KEEP_BYTES) {
        tf_buf_fini(&printer->raw);
    }
    if (printer->out.capacity > KEEP_BYTES) {
        tf_buf_fini(&printer->out);
    }
}

size_t tf_printer_estimate(struct tf_slice payload)
{
    size_t size = payload.size < 4 ? 0 : tf_load32(payload.data + payload.size - 4);

    return size < TF_PRINTER_FRAME_MAX_BYTES
               ? size
               : TF_PRINTER_FRAME_MAX_BYTES; /* ISIZE, RFC 1952, 2.3.1 */
}
