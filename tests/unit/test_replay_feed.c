/*
 * test_replay_feed.c - a replay as an output sees it: what is acked is kept in mind, however it
 * ends.
 */
#include "segment_fixture.h"

#include <uv.h>

#include "../../agent/replay/feed.h"

#define FRAMES_MAX  16u
#define DEADLINE_MS 10000u

struct run {
    struct fixture *f;
    uv_loop_t loop;
    struct tf_query *query;
    struct tf_pick pick;
    struct tf_job job;
    struct tf_replay_feed *replay;
    struct tf_frame *frames[FRAMES_MAX]; /* handed out and not acked */
    uint32_t count;
    char got[TEXT_MAX];
    bool is_idle, is_closed;
    int status;
};

static bool add_text(void *ctx, struct tf_slice text)
{
    struct run *run = ctx;
    size_t used = strlen(run->got);

    (void)snprintf(run->got + used, sizeof run->got - used, "%.*s ", (int)text.size, text.data);
    return true;
}

/* Takes what there is, as an output does. */
static void take(void *ctx)
{
    struct run *run = ctx;
    struct tf_frame *frame;

    while (run->count < FRAMES_MAX && tf_feed_next(tf_replay_feed_get(run->replay), &frame) == 0) {
        struct tf_buf events;

        tf_buf_init(&events, 65536);
        (void)tf_archive_inflate(frame->payload, &events);
        (void)tf_event_any(tf_buf_slice(&events), tf_slice_text("log"), add_text, run);
        tf_buf_fini(&events);
        run->frames[run->count++] = frame;
    }
}

static void on_idle(void *ctx, int status)
{
    struct run *run = ctx;

    run->is_idle = true;
    run->status = status;
}

/* An audit event whose text is BEGIN, or END and how many records are acked. */
static int say(void *ctx, const struct tf_job_state *state, bool is_end, struct tf_buf *event)
{
    char text[32];

    (void)ctx;
    (void)snprintf(text, sizeof text, "%s%llu", is_end ? "END" : "BEGIN",
                   (unsigned long long)state->records);
    put_event(event, BASE_NS, text);
    return event->error;
}

static void on_closed(void *ctx)
{
    ((struct run *)ctx)->is_closed = true;
}

/* Opens the spool and the job, new or as it was left. match: of the output; NULL: nothing is said.
 */
static void begin_to(struct run *run, struct fixture *f, uint32_t window, uint64_t limit,
                     const struct tf_texts *match)
{
    struct tf_job_state fresh = {.step = TF_JOB_RUNNING, .from_ns = INT64_MIN, .to_ns = INT64_MAX};
    struct tf_replay_feed_options options = {.loop = &run->loop,
                                             .pick = &run->pick,
                                             .job = &run->job,
                                             .name = "case",
                                             .window = window,
                                             .say = match != NULL ? say : NULL,
                                             .on_ready = take,
                                             .on_idle = on_idle,
                                             .ctx = run};
    struct tf_error err;
    int root = open(f->root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    *run = (struct run){.f = f};
    tf_error_init(&err);
    open_archive(f);
    assert_int_equal(tf_query_new(&(struct tf_query_options){0}, 0, &run->query, &err), 0);
    assert_true(tf_job_open(root, "case", &fresh, &run->job, &err) >= 0);
    tf_error_fini(&err);
    (void)close(root);
    assert_int_equal(uv_loop_init(&run->loop), 0);
    tf_pick_init(&run->pick, f->archive, run->query, run->job.state.seq);
    run->pick.limit = limit;
    run->pick.match = match;
    assert_int_equal(tf_replay_feed_open(&options, &run->replay), 0);
    take(run);
}

static void begin(struct run *run, struct fixture *f, uint32_t window, uint64_t limit)
{
    begin_to(run, f, window, limit, NULL);
}

static void ack(struct run *run, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        (void)tf_feed_ack(tf_replay_feed_get(run->replay), run->frames[i]->seq);
        tf_frame_unref(run->frames[i]);
    }
    run->count -= count;
    memmove(run->frames, run->frames + count, run->count * sizeof run->frames[0]);
}

