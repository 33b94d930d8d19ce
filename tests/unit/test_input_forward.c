/*
 * test_input_forward.c - the forward input on a real pipeline and spool, with real TLS clients:
 * what is acked is durable, a repeat is stored once, contradictions are said, hostile senders end
 * alone.
 *
 * accept4 and EVP_DigestSign are defined here, before those of the libraries, so that they fail
 * when a test says so. Clients live on the same loop.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <msgpack.h>
#include <openssl/sha.h>
#include <openssl/ssl.h>
#include <zlib.h>

#include "../../agent/inputs/forward/internal.h"
#include "../../filters/redact/redact.h"
#include "pipeline_fixture.h"
#include "taffrail/log.h"
#include "tls_fixture.h"

#define DEADLINE_MS 30000u
#define CLIENTS_MAX 32u
#define ACKS_MAX    128u
#define LOG_MAX     (256u << 10)
#define NODE        "spiffe://example.com/node/7"
#define RELAY       "spiffe://example.com/relay/1"
#define PUBLIC_TAG  "app.web"

/* ---- faults --------------------------------------------------------------------------------- */

static atomic_int fail_accepts; /* so many calls fail */

int accept4(int fd, struct sockaddr *address, socklen_t *size, int flags)
{
    if (atomic_load(&fail_accepts) > 0) {
        (void)atomic_fetch_sub(&fail_accepts, 1);
        errno = ENOBUFS;
        return -1;
    }
    return (int)syscall(SYS_accept4, fd, address, size, flags);
}

static bool signing_fails; /* on the loop */

int EVP_DigestSign(EVP_MD_CTX *ctx, unsigned char *signature, size_t *size,
                   const unsigned char *data, size_t data_size)
{
    int (*real)(EVP_MD_CTX *, unsigned char *, size_t *, const unsigned char *, size_t);

    *(void **)&real = dlsym(RTLD_NEXT, "EVP_DigestSign");
    return signing_fails ? 0 : real(ctx, signature, size, data, data_size);
}

/* ---- world ---------------------------------------------------------------------------------- */

struct client {
    struct tf_link *link;
    bool open, closed;
    int status;
    char acks[ACKS_MAX][32]; /* the first chunk ids in order; "" for a map without ack */
    uint32_t ack_count;
    uint8_t receipt[TF_RECEIPT_BYTES], key[TF_RECEIPT_KEY_BYTES]; /* the newest */
    uint32_t receipt_count, key_count;
    uint32_t receipt_at; /* index of the ack that it came with */
    char part[512];      /* of an ack map that came in two */
    size_t part_size;
};

struct world {
    uv_loop_t loop;
    uv_timer_t deadline;
    bool late, stopped, is_running, is_v6;
    char folder[64];
    int log_fd, stderr_fd;
    struct tf_config config;
    struct tf_plugin_config input, filters[2], output;
    struct forward_options options;
    struct tf_redact_options redact;
    struct allow allow[2];
    struct tf_pipeline *pipeline;
    int port;
    struct client clients[CLIENTS_MAX];
};

static struct world *world;

/* Made once: certificates cost time. */
static struct {
    struct tls_fixture files;
    struct tls_cert ca, other_ca, certs[5];
    struct tf_tls_options server;
    struct tf_tls *node, *relay, *stranger, *rogue;
} tls;

/* ---- running the loop -------------------------------------------------------------------------
 */

static void on_deadline(uv_timer_t *timer)
{
    (void)timer;
    world->late = true;
}

typedef bool condition_fn(const void *ctx, uint32_t wanted);

static bool run_until(condition_fn *condition, const void *ctx, uint32_t wanted, uint64_t ms)
{
    world->late = false;
    assert_int_equal(uv_timer_start(&world->deadline, on_deadline, ms, 0), 0);
    while (!condition(ctx, wanted) && !world->late) {
        (void)uv_run(&world->loop, UV_RUN_ONCE);
    }
    (void)uv_timer_stop(&world->deadline);
    return condition(ctx, wanted);
}

static bool never(const void *ctx, uint32_t wanted)
{
    (void)ctx;
    (void)wanted;
    return false;
}

static void run_for(uint64_t ms)
{
    (void)run_until(never, NULL, 0, ms);
}

static bool is_open(const void *ctx, uint32_t wanted)
{
    (void)wanted;
    return ((const struct client *)ctx)->open || ((const struct client *)ctx)->closed;
}

static bool is_closed(const void *ctx, uint32_t wanted)
{
    (void)wanted;
    return ((const struct client *)ctx)->closed;
}

static bool has_acks(const void *ctx, uint32_t wanted)
{
    return ((const struct client *)ctx)->ack_count >= wanted;
}

static bool has_records(const void *ctx, uint32_t wanted)
{
    return count_records(ctx) >= wanted;
}

static bool does_filter_wait(const void *ctx, uint32_t wanted)
{
    (void)ctx;
    (void)wanted;
    return atomic_load(&filter_waits);
}

/* So many messages of all connections were handed on, and are not durable. */
static bool has_taken(const void *ctx, uint32_t wanted)
{
    const struct forward *forward = world->pipeline->inputs[0].self;
    uint32_t taken = 0;

    (void)ctx;
    for (const struct connection *conn = forward->connections; conn != NULL; conn = conn->next) {
        taken += conn->taken_count;
    }
    return taken >= wanted;
}

static struct tf_input_status input_status(void);

static bool has_refused(const void *ctx, uint32_t wanted)
{
    (void)ctx;
    return input_status().refused >= wanted;
}

static bool has_contradicted(const void *ctx, uint32_t wanted)
{
    (void)ctx;
    return input_status().contradictions >= wanted;
}

static bool is_quiet(const void *ctx, uint32_t wanted)
{
    (void)ctx;
    return input_status().connections <= wanted;
}

/* ---- clients ----------------------------------------------------------------------------------
 */

static void on_client_open(void *ctx, const char *identity)
{
    (void)identity;
    ((struct client *)ctx)->open = true;
}

/* A pair of an ack map: its id, a receipt, a key. */
static void take_pair(struct client *client, const msgpack_object_kv *pair)
{
    struct tf_slice name = tf_slice(pair->key.via.str.ptr, pair->key.via.str.size);

    assert_int_equal(pair->key.type, MSGPACK_OBJECT_STR);
    if (tf_slice_equal(name, tf_slice_text("ack"))) {
        assert_int_equal(pair->val.type, MSGPACK_OBJECT_STR);
        if (client->ack_count < ACKS_MAX) {
            (void)snprintf(client->acks[client->ack_count], sizeof client->acks[0], "%.*s",
                           (int)pair->val.via.str.size, pair->val.via.str.ptr);
        }
        return;
    }
    assert_int_equal(pair->val.type, MSGPACK_OBJECT_BIN);
    if (tf_slice_equal(name, tf_slice_text("receipt"))) {
        assert_int_equal(pair->val.via.bin.size, TF_RECEIPT_BYTES);
        memcpy(client->receipt, pair->val.via.bin.ptr, TF_RECEIPT_BYTES);
        client->receipt_count++;
        client->receipt_at = client->ack_count;
        return;
    }
    assert_true(tf_slice_equal(name, tf_slice_text("key")));
    assert_int_equal(pair->val.via.bin.size, TF_RECEIPT_KEY_BYTES);
    memcpy(client->key, pair->val.via.bin.ptr, TF_RECEIPT_KEY_BYTES);
    client->key_count++;
}

/* The size of a whole map, which is taken; 0 when it is not whole. */
static size_t take_map(struct client *client, struct tf_slice bytes)
{
    msgpack_unpacked map;
    size_t used = 0;

    msgpack_unpacked_init(&map);
    if (msgpack_unpack_next(&map, bytes.data, bytes.size, &used) != MSGPACK_UNPACK_SUCCESS) {
        msgpack_unpacked_destroy(&map);
        return 0;
    }
    assert_int_equal(map.data.type, MSGPACK_OBJECT_MAP);
    for (uint32_t i = 0; i < map.data.via.map.size; i++) {
        take_pair(client, &map.data.via.map.ptr[i]);
    }
    client->ack_count++;
    msgpack_unpacked_destroy(&map);
    return used;
}

static int on_client_data(void *ctx, const char *data, size_t size)
{
    struct client *client = ctx;
    struct tf_buf bytes = {.limit_bytes = 1 << 20};
    struct tf_slice rest;
    size_t used;

    (void)tf_buf_append(&bytes, client->part, client->part_size);
    assert_int_equal(tf_buf_append(&bytes, data, size), 0);
    rest = tf_buf_slice(&bytes);
    while (rest.size > 0 && (used = take_map(client, rest)) > 0) {
        rest = tf_slice(rest.data + used, rest.size - used);
    }
    assert_in_range(rest.size, 0, sizeof client->part);
    memcpy(client->part, rest.data, rest.size);
    client->part_size = rest.size;
    tf_buf_fini(&bytes);
    return 0;
}

static void on_client_closed(void *ctx, int status, const char *reason)
{
    struct client *client = ctx;

    (void)reason;
    client->link = NULL;
    client->closed = true;
    client->status = status;
}

static struct client *connect_with(struct tf_tls *tls)
{
    struct client *client = NULL;
    struct tf_link_events events = {
        .on_open = on_client_open, .on_data = on_client_data, .on_closed = on_client_closed};
    struct sockaddr_storage address;

    for (uint32_t i = 0; i < CLIENTS_MAX && client == NULL; i++) {
        client =
            world->clients[i].link == NULL && !world->clients[i].closed ? &world->clients[i] : NULL;
    }
    assert_non_null(client);
    events.ctx = client;
    assert_int_equal(world->is_v6
                         ? uv_ip6_addr("::1", world->port, (struct sockaddr_in6 *)&address)
                         : uv_ip4_addr("127.0.0.1", world->port, (struct sockaddr_in *)&address),
                     0);
    assert_int_equal(tf_link_connect(&world->loop, tls, (const struct sockaddr *)&address,
                                     "localhost", DEADLINE_MS, &events, &client->link),
                     0);
    return client;
}

