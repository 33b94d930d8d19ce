/*
 * redact_bench.c - how fast redaction is: ordinary lines, and the worst there is.
 *
 * Prints MB/s of text and of docker input (the same lines with their JSON around them) for 40 and
 * 220 rules of the default set, for all of that, by each kernel of this machine, and for the whole
 * filter; then the slowest attack texts of redact_attack.h through the filter. One thread, CPU
 * time, the best of several rounds.
 *
 * What is promised is a ratio to trying each rule on each line with PCRE2, in the same run; exit 1
 * when it is missed. With --attacks only those are run, with --lines only the others.
 */
#include <errno.h>
#include <stdio.h>
#include <time.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "../../filters/redact/redact.h"
#include "../unit/redact_attack.h"

#define PLAIN_LINES    800u /* of them, on which each rule is tried */
#define TIMES_40       12.0 /* so many times as fast as that are 40 rules, at least */
#define TIMES_220      30.0
#define TIMES_WORST    4.0 /* and the worst attack, against all rules on ordinary lines */
#define LINES          40000u
#define LINE_MAX_BYTES 1024u
#define ROUNDS         9u
#define ATTACK_LINES   16u
#define ROUNDS_WORST   30u
#define WORST_MAX      24u /* that are measured well */
#define WORST_SHOWN    8u
#define KEYWORDS       2u /* of each rule, that attacks are made from */
#define BATCH_BYTES    (256u << 10)
#define DOCKER_BYTES   76u /* {"log":"...\n","stream":"stdout","time":"..."} around a line */

struct text {
    char *bytes;
    size_t size;
    uint32_t at[LINES], sizes[LINES];
    uint32_t count;
    uint64_t seed;
};

static uint32_t draw(struct text *text, uint32_t below)
{
    text->seed = text->seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(text->seed >> 33) % below;
}

static double now_s(void)
{
    struct timespec time;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time); /* other jobs do not count */
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

/* An ordinary line of one of several services. */
static int write_line(struct text *text, char *out)
{
    static const char *const words[] = {"checkout", "inventory", "payments", "session", "catalog",
                                        "worker",   "scheduler", "gateway",  "profile", "search"};
    const char *word = words[draw(text, TF_COUNT(words))];
    unsigned a = draw(text, 100000), b = draw(text, 250), c = draw(text, 60),
             d = draw(text, 1u << 30);

    switch (draw(text, 8)) {
    case 0:
        return snprintf(
            out, LINE_MAX_BYTES,
            "10.%u.%u.%u - - [24/Nov/2026:08:%02u:%02u +0000] \"GET /api/v1/%s/%u?page=%u "
            "HTTP/1.1\" 200 %u \"-\" \"Mozilla/5.0 (X11; Linux x86_64)\"",
            b, c, b, c, c, word, a, c, a);
    case 1:
        return snprintf(out, LINE_MAX_BYTES,
                        "{\"level\":\"info\",\"ts\":\"2026-11-24T08:%02u:%02u.%03uZ\",\"caller\":"
                        "\"%s/handler.go:%u\",\"msg\":\"request done\",\"trace_id\":"
                        "\"%08x%08x%08x%08x\",\"latency_ms\":%u,\"status\":200}",
                        c, c, b, word, b, d, a, d, a, b);
    case 2:
        return snprintf(
            out, LINE_MAX_BYTES,
            "2026-11-24 08:%02u:%02u,%03u INFO  [%s-%u] c.e.%s.Service - processed order "
            "%08x-%04x-%04x-%04x-%012x in %u ms",
            c, c, b, word, c, word, d, a & 0xffff, b, c, d, b);
    case 3:
        return snprintf(out, LINE_MAX_BYTES,
                        "level=debug ts=2026-11-24T08:%02u:%02uZ component=%s msg=\"cache miss\" "
                        "key=user:%u:cart ttl=%us node=ip-10-%u-%u-7",
                        c, c, word, a, c, b, c);
    case 4:
        return snprintf(out, LINE_MAX_BYTES,
                        "time=\"2026-11-24T08:%02u:%02uZ\" level=warning msg=\"token expired, "
                        "refreshing session\" user_id=%u service=%s",
                        c, c, a, word);
    case 5:
        return snprintf(
            out, LINE_MAX_BYTES,
            "    at com.example.%s.internal.RequestProcessor.handle(RequestProcessor.java:%u)",
            word, b);
    case 6:
        return snprintf(
            out, LINE_MAX_BYTES,
            "pulled image registry.example.com/%s@sha256:%08x%08x%08x%08x%08x%08x%08x%08x", word, d,
            a, d, b, d, c, d, a);
    default:
        return snprintf(out, LINE_MAX_BYTES,
                        "I1124 08:%02u:%02u.%06u       1 controller.go:%u] Reconciling %s/%s-%x "
                        "generation=%u",
                        c, c, a, b, word, word, a, c);
    }
}

