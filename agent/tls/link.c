/*
 * link.c - one TLS connection on the loop: an SSL over two memory BIOs, libuv moves the bytes.
 *
 *     state       waits for                      timer              on its way out
 *     CONNECTING  TCP                            connect timeout    gone
 *     SHAKING     the handshake                  handshake timeout  ENDING (alert), or gone
 *     OPEN        data                           0 ms to resume     ENDING
 *     ENDING      queued bytes to be sent        4 s                LINGERING, or gone
 *     LINGERING   the other end's end of stream  1 s                gone
 *     GONE        libuv to close both handles    -                  on_closed, freed
 *
 * on_closed comes once, from the last handle's close callback, never from inside a call of ours;
 * so a link may be touched in every callback. The first reason to end is the one that is told.
 * ENDING sends what is queued, then an alert or close_notify, then a FIN; LINGERING throws away
 * what still comes in, because closing a socket with unread bytes resets it, and a reset would take
 * our last bytes, the alert among them, from the other end.
 *
 * Bounds: one read takes 64 KiB and is pushed 16 KiB at a time; 128 KiB in before the handshake is
 * done; 1,000 records in a row without data; what is queued is bounded by the callers. Ciphertext
 * leaves in blocks of up to 256 KiB, so that nothing is allocated for a record; memory BIOs never
 * hold more than one record (out) or one read (in).
 * Not here: who is trusted (verify.c).
 */
#include "internal.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

#include <openssl/ec.h>
#include <openssl/err.h>

#define READ_BYTES          (64u << 10)
#define PIECE_BYTES         (16u << 10) /* pushed into the BIO at once */
#define RECORD_BYTES        (16u << 10) /* plaintext of one record */
#define RECORD_EXTRA_BYTES  64u         /* header, nonce, tag, with room to spare */
#define BLOCK_BYTES         (256u << 10)
#define HANDSHAKE_MAX_BYTES (128u << 10)
#define DISCARD_MAX_BYTES   (16u << 20) /* while ENDING and LINGERING; past it: gone */
#define STRANGER_MAX_BYTES  (1u << 20)  /* the same, of one who was not let in */
#define EMPTY_RECORDS_MAX   1000u
#define KEY_UPDATES_MAX     1000u
#define REST_READS_MAX      4 /* after a failed write, to find the alert that explains it */
#define FLUSH_TIMEOUT_MS    4000u
#define LINGER_TIMEOUT_MS   1000u
#define KEEPALIVE_S         60u
#define PEER_TEXT_BYTES     64u
#define NO_ALERT            (-1)

enum link_state {
    LINK_CONNECTING,
    LINK_SHAKING,
    LINK_OPEN,
    LINK_ENDING,
    LINK_LINGERING,
    LINK_GONE
};

struct tf_link {
    enum link_state state;
    struct tf_tls *tls; /* shared */
    struct tf_link_events events;
    uv_tcp_t tcp;
    uv_timer_t timer;
    unsigned open_handles;
    uv_connect_t connect;
    uv_shutdown_t shutdown;
    SSL *ssl;
    BIO *in, *out; /* owned by ssl */
    struct block *block;
    uint64_t handshake_timeout_ms;
    size_t queued_bytes;
    size_t handshake_bytes, discarded_bytes, discard_max_bytes;
    unsigned empty_records; /* in a row */
    unsigned key_updates;   /* asked for by the other end */
    int peer_alert;         /* RFC 8446, section 6; NO_ALERT */
    bool paused;            /* by the owner */
    bool pumping;           /* inside on_data or on_open */
    bool above_low;
    bool peer_ended;                 /* their end of stream came while ENDING */
    bool broken;                     /* the SSL failed: no close_notify any more */
    uint64_t began_ns, connected_ns; /* of a client, by uv_hrtime */
    int status;
    char reason[TF_LINK_REASON_MAX + 1];
    char peer_text[PEER_TEXT_BYTES];
    struct tf_peer peer;
};

/* Ciphertext on its way out. */
struct block {
    uv_write_t write;
    struct tf_link *link;
    size_t size, capacity;
    char data[];
};

static void pump(struct tf_link *link);

/* ---- the end -------------------------------------------------------------------------------- */

static void free_link(struct tf_link *link)
{
    SSL_free(link->ssl); /* frees both BIOs */
    X509_free(link->peer.leaf);
    tf_tls_unref(link->tls);
    free(link->block);
    OPENSSL_cleanse(link, sizeof *link);
    free(link);
}

