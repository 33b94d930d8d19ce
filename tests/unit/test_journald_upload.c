/*
 * test_journald_upload.c - mode upload: which entries are repeats, and posts on a real pipeline and
 * spool: answered when durable, cut when the run is, taken over by a newer one, forgotten when old.
 *
 * Clients live on the same loop. The worker's part is tested without a pipeline, so upload.c is
 * included.
 */
#include "../../agent/inputs/journald/upload.c"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>
#include <zlib.h>

#include "../../filters/redact/redact.h"
#include "pipeline_fixture.h"
#include "tls_fixture.h"

#define DEADLINE_MS 30000u
#define NODE        "spiffe://example.com/node/7"
#define ID          "0123456789abcdef0123456789abcdef"
#define REST        ";b=" ID ";m=1;t=2;x=3"

/* ---- what was taken ------------------------------------------------------------------------- */

static struct tf_seqnum seqnum_of(const char *cursor)
{
    struct tf_seqnum seqnum;

    assert_true(tf_seqnum_of_cursor(tf_slice_text(cursor), &seqnum));
    return seqnum;
}

static void cursors_are_read_and_others_are_none(void **state)
{
    static const char *const wrong[] = {"",
                                        "s=",
                                        "s=" ID,
                                        "s=" ID ";i=",
                                        "s=" ID ";i=1",
                                        "s=" ID ";i=;b=1",
                                        "s=" ID ";i=g;b=1",
                                        "s=" ID ";i=12345678123456781;b=1",
                                        "S=" ID ";i=1;b=1",
                                        "i=1;s=" ID ";b=1",
                                        "s=0123456789ABCDEF0123456789abcdef;i=1;b=1",
                                        "s=0123456789abcdef0123456789abcde;i=1;b=1",
                                        "my own cursor, which is long enough to be one"};
    static const uint8_t id[] = {0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef,
                                 0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef};
    struct tf_seqnum seqnum = seqnum_of("s=" ID ";i=1f" REST);

    (void)state;
    assert_memory_equal(seqnum.id, id, sizeof id);
    assert_int_equal(seqnum.number, 0x1f);
    assert_true(seqnum_of("s=" ID ";i=ffffffffffffffff" REST).number == UINT64_MAX);
    for (size_t i = 0; i < TF_COUNT(wrong); i++) {
        assert_false(tf_seqnum_of_cursor(tf_slice_text(wrong[i]), &seqnum));
    }
}

static struct tf_seqnum numbered(uint8_t id, uint64_t number)
{
    struct tf_seqnum seqnum = {.number = number};

    memset(seqnum.id, id, sizeof seqnum.id);
    return seqnum;
}

static void add(struct tf_uploaded *uploaded, uint8_t id, uint64_t number)
{
    struct tf_seqnum seqnum = numbered(id, number);

    tf_uploaded_add(uploaded, &seqnum);
}

static bool has(const struct tf_uploaded *uploaded, uint8_t id, uint64_t number)
{
    struct tf_seqnum seqnum = numbered(id, number);

    return tf_uploaded_has(uploaded, &seqnum);
}

static void numbers_only_rise_and_the_oldest_id_makes_room(void **state)
{
    struct tf_uploaded uploaded = {0};

    (void)state;
    assert_false(has(&uploaded, 1, 0));
    for (uint8_t id = 1; id <= TF_UPLOADED_IDS_MAX; id++) {
        add(&uploaded, id, 100);
    }
    add(&uploaded, 1, 7); /* not higher, but seen: now 2 is the oldest */
    assert_true(has(&uploaded, 1, 100) && has(&uploaded, 1, 0) && !has(&uploaded, 1, 101));
    add(&uploaded, 99, 1);
    assert_int_equal(uploaded.count, TF_UPLOADED_IDS_MAX);
    assert_true(has(&uploaded, 99, 1) && has(&uploaded, 1, 100) && has(&uploaded, 3, 100));
    assert_false(has(&uploaded, 2, 1));
}

