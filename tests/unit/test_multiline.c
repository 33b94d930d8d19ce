/*
 * test_multiline.c - lines become records: presets by a corpus, own patterns, limits, what is held.
 *
 * tests/data/traces/PRESET-NAME.log holds lines as applications write them, PRESET-NAME.expected
 * the same lines with "> " before each that begins a record and "| " before each that belongs to
 * the one before. tests/data/benign holds lines that are no traces but for a few.
 */
#include <dirent.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#include "../../filters/multiline/literals.h"
#include "../../filters/multiline/multiline.h"
#include "taffrail/event.h"

#define LINES_MAX 512u
#define FILES_MIN 5u /* of a preset */

struct output {
    uint8_t stream;
    uint64_t source_at;
    int64_t time_ns;
    char *text;
};

struct fixture {
    struct tf_text presets[TF_PRESETS_MAX];
    struct tf_multiline_options options;
    void *self, *scratch, *state;
    struct tf_batch batch;
    uint64_t source_at; /* of the next line */
    uint64_t now_ms;
    struct output out[LINES_MAX];
    size_t out_count;
    uint32_t joined;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);

    assert_non_null(f);
    *state = f;
    f->options.max_lines = 500;
    f->options.max_size_bytes = 256 << 10;
    f->options.max_delay_ms = 1000;
    f->now_ms = 1;
    return tf_batch_init(&f->batch);
}

static void close_filter(struct fixture *f)
{
    if (f->self != NULL) {
        tf_filter_multiline.state_free(f->state);
        tf_filter_multiline.scratch_free(f->scratch);
        tf_filter_multiline.close(f->self);
    }
    f->self = f->state = NULL;
}

static void forget_output(struct fixture *f)
{
    for (size_t i = 0; i < f->out_count; i++) {
        free(f->out[i].text);
    }
    f->out_count = 0;
    f->joined = 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    close_filter(f);
    forget_output(f);
    tf_batch_fini(&f->batch);
    free(f);
    return 0;
}

static void new_state(struct fixture *f)
{
    tf_filter_multiline.state_free(f->state);
    f->state = tf_filter_multiline.state_new(f->self);
    assert_non_null(f->state);
}

static void begin_batch(struct fixture *f)
{
    assert_int_equal(tf_batch_reset(&f->batch), 0);
    f->batch.may_hold = true;
    f->batch.now_ms = f->now_ms;
}

/* Opens the filter with the fixture's options. */
static void open_filter(struct fixture *f)
{
    const struct tf_filter_args args = {.name = "multiline", .options = &f->options};
    struct tf_error err;

    close_filter(f);
    tf_error_init(&err);
    if (tf_filter_multiline.open(&args, &f->self, &err) != 0) {
        fail_msg("%s", tf_error_first(&err));
    }
    assert_int_equal(err.count, 0);
    tf_error_fini(&err);
    f->scratch = tf_filter_multiline.scratch_new(f->self);
    assert_non_null(f->scratch);
    new_state(f);
    begin_batch(f);
}

/* name: of a preset; NULL: all of them. */
static void open_presets(struct fixture *f, const char *name)
{
    f->options.presets = (struct tf_texts){.items = f->presets};
    for (size_t i = 0; i < TF_PRESETS_MAX; i++) {
        if (name == NULL || strcmp(name, tf_trace_presets[i].name) == 0) {
            f->presets[f->options.presets.count++].text = tf_trace_presets[i].name;
        }
    }
    open_filter(f);
}

static void open_patterns(struct fixture *f, const char *start, const char *continues,
                          const char *end)
{
    f->options.presets.count = 0;
    f->options.start.text = start;
    f->options.continues.text = continues;
    f->options.end.text = end;
    open_filter(f);
}

static struct tf_record *add_at(struct fixture *f, enum tf_stream stream, const char *text,
                                size_t size, uint64_t source_at)
{
    struct tf_record *record = tf_batch_add_record(&f->batch, (int64_t)source_at * 1000, stream);

    assert_non_null(record);
    record->source_at = source_at;
    if (stream != TF_STREAM_OTHER) {
        const char *name = stream == TF_STREAM_STDOUT ? "stdout" : "stderr";

        assert_int_equal(tf_batch_add_text_field(&f->batch, "stream", tf_slice_text(name)), 0);
    }
    assert_int_equal(tf_batch_add_text_field(&f->batch, "log", tf_slice(text, size)), 0);
    return &f->batch.records[f->batch.record_count - 1];
}

static struct tf_record *add_to(struct fixture *f, enum tf_stream stream, const char *text)
{
    return add_at(f, stream, text, strlen(text), f->source_at++);
}

static struct tf_record *add(struct fixture *f, const char *text)
{
    return add_to(f, TF_STREAM_OTHER, text);
}

/* The text of a record, which must have the fields of its stream. */
static struct tf_slice text_of(const struct fixture *f, const struct tf_record *record)
{
    bool has_stream = record->stream != TF_STREAM_OTHER;
    const struct tf_field *field = &f->batch.fields[record->first_field];

    assert_int_equal(record->field_count, has_stream ? 2 : 1);
    assert_int_equal(f->batch.text.data[field->value.text.at + field->value.text.size], '\n');
    if (has_stream) {
        assert_memory_equal(f->batch.text.data + field->key_at, "stream", 6);
        assert_memory_equal(f->batch.text.data + field->value.text.at,
                            record->stream == TF_STREAM_STDOUT ? "stdout" : "stderr", 6);
        field++;
    }
    assert_memory_equal(f->batch.text.data + field->key_at, "log", 3);
    return tf_batch_slice(&f->batch, field->value.text.at, field->value.text.size);
}