static void on_handle_closed(uv_handle_t *handle)
{
    struct tf_link *link = handle->data;

    assert(link->open_handles > 0);
    if (--link->open_handles > 0) {
        return;
    }
    if (link->events.on_closed != NULL) {
        link->events.on_closed(link->events.ctx, link->status, link->reason);
    }
    free_link(link);
}

/* Keeps the first reason. */
static void note(struct tf_link *link, int status, const char *reason)
{
    if (link->reason[0] == '\0') {
        link->status = status;
        (void)snprintf(link->reason, sizeof link->reason, "%s",
                       reason[0] != '\0' ? reason : "closed");
    }
}

/* The same with what failed in front and errno's words behind. */
static void note_error(struct tf_link *link, int status, const char *what)
{
    char error[128], text[TF_LINK_REASON_MAX + 1];

    (void)uv_strerror_r(status, error, sizeof error);
    (void)snprintf(text, sizeof text, "%s %s: %s", what, link->peer_text, error);
    note(link, status, text);
}

/* No clean end while something queued was not sent. */
static void note_unsent(struct tf_link *link, int status)
{
    if (link->status == 0 && link->queued_bytes > 0) {
        link->status = status;
    }
}

static void go(struct tf_link *link)
{
    if (link->state == LINK_GONE) {
        return;
    }
    link->state = LINK_GONE;
    uv_close((uv_handle_t *)&link->tcp, on_handle_closed);
    uv_close((uv_handle_t *)&link->timer, on_handle_closed);
}

/* ---- ciphertext out ------------------------------------------------------------------------- */

static void write_failed(struct tf_link *link, int status);

static void on_written(uv_write_t *write, int status)
{
    struct block *block = TF_CONTAINER_OF(write, struct block, write);
    struct tf_link *link = block->link;

    assert(link->queued_bytes >= block->size);
    link->queued_bytes -= block->size;
    free(block);
    if (link->state == LINK_GONE) {
        return;
    }
    if (status < 0) {
        write_failed(link, status);
    } else if (link->above_low && link->queued_bytes < TF_LINK_LOW_BYTES) {
        link->above_low = false;
        if (link->state == LINK_OPEN && link->events.on_drained != NULL) {
            link->events.on_drained(link->events.ctx);
        }
    }
}

/* Hands the filled block to libuv. */
static int submit(struct tf_link *link)
{
    struct block *block = link->block;
    uv_buf_t buf;
    int rc;

    if (block == NULL || block->size == 0) {
        return 0;
    }
    link->block = NULL;
    buf = uv_buf_init(block->data, (unsigned)block->size);
    rc = uv_write(&block->write, (uv_stream_t *)&link->tcp, &buf, 1, on_written);
    if (rc < 0) {
        free(block);
        return rc;
    }
    link->queued_bytes += block->size;
    link->above_low |= link->queued_bytes > TF_LINK_LOW_BYTES;
    return 0;
}

/* Moves the BIO's ciphertext into blocks; a new one gets room for expected_bytes. */
static int collect(struct tf_link *link, size_t expected_bytes)
{
    size_t pending;
    int n, rc;

    while ((pending = BIO_ctrl_pending(link->out)) > 0) {
        struct block *block = link->block;

        if (block == NULL) {
            size_t capacity = expected_bytes > pending ? expected_bytes : pending;

            capacity = capacity < BLOCK_BYTES ? capacity : BLOCK_BYTES;
            block = malloc(sizeof *block + capacity);
            if (block == NULL) {
                return -ENOMEM;
            }
            block->link = link;
            block->size = 0;
            block->capacity = capacity;
            link->block = block;
        }
        n = BIO_read(link->out, block->data + block->size, (int)(block->capacity - block->size));
        if (n <= 0) {
            return -EIO;
        }
        block->size += (size_t)n;
        rc = block->size == block->capacity ? submit(link) : 0;
        if (rc < 0) {
            return rc;
        }
    }
    return 0;
}

static int flush(struct tf_link *link)
{
    int rc = collect(link, 0);

    return rc < 0 ? rc : submit(link);
}

/* ---- ending --------------------------------------------------------------------------------- */

static void on_timer(uv_timer_t *timer);
static void start_reading(struct tf_link *link);

static void on_shutdown(uv_shutdown_t *request, int status)
{
    struct tf_link *link = request->data;

    if (link->state != LINK_ENDING) {
        return;
    }
    if (status < 0 || link->peer_ended) {
        go(link);
        return;
    }
    link->state = LINK_LINGERING;
    (void)uv_timer_start(&link->timer, on_timer, LINGER_TIMEOUT_MS, 0);
}

