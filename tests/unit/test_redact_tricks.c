/*
 * test_redact_tricks.c - what somebody might write around a secret so that it passes.
 *
 * Texts that use up a budget in front of it, labels and marks that pose as others, JSON in shapes
 * that are seldom: each was found by a reading, and once let something through.
 */
#include "redact_fixture.h"

#include "taffrail/event.h"

#define K   "q83vEjRWeJCrze8SNFZ4kKvN7xI0VniQq83vEjRWeJCrze8SNFZ4kKvN7xI0VniQ"
#define P   "[REDACTED:assigned-password]"
#define PEM "[REDACTED:private-key]"

/* `times` times a piece, into a text that the caller frees. */
static char *repeat(const char *before, const char *piece, size_t times, const char *behind)
{
    size_t size = strlen(before), more = strlen(piece);
    char *text = malloc(size + times * more + strlen(behind) + 1);

    assert_non_null(text);
    memcpy(text, before, size);
    for (size_t i = 0; i < times; i++, size += more) {
        memcpy(text + size, piece, more);
    }
    memcpy(text + size, behind, strlen(behind) + 1);
    return text;
}

static bool passes(struct fixture *f, const char *text, const char *piece)
{
    struct tf_slice got = redact(f, text, strlen(text));

    return memmem(got.data, got.size, piece, strlen(piece)) != NULL;
}

/* Where a text is withheld, a key that begins behind that place is followed all the same. */
static void a_key_is_followed_though_its_beginning_is_withheld(void **state)
{
    struct fixture *f = *state;
    char *budget = repeat("", "eyJ ", 70, " -----BEGIN PRIVATE KEY-----");
    char *gap = repeat(" ", "x", 400, " -----BEGIN PRIVATE KEY-----");
    char *both = repeat("", "eyJ ", 70, gap);
    char *full = repeat("", "glpat-", 65600, " -----BEGIN PRIVATE KEY-----");
    const char *const texts[] = {budget, both, full, "-----BEGIN PRIVATE\x1b[0m KEY-----",
                                 "-----BEGIN PRIV\\u0041TE KEY-----"};

    for (size_t i = 0; i < TF_COUNT(texts); i++) {
        (void)redact(f, texts[i], strlen(texts[i]));
        assert_redacted(f, K, PEM);
        assert_redacted(f, "-----END PRIVATE KEY-----", "-----END PRIVATE KEY-----");
        assert_redacted(f, K, K);
    }
    free(budget);
    free(gap);
    free(both);
    free(full);
}

/* A match may begin before the place from which a text is withheld. */
static void a_match_that_reaches_back_is_withheld_whole(void **state)
{
    struct fixture *f = *state;
    char *tail = repeat("app:SecretPrefix-eyJ-", "z", 100, "@tcp(db:3306)/x");
    char *searched = repeat("", "eyJ ", 64, tail);
    char *full = repeat("", "glpat-", 65534, " app:Compass=x-glpat-Secret-77@tcp(db:3306)/x");
    char *spent = repeat("", "eyJ ", 64, "");
    char *undone = repeat(spent, "z ", 9000, "gh%70_a1B2c3D4e5F6g7H8i9J0k1L2m3N4oeyJ6q7R8");

    assert_false(passes(f, searched, "SecretPrefix"));
    assert_false(passes(f, full, "Compass"));
    assert_false(passes(f, undone, "a1B2c3D4"));
    free(tail);
    free(searched);
    free(full);
    free(spent);
    free(undone);
}

static void a_label_counts_for_its_own_mark(void **state)
{
    struct fixture *f = *state;

    (void)redact(f, "-----BEGIN PRIVATE KEY-----", 27);
    (void)redact(f, "-----END CERTIFICATE----------BEGIN RSA PRIVATE KEY-----", 56);
    assert_redacted(f, K, PEM);
    (void)redact(f, "-----END  of PRIVATE KEY docs", 29);
    assert_redacted(f, K, PEM);
    (void)redact(f, "-----END RSA PRIVATE KEY-----", 29);
    assert_redacted(f, K, K);
}

static void a_mark_covers_no_secret(void **state)
{
    struct fixture *f = *state;

    assert_false(passes(f, "[REDACTED:csk-abcd1efgh2ijkl3mnop4qrst5uvwx6yz7abcd1efgh2ijkl3]",
                        "abcd1efgh2ijkl3"));
    assert_false(passes(f, "[REDACTED:4111111111111111]", "4111111111111111"));
    assert_redacted(f, "a [REDACTED:aws-access-key] b", "a [REDACTED:aws-access-key] b");
    assert_redacted(f, "a [HASH:access-key:0123abcd:0123456789ABCDEFGHJK] b",
                    "a [HASH:access-key:0123abcd:0123456789ABCDEFGHJK] b");
    assert_redacted(f, "token=[REDACTED:x] stays", "token=[REDACTED:x] stays");
}

