/* test_lines.c - log files become records, however they are cut into blocks, once. */
#include <errno.h>
#include <inttypes.h>
#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "../../agent/decode/held.h"
#include "taffrail/decode.h"

#define NOW_NS       INT64_C(1763892904000000000)
#define MAX_LINE     (1u << 20)
#define OUT_MAX      (256u << 20)
#define TIME         "2025-11-23T10:15:04Z"
#define DOCKER(s, t) "{\"log\":\"" t "\",\"stream\":\"" s "\",\"time\":\"" TIME "\"}\n"
#define CRI(s, g, t) TIME " " s " " g " " t "\n"

/* ---- a reader of files, and what it has emitted, as NDJSON --------------------------------------
 */

struct fixture {
    struct tf_lines *lines;
    struct tf_batch batch;
    struct tf_buf out;
    bool with_time;
    uint32_t joined, malformed, truncated;
    uint64_t read_bytes;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);

    *state = f;
    if (f == NULL || tf_batch_init(&f->batch) < 0) {
        return -1;
    }
    tf_buf_init(&f->out, OUT_MAX);
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    tf_lines_free(f->lines);
    tf_batch_fini(&f->batch);
    tf_buf_fini(&f->out);
    free(f);
    return 0;
}

static void use(struct fixture *f, enum tf_format format, uint64_t max_line_bytes)
{
    tf_lines_free(f->lines);
    f->lines = NULL;
    assert_int_equal(tf_lines_new(format, max_line_bytes, &f->lines), 0);
}

static void print_string(struct tf_buf *out, struct tf_slice text)
{
    static const char letters[] = "\bb\tt\nn\ff\rr\"\"\\\\";

    for (size_t i = 0; i < text.size; i++) {
        const char *letter = text.data[i] == '\0' ? NULL : strchr(letters, text.data[i]);

        if (letter != NULL && (letter - letters) % 2 == 0) {
            (void)tf_buf_printf(out, "\\%c", letter[1]);
        } else if ((uint8_t)text.data[i] < 0x20) {
            (void)tf_buf_printf(out, "\\u%04x", (unsigned)text.data[i]);
        } else {
            (void)tf_buf_append(out, text.data + i, 1);
        }
    }
}

static void print_marks(struct tf_buf *out, const struct tf_record *record)
{
    const char *comma = "";

    if (record->flags == 0) {
        return;
    }
    (void)tf_buf_append_text(out, ",\"taffrail\":{");
    if ((record->flags & TF_RECORD_MALFORMED) != 0) {
        (void)tf_buf_append_text(out, "\"malformed\":true");
        comma = ",";
    }
    if ((record->flags & TF_RECORD_TRUNCATED) != 0) {
        (void)tf_buf_printf(out, "%s\"truncated\":%" PRIu32, comma, record->true_bytes);
        comma = ",";
    }
    if ((record->flags & TF_RECORD_UNFINISHED) != 0) {
        (void)tf_buf_printf(out, "%s\"unfinished\":true", comma);
    }
    (void)tf_buf_append_text(out, "}");
}

static void print_field(struct tf_buf *out, const struct tf_batch *batch,
                        const struct tf_field *field)
{
    struct tf_slice key = tf_batch_slice(batch, field->key_at, field->key_size);
    struct tf_slice text = tf_batch_slice(batch, field->value.text.at, field->value.text.size);

    assert_int_equal(field->type, TF_VALUE_TEXT);
    assert_int_equal(text.data[-1], '\n'); /* batch.h: between newlines */
    assert_int_equal(text.data[text.size], '\n');
    (void)tf_buf_printf(out, ",\"%.*s", (int)key.size, key.data);
    if (tf_utf8_valid(text.data, text.size)) {
        (void)tf_buf_append_text(out, "\":\"");
        print_string(out, text);
    } else {
        (void)tf_buf_append_text(out, "_b64\":\"");
        (void)tf_base64_append(out, text.data, text.size);
    }
    (void)tf_buf_append_text(out, "\"");
}

/* Prints what the batch holds and empties it. */
static void collect(struct fixture *f)
{
    struct tf_batch *batch = &f->batch;

    for (uint32_t i = 0; i < batch->record_count; i++) {
        const struct tf_record *record = &batch->records[i];
        char time[TF_TIME_TEXT_BYTES];

        tf_time_format(record->time_ns, time);
        (void)tf_buf_append_text(&f->out, "{");
        if (f->with_time) {
            (void)tf_buf_printf(&f->out, "\"time\":\"%s\",", time);
        }
        (void)tf_buf_append_text(&f->out, "\"tag\":\"container\"");
        print_marks(&f->out, record);
        for (uint32_t k = 0; k < record->field_count; k++) {
            print_field(&f->out, batch, &batch->fields[record->first_field + k]);
        }
        (void)tf_buf_append_text(&f->out, "}\n");
    }
    assert_int_equal(f->out.error, 0);
    f->joined += batch->joined;
    f->malformed += batch->malformed;
    f->truncated += batch->truncated;
    f->read_bytes += batch->read_bytes;
    assert_int_equal(tf_batch_reset(batch), 0);
}