/* Sends what is queued, an alert or close_notify, and a FIN; then waits for theirs. */
static void end(struct tf_link *link, int status, const char *reason)
{
    assert(link->state == LINK_SHAKING || link->state == LINK_OPEN);
    note(link, status, reason);
    if (link->state == LINK_OPEN && !link->broken) {
        ERR_clear_error();
        (void)SSL_shutdown(link->ssl);
    }
    link->discard_max_bytes = link->state == LINK_OPEN ? DISCARD_MAX_BYTES : STRANGER_MAX_BYTES;
    link->state = LINK_ENDING;
    link->shutdown.data = link;
    if (flush(link) < 0 ||
        uv_shutdown(&link->shutdown, (uv_stream_t *)&link->tcp, on_shutdown) < 0) {
        go(link);
        return;
    }
    start_reading(link);
    (void)uv_timer_start(&link->timer, on_timer, FLUSH_TIMEOUT_MS, 0);
}

/* ---- reasons -------------------------------------------------------------------------------- */

/* Alerts that a peer sends about our certificate come first. RFC 8446, section 6. */
#define OUR_CERTIFICATE_ALERTS 10u
static const struct {
    int alert;
    const char *name;
} alert_names[] = {
    {SSL_AD_BAD_CERTIFICATE, "bad_certificate"},
    {SSL_AD_UNSUPPORTED_CERTIFICATE, "unsupported_certificate"},
    {SSL_AD_CERTIFICATE_REVOKED, "certificate_revoked"},
    {SSL_AD_CERTIFICATE_EXPIRED, "certificate_expired"},
    {SSL_AD_CERTIFICATE_UNKNOWN, "certificate_unknown"},
    {SSL_AD_UNKNOWN_CA, "unknown_ca"},
    {SSL_AD_ACCESS_DENIED, "access_denied"},
    {SSL_AD_CERTIFICATE_REQUIRED, "certificate_required"},
    {SSL_AD_DECRYPT_ERROR, "decrypt_error"},
    {SSL_AD_BAD_CERTIFICATE_STATUS_RESPONSE, "bad_certificate_status_response"},
    {SSL_AD_UNEXPECTED_MESSAGE, "unexpected_message"},
    {SSL_AD_BAD_RECORD_MAC, "bad_record_mac"},
    {SSL_AD_RECORD_OVERFLOW, "record_overflow"},
    {SSL_AD_HANDSHAKE_FAILURE, "handshake_failure"},
    {SSL_AD_ILLEGAL_PARAMETER, "illegal_parameter"},
    {SSL_AD_DECODE_ERROR, "decode_error"},
    {SSL_AD_PROTOCOL_VERSION, "protocol_version"},
    {SSL_AD_INSUFFICIENT_SECURITY, "insufficient_security"},
    {SSL_AD_INTERNAL_ERROR, "internal_error"},
    {SSL_AD_INAPPROPRIATE_FALLBACK, "inappropriate_fallback"},
    {SSL_AD_USER_CANCELLED, "user_canceled"},
    {SSL_AD_NO_RENEGOTIATION, "no_renegotiation"},
    {SSL_AD_MISSING_EXTENSION, "missing_extension"},
    {SSL_AD_UNSUPPORTED_EXTENSION, "unsupported_extension"},
    {SSL_AD_UNRECOGNIZED_NAME, "unrecognized_name"},
    {SSL_AD_NO_APPLICATION_PROTOCOL, "no_application_protocol"},
};

static int alert_reason(int alert, char text[TF_LINK_REASON_MAX + 1])
{
    size_t i = 0;

    while (i < TF_COUNT(alert_names) && alert_names[i].alert != alert) {
        i++;
    }
    (void)snprintf(text, TF_LINK_REASON_MAX + 1, "%s: alert %s (%d)",
                   i < OUR_CERTIFICATE_ALERTS ? "our certificate was refused by the other end"
                                              : "the other end refused",
                   i < TF_COUNT(alert_names) ? alert_names[i].name : "unknown", alert);
    return i < OUR_CERTIFICATE_ALERTS ? -EACCES : -EPROTO;
}

