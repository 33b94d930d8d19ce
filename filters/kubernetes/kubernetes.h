/*
 * kubernetes.h - what the files of the kubernetes filter share.
 *
 *     filter.c   options, descriptor, what a source has to do with a pod
 *     pods.c     the pods that are known
 *     object.c   a pod as the API server writes it, to the form that is kept
 *     split.c    a stream of answers cut into objects
 *     events.c   what an object of an answer does to the pods
 *     server.c   where the API server is
 *     api.c      list and watch, over the HTTP client
 *     cache.c    the pods in a file beside the spool's, for restarts
 *
 * A pod is kept as one piece of bytes (struct tf_pod's `bytes`), which is also its form in the
 * file: unchanged bytes mean an unchanged pod. Integers little-endian, texts are u32 size, then the
 * bytes:
 *
 *     uid · namespace · name · owner kind · owner name          texts; "" where there is none
 *     u32 count of labels, then key and value of each           texts
 *     u32 count of annotations, then key and value of each      texts
 *
 * The uid is the one in the paths of its logs: of a static pod not the API's, but the hash of its
 * manifest, which its mirror has as an annotation.
 */
#ifndef TAFFRAIL_FILTERS_KUBERNETES_H
#define TAFFRAIL_FILTERS_KUBERNETES_H

#include <uv.h>

#include "taffrail/config.h"
#include "taffrail/filter.h"

#define TF_PODS_MAX       2048u      /* known at once; past it a new one is left out, counted */
#define TF_PODS_BYTES_MAX (8u << 20) /* of all; the same */
#define TF_POD_BYTES_MAX                                                                           \
    (16u << 10)                     /* kept of one; labels and annotations past it are left out    \
                                     */
#define TF_POD_PAIRS_MAX 64u        /* labels, or annotations, of one; the same */
#define TF_POD_KEPT_MS   120000u    /* a deleted one, at least */
#define TF_OBJECT_MAX    (1u << 20) /* of an answer's object; a larger one is passed over, counted */
#define TF_VERSION_MAX   64u        /* bytes of a resourceVersion */

/* ---- object.c ---------------------------------------------------------------------------------
 */

struct tf_pod_choice {
    const struct tf_texts *labels, *annotations; /* globs on keys */
};

/* A pod in the form that is kept; all borrows from it. */
struct tf_pod_view {
    struct tf_slice uid, namespace_name, name, owner_kind, owner_name;
    uint32_t label_count, annotation_count;
    struct tf_slice labels, annotations; /* for tf_pod_pair */
};

/* Reads what is kept. 0, or -EPROTO: it is none. Nothing is behind it. */
int tf_pod_decode(struct tf_slice bytes, struct tf_pod_view *out);
/* Takes the next key and value off pairs. False: there is none. */
bool tf_pod_pair(struct tf_slice *pairs, struct tf_slice *key, struct tf_slice *value);

/*
 * Reads a pod, whole or only its metadata, as JSON. Appends the form that is kept to out; adds to
 * *left_out the labels and annotations that were chosen and have no room. 0; -EPROTO: it is no pod;
 * -ENOMEM, -EMSGSIZE: its names alone have no room.
 */
int tf_pod_parse(struct tf_slice object, const struct tf_pod_choice *choice, struct tf_buf *out,
                 uint64_t *left_out);

/* ---- pods.c -----------------------------------------------------------------------------------
 */

struct tf_pod {
    struct tf_pod *next; /* in its bucket */
    char *bytes;         /* owned */
    uint32_t size;
    uint32_t users;      /* sources */
    uint64_t version;    /* rises with each change of bytes */
    uint64_t deleted_ms; /* by the loop's clock; 0: it lives */
    bool is_listed;      /* by the list that is being read */
};

#define TF_POD_BUCKETS 256u
struct tf_pods {
    struct tf_pod *buckets[TF_POD_BUCKETS];
    uint32_t count;
    size_t bytes;     /* of all */
    uint64_t version; /* rises with each change of any */
    uint64_t left_out;
};

/* What the path of a log tells. Borrows. uid may be empty. */
struct tf_pod_name {
    struct tf_slice uid, namespace_name, name;
};

void tf_pods_fini(struct tf_pods *pods);
/* The pod, or NULL. Without a uid one that lives goes before one that was deleted. */
struct tf_pod *tf_pods_find(const struct tf_pods *pods, const struct tf_pod_name *name);
/* Takes over what tf_pod_parse made (copied). It lives. 0; -EPROTO; -ENOMEM; -ENOSPC: there are
 * too many, counted in left_out; one that is known lives, as it was. */
int tf_pods_put(struct tf_pods *pods, struct tf_slice bytes, uint64_t now_ms);
/* It was deleted; it stays for TF_POD_KEPT_MS, and as long as it has users. */
void tf_pods_delete(struct tf_pods *pods, struct tf_slice bytes, uint64_t now_ms);
void tf_pods_drop_old(struct tf_pods *pods, uint64_t now_ms);
/* A list of all pods: what is not put between the two was deleted; true when any was. */
void tf_pods_begin_list(struct tf_pods *pods);
bool tf_pods_end_list(struct tf_pods *pods, uint64_t now_ms);

/* ---- split.c ----------------------------------------------------------------------------------
 */

