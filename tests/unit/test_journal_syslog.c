/* Syslog datagrams: what journald 252 makes of them, RFC 5424, which it does not know, and hostile
 * ones. */
#include "journal_fixture.h"

static const struct tf_journal_sender SENDER = {
    .is_known = true, .pid = 0, .uid = 1000, .gid = 1001, .received_ns = NOW_NS};

static struct tf_batch batch;

static void decode(struct tf_slice datagram)
{
    assert_int_equal(tf_batch_reset(&batch), 0);
    assert_int_equal(tf_syslog_decode(datagram, &SENDER, NULL, &batch), 1);
    assert_int_equal(batch.record_count, 1);
}

static void check_fixture(const struct expected *expected)
{
    char name[160];
    struct tf_slice datagram;
    struct field_set got;

    if (strcmp(expected->name, "02-rfc5424.dgram") == 0) {
        return; /* journald does not read it; see below */
    }
    assert_true(snprintf(name, sizeof name, "devlog/%s", expected->name) > 0);
    datagram = read_fixture(name);
    decode(datagram);
    client_fields(&batch, 0, &got);
    assert_same_set(name, &got, &expected->entries[0]);
    assert_field(&batch, 0, "journald._TRANSPORT", "syslog");
    assert_field(&batch, 0, "journald._UID", "1000");
    assert_field(&batch, 0, "journald._PID", NULL);
    assert_int_equal(batch.records[0].time_ns, NOW_NS);
    free((void *)(uintptr_t)datagram.data);
}

static void datagrams_become_what_journald_makes_of_them(void **state)
{
    (void)state;
    each_expected("devlog/expected.json", check_fixture);
}

static void rfc_5424_is_read(void **state)
{
    struct tf_slice datagram = read_fixture("devlog/02-rfc5424.dgram");

    (void)state;
    decode(datagram);
    assert_field(&batch, 0, "log", "rfc5424 body");
    assert_field(&batch, 0, "severity", "notice");
    assert_field(&batch, 0, "identifier", "app");
    assert_int_equal(find_field(&batch, 0, "pid")->value.i, 123);
    assert_field(&batch, 0, "journald.PRIORITY", "5");
    assert_field(&batch, 0, "journald.SYSLOG_FACILITY", "20");
    assert_field(&batch, 0, "journald.SYSLOG_IDENTIFIER", "app");
    assert_field(&batch, 0, "journald.SYSLOG_PID", "123");
    assert_field(&batch, 0, "journald.SYSLOG_TIMESTAMP", "2026-10-03T10:11:12.123456Z");
    assert_field(&batch, 0, "journald.SYSLOG_HOSTNAME", "host");
    assert_field(&batch, 0, "journald.SYSLOG_MSGID", "ID47");
    assert_field(&batch, 0, "journald.SYSLOG_STRUCTURED_DATA", "[ex@32473 a=\"b\"]");
    assert_field(&batch, 0, "journald.SYSLOG_RAW", NULL);
    assert_int_equal(batch.records[0].time_ns, INT64_C(1791022272123456000));
    free((void *)(uintptr_t)datagram.data);
}

static void parts_of_rfc_5424_may_be_absent(void **state)
{
    (void)state;
    decode(TEXT("<0>1 - - - - - -"));
    assert_field(&batch, 0, "log", "");
    assert_field(&batch, 0, "severity", "emergency");
    assert_field(&batch, 0, "journald.SYSLOG_FACILITY", NULL); /* 0, as journald has it */
    assert_field(&batch, 0, "identifier", NULL);
    assert_int_equal(batch.records[0].time_ns, NOW_NS);
    decode(TEXT("<14>1 - h a - - [x@1 k=\"\\]\\\"\"][y@1] \xef\xbb\xbf[not data]"));
    assert_field(&batch, 0, "journald.SYSLOG_STRUCTURED_DATA", "[x@1 k=\"\\]\\\"\"][y@1]");
    assert_field(&batch, 0, "log", "[not data]");
}

static void what_is_nearly_rfc_5424_is_text(void **state)
{
    static const char *const nearly[] = {
        "<192>1 - - - - - - text",      "<14>0 - - - - - - text", "1 - - - - - - text",
        "<14>1 yesterday - - - - - t",  "<14>1 - - - - - [open",  "<14>1 - - - - - -text",
        "<14>1 - - - - [x] too little", "<14>1  - - - - - - t",   "<14>1 - h\x01 - - - - t",
    };

    (void)state;
    for (size_t i = 0; i < TF_COUNT(nearly); i++) {
        const char *text = strchr(nearly[i], '>');

        decode(tf_slice_text(nearly[i]));
        assert_field(&batch, 0, "log", text != NULL ? text + 1 : nearly[i]);
        assert_field(&batch, 0, "journald.SYSLOG_RAW", nearly[i]);
    }
}

static void identifiers_are_read_as_journald_does(void **state)
{
    static const struct {
        const char *datagram, *identifier, *pid, *log;
    } cases[] = {
        {"<13>Oct  3 10:11:12 a[1]: x", "a", "1", "x"},
        {"<13>Oct 13 10:11:12 a[1[2]:  x", "a[1", "2", " x"},
        {"<13>Oct 13 10:11:12 a]: x", "a]", NULL, "x"},
        {"<13>Oct 13 10:11:12 a[]: x", "a", NULL, "x"},
        {"<13>Oct 13 10:11:12 : x", NULL, NULL, "x"},
        {"<13>Oct 13 10:11:12 a b: x", NULL, NULL, "a b: x"},
    };

    (void)state;
    for (size_t i = 0; i < TF_COUNT(cases); i++) {
        decode(tf_slice_text(cases[i].datagram));
        assert_field(&batch, 0, "journald.SYSLOG_IDENTIFIER", cases[i].identifier);
        assert_field(&batch, 0, "journald.SYSLOG_PID", cases[i].pid);
        assert_field(&batch, 0, "log", cases[i].log);
        assert_field(&batch, 0, "journald.SYSLOG_RAW", NULL);
    }
}

static void every_datagram_is_a_record(void **state)
{
    static const char *const odd[] = {"",        "\n\n", "<", "<>",    "<1",
                                      "<1234>x", "<-1>", ":", "<13> :"};
    char big[4096];

    (void)state;
    for (size_t i = 0; i < TF_COUNT(odd); i++) {
        decode(tf_slice_text(odd[i]));
    }
    decode(TEXT("\0\0"));
    assert_field(&batch, 0, "log", "");
    memset(big, '[', sizeof big);
    memcpy(big, "<14>1 - - - - - ", 16);
    decode(tf_slice(big, sizeof big));
    assert_int_equal(text_of(&batch, find_field(&batch, 0, "log")).size, sizeof big - 4);
}

static int set_up(void **state)
{
    (void)state;
    return tf_batch_init(&batch);
}

static int tear_down(void **state)
{
    (void)state;
    tf_batch_fini(&batch);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(datagrams_become_what_journald_makes_of_them),
        cmocka_unit_test(rfc_5424_is_read),
        cmocka_unit_test(parts_of_rfc_5424_may_be_absent),
        cmocka_unit_test(what_is_nearly_rfc_5424_is_text),
        cmocka_unit_test(identifiers_are_read_as_journald_does),
        cmocka_unit_test(every_datagram_is_a_record),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
