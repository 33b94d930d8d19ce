/*
 * test_output_forward.c - what the forward output promises: everything in the spool is delivered,
 * in order, to a peer that proved who it is, over refusals, silence, cuts and lies.
 *
 * The collector is one in this process, over real TLS; what each of its connections does is a
 * script. getaddrinfo is defined here, before libc's, so that names mean what a test says.
 */
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <openssl/evp.h>
#include <openssl/sha.h>

#include "../../outputs/forward/internal.h"

#include "tls_fixture.h"

#include "taffrail/decode.h"
#include "taffrail/event.h"
#include "taffrail/log.h"

#define DEADLINE_MS     60000u
#define MESSAGES_MAX    1024u
#define CONNECTIONS_MAX 32u
#define TEXT_MAX        32u
#define BUFFER_MAX      (32u << 20)

/* ---- names ---------------------------------------------------------------------------------- */

static struct addrinfo *named(const char *ip, const char *service, struct addrinfo *next)
{
    struct addrinfo *item = calloc(1, sizeof *item);
    struct sockaddr_in *address = calloc(1, sizeof *address);

    if (item == NULL || address == NULL) {
        abort();
    }
    (void)uv_ip4_addr(ip, (int)strtol(service, NULL, 10), address);
    item->ai_family = AF_INET;
    item->ai_addr = (struct sockaddr *)address;
    item->ai_addrlen = sizeof *address;
    item->ai_next = next;
    return item;
}

/* two.test: nobody listens at the first of its addresses. slow.test: it takes a while. */
int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints,
                struct addrinfo **out)
{
    (void)hints;
    if (strcmp(name, "two.test") == 0) {
        *out = named("127.0.0.2", service, named("127.0.0.1", service, NULL));
        return 0;
    }
    if (strcmp(name, "slow.test") == 0) {
        (void)usleep(300000);
    }
    return EAI_NONAME;
}

void freeaddrinfo(struct addrinfo *list)
{
    while (list != NULL) {
        struct addrinfo *next = list->ai_next;

        free(list->ai_addr);
        free(list);
        list = next;
    }
}

/* ---- the collector -------------------------------------------------------------------------- */

enum act {
    ACT_ACK,     /* at once */
    ACT_SILENT,  /* take, never ack */
    ACT_REVERSE, /* acks of each four, newest first */
    ACT_ANSWER,  /* ack the first, then say `bytes` */
    ACT_LIE,     /* ack the first, then 16 acks of what was never sent */
    ACT_CUT,     /* ack, and reset after `size` bytes */
    ACT_LEAVE,   /* ack; close in good order when quiet_after messages were acked */
    ACT_LEAVE_AT_ONCE,
    ACT_RECEIPT, /* ack with a receipt, as the fixture's `lie` has it */
};

/* What is wrong with the receipts of ACT_RECEIPT. */
enum lie {
    LIE_NONE,
    LIE_LABEL,
    LIE_SHORT,
    LIE_TEXT, /* a str in place of a bin */
    LIE_NO_KEY,
    LIE_KEY, /* signed by another */
    LIE_SIGNATURE,
    LIE_IDENTITY,
    LIE_SPOOL,
    LIE_BEYOND, /* a frame that was never made */
    LIE_CHAIN,
};

struct script {
    enum act act;
    const char *bytes;
    size_t size; /* of bytes; of ACT_CUT: where; of ACT_LEAVE: after so many messages */
};

struct message {
    uint32_t connection;
    char chunk[TF_CHUNK_BYTES + 1], text[TEXT_MAX];
    uint64_t seq, prev, gap_from, gap_to;
    uint8_t spool_id[TF_SPOOL_ID_BYTES], chain[TF_CHAIN_BYTES];
};

struct fixture;
struct peer {
    struct fixture *f;
    struct tf_link *link;
    struct script script;
    uint32_t number, messages, held_count;
    struct tf_msgpack_scan scan;
    struct tf_buf in;
    size_t taken;
    char held[4][TF_CHUNK_BYTES + 1];
};

struct collector {
    uv_tcp_t listener;
    struct tf_tls *tls;
    struct script scripts[CONNECTIONS_MAX]; /* connections past them ack */
    uint32_t script_count;
    struct peer *peers[CONNECTIONS_MAX];
    uint32_t accepted, opened, alive;
    struct message *messages;
    uint32_t message_count;
    uint64_t bytes;
    char identity[TF_IDENTITY_MAX + 1];
    bool mute; /* take connections and do not shake hands */
    uv_tcp_t muted[CONNECTIONS_MAX];
    uint32_t muted_count;
    uint16_t port;
};

struct fixture {
    uv_loop_t loop;
    uv_timer_t deadline;
    uv_tcp_t nobody; /* bound, not listening */
    bool late;
    char root[64], path[80];
    struct tls_fixture tls;
    struct tls_cert ca, other_ca, certs[2];
    struct tf_tls_options server_tls, client_tls;
    char borrowed[5][64]; /* paths, of a sender */
    uint32_t borrowed_count;
    struct collector collector;
    struct tf_spool_options spool_options;
    struct tf_spool *spool;
    const char *names[16];
    size_t name_count;
    struct tf_text all_tags;
    struct tf_texts match;
    uint32_t dones, closes;
    struct tf_forward_options options;
    struct tf_text host_items[4];
    char hosts[4][64];
    void *output;
    struct tf_feed *feed;
    uint64_t acked;
    int log_fd, stderr_fd;
    EVP_PKEY *receipt_pkey;
    enum lie lie;
    uint64_t lie_seq; /* of LIE_BEYOND */
    uint32_t events, forks;
    char event[32], event_text[256];
    int received_fd; /* of a sender that will be killed: NAME TEXT a line, before the ack */
};

/* Set in such a sender: the folder of the test that will kill it, and of its certificates. */
static const char *sender_root, *sender_tls;

static void say(struct peer *peer, const void *bytes, size_t size)
{
    struct tf_slice part = tf_slice(bytes, size);

    (void)tf_link_write(peer->link, &part, 1); /* refused once it closes */
}

static void ack(struct peer *peer, const char *chunk)
{
    struct tf_buf answer;

    tf_buf_init(&answer, 256);
    tf_msgpack_map(&answer, 2);
    tf_msgpack_text(&answer, tf_slice_text("more")); /* unknown keys are passed over */
    tf_msgpack_array(&answer, 1);
    tf_msgpack_nil(&answer);
    tf_msgpack_text(&answer, tf_slice_text("ack"));
    tf_msgpack_text(&answer, tf_slice_text(chunk));
    say(peer, answer.data, answer.size);
    tf_buf_fini(&answer);
}

static void ack_reversed(struct peer *peer, const char *chunk)
{
    (void)snprintf(peer->held[peer->held_count++], sizeof peer->held[0], "%s", chunk);
    if (peer->held_count == 4) {
        while (peer->held_count > 0) {
            ack(peer, peer->held[--peer->held_count]);
        }
    }
}

static void sign_receipt(struct peer *peer, const struct message *message,
                         uint8_t bytes[TF_RECEIPT_BYTES], uint8_t key[TF_RECEIPT_KEY_BYTES])
{
    static const char identity[] = "spiffe://test/node/1";
    struct fixture *f = peer->f;
    enum lie lie = f->lie;
    struct tf_receipt receipt = {
        .seq = lie == LIE_BEYOND ? f->lie_seq : message->seq, .time_ns = tf_now_ns(), .counter = 1};
    uint8_t fingerprint[TF_RECEIPT_DIGEST_BYTES];
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    size_t size = TF_RECEIPT_KEY_BYTES;

    if (ctx == NULL || EVP_PKEY_get_raw_public_key(f->receipt_pkey, key, &size) != 1) {
        abort();
    }
    tf_receipt_fingerprint(key, fingerprint);
    memcpy(receipt.key_id, fingerprint, TF_RECEIPT_ID_BYTES);
    memcpy(receipt.spool_id, message->spool_id, TF_SPOOL_ID_BYTES);
    memcpy(receipt.chain, message->chain, TF_CHAIN_BYTES);
    (void)SHA256((const unsigned char *)identity, sizeof identity - 1, receipt.identity);
    receipt.spool_id[3] ^= lie == LIE_SPOOL;
    receipt.chain[31] ^= lie == LIE_CHAIN;
    receipt.identity[0] ^= lie == LIE_IDENTITY;
    tf_receipt_encode(&receipt, bytes);
    size = 64;
    if (EVP_DigestSignInit(ctx, NULL, NULL, NULL, f->receipt_pkey) != 1 ||
        EVP_DigestSign(ctx, bytes + TF_RECEIPT_SIGNED_BYTES, &size, bytes,
                       TF_RECEIPT_SIGNED_BYTES) != 1) {
        abort();
    }
    EVP_MD_CTX_free(ctx);
    bytes[0] ^= lie == LIE_LABEL;
    bytes[TF_RECEIPT_BYTES - 1] ^= lie == LIE_SIGNATURE;
    key[7] ^= lie == LIE_KEY;
}

static void ack_with_receipt(struct peer *peer, const struct message *message)
{
    uint8_t bytes[TF_RECEIPT_BYTES], key[TF_RECEIPT_KEY_BYTES];
    enum lie lie = peer->f->lie;
    struct tf_slice receipt = tf_slice(bytes, lie == LIE_SHORT ? 191 : sizeof bytes);
    struct tf_buf answer;

    sign_receipt(peer, message, bytes, key);
    tf_buf_init(&answer, 1024);
    tf_msgpack_map(&answer, lie == LIE_NO_KEY ? 2 : 3);
    tf_msgpack_text(&answer, tf_slice_text("receipt"));
    if (lie == LIE_TEXT) {
        tf_msgpack_text(&answer, tf_slice_text("a receipt"));
    } else {
        tf_msgpack_bytes(&answer, receipt);
    }
    tf_msgpack_text(&answer, tf_slice_text("ack"));
    tf_msgpack_text(&answer, tf_slice_text(message->chunk));
    if (lie != LIE_NO_KEY) {
        tf_msgpack_text(&answer, tf_slice_text("key"));
        tf_msgpack_bytes(&answer, tf_slice(key, sizeof key));
    }
    say(peer, answer.data, answer.size);
    tf_buf_fini(&answer);
}