/* Words for the oldest entry of OpenSSL's queue. */
static int queue_reason(const struct tf_link *link, char text[TF_LINK_REASON_MAX + 1])
{
    const char *version = link->tls->min_version == TLS1_3_VERSION ? "1.3" : "1.2";
    unsigned long error = ERR_peek_error();
    const char *words = ERR_reason_error_string(error);
    int rc = -EPROTO;

    switch (ERR_GET_LIB(error) == ERR_LIB_SSL ? ERR_GET_REASON(error) : 0) {
    case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE:
        (void)snprintf(text, TF_LINK_REASON_MAX + 1, "no certificate given by the other end");
        rc = -EACCES;
        break;
    case SSL_R_WRONG_VERSION_NUMBER:
    case SSL_R_HTTP_REQUEST:
    case SSL_R_HTTPS_PROXY_REQUEST:
        (void)snprintf(text, TF_LINK_REASON_MAX + 1, "the other end speaks no TLS");
        break;
    case SSL_R_UNSUPPORTED_PROTOCOL:
    case SSL_R_VERSION_TOO_LOW:
    case SSL_R_NO_PROTOCOLS_AVAILABLE:
        (void)snprintf(text, TF_LINK_REASON_MAX + 1,
                       "protocol version: the other end does not speak TLS %s, the oldest allowed",
                       version);
        break;
    case SSL_R_EXCESSIVE_MESSAGE_SIZE:
        (void)snprintf(text, TF_LINK_REASON_MAX + 1,
                       "a handshake message is too long (certificates: %d bytes at most)",
                       TF_TLS_CERT_LIST_MAX);
        break;
    default:
        (void)snprintf(text, TF_LINK_REASON_MAX + 1, "TLS failed: %s",
                       words != NULL ? words : "no reason given");
        break;
    }
    return rc;
}

/* The SSL failed for good: tells the most exact of what is known, and sends the alert, if any. */
static void fail_tls(struct tf_link *link)
{
    char text[TF_LINK_REASON_MAX + 1];
    int rc;

    link->broken = true;
    if (link->peer.reason[0] != '\0') {
        (void)snprintf(text, sizeof text, "%s", link->peer.reason);
        rc = -EACCES;
    } else if (link->peer_alert != NO_ALERT) {
        rc = alert_reason(link->peer_alert, text);
    } else {
        rc = queue_reason(link, text);
    }
    ERR_clear_error();
    end(link, rc, text);
}

/* Counts records, and keeps the alert that ends the connection. */
static void on_message(int writing, int version, int type, const void *data, size_t size, SSL *ssl,
                       void *arg)
{
    struct tf_link *link = arg;
    const uint8_t *bytes = data;

    (void)version;
    (void)ssl;
    if (writing) {
        return;
    }
    if (type == SSL3_RT_HEADER) {
        link->empty_records++;
    } else if (type == SSL3_RT_ALERT && size == 2 && bytes[1] != SSL_AD_CLOSE_NOTIFY &&
               bytes[1] != SSL_AD_USER_CANCELLED && bytes[1] != SSL_AD_NO_RENEGOTIATION) {
        link->peer_alert = bytes[1];
    } else if (type == SSL3_RT_HANDSHAKE && size > 0 && bytes[0] == SSL3_MT_KEY_UPDATE) {
        link->key_updates++;
    }
}

/* ---- ciphertext in -------------------------------------------------------------------------- */

static void opened(struct tf_link *link)
{
    link->state = LINK_OPEN;
    link->empty_records = 0;
    if (SSL_version(link->ssl) < TLS1_3_VERSION) {
        link->peer.step = TF_LINK_TAKEN;
    }
    (void)uv_timer_stop(&link->timer);
    if (link->events.on_open != NULL) {
        link->events.on_open(link->events.ctx, link->peer.identity);
    }
}

static void shake(struct tf_link *link)
{
    int n, reason, rc;

    ERR_clear_error();
    n = SSL_do_handshake(link->ssl);
    reason = SSL_get_error(link->ssl, n);
    if (n != 1 && reason != SSL_ERROR_WANT_READ) {
        fail_tls(link);
        return;
    }
    rc = flush(link);
    if (rc < 0) {
        note_error(link, rc, "write to");
        go(link);
    } else if (n == 1) {
        opened(link);
    }
}