/* Applies the filter, keeps what came out, and begins the next batch. */
static void apply_with(struct fixture *f, void *filter_state)
{
    uint32_t told = 0;

    assert_int_equal(tf_filter_multiline.apply(f->self, f->scratch, filter_state, &f->batch), 0);
    for (uint32_t i = 0; i < f->batch.record_count; i++) {
        const struct tf_record *record = &f->batch.records[i];
        struct output *out = &f->out[f->out_count];
        struct tf_slice text;

        if ((record->flags & TF_RECORD_DROPPED) != 0) {
            assert_true(record->flags & TF_RECORD_JOINED);
            continue;
        }
        text = text_of(f, record);
        assert_true(f->out_count < LINES_MAX);
        *out = (struct output){
            .stream = record->stream, .source_at = record->source_at, .time_ns = record->time_ns};
        out->text = strndup(text.data, text.size);
        assert_non_null(out->text);
        f->out_count++;
    }
    for (uint32_t i = 0; i < f->batch.tally_count; i++) {
        assert_string_equal(tf_filter_multiline.rule_name(f->self, f->batch.tallies[i].rule),
                            "joined");
        told += f->batch.tallies[i].hits;
    }
    assert_int_equal(told, f->batch.joined);
    f->joined += f->batch.joined;
    begin_batch(f);
}

static void apply(struct fixture *f)
{
    apply_with(f, f->state);
}

static void apply_last(struct fixture *f)
{
    f->batch.is_last = true;
    apply(f);
}

static struct tf_filter_held held_by(const struct fixture *f)
{
    struct tf_filter_held held;

    tf_filter_multiline.held(f->state, &held);
    return held;
}

/* What has come out so far, all of it; count texts follow. */
static void assert_out(struct fixture *f, size_t count, ...)
{
    va_list texts;

    va_start(texts, count);
    for (size_t i = 0; i < count; i++) {
        const char *wanted = va_arg(texts, const char *);

        if (i >= f->out_count) {
            fail_msg("missing: %s", wanted);
        }
        assert_string_equal(f->out[i].text, wanted);
    }
    va_end(texts);
    if (f->out_count > count) {
        fail_msg("too much: %s", f->out[count].text);
    }
}

/* Lines, in one batch and in batches of one, become these records. */
static void assert_joins(struct fixture *f, const char *const *lines, const char *const *records)
{
    for (int each = 0; each < 2; each++) {
        size_t count = 0;

        new_state(f);
        for (size_t i = 0; lines[i] != NULL; i++) {
            (void)add(f, lines[i]);
            if (each != 0) {
                apply(f);
            }
        }
        apply_last(f);
        for (; records[count] != NULL; count++) {
            assert_true(count < f->out_count);
            assert_string_equal(f->out[count].text, records[count]);
        }
        assert_int_equal(f->out_count, count);
        forget_output(f);
    }
}

#define LIST(...)                                                                                  \
    (const char *const[])                                                                          \
    {                                                                                              \
        __VA_ARGS__, NULL                                                                          \
    }

/* ---- the corpus ----------------------------------------------------------------------------- */

/* A file's lines, and which of them begin a record. */
struct trace_file {
    char name[64];
    char *text;
    struct tf_slice lines[LINES_MAX];
    bool begins[LINES_MAX];
    size_t count;
};

static char *read_file(const char *folder, const char *name, const char *ending)
{
    char path[1024], *text = NULL;
    size_t size = 0;
    ssize_t got;
    FILE *from;

    (void)snprintf(path, sizeof path, "%s/%s/%s%s", TF_SOURCE_DIR, folder, name, ending);
    from = fopen(path, "r");
    if (from == NULL) {
        fail_msg("%s: %s", path, strerror(errno)); /* NOLINT(concurrency-mt-unsafe) */
    }
    got = getdelim(&text, &size, '\0', from);
    assert_true(got > 0 && text[got - 1] == '\n');
    (void)fclose(from);
    return text;
}

/* Cuts text into lines; returns how many. */
static size_t split(char *text, struct tf_slice lines[LINES_MAX])
{
    size_t count = 0;

    for (char *at = text, *end; (end = strchr(at, '\n')) != NULL; at = end + 1) {
        assert_true(count < LINES_MAX);
        lines[count++] = tf_slice(at, (size_t)(end - at));
    }
    return count;
}

static void load(const char *name, struct trace_file *file)
{
    struct tf_slice marked[LINES_MAX];
    char *expected = read_file("tests/data/traces", name, ".expected");

    (void)snprintf(file->name, sizeof file->name, "%s", name);
    file->text = read_file("tests/data/traces", name, ".log");
    file->count = split(file->text, file->lines);
    if (split(expected, marked) != file->count) {
        fail_msg("%s: .log and .expected have not as many lines", name);
    }
    for (size_t i = 0; i < file->count; i++) {
        size_t skip = marked[i].size > 1 ? 2 : 1;

        file->begins[i] = marked[i].data[0] == '>';
        if (!tf_slice_equal(tf_slice(marked[i].data + skip, marked[i].size - skip),
                            file->lines[i])) {
            fail_msg("%s: line %zu of .log and .expected is not the same", name, i + 1);
        }
    }
    free(expected);
}

/* What came out of a stream is the file's records, each once, in order, with its first line's time
 * and place. */
static void assert_records(const struct fixture *f, const struct trace_file *file, uint8_t stream,
                           uint64_t first_at)
{
    size_t out = 0;

    for (size_t i = 0; i < file->count; out++) {
        const char *begin = file->lines[i].data;
        size_t last = i;

        while (out < f->out_count && f->out[out].stream != stream) {
            out++;
        }
        while (last + 1 < file->count && !file->begins[last + 1]) {
            last++;
        }
        if (out == f->out_count) {
            fail_msg("%s: line %zu did not come out", file->name, i + 1);
        }
        if (!tf_slice_equal(tf_slice_text(f->out[out].text),
                            tf_slice(begin, (size_t)(file->lines[last].data - begin) +
                                                file->lines[last].size))) {
            fail_msg("%s: line %zu begins another record:\n%s", file->name, i + 1,
                     f->out[out].text);
        }
        assert_int_equal(f->out[out].source_at, first_at + i);
        assert_int_equal(f->out[out].time_ns, (first_at + i) * 1000);
        i = last + 1;
    }
    while (out < f->out_count && f->out[out].stream != stream) {
        out++;
    }
    assert_int_equal(out, f->out_count);
}

