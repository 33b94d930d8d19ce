/*
 * lines.c - the lines of one container log file become records, per docs/formats.md.
 *
 * A line in a block is decoded where it lies. Three things are held between blocks (held.c), each
 * bounded, and freed when they are empty, so that an idle file costs this struct alone:
 *
 *   - the pieces of a record of stdout and of stderr, until the last piece comes
 *   - a line without its newline, once HOLD_BYTES of it are there; shorter ones stay in the file
 *
 * Format AUTO: each line is tried as docker, then as CRI; the first that is one of them settles the
 * file. Until then lines are plain; after UNDECIDED_MAX of them the file is.
 *
 * Invariants (B1 of docs/guarantees.md), for each stream:
 *   - done is where its oldest held line starts, or where reading has come to; below it all is
 *     emitted, nothing that starts at it or behind it is
 *   - after a restart, lines below what the restart called done are passed over and count as done
 *   - records depend on the file's bytes alone, not on where blocks end: what is too long is cut by
 *     its size in the file, whether it came in one block or in many
 *
 * Lines of no stream (plain, malformed, unknown streams) belong to TF_STREAM_OTHER, where nothing
 * is held: pieces there are records of their own, else a malformed line between two pieces would
 * be on the wrong side of done.
 *
 * A line whose record does not fit the batch is not consumed. After -ENOMEM the state is good for
 * nothing but tf_lines_restart and tf_lines_free.
 */
#include "taffrail/decode.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "encoding.h"
#include "held.h"

#define MAX_LINE_MIN     TF_SPAN_CUT_MIN
#define MAX_LINE_MAX     (8u << 20)
#define RAW_MORE_BYTES   (256u << 10) /* what a line in the file may have beyond max_line */
#define HOLD_BYTES       (64u << 10)
#define CRI_HEADER_MAX   1024u
#define UNDECIDED_MAX    16u
#define UTF8_MAX         (64u << 20) /* a line of another encoding: twice what is kept of it */
#define RECORD_FIELDS    2u
#define RECORD_MORE_TEXT 64u /* newlines around a text, and then some */

static_assert(3u * MAX_LINE_MAX + RAW_MORE_BYTES + (1u << 20) < TF_BATCH_TEXT_MAX,
              "an empty batch has room for any line");
static_assert(CRI_HEADER_MAX < RAW_MORE_BYTES / 2, "a long CRI line keeps its head of text");

struct tf_lines {
    enum tf_format wanted, format;
    enum tf_encoding encoding;
    bool is_big_endian;
    struct tf_buf utf8; /* a line of another encoding, once more */
    uint64_t max_line_bytes;
    uint64_t offset;              /* in the file, behind what was consumed */
    uint64_t skip_to[TF_STREAMS]; /* done of the last restart */
    uint64_t count;
    int64_t now_ns; /* of the last decode */
    uint32_t undecided;
    struct tf_held *held[TF_STREAMS]; /* NULL most of the time */
    struct tf_held *line;
};

/* One line of the file. */
struct line {
    struct tf_span span;
    uint64_t start; /* offset in the file */
    bool ended;     /* its newline was there */
    bool given_up;  /* flushed: what follows is another line */
};

/* What a record says beside its text. */
struct entry {
    int64_t time_ns;
    uint64_t start; /* of its line, in the file */
    enum tf_stream stream;
    uint8_t flags;
};

/* ---- records -----------------------------------------------------------------------------------
 */

static uint64_t raw_max_bytes(const struct tf_lines *lines)
{
    uint64_t max_bytes = lines->max_line_bytes;

    if (lines->encoding == TF_ENCODING_UTF16) {
        max_bytes *= 2; /* of which half is left in UTF-8 */
    }
    return max_bytes + RAW_MORE_BYTES;
}

/* Room for whatever one line of raw_bytes may become. */
static bool has_room(const struct tf_lines *lines, const struct tf_batch *batch, uint64_t raw_bytes)
{
    uint64_t most = raw_bytes < raw_max_bytes(lines) ? raw_bytes : raw_max_bytes(lines);

    return batch->record_count < TF_BATCH_RECORDS_MAX &&
           batch->field_count + RECORD_FIELDS <= TF_BATCH_FIELDS_MAX &&
           batch->text.size + most + lines->max_line_bytes + RECORD_MORE_TEXT <=
               batch->text.limit_bytes;
}

