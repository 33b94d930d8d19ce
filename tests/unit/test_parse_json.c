/* test_parse_json.c - bodies that are JSON objects, and all that stays text. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "../../filters/parse_json/parse_json.h"
#include "taffrail/event.h"
#include "taffrail/filter.h"

#define TIME_NS    INT64_C(1700000000000000007) /* of a record, as its runtime tells */
#define TIME_TEXT  "2023-11-14T22:13:20.000000007Z"
#define LINE_BYTES 4096u

struct fixture {
    struct tf_parse_json_options options;
    void *self, *scratch;
    struct tf_batch batch;
    struct tf_buf json; /* what was printed last */
};

static void open_filter(struct fixture *f, uint64_t max_depth, uint64_t max_keys)
{
    struct tf_filter_args args = {.name = "parse_json", .options = &f->options};
    struct tf_error err;

    tf_filter_parse_json.scratch_free(f->scratch);
    tf_filter_parse_json.close(f->self);
    f->options = (struct tf_parse_json_options){
        .into.text = "fields", .max_depth = max_depth, .max_keys = max_keys};
    tf_error_init(&err);
    assert_int_equal(tf_filter_parse_json.open(&args, &f->self, &err), 0);
    tf_error_fini(&err);
    f->scratch = tf_filter_parse_json.scratch_new(f->self);
    assert_non_null(f->scratch);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);

    assert_non_null(f);
    *state = f;
    tf_buf_init(&f->json, 64u << 20);
    open_filter(f, 16, 256);
    return tf_batch_init(&f->batch);
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    tf_filter_parse_json.scratch_free(f->scratch);
    tf_filter_parse_json.close(f->self);
    tf_batch_fini(&f->batch);
    tf_buf_fini(&f->json);
    free(f);
    return 0;
}

static struct tf_record *add_record(struct fixture *f)
{
    struct tf_record *record = tf_batch_add_record(&f->batch, TIME_NS, TF_STREAM_STDOUT);

    assert_non_null(record);
    return record;
}

static void add_text(struct fixture *f, const char *key, const char *text)
{
    assert_int_equal(tf_batch_add_text_field(&f->batch, key, tf_slice_text(text)), 0);
}

static void apply(struct fixture *f)
{
    assert_int_equal(tf_filter_parse_json.apply(f->self, f->scratch, NULL, &f->batch), 0);
}

/* The batch's records as they are shipped, a line each. */
static const char *print(struct fixture *f)
{
    struct tf_events_summary summary;
    struct tf_buf events;
    size_t at = 0, used;

    tf_buf_init(&events, 64u << 20);
    tf_buf_clear(&f->json);
    assert_int_equal(tf_events_encode(&f->batch, NULL, &events, &summary), 0);
    while (at < events.size) {
        assert_int_equal(tf_event_print_json(tf_slice(events.data + at, events.size - at),
                                             tf_slice_text("t"), &f->json, &used),
                         0);
        at += used;
    }
    tf_buf_fini(&events);
    assert_int_equal(tf_buf_append_byte(&f->json, '\0'), 0);
    return f->json.data;
}

/* One body through the filter; f->batch has what came of it. */
static void parse(struct fixture *f, struct tf_slice body)
{
    assert_int_equal(tf_batch_reset(&f->batch), 0);
    (void)add_record(f);
    assert_int_equal(tf_batch_add_text_field(&f->batch, "log", body), 0);
    apply(f);
}

static bool is_parsed(struct fixture *f, struct tf_slice body)
{
    parse(f, body);
    return f->batch.records[0].first_field != 0;
}

/* A body becomes this record: its time, and the rest of it behind the tag. */
static void assert_becomes_at(struct fixture *f, const char *body, const char *time,
                              const char *rest)
{
    char wanted[LINE_BYTES];

    parse(f, tf_slice_text(body));
    (void)snprintf(wanted, sizeof wanted, "{\"time\":\"%s\",\"tag\":\"t\"%s%s}\n", time,
                   rest[0] != '\0' ? "," : "", rest);
    if (strcmp(print(f), wanted) != 0) {
        fail_msg("%s\nbecame %snot    %s", body, f->json.data, wanted);
    }
}

static void assert_becomes(struct fixture *f, const char *body, const char *rest)
{
    assert_becomes_at(f, body, TIME_TEXT, rest);
}

/* Nothing of the record, and of what stands in the arena, has changed. */
static void assert_stays(struct fixture *f, struct tf_slice body)
{
    struct tf_buf *arena = &f->batch.text;
    const struct tf_record *record = f->batch.records;
    const struct tf_field *field = f->batch.fields;
    size_t end;

    parse(f, body);
    record = f->batch.records;
    field = f->batch.fields;
    end = field->value.text.at + body.size + 1;
    if (record->first_field != 0) {
        fail_msg("%.*s\nis parsed", (int)body.size, body.data);
    }
    assert_int_equal(f->batch.record_count, 1);
    assert_int_equal(f->batch.field_count, 1);
    assert_int_equal(record->field_count, 1);
    assert_true(record->time_ns == TIME_NS);
    assert_int_equal(field->value.text.size, body.size);
    assert_memory_equal(arena->data + field->value.text.at, body.data, body.size);
    assert_true(arena->size == end || strncmp(arena->data + end, "fields\nseverity\n", 16) == 0);
    for (size_t i = 0; arena->size > end && i < body.size; i++) {
        assert_int_equal(arena->data[arena->size + i], 0); /* what was tried there is wiped */
    }
}

static void assert_text(struct fixture *f, const char *body)
{
    assert_stays(f, tf_slice_text(body));
}

/* ---- what becomes of a body ----------------------------------------------------------------- */

