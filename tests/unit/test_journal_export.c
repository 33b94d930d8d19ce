/* Streams of export format: the captures however they are cut, bounds, hostile streams, what the
 * reader says. That all fields are there as journalctl has them: test_journal_fixtures.py. */
#include "journal_fixture.h"

#include <errno.h>

#define PRINTED_MAX (64u << 20)

static const struct tf_journal_rules ALL = {.select = NULL};

struct fixture {
    struct tf_export *stream;
    struct tf_batch batch;
    struct tf_export_result result;
};

static void open_stream(struct fixture *f, const struct tf_journal_rules *rules)
{
    assert_int_equal(tf_export_new(rules, &f->stream), 0);
    assert_int_equal(tf_batch_init(&f->batch), 0);
}

static void close_stream(struct fixture *f)
{
    tf_export_free(f->stream);
    tf_batch_fini(&f->batch);
}

/* Decodes bytes that are whole entries in one call. */
static void decode_all(struct fixture *f, struct tf_slice bytes)
{
    assert_int_equal(tf_export_decode(f->stream, bytes, NOW_NS, &f->batch, &f->result), bytes.size);
    assert_false(f->result.is_full);
}

/* Decodes what there is, prints the records into out, and empties the batch. */
static size_t decode_step(struct fixture *f, struct tf_slice bytes, struct tf_buf *out)
{
    size_t at = 0;
    bool is_more = true;

    while (is_more) {
        int64_t used = tf_export_decode(f->stream, tf_slice(bytes.data + at, bytes.size - at),
                                        NOW_NS, &f->batch, &f->result);

        assert_true(used >= 0);
        at += (size_t)used;
        for (uint32_t i = 0; i < f->batch.record_count; i++) {
            print_record(&f->batch, i, out);
        }
        is_more = f->result.is_full || f->result.note.kind != TF_JOURNAL_NOTE_NONE;
        assert_int_equal(tf_batch_reset(&f->batch), 0);
    }
    return at;
}

/* Gives the stream `step` bytes more each time (0: up to 1000, at random), and what was left. */
static void decode_cut(struct tf_slice bytes, size_t step, struct tf_buf *out)
{
    struct fixture f;
    size_t from = 0, to = 0;

    open_stream(&f, &ALL);
    while (to < bytes.size) {
        size_t more = step > 0 ? step : 1 + (size_t)rand() % 1000;
        char *copy;

        to = to + more < bytes.size ? to + more : bytes.size;
        copy = malloc(to - from); /* elsewhere each time, and exact */
        assert_non_null(copy);
        memcpy(copy, bytes.data + from, to - from);
        from += decode_step(&f, tf_slice(copy, to - from), out);
        free(copy);
    }
    assert_int_equal(from, bytes.size);
    close_stream(&f);
}

static uint64_t count_skipped(struct tf_slice bytes, size_t step)
{
    struct tf_export_skip skip = {0};
    uint64_t all = 0, entries;

    for (size_t at = 0; at < bytes.size;) {
        size_t size = step < bytes.size - at ? step : bytes.size - at;
        int64_t used = tf_export_skip(&skip, tf_slice(bytes.data + at, size), UINT64_MAX, &entries);

        assert_int_equal(used, size);
        at += size;
        all += entries;
    }
    return all;
}

static void assert_same(const struct tf_buf *a, const struct tf_buf *b)
{
    assert_true(a->size > 0);
    assert_int_equal(a->size, b->size);
    assert_memory_equal(a->data, b->data, a->size);
}

static void records_do_not_depend_on_how_a_stream_was_cut(void **state)
{
    static const struct {
        const char *name;
        uint64_t entries;
    } captures[] = {{"export/journalctl-252.export", 44},
                    {"export/journalctl-257.export", 43},
                    {"export/forward-to-socket-257.export", 0},
                    {"export/suppressed-252.export", 1}};

    (void)state;
    for (size_t i = 0; i < TF_COUNT(captures); i++) {
        struct tf_slice bytes = read_fixture(captures[i].name);
        struct tf_buf whole, cut;
        uint64_t skipped = count_skipped(bytes, bytes.size);
        struct fixture f;

        tf_buf_init(&whole, PRINTED_MAX);
        tf_buf_init(&cut, PRINTED_MAX);
        open_stream(&f, &ALL);
        decode_all(&f, bytes);
        assert_int_equal(f.batch.record_count, skipped);
        assert_int_equal(f.batch.read_bytes, bytes.size);
        if (captures[i].entries > 0) {
            assert_int_equal(skipped, captures[i].entries);
        }
        assert_int_equal(count_skipped(bytes, 1), skipped);
        assert_int_equal(count_skipped(bytes, 777), skipped);
        for (uint32_t k = 0; k < f.batch.record_count; k++) {
            assert_int_equal(f.batch.records[k].flags, 0);
            print_record(&f.batch, k, &whole);
        }
        close_stream(&f);
        decode_cut(bytes, 0, &cut);
        assert_same(&whole, &cut);
        tf_buf_clear(&cut);
        decode_cut(tf_slice(bytes.data, bytes.size), bytes.size, &cut);
        assert_same(&whole, &cut);
        tf_buf_fini(&cut);
        tf_buf_fini(&whole);
        free((void *)(uintptr_t)bytes.data);
    }
}

