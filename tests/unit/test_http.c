/*
 * test_http.c - the HTTP server over TLS, TCP and a Unix socket, with polite, slow and hostile
 * clients on the same loop: requests are answered in order, bodies wait for room, every bound ends
 * in an answer or a closed connection, and on_over always comes.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "taffrail/http.h"
#include "taffrail/log.h"
#include "tls_fixture.h"

#define DEADLINE_MS 20000u
#define TEXT_MAX    (40u << 20)
#define CLIENTS_MAX 80u
#define NODE        "spiffe://example.com/node/7"
#define GET(path)   "GET " path " HTTP/1.1\r\nHost: x\r\n\r\n"
#define CHUNKED                                                                                    \
    "POST /hold HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n"

/* ---- world ---------------------------------------------------------------------------------- */

struct client {
    struct tf_link *link;
    int fd; /* plain; -1: TLS */
    bool open, closed;
    char *text; /* what came, ends in NUL */
    size_t size;
};

static struct {
    uv_loop_t loop;
    uv_timer_t deadline, ticker; /* plain clients are looked at each tick */
    bool late, is_running, is_closed;
    struct tf_http *http;
    struct tf_http_address address;
    struct client clients[CLIENTS_MAX];
    struct tf_http_request *kept;
    size_t room;       /* of /hold: so many bytes are taken */
    struct tf_buf got; /* of bodies */
    uint32_t requests, ended, over, answered, refused;
    char reason[32], identity[64];
} world;

static struct {
    struct tls_fixture files;
    struct tls_cert ca, server_cert, node_cert, stranger_cert;
    struct tf_tls *server, *node, *stranger;
} tls;

static const struct tf_http_limits usual = {.connections = 8,
                                            .per_identity = 4,
                                            .head_bytes = 16384,
                                            .handshake_ms = 5000,
                                            .head_ms = 5000,
                                            .idle_ms = 5000};

/* ---- the handler ---------------------------------------------------------------------------- */

static void answer(struct tf_http_request *request, unsigned status, struct tf_slice body)
{
    struct tf_http_answer answer = {.status = status, .type = "text/plain", .body = body};

    if (status == 405) {
        answer.allow = "GET";
    }
    tf_http_answer(request, &answer);
}

static size_t take_some(void *ctx, struct tf_slice piece)
{
    size_t size = piece.size < world.room ? piece.size : world.room;

    (void)ctx;
    world.room -= size;
    assert_int_equal(tf_buf_append(&world.got, piece.data, size), 0);
    return size;
}

static size_t answer_early(void *ctx, struct tf_slice piece)
{
    (void)piece;
    answer(ctx, 400, tf_slice_text("early\n"));
    return 0;
}

static size_t cut(void *ctx, struct tf_slice piece)
{
    (void)piece;
    tf_http_cut(ctx, "cut");
    return 0;
}

static size_t resume_in_it(void *ctx, struct tf_slice piece)
{
    tf_http_resume(ctx);
    (void)tf_buf_append(&world.got, piece.data, 1);
    return 1;
}

static void on_end(void *ctx)
{
    (void)ctx;
    world.ended++;
}

static void answer_at_end(void *ctx)
{
    world.ended++;
    answer(ctx, 202, tf_slice_text("all\n"));
}

static void on_over(void *ctx, bool is_answered)
{
    world.over++;
    world.answered += is_answered;
    world.kept = world.kept == ctx ? NULL : world.kept;
}

static void on_request(void *ctx, struct tf_http_request *request)
{
    const char *path = tf_http_path(request);
    struct tf_http_life life = {.ctx = request, .on_over = on_over, .on_end = on_end};
    char text[256];

    (void)ctx;
    world.requests++;
    if (strcmp(path, "/now") == 0) {
        const char *note = tf_http_header(request, "x-note");
        const char *identity = tf_http_identity(request);

        (void)snprintf(text, sizeof text, "%s %s by %s note %s\n", tf_http_method(request), path,
                       identity == NULL ? "nobody" : identity, note == NULL ? "none" : note);
        answer(request, strcmp(tf_http_method(request), "GET") == 0 ? 200 : 405,
               tf_slice_text(text));
    } else if (strcmp(path, "/hold") == 0) {
        life.on_data = take_some;
        world.kept = request;
        tf_http_follow(request, &life);
    } else if (strcmp(path, "/take") == 0) {
        life.on_data = resume_in_it;
        life.on_end = answer_at_end;
        tf_http_follow(request, &life);
    } else if (strcmp(path, "/early") == 0) {
        life.on_data = answer_early;
        tf_http_follow(request, &life);
    } else if (strcmp(path, "/cut") == 0) {
        life.on_data = cut;
        tf_http_follow(request, &life);
    } else if (strcmp(path, "/big") == 0) {
        char *big = calloc(1, 32u << 20);

        assert_non_null(big);
        tf_http_follow(request, &life);
        answer(request, 200, tf_slice(big, 32u << 20));
        free(big);
    } else {
        answer(request, 404, tf_slice_text("not here\n"));
    }
}

