/*
 * write.c - entries as Journal Export Format, byte for byte as `journalctl -o export` has them.
 *
 * Format: systemd.io "Journal Export Formats". An entry is lines NAME=VALUE and ends with an empty
 * one; a value that is not printable UTF-8 without newlines (systemd's utf8_is_printable_newline)
 * is NAME, newline, its length as 64 bits little-endian, its bytes, newline.
 *
 * Entries are put together in one buffer, so that one which turns out unreadable is taken back:
 *
 *     [ whole entries, up to FLUSH_BYTES, then written ][ the entry in the making ]
 *
 * Each entry is checked: its cursor holds the XOR of the hashes of its fields (x=, lookup3), which
 * tells what libsystemd leaves out in silence, as it does with damaged fields.
 */
#include <endian.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "reader.h"

#define FLUSH_BYTES ((size_t)256 * 1024)
/* A name, its length, and a value cut where the agent would cut it. */
#define FIELD_BYTES_MAX ((size_t)TF_JOURNAL_FIELD_MAX + 4096)
#define BUFFER_BYTES    (FLUSH_BYTES + TF_JOURNAL_ENTRY_MAX + 2 * FIELD_BYTES_MAX)
#define HASHES_MAX      TF_JOURNAL_FIELDS_MAX

struct tf_reader_out {
    int fd, priority_max;
    int error; /* of write(2); from then on nothing is written */
    size_t size;
    uint64_t hashes[HASHES_MAX]; /* of the entry in the making */
    char bytes[BUFFER_BYTES];
};

struct tf_reader_out *tf_reader_out_new(int fd, int priority_max)
{
    struct tf_reader_out *out = malloc(sizeof *out); /* its pages come when they are used */

    if (out != NULL) {
        out->fd = fd;
        out->priority_max = priority_max;
        out->error = 0;
        out->size = 0;
    }
    return out;
}

void tf_reader_out_free(struct tf_reader_out *out)
{
    free(out);
}

bool tf_reader_out_is_gone(const struct tf_reader_out *out)
{
    return out->error != 0;
}

void tf_reader_out_flush(struct tf_reader_out *out)
{
    size_t done = 0;

    while (done < out->size && out->error == 0) {
        ssize_t written = write(out->fd, out->bytes + done, out->size - done);
        if (written >= 0) {
            done += (size_t)written;
        } else if (errno != EINTR) {
            out->error = errno;
        }
    }
    out->size = 0;
}

static void put(struct tf_reader_out *out, const void *bytes, size_t size)
{
    memcpy(out->bytes + out->size, bytes, size);
    out->size += size;
}

static void put_text(struct tf_reader_out *out, const char *text)
{
    put(out, text, strlen(text));
}