static void a_stream_may_come_byte_by_byte(void **state)
{
    struct tf_slice bytes = read_fixture("export/journalctl-252.export");
    struct tf_buf whole, cut;

    (void)state;
    bytes.size = 6000; /* some entries, the last one not whole: it comes to nothing */
    while (memcmp(bytes.data + bytes.size - 2, "\n\n", 2) != 0) {
        bytes.size--;
    }
    tf_buf_init(&whole, PRINTED_MAX);
    tf_buf_init(&cut, PRINTED_MAX);
    decode_cut(bytes, bytes.size, &whole);
    decode_cut(bytes, 1, &cut);
    assert_same(&whole, &cut);
    tf_buf_fini(&cut);
    tf_buf_fini(&whole);
    free((void *)(uintptr_t)bytes.data);
}

static void a_record_has_the_names_of_records_md(void **state)
{
    static const char entry[] = "_HOSTNAME=other\n"
                                "__REALTIME_TIMESTAMP=1795469222410603\n"
                                "PRIORITY=3\n_PID=20\n_SYSTEMD_UNIT=a.service\n_BOOT_ID=b\n"
                                "MESSAGE=first\nTAG=one\nSYSLOG_IDENTIFIER=id\nTAG=two\nTAG=one\n"
                                "MESSAGE=second\n\n";
    const struct tf_journal_rules keeps_host = {.keeps_host = true};
    const struct tf_field *tags;
    struct fixture f;

    (void)state;
    open_stream(&f, &keeps_host);
    decode_all(&f, TEXT(entry));
    assert_int_equal(f.batch.record_count, 1);
    assert_true(f.batch.records[0].time_ns == INT64_C(1795469222410603000));
    assert_int_equal(f.batch.records[0].stream, TF_STREAM_OTHER);
    assert_field(&f.batch, 0, "log", "first");
    assert_field(&f.batch, 0, "severity", "error");
    assert_field(&f.batch, 0, "unit", "a.service");
    assert_field(&f.batch, 0, "identifier", "id");
    assert_field(&f.batch, 0, "boot_id", "b");
    assert_field(&f.batch, 0, "host", "other");
    assert_int_equal(find_field(&f.batch, 0, "pid")->value.i, 20);
    assert_field(&f.batch, 0, "journald.MESSAGE", "second");
    assert_field(&f.batch, 0, "journald.PRIORITY", "3");
    tags = find_field(&f.batch, 0, "journald.TAG");
    assert_int_equal(tags->type, TF_VALUE_ARRAY);
    assert_int_equal(tags->value.count, 2);
    assert_int_equal(tags[1].key_size, 0);
    assert_memory_equal(text_of(&f.batch, &tags[1]).data, "one\n", 4);
    assert_memory_equal(text_of(&f.batch, &tags[2]).data, "two\n", 4);
    close_stream(&f);
}

static void a_name_of_ours_falls_back_on_another_field(void **state)
{
    struct fixture f;

    (void)state;
    open_stream(&f, &ALL);
    decode_all(&f,
               TEXT("_HOSTNAME=h\n_COMM=c\nSYSLOG_PID=7\n_SYSTEMD_USER_UNIT=u\nPRIORITY=8\n\n"));
    assert_field(&f.batch, 0, "unit", "u");
    assert_field(&f.batch, 0, "identifier", "c");
    assert_int_equal(find_field(&f.batch, 0, "pid")->value.i, 7);
    assert_field(&f.batch, 0, "severity", NULL);
    assert_field(&f.batch, 0, "log", NULL);
    assert_field(&f.batch, 0, "host", NULL);
    decode_all(&f,
               TEXT("SYSLOG_PID=7x\nPRIORITY=\nSYSLOG_IDENTIFIER=\n_PID=99999999999999999999\n\n"));
    assert_null(find_field(&f.batch, 1, "pid"));
    assert_field(&f.batch, 1, "severity", NULL);
    assert_field(&f.batch, 1, "identifier", NULL);
    assert_field(&f.batch, 1, "journald.PRIORITY", "");
    close_stream(&f);
}

