/*
 * fuzz_segment.c - every pure parser of the spool's files on the same bytes.
 *
 * What decodes must encode to the same bytes again where the format leaves no choice.
 */
#include <assert.h>
#include <stdlib.h>

#include "../../agent/spool/internal.h"

static void sectors(const uint8_t *data, size_t size)
{
    struct tf_sector0 sector;
    struct tf_key_slot slot;
    uint8_t in[TF_SECTOR_BYTES] = {0}, out[TF_SECTOR_BYTES];

    memcpy(in, data, size < sizeof in ? size : sizeof in);
    tf_store32(in + 508, tf_crc32c(0, in, 508)); /* else no input would pass */
    if (tf_sector0_decode(in, &sector) == 0) {
        tf_sector0_encode(&sector, out);
        assert(memcmp(in, out, sizeof in) == 0);
    }
    if (tf_key_slot_decode(in, &slot) == 0 && slot.kind != TF_SLOT_EMPTY) {
        tf_key_slot_encode(&slot, out);
        assert(memcmp(in, out, sizeof in) == 0);
    }
}

static void small_headers(const uint8_t *data, size_t size)
{
    struct tf_frame_header header;
    uint8_t in[64] = {0}, out[64], id[TF_SPOOL_ID_BYTES], key[TF_KEY_BYTES];

    memcpy(in, data, size < sizeof in ? size : sizeof in);
    tf_store32(in + 60, tf_crc32c(0, in, 60));
    if (tf_frame_header_decode(in, &header) == 0) {
        tf_frame_header_encode(&header, out);
        assert(memcmp(in, out, sizeof in) == 0);
    }
    if (tf_spool_meta_decode(in, id) == 0) {
        tf_spool_meta_encode(id, out);
        assert(memcmp(in, out, sizeof in) == 0);
    }
    (void)tf_key_parse(tf_slice(data, size), key);
}

static void cursors(const uint8_t *data, size_t size)
{
    static struct tf_cursor_table table;
    static uint8_t in[TF_CURSOR_SLOT_BYTES];
    uint32_t count;

    memset(in, 0, sizeof in);
    memcpy(in, data, size < sizeof in ? size : sizeof in);
    count = tf_load32(in + 4);
    if (count <= TF_CURSORS_MAX) {
        tf_store32(in + 16 + 112 * count, tf_crc32c(0, in, 16 + 112 * count));
    }
    if (tf_cursor_slot_decode(in, &table) == 0) {
        assert(table.count <= TF_CURSORS_MAX);
    }
}

static void plaintext(const uint8_t *data, size_t size)
{
    struct tf_slice meta_bytes, payload, rest = tf_slice(data, size);
    struct tf_state state = {0};
    struct tf_meta meta;
    struct tf_delta delta;

    for (uint8_t type = TF_FRAME_DATA; type <= TF_FRAME_INDEX; type++) {
        if (tf_plain_decode(tf_slice(data, size), type, &meta, &meta_bytes, &payload) == 0) {
            assert(meta.tag.size <= TF_TAG_MAX);
            assert(payload.size + meta_bytes.size + 4 == size);
            (void)tf_state_fold(&state, meta.deltas);
        }
    }
    while (tf_delta_next(&rest, &delta) == 1) {
        assert(delta.key.size <= TF_STATE_KEY_MAX && delta.value.size <= TF_STATE_VALUE_MAX);
    }
    (void)tf_state_fold(&state, tf_slice(data, size));
    tf_state_fini(&state);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *copy = malloc(size == 0 ? 1 : size); /* exact: reading past it is seen */

    if (copy == NULL) {
        return 0;
    }
    memcpy(copy, data, size);
    sectors(copy, size);
    small_headers(copy, size);
    cursors(copy, size);
    plaintext(copy, size);
    free(copy);
    return 0;
}
