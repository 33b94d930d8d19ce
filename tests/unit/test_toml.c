/*
 * TOML: what is read, with its place; what is refused, with the mend; the bounds.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "../../filters/redact/import/toml.h"
#include "taffrail/config.h"

struct fixture {
    void *arena;
    struct tf_error err;
    struct tf_toml *root;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);

    f->arena = tf_arena_new();
    tf_error_init(&f->err);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    tf_error_fini(&f->err);
    tf_arena_free(f->arena);
    free(f);
    return 0;
}

static int parse(struct fixture *f, struct tf_slice toml)
{
    tf_error_fini(&f->err);
    tf_arena_free(f->arena);
    f->arena = tf_arena_new();
    f->root = NULL;
    return tf_toml_parse(toml, "r.toml", f->arena, &f->root, &f->err);
}

/* A node as one text: {a=1,b=["x",true]}. */
static void dump(const struct tf_toml *node, struct tf_buf *to)
{
    static const char *const brackets[] = {[TF_TOML_ARRAY] = "[]", [TF_TOML_TABLE] = "{}"};

    switch (node->type) {
    case TF_TOML_TEXT:
        (void)tf_buf_printf(to, "\"%s\"", node->text);
        break;
    case TF_TOML_INTEGER:
        (void)tf_buf_printf(to, "%lld", (long long)node->integer);
        assert_true(node->number == (double)node->integer);
        break;
    case TF_TOML_FLOAT:
        (void)tf_buf_printf(to, "%.3f", node->number);
        break;
    case TF_TOML_BOOLEAN:
        (void)tf_buf_append_text(to, node->truth ? "true" : "false");
        break;
    case TF_TOML_ARRAY:
    case TF_TOML_TABLE:
        (void)tf_buf_append_byte(to, (uint8_t)brackets[node->type][0]);
        for (const struct tf_toml *item = node->first; item != NULL; item = item->next) {
            assert_true((item->key != NULL) == (node->type == TF_TOML_TABLE));
            if (item->key != NULL) {
                (void)tf_buf_printf(to, "%s=", item->key);
            }
            dump(item, to);
            (void)tf_buf_append_text(to, item->next != NULL ? "," : "");
        }
        (void)tf_buf_append_byte(to, (uint8_t)brackets[node->type][1]);
        break;
    }
}

