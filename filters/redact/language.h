/*
 * language.h - from the text of a rule file to rules (docs/rules.md).
 */
#ifndef TAFFRAIL_REDACT_LANGUAGE_H
#define TAFFRAIL_REDACT_LANGUAGE_H

#include "rules.h"
#include "taffrail/config.h"

#define TF_REDACT_FILE_MAX      (1u << 20) /* a larger rule file is refused */
#define TF_REDACT_REGEX_MAX     16384u     /* bytes, with its fragments put in */
#define TF_REDACT_FRAGMENTS_MAX 64u
#define TF_REDACT_NAME_MAX      63u
#define TF_REDACT_OWN_PACK      "own"

/* The keys of a rule file, for taffrail-rules(5). */
extern const struct tf_option tf_redact_file_options[];

struct tf_redact_language_args {
    struct tf_slice yaml;
    const char *file;       /* names it in places */
    void *arena;            /* made by tf_arena_new; all that comes out lies in it */
    struct tf_slice shared; /* a file of fragments only, known in this one too; empty: none */
    /* A pack that ships: the rules get no place, and their regexes are not tried, as its tests did.
     */
    bool is_shipped;
};

/*
 * Reads one file. What is wrong goes to err, all of it. *rules and *count are always written: the
 * rules in which nothing is wrong; none when a key or its type is wrong somewhere. Keywords are
 * derived where none are written. That ids are unique over all files, and that examples hold, is
 * left to ruleset.c. Returns 0, -EINVAL or -ENOMEM.
 */
int tf_redact_language_parse(const struct tf_redact_language_args *args,
                             struct tf_redact_rule **rules, size_t *count, struct tf_error *err);

#endif
