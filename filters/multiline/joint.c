/*
 * joint.c - lines become a record, within a batch or over many.
 *
 * While its lines stand in the batch nothing is copied but their text, and of a single line not
 * even that: it stays the record that it is. Each line but the newest is marked as joined, which
 * takes it out of the batch; when the record ends, the newest line's record becomes it. So it
 * stands where its last line stood, and the order of the stream is kept.
 *
 *     tf_joint_start   first, last = the line
 *     tf_joint_add     text grows, the line before is marked, last = the line
 *     tf_joint_hold    text and the first line's fields are saved, the newest line is marked too;
 *                      first, last = TF_JOINT_GONE
 *     tf_joint_end     records[last], or a new place, takes the first line's time and fields and
 *                      the whole text
 *
 * Bounds: the text by max_bytes; saved fields by TF_JOINT_FIELDS_MAX and TF_JOINT_FIELDS_BYTES. A
 * stream that holds nothing at the end of a batch has no buffers either.
 */
#include "joint.h"

#include <assert.h>
#include <errno.h>

/* The fields of a record, wherever they are. */
struct fields {
    const struct tf_field *items;
    uint32_t count, text; /* text: number of the one that holds the text */
    const char *bytes;    /* offsets count from here */
};

void tf_joint_init(struct tf_joint *joint, size_t max_bytes)
{
    *joint = (struct tf_joint){.lines = 0};
    tf_buf_init(&joint->text, max_bytes);
    tf_buf_init(&joint->fields, TF_JOINT_FIELDS_MAX * sizeof(struct tf_field));
    tf_buf_init(&joint->bytes, TF_JOINT_FIELDS_BYTES);
}

static void wipe(struct tf_buf *buf)
{
    if (buf->data != NULL) {
        explicit_bzero(buf->data, buf->size);
    }
    tf_buf_clear(buf);
}

static void empty(struct tf_joint *joint)
{
    joint->lines = 0;
    wipe(&joint->text);
    wipe(&joint->fields);
    wipe(&joint->bytes);
}

void tf_joint_fini(struct tf_joint *joint)
{
    empty(joint);
    tf_buf_fini(&joint->text);
    tf_buf_fini(&joint->fields);
    tf_buf_fini(&joint->bytes);
}

static struct tf_slice text_of(const struct tf_batch *batch, uint32_t field)
{
    return tf_batch_slice(batch, batch->fields[field].value.text.at,
                          batch->fields[field].value.text.size);
}

/* Takes a record out of the batch, as a piece of another. */
static void mark(struct tf_batch *batch, uint32_t record)
{
    batch->records[record].flags |= TF_RECORD_DROPPED | TF_RECORD_JOINED;
}

static bool stands_alone(const struct tf_joint *joint)
{
    return joint->lines == 1 && joint->first.record != TF_JOINT_GONE;
}

void tf_joint_start(struct tf_joint *joint, const struct tf_batch *batch, struct tf_line line,
                    uint64_t deadline_ms)
{
    assert(joint->lines == 0);
    joint->lines = 1;
    joint->source_at = batch->records[line.record].source_at;
    joint->deadline_ms = deadline_ms;
    joint->first = line;
    joint->last = line.record;
}

size_t tf_joint_bytes(const struct tf_joint *joint, const struct tf_batch *batch)
{
    return stands_alone(joint) ? text_of(batch, joint->first.field).size : joint->text.size;
}

/* ---- fields -------------------------------------------------------------------------------------
 */

static struct fields fields_in(const struct tf_batch *batch, struct tf_line line)
{
    const struct tf_record *record = &batch->records[line.record];

    return (struct fields){.items = batch->fields + record->first_field,
                           .count = record->field_count,
                           .text = line.field - record->first_field,
                           .bytes = batch->text.data};
}

static struct fields saved_fields(const struct tf_joint *joint)
{
    return (struct fields){.items = (const struct tf_field *)(const void *)joint->fields.data,
                           .count = joint->record.field_count,
                           .text = joint->first.field,
                           .bytes = joint->bytes.data};
}

