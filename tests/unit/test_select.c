/* test_select.c - the select filter does as docs/select.md says. */
#include "fields_fixture.h"

#define SEARCHED_BYTES (16u << 10)

/* Whether the filter lets the record through. */
static bool passes(struct fixture *f, const char *json)
{
    assert_int_equal(tf_batch_reset(&f->batch), 0);
    (void)add_record(&f->batch, json);
    apply(f);
    return (f->batch.records[0].flags & TF_RECORD_DROPPED) == 0;
}

/* Hits of a rule in the last batch, by its name. */
static uint32_t hits_of(const struct fixture *f, const char *name)
{
    for (uint32_t i = 0; i < f->batch.tally_count; i++) {
        const struct tf_tally *tally = &f->batch.tallies[i];

        assert_int_equal(tally->filter, 3);
        if (strcmp(f->kind->rule_name(f->self, tf_rule_number(tally->rule)), name) == 0) {
            return tally->hits;
        }
    }
    return 0;
}

static void conditions_match_values(void **state)
{
    static const struct {
        const char *where, *json;
        bool holds;
    } cases[] = {
        {"log: 'GET /(healthz|readyz)'", "{\"log\":\"1.2.3.4 GET /healthz 200\"}", true},
        {"log: 'GET /(healthz|readyz)'", "{\"log\":\"GET /health\"}", false},
        {"log: ''", "{\"log\":\"\"}", true},
        {"log: ''", "{\"stream\":\"stdout\"}", false},
        {"log: '^a$'", "{\"log\":\"a\n\"}", false},
        {"log: '^a.b$'", "{\"log\":\"a\nb\"}", false},
        {"log: '(?i)^error'", "{\"log\":\"ERROR: x\"}", true},
        {"stream: '^stderr$'", "{\"stream\":\"stderr\",\"log\":\"x\"}", true},
        {"fields.level: '^debug$'", "{\"fields\":{\"level\":\"debug\"}}", true},
        {"fields.level: '^debug$'", "{\"fields\":{\"level\":\"debugging\"}}", false},
        {"fields.level: '^debug$'", "{\"fields\":\"debug\"}", false},
        {"kubernetes.labels.app.kubernetes.io/name: '^pay$'",
         "{\"kubernetes\":{\"labels\":{\"app.kubernetes.io/name\":\"pay\"}}}", true},
        /* values that are no text */
        {"n: '^42$'", "{\"n\":42}", true},
        {"n: '^42$'", "{\"n\":420}", false},
        {"n: '^-7$'", "{\"n\":-7}", true},
        {"n: '^18446744073709551615$'", "{\"n\":18446744073709551615}", true},
        {"n: '^0[.]5$'", "{\"n\":0.5}", true},
        {"n: '^3[.]0$'", "{\"n\":3.0}", true},
        {"n: '^NaN$'", "{\"n\":nan}", true},
        {"b: '^true$'", "{\"b\":true}", true},
        {"b: '^false$'", "{\"b\":false}", true},
        {"b: '^null$'", "{\"b\":null}", true},
        {"b: ''", "{\"b\":{\"c\":\"x\"}}", false},
        {"b: '^x$'", "{\"b\":[\"y\",\"x\"]}", true},
        {"b: '^x$'", "{\"b\":[[\"x\"],{\"x\":\"x\"}]}", false},
        {"b: '^7$'", "{\"b\":[{\"c\":1},7]}", true},
        {"b: ''", "{\"b\":[]}", false},
        /* bytes, in a text and as such */
        {"log: '^\\xff\\x00\\xc3$'", "{\"log\":\"\xff\"}", false},
        {"log: '^\\xff\\xc3.$'", "{\"log\":\"\xff\xc3\x28\"}", true},
        {"log: '^\\xff$'", "{\"log\":<\xff>}", true},
        {"log: 'é'", "{\"log\":\"\x80 caf\xc3\xa9 \x80\"}", true},
        /* all conditions hold */
        {"log: a, stream: out", "{\"log\":\"a\",\"stream\":\"stdout\"}", true},
        {"log: a, stream: err", "{\"log\":\"a\",\"stream\":\"stdout\"}", false},
        {"log: b, stream: out", "{\"log\":\"a\",\"stream\":\"stdout\"}", false},
    };
    struct fixture *f = *state;
    char filter[256];

    for (size_t i = 0; i < TF_COUNT(cases); i++) {
        (void)snprintf(filter, sizeof filter, "select: {drop: [{name: r, where: {%s}}]}",
                       cases[i].where);
        open_filter(f, filter);
        if (passes(f, cases[i].json) == cases[i].holds) {
            fail_msg("%s: %s", cases[i].where, cases[i].json);
        }
        (void)snprintf(filter, sizeof filter, "select: {keep: [{name: r, where: {%s}}]}",
                       cases[i].where);
        open_filter(f, filter);
        if (passes(f, cases[i].json) != cases[i].holds) {
            fail_msg("keep %s: %s", cases[i].where, cases[i].json);
        }
    }
}