/* Constants of a source, and gaps, are masked where a rule would drop them. */
static void what_is_no_record_is_not_dropped(void **state)
{
    struct tf_pair pair = {.key.text = "assigned-password", .value.text = "drop"};
    const struct tf_redact_options options = {.modes = {.items = &pair, .count = 1}};
    const struct tf_filter_args args = {.name = "redact", .options = &options};
    struct fixture *f = *state;
    struct tf_error err;
    void *self, *scratch;

    tf_error_init(&err);
    assert_int_equal(tf_filter_redact.open(&args, &self, &err), 0);
    tf_error_fini(&err);
    scratch = tf_filter_redact.scratch_new(self);
    assert_non_null(tf_batch_add_record(&f->batch, 1, TF_STREAM_OTHER));
    assert_int_equal(tf_batch_add_text_field(&f->batch, "password", tf_slice_text("x")), 0);
    assert_int_equal(tf_filter_redact.apply(self, scratch, NULL, &f->batch), 0);
    assert_int_equal(f->batch.records[0].flags, TF_RECORD_REDACTED);
    assert_int_equal(tf_batch_reset(&f->batch), 0);
    assert_non_null(tf_batch_add_record(&f->batch, 1, TF_STREAM_OTHER));
    assert_int_equal(tf_batch_add_text_field(&f->batch, "password", tf_slice_text("x")), 0);
    assert_int_equal(tf_filter_redact.apply(self, scratch, f->state, &f->batch), 0);
    assert_int_equal(f->batch.records[0].flags, TF_RECORD_REDACTED | TF_RECORD_DROPPED);
    tf_filter_redact.scratch_free(scratch);
    tf_filter_redact.close(self);
}

static void pairs_may_have_other_fields_between(void **state)
{
    struct fixture *f = *state;
    const struct tf_field *field;

    assert_redacted(f, "{\"name\":\"DB_PASSWORD\",\"secure\":true,\"value\":\"hunter2\"}",
                    "{\"name\":\"DB_PASSWORD\",\"secure\":true,\"value\":\"" P "\"}");
    assert_redacted(f, "[{\"name\":\"DB_PASSWORD\"},{\"name\":\"HOME\",\"value\":\"x\"}]",
                    "[{\"name\":\"DB_PASSWORD\"},{\"name\":\"HOME\",\"value\":\"x\"}]");
    assert_redacted(f, "[{\"name\":\"DB_PASSWORD\"},{\"x\":1,\"value\":\"x\"}]",
                    "[{\"name\":\"DB_PASSWORD\"},{\"x\":1,\"value\":\"x\"}]");
    assert_int_equal(tf_batch_reset(&f->batch), 0);
    assert_non_null(tf_batch_add_record(&f->batch, 1, TF_STREAM_STDOUT));
    assert_int_equal(tf_batch_add_text_field(&f->batch, "key", tf_slice_text("DB_PASSWORD")), 0);
    assert_int_equal(tf_batch_add_text_field(&f->batch, "env", tf_slice_text("prod")), 0);
    assert_int_equal(tf_batch_add_text_field(&f->batch, "value", tf_slice_text("hunter2")), 0);
    assert_int_equal(tf_filter_redact.apply(f->self, f->scratch, f->state, &f->batch), 0);
    field = &f->batch.fields[2];
    assert_true(tf_slice_equal(
        tf_batch_slice(&f->batch, field->value.text.at, field->value.text.size), tf_slice_text(P)));
}

static void json_gives_values_away_in_any_shape(void **state)
{
    struct fixture *f = *state;

    assert_redacted(f, "{\"passwords\":[null,\"hunter2\"]}", "{\"passwords\":[null,\"" P "\"]}");
    assert_redacted(f, "{\"passwords\":[true, false,\"x\"]}",
                    "{\"passwords\":[true, false,\"" P "\"]}");
    assert_redacted(f, "{\"passwords\":[{\"a\":\"}b\",\"c\":{}},\"x\"]}",
                    "{\"passwords\":[{\"a\":\"}b\",\"c\":{}},\"" P "\"]}");
    assert_redacted(f, "  \"passwords\": [\"abc\"],", "  \"passwords\": [\"" P "\"],");
    assert_redacted(f, "{\"password\":{\"value\":\"hunter2\"},\"n\":1}",
                    "{\"password\":{\"value\":\"" P "\"},\"n\":1}");
    assert_redacted(f, "{\"password\":{\"kind\":\"text\"},\"n\":1}",
                    "{\"password\":{\"kind\":\"text\"},\"n\":1}");
}

/* Each of these was quadratic; the test's time limit is the judge. */
static void long_texts_cost_what_they_are_long(void **state)
{
    static const char *const pieces[][2] = {
        {"{\"tokens\":[", "\"\","},
        {"{", "\"to\\u006ben\":\"\","},
        {"", "\xd0\xb0"},
        {"p", "\xd0\xbe"},
        {"", "\xe2\x80\x8b"},
        {"", "\x1b["},
        {"{\"passwords\":[", "{"},
        {"{\"passwords\":[", "{},"},
        {"{\"passwords\":[", "null,"},
        {"{\"name\":\"PASSWORD\",", "\"value\":"},
        {"", "%2525"},
        {"", "&amp;"},
        {"", "\"name\":\"PASSWORD\","},
    };
    struct fixture *f = *state;

    for (size_t i = 0; i < TF_COUNT(pieces); i++) {
        char *text = repeat(pieces[i][0], pieces[i][1], (2u << 20) / strlen(pieces[i][1]), "");

        (void)redact(f, text, strlen(text));
        free(text);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, redact_setup, redact_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_key_is_followed_though_its_beginning_is_withheld),
        TEST(a_match_that_reaches_back_is_withheld_whole),
        TEST(a_label_counts_for_its_own_mark),
        TEST(a_mark_covers_no_secret),
        TEST(what_is_no_record_is_not_dropped),
        TEST(pairs_may_have_other_fields_between),
        TEST(json_gives_values_away_in_any_shape),
        TEST(long_texts_cost_what_they_are_long),
    };

    return cmocka_run_group_tests_name("redact tricks", tests, NULL, NULL);
}
