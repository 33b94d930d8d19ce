/*
 * test_pipeline.c - the pipeline with a scripted input and an output that keeps what it gets.
 *
 * What is shown: events and positions share a frame (docs/guarantees.md B2), batches of one source
 * keep their order over frames of other tags and gaps, commits come after durability, the books
 * add up, a batch that is too large is told to its input, stop delivers what was read, what a
 * filter holds back is behind the position and goes out by its deadline, and what a filter learns
 * is on the records from the next job on.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>
#include <zlib.h>

#include "../../agent/pipeline/internal.h"

#define RECORDS_MAX 100000

/* What one pump does, told by the test. */
struct script {
    const char *tag;
    unsigned records;
    size_t text_bytes;
    bool wants_gap;
    bool only_position;
    const char *text;
    const char *long_text; /* in place of all that */
    bool no_position;      /* it comes to nothing */
    uint64_t read_bytes;
};

struct fake_source {
    struct tf_source source;
    const struct script *steps;
    unsigned step_count, step;
    unsigned position;  /* of what was pumped */
    unsigned committed; /* the newest cookie */
    unsigned too_large;
    unsigned number; /* of the next record */
    unsigned pumps;
    uint64_t held_from[100]; /* what positions were told, by pump */
};

struct world {
    uv_loop_t loop;
    char folder[64];
    struct tf_config config;
    struct tf_plugin_config input, filter, output;
    struct tf_pipeline *pipeline;
    struct fake_source sources[3];
    unsigned source_count;
    bool hurries_last; /* the last source is urgent */
    unsigned removed;
    void (*input_closed)(void *ctx);
    void *input_closed_ctx;
    struct tf_feed *feed;
    char *texts[RECORDS_MAX]; /* JSON of what was delivered, in order */
    unsigned text_count;
    unsigned frames;
    uint64_t delay_ms; /* of what is held */
    unsigned learned;  /* 0: nothing yet */
    unsigned asked, renewed, stopped_filters;
    uv_timer_t teacher;
    const struct tf_filter_start *filter_start;
    struct tf_filter_start start_copy;
    bool stops_with_held; /* the stop does not wait for it */
    bool raises_events;
    uint64_t missing, gaps, gap_bytes; /* in the status before the stop */
    uint64_t held, dropped;            /* the same */
    unsigned drop_rules;               /* the same: rules that may drop */
    uint64_t held_at_end;
    bool stopped;
};

static struct world *world;
static uv_timer_t stop_when_done;

/* ---- the scripted input --------------------------------------------------------------------- */

static int input_open(const struct tf_input_args *args, void **self, struct tf_error *err)
{
    (void)args;
    (void)err;
    *self = world;
    return 0;
}

static void pump(struct tf_source *base, struct tf_batch *batch, struct tf_pump_result *result)
{
    struct fake_source *source = (struct fake_source *)base;
    const struct script *step;
    char *text;

    source->pumps++;
    if (source->step == source->step_count) {
        result->has_position = source->source.held_records > 0;
        return;
    }
    step = &source->steps[source->step++];
    batch->read_bytes = step->read_bytes;
    if (step->no_position) {
        result->again = source->step < source->step_count;
        return;
    }
    source->source.tag = step->tag;
    text = malloc(step->text_bytes + 64);
    assert_non_null(text);
    memset(text, 'x', step->text_bytes + 64);
    for (unsigned i = 0; i < step->records; i++) {
        unsigned number = source->number++;
        int used =
            snprintf(text, 64, "%s record %u ", step->text != NULL ? step->text : "", number);

        text[used] = 'x';
        assert_non_null(tf_batch_add_record(batch, 1000 + i, TF_STREAM_STDOUT));
        batch->records[batch->record_count - 1].source_at = number;
        if (step->long_text != NULL) {
            assert_int_equal(tf_batch_add_text_field(batch, "log", tf_slice_text(step->long_text)),
                             0);
            continue;
        }
        assert_int_equal(
            tf_batch_add_text_field(batch, "log", tf_slice(text, (size_t)used + step->text_bytes)),
            0);
    }
    free(text);
    source->position = source->step;
    result->has_position = true;
    result->cookie = source->step;
    result->again = source->step < source->step_count;
}

static void position(struct tf_source *base, const uint64_t held_from[TF_STREAMS],
                     const struct tf_stream_state states[TF_STREAMS], struct tf_buf *deltas)
{
    struct fake_source *source = (struct fake_source *)base;
    uint8_t value[4];

    (void)states;
    if (source->pumps <= TF_COUNT(source->held_from)) {
        source->held_from[source->pumps - 1] = held_from[TF_STREAM_STDOUT];
    }
    tf_store32(value, source->position);
    tf_delta_append(deltas, TF_DELTA_SET, tf_slice_text("fake"), tf_slice(value, sizeof value));
}

static void pumped(struct tf_source *base, const struct tf_pump_result *result)
{
    struct fake_source *source = (struct fake_source *)base;

    if (result->status == -EMSGSIZE) {
        source->too_large++;
        tf_source_wake(base); /* this input goes on behind it; a job may run from here on */
    } else if (source->step > 0 && source->steps[source->step - 1].wants_gap) {
        assert_int_equal(tf_source_gap(base, "copytruncate", "bytes were lost", source->step, NULL),
                         0);
    }
}

