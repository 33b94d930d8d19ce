/*
 * cost.c - what a rule costs, in ns a line of a sample that is always the same.
 *
 * The sample is SAMPLE_BYTES of lines as programs write them: access logs, key=value, JSON, stack
 * traces, kernel and database messages, made from patterns with a counter in place of chance. It
 * holds no secret, so that what is measured is what a rule costs all the others' records.
 *
 * A rule is measured in an engine beside a rule that nothing matches, and that one alone is taken
 * off: so the pass that all rules share is not counted. The best of some passes counts, as the
 * machine has other things to do; a pass is bounded by the engine's limits, their number by time.
 */
#include "ruleset.h"

#include <errno.h>
#include <stdlib.h>

#include <uv.h>

#include "engine.h"

#define SAMPLE_BYTES 65536u
#define LINE_BYTES   512u
#define PASSES_MAX   24u
#define BLOCK_BYTES  262144u  /* looked through at once, as a batch's text is */
#define MEASURE_NS   2000000u /* no further pass begins after so long */

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

/* ---- the sample ----------------------------------------------------------------------------- */

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

/* ---- measuring ------------------------------------------------------------------------------ */

/* Nothing of the sample, or of any log, matches it. */
static const struct tf_redact_rule idle_rule = {
    .id = "idle", .pack = "none", .regex = "\x01\x02\x03\x04", .keywords = {"\x01\x02\x03\x04"}};

/* Looks through a block of whole lines, then at each line, as the filter does. */
static void scan_block(struct tf_redact_scan *scan, const char *text, size_t size)
{
    size_t at = 0;

    tf_redact_scan_text(scan, text, size);
    while (at < size) {
        const char *newline = memchr(text + at, '\n', size - at);
        size_t end = newline != NULL ? (size_t)(newline - text) : size;

        tf_redact_scan_value(scan, text, at, end - at);
        at = end + 1;
    }
}

static uint64_t scan_sample(struct tf_redact_scan *scan, const struct tf_redact_sample *sample)
{
    uint64_t start = uv_hrtime();
    size_t at = 0;

    while (at < sample->size) {
        size_t size = sample->size - at;
        const char *newline;

        if (size > BLOCK_BYTES) { /* to the last newline, or if there is none to the next */
            newline = memrchr(sample->text + at, '\n', BLOCK_BYTES);
            newline = newline != NULL ? newline : memchr(sample->text + at, '\n', size);
            size = newline != NULL ? (size_t)(newline - sample->text) + 1 - at : size;
        }
        scan_block(scan, sample->text + at, size);
        at += size;
    }
    return uv_hrtime() - start;
}

int tf_redact_rules_time(const struct tf_redact_sample *sample, const struct tf_redact_rule *rules,
                         size_t count, const bool *on, double *ns)
{
    const struct tf_redact_engine_args args = {.rules = rules, .count = count, .on = on};
    struct tf_redact_engine_error error;
    struct tf_redact_engine *engine = NULL;
    struct tf_redact_scan *scan = NULL;
    uint64_t best = UINT64_MAX, sum = 0;
    int rc = tf_redact_engine_new(&args, &engine, &error);

    if (rc == 0) {
        scan = tf_redact_scan_new(engine);
        rc = scan == NULL ? -ENOMEM : 0;
    }
    for (unsigned i = 0; rc == 0 && i < PASSES_MAX && sum < MEASURE_NS; i++) {
        uint64_t taken = scan_sample(scan, sample);

        sum += taken;
        best = taken < best ? taken : best;
    }
    tf_redact_scan_free(scan);
    tf_redact_engine_free(engine);
    if (rc == 0) {
        *ns = (double)best;
    }
    return rc;
}

int tf_redact_rules_cost(const struct tf_redact_sample *sample, const struct tf_redact_rule *rules,
                         size_t count, const bool *wanted, double *ns_a_line)
{
    const bool on[2] = {true, true};
    struct tf_redact_rule *pair = calloc(2, sizeof *pair);
    double idle = 0, taken = 0;
    int rc = pair == NULL ? -ENOMEM : 0;

    if (rc == 0) {
        pair[0] = idle_rule;
        rc = tf_redact_rules_time(sample, pair, 1, on, &idle);
    }
    for (size_t i = 0; rc == 0 && i < count; i++) {
        if (wanted != NULL && !wanted[i]) {
            continue;
        }
        pair[1] = rules[i];
        rc = tf_redact_rules_time(sample, pair, 2, on, &taken);
        ns_a_line[i] = taken > idle ? (taken - idle) / (double)sample->lines : 0;
    }
    free(pair);
    return rc;
}

/* ---- the budget ----------------------------------------------------------------------------- */

static int judge(const struct tf_redact_rule *rules, size_t count, const double *costs,
                 double budget_ns, struct tf_error *err)
{
    const struct tf_redact_rule *dearest = NULL;
    double sum = 0, most = -1;

    for (size_t i = 0; i < count; i++) {
        if (rules[i].allow_slow && costs[i] > budget_ns) {
            tf_warning_add(err, &rules[i].at,
                           "rule \"%s\" costs %.0f ns a line of ordinary logs; "
                           "allow_slow lets it",
                           rules[i].id, costs[i]);
        } else if (!rules[i].allow_slow) {
            sum += costs[i];
            dearest = costs[i] > most ? &rules[i] : dearest;
            most = costs[i] > most ? costs[i] : most;
        }
    }
    if (sum <= budget_ns || dearest == NULL) {
        return 0;
    }
    return tf_error_add(
        err, &dearest->at,
        "rule \"%s\" costs %.0f ns a line of ordinary logs, all own rules %.0f, and "
        "the budget is %.0f; let its regex begin with a literal, give it keywords "
        "or requires, or write allow_slow: true",
        dearest->id, most, sum, budget_ns);
}

int tf_redact_ruleset_check_cost(const struct tf_redact_ruleset *set, const bool *on,
                                 uint64_t budget_ns, struct tf_error *err)
{
    size_t count;
    const struct tf_redact_rule *rules = tf_redact_ruleset_rules(set, &count);
    struct tf_redact_sample sample = tf_redact_sample_new();
    double *costs = calloc(count + 1, sizeof *costs);
    bool *wanted = calloc(count + 1, sizeof *wanted);
    size_t own = 0;
    int rc = sample.text == NULL || costs == NULL || wanted == NULL ? -ENOMEM : 0;

    for (; rc == 0 && own < count && rules[own].is_own; own++) {
        wanted[own] = on != NULL ? on[own] : (rules[own].flags & TF_REDACT_OFF) == 0;
    }
    if (rc == 0 && own > 0) {
        rc = tf_redact_rules_cost(&sample, rules, own, wanted, costs);
    }
    if (rc == 0) {
        rc = judge(rules, own, costs, (double)budget_ns, err);
    }
    free(wanted);
    free(costs);
    free(sample.text);
    return rc;
}