static void documents_are_read(void **state)
{
    static const struct {
        const char *toml, *wanted;
    } cases[] = {
        {"", "{}"},
        {"\xef\xbb\xbf# a comment, é\r\n\r\n  \t\n", "{}"},
        {"a = 1 # c\nb = -2\nc = +3\nd = 1_000", "{a=1,b=-2,c=3,d=1000}"},
        {"a = 0xfF\nb = 0o17\nc = 0b101\nd = 0", "{a=255,b=15,c=5,d=0}"},
        {"a = 1.5\nb = -0.25\nc = 1e3\nd = 1.5E-1\ne = 1_0.0_5",
         "{a=1.500,b=-0.250,c=1000.000,d=0.150,e=10.050}"},
        {"a = true\nb = false", "{a=true,b=false}"},
        {"a = \"x\\t\\\"\\\\\\u00e9\\U0001F511\"\nb = ''\nc = \"\"",
         "{a=\"x\t\"\\é🔑\",b=\"\",c=\"\"}"},
        {"a = '\\d+'", "{a=\"\\d+\"}"},
        {"a = '''\\d'\n''x'''''", "{a=\"\\d'\n''x''\"}"},
        {"a = '''\nx\r\ny'''", "{a=\"x\ny\"}"},
        {"a = \"\"\"\n  x \\\n\n   y\\\\z\"\"\"\"", "{a=\"  x y\\z\"\"}"},
        {"a = []\nb = [1, [\"x\", ''], {c = 1}]\n", "{a=[],b=[1,[\"x\",\"\"],{c=1}]}"},
        {"a = [ # one\n 1, # two\n\n 2,\n]", "{a=[1,2]}"},
        {"a = {}\nb = { c.d = 1, c.e = {f = 'x'} }", "{a={},b={c={d=1,e={f=\"x\"}}}}"},
        {"a.b.c = 1\na.'b'.\"d e\" = 2\n'' = 3", "{a={b={c=1,d e=2}},=3}"},
        {"[a]\nb = 1\n[ a . c ]\nd = 2\n[e]", "{a={b=1,c={d=2}},e={}}"},
        {"[a.b.c]\nd = 1\n[a]\ne = 2", "{a={b={c={d=1}},e=2}}"},
        {"[[r]]\nid = 'x'\n[r.a]\nb = 1\n[[r.l]]\nc = 1\n[[r.l]]\n[[r]]\nid = 'y'",
         "{r=[{id=\"x\",a={b=1},l=[{c=1},{}]},{id=\"y\"}]}"},
        {"[a]\nb.c = 1\n[a.b.d]\ne = 2", "{a={b={c=1,d={e=2}}}}"},
        {"A-b_9 = 1", "{A-b_9=1}"},
    };
    struct fixture *f = *state;
    struct tf_buf text;

    tf_buf_init(&text, 4096);
    for (size_t i = 0; i < TF_COUNT(cases); i++) {
        if (parse(f, tf_slice_text(cases[i].toml)) < 0) {
            fail_msg("%s: %s", cases[i].toml, tf_error_first(&f->err));
        }
        tf_buf_clear(&text);
        dump(f->root, &text);
        (void)tf_buf_append_byte(&text, 0);
        if (strcmp(text.data, cases[i].wanted) != 0) {
            fail_msg("%s: read %s, wanted %s", cases[i].toml, text.data, cases[i].wanted);
        }
    }
    tf_buf_fini(&text);
}

static void each_value_has_its_place(void **state)
{
    struct fixture *f = *state;
    const struct tf_toml *rule, *list;

    assert_int_equal(parse(f, tf_slice_text("# é\n[[r]]\n  id = 'x'\nl = [1,\n  '''\n\n''', 2]\n")),
                     0);
    assert_string_equal(f->root->first->key, "r");
    assert_int_equal(f->root->first->key_at.line, 2);
    assert_int_equal(f->root->first->key_at.column, 3);
    rule = f->root->first->first;
    assert_int_equal(rule->at.line, 2);
    assert_int_equal(rule->first->key_at.column, 3);
    assert_int_equal(rule->first->at.line, 3);
    assert_int_equal(rule->first->at.column, 8);
    assert_string_equal(rule->first->at.file, "r.toml");
    list = rule->last;
    assert_int_equal(list->count, 3);
    assert_int_equal(list->first->at.column, 6);
    assert_int_equal(list->first->next->at.line, 5);
    assert_int_equal(list->last->at.line, 7);
    assert_int_equal(list->last->at.column, 6);
}

