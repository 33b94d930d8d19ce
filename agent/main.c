/*
 * main.c - picks the command, nothing else.
 */
#include <stdio.h>
#include <string.h>

#include "taffrail/base.h"
#include "taffrail/commands.h"

static const struct {
    const char *name, *about;
    int (*run)(int argc, char **argv);
} commands[] = {
    {"redact", "lines from stdin, without their secrets", tf_command_redact},
};

static void print_help(FILE *to)
{
    (void)fputs("taffrail ships logs: redacted, sealed on disk, over mutual TLS.\n"
                "usage: taffrail COMMAND [options]        taffrail COMMAND --help tells more\n",
                to);
    for (size_t i = 0; i < TF_COUNT(commands); i++) {
        (void)fprintf(to, "    %-8s %s\n", commands[i].name, commands[i].about);
    }
    (void)fputs(
        "exit: 0 fine, 1 found something wrong, 2 usage or configuration, 3 could not run\n", to);
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        print_help(stderr);
        return 2;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        print_help(stdout);
        return 0;
    }
    if (strcmp(argv[1], "--version") == 0) {
        (void)puts("taffrail " TF_VERSION);
        return 0;
    }
    for (size_t i = 0; i < TF_COUNT(commands); i++) {
        if (strcmp(argv[1], commands[i].name) == 0) {
            return commands[i].run(argc - 1, argv + 1);
        }
    }
    (void)fprintf(stderr, "taffrail: there is no such command; taffrail --help lists them\n");
    return 2;
}
