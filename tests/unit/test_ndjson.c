/* test_ndjson.c - events as JSON that a strict reader takes, and as text that a terminal survives;
 * hostile bytes are refused and leave nothing behind. */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>
#include <msgpack.h>

#include "taffrail/event.h"

#define TIME_TEXT "2025-11-23T10:15:04.120000000Z"
#define HEAD      "{\"time\":\"" TIME_TEXT "\",\"tag\":\"container\""
#define TIME      "\xd7\x00\x69\x22\xde\xa8\x07\x27\x0e\x00" /* that time */
#define EVENT     "\x92" TIME

/* ---- a strict reader of JSON (RFC 8259); it refuses doubled names too ---------------------------
 */

struct json {
    const char *at, *end;
    bool may_double; /* names may stand twice */
};

static bool read_value(struct json *in, unsigned depth);

static bool take(struct json *in, char wanted)
{
    if (in->at < in->end && *in->at == wanted) {
        in->at++;
        return true;
    }
    return false;
}

static bool is_hex(char byte)
{
    return (byte >= '0' && byte <= '9') || (byte >= 'a' && byte <= 'f');
}

static bool read_escape(struct json *in)
{
    if (in->end - in->at >= 5 && *in->at == 'u') {
        for (int i = 1; i < 5; i++) {
            if (!is_hex(in->at[i])) {
                return false;
            }
        }
        in->at += 5;
        return true;
    }
    return in->at < in->end && *in->at != '\0' && strchr("\"\\/bfnrt", *in->at++) != NULL;
}

static bool read_string(struct json *in, struct tf_slice *text)
{
    const char *start;

    if (!take(in, '"')) {
        return false;
    }
    start = in->at;
    while (in->at < in->end && *in->at != '"') {
        uint8_t byte = (uint8_t)*in->at++;

        if (byte < 0x20 || byte == 0x7f || (byte == '\\' && !read_escape(in))) {
            return false;
        }
    }
    *text = tf_slice(start, (size_t)(in->at - start));
    return tf_utf8_valid(text->data, text->size) && take(in, '"');
}

static bool read_digits(struct json *in)
{
    const char *start = in->at;

    while (in->at < in->end && *in->at >= '0' && *in->at <= '9') {
        in->at++;
    }
    return in->at > start;
}

static bool read_number(struct json *in)
{
    (void)take(in, '-');
    if (!take(in, '0') && !read_digits(in)) {
        return false;
    }
    if (take(in, '.') && !read_digits(in)) {
        return false;
    }
    if (take(in, 'e')) {
        if (!take(in, '-')) {
            (void)take(in, '+');
        }
        return read_digits(in);
    }
    return true;
}

static bool read_word(struct json *in, const char *word)
{
    size_t size = strlen(word);

    if ((size_t)(in->end - in->at) < size || memcmp(in->at, word, size) != 0) {
        return false;
    }
    in->at += size;
    return true;
}

#define NAMES_MAX 256
static bool read_members(struct json *in, unsigned depth)
{
    struct tf_slice names[NAMES_MAX];
    unsigned count = 0;

    if (take(in, '}')) {
        return true;
    }
    do {
        if (count == NAMES_MAX || !read_string(in, &names[count])) {
            return false;
        }
        for (unsigned i = 0; i < count; i++) {
            if (!in->may_double && tf_slice_equal(names[i], names[count])) {
                return false;
            }
        }
        count++;
        if (!take(in, ':') || !read_value(in, depth + 1)) {
            return false;
        }
    } while (take(in, ','));
    return take(in, '}');
}

static bool read_items(struct json *in, unsigned depth)
{
    if (take(in, ']')) {
        return true;
    }
    do {
        if (!read_value(in, depth + 1)) {
            return false;
        }
    } while (take(in, ','));
    return take(in, ']');
}

static bool read_value(struct json *in, unsigned depth)
{
    struct tf_slice text;

    if (in->at == in->end || depth > 40) {
        return false;
    }
    switch (*in->at) {
    case '{':
        in->at++;
        return read_members(in, depth);
    case '[':
        in->at++;
        return read_items(in, depth);
    case '"':
        return read_string(in, &text);
    case 't':
        return read_word(in, "true");
    case 'f':
        return read_word(in, "false");
    case 'n':
        return read_word(in, "null");
    default:
        return read_number(in);
    }
}

