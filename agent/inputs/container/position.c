/*
 * position.c - the position of a file as bytes, and the prints in it.
 *
 * A position says how far a file was read (docs/guarantees.md B1), what stood before that (B4),
 * what state the filters were in (B3) and by which name the file was found. It is the value of the
 * key "file/INPUT/DEVICE:INODE:BORN", three decimal numbers, in the spool's folded state. Integers
 * little-endian:
 *
 *     offset  bytes  field
 *          0      1  version    1
 *          1      1  flags      bit 0: finished, read to its end for good; bit 1: compressed
 *          2      1  format     enum tf_format as found
 *          3      1  zero
 *          4     24  done       of stdout, stderr, other; each at most 2^63 - 1
 *         28    120  prints     5 of offset (8) and hash (16, SHA-256 cut); of none all are zero
 *        148     99  states     3 of size (1, at most 32) and bytes (32, zero behind size)
 *        247      1  zero
 *        248      2  path_size  1..4095
 *        250         path       the base, without NUL
 *
 * The first print stands at the largest done, later ones at falling offsets, the last ones at the
 * file's beginning, while it is small (file.c). A value that breaks
 * any of this is no position: decode refuses it, and the input says so and begins anew.
 */
#include "internal.h"

#include <errno.h>
#include <inttypes.h>

#include <openssl/sha.h>

#define VERSION       1u
#define FLAG_FINISHED 0x01u
#define FLAG_GZIP     0x02u
#define AT_DONE       4u
#define AT_PRINTS     28u
#define PRINT_BYTES   24u
#define AT_STATES     148u
#define STATE_BYTES   33u
#define AT_PATH_SIZE  248u
#define AT_PATH       250u
#define FORMAT_LAST   TF_FORMAT_PLAIN

int tf_file_id_compare(const struct tf_file_id *a, const struct tf_file_id *b)
{
    if (a->device != b->device) {
        return a->device < b->device ? -1 : 1;
    }
    if (a->inode != b->inode) {
        return a->inode < b->inode ? -1 : 1;
    }
    return (a->born_ns > b->born_ns) - (a->born_ns < b->born_ns);
}

uint64_t tf_position_first(const struct tf_position *position)
{
    uint64_t first = position->done[0];

    for (unsigned i = 1; i < TF_STREAMS; i++) {
        first = position->done[i] < first ? position->done[i] : first;
    }
    return first;
}

uint64_t tf_position_last(const struct tf_position *position)
{
    uint64_t last = position->done[0];

    for (unsigned i = 1; i < TF_STREAMS; i++) {
        last = position->done[i] > last ? position->done[i] : last;
    }
    return last;
}

void tf_print_take(const void *bytes, uint64_t offset, struct tf_print *out)
{
    uint8_t digest[SHA256_DIGEST_LENGTH];

    *out = (struct tf_print){.offset = offset};
    if (offset == 0) {
        return;
    }
    (void)SHA256(bytes, tf_print_size(offset), digest); /* fails only for NULL */
    memcpy(out->hash, digest, sizeof out->hash);
}

bool tf_print_matches(const struct tf_print *print, const void *bytes)
{
    struct tf_print other;

    tf_print_take(bytes, print->offset, &other);
    return memcmp(other.hash, print->hash, sizeof other.hash) == 0;
}

void tf_position_encode(const struct tf_position *position, struct tf_buf *out)
{
    uint8_t fixed[AT_PATH] = {VERSION};

    fixed[1] = (position->finished ? FLAG_FINISHED : 0u) | (position->is_gzip ? FLAG_GZIP : 0u);
    fixed[2] = (uint8_t)position->format;
    for (unsigned i = 0; i < TF_STREAMS; i++) {
        uint8_t *state = fixed + AT_STATES + i * STATE_BYTES;

        tf_store64(fixed + AT_DONE + 8 * i, position->done[i]);
        state[0] = position->states[i].size;
        memcpy(state + 1, position->states[i].bytes, position->states[i].size);
    }
    for (unsigned i = 0; i < TF_PRINTS; i++) {
        uint8_t *print = fixed + AT_PRINTS + i * PRINT_BYTES;

        tf_store64(print, position->prints[i].offset);
        memcpy(print + 8, position->prints[i].hash, TF_PRINT_HASH_BYTES);
    }
    tf_store16(fixed + AT_PATH_SIZE, (uint16_t)position->path.size);
    (void)tf_buf_append(out, fixed, sizeof fixed);
    (void)tf_buf_append(out, position->path.data, position->path.size);
}

static bool is_zero(const uint8_t *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        if (bytes[i] != 0) {
            return false;
        }
    }
    return true;
}

