/*
 * test_tls.c - what the TLS room promises: both ends prove who they are or no byte passes, every
 * refusal names its reason at both ends, and data comes whole, in order and within bounds.
 *
 * Real sockets on the loopback, one loop. The hostile ends are plain OpenSSL over a non-blocking
 * socket, stepped between passes of the loop. clock_gettime is defined here, before libc's, so that
 * a test may let the loop's time pass without waiting, or stand still.
 */
#include <errno.h>
#include <linux/posix_acl.h>
#include <linux/posix_acl_xattr.h>
#include <netinet/tcp.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>

#include <cmocka.h>
#include <openssl/err.h>
#include <openssl/ssl.h>

#include "../../agent/tls/internal.h"
#include "tls_fixture.h"

#define DEADLINE_MS  30000
#define TIMEOUT_MS   5000u
#define SHORT_MS     60u
#define SECRET       "SECRET-PAYLOAD"
#define ECHO_BYTES   (8u << 20)
#define WRITE_BYTES  (300u << 10)
#define URI          "spiffe://example.com/node/7"
#define SERVER_NAMES "DNS:localhost,IP:127.0.0.1"

/* ---- time ----------------------------------------------------------------------------------- */

static atomic_int skipped_s;
static atomic_bool frozen;
static struct timespec frozen_time; /* while frozen */

int clock_gettime(clockid_t clock, struct timespec *time)
{
    int rc = (int)syscall(SYS_clock_gettime, clock, time);

    if (clock == CLOCK_MONOTONIC || clock == CLOCK_MONOTONIC_COARSE) {
        time->tv_sec += atomic_load(&skipped_s);
        if (atomic_load(&frozen)) {
            *time = frozen_time;
        }
    }
    return rc;
}

static void freeze_time(void)
{
    assert_int_equal(clock_gettime(CLOCK_MONOTONIC, &frozen_time), 0);
    atomic_store(&frozen, true);
}

/* ---- fixture -------------------------------------------------------------------------------- */

/* One of our ends and what it was told. */
struct side {
    struct fixture *f;
    struct tf_link *link;
    bool opened, closed, write_at_open, echo, nap, close_in_data;
    int status, refuse_with;
    char reason[TF_LINK_REASON_MAX + 1], identity[TF_IDENTITY_MAX + 1];
    struct tf_link_facts facts; /* at its end */
    uint64_t bytes_in, bytes_to_send, bytes_sent;
    uint32_t crc_in, crc_sent;
    size_t queued_max;
    unsigned drained;
};

/* A plain OpenSSL end, or only a socket. */
struct raw {
    int listen_fd, fd;
    SSL_CTX *ctx;
    SSL *ssl;
    bool is_server, done, failed, gone;
    int alert, sessions;
    size_t bytes_in;
};

struct fixture {
    uv_loop_t loop;
    uv_tcp_t listener;
    struct sockaddr_in address;
    struct tls_fixture files;
    struct tls_cert ca, other_ca;
    struct tf_tls *server_tls, *client_tls;
    struct tf_tls_options server_options, client_options;
    struct side server, client;
    struct raw raw;
    uint64_t server_timeout_ms;
    struct tf_error err;
};

static void on_open(void *ctx, const char *identity)
{
    struct side *side = ctx;
    struct tf_slice secret = tf_slice_text(SECRET);

    side->opened = true;
    (void)snprintf(side->identity, sizeof side->identity, "%s", identity);
    if (side->write_at_open) {
        (void)tf_link_write(side->link, &secret, 1);
    }
}

static void keep_sending(struct side *side)
{
    static char bytes[WRITE_BYTES];

    while (side->link != NULL && side->bytes_sent < side->bytes_to_send &&
           tf_link_queued_bytes(side->link) < TF_LINK_HIGH_BYTES) {
        uint64_t left = side->bytes_to_send - side->bytes_sent;
        size_t size = left < sizeof bytes ? (size_t)left : sizeof bytes;
        struct tf_slice parts[3] = {{bytes, size / 7}, {NULL, 0}, {bytes + size / 7, 0}};

        parts[2].size = size - size / 7;
        for (size_t i = 0; i < size; i++) {
            bytes[i] = (char)((side->bytes_sent + i) * 2654435761u >> 13);
        }
        if (tf_link_write(side->link, parts, TF_COUNT(parts)) < 0) {
            return;
        }
        side->crc_sent = tf_crc32c(side->crc_sent, bytes, size);
        side->bytes_sent += size;
    }
}

static int on_data(void *ctx, const char *data, size_t size)
{
    struct side *side = ctx;
    struct tf_slice part = tf_slice(data, size);
    size_t queued;

    side->bytes_in += size;
    side->crc_in = tf_crc32c(side->crc_in, data, size);
    if (side->echo && tf_link_write(side->link, &part, 1) == 0) {
        queued = tf_link_queued_bytes(side->link);
        side->queued_max = queued > side->queued_max ? queued : side->queued_max;
        if (queued > TF_LINK_HIGH_BYTES) {
            tf_link_read_stop(side->link);
        }
    }
    if (side->nap && side->bytes_in / 500000 != (side->bytes_in - size) / 500000) {
        tf_link_read_stop(side->link);
    }
    if (side->close_in_data) {
        tf_link_close(side->link, "enough of this");
    }
    return side->refuse_with;
}

static void on_drained(void *ctx)
{
    struct side *side = ctx;

    side->drained++;
    assert_true(tf_link_queued_bytes(side->link) < TF_LINK_LOW_BYTES);
    if (side->echo) {
        tf_link_read_start(side->link);
    }
}

static void on_closed(void *ctx, int status, const char *reason)
{
    struct side *side = ctx;

    assert_false(side->closed); /* once */
    side->closed = true;
    side->status = status;
    tf_link_facts(side->link, &side->facts);
    side->link = NULL;
    (void)snprintf(side->reason, sizeof side->reason, "%s", reason);
}

static struct tf_link_events events_of(struct side *side)
{
    return (struct tf_link_events){.ctx = side,
                                   .on_open = on_open,
                                   .on_data = on_data,
                                   .on_drained = on_drained,
                                   .on_closed = on_closed};
}

static void on_connection(uv_stream_t *listener, int status)
{
    struct fixture *f = listener->data;
    struct tf_link_events events = events_of(&f->server);

    assert_int_equal(status, 0);
    assert_int_equal(
        tf_link_accept(listener, f->server_tls, f->server_timeout_ms, &events, &f->server.link), 0);
}

static void listen_on(struct fixture *f)
{
    int size = sizeof f->address;

    assert_int_equal(uv_ip4_addr("127.0.0.1", 0, &f->address), 0);
    assert_int_equal(uv_tcp_init(&f->loop, &f->listener), 0);
    f->listener.data = f;
    assert_int_equal(uv_tcp_bind(&f->listener, (struct sockaddr *)&f->address, 0), 0);
    assert_int_equal(uv_listen((uv_stream_t *)&f->listener, 16, on_connection), 0);
    assert_int_equal(uv_tcp_getsockname(&f->listener, (struct sockaddr *)&f->address, &size), 0);
}

static struct tls_cert leaf_of(const struct tls_cert *ca, const char *san, const char *usage)
{
    return tls_cert_make(
        &(struct tls_cert_options){.name = "leaf", .san = san, .usage = usage, .issuer = ca});
}

/* Options of a sound server and a sound client of one authority. */
static void write_files(struct fixture *f)
{
    struct tls_cert server = leaf_of(&f->ca, SERVER_NAMES, "serverAuth");
    struct tls_cert client = leaf_of(&f->ca, "URI:" URI, "clientAuth");

    tls_fixture_options(&f->files, "server", &f->ca, &server, &f->server_options);
    tls_fixture_options(&f->files, "client", &f->ca, &client, &f->client_options);
    tls_cert_free(&server);
    tls_cert_free(&client);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);

    assert_non_null(f);
    *state = f;
    f->server.f = f->client.f = f;
    f->raw.listen_fd = f->raw.fd = -1;
    f->server_timeout_ms = TIMEOUT_MS;
    tf_error_init(&f->err);
    tls_fixture_init(&f->files);
    f->ca = tls_ca_make("Test Root");
    f->other_ca = tls_ca_make("Other Root");
    write_files(f);
    assert_int_equal(uv_loop_init(&f->loop), 0);
    listen_on(f);
    return 0;
}

static void raw_close(struct raw *raw)
{
    SSL_free(raw->ssl);
    SSL_CTX_free(raw->ctx);
    if (raw->fd >= 0) {
        (void)close(raw->fd);
    }
    if (raw->listen_fd >= 0) {
        (void)close(raw->listen_fd);
    }
    *raw = (struct raw){.fd = -1, .listen_fd = -1};
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    raw_close(&f->raw);
    if (f->server.link != NULL) {
        tf_link_close(f->server.link, "end of test");
    }
    if (f->client.link != NULL) {
        tf_link_close(f->client.link, "end of test");
    }
    uv_close((uv_handle_t *)&f->listener, NULL);
    assert_int_equal(uv_run(&f->loop, UV_RUN_DEFAULT), 0);
    assert_int_equal(uv_loop_close(&f->loop), 0);
    tf_tls_unref(f->server_tls);
    tf_tls_unref(f->client_tls);
    tf_tls_unref(NULL);
    tls_cert_free(&f->ca);
    tls_cert_free(&f->other_ca);
    tls_fixture_fini(&f->files);
    tf_error_fini(&f->err);
    free(f);
    return 0;
}

static void load_server(struct fixture *f)
{
    int rc = tf_tls_server_new(&f->server_options, NULL, &f->server_tls, &f->err);

    assert_string_equal(tf_error_first(&f->err), "no error");
    assert_int_equal(rc, 0);
}

static void load_client(struct fixture *f)
{
    int rc = tf_tls_client_new(&f->client_options, NULL, &f->client_tls, &f->err);

    assert_string_equal(tf_error_first(&f->err), "no error");
    assert_int_equal(rc, 0);
}

static void connect_client(struct fixture *f, const char *host)
{
    struct tf_link_events events = events_of(&f->client);

    assert_int_equal(tf_link_connect(&f->loop, f->client_tls, (struct sockaddr *)&f->address, host,
                                     TIMEOUT_MS, &events, &f->client.link),
                     0);
}

/* ---- the plain OpenSSL end ------------------------------------------------------------------ */

