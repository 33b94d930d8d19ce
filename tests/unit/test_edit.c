/* test_edit.c - the edit filter does as docs/edit.md says. */
#include "fields_fixture.h"

/* 12 maps in one another; a record has 14 at most. */
#define DEEP_12                                                                                    \
    "{\"m\":{\"m\":{\"m\":{\"m\":{\"m\":{\"m\":{\"m\":{\"m\":{\"m\":{\"m\":{\"m\":{\"m\":"
#define UP_12 "}}}}}}}}}}}}"

static void assert_becomes(struct fixture *f, const char *filter, const char *json,
                           const char *wanted)
{
    char yaml[1024];

    (void)snprintf(yaml, sizeof yaml, "edit: {%s}", filter);
    open_filter(f, yaml);
    assert_int_equal(tf_batch_reset(&f->batch), 0);
    (void)add_record(&f->batch, "{\"before\":1}");
    (void)add_record(&f->batch, json);
    (void)add_record(&f->batch, "{\"behind\":1}");
    apply(f);
    assert_printed(&f->batch, 1, wanted);
}

static void fields_are_edited(void **state)
{
    static const struct {
        const char *filter, *json, *wanted;
    } cases[] = {
        /* the page's example */
        {"rename: {fields.msg: message, fields.lvl: fields.level}, remove: [fields.debug, stream], "
         "add: {team: shop, fields.build: none}",
         "{\"log\":\"x\",\"stream\":\"stdout\",\"fields\":{\"msg\":\"paid\",\"lvl\":\"info\","
         "\"debug\":{\"a\":1}}}",
         "{\"log\":\"x\",\"fields\":{\"level\":\"info\",\"build\":\"none\"},\"message\":\"paid\","
         "\"team\":\"shop\"}"},
        /* add */
        {"add: {a: x}", "{}", "{\"a\":\"x\"}"},
        {"add: {a: ''}", "{\"b\":1}", "{\"b\":1,\"a\":\"\"}"},
        {"add: {a: x}", "{\"a\":1}", "{\"a\":1}"},
        {"add: {a.b: x}", "{\"c\":1}", "{\"c\":1,\"a\":{\"b\":\"x\"}}"},
        {"add: {a.b.c: x}", "{\"a\":{\"d\":[1,2]},\"e\":3}",
         "{\"a\":{\"d\":[1,2],\"b\":{\"c\":\"x\"}},\"e\":3}"},
        {"add: {a.b: x}", "{\"a\":{\"b\":1}}", "{\"a\":{\"b\":1}}"},
        {"add: {a.b: x}", "{\"a\":1}", "{\"a\":1}"},
        {"add: {a.b: x}", "{\"a.b\":1}", "{\"a.b\":1}"},
        {"add: {a: x, a.b: y, c: z}", "{}", "{\"a\":\"x\",\"c\":\"z\"}"},
        {"add: {1.2.3.4.5.6.7.8.9.10.11.12.13.14.15: x}", "{}",
         "{\"1\":{\"2\":{\"3\":{\"4\":{\"5\":{\"6\":{\"7\":{\"8\":{\"9\":{\"10\":{\"11\":{\"12\":{"
         "\"13\":{\"14\":{\"15\":\"x\"}}}}}}}}}}}}}}}"},
        /* remove */
        {"remove: a", "{\"a\":1,\"b\":2}", "{\"b\":2}"},
        {"remove: [a, b]", "{\"a\":{\"c\":[1,{\"d\":2}]},\"b\":2}", "{}"},
        {"remove: [a.b]", "{\"a\":{\"b\":{\"c\":1}},\"d\":2}", "{\"a\":{},\"d\":2}"},
        {"remove: [a.b]", "{\"a\":{\"b\":1,\"c\":2},\"a.b\":3}", "{\"a\":{\"b\":1,\"c\":2}}"},
        {"remove: [a.b, x]", "{\"a\":[{\"b\":1}]}", "{\"a\":[{\"b\":1}]}"},
        {"remove: [log]", "{\"log\":\"x\",\"stream\":\"stdout\"}", "{\"stream\":\"stdout\"}"},
        /* rename */
        {"rename: {a: b}", "{\"a\":1,\"c\":2}", "{\"c\":2,\"b\":1}"},
        {"rename: {a: b}", "{\"a\":1,\"b\":2}", "{\"a\":1,\"b\":2}"},
        {"rename: {a: b, b: c}", "{\"a\":1}", "{\"c\":1}"},
        {"rename: {b: c, a: b}", "{\"a\":1,\"b\":2}", "{\"c\":2,\"b\":1}"},
        {"rename: {a: c, b: c}", "{\"a\":1,\"b\":2}", "{\"b\":2,\"c\":1}"},
        {"rename: {a: b.c}", "{\"a\":{\"x\":[1]},\"d\":2}", "{\"d\":2,\"b\":{\"c\":{\"x\":[1]}}}"},
        {"rename: {d: b.c}", "{\"b\":{\"x\":1},\"d\":{\"y\":2},\"e\":3}",
         "{\"b\":{\"x\":1,\"c\":{\"y\":2}},\"e\":3}"},
        {"rename: {e.f: b.c.d}", "{\"b\":{\"x\":1},\"e\":{\"f\":2,\"g\":3}}",
         "{\"b\":{\"x\":1,\"c\":{\"d\":2}},\"e\":{\"g\":3}}"},
        {"rename: {b.c.d: b.d}", "{\"b\":{\"c\":{\"d\":1},\"e\":2},\"g\":3}",
         "{\"b\":{\"c\":{},\"e\":2,\"d\":1},\"g\":3}"},
        {"rename: {a.b.c: c}", "{\"a\":{\"b.c\":1}}", "{\"a\":{},\"c\":1}"},
        {"rename: {a: b.c}", "{\"a\":1,\"b\":2}", "{\"a\":1,\"b\":2}"},
        {"rename: {a: b.c}", "{\"a\":1,\"b.c\":2}", "{\"a\":1,\"b.c\":2}"},
        {"rename: {log: message}", "{\"log\":<\xff>}", "{\"message_b64\":\"/w==\"}"},
        /* no record is nested deeper than may be written */
        {"rename: {m: a.b.m}", "{\"m\":" DEEP_12 "1" UP_12 "}",
         "{\"a\":{\"b\":{\"m\":" DEEP_12 "1" UP_12 "}}}"},
        {"rename: {m: a.b.c.m}", "{\"m\":" DEEP_12 "1" UP_12 "}", "{\"m\":" DEEP_12 "1" UP_12 "}"},
        {"rename: {m: a.m}", "{\"m\":" DEEP_12 "[1]" UP_12 "}",
         "{\"a\":{\"m\":" DEEP_12 "[1]" UP_12 "}}"},
        {"rename: {m: a.m}", "{\"m\":" DEEP_12 "[1,[]]" UP_12 "}",
         "{\"m\":" DEEP_12 "[1,[]]" UP_12 "}"},
        {"rename: {m: 1.2.3.4.5.6.7.8.9.10.11.12.13.14.15}", "{\"m\":[]}", "{\"m\":[]}"},
    };
    struct fixture *f = *state;

    for (size_t i = 0; i < TF_COUNT(cases); i++) {
        assert_becomes(f, cases[i].filter, cases[i].json, cases[i].wanted);
    }
}