static void add_line(struct fixture *f, const struct trace_file *file, enum tf_stream stream,
                     size_t number, uint64_t first_at)
{
    (void)add_at(f, stream, file->lines[number].data, file->lines[number].size, first_at + number);
}

/* In batches of up to batch_max lines. */
static void run_batches(struct fixture *f, const struct trace_file *file, unsigned batch_max)
{
    size_t left = 1;

    new_state(f);
    for (size_t i = 0; i < file->count; i++) {
        add_line(f, file, TF_STREAM_STDERR, i, 1);
        if (--left == 0) {
            apply(f);
            left = 1 + (size_t)rand() % batch_max; /* NOLINT: any sizes will do */
        }
    }
    apply_last(f);
    assert_records(f, file, TF_STREAM_STDERR, 1);
    forget_output(f);
}

/* A batch that may not be held is joined within itself, whether there is a state or not. */
static void run_without_holding(struct fixture *f, const struct trace_file *file)
{
    for (int i = 0; i < 2; i++) {
        for (size_t at = 0; at < file->count; at++) {
            add_line(f, file, TF_STREAM_OTHER, at, 1);
        }
        f->batch.may_hold = false;
        apply_with(f, i == 0 ? f->state : NULL);
        assert_int_equal(held_by(f).records, 0);
        assert_records(f, file, TF_STREAM_OTHER, 1);
        assert_int_equal(f->joined + f->out_count, file->count);
        forget_output(f);
    }
}

/* Two streams, their lines mixed; the second one holds another file. */
static void run_mixed(struct fixture *f, const struct trace_file *file,
                      const struct trace_file *other)
{
    size_t at = 0, other_at = 0;

    new_state(f);
    while (at < file->count || other_at < other->count) {
        unsigned dice = (unsigned)rand(); /* NOLINT: any order will do */

        if (at < file->count && (dice % 2 == 0 || other_at == other->count)) {
            add_line(f, file, TF_STREAM_STDOUT, at++, 1);
        } else {
            add_line(f, other, TF_STREAM_STDERR, other_at++, 1000);
        }
        if (dice / 2 % 5 == 0) {
            apply(f);
        }
    }
    apply_last(f);
    assert_records(f, file, TF_STREAM_STDOUT, 1);
    assert_records(f, other, TF_STREAM_STDERR, 1000);
    forget_output(f);
}

/* The agent ends again and again, and each time begins where the position is. */
static void run_restarts(struct fixture *f, const struct trace_file *file)
{
    size_t at = 0;

    new_state(f);
    while (at < file->count) {
        size_t until = at + 1 + (size_t)rand() % 6; /* NOLINT: any sizes will do */
        struct tf_filter_held held;

        for (; at < until && at < file->count; at++) {
            add_line(f, file, TF_STREAM_STDOUT, at, 1);
        }
        apply(f);
        held = held_by(f);
        assert_int_equal(held.from[TF_STREAM_STDERR], UINT64_MAX);
        if (rand() % 3 == 0) { /* NOLINT */
            at = held.records > 0 ? held.from[TF_STREAM_STDOUT] - 1 : at;
            new_state(f);
        }
    }
    apply_last(f);
    assert_records(f, file, TF_STREAM_STDOUT, 1);
    forget_output(f);
}

static size_t list_files(const char *preset, char names[][64], size_t max)
{
    char folder[1024];
    size_t count = 0;
    struct dirent *entry;
    DIR *dir;

    (void)snprintf(folder, sizeof folder, "%s/tests/data/traces", TF_SOURCE_DIR);
    dir = opendir(folder);
    assert_non_null(dir);
    while ((entry = readdir(dir)) != NULL) { /* NOLINT(concurrency-mt-unsafe) */
        char *ending = strstr(entry->d_name, ".log");

        if (ending != NULL &&
            (preset == NULL || (strncmp(entry->d_name, preset, strlen(preset)) == 0 &&
                                entry->d_name[strlen(preset)] == '-'))) {
            assert_true(count < max);
            (void)snprintf(names[count++], 64, "%.*s", (int)(ending - entry->d_name),
                           entry->d_name);
        }
    }
    (void)closedir(dir);
    return count;
}

static void each_preset_joins_its_traces(void **state)
{
    struct fixture *f = *state;

    for (size_t i = 0; i < TF_PRESETS_MAX; i++) {
        char names[32][64];
        size_t count = list_files(tf_trace_presets[i].name, names, TF_COUNT(names));

        assert_true(count >= FILES_MIN);
        open_presets(f, tf_trace_presets[i].name);
        for (size_t j = 0; j < count; j++) {
            struct trace_file file;

            load(names[j], &file);
            run_batches(f, &file, 1);
            run_without_holding(f, &file);
            free(file.text);
        }
    }
}

static void all_presets_join_the_same_however_lines_come(void **state)
{
    struct fixture *f = *state;
    char names[128][64];
    size_t count = list_files(NULL, names, TF_COUNT(names));

    open_presets(f, NULL);
    srand(4711); /* NOLINT: the same each time */
    for (size_t i = 0; i < count; i++) {
        struct trace_file file, other;

        load(names[i], &file);
        load(names[(i + 7) % count], &other);
        run_batches(f, &file, 1);
        run_batches(f, &file, 9);
        run_without_holding(f, &file);
        run_mixed(f, &file, &other);
        for (int j = 0; j < 5; j++) {
            run_restarts(f, &file);
        }
        free(file.text);
        free(other.text);
    }
}