static struct client *connect_node(void)
{
    struct client *client = connect_with(tls.node);

    assert_true(run_until(is_open, client, 0, DEADLINE_MS));
    assert_true(client->open);
    return client;
}

static void send_bytes(struct client *client, const void *data, size_t size)
{
    struct tf_slice part = tf_slice(data, size);

    assert_non_null(client->link);
    assert_int_equal(tf_link_write(client->link, &part, 1), 0);
}

static void send_buf(struct client *client, struct tf_buf *buf)
{
    assert_int_equal(buf->error, 0);
    send_bytes(client, buf->data, buf->size);
    tf_buf_fini(buf);
}

/* ---- messages ---------------------------------------------------------------------------------
 */

static struct tf_buf new_buf(void)
{
    struct tf_buf buf;

    tf_buf_init(&buf, 64u << 20);
    return buf;
}

static void put_text(struct tf_buf *buf, const char *text)
{
    tf_msgpack_text(buf, tf_slice_text(text));
}

static void put_record(struct tf_buf *buf, const char *key, const char *value)
{
    tf_msgpack_map(buf, 1);
    put_text(buf, key);
    put_text(buf, value);
}

static void put_entry(struct tf_buf *buf, const char *key, const char *value)
{
    tf_msgpack_array(buf, 2);
    tf_msgpack_uint(buf, 1700000000);
    put_record(buf, key, value);
}

static void put_chunk(struct tf_buf *buf, const char *chunk)
{
    tf_msgpack_map(buf, 1);
    put_text(buf, "chunk");
    put_text(buf, chunk);
}

/* A foreign message of mode Message; chunk may be NULL. */
static void send_foreign(struct client *client, const char *tag, const char *text,
                         const char *chunk)
{
    struct tf_buf buf = new_buf();

    tf_msgpack_array(&buf, chunk != NULL ? 4 : 3);
    put_text(&buf, tag);
    tf_msgpack_uint(&buf, 1700000000);
    put_record(&buf, "log", text);
    if (chunk != NULL) {
        put_chunk(&buf, chunk);
    }
    send_buf(client, &buf);
}

/* What a taffrail sender states. The name is made of `name`. */
struct frame {
    uint8_t spool;
    uint64_t seq, prev;
    uint8_t name;
    uint64_t gap_from;
    const char *replayed, *tag, *text, *chunk;
};

static void put_frame_option(struct tf_buf *buf, const struct frame *frame)
{
    uint8_t spool[16] = {frame->spool, 1}, chain[32] = {frame->name, 2};

    tf_store64(chain + 2, frame->seq);
    tf_msgpack_map(buf, 2);
    put_text(buf, "chunk");
    put_text(buf, frame->chunk);
    put_text(buf, "taffrail");
    tf_msgpack_map(buf, 5 + (frame->gap_from > 0) + (frame->replayed != NULL));
    put_text(buf, "v");
    tf_msgpack_uint(buf, 1);
    put_text(buf, "spool");
    tf_msgpack_bytes(buf, tf_slice(spool, sizeof spool));
    put_text(buf, "seq");
    tf_msgpack_uint(buf, frame->seq);
    put_text(buf, "prev");
    tf_msgpack_uint(buf, frame->prev);
    put_text(buf, "chain");
    tf_msgpack_bytes(buf, tf_slice(chain, sizeof chain));
    if (frame->gap_from > 0) {
        put_text(buf, "gap");
        tf_msgpack_array(buf, 2);
        tf_msgpack_uint(buf, frame->gap_from);
        tf_msgpack_uint(buf, frame->seq);
    }
    if (frame->replayed != NULL) {
        put_text(buf, "replayed");
        put_text(buf, frame->replayed);
    }
}

static struct tf_buf frame_message(const struct frame *frame)
{
    struct tf_buf buf = new_buf(), events = new_buf();

    put_entry(&events, "log", frame->text);
    tf_msgpack_array(&buf, 3);
    put_text(&buf, frame->tag != NULL ? frame->tag : PUBLIC_TAG);
    tf_msgpack_bytes(&buf, tf_buf_slice(&events));
    put_frame_option(&buf, frame);
    tf_buf_fini(&events);
    return buf;
}

static void send_frame(struct client *client, const struct frame *frame)
{
    struct tf_buf buf = frame_message(frame);

    send_buf(client, &buf);
}

/* Sends a frame and waits for its ack. */
static void store_frame(struct client *client, const struct frame *frame)
{
    uint32_t acks = client->ack_count;

    send_frame(client, frame);
    assert_true(run_until(has_acks, client, acks + 1, DEADLINE_MS));
    assert_string_equal(client->acks[acks], frame->chunk);
}

static void put_gzip(struct tf_buf *buf, const void *data, size_t size)
{
    z_stream z = {.next_in = (z_const Bytef *)(uintptr_t)data, .avail_in = (uInt)size};
    size_t bound = size + 1024;

    assert_int_equal(deflateInit2(&z, 9, Z_DEFLATED, 31, 8, Z_DEFAULT_STRATEGY), Z_OK);
    assert_int_equal(tf_buf_reserve(buf, bound), 0);
    z.next_out = (Bytef *)buf->data + buf->size;
    z.avail_out = (uInt)bound;
    assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
    buf->size += z.total_out;
    (void)deflateEnd(&z);
}

static void send_packed(struct client *client, const struct tf_buf *payload, bool is_gzip,
                        const char *chunk)
{
    struct tf_buf buf = new_buf();

    tf_msgpack_array(&buf, 3);
    put_text(&buf, PUBLIC_TAG);
    tf_msgpack_bytes(&buf, tf_buf_slice(payload));
    tf_msgpack_map(&buf, is_gzip ? 2 : 1);
    put_text(&buf, "chunk");
    put_text(&buf, chunk);
    if (is_gzip) {
        put_text(&buf, "compressed");
        put_text(&buf, "gzip");
    }
    send_buf(client, &buf);
}

/* ---- set up -----------------------------------------------------------------------------------
 */

static struct tf_tls *make_client(size_t number, const char *name, const char *san,
                                  const struct tls_cert *issuer)
{
    struct tf_tls_options options;
    struct tf_tls *made = NULL;
    struct tf_error err;

    tf_error_init(&err);
    tls.certs[number] = tls_cert_make(&(struct tls_cert_options){
        .name = name, .san = san, .usage = "clientAuth", .issuer = issuer});
    tls_fixture_options(&tls.files, name, &tls.ca, &tls.certs[number], &options);
    assert_int_equal(tf_tls_client_new(&options, NULL, &made, &err), 0);
    tf_error_fini(&err);
    return made;
}

static int set_up_all(void **state)
{
    (void)state;
    tls_fixture_init(&tls.files);
    tls.ca = tls_ca_make("ca");
    tls.other_ca = tls_ca_make("other");
    tls.certs[0] = tls_cert_make(&(struct tls_cert_options){
        .name = "server", .san = "DNS:localhost", .usage = "serverAuth", .issuer = &tls.ca});
    tls_fixture_options(&tls.files, "server", &tls.ca, &tls.certs[0], &tls.server);
    tls.node = make_client(1, "node", "URI:" NODE, &tls.ca);
    tls.relay = make_client(2, "relay", "URI:" RELAY, &tls.ca);
    tls.stranger = make_client(3, "stranger", "URI:spiffe://example.com/stranger/1", &tls.ca);
    tls.rogue = make_client(4, "rogue", "URI:" NODE, &tls.other_ca);
    return 0;
}

static int tear_down_all(void **state)
{
    (void)state;
    tf_tls_unref(tls.node);
    tf_tls_unref(tls.relay);
    tf_tls_unref(tls.stranger);
    tf_tls_unref(tls.rogue);
    for (size_t i = 0; i < TF_COUNT(tls.certs); i++) {
        tls_cert_free(&tls.certs[i]);
    }
    tls_cert_free(&tls.ca);
    tls_cert_free(&tls.other_ca);
    tls_fixture_fini(&tls.files);
    return 0;
}

static void choose_options(void)
{
    static struct tf_text all = {.text = "**"}, app = {.text = "app.*"};
    struct forward_options *options = &world->options;

    options->listen.text = "127.0.0.1:0";
    options->tls = tls.server;
    world->allow[0] = (struct allow){.identity.text = "spiffe://example.com/node/*",
                                     .tags = {.items = &app, .count = 1}};
    world->allow[1] =
        (struct allow){.identity.text = RELAY, .tags = {.items = &all, .count = 1}, .relay = true};
    options->allow = (struct tf_tables){.items = world->allow, .count = 2};
    options->limits = (struct limits){.connections = 64,
                                      .per_identity = 8,
                                      .handshakes = 64,
                                      .message_bytes = 1 << 20,
                                      .memory_bytes = 64 << 20,
                                      .idle_ms = 60000,
                                      .handshake_ms = 2000,
                                      .progress_ms = 60000};
}