static void committed(struct tf_source *base, uint64_t cookie)
{
    struct fake_source *source = (struct fake_source *)base;

    assert_true(cookie == source->committed + 1 || source->too_large > 0);
    source->committed = (unsigned)cookie;
}

static void on_removed(struct tf_source *base)
{
    (void)base;
    if (++world->removed == world->source_count) {
        world->input_closed(world->input_closed_ctx);
    }
}

static int input_start(void *self, struct tf_pipeline *pipeline, struct tf_error *err)
{
    (void)err;
    for (unsigned i = 0; i < world->source_count; i++) {
        struct tf_source *source = &world->sources[i].source;

        assert_int_equal(tf_source_add(pipeline, self, source, NULL), 0);
        tf_source_wake(source);
    }
    if (world->hurries_last) {
        tf_source_hurry(&world->sources[world->source_count - 1].source, true);
    }
    return 0;
}

static void input_rewind(void *self)
{
    (void)self;
}

static void input_close(void *self, void (*on_closed)(void *ctx), void *ctx)
{
    (void)self;
    world->input_closed = on_closed;
    world->input_closed_ctx = ctx;
    for (unsigned i = 0; i < world->source_count; i++) {
        tf_source_remove(&world->sources[i].source);
    }
}

static int describe_source(const struct tf_source *source, struct tf_batch *metadata)
{
    (void)source;
    assert_int_equal(tf_batch_init(metadata), 0);
    assert_non_null(tf_batch_add_record(metadata, 0, TF_STREAM_OTHER));
    return 0;
}

static const struct tf_option no_options[] = {{0}};
static const struct tf_input_kind fake_input = {
    .name = "fake",
    .options = no_options,
    .open = input_open,
    .start = input_start,
    .describe = describe_source,
    .pump = pump,
    .position = position,
    .pumped = pumped,
    .committed = committed,
    .on_removed = on_removed,
    .rewind = input_rewind,
    .close = input_close,
};

/* ---- the filter that holds the newest record ------------------------------------------------ */

struct holder {
    bool holds;
    char text[64];
    uint64_t from, deadline_ms;
};

static int holder_open(const struct tf_filter_args *args, void **self, struct tf_error *err)
{
    (void)args;
    (void)err;
    *self = world;
    return 0;
}

static void holder_close(void *self)
{
    (void)self;
}

static void *holder_new(void *self)
{
    (void)self;
    return calloc(1, sizeof(struct holder));
}

static void holder_held(const void *state, struct tf_filter_held *out)
{
    const struct holder *holder = state;

    *out = (struct tf_filter_held){.from = {UINT64_MAX, UINT64_MAX, UINT64_MAX}};
    if (holder->holds) {
        out->from[TF_STREAM_STDOUT] = holder->from;
        out->records = 1;
        out->deadline_ms = holder->deadline_ms;
    }
}

static int holder_apply(void *self, void *scratch, void *state, struct tf_batch *batch)
{
    struct holder *holder = state;
    uint32_t count = batch->record_count;
    struct tf_record *last;
    const struct tf_field *field;

    (void)self;
    (void)scratch;
    if (holder->holds && (count > 0 || batch->now_ms >= holder->deadline_ms)) {
        assert_non_null(tf_batch_add_record(batch, 1, TF_STREAM_STDOUT));
        assert_int_equal(tf_batch_add_text_field(batch, "log", tf_slice_text(holder->text)), 0);
        holder->holds = false;
    }
    if (count > 0) {
        last = &batch->records[count - 1];
        field = &batch->fields[last->first_field];
        holder->holds = true;
        holder->from = last->source_at;
        holder->deadline_ms = batch->now_ms + world->delay_ms;
        (void)snprintf(holder->text, sizeof holder->text, "%.*s", (int)field->value.text.size,
                       batch->text.data + field->value.text.at);
        last->flags |= TF_RECORD_DROPPED | TF_RECORD_JOINED;
    }
    return 0;
}

/* What all kinds of filters here have. */
#define HOLDER_LIFE                                                                                \
    .options = no_options, .open = holder_open, .close = holder_close, .scratch_new = holder_new,  \
    .scratch_free = free, .state_new = holder_new, .state_free = free

static const struct tf_filter_kind holding_filter = {
    .name = "holder",
    HOLDER_LIFE,
    .held = holder_held,
    .apply = holder_apply,
};

/* ---- the filter that learns ----------------------------------------------------------------- */

static void on_taught(uv_handle_t *handle)
{
    (void)handle;
}

static void teach(uv_timer_t *timer)
{
    world->learned = 1;
    world->filter_start->on_change(world->filter_start->ctx);
    uv_close((uv_handle_t *)timer, on_taught);
}

static int learner_start(void *self, const struct tf_filter_start *start, struct tf_error *err)
{
    (void)self;
    (void)err;
    world->start_copy = *start;
    world->filter_start = &world->start_copy;
    assert_string_equal(start->folder, world->folder);
    if (world->delay_ms > 0) {
        assert_int_equal(uv_timer_init(start->loop, &world->teacher), 0);
        assert_int_equal(uv_timer_start(&world->teacher, teach, world->delay_ms, 0), 0);
    }
    return 0;
}

static void learner_stop(void *self, void (*on_filter_stopped)(void *ctx), void *ctx)
{
    (void)self;
    world->stopped_filters++;
    on_filter_stopped(ctx);
}

