/*
 * split.c - a stream of bytes cut into the JSON objects that are wanted.
 *
 * Of JSON it looks at brackets and texts only; what stands in an object is read by object.c. Bytes
 * come in pieces that end anywhere. An object is collected up to TF_OBJECT_MAX; of a larger one the
 * rest is passed over, so that memory is bounded by that, whatever comes. It is taken at once and
 * wiped in the end, for what grows leaves behind what it held, and a pod may hold secrets; of what
 * is not written the kernel has no page.
 *
 *     WATCH   {…}\n{…}\n …            each object at depth 1
 *     LIST    {"metadata":{…},"items":[{…},{…}]}     metadata at depth 2, items at depth 3
 */
#include "kubernetes.h"

#include <errno.h>

#define DEPTH_MAX 64u

void tf_split_init(struct tf_split *split, enum tf_split_kind kind)
{
    *split = (struct tf_split){.kind = kind};
    tf_buf_init(&split->object, TF_OBJECT_MAX);
}

void tf_split_fini(struct tf_split *split)
{
    tf_buf_wipe(&split->object);
}

bool tf_split_is_whole(const struct tf_split *split)
{
    return split->depth == 0 && !split->in_text &&
           (split->kind == TF_SPLIT_WATCH || split->has_ended);
}

static bool key_is(const struct tf_split *split, const char *word)
{
    return split->key_bytes == strlen(word) && memcmp(split->key, word, split->key_bytes) == 0;
}

/* The object that has just begun is one that is wanted. */
static bool is_wanted(const struct tf_split *split)
{
    if (split->kind == TF_SPLIT_WATCH) {
        return split->depth == 1;
    }
    return (split->depth == 2 && key_is(split, "metadata")) ||
           (split->depth == 3 && split->in_items);
}

static int open_bracket(struct tf_split *split, char byte)
{
    if (split->has_ended || split->depth == DEPTH_MAX) {
        return -EPROTO;
    }
    split->depth++;
    if (byte == '[' && split->depth == 2) {
        split->in_items = key_is(split, "items");
    }
    if (byte == '{' && split->begun_depth == 0 && is_wanted(split)) {
        split->begun_depth = split->depth;
        split->part =
            split->kind == TF_SPLIT_LIST && split->depth == 2 ? TF_SPLIT_METADATA : TF_SPLIT_OBJECT;
        split->is_too_large = false;
        tf_buf_clear(&split->object);
        return tf_buf_reserve(&split->object, TF_OBJECT_MAX);
    }
    return 0;
}

static int end_object(struct tf_split *split, tf_split_fn *fn, void *ctx)
{
    struct tf_slice object = tf_buf_slice(&split->object);

    split->begun_depth = 0;
    if (split->is_too_large) {
        return fn(ctx, TF_SPLIT_TOO_LARGE, tf_slice(NULL, 0));
    }
    return fn(ctx, split->part, object);
}

static int close_bracket(struct tf_split *split, tf_split_fn *fn, void *ctx)
{
    int rc = 0;

    if (split->depth == 0) {
        return -EPROTO;
    }
    if (split->depth == split->begun_depth) {
        rc = end_object(split, fn, ctx);
    }
    split->depth--;
    split->in_items = split->in_items && split->depth >= 2;
    split->has_ended = split->kind == TF_SPLIT_LIST && split->depth == 0;
    return rc;
}

/* Keys of the list itself are noted; values that are texts too, and then overwritten by the next
 * key. */
static void take_text_byte(struct tf_split *split, char byte)
{
    if (split->is_escaped) {
        split->is_escaped = false;
    } else if (byte == '\\') {
        split->is_escaped = true;
    } else if (byte == '"') {
        split->in_text = false;
        return;
    }
    if (split->depth == 1 && split->key_bytes < UINT8_MAX) {
        if (split->key_bytes < sizeof split->key) {
            split->key[split->key_bytes] = byte;
        }
        split->key_bytes++;
    }
}

/* Keeps a byte of the object that is being taken. */
static int keep(struct tf_split *split, char byte)
{
    if (split->begun_depth == 0 || split->is_too_large) {
        return 0;
    }
    if (tf_buf_append_byte(&split->object, (uint8_t)byte) == -EMSGSIZE) {
        split->is_too_large = true;
        tf_buf_clear(&split->object);
    }
    return split->object.error;
}

static int take_byte(struct tf_split *split, char byte, tf_split_fn *fn, void *ctx)
{
    int rc = 0;

    if (split->in_text) {
        rc = keep(split, byte);
        take_text_byte(split, byte);
        return rc;
    }
    if (byte == '{' || byte == '[') {
        rc = open_bracket(split, byte);
    }
    if (rc == 0) {
        rc = keep(split, byte);
    }
    if (rc == 0 && (byte == '}' || byte == ']')) {
        rc = close_bracket(split, fn, ctx);
    } else if (byte == '"') {
        split->in_text = true;
        split->key_bytes = split->depth == 1 ? 0 : split->key_bytes;
    }
    return rc;
}

int tf_split_feed(struct tf_split *split, struct tf_slice bytes, tf_split_fn *fn, void *ctx)
{
    int rc = 0;

    for (size_t i = 0; i < bytes.size && rc == 0; i++) {
        rc = take_byte(split, bytes.data[i], fn, ctx);
    }
    return rc;
}