static void drop_is_stronger_than_keep(void **state)
{
    struct fixture *f = *state;

    open_filter(f, "select: {keep: [{name: shop, where: {log: shop}}, {name: bank, where: {log: "
                   "bank}}], drop: [{name: probes, where: {log: probe}}, {name: debug, where: "
                   "{log: 'debug|probe'}}]}");
    assert_true(passes(f, "{\"log\":\"shop\"}"));
    assert_true(passes(f, "{\"log\":\"bank\"}"));
    assert_int_equal(f->batch.tally_count, 0);
    assert_false(passes(f, "{\"log\":\"shop probe\"}"));
    assert_int_equal(f->batch.tally_count, 1);
    assert_int_equal(hits_of(f, "probes"), 1); /* the first that matches */
    assert_false(passes(f, "{\"log\":\"bank debug\"}"));
    assert_int_equal(hits_of(f, "debug"), 1);
    assert_false(passes(f, "{\"log\":\"street\"}"));
    assert_int_equal(f->batch.tally_count, 1);
    assert_int_equal(hits_of(f, "not-kept"), 1);
}

static void records_are_counted_by_rule(void **state)
{
    struct fixture *f = *state;
    struct tf_events_summary summary;
    struct tf_buf events;

    open_filter(f, "select: {drop: [{name: a, where: {log: a}}, {name: b, where: {log: b}}]}");
    for (unsigned i = 0; i < 9; i++) {
        static const char *const texts[] = {"{\"log\":\"a\"}", "{\"log\":\"b\"}",
                                            "{\"log\":\"c\"}"};

        (void)add_record(&f->batch, texts[i % 3]);
    }
    f->batch.records[0].flags |= TF_RECORD_DROPPED | TF_RECORD_JOINED; /* by a filter before */
    apply(f);
    assert_int_equal(hits_of(f, "a"), 2);
    assert_int_equal(hits_of(f, "b"), 3);
    tf_buf_init(&events, 1u << 20);
    assert_int_equal(tf_events_encode(&f->batch, NULL, &events, &summary), 0);
    assert_int_equal(summary.events, 3);
    assert_int_equal(summary.dropped, 5);
    tf_buf_fini(&events);
    assert_null(f->kind->rule_name(f->self, 4));
}

/* ---- what is the same for a source, or for a batch ------------------------------------------ */

static void describe(struct fixture *f, const char *json)
{
    struct tf_batch constants;

    assert_int_equal(tf_batch_init(&constants), 0);
    (void)add_record(&constants, json);
    f->kind->describe(f->self, f->state, "t", &constants);
    tf_batch_fini(&constants);
}

