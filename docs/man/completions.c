/*
 * completions.c - what Tab offers behind `taffrail` in bash, zsh and fish.
 *
 * First the commands, then the words and options of the one that stands there; behind an option
 * that takes a file, and where no option is begun, files.
 */
#include "manual.h"

#include <string.h>

static const char *const file_values[] = {"FILE", "CONFIG", "SPOOL", "DIR", NULL};

static bool takes_file(const struct manual_option *option)
{
    for (size_t i = 0; file_values[i] != NULL; i++) {
        if (strcmp(option->value, file_values[i]) == 0) {
            return true;
        }
    }
    return false;
}

/* "pki seal" is completed as the word of a command that it is. */
static bool is_first_word(const struct manual_command *command)
{
    return strchr(command->name, ' ') == NULL;
}

/* text within single quotes; specials are given a backslash. */
static void put_quoted(FILE *to, const char *text, const char *specials)
{
    for (; *text != '\0'; text++) {
        if (*text == '\'') {
            (void)fputs("’", to); /* no shell sees a quote in it */
        } else {
            (void)fprintf(to, "%s%c", strchr(specials, *text) != NULL ? "\\" : "", *text);
        }
    }
}

/* ---- bash ----------------------------------------------------------------------------------- */

enum wanted { WANTED_ALL, WANTED_FILES, WANTED_VALUES };

/* The options of a command and of its words, or those that take a file, or another value. */
static void put_bash_options(FILE *to, const struct manual_program *program,
                             const struct manual_command *command, enum wanted wanted)
{
    size_t size = strlen(command->name);

    for (size_t i = 0; i < program->count; i++) {
        const struct manual_command *other = &program->commands[i];

        if (strncmp(other->name, command->name, size) != 0 ||
            (other->name[size] != '\0' && other->name[size] != ' ')) {
            continue;
        }
        for (size_t j = 0; j < other->option_count; j++) {
            const struct manual_option *option = &other->options[j];
            enum wanted kind = takes_file(option) ? WANTED_FILES : WANTED_VALUES;

            if (wanted == WANTED_ALL || (option->value[0] != '\0' && kind == wanted)) {
                (void)fprintf(to, " %s", option->name);
            }
        }
    }
}

static void put_bash_command(FILE *to, const struct manual_program *program,
                             const struct manual_command *command)
{
    (void)fprintf(to, "        %s)\n            words=\"", command->name);
    for (size_t i = 0; i < command->word_count; i++) {
        (void)fprintf(to, " %s", command->words[i]);
    }
    put_bash_options(to, program, command, WANTED_ALL);
    (void)fputs("\"\n            files=\"", to);
    put_bash_options(to, program, command, WANTED_FILES);
    (void)fputs(" \" values=\"", to);
    put_bash_options(to, program, command, WANTED_VALUES);
    (void)fputs(" \" ;;\n", to);
}

void manual_put_bash(FILE *to, const struct manual_program *program)
{
    (void)fputs(
        "# bash completion of taffrail; made from its --help.\n"
        "# shellcheck shell=bash\n"
        "_taffrail() {\n"
        "    local word=\"${COMP_WORDS[COMP_CWORD]}\" before=\"${COMP_WORDS[COMP_CWORD-1]}\"\n"
        "    local words=\"\" files=\"\" values=\"\"\n"
        "    COMPREPLY=()\n"
        "    [ \"$COMP_CWORD\" -gt 1 ] || words=\"",
        to);
    for (size_t i = 0; i < program->count; i++) {
        if (is_first_word(&program->commands[i])) {
            (void)fprintf(to, "%s ", program->commands[i].name);
        }
    }
    (void)fputs("--help --version\"\n    [ \"$COMP_CWORD\" -eq 1 ] || case "
                "\"${COMP_WORDS[1]}\" in\n",
                to);
    for (size_t i = 0; i < program->count; i++) {
        if (is_first_word(&program->commands[i])) {
            put_bash_command(to, program, &program->commands[i]);
        }
    }
    (void)fputs("    esac\n"
                "    case \"$files\" in *\" $before \"*) compopt -o default; return ;; esac\n"
                "    case \"$values\" in *\" $before \"*) return ;; esac\n"
                "    mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$word\")\n"
                "    [ \"$COMP_CWORD\" -eq 1 ] || compopt -o default\n"
                "}\n"
                "complete -F _taffrail taffrail\n",
                to);
}

