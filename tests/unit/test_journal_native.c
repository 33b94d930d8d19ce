/* The journal's native protocol: every case that was tried on journald 252, and hostile ones. */
#include "journal_fixture.h"

#include <errno.h>

static const struct tf_journal_sender SENDER = {
    .is_known = true, .pid = 4711, .uid = 1000, .gid = 1001, .received_ns = NOW_NS};

static int decode(struct tf_slice datagram, struct tf_batch *batch)
{
    return tf_native_decode(datagram, &SENDER, NULL, batch);
}

static void check_fixture(const struct expected *expected)
{
    char name[160];
    struct tf_slice datagram;
    struct tf_batch batch;
    struct field_set got;

    assert_true(snprintf(name, sizeof name, "native/%s", expected->name) > 0);
    datagram = read_fixture(name);
    assert_int_equal(tf_batch_init(&batch), 0);
    assert_int_equal(decode(datagram, &batch), expected->count);
    assert_int_equal(batch.record_count, expected->count);
    for (uint32_t i = 0; i < expected->count; i++) {
        client_fields(&batch, i, &got);
        assert_same_set(name, &got, &expected->entries[i]);
        assert_field(&batch, i, "journald._PID", "4711");
        assert_field(&batch, i, "journald._UID", "1000");
        assert_field(&batch, i, "journald._GID", "1001");
        assert_field(&batch, i, "journald._TRANSPORT", "journal");
        assert_int_equal(batch.records[i].time_ns, NOW_NS);
        assert_int_equal(batch.records[i].flags, 0);
    }
    tf_batch_fini(&batch);
    free((void *)(uintptr_t)datagram.data);
}

static void datagrams_become_what_journald_makes_of_them(void **state)
{
    (void)state;
    each_expected("native/expected.json", check_fixture);
}

static void every_cut_of_a_datagram_is_taken(void **state)
{
    static const char whole[] =
        "MESSAGE=a\nBLOB\n\3\0\0\0\0\0\0\0x\ny\n\nMESSAGE=b\nTAG=1\nTAG=2\n";
    struct tf_batch batch;

    (void)state;
    assert_int_equal(tf_batch_init(&batch), 0);
    for (size_t size = 0; size < sizeof whole; size++) {
        char *copy = malloc(size + 1); /* exact but for one: reading past it is seen */
        int added;

        assert_non_null(copy);
        memcpy(copy, whole, size);
        added = decode(tf_slice(copy, size), &batch);
        assert_int_equal(added, size >= 38 ? 2 : size >= 10 ? 1 : 0);
        assert_int_equal(batch.record_count, added);
        free(copy);
        assert_int_equal(tf_batch_reset(&batch), 0);
    }
    tf_batch_fini(&batch);
}

static void an_unknown_sender_has_no_ids(void **state)
{
    const struct tf_journal_sender unknown = {.received_ns = NOW_NS};
    struct tf_batch batch;

    (void)state;
    assert_int_equal(tf_batch_init(&batch), 0);
    assert_int_equal(tf_native_decode(TEXT("_PID=1\nMESSAGE=x\n"), &unknown, NULL, &batch), 1);
    assert_field(&batch, 0, "journald._PID", NULL);
    assert_field(&batch, 0, "journald._UID", NULL);
    assert_null(find_field(&batch, 0, "pid"));
    tf_batch_fini(&batch);
}

static void trusted_fields_outlive_a_flood_of_others(void **state)
{
    struct tf_buf flood;
    struct tf_batch batch;

    (void)state;
    tf_buf_init(&flood, FILE_MAX);
    for (unsigned i = 0; i < 3000; i++) {
        assert_int_equal(tf_buf_printf(&flood, "F%u=v\n", i), 0);
    }
    assert_int_equal(tf_batch_init(&batch), 0);
    assert_int_equal(decode(tf_buf_slice(&flood), &batch), 1);
    assert_int_equal(batch.records[0].flags, TF_RECORD_TRUNCATED);
    assert_int_equal(batch.records[0].true_bytes, flood.size);
    assert_int_equal(find_field(&batch, 0, "journald")->value.count, TF_JOURNAL_FIELDS_MAX + 4);
    assert_field(&batch, 0, "journald.F1023", "v");
    assert_field(&batch, 0, "journald.F1024", NULL);
    assert_field(&batch, 0, "journald._UID", "1000");
    tf_batch_fini(&batch);
    tf_buf_fini(&flood);
}

