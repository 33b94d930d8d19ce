/*
 * verify.c - `taffrail verify`: prove that a spool is whole and unchanged, as far as that goes.
 *
 * Options and keys are read here; what is judged, and how, is agent/verify. A spool, a copy of one
 * or a single segment is only read: it may be in use, or on a medium that cannot be written. Keys
 * are --key, else those of -c, else SPOOL.key beside it; without any, what needs none is checked.
 * On a collector --receipts AGENT prints what it recorded of an agent, for --witness elsewhere.
 *
 * stdout is the verdict, or one JSON object; stderr is progress and errors. Exits 0: intact, a torn
 * tail or a recorded gap; 1: anything else; 2: usage or a file given with it; 3: the spool cannot
 * be read.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <openssl/evp.h>
#include <openssl/pem.h>

#include "../verify/verify.h"
#include "taffrail/commands.h"
#include "taffrail/config.h"

#define KEY_FILE_MAX_BYTES 4096u
#define PRINTED_MAX        (4u << 20)

static const char usage[] =
    "usage: taffrail verify SPOOL|SEGMENT [-c FILE] [--key FILE]... [--seal-key FILE]...\n"
    "                       [--passphrase-file FILE]\n"
    "                       [--witness FILE] [--receipt-key FILE]... [--expect SEQ] [--json]\n"
    "       taffrail verify --receipts AGENT SPOOL [-c FILE] [--key FILE]...\n"
    "Proves, as far as what is given can, that nothing was changed, dropped, moved or added.\n"
    "Reads only: a spool in use, a copy, one segment. docs/evidence.md tells what is proved.\n"
    "  --key          of the spool, or an auditor's private key (PEM); else those of -c, else\n"
    "                 SPOOL.key beside it\n"
    "  --passphrase-file  of the auditor's key\n"
    "  --seal-key     a file with the text that pki seal showed\n"
    "  --witness      what verify --receipts printed on the collector\n"
    "  --receipt-key  a collector's public key (PEM)\n"
    "  --expect       fail unless this frame, RUN/N, is kept\n"
    "  --receipts     print what this collector has of the agent whose id begins so\n"
    "  --json         one object\n"
    "examples: taffrail verify /var/lib/taffrail/spool --seal-key seal.key\n"
    "          taffrail verify --receipts 7f3c91d2 /var/lib/taffrail/spool >receipts.ndjson\n"
    "exit: 0 intact, torn tail or recorded gap; 1 anything else; 2 usage; 3 cannot be read\n";

struct command {
    const char *path, *config, *witness, *receipts;
    const char *keys[TF_SPOOL_KEYS_MAX], *seal_files[TF_VERIFY_SEAL_KEYS_MAX];
    const char *receipt_files[TF_VERIFY_RECEIPT_KEYS_MAX];
    size_t key_count, seal_count, receipt_count;
    const char *passphrase_file;
    bool has_expect, as_json;
    uint64_t expect;

    struct tf_keyring *ring;
    struct tf_seal_key *seal_keys; /* in the secure heap */
    uint8_t receipt_keys[TF_VERIFY_RECEIPT_KEYS_MAX][TF_RECEIPT_KEY_BYTES];
    struct tf_error err;
    struct tf_progress progress;
};

/* ---- options -------------------------------------------------------------------------------- */

static int wrong_usage(const char *option, const char *why)
{
    (void)fprintf(stderr, "verify: %s%s\n%s", option, why, usage);
    return TF_EXIT_USAGE;
}

static int add_file(const char **files, size_t *count, size_t most, const char *option,
                    const char *file)
{
    if (*count == most) {
        return wrong_usage(option, " is given too often");
    }
    files[(*count)++] = file;
    return TF_EXIT_FINE;
}

/* An option with a value. Returns TF_EXIT_FINE or TF_EXIT_USAGE. */
static int take_option(struct command *command, const char *option, const char *value)
{
    if (strcmp(option, "-c") == 0) {
        command->config = value;
    } else if (strcmp(option, "--key") == 0) {
        return add_file(command->keys, &command->key_count, TF_COUNT(command->keys), option, value);
    } else if (strcmp(option, "--seal-key") == 0) {
        return add_file(command->seal_files, &command->seal_count, TF_COUNT(command->seal_files),
                        option, value);
    } else if (strcmp(option, "--receipt-key") == 0) {
        return add_file(command->receipt_files, &command->receipt_count,
                        TF_COUNT(command->receipt_files), option, value);
    } else if (strcmp(option, "--witness") == 0) {
        command->witness = value;
    } else if (strcmp(option, "--passphrase-file") == 0) {
        command->passphrase_file = value;
    } else if (strcmp(option, "--receipts") == 0) {
        command->receipts = value;
        if (value[0] == '\0' || value[strspn(value, "0123456789abcdef")] != '\0') {
            return wrong_usage(option, " takes the first hex digits of a spool id, as the agent's "
                                       "log shows them");
        }
    } else if (strcmp(option, "--expect") == 0) {
        command->has_expect = true;
        if (!tf_verify_seq(tf_slice_text(value), &command->expect)) {
            return wrong_usage(option, " takes a frame number, such as 3/41870");
        }
    } else {
        return wrong_usage(option, " is no option of it");
    }
    return TF_EXIT_FINE;
}