/* One object on one line, and nothing else. */
static bool is_line_of_json(struct tf_slice line)
{
    struct json in = {.at = line.data, .end = line.data + line.size};

    return line.size > 0 && line.data[0] == '{' && read_value(&in, 0) && take(&in, '\n') &&
           in.at == in.end;
}

/* ---- events by the msgpack library --------------------------------------------------------------
 */

struct fixture {
    msgpack_sbuffer event;
    msgpack_packer packer;
    struct tf_buf out;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);

    assert_non_null(f);
    msgpack_sbuffer_init(&f->event);
    msgpack_packer_init(&f->packer, &f->event, msgpack_sbuffer_write);
    tf_buf_init(&f->out, 64u << 20);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    msgpack_sbuffer_destroy(&f->event);
    tf_buf_fini(&f->out);
    free(f);
    return 0;
}

static void begin(struct fixture *f, size_t pairs)
{
    msgpack_sbuffer_clear(&f->event);
    tf_buf_clear(&f->out);
    msgpack_sbuffer_write(&f->event, EVENT, sizeof EVENT - 1);
    msgpack_pack_map(&f->packer, pairs);
}

static void str_of(struct fixture *f, const char *data, size_t size)
{
    msgpack_pack_str(&f->packer, size);
    msgpack_pack_str_body(&f->packer, data, size);
}

static void str(struct fixture *f, const char *text)
{
    str_of(f, text, strlen(text));
}

static void bin(struct fixture *f, const char *text)
{
    msgpack_pack_bin(&f->packer, strlen(text));
    msgpack_pack_bin_body(&f->packer, text, strlen(text));
}

typedef int print_fn(struct tf_slice event, struct tf_slice tag, struct tf_buf *out, size_t *used);

static struct tf_slice event_of(const struct fixture *f)
{
    return tf_slice(f->event.data, f->event.size);
}

/* Prints the event, which must end where its bytes end, also when others follow. */
static const char *print(struct fixture *f, print_fn *how)
{
    size_t used = 0, size = f->event.size;

    msgpack_sbuffer_write(&f->event, "\x01\x02", 2);
    assert_int_equal(how(event_of(f), tf_slice_text("container"), &f->out, &used), 0);
    assert_int_equal(used, size);
    assert_int_equal(f->out.data[f->out.size - 1], '\n');
    assert_int_equal(tf_buf_append_byte(&f->out, 0), 0);
    assert_null(memchr(f->out.data, '\n', f->out.size - 2)); /* one line */
    return f->out.data;
}

static void assert_json(struct fixture *f, const char *rest)
{
    const char *line = print(f, tf_event_print_json);

    assert_true(is_line_of_json(tf_slice_text(line)));
    assert_memory_equal(line, HEAD, sizeof HEAD - 1);
    assert_string_equal(line + sizeof HEAD - 1, rest);
}

static void time_and_tag_come_first(void **state)
{
    struct fixture *f = *state;

    begin(f, 0);
    assert_json(f, "}\n");
    begin(f, 2);
    str(f, "stream");
    str(f, "stdout");
    str(f, "log");
    str(f, "hello");
    assert_json(f, ",\"stream\":\"stdout\",\"log\":\"hello\"}\n");
}

static void every_type_has_its_json(void **state)
{
    struct fixture *f = *state;

    begin(f, 8);
    str(f, "nil");
    msgpack_pack_nil(&f->packer);
    str(f, "yes");
    msgpack_pack_true(&f->packer);
    str(f, "no");
    msgpack_pack_false(&f->packer);
    str(f, "max");
    msgpack_pack_uint64(&f->packer, UINT64_MAX);
    str(f, "min");
    msgpack_pack_int64(&f->packer, INT64_MIN);
    str(f, "map");
    msgpack_pack_map(&f->packer, 1);
    str(f, "");
    msgpack_pack_map(&f->packer, 0);
    str(f, "list");
    msgpack_pack_array(&f->packer, 3);
    msgpack_pack_int(&f->packer, -1);
    msgpack_pack_array(&f->packer, 0);
    bin(f, "\xff");
    str(f, "when");
    msgpack_sbuffer_write(&f->event, TIME, sizeof TIME - 1);
    assert_json(f, ",\"nil\":null,\"yes\":true,\"no\":false,\"max\":18446744073709551615,"
                   "\"min\":-9223372036854775808,\"map\":{\"\":{}},"
                   "\"list\":[-1,[],{\"_b64\":\"/w==\"}],\"when\":\"" TIME_TEXT "\"}\n");
}

