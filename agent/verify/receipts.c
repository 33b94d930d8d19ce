/*
 * receipts.c - `verify --receipts`: a collector's record of an agent, out of its own spool.
 *
 * Beside each received frame's data the collector's frame has a note (docs/protocol.md, section 7):
 * key "recv/IDENTITY/SPOOL", value of NOTE_BYTES. Those of spools whose id begins with the letters
 * given are printed, a line of NDJSON each, in the order in which they were received:
 *
 *     {"identity":"spiffe://…","spool":"7f3c…","seq":"3/41870","prev":"3/41869","chain":"…","d":"…",
 *      "received":"2026-11-23T10:14:44.120000000Z","flags":0}
 *
 * Frames that do not hold are passed over and counted: whoever exports a witness wants to know.
 * What may be proved of the collector's own spool is `verify` without --receipts to tell.
 */
#include "verify.h"

#include <errno.h>
#include <unistd.h>

#define NOTE_BYTES    105u
#define KEY_PREFIX    "recv/"
#define HEX_BYTES     (2u * TF_SPOOL_ID_BYTES)
#define PRINTED_BYTES (64u << 10)
#define PRINTED_MAX   (4u << 20)

struct export
{
    struct tf_receipts_job *job;
    struct tf_verify *verify;
    struct tf_buf printed;
    uint64_t bad_frames, closed_segments;
};

static void put_hex(struct tf_buf *out, const char *key, const uint8_t *bytes, size_t size)
{
    (void)tf_buf_printf(out, ",\"%s\":\"", key);
    for (size_t i = 0; i < size; i++) {
        (void)tf_buf_printf(out, "%02x", bytes[i]);
    }
    (void)tf_buf_append_byte(out, '"');
}

/* The identity is a sender's: quotes and controls of it are escaped. */
static void put_identity(struct tf_buf *out, struct tf_slice identity)
{
    for (size_t i = 0; i < identity.size; i++) {
        uint8_t c = (uint8_t)identity.data[i];

        if (c < ' ' || c >= 0x7f || c == '"' || c == '\\') {
            (void)tf_buf_printf(out, "\\u%04x", c);
        } else {
            (void)tf_buf_append_byte(out, c);
        }
    }
}

static void print_note(struct tf_buf *out, struct tf_slice identity, const uint8_t *note)
{
    char received[TF_TIME_TEXT_BYTES];
    uint64_t seq = tf_load64(note + 16), prev = tf_load64(note + 24);

    tf_time_format((int64_t)tf_load64(note + 96), received);
    (void)tf_buf_append_text(out, "{\"identity\":\"");
    put_identity(out, identity);
    (void)tf_buf_append_byte(out, '"');
    put_hex(out, "spool", note, TF_SPOOL_ID_BYTES);
    (void)tf_buf_printf(out, ",\"seq\":\"%llu/%llu\",\"prev\":\"%llu/%llu\"",
                        (unsigned long long)TF_SEQ_RUN(seq), (unsigned long long)TF_SEQ_N(seq),
                        (unsigned long long)TF_SEQ_RUN(prev), (unsigned long long)TF_SEQ_N(prev));
    put_hex(out, "chain", note + 32, TF_CHAIN_BYTES);
    put_hex(out, "d", note + 64, TF_DIGEST_BYTES);
    (void)tf_buf_printf(out, ",\"received\":\"%s\",\"flags\":%u}\n", received, note[104]);
}

static int take_delta(struct export *export, const struct tf_delta *delta)
{
    size_t prefix = sizeof KEY_PREFIX - 1, agent = strlen(export->job->agent);
    const char *hex;

    if (delta->op != TF_DELTA_NOTE || delta->value.size != NOTE_BYTES ||
        delta->key.size < prefix + 1 + HEX_BYTES ||
        memcmp(delta->key.data, KEY_PREFIX, prefix) != 0) {
        return 0;
    }
    hex = delta->key.data + delta->key.size - HEX_BYTES;
    if (agent > HEX_BYTES || hex[-1] != '/' || memcmp(hex, export->job->agent, agent) != 0) {
        return 0;
    }
    export->job->records++;
    print_note(&export->printed,
               tf_slice(delta->key.data + prefix, delta->key.size - prefix - 1 - HEX_BYTES),
               (const uint8_t *)delta->value.data);
    return export->printed.size >= PRINTED_BYTES
               ? tf_buf_write(&export->printed, export->job->out_fd, NULL)
               : export->printed.error;
}

