/*
 * gitleaks.h - from a rule file of gitleaks to one of taffrail.
 */
#ifndef TAFFRAIL_REDACT_GITLEAKS_H
#define TAFFRAIL_REDACT_GITLEAKS_H

#include "../rules.h"

#define TF_REDACT_GITLEAKS_PACK "gitleaks"

struct tf_redact_gitleaks_args {
    struct tf_slice toml;
    const char *file;                   /* names it in places */
    const struct tf_redact_rule *taken; /* rules beside which the new ones shall stand */
    size_t taken_count;
};

/*
 * Translates one file (docs/rules.md, "Importing gitleaks rules"). Appends to yaml, made by the
 * caller with a limit of TF_REDACT_FILE_MAX, a file that tf_redact_language_parse takes, and of
 * which each rule does as its example says. What could not be taken goes to err, as warnings with
 * their place in the TOML. Returns 0; -EINVAL with an error when it is no sound TOML, or no rule of
 * it can be taken: yaml is then empty; -ENOMEM.
 */
int tf_redact_gitleaks_import(const struct tf_redact_gitleaks_args *args, struct tf_buf *yaml,
                              struct tf_error *err);

#endif
