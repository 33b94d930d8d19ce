/*
 * filter.c - the filter parse_json: records whose text is a JSON object get its keys as fields.
 *
 * Of each record the fields at the top are looked at. When `log` is a text that begins with '{',
 * and nothing stands against it (docs/parse-json.md), it is read (body.c), and the record gets new
 * fields, at the end of the batch's:
 *
 *     what it had         in its order; `log` is the body's message, or is left out
 *     severity            when the body has a level that is known, and the record has none
 *     into                a map of what is left of the body, when there is something left
 *
 * A message, level or time is a single field without children, so taking it out of the body is
 * leaving it out of the copy. The strings that the filter itself writes stand in the arena once a
 * batch. What is not parsed leaves a record as it was, and the arena too: what was written there is
 * wiped. So apply cannot fail; where there is no memory, records stay text.
 */
#include "parse_json.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "taffrail/filter.h"

#define INTO_MAX_BYTES  63u
#define ARENA_MAX_BYTES (TF_BATCH_TEXT_MAX / 4 * 3) /* the rest is for what redaction writes */
#define WORDS_MAX_BYTES 256u
#define SKIPPED_FLAGS   (TF_RECORD_DROPPED | TF_RECORD_TRUNCATED | TF_RECORD_MALFORMED)

/* A string that the filter writes: its place in `words`. */
struct word {
    uint32_t at, size;
};

/* Immutable after open. */
struct parse_json {
    const char *into; /* the configuration's */
    uint32_t depth_max, keys_max;
    char words[WORDS_MAX_BYTES]; /* each followed by '\n' */
    uint32_t words_bytes;
    struct word into_word, severity_word, level_words[TF_PARSE_JSON_LEVELS];
};

/* One call of apply. */
struct work {
    const struct parse_json *filter;
    struct tf_parse_json_body *body; /* scratch */
    struct tf_batch *batch;
    uint32_t words_at; /* where the words stand in the arena; 0: not yet */
};

/* What there is to parse of a record. */
struct target {
    uint32_t log; /* number of the field */
    struct tf_slice text;
    bool has_severity;
};

static const struct tf_option options[] = {
    {.name = "into",
     .type = TF_OPTION_TEXT,
     .offset = offsetof(struct tf_parse_json_options, into),
     .def = "fields",
     .about = "the field that holds the keys of a body"},
    {.name = "max_depth",
     .type = TF_OPTION_COUNT,
     .offset = offsetof(struct tf_parse_json_options, max_depth),
     .def = "16",
     .min = TF_PARSE_JSON_DEPTH_OWN + 1,
     .max = TF_BATCH_DEPTH_MAX,
     .about = "what nests deeper stays text; the record has two levels of its own"},
    {.name = "max_keys",
     .type = TF_OPTION_COUNT,
     .offset = offsetof(struct tf_parse_json_options, max_keys),
     .def = "256",
     .min = 1,
     .max = TF_PARSE_JSON_FIELDS_MAX,
     .about = "what has more keys, over all levels, stays text"},
    {0},
};

/* ---- what may be parsed -------------------------------------------------------------------------
 */

static struct tf_slice key_of(const struct tf_batch *batch, const struct tf_field *field)
{
    return tf_batch_slice(batch, field->key_at, field->key_size);
}

static bool is_key(struct tf_slice key, const char *name)
{
    return tf_slice_equal(key, tf_slice_text(name));
}

/* The field behind the one at `at` and all that it holds. */
static uint32_t behind(const struct tf_batch *batch, uint32_t at)
{
    uint64_t left = 1;

    while (left > 0) {
        const struct tf_field *field = &batch->fields[at++];

        left +=
            field->type == TF_VALUE_MAP || field->type == TF_VALUE_ARRAY ? field->value.count : 0;
        left--;
    }
    return at;
}

/* Whether a sender's marks, the map at `at`, say that the text is not what it was. */
static bool marks_spoil(const struct tf_batch *batch, uint32_t at)
{
    uint32_t end = behind(batch, at);
    bool spoil = false;

    if (batch->fields[at].type != TF_VALUE_MAP) {
        return false;
    }
    for (at++; at < end; at = behind(batch, at)) {
        struct tf_slice key = key_of(batch, &batch->fields[at]);

        spoil |= is_key(key, "truncated") || is_key(key, "malformed");
    }
    return spoil;
}

static bool may_be_object(struct tf_slice text)
{
    struct tf_json in = tf_json(text);

    return tf_json_take(&in, '{');
}

static bool find_target(const struct work *work, const struct tf_record *record,
                        struct target *target)
{
    const struct tf_batch *batch = work->batch;
    uint32_t end = record->first_field + record->field_count;