static void integers_are_exact_at_every_width(void **state)
{
    struct fixture *f = *state;

    begin(f, 1);
    str(f, "n");
    msgpack_pack_array(&f->packer, 9);
    msgpack_pack_int64(&f->packer, 127);
    msgpack_pack_int64(&f->packer, 255);
    msgpack_pack_int64(&f->packer, 65535);
    msgpack_pack_int64(&f->packer, UINT32_MAX);
    msgpack_pack_int64(&f->packer, INT64_C(9007199254740993));
    msgpack_pack_int64(&f->packer, -32);
    msgpack_pack_int64(&f->packer, -128);
    msgpack_pack_int64(&f->packer, -32768);
    msgpack_pack_int64(&f->packer, INT32_MIN);
    assert_json(f, ",\"n\":[127,255,65535,4294967295,9007199254740993,-32,-128,-32768,"
                   "-2147483648]}\n");
}

static void floats_read_back_and_what_is_no_number_is_text(void **state)
{
    struct fixture *f = *state;

    begin(f, 1);
    str(f, "d");
    msgpack_pack_array(&f->packer, 10);
    msgpack_pack_double(&f->packer, 0.1);
    msgpack_pack_double(&f->packer, 1.0);
    msgpack_pack_double(&f->packer, -0.0);
    msgpack_pack_double(&f->packer, 1e300);
    msgpack_pack_double(&f->packer, 0.30000000000000004);
    msgpack_pack_double(&f->packer, 5e-324);
    msgpack_pack_float(&f->packer, 0.5f);
    msgpack_pack_double(&f->packer, (double)NAN);
    msgpack_pack_double(&f->packer, (double)INFINITY);
    msgpack_pack_double(&f->packer, -(double)INFINITY);
    assert_json(f, ",\"d\":[0.1,1.0,-0.0,1e+300,0.30000000000000004,4.94065645841247e-324,0.5,"
                   "\"NaN\",\"Infinity\",\"-Infinity\"]}\n");
}

static void what_is_not_utf8_is_base64(void **state)
{
    struct fixture *f = *state;

    begin(f, 3);
    str(f, "log");
    bin(f, "\xff\x00oops");
    str(f, "text");
    str(f, "ok\xc3\x28"); /* a str that lies */
    str(f, "pure");
    bin(f, "ascii");
    assert_json(f, ",\"log_b64\":\"/w==\",\"text_b64\":\"b2vDKA==\",\"pure_b64\":\"YXNjaWk=\"}\n");
}

static void controls_and_quotes_are_escaped(void **state)
{
    static const char text[] =
        "a\"b\\c\n\r\t\b\f\0\x1f\x7f\xc2\x85\xc2\xa0\xe2\x80\xa8/\xf0\x9f\x98\x80";
    struct fixture *f = *state;

    begin(f, 2);
    str(f, "log");
    str_of(f, text, sizeof text - 1);
    str_of(f, "k\n\xff\"", 4);
    str(f, "");
    assert_json(f, ",\"log\":\"a\\\"b\\\\c\\n\\r\\t\\b\\f\\u0000\\u001f\\u007f\\u0085\xc2\xa0"
                   "\xe2\x80\xa8/\xf0\x9f\x98\x80\",\"k\\n\xef\xbf\xbd\\\"\":\"\"}\n");
}

