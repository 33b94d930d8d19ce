/*
 * decode.h - bytes to batch: lines of container logs, and messages of the Fluent Forward Protocol.
 *
 * Pure: bytes in, records out, no I/O. The forward protocol
 * is v1 (all four modes), docs/protocol.md.
 */
#ifndef TAFFRAIL_DECODE_H
#define TAFFRAIL_DECODE_H

#include "taffrail/batch.h"

enum tf_format { TF_FORMAT_AUTO, TF_FORMAT_DOCKER, TF_FORMAT_CRI, TF_FORMAT_PLAIN };

/* ---- one CRI line, and one docker json-file line (each in its own file) ------------------------
 */

struct tf_cri_line {
    struct tf_slice text; /* borrows from line */
    int64_t time_ns;
    enum tf_stream stream;
    bool partial;
};
/*
 * Splits "TIME STREAM TAGS TEXT" (Kubernetes CRI logging; TIME as RFC 3339 with any offset). line
 * has no newline. Returns 0, or -EPROTO: the caller emits the line as it is, marked malformed.
 */
int tf_cri_split(struct tf_slice line, struct tf_cri_line *out);

struct tf_docker_line {
    uint32_t text_at, text_size; /* unescaped, in batch->text, without its final newline */
    int64_t time_ns;
    enum tf_stream stream;
    bool partial; /* `log` did not end in a newline */
};
/* Parses {"log":…,"stream":…,"time":…}, keys in any order, unknown keys skipped. Unescapes log into
 * batch->text. -EPROTO, -ENOMEM, -EMSGSIZE. */
int tf_docker_parse(struct tf_slice line, struct tf_batch *batch, struct tf_docker_line *out);

/* RFC 3339 with 0 to 9 fraction digits and Z or an offset. Returns 0 or -EPROTO. */
int tf_time_parse(struct tf_slice text, int64_t *time_ns);

/* ---- lines of one file -------------------------------------------------------------------------
 */

/*
 * Turns blocks of one file into records: splits lines, finds the format by content (AUTO), joins
 * partial pieces per stream, cuts lines over max_line_bytes (head and tail kept). Keeps the held
 * pieces between blocks. `done` is B1 of docs/guarantees.md: all text of the stream which starts
 * before it was emitted.
 */
struct tf_lines;
enum tf_encoding { TF_ENCODING_UTF8, TF_ENCODING_LATIN1, TF_ENCODING_UTF16 };
/* max_line_bytes is 256 to 8 MiB. Returns 0, -EINVAL or -ENOMEM. */
int tf_lines_new(enum tf_format format, uint64_t max_line_bytes, struct tf_lines **out);
void tf_lines_free(struct tf_lines *lines);

/* For a new tf_lines: its lines are plain, whatever format was said, and become UTF-8. With UTF-16
 * the first bytes of the file tell the byte order, so they are needed before a restart elsewhere.
 */
void tf_lines_set_encoding(struct tf_lines *lines, enum tf_encoding encoding);
void tf_lines_set_mark(struct tf_lines *lines, struct tf_slice first_bytes);

/* Starts over at file offset `offset`, with nothing held; lines of a stream that start below its
 * done are skipped. The format found so far is kept, but for offset 0, where it is looked for
 * again. */
void tf_lines_restart(struct tf_lines *lines, uint64_t offset, const uint64_t done[TF_STREAMS]);

/*
 * Decodes the whole lines of block, which begins at the offset reached so far. final: the file ends
 * here for good, so a last line without newline counts. Returns bytes consumed (up to the last
 * whole line, all of a line that is over the limit); fewer when the batch is full: call again with
 * the rest and an empty batch. now_ns is the time of plain lines. A line
 * of 64 KiB or more without its newline is consumed and held, so blocks should be larger where the
 * file is. Adds to batch->read_bytes. Negative: -ENOMEM, then only restart or free.
 */
int64_t tf_lines_decode(struct tf_lines *lines, struct tf_slice block, bool final, int64_t now_ns,
                        struct tf_batch *batch);

/* Emits held pieces as records marked unfinished (end of file, or older than now by the input's
 * bound). A held line without newline too; what follows of it is a line of its own. 0, -ENOMEM, or
 * -EMSGSIZE: call again with an empty batch. */