static void times_that_cannot_be_fall_back(void **state)
{
    static const struct {
        const char *entry;
        int64_t time_ns;
    } cases[] = {
        {"_SOURCE_REALTIME_TIMESTAMP=5\n__REALTIME_TIMESTAMP=6\n\n", 5000},
        {"__REALTIME_TIMESTAMP=6\n_SOURCE_REALTIME_TIMESTAMP=5\n\n", 5000},
        {"_SOURCE_REALTIME_TIMESTAMP=-5\n__REALTIME_TIMESTAMP=6\n\n", 6000},
        {"_SOURCE_REALTIME_TIMESTAMP=9223372036854775807\n__REALTIME_TIMESTAMP=6\n\n", 6000},
        {"_SOURCE_REALTIME_TIMESTAMP=18446744073709551616\n__REALTIME_TIMESTAMP=x\n\n", NOW_NS},
        {"_SOURCE_REALTIME_TIMESTAMP=\n\n", NOW_NS},
    };
    struct fixture f;

    (void)state;
    open_stream(&f, &ALL);
    for (size_t i = 0; i < TF_COUNT(cases); i++) {
        decode_all(&f, tf_slice_text(cases[i].entry));
        assert_true(f.batch.records[i].time_ns == cases[i].time_ns);
    }
    close_stream(&f);
}

/* ---- containers --------------------------------------------------------------------------------
 */

#define DOCKER    "_UID=0\n_SYSTEMD_UNIT=docker.service\n"
#define ID        "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define POD       "k8s_app_pay-0_shop_6c1e_2"
#define CONTAINER "CONTAINER_ID=0123456789ab\nCONTAINER_ID_FULL=" ID "\n"

static void a_container_is_named_as_its_files_are(void **state)
{
    struct fixture f;

    (void)state;
    open_stream(&f, &ALL);
    decode_all(&f, TEXT(DOCKER CONTAINER "CONTAINER_NAME=web_1\n\n"));
    assert_field(&f.batch, 0, "container_id", ID);
    assert_field(&f.batch, 0, "container_name", "web_1");
    assert_null(find_field(&f.batch, 0, "kubernetes"));
    decode_all(&f, TEXT(DOCKER CONTAINER "CONTAINER_NAME=" POD "\n\n"));
    assert_field(&f.batch, 1, "kubernetes.namespace_name", "shop");
    assert_field(&f.batch, 1, "kubernetes.pod_name", "pay-0");
    assert_field(&f.batch, 1, "kubernetes.pod_id", "6c1e");
    assert_field(&f.batch, 1, "kubernetes.container_name", "app");
    assert_field(&f.batch, 1, "kubernetes.docker_id", ID);
    assert_int_equal(find_field(&f.batch, 1, "kubernetes.restart_count")->value.i, 2);
    assert_null(find_field(&f.batch, 1, "container_name"));
    assert_field(&f.batch, 1, "journald.CONTAINER_NAME", POD);
    decode_all(&f, TEXT("_UID=0\n_SYSTEMD_UNIT=libpod-conmon-" ID ".scope\n" CONTAINER "\n"));
    assert_field(&f.batch, 2, "container_id", ID);
    close_stream(&f);
}

/* Whoever may log may send CONTAINER_NAME: only a runtime's own unit, as root, is believed. */
static void nobody_poses_as_a_container(void **state)
{
    static const char *const entries[] = {
        "_UID=1000\n_SYSTEMD_UNIT=docker.service\n",
        "_SYSTEMD_UNIT=docker.service\n",
        "_UID=0\n",
        "_UID=0\n_SYSTEMD_UNIT=docker-" ID ".scope\n",
        "_UID=0\n_SYSTEMD_UNIT=evil.service\nUNIT=docker.service\nSYSTEMD_UNIT=docker.service\n",
        "UID=0\n_UID=7\n_SYSTEMD_USER_UNIT=docker.service\n",
    };
    struct fixture f;

    (void)state;
    open_stream(&f, &ALL);
    for (uint32_t i = 0; i < TF_COUNT(entries); i++) {
        struct tf_buf entry;

        tf_buf_init(&entry, FILE_MAX);
        assert_int_equal(tf_buf_append_text(&entry, entries[i]), 0);
        assert_int_equal(tf_buf_append_text(&entry, CONTAINER "CONTAINER_NAME=" POD "\n\n"), 0);
        decode_all(&f, tf_buf_slice(&entry));
        assert_null(find_field(&f.batch, i, "kubernetes"));
        assert_null(find_field(&f.batch, i, "container_id"));
        assert_null(find_field(&f.batch, i, "container_name"));
        assert_field(&f.batch, i, "journald.CONTAINER_NAME", POD);
        tf_buf_fini(&entry);
    }
    close_stream(&f);
}

