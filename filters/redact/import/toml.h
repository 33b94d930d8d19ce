/*
 * toml.h - one TOML document as nodes with places, for rule files of others.
 */
#ifndef TAFFRAIL_REDACT_TOML_H
#define TAFFRAIL_REDACT_TOML_H

#include "taffrail/error.h"

#define TF_TOML_FILE_MAX  (1u << 20) /* bytes; a larger file is refused */
#define TF_TOML_DEPTH_MAX 16u    /* of values in values, and of a dotted key; deeper is refused */
#define TF_TOML_NODES_MAX 50000u /* in one file; more are refused */
#define TF_TOML_KEYS_MAX  1000u  /* in one table; more are refused */

enum tf_toml_type {
    TF_TOML_TEXT,
    TF_TOML_INTEGER,
    TF_TOML_FLOAT,
    TF_TOML_BOOLEAN,
    TF_TOML_ARRAY,
    TF_TOML_TABLE,
};

/* A value. Of a table's entry, the key stands in its value's node. Belongs to the arena. */
struct tf_toml {
    enum tf_toml_type type;
    struct tf_place at;
    const char *key; /* of a table's entry, else NULL */
    struct tf_place key_at;
    const char *text; /* of TEXT; UTF-8, ends in NUL and holds none */
    int64_t integer;
    double number; /* of FLOAT and INTEGER */
    bool truth;
    struct tf_toml *next;         /* beside it in its array or table, in the order of the file */
    struct tf_toml *first, *last; /* of ARRAY and TABLE */
    size_t count;
    int made_by; /* toml.c's */
};

/*
 * Parses TOML 1.0 (toml.io) without dates, times, inf and nan. Returns new in *out, a TABLE, in
 * arena; file is borrowed for the life of the nodes. Returns 0; -EINVAL with one error, the first;
 * -ENOMEM.
 */
int tf_toml_parse(struct tf_slice toml, const char *file, void *arena, struct tf_toml **out,
                  struct tf_error *err);

#endif