static bool admits(void *ctx, const char *identity)
{
    (void)ctx;
    return strcmp(identity, NODE) == 0;
}

static void on_refused(void *ctx, const struct tf_http_refusal *refusal)
{
    (void)ctx;
    world.refused++;
    (void)snprintf(world.reason, sizeof world.reason, "%s", refusal->reason);
    (void)snprintf(world.identity, sizeof world.identity, "%s", refusal->identity);
}

/* ---- the loop ------------------------------------------------------------------------------- */

static void look_at_plain(uv_timer_t *timer)
{
    static char data[65536];

    (void)timer;
    for (size_t i = 0; i < CLIENTS_MAX; i++) {
        struct client *client = &world.clients[i];
        ssize_t n;

        if (client->fd < 0 || client->closed || !client->open) {
            continue;
        }
        n = recv(client->fd, data, sizeof data, MSG_DONTWAIT);
        if (n > 0 && client->size + (size_t)n < TEXT_MAX) {
            memcpy(client->text + client->size, data, (size_t)n);
            client->size += (size_t)n;
            client->text[client->size] = '\0';
        }
        client->closed = n == 0 || (n < 0 && errno != EAGAIN);
    }
}

static void on_deadline(uv_timer_t *timer)
{
    (void)timer;
    world.late = true;
}

static bool run_until(bool (*condition)(const void *ctx), const void *ctx, uint64_t ms)
{
    world.late = false;
    assert_int_equal(uv_timer_start(&world.deadline, on_deadline, ms, 0), 0);
    while (!condition(ctx) && !world.late) {
        (void)uv_run(&world.loop, UV_RUN_ONCE);
    }
    (void)uv_timer_stop(&world.deadline);
    return condition(ctx);
}

static bool never(const void *ctx)
{
    (void)ctx;
    return false;
}

static bool is_open(const void *ctx)
{
    return ((const struct client *)ctx)->open || ((const struct client *)ctx)->closed;
}

static bool is_gone(const void *ctx)
{
    return ((const struct client *)ctx)->closed;
}

static bool is_over(const void *ctx)
{
    return world.over >= *(const uint32_t *)ctx;
}

static bool is_ended(const void *ctx)
{
    return world.ended >= *(const uint32_t *)ctx;
}

static bool has_kept(const void *ctx)
{
    (void)ctx;
    return world.kept != NULL;
}

static bool has_got(const void *ctx)
{
    return world.got.size >= *(const size_t *)ctx;
}

static bool has_asked(const void *ctx)
{
    return world.requests >= *(const uint32_t *)ctx;
}

static bool has_refused(const void *ctx)
{
    return world.refused >= *(const uint32_t *)ctx;
}

static bool is_empty(const void *ctx)
{
    (void)ctx;
    return tf_http_connections(world.http) == 0;
}

static bool is_closed(const void *ctx)
{
    (void)ctx;
    return world.is_closed;
}

struct wanted {
    const struct client *client;
    const char *text;
    uint32_t times;
};

static bool has_text(const void *ctx)
{
    const struct wanted *wanted = ctx;
    const char *at = wanted->client->text;
    uint32_t times = 0;

    while ((at = strstr(at, wanted->text)) != NULL) {
        at += strlen(wanted->text);
        times++;
    }
    return times >= wanted->times;
}

static bool receives(const struct client *client, const char *text, uint32_t times)
{
    return run_until(has_text, &(struct wanted){client, text, times}, DEADLINE_MS);
}

/* ---- clients -------------------------------------------------------------------------------- */

static void on_client_open(void *ctx, const char *identity)
{
    (void)identity;
    ((struct client *)ctx)->open = true;
}

static int on_client_data(void *ctx, const char *data, size_t size)
{
    struct client *client = ctx;

    if (client->size + size < TEXT_MAX) {
        memcpy(client->text + client->size, data, size);
        client->size += size;
        client->text[client->size] = '\0';
    }
    return 0;
}

static void on_client_closed(void *ctx, int status, const char *reason)
{
    (void)status;
    (void)reason;
    ((struct client *)ctx)->closed = true;
    ((struct client *)ctx)->link = NULL;
}