static int64_t decode(struct fixture *f, struct tf_slice block, bool final)
{
    int64_t used = tf_lines_decode(f->lines, block, final, NOW_NS, &f->batch);

    assert_true(used >= 0 && (size_t)used <= block.size);
    collect(f);
    return used;
}

static void flush(struct fixture *f)
{
    assert_int_equal(tf_lines_flush(f->lines, &f->batch), 0);
    collect(f);
    assert_true(tf_lines_held_at(f->lines) == UINT64_MAX);
}

/* A whole file in one block. */
static void decode_file(struct fixture *f, struct tf_slice file)
{
    assert_int_equal(decode(f, file, true), file.size);
    flush(f);
}

static void check_out(struct fixture *f, const char *expected)
{
    assert_int_equal(tf_buf_append_byte(&f->out, 0), 0);
    assert_string_equal(f->out.data, expected);
    tf_buf_clear(&f->out);
}

/* What a text becomes, without times. */
static void check_text(struct fixture *f, enum tf_format format, const char *text,
                       const char *expected)
{
    use(f, format, MAX_LINE);
    decode_file(f, tf_slice_text(text));
    check_out(f, expected);
}

static void check_done(const struct fixture *f, uint64_t out, uint64_t err, uint64_t other)
{
    uint64_t done[TF_STREAMS];

    tf_lines_done(f->lines, done);
    assert_int_equal(done[TF_STREAM_STDOUT], out);
    assert_int_equal(done[TF_STREAM_STDERR], err);
    assert_int_equal(done[TF_STREAM_OTHER], other);
}

static uint64_t smallest(const uint64_t done[TF_STREAMS])
{
    uint64_t least = done[0];

    for (unsigned i = 1; i < TF_STREAMS; i++) {
        least = done[i] < least ? done[i] : least;
    }
    return least;
}

/* ---- the fixtures of docs/formats.md ------------------------------------------------------------
 */

static void read_fixture(const char *name, struct tf_buf *buf)
{
    char path[512], bytes[4096];
    size_t size;
    FILE *file;

    (void)snprintf(path, sizeof path, "%s/tests/fixtures/%s", TF_SOURCE_DIR, name);
    file = fopen(path, "rbe");
    assert_non_null(file);
    tf_buf_init(buf, OUT_MAX);
    do {
        size = fread(bytes, 1, sizeof bytes, file);
        assert_int_equal(tf_buf_append(buf, bytes, size), 0);
    } while (size > 0);
    assert_int_equal(fclose(file), 0);
}

static void check_fixture(struct fixture *f, const char *log, const char *ndjson,
                          enum tf_format format)
{
    struct tf_buf in, expected;

    f->with_time = format != TF_FORMAT_PLAIN;
    read_fixture(log, &in);
    read_fixture(ndjson, &expected);
    assert_int_equal(tf_buf_append_byte(&expected, 0), 0);
    use(f, TF_FORMAT_AUTO, MAX_LINE);
    decode_file(f, tf_buf_slice(&in));
    assert_int_equal(tf_lines_format(f->lines),
                     format == TF_FORMAT_PLAIN ? TF_FORMAT_AUTO : format); /* so few lines */
    check_out(f, expected.data);
    assert_int_equal(f->read_bytes, in.size);
    tf_buf_fini(&in);
    tf_buf_fini(&expected);
}

static void docker_fixture_becomes_its_records(void **state)
{
    struct fixture *f = *state;

    check_fixture(f, "docker.log", "docker.ndjson", TF_FORMAT_DOCKER);
    assert_int_equal(f->joined, 3);
    assert_int_equal(tf_lines_count(f->lines), 14);
}

static void cri_fixture_becomes_its_records(void **state)
{
    struct fixture *f = *state;

    check_fixture(f, "cri.log", "cri.ndjson", TF_FORMAT_CRI);
    assert_int_equal(f->joined, 4);
    assert_int_equal(tf_lines_count(f->lines), 15);
}

static void plain_fixture_becomes_its_records(void **state)
{
    check_fixture(*state, "plain.log", "plain.ndjson", TF_FORMAT_PLAIN);
}

/* ---- single rules -------------------------------------------------------------------------------
 */

