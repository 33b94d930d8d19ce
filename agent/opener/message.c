/*
 * message.c - requests and replies of the opener as bytes; docs/opener.md has the tables.
 *
 * Whoever reads one does not trust whoever wrote it. So there is one way to write each, and all
 * else is refused: what is not used is zero, and a path has no component that leads up.
 */
#include "internal.h"

#include <assert.h>
#include <errno.h>

#define ERRNO_MAX    4095u /* the kernel's MAX_ERRNO */
#define FLAG_IS_LINK 1u

/* ---- paths ------------------------------------------------------------------------------------
 */

static bool is_sound_part(const uint8_t *part, size_t size)
{
    return size > 0 && !(size == 1 && part[0] == '.') && !(size == 2 && memcmp(part, "..", 2) == 0);
}

/* As struct tf_spot says. */
static bool is_sound(const uint8_t *path, size_t size)
{
    if (size >= TF_FILE_PATH_MAX || memchr(path, '\0', size) != NULL) {
        return false;
    }
    for (size_t at = 0; size > 0 && at <= size;) {
        const uint8_t *slash = memchr(path + at, '/', size - at);
        size_t part = slash != NULL ? (size_t)(slash - path) - at : size - at;

        if (!is_sound_part(path + at, part)) {
            return false;
        }
        at += part + 1;
    }
    return true;
}

static size_t put_rest(const struct tf_spot *spot, uint8_t *out)
{
    size_t size = strlen(spot->rest);

    assert(is_sound((const uint8_t *)spot->rest, size));
    memcpy(out, spot->rest, size);
    return size;
}

static int take_rest(const uint8_t *data, size_t size, struct tf_spot *out)
{
    if (!is_sound(data, size)) {
        return -EPROTO;
    }
    memcpy(out->rest, data, size);
    out->rest[size] = '\0';
    return 0;
}

/* ---- requests ---------------------------------------------------------------------------------
 */

size_t tf_request_encode(const struct tf_request *request, uint8_t out[TF_REQUEST_BYTES_MAX])
{
    const struct tf_asked *asked = &request->asked;

    memset(out, 0, TF_REQUEST_HEAD);
    out[0] = (uint8_t)asked->op;
    tf_store16(out + 2, request->number);
    tf_store32(out + 4, request->id);
    tf_store32(out + 8, asked->mask);
    tf_store16(out + 12, asked->spot.root);
    return TF_REQUEST_HEAD + put_rest(&asked->spot, out + TF_REQUEST_HEAD);
}

static bool is_known_mask(uint32_t mask)
{
    return mask == TF_WATCH_DIR_MASK || mask == TF_WATCH_FILE_MASK;
}

int tf_request_decode(const uint8_t *data, size_t size, struct tf_request *out)
{
    struct tf_asked *asked = &out->asked;
    bool is_watch;

    if (size < TF_REQUEST_HEAD || data[0] < TF_OPEN_FILE || data[0] > TF_OPEN_WATCH ||
        data[1] != 0 || tf_load16(data + 14) != 0) {
        return -EPROTO;
    }
    *asked = (struct tf_asked){.op = (enum tf_open_op)data[0], .inotify_fd = -1, .fd = -1};
    out->number = tf_load16(data + 2);
    out->id = tf_load32(data + 4);
    asked->mask = tf_load32(data + 8);
    asked->spot.root = tf_load16(data + 12);
    is_watch = asked->op == TF_OPEN_WATCH;
    if (is_watch ? !is_known_mask(asked->mask) : asked->mask != 0) {
        return -EPROTO;
    }
    if (is_watch && (asked->spot.root != 0 || size != TF_REQUEST_HEAD)) {
        return -EPROTO;
    }
    return take_rest(data + TF_REQUEST_HEAD, size - TF_REQUEST_HEAD, &asked->spot);
}

/* ---- replies ----------------------------------------------------------------------------------
 */

size_t tf_reply_encode(uint32_t id, const struct tf_answer *answer, uint8_t out[TF_REPLY_BYTES_MAX])
{
    const struct tf_opened *opened = &answer->opened;

    memset(out, 0, TF_REPLY_HEAD);
    tf_store32(out, id);
    tf_store32(out + 4, (uint32_t)-answer->rc);
    out[8] = (uint8_t)answer->why;
    out[9] = opened->is_link ? FLAG_IS_LINK : 0;
    tf_store16(out + 10, answer->spot.root);
    tf_store32(out + 12, opened->mode);
    tf_store64(out + 16, opened->id.device);
    tf_store64(out + 24, opened->id.inode);
    tf_store64(out + 32, (uint64_t)opened->id.born_ns);
    tf_store64(out + 40, opened->size);
    tf_store64(out + 48, (uint64_t)opened->changed_ns);
    tf_store64(out + 56, (uint64_t)opened->altered_ns);
    tf_store32(out + 64, (uint32_t)answer->watch);
    return TF_REPLY_HEAD + put_rest(&answer->spot, out + TF_REPLY_HEAD);
}

int tf_reply_decode(const uint8_t *data, size_t size, uint32_t *id, struct tf_answer *out)
{
    struct tf_opened *opened = &out->opened;

    if (size < TF_REPLY_HEAD || tf_load32(data + 4) > ERRNO_MAX || data[8] >= TF_WHY_GONE ||
        (data[8] != TF_WHY_ERROR && tf_load32(data + 4) == 0) || data[9] > FLAG_IS_LINK ||
        tf_load32(data + 68) != 0) {
        return -EPROTO;
    }
    *id = tf_load32(data);
    out->rc = -(int)tf_load32(data + 4);
    out->why = (enum tf_open_why)data[8];
    out->spot.root = tf_load16(data + 10);
    *opened = (struct tf_opened){.fd = -1, .is_link = data[9] == FLAG_IS_LINK};
    opened->mode = tf_load32(data + 12);
    opened->id.device = tf_load64(data + 16);
    opened->id.inode = tf_load64(data + 24);
    opened->id.born_ns = (int64_t)tf_load64(data + 32);
    opened->size = tf_load64(data + 40);
    opened->changed_ns = (int64_t)tf_load64(data + 48);
    opened->altered_ns = (int64_t)tf_load64(data + 56);
    out->watch = (int)tf_load32(data + 64);
    return take_rest(data + TF_REPLY_HEAD, size - TF_REPLY_HEAD, &out->spot);
}