static int set_up(void **state)
{
    static struct tf_text all = {.text = "**"}, app = {.text = "app.*"};
    char path[96];

    (void)state;
    world = calloc(1, sizeof *world);
    assert_non_null(world);
    (void)snprintf(world->folder, sizeof world->folder, "/tmp/taffrail-forward-XXXXXX");
    assert_non_null(mkdtemp(world->folder));
    choose_options();
    world->input = (struct tf_plugin_config){
        .kind = &tf_input_forward, .name = "forward", .tag = "forward", .options = &world->options};
    world->filters[0] = (struct tf_plugin_config){
        .kind = &waiting_filter, .name = "waiting", .match = {.items = &app, .count = 1}};
    world->filters[1] = (struct tf_plugin_config){.kind = &tf_filter_redact,
                                                  .name = "redact",
                                                  .match = {.items = &all, .count = 1},
                                                  .options = &world->redact};
    world->output = (struct tf_plugin_config){
        .kind = &fake_output, .name = "out", .match = {.items = &all, .count = 1}};
    world->config.inputs = (struct tf_plugin_list){.items = &world->input, .count = 1};
    world->config.filters = (struct tf_plugin_list){.items = world->filters, .count = 2};
    world->config.outputs = (struct tf_plugin_list){.items = &world->output, .count = 1};
    world->config.agent.host.text = "collector-1";
    world->config.agent.stop_timeout_ms = 3000;
    world->config.spool.path.text = world->folder;
    world->config.spool.max_size_bytes = 1 << 30;
    world->config.spool.sync = (struct tf_sync_option){.mode = TF_SYNC_INTERVAL, .interval_ms = 5};
    world->config.spool.segment_size_bytes = 64 << 20;
    (void)snprintf(path, sizeof path, "%s.log", world->folder);
    world->stderr_fd = dup(STDERR_FILENO);
    world->log_fd = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    assert_true(world->stderr_fd >= 0 && world->log_fd >= 0);
    assert_true(dup2(world->log_fd, STDERR_FILENO) >= 0);
    return 0;
}

/* All the agent logged so far, and after it NUL. */
static char *read_log(void)
{
    char *text = calloc(1, LOG_MAX);

    assert_non_null(text);
    assert_true(pread(world->log_fd, text, LOG_MAX - 1, 0) >= 0);
    return text;
}

static bool was_logged(const char *text)
{
    char *log = read_log();
    bool found = strstr(log, text) != NULL;

    free(log);
    return found;
}

static int find_port(void)
{
    const struct forward *forward = world->pipeline->inputs[0].self;
    struct sockaddr_storage bound = {0};
    int size = sizeof bound;

    assert_int_equal(uv_tcp_getsockname(&forward->listener, (struct sockaddr *)&bound, &size), 0);
    return ntohs(((const struct sockaddr_in *)&bound)->sin_port); /* of IPv6 it is there too */
}

static void start(void)
{
    struct tf_error err;

    tf_error_init(&err);
    assert_int_equal(uv_loop_init(&world->loop), 0);
    assert_int_equal(uv_timer_init(&world->loop, &world->deadline), 0);
    assert_int_equal(tf_pipeline_new(&world->loop, &world->config, &world->pipeline, &err), 0);
    assert_int_equal(tf_pipeline_start(world->pipeline, &err), 0);
    tf_error_fini(&err);
    world->stopped = false;
    world->is_running = true;
    world->port = find_port();
    assert_true(world->port > 0);
}

static struct tf_input_status input_status(void)
{
    struct tf_input_status status;

    tf_input_forward.status(world->pipeline->inputs[0].self, &status);
    return status;
}

static void on_stopped(void *ctx)
{
    (void)ctx;
    world->stopped = true;
}

static bool has_stopped(const void *ctx, uint32_t wanted)
{
    (void)ctx;
    (void)wanted;
    for (uint32_t i = 0; i < CLIENTS_MAX; i++) {
        if (world->clients[i].link != NULL) {
            return false;
        }
    }
    return world->stopped;
}

static void close_clients(void)
{
    for (uint32_t i = 0; i < CLIENTS_MAX; i++) {
        if (world->clients[i].link != NULL) {
            tf_link_close(world->clients[i].link, "the test ends");
        }
    }
}

/* Stops the collector, and proves that everything is closed. */
static void stop(void)
{
    tf_pipeline_stop(world->pipeline, on_stopped, NULL);
    close_clients();
    assert_true(run_until(has_stopped, NULL, 0, DEADLINE_MS));
    tf_pipeline_free(world->pipeline);
    uv_close((uv_handle_t *)&world->deadline, NULL);
    (void)uv_run(&world->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&world->loop), 0);
    world->is_running = false;
    memset(world->clients, 0, sizeof world->clients);
}

static int tear_down(void **state)
{
    char command[288];

    (void)state;
    mend_all();
    if (world->is_running) {
        stop();
    }
    forget_records();
    (void)dup2(world->stderr_fd, STDERR_FILENO);
    (void)close(world->stderr_fd);
    (void)close(world->log_fd);
    (void)snprintf(command, sizeof command, "rm -rf %s %s.key %s.log %s.receipt-key", world->folder,
                   world->folder, world->folder, world->folder);
    assert_int_equal(system(command), 0); /* NOLINT: a fixed command on our own folder */
    free(world);
    return 0;
}

/* ---- acks -------------------------------------------------------------------------------------
 */

static void all_modes_are_acked_when_durable(void **state)
{
    struct tf_buf packed = new_buf(), zipped = new_buf(), forward = new_buf();
    struct client *client;

    (void)state;
    start();
    client = connect_node();
    run_for(20); /* the start's own frames are synced */
    atomic_store(&hold_syncs, true);
    put_entry(&packed, "log", "of packed");
    put_gzip(&zipped, packed.data, packed.size);
    tf_msgpack_array(&forward, 3);
    put_text(&forward, PUBLIC_TAG);
    tf_msgpack_array(&forward, 2);
    put_entry(&forward, "log", "of forward 1");
    put_entry(&forward, "log", "of forward 2");
    put_chunk(&forward, "f");
    send_foreign(client, PUBLIC_TAG, "of message", "m");
    send_buf(client, &forward);
    send_packed(client, &packed, false, "p");
    send_packed(client, &zipped, true, "z");
    run_for(100);
    assert_int_equal(client->ack_count, 0);
    atomic_store(&hold_syncs, false);
    assert_true(run_until(has_acks, client, 4, DEADLINE_MS));
    assert_string_equal(client->acks[0], "m");
    assert_string_equal(client->acks[1], "f");
    assert_string_equal(client->acks[2], "p");
    assert_string_equal(client->acks[3], "z");
    assert_int_equal(count_records("of message"), 1);
    assert_int_equal(count_records("of forward"), 2);
    assert_int_equal(count_records("of packed"), 2);
    assert_int_equal(count_records("\"identity\":\"" NODE "\""), 5);
    assert_int_equal(count_records("\"tag\":\"" PUBLIC_TAG "\""), 5);
    tf_buf_fini(&packed);
    tf_buf_fini(&zipped);
}

static void without_chunk_there_is_no_ack_and_heartbeats_pass(void **state)
{
    struct client *client;

    (void)state;
    start();
    client = connect_node();
    send_bytes(client, "\xc0\xc0", 2);
    send_foreign(client, PUBLIC_TAG, "first", NULL);
    send_bytes(client, "\xc0", 1);
    send_foreign(client, PUBLIC_TAG, "second", "c");
    assert_true(run_until(has_acks, client, 1, DEADLINE_MS));
    assert_string_equal(client->acks[0], "c");
    assert_int_equal(count_records("first"), 1);
    assert_int_equal(client->ack_count, 1);
    assert_false(client->closed);
}

static void an_empty_message_is_acked(void **state)
{
    struct tf_buf buf = new_buf();
    struct client *client;

    (void)state;
    start();
    client = connect_node();
    tf_msgpack_array(&buf, 3);
    put_text(&buf, PUBLIC_TAG);
    tf_msgpack_array(&buf, 0);
    put_chunk(&buf, "empty");
    send_buf(client, &buf);
    assert_true(run_until(has_acks, client, 1, DEADLINE_MS));
    assert_int_equal(count_records(PUBLIC_TAG), 0);
}

static void many_small_messages_come_in_one_read(void **state)
{
    struct client *client;

    (void)state;
    start();
    client = connect_node();
    for (unsigned i = 0; i < 300; i++) {
        send_foreign(client, PUBLIC_TAG, "small", NULL);
    }
    send_foreign(client, PUBLIC_TAG, "small", "end");
    assert_true(run_until(has_acks, client, 1, DEADLINE_MS));
    assert_int_equal(count_records("small"), 301);
}

static void what_came_whole_is_stored_though_its_sender_is_gone(void **state)
{
    struct client *client;

    (void)state;
    start();
    client = connect_node();
    for (unsigned i = 0; i < 20; i++) {
        send_foreign(client, PUBLIC_TAG, "parting words", NULL);
    }
    tf_link_close(client->link, "done");
    assert_true(run_until(has_records, "parting words", 20, DEADLINE_MS));
    assert_true(run_until(is_quiet, NULL, 0, DEADLINE_MS));
    assert_int_equal(input_status().refused, 0);
}

/* Closed, counted, and in the audit. */
static void expect_refused(struct client *client, const char *reason)
{
    char told[64];

    (void)snprintf(told, sizeof told, "\"reason\":\"%s\"", reason);
    assert_true(run_until(is_closed, client, 0, DEADLINE_MS));
    assert_true(run_until(has_records, told, 1, DEADLINE_MS));
    assert_non_null(strstr(record_with(told), "\"event\":\"refused\""));
    assert_int_equal(input_status().refused, 1);
}