static void malformed_lines_are_carried_as_they_are(void **state)
{
    struct fixture *f = *state;

    check_text(f, TF_FORMAT_DOCKER, "\nno json\r\n" DOCKER("stdout", "a\\n") "{\"log\":\"cu",
               "{\"tag\":\"container\",\"taffrail\":{\"malformed\":true},\"log\":\"\"}\n"
               "{\"tag\":\"container\",\"taffrail\":{\"malformed\":true},\"log\":\"no json\\r\"}\n"
               "{\"tag\":\"container\",\"stream\":\"stdout\",\"log\":\"a\"}\n"
               "{\"tag\":\"container\",\"taffrail\":{\"malformed\":true,\"unfinished\":true},"
               "\"log\":\"{\\\"log\\\":\\\"cu\"}\n");
    assert_int_equal(f->malformed, 3);
    check_text(f, TF_FORMAT_CRI, "no cri\n" CRI("stderr", "F", "a"),
               "{\"tag\":\"container\",\"taffrail\":{\"malformed\":true},\"log\":\"no cri\"}\n"
               "{\"tag\":\"container\",\"stream\":\"stderr\",\"log\":\"a\"}\n");
}

static void malformed_line_does_not_part_the_pieces(void **state)
{
    check_text(*state, TF_FORMAT_CRI, CRI("stdout", "P", "a") "x\n" CRI("stdout", "F", "b"),
               "{\"tag\":\"container\",\"taffrail\":{\"malformed\":true},\"log\":\"x\"}\n"
               "{\"tag\":\"container\",\"stream\":\"stdout\",\"log\":\"ab\"}\n");
}

static void pieces_of_unknown_streams_are_not_joined(void **state)
{
    check_text(*state, TF_FORMAT_DOCKER, DOCKER("x", "a") DOCKER("x", "b\\n"),
               "{\"tag\":\"container\",\"log\":\"a\"}\n{\"tag\":\"container\",\"log\":\"b\"}\n");
}

static void last_line_counts_without_newline(void **state)
{
    struct fixture *f = *state;

    check_text(f, TF_FORMAT_PLAIN, "a\r", "{\"tag\":\"container\",\"log\":\"a\\r\"}\n");
    check_text(f, TF_FORMAT_CRI, TIME " stdout P",
               "{\"tag\":\"container\",\"taffrail\":{\"unfinished\":true},\"stream\":\"stdout\","
               "\"log\":\"\"}\n");
    use(f, TF_FORMAT_PLAIN, MAX_LINE);
    assert_int_equal(decode(f, tf_slice_text("a\nb"), false), 2);
    check_out(f, "{\"tag\":\"container\",\"log\":\"a\"}\n");
    assert_int_equal(decode(f, tf_slice_text("b"), true), 1);
    check_out(f, "{\"tag\":\"container\",\"log\":\"b\"}\n");
}

static void format_is_found_by_the_first_line_that_has_one(void **state)
{
    struct fixture *f = *state;

    check_text(f, TF_FORMAT_AUTO, "torn\n" DOCKER("stdout", "a\\n") "x\n",
               "{\"tag\":\"container\",\"log\":\"torn\"}\n"
               "{\"tag\":\"container\",\"stream\":\"stdout\",\"log\":\"a\"}\n"
               "{\"tag\":\"container\",\"taffrail\":{\"malformed\":true},\"log\":\"x\"}\n");
    assert_int_equal(tf_lines_format(f->lines), TF_FORMAT_DOCKER);
    for (unsigned i = 0; i < 16; i++) {
        if (i == 0) {
            use(f, TF_FORMAT_AUTO, MAX_LINE);
        }
        assert_int_equal(tf_lines_format(f->lines), TF_FORMAT_AUTO);
        assert_int_equal(decode(f, tf_slice_text("x\n"), false), 2);
    }
    assert_int_equal(tf_lines_format(f->lines), TF_FORMAT_PLAIN);
    tf_lines_restart(f->lines, 7, (uint64_t[]){7, 7, 7});
    assert_int_equal(tf_lines_format(f->lines), TF_FORMAT_PLAIN);
    tf_lines_restart(f->lines, 0, (uint64_t[]){0, 0, 0}); /* another file, it may be */
    assert_int_equal(tf_lines_format(f->lines), TF_FORMAT_AUTO);
}

static void held_pieces_hold_back_done_of_their_stream(void **state)
{
    struct fixture *f = *state;
    static const char first[] = CRI("stdout", "P", "a"), second[] = CRI("stderr", "P", "b");
    uint64_t one = sizeof first - 1, two = one + sizeof second - 1;

    use(f, TF_FORMAT_CRI, MAX_LINE);
    assert_true(tf_lines_held_at(f->lines) == UINT64_MAX);
    decode(f, tf_slice_text(first), false);
    check_done(f, 0, one, one);
    assert_true(tf_lines_held_at(f->lines) < UINT64_MAX);
    decode(f, tf_slice_text(second), false);
    check_done(f, 0, one, two);
    flush(f);
    check_done(f, two, two, two);
    check_out(f, "{\"tag\":\"container\",\"taffrail\":{\"unfinished\":true},\"stream\":\"stdout\","
                 "\"log\":\"a\"}\n{\"tag\":\"container\",\"taffrail\":{\"unfinished\":true},"
                 "\"stream\":\"stderr\",\"log\":\"b\"}\n");
}