static void each_record_of_a_batch_is_edited(void **state)
{
    struct fixture *f = *state;
    size_t text_bytes;

    open_filter(f, "edit: {rename: {b: c}, remove: [a], add: {team: shop}}");
    for (unsigned i = 0; i < 3; i++) {
        (void)add_record(&f->batch, "{\"a\":{\"x\":1},\"b\":2}");
        (void)add_record(&f->batch, "{\"team\":\"bank\"}");
        (void)add_record(&f->batch, "{\"log\":\"y\"}");
    }
    f->batch.records[8].flags |= TF_RECORD_DROPPED;
    text_bytes = f->batch.text.size;
    apply(f);
    for (uint32_t i = 0; i < 8; i += 3) {
        assert_printed(&f->batch, i, "{\"c\":2,\"team\":\"shop\"}");
        assert_printed(&f->batch, i + 1, "{\"team\":\"bank\"}");
    }
    assert_printed(&f->batch, 5, "{\"log\":\"y\",\"team\":\"shop\"}");
    assert_int_equal(f->batch.records[8].field_count, 1); /* dropped: left alone */
    assert_int_equal(f->batch.text.size, text_bytes + strlen("c\nteam\nshop\n"));
    assert_null(f->kind->rule_name(f->self, 0));
}

/* What is removed or renamed needs no room, what grows goes behind. */
static void a_record_that_does_not_grow_stays_where_it_is(void **state)
{
    struct fixture *f = *state;

    open_filter(f, "edit: {rename: {a: b}, remove: [c]}");
    (void)add_record(&f->batch, "{\"a\":1,\"c\":2}");
    apply(f);
    assert_printed(&f->batch, 0, "{\"b\":1}");
    assert_int_equal(f->batch.field_count, 2);
    assert_int_equal(f->batch.records[0].first_field, 0);
}

