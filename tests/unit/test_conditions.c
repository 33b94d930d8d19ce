/*
 * test_conditions.c - what is wrong with an agent begins and ends when it should, and has its
 * words.
 */
#include "admin_fixture.h"
#include "taffrail/log.h"

static void an_output_is_down_once_it_lasts(void **state)
{
    struct tf_conditions conditions = new_conditions();
    struct tf_status status = make_status();

    (void)state;
    look_at(&conditions, &status, 1000);
    outputs[0].own.up = false;
    outputs[0].feed.pending = 1234;
    (void)snprintf(outputs[0].own.why, sizeof outputs[0].own.why, "connect: refused");
    look_at(&conditions, &status, 2000);
    look_at(&conditions, &status, 4999);
    assert_false(tf_conditions_hold(&conditions, TF_CONDITION_OUTPUT_DOWN));
    look_at(&conditions, &status, 5000);
    assert_true(tf_conditions_hold(&conditions, TF_CONDITION_OUTPUT_DOWN));
    look_at(&conditions, &status, 6000);
    assert_int_equal(begun, 1);
    for (size_t i = 0; i < conditions.count; i++) {
        if (conditions.items[i].holds) {
            assert_string_equal(conditions.items[i].subject, "main");
            assert_string_equal(conditions.items[i].text,
                                "output main: connect: refused; 1,234 records in the spool for it");
            assert_true(conditions.items[i].since_ns == NOW_S * TF_S_IN_NS + 2000 * TF_MS_IN_NS);
        }
    }
    outputs[0].own.up = true;
    look_at(&conditions, &status, 7000);
    assert_false(tf_conditions_hold(&conditions, TF_CONDITION_OUTPUT_DOWN));
    assert_int_equal(ended, 1);
    tf_conditions_fini(&conditions);
}

/* A connection that is replaced in time is nothing. */
static void a_short_break_is_no_condition(void **state)
{
    struct tf_conditions conditions = new_conditions();
    struct tf_status status = make_status();

    (void)state;
    for (uint64_t ms = 1000; ms < 100000; ms += 1000) {
        outputs[0].own.up = ms % 3000 == 0;
        look_at(&conditions, &status, ms);
    }
    assert_int_equal(begun, 0);
    tf_conditions_fini(&conditions);
}

/* The four of the next test, in their order, each of one thing. */
static void expect_text(void *ctx, const struct tf_condition *condition)
{
    static const char *const texts[] = {
        "the spool's disk refuses: ", "1 gap since the start, up to 1 byte lost",
        "input journal: it failed to open, read or accept something 1 time since the start",
        "1 record with a text withheld since the start"};
    unsigned *at = ctx;

    assert_true(*at < TF_COUNT(texts));
    assert_memory_equal(condition->text, texts[*at], strlen(texts[*at]));
    (*at)++;
}

static void an_event_holds_for_a_while(void **state)
{
    struct tf_conditions conditions = new_conditions();
    struct tf_status status = make_status();

    (void)state;
    look_at(&conditions, &status, 1000);
    status.gaps[0] = status.gap_bytes[0] = 1;
    status.spool.error = -EIO;
    status.books.withheld = 1;
    inputs[2].own.errors[TF_INPUT_READ] = 1;
    status.spool.errors[TF_DISK_CURSORS] = 1;
    look_at(&conditions, &status, 2000);
    assert_int_equal(begun, 4);
    tf_conditions_each(&conditions, expect_text, &(unsigned){0});
    look_at(&conditions, &status, 62000);
    assert_false(tf_conditions_hold(&conditions, TF_CONDITION_DISK_ERROR));
    status.gaps[0] = 2;
    look_at(&conditions, &status, 800000);
    look_at(&conditions, &status, 902000);
    assert_false(tf_conditions_hold(&conditions, TF_CONDITION_WITHHELD));
    assert_false(tf_conditions_hold(&conditions, TF_CONDITION_INPUT_UNREADABLE));
    assert_true(tf_conditions_hold(&conditions, TF_CONDITION_GAP));
    look_at(&conditions, &status, 1700000);
    assert_false(tf_conditions_hold(&conditions, TF_CONDITION_GAP));
    assert_int_equal(ended, 4);
    tf_conditions_fini(&conditions);
}

static const char *text_of(const struct tf_conditions *conditions, enum tf_condition_code code)
{
    size_t i = 0;

    while (i + 1 < conditions->count && conditions->items[i].code != code) {
        i++;
    }
    return conditions->items[i].text;
}

