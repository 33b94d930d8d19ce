/*
 * filter.c - the descriptor of the multiline filter, and how it goes through a batch.
 *
 * A record without marks and with a text in `log` is a line. It is judged (judge.c), and joins what
 * is open in its stream, or ends it and starts another (joint.c). What is open at the end of a
 * batch is held back until its next line comes, until its deadline, or until there is nothing to
 * come. It is not in the position, so a restart reads it again and nothing of the state is saved.
 *
 * A record that has reached max_lines or max_size goes out, and the stream goes on where it stands:
 * a line that continues then starts another. So does one that comes when the deadline is over.
 *
 * A batch that may not be held (of received messages) is joined within itself. Its fields tell its
 * senders apart: a line that has others than the line before belongs to something else.
 *
 * After an error the state is good for nothing: the pipeline goes back and makes a new one.
 */
#include "multiline.h"

#include <errno.h>
#include <stdlib.h>

#include "joint.h"

static const struct tf_option options[] = {
    {.name = "presets",
     .type = TF_OPTION_TEXTS,
     .offset = offsetof(struct tf_multiline_options, presets),
     .about = "languages whose traces are joined"},
    {.name = "start",
     .type = TF_OPTION_TEXT,
     .offset = offsetof(struct tf_multiline_options, start),
     .about = "regex: a line that matches begins a record"},
    {.name = "continue",
     .type = TF_OPTION_TEXT,
     .offset = offsetof(struct tf_multiline_options, continues),
     .about = "regex: a line that matches belongs to the record before it"},
    {.name = "end",
     .type = TF_OPTION_TEXT,
     .offset = offsetof(struct tf_multiline_options, end),
     .about = "regex: a line that matches is the last of its record"},
    {.name = "max_lines",
     .type = TF_OPTION_COUNT,
     .offset = offsetof(struct tf_multiline_options, max_lines),
     .def = "500",
     .min = 2,
     .max = 10000,
     .about = "lines of a record; the next one begins another"},
    {.name = "max_size",
     .type = TF_OPTION_SIZE,
     .offset = offsetof(struct tf_multiline_options, max_size_bytes),
     .def = "256KiB",
     .min = 1024,
     .max = 1 << 20,
     .about = "bytes of a record; the line that would pass it begins another"},
    {.name = "max_delay",
     .type = TF_OPTION_TIME,
     .offset = offsetof(struct tf_multiline_options, max_delay_ms),
     .def = "1s",
     .min = 10,
     .max = 60000,
     .about = "how long the first line of a record waits for the others"},
    {0},
};

#define JOINED 0u /* its one rule */

struct multiline {
    uint16_t index; /* for tf_batch_tally */
    struct tf_judge *judge;
    uint32_t max_lines;
    uint32_t max_size_bytes;
    uint64_t max_delay_ms;
};

/* One stream. */
struct stream {
    struct tf_standing standing;
    struct tf_joint joint;
};

struct streams {
    struct stream each[TF_STREAMS];
};

/* Of a source. Most of the time nothing is open in it, and there are many. */
struct state {
    struct streams *open; /* NULL: nothing is */
};

struct scratch {
    struct tf_judge_scratch *judging;
    struct streams own; /* for a batch of a source where nothing is open; empty in between */
};

/* ---- a batch ------------------------------------------------------------------------------------
 */

struct pass {
    const struct multiline *multiline;
    struct tf_judge_scratch *judging;
    struct streams *streams;
    struct tf_batch *batch;
};

/* The number of the field behind a field and all that is in it. */
static uint32_t behind(const struct tf_batch *batch, uint32_t at)
{
    uint64_t left = 1;

    for (; left > 0; at++) {
        const struct tf_field *field = &batch->fields[at];

        left--;
        left +=
            field->type == TF_VALUE_MAP || field->type == TF_VALUE_ARRAY ? field->value.count : 0;
    }
    return at;
}

static bool is_log(const struct tf_batch *batch, const struct tf_field *field)
{
    return field->type == TF_VALUE_TEXT && field->key_size == 3 &&
           memcmp(batch->text.data + field->key_at, "log", 3) == 0;
}

/* Finds the text of a record that may be joined: one without marks. */
static bool find_line(const struct tf_batch *batch, uint32_t number, struct tf_line *out)
{
    const struct tf_record *record = &batch->records[number];
    uint32_t end = record->first_field + record->field_count;

    if (record->flags != 0) {
        return false;
    }
    for (uint32_t at = record->first_field; at < end; at = behind(batch, at)) {
        if (is_log(batch, &batch->fields[at])) {
            *out = (struct tf_line){.record = number, .field = at};
            return true;
        }
    }
    return false;
}

