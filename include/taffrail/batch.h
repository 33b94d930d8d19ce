/*
 * batch.h - the records decoded from one block, in columns, with all their text in one arena.
 *
 * A batch has one source. `text` is the arena: every key and every text or bytes value is a slice
 * of it, given by offset, so that growing never breaks a reference. Decoders unescape into the
 * arena, so that a filter scans the text of a whole batch in one pass. Rules that make this work:
 *
 *   - The first byte of the arena is '\n', and every value of type TEXT or BYTES is followed by one
 * '\n' that is not part of it. tf_batch_add_text does both. A filter that changes a value
 * appends the new one and points the field there.
 *   - Fields may share text: keys, values, whole lines NAME=value. So what a field points at is
 *     never written over, not even for want of memory: the others that share it would change, or
 *     no longer be found to hold a secret. A filter changes one field, never what it shares.
 *   - Fields of a record are in order in `fields`. A MAP or ARRAY field holds the count of the
 *     children after it: `count` fields follow, each with its own children (pre-order). Children of
 *     an ARRAY have no key (key_size 0). field_count of a record counts all, children too.
 *   - A filter drops a record by setting TF_RECORD_DROPPED; the encoder skips it. Filters skip
 *     dropped records.
 *
 * Nothing is allocated per record but growth of the three arrays, which are kept and used again.
 * Bounds: TF_BATCH_TEXT_MAX, TF_BATCH_RECORDS_MAX, TF_BATCH_FIELDS_MAX; past them -EMSGSIZE, and
 * the decoder ends the batch before the record that did not fit.
 */
#ifndef TAFFRAIL_BATCH_H
#define TAFFRAIL_BATCH_H

#include "taffrail/base.h"

#define TF_BATCH_TEXT_MAX    (32u << 20)
#define TF_BATCH_RECORDS_MAX 65536u /* of a frame too: a receiver takes no more in one message */
#define TF_BATCH_FIELDS_MAX  (1u << 20)
#define TF_BATCH_DEPTH_MAX   16u

enum tf_value_type {
    TF_VALUE_TEXT,  /* bytes that are text by intent; the encoder writes str when valid UTF-8, else
                       bin */
    TF_VALUE_BYTES, /* binary by intent; always bin */
    TF_VALUE_INT,
    TF_VALUE_UINT,
    TF_VALUE_DOUBLE,
    TF_VALUE_TRUE,
    TF_VALUE_FALSE,
    TF_VALUE_NIL,
    TF_VALUE_MAP,
    TF_VALUE_ARRAY,
};

struct tf_field {
    uint32_t key_at; /* offset in the arena */
    uint32_t key_size;
    uint8_t type;  /* enum tf_value_type */
    bool withheld; /* could not be scanned in bounds; the value already reads "[WITHHELD]" where
                      needed */
    union {
        struct {
            uint32_t at, size; /* TEXT, BYTES */
        } text;
        int64_t i;
        uint64_t u;
        double d;
        uint32_t count; /* MAP (pairs), ARRAY (items): direct children */
    } value;
};

/* Marks and fates of a record. */
#define TF_RECORD_DROPPED    0x01u /* by a filter */
#define TF_RECORD_MALFORMED  0x02u /* not in the source's format, carried as it is */
#define TF_RECORD_UNFINISHED 0x04u /* its last piece never came */
#define TF_RECORD_REDACTED   0x08u /* a rule changed it */
#define TF_RECORD_WITHHELD                                                                         \
    0x10u /* a field, or its rest, could not be scanned; reason in withheld_reason */
#define TF_RECORD_TRUNCATED 0x20u /* longer than max_line; true length in true_bytes */
#define TF_RECORD_JOINED                                                                           \
    0x40u /* became part of another record, or is held by a filter until its next piece comes: it  \
             is gone from this batch. Always with TF_RECORD_DROPPED, which then counts nothing */

/* Streams of a source: state and positions are kept for each. */
enum tf_stream { TF_STREAM_STDOUT, TF_STREAM_STDERR, TF_STREAM_OTHER, TF_STREAMS };

/*
 * A text of which bytes were left out: text[mark_at..mark_end) says so. What stands around that,
 * from `from` on and up to `to`, is there to be searched, since a secret may reach over the cut; it
 * is no part of the record, and whoever has searched takes it out.
 */
struct tf_cut {
    uint32_t field;                       /* number in the batch's fields */
    uint32_t from, mark_at, mark_end, to; /* offsets in the field's text; to 0: there is none */
};

struct tf_record {
    int64_t time_ns;    /* UTC, since the epoch */
    uint64_t source_at; /* where its text starts in the source, for filters that hold it back */
    uint32_t first_field;
    uint32_t field_count;
    uint32_t true_bytes;
    uint8_t flags;
    uint8_t stream;              /* enum tf_stream */
    const char *withheld_reason; /* static word: budget, match-limit, memory */
    /* Ids of the rules that changed it, when they are asked for: in the arena, each followed by
     * '\n'. Size 0: not told. */
    uint32_t redacted_at, redacted_bytes;
    struct tf_cut cut;
};

#define TF_RECORD_IDS_MAX 32u /* told of one record; further ones are left out */

/* Hits of one rule in this batch, booked when the batch's frame is durable. */
#define TF_BATCH_TALLIES_MAX                                                                       \
    64u /* distinct (filter, rule) pairs; past it hits go to rule TF_RULE_OTHERS */