/* A plain TCP connection that says nothing. */
static int connect_silent(void)
{
    struct sockaddr_in address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    assert_int_equal(uv_ip4_addr("127.0.0.1", world->port, &address), 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

/* ---- names ------------------------------------------------------------------------------------
 */

static void a_repeat_is_acked_and_stored_once(void **state)
{
    struct frame frame = {.spool = 1, .seq = 5, .name = 5, .text = "only once", .chunk = "c5"};
    struct client *client;

    (void)state;
    start();
    client = connect_node();
    store_frame(client, &frame);
    store_frame(client, &frame);
    assert_int_equal(input_status().repeats, 1);
    stop();
    start(); /* the name is in the spool */
    client = connect_node();
    store_frame(client, &frame);
    assert_int_equal(input_status().repeats, 1);
    assert_int_equal(count_records("only once"), 1);
    assert_int_equal(count_records("contradict"), 0);
}

static void a_repeat_waits_for_its_original(void **state)
{
    struct frame frame = {.spool = 1, .seq = 5, .name = 5, .text = "only once", .chunk = "c5"};
    struct client *older, *newer;

    (void)state;
    start();
    older = connect_node();
    newer = connect_node();
    run_for(20);
    atomic_store(&hold_syncs, true);
    send_frame(older, &frame);
    assert_true(run_until(has_taken, NULL, 1, DEADLINE_MS));
    send_frame(newer, &frame);
    send_frame(newer, &frame);
    assert_true(run_until(is_closed, older, 0, DEADLINE_MS)); /* one connection for a spool */
    assert_int_equal(newer->ack_count, 0);
    assert_int_equal(older->ack_count, 0);
    atomic_store(&hold_syncs, false);
    assert_true(run_until(has_acks, newer, 2, DEADLINE_MS));
    assert_int_equal(count_records("only once"), 1);
    assert_int_equal(input_status().repeats, 2);
}

static void a_failed_sync_leaves_nothing_acked_or_doubled(void **state)
{
    struct frame first = {.spool = 1, .seq = 4, .name = 4, .text = "before", .chunk = "c4"};
    struct frame frame = {
        .spool = 1, .seq = 5, .prev = 4, .name = 5, .text = "only once", .chunk = "c5"};
    struct client *client;

    (void)state;
    start();
    client = connect_node();
    store_frame(client, &first); /* the syncs of the start are over */
    run_for(20);
    atomic_store(&fail_syncs, 1);
    send_frame(client, &frame);
    assert_true(run_until(is_closed, client, 0, DEADLINE_MS));
    assert_int_equal(client->ack_count, 1);
    client = connect_node();
    store_frame(client, &frame);
    assert_int_equal(count_records("only once"), 1);
    assert_int_equal(input_status().repeats, 0);
}

static void a_job_outlives_its_connection(void **state)
{
    struct frame frame = {.spool = 1, .seq = 5, .name = 5, .text = "only once", .chunk = "c5"};
    struct frame dropped = {
        .spool = 1, .seq = 6, .prev = 5, .name = 6, .text = "behind it", .chunk = "c6"};
    struct client *older, *newer;

    (void)state;
    start();
    older = connect_node();
    newer = connect_node();
    run_for(20);
    atomic_store(&hold_filter, true);
    send_frame(older, &frame);
    send_frame(older, &dropped);
    assert_true(run_until(does_filter_wait, NULL, 0, DEADLINE_MS));
    run_for(30);
    send_frame(newer, &frame);
    assert_true(run_until(is_closed, older, 0, DEADLINE_MS));
    atomic_store(&hold_filter, false);
    assert_true(run_until(has_acks, newer, 1, DEADLINE_MS));
    assert_int_equal(count_records("only once"), 1);
    assert_int_equal(count_records("behind it"), 0); /* it was not handed on */
    store_frame(newer, &dropped);
    assert_int_equal(count_records("behind it"), 1);
    assert_int_equal(older->ack_count, 0);
    assert_int_equal(input_status().contradictions, 0);
}

static void a_collector_stops_while_a_job_runs(void **state)
{
    struct client *client;
    int fd;

    (void)state;
    start();
    client = connect_node();
    fd = connect_silent(); /* its handshake never begins */
    run_for(20);
    atomic_store(&hold_filter, true);
    send_foreign(client, PUBLIC_TAG, "last words", "l");
    assert_true(run_until(does_filter_wait, NULL, 0, DEADLINE_MS));
    tf_pipeline_stop(world->pipeline, on_stopped, NULL);
    run_for(30);
    assert_int_equal(client->ack_count, 0);
    atomic_store(&hold_filter, false);
    assert_true(run_until(is_closed, client, 0, DEADLINE_MS));
    assert_int_equal(client->ack_count, 1);
    stop();
    (void)close(fd);
}

static void what_is_not_durable_is_compared_too(void **state)
{
    struct frame frames[3] = {{.spool = 1, .seq = 5, .name = 1, .text = "a", .chunk = "a"},
                              {.spool = 1, .seq = 6, .prev = 5, .name = 2, .chunk = "b"},
                              {.spool = 1, .seq = 7, .prev = 6, .name = 3, .chunk = "c"}};
    struct frame fork = {.spool = 1, .seq = 6, .prev = 5, .name = 9, .text = "fork", .chunk = "d"};
    struct client *client;

    (void)state;
    frames[1].text = frames[2].text = "a";
    start();
    client = connect_node();
    run_for(20);
    atomic_store(&hold_syncs, true);
    for (unsigned i = 0; i < TF_COUNT(frames); i++) {
        send_frame(client, &frames[i]);
    }
    send_frame(client, &frames[1]);
    send_frame(client, &fork);
    assert_true(run_until(has_contradicted, NULL, 1, DEADLINE_MS));
    assert_int_equal(client->ack_count, 0);
    assert_int_equal(input_status().repeats, 1);
    assert_int_equal(input_status().contradictions, 1);
    assert_string_equal(tf_contradictions[0], "fork");
    assert_int_equal(input_status().contradicted_by[0], 1);
    atomic_store(&hold_syncs, false);
    assert_true(run_until(has_acks, client, 5, DEADLINE_MS));
    assert_int_equal(count_records("\"contradicts\":\"fork\""), 1);
}

static void a_repeat_of_what_was_lost_is_sent_again(void **state)
{
    struct frame frame = {.spool = 1, .seq = 5, .name = 5, .text = "only once", .chunk = "c5"};
    struct client *older, *newer;

    (void)state;
    start();
    older = connect_node();
    newer = connect_node();
    run_for(20);
    atomic_store(&hold_syncs, true);
    send_frame(older, &frame);
    assert_true(run_until(has_taken, NULL, 1, DEADLINE_MS));
    send_frame(newer, &frame);
    assert_true(run_until(is_closed, older, 0, DEADLINE_MS));
    run_for(50);
    atomic_store(&fail_syncs, 1);
    atomic_store(&hold_syncs, false);
    assert_true(run_until(is_closed, newer, 0, DEADLINE_MS));
    assert_int_equal(newer->ack_count, 0);
    store_frame(connect_node(), &frame);
    assert_int_equal(count_records("only once"), 1);
}

static void an_honest_sender_contradicts_nothing(void **state)
{
    struct frame frame = {.spool = 1, .text = "honest", .chunk = "c"};
    struct client *client;

    (void)state;
    start();
    client = connect_node();
    for (unsigned i = 1; i <= 70; i++) {
        frame.seq = i < 35 ? i * 2 : (UINT64_C(2) << 40) + i; /* a new run in between */
        frame.name = (uint8_t)i;
        store_frame(client, &frame);
        frame.prev = frame.seq;
    }
    frame = (struct frame){.spool = 1,
                           .seq = frame.seq + 9,
                           .prev = frame.seq,
                           .name = 200,
                           .gap_from = frame.seq + 1,
                           .text = "gap",
                           .chunk = "g"};
    store_frame(client, &frame);
    frame = (struct frame){.spool = 1,
                           .seq = frame.seq + 1,
                           .prev = frame.seq,
                           .name = 201,
                           .text = "e",
                           .chunk = "e"};
    store_frame(client, &frame);
    assert_int_equal(input_status().contradictions, 0);
    assert_int_equal(count_records("contradict"), 0);
    assert_int_equal(count_records("honest"), 70);
}

static void expect_contradiction(struct client *client, const struct frame *frame, const char *kind)
{
    char mark[64], told[64];
    uint64_t before = input_status().contradictions;

    (void)snprintf(mark, sizeof mark, "\"contradicts\":\"%s\"", kind);
    (void)snprintf(told, sizeof told, "\"kind\":\"%s\"", kind);
    store_frame(client, frame);
    assert_int_equal(input_status().contradictions, before + 1);
    assert_non_null(strstr(record_with(frame->text), mark));
    assert_true(run_until(has_records, told, 1, DEADLINE_MS));
    assert_non_null(strstr(record_with(told), "\"event\":\"contradiction\""));
}

static void contradictions_are_stored_marked_and_said(void **state)
{
    struct frame frame = {.spool = 1, .seq = 10, .name = 1, .text = "first", .chunk = "c"};
    struct client *client;

    (void)state;
    start();
    client = connect_with(tls.relay); /* the log tells an identity's once a minute */
    assert_true(run_until(is_open, client, 0, DEADLINE_MS));
    store_frame(client, &frame);
    expect_contradiction(
        client, &(struct frame){.spool = 1, .seq = 10, .name = 2, .text = "t-fork", .chunk = "k"},
        "fork");
    expect_contradiction(
        client,
        &(struct frame){
            .spool = 1, .seq = 20, .prev = 15, .name = 3, .text = "t-unseen", .chunk = "k"},
        "unseen");
    expect_contradiction(
        client,
        &(struct frame){
            .spool = 1, .seq = 17, .prev = 10, .name = 4, .text = "t-between", .chunk = "k"},
        "between");
    expect_contradiction(
        client,
        &(struct frame){
            .spool = 1, .seq = 30, .prev = 10, .name = 5, .text = "t-reverse", .chunk = "k"},
        "between");
    expect_contradiction(
        client, &(struct frame){.spool = 2, .seq = 1, .name = 6, .text = "t-new", .chunk = "k"},
        "new-spool");
    assert_non_null(strstr(record_with("\"kind\":\"new-spool\""), "\"last\":30"));
    assert_true(was_logged("event=contradiction"));
}

static void a_number_below_all_remembered_is_said(void **state)
{
    struct frame frame = {.spool = 1, .text = "usual", .chunk = "c"};
    struct client *client;

    (void)state;
    start();
    client = connect_node();
    for (unsigned i = 0; i < 64; i++) {
        frame.seq = 1000 + i;
        frame.name = (uint8_t)i;
        store_frame(client, &frame);
        frame.prev = frame.seq;
    }
    expect_contradiction(
        client, &(struct frame){.spool = 1, .seq = 7, .name = 100, .text = "t-back", .chunk = "k"},
        "back");
}

static void a_replay_is_not_compared(void **state)
{
    struct frame frame = {.spool = 1, .seq = 10, .name = 1, .text = "live", .chunk = "c"};
    struct client *live, *replay;

    (void)state;
    start();
    live = connect_node();
    store_frame(live, &frame);
    replay = connect_node();
    frame.replayed = "job-1";
    frame.text = "again";
    store_frame(replay, &frame);
    store_frame(replay, &frame);
    assert_int_equal(count_records("again"), 2);
    assert_int_equal(count_records("\"replayed\":\"job-1\""), 2);
    assert_false(live->closed);
    assert_int_equal(input_status().contradictions, 0);
}

static void count_key(void *ctx, struct tf_slice key, struct tf_slice value)
{
    (void)key;
    (void)value;
    (*(uint32_t *)ctx)++;
}

static void at_most_64_spools_of_an_identity_are_remembered(void **state)
{
    struct frame frame = {.text = "spool", .chunk = "c"};
    struct client *client;
    uint32_t keys = 0;

    (void)state;
    start();
    client = connect_node();
    for (unsigned i = 0; i < 70; i++) {
        frame.spool = (uint8_t)i;
        frame.seq = 100 + i;
        frame.name = (uint8_t)i;
        store_frame(client, &frame);
    }
    store_frame(client, &frame); /* remembered: dropped */
    assert_int_equal(count_records("\"log\":\"spool\""), 70);
    tf_state_each(tf_pipeline_spool(world->pipeline), tf_slice_text("recv/"), count_key, &keys);
    assert_int_equal(keys, 64);
    assert_int_equal(input_status().contradictions, 69);
    assert_in_range(count_records("\"event\":\"contradiction\""), 1, TF_CONTRADICTION_TOLD);
}

static void too_many_spools_at_once_are_refused(void **state)
{
    struct frame frame = {.text = "spool", .chunk = "c"};
    struct client *client;

    (void)state;
    start();
    client = connect_node();
    run_for(20);
    atomic_store(&hold_syncs, true);
    for (unsigned i = 0; i < 65; i++) { /* none is durable, so none can make room */
        frame.spool = (uint8_t)i;
        frame.seq = 100 + i;
        frame.name = (uint8_t)i;
        send_frame(client, &frame);
    }
    assert_true(run_until(has_refused, NULL, 1, DEADLINE_MS));
    atomic_store(&hold_syncs, false);
    expect_refused(client, "spools");
    assert_int_equal(count_records("\"log\":\"spool\""), 64);
}

static bool counts_names(const void *ctx, uint32_t wanted)
{
    struct tf_slice values[TF_STATE_LIST_MAX];

    return tf_state_list(tf_pipeline_spool(world->pipeline), tf_slice_text(ctx), values) == wanted;
}

static void names_unseen_for_long_are_forgotten(void **state)
{
    struct frame frame = {.spool = 1, .seq = 5, .name = 5, .text = "new", .chunk = "c5"};
    static const char key[] = "recv/spiffe://example.com/node/1/00112233445566778899aabbccddeeff";
    uint8_t value[TF_REMEMBERED_BYTES] = {0};
    struct tf_buf deltas;

    (void)state;
    start();
    tf_store64(value + 32, 1000000);
    tf_buf_init(&deltas, 4096);
    tf_delta_append(&deltas, TF_DELTA_PUSH, tf_slice_text(key), tf_slice(value, sizeof value));
    assert_int_equal(tf_pipeline_deltas(world->pipeline, NULL, &deltas), 0);
    tf_buf_fini(&deltas);
    store_frame(connect_node(), &frame); /* behind the names: they are stored; or gone already, when
                                            the first tick was late */
    stop();
    world->options.limits.idle_ms = 200; /* ticks come sooner */
    start();
    assert_true(run_until(counts_names, key, 0, DEADLINE_MS));
    store_frame(connect_node(), &frame);
    assert_int_equal(input_status().repeats, 1);
}

/* ---- receipts ---------------------------------------------------------------------------------
 */

static struct tf_receipt newest_receipt(const struct client *client)
{
    struct tf_receipt receipt = {0};

    assert_int_equal(tf_receipt_check(client->receipt, client->key), 0);
    assert_int_equal(tf_receipt_decode(client->receipt, &receipt), 0);
    return receipt;
}

/* The newest receipt of client names frame, with its whole chain value. */
static void expect_receipt(const struct client *client, const struct frame *frame)
{
    struct tf_receipt receipt = newest_receipt(client);
    uint8_t spool[16] = {frame->spool, 1}, chain[32] = {frame->name, 2}, digest[32];

    tf_store64(chain + 2, frame->seq);
    (void)SHA256((const unsigned char *)NODE, strlen(NODE), digest);
    assert_memory_equal(receipt.spool_id, spool, sizeof spool);
    assert_int_equal(receipt.seq, frame->seq);
    assert_memory_equal(receipt.chain, chain, sizeof chain);
    assert_memory_equal(receipt.identity, digest, sizeof digest);
    assert_in_range(receipt.time_ns, tf_now_ns() - 60 * TF_S_IN_NS, tf_now_ns());
}

static void a_receipt_names_the_newest_durable_frame(void **state)
{
    struct frame frame = {.spool = 1, .seq = 5, .name = 5, .text = "one", .chunk = "c5"};
    struct client *client, *foreign;
    uint64_t counter;

    (void)state;
    start();
    assert_true(was_logged("event=receipt-key"));
    client = connect_node();
    store_frame(client, &frame);
    assert_int_equal(client->receipt_count, 1);
    assert_int_equal(client->key_count, 1);
    expect_receipt(client, &frame);
    counter = newest_receipt(client).counter;
    frame =
        (struct frame){.spool = 1, .seq = 6, .prev = 5, .name = 6, .text = "two", .chunk = "c6"};
    store_frame(client, &frame); /* nothing is owed any more: within the second */
    expect_receipt(client, &frame);
    assert_int_equal(client->receipt_count, 2);
    assert_int_equal(client->key_count, 1);
    assert_int_equal(newest_receipt(client).counter, counter + 1);
    frame.seq = 900;
    frame.gap_from = 7;
    store_frame(client, &frame); /* a derived gap has no chain */
    assert_int_equal(newest_receipt(client).seq, 6);
    foreign = connect_node();
    send_foreign(foreign, PUBLIC_TAG, "foreign", "f");
    assert_true(run_until(has_acks, foreign, 1, DEADLINE_MS));
    assert_int_equal(foreign->receipt_count, 0);
}

static void a_burst_gets_one_receipt_a_second_and_one_at_its_end(void **state)
{
    struct frame frame = {.spool = 1, .text = "burst", .chunk = "c"};
    struct client *client;

    (void)state;
    start();
    client = connect_node();
    run_for(20);
    atomic_store(&hold_syncs, true);
    for (unsigned i = 1; i <= 40; i++) {
        frame.seq = i;
        frame.name = (uint8_t)i;
        send_frame(client, &frame);
        frame.prev = i;
    }
    assert_true(run_until(has_taken, NULL, 40, DEADLINE_MS));
    assert_int_equal(client->ack_count, 0);
    atomic_store(&hold_syncs, false);
    assert_true(run_until(has_acks, client, 40, DEADLINE_MS));
    assert_in_range(client->receipt_count, 1,
                    6); /* a few, as messages come while others are owed */
    assert_int_equal(client->receipt_at, 39);
    expect_receipt(client, &frame);
}

static void a_repeat_has_a_receipt_after_a_restart(void **state)
{
    struct frame first = {.spool = 1, .seq = 5, .name = 5, .text = "one", .chunk = "c5"};
    struct frame second = {
        .spool = 1, .seq = 6, .prev = 5, .name = 6, .text = "two", .chunk = "c6"};
    struct client *client;
    uint8_t key[TF_RECEIPT_KEY_BYTES];

    (void)state;
    start();
    client = connect_node();
    store_frame(client, &first);
    store_frame(client, &second);
    memcpy(key, client->key, sizeof key);
    stop();
    start();
    client = connect_node();
    store_frame(client, &first);
    expect_receipt(client, &second);
    assert_memory_equal(client->key, key, sizeof key); /* it was kept */
}

/* Of names kept by an older release only 16 bytes are known. */
static void an_old_name_gives_no_receipt(void **state)
{
    struct frame frame = {.spool = 1, .seq = 5, .name = 5, .text = "old", .chunk = "c5"};
    static const char key[] = "recv/" NODE "/01010000000000000000000000000000";
    uint8_t value[41] = {5, 2, 5};
    struct client *client;
    struct tf_buf deltas;

    (void)state;
    start();
    tf_store64(value + 16, 5);
    tf_store64(value + 32, (uint64_t)(tf_now_ns() / TF_S_IN_NS));
    tf_buf_init(&deltas, 4096);
    tf_delta_append(&deltas, TF_DELTA_PUSH, tf_slice_text(key), tf_slice(value, sizeof value));
    assert_int_equal(tf_pipeline_deltas(world->pipeline, NULL, &deltas), 0);
    tf_buf_fini(&deltas);
    stop();
    start();
    client = connect_node();
    store_frame(client, &frame);
    assert_int_equal(input_status().repeats, 1);
    assert_int_equal(client->receipt_count, 0);
    frame =
        (struct frame){.spool = 1, .seq = 6, .prev = 5, .name = 6, .text = "new", .chunk = "c6"};
    store_frame(client, &frame);
    assert_int_equal(input_status().contradictions, 0);
    expect_receipt(client, &frame);
}

/* So that the sender of a restored spool sees a frame that it does not have. */
static void a_contradiction_is_answered_with_what_it_contradicts(void **state)
{
    struct frame known = {.spool = 1, .seq = 90, .prev = 50, .name = 1, .text = "k", .chunk = "k"};
    struct frame back = {.spool = 1, .seq = 95, .prev = 50, .name = 2, .text = "b", .chunk = "b"};
    struct frame next = {.spool = 1, .seq = 96, .prev = 95, .name = 3, .text = "n", .chunk = "n"};
    struct client *client;

    (void)state;
    start();
    client = connect_node();
    store_frame(client, &known);
    store_frame(client, &back);
    assert_int_equal(input_status().contradictions, 2); /* the first one's prev was unseen */
    expect_receipt(client, &known);
    store_frame(client, &next); /* that it stays so is what the sender's own receipts say */
    expect_receipt(client, &next);
    stop();
    start();
    client = connect_node();
    store_frame(client, &back);
    expect_receipt(client, &next);
}

/* While signing fails, acks have no receipt; the dispute is told with the first one that can be. */
static void a_contradiction_waits_for_a_receipt_that_can_be_signed(void **state)
{
    struct frame known = {.spool = 1, .seq = 90, .prev = 50, .name = 1, .text = "k", .chunk = "k"};
    struct frame back = {.spool = 1, .seq = 95, .prev = 50, .name = 2, .text = "b", .chunk = "b"};
    struct frame next = {.spool = 1, .seq = 96, .prev = 95, .name = 3, .text = "n", .chunk = "n"};
    struct client *client;

    (void)state;
    start();
    client = connect_node();
    store_frame(client, &known);
    signing_fails = true;
    store_frame(client, &back);
    signing_fails = false;
    assert_int_equal(client->receipt_count, 1);
    store_frame(client, &next);
    expect_receipt(client, &known);
}

static void try_receipt_key(const char *text, unsigned mode, const char *word)
{
    char path[96];
    struct receipt_key *key = NULL;
    struct tf_error err;
    int fd;

    (void)snprintf(path, sizeof path, "%s.receipt-key", world->folder);
    (void)unlink(path);
    fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
    assert_int_equal(fchmod(fd, mode), 0);
    (void)close(fd);
    tf_error_init(&err);
    assert_int_equal(
        tf_receipt_key_open(world->folder, &(struct tf_place){"c.yaml", 3, 1}, &key, &err),
        -EINVAL);
    assert_non_null(strstr(tf_error_first(&err), word));
    assert_null(key);
    tf_error_fini(&err);
}

static void a_wrong_receipt_key_is_refused(void **state)
{
    char pem[4096] = "";
    int fd = open(tls.server.key.text, O_RDONLY | O_CLOEXEC); /* a sound key of another kind */

    (void)state;
    assert_true(fd >= 0 && read(fd, pem, sizeof pem - 1) > 0);
    (void)close(fd);
    try_receipt_key("not a key\n", 0600, "is not an Ed25519 key");
    try_receipt_key("", 0600, "is not an Ed25519 key");
    try_receipt_key(pem, 0600, "is not an Ed25519 key");
    try_receipt_key(pem, 0644, "can be read by others");
}

/* ---- who may say what -------------------------------------------------------------------------
 */

/* A foreign record that poses as the collector's own words. */
static void put_lies(struct tf_buf *buf)
{
    static const char *const keys[] = {"identity", "via",     "host",    "time",
                                       "tag",      "claimed", "taffrail"};

    tf_msgpack_array(buf, 4);
    put_text(buf, PUBLIC_TAG);
    tf_msgpack_uint(buf, 1700000000);
    tf_msgpack_map(buf, (uint32_t)TF_COUNT(keys) + 1);
    put_text(buf, "log");
    put_text(buf, "liar");
    for (size_t i = 0; i < TF_COUNT(keys); i++) {
        put_text(buf, keys[i]);
        put_text(buf, "a lie");
    }
    put_chunk(buf, "lies");
}

static void reserved_keys_of_a_stranger_move_under_claimed(void **state)
{
    struct tf_buf buf = new_buf();
    struct client *client;
    const char *record;

    (void)state;
    start();
    client = connect_node();
    put_lies(&buf);
    send_buf(client, &buf);
    assert_true(run_until(has_acks, client, 1, DEADLINE_MS));
    record = record_with("liar");
    assert_non_null(strstr(record, "\"identity\":\"" NODE "\""));
    assert_non_null(strstr(record, "\"claimed\":{\"identity\":\"a lie\",\"via\":\"a lie\""));
    assert_non_null(strstr(record, "\"taffrail\":\"a lie\"}"));
    assert_null(strstr(record, "collector-1")); /* a received record keeps its own host */
}

static void a_relay_keeps_identities_and_joins_via(void **state)
{
    struct frame frame = {.spool = 1, .seq = 5, .name = 5, .chunk = "c5"};
    struct tf_buf buf = new_buf();
    struct client *client;

    (void)state;
    start();
    client = connect_with(tls.relay);
    assert_true(run_until(is_open, client, 0, DEADLINE_MS));
    tf_msgpack_array(&buf, 3);
    put_text(&buf, "any.tag.at.all");
    tf_msgpack_array(&buf, 1);
    put_entry(&buf, "identity", NODE);
    put_frame_option(&buf, &frame);
    send_buf(client, &buf);
    assert_true(run_until(has_acks, client, 1, DEADLINE_MS));
    assert_non_null(
        strstr(record_with("any.tag.at.all"), "\"identity\":\"" NODE "\",\"via\":[\"" RELAY "\"]"));
}

static void a_tag_that_is_not_allowed_is_refused(void **state)
{
    struct client *client;

    (void)state;
    start();
    client = connect_node();
    send_foreign(client, "taffrail.audit", "node speaks", "a");
    assert_true(run_until(has_acks, client, 1, DEADLINE_MS));
    send_foreign(client, "other.web", "not for you", "b");
    expect_refused(client, "tag");
    assert_int_equal(client->ack_count, 2);
    assert_string_equal(client->acks[1], "");
    assert_int_equal(count_records("node speaks"), 1);
    assert_int_equal(count_records("not for you"), 0);
}

static void an_identity_that_is_not_allowed_is_refused(void **state)
{
    struct client *client;

    (void)state;
    start();
    client = connect_with(tls.stranger);
    expect_refused(client, "identity");
    assert_int_equal(count_records("\"sender\":\"spiffe://example.com/stranger/1\""), 1);
}

static void a_certificate_of_another_authority_is_refused(void **state)
{
    struct client *client;

    (void)state;
    start();
    client = connect_with(tls.rogue);
    expect_refused(client, "handshake");
    assert_int_equal(input_status().connections, 0);
}

/* A blocking client without certificate: TLS 1.3 tells it on its first read. */
static void connect_without_certificate(void *port)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    SSL *ssl = SSL_new(ctx);
    struct sockaddr_in address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    char byte;

    (void)uv_ip4_addr("127.0.0.1", *(int *)port, &address);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) == 0) {
        (void)SSL_set_fd(ssl, fd);
        (void)SSL_connect(ssl);
        (void)SSL_read(ssl, &byte, 1);
    }
    SSL_free(ssl);
    SSL_CTX_free(ctx);
    (void)close(fd);
}