/* One SSL_read and what follows from it; true while there may be more. */
static bool take_record(struct tf_link *link)
{
    char plain[RECORD_BYTES];
    int n, reason, rc;

    ERR_clear_error();
    n = SSL_read(link->ssl, plain, sizeof plain);
    reason = SSL_get_error(link->ssl, n);
    if (link->key_updates > KEY_UPDATES_MAX) { /* each may ask for an answer that nobody reads */
        end(link, -EPROTO, "more than 1000 key updates");
        return false;
    }
    if (n > 0) {
        link->empty_records = 0;
        link->peer.step = TF_LINK_TAKEN;
        rc = link->events.on_data(link->events.ctx, plain, (size_t)n);
        if (rc < 0 && link->state == LINK_OPEN) {
            end(link, rc, "what the other end sent was refused");
        } else if (rc < 0 && link->status == 0) {
            link->status = rc; /* the owner has closed it already, with the reason */
        }
        return link->state == LINK_OPEN;
    }
    if (reason == SSL_ERROR_ZERO_RETURN) {
        end(link, 0, "closed by the other end");
    } else if (reason != SSL_ERROR_WANT_READ) {
        fail_tls(link);
    } else if (link->empty_records > EMPTY_RECORDS_MAX) {
        end(link, -EPROTO, "more than 1000 TLS records without data");
    } else {
        rc = flush(link); /* an answer to a key update */
        if (rc < 0) {
            note_error(link, rc, "write to");
            go(link);
        }
    }
    return false;
}

/* Takes what the BIO holds as far as it goes. */
static void pump(struct tf_link *link)
{
    assert(!link->pumping);
    link->pumping = true;
    if (link->state == LINK_SHAKING) {
        shake(link);
    }
    while (link->state == LINK_OPEN && !link->paused && take_record(link)) {
    }
    link->pumping = false;
    if (link->state == LINK_OPEN && link->paused) {
        (void)uv_read_stop((uv_stream_t *)&link->tcp);
    }
}

/* One read's ciphertext, a piece at a time. What comes while paused waits in the BIO. */
static void take_read(struct tf_link *link, const char *data, size_t size)
{
    size_t at = 0;

    while (at < size && (link->state == LINK_SHAKING || link->state == LINK_OPEN)) {
        bool held = link->state == LINK_OPEN && link->paused;
        size_t piece = size - at;

        piece = held || piece < PIECE_BYTES ? piece : PIECE_BYTES;
        if (link->state == LINK_SHAKING) {
            link->handshake_bytes += piece;
            if (link->handshake_bytes > HANDSHAKE_MAX_BYTES) {
                link->broken = true;
                end(link, -EPROTO, "more than 128 KiB came before the handshake was done");
                return;
            }
        }
        if (BIO_write(link->in, data + at, (int)piece) != (int)piece) {
            note_error(link, -ENOMEM, "read from");
            go(link);
            return;
        }
        at += piece;
        if (!held) {
            pump(link);
        }
    }
}

static void stream_ended(struct tf_link *link, int status)
{
    if (link->state == LINK_SHAKING && status == UV_EOF) {
        note(link, UV_EOF, "the other end closed the connection during the handshake");
    } else if (status == UV_EOF) {
        note(link, UV_EOF, "truncated: the stream ended without close_notify");
    } else if (link->state == LINK_SHAKING) {
        note_error(link, status, "handshake with");
    } else {
        note_error(link, status, "read from");
    }
    if (link->state == LINK_ENDING && status == UV_EOF) {
        link->peer_ended = true; /* we still send; then we go */
        return;
    }
    note_unsent(link, status);
    go(link);
}

static void on_alloc(uv_handle_t *handle, size_t suggested_bytes, uv_buf_t *buf)
{
    (void)handle;
    (void)suggested_bytes;
    buf->base = malloc(READ_BYTES); /* freed in on_read; NULL becomes UV_ENOBUFS there */
    buf->len = buf->base != NULL ? READ_BYTES : 0;
}

static void on_read(uv_stream_t *stream, ssize_t count, const uv_buf_t *buf)
{
    struct tf_link *link = stream->data;

    if (count < 0) {
        stream_ended(link, (int)count);
    } else if (link->state == LINK_ENDING || link->state == LINK_LINGERING) {
        link->discarded_bytes += (size_t)count;
        if (link->discarded_bytes > link->discard_max_bytes) {
            go(link);
        }
    } else {
        take_read(link, buf->base, (size_t)count);
    }
    free(buf->base);
}

static void start_reading(struct tf_link *link)
{
    int rc = uv_read_start((uv_stream_t *)&link->tcp, on_alloc, on_read);

    if (rc < 0 && rc != UV_EALREADY) {
        note_error(link, rc, "read from");
        go(link);
    }
}