static void a_body_becomes_fields(void **state)
{
    struct fixture *f = *state;

    assert_becomes_at(f,
                      "{\"level\":\"error\",\"ts\":1764065704.12,\"msg\":\"charge failed\","
                      "\"order\":7,\"user\":{\"id\":\"u-3\"}}",
                      "2025-11-25T10:15:04.120000000Z",
                      "\"log\":\"charge failed\",\"severity\":\"error\","
                      "\"fields\":{\"order\":7,\"user\":{\"id\":\"u-3\"}}");
    assert_becomes(f, "{\"a\":1}", "\"fields\":{\"a\":1}");
    assert_becomes(f, " \t\r\n{ \"a\" :\t[ ] , \"b\" : { } } \r\n",
                   "\"fields\":{\"a\":[],\"b\":{}}");
    assert_becomes(f, "{\"a\":[1,[true,false,[null]],{\"b\":\"c\"}],\"d\":\"\",\"\":0}",
                   "\"fields\":{\"a\":[1,[true,false,[null]],{\"b\":\"c\"}],\"d\":\"\",\"\":0}");
    assert_becomes(f, "{\"a\":{\"x\":1},\"b\":{\"x\":2,\"a\":3},\"x\":[{\"x\":1},{\"x\":1}]}",
                   "\"fields\":{\"a\":{\"x\":1},\"b\":{\"x\":2,\"a\":3},\"x\":[{\"x\":1},{\"x\":1}"
                   "]}");
    assert_becomes(f, "{\"message\":\"only\"}", "\"log\":\"only\"");
    assert_becomes(f, "{\"message\":\"\"}", "\"log\":\"\"");
    assert_becomes(f, "{\"lvl\":\"INFO\"}", "\"severity\":\"info\"");
    assert_becomes_at(f, "{\"time\":1764065704}", "2025-11-25T10:15:04.000000000Z", "");
}

static void strings_are_undone(void **state)
{
    struct fixture *f = *state;

    assert_becomes(f, "{\"\\u0061\\n\":\"\\u00e9\\\"\\\\\\/\\b\\f\\n\\r\\t\"}",
                   "\"fields\":{\"a\\n\":\"é\\\"\\\\/\\b\\f\\n\\r\\t\"}");
    assert_becomes(f, "{\"a\":\"\\u0000x\",\"b\\u0000\":1}",
                   "\"fields\":{\"a\":\"\\u0000x\",\"b\\u0000\":1}");
    assert_becomes(f, "{\"a\":\"\\ud83d\\ude00\\ud83d.\"}",
                   "\"fields\":{\"a\":\"😀\xef\xbf\xbd.\"}");
    assert_becomes(f, "{\"m\\u0073g\":\"a key is known by what it reads\"}",
                   "\"log\":\"a key is known by what it reads\"");
}

static void other_fields_are_kept_in_order(void **state)
{
    struct fixture *f = *state;

    (void)add_record(f);
    add_text(f, "stream", "stderr");
    assert_int_equal(tf_batch_add_map_field(&f->batch, "pod", 2), 0);
    add_text(f, "log", "{\"not\":\"the record's\"}");
    assert_int_equal(tf_batch_add_int_field(&f->batch, "n", 5), 0);
    add_text(f, "log", "{\"msg\":\"m\",\"level\":30,\"x\":1}");
    add_text(f, "z", "{\"msg\":\"another field\"}");
    apply(f);
    assert_string_equal(print(f),
                        "{\"time\":\"" TIME_TEXT "\",\"tag\":\"t\",\"stream\":\"stderr\","
                        "\"pod\":{\"log\":\"{\\\"not\\\":\\\"the record's\\\"}\",\"n\":5},"
                        "\"log\":\"m\",\"z\":\"{\\\"msg\\\":\\\"another field\\\"}\","
                        "\"severity\":\"info\",\"fields\":{\"x\":1}}\n");
}

static void records_of_a_batch_do_not_touch_each_other(void **state)
{
    struct fixture *f = *state;
    static const char *const bodies[] = {"{\"msg\":\"a\",\"level\":\"warn\"}", "plain",
                                         "{\"msg\":\"broken\"", "{\"msg\":\"b\",\"k\":2}"};

    for (size_t i = 0; i < TF_COUNT(bodies); i++) {
        (void)add_record(f);
        add_text(f, "log", bodies[i]);
    }
    apply(f);
    assert_string_equal(
        print(f),
        "{\"time\":\"" TIME_TEXT "\",\"tag\":\"t\",\"log\":\"a\",\"severity\":\"warning\"}\n"
        "{\"time\":\"" TIME_TEXT "\",\"tag\":\"t\",\"log\":\"plain\"}\n"
        "{\"time\":\"" TIME_TEXT "\",\"tag\":\"t\",\"log\":\"{\\\"msg\\\":\\\"broken\\\"\"}\n"
        "{\"time\":\"" TIME_TEXT "\",\"tag\":\"t\",\"log\":\"b\",\"fields\":{\"k\":2}}\n");
}

/* ---- what is recognised --------------------------------------------------------------------- */

static void the_first_message_is_the_log(void **state)
{
    static const char *const names[] = {"message",       "msg",   "@m", "log",
                                        "short_message", "event", "@mt"};
    struct fixture *f = *state;
    char body[256], rest[256];

    for (size_t i = 0; i < TF_COUNT(names); i++) {
        (void)snprintf(body, sizeof body, "{\"%s\":\"m\",\"a\":1}", names[i]);
        assert_becomes(f, body, "\"log\":\"m\",\"fields\":{\"a\":1}");
        for (size_t j = i + 1; j < TF_COUNT(names); j++) { /* in whatever order they stand */
            (void)snprintf(body, sizeof body, "{\"%s\":\"no\",\"%s\":\"m\"}", names[j], names[i]);
            (void)snprintf(rest, sizeof rest, "\"log\":\"m\",\"fields\":{\"%s\":\"no\"}", names[j]);
            assert_becomes(f, body, rest);
            (void)snprintf(body, sizeof body, "{\"%s\":\"m\",\"%s\":\"no\"}", names[i], names[j]);
            assert_becomes(f, body, rest);
        }
    }
    assert_becomes(f, "{\"message\":{\"a\":1},\"msg\":5,\"event\":\"e\"}",
                   "\"log\":\"e\",\"fields\":{\"message\":{\"a\":1},\"msg\":5}");
    assert_becomes(f, "{\"message\":1e400}", "\"fields\":{\"message\":\"1e400\"}");
    assert_becomes(f, "{\"Message\":\"a\",\"message\":\"b\"}",
                   "\"log\":\"a\",\"fields\":{\"message\":\"b\"}");
    assert_becomes(f, "{\"messages\":\"a\",\"messag\":\"b\"}",
                   "\"fields\":{\"messages\":\"a\",\"messag\":\"b\"}");
    assert_becomes(f, "{\"a\":{\"message\":\"nested\"}}",
                   "\"fields\":{\"a\":{\"message\":\"nested\"}}");
}

