/*
 * event.c - from the columns of a batch to msgpack events, and the constants of a source.
 *
 *     bytes  part
 *         1  array of 2
 *        10  EventTime: fixext 8 of type 0, seconds and nanoseconds, big-endian
 *       1-5  map head
 *         n  the source's constants, copied as they were encoded
 *         n  `taffrail` and its map, when the record has a mark
 *         n  the record's fields, in their order
 *
 * Every record is measured first, room is made for it once, and then it is written without further
 * checks. Text is str when it is valid UTF-8, else bin; keys are always str, a byte of a key that
 * is not UTF-8 becomes '?' (no decoder makes such keys, and receivers refuse them).
 *
 * Invariant: no key stands twice in an event's map. Constants are stronger than fields, the first
 * field is stronger than later ones; what is left out so is told by the mark `malformed`. The marks
 * of this agent are merged with those that a decoder put into a field `taffrail`; ours are the
 * stronger ones. Maps further in are the sender's own affair.
 *
 * EventTime holds 1970 to 2106; times outside are clamped.
 * Not here: reading events (ndjson.c), and which batches share a frame (frames.c).
 */
#include "taffrail/event.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "taffrail/decode.h"

#define EVENT_HEAD_BYTES    16u /* array, EventTime and the widest map head */
#define HEAD_BYTES_MAX      5u  /* of a str, bin, array or map */
#define NUMBER_BYTES_MAX    9u
#define MARKS_BYTES_MAX     256u /* `taffrail` with all marks of ours */
#define MARKS_MAX           64u  /* a decoder's marks; further ones are left out */
#define REASON_BYTES_MAX    64u
#define NARROW_MAX          24u /* fields at the top that are compared pair by pair; more are sorted */
#define WRITTEN_MAX         512u
#define CONSTANTS_MAX       64u
#define CONSTANTS_BYTES_MAX (64u << 10)
#define SECONDS_MAX         INT64_C(0xffffffff)

/* A text with its key as it was written, in the buffer of events: fields that share their text
 * (batch.h) are written alike. Of those with one place, the newest. out_bytes 0: none. */
struct written {
    uint32_t key_at, key_size, at, size;
    uint32_t out_at, out_bytes;
};

struct encoder {
    const struct tf_batch *batch;
    const struct tf_buf *out;
    struct tf_slice constant_keys[CONSTANTS_MAX];
    uint32_t constant_count;
    struct tf_buf order;    /* uint32_t: the top fields of a wide record, sorted */
    struct tf_buf left_out; /* uint32_t: fields of this record that are not written, rising */
    uint8_t *to;            /* where the next byte goes; room was made */
    struct written written[WRITTEN_MAX];
};

/* What the first look at a record finds. */
struct survey {
    size_t bytes_max;  /* of the whole event */
    uint32_t pairs;    /* of the record's own map, without `taffrail` */
    uint32_t left_out; /* fields whose key was taken */
    uint8_t marks;     /* flags of the record that become marks */
    uint32_t mark_count;
    uint32_t kept[MARKS_MAX]; /* children of the field `taffrail` that are written */
    uint32_t kept_count;
};

/* The marks of ours, in the order in which they are written. */
static const struct {
    uint8_t flag;
    const char *name;
} MARKS[] = {
    {TF_RECORD_MALFORMED, "malformed"},   {TF_RECORD_TRUNCATED, "truncated"},
    {TF_RECORD_UNFINISHED, "unfinished"}, {TF_RECORD_WITHHELD, "withheld"},
    {TF_RECORD_REDACTED, "redacted"},
};

/* ---- bytes --------------------------------------------------------------------------------------
 */

static uint8_t *put_bytes(uint8_t *to, const void *data, size_t size)
{
    if (size > 0) {
        memcpy(to, data, size);
    }
    return to + size;
}

static uint8_t *put_big_endian(uint8_t *to, uint64_t value, unsigned bytes)
{
    for (unsigned i = bytes; i > 0; i--) {
        to[i - 1] = (uint8_t)value;
        value >>= 8;
    }
    return to + bytes;
}

/* The smallest head for size: `fixed` holds it when it is below fixed_end, then 1, 2 or 4 bytes
 * behind `lead`, lead + 1, lead + 2. Arrays and maps have no form of 1 byte: lead is one less. */