/* Every byte at every place of a word, so that the fast way and the slow one agree. */
static void every_byte_at_every_place_makes_sound_json(void **state)
{
    struct fixture *f = *state;

    for (unsigned byte = 0; byte < 256; byte++) {
        for (unsigned at = 0; at < 18; at++) {
            char text[18];

            memset(text, 'x', sizeof text);
            text[at] = (char)byte;
            begin(f, 2);
            str_of(f, text, sizeof text);
            str_of(f, text, sizeof text);
            str(f, "z");
            bin(f, "z");
            assert_true(is_line_of_json(tf_slice_text(print(f, tf_event_print_json))));
        }
    }
}

static void names_that_look_like_ours_are_told_apart(void **state)
{
    static const char *const names[] = {"time",     "time_",  "time__", "tag",   "tag_", "log_b64",
                                        "log_b64_", "timely", "stag",   "_time", "_b64"};
    struct fixture *f = *state;

    begin(f, TF_COUNT(names) + 2);
    for (size_t i = 0; i < TF_COUNT(names); i++) {
        str(f, names[i]);
        msgpack_pack_nil(&f->packer);
    }
    str(f, "log");
    bin(f, "\xff");
    str(f, "inner");
    msgpack_pack_map(&f->packer, 1);
    str(f, "time");
    msgpack_pack_nil(&f->packer);
    assert_json(f, ",\"time_\":null,\"time__\":null,\"time___\":null,\"tag_\":null,\"tag__\":null,"
                   "\"log_b64_\":null,\"log_b64__\":null,\"timely\":null,\"stag\":null,"
                   "\"_time\":null,\"_b64_\":null,\"log_b64\":\"/w==\","
                   "\"inner\":{\"time\":null}}\n");
}

static void the_tag_is_escaped_too(void **state)
{
    struct fixture *f = *state;
    size_t used;

    begin(f, 0);
    assert_int_equal(tf_event_print_json(event_of(f), tf_slice("a\"\n\xff", 4), &f->out, &used), 0);
    assert_true(is_line_of_json(tf_buf_slice(&f->out)));
    assert_memory_equal(f->out.data + 40, ",\"tag\":\"a\\\"\\n\xef\xbf\xbd\"}\n", 18);
}

/* ---- hostile bytes ------------------------------------------------------------------------------
 */

/* Copies the bytes into memory of their own, so that a read past their end is seen. */
static int print_bytes(struct fixture *f, print_fn *how, const char *data, size_t size)
{
    char *copy = malloc(size + (size == 0));
    size_t used = 99, size_before;
    int rc;

    assert_non_null(copy);
    memcpy(copy, data, size);
    tf_buf_clear(&f->out);
    assert_int_equal(tf_buf_append_text(&f->out, "before"), 0);
    size_before = f->out.size;
    rc = how(tf_slice(copy, size), tf_slice_text("t"), &f->out, &used);
    if (rc < 0) {
        assert_int_equal(f->out.size, size_before);
        assert_int_equal(f->out.error, 0);
        assert_int_equal(used, 99);
    }
    free(copy);
    return rc;
}

static void what_is_no_event_is_refused(void **state)
{
#define BYTES(text)                                                                                \
    {                                                                                              \
        text, sizeof(text) - 1                                                                     \
    }
    static const struct {
        const char *data;
        size_t size;
    } bad[] = {
        BYTES(""),
        BYTES("\x80"),
        BYTES("\x93\xd7\x00\x69\x22\xde\xe8\x00\x00\x00\x00\x80\xc0"), /* three items */
        BYTES("\x92\x05\x80"),                                         /* seconds, not EventTime */
        BYTES("\x92\xd7\x01\x69\x22\xde\xe8\x00\x00\x00\x00\x80"),     /* another ext type */
        BYTES("\x92\xd7\x00\x69\x22\xde\xe8\xff\x00\x00\x00\x80"), /* nanoseconds past a second */
        BYTES("\x92\xc7\x09\x00\x69\x22\xde\xe8\x00\x00\x00\x00\x00\x80"),
        BYTES(EVENT "\x90"),                  /* no map */
        BYTES(EVENT "\x81\x01\x02"),          /* a key that is no text */
        BYTES(EVENT "\x81\xc4\x01k\x02"),     /* the same */
        BYTES(EVENT "\x81\xa1k"),             /* no value */
        BYTES(EVENT "\x81\xa1k\xc1"),         /* no such lead */
        BYTES(EVENT "\x81\xa1k\xd4\x05\x00"), /* an ext */
        BYTES(EVENT "\x81\xa1k\xdb\xff\xff\xff\xff"),
        BYTES(EVENT "\x81\xa1k\xdd\xff\xff\xff\xff"),
        BYTES(EVENT "\x81\xa1k\xdf\xff\xff\xff\xff"),
        BYTES(EVENT "\xdf\xff\xff\xff\xff"),
        BYTES(EVENT "\x81\xa1k\x82\xa1k\x01\x01\x01"), /* no text as a key further in */
        BYTES(EVENT "\x81\xa1k\x92\x01\xc1"),
        BYTES(EVENT "\x81\xaakubernetes\x81\x01\x01"),
    };
    struct fixture *f = *state;

    for (size_t i = 0; i < TF_COUNT(bad); i++) {
        assert_int_equal(print_bytes(f, tf_event_print_json, bad[i].data, bad[i].size), -EPROTO);
        assert_int_equal(print_bytes(f, tf_event_print_text, bad[i].data, bad[i].size), -EPROTO);
    }
}