/* Whether the line may be added. The arena has room for all that is open and this. */
static bool has_room(const struct pass *pass, const struct tf_joint *joint, size_t line_bytes)
{
    const struct multiline *multiline = pass->multiline;
    size_t open_bytes = TF_STREAMS * ((size_t)multiline->max_size_bytes + 1);

    return joint->lines < multiline->max_lines &&
           tf_joint_bytes(joint, pass->batch) + 1 + line_bytes <= multiline->max_size_bytes &&
           pass->batch->text.size + open_bytes <= TF_BATCH_TEXT_MAX;
}

/* What is open ends before the record *at, which moves on when a place is made for it. */
static int end_open(struct pass *pass, struct stream *stream, uint32_t *at)
{
    return tf_joint_end(&stream->joint, pass->batch, at);
}

/* The line is of something else than those before it, or cannot be joined. */
static int break_off(struct pass *pass, struct stream *stream, uint32_t *at)
{
    stream->standing = (struct tf_standing){0};
    return end_open(pass, stream, at);
}

/* Ends what is open and lets the line start a record, unless it is too large to be held. */
static int start_line(struct pass *pass, struct stream *stream, struct tf_line line,
                      size_t line_bytes, uint32_t *at)
{
    int rc = end_open(pass, stream, at);

    line.record = *at;
    if (rc == 0 && line_bytes <= pass->multiline->max_size_bytes) {
        tf_joint_start(&stream->joint, pass->batch, line,
                       pass->batch->now_ms + pass->multiline->max_delay_ms);
    }
    return rc;
}

static int take_line(struct pass *pass, struct stream *stream, struct tf_line line, uint32_t *at)
{
    struct tf_joint *joint = &stream->joint;
    const struct tf_field *field = &pass->batch->fields[line.field];
    struct tf_slice text =
        tf_batch_slice(pass->batch, field->value.text.at, field->value.text.size);
    struct tf_verdict verdict =
        tf_judge_line(pass->multiline->judge, pass->judging, &stream->standing, text);
    int rc;

    if (verdict.kind == TF_LINE_ALONE) {
        return end_open(pass, stream, at);
    }
    if (verdict.kind == TF_LINE_CONTINUES && joint->lines > 0 && has_room(pass, joint, text.size)) {
        rc = tf_joint_add(joint, pass->batch, line);
    } else {
        rc = start_line(pass, stream, line, text.size, at);
    }
    return rc == 0 && verdict.is_last ? end_open(pass, stream, at) : rc;
}

static int take_record(struct pass *pass, uint32_t *at)
{
    struct stream *stream = &pass->streams->each[pass->batch->records[*at].stream];
    struct tf_line line = {.record = *at};
    bool is_line = find_line(pass->batch, *at, &line);
    int rc = 0;

    if (!is_line ||
        (stream->joint.lines > 0 && !tf_joint_agrees(&stream->joint, pass->batch, line))) {
        rc = break_off(pass, stream, at);
        line.record = *at;
    }
    return rc == 0 && is_line ? take_line(pass, stream, line, at) : rc;
}

static int take_records(struct pass *pass)
{
    const struct tf_batch *batch = pass->batch;
    int rc = 0;

    for (uint32_t at = 0; at < batch->record_count && rc == 0; at++) {
        if ((batch->records[at].flags & TF_RECORD_DROPPED) == 0) {
            rc = take_record(pass, &at);
        }
    }
    return rc;
}

/* What is still open goes out behind the batch, or waits. */
static int finish_stream(struct pass *pass, struct stream *stream)
{
    const struct tf_batch *batch = pass->batch;
    uint32_t at = batch->record_count;
    bool is_due = batch->now_ms >= stream->joint.deadline_ms;
    int rc = 0;

    if (!batch->may_hold || batch->is_last) {
        rc = break_off(pass, stream, &at);
    } else if (is_due) {
        rc = end_open(pass, stream, &at);
    }
    if (rc < 0) {
        return rc;
    }
    rc = tf_joint_hold(&stream->joint, pass->batch);
    return rc == -EMSGSIZE ? end_open(pass, stream, &at) : rc;
}

static void empty_streams(struct streams *streams)
{
    for (unsigned i = 0; i < TF_STREAMS; i++) {
        tf_joint_fini(&streams->each[i].joint);
        streams->each[i].standing = (struct tf_standing){0};
    }
}

static bool is_open(const struct streams *streams)
{
    static const struct tf_standing none;

    for (unsigned i = 0; i < TF_STREAMS; i++) {
        if (streams->each[i].joint.lines > 0 ||
            memcmp(&streams->each[i].standing, &none, sizeof none) != 0) {
            return true;
        }
    }
    return false;
}

static void init_streams(const struct multiline *multiline, struct streams *streams)
{
    for (unsigned i = 0; i < TF_STREAMS; i++) {
        streams->each[i] = (struct stream){.standing = {.states = {0}}};
        tf_joint_init(&streams->each[i].joint, multiline->max_size_bytes);
    }
}