struct head {
    uint8_t fixed, lead;
    uint32_t fixed_end;
    bool has_short;
};

static const struct head STR_HEAD = {0xa0, 0xd9, 32, true};
static const struct head BIN_HEAD = {0, 0xc4, 0, true};
static const struct head ARRAY_HEAD = {0x90, 0xdb, 16, false};
static const struct head MAP_HEAD = {0x80, 0xdd, 16, false};

static uint8_t *put_head(uint8_t *to, struct head head, uint32_t size)
{
    if (size < head.fixed_end) {
        *to = (uint8_t)(head.fixed | size);
        return to + 1;
    }
    if (size <= UINT8_MAX && head.has_short) {
        *to = head.lead;
        return put_big_endian(to + 1, size, 1);
    }
    if (size <= UINT16_MAX) {
        *to = head.lead + 1;
        return put_big_endian(to + 1, size, 2);
    }
    *to = head.lead + 2;
    return put_big_endian(to + 1, size, 4);
}

static uint8_t *put_str(uint8_t *to, const char *text)
{
    size_t size = strlen(text);

    return put_bytes(put_head(to, STR_HEAD, (uint32_t)size), text, size);
}

static uint8_t *put_uint(uint8_t *to, uint64_t value)
{
    unsigned width = value <= UINT8_MAX ? 0 : value <= UINT16_MAX ? 1 : value <= UINT32_MAX ? 2 : 3;

    if (value < 0x80) {
        *to = (uint8_t)value;
        return to + 1;
    }
    *to = (uint8_t)(0xcc + width);
    return put_big_endian(to + 1, value, 1u << width);
}

static uint8_t *put_int(uint8_t *to, int64_t value)
{
    unsigned width = value >= INT8_MIN ? 0 : value >= INT16_MIN ? 1 : value >= INT32_MIN ? 2 : 3;

    if (value >= 0) {
        return put_uint(to, (uint64_t)value);
    }
    if (value >= -32) {
        *to = (uint8_t)value;
        return to + 1;
    }
    *to = (uint8_t)(0xd0 + width);
    return put_big_endian(to + 1, (uint64_t)value, 1u << width);
}

static uint8_t *put_double(uint8_t *to, double value)
{
    uint64_t bits;

    memcpy(&bits, &value, sizeof bits);
    *to = 0xcb;
    return put_big_endian(to + 1, bits, sizeof bits);
}

/* Seconds and nanoseconds; a time that EventTime cannot hold was clamped. */
static uint8_t *put_event_time(uint8_t *to, int64_t time_ns)
{
    *to++ = 0xd7;
    *to++ = 0;
    to = put_big_endian(to, (uint64_t)(time_ns / TF_S_IN_NS), 4);
    return put_big_endian(to, (uint64_t)(time_ns % TF_S_IN_NS), 4);
}

static int64_t clamp_time(int64_t time_ns)
{
    if (time_ns < 0) {
        return 0;
    }
    if (time_ns / TF_S_IN_NS > SECONDS_MAX) {
        return SECONDS_MAX * TF_S_IN_NS + (TF_S_IN_NS - 1);
    }
    return time_ns;
}

/* ---- fields -------------------------------------------------------------------------------------
 */

static struct tf_slice key_of(const struct encoder *e, uint32_t at)
{
    const struct tf_field *field = &e->batch->fields[at];

    return tf_batch_slice(e->batch, field->key_at, field->key_size);
}

static uint32_t children_of(const struct tf_field *field)
{
    return field->type == TF_VALUE_MAP || field->type == TF_VALUE_ARRAY ? field->value.count : 0;
}

/* The field behind the one at `at` and all that it holds. */
static uint32_t behind(const struct encoder *e, uint32_t at, uint32_t end)
{
    uint64_t left = 1;

    (void)end; /* where assertions are off */
    while (left > 0) {
        assert(at < end); /* a count tells of no more children than there are */
        left += children_of(&e->batch->fields[at++]);
        left--;
    }
    return at;
}