static void a_client_without_certificate_is_refused(void **state)
{
    uv_thread_t thread;

    (void)state;
    start();
    assert_int_equal(uv_thread_create(&thread, connect_without_certificate, &world->port), 0);
    assert_true(run_until(has_refused, NULL, 1, DEADLINE_MS));
    assert_int_equal(uv_thread_join(&thread), 0);
    assert_true(run_until(has_records, "no certificate given", 1, DEADLINE_MS));
}

/* ---- hostile bytes ----------------------------------------------------------------------------
 */

static void garbage_ends_its_connection_alone(void **state)
{
    struct client *honest, *hostile;

    (void)state;
    start();
    honest = connect_node();
    hostile = connect_node();
    send_bytes(hostile, "\xc1", 1); /* no msgpack at all */
    expect_refused(hostile, "malformed");
    hostile = connect_node();
    send_bytes(hostile, "GET / HTTP/1.1\r\n\r\n", 18);
    assert_true(run_until(is_closed, hostile, 0, DEADLINE_MS));
    assert_int_equal(input_status().refused, 2);
    send_foreign(honest, PUBLIC_TAG, "still here", "h");
    assert_true(run_until(has_acks, honest, 1, DEADLINE_MS));
}

static void a_refusal_is_logged_without_its_bytes(void **state)
{
    struct client *client;

    (void)state;
    world->options.listen.text = "[::1]:0";
    world->is_v6 = true;
    start();
    client = connect_node();
    send_bytes(client, "GET / HTTP/1.1\r\n\r\n", 18);
    expect_refused(client, "malformed");
    assert_true(was_logged("event=listening"));
    assert_true(was_logged("event=refused"));
    assert_true(was_logged("address=\"::1\" reason=malformed") ||
                was_logged("address=::1 reason=malformed"));
    assert_false(was_logged("HTTP"));
}

