/*
 * test_kubernetes_cache.c - the file of pods: when it is written, where, and what follows a
 * failure.
 *
 * Its text is in test_kubernetes.c. The loop's timers run 50 times faster.
 */
#include <dlfcn.h>
#include <malloc.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../agent/spool/internal.h"
#include "../../filters/kubernetes/kubernetes.h"

#include "taffrail/http_client.h"

#define HASTE    50u
#define ATTEMPTS 3u

struct fixture {
    uv_loop_t loop;
    char folder[64], file[96], file_new[128];
    struct tf_keyring ring;
    struct tf_spool *spool;
    struct tf_pods pods;
    struct tf_filter_start start;
    struct tf_pod_cache *cache;
    bool is_closed;
};

int uv_timer_start(uv_timer_t *timer, uv_timer_cb fn, uint64_t timeout_ms, uint64_t repeat_ms)
{
    static int (*start)(uv_timer_t *, uv_timer_cb, uint64_t, uint64_t);

    if (start == NULL) {
        *(void **)&start = dlsym(RTLD_NEXT, "uv_timer_start");
    }
    return start(timer, fn, timeout_ms / HASTE, repeat_ms);
}

/* A write that no worker takes, as one that is cancelled. */
static bool cancels;
static uv_after_work_cb after_cancelled;

static void do_nothing(uv_work_t *work)
{
    (void)work;
}

static void tell_cancelled(uv_work_t *work, int status)
{
    (void)status;
    after_cancelled(work, UV_ECANCELED);
}

int uv_queue_work(uv_loop_t *loop, uv_work_t *work, uv_work_cb fn, uv_after_work_cb after)
{
    static int (*queue)(uv_loop_t *, uv_work_t *, uv_work_cb, uv_after_work_cb);

    if (queue == NULL) {
        *(void **)&queue = dlsym(RTLD_NEXT, "uv_queue_work");
    }
    after_cancelled = after;
    return queue(loop, work, cancels ? do_nothing : fn, cancels ? tell_cancelled : after);
}

/* Texts in clear that a buffer left behind as it grew, and that were wiped. */
static bool looks_for_texts;
static unsigned texts_left, texts_wiped;

/* Called by a thread that TSan does not know yet, too. */
__attribute__((no_sanitize_thread)) static bool is_text(const void *data, size_t size)
{
    return looks_for_texts && data != NULL && size >= 4 && memcmp(data, "TFK1", 4) == 0;
}

__attribute__((no_sanitize_thread)) void *realloc(void *data, size_t size)
{
    static void *(*next)(void *data, size_t size);

    if (next == NULL) {
        *(void **)&next = dlsym(RTLD_NEXT, "realloc");
    }
    texts_left += is_text(data, data != NULL ? malloc_usable_size(data) : 0);
    return next(data, size);
}

/* In place of libc's. */
void explicit_bzero(void *data, size_t size)
{
    char *volatile bytes = data; /* for gcc, that only writes */

    texts_wiped += is_text(bytes, size);
    for (size_t i = 0; i < size; i++) {
        bytes[i] = 0;
    }
}

/* Each box has a random salt, so this tells where it is sealed. */
static struct {
    pthread_t loop;
    unsigned on_loop, elsewhere; /* times */
} sealing;

