/*
 * journal.h - journal entries to records: Journal Export Format, native datagrams, syslog
 * datagrams.
 *
 * Pure: bytes in, records out, no I/O. Every way on which entries reach the agent ends here:
 *
 *     export bytes (reader, journalctl, ForwardToSocket=, upload) ─ tf_export_decode ─┐
 *     native datagram or memfd ─────────────────────────────────── tf_native_decode ──┼─ record
 *     syslog datagram (RFC 3164, RFC 5424) ─────────────────────── tf_syslog_decode ──┘
 *
 * Sources: systemd.io "Journal Export Formats" and "Native Journal Protocol",
 * systemd.journal-fields(7). A record has the names of docs/records.md: `log` (MESSAGE),
 * `severity`, `unit`, `identifier`, `pid`, `boot_id`, and every other field under its own name in
 * `journald`, values of a repeated one as an array in order of arrival, each distinct value once. A
 * value that is not UTF-8 is bytes. Names that begin with `_` are journald's own (trusted), others
 * the client's; neither ever stands in for the other.
 *
 * Bounds: TF_JOURNAL_FIELD_MAX of a value (longer: its head, marked truncated),
 * TF_JOURNAL_ENTRY_MAX of an entry and TF_JOURNAL_FIELDS_MAX fields (what is beyond is passed over,
 * marked truncated; of both a part is kept for journald's own fields).
 */
#ifndef TAFFRAIL_JOURNAL_H
#define TAFFRAIL_JOURNAL_H

#include "taffrail/batch.h"

/* The MESSAGE_ID of core dumps (systemd's sd-messages.h, SD_MESSAGE_COREDUMP). */
#define TF_JOURNAL_COREDUMP "fc2e22bc6ee647b6b90729ab34a250b1"

#define TF_JOURNAL_NAME_MAX   64u        /* bytes of a field's name; longer ones are left out */
#define TF_JOURNAL_FIELDS_MAX 1024u      /* as journald itself has it */
#define TF_JOURNAL_FIELD_MAX  (1u << 20) /* bytes of a value */
#define TF_JOURNAL_ENTRY_MAX  (4u << 20) /* bytes of an entry; its frame is one message */
#define TF_JOURNAL_CURSOR_MAX 511u       /* bytes of a cursor; one that is longer is no cursor */

/* ---- which entries are wanted ------------------------------------------------------------------
 */

struct tf_journal_pair {
    const char *name, *value;
};

/* All pairs hold: one of an entry's values of that name is equal. */
struct tf_journal_match {
    const struct tf_journal_pair *pairs;
    size_t count;
};

/*
 * An entry is wanted when every condition that is set holds. Borrowed texts. Globs: `*` and `?`
 * (tf_glob_match without separator). A unit matches by _SYSTEMD_UNIT or _SYSTEMD_USER_UNIT; and, as
 * `journalctl -u` has it, what PID 1 (_PID=1) says of it in UNIT, root's OBJECT_SYSTEMD_UNIT
 * (_UID=0), and core dumps by COREDUMP_UNIT (_UID=0 with systemd-coredump's MESSAGE_ID).
 */
struct tf_journal_select {
    const char *const *units; /* globs; one must match; count 0: all */
    size_t unit_count;
    const char *const *exclude_units; /* globs; none may match */
    size_t exclude_unit_count;
    const char *const *identifiers; /* globs, of SYSLOG_IDENTIFIER */
    size_t identifier_count;
    int priority_max; /* 0 emergency to 7 debug; -1: all. Without PRIORITY: wanted */
    const struct tf_journal_match *matches; /* one must hold; count 0: all */
    size_t match_count;
    const char *invocation_id; /* of the agent itself, whose entries
                                  (_SYSTEMD_INVOCATION_ID) are not wanted; NULL: unknown */
};

/* ---- entries of a stream -----------------------------------------------------------------------
 */

/* What becomes of the entries of a stream. Borrowed as long as the stream. */
struct tf_journal_rules {
    const struct tf_journal_select *select; /* NULL: all are wanted */
    bool is_reader; /* entries whose first field is __READER_… are the reader's own words (below) */
    bool keeps_host; /* `host` is the entry's _HOSTNAME (of another machine) */
    /* True: the entry with this cursor was taken before, and is dropped. Worker. May be NULL. */
    bool (*is_repeat)(void *ctx, struct tf_slice cursor);
    void *ctx;
};

/*
 * What a stream says besides records. Decoding stops behind it, so that it is told in order.
 * The reader's words are entries of taffrail-journal on its pipe, of these fields, __READER_X
 * first:
 *     __READER_HEARTBEAT=1                              it lives
 *     __READER_CURSOR=CURSOR                            nothing wanted up to there
 *     __READER_GAP=REASON __READER_TEXT=SENTENCE [__READER_ENTRIES=N] [__READER_CURSOR=CURSOR]
 *                                                       entries are lost; goes on behind CURSOR
 *     __READER_ERROR=SENTENCE                           a file that cannot be read, and its name
 */