static void answer(struct peer *peer, const struct message *message)
{
    const struct script *script = &peer->script;

    switch (script->act) {
    case ACT_SILENT:
    case ACT_LEAVE_AT_ONCE:
        return;
    case ACT_REVERSE:
        ack_reversed(peer, message->chunk);
        return;
    case ACT_ANSWER:
        if (peer->messages == 1) {
            ack(peer, message->chunk);
            say(peer, script->bytes, script->size);
        }
        return;
    case ACT_LIE:
        for (unsigned i = 0; peer->messages == 1 && i < 16; i++) {
            char chunk[TF_CHUNK_BYTES + 1];

            (void)snprintf(chunk, sizeof chunk, "%024u", i);
            ack(peer, i == 3 ? message->chunk : chunk);
        }
        if (peer->messages == 1) {
            ack(peer, message->chunk); /* the second time */
        }
        return;
    case ACT_RECEIPT:
        ack_with_receipt(peer, message);
        return;
    case ACT_ACK:
    case ACT_CUT:
        ack(peer, message->chunk);
        return;
    case ACT_LEAVE:
        ack(peer, message->chunk);
        if (peer->messages == script->size) {
            tf_link_close(peer->link, "leaving");
        }
        return;
    }
}

static void read_event(struct tf_slice bytes, const struct tf_message_head *head,
                       struct message *out)
{
    struct tf_batch batch;

    if (tf_batch_init(&batch) != 0 ||
        tf_message_decode(bytes, head, "dns:test", false, NULL, 1, &batch) != 0 ||
        batch.record_count == 0) {
        abort();
    }
    for (uint32_t i = 0; i < batch.field_count; i++) {
        const struct tf_field *field = &batch.fields[i];

        if (field->type == TF_VALUE_TEXT &&
            tf_slice_equal(tf_batch_slice(&batch, field->key_at, field->key_size),
                           tf_slice_text("log"))) {
            (void)snprintf(out->text, sizeof out->text, "%.*s",
                           (int)(field->value.text.size < 20 ? field->value.text.size : 20),
                           batch.text.data + field->value.text.at);
        }
    }
    tf_batch_fini(&batch);
}

static void take_message(struct peer *peer, struct tf_slice bytes)
{
    struct collector *collector = &peer->f->collector;
    struct message *message = &collector->messages[collector->message_count];
    struct tf_message_head head;

    if (collector->message_count == MESSAGES_MAX || tf_message_head(bytes, &head) != 0 ||
        !head.has_taffrail || head.chunk.size != TF_CHUNK_BYTES ||
        !tf_spool_is_lineage(peer->f->spool, head.spool_id)) {
        abort();
    }
    *message = (struct message){.connection = peer->number,
                                .seq = head.seq,
                                .prev = head.prev,
                                .gap_from = head.gap_from,
                                .gap_to = head.gap_to};
    memcpy(message->chunk, head.chunk.data, head.chunk.size);
    memcpy(message->chain, head.chain, TF_CHAIN_BYTES);
    memcpy(message->spool_id, head.spool_id, TF_SPOOL_ID_BYTES);
    read_event(bytes, &head, message);
    collector->message_count++;
    peer->messages++;
    if (peer->f->received_fd > 0) {
        (void)dprintf(peer->f->received_fd, "%s %s\n", message->chunk, message->text);
    }
    answer(peer, message);
}

static int on_peer_data(void *ctx, const char *data, size_t size)
{
    struct peer *peer = ctx;
    size_t left = size, used = 0;
    int64_t message;

    if (peer->script.act == ACT_CUT && size > peer->script.size - peer->taken) {
        left = peer->script.size - peer->taken;
    }
    peer->taken += left;
    peer->f->collector.bytes += size;
    if (tf_buf_append(&peer->in, data, left) < 0) {
        abort();
    }
    for (;;) {
        struct tf_slice rest = tf_slice(peer->in.data + used, peer->in.size - used);

        message = tf_msgpack_size(rest, &peer->scan);
        if (message <= 0) {
            break;
        }
        take_message(peer, tf_slice(rest.data, (size_t)message));
        used += (size_t)message;
        peer->scan = (struct tf_msgpack_scan){0};
    }
    if (message < 0) {
        abort();
    }
    tf_buf_consume(&peer->in, used);
    return left < size ? -ECONNRESET : 0;
}

static void on_peer_open(void *ctx, const char *identity)
{
    struct peer *peer = ctx;

    peer->f->collector.opened++;
    (void)snprintf(peer->f->collector.identity, sizeof peer->f->collector.identity, "%s", identity);
    if (peer->script.act == ACT_LEAVE_AT_ONCE) {
        tf_link_close(peer->link, "leaving");
    }
}

static void on_peer_drained(void *ctx)
{
    (void)ctx;
}

static void on_peer_closed(void *ctx, int status, const char *reason)
{
    struct peer *peer = ctx;

    (void)status;
    (void)reason;
    peer->f->collector.peers[peer->number] = NULL;
    peer->f->collector.alive--;
    tf_buf_fini(&peer->in);
    free(peer);
}

static void on_connection(uv_stream_t *listener, int status)
{
    struct fixture *f = listener->data;
    struct collector *collector = &f->collector;
    struct tf_link_events events = {.on_open = on_peer_open,
                                    .on_data = on_peer_data,
                                    .on_drained = on_peer_drained,
                                    .on_closed = on_peer_closed};
    struct peer *peer;

    if (status != 0 || collector->accepted == CONNECTIONS_MAX) {
        abort();
    }
    if (collector->mute) {
        uv_tcp_t *muted = &collector->muted[collector->muted_count++];

        if (uv_tcp_init(&f->loop, muted) != 0 || uv_accept(listener, (uv_stream_t *)muted) != 0) {
            abort();
        }
        return;
    }
    peer = calloc(1, sizeof *peer);
    if (peer == NULL) {
        abort();
    }
    peer->f = f;
    peer->number = collector->accepted++;
    if (peer->number < collector->script_count) {
        peer->script = collector->scripts[peer->number];
    }
    tf_buf_init(&peer->in, BUFFER_MAX);
    events.ctx = peer;
    if (tf_link_accept(listener, collector->tls, 2000, &events, &peer->link) != 0) {
        abort();
    }
    collector->peers[peer->number] = peer;
    collector->alive++;
}

static void open_collector(struct fixture *f, const struct tf_tls_options *tls)
{
    struct collector *collector = &f->collector;
    struct sockaddr_in address;
    int size = sizeof address;
    struct tf_error err;

    tf_error_init(&err);
    if (tf_tls_server_new(tls, NULL, &collector->tls, &err) != 0) {
        fail_msg("%s", tf_error_first(&err));
    }
    tf_error_fini(&err);
    assert_int_equal(uv_tcp_init(&f->loop, &collector->listener), 0);
    collector->listener.data = f;
    assert_int_equal(uv_ip4_addr("127.0.0.1", 0, &address), 0);
    assert_int_equal(uv_tcp_bind(&collector->listener, (struct sockaddr *)&address, 0), 0);
    assert_int_equal(uv_listen((uv_stream_t *)&collector->listener, 16, on_connection), 0);
    assert_int_equal(uv_tcp_getsockname(&collector->listener, (struct sockaddr *)&address, &size),
                     0);
    collector->port = ntohs(address.sin_port);
}

static void set_scripts(struct fixture *f, const struct script *scripts, uint32_t count)
{
    assert_true(count <= CONNECTIONS_MAX);
    memcpy(f->collector.scripts, scripts, count * sizeof *scripts);
    f->collector.script_count = count;
}

/* ---- fixture: loop, spool, output ----------------------------------------------------------- */

static void on_deadline(uv_timer_t *timer)
{
    ((struct fixture *)timer->data)->late = true;
}

/* Turns the loop until done says so, or the deadline. */
static void run_until(struct fixture *f, bool (*done)(const struct fixture *f))
{
    f->late = false;
    assert_int_equal(uv_timer_start(&f->deadline, on_deadline, DEADLINE_MS, 0), 0);
    while (!done(f) && !f->late) {
        (void)uv_run(&f->loop, UV_RUN_ONCE);
    }
    (void)uv_timer_stop(&f->deadline);
    assert_true(done(f));
}

static void run_for(struct fixture *f, uint64_t ms)
{
    f->late = false;
    assert_int_equal(uv_timer_start(&f->deadline, on_deadline, ms, 0), 0);
    while (!f->late) {
        (void)uv_run(&f->loop, UV_RUN_ONCE);
    }
}

static void count_done(void *ctx, int status, uint64_t seq)
{
    (void)seq;
    ((struct fixture *)ctx)->dones += status == 0;
}

static void count_close(void *ctx)
{
    ((struct fixture *)ctx)->closes++;
}

static bool all_durable(const struct fixture *f)
{
    return tf_spool_unsynced_bytes(f->spool) == 0;
}

static uint32_t chance(uint64_t *seed)
{
    *seed = *seed * UINT64_C(6364136223846793005) + 1442695040888963407u;
    return (uint32_t)(*seed >> 33);
}