static void a_name_that_is_not_of_a_pod_is_dockers(void **state)
{
    static const char *const names[] = {"k8s_app_pay-0_shop_6c1e", "k8s_app_pay-0_shop_6c1e_",
                                        "k8s__pay-0_shop_6c1e_1", "k8s_a_b_c_d_e_1", "k8s_"};
    struct fixture f;

    (void)state;
    open_stream(&f, &ALL);
    for (uint32_t i = 0; i < TF_COUNT(names); i++) {
        char entry[256];
        int size =
            snprintf(entry, sizeof entry, DOCKER "CONTAINER_ID=x\nCONTAINER_NAME=%s\n\n", names[i]);

        decode_all(&f, tf_slice(entry, (size_t)size));
        assert_field(&f.batch, i, "container_name", names[i]);
        assert_null(find_field(&f.batch, i, "kubernetes"));
        assert_null(find_field(&f.batch, i, "container_id")); /* "x" is none */
    }
    close_stream(&f);
}

/* ---- hostile streams ---------------------------------------------------------------------------
 */

static void what_is_no_export_format_is_refused(void **state)
{
    static const struct {
        const char *bytes;
        size_t size;
    } cases[] = {
        {"A\n\xff\xff\xff\xff\xff\xff\xff\x7f", 10},
        {"A\n\1\0\0\x40\0\0\0\0", 10}, /* a byte more than 1 GiB */
        {"A\n\1\0\0\0\0\0\0\0xy\n", 13},
        {"A\n\0\0\0\0\0\0\0\0B=1\n\n", 15},
        {"<html>\n<body>no\n", 16},
        {"OK=1\n\nPOST / HTTP/1.1\r\nHost: x\r\n\r\n", 35},
    };

    (void)state;
    for (size_t i = 0; i < TF_COUNT(cases); i++) {
        struct tf_slice bytes = tf_slice(cases[i].bytes, cases[i].size);
        struct tf_export_skip skip = {0};
        struct fixture f;
        uint64_t entries;
        int64_t used;

        open_stream(&f, &ALL);
        used = tf_export_decode(f.stream, bytes, NOW_NS, &f.batch, &f.result);
        if (used > 0) { /* what stands before the fault comes first */
            assert_true(f.result.is_broken);
            assert_field(&f.batch, 0, "journald.OK", "1");
            bytes = tf_slice(bytes.data + used, bytes.size - (size_t)used);
            used = tf_export_decode(f.stream, bytes, NOW_NS, &f.batch, &f.result);
        }
        assert_int_equal(used, -EPROTO);
        assert_int_equal(tf_export_skip(&skip, bytes, UINT64_MAX, &entries), -EPROTO);
        tf_export_restart(f.stream, TEXT("s=1"));
        assert_memory_equal(tf_export_cursor(f.stream).data, "s=1", 3);
        assert_int_equal(tf_batch_reset(&f.batch), 0);
        decode_all(&f, TEXT("MESSAGE=sound again\n\n"));
        assert_field(&f.batch, 0, "log", "sound again");
        close_stream(&f);
    }
}

static void odd_names_are_left_out_and_told(void **state)
{
#define NAME64 "A123456789012345678901234567890123456789012345678901234567890123"
    static const char *const bad[] = {"=x\n", "a=x\n", "A-B=x\n", "A B\xff=x\n", NAME64 "4=x\n"};
    struct fixture f;

    (void)state;
    open_stream(&f, &ALL);
    for (uint32_t i = 0; i < TF_COUNT(bad); i++) {
        char entry[256];
        int size = snprintf(entry, sizeof entry, "%s" NAME64 "=longest\nMESSAGE=kept\n\n", bad[i]);

        decode_all(&f, tf_slice(entry, (size_t)size));
        assert_int_equal(f.batch.records[i].flags, TF_RECORD_MALFORMED);
        assert_int_equal(f.batch.malformed, i + 1);
        assert_field(&f.batch, i, "log", "kept");
        assert_field(&f.batch, i, "journald." NAME64, "longest");
        assert_int_equal(find_field(&f.batch, i, "journald")->value.count, 1);
    }
    decode_all(&f, TEXT("a b\n\2\0\0\0\0\0\0\0=\n\nMESSAGE=x\n\n"));
    assert_int_equal(f.batch.records[TF_COUNT(bad)].flags, TF_RECORD_MALFORMED);
    assert_field(&f.batch, TF_COUNT(bad), "log", "x");
    decode_all(&f, TEXT("a=b\n\n")); /* nothing is left, but an entry it was */
    assert_int_equal(f.batch.record_count, TF_COUNT(bad) + 2);
    assert_int_equal(f.batch.records[TF_COUNT(bad) + 1].field_count, 0);
    close_stream(&f);
}

static void values_are_kept_byte_for_byte(void **state)
{
    struct fixture f;

    (void)state;
    open_stream(&f, &ALL);
    decode_all(&f, TEXT("\n\n\n"));
    assert_int_equal(f.batch.record_count, 0); /* empty lines are no entries */
    decode_all(&f,
               TEXT("MESSAGE\n\4\0\0\0\0\0\0\0a\0b\r\nEMPTY\n\0\0\0\0\0\0\0\0\nE=\nEQ==a=b\r\n\n"));
    assert_int_equal(text_of(&f.batch, find_field(&f.batch, 0, "log")).size, 4);
    assert_memory_equal(text_of(&f.batch, find_field(&f.batch, 0, "log")).data, "a\0b\r\n", 5);
    assert_field(&f.batch, 0, "journald.EMPTY", "");
    assert_field(&f.batch, 0, "journald.E", "");
    assert_field(&f.batch, 0, "journald.EQ", "=a=b\r");
    close_stream(&f);
}