/* A write fails when the other end is gone, and why it went may wait unread: an alert, acks. */
static void read_rest(struct tf_link *link)
{
    char *data = malloc(READ_BYTES);
    uv_os_fd_t fd;

    if (data == NULL || uv_fileno((uv_handle_t *)&link->tcp, &fd) < 0) {
        free(data);
        return;
    }
    for (int i = 0; i < REST_READS_MAX; i++) {
        ssize_t n = -1;

        if (link->state == LINK_SHAKING || (link->state == LINK_OPEN && !link->paused)) {
            n = recv(fd, data, READ_BYTES, MSG_DONTWAIT);
        }
        if (n <= 0) {
            break;
        }
        take_read(link, data, (size_t)n);
    }
    free(data);
}

static void write_failed(struct tf_link *link, int status)
{
    if (status == UV_ECANCELED) {
        return;
    }
    read_rest(link);
    if (link->state == LINK_GONE) {
        return;
    }
    note_error(link, status, "write to");
    if (link->status == 0) {
        link->status = status; /* our own close, but not everything was sent */
    }
    go(link);
}

/* ---- beginning ------------------------------------------------------------------------------ */

static void on_timer(uv_timer_t *timer)
{
    struct tf_link *link = timer->data;
    char text[TF_LINK_REASON_MAX + 1];

    switch (link->state) {
    case LINK_CONNECTING:
    case LINK_SHAKING:
        (void)snprintf(text, sizeof text, "%s %s: no answer in %llu ms",
                       link->state == LINK_CONNECTING ? "connect" : "handshake with",
                       link->peer_text, (unsigned long long)link->handshake_timeout_ms);
        note(link, -ETIMEDOUT, text);
        go(link);
        break;
    case LINK_OPEN: /* resumed by tf_link_read_start */
        pump(link);
        if (link->state == LINK_OPEN && !link->paused) {
            start_reading(link);
        }
        break;
    case LINK_ENDING:
        note_unsent(link, -ETIMEDOUT);
        go(link);
        break;
    case LINK_LINGERING:
        go(link);
        break;
    case LINK_GONE:
        break;
    }
}

static void start_handshake(struct tf_link *link)
{
    link->state = LINK_SHAKING;
    link->peer.step = TF_LINK_HELLO;
    link->connected_ns = uv_hrtime();
    (void)uv_tcp_nodelay(&link->tcp, 1);
    (void)uv_tcp_keepalive(&link->tcp, 1, KEEPALIVE_S);
    (void)uv_timer_start(&link->timer, on_timer, link->handshake_timeout_ms, 0);
    start_reading(link);
    if (link->state == LINK_SHAKING && !link->tls->is_server) {
        pump(link); /* sends the hello */
    }
}

static void on_connected(uv_connect_t *request, int status)
{
    struct tf_link *link = request->data;

    if (link->state != LINK_CONNECTING) {
        return;
    }
    if (status < 0) {
        note_error(link, status, "connect");
        go(link);
        return;
    }
    start_handshake(link);
}

static void set_peer_text(struct tf_link *link, const struct sockaddr *address)
{
    char name[INET6_ADDRSTRLEN] = "unknown";

    if (address->sa_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)address;

        (void)uv_ip6_name(in6, name, sizeof name);
        (void)snprintf(link->peer_text, sizeof link->peer_text, "[%s]:%u", name,
                       ntohs(in6->sin6_port));
    } else if (address->sa_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)address;

        (void)uv_ip4_name(in, name, sizeof name);
        (void)snprintf(link->peer_text, sizeof link->peer_text, "%s:%u", name, ntohs(in->sin_port));
    } else {
        (void)snprintf(link->peer_text, sizeof link->peer_text, "unknown");
    }
}

static int make_ssl(struct tf_link *link)
{
    SSL *ssl = SSL_new(link->tls->ctx);

    link->ssl = ssl;
    if (ssl == NULL) {
        return -ENOMEM;
    }
    link->in = BIO_new(BIO_s_mem());
    link->out = BIO_new(BIO_s_mem());
    if (link->in == NULL || link->out == NULL) {
        BIO_free(link->in);
        BIO_free(link->out);
        return -ENOMEM;
    }
    SSL_set_bio(ssl, link->in, link->out);
    SSL_set_app_data(ssl, &link->peer);
    SSL_set_msg_callback(ssl, on_message);
    SSL_set_msg_callback_arg(ssl, link);
    if (link->tls->is_server) {
        SSL_set_accept_state(ssl);
        return 0;
    }
    SSL_set_connect_state(ssl);
    if (link->peer.host.kind == TF_WANT_DNS &&
        SSL_set_tlsext_host_name(ssl, link->peer.host.text + 4) != 1) {
        return -ENOMEM;
    }
    return 0;
}