static struct client *fresh_client(void)
{
    for (size_t i = 0; i < CLIENTS_MAX; i++) {
        if (world.clients[i].text == NULL) {
            world.clients[i] = (struct client){.fd = -1, .text = malloc(TEXT_MAX)};
            assert_non_null(world.clients[i].text);
            world.clients[i].text[0] = '\0';
            return &world.clients[i];
        }
    }
    fail();
    return NULL;
}

static struct sockaddr_in where(void)
{
    char text[TF_HTTP_PEER_MAX + 1];
    struct sockaddr_in to;

    assert_int_equal(uv_ip4_addr("127.0.0.1", (int)tf_http_bound(world.http, text), &to), 0);
    return to;
}

static struct client *connect_tls(struct tf_tls *with)
{
    struct client *client = fresh_client();
    struct sockaddr_in to = where();
    struct tf_link_events events = {.ctx = client,
                                    .on_open = on_client_open,
                                    .on_data = on_client_data,
                                    .on_closed = on_client_closed};

    assert_int_equal(tf_link_connect(&world.loop, with, (struct sockaddr *)&to, "localhost", 5000,
                                     &events, &client->link),
                     0);
    assert_true(run_until(is_open, client, DEADLINE_MS));
    return client;
}

/* from NULL: whatever the kernel takes. */
static struct client *connect_from(const char *from)
{
    struct client *client = fresh_client();
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    struct sockaddr_in in;
    bool is_unix = world.address.unix_path[0] != '\0';

    client->fd = socket(is_unix ? AF_UNIX : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(client->fd >= 0);
    if (is_unix) {
        memcpy(un.sun_path, world.address.unix_path, sizeof un.sun_path);
        assert_int_equal(connect(client->fd, (struct sockaddr *)&un, sizeof un), 0);
    } else {
        if (from != NULL) {
            assert_int_equal(uv_ip4_addr(from, 0, &in), 0);
            assert_int_equal(bind(client->fd, (struct sockaddr *)&in, sizeof in), 0);
        }
        in = where();
        assert_int_equal(connect(client->fd, (struct sockaddr *)&in, sizeof in), 0);
    }
    client->open = true;
    return client;
}

static struct client *connect_plain(void)
{
    return connect_from(NULL);
}

static void say_bytes(struct client *client, const char *text, size_t size)
{
    struct tf_slice part = tf_slice(text, size);

    if (client->fd >= 0) {
        assert_int_equal(send(client->fd, text, size, MSG_NOSIGNAL), (ssize_t)size);
    } else if (client->link != NULL) {
        (void)tf_link_write(client->link, &part, 1);
    }
}

static void say(struct client *client, const char *text)
{
    say_bytes(client, text, strlen(text));
}

static void hang_up(struct client *client)
{
    if (client->fd >= 0) {
        (void)close(client->fd);
        client->fd = -1;
        client->closed = true;
    } else if (client->link != NULL) {
        tf_link_close(client->link, "test");
    }
}

/* ---- fixture -------------------------------------------------------------------------------- */

static int make_all(void **state)
{
    struct tf_tls_options options;
    struct tf_error err = {0};

    (void)state;
    (void)signal(SIGPIPE, SIG_IGN);
    tf_log_configure(TF_LOG_ERROR, TF_LOG_LOGFMT);
    tls_fixture_init(&tls.files);
    tls.ca = tls_ca_make("ca");
    tls.server_cert = tls_cert_make(&(struct tls_cert_options){
        .name = "server", .san = "DNS:localhost", .usage = "serverAuth", .issuer = &tls.ca});
    tls.node_cert = tls_cert_make(&(struct tls_cert_options){
        .name = "node", .san = "URI:" NODE, .usage = "clientAuth", .issuer = &tls.ca});
    tls.stranger_cert = tls_cert_make(&(struct tls_cert_options){
        .name = "stranger", .san = "URI:x:y", .usage = "clientAuth", .issuer = &tls.ca});
    tls_fixture_options(&tls.files, "server", &tls.ca, &tls.server_cert, &options);
    assert_int_equal(tf_tls_server_new(&options, NULL, &tls.server, &err), 0);
    tls_fixture_options(&tls.files, "node", &tls.ca, &tls.node_cert, &options);
    assert_int_equal(tf_tls_client_new(&options, NULL, &tls.node, &err), 0);
    tls_fixture_options(&tls.files, "stranger", &tls.ca, &tls.stranger_cert, &options);
    assert_int_equal(tf_tls_client_new(&options, NULL, &tls.stranger, &err), 0);
    tf_error_fini(&err);
    return 0;
}

static int free_all(void **state)
{
    (void)state;
    tf_tls_unref(tls.server);
    tf_tls_unref(tls.node);
    tf_tls_unref(tls.stranger);
    tls_cert_free(&tls.ca);
    tls_cert_free(&tls.server_cert);
    tls_cert_free(&tls.node_cert);
    tls_cert_free(&tls.stranger_cert);
    tls_fixture_fini(&tls.files);
    return 0;
}

static void start(const char *address, struct tf_tls *with, const struct tf_http_limits *limits)
{
    struct tf_http_handler handler = {
        .admits = admits, .on_refused = on_refused, .on_request = on_request};

    assert_int_equal(tf_http_address_parse(address, &world.address), 0);
    assert_int_equal(
        tf_http_start(&world.loop, &world.address, with, limits, &handler, &world.http), 0);
    world.is_running = true;
}

static int set_up(void **state)
{
    (void)state;
    memset(&world, 0, sizeof world);
    tf_buf_init(&world.got, TEXT_MAX);
    assert_int_equal(uv_loop_init(&world.loop), 0);
    assert_int_equal(uv_timer_init(&world.loop, &world.deadline), 0);
    assert_int_equal(uv_timer_init(&world.loop, &world.ticker), 0);
    assert_int_equal(uv_timer_start(&world.ticker, look_at_plain, 1, 1), 0);
    return 0;
}

static void on_http_closed(void *ctx)
{
    (void)ctx;
    world.is_closed = true;
}

static void stop(void)
{
    world.is_running = false;
    tf_http_close(world.http, on_http_closed, NULL);
    assert_true(run_until(is_closed, NULL, DEADLINE_MS));
}

static int tear_down(void **state)
{
    (void)state;
    if (world.is_running) {
        stop();
    }
    for (size_t i = 0; i < CLIENTS_MAX; i++) {
        if (world.clients[i].text != NULL) {
            hang_up(&world.clients[i]);
        }
    }
    uv_close((uv_handle_t *)&world.deadline, NULL);
    uv_close((uv_handle_t *)&world.ticker, NULL);
    (void)uv_run(&world.loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&world.loop), 0);
    for (size_t i = 0; i < CLIENTS_MAX; i++) {
        free(world.clients[i].text);
    }
    tf_buf_fini(&world.got);
    return 0;
}

