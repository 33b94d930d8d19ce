/*
 * test_encoding.c - plain lines in ISO 8859-1 and UTF-16: where they end, and what they are in
 * UTF-8, whatever the blocks.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "taffrail/decode.h"

#define SEEN_MAX 16u

struct seen {
    char *texts[SEEN_MAX];
    uint8_t flags[SEEN_MAX];
    size_t count;
};

static void keep(struct seen *seen, const struct tf_batch *batch)
{
    for (uint32_t i = 0; i < batch->record_count; i++) {
        const struct tf_field *field = &batch->fields[batch->records[i].first_field];

        assert_true(seen->count < SEEN_MAX);
        seen->flags[seen->count] = batch->records[i].flags;
        seen->texts[seen->count++] =
            strndup(batch->text.data + field->value.text.at, field->value.text.size);
    }
}

/* Decodes file in blocks of step bytes. */
static void decode(enum tf_encoding encoding, struct tf_slice file, size_t step, struct seen *seen)
{
    const uint64_t done[TF_STREAMS] = {0};
    struct tf_lines *lines;
    struct tf_batch batch;
    size_t at = 0, end = 0;

    *seen = (struct seen){.count = 0};
    assert_int_equal(tf_lines_new(TF_FORMAT_AUTO, 256, &lines), 0);
    tf_lines_set_encoding(lines, encoding);
    tf_lines_restart(lines, 0, done);
    assert_int_equal(tf_batch_init(&batch), 0);
    while (at < file.size) {
        int64_t used;

        end = end + step < file.size ? end + step : file.size;
        used =
            tf_lines_decode(lines, tf_slice(file.data + at, end - at), end == file.size, 1, &batch);
        assert_true(used >= 0);
        at += (size_t)used;
        keep(seen, &batch);
        assert_int_equal(tf_batch_reset(&batch), 0);
    }
    assert_int_equal(tf_lines_format(lines), TF_FORMAT_PLAIN);
    tf_batch_fini(&batch);
    tf_lines_free(lines);
}

static void assert_lines(enum tf_encoding encoding, const char *file, size_t size,
                         const char *const *expected, size_t count)
{
    for (size_t step = 1; step <= size; step++) {
        struct seen seen;

        decode(encoding, tf_slice(file, size), step, &seen);
        assert_int_equal(seen.count, count);
        for (size_t i = 0; i < count; i++) {
            assert_string_equal(seen.texts[i], expected[i]);
            free(seen.texts[i]);
        }
    }
}

#define ASSERT_LINES(encoding, file, ...)                                                          \
    assert_lines(encoding, file, sizeof(file) - 1, (const char *const[]){__VA_ARGS__},             \
                 TF_COUNT(((const char *const[]){__VA_ARGS__})))

static void latin1_becomes_utf8(void **state)
{
    (void)state;
    ASSERT_LINES(TF_ENCODING_LATIN1, "gr\xfc\xdf\x65\r\n\n\xff\x80 last", "gr\u00fc\u00df\x65", "",
                 "\u00ff\xc2\x80 last");
}

static void utf16_becomes_utf8(void **state)
{
    (void)state;
    ASSERT_LINES(TF_ENCODING_UTF16,
                 "\xff\xfe"
                 "a\0\r\0\n\0"
                 "\x0a\x0a\0\x0a\xac\x20\n\0" /* U+0A0A, U+0A00, U+20AC */
                 "\x01\xd8\x37\xdc",          /* a pair */
                 "a", "\u0a0a\u0a00\u20ac", "\U00010437");
    ASSERT_LINES(TF_ENCODING_UTF16, "\xfe\xff\0a\0\r\0\n\x0a\x0a\x0a\0\x20\xac\0\n\xd8\x01\xdc\x37",
                 "a", "\u0a0a\u0a00\u20ac", "\U00010437");
    ASSERT_LINES(TF_ENCODING_UTF16, "n\0o\0\n\0m\0", "no", "m"); /* no mark: little-endian */
}

static void broken_utf16_is_replaced(void **state)
{
    (void)state;
    ASSERT_LINES(TF_ENCODING_UTF16, "\x01\xd8\n\0\x37\xdc\x01\xd8\n\0x", "\ufffd", "\ufffd\ufffd",
                 "\ufffd");
}

/* Head and tail of a long line are text, wherever they were cut. */
static void a_long_line_keeps_its_ends(void **state)
{
    static const enum tf_encoding encodings[] = {TF_ENCODING_LATIN1, TF_ENCODING_UTF16};

    (void)state;
    for (size_t e = 0; e < TF_COUNT(encodings); e++) {
        size_t unit = encodings[e] == TF_ENCODING_UTF16 ? 2 : 1, size = (2u << 20) * unit;
        char *file = calloc(1, size + 8);
        struct seen seen;

        assert_non_null(file);
        for (size_t i = 0; i < size; i += unit) {
            file[i] = (char)('a' + i / unit % 26);
        }
        memcpy(file + size - 2 * unit, unit == 2 ? "Z\0\n\0" : "Z\n", 2 * unit);
        decode(encodings[e], tf_slice(file, size), 99999, &seen);
        assert_int_equal(seen.count, 1);
        assert_true(seen.flags[0] & TF_RECORD_TRUNCATED);
        assert_memory_equal(seen.texts[0], "abcdefghij", 10);
        assert_non_null(strstr(seen.texts[0], " bytes left out]"));
        assert_int_equal(seen.texts[0][strlen(seen.texts[0]) - 1], 'Z');
        for (const char *c = seen.texts[0]; *c != '\0'; c++) {
            assert_true((uint8_t)*c < 0x80); /* no half of a unit */
        }
        free(seen.texts[0]);
        free(file);
    }
}

/* Behind a restart the byte order is told, not read. */
static void the_mark_is_told_behind_the_start(void **state)
{
    const uint64_t done[TF_STREAMS] = {8, 8, 8};
    struct tf_lines *lines;
    struct tf_batch batch;
    struct seen seen = {.count = 0};

    (void)state;
    assert_int_equal(tf_lines_new(TF_FORMAT_PLAIN, 256, &lines), 0);
    assert_int_equal(tf_batch_init(&batch), 0);
    tf_lines_set_encoding(lines, TF_ENCODING_UTF16);
    tf_lines_set_mark(lines, tf_slice("\xfe\xff", 2));
    tf_lines_restart(lines, 8, done);
    assert_false(tf_lines_has_line(lines, tf_slice("\n\0\n", 3))); /* U+0A00 and a half */
    assert_true(tf_lines_has_line(lines, tf_slice("\0b\0\n", 4)));
    assert_int_equal(tf_lines_decode(lines, tf_slice("\0b\0\n\0c", 6), false, 1, &batch), 4);
    keep(&seen, &batch);
    assert_int_equal(seen.count, 1);
    assert_string_equal(seen.texts[0], "b");
    free(seen.texts[0]);
    tf_batch_fini(&batch);
    tf_lines_free(lines);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(latin1_becomes_utf8),
        cmocka_unit_test(utf16_becomes_utf8),
        cmocka_unit_test(broken_utf16_is_replaced),
        cmocka_unit_test(a_long_line_keeps_its_ends),
        cmocka_unit_test(the_mark_is_told_behind_the_start),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