#define TF_RULE_OTHERS   0xffffu
#define TF_RULE_WITHHELD 0x8000u /* with a rule: what was withheld because of its limits */
#define TF_RULE_DROPPED  0x4000u /* with a rule: records that it dropped */
#define TF_RULE_NONE     0x3ffeu /* in place of a rule: because of the text's own */
struct tf_tally {
    uint16_t filter; /* index in the configuration's filters */
    uint16_t rule;   /* the filter's own number of the rule, below TF_RULE_NONE */
    uint32_t hits;
};

static inline bool tf_rule_is_withheld(uint16_t rule)
{
    return rule != TF_RULE_OTHERS && (rule & TF_RULE_WITHHELD) != 0;
}

static inline bool tf_rule_is_dropped(uint16_t rule)
{
    return rule != TF_RULE_OTHERS && (rule & TF_RULE_DROPPED) != 0;
}

/* The filter's own number, TF_RULE_NONE or TF_RULE_OTHERS. */
static inline uint16_t tf_rule_number(uint16_t rule)
{
    return rule == TF_RULE_OTHERS ? rule : rule & (uint16_t) ~(TF_RULE_WITHHELD | TF_RULE_DROPPED);
}

/* The strings that records of the journal need, and redaction, each followed by '\n', as they lie
 * in the arena. */
struct tf_batch_words {
    char severity[9], unit[5], identifier[11], pid[4], boot_id[8], host[5], journald[9],
        container_name[15];
    char emergency[10], alert[6], critical[9], error[6], warning[8], notice[7], info[5], debug[6];
    char withheld[11]; /* what stands for a text that there is no memory to rewrite */
};

struct tf_batch {
    struct tf_buf text;
    struct tf_record *records;
    uint32_t record_count, record_capacity;
    struct tf_field *fields;
    uint32_t field_count, field_capacity;
    struct tf_tally tallies[TF_BATCH_TALLIES_MAX];
    uint32_t tally_count;
    uint32_t joined;    /* pieces that became part of another record */
    uint32_t malformed; /* records marked so */
    uint32_t truncated;
    uint64_t shared_bytes; /* of the arena, for each further time that fields point there:
                              a bound on work counts them as if each had its own */
    uint64_t read_bytes;   /* raw bytes of the source that this batch consumed */
    /* For filters that hold records back until their next piece comes. */
    bool may_hold; /* set by the input: the source can be read again from where they start */
    bool is_last;  /* set by the input: nothing comes after this batch, so what is held goes out */
    uint64_t now_ms; /* set by the pipeline: the loop's clock (uv_hrtime) */
    const char *tag; /* set by the pipeline, for the filters: of all its records; NULL: not known */
    /* The strings that most records need, laid at the start of the arena by tf_batch_reset. */
    uint32_t key_log, key_stream, text_stdout, text_stderr; /* offsets; sizes are 3, 6, 6, 6 */
    uint32_t words;                                         /* offset of a tf_batch_words */
};

int tf_batch_init(struct tf_batch *batch); /* 0 or -ENOMEM */
void tf_batch_fini(struct tf_batch *batch);
int tf_batch_reset(struct tf_batch *batch); /* empties and wipes the arena's old text, keeps up to 1
                                               MiB of memory */

/* Begins a record; the fields added next are its own. Returns NULL when a bound is reached. */
struct tf_record *tf_batch_add_record(struct tf_batch *batch, int64_t time_ns,
                                      enum tf_stream stream);

/* Undoes the newest record with its fields (not its text). */
void tf_batch_undo_record(struct tf_batch *batch);

/* Adds text to the arena, followed by '\n'; *at is its offset. Returns 0, -ENOMEM or -EMSGSIZE. */
int tf_batch_add_text(struct tf_batch *batch, const void *data, size_t size, uint32_t *at);

/* Adds a field to the newest record; key lies in the arena. Returns NULL when a bound is reached.
 */
struct tf_field *tf_batch_add_field(struct tf_batch *batch, uint32_t key_at, uint32_t key_size,
                                    enum tf_value_type type);

/*
 * For a filter that gives a record other fields: appends a copy of field (which must not lie in
 * batch->fields) that belongs to no record yet. When all fields of the new record stand there, in
 * order, first_field and field_count are pointed at them; a record's `cut` must then name the
 * field's new number. Returns NULL when a bound is reached: the record stays as it was.
 */
struct tf_field *tf_batch_append_field(struct tf_batch *batch, const struct tf_field *field);

/* Key and text value copied into the arena. Returns 0, -ENOMEM or -EMSGSIZE. */
int tf_batch_add_text_field(struct tf_batch *batch, const char *key, struct tf_slice value);
int tf_batch_add_int_field(struct tf_batch *batch, const char *key, int64_t value);
/* A map of `count` pairs, which the caller adds next. */
int tf_batch_add_map_field(struct tf_batch *batch, const char *key, uint32_t count);

static inline struct tf_slice tf_batch_slice(const struct tf_batch *batch, uint32_t at,
                                             uint32_t size)
{
    return tf_slice(batch->text.data + at, size);
}

/* Takes out what was there to be searched only, where no filter has; where there is no memory, the
 * text is its head alone. For a batch with `truncated`. */
void tf_batch_close_cuts(struct tf_batch *batch);

/* Counts hits of a filter's rule. Never fails. */
void tf_batch_tally(struct tf_batch *batch, uint16_t filter, uint16_t rule, uint32_t hits);

#endif
