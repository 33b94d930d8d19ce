/* Which entries are wanted, through a stream as the agent has it. */
#include "journal_fixture.h"

#define COREDUMP "MESSAGE_ID=fc2e22bc6ee647b6b90729ab34a250b1\n"

/* Whether an entry of these lines is wanted. */
static bool is_wanted(const struct tf_journal_select *select, const char *lines)
{
    const struct tf_journal_rules rules = {.select = select};
    struct tf_export_result result;
    struct tf_export *stream;
    struct tf_batch batch;
    struct tf_buf entry;
    uint32_t records;

    tf_buf_init(&entry, FILE_MAX);
    assert_int_equal(tf_buf_printf(&entry, "__CURSOR=c\n%s\n", lines), 0);
    assert_int_equal(tf_batch_init(&batch), 0);
    assert_int_equal(tf_export_new(&rules, &stream), 0);
    assert_int_equal(tf_export_decode(stream, tf_buf_slice(&entry), NOW_NS, &batch, &result),
                     entry.size);
    records = batch.record_count;
    assert_int_equal(records + result.unwanted, 1);
    assert_true(tf_slice_equal(tf_export_cursor(stream), TEXT("c"))); /* wanted or not */
    tf_export_free(stream);
    tf_batch_fini(&batch);
    tf_buf_fini(&entry);
    return records == 1;
}

struct lines {
    const char *lines;
    bool is_wanted;
};

static void check(const struct tf_journal_select *select, const struct lines *lines, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (is_wanted(select, lines[i].lines) != lines[i].is_wanted) {
            fail_msg("%s: not as it should be", lines[i].lines);
        }
    }
}

/* As systemd's add_matches_for_unit has it: what others say counts when only root or PID 1 may. */
static const struct lines OF_SSH[] = {
    {"_SYSTEMD_UNIT=ssh.service\n", true},
    {"_SYSTEMD_UNIT=sshd.service\n", false},
    {"_SYSTEMD_USER_UNIT=ssh.service\n", true},
    {"MESSAGE=no unit\n", false},
    {"UNIT=ssh.service\n_PID=1\n", true},
    {"UNIT=ssh.service\n_PID=12\n", false},
    {"UNIT=ssh.service\n_UID=0\n", false},
    {"OBJECT_SYSTEMD_UNIT=ssh.service\n_UID=0\n", true},
    {"OBJECT_SYSTEMD_UNIT=ssh.service\n_UID=1000\nUID=0\n", false},
    {"OBJECT_SYSTEMD_UNIT=other.service\nOBJECT_SYSTEMD_UNIT=ssh.service\n_UID=0\n", true},
    {"COREDUMP_UNIT=ssh.service\n_UID=0\n" COREDUMP, true},
    {"COREDUMP_UNIT=ssh.service\n_UID=0\n", false},
    {"COREDUMP_UNIT=ssh.service\n_UID=5\n" COREDUMP, false},
    {"SYSTEMD_UNIT=ssh.service\n", false},
    {"_SYSTEMD_UNIT=nginx@1.service\n", true},
    {"_SYSTEMD_UNIT=nginx@.service\n", true},
    {"_SYSTEMD_UNIT=a1\n", true},
    {"_SYSTEMD_UNIT=a\n", false},
};

static void units_match_as_journalctl_has_it(void **state)
{
    static const char *const units[] = {"ssh.service", "nginx@*.service", "a?"};
    const struct tf_journal_select select = {.units = units, .unit_count = 3, .priority_max = -1};

    (void)state;
    check(&select, OF_SSH, TF_COUNT(OF_SSH));
}

static void excluded_units_are_the_others(void **state)
{
    static const char *const units[] = {"ssh.service", "nginx@*.service", "a?"};
    const struct tf_journal_select select = {
        .exclude_units = units, .exclude_unit_count = 3, .priority_max = -1};
    struct lines others[TF_COUNT(OF_SSH)];

    (void)state;
    for (size_t i = 0; i < TF_COUNT(others); i++) {
        others[i] = (struct lines){OF_SSH[i].lines, !OF_SSH[i].is_wanted};
    }
    check(&select, others, TF_COUNT(others));
}

static void globs_take_a_backslash_as_it_is(void **state)
{
    static const char *const units[] = {"dev-disk\\x2dby.*"};
    static const struct lines lines[] = {{"_SYSTEMD_UNIT=dev-disk\\x2dby.device\n", true},
                                         {"_SYSTEMD_UNIT=dev-diskx2dby.device\n", false}};
    const struct tf_journal_select select = {.units = units, .unit_count = 1, .priority_max = -1};

    (void)state;
    check(&select, lines, TF_COUNT(lines));
}

