/*
 * test_position.c - positions as bytes: what goes in comes out, what is damaged is refused, and no
 * path or key reaches outside.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../agent/inputs/container/internal.h"

#define FIXED_BYTES 250u

static struct tf_position make_position(void)
{
    struct tf_position position = {.done = {1000, 900, 1000},
                                   .format = TF_FORMAT_CRI,
                                   .finished = true,
                                   .path = tf_slice_text("/var/log/pods/a_b_c/d/0.log")};

    tf_print_take("0123456789012345678901234567890123456789012345678901234567890123", 1000,
                  &position.prints[0]);
    tf_print_take("short", 5, &position.prints[2]);
    position.states[1].size = 3;
    memcpy(position.states[1].bytes, "pem", 3);
    return position;
}

static void encode(const struct tf_position *position, struct tf_buf *out)
{
    tf_buf_init(out, TF_STATE_VALUE_MAX);
    tf_position_encode(position, out);
    assert_int_equal(out->error, 0);
}

static void what_goes_in_comes_out(void **state)
{
    struct tf_position in = make_position(), out;
    struct tf_buf value;

    (void)state;
    encode(&in, &value);
    assert_int_equal(value.size, FIXED_BYTES + in.path.size);
    assert_int_equal(tf_position_decode(tf_buf_slice(&value), &out), 0);
    assert_memory_equal(out.done, in.done, sizeof in.done);
    assert_memory_equal(out.prints[0].hash, in.prints[0].hash, TF_PRINT_HASH_BYTES);
    assert_int_equal(out.prints[0].offset, 1000);
    assert_int_equal(out.prints[1].offset, 0);
    assert_int_equal(out.prints[2].offset, 5);
    assert_memory_equal(out.states, in.states, sizeof in.states);
    assert_int_equal(out.format, TF_FORMAT_CRI);
    assert_true(out.finished);
    assert_true(tf_slice_equal(out.path, in.path));
    assert_int_equal(tf_position_first(&out), 900);
    assert_int_equal(tf_position_last(&out), 1000);
    tf_buf_fini(&value);
}

/* One byte of a sound value set to what breaks it. */
static void assert_refused(size_t at, uint8_t byte)
{
    struct tf_position in = make_position(), out = {.done = {7}};
    struct tf_buf value;

    encode(&in, &value);
    value.data[at] = (char)byte;
    assert_int_equal(tf_position_decode(tf_buf_slice(&value), &out), -EPROTO);
    assert_int_equal(out.done[0], 7); /* untouched */
    tf_buf_fini(&value);
}

static void what_is_damaged_is_refused(void **state)
{
    (void)state;
    assert_refused(0, 2);                /* version */
    assert_refused(1, 0x80);             /* flags */
    assert_refused(2, 4);                /* format */
    assert_refused(3, 1);                /* zero */
    assert_refused(4 + 7, 0x80);         /* done past 2^63 - 1 */
    assert_refused(4, 0xff);             /* then the first print is not at the largest done... */
    assert_refused(28, 1);               /* ...nor here */
    assert_refused(28 + 24 + 9, 1);      /* a hash without an offset */
    assert_refused(28 + 2 * 24 + 2, 1);  /* prints rise */
    assert_refused(148, 33);             /* a state that is too long */
    assert_refused(148 + 33 + 1 + 3, 1); /* bytes behind a state */
    assert_refused(247, 1);              /* zero */
    assert_refused(248, 1);              /* the path's size */
    assert_refused(FIXED_BYTES, 'v');    /* no absolute path */
    assert_refused(FIXED_BYTES + 3, 0);  /* NUL in it */
}

static void every_cut_is_refused(void **state)
{
    struct tf_position in = make_position(), out;
    struct tf_buf value;

    (void)state;
    encode(&in, &value);
    for (size_t size = 0; size < value.size; size++) {
        char *cut = malloc(size + 1);

        assert_non_null(cut);
        memcpy(cut, value.data, size);
        assert_int_equal(tf_position_decode(tf_slice(cut, size), &out), -EPROTO);
        free(cut);
    }
    tf_buf_fini(&value);
}

static int parse(const char *key, struct tf_file_id *id)
{
    return tf_position_key_parse(tf_slice_text(key), "apps", id);
}

