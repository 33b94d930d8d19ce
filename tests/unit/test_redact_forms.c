/*
 * test_redact_forms.c - the forms in which a secret hides, each with what must come of it.
 *
 * What is written is masked though it reads as a secret only when its escapes are undone, at any
 * mixture and depth up to three; what stands around it stays as it was written.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "../../filters/redact/undo.h"
#include "redact_fixture.h"
#include "taffrail/decode.h"

#define P     "[REDACTED:assigned-password]"
#define S     "[REDACTED:assigned-secret]"
#define TOKEN "ghp_a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8"
#define G     "[REDACTED:github-token]"

/* A text, its size when it holds a NUL, and what it becomes. */
struct form {
    const char *written, *becomes;
    size_t size, becomes_size;
};
#define TEXTS(a, b)                                                                                \
    {                                                                                              \
        .written = (a), .becomes = (b), .size = sizeof(a) - 1, .becomes_size = sizeof(b) - 1       \
    }

static void assert_forms(struct fixture *f, const struct form *forms, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct tf_slice got = redact(f, forms[i].written, forms[i].size);

        if (!tf_slice_equal(got, tf_slice(forms[i].becomes, forms[i].becomes_size))) {
            fail_msg("form %zu, %s\nbecame %.*s\nnot    %s", i, forms[i].written, (int)got.size,
                     got.data, forms[i].becomes);
        }
    }
}

static void escapes_of_json_hide_nothing(void **state)
{
    static const struct form forms[] = {
        TEXTS("pass\\u0077ord=hunter22 ok", "pass\\u0077ord=" P " ok"),
        TEXTS("\\u0070\\u0061ssword: hunter22", "\\u0070\\u0061ssword: " P),
        TEXTS("gh\\u0070_a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8 x", G " x"),
        TEXTS("gh\\\\u0070_a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8 x", G " x"),
        TEXTS("ghp_a1B2c3D4e5F6g7H8\\u0069\\u0039J0k1L2m3N4o5P6q7R8\\n", G "\\n"),
        TEXTS("gh\\x70_a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8", G),
        TEXTS("{\"a\":\"{\\\"b\\\":\\\"{\\\\\\\"token\\\\\\\":\\\\\\\"abcdefgh\\\\\\\"}\\\"}\"}",
              "{\"a\":\"{\\\"b\\\":\\\"{\\\\\\\"token\\\\\\\":\\\\\\\"" S "\\\\\\\"}\\\"}\"}"),
        TEXTS("{\"u\":\"amqp:\\/\\/a:hunter22@h\\/x\"}",
              "{\"u\":\"amqp:\\/\\/a:[REDACTED:url-password]@h\\/x\"}"),
    };

    assert_forms(*state, forms, TF_COUNT(forms));
}

static void other_escapes_hide_nothing(void **state)
{
    static const struct form forms[] = {
        /* XML and HTML */
        TEXTS("pass&#119;ord=hunter22", "pass&#119;ord=" P),
        TEXTS("pass&#x77;ord=hunter22 x", "pass&#x77;ord=" P " x"),
        TEXTS("token&equals;&quot;abc def&quot; x", "token&equals;&quot;" S "&quot; x"),
        TEXTS("<a b=\"" TOKEN "\"/>", "<a b=\"" G "\"/>"),
        TEXTS("gh&amp;#112;_a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8", G),
        /* percent, once, twice, three times */
        TEXTS("x=%67hp_a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8&y", "x=" G "&y"),
        TEXTS("x=%2567hp_a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8&y", "x=" G "&y"),
        TEXTS("x=%252567hp_a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8&y", "x=" G "&y"),
        TEXTS("q=%70assword%3Ahunter22%20x", "q=%70assword%3A" P "%20x"),
        TEXTS("q=%u0070assword%3Ahunter22%20x", "q=%u0070assword%3A" P "%20x"),
        /* quoted-printable */
        TEXTS("api_key=3D\"a b\" x", "api_key=3D\"[REDACTED:api-key]\" x"),
        /* mixed: percent in JSON escapes, entities in percent */
        TEXTS("\\u0025677hp", "\\u0025677hp"),
        TEXTS("\\u002567hp_a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8", G),
        TEXTS("%26%23103%3Bhp_a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8", G),
    };

    assert_forms(*state, forms, TF_COUNT(forms));
}

