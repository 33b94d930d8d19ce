/*
 * test_kubernetes_api.c - what is asked of an API server after each answer: a list, or a watch from
 * where.
 *
 * The HTTP client is played here, in place of libcurl's: each request takes the next answer of a
 * script. The loop's timers run 1000 times faster.
 */
#include <dlfcn.h>
#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../filters/kubernetes/kubernetes.h"

#include "taffrail/http_client.h"

#define HASTE          1000u
#define TOKEN          "token-5d41402abc4b2a76"
#define TOKEN_REST     12000 /* digits behind that: it comes in more than one piece */
#define LIST_OF(items) "{\"metadata\":{\"resourceVersion\":\"7\"},\"items\":[" items "]}"
#define LIST           LIST_OF("")
#define REFUSED        "{\"type\":\"ERROR\",\"object\":{\"code\":500}}"
#define BOOKMARK       "{\"type\":\"BOOKMARK\",\"object\":{\"metadata\":{\"resourceVersion\":\"9\"}}}"
#define POD                                                                                        \
    "{\"metadata\":{\"name\":\"pay-0\",\"namespace\":\"shop\",\"uid\":\"u-1\","                    \
    "\"resourceVersion\":\"8\"}}"
#define ADDED      "{\"type\":\"ADDED\",\"object\":" POD "}"
#define LONG_MS    40000u
#define FROM_CACHE "list 0"
#define FROM_STORE "list newest"
#define FROM_7     "watch 7"

struct answer {
    const char *wanted; /* what the request asks */
    unsigned status;
    const char *body; /* NULL: the connection breaks behind the head */
};

static uint64_t watches_last_ms;

static struct {
    uv_loop_t loop;
    const struct answer *script;
    unsigned count, asked;
    struct tf_http_get get;
    struct tf_http_outcome outcome;
    uv_timer_t soon;
    struct tf_api *api;
    struct tf_filter_status status; /* when it asks */
    unsigned rises;                 /* times that it was up, and not when it asked before */
    char why[256];                  /* it was not, at last */
    uint64_t rest_ms;               /* before it asks */
    void (*on_closed)(void *ctx);
    void *closed_ctx;
} world;

int uv_timer_start(uv_timer_t *timer, uv_timer_cb fn, uint64_t timeout_ms, uint64_t repeat_ms)
{
    static int (*start)(uv_timer_t *, uv_timer_cb, uint64_t, uint64_t);

    if (start == NULL) {
        *(void **)&start = dlsym(RTLD_NEXT, "uv_timer_start");
    }
    world.rest_ms = timer != &world.soon ? timeout_ms : world.rest_ms;
    return start(timer, fn, timeout_ms / HASTE, repeat_ms);
}

/* How many times nothing can be queued for a worker. */
static unsigned refusals_to_queue;

int uv_queue_work(uv_loop_t *loop, uv_work_t *work, uv_work_cb fn, uv_after_work_cb after)
{
    static int (*queue)(uv_loop_t *, uv_work_t *, uv_work_cb, uv_after_work_cb);

    if (queue == NULL) {
        *(void **)&queue = dlsym(RTLD_NEXT, "uv_queue_work");
    }
    if (refusals_to_queue > 0) {
        refusals_to_queue--;
        return UV_ENOMEM;
    }
    return queue(loop, work, fn, after);
}

/* Which growth of a buffer fails, once, and in which answer: 1 the first, 0 none. */
static unsigned failing_growth, failing_answer;
static bool lacks_memory;

/* What grows may leave behind what it held. */
static bool looks_for_tokens;
static unsigned tokens_left;

/* Called by a thread that TSan does not know yet, too. */
__attribute__((no_sanitize_thread)) void *realloc(void *data, size_t size)
{
    static const char token[] = "Authorization: Bearer " TOKEN;
    static void *(*next)(void *data, size_t size);

    if (next == NULL) {
        *(void **)&next = dlsym(RTLD_NEXT, "realloc");
    }
    if (looks_for_tokens && data != NULL && malloc_usable_size(data) >= sizeof token &&
        memcmp(data, token, strlen(token)) == 0) {
        tokens_left++;
    }
    if (lacks_memory && failing_growth > 0 && --failing_growth == 0) {
        return NULL;
    }
    return next(data, size);
}

