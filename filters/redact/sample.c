/*
 * sample.c - ordinary lines of logs, always the same ones, to measure and to weigh with.
 *
 * SAMPLE_BYTES of lines as programs write them: access logs, key=value, JSON, stack traces, kernel
 * and database messages, made from patterns with a counter in place of chance. They hold no secret:
 * so what is measured on them is what a rule costs all the others' records.
 */
#include "sample.h"

#include <stdlib.h>

#include "prefilter.h"

#define SAMPLE_BYTES 65536u
#define LINE_BYTES   512u

/* %d a number, %x eight hexadecimal digits, %u a UUID, %i an address, %t a time, %w a word. */
static const char *const patterns[] = {
    "%i - - [23/Nov/2026:%t +0000] \"GET /api/v1/%w/%d?page=%d&sort=name HTTP/1.1\" 200 %d "
    "\"https://shop.example.com/%w\" \"Mozilla/5.0 (X11; Linux x86_64)\"",
    "time=2026-11-23T%tZ level=info msg=\"request completed\" method=POST path=/%w/%d status=201 "
    "duration_ms=%d trace_id=%x%x%x%x",
    "{\"time\":\"2026-11-23T%t.%dZ\",\"level\":\"INFO\",\"logger\":\"com.example.%w\",\"message\":"
    "\"processed %d items\",\"requestId\":\"%u\"}",
    "2026-11-23 %t.%d ERROR [http-nio-8080-exec-%d] c.e.%w.OrderService - could not load order %d",
    "\tat com.example.%w.OrderService.load(OrderService.java:%d)",
    "I1123 %t.%d       1 controller.go:%d] \"Reconciling\" kind=\"Deployment\" name=\"%w-%x\"",
    "[%d.%d] eth0: link up, 1000 Mbps, full duplex, lpa 0x%x",
    "2026-11-23 %t UTC [%d] LOG:  duration: %d.%d ms  statement: SELECT id, name FROM %w WHERE id "
    "= "
    "$1",
    "Nov 23 %t node-7 sshd[%d]: Accepted publickey for deploy from %i port %d ssh2: RSA "
    "SHA256:%x%x%x%x",
    "level=debug component=%w msg=\"token expired\" user_id=%d session=%u",
    "pulling image registry.example.com/%w:%d.%d.%d@sha256:%x%x%x%x%x%x%x%x",
    "%i:%d [23/Nov/2026:%t.%d] https~ %w/srv%d 0/0/1/%d/%d 200 %d - - ---- 12/12/3/1/0 0/0",
    "worker %d: cache hit ratio 0.%d, %d keys, evicted %d, uptime %d s",
    "WARN  retrying %w (attempt %d of 5) after connection reset by peer; next try in %d ms",
    "{\"event\":\"checkout\",\"cart\":{\"id\":\"%u\",\"items\":%d,\"total\":\"%d.%d EUR\"},\"ok\":"
    "true}",
    "GET /static/js/main.%x.chunk.js 304 0 - %d.%d ms",
};

static const char *const words[] = {
    "orders",  "users",    "catalog", "payment", "search",    "inventory", "session", "gateway",
    "billing", "shipping", "profile", "metrics", "scheduler", "importer",  "mailer",  "auth",
};

/* Numbers that look like chance and are always the same. */
static uint32_t draw(uint64_t *seed)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*seed >> 33);
}

static void append_place(struct tf_buf *to, char kind, uint64_t *seed)
{
    uint32_t a = draw(seed), b = draw(seed);

    switch (kind) {
    case 'd':
        (void)tf_buf_printf(to, "%u", a % (b % 2 == 0 ? 1000 : 100000));
        break;
    case 'x':
        (void)tf_buf_printf(to, "%08x", a);
        break;
    case 'u':
        (void)tf_buf_printf(to, "%08x-%04x-4%03x-8%03x-%08x%04x", a, b & 0xffff, b >> 16 & 0xfff,
                            a & 0xfff, b, a >> 16 & 0xffff);
        break;
    case 'i':
        (void)tf_buf_printf(to, "10.%u.%u.%u", a % 256, b % 256, (a >> 8) % 256);
        break;
    case 't':
        (void)tf_buf_printf(to, "%02u:%02u:%02u", a % 24, b % 60, (a >> 8) % 60);
        break;
    default:
        (void)tf_buf_append_text(to, words[a % TF_COUNT(words)]);
    }
}

static void append_line(struct tf_buf *to, const char *pattern, uint64_t *seed)
{
    for (; *pattern != '\0'; pattern++) {
        if (*pattern == '%') {
            append_place(to, *++pattern, seed);
        } else {
            (void)tf_buf_append_byte(to, (uint8_t)*pattern);
        }
    }
    (void)tf_buf_append_byte(to, '\n');
}

struct tf_redact_sample tf_redact_sample_new(void)
{
    struct tf_redact_sample sample = {.text = NULL};
    uint64_t seed = 1;
    struct tf_buf out;

    tf_buf_init(&out, SAMPLE_BYTES + LINE_BYTES + TF_REDACT_READAHEAD_BYTES);
    for (size_t i = 0; out.error == 0 && out.size < SAMPLE_BYTES; i++) {
        append_line(&out, patterns[i % TF_COUNT(patterns)], &seed);
        sample.lines++;
    }
    if (tf_buf_reserve(&out, TF_REDACT_READAHEAD_BYTES) < 0) {
        tf_buf_fini(&out);
        return sample;
    }
    memset(out.data + out.size, 0, TF_REDACT_READAHEAD_BYTES);
    sample.text = out.data; /* taken from the buffer */
    sample.size = out.size;
    return sample;
}
