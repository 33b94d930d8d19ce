/*
 * native.c - datagrams of the journal's native protocol (systemd.io, "Native Journal Protocol").
 *
 * The grammar is that of export format, a datagram for a stream; what is wrong is treated as
 * journald 252 does in journald-native.c, and tests/fixtures/journald/native tells case by case:
 *
 *     NAME=value\n  NAME\n size value \n      a field
 *     #... and .... \n                        nothing
 *     \n                                      the entry ends; another may follow
 *     no '\n' at the end, a size that passes  what follows is dropped; what came before it is an
 *     the end, no '\n' behind a value         entry
 *
 * An entry of no field with a client's name is none.
 */
#include "taffrail/journal.h"

#include <errno.h>

#include "journal_internal.h"

#define LENGTH_BYTES 8u

/* A batch as it was, to go back to. */
struct saved {
    size_t text_size;
    uint32_t record_count, field_count, malformed, truncated;
};

static struct saved save(const struct tf_batch *batch)
{
    return (struct saved){.text_size = batch->text.size,
                          .record_count = batch->record_count,
                          .field_count = batch->field_count,
                          .malformed = batch->malformed,
                          .truncated = batch->truncated};
}

static void go_back(struct tf_batch *batch, const struct saved *saved)
{
    tf_entry_drop_text(batch, saved->text_size);
    batch->record_count = saved->record_count;
    batch->field_count = saved->field_count;
    batch->malformed = saved->malformed;
    batch->truncated = saved->truncated;
}

/* What a client may call a field: no name of journald's own. */
static bool is_client_name(struct tf_slice name)
{
    return tf_entry_is_name(name) && name.data[0] >= 'A' && name.data[0] <= 'Z';
}

static int put(struct tf_entry_build *build, struct tf_slice name, struct tf_slice value)
{
    return is_client_name(name) ? tf_entry_put(build, name, value) : 0;
}

/* Takes the field whose name is the line; *rest is empty when it is not sound. */
static int take_binary(struct tf_entry_build *build, struct tf_slice name, struct tf_slice *rest)
{
    struct tf_slice bytes = *rest; /* behind the name's newline */
    uint64_t size;

    *rest = tf_slice(bytes.data + bytes.size, 0);
    if (bytes.size < LENGTH_BYTES + 1) {
        return 0;
    }
    size = tf_load64(bytes.data);
    if (size > bytes.size - LENGTH_BYTES - 1 || bytes.data[LENGTH_BYTES + size] != '\n') {
        return 0;
    }
    *rest = tf_slice(bytes.data + LENGTH_BYTES + size + 1, bytes.size - LENGTH_BYTES - size - 1);
    return put(build, name, tf_slice(bytes.data + LENGTH_BYTES, size));
}

/* Takes a line of the entry, or the field that begins there. */
static int take_line(struct tf_entry_build *build, struct tf_slice line, struct tf_slice *rest)
{
    const char *equals = memchr(line.data, '=', line.size);
    size_t name = equals != NULL ? (size_t)(equals - line.data) : line.size;

    if (line.data[0] == '#' || line.data[0] == '.') {
        return 0;
    }
    if (equals == NULL) {
        return take_binary(build, line, rest);
    }
    return put(build, tf_slice(line.data, name), tf_slice(equals + 1, line.size - name - 1));
}

/* Takes the fields of one entry off the datagram. */
static int take_fields(struct tf_entry_build *build, struct tf_slice *rest)
{
    int rc = 0;

    while (rc == 0 && rest->size > 0) {
        const char *newline = memchr(rest->data, '\n', rest->size);
        struct tf_slice line = *rest;

        if (newline == NULL) {
            rest->size = 0;
            return 0;
        }
        line.size = (size_t)(newline - line.data);
        *rest = tf_slice(newline + 1, rest->size - line.size - 1);
        if (line.size == 0) {
            return 0;
        }
        rc = take_line(build, line, rest);
    }
    return rc;
}

/* Returns as tf_entry_end. */
static int take_entry(struct tf_entry_build *build, struct tf_slice *rest,
                      const struct tf_journal_sender *sender,
                      const struct tf_journal_select *select)
{
    size_t size = rest->size;
    int rc;

    tf_entry_begin(build->entry);
    build->start = build->batch->text.size;
    rc = take_fields(build, rest);
    if (rc < 0 || build->entry->count == 0) {
        return rc;
    }
    rc = tf_entry_put_sender(build, sender, "journal");
    return rc < 0 ? rc : tf_entry_end(build, select, sender->received_ns, size - rest->size);
}

/* An empty batch could not take all of the datagram: what did not fit is passed over. */
static void mark_last(struct tf_batch *batch, struct tf_slice datagram)
{
    struct tf_record *record = &batch->records[batch->record_count - 1];

    batch->truncated += (record->flags & TF_RECORD_TRUNCATED) == 0 ? 1 : 0;
    record->flags |= TF_RECORD_TRUNCATED;
    record->true_bytes = datagram.size < UINT32_MAX ? (uint32_t)datagram.size : UINT32_MAX;
}

int tf_native_decode(struct tf_slice datagram, const struct tf_journal_sender *sender,
                     const struct tf_journal_select *select, struct tf_batch *batch)
{
    struct tf_entry entry;
    struct tf_entry_build build = {.entry = &entry, .batch = batch};
    struct saved before = save(batch), last;
    struct tf_slice rest = datagram;
    int rc = 0, added = 0;

    tf_entry_init(&entry);
    while (rc >= 0 && rest.size > 0) {
        last = save(batch);
        rc = take_entry(&build, &rest, sender, select);
        added += rc > 0 ? rc : 0;
    }
    if (rc >= 0) {
        return added;
    }
    if (rc == -EMSGSIZE && before.record_count == 0 && added > 0) {
        go_back(batch, &last);
        mark_last(batch, datagram);
        return added;
    }
    go_back(batch, &before);
    return rc;
}