/* Lines that are no traces. Those that are of one all the same are told by their first line. */
static void ordinary_lines_stay_apart(void **state)
{
    static struct {
        const char *file, *first;
        size_t found;
    } traces[] = {
        {"go", "panic: runtime error: invalid memory address", 0},
        {"java", "java.lang.IllegalArgumentException: ", 0},
        {"node", "ForbiddenError: invalid csrf token", 0},
        {"node", "TokenExpiredError: jwt expired", 0},
        {"python", "  File \"/app/shop/settings.py\", line 12", 0},
        {"python", "Traceback (most recent call last):", 0},
        {"ruby-php-dotnet-rust", "/app/app/models/user.rb:41:in `valid_password?'", 0},
        {"ruby-php-dotnet-rust", "Npgsql.PostgresException (0x80004005): 28P01: ", 0},
    };
    static const char *const files[] = {"ai",         "auth", "ci",          "cloud",
                                        "databases",  "go",   "identifiers", "java",
                                        "json-names", "json", "kubernetes",  "languages",
                                        "names",      "node", "python",      "ruby-php-dotnet-rust",
                                        "system",     "web"};
    struct fixture *f = *state;

    open_presets(f, NULL);
    for (size_t i = 0; i < TF_COUNT(files); i++) {
        struct tf_slice lines[LINES_MAX];
        char *text = read_file("tests/data/benign", files[i], ".log");
        size_t count = split(text, lines);

        for (size_t j = 0; j < count; j++) {
            (void)add_at(f, TF_STREAM_OTHER, lines[j].data, lines[j].size, j);
        }
        apply_last(f);
        for (size_t j = 0; j < f->out_count; j++) {
            bool is_known = strchr(f->out[j].text, '\n') == NULL;

            for (size_t k = 0; k < TF_COUNT(traces) && !is_known; k++) {
                is_known = strcmp(traces[k].file, files[i]) == 0 &&
                           strncmp(f->out[j].text, traces[k].first, strlen(traces[k].first)) == 0;
                traces[k].found += is_known ? 1 : 0;
            }
            if (!is_known) {
                fail_msg("%s.log: lines are joined:\n%s", files[i], f->out[j].text);
            }
        }
        forget_output(f);
        free(text);
    }
    for (size_t k = 0; k < TF_COUNT(traces); k++) {
        assert_int_equal(traces[k].found, 1);
    }
}

/* ---- own patterns --------------------------------------------------------------------------- */

static void start_alone_takes_all_that_follows(void **state)
{
    struct fixture *f = *state;

    open_patterns(f, "^\\d{4}-", NULL, NULL);
    assert_joins(f, LIST("2026-a", " b", "c", "2026-d", "2026-e", "f"),
                 LIST("2026-a\n b\nc", "2026-d", "2026-e\nf"));
    assert_joins(f, LIST("rest", "of a record", "2026-a"), LIST("rest\nof a record", "2026-a"));
}

static void start_and_continue_leave_others_alone(void **state)
{
    struct fixture *f = *state;

    open_patterns(f, "^BEGIN", "^\\s", NULL);
    assert_joins(f, LIST("BEGIN a", " b", "c", "d", " e", " f", "BEGIN g", "BEGIN h", " i"),
                 LIST("BEGIN a\n b", "c", "d", " e\n f", "BEGIN g", "BEGIN h\n i"));
    (void)add(f, "c");
    apply(f);
    assert_out(f, 1, "c"); /* it waits for nothing */
}

static void continue_alone_waits_for_each_next_line(void **state)
{
    struct fixture *f = *state;

    open_patterns(f, NULL, "^[ }]", NULL);
    assert_joins(f, LIST("a {", " b", "}", "c", "d", "", " e"),
                 LIST("a {\n b\n}", "c", "d", "\n e"));
    assert_joins(f, LIST(" a", " b"), LIST(" a\n b"));
    new_state(f);
    (void)add(f, "a");
    apply(f);
    assert_out(f, 0);
    (void)add(f, "b");
    apply(f);
    assert_out(f, 1, "a");
}

static void end_sends_the_record_at_once(void **state)
{
    struct fixture *f = *state;

    open_patterns(f, NULL, NULL, ";$");
    assert_joins(f, LIST("select 1", "from a;", "commit;", "select 2"),
                 LIST("select 1\nfrom a;", "commit;", "select 2"));
    new_state(f);
    (void)add(f, "select 1");
    (void)add(f, "from a;");
    apply(f);
    assert_out(f, 1, "select 1\nfrom a;");
}

static void start_and_end_leave_what_is_between_alone(void **state)
{
    struct fixture *f = *state;

    open_patterns(f, "^<", NULL, ">$");
    assert_joins(f, LIST("a", "b", "<c", "d", "e>", "f", "g>", "<h>", "<i", "<j", "k>"),
                 LIST("a", "b", "<c\nd\ne>", "f", "g>", "<h>", "<i", "<j\nk>"));
}

static void continue_and_end_go_together(void **state)
{
    struct fixture *f = *state;

    open_patterns(f, NULL, "^ ", "^end$");
    assert_joins(f, LIST("a", " b", "end", " c", "d", "end", "e"),
                 LIST("a\n b\nend", " c", "d\nend", "e"));
    open_patterns(f, "^a", "^ ", "^end$");
    assert_joins(f, LIST("a", " b", "end", " c", "a", "x", " d", "end", "a"),
                 LIST("a\n b\nend", " c", "a", "x", " d", "end", "a"));
}

static void a_match_limit_counts_as_no_match(void **state)
{
    struct fixture *f = *state;
    char *line = malloc(200000);
    struct timespec begin, end;

    assert_non_null(line);
    memset(line, 'a', 199999);
    line[199999] = 0;
    open_patterns(f, NULL, "^(?:a+)+[bc]|^a(?:.*a)*.*[bc]", NULL);
    (void)clock_gettime(CLOCK_MONOTONIC, &begin);
    (void)add(f, "first");
    (void)add(f, line);
    apply_last(f);
    (void)clock_gettime(CLOCK_MONOTONIC, &end);
    assert_out(f, 2, "first", line);
    assert_true(end.tv_sec - begin.tv_sec < 5);
    free(line);
}