static void what_is_not_seen_hides_nothing(void **state)
{
    static const struct form forms[] = {
        TEXTS("\x1b[36mpassword\x1b[0m=hunter22 ok", "\x1b[36mpassword\x1b[0m=" P " ok"),
        TEXTS("\\u001b[36mpassword\\u001b[0m=hunter22 ok",
              "\\u001b[36mpassword\\u001b[0m=" P " ok"),
        TEXTS("pass\xe2\x80\x8bword=hunter22", "pass\xe2\x80\x8bword=" P),     /* zero width */
        TEXTS("pass\xc2\xadword=hunter22", "pass\xc2\xadword=" P),             /* soft hyphen */
        TEXTS("\xef\xbb\xbfpassword=hunter22", "\xef\xbb\xbfpassword=" P),     /* byte order mark */
        TEXTS("pass\0word=hunter22 x", "pass\0word=" P " x"),                  /* NUL */
        TEXTS("p\xd0\xb0ssw\xd0\xberd=hunter22", "p\xd0\xb0ssw\xd0\xberd=" P), /* Cyrillic */
        TEXTS("p\xce\xb1ssword=hunter22", "p\xce\xb1ssword=" P),               /* Greek */
        TEXTS("pass\xc1\xb7ord=hunter22", "pass\xc1\xb7ord=" P),               /* overlong */
        TEXTS("pass\xe0\x81\xb7ord=hunter22", "pass\xe0\x81\xb7ord=" P),
        TEXTS("pass\xffword=hunter22", "pass\xffword=" P),                      /* no UTF-8 */
        TEXTS("caf\xe9 password=hunter22 \xe9", "caf\xe9 password=" P " \xe9"), /* Latin-1 */
        TEXTS("password=caf\xe9 x", "password=" P " x"),
        TEXTS("p\0a\0s\0s\0w\0o\0r\0d\0=\0h\0u\0n\0t\0e\0r\0002\0 \0x\0", /* UTF-16 LE */
              "p\0a\0s\0s\0w\0o\0r\0d\0=" P "\0 \0x\0"),
        TEXTS("\0p\0a\0s\0s\0w\0o\0r\0d\0=\0h\0u\0n\0t\0e\0r\0002\0 \0x", /* UTF-16 BE */
              "\0p\0a\0s\0s\0w\0o\0r\0d\0=" P "\0 \0x"),
        TEXTS("\xff\xfeg\0h\0p\0_\0a\0001\0B\0002\0c\0003\0D\0004\0e\0005\0F\0006\0g\0007\0H\0008"
              "\0i\0009\0J\0000\0k\0001\0L\0002\0m\0003\0N\0004\0o\0005\0P\0006\0q\0007\0R\0008\0",
              G "\0"),
    };

    assert_forms(*state, forms, TF_COUNT(forms));
}

static void what_reads_as_nothing_stays(void **state)
{
    static const char *const texts[] = {
        "GET /a?b=1&c=2;d HTTP/1.1 100% \\d+ C:\\users\\new \\q",
        "50% of &unknown; &#; &#x; &#99999999; %zz %u12 \\u12 \\uzzzz \\",
        "\xd0\xbf\xd1\x80\xd0\xb8\xd0\xb2\xd0\xb5\xd1\x82 \xe4\xb8\xad\xe6\x96\x87 "
        "\xf0\x9f\x98\x80",
        "\x1b[32minfo\x1b[0m done \x1b[",
        "a=3 b=3D",
        "%",
        "&",
        "\\",
        "=3",
        "=3D",
    };
    struct fixture *f = *state;

    for (size_t i = 0; i < TF_COUNT(texts); i++) {
        struct tf_slice got = redact(f, texts[i], strlen(texts[i]));

        assert_true(tf_slice_equal(got, tf_slice_text(texts[i])));
        assert_int_equal(f->batch.records[0].flags, 0);
    }
}