static void flush_goes_by_age(void **state)
{
    check_text(*state, TF_FORMAT_CRI, CRI("stderr", "P", "b") CRI("stdout", "P", "a"),
               "{\"tag\":\"container\",\"taffrail\":{\"unfinished\":true},\"stream\":\"stderr\","
               "\"log\":\"b\"}\n{\"tag\":\"container\",\"taffrail\":{\"unfinished\":true},"
               "\"stream\":\"stdout\",\"log\":\"a\"}\n");
}

static void lines_below_done_are_passed_over(void **state)
{
    struct fixture *f = *state;
    static const char text[] =
        DOCKER("stdout", "a") DOCKER("stderr", "b\\n") "x\n" DOCKER("stdout", "c\\n");
    uint64_t end = sizeof text - 1, behind_x = end - (sizeof DOCKER("stdout", "c\\n") - 1);

    use(f, TF_FORMAT_DOCKER, MAX_LINE);
    tf_lines_restart(f->lines, 0, (uint64_t[]){0, behind_x, behind_x});
    check_done(f, 0, behind_x, behind_x);
    decode(f, tf_slice(text, behind_x), false);
    check_out(f, "");
    check_done(f, 0, behind_x, behind_x);
    decode(f, tf_slice(text + behind_x, end - behind_x), true);
    check_out(f, "{\"tag\":\"container\",\"stream\":\"stdout\",\"log\":\"ac\"}\n");
    assert_int_equal(tf_lines_count(f->lines), 2); /* only what was not passed over */
    use(f, TF_FORMAT_PLAIN, MAX_LINE);
    tf_lines_restart(f->lines, 0, (uint64_t[]){0, 0, 2});
    decode(f, tf_slice_text("a\nb\n"), true);
    check_out(f, "{\"tag\":\"container\",\"log\":\"b\"}\n");
}

static void limits_of_max_line_are_checked(void **state)
{
    struct tf_lines *lines = NULL;

    (void)state;
    assert_int_equal(tf_lines_new(TF_FORMAT_AUTO, 255, &lines), -EINVAL);
    assert_int_equal(tf_lines_new(TF_FORMAT_AUTO, (8u << 20) + 1, &lines), -EINVAL);
    assert_null(lines);
    tf_lines_free(NULL);
}

static void idle_file_costs_little(void **state)
{
    struct fixture *f = *state;

    use(f, TF_FORMAT_AUTO, MAX_LINE);
    decode(f, tf_slice_text(DOCKER("stdout", "a") DOCKER("stdout", "b\\n")), false);
    assert_true(malloc_usable_size(f->lines) < 300);
}

/* ---- long lines ---------------------------------------------------------------------------------
 */

/* One record was emitted: its text, which the caller frees with *out. */
static struct tf_slice only_text(struct fixture *f)
{
    const struct tf_record *record = &f->batch.records[0];
    const struct tf_field *field = &f->batch.fields[record->first_field + record->field_count - 1];

    assert_int_equal(f->batch.record_count, 1);
    tf_batch_close_cuts(&f->batch);
    return tf_batch_slice(&f->batch, field->value.text.at, field->value.text.size);
}

/* Head and tail around the mark; returns the bytes left out. */
static uint64_t check_cut(struct tf_slice text, struct tf_slice whole, size_t max_bytes)
{
    const char *mark = memmem(text.data, text.size, "[", 1);
    const char *end = mark == NULL ? NULL : memchr(mark, ']', text.size);
    size_t around = max_bytes / 8 < TF_SPAN_AROUND ? max_bytes / 8 : TF_SPAN_AROUND;
    char expected[64];
    size_t head, tail;

    assert_non_null(end);
    head = (size_t)(mark - text.data);
    tail = text.size - (size_t)(end + 1 - text.data);
    assert_true(text.size <= max_bytes && text.size > max_bytes - 2 * around - 60);
    assert_memory_equal(text.data, whole.data, head);
    assert_memory_equal(end + 1, whole.data + whole.size - tail, tail);
    (void)snprintf(expected, sizeof expected, "[%zu bytes left out]", whole.size - head - tail);
    assert_int_equal((size_t)(end + 1 - mark), strlen(expected));
    assert_memory_equal(mark, expected, strlen(expected));
    return whole.size - head - tail;
}

/* Gives file in blocks of block_bytes, as an input does that has no more at a time. */
static void decode_in_blocks(struct fixture *f, struct tf_slice file, size_t block_bytes)
{
    size_t at = 0;

    while (at < file.size) {
        size_t size = file.size - at < block_bytes ? file.size - at : block_bytes;
        int64_t used = tf_lines_decode(f->lines, tf_slice(file.data + at, size),
                                       at + size == file.size, NOW_NS, &f->batch);

        assert_true(used > 0);
        at += (size_t)used;
    }
}

