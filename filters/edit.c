/*
 * edit.c - renames, removes and adds fields of records (docs/edit.md).
 *
 * A record is edited in a draft, a copy of its fields that belongs to the worker's scratch: all of
 * `rename`, then `remove`, then `add`, each seeing what the one before has left. A draft that was
 * changed goes back to where its record's fields were when it has no more of them, else to the end
 * of the batch's fields, and the record is pointed there.
 *
 * What one change does to a draft is at most: room is made at one place, fields are put there, and
 * one field is taken out with all that it holds. Both keep three things right: the count of the map
 * around, the number of fields, and where the record's cut text is.
 *
 * New keys and values are put into the arena once for each batch; fields of many records then refer
 * to the same text, as they do to the key `log`.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "fields.h"
#include "taffrail/filter.h"

#define ENTRIES_MAX 64u /* of each of the three */

/* ---- options ------------------------------------------------------------------------------------
 */

struct edit_options {
    struct tf_pairs rename;
    struct tf_texts remove;
    struct tf_pairs add;
};

static const struct tf_option options[] = {
    {.name = "rename",
     .type = TF_OPTION_MAP,
     .offset = offsetof(struct edit_options, rename),
     .about = "field: its new name"},
    {.name = "remove",
     .type = TF_OPTION_TEXTS,
     .offset = offsetof(struct edit_options, remove),
     .about = "fields to take out"},
    {.name = "add",
     .type = TF_OPTION_MAP,
     .offset = offsetof(struct edit_options, add),
     .about = "field: its value, a text"},
    {0},
};

/* Who wrote a record, where and when; and what is the same for all records of a source. */
static const char *const envelope[] = {"time",         "tag",      "host", "labels",  "kubernetes",
                                       "container_id", "identity", "via",  "claimed", "taffrail"};

/* ---- what is opened -----------------------------------------------------------------------------
 */

/* A field that is made: the texts from first_text on are its names, and the value of one that is
 * added. */
struct target {
    struct tf_slice path;
    uint32_t first_text, name_count;
};

struct edit {
    const struct edit_options *options;
    struct target renamed[ENTRIES_MAX], added[ENTRIES_MAX];
    struct tf_slice *texts;
    uint32_t text_count;
};

/* The fields of the record that is being edited. */
struct draft {
    struct tf_field *items;
    uint32_t count, capacity;
    uint32_t cut; /* the field with the record's cut, or NONE */
    bool is_changed;
};

struct scratch {
    struct draft draft;
    uint32_t *text_at; /* offsets of the filter's texts in this batch's arena */
};

static void scratch_free(void *self)
{
    struct scratch *scratch = self;

    if (scratch != NULL) {
        free(scratch->draft.items);
        free(scratch->text_at);
        free(scratch);
    }
}

static void *scratch_new(void *self)
{
    const struct edit *edit = self;
    struct scratch *scratch = calloc(1, sizeof *scratch);

    if (scratch != NULL) {
        scratch->text_at = calloc(edit->text_count + 1u, sizeof *scratch->text_at);
        if (scratch->text_at == NULL) {
            scratch_free(scratch);
            scratch = NULL;
        }
    }
    return scratch;
}

static void edit_close(void *self)
{
    struct edit *edit = self;

    if (edit != NULL) {
        free(edit->texts);
        free(edit);
    }
}

/* Each of these goes on after what is wrong, and tells it. */

static void check_field(const char *key, const struct tf_text *field, struct tf_error *err)
{
    for (size_t i = 0; i < TF_COUNT(envelope); i++) {
        if (tf_path_is_in(tf_slice_text(field->text), tf_slice_text(envelope[i]))) {
            (void)tf_error_add(err, &field->at,
                               "%s: \"%s\" tells who wrote a record, where or when, and is not "
                               "edited; name a field outside of \"%s\"",
                               key, field->text, envelope[i]);
        }
    }
    (void)tf_path_check(key, field, err);
}

static void check_rename(const struct tf_pair *pair, struct tf_error *err)
{
    struct tf_slice from = tf_slice_text(pair->key.text), to = tf_slice_text(pair->value.text);

    check_field("rename", &pair->key, err);
    check_field("rename", &pair->value, err);
    if (tf_path_is_in(to, from) || tf_path_is_in(from, to)) {
        (void)tf_error_add(err, &pair->value.at,
                           "rename: \"%s\" and \"%s\" are the same, or one is in the other; "
                           "choose another name",
                           pair->key.text, pair->value.text);
    }
}