/* One frame with one event, {log: "event-N" and filler}. The filler does not compress. */
static void append(struct fixture *f, uint32_t number, size_t filler_bytes)
{
    static const uint8_t time[] = {0xd7, 0, 0x65, 0, 0, 1, 0, 0, 0, 2};
    struct tf_frame_draft draft = {.type = TF_FRAME_DATA,
                                   .time_min_ns = 1,
                                   .time_max_ns = 2,
                                   .events = 1,
                                   .done = count_done,
                                   .ctx = f};
    struct tf_buf log;
    uint64_t seed = number;

    (void)snprintf(draft.tag, sizeof draft.tag, "test.%u", number % 3);
    tf_buf_init(&log, TF_DRAFT_PAYLOAD_MAX);
    (void)tf_buf_printf(&log, "event-%u ", number);
    assert_int_equal(tf_buf_reserve(&log, filler_bytes), 0);
    for (size_t i = 0; i < filler_bytes; i++) {
        log.data[log.size++] = (char)('0' + chance(&seed) % 64);
    }
    tf_buf_init(&draft.payload, TF_DRAFT_PAYLOAD_MAX);
    tf_buf_init(&draft.deltas, TF_DRAFT_DELTAS_MAX);
    tf_delta_append(&draft.deltas, TF_DELTA_SET, tf_slice_text("number"),
                    tf_slice(&number, sizeof number));
    tf_msgpack_array(&draft.payload, 2);
    (void)tf_buf_append(&draft.payload, time, sizeof time);
    tf_msgpack_map(&draft.payload, 1);
    tf_msgpack_text(&draft.payload, tf_slice_text("log"));
    tf_msgpack_text(&draft.payload, tf_buf_slice(&log));
    tf_buf_fini(&log);
    assert_int_equal(tf_spool_append(f->spool, &draft), 0);
}

static void append_many(struct fixture *f, uint32_t from, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        append(f, from + i, 0);
    }
    tf_spool_sync(f->spool);
    run_until(f, all_durable);
}

static void on_ready(void *ctx)
{
    tf_output_forward.wake(((struct fixture *)ctx)->output);
}

static void on_event(void *ctx, const char *event, const char *text)
{
    struct fixture *f = ctx;

    f->events++;
    f->forks += strcmp(event, "fork") == 0;
    (void)snprintf(f->event, sizeof f->event, "%s", event);
    (void)snprintf(f->event_text, sizeof f->event_text, "%s", text);
}

static void open_spool(struct fixture *f)
{
    struct tf_spool_callbacks callbacks = {.ctx = f, .on_event = on_event};
    struct tf_error err;

    tf_error_init(&err);
    if (tf_spool_open(&f->loop, &f->spool_options, f->names, f->name_count, &callbacks, &f->spool,
                      &err) != 0) {
        fail_msg("%s", tf_error_first(&err));
    }
    tf_error_fini(&err);
}

static void set_host(struct fixture *f, uint32_t i, const char *format, unsigned port)
{
    (void)snprintf(f->hosts[i], sizeof f->hosts[i], format, port);
    f->host_items[i] = (struct tf_text){.text = f->hosts[i], .at = {"t.yaml", 17, i + 1}};
    f->options.hosts.count = f->options.hosts.count > i ? f->options.hosts.count : i + 1;
}

static int try_open(struct fixture *f, const char *name, struct tf_error *err)
{
    struct tf_output_args args = {.name = name, .options = &f->options, .loop = &f->loop};

    return tf_output_forward.open(&args, &f->output, err);
}

static void open_output(struct fixture *f, const char *name)
{
    struct tf_feed_options options = {.name = name,
                                      .match = &f->match,
                                      .window = tf_output_forward.window,
                                      .unsaved_max = tf_output_forward.unsaved_max,
                                      .on_ready = on_ready,
                                      .ctx = f};
    struct tf_error err;

    tf_error_init(&err);
    if (try_open(f, name, &err) != 0) {
        fail_msg("%s", tf_error_first(&err));
    }
    assert_int_equal(tf_feed_open(f->spool, &options, &f->feed), 0);
    assert_int_equal(tf_output_forward.start(f->output, f->feed, &err), 0);
    tf_error_fini(&err);
}

static bool output_closed(const struct fixture *f)
{
    return f->closes == 1;
}

/* As the pipeline does it: from then on nothing wakes the output. */
static void on_output_closed(void *ctx)
{
    struct fixture *f = ctx;

    f->output = NULL;
    tf_feed_close(f->feed);
    f->feed = NULL;
    f->closes++;
}

static void close_output(struct fixture *f)
{
    f->closes = 0;
    tf_output_forward.close(f->output, on_output_closed, f);
    run_until(f, output_closed);
}

static void close_spool(struct fixture *f)
{
    f->closes = 0;
    tf_spool_close(f->spool, count_close, f);
    run_until(f, output_closed);
    f->spool = NULL;
}

static struct tf_feed_status books(const struct fixture *f)
{
    struct tf_feed_status status;

    tf_feed_status(f->feed, &status);
    return status;
}

static struct tf_output_status status_of(const struct fixture *f)
{
    struct tf_output_status status;

    tf_output_forward.status(f->output, &status);
    return status;
}

static bool all_acked(const struct fixture *f)
{
    return books(f).pending == 0;
}

static bool is_up(const struct fixture *f)
{
    return status_of(f).up;
}

/* The collector proves its address and two.test, the output a URI. */
static void make_certificates(struct fixture *f)
{
    tls_fixture_init(&f->tls);
    f->ca = tls_ca_make("CA");
    f->other_ca = tls_ca_make("other CA");
    f->certs[0] = tls_cert_make(&(struct tls_cert_options){
        .san = "IP:127.0.0.1,DNS:two.test", .usage = "serverAuth", .issuer = &f->ca});
    f->certs[1] = tls_cert_make(&(struct tls_cert_options){
        .san = "URI:spiffe://test/node/1", .usage = "clientAuth", .issuer = &f->ca});
    tls_fixture_options(&f->tls, "server", &f->ca, &f->certs[0], &f->server_tls);
    tls_fixture_options(&f->tls, "client", &f->ca, &f->certs[1], &f->client_tls);
}

static const char *borrowed_path(struct fixture *f, const char *name)
{
    char *path = f->borrowed[f->borrowed_count++];

    (void)snprintf(path, sizeof f->borrowed[0], "%s/%s", sender_tls, name);
    return path;
}

static void borrow_certificates(struct fixture *f)
{
    f->server_tls = (struct tf_tls_options){.ca.text = borrowed_path(f, "server-ca.pem"),
                                            .cert.text = borrowed_path(f, "server.pem"),
                                            .key.text = borrowed_path(f, "server.key"),
                                            .min_version = 0};
    f->client_tls = f->server_tls;
    f->client_tls.cert.text = borrowed_path(f, "client.pem");
    f->client_tls.key.text = borrowed_path(f, "client.key");
}

static bool nobody_is_connected(const struct fixture *f)
{
    return f->collector.alive == 0;
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);

    if (f == NULL) {
        return -1;
    }
    (void)snprintf(f->root, sizeof f->root, "%s",
                   sender_root != NULL ? sender_root : "/tmp/test_forward.XXXXXX");
    f->collector.messages = calloc(MESSAGES_MAX, sizeof *f->collector.messages);
    if (f->collector.messages == NULL || (sender_root == NULL && mkdtemp(f->root) == NULL) ||
        uv_loop_init(&f->loop) != 0) {
        return -1;
    }
    (void)uv_timer_init(&f->loop, &f->deadline);
    f->deadline.data = f;
    f->log_fd = -1;
    (void)snprintf(f->path, sizeof f->path, "%s/spool", f->root);
    f->spool_options = (struct tf_spool_options){.path = {.text = f->path},
                                                 .max_size_bytes = UINT64_C(1) << 30,
                                                 .sync = {TF_SYNC_INTERVAL, 200},
                                                 .segment_size_bytes = 64u << 20};
    f->all_tags.text = "**";
    f->match = (struct tf_texts){.items = &f->all_tags, .count = 1};
    f->names[0] = "forward";
    f->name_count = 1;
    tf_log_configure(TF_LOG_ERROR + 1, TF_LOG_LOGFMT);
    if (sender_tls != NULL) {
        borrow_certificates(f);
    } else {
        make_certificates(f);
    }
    f->options = (struct tf_forward_options){.hosts = {.items = f->host_items},
                                             .ack_timeout_ms = 10000,
                                             .connect_timeout_ms = 10000,
                                             .max_age_ms = 3600000};
    f->options.tls = f->client_tls;
    open_collector(f, &f->server_tls);
    set_host(f, 0, "127.0.0.1:%u", f->collector.port);
    open_spool(f);
    *state = f;
    return 0;
}

static void close_collector(struct fixture *f)
{
    struct collector *collector = &f->collector;

    for (uint32_t i = 0; i < CONNECTIONS_MAX; i++) {
        if (collector->peers[i] != NULL) {
            tf_link_close(collector->peers[i]->link, "test ends");
        }
    }
    for (uint32_t i = 0; i < collector->muted_count; i++) {
        uv_close((uv_handle_t *)&collector->muted[i], NULL);
    }
    uv_close((uv_handle_t *)&collector->listener, NULL);
    tf_tls_unref(collector->tls);
}

static void stop_log(struct fixture *f)
{
    if (f->log_fd >= 0) {
        (void)dup2(f->stderr_fd, STDERR_FILENO);
        (void)close(f->stderr_fd);
        (void)close(f->log_fd);
        f->log_fd = -1;
        tf_log_configure(TF_LOG_ERROR + 1, TF_LOG_LOGFMT);
    }
}

static void remove_files(struct fixture *f)
{
    char command[128];

    tls_cert_free(&f->ca);
    tls_cert_free(&f->other_ca);
    tls_cert_free(&f->certs[0]);
    tls_cert_free(&f->certs[1]);
    tls_fixture_fini(&f->tls);
    (void)snprintf(command, sizeof command, "rm -rf '%s'", f->root);
    if (system(command) != 0) { /* NOLINT: a test's own folder */
        print_message("left: %s\n", f->root);
    }
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    int rc;

    stop_log(f);
    if (f->output != NULL) {
        close_output(f);
    }
    if (f->spool != NULL) {
        close_spool(f);
    }
    close_collector(f);
    EVP_PKEY_free(f->receipt_pkey);
    uv_close((uv_handle_t *)&f->deadline, NULL);
    (void)uv_run(&f->loop, UV_RUN_DEFAULT);
    rc = uv_loop_close(&f->loop);
    if (sender_root == NULL) {
        remove_files(f);
    }
    free(f->collector.messages);
    free(f);
    return rc;
}

/* Another output of this spool: the log tells of each one anew. */
static void rename_output(struct fixture *f, const char *name)
{
    close_spool(f);
    f->names[0] = name;
    open_spool(f);
}