enum tf_journal_note_kind {
    TF_JOURNAL_NOTE_NONE,
    TF_JOURNAL_NOTE_SUPPRESSED, /* the last record is journald's own N_DROPPED; entries is N */
    TF_JOURNAL_NOTE_GAP,
    TF_JOURNAL_NOTE_ERROR,
};
struct tf_journal_note {
    enum tf_journal_note_kind kind;
    uint64_t entries;       /* UINT64_MAX: unknown */
    struct tf_slice reason; /* of a gap: vacuumed, unreadable */
    struct tf_slice
        text; /* a sentence; of SUPPRESSED the unit's name, or size 0. Borrows from bytes */
};

/* A stream of export format: what it holds of an entry between blocks. */
struct tf_export;
int tf_export_new(const struct tf_journal_rules *rules, struct tf_export **out); /* 0 or -ENOMEM */
void tf_export_free(struct tf_export *stream);                                   /* accepts NULL */
/* Forgets a part of an entry: the stream begins anew. after (copied) is the cursor so far. */
void tf_export_restart(struct tf_export *stream, struct tf_slice after);

/*
 * Decodes the whole entries at the start of bytes into batch, until bytes end, the batch is full
 * (result->is_full: call again with an empty one), or something is noted. Returns the bytes
 * consumed; the caller keeps the rest in front of what comes next: less than TF_JOURNAL_ENTRY_MAX +
 * 1 (a longer entry is consumed while it comes, and its record made at its end). Each call scans
 * only what is new; batch->read_bytes rises by what was consumed. now_ns is the time of an entry
 * without one. Negative: -EPROTO, this is no
 * export format, only restart or free are left; -ENOMEM.
 */
struct tf_export_result {
    bool is_full;
    bool is_broken; /* what follows the bytes consumed is no export format */
    struct tf_journal_note note;
    uint64_t repeats;  /* entries dropped as such */
    uint64_t unwanted; /* by select */
};
int64_t tf_export_decode(struct tf_export *stream, struct tf_slice bytes, int64_t now_ns,
                         struct tf_batch *batch, struct tf_export_result *result);

/* The cursor of the newest entry or word that was decoded, wanted or not; size 0: none yet. */
struct tf_slice tf_export_cursor(const struct tf_export *stream);

/*
 * Walks over bytes without decoding them, from an entry's start or from where the last call ended:
 * for a sender that must not wait although there is no room. Returns bytes up to and with the end
 * of the entry in which limit_bytes of this call are reached (0: that of the first one), or all of
 * them, perhaps inside an entry; *entries: how many ended. Negative: -EPROTO.
 */
struct tf_export_skip {
    uint8_t state;
    uint8_t length[8];
    uint32_t length_at;
    uint64_t left_bytes;
};
int64_t tf_export_skip(struct tf_export_skip *skip, struct tf_slice bytes, uint64_t limit_bytes,
                       uint64_t *entries);

/* ---- datagrams ---------------------------------------------------------------------------------
 */

/* Who sent a datagram, by the kernel (SCM_CREDENTIALS, unix(7)), and when it came. */
struct tf_journal_sender {
    bool is_known;
    int64_t pid; /* 0: in no process that this PID namespace knows */
    uint32_t uid, gid;
    int64_t received_ns;
};

/*
 * One native datagram, or the content of a memfd. Fields whose name is not [A-Z][A-Z0-9_]{0,63} are
 * left out (also those with `_`: only journald may say them); _PID, _UID, _GID are the sender's,
 * _TRANSPORT is journal. As journald 252: lines that begin with # or . are comments, an empty line
 * ends an entry and another may follow; from a bad length on the rest is dropped, what stood before
 * it counts. Returns entries added (wanted ones), -ENOMEM, or -EMSGSIZE: the batch is full, and as
 * before. A batch without records takes any datagram: of one with more entries than there is room
 * for, those that fit, the last one marked truncated.
 */
int tf_native_decode(struct tf_slice datagram, const struct tf_journal_sender *sender,
                     const struct tf_journal_select *select, struct tf_batch *batch);

/*
 * One syslog datagram: RFC 5424 when it has a version, else RFC 3164 in the forms that journald
 * takes (`<PRI>Mon dd hh:mm:ss ident[pid]: text`, any part but the text absent), never refused:
 * what is no syslog is text. Fields as journald makes them: PRIORITY, SYSLOG_FACILITY,
 * SYSLOG_IDENTIFIER, SYSLOG_PID, SYSLOG_TIMESTAMP, SYSLOG_RAW (when the text is not all); of RFC
 * 5424 SYSLOG_HOSTNAME, SYSLOG_MSGID, SYSLOG_STRUCTURED_DATA as well, and its time is the record's.
 * The rest as native.
 */
int tf_syslog_decode(struct tf_slice datagram, const struct tf_journal_sender *sender,
                     const struct tf_journal_select *select, struct tf_batch *batch);

#endif