static bool is_text(const struct tf_field *field)
{
    return field->type == TF_VALUE_TEXT || field->type == TF_VALUE_BYTES;
}

static struct tf_slice slice_in(const struct fields *fields, uint32_t at, uint32_t size)
{
    return tf_slice(size > 0 ? fields->bytes + at : NULL, size);
}

static struct tf_slice key_in(const struct fields *fields, uint32_t number)
{
    return slice_in(fields, fields->items[number].key_at, fields->items[number].key_size);
}

static struct tf_slice text_in(const struct fields *fields, uint32_t number)
{
    return slice_in(fields, fields->items[number].value.text.at,
                    fields->items[number].value.text.size);
}

static bool values_agree(const struct fields *a, const struct fields *b, uint32_t number)
{
    const struct tf_field *left = &a->items[number], *right = &b->items[number];

    if (is_text(left)) {
        return tf_slice_equal(text_in(a, number), text_in(b, number));
    }
    switch (left->type) {
    case TF_VALUE_INT:
    case TF_VALUE_UINT:
    case TF_VALUE_DOUBLE:
        return left->value.u == right->value.u; /* the bits */
    case TF_VALUE_MAP:
    case TF_VALUE_ARRAY:
        return left->value.count == right->value.count;
    default:
        return true;
    }
}

bool tf_joint_agrees(const struct tf_joint *joint, const struct tf_batch *batch,
                     struct tf_line line)
{
    struct fields ours =
        joint->first.record != TF_JOINT_GONE ? fields_in(batch, joint->first) : saved_fields(joint);
    struct fields its = fields_in(batch, line);

    if (ours.count != its.count || ours.text != its.text) {
        return false;
    }
    for (uint32_t i = 0; i < ours.count; i++) {
        if (ours.items[i].type != its.items[i].type ||
            !tf_slice_equal(key_in(&ours, i), key_in(&its, i)) ||
            (i != ours.text && !values_agree(&ours, &its, i))) {
            return false;
        }
    }
    return true;
}

/* Keeps the first line's record and its fields beyond the batch. Returns 0, -ENOMEM or -EMSGSIZE.
 */
static int save(struct tf_joint *joint, const struct tf_batch *batch)
{
    struct fields from = fields_in(batch, joint->first);
    int rc;

    for (uint32_t i = 0; i < from.count; i++) {
        struct tf_slice key = key_in(&from, i);
        struct tf_field field = from.items[i];

        field.key_at = (uint32_t)joint->bytes.size;
        (void)tf_buf_append(&joint->bytes, key.data, key.size);
        if (is_text(&field)) {
            struct tf_slice text = i != from.text ? text_in(&from, i) : tf_slice(NULL, 0);

            field.value.text.at = (uint32_t)joint->bytes.size;
            field.value.text.size = (uint32_t)text.size;
            (void)tf_buf_append(&joint->bytes, text.data, text.size);
        }
        (void)tf_buf_append(&joint->fields, &field, sizeof field);
    }
    rc = joint->bytes.error != 0 ? joint->bytes.error : joint->fields.error;
    if (rc < 0) {
        wipe(&joint->bytes);
        wipe(&joint->fields);
        return rc;
    }
    joint->record = batch->records[joint->first.record];
    joint->record.flags = 0; /* it may be marked as joined */
    joint->first.field = from.text;
    return 0;
}

/* Puts a saved field into the batch. */
static int restore_field(struct tf_batch *batch, const struct fields *from, uint32_t number)
{
    struct tf_slice key = key_in(from, number);
    struct tf_field field = from->items[number];
    uint32_t at;
    int rc = tf_batch_add_text(batch, key.data, key.size, &at);

    field.key_at = at;
    if (rc == 0 && is_text(&field)) {
        struct tf_slice text = text_in(from, number);

        rc = tf_batch_add_text(batch, text.data, text.size, &at);
        field.value.text.at = at;
    }
    if (rc < 0) {
        return rc;
    }
    return tf_batch_append_field(batch, &field) != NULL ? 0 : -EMSGSIZE;
}