/* Appends NAME=value of so many bytes; the value begins with its number, so that none are alike. */
static void append_value(struct tf_buf *out, const char *name, unsigned number, size_t size)
{
    size_t at;

    assert_int_equal(tf_buf_printf(out, "%s=%u:", name, number), 0);
    at = out->size;
    assert_int_equal(tf_buf_reserve(out, size + 1), 0);
    memset(out->data + at, 'v', size);
    out->data[at + size] = '\n';
    out->size = at + size + 1;
}

static void a_thousand_fields_and_more_are_bounded(void **state)
{
    struct tf_buf entry;
    struct fixture f;

    (void)state;
    tf_buf_init(&entry, FILE_MAX);
    for (unsigned i = 0; i < 2000; i++) {
        assert_int_equal(tf_buf_printf(&entry, "MANY=%u\nF%u=x\n", i, i), 0);
    }
    assert_int_equal(tf_buf_append_text(&entry, "_UID=0\n_PID=5\n\n"), 0);
    open_stream(&f, &ALL);
    decode_all(&f, tf_buf_slice(&entry));
    assert_int_equal(f.batch.records[0].flags, TF_RECORD_TRUNCATED);
    assert_int_equal(f.batch.records[0].true_bytes, entry.size);
    assert_int_equal(f.batch.truncated, 1);
    assert_int_equal(find_field(&f.batch, 0, "journald.MANY")->value.count, 512);
    assert_field(&f.batch, 0, "journald.F511", "x");
    assert_field(&f.batch, 0, "journald.F512", NULL);
    assert_field(&f.batch, 0, "journald._UID", "0"); /* the sender could not push it out */
    assert_int_equal(find_field(&f.batch, 0, "pid")->value.i, 5);
    close_stream(&f);
    tf_buf_fini(&entry);
}

/* Two values over 1 MiB: of the first there is the head, of the second what is left out. */
static void long_values_are_cut(void **state)
{
    struct tf_buf entry;
    struct fixture f;
    struct tf_slice text;
    char wanted[64];

    (void)state;
    tf_buf_init(&entry, TF_JOURNAL_ENTRY_MAX);
    append_value(&entry, "EXACT", 0, TF_JOURNAL_FIELD_MAX - 2);
    append_value(&entry, "LONG", 1, TF_JOURNAL_FIELD_MAX - 1);
    append_value(&entry, "LONG", 1, TF_JOURNAL_FIELD_MAX - 1);
    assert_int_equal(tf_buf_append_text(&entry, "AFTER=1\n\n"), 0);
    open_stream(&f, &ALL);
    decode_all(&f, tf_buf_slice(&entry));
    assert_int_equal(f.batch.records[0].flags, TF_RECORD_TRUNCATED);
    assert_int_equal(f.batch.records[0].true_bytes, entry.size);
    assert_true(f.batch.records[0].cut.to > 0);
    tf_batch_close_cuts(&f.batch);
    text = text_of(&f.batch, find_field(&f.batch, 0, "journald.EXACT"));
    assert_int_equal(text.size, TF_JOURNAL_FIELD_MAX);
    text = text_of(&f.batch, find_field(&f.batch, 0, "journald.LONG") + 1);
    assert_true(text.size < TF_JOURNAL_FIELD_MAX && text.size > TF_JOURNAL_FIELD_MAX - 5000);
    assert_memory_equal(text.data + text.size - 26, "vvvvv[4161 bytes left out]", 26);
    text = text_of(&f.batch, find_field(&f.batch, 0, "journald.LONG") + 2);
    assert_true(snprintf(wanted, sizeof wanted, "[%u bytes left out]", TF_JOURNAL_FIELD_MAX + 1) >
                0);
    assert_true(tf_slice_equal(text, tf_slice_text(wanted)));
    assert_field(&f.batch, 0, "journald.AFTER", "1");
    close_stream(&f);
    tf_buf_fini(&entry);
}

/* An entry larger than what may lie with the caller: the same whole and in parts; of what is in it
 * all that is short, and journald's own fields, which come last. */
