/*
 * test_box.c - small files under the spool's key: what was sealed opens, and nothing else does.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "../../agent/spool/internal.h"

struct fixture {
    struct tf_spool *spool;
    struct tf_keyring ring;
    struct tf_box *box;
    struct tf_buf sealed, text;
};

static const char secret[] = "team=blue; token=hunter22";

static struct tf_box *box_of(struct fixture *f, const char *purpose)
{
    struct tf_box *box = tf_box_new(f->spool, purpose);

    assert_non_null(box);
    return box;
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);

    assert_non_null(f);
    f->spool = calloc(1, sizeof *f->spool);
    assert_non_null(f->spool);
    f->ring.count = 1;
    memset(f->ring.keks[0].key, 'k', TF_KEY_BYTES);
    memset(f->ring.keks[1].key, 'l', TF_KEY_BYTES);
    f->spool->ring = &f->ring;
    f->box = box_of(f, "labels");
    tf_buf_init(&f->sealed, 1 << 20);
    tf_buf_init(&f->text, 1 << 20);
    assert_int_equal(tf_box_seal(f->box, tf_slice_text(secret), &f->sealed), 0);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    tf_box_free(f->box);
    tf_buf_fini(&f->sealed);
    tf_buf_fini(&f->text);
    free(f->spool);
    free(f);
    return 0;
}

static void what_was_sealed_opens(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(f->sealed.size, 32 + strlen(secret) + 16);
    assert_null(memmem(f->sealed.data, f->sealed.size, "hunter22", 8));
    assert_int_equal(tf_box_open(f->box, tf_buf_slice(&f->sealed), &f->text), 0);
    assert_true(tf_slice_equal(tf_buf_slice(&f->text), tf_slice_text(secret)));
}

static void nothing_is_a_text_too(void **state)
{
    struct fixture *f = *state;

    tf_buf_clear(&f->sealed);
    assert_int_equal(tf_box_seal(f->box, tf_slice(NULL, 0), &f->sealed), 0);
    assert_int_equal(tf_box_open(f->box, tf_buf_slice(&f->sealed), &f->text), 0);
    assert_int_equal(f->text.size, 0);
}

static void no_two_are_the_same(void **state)
{
    struct fixture *f = *state;
    size_t size = f->sealed.size;

    assert_int_equal(tf_box_seal(f->box, tf_slice_text(secret), &f->sealed), 0);
    assert_memory_not_equal(f->sealed.data, f->sealed.data + size, size);
}

static void what_was_changed_or_cut_does_not_open(void **state)
{
    struct fixture *f = *state;

    for (size_t i = 0; i < f->sealed.size; i++) {
        f->sealed.data[i] ^= 1;
        assert_int_not_equal(tf_box_open(f->box, tf_buf_slice(&f->sealed), &f->text), 0);
        f->sealed.data[i] ^= 1;
        assert_int_not_equal(tf_box_open(f->box, tf_slice(f->sealed.data, i), &f->text), 0);
        assert_int_equal(f->text.size, 0);
    }
}

static void it_opens_for_its_purpose_only(void **state)
{
    struct fixture *f = *state;
    struct tf_box *other = box_of(f, "label");

    assert_int_equal(tf_box_open(other, tf_buf_slice(&f->sealed), &f->text), -EBADMSG);
    tf_box_free(other);
}

/* The first key seals, any opens; without it nothing does. */
static void keys_may_be_replaced(void **state)
{
    struct fixture *f = *state;
    struct tf_kek old = f->ring.keks[0];
    struct tf_box *both, *other;

    f->ring.keks[0] = f->ring.keks[1];
    other = box_of(f, "labels");
    assert_int_equal(tf_box_open(other, tf_buf_slice(&f->sealed), &f->text), -EBADMSG);
    f->ring.keks[1] = old;
    f->ring.count = 2;
    both = box_of(f, "labels");
    assert_int_equal(tf_box_open(both, tf_buf_slice(&f->sealed), &f->text), 0);
    tf_buf_clear(&f->sealed);
    tf_buf_clear(&f->text);
    assert_int_equal(tf_box_seal(both, tf_slice_text(secret), &f->sealed), 0);
    assert_int_equal(tf_box_open(other, tf_buf_slice(&f->sealed), &f->text), 0);
    tf_box_free(both);
    tf_box_free(other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_was_sealed_opens, set_up, tear_down),
        cmocka_unit_test_setup_teardown(nothing_is_a_text_too, set_up, tear_down),
        cmocka_unit_test_setup_teardown(no_two_are_the_same, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_was_changed_or_cut_does_not_open, set_up, tear_down),
        cmocka_unit_test_setup_teardown(it_opens_for_its_purpose_only, set_up, tear_down),
        cmocka_unit_test_setup_teardown(keys_may_be_replaced, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