static void values_survive_and_damaged_ones_are_none(void **state)
{
    uint8_t bytes[TF_UPLOADED_BYTES_MAX];
    struct tf_uploaded uploaded = {.seen_s = 1795000000}, read;
    size_t size;

    (void)state;
    for (uint8_t id = 1; id <= TF_UPLOADED_IDS_MAX; id++) {
        add(&uploaded, id, UINT64_MAX - id);
    }
    size = tf_uploaded_write(&uploaded, bytes);
    assert_int_equal(size, TF_UPLOADED_BYTES_MAX);
    assert_true(tf_uploaded_read(tf_slice(bytes, size), &read));
    assert_memory_equal(&read, &uploaded, sizeof read);
    for (size_t cut = 0; cut < size; cut++) {
        assert_false(tf_uploaded_read(tf_slice(bytes, cut), &read));
    }
    bytes[1] = TF_UPLOADED_IDS_MAX + 1;
    assert_false(tf_uploaded_read(tf_slice(bytes, size), &read));
    bytes[1] = TF_UPLOADED_IDS_MAX;
    memcpy(bytes + 10, bytes + 34, 16); /* one id twice */
    assert_false(tf_uploaded_read(tf_slice(bytes, size), &read));
    bytes[0] = 2;
    bytes[1] = 0;
    assert_false(tf_uploaded_read(tf_slice(bytes, 10), &read));
}

/* ---- the worker's part ---------------------------------------------------------------------- */

static void append_entry(struct tf_buf *body, char id, unsigned number, const char *text)
{
    char hex[33] = "";

    memset(hex, id, 32);
    assert_int_equal(tf_buf_printf(body,
                                   "__CURSOR=s=%s;i=%x;b=" ID ";m=1;t=2;x=3\n"
                                   "__REALTIME_TIMESTAMP=%u\n_HOSTNAME=far\nMESSAGE=%s %u\n\n",
                                   hex, number, number, text, number),
                     0);
}

static int64_t decode(struct uploader *uploader, const struct tf_buf *body, size_t from,
                      struct tf_batch *batch, struct tf_export_result *result)
{
    *result = (struct tf_export_result){0};
    return tf_export_decode(uploader->stream.decoder,
                            tf_slice(body->data + from, body->size - from), 0, batch, result);
}

static void what_did_not_fit_is_not_taken(void **state)
{
    struct uploader uploader = {0};
    struct tf_export_result result;
    struct tf_buf body, deltas;
    struct tf_batch batch;
    int64_t first;

    (void)state;
    tf_buf_init(&body, 1 << 20);
    tf_buf_init(&deltas, 1 << 20);
    tf_buf_init(&uploader.key, 64);
    (void)tf_buf_append_text(&uploader.key, "key");
    uploader.stream.rules = (struct tf_journal_rules){.is_repeat = is_repeat, .ctx = &uploader};
    assert_int_equal(tf_export_new(&uploader.stream.rules, &uploader.stream.decoder), 0);
    assert_int_equal(tf_batch_init(&batch), 0);
    for (unsigned i = 1; i <= 4; i++) {
        append_entry(&body, 'a', i, "entry");
    }
    for (uint32_t i = 0; i < TF_BATCH_RECORDS_MAX - 2; i++) {
        assert_non_null(tf_batch_add_record(&batch, 0, TF_STREAM_OTHER));
    }
    first = decode(&uploader, &body, 0, &batch, &result);
    assert_true(first > 0 && result.is_full);
    undo(&uploader.stream); /* as if it had been too large: all comes again */
    assert_int_equal(tf_batch_reset(&batch), 0);
    tf_export_restart(uploader.stream.decoder, tf_slice(NULL, 0));
    for (uint32_t i = 0; i < TF_BATCH_RECORDS_MAX - 2; i++) {
        assert_non_null(tf_batch_add_record(&batch, 0, TF_STREAM_OTHER));
    }
    assert_int_equal(decode(&uploader, &body, 0, &batch, &result), first);
    assert_int_equal(result.repeats, 0);
    position(&uploader.stream, &deltas); /* behind 2: the third was asked for, and did not fit */
    assert_true(has(&uploader.taken, 0xaa, 2) && !has(&uploader.taken, 0xaa, 3));
    assert_int_equal(tf_batch_reset(&batch), 0);
    assert_int_equal(decode(&uploader, &body, (size_t)first, &batch, &result),
                     (int64_t)body.size - first);
    assert_int_equal(batch.record_count, 2);
    position(&uploader.stream, &deltas);
    assert_true(has(&uploader.taken, 0xaa, 4) && !has(&uploader.taken, 0xaa, 5));
    assert_int_equal(tf_batch_reset(&batch), 0);
    tf_export_restart(uploader.stream.decoder, tf_slice(NULL, 0));
    assert_int_equal(decode(&uploader, &body, 0, &batch, &result), (int64_t)body.size);
    assert_int_equal(result.repeats, 4);
    assert_int_equal(batch.record_count, 0);
    tf_export_free(uploader.stream.decoder);
    tf_batch_fini(&batch);
    tf_buf_fini(&uploader.key);
    tf_buf_fini(&deltas);
    tf_buf_fini(&body);
}