/* From here on the agent's log goes to memory. */
static void begin_log(struct fixture *f)
{
    f->log_fd = memfd_create("log", MFD_CLOEXEC);
    f->stderr_fd = dup(STDERR_FILENO);
    assert_true(f->log_fd >= 0 && f->stderr_fd >= 0);
    assert_true(dup2(f->log_fd, STDERR_FILENO) >= 0);
    tf_log_configure(TF_LOG_INFO, TF_LOG_LOGFMT);
}

/* Whether one line of the log holds both. */
static bool log_has(const struct fixture *f, const char *one, const char *two)
{
    static char text[65536];
    ssize_t size = pread(f->log_fd, text, sizeof text - 1, 0);
    char *rest = text;

    text[size < 0 ? 0 : size] = '\0';
    for (char *line = strsep(&rest, "\n"); line != NULL; line = strsep(&rest, "\n")) {
        if (strstr(line, one) != NULL && strstr(line, two) != NULL) {
            return true;
        }
    }
    return false;
}

static void assert_log(const struct fixture *f, const char *one, const char *two)
{
    if (!log_has(f, one, two)) {
        char text[65536];
        ssize_t size = pread(f->log_fd, text, sizeof text, 0);

        print_message("%.*s", size < 0 ? 0 : (int)size, text);
        fail_msg("no line of the log with \"%s\" and \"%s\"", one, two);
    }
}

/* Every event from 0 on arrived, in order; repeats have one name, and come on a later connection.
 * Returns how many were repeated. */
static uint32_t check_messages(const struct fixture *f, uint32_t events)
{
    const struct collector *collector = &f->collector;
    uint32_t next = 0, repeats = 0;

    for (uint32_t i = 0; i < collector->message_count; i++) {
        const struct message *message = &collector->messages[i];
        unsigned long number = strtoul(message->text + strlen("event-"), NULL, 10);
        const struct message *earlier = NULL;

        assert_memory_equal(message->text, "event-", strlen("event-"));
        for (uint32_t k = 0; k < i; k++) {
            const struct message *other = &collector->messages[k];

            if (other->seq == message->seq) {
                earlier = other;
            }
            assert_true(other->connection != message->connection || other->seq < message->seq);
        }
        if (earlier != NULL) {
            assert_string_equal(earlier->chunk, message->chunk);
            assert_string_equal(earlier->text, message->text);
            assert_memory_equal(earlier->chain, message->chain, TF_CHAIN_BYTES);
            assert_int_equal(earlier->prev, message->prev);
            assert_true(earlier->connection < message->connection);
            repeats++;
            continue;
        }
        assert_int_equal(number, next);
        next++;
    }
    assert_int_equal(next, events);
    assert_int_equal(books(f).acked, events);
    return repeats;
}

/* ---- tests: pure parts ---------------------------------------------------------------------- */

static int64_t parse(const char *bytes, size_t size, struct tf_answer *out)
{
    return tf_answer_parse(tf_slice(bytes, size), out);
}

#define PARSE(text, out) parse(text, sizeof(text) - 1, out)

static void answers_are_read(void **state)
{
    static const char full[] = "\x83\xa1x\x92\xc0\x81\x01\xcb"
                               "12345678\xa3"
                               "ack\xd9\x02id\xc4\x01k\xc3tail";
    struct tf_answer answer;
    size_t whole = sizeof full - 1 - strlen("tail");

    (void)state;
    for (size_t size = 0; size < whole; size++) {
        assert_int_equal(parse(full, size, &answer), 0);
    }
    assert_int_equal(PARSE(full, &answer), whole);
    assert_int_equal(answer.kind, TF_ANSWER_ACK);
    assert_true(tf_slice_equal(answer.chunk, tf_slice_text("id")));
    assert_int_equal(PARSE("\x80", &answer), 1);
    assert_int_equal(answer.kind, TF_ANSWER_REFUSAL);
    assert_int_equal(PARSE("\xde\x00\x01\xa5"
                           "error\xda\x00\x02no",
                           &answer),
                     14);
    assert_int_equal(answer.kind, TF_ANSWER_REFUSAL);
    assert_true(PARSE("\x93\xa4HELO", &answer) > 0);
    assert_int_equal(answer.kind, TF_ANSWER_HELLO);
    assert_int_equal(PARSE("\x82\xa3"
                           "ack\xa1"
                           "1\xa3"
                           "ack\xa1"
                           "2",
                           &answer),
                     13);
    assert_true(tf_slice_equal(answer.chunk, tf_slice_text("1")));
    assert_null(answer.receipt.data);
}

static void evidence_is_handed_on_unjudged(void **state)
{
    struct tf_answer answer;

    (void)state;
    assert_int_equal(PARSE("\x83\xa7receipt\xc4\x02rr\xa3key\xc5\x00\x01k\xa3"
                           "ack\xa1x",
                           &answer),
                     27);
    assert_int_equal(answer.kind, TF_ANSWER_ACK);
    assert_true(tf_slice_equal(answer.receipt, tf_slice_text("rr")));
    assert_true(tf_slice_equal(answer.key, tf_slice_text("k")));
    /* the first counts; what is no bin is an empty one; without `ack` it is a refusal */
    assert_int_equal(PARSE("\x83\xa7receipt\x91\xc0\xa7receipt\xc4\x01r\xa3key\xa1s", &answer), 28);
    assert_int_equal(answer.kind, TF_ANSWER_REFUSAL);
    assert_non_null(answer.receipt.data);
    assert_int_equal(answer.receipt.size, 0);
    assert_int_equal(answer.key.size, 0);
    assert_int_equal(PARSE("\x81\xa7receipt\x91\x91\x91\x91\xc0", &answer), -EPROTO);
    assert_int_equal(PARSE("\x81\xa7receipt\xc5\x10\x01", &answer), -EMSGSIZE);
    assert_int_equal(PARSE("\x81\xa7receipt\xc4\xc0", &answer), 0);
}

static void answers_are_bounded(void **state)
{
    static char large[5120];
    struct tf_answer answer;

    (void)state;
    assert_int_equal(PARSE("\xc1", &answer), -EPROTO);
    assert_int_equal(PARSE("\xc0", &answer), -EPROTO);
    assert_int_equal(PARSE("HTTP/1.1 400", &answer), -EPROTO);
    assert_int_equal(PARSE("\x90", &answer), -EPROTO);
    assert_int_equal(PARSE("\x91\xa4OLEH", &answer), -EPROTO);
    assert_int_equal(PARSE("\x81\xa3"
                           "ack\x01",
                           &answer),
                     -EPROTO);
    assert_int_equal(PARSE("\x81\xc1\x01", &answer), -EPROTO);
    assert_int_equal(PARSE("\x81\xa1x\x91\x91\x91\x01", &answer), 7); /* four deep */
    assert_int_equal(PARSE("\x81\xa1x\x91\x91\x91\x91\x01", &answer), -EPROTO);
    assert_int_equal(PARSE("\x81\x91\x81\x91\x80", &answer), -EPROTO); /* in a key as well */
    assert_int_equal(PARSE("\xdf\xff\xff\xff\xff", &answer), -EMSGSIZE);
    assert_int_equal(PARSE("\x81\xa1x\xc6\xff\xff\xff\xff", &answer), -EMSGSIZE);
    assert_int_equal(PARSE("\x81\xa1x\xdb\x00\x00\x10\x01", &answer), -EMSGSIZE);
    memcpy(large, "\x81\xa1x\xc5\x0f\xff", 6); /* 6 bytes and 4095: too many together */
    assert_int_equal(parse(large, 4095, &answer), 0);
    assert_int_equal(parse(large, 4096, &answer), -EMSGSIZE);
    assert_int_equal(parse(large, sizeof large, &answer), -EMSGSIZE);
    memcpy(large, "\x81\xa1x\xc5\x0f\xfa", 6); /* 4096 together */
    assert_int_equal(parse(large, 4095, &answer), 0);
    assert_int_equal(parse(large, sizeof large, &answer), 4096);
}

static void assert_host(const char *text, const char *name, unsigned port, const char *printed)
{
    struct tf_text item = {.text = text};
    struct tf_forward_host host;
    char again[TF_FORWARD_HOST_TEXT_BYTES];
    struct tf_error err;

    tf_error_init(&err);
    assert_int_equal(tf_forward_host_parse(&item, &host, &err), 0);
    assert_string_equal(host.name, name);
    assert_int_equal(host.port, port);
    tf_forward_host_print(&host, again);
    assert_string_equal(again, printed);
    tf_error_fini(&err);
}

static void assert_no_host(const char *text, const char *reason)
{
    struct tf_text item = {.text = text, .at = {"t.yaml", 17, 15}};
    struct tf_forward_host host;
    struct tf_error err;

    tf_error_init(&err);
    assert_int_equal(tf_forward_host_parse(&item, &host, &err), -EINVAL);
    if (strstr(tf_error_first(&err), reason) == NULL) {
        fail_msg("%s: %s", text, tf_error_first(&err));
    }
    assert_int_equal(err.findings[0].line, 17);
    tf_error_fini(&err);
}

static void hosts_are_read_and_refused_with_the_mend(void **state)
{
    char label[80], name[320];

    (void)state;
    assert_host("logs.example.com", "logs.example.com", 24224, "logs.example.com:24224");
    assert_host("logs_a.example.com:1", "logs_a.example.com", 1, "logs_a.example.com:1");
    assert_host("192.0.2.10:65535", "192.0.2.10", 65535, "192.0.2.10:65535");
    assert_host("[2001:db8::10]", "2001:db8::10", 24224, "[2001:db8::10]:24224");
    assert_host("[::1]:5", "::1", 5, "[::1]:5");
    assert_no_host("a:224224", "hosts: port 224224 is not in 1..65535; forward uses 24224");
    assert_no_host("a:0", "port 0 is not");
    assert_no_host("a:", "port  is not");
    assert_no_host("a:99999999999999999999", "is not in 1..65535");
    assert_no_host("a:-1", "port -1 is not");
    assert_no_host("srv:_forward._tcp.example.com", "SRV names is not in this release");
    assert_no_host("2001:db8::10", "in brackets, [2001:db8::10]:24224");
    assert_no_host("[2001:db8::10", "no sound bracket");
    assert_no_host("[::1]x", "no sound bracket");
    assert_no_host("[logs]:1", "is not an IPv6 address");
    assert_no_host("192.0.2.1000", "neither a name nor an address");
    assert_no_host("192.0.2", "neither a name nor an address");
    assert_no_host("https://logs.example.com/x", "is a URL");
    assert_no_host("logs.example.com/x", "is not a host name");
    assert_no_host("logs..example.com", "is not a host name");
    assert_no_host("logs.example.com.", "is not a host name");
    assert_no_host("", "0 characters");
    memset(label, 'a', 64);
    label[64] = '\0';
    assert_no_host(label, "is not a host name");
    memset(name, 'a', 300);
    name[300] = '\0';
    assert_no_host(name, "300 characters");
}