static uint8_t *put_key(uint8_t *to, struct tf_slice key)
{
    to = put_head(to, STR_HEAD, (uint32_t)key.size);
    (void)put_bytes(to, key.data, key.size);
    if (!tf_utf8_valid(key.data, key.size)) {
        for (size_t i = 0; i < key.size; i++) {
            to[i] = to[i] < 0x80 ? to[i] : '?';
        }
    }
    return to + key.size;
}

static uint8_t *put_text(uint8_t *to, struct tf_slice text, bool is_binary)
{
    bool is_str = !is_binary && tf_utf8_valid(text.data, text.size);

    to = put_head(to, is_str ? STR_HEAD : BIN_HEAD, (uint32_t)text.size);
    return put_bytes(to, text.data, text.size);
}

static uint32_t write_children(struct encoder *e, uint32_t at, uint32_t count, bool has_keys);

/* Writes the value of the field at `at` with all that it holds; returns the field behind it. */
static uint32_t write_value(struct encoder *e, uint32_t at)
{
    static const uint8_t words[] = {
        [TF_VALUE_TRUE] = 0xc3, [TF_VALUE_FALSE] = 0xc2, [TF_VALUE_NIL] = 0xc0};
    const struct tf_field *field = &e->batch->fields[at];

    switch ((enum tf_value_type)field->type) {
    case TF_VALUE_TEXT:
    case TF_VALUE_BYTES:
        e->to =
            put_text(e->to, tf_batch_slice(e->batch, field->value.text.at, field->value.text.size),
                     field->type == TF_VALUE_BYTES);
        break;
    case TF_VALUE_INT:
        e->to = put_int(e->to, field->value.i);
        break;
    case TF_VALUE_UINT:
        e->to = put_uint(e->to, field->value.u);
        break;
    case TF_VALUE_DOUBLE:
        e->to = put_double(e->to, field->value.d);
        break;
    case TF_VALUE_TRUE:
    case TF_VALUE_FALSE:
    case TF_VALUE_NIL:
        *e->to++ = words[field->type];
        break;
    case TF_VALUE_MAP:
        e->to = put_head(e->to, MAP_HEAD, field->value.count);
        return write_children(e, at + 1, field->value.count, true);
    case TF_VALUE_ARRAY:
        e->to = put_head(e->to, ARRAY_HEAD, field->value.count);
        return write_children(e, at + 1, field->value.count, false);
    }
    return at + 1;
}

/* Writes a key with its text, or once more what was written of the same ones. */
static void write_text_pair(struct encoder *e, uint32_t at)
{
    const struct tf_field *field = &e->batch->fields[at];
    uint32_t text_at = field->value.text.at, size = field->value.text.size;
    uint32_t mixed = (field->key_at ^ text_at << 16 ^ text_at >> 16) * 0x9e3779b1u;
    struct written *written = &e->written[(mixed >> 16) % WRITTEN_MAX];
    uint8_t *start = e->to;

    if (written->at == text_at && written->size == size && written->key_at == field->key_at &&
        written->key_size == field->key_size && written->out_bytes > 0) {
        e->to = put_bytes(e->to, e->out->data + written->out_at, written->out_bytes);
        return;
    }
    e->to = put_key(e->to, key_of(e, at));
    e->to = put_text(e->to, tf_batch_slice(e->batch, text_at, size), false);
    *written = (struct written){.key_at = field->key_at,
                                .key_size = field->key_size,
                                .at = text_at,
                                .size = size,
                                .out_at = (uint32_t)(start - (uint8_t *)e->out->data),
                                .out_bytes = (uint32_t)(e->to - start)};
}

/* Recursion ends with the batch's depth, TF_BATCH_DEPTH_MAX, which decoders keep. */
static uint32_t write_children(struct encoder *e, uint32_t at, uint32_t count, bool has_keys)
{
    for (uint32_t i = 0; i < count; i++) {
        if (has_keys && e->batch->fields[at].type == TF_VALUE_TEXT) {
            write_text_pair(e, at++);
            continue;
        }
        if (has_keys) {
            e->to = put_key(e->to, key_of(e, at));
        }
        at = write_value(e, at);
    }
    return at;
}

/* ---- names that stand twice ---------------------------------------------------------------------
 */

static bool is_among(struct tf_slice key, const struct tf_slice *keys, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        if (tf_slice_equal(key, keys[i])) {
            return true;
        }
    }
    return false;
}