static void each_mistake_has_its_place_and_mend(void **state)
{
    static const struct {
        const char *toml;
        unsigned line, column;
        const char *wanted;
    } cases[] = {
        {"a = 1\nb\xff = 1", 2, 1, "the line is not UTF-8; save the file as UTF-8"},
        {"a = 'x\x01'", 1, 7, "a control character may not stand in TOML; write it as an escape"},
        {"# a\rb", 1, 4, "a control character may not stand in TOML"},
        {"a = 1\r", 1, 6, "a control character may not stand in TOML"},
        {"a = '\x7f'", 1, 6, "a control character may not stand in TOML"},
        {"a = \"x", 1, 7, "the line ends within a text; close its quote, or write three quotes"},
        {"a = 'x\n'", 1, 7, "the line ends within a text"},
        {"a = '''x\n''", 1, 8, "the text that begins here has no end; close it with three quotes"},
        {"a = \"\\q\"", 1, 7,
         "TOML has no such escape; write \\\\ for a backslash, or the text in"},
        {"a = \"\"\"\\ x\"\"\"", 1, 9, "TOML has no such escape"},
        {"a = \"\\u12\"", 1, 10, "a hexadecimal digit is missing; \\u takes four, \\U eight"},
        {"a = \"\\ud800\"", 1, 12, "the escape before it is no character that a text may hold"},
        {"a = \"\\u0000\"", 1, 12, "the escape before it is no character"},
        {"a = \"\\U00110000\"", 1, 16, "the escape before it is no character"},
        {"a = 2024-05-01", 1, 5, "dates and times are not read here; write it as a text in quotes"},
        {"a = 07:32:00", 1, 5, "dates and times are not read here"},
        {"a = 1979-05-27T07:32:00Z", 1, 5, "dates and times are not read here"},
        {"a = 01", 1, 5, "this is no number that is read here; write digits such as 3 or 3.5"},
        {"a = 1.", 1, 5, "this is no number that is read here"},
        {"a = .5", 1, 5, "this is no number that is read here"},
        {"a = 1e", 1, 5, "this is no number that is read here"},
        {"a = 1.5x", 1, 5, "this is no number that is read here"},
        {"a = 0x", 1, 5, "this is no number that is read here"},
        {"a = inf", 1, 5, "this is no number that is read here"},
        {"a = abc", 1, 5, "this is no number that is read here"},
        {"a = 9223372036854775808", 1, 5, "this is no number that is read here"},
        {"a = 1__0", 1, 5, "this is no number; write digits, or a text in quotes"},
        {"a = _1", 1, 5, "this is no number; write digits"},
        {"a = 1_", 1, 5, "this is no number; write digits"},
        {"a = 1234567890123456789012345678901234567890123456789012345678901234", 1, 5,
         "this is no number; write digits"},
        {"a = ", 1, 5, "a value is missing; write a text in quotes, a number, true, false, [ or {"},
        {"a = ,", 1, 5, "a value is missing"},
        {"a", 1, 2, "a = is missing behind the key; write key = value"},
        {"= 1", 1, 1, "a key is missing; write one of letters, digits, _ and -, or one in quotes"},
        {"a. = 1", 1, 4, "a key is missing"},
        {"a = 1 b", 1, 7,
         "something stands behind the value; begin a new line, or quote the whole"},
        {"[a] b = 1", 1, 5, "something stands behind the value"},
        {"a = [1 2]", 1, 8, "the array goes on without a comma, or has no end; write , or ]"},
        {"a = [1,", 1, 8, "a value is missing"},
        {"a = [1\nb = 2", 2, 1, "the array goes on without a comma, or has no end"},
        {"a = {b = 1", 1, 11, "an inline table ends on its line; write , or }, or a [table]"},
        {"a = {b = 1\n}", 1, 11, "an inline table ends on its line"},
        {"a = {b = 1,}", 1, 12, "a key is missing"},
        {"a = {b = }", 1, 10, "a value is missing"},
        {"[a", 1, 3, "] is missing behind the table's name"},
        {"[[a]", 1, 4, "]] is missing behind the table's name"},
        {"[]", 1, 2, "a key is missing"},
        {"a = 1\na = 2", 2, 1, "key \"a\" is there already, in line 1; keep one"},
        {"a = 1\na.b = 2", 2, 1, "\"a\" is defined in line 1, and takes no more keys; put them"},
        {"a = {}\na.b = 2", 2, 1, "\"a\" is defined in line 1, and takes no more keys"},
        {"[a.b]\n[a]\nb.c = 1", 3, 1, "\"b\" is defined in line 1, and takes no more keys"},
        {"[a]\n[a]", 2, 2, "\"a\" is there already, in line 1; put its keys together"},
        {"a.b = 1\n[a]", 2, 2, "\"a\" is there already, in line 1; put its keys together"},
        {"[[a]]\n[a]", 2, 2, "\"a\" is there already, in line 1; put its keys together"},
        {"[a]\n[[a]]", 2, 3, "\"a\" is there already, in line 1, and is no list of tables"},
        {"a = []\n[[a]]", 2, 3, "\"a\" is there already, in line 1, and is no list of tables"},
        {"a = 1\n[a.b]", 2, 2, "\"a\" is a value, in line 1, and no table can be added to it"},
        {"a = {}\n[a.b]", 2, 2, "\"a\" is a value, in line 1, and no table can be added to it"},
        {"a = [{}]\n[[a.b]]", 2, 3, "\"a\" is a value, in line 1, and no table can be added to it"},
    };
    struct fixture *f = *state;

    for (size_t i = 0; i < TF_COUNT(cases); i++) {
        const struct tf_finding *finding;

        if (parse(f, tf_slice_text(cases[i].toml)) != -EINVAL || f->err.count != 1) {
            fail_msg("%s: not refused once", cases[i].toml);
        }
        assert_null(f->root);
        finding = &f->err.findings[0];
        if (finding->line != cases[i].line || finding->column != cases[i].column ||
            strncmp(finding->text, cases[i].wanted, strlen(cases[i].wanted)) != 0) {
            fail_msg("%s: %u:%u: %s", cases[i].toml, finding->line, finding->column, finding->text);
        }
    }
}

