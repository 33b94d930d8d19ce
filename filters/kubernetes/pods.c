/*
 * pods.c - the pods that are known: a table by uid.
 *
 * A pod that is deleted stays for TF_POD_KEPT_MS, for its last lines come after it, and as long as
 * a source uses it: until its logs are read to their end. At most TF_PODS_MAX are known; when they
 * are reached, what was deleted and has no users goes first, and a new one that finds no room is
 * left out and counted: reading does not stop for it.
 *
 * A uid is never taken on trust: a pod is found only where namespace and name are those of the path
 * too, so that a pod which claims another's uid, as a mirror may, gives its labels to nobody else.
 */
#include "kubernetes.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

static struct tf_pod **bucket_of(const struct tf_pods *pods, struct tf_slice uid)
{
    uint32_t hash = tf_crc32c(0, uid.data, uid.size);

    return (struct tf_pod **)&pods->buckets[hash % TF_POD_BUCKETS];
}

static struct tf_pod_view view_of(const struct tf_pod *pod)
{
    struct tf_pod_view view;
    int rc = tf_pod_decode(tf_slice(pod->bytes, pod->size), &view);

    assert(rc == 0); /* it was checked when it was put */
    (void)rc;
    return view;
}

static bool is_named(const struct tf_pod *pod, const struct tf_pod_name *name)
{
    struct tf_pod_view view = view_of(pod);

    return (name->uid.size == 0 || tf_slice_equal(view.uid, name->uid)) &&
           tf_slice_equal(view.namespace_name, name->namespace_name) &&
           tf_slice_equal(view.name, name->name);
}

static struct tf_pod *find_by_name(const struct tf_pods *pods, const struct tf_pod_name *name)
{
    struct tf_pod *found = NULL;

    for (unsigned i = 0; i < TF_POD_BUCKETS; i++) {
        for (struct tf_pod *pod = pods->buckets[i]; pod != NULL; pod = pod->next) {
            if ((found == NULL || pod->deleted_ms == 0) && is_named(pod, name)) {
                found = pod;
            }
        }
    }
    return found;
}

struct tf_pod *tf_pods_find(const struct tf_pods *pods, const struct tf_pod_name *name)
{
    struct tf_pod *pod;

    if (name->uid.size == 0) {
        return find_by_name(pods, name);
    }
    pod = *bucket_of(pods, name->uid);
    while (pod != NULL && !is_named(pod, name)) {
        pod = pod->next;
    }
    return pod;
}

/* Labels and annotations may hold secrets. */
static void free_bytes(struct tf_pod *pod)
{
    if (pod->bytes != NULL) {
        explicit_bzero(pod->bytes, pod->size);
    }
    free(pod->bytes);
}

/* The slot that points to the pod. */
static void drop(struct tf_pods *pods, struct tf_pod **slot)
{
    struct tf_pod *pod = *slot;

    assert(pod->users == 0);
    *slot = pod->next;
    pods->bytes -= pod->size;
    pods->count--;
    free_bytes(pod);
    free(pod);
}

/* Those that were deleted and have no users; deleted before_ms or earlier. */
static void drop_deleted(struct tf_pods *pods, uint64_t before_ms)
{
    for (unsigned i = 0; i < TF_POD_BUCKETS; i++) {
        struct tf_pod **slot = &pods->buckets[i];

        while (*slot != NULL) {
            const struct tf_pod *pod = *slot;

            if (pod->deleted_ms != 0 && pod->deleted_ms <= before_ms && pod->users == 0) {
                drop(pods, slot);
            } else {
                slot = &(*slot)->next;
            }
        }
    }
}

void tf_pods_drop_old(struct tf_pods *pods, uint64_t now_ms)
{
    if (now_ms > TF_POD_KEPT_MS) {
        drop_deleted(pods, now_ms - TF_POD_KEPT_MS);
    }
}