static void keys_are_exact(void **state)
{
    static const char *const bad[] = {"",
                                      "file/apps/",
                                      "file/apps/1:2",
                                      "file/apps/1:2:",
                                      "file/apps/1:2:3 ",
                                      "file/apps/-1:2:3",
                                      "file/apps/1:2:--3",
                                      "file/apps/99999999999999999999:2:3",
                                      "file/apps/1:2:9223372036854775808",
                                      "file/app/1:2:3",
                                      "file/appsx/1:2:3",
                                      "name/apps/1:2:3"};
    struct tf_file_id id = {.device = 1, .inode = UINT64_MAX, .born_ns = -5}, out;
    struct tf_buf key;

    (void)state;
    tf_buf_init(&key, TF_STATE_KEY_MAX);
    tf_position_key("apps", &id, &key);
    assert_int_equal(tf_position_key_parse(tf_buf_slice(&key), "apps", &out), 0);
    assert_int_equal(tf_file_id_compare(&id, &out), 0);
    tf_buf_fini(&key);
    for (size_t i = 0; i < TF_COUNT(bad); i++) {
        assert_int_equal(parse(bad[i], &out), -EPROTO);
    }
}

static void ids_have_an_order(void **state)
{
    struct tf_file_id a = {1, 2, 3}, b = {1, 2, 4}, c = {1, 3, 0}, d = {2, 0, 0};

    (void)state;
    assert_int_equal(tf_file_id_compare(&a, &b), -1);
    assert_int_equal(tf_file_id_compare(&c, &b), 1);
    assert_int_equal(tf_file_id_compare(&c, &d), -1);
    assert_int_equal(tf_file_id_compare(&d, &d), 0);
}

static void prints_tell_bytes_apart(void **state)
{
    struct tf_print print, none;

    (void)state;
    tf_print_take("abcde", 5, &print);
    assert_true(tf_print_matches(&print, "abcde"));
    assert_false(tf_print_matches(&print, "abcdf"));
    tf_print_take("", 0, &none);
    assert_int_equal(none.offset, 0);
    assert_true(tf_print_matches(&none, "anything"));
    assert_int_equal(tf_print_size(1u << 20), TF_PRINT_BYTES);
}

static void paths_become_normal(void **state)
{
    static const char *const pairs[][2] = {{"/a//b/./c", "/a/b/c"},
                                           {"/a/../../b", "/b"},
                                           {"/", "/"},
                                           {"/a/b/..", "/a"},
                                           {"/..a/...", "/..a/..."}};
    char out[TF_FILE_PATH_MAX], longer[TF_FILE_PATH_MAX + 8];

    (void)state;
    for (size_t i = 0; i < TF_COUNT(pairs); i++) {
        assert_int_equal(tf_path_normalize(pairs[i][0], out), 0);
        assert_string_equal(out, pairs[i][1]);
    }
    assert_int_equal(tf_path_normalize("a/b", out), -EINVAL);
    memset(longer, 'x', sizeof longer);
    longer[0] = '/';
    longer[sizeof longer - 1] = '\0';
    assert_int_equal(tf_path_normalize(longer, out), -EMSGSIZE);
}

static void globs_are_taken_apart(void **state)
{
    struct tf_path_glob glob;

    (void)state;
    assert_int_equal(tf_path_glob_init(&glob, "/var/log/pods/*/*/*.log"), 0);
    assert_string_equal(glob.folder, "/var/log/pods");
    assert_int_equal(glob.part_count, 3);
    assert_string_equal(glob.parts[2], "*.log");
    tf_path_glob_fini(&glob);
    assert_int_equal(tf_path_glob_init(&glob, "/srv/**/*.log"), 0);
    assert_string_equal(glob.folder, "/srv");
    assert_string_equal(glob.text_short, "/srv/*.log");
    tf_path_glob_fini(&glob);
    assert_int_equal(tf_path_glob_init(&glob, "/app.log"), 0);
    assert_string_equal(glob.folder, "/");
    assert_string_equal(glob.parts[0], "app.log");
    tf_path_glob_fini(&glob);
    assert_int_equal(tf_path_glob_init(&glob, "/"), -EINVAL);
    tf_path_glob_fini(&glob);
    assert_int_equal(tf_path_glob_init(&glob, "here.log"), -EINVAL);
    tf_path_glob_fini(&glob);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_goes_in_comes_out), cmocka_unit_test(what_is_damaged_is_refused),
        cmocka_unit_test(every_cut_is_refused),   cmocka_unit_test(keys_are_exact),
        cmocka_unit_test(ids_have_an_order),      cmocka_unit_test(prints_tell_bytes_apart),
        cmocka_unit_test(paths_become_normal),    cmocka_unit_test(globs_are_taken_apart),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