/* Learns more with each turn, once it knows anything; waits 30 ms at most, or for the teacher. */
static enum tf_filter_turn learner_turn(void *self, void *state, uint64_t now_ms,
                                        uint64_t *until_ms)
{
    struct holder *holder = state;

    (void)self;
    assert_non_null(world->filter_start);
    world->asked++;
    if (world->learned > 0) {
        world->learned++;
        return TF_TURN_RENEW;
    }
    if (holder->deadline_ms == 0) {
        holder->deadline_ms = now_ms + (world->delay_ms > 0 ? 600000 : 30);
    }
    *until_ms = holder->deadline_ms;
    return now_ms < holder->deadline_ms ? TF_TURN_WAIT : TF_TURN_GO;
}

static int learner_enrich(void *self, void *state, struct tf_batch *constants)
{
    char text[16];

    (void)self;
    (void)state;
    if (world->learned == 0) {
        return 0;
    }
    world->renewed++;
    (void)snprintf(text, sizeof text, "%u", world->learned);
    return tf_batch_add_text_field(constants, "learned", tf_slice_text(text));
}

static int learner_apply(void *self, void *scratch, void *state, struct tf_batch *batch)
{
    (void)self;
    (void)scratch;
    (void)state;
    (void)batch;
    return 0;
}

static void learner_status(const void *self, struct tf_filter_status *out)
{
    (void)self;
    *out = (struct tf_filter_status){.is_up = true, .known = world->learned};
}

static const struct tf_filter_kind learning_filter = {
    .name = "learner",
    HOLDER_LIFE,
    .apply = learner_apply,
    .start = learner_start,
    .stop = learner_stop,
    .turn = learner_turn,
    .enrich = learner_enrich,
    .status = learner_status,
};

/* Knows each source at once, and says so once. */
static enum tf_filter_turn knower_turn(void *self, void *state, uint64_t now_ms, uint64_t *until_ms)
{
    struct holder *holder = state;
    bool said = holder->holds;

    (void)self;
    (void)now_ms;
    (void)until_ms;
    holder->holds = true;
    return said ? TF_TURN_GO : TF_TURN_RENEW;
}

static int knower_enrich(void *self, void *state, struct tf_batch *constants)
{
    const struct holder *holder = state;

    (void)self;
    return holder->holds ? tf_batch_add_text_field(constants, "known", tf_slice_text("yes")) : 0;
}

static const struct tf_filter_kind knowing_filter = {
    .name = "knower",
    HOLDER_LIFE,
    .apply = learner_apply,
    .turn = knower_turn,
    .enrich = knower_enrich,
};

/* ---- the output that keeps everything ------------------------------------------------------- */

static int output_open(const struct tf_output_args *args, void **self, struct tf_error *err)
{
    (void)args;
    (void)err;
    *self = world;
    return 0;
}

static void keep_events(const struct tf_frame *frame)
{
    static unsigned char plain[TF_DRAFT_PAYLOAD_MAX];
    z_stream gunzip = {.next_in = (Bytef *)(uintptr_t)frame->payload.data,
                       .avail_in = (uInt)frame->payload.size,
                       .next_out = plain,
                       .avail_out = sizeof plain};
    size_t at = 0;

    assert_int_equal(inflateInit2(&gunzip, 15 + 16), Z_OK);
    assert_int_equal(inflate(&gunzip, Z_FINISH), Z_STREAM_END);
    (void)inflateEnd(&gunzip);
    while (at < gunzip.total_out) {
        struct tf_buf line;
        size_t used;

        tf_buf_init(&line, 1 << 24);
        assert_int_equal(tf_event_print_json(tf_slice(plain + at, gunzip.total_out - at),
                                             tf_slice_text(frame->tag), &line, &used),
                         0);
        (void)tf_buf_append_byte(&line, 0);
        assert_true(world->text_count < RECORDS_MAX);
        world->texts[world->text_count++] = line.data;
        at += used;
    }
}

static void output_wake(void *self)
{
    struct tf_frame *frame;

    (void)self;
    while (tf_feed_next(world->feed, &frame) == 0) {
        world->frames++;
        assert_true(frame->events <= TF_BATCH_RECORDS_MAX); /* what a receiver takes in a message */
        keep_events(frame);
        (void)tf_feed_ack(world->feed, frame->seq);
        tf_frame_unref(frame);
    }
}

static int output_start(void *self, struct tf_feed *feed, struct tf_error *err)
{
    (void)self;
    (void)err;
    world->feed = feed;
    output_wake(self);
    return 0;
}

static void output_close(void *self, void (*on_closed)(void *ctx), void *ctx)
{
    (void)self;
    on_closed(ctx);
}

static void output_status(const void *self, struct tf_output_status *status)
{
    (void)self;
    status->up = true;
}

static const struct tf_output_kind fake_output = {
    .name = "fake",
    .options = no_options,
    .window = 8,
    .open = output_open,
    .start = output_start,
    .wake = output_wake,
    .close = output_close,
    .status = output_status,
};

/* ---- the world ------------------------------------------------------------------------------ */