static void our_own_collector_reads_a_message(void **state)
{
    static const size_t sizes[] = {200, 255, 256, 65535, 65536};
    struct tf_frame frame = {.seq = UINT64_MAX,
                             .spool_id = "0123456789abcde",
                             .prev = 7,
                             .tag = "test",
                             .events = 2,
                             .gap_from = 5,
                             .gap_to = UINT64_MAX,
                             .chain = "the chain of this frame, 32 byte"};
    struct tf_message_head head;
    struct tf_slice parts[3];
    struct tf_buf around, whole;
    char chunk[TF_CHUNK_BYTES];

    (void)state;
    tf_buf_init(&around, TF_AROUND_BYTES_MAX);
    tf_buf_init(&whole, 1u << 20);
    for (unsigned i = 0; i < TF_COUNT(sizes); i++) {
        char *payload = calloc(1, sizes[i]); /* any bytes: the head does not look at them */

        assert_non_null(payload);
        frame.payload = tf_slice(payload, sizes[i]);
        frame.is_gap_span = i == 0;
        frame.replayed = i == 1 ? "case-42" : NULL;
        tf_buf_clear(&whole);
        assert_int_equal(tf_forward_message(&frame, &around, parts, chunk), 0);
        for (size_t k = 0; k < 3; k++) {
            assert_int_equal(tf_buf_append(&whole, parts[k].data, parts[k].size), 0);
        }
        free(payload);
        assert_int_equal(tf_message_head(tf_buf_slice(&whole), &head), 0);
        assert_true(head.has_taffrail);
        assert_true(tf_slice_equal(head.chunk, tf_slice(chunk, sizeof chunk)));
        assert_true(tf_slice_equal(head.tag, tf_slice_text("test")));
        assert_true(head.seq == frame.seq && head.prev == frame.prev);
        assert_memory_equal(head.chain, frame.chain, TF_CHAIN_BYTES);
        assert_memory_equal(head.spool_id, frame.spool_id, sizeof frame.spool_id);
        assert_true(head.gap_from == (frame.is_gap_span ? 5u : 0));
        assert_true(tf_slice_equal(head.replayed, tf_slice_text(i == 1 ? "case-42" : "")));
    }
    tf_buf_fini(&around);
    for (size_t limit = 0; limit < 128; limit += 8) { /* as when memory is short */
        tf_buf_init(&around, limit);
        assert_int_equal(tf_forward_message(&frame, &around, parts, chunk), -ENOMEM);
        tf_buf_fini(&around);
    }
    tf_buf_fini(&whole);
}

/* ---- tests: receipts ------------------------------------------------------------------------ */

static void sign_from_now_on(struct fixture *f, enum lie lie)
{
    static const struct script receipts[] = {{.act = ACT_RECEIPT}, {.act = ACT_RECEIPT}};

    set_scripts(f, receipts, TF_COUNT(receipts));
    f->lie = lie;
    if (f->receipt_pkey == NULL) {
        f->receipt_pkey = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
        assert_non_null(f->receipt_pkey);
    }
}

static uint64_t newest_receipt(const struct fixture *f)
{
    return ((const struct forward *)f->output)->witness.newest_seq;
}

static void a_sound_receipt_is_kept(void **state)
{
    struct fixture *f = *state;

    sign_from_now_on(f, LIE_NONE);
    append_many(f, 0, 40);
    open_output(f, "forward");
    run_until(f, all_acked);
    assert_int_equal(newest_receipt(f), f->collector.messages[39].seq);
    assert_int_equal(f->events, 0);
    close_output(f);
}

static void a_receipt_for_a_replay_is_passed_over(void **state)
{
    static const struct tf_feed_ops ops = {0};
    uint8_t bytes[TF_RECEIPT_BYTES] = {0};
    struct forward self = {.feed = tf_feed_new(&ops, NULL)}; /* of no spool */
    struct tf_answer answer = {.kind = TF_ANSWER_ACK,
                               .receipt = tf_slice(bytes, sizeof bytes),
                               .key = tf_slice(bytes, TF_RECEIPT_KEY_BYTES)};

    (void)state;
    assert_non_null(self.feed);
    tf_forward_witness_answer(&self, &answer);
    assert_int_equal(self.witness.newest_seq, 0);
    tf_feed_close(self.feed);
}

static void try_lie(struct fixture *f, enum lie lie, const char *word)
{
    f->events = 0;
    sign_from_now_on(f, lie);
    f->collector.accepted = 0;
    f->collector.message_count = 0;
    open_output(f, "forward");
    run_until(f, all_acked); /* the acks count */
    if (newest_receipt(f) != 0 || f->events != 1 || strcmp(f->event, "receipt-bad") != 0 ||
        strstr(f->event_text, word) == NULL) {
        fail_msg("lie %d: %u events, %s: %s", (int)lie, f->events, f->event, f->event_text);
    }
    close_output(f);
    run_until(f, nobody_is_connected);
}

/* Once a minute, however many come: each lie is told for three frames. */
static void a_bad_receipt_is_told_and_stops_nothing(void **state)
{
    static const struct {
        enum lie lie;
        const char *word;
    } lies[] = {
        {LIE_LABEL, "no receipt"},
        {LIE_SHORT, "no receipt"},
        {LIE_TEXT, "no receipt"},
        {LIE_NO_KEY, "no key"},
        {LIE_KEY, "signature"},
        {LIE_SIGNATURE, "signature"},
        {LIE_IDENTITY, "another identity"},
        {LIE_SPOOL, "another spool"},
    };
    struct fixture *f = *state;

    for (uint32_t i = 0; i < TF_COUNT(lies); i++) {
        append_many(f, i * 3, 3);
        try_lie(f, lies[i].lie, lies[i].word);
    }
    assert_int_equal(f->forks, 0);
}

static void expect_fork(struct fixture *f, enum lie lie, uint64_t seq)
{
    f->forks = 0;
    f->lie_seq = seq;
    sign_from_now_on(f, lie);
    f->collector.accepted = 0;
    append_many(f, 0, 1);
    open_output(f, "forward");
    run_until(f, all_acked);
    assert_true(f->forks > 0);
    assert_int_equal(f->events, f->forks);
    close_output(f);
    run_until(f, nobody_is_connected);
    f->events = 0;
}

static void a_receipt_of_a_frame_that_never_was_is_a_fork(void **state)
{
    struct fixture *f = *state;
    uint64_t first, second;

    append_many(f, 0, 1);
    first = tf_spool_newest_seq(f->spool);
    close_spool(f);
    open_spool(f);
    second = tf_spool_newest_seq(f->spool);
    assert_true(TF_SEQ_RUN(second) == TF_SEQ_RUN(first) + 1);
    assert_true(tf_spool_may_have(f->spool, first) && tf_spool_may_have(f->spool, second));
    assert_false(tf_spool_may_have(f->spool, first + 100)); /* run 1 has no such frame */
    assert_false(tf_spool_may_have(f->spool, second + 1));
    expect_fork(f, LIE_BEYOND, first + 100);
}

static void a_receipt_beyond_the_newest_frame_is_a_fork(void **state)
{
    struct fixture *f = *state;

    expect_fork(f, LIE_BEYOND, UINT64_C(90) << 40);
}

static void a_receipt_with_another_chain_is_a_fork(void **state)
{
    struct fixture *f = *state;

    expect_fork(f, LIE_CHAIN, 0);
}

/* ---- tests: delivery ------------------------------------------------------------------------ */

static void every_frame_arrives_once_and_in_order(void **state)
{
    struct fixture *f = *state;
    struct tf_output_status status;

    append_many(f, 0, 150);
    open_output(f, "forward");
    run_until(f, all_acked);
    append_many(f, 150, 150); /* while it is connected */
    run_until(f, all_acked);
    assert_int_equal(check_messages(f, 300), 0);
    for (uint32_t i = 0; i < 300; i++) {
        assert_int_equal(f->collector.messages[i].prev,
                         i == 0 ? 0 : f->collector.messages[i - 1].seq);
    }
    assert_string_equal(f->collector.identity, "spiffe://test/node/1");
    status = status_of(f);
    assert_true(status.up);
    assert_true(status.connects == 1 && status.retries == 0);
    assert_string_equal(status.peer, f->hosts[0]);
    assert_true(strlen(status.identity) > 0);
}

static void large_frames_wait_for_the_link(void **state)
{
    struct fixture *f = *state;

    for (uint32_t i = 0; i < 24; i++) {
        append(f, i, 700000);
    }
    tf_spool_sync(f->spool);
    run_until(f, all_durable);
    open_output(f, "forward");
    run_until(f, all_acked);
    assert_int_equal(check_messages(f, 24), 0);
    assert_true(f->collector.bytes > 3 * TF_LINK_HIGH_BYTES);
}

static void acks_may_come_in_any_order(void **state)
{
    struct fixture *f = *state;
    const struct script reversed = {.act = ACT_REVERSE};

    set_scripts(f, &reversed, 1);
    append_many(f, 0, 100);
    open_output(f, "forward");
    run_until(f, all_acked);
    assert_int_equal(check_messages(f, 100), 0);
}

