/*
 * pki_seal.c - `taffrail pki seal`: the first key of a spool's seals.
 *
 * Made before the first start or while the agent is stopped (the spool's lock says so). The node
 * keeps only the key's current successor; the verification key, which makes them all, is shown once
 * on stdout, or written to a new file of mode 0600 before the spool is changed. The next start
 * begins to seal. A key that exists is not replaced, but by --renew, which begins a new series.
 *
 * Exits 0; 2 on wrong usage, a configuration that does not load, a key that is there already; 3
 * when it could not run: an agent has the lock, the disk refuses, the key could not be shown.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <openssl/crypto.h>

#include "taffrail/commands.h"
#include "taffrail/pipeline.h"
#include "taffrail/spool.h"

#define TEXT_MAX_BYTES 128u
#define PATH_MAX_BYTES 4096u

static const char usage[] =
    "usage: taffrail pki seal [-c FILE | SPOOL] [--renew] [--out FILE]\n"
    "Makes the first key of a spool's seals, and shows the verification key once. The agent must "
    "be\n"
    "stopped, or never have run; its next start begins to seal.\n"
    "  -c FILE     configuration that names the spool (" TF_CONFIG_FILE_DEFAULT ")\n"
    "  SPOOL       the spool's folder\n"
    "  --renew     begin a new series, where the key's state was lost\n"
    "  --out FILE  write the verification key to a new file, mode 0600, instead of showing it\n"
    "exit: 0 made, 2 usage, configuration, or there is a key already, 3 it could not run\n"
    "example: systemctl stop taffrail && taffrail pki seal /var/lib/taffrail/spool &&\n"
    "         systemctl start taffrail\n";

struct seal_command {
    const char *config_file, *spool, *out_file;
    bool renew, made_file;
    char text[TEXT_MAX_BYTES]; /* of the key; wiped */
};

static int bad_usage(const char *what)
{
    (void)fprintf(stderr, "pki seal: %s\n%s", what, usage);
    return TF_EXIT_USAGE;
}

static int take_value(int argc, char **argv, int *i, const char **value)
{
    if (*value != NULL || *i + 1 == argc) {
        return -EINVAL;
    }
    *value = argv[++*i];
    return 0;
}

static int parse(int argc, char **argv, struct seal_command *command)
{
    for (int i = 1; i < argc; i++) {
        int rc = 0;

        if (strcmp(argv[i], "-c") == 0) {
            rc = take_value(argc, argv, &i, &command->config_file);
        } else if (strcmp(argv[i], "--out") == 0) {
            rc = take_value(argc, argv, &i, &command->out_file);
        } else if (strcmp(argv[i], "--renew") == 0) {
            command->renew = true;
        } else if (argv[i][0] == '-' || command->spool != NULL) {
            rc = -EINVAL;
        } else {
            command->spool = argv[i];
        }
        if (rc < 0) {
            return bad_usage("an argument is not understood, or lacks its value");
        }
    }
    if (command->spool != NULL && command->config_file != NULL) {
        return bad_usage("name the spool, or a configuration");
    }
    return TF_EXIT_FINE;
}

/* The file's name is to last too: it holds the only copy. 0 or errno. */
static int sync_folder(const char *path)
{
    char folder[PATH_MAX_BYTES];
    const char *slash = strrchr(path, '/');
    int fd, error;

    (void)snprintf(folder, sizeof folder, "%.*s", slash == NULL ? 1 : (int)(slash - path) + 1,
                   slash == NULL ? "." : path);
    fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    error = fd < 0 || fsync(fd) < 0 ? errno : 0;
    if (fd >= 0) {
        (void)close(fd);
    }
    return error;
}

/* Writes the key to the file that --out names; -errno, told. */
static int write_file(struct seal_command *command)
{
    size_t size = strlen(command->text);
    char reason[128];
    int fd = open(command->out_file, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    int error = fd < 0 ? errno : 0;

    if (fd >= 0) {
        command->made_file = true;
        command->text[size] = '\n'; /* there is room: see keep_text */
        error = write(fd, command->text, size + 1) != (ssize_t)size + 1 ? EIO
                : fsync(fd) < 0                                         ? errno
                                                                        : 0;
        (void)close(fd);
        error = error == 0 ? sync_folder(command->out_file) : error;
    }
    if (error != 0) {
        (void)fprintf(stderr, "pki seal: %s: %s; nothing is overwritten, take another name\n",
                      command->out_file, strerror_r(error, reason, sizeof reason));
    }
    return -error;
}

static int keep_text(void *ctx, const char *text)
{
    struct seal_command *command = ctx;
    size_t size = strlen(text);

    if (size + 2 > sizeof command->text) {
        return -EMSGSIZE;
    }
    memcpy(command->text, text, size + 1);
    return command->out_file == NULL ? 0 : write_file(command);
}

/* Returns the exit code. */
static int tell(const struct seal_command *command, uint64_t first_seq)
{
    if (command->out_file == NULL) {
        (void)printf("The verification key of this spool, shown once and stored nowhere:\n    %s\n",
                     command->text);
    } else {
        (void)printf("%s (0600)   the verification key of this spool, stored nowhere else\n",
                     command->out_file);
    }
    (void)printf("Keep it away from this machine; `taffrail verify --seal-key FILE` proves with it "
                 "what was written before a break-in. Sealing from frame %llu/%llu on.\n",
                 (unsigned long long)TF_SEQ_RUN(first_seq),
                 (unsigned long long)TF_SEQ_N(first_seq));
    if (fflush(stdout) != 0) {
        (void)fprintf(stderr, "pki seal: the key is made, and could not be shown; make another "
                              "one: pki seal --renew\n");
        return TF_EXIT_CANNOT_RUN;
    }
    return TF_EXIT_FINE;
}

static int begin(struct seal_command *command, const struct tf_spool_options *options,
                 struct tf_error *err)
{
    const struct tf_seal_begin begin = {
        .options = options, .renew = command->renew, .keep = keep_text, .ctx = command};
    uint64_t first_seq = 0;
    int rc = tf_spool_seal_begin(&begin, &first_seq, err);

    if (rc == 0) {
        return tell(command, first_seq);
    }
    if (command->made_file) {
        (void)unlink(command->out_file); /* it is the key of nothing */
    }
    (void)tf_error_print(err, stderr);
    return rc == -EINVAL || rc == -EEXIST ? TF_EXIT_USAGE : TF_EXIT_CANNOT_RUN;
}

int tf_command_pki_seal(int argc, char **argv)
{
    struct seal_command command = {0};
    struct tf_spool_options options = {0};
    struct tf_config *config = NULL;
    struct tf_error err;
    int rc;

    if (argc == 2 && strcmp(argv[1], "--help") == 0) {
        (void)fputs(usage, stdout);
        return TF_EXIT_FINE;
    }
    rc = parse(argc, argv, &command);
    if (rc != TF_EXIT_FINE) {
        return rc;
    }
    tf_error_init(&err);
    if (command.spool != NULL) {
        options.path.text = command.spool;
    } else if (tf_config_load(command.config_file == NULL ? TF_CONFIG_FILE_DEFAULT
                                                          : command.config_file,
                              &tf_plugins, &config, &err) == 0) {
        options = config->spool;
    } else {
        (void)tf_error_print(&err, stderr);
        rc = TF_EXIT_USAGE;
    }
    if (rc == TF_EXIT_FINE) {
        rc = begin(&command, &options, &err);
    }
    OPENSSL_cleanse(&command, sizeof command);
    tf_config_free(config);
    tf_error_fini(&err);
    return rc;
}
