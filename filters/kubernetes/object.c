/*
 * object.c - a pod as the API server writes it, to the form that is kept; and that form read.
 *
 * Of a pod only its metadata is looked at, so that the server may send no more
 * (PartialObjectMetadata, in the Kubernetes API conventions). What is kept has a bound of its own,
 * whatever a pod has: texts that have no room are left out whole, for half a value would be a wrong
 * one.
 *
 * The owner is what people call the program by, and no object but the pod is asked for it:
 *
 *     ReplicaSet "pay-5f7c9d8b6d", pod-template-hash=5f7c9d8b6d     Deployment "pay"
 *     Job "backup-29412345" (a CronJob's are named by the minute)   CronJob "backup"
 *     any other                                                     as it is
 */
#include "kubernetes.h"

#include <errno.h>

#include "taffrail/json.h"

#define MIRROR         "kubernetes.io/config.mirror"
#define TEMPLATE_HASH  "pod-template-hash"
#define MINUTES_MIN    8u /* digits of the minutes since the epoch, since 1990 */
#define MINUTES_MAX    10u
#define NAME_BYTES_MAX 253u /* of names and uids, RFC 1123 */

/* ---- writing ------------------------------------------------------------------------------------
 */

static void put_count(struct tf_buf *out, uint32_t value)
{
    uint8_t bytes[4];

    tf_store32(bytes, value);
    (void)tf_buf_append(out, bytes, sizeof bytes);
}

static void put_text(struct tf_buf *out, struct tf_slice text)
{
    put_count(out, (uint32_t)text.size);
    (void)tf_buf_append(out, text.data, text.size);
}

/* A JSON string with its escapes undone. False: it is none, or there is no room. */
static bool put_string(struct tf_buf *out, struct tf_slice string)
{
    struct tf_json in = tf_json(string);
    size_t at = out->size;
    const char *end;

    if (string.size < 2 || string.data[0] != '"' || tf_buf_reserve(out, 4 + string.size) < 0) {
        return false;
    }
    end = tf_json_text(&in, out->data + at + 4, false);
    if (end == NULL) {
        return false;
    }
    tf_store32(out->data + at, (uint32_t)(end - (out->data + at + 4)));
    out->size = (size_t)(end - out->data);
    return true;
}

/* ---- names --------------------------------------------------------------------------------------
 */

/* Names have no escapes, so they are compared as they are written: what has one is no name. */
static struct tf_slice name_of(struct tf_slice object, const char *key)
{
    struct tf_slice value, none = {.data = "", .size = 0};
    struct tf_json in;

    if (!tf_json_member(object, key, &value)) {
        return none;
    }
    in = tf_json(value);
    if (value.data[0] != '"' || !tf_json_raw(&in, &value) || value.size > NAME_BYTES_MAX) {
        return none;
    }
    for (size_t i = 0; i < value.size; i++) {
        if ((uint8_t)value.data[i] <= ' ' || value.data[i] == '\\') {
            return none;
        }
    }
    return value;
}

static bool is_word(struct tf_slice text, const char *word)
{
    return tf_slice_equal(text, tf_slice_text(word));
}

/* The reference that controls, or the first. False: nobody owns it. */
static bool find_owner(struct tf_slice metadata, struct tf_slice *owner)
{
    struct tf_slice list, item, controls;
    struct tf_json in;
    bool is_found = false;

    if (!tf_json_member(metadata, "ownerReferences", &list)) {
        return false;
    }
    in = tf_json(list);
    while (tf_json_next_item(&in, &item)) {
        if (tf_json_member(item, "controller", &controls) && is_word(controls, "true")) {
            *owner = item;
            return true;
        }
        *owner = is_found ? *owner : item;
        is_found = true;
    }
    return is_found;
}

/* Cuts "-ENDING" off name. */
static bool cut_ending(struct tf_slice *name, struct tf_slice ending)
{
    size_t rest = name->size - ending.size;

    if (ending.size == 0 || name->size < ending.size + 2 || name->data[rest - 1] != '-' ||
        memcmp(name->data + rest, ending.data, ending.size) != 0) {
        return false;
    }
    name->size = rest - 1;
    return true;
}

static struct tf_slice minutes_of(struct tf_slice name)
{
    size_t digits = 0;

    while (digits < name.size && name.data[name.size - 1 - digits] >= '0' &&
           name.data[name.size - 1 - digits] <= '9') {
        digits++;
    }
    digits = digits >= MINUTES_MIN && digits <= MINUTES_MAX ? digits : 0;
    return tf_slice(name.data + name.size - digits, digits);
}

static void put_owner(struct tf_slice metadata, struct tf_buf *out)
{
    struct tf_slice owner, labels, kind = {.data = "", .size = 0}, name = kind, hash = kind;

    if (find_owner(metadata, &owner)) {
        kind = name_of(owner, "kind");
        name = name_of(owner, "name");
    }
    if (tf_json_member(metadata, "labels", &labels)) {
        hash = name_of(labels, TEMPLATE_HASH);
    }
    if (is_word(kind, "ReplicaSet") && cut_ending(&name, hash)) {
        kind = tf_slice_text("Deployment");
    } else if (is_word(kind, "Job") && cut_ending(&name, minutes_of(name))) {
        kind = tf_slice_text("CronJob");
    }
    put_text(out, kind);
    put_text(out, name);
}