/* ---- the text of a long line ---------------------------------------------------------------- */

/* A record whose last field has a cut: "head" and "tail" stay, what is around the mark goes. */
static void add_cut_record(struct tf_batch *batch)
{
    struct tf_record *record =
        add_record(batch, "{\"a\":{\"x\":1,\"y\":2},\"log\":\"headAAAA[..]BBBBtail\",\"z\":3}");

    record->flags |= TF_RECORD_TRUNCATED;
    record->true_bytes = 99;
    record->cut = (struct tf_cut){
        .field = record->first_field + 3, .from = 4, .mark_at = 8, .mark_end = 12, .to = 16};
    batch->truncated++;
}

static void a_cut_goes_with_its_field(void **state)
{
    static const struct {
        const char *filter, *wanted;
    } cases[] = {
        {"add: {b: 1}", "{\"a\":{\"x\":1,\"y\":2},\"log\":\"head[..]tail\",\"z\":3,\"b\":\"1\"}"},
        {"remove: [a.x]", "{\"a\":{\"y\":2},\"log\":\"head[..]tail\",\"z\":3}"},
        {"remove: [z]", "{\"a\":{\"x\":1,\"y\":2},\"log\":\"head[..]tail\"}"},
        {"add: {a.b.c: 1}", "{\"a\":{\"x\":1,\"y\":2,\"b\":{\"c\":\"1\"}},\"log\":\"head[..]tail\","
                            "\"z\":3}"},
        {"rename: {log: a.b.log}",
         "{\"a\":{\"x\":1,\"y\":2,\"b\":{\"log\":\"head[..]tail\"}},\"z\":3}"},
        {"rename: {log: b.log}",
         "{\"a\":{\"x\":1,\"y\":2},\"z\":3,\"b\":{\"log\":\"head[..]tail\"}}"},
        {"rename: {z: a.z}", "{\"a\":{\"x\":1,\"y\":2,\"z\":3},\"log\":\"head[..]tail\"}"},
        {"remove: [log]", "{\"a\":{\"x\":1,\"y\":2},\"z\":3}"},
        {"rename: {log: b.log}, remove: [b], add: {log: new}",
         "{\"a\":{\"x\":1,\"y\":2},\"z\":3,\"log\":\"new\"}"},
    };
    struct fixture *f = *state;
    char yaml[256], wanted[256];

    for (size_t i = 0; i < TF_COUNT(cases); i++) {
        (void)snprintf(yaml, sizeof yaml, "edit: {%s}", cases[i].filter);
        (void)snprintf(wanted, sizeof wanted, "{\"taffrail\":{\"truncated\":99},%s",
                       cases[i].wanted + 1);
        open_filter(f, yaml);
        assert_int_equal(tf_batch_reset(&f->batch), 0);
        (void)add_record(&f->batch, "{\"before\":1}");
        add_cut_record(&f->batch);
        apply(f);
        tf_batch_close_cuts(&f->batch);
        assert_printed(&f->batch, 1, wanted);
    }
}

/* ---- bounds --------------------------------------------------------------------------------- */