static void check_count(const char *key, size_t count, const struct tf_place *at,
                        struct tf_error *err)
{
    if (count > ENTRIES_MAX) {
        (void)tf_error_add(err, at,
                           "%s: %zu are too many; write %u or less, the rest in another edit", key,
                           count, ENTRIES_MAX);
    }
}

static void check_options(const struct edit_options *chosen, const struct tf_place *at,
                          struct tf_error *err)
{
    check_count("rename", chosen->rename.count, &chosen->rename.at, err);
    check_count("remove", chosen->remove.count, &chosen->remove.at, err);
    check_count("add", chosen->add.count, &chosen->add.at, err);
    if (chosen->rename.count + chosen->remove.count + chosen->add.count == 0) {
        (void)tf_error_add(err, at,
                           "edit changes nothing; write add: {team: shop}, remove or rename");
    }
    for (size_t i = 0; i < chosen->rename.count; i++) {
        check_rename(&chosen->rename.items[i], err);
    }
    for (size_t i = 0; i < chosen->remove.count; i++) {
        check_field("remove", &chosen->remove.items[i], err);
    }
    for (size_t i = 0; i < chosen->add.count; i++) {
        check_field("add", &chosen->add.items[i].key, err);
    }
}

/* Takes the names of a path into the filter's texts, for which there is room. */
static void take_target(struct edit *edit, const char *path, struct target *target)
{
    *target = (struct target){.path = tf_slice_text(path), .first_text = edit->text_count};
    for (size_t size = strcspn(path, "."); size > 0; size = strcspn(path, ".")) {
        edit->texts[edit->text_count++] = tf_slice(path, size);
        target->name_count++;
        path += size + (path[size] == '.' ? 1 : 0);
    }
}

static int take_targets(struct edit *edit)
{
    const struct edit_options *chosen = edit->options;
    size_t targets = chosen->rename.count + chosen->add.count;

    edit->texts = calloc(targets * (TF_PATH_NAMES_MAX + 1) + 1, sizeof *edit->texts);
    if (edit->texts == NULL) {
        return -ENOMEM;
    }
    for (size_t i = 0; i < chosen->rename.count; i++) {
        take_target(edit, chosen->rename.items[i].value.text, &edit->renamed[i]);
    }
    for (size_t i = 0; i < chosen->add.count; i++) {
        take_target(edit, chosen->add.items[i].key.text, &edit->added[i]);
        edit->texts[edit->text_count++] = tf_slice_text(chosen->add.items[i].value.text);
    }
    return 0;
}

static int edit_open(const struct tf_filter_args *args, void **self, struct tf_error *err)
{
    size_t errors_before = err->errors;
    struct edit *edit;
    int rc;

    check_options(args->options, &args->at, err);
    if (err->errors > errors_before) {
        return -EINVAL;
    }
    edit = calloc(1, sizeof *edit);
    if (edit == NULL) {
        return -ENOMEM;
    }
    edit->options = args->options;
    rc = take_targets(edit);
    if (rc == 0) {
        *self = edit;
        edit = NULL;
    }
    edit_close(edit);
    return rc;
}

/* ---- drafts -------------------------------------------------------------------------------------
 */

static struct tf_fields fields_of(const struct draft *draft, const struct tf_batch *batch)
{
    return (struct tf_fields){
        .arena = batch->text.data, .items = draft->items, .count = draft->count};
}

/* Makes room for so many fields. 0 or -ENOMEM. */
static int reserve(struct draft *draft, uint32_t count)
{
    struct tf_field *grown;

    if (count <= draft->capacity) {
        return 0;
    }
    count += count / 2;
    grown = realloc(draft->items, count * sizeof *grown);
    if (grown == NULL) {
        return -ENOMEM;
    }
    draft->items = grown;
    draft->capacity = count;
    return 0;
}

static int load(struct draft *draft, const struct tf_batch *batch, const struct tf_record *record)
{
    int rc = reserve(draft, record->field_count);

    if (rc < 0) {
        return rc;
    }
    if (record->field_count > 0) {
        memcpy(draft->items, batch->fields + record->first_field,
               record->field_count * sizeof *draft->items);
    }
    draft->count = record->field_count;
    draft->cut = record->cut.to > 0 ? record->cut.field - record->first_field : TF_FIELDS_NONE;
    draft->is_changed = false;
    return 0;
}

/* Gives the record the fields of the draft. 0, or -EMSGSIZE: the batch has no room for them. */
static int store(const struct draft *draft, struct tf_batch *batch, struct tf_record *record)
{
    uint32_t first = record->first_field;

    if (draft->count > record->field_count) {
        first = batch->field_count;
        for (uint32_t i = 0; i < draft->count; i++) {
            if (tf_batch_append_field(batch, &draft->items[i]) == NULL) {
                return -EMSGSIZE;
            }
        }
    } else if (draft->count > 0) {
        memcpy(batch->fields + first, draft->items, draft->count * sizeof *draft->items);
    }
    record->first_field = first;
    record->field_count = draft->count;
    if (draft->cut == TF_FIELDS_NONE) {
        record->cut = (struct tf_cut){0};
    } else {
        record->cut.field = first + draft->cut;
    }
    return 0;
}

