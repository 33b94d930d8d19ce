/*
 * main.c - picks the command, nothing else.
 */
#include <stdio.h>
#include <string.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <openssl/crypto.h>
#include <pcre2.h>
#include <uv.h>
#include <yaml.h>
#include <zlib.h>

#include "taffrail/base.h"
#include "taffrail/commands.h"

static const struct {
    const char *name, *about;
    int (*run)(int argc, char **argv);
} commands[] = {
    {"run", "the agent; with a forward input, the collector", tf_command_run},
    {"check", "all that is wrong with a configuration, at once", tf_command_check},
    {"tap", "what would be shipped, from files", tf_command_tap},
    {"redact", "lines from stdin, without their secrets", tf_command_redact},
    {"pki", "a CA, certificates and spool keys, for a start", tf_command_pki},
};

static void print_help(FILE *to)
{
    (void)fputs("taffrail ships logs: redacted, encrypted on disk, over mutual TLS.\n"
                "usage: taffrail COMMAND [options]        taffrail COMMAND --help tells more, with "
                "examples\n",
                to);
    for (size_t i = 0; i < TF_COUNT(commands); i++) {
        (void)fprintf(to, "    %-8s %s\n", commands[i].name, commands[i].about);
    }
    (void)fputs(
        "exit: 0 fine, 1 found something wrong, 2 usage or configuration, 3 could not run\n", to);
}

/* What this binary is made of, for bug reports. */
static void print_version(void)
{
    uint32_t jit = 0;
    char pcre2[64] = "";

    (void)pcre2_config(PCRE2_CONFIG_JIT, &jit);
    if (pcre2_config(PCRE2_CONFIG_VERSION, NULL) < (int)sizeof pcre2) {
        (void)pcre2_config(PCRE2_CONFIG_VERSION, pcre2);
    }
    pcre2[strcspn(pcre2, " ")] = '\0';
    (void)printf("taffrail %s (%s), spool format 1\n", TF_VERSION, TF_BUILD_KIND);
    (void)printf("libuv %s, OpenSSL %s, PCRE2 %s%s, zlib %s, libyaml %s%s\n", uv_version_string(),
                 OpenSSL_version(OPENSSL_VERSION_STRING), pcre2, jit != 0 ? " JIT" : "",
                 zlibVersion(), yaml_get_version_string(),
#ifdef TF_HAVE_ISAL
                 ", ISA-L"
#else
                 "; without: ISA-L"
#endif
    );
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
        print_version();
        return 0;
    }
    for (size_t i = 0; i < TF_COUNT(commands); i++) {
        if (strcmp(argv[1], commands[i].name) == 0) {
            return commands[i].run(argc - 1, argv + 1);
        }
    }
    (void)fprintf(stderr, "taffrail: \"%s\" is no command; taffrail --help lists them\n", argv[1]);
    return 2;
}