static bool is_taffrail(struct tf_slice key)
{
    return key.size == 8 && memcmp(key.data, "taffrail", 8) == 0;
}

static const uint32_t *indexes(const struct tf_buf *buf)
{
    return (const uint32_t *)(const void *)buf->data; /* from malloc, so it is aligned */
}

static size_t index_count(const struct tf_buf *buf)
{
    return buf->size / sizeof(uint32_t);
}

static int compare_keys(const void *a, const void *b, void *ctx)
{
    uint32_t left_at = *(const uint32_t *)a, right_at = *(const uint32_t *)b;
    struct tf_slice left = key_of(ctx, left_at), right = key_of(ctx, right_at);
    int order = 0;

    if (left.size != right.size) {
        return left.size < right.size ? -1 : 1;
    }
    if (left.size > 0) {
        order = memcmp(left.data, right.data, left.size);
    }
    if (order != 0) {
        return order;
    }
    return left_at < right_at ? -1 : left_at > right_at;
}

static int compare_indexes(const void *a, const void *b)
{
    uint32_t left = *(const uint32_t *)a, right = *(const uint32_t *)b;

    return left < right ? -1 : left > right;
}

/* The same as the pairwise look of find_left_out, for a record of many fields: n log n. */
static int find_left_out_sorted(struct encoder *e, uint32_t first, uint32_t end)
{
    const uint32_t *order;

    tf_buf_clear(&e->order);
    tf_buf_clear(&e->left_out);
    for (uint32_t at = first; at < end; at = behind(e, at, end)) {
        (void)tf_buf_append(&e->order, &at, sizeof at);
    }
    if (e->order.error != 0) {
        return e->order.error;
    }
    qsort_r(e->order.data, index_count(&e->order), sizeof *order, compare_keys, e);
    order = indexes(&e->order);
    for (size_t i = 0; i < index_count(&e->order); i++) {
        struct tf_slice key = key_of(e, order[i]);
        bool is_double = i > 0 && tf_slice_equal(key, key_of(e, order[i - 1]));

        if (is_double || is_among(key, e->constant_keys, e->constant_count)) {
            (void)tf_buf_append(&e->left_out, &order[i], sizeof order[i]);
        }
    }
    if (index_count(&e->left_out) > 1) {
        qsort(e->left_out.data, index_count(&e->left_out), sizeof *order, compare_indexes);
    }
    return e->left_out.error;
}

/* Lists the top fields whose key a constant or an earlier field has. 0 or -ENOMEM. */
static int find_left_out(struct encoder *e, uint32_t first, uint32_t end)
{
    struct tf_slice keys[NARROW_MAX];
    uint32_t count = 0;

    tf_buf_clear(&e->left_out);
    for (uint32_t at = first; at < end; at = behind(e, at, end)) {
        struct tf_slice key = key_of(e, at);

        if (count == NARROW_MAX) {
            return find_left_out_sorted(e, first, end);
        }
        if (is_among(key, keys, count) || is_among(key, e->constant_keys, e->constant_count)) {
            (void)tf_buf_append(&e->left_out, &at, sizeof at);
        }
        keys[count++] = key;
    }
    return e->left_out.error;
}

/* Whether the next field in order is left out; *next walks along the list. */
static bool is_left_out(const struct encoder *e, uint32_t at, size_t *next)
{
    if (*next < index_count(&e->left_out) && indexes(&e->left_out)[*next] == at) {
        (*next)++;
        return true;
    }
    return false;
}

/* ---- marks --------------------------------------------------------------------------------------
 */

static bool is_mark_of(uint8_t marks, struct tf_slice key)
{
    for (size_t i = 0; i < TF_COUNT(MARKS); i++) {
        if ((marks & MARKS[i].flag) != 0 && tf_slice_equal(key, tf_slice_text(MARKS[i].name))) {
            return true;
        }
    }
    return false;
}

/* Lists what stays of the marks under the field `taffrail` at `at`: no name twice, ours are
 * stronger. */