/* Takes the newest text off the arena again, and wipes it: filters will not see it there. */
static void drop_text(struct tf_batch *batch, size_t at)
{
    explicit_bzero(batch->text.data + at, batch->text.size - at);
    batch->text.size = at;
}

static struct tf_field *add_text(struct tf_batch *batch, uint32_t key_at, uint32_t key_size,
                                 uint32_t at, uint32_t size)
{
    struct tf_field *field = tf_batch_add_field(batch, key_at, key_size, TF_VALUE_TEXT);

    if (field != NULL) {
        field->value.text.at = at;
        field->value.text.size = size;
    }
    return field;
}

/* A record whose text is in the arena. Room was seen before, so what fails is memory. */
static int add_record(struct tf_batch *batch, const struct entry *entry, uint32_t text_at,
                      uint32_t text_size)
{
    struct tf_record *record = tf_batch_add_record(batch, entry->time_ns, entry->stream);
    uint32_t name_at = entry->stream == TF_STREAM_STDOUT ? batch->text_stdout : batch->text_stderr;

    if (record == NULL) {
        return -ENOMEM;
    }
    record->flags = entry->flags;
    record->source_at = entry->start;
    if ((entry->stream != TF_STREAM_OTHER &&
         add_text(batch, batch->key_stream, 6, name_at, 6) == NULL) ||
        add_text(batch, batch->key_log, 3, text_at, text_size) == NULL) {
        tf_batch_undo_record(batch);
        return -ENOMEM;
    }
    return 0;
}

/* A record whose text, cut to max_line, is appended to the arena. */
static int emit(const struct tf_lines *lines, struct tf_batch *batch, struct entry entry,
                const struct tf_span *span)
{
    uint64_t size = tf_span_size(span);
    size_t at = batch->text.size;
    struct tf_cut cut;
    int rc;

    (void)tf_span_append(span, lines->max_line_bytes, &batch->text, &cut);
    rc = tf_buf_append_byte(&batch->text, '\n');
    if (rc < 0) {
        batch->text.error = 0;
        batch->text.size = at;
        return rc;
    }
    entry.flags |= cut.to > 0 ? TF_RECORD_TRUNCATED : 0;
    rc = add_record(batch, &entry, (uint32_t)at, (uint32_t)(batch->text.size - at - 1));
    if (rc == 0 && cut.to > 0) {
        struct tf_record *record = &batch->records[batch->record_count - 1];

        cut.field = batch->field_count - 1; /* the text */
        record->cut = cut;
        record->true_bytes = size < UINT32_MAX ? (uint32_t)size : UINT32_MAX;
        batch->truncated++;
    }
    return rc;
}

/* ---- pieces ------------------------------------------------------------------------------------
 */

static bool holds(const struct tf_lines *lines, enum tf_stream stream)
{
    return lines->held[stream] != NULL && lines->held[stream]->pieces > 0;
}

static int hold(struct tf_lines *lines, const struct entry *entry, const struct tf_span *span,
                uint64_t start)
{
    struct tf_held **held = &lines->held[entry->stream];

    if (*held == NULL) {
        *held = tf_held_new(lines->max_line_bytes / 2 + 1, lines->max_line_bytes);
        if (*held == NULL) {
            return -ENOMEM;
        }
    }
    if ((*held)->pieces == 0) {
        (*held)->start = start;
        (*held)->time_ns = entry->time_ns;
    }
    (*held)->pieces++;
    return tf_held_put(*held, span);
}

/* The pieces of a stream become a record, with the time of the first. */
static int emit_held(struct tf_lines *lines, struct tf_batch *batch, enum tf_stream stream,
                     uint8_t flags)
{
    struct tf_held *held = lines->held[stream];
    struct entry entry = {
        .time_ns = held->time_ns, .start = held->start, .stream = stream, .flags = flags};
    struct tf_span span = tf_held_span(held);
    int rc = emit(lines, batch, entry, &span);

    if (rc == 0) {
        batch->joined += held->pieces - 1;
        tf_held_clear(held);
    }
    return rc;
}

/* ---- one line of each format -------------------------------------------------------------------
 */