static void constants_are_stronger_than_fields(void **state)
{
    static const char filter[] = "select: {drop: [{name: r, where: {kubernetes.namespace_name: "
                                 "'^shop$', log: x}}]}";
    struct fixture *f = *state;

    open_filter(f, filter);
    describe(f, "{\"host\":\"node-1\",\"kubernetes\":{\"namespace_name\":\"shop\"}}");
    assert_false(passes(f, "{\"log\":\"x\"}"));
    assert_true(passes(f, "{\"log\":\"y\"}"));
    assert_false(passes(f, "{\"kubernetes\":{\"namespace_name\":\"bank\"},\"log\":\"x\"}"));
    open_filter(f, filter);
    describe(f, "{\"kubernetes\":{\"namespace_name\":\"bank\"}}");
    assert_true(passes(f, "{\"log\":\"x\"}"));
    open_filter(f, filter); /* the map is the source's, though it has no such name */
    describe(f, "{\"kubernetes\":{\"pod_name\":\"p\"}}");
    assert_true(passes(f, "{\"kubernetes\":{\"namespace_name\":\"shop\"},\"log\":\"x\"}"));
    open_filter(f, filter); /* a received record brings all with it */
    describe(f, "{}");
    assert_false(passes(f, "{\"kubernetes\":{\"namespace_name\":\"shop\"},\"log\":\"x\"}"));
    assert_true(passes(f, "{\"log\":\"x\"}"));
}

static void records_without_a_source_are_looked_at_whole(void **state)
{
    struct fixture *f = *state;

    open_filter(f, "select: {drop: [{name: r, where: {host: '^a$'}}]}");
    f->kind->state_free(f->state);
    f->state = NULL;
    assert_false(passes(f, "{\"host\":\"a\"}"));
    assert_true(passes(f, "{\"host\":\"b\"}"));
}

static void the_tag_is_that_of_the_batch(void **state)
{
    struct fixture *f = *state;

    open_filter(f, "select: {drop: [{name: r, where: {tag: '^shop[.]'}}]}");
    assert_true(passes(f, "{\"tag\":\"shop.x\"}")); /* not known, and no field */
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(tf_batch_reset(&f->batch), 0);
        (void)add_record(&f->batch, "{\"log\":\"x\"}");
        f->batch.tag = i == 0 ? "shop.pay" : "bank.pay";
        apply(f);
        assert_int_equal((f->batch.records[0].flags & TF_RECORD_DROPPED) != 0, i == 0);
    }
}

/* ---- hostile texts -------------------------------------------------------------------------- */

/* A record whose log is so many of a letter, then a text. */
static bool passes_long(struct fixture *f, size_t count, char letter, const char *tail)
{
    char *json = malloc(count + 1024);
    bool has_passed;

    assert_non_null(json);
    memcpy(json, "{\"log\":\"", 8);
    memset(json + 8, letter, count);
    (void)snprintf(json + 8 + count, 1016, "%s\"}", tail);
    has_passed = passes(f, json);
    free(json);
    return has_passed;
}