static void levels_become_one_set(void **state)
{
    static const struct {
        const char *written, *level;
    } cases[] = {
        {"\"trace\"", "trace"},
        {"\"TRC\"", "trace"},
        {"\"silly\"", "trace"},
        {"\"finer\"", "trace"},
        {"\"FINEST\"", "trace"},
        {"10", "trace"},
        {"\"Debug\"", "debug"},
        {"\"dbg\"", "debug"},
        {"\"dbug\"", "debug"},
        {"\"verbose\"", "debug"},
        {"\"VRB\"", "debug"},
        {"\"FINE\"", "debug"},
        {"20", "debug"},
        {"\"info\"", "info"},
        {"\"INF\"", "info"},
        {"\"Information\"", "info"},
        {"\"informational\"", "info"},
        {"30", "info"},
        {"\"notice\"", "notice"},
        {"\"warning\"", "warning"},
        {"\"WARN\"", "warning"},
        {"\"wrn\"", "warning"},
        {"40", "warning"},
        {"\"error\"", "error"},
        {"\"ERR\"", "error"},
        {"\"eror\"", "error"},
        {"\"SEVERE\"", "error"},
        {"50", "error"},
        {"\"critical\"", "critical"},
        {"\"crit\"", "critical"},
        {"\"Fatal\"", "critical"},
        {"\"FTL\"", "critical"},
        {"\"panic\"", "critical"},
        {"\"PNC\"", "critical"},
        {"\"dpanic\"", "critical"},
        {"60", "critical"},
        {"\"alert\"", "alert"},
        {"\"emergency\"", "emergency"},
        {"\"emerg\"", "emergency"},
    };
    struct fixture *f = *state;
    char body[128], rest[128];

    for (size_t i = 0; i < TF_COUNT(cases); i++) {
        (void)snprintf(body, sizeof body, "{\"level\":%s}", cases[i].written);
        (void)snprintf(rest, sizeof rest, "\"severity\":\"%s\"", cases[i].level);
        assert_becomes(f, body, rest);
    }
}

static void other_levels_stay_in_fields(void **state)
{
    static const char *const others[] = {
        "3",    "0",    "-10",  "10.0", "70",         "35",         "100",   "\"30\"",
        "\"\"", "null", "true", "[30]", "\"warned\"", "\"INFO+2\"", "\"i\"", "{\"a\":30}",
    };
    struct fixture *f = *state;
    char body[128], rest[128];

    for (size_t i = 0; i < TF_COUNT(others); i++) {
        (void)snprintf(body, sizeof body, "{\"level\":%s,\"@l\":\"warn\"}", others[i]);
        (void)snprintf(rest, sizeof rest, "\"severity\":\"warning\",\"fields\":{\"level\":%s}",
                       others[i]);
        assert_becomes(f, body, rest);
    }
}

static void the_first_known_level_counts(void **state)
{
    static const char *const names[] = {"severity",   "level",    "log.level", "levelname",
                                        "level_name", "loglevel", "lvl",       "@l"};
    struct fixture *f = *state;
    char body[256], rest[256];

    for (size_t i = 0; i + 1 < TF_COUNT(names); i++) {
        (void)snprintf(body, sizeof body, "{\"%s\":\"info\",\"%s\":\"error\"}", names[i + 1],
                       names[i]);
        (void)snprintf(rest, sizeof rest, "\"severity\":\"error\",\"fields\":{\"%s\":\"info\"}",
                       names[i + 1]);
        assert_becomes(f, body, rest);
    }
    assert_becomes(f, "{\"level\":200,\"level_name\":\"INFO\",\"LogLevel\":\"x\"}",
                   "\"severity\":\"info\",\"fields\":{\"level\":200,\"LogLevel\":\"x\"}");
}

static void times_become_the_records(void **state)
{
    static const struct {
        const char *written, *time;
    } cases[] = {
        {"\"2025-11-25T10:15:04Z\"", "2025-11-25T10:15:04.000000000Z"},
        {"\"2025-11-25T10:15:04.123456789+02:00\"", "2025-11-25T08:15:04.123456789Z"},
        {"\"2025-11-25 10:15:04,12-0330\"", "2025-11-25T13:45:04.120000000Z"},
        {"\"2025-11-25t10:15:04+0000\"", "2025-11-25T10:15:04.000000000Z"},
        {"\"1970-01-01T00:00:00.000000001Z\"", "1970-01-01T00:00:00.000000001Z"},
        {"\"2106-02-07T06:28:15.999999999Z\"", "2106-02-07T06:28:15.999999999Z"},
        {"1000000000", "2001-09-09T01:46:40.000000000Z"},
        {"4294967295.999999999", "2106-02-07T06:28:15.999999999Z"},
        {"1764065704", "2025-11-25T10:15:04.000000000Z"},
        {"1764065704.5", "2025-11-25T10:15:04.500000000Z"},
        {"1764065704.000000001", "2025-11-25T10:15:04.000000001Z"},
        {"1764065704123", "2025-11-25T10:15:04.123000000Z"},
        {"1764065704123.25", "2025-11-25T10:15:04.123250000Z"},
        {"1764065704123456", "2025-11-25T10:15:04.123456000Z"},
        {"1764065704123456.789", "2025-11-25T10:15:04.123456789Z"},
        {"1764065704123456789", "2025-11-25T10:15:04.123456789Z"},
    };
    static const char *const names[] = {"time", "@timestamp", "timestamp", "ts",
                                        "@t",   "datetime",   "timeMillis"};
    struct fixture *f = *state;
    char body[256], rest[128];

    for (size_t i = 0; i < TF_COUNT(cases); i++) {
        (void)snprintf(body, sizeof body, "{\"ts\":%s}", cases[i].written);
        assert_becomes_at(f, body, cases[i].time, "");
    }
    for (size_t i = 0; i + 1 < TF_COUNT(names); i++) {
        (void)snprintf(body, sizeof body, "{\"%s\":1700000001,\"%s\":1764065704}", names[i + 1],
                       names[i]);
        (void)snprintf(rest, sizeof rest, "\"fields\":{\"%s\":1700000001}", names[i + 1]);
        assert_becomes_at(f, body, "2025-11-25T10:15:04.000000000Z", rest);
    }
}