static void what_is_not_acked_goes_again_under_its_name(void **state)
{
    struct fixture *f = *state;
    const struct script silent = {.act = ACT_SILENT};

    set_scripts(f, &silent, 1);
    f->options.ack_timeout_ms = 100;
    append_many(f, 0, 40);
    begin_log(f);
    open_output(f, "forward");
    run_until(f, all_acked);
    assert_log(f, "event=output-down", "no ack of frame 1/");
    assert_log(f, "records wait in the spool", "in 100 ms; retry in ");
    assert_int_equal(check_messages(f, 40), TF_FORWARD_WINDOW);
    assert_int_equal(status_of(f).retries, TF_FORWARD_WINDOW);
    assert_int_equal(status_of(f).connects, 2);
}

static void one_frame_in_flight_is_enough_for_the_timeout(void **state)
{
    struct fixture *f = *state;
    const struct script silent = {.act = ACT_SILENT};

    set_scripts(f, &silent, 1);
    f->options.ack_timeout_ms = 50;
    open_output(f, "forward");
    run_until(f, is_up);
    append_many(f, 0, 1);
    run_until(f, all_acked);
    assert_int_equal(check_messages(f, 1), 1);
}

#define BYTES(text) .bytes = (text), .size = sizeof(text) - 1

/* Each kind through an output of its own, whose first output-down the log tells. */
static void answers_that_end_a_connection(void **state)
{
    static char large[5 * 1024] = "\x81\xa1x\xc5\x13\xf0";
    static const struct {
        const char *name, *reason;
        struct script script;
    } cases[] = {
        {"refusal", "the receiver refused a message", {.act = ACT_ANSWER, BYTES("\x80")}},
        {"reason",
         "the receiver refused a message",
         {.act = ACT_ANSWER,
          BYTES("\x81\xa5"
                "error\xa2no")}},
        {"garbage",
         "no ack of the forward protocol",
         {.act = ACT_ANSWER, BYTES("HTTP/1.1 400\r\n")}},
        {"nil", "no ack of the forward protocol", {.act = ACT_ANSWER, BYTES("\xc0")}},
        {"deep",
         "no ack of the forward protocol",
         {.act = ACT_ANSWER, BYTES("\x81\xa1x\x91\x91\x91\x91\x91\x91\x01")}},
        {"large", "more than 4096 bytes", {ACT_ANSWER, large, sizeof large}},
        {"helo", "wants a shared key", {.act = ACT_ANSWER, BYTES("\x92\xa4HELO\x80")}},
        {"lie", "16 acks for messages that were not sent", {.act = ACT_LIE}},
    };
    struct fixture *f = *state;

    close_spool(f);
    for (uint32_t i = 0; i < TF_COUNT(cases); i++) {
        f->names[i] = cases[i].name;
    }
    f->name_count = TF_COUNT(cases);
    open_spool(f);
    append_many(f, 0, 3);
    begin_log(f);
    for (uint32_t i = 0; i < TF_COUNT(cases); i++) {
        char subject[64];

        f->collector.message_count = f->collector.accepted = 0;
        set_scripts(f, &cases[i].script, 1);
        open_output(f, cases[i].name);
        run_until(f, all_acked);
        (void)snprintf(subject, sizeof subject, "output=%s ", cases[i].name);
        assert_log(f, subject, cases[i].reason);
        (void)check_messages(f, 3);
        assert_int_equal(status_of(f).connects, 2);
        close_output(f);
        run_until(f, nobody_is_connected);
    }
}

/* No script reaches this bound in a second, as each answer takes a frame that was sent. */
static void more_than_a_mebibyte_in_a_second_ends_a_connection(void **state)
{
    struct fixture *f = *state;
    struct forward self = {.loop = &f->loop, .state = FORWARD_DRAINING, .sent_count = 1};
    struct tf_forward_options options = {0};
    size_t size = (1u << 20) + 1;
    char *data = calloc(1, size);

    assert_non_null(data);
    self.options = &options;
    assert_int_equal(uv_timer_init(&f->loop, &self.timer), 0);
    assert_int_equal(tf_forward_link_events.on_data(&self, data, size), -EPROTO);
    assert_string_equal(self.why, "the receiver sent more than 1 MiB in a second");
    assert_int_equal(self.state, FORWARD_DROPPING);
    assert_int_equal(tf_forward_link_events.on_data(&self, data, size), 0); /* no more looked at */
    uv_close((uv_handle_t *)&self.timer, NULL);
    (void)uv_run(&f->loop, UV_RUN_NOWAIT);
    free(data);
}

static void cut_anywhere_every_frame_is_acked_in_the_end(void **state)
{
    struct fixture *f = *state;
    struct script cuts[6];
    const char *wanted = getenv("TAFFRAIL_SEED");
    uint64_t seed = wanted != NULL ? strtoull(wanted, NULL, 10) : uv_hrtime();

    print_message("seed: TAFFRAIL_SEED=%llu\n", (unsigned long long)seed);
    for (uint32_t i = 0; i < TF_COUNT(cuts); i++) {
        cuts[i] = (struct script){.act = ACT_CUT, .size = 1 + chance(&seed) % 8000};
    }
    set_scripts(f, cuts, TF_COUNT(cuts));
    append_many(f, 0, 200);
    open_output(f, "forward");
    run_until(f, all_acked);
    (void)check_messages(f, 200);
    assert_true(status_of(f).connects <= TF_COUNT(cuts) + 1);
}

static void reserve_port(struct fixture *f, uv_tcp_t *tcp, uint32_t host)
{
    struct sockaddr_in address;
    int size = sizeof address;

    assert_int_equal(uv_tcp_init(&f->loop, tcp), 0);
    assert_int_equal(uv_ip4_addr("127.0.0.1", 0, &address), 0);
    assert_int_equal(uv_tcp_bind(tcp, (struct sockaddr *)&address, 0), 0);
    assert_int_equal(uv_tcp_getsockname(tcp, (struct sockaddr *)&address, &size), 0);
    set_host(f, host, "127.0.0.1:%u", ntohs(address.sin_port));
}

static void the_next_host_takes_over(void **state)
{
    struct fixture *f = *state;
    char next[128];

    reserve_port(f, &f->nobody, 0);
    set_host(f, 1, "127.0.0.1:%u", f->collector.port);
    rename_output(f, "takes-over");
    append_many(f, 0, 20);
    begin_log(f);
    open_output(f, "takes-over");
    run_until(f, all_acked);
    assert_int_equal(check_messages(f, 20), 0);
    assert_string_equal(status_of(f).peer, f->hosts[1]);
    (void)snprintf(next, sizeof next, "connection refused; next is %s, records wait", f->hosts[1]);
    assert_log(f, "event=output-down", next);
    assert_log(f, "event=output-up", f->hosts[1]);
    uv_close((uv_handle_t *)&f->nobody, NULL);
}

static void names_are_looked_up_and_all_addresses_tried(void **state)
{
    struct fixture *f = *state;
    char peer[64];

    set_host(f, 0, "gone.test:%u", f->collector.port);
    set_host(f, 1, "two.test:%u", f->collector.port);
    rename_output(f, "looked-up");
    append_many(f, 0, 20);
    begin_log(f);
    open_output(f, "looked-up");
    run_until(f, all_acked);
    assert_int_equal(check_messages(f, 20), 0);
    (void)snprintf(peer, sizeof peer, "127.0.0.1:%u", f->collector.port);
    assert_string_equal(status_of(f).peer, peer);
    assert_log(f, "event=output-down", "resolve: ");
    assert_log(f, "next is two.test:", "peer=gone.test:");
}

static bool tried_twice(const struct fixture *f)
{
    return f->collector.accepted >= 2 && f->collector.alive == 0;
}

static void assert_nothing_was_sent(struct fixture *f, const char *reason)
{
    append_many(f, 0, 5);
    begin_log(f);
    open_output(f, f->names[0]);
    run_until(f, tried_twice);
    assert_int_equal(f->collector.bytes, 0);
    assert_int_equal(f->collector.opened, 0);
    assert_int_equal(status_of(f).connects, 0);
    assert_int_equal(books(f).in_flight, 0);
    assert_false(status_of(f).up);
    assert_string_equal(status_of(f).peer, "");
    assert_log(f, "event=output-down", reason);
    assert_log(f, "event=output-down", "records wait in the spool");
}

static void nothing_goes_to_a_peer_of_another_ca(void **state)
{
    struct fixture *f = *state;

    f->options.tls.ca.text = tls_fixture_write_certs(&f->tls, "other-ca.pem", &f->other_ca, 1);
    rename_output(f, "other-ca");
    assert_nothing_was_sent(f, "issued by");
}

static void nothing_goes_to_a_peer_of_another_name(void **state)
{
    struct fixture *f = *state;
    struct tf_text identity = {.text = "spiffe://test/collector"};

    f->options.tls.identity = (struct tf_texts){.items = &identity, .count = 1};
    rename_output(f, "other-name");
    assert_nothing_was_sent(f, "spiffe://test/collector");
    close_output(f); /* identity ends with this function */
}

static bool refused_twice(const struct fixture *f)
{
    return status_of(f).connects >= 2 && !status_of(f).up;
}

/* With TLS 1.3 it learns of this only by what it reads after the handshake. */
static void a_peer_that_refuses_us_is_told_of(void **state)
{
    struct fixture *f = *state;
    struct tls_cert stranger = tls_cert_make(&(struct tls_cert_options){
        .san = "URI:spiffe://test/node/2", .usage = "clientAuth", .issuer = &f->other_ca});

    f->options.tls.cert.text = tls_fixture_write_certs(&f->tls, "stranger.pem", &stranger, 1);
    f->options.tls.key.text = tls_fixture_write_key(&f->tls, "stranger.key", &stranger);
    tls_cert_free(&stranger);
    rename_output(f, "stranger");
    append_many(f, 0, 5);
    begin_log(f);
    open_output(f, "stranger");
    run_until(f, refused_twice);
    assert_int_equal(f->collector.opened, 0);
    assert_int_equal(f->collector.message_count, 0);
    assert_int_equal(books(f).pending, 5);
    assert_log(f, "event=output-down", "certificate");
}

