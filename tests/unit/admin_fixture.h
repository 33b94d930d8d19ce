/*
 * admin_fixture.h - for tests of what an agent tells of itself: a status made by hand, conditions
 * that count what begins and ends, and pages of the project.
 */
#ifndef TAFFRAIL_TEST_ADMIN_FIXTURE_H
#define TAFFRAIL_TEST_ADMIN_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "../../agent/admin/internal.h"

#define NOW_S   INT64_C(1795000000)
#define HOSTILE "a\"b\\c\nd\x01\xff"

static struct tf_status_input inputs[3];
static struct tf_status_output outputs[2];
static struct tf_status_filter filters[2];
static struct tf_status_rule rules[4];

/* One input of each kind, two outputs, rules with a hostile name. */
static inline struct tf_status make_status(void)
{
    inputs[0] = (struct tf_status_input){.name = "pods", .kind = "container"};
    inputs[1] = (struct tf_status_input){.name = "in", .kind = "forward", .is_receiver = true};
    inputs[2] = (struct tf_status_input){.name = "journal", .kind = "journald"};
    outputs[0] = (struct tf_status_output){.name = "main", .kind = "forward", .own = {.up = true}};
    outputs[1] = (struct tf_status_output){.name = "disk", .kind = "file", .own = {.up = true}};
    rules[0] =
        (struct tf_status_rule){.filter = "redact", .kind = "redact", .rule = HOSTILE, .hits = 7};
    rules[1] = (struct tf_status_rule){
        .filter = "probes", .kind = "select", .rule = "healthz", .is_dropped = true, .hits = 8};
    rules[2] = (struct tf_status_rule){
        .filter = "redact", .kind = "redact", .rule = "jwt", .is_withheld = true, .hits = 9};
    rules[3] = (struct tf_status_rule){
        .filter = "redact", .kind = "redact", .rule = "pin", .is_dropped = true, .hits = 1};
    filters[0] = (struct tf_status_filter){.name = "traces", .joins = true, .joined = 5, .held = 2};
    filters[1] =
        (struct tf_status_filter){.name = "labels", .learns = true, .own = {.is_up = true}};
    return (struct tf_status){.is_started = true,
                              .has_room = true,
                              .filters = filters,
                              .filter_count = TF_COUNT(filters),
                              .sandbox = {.is_closed = true,
                                          .has = {true, true, true, true},
                                          .calls = TF_CALLS_NORMAL,
                                          .roles = {[TF_ROLE_OPENER] = {true, {true, true}}},
                                          .layers = TF_SANDBOX_LAYERS},
                              .spool = {.max_bytes = 1000},
                              .inputs = inputs,
                              .input_count = TF_COUNT(inputs),
                              .outputs = outputs,
                              .output_count = TF_COUNT(outputs),
                              .rules = rules,
                              .rule_count = TF_COUNT(rules)};
}

static unsigned begun, ended;

static inline void on_change(void *ctx, const struct tf_condition *condition)
{
    (void)ctx;
    begun += condition->holds;
    ended += !condition->holds;
}

static inline struct tf_conditions new_conditions(void)
{
    begun = ended = 0;
    return (struct tf_conditions){.on_change = on_change};
}

static inline void look_at(struct tf_conditions *conditions, const struct tf_status *status,
                           uint64_t now_ms)
{
    const struct tf_look look = {.status = status,
                                 .now_ms = now_ms,
                                 .boot_ns = (int64_t)now_ms * TF_MS_IN_NS,
                                 .now_ns = NOW_S * TF_S_IN_NS + (int64_t)now_ms * TF_MS_IN_NS};

    assert_int_equal(tf_conditions_look(conditions, &look), 0);
}

/* Freed by the caller. */
static inline char *read_project_file(const char *name)
{
    char path[512];
    FILE *file;
    char *text = calloc(1, 1 << 20);

    (void)snprintf(path, sizeof path, TF_SOURCE_DIR "/%s", name);
    file = fopen(path, "r");
    assert_true(file != NULL && text != NULL);
    assert_true(fread(text, 1, (1 << 20) - 1, file) > 0);
    (void)fclose(file);
    return text;
}

#endif