static int set_up(void **state)
{
    static struct tf_text all = {.text = "**"};

    (void)state;
    world = calloc(1, sizeof *world);
    assert_non_null(world);
    (void)snprintf(world->folder, sizeof world->folder, "/tmp/taffrail-pipeline-XXXXXX");
    assert_non_null(mkdtemp(world->folder));
    world->input = (struct tf_plugin_config){.kind = &fake_input, .name = "fake", .tag = "a"};
    world->output = (struct tf_plugin_config){
        .kind = &fake_output, .name = "out", .match = {.items = &all, .count = 1}};
    world->config.inputs = (struct tf_plugin_list){.items = &world->input, .count = 1};
    world->config.outputs = (struct tf_plugin_list){.items = &world->output, .count = 1};
    world->config.agent.host.text = "node-1";
    world->config.agent.stop_timeout_ms = 60000;
    world->config.spool.path.text = world->folder;
    world->config.spool.max_size_bytes = 1 << 30;
    world->config.spool.sync = (struct tf_sync_option){.mode = TF_SYNC_INTERVAL, .interval_ms = 5};
    world->config.spool.segment_size_bytes = 64 << 20;
    world->source_count = 1;
    assert_int_equal(uv_loop_init(&world->loop), 0);
    return 0;
}

static int tear_down(void **state)
{
    char command[160];

    (void)state;
    assert_int_equal(uv_loop_close(&world->loop), 0);
    for (unsigned i = 0; i < world->text_count; i++) {
        free(world->texts[i]);
    }
    (void)snprintf(command, sizeof command, "rm -rf %s %s.key", world->folder, world->folder);
    assert_int_equal(system(command), 0); /* NOLINT: a fixed command on our own folder */
    free(world);
    return 0;
}

static void on_stopped(void *ctx)
{
    (void)ctx;
    world->held_at_end = tf_books_held(world->pipeline);
    world->stopped = true;
}

static bool is_pumped_out(void)
{
    for (unsigned i = 0; i < world->source_count; i++) {
        const struct fake_source *source = &world->sources[i];

        if (source->source.state == TF_SOURCE_RUNNING || source->step < source->step_count) {
            return false;
        }
        if (source->source.held_records > 0 && !world->stops_with_held) {
            return false;
        }
    }
    return true;
}

/* As the spool does it, in a call of an output. */
static void raise_events(void)
{
    for (unsigned i = 0; i < TF_EVENTS_MAX + 3; i++) {
        char text[32];

        (void)snprintf(text, sizeof text, "event %u ends", i);
        tf_events_take(world->pipeline, i == 1 ? "fork" : "receipt-bad", text);
    }
}

/* What anybody may see while it runs. */
static void take_status(void)
{
    const struct tf_filter_kind *kind = world->filter.kind;
    struct tf_status status;

    assert_int_equal(tf_pipeline_status(world->pipeline, &status), 0);
    assert_true(status.is_started && status.has_room && !status.is_stopping);
    assert_int_equal(status.input_count, 1);
    assert_int_equal(status.output_count, 1);
    assert_int_equal(status.filter_count,
                     kind != NULL && (kind->held != NULL || kind->status != NULL) ? 1 : 0);
    world->missing = status.books.missing;
    world->gaps = status.gaps[0];
    world->gap_bytes = status.gap_bytes[0];
    for (size_t i = 0; i < status.filter_count; i++) {
        world->held += status.filters[i].held;
    }
    assert_int_equal(world->held, status.books.held);
    for (size_t i = 0; i < status.rule_count; i++) {
        world->drop_rules += status.rules[i].is_dropped;
        world->dropped += status.rules[i].is_dropped ? status.rules[i].hits : 0;
    }
    assert_true(world->dropped <= status.books.filtered);
    assert_true(status.books.own <= status.books.decoded);
    tf_status_fini(&status);
}

static void on_poll(uv_timer_t *timer)
{
    if (is_pumped_out()) {
        take_status();
        if (world->raises_events) {
            raise_events();
        }
        uv_close((uv_handle_t *)timer, NULL);
        tf_pipeline_stop(world->pipeline, on_stopped, NULL);
    }
}

/* Runs the sources' scripts to their end, then stops. */
static void run(void)
{
    struct tf_error err;

    tf_error_init(&err);
    for (unsigned i = 0; i < world->source_count; i++) {
        world->sources[i].source.kind = &fake_input;
        world->sources[i].source.tag = "a";
    }
    assert_int_equal(tf_pipeline_new(&world->loop, &world->config, &world->pipeline, &err), 0);
    assert_int_equal(tf_pipeline_start(world->pipeline, &err), 0);
    assert_int_equal(uv_timer_init(&world->loop, &stop_when_done), 0);
    assert_int_equal(uv_timer_start(&stop_when_done, on_poll, 1, 1), 0);
    assert_int_equal(uv_run(&world->loop, UV_RUN_DEFAULT), 0);
    assert_true(world->stopped);
    assert_int_equal(world->missing, 0); /* the books balance at any moment */
    tf_pipeline_free(world->pipeline);
    tf_error_fini(&err);
}

static void give(unsigned index, const struct script *steps, unsigned count)
{
    world->sources[index].steps = steps;
    world->sources[index].step_count = count;
}

/* The delivered line of record `number`, or fails. */
static unsigned find(const char *text)
{
    for (unsigned i = 0; i < world->text_count; i++) {
        if (strstr(world->texts[i], text) != NULL) {
            return i;
        }
    }
    fail_msg("not delivered: %s", text);
    return 0;
}

/* ---- tests ---------------------------------------------------------------------------------- */