static bool has_given_up(const struct fixture *f)
{
    return log_has(f, "event=output-down", "no answer in 50 ms");
}

static void a_handshake_that_hangs_is_given_up(void **state)
{
    struct fixture *f = *state;

    f->collector.mute = true;
    f->options.connect_timeout_ms = 50;
    rename_output(f, "mute");
    append_many(f, 0, 5);
    begin_log(f);
    open_output(f, "mute");
    run_until(f, has_given_up);
    f->collector.mute = false;
    f->options.connect_timeout_ms = 10000;
    run_until(f, all_acked);
    assert_int_equal(check_messages(f, 5), 0);
}

static void an_old_connection_is_drained_and_replaced(void **state)
{
    struct fixture *f = *state;

    f->options.max_age_ms = 60;
    rename_output(f, "max-age");
    begin_log(f);
    open_output(f, "max-age");
    for (uint32_t i = 0; i < 12; i++) {
        append_many(f, 5 * i, 5);
        run_for(f, 25);
    }
    run_until(f, all_acked);
    assert_int_equal(check_messages(f, 60), 0);
    assert_true(status_of(f).connects >= 3);
    assert_int_equal(status_of(f).retries, 0);
    assert_false(log_has(f, "output-down", ""));
}

static bool connected_three_times(const struct fixture *f)
{
    return status_of(f).connects >= 3 && f->collector.opened >= 3;
}

static void a_peer_that_leaves_in_good_order_is_called_again(void **state)
{
    struct fixture *f = *state;
    const struct script scripts[] = {{.act = ACT_LEAVE, .size = 3}, {.act = ACT_LEAVE_AT_ONCE}};

    set_scripts(f, scripts, TF_COUNT(scripts));
    rename_output(f, "leaves");
    append_many(f, 0, 3);
    begin_log(f);
    open_output(f, "leaves");
    run_until(f, connected_three_times);
    assert_log(f, "event=output-down", "closed by the other end; retry in ");
    append_many(f, 3, 1);
    run_until(f, all_acked);
    assert_int_equal(check_messages(f, 4), 0);
}

/* Flips a byte in the n-th data frame of the newest segment. */
static void rot(const struct fixture *f, unsigned n)
{
    static char bytes[1u << 20];
    char path[160];
    ssize_t size;
    int fd = -1;

    for (unsigned no = 9; fd < 0 && no > 0; no--) {
        (void)snprintf(path, sizeof path, "%s/%020u.seg", f->path, no);
        fd = open(path, O_RDWR | O_CLOEXEC);
    }
    assert_true(fd >= 0);
    size = pread(fd, bytes, sizeof bytes, 0);
    for (ssize_t at = 4096; at + 80 < size; at++) {
        if (memcmp(bytes + at, "TFRM\x01", 5) == 0 && n-- == 1) {
            bytes[at + 70] ^= 1;
            assert_int_equal(pwrite(fd, bytes + at + 70, 1, at + 70), 1);
            assert_int_equal(close(fd), 0);
            return;
        }
    }
    fail_msg("no such frame");
}

static void a_lost_frame_is_told_as_a_derived_gap(void **state)
{
    struct fixture *f = *state;
    const struct message *gap = &f->collector.messages[1];

    for (uint32_t i = 0; i < 3; i++) {
        append_many(f, i, 1); /* each synced, so that the next one's mark covers it */
    }
    close_spool(f);
    rot(f, 2);
    open_spool(f);
    open_output(f, "forward");
    run_until(f, all_acked);
    assert_int_equal(f->collector.message_count, 3);
    assert_memory_equal(f->collector.messages[0].text, "event-0", 7);
    assert_memory_equal(f->collector.messages[2].text, "event-2", 7);
    assert_true(gap->gap_from == gap->gap_to && gap->gap_to == gap->seq);
    assert_int_equal(TF_SEQ_N(gap->gap_from), TF_SEQ_N(f->collector.messages[0].seq) + 1);
    assert_int_equal(gap->prev, f->collector.messages[0].seq);
    assert_memory_equal(gap->text, "frame 1/", 8);
    assert_int_equal(f->collector.messages[2].prev, f->collector.messages[0].seq);
    assert_int_equal(books(f).expired, 1);
    assert_int_equal(books(f).acked, 2);
}

/* ---- tests: beginning and end --------------------------------------------------------------- */

static void assert_refused(struct fixture *f, const char *reason)
{
    struct tf_error err;
    bool found = false;

    tf_error_init(&err);
    assert_int_equal(try_open(f, "forward", &err), -EINVAL);
    for (size_t i = 0; i < err.count; i++) {
        found = found || strstr(err.findings[i].text, reason) != NULL;
    }
    if (!found) {
        fail_msg("%s: %s", reason, tf_error_first(&err));
    }
    tf_error_fini(&err);
    f->output = NULL;
}

static void a_wrong_configuration_is_refused(void **state)
{
    struct fixture *f = *state;
    struct tf_text many[TF_FORWARD_HOSTS_MAX + 1];
    struct tf_texts sound = f->options.hosts;

    set_host(f, 1, "srv:%u", 1);
    set_host(f, 2, "127.0.0.1:%u", f->collector.port);
    set_host(f, 3, "a:%u", 224224);
    assert_refused(f, "SRV names");
    assert_refused(f, "port 224224");
    assert_refused(f, "is listed twice");
    f->options.hosts = sound;
    for (size_t i = 0; i < TF_COUNT(many); i++) {
        many[i] = sound.items[0];
    }
    f->options.hosts = (struct tf_texts){.items = many, .count = TF_COUNT(many)};
    assert_refused(f, "17 are given, 1 to 16");
    f->options.hosts.count = 0;
    assert_refused(f, "0 are given, 1 to 16");
    f->options.hosts = sound;
    f->options.tls.cert.text = f->options.tls.key.text;
    assert_refused(f, "client.key");
}

static void the_kind_is_complete(void **state)
{
    const struct tf_output_kind *kind = &tf_output_forward;
    uint32_t count = 0;

    (void)state;
    assert_string_equal(kind->name, "forward");
    assert_true(kind->window >= 1 && kind->window <= 32 && kind->unsaved_max == 64);
    assert_non_null(kind->open);
    assert_non_null(kind->start);
    assert_non_null(kind->wake);
    assert_non_null(kind->close);
    assert_non_null(kind->status);
    assert_non_null(kind->probe);
    for (const struct tf_option *option = kind->options; option->name != NULL; option++) {
        assert_non_null(option->about);
        assert_true(option->offset < kind->options_bytes);
        count++;
    }
    assert_int_equal(count, 5);
}

/* ---- a probe -------------------------------------------------------------------------------- */

struct probed {
    struct tf_probe probes[2];
    char receivers[2][64];
    uint32_t count;
    bool done;
};

static struct probed probed;

static void on_probed(void *ctx, const struct tf_probe *probe)
{
    (void)ctx;
    assert_true(probed.count < TF_COUNT(probed.probes));
    probed.probes[probed.count] = *probe;
    (void)snprintf(probed.receivers[probed.count++], sizeof probed.receivers[0], "%s",
                   probe->receiver);
}

static void on_probe_done(void *ctx)
{
    (void)ctx;
    assert_false(probed.done);
    probed.done = true;
}

static bool probe_is_done(const struct fixture *f)
{
    (void)f;
    return probed.done;
}

static void on_probed_output_closed(void *ctx)
{
    struct fixture *f = ctx;

    f->output = NULL;
}

/* Opens the output, probes, closes it; `probed` has what came. */
static void probe(struct fixture *f)
{
    const struct tf_probe_events events = {
        .ctx = f, .on_probed = on_probed, .on_done = on_probe_done};
    struct tf_error err;

    tf_error_init(&err);
    probed = (struct probed){.count = 0};
    assert_int_equal(try_open(f, "probed", &err), 0);
    assert_int_equal(tf_output_forward.probe(f->output, &events), 0);
    assert_int_equal(probed.count, 0); /* not inside the call */
    run_until(f, probe_is_done);
    tf_output_forward.close(f->output, on_probed_output_closed, f);
    assert_null(f->output);
    tf_error_fini(&err);
    assert_int_equal(f->collector.bytes, 0);
}

/* Steps before failed are ok, those behind it are not reached. failed 7: all are ok. */
static const struct tf_probe *assert_steps(uint32_t i, uint32_t failed, const char *text)
{
    const struct tf_probe *found = &probed.probes[i];

    assert_true(i < probed.count);
    assert_int_equal(found->step_count, 7);
    for (uint32_t k = 0; k < found->step_count; k++) {
        enum tf_probe_state wanted = k < failed    ? TF_PROBE_OK
                                     : k == failed ? TF_PROBE_FAILED
                                                   : TF_PROBE_NOT_REACHED;

        if (found->steps[k].state != wanted) {
            fail_msg("%s: %d, not %d: %s", found->steps[k].name, found->steps[k].state, wanted,
                     found->steps[k].text);
        }
    }
    if (failed < found->step_count && strstr(found->steps[failed].text, text) == NULL) {
        fail_msg("\"%s\" does not tell \"%s\"", found->steps[failed].text, text);
    }
    assert_int_equal(found->mend[0] == '\0', failed == found->step_count);
    return found;
}

static void a_probe_goes_all_the_way_and_sends_nothing(void **state)
{
    struct fixture *f = *state;
    const struct tf_probe *found;
    char other[96];

    set_host(f, 0, "two.test:%u", f->collector.port);
    set_host(f, 1, "127.0.0.1:%u", f->collector.port);
    probe(f);
    assert_int_equal(probed.count, 2);
    found = assert_steps(0, 7, "");
    assert_string_equal(probed.receivers[0], f->hosts[0]);
    assert_int_equal(found->at.line, 17);
    assert_int_equal(found->at.column, 1);
    assert_string_equal(found->steps[0].text, "127.0.0.2, 127.0.0.1");
    (void)snprintf(other, sizeof other, "127.0.0.1 (127.0.0.2:%u: connection refused)",
                   f->collector.port);
    assert_string_equal(found->steps[1].text, other);
    assert_memory_equal(found->steps[2].text, "TLS 1.3, ", 9);
    assert_string_equal(found->steps[4].text, "dns:two.test");
    assert_memory_equal(found->steps[5].text, "spiffe://test/node/1, until 20", 30);
    found = assert_steps(1, 7, "");
    assert_int_equal(found->at.column, 2);
    assert_string_equal(found->steps[0].text, "127.0.0.1");
    assert_string_equal(found->steps[1].text, "127.0.0.1");
    assert_int_equal(f->collector.opened, 2);
}