static void put_number(struct tf_reader_out *out, const char *before, uint64_t number)
{
    char digits[20]; /* of the largest one */
    size_t at = sizeof digits;

    do {
        digits[--at] = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    put_text(out, before);
    put(out, digits + at, sizeof digits - at);
}

/* ---- words -------------------------------------------------------------------------------------
 */

static void put_pair(struct tf_reader_out *out, const char *name, const char *value)
{
    put_text(out, name);
    put(out, "=", 1);
    for (size_t i = 0; value[i] != '\0' && i < 4096; i++) {
        char c = value[i] >= ' ' && value[i] < 0x7f ? value[i] : '?'; /* a path may hold anything */
        put(out, &c, 1);
    }
    put(out, "\n", 1);
}

void tf_reader_out_word(struct tf_reader_out *out, const char *name, const char *value, ...)
{
    va_list more;

    va_start(more, value);
    while (name != NULL) {
        if (value != NULL) {
            put_pair(out, name, value);
        }
        name = va_arg(more, const char *);
        value = name == NULL ? NULL : va_arg(more, const char *);
    }
    va_end(more);
    put(out, "\n", 1);
    if (out->size >= FLUSH_BYTES) {
        tf_reader_out_flush(out);
    }
}

/* ---- what is text ------------------------------------------------------------------------------
 */

/* Of eight bytes, is one a control byte, DEL or not ASCII? Tab counts as one here. */
static bool is_odd_word(uint64_t word)
{
    const uint64_t ones = UINT64_C(0x0101010101010101), highs = UINT64_C(0x8080808080808080);
    uint64_t below_space = (word - ones * ' ') & ~word & highs;
    uint64_t del = ((word ^ (ones * 0x7f)) - ones) & ~(word ^ (ones * 0x7f)) & highs;

    return ((word & highs) | below_space | del) != 0;
}

/* Bytes of the printable character at the start of at, or 0. RFC 3629; systemd's unichar_is_valid
 * refuses noncharacters too. */
static size_t printable_bytes(const unsigned char *at, size_t size)
{
    uint32_t c = at[0], least = 0;
    size_t length;

    if (c < 0x80) {
        return (c >= ' ' && c < 0x7f) || c == '\t' ? 1 : 0;
    }
    if (c >= 0xc0 && c < 0xe0) {
        length = 2, least = 0xa0, c &= 0x1f; /* 0x80 to 0x9f are controls */
    } else if (c >= 0xe0 && c < 0xf0) {
        length = 3, least = 0x800, c &= 0x0f;
    } else if (c >= 0xf0 && c < 0xf8) {
        length = 4, least = 0x10000, c &= 0x07;
    } else {
        return 0;
    }
    if (length > size) {
        return 0;
    }
    for (size_t i = 1; i < length; i++) {
        if ((at[i] & 0xc0) != 0x80) {
            return 0;
        }
        c = c << 6 | (at[i] & 0x3f);
    }
    if (c < least || c > 0x10ffff || (c & 0xfffff800) == 0xd800 || (c >= 0xfdd0 && c <= 0xfdef) ||
        (c & 0xfffe) == 0xfffe) {
        return 0;
    }
    return length;
}

static bool is_text(const char *value, size_t size)
{
    const unsigned char *at = (const unsigned char *)value;
    size_t i = 0;

    while (i < size) {
        uint64_t word;
        size_t bytes;
        while (i + sizeof word <= size) {
            memcpy(&word, at + i, sizeof word);
            if (is_odd_word(word)) {
                break;
            }
            i += sizeof word;
        }
        if (i == size) {
            break;
        }
        bytes = printable_bytes(at + i, size - i);
        if (bytes == 0) {
            return false;
        }
        i += bytes;
    }
    return true;
}

/* ---- hashes ------------------------------------------------------------------------------------
 */

static uint32_t rotate(uint32_t x, unsigned bits)
{
    return x << bits | x >> (32 - bits);
}

/*
 * Bob Jenkins's lookup3 (burtleburtle.net/bob/c/lookup3.c, public domain), hashlittle2 with both
 * seeds 0, its first result in the upper half: what journald puts into the XOR hash of an entry.
 */
static uint64_t hash_field(const void *bytes, size_t size)
{
    const unsigned char *at = bytes;
    uint32_t a, b, c, k[3];

    a = b = c = 0xdeadbeef + (uint32_t)size;
    for (; size > sizeof k; size -= sizeof k, at += sizeof k) {
        memcpy(k, at, sizeof k);
        a += le32toh(k[0]), b += le32toh(k[1]), c += le32toh(k[2]);
        a -= c, a ^= rotate(c, 4), c += b;
        b -= a, b ^= rotate(a, 6), a += c;
        c -= b, c ^= rotate(b, 8), b += a;
        a -= c, a ^= rotate(c, 16), c += b;
        b -= a, b ^= rotate(a, 19), a += c;
        c -= b, c ^= rotate(b, 4), b += a;
    }
    if (size > 0) {
        memset(k, 0, sizeof k);
        memcpy(k, at, size);
        a += le32toh(k[0]), b += le32toh(k[1]), c += le32toh(k[2]);
        c ^= b, c -= rotate(b, 14);
        a ^= c, a -= rotate(c, 11);
        b ^= a, b -= rotate(a, 25);
        c ^= b, c -= rotate(b, 16);
        a ^= c, a -= rotate(c, 4);
        b ^= a, b -= rotate(a, 14);
        c ^= b, c -= rotate(b, 24);
    }
    return c * (UINT64_C(1) << 32) + b;
}

/*
 * Is missing the XOR of some of the hashes? A field that the client sent twice is in the entry's
 * hash twice, but in the entry once. By elimination over GF(2); hashes is used up.
 */
static bool is_sum_of(uint64_t missing, uint64_t *hashes, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        uint64_t lead;
        if (hashes[i] == 0) {
            continue;
        }
        lead = hashes[i] & (~hashes[i] + 1);
        for (size_t other = i + 1; other < count; other++) {
            hashes[other] ^= hashes[other] & lead ? hashes[i] : 0;
        }
        missing ^= missing & lead ? hashes[i] : 0;
    }
    return missing == 0;
}

/* The hash of the entry, from its cursor; false: there is none. */
static bool cursor_hash(const char *cursor, uint64_t *out)
{
    const char *at = strstr(cursor, ";x=");
    char *end;

    if (at == NULL) {
        return false;
    }
    *out = strtoull(at + 3, &end, 16);
    return *end == '\0' || *end == ';';
}

/* ---- entries -----------------------------------------------------------------------------------
 */