/* ---- the client ---------------------------------------------------------------------------------
 */

const char *tf_http_client_version(void)
{
    return "played";
}

int tf_http_client_new(uv_loop_t *loop, struct tf_http_client **out)
{
    (void)uv_timer_init(loop, &world.soon);
    *out = (struct tf_http_client *)&world;
    return 0;
}

static void what_is_asked(const char *url, char *text, size_t size)
{
    const char *version = strstr(url, "&resourceVersion=");
    int digits = version != NULL ? (int)strspn(version + 17, "0123456789") : 0;

    (void)snprintf(text, size, "%s %.*s", strstr(url, "&watch=true") != NULL ? "watch" : "list",
                   version != NULL ? digits : 6, version != NULL ? version + 17 : "newest");
}

static void on_closed(void *ctx)
{
    (void)ctx;
}

static void end_answer(uv_timer_t *timer)
{
    (void)timer;
    world.get.on_done(world.get.ctx, &world.outcome);
}

static void give_answer(uv_timer_t *timer)
{
    const struct answer *answer = &world.script[world.asked++];

    world.outcome =
        (struct tf_http_outcome){.is_whole = answer->body != NULL, .status = answer->status};
    (void)snprintf(world.outcome.why, sizeof world.outcome.why, "as the script says");
    if (answer->status == 200) {
        world.get.on_begun(world.get.ctx);
    }
    if (answer->status == 200 && answer->body != NULL) {
        lacks_memory = world.asked == failing_answer;
        world.outcome.is_whole = world.get.on_data(world.get.ctx, tf_slice_text(answer->body)) == 0;
        lacks_memory = false;
    }
    (void)uv_timer_start(timer, end_answer, answer->status == 200 ? watches_last_ms : 0, 0);
}

/* How the filter stands when it asks. */
static void look_at_status(void)
{
    bool was_up = world.status.is_up;

    tf_api_status(world.api, &world.status);
    world.rises += world.status.is_up && !was_up;
    if (!world.status.is_up) {
        (void)snprintf(world.why, sizeof world.why, "%s", world.status.why);
    }
}

int tf_http_client_get(struct tf_http_client *client, const struct tf_http_get *get)
{
    char asked[64];

    (void)client;
    look_at_status();
    if (world.asked == world.count) {
        tf_api_close(world.api, on_closed, NULL);
        return 0;
    }
    what_is_asked(get->url, asked, sizeof asked);
    assert_string_equal(asked, world.script[world.asked].wanted);
    world.get = *get;
    return uv_timer_start(&world.soon, give_answer, 0, 0);
}

static void on_soon_closed(uv_handle_t *handle)
{
    (void)handle;
    world.on_closed(world.closed_ctx);
}

void tf_http_client_close(struct tf_http_client *client, void (*on_end)(void *ctx), void *ctx)
{
    (void)client;
    world.on_closed = on_end;
    world.closed_ctx = ctx;
    uv_close((uv_handle_t *)&world.soon, on_soon_closed);
}

/* ---- scripts ------------------------------------------------------------------------------------
 */

static void on_change(void *ctx)
{
    (void)ctx;
}

/* Runs until each answer was given, and one more request was made. */
static void play(const struct answer *script, unsigned count)
{
    char path[] = "/tmp/taffrail-test-kubernetes-XXXXXX";
    int fd = mkstemp(path);
    struct tf_kubernetes_options options = {.token.text = path, .ca.text = path};
    struct tf_texts none = {.count = 0};
    struct tf_pods pods = {.count = 0};
    struct tf_api_args args = {.loop = &world.loop,
                               .name = "labels",
                               .options = &options,
                               .choice = {.labels = &none, .annotations = &none},
                               .server = "https://127.0.0.1:1",
                               .node = "node-1",
                               .pods = &pods,
                               .on_change = on_change};

    assert_true(fd >= 0 && dprintf(fd, TOKEN "%.*d", TOKEN_REST, 0) > TOKEN_REST && close(fd) == 0);
    memset(&world, 0, sizeof world);
    world.script = script;
    world.count = count;
    assert_int_equal(uv_loop_init(&world.loop), 0);
    assert_int_equal(tf_api_new(&args, &world.api), 0);
    (void)uv_run(&world.loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&world.loop), 0);
    assert_int_equal(world.asked, count);
    watches_last_ms = 0;
    assert_int_equal(unlink(path), 0);
    tf_pods_fini(&pods);
}