static void keep_marks(const struct encoder *e, uint32_t at, uint32_t end, struct survey *survey)
{
    uint32_t count = e->batch->fields[at].value.count;
    struct tf_slice keys[MARKS_MAX];
    uint32_t child = at + 1;

    for (uint32_t i = 0; i < count && survey->kept_count < MARKS_MAX; i++) {
        struct tf_slice key = key_of(e, child);

        if (!is_mark_of(survey->marks, key) && !is_among(key, keys, survey->kept_count)) {
            keys[survey->kept_count] = key;
            survey->kept[survey->kept_count++] = child;
        }
        child = behind(e, child, end);
    }
    survey->mark_count += survey->kept_count;
}

/* The ids that the record names, each followed by '\n' in the arena, as an array. */
static void write_ids(struct encoder *e, const struct tf_record *record)
{
    struct tf_slice ids = tf_batch_slice(e->batch, record->redacted_at, record->redacted_bytes);
    uint32_t count = 0;

    for (size_t i = 0; i < ids.size; i++) {
        count += ids.data[i] == '\n' ? 1 : 0;
    }
    assert(count <= TF_RECORD_IDS_MAX);
    e->to = put_head(e->to, ARRAY_HEAD, count);
    for (size_t at = 0; at < ids.size;) {
        const char *end = memchr(ids.data + at, '\n', ids.size - at);
        size_t size;

        assert(end != NULL);
        size = (size_t)(end - (ids.data + at));
        e->to = put_text(e->to, tf_slice(ids.data + at, size), false);
        at += size + 1;
    }
}

static void write_mark(struct encoder *e, const struct tf_record *record, uint8_t flag)
{
    const char *reason = record->withheld_reason;

    if (flag == TF_RECORD_TRUNCATED) {
        e->to = put_uint(e->to, record->true_bytes);
    } else if (flag == TF_RECORD_WITHHELD) {
        reason = reason != NULL ? reason : "unknown";
        e->to = put_text(e->to, tf_slice(reason, strnlen(reason, REASON_BYTES_MAX)), false);
    } else if (flag == TF_RECORD_REDACTED) {
        write_ids(e, record);
    } else {
        *e->to++ = 0xc3; /* true */
    }
}

static void write_marks(struct encoder *e, const struct tf_record *record,
                        const struct survey *survey)
{
    e->to = put_str(e->to, "taffrail");
    e->to = put_head(e->to, MAP_HEAD, survey->mark_count);
    for (size_t i = 0; i < TF_COUNT(MARKS); i++) {
        if ((survey->marks & MARKS[i].flag) != 0) {
            e->to = put_str(e->to, MARKS[i].name);
            write_mark(e, record, MARKS[i].flag);
        }
    }
    for (uint32_t i = 0; i < survey->kept_count; i++) {
        (void)write_children(e, survey->kept[i], 1, true);
    }
}

/* ---- records ------------------------------------------------------------------------------------
 */

/* No more bytes than this are written for the fields from first to end. */
static size_t fields_bytes_max(const struct encoder *e, uint32_t first, uint32_t end)
{
    size_t bytes = 0;

    for (uint32_t at = first; at < end; at++) {
        const struct tf_field *field = &e->batch->fields[at];
        bool is_text = field->type == TF_VALUE_TEXT || field->type == TF_VALUE_BYTES;

        bytes += HEAD_BYTES_MAX + field->key_size + NUMBER_BYTES_MAX;
        bytes += is_text ? field->value.text.size : 0;
    }
    return bytes;
}

/* Fills in all but the marks; *marks_at is the field `taffrail`, or end when there is none. */
static int survey_fields(struct encoder *e, uint32_t first, uint32_t end, struct survey *survey,
                         uint32_t *marks_at)
{
    size_t next = 0;
    int rc = find_left_out(e, first, end);

    *marks_at = end;
    survey->pairs = 0;
    survey->left_out = 0;
    for (uint32_t at = first; rc == 0 && at < end; at = behind(e, at, end)) {
        bool is_marks = is_taffrail(key_of(e, at));

        if (is_left_out(e, at, &next) || (is_marks && e->batch->fields[at].type != TF_VALUE_MAP)) {
            survey->left_out++;
        } else if (is_marks) {
            *marks_at = at;
        } else {
            survey->pairs++;
        }
    }
    survey->bytes_max = fields_bytes_max(e, first, end);
    return rc;
}