static void an_event_that_is_not_sound_refuses_its_message(void **state)
{
    struct tf_buf packed = new_buf();
    struct client *client;

    (void)state;
    start();
    client = connect_node();
    put_entry(&packed, "log", "sound part");
    put_text(&packed, "no event");
    send_packed(client, &packed, false, "p");
    expect_refused(client, "malformed");
    assert_int_equal(client->ack_count, 0);
    assert_int_equal(count_records("sound part"), 0);
    tf_buf_fini(&packed);
}

static void half_a_message_is_nothing(void **state)
{
    struct frame frame = {.spool = 1, .seq = 5, .name = 5, .text = "half", .chunk = "c5"};
    struct client *client;

    (void)state;
    start();
    for (unsigned cut = 1; cut < 4; cut++) {
        struct tf_buf buf = frame_message(&frame);

        client = connect_node();
        send_bytes(client, buf.data, buf.size * cut / 4);
        run_for(20);
        tf_link_close(client->link, "cut");
        assert_true(run_until(is_closed, client, 0, DEADLINE_MS));
        tf_buf_fini(&buf);
    }
    assert_true(run_until(is_quiet, NULL, 0, DEADLINE_MS));
    store_frame(connect_node(), &frame);
    assert_int_equal(count_records("half"), 1);
    assert_int_equal(input_status().refused, 0);
}

