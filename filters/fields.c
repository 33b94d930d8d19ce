/*
 * fields.c - looks a path up in a record (fields.h).
 *
 * A lookup walks over the siblings once for each key that the path may begin with, and into what it
 * finds. Each field is where at most one beginning of the path leads, so the time is bounded by the
 * fields of the record times the names of the path.
 */
#include "fields.h"

#include <assert.h>

struct tf_fields tf_fields_of(const struct tf_batch *batch, const struct tf_record *record)
{
    struct tf_fields fields = {.arena = batch->text.data, .count = record->field_count};

    if (record->field_count > 0) { /* else the batch may have no array of fields yet */
        fields.items = batch->fields + record->first_field;
    }
    return fields;
}

static struct tf_slice key_of(const struct tf_fields *fields, uint32_t at)
{
    const struct tf_field *field = &fields->items[at];

    return tf_slice(fields->arena + field->key_at, field->key_size);
}

uint32_t tf_fields_behind(const struct tf_fields *fields, uint32_t at)
{
    uint64_t left = 1; /* fields that are still to come */

    while (left > 0) {
        const struct tf_field *field = &fields->items[at];

        assert(at < fields->count);
        left--;
        if (field->type == TF_VALUE_MAP || field->type == TF_VALUE_ARRAY) {
            left += field->value.count;
        }
        at++;
    }
    return at;
}

struct tf_fields_level tf_fields_inside(const struct tf_fields *fields, uint32_t at)
{
    return (struct tf_fields_level){
        .map = at, .first = at + 1, .end = tf_fields_behind(fields, at)};
}

uint32_t tf_fields_child(const struct tf_fields *fields, struct tf_fields_level level,
                         struct tf_slice key)
{
    for (uint32_t at = level.first; at < level.end; at = tf_fields_behind(fields, at)) {
        if (tf_slice_equal(key_of(fields, at), key)) {
            return at;
        }
    }
    return TF_FIELDS_NONE;
}

/* Where the last dot is in the first size bytes of the path; 0: there is none. */
static size_t last_dot(struct tf_slice path, size_t size)
{
    while (size > 0 && path.data[size - 1] != '.') {
        size--;
    }
    return size > 0 ? size - 1 : 0;
}

static uint32_t find_in(const struct tf_fields *fields, struct tf_fields_level level,
                        struct tf_slice path, uint32_t *map)
{
    for (size_t size = path.size; size > 0; size = last_dot(path, size)) {
        uint32_t at = tf_fields_child(fields, level, tf_slice(path.data, size));

        if (at != TF_FIELDS_NONE && size == path.size) {
            *map = level.map;
            return at;
        }
        if (at != TF_FIELDS_NONE && fields->items[at].type == TF_VALUE_MAP) {
            struct tf_slice rest = tf_slice(path.data + size + 1, path.size - size - 1);

            at = find_in(fields, tf_fields_inside(fields, at), rest, map);
            if (at != TF_FIELDS_NONE) {
                return at;
            }
        }
    }
    return TF_FIELDS_NONE;
}

uint32_t tf_fields_find(const struct tf_fields *fields, struct tf_slice path, uint32_t *map)
{
    uint32_t unused;

    return find_in(fields, tf_fields_top(fields), path, map != NULL ? map : &unused);
}

bool tf_fields_begin(const struct tf_fields *fields, struct tf_slice path)
{
    for (size_t size = path.size; size > 0; size = last_dot(path, size)) {
        if (tf_fields_child(fields, tf_fields_top(fields), tf_slice(path.data, size)) !=
            TF_FIELDS_NONE) {
            return true;
        }
    }
    return false;
}

bool tf_path_is_in(struct tf_slice path, struct tf_slice above)
{
    return path.size >= above.size && memcmp(path.data, above.data, above.size) == 0 &&
           (path.size == above.size || path.data[above.size] == '.');
}

int tf_path_check(const char *key, const struct tf_text *path, struct tf_error *err)
{
    const char *name = path->text;
    size_t names = 1;

    for (size_t size = strcspn(name, "."); size > 0 && name[size] == '.';
         size = strcspn(name, ".")) {
        name += size + 1;
        names++;
    }
    if (*name == '\0' || *name == '.') {
        return tf_error_add(err, &path->at,
                            "%s: \"%s\" has an empty name beside a dot; write names joined by "
                            "single dots, such as fields.level",
                            key, path->text);
    }
    if (strlen(path->text) > TF_PATH_BYTES_MAX || names > TF_PATH_NAMES_MAX) {
        return tf_error_add(err, &path->at,
                            "%s: a field has at most %u bytes and %u names; this one has %zu and "
                            "%zu, shorten it",
                            key, TF_PATH_BYTES_MAX, TF_PATH_NAMES_MAX, strlen(path->text), names);
    }
    return 0;
}