#define PLAY(...)                                                                                  \
    do {                                                                                           \
        static const struct answer script[] = {__VA_ARGS__};                                       \
        play(script, TF_COUNT(script));                                                            \
    } while (0)

static void a_version_that_is_gone_is_listed_again(void **state)
{
    (void)state;
    PLAY({FROM_CACHE, 200, LIST}, {FROM_7, 410, ""}, {FROM_STORE, 200, LIST}, {FROM_7, 200, ""});
}

/* "Too large resource version" after a restore of etcd comes as 504, or as an ERROR. */
static void a_version_that_is_refused_again_is_forgotten(void **state)
{
    (void)state;
    PLAY({FROM_CACHE, 200, LIST}, {FROM_7, 504, ""}, {FROM_7, 504, ""}, {FROM_STORE, 200, LIST},
         {FROM_7, 200, BOOKMARK}, {"watch 9", 200, REFUSED}, {"watch 9", 200, REFUSED},
         {FROM_STORE, 200, LIST});
}

/* An event that is nested too deep stands behind this version each time. */
static void so_is_one_that_nothing_sound_follows(void **state)
{
    (void)state;
    PLAY({FROM_CACHE, 200, LIST}, {FROM_7, 200, "}"}, {FROM_7, 200, "}"}, {FROM_STORE, 200, LIST},
         {FROM_7, 200, ""});
}

/* A list costs the server more than a watch, so there must be a reason. */
static void other_failures_keep_the_version(void **state)
{
    (void)state;
    PLAY({FROM_CACHE, 200, LIST}, {FROM_7, 0, ""}, {FROM_7, 0, ""}, {FROM_7, 0, ""},
         {FROM_7, 401, ""}, {FROM_7, 401, ""}, {FROM_7, 403, ""}, {FROM_7, 403, ""},
         {FROM_7, 429, ""}, {FROM_7, 429, ""}, {FROM_7, 503, ""}, {FROM_7, 503, ""},
         {FROM_7, 200, NULL}, {FROM_7, 200, NULL}, {FROM_7, 200, BOOKMARK REFUSED},
         {"watch 9", 200, ""});
}

/* They say nothing about the version: neither that it is refused, nor that it is taken. */
static void refusals_of_a_version_are_counted_alone(void **state)
{
    (void)state;
    PLAY({FROM_CACHE, 200, LIST}, {FROM_7, 0, ""}, {FROM_7, 504, ""}, {FROM_7, 0, ""},
         {FROM_7, 503, ""}, {FROM_7, 504, ""}, {FROM_STORE, 200, LIST}, {FROM_7, 504, ""},
         {FROM_7, 200, ""}, {FROM_7, 504, ""}, {FROM_7, 504, ""}, {FROM_STORE, 200, LIST});
}

/* ---- how it stands ------------------------------------------------------------------------------
 */

/* Its lists are answered, and no watch is: labels that change come late, and the condition says so
 * only of what is down without a break. */
static void a_server_without_watches_stays_down(void **state)
{
    (void)state;
    PLAY({FROM_CACHE, 200, LIST}, {FROM_7, 504, ""}, {FROM_7, 504, ""}, {FROM_STORE, 200, LIST},
         {FROM_7, 504, ""}, {FROM_7, 504, ""}, {FROM_STORE, 200, LIST}, {FROM_7, 504, ""},
         {FROM_7, 504, ""}, {FROM_STORE, 200, LIST});
    assert_int_equal(world.rises, 1);
    assert_false(world.status.is_up);
    PLAY({FROM_CACHE, 200, LIST}, {FROM_7, 200, NULL}, {FROM_7, 200, NULL}, {FROM_7, 200, NULL},
         {FROM_7, 200, NULL});
    assert_int_equal(world.rises, 1);
    assert_false(world.status.is_up);
}

static void a_watch_that_brings_something_is_up(void **state)
{
    (void)state;
    PLAY({FROM_CACHE, 200, LIST}, {FROM_7, 504, ""}, {FROM_7, 504, ""}, {FROM_STORE, 200, LIST},
         {FROM_7, 200, BOOKMARK});
    assert_true(world.status.is_up);
}