static int survey_record(struct encoder *e, const struct tf_record *record, struct survey *survey)
{
    uint32_t end = record->first_field + record->field_count;
    uint32_t marks_at;
    int rc = survey_fields(e, record->first_field, end, survey, &marks_at);

    survey->marks = record->flags & (TF_RECORD_MALFORMED | TF_RECORD_TRUNCATED |
                                     TF_RECORD_UNFINISHED | TF_RECORD_WITHHELD);
    if (survey->left_out > 0) {
        survey->marks |= TF_RECORD_MALFORMED;
    }
    if (record->redacted_bytes > 0) {
        survey->marks |= TF_RECORD_REDACTED;
    }
    survey->kept_count = 0;
    survey->mark_count = (uint32_t)__builtin_popcount(survey->marks);
    if (rc == 0 && marks_at < end) {
        keep_marks(e, marks_at, end, survey);
    }
    return rc;
}

/* The fields that are not left out. */
static void write_fields(struct encoder *e, uint32_t first, uint32_t end)
{
    size_t next = 0;

    for (uint32_t at = first; at < end;) {
        if (is_left_out(e, at, &next) || is_taffrail(key_of(e, at))) {
            at = behind(e, at, end);
        } else {
            at = write_children(e, at, 1, true);
        }
    }
}

static int write_event(struct encoder *e, const struct tf_constants *constants,
                       const struct tf_record *record, int64_t time_ns, struct tf_buf *out)
{
    struct survey survey;
    uint32_t pairs = e->constant_count;
    uint8_t *start;
    int rc = survey_record(e, record, &survey);

    if (rc == 0) {
        survey.bytes_max += EVENT_HEAD_BYTES + MARKS_BYTES_MAX;
        survey.bytes_max +=
            record->redacted_bytes + TF_RECORD_IDS_MAX * HEAD_BYTES_MAX; /* their array */
        survey.bytes_max += constants != NULL ? constants->bytes : 0;
        rc = tf_buf_reserve(out, survey.bytes_max);
    }
    if (rc < 0) {
        return rc;
    }
    start = (uint8_t *)out->data + out->size;
    e->to = start;
    *e->to++ = 0x92;
    e->to = put_event_time(e->to, time_ns);
    pairs += survey.pairs + (survey.mark_count > 0 ? 1 : 0);
    e->to = put_head(e->to, MAP_HEAD, pairs);
    if (constants != NULL) {
        e->to = put_bytes(e->to, constants->pairs, constants->bytes);
    }
    if (survey.mark_count > 0) {
        write_marks(e, record, &survey);
    }
    write_fields(e, record->first_field, record->first_field + record->field_count);
    assert((size_t)(e->to - start) <= survey.bytes_max);
    out->size += (size_t)(e->to - start);
    return 0;
}

const char *const tf_withheld_reasons[TF_WITHHELD_REASONS] = {"budget", "match-limit", "memory",
                                                              "unknown"};

static void count_withheld(struct tf_events_summary *summary, const char *reason)
{
    unsigned i = 0;

    while (i + 1 < TF_WITHHELD_REASONS &&
           (reason == NULL || strcmp(reason, tf_withheld_reasons[i]) != 0)) {
        i++;
    }
    summary->withheld++;
    summary->withheld_by[i]++;
}

static void count_event(struct tf_events_summary *summary, const struct tf_record *record,
                        int64_t time_ns)
{
    if (summary->events == 0 || time_ns < summary->time_min_ns) {
        summary->time_min_ns = time_ns;
    }
    if (summary->events == 0 || time_ns > summary->time_max_ns) {
        summary->time_max_ns = time_ns;
    }
    summary->events++;
    summary->redacted += (record->flags & TF_RECORD_REDACTED) != 0 ? 1 : 0;
    if ((record->flags & TF_RECORD_WITHHELD) != 0) {
        count_withheld(summary, record->withheld_reason);
    }
    summary->malformed += (record->flags & TF_RECORD_MALFORMED) != 0 ? 1 : 0;
    summary->truncated += (record->flags & TF_RECORD_TRUNCATED) != 0 ? 1 : 0;
}