static void check_long(struct fixture *f, enum tf_format format, const char *header, size_t size,
                       const char *trailer)
{
    static const size_t blocks[] = {256u << 10, 100000, 16u << 20};
    size_t header_size = strlen(header), trailer_size = strlen(trailer);
    char *line = malloc(header_size + size + trailer_size);

    assert_non_null(line);
    memcpy(line, header, header_size);
    for (size_t i = 0; i < size; i++) {
        line[header_size + i] = (char)('a' + i * 7 % 23);
    }
    memcpy(line + header_size + size, trailer, trailer_size);
    for (size_t i = 0; i < TF_COUNT(blocks); i++) {
        use(f, format, MAX_LINE);
        decode_in_blocks(f, tf_slice(line, header_size + size + trailer_size), blocks[i]);
        assert_int_equal(f->batch.records[0].flags, TF_RECORD_TRUNCATED);
        assert_int_equal(f->batch.records[0].true_bytes, size);
        assert_int_equal(f->batch.truncated, 1);
        (void)check_cut(only_text(f), tf_slice(line + header_size, size), MAX_LINE);
        assert_true(tf_lines_held_at(f->lines) == UINT64_MAX);
        assert_int_equal(tf_batch_reset(&f->batch), 0);
    }
    free(line);
}

static void line_of_four_mebibytes_keeps_head_and_tail(void **state)
{
    check_long(*state, TF_FORMAT_PLAIN, "", 4u << 20, "\r\n");
    check_long(*state, TF_FORMAT_PLAIN, "", 4u << 20, "");
    check_long(*state, TF_FORMAT_CRI, TIME " stdout F ", 4u << 20, "\n");
    check_long(*state, TF_FORMAT_DOCKER, "{\"time\":\"" TIME "\",\"stream\":\"stderr\",\"log\":\"",
               MAX_LINE + 1000, "\\n\"}\n");
}

static void docker_line_beyond_its_bound_is_malformed(void **state)
{
    struct fixture *f = *state;
    size_t size = 4u << 20;
    char *line = malloc(size);

    assert_non_null(line);
    memset(line, 'x', size);
    memcpy(line, "{\"time\":\"" TIME "\",\"log\":\"", 38);
    memcpy(line + size - 3, "\"}\n", 3);
    for (size_t block = 256u << 10; block <= 8u << 20; block *= 32) {
        use(f, TF_FORMAT_DOCKER, MAX_LINE);
        decode_in_blocks(f, tf_slice(line, size), block);
        assert_int_equal(f->batch.records[0].flags, TF_RECORD_MALFORMED | TF_RECORD_TRUNCATED);
        assert_int_equal(f->batch.records[0].true_bytes, size - 1);
        (void)check_cut(only_text(f), tf_slice(line, size - 1), MAX_LINE);
        assert_int_equal(tf_batch_reset(&f->batch), 0);
    }
    free(line);
}

static void cri_header_without_end_is_malformed(void **state)
{
    struct fixture *f = *state;
    size_t size = 2u << 20;
    char *line = malloc(size);

    assert_non_null(line);
    memset(line, 'x', size);
    memcpy(line, TIME " stdout F:", 30);
    line[size - 1] = '\n';
    for (size_t block = 256u << 10; block <= 8u << 20; block *= 32) {
        line[size - 100] = block == 256u << 10 ? ' ' : 'x'; /* a third space, too late */
        use(f, TF_FORMAT_AUTO, MAX_LINE);
        decode_in_blocks(f, tf_slice(line, size), block);
        assert_int_equal(f->batch.records[0].flags, TF_RECORD_MALFORMED | TF_RECORD_TRUNCATED);
        assert_int_equal(tf_batch_reset(&f->batch), 0);
    }
    free(line);
}

static void joined_text_is_cut_between_characters(void **state)
{
    struct fixture *f = *state;
    struct tf_buf whole;
    uint64_t left_out;

    tf_buf_init(&whole, OUT_MAX);
    for (unsigned shift = 0; shift < 8; shift++) {
        use(f, TF_FORMAT_CRI, 256);
        tf_buf_clear(&whole);
        for (unsigned i = 0; i < 200; i++) {
            char line[128];
            const char *text = i == 0 ? &"aaaaaaa"[7 - shift] : "é€😀é€😀";

            (void)tf_buf_append_text(&whole, text);
            (void)snprintf(line, sizeof line, CRI("stderr", "%s", "%s"), i < 199 ? "P" : "F", text);
            assert_true(tf_lines_decode(f->lines, tf_slice_text(line), false, NOW_NS, &f->batch) >
                        0);
        }
        left_out = check_cut(only_text(f), tf_buf_slice(&whole), 256);
        assert_true(left_out > whole.size - 256);
        assert_true(tf_utf8_valid(only_text(f).data, only_text(f).size));
        assert_int_equal(f->batch.records[0].true_bytes, whole.size);
        assert_int_equal(f->batch.joined, 199);
        assert_int_equal(tf_batch_reset(&f->batch), 0);
    }
    tf_buf_fini(&whole);
}

