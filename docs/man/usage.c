/*
 * usage.c - the commands and their options, as the program's own --help tells them.
 *
 * A help is: "usage:" and the forms of the command, aligned behind it; sentences; lines of options
 * or words, "  TERM  text", text going on in lines further in; "signals:", "exit:", "example:" or
 * "examples:". The forms name all options with their values, the lines say what they are.
 */
#include "manual.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define HELP_MAX_BYTES 16384u

static void die(const char *text)
{
    (void)fprintf(stderr, "taffrail_docs: %s\n", text);
    exit(1);
}

/* ---- asking --------------------------------------------------------------------------------- */

static void run_child(const char *path, char **words, int out_fd)
{
    if (dup2(out_fd, STDOUT_FILENO) >= 0) {
        (void)execv(path, words);
    }
    _exit(127);
}

static char *read_all(int fd)
{
    char *text = calloc(1, HELP_MAX_BYTES);
    size_t size = 0;
    ssize_t n = 1;

    while (text != NULL && n > 0 && size < HELP_MAX_BYTES - 1) {
        n = read(fd, text + size, HELP_MAX_BYTES - 1 - size);
        size += n > 0 ? (size_t)n : 0;
    }
    return text;
}

/* What `PATH NAME --help` prints, name being none, one or two words. Returns new. */
static char *ask(const char *path, const char *name)
{
    char first[TERM_MAX] = "", second[TERM_MAX] = "";
    int count = sscanf(name, "%31s %31s", first, second);
    char *words[] = {(char *)path, (char *)"--help", NULL, NULL, NULL};
    char *text;
    int pipe_fds[2], status = -1;
    pid_t child;

    if (count >= 1) {
        words[1] = first;
        words[2] = count == 2 ? second : (char *)"--help";
        words[3] = count == 2 ? (char *)"--help" : NULL;
    }
    if (pipe(pipe_fds) < 0) {
        die("no pipe");
    }
    child = fork();
    if (child == 0) {
        run_child(path, words, pipe_fds[1]);
    }
    (void)close(pipe_fds[1]);
    text = read_all(pipe_fds[0]);
    (void)close(pipe_fds[0]);
    if (child < 0 || text == NULL || waitpid(child, &status, 0) < 0 || status != 0) {
        die("the program does not tell its help");
    }
    return text;
}

/* ---- reading a help ------------------------------------------------------------------------- */

const char *manual_term(const char *line, size_t *term_bytes)
{
    const char *term = line + 2, *gap;

    if (strncmp(line, "  ", 2) != 0 || line[2] == ' ' || line[2] == '\0') {
        return NULL;
    }
    gap = strstr(term, "  ");
    *term_bytes = gap != NULL ? (size_t)(gap - term) : strlen(term);
    return gap != NULL ? gap + strspn(gap, " ") : "";
}

static struct manual_option *add_option(struct manual_command *command, const char *name)
{
    for (size_t i = 0; i < command->option_count; i++) {
        if (strcmp(command->options[i].name, name) == 0) {
            return &command->options[i];
        }
    }
    if (command->option_count == OPTIONS_MAX) {
        die("more options than OPTIONS_MAX");
    }
    (void)snprintf(command->options[command->option_count].name, TERM_MAX, "%s", name);
    return &command->options[command->option_count++];
}

/* Copies the next word, without brackets, dots and commas; *rest goes behind it. */
static bool next_word(const char **rest, char word[TERM_MAX])
{
    const char *begin = *rest + strspn(*rest, " [|,");
    size_t size = strcspn(begin, " []|,");

    *rest = begin + size;
    (void)snprintf(word, TERM_MAX, "%.*s", (int)size, begin);
    return size > 0;
}

/* Options and their values, a word in capitals behind them. about: what is said of the first. */
static void take_options(struct manual_command *command, const char *text, const char *about)
{
    struct manual_option *option = NULL;
    char word[TERM_MAX];

    while (next_word(&text, word)) {
        if (word[0] == '-' && word[1] != '\0') {
            option = add_option(command, word);
            if (option->about[0] == '\0') {
                (void)snprintf(option->about, sizeof option->about, "%s", about);
            }
        } else if (option != NULL && isupper((unsigned char)word[0])) {
            (void)snprintf(option->value, TERM_MAX, "%s", word);
            option = NULL;
        } else {
            option = NULL;
        }
        if (text[0] == ']') {
            option = NULL; /* what stands behind is no value of it */
        }
        text += strspn(text, "].");
    }
}