static void nesting_ends_at_its_bound(void **state)
{
    struct fixture *f = *state;

    for (unsigned depth = TF_BATCH_DEPTH_MAX - 1; depth <= TF_BATCH_DEPTH_MAX + 1; depth++) {
        begin(f, 1);
        str(f, "k");
        for (unsigned i = 2; i < depth; i++) { /* the array and the map are two */
            msgpack_pack_array(&f->packer, 1);
        }
        msgpack_pack_nil(&f->packer);
        assert_int_equal(print_bytes(f, tf_event_print_json, f->event.data, f->event.size),
                         depth <= TF_BATCH_DEPTH_MAX ? 0 : -EPROTO);
        assert_int_equal(print_bytes(f, tf_event_print_text, f->event.data, f->event.size),
                         depth <= TF_BATCH_DEPTH_MAX ? 0 : -EPROTO);
    }
}

static void pack_rich_event(struct fixture *f)
{
    begin(f, 5);
    str(f, "kubernetes");
    msgpack_pack_map(&f->packer, 4);
    str(f, "namespace_name");
    str(f, "shop");
    str(f, "pod_name");
    str(f, "pay-0");
    str(f, "container_name");
    str(f, "app");
    str(f, "restart_count");
    msgpack_pack_int(&f->packer, 2);
    str(f, "stream");
    str(f, "stderr");
    str(f, "list");
    msgpack_pack_array(&f->packer, 2);
    msgpack_pack_double(&f->packer, 0.25);
    msgpack_pack_map(&f->packer, 1);
    str(f, "a");
    msgpack_pack_uint64(&f->packer, 70000);
    str(f, "log");
    str(f, "charge failed");
    str(f, "last");
    msgpack_pack_nil(&f->packer);
}

static void cut_events_are_refused_at_every_byte(void **state)
{
    struct fixture *f = *state;

    pack_rich_event(f);
    for (size_t size = 0; size < f->event.size; size++) {
        assert_int_equal(print_bytes(f, tf_event_print_json, f->event.data, size), -EPROTO);
        assert_int_equal(print_bytes(f, tf_event_print_text, f->event.data, size), -EPROTO);
    }
    assert_int_equal(print_bytes(f, tf_event_print_json, f->event.data, f->event.size), 0);
}

static void changed_bytes_never_make_unsound_json(void **state)
{
    struct fixture *f = *state;

    pack_rich_event(f);
    for (size_t at = 0; at < f->event.size; at++) {
        char before = f->event.data[at];

        for (unsigned byte = 0; byte < 256; byte += 3) {
            f->event.data[at] = (char)byte;
            (void)print_bytes(f, tf_event_print_text, f->event.data, f->event.size);
            if (print_bytes(f, tf_event_print_json, f->event.data, f->event.size) == 0) {
                struct json in = {
                    .at = f->out.data + 6, .end = f->out.data + f->out.size, .may_double = true};

                assert_true(read_value(&in, 0) && take(&in, '\n') && in.at == in.end);
            }
        }
        f->event.data[at] = before;
    }
}