/* One line in a hundred has an example of a rule in it. */
static struct text *text_new(const struct tf_redact_rule *rules, size_t count)
{
    struct text *text = calloc(1, sizeof *text);

    text->bytes = calloc(1, (size_t)LINES * LINE_MAX_BYTES * 2 + TF_REDACT_READAHEAD_BYTES);
    text->seed = 20261124;
    while (text->count < LINES) {
        int size = write_line(text, text->bytes + text->size);

        if (draw(text, 100) == 0) {
            const char *example = rules[draw(text, (uint32_t)count)].match[0];

            if (example != NULL && strlen(example) < LINE_MAX_BYTES) {
                size += snprintf(text->bytes + text->size + size, LINE_MAX_BYTES, " %s", example);
            }
        }
        text->at[text->count] = (uint32_t)text->size;
        text->sizes[text->count++] = (uint32_t)size;
        text->size += (size_t)size;
        text->bytes[text->size++] = '\n';
    }
    return text;
}

static struct tf_redact_scan *open_scan(const struct tf_redact_engine_args *args,
                                        struct tf_redact_engine **engine)
{
    struct tf_redact_engine_error error;
    int rc = tf_redact_engine_new(args, engine, &error);

    if (rc < 0) {
        if (rc != -ENOTSUP) {
            fprintf(stderr, "rule %s: %s\n", args->rules[error.rule].id, error.text);
        }
        return NULL;
    }
    return tf_redact_scan_new(*engine);
}

/* Scans all lines once; blocks of about 256 KiB, as batches are. Returns how many spans. */
static uint64_t scan_lines(struct tf_redact_scan *scan, const struct text *text)
{
    uint64_t spans = 0;
    uint32_t first = 0;

    while (first < text->count) {
        const char *block = text->bytes + text->at[first];
        uint32_t end = first;

        while (end < text->count && text->at[end] - text->at[first] < (256u << 10)) {
            end++;
        }
        tf_redact_scan_text(scan, block,
                            text->at[end - 1] + text->sizes[end - 1] + 1 - text->at[first]);
        for (uint32_t i = first; i < end; i++) {
            tf_redact_scan_value(scan, block, text->at[i] - text->at[first], text->sizes[i]);
            if (scan->span_count > 0 || scan->reason != NULL) {
                tf_redact_scan_merge(scan, text->sizes[i]);
                spans += scan->span_count;
            }
        }
        first = end;
    }
    return spans;
}

/* Returns MB/s of text by the fastest kernel. */
static double measure_lines(const struct tf_redact_rule *rules, size_t count, const char *label,
                            const bool *on, bool decode)
{
    static const char *const names[TF_REDACT_KERNELS] = {"auto", "scalar", "ssse3", "avx2", "neon"};
    struct text *text = text_new(rules, count);
    double fastest = 0;

    for (unsigned kernel = 1; kernel < TF_REDACT_KERNELS; kernel++) {
        struct tf_redact_engine_args args = {.rules = rules,
                                             .count = count,
                                             .on = on,
                                             .decode_base64 = decode,
                                             .kernel = (enum tf_redact_kernel)kernel};
        struct tf_redact_engine *engine = NULL;
        struct tf_redact_scan *scan = open_scan(&args, &engine);
        double best = 1e9;
        uint64_t spans = 0;

        for (unsigned round = 0; scan != NULL && round < ROUNDS; round++) {
            double start = now_s();

            spans = scan_lines(scan, text);
            best = now_s() - start < best ? now_s() - start : best;
        }
        if (scan != NULL) {
            printf("%-10s %-6s %6.0f MB/s of text %6.0f MB/s of docker input %5.0f ns a line, %.2f "
                   "tries a line, %llu spans\n",
                   label, names[kernel], (double)text->size / best / 1e6,
                   ((double)text->size + DOCKER_BYTES * (double)text->count) / best / 1e6,
                   best / text->count * 1e9, (double)scan->work.attempts / ROUNDS / text->count,
                   (unsigned long long)spans);
            fastest = (double)text->size / best / 1e6 > fastest ? (double)text->size / best / 1e6
                                                                : fastest;
        }
        tf_redact_scan_free(scan);
        tf_redact_engine_free(engine);
    }
    free(text->bytes);
    free(text);
    return fastest;
}