static void records_arrive_once_and_in_order(void **state)
{
    static const struct script steps[] = {
        {.tag = "a", .records = 300}, {.tag = "a", .records = 2}, {.tag = "a", .records = 500}};
    unsigned number = 0;
    char text[32];

    (void)state;
    give(0, steps, TF_COUNT(steps));
    run();
    for (unsigned i = 0; i < world->text_count; i++) {
        if (strstr(world->texts[i], "\"tag\":\"a\"") == NULL) {
            continue;
        }
        (void)snprintf(text, sizeof text, " record %u ", number++);
        assert_non_null(strstr(world->texts[i], text));
        assert_non_null(strstr(world->texts[i], "\"host\":\"node-1\""));
    }
    assert_int_equal(number, 802);
    assert_int_equal(world->sources[0].committed, 3);
}

static void tags_and_gaps_keep_the_order_of_their_source(void **state)
{
    static const struct script steps[] = {{.tag = "a", .records = 1},
                                          {.tag = "b", .records = 1},
                                          {.tag = "a", .records = 1, .wants_gap = true},
                                          {.tag = "a", .records = 1},
                                          {.tag = "b", .records = 1}};
    unsigned last = 0;
    char text[32];

    (void)state;
    give(0, steps, TF_COUNT(steps));
    run();
    for (unsigned i = 0; i < 5; i++) {
        unsigned at;

        (void)snprintf(text, sizeof text, " record %u ", i);
        at = find(text);
        assert_true(i == 0 || at > last);
        last = at;
    }
    assert_true(find("\"reason\":\"copytruncate\"") > find(" record 2 "));
    assert_true(find("\"reason\":\"copytruncate\"") < find(" record 3 "));
    assert_non_null(strstr(world->texts[find("copytruncate")], "\"tag\":\"taffrail.audit\""));
    assert_string_equal(tf_gaps[0], "copytruncate");
    assert_int_equal(world->gaps, 1);
    assert_int_equal(world->gap_bytes, 3);
}

static void start_and_stop_are_told_with_the_books(void **state)
{
    static const struct script steps[] = {{.tag = "a", .records = 7}};
    const char *stop;

    (void)state;
    give(0, steps, 1);
    run();
    (void)find("\"event\":\"start\"");
    stop = world->texts[find("\"event\":\"stop\"")];
    assert_non_null(strstr(stop, "\"decoded\":8")); /* seven and the start */
    assert_non_null(strstr(stop, "\"spooled\":8"));
}

static void positions_without_events_make_no_frame_for_outputs(void **state)
{
    static const struct script steps[] = {{.tag = "a", .records = 0}, {.tag = "a", .records = 0}};

    (void)state;
    give(0, steps, TF_COUNT(steps));
    run();
    assert_int_equal(world->sources[0].committed, 2);
    assert_int_equal(world->text_count, 2); /* start and stop */
}

static void a_batch_that_is_too_large_is_told_to_its_input(void **state)
{
    static const struct script steps[] = {{.tag = "a", .records = 1},
                                          {.tag = "a", .records = 3, .text_bytes = 6u << 20},
                                          {.tag = "a", .records = 1}};

    (void)state;
    give(0, steps, TF_COUNT(steps));
    run();
    assert_int_equal(world->sources[0].too_large, 1);
    (void)find(" record 0 ");
    (void)find(" record 4 ");
}

static void two_sources_share_frames(void **state)
{
    static const struct script steps[] = {{.tag = "a", .records = 10}, {.tag = "a", .records = 10}};

    (void)state;
    world->source_count = 2;
    give(0, steps, TF_COUNT(steps));
    give(1, steps, TF_COUNT(steps));
    run();
    assert_int_equal(world->text_count, 42);
    assert_true(world->frames <= 6); /* start, stop, and few for four batches */
}

static void filters_run_and_are_counted(void **state)
{
    static const struct script steps[] = {{.tag = "a",
                                           .records = 3,
                                           .text = "key AKIA"
                                                   "Z7QX4M2NPR5T6WUV"}};
    void *arena = tf_arena_new();
    void *options = tf_arena_alloc(arena, tf_filter_redact.options_bytes);

    (void)state;
    assert_int_equal(tf_options_default(tf_filter_redact.options, options, arena), 0);
    world->filter =
        (struct tf_plugin_config){.kind = &tf_filter_redact, .name = "redact", .options = options};
    world->config.filters = (struct tf_plugin_list){.items = &world->filter, .count = 1};
    give(0, steps, 1);
    run();
    (void)find("[REDACTED:aws-access-key]");
    for (unsigned i = 0; i < world->text_count; i++) {
        assert_null(strstr(world->texts[i], "Z7QX4M2NPR5T6WUV"));
    }
    assert_non_null(strstr(world->texts[find("\"event\":\"stop\"")], "\"redacted\":3"));
    tf_arena_free(arena);
}

/* One job at a time, so that the order of delivery is that of the turns. */
static void one_worker(unsigned sources)
{
    world->config.agent.workers = 1;
    world->source_count = sources;
}

