/*
 * export.c - a stream of Journal Export Format (systemd.io, "Journal Export Formats") to records.
 *
 *     NAME=value \n                                    a field
 *     NAME \n  size, 8 bytes, little-endian  value \n  a field of any bytes
 *     \n                                               the entry ends
 *
 * An entry is read where it lies, field by field, and is copied to the batch when its end is
 * there (journal.c). Until then its bytes stay with the caller, and the table of its fields here,
 * so that no byte is looked at twice. Only an entry of more than TF_JOURNAL_ENTRY_MAX bytes is
 * consumed while it comes: it is read anew by a machine that takes any piece (also that of
 * tf_export_skip), which keeps of each field what fits:
 *
 *     at the start of a line --'\n'--> the entry ends
 *     name --'='--> text --'\n'--> the field ends
 *     name --'\n'--> size --8 bytes--> value --size bytes--> newline --'\n'--> the field ends
 *
 * Whether an entry is read in the one way or the other depends on its size alone, so that records
 * do not depend on how the stream was cut.
 *
 * What breaks the format, -EPROTO: a size above VALUE_MAX, a value without '\n' behind it. A name
 * that is not of the journal's is left out with its value, and the record is malformed.
 */
#include "taffrail/journal.h"

#include <errno.h>
#include <stdlib.h>

#include "journal_internal.h"

#define VALUE_MAX    (UINT64_C(1) << 30)
#define LENGTH_BYTES 8u
#define UNIT_MAX     255u /* bytes of a unit's name, systemd.unit(5) */

/* The name at the start of a line: what stands before '=', or all of it. */
struct name {
    size_t size;
    bool is_sound;
};

enum state { ENTRY, LINE, NAME, TEXT, LENGTH, VALUE, NEWLINE };

struct tf_export {
    const struct tf_journal_rules *rules;
    struct tf_entry entry;
    struct tf_entry_lines lines; /* of the batch that is being filled */
    bool is_broken;              /* until a restart */
    /* Of an entry that lies with the caller, from its start on: */
    size_t at;        /* the field that is not whole yet */
    size_t searched;  /* no newline of its line is before this */
    struct name name; /* of a field whose value is missing; size 0: not so */
    bool has_lines;
    /* Of one that is longer: */
    bool is_long, is_ended;
    bool is_taken; /* nothing but a note needs it any more */
    struct tf_buf kept;
    struct tf_export_skip machine;
    uint64_t long_bytes;
    size_t field_at; /* in kept */
    uint64_t name_size, value_size;
    struct tf_buf cursor;
};

/* ---- a stream ----------------------------------------------------------------------------------
 */

int tf_export_new(const struct tf_journal_rules *rules, struct tf_export **out)
{
    struct tf_export *stream = calloc(1, sizeof *stream);

    if (stream == NULL) {
        return -ENOMEM;
    }
    stream->rules = rules;
    tf_buf_init(&stream->kept, TF_JOURNAL_ENTRY_MAX);
    tf_buf_init(&stream->cursor, TF_JOURNAL_CURSOR_MAX);
    if (tf_buf_reserve(&stream->cursor, TF_JOURNAL_CURSOR_MAX) < 0) {
        tf_export_free(stream);
        return -ENOMEM;
    }
    tf_entry_init(&stream->entry);
    *out = stream;
    return 0;
}

static void wipe_kept(struct tf_export *stream)
{
    if (stream->kept.data != NULL) {
        explicit_bzero(stream->kept.data, stream->kept.capacity); /* it may hold secrets */
    }
    tf_buf_fini(&stream->kept);
    tf_buf_init(&stream->kept, TF_JOURNAL_ENTRY_MAX);
}

void tf_export_free(struct tf_export *stream)
{
    if (stream != NULL) {
        wipe_kept(stream);
        tf_buf_fini(&stream->cursor);
        free(stream);
    }
}