static void end(struct run *run)
{
    while (run->count > 0) {
        tf_frame_unref(run->frames[--run->count]);
    }
    tf_replay_feed_close(run->replay, on_closed, run);
    while (!run->is_closed) {
        (void)uv_run(&run->loop, UV_RUN_ONCE);
    }
    assert_int_equal(uv_loop_close(&run->loop), 0);
    tf_pick_fini(&run->pick);
    tf_query_free(run->query);
    tf_job_close(&run->job);
    tf_archive_close(run->f->archive);
    run->f->archive = NULL;
}

static void on_deadline(uv_timer_t *timer)
{
    *(bool *)timer->data = true;
}

/* Turns the loop until so many frames are held, or nothing more comes. */
static void wait_for(struct run *run, uint32_t count)
{
    bool is_late = false;
    uv_timer_t timer;

    (void)uv_timer_init(&run->loop, &timer);
    timer.data = &is_late;
    (void)uv_timer_start(&timer, on_deadline, DEADLINE_MS, 0);
    while (!is_late && !run->is_idle && run->count < count) {
        (void)uv_run(&run->loop, UV_RUN_ONCE);
    }
    uv_close((uv_handle_t *)&timer, NULL);
    (void)uv_run(&run->loop, UV_RUN_NOWAIT);
    assert_false(is_late);
}

static void wait_idle(struct run *run, int status)
{
    wait_for(run, UINT32_MAX);
    assert_true(run->is_idle);
    assert_int_equal(run->status, status);
}

/* To the end, acking all that comes. */
static void finish(struct run *run)
{
    while (!run->is_idle) {
        wait_for(run, 1);
        ack(run, run->count);
        take(run);
    }
    assert_int_equal(run->status, 0);
    assert_int_equal(run->job.state.step, TF_JOB_DONE);
}

static int teardown_folder(void **state)
{
    char path[96];

    (void)snprintf(path, sizeof path, "%s/case.job", ((struct fixture *)*state)->root);
    (void)unlink(path);
    return teardown(state);
}

/* ---- tests --------------------------------------------------------------------------------------
 */

static void a_stopped_job_waits_for_acks_and_goes_on_behind_them(void **state)
{
    struct run run;

    fill(*state, 1, 3, true);
    begin(&run, *state, 2, UINT64_MAX);
    wait_for(&run, 2);
    tf_replay_feed_stop(run.replay);
    ack(&run, 1);
    for (int i = 0; i < 20; i++) {
        (void)uv_run(&run.loop, UV_RUN_NOWAIT);
    }
    assert_false(run.is_idle); /* one is in flight */
    take(&run);
    assert_string_equal(run.got, "1a 1b "); /* though there is room for another */
    ack(&run, 1);
    wait_idle(&run, -ECANCELED);
    assert_int_equal(run.job.state.records, 2);
    end(&run);
    begin(&run, *state, 2, UINT64_MAX);
    finish(&run);
    assert_string_equal(run.got, "1c 2a 2b 2c 3a 3b 3c ");
    assert_int_equal(run.job.state.records, 9);
    end(&run);
}

static void a_job_that_is_given_up_ships_again_what_was_in_flight(void **state)
{
    struct run run;

    fill(*state, 1, 3, true);
    begin(&run, *state, 4, UINT64_MAX);
    wait_for(&run, 4);
    ack(&run, 1);
    tf_replay_feed_stop(run.replay);
    tf_replay_feed_give_up(run.replay);
    wait_idle(&run, -ECANCELED);
    assert_int_equal(run.job.state.records, 1);
    take(&run);
    assert_string_equal(run.got, "1a 1b 1c 2a "); /* nothing of it again to this output */
    end(&run);
    begin(&run, *state, 4, UINT64_MAX);
    finish(&run);
    assert_string_equal(run.got, "1b 1c 2a 2b 2c 3a 3b 3c ");
    end(&run);
}

