/*
 * fuzz_kubernetes.c - answers of a hostile API server, and a file of pods from hostile bytes.
 *
 * The first byte says what the rest is: a watch, a list (the second byte cuts it into pieces), or
 * the file's text. Whatever comes, pods keep their bounds, and what is kept is read again to the
 * same.
 */
#include <assert.h>
#include <stdlib.h>

#include "../../filters/kubernetes/kubernetes.h"

#define NOW_MS 1000000u

struct run {
    struct tf_pods pods;
    struct tf_pod_events events;
    enum tf_split_kind kind;
};

static void check(const struct tf_pods *pods)
{
    struct tf_pods again = {0};
    struct tf_buf text;
    size_t bytes = 0;
    uint32_t count = 0;

    for (unsigned i = 0; i < TF_POD_BUCKETS; i++) {
        for (const struct tf_pod *pod = pods->buckets[i]; pod != NULL; pod = pod->next) {
            struct tf_pod_view view;

            assert(tf_pod_decode(tf_slice(pod->bytes, pod->size), &view) == 0);
            bytes += pod->size;
            count++;
        }
    }
    assert(bytes == pods->bytes && bytes <= TF_PODS_BYTES_MAX);
    assert(count == pods->count && count <= TF_PODS_MAX);
    tf_buf_init(&text, 16 << 20);
    tf_pod_cache_encode(pods, &text);
    assert(text.error == 0 && tf_pod_cache_decode(tf_buf_slice(&text), &again, NOW_MS) == 0);
    assert(again.count == pods->count && again.bytes == pods->bytes);
    tf_pods_fini(&again);
    tf_buf_fini(&text);
}

static int take_object(void *ctx, enum tf_split_part part, struct tf_slice object)
{
    struct run *run = ctx;

    assert(object.size <= TF_OBJECT_MAX);
    if (part == TF_SPLIT_METADATA) {
        (void)tf_pod_events_metadata(&run->events, object);
    } else if (part == TF_SPLIT_OBJECT && run->kind == TF_SPLIT_LIST) {
        (void)tf_pod_events_item(&run->events, object, NOW_MS);
    } else if (part == TF_SPLIT_OBJECT) {
        (void)tf_pod_events_take(&run->events, object, NOW_MS);
    }
    assert(strlen(run->events.version) <= TF_VERSION_MAX);
    return 0;
}

static void feed(struct run *run, struct tf_slice bytes, size_t piece)
{
    struct tf_split split;
    int rc = 0;

    tf_split_init(&split, run->kind);
    tf_pods_begin_list(&run->pods);
    while (rc == 0 && bytes.size > 0) {
        size_t size = bytes.size < piece ? bytes.size : piece;

        rc = tf_split_feed(&split, tf_slice(bytes.data, size), take_object, run);
        bytes = tf_slice(bytes.data + size, bytes.size - size);
    }
    (void)tf_split_is_whole(&split);
    tf_split_fini(&split);
    (void)tf_pods_end_list(&run->pods, NOW_MS);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct tf_text all = {.text = "*"};
    struct tf_texts globs = {.items = &all, .count = 1};
    struct run run = {.events = {.choice = {.labels = &globs, .annotations = &globs}}};

    if (size < 2) {
        return 0;
    }
    run.events.pods = &run.pods;
    run.kind = data[0] % 3 == 0 ? TF_SPLIT_WATCH : TF_SPLIT_LIST;
    if (data[0] % 3 == 2) {
        (void)tf_pod_cache_decode(tf_slice(data + 2, size - 2), &run.pods, NOW_MS);
    } else {
        feed(&run, tf_slice(data + 2, size - 2), (size_t)data[1] + 1);
    }
    check(&run.pods);
    tf_pods_drop_old(&run.pods, NOW_MS + TF_POD_KEPT_MS);
    check(&run.pods);
    tf_pods_fini(&run.pods);
    return 0;
}