/* Bytes put in front of a token, or behind it, never unmask it. */
static void foreign_bytes_unmask_nothing(void **state)
{
    static const char *const pieces[] = {
        "a",    "_", "9",   "-",  "%", "%2",         "\\",       "\\u",      "&",
        "&#",   "=", "=3D", "\"", "'", "\x1b[",      "\xc2",     "\xe2\x80", "\xd0",
        "\xff", " ", "\t",  "{",  ":", "[REDACTED:", "[HASH:a:", ";"};
    struct fixture *f = *state;
    char text[256];

    for (size_t before = 0; before < TF_COUNT(pieces); before++) {
        for (size_t behind = 0; behind < TF_COUNT(pieces); behind++) {
            struct tf_slice got;

            (void)snprintf(text, sizeof text, "x%s%s %s", pieces[before], TOKEN, pieces[behind]);
            got = redact(f, text, strlen(text));
            if (memmem(got.data, got.size, TOKEN + 8, 20) != NULL) {
                fail_msg("not masked: %s", text);
            }
        }
    }
}

static void places_lead_back_to_the_written_bytes(void **state)
{
    static const char written[] = "a%41\xe2\x80\x8b&lt;\\u00e9z=\x1b[0m";
    struct tf_redact_undone undone = {.size = 0};
    struct tf_redact_written place = {0};
    const size_t wanted[] = {0, 1, 4, 11, 17, 17, 18, 19}; /* a A < é(2) z = end */

    (void)state;
    assert_true(tf_redact_may_undo(tf_slice_text(written)));
    assert_int_equal(tf_redact_undo(&undone, tf_slice_text(written)), 1);
    assert_int_equal(undone.size, 7);
    assert_memory_equal(undone.text, "aA<\xc3\xa9z=", 7);
    for (size_t i = 0; i <= undone.size; i++) {
        assert_int_equal(tf_redact_written_at(&undone, &place, i), wanted[i]);
    }
    assert_int_equal(tf_redact_undo_again(&undone), 0);
    tf_redact_undone_wipe(&undone, false);
    assert_non_null(undone.text);
    tf_redact_undone_wipe(&undone, true);
    assert_null(undone.text);
}

static void it_is_undone_a_few_times(void **state)
{
    struct tf_redact_undone undone = {.size = 0};
    unsigned times = 1;

    (void)state;
    assert_int_equal(tf_redact_undo(&undone, tf_slice_text("%2525252541")), 1);
    while (tf_redact_undo_again(&undone) > 0) {
        times++;
    }
    assert_int_equal(times, TF_REDACT_UNDO_DEPTH);
    assert_int_equal(undone.size, 3);
    assert_memory_equal(undone.text, "%41", 3);
    tf_redact_undone_wipe(&undone, true);
}

/* A line of size 4,000 with a text at a place, as it comes out of a decoder that keeps 1,024. */
static struct tf_slice cut_line(struct fixture *f, size_t at, const char *text)
{
    struct tf_lines *lines;
    char line[4001];
    const struct tf_field *field;

    for (size_t i = 0; i < sizeof line; i++) { /* words, so that nothing is one long word */
        line[i] = i % 8 == 7 ? ' ' : 'w';
    }
    memcpy(line + at, text, strlen(text));
    line[4000] = '\n';
    assert_int_equal(tf_batch_reset(&f->batch), 0);
    assert_int_equal(tf_lines_new(TF_FORMAT_PLAIN, 1024, &lines), 0);
    assert_int_equal(tf_lines_decode(lines, tf_slice(line, sizeof line), true, 1, &f->batch),
                     sizeof line);
    tf_lines_free(lines);
    assert_int_equal(f->batch.records[0].flags, TF_RECORD_TRUNCATED);
    assert_int_equal(tf_filter_redact.apply(f->self, f->scratch, f->state, &f->batch), 0);
    assert_int_equal(f->batch.records[0].cut.to, 0);
    field = &f->batch.fields[f->batch.field_count - 1];
    return tf_batch_slice(&f->batch, field->value.text.at, field->value.text.size);
}