static void states_hold_as_long_as_they_are(void **state)
{
    struct tf_conditions conditions = new_conditions();
    struct tf_status status = make_status();

    (void)state;
    status.spool.bytes_pending = 810;
    look_at(&conditions, &status, 1000);
    assert_true(tf_conditions_hold(&conditions, TF_CONDITION_SPOOL_FILLING));
    assert_true(tf_facts_ready(&status, &conditions));
    status.has_room = false;
    status.spool.seal = TF_SEALED_LOST;
    status.spool.unreadable_segments = 3;
    status.is_redaction_off = true;
    status.sandbox.has[TF_LAYER_CAPABILITIES] = false;
    status.sandbox.has[TF_LAYER_SECCOMP] = false;
    status.sandbox.layers = 2;
    look_at(&conditions, &status, 2000);
    assert_false(tf_conditions_hold(&conditions, TF_CONDITION_SPOOL_FILLING));
    assert_true(tf_conditions_hold(&conditions, TF_CONDITION_SPOOL_FULL));
    assert_true(tf_conditions_hold(&conditions, TF_CONDITION_SEAL_LOST));
    assert_true(tf_conditions_hold(&conditions, TF_CONDITION_KEY_MISSING));
    assert_true(tf_conditions_hold(&conditions, TF_CONDITION_REDACTION_OFF));
    assert_true(tf_conditions_hold(&conditions, TF_CONDITION_SANDBOX_PARTIAL));
    assert_string_equal(text_of(&conditions, TF_CONDITION_SANDBOX_PARTIAL),
                        "the sandbox lacks capabilities, seccomp");
    assert_false(tf_facts_ready(&status, &conditions));
    status = make_status();
    look_at(&conditions, &status, 3000);
    assert_int_equal(begun, ended);
    assert_true(tf_facts_ready(&status, &conditions));
    status.is_stopping = true;
    assert_false(tf_facts_ready(&status, &conditions));
    tf_conditions_fini(&conditions);
}

/* An API server that is upgraded is gone for some seconds. */
static void an_api_server_is_down_once_it_lasts(void **state)
{
    struct tf_conditions conditions = new_conditions();
    struct tf_status status = make_status();

    (void)state;
    look_at(&conditions, &status, 1000);
    filters[1].own.is_up = false;
    filters[1].unknown_records = 12;
    (void)snprintf(filters[1].own.why, sizeof filters[1].own.why, "401 Unauthorized");
    look_at(&conditions, &status, 2000);
    look_at(&conditions, &status, 31999);
    assert_false(tf_conditions_hold(&conditions, TF_CONDITION_KUBERNETES_DOWN));
    look_at(&conditions, &status, 32000);
    assert_true(tf_conditions_hold(&conditions, TF_CONDITION_KUBERNETES_DOWN));
    for (size_t i = 0; i < conditions.count; i++) {
        if (conditions.items[i].holds) {
            assert_string_equal(conditions.items[i].subject, "labels");
            assert_string_equal(conditions.items[i].text,
                                "filter labels: the API server gives no labels: 401 Unauthorized; "
                                "12 records without labels since the start");
        }
    }
    assert_true(tf_facts_ready(&status, &conditions)); /* reading goes on */
    filters[1].own.is_up = true;
    look_at(&conditions, &status, 33000);
    assert_int_equal(ended, 1);
    tf_conditions_fini(&conditions);
}

/* A copy is taken between two callbacks: one look alone proves nothing. */
static void books_that_stay_wrong_are_told(void **state)
{
    struct tf_conditions conditions = new_conditions();
    struct tf_status status = make_status();

    (void)state;
    status.books.missing = 1;
    look_at(&conditions, &status, 1000);
    look_at(&conditions, &status, 2000);
    assert_int_equal(begun, 0);
    look_at(&conditions, &status, 3000);
    assert_true(tf_conditions_hold(&conditions, TF_CONDITION_BOOKS));
    tf_conditions_fini(&conditions);
}