static void in_doubt_a_record_stays(void **state)
{
    static const char *const filters[] = {
        "select: {drop: [{name: r, where: {log: '(\\w+\\s?)+x'}}]}",
        "select: {keep: [{name: r, where: {log: '(\\w+\\s?)+x'}}]}",
        "select: {drop: [{name: r, where: {log: '^(a|aa)*$'}}]}",
    };
    struct fixture *f = *state;

    for (size_t i = 0; i < TF_COUNT(filters); i++) {
        open_filter(f, filters[i]);
        assert_true(passes_long(f, 16000, 'a', "!x"));
        if (hits_of(f, "undecided") != 1) {
            fail_msg("%s", filters[i]);
        }
    }
    open_filter(f, "select: {drop: [{name: r, where: {log: '^(a|aa)*$'}}]}");
    assert_true(passes_long(f, 15, 'a', "!")); /* some 2,600 steps */
    assert_int_equal(hits_of(f, "undecided"), 0);
    assert_true(passes_long(f, 27, 'a', "!")); /* 800,000 */
    assert_int_equal(hits_of(f, "undecided"), 1);
    /* A condition that fails decides all the same, and so does another rule. */
    open_filter(f, "select: {keep: [{name: r, where: {log: '(\\w+\\s?)+x', stream: err}}]}");
    assert_false(passes_long(f, 16000, 'a', "!x"));
    assert_int_equal(hits_of(f, "not-kept"), 1);
    assert_int_equal(hits_of(f, "undecided"), 0);
    open_filter(f,
                "select: {drop: [{name: r, where: {log: '(\\w+\\s?)+x'}}, {name: s, where: {log: "
                "'^a'}}]}");
    assert_false(passes_long(f, 16000, 'a', "!x"));
    assert_int_equal(hits_of(f, "s"), 1);
    assert_int_equal(hits_of(f, "undecided"), 0);
    /* So is an array of which one item cannot be decided, unless another one holds. */
    open_filter(f, "select: {drop: [{name: r, where: {log: '^([ab]|aa)*c$'}}]}");
    assert_int_equal(hits_of(f, "undecided"), 0);
    assert_true(passes(f, "{\"log\":[\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!c\",\"b\"]}"));
    assert_int_equal(hits_of(f, "undecided"), 1);
    assert_false(passes(f, "{\"log\":[\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!c\",\"bc\"]}"));
}

static void only_the_start_of_a_long_text_is_searched(void **state)
{
    struct fixture *f = *state;

    open_filter(f, "select: {drop: [{name: r, where: {log: 'end$'}}]}");
    assert_false(passes_long(f, SEARCHED_BYTES - 3, 'a', "end"));
    assert_true(passes_long(f, SEARCHED_BYTES - 3, 'a', "")); /* searched whole */
    assert_int_equal(hits_of(f, "undecided"), 0);
    assert_true(passes_long(f, SEARCHED_BYTES - 2, 'a', "end"));
    assert_int_equal(hits_of(f, "undecided"), 1);
    assert_true(passes_long(f, SEARCHED_BYTES - 3, 'a', "end!")); /* no end of the text */
    assert_int_equal(hits_of(f, "undecided"), 1);
    open_filter(f, "select: {drop: [{name: r, where: {log: '^aaa'}}]}");
    assert_false(passes_long(f, 1u << 20, 'a', ""));
    open_filter(f, "select: {keep: [{name: r, where: {log: end}}]}");
    assert_false(passes_long(f, SEARCHED_BYTES, 'a', ""));
    assert_int_equal(hits_of(f, "not-kept"), 1);
    assert_true(passes_long(f, SEARCHED_BYTES + 1, 'a', ""));
    assert_int_equal(hits_of(f, "undecided"), 1);
}

/* What is known of a source can be undecided too. */
static void a_constant_may_be_undecided(void **state)
{
    struct fixture *f = *state;

    open_filter(f, "select: {keep: [{name: r, where: {host: '^([ab]|aa)*c$'}}]}");
    describe(f, "{\"host\":\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!c\"}");
    assert_true(passes(f, "{\"log\":\"x\"}"));
    assert_int_equal(hits_of(f, "undecided"), 1);
}

/* ---- wrong configurations ------------------------------------------------------------------- */

