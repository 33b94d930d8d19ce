/*
 * redact_fixture.h - the redact filter with its default options, and one text through it.
 */
#ifndef TAFFRAIL_TEST_REDACT_FIXTURE_H
#define TAFFRAIL_TEST_REDACT_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "../../filters/redact/redact.h"

struct fixture {
    void *self, *scratch, *state;
    struct tf_batch batch;
};

static inline int redact_setup(void **state)
{
    static const struct tf_redact_options options;
    const struct tf_filter_args args = {.name = "redact", .options = &options};
    struct fixture *f = calloc(1, sizeof *f);
    struct tf_error err;
    int rc;

    *state = f;
    tf_error_init(&err);
    rc = tf_filter_redact.open(&args, &f->self, &err);
    tf_error_fini(&err);
    if (rc < 0) {
        return rc;
    }
    f->scratch = tf_filter_redact.scratch_new(f->self);
    f->state = tf_filter_redact.state_new(f->self);
    return tf_batch_init(&f->batch);
}

static inline int redact_teardown(void **state)
{
    struct fixture *f = *state;

    tf_filter_redact.state_free(f->state);
    tf_filter_redact.scratch_free(f->scratch);
    tf_filter_redact.close(f->self);
    tf_batch_fini(&f->batch);
    free(f);
    return 0;
}

/* Runs one text through the filter, as the record's main text. */
static inline struct tf_slice redact(struct fixture *f, const char *text, size_t size)
{
    const struct tf_field *field;

    assert_int_equal(tf_batch_reset(&f->batch), 0);
    assert_non_null(tf_batch_add_record(&f->batch, 1, TF_STREAM_STDOUT));
    assert_int_equal(tf_batch_add_text_field(&f->batch, "log", tf_slice(text, size)), 0);
    assert_int_equal(tf_filter_redact.apply(f->self, f->scratch, f->state, &f->batch), 0);
    field = &f->batch.fields[0];
    return tf_batch_slice(&f->batch, field->value.text.at, field->value.text.size);
}

/* The same, as a text that ends in NUL; and what comes of it. */
static inline void assert_redacted(struct fixture *f, const char *text, const char *becomes)
{
    struct tf_slice got = redact(f, text, strlen(text));

    if (!tf_slice_equal(got, tf_slice_text(becomes))) {
        fail_msg("%s\nbecame %.*s\nnot    %s", text, (int)got.size, got.data, becomes);
    }
}

#endif
