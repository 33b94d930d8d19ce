/*
 * batch.c - the columns of batch.h: growing arrays, bounded, kept and used again.
 *
 * The arena begins with '\n' and the few strings that most records need, so that decoders refer to
 * them without copying. What a batch held is wiped when it is emptied: its text may hold secrets
 * that redaction has just taken out of the records.
 */
#include "taffrail/batch.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#define KEEP_TEXT_BYTES (1u << 20)
#define FIRST_RECORDS   256u
#define FIRST_FIELDS    1024u

static const struct tf_batch_words WORDS = {
    "severity\n", "unit\n",           "identifier\n", "pid\n",   "boot_id\n",    "host\n",
    "journald\n", "container_name\n", "emergency\n",  "alert\n", "critical\n",   "error\n",
    "warning\n",  "notice\n",         "info\n",       "debug\n", "[WITHHELD]\n",
};

/* Doubles an array up to max items; returns it, or NULL when there is no memory or it is full. */
static void *grow(void *items, uint32_t *capacity, uint32_t first, uint32_t max, size_t item_bytes)
{
    uint32_t wanted = *capacity == 0 ? first : *capacity * 2;
    void *grown;

    if (*capacity >= max) {
        return NULL;
    }
    wanted = wanted > max ? max : wanted;
    grown = realloc(items, wanted * item_bytes);
    if (grown != NULL) {
        *capacity = wanted;
    }
    return grown;
}

static int add_prelude(struct tf_batch *batch)
{
    int rc = tf_buf_append_byte(&batch->text, '\n');

    if (rc == 0) {
        rc = tf_batch_add_text(batch, "log", 3, &batch->key_log);
    }
    if (rc == 0) {
        rc = tf_batch_add_text(batch, "stream", 6, &batch->key_stream);
    }
    if (rc == 0) {
        rc = tf_batch_add_text(batch, "stdout", 6, &batch->text_stdout);
    }
    if (rc == 0) {
        batch->words = (uint32_t)batch->text.size;
        rc = tf_buf_append(&batch->text, &WORDS, sizeof WORDS);
    }
    if (rc == 0) { /* the last one: filters know the strings before its end */
        rc = tf_batch_add_text(batch, "stderr", 6, &batch->text_stderr);
    }
    return rc;
}

int tf_batch_init(struct tf_batch *batch)
{
    *batch = (struct tf_batch){0};
    tf_buf_init(&batch->text, TF_BATCH_TEXT_MAX);
    return add_prelude(batch);
}

void tf_batch_fini(struct tf_batch *batch)
{
    if (batch->text.data != NULL) {
        explicit_bzero(batch->text.data, batch->text.size);
    }
    tf_buf_fini(&batch->text);
    free(batch->records);
    free(batch->fields);
    *batch = (struct tf_batch){0};
}

int tf_batch_reset(struct tf_batch *batch)
{
    if (batch->text.data != NULL) {
        explicit_bzero(batch->text.data, batch->text.size);
    }
    if (batch->text.capacity > KEEP_TEXT_BYTES) {
        tf_buf_fini(&batch->text);
    }
    tf_buf_clear(&batch->text);
    batch->record_count = 0;
    batch->field_count = 0;
    batch->tally_count = 0;
    batch->joined = 0;
    batch->malformed = 0;
    batch->truncated = 0;
    batch->shared_bytes = 0;
    batch->read_bytes = 0;
    batch->may_hold = false;
    batch->is_last = false;
    batch->tag = NULL;
    return add_prelude(batch);
}

struct tf_record *tf_batch_add_record(struct tf_batch *batch, int64_t time_ns,
                                      enum tf_stream stream)
{
    struct tf_record *record;

    if (batch->record_count == batch->record_capacity) {
        void *grown = grow(batch->records, &batch->record_capacity, FIRST_RECORDS,
                           TF_BATCH_RECORDS_MAX, sizeof *batch->records);

        if (grown == NULL) {
            return NULL;
        }
        batch->records = grown;
    }
    record = &batch->records[batch->record_count++];
    *record = (struct tf_record){
        .time_ns = time_ns, .first_field = batch->field_count, .stream = (uint8_t)stream};
    return record;
}

void tf_batch_undo_record(struct tf_batch *batch)
{
    assert(batch->record_count > 0);
    batch->record_count--;
    batch->field_count = batch->records[batch->record_count].first_field;
}

int tf_batch_add_text(struct tf_batch *batch, const void *data, size_t size, uint32_t *at)
{
    int rc;

    if (size >= TF_BATCH_TEXT_MAX) {
        return -EMSGSIZE;
    }
    rc = tf_buf_reserve(&batch->text, size + 1);
    if (rc < 0) {
        batch->text.error = 0; /* the batch stays sound: the caller undoes its record */
        return rc;
    }
    *at = (uint32_t)batch->text.size;
    (void)tf_buf_append(&batch->text, data, size);
    return tf_buf_append_byte(&batch->text, '\n');
}