/* ---- tests ---------------------------------------------------------------------------------- */

static void addresses_are_read_and_wrong_ones_refused(void **state)
{
    static const char *const wrong[] = {"",      "127.0.0.1",  "127.0.0.1:", ":80",
                                        "x:80",  "[::1]",      "[x]:1",      "127.0.0.1:65536",
                                        "unix:", "1.2.3.4:1x", "[]:1",       "::1:80"};
    struct tf_http_address address;
    char path[200] = "unix:/";

    (void)state;
    for (size_t i = 0; i < TF_COUNT(wrong); i++) {
        assert_int_equal(tf_http_address_parse(wrong[i], &address), -EINVAL);
    }
    memset(path + 6, 'a', 150);
    assert_int_equal(tf_http_address_parse(path, &address), -EINVAL);
    assert_int_equal(tf_http_address_parse("[::1]:19532", &address), 0);
    assert_int_equal(address.address.ss_family, AF_INET6);
    assert_int_equal(tf_http_address_parse("0.0.0.0:19532", &address), 0);
    assert_int_equal(address.address.ss_family, AF_INET);
}

static void plain_requests_are_answered_on_tcp(void **state)
{
    struct client *client;

    (void)state;
    start("127.0.0.1:0", NULL, &usual);
    client = connect_plain();
    say(client, "GET /now?x=1 HTTP/1.1\r\nHost: x\r\nX-Note: 42\r\n\r\n");
    assert_true(receives(client, "GET /now by nobody note 42\n", 1));
    assert_non_null(strstr(client->text, "HTTP/1.1 200 OK\r\n"));
    assert_non_null(strstr(client->text, "Content-Type: text/plain\r\n"));
    say(client, GET("/nowhere"));
    assert_true(receives(client, "HTTP/1.1 404 Not Found\r\n", 1));
    say(client, "POST /now HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
    assert_true(receives(client, "Allow: GET\r\n", 1));
    assert_non_null(strstr(client->text, "HTTP/1.1 405 "));
    assert_int_equal(tf_http_connections(world.http), 1);
}

static void a_unix_socket_answers_and_a_stale_one_is_replaced(void **state)
{
    char path[64];
    struct stat status;
    struct tf_http *second;
    int stale = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct client *client;

    (void)state;
    (void)snprintf(path, sizeof path, "unix:%s/http.sock", tls.files.folder);
    (void)snprintf(address.sun_path, sizeof address.sun_path, "%s", path + 5);
    assert_int_equal(bind(stale, (struct sockaddr *)&address, sizeof address), 0);
    (void)close(stale);
    start(path, NULL, &usual);
    assert_int_equal(stat(path + 5, &status), 0);
    assert_int_equal(status.st_mode & 0777, 0660);
    client = connect_plain();
    say(client, GET("/now"));
    assert_true(receives(client, "GET /now by nobody", 1));
    assert_int_equal(tf_http_start(&world.loop, &world.address, NULL, &usual,
                                   &(struct tf_http_handler){.on_request = on_request}, &second),
                     -EADDRINUSE);
    stop();
    assert_int_equal(stat(path + 5, &status), -1);
}

static void tls_proves_who_asks_and_a_body_may_wait_for_its_answer(void **state)
{
    struct client *client;

    (void)state;
    start("127.0.0.1:0", tls.server, &usual);
    client = connect_tls(tls.node);
    world.room = TEXT_MAX;
    say(client, CHUNKED);
    assert_true(receives(client, "HTTP/1.1 100 Continue\r\n", 1));
    say(client, "5\r\nhello\r\n");
    assert_true(run_until(has_got, &(size_t){5}, DEADLINE_MS));
    assert_int_equal(world.ended, 0);
    say(client, "6\r\n world\r\n0\r\n\r\n");
    assert_true(run_until(is_ended, &(uint32_t){1}, DEADLINE_MS));
    (void)run_until(never, NULL, 50);
    assert_null(strstr(client->text, "202"));
    assert_string_equal(tf_http_identity(world.kept), NODE);
    assert_memory_equal(world.got.data, "hello world", 11);
    answer(world.kept, 202, tf_slice_text("durable\n"));
    answer(world.kept, 500, tf_slice_text("again\n")); /* ignored */
    assert_true(receives(client, "durable\n", 1));
    assert_true(run_until(is_over, &(uint32_t){1}, DEADLINE_MS));
    assert_int_equal(world.answered, 1);
    say(client, GET("/now"));
    assert_true(receives(client, "GET /now by " NODE, 1));
}

static void a_request_in_pieces_of_one_byte_is_whole(void **state)
{
    static const char text[] =
        "POST /take HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        "5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n" GET("/now");

    (void)state;
    start("127.0.0.1:0", tls.server, &usual);
    for (int plain = 0; plain < 2; plain++) {
        struct client *client;

        if (plain == 1) {
            stop();
            world.is_closed = false;
            start("127.0.0.1:0", NULL, &usual);
        }
        client = plain == 1 ? connect_plain() : connect_tls(tls.node);
        tf_buf_clear(&world.got);
        for (size_t i = 0; i < sizeof text - 1; i++) {
            say_bytes(client, text + i, 1);
            (void)uv_run(&world.loop, UV_RUN_NOWAIT);
        }
        assert_true(receives(client, "GET /now", 1));
        assert_non_null(strstr(client->text, "all\n"));
        assert_int_equal(world.got.size, 11);
        assert_memory_equal(world.got.data, "hello world", 11);
    }
}

static void pipelined_requests_are_answered_in_order(void **state)
{
    struct client *client;
    const char *first, *second;

    (void)state;
    start("127.0.0.1:0", tls.server, &usual);
    client = connect_tls(tls.node);
    say(client,
        GET("/one") "POST /take HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc" GET("/now"));
    assert_true(receives(client, "GET /now", 1));
    first = strstr(client->text, "404");
    second = strstr(client->text, "202");
    assert_true(first != NULL && second > first && strstr(client->text, "GET /now") > second);
}

static void a_head_that_is_too_long_is_refused(void **state)
{
    char *head = malloc(65536);
    struct client *client;

    (void)state;
    assert_non_null(head);
    start("127.0.0.1:0", tls.server, &usual);
    memset(head, 'a', 65536);
    memcpy(head, "GET /", 5);
    client = connect_tls(tls.node);
    say_bytes(client, head, 65536);
    assert_true(run_until(is_gone, client, DEADLINE_MS));
    assert_non_null(strstr(client->text, "HTTP/1.1 414 "));
    memcpy(head, "GET /now HTTP/1.1\r\nHost: x\r\nX-A: ", 33);
    client = connect_tls(tls.node);
    say_bytes(client, head, 65536);
    assert_true(run_until(is_gone, client, DEADLINE_MS));
    assert_non_null(strstr(client->text, "HTTP/1.1 431 "));
    assert_int_equal(world.requests, 0);
    free(head);
}

static void junk_is_refused(void **state)
{
    static const char *const junk[] = {
        "\x16\x03\x01\x02\x00\x01\x00\x01\r\n\r\n", "HELLO\r\n\r\n", "GET /now HTTP/9.9\r\n\r\n",
        "POST /hold HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        "POST /hold HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n"};

    (void)state;
    start("127.0.0.1:0", tls.server, &usual);
    for (size_t i = 0; i < TF_COUNT(junk); i++) {
        struct client *client = connect_tls(tls.node);

        say(client, junk[i]);
        assert_true(run_until(is_gone, client, DEADLINE_MS));
    }
    assert_true(run_until(is_empty, NULL, DEADLINE_MS));
    assert_int_equal(world.ended, 0);
}

static void a_slow_head_and_an_idle_connection_are_closed(void **state)
{
    struct tf_http_limits limits = usual;
    struct client *slow, *idle, *body, *plain;

    (void)state;
    limits.head_ms = 500;
    limits.idle_ms = 1000;
    start("127.0.0.1:0", tls.server, &limits);
    slow = connect_tls(tls.node);
    for (int i = 0; i < 400 && !slow->closed; i++) { /* a byte now and then does not help */
        say(slow, "G");
        (void)run_until(is_gone, slow, 10);
    }
    assert_true(slow->closed);
    assert_int_equal(world.refused, 1);
    assert_string_equal(world.reason, "slow");
    assert_string_equal(world.identity, NODE);
    idle = connect_tls(tls.node);
    say(idle, GET("/now"));
    assert_true(receives(idle, "GET /now", 1));
    assert_true(run_until(is_gone, idle, DEADLINE_MS));
    world.room = TEXT_MAX;
    body = connect_tls(tls.node);
    say(body, CHUNKED "5\r\nhel");
    assert_true(run_until(is_gone, body, DEADLINE_MS));
    assert_true(run_until(is_over, &(uint32_t){1}, DEADLINE_MS));
    assert_int_equal(world.answered, 0);
    assert_int_equal(world.refused, 1);
    stop();
    world.is_closed = false;
    start("127.0.0.1:0", NULL, &limits);
    plain = connect_plain();
    say(plain, "GET");
    assert_true(run_until(is_gone, plain, DEADLINE_MS));
    assert_int_equal(world.refused, 2);
}

static void a_body_waits_for_room_and_is_then_whole(void **state)
{
    struct tf_http_limits limits = usual;
    size_t size = 20u << 20; /* more than the kernel holds of a connection */
    char *body = malloc(size);
    struct client *client;
    size_t waiting;

    (void)state;
    assert_non_null(body);
    for (size_t i = 0; i < size; i++) {
        body[i] = (char)(i * 7 + i / 251);
    }
    limits.idle_ms = 1000; /* who waits for us is not idle */
    start("127.0.0.1:0", tls.server, &limits);
    client = connect_tls(tls.node);
    world.room = 1000;
    say(client, "POST /hold HTTP/1.1\r\nHost: x\r\nContent-Length: 20971520\r\n\r\n");
    say_bytes(client, body, size);
    assert_true(run_until(has_got, &(size_t){1000}, DEADLINE_MS));
    (void)run_until(never, NULL, 2000);
    assert_false(client->closed);
    waiting = tf_link_queued_bytes(client->link);
    assert_true(waiting > 0); /* what is not taken stays with the sender, but for kernel buffers */
    (void)run_until(never, NULL, 100);
    assert_int_equal(tf_link_queued_bytes(client->link), waiting);
    assert_int_equal(world.got.size, 1000);
    while (world.got.size < size) {
        size_t before = world.got.size;

        world.room = 499979;
        tf_http_resume(world.kept);
        before += size - before < world.room ? size - before : world.room;
        assert_true(run_until(has_got, &before, DEADLINE_MS));
    }
    assert_true(run_until(is_ended, &(uint32_t){1}, DEADLINE_MS));
    assert_memory_equal(world.got.data, body, size);
    answer(world.kept, 202, tf_slice(NULL, 0));
    assert_true(receives(client, "HTTP/1.1 202 ", 1));
    free(body);
}

static void a_peer_that_goes_while_it_waits_is_told(void **state)
{
    struct client *client;

    (void)state;
    start("127.0.0.1:0", tls.server, &usual);
    client = connect_tls(tls.node); /* in the middle of its body */
    say(client, CHUNKED "5\r\nhello\r\n");
    assert_true(run_until(has_kept, NULL, DEADLINE_MS));
    (void)run_until(never, NULL, 20);
    hang_up(client);
    assert_true(run_until(is_over, &(uint32_t){1}, DEADLINE_MS));
    client = connect_tls(tls.node); /* behind it */
    world.room = TEXT_MAX;
    say(client, CHUNKED "5\r\nhello\r\n0\r\n\r\n");
    assert_true(run_until(is_ended, &(uint32_t){1}, DEADLINE_MS));
    hang_up(client);
    assert_true(run_until(is_over, &(uint32_t){2}, DEADLINE_MS));
    assert_int_equal(world.answered, 0);
    assert_true(run_until(is_empty, NULL, DEADLINE_MS));
}

static void an_answer_before_the_end_throws_the_rest_away(void **state)
{
    char *body = calloc(1, 3u << 20);
    struct client *client;

    (void)state;
    assert_non_null(body);
    start("127.0.0.1:0", tls.server, &usual);
    client = connect_tls(tls.node);
    say(client, "POST /early HTTP/1.1\r\nHost: x\r\nContent-Length: 300000\r\n\r\n");
    say_bytes(client, body, 300000);
    assert_true(receives(client, "early\n", 1));
    say(client, "POST /early HTTP/1.1\r\nHost: x\r\nContent-Length: 3000000\r\n\r\n");
    say_bytes(client, body, 3000000);
    assert_true(run_until(is_gone, client, DEADLINE_MS));
    assert_true(run_until(is_over, &(uint32_t){2}, DEADLINE_MS));
    assert_int_equal(world.answered, 1);
    client = connect_tls(tls.node); /* at the head: no 100, the body is not asked for */
    say(client, "POST /no HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
                "Transfer-Encoding: chunked\r\n\r\n");
    assert_true(receives(client, "404", 1));
    assert_null(strstr(client->text, "100 Continue"));
    free(body);
}

static void a_cut_ends_without_an_answer(void **state)
{
    struct client *client;

    (void)state;
    start("127.0.0.1:0", tls.server, &usual);
    client = connect_tls(tls.node);
    say(client, "POST /cut HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello");
    assert_true(run_until(is_gone, client, DEADLINE_MS));
    assert_int_equal(client->size, 0);
    client = connect_tls(tls.node);
    say(client, CHUNKED "5\r\nhello\r\n");
    assert_true(run_until(has_kept, NULL, DEADLINE_MS));
    (void)run_until(never, NULL, 20);
    tf_http_cut(world.kept, "test");
    tf_http_cut(world.kept, "again");
    tf_http_resume(world.kept);
    assert_true(run_until(is_gone, client, DEADLINE_MS));
    assert_true(run_until(is_over, &(uint32_t){2}, DEADLINE_MS));
    assert_int_equal(world.answered, 0);
    stop();
    world.is_closed = false;
    start("127.0.0.1:0", NULL, &usual);
    client = connect_plain();
    say(client, CHUNKED "5\r\nhello\r\n");
    assert_true(run_until(has_kept, NULL, DEADLINE_MS));
    (void)run_until(never, NULL, 20);
    tf_http_cut(world.kept, "test");
    assert_true(run_until(is_gone, client, DEADLINE_MS));
    assert_true(run_until(is_over, &(uint32_t){3}, DEADLINE_MS));
}

static void who_may_not_come_in_is_refused(void **state)
{
    struct tf_http_limits limits = usual;
    struct client *client;

    (void)state;
    limits.per_identity = 2;
    limits.connections = 3;
    start("127.0.0.1:0", tls.server, &limits);
    client = connect_tls(tls.stranger);
    assert_true(run_until(is_gone, client, DEADLINE_MS));
    assert_string_equal(world.reason, "identity");
    assert_string_equal(world.identity, "x:y");
    (void)connect_tls(tls.node);
    (void)connect_tls(tls.node);
    (void)run_until(never, NULL, 20);
    client = connect_tls(tls.node);
    assert_true(run_until(is_gone, client, DEADLINE_MS));
    assert_string_equal(world.reason, "per-identity");
    client = connect_plain(); /* no TLS */
    say(client, GET("/now") GET("/now"));
    assert_true(run_until(is_gone, client, DEADLINE_MS));
    assert_true(run_until(has_refused, &(uint32_t){3}, DEADLINE_MS));
    assert_string_equal(world.reason, "handshake");
    assert_int_equal(world.requests, 0);
    stop();
    world.is_closed = false;
    start("127.0.0.1:0", NULL, &limits);
    for (int i = 0; i < 3; i++) {
        say(connect_plain(), CHUNKED "5\r\nhel");
    }
    assert_true(run_until(has_asked, &(uint32_t){3}, DEADLINE_MS));
    client = connect_plain();
    assert_true(run_until(is_gone, client, DEADLINE_MS));
    assert_string_equal(world.reason, "connections");
    assert_int_equal(tf_http_connections(world.http), 3);
}

static void silent_strangers_do_not_keep_others_out(void **state)
{
    struct client *first = NULL, *client;

    (void)state;
    start("127.0.0.1:0", tls.server, &usual);
    for (uint32_t i = 0; i <= TF_HTTP_UNPROVED_MAX; i++) {
        client = connect_plain();
        first = first == NULL ? client : first;
        (void)uv_run(&world.loop, UV_RUN_NOWAIT);
    }
    assert_true(run_until(is_gone, first, DEADLINE_MS)); /* the oldest made room */
    client = connect_tls(tls.node);
    say(client, GET("/now"));
    assert_true(receives(client, "GET /now", 1));
}

/* Without TLS nobody is known, so who asks for nothing is closed for who comes: the oldest of the
 * address that has most of them. */
static void silent_ones_make_room_for_others(void **state)
{
    struct tf_http_limits limits = usual;
    struct client *other, *silent[3], *client = NULL;

    (void)state;
    limits.connections = 3;
    start("0.0.0.0:0", NULL, &limits);
    other = connect_from("127.0.0.2");
    say(other, GET("/now"));
    assert_true(receives(other, "GET /now", 1)); /* then idle, the oldest of all */
    for (size_t i = 0; i < TF_COUNT(silent); i++) {
        silent[i] = connect_plain();
        (void)uv_run(&world.loop, UV_RUN_NOWAIT);
    }
    assert_true(run_until(is_gone, silent[0], DEADLINE_MS));
    assert_string_equal(world.reason, "connections");
    for (unsigned i = 0; i < 70; i++) { /* a flood, within one turn of the loop */
        client = connect_plain();
    }
    say(client, GET("/now"));
    assert_true(receives(client, "GET /now", 1));
    say(other, GET("/now"));
    assert_true(receives(other, "GET /now", 2));
}

static void who_does_not_take_its_answer_is_closed(void **state)
{
    struct tf_http_limits limits = usual;
    struct client *client;

    (void)state;
    limits.idle_ms = 1000;
    start("127.0.0.1:0", tls.server, &limits);
    client = connect_tls(tls.node);
    tf_link_read_stop(client->link);
    say(client, GET("/big"));
    assert_true(run_until(is_over, &(uint32_t){1}, DEADLINE_MS));
    assert_int_equal(world.answered, 0); /* 32 MiB are nowhere but in the response */
    assert_true(run_until(is_empty, NULL, DEADLINE_MS));
    tf_link_read_start(client->link);
    assert_true(run_until(is_gone, client, DEADLINE_MS));
    client = connect_tls(tls.node);
    say(client, GET("/big"));
    assert_true(run_until(is_over, &(uint32_t){2}, DEADLINE_MS));
    assert_int_equal(world.answered, 1);
}

static void a_close_ends_what_waits(void **state)
{
    struct client *body, *whole;

    (void)state;
    start("127.0.0.1:0", tls.server, &usual);
    (void)connect_tls(tls.node);
    body = connect_tls(tls.node);
    say(body, CHUNKED "5\r\nhello\r\n");
    assert_true(run_until(has_kept, NULL, DEADLINE_MS));
    world.room = TEXT_MAX;
    whole = connect_tls(tls.node);
    say(whole, CHUNKED "0\r\n\r\n");
    assert_true(run_until(is_ended, &(uint32_t){1}, DEADLINE_MS));
    stop();
    assert_int_equal(world.over, 2);
    assert_int_equal(world.answered, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(addresses_are_read_and_wrong_ones_refused, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(plain_requests_are_answered_on_tcp, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_unix_socket_answers_and_a_stale_one_is_replaced, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(tls_proves_who_asks_and_a_body_may_wait_for_its_answer,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_request_in_pieces_of_one_byte_is_whole, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(pipelined_requests_are_answered_in_order, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_head_that_is_too_long_is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(junk_is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_slow_head_and_an_idle_connection_are_closed, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_body_waits_for_room_and_is_then_whole, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_peer_that_goes_while_it_waits_is_told, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_answer_before_the_end_throws_the_rest_away, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_cut_ends_without_an_answer, set_up, tear_down),
        cmocka_unit_test_setup_teardown(who_may_not_come_in_is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(silent_strangers_do_not_keep_others_out, set_up, tear_down),
        cmocka_unit_test_setup_teardown(silent_ones_make_room_for_others, set_up, tear_down),
        cmocka_unit_test_setup_teardown(who_does_not_take_its_answer_is_closed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_close_ends_what_waits, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, make_all, free_all);
}