static void a_full_buffer_is_as_before(void **state)
{
    struct fixture *f = *state;
    struct tf_buf small;
    size_t used = 99;

    pack_rich_event(f);
    for (size_t limit = 0; limit < 60; limit++) {
        tf_buf_init(&small, limit);
        assert_int_equal(tf_event_print_json(event_of(f), tf_slice_text("t"), &small, &used),
                         -EMSGSIZE);
        assert_int_equal(small.size, 0);
        assert_int_equal(small.error, 0);
        if (limit < 40) {
            assert_int_equal(tf_event_print_text(event_of(f), tf_slice_text("t"), &small, &used),
                             -EMSGSIZE);
        }
        small.error = -ENOMEM; /* an earlier error sticks */
        assert_int_equal(tf_event_print_json(event_of(f), tf_slice_text("t"), &small, &used),
                         -ENOMEM);
        assert_int_equal(tf_event_print_text(event_of(f), tf_slice_text("t"), &small, &used),
                         -ENOMEM);
        tf_buf_fini(&small);
    }
    assert_int_equal(used, 99);
}

/* ---- for eyes -----------------------------------------------------------------------------------
 */

static void eyes_see_time_source_stream_and_text(void **state)
{
    struct fixture *f = *state;

    pack_rich_event(f);
    assert_string_equal(print(f, tf_event_print_text),
                        "10:15:04.120 shop/pay-0/app      err  charge failed\n");
    begin(f, 3);
    str(f, "container_id");
    str(f, "0123456789abcdef");
    str(f, "stream");
    str(f, "stdout");
    str(f, "log");
    bin(f, "a\xff\x1b[2J");
    assert_string_equal(print(f, tf_event_print_text),
                        "10:15:04.120 0123456789ab        out  a\\xff\\x1b[2J\n");
    begin(f, 2);
    str(f, "container_name");
    str(f, "web-with-a-name-that-is-long");
    str(f, "message");
    str(f, "not from here");
    assert_string_equal(print(f, tf_event_print_text),
                        "10:15:04.120 web-with-a-name-that-is-long  -    not from here\n");
}

static void eyes_see_the_record_when_it_has_no_text(void **state)
{
    struct fixture *f = *state;

    begin(f, 2);
    str(f, "event");
    str(f, "go\x1b \xe2\x80\xae");
    str(f, "n");
    msgpack_pack_int(&f->packer, 7);
    assert_string_equal(
        print(f, tf_event_print_text),
        "10:15:04.120 container           -    {\"event\":\"go\\u001b \\u202e\",\"n\":7}\n");
}

static void nothing_moves_the_cursor(void **state)
{
    struct fixture *f = *state;

    begin(f, 1);
    str(f, "log");
    str(f,
        "\n\r\t\x07\x7f\xc2\x9b\xe2\x80\x8f\xe2\x81\xa6\xd8\x9c gr\xc3\xbcn\xf0\x9f\x98\x80\xed");
    assert_string_equal(print(f, tf_event_print_text),
                        "10:15:04.120 container           -    "
                        "\\n\\r\\t\\x07\\x7f\\u009b\\u200f\\u2066\\u061c gr\xc3\xbcn"
                        "\xf0\x9f\x98\x80\\xed\n");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(time_and_tag_come_first),
        TEST(every_type_has_its_json),
        TEST(integers_are_exact_at_every_width),
        TEST(floats_read_back_and_what_is_no_number_is_text),
        TEST(what_is_not_utf8_is_base64),
        TEST(controls_and_quotes_are_escaped),
        TEST(every_byte_at_every_place_makes_sound_json),
        TEST(names_that_look_like_ours_are_told_apart),
        TEST(the_tag_is_escaped_too),
        TEST(what_is_no_event_is_refused),
        TEST(nesting_ends_at_its_bound),
        TEST(cut_events_are_refused_at_every_byte),
        TEST(changed_bytes_never_make_unsound_json),
        TEST(a_full_buffer_is_as_before),
        TEST(eyes_see_time_source_stream_and_text),
        TEST(eyes_see_the_record_when_it_has_no_text),
        TEST(nothing_moves_the_cursor),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