/* All that can fail, then the handles; from there on only closing frees. */
static int make_link(uv_loop_t *loop, struct tf_tls *tls, const struct tf_want *host,
                     uint64_t timeout_ms, const struct tf_link_events *events, struct tf_link **out)
{
    struct tf_link *link = calloc(1, sizeof *link);
    int rc;

    if (link == NULL) {
        return -ENOMEM;
    }
    tf_tls_ref(tls);
    link->tls = tls;
    link->peer.tls = tls;
    link->events = *events;
    link->handshake_timeout_ms = timeout_ms;
    link->peer_alert = NO_ALERT;
    if (host != NULL) {
        link->peer.host = *host;
    }
    rc = make_ssl(link);
    if (rc == 0) {
        rc = uv_tcp_init(loop, &link->tcp);
    }
    if (rc < 0) {
        free_link(link);
        return rc;
    }
    link->tcp.data = link;
    (void)uv_timer_init(loop, &link->timer); /* cannot fail */
    link->timer.data = link;
    link->open_handles = 2;
    *out = link;
    return 0;
}

int tf_link_connect(uv_loop_t *loop, struct tf_tls *tls, const struct sockaddr *address,
                    const char *host, uint64_t connect_timeout_ms,
                    const struct tf_link_events *events, struct tf_link **out)
{
    struct tf_link *link = NULL;
    struct tf_want want;
    int rc;

    assert(!tls->is_server);
    rc = tf_want_host(host, &want);
    if (rc == 0) {
        rc = make_link(loop, tls, &want, connect_timeout_ms, events, &link);
    }
    if (rc != 0) {
        return rc;
    }
    set_peer_text(link, address);
    link->state = LINK_CONNECTING;
    link->began_ns = uv_hrtime();
    link->connect.data = link;
    (void)uv_timer_start(&link->timer, on_timer, connect_timeout_ms, 0);
    rc = uv_tcp_connect(&link->connect, &link->tcp, address, on_connected);
    if (rc < 0) {
        note_error(link, rc, "connect"); /* told by on_closed, as if it had come later */
        go(link);
    }
    *out = link;
    return 0;
}

int tf_link_accept(uv_stream_t *listener, struct tf_tls *tls, uint64_t handshake_timeout_ms,
                   const struct tf_link_events *events, struct tf_link **out)
{
    struct sockaddr_storage address = {0};
    int size = sizeof address;
    struct tf_link *link;
    int rc;

    assert(tls->is_server);
    assert(listener->type == UV_TCP);
    rc = make_link(listener->loop, tls, NULL, handshake_timeout_ms, events, &link);
    if (rc < 0) {
        return rc;
    }
    rc = uv_accept(listener, (uv_stream_t *)&link->tcp);
    if (rc < 0) {
        link->events.on_closed = NULL; /* the caller never had it */
        go(link);
        return rc;
    }
    (void)uv_tcp_getpeername(&link->tcp, (struct sockaddr *)&address, &size);
    set_peer_text(link, (const struct sockaddr *)&address);
    start_handshake(link);
    *out = link;
    return 0;
}

/* ---- for the owner -------------------------------------------------------------------------- */

/* Small parts are gathered, so that a record is full; a large part is encrypted from its place. */
struct sealer {
    struct tf_link *link;
    size_t expected_bytes;
    size_t size;
    char plain[RECORD_BYTES];
};

static int seal(struct sealer *sealer, const char *data, size_t size)
{
    struct tf_link *link = sealer->link;
    int n;

    ERR_clear_error();
    n = SSL_write(link->ssl, data, (int)size);
    return n == (int)size ? collect(link, sealer->expected_bytes) : -ENOMEM;
}

static int seal_part(struct sealer *sealer, struct tf_slice part)
{
    int rc = 0;

    while (rc == 0 && part.size > 0) {
        size_t room = sizeof sealer->plain - sealer->size;
        size_t size = part.size < room ? part.size : room;

        if (size == sizeof sealer->plain) {
            rc = seal(sealer, part.data, size);
        } else {
            memcpy(sealer->plain + sealer->size, part.data, size);
            sealer->size += size;
            if (sealer->size == sizeof sealer->plain) {
                rc = seal(sealer, sealer->plain, sealer->size);
                sealer->size = 0;
            }
        }
        part = tf_slice(part.data + size, part.size - size);
    }
    return rc;
}