/* ---- limits --------------------------------------------------------------------------------- */

static void the_rest_of_a_huge_trace_stays_together(void **state)
{
    struct fixture *f = *state;

    f->options.max_lines = 3;
    open_presets(f, "java");
    assert_joins(f,
                 LIST("a.b.CException: x", "\tat a.b.C.a(C.java:1)", "\tat a.b.C.b(C.java:2)",
                      "\tat a.b.C.c(C.java:3)", "\tat a.b.C.d(C.java:4)", "\t... 2 more", "x"),
                 LIST("a.b.CException: x\n\tat a.b.C.a(C.java:1)\n\tat a.b.C.b(C.java:2)",
                      "\tat a.b.C.c(C.java:3)\n\tat a.b.C.d(C.java:4)\n\t... 2 more", "x"));
    f->options.max_lines = 2;
    open_patterns(f, "^a", NULL, NULL);
    assert_joins(f, LIST("a", "b", "c", "d", "e"), LIST("a\nb", "c\nd", "e"));
}

static void a_text_never_passes_max_size(void **state)
{
    struct fixture *f = *state;
    char line[32], huge[64], both[64];

    memset(line, 'x', sizeof line);
    memset(huge, 'y', sizeof huge);
    line[31] = huge[63] = 0;
    (void)snprintf(both, sizeof both, "a2345678\n%s", line);
    f->options.max_size_bytes = strlen(both);
    open_patterns(f, "^a", NULL, NULL);
    assert_joins(f, LIST("a2345678", line, "b", "c", huge, "d", "e"),
                 LIST(both, "b\nc", huge, "d\ne"));
    assert_joins(f, LIST("a23456789", line, "b"),
                 LIST("a23456789", "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\nb"));
}

/* ---- what is held --------------------------------------------------------------------------- */

static void a_deadline_ends_what_waits(void **state)
{
    struct fixture *f = *state;
    struct tf_filter_held held;

    open_presets(f, "java");
    assert_int_equal(held_by(f).records, 0);
    assert_int_equal(held_by(f).deadline_ms, 0);
    f->source_at = 70;
    f->now_ms = f->batch.now_ms = 5000;
    (void)add(f, "ordinary");
    (void)add(f, "a.b.CException: x");
    apply(f);
    assert_out(f, 1, "ordinary");
    held = held_by(f);
    assert_int_equal(held.records, 1);
    assert_int_equal(held.deadline_ms, 6000);
    assert_int_equal(held.from[TF_STREAM_OTHER], 71);
    assert_int_equal(held.from[TF_STREAM_STDOUT], UINT64_MAX);
    f->now_ms = f->batch.now_ms = 5900;
    (void)add(f, "\tat a.b.C.a(C.java:1)");
    apply(f);
    held = held_by(f);
    assert_int_equal(held.records, 2);
    assert_int_equal(held.deadline_ms, 6000); /* it counts from the first line on */
    assert_int_equal(held.from[TF_STREAM_OTHER], 71);
    f->now_ms = f->batch.now_ms = 5999;
    apply(f);
    assert_int_equal(f->out_count, 1);
    f->now_ms = f->batch.now_ms = 6000;
    apply(f);
    assert_out(f, 2, "ordinary", "a.b.CException: x\n\tat a.b.C.a(C.java:1)");
    assert_int_equal(f->joined, 1);
    assert_int_equal(held_by(f).records, 0);
    assert_int_equal(held_by(f).from[TF_STREAM_OTHER], UINT64_MAX);
    (void)add(f, "\tat a.b.C.b(C.java:2)"); /* what comes too late stays together, too */
    (void)add(f, "\tat a.b.C.c(C.java:3)");
    (void)add(f, "ordinary");
    apply(f);
    assert_out(f, 4, "ordinary", "a.b.CException: x\n\tat a.b.C.a(C.java:1)",
               "\tat a.b.C.b(C.java:2)\n\tat a.b.C.c(C.java:3)", "ordinary");
}

/* Lines that are there when the deadline is over are looked at first. */
static void a_line_just_in_time_is_joined(void **state)
{
    struct fixture *f = *state;

    open_presets(f, "java");
    (void)add(f, "a.b.CException: x");
    apply(f);
    f->now_ms = f->batch.now_ms = 9000;
    (void)add(f, "\tat a.b.C.a(C.java:1)");
    apply(f);
    assert_out(f, 1, "a.b.CException: x\n\tat a.b.C.a(C.java:1)");
}

static void each_stream_has_its_own_deadline(void **state)
{
    struct fixture *f = *state;

    open_presets(f, "java");
    f->source_at = 1;
    (void)add_to(f, TF_STREAM_STDOUT, "a.b.CException: out");
    apply(f);
    f->now_ms = f->batch.now_ms = 500;
    (void)add_to(f, TF_STREAM_STDERR, "a.b.CException: err");
    (void)add_to(f, TF_STREAM_STDOUT, "\tat a.b.C.a(C.java:1)");
    apply(f);
    assert_int_equal(held_by(f).deadline_ms, 1001);
    assert_int_equal(held_by(f).records, 3);
    assert_int_equal(held_by(f).from[TF_STREAM_STDOUT], 1);
    assert_int_equal(held_by(f).from[TF_STREAM_STDERR], 2);
    f->now_ms = f->batch.now_ms = 1001;
    apply(f);
    assert_out(f, 1, "a.b.CException: out\n\tat a.b.C.a(C.java:1)");
    assert_int_equal(held_by(f).deadline_ms, 1500);
    apply_last(f);
    assert_out(f, 2, "a.b.CException: out\n\tat a.b.C.a(C.java:1)", "a.b.CException: err");
    assert_int_equal(held_by(f).records, 0);
}