static void an_entry_over_the_bound_is_consumed_while_it_comes(void **state)
{
    struct tf_buf entry, whole, cut;
    struct fixture f;
    size_t from = 0, to = 0, most = 0;

    (void)state;
    tf_buf_init(&entry, 8 * TF_JOURNAL_ENTRY_MAX);
    tf_buf_init(&whole, PRINTED_MAX);
    tf_buf_init(&cut, PRINTED_MAX);
    append_value(&entry, "MESSAGE", 0, TF_JOURNAL_ENTRY_MAX + 1000);
    for (unsigned i = 0; i < 10; i++) {
        append_value(&entry, i % 2 != 0 ? "ODD" : "bad", i, TF_JOURNAL_FIELD_MAX - 100);
    }
    for (unsigned i = 0; i < 100; i++) {
        append_value(&entry, "SMALL", i, 10000);
    }
    append_value(&entry, "LATE", 0, 20000);
    append_value(&entry, "_CMDLINE", 0, 200000);
    assert_int_equal(tf_buf_append(&entry, "_B\n\3\0\0\0\0\0\0\0x\ny\n_UID=0\n_PID=5\n", 29), 0);
    assert_int_equal(tf_buf_append_text(&entry, "__REALTIME_TIMESTAMP=7\n\n"), 0);
    open_stream(&f, &ALL);
    decode_all(&f, tf_buf_slice(&entry));
    assert_int_equal(f.batch.record_count, 1);
    assert_int_equal(f.batch.records[0].flags, TF_RECORD_TRUNCATED | TF_RECORD_MALFORMED);
    assert_int_equal(f.batch.records[0].true_bytes, entry.size);
    assert_true(f.batch.text.size <= TF_JOURNAL_ENTRY_MAX + FILE_MAX);
    assert_int_equal(find_field(&f.batch, 0, "pid")->value.i, 5);
    assert_field(&f.batch, 0, "journald._UID", "0");
    assert_field(&f.batch, 0, "journald.LATE", NULL); /* no room any more */
    assert_int_equal(find_field(&f.batch, 0, "journald.ODD")->value.count, 2);
    assert_true(find_field(&f.batch, 0, "journald.SMALL")->value.count > 60);
    assert_field(&f.batch, 0, "journald._B", "x\ny"); /* but for journald's own */
    assert_non_null(find_field(&f.batch, 0, "journald._CMDLINE"));
    assert_int_equal(f.batch.records[0].time_ns, 7000);
    print_record(&f.batch, 0, &whole);
    assert_int_equal(tf_batch_reset(&f.batch), 0);
    while (to < entry.size) {
        to = to + 300000 < entry.size ? to + 300000 : entry.size;
        from += decode_step(&f, tf_slice(entry.data + from, to - from), &cut);
        most = to - from > most ? to - from : most;
    }
    assert_int_equal(from, entry.size);
    assert_true(most <= TF_JOURNAL_ENTRY_MAX);
    assert_same(&whole, &cut);
    close_stream(&f);
    tf_buf_fini(&cut);
    tf_buf_fini(&whole);
    tf_buf_fini(&entry);
}

static void an_entry_just_at_the_bound_is_whole(void **state)
{
    struct tf_buf entry;

    (void)state;
    for (size_t more = 0; more < 2; more++) {
        struct fixture f;

        tf_buf_init(&entry, 2 * TF_JOURNAL_ENTRY_MAX);
        for (unsigned i = 0; i < 3; i++) {
            append_value(&entry, "M", i, TF_JOURNAL_FIELD_MAX - 100);
        }
        append_value(&entry, "LAST", 0, TF_JOURNAL_ENTRY_MAX - entry.size - 9 + more);
        assert_int_equal(tf_buf_append_byte(&entry, '\n'), 0);
        assert_int_equal(entry.size, TF_JOURNAL_ENTRY_MAX + more);
        open_stream(&f, &ALL);
        decode_all(&f, tf_buf_slice(&entry));
        assert_int_equal(find_field(&f.batch, 0, "journald.M")->value.count, 3);
        assert_int_equal(f.batch.records[0].true_bytes, entry.size);
        close_stream(&f);
        tf_buf_fini(&entry);
    }
}