/* ---- world ---------------------------------------------------------------------------------- */

struct client {
    struct tf_link *link;
    bool open, closed;
    char text[4096]; /* what came, ends in NUL */
    size_t size;
};

static struct world {
    uv_loop_t loop;
    uv_timer_t deadline;
    bool late, stopped, is_running;
    char folder[64];
    struct tf_config config;
    struct tf_plugin_config input, filters[2], output;
    struct tf_journald_options options;
    struct tf_redact_options redact;
    struct tf_journald_allow allow;
    struct tf_pipeline *pipeline;
    struct client clients[8];
} world;

static struct {
    struct tls_fixture files;
    struct tls_cert ca, server_cert, node_cert;
    struct tf_tls_options server;
    struct tf_tls *node;
} tls;

/* ---- the loop ------------------------------------------------------------------------------- */

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

static bool is_accepted(const void *ctx)
{
    return strstr(((const struct client *)ctx)->text, "\r\n\r\nOK.\n") != NULL;
}

static bool has_four(const void *ctx)
{
    return count_records(ctx) >= 4;
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

    assert(client->size + size < sizeof client->text);
    memcpy(client->text + client->size, data, size);
    client->size += size;
    return 0;
}

static void on_client_closed(void *ctx, int status, const char *reason)
{
    (void)status;
    (void)reason;
    ((struct client *)ctx)->closed = true;
    ((struct client *)ctx)->link = NULL;
}

static struct upload *upload_of_world(void)
{
    return ((struct tf_journald *)world.pipeline->inputs[0].self)->own;
}

static struct client *connect_node(void)
{
    struct client *client = world.clients;
    struct tf_link_events events = {
        .on_open = on_client_open, .on_data = on_client_data, .on_closed = on_client_closed};
    char text[TF_HTTP_PEER_MAX + 1];
    struct sockaddr_in to;

    while (client->open) {
        client++;
    }
    assert_true(client < world.clients + TF_COUNT(world.clients));
    events.ctx = client;
    assert_int_equal(
        uv_ip4_addr("127.0.0.1", (int)tf_http_bound(upload_of_world()->http, text), &to), 0);
    assert_int_equal(tf_link_connect(&world.loop, tls.node, (struct sockaddr *)&to, "localhost",
                                     5000, &events, &client->link),
                     0);
    assert_true(run_until(is_open, client, DEADLINE_MS));
    assert_false(client->closed);
    return client;
}

/* Sends the first bytes of a post of body. */
static void begin_sending(struct client *client, const struct tf_buf *body, size_t bytes)
{
    struct tf_buf head;
    struct tf_slice parts[2];

    assert_non_null(client->link);
    tf_buf_init(&head, 1024);
    assert_int_equal(tf_buf_printf(&head,
                                   "POST /upload HTTP/1.1\r\nHost: x\r\nContent-Type: %s\r\n"
                                   "Content-Length: %zu\r\n\r\n",
                                   CONTENT_TYPE, body->size),
                     0);
    parts[0] = tf_buf_slice(&head);
    parts[1] = tf_slice(body->data, bytes);
    assert_int_equal(tf_link_write(client->link, parts, 2), 0);
    tf_buf_fini(&head);
}

