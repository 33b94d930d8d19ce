/*
 * parse_json.h - what the files of the filter share: its bounds, and a body that was read.
 *
 * The rules for users are in docs/parse-json.md.
 */
#ifndef TAFFRAIL_PARSE_JSON_H
#define TAFFRAIL_PARSE_JSON_H

#include "taffrail/batch.h"
#include "taffrail/config.h"
#include "taffrail/json.h"

#define TF_PARSE_JSON_FIELDS_MAX 768u /* of a record; a receiver takes 1,024 */
#define TF_PARSE_JSON_KEY_MAX    128u /* bytes; a receiver takes 1,024, masks may make it longer */
#define TF_PARSE_JSON_BODY_MAX   (1u << 20) /* bytes */
#define TF_PARSE_JSON_DEPTH_OWN  2u         /* levels of an event around the field `into` */

struct tf_parse_json_options {
    struct tf_text into;
    uint64_t max_depth, max_keys;
};

/* ---- known.c: what keys of the body itself say of the record ------------------------------------
 */

enum tf_parse_json_role {
    TF_PARSE_JSON_MESSAGE,
    TF_PARSE_JSON_LEVEL,
    TF_PARSE_JSON_TIME,
    TF_PARSE_JSON_ROLES
};

/* The names of levels, from the least on. */
#define TF_PARSE_JSON_LEVELS 9u
extern const char *const tf_parse_json_levels[TF_PARSE_JSON_LEVELS];

/* What was found so far; a zeroed struct is nothing. */
struct tf_parse_json_known {
    struct {
        uint32_t field; /* number in the body; 0: there is none */
        uint32_t rank;  /* of its name; the smallest wins */
    } of[TF_PARSE_JSON_ROLES];
    uint32_t level; /* index in tf_parse_json_levels */
    int64_t time_ns;
};

/* A text, or a number as it is written, under a key of the body. */
struct tf_parse_json_pair {
    struct tf_slice key, value;
    bool is_text;
};

/* Looks whether pair, which is field number `field`, is the best one so far for what its key is
 * known for. */
void tf_parse_json_know(struct tf_parse_json_known *known, const struct tf_parse_json_pair *pair,
                        uint32_t field);

/* ---- number.c -----------------------------------------------------------------------------------
 */

/*
 * A number of JSON. *digits is how it is written; the field gets its type and value: INT, UINT or
 * DOUBLE where these keep it as it is, else TEXT, whose value is the caller's to fill in. False
 * when it is no number.
 */
bool tf_parse_json_number(struct tf_json *in, struct tf_slice *digits, struct tf_field *field);

/* ---- body.c -------------------------------------------------------------------------------------
 */

struct tf_parse_json_limits {
    uint32_t depth, keys, fields; /* depth: 1 is a body that nests nothing */
};

/* A key, for the search for one that stands twice. */
struct tf_parse_json_key {
    uint32_t tag;        /* of its text and its map: where it differs, the key does */
    uint16_t map, field; /* numbers in the body */
};

/* What was read of one text; scratch that is used again. */
struct tf_parse_json_body {
    struct tf_field fields[TF_PARSE_JSON_FIELDS_MAX]; /* as in a batch; first the body's own map,
                                                         without a key */
    struct tf_parse_json_key keys[TF_PARSE_JSON_FIELDS_MAX];
    uint32_t field_count, key_count;
    struct tf_parse_json_known known;
};

/*
 * Reads text, a JSON object. Keys, each with `":` behind it, and texts, with '\n', are written into
 * the arena from its end on, where the caller has made room for text.size bytes; text may lie in
 * the arena itself. All of that room may be overwritten; the arena's size stays. Returns how many
 * bytes were written, or -1 when it is no such object, or passes a limit.
 */
int64_t tf_parse_json_read(struct tf_slice text, const struct tf_parse_json_limits *limits,
                           const struct tf_buf *arena, struct tf_parse_json_body *body);

#endif