/* What the record of the whole text will be, but for the text. */
static int restore(struct tf_joint *joint, struct tf_batch *batch)
{
    struct fields from = saved_fields(joint);
    int rc = 0;

    joint->record.first_field = batch->field_count;
    for (uint32_t i = 0; i < from.count && rc == 0; i++) {
        rc = restore_field(batch, &from, i);
    }
    joint->first.field += joint->record.first_field;
    return rc;
}

/* ---- lines --------------------------------------------------------------------------------------
 */

int tf_joint_add(struct tf_joint *joint, struct tf_batch *batch, struct tf_line line)
{
    struct tf_slice text = text_of(batch, line.field);

    assert(joint->lines > 0);
    if (stands_alone(joint)) {
        struct tf_slice first = text_of(batch, joint->first.field);

        (void)tf_buf_append(&joint->text, first.data, first.size);
    }
    (void)tf_buf_append_byte(&joint->text, '\n');
    if (tf_buf_append(&joint->text, text.data, text.size) < 0) {
        assert(joint->text.error == -ENOMEM); /* it fits */
        return joint->text.error;
    }
    if (joint->last != TF_JOINT_GONE) {
        mark(batch, joint->last);
    }
    joint->last = line.record;
    joint->lines++;
    return 0;
}

/* Makes an empty place among the records. */
static int make_place(struct tf_batch *batch, uint32_t at)
{
    if (tf_batch_add_record(batch, 0, TF_STREAM_OTHER) == NULL) {
        return -EMSGSIZE;
    }
    memmove(&batch->records[at + 1], &batch->records[at],
            (batch->record_count - 1 - at) * sizeof batch->records[at]);
    return 0;
}

static int emit(struct tf_joint *joint, struct tf_batch *batch, uint32_t *at)
{
    uint32_t text_at = 0;
    int rc = tf_batch_add_text(batch, joint->text.data, joint->text.size, &text_at);

    if (joint->first.record != TF_JOINT_GONE) {
        joint->record = batch->records[joint->first.record];
        joint->record.flags = 0;
    } else if (rc == 0) {
        rc = restore(joint, batch);
    }
    if (rc == 0 && joint->last == TF_JOINT_GONE) {
        joint->last = *at;
        rc = make_place(batch, (*at)++);
    }
    if (rc == 0) {
        batch->records[joint->last] = joint->record;
        batch->fields[joint->first.field].value.text.at = text_at;
        batch->fields[joint->first.field].value.text.size = (uint32_t)joint->text.size;
    }
    return rc;
}

int tf_joint_end(struct tf_joint *joint, struct tf_batch *batch, uint32_t *at)
{
    int rc = 0;

    if (joint->lines == 0) {
        return 0;
    }
    if (!stands_alone(joint)) {
        rc = emit(joint, batch, at);
        batch->joined += joint->lines - 1;
    }
    empty(joint);
    return rc;
}

int tf_joint_hold(struct tf_joint *joint, struct tf_batch *batch)
{
    int rc = 0;

    if (joint->lines == 0) {
        tf_joint_fini(joint);
        return 0;
    }
    if (joint->last == TF_JOINT_GONE) {
        return 0;
    }
    if (joint->first.record != TF_JOINT_GONE) {
        struct tf_slice text = text_of(batch, joint->first.field);

        if (joint->lines == 1) {
            (void)tf_buf_append(&joint->text, text.data, text.size);
        }
        rc = joint->text.error != 0 ? joint->text.error : save(joint, batch);
    }
    if (rc == 0) {
        mark(batch, joint->last);
        joint->first.record = TF_JOINT_GONE;
        joint->last = TF_JOINT_GONE;
    }
    return rc;
}
