/*
 * lookup.c - what stands in one event: its size and time, the values at a path, a mark added.
 *
 * The event stays msgpack: nothing is built from it. Depth ends at TF_BATCH_DEPTH_MAX, the event's
 * array counted; lengths are checked by unpack.h. What a search costs is bounded by the event's
 * size times the ways to cut the path at its dots, which differ only where names have dots.
 */
#include "taffrail/event.h"

#include <inttypes.h>
#include <stdio.h>

#include "unpack.h"

#define NUMBER_BYTES 32u

int64_t tf_event_measure(struct tf_slice bytes, int64_t *time_ns)
{
    struct reader in = reader_of(bytes);
    struct token time = {.kind = TF_MSGPACK_NIL}, map = {.kind = TF_MSGPACK_NIL};
    int rc = read_event_head(&in, &time, &map);

    if (rc == 0) {
        rc = skip_children(&in, &map);
    }
    if (rc < 0) {
        return rc;
    }
    *time_ns = time.time_ns;
    return (int64_t)(bytes.size - bytes_left(&in));
}

/* ---- values -------------------------------------------------------------------------------------
 */

struct search {
    tf_event_value_fn *fn;
    void *ctx;
};

static bool offer(const struct search *search, const struct token *token)
{
    char text[TF_DOUBLE_TEXT_BYTES > NUMBER_BYTES ? TF_DOUBLE_TEXT_BYTES : NUMBER_BYTES];

    switch (token->kind) {
    case TF_MSGPACK_STR:
    case TF_MSGPACK_BIN:
        return search->fn(search->ctx, token->bytes);
    case TF_MSGPACK_UINT:
        (void)snprintf(text, sizeof text, "%" PRIu64, token->number);
        break;
    case TF_MSGPACK_INT:
        (void)snprintf(text, sizeof text, "%" PRId64, (int64_t)token->number);
        break;
    case TF_MSGPACK_DOUBLE:
        tf_double_format(token->real, text);
        break;
    case TF_MSGPACK_EXT:
        tf_time_format(token->time_ns, text);
        break;
    case TF_MSGPACK_FLAG:
        (void)snprintf(text, sizeof text, "%s", token->number != 0 ? "true" : "false");
        break;
    default:
        (void)snprintf(text, sizeof text, "null");
        break;
    }
    return search->fn(search->ctx, tf_slice_text(text));
}

/* What is left of path behind a name: true when the name is its beginning. */
static bool behind_name(struct tf_slice path, struct tf_slice name, struct tf_slice *rest)
{
    if (name.size > path.size || !tf_slice_equal(name, tf_slice(path.data, name.size))) {
        return false;
    }
    if (name.size == path.size) {
        *rest = tf_slice(NULL, 0);
        return true;
    }
    *rest = tf_slice(path.data + name.size + 1, path.size - name.size - 1);
    return path.data[name.size] == '.' && rest->size > 0;
}

/* Searches a value, its token taken, and leaves *in behind it unless something was found. 1: found,
 * 0: not here, -EPROTO. Recursion ends with depth. */