static void a_full_batch_is_told_and_nothing_is_lost(void **state)
{
    struct tf_buf bytes, out;
    struct fixture f;
    uint32_t rounds = 0, records = 0;
    size_t at = 0;

    (void)state;
    tf_buf_init(&bytes, 8 * TF_JOURNAL_ENTRY_MAX);
    tf_buf_init(&out, PRINTED_MAX);
    for (unsigned i = 0; i < TF_BATCH_RECORDS_MAX + 10; i++) {
        assert_int_equal(tf_buf_printf(&bytes, "N=%u\n\n", i), 0);
    }
    open_stream(&f, &ALL);
    do {
        int64_t used = tf_export_decode(f.stream, tf_slice(bytes.data + at, bytes.size - at),
                                        NOW_NS, &f.batch, &f.result);

        assert_true(used > 0);
        at += (size_t)used;
        for (uint32_t i = 0; i < f.batch.record_count; i++) {
            char wanted[16];

            assert_true(snprintf(wanted, sizeof wanted, "%u", records + i) > 0);
            assert_field(&f.batch, i, "journald.N", wanted);
        }
        records += f.batch.record_count;
        rounds++;
        assert_int_equal(tf_batch_reset(&f.batch), 0);
    } while (f.result.is_full);
    assert_int_equal(rounds, 2);
    assert_int_equal(records, TF_BATCH_RECORDS_MAX + 10);
    /* Long entries that do not fit side by side, each consumed before there is room for it. */
    tf_buf_clear(&bytes);
    for (unsigned i = 0; i < 17; i++) {
        append_value(&bytes, "M", i, TF_JOURNAL_FIELD_MAX - 100);
    }
    assert_int_equal(tf_buf_append_byte(&bytes, '\n'), 0);
    for (rounds = 1; !f.result.is_full; rounds++) {
        assert_int_equal(
            tf_export_decode(f.stream, tf_buf_slice(&bytes), NOW_NS, &f.batch, &f.result),
            bytes.size);
        assert_int_equal(f.batch.record_count, f.result.is_full ? rounds - 1 : rounds);
    }
    assert_true(rounds > 5);
    assert_int_equal(tf_batch_reset(&f.batch), 0);
    decode_all(&f, tf_slice(bytes.data, 0));
    assert_int_equal(f.batch.record_count, 1);
    close_stream(&f);
    tf_buf_fini(&out);
    tf_buf_fini(&bytes);
}

/* ---- skipping ----------------------------------------------------------------------------------
 */

static void skipping_stops_at_the_end_of_an_entry(void **state)
{
    static const char bytes[] = "A=1\n\nB\n\2\0\0\0\0\0\0\0\n\n\n\n\nC=1\n\nD=1\n";
    struct tf_export_skip skip = {0};
    struct fixture f;
    uint64_t entries;

    (void)state;
    assert_int_equal(tf_export_skip(&skip, TEXT(bytes), 1, &entries), 5);
    assert_int_equal(entries, 1);
    assert_int_equal(tf_export_skip(&skip, tf_slice(bytes + 5, sizeof bytes - 6), 6, &entries), 14);
    assert_int_equal(entries, 1);
    open_stream(&f, &ALL); /* the stream may go on from there */
    decode_all(&f, tf_slice(bytes + 19, 6));
    assert_field(&f.batch, 0, "journald.C", "1");
    close_stream(&f);
    assert_int_equal(tf_export_skip(&skip, tf_slice(bytes + 19, 10), UINT64_MAX, &entries), 10);
    assert_int_equal(entries, 1);
    assert_int_equal(tf_export_skip(&skip, TEXT("\n"), UINT64_MAX, &entries), 1);
    assert_int_equal(entries, 1);
}

/* ---- what a stream says ------------------------------------------------------------------------
 */

static void assert_cursor(const struct fixture *f, const char *wanted)
{
    assert_true(tf_slice_equal(tf_export_cursor(f->stream), tf_slice_text(wanted)));
}

static void the_reader_speaks_between_entries(void **state)
{
    static const char bytes[] = "__READER_HEARTBEAT=1\n\n__READER_CURSOR=c1\n\n"
                                "__CURSOR=c2\nMESSAGE=a\n\n"
                                "__READER_GAP=vacuumed\n__READER_TEXT=entries are gone\n"
                                "__READER_ENTRIES=12\n__READER_CURSOR=c3\n\n"
                                "__READER_ERROR=no such file\n\n"
                                "__READER_GAP=unreadable\n\n__CURSOR=c4\nMESSAGE=b\n\n";
    const struct tf_journal_rules reader = {.is_reader = true};
    struct tf_slice rest = TEXT(bytes);
    struct fixture f;

    (void)state;
    open_stream(&f, &reader);
    assert_cursor(&f, "");
    for (unsigned i = 0; i < 4; i++) {
        static const enum tf_journal_note_kind kinds[] = {
            TF_JOURNAL_NOTE_GAP, TF_JOURNAL_NOTE_ERROR, TF_JOURNAL_NOTE_GAP, TF_JOURNAL_NOTE_NONE};
        int64_t used = tf_export_decode(f.stream, rest, NOW_NS, &f.batch, &f.result);

        assert_true(used > 0);
        rest = tf_slice(rest.data + used, rest.size - (size_t)used);
        assert_int_equal(f.result.note.kind, kinds[i]);
        assert_int_equal(f.batch.record_count, i < 3 ? 1 : 2);
        if (i == 0) {
            assert_int_equal(f.result.note.entries, 12);
            assert_true(tf_slice_equal(f.result.note.reason, TEXT("vacuumed")));
            assert_true(tf_slice_equal(f.result.note.text, TEXT("entries are gone")));
            assert_cursor(&f, "c3");
        } else if (i == 1) {
            assert_true(tf_slice_equal(f.result.note.text, TEXT("no such file")));
        } else if (i == 2) {
            assert_true(f.result.note.entries == UINT64_MAX);
            assert_int_equal(f.result.note.text.size, 0);
        }
    }
    assert_int_equal(rest.size, 0);
    assert_cursor(&f, "c4");
    close_stream(&f);
}