static void make_body(struct tf_buf *body, unsigned first, unsigned count)
{
    tf_buf_init(body, 1 << 20);
    for (unsigned i = first; i < first + count; i++) {
        append_entry(body, 'a', i, "entry");
    }
}

static void store(struct client *client, const struct tf_buf *body)
{
    client->size = 0;
    memset(client->text, 0, sizeof client->text);
    begin_sending(client, body, body->size);
    assert_true(run_until(is_accepted, client, DEADLINE_MS));
}

/* ---- set up --------------------------------------------------------------------------------- */

static int set_up_all(void **state)
{
    struct tf_tls_options options;
    struct tf_error err;

    (void)state;
    (void)signal(SIGPIPE, SIG_IGN);
    tf_log_configure(TF_LOG_ERROR, TF_LOG_LOGFMT);
    tf_error_init(&err);
    tls_fixture_init(&tls.files);
    tls.ca = tls_ca_make("ca");
    tls.server_cert = tls_cert_make(&(struct tls_cert_options){
        .name = "server", .san = "DNS:localhost", .usage = "serverAuth", .issuer = &tls.ca});
    tls.node_cert = tls_cert_make(&(struct tls_cert_options){
        .name = "node", .san = "URI:" NODE, .usage = "clientAuth", .issuer = &tls.ca});
    tls_fixture_options(&tls.files, "server", &tls.ca, &tls.server_cert, &tls.server);
    tls_fixture_options(&tls.files, "node", &tls.ca, &tls.node_cert, &options);
    assert_int_equal(tf_tls_client_new(&options, NULL, &tls.node, &err), 0);
    tf_error_fini(&err);
    return 0;
}

static int tear_down_all(void **state)
{
    (void)state;
    tf_tls_unref(tls.node);
    tls_cert_free(&tls.ca);
    tls_cert_free(&tls.server_cert);
    tls_cert_free(&tls.node_cert);
    tls_fixture_fini(&tls.files);
    return 0;
}

static int set_up(void **state)
{
    static struct tf_text all = {.text = "**"}, journald = {.text = "journald"};

    (void)state;
    memset(&world, 0, sizeof world);
    (void)snprintf(world.folder, sizeof world.folder, "/tmp/taffrail-upload-XXXXXX");
    assert_non_null(mkdtemp(world.folder));
    world.options.mode = TF_JOURNALD_UPLOAD;
    world.options.listen.text = "127.0.0.1:0";
    world.options.start_at.text = "boot";
    world.options.tls = tls.server;
    world.options.has_tls = true;
    world.allow.identity.text = "spiffe://example.com/node/*";
    world.options.allow = (struct tf_tables){.items = &world.allow, .count = 1};
    world.input = (struct tf_plugin_config){.kind = &tf_input_journald,
                                            .name = "journald",
                                            .tag = "journald",
                                            .options = &world.options};
    world.filters[0] = (struct tf_plugin_config){
        .kind = &waiting_filter, .name = "waiting", .match = {.items = &journald, .count = 1}};
    world.filters[1] = (struct tf_plugin_config){.kind = &tf_filter_redact,
                                                 .name = "redact",
                                                 .match = {.items = &all, .count = 1},
                                                 .options = &world.redact};
    world.output = (struct tf_plugin_config){
        .kind = &fake_output, .name = "out", .match = {.items = &all, .count = 1}};
    world.config.inputs = (struct tf_plugin_list){.items = &world.input, .count = 1};
    world.config.filters = (struct tf_plugin_list){.items = world.filters, .count = 2};
    world.config.outputs = (struct tf_plugin_list){.items = &world.output, .count = 1};
    world.config.agent.host.text = "receiver";
    world.config.agent.stop_timeout_ms = 3000;
    world.config.spool.path.text = world.folder;
    world.config.spool.max_size_bytes = 1 << 30;
    world.config.spool.sync = (struct tf_sync_option){.mode = TF_SYNC_INTERVAL, .interval_ms = 5};
    world.config.spool.segment_size_bytes = 64 << 20;
    return 0;
}

