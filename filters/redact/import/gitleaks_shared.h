/*
 * gitleaks_shared.h - what the sources of the import share: values of the TOML, lists of texts,
 * messages with their place, texts as YAML.
 */
#ifndef TAFFRAIL_REDACT_GITLEAKS_SHARED_H
#define TAFFRAIL_REDACT_GITLEAKS_SHARED_H

#include "toml.h"

#define TF_GITLEAKS_QUOTE_MAX  64    /* bytes of a foreign text in a message */
#define TF_GITLEAKS_JOINED_MAX 8192u /* bytes of allowing regexes that are joined to one */

/* One import. */
struct tf_gitleaks_job {
    struct tf_error *err;
    bool no_memory; /* then what is made does not count */
};

/* Where something stands, and what owns what is made of it. */
struct tf_gitleaks_scope {
    struct tf_gitleaks_job *job;
    void *arena;
    const char *who; /* for messages: `rule "x"` */
};

/* Adds a warning, "WHO: what and why; mend". */
void tf_gitleaks_tell(const struct tf_gitleaks_scope *scope, const struct tf_place *at,
                      const char *format, ...) TF_PRINTF(3, 4);

/* ---- values --------------------------------------------------------------------------------- */

/* The value of a key, which gitleaks reads in any case, or NULL. */
const struct tf_toml *tf_gitleaks_get(const struct tf_toml *table, const char *key);

/* The same; NULL also when it is of another type, which is told. A FLOAT may be an INTEGER. */
const struct tf_toml *tf_gitleaks_get_typed(const struct tf_gitleaks_scope *scope,
                                            const struct tf_toml *table, const char *key,
                                            enum tf_toml_type type);

/* A text that is not empty, or NULL. */
const struct tf_toml *tf_gitleaks_get_text(const struct tf_gitleaks_scope *scope,
                                           const struct tf_toml *table, const char *key);

/* The first item of a list of texts, or NULL, and the one behind it. A text alone is a list of one.
 * An item of another type is told when it is passed over. */
const struct tf_toml *tf_gitleaks_first_text(const struct tf_gitleaks_scope *scope,
                                             const struct tf_toml *table, const char *key);
const struct tf_toml *tf_gitleaks_next_text(const struct tf_gitleaks_scope *scope,
                                            const struct tf_toml *item);

/* Whether a value is of a type; when it is not, that is told. */
bool tf_gitleaks_is(const struct tf_gitleaks_scope *scope, const struct tf_toml *value,
                    enum tf_toml_type type);

/* Tells of each key that is not among the known ones, in lower case, which end with NULL. */
void tf_gitleaks_tell_unknown(const struct tf_gitleaks_scope *scope, const struct tf_toml *table,
                              const char *const *known);

/* ---- lists ---------------------------------------------------------------------------------- */

struct tf_gitleaks_item {
    const char *text;
    struct tf_gitleaks_item *next;
};

struct tf_gitleaks_list {
    struct tf_gitleaks_item *first, *last;
    size_t count;
};

/* Text is borrowed for the life of the list; NULL counts as no memory. */
void tf_gitleaks_append(const struct tf_gitleaks_scope *scope, struct tf_gitleaks_list *list,
                        const char *text);
void tf_gitleaks_append_all(const struct tf_gitleaks_scope *scope, struct tf_gitleaks_list *list,
                            const struct tf_gitleaks_list *from);

/* What a buffer holds, or a text in lower case, in the scope's arena. NULL: no memory. */
char *tf_gitleaks_keep(const struct tf_gitleaks_scope *scope, const struct tf_buf *buf);
char *tf_gitleaks_keep_lower(const struct tf_gitleaks_scope *scope, const char *text);

/* ---- texts ---------------------------------------------------------------------------------- */

/* Whether PCRE2 takes a regex as language.c hands it on; reason is why not. */
bool tf_gitleaks_compiles(const struct tf_buf *regex, char reason[128]);

/* A text, UTF-8, as YAML; as a key of a rule; as an item of a list; a whole list, if it has any. */
void tf_gitleaks_put_text(struct tf_buf *to, const char *text);
void tf_gitleaks_put_key(struct tf_buf *to, const char *key, const char *text);
void tf_gitleaks_put_item(struct tf_buf *to, const char *indent, const char *text);
void tf_gitleaks_put_list(struct tf_buf *to, const char *key, const struct tf_gitleaks_list *list);

#endif
