/*
 * sink.c - the bench's receiver: acknowledges forward messages over mutual TLS and throws them
 * away.
 *
 *     sink CA CERT KEY [PORT]
 *
 * Prints its port, a free one unless PORT is given, as the first line. It does as little as a
 * receiver can, so that what is measured is the sender. It ends by SIGTERM and then prints how many
 * messages and bytes it had.
 */
#include <arpa/inet.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include <uv.h>

#include "taffrail/decode.h"
#include "taffrail/event.h"
#include "taffrail/tls.h"

#define HANDSHAKE_MS 10000u

struct sink {
    uv_loop_t loop;
    uv_tcp_t listener;
    uv_signal_t stop;
    struct tf_tls *tls;
    uint64_t messages, bytes;
};

struct peer {
    struct sink *sink;
    struct tf_link *link;
    struct tf_buf input;
    struct tf_msgpack_scan scan;
};

static int acknowledge(struct peer *peer, struct tf_slice message)
{
    struct tf_message_head head = {0};
    struct tf_buf ack;
    struct tf_slice part;
    int rc = tf_message_head(message, &head);

    peer->sink->messages++;
    peer->sink->bytes += message.size;
    if (rc < 0 || head.chunk.size == 0) {
        return rc;
    }
    tf_buf_init(&ack, 4096);
    tf_msgpack_map(&ack, 1);
    tf_msgpack_text(&ack, tf_slice_text("ack"));
    tf_msgpack_text(&ack, head.chunk);
    part = tf_buf_slice(&ack);
    rc = ack.error != 0 ? ack.error : tf_link_write(peer->link, &part, 1);
    tf_buf_fini(&ack);
    return rc;
}

static int on_data(void *ctx, const char *data, size_t size)
{
    struct peer *peer = ctx;
    int rc = tf_buf_append(&peer->input, data, size);
    size_t at = 0;

    while (rc == 0 && at < peer->input.size) {
        struct tf_slice rest = tf_slice(peer->input.data + at, peer->input.size - at);
        int64_t message_bytes = tf_msgpack_size(rest, &peer->scan);

        if (message_bytes <= 0) {
            rc = (int)message_bytes;
            break;
        }
        peer->scan = (struct tf_msgpack_scan){0};
        rc = acknowledge(peer, tf_slice(rest.data, (size_t)message_bytes));
        at += (size_t)message_bytes;
    }
    tf_buf_consume(&peer->input, at);
    return rc;
}

static void on_open(void *ctx, const char *identity)
{
    (void)ctx;
    (void)identity;
}

static void on_drained(void *ctx)
{
    (void)ctx;
}

static void on_closed(void *ctx, int status, const char *reason)
{
    struct peer *peer = ctx;

    (void)fprintf(stderr, "closed: %d %s\n", status, reason);
    tf_buf_fini(&peer->input);
    free(peer);
}

static void on_connection(uv_stream_t *listener, int status)
{
    struct peer *peer = calloc(1, sizeof *peer);
    struct tf_link_events events = {.ctx = peer,
                                    .on_open = on_open,
                                    .on_data = on_data,
                                    .on_drained = on_drained,
                                    .on_closed = on_closed};

    if (peer == NULL || status < 0) {
        free(peer);
        return;
    }
    peer->sink = listener->data;
    tf_buf_init(&peer->input, TF_MESSAGE_BYTES_MAX + (1u << 20));
    if (tf_link_accept(listener, peer->sink->tls, HANDSHAKE_MS, &events, &peer->link) < 0) {
        free(peer);
    }
}

static void on_stop(uv_signal_t *signal, int number)
{
    struct sink *sink = signal->data;

    (void)number;
    (void)printf("%llu messages, %llu bytes\n", (unsigned long long)sink->messages,
                 (unsigned long long)sink->bytes);
    (void)fflush(stdout);
    _exit(0);
}

static int serve(struct sink *sink, int port)
{
    struct sockaddr_in address;
    int size = sizeof address;
    int rc = uv_ip4_addr("127.0.0.1", port, &address);

    (void)uv_tcp_init(&sink->loop, &sink->listener);
    (void)uv_signal_init(&sink->loop, &sink->stop);
    sink->listener.data = sink;
    sink->stop.data = sink;
    if (rc == 0) {
        rc = uv_tcp_bind(&sink->listener, (const struct sockaddr *)&address, 0);
    }
    if (rc == 0) {
        rc = uv_listen((uv_stream_t *)&sink->listener, 16, on_connection);
    }
    if (rc == 0) {
        rc = uv_signal_start(&sink->stop, on_stop, SIGTERM);
    }
    if (rc == 0) {
        rc = uv_tcp_getsockname(&sink->listener, (struct sockaddr *)&address, &size);
    }
    if (rc == 0) {
        (void)printf("%d\n", ntohs(address.sin_port));
        (void)fflush(stdout);
        rc = uv_run(&sink->loop, UV_RUN_DEFAULT);
    }
    return rc;
}

int main(int argc, char **argv)
{
    struct sink sink = {0};
    struct tf_tls_options options = {0};
    struct tf_error err;

    tf_error_init(&err);
    if (argc != 4 && argc != 5) {
        (void)fprintf(stderr, "usage: sink CA CERT KEY [PORT]\n");
        return 2;
    }
    options.ca.text = argv[1];
    options.cert.text = argv[2];
    options.key.text = argv[3];
    if (tf_tls_server_new(&options, NULL, &sink.tls, &err) < 0 || uv_loop_init(&sink.loop) < 0) {
        (void)tf_error_print(&err, stderr);
        return 2;
    }
    return serve(&sink, argc == 5 ? atoi(argv[4]) : 0) == 0 ? 0 : 3;
}