/* Reads the keys out of what tf_constants_encode wrote. */
static void find_constant_keys(struct encoder *e, const struct tf_constants *constants)
{
    struct tf_slice rest = tf_slice(constants->pairs, constants->bytes);

    assert(constants->count <= CONSTANTS_MAX);
    for (uint32_t i = 0; i < constants->count * 2; i++) {
        struct tf_msgpack_scan scan = {0};
        int64_t size = tf_msgpack_size(rest, &scan);
        uint8_t lead;
        size_t head;

        assert(size > 0 && (size_t)size <= rest.size);
        lead = (uint8_t)rest.data[0];
        if (i % 2 == 0) {
            head = lead < 0xc0 ? 1 : lead == 0xd9 ? 2 : lead == 0xda ? 3 : 5;
            e->constant_keys[e->constant_count++] = tf_slice(rest.data + head, (size_t)size - head);
        }
        rest = tf_slice(rest.data + size, rest.size - (size_t)size);
    }
}

static void begin(struct encoder *e, const struct tf_batch *batch, const struct tf_buf *out)
{
    *e = (struct encoder){.batch = batch, .out = out};
    tf_buf_init(&e->order, TF_BATCH_FIELDS_MAX * sizeof(uint32_t));
    tf_buf_init(&e->left_out, TF_BATCH_FIELDS_MAX * sizeof(uint32_t));
}

static void finish(struct encoder *e)
{
    tf_buf_fini(&e->order);
    tf_buf_fini(&e->left_out);
}

int tf_events_encode(const struct tf_batch *batch, const struct tf_constants *constants,
                     struct tf_buf *out, struct tf_events_summary *summary)
{
    struct tf_events_summary written = {0};
    size_t size_before = out->size;
    struct encoder e;
    int rc = 0;

    if (out->error != 0) {
        return out->error;
    }
    begin(&e, batch, out);
    if (constants != NULL) {
        find_constant_keys(&e, constants);
    }
    for (uint32_t i = 0; i < batch->record_count && rc == 0; i++) {
        const struct tf_record *record = &batch->records[i];
        int64_t time_ns = clamp_time(record->time_ns);

        if ((record->flags & TF_RECORD_DROPPED) != 0) {
            written.dropped += (record->flags & TF_RECORD_JOINED) == 0;
            continue;
        }
        rc = write_event(&e, constants, record, time_ns, out);
        count_event(&written, record, time_ns);
    }
    finish(&e);
    if (rc < 0) {
        out->size = size_before;
        out->error = 0;
        return rc;
    }
    *summary = written;
    return 0;
}

static int keep_constants(const struct tf_buf *pairs, uint32_t count, struct tf_constants *out)
{
    char *copy = pairs->size > 0 ? malloc(pairs->size) : NULL;

    if (pairs->size > 0 && copy == NULL) {
        return -ENOMEM;
    }
    if (copy != NULL) {
        memcpy(copy, pairs->data, pairs->size);
    }
    *out = (struct tf_constants){.pairs = copy, .bytes = (uint32_t)pairs->size, .count = count};
    return 0;
}

int tf_constants_encode(const struct tf_batch *batch, struct tf_constants *out)
{
    struct survey survey = {.pairs = 0};
    struct tf_buf pairs;
    struct encoder e;
    const struct tf_record *record = batch->records;
    uint32_t marks_at;
    int rc = 0;

    tf_buf_init(&pairs, CONSTANTS_BYTES_MAX);
    begin(&e, batch, &pairs);
    if (batch->record_count > 0 && (record->flags & TF_RECORD_DROPPED) == 0) {
        uint32_t end = record->first_field + record->field_count;

        rc = survey_fields(&e, record->first_field, end, &survey, &marks_at);
        if (rc == 0) {
            rc =
                survey.pairs > CONSTANTS_MAX ? -EMSGSIZE : tf_buf_reserve(&pairs, survey.bytes_max);
        }
        if (rc == 0) {
            e.to = (uint8_t *)pairs.data;
            write_fields(&e, record->first_field, end);
            pairs.size = (size_t)(e.to - (uint8_t *)pairs.data);
        }
    }
    finish(&e);
    if (rc == 0) {
        rc = keep_constants(&pairs, survey.pairs, out);
    }
    tf_buf_fini(&pairs);
    return rc;
}

void tf_constants_fini(struct tf_constants *constants)
{
    free(constants->pairs);
    *constants = (struct tf_constants){.count = 0};
}