static int parse_options(int argc, char **argv, struct command *command)
{
    bool only_paths = false;

    for (int i = 1; i < argc; i++) {
        const char *word = argv[i];

        if (only_paths || word[0] != '-' || word[1] == '\0') {
            if (command->path != NULL) {
                return wrong_usage(word, ": name one spool or segment");
            }
            command->path = word;
        } else if (strcmp(word, "--") == 0) {
            only_paths = true;
        } else if (strcmp(word, "--json") == 0) {
            command->as_json = true;
        } else if (i + 1 == argc) {
            return wrong_usage(word, " takes a value, or is no option of it");
        } else if (take_option(command, word, argv[++i]) != TF_EXIT_FINE) {
            return TF_EXIT_USAGE;
        }
    }
    return command->path != NULL ? TF_EXIT_FINE
                                 : wrong_usage("", "name a spool's directory, or a segment");
}

/* ---- keys ----------------------------------------------------------------------------------- */

/* SPOOL.key stands beside the spool that a segment is in, too. */
static char *spool_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    size_t size = strlen(path);

    if (size < 4 || strcmp(path + size - 4, ".seg") != 0) {
        return strdup(path);
    }
    return slash == NULL || slash == path ? strdup(".") : strndup(path, (size_t)(slash - path));
}

static int load_keys(struct command *command)
{
    struct tf_config *config = NULL;
    struct tf_reader_keys from = {.files = command->keys,
                                  .file_count = command->key_count,
                                  .passphrase_file = command->passphrase_file};
    char *spool = spool_of(command->path);
    int rc = spool == NULL ? -ENOMEM : 0;

    if (rc == 0 && command->config != NULL) {
        rc = tf_config_load(command->config, &tf_plugins, &config, &command->err);
        from.options = config != NULL ? &config->spool : NULL;
    }
    if (rc == 0) {
        from.spool_path = spool;
        rc = tf_reader_keys_load(&from, &command->ring, &command->err);
        rc = rc == -ENOENT ? 0 : rc;
    }
    free(spool);
    tf_config_free(config);
    return rc;
}

static int load_seal_key(struct command *command, const char *file, struct tf_seal_key *out)
{
    struct tf_place at = {.file = file};
    struct tf_buf text;
    int rc;

    tf_buf_init(&text, KEY_FILE_MAX_BYTES);
    rc = tf_config_read_file(file, &text);
    if (rc < 0) {
        char reason[64];

        rc = tf_error_add(&command->err, &at, "%s", uv_strerror_r(rc, reason, sizeof reason));
    } else {
        while (text.size > 0 && strchr("\r\n\t ", text.data[text.size - 1]) != NULL) {
            text.size--;
        }
        if (tf_seal_text_parse(tf_buf_slice(&text), out) < 0) {
            rc = tf_error_add(&command->err, &at,
                              "not a verification key, TFS1-…, as `taffrail pki seal` shows it; "
                              "look for a letter that was copied wrong");
        }
    }
    if (text.data != NULL) {
        explicit_bzero(text.data, text.capacity);
    }
    tf_buf_fini(&text);
    return rc;
}

static int load_seal_keys(struct command *command)
{
    int rc = 0;

    command->seal_keys = tf_secure_new(TF_VERIFY_SEAL_KEYS_MAX * sizeof *command->seal_keys);
    if (command->seal_keys == NULL) {
        return -ENOMEM;
    }
    for (size_t i = 0; i < command->seal_count; i++) {
        int one = load_seal_key(command, command->seal_files[i], &command->seal_keys[i]);

        rc = one < 0 ? one : rc;
    }
    return rc;
}

static int load_receipt_key(struct command *command, const char *file, uint8_t *out)
{
    struct tf_place at = {.file = file};
    FILE *from = fopen(file, "re");
    EVP_PKEY *key = from == NULL ? NULL : PEM_read_PUBKEY(from, NULL, NULL, NULL);
    size_t size = TF_RECEIPT_KEY_BYTES;
    bool ok = key != NULL && EVP_PKEY_get_id(key) == EVP_PKEY_ED25519 &&
              EVP_PKEY_get_raw_public_key(key, out, &size) == 1 && size == TF_RECEIPT_KEY_BYTES;

    EVP_PKEY_free(key);
    if (from != NULL) {
        (void)fclose(from);
    }
    return ok ? 0
              : tf_error_add(
                    &command->err, &at,
                    "not an Ed25519 public key in PEM; on the collector: `openssl pkey -in "
                    "SPOOL.receipt-key -pubout`");
}