static void assert_nothing_of(struct tf_slice text, const char *secret)
{
    for (size_t i = 0; i + 6 <= strlen(secret); i++) {
        if (memmem(text.data, text.size, secret + i, 6) != NULL) {
            fail_msg("%.6s is in %.*s", secret + i, (int)text.size, text.data);
        }
    }
}

/* Wherever a line is cut through a secret, no piece of it is left. */
static void a_cut_shows_no_piece_of_a_secret(void **state)
{
    struct fixture *f = *state;
    char password[1600];
    struct tf_slice got;

    got = cut_line(f, 0, "x");
    assert_non_null(memmem(got.data, got.size, " bytes left out]", 16));
    assert_true(got.size > 1024 - 2 * 128 - 60 && got.size <= 1024 - 2 * 128);
    for (size_t at = 340; at < 560; at++) { /* its head ends at 384, what is searched at 512 */
        assert_nothing_of(cut_line(f, at, " " TOKEN " "), TOKEN);
    }
    for (size_t at = 3480; at < 3700; at++) {
        assert_nothing_of(cut_line(f, at, " token=\"" TOKEN "\" "), TOKEN + 20);
        assert_nothing_of(cut_line(f, at, "amqp://a:pQ7!xZ9#kL2$vB4@h "), "pQ7!xZ9#kL2$vB4");
    }
    /* One that is longer than what is searched goes on behind the cut. */
    (void)snprintf(password, sizeof password, "password=");
    for (size_t i = 9; i + 1 < sizeof password; i++) {
        password[i] = (char)('A' + i * 7 % 23);
        password[i + 1] = '\0';
    }
    got = cut_line(f, 300, password); /* ends in what is left out */
    assert_nothing_of(got, password + 9);
    assert_non_null(memmem(got.data, got.size, "www", 3));
    memset(password + 9, 'Z', sizeof password - 10);
    got = cut_line(f, 2400, password); /* begins there, and reaches the tail: it has no name */
    assert_non_null(memmem(got.data, got.size, " bytes left out]", 16));
    for (size_t i = 300; i < 384; i++) {
        char line[3800];

        memset(line, 'Q', sizeof line);
        memcpy(line, " password=", 10);
        line[sizeof line - 1] = '\0';
        got = cut_line(f, 384 - i, line); /* from the head to the tail */
        assert_null(memmem(got.data, got.size, "QQQQQQ", 6));
    }
}

/* Lines of a file through its decoder and the filter: the text of the record that comes of them. */
static struct tf_slice decoded(struct fixture *f, enum tf_format format, const char *file,
                               size_t block)
{
    struct tf_lines *lines;
    const struct tf_field *field;
    size_t size = strlen(file), at = 0;

    assert_int_equal(tf_batch_reset(&f->batch), 0);
    assert_int_equal(tf_lines_new(format, 1u << 20, &lines), 0);
    while (at < size) { /* a block is what one read gave */
        size_t part = size - at < block ? size - at : block;
        int64_t used =
            tf_lines_decode(lines, tf_slice(file + at, part), at + part == size, 1, &f->batch);

        assert_true(used >= 0);
        block += used == 0 ? block : 0;
        at += (size_t)used;
    }
    tf_lines_free(lines);
    assert_int_equal(f->batch.record_count, 1);
    assert_int_equal(tf_filter_redact.apply(f->self, f->scratch, f->state, &f->batch), 0);
    field = &f->batch.fields[f->batch.field_count - 1];
    return tf_batch_slice(&f->batch, field->value.text.at, field->value.text.size);
}