static void other_times_stay_in_fields(void **state)
{
    static const char *const others[] = {
        "\"2025-11-25T10:15:04\"",
        "\"2025-11-25 10:15:04,123\"",
        "\"2025-11-25\"",
        "\"25/Nov/2025:10:15:04 +0000\"",
        "\"1969-12-31T23:59:59Z\"",
        "\"1970-01-01T00:00:00Z\"",
        "\"2106-02-07T06:28:16Z\"",
        "\"0001-01-01T00:00:00Z\"",
        "\"2025-11-25T10:15:04.1234567891Z\"",
        "\"2025-11-25T10:15:04.12345678901234567890123Z\"",
        "\"2025-11-25T10:15:04 +0200\"",
        "\"1764065704\"",
        "12",
        "999999999",
        "4294967296",
        "17640657041",
        "176406570412",
        "12.5",
        "-1764065704",
        "0",
        "9999999999999999999",
        "true",
        "{\"seconds\":1764065704}",
        "4294967296000000000",
    };
    struct fixture *f = *state;
    char body[256], rest[256];

    for (size_t i = 0; i < TF_COUNT(others); i++) {
        (void)snprintf(body, sizeof body, "{\"time\":%s}", others[i]);
        (void)snprintf(rest, sizeof rest, "\"fields\":{\"time\":%s}", others[i]);
        assert_becomes(f, body, rest);
    }
    assert_becomes(f, "{\"time\":1.764065704e9}", "\"fields\":{\"time\":1764065704.0}");
    assert_becomes(f, "{\"time\":1764065704.1234567891}",
                   "\"fields\":{\"time\":\"1764065704.1234567891\"}");
    assert_becomes_at(f, "{\"time\":12.5,\"ts\":1764065704}", "2025-11-25T10:15:04.000000000Z",
                      "\"fields\":{\"time\":12.5}");
}

/* ---- numbers -------------------------------------------------------------------------------- */

static void numbers_are_kept_as_they_are(void **state)
{
    static const struct {
        const char *written, *printed;
    } cases[] = {
        {"0", "0"},
        {"-1", "-1"},
        {"9223372036854775807", "9223372036854775807"},
        {"9223372036854775808", "9223372036854775808"},
        {"18446744073709551615", "18446744073709551615"},
        {"18446744073709551616", "\"18446744073709551616\""},
        {"-9223372036854775808", "-9223372036854775808"},
        {"-9223372036854775809", "\"-9223372036854775809\""},
        {"100000000000000000000", "1e+20"},
        {"-0", "\"-0\""},
        {"-0.0", "\"-0.0\""},
        {"0.0", "0.0"},
        {"0e5", "0.0"},
        {"0.5", "0.5"},
        {"-1.25e2", "-125.0"},
        {"1E+2", "100.0"},
        {"1e-7", "1e-07"},
        {"123456789012345.6", "123456789012345.6"},
        {"0.1", "0.1"},
        {"0.10000000000000000000000", "0.1"},
        {"0.30000000000000004", "0.30000000000000004"},
        {"0.10000000000000001", "\"0.10000000000000001\""},
        {"9007199254740993.0", "\"9007199254740993.0\""},
        {"1.7976931348623157e308", "1.7976931348623157e+308"},
        {"3.14159265358979323846", "\"3.14159265358979323846\""},
        {"1e400", "\"1e400\""},
        {"-1e400", "\"-1e400\""},
        {"1e-400", "\"1e-400\""},
        {"5e-324", "\"5e-324\""},
        {"1e99999999999999999999", "\"1e99999999999999999999\""},
        {"1e-99999999999999999999", "\"1e-99999999999999999999\""},
    };
    struct fixture *f = *state;
    char body[128], rest[128];

    for (size_t i = 0; i < TF_COUNT(cases); i++) {
        (void)snprintf(body, sizeof body, "{\"n\":[%s]}", cases[i].written);
        (void)snprintf(rest, sizeof rest, "\"fields\":{\"n\":[%s]}", cases[i].printed);
        assert_becomes(f, body, rest);
    }
}

/* Whatever a double prints as is that double again, and no digits of a decimal are lost. */
static void doubles_read_back(void **state)
{
    struct fixture *f = *state;
    uint64_t bits = 1;

    for (unsigned i = 0; i < 20000; i++) {
        char body[64];
        double value;
        int digits = 15;

        bits = bits * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        memcpy(&value, &bits, sizeof value);
        if (value != value || value - value != 0 || (value < 1e-300 && value > -1e-300)) {
            continue;
        }
        do { /* the shortest form */
            (void)snprintf(body, sizeof body, "{\"n\":%.*e}", digits - 1, value);
        } while (strtod(body + 5, NULL) != value && ++digits <= 17);
        parse(f, tf_slice_text(body));
        assert_int_equal(f->batch.fields[2].type, TF_VALUE_DOUBLE);
        assert_true(f->batch.fields[2].value.d == value);
    }
}

static void a_number_of_a_megabyte_is_bounded(void **state)
{
    struct fixture *f = *state;
    size_t size = TF_PARSE_JSON_BODY_MAX;
    char *body = malloc(size);

    assert_non_null(body);
    memset(body, '0', size); /* 0.000…0001e1048560 is 1 */
    memcpy(body, "{\"n\":0.", 7);
    memcpy(body + size - 10, "1e1048560}", 10);
    parse(f, tf_slice(body, size));
    assert_int_equal(f->batch.fields[2].type, TF_VALUE_DOUBLE);
    assert_true(f->batch.fields[2].value.d == 1.0);
    memset(body + 7, '9', size - 8);
    body[size - 1] = '}';
    parse(f, tf_slice(body, size));
    assert_int_equal(f->batch.fields[2].type, TF_VALUE_TEXT);
    assert_int_equal(f->batch.fields[2].value.text.size, size - 6);
    free(body);
}