/* What was held stands before the line that ended it, in its stream and among others. */
static void order_is_kept(void **state)
{
    struct fixture *f = *state;

    open_presets(f, "java");
    (void)add_to(f, TF_STREAM_STDOUT, "a.b.CException: out");
    (void)add_to(f, TF_STREAM_STDERR, "a.b.CException: err");
    apply(f);
    (void)add_to(f, TF_STREAM_OTHER, "first");
    (void)add_to(f, TF_STREAM_STDERR, "err");
    (void)add_to(f, TF_STREAM_STDOUT, "\tat a.b.C.a(C.java:1)");
    (void)add_to(f, TF_STREAM_OTHER, "a.b.CException: other");
    (void)add_to(f, TF_STREAM_STDOUT, "out");
    (void)add_to(f, TF_STREAM_OTHER, "\tat a.b.C.b(C.java:2)");
    (void)add_to(f, TF_STREAM_OTHER, "last");
    apply(f);
    assert_out(f, 7, "first", "a.b.CException: err", "err",
               "a.b.CException: out\n\tat a.b.C.a(C.java:1)", "out",
               "a.b.CException: other\n\tat a.b.C.b(C.java:2)", "last");
}

static void records_with_marks_pass_and_end_what_is_held(void **state)
{
    static const uint8_t marks[] = {TF_RECORD_TRUNCATED, TF_RECORD_MALFORMED, TF_RECORD_UNFINISHED};
    struct fixture *f = *state;

    open_presets(f, "java");
    for (size_t i = 0; i < TF_COUNT(marks); i++) {
        (void)add(f, "a.b.CException: x");
        apply(f);
        add(f, "\tat a.b.C.a(C.java:1)")->flags = marks[i];
        (void)add(f, "\tat a.b.C.b(C.java:2)");
        (void)add(f, "x");
        apply(f);
        assert_out(f, 4, "a.b.CException: x", "\tat a.b.C.a(C.java:1)", "\tat a.b.C.b(C.java:2)",
                   "x");
        forget_output(f);
    }
}

/* What another filter has dropped is not there. */
static void dropped_records_are_passed_over(void **state)
{
    struct fixture *f = *state;

    open_presets(f, "java");
    (void)add(f, "a.b.CException: x");
    add(f, "probe")->flags = TF_RECORD_DROPPED;
    (void)add(f, "\tat a.b.C.a(C.java:1)");
    (void)add(f, "x");
    assert_int_equal(tf_filter_multiline.apply(f->self, f->scratch, f->state, &f->batch), 0);
    assert_int_equal(f->batch.records[1].flags, TF_RECORD_DROPPED);
    assert_int_equal(f->batch.joined, 1);
}

/* ---- fields --------------------------------------------------------------------------------- */

/* {pod: {name: NAME, id: ID}, n: N, log: TEXT, ok: true} */
static void add_fields(struct fixture *f, const char *name, int64_t number, const char *text)
{
    struct tf_batch *batch = &f->batch;
    uint32_t at = 0;

    assert_non_null(tf_batch_add_record(batch, 1, TF_STREAM_OTHER));
    assert_int_equal(tf_batch_add_map_field(batch, "pod", 2), 0);
    assert_int_equal(tf_batch_add_text_field(batch, "name", tf_slice_text(name)), 0);
    assert_int_equal(tf_batch_add_text_field(batch, "log", tf_slice_text("x.YError")), 0);
    assert_int_equal(tf_batch_add_int_field(batch, "n", number), 0);
    assert_int_equal(tf_batch_add_text_field(batch, "log", tf_slice_text(text)), 0);
    assert_int_equal(tf_batch_add_text(batch, "ok", 2, &at), 0);
    assert_non_null(tf_batch_add_field(batch, at, 2, TF_VALUE_TRUE));
}

/* The records of the batch as JSON, with their '\n'. */
static char *to_json(struct fixture *f)
{
    struct tf_events_summary summary;
    struct tf_buf events, json;
    size_t used = 0, one;

    tf_buf_init(&events, 1 << 20);
    tf_buf_init(&json, 1 << 20);
    assert_int_equal(tf_events_encode(&f->batch, NULL, &events, &summary), 0);
    for (; used < events.size; used += one) {
        assert_int_equal(tf_event_print_json(tf_slice(events.data + used, events.size - used),
                                             tf_slice_text("t"), &json, &one),
                         0);
    }
    assert_int_equal(tf_buf_append_byte(&json, 0), 0);
    tf_buf_fini(&events);
    return json.data;
}

#define TIME "{\"time\":\"1970-01-01T00:00:00.000000001Z\",\"tag\":\"t\","

static void assert_json(struct fixture *f, const char *wanted)
{
    char *json;

    assert_int_equal(tf_filter_multiline.apply(f->self, f->scratch, f->state, &f->batch), 0);
    json = to_json(f);
    assert_string_equal(json, wanted);
    free(json);
    begin_batch(f);
}

static void the_first_line_gives_the_fields(void **state)
{
    struct fixture *f = *state;

    open_presets(f, "java");
    for (int each = 0; each < 2; each++) {
        add_fields(f, "a", 7, "a.b.CException: x");
        if (each != 0) {
            assert_json(f, "");
        }
        add_fields(f, "a", 7, "\tat a.b.C.a(C.java:1)");
        if (each != 0) {
            assert_json(f, "");
        }
        add_fields(f, "a", 7, "x");
        assert_json(f, TIME
                    "\"pod\":{\"name\":\"a\",\"log\":\"x.YError\"},\"n\":7,"
                    "\"log\":\"a.b.CException: x\\n\\tat a.b.C.a(C.java:1)\",\"ok\":true}\n" TIME
                    "\"pod\":{\"name\":\"a\",\"log\":\"x.YError\"},\"n\":7,"
                    "\"log\":\"x\",\"ok\":true}\n");
    }
}

