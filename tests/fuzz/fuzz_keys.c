/*
 * fuzz_keys.c - what a reader of a spool is given as a key, and key slots of a segment.
 *
 * The first byte says what the rest is. Whatever opens a slot must be what was wrapped: no slot
 * here was, so that none may open.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "../../agent/spool/internal.h"

static void keys(struct tf_slice text)
{
    static struct tf_private_key private_key;
    struct tf_slice passphrase = text.size > 4 ? tf_slice(text.data, 4) : tf_slice(NULL, 0);
    uint8_t raw[TF_KEY_BYTES];

    (void)tf_key_parse(text, raw);
    (void)tf_auditor_parse(text, raw);
    (void)tf_private_parse(text, passphrase, &private_key);
}

static void slots(struct tf_slice bytes)
{
    static struct tf_keyring ring = {.count = 1, .private_count = 1};
    static uint8_t raw[TF_SEGMENT_SLOTS * TF_SECTOR_BYTES];
    struct tf_sector0 sector = {.segment_no = 1, .first_seq = 1};
    struct tf_frame_keys opened;
    struct tf_slots_found found;
    int rc;

    memset(raw, 0, sizeof raw);
    memcpy(raw, bytes.data, bytes.size < sizeof raw ? bytes.size : sizeof raw);
    for (size_t i = 0; i < TF_SEGMENT_SLOTS; i++) { /* else no input would pass */
        uint8_t *slot = raw + i * TF_SECTOR_BYTES;

        tf_store32(slot + 508, tf_crc32c(0, slot, 508));
    }
    found = tf_slots_look(&ring, raw);
    rc = tf_dek_open(&ring, &sector, raw, &opened);
    assert(rc != 0);
    assert(rc != -ENOKEY || found.kek != TF_KEK_NONE || found.has_recipient);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *copy = malloc(size == 0 ? 1 : size); /* exact: reading past it is seen */

    if (copy == NULL) {
        return 0;
    }
    memcpy(copy, data, size);
    if (size > 0 && copy[0] % 2 == 0) {
        keys(tf_slice(copy + 1, size - 1));
    } else if (size > 0) {
        slots(tf_slice(copy + 1, size - 1));
    }
    free(copy);
    return 0;
}