static void begin_entry(struct tf_export *stream)
{
    tf_entry_begin(&stream->entry);
    stream->at = 0;
    stream->searched = 0;
    stream->has_lines = false;
    if (stream->is_long) {
        wipe_kept(stream);
        stream->is_long = false;
    }
    stream->is_ended = false;
    stream->is_taken = false;
    stream->name.size = 0;
}

static void set_cursor(struct tf_export *stream, struct tf_slice cursor)
{
    if (cursor.size > 0 && cursor.size <= TF_JOURNAL_CURSOR_MAX) {
        tf_buf_clear(&stream->cursor);
        (void)tf_buf_append(&stream->cursor, cursor.data, cursor.size); /* room was made */
    }
}

void tf_export_restart(struct tf_export *stream, struct tf_slice after)
{
    begin_entry(stream);
    stream->is_broken = false;
    tf_buf_clear(&stream->cursor);
    set_cursor(stream, after);
}

struct tf_slice tf_export_cursor(const struct tf_export *stream)
{
    return tf_buf_slice(&stream->cursor);
}

/* ---- an entry where it lies --------------------------------------------------------------------
 */

enum scanned { WHOLE, MORE, BROKEN };

/* Looks no further than it must: the rest of the line may be long. */
static struct name find_name(const char *line, size_t size)
{
    const char *equals;
    size_t at = 0;

    while (at < size && tf_entry_name_bytes[(uint8_t)line[at]]) {
        at++;
    }
    if (at == size || line[at] == '=') {
        return (struct name){.size = at, .is_sound = at > 0 && at <= TF_JOURNAL_NAME_MAX};
    }
    equals = memchr(line + at, '=', size - at);
    return (struct name){.size = equals != NULL ? (size_t)(equals - line) : size};
}

/* Adds the field at stream->at. */
static void add_field(struct tf_export *stream, const char *entry, struct name name,
                      size_t value_at, size_t value_size)
{
    stream->has_lines = true;
    if (!name.is_sound) {
        stream->entry.is_malformed = true;
        return;
    }
    tf_entry_add(&stream->entry, entry, (uint32_t)stream->at, (uint32_t)name.size,
                 (uint32_t)value_at, (uint32_t)value_size);
}

/* A field whose name is all of the line. */
static enum scanned scan_binary(struct tf_export *stream, struct tf_slice entry)
{
    size_t newline_at = stream->at + stream->name.size, value_at = newline_at + 1 + LENGTH_BYTES;
    uint64_t size;

    if (entry.size < value_at) {
        return MORE;
    }
    size = tf_load64(entry.data + newline_at + 1);
    if (size > VALUE_MAX) {
        return BROKEN;
    }
    if (entry.size <= value_at + size) {
        return MORE;
    }
    if (entry.data[value_at + size] != '\n') {
        return BROKEN;
    }
    add_field(stream, entry.data, stream->name, value_at, size);
    stream->at = value_at + size + 1;
    stream->name.size = 0;
    return WHOLE;
}

/* One field, or the line that ends the entry (of no bytes). */
static enum scanned scan_line(struct tf_export *stream, struct tf_slice entry)
{
    size_t from = stream->searched > stream->at ? stream->searched : stream->at, size;
    const char *line = entry.data + stream->at, *newline;
    struct name name;

    if (stream->name.size > 0) {
        return scan_binary(stream, entry);
    }
    newline = memchr(entry.data + from, '\n', entry.size - from);
    if (newline == NULL) {
        stream->searched = entry.size;
        return MORE;
    }
    size = (size_t)(newline - line);
    name = find_name(line, size);
    if (size > 0 && name.size == size) {
        stream->name = name;
        return scan_binary(stream, entry);
    }
    if (size > 0) {
        add_field(stream, entry.data, name, stream->at + name.size + 1, size - name.size - 1);
    }
    stream->at += size + 1;
    return WHOLE;
}

/* Goes on to the end of the entry; stream->at is behind it then. */
static enum scanned scan_entry(struct tf_export *stream, struct tf_slice entry)
{
    enum scanned scanned = WHOLE;