static int put_names(struct tf_slice metadata, struct tf_buf *out)
{
    struct tf_slice annotations;
    struct tf_slice uid = name_of(metadata, "uid"), mirrored = {.data = "", .size = 0};
    struct tf_slice namespace_name = name_of(metadata, "namespace");
    struct tf_slice name = name_of(metadata, "name");

    if (uid.size == 0 || namespace_name.size == 0 || name.size == 0) {
        return -EPROTO;
    }
    if (tf_json_member(metadata, "annotations", &annotations)) {
        mirrored = name_of(annotations, MIRROR);
    }
    put_text(out, mirrored.size > 0 ? mirrored : uid);
    put_text(out, namespace_name);
    put_text(out, name);
    put_owner(metadata, out);
    return out->error;
}

/* ---- labels and annotations ---------------------------------------------------------------------
 */

static bool is_chosen(const struct tf_texts *globs, struct tf_slice key)
{
    for (size_t i = 0; i < globs->count; i++) {
        if (tf_glob_match(globs->items[i].text, key, '\0')) {
            return true;
        }
    }
    return false;
}

/* The key that stands at `at`, as it is kept. */
static struct tf_slice kept_key(const struct tf_buf *out, size_t at)
{
    return tf_slice(out->data + at + 4, tf_load32(out->data + at));
}

static bool has_key(const struct tf_buf *out, size_t from, size_t key_at)
{
    struct tf_slice pairs = tf_slice(out->data + from, key_at - from), key, value;

    while (tf_pod_pair(&pairs, &key, &value)) {
        if (tf_slice_equal(key, kept_key(out, key_at))) {
            return true;
        }
    }
    return false;
}

/* Appends a pair when it is chosen. False: it was, and has no room. from: where pairs begin. */
static bool put_pair(struct tf_buf *out, const struct tf_texts *globs, size_t from,
                     const struct tf_slice pair[2], uint32_t *count)
{
    size_t at = out->size;
    bool is_put = put_string(out, pair[0]);

    if (is_put && (!is_chosen(globs, kept_key(out, at)) || has_key(out, from, at))) {
        out->size = at;
        return true;
    }
    if (is_put && *count < TF_POD_PAIRS_MAX && put_string(out, pair[1]) &&
        out->size + 4 <= TF_POD_BYTES_MAX) { /* 4: a count follows labels */
        *count += 1;
        return true;
    }
    out->size = at;
    out->error = out->error == -EMSGSIZE ? 0 : out->error;
    return false;
}

/* The map `key` of metadata. */
static void put_pairs(struct tf_slice metadata, const char *key, const struct tf_texts *globs,
                      struct tf_buf *out, uint64_t *left_out)
{
    struct tf_slice map, name, value;
    size_t count_at = out->size, from = count_at + 4;
    uint32_t count = 0;
    struct tf_json in;

    put_count(out, 0);
    if (globs->count == 0 || !tf_json_member(metadata, key, &map)) {
        return;
    }
    in = tf_json(map);
    while (out->error == 0 && tf_json_next_member(&in, &name, &value)) {
        const struct tf_slice pair[2] = {tf_slice(name.data - 1, name.size + 2), value};

        *left_out += put_pair(out, globs, from, pair, &count) ? 0 : 1;
    }
    if (out->error == 0) {
        tf_store32(out->data + count_at, count);
    }
}

int tf_pod_parse(struct tf_slice object, const struct tf_pod_choice *choice, struct tf_buf *out,
                 uint64_t *left_out)
{
    struct tf_slice metadata;
    int rc;

    if (!tf_json_is_whole(object) || !tf_json_member(object, "metadata", &metadata)) {
        return -EPROTO;
    }
    rc = put_names(metadata, out);
    if (rc == 0) {
        put_pairs(metadata, "labels", choice->labels, out, left_out);
        put_pairs(metadata, "annotations", choice->annotations, out, left_out);
        rc = out->error;
    }
    return rc;
}

/* ---- reading ------------------------------------------------------------------------------------
 */

static bool take_count(struct tf_slice *in, uint32_t *value)
{
    if (in->size < 4) {
        return false;
    }
    *value = tf_load32(in->data);
    *in = tf_slice(in->data + 4, in->size - 4);
    return true;
}

static bool take_text(struct tf_slice *in, struct tf_slice *text)
{
    uint32_t size;

    if (!take_count(in, &size) || size > in->size) {
        return false;
    }
    *text = tf_slice(in->data, size);
    *in = tf_slice(in->data + size, in->size - size);
    return true;
}

bool tf_pod_pair(struct tf_slice *pairs, struct tf_slice *key, struct tf_slice *value)
{
    return take_text(pairs, key) && take_text(pairs, value);
}

static bool take_pairs(struct tf_slice *in, uint32_t *count, struct tf_slice *pairs)
{
    struct tf_slice key, value;

    if (!take_count(in, count) || *count > TF_POD_PAIRS_MAX) {
        return false;
    }
    *pairs = *in;
    for (uint32_t i = 0; i < *count; i++) {
        if (!tf_pod_pair(in, &key, &value)) {
            return false;
        }
    }
    pairs->size -= in->size;
    return true;
}

int tf_pod_decode(struct tf_slice bytes, struct tf_pod_view *out)
{
    struct tf_slice in = bytes;
    bool ok = bytes.size <= TF_POD_BYTES_MAX && take_text(&in, &out->uid) &&
              take_text(&in, &out->namespace_name) && take_text(&in, &out->name) &&
              take_text(&in, &out->owner_kind) && take_text(&in, &out->owner_name) &&
              take_pairs(&in, &out->label_count, &out->labels) &&
              take_pairs(&in, &out->annotation_count, &out->annotations);

    return ok && in.size == 0 && out->uid.size > 0 ? 0 : -EPROTO;
}