static void identifiers_are_those_of_the_field(void **state)
{
    static const char *const identifiers[] = {"cron*"};
    static const struct lines lines[] = {
        {"SYSLOG_IDENTIFIER=crond\n", true},
        {"SYSLOG_IDENTIFIER=x\nSYSLOG_IDENTIFIER=cron\n", true},
        {"_COMM=cron\n", false},
        {"SYSLOG_IDENTIFIER=acron\n", false},
    };
    const struct tf_journal_select select = {
        .identifiers = identifiers, .identifier_count = 1, .priority_max = -1};

    (void)state;
    check(&select, lines, TF_COUNT(lines));
}

static void what_has_no_priority_is_wanted(void **state)
{
    static const struct lines lines[] = {
        {"PRIORITY=0\n", true},  {"PRIORITY=4\n", true}, {"PRIORITY=5\n", false},
        {"PRIORITY=7\n", false}, {"PRIORITY=8\n", true}, {"PRIORITY=x\n", true},
        {"PRIORITY=\n", true},   {"MESSAGE=x\n", true},
    };
    const struct tf_journal_select select = {.priority_max = 4};
    const struct tf_journal_select emergency = {.priority_max = 0};

    (void)state;
    check(&select, lines, TF_COUNT(lines));
    assert_true(is_wanted(&emergency, "PRIORITY=0\n"));
    assert_false(is_wanted(&emergency, "PRIORITY=1\n"));
}

static void all_pairs_of_one_match_hold(void **state)
{
    static const struct tf_journal_pair kernel[] = {{"_TRANSPORT", "kernel"}};
    static const struct tf_journal_pair root_cron[] = {{"_UID", "0"}, {"_COMM", "cron"}};
    static const struct tf_journal_match matches[] = {{kernel, 1}, {root_cron, 2}};
    static const struct lines lines[] = {
        {"_TRANSPORT=kernel\n", true},
        {"_UID=0\n_COMM=cron\n", true},
        {"_COMM=a\n_COMM=cron\n_UID=1\n_UID=0\n", true},
        {"_UID=0\n", false},
        {"_COMM=cron\nUID=0\n", false},
        {"_TRANSPORT=kernel2\n", false},
        {"MESSAGE=x\n", false},
    };
    const struct tf_journal_select select = {
        .matches = matches, .match_count = 2, .priority_max = -1};

    (void)state;
    check(&select, lines, TF_COUNT(lines));
}

static void the_agents_own_entries_are_not_wanted(void **state)
{
    static const struct lines lines[] = {
        {"_SYSTEMD_INVOCATION_ID=aaaa\n", false},
        {"_SYSTEMD_INVOCATION_ID=bbbb\n", true},
        {"SYSTEMD_INVOCATION_ID=aaaa\n", true}, /* anybody may send that */
        {"MESSAGE=x\n", true},
    };
    const struct tf_journal_select select = {.invocation_id = "aaaa", .priority_max = -1};

    (void)state;
    check(&select, lines, TF_COUNT(lines));
}

static void every_condition_holds(void **state)
{
    static const char *const units[] = {"a"}, *const excluded[] = {"b"},
                             *const identifiers[] = {"i"};
    static const struct tf_journal_pair pair[] = {{"P", "1"}};
    static const struct tf_journal_match match = {pair, 1};
    static const struct lines lines[] = {
        {"_SYSTEMD_UNIT=a\nSYSLOG_IDENTIFIER=i\nP=1\nPRIORITY=3\n", true},
        {"_SYSTEMD_UNIT=a\nSYSLOG_IDENTIFIER=i\nP=1\nPRIORITY=4\n", false},
        {"_SYSTEMD_UNIT=a\nSYSLOG_IDENTIFIER=i\nP=2\nPRIORITY=3\n", false},
        {"_SYSTEMD_UNIT=a\nSYSLOG_IDENTIFIER=j\nP=1\nPRIORITY=3\n", false},
        {"_SYSTEMD_UNIT=c\nSYSLOG_IDENTIFIER=i\nP=1\nPRIORITY=3\n", false},
        {"_SYSTEMD_UNIT=a\n_SYSTEMD_USER_UNIT=b\nSYSLOG_IDENTIFIER=i\nP=1\nPRIORITY=3\n", false},
    };
    const struct tf_journal_select select = {.units = units,
                                             .unit_count = 1,
                                             .exclude_units = excluded,
                                             .exclude_unit_count = 1,
                                             .identifiers = identifiers,
                                             .identifier_count = 1,
                                             .priority_max = 3,
                                             .matches = &match,
                                             .match_count = 1};

    (void)state;
    check(&select, lines, TF_COUNT(lines));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(units_match_as_journalctl_has_it),
        cmocka_unit_test(excluded_units_are_the_others),
        cmocka_unit_test(globs_take_a_backslash_as_it_is),
        cmocka_unit_test(identifiers_are_those_of_the_field),
        cmocka_unit_test(what_has_no_priority_is_wanted),
        cmocka_unit_test(all_pairs_of_one_match_hold),
        cmocka_unit_test(the_agents_own_entries_are_not_wanted),
        cmocka_unit_test(every_condition_holds),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