static void text_of_max_line_is_whole(void **state)
{
    struct fixture *f = *state;
    char line[300];

    memset(line, 'x', sizeof line);
    line[256] = '\n';
    use(f, TF_FORMAT_PLAIN, 256);
    decode_in_blocks(f, tf_slice(line, 257), 1000);
    assert_int_equal(f->batch.records[0].flags, 0);
    assert_int_equal(only_text(f).size, 256);
    assert_int_equal(tf_batch_reset(&f->batch), 0);
    line[256] = 0x80 - 0x100; /* no UTF-8: cut all the same */
    memset(line + 100, 0x80, 150);
    decode_in_blocks(f, tf_slice(line, 257), 1000);
    assert_int_equal(f->batch.records[0].flags, TF_RECORD_TRUNCATED);
}

static void line_without_newline_is_given_up_by_flush(void **state)
{
    struct fixture *f = *state;
    size_t size = 70000;
    char *line = malloc(size);

    assert_non_null(line);
    memset(line, 'x', size);
    memcpy(line, TIME " stdout F ", 30);
    use(f, TF_FORMAT_CRI, MAX_LINE);
    decode(f, tf_slice_text(CRI("stdout", "P", "a")), false);
    assert_int_equal(decode(f, tf_slice(line, 60000), false), 0); /* stays in the file */
    assert_int_equal(decode(f, tf_slice(line, size), false), size);
    check_out(f, "");
    assert_true(tf_lines_held_at(f->lines) < UINT64_MAX);
    check_done(f, 0, 32, 32);
    assert_int_equal(tf_lines_flush(f->lines, &f->batch), 0);
    assert_int_equal(f->batch.records[0].flags, TF_RECORD_UNFINISHED);
    assert_int_equal(only_text(f).size, size - 30 + 1);
    assert_int_equal(tf_batch_reset(&f->batch), 0);
    check_done(f, size + 32, size + 32, size + 32);
    decode(f, tf_slice_text("rest\n"), false); /* of a line that was given up: a line of its own */
    check_out(f, "{\"tag\":\"container\",\"taffrail\":{\"malformed\":true},\"log\":\"rest\"}\n");
    free(line);
}

/* ---- full batches -------------------------------------------------------------------------------
 */

static void full_batch_leaves_the_rest(void **state)
{
    struct fixture *f = *state;
    size_t size = TF_BATCH_RECORDS_MAX + 10;
    char *block = malloc(size);

    assert_non_null(block);
    memset(block, '\n', size);
    use(f, TF_FORMAT_PLAIN, MAX_LINE);
    assert_int_equal(tf_lines_decode(f->lines, tf_slice(block, size), true, NOW_NS, &f->batch),
                     TF_BATCH_RECORDS_MAX);
    check_done(f, TF_BATCH_RECORDS_MAX, TF_BATCH_RECORDS_MAX, TF_BATCH_RECORDS_MAX);
    assert_int_equal(tf_lines_decode(f->lines, tf_slice(block, 10), true, NOW_NS, &f->batch), 0);
    assert_int_equal(tf_lines_decode(f->lines, tf_slice_text("x"), true, NOW_NS, &f->batch), 0);
    assert_int_equal(tf_batch_reset(&f->batch), 0);
    assert_int_equal(tf_lines_decode(f->lines, tf_slice(block, 10), true, NOW_NS, &f->batch), 10);
    free(block);
}

static void full_arena_leaves_the_rest(void **state)
{
    struct fixture *f = *state;
    static const char text[] = CRI("stdout", "F", "a") CRI("stdout", "F", "b");
    size_t one = (sizeof text - 1) / 2;

    use(f, TF_FORMAT_CRI, 256);
    f->batch.text.limit_bytes = f->batch.text.size + one + 256 + 64;
    assert_int_equal(decode(f, tf_slice(text, sizeof text - 1), false), one);
    assert_int_equal(decode(f, tf_slice(text + one, one), false), one);
    f->batch.text.limit_bytes = TF_BATCH_TEXT_MAX;
    check_out(f, "{\"tag\":\"container\",\"stream\":\"stdout\",\"log\":\"a\"}\n"
                 "{\"tag\":\"container\",\"stream\":\"stdout\",\"log\":\"b\"}\n");
}