    while (scanned == WHOLE) {
        size_t at = stream->at;

        if (at == entry.size) {
            return MORE;
        }
        scanned = scan_line(stream, entry);
        if (scanned == WHOLE && stream->at == at + 1) {
            return WHOLE;
        }
    }
    return scanned;
}

/* ---- any piece of an entry ---------------------------------------------------------------------
 */

/* What a run of bytes is. */
enum part { PART_NOTHING, PART_NAME, PART_VALUE, PART_FIELD_END, PART_ENTRY_END, PART_BROKEN };

static size_t run_to(struct tf_slice bytes, char a, char b)
{
    size_t at = 0;

    if (a == b) {
        const char *found = memchr(bytes.data, a, bytes.size);

        return found != NULL ? (size_t)(found - bytes.data) : bytes.size;
    }
    while (at < bytes.size && bytes.data[at] != a && bytes.data[at] != b) {
        at++;
    }
    return at;
}

static enum part take_name(struct tf_export_skip *machine, struct tf_slice bytes, size_t *used)
{
    *used = run_to(bytes, '=', '\n');
    if (*used > 0) {
        return PART_NAME;
    }
    *used = 1;
    machine->state = bytes.data[0] == '=' ? TEXT : LENGTH;
    machine->length_at = 0;
    return PART_NOTHING;
}

static enum part take_length(struct tf_export_skip *machine, struct tf_slice bytes, size_t *used)
{
    machine->length[machine->length_at++] = (uint8_t)bytes.data[0];
    *used = 1;
    if (machine->length_at < LENGTH_BYTES) {
        return PART_NOTHING;
    }
    machine->left_bytes = tf_load64(machine->length);
    machine->state = machine->left_bytes > 0 ? VALUE : NEWLINE;
    return machine->left_bytes > VALUE_MAX ? PART_BROKEN : PART_NOTHING;
}

static enum part take_value(struct tf_export_skip *machine, struct tf_slice bytes, size_t *used)
{
    if (machine->state == VALUE) {
        *used = bytes.size < machine->left_bytes ? bytes.size : machine->left_bytes;
        machine->left_bytes -= *used;
        machine->state = machine->left_bytes > 0 ? VALUE : NEWLINE;
        return PART_VALUE;
    }
    *used = machine->state == TEXT ? run_to(bytes, '\n', '\n') : 0;
    if (*used > 0) {
        return PART_VALUE;
    }
    if (bytes.data[0] != '\n') {
        return PART_BROKEN;
    }
    *used = 1;
    machine->state = LINE;
    return PART_FIELD_END;
}

/* Takes the next run of bytes (not empty), all of one part. */
static enum part take_run(struct tf_export_skip *machine, struct tf_slice bytes, size_t *used)
{
    bool is_in_entry = machine->state != ENTRY;

    if (machine->state == ENTRY || machine->state == LINE) {
        if (bytes.data[0] == '\n') {
            *used = 1;
            machine->state = ENTRY;
            return is_in_entry ? PART_ENTRY_END : PART_NOTHING;
        }
        machine->state = NAME;
    }
    switch (machine->state) {
    case NAME:
        return take_name(machine, bytes, used);
    case LENGTH:
        return take_length(machine, bytes, used);
    default:
        return take_value(machine, bytes, used);
    }
}

int64_t tf_export_skip(struct tf_export_skip *skip, struct tf_slice bytes, uint64_t limit_bytes,
                       uint64_t *entries)
{
    size_t at = 0, used = 0;

    *entries = 0;
    while (at < bytes.size) {
        enum part part = take_run(skip, tf_slice(bytes.data + at, bytes.size - at), &used);

        if (part == PART_BROKEN) {
            return -EPROTO;
        }
        at += used;
        *entries += part == PART_ENTRY_END ? 1 : 0;
        if (part == PART_ENTRY_END && at >= limit_bytes) {
            break;
        }
    }
    return (int64_t)at;
}

/* ---- an entry that is too long to lie with the caller ------------------------------------------
 */