static void a_message_that_is_too_large_is_refused(void **state)
{
    struct tf_buf packed = new_buf();
    struct client *client;
    char *text = malloc((1 << 20) + 1);

    (void)state;
    start();
    client = connect_node();
    memset(text, 'x', 1 << 20);
    text[1 << 20] = '\0';
    put_entry(&packed, "log", text);
    send_packed(client, &packed, false, "p");
    expect_refused(client, "too-large");
    assert_int_equal(client->ack_count, 0);
    tf_buf_fini(&packed);
    free(text);
}

static void a_gzip_bomb_is_refused(void **state)
{
    struct tf_buf zipped = new_buf();
    struct client *client;
    char *zeros = calloc(1, 40u << 20);

    (void)state;
    start();
    client = connect_node();
    put_gzip(&zipped, zeros, 40u << 20);
    send_packed(client, &zipped, true, "z");
    assert_true(run_until(is_closed, client, 0, DEADLINE_MS));
    assert_int_equal(input_status().refused, 1);
    assert_int_equal(client->ack_count, 0);
    tf_buf_fini(&zipped);
    free(zeros);
}

/* Its record passes the decoder, and with what the collector writes on it no frame. */
static void a_message_that_fits_no_frame_is_refused(void **state)
{
    const size_t size = TF_DRAFT_PAYLOAD_MAX + 1024;
    struct tf_buf packed = new_buf(), zipped = new_buf();
    struct client *client;
    char *text = malloc(size + 1);

    (void)state;
    assert_non_null(text);
    for (size_t i = 0; i < size; i++) {
        text[i] = (char)('a' + i % 23);
    }
    text[size] = '\0';
    put_entry(&packed, "log", text);
    put_gzip(&zipped, packed.data, packed.size);
    start();
    client = connect_node();
    send_packed(client, &zipped, true, "z");
    expect_refused(client, "too-large");
    assert_int_equal(client->ack_count, 0);
    tf_buf_fini(&packed);
    tf_buf_fini(&zipped);
    free(text);
}

static void a_nested_secret_is_redacted(void **state)
{
    struct tf_buf buf = new_buf();
    struct client *client;

    (void)state;
    start();
    client = connect_node();
    tf_msgpack_array(&buf, 4);
    put_text(&buf, PUBLIC_TAG);
    tf_msgpack_uint(&buf, 1700000000);
    tf_msgpack_map(&buf, 1);
    put_text(&buf, "outer");
    tf_msgpack_map(&buf, 1);
    put_text(&buf, "inner");
    tf_msgpack_array(&buf, 1);
    put_text(&buf, "key AKIAIOSFODNN7EXAMPLQ end");
    put_chunk(&buf, "s");
    send_buf(client, &buf);
    assert_true(run_until(has_acks, client, 1, DEADLINE_MS));
    assert_int_equal(count_records("AKIAIOSFODNN7EXAMPLQ"), 0);
    assert_int_equal(count_records("\"outer\":{\"inner\":[\"key [REDACTED"), 1);
}

/* ---- limits -----------------------------------------------------------------------------------
 */

static void one_address_has_16_unproved_connections(void **state)
{
    int fds[20];

    (void)state;
    world->options.listen.text = "[::]:0"; /* IPv4 comes mapped */
    start();
    for (unsigned i = 0; i < TF_COUNT(fds); i++) {
        fds[i] = connect_silent();
    }
    assert_true(run_until(has_refused, NULL, 4, DEADLINE_MS));
    run_for(20);
    assert_int_equal(input_status().refused, 4);
    for (unsigned i = 0; i < TF_COUNT(fds); i++) {
        (void)close(fds[i]);
    }
    run_for(50);
    store_frame(connect_node(), &(struct frame){.spool = 1, .seq = 1, .text = "t", .chunk = "c"});
    assert_string_equal(tf_refusals[1], "address");
    assert_int_equal(input_status().refused_by[1], 4);
    assert_int_equal(input_status().refused, 4); /* who only connects is not told */
}

static void accept_waits_behind_a_flood(void **state)
{
    int fds[8];

    (void)state;
    world->options.limits.handshakes = 1; /* 4 unproved */
    world->options.limits.handshake_ms = 200;
    world->options.limits.idle_ms = 200;
    start();
    for (unsigned i = 0; i < TF_COUNT(fds); i++) {
        fds[i] = connect_silent();
    }
    store_frame(connect_node(), &(struct frame){.spool = 1, .seq = 1, .text = "t", .chunk = "c"});
    assert_true(input_status().refused >= 4); /* by the handshake's timeout */
    for (unsigned i = 0; i < TF_COUNT(fds); i++) {
        (void)close(fds[i]);
    }
}

static void what_cannot_be_accepted_is_counted(void **state)
{
    (void)state;
    start();
    atomic_store(&fail_accepts, 3);
    store_frame(connect_node(), &(struct frame){.spool = 1, .seq = 1, .text = "t", .chunk = "c"});
    assert_int_equal(input_status().errors[TF_INPUT_ACCEPT], 3);
}

static void connections_are_limited(void **state)
{
    struct client *clients[3];

    (void)state;
    world->options.limits.per_identity = 2;
    world->options.limits.connections = 3;
    start();
    clients[0] = connect_node();
    clients[1] = connect_node();
    clients[2] = connect_with(tls.node);
    expect_refused(clients[2], "per-identity");
    (void)connect_with(tls.relay);
    clients[2] = connect_with(tls.relay);
    assert_true(run_until(is_closed, clients[2], 0, DEADLINE_MS));
    assert_true(run_until(has_records, "\"reason\":\"connections\"", 1, DEADLINE_MS));
    tf_link_close(clients[0]->link, "room");
    assert_true(run_until(is_quiet, NULL, 2, DEADLINE_MS));
    store_frame(connect_node(), &(struct frame){.spool = 1, .seq = 1, .text = "t", .chunk = "c"});
}

static void refusals_are_told_ten_times_a_second(void **state)
{
    uint64_t began_ms, passed_s;

    (void)state;
    world->options.limits.per_identity = 1;
    start();
    (void)connect_node();
    began_ms = uv_now(&world->loop);
    for (unsigned i = 0; i < 14; i++) {
        struct client *client = connect_with(tls.node);

        assert_true(run_until(is_closed, client, 0, DEADLINE_MS));
    }
    assert_int_equal(input_status().refused, 14);
    assert_true(run_until(has_records, "\"event\":\"refused\"", 10, DEADLINE_MS));
    run_for(30);
    passed_s = (uv_now(&world->loop) - began_ms) / 1000;
    assert_in_range(count_records("\"event\":\"refused\""), 10, 10 * (passed_s + 1) + 3);
}

static void a_silent_connection_is_closed(void **state)
{
    struct client *client;

    (void)state;
    world->options.limits.idle_ms = 200;
    start();
    client = connect_node();
    assert_true(run_until(is_closed, client, 0, DEADLINE_MS));
    assert_int_equal(input_status().refused, 0);
}

static void a_slow_message_is_refused(void **state)
{
    struct frame frame = {.spool = 1, .seq = 5, .name = 5, .text = "slow", .chunk = "c5"};
    struct tf_buf buf = frame_message(&frame);
    struct client *client;

    (void)state;
    world->options.limits.progress_ms = 200;
    start();
    client = connect_node();
    for (size_t i = 0; i < 8 && client->link != NULL; i++) {
        struct tf_slice byte = tf_slice(buf.data + i, 1);

        (void)tf_link_write(client->link, &byte, 1); /* fails once it was refused */
        run_for(40);
    }
    expect_refused(client, "slow");
    tf_buf_fini(&buf);
}

static const struct connection *only_connection(void)
{
    const struct forward *forward = world->pipeline->inputs[0].self;

    assert_non_null(forward->connections);
    assert_null(forward->connections->next);
    return forward->connections;
}

static void messages_that_are_not_durable_are_bounded(void **state)
{
    const uint32_t count = TF_UNACKED_MAX + 200;
    struct client *client;

    (void)state;
    start();
    client = connect_node();
    run_for(20);
    atomic_store(&hold_syncs, true);
    for (uint32_t i = 0; i < count; i++) {
        send_foreign(client, PUBLIC_TAG, "waits", "w");
    }
    run_for(500);
    assert_in_range(only_connection()->taken_count, 1, TF_UNACKED_MAX);
    atomic_store(&hold_syncs, false);
    assert_true(run_until(has_acks, client, count, DEADLINE_MS));
}

static bool reading_stopped(const void *ctx, uint32_t wanted)
{
    (void)ctx;
    (void)wanted;
    return !only_connection()->reading &&
           tf_link_queued_bytes(only_connection()->link) > TF_ACKS_UNREAD_MAX;
}

static void unread_acks_stop_the_reading(void **state)
{
    char id[128];
    struct frame frame = {.spool = 1, .seq = 5, .name = 5, .text = "t", .chunk = id};
    struct tf_buf one, many = new_buf();
    struct client *client;
    uint32_t sent = 1;

    (void)state;
    memset(id, 'i', sizeof id - 1);
    id[sizeof id - 1] = '\0';
    start();
    client = connect_node();
    send_frame(client, &frame);
    assert_true(run_until(has_acks, client, 1, DEADLINE_MS));
    one = frame_message(&frame);
    for (unsigned i = 0; i < 2000; i++) {
        (void)tf_buf_append(&many, one.data, one.size);
    }
    tf_link_read_stop(client->link);
    for (unsigned i = 0; i < 100 && !reading_stopped(NULL, 0); i++, sent += 2000) {
        send_bytes(client, many.data, many.size);
        run_for(10);
    }
    assert_true(run_until(reading_stopped, NULL, 0, DEADLINE_MS));
    assert_in_range(tf_link_queued_bytes(only_connection()->link), 0, 2 << 20);
    tf_link_read_start(client->link);
    assert_true(run_until(has_acks, client, sent, DEADLINE_MS));
    tf_buf_fini(&one);
    tf_buf_fini(&many);
}

