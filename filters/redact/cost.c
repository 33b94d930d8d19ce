/*
 * cost.c - what a rule costs, in ns a line of a sample that is always the same (sample.c).
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

#define PASSES_MAX    24u
#define BLOCK_BYTES   262144u /* looked through at once, as a batch's text is */
#define BAD_BYTES_MIN 512u
#define BAD_BYTES_MAX 8192u
#define MEASURE_NS    2000000u /* no further pass begins after so long */

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

int tf_redact_engine_time(const struct tf_redact_engine *engine,
                          const struct tf_redact_sample *sample, double *ns)
{
    struct tf_redact_scan *scan = tf_redact_scan_new(engine);
    uint64_t best = UINT64_MAX, sum = 0;

    if (scan == NULL) {
        return -ENOMEM;
    }
    for (unsigned i = 0; i < PASSES_MAX && sum < MEASURE_NS; i++) {
        uint64_t taken = scan_sample(scan, sample);

        sum += taken;
        best = taken < best ? taken : best;
    }
    tf_redact_scan_free(scan);
    *ns = (double)best;
    return 0;
}

int tf_redact_rules_time(const struct tf_redact_sample *sample, const struct tf_redact_rule *rules,
                         size_t count, const bool *on, double *ns)
{
    const struct tf_redact_engine_args args = {.rules = rules, .count = count, .on = on};
    struct tf_redact_engine_error error;
    struct tf_redact_engine *engine = NULL;
    int rc = tf_redact_engine_new(&args, &engine, &error);

    if (rc == 0) {
        rc = tf_redact_engine_time(engine, sample, ns);
    }
    tf_redact_engine_free(engine);
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

/* ---- bad texts ------------------------------------------------------------------------------ */

/*
 * A rule that is searched is not bounded by what a text may cost, but by PCRE2's match limit at
 * each place. So it is tried on texts that nearly match: its examples with a blank in their middle,
 * over and over, and behind long runs of one of their bytes. All the bytes of a match are there, so
 * that PCRE2 cannot tell soon. Texts grow, so that the first dear one ends it.
 */

/* Fills a text of size bytes: a run of `filler`, when it is given, and a blank; then copies of the
 * example, broken. */
static void write_bad(char *text, size_t size, const char *example, char filler)
{
    size_t unit = strlen(example), at = 0;

    if (filler != '\0') {
        memset(text, filler, size);
        at = size > unit ? size - unit : 0;
        text[at > 0 ? at - 1 : 0] = ' ';
    }
    for (; at < size; at += unit) {
        size_t part = size - at < unit ? size - at : unit;

        memcpy(text + at, example, part);
        if (part > unit / 2) {
            text[at + unit / 2] = ' ';
        }
    }
}

/* ns a byte of one value. */
static double time_value(struct tf_redact_scan *scan, const char *text, size_t size)
{
    uint64_t start = uv_hrtime();

    tf_redact_scan_text(scan, text, size);
    tf_redact_scan_value(scan, text, 0, size);
    return (double)(uv_hrtime() - start) / (double)size;
}

/* The worst of an example's texts; stops at the first that is worse than max_ns. */
static double worst_of_example(struct tf_redact_scan *scan, char *text, const char *example,
                               double max_ns)
{
    const size_t end = strlen(example) - 1;
    const char fillers[] = {'\0', example[0], example[end / 2], example[end]};
    double worst = 0;

    for (size_t i = 0; i < TF_COUNT(fillers); i++) {
        for (size_t size = BAD_BYTES_MIN; size <= BAD_BYTES_MAX && worst <= max_ns; size *= 2) {
            double ns;

            write_bad(text, size, example, fillers[i]);
            ns = time_value(scan, text, size);
            if (ns > max_ns) { /* it may have been the machine */
                double again = time_value(scan, text, size);

                ns = again < ns ? again : ns;
            }
            worst = ns > worst ? ns : worst;
        }
    }
    return worst;
}

int tf_redact_rule_worst(const struct tf_redact_rule *rule, double max_ns, double *ns_a_byte)
{
    const bool on = true;
    const struct tf_redact_engine_args args = {.rules = rule, .count = 1, .on = &on};
    struct tf_redact_engine_error error;
    struct tf_redact_engine *engine = NULL;
    struct tf_redact_scan *scan = NULL;
    char *text = calloc(1, BAD_BYTES_MAX + TF_REDACT_READAHEAD_BYTES);
    int rc = text == NULL ? -ENOMEM : tf_redact_engine_new(&args, &engine, &error);

    if (rc == 0) {
        scan = tf_redact_scan_new(engine);
        rc = scan == NULL ? -ENOMEM : 0;
    }
    *ns_a_byte = 0;
    for (size_t i = 0; rc == 0 && i < TF_REDACT_EXAMPLES_MAX && rule->match[i] != NULL; i++) {
        double worst =
            strlen(rule->match[i]) > 1 ? worst_of_example(scan, text, rule->match[i], max_ns) : 0;

        *ns_a_byte = worst > *ns_a_byte ? worst : *ns_a_byte;
    }
    tf_redact_scan_free(scan);
    tf_redact_engine_free(engine);
    free(text);
    return rc;
}

/* ---- the budget ----------------------------------------------------------------------------- */

/* Tells of own rules that a bad text makes too dear. */
static int judge_worst(const struct tf_redact_rule *rules, size_t count, const bool *on,
                       struct tf_error *err)
{
    int rc = 0;

    for (size_t i = 0; i < count && rc != -ENOMEM; i++) {
        double worst;
        int rc2;

        if (!on[i] || rules[i].allow_slow || (rules[i].flags & TF_REDACT_LINE) == 0) {
            continue;
        }
        rc2 = tf_redact_rule_worst(&rules[i], TF_REDACT_WORST_MAX_NS, &worst);
        if (rc2 == 0 && worst > TF_REDACT_WORST_MAX_NS) {
            rc2 =
                tf_error_add(err, &rules[i].at,
                             "rule \"%s\" costs %.0f ns a byte of a text that nearly matches, and "
                             "%u are allowed; let its regex begin with a literal, bound its "
                             "repeats, or write allow_slow: true",
                             rules[i].id, worst, TF_REDACT_WORST_MAX_NS);
        }
        rc = rc2 < 0 ? rc2 : rc;
    }
    return rc;
}

static int judge(const struct tf_redact_rule *rules, size_t count, const double *costs,
                 double budget_ns, double *sum_ns, struct tf_error *err)
{
    const struct tf_redact_rule *dearest = NULL;
    double sum = 0, most = -1;

    *sum_ns = 0;
    for (size_t i = 0; i < count; i++) {
        *sum_ns += costs[i];
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
                                 uint64_t budget_ns, double *sum_ns, struct tf_error *err)
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
        rc = judge_worst(rules, own, wanted, err);
    }
    if (rc == 0) {
        rc = judge(rules, own, costs, (double)budget_ns, sum_ns, err);
    }
    free(wanted);
    free(costs);
    free(sample.text);
    return rc;
}