void tf_pods_fini(struct tf_pods *pods)
{
    for (unsigned i = 0; i < TF_POD_BUCKETS; i++) {
        while (pods->buckets[i] != NULL) {
            drop(pods, &pods->buckets[i]);
        }
    }
}

static bool has_room(const struct tf_pods *pods, const struct tf_pod *pod, size_t size)
{
    size_t bytes = pods->bytes + size - (pod != NULL ? pod->size : 0);

    return bytes <= TF_PODS_BYTES_MAX && (pod != NULL || pods->count < TF_PODS_MAX);
}

static struct tf_pod *add(struct tf_pods *pods, struct tf_slice uid)
{
    struct tf_pod **bucket = bucket_of(pods, uid);
    struct tf_pod *pod = calloc(1, sizeof *pod);

    if (pod != NULL) {
        pod->next = *bucket;
        *bucket = pod;
        pods->count++;
    }
    return pod;
}

static void replace_bytes(struct tf_pods *pods, struct tf_pod *pod, char *bytes, size_t size)
{
    pods->bytes += size - pod->size;
    free_bytes(pod);
    pod->bytes = bytes;
    pod->size = (uint32_t)size;
    pod->version = ++pods->version;
}

static void note_alive(struct tf_pod *pod)
{
    pod->deleted_ms = 0;
    pod->is_listed = true;
}

int tf_pods_put(struct tf_pods *pods, struct tf_slice bytes, uint64_t now_ms)
{
    struct tf_pod_view view;
    struct tf_pod *pod;
    char *copy;

    if (tf_pod_decode(bytes, &view) < 0) {
        return -EPROTO;
    }
    pod = tf_pods_find(pods, &(struct tf_pod_name){view.uid, view.namespace_name, view.name});
    if (!has_room(pods, pod, bytes.size)) {
        drop_deleted(pods, now_ms);
        pod = tf_pods_find(pods, &(struct tf_pod_name){view.uid, view.namespace_name, view.name});
    }
    if (!has_room(pods, pod, bytes.size)) {
        pods->left_out++;
        if (pod != NULL) {
            note_alive(pod);
        }
        return -ENOSPC;
    }
    if (pod == NULL || pod->size != bytes.size || memcmp(pod->bytes, bytes.data, bytes.size) != 0) {
        copy = malloc(bytes.size);
        pod = copy != NULL && pod == NULL ? add(pods, view.uid) : pod;
        if (copy == NULL || pod == NULL) {
            free(copy);
            return -ENOMEM;
        }
        memcpy(copy, bytes.data, bytes.size);
        replace_bytes(pods, pod, copy, bytes.size);
    }
    note_alive(pod);
    return 0;
}

void tf_pods_delete(struct tf_pods *pods, struct tf_slice bytes, uint64_t now_ms)
{
    struct tf_pod_view view;
    struct tf_pod *pod = NULL;

    if (tf_pod_decode(bytes, &view) == 0) {
        pod = tf_pods_find(pods, &(struct tf_pod_name){view.uid, view.namespace_name, view.name});
    }
    if (pod != NULL && pod->deleted_ms == 0) {
        pod->deleted_ms = now_ms > 0 ? now_ms : 1;
    }
}

void tf_pods_begin_list(struct tf_pods *pods)
{
    for (unsigned i = 0; i < TF_POD_BUCKETS; i++) {
        for (struct tf_pod *pod = pods->buckets[i]; pod != NULL; pod = pod->next) {
            pod->is_listed = false;
        }
    }
}

bool tf_pods_end_list(struct tf_pods *pods, uint64_t now_ms)
{
    bool is_changed = false;

    for (unsigned i = 0; i < TF_POD_BUCKETS; i++) {
        for (struct tf_pod *pod = pods->buckets[i]; pod != NULL; pod = pod->next) {
            if (!pod->is_listed && pod->deleted_ms == 0) {
                pod->deleted_ms = now_ms > 0 ? now_ms : 1;
                is_changed = true;
            }
        }
    }
    return is_changed;
}
