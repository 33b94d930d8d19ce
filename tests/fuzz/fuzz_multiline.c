/*
 * fuzz_multiline.c - any lines through the multiline filter, in batches, with restarts.
 *
 * The first byte chooses the filter: all presets, or patterns. Of each line that follows the first
 * byte steers: its stream, a mark, a field that sets it apart, the end of the batch, a step of the
 * clock. What must hold: apply succeeds; every byte of every line comes out once, in the order of
 * its stream, with newlines between lines; the books add up; no position passes what is held; at
 * the end nothing is held.
 */
#include <assert.h>
#include <stdlib.h>

#include "../../filters/multiline/multiline.h"

#define FILTERS        4u
#define LINES_MAX      512u
#define MAX_SIZE_BYTES 4096u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void *filters[FILTERS], *scratches[FILTERS];

struct world {
    void *filter, *scratch, *state;
    struct tf_batch batch;
    struct tf_buf in[TF_STREAMS], out[TF_STREAMS]; /* all lines, each followed by '\n' */
    uint64_t lines, came_out, joined, now_ms;
};

static void open_filter(uint32_t number)
{
    static struct tf_text presets[TF_PRESETS_MAX];
    struct tf_multiline_options options = {
        .max_lines = 5, .max_size_bytes = MAX_SIZE_BYTES, .max_delay_ms = 100};
    const struct tf_filter_args args = {.name = "multiline", .options = &options};
    struct tf_error err;
    int rc;

    for (uint32_t i = 0; i < TF_PRESETS_MAX; i++) {
        presets[i].text = tf_trace_presets[i].name;
    }
    if (number == 0) {
        options.presets = (struct tf_texts){.items = presets, .count = TF_PRESETS_MAX};
    }
    options.start.text = number == 1 || number == 3 ? "^a" : NULL;
    options.continues.text = number == 2 ? "^ " : NULL;
    options.end.text = number == 3 ? "z$" : NULL;
    tf_error_init(&err);
    rc = tf_filter_multiline.open(&args, &filters[number], &err);
    assert(rc == 0);
    tf_error_fini(&err);
    scratches[number] = tf_filter_multiline.scratch_new(filters[number]);
    assert(scratches[number] != NULL);
}

static void append_line(struct tf_buf *to, const char *line, size_t size)
{
    (void)tf_buf_append(to, line, size);
    (void)tf_buf_append_byte(to, '\n');
    assert(to->error == 0);
}

static void add_line(struct world *w, uint8_t bits, const char *line, size_t size)
{
    enum tf_stream stream = (enum tf_stream)(bits % TF_STREAMS);
    struct tf_record *record = tf_batch_add_record(&w->batch, 7, stream);
    int rc;

    assert(record != NULL);
    record->source_at = ++w->lines;
    record->flags = (bits & 0x30) == 0x30 ? TF_RECORD_MALFORMED : 0;
    rc = tf_batch_add_text_field(&w->batch, "log", tf_slice(line, size));
    if (rc == 0 && (bits & 0x0c) == 0x0c) {
        rc = tf_batch_add_int_field(&w->batch, "n", bits);
    }
    assert(rc == 0);
    append_line(&w->in[stream], line, size);
}

static void take_out(struct world *w)
{
    for (uint32_t i = 0; i < w->batch.record_count; i++) {
        const struct tf_record *record = &w->batch.records[i];
        const struct tf_field *field = &w->batch.fields[record->first_field];

        if ((record->flags & TF_RECORD_DROPPED) == 0) {
            assert(field->value.text.at + field->value.text.size < w->batch.text.size);
            append_line(&w->out[record->stream], w->batch.text.data + field->value.text.at,
                        field->value.text.size);
            w->came_out++;
        }
    }
    w->joined += w->batch.joined;
}

static void apply(struct world *w, bool is_last)
{
    struct tf_filter_held held;
    int rc;

    w->batch.may_hold = true;
    w->batch.is_last = is_last;
    w->batch.now_ms = w->now_ms;
    rc = tf_filter_multiline.apply(w->filter, w->scratch, w->state, &w->batch);
    assert(rc == 0);
    take_out(w);
    tf_filter_multiline.held(w->state, &held);
    assert(w->came_out + w->joined + held.records == w->lines);
    assert((held.records > 0) == (held.deadline_ms > w->now_ms));
    assert(held.records == 0 || !is_last);
    for (uint32_t i = 0; i < TF_STREAMS; i++) {
        struct tf_slice seen = tf_slice(w->in[i].data, w->out[i].size);

        assert(w->out[i].size <= w->in[i].size);
        assert(tf_slice_equal(seen, tf_buf_slice(&w->out[i])));
        assert((held.from[i] == UINT64_MAX) == (w->out[i].size == w->in[i].size));
    }
    rc = tf_batch_reset(&w->batch);
    assert(rc == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct world w = {.now_ms = 1000};
    uint32_t number = size > 0 ? data[0] % FILTERS : 0;
    const char *at = (const char *)data + 1, *end = (const char *)data + size;
    int rc = tf_batch_init(&w.batch);

    if (filters[number] == NULL) {
        open_filter(number);
    }
    w.filter = filters[number];
    w.scratch = scratches[number];
    w.state = tf_filter_multiline.state_new(w.filter);
    assert(rc == 0 && w.state != NULL);
    for (uint32_t i = 0; i < TF_STREAMS; i++) {
        tf_buf_init(&w.in[i], 64u << 20);
        tf_buf_init(&w.out[i], 64u << 20);
    }
    while (at < end && w.lines < LINES_MAX) {
        uint8_t bits = (uint8_t)*at++;
        const char *stop = memchr(at, '\n', (size_t)(end - at));

        stop = stop != NULL ? stop : end;
        add_line(&w, bits, at, (size_t)(stop - at));
        at = stop < end ? stop + 1 : end;
        if ((bits & 0x40) != 0) {
            w.now_ms += (bits & 0x80) != 0 ? 60 : 0;
            apply(&w, false);
        }
    }
    apply(&w, true);
    for (uint32_t i = 0; i < TF_STREAMS; i++) {
        tf_buf_fini(&w.in[i]);
        tf_buf_fini(&w.out[i]);
    }
    tf_filter_multiline.state_free(w.state);
    tf_batch_fini(&w.batch);
    return 0;
}