static void lines_of_others_are_not_joined(void **state)
{
    static const struct {
        const char *name;
        int64_t number;
    } others[] = {{"b", 7}, {"aa", 7}, {"a", 8}};
    struct fixture *f = *state;
    char wanted[1024];

    for (size_t i = 0; i < TF_COUNT(others) * 2; i++) {
        const char *name = others[i / 2].name;
        int number = (int)others[i / 2].number;

        open_patterns(f, "^start", NULL, NULL);
        add_fields(f, "a", 7, "start");
        if (i % 2 != 0) {
            assert_json(f, "");
        }
        add_fields(f, name, number, "b");
        f->batch.is_last = true;
        (void)snprintf(wanted, sizeof wanted,
                       TIME "\"pod\":{\"name\":\"a\",\"log\":\"x.YError\"},\"n\":7,"
                            "\"log\":\"start\",\"ok\":true}\n" TIME
                            "\"pod\":{\"name\":\"%s\",\"log\":\"x.YError\"},\"n\":%d,"
                            "\"log\":\"b\",\"ok\":true}\n",
                       name, number);
        assert_json(f, wanted);
    }
    (void)add(f, "start"); /* it has fewer fields */
    add_fields(f, "a", 7, "b");
    f->batch.is_last = true;
    assert_json(
        f, "{\"time\":\"1970-01-01T00:00:00.000000000Z\",\"tag\":\"t\",\"log\":\"start\"}\n" TIME
           "\"pod\":{\"name\":\"a\",\"log\":\"x.YError\"},\"n\":7,"
           "\"log\":\"b\",\"ok\":true}\n");
}

/* What was held is put into the batch's text, which grows, and moves, while the next line is
 * judged.
 */
static void a_large_held_text_goes_out_before_a_line_of_others(void **state)
{
    struct fixture *f = *state;
    char *large = calloc(1, 200001);

    assert_non_null(large);
    memset(large, 's', 200000);
    open_patterns(f, "^s", NULL, NULL);
    for (int i = 0; i < 2; i++) {
        (void)add(f, large);
        apply(f);
        (void)add_to(f, TF_STREAM_OTHER, i == 0 ? "b" : large);
        if (i == 0) {
            assert_int_equal(tf_batch_add_int_field(&f->batch, "n", 1), 0);
        }
        assert_int_equal(tf_filter_multiline.apply(f->self, f->scratch, f->state, &f->batch), 0);
        assert_int_equal(f->batch.record_count, 2);
        assert_int_equal(f->batch.records[0].flags, 0);
        assert_int_equal(f->batch.fields[f->batch.records[0].first_field].value.text.size, 200000);
        new_state(f);
        begin_batch(f);
    }
    free(large);
}

static void records_without_a_text_pass(void **state)
{
    struct fixture *f = *state;

    open_patterns(f, "^start", NULL, NULL);
    add_fields(f, "a", 7, "start");
    assert_non_null(tf_batch_add_record(&f->batch, 1, TF_STREAM_OTHER));
    assert_int_equal(tf_batch_add_int_field(&f->batch, "log", 3), 0);
    assert_non_null(tf_batch_add_record(&f->batch, 1, TF_STREAM_OTHER));
    assert_json(f, TIME "\"pod\":{\"name\":\"a\",\"log\":\"x.YError\"},\"n\":7,"
                        "\"log\":\"start\",\"ok\":true}\n" TIME "\"log\":3}\n"
                        "{\"time\":\"1970-01-01T00:00:00.000000001Z\",\"tag\":\"t\"}\n");
}

/* Too many fields, or too large ones, to be held from batch to batch: it goes out. */
static void what_is_too_much_to_hold_goes_out(void **state)
{
    struct fixture *f = *state;
    char *large = calloc(1, 70001);

    assert_non_null(large);
    memset(large, 'x', 70000);
    open_patterns(f, "^start", NULL, NULL);
    for (int i = 0; i < 3; i++) {
        bool is_large = i % 2 != 0;

        assert_non_null(tf_batch_add_record(&f->batch, 1, TF_STREAM_OTHER));
        assert_int_equal(tf_batch_add_text_field(&f->batch, "log", tf_slice_text("start")), 0);
        for (int j = 0; j < 300 && !is_large; j++) {
            assert_int_equal(tf_batch_add_int_field(&f->batch, "n", 1), 0);
        }
        if (is_large) {
            assert_int_equal(tf_batch_add_text_field(&f->batch, "t", tf_slice_text(large)), 0);
        }
        assert_int_equal(tf_filter_multiline.apply(f->self, f->scratch, f->state, &f->batch), 0);
        assert_int_equal(f->batch.records[0].flags, 0);
        assert_int_equal(held_by(f).records, 0);
        begin_batch(f);
    }
    free(large);
}

/* No place for what was held, in a batch that is full: it is read again, in smaller pieces. */
static void a_full_batch_is_told(void **state)
{
    struct fixture *f = *state;

    open_presets(f, "java");
    (void)add(f, "a.b.CException: x");
    apply(f);
    for (uint32_t i = 0; i < TF_BATCH_RECORDS_MAX; i++) {
        (void)add(f, "x");
    }
    assert_int_equal(tf_filter_multiline.apply(f->self, f->scratch, f->state, &f->batch),
                     -EMSGSIZE);
    assert_int_equal(held_by(f).records, 0);
}

/* A received batch whose arena is nearly full stays as it is. */
static void without_room_nothing_is_joined(void **state)
{
    struct fixture *f = *state;
    const size_t size = TF_BATCH_TEXT_MAX - (700u << 10);
    char *huge = malloc(size);
    uint32_t at;

    assert_non_null(huge);
    memset(huge, 'x', size);
    open_presets(f, "java");
    assert_int_equal(tf_batch_add_text(&f->batch, huge, size, &at), 0);
    free(huge);
    (void)add(f, "a.b.CException: x");
    (void)add(f, "\tat a.b.C.a(C.java:1)");
    f->batch.may_hold = false;
    apply(f);
    assert_out(f, 2, "a.b.CException: x", "\tat a.b.C.a(C.java:1)");
}