    *target = (struct target){.log = end};
    for (uint32_t at = record->first_field; at < end; at = behind(batch, at)) {
        const struct tf_field *field = &batch->fields[at];
        struct tf_slice key = key_of(batch, field);

        if (is_key(key, "log") && field->type == TF_VALUE_TEXT && target->log == end) {
            target->log = at;
            target->text = tf_batch_slice(batch, field->value.text.at, field->value.text.size);
            if (!may_be_object(target->text)) {
                return false;
            }
        } else if (is_key(key, work->filter->into) ||
                   (is_key(key, "taffrail") && marks_spoil(batch, at))) {
            return false;
        }
        target->has_severity |= is_key(key, "severity");
    }
    return target->log < end && target->text.size <= TF_PARSE_JSON_BODY_MAX;
}

/* ---- the new fields -----------------------------------------------------------------------------
 */

static bool append(struct work *work, struct tf_field field)
{
    return tf_batch_append_field(work->batch, &field) != NULL;
}

static struct tf_field word_field(const struct work *work, const struct word *word,
                                  enum tf_value_type type)
{
    return (struct tf_field){
        .key_at = work->words_at + word->at, .key_size = word->size, .type = (uint8_t)type};
}

/* The fields that the record had, from `at` up to `end`. */
static bool copy_fields(struct work *work, uint32_t at, uint32_t end)
{
    bool ok = true;

    for (; at < end && ok; at++) {
        ok = append(work, work->batch->fields[at]);
    }
    return ok;
}

static bool add_message(struct work *work, const struct target *target)
{
    uint32_t message = work->body->known.of[TF_PARSE_JSON_MESSAGE].field;
    struct tf_field field = work->batch->fields[target->log];

    field.value.text = work->body->fields[message].value.text;
    return message == 0 || append(work, field);
}

static bool add_severity(struct work *work)
{
    const struct tf_parse_json_known *known = &work->body->known;
    const struct word *level = &work->filter->level_words[known->level];
    struct tf_field field = word_field(work, &work->filter->severity_word, TF_VALUE_TEXT);

    field.value.text.at = work->words_at + level->at;
    field.value.text.size = level->size;
    return known->of[TF_PARSE_JSON_LEVEL].field == 0 || append(work, field);
}

static bool is_taken(const struct tf_parse_json_known *known, uint32_t field)
{
    return field == known->of[TF_PARSE_JSON_MESSAGE].field ||
           field == known->of[TF_PARSE_JSON_LEVEL].field ||
           field == known->of[TF_PARSE_JSON_TIME].field;
}

/* What is left of the body. */
static bool add_into(struct work *work)
{
    const struct tf_parse_json_body *body = work->body;
    struct tf_field map = word_field(work, &work->filter->into_word, TF_VALUE_MAP);
    bool ok = true;

    map.value.count = body->fields[0].value.count;
    for (size_t i = 0; i < TF_PARSE_JSON_ROLES; i++) {
        map.value.count -= body->known.of[i].field != 0 ? 1 : 0;
    }
    if (map.value.count == 0) {
        return true;
    }
    ok = append(work, map);
    for (uint32_t i = 1; i < body->field_count && ok; i++) {
        ok = is_taken(&body->known, i) || append(work, body->fields[i]);
    }
    return ok;
}

/* Gives the record its new fields; where they do not fit, it stays as it was. */
static bool rebuild(struct work *work, struct tf_record *record, const struct target *target)
{
    struct tf_batch *batch = work->batch;
    struct tf_parse_json_known *known = &work->body->known;
    uint32_t first = batch->field_count, end = record->first_field + record->field_count;

    if (target->has_severity) {
        known->of[TF_PARSE_JSON_LEVEL].field = 0;
    }
    if (!copy_fields(work, record->first_field, target->log) || !add_message(work, target) ||
        !copy_fields(work, target->log + 1, end) || !add_severity(work) || !add_into(work)) {
        batch->field_count = first;
        return false;
    }
    record->first_field = first;
    record->field_count = batch->field_count - first;
    if (known->of[TF_PARSE_JSON_TIME].field != 0) {
        record->time_ns = known->time_ns;
    }
    return true;
}

/* ---- the batch ----------------------------------------------------------------------------------
 */

/* Makes room for a body, and for the words before the first one. */
static bool make_room(struct work *work, size_t body_bytes)
{
    struct tf_buf *arena = &work->batch->text;
    size_t wanted = body_bytes + (work->words_at == 0 ? work->filter->words_bytes : 0);

    if (arena->size + wanted > ARENA_MAX_BYTES) {
        return false;
    }
    if (tf_buf_reserve(arena, wanted) < 0) {
        arena->error = 0; /* the batch stays sound */
        return false;
    }
    if (work->words_at == 0) {
        work->words_at = (uint32_t)arena->size;
        (void)tf_buf_append(arena, work->filter->words, work->filter->words_bytes);
    }
    return true;
}