int RAND_bytes(unsigned char *bytes, int size)
{
    static int (*make)(unsigned char *, int);

    if (make == NULL) {
        *(void **)&make = dlsym(RTLD_NEXT, "RAND_bytes");
    }
    if (pthread_equal(pthread_self(), sealing.loop)) {
        sealing.on_loop++;
    } else {
        sealing.elsewhere++;
    }
    return make(bytes, size);
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);

    assert_non_null(f);
    (void)snprintf(f->folder, sizeof f->folder, "/tmp/taffrail-test-kubernetes-XXXXXX");
    assert_non_null(mkdtemp(f->folder));
    (void)snprintf(f->file, sizeof f->file, "%s/kubernetes-labels", f->folder);
    (void)snprintf(f->file_new, sizeof f->file_new, "%s.new", f->file);
    f->spool = calloc(1, sizeof *f->spool);
    assert_non_null(f->spool);
    f->ring.count = 1;
    memset(f->ring.keks[0].key, 'k', TF_KEY_BYTES);
    f->spool->ring = &f->ring;
    assert_int_equal(uv_loop_init(&f->loop), 0);
    f->start = (struct tf_filter_start){.loop = &f->loop, .spool = f->spool, .folder = f->folder};
    assert_int_equal(tf_pod_cache_new(&f->start, "labels", &f->pods, &f->cache), 0);
    *state = f;
    return 0;
}

static void on_closed(void *ctx)
{
    struct fixture *f = ctx;

    f->is_closed = true;
}

static void close_cache(struct fixture *f)
{
    tf_pod_cache_close(f->cache, on_closed, f);
    (void)uv_run(&f->loop, UV_RUN_DEFAULT);
    assert_true(f->is_closed);
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    if (!f->is_closed) {
        close_cache(f);
    }
    assert_int_equal(uv_loop_close(&f->loop), 0);
    tf_pods_fini(&f->pods);
    (void)rmdir(f->file_new);
    (void)unlink(f->file);
    assert_int_equal(rmdir(f->folder), 0);
    free(f->spool);
    free(f);
    return 0;
}

static void put_named(struct fixture *f, const char *uid)
{
    static const struct tf_texts none;
    const struct tf_pod_choice choice = {.labels = &none, .annotations = &none};
    struct tf_buf bytes;
    uint64_t left_out = 0;
    char json[128];

    (void)snprintf(json, sizeof json,
                   "{\"metadata\":{\"name\":\"pay-0\",\"namespace\":\"shop\",\"uid\":\"%s\"}}",
                   uid);
    tf_buf_init(&bytes, TF_POD_BYTES_MAX);
    assert_int_equal(tf_pod_parse(tf_slice_text(json), &choice, &bytes, &left_out), 0);
    assert_int_equal(tf_pods_put(&f->pods, tf_buf_slice(&bytes), 1), 0);
    tf_buf_fini(&bytes);
    tf_pod_cache_changed(f->cache);
}

static void put_pod(struct fixture *f)
{
    put_named(f, "u-1");
}

/* Without anything to do the loop ends. */
static void run_until_failures(struct fixture *f, uint64_t failures)
{
    while (tf_pod_cache_failures(f->cache) < failures && uv_run(&f->loop, UV_RUN_ONCE) != 0) {
    }
    assert_int_equal(tf_pod_cache_failures(f->cache), failures);
}

static void assert_file_holds(struct fixture *f, uint32_t count)
{
    struct tf_pods pods = {.count = 0};
    struct tf_pod_cache *cache;

    f->is_closed = false;
    assert_int_equal(tf_pod_cache_new(&f->start, "labels", &pods, &cache), 0);
    assert_int_equal(tf_pod_cache_failures(cache), 0);
    assert_int_equal(pods.count, count);
    tf_pod_cache_close(cache, on_closed, f);
    (void)uv_run(&f->loop, UV_RUN_DEFAULT);
    assert_true(f->is_closed);
    tf_pods_fini(&pods);
}

static void a_change_is_written_soon(void **state)
{
    struct fixture *f = *state;

    put_pod(f);
    (void)uv_run(&f->loop, UV_RUN_DEFAULT); /* the timer, then the write */
    assert_int_equal(access(f->file, F_OK), 0);
    close_cache(f);
    assert_file_holds(f, 1);
}

/* Megabytes take milliseconds. */
static void the_loop_does_not_seal(void **state)
{
    struct fixture *f = *state;

    sealing.loop = pthread_self();
    sealing.on_loop = sealing.elsewhere = 0;
    put_pod(f);
    (void)uv_run(&f->loop, UV_RUN_DEFAULT);
    assert_int_equal(sealing.on_loop, 0);
    assert_int_equal(sealing.elsewhere, 1);
}