/* The last piece does not fit: the pieces before it stay held, and nothing is lost or doubled. */
static void full_batch_does_not_touch_what_is_held(void **state)
{
    struct fixture *f = *state;
    static const char last[] = CRI("stdout", "F", "b");
    char *line = calloc(1, 80000);

    assert_non_null(line);
    use(f, TF_FORMAT_CRI, MAX_LINE);
    decode(f, tf_slice_text(CRI("stdout", "P", "a")), false);
    while (tf_batch_add_record(&f->batch, 0, TF_STREAM_OTHER) != NULL) {
    }
    assert_int_equal(tf_lines_decode(f->lines, tf_slice_text(last), false, NOW_NS, &f->batch), 0);
    assert_int_equal(tf_lines_flush(f->lines, &f->batch), -EMSGSIZE);
    assert_int_equal(tf_batch_reset(&f->batch), 0);
    decode(f, tf_slice_text(last), false);
    check_out(f, "{\"tag\":\"container\",\"stream\":\"stdout\",\"log\":\"ab\"}\n");
    assert_int_equal(decode(f, tf_slice(line, 80000), false), 80000); /* a held line */
    while (tf_batch_add_record(&f->batch, 0, TF_STREAM_OTHER) != NULL) {
    }
    assert_int_equal(tf_lines_decode(f->lines, tf_slice_text("\n"), false, NOW_NS, &f->batch), 0);
    assert_int_equal(tf_lines_decode(f->lines, tf_slice(NULL, 0), true, NOW_NS, &f->batch), 0);
    assert_int_equal(tf_lines_flush(f->lines, &f->batch), -EMSGSIZE);
    assert_int_equal(tf_batch_reset(&f->batch), 0);
    assert_int_equal(tf_lines_decode(f->lines, tf_slice(NULL, 0), true, NOW_NS, &f->batch), 0);
    assert_int_equal(only_text(f).size, 80000);
    assert_true(tf_lines_held_at(f->lines) == UINT64_MAX);
    free(line);
}

/* After an error nothing counts, and a restart at what was done before it goes on. */
static void missing_memory_is_told_and_a_restart_goes_on(void **state)
{
    struct fixture *f = *state;
    static const char piece[] = CRI("stderr", "P", "a"), last[] = CRI("stderr", "F", "b");
    uint64_t done[TF_STREAMS];

    use(f, TF_FORMAT_AUTO, MAX_LINE);
    f->batch.text.error = -ENOMEM;
    assert_int_equal(tf_lines_decode(f->lines, tf_slice_text(piece), false, NOW_NS, &f->batch),
                     -ENOMEM);
    decode(f, tf_slice_text(piece), false);
    f->batch.text.error = -ENOMEM;
    assert_int_equal(tf_lines_decode(f->lines, tf_slice_text(last), false, NOW_NS, &f->batch),
                     -ENOMEM);
    f->batch.text.error = 0;
    tf_lines_done(f->lines, done);
    assert_int_equal(smallest(done), 0);
    tf_lines_restart(f->lines, 0, done);
    decode(f, tf_slice_text(CRI("stderr", "P", "a") CRI("stderr", "F", "b")), false);
    check_out(f, "{\"tag\":\"container\",\"stream\":\"stderr\",\"log\":\"ab\"}\n");
}

/* ---- any blocks, any restart: the same records, once --------------------------------------------
 */

static uint64_t random_state;

static uint64_t random_below(uint64_t bound)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state % bound;
}

static void add_random_text(struct tf_buf *file, bool is_json)
{
    static const char *const pieces[] = {"a",    "word ", "\xc3\xa9",          "\xe2\x82\xac",
                                         "\xff", "\r",    "[1 bytes left out]"};
    static const char *const escapes[] = {"\\u0000", "\\\"", "\\ud83d\\ude00", "\\ud83d", "\\t"};
    uint64_t count = random_below(40);

    if (random_below(200) == 0 && file->size > 100) { /* the first line shows the format */
        count = 10000 + random_below(100000);
    }
    for (uint64_t i = 0; i < count; i++) {
        if (is_json && random_below(8) == 0) {
            (void)tf_buf_append_text(file, escapes[random_below(TF_COUNT(escapes))]);
        } else {
            (void)tf_buf_append_text(file, pieces[random_below(TF_COUNT(pieces))]);
        }
    }
}

static void add_random_line(struct tf_buf *file, enum tf_format format)
{
    const char *stream = random_below(2) == 0 ? "stdout" : "stderr";
    bool partial = random_below(3) > 0, is_first = file->size == 0;

    if (format == TF_FORMAT_PLAIN || (random_below(20) == 0 && !is_first)) {
        (void)tf_buf_append_text(file, "no ");
        add_random_text(file, false);
    } else if (format == TF_FORMAT_CRI) {
        (void)tf_buf_printf(file, "2025-11-23T10:15:04.%09uZ %s %s ", (unsigned)file->size, stream,
                            partial ? "P" : "F");
        add_random_text(file, false);
    } else {
        stream = random_below(30) == 0 ? "other" : stream;
        (void)tf_buf_printf(file, "{\"stream\":\"%s\",\"log\":\"", stream);
        add_random_text(file, true);
        (void)tf_buf_printf(file, "%s\",\"time\":\"2025-11-23T10:15:04.%09uZ\"}",
                            partial ? "" : "\\n", (unsigned)file->size);
    }
    (void)tf_buf_append_text(file, random_below(9) == 0 ? "\r\n" : "\n");
}