static void on_info(const SSL *ssl, int where, int value)
{
    struct raw *raw = SSL_get_app_data(ssl);

    if ((where & SSL_CB_READ_ALERT) == SSL_CB_READ_ALERT) {
        raw->alert = value & 0xff;
    }
}

static int on_session(SSL *ssl, SSL_SESSION *session)
{
    struct raw *raw = SSL_get_app_data(ssl);

    (void)session;
    raw->sessions++;
    return 0;
}

/* cert NULL: none is given. No verification, level 0, so that any certificate can be tried. */
static void raw_use(struct raw *raw, bool is_server, const struct tls_cert *cert)
{
    raw->is_server = is_server;
    raw->ctx = SSL_CTX_new(TLS_method());
    assert_non_null(raw->ctx);
    SSL_CTX_set_security_level(raw->ctx, 0);
    SSL_CTX_set_info_callback(raw->ctx, on_info);
    SSL_CTX_sess_set_new_cb(raw->ctx, on_session);
    (void)SSL_CTX_set_session_cache_mode(raw->ctx, SSL_SESS_CACHE_BOTH);
    if (cert != NULL) {
        assert_int_equal(SSL_CTX_use_certificate(raw->ctx, cert->cert), 1);
        assert_int_equal(SSL_CTX_use_PrivateKey(raw->ctx, cert->key), 1);
    }
}

static void raw_start_ssl(struct raw *raw)
{
    raw->ssl = SSL_new(raw->ctx);
    assert_non_null(raw->ssl);
    SSL_set_app_data(raw->ssl, raw);
    assert_int_equal(SSL_set_fd(raw->ssl, raw->fd), 1);
    if (raw->is_server) {
        SSL_set_accept_state(raw->ssl);
    } else {
        SSL_set_connect_state(raw->ssl);
    }
}

static void make_nonblocking(int fd)
{
    assert_true(fd >= 0);
    assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
}

/* Connects to our listener. */
static void raw_connect(struct fixture *f)
{
    int on = 1;

    f->raw.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(setsockopt(f->raw.fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on), 0);
    assert_int_equal(connect(f->raw.fd, (struct sockaddr *)&f->address, sizeof f->address), 0);
    make_nonblocking(f->raw.fd);
    if (f->raw.ctx != NULL) {
        raw_start_ssl(&f->raw);
    }
}

/* Listens; f->address then leads here. */
static void raw_listen(struct fixture *f, int backlog)
{
    socklen_t size = sizeof f->address;

    f->address.sin_port = 0;
    f->raw.listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(f->raw.listen_fd, (struct sockaddr *)&f->address, size), 0);
    assert_int_equal(listen(f->raw.listen_fd, backlog), 0);
    assert_int_equal(getsockname(f->raw.listen_fd, (struct sockaddr *)&f->address, &size), 0);
    make_nonblocking(f->raw.listen_fd);
}

static void raw_hang_up(struct raw *raw)
{
    (void)close(raw->fd);
    raw->fd = -1;
    raw->gone = true;
}

