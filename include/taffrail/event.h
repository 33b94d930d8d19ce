/*
 * event.h - records as msgpack events, and events as NDJSON.
 *
 * An event is [EventTime, {key: value}] as the Fluent Forward Protocol v1 has it: EventTime is ext
 * type 0 of 8 bytes (seconds, nanoseconds, big-endian). The map begins with the source's constants,
 * then `taffrail` with the marks of the record when it has any, then its fields. Text that is valid
 * UTF-8 is str, everything else bin. On NDJSON a bin value's key gets `_b64`, the value is base64.
 */
#ifndef TAFFRAIL_EVENT_H
#define TAFFRAIL_EVENT_H

#include "taffrail/batch.h"

/* Key-value pairs that are the same for each record of a source, encoded once: `count` pairs of
 * msgpack. */
struct tf_constants {
    char *pairs; /* owned; each source has its own, so no byte to spare */
    uint32_t bytes, count;
};

/* Why a field was withheld: the words of struct tf_record's withheld_reason, and one for none. */
#define TF_WITHHELD_REASONS 4u
extern const char *const tf_withheld_reasons[TF_WITHHELD_REASONS];

/* What tf_events_encode wrote. */
struct tf_events_summary {
    uint32_t events;
    uint32_t redacted; /* records with TF_RECORD_REDACTED */
    uint32_t withheld;
    uint32_t withheld_by[TF_WITHHELD_REASONS];
    uint32_t malformed, truncated;
    uint32_t dropped;                 /* records with TF_RECORD_DROPPED, not written */
    int64_t time_min_ns, time_max_ns; /* of what was written; 0 when nothing was */
};

/*
 * Appends the batch's records as events to out. constants may be NULL. Runs on a worker. Times are
 * clamped to EventTime (1970 to 2106). No key stands twice in an event's map: constants, then the
 * first field, are stronger; what is left out marks the record malformed.
 * Returns 0, -ENOMEM or -EMSGSIZE (out's limit); out is then as before the call.
 */
int tf_events_encode(const struct tf_batch *batch, const struct tf_constants *constants,
                     struct tf_buf *out, struct tf_events_summary *summary);

/*
 * Encodes the fields of a batch's first record as constants, after the filters have seen them: at
 * most 64 pairs, 64 KiB.
 * Returns 0, -ENOMEM or -EMSGSIZE.
 */
int tf_constants_encode(const struct tf_batch *batch, struct tf_constants *out);
void tf_constants_fini(struct tf_constants *constants);

/*
 * Appends one event as a line of NDJSON with '\n': time and tag first. event borrows exactly one
 * encoded event; what is behind it is ignored. *used is its size. Hostile bytes are fine: depth
 * at most TF_BATCH_DEPTH_MAX, every length checked.
 * Returns 0; -EPROTO when it is not an event; -ENOMEM, -EMSGSIZE.
 */
int tf_event_print_json(struct tf_slice event, struct tf_slice tag, struct tf_buf *out,
                        size_t *used);

/* The same for eyes: "HH:MM:SS.mmm namespace/pod/container out  log". Control characters shown
 * escaped. */
int tf_event_print_text(struct tf_slice event, struct tf_slice tag, struct tf_buf *out,
                        size_t *used);

/*
 * The size of the first event in bytes, and its time; -EPROTO when there is no whole one. Hostile
 * bytes are fine here and in the functions below.
 */
int64_t tf_event_measure(struct tf_slice bytes, int64_t *time_ns);

/*
 * Calls fn with each scalar at a dotted path of one event, as text: integers in digits, true,
 * false, null; of an array each item. A name with dots in it is found too: of
 * "kubernetes.labels.app.io/name" each part may be several of the path's. Returns true as soon as
 * fn does; false at the end, or where the event is malformed.
 */
typedef bool tf_event_value_fn(void *ctx, struct tf_slice text);
bool tf_event_any(struct tf_slice event, struct tf_slice path, tf_event_value_fn *fn, void *ctx);

/* Appends one event with the mark name: value under `taffrail`, in place of one of that name.
 * Returns 0, -EPROTO, -ENOMEM, -EMSGSIZE; out is then as before the call. */
int tf_event_mark(struct tf_slice event, const char *name, struct tf_slice value,
                  struct tf_buf *out);

/* Appends msgpack values to buf, smallest form. The sticky error of buf tells. */
void tf_msgpack_text(struct tf_buf *buf, struct tf_slice text);   /* str */
void tf_msgpack_bytes(struct tf_buf *buf, struct tf_slice bytes); /* bin */
void tf_msgpack_uint(struct tf_buf *buf, uint64_t value);
void tf_msgpack_int(struct tf_buf *buf, int64_t value);
void tf_msgpack_array(struct tf_buf *buf, uint32_t count);
void tf_msgpack_map(struct tf_buf *buf, uint32_t count);
void tf_msgpack_bool(struct tf_buf *buf, bool value);
void tf_msgpack_nil(struct tf_buf *buf);

#endif