/* What a turn took beyond a block is taken from the next ones. */
static void who_takes_much_passes_turns_by(void **state)
{
    static const struct script loud[] = {
        {.tag = "a", .records = 1, .text = "loud", .read_bytes = 4 * TF_BLOCK_BYTES},
        {.tag = "a", .records = 1, .text = "loud", .read_bytes = 1}};
    static const struct script quiet[] = {{.tag = "a", .records = 1, .text = "quiet"},
                                          {.tag = "a", .records = 1, .text = "quiet"},
                                          {.tag = "a", .records = 1, .text = "quiet"},
                                          {.tag = "a", .records = 1, .text = "quiet"},
                                          {.tag = "a", .records = 1, .text = "quiet"}};

    (void)state;
    one_worker(2);
    give(0, loud, TF_COUNT(loud));
    give(1, quiet, TF_COUNT(quiet));
    run();
    assert_true(find("loud record 0") < find("quiet record 0"));
    assert_true(find("quiet record 3") < find("loud record 1"));
    assert_true(find("loud record 1") < find("quiet record 4"));
}

/* Every second turn is an urgent source's, and the others get on. */
static void who_is_urgent_has_every_second_turn(void **state)
{
    static const struct script steps[3][4] = {{{.tag = "a", .records = 1, .text = "first"},
                                               {.tag = "a", .records = 1, .text = "first"},
                                               {.tag = "a", .records = 1, .text = "first"},
                                               {.tag = "a", .records = 1, .text = "first"}},
                                              {{.tag = "a", .records = 1, .text = "second"},
                                               {.tag = "a", .records = 1, .text = "second"},
                                               {.tag = "a", .records = 1, .text = "second"},
                                               {.tag = "a", .records = 1, .text = "second"}},
                                              {{.tag = "a", .records = 1, .text = "urgent"},
                                               {.tag = "a", .records = 1, .text = "urgent"},
                                               {.tag = "a", .records = 1, .text = "urgent"},
                                               {.tag = "a", .records = 1, .text = "urgent"}}};

    (void)state;
    one_worker(3);
    world->hurries_last = true;
    for (unsigned i = 0; i < 3; i++) {
        give(i, steps[i], 4);
    }
    run();
    assert_true(find("urgent record 3") < find("first record 2"));
    assert_true(find("urgent record 3") < find("second record 2"));
    assert_true(find("second record 0") < find("urgent record 1"));
}

/* A text that no rule can get through: the rule is named, once, in the audit. */
static void what_is_withheld_is_told_once(void **state)
{
    static const struct script steps[] = {{.tag = "a", .records = 3, .text_bytes = 0},
                                          {.tag = "a", .records = 3, .text_bytes = 0}};
    struct script bad[TF_COUNT(steps)];
    void *arena = tf_arena_new();
    void *options = tf_arena_alloc(arena, tf_filter_redact.options_bytes);
    static char text[60000];
    static const char piece[] = "secret\tpassword\ttoken\tapi_key\t";
    const size_t size = sizeof piece - 1;
    unsigned told = 0;

    (void)state;
    for (size_t i = 0; i + size < sizeof text; i += size) {
        memcpy(text + i, piece, size + 1);
    }
    memcpy(bad, steps, sizeof bad);
    bad[0].long_text = bad[1].long_text = text;
    assert_int_equal(tf_options_default(tf_filter_redact.options, options, arena), 0);
    world->filter =
        (struct tf_plugin_config){.kind = &tf_filter_redact, .name = "redact", .options = options};
    world->config.filters = (struct tf_plugin_list){.items = &world->filter, .count = 1};
    give(0, bad, TF_COUNT(bad));
    run();
    for (unsigned i = 0; i < world->text_count; i++) {
        told += strstr(world->texts[i], "\"event\":\"withheld\"") != NULL ? 1 : 0;
    }
    assert_int_equal(told, 1);
    assert_non_null(strstr(world->texts[find("\"event\":\"withheld\"")], "\"rule\":\""));
    assert_non_null(strstr(world->texts[find("\"event\":\"stop\"")], "\"withheld\":6"));
    tf_arena_free(arena);
}

/* Runs the first source through these filters; returns what is logged meanwhile, to be freed. */
static char *run_filtered(const char *filters, const struct script *steps, unsigned count)
{
    char yaml[1024], *text = calloc(1, 65536);
    FILE *log = tmpfile();
    int saved = dup(STDERR_FILENO);
    struct tf_config *config = NULL;
    struct tf_error err;

    assert_true(text != NULL && log != NULL && saved >= 0);
    (void)snprintf(yaml, sizeof yaml,
                   "inputs: [container: {}]\noutputs: [stdout: {}]\nfilters: [%s, redact: off]\n",
                   filters);
    tf_error_init(&err);
    assert_int_equal(
        tf_config_parse(tf_slice_text(yaml), "t.yaml", "/", &tf_plugins, &config, &err), 0);
    tf_error_fini(&err);
    world->config.filters = config->filters;
    give(0, steps, count);
    assert_true(dup2(fileno(log), STDERR_FILENO) >= 0);
    run();
    assert_true(dup2(saved, STDERR_FILENO) >= 0);
    assert_true(pread(fileno(log), text, 65535, 0) > 0);
    tf_config_free(config);
    (void)close(saved);
    (void)fclose(log);
    return text;
}