static bool is_done(const struct tf_lines *lines, const struct line *line, enum tf_stream stream)
{
    return line->start < lines->skip_to[stream];
}

static int take_malformed(struct tf_lines *lines, const struct line *line, struct tf_batch *batch)
{
    struct entry entry = {.time_ns = lines->now_ns,
                          .start = line->start,
                          .stream = TF_STREAM_OTHER,
                          .flags = TF_RECORD_MALFORMED};
    int rc;

    if (is_done(lines, line, TF_STREAM_OTHER)) {
        return 0;
    }
    entry.flags |= line->ended ? 0 : TF_RECORD_UNFINISHED;
    rc = emit(lines, batch, entry, &line->span);
    if (rc == 0) {
        batch->malformed++;
        lines->count++;
    }
    return rc;
}

/* The line in UTF-8; borrows until the next one. Wiped with the block. */
static int to_utf8(struct tf_lines *lines, const struct tf_span *raw, struct tf_span *out)
{
    uint64_t at = 0;
    size_t ends[3];

    tf_buf_clear(&lines->utf8);
    for (unsigned i = 0; i < 3; i++) {
        at += i == 1 ? raw->left_out : 0;
        (void)tf_encoding_append(lines->encoding, lines->is_big_endian, raw->part[i], at,
                                 &lines->utf8);
        at += raw->part[i].size;
        ends[i] = lines->utf8.size;
    }
    if (lines->utf8.error != 0) {
        lines->utf8.error = 0;
        return -ENOMEM;
    }
    *out = (struct tf_span){.left_out = raw->left_out / tf_newline_bytes(lines->encoding)};
    for (unsigned i = 0; i < 3; i++) {
        size_t start = i == 0 ? 0 : ends[i - 1];

        out->part[i] = tf_slice(lines->utf8.data + start, ends[i] - start);
    }
    return 0;
}

static int take_plain(struct tf_lines *lines, const struct line *line, struct tf_batch *batch)
{
    struct entry entry = {
        .time_ns = lines->now_ns, .start = line->start, .stream = TF_STREAM_OTHER};
    struct tf_span span = line->span;
    uint64_t size = tf_span_size(&span);

    if (is_done(lines, line, TF_STREAM_OTHER)) {
        return 0;
    }
    entry.flags = line->given_up ? TF_RECORD_UNFINISHED : 0;
    if (lines->encoding != TF_ENCODING_UTF8) {
        int rc = to_utf8(lines, &line->span, &span);

        if (rc < 0) {
            return rc;
        }
        size = tf_span_size(&span);
    }
    if (line->ended && size > 0 && tf_span_byte(&span, size - 1) == '\r') {
        tf_span_shorten(&span);
    }
    lines->count++;
    return emit(lines, batch, entry, &span);
}

/* A piece, the last piece, or a text over max_line: by way of the held text. Consumes the text in
 * the arena. */
static int take_docker_pieces(struct tf_lines *lines, const struct entry *entry,
                              const struct tf_docker_line *found, uint64_t start,
                              struct tf_batch *batch)
{
    struct tf_span span = tf_span_of(tf_batch_slice(batch, found->text_at, found->text_size));
    int rc = hold(lines, entry, &span, start);

    drop_text(batch, found->text_at);
    if (rc < 0 || found->partial) {
        return rc;
    }
    return emit_held(lines, batch, entry->stream, entry->flags);
}

static int take_docker(struct tf_lines *lines, const struct line *line, struct tf_batch *batch)
{
    struct tf_slice raw = line->span.part[0];
    struct tf_docker_line found;
    struct entry entry;
    int rc;

    if (tf_span_size(&line->span) > raw_max_bytes(lines)) {
        return take_malformed(lines, line, batch);
    }
    rc = tf_docker_parse(raw, batch, &found);
    if (rc == -EPROTO) {
        return take_malformed(lines, line, batch);
    }
    if (rc < 0) {
        return rc;
    }
    if (is_done(lines, line, found.stream)) {
        drop_text(batch, found.text_at);
        return 0;
    }
    lines->count++;
    entry = (struct entry){.time_ns = found.time_ns, .start = line->start, .stream = found.stream};
    found.partial = found.partial && found.stream != TF_STREAM_OTHER;
    if (found.partial || holds(lines, found.stream) || found.text_size > lines->max_line_bytes) {
        return take_docker_pieces(lines, &entry, &found, line->start, batch);
    }
    return add_record(batch, &entry, found.text_at, found.text_size);
}