static void what_does_not_fit_is_told(void **state)
{
    struct fixture *f = *state;
    static const struct tf_field number = {.type = TF_VALUE_UINT};

    open_filter(f, "edit: {add: {a.b: x}}");
    (void)add_record(&f->batch, "{}");
    while (f->batch.field_count < TF_BATCH_FIELDS_MAX) {
        assert_non_null(tf_batch_append_field(&f->batch, &number));
    }
    assert_int_equal(f->kind->apply(f->self, f->scratch, NULL, &f->batch), -EMSGSIZE);
    assert_int_equal(f->batch.records[0].field_count, 0);
    assert_int_equal(tf_batch_reset(&f->batch), 0);
    assert_int_equal(tf_buf_reserve(&f->batch.text, TF_BATCH_TEXT_MAX - f->batch.text.size), 0);
    f->batch.text.size = TF_BATCH_TEXT_MAX - 3;
    memset(f->batch.text.data, '\n', f->batch.text.size);
    assert_int_equal(f->kind->apply(f->self, f->scratch, NULL, &f->batch), -EMSGSIZE);
}

/* A record of very many fields, in maps and beside each other. */
static void wide_records_are_edited(void **state)
{
    struct fixture *f = *state;
    const uint32_t count = 100000;
    uint32_t key_at = 0;

    open_filter(f, "edit: {rename: {k: l.k}, remove: [log], add: {l.m: x}}");
    assert_int_equal(tf_batch_add_text(&f->batch, "k", 1, &key_at), 0);
    assert_non_null(tf_batch_add_record(&f->batch, 0, TF_STREAM_STDOUT));
    assert_int_equal(tf_batch_add_map_field(&f->batch, "k", count), 0);
    for (uint32_t i = 0; i < count; i++) {
        assert_non_null(tf_batch_add_field(&f->batch, key_at, 1, TF_VALUE_TRUE));
    }
    assert_int_equal(tf_batch_add_text_field(&f->batch, "log", tf_slice_text("x")), 0);
    apply(f);
    assert_int_equal(f->batch.records[0].field_count, count + 3);
}

/* ---- wrong configurations ------------------------------------------------------------------- */

static void the_envelope_is_not_edited(void **state)
{
    static const char *const names[] = {"time",         "tag",      "host", "labels",  "kubernetes",
                                        "container_id", "identity", "via",  "claimed", "taffrail"};
    struct fixture *f = *state;
    char filter[128], wanted[512];

    for (size_t i = 0; i < TF_COUNT(names); i++) {
        (void)snprintf(filter, sizeof filter, "edit: {remove: [%s]}", names[i]);
        (void)snprintf(
            wanted, sizeof wanted,
            "t.yaml:4:19: error: remove: \"%s\" tells who wrote a record, where or when, "
            "and is not edited; name a field outside of \"%s\"\n",
            names[i], names[i]);
        assert_refused(f, filter, wanted);
    }
    assert_refused(f, "edit: {rename: {host: a, b: labels.c}, add: {kubernetes.x: y}}",
                   "t.yaml:4:19: error: rename: \"host\" tells who wrote a record, where or when, "
                   "and is not edited; name a field outside of \"host\"\n"
                   "t.yaml:4:31: error: rename: \"labels.c\" tells who wrote a record, where or "
                   "when, and is not edited; name a field outside of \"labels\"\n"
                   "t.yaml:4:48: error: add: \"kubernetes.x\" tells who wrote a record, where or "
                   "when, and is not edited; name a field outside of \"kubernetes\"\n");
    open_filter(f, "edit: {remove: [hostname, my.host, log, stream], add: {times: x}}");
}

static void wrong_edits_are_told(void **state)
{
    struct fixture *f = *state;

    assert_refused(f, "edit: {}",
                   "t.yaml:4:3: error: edit changes nothing; write add: {team: shop}, remove or "
                   "rename\n");
    assert_refused(f, "edit: {rename: {a: a, b: b.c, c.d: c}}",
                   "t.yaml:4:22: error: rename: \"a\" and \"a\" are the same, or one is in the "
                   "other; choose another name\n"
                   "t.yaml:4:28: error: rename: \"b\" and \"b.c\" are the same, or one is in the "
                   "other; choose another name\n"
                   "t.yaml:4:38: error: rename: \"c.d\" and \"c\" are the same, or one is in the "
                   "other; choose another name\n");
    assert_refused(f, "edit: {rename: {a: ''}, add: {b.: x}, remove: [.c]}",
                   "t.yaml:4:22: error: rename: \"\" has an empty name beside a dot; write names "
                   "joined by single dots, such as fields.level\n"
                   "t.yaml:4:33: error: add: \"b.\" has an empty name beside a dot; write names "
                   "joined by single dots, such as fields.level\n"
                   "t.yaml:4:50: error: remove: \".c\" has an empty name beside a dot; write names "
                   "joined by single dots, such as fields.level\n");
}