static void only_the_reader_speaks(void **state)
{
    const struct tf_journal_rules reader = {.is_reader = true};
    struct fixture f;

    (void)state;
    open_stream(&f, &ALL);
    decode_all(&f, TEXT("__READER_GAP=vacuumed\n\n"));
    assert_int_equal(f.batch.record_count, 1);
    assert_field(&f.batch, 0, "journald.__READER_GAP", "vacuumed");
    close_stream(&f);
    open_stream(&f, &reader); /* not as its first field */
    decode_all(&f, TEXT("MESSAGE=x\n__READER_GAP=vacuumed\n\n"));
    assert_int_equal(f.batch.record_count, 1);
    close_stream(&f);
}

static void journald_tells_what_it_suppressed(void **state)
{
    struct tf_slice bytes = read_fixture("export/suppressed-252.export");
    struct fixture f;

    (void)state;
    open_stream(&f, &ALL);
    decode_all(&f, bytes);
    assert_int_equal(f.batch.record_count, 1);
    assert_int_equal(f.result.note.kind, TF_JOURNAL_NOTE_SUPPRESSED);
    assert_int_equal(f.result.note.entries, 100);
    assert_true(tf_slice_equal(f.result.note.text, TEXT("noisy.service")));
#define SUPPRESSED "MESSAGE_ID=a596d6fe7bfa4994828e72309e95d61e\n"
    decode_all(&f, TEXT(SUPPRESSED "N_DROPPED=9\n_TRANSPORT=journal\n\n"));
    assert_int_equal(f.result.note.kind, TF_JOURNAL_NOTE_NONE); /* a client's claim */
    decode_all(&f, TEXT(SUPPRESSED "N_DROPPED=many\n_TRANSPORT=driver\n\n"));
    assert_int_equal(f.result.note.kind, TF_JOURNAL_NOTE_NONE);
    close_stream(&f);
    free((void *)(uintptr_t)bytes.data);
}

static bool is_c2(void *ctx, struct tf_slice cursor)
{
    ++*(unsigned *)ctx;
    return tf_slice_equal(cursor, TEXT("c2"));
}

static void repeats_are_dropped_and_counted(void **state)
{
    unsigned asked = 0;
    const struct tf_journal_rules rules = {.is_repeat = is_c2, .ctx = &asked};
    char long_cursor[TF_JOURNAL_CURSOR_MAX + 32];
    struct fixture f;
    int size;

    (void)state;
    open_stream(&f, &rules);
    decode_all(&f, TEXT("__CURSOR=c1\nA=1\n\nA=1\n\n__CURSOR=c2\nA=1\n\n"));
    assert_int_equal(asked, 2);
    assert_int_equal(f.result.repeats, 1);
    assert_int_equal(f.batch.record_count, 2);
    assert_cursor(&f, "c2");
    size = snprintf(long_cursor, sizeof long_cursor, "__CURSOR=%0*d\n\n", TF_JOURNAL_CURSOR_MAX + 1,
                    0);
    decode_all(&f, tf_slice(long_cursor, (size_t)size));
    assert_cursor(&f, "c2"); /* that was none */
    close_stream(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(records_do_not_depend_on_how_a_stream_was_cut),
        cmocka_unit_test(a_stream_may_come_byte_by_byte),
        cmocka_unit_test(a_record_has_the_names_of_records_md),
        cmocka_unit_test(a_name_of_ours_falls_back_on_another_field),
        cmocka_unit_test(times_that_cannot_be_fall_back),
        cmocka_unit_test(a_container_is_named_as_its_files_are),
        cmocka_unit_test(nobody_poses_as_a_container),
        cmocka_unit_test(a_name_that_is_not_of_a_pod_is_dockers),
        cmocka_unit_test(what_is_no_export_format_is_refused),
        cmocka_unit_test(odd_names_are_left_out_and_told),
        cmocka_unit_test(values_are_kept_byte_for_byte),
        cmocka_unit_test(a_thousand_fields_and_more_are_bounded),
        cmocka_unit_test(long_values_are_cut),
        cmocka_unit_test(an_entry_over_the_bound_is_consumed_while_it_comes),
        cmocka_unit_test(an_entry_just_at_the_bound_is_whole),
        cmocka_unit_test(a_full_batch_is_told_and_nothing_is_lost),
        cmocka_unit_test(skipping_stops_at_the_end_of_an_entry),
        cmocka_unit_test(the_reader_speaks_between_entries),
        cmocka_unit_test(only_the_reader_speaks),
        cmocka_unit_test(journald_tells_what_it_suppressed),
        cmocka_unit_test(repeats_are_dropped_and_counted),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