/* "taffrail pki init --name NAME DIR   a CA": the word behind the command, and the options. */
static void take_form(struct manual_command *command, const char *form)
{
    char text[256], word[TERM_MAX];
    const char *rest = text, *gap;

    form += strspn(form, " ");
    gap = strstr(form, "  ");
    (void)snprintf(text, sizeof text, "%.*s", gap != NULL ? (int)(gap - form) : (int)strlen(form),
                   form);
    if (strncmp(text, "taffrail ", 9) == 0) {
        rest += 9 + strlen(command->name);
        if (strchr(command->name, ' ') == NULL && rest[0] == ' ' &&
            islower((unsigned char)rest[1]) && command->word_count < WORDS_MAX &&
            next_word(&rest, word)) {
            (void)snprintf(command->words[command->word_count++], TERM_MAX, "%s", word);
        }
    }
    take_options(command, rest, "");
}

static void read_help(struct manual_command *command)
{
    char *copy = strdup(command->help), *place = NULL;
    bool in_forms = false;

    if (copy == NULL) {
        die("no memory");
    }
    for (char *line = strtok_r(copy, "\n", &place); line != NULL;
         line = strtok_r(NULL, "\n", &place)) {
        size_t term_bytes;
        const char *about = manual_term(line, &term_bytes);

        in_forms = strncmp(line, "usage: ", 7) == 0 || (in_forms && line[0] == ' ');
        if (in_forms) {
            take_form(command, line[0] == 'u' ? line + 7 : line);
        } else if (about != NULL && line[2] == '-') {
            char term[128];

            (void)snprintf(term, sizeof term, "%.*s", (int)term_bytes, line + 2);
            take_options(command, term, about);
        }
    }
    (void)add_option(command, "--help");
    free(copy);
}

static struct manual_command *add_command(const char *path, struct manual_program *out,
                                          const char *name)
{
    struct manual_command *command = &out->commands[out->count++];

    if (out->count == COMMANDS_MAX) {
        die("more commands than COMMANDS_MAX");
    }
    (void)snprintf(command->name, sizeof command->name, "%s", name);
    command->help = ask(path, name);
    read_help(command);
    return command;
}

/* A word with a help of its own is named in that of its command, "(pki seal --help)". */
static void add_words(const char *path, struct manual_program *out, size_t at)
{
    for (size_t i = 0; i < out->commands[at].word_count; i++) {
        char name[2 * TERM_MAX], wanted[3 * TERM_MAX];

        (void)snprintf(name, sizeof name, "%s %s", out->commands[at].name,
                       out->commands[at].words[i]);
        (void)snprintf(wanted, sizeof wanted, "(%s --help)", name);
        if (strstr(out->commands[at].help, wanted) != NULL) {
            (void)add_command(path, out, name);
        }
    }
}

void manual_ask(const char *path, struct manual_program *out)
{
    char *help = ask(path, ""), *place = NULL;

    for (char *line = strtok_r(help, "\n", &place); line != NULL;
         line = strtok_r(NULL, "\n", &place)) {
        char name[TERM_MAX];
        int about_at = 0;

        if (line[0] == ' ' && sscanf(line, " %31[a-z] %n", name, &about_at) == 1 && about_at > 0) {
            size_t at = out->count;

            (void)snprintf(add_command(path, out, name)->about, sizeof out->commands[at].about,
                           "%s", line + about_at);
            add_words(path, out, at);
        }
    }
    if (out->count == 0) {
        die("no command in --help");
    }
    free(help);
}

void manual_free(struct manual_program *program)
{
    for (size_t i = 0; i < program->count; i++) {
        free(program->commands[i].help);
    }
}

const struct manual_command *manual_find(const struct manual_program *program, const char *name)
{
    for (size_t i = 0; i < program->count; i++) {
        if (strcmp(program->commands[i].name, name) == 0) {
            return &program->commands[i];
        }
    }
    return NULL;
}