static void a_probe_tells_the_address_that_came_furthest(void **state)
{
    struct fixture *f = *state;
    const struct tf_probe *found;
    char other[96];

    f->options.tls.ca.text = tls_fixture_write_certs(&f->tls, "other-ca.pem", &f->other_ca, 1);
    set_host(f, 0, "two.test:%u", f->collector.port);
    probe(f);
    found = assert_steps(0, 3, "issued by");
    (void)snprintf(other, sizeof other, "127.0.0.1 (127.0.0.2:%u: connection refused)",
                   f->collector.port);
    assert_string_equal(found->steps[1].text, other);
    assert_non_null(strstr(found->steps[3].about, "; chain of 1"));
    assert_non_null(strstr(found->mend, "/other-ca.pem, or find out why"));
}

static void a_probe_waits_for_a_name_for_so_long(void **state)
{
    struct fixture *f = *state;

    f->options.connect_timeout_ms = 50;
    set_host(f, 0, "gone.test:%u", f->collector.port);
    set_host(f, 1, "slow.test:%u", f->collector.port);
    probe(f);
    assert_steps(0, 0, "no such name");
    assert_steps(1, 0, "no answer of the resolver in 50 ms");
    assert_int_equal(f->collector.accepted, 0);
}

static void who_closes_at_once_has_refused_a_probe(void **state)
{
    struct fixture *f = *state;
    const struct script leave = {.act = ACT_LEAVE_AT_ONCE};

    set_scripts(f, &leave, 1);
    probe(f);
    assert_non_null(strstr(assert_steps(0, 5, "closed by the receiver right after the hello")->mend,
                           "allow have an entry for spiffe://test/node/1"));
}

static void who_never_answers_a_probe_is_given_up(void **state)
{
    struct fixture *f = *state;

    f->collector.mute = true;
    f->options.connect_timeout_ms = 50;
    probe(f);
    assert_steps(0, 2, "no answer in 50 ms");
}

static bool muted_one(const struct fixture *f)
{
    return f->collector.muted_count == 1;
}

static bool has_frames_in_flight(const struct fixture *f)
{
    return books(f).in_flight == 4 && f->collector.message_count == 4;
}

static void close_ends_it_in_every_state(void **state)
{
    struct fixture *f = *state;
    const struct script silent = {.act = ACT_SILENT};
    struct tf_error err;

    tf_error_init(&err);
    assert_int_equal(try_open(f, "forward", &err), 0); /* never started */
    tf_error_fini(&err);
    close_output(f);
    open_output(f, "forward"); /* waiting for its first turn */
    close_output(f);
    set_host(f, 0, "gone.test:%u", f->collector.port);
    open_output(f, "forward"); /* looking up, or just failed */
    (void)uv_run(&f->loop, UV_RUN_NOWAIT);
    close_output(f);
    open_output(f, "forward"); /* waiting after a failure */
    run_for(f, 20);
    close_output(f);
    set_host(f, 0, "127.0.0.1:%u", f->collector.port);
    f->collector.mute = true;
    open_output(f, "forward"); /* in the handshake */
    run_until(f, muted_one);
    close_output(f);
    f->collector.mute = false;
    set_scripts(f, &silent, 1);
    append_many(f, 0, 4);
    open_output(f, "forward"); /* with frames in flight */
    run_until(f, has_frames_in_flight);
    close_output(f);
    open_output(f, "forward");
    run_until(f, all_acked);
    assert_int_equal(check_messages(f, 4), 4);
}

#ifdef TF_TEST_HOOKS
/* ---- kills: this program again, as a sender that dies at a crash point ---------------------- */

/* Appends events up to target, delivers all. */
static int sender_main(uint32_t target)
{
    struct tf_slice value;
    struct fixture *f;
    void *state;
    char path[96];
    uint32_t next = 0;

    if (setup(&state) != 0) {
        return 1;
    }
    f = state;
    (void)snprintf(path, sizeof path, "%s/received", f->root);
    f->received_fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (tf_state_get(f->spool, tf_slice_text("number"), &value) && value.size == sizeof next) {
        memcpy(&next, value.data, sizeof next);
        next++;
    }
    append_many(f, next, target > next ? target - next : 0);
    open_output(f, "forward");
    run_until(f, all_acked);
    (void)close(f->received_fd);
    return teardown(&state);
}

/* True when it was killed. */
static bool run_sender(const struct fixture *f, const char *crash, uint32_t target)
{
    char number[16];
    int status = 0;
    pid_t pid = fork();

    (void)snprintf(number, sizeof number, "%u", target);
    if (pid == 0) {
        if (crash != NULL) {
            (void)setenv("TAFFRAIL_CRASH", crash, 1);
        }
        (void)execl("/proc/self/exe", "test_output_forward", "--sender", f->root, f->tls.folder,
                    number, (char *)NULL);
        _exit(9);
    }
    assert_true(pid > 0 && waitpid(pid, &status, 0) == pid);
    assert_true(WIFSIGNALED(status) ? WTERMSIG(status) == SIGKILL : WEXITSTATUS(status) == 0);
    return WIFSIGNALED(status);
}

/* Each event is there, in order, under one name. Returns how many came again. */
static uint32_t check_received(const struct fixture *f, uint32_t target)
{
    static char names[256][TF_CHUNK_BYTES + 1];
    char path[96], name[TF_CHUNK_BYTES + 1], text[TEXT_MAX];
    uint32_t count = 0, repeats = 0;
    FILE *file;

    (void)snprintf(path, sizeof path, "%s/received", f->root);
    file = fopen(path, "r");
    assert_non_null(file);
    while (fscanf(file, "%24s %31s", name, text) == 2) {
        unsigned number = 256;

        assert_int_equal(sscanf(text, "event-%u", &number), 1);
        assert_true(number < target && number < 256);
        if (number < count) {
            assert_string_equal(names[number], name);
            repeats++;
        } else {
            assert_int_equal(number, count++);
            (void)snprintf(names[number], sizeof names[number], "%s", name);
        }
    }
    (void)fclose(file);
    assert_int_equal(count, target);
    return repeats;
}

static void a_kill_loses_nothing_and_repeats_names_only(void **state)
{
    static const char *const crashes[] = {"ship.sent:1", "ship.sent:7", "ship.sent:30",
                                          "ack.received:1", "ack.received:9"};
    struct fixture *f = *state;
    uint32_t target = 0, kills = 0;

    close_spool(f);
    for (uint32_t i = 0; i < TF_COUNT(crashes); i++) {
        target += 40;
        kills += run_sender(f, crashes[i], target);
    }
    assert_int_equal(kills, TF_COUNT(crashes));
    assert_false(run_sender(f, NULL, target));
    assert_true(check_received(f, target) <= kills * TF_FORWARD_UNSAVED_MAX);
}
#endif

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_are_read),
        cmocka_unit_test(evidence_is_handed_on_unjudged),
        cmocka_unit_test(answers_are_bounded),
        cmocka_unit_test(hosts_are_read_and_refused_with_the_mend),
        cmocka_unit_test(our_own_collector_reads_a_message),
        cmocka_unit_test(the_kind_is_complete),
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        TEST(a_sound_receipt_is_kept),
        TEST(a_receipt_for_a_replay_is_passed_over),
        TEST(a_bad_receipt_is_told_and_stops_nothing),
        TEST(a_receipt_of_a_frame_that_never_was_is_a_fork),
        TEST(a_receipt_beyond_the_newest_frame_is_a_fork),
        TEST(a_receipt_with_another_chain_is_a_fork),
        TEST(every_frame_arrives_once_and_in_order),
        TEST(large_frames_wait_for_the_link),
        TEST(acks_may_come_in_any_order),
        TEST(what_is_not_acked_goes_again_under_its_name),
        TEST(one_frame_in_flight_is_enough_for_the_timeout),
        TEST(answers_that_end_a_connection),
        TEST(more_than_a_mebibyte_in_a_second_ends_a_connection),
        TEST(cut_anywhere_every_frame_is_acked_in_the_end),
        TEST(the_next_host_takes_over),
        TEST(names_are_looked_up_and_all_addresses_tried),
        TEST(nothing_goes_to_a_peer_of_another_ca),
        TEST(nothing_goes_to_a_peer_of_another_name),
        TEST(a_peer_that_refuses_us_is_told_of),
        TEST(a_handshake_that_hangs_is_given_up),
        TEST(an_old_connection_is_drained_and_replaced),
        TEST(a_peer_that_leaves_in_good_order_is_called_again),
        TEST(a_lost_frame_is_told_as_a_derived_gap),
        TEST(a_wrong_configuration_is_refused),
        TEST(a_probe_goes_all_the_way_and_sends_nothing),
        TEST(a_probe_tells_the_address_that_came_furthest),
        TEST(a_probe_waits_for_a_name_for_so_long),
        TEST(who_closes_at_once_has_refused_a_probe),
        TEST(who_never_answers_a_probe_is_given_up),
        TEST(close_ends_it_in_every_state),
#ifdef TF_TEST_HOOKS
        TEST(a_kill_loses_nothing_and_repeats_names_only),
#endif
    };

#ifdef TF_TEST_HOOKS
    if (argc == 5 && strcmp(argv[1], "--sender") == 0) {
        sender_root = argv[2];
        sender_tls = argv[3];
        return sender_main((uint32_t)strtoul(argv[4], NULL, 10));
    }
#endif
    (void)argc;
    (void)argv;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