/* How long one rule takes for lines, tried on each. */
static double try_rule(const struct tf_redact_rule *rule, const struct text *text, uint32_t lines)
{
    PCRE2_SIZE offset;
    int reason;
    pcre2_code *code = pcre2_compile((PCRE2_SPTR)rule->regex, PCRE2_ZERO_TERMINATED,
                                     PCRE2_DOLLAR_ENDONLY, &reason, &offset, NULL);
    pcre2_match_data *data = pcre2_match_data_create(8, NULL);
    double start;

    (void)pcre2_jit_compile(code, PCRE2_JIT_COMPLETE);
    start = now_s();
    for (uint32_t i = 0; i < lines; i++) {
        PCRE2_SPTR line = (PCRE2_SPTR)text->bytes + text->at[i];
        size_t at = 0;

        while (at < text->sizes[i] &&
               pcre2_match(code, line, text->sizes[i], at, 0, data, NULL) > 0) {
            at = pcre2_get_ovector_pointer(data)[1];
        }
    }
    start = now_s() - start;
    pcre2_match_data_free(data);
    pcre2_code_free(code);
    return start;
}

/* Each rule on each line; returns MB/s of text. */
static double measure_plain(const struct tf_redact_rule *rules, size_t count, const char *label,
                            const bool *on)
{
    struct text *text = text_new(rules, count);
    double taken = 0, mb_s;

    for (size_t i = 0; i < count; i++) {
        if (on != NULL ? on[i] : (rules[i].flags & TF_REDACT_OFF) == 0) {
            taken += try_rule(&rules[i], text, PLAIN_LINES);
        }
    }
    mb_s = text->at[PLAIN_LINES] / taken / 1e6;
    printf("%-10s each rule on each line: %.1f MB/s of text, %.0f ns a line\n", label, mb_s,
           taken / PLAIN_LINES * 1e9);
    free(text->bytes);
    free(text);
    return mb_s;
}

/* Prints a ratio; false when it is less than what is promised. */
static bool compare(const char *what, double mb_s, double plain_mb_s, double promised)
{
    bool is_kept = mb_s >= promised * plain_mb_s;

    printf("%s: %.1f times as fast as each rule on each line, %.0f is promised%s\n", what,
           mb_s / plain_mb_s, promised, is_kept ? "" : ": NOT KEPT");
    return is_kept;
}

/* The filter as the agent runs it, with its options, and a batch for it. */
struct subject {
    void *filter, *scratch, *state;
    struct tf_batch batch;
};

static bool subject_open(struct subject *subject, const struct tf_redact_options *options)
{
    const struct tf_filter_args args = {.name = "redact", .options = options};
    struct tf_error err;
    bool ok;

    *subject = (struct subject){0};
    tf_error_init(&err);
    ok = tf_filter_redact.open(&args, &subject->filter, &err) == 0;
    (void)tf_error_print(&err, stderr);
    tf_error_fini(&err);
    if (ok) {
        subject->scratch = tf_filter_redact.scratch_new(subject->filter);
        subject->state = tf_filter_redact.state_new(subject->filter);
    }
    return ok && subject->scratch != NULL && subject->state != NULL &&
           tf_batch_init(&subject->batch) == 0;
}

static void subject_close(struct subject *subject)
{
    tf_filter_redact.state_free(subject->state);
    tf_filter_redact.scratch_free(subject->scratch);
    tf_filter_redact.close(subject->filter);
    tf_batch_fini(&subject->batch);
}

