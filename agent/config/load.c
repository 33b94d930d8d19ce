/*
 * load.c - the file: read, parsed, and its sections put together.
 *
 *     agent, spool, sandbox, admin a map each, by the tables below; may be absent
 *     inputs, filters, outputs     lists.c; outputs are never empty, inputs only where `[]` says so
 *
 * All errors are found in one run, each with its place; a file with any gives no configuration.
 */
#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <openssl/sha.h>
#include <uv.h>

#include "taffrail/log.h"

#define HOST_MAX_BYTES 255u
#define LABELS_MAX     64u
#define READ_BYTES     65536u

/* ---- option tables -------------------------------------------------------------------------- */

static const struct tf_option log_options[] = {
    {.name = "level",
     .type = TF_OPTION_CHOICE,
     .offset = offsetof(struct tf_agent_options, log_level),
     .def = "info",
     .choices = "debug|info|warn|error",
     .about = "the least level of the own log that is written"},
    {.name = "format",
     .type = TF_OPTION_CHOICE,
     .offset = offsetof(struct tf_agent_options, log_format),
     .def = "logfmt",
     .choices = "logfmt|json",
     .about = "how the own log is written, on stderr"},
    {0},
};

static const struct tf_option agent_options[] = {
    {.name = "host",
     .type = TF_OPTION_TEXT,
     .offset = offsetof(struct tf_agent_options, host),
     .about = "on each record but received ones; by default the kernel's host name"},
    {.name = "labels",
     .type = TF_OPTION_MAP,
     .offset = offsetof(struct tf_agent_options, labels),
     .about = "on each record but received ones"},
    {.name = "log",
     .type = TF_OPTION_TABLE,
     .offset = 0, /* its members are the agent's */
     .table = log_options,
     .about = "the own log"},
    {.name = "workers",
     .type = TF_OPTION_COUNT,
     .offset = offsetof(struct tf_agent_options, workers),
     .min = 1,
     .max = 16,
     .about = "jobs at once that read, redact and encode; by default the cores, at most 4"},
    {.name = "stop_timeout",
     .type = TF_OPTION_TIME,
     .offset = offsetof(struct tf_agent_options, stop_timeout_ms),
     .def = "10s",
     .max = 3600000,
     .about = "how long a stop waits for acknowledgements"},
    {0},
};

static const struct tf_option retain_options[] = {
    {.name = "age",
     .type = TF_OPTION_TIME,
     .offset = offsetof(struct tf_spool_options, retain_age_ms),
     .def = "0s",
     .about = "how long delivered segments are kept"},
    {.name = "size",
     .type = TF_OPTION_SIZE,
     .offset = offsetof(struct tf_spool_options, retain_size_bytes),
     .def = "0",
     .about = "how much of what is delivered is kept"},
    {0},
};

