/*
 * test_redact_attack.c - no text makes redaction work more than a bound for each of its bytes.
 *
 * Work is counted, not timed: tries of rules and the bytes that they may see, which the engine has
 * budgets for, and the steps of PCRE2, which it has not. The texts are those of redact_attack.h, a
 * part of them each time, so that all rules have their turn; `./dev bench` takes the time of all.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "../../filters/redact/ruleset.h"
#include "redact_attack.h"

#define TEXT_BYTES     16384u
#define KEYWORDS       1u
#define EVERY          8u  /* one text in so many */
#define STEPS_A_BYTE   70u /* of PCRE2, at most; twice what was seen */
#define STEPS_AT_FIRST 40000u

static const size_t line_sizes[] = {120, 4000};

struct subject {
    struct tf_redact_engine *engine;
    struct tf_redact_scan *scan;
    char text[TEXT_BYTES + TF_REDACT_READAHEAD_BYTES];
    uint32_t texts, searched; /* rules that are searched in a text once, at no cost */
    uint64_t most_steps;      /* of a byte, times 16 */
    char worst[ATTACK_UNIT_MAX + 64];
};

static struct tf_redact_ruleset *ruleset;
static const struct tf_redact_rule *rules;
static size_t rule_count;

static int load(void **state)
{
    struct tf_error err;
    int rc;

    (void)state;
    tf_error_init(&err);
    rc = tf_redact_ruleset_new(NULL, &ruleset, &err);
    tf_error_fini(&err);
    if (rc == 0) {
        rules = tf_redact_ruleset_rules(ruleset, &rule_count);
    }
    return rc;
}

static int unload(void **state)
{
    (void)state;
    tf_redact_ruleset_free(ruleset);
    return 0;
}

/* The rules of the default set; a few become too large for PCRE2 when their steps are counted. */
static void choose(bool count_steps, bool on[TF_REDACT_RULES_MAX])
{
    unsigned left_out = 0;

    for (size_t i = 0; i < rule_count; i++) {
        const struct tf_redact_engine_args args = {
            .rules = &rules[i], .count = 1, .on = &on[i], .count_steps = count_steps};
        struct tf_redact_engine_error error;
        struct tf_redact_engine *engine = NULL;

        on[i] = (rules[i].flags & TF_REDACT_OFF) == 0;
        if (tf_redact_engine_new(&args, &engine, &error) != 0) {
            on[i] = false;
            left_out++;
        }
        tf_redact_engine_free(engine);
    }
    assert_true(left_out <= (count_steps ? 4 : 0));
}

static struct subject *subject_new(bool count_steps)
{
    bool on[TF_REDACT_RULES_MAX];
    const struct tf_redact_engine_args args = {
        .rules = rules, .count = rule_count, .on = on, .count_steps = count_steps};
    struct tf_redact_engine_error error;
    struct subject *subject = calloc(1, sizeof *subject);

    assert_non_null(subject);
    choose(count_steps, on);
    if (tf_redact_engine_new(&args, &subject->engine, &error) != 0) {
        fail_msg("rule %s: %s", rules[error.rule].id, error.text);
    }
    for (size_t i = 0; i < rule_count; i++) {
        subject->searched += on[i] && (rules[i].flags & TF_REDACT_LINE) != 0 ? 1 : 0;
    }
    subject->scan = tf_redact_scan_new(subject->engine);
    assert_non_null(subject->scan);
    return subject;
}

static void subject_free(struct subject *subject)
{
    tf_redact_scan_free(subject->scan);
    tf_redact_engine_free(subject->engine);
    free(subject);
}