static void subject_add(struct subject *subject, const char *line, size_t size)
{
    struct tf_field *field;
    uint32_t at;

    (void)tf_batch_add_text(&subject->batch, line, size, &at);
    (void)tf_batch_add_record(&subject->batch, 1, TF_STREAM_STDOUT);
    field = tf_batch_add_field(&subject->batch, subject->batch.key_log, 3, TF_VALUE_TEXT);
    field->value.text.at = at;
    field->value.text.size = (uint32_t)size;
}

/* How long the filter takes for what was added; empties the batch. */
static double subject_run(struct subject *subject)
{
    double start = now_s(), taken;

    (void)tf_filter_redact.apply(subject->filter, subject->scratch, subject->state,
                                 &subject->batch);
    taken = now_s() - start;
    (void)tf_batch_reset(&subject->batch);
    return taken;
}

/* The default rules by the whole filter: names, escapes, spans put on texts. */
static void measure_filter(const struct tf_redact_rule *rules, size_t count)
{
    static const struct tf_redact_options options;
    struct text *text = text_new(rules, count);
    struct subject subject;
    double best = 1e9;

    if (!subject_open(&subject, &options)) {
        return;
    }
    for (unsigned round = 0; round < ROUNDS; round++) {
        double taken = 0;

        for (uint32_t i = 0; i < text->count; i++) {
            subject_add(&subject, text->bytes + text->at[i], text->sizes[i]);
            if (subject.batch.text.size >= BATCH_BYTES || i + 1 == text->count) {
                taken += subject_run(&subject);
            }
        }
        best = taken < best ? taken : best;
    }
    printf("%-10s %-6s %6.0f MB/s of text %6.0f MB/s of docker input %5.0f ns a line\n", "filter",
           "auto", (double)text->size / best / 1e6,
           ((double)text->size + DOCKER_BYTES * (double)text->count) / best / 1e6,
           best / text->count * 1e9);
    subject_close(&subject);
    free(text->bytes);
    free(text);
}

struct result {
    double mb_s;
    struct attack attack;
    size_t line;
};

static void keep_worst(struct result *worst, const struct result *result)
{
    size_t i = WORST_MAX - 1;

    if (worst[i].mb_s != 0 && result->mb_s >= worst[i].mb_s) {
        return;
    }
    for (; i > 0 && (worst[i - 1].mb_s == 0 || result->mb_s < worst[i - 1].mb_s); i--) {
        worst[i] = worst[i - 1];
    }
    worst[i] = *result;
}

/* The best of some rounds: what a busy machine adds is not the attack's. No more than one is run
 * when that is faster than `enough`. */
static double measure_attack(struct subject *subject, const struct attack *attack, size_t line,
                             unsigned rounds, double enough)
{
    char text[16384];
    size_t count = ATTACK_LINES * sizeof text / (line + 1);
    double best = 0;

    attack_write(attack, text, line);
    for (unsigned round = 0; round < rounds && (round == 0 || best < enough); round++) {
        double mb_s;

        for (size_t i = 0; i < count; i++) {
            subject_add(subject, text, line);
        }
        mb_s = (double)(count * (line + 1)) / subject_run(subject) / 1e6;
        best = mb_s > best ? mb_s : best;
    }
    return best;
}

static void print_result(const struct result *result)
{
    size_t size = result->attack.size < 48 ? result->attack.size : 48;

    printf("%7.1f MB/s  %s, lines of %zu: ", result->mb_s, result->attack.of, result->line);
    for (size_t i = 0; i < size; i++) {
        uint8_t byte = (uint8_t)result->attack.unit[i];

        putchar(byte < ' ' || byte > '~' ? '?' : byte);
    }
    putchar('\n');
}

static void try_attack(struct subject *subject, const struct attack *attack, size_t line,
                       struct result *worst)
{
    double slow = worst[WORST_MAX - 1].mb_s;
    const struct result result = {
        .mb_s = measure_attack(subject, attack, line, ROUNDS, slow == 0 ? 1e9 : slow),
        .attack = *attack,
        .line = line};

    keep_worst(worst, &result);
}