static void raw_step(struct raw *raw)
{
    char bytes[4096];
    int n = 1;

    if (raw->listen_fd >= 0 && raw->fd < 0 && !raw->gone) {
        raw->fd = accept4(raw->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (raw->fd >= 0 && raw->ctx != NULL) {
            raw_start_ssl(raw);
        }
    }
    if (raw->ssl == NULL && raw->fd >= 0 && read(raw->fd, bytes, sizeof bytes) == 0) {
        raw->failed = true; /* no TLS: it goes when the other end goes */
        raw_hang_up(raw);
    }
    if (raw->ssl == NULL || raw->failed) {
        return;
    }
    ERR_clear_error();
    if (!raw->done) {
        n = SSL_do_handshake(raw->ssl);
        raw->done = n == 1;
        if (n == 1) {
            (void)SSL_write(raw->ssl, SECRET, (int)strlen(SECRET));
        }
    }
    while (n > 0) {
        n = SSL_read(raw->ssl, bytes, sizeof bytes);
        raw->bytes_in += n > 0 ? (size_t)n : 0;
    }
    n = SSL_get_error(raw->ssl, n);
    raw->failed = n != SSL_ERROR_WANT_READ && n != SSL_ERROR_WANT_WRITE;
    ERR_clear_error();
    if (raw->failed) {
        raw_hang_up(raw);
    }
}

/* ---- running -------------------------------------------------------------------------------- */

static bool both_open(struct fixture *f)
{
    return f->server.opened && f->client.opened;
}

static bool both_closed(struct fixture *f)
{
    return f->server.closed && f->client.closed;
}

static bool server_closed(struct fixture *f)
{
    return f->server.closed;
}

static bool client_closed(struct fixture *f)
{
    return f->client.closed;
}

static bool client_open(struct fixture *f)
{
    return f->client.opened || f->client.closed;
}

static bool client_has_data(struct fixture *f)
{
    return f->client.bytes_in > 0 || f->client.closed;
}

static bool server_open(struct fixture *f)
{
    return f->server.opened;
}

static bool client_settled(struct fixture *f)
{
    return f->client.opened || f->client.closed;
}

static bool raw_failed(struct fixture *f)
{
    return f->raw.failed;
}

/* Steps the loop and the raw end; false: the deadline came first. */
static bool run_until(struct fixture *f, bool (*done)(struct fixture *f))
{
    uint64_t deadline_ns = uv_hrtime() + DEADLINE_MS * UINT64_C(1000000);

    while (!done(f)) {
        if (uv_hrtime() > deadline_ns) {
            return false;
        }
        (void)uv_run(&f->loop, UV_RUN_NOWAIT);
        raw_step(&f->raw);
        if (f->client.nap && f->client.link != NULL) {
            tf_link_read_start(f->client.link);
        }
        keep_sending(&f->client);
        if (f->client.bytes_to_send == 0) {
            (void)usleep(200);
        }
    }
    return true;
}

static void assert_tells(const char *text, const char *part)
{
    if (strstr(text, part) == NULL) {
        fail_msg("\"%s\" does not tell \"%s\"", text, part);
    }
}

/* ---- data ----------------------------------------------------------------------------------- */

static bool echoed(struct fixture *f)
{
    return f->client.bytes_in >= ECHO_BYTES || f->client.closed || f->server.closed;
}

static void run_echo(struct fixture *f)
{
    f->server.echo = true;
    f->client.nap = true;
    connect_client(f, "localhost");
    assert_true(run_until(f, both_open));
    assert_string_equal(f->server.identity, URI);
    assert_string_equal(f->client.identity, "dns:localhost");
    assert_memory_equal(tf_link_peer(f->server.link), "127.0.0.1:", 10);
    f->client.bytes_to_send = ECHO_BYTES;
    assert_true(run_until(f, echoed));
    assert_int_equal(f->client.bytes_in, ECHO_BYTES);
    assert_int_equal(f->server.bytes_in, ECHO_BYTES);
    assert_int_equal(f->client.crc_in, f->client.crc_sent);
    assert_true(f->client.drained > 0);
    assert_true(f->server.queued_max < TF_LINK_HIGH_BYTES + (64u << 10));
    tf_link_close(f->client.link, "all said");
    tf_link_close(f->client.link, "a second call does nothing");
    assert_int_equal(tf_link_write(f->client.link, NULL, 0), -ENOTCONN);
    f->client.nap = false;
    f->client.bytes_to_send = 0;
    assert_true(run_until(f, both_closed));
    assert_int_equal(f->client.status, 0);
    assert_string_equal(f->client.reason, "all said");
    assert_int_equal(f->server.status, 0);
    assert_string_equal(f->server.reason, "closed by the other end");
}

static void eight_mib_are_echoed_with_backpressure(void **state)
{
    struct fixture *f = *state;

    load_server(f);
    load_client(f);
    run_echo(f);
}

static void tls_1_2_by_name_works_and_carries_the_same(void **state)
{
    struct fixture *f = *state;

    f->server_options.min_version = f->client_options.min_version = 1;
    load_server(f);
    load_client(f);
    SSL_CTX_set_max_proto_version(f->client_tls->ctx, TLS1_2_VERSION);
    run_echo(f);
}

static void what_is_queued_is_sent_before_a_close(void **state)
{
    struct fixture *f = *state;
    static char bytes[3u << 20];
    struct tf_slice part = tf_slice(bytes, sizeof bytes);

    load_server(f);
    load_client(f);
    connect_client(f, "localhost");
    assert_true(run_until(f, both_open));
    assert_int_equal(tf_link_write(f->client.link, &part, 1), 0);
    tf_link_close(f->client.link, "done");
    assert_true(run_until(f, both_closed));
    assert_int_equal(f->server.bytes_in, sizeof bytes);
    assert_int_equal(f->server.status, 0);
    assert_int_equal(f->client.status, 0);
}

static void links_keep_their_settings(void **state)
{
    struct fixture *f = *state;
    struct tf_slice part = tf_slice_text("x");

    load_server(f);
    load_client(f);
    connect_client(f, "localhost");
    assert_int_equal(tf_link_write(f->client.link, &part, 1), -ENOTCONN); /* not yet */
    assert_true(run_until(f, both_open));
    tf_tls_unref(f->client_tls);
    tf_tls_unref(f->server_tls);
    f->client_tls = f->server_tls = NULL;
    assert_int_equal(tf_link_write(f->client.link, &part, 1), 0);
    tf_link_close(f->client.link, "done");
    assert_true(run_until(f, both_closed));
    assert_int_equal(f->server.bytes_in, 1);
}

static void a_receiver_may_refuse_data(void **state)
{
    struct fixture *f = *state;

    f->server.refuse_with = -EBADMSG;
    f->client.write_at_open = true;
    load_server(f);
    load_client(f);
    connect_client(f, "localhost");
    assert_true(run_until(f, both_closed));
    assert_int_equal(f->server.status, -EBADMSG);
    assert_int_equal(f->client.status, 0);
}

/* The owner's reason stays, and so does the status that its callback returns. */
static void a_receiver_may_close_and_refuse(void **state)
{
    struct fixture *f = *state;

    f->server.refuse_with = -EBADMSG;
    f->server.close_in_data = f->client.write_at_open = true;
    load_server(f);
    load_client(f);
    connect_client(f, "localhost");
    assert_true(run_until(f, both_closed));
    assert_int_equal(f->server.status, -EBADMSG);
    assert_string_equal(f->server.reason, "enough of this");
}

static void a_link_may_be_closed_at_any_time(void **state)
{
    struct fixture *f = *state;

    load_server(f);
    load_client(f);
    connect_client(f, "localhost");
    tf_link_close(f->client.link, "changed my mind");
    assert_false(f->client.closed); /* never from inside the call */
    assert_true(run_until(f, client_closed));
    assert_int_equal(f->client.status, 0);
    assert_string_equal(f->client.reason, "changed my mind");
    assert_false(f->client.opened);
}

/* ---- refusals: hostile clients -------------------------------------------------------------- */

/* Who signs the hostile end's certificate. */
enum signer { OUR_CA, OTHER_CA, ITSELF, NOBODY /* no certificate */ };

struct hostile {
    const char *about;
    enum signer signer;
    struct tls_cert_options cert;
    int max_version; /* 0: any */
    const char *told;
    int alert;
    enum tf_link_step step; /* of a server's: where the client ends */
};

static struct tls_cert hostile_cert(struct fixture *f, const struct hostile *hostile)
{
    struct tls_cert_options options = hostile->cert;

    options.name = options.name != NULL ? options.name : "hostile";
    options.issuer = hostile->signer == OUR_CA     ? &f->ca
                     : hostile->signer == OTHER_CA ? &f->other_ca
                                                   : NULL;
    return tls_cert_make(&options);
}

static void start_hostile(struct fixture *f, const struct hostile *hostile, bool is_server)
{
    struct tls_cert cert = hostile_cert(f, hostile);

    raw_use(&f->raw, is_server, hostile->signer == NOBODY ? NULL : &cert);
    if (hostile->max_version != 0) {
        assert_int_equal(SSL_CTX_set_max_proto_version(f->raw.ctx, hostile->max_version), 1);
    }
    tls_cert_free(&cert);
}

/* No byte passed in either direction, and both know why. */
static void assert_refused(struct fixture *f, const struct side *side,
                           const struct hostile *hostile, int status)
{
    assert_true(side->closed);
    assert_tells(side->reason, hostile->told);
    assert_int_equal(side->status, status);
    assert_false(side->opened);
    assert_int_equal(side->bytes_in, 0);
    assert_int_equal(f->raw.bytes_in, 0);
    assert_int_equal(f->raw.alert, hostile->alert);
}

#define CLIENT_CERT(...) .cert = {.san = "URI:" URI, .usage = "clientAuth", __VA_ARGS__}
static const struct hostile hostile_clients[] = {
    {"no certificate", NOBODY, .told = "no certificate given", .alert = 116},
    {"other CA", OTHER_CA, CLIENT_CERT(0),
     .told = "other CA: its certificate (CN=hostile) was issued by \"CN=Other Root\"", .alert = 48},
    {"self-signed", ITSELF, CLIENT_CERT(0), .told = "is self-signed", .alert = 48},
    {"expired", OUR_CA, CLIENT_CERT(.from_days = -9, .until_days = -2), .told = "expired on 20",
     .alert = 45},
    {"not yet", OUR_CA, CLIENT_CERT(.from_days = 2), .told = "is not valid before 20", .alert = 42},
    {"no usage", OUR_CA, .cert = {.san = "URI:" URI},
     .told = "lacks the extended key usage clientAuth", .alert = 43},
    {"other usage", OUR_CA, .cert = {.san = "URI:" URI, .usage = "serverAuth"},
     .told = "lacks the extended key usage clientAuth", .alert = 43},
    {"any usage", OUR_CA, .cert = {.san = "URI:" URI, .usage = "anyExtendedKeyUsage"},
     .told = "lacks the extended key usage clientAuth", .alert = 43},
    {"CN only", OUR_CA, .cert = {.name = "node-7", .usage = "clientAuth"},
     .told = "this one proves no name", .alert = 42},
    {"two URIs", OUR_CA, .cert = {.san = "URI:" URI ",URI:a:b", .usage = "clientAuth"},
     .told = "this one proves URI:" URI ", URI:a:b", .alert = 42},
    {"two DNS names", OUR_CA, .cert = {.san = "DNS:a,DNS:b", .usage = "clientAuth"},
     .told = "this one proves DNS:a, DNS:b", .alert = 42},
    {"wildcard", OUR_CA, .cert = {.san = "DNS:*.a", .usage = "clientAuth"},
     .told = "this one proves DNS:*.a", .alert = 42},
    {"address", OUR_CA, .cert = {.san = "IP:192.0.2.1,IP:2001:db8::1", .usage = "clientAuth"},
     .told = "this one proves IP:192.0.2.1, IP:2001:db8::1", .alert = 42},
    {"URI that reads like a DNS name", OUR_CA,
     .cert = {.san = "URI:dns:node-8", .usage = "clientAuth"},
     .told = "this one proves URI:dns:node-8", .alert = 42},
    {"short RSA", OUR_CA, CLIENT_CERT(.rsa_bits = 1024), .told = "has an RSA key of 1024 bits",
     .alert = 42},
    {"SHA-1", OUR_CA, CLIENT_CERT(.digest = "SHA1"), .told = "is signed with SHA-1", .alert = 42},
    {"TLS 1.2", OUR_CA, CLIENT_CERT(0), .max_version = TLS1_2_VERSION,
     .told = "protocol version: the other end does not speak TLS 1.3", .alert = 70},
};

static void try_hostile_client(struct fixture *f, const struct hostile *hostile)
{
    f->server = (struct side){.f = f, .write_at_open = true};
    start_hostile(f, hostile, false);
    raw_connect(f);
    if (!run_until(f, server_closed) || !run_until(f, raw_failed)) {
        fail_msg("%s: no end", hostile->about);
    }
    assert_refused(f, &f->server, hostile,
                   hostile->max_version == TLS1_2_VERSION ? -EPROTO : -EACCES);
    raw_close(&f->raw);
}

static void hostile_clients_are_refused_by_name(void **state)
{
    struct fixture *f = *state;

    load_server(f);
    for (size_t i = 0; i < TF_COUNT(hostile_clients); i++) {
        try_hostile_client(f, &hostile_clients[i]);
    }
}

/* ---- refusals: hostile servers -------------------------------------------------------------- */

#define SERVER_CERT(...) .cert = {.san = "DNS:localhost", .usage = "serverAuth", __VA_ARGS__}
static const struct hostile hostile_servers[] = {
    {"other CA", OTHER_CA, SERVER_CERT(0),
     .told = "other CA: its certificate (CN=hostile) was issued by \"CN=Other Root\"", .alert = 48,
     .step = TF_LINK_ISSUER},
    {"self-signed", ITSELF, SERVER_CERT(0), .told = "is self-signed", .alert = 48,
     .step = TF_LINK_ISSUER},
    {"expired", OUR_CA, SERVER_CERT(.from_days = -9, .until_days = -2), .told = "expired on 20",
     .alert = 45, .step = TF_LINK_CERTIFICATE},
    {"not yet", OUR_CA, SERVER_CERT(.from_days = 2), .told = "is not valid before 20", .alert = 42,
     .step = TF_LINK_CERTIFICATE},
    {"no usage", OUR_CA, .cert = {.san = "DNS:localhost"},
     .told = "lacks the extended key usage serverAuth", .alert = 43, .step = TF_LINK_CERTIFICATE},
    {"other usage", OUR_CA, .cert = {.san = "DNS:localhost", .usage = "clientAuth"},
     .told = "lacks the extended key usage serverAuth", .alert = 43, .step = TF_LINK_CERTIFICATE},
    {"CN only", OUR_CA, .cert = {.name = "localhost", .usage = "serverAuth"},
     .told = "wrong name: it proves no name; wanted dns:localhost", .alert = 42,
     .step = TF_LINK_NAME},
    {"CN beside a URI", OUR_CA,
     .cert = {.name = "localhost", .san = "URI:" URI, .usage = "serverAuth"},
     .told = "wrong name: it proves URI:" URI "; wanted dns:localhost", .alert = 42,
     .step = TF_LINK_NAME},
    {"other name", OUR_CA, .cert = {.san = "DNS:logs-b,IP:127.0.0.1", .usage = "serverAuth"},
     .told = "wrong name: it proves DNS:logs-b, IP:127.0.0.1; wanted dns:localhost", .alert = 42,
     .step = TF_LINK_NAME},
    {"short RSA", OUR_CA, SERVER_CERT(.rsa_bits = 1024), .told = "has an RSA key of 1024 bits",
     .alert = 42, .step = TF_LINK_CERTIFICATE},
    {"SHA-1", OUR_CA, SERVER_CERT(.digest = "SHA1"), .told = "is signed with SHA-1", .alert = 42,
     .step = TF_LINK_CERTIFICATE},
    {"TLS 1.2", OUR_CA, SERVER_CERT(0), .max_version = TLS1_2_VERSION,
     .told = "alert protocol_version (70)", .alert = 0, .step = TF_LINK_HELLO},
};

static void try_hostile_server(struct fixture *f, const struct hostile *hostile)
{
    f->client = (struct side){.f = f, .write_at_open = true};
    start_hostile(f, hostile, true);
    raw_listen(f, 4);
    connect_client(f, "localhost");
    if (!run_until(f, client_closed) || !run_until(f, raw_failed)) {
        fail_msg("%s: no end", hostile->about);
    }
    assert_refused(f, &f->client, hostile,
                   hostile->max_version == TLS1_2_VERSION ? -EPROTO : -EACCES);
    assert_int_equal(f->client.facts.step, hostile->step);
    assert_int_equal(f->client.facts.certificate[0] == '\0', hostile->step == TF_LINK_HELLO);
    raw_close(&f->raw);
}

static void hostile_servers_are_refused_by_name(void **state)
{
    struct fixture *f = *state;

    load_client(f);
    for (size_t i = 0; i < TF_COUNT(hostile_servers); i++) {
        try_hostile_server(f, &hostile_servers[i]);
    }
}

/* The server's refusal comes when the client thinks it is connected and has sent something. */
static void a_refused_client_reports_the_alert(void **state)
{
    struct fixture *f = *state;
    struct tls_cert cert = leaf_of(&f->other_ca, "URI:" URI, "clientAuth");

    tls_fixture_options(&f->files, "foreign", &f->ca, &cert, &f->client_options);
    tls_cert_free(&cert);
    load_server(f);
    load_client(f);
    f->client.bytes_to_send = UINT64_C(1) << 30; /* as much as it is let */
    connect_client(f, "localhost");
    assert_true(run_until(f, both_closed));
    assert_true(f->client.opened);
    assert_true(f->client.bytes_sent > 0);
    assert_tells(f->server.reason, "other CA");
    assert_int_equal(f->server.status, -EACCES);
    assert_false(f->server.opened);
    assert_int_equal(f->server.bytes_in, 0);
    assert_string_equal(f->client.reason,
                        "our certificate was refused by the other end: alert unknown_ca (48)");
    assert_int_equal(f->client.status, -EACCES);
    assert_int_equal(f->client.facts.step, TF_LINK_OURS);
}

/* ---- how far a link came -------------------------------------------------------------------- */

static void a_link_tells_how_far_it_came(void **state)
{
    struct fixture *f = *state;
    struct tf_link_facts facts;

    load_server(f);
    load_client(f);
    connect_client(f, "localhost");
    tf_link_facts(f->client.link, &facts);
    assert_int_equal(facts.step, TF_LINK_CONNECT);
    assert_string_equal(facts.hello, "");
    assert_string_equal(facts.certificate, "");
    assert_true(run_until(f, both_open));
    tf_link_facts(f->client.link, &facts);
    assert_int_equal(facts.step, TF_LINK_OURS); /* not yet known: the server has said nothing */
    assert_string_equal(facts.hello, "TLS 1.3, TLS_AES_256_GCM_SHA384, X25519");
    assert_memory_equal(facts.certificate, "CN=leaf; DNS:localhost, IP:127.0.0.1; 20", 40);
    assert_tells(facts.certificate, "; chain of 1");
    assert_string_equal(facts.identity, "dns:localhost");
    assert_true(facts.connect_ms < TIMEOUT_MS && facts.hello_ms < TIMEOUT_MS);
    f->server.bytes_to_send = 1;
    keep_sending(&f->server);
    assert_true(run_until(f, client_has_data));
    tf_link_facts(f->client.link, &facts);
    assert_int_equal(facts.step, TF_LINK_TAKEN);
}

static void with_tls_1_2_an_open_link_was_taken(void **state)
{
    struct fixture *f = *state;
    struct tf_link_facts facts;

    f->server_options.min_version = f->client_options.min_version = 1;
    load_server(f);
    load_client(f);
    SSL_CTX_set_max_proto_version(f->client_tls->ctx, TLS1_2_VERSION);
    connect_client(f, "localhost");
    assert_true(run_until(f, both_open));
    tf_link_facts(f->client.link, &facts);
    assert_int_equal(facts.step, TF_LINK_TAKEN);
    assert_tells(facts.hello, "TLS 1.2, ECDHE-ECDSA-");
}

static void who_is_asked_to_end_still_says_what_it_has(void **state)
{
    struct fixture *f = *state;

    load_server(f);
    load_client(f);
    f->server.write_at_open = true;
    connect_client(f, "localhost");
    assert_true(run_until(f, client_open));
    tf_link_ask_end(f->client.link);
    tf_link_ask_end(f->client.link); /* a second call does nothing */
    assert_true(run_until(f, both_closed));
    assert_int_equal(f->client.status, 0);
    assert_string_equal(f->client.reason, "closed by the other end");
    assert_int_equal(f->client.bytes_in, strlen(SECRET));
    assert_int_equal(f->server.status, 0);
}

/* ---- refusals: names ------------------------------------------------------------------------ */

static void set_identity(struct fixture *f, struct tf_text *items, size_t count)
{
    f->client_options.identity = (struct tf_texts){.items = items, .count = count};
}

/* Connects once to host with what client_options want; true: it was let in, as identity. */
static bool try_name(struct fixture *f, const char *host, const char *identity)
{
    bool in;

    f->client = (struct side){.f = f};
    f->server = (struct side){.f = f};
    load_client(f);
    connect_client(f, host);
    assert_true(run_until(f, client_settled));
    in = f->client.opened;
    if (in) {
        assert_string_equal(f->client.identity, identity);
        tf_link_close(f->client.link, "enough");
    } else {
        assert_tells(f->client.reason, "wrong name");
        assert_tells(f->client.reason, identity);
    }
    assert_true(run_until(f, both_closed));
    if (!in) {
        assert_string_equal(
            f->server.reason,
            "our certificate was refused by the other end: alert bad_certificate (42)");
    }
    tf_tls_unref(f->client_tls);
    f->client_tls = NULL;
    return in;
}

static void a_server_proves_the_host_called(void **state)
{
    struct fixture *f = *state;
    struct tf_link_events events = events_of(&f->client);

    load_server(f);
    assert_true(try_name(f, "localhost", "dns:localhost"));
    assert_true(try_name(f, "LocalHost", "dns:localhost"));
    assert_true(try_name(f, "127.0.0.1", "ip:127.0.0.1"));
    assert_false(try_name(f, "127.0.0.2", "it proves DNS:localhost, IP:127.0.0.1; wanted ip:127"));
    assert_false(try_name(f, "::1", "wanted ip:::1"));
    assert_false(try_name(f, "localhos", "wanted dns:localhos"));
    assert_false(try_name(f, "leaf", "wanted dns:leaf")); /* the CN */
    load_client(f);
    assert_int_equal(tf_link_connect(&f->loop, f->client_tls, (struct sockaddr *)&f->address,
                                     "localhost.", TIMEOUT_MS, &events, &f->client.link),
                     -EINVAL);
}

static void listed_identities_replace_the_host(void **state)
{
    struct fixture *f = *state;
    struct tf_text uri = {.text = "spiffe://example.com/collector"};
    struct tf_text wrong = {.text = "spiffe://example.com/Collector"};
    struct tf_text both[] = {wrong, {.text = "dns:logs.example.com"}};
    struct tls_cert cert =
        leaf_of(&f->ca, "DNS:*.example.com,URI:spiffe://example.com/collector", "serverAuth");
    struct tf_text pin = {.text = "spki:sha256/47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="};
    char good_pin[64] = "spki:sha256/";
    uint8_t digest[TF_SHA256_BYTES];

    tls_fixture_options(&f->files, "named", &f->ca, &cert, &f->server_options);
    assert_int_equal(tf_spki_digest(cert.key, digest), 0);
    tls_cert_free(&cert);
    load_server(f);
    assert_true(try_name(f, "logs.example.com", uri.text));
    assert_false(try_name(f, "a.logs.example.com", "wanted dns:a.logs.example.com"));
    assert_false(try_name(f, "example.com", "wanted dns:example.com"));
    set_identity(f, &uri, 1);
    assert_true(try_name(f, "127.0.0.1", uri.text));
    set_identity(f, &wrong, 1);
    assert_false(try_name(f, "logs.example.com", "wanted spiffe://example.com/Collector"));
    set_identity(f, both, 2);
    assert_true(try_name(f, "127.0.0.1", uri.text));
    set_identity(f, &pin, 1);
    assert_false(try_name(f, "logs.example.com", "wanted spki:sha256/47DEQ"));
    (void)EVP_EncodeBlock((uint8_t *)good_pin + 12, digest, sizeof digest);
    pin.text = good_pin;
    assert_true(try_name(f, "127.0.0.1", uri.text));
}

/* A pin stands for the name, never for the chain. */
static void a_pin_does_not_replace_the_chain(void **state)
{
    struct fixture *f = *state;
    struct tls_cert cert = leaf_of(&f->other_ca, "DNS:localhost", "serverAuth");
    char text[64] = "spki:sha256/";
    struct tf_text pin = {.text = text};
    uint8_t digest[TF_SHA256_BYTES];

    assert_int_equal(tf_spki_digest(cert.key, digest), 0);
    (void)EVP_EncodeBlock((uint8_t *)text + 12, digest, sizeof digest);
    set_identity(f, &pin, 1);
    load_client(f);
    raw_use(&f->raw, true, &cert);
    tls_cert_free(&cert);
    raw_listen(f, 4);
    connect_client(f, "localhost");
    assert_true(run_until(f, client_closed));
    assert_tells(f->client.reason, "other CA");
    assert_false(f->client.opened);
}

/* ---- refusals: no TLS, cut, late, too much -------------------------------------------------- */

static void plain_text_is_told_as_such(void **state)
{
    static const char *const texts[] = {"GET / HTTP/1.0\r\n\r\n", "{\"a\":1}\n",
                                        "SSH-2.0-OpenSSH_9.2\r\n"};
    struct fixture *f = *state;

    load_server(f);
    for (size_t i = 0; i < TF_COUNT(texts); i++) {
        f->server = (struct side){.f = f};
        raw_connect(f);
        assert_true(write(f->raw.fd, texts[i], strlen(texts[i])) > 0);
        assert_true(run_until(f, server_closed));
        assert_string_equal(f->server.reason, "the other end speaks no TLS");
        assert_int_equal(f->server.status, -EPROTO);
        assert_int_equal(f->server.bytes_in, 0);
        raw_close(&f->raw);
    }
}

static bool raw_accepted(struct fixture *f)
{
    return f->raw.fd >= 0;
}

static void a_server_without_tls_is_told_as_such(void **state)
{
    struct fixture *f = *state;

    load_client(f);
    raw_listen(f, 4);
    connect_client(f, "localhost");
    assert_true(run_until(f, raw_accepted));
    assert_int_equal(write(f->raw.fd, "220 smtp\r\n", 10), 10);
    assert_true(run_until(f, client_closed));
    assert_string_equal(f->client.reason, "the other end speaks no TLS");
    assert_int_equal(f->client.facts.step, TF_LINK_HELLO);
}

static void raw_reset(struct raw *raw)
{
    struct linger linger = {.l_onoff = 1};

    assert_int_equal(setsockopt(raw->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger), 0);
    (void)close(raw->fd);
    raw->fd = -1;
}

static void open_raw_client(struct fixture *f)
{
    static const struct hostile sound = {"sound", OUR_CA, CLIENT_CERT(0), .told = ""};

    f->server = (struct side){.f = f};
    start_hostile(f, &sound, false);
    raw_connect(f);
    assert_true(run_until(f, server_open));
}

static void a_cut_stream_is_no_clean_end(void **state)
{
    struct fixture *f = *state;

    load_server(f);
    open_raw_client(f);
    assert_int_equal(shutdown(f->raw.fd, SHUT_WR), 0);
    assert_true(run_until(f, server_closed));
    assert_string_equal(f->server.reason, "truncated: the stream ended without close_notify");
    assert_int_equal(f->server.status, UV_EOF);
    raw_close(&f->raw);

    open_raw_client(f);
    raw_reset(&f->raw);
    assert_true(run_until(f, server_closed));
    assert_tells(f->server.reason, "connection reset by peer");
    assert_int_equal(f->server.status, -ECONNRESET);
    raw_close(&f->raw);

    f->server = (struct side){.f = f};
    raw_connect(f);
    raw_close(&f->raw);
    assert_true(run_until(f, server_closed));
    assert_string_equal(f->server.reason,
                        "the other end closed the connection during the handshake");
    assert_int_equal(f->server.status, UV_EOF);

    f->server = (struct side){.f = f};
    raw_connect(f);
    while (f->server.link == NULL) {
        (void)uv_run(&f->loop, UV_RUN_NOWAIT);
    }
    raw_reset(&f->raw);
    assert_true(run_until(f, server_closed));
    assert_tells(f->server.reason, "handshake with 127.0.0.1:");
    assert_tells(f->server.reason, ": connection reset by peer");
    assert_int_equal(f->server.status, -ECONNRESET);
}

/* What the other end said before it went is still read when a write fails. */
static void a_reset_while_writing_is_told(void **state)
{
    struct fixture *f = *state;
    struct tf_slice part = tf_slice_text(SECRET);

    load_server(f);
    open_raw_client(f);
    tf_link_read_stop(f->server.link);
    raw_reset(&f->raw);
    for (int i = 0; i < 3 && f->server.link != NULL; i++) {
        (void)tf_link_write(f->server.link, &part, 1);
        (void)uv_run(&f->loop, UV_RUN_NOWAIT);
    }
    assert_true(run_until(f, server_closed));
    assert_tells(f->server.reason, "write to 127.0.0.1:");
    assert_true(f->server.status == -EPIPE || f->server.status == -ECONNRESET);
}

/* A failed write is found before the data that came first; that is delivered all the same. */
static void what_came_before_a_reset_is_read(void **state)
{
    struct fixture *f = *state;
    struct tf_slice part = tf_slice_text(SECRET);
    uint64_t before;

    load_server(f);
    open_raw_client(f);
    for (int i = 0; i < 20; i++) { /* until the secret of the beginning has come */
        (void)uv_run(&f->loop, UV_RUN_NOWAIT);
    }
    before = f->server.bytes_in;
    assert_int_equal(SSL_write(f->raw.ssl, SECRET, 14), 14);
    raw_reset(&f->raw);
    assert_int_equal(tf_link_write(f->server.link, &part, 1), 0);
    assert_true(run_until(f, server_closed));
    assert_int_equal(f->server.bytes_in - before, 14);
    assert_true(f->server.status == -EPIPE || f->server.status == -ECONNRESET);
}

/* More than the sockets' buffers take. */
static void queue_and_close(struct fixture *f)
{
    static char bytes[16u << 20];
    struct tf_slice part = tf_slice(bytes, sizeof bytes);

    assert_int_equal(tf_link_write(f->server.link, &part, 1), 0);
    tf_link_close(f->server.link, "stop");
    (void)uv_run(&f->loop, UV_RUN_NOWAIT);
    assert_false(f->server.closed);
}

static void an_end_with_bytes_unsent_is_not_clean(void **state)
{
    struct fixture *f = *state;

    load_server(f);
    open_raw_client(f);
    queue_and_close(f);
    atomic_fetch_add(&skipped_s, 5);
    while (!f->server.closed) {
        (void)uv_run(&f->loop, UV_RUN_ONCE);
    }
    assert_int_equal(f->server.status, -ETIMEDOUT);
    assert_string_equal(f->server.reason, "stop");
    raw_close(&f->raw);

    open_raw_client(f);
    queue_and_close(f);
    raw_reset(&f->raw);
    while (!f->server.closed) {
        (void)uv_run(&f->loop, UV_RUN_ONCE);
    }
    assert_true(f->server.status == -EPIPE || f->server.status == -ECONNRESET);
    assert_string_equal(f->server.reason, "stop");
}

/* The other end has said all it will; what we have queued still goes. */
static void a_half_closed_stream_is_still_sent_to(void **state)
{
    struct fixture *f = *state;

    load_server(f);
    open_raw_client(f);
    queue_and_close(f);
    assert_int_equal(shutdown(f->raw.fd, SHUT_WR), 0);
    assert_true(run_until(f, server_closed));
    assert_int_equal(f->server.status, 0);
    assert_true(run_until(f, raw_failed));
    assert_int_equal(f->raw.bytes_in, 16u << 20);
}

/* Lingering waits a second for the other end, and takes 16 MiB from it, not more. */
static void an_end_waits_within_bounds(void **state)
{
    static char bytes[1u << 20];
    struct fixture *f = *state;
    size_t sent = 0;

    load_server(f);
    open_raw_client(f);
    tf_link_close(f->server.link, "stop");
    for (int i = 0; i < 10; i++) {
        (void)uv_run(&f->loop, UV_RUN_NOWAIT);
    }
    assert_false(f->server.closed);
    atomic_fetch_add(&skipped_s, 2);
    while (!f->server.closed) {
        (void)uv_run(&f->loop, UV_RUN_ONCE);
    }
    assert_int_equal(f->server.status, 0);
    raw_close(&f->raw);

    open_raw_client(f);
    tf_link_close(f->server.link, "stop");
    freeze_time(); /* so that it is not the second that ends it */
    while (!f->server.closed && sent < 64 * sizeof bytes) {
        ssize_t n = write(f->raw.fd, bytes, sizeof bytes);

        sent += n > 0 ? (size_t)n : 0;
        (void)uv_run(&f->loop, UV_RUN_NOWAIT);
    }
    atomic_store(&frozen, false);
    assert_true(f->server.closed);
    assert_true(sent > 16 * sizeof bytes);
}

static void silence_ends_a_handshake(void **state)
{
    struct fixture *f = *state;
    struct tf_link_events events = events_of(&f->client);

    f->server_timeout_ms = SHORT_MS;
    load_server(f);
    load_client(f);
    raw_connect(f);
    assert_true(run_until(f, server_closed));
    assert_tells(f->server.reason, "handshake with 127.0.0.1:");
    assert_tells(f->server.reason, "no answer in 60 ms");
    assert_int_equal(f->server.status, -ETIMEDOUT);
    raw_close(&f->raw);

    raw_listen(f, 4);
    assert_int_equal(tf_link_connect(&f->loop, f->client_tls, (struct sockaddr *)&f->address,
                                     "localhost", SHORT_MS, &events, &f->client.link),
                     0);
    assert_true(run_until(f, client_closed));
    assert_tells(f->client.reason, "handshake with 127.0.0.1:");
    assert_int_equal(f->client.status, -ETIMEDOUT);
}

/* A listener whose queue is full answers nothing. */
static void silence_ends_a_connect(void **state)
{
    struct fixture *f = *state;
    struct tf_link_events events = events_of(&f->client);
    int fillers[4];

    load_client(f);
    raw_listen(f, 0);
    for (size_t i = 0; i < TF_COUNT(fillers); i++) {
        fillers[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        (void)connect(fillers[i], (struct sockaddr *)&f->address, sizeof f->address);
    }
    assert_int_equal(tf_link_connect(&f->loop, f->client_tls, (struct sockaddr *)&f->address,
                                     "localhost", SHORT_MS, &events, &f->client.link),
                     0);
    while (!f->client.closed) {
        (void)uv_run(&f->loop, UV_RUN_ONCE);
    }
    assert_tells(f->client.reason, "connect 127.0.0.1:");
    assert_tells(f->client.reason, "no answer in 60 ms");
    assert_int_equal(f->client.status, -ETIMEDOUT);
    for (size_t i = 0; i < TF_COUNT(fillers); i++) {
        (void)close(fillers[i]);
    }
}

static void a_closed_port_refuses(void **state)
{
    struct fixture *f = *state;

    load_client(f);
    raw_listen(f, 4);
    raw_close(&f->raw);
    connect_client(f, "localhost");
    assert_true(run_until(f, client_closed));
    assert_tells(f->client.reason, "connect 127.0.0.1:");
    assert_tells(f->client.reason, ": connection refused");
    assert_int_equal(f->client.facts.step, TF_LINK_CONNECT);
    assert_int_equal(f->client.status, -ECONNREFUSED);
}

static void what_fails_at_once_is_told_later(void **state)
{
    struct fixture *f = *state;
    struct tf_link_events events = events_of(&f->client);
    struct sockaddr_in6 six;
    struct tf_link *link = NULL;

    load_server(f);
    load_client(f);
    assert_int_equal(uv_ip4_addr("255.255.255.255", 9, &f->address), 0);
    connect_client(f, "localhost");
    assert_string_equal(tf_link_peer(f->client.link), "255.255.255.255:9");
    assert_false(f->client.closed);
    assert_true(run_until(f, client_closed));
    assert_true(f->client.status < 0);
    assert_tells(f->client.reason, "connect 255.255.255.255:9: ");

    f->client = (struct side){.f = f};
    assert_int_equal(uv_ip6_addr("::1", 1, &six), 0);
    assert_int_equal(tf_link_connect(&f->loop, f->client_tls, (struct sockaddr *)&six, "::1",
                                     TIMEOUT_MS, &events, &f->client.link),
                     0);
    assert_string_equal(tf_link_peer(f->client.link), "[::1]:1");
    assert_true(run_until(f, client_closed));

    f->client = (struct side){.f = f};
    assert_int_equal(
        tf_link_accept((uv_stream_t *)&f->listener, f->server_tls, TIMEOUT_MS, &events, &link),
        -EAGAIN);
    assert_null(link);
    (void)uv_run(&f->loop, UV_RUN_NOWAIT);
    assert_false(f->client.closed); /* the caller never had it */
}

/* Records of one hello that never ends: 01, length 131,312 of the 131,396 that OpenSSL takes. */
static void a_handshake_takes_128_kib_at_most(void **state)
{
    static uint8_t record[5 + 16384] = {22, 3, 1, 64, 0, 1, 2, 0, 240};
    struct fixture *f = *state;
    size_t sent = 0;

    load_server(f);
    raw_connect(f);
    while (!f->server.closed && sent < 9) {
        if (write(f->raw.fd, record, sizeof record) != (ssize_t)sizeof record) {
            break;
        }
        sent++;
        memset(record + 5, 0, 16);
        assert_int_equal(usleep(1000), 0);
        (void)uv_run(&f->loop, UV_RUN_NOWAIT);
    }
    assert_true(run_until(f, server_closed));
    assert_string_equal(f->server.reason, "more than 128 KiB came before the handshake was done");
    assert_int_equal(f->server.status, -EPROTO);
}

static bool raw_done(struct fixture *f)
{
    return f->raw.done;
}

/* Tickets, which a client throws away, are the records without data here. */
static void records_without_data_are_bounded(void **state)
{
    static const struct hostile sound = {"sound", OUR_CA, SERVER_CERT(0), .told = ""};
    struct fixture *f = *state;

    load_client(f);
    start_hostile(f, &sound, true);
    raw_listen(f, 4);
    connect_client(f, "localhost");
    assert_true(run_until(f, raw_done));
    for (int i = 0; i < 1200 && !f->client.closed; i++) {
        if (SSL_new_session_ticket(f->raw.ssl) != 1 || SSL_do_handshake(f->raw.ssl) != 1) {
            break;
        }
        (void)uv_run(&f->loop, UV_RUN_NOWAIT);
    }
    assert_true(run_until(f, client_closed));
    assert_string_equal(f->client.reason, "more than 1000 TLS records without data");
    assert_int_equal(f->client.status, -EPROTO);
}

static void no_ticket_is_issued_or_used(void **state)
{
    static const int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};
    struct fixture *f = *state;
    SSL_SESSION *session;

    f->server_options.min_version = 1;
    load_server(f);
    for (size_t i = 0; i < TF_COUNT(versions); i++) {
        open_raw_client(f);
        tf_link_close(f->server.link, "enough");
        assert_true(run_until(f, raw_failed));
        assert_int_equal(f->raw.sessions, 0); /* in TLS 1.2 one without an id is not kept */
        session = SSL_get0_session(f->raw.ssl);
        assert_false(session != NULL && SSL_SESSION_has_ticket(session));
        assert_true(run_until(f, server_closed));
        raw_close(&f->raw);
    }
}

static void tls_1_2_takes_ecdhe_and_aead_only(void **state)
{
    static const struct {
        const char *suite;
        bool good;
    } suites[] = {{"ECDHE-ECDSA-AES128-GCM-SHA256", true},
                  {"ECDHE-ECDSA-CHACHA20-POLY1305", true},
                  {"ECDHE-ECDSA-AES128-SHA256", false},
                  {"ECDHE-ECDSA-AES256-SHA", false},
                  {"ECDHE-ECDSA-AES128-CCM", false}};
    static const struct hostile sound = {"sound", OUR_CA, CLIENT_CERT(0), .told = ""};
    struct fixture *f = *state;

    f->server_options.min_version = 1;
    load_server(f);
    for (size_t i = 0; i < TF_COUNT(suites); i++) {
        f->server = (struct side){.f = f};
        start_hostile(f, &sound, false);
        assert_int_equal(SSL_CTX_set_max_proto_version(f->raw.ctx, TLS1_2_VERSION), 1);
        assert_int_equal(SSL_CTX_set_cipher_list(f->raw.ctx, suites[i].suite), 1);
        raw_connect(f);
        assert_true(run_until(f, suites[i].good ? server_open : server_closed));
        if (suites[i].good) {
            tf_link_close(f->server.link, "enough");
            assert_true(run_until(f, server_closed));
        } else {
            assert_tells(f->server.reason, "no shared cipher");
            assert_false(f->server.opened);
        }
        raw_close(&f->raw);
    }
}

/* Longer than any chain that makes sense: refused by its length, before anything is verified. */
static void a_certificate_list_takes_64_kib_at_most(void **state)
{
    struct fixture *f = *state;
    struct tls_cert big = tls_cert_make(&(struct tls_cert_options){.name = "big",
                                                                   .san = "URI:" URI,
                                                                   .usage = "clientAuth",
                                                                   .rsa_bits = 2048,
                                                                   .issuer = &f->ca});

    load_server(f);
    raw_use(&f->raw, false, &big);
    for (int i = 0; i < 130; i++) {
        assert_int_equal(SSL_CTX_add1_chain_cert(f->raw.ctx, big.cert), 1);
    }
    tls_cert_free(&big);
    raw_connect(f);
    assert_true(run_until(f, server_closed));
    assert_tells(f->server.reason, "a handshake message is too long");
    assert_false(f->server.opened);
}

/* ---- files ---------------------------------------------------------------------------------- */

static void assert_not_loaded(struct fixture *f, bool as_server, const char *told)
{
    struct tf_tls *tls = NULL;
    int rc = as_server ? tf_tls_server_new(&f->server_options, NULL, &tls, &f->err)
                       : tf_tls_client_new(&f->client_options, NULL, &tls, &f->err);

    assert_int_equal(rc, -EINVAL);
    assert_null(tls);
    assert_tells(tf_error_first(&f->err), told);
    tf_error_fini(&f->err);
}

/* Writes a certificate made from options, and its key, as the server's. */
static void use_server_cert(struct fixture *f, struct tls_cert_options options)
{
    struct tls_cert cert;

    options.issuer = &f->ca;
    cert = tls_cert_make(&options);
    f->server_options.cert.text = tls_fixture_write_certs(&f->files, "bad.pem", &cert, 1);
    f->server_options.key.text = tls_fixture_write_key(&f->files, "bad.key", &cert);
    tls_cert_free(&cert);
}

static void bad_certificates_are_told_at_the_start(void **state)
{
    static const struct {
        struct tls_cert_options cert;
        const char *told;
    } bad[] = {
        {{.name = "old",
          .san = "DNS:a",
          .usage = "serverAuth",
          .from_days = -40,
          .until_days = -21},
         "bad.pem (CN=old, issued by CN=Test Root) expired on 20"},
        {{.name = "old",
          .san = "DNS:a",
          .usage = "serverAuth",
          .from_days = -40,
          .until_days = -21},
         ", 21 days ago; renew it (the clock says 20"},
        {{.name = "old", .san = "DNS:a", .usage = "serverAuth", .from_days = -40, .until_days = -1},
         ", 1 day ago; renew it (the clock says 20"},
        {{.name = "new", .san = "DNS:a", .usage = "serverAuth", .from_days = 3},
         "bad.pem (CN=new, issued by CN=Test Root) is valid from 20"},
        {{.name = "mute", .san = "DNS:a"}, "lacks the extended key usage serverAuth"},
        {{.name = "client", .san = "DNS:a", .usage = "clientAuth"},
         "lacks the extended key usage serverAuth"},
        {{.name = "weak", .san = "DNS:a", .usage = "serverAuth", .rsa_bits = 1024},
         "(CN=weak, issued by CN=Test Root) has an RSA key of 1024 bits; 2048 are needed"},
        {{.name = "weak", .san = "DNS:a", .usage = "serverAuth", .curve = "P-224"},
         "has an EC key of 224 bits; 256 are needed"},
        {{.name = "sha1", .san = "DNS:a", .usage = "serverAuth", .digest = "SHA1"},
         "is signed with SHA-1; SHA-256 is needed"},
    };
    struct fixture *f = *state;

    for (size_t i = 0; i < TF_COUNT(bad); i++) {
        use_server_cert(f, bad[i].cert);
        assert_not_loaded(f, true, bad[i].told);
    }
}

static void a_certificate_near_its_end_is_a_warning(void **state)
{
    struct fixture *f = *state;

    use_server_cert(
        f, (struct tls_cert_options){.san = "DNS:a", .usage = "serverAuth", .until_days = 5});
    load_server(f);
    assert_int_equal(f->err.warnings, 1);
    assert_tells(f->err.findings[0].text, "expires on 20");
}

/* Another collector may take it; ours would not. */
static void a_client_without_identity_is_a_warning(void **state)
{
    struct fixture *f = *state;
    struct tls_cert cert = leaf_of(&f->ca, NULL, "clientAuth");

    tls_fixture_options(&f->files, "nobody", &f->ca, &cert, &f->client_options);
    tls_cert_free(&cert);
    load_client(f);
    assert_int_equal(f->err.warnings, 1);
    assert_tells(f->err.findings[0].text, "proves no identity");
}

static void a_key_of_another_certificate_is_told(void **state)
{
    struct fixture *f = *state;
    struct tls_cert other = tls_cert_make(&(struct tls_cert_options){.rsa_bits = 2048});

    f->client_options.key.text = f->server_options.key.text;
    assert_not_loaded(f, false, "server.key (EC P-256 ");
    assert_not_loaded(f, false, ") is not the key of ");
    f->client_options.key.text = tls_fixture_write_key(&f->files, "rsa.key", &other);
    assert_not_loaded(f, false, "rsa.key (RSA 2048 ");
    tls_cert_free(&other);
}

static const char *write_text(struct fixture *f, const char *name, const char *text)
{
    const char *path = tls_fixture_path(&f->files, name);
    FILE *file = tls_fixture_create(path);

    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
    return path;
}

static void bad_files_are_told_by_name(void **state)
{
    struct fixture *f = *state;
    const char *key = f->server_options.key.text;
    const char *cert = f->server_options.cert.text;
    const char *garbage = write_text(f, "garbage", "no PEM at all\n");
    const char *half = write_text(f, "half", "-----BEGIN CERTIFICATE-----\nMIIB\n");

    f->server_options.key.text = garbage;
    assert_not_loaded(f, true, "garbage is not a private key in PEM (");
    f->server_options.key.text = f->files.folder;
    assert_not_loaded(f, true, "is not a regular file");
    f->server_options.key.text = NULL;
    assert_not_loaded(f, true, "tls.key: is missing; TLS needs ca, cert and key");
    assert_int_equal(chmod(key, 0644), 0);
    f->server_options.key.text = key;
    assert_not_loaded(f, true, "server.key can be read by others (mode 0644, owner ");
    assert_int_equal(chmod(key, 0600), 0);
    f->server_options.cert.text = garbage;
    assert_not_loaded(f, true, "garbage is not a list of PEM certificates");
    f->server_options.cert.text = half;
    assert_not_loaded(f, true, "half is not a list of PEM certificates");
    f->server_options.cert.text = "/nonexistent/node.pem";
    assert_not_loaded(f, true, "/nonexistent/node.pem cannot be opened: no such file");
    f->server_options.cert.text = f->files.folder;
    assert_not_loaded(f, true, "is not a regular file");
    f->server_options.cert.text = cert;
    f->server_options.ca.text = cert;
    assert_not_loaded(f, true, "is no certificate of an authority (no CA:TRUE)");
}

static void a_key_with_a_passphrase_is_told(void **state)
{
    struct fixture *f = *state;
    const char *path = tls_fixture_path(&f->files, "locked.key");
    FILE *file = tls_fixture_create(path);

    assert_int_equal(PEM_write_PrivateKey(file, f->ca.key, EVP_aes_256_cbc(),
                                          (const unsigned char *)"word", 4, NULL, NULL),
                     1);
    assert_int_equal(fclose(file), 0);
    f->server_options.key.text = path;
    assert_not_loaded(f, true, "locked.key wants a passphrase");
}

static void too_long_a_file_is_told(void **state)
{
    struct fixture *f = *state;
    const char *path = write_text(f, "long", "x");

    assert_int_equal(truncate(path, (off_t)TF_TLS_FILE_MAX_BYTES + 1), 0);
    f->server_options.ca.text = path;
    assert_not_loaded(f, true, "long cannot be read: file too large");
}

static void authorities_out_of_date_do_not_count(void **state)
{
    struct fixture *f = *state;
    struct tls_cert old = tls_cert_make(&(struct tls_cert_options){
        .name = "Old Root", .from_days = -9, .until_days = -1, .is_ca = true});
    struct tls_cert both[] = {old, f->ca};
    const char *sound = f->server_options.ca.text;

    f->server_options.ca.text = tls_fixture_write_certs(&f->files, "both.pem", both, 2);
    load_server(f);
    assert_int_equal(f->err.warnings, 1);
    assert_tells(f->err.findings[0].text, "(CN=Old Root, issued by CN=Old Root) expired on 20");
    tf_error_fini(&f->err);
    f->server_options.ca.text = tls_fixture_write_certs(&f->files, "old.pem", &old, 1);
    assert_not_loaded(f, true, "every authority in ");
    f->server_options.ca.text = sound;
    tls_cert_free(&old);
}

/* All findings come in one run, each at its place. */
static void every_file_is_checked_in_one_run(void **state)
{
    struct fixture *f = *state;
    struct tf_text item = {.text = "logs-b"};
    struct tf_tls *tls = NULL;

    set_identity(f, &item, 1);
    f->client_options.ca = (struct tf_text){"/nonexistent/ca", {"t.yaml", 3, 7}};
    f->client_options.cert = (struct tf_text){"/nonexistent/cert", {"t.yaml", 4, 7}};
    f->client_options.key = (struct tf_text){"/nonexistent/key", {"t.yaml", 5, 7}};
    assert_int_equal(tf_tls_client_new(&f->client_options, NULL, &tls, &f->err), -EINVAL);
    assert_int_equal(f->err.errors, 4);
    assert_tells(f->err.findings[0].text, "\"logs-b\" has no scheme; write dns:logs-b");
    assert_int_equal(f->err.findings[3].line, 5);
}

/* A server with so many intermediates; true: the client opened. */
static bool try_chain(struct fixture *f, size_t middles, bool middle_is_ca)
{
    static const char *const names[] = {"M0", "M1", "M2", "M3", "M4", "M5", "M6"};
    const struct tls_cert *issuer = &f->ca;
    struct tls_cert chain[TF_COUNT(names)];
    bool opened;

    for (size_t i = middles; i > 0; i--) {
        chain[i] = tls_cert_make(
            &(struct tls_cert_options){.name = names[i], .is_ca = middle_is_ca, .issuer = issuer});
        issuer = &chain[i];
    }
    chain[0] = leaf_of(issuer, SERVER_NAMES, "serverAuth");
    f->server_options.cert.text = tls_fixture_write_certs(&f->files, "m.pem", chain, middles + 1);
    f->server_options.key.text = tls_fixture_write_key(&f->files, "m.key", &chain[0]);
    f->server = (struct side){.f = f};
    f->client = (struct side){.f = f};
    load_server(f);
    connect_client(f, "localhost");
    assert_true(run_until(f, client_settled));
    opened = f->client.opened;
    if (opened) {
        tf_link_close(f->client.link, "enough");
    }
    assert_true(run_until(f, both_closed));
    tf_tls_unref(f->server_tls);
    f->server_tls = NULL;
    for (size_t i = 0; i <= middles; i++) {
        tls_cert_free(&chain[i]);
    }
    return opened;
}

static void intermediates_are_sent_and_bounded(void **state)
{
    struct fixture *f = *state;

    load_client(f);
    assert_true(try_chain(f, 1, true));
    assert_true(try_chain(f, 4, true));
    assert_false(try_chain(f, 5, true));
    assert_string_equal(f->client.reason, "its certificate chain is deeper than 4");
    assert_false(try_chain(f, 1, false));
    assert_tells(f->client.reason, "is refused: invalid CA certificate");
}

static void other_kinds_of_keys_work(void **state)
{
    struct fixture *f = *state;
    struct tls_cert_options rsa = {
        .san = SERVER_NAMES, .usage = "serverAuth", .rsa_bits = 2048, .issuer = &f->ca};
    struct tls_cert_options eddsa = {
        .san = SERVER_NAMES, .usage = "serverAuth", .curve = "ED25519", .issuer = &f->ca};

    use_server_cert(f, rsa);
    load_server(f);
    assert_true(try_name(f, "localhost", "dns:localhost"));
    tf_tls_unref(f->server_tls);
    use_server_cert(f, eddsa);
    load_server(f);
    assert_true(try_name(f, "localhost", "dns:localhost"));
}

static void a_client_may_be_a_dns_name(void **state)
{
    struct fixture *f = *state;
    struct tls_cert cert = leaf_of(&f->ca, "DNS:Node-7.example.com,IP:192.0.2.7", "clientAuth");

    tls_fixture_options(&f->files, "dns", &f->ca, &cert, &f->client_options);
    tls_cert_free(&cert);
    load_server(f);
    load_client(f);
    connect_client(f, "localhost");
    assert_true(run_until(f, both_open));
    assert_string_equal(f->server.identity, "dns:node-7.example.com");
}

static void identities_are_bounded(void **state)
{
    struct fixture *f = *state;
    struct tf_text items[TF_TLS_IDENTITIES_MAX + 1];

    for (size_t i = 0; i < TF_COUNT(items); i++) {
        items[i] = (struct tf_text){.text = URI};
    }
    set_identity(f, items, TF_COUNT(items));
    assert_not_loaded(f, false, "tls.identity: 33 entries; 32 are allowed");
}

static void secrets_are_private(void **state)
{
    static const struct {
        mode_t mode;
        bool good;
    } modes[] = {{0600, true},  {0400, true},  {0700, true},  {0640, false}, {0644, false},
                 {0604, false}, {0660, false}, {0620, false}, {0602, false}, {0601, false}};
    struct fixture *f = *state;
    const char *path = write_text(f, "secret", "x");
    bool is_root = geteuid() == 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    assert_true(fd >= 0);
    for (size_t i = 0; i < TF_COUNT(modes); i++) {
        bool good = modes[i].good || (modes[i].mode == 0640 && is_root);

        assert_int_equal(fchmod(fd, modes[i].mode), 0);
        assert_int_equal(tf_secret_file_check(fd, path, NULL, &f->err), good ? 0 : -EINVAL);
        if (!good) {
            assert_tells(tf_error_first(&f->err), "can be read by others (mode 0");
            tf_error_fini(&f->err);
        }
    }
    assert_int_equal(fchmod(fd, 0440), 0);
    assert_int_equal(tf_secret_file_check(fd, path, NULL, &f->err), is_root ? 0 : -EINVAL);
    if (is_root) {
        assert_int_equal(fchown(fd, 0, 54321), 0);
        assert_int_equal(tf_secret_file_check(fd, path, NULL, &f->err), -EINVAL);
        assert_int_equal(fchmod(fd, 0400), 0);
        assert_int_equal(fchown(fd, 54321, 0), 0);
        assert_int_equal(tf_secret_file_check(fd, path, NULL, &f->err), -EINVAL);
        assert_tells(f->err.findings[1].text, "(mode 0400, owner uid 54321)");
        assert_int_equal(fchown(fd, 0, 0), 0);
    }
    assert_int_equal(close(fd), 0);
}

/* An access list as setfacl(1) writes it: user may read, the file's group and another have these
 * rights. */
static int set_access_list(int fd, uint32_t user, uint16_t group_rights, uint16_t other_rights)
{
    const struct {
        uint16_t tag, rights;
        uint32_t id;
    } entries[] = {{ACL_USER_OBJ, 4, UINT32_MAX},
                   {ACL_USER, 4, user},
                   {ACL_GROUP_OBJ, group_rights, UINT32_MAX},
                   {ACL_GROUP, other_rights, 54322},
                   {ACL_MASK, 4, UINT32_MAX},
                   {ACL_OTHER, 0, UINT32_MAX}};
    uint8_t list[4 + sizeof entries];

    tf_store32(list, POSIX_ACL_XATTR_VERSION);
    for (size_t i = 0; i < TF_COUNT(entries); i++) {
        tf_store16(list + 4 + 8 * i, entries[i].tag);
        tf_store16(list + 6 + 8 * i, entries[i].rights);
        tf_store32(list + 8 + 8 * i, entries[i].id);
    }
    return fsetxattr(fd, "system.posix_acl_access", list, sizeof list, 0);
}

/* As systemd hands out credentials: root's, readable by us alone, and yet 0440. */
static void credentials_are_private(void **state)
{
    struct fixture *f = *state;
    const char *path = write_text(f, "credential", "x");
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;

    assert_true(fd >= 0);
    /* One of a group that is not ours, so that only the list can let it pass. */
    if (geteuid() != 0 || fchown(fd, 0, 54321) < 0 || set_access_list(fd, 0, 0, 0) < 0) {
        (void)close(fd);
        skip(); /* not root, or a file system without access lists */
    }
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0440);
    assert_int_equal(tf_secret_file_check(fd, path, NULL, &f->err), 0);
    assert_int_equal(set_access_list(fd, 54321, 0, 0), 0); /* another user */
    assert_int_equal(tf_secret_file_check(fd, path, NULL, &f->err), -EINVAL);
    assert_int_equal(set_access_list(fd, 0, 0, 4), 0); /* another group */
    assert_int_equal(tf_secret_file_check(fd, path, NULL, &f->err), -EINVAL);
    assert_int_equal(set_access_list(fd, 0, 4, 0), 0); /* the file's group */
    assert_int_equal(tf_secret_file_check(fd, path, NULL, &f->err), -EINVAL);
    assert_int_equal(close(fd), 0);
}

