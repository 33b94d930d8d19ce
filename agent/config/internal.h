/*
 * internal.h - what the sources of the configuration room share.
 *
 *     yaml.c     bytes → nodes with places; knows nothing of options
 *     values.c   one node → one typed value, environment expanded
 *     options.c  a map node and an option table → a filled struct
 *     lists.c    the lists of inputs, filters and outputs, and the rules between them
 *     load.c     the file and its sections → struct tf_config
 *     arena.c    their memory
 *
 * What is wrong goes to reader.err and reading goes on. Only lack of memory stops it: it sticks in
 * reader.no_memory, and what is filled then does not count.
 */
#ifndef TAFFRAIL_CONFIG_INTERNAL_H
#define TAFFRAIL_CONFIG_INTERNAL_H

#include "taffrail/base.h"
#include "taffrail/config.h"

#define TF_CONFIG_FILE_MAX  (1u << 20)  /* a larger file is refused */
#define TF_CONFIG_VALUE_MAX (64u << 10) /* an expanded value; longer is refused */
#define TF_CONFIG_QUOTE_MAX 64u         /* bytes of a foreign text in a message; then "..." */

/* ---- yaml.c --------------------------------------------------------------------------------- */

#define TF_YAML_DEPTH_MAX 16u    /* nesting; deeper is refused */
#define TF_YAML_NODES_MAX 50000u /* in one file; more are refused */
#define TF_YAML_KEYS_MAX  1000u  /* in one map; more are refused */

enum tf_yaml_type {
    TF_YAML_TEXT,
    TF_YAML_LIST,
    TF_YAML_MAP,
    TF_YAML_BAD, /* an alias or the like: its error is told, nobody adds another */
};

/* A value. Of a map's entry, the key stands in its value's node. Belongs to the arena. */
struct tf_yaml {
    enum tf_yaml_type type;
    bool is_plain;   /* text without quotes */
    bool is_default; /* from an option table: ${} has no meaning in it */
    struct tf_place at;
    const char *text; /* of TEXT; ends in NUL and holds none */
    const char *key;  /* of a map's entry, else NULL */
    struct tf_place key_at;
    struct tf_yaml *next;         /* beside it in its list or map */
    struct tf_yaml *first, *last; /* of LIST and MAP */
    size_t count;
};

/*
 * Parses one YAML 1.1 document: no anchors, aliases, tags, nor keys twice in a map. Returns new in
 * *out, in arena; file is borrowed for the life of the nodes. Returns 0 when there is a tree, of
 * which parts may be BAD; -EINVAL when there is none; -ENODATA when there is no document, which the
 * caller tells; -ENOMEM.
 */
int tf_yaml_parse(struct tf_slice yaml, const char *file, void *arena, struct tf_yaml **out,
                  struct tf_error *err);

/* The value of key in map, or NULL. */
const struct tf_yaml *tf_yaml_get(const struct tf_yaml *map, const char *key);

/* True for an empty plain value, ~ and null. */
bool tf_yaml_is_null(const struct tf_yaml *node);

/* ---- values.c ------------------------------------------------------------------------------- */

struct tf_config_reader {
    const char *folder; /* of relative paths; NULL: they stay as they are */
    void *arena;
    struct tf_error *err;
    bool is_literal; /* ${} has no meaning */
    bool no_memory;
};

/* Where a value stands, for messages. */
struct tf_scope {
    struct tf_config_reader *reader;
    const char *plugin; /* `input "container"`, or NULL in a section */
    const char *prefix; /* "tls.", or "spool." in a section, or "" */
    struct tf_place at; /* of the enclosing key: what is absent has this place */
    bool is_absent;     /* the whole map is absent: then nothing in it is required */
};

/* A foreign text for a message, in quotes, cut to TF_CONFIG_QUOTE_MAX bytes. */
struct tf_quote {
    char text[TF_CONFIG_QUOTE_MAX + 8];
};
struct tf_quote tf_quote(const char *text);

void *tf_reader_alloc(struct tf_config_reader *reader, size_t size); /* NULL: no_memory is set */
char *tf_reader_copy(struct tf_config_reader *reader, const char *text, size_t size);

/* Writes the value of node into *member, by option.type; all types but TABLE and TABLES. */
void tf_value_read(const struct tf_scope *scope, const struct tf_option *option,
                   const struct tf_yaml *node, void *member);

/* ---- options.c ------------------------------------------------------------------------------ */

/* Fills options from map (NULL: absent) by table, with defaults for what is absent; keys that the
 * table does not have are left alone. */
void tf_options_fill(const struct tf_scope *scope, const struct tf_option *table,
                     const struct tf_yaml *map, void *options);

/* An error for each key of map that is in neither table (second may be NULL). */
void tf_options_refuse_unknown(const struct tf_scope *scope, const struct tf_option *first,
                               const struct tf_option *second, const struct tf_yaml *map);

/*
 * What to say behind an unknown word: `nearest: "exclude"`, or `known: a, b, c` when none of the
 * words is near. Of each of count words, the text is what get returns.
 */
struct tf_hint {
    char text[512];
};
typedef const char *tf_word_fn(const void *words, size_t index);
struct tf_hint tf_hint_nearest(const char *word, const void *words, size_t count, tf_word_fn *get);

/* ---- lists.c -------------------------------------------------------------------------------- */

/* A file being read. */
struct tf_load {
    struct tf_config_reader reader;
    const struct tf_plugins *plugins;
    struct tf_config *config;
};

/* Fills the config's inputs, filters and outputs from root, a map. */
void tf_lists_read(struct tf_load *load, const struct tf_yaml *root);

/* ---- load.c --------------------------------------------------------------------------------- */

extern const struct tf_option tf_config_sections[]; /* agent, spool, sandbox, admin */

#endif