/* Returns MB/s of the slowest: all are tried, and those that seem to be the slowest measured. */
static double measure_attacks(const struct tf_redact_rule *rules, size_t count, const char *label,
                              const struct tf_redact_options *options)
{
    static const size_t lines[] = {16384, 120};
    struct result seeming[WORST_MAX] = {{0}}, worst[WORST_MAX] = {{0}};
    struct attack attack;
    struct subject subject;
    unsigned texts = 0;

    if (!subject_open(&subject, options)) {
        return 0;
    }
    for (size_t l = 0; l < TF_COUNT(lines); l++) {
        for (uint32_t i = 0; attack_plain(i, &attack); i++, texts++) {
            try_attack(&subject, &attack, lines[l], seeming);
        }
        for (size_t rule = 0; rule < count; rule++) {
            for (uint32_t i = 0; attack_of_rule(&rules[rule], KEYWORDS, i, &attack); i++, texts++) {
                try_attack(&subject, &attack, lines[l], seeming);
            }
        }
    }
    for (size_t i = 0; i < WORST_MAX; i++) {
        seeming[i].mb_s =
            measure_attack(&subject, &seeming[i].attack, seeming[i].line, ROUNDS_WORST, 1e9);
        keep_worst(worst, &seeming[i]);
    }
    printf("%u attack texts, %s; the slowest:\n", texts, label);
    for (size_t i = 0; i < WORST_SHOWN; i++) {
        print_result(&worst[i]);
    }
    subject_close(&subject);
    return worst[0].mb_s;
}

/* So many of the rules of the default set, of all packs. */
static void choose(const struct tf_redact_rule *rules, size_t count, size_t on, size_t wanted,
                   bool *chosen)
{
    size_t seen = 0;

    memset(chosen, 0, TF_REDACT_RULES_MAX);
    for (size_t i = 0; i < count; i++) {
        if ((rules[i].flags & TF_REDACT_OFF) == 0) {
            chosen[i] = (seen + 1) * wanted / on > seen * wanted / on;
            seen++;
        }
    }
}

static bool run_lines(const struct tf_redact_rule *rules, size_t count)
{
    bool few[TF_REDACT_RULES_MAX], many[TF_REDACT_RULES_MAX];
    size_t on = 0;
    bool ok;

    for (size_t i = 0; i < count; i++) {
        on += (rules[i].flags & TF_REDACT_OFF) == 0 ? 1 : 0;
    }
    choose(rules, count, on, 40, few);
    choose(rules, count, on, 220, many);
    ok = compare("40 rules", measure_lines(rules, count, "40 rules", few, false),
                 measure_plain(rules, count, "40 rules", few), TIMES_40);
    ok = compare("220 rules", measure_lines(rules, count, "220 rules", many, false),
                 measure_plain(rules, count, "220 rules", many), TIMES_220) &&
         ok;
    (void)measure_lines(rules, count, "default", NULL, false);
    (void)measure_lines(rules, count, "and base64", NULL, true);
    measure_filter(rules, count);
    return ok;
}

static bool run_attacks(const struct tf_redact_rule *rules, size_t count)
{
    struct tf_text base64 = {.text = "base64"}, pii = {.text = "pii"};
    struct tf_redact_options options = {.replacement = {.text = NULL}};
    bool ok = compare("the worst attack", measure_attacks(rules, count, "default rules", &options),
                      measure_plain(rules, count, "default", NULL), TIMES_WORST);

    options.decode = (struct tf_texts){.items = &base64, .count = 1};
    options.enable = (struct tf_texts){.items = &pii, .count = 1};
    (void)measure_attacks(rules, count, "with pii and base64", &options);
    return ok;
}

int main(int argc, char **argv)
{
    bool lines = argc < 2 || strcmp(argv[1], "--lines") == 0;
    bool attacks = argc < 2 || strcmp(argv[1], "--attacks") == 0;
    struct tf_redact_ruleset *set = NULL;
    const struct tf_redact_rule *rules;
    struct tf_error err;
    size_t count;
    bool ok = true;

    tf_error_init(&err);
    if (tf_redact_ruleset_new(NULL, &set, &err) < 0) {
        fprintf(stderr, "the rules cannot be loaded\n");
        return 1;
    }
    rules = tf_redact_ruleset_rules(set, &count);
    if (lines) {
        ok = run_lines(rules, count);
    }
    if (attacks) {
        ok = run_attacks(rules, count) && ok;
    }
    tf_redact_ruleset_free(set);
    tf_error_fini(&err);
    return ok ? 0 : 1;
}