/* Room for one field more, or NULL. */
static struct tf_field *next_field(struct tf_batch *batch)
{
    if (batch->field_count == batch->field_capacity) {
        void *grown = grow(batch->fields, &batch->field_capacity, FIRST_FIELDS, TF_BATCH_FIELDS_MAX,
                           sizeof *batch->fields);

        if (grown == NULL) {
            return NULL;
        }
        batch->fields = grown;
    }
    return &batch->fields[batch->field_count++];
}

struct tf_field *tf_batch_append_field(struct tf_batch *batch, const struct tf_field *field)
{
    struct tf_field *added = next_field(batch);

    if (added != NULL) {
        *added = *field;
    }
    return added;
}

struct tf_field *tf_batch_add_field(struct tf_batch *batch, uint32_t key_at, uint32_t key_size,
                                    enum tf_value_type type)
{
    struct tf_field *field = next_field(batch);

    assert(batch->record_count > 0);
    if (field != NULL) { /* written in its place: a copy of a new struct waits for its bytes */
        field->key_at = key_at;
        field->key_size = key_size;
        field->type = (uint8_t)type;
        field->withheld = false;
        field->value.u = 0;
        batch->records[batch->record_count - 1].field_count++;
    }
    return field;
}

/* Key in the arena and an empty field under it; NULL: *rc says why. */
static struct tf_field *add_named(struct tf_batch *batch, const char *key, enum tf_value_type type,
                                  int *rc)
{
    size_t size = strlen(key);
    struct tf_field *field;
    uint32_t at = 0;

    *rc = tf_batch_add_text(batch, key, size, &at);
    if (*rc < 0) {
        return NULL;
    }
    field = tf_batch_add_field(batch, at, (uint32_t)size, type);
    *rc = field != NULL ? 0 : -EMSGSIZE;
    return field;
}

int tf_batch_add_text_field(struct tf_batch *batch, const char *key, struct tf_slice value)
{
    uint32_t at = 0;
    int rc;
    struct tf_field *field = add_named(batch, key, TF_VALUE_TEXT, &rc);

    if (field == NULL) {
        return rc;
    }
    rc = tf_batch_add_text(batch, value.data, value.size, &at);
    if (rc < 0) {
        batch->field_count--;
        batch->records[batch->record_count - 1].field_count--;
        return rc;
    }
    field->value.text.at = at;
    field->value.text.size = (uint32_t)value.size;
    return 0;
}

int tf_batch_add_int_field(struct tf_batch *batch, const char *key, int64_t value)
{
    int rc;
    struct tf_field *field = add_named(batch, key, TF_VALUE_INT, &rc);

    if (field != NULL) {
        field->value.i = value;
    }
    return rc;
}

int tf_batch_add_map_field(struct tf_batch *batch, const char *key, uint32_t count)
{
    int rc;
    struct tf_field *field = add_named(batch, key, TF_VALUE_MAP, &rc);

    if (field != NULL) {
        field->value.count = count;
    }
    return rc;
}

static void close_cut(struct tf_batch *batch, struct tf_record *record)
{
    const struct tf_cut *cut = &record->cut;
    struct tf_field *field = &batch->fields[cut->field];
    uint32_t at = field->value.text.at, shown = cut->from + (cut->mark_end - cut->mark_at);
    uint32_t size = shown + (field->value.text.size - cut->to);
    char *text;

    if (tf_buf_reserve(&batch->text, (size_t)size + 1) < 0) {
        field->value.text.size = cut->from;
    } else {
        text = batch->text.data + batch->text.size;
        memcpy(text, batch->text.data + at, cut->from);
        memcpy(text + cut->from, batch->text.data + at + cut->mark_at, shown - cut->from);
        memcpy(text + shown, batch->text.data + at + cut->to, size - shown);
        text[size] = '\n';
        field->value.text.at = (uint32_t)batch->text.size;
        field->value.text.size = size;
        batch->text.size += (size_t)size + 1;
    }
    record->cut = (struct tf_cut){0};
}

void tf_batch_close_cuts(struct tf_batch *batch)
{
    for (uint32_t i = 0; batch->truncated > 0 && i < batch->record_count; i++) {
        if (batch->records[i].cut.to > 0) {
            close_cut(batch, &batch->records[i]);
        }
    }
}

void tf_batch_tally(struct tf_batch *batch, uint16_t filter, uint16_t rule, uint32_t hits)
{
    for (uint32_t i = 0; i < batch->tally_count; i++) {
        if (batch->tallies[i].filter == filter && batch->tallies[i].rule == rule) {
            batch->tallies[i].hits += hits;
            return;
        }
    }
    if (batch->tally_count == TF_BATCH_TALLIES_MAX) { /* the last place is for all others */
        batch->tallies[TF_BATCH_TALLIES_MAX - 1].hits += hits;
        return;
    }
    if (batch->tally_count == TF_BATCH_TALLIES_MAX - 1) {
        rule = TF_RULE_OTHERS;
    }
    batch->tallies[batch->tally_count++] =
        (struct tf_tally){.filter = filter, .rule = rule, .hits = hits};
}
