/*
 * printer.h - a frame's payload as lines, piece by piece, for the outputs that write text.
 *
 * Pull: tf_printer_begin takes a frame, each tf_printer_next makes the next piece of whole lines in
 * `out`. One struct serves one worker at a time and may go to another between two calls.
 */
#ifndef TAFFRAIL_OUTPUTS_PRINTER_H
#define TAFFRAIL_OUTPUTS_PRINTER_H

#include <zlib.h>

#include "taffrail/base.h"

#define TF_PRINTER_FRAME_MAX_BYTES (16u << 20) /* inflated; a frame that is larger is refused */
#define TF_PRINTER_PIECE_BYTES     (1u << 20) /* a piece is no longer, but for a single longer line */

/* As tf_event_print_json. */
typedef int tf_printer_print_fn(struct tf_slice event, struct tf_slice tag, struct tf_buf *out,
                                size_t *used);

struct tf_printer {
    struct tf_buf out; /* the piece; whoever takes it leaves it as it is */
    tf_printer_print_fn *print;
    struct tf_slice tag;
    z_stream stream;
    bool stream_ready, ended;
    struct tf_buf raw;    /* inflated and not yet printed, behind raw_at */
    size_t raw_at, total; /* inflated so far, of this frame */
};

/* A zeroed struct with nothing allocated yet. */
void tf_printer_init(struct tf_printer *printer, tf_printer_print_fn *print);
void tf_printer_fini(struct tf_printer *printer);

/* Borrows payload (gzip) and tag until the frame's last piece. Returns 0 or -ENOMEM. */
int tf_printer_begin(struct tf_printer *printer, struct tf_slice payload, struct tf_slice tag);

/*
 * Returns 1 with the next piece in out; 0 at the end of the frame; -EPROTO when the payload is no
 * gzip of whole events, or larger than TF_PRINTER_FRAME_MAX_BYTES: it will be so again next time;
 * -ENOMEM.
 */
int tf_printer_next(struct tf_printer *printer);

/* Gives large buffers back, between two frames. */
void tf_printer_trim(struct tf_printer *printer);

/* How long the payload says it is inflated, at most TF_PRINTER_FRAME_MAX_BYTES; only to share out
 * work.
 */
size_t tf_printer_estimate(struct tf_slice payload);

#endif