/* ---- what stays text ------------------------------------------------------------------------ */

static void what_is_no_object_stays(void **state)
{
    static const char *const texts[] = {
        "",
        " ",
        "plain",
        "[1]",
        "\"a\"",
        "{",
        "{}",
        "{ }",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1",
        "{\"a\":1,}",
        "{\"a\":1,,\"b\":2}",
        "{,\"a\":1}",
        "{\"a\" 1}",
        "{\"a\":1}}",
        "{\"a\":1} x",
        "{\"a\":1}{\"a\":1}",
        "{a:1}",
        "{'a':1}",
        "{1:1}",
        "{\"a\":[1,]}",
        "{\"a\":[,1]}",
        "{\"a\":[1 2]}",
        "{\"a\":[1}",
        "{\"a\":[1}]",
        "{\"a\":{\"b\":1]}",
        "{\"a\":tru}",
        "{\"a\":True}",
        "{\"a\":nul",
        "{\"a\":falsey}",
        "{\"a\":NaN}",
        "{\"a\":Infinity}",
        "{\"a\":-}",
        "{\"a\":+1}",
        "{\"a\":.5}",
        "{\"a\":1.}",
        "{\"a\":1.e5}",
        "{\"a\":1e}",
        "{\"a\":1e+}",
        "{\"a\":01}",
        "{\"a\":-01}",
        "{\"a\":0x1}",
        "{\"a\":1a}",
        "{\"a\":\"x}",
        "{\"a\":\"\\x\"}",
        "{\"a\":\"\\u12\"}",
        "{\"a\":\"tab\tin it\"}",
        "{\"a\":\"line\nin it\"}",
        "{\"a\nb\":1}",
        "{\"a\":1 /* comment */}",
        "\xef\xbb\xbf{\"a\":1}",
        "\v{\"a\":1}",
        "{\"a\":\"\xff\"}",
        "{\"a\xc3\":1}",
        "{\"a\":1}\xff",
        "{\"a\":1,\"a\":1}",
        "{\"a\":1,\"b\":2,\"\\u0061\":3}",
        "{\"a\":{\"b\":1,\"b\":{}}}",
        "{\"\":1,\"\":1}",
        "{\"\\ud800\":1,\"\\ud801\":1}",
        "{\"a key of more than sixteen\":1,\"a key of more than sixteen\":2}",
    };
    struct fixture *f = *state;

    for (size_t i = 0; i < TF_COUNT(texts); i++) {
        assert_text(f, texts[i]);
    }
    assert_stays(f, tf_slice("{\"a\":1}\0", 8));
    assert_stays(f, tf_slice("{\"a\":\"\0\"}", 9));
    assert_stays(f, tf_slice("\0{\"a\":1}", 8));
}

/* Cut anywhere, in memory of its very size, so that a read past its end is seen. */
static void a_body_cut_anywhere_stays(void **state)
{
    static const char body[] = "{\"msg\":\"a\\u00e9\\ud83d\\ude00\",\"n\":[-1.5e+3,true,null,{}],"
                               "\"long enough for a step of the scan\":{\"k\":\"v\"}, \"z\":false}";
    const struct tf_parse_json_limits limits = {.depth = 14, .keys = 256, .fields = 768};
    struct tf_parse_json_body *read = calloc(1, sizeof *read);
    struct tf_buf arena;

    (void)state;
    assert_non_null(read);
    tf_buf_init(&arena, 1024);
    for (size_t size = 0; size < sizeof body; size++) {
        char *copy = malloc(size + (size == 0));
        int64_t written;

        assert_non_null(copy);
        memcpy(copy, body, size);
        assert_int_equal(tf_buf_reserve(&arena, size), 0);
        written = tf_parse_json_read(tf_slice(copy, size), &limits, &arena, read);
        assert_true(size == sizeof body - 1 ? written > 0 : written == -1);
        free(copy);
    }
    tf_buf_fini(&arena);
    free(read);
}

/* A body of `depth` levels, by turns of objects and arrays. */
static struct tf_slice nested(char *to, unsigned depth)
{
    size_t size = 0;

    for (unsigned i = 0; i < depth; i++) {
        size += (size_t)sprintf(to + size, "%s", i % 2 == 0 ? "{\"a\":" : "[");
    }
    to[size++] = '1';
    for (unsigned i = depth; i > 0; i--) {
        to[size++] = i % 2 == 1 ? '}' : ']';
    }
    return tf_slice(to, size);
}

static void depth_is_bounded(void **state)
{
    struct fixture *f = *state;
    char *body = malloc(1u << 20);

    assert_non_null(body);
    assert_true(is_parsed(f, nested(body, 14)));
    assert_non_null(strstr(print(f), "{\"a\":[{\"a\":[1]}]}")); /* so deep can be printed */
    assert_stays(f, nested(body, 15));
    assert_stays(f, nested(body, 100000));
    memset(body, '[', 1u << 20);
    memcpy(body, "{\"a\":", 5);
    assert_stays(f, tf_slice(body, 1u << 20));
    open_filter(f, 3, 256);
    assert_becomes(f, "{\"a\":1}", "\"fields\":{\"a\":1}");
    assert_text(f, "{\"a\":[]}");
    open_filter(f, 5, 256);
    assert_true(is_parsed(f, nested(body, 3)));
    assert_stays(f, nested(body, 4));
    free(body);
}

/* `count` keys, half of them nested. */
static struct tf_slice many_keys(char *to, unsigned count)
{
    size_t size = (size_t)sprintf(to, "{\"k\":{\"n\":0");

    for (unsigned i = 2; i < count; i++) {
        size += (size_t)sprintf(to + size, "%s,\"k%u\":%u", i == count / 2 ? "}" : "", i, i);
    }
    to[size++] = '}';
    return tf_slice(to, size);
}