static void wrong_rules_are_told(void **state)
{
    struct fixture *f = *state;

    assert_refused(f, "select: {}",
                   "t.yaml:4:3: error: select has 1 to 64 rules, this one has 0; write drop: "
                   "[{name: probes, where: {log: 'REGEX'}}]\n");
    assert_refused(
        f, "select: {drop: [{name: A, where: {log: x}}, {name: '', where: {log: x}}]}",
        "t.yaml:4:26: error: name: \"A\" is no name; write 1 to 63 of a-z, 0-9, - and "
        "_\n"
        "t.yaml:4:54: error: name: \"\" is no name; write 1 to 63 of a-z, 0-9, - and _\n");
    assert_refused(f,
                   "select: {drop: [{name: a, where: {log: x}}], keep: [{name: a, where: {log: y}},"
                   " {name: not-kept, where: {log: x}}, {name: undecided, where: {log: x}}]}",
                   "t.yaml:4:62: error: name: two rules are called \"a\" (line 4); give this one "
                   "another name\n"
                   "t.yaml:4:90: error: name: \"not-kept\" is what select itself counts under; "
                   "take another\n"
                   "t.yaml:4:125: error: name: \"undecided\" is what select itself counts under; "
                   "take another\n");
    assert_refused(f, "select: {keep: [{name: a, where: {}}]}",
                   "t.yaml:4:36: error: where: a rule has 1 to 16 conditions, this one has 0; "
                   "write where: {log: 'REGEX'}\n");
    assert_refused(
        f,
        "select: {drop: [{name: a, where: {log: '(a', time: x, taffrail.malformed: x, a..b: x}}]}",
        "t.yaml:4:42: error: where: regex of \"log\": missing closing parenthesis, at byte 2; mend "
        "it there\n"
        "t.yaml:4:48: error: where: \"time\" is no field yet when records are selected; name "
        "another, such as log\n"
        "t.yaml:4:57: error: where: \"taffrail.malformed\" is no field yet when records are "
        "selected; name another, such as log\n"
        "t.yaml:4:80: error: where: \"a..b\" has an empty name beside a dot; write names joined by "
        "single dots, such as fields.level\n");
    assert_refused(f, "select: {drop: [{name: a, where: {log: '(*UTF)x'}}]}",
                   "t.yaml:4:42: error: where: regex of \"log\": using UTF is disabled by the "
                   "application, at byte 6; mend it there\n");
    assert_refused(f, "select: {drop: [{name: a}]}",
                   "t.yaml:4:19: error: key \"where\" is missing in drop of filter \"select\"; "
                   "write where: ... (field: regex; all of them hold)\n");
}

static void rules_are_bounded(void **state)
{
    struct fixture *f = *state;
    struct tf_error err;
    struct tf_buf text;

    for (unsigned more = 0; more < 2; more++) {
        tf_error_init(&err);
        tf_buf_init(&text, 1u << 16);
        (void)tf_buf_append_text(&text, "select: {drop: [");
        for (unsigned i = 0; i < 64 + more; i++) {
            (void)tf_buf_printf(&text, "{name: r%u, where: {log: 'x%u$'}},", i, i);
        }
        (void)tf_buf_append_text(&text, "]}");
        assert_int_equal(tf_buf_append_byte(&text, 0), 0);
        assert_int_equal(try_filter(f, text.data, &err), more == 0 ? 0 : -EINVAL);
        assert_int_equal(err.errors, more);
        if (more == 0) {
            f->scratch = f->kind->scratch_new(f->self);
            f->state = f->kind->state_new(f->self);
            assert_false(passes(f, "{\"log\":\"x63\"}"));
            assert_int_equal(hits_of(f, "r63"), 1);
        }
        tf_buf_fini(&text);
        tf_error_fini(&err);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(conditions_match_values, setup, teardown),
        cmocka_unit_test_setup_teardown(drop_is_stronger_than_keep, setup, teardown),
        cmocka_unit_test_setup_teardown(records_are_counted_by_rule, setup, teardown),
        cmocka_unit_test_setup_teardown(constants_are_stronger_than_fields, setup, teardown),
        cmocka_unit_test_setup_teardown(records_without_a_source_are_looked_at_whole, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(the_tag_is_that_of_the_batch, setup, teardown),
        cmocka_unit_test_setup_teardown(in_doubt_a_record_stays, setup, teardown),
        cmocka_unit_test_setup_teardown(only_the_start_of_a_long_text_is_searched, setup, teardown),
        cmocka_unit_test_setup_teardown(a_constant_may_be_undecided, setup, teardown),
        cmocka_unit_test_setup_teardown(wrong_rules_are_told, setup, teardown),
        cmocka_unit_test_setup_teardown(rules_are_bounded, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