/* In a cluster where nothing changes. */
static void so_is_one_that_lasts(void **state)
{
    (void)state;
    watches_last_ms = LONG_MS;
    PLAY({FROM_CACHE, 200, LIST}, {FROM_7, 503, ""}, {FROM_7, 503, ""}, {FROM_7, 503, ""},
         {FROM_7, 200, ""});
    assert_true(world.status.is_up);
}

/* However long that was. */
static void a_server_that_was_away_is_up_when_it_answers(void **state)
{
    (void)state;
    PLAY({FROM_CACHE, 0, ""}, {FROM_CACHE, 0, ""}, {FROM_CACHE, 0, ""}, {FROM_CACHE, 200, LIST});
    assert_true(world.status.is_up);
    PLAY({FROM_CACHE, 200, LIST}, {FROM_7, 0, ""}, {FROM_7, 0, ""}, {FROM_7, 0, ""},
         {FROM_7, 200, ""});
    assert_true(world.status.is_up);
}

/* As by a proxy that ends what is silent for a minute. */
static void a_watch_that_lasted_is_begun_again_soon(void **state)
{
    (void)state;
    watches_last_ms = LONG_MS;
    PLAY({FROM_CACHE, 200, LIST}, {FROM_7, 200, NULL}, {FROM_7, 200, NULL}, {FROM_7, 200, NULL},
         {FROM_7, 200, NULL}, {FROM_7, 200, NULL});
    assert_int_equal(world.status.failures, 5);
    assert_in_range(world.rest_ms, 500, 1000);
}

/* ---- without memory -----------------------------------------------------------------------------
 */

/* For the object, or for what is kept of it. */
#define GROWTHS 2u

static void a_watch_without_memory_is_tried_again(void **state)
{
    (void)state;
    for (unsigned growth = 1; growth <= GROWTHS; growth++) {
        failing_growth = growth;
        failing_answer = 2;
        PLAY({FROM_CACHE, 200, LIST}, {FROM_7, 200, ADDED}, {FROM_7, 200, ADDED},
             {"watch 8", 200, ""});
        assert_int_equal(failing_growth, 0);
        assert_int_equal(world.status.failures, 1);
        assert_string_equal(world.why, "there is no memory for what it sends");
    }
}

static void so_is_a_list(void **state)
{
    (void)state;
    for (unsigned growth = 1; growth <= GROWTHS; growth++) {
        failing_growth = growth;
        failing_answer = 1;
        PLAY({FROM_CACHE, 200, LIST_OF(POD)}, {FROM_CACHE, 200, LIST_OF(POD)}, {FROM_7, 200, ""});
        assert_int_equal(failing_growth, 0);
        assert_int_equal(world.status.failures, 1);
        assert_string_equal(world.why, "there is no memory for what it sends");
    }
}

static void what_cannot_be_queued_is_tried_again(void **state)
{
    (void)state;
    refusals_to_queue = 3;
    PLAY({FROM_CACHE, 200, LIST}, {FROM_7, 200, BOOKMARK});
    assert_int_equal(world.status.failures, 3);
    assert_true(world.status.is_up);
}

static void a_token_is_left_nowhere(void **state)
{
    (void)state;
    looks_for_tokens = true;
    PLAY({FROM_CACHE, 200, LIST}, {FROM_7, 200, ""});
    looks_for_tokens = false;
    assert_int_equal(tokens_left, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_version_that_is_gone_is_listed_again),
        cmocka_unit_test(a_version_that_is_refused_again_is_forgotten),
        cmocka_unit_test(so_is_one_that_nothing_sound_follows),
        cmocka_unit_test(other_failures_keep_the_version),
        cmocka_unit_test(refusals_of_a_version_are_counted_alone),
        cmocka_unit_test(a_server_without_watches_stays_down),
        cmocka_unit_test(a_watch_that_brings_something_is_up),
        cmocka_unit_test(so_is_one_that_lasts),
        cmocka_unit_test(a_server_that_was_away_is_up_when_it_answers),
        cmocka_unit_test(a_watch_that_lasted_is_begun_again_soon),
        cmocka_unit_test(a_watch_without_memory_is_tried_again),
        cmocka_unit_test(so_is_a_list),
        cmocka_unit_test(what_cannot_be_queued_is_tried_again),
        cmocka_unit_test(a_token_is_left_nowhere),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