static int take_cri(struct tf_lines *lines, const struct line *line, struct tf_batch *batch)
{
    struct tf_slice raw = line->span.part[0];
    struct tf_span text = line->span;
    struct tf_cri_line found;
    struct entry entry;
    int rc;

    if (tf_cri_split(raw, &found) < 0 || found.text.data - raw.data > CRI_HEADER_MAX) {
        return take_malformed(lines, line, batch);
    }
    if (is_done(lines, line, found.stream)) {
        return 0;
    }
    lines->count++;
    text.part[0] = found.text;
    entry = (struct entry){.time_ns = found.time_ns, .start = line->start, .stream = found.stream};
    entry.flags = line->given_up ? TF_RECORD_UNFINISHED : 0;
    if (!found.partial && !holds(lines, found.stream)) {
        return emit(lines, batch, entry, &text);
    }
    rc = hold(lines, &entry, &text, line->start);
    if (rc < 0 || found.partial) {
        return rc;
    }
    return emit_held(lines, batch, found.stream, entry.flags);
}

/* ---- any line ----------------------------------------------------------------------------------
 */

/* Finds the format by this line, or after so many that it is plain. Returns 0 or -ENOMEM. */
static int settle(struct tf_lines *lines, const struct line *line, struct tf_batch *batch)
{
    struct tf_slice raw = line->span.part[0];
    struct tf_docker_line docker;
    struct tf_cri_line cri;
    int rc = -EPROTO;

    if (tf_span_size(&line->span) <= raw_max_bytes(lines)) {
        rc = tf_docker_parse(raw, batch, &docker);
    }
    if (rc == 0) {
        drop_text(batch, docker.text_at);
        lines->format = TF_FORMAT_DOCKER;
        return 0;
    }
    if (rc != -EPROTO) {
        return rc;
    }
    if (tf_cri_split(raw, &cri) == 0) {
        lines->format = TF_FORMAT_CRI;
    } else if (++lines->undecided == UNDECIDED_MAX) {
        lines->format = TF_FORMAT_PLAIN;
    }
    return 0;
}

/* Returns 0, -EMSGSIZE when the batch is full and nothing was changed, or -ENOMEM. */
static int take(struct tf_lines *lines, const struct line *line, struct tf_batch *batch)
{
    if (!has_room(lines, batch, tf_span_size(&line->span))) {
        return -EMSGSIZE;
    }
    if (lines->format == TF_FORMAT_AUTO) {
        int rc = settle(lines, line, batch);

        if (rc < 0) {
            return rc;
        }
    }
    switch (lines->format) {
    case TF_FORMAT_DOCKER:
        return take_docker(lines, line, batch);
    case TF_FORMAT_CRI:
        return take_cri(lines, line, batch);
    default:
        return take_plain(lines, line, batch);
    }
}

/* ---- a line whose newline has not come ---------------------------------------------------------
 */

static bool holds_line(const struct tf_lines *lines)
{
    return lines->line != NULL && lines->line->pieces > 0;
}

static int hold_line(struct tf_lines *lines, struct tf_slice bytes, uint64_t start)
{
    struct tf_span span = tf_span_of(bytes);

    if (lines->line == NULL) {
        lines->line = tf_held_new(raw_max_bytes(lines) / 2, raw_max_bytes(lines));
        if (lines->line == NULL) {
            return -ENOMEM;
        }
    }
    if (lines->line->pieces == 0) {
        lines->line->start = start;
        lines->line->pieces = 1;
    }
    return tf_held_put(lines->line, &span);
}

static int take_held_line(struct tf_lines *lines, bool ended, bool given_up, struct tf_batch *batch)
{
    struct line line = {.span = tf_held_span(lines->line),
                        .start = lines->line->start,
                        .ended = ended,
                        .given_up = given_up};
    int rc = take(lines, &line, batch);

    if (rc == 0) {
        tf_held_clear(lines->line);
    }
    return rc;
}

static const char *find_newline(const struct tf_lines *lines, struct tf_slice text, uint64_t offset)
{
    return tf_newline_find(lines->encoding, lines->is_big_endian, text, offset);
}

