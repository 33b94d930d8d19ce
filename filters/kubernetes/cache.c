/*
 * cache.c - the pods that are known, in a file in the spool's folder, for restarts.
 *
 * So that an agent which starts while the API server cannot be reached knows its pods, and reads
 * the logs of those that were deleted meanwhile with their labels. The file is a box (box.c), for
 * labels and annotations may hold secrets, which redaction takes out of records only. It is written
 * beside, synced, and renamed over the old one: a crash leaves one or the other. Its text, integers
 * little-endian:
 *
 *     offset  bytes  field
 *          0      4  magic   "TFK1"
 *          4      4  count   0..TF_PODS_MAX
 *          8         of each pod: 1 byte, 1 when it was deleted; u32 size; the bytes (kubernetes.h)
 *
 * A file that is not exactly so is left out as a whole, and the log says so: the API server has all
 * that lives. A change is written TF_POD_CACHE_LATE_MS later, with those that came since then, and
 * so again after a failure; one write is under way at a time, on a worker.
 */
#include "kubernetes.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "taffrail/log.h"
#include "taffrail/spool.h"

#define TEXT_MAX       (9u << 20)
#define FILE_BYTES_MAX (TEXT_MAX + 64u) /* head and tag of a box */
#define HEAD_BYTES     8u
#define POD_HEAD_BYTES 5u
#define NAME_BYTES     96u
#define PURPOSE        "kubernetes pods"

static_assert(HEAD_BYTES + TF_PODS_MAX * POD_HEAD_BYTES + TF_PODS_BYTES_MAX <= TEXT_MAX,
              "all have room");

static const char magic[4] = {'T', 'F', 'K', '1'};

/* ---- the text -----------------------------------------------------------------------------------
 */

static void put_pod(const struct tf_pod *pod, struct tf_buf *out)
{
    uint8_t head[POD_HEAD_BYTES] = {pod->deleted_ms != 0};

    tf_store32(head + 1, pod->size);
    (void)tf_buf_append(out, head, sizeof head);
    (void)tf_buf_append(out, pod->bytes, pod->size);
}

void tf_pod_cache_encode(const struct tf_pods *pods, struct tf_buf *out)
{
    uint8_t count[4];

    /* At once, for a buffer that grows leaves labels behind. */
    (void)tf_buf_reserve(out, HEAD_BYTES + pods->count * (size_t)POD_HEAD_BYTES + pods->bytes);
    tf_store32(count, pods->count);
    (void)tf_buf_append(out, magic, sizeof magic);
    (void)tf_buf_append(out, count, sizeof count);
    for (unsigned i = 0; i < TF_POD_BUCKETS; i++) {
        for (const struct tf_pod *pod = pods->buckets[i]; pod != NULL; pod = pod->next) {
            put_pod(pod, out);
        }
    }
}

static int take_pod(struct tf_slice *text, struct tf_pods *pods, uint64_t now_ms)
{
    struct tf_slice bytes;
    uint32_t size;
    int rc;

    if (text->size < POD_HEAD_BYTES || (uint8_t)text->data[0] > 1) {
        return -EPROTO;
    }
    size = tf_load32(text->data + 1);
    if (size > text->size - POD_HEAD_BYTES) {
        return -EPROTO;
    }
    bytes = tf_slice(text->data + POD_HEAD_BYTES, size);
    rc = tf_pods_put(pods, bytes, now_ms);
    if (rc == 0 && text->data[0] == 1) {
        tf_pods_delete(pods, bytes, now_ms);
    }
    *text = tf_slice(bytes.data + size, text->size - POD_HEAD_BYTES - size);
    return rc;
}

int tf_pod_cache_decode(struct tf_slice text, struct tf_pods *pods, uint64_t now_ms)
{
    uint32_t count;
    int rc = 0;

    if (text.size < HEAD_BYTES || memcmp(text.data, magic, sizeof magic) != 0) {
        return -EPROTO;
    }
    count = tf_load32(text.data + sizeof magic);
    text = tf_slice(text.data + HEAD_BYTES, text.size - HEAD_BYTES);
    for (uint32_t i = 0; rc == 0 && i < count; i++) {
        rc = count <= TF_PODS_MAX ? take_pod(&text, pods, now_ms) : -EPROTO;
    }
    if (rc == 0 && text.size > 0) {
        rc = -EPROTO;
    }
    if (rc < 0) {
        tf_pods_fini(pods);
    }
    return rc;
}