static const struct tf_option spool_options[] = {
    {.name = "path",
     .type = TF_OPTION_PATH,
     .offset = offsetof(struct tf_spool_options, path),
     .def = "/var/lib/taffrail/spool",
     .about = "folder of the spool"},
    {.name = "max_size",
     .type = TF_OPTION_SIZE,
     .offset = offsetof(struct tf_spool_options, max_size_bytes),
     .def = "1GiB",
     .min = 1 << 20,
     .about = "bound of what is not yet delivered"},
    {.name = "keep_free",
     .type = TF_OPTION_SIZE,
     .offset = offsetof(struct tf_spool_options, keep_free_bytes),
     .def = "1GiB",
     .about = "what is left free on its disk"},
    {.name = "on_full",
     .type = TF_OPTION_CHOICE,
     .offset = offsetof(struct tf_spool_options, on_full),
     .def = "pause",
     .choices = "pause|drop_oldest",
     .about = "what happens at one of these bounds"},
    {.name = "sync",
     .type = TF_OPTION_SYNC,
     .offset = offsetof(struct tf_spool_options, sync),
     .def = "200ms",
     .min = 1,
     .max = 60000,
     .about = "how long a record waits for its frame to be closed, synced and sent"},
    {.name = "keys",
     .type = TF_OPTION_PATHS,
     .offset = offsetof(struct tf_spool_options, keys),
     .about = "key files: the first encrypts, the others still read"},
    {.name = "auditor",
     .type = TF_OPTION_PATH,
     .offset = offsetof(struct tf_spool_options, auditor),
     .about = "X25519 public key in PEM: its owner is the only reader of what is kept"},
    {.name = "seal",
     .type = TF_OPTION_CHOICE,
     .offset = offsetof(struct tf_spool_options, seal),
     .def = "auto",
     .choices = "auto|required|off",
     .about = "auto seals once pki seal has made the first key; required does not start without"},
    {.name = "retain",
     .type = TF_OPTION_TABLE,
     .offset = 0, /* its members are the spool's */
     .table = retain_options,
     .about = "what is kept of what is delivered"},
    {.name = "shred",
     .type = TF_OPTION_SWITCH,
     .offset = offsetof(struct tf_spool_options, shred),
     .def = "true",
     .about = "a segment's keys are destroyed before it is deleted"},
    {.name = "compress",
     .type = TF_OPTION_CHOICE,
     .offset = offsetof(struct tf_spool_options, compress),
     .def = "auto",
     .choices = "auto|isal|zlib",
     .about = "the library that compresses"},
    {.name = "segment_size",
     .type = TF_OPTION_SIZE,
     .offset = offsetof(struct tf_spool_options, segment_size_bytes),
     .def = "64MiB",
     .min = 1 << 20,
     .max = UINT64_C(768) << 20,
     .about = "size at which a segment is closed and the next begins"},
    {0},
};

static const struct tf_option sandbox_options[] = {
    {.name = "mode",
     .type = TF_OPTION_CHOICE,
     .offset = offsetof(struct tf_sandbox_options, mode),
     .def = "normal",
     .choices = "normal|strict",
     .about = "system calls: those without use here are refused, or only those of a list allowed"},
    {.name = "opener",
     .type = TF_OPTION_CHOICE,
     .offset = offsetof(struct tf_sandbox_options, opener),
     .def = "on",
     .choices = "on|off",
     .about =
         "a process of its own opens the logs of container inputs, and the agent can open none"},
    {.name = "required",
     .type = TF_OPTION_SWITCH,
     .offset = offsetof(struct tf_sandbox_options, required),
     .def = "false",
     .about = "the agent does not start where a layer of its sandbox is missing"},
    {.name = "user",
     .type = TF_OPTION_TEXT,
     .offset = offsetof(struct tf_sandbox_options, user),
     .about = "whom an agent that is started by root becomes; by default it stays root"},
    {0},
};

static const struct tf_option admin_options[] = {
    {.name = "listen",
     .type = TF_OPTION_TEXTS,
     .offset = offsetof(struct tf_admin_options, listen),
     .def = "unix:/run/taffrail/admin.sock",
     .about = "where metrics and status are read: unix:PATH, ADDRESS:PORT, or off"},
    {.name = "tls",
     .type = TF_OPTION_TABLE,
     .offset = offsetof(struct tf_admin_options, tls),
     .table = tf_tls_option_table,
     .present_offset = offsetof(struct tf_admin_options, has_tls),
     .about = "for ADDRESS:PORT: who reads must have a certificate of ca"},
    {0},
};

/* ---- sections ------------------------------------------------------------------------------- */

const struct tf_option tf_config_sections[] = {
    {.name = "agent",
     .type = TF_OPTION_TABLE,
     .offset = offsetof(struct tf_config, agent),
     .table = agent_options},
    {.name = "spool",
     .type = TF_OPTION_TABLE,
     .offset = offsetof(struct tf_config, spool),
     .table = spool_options},
    {.name = "sandbox",
     .type = TF_OPTION_TABLE,
     .offset = offsetof(struct tf_config, sandbox),
     .table = sandbox_options},
    {.name = "admin",
     .type = TF_OPTION_TABLE,
     .offset = offsetof(struct tf_config, admin),
     .table = admin_options},
    {0},
};

static const char *const section_names[TF_CONFIG_SECTIONS] = {
    "agent", "inputs", "filters", "spool", "sandbox", "outputs", "admin"};

static const char *section_word(const void *words, size_t index)
{
    (void)words;
    return section_names[index];
}