static void start(void)
{
    struct tf_error err;

    tf_error_init(&err);
    assert_int_equal(uv_loop_init(&world.loop), 0);
    assert_int_equal(uv_timer_init(&world.loop, &world.deadline), 0);
    assert_int_equal(tf_pipeline_new(&world.loop, &world.config, &world.pipeline, &err), 0);
    assert_int_equal(tf_pipeline_start(world.pipeline, &err), 0);
    tf_error_fini(&err);
    uv_update_time(&world.loop); /* a start may take seconds here */
    world.stopped = false;
    world.is_running = true;
}

static void on_stopped(void *ctx)
{
    (void)ctx;
    world.stopped = true;
}

static bool has_stopped(const void *ctx)
{
    (void)ctx;
    for (size_t i = 0; i < TF_COUNT(world.clients); i++) {
        if (world.clients[i].link != NULL) {
            return false;
        }
    }
    return world.stopped;
}

/* Stops the agent, and proves that everything is closed. */
static void stop(void)
{
    tf_pipeline_stop(world.pipeline, on_stopped, NULL);
    for (size_t i = 0; i < TF_COUNT(world.clients); i++) {
        if (world.clients[i].link != NULL) {
            tf_link_close(world.clients[i].link, "the test ends");
        }
    }
    assert_true(run_until(has_stopped, NULL, DEADLINE_MS));
    tf_pipeline_free(world.pipeline);
    uv_close((uv_handle_t *)&world.deadline, NULL);
    (void)uv_run(&world.loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&world.loop), 0);
    world.is_running = false;
    memset(world.clients, 0, sizeof world.clients);
}

static int tear_down(void **state)
{
    char command[288];

    (void)state;
    mend_all();
    if (world.is_running) {
        stop();
    }
    forget_records();
    (void)snprintf(command, sizeof command, "rm -rf %s %s.key", world.folder, world.folder);
    assert_int_equal(system(command), 0); /* NOLINT: a fixed command on our own folder */
    return 0;
}

/* ---- posts ---------------------------------------------------------------------------------- */

static void a_post_is_answered_when_it_is_durable(void **state)
{
    struct client *client;
    struct tf_buf body;

    (void)state;
    make_body(&body, 1, 4);
    start();
    client = connect_node();
    (void)run_until(never, NULL, 20); /* the start's own frames are synced */
    atomic_store(&hold_syncs, true);
    begin_sending(client, &body, body.size);
    (void)run_until(never, NULL, 200);
    assert_int_equal(client->size, 0);
    atomic_store(&hold_syncs, false);
    assert_true(run_until(is_accepted, client, DEADLINE_MS));
    assert_non_null(strstr(client->text, "HTTP/1.1 202 "));
    assert_int_equal(count_records("\"identity\":\"" NODE "\""), 4);
    assert_int_equal(count_records("\"host\":\"far\""), 4);
    store(client, &body); /* once more, and again after a start */
    stop();
    start();
    store(connect_node(), &body);
    (void)run_until(never, NULL, 20);
    assert_int_equal(count_records("entry "), 4);
    tf_buf_fini(&body);
}

static void a_failed_sync_cuts_the_post_and_nothing_is_lost_or_doubled(void **state)
{
    struct client *client;
    struct tf_buf first, second;

    (void)state;
    make_body(&first, 1, 2);
    make_body(&second, 3, 2);
    start();
    client = connect_node();
    store(client, &first);
    (void)run_until(never, NULL, 20);
    atomic_store(&fail_syncs, 1);
    client->size = 0;
    memset(client->text, 0, sizeof client->text);
    begin_sending(client, &second, second.size);
    assert_true(run_until(is_gone, client, DEADLINE_MS));
    assert_int_equal(client->size, 0);
    store(connect_node(), &second);
    (void)run_until(has_four, "entry ", DEADLINE_MS);
    (void)run_until(never, NULL, 20);
    assert_int_equal(count_records("entry "), 4);
    tf_buf_fini(&first);
    tf_buf_fini(&second);
}