static void keys_are_bounded(void **state)
{
    struct fixture *f = *state;
    char body[16384], key[TF_PARSE_JSON_KEY_MAX + 2];

    assert_true(is_parsed(f, many_keys(body, 256)));
    assert_stays(f, many_keys(body, 257));
    open_filter(f, 16, 1);
    assert_becomes(f, "{\"msg\":\"m\"}", "\"log\":\"m\"");
    assert_text(f, "{\"msg\":\"m\",\"a\":1}");
    open_filter(f, 16, 768);
    assert_true(is_parsed(f, many_keys(body, 766))); /* with `fields` and what was there: 768 */
    assert_stays(f, many_keys(body, 767));
    memset(key, 'k', sizeof key);
    (void)snprintf(body, sizeof body, "{\"%.*s\":1}", (int)TF_PARSE_JSON_KEY_MAX, key);
    assert_true(is_parsed(f, tf_slice_text(body)));
    (void)snprintf(body, sizeof body, "{\"%.*s\":1}", (int)TF_PARSE_JSON_KEY_MAX + 1, key);
    assert_text(f, body);
}

/* A key that stands twice is found among many, the last one too, and in a map that was gone on
 * with. */
static void a_key_twice_is_found_among_many(void **state)
{
    struct fixture *f = *state;
    char body[16384];

    for (unsigned i = 128; i < 255; i++) {
        struct tf_slice text = many_keys(body, 255);

        (void)sprintf(body + text.size - 1, ",\"k%u\":1}", i);
        assert_text(f, body);
    }
    assert_text(f, "{\"a\":1,\"m\":{\"a\":1,\"n\":{\"a\":1},\"b\":2},\"b\":2,\"a\":3}");
    assert_true(is_parsed(f, tf_slice_text("{\"a\":1,\"m\":{\"a\":1,\"n\":{\"a\":1},\"b\":2},"
                                           "\"b\":2}")));
}

static void items_and_size_are_bounded(void **state)
{
    struct fixture *f = *state;
    size_t size = TF_PARSE_JSON_BODY_MAX;
    char *body = malloc(size + 1);

    assert_non_null(body);
    (void)sprintf(body, "{\"a\":[");
    for (unsigned i = 0; i < 766; i++) {
        (void)sprintf(body + 6 + (size_t)i * 2, "1,");
    }
    (void)sprintf(body + 6 + 765 * 2 - 1, "]}"); /* 765 items, `a`, `fields`, and `log` before */
    assert_true(is_parsed(f, tf_slice_text(body)));
    (void)sprintf(body + 6 + 765 * 2 - 1, ",1]}");
    assert_text(f, body);
    memset(body, ' ', size + 1);
    memcpy(body, "{\"a\":1}", 7);
    assert_true(is_parsed(f, tf_slice(body, size)));
    assert_stays(f, tf_slice(body, size + 1));
    free(body);
}

/* ---- records that are left alone ------------------------------------------------------------ */

static void assert_left_alone(struct fixture *f)
{
    uint32_t first = f->batch.records[0].first_field, count = f->batch.field_count;

    apply(f);
    assert_int_equal(f->batch.records[0].first_field, first);
    assert_int_equal(f->batch.field_count, count);
    assert_int_equal(tf_batch_reset(&f->batch), 0);
}

static void spoiled_records_are_left_alone(void **state)
{
    static const uint8_t flags[] = {TF_RECORD_DROPPED, TF_RECORD_TRUNCATED, TF_RECORD_MALFORMED,
                                    TF_RECORD_DROPPED | TF_RECORD_JOINED};
    static const char *const marks[] = {"truncated", "malformed"};
    struct fixture *f = *state;

    for (size_t i = 0; i < TF_COUNT(flags); i++) {
        add_record(f)->flags = flags[i];
        add_text(f, "log", "{\"a\":1}");
        assert_left_alone(f);
    }
    for (size_t i = 0; i < TF_COUNT(marks); i++) { /* as a sender has written them */
        (void)add_record(f);
        add_text(f, "log", "{\"a\":1}");
        assert_int_equal(tf_batch_add_map_field(&f->batch, "taffrail", 2), 0);
        assert_int_equal(tf_batch_add_int_field(&f->batch, "other", 1), 0);
        assert_int_equal(tf_batch_add_int_field(&f->batch, marks[i], 5000), 0);
        assert_left_alone(f);
    }
    (void)add_record(f);
    add_text(f, "taffrail", "no marks, a sender's own text");
    add_text(f, "log", "{\"a\":1}");
    apply(f);
    assert_int_not_equal(f->batch.records[0].first_field, 0);
}

static void unfinished_and_marked_records_are_parsed(void **state)
{
    struct fixture *f = *state;

    add_record(f)->flags = TF_RECORD_UNFINISHED;
    add_text(f, "log", "{\"a\":1}");
    assert_int_equal(tf_batch_add_map_field(&f->batch, "taffrail", 1), 0);
    assert_int_equal(tf_batch_add_int_field(&f->batch, "redacted", 1), 0);
    apply(f);
    assert_non_null(strstr(print(f), "\"fields\":{\"a\":1}"));
    assert_non_null(strstr(f->json.data, "\"unfinished\":true"));
    assert_non_null(strstr(f->json.data, "\"redacted\":1"));
}

static void what_is_there_is_not_replaced(void **state)
{
    struct fixture *f = *state;

    (void)add_record(f);
    add_text(f, "log", "{\"a\":1}");
    add_text(f, "fields", "here already");
    assert_left_alone(f);
    (void)add_record(f);
    assert_int_equal(tf_batch_add_int_field(&f->batch, "log", 5), 0); /* no text */
    assert_left_alone(f);
    (void)add_record(f);
    add_text(f, "log", "{\"a\":1}");
    f->batch.fields[0].type = TF_VALUE_BYTES;
    assert_left_alone(f);
    (void)add_record(f);
    add_text(f, "message", "{\"a\":1}"); /* no `log` */
    assert_left_alone(f);
    (void)add_record(f);
    assert_left_alone(f);
    (void)add_record(f);
    add_text(f, "log", "{\"level\":\"info\",\"a\":1}");
    add_text(f, "severity", "warning");
    apply(f);
    assert_string_equal(print(f),
                        "{\"time\":\"" TIME_TEXT "\",\"tag\":\"t\",\"severity\":\"warning\","
                        "\"fields\":{\"level\":\"info\",\"a\":1}}\n");
}