static void memory_is_bounded_and_everybody_gets_on(void **state)
{
    struct tf_buf packed = new_buf(), first = new_buf();
    struct client *clients[4];
    char *text = malloc((900 << 10) + 1);

    (void)state;
    world->options.limits.memory_bytes = 1 << 20;
    start();
    memset(text, 'x', 900 << 10);
    text[900 << 10] = '\0';
    put_entry(&packed, "log", text);
    tf_msgpack_array(&first, 3);
    put_text(&first, PUBLIC_TAG);
    tf_msgpack_bytes(&first, tf_buf_slice(&packed));
    put_chunk(&first, "big");
    for (unsigned i = 0; i < TF_COUNT(clients); i++) { /* nobody's is whole */
        clients[i] = connect_node();
        send_bytes(clients[i], first.data, first.size - 10);
    }
    run_for(100);
    for (unsigned i = 0; i < TF_COUNT(clients); i++) {
        send_bytes(clients[i], first.data + first.size - 10, 10);
    }
    for (unsigned i = 0; i < TF_COUNT(clients); i++) {
        assert_true(run_until(has_acks, clients[i], 1, DEADLINE_MS));
    }
    assert_int_equal(count_records("xxxxxxxx"), TF_COUNT(clients));
    tf_buf_fini(&packed);
    tf_buf_fini(&first);
    free(text);
}

/* ---- stop, options, crashes -------------------------------------------------------------------
 */

static void stop_acks_what_was_handed_on(void **state)
{
    struct client *client;

    (void)state;
    start();
    client = connect_node();
    run_for(20);
    atomic_store(&hold_syncs, true);
    send_foreign(client, PUBLIC_TAG, "last words", "l");
    assert_true(run_until(has_taken, NULL, 1, DEADLINE_MS));
    tf_pipeline_stop(world->pipeline, on_stopped, NULL);
    run_for(50);
    assert_int_equal(client->ack_count, 0);
    assert_false(client->closed);
    atomic_store(&hold_syncs, false);
    assert_true(run_until(is_closed, client, 0, DEADLINE_MS));
    assert_int_equal(client->ack_count, 1);
    assert_int_equal(client->status, 0);
    stop();
}

static void expect_open_error(const char *text)
{
    struct tf_input_args args = {.name = "forward", .options = &world->options};
    struct tf_error err;
    void *self = NULL;

    tf_error_init(&err);
    assert_true(tf_input_forward.open(&args, &self, &err) < 0);
    assert_null(self);
    if (strstr(tf_error_first(&err), text) == NULL) {
        fail_msg("%s", tf_error_first(&err));
    }
    tf_error_fini(&err);
}

static void wrong_options_are_told(void **state)
{
    static const char *const listens[] = {
        "24224", "localhost:24224", "127.0.0.1:", "1.2.3.4:99999", "[::1:24224", "1.2.3.4:2x"};
    struct tf_text empty_text = {.text = ""};
    struct tf_texts empty;
    struct tf_error err;

    (void)state;
    for (unsigned i = 0; i < TF_COUNT(listens); i++) {
        world->options.listen.text = listens[i];
        expect_open_error("is not an address and port");
    }
    world->options.listen.text = "[::1]:0";
    world->options.allow.count = 0;
    expect_open_error("allow is empty");
    world->options.allow.count = 2;
    world->allow[0].identity.text = "";
    expect_open_error("no identity");
    world->allow[0].identity.text = NODE;
    empty = (struct tf_texts){.items = &empty_text, .count = 1};
    world->allow[0].tags = empty;
    expect_open_error("a tag glob is empty");
    world->allow[0].tags.count = 0;
    world->options.tls.cert.text = NULL;
    expect_open_error("forward needs tls");
    world->options.tls = tls.server;
    start();
    world->options.listen.text = "127.0.0.1:0";
    stop();
    world->options.listen.text = "192.0.2.1:1"; /* not ours: documentation, RFC 5737 */
    tf_error_init(&err);
    assert_int_equal(uv_loop_init(&world->loop), 0);
    assert_int_equal(uv_timer_init(&world->loop, &world->deadline), 0);
    assert_int_equal(tf_pipeline_new(&world->loop, &world->config, &world->pipeline, &err), 0);
    assert_true(tf_pipeline_start(world->pipeline, &err) < 0);
    assert_non_null(strstr(tf_error_first(&err), "cannot listen on 192.0.2.1:1"));
    tf_error_fini(&err);
    world->stopped = false;
    stop();
}

/* In a child: sends one frame to a collector that dies on the way. */
static void die_at(const char *point, const struct frame *frame)
{
    (void)setenv("TAFFRAIL_CRASH", point, 1);
    start();
    store_frame(connect_node(), frame);
    run_for(DEADLINE_MS); /* the ack may arrive before its point is passed */
    _exit(1);
}

/* Runs first: a process with threads cannot be forked under every sanitizer. */
static void a_kill_at_any_step_loses_and_doubles_nothing(void **state)
{
    static const char *const points[] = {"recv.decoded:1", "recv.appended:1", "ack.sent:1"};
    struct frame frames[TF_COUNT(points)];
    struct client *client;
    char texts[TF_COUNT(points)][16];

    (void)state;
    kept.is_deaf = true;
    world->config.agent.stop_timeout_ms = 50;
    for (unsigned i = 0; i < TF_COUNT(points); i++) {
        int status;
        pid_t child;

        (void)snprintf(texts[i], sizeof texts[i], "survivor %u", i);
        frames[i] = (struct frame){
            .spool = 1, .seq = 10 + i, .name = (uint8_t)i, .text = texts[i], .chunk = "c"};
        child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            die_at(points[i], &frames[i]);
        }
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status));
    }
    start();
    client = connect_node();
    for (unsigned i = 0; i < TF_COUNT(points); i++) {
        store_frame(client, &frames[i]);
    }
    assert_int_equal(input_status().repeats, 2);
    assert_true(run_until(has_records, "survivor", TF_COUNT(points), DEADLINE_MS));
    run_for(50);
    for (unsigned i = 0; i < TF_COUNT(points); i++) {
        assert_int_equal(count_records(texts[i]), 1);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_kill_at_any_step_loses_and_doubles_nothing),
        TEST(all_modes_are_acked_when_durable),
        TEST(without_chunk_there_is_no_ack_and_heartbeats_pass),
        TEST(an_empty_message_is_acked),
        TEST(many_small_messages_come_in_one_read),
        TEST(what_came_whole_is_stored_though_its_sender_is_gone),
        TEST(a_repeat_is_acked_and_stored_once),
        TEST(a_repeat_waits_for_its_original),
        TEST(a_failed_sync_leaves_nothing_acked_or_doubled),
        TEST(a_job_outlives_its_connection),
        TEST(a_collector_stops_while_a_job_runs),
        TEST(what_is_not_durable_is_compared_too),
        TEST(a_repeat_of_what_was_lost_is_sent_again),
        TEST(an_honest_sender_contradicts_nothing),
        TEST(contradictions_are_stored_marked_and_said),
        TEST(a_number_below_all_remembered_is_said),
        TEST(a_replay_is_not_compared),
        TEST(at_most_64_spools_of_an_identity_are_remembered),
        TEST(too_many_spools_at_once_are_refused),
        TEST(names_unseen_for_long_are_forgotten),
        TEST(a_receipt_names_the_newest_durable_frame),
        TEST(a_burst_gets_one_receipt_a_second_and_one_at_its_end),
        TEST(a_repeat_has_a_receipt_after_a_restart),
        TEST(an_old_name_gives_no_receipt),
        TEST(a_contradiction_is_answered_with_what_it_contradicts),
        TEST(a_contradiction_waits_for_a_receipt_that_can_be_signed),
        TEST(a_wrong_receipt_key_is_refused),
        TEST(reserved_keys_of_a_stranger_move_under_claimed),
        TEST(a_relay_keeps_identities_and_joins_via),
        TEST(a_tag_that_is_not_allowed_is_refused),
        TEST(an_identity_that_is_not_allowed_is_refused),
        TEST(a_certificate_of_another_authority_is_refused),
        TEST(a_client_without_certificate_is_refused),
        TEST(garbage_ends_its_connection_alone),
        TEST(a_refusal_is_logged_without_its_bytes),
        TEST(an_event_that_is_not_sound_refuses_its_message),
        TEST(half_a_message_is_nothing),
        TEST(a_message_that_is_too_large_is_refused),
        TEST(a_gzip_bomb_is_refused),
        TEST(a_message_that_fits_no_frame_is_refused),
        TEST(a_nested_secret_is_redacted),
        TEST(one_address_has_16_unproved_connections),
        TEST(accept_waits_behind_a_flood),
        TEST(what_cannot_be_accepted_is_counted),
        TEST(connections_are_limited),
        TEST(refusals_are_told_ten_times_a_second),
        TEST(a_silent_connection_is_closed),
        TEST(a_slow_message_is_refused),
        TEST(messages_that_are_not_durable_are_bounded),
        TEST(unread_acks_stop_the_reading),
        TEST(memory_is_bounded_and_everybody_gets_on),
        TEST(stop_acks_what_was_handed_on),
        TEST(wrong_options_are_told),
    };

    (void)signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, set_up_all, tear_down_all);
}