static void refuse_unknown_sections(struct tf_load *load, const struct tf_yaml *root)
{
    for (const struct tf_yaml *node = root->first; node != NULL; node = node->next) {
        size_t i = 0;

        while (i < TF_COUNT(section_names) && strcmp(section_names[i], node->key) != 0) {
            i++;
        }
        if (i == TF_COUNT(section_names)) {
            (void)tf_error_add(
                load->reader.err, &node->key_at, "unknown section %s; %s", tf_quote(node->key).text,
                tf_hint_nearest(node->key, NULL, TF_COUNT(section_names), section_word).text);
        }
    }
}

static void take_kernel_host(struct tf_load *load, struct tf_text *host)
{
    char name[HOST_MAX_BYTES + 1] = "";

    if (gethostname(name, sizeof name - 1) < 0 || name[0] == '\0') {
        (void)tf_error_add(load->reader.err, &(struct tf_place){.file = load->config->file},
                           "agent.host: the kernel has no host name; write one");
        return;
    }
    *host = (struct tf_text){.text = tf_reader_copy(&load->reader, name, strlen(name))};
}

static bool has_control(const char *text)
{
    bool has = false;

    for (; *text != '\0'; text++) {
        has |= (uint8_t)*text < ' ' || *text == 0x7f;
    }
    return has;
}

static void check_agent(struct tf_load *load, bool has_host)
{
    struct tf_agent_options *agent = &load->config->agent;
    const char *host = agent->host.text;

    if (!has_host) {
        take_kernel_host(load, &agent->host);
    } else if (host != NULL &&
               (host[0] == '\0' || strlen(host) > HOST_MAX_BYTES || has_control(host))) {
        (void)tf_error_add(load->reader.err, &agent->host.at,
                           "agent.host: a host name has 1 to %u bytes and no control characters",
                           HOST_MAX_BYTES);
    }
    if (agent->labels.count > LABELS_MAX) {
        (void)tf_error_add(load->reader.err, &agent->labels.at,
                           "agent.labels: %zu are too many; write %u or less", agent->labels.count,
                           LABELS_MAX);
    }
}

static void check_spool(struct tf_load *load, const struct tf_yaml *node)
{
    const struct tf_spool_options *spool = &load->config->spool;
    const struct tf_yaml *on_full = tf_yaml_get(node, "on_full"), *sync = tf_yaml_get(node, "sync");

    if (on_full != NULL && spool->on_full == TF_ON_FULL_DROP_OLDEST) {
        tf_warning_add(load->reader.err, &on_full->at,
                       "spool.on_full is drop_oldest: when the spool is full, the oldest records "
                       "are deleted unsent; outputs are told how many");
    }
    if (sync != NULL && spool->sync.mode == TF_SYNC_NEVER) {
        tf_warning_add(load->reader.err, &sync->at,
                       "spool.sync is never: when the machine fails, what the kernel had not "
                       "written is lost");
    }
}

/* `off` stands alone. Addresses are looked at when they are listened on. */
static void check_admin(struct tf_load *load, const struct tf_yaml *node)
{
    struct tf_admin_options *admin = &load->config->admin;

    admin->is_written = tf_yaml_get(node, "listen") != NULL;
    if (admin->listen.count > TF_ADMIN_ADDRESSES_MAX) {
        (void)tf_error_add(load->reader.err, &admin->listen.at,
                           "admin.listen: %zu addresses are too many; write %u or less",
                           admin->listen.count, TF_ADMIN_ADDRESSES_MAX);
    }
    for (size_t i = 0; i < admin->listen.count; i++) {
        const struct tf_text *item = &admin->listen.items[i];

        if (item->text != NULL && strcmp(item->text, "off") == 0 && admin->listen.count > 1) {
            (void)tf_error_add(load->reader.err, &item->at,
                               "admin.listen: off stands alone; leave it, or the addresses");
        }
    }
    if (admin->listen.count == 1 && admin->listen.items[0].text != NULL &&
        strcmp(admin->listen.items[0].text, "off") == 0) {
        admin->listen.count = 0;
    }
}