/* As on a disk that is full for a while. */
static void a_write_that_failed_is_tried_again(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(mkdir(f->file_new, 0700), 0);
    put_pod(f);
    run_until_failures(f, ATTEMPTS);
    assert_int_equal(rmdir(f->file_new), 0);
    (void)uv_run(&f->loop, UV_RUN_DEFAULT);
    assert_int_equal(access(f->file, F_OK), 0);
    assert_int_equal(tf_pod_cache_failures(f->cache), ATTEMPTS);
    close_cache(f);
    assert_file_holds(f, 1);
}

/* It is wiped nevertheless, and the next one begins anew. */
static void a_write_that_never_began_is_tried_again(void **state)
{
    struct fixture *f = *state;

    looks_for_texts = cancels = true;
    texts_wiped = 0;
    put_pod(f);
    run_until_failures(f, ATTEMPTS);
    assert_int_equal(texts_wiped, ATTEMPTS);
    cancels = false;
    (void)uv_run(&f->loop, UV_RUN_DEFAULT);
    assert_int_equal(texts_wiped, ATTEMPTS + 1);
    looks_for_texts = false;
    close_cache(f);
    assert_file_holds(f, 1);
}

static void a_text_is_left_nowhere(void **state)
{
    struct fixture *f = *state;
    char uid[16];

    for (unsigned i = 0; i < 100; i++) {
        (void)snprintf(uid, sizeof uid, "u-%u", i);
        put_named(f, uid);
    }
    looks_for_texts = true;
    texts_left = texts_wiped = 0;
    (void)uv_run(&f->loop, UV_RUN_DEFAULT);
    looks_for_texts = false;
    assert_int_equal(texts_left, 0);
    assert_int_equal(texts_wiped, 1);
    close_cache(f);
    assert_file_holds(f, 100);
}

static void a_stop_tries_once(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(mkdir(f->file_new, 0700), 0);
    put_pod(f);
    close_cache(f); /* it ends */
    assert_int_equal(rmdir(f->file_new), 0);
    assert_file_holds(f, 0);
}

static void a_folder_that_is_not_there_is_named(void **state)
{
    struct fixture *f = *state;
    struct tf_kubernetes_options options = {.server.text = "https://127.0.0.1:1",
                                            .node.text = "node-1",
                                            .token.text = "",
                                            .ca.text = ""};
    struct tf_filter_args args = {.name = "labels", .options = &options};
    struct tf_needs *needs = tf_needs_new();
    struct tf_error err;
    void *self;

    if (tf_http_client_version() == NULL) {
        skip(); /* it does not open */
    }
    f->start.folder = "/no/such/folder";
    tf_error_init(&err);
    assert_non_null(needs);
    assert_int_equal(tf_filter_kubernetes.open(&args, &self, &err), 0);
    assert_int_equal(tf_filter_kubernetes.prepare(self, "host", needs, &err), 0);
    assert_true(tf_filter_kubernetes.start(self, &f->start, &err) < 0);
    assert_string_equal(tf_error_first(&err),
                        "filter labels: its file in /no/such/folder cannot be "
                        "kept: no such file or directory");
    tf_filter_kubernetes.close(self);
    tf_needs_free(needs);
    tf_error_fini(&err);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(a_change_is_written_soon),
        TEST(the_loop_does_not_seal),
        TEST(a_write_that_failed_is_tried_again),
        TEST(a_write_that_never_began_is_tried_again),
        TEST(a_text_is_left_nowhere),
        TEST(a_stop_tries_once),
        TEST(a_folder_that_is_not_there_is_named),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);

    uv_library_shutdown(); /* its workers free what OpenSSL has for them */
    return failed;
}