/* A text of lines of that size, each the attack over and over, is scanned as a batch's is. */
static void run(struct subject *subject, const struct attack *attack, size_t line, size_t lines)
{
    struct tf_redact_scan *scan = subject->scan;

    for (size_t i = 0; i < lines; i++) {
        attack_write(attack, subject->text + i * (line + 1), line);
        subject->text[i * (line + 1) + line] = '\n';
    }
    scan->work.attempts = scan->work.bytes = scan->work.steps = 0;
    tf_redact_scan_text(scan, subject->text, lines * (line + 1));
    for (size_t i = 0; i < lines; i++) {
        tf_redact_scan_value(scan, subject->text, i * (line + 1), line);
        tf_redact_scan_merge(scan, line);
    }
}

static void assert_work(struct subject *subject, const struct attack *attack, size_t line)
{
    const struct tf_redact_work *work;
    size_t lines = TEXT_BYTES / (line + 1), size = lines * (line + 1);
    uint64_t allowed = TF_REDACT_WORK_POOL + (uint64_t)size * TF_REDACT_WORK_POOL_A_BYTE +
                       lines * (TF_REDACT_WORK_A_VALUE + TF_REDACT_WORK_A_BYTE * line) +
                       subject->searched * (size + lines * TF_REDACT_WORK_ATTEMPT);

    run(subject, attack, line, lines);
    work = &subject->scan->work;
    if (work->attempts * TF_REDACT_WORK_ATTEMPT + work->bytes > allowed) {
        fail_msg("%s: %llu tries, %llu bytes in a text of %zu: %.*s", attack->of,
                 (unsigned long long)work->attempts, (unsigned long long)work->bytes, size,
                 (int)attack->size, attack->unit);
    }
}

static void assert_steps(struct subject *subject, const struct attack *attack, size_t line)
{
    size_t lines = line < 1000 ? 20 : 1, size = lines * (line + 1);
    uint64_t steps;

    run(subject, attack, line, lines);
    steps = subject->scan->work.steps;
    if (steps * 16 / size > subject->most_steps) {
        subject->most_steps = steps * 16 / size;
        (void)snprintf(subject->worst, sizeof subject->worst, "%s: %.*s", attack->of,
                       (int)attack->size, attack->unit);
    }
    if (steps > STEPS_AT_FIRST + STEPS_A_BYTE * size) {
        fail_msg("%llu steps in a text of %zu: %s", (unsigned long long)steps, size,
                 subject->worst);
    }
}

/* Every EVERY-th text, beginning with the first-th. */
static void try_all(struct subject *subject, uint32_t first,
                    void (*assert_one)(struct subject *, const struct attack *, size_t))
{
    struct attack attack;
    uint32_t number = first;

    for (size_t l = 0; l < TF_COUNT(line_sizes); l++) {
        for (uint32_t i = 0; attack_plain(i, &attack); i++) {
            assert_one(subject, &attack, line_sizes[l]);
            subject->texts++;
        }
        for (size_t rule = 0; rule < rule_count; rule++) {
            for (uint32_t i = 0; attack_of_rule(&rules[rule], KEYWORDS, i, &attack); i++) {
                if ((rules[rule].flags & TF_REDACT_OFF) == 0 && number++ % EVERY == 0) {
                    assert_one(subject, &attack, line_sizes[l]);
                    subject->texts++;
                }
            }
        }
    }
}

static void tries_and_bytes_are_bounded(void **state)
{
    struct subject *subject = subject_new(false);

    (void)state;
    try_all(subject, 0, assert_work);
    print_message("%u texts\n", subject->texts);
    assert_true(subject->texts > 1000);
    subject_free(subject);
}

static void steps_are_bounded(void **state)
{
    struct subject *subject = subject_new(true);

    (void)state;
    try_all(subject, 3, assert_steps);
    print_message("%u texts, at most %.1f steps a byte, by %.100s\n", subject->texts,
                  (double)subject->most_steps / 16, subject->worst);
    assert_true(subject->most_steps > 16); /* they are counted */
    subject_free(subject);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tries_and_bytes_are_bounded),
        cmocka_unit_test(steps_are_bounded),
    };

    return cmocka_run_group_tests_name("redact attack", tests, load, unload);
}