/* ---- identities ----------------------------------------------------------------------------- */

static void allow_entries_match_whole_parts(void **state)
{
    static const struct {
        const char *pattern, *identity;
        bool match;
    } cases[] = {
        {URI, URI, true},
        {"spiffe://example.com/node/*", URI, true},
        {"spiffe://example.com/*/7", URI, true},
        {"spiffe://example.com/*/*", URI, true},
        {"spiffe://example.com/*", URI, false},
        {"spiffe://example.com/node/*/x", URI, false},
        {"spiffe://example.com/node/7*", URI, false},
        {"spiffe://example.com/node/*", "spiffe://example.com/node/", false},
        {"spiffe://example.com/node/*", "spiffe://example.com/node", false},
        {"spiffe://example.com/node/*", "spiffe://example.com/node/7/8", false},
        {"spiffe://example.com/node/*", "spiffe://example.com/node/7?a", false},
        {"spiffe://example.com/node/*", "spiffe://example.com/node/..", false},
        {"spiffe://*/node/7", URI, false}, /* the authority is no path segment */
        {"*://example.com/node/7", URI, false},
        {"*", URI, false},
        {"**", URI, false},
        {"", URI, false},
        {"spiffe://example.com/node/8", URI, false},
        {"spiffe://Example.com/node/7", URI, false},
        {"spiffe://example.com/NODE/7", URI, false},
        {"spiffe://example.com/node/7/", URI, false},
        {"spiffe://example.com", URI, false},
        {"spiffe://example.com", "spiffe://example.com", true},
        {"dns:node-7.example.com", "dns:node-7.example.com", true},
        {"dns:Node-7.Example.com", "dns:node-7.example.com", true},
        {"dns:*.example.com", "dns:node-7.example.com", true},
        {"dns:*.*.com", "dns:node-7.example.com", true},
        {"dns:node-*.example.com", "dns:node-7.example.com", false},
        {"dns:*.example.com", "dns:a.b.example.com", false},
        {"dns:*.example.com", "dns:example.com", false},
        {"dns:*", "dns:node-7.example.com", false},
        {"dns:*", "dns:node-7", true},
        {"node-7", "dns:node-7", false},
        {"DNS:node-7", "dns:node-7", false},
        {"dns:node-7.", "dns:node-7", false},
        {"dns:node-7", "dns:node-7.", false},
        {"ip:192.0.2.1", "ip:192.0.2.1", true},
        {"ip:192.0.2.1", "ip:192.0.2.12", false},
        {"urn:node:*", "urn:node:7", false},
        {"urn:node:7/*", "urn:node:7/a", true},
    };
    char huge[TF_IDENTITY_MAX + 2];

    (void)state;
    for (size_t i = 0; i < TF_COUNT(cases); i++) {
        if (tf_identity_match(cases[i].pattern, cases[i].identity) != cases[i].match) {
            fail_msg("%s and %s", cases[i].pattern, cases[i].identity);
        }
    }
    memset(huge, 'a', sizeof huge - 1);
    huge[sizeof huge - 1] = '\0';
    assert_false(tf_identity_match(huge, huge));
}