/* Moves what is from `at` on, to make room for so many fields in that map. 0 or -ENOMEM. */
static int make_room(struct draft *draft, uint32_t at, uint32_t count, uint32_t map)
{
    int rc = reserve(draft, draft->count + count);

    if (rc < 0) {
        return rc;
    }
    memmove(draft->items + at + count, draft->items + at,
            (draft->count - at) * sizeof *draft->items);
    draft->count += count;
    draft->cut += draft->cut != TF_FIELDS_NONE && draft->cut >= at ? count : 0;
    if (map != TF_FIELDS_NONE) {
        draft->items[map].value.count++;
    }
    draft->is_changed = true;
    return 0;
}

/* Takes out a field, which has so many fields with all that it holds, of that map. */
static void take_out(struct draft *draft, uint32_t at, uint32_t count, uint32_t map)
{
    memmove(draft->items + at, draft->items + at + count,
            (draft->count - at - count) * sizeof *draft->items);
    draft->count -= count;
    if (draft->cut != TF_FIELDS_NONE && draft->cut >= at) {
        draft->cut = draft->cut >= at + count ? draft->cut - count : TF_FIELDS_NONE;
    }
    if (map != TF_FIELDS_NONE) {
        draft->items[map].value.count--;
    }
    draft->is_changed = true;
}

/* ---- one change ---------------------------------------------------------------------------------
 */

struct work {
    const struct edit *edit;
    const uint32_t *text_at;
    struct draft *draft;
    const struct tf_batch *batch;
};

/* Where a new field comes: at the end of a map, with maps around it that are not there yet. */
struct place {
    uint32_t at, map;
    uint32_t new_maps;
};

/* False: something is there, or in the way. */
static bool find_place(const struct work *work, const struct target *target, struct place *place)
{
    struct tf_fields fields = fields_of(work->draft, work->batch);
    struct tf_fields_level level = tf_fields_top(&fields);
    uint32_t depth = 0, at;

    if (tf_fields_find(&fields, target->path, NULL) != TF_FIELDS_NONE) {
        return false;
    }
    for (;;) {
        at = tf_fields_child(&fields, level, work->edit->texts[target->first_text + depth]);
        if (at == TF_FIELDS_NONE) {
            break;
        }
        if (fields.items[at].type != TF_VALUE_MAP) {
            return false;
        }
        level = tf_fields_inside(&fields, at);
        depth++;
    }
    assert(depth < target->name_count); /* the field itself is not there */
    *place = (struct place){
        .at = level.end, .map = level.map, .new_maps = target->name_count - 1 - depth};
    return true;
}

static struct tf_field named(const struct work *work, uint32_t text, enum tf_value_type type)
{
    return (struct tf_field){.key_at = work->text_at[text],
                             .key_size = (uint32_t)work->edit->texts[text].size,
                             .type = (uint8_t)type};
}

/* Puts the new maps into the room that was made; returns where the field itself goes. */
static uint32_t put_maps(const struct work *work, const struct target *target,
                         const struct place *place)
{
    uint32_t text = target->first_text + target->name_count - 1 - place->new_maps;

    for (uint32_t i = 0; i < place->new_maps; i++) {
        struct tf_field *map = &work->draft->items[place->at + i];

        *map = named(work, text + i, TF_VALUE_MAP);
        map->value.count = 1;
    }
    return place->at + place->new_maps;
}

static int add(struct work *work, const struct target *target)
{
    uint32_t value = target->first_text + target->name_count;
    struct tf_field *field;
    struct place place;
    int rc;

    if (!find_place(work, target, &place)) {
        return 0;
    }
    rc = make_room(work->draft, place.at, place.new_maps + 1, place.map);
    if (rc == 0) {
        field = &work->draft->items[put_maps(work, target, &place)];
        *field = named(work, value - 1, TF_VALUE_TEXT);
        field->value.text.at = work->text_at[value];
        field->value.text.size = (uint32_t)work->edit->texts[value].size;
    }
    return rc;
}

static void remove_field(struct work *work, const char *path)
{
    struct tf_fields fields = fields_of(work->draft, work->batch);
    uint32_t map, at = tf_fields_find(&fields, tf_slice_text(path), &map);

    if (at != TF_FIELDS_NONE) {
        take_out(work->draft, at, tf_fields_behind(&fields, at) - at, map);
    }
}