int tf_link_write(struct tf_link *link, const struct tf_slice *parts, size_t count)
{
    struct sealer sealer;
    size_t total = 0;
    int rc = 0;

    if (link->state != LINK_OPEN) {
        return -ENOTCONN;
    }
    for (size_t i = 0; i < count; i++) {
        total += parts[i].size;
    }
    sealer.link = link;
    sealer.size = 0;
    sealer.expected_bytes = total + (total / RECORD_BYTES + 2) * RECORD_EXTRA_BYTES;
    for (size_t i = 0; i < count && rc == 0; i++) {
        rc = seal_part(&sealer, parts[i]);
    }
    if (rc == 0 && sealer.size > 0) {
        rc = seal(&sealer, sealer.plain, sealer.size);
    }
    if (rc == 0) {
        rc = submit(link);
    }
    if (rc < 0) { /* a part of a message may be on its way: nothing may follow it */
        note_error(link, rc, "write to");
        go(link);
        return rc == -ENOMEM ? rc : -ENOTCONN;
    }
    return 0;
}

size_t tf_link_queued_bytes(const struct tf_link *link)
{
    return link->queued_bytes;
}

void tf_link_read_stop(struct tf_link *link)
{
    link->paused = true;
    if (link->state == LINK_OPEN) {
        (void)uv_read_stop((uv_stream_t *)&link->tcp);
    }
}

void tf_link_read_start(struct tf_link *link)
{
    if (!link->paused) {
        return;
    }
    link->paused = false;
    if (link->state == LINK_OPEN) { /* not from in here: on_data shall not come inside a call */
        (void)uv_timer_start(&link->timer, on_timer, 0, 0);
    }
}

void tf_link_close(struct tf_link *link, const char *reason)
{
    switch (link->state) {
    case LINK_CONNECTING:
    case LINK_SHAKING:
        note(link, 0, reason);
        go(link);
        break;
    case LINK_OPEN:
        end(link, 0, reason);
        break;
    case LINK_ENDING:
    case LINK_LINGERING:
    case LINK_GONE:
        break;
    }
}

const char *tf_link_peer(const struct tf_link *link)
{
    return link->peer_text;
}

void tf_link_ask_end(struct tf_link *link)
{
    int rc;

    if (link->state != LINK_OPEN || (SSL_get_shutdown(link->ssl) & SSL_SENT_SHUTDOWN) != 0) {
        return;
    }
    ERR_clear_error();
    (void)SSL_shutdown(link->ssl);
    rc = flush(link);
    if (rc < 0) {
        note_error(link, rc, "write to");
        go(link);
    }
}

/* ---- how far it came ------------------------------------------------------------------------ */

static uint64_t ms_between(uint64_t from_ns, uint64_t to_ns)
{
    return to_ns > from_ns ? (to_ns - from_ns) / 1000000 : 0;
}

/* What both agreed upon. With TLS 1.2 the group comes behind the certificate, and may be unknown.
 */
static void describe_hello(SSL *ssl, char *text, size_t size)
{
    const SSL_CIPHER *cipher = SSL_get_current_cipher(ssl);
    int nid = (int)SSL_get_negotiated_group(ssl);
    const char *group = EC_curve_nid2nist(nid);

    cipher = cipher != NULL ? cipher : SSL_get_pending_cipher(ssl);
    group = group != NULL ? group : OBJ_nid2sn(nid);
    (void)snprintf(text, size, "TLS %s, %s%s%s", SSL_version(ssl) == TLS1_3_VERSION ? "1.3" : "1.2",
                   cipher != NULL ? SSL_CIPHER_get_name(cipher) : "no cipher",
                   nid != NID_undef && group != NULL ? ", " : "",
                   nid != NID_undef && group != NULL ? group : "");
}

void tf_link_facts(const struct tf_link *link, struct tf_link_facts *facts)
{
    const struct tf_peer *peer = &link->peer;

    *facts = (struct tf_link_facts){.step = peer->step};
    facts->connect_ms = ms_between(link->began_ns, link->connected_ns);
    facts->hello_ms = ms_between(link->connected_ns, peer->seen_ns);
    if (peer->leaf != NULL) {
        describe_hello(link->ssl, facts->hello, sizeof facts->hello);
    }
    tf_peer_describe(peer, facts->certificate);
    memcpy(facts->identity, peer->identity, sizeof facts->identity);
}
