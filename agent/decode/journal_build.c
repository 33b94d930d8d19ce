/*
 * journal_build.c - entries built field by field, in a batch's arena, of what is no export format.
 *
 * Each field lies there as NAME=value\n, so that an entry becomes a record where it was built. What
 * comes of no use is taken off the arena again.
 */
#include <errno.h>
#include <stdio.h>

#include "journal_internal.h"

/* Room for a field in the arena. */
static int reserve(struct tf_batch *batch, size_t size)
{
    int rc = tf_buf_reserve(&batch->text, size);

    if (rc < 0) {
        batch->text.error = 0; /* the batch stays sound: the caller takes the entry off */
    }
    return rc;
}

int tf_entry_put(struct tf_entry_build *build, struct tf_slice name, struct tf_slice value)
{
    struct tf_buf *text = &build->batch->text;
    size_t head = value.size < TF_JOURNAL_FIELD_MAX ? value.size : TF_JOURNAL_FIELD_MAX;
    size_t at = text->size - build->start, size = name.size + 1 + head + 1;
    size_t share = TF_JOURNAL_ENTRY_MAX - (name.data[0] == '_' ? 0 : TF_ENTRY_TRUSTED_BYTES);
    uint32_t count = build->entry->count;
    int rc;

    if (at + size > share) {
        build->entry->is_truncated = true;
        return 0;
    }
    rc = reserve(build->batch, size);
    if (rc < 0) {
        return rc;
    }
    (void)tf_buf_append(text, name.data, name.size);
    (void)tf_buf_append_byte(text, '=');
    (void)tf_buf_append(text, value.data, head);
    (void)tf_buf_append_byte(text, '\n');
    tf_entry_add(build->entry, text->data + build->start, (uint32_t)at, (uint32_t)name.size,
                 (uint32_t)(at + name.size + 1),
                 value.size < UINT32_MAX ? (uint32_t)value.size : UINT32_MAX);
    if (build->entry->count == count) {
        tf_entry_drop_text(build->batch, build->start + at);
    }
    return 0;
}

int tf_entry_put_number(struct tf_entry_build *build, const char *name, uint64_t value)
{
    char digits[24];
    int size = snprintf(digits, sizeof digits, "%llu", (unsigned long long)value);

    return tf_entry_put(build, tf_slice_text(name), tf_slice(digits, size > 0 ? (size_t)size : 0));
}

int tf_entry_put_sender(struct tf_entry_build *build, const struct tf_journal_sender *sender,
                        const char *transport)
{
    int rc = tf_entry_put(build, tf_slice_text("_TRANSPORT"), tf_slice_text(transport));

    if (rc == 0 && sender->is_known && sender->pid > 0) {
        rc = tf_entry_put_number(build, "_PID", (uint64_t)sender->pid);
    }
    if (rc == 0 && sender->is_known) {
        rc = tf_entry_put_number(build, "_UID", sender->uid);
    }
    if (rc == 0 && sender->is_known) {
        rc = tf_entry_put_number(build, "_GID", sender->gid);
    }
    return rc;
}

int tf_entry_end(struct tf_entry_build *build, const struct tf_journal_select *select,
                 int64_t time_ns, uint64_t true_bytes)
{
    const struct tf_entry_bytes from = {
        .arena_at = (uint32_t)build->start, .true_bytes = true_bytes, .now_ns = time_ns};
    int rc;

    if (!tf_entry_is_wanted(build->entry, build->batch->text.data + build->start, select)) {
        tf_entry_drop_text(build->batch, build->start);
        return 0;
    }
    rc = tf_entry_emit(build->entry, &from, build->batch);
    return rc < 0 ? rc : 1;
}
