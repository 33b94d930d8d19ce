/*
 * test_http_client.c - the HTTP client where no server answers, nor DNS. With a server it is tested
 * by tests/integration/test_kubernetes.py.
 *
 * Names are looked up here, in place of libc's: the answer comes when a test says so.
 */
#include <netdb.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "taffrail/http_client.h"

#define SILENT_S   60 /* DNS, at most */
#define QUICKLY_MS 20000u
#define CONNECT_MS 100u
#define HEADER     "Authorization: Bearer x"

static struct {
    pthread_key_t thread; /* its destructor is what libcurl's thread does last */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool is_asked, is_silent, has_ended;
} dns = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static struct {
    uv_loop_t loop;
    struct tf_http_client *client;
    unsigned done, closed;
    struct tf_http_outcome outcome;
} world;

int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints,
                struct addrinfo **out)
{
    struct timespec until;

    (void)name;
    (void)service;
    (void)hints;
    *out = NULL;
    (void)clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += SILENT_S;
    (void)pthread_mutex_lock(&dns.lock);
    dns.is_asked = true;
    (void)pthread_cond_broadcast(&dns.changed);
    while (dns.is_silent && pthread_cond_timedwait(&dns.changed, &dns.lock, &until) == 0) {
    }
    (void)pthread_mutex_unlock(&dns.lock);
    (void)pthread_setspecific(dns.thread, &dns);
    return EAI_AGAIN;
}

/* Behind all that libcurl has for its thread to free. */
static void on_thread_end(void *value)
{
    (void)value;
    (void)pthread_mutex_lock(&dns.lock);
    dns.has_ended = true;
    (void)pthread_cond_broadcast(&dns.changed);
    (void)pthread_mutex_unlock(&dns.lock);
}

/* In place of libc's. */
static unsigned wiped;

void explicit_bzero(void *data, size_t size)
{
    volatile char *bytes = data; /* for gcc, that only writes */
    bool is_header = size == strlen(HEADER);

    for (size_t i = 0; i < size; i++) {
        is_header = is_header && bytes[i] == HEADER[i];
        bytes[i] = 0;
    }
    wiped += is_header;
}

static void wait_for(const bool *what)
{
    (void)pthread_mutex_lock(&dns.lock);
    while (!*what) {
        (void)pthread_cond_wait(&dns.changed, &dns.lock);
    }
    (void)pthread_mutex_unlock(&dns.lock);
}

static void end_silence(void)
{
    (void)pthread_mutex_lock(&dns.lock);
    dns.is_silent = false;
    (void)pthread_cond_broadcast(&dns.changed);
    (void)pthread_mutex_unlock(&dns.lock);
    wait_for(&dns.has_ended);
}

static void on_begun(void *ctx)
{
    (void)ctx;
}

static int on_data(void *ctx, struct tf_slice data)
{
    (void)ctx;
    (void)data;
    return 0;
}

static void on_closed(void *ctx)
{
    (void)ctx;
    world.closed++;
}

static void on_done(void *ctx, const struct tf_http_outcome *outcome)
{
    (void)ctx;
    world.done++;
    world.outcome = *outcome;
}

static void begin(uint64_t connect_ms)
{
    static const char *const headers[] = {HEADER, NULL};
    const struct tf_http_get get = {.url = "https://api.example.com/",
                                    .headers = headers,
                                    .authorities = tf_slice_text(""),
                                    .connect_ms = connect_ms,
                                    .whole_ms = 60000,
                                    .on_begun = on_begun,
                                    .on_data = on_data,
                                    .on_done = on_done};

    dns.is_silent = true;
    dns.is_asked = dns.has_ended = false;
    world.done = world.closed = 0;
    assert_int_equal(uv_loop_init(&world.loop), 0);
    assert_int_equal(tf_http_client_new(&world.loop, &world.client), 0);
    assert_int_equal(tf_http_client_get(world.client, &get), 0);
    (void)uv_run(&world.loop, UV_RUN_ONCE);
    wait_for(&dns.is_asked);
}

static void close_client(void)
{
    tf_http_client_close(world.client, on_closed, NULL);
    (void)uv_run(&world.loop, UV_RUN_DEFAULT);
    assert_int_equal(world.closed, 1);
    assert_int_equal(uv_loop_close(&world.loop), 0);
}

static uint64_t now_ms(void)
{
    return uv_hrtime() / 1000000;
}

static void a_stop_does_not_wait_for_dns(void **state)
{
    uint64_t began_ms;

    (void)state;
    wiped = 0;
    begin(60000);
    began_ms = now_ms();
    close_client();
    assert_true(now_ms() - began_ms < QUICKLY_MS);
    assert_int_equal(world.done, 0);
    assert_int_equal(wiped, 1); /* its header */
    end_silence();
}

static void a_timeout_does_not_wait_for_dns(void **state)
{
    uint64_t began_ms;

    (void)state;
    begin(CONNECT_MS);
    began_ms = now_ms();
    while (world.done == 0 && uv_run(&world.loop, UV_RUN_ONCE) != 0) {
    }
    assert_true(now_ms() - began_ms < QUICKLY_MS);
    assert_false(world.outcome.is_whole);
    assert_int_equal(world.outcome.status, 0);
    close_client();
    end_silence();
}

/* As for Wireshark: who has them reads the token. */
static void no_keys_are_written_for_others(void **state)
{
    char folder[] = "/tmp/taffrail-test-http-client-XXXXXX", path[64];

    (void)state;
    assert_non_null(mkdtemp(folder));
    (void)snprintf(path, sizeof path, "%s/keys", folder);
    assert_int_equal(setenv("SSLKEYLOGFILE", path, 1), 0);
    begin(60000);
    close_client();
    end_silence();
    assert_int_equal(rmdir(folder), 0); /* nothing is in it */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_stop_does_not_wait_for_dns),
        cmocka_unit_test(a_timeout_does_not_wait_for_dns),
        cmocka_unit_test(no_keys_are_written_for_others),
    };

    if (pthread_key_create(&dns.thread, on_thread_end) != 0) {
        return 1;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