/* Goes on with the held line; *used says how far. Returns as take. */
static int resume_line(struct tf_lines *lines, struct tf_slice block, bool final,
                       struct tf_batch *batch, size_t *used)
{
    const char *newline = find_newline(lines, block, lines->offset);
    size_t size = newline != NULL ? (size_t)(newline - block.data) : block.size;
    int rc;

    if (!has_room(lines, batch, raw_max_bytes(lines))) {
        return -EMSGSIZE;
    }
    rc = hold_line(lines, tf_slice(block.data, size), lines->line->start);
    if (rc < 0) {
        return rc;
    }
    *used = size;
    if (newline == NULL && !final) {
        return 0;
    }
    *used += newline != NULL ? tf_newline_bytes(lines->encoding) : 0;
    return take_held_line(lines, newline != NULL, false, batch);
}

/* ---- blocks ------------------------------------------------------------------------------------
 */

static void free_held(struct tf_held **held, bool even_full)
{
    if (*held != NULL && (even_full || (*held)->pieces == 0)) {
        tf_held_free(*held);
        *held = NULL;
    }
}

static void free_all_held(struct tf_lines *lines, bool even_full)
{
    for (unsigned i = 0; i < TF_STREAMS; i++) {
        free_held(&lines->held[i], even_full);
    }
    free_held(&lines->line, even_full);
}

/* The end of a block without newline. *used grows by what was taken. */
static int take_rest(struct tf_lines *lines, struct tf_slice rest, bool final,
                     struct tf_batch *batch, size_t *used)
{
    struct line line = {.span = tf_span_of(rest), .start = lines->offset + *used};
    int rc = 0;

    if (rest.size == 0 || (!final && rest.size < HOLD_BYTES)) {
        return 0;
    }
    rc = final ? take(lines, &line, batch) : hold_line(lines, rest, line.start);
    if (rc == 0) {
        *used += rest.size;
    }
    return rc;
}

static int take_lines(struct tf_lines *lines, struct tf_slice block, bool final,
                      struct tf_batch *batch, size_t *used)
{
    struct line line = {.ended = true};
    int rc;

    while (*used < block.size) {
        const char *at = block.data + *used;
        const char *newline =
            find_newline(lines, tf_slice(at, block.size - *used), lines->offset + *used);

        if (newline == NULL) {
            break;
        }
        line.span = tf_span_of(tf_slice(at, (size_t)(newline - at)));
        line.start = lines->offset + *used;
        rc = take(lines, &line, batch);
        if (rc < 0) {
            return rc;
        }
        *used += (size_t)(newline - at) + tf_newline_bytes(lines->encoding);
    }
    return take_rest(lines, tf_slice(block.data + *used, block.size - *used), final, batch, used);
}

/* How many bytes at the start of the file are no text. */
static size_t skip_mark(struct tf_lines *lines, struct tf_slice block)
{
    if (lines->encoding != TF_ENCODING_UTF16 || block.size < TF_UTF16_MARK_BYTES) {
        return 0;
    }
    tf_lines_set_mark(lines, block);
    return memcmp(block.data, "\xff\xfe", 2) == 0 || lines->is_big_endian ? TF_UTF16_MARK_BYTES : 0;
}

int64_t tf_lines_decode(struct tf_lines *lines, struct tf_slice block, bool final, int64_t now_ns,
                        struct tf_batch *batch)
{
    size_t used = 0;
    int rc = 0;

    lines->now_ns = now_ns;
    if (lines->offset == 0) {
        used = skip_mark(lines, block);
    }
    if (holds_line(lines)) {
        rc = resume_line(lines, block, final, batch, &used);
    }
    if (rc == 0 && used < block.size) {
        rc = take_lines(lines, block, final, batch, &used);
    }
    free_all_held(lines, false);
    if (lines->utf8.size > 0) {
        explicit_bzero(lines->utf8.data, lines->utf8.capacity); /* it may hold secrets */
        tf_buf_clear(&lines->utf8);
    }
    if (rc < 0 && rc != -EMSGSIZE) {
        return rc;
    }
    lines->offset += used;
    batch->read_bytes += used;
    return (int64_t)used;
}

/* ---- the rest of the contract ------------------------------------------------------------------
 */