/* Appends to the field as much as there is room for. */
static int keep(struct tf_export *stream, struct tf_slice bytes, uint64_t most)
{
    size_t has = stream->kept.size - stream->field_at;
    size_t size = has < most ? most - has : 0;

    size = bytes.size < size ? bytes.size : size;
    return tf_buf_append(&stream->kept, bytes.data, size);
}

/* Bytes of the entry that fields of this name may take up. */
static size_t share_of(const struct tf_export *stream)
{
    bool is_trusted = stream->kept.data[stream->field_at] == '_';

    return TF_JOURNAL_ENTRY_MAX - (is_trusted ? 0 : TF_ENTRY_TRUSTED_BYTES);
}

/* Whether the field that ended is kept: its name, and as much of its value as there must be. */
static bool is_kept(struct tf_export *stream)
{
    uint64_t value = stream->value_size;
    size_t kept = stream->kept.size - stream->field_at;

    if (stream->name_size == 0 || stream->name_size > TF_JOURNAL_NAME_MAX) {
        stream->entry.is_malformed = true;
        return false;
    }
    value = value < TF_JOURNAL_FIELD_MAX ? value : TF_JOURNAL_FIELD_MAX;
    if (kept < stream->name_size + value || stream->kept.size >= share_of(stream)) {
        stream->entry.is_truncated = true;
        return false;
    }
    if (!tf_entry_is_name(tf_slice(stream->kept.data + stream->field_at, stream->name_size))) {
        stream->entry.is_malformed = true;
        return false;
    }
    return true;
}

/* The field is whole: it goes into the table, or off again. */
static int end_field(struct tf_export *stream)
{
    uint64_t size = stream->value_size < UINT32_MAX ? stream->value_size : UINT32_MAX;
    uint32_t at = (uint32_t)stream->field_at, name_size = (uint32_t)stream->name_size;
    int rc = 0;

    if (is_kept(stream)) {
        rc = tf_buf_append_byte(&stream->kept, '\n');
        tf_entry_add(&stream->entry, stream->kept.data, at, name_size, at + name_size,
                     (uint32_t)size);
    } else {
        stream->kept.size = stream->field_at;
    }
    stream->field_at = stream->kept.size;
    stream->name_size = 0;
    stream->value_size = 0;
    return rc;
}

static int keep_run(struct tf_export *stream, enum part part, struct tf_slice run)
{
    size_t room = TF_JOURNAL_ENTRY_MAX - stream->field_at; /* 1 of it for the newline */
    uint64_t most = TF_JOURNAL_NAME_MAX;

    if (part == PART_NAME) {
        stream->name_size += run.size;
    } else {
        stream->value_size += run.size;
        most = stream->name_size > most ? 0 : stream->name_size + TF_JOURNAL_FIELD_MAX;
    }
    room -= room > 0 ? 1 : 0;
    return keep(stream, run, most < room ? most : room);
}

/* Takes what there is of a long entry. */
static int take_long(struct tf_export *stream, struct tf_slice bytes, size_t *taken)
{
    size_t at = 0, used = 0;

    while (at < bytes.size && !stream->is_ended) {
        enum part part =
            take_run(&stream->machine, tf_slice(bytes.data + at, bytes.size - at), &used);
        int rc = 0;

        switch (part) {
        case PART_BROKEN:
            return -EPROTO;
        case PART_NAME:
        case PART_VALUE:
            rc = keep_run(stream, part, tf_slice(bytes.data + at, used));
            break;
        case PART_FIELD_END:
            rc = end_field(stream);
            break;
        default:
            stream->is_ended = part == PART_ENTRY_END;
            break;
        }
        if (rc < 0) {
            return rc;
        }
        at += used;
    }
    stream->long_bytes += at;
    *taken = at;
    return 0;
}

static void begin_long(struct tf_export *stream)
{
    tf_entry_begin(&stream->entry);
    stream->is_long = true;
    stream->is_ended = false;
    stream->machine = (struct tf_export_skip){.state = ENTRY};
    stream->long_bytes = 0;
    stream->field_at = 0;
    stream->name_size = 0;
    stream->value_size = 0;
}

/* ---- what becomes of an entry ------------------------------------------------------------------
 */