static void a_clock_that_is_set_is_told(void **state)
{
    struct tf_conditions conditions = new_conditions();
    struct tf_status status = make_status();
    /* The wall clock loses half a second in each step: nobody's doing. */
    struct tf_look look = {.status = &status, .now_ns = NOW_S * TF_S_IN_NS};
    const struct tf_condition *item;

    (void)state;
    for (unsigned i = 0; i < 100; i++) {
        look.now_ms += 1000;
        look.boot_ns += TF_S_IN_NS;
        look.now_ns += TF_S_IN_NS / 2;
        assert_int_equal(tf_conditions_look(&conditions, &look), 0);
    }
    assert_int_equal(begun, 0);
    look.now_ms += 1000;
    look.boot_ns += TF_S_IN_NS;
    look.now_ns -= 1999 * TF_S_IN_NS;
    assert_int_equal(tf_conditions_look(&conditions, &look), 0);
    assert_true(tf_conditions_hold(&conditions, TF_CONDITION_CLOCK));
    item = conditions.items;
    while (item->code != TF_CONDITION_CLOCK) {
        item++;
    }
    assert_string_equal(item->text, "the clock was set back by 2,000 seconds");
    look.now_ms += 10 * 60000;
    look.boot_ns += 600 * TF_S_IN_NS;
    look.now_ns += 602 * TF_S_IN_NS;
    assert_int_equal(tf_conditions_look(&conditions, &look), 0);
    assert_string_equal(item->text, "the clock was set forward by 2 seconds");
    look.now_ms += 14 * 60000;
    look.boot_ns += 840 * TF_S_IN_NS;
    look.now_ns += 840 * TF_S_IN_NS;
    assert_int_equal(tf_conditions_look(&conditions, &look), 0);
    assert_true(tf_conditions_hold(&conditions, TF_CONDITION_CLOCK));
    look.now_ms += 60000;
    look.boot_ns += 60 * TF_S_IN_NS;
    look.now_ns += 60 * TF_S_IN_NS;
    assert_int_equal(tf_conditions_look(&conditions, &look), 0);
    assert_false(tf_conditions_hold(&conditions, TF_CONDITION_CLOCK));
    tf_conditions_fini(&conditions);
}

static void certificates_expire(void **state)
{
    struct tf_conditions conditions = new_conditions();
    struct tf_status status = make_status();
    const struct tf_certificate certificates[] = {
        {"output/fresh", NOW_S + 15 * 86400},
        {"output/old", NOW_S + 9 * 86400 + 100},
        {"admin", NOW_S - 1},
    };
    const struct tf_look look = {.status = &status,
                                 .certificates = certificates,
                                 .certificate_count = TF_COUNT(certificates),
                                 .now_ns = NOW_S * TF_S_IN_NS,
                                 .now_ms = 1};

    (void)state;
    assert_int_equal(tf_conditions_look(&conditions, &look), 0);
    assert_int_equal(begun, 2);
    for (size_t i = 0; i < conditions.count; i++) {
        const struct tf_condition *item = &conditions.items[i];

        if (item->holds && item->code == TF_CONDITION_CERT_EXPIRING) {
            assert_string_equal(item->text, "the certificate of output/old ends in 9 days");
        } else if (item->holds) {
            assert_int_equal(item->code, TF_CONDITION_CERT_EXPIRED);
            assert_string_equal(item->text, "the certificate of admin has ended");
        }
    }
    tf_conditions_fini(&conditions);
}

static void each_code_has_its_heading(void **state)
{
    char *text = read_project_file("docs/conditions.md"), heading[64];
    unsigned headings = 0;

    (void)state;
    for (const char *at = text; (at = strstr(at, "\n## ")) != NULL; at++) {
        headings++;
    }
    for (unsigned code = 0; code < TF_CONDITIONS; code++) {
        const struct tf_condition_kind *kind = &tf_condition_kinds[code];
        const char *section, *end;

        assert_true(kind->code != NULL && kind->safe != NULL);
        (void)snprintf(heading, sizeof heading, "\n## %s\n", kind->code);
        section = strstr(text, heading);
        if (section == NULL) {
            fail_msg("docs/conditions.md has no %s", kind->code);
        }
        end = strstr(section + 1, "\n## ");
        for (size_t i = 0; i < 3; i++) {
            static const char *const parts[] = {"**Means**", "**Safe", "**Do**"};
            const char *part = strstr(section, parts[i]);

            if (part == NULL || (end != NULL && part > end)) {
                fail_msg("%s has no %s", kind->code, parts[i]);
            }
        }
    }
    assert_int_equal(headings, TF_CONDITIONS);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_output_is_down_once_it_lasts),
        cmocka_unit_test(a_short_break_is_no_condition),
        cmocka_unit_test(an_event_holds_for_a_while),
        cmocka_unit_test(states_hold_as_long_as_they_are),
        cmocka_unit_test(an_api_server_is_down_once_it_lasts),
        cmocka_unit_test(books_that_stay_wrong_are_told),
        cmocka_unit_test(a_clock_that_is_set_is_told),
        cmocka_unit_test(certificates_expire),
        cmocka_unit_test(each_code_has_its_heading),
    };

    tf_log_configure(TF_LOG_ERROR, TF_LOG_LOGFMT);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