static int decode_prints(const uint8_t *from, struct tf_position *out)
{
    uint64_t below = UINT64_MAX;

    for (unsigned i = 0; i < TF_PRINTS; i++, from += PRINT_BYTES) {
        out->prints[i].offset = tf_load64(from);
        memcpy(out->prints[i].hash, from + 8, TF_PRINT_HASH_BYTES);
        if (out->prints[i].offset == 0) {
            if (!is_zero(from, PRINT_BYTES)) {
                return -EPROTO;
            }
            continue;
        }
        if (out->prints[i].offset >= below) {
            return -EPROTO;
        }
        below = out->prints[i].offset;
    }
    return out->prints[0].offset == tf_position_last(out) ? 0 : -EPROTO;
}

static int decode_states(const uint8_t *from, struct tf_position *out)
{
    for (unsigned i = 0; i < TF_STREAMS; i++, from += STATE_BYTES) {
        if (from[0] > TF_FILTER_STATE_BYTES ||
            !is_zero(from + 1 + from[0], TF_FILTER_STATE_BYTES - from[0])) {
            return -EPROTO;
        }
        out->states[i].size = from[0];
        memcpy(out->states[i].bytes, from + 1, TF_FILTER_STATE_BYTES);
    }
    return 0;
}

int tf_position_decode(struct tf_slice value, struct tf_position *out)
{
    const uint8_t *from = (const uint8_t *)value.data;
    struct tf_position position = {0};
    int rc;

    if (value.size <= AT_PATH || value.size - AT_PATH >= TF_FILE_PATH_MAX || from[0] != VERSION ||
        (from[1] & ~(FLAG_FINISHED | FLAG_GZIP)) != 0 || from[2] > FORMAT_LAST || from[3] != 0 ||
        from[AT_PATH_SIZE - 1] != 0 || tf_load16(from + AT_PATH_SIZE) != value.size - AT_PATH ||
        from[AT_PATH] != '/' || memchr(from + AT_PATH, '\0', value.size - AT_PATH) != NULL) {
        return -EPROTO;
    }
    position.finished = (from[1] & FLAG_FINISHED) != 0;
    position.is_gzip = (from[1] & FLAG_GZIP) != 0;
    position.format = (enum tf_format)from[2];
    for (unsigned i = 0; i < TF_STREAMS; i++) {
        position.done[i] = tf_load64(from + AT_DONE + 8 * i);
        if (position.done[i] > INT64_MAX) {
            return -EPROTO;
        }
    }
    rc = decode_prints(from + AT_PRINTS, &position);
    if (rc == 0) {
        rc = decode_states(from + AT_STATES, &position);
    }
    if (rc == 0) {
        position.path = tf_slice(from + AT_PATH, value.size - AT_PATH);
        *out = position;
    }
    return rc;
}

void tf_position_key(const char *input, const struct tf_file_id *id, struct tf_buf *out)
{
    (void)tf_buf_printf(out, "file/%s/%" PRIu64 ":%" PRIu64 ":%" PRId64, input, id->device,
                        id->inode, id->born_ns);
}

/* One decimal number up to `end`; moves *at behind it. No sign but a '-' where it is allowed. */
static int parse_number(struct tf_slice *at, bool may_be_negative, uint64_t *out)
{
    bool is_negative = may_be_negative && at->size > 0 && at->data[0] == '-';
    uint64_t value = 0;
    size_t i = is_negative ? 1 : 0, first = i;

    for (; i < at->size && at->data[i] >= '0' && at->data[i] <= '9'; i++) {
        unsigned digit = (unsigned)(at->data[i] - '0');

        if (value > (UINT64_MAX - digit) / 10) {
            return -EPROTO;
        }
        value = value * 10 + digit;
    }
    if (i == first || (may_be_negative && value > INT64_MAX)) {
        return -EPROTO;
    }
    *at = tf_slice(at->data + i, at->size - i);
    *out = is_negative ? 0 - value : value;
    return 0;
}

int tf_position_key_parse(struct tf_slice key, const char *input, struct tf_file_id *id)
{
    size_t name_size = strlen(input), prefix_size = 5 + name_size + 1;
    struct tf_slice at;
    uint64_t numbers[3];

    if (key.size <= prefix_size || memcmp(key.data, "file/", 5) != 0 ||
        memcmp(key.data + 5, input, name_size) != 0 || key.data[prefix_size - 1] != '/') {
        return -EPROTO;
    }
    at = tf_slice(key.data + prefix_size, key.size - prefix_size);
    for (unsigned i = 0; i < 3; i++) {
        if (parse_number(&at, i == 2, &numbers[i]) < 0) {
            return -EPROTO;
        }
        if (i < 2) {
            if (at.size == 0 || at.data[0] != ':') {
                return -EPROTO;
            }
            at = tf_slice(at.data + 1, at.size - 1);
        }
    }
    if (at.size != 0) {
        return -EPROTO;
    }
    *id = (struct tf_file_id){
        .device = numbers[0], .inode = numbers[1], .born_ns = (int64_t)numbers[2]};
    return 0;
}