static void check_sandbox(struct tf_load *load, const struct tf_yaml *node)
{
    struct tf_sandbox_options *sandbox = &load->config->sandbox;

    sandbox->at = node != NULL ? node->key_at : (struct tf_place){.file = load->config->file};
    if (sandbox->user.text != NULL && sandbox->user.text[0] == '\0') {
        (void)tf_error_add(load->reader.err, &sandbox->user.at,
                           "sandbox.user is empty; name a user, or leave the key out");
    }
}

/* ---- what it says --------------------------------------------------------------------------- */

/* FNV-1a: it tells what was changed, not who may have changed it. */
static uint64_t hash_bytes(uint64_t hash, const void *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        hash = (hash ^ ((const unsigned char *)bytes)[i]) * UINT64_C(0x100000001b3);
    }
    return hash;
}

static uint64_t hash_text(uint64_t hash, const char *text)
{
    return hash_bytes(hash, text != NULL ? text : "", text != NULL ? strlen(text) + 1 : 1);
}

/* Types and counts make two trees of the same texts differ. Depth: TF_YAML_DEPTH_MAX. */
static uint64_t hash_node(uint64_t hash,
                          const struct tf_yaml *node) // NOLINT(misc-no-recursion)
{
    hash = hash_bytes(hash, &node->type, sizeof node->type);
    hash = hash_bytes(hash, &node->count, sizeof node->count);
    hash = hash_text(hash, node->key);
    hash = hash_text(hash, node->text);
    for (const struct tf_yaml *below = node->first; below != NULL; below = below->next) {
        hash = hash_node(hash, below);
    }
    return hash;
}

static void mark_sections(const struct tf_yaml *root, struct tf_config_mark *mark)
{
    for (size_t i = 0; i < TF_CONFIG_SECTIONS; i++) {
        const struct tf_yaml *section = tf_yaml_get(root, section_names[i]);

        if (section != NULL) {
            mark->sections[i] = hash_node(UINT64_C(0xcbf29ce484222325), section);
        }
    }
}

void tf_config_digest(const struct tf_config_mark *mark, char text[TF_CONFIG_DIGEST_BYTES])
{
    for (int i = 0; i < 3; i++) {
        (void)snprintf(text + 2 * i, 3, "%02x", mark->digest[i]);
    }
}

void tf_config_changed(const struct tf_config_mark *before, const struct tf_config_mark *after,
                       char names[TF_CONFIG_NAMES_BYTES])
{
    size_t size = 0;

    (void)snprintf(names, TF_CONFIG_NAMES_BYTES, "nothing");
    for (size_t i = 0; i < TF_CONFIG_SECTIONS; i++) {
        if (before->sections[i] != after->sections[i]) {
            size += (size_t)snprintf(names + size, TF_CONFIG_NAMES_BYTES - size, "%s%s",
                                     size > 0 ? "," : "", section_names[i]);
        }
    }
}

/* ---- the root ------------------------------------------------------------------------------- */

static void read_root(struct tf_load *load, const struct tf_yaml *root)
{
    struct tf_config *config = load->config;
    const struct tf_scope scope = {
        .reader = &load->reader, .prefix = "", .at = {.file = config->file}};

    if (root->type != TF_YAML_MAP) {
        if (root->type != TF_YAML_BAD) {
            (void)tf_error_add(load->reader.err, &root->at,
                               "the file is not a map; it needs inputs and outputs");
        }
        return;
    }
    refuse_unknown_sections(load, root);
    mark_sections(root, &config->mark);
    tf_options_fill(&scope, tf_config_sections, root, config);
    check_agent(load, tf_yaml_get(tf_yaml_get(root, "agent"), "host") != NULL);
    check_spool(load, tf_yaml_get(root, "spool"));
    check_sandbox(load, tf_yaml_get(root, "sandbox"));
    check_admin(load, tf_yaml_get(root, "admin"));
    tf_lists_read(load, root);
}

/* ---- the file ------------------------------------------------------------------------------- */