/* ---- the file -----------------------------------------------------------------------------------
 */

struct tf_pod_cache {
    uv_loop_t *loop;
    struct tf_pods *pods;
    struct tf_box *box;
    int dir_fd;
    char name[NAME_BYTES], name_new[NAME_BYTES + 4];
    uv_timer_t timer;
    bool is_changed, is_writing, is_closing;
    uint64_t failures;
    /* of the write that is under way; the worker's */
    uv_work_t work;
    struct tf_buf text, sealed;
    int status;
    void (*on_closed)(void *ctx);
    void *closed_ctx;
};

static int read_file(int fd, struct tf_buf *out)
{
    struct stat st;

    if (fstat(fd, &st) < 0) {
        return -errno;
    }
    if (!S_ISREG(st.st_mode) || st.st_size > (off_t)FILE_BYTES_MAX) {
        return -EPROTO;
    }
    while (tf_buf_reserve(out, 65536) == 0) {
        ssize_t n = read(fd, out->data + out->size, 65536);

        if (n <= 0) {
            return n < 0 ? -errno : 0;
        }
        out->size += (size_t)n;
    }
    return out->error;
}

static int load_pods(struct tf_pod_cache *cache)
{
    int fd = openat(cache->dir_fd, cache->name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    struct tf_buf sealed, text;
    int rc;

    if (fd < 0) {
        return errno == ENOENT ? 0 : -errno;
    }
    tf_buf_init(&sealed, FILE_BYTES_MAX + 65536);
    tf_buf_init(&text, TEXT_MAX);
    rc = read_file(fd, &sealed);
    (void)close(fd);
    if (rc == 0) {
        rc = tf_box_open(cache->box, tf_buf_slice(&sealed), &text);
    }
    if (rc == 0) {
        rc = tf_pod_cache_decode(tf_buf_slice(&text), cache->pods, uv_now(cache->loop));
    }
    tf_buf_fini(&sealed);
    tf_buf_wipe(&text);
    return rc;
}

static int write_file(struct tf_pod_cache *cache)
{
    int fd = openat(cache->dir_fd, cache->name_new,
                    O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    int rc;

    if (fd < 0) {
        return -errno;
    }
    rc = tf_buf_write(&cache->sealed, fd, NULL);
    if (rc == 0 && fsync(fd) < 0) {
        rc = -errno;
    }
    (void)close(fd);
    if (rc == 0 && renameat(cache->dir_fd, cache->name_new, cache->dir_fd, cache->name) < 0) {
        rc = -errno;
    }
    if (rc == 0 && fsync(cache->dir_fd) < 0) {
        rc = -errno;
    }
    return rc;
}

static void write_work(uv_work_t *work)
{
    struct tf_pod_cache *cache = TF_CONTAINER_OF(work, struct tf_pod_cache, work);

    cache->status = tf_box_seal(cache->box, tf_buf_slice(&cache->text), &cache->sealed);
    if (cache->status == 0) {
        cache->status = write_file(cache);
    }
    tf_buf_wipe(&cache->text); /* here: it may be megabytes */
    tf_buf_fini(&cache->sealed);
}

static void begin_write(struct tf_pod_cache *cache);
static void on_timer_closed(uv_handle_t *handle);

/* No write is under way. What has changed is written before the end. */
static void go_on_closing(struct tf_pod_cache *cache)
{
    if (cache->is_changed) {
        begin_write(cache);
    } else {
        uv_close((uv_handle_t *)&cache->timer, on_timer_closed);
    }
}

static void tell_failure(struct tf_pod_cache *cache, int status, const char *what)
{
    char reason[64];

    cache->failures++;
    tf_log(TF_LOG_WARN, "kubernetes-cache", TF_DETAILS(TF_STR("file", cache->name)), "%s: %s", what,
           uv_strerror_r(status, reason, sizeof reason));
}

/* A write that failed is tried again, but at the stop: a full disk is emptied some day, and then
 * nothing else need change. */
static void end_write(struct tf_pod_cache *cache, int rc)
{
    cache->is_writing = false;
    tf_buf_wipe(&cache->text); /* no worker has */
    if (rc < 0) {
        tell_failure(cache, rc,
                     "the labels of pods cannot be kept on disk; a restart without the API server "
                     "would lack them");
    }
    if (cache->is_closing) {
        go_on_closing(cache);
    } else if (rc < 0 || cache->is_changed) {
        tf_pod_cache_changed(cache);
    }
}

static void on_written(uv_work_t *work, int status)
{
    struct tf_pod_cache *cache = TF_CONTAINER_OF(work, struct tf_pod_cache, work);

    end_write(cache, status < 0 ? status : cache->status);
}

/* The loop has the pods, so it makes the text; sealing some megabytes would hold it up. */
static void begin_write(struct tf_pod_cache *cache)
{
    int rc;

    cache->is_changed = false;
    cache->is_writing = true;
    tf_pod_cache_encode(cache->pods, &cache->text);
    rc = cache->text.error;
    if (rc == 0) {
        rc = uv_queue_work(cache->loop, &cache->work, write_work, on_written);
    }
    if (rc < 0) {
        end_write(cache, rc);
    }
}

static void on_timer(uv_timer_t *timer)
{
    begin_write(timer->data);
}

void tf_pod_cache_changed(struct tf_pod_cache *cache)
{
    cache->is_changed = true;
    if (!cache->is_writing && !uv_is_active((const uv_handle_t *)&cache->timer)) {
        (void)uv_timer_start(&cache->timer, on_timer, TF_POD_CACHE_LATE_MS, 0);
    }
}

uint64_t tf_pod_cache_failures(const struct tf_pod_cache *cache)
{
    return cache->failures;
}

/* ---- life ---------------------------------------------------------------------------------------
 */

static void cache_free(struct tf_pod_cache *cache)
{
    if (cache->dir_fd >= 0) {
        (void)close(cache->dir_fd);
    }
    tf_box_free(cache->box);
    free(cache);
}

int tf_pod_cache_new(const struct tf_filter_start *start, const char *name, struct tf_pods *pods,
                     struct tf_pod_cache **out)
{
    struct tf_pod_cache *cache = calloc(1, sizeof *cache);
    int rc;

    if (cache == NULL) {
        return -ENOMEM;
    }
    cache->loop = start->loop;
    cache->pods = pods;
    (void)snprintf(cache->name, sizeof cache->name, "kubernetes-%s", name);
    (void)snprintf(cache->name_new, sizeof cache->name_new, "%s.new", cache->name);
    cache->dir_fd = open(start->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    rc = cache->dir_fd < 0 ? -errno : 0;
    cache->box = tf_box_new(start->spool, PURPOSE);
    tf_buf_init(&cache->text, TEXT_MAX);
    tf_buf_init(&cache->sealed, FILE_BYTES_MAX);
    if (rc < 0 || cache->box == NULL) {
        cache_free(cache);
        return rc < 0 ? rc : -ENOMEM;
    }
    (void)uv_timer_init(start->loop, &cache->timer); /* cannot fail: it only fills the struct */
    cache->timer.data = cache;
    rc = load_pods(cache);
    if (rc < 0) {
        tell_failure(cache, rc,
                     "the file with the labels of pods cannot be used and is left out; the API "
                     "server is asked for those that live");
    }
    *out = cache;
    return 0;
}

static void on_timer_closed(uv_handle_t *handle)
{
    struct tf_pod_cache *cache = handle->data;
    void (*on_closed)(void *ctx) = cache->on_closed;
    void *ctx = cache->closed_ctx;

    cache_free(cache);
    on_closed(ctx);
}

void tf_pod_cache_close(struct tf_pod_cache *cache, void (*on_closed)(void *ctx), void *ctx)
{
    cache->is_closing = true;
    cache->on_closed = on_closed;
    cache->closed_ctx = ctx;
    (void)uv_timer_stop(&cache->timer);
    if (!cache->is_writing) {
        go_on_closing(cache);
    }
}