/* How many maps and arrays are in one another in the field `at`, itself counted. */
static uint32_t height_of(const struct tf_fields *fields, uint32_t at)
{
    struct tf_fields_level inside = tf_fields_inside(fields, at);
    uint32_t height = 0;

    if (fields->items[at].type != TF_VALUE_MAP && fields->items[at].type != TF_VALUE_ARRAY) {
        return 0;
    }
    for (uint32_t i = inside.first; i < inside.end; i = tf_fields_behind(fields, i)) {
        uint32_t one = height_of(fields, i);

        height = one > height ? one : height;
    }
    return height + 1;
}

/* Puts a copy of `count` fields from `from` on into place, under the target's name; with the cut,
 * when it is among them. The place is never inside of them: no path leads there from the old name.
 */
static void copy_to(struct work *work, const struct target *target, const struct place *place,
                    uint32_t from, uint32_t count)
{
    struct draft *draft = work->draft;
    uint32_t to = put_maps(work, target, place);
    struct tf_field name = named(work, target->first_text + target->name_count - 1, TF_VALUE_NIL);

    memcpy(draft->items + to, draft->items + from, count * sizeof *draft->items);
    draft->items[to].key_at = name.key_at;
    draft->items[to].key_size = name.key_size;
    if (draft->cut != TF_FIELDS_NONE && draft->cut >= from && draft->cut < from + count) {
        draft->cut = to + (draft->cut - from);
    }
}

static int rename_field(struct work *work, const char *path, const struct target *target)
{
    struct tf_fields fields = fields_of(work->draft, work->batch);
    uint32_t map, from = tf_fields_find(&fields, tf_slice_text(path), &map);
    uint32_t count, shift;
    struct place place;
    int rc;

    if (from == TF_FIELDS_NONE || !find_place(work, target, &place) ||
        height_of(&fields, from) + target->name_count - 1 > TF_MAPS_NESTED_MAX) {
        return 0;
    }
    count = tf_fields_behind(&fields, from) - from;
    shift = place.new_maps + count;
    rc = make_room(work->draft, place.at, shift, place.map);
    if (rc < 0) {
        return rc;
    }
    from += from >= place.at ? shift : 0;
    map += map != TF_FIELDS_NONE && map >= place.at ? shift : 0;
    copy_to(work, target, &place, from, count);
    take_out(work->draft, from, count, map);
    return 0;
}

/* ---- batches ------------------------------------------------------------------------------------
 */

static int edit_record(struct work *work, struct tf_batch *batch, struct tf_record *record)
{
    const struct edit_options *chosen = work->edit->options;
    int rc = load(work->draft, batch, record);

    for (size_t i = 0; rc == 0 && i < chosen->rename.count; i++) {
        rc = rename_field(work, chosen->rename.items[i].key.text, &work->edit->renamed[i]);
    }
    for (size_t i = 0; rc == 0 && i < chosen->remove.count; i++) {
        remove_field(work, chosen->remove.items[i].text);
    }
    for (size_t i = 0; rc == 0 && i < chosen->add.count; i++) {
        rc = add(work, &work->edit->added[i]);
    }
    if (rc == 0 && work->draft->is_changed) {
        rc = store(work->draft, batch, record);
    }
    return rc;
}

static int apply(void *self, void *scratch, void *state, struct tf_batch *batch)
{
    const struct edit *edit = self;
    struct scratch *own = scratch;
    struct work work = {
        .edit = edit, .text_at = own->text_at, .draft = &own->draft, .batch = batch};
    int rc = 0;

    (void)state;
    for (uint32_t i = 0; rc == 0 && i < edit->text_count; i++) {
        rc = tf_batch_add_text(batch, edit->texts[i].data, edit->texts[i].size, &own->text_at[i]);
    }
    for (uint32_t i = 0; rc == 0 && i < batch->record_count; i++) {
        if ((batch->records[i].flags & TF_RECORD_DROPPED) == 0) {
            rc = edit_record(&work, batch, &batch->records[i]);
        }
    }
    return rc;
}

/* Nothing is counted. */
static const char *rule_name(const void *self, uint16_t rule)
{
    (void)self;
    (void)rule;
    return NULL;
}

const struct tf_filter_kind tf_filter_edit = {
    .name = "edit",
    .options = options,
    .options_bytes = sizeof(struct edit_options),
    .open = edit_open,
    .close = edit_close,
    .scratch_new = scratch_new,
    .scratch_free = scratch_free,
    .apply = apply,
    .rule_name = rule_name,
};