static void a_wide_record_is_left_alone(void **state)
{
    struct fixture *f = *state;

    (void)add_record(f);
    add_text(f, "log", "{\"a\":1}");
    for (unsigned i = 1; i < TF_PARSE_JSON_FIELDS_MAX - 2; i++) {
        assert_int_equal(tf_batch_add_int_field(&f->batch, "n", i), 0);
    }
    apply(f);
    assert_int_not_equal(f->batch.records[0].first_field, 0); /* 768 and its `log`, which went */
    assert_int_equal(tf_batch_reset(&f->batch), 0);
    for (unsigned more = 1; more <= 2; more++) {
        (void)add_record(f);
        add_text(f, "log", "{\"a\":1}");
        for (unsigned i = 1; i < TF_PARSE_JSON_FIELDS_MAX - 2 + more; i++) {
            assert_int_equal(tf_batch_add_int_field(&f->batch, "n", i), 0);
        }
        assert_left_alone(f);
    }
}

/* ---- a batch that is nearly full ------------------------------------------------------------ */

static void a_batch_grows_up_to_its_bound(void **state)
{
    struct fixture *f = *state;
    const size_t bound = TF_BATCH_TEXT_MAX / 4 * 3, filler_bytes = bound - 10000;
    char *filler = calloc(1, filler_bytes);
    uint32_t at, parsed = 0;

    assert_non_null(filler);
    assert_int_equal(tf_batch_add_text(&f->batch, filler, filler_bytes, &at), 0);
    free(filler);
    for (unsigned i = 0; i < 200; i++) {
        (void)add_record(f);
        add_text(f, "log", "{\"msg\":\"a message\",\"k\":\"v\"}");
    }
    assert_true(f->batch.text.size < bound);
    apply(f);
    assert_in_range(f->batch.text.size, bound - 64, bound);
    for (unsigned i = 0; i < 200; i++) {
        parsed += f->batch.records[i].first_field != i ? 1 : 0;
    }
    assert_in_range(parsed, 50, 199);
    assert_non_null(strstr(print(f), "\"log\":\"a message\",\"fields\":{\"k\":\"v\"}}\n"));
    assert_non_null(strstr(f->json.data, "\"log\":\"{\\\"msg\\\":"));
}

static void memory_that_is_not_there_keeps_texts(void **state)
{
    struct fixture *f = *state;

    (void)add_record(f);
    add_text(f, "log", "{\"a\":1}");
    f->batch.text.limit_bytes = f->batch.text.size + 8;
    apply(f);
    assert_int_equal(f->batch.records[0].first_field, 0);
    assert_int_equal(f->batch.text.error, 0);
    f->batch.text.limit_bytes = TF_BATCH_TEXT_MAX;
    apply(f);
    assert_int_not_equal(f->batch.records[0].first_field, 0);
}

/* Wherever the fields end, the record is whole: as it was, or as it becomes. */
static void full_fields_keep_texts(void **state)
{
    struct fixture *f = *state;
    static const char body[] = "{\"msg\":\"m\",\"level\":\"info\",\"a\":{\"b\":1}}";

    for (unsigned left = 0; left <= 6; left++) {
        struct tf_field filler = {.type = TF_VALUE_NIL};

        assert_int_equal(tf_batch_reset(&f->batch), 0);
        (void)add_record(f);
        add_text(f, "log", body);
        add_text(f, "z", "z");
        while (f->batch.field_count < TF_BATCH_FIELDS_MAX - left) {
            assert_non_null(tf_batch_append_field(&f->batch, &filler));
        }
        apply(f);
        if (left < 6) {
            assert_int_equal(f->batch.records[0].first_field, 0);
            assert_int_equal(f->batch.field_count, TF_BATCH_FIELDS_MAX - left);
            assert_non_null(strstr(print(f), "\"log\":\"{\\\"msg\\\""));
        } else {
            assert_non_null(strstr(print(f), "\"log\":\"m\",\"z\":\"z\",\"severity\":\"info\","
                                             "\"fields\":{\"a\":{\"b\":1}}"));
        }
    }
}

/* ---- with redaction ------------------------------------------------------------------------- */

static void redaction_sees_keys_and_values(void **state)
{
    static const char secret[] = "ghp_0123456789abcdefghijABCDEFGHIJ456789";
    static const struct {
        const char *body, *hidden, *shown;
    } cases[] = {
        {"{\"user\":{\"name\":\"bob\",\"password\":\"hunter22\"}}", "hunter22",
         "\"fields\":{\"user\":{\"name\":\"bob\",\"password\":\"[REDACTED:"},
        {"{\"a\":[{\"db\":{\"pass\\u0077ord\":\"hunter22\"}}]}", "hunter22", "[REDACTED:"},
        {"{\"a\":{\"b\":[\"x ghp_0123456789abcdefghijABCDEFGHIJ456789 y\"]}}", secret,
         "\"x [REDACTED:"},
        {"{\"a\":{\"ghp_0123456789abcdefghijABCDEFGHIJ456789\":1}}", secret, "{\"[REDACTED:"},
        {"{\"msg\":\"token \\u0067hp_0123456789abcdefghijABCDEFGHIJ456789\"}", secret,
         "\"log\":\"token [REDACTED:"},
        {"{\"db.pwd\":\"rwciGeipUxft\"}", "rwciGe", "\"db.pwd\":\"[REDACTED:"},
        {"{\"cfg\":{\"userPass\":\"Tiger2024\"}}", "Tiger", "\"userPass\":\"[REDACTED:"},
        {"{\"pass\":\"ge\\\"heim12\",\"next\":1}", "heim", "\"pass\":\"[REDACTED:"},
        {"{\"SECRET_KEY_BASE\":\"db42b4f7d50dfffd6eacc3e9bcaf60b9ae5dee099d36e5a4\"}", "db42",
         "\"SECRET_KEY_BASE\":\"[REDACTED:"},
        {"{\"api_key\":1234567890}", "1234567890", "\"api_key\":\"[REDACTED:"},
        {"{\"password\":12345678901234567890123}", "123456", "\"password\":\"[REDACTED:"},
    };
    struct fixture *f = *state;
    void *arena = tf_arena_new(), *options, *self, *scratch;
    struct tf_filter_args args = {.name = "redact"};
    struct tf_error err;

    assert_non_null(arena);
    options = tf_arena_alloc(arena, tf_filter_redact.options_bytes);
    assert_int_equal(tf_options_default(tf_filter_redact.options, options, arena), 0);
    args.options = options;
    tf_error_init(&err);
    assert_int_equal(tf_filter_redact.open(&args, &self, &err), 0);
    tf_error_fini(&err);
    scratch = tf_filter_redact.scratch_new(self);
    assert_non_null(scratch);
    for (size_t i = 0; i < TF_COUNT(cases); i++) {
        assert_true(is_parsed(f, tf_slice_text(cases[i].body)));
        assert_int_equal(tf_filter_redact.apply(self, scratch, NULL, &f->batch), 0);
        if (strstr(print(f), cases[i].hidden) != NULL ||
            strstr(f->json.data, cases[i].shown) == NULL) {
            fail_msg("%s\nbecame %s", cases[i].body, f->json.data);
        }
    }
    tf_filter_redact.scratch_free(scratch);
    tf_filter_redact.close(self);
    tf_arena_free(arena);
}