/* The fields that are no fields of the entry's, in journalctl's order. */
static int put_head(struct tf_reader_out *out, sd_journal *journal, const char *cursor)
{
    uint64_t realtime_usec, monotonic_usec;
    sd_id128_t boot;
    char boot_text[SD_ID128_STRING_MAX];
    int rc = sd_journal_get_realtime_usec(journal, &realtime_usec);

    if (rc < 0) {
        return rc;
    }
    rc = sd_journal_get_monotonic_usec(journal, &monotonic_usec, &boot);
    if (rc < 0) {
        return rc;
    }
    put_text(out, "__CURSOR=");
    put_text(out, cursor);
    put_number(out, "\n__REALTIME_TIMESTAMP=", realtime_usec);
    put_number(out, "\n__MONOTONIC_TIMESTAMP=", monotonic_usec);
#if TF_LIBSYSTEMD_NUMBER >= 254 /* as its journalctl does */
    {
        uint64_t seqnum;
        sd_id128_t seqnum_id;
        char id_text[SD_ID128_STRING_MAX];
        rc = sd_journal_get_seqnum(journal, &seqnum, &seqnum_id);
        if (rc < 0) {
            return rc;
        }
        put_number(out, "\n__SEQNUM=", seqnum);
        put_text(out, "\n__SEQNUM_ID=");
        put_text(out, sd_id128_to_string(seqnum_id, id_text));
    }
#endif
    put_text(out, "\n_BOOT_ID=");
    put_text(out, sd_id128_to_string(boot, boot_text));
    put(out, "\n", 1);
    return 0;
}

/* As journald takes them from itself: [A-Z_][A-Z0-9_]{0,63}; journalctl passes over others. */
static bool is_name(const char *name, size_t size)
{
    if (size < 1 || size > TF_JOURNAL_NAME_MAX || (name[0] >= '0' && name[0] <= '9')) {
        return false;
    }
    for (size_t i = 0; i < size; i++) {
        if (!((name[i] >= 'A' && name[i] <= 'Z') || (name[i] >= '0' && name[i] <= '9') ||
              name[i] == '_')) {
            return false;
        }
    }
    return true;
}

static void put_field(struct tf_reader_out *out, const char *field, size_t name_size, size_t size)
{
    const char *value = field + name_size + 1;
    size_t value_size = size - name_size - 1;

    if (is_text(value, value_size)) {
        put(out, field, size);
    } else {
        uint64_t length = htole64(value_size);
        put(out, field, name_size);
        put(out, "\n", 1);
        put(out, &length, sizeof length);
        put(out, value, value_size);
    }
    put(out, "\n", 1);
}

/* What was seen of an entry. */
struct seen {
    uint64_t hash; /* of all fields so far */
    size_t count;
    bool is_cut;
    bool has_low_priority, has_wanted_priority;
};

static bool starts_with(const char *field, size_t size, const char *prefix, size_t prefix_size)
{
    return size >= prefix_size && memcmp(field, prefix, prefix_size) == 0;
}

static void note_priority(struct seen *seen, const char *value, size_t size, int priority_max)
{
    if (size == 1 && value[0] > '0' + priority_max && value[0] <= '7') {
        seen->has_low_priority = true;
    } else {
        seen->has_wanted_priority = true;
    }
}

static void take_field(struct tf_reader_out *out, struct seen *seen, size_t begin,
                       const char *field, size_t size)
{
    static const char boot[] = "_BOOT_ID=", priority[] = "PRIORITY=";
    const char *equals = memchr(field, '=', size);
    size_t name_size;
    uint64_t hash;

    hash = hash_field(field, size);
    seen->hash ^= hash;
    if (seen->count < HASHES_MAX) {
        out->hashes[seen->count] = hash;
    }
    seen->count++;
    if (equals == NULL || starts_with(field, size, boot, sizeof boot - 1)) {
        return;
    }
    name_size = (size_t)(equals - field);
    if (!is_name(field, name_size)) {
        return;
    }
    if (out->priority_max >= 0 && starts_with(field, size, priority, sizeof priority - 1)) {
        note_priority(seen, equals + 1, size - name_size - 1, out->priority_max);
    }
    if (size - name_size - 1 > TF_JOURNAL_FIELD_MAX) {
        seen->is_cut = true;
        size = name_size + 1 + TF_JOURNAL_FIELD_MAX + 1;
    }
    if (out->size - begin <= TF_JOURNAL_ENTRY_MAX) {
        put_field(out, field, name_size, size);
    }
}

static bool is_whole(struct tf_reader_out *out, const struct seen *seen, const char *cursor)
{
    uint64_t hash;

    if (seen->is_cut || seen->count > HASHES_MAX || !cursor_hash(cursor, &hash)) {
        return true; /* cannot be told */
    }
    return hash == seen->hash || is_sum_of(hash ^ seen->hash, out->hashes, seen->count);
}

int tf_reader_out_entry(struct tf_reader_out *out, sd_journal *journal, const char *cursor,
                        bool *is_short)
{
    struct seen seen = {0};
    size_t begin = out->size;
    const void *field;
    size_t size;
    int rc = put_head(out, journal, cursor);

    sd_journal_restart_data(journal);
    /* Not the "available" ones: a MESSAGE whose decompressor is not installed must be missed. */
    while (rc >= 0 && (rc = sd_journal_enumerate_data(journal, &field, &size)) > 0) {
        take_field(out, &seen, begin, field, size);
    }
    if (rc < 0 || (seen.has_low_priority && !seen.has_wanted_priority)) {
        out->size = begin;
        return rc;
    }
    put(out, "\n", 1);
    *is_short = !is_whole(out, &seen, cursor);
    if (out->size >= FLUSH_BYTES) {
        tf_reader_out_flush(out);
    }
    return 1;
}