static struct tf_slice value_of(const struct tf_export *stream, const char *bytes, const char *name)
{
    uint16_t at = tf_entry_find(&stream->entry, bytes, tf_slice_text(name));

    return tf_entry_value(&stream->entry, bytes, at);
}

static uint64_t count_of(struct tf_slice digits)
{
    uint64_t count;

    return tf_entry_digits(digits, &count) ? count : UINT64_MAX;
}

/* An entry whose first field is __READER_…: the reader speaks. */
static bool is_word(const struct tf_export *stream, const char *bytes)
{
    static const char prefix[] = "__READER_";
    const struct tf_entry_field *first = &stream->entry.fields[0];

    return stream->rules->is_reader && stream->entry.count > 0 &&
           first->name_size >= sizeof prefix - 1 &&
           memcmp(bytes + first->name_at, prefix, sizeof prefix - 1) == 0;
}

static void take_word(struct tf_export *stream, const char *bytes, struct tf_journal_note *note)
{
    const struct tf_entry_field *first = &stream->entry.fields[0];
    struct tf_slice name = tf_slice(bytes + first->name_at, first->name_size);
    struct tf_slice value = tf_entry_value(&stream->entry, bytes, 0);

    set_cursor(stream, value_of(stream, bytes, "__READER_CURSOR"));
    if (tf_slice_equal(name, tf_slice_text("__READER_GAP"))) {
        *note = (struct tf_journal_note){.kind = TF_JOURNAL_NOTE_GAP,
                                         .entries =
                                             count_of(value_of(stream, bytes, "__READER_ENTRIES")),
                                         .reason = value,
                                         .text = value_of(stream, bytes, "__READER_TEXT")};
    } else if (tf_slice_equal(name, tf_slice_text("__READER_ERROR"))) {
        *note = (struct tf_journal_note){
            .kind = TF_JOURNAL_NOTE_ERROR, .entries = UINT64_MAX, .text = value};
    }
}

/* As systemd.unit(5) has it; empty when it is none: of a socket or an upload it is only a claim,
 * and what is noted is logged. */
static struct tf_slice unit_name(struct tf_slice text)
{
    static const char more[] = ":-_.\\@";

    for (size_t i = 0; i < text.size; i++) {
        char c = text.data[i];
        bool is_letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');

        if (!is_letter && !(c >= '0' && c <= '9') && memchr(more, c, sizeof more - 1) == NULL) {
            return tf_slice(NULL, 0);
        }
    }
    return text.size <= UNIT_MAX ? text : tf_slice(NULL, 0);
}

/* journald's own word that it dropped entries of a unit that logs too fast (systemd's
 * SD_MESSAGE_JOURNAL_DROPPED). */
static void note_suppressed(const struct tf_export *stream, const char *bytes,
                            struct tf_journal_note *note)
{
    const struct tf_entry *entry = &stream->entry;
    uint64_t entries;

    if (tf_slice_equal(tf_entry_known(entry, bytes, TF_NAME_MESSAGE_ID),
                       tf_slice_text("a596d6fe7bfa4994828e72309e95d61e")) &&
        tf_slice_equal(tf_entry_known(entry, bytes, TF_NAME_TRANSPORT), tf_slice_text("driver")) &&
        tf_entry_digits(tf_entry_known(entry, bytes, TF_NAME_N_DROPPED), &entries)) {
        *note = (struct tf_journal_note){
            .kind = TF_JOURNAL_NOTE_SUPPRESSED,
            .entries = entries,
            .text = unit_name(tf_entry_known(entry, bytes, TF_NAME_OBJECT_UNIT))};
    }
}

/* One call of tf_export_decode. */
struct decode {
    struct tf_export *stream;
    int64_t now_ns;
    struct tf_batch *batch;
    struct tf_export_result *result;
};