/* ---- configuration -------------------------------------------------------------------------- */

static void assert_option(const char *yaml, const char *words)
{
    struct tf_parse_json_options options = {.max_depth = 0};
    struct tf_filter_args args = {.name = "parse_json", .options = &options};
    void *arena = tf_arena_new(), *self = NULL;
    struct tf_error err;
    int rc;

    assert_non_null(arena);
    tf_error_init(&err);
    rc = tf_options_parse(tf_slice_text(yaml), "f.yaml", "the filter", tf_filter_parse_json.options,
                          &options, arena, &err);
    if (rc == 0) {
        rc = tf_filter_parse_json.open(&args, &self, &err);
    }
    if (words == NULL ? rc != 0 : rc != -EINVAL || strstr(tf_error_first(&err), words) == NULL) {
        fail_msg("%s: %s", yaml, tf_error_first(&err));
    }
    tf_filter_parse_json.close(self);
    tf_error_fini(&err);
    tf_arena_free(arena);
}

static void options_are_checked(void **state)
{
    static const char *const own[] = {"time",     "tag", "host",     "labels",   "kubernetes",
                                      "identity", "via", "claimed",  "taffrail", "container_id",
                                      "stream",   "log", "severity", "event"};
    char yaml[256], name[65];

    (void)state;
    for (size_t i = 0; i < TF_COUNT(own); i++) {
        (void)snprintf(yaml, sizeof yaml, "into: %s", own[i]);
        assert_option(yaml, "is a name that the agent itself gives; take another, such as fields");
    }
    memset(name, 'n', sizeof name);
    (void)snprintf(yaml, sizeof yaml, "into: %.63s", name);
    assert_option(yaml, NULL);
    (void)snprintf(yaml, sizeof yaml, "into: %.64s", name);
    assert_option(yaml, "is no name of a field; write 1 to 63 of A-Z, a-z, 0-9, _ and -");
    assert_option("into: ''", "into \"\" is no name of a field");
    assert_option("into: a.b", "into \"a.b\" is no name of a field");
    assert_option("into: 'a b'", "is no name of a field");
    assert_option("into: é", "is no name of a field");
    assert_option("into: Body_2-x", NULL);
    assert_option("max_depth: 2", "max_depth");
    assert_option("max_depth: 17", "max_depth");
    assert_option("{max_depth: 3, max_keys: 1}", NULL);
    assert_option("max_keys: 0", "max_keys");
    assert_option("max_keys: 769", "max_keys");
}

static void the_field_has_the_name_of_into(void **state)
{
    struct tf_parse_json_options options = {.into.text = "body", .max_depth = 16, .max_keys = 256};
    struct tf_filter_args args = {.name = "parse_json", .options = &options};
    struct fixture *f = *state;
    struct tf_error err;

    tf_filter_parse_json.close(f->self);
    tf_error_init(&err);
    assert_int_equal(tf_filter_parse_json.open(&args, &f->self, &err), 0);
    tf_error_fini(&err);
    assert_becomes(f, "{\"fields\":1,\"kubernetes\":{\"pod_name\":\"not the pod's\"}}",
                   "\"body\":{\"fields\":1,\"kubernetes\":{\"pod_name\":\"not the pod's\"}}");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_body_becomes_fields),
        TEST(strings_are_undone),
        TEST(other_fields_are_kept_in_order),
        TEST(records_of_a_batch_do_not_touch_each_other),
        TEST(the_first_message_is_the_log),
        TEST(levels_become_one_set),
        TEST(other_levels_stay_in_fields),
        TEST(the_first_known_level_counts),
        TEST(times_become_the_records),
        TEST(other_times_stay_in_fields),
        TEST(numbers_are_kept_as_they_are),
        TEST(doubles_read_back),
        TEST(a_number_of_a_megabyte_is_bounded),
        TEST(what_is_no_object_stays),
        TEST(a_body_cut_anywhere_stays),
        TEST(depth_is_bounded),
        TEST(keys_are_bounded),
        TEST(a_key_twice_is_found_among_many),
        TEST(items_and_size_are_bounded),
        TEST(spoiled_records_are_left_alone),
        TEST(unfinished_and_marked_records_are_parsed),
        TEST(what_is_there_is_not_replaced),
        TEST(a_wide_record_is_left_alone),
        TEST(a_batch_grows_up_to_its_bound),
        TEST(memory_that_is_not_there_keeps_texts),
        TEST(full_fields_keep_texts),
        TEST(redaction_sees_keys_and_values),
        TEST(options_are_checked),
        TEST(the_field_has_the_name_of_into),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