enum tf_split_kind {
    TF_SPLIT_WATCH, /* one object behind the other */
    TF_SPLIT_LIST,  /* one object, of which `metadata` and each of `items` are wanted */
};

enum tf_split_part { TF_SPLIT_OBJECT, TF_SPLIT_METADATA, TF_SPLIT_TOO_LARGE };

/* object: its text, borrowed for the call; of one that is too large nothing. Below 0: feeding ends,
 * with that. */
typedef int tf_split_fn(void *ctx, enum tf_split_part part, struct tf_slice object);

struct tf_split {
    enum tf_split_kind kind;
    struct tf_buf object;
    char key[9];                 /* of the newest text at the first level of a list */
    uint8_t key_bytes;           /* may be above that */
    uint32_t depth, begun_depth; /* begun_depth: of the object that is being taken; 0: none is */
    bool in_text, is_escaped, in_items, is_too_large, has_ended;
    enum tf_split_part part;
};

void tf_split_init(struct tf_split *split, enum tf_split_kind kind);
void tf_split_fini(struct tf_split *split);
/* 0; -EPROTO: what comes is no JSON; -ENOMEM; or what fn returned. */
int tf_split_feed(struct tf_split *split, struct tf_slice bytes, tf_split_fn *fn, void *ctx);
/* All that was begun has ended; a list has. */
bool tf_split_is_whole(const struct tf_split *split);

/* ---- events.c ---------------------------------------------------------------------------------
 */

enum tf_pod_answer {
    TF_EVENT_NONE,      /* nothing changed */
    TF_EVENT_CHANGED,   /* pods did */
    TF_EVENT_MALFORMED, /* passed over, counted */
    TF_EVENT_GONE,      /* where the watch goes on is too old: list again */
    TF_EVENT_REFUSED,   /* the server ends the watch with an error */
    TF_EVENT_NO_MEMORY, /* nothing changed, and the version is before it */
};

struct tf_pod_events {
    struct tf_pods *pods;
    struct tf_pod_choice choice;
    char version[TF_VERSION_MAX + 1]; /* where a watch goes on; "": list first */
    uint64_t left_out;
};

/* One object of a watch; of a list an item, or its metadata. */
enum tf_pod_answer tf_pod_events_take(struct tf_pod_events *events, struct tf_slice object,
                                      uint64_t now_ms);
enum tf_pod_answer tf_pod_events_item(struct tf_pod_events *events, struct tf_slice item,
                                      uint64_t now_ms);
enum tf_pod_answer tf_pod_events_metadata(struct tf_pod_events *events, struct tf_slice metadata);

/* ---- server.c ---------------------------------------------------------------------------------
 */

struct tf_server {
    uint16_t port;
    bool is_literal; /* its host is an address, so that no name is looked up */
};

/* Reads "https://HOST[:PORT][/]", with an IPv6 address in brackets. 0 or -EINVAL. */
int tf_server_parse(const char *url, struct tf_server *out);

/* ---- api.c ------------------------------------------------------------------------------------
 */

struct tf_kubernetes_options {
    int mode; /* 0 api, 1 kubelet */
    struct tf_texts labels, annotations;
    uint64_t wait_ms;
    struct tf_text server, node, ca, token;
};

struct tf_api;

struct tf_api_args {
    uv_loop_t *loop;
    const char *name; /* of the filter */
    const struct tf_kubernetes_options *options;
    struct tf_pod_choice choice;
    const char *server, *node; /* "https://HOST:PORT", and a node's name */
    struct tf_pods *pods;
    void (*on_change)(void *ctx); /* pods have changed */
    void *ctx;
};

/* Begins. args is copied, what it points to is borrowed until the end. Returns new; 0 or -errno. */
int tf_api_new(const struct tf_api_args *args, struct tf_api **out);
void tf_api_close(struct tf_api *api, void (*on_closed)(void *ctx), void *ctx);
void tf_api_status(const struct tf_api *api, struct tf_filter_status *out);

/* ---- cache.c ----------------------------------------------------------------------------------
 */

/* Appends all pods as a text for a box. Errors stick in out. */
void tf_pod_cache_encode(const struct tf_pods *pods, struct tf_buf *out);
/* Puts what a text holds into pods, which is empty: all of it, or nothing with -EPROTO, -ENOMEM. */
int tf_pod_cache_decode(struct tf_slice text, struct tf_pods *pods, uint64_t now_ms);

struct tf_pod_cache;

/* Reads the file into pods, then keeps it: a change is written within TF_POD_CACHE_LATE_MS. A file
 * that cannot be used is told in the log and left out. Returns new; 0, or -errno: there is no such
 * folder, or no memory. */
#define TF_POD_CACHE_LATE_MS 5000u
int tf_pod_cache_new(const struct tf_filter_start *start, const char *name, struct tf_pods *pods,
                     struct tf_pod_cache **out);
void tf_pod_cache_changed(struct tf_pod_cache *cache);
/* Writes what is not written yet, then frees it and calls. */
void tf_pod_cache_close(struct tf_pod_cache *cache, void (*on_closed)(void *ctx), void *ctx);
uint64_t tf_pod_cache_failures(const struct tf_pod_cache *cache);

#endif