static void a_newer_post_takes_over_while_a_job_runs(void **state)
{
    struct client *older, *newer;
    struct tf_buf body;

    (void)state;
    make_body(&body, 1, 4);
    start();
    older = connect_node();
    newer = connect_node();
    atomic_store(&hold_filter, true);
    begin_sending(older, &body, body.size / 4 * 3); /* two whole entries, and a part of one */
    (void)run_until(never, NULL, 100);
    begin_sending(newer, &body, body.size);
    assert_true(run_until(is_gone, older, DEADLINE_MS));
    (void)run_until(never, NULL, 50);
    assert_int_equal(newer->size, 0);
    atomic_store(&hold_filter, false);
    assert_true(run_until(is_accepted, newer, DEADLINE_MS));
    assert_true(run_until(has_four, "entry ", DEADLINE_MS));
    (void)run_until(never, NULL, 20);
    assert_int_equal(older->size, 0);
    for (unsigned i = 1; i <= 4; i++) {
        char text[32];

        (void)snprintf(text, sizeof text, "\"entry %u\"", i);
        assert_int_equal(count_records(text), 1);
    }
    tf_buf_fini(&body);
}

static void a_stop_while_posts_wait_ends(void **state)
{
    struct tf_buf body;

    (void)state;
    make_body(&body, 1, 4);
    start();
    begin_sending(connect_node(), &body, body.size / 2);
    atomic_store(&hold_syncs, true);
    (void)run_until(never, NULL, 50);
    begin_sending(connect_node(), &body, body.size);
    (void)run_until(never, NULL, 50);
    atomic_store(&hold_syncs, false);
    stop();
    start();
    store(connect_node(), &body);
    (void)run_until(has_four, "entry ", DEADLINE_MS);
    assert_int_equal(count_records("entry "), 4);
    tf_buf_fini(&body);
}

static void set_seen(const char *key, int64_t days_ago)
{
    struct tf_uploaded uploaded = {.seen_s = tf_now_ns() / TF_S_IN_NS - days_ago * 86400};
    uint8_t bytes[TF_UPLOADED_BYTES_MAX];
    struct tf_buf deltas;

    tf_buf_init(&deltas, 4096);
    add(&uploaded, 1, 1);
    tf_delta_append(&deltas, TF_DELTA_SET, tf_slice_text(key),
                    tf_slice(bytes, tf_uploaded_write(&uploaded, bytes)));
    assert_int_equal(tf_pipeline_deltas(world.pipeline, NULL, &deltas), 0);
    tf_buf_fini(&deltas);
}

static bool is_known(const char *key)
{
    struct tf_slice value;

    return tf_state_get(tf_pipeline_spool(world.pipeline), tf_slice_text(key), &value);
}

static bool is_forgotten(const void *ctx)
{
    return !is_known(ctx);
}

static void identities_unseen_for_30_days_are_forgotten(void **state)
{
    (void)state;
    start();
    set_seen("journal/journald/upload/old", 31);
    set_seen("journal/journald/upload/young", 29);
    set_seen("journal/another/upload/old", 31);
    stop();
    start();
    assert_true(run_until(is_forgotten, "journal/journald/upload/old", DEADLINE_MS));
    assert_true(is_known("journal/journald/upload/young"));
    assert_true(is_known("journal/another/upload/old"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cursors_are_read_and_others_are_none),
        cmocka_unit_test(numbers_only_rise_and_the_oldest_id_makes_room),
        cmocka_unit_test(values_survive_and_damaged_ones_are_none),
        cmocka_unit_test(what_did_not_fit_is_not_taken),
        cmocka_unit_test_setup_teardown(a_post_is_answered_when_it_is_durable, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_failed_sync_cuts_the_post_and_nothing_is_lost_or_doubled,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_newer_post_takes_over_while_a_job_runs, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_stop_while_posts_wait_ends, set_up, tear_down),
        cmocka_unit_test_setup_teardown(identities_unseen_for_30_days_are_forgotten, set_up,
                                        tear_down),
    };

    return cmocka_run_group_tests(tests, set_up_all, tear_down_all);
}
