/*
 * manual.h - the parts of taffrail_docs, which writes the man pages and the completions of shells.
 *
 * What stands in them comes from what the program itself says and reads: the commands' --help, and
 * the option tables. Around that are the templates in this folder.
 */
#ifndef TAFFRAIL_MANUAL_H
#define TAFFRAIL_MANUAL_H

#include <stdio.h>

#include "taffrail/config.h"

#define OPTIONS_MAX  32u
#define WORDS_MAX    16u
#define COMMANDS_MAX 24u
#define TERM_MAX     32u

/* An option, as the help of its command has it. */
struct manual_option {
    char name[TERM_MAX];  /* "-c", "--key" */
    char value[TERM_MAX]; /* "FILE", "" when it takes none */
    char about[160];      /* the beginning of what is said of it */
};

struct manual_command {
    char name[TERM_MAX]; /* "run", "pki seal" */
    char about[128];     /* as `taffrail --help` has it; "" for "pki seal" */
    char *help;          /* what --help prints */
    struct manual_option options[OPTIONS_MAX];
    size_t option_count;
    char words[WORDS_MAX][TERM_MAX]; /* commands of its own: init, collector */
    size_t word_count;
};

struct manual_program {
    struct manual_command commands[COMMANDS_MAX];
    size_t count;
};

/* ---- usage.c -------------------------------------------------------------------------------- */

/* Asks the program at path for the help of all its commands. Ends the process when it has none. */
void manual_ask(const char *path, struct manual_program *out);
void manual_free(struct manual_program *program);
const struct manual_command *manual_find(const struct manual_program *program, const char *name);

/*
 * A line of options in a help, "  -c FILE  text": term_bytes receives the size of the term, which
 * begins behind two spaces. Returns its text, "" when that begins on the next line; NULL: no such
 * line.
 */
const char *manual_term(const char *line, size_t *term_bytes);

/* ---- mdoc.c --------------------------------------------------------------------------------- */

/* text so that mdoc(7) prints it as it is. */
void manual_put(FILE *to, const char *text, size_t size);
/* A help as paragraphs, lists and examples. */
void manual_put_help(FILE *to, const char *help);
/* The keys of a table, those within another with its name in front. */
void manual_put_table(FILE *to, const struct tf_option *table);
/* All sections and plugins of the configuration. */
void manual_put_configuration(FILE *to);

/* ---- completions.c -------------------------------------------------------------------------- */

void manual_put_bash(FILE *to, const struct manual_program *program);
void manual_put_zsh(FILE *to, const struct manual_program *program);
void manual_put_fish(FILE *to, const struct manual_program *program);

#endif