static void dropped_records_are_told_by_name(void **state)
{
    static const struct script steps[] = {{.tag = "a", .records = 3, .text = "probe"},
                                          {.tag = "b", .records = 2, .text = "probe"},
                                          {.tag = "b", .records = 2, .text = "shop"}};
    const char *stop;
    char *log;

    (void)state;
    log = run_filtered("select: {drop: [{name: probes, where: {tag: '^a$', host: '^node-1$', log: "
                       "'^probe'}}, {name: other, where: {tag: '^a$', host: '^node-2$'}}]},"
                       "select: {name: shop, match: [b], keep: [{name: shop, where: {log: shop}}]}",
                       steps, TF_COUNT(steps));
    stop = world->texts[find("\"event\":\"stop\"")];
    assert_non_null(strstr(stop, "\"decoded\":8")); /* seven and the start */
    assert_non_null(strstr(stop, "\"spooled\":3"));
    assert_non_null(strstr(stop, "\"filtered\":5"));
    assert_int_equal(world->drop_rules, 3); /* also those that dropped nothing yet */
    assert_non_null(strstr(log, " filter=select rule=probes dropped=3\n"));
    assert_non_null(strstr(log, " filter=shop rule=not-kept dropped=2\n"));
    assert_null(strstr(log, "rule=other"));
    assert_int_equal(world->text_count, 4);
    (void)find("shop record 5 ");
    assert_int_equal(world->sources[0].committed, 3);
    free(log);
}

/* What agents say of themselves is evidence: no filter but redact sees it, received or not. */
static void audit_records_pass_unseen(void **state)
{
    static const struct script steps[] = {{.tag = "taffrail.audit", .records = 1},
                                          {.tag = "a", .records = 1, .wants_gap = true}};

    (void)state;
    free(run_filtered("select: {drop: [{name: all, where: {log: ''}}]},"
                      "edit: {add: {team: shop}}",
                      steps, TF_COUNT(steps)));
    assert_int_equal(world->text_count, 4); /* start, the first step, its gap, stop */
    (void)find(" record 0 ");
    (void)find("\"reason\":\"copytruncate\"");
    for (unsigned i = 0; i < world->text_count; i++) {
        assert_null(strstr(world->texts[i], "team"));
    }
}

static void a_batch_in_mode_always_is_a_frame(void **state)
{
    static const struct script steps[] = {
        {.tag = "a", .records = 1}, {.tag = "a", .records = 1}, {.tag = "a", .records = 1}};

    (void)state;
    world->config.spool.sync.mode = TF_SYNC_ALWAYS;
    give(0, steps, TF_COUNT(steps));
    run();
    assert_int_equal(world->frames, 5);
}

static void many_short_records_fit_messages(void **state)
{
    static const struct script steps[] = {{.tag = "a", .records = 30000},
                                          {.tag = "a", .records = 30000},
                                          {.tag = "a", .records = 30000}};

    (void)state;
    world->config.spool.sync.interval_ms = 2000; /* so that they would join */
    give(0, steps, TF_COUNT(steps));
    run();
    assert_int_equal(world->text_count, 90002);
}

static void hold_newest(uint64_t delay_ms)
{
    world->delay_ms = delay_ms;
    world->filter = (struct tf_plugin_config){.kind = &holding_filter, .name = "holder"};
    world->config.filters = (struct tf_plugin_list){.items = &world->filter, .count = 1};
}

/* Nothing comes any more: the source is woken by the deadline, once. */
static void what_is_held_goes_out_by_its_deadline(void **state)
{
    static const struct script steps[] = {{.tag = "a", .records = 3}, {.tag = "a", .records = 2}};
    const struct fake_source *source = &world->sources[0];

    (void)state;
    hold_newest(30);
    give(0, steps, TF_COUNT(steps));
    run();
    assert_int_equal(source->pumps, 3);
    assert_int_equal(source->held_from[0], 2);
    assert_int_equal(source->held_from[1], 4);
    assert_int_equal(source->held_from[2], UINT64_MAX);
    for (unsigned i = 0; i < 5; i++) {
        char text[32];

        (void)snprintf(text, sizeof text, " record %u ", i);
        (void)find(text);
    }
    assert_int_equal(world->text_count, 7); /* with start and stop */
    assert_non_null(strstr(world->texts[find("\"event\":\"stop\"")], "\"decoded\":6"));
    assert_non_null(strstr(world->texts[find("\"event\":\"stop\"")], "\"spooled\":6"));
}

/* A stop leaves it to the next start, which reads it again: the position is before it. */
static void what_is_held_at_a_stop_is_not_done(void **state)
{
    static const struct script steps[] = {{.tag = "a", .records = 3}};

    (void)state;
    hold_newest(60000);
    world->stops_with_held = true;
    give(0, steps, TF_COUNT(steps));
    run();
    assert_int_equal(world->sources[0].held_from[0], 2);
    assert_int_equal(world->held, 1);
    assert_int_equal(world->held_at_end, 0); /* its source is gone */
    assert_int_equal(world->text_count, 4);
    assert_non_null(strstr(world->texts[find("\"event\":\"stop\"")], "\"decoded\":3"));
    assert_non_null(strstr(world->texts[find("\"event\":\"stop\"")], "\"spooled\":3"));
}

/* A file that was cut: it is read anew from its position, so what is held must not go out now. */
static void without_a_position_nothing_held_goes_out(void **state)
{
    static const struct script steps[] = {{.tag = "a", .records = 1}, {.no_position = true}};
    const struct fake_source *source = &world->sources[0];

    (void)state;
    hold_newest(0);
    give(0, steps, TF_COUNT(steps));
    run();
    assert_int_equal(source->pumps, 3);
    assert_int_equal(source->held_from[0], 0);
    assert_int_equal(source->held_from[2], UINT64_MAX); /* it went out with the third */
    (void)find(" record 0 ");
}