static int take_frame(struct export *export, const struct tf_walked *frame)
{
    struct tf_content *content = &export->verify->content;
    struct tf_meta meta;
    struct tf_slice payload, rest;
    struct tf_delta delta;
    int rc;

    if (!tf_frame_has_events(&frame->header) || frame->is_misplaced) {
        return 0;
    }
    rc = tf_frame_open(content->keys, frame->raw, frame->body, &content->plain, &meta, &payload);
    if (rc == -EBADMSG || rc == -EPROTO) {
        export->bad_frames++;
        return 0;
    }
    rest = rc == 0 ? meta.deltas : tf_slice(NULL, 0);
    while (rc == 0 && tf_delta_next(&rest, &delta) == 1) {
        rc = take_delta(export, &delta);
    }
    return rc;
}

static int export_segment(struct export *export, const struct tf_verify_file *file, uint64_t end)
{
    struct tf_verify *verify = export->verify;
    struct tf_walked frame = {.kind = TF_WALKED_FRAME};
    int fd = tf_verify_file_open(&verify->files, file);
    int rc = fd < 0 ? fd : tf_walk_open(&verify->walk, fd);

    if (rc < 0) {
        export->closed_segments++;
        return rc == -ENOENT || rc == -EPROTO ? 0 : rc;
    }
    verify->walk.end = end < verify->walk.end ? end : verify->walk.end;
    rc = tf_content_open(verify, &verify->walk);
    if (rc == 0 && verify->content.keys == NULL) {
        export->closed_segments++;
        frame.kind = TF_WALKED_END;
    }
    while (rc == 0 && frame.kind == TF_WALKED_FRAME) {
        rc = tf_walk_next(&verify->walk, &frame);
        if (rc == 0 && frame.kind == TF_WALKED_FRAME) {
            export->bad_frames += frame.missing + frame.is_chain_wrong;
            tf_progress_add(verify->progress, frame.bytes, NULL);
            rc = take_frame(export, &frame);
        }
    }
    tf_content_close(verify);
    tf_walk_close(&verify->walk);
    return rc;
}

static int export_all(struct export *export)
{
    const struct tf_verify_files *files = &export->verify->files;
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < files->count; i++) {
        size_t next = i + 1;

        while (next < files->count && !files->items[next].is_chosen) {
            next++;
        }
        if (files->items[i].is_chosen) {
            rc = export_segment(export, &files->items[i],
                                next < files->count && memcmp(files->items[next].prev_id,
                                                              files->items[i].id, 16) == 0
                                    ? files->items[next].prev_end
                                    : UINT64_MAX);
        }
    }
    return rc == 0 ? tf_buf_write(&export->printed, export->job->out_fd, NULL) : rc;
}

int tf_verify_receipts(struct tf_receipts_job *job, struct tf_progress *progress,
                       struct tf_error *err)
{
    struct tf_verify_options options = {.path = job->path, .ring = job->ring};
    static struct tf_verify_report report; /* what is told meanwhile is not printed */
    struct tf_verify verify = {.options = &options, .report = &report, .progress = progress};
    struct export export = {.job = job, .verify = &verify};
    int rc;

    memset(&report, 0, sizeof report);
    verify.files.dir_fd = verify.walk.fd = verify.find.walk.fd = -1;
    tf_buf_init(&verify.content.plain, TF_BODY_MAX);
    tf_buf_init(&export.printed, PRINTED_MAX);
    rc = tf_verify_files_open(&verify, err);
    rc = rc == 0 ? tf_verify_files_list(&verify, err) : rc;
    if (rc == 0) {
        rc = export_all(&export);
    }
    tf_buf_fini(&verify.content.plain);
    tf_buf_fini(&export.printed);
    tf_verify_files_close(&verify.files);
    if (rc == 0 && export.bad_frames + export.closed_segments > 0) {
        char frames[TF_COUNTED_TEXT_BYTES], segments[TF_COUNTED_TEXT_BYTES];

        (void)tf_error_add(err, NULL,
                           "\"%s\": %s not sound, %s not read: what "
                           "they had is not in the record; see `taffrail verify`",
                           job->path, tf_counted_text(export.bad_frames, "frame", frames),
                           tf_counted_text(export.closed_segments, "segment", segments));
        return 1;
    }
    return rc;
}