/* A text of a part, n times. */
static void repeat(struct tf_buf *to, const char *before, const char *part, size_t n)
{
    tf_buf_clear(to);
    (void)tf_buf_append_text(to, before);
    for (size_t i = 0; i < n; i++) {
        (void)tf_buf_printf(to, part, i);
    }
    assert_int_equal(to->error, 0);
}

static void what_is_too_much_is_refused(void **state)
{
    struct fixture *f = *state;
    struct tf_buf text;

    tf_buf_init(&text, 2u << 20);
    repeat(&text, "", "k%zu = 1\n", TF_TOML_KEYS_MAX);
    assert_int_equal(parse(f, tf_buf_slice(&text)), 0);
    (void)tf_buf_append_text(&text, "one = 1\n");
    assert_int_equal(parse(f, tf_buf_slice(&text)), -EINVAL);
    assert_string_equal(f->err.findings[0].text, "the table has more than 1000 keys; part it");
    repeat(&text, "a = [", "1,", TF_TOML_NODES_MAX);
    assert_int_equal(parse(f, tf_buf_slice(&text)), -EINVAL);
    assert_string_equal(f->err.findings[0].text,
                        "more than 50000 values up to here; part the file");
    repeat(&text, "a = ", "[", TF_TOML_DEPTH_MAX + 1);
    assert_int_equal(parse(f, tf_buf_slice(&text)), -EINVAL);
    assert_string_equal(f->err.findings[0].text,
                        "more than 16 values in one another; flatten them");
    repeat(&text, "a", ".b", TF_TOML_DEPTH_MAX);
    assert_int_equal(parse(f, tf_buf_slice(&text)), -EINVAL);
    assert_string_equal(f->err.findings[0].text, "more than 16 parts of a key; shorten it");
    repeat(&text, "a = 1 #", "x", TF_TOML_FILE_MAX);
    assert_int_equal(parse(f, tf_buf_slice(&text)), -EINVAL);
    assert_string_equal(f->err.findings[0].text, "the file is larger than 1048576 bytes; part it");
    assert_int_equal(f->err.findings[0].line, 0);
    tf_buf_fini(&text);
}

/* Cut anywhere, a document is read or refused; nothing behind the cut is looked at. */
static void a_cut_document_is_no_danger(void **state)
{
    static const char whole[] =
        "a = \"\\u00e9\\\\\"\r\nb = '''x\n'''\n[[c.d]]\ne = [1.5, {f = true}]\n";
    struct fixture *f = *state;

    for (size_t i = 0; i < sizeof whole; i++) {
        char *copy = malloc(i + (i == 0));

        assert_non_null(copy);
        memcpy(copy, whole, i);
        (void)parse(f, tf_slice(copy, i));
        free(copy);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(documents_are_read, setup, teardown),
        cmocka_unit_test_setup_teardown(each_value_has_its_place, setup, teardown),
        cmocka_unit_test_setup_teardown(each_mistake_has_its_place_and_mend, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_too_much_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(a_cut_document_is_no_danger, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
