/*
 * config.h - from one YAML file to typed options, with a place in every error.
 *
 * Every plugin and section has one option table; it drives parsing, `taffrail check` and the
 * reference of keys, so that they cannot drift apart. Parsing is strict: an
 * unknown key is an error that names the nearest known one, sizes and times carry units, `${NAME}`
 * and `${NAME:-default}` expand inside values, all errors are found in one run.
 * Relative paths are resolved against the folder of the file (TF_OPTION_PATH).
 */
#ifndef TAFFRAIL_CONFIG_H
#define TAFFRAIL_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "taffrail/error.h"

/* Value types; the type of the member at option.offset stands behind each. */
enum tf_option_type {
    TF_OPTION_TEXT,   /* struct tf_text */
    TF_OPTION_PATH,   /* struct tf_text, made absolute */
    TF_OPTION_TEXTS,  /* struct tf_texts: a list, or one text */
    TF_OPTION_PATHS,  /* struct tf_texts, made absolute (globs too) */
    TF_OPTION_SIZE,   /* uint64_t bytes: 64KiB, 1MB; 0 needs no unit */
    TF_OPTION_RATE,   /* uint64_t bytes a second: 20MiB/s */
    TF_OPTION_TIME,   /* uint64_t milliseconds: 200ms, 30s, 5m, 2h, 7d; 0 needs no unit */
    TF_OPTION_COUNT,  /* uint64_t */
    TF_OPTION_SWITCH, /* bool: true, false */
    TF_OPTION_CHOICE, /* int: index into choices, a list of words parted by '|' */
    TF_OPTION_OCTAL,  /* uint64_t: file mode, written 0640 */
    TF_OPTION_MAP,    /* struct tf_pairs: text to text */
    TF_OPTION_MAPS,   /* struct tf_tables, of struct tf_pairs: a list of such maps, or one map */
    TF_OPTION_TABLE,  /* a nested struct at offset, by option.table */
    TF_OPTION_TABLES, /* struct tf_tables: a list of maps, each of option.table_bytes by
                         option.table */
    TF_OPTION_SYNC,   /* struct tf_sync_option: a time, always or never */
};

/* A text and where it was written. text is NULL when the key was absent and has no default. */
struct tf_text {
    const char *text;
    struct tf_place at;
};

struct tf_texts {
    struct tf_text *items;
    size_t count;
    struct tf_place at;
};

struct tf_pair {
    struct tf_text key;
    struct tf_text value;
};

struct tf_pairs {
    struct tf_pair *items;
    size_t count;
    struct tf_place at;
};

struct tf_tables {
    void *items; /* count structs of option.table_bytes, one behind the other */
    size_t count;
    struct tf_place at;
};

enum tf_sync_mode { TF_SYNC_INTERVAL, TF_SYNC_ALWAYS, TF_SYNC_NEVER };
struct tf_sync_option {
    enum tf_sync_mode mode;
    uint64_t interval_ms; /* in every mode: how long a record may wait for its frame to be closed */
};

/* One key. A table ends with a zeroed entry. */
struct tf_option {
    const char *name;
    enum tf_option_type type;
    size_t offset; /* of the member in the options struct */
    /* default: a scalar as it is, a list or map as one would write it in YAML; NULL: none */
    const char *def;
    bool required;                 /* also: a list is not empty */
    bool is_exclusive;             /* TEXTS: none of them stands in two plugins of a list */
    uint64_t min, max;             /* for numbers; max 0: no bound. Bytes for sizes, ms for times */
    const char *choices;           /* for TF_OPTION_CHOICE, "auto|docker|cri|plain" */
    const struct tf_option *table; /* for TABLE and TABLES */
    size_t table_bytes;            /* for TABLES */
    size_t present_offset; /* for TABLE: offset of a bool that is true when the key was written; 0:
                              none */
    const char *about;     /* one sentence for the reference */
};

struct tf_input_kind;
struct tf_filter_kind;
struct tf_output_kind;

/* One entry of inputs, filters or outputs. kind points to the plugin's descriptor. */
struct tf_plugin_config {
    const void *kind; /* struct tf_input_kind, tf_filter_kind or tf_output_kind */
    const char *kind_name;
    const char *name;      /* [a-z0-9_-]{1,63}, unique in its list, by default the kind */
    const char *tag;       /* inputs: by default the name; a receiver's is not used */
    struct tf_texts match; /* filters and outputs: globs, by default ["**"] */
    void *options;         /* the kind's options struct, filled */
    struct tf_place at;    /* of the kind's key */
};

struct tf_plugin_list {
    struct tf_plugin_config *items;
    size_t count;
    struct tf_place at;
};

struct tf_agent_options {
    struct tf_text host; /* default: the kernel's host name */
    struct tf_pairs labels;
    int log_level;    /* enum tf_log_level */
    int log_format;   /* enum tf_log_format */
    uint64_t workers; /* 0: cores, at most 4 */
    uint64_t stop_timeout_ms;
};

enum tf_on_full { TF_ON_FULL_PAUSE, TF_ON_FULL_DROP_OLDEST };
enum tf_compress { TF_COMPRESS_AUTO, TF_COMPRESS_ISAL, TF_COMPRESS_ZLIB };

enum tf_seal_mode {
    TF_SEAL_AUTO,     /* on once `pki seal` has made the first key */
    TF_SEAL_REQUIRED, /* no start without */
    TF_SEAL_OFF,
};