static void a_long_value_is_cut(void **state)
{
    const size_t size = 3u << 20;
    struct tf_buf datagram;
    struct tf_batch batch;
    const struct tf_cut *cut;
    struct tf_slice log;

    (void)state;
    tf_buf_init(&datagram, size + 64);
    assert_int_equal(tf_buf_append_text(&datagram, "MESSAGE="), 0);
    assert_int_equal(tf_buf_reserve(&datagram, size), 0);
    memset(datagram.data + datagram.size, 'm', size);
    datagram.size += size;
    assert_int_equal(tf_buf_append_text(&datagram, "\nAFTER=1\n"), 0);
    assert_int_equal(tf_batch_init(&batch), 0);
    assert_int_equal(decode(tf_buf_slice(&datagram), &batch), 1);
    assert_int_equal(batch.truncated, 1);
    assert_int_equal(batch.records[0].true_bytes, datagram.size);
    cut = &batch.records[0].cut;
    log = text_of(&batch, find_field(&batch, 0, "log"));
    assert_int_equal(cut->to, log.size);
    assert_true(cut->from < cut->mark_at && cut->mark_at < cut->mark_end);
    tf_batch_close_cuts(&batch);
    log = text_of(&batch, find_field(&batch, 0, "log"));
    assert_true(log.size > TF_JOURNAL_FIELD_MAX - 5000 && log.size < TF_JOURNAL_FIELD_MAX);
    assert_non_null(memmem(log.data, log.size, TEXT("mm[2101312 bytes left out]").data, 26));
    assert_field(&batch, 0, "journald.AFTER", "1");
    assert_true(batch.text.size < 3u * TF_JOURNAL_FIELD_MAX); /* the rest never went in */
    tf_batch_fini(&batch);
    tf_buf_fini(&datagram);
}

/* Two entries in a byte less than there are records for, and then some. */
static void a_datagram_of_too_many_entries_fits_an_empty_batch(void **state)
{
    struct tf_buf datagram;
    struct tf_batch batch;
    size_t size;

    (void)state;
    tf_buf_init(&datagram, FILE_MAX);
    for (unsigned i = 0; i < TF_BATCH_RECORDS_MAX + 100; i++) {
        assert_int_equal(tf_buf_append_text(&datagram, "A=1\n\n"), 0);
    }
    assert_int_equal(tf_batch_init(&batch), 0);
    assert_int_equal(decode(TEXT("MESSAGE=first\n"), &batch), 1);
    size = batch.text.size;
    assert_int_equal(decode(tf_buf_slice(&datagram), &batch), -EMSGSIZE);
    assert_int_equal(batch.record_count, 1); /* as before */
    assert_int_equal(batch.text.size, size);
    assert_field(&batch, 0, "log", "first");
    assert_int_equal(tf_batch_reset(&batch), 0);
    assert_int_equal(decode(tf_buf_slice(&datagram), &batch), TF_BATCH_RECORDS_MAX);
    assert_int_equal(batch.records[TF_BATCH_RECORDS_MAX - 1].flags, TF_RECORD_TRUNCATED);
    assert_int_equal(batch.records[TF_BATCH_RECORDS_MAX - 1].true_bytes, datagram.size);
    assert_int_equal(batch.truncated, 1);
    tf_batch_fini(&batch);
    tf_buf_fini(&datagram);
}

static void what_is_not_wanted_leaves_nothing(void **state)
{
    static const char *const units[] = {"*"};
    const struct tf_journal_select select = {.units = units, .unit_count = 1, .priority_max = -1};
    struct tf_batch batch;
    size_t size;

    (void)state;
    assert_int_equal(tf_batch_init(&batch), 0);
    size = batch.text.size;
    assert_int_equal(tf_native_decode(TEXT("MESSAGE=x\n\nMESSAGE=y\n"), &SENDER, &select, &batch),
                     0);
    assert_int_equal(batch.record_count, 0);
    assert_int_equal(batch.text.size, size);
    tf_batch_fini(&batch);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(datagrams_become_what_journald_makes_of_them),
        cmocka_unit_test(every_cut_of_a_datagram_is_taken),
        cmocka_unit_test(an_unknown_sender_has_no_ids),
        cmocka_unit_test(trusted_fields_outlive_a_flood_of_others),
        cmocka_unit_test(a_long_value_is_cut),
        cmocka_unit_test(a_datagram_of_too_many_entries_fits_an_empty_batch),
        cmocka_unit_test(what_is_not_wanted_leaves_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
