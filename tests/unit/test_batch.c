/* test_batch.c - the arena and columns keep what batch.h says. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "taffrail/batch.h"

static int setup(void **state)
{
    struct tf_batch *batch = calloc(1, sizeof *batch);

    *state = batch;
    return batch == NULL ? -1 : tf_batch_init(batch);
}

static int teardown(void **state)
{
    tf_batch_fini(*state);
    free(*state);
    return 0;
}

static void every_value_stands_between_newlines(void **state)
{
    struct tf_batch *batch = *state;
    const struct tf_field *field;

    assert_int_equal(batch->text.data[0], '\n');
    assert_non_null(tf_batch_add_record(batch, 7, TF_STREAM_STDERR));
    assert_int_equal(tf_batch_add_text_field(batch, "log", tf_slice_text("a b")), 0);
    assert_int_equal(tf_batch_add_int_field(batch, "n", -3), 0);
    assert_int_equal(tf_batch_add_map_field(batch, "m", 0), 0);
    assert_int_equal(batch->records[0].field_count, 3);
    field = &batch->fields[0];
    assert_memory_equal(batch->text.data + field->value.text.at, "a b\n", 4);
    assert_int_equal(batch->text.data[field->value.text.at - 1], '\n');
    assert_true(batch->fields[1].value.i == -3);
}

static void undone_record_leaves_no_field(void **state)
{
    struct tf_batch *batch = *state;

    assert_non_null(tf_batch_add_record(batch, 1, TF_STREAM_STDOUT));
    assert_int_equal(tf_batch_add_text_field(batch, "log", tf_slice_text("x")), 0);
    tf_batch_undo_record(batch);
    assert_int_equal(batch->record_count, 0);
    assert_int_equal(batch->field_count, 0);
}

static void records_are_bounded(void **state)
{
    struct tf_batch *batch = *state;

    for (uint32_t i = 0; i < TF_BATCH_RECORDS_MAX; i++) {
        assert_non_null(tf_batch_add_record(batch, i, TF_STREAM_STDOUT));
    }
    assert_null(tf_batch_add_record(batch, 0, TF_STREAM_STDOUT));
}

static void text_past_the_bound_changes_nothing(void **state)
{
    struct tf_batch *batch = *state;
    char *huge = calloc(1, TF_BATCH_TEXT_MAX);
    uint32_t at;

    assert_non_null(huge);
    assert_int_equal(tf_batch_add_text(batch, huge, TF_BATCH_TEXT_MAX, &at), -EMSGSIZE);
    assert_non_null(tf_batch_add_record(batch, 1, TF_STREAM_STDOUT));
    assert_int_equal(tf_batch_add_text_field(batch, "log", tf_slice(huge, TF_BATCH_TEXT_MAX - 10)),
                     -EMSGSIZE);
    assert_int_equal(batch->field_count, 0);
    assert_int_equal(batch->records[0].field_count, 0);
    assert_int_equal(tf_batch_add_text(batch, "still", 5, &at), 0);
    free(huge);
}

static void reset_wipes_the_text(void **state)
{
    struct tf_batch *batch = *state;
    uint32_t at;

    assert_int_equal(tf_batch_add_text(batch, "hunter22", 8, &at), 0);
    assert_int_equal(tf_batch_reset(batch), 0);
    assert_true(batch->text.capacity >= at + 8);
    for (uint32_t i = 0; i < 8; i++) {
        assert_int_equal(batch->text.data[at + i], 0);
    }
    assert_memory_equal(batch->text.data + batch->key_log, "log\n", 4);
}

static void tallies_past_the_bound_are_counted_together(void **state)
{
    struct tf_batch *batch = *state;
    uint32_t hits = 0;

    for (uint16_t rule = 0; rule < 200; rule++) {
        tf_batch_tally(batch, 0, rule, 2);
    }
    assert_int_equal(batch->tally_count, TF_BATCH_TALLIES_MAX);
    for (uint32_t i = 0; i < batch->tally_count; i++) {
        hits += batch->tallies[i].hits;
    }
    assert_int_equal(hits, 400);
    assert_int_equal(batch->tallies[TF_BATCH_TALLIES_MAX - 1].rule, TF_RULE_OTHERS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(every_value_stands_between_newlines, setup, teardown),
        cmocka_unit_test_setup_teardown(undone_record_leaves_no_field, setup, teardown),
        cmocka_unit_test_setup_teardown(records_are_bounded, setup, teardown),
        cmocka_unit_test_setup_teardown(text_past_the_bound_changes_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(reset_wipes_the_text, setup, teardown),
        cmocka_unit_test_setup_teardown(tallies_past_the_bound_are_counted_together, setup,
                                        teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