/* What a crash would leave: the records that were kept, and the position that was kept with them.
 */
struct kept {
    size_t out_bytes;
    uint64_t done[TF_STREAMS];
    enum tf_format format;
};

static uint64_t start_again(struct fixture *f, const struct kept *kept, uint64_t max_line_bytes)
{
    uint64_t at = smallest(kept->done);

    use(f, kept->format, max_line_bytes);
    tf_lines_restart(f->lines, at, kept->done);
    f->out.size = kept->out_bytes;
    return at;
}

/* Reads file in random blocks; crashes now and then, to what was kept at one moment or another. */
static void read_at_random(struct fixture *f, struct tf_slice file, uint64_t max_line_bytes,
                           unsigned crashes)
{
    struct kept kept = {.format = TF_FORMAT_AUTO};
    uint64_t at = start_again(f, &kept, max_line_bytes);
    uint64_t block_max = UINT64_C(1) << random_below(19);

    while (at < file.size) {
        uint64_t size = 1 + random_below(block_max);
        int64_t used;

        size = size < file.size - at ? size : file.size - at;
        used = decode(f, tf_slice(file.data + at, size), at + size == file.size);
        block_max = used == 0 ? block_max * 2 : block_max;
        at += (uint64_t)used;
        if (random_below(3) == 0) {
            kept.out_bytes = f->out.size;
            kept.format = tf_lines_format(f->lines);
            tf_lines_done(f->lines, kept.done);
        }
        if (crashes > 0 && random_below(4) == 0) {
            crashes--;
            at = start_again(f, &kept, max_line_bytes);
        }
    }
    flush(f);
}

static void check_at_random(struct fixture *f, enum tf_format format, uint64_t lines)
{
    uint64_t max_line_bytes = random_below(4) == 0 ? 100000 : 256 + random_below(2000);
    struct tf_buf file, expected;

    tf_buf_init(&file, OUT_MAX);
    while (lines-- > 0) {
        add_random_line(&file, format);
    }
    file.size -= random_below(3) == 0 ? 1 : 0; /* the last newline may be missing */
    assert_int_equal(file.error, 0);
    tf_buf_clear(&f->out);
    use(f, format, max_line_bytes);
    decode_file(f, tf_buf_slice(&file));
    expected = f->out;
    tf_buf_init(&f->out, OUT_MAX);
    for (unsigned i = 0; i < 4; i++) {
        tf_buf_clear(&f->out);
        read_at_random(f, tf_buf_slice(&file), max_line_bytes, i * 5);
        assert_int_equal(f->out.size, expected.size);
        assert_memory_equal(f->out.data, expected.data, expected.size);
    }
    tf_buf_fini(&file);
    tf_buf_fini(&expected);
}

static void any_blocks_and_any_restart_give_the_same_records_once(void **state)
{
    struct fixture *f = *state;
    const char *given = getenv("TAFFRAIL_TEST_SEED");
    uint64_t seed = given != NULL ? strtoull(given, NULL, 10) : (uint64_t)tf_now_ns();

    print_message("seed %" PRIu64 " (TAFFRAIL_TEST_SEED)\n", seed);
    random_state = seed | 1;
    f->with_time = true;
    for (unsigned i = 0; i < 60; i++) {
        check_at_random(f, TF_FORMAT_DOCKER, 1 + random_below(80));
        check_at_random(f, TF_FORMAT_CRI, 1 + random_below(80));
        check_at_random(f, TF_FORMAT_PLAIN, 1 + random_below(80));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        TEST(docker_fixture_becomes_its_records),
        TEST(cri_fixture_becomes_its_records),
        TEST(plain_fixture_becomes_its_records),
        TEST(malformed_lines_are_carried_as_they_are),
        TEST(malformed_line_does_not_part_the_pieces),
        TEST(pieces_of_unknown_streams_are_not_joined),
        TEST(last_line_counts_without_newline),
        TEST(format_is_found_by_the_first_line_that_has_one),
        TEST(held_pieces_hold_back_done_of_their_stream),
        TEST(flush_goes_by_age),
        TEST(lines_below_done_are_passed_over),
        TEST(limits_of_max_line_are_checked),
        TEST(idle_file_costs_little),
        TEST(line_of_four_mebibytes_keeps_head_and_tail),
        TEST(docker_line_beyond_its_bound_is_malformed),
        TEST(cri_header_without_end_is_malformed),
        TEST(joined_text_is_cut_between_characters),
        TEST(text_of_max_line_is_whole),
        TEST(line_without_newline_is_given_up_by_flush),
        TEST(full_batch_leaves_the_rest),
        TEST(full_arena_leaves_the_rest),
        TEST(full_batch_does_not_touch_what_is_held),
        TEST(missing_memory_is_told_and_a_restart_goes_on),
        TEST(any_blocks_and_any_restart_give_the_same_records_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