int tf_lines_new(enum tf_format format, uint64_t max_line_bytes, struct tf_lines **out)
{
    struct tf_lines *lines;

    if (max_line_bytes < MAX_LINE_MIN || max_line_bytes > MAX_LINE_MAX) {
        return -EINVAL;
    }
    lines = calloc(1, sizeof *lines);
    if (lines == NULL) {
        return -ENOMEM;
    }
    lines->wanted = format;
    lines->format = format;
    lines->max_line_bytes = max_line_bytes;
    tf_buf_init(&lines->utf8, UTF8_MAX);
    *out = lines;
    return 0;
}

void tf_lines_set_encoding(struct tf_lines *lines, enum tf_encoding encoding)
{
    lines->encoding = encoding;
    if (encoding != TF_ENCODING_UTF8) {
        lines->wanted = lines->format = TF_FORMAT_PLAIN;
    }
}

void tf_lines_set_mark(struct tf_lines *lines, struct tf_slice first_bytes)
{
    lines->is_big_endian = first_bytes.size >= TF_UTF16_MARK_BYTES &&
                           memcmp(first_bytes.data, "\xfe\xff", TF_UTF16_MARK_BYTES) == 0;
}

bool tf_lines_has_line(const struct tf_lines *lines, struct tf_slice rest)
{
    return find_newline(lines, rest, lines->offset) != NULL;
}

void tf_lines_free(struct tf_lines *lines)
{
    if (lines != NULL) {
        free_all_held(lines, true);
        tf_buf_fini(&lines->utf8);
        free(lines);
    }
}

/* What is known of the format stays known, but for a file that begins anew. */
void tf_lines_restart(struct tf_lines *lines, uint64_t offset, const uint64_t done[TF_STREAMS])
{
    free_all_held(lines, true);
    lines->offset = offset;
    memcpy(lines->skip_to, done, sizeof lines->skip_to);
    if (offset == 0) {
        lines->format = lines->wanted;
        lines->undecided = 0;
    }
}

static int flush_stream(struct tf_lines *lines, enum tf_stream stream, struct tf_batch *batch)
{
    if (!holds(lines, stream)) {
        return 0;
    }
    if (!has_room(lines, batch, 0)) {
        return -EMSGSIZE;
    }
    return emit_held(lines, batch, stream, TF_RECORD_UNFINISHED);
}

/* Both hold a record, and that of stderr is the older one. */
static bool stderr_is_older(const struct tf_lines *lines)
{
    return holds(lines, TF_STREAM_STDOUT) && holds(lines, TF_STREAM_STDERR) &&
           lines->held[TF_STREAM_STDERR]->start < lines->held[TF_STREAM_STDOUT]->start;
}

int tf_lines_flush(struct tf_lines *lines, struct tf_batch *batch)
{
    int rc = holds_line(lines) ? take_held_line(lines, false, true, batch) : 0;
    bool err_first = stderr_is_older(lines);

    if (rc == 0) {
        rc = flush_stream(lines, err_first ? TF_STREAM_STDERR : TF_STREAM_STDOUT, batch);
    }
    if (rc == 0) {
        rc = flush_stream(lines, err_first ? TF_STREAM_STDOUT : TF_STREAM_STDERR, batch);
    }
    free_all_held(lines, false);
    return rc;
}

void tf_lines_done(const struct tf_lines *lines, uint64_t done[TF_STREAMS])
{
    for (unsigned i = 0; i < TF_STREAMS; i++) {
        uint64_t reached = holds_line(lines) ? lines->line->start : lines->offset;

        if (holds(lines, (enum tf_stream)i)) {
            reached = lines->held[i]->start;
        }
        done[i] = reached > lines->skip_to[i] ? reached : lines->skip_to[i];
    }
}

uint64_t tf_lines_held_at(const struct tf_lines *lines)
{
    uint64_t at = holds_line(lines) ? lines->line->start : UINT64_MAX;

    for (unsigned i = 0; i < TF_STREAMS; i++) {
        if (holds(lines, (enum tf_stream)i) && lines->held[i]->start < at) {
            at = lines->held[i]->start;
        }
    }
    return at;
}

enum tf_format tf_lines_format(const struct tf_lines *lines)
{
    return lines->format;
}

uint64_t tf_lines_count(const struct tf_lines *lines)
{
    return lines->count;
}
