/*
 * position.c - the cursor of a journal entry as a position in the spool.
 *
 * The key is "journal/INPUT/WHICH", WHICH the folder or namespace that is read. The value:
 *
 *     offset  bytes  field
 *          0      1  version   1
 *          1      ?  cursor    1 to TF_JOURNAL_CURSOR_MAX bytes, printable ASCII
 *
 * A value that breaks this is no position: the input begins where start_at says, and says so.
 */
#include "internal.h"

#define VERSION 1

static void append_key(const char *input, const char *which, struct tf_buf *key)
{
    tf_buf_init(key, TF_STATE_KEY_MAX);
    (void)tf_buf_printf(key, "journal/%s/%s", input, which);
}

void tf_journal_position_append(const char *input, const char *which, struct tf_slice cursor,
                                struct tf_buf *deltas)
{
    char value[1 + TF_JOURNAL_CURSOR_MAX];
    struct tf_buf key;

    append_key(input, which, &key);
    value[0] = VERSION;
    memcpy(value + 1, cursor.data, cursor.size);
    if (key.error != 0) {
        deltas->error = key.error;
    }
    tf_delta_append(deltas, TF_DELTA_SET, tf_buf_slice(&key), tf_slice(value, 1 + cursor.size));
    tf_buf_fini(&key);
}

static bool is_sound(struct tf_slice value)
{
    if (value.size < 2 || value.size > 1 + TF_JOURNAL_CURSOR_MAX || value.data[0] != VERSION) {
        return false;
    }
    for (size_t i = 1; i < value.size; i++) {
        if (value.data[i] <= ' ' || value.data[i] > '~') {
            return false;
        }
    }
    return true;
}

bool tf_journal_position_get(struct tf_journald *input, const char *which,
                             char cursor[TF_JOURNAL_CURSOR_MAX + 1])
{
    struct tf_buf key;
    struct tf_slice value;
    bool is_there;

    append_key(input->name, which, &key);
    is_there = key.error == 0 &&
               tf_state_get(tf_pipeline_spool(input->pipeline), tf_buf_slice(&key), &value);
    tf_buf_fini(&key);
    if (!is_there) {
        return false;
    }
    if (!is_sound(value)) {
        tf_log(TF_LOG_ERROR, "position",
               TF_DETAILS(TF_STR("input", input->name), TF_STR("source", which)),
               "the stored cursor is not one; reading begins where start_at says");
        return false;
    }
    memcpy(cursor, value.data + 1, value.size - 1);
    cursor[value.size - 1] = '\0';
    return true;
}