/* What the batch left open stays with its source; else this has no streams. Returns 0 or -ENOMEM.
 */
static int keep_open(const struct pass *pass, struct state *state)
{
    if (!is_open(pass->streams)) {
        empty_streams(pass->streams);
        free(state->open);
        state->open = NULL;
        return 0;
    }
    if (state->open != NULL) {
        return 0;
    }
    state->open = malloc(sizeof *state->open);
    if (state->open == NULL) {
        return -ENOMEM;
    }
    *state->open = *pass->streams;
    init_streams(pass->multiline, pass->streams); /* the scratch's own */
    return 0;
}

static int multiline_apply(void *self, void *scratch, void *state, struct tf_batch *batch)
{
    struct scratch *own = scratch;
    struct state *kept = state;
    struct pass pass = {.multiline = self,
                        .judging = own->judging,
                        .streams = kept != NULL && kept->open != NULL ? kept->open : &own->own,
                        .batch = batch};
    uint32_t joined = batch->joined;
    int rc = take_records(&pass);

    for (unsigned i = 0; i < TF_STREAMS && rc == 0; i++) {
        rc = finish_stream(&pass, &pass.streams->each[i]);
    }
    if (batch->joined > joined) {
        tf_batch_tally(batch, pass.multiline->index, JOINED, batch->joined - joined);
    }
    if (rc == 0 && kept != NULL) {
        rc = keep_open(&pass, kept);
    }
    if (rc < 0) {
        empty_streams(pass.streams);
    }
    return rc;
}

/* ---- the descriptor -----------------------------------------------------------------------------
 */

static void multiline_close(void *self)
{
    struct multiline *multiline = self;

    if (multiline != NULL) {
        tf_judge_free(multiline->judge);
        free(multiline);
    }
}

static int multiline_open(const struct tf_filter_args *args, void **self, struct tf_error *err)
{
    const struct tf_multiline_options *chosen = args->options;
    struct multiline *multiline = calloc(1, sizeof *multiline);
    int rc;

    if (multiline == NULL) {
        return -ENOMEM;
    }
    multiline->index = args->index;
    multiline->max_lines = (uint32_t)chosen->max_lines;
    multiline->max_size_bytes = (uint32_t)chosen->max_size_bytes;
    multiline->max_delay_ms = chosen->max_delay_ms;
    rc = tf_judge_new(chosen, &args->at, &multiline->judge, err);
    if (rc < 0) {
        multiline_close(multiline);
        return rc;
    }
    *self = multiline;
    return 0;
}

static void *scratch_new(void *self)
{
    struct scratch *scratch = calloc(1, sizeof *scratch);

    if (scratch == NULL) {
        return NULL;
    }
    init_streams(self, &scratch->own);
    scratch->judging = tf_judge_scratch_new();
    if (scratch->judging == NULL) {
        free(scratch);
        return NULL;
    }
    return scratch;
}

static void scratch_free(void *self)
{
    struct scratch *scratch = self;

    if (scratch != NULL) {
        empty_streams(&scratch->own);
        tf_judge_scratch_free(scratch->judging);
        free(scratch);
    }
}

static void *state_new(void *self)
{
    (void)self;
    return calloc(1, sizeof(struct state));
}

static void state_free(void *self)
{
    struct state *state = self;

    if (state != NULL && state->open != NULL) {
        empty_streams(state->open);
        free(state->open);
    }
    free(state);
}

static void held(const void *self, struct tf_filter_held *out)
{
    const struct state *state = self;

    *out = (struct tf_filter_held){.records = 0};
    for (unsigned i = 0; i < TF_STREAMS; i++) {
        static const struct tf_joint none;
        const struct tf_joint *joint = state->open != NULL ? &state->open->each[i].joint : &none;

        out->from[i] = joint->lines > 0 ? joint->source_at : UINT64_MAX;
        out->records += joint->lines;
        if (joint->lines > 0 && (out->deadline_ms == 0 || joint->deadline_ms < out->deadline_ms)) {
            out->deadline_ms = joint->deadline_ms;
        }
    }
}

static const char *rule_name(const void *self, uint16_t rule)
{
    (void)self;
    return rule == JOINED ? "joined" : NULL;
}

const struct tf_filter_kind tf_filter_multiline = {
    .name = "multiline",
    .options = options,
    .options_bytes = sizeof(struct tf_multiline_options),
    .open = multiline_open,
    .close = multiline_close,
    .scratch_new = scratch_new,
    .scratch_free = scratch_free,
    .state_new = state_new,
    .state_free = state_free,
    .held = held,
    .apply = multiline_apply,
    .rule_name = rule_name,
};
