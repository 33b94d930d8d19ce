/*
 * main.c - picks the command, nothing else.
 */
#include <stdio.h>
#include <string.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <pcre2.h>
#include <uv.h>
#include <yaml.h>
#include <zlib.h>

#include "../filters/redact/ruleset.h"
#include "taffrail/base.h"
#include "taffrail/commands.h"
#include "taffrail/http_client.h"

#ifdef TF_HAVE_ISAL
#define ISAL "ISA-L"
#else
#define ISAL "no ISA-L"
#endif

static const struct {
    const char *name, *about;
    int (*run)(int argc, char **argv);
} commands[] = {
    {"run", "the agent; with a forward input, the collector", tf_command_run},
    {"check", "all that is wrong with a configuration, at once", tf_command_check},
    {"status", "what the agent on this host is doing", tf_command_status},
    {"tap", "what would be shipped of files", tf_command_tap},
    {"redact", "lines from stdin, without their secrets", tf_command_redact},
    {"rules", "list, show, test, bench", tf_command_rules},
    {"replay", "find, or ship again, what the spool has kept", tf_command_replay},
    {"verify", "prove that a spool is whole and unchanged", tf_command_verify},
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

/* Which rules ship: their number, and the beginning of the SHA-256 of their files. */
static void print_rules(void)
{
    struct tf_redact_ruleset *set = NULL;
    uint8_t digest[EVP_MAX_MD_SIZE] = {0};
    EVP_MD_CTX *hash = EVP_MD_CTX_new();
    struct tf_error err;
    size_t count = 0;

    tf_error_init(&err);
    if (tf_redact_ruleset_new(NULL, &set, &err) == 0) {
        (void)tf_redact_ruleset_rules(set, &count);
    }
    if (hash != NULL && EVP_DigestInit_ex(hash, EVP_sha256(), NULL) == 1) {
        (void)EVP_DigestUpdate(hash, tf_redact_fragments.bytes, tf_redact_fragments.size);
        for (size_t i = 0; i < tf_redact_packs_count; i++) {
            (void)EVP_DigestUpdate(hash, tf_redact_packs[i].bytes, tf_redact_packs[i].size);
        }
        (void)EVP_DigestFinal_ex(hash, digest, NULL);
    }
    (void)printf(", %zu rules in %zu packs (sha256 %02x%02x%02x%02x)\n", count,
                 tf_redact_packs_count, digest[0], digest[1], digest[2], digest[3]);
    EVP_MD_CTX_free(hash);
    tf_redact_ruleset_free(set);
    tf_error_fini(&err);
}

/* What this binary is made of, for bug reports. */
static void print_version(void)
{
    const char *curl = tf_http_client_version();
    uint32_t jit = 0;
    char pcre2[64] = "";

    (void)pcre2_config(PCRE2_CONFIG_JIT, &jit);
    if (pcre2_config(PCRE2_CONFIG_VERSION, NULL) < (int)sizeof pcre2) {
        (void)pcre2_config(PCRE2_CONFIG_VERSION, pcre2);
    }
    pcre2[strcspn(pcre2, " ")] = '\0';
    (void)printf("taffrail %s (%s, %s), spool format 1", TF_VERSION, TF_REVISION, TF_BUILD_KIND);
    print_rules();
    (void)printf("libuv %s, OpenSSL %s, PCRE2 %s%s, zlib %s, libyaml %s, %s, %s%s\n",
                 uv_version_string(), OpenSSL_version(OPENSSL_VERSION_STRING), pcre2,
                 jit != 0 ? " JIT" : "", zlibVersion(), yaml_get_version_string(), ISAL,
                 curl != NULL ? "libcurl " : "no libcurl", curl != NULL ? curl : "");
}

/* `help COMMAND`, and -h at the end, are what other tools take as well. */
static void spell_help(int argc, char **argv)
{
    static char help[] = "--help";

    if (argc == 3 && strcmp(argv[1], "help") == 0) {
        argv[1] = argv[2];
        argv[2] = help;
    } else if (strcmp(argv[argc - 1], "-h") == 0 || (argc == 2 && strcmp(argv[1], "help") == 0)) {
        argv[argc - 1] = help;
    }
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        print_help(stderr);
        return 2;
    }
    spell_help(argc, argv);
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
