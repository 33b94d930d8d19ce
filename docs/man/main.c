/*
 * main.c - taffrail_docs TAFFRAIL TEMPLATES OUT: the man pages and completions, into the folder
 * OUT.
 *
 * A page is its template NAME.in with three kinds of lines replaced:
 *
 *     @help COMMAND@   what the command's --help says; @help@: all commands, a part each
 *     @configuration@  all keys of the configuration
 *     @rules@          all keys of a file of rules
 *
 * A template's date is written by hand, so that the same source gives the same page on any day.
 */
#include <stdlib.h>
#include <string.h>

#include "../../filters/redact/language.h"
#include "manual.h"

static const char *const pages[] = {"taffrail.8", "taffrail-replay.8", "taffrail.yaml.5",
                                    "taffrail-rules.5"};

static const struct {
    const char *name;
    void (*put)(FILE *to, const struct manual_program *program);
} completions[] = {{"taffrail.bash", manual_put_bash},
                   {"_taffrail", manual_put_zsh},
                   {"taffrail.fish", manual_put_fish}};

static FILE *open_or_die(const char *folder, const char *name, const char *suffix, const char *mode)
{
    char path[4096];
    FILE *file;

    (void)snprintf(path, sizeof path, "%s/%s%s", folder, name, suffix);
    file = fopen(path, mode);
    if (file == NULL) {
        perror(path);
        exit(1);
    }
    return file;
}

static void close_or_die(FILE *file)
{
    if (ferror(file) || fclose(file) != 0) {
        perror("taffrail_docs");
        exit(1);
    }
}

static void put_commands(FILE *to, const struct manual_program *program)
{
    for (size_t i = 0; i < program->count; i++) {
        (void)fprintf(to, ".Ss taffrail %s\n", program->commands[i].name);
        manual_put_help(to, program->commands[i].help);
    }
}

static void put_template_line(FILE *to, const char *line, const struct manual_program *program)
{
    char name[32] = "";

    if (strcmp(line, "@help@\n") == 0) {
        put_commands(to, program);
    } else if (strcmp(line, "@configuration@\n") == 0) {
        manual_put_configuration(to);
    } else if (strcmp(line, "@rules@\n") == 0) {
        manual_put_table(to, tf_redact_file_options);
    } else if (sscanf(line, "@help %31[a-z]@", name) == 1) {
        const struct manual_command *command = manual_find(program, name);

        if (command == NULL) {
            (void)fprintf(stderr, "taffrail_docs: no command \"%s\"\n", name);
            exit(1);
        }
        manual_put_help(to, command->help);
    } else {
        (void)fputs(line, to);
    }
}

static void write_page(const char *templates, const char *out, const char *name,
                       const struct manual_program *program)
{
    FILE *from = open_or_die(templates, name, ".in", "r");
    FILE *to = open_or_die(out, name, "", "w");
    char line[1024];

    while (fgets(line, sizeof line, from) != NULL) {
        put_template_line(to, line, program);
    }
    close_or_die(from);
    close_or_die(to);
}

int main(int argc, char **argv)
{
    static struct manual_program program;

    if (argc != 4) {
        (void)fputs("usage: taffrail_docs TAFFRAIL TEMPLATES OUT\n", stderr);
        return 2;
    }
    manual_ask(argv[1], &program);
    for (size_t i = 0; i < TF_COUNT(pages); i++) {
        write_page(argv[2], argv[3], pages[i], &program);
    }
    for (size_t i = 0; i < TF_COUNT(completions); i++) {
        FILE *to = open_or_die(argv[3], completions[i].name, "", "w");

        completions[i].put(to, &program);
        close_or_die(to);
    }
    manual_free(&program);
    return 0;
}
