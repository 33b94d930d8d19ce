/* test_fields.c - a path leads to the field that filters/fields.h says. */
#include "../../filters/fields.h"

#include "fields_fixture.h"

/* The number of the field that the path means. */
static void assert_found(struct tf_batch *batch, const char *json, const char *path,
                         uint32_t wanted, uint32_t wanted_map)
{
    struct tf_fields fields;
    uint32_t map = TF_FIELDS_NONE, at;

    assert_int_equal(tf_batch_reset(batch), 0);
    (void)add_record(batch, "{\"before\":1}");
    fields = tf_fields_of(batch, add_record(batch, json));
    at = tf_fields_find(&fields, tf_slice_text(path), &map);
    if (at != wanted || (at != TF_FIELDS_NONE && map != wanted_map)) {
        fail_msg("%s in %s: %u in %u", path, json, at, map);
    }
    assert_int_equal(tf_fields_find(&fields, tf_slice_text(path), NULL), wanted);
}

static void a_path_leads_to_its_field(void **state)
{
    static const struct {
        const char *json, *path;
        uint32_t at, map;
    } cases[] = {
        {"{\"log\":\"x\"}", "log", 0, TF_FIELDS_NONE},
        {"{\"log\":\"x\"}", "lo", TF_FIELDS_NONE, 0},
        {"{\"log\":\"x\"}", "log.x", TF_FIELDS_NONE, 0},
        {"{}", "log", TF_FIELDS_NONE, 0},
        {"{\"a\":{\"b\":1,\"c\":2},\"d\":3}", "a", 0, TF_FIELDS_NONE},
        {"{\"a\":{\"b\":1,\"c\":2},\"d\":3}", "a.c", 2, 0},
        {"{\"a\":{\"b\":1,\"c\":2},\"d\":3}", "d", 3, TF_FIELDS_NONE},
        {"{\"a\":{\"b\":{\"c\":1}}}", "a.b.c", 2, 1},
        {"{\"a\":{\"b\":{\"c\":1}}}", "b.c", TF_FIELDS_NONE, 0},
        {"{\"a\":[{\"b\":1}],\"c\":2}", "a.b", TF_FIELDS_NONE, 0},
        {"{\"a\":[{\"b\":1},[2]],\"c\":2}", "c", 5, TF_FIELDS_NONE},
        /* keys with dots: the longest first, shorter ones when it leads nowhere */
        {"{\"a\":{\"b\":1},\"a.b\":2}", "a.b", 2, TF_FIELDS_NONE},
        {"{\"l\":{\"app.io/name\":1}}", "l.app.io/name", 1, 0},
        {"{\"a.b\":{\"x\":1},\"a\":{\"b.c\":2}}", "a.b.c", 3, 2},
        {"{\"a.b\":1,\"a\":{\"b\":{\"c\":2}}}", "a.b.c", 3, 2},
        {"{\"a.b\":{\"c.d\":1},\"a\":{\"b.c\":{\"d\":2}}}", "a.b.c.d", 1, 0},
        /* of two with the same key the first counts, though it leads nowhere */
        {"{\"a\":1,\"a\":2}", "a", 0, TF_FIELDS_NONE},
        {"{\"a\":1,\"a\":{\"b\":2}}", "a.b", TF_FIELDS_NONE, 0},
    };
    struct fixture *f = *state;

    for (size_t i = 0; i < TF_COUNT(cases); i++) {
        assert_found(&f->batch, cases[i].json, cases[i].path, cases[i].at, cases[i].map);
    }
}

static void a_constant_begins_a_path(void **state)
{
    struct fixture *f = *state;
    struct tf_fields fields = tf_fields_of(&f->batch, add_record(&f->batch, "{\"a\":1,\"b.c\":2}"));

    assert_true(tf_fields_begin(&fields, tf_slice_text("a")));
    assert_true(tf_fields_begin(&fields, tf_slice_text("a.x")));
    assert_true(tf_fields_begin(&fields, tf_slice_text("b.c.d")));
    assert_false(tf_fields_begin(&fields, tf_slice_text("b")));
    assert_false(tf_fields_begin(&fields, tf_slice_text("ab")));
}

static void a_path_is_in_itself_and_above(void **state)
{
    (void)state;
    assert_true(tf_path_is_in(tf_slice_text("a"), tf_slice_text("a")));
    assert_true(tf_path_is_in(tf_slice_text("a.b"), tf_slice_text("a")));
    assert_false(tf_path_is_in(tf_slice_text("ab"), tf_slice_text("a")));
    assert_false(tf_path_is_in(tf_slice_text("a"), tf_slice_text("a.b")));
}

static void paths_are_checked(void **state)
{
    static const char *const sound[] = {"a", "a.b", "a b", "a.b/c.d",
                                        "1.2.3.4.5.6.7.8.9.10.11.12.13.14.15"};
    static const char *const wrong[] = {
        "", ".", ".a", "a.", "a..b", "..", "1.2.3.4.5.6.7.8.9.10.11.12.13.14.15.16"};
    char path[TF_PATH_BYTES_MAX + 2];
    struct tf_text text = {.text = path};
    struct tf_error err;

    (void)state;
    tf_error_init(&err);
    for (size_t i = 0; i < TF_COUNT(sound); i++) {
        assert_int_equal(tf_path_check("add", &(struct tf_text){.text = sound[i]}, &err), 0);
    }
    for (size_t i = 0; i < TF_COUNT(wrong); i++) {
        assert_int_equal(tf_path_check("add", &(struct tf_text){.text = wrong[i]}, &err), -EINVAL);
    }
    assert_int_equal(err.errors, TF_COUNT(wrong));
    memset(path, 'x', sizeof path);
    path[TF_PATH_BYTES_MAX] = '\0';
    assert_int_equal(tf_path_check("add", &text, &err), 0);
    path[TF_PATH_BYTES_MAX] = 'x';
    path[TF_PATH_BYTES_MAX + 1] = '\0';
    assert_int_equal(tf_path_check("add", &text, &err), -EINVAL);
    tf_error_fini(&err);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_path_leads_to_its_field, setup, teardown),
        cmocka_unit_test_setup_teardown(a_constant_begins_a_path, setup, teardown),
        cmocka_unit_test(a_path_is_in_itself_and_above),
        cmocka_unit_test(paths_are_checked),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