static void learn(uint64_t delay_ms)
{
    world->delay_ms = delay_ms;
    world->filter = (struct tf_plugin_config){.kind = &learning_filter, .name = "learner"};
    world->config.filters = (struct tf_plugin_list){.items = &world->filter, .count = 1};
}

/* Nothing is read before the filter knows the source; each record has what was known at its job. */
static void a_source_waits_until_its_filter_knows_it(void **state)
{
    static const struct script steps[] = {
        {.tag = "a", .records = 1}, {.tag = "a", .records = 2}, {.tag = "a", .records = 1}};

    (void)state;
    learn(20);
    give(0, steps, TF_COUNT(steps));
    run();
    assert_non_null(strstr(world->texts[find(" record 0 ")], "\"learned\":\"2\""));
    assert_non_null(strstr(world->texts[find(" record 1 ")], "\"learned\":\"3\""));
    assert_non_null(strstr(world->texts[find(" record 2 ")], "\"learned\":\"3\""));
    assert_non_null(strstr(world->texts[find(" record 3 ")], "\"learned\":\"4\""));
    assert_non_null(strstr(world->texts[find(" record 3 ")], "\"host\":\"node-1\""));
    assert_int_equal(world->renewed, 3);
    assert_int_equal(world->asked, 4);
    assert_int_equal(world->stopped_filters, 1);
}

/* It never does: reading goes on when the time is up. */
static void a_source_waits_no_longer_than_it_may(void **state)
{
    static const struct script steps[] = {{.tag = "a", .records = 1}};

    (void)state;
    learn(0);
    give(0, steps, TF_COUNT(steps));
    run();
    assert_null(strstr(world->texts[find(" record 0 ")], "learned"));
    assert_int_equal(world->asked, 2);
    assert_int_equal(world->renewed, 0);
}

/* What one filter has learned is not lost while another waits. */
static void what_is_known_outlasts_the_wait_of_another(void **state)
{
    static const struct script steps[] = {{.tag = "a", .records = 1}};
    struct tf_plugin_config both[] = {{.kind = &knowing_filter, .name = "knower"},
                                      {.kind = &learning_filter, .name = "learner"}};

    (void)state;
    learn(0);
    world->config.filters = (struct tf_plugin_list){.items = both, .count = TF_COUNT(both)};
    give(0, steps, TF_COUNT(steps));
    run();
    assert_int_equal(world->asked, 2); /* the other waited */
    assert_non_null(strstr(world->texts[find(" record 0 ")], "\"known\":\"yes\""));
}

/* Sources whose tag the filter does not match are none of its own. */
static void a_filter_learns_of_sources_that_it_matches(void **state)
{
    static const struct script steps[] = {{.tag = "a", .records = 1}};
    static struct tf_text other = {.text = "other"};

    (void)state;
    learn(1);
    world->filter.match = (struct tf_texts){.items = &other, .count = 1};
    give(0, steps, TF_COUNT(steps));
    run();
    assert_int_equal(world->asked, 0);
    assert_int_equal(world->renewed, 0);
}

static void events_of_the_spool_become_records(void **state)
{
    static const struct script steps[] = {{.tag = "a", .records = 1}};

    (void)state;
    world->raises_events = true;
    give(0, steps, TF_COUNT(steps));
    run();
    assert_int_equal(world->text_count, 3 + TF_EVENTS_MAX); /* start, one record, stop */
    assert_non_null(strstr(world->texts[find("event 1 ends")], "\"event\":\"fork\""));
    assert_non_null(strstr(world->texts[find("event 63 ends")], "\"tag\":\"taffrail.audit\""));
    assert_true(find("event 63 ends") < find("\"event\":\"stop\""));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(events_of_the_spool_become_records, set_up, tear_down),
        cmocka_unit_test_setup_teardown(records_arrive_once_and_in_order, set_up, tear_down),
        cmocka_unit_test_setup_teardown(tags_and_gaps_keep_the_order_of_their_source, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(start_and_stop_are_told_with_the_books, set_up, tear_down),
        cmocka_unit_test_setup_teardown(positions_without_events_make_no_frame_for_outputs, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_batch_that_is_too_large_is_told_to_its_input, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(two_sources_share_frames, set_up, tear_down),
        cmocka_unit_test_setup_teardown(filters_run_and_are_counted, set_up, tear_down),
        cmocka_unit_test_setup_teardown(who_takes_much_passes_turns_by, set_up, tear_down),
        cmocka_unit_test_setup_teardown(who_is_urgent_has_every_second_turn, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_is_withheld_is_told_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(dropped_records_are_told_by_name, set_up, tear_down),
        cmocka_unit_test_setup_teardown(audit_records_pass_unseen, set_up, tear_down),
        cmocka_unit_test_setup_teardown(many_short_records_fit_messages, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_batch_in_mode_always_is_a_frame, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_is_held_goes_out_by_its_deadline, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_is_held_at_a_stop_is_not_done, set_up, tear_down),
        cmocka_unit_test_setup_teardown(without_a_position_nothing_held_goes_out, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_source_waits_until_its_filter_knows_it, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_source_waits_no_longer_than_it_may, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_is_known_outlasts_the_wait_of_another, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_filter_learns_of_sources_that_it_matches, set_up,
                                        tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