/* ---- configuration -------------------------------------------------------------------------- */

static void assert_refused(struct fixture *f, const char *wanted)
{
    const struct tf_filter_args args = {.name = "multiline", .options = &f->options};
    struct tf_error err;
    void *self = NULL;

    tf_error_init(&err);
    assert_int_equal(tf_filter_multiline.open(&args, &self, &err), -EINVAL);
    assert_null(self);
    assert_int_equal(err.errors, 1);
    if (strstr(tf_error_first(&err), wanted) == NULL) {
        fail_msg("\"%s\" is not in: %s", wanted, tf_error_first(&err));
    }
    tf_error_fini(&err);
}

static void wrong_options_are_told(void **state)
{
    struct fixture *f = *state;

    assert_refused(f, "it joins nothing; give it presets: [java, ...], or one of");
    f->presets[0].text = "java";
    f->presets[1].text = "perl";
    f->options.presets = (struct tf_texts){.items = f->presets, .count = 2};
    assert_refused(f, "presets: there is no \"perl\"; there are java, python, go, dotnet, node, "
                      "ruby, php, rust");
    f->presets[1].text = "java";
    assert_refused(f, "presets: \"java\" is written twice; keep one");
    f->options.presets.count = 1;
    f->options.end.text = "x";
    assert_refused(f, "presets and own patterns do not go together; take out presets, or");
    f->options.presets.count = 0;
    f->options.end.text = "";
    assert_refused(f, "end: an empty regex matches every line; leave it out");
    f->options.end.text = NULL;
    f->options.continues.text = "a(b";
    assert_refused(f, "continue: \"a(b\" is no regex of PCRE2: missing closing parenthesis, at "
                      "byte 3");
}

static void the_table_reads_a_configuration(void **state)
{
    static const char yaml[] = "{continue: '^\\s', max_lines: 20, max_size: 1MiB, max_delay: 2s}";
    struct tf_multiline_options options = {.max_lines = 0};
    void *arena = tf_arena_new();
    struct tf_error err;

    (void)state;
    tf_error_init(&err);
    assert_int_equal(tf_options_parse(tf_slice_text(yaml), "t.yaml", "the filter",
                                      tf_filter_multiline.options, &options, arena, &err),
                     0);
    assert_string_equal(options.continues.text, "^\\s");
    assert_null(options.start.text);
    assert_int_equal(options.max_lines, 20);
    assert_int_equal(options.max_size_bytes, 1 << 20);
    assert_int_equal(options.max_delay_ms, 2000);
    assert_int_equal(tf_options_parse(tf_slice_text("max_size: 2MiB"), "t.yaml", "the filter",
                                      tf_filter_multiline.options, &options, arena, &err),
                     -EINVAL);
    tf_error_fini(&err);
    tf_arena_free(arena);
}

/* ---- literals ------------------------------------------------------------------------------- */

static void literals_are_found_wherever_they_stand(void **state)
{
    static const char *const words[] = {"\tat ", "Error", "Exception", "panic: ", "Errors"};
    struct tf_literals *set = calloc(1, sizeof *set);
    char text[64];

    (void)state;
    assert_non_null(set);
    for (uint32_t i = 0; i < TF_COUNT(words); i++) {
        assert_int_equal(tf_literals_add(set, tf_slice_text(words[i])), i);
    }
    assert_int_equal(tf_literals_add(set, tf_slice_text("Error")), 1);
    for (uint32_t i = 0; i < TF_COUNT(words); i++) {
        for (int before = 0; before < 9; before++) {
            for (int after = 0; after < 3; after++) {
                uint64_t wanted = 0;

                (void)snprintf(text, sizeof text, "%.*s%s%.*s", before, "xErro\tat\nErr", words[i],
                               after, "s:");
                for (uint32_t j = 0; j < TF_COUNT(words); j++) {
                    wanted |= strstr(text, words[j]) != NULL ? UINT64_C(1) << j : 0;
                }
                assert_int_equal(tf_literals_find(set, tf_slice_text(text)), wanted);
            }
        }
    }
    (void)snprintf(text, sizeof text, "Error");
    assert_int_equal(tf_literals_find(set, tf_slice(text, 5)), 2);
    assert_int_equal(tf_literals_find(set, tf_slice(text, 4)), 0); /* what is behind is not in it */
    assert_int_equal(tf_literals_find(set, tf_slice(text, 0)), 0);
    free(set);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(each_preset_joins_its_traces),
        TEST(all_presets_join_the_same_however_lines_come),
        TEST(ordinary_lines_stay_apart),
        TEST(start_alone_takes_all_that_follows),
        TEST(start_and_continue_leave_others_alone),
        TEST(continue_alone_waits_for_each_next_line),
        TEST(end_sends_the_record_at_once),
        TEST(start_and_end_leave_what_is_between_alone),
        TEST(continue_and_end_go_together),
        TEST(a_match_limit_counts_as_no_match),
        TEST(the_rest_of_a_huge_trace_stays_together),
        TEST(a_text_never_passes_max_size),
        TEST(a_deadline_ends_what_waits),
        TEST(a_line_just_in_time_is_joined),
        TEST(each_stream_has_its_own_deadline),
        TEST(order_is_kept),
        TEST(records_with_marks_pass_and_end_what_is_held),
        TEST(dropped_records_are_passed_over),
        TEST(the_first_line_gives_the_fields),
        TEST(lines_of_others_are_not_joined),
        TEST(a_large_held_text_goes_out_before_a_line_of_others),
        TEST(records_without_a_text_pass),
        TEST(what_is_too_much_to_hold_goes_out),
        TEST(a_full_batch_is_told),
        TEST(without_room_nothing_is_joined),
        TEST(wrong_options_are_told),
        TEST(the_table_reads_a_configuration),
        TEST(literals_are_found_wherever_they_stand),
    };

    return cmocka_run_group_tests_name("multiline", tests, NULL, NULL);
}
