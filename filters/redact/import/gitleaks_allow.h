/*
 * gitleaks_allow.h - what gitleaks lets pass: its allowlists, as allow and stopwords of rules.
 */
#ifndef TAFFRAIL_REDACT_GITLEAKS_ALLOW_H
#define TAFFRAIL_REDACT_GITLEAKS_ALLOW_H

#include "gitleaks_shared.h"

/* An allowlist, as far as it can be taken. */
struct tf_gitleaks_allowlist {
    struct tf_gitleaks_list regexes;   /* PCRE2, without captures */
    struct tf_gitleaks_list stopwords; /* in lower case */
    bool on_match;                     /* the regexes are of the whole match */
    const struct tf_toml *targets;     /* ids of the rules that it is for; NULL: all */
    struct tf_place at;
    struct tf_gitleaks_allowlist *next;
};

/* The allowlists of a table, the file or a rule, in the scope's arena; NULL: it has none. What
 * cannot be taken of them is told. */
struct tf_gitleaks_allowlist *tf_gitleaks_allow_read(const struct tf_gitleaks_scope *scope,
                                                     const struct tf_toml *table);

/* Writes the fragment that lets pass what the file's allowlists let pass in every rule. Returns
 * false, and writes nothing, when there is no such thing. */
bool tf_gitleaks_allow_write_fragment(const struct tf_gitleaks_scope *scope,
                                      const struct tf_gitleaks_allowlist *of_file,
                                      struct tf_buf *to);

struct tf_gitleaks_allow_args {
    const struct tf_gitleaks_allowlist *own, *of_file;
    bool has_fragment;
    const char *id;     /* the rule's, as it is written in the TOML */
    bool is_whole;      /* its secret is its whole match */
    struct tf_place at; /* of the rule */
};

/* Writes a rule's allow and stopwords. */
void tf_gitleaks_allow_write(const struct tf_gitleaks_scope *scope,
                             const struct tf_gitleaks_allow_args *args, struct tf_buf *to);

#endif