static int search_value(const struct search *search, struct reader *in, const struct token *token,
                        struct tf_slice path, unsigned depth)
{
    if (token->kind != TF_MSGPACK_MAP && token->kind != TF_MSGPACK_ARRAY) {
        return path.size == 0 && offer(search, token) ? 1 : 0;
    }
    if (depth > TF_BATCH_DEPTH_MAX) {
        return -EPROTO;
    }
    for (uint64_t i = 0; i < token->number; i++) {
        struct token key = {.kind = TF_MSGPACK_NIL}, value = {.kind = TF_MSGPACK_NIL};
        struct tf_slice rest = path;
        bool matches = token->kind == TF_MSGPACK_ARRAY;
        int rc = token->kind == TF_MSGPACK_MAP ? next_of(in, TF_MSGPACK_STR, &key) : 0;

        if (rc == 0) {
            rc = next(in, &value);
        }
        if (rc == 0 && token->kind == TF_MSGPACK_MAP) {
            matches = path.size > 0 && behind_name(path, key.bytes, &rest);
        }
        if (rc == 0) {
            rc = matches ? search_value(search, in, &value, rest, depth + 1)
                         : skip_children(in, &value);
        }
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}

bool tf_event_any(struct tf_slice event, struct tf_slice path, tf_event_value_fn *fn, void *ctx)
{
    const struct search search = {.fn = fn, .ctx = ctx};
    struct reader in = reader_of(event);
    struct token time = {.kind = TF_MSGPACK_NIL}, map = {.kind = TF_MSGPACK_NIL};

    return path.size > 0 && read_event_head(&in, &time, &map) == 0 &&
           search_value(&search, &in, &map, path, 2) == 1;
}

/* ---- marks --------------------------------------------------------------------------------------
 */

static bool is_text(const struct token *token, const char *text)
{
    return tf_slice_equal(token->bytes, tf_slice_text(text));
}

static void put_mark(struct tf_buf *out, const char *name, struct tf_slice value)
{
    tf_msgpack_text(out, tf_slice_text(name));
    tf_msgpack_text(out, value);
}

/* Copies one pair whose key is taken and begins at from. */
static int copy_pair(struct reader *in, const uint8_t *from, struct tf_buf *out)
{
    struct token value = {.kind = TF_MSGPACK_NIL};
    int rc = next(in, &value);

    if (rc == 0) {
        rc = skip_children(in, &value);
    }
    return rc == 0 ? tf_buf_append(out, from, (size_t)(in->at - from)) : rc;
}

/* Copies the pairs of a map, count of them, but for that of the name; *left is how many those are.
 */
static int copy_others(struct reader *in, uint64_t count, const char *name, struct tf_buf *out,
                       uint32_t *left)
{
    int rc = 0;

    for (uint64_t i = 0; i < count && rc == 0; i++) {
        const uint8_t *from = in->at;
        struct token key = {.kind = TF_MSGPACK_NIL}, value = {.kind = TF_MSGPACK_NIL};

        rc = next_of(in, TF_MSGPACK_STR, &key);
        if (rc == 0 && is_text(&key, name)) {
            rc = next(in, &value);
            rc = rc == 0 ? skip_children(in, &value) : rc;
        } else if (rc == 0) {
            rc = copy_pair(in, from, out);
            *left += 1;
        }
    }
    return rc;
}

/* The marks that the event has, as pairs; none when `taffrail` is no map. */
static int take_marks(struct reader *in, const char *name, struct tf_buf *marks, uint32_t *count)
{
    struct token value = {.kind = TF_MSGPACK_NIL};
    int rc = next(in, &value);

    if (rc < 0 || value.kind == TF_MSGPACK_MAP) {
        return rc < 0 ? rc : copy_others(in, value.number, name, marks, count);
    }
    return skip_children(in, &value);
}

static int mark_map(struct reader *in, const struct token *map, const char *name,
                    struct tf_slice value, struct tf_buf *pairs, struct tf_buf *marks)
{
    uint32_t mark_count = 0;
    int rc = 0;

    for (uint64_t i = 0; i < map->number && rc == 0; i++) {
        const uint8_t *from = in->at;
        struct token key = {.kind = TF_MSGPACK_NIL};

        rc = next_of(in, TF_MSGPACK_STR, &key);
        if (rc == 0) {
            rc = is_text(&key, "taffrail") ? take_marks(in, name, marks, &mark_count)
                                           : copy_pair(in, from, pairs);
        }
    }
    if (rc == 0) {
        tf_msgpack_text(pairs, tf_slice_text("taffrail"));
        tf_msgpack_map(pairs, mark_count + 1);
        (void)tf_buf_append(pairs, marks->data, marks->size);
        put_mark(pairs, name, value);
        rc = marks->error != 0 ? marks->error : pairs->error;
    }
    return rc;
}

/* How many pairs of the map are not `taffrail`. */
static uint32_t count_others(struct reader in, const struct token *map)
{
    uint32_t count = 0;

    for (uint64_t i = 0; i < map->number; i++) {
        struct token key = {.kind = TF_MSGPACK_NIL}, value = {.kind = TF_MSGPACK_NIL};

        if (next_of(&in, TF_MSGPACK_STR, &key) < 0 || next(&in, &value) < 0 ||
            skip_children(&in, &value) < 0) {
            break;
        }
        count += is_text(&key, "taffrail") ? 0 : 1;
    }
    return count;
}

int tf_event_mark(struct tf_slice event, const char *name, struct tf_slice value,
                  struct tf_buf *out)
{
    struct reader in = reader_of(event), time_at;
    struct token array = {.kind = TF_MSGPACK_NIL}, time = {.kind = TF_MSGPACK_NIL},
                 map = {.kind = TF_MSGPACK_NIL};
    struct tf_buf marks;
    size_t before = out->size;
    int rc;

    if (out->error != 0) {
        return out->error;
    }
    rc = next_of(&in, TF_MSGPACK_ARRAY, &array);
    time_at = in;
    if (rc == 0) {
        rc = array.number == 2 ? next_of(&in, TF_MSGPACK_EXT, &time) : -EPROTO;
    }
    if (rc < 0) {
        return rc;
    }
    tf_msgpack_array(out, 2);
    (void)tf_buf_append(out, time_at.at, (size_t)(in.at - time_at.at));
    tf_buf_init(&marks, out->limit_bytes);
    rc = next_of(&in, TF_MSGPACK_MAP, &map);
    if (rc == 0) {
        tf_msgpack_map(out, count_others(in, &map) + 1);
        rc = mark_map(&in, &map, name, value, out, &marks);
    }
    tf_buf_fini(&marks);
    if (rc < 0) {
        out->size = before;
        out->error = 0;
    }
    return rc;
}