static void a_secret_in_pieces_is_masked(void **state)
{
    static const char docker[] =
        "{\"log\":\"key "
        "ghp_a1B2c3D4e5F6g7H8\",\"stream\":\"stdout\",\"time\":\"2026-11-24T10:00:00Z\"}\n"
        "{\"log\":\"i9J0k1L2m3\",\"stream\":\"stdout\",\"time\":\"2026-11-24T10:00:00Z\"}\n"
        "{\"log\":\"N4o5P6q7R8 x\\n\",\"stream\":\"stdout\",\"time\":\"2026-11-24T10:00:00Z\"}\n";
    static const char cri[] = "2026-11-24T10:00:00Z stdout P key ghp_a1B2c3D4e5F6g7H8\n"
                              "2026-11-24T10:00:00Z stdout F i9J0k1L2m3N4o5P6q7R8 x\n";
    struct fixture *f = *state;

    for (size_t block = 40; block < 1000; block += 37) {
        assert_true(tf_slice_equal(decoded(f, TF_FORMAT_DOCKER, docker, block),
                                   tf_slice_text("key " G " x")));
        assert_true(
            tf_slice_equal(decoded(f, TF_FORMAT_CRI, cri, block), tf_slice_text("key " G " x")));
    }
}

/* Malformed lines are evidence, and scanned as they are and with their escapes undone. */
static void a_malformed_line_hides_nothing(void **state)
{
    struct fixture *f = *state;

    assert_true(tf_slice_equal(
        decoded(f, TF_FORMAT_DOCKER, "{\"log\":\"p\\u0061ssword=hunter22 \\q\",}\n", 1000),
        tf_slice_text("{\"log\":\"p\\u0061ssword=" P " \\q\",}")));
    assert_int_equal(f->batch.records[0].flags, TF_RECORD_MALFORMED | TF_RECORD_REDACTED);
    assert_true(tf_slice_equal(decoded(f, TF_FORMAT_CRI, "no CRI line, password=hunter22\n", 1000),
                               tf_slice_text("no CRI line, password=" P)));
}

/* Where secrets stand besides messages. */
static void every_field_is_searched(void **state)
{
    static const char *const fields[][3] = {
        {"_CMDLINE", "/usr/bin/app --token abcdefgh12 -v", "abcdefgh12"},
        {"_CMDLINE", "mysqldump -uroot -phunter22 db", "hunter22"},
        {"referrer", "https://h/cb?access_token=abcdefgh12&x=1", "abcdefgh12"},
        {"log", "<34>1 - h app - - [auth@1 token=\"abcdefgh12\" user=\"ann\"] ok", "abcdefgh12"},
        {"path", "/srv/" TOKEN "/a.log", TOKEN},
        {"tag", "app." TOKEN, TOKEN},
        {"PROXY", "http://ann:hunter22@proxy:3128", "hunter22"},
        {TOKEN, "a name", TOKEN},
    };
    struct fixture *f = *state;

    for (size_t i = 0; i < TF_COUNT(fields); i++) {
        const struct tf_field *field = &f->batch.fields[0];

        assert_int_equal(tf_batch_reset(&f->batch), 0);
        assert_non_null(tf_batch_add_record(&f->batch, 1, TF_STREAM_STDOUT));
        assert_int_equal(
            tf_batch_add_text_field(&f->batch, fields[i][0], tf_slice_text(fields[i][1])), 0);
        assert_int_equal(tf_filter_redact.apply(f->self, f->scratch, f->state, &f->batch), 0);
        field = &f->batch.fields[0];
        assert_null(memmem(f->batch.text.data + field->value.text.at, field->value.text.size,
                           fields[i][2], strlen(fields[i][2])));
        assert_null(memmem(f->batch.text.data + field->key_at, field->key_size, fields[i][2],
                           strlen(fields[i][2])));
        assert_true((f->batch.records[0].flags & TF_RECORD_REDACTED) != 0);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, redact_setup, redact_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(escapes_of_json_hide_nothing),   TEST(other_escapes_hide_nothing),
        TEST(what_is_not_seen_hides_nothing), TEST(what_reads_as_nothing_stays),
        TEST(foreign_bytes_unmask_nothing),   TEST(a_cut_shows_no_piece_of_a_secret),
        TEST(a_secret_in_pieces_is_masked),   TEST(a_malformed_line_hides_nothing),
        TEST(every_field_is_searched),        TEST(places_lead_back_to_the_written_bytes),
        TEST(it_is_undone_a_few_times),
    };

    return cmocka_run_group_tests_name("redact forms", tests, NULL, NULL);
}
