/*
 * journal_internal.h - an entry of the journal as a table of its fields, and what becomes of it.
 * Private to agent/decode.
 *
 * A table does not own the entry's bytes: fields are offsets from `bytes`, which may lie elsewhere
 * at each call. Every value is followed by '\n' there, as batch.h wants it, so that a field's line
 * becomes part of a batch's arena by one copy, or is built there.
 */
#ifndef TAFFRAIL_DECODE_JOURNAL_INTERNAL_H
#define TAFFRAIL_DECODE_JOURNAL_INTERNAL_H

#include "taffrail/journal.h"

/* Fields whose name begins with '_' are journald's own. It adds them to as many as a client may
 * send, and they come last on a socket: there is room for them, else a client could push them out.
 */
#define TF_ENTRY_FIELDS_MAX    (TF_JOURNAL_FIELDS_MAX + 64u)
#define TF_ENTRY_TRUSTED_BYTES (256u << 10) /* of TF_JOURNAL_ENTRY_MAX, for the same reason */
#define TF_ENTRY_SLOTS         4096u /* a power of two, so that the table is never half full */
#define TF_ENTRY_NONE          UINT16_MAX

/* Names that mean something to us, by rising size. */
enum tf_entry_name {
    TF_NAME_PID,
    TF_NAME_UID,
    TF_NAME_UNIT,
    TF_NAME_COMM,
    TF_NAME_MESSAGE,
    TF_NAME_PRIORITY,
    TF_NAME_BOOT_ID,
    TF_NAME_CURSOR,
    TF_NAME_HOSTNAME,
    TF_NAME_N_DROPPED,
    TF_NAME_MESSAGE_ID,
    TF_NAME_TRANSPORT,
    TF_NAME_SYSLOG_PID,
    TF_NAME_CONTAINER_ID,
    TF_NAME_SYSTEMD_UNIT,
    TF_NAME_COREDUMP_UNIT,
    TF_NAME_CONTAINER_NAME,
    TF_NAME_IDENTIFIER,
    TF_NAME_CONTAINER_ID_FULL,
    TF_NAME_USER_UNIT,
    TF_NAME_OBJECT_UNIT,
    TF_NAME_REALTIME,
    TF_NAME_INVOCATION_ID,
    TF_NAME_SOURCE_REALTIME,
    TF_NAMES,
};

struct tf_entry_field {
    uint32_t name_at, value_at;
    uint32_t lies_at;    /* once a record is made: the name, in the batch's arena */
    uint32_t value_size; /* its true size; of more than TF_JOURNAL_FIELD_MAX the head is there */
    uint32_t name_hash, value_hash; /* of a value when its name comes again */
    uint16_t next;                  /* the next value of the same name, or TF_ENTRY_NONE */
    uint16_t first;                 /* the first value of the same name */
    uint16_t last, count;           /* of the first of its name: the newest one, and how many */
    uint8_t name_size;
    bool is_first;
};

struct tf_entry {
    uint32_t count; /* fields */
    uint32_t names; /* distinct ones */
    bool is_malformed, is_truncated;
    uint64_t compared_bytes; /* of values that were equal by hash */
    uint16_t known[TF_NAMES];
    uint32_t generation;             /* slots of another one are empty */
    uint32_t slots[TF_ENTRY_SLOTS];  /* generation, and number of the first field of a name */
    uint32_t values[TF_ENTRY_SLOTS]; /* the same of values, where a name has more than one */
    uint64_t seed;                   /* of the hashes */
    struct tf_entry_field fields[TF_ENTRY_FIELDS_MAX];
};

void tf_entry_init(struct tf_entry *entry);  /* its first entry */
void tf_entry_begin(struct tf_entry *entry); /* the next one */

/* Bytes of names: [A-Z0-9_]. */
extern const bool tf_entry_name_bytes[256];

/* A field's name, 1 to 64 such bytes. */
bool tf_entry_is_name(struct tf_slice name);

/*
 * Adds a field whose name was found sound. A value that the name has already is left out, and so is
 * a field that is one too many: the entry is truncated then.
 */
void tf_entry_add(struct tf_entry *entry, const char *bytes, uint32_t name_at, uint32_t name_size,
                  uint32_t value_at, uint32_t value_size);

/* The first value of a name, or TF_ENTRY_NONE. Others follow by `next`. */
uint16_t tf_entry_find(const struct tf_entry *entry, const char *bytes, struct tf_slice name);

/* A value, as much as is there. Of a name that is not there: size 0. */
struct tf_slice tf_entry_value(const struct tf_entry *entry, const char *bytes, uint16_t field);
static inline struct tf_slice tf_entry_known(const struct tf_entry *entry, const char *bytes,
                                             enum tf_entry_name name)
{
    return tf_entry_value(entry, bytes, entry->known[name]);
}

/* Digits and nothing else, up to UINT64_MAX. */
bool tf_entry_digits(struct tf_slice text, uint64_t *value);

bool tf_entry_is_wanted(const struct tf_entry *entry, const char *bytes,
                        const struct tf_journal_select *select);

/* Where lines lie in a batch's arena: of those with one place, the newest. All zero: empty. Good as
 * long as nothing is taken off the arena. */
#define TF_ENTRY_LINES 1024u
struct tf_entry_lines {
    struct tf_entry_line {
        uint32_t at, size; /* with the newline */
    } items[TF_ENTRY_LINES];
};

struct tf_entry_bytes {
    const char *bytes; /* NULL: they lie in the arena already, at arena_at */
    size_t size;
    struct tf_entry_lines *lines; /* of the batch; for bytes */
    uint32_t arena_at;
    uint64_t true_bytes; /* of the entry as it arrived */
    int64_t now_ns;      /* the time of an entry without one */
    bool keeps_host;
};

/* Makes the record of an entry. Returns 0; -EMSGSIZE: the batch is full, and as before but for its
 * text; -ENOMEM. */
int tf_entry_emit(struct tf_entry *entry, const struct tf_entry_bytes *from,
                  struct tf_batch *batch);

/* Takes the arena's newest text off again, and wipes it. */
void tf_entry_drop_text(struct tf_batch *batch, size_t at);

/* ---- entries built field by field in an arena --------------------------------------------------
 */

struct tf_entry_build {
    struct tf_entry *entry;
    struct tf_batch *batch;
    size_t start; /* of the entry in the arena */
};

/* Copies a field into the arena and adds it; a value's head only when it is too long. Fields past
 * the bounds are left out: the entry is truncated then. Returns 0, -ENOMEM or -EMSGSIZE. */
int tf_entry_put(struct tf_entry_build *build, struct tf_slice name, struct tf_slice value);
int tf_entry_put_number(struct tf_entry_build *build, const char *name, uint64_t value);
/* _PID, _UID and _GID when they are known, and _TRANSPORT. */
int tf_entry_put_sender(struct tf_entry_build *build, const struct tf_journal_sender *sender,
                        const char *transport);

/* Makes the record when it is wanted. Returns 1, 0: not wanted, -ENOMEM or -EMSGSIZE. */
int tf_entry_end(struct tf_entry_build *build, const struct tf_journal_select *select,
                 int64_t time_ns, uint64_t true_bytes);

#endif
