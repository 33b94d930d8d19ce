/*
 * error.h - a list of findings, each with its place, and how a function adds one.
 *
 * A check goes on after an error, so that all of them are reported in one run. A finding is one
 * complete line: "file:line:column: error: what and why; mend".
 */
#ifndef TAFFRAIL_ERROR_H
#define TAFFRAIL_ERROR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "taffrail/base.h"

/* Where in a file something was written. file borrows from the configuration; NULL means "no
 * place". */
struct tf_place {
    const char *file;
    unsigned line;   /* from 1; 0 means the whole file */
    unsigned column; /* from 1, in bytes */
};

enum tf_severity { TF_SEVERITY_ERROR, TF_SEVERITY_WARNING };

struct tf_finding {
    enum tf_severity severity;
    char *file; /* owned copy, or NULL */
    unsigned line;
    unsigned column;
    char *text; /* without place, control characters escaped */
};

#define TF_FINDINGS_MAX 1000 /* further ones are counted in dropped, not kept */
struct tf_error {
    struct tf_finding *findings;
    size_t count;
    size_t errors;
    size_t warnings;
    size_t dropped;
};

void tf_error_init(struct tf_error *err);
void tf_error_fini(struct tf_error *err);

/* Adds an error at a place (NULL: none); returns -EINVAL, so that a check stays one statement. */
int tf_error_add(struct tf_error *err, const struct tf_place *at, const char *format, ...)
    TF_PRINTF(3, 4);

/* Adds a warning. Warnings leave the outcome alone. */
void tf_warning_add(struct tf_error *err, const struct tf_place *at, const char *format, ...)
    TF_PRINTF(3, 4);

/* Prints "file:line:column: error: text" a line each, in the order of place; returns the count of
 * errors. */
size_t tf_error_print(const struct tf_error *err, FILE *to);

/* The same as one JSON object a line, {file,line,column,severity,text}. */
void tf_error_print_json(const struct tf_error *err, FILE *to);

/* The text of the first error, or "no error"; borrows from err. */
const char *tf_error_first(const struct tf_error *err);

#endif
