/*
 * fuzz_uploaded.c - cursors of uploaders, and what was taken of them, from hostile bytes.
 *
 * What reads as a value writes the same bytes again; a number that was taken is a repeat, the one
 * above the highest is none.
 */
#include <assert.h>
#include <stdlib.h>

#include "../../agent/inputs/journald/uploaded.h"

static void take(struct tf_uploaded *uploaded, struct tf_slice cursor)
{
    struct tf_seqnum seqnum;

    if (!tf_seqnum_of_cursor(cursor, &seqnum)) {
        return;
    }
    tf_uploaded_add(uploaded, &seqnum);
    assert(uploaded->count > 0 && uploaded->count <= TF_UPLOADED_IDS_MAX);
    assert(tf_uploaded_has(uploaded, &seqnum));
    seqnum.number = uploaded->highest[0].number;
    assert(tf_uploaded_has(uploaded, &seqnum));
    seqnum.number++;
    assert(seqnum.number == 0 || !tf_uploaded_has(uploaded, &seqnum));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct tf_uploaded uploaded = {0};
    uint8_t bytes[TF_UPLOADED_BYTES_MAX];
    struct tf_slice all = tf_slice(data, size), line = all;

    if (tf_uploaded_read(all, &uploaded)) {
        assert(tf_slice_equal(tf_slice(bytes, tf_uploaded_write(&uploaded, bytes)), all));
    }
    for (size_t at = 0; at <= size; at++) { /* a cursor a line */
        if (at == size || data[at] == '\n') {
            line.size = (size_t)((const char *)data + at - line.data);
            take(&uploaded, line);
            line.data = (const char *)data + at + 1;
        }
    }
    assert(tf_uploaded_read(tf_slice(bytes, tf_uploaded_write(&uploaded, bytes)), &uploaded));
    return 0;
}