static void parse_record(struct work *work, struct tf_record *record)
{
    struct tf_buf *arena = &work->batch->text;
    struct tf_parse_json_limits limits = {.depth = work->filter->depth_max,
                                          .keys = work->filter->keys_max};
    struct target target;
    int64_t written;

    if (record->field_count >= TF_PARSE_JSON_FIELDS_MAX || !find_target(work, record, &target) ||
        !make_room(work, target.text.size)) {
        return;
    }
    limits.fields = TF_PARSE_JSON_FIELDS_MAX - record->field_count;
    target.text = tf_batch_slice(work->batch, work->batch->fields[target.log].value.text.at,
                                 target.text.size); /* the arena may have moved */
    written = tf_parse_json_read(target.text, &limits, arena, work->body);
    if (written < 0 || !rebuild(work, record, &target)) {
        explicit_bzero(arena->data + arena->size, target.text.size);
        return;
    }
    arena->size += (size_t)written;
}

static int parse_json_apply(void *self, void *scratch, void *state, struct tf_batch *batch)
{
    struct work work = {.filter = self, .body = scratch, .batch = batch};

    (void)state;
    for (uint32_t i = 0; i < batch->record_count; i++) {
        if ((batch->records[i].flags & SKIPPED_FLAGS) == 0) {
            parse_record(&work, &batch->records[i]);
        }
    }
    return 0;
}

/* ---- the filter ---------------------------------------------------------------------------------
 */

/* Names that the agent gives, or that change what a record is. */
static bool is_own_name(const char *name)
{
    static const char *const own[] = {
        "time", "tag",     "host",     "labels", "kubernetes", "container_id", "identity",
        "via",  "claimed", "taffrail", "stream", "log",        "severity",     "event"};

    for (size_t i = 0; i < TF_COUNT(own); i++) {
        if (strcmp(own[i], name) == 0) {
            return true;
        }
    }
    return false;
}

static int check_into(const struct tf_text *into, struct tf_error *err)
{
    static const char allowed[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-";
    size_t size = strlen(into->text);

    if (size == 0 || size > INTO_MAX_BYTES || strspn(into->text, allowed) != size) {
        return tf_error_add(err, &into->at,
                            "into \"%.64s\" is no name of a field; write 1 to %u of A-Z, a-z, 0-9, "
                            "_ and -",
                            into->text, INTO_MAX_BYTES);
    }
    if (is_own_name(into->text)) {
        return tf_error_add(err, &into->at,
                            "into \"%s\" is a name that the agent itself gives; take another, "
                            "such as fields",
                            into->text);
    }
    return 0;
}

static void add_word(struct parse_json *filter, const char *text, struct word *word)
{
    int size = snprintf(filter->words + filter->words_bytes,
                        sizeof filter->words - filter->words_bytes, "%s\n", text);

    word->at = filter->words_bytes;
    word->size = (uint32_t)size - 1;
    filter->words_bytes += (uint32_t)size;
    assert(filter->words_bytes < sizeof filter->words);
}

static int parse_json_open(const struct tf_filter_args *args, void **self, struct tf_error *err)
{
    const struct tf_parse_json_options *chosen = args->options;
    struct parse_json *filter;
    int rc = check_into(&chosen->into, err);

    if (rc < 0) {
        return rc;
    }
    filter = calloc(1, sizeof *filter);
    if (filter == NULL) {
        return -ENOMEM;
    }
    filter->into = chosen->into.text;
    filter->depth_max = (uint32_t)chosen->max_depth - TF_PARSE_JSON_DEPTH_OWN;
    filter->keys_max = (uint32_t)chosen->max_keys;
    add_word(filter, filter->into, &filter->into_word);
    add_word(filter, "severity", &filter->severity_word);
    for (size_t i = 0; i < TF_PARSE_JSON_LEVELS; i++) {
        add_word(filter, tf_parse_json_levels[i], &filter->level_words[i]);
    }
    *self = filter;
    return 0;
}

static void *scratch_new(void *self)
{
    (void)self;
    return calloc(1, sizeof(struct tf_parse_json_body));
}

const struct tf_filter_kind tf_filter_parse_json = {
    .name = "parse_json",
    .options = options,
    .options_bytes = sizeof(struct tf_parse_json_options),
    .open = parse_json_open,
    .close = free,
    .scratch_new = scratch_new,
    .scratch_free = free,
    .apply = parse_json_apply,
};