/* Makes of a whole entry what it is. Returns 0, -EMSGSIZE: the batch is full, or -ENOMEM. */
static int take_entry(const struct decode *decode, struct tf_slice bytes, uint64_t true_bytes)
{
    struct tf_export *stream = decode->stream;
    const struct tf_journal_rules *rules = stream->rules;
    struct tf_slice cursor = tf_entry_known(&stream->entry, bytes.data, TF_NAME_CURSOR);
    const struct tf_entry_bytes from = {.bytes = bytes.data,
                                        .size = bytes.size,
                                        .lines = &stream->lines,
                                        .true_bytes = true_bytes,
                                        .now_ns = decode->now_ns,
                                        .keeps_host = rules->keeps_host};
    int rc;

    if (is_word(stream, bytes.data)) {
        take_word(stream, bytes.data, &decode->result->note);
        return 0;
    }
    if (cursor.size > 0 && rules->is_repeat != NULL && rules->is_repeat(rules->ctx, cursor)) {
        decode->result->repeats++;
    } else if (!tf_entry_is_wanted(&stream->entry, bytes.data, rules->select)) {
        decode->result->unwanted++;
    } else {
        rc = tf_entry_emit(&stream->entry, &from, decode->batch);
        if (rc < 0) {
            return rc;
        }
        note_suppressed(stream, bytes.data, &decode->result->note);
    }
    set_cursor(stream, cursor);
    return 0;
}

/* An entry where it lies, at the start of bytes. *used stays 0 when it is not whole. Returns as
 * take_entry, or -EPROTO. */
static int decode_short(const struct decode *decode, struct tf_slice bytes, size_t *used)
{
    struct tf_export *stream = decode->stream;
    struct tf_slice entry = bytes;
    enum scanned scanned;
    int rc = 0;

    entry.size = bytes.size < TF_JOURNAL_ENTRY_MAX ? bytes.size : TF_JOURNAL_ENTRY_MAX;
    scanned = scan_entry(stream, entry);
    if (scanned == BROKEN) {
        return -EPROTO;
    }
    if (scanned == MORE) {
        if (entry.size == TF_JOURNAL_ENTRY_MAX) {
            begin_long(stream);
        }
        return 0;
    }
    entry.size = stream->at;
    if (stream->has_lines) {
        rc = take_entry(decode, entry, entry.size);
    }
    *used = rc == 0 ? entry.size : 0;
    begin_entry(stream); /* one that did not fit is scanned once more */
    return rc;
}

static int decode_long(const struct decode *decode, struct tf_slice bytes, size_t *used)
{
    struct tf_export *stream = decode->stream;
    int rc = 0;

    if (!stream->is_ended) {
        rc = take_long(stream, bytes, used);
    }
    if (rc == 0 && stream->is_ended) {
        rc = take_entry(decode, tf_buf_slice(&stream->kept), stream->long_bytes);
        stream->is_taken = rc == 0;
    }
    return rc;
}

int64_t tf_export_decode(struct tf_export *stream, struct tf_slice bytes, int64_t now_ns,
                         struct tf_batch *batch, struct tf_export_result *result)
{
    const struct decode decode = {
        .stream = stream, .now_ns = now_ns, .batch = batch, .result = result};
    size_t at = 0, used = 1;
    int rc = stream->is_broken ? -EPROTO : 0;

    *result = (struct tf_export_result){.is_full = false};
    stream->lines = (struct tf_entry_lines){.items = {{0}}}; /* it may be another batch */
    while (rc == 0 && (used > 0 || stream->is_long) && result->note.kind == TF_JOURNAL_NOTE_NONE) {
        struct tf_slice rest = tf_slice(bytes.data + at, bytes.size - at);

        if (stream->is_taken) {
            begin_entry(stream);
        }
        if (rest.size == 0 && !stream->is_ended) {
            break;
        }
        used = 0;
        rc = stream->is_long ? decode_long(&decode, rest, &used)
                             : decode_short(&decode, rest, &used);
        at += used;
    }
    batch->read_bytes += at;
    result->is_full = rc == -EMSGSIZE;
    result->is_broken = stream->is_broken = rc == -EPROTO;
    return rc == 0 || rc == -EMSGSIZE || (rc == -EPROTO && at > 0) ? (int64_t)at : rc;
}