static int load_all(struct command *command)
{
    int rc = load_keys(command);
    int seals = load_seal_keys(command);

    rc = seals < 0 ? seals : rc;
    for (size_t i = 0; i < command->receipt_count; i++) {
        int one = load_receipt_key(command, command->receipt_files[i], command->receipt_keys[i]);

        rc = one < 0 ? one : rc;
    }
    return rc;
}

/* ---- what it does --------------------------------------------------------------------------- */

static int print(struct command *command, const struct tf_verify_report *report)
{
    struct tf_buf out;
    int rc = TF_EXIT_CANNOT_RUN;
    char reason[64];

    tf_buf_init(&out, PRINTED_MAX);
    if (command->as_json) {
        tf_verify_print_json(report, &out);
    } else {
        tf_verify_print(report, &out);
    }
    if (out.error == 0 && fwrite(out.data, 1, out.size, stdout) == out.size &&
        fflush(stdout) == 0) {
        rc = tf_verify_outcome(report) == 0 ? TF_EXIT_FINE : TF_EXIT_FOUND;
    } else {
        (void)tf_error_add(
            &command->err, NULL, "standard output: %s",
            uv_strerror_r(out.error != 0 ? out.error : -errno, reason, sizeof reason));
    }
    tf_buf_fini(&out);
    return rc;
}

static int verify(struct command *command)
{
    struct tf_verify_options options = {.path = command->path,
                                        .ring = command->ring,
                                        .seal_keys = command->seal_keys,
                                        .seal_key_count = command->seal_count,
                                        .receipt_keys = (const void *)command->receipt_keys,
                                        .receipt_key_count = command->receipt_count,
                                        .witness = command->witness,
                                        .has_expect = command->has_expect,
                                        .expect = command->expect};
    struct tf_verify_report *report = calloc(1, sizeof *report);
    int rc = report == NULL ? -ENOMEM : 0;

    if (rc == 0) {
        rc = tf_verify_run(&options, &command->progress, report, &command->err);
    }
    tf_progress_end(&command->progress);
    if (rc == 0) {
        rc = print(command, report);
    } else {
        rc = rc == -EINVAL ? TF_EXIT_USAGE : TF_EXIT_CANNOT_RUN;
    }
    free(report);
    return rc;
}

static int export_receipts(struct command *command)
{
    struct tf_receipts_job job = {.path = command->path,
                                  .agent = command->receipts,
                                  .ring = command->ring,
                                  .out_fd = STDOUT_FILENO};
    int rc;

    if (command->ring == NULL) {
        return wrong_usage("--receipts", " needs the collector's spool key");
    }
    (void)signal(SIGPIPE, SIG_IGN); /* write tells it */
    rc = tf_verify_receipts(&job, &command->progress, &command->err);
    tf_progress_end(&command->progress);
    if (rc < 0 && command->err.count == 0) {
        char reason[64];

        (void)tf_error_add(&command->err, NULL, "standard output: %s",
                           uv_strerror_r(rc, reason, sizeof reason));
    }
    if (rc >= 0) {
        char frames[TF_COUNTED_TEXT_BYTES];

        (void)fprintf(stderr, "verify: %s received of agent %s\n",
                      tf_counted_text(job.records, "frame", frames), job.agent);
    }
    return rc < 0 ? TF_EXIT_CANNOT_RUN : rc == 0 ? TF_EXIT_FINE : TF_EXIT_FOUND;
}

int tf_command_verify(int argc, char **argv)
{
    static struct command command;
    int outcome;

    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
        if (strcmp(argv[i], "--help") == 0) {
            (void)fputs(usage, stdout);
            return TF_EXIT_FINE;
        }
    }
    outcome = parse_options(argc, argv, &command);
    if (outcome != TF_EXIT_FINE) {
        return outcome;
    }
    tf_error_init(&command.err);
    tf_progress_begin(&command.progress, "verify", 0);
    if (load_all(&command) < 0) {
        outcome = TF_EXIT_USAGE;
    } else {
        outcome = command.receipts != NULL ? export_receipts(&command) : verify(&command);
    }
    (void)tf_error_print(&command.err, stderr);
    tf_error_fini(&command.err);
    tf_keyring_free(command.ring);
    tf_secure_free(command.seal_keys, TF_VERIFY_SEAL_KEYS_MAX * sizeof *command.seal_keys);
    return outcome;
}