static void edits_are_bounded(void **state)
{
    struct fixture *f = *state;
    struct tf_error err;
    struct tf_buf text;

    for (unsigned count = 64; count <= 65; count++) {
        tf_error_init(&err);
        tf_buf_init(&text, 1u << 16);
        (void)tf_buf_append_text(&text, "edit: {");
        for (unsigned key = 0; key < 3; key++) {
            static const char *const keys[] = {"remove: [", "]\n  , add: {", "}\n  , rename: {"};

            (void)tf_buf_append_text(&text, keys[key]);
            for (unsigned i = 0; i < count; i++) {
                (void)tf_buf_printf(&text, key == 0 ? "k%u, " : "k%u: n, ", i);
            }
        }
        (void)tf_buf_append_text(&text, "}}");
        assert_int_equal(tf_buf_append_byte(&text, 0), 0);
        assert_int_equal(try_filter(f, text.data, &err), count == 64 ? 0 : -EINVAL);
        assert_int_equal(err.errors, count == 64 ? 0 : 3);
        if (count == 64) {
            f->scratch = f->kind->scratch_new(f->self);
        }
        tf_buf_fini(&text);
        tf_error_fini(&err);
    }
}

/* What edit adds stands in one place of the arena for all records: each of them is masked. */
static void what_is_added_is_redacted(void **state)
{
    static const char filter[] =
        "edit: {add: {note: 'password=hunter22x', fields.password: secret9}}";
    struct fixture *f = *state;
    const struct tf_plugin_config *redact;
    struct tf_error err;
    void *self, *scratch;

    open_filter(f, filter);
    redact = &f->config->filters.items[1]; /* comes by itself */
    assert_string_equal(redact->kind_name, "redact");
    (void)add_record(&f->batch, "{\"log\":\"x\"}");
    (void)add_record(&f->batch, "{\"log\":\"password=hunter22x\"}");
    apply(f);
    tf_error_init(&err);
    assert_int_equal(
        tf_filter_redact.open(&(struct tf_filter_args){.options = redact->options}, &self, &err),
        0);
    tf_error_fini(&err);
    scratch = tf_filter_redact.scratch_new(self);
    assert_int_equal(tf_filter_redact.apply(self, scratch, NULL, &f->batch), 0);
    tf_filter_redact.scratch_free(scratch);
    tf_filter_redact.close(self);
    assert_printed(&f->batch, 0,
                   "{\"log\":\"x\",\"note\":\"password=[REDACTED:assigned-password]\",\"fields\":{"
                   "\"password\":\"[REDACTED:assigned-password]\"}}");
    assert_printed(&f->batch, 1,
                   "{\"log\":\"password=[REDACTED:assigned-password]\","
                   "\"note\":\"password=[REDACTED:assigned-password]\",\"fields\":{"
                   "\"password\":\"[REDACTED:assigned-password]\"}}");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(fields_are_edited, setup, teardown),
        cmocka_unit_test_setup_teardown(each_record_of_a_batch_is_edited, setup, teardown),
        cmocka_unit_test_setup_teardown(a_record_that_does_not_grow_stays_where_it_is, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_cut_goes_with_its_field, setup, teardown),
        cmocka_unit_test_setup_teardown(what_does_not_fit_is_told, setup, teardown),
        cmocka_unit_test_setup_teardown(wide_records_are_edited, setup, teardown),
        cmocka_unit_test_setup_teardown(the_envelope_is_not_edited, setup, teardown),
        cmocka_unit_test_setup_teardown(wrong_edits_are_told, setup, teardown),
        cmocka_unit_test_setup_teardown(edits_are_bounded, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_added_is_redacted, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