/* ---- zsh ------------------------------------------------------------------------------------ */

static void put_zsh_options(FILE *to, const struct manual_command *command)
{
    for (size_t i = 0; i < command->option_count; i++) {
        const struct manual_option *option = &command->options[i];

        (void)fprintf(to, " \\\n            '*%s[", option->name);
        put_quoted(to, option->about, "[]:\\");
        (void)fputc(']', to);
        if (option->value[0] != '\0') {
            (void)fprintf(to, ":%s:%s", option->value, takes_file(option) ? "_files" : " ");
        }
        (void)fputc('\'', to);
    }
}

static void put_zsh_words(FILE *to, const struct manual_command *command)
{
    if (command->word_count == 0) {
        return;
    }
    (void)fputs(" \\\n            '1:command:(", to);
    for (size_t i = 0; i < command->word_count; i++) {
        (void)fprintf(to, "%s%s", i > 0 ? " " : "", command->words[i]);
    }
    (void)fputs(")'", to);
}

void manual_put_zsh(FILE *to, const struct manual_program *program)
{
    (void)fputs("#compdef taffrail\n"
                "# zsh completion of taffrail; made from its --help.\n"
                "local -a commands\n"
                "commands=(\n",
                to);
    for (size_t i = 0; i < program->count; i++) {
        if (is_first_word(&program->commands[i])) {
            (void)fprintf(to, "    '%s:", program->commands[i].name);
            put_quoted(to, program->commands[i].about, ":\\");
            (void)fputs("'\n", to);
        }
    }
    (void)fputs(
        ")\n"
        "if (( CURRENT == 2 )); then\n"
        "    _describe command commands\n"
        "    return\n"
        "fi\n"
        "shift words\n"
        "(( CURRENT-- ))\n"
        "[[ $words[1] == pki && $words[2] == seal ]] && words=('pki seal' ${words[3,-1]}) && "
        "(( CURRENT-- ))\n"
        "case $words[1] in\n",
        to);
    for (size_t i = 0; i < program->count; i++) {
        (void)fprintf(to, "    '%s')\n        _arguments", program->commands[i].name);
        put_zsh_options(to, &program->commands[i]);
        put_zsh_words(to, &program->commands[i]);
        (void)fputs(" \\\n            '*:file:_files' ;;\n", to);
    }
    (void)fputs("esac\n", to);
}

/* ---- fish ----------------------------------------------------------------------------------- */

static void put_fish_option(FILE *to, const struct manual_command *command,
                            const struct manual_option *option)
{
    bool is_long = option->name[1] == '-';

    (void)fprintf(to, "complete -c taffrail -n '__fish_seen_subcommand_from %.*s' %s %s",
                  (int)strcspn(command->name, " "), command->name, is_long ? "-l" : "-s",
                  option->name + (is_long ? 2 : 1));
    if (option->value[0] != '\0') {
        (void)fputs(takes_file(option) ? " -r -F" : " -x", to);
    }
    if (option->about[0] != '\0') {
        (void)fputs(" -d '", to);
        put_quoted(to, option->about, "\\");
        (void)fputc('\'', to);
    }
    (void)fputc('\n', to);
}

void manual_put_fish(FILE *to, const struct manual_program *program)
{
    (void)fputs("# fish completion of taffrail; made from its --help.\n"
                "complete -c taffrail -n __fish_use_subcommand -f -l help\n"
                "complete -c taffrail -n __fish_use_subcommand -f -l version\n",
                to);
    for (size_t i = 0; i < program->count; i++) {
        const struct manual_command *command = &program->commands[i];

        if (is_first_word(command)) {
            (void)fprintf(to, "complete -c taffrail -n __fish_use_subcommand -f -a %s -d '",
                          command->name);
            put_quoted(to, command->about, "\\");
            (void)fputs("'\n", to);
        }
        for (size_t j = 0; j < command->word_count; j++) {
            (void)fprintf(to, "complete -c taffrail -n '__fish_seen_subcommand_from %s' -a %s\n",
                          command->name, command->words[j]);
        }
        for (size_t j = 0; j < command->option_count; j++) {
            put_fish_option(to, command, &command->options[j]);
        }
    }
}