/* Reads into config, which lies in arena. */
static int parse_into(struct tf_load *load, struct tf_slice yaml)
{
    struct tf_yaml *root = NULL;
    size_t errors_before = load->reader.err->errors;
    int rc;

    if (yaml.size > TF_CONFIG_FILE_MAX) {
        return tf_error_add(load->reader.err, &(struct tf_place){.file = load->config->file},
                            "larger than %u bytes; no configuration needs so many",
                            TF_CONFIG_FILE_MAX);
    }
    (void)SHA256((const unsigned char *)yaml.data, yaml.size, load->config->mark.digest);
    rc = tf_yaml_parse(yaml, load->config->file, load->reader.arena, &root, load->reader.err);
    if (rc == -ENODATA) {
        return tf_error_add(load->reader.err, &(struct tf_place){.file = load->config->file},
                            "the file is empty; it needs inputs and outputs");
    }
    if (rc < 0) {
        return rc;
    }
    read_root(load, root);
    if (load->reader.no_memory) {
        return -ENOMEM;
    }
    return load->reader.err->errors > errors_before ? -EINVAL : 0;
}

int tf_config_parse(struct tf_slice yaml, const char *file, const char *folder,
                    const struct tf_plugins *plugins, struct tf_config **out, struct tf_error *err)
{
    void *arena = tf_arena_new();
    struct tf_load load = {.reader = {.folder = folder, .arena = arena, .err = err},
                           .plugins = plugins};
    int rc = -ENOMEM;

    if (arena == NULL) {
        return -ENOMEM;
    }
    load.config = tf_reader_alloc(&load.reader, sizeof *load.config);
    if (load.config != NULL) {
        load.config->arena = arena;
        load.config->file = tf_reader_copy(&load.reader, file, strlen(file));
        rc = load.config->file != NULL ? parse_into(&load, yaml) : -ENOMEM;
    }
    if (rc == 0) {
        *out = load.config;
    } else {
        tf_arena_free(arena);
    }
    return rc;
}

int tf_config_read_file(const char *file, struct tf_buf *out)
{
    int fd = open(file, O_RDONLY | O_CLOEXEC), rc = 0;
    ssize_t got = 1;

    if (fd < 0) {
        return -errno;
    }
    while (got != 0 && rc == 0) {
        size_t room = out->limit_bytes - out->size;

        room = room < READ_BYTES ? room : READ_BYTES;
        rc = room > 0 ? tf_buf_reserve(out, room) : -EMSGSIZE;
        got = rc == 0 ? read(fd, out->data + out->size, room) : 0;
        if (got < 0 && errno != EINTR) {
            rc = -errno;
        }
        out->size += got > 0 ? (size_t)got : 0;
    }
    (void)close(fd);
    return rc;
}

/* The folder of file as an absolute path, new; links in it stay. NULL with errno. */
static char *folder_of(const char *file)
{
    const char *slash = strrchr(file, '/');
    size_t size = slash != NULL ? (size_t)(slash - file) : 0;
    char *here = file[0] != '/' ? getcwd(NULL, 0) : strdup("");
    char *folder = NULL;

    if (here != NULL && asprintf(&folder, "%s%s%.*s", here, file[0] != '/' && size > 0 ? "/" : "",
                                 (int)size, file) < 0) {
        folder = NULL;
        errno = ENOMEM;
    }
    free(here);
    return folder;
}

int tf_config_load(const char *file, const struct tf_plugins *plugins, struct tf_config **out,
                   struct tf_error *err)
{
    struct tf_buf yaml;
    char *folder = folder_of(file);
    int rc = folder != NULL ? 0 : -errno;

    tf_buf_init(&yaml, TF_CONFIG_FILE_MAX + 2);
    if (rc == 0) {
        rc = tf_config_read_file(file, &yaml);
    }
    if (rc < 0 && rc != -EMSGSIZE) { /* parse tells of too many bytes */
        char reason[128];

        (void)tf_error_add(err, &(struct tf_place){.file = file},
                           "cannot be read: %s; name a configuration with -c FILE",
                           uv_strerror_r(rc, reason, sizeof reason));
    } else {
        rc = tf_config_parse(tf_buf_slice(&yaml), file, folder, plugins, out, err);
    }
    tf_buf_fini(&yaml);
    free(folder);
    return rc;
}

void tf_config_free(struct tf_config *config)
{
    if (config != NULL) {
        tf_arena_free(config->arena); /* config lies in it */
    }
}