/* A segment that cannot be opened, behind eight frames: that is one read. */
static void a_spool_that_cannot_be_read_ends_a_job_behind_its_acks(void **state)
{
    struct fixture *f = *state;
    char name[TF_SEGMENT_NAME_BYTES];
    struct run run;

    fill(f, 1, 5, true);
    begin(&run, f, 16, UINT64_MAX);
    tf_segment_name(4, name);
    assert_int_equal(renameat(f->dir_fd, name, f->dir_fd, "aside"), 0);
    assert_int_equal(symlinkat("aside", f->dir_fd, name), 0);
    wait_for(&run, 8);
    ack(&run, 8);
    wait_idle(&run, -ELOOP);
    assert_string_equal(run.got, "1a 1b 1c 2a 2b 2c 3a 3b ");
    assert_int_equal(run.job.state.records, 8);
    assert_int_equal(run.job.state.step, TF_JOB_RUNNING);
    end(&run);
    assert_int_equal(renameat(f->dir_fd, "aside", f->dir_fd, name), 0);
    begin(&run, f, 16, UINT64_MAX);
    finish(&run);
    assert_string_equal(run.got, "3c 4a 4b 4c 5a 5b 5c ");
    end(&run);
}

static void a_limit_ends_a_job(void **state)
{
    struct run run;

    fill(*state, 1, 3, true);
    begin(&run, *state, 16, 4);
    finish(&run);
    assert_string_equal(run.got, "1a 1b 1c 2a ");
    assert_int_equal(run.job.state.records, 4);
    end(&run);
}

static const struct tf_text all_tags[] = {{.text = "**"}}, no_audit[] = {{.text = "container"}};

static void who_ships_is_said_before_and_behind(void **state)
{
    struct tf_texts match = {.items = (struct tf_text *)all_tags, .count = 1};
    struct run run;

    fill(*state, 1, 2, true);
    begin_to(&run, *state, 4, UINT64_MAX, &match);
    wait_for(&run, 3);
    assert_string_equal(run.frames[0]->tag, "taffrail.audit");
    assert_string_equal(run.frames[0]->replayed, "case");
    assert_true(run.frames[0]->seq > 0 && run.frames[0]->seq < run.frames[1]->seq);
    tf_replay_feed_stop(run.replay);
    ack(&run, run.count);
    wait_idle(&run, -ECANCELED);
    assert_string_equal(run.got, "BEGIN0 1a 1b 1c ");
    assert_int_equal(run.job.state.records, 3); /* what is said is none */
    end(&run);
    begin_to(&run, *state, 4, UINT64_MAX, &match);
    finish(&run);
    assert_string_equal(run.got, "BEGIN3 2a 2b 2c END6 ");
    assert_int_equal(run.job.state.records, 6);
    end(&run);
}

/* The output's match counts, as for what an agent says of itself. */
static void an_output_without_audit_is_told_nothing(void **state)
{
    struct tf_texts match = {.items = (struct tf_text *)no_audit, .count = 1};
    struct run run;

    fill(*state, 1, 1, true);
    begin_to(&run, *state, 4, UINT64_MAX, &match);
    finish(&run);
    assert_string_equal(run.got, "1a 1b 1c ");
    end(&run);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_stopped_job_waits_for_acks_and_goes_on_behind_them),
        TEST(a_job_that_is_given_up_ships_again_what_was_in_flight),
        TEST(a_spool_that_cannot_be_read_ends_a_job_behind_its_acks),
        TEST(a_limit_ends_a_job),
        TEST(who_ships_is_said_before_and_behind),
        TEST(an_output_without_audit_is_told_nothing),
    };

    return cmocka_run_group_tests_name("replay_feed", tests, NULL, NULL);
}