int tf_lines_flush(struct tf_lines *lines, struct tf_batch *batch);

void tf_lines_done(const struct tf_lines *lines, uint64_t done[TF_STREAMS]);
uint64_t tf_lines_held_at(const struct tf_lines *lines); /* where the oldest held text starts;
                                                            UINT64_MAX: nothing is held */
/* Whether a whole line stands in rest, which begins at the offset reached so far. */
bool tf_lines_has_line(const struct tf_lines *lines, struct tf_slice rest);
enum tf_format tf_lines_format(const struct tf_lines *lines); /* AUTO until known */
uint64_t
tf_lines_count(const struct tf_lines *lines); /* lines seen so far, pieces counted each; without
                                                 those passed over after a restart */

/* ---- what a log file's path tells
 * ------------------------------------------------------------- */

/*
 * The names in a path: Kubernetes' ".../pods/NAMESPACE_POD_UID/CONTAINER/N.log", the runtime's flat
 * links ".../containers/POD_NAMESPACE_CONTAINER-ID.log", docker's ".../containers/ID/ID-json.log".
 * Slices borrow from the path; size 0 is "not told".
 */
struct tf_log_path {
    struct tf_slice namespace_name, pod_name, pod_uid, container_name, container_id;
    bool has_restart_count;
    uint32_t restart_count;
};

/* Reads the names out of path. False (and all empty) when it has none of the shapes. */
bool tf_log_path_parse(struct tf_slice path, struct tf_log_path *out);

/*
 * Adds what is known to the newest record, in the names of docs/records.md: a map `kubernetes`
 * (namespace_name, pod_name, pod_id, container_name, docker_id, restart_count, host), or for docker
 * alone `container_id`. Adds nothing when nothing is known. host may be NULL.
 * Returns 0, -ENOMEM or -EMSGSIZE.
 */
int tf_log_path_describe(const struct tf_log_path *path, const char *host, struct tf_batch *batch);

/* ---- forward messages --------------------------------------------------------------------------
 */

#define TF_MESSAGE_BYTES_MAX (8u << 20)  /* encoded */
#define TF_MESSAGE_PLAIN_MAX (16u << 20) /* inflated */

/*
 * The size of the first whole msgpack object in bytes, with depth and counts checked against what
 * is left. Returns its size, 0 when more bytes are needed, -EPROTO when it can never be one,
 * -EMSGSIZE past TF_MESSAGE_BYTES_MAX. *scan keeps the progress between calls (zero it at the start
 * of each object), so that a message that arrives in many reads is scanned once.
 */
struct tf_msgpack_scan {
    size_t at;
    uint32_t depth;
    uint32_t left[TF_BATCH_DEPTH_MAX + 8];
};
int64_t tf_msgpack_size(struct tf_slice bytes, struct tf_msgpack_scan *scan);

/* What stands around the events of one message. Slices borrow from the message. */
struct tf_message_head {
    struct tf_slice tag;
    struct tf_slice chunk;  /* the ack id, or size 0: no ack wanted */
    struct tf_slice events; /* as received: the bin or str of a packed mode, else their own bytes */
    bool has_taffrail;      /* the taffrail option was there and sound */
    uint8_t spool_id[16];
    uint64_t seq, prev; /* of a derived gap: its last number, and the frame before it */
    uint8_t chain[32];
    uint64_t gap_from, gap_to; /* both 0 unless it is a derived gap */
    struct tf_slice replayed;  /* job, or size 0 */
};

/* Reads the head of a whole message. Cheap: events are not touched. Returns 0 or -EPROTO. */
int tf_message_head(struct tf_slice message, struct tf_message_head *head);

/*
 * Decodes all events of a whole message into batch. identity (borrowed) is written on each record,
 * a foreign sender's reserved keys move under `claimed`; contradicts is NULL or a kind, written
 * under `taffrail`. Runs on a worker. Returns 0, -EPROTO, -EMSGSIZE (inflated too large, too many
 * records), -ENOMEM.
 */
int tf_message_decode(struct tf_slice message, const struct tf_message_head *head,
                      const char *identity, bool is_relay, const char *contradicts, int64_t now_ns,
                      struct tf_batch *batch);

#endif
