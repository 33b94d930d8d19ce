/*
 * fields.h - a field by its path, for filters that are told fields by name.
 *
 * A path is keys joined by dots, `kubernetes.pod_name`: each but the last is the key of a map. Keys
 * may hold dots themselves, `app.kubernetes.io/name`, so a path can be read in several ways: at
 * each level the longest key is tried first, then shorter ones, until one leads to a field. Of
 * fields with the same key in one map only the first counts. Items of arrays have no path.
 */
#ifndef TAFFRAIL_FILTERS_FIELDS_H
#define TAFFRAIL_FILTERS_FIELDS_H

#include "taffrail/batch.h"
#include "taffrail/config.h"

#define TF_FIELDS_NONE     UINT32_MAX                /* in place of a field's number */
#define TF_MAPS_NESTED_MAX (TF_BATCH_DEPTH_MAX - 2u) /* in one another: an event is two more */
#define TF_PATH_NAMES_MAX  (TF_MAPS_NESTED_MAX + 1u)
#define TF_PATH_BYTES_MAX  255u

/* The fields of one record, in pre-order as in a batch; numbers count from its first one. Borrows.
 */
struct tf_fields {
    const char *arena;
    const struct tf_field *items;
    uint32_t count;
};

/* The fields of one map, or those at the top: they begin at first, and end before end. */
struct tf_fields_level {
    uint32_t map; /* NONE: the top */
    uint32_t first, end;
};

struct tf_fields tf_fields_of(const struct tf_batch *batch, const struct tf_record *record);

static inline struct tf_fields_level tf_fields_top(const struct tf_fields *fields)
{
    return (struct tf_fields_level){.map = TF_FIELDS_NONE, .end = fields->count};
}

/* The number of what comes behind field `at` and all that it holds. */
uint32_t tf_fields_behind(const struct tf_fields *fields, uint32_t at);

/* What is in the map `at`. */
struct tf_fields_level tf_fields_inside(const struct tf_fields *fields, uint32_t at);

/* The first field of a level with that key, or NONE. */
uint32_t tf_fields_child(const struct tf_fields *fields, struct tf_fields_level level,
                         struct tf_slice key);

/* The field that a path means, or NONE. *map (may be NULL) is the map that it is in. */
uint32_t tf_fields_find(const struct tf_fields *fields, struct tf_slice path, uint32_t *map);

/* Whether a field at the top is where the path begins, though it may lead nowhere. */
bool tf_fields_begin(const struct tf_fields *fields, struct tf_slice path);

/* Whether path is `above`, or a field in it. */
bool tf_path_is_in(struct tf_slice path, struct tf_slice above);

/* Whether a path of the configuration can be one; key names the option in the message. 0, -EINVAL.
 */
int tf_path_check(const char *key, const struct tf_text *path, struct tf_error *err);

#endif