static void wanted_identities_are_parsed_strictly(void **state)
{
    static const struct {
        const char *text;
        int kind; /* -1: refused */
    } cases[] = {
        {"dns:logs.example.com", TF_WANT_DNS},
        {"dns:*.example.com", -1},
        {"dns:.example.com", -1},
        {"dns:a..b", -1},
        {"dns:a.", -1},
        {"dns:", -1},
        {"logs.example.com", -1},
        {"192.0.2.1", -1},
        {"fe80::1", -1},
        {"ip:192.0.2.1", TF_WANT_IP},
        {"ip:2001:db8::1", TF_WANT_IP},
        {"ip:192.0.2", -1},
        {"spiffe://example.com/collector", TF_WANT_URI},
        {"spiffe://example.com/with space", -1},
        {"urn:", -1},
        {":x", -1},
        {"1:x", -1},
        {"", -1},
        {"spki:sha256/47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=", TF_WANT_PIN},
        {"spki:sha256/47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFV=", -1},
        {"spki:sha256/47DEQpj8HBSa", -1},
        {"spki:sha1/47DEQpj8HBSa", -1},
    };
    char why[TF_LINK_REASON_MAX + 1];
    struct tf_want want;

    (void)state;
    for (size_t i = 0; i < TF_COUNT(cases); i++) {
        int rc = tf_want_parse(cases[i].text, &want, why);

        if (cases[i].kind < 0 ? rc != -EINVAL : rc != 0 || (int)want.kind != cases[i].kind) {
            fail_msg("%s", cases[i].text);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(eight_mib_are_echoed_with_backpressure, setup, teardown),
        cmocka_unit_test_setup_teardown(tls_1_2_by_name_works_and_carries_the_same, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(what_is_queued_is_sent_before_a_close, setup, teardown),
        cmocka_unit_test_setup_teardown(links_keep_their_settings, setup, teardown),
        cmocka_unit_test_setup_teardown(a_receiver_may_refuse_data, setup, teardown),
        cmocka_unit_test_setup_teardown(a_receiver_may_close_and_refuse, setup, teardown),
        cmocka_unit_test_setup_teardown(a_link_may_be_closed_at_any_time, setup, teardown),
        cmocka_unit_test_setup_teardown(hostile_clients_are_refused_by_name, setup, teardown),
        cmocka_unit_test_setup_teardown(hostile_servers_are_refused_by_name, setup, teardown),
        cmocka_unit_test_setup_teardown(a_refused_client_reports_the_alert, setup, teardown),
        cmocka_unit_test_setup_teardown(a_link_tells_how_far_it_came, setup, teardown),
        cmocka_unit_test_setup_teardown(with_tls_1_2_an_open_link_was_taken, setup, teardown),
        cmocka_unit_test_setup_teardown(who_is_asked_to_end_still_says_what_it_has, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_server_proves_the_host_called, setup, teardown),
        cmocka_unit_test_setup_teardown(listed_identities_replace_the_host, setup, teardown),
        cmocka_unit_test_setup_teardown(a_pin_does_not_replace_the_chain, setup, teardown),
        cmocka_unit_test_setup_teardown(plain_text_is_told_as_such, setup, teardown),
        cmocka_unit_test_setup_teardown(a_server_without_tls_is_told_as_such, setup, teardown),
        cmocka_unit_test_setup_teardown(a_cut_stream_is_no_clean_end, setup, teardown),
        cmocka_unit_test_setup_teardown(a_reset_while_writing_is_told, setup, teardown),
        cmocka_unit_test_setup_teardown(what_came_before_a_reset_is_read, setup, teardown),
        cmocka_unit_test_setup_teardown(an_end_with_bytes_unsent_is_not_clean, setup, teardown),
        cmocka_unit_test_setup_teardown(a_half_closed_stream_is_still_sent_to, setup, teardown),
        cmocka_unit_test_setup_teardown(an_end_waits_within_bounds, setup, teardown),
        cmocka_unit_test_setup_teardown(silence_ends_a_handshake, setup, teardown),
        cmocka_unit_test_setup_teardown(silence_ends_a_connect, setup, teardown),
        cmocka_unit_test_setup_teardown(a_closed_port_refuses, setup, teardown),
        cmocka_unit_test_setup_teardown(what_fails_at_once_is_told_later, setup, teardown),
        cmocka_unit_test_setup_teardown(a_handshake_takes_128_kib_at_most, setup, teardown),
        cmocka_unit_test_setup_teardown(records_without_data_are_bounded, setup, teardown),
        cmocka_unit_test_setup_teardown(no_ticket_is_issued_or_used, setup, teardown),
        cmocka_unit_test_setup_teardown(tls_1_2_takes_ecdhe_and_aead_only, setup, teardown),
        cmocka_unit_test_setup_teardown(a_certificate_list_takes_64_kib_at_most, setup, teardown),
        cmocka_unit_test_setup_teardown(bad_certificates_are_told_at_the_start, setup, teardown),
        cmocka_unit_test_setup_teardown(a_certificate_near_its_end_is_a_warning, setup, teardown),
        cmocka_unit_test_setup_teardown(a_client_without_identity_is_a_warning, setup, teardown),
        cmocka_unit_test_setup_teardown(a_key_of_another_certificate_is_told, setup, teardown),
        cmocka_unit_test_setup_teardown(bad_files_are_told_by_name, setup, teardown),
        cmocka_unit_test_setup_teardown(a_key_with_a_passphrase_is_told, setup, teardown),
        cmocka_unit_test_setup_teardown(too_long_a_file_is_told, setup, teardown),
        cmocka_unit_test_setup_teardown(authorities_out_of_date_do_not_count, setup, teardown),
        cmocka_unit_test_setup_teardown(every_file_is_checked_in_one_run, setup, teardown),
        cmocka_unit_test_setup_teardown(intermediates_are_sent_and_bounded, setup, teardown),
        cmocka_unit_test_setup_teardown(other_kinds_of_keys_work, setup, teardown),
        cmocka_unit_test_setup_teardown(a_client_may_be_a_dns_name, setup, teardown),
        cmocka_unit_test_setup_teardown(identities_are_bounded, setup, teardown),
        cmocka_unit_test_setup_teardown(secrets_are_private, setup, teardown),
        cmocka_unit_test_setup_teardown(credentials_are_private, setup, teardown),
        cmocka_unit_test_setup_teardown(allow_entries_match_whole_parts, setup, teardown),
        cmocka_unit_test_setup_teardown(wanted_identities_are_parsed_strictly, setup, teardown),
    };

    (void)signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