struct tf_spool_options {
    struct tf_text path;
    uint64_t max_size_bytes;
    uint64_t keep_free_bytes;
    int on_full; /* enum tf_on_full */
    struct tf_sync_option sync;
    struct tf_texts keys;   /* none: SPOOL.key is made at the first start */
    struct tf_text auditor; /* PEM with an X25519 public key: the only reader of what is kept */
    int seal;               /* enum tf_seal_mode */
    bool shred;             /* expiry destroys the segment's key slots first */
    uint64_t retain_age_ms;
    uint64_t retain_size_bytes;
    int compress; /* enum tf_compress */
    uint64_t segment_size_bytes;
};

enum tf_opener_mode { TF_OPENER_ON, TF_OPENER_OFF };

enum tf_sandbox_mode { TF_SANDBOX_NORMAL, TF_SANDBOX_STRICT };

struct tf_sandbox_options {
    int mode;            /* enum tf_sandbox_mode: calls are refused by a list, or allowed by one */
    int opener;          /* enum tf_opener_mode: a process of its own opens logs */
    bool required;       /* no start with less than all layers */
    struct tf_text user; /* whom root becomes; NULL: it stays */
    struct tf_place at;  /* set by the reader: of the section, or the file */
};

/* A `tls` map, as tf_tls_option_table reads it. */
struct tf_tls_options {
    struct tf_text ca, cert, key;
    struct tf_texts identity; /* who the other end must prove to be, instead of the host called
                                 (clients); one must hold; unused by listeners */
    int min_version;          /* choices "1.3|1.2" */
};
extern const struct tf_option tf_tls_option_table[];

#define TF_ADMIN_ADDRESSES_MAX 8u

struct tf_admin_options {
    /* "unix:PATH" or "ADDRESS:PORT", at most TF_ADMIN_ADDRESSES_MAX; none: off */
    struct tf_texts listen;
    bool is_written; /* listen stands in the file: then a start needs it */
    bool has_tls;
    struct tf_tls_options tls;
};

/* What a file says, to tell two of them apart. */
#define TF_CONFIG_SECTIONS     7u
#define TF_CONFIG_DIGEST_BYTES 7u /* as text: six digits and NUL */
#define TF_CONFIG_NAMES_BYTES  64u
struct tf_config_mark {
    uint8_t digest[32];                    /* SHA-256 of the file's bytes */
    uint64_t sections[TF_CONFIG_SECTIONS]; /* a hash of each section, however it is laid out */
};
/* The digest's first six digits. */
void tf_config_digest(const struct tf_config_mark *mark, char text[TF_CONFIG_DIGEST_BYTES]);
/* The names of sections that differ, "inputs,spool"; "nothing". */
void tf_config_changed(const struct tf_config_mark *before, const struct tf_config_mark *after,
                       char names[TF_CONFIG_NAMES_BYTES]);

struct tf_config {
    const char *file;
    struct tf_config_mark mark;
    struct tf_agent_options agent;
    struct tf_plugin_list inputs;
    struct tf_plugin_list filters; /* redact is always there, and last, unless redact_off */
    struct tf_plugin_list outputs;
    bool redact_off;
    struct tf_spool_options spool;
    struct tf_sandbox_options sandbox;
    struct tf_admin_options admin;
    struct tf_opener_process *opener; /* set by `run`, whose it is (opener.h); NULL: none */
    struct tf_tls_files *tls_files;   /* the same (tls.h) */
    struct tf_launcher *launcher;     /* the same (launcher.h) */
    void *arena;                      /* owns all memory above */
};

/* What kinds exist: three NULL-terminated lists, in agent/plugins.c. */
struct tf_plugins {
    const struct tf_input_kind *const *inputs;
    const struct tf_filter_kind *const *filters;
    const struct tf_output_kind *const *outputs;
};
extern const struct tf_plugins tf_plugins;

/* "20MiB/s" to bytes a second; too many are UINT64_MAX. False: it is no rate. */
bool tf_rate_parse(const char *text, uint64_t *out);

/*
 * Reads file. On success returns new in *out, to be freed with tf_config_free. Errors go to err;
 * returns -EINVAL when there is any, -errno when the file cannot be read (also added to err).
 */
int tf_config_load(const char *file, const struct tf_plugins *plugins, struct tf_config **out,
                   struct tf_error *err);

/* The same from memory, for tests and fuzzing; file names it in errors, folder resolves paths. */
int tf_config_parse(struct tf_slice yaml, const char *file, const char *folder,
                    const struct tf_plugins *plugins, struct tf_config **out, struct tf_error *err);

void tf_config_free(struct tf_config *config);

/*
 * Fills options (zeroed by the caller, of the table's struct) with the table's defaults, as for a
 * plugin written `{}`. Memory belongs to arena, made by tf_arena_new. For commands and tests.
 */
int tf_options_default(const struct tf_option *table, void *options, void *arena);

/*
 * Fills options (zeroed by the caller, of the table's struct) from a YAML map that is no
 * configuration, such as a file of rules: `${NAME}` stays as it is, paths too. what names the map
 * in messages, "the rule file"; file names it in places, and is borrowed as long as options. The
 * rest belongs to arena, also after an error. All that is wrong goes to err. Returns 0, -EINVAL,
 * -ENOMEM.
 */
int tf_options_parse(struct tf_slice yaml, const char *file, const char *what,
                     const struct tf_option *table, void *options, void *arena,
                     struct tf_error *err);

/*
 * Reads a whole file into out, which the caller has made with a limit; a file that is larger gives
 * -EMSGSIZE. Returns 0 or a negative errno.
 */
int tf_config_read_file(const char *file, struct tf_buf *out);

void *tf_arena_new(void);
void *tf_arena_alloc(void *arena, size_t size); /* zeroed; NULL: no memory */
void tf_arena_free(void *arena);

#endif
