/*
 * fuzz_seal.c - contents of seals, notices and indexes, slots of seal.state and texts of keys, from
 * hostile bytes.
 *
 * What decodes must encode to the same bytes again; a key's text, to one that reads as the same
 * key.
 */
#include <assert.h>
#include <stdlib.h>

#include "../../agent/spool/seal.h"

static void seal(struct tf_slice content)
{
    struct tf_seal decoded;
    uint8_t out[TF_SEAL_MAX_BYTES];

    if (tf_seal_decode(content, &decoded) == 0) {
        assert(tf_seal_encode(&decoded, out) == content.size);
        assert(memcmp(out, content.data, content.size) == 0);
    }
}

static void notice(struct tf_slice content)
{
    struct tf_notice decoded;
    uint8_t out[TF_NOTICE_BYTES];

    if (tf_notice_decode(content, &decoded) == 0) {
        tf_notice_encode(&decoded, out);
        assert(memcmp(out, content.data, sizeof out) == 0);
    }
}

static void index_entries(struct tf_slice bytes)
{
    static struct tf_index_entry entries[TF_INDEX_MAX];
    int count = tf_index_decode(bytes, entries);

    for (int i = 0; i < count; i++) {
        uint8_t out[TF_INDEX_ENTRY_BYTES];

        tf_index_entry_encode(&entries[i], out);
        assert(memcmp(out, bytes.data + (size_t)i * sizeof out, sizeof out) == 0);
    }
}

static void slot(struct tf_slice bytes)
{
    uint8_t in[TF_SEAL_SLOT_BYTES] = {0}, out[TF_SEAL_SLOT_BYTES];
    struct tf_seal_key key;

    if (bytes.size > 0) {
        memcpy(in, bytes.data, bytes.size < sizeof in ? bytes.size : sizeof in);
    }
    tf_store32(in + 116, tf_crc32c(0, in, 116)); /* else no input would pass */
    if (tf_seal_slot_decode(in, &key) == 0) {
        tf_seal_slot_encode(&key, out);
        assert(memcmp(in, out, sizeof in) == 0);
    }
}

static void text(struct tf_slice bytes)
{
    struct tf_seal_key key, again;
    char out[TF_SEAL_TEXT_BYTES];

    if (tf_seal_text_parse(bytes, &key) == 0) {
        assert(tf_seal_text(&key, out) == 0);
        assert(tf_seal_text_parse(tf_slice_text(out), &again) == 0);
        assert(memcmp(&key, &again, sizeof key) == 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *copy = malloc(size == 0 ? 1 : size); /* exact: reading past it is seen */
    struct tf_slice bytes = tf_slice(copy, size);

    if (copy == NULL) {
        return 0;
    }
    if (size > 0) {
        memcpy(copy, data, size);
    }
    seal(bytes);
    notice(bytes);
    index_entries(bytes);
    slot(bytes);
    text(bytes);
    free(copy);
    return 0;
}
