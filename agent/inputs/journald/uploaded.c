/*
 * uploaded.c - how far an uploader's entries have been taken.
 *
 * systemd-journal-upload keeps its own state, a cursor, and writes it only when a whole request was
 * answered; after any break it sends all of it again. An entry's cursor begins `s=ID;i=NUMBER;`,
 * both in hex (sd_journal_get_cursor(3)): ID names a journal's numbering, and within it numbers
 * only rise in the order in which entries are sent. So the highest number of each id tells every
 * repeat.
 *
 * The position of an identity, key "journal/INPUT/upload/IDENTITY", integers little-endian:
 *
 *     offset  bytes  field
 *          0      1  version  1
 *          1      1  count    0..16
 *          2      8  seen     seconds since the epoch, when it was written
 *         10   24*n  ids      id (16), highest number (8); the newest first, none twice
 *
 * A value that breaks this is no position: entries that come again are then stored again.
 */
#include "uploaded.h"

#define VERSION    1
#define HEAD_BYTES 10u
#define ID_BYTES   (TF_SEQNUM_ID_BYTES + 8u)
#define NUMBER_HEX 16u /* digits of a number, at most */

/* ---- cursors -------------------------------------------------------------------------------- */

static int hex_value(char digit)
{
    if (digit >= '0' && digit <= '9') {
        return digit - '0';
    }
    return digit >= 'a' && digit <= 'f' ? digit - 'a' + 10 : -1;
}

static bool read_id(const char *hex, uint8_t id[TF_SEQNUM_ID_BYTES])
{
    for (size_t i = 0; i < TF_SEQNUM_ID_BYTES; i++) {
        int high = hex_value(hex[2 * i]), low = hex_value(hex[2 * i + 1]);

        if (high < 0 || low < 0) {
            return false;
        }
        id[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

bool tf_seqnum_of_cursor(struct tf_slice cursor, struct tf_seqnum *out)
{
    const size_t id_hex = 2 * TF_SEQNUM_ID_BYTES, at = 2 + id_hex + 3; /* "s=" "…" ";i=" */
    struct tf_seqnum seqnum = {.number = 0};
    size_t i = at;

    if (cursor.size <= at || memcmp(cursor.data, "s=", 2) != 0 ||
        memcmp(cursor.data + 2 + id_hex, ";i=", 3) != 0 || !read_id(cursor.data + 2, seqnum.id)) {
        return false;
    }
    for (; i < cursor.size && cursor.data[i] != ';'; i++) {
        int digit = hex_value(cursor.data[i]);

        if (digit < 0 || i - at >= NUMBER_HEX) {
            return false;
        }
        seqnum.number = seqnum.number << 4 | (unsigned)digit;
    }
    if (i == at || i == cursor.size) { /* a whole cursor has more behind it */
        return false;
    }
    *out = seqnum;
    return true;
}

/* ---- what was taken ------------------------------------------------------------------------- */

static uint32_t find(const struct tf_uploaded *uploaded, const uint8_t id[TF_SEQNUM_ID_BYTES])
{
    uint32_t i = 0;

    while (i < uploaded->count && memcmp(uploaded->highest[i].id, id, TF_SEQNUM_ID_BYTES) != 0) {
        i++;
    }
    return i;
}

bool tf_uploaded_has(const struct tf_uploaded *uploaded, const struct tf_seqnum *seqnum)
{
    uint32_t i = find(uploaded, seqnum->id);

    return i < uploaded->count && seqnum->number <= uploaded->highest[i].number;
}

void tf_uploaded_add(struct tf_uploaded *uploaded, const struct tf_seqnum *seqnum)
{
    struct tf_seqnum newest = *seqnum;
    uint32_t i = find(uploaded, seqnum->id);

    if (i == uploaded->count) {
        uploaded->count += uploaded->count < TF_UPLOADED_IDS_MAX;
        i = uploaded->count - 1;
    } else if (uploaded->highest[i].number > newest.number) {
        newest.number = uploaded->highest[i].number;
    }
    memmove(&uploaded->highest[1], &uploaded->highest[0], i * sizeof newest);
    uploaded->highest[0] = newest;
}

/* ---- as a value ----------------------------------------------------------------------------- */

size_t tf_uploaded_write(const struct tf_uploaded *uploaded, uint8_t bytes[TF_UPLOADED_BYTES_MAX])
{
    uint8_t *at = bytes + HEAD_BYTES;

    bytes[0] = VERSION;
    bytes[1] = (uint8_t)uploaded->count;
    tf_store64(bytes + 2, (uint64_t)uploaded->seen_s);
    for (uint32_t i = 0; i < uploaded->count; i++, at += ID_BYTES) {
        memcpy(at, uploaded->highest[i].id, TF_SEQNUM_ID_BYTES);
        tf_store64(at + TF_SEQNUM_ID_BYTES, uploaded->highest[i].number);
    }
    return (size_t)(at - bytes);
}

bool tf_uploaded_read(struct tf_slice bytes, struct tf_uploaded *out)
{
    struct tf_uploaded uploaded = {0};
    const char *at = bytes.data + HEAD_BYTES;
    uint32_t count;

    if (bytes.size < HEAD_BYTES || bytes.data[0] != VERSION) {
        return false;
    }
    count = (uint8_t)bytes.data[1];
    if (count > TF_UPLOADED_IDS_MAX || bytes.size != HEAD_BYTES + count * ID_BYTES) {
        return false;
    }
    uploaded.seen_s = (int64_t)tf_load64(bytes.data + 2);
    for (uint32_t i = 0; i < count; i++, at += ID_BYTES) {
        if (find(&uploaded, (const uint8_t *)at) < uploaded.count) {
            return false;
        }
        memcpy(uploaded.highest[i].id, at, TF_SEQNUM_ID_BYTES);
        uploaded.highest[i].number = tf_load64(at + TF_SEQNUM_ID_BYTES);
        uploaded.count = i + 1;
    }
    *out = uploaded;
    return true;
}
