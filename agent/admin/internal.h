/*
 * internal.h - what the files of the admin room share.
 *
 *     conditions.c   what needs somebody, found in a status
 *     facts.c        one look at the agent: status, conditions, process
 *     metrics.c      facts as Prometheus' text
 *     status.c       facts as JSON
 *     page.html      what a browser gets
 *     host.c         by which names it may be asked
 *     admin.c        the endpoint: addresses, routes, headers; the look each second
 */
#ifndef TAFFRAIL_ADMIN_INTERNAL_H
#define TAFFRAIL_ADMIN_INTERNAL_H

#include "taffrail/admin.h"
#include "taffrail/status.h"

static inline uint64_t tf_admin_sum(const uint64_t *values, size_t count)
{
    uint64_t total = 0;

    for (size_t i = 0; i < count; i++) {
        total += values[i];
    }
    return total;
}

/* How long the oldest record waits for this output, 0 when none does. */
static inline double tf_admin_oldest_s(const struct tf_feed_status *feed, int64_t now_ns)
{
    int64_t oldest_ns = feed->oldest_pending_ns;

    return oldest_ns != 0 && now_ns > oldest_ns ? (double)(now_ns - oldest_ns) / 1e9 : 0;
}

/* What it counts was redacted: neither withheld by a limit nor dropped. */
static inline bool tf_admin_is_redaction(const struct tf_status_rule *rule)
{
    return strcmp(rule->kind, "redact") == 0 && !rule->is_withheld && !rule->is_dropped;
}

/* ---- conditions.c --------------------------------------------------------------------------- */

enum tf_condition_code {
    TF_CONDITION_DISK_ERROR,
    TF_CONDITION_SPOOL_FULL,
    TF_CONDITION_BOOKS,
    TF_CONDITION_GAP,
    TF_CONDITION_KEY_MISSING,
    TF_CONDITION_CERT_EXPIRED,
    TF_CONDITION_OUTPUT_DOWN,
    TF_CONDITION_SPOOL_FILLING,
    TF_CONDITION_INPUT_UNREADABLE,
    TF_CONDITION_KUBERNETES_DOWN,
    TF_CONDITION_WITHHELD,
    TF_CONDITION_SEAL_LOST,
    TF_CONDITION_CLOCK,
    TF_CONDITION_CERT_EXPIRING,
    TF_CONDITION_REDACTION_OFF,
    TF_CONDITION_SANDBOX_PARTIAL,
    TF_CONDITIONS
};

/* What is the same for all conditions of a code. */
struct tf_condition_kind {
    const char *code;  /* a heading of docs/conditions.md */
    const char *safe;  /* what is safe meanwhile */
    bool blocks_ready; /* the agent cannot do its work */
    bool is_logged;    /* by us: nobody else says it (tests/test_words.py) */
    bool is_audited;   /* the same */
};
extern const struct tf_condition_kind tf_condition_kinds[TF_CONDITIONS];

#define TF_CONDITION_SUBJECT_BYTES 80u
#define TF_CONDITION_TEXT_BYTES    384u

struct tf_condition {
    enum tf_condition_code code;
    char subject[TF_CONDITION_SUBJECT_BYTES]; /* a configured name, or "" */
    char text[TF_CONDITION_TEXT_BYTES];       /* how it stands now, a sentence */
    bool holds;
    int64_t since_ns;  /* wall clock, when it began to hold */
    uint64_t asked_ms; /* looks say so since then; 0: they do not */
    uint64_t value;    /* of what has to rise for it to hold, at the last look */
    uint64_t rose_ms;  /* when that rose last; 0: never */
};

struct tf_conditions {
    struct tf_condition *items; /* one for each code and subject, whether it holds or not */
    size_t count, capacity;
    int64_t clock_ns;    /* at the last look, the wall clock less the machine's age; 0: none yet */
    uint64_t clock_sets; /* times that it was set since the start */
    /* It begins (holds), or is over. May be NULL. */
    void (*on_change)(void *ctx, const struct tf_condition *condition);
    void *ctx;
};

struct tf_certificate {
    char use[TF_CONDITION_SUBJECT_BYTES]; /* "output/NAME", "input/NAME", "admin" */
    int64_t until_s;
};
#define TF_CERTIFICATES_MAX 97u

struct tf_look {
    const struct tf_status *status;
    const struct tf_certificate *certificates;
    size_t certificate_count;
    int64_t now_ns;  /* wall clock */
    int64_t boot_ns; /* since the machine's start, asleep or not, at the same time */
    uint64_t now_ms; /* the loop's, above 0 */
};

/* Takes one look: conditions begin and end. Not while it stops. 0, or -ENOMEM: nothing was looked
 * at. */
int tf_conditions_look(struct tf_conditions *conditions, const struct tf_look *look);
void tf_conditions_fini(struct tf_conditions *conditions);
/* Calls fn for each that holds, the worst first. */
void tf_conditions_each(const struct tf_conditions *conditions,
                        void (*fn)(void *ctx, const struct tf_condition *condition), void *ctx);
bool tf_conditions_hold(const struct tf_conditions *conditions, enum tf_condition_code code);

/* ---- facts.c -------------------------------------------------------------------------------- */

struct tf_facts {
    const char *version, *revision, *host;
    char digest[TF_CONFIG_DIGEST_BYTES];
    struct tf_reloads reloads;
    struct tf_status status;
    const struct tf_conditions *conditions;
    struct tf_certificate certificates[TF_CERTIFICATES_MAX];
    size_t certificate_count;
    int64_t now_ns, started_ns;
    struct tf_histogram loop_delay;
    uint64_t log_lines[TF_LOG_ERROR + 1];
    double cpu_s;
    uint64_t resident_bytes, open_fds, max_fds;
    bool is_ready;
};

/* Fills certificates from status; admin_until_s 0: it has none. */
void tf_facts_certificates(struct tf_facts *facts, int64_t admin_until_s);
/* What the kernel says of the process. */
void tf_facts_process(struct tf_facts *facts);
/* Inputs read, the spool takes what they read, nothing stops. */
bool tf_facts_ready(const struct tf_status *status, const struct tf_conditions *conditions);

/* ---- metrics.c, status.c -------------------------------------------------------------------- */

/* Appends Prometheus' text format, version 0.0.4. The sticky error of out tells. */
void tf_metrics_write(const struct tf_facts *facts, struct tf_buf *out);
/* Appends one JSON object, docs/admin.md. The same. */
void tf_status_write(const struct tf_facts *facts, struct tf_buf *out);
/* Appends a line for each condition that keeps it from being ready, or "ready". */
void tf_ready_write(const struct tf_facts *facts, struct tf_buf *out);

/* ---- host.c --------------------------------------------------------------------------------- */

/* An address in numbers or localhost, with or without a port. NULL: the header was not sent. */
bool tf_admin_host_is_ours(const char *host);

/* ---- page.c, made by CMake ------------------------------------------------------------------ */

extern const unsigned char tf_page[]; /* page.html */
extern const size_t tf_page_bytes;
/* Its Content-Security-Policy: its own script and style, by their hashes, and nothing else. */
extern const char tf_page_policy[];

#endif
