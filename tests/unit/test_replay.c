/*
 * test_replay.c - what a replay looks for, what it tells of losses, and what a job remembers.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../agent/replay/gaps.h"
#include "../../agent/replay/job.h"
#include "../../agent/replay/query.h"

#include "taffrail/event.h"

#define NOW_NS  (INT64_C(1795435200) * TF_S_IN_NS) /* 2026-11-23T12:00:00Z */
#define HOUR_NS (INT64_C(3600) * TF_S_IN_NS)

/* ---- times --------------------------------------------------------------------------------------
 */

static int64_t when(const char *text, const int64_t *from_ns)
{
    int64_t out = 0;

    assert_int_equal(tf_when_parse(text, NOW_NS, from_ns, &out), 0);
    return out;
}

static void times_are_absolute_or_relative(void **state)
{
    int64_t from_ns = when("2026-11-20", NULL);

    (void)state;
    assert_int_equal(when("now", NULL), NOW_NS);
    assert_int_equal(when("2026-11-23T12:00:00Z", NULL), NOW_NS);
    assert_int_equal(when("2026-11-23T13:00:00+01:00", NULL), NOW_NS);
    assert_int_equal(when("2026-11-23", NULL), NOW_NS - 12 * HOUR_NS);
    assert_int_equal(when("-2h", NULL), NOW_NS - 2 * HOUR_NS);
    assert_int_equal(when("-1d", NULL), NOW_NS - 24 * HOUR_NS);
    assert_int_equal(when("-1h30m", NULL), NOW_NS - 3 * HOUR_NS / 2);
    assert_int_equal(when("-90s", NULL), NOW_NS - 90 * TF_S_IN_NS);
    assert_int_equal(when("+72h", &from_ns), from_ns + 72 * HOUR_NS);
}

static void other_times_are_refused(void **state)
{
    static const char *const wrong[] = {
        "",     "yesterday", "2026-13-01", "2026-11-23T12:00:00", "-",    "-2",   "-h",
        "-2w",  "-2h3",      "+2h",        "-99999999999999999h", "--2h", "- 2h", "2026-11-23 ",
        "now ", "-40000d",   "-2h-3m"};
    int64_t out;

    (void)state;
    for (size_t i = 0; i < TF_COUNT(wrong); i++) {
        assert_int_equal(tf_when_parse(wrong[i], NOW_NS, NULL, &out), -EINVAL);
    }
}

/* ---- queries ------------------------------------------------------------------------------------
 */

static void put_text(struct tf_buf *out, const char *key, const char *value)
{
    tf_msgpack_text(out, tf_slice_text(key));
    tf_msgpack_text(out, tf_slice_text(value));
}

static void put_head(struct tf_buf *out, uint32_t pairs)
{
    static const uint8_t time[] = {0xd7, 0, 0x6b, 0x04, 0x7a, 0x40, 0, 0, 0, 0};

    tf_buf_init(out, 1u << 20);
    tf_msgpack_array(out, 2);
    (void)tf_buf_append(out, time, sizeof time);
    tf_msgpack_map(out, pairs);
}

static void put_record(struct tf_buf *out, const char *name, const char *log)
{
    put_head(out, 2);
    tf_msgpack_text(out, tf_slice_text("kubernetes"));
    tf_msgpack_map(out, 1);
    put_text(out, "namespace_name", name);
    put_text(out, "log", log);
    assert_int_equal(out->error, 0);
}

static struct tf_query *new_query(const struct tf_query_options *options)
{
    struct tf_query *query = NULL;
    struct tf_error err;

    tf_error_init(&err);
    assert_int_equal(tf_query_new(options, NOW_NS, &query, &err), 0);
    tf_error_fini(&err);
    return query;
}

static bool matches(struct tf_query *query, int64_t time_ns, const char *name, const char *log)
{
    struct tf_buf event;
    bool found;

    put_record(&event, name, log);
    found = tf_query_matches(query, time_ns, tf_slice_text("container"), tf_buf_slice(&event));
    tf_buf_fini(&event);
    return found;
}

static void all_conditions_must_hold(void **state)
{
    struct tf_query *query = new_query(
        &(struct tf_query_options){.from = "-2h",
                                   .to = "+1h",
                                   .where = {"kubernetes.namespace_name=sh?p", "tag=cont*"},
                                   .where_count = 2,
                                   .grep = "charge (failed|done)$"});
    int64_t inside = NOW_NS - 3 * HOUR_NS / 2;

    (void)state;
    assert_true(matches(query, inside, "shop", "the charge failed"));
    assert_true(matches(query, NOW_NS - 2 * HOUR_NS, "shop", "charge done"));
    assert_false(matches(query, NOW_NS - HOUR_NS, "shop", "charge done"));
    assert_false(matches(query, NOW_NS - 2 * HOUR_NS - 1, "shop", "charge done"));
    assert_false(matches(query, inside, "shops", "charge done"));
    assert_false(matches(query, inside, "shop", "charge done?"));
    assert_int_equal(tf_query_undecided(query), 0);
    tf_query_free(query);
}

static void nothing_asked_for_is_everything(void **state)
{
    struct tf_query *query = new_query(&(struct tf_query_options){0});

    (void)state;
    assert_true(matches(query, 0, "", ""));
    assert_true(matches(query, INT64_MIN, "", ""));
    tf_query_free(query);
}

static void what_is_not_decided_matches_and_is_counted(void **state)
{
    struct tf_query *query = new_query(&(struct tf_query_options){.grep = "^(a+)+$"});
    char food[64];

    (void)state;
    memset(food, 'a', sizeof food);
    food[sizeof food - 2] = 'b';
    food[sizeof food - 1] = '\0';
    assert_true(matches(query, NOW_NS, "", food));
    assert_int_equal(tf_query_undecided(query), 1);
    tf_query_free(query);
}

/* 64 KiB for a glob, which takes pattern times text steps. */
static void a_long_value_is_not_decided(void **state)
{
    struct tf_query *query = new_query(
        &(struct tf_query_options){.where = {"kubernetes.namespace_name=shop*"}, .where_count = 1});
    char *name = calloc(1, (64u << 10) + 2);

    (void)state;
    assert_non_null(name);
    memset(name, 'a', 64u << 10);
    assert_false(matches(query, NOW_NS, name, ""));
    memcpy(name, "shop", 4);
    assert_true(matches(query, NOW_NS, name, ""));
    assert_int_equal(tf_query_undecided(query), 0);
    memset(name, 'a', (64u << 10) + 1);
    assert_true(matches(query, NOW_NS, name, ""));
    assert_int_equal(tf_query_undecided(query), 1);
    free(name);
    tf_query_free(query);
}

static void all_that_is_wrong_is_said_at_once(void **state)
{
    struct tf_query *query = NULL;
    struct tf_error err;

    (void)state;
    tf_error_init(&err);
    assert_int_equal(tf_query_new(
                         &(struct tf_query_options){
                             .from = "soon", .where = {"x", "=y"}, .where_count = 2, .grep = "("},
                         NOW_NS, &query, &err),
                     -EINVAL);
    assert_int_equal(err.errors, 4);
    tf_error_fini(&err);
    tf_error_init(&err);
    assert_int_equal(
        tf_query_new(&(struct tf_query_options){.from = "now", .to = "-1h"}, NOW_NS, &query, &err),
        -EINVAL);
    tf_error_fini(&err);
    assert_null(query);
}

/* ---- gaps ---------------------------------------------------------------------------------------
 */

static const char *print_gaps(const struct tf_gaps *gaps)
{
    static char text[4096];
    FILE *to = fmemopen(text, sizeof text, "w");

    assert_non_null(to);
    tf_gaps_print(gaps, to);
    assert_int_equal(fclose(to), 0);
    return text;
}

static void a_gap_record_is_a_sentence(void **state)
{
    struct tf_gaps *gaps = calloc(1, sizeof *gaps);
    struct tf_buf event;

    (void)state;
    put_head(&event, 5);
    put_text(&event, "event", "gap");
    put_text(&event, "reason", "copytruncate");
    put_text(&event, "log", "up to 18432 bytes lost at copytruncate");
    tf_msgpack_text(&event, tf_slice_text("bytes_max"));
    tf_msgpack_uint(&event, 18432);
    tf_msgpack_text(&event, tf_slice_text("kubernetes"));
    tf_msgpack_map(&event, 2);
    put_text(&event, "namespace_name", "shop");
    put_text(&event, "pod_name", "pay-\x1b[2J0");
    tf_gaps_add_event(gaps, NOW_NS, tf_slice_text("container"), tf_buf_slice(&event));
    assert_string_equal(print_gaps(gaps), "\n"); /* not the agent's own */
    tf_gaps_add_event(gaps, NOW_NS, tf_slice_text("taffrail.audit"), tf_buf_slice(&event));
    assert_string_equal(print_gaps(gaps),
                        "; 1 gap inside: 2026-11-23T12:00:00Z, shop/pay-?[2J0, up "
                        "to 18 KiB lost at copytruncate\n");
    tf_buf_fini(&event);
    free(gaps);
}

static void neighbours_are_joined_and_all_are_counted(void **state)
{
    struct tf_gaps *gaps = calloc(1, sizeof *gaps);

    (void)state;
    for (uint64_t no = 4; no <= 9; no++) {
        tf_gaps_add_loss(gaps, &(struct tf_archived){.kind = TF_ARCHIVED_EXPIRED,
                                                     .segment_no = no,
                                                     .from_seq = (UINT64_C(1) << 40) + no * 10,
                                                     .to_seq = (UINT64_C(1) << 40) + no * 10 + 9});
    }
    assert_string_equal(print_gaps(gaps),
                        "\nsegments 4..9 expired while reading: frames 1/40 to 1/99\n");
    for (uint64_t no = 0; no < 100; no++) {
        tf_gaps_add_loss(gaps, &(struct tf_archived){.kind = TF_ARCHIVED_DAMAGED,
                                                     .segment_no = 10,
                                                     .from_seq = (UINT64_C(1) << 40) + no,
                                                     .to_seq = (UINT64_C(1) << 40) + no});
    }
    assert_int_equal(gaps->loss_count, 101);
    (void)print_gaps(gaps);
    free(gaps);
}

static void losses_with_something_between_are_two(void **state)
{
    struct tf_gaps *gaps = calloc(1, sizeof *gaps);

    (void)state;
    tf_gaps_add_loss(gaps, &(struct tf_archived){.kind = TF_ARCHIVED_UNREADABLE, .segment_no = 3});
    tf_gaps_add_loss(gaps, &(struct tf_archived){.kind = TF_ARCHIVED_UNREADABLE, .segment_no = 8});
    assert_int_equal(gaps->loss_count, 2);
    tf_gaps_add_loss(gaps, &(struct tf_archived){.kind = TF_ARCHIVED_MISSING, .segment_no = 10});
    tf_gaps_add_loss(gaps, &(struct tf_archived){.kind = TF_ARCHIVED_MISSING, .segment_no = 11});
    assert_int_equal(gaps->loss_count, 4); /* segment 10 is between them */
    free(gaps);
}

static void what_went_without_a_notice_is_said(void **state)
{
    struct tf_gaps *gaps = calloc(1, sizeof *gaps);

    (void)state;
    tf_gaps_add_loss(gaps, &(struct tf_archived){.kind = TF_ARCHIVED_MISSING,
                                                 .segment_no = 4,
                                                 .to_seq = (UINT64_C(1) << 40) + 40,
                                                 .lost_events = 1200});
    assert_string_equal(print_gaps(gaps),
                        "\nmissing before segment 4: all up to frame 1/40, and no "
                        "notice says that it expired, 1,200 records\n");
    free(gaps);
}

/* ---- jobs ---------------------------------------------------------------------------------------
 */

struct folder {
    char path[64];
    int fd;
};

static int setup(void **state)
{
    struct folder *folder = calloc(1, sizeof *folder);

    assert_non_null(folder);
    (void)snprintf(folder->path, sizeof folder->path, "%s/taffrail-test-XXXXXX",
                   getenv("TMPDIR") != NULL ? getenv("TMPDIR") : "/tmp");
    assert_non_null(mkdtemp(folder->path));
    folder->fd = open(folder->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(folder->fd >= 0);
    *state = folder;
    return 0;
}

static int teardown(void **state)
{
    struct folder *folder = *state;

    (void)unlinkat(folder->fd, "case-42.job", 0);
    (void)close(folder->fd);
    assert_int_equal(rmdir(folder->path), 0);
    free(folder);
    return 0;
}

static struct tf_job_state sample(void)
{
    struct tf_job_state state = {.step = TF_JOB_RUNNING,
                                 .seq = 5,
                                 .records = 6,
                                 .bytes = 7,
                                 .from_ns = INT64_MIN,
                                 .to_ns = INT64_MAX,
                                 .begun_ns = NOW_NS,
                                 .file = {1, 2, 3},
                                 .losses = 4};

    memset(state.spool_id, 1, sizeof state.spool_id);
    memset(state.digest, 2, sizeof state.digest);
    return state;
}

static int open_job(const struct folder *folder, struct tf_job *job)
{
    struct tf_job_state fresh = sample();
    struct tf_error err;
    int rc;

    tf_error_init(&err);
    rc = tf_job_open(folder->fd, "case-42", &fresh, job, &err);
    assert_int_equal(err.errors, rc < 0 ? 1 : 0);
    tf_error_fini(&err);
    return rc;
}

static void a_job_is_found_as_it_was_saved(void **state)
{
    struct tf_job_state now = sample();
    struct tf_job job, second;

    assert_int_equal(open_job(*state, &job), 0);
    assert_int_equal(open_job(*state, &second), -EINVAL); /* locked */
    for (uint64_t i = 1; i <= 5; i++) {
        now.seq = 100 + i;
        now.step = i == 5 ? TF_JOB_DONE : TF_JOB_RUNNING;
        assert_int_equal(tf_job_save(&job, &now), 0);
        tf_job_close(&job);
        assert_int_equal(open_job(*state, &job), 1);
        now.counter = i;
        assert_memory_equal(&job.state, &now, sizeof now);
    }
    tf_job_close(&job);
}

/* The slot that was being written is torn: the one before it counts. */
static void a_torn_slot_leaves_the_one_before(void **state)
{
    const struct folder *folder = *state;
    struct tf_job_state now = sample();
    struct tf_job job;
    uint32_t newest;
    int fd;

    assert_int_equal(open_job(folder, &job), 0);
    now.seq = 8;
    assert_int_equal(tf_job_save(&job, &now), 0);
    now.seq = 9;
    assert_int_equal(tf_job_save(&job, &now), 0);
    newest = job.slot;
    tf_job_close(&job);
    fd = openat(folder->fd, "case-42.job", O_RDWR);
    assert_int_equal(pwrite(fd, "x", 1, (off_t)newest * 4096 + 60), 1);
    assert_int_equal(open_job(folder, &job), 1);
    assert_int_equal(job.state.seq, 8);
    tf_job_close(&job);
    assert_int_equal(pwrite(fd, "x", 1, (off_t)(newest ^ 1) * 4096 + 60), 1);
    assert_int_equal(open_job(folder, &job), -EINVAL);
    assert_int_equal(close(fd), 0);
}

static void every_flipped_bit_is_seen(void **state)
{
    struct tf_job_state now = sample(), out;
    uint8_t bytes[TF_JOB_SLOT_BYTES];

    (void)state;
    tf_job_encode(&now, bytes);
    assert_int_equal(tf_job_decode(bytes, &out), 0);
    assert_memory_equal(&out, &now, sizeof now);
    for (size_t i = 0; i < sizeof bytes * 8; i++) {
        bytes[i / 8] ^= (uint8_t)(1u << i % 8);
        assert_int_equal(tf_job_decode(bytes, &out), -EPROTO);
        bytes[i / 8] ^= (uint8_t)(1u << i % 8);
    }
}

static void a_job_name_is_no_path(void **state)
{
    static const char *const wrong[] = {"", ".", "..", "a/b", "/a", ".a", "a.", "a b", "a\n", "é"};
    char name[TF_JOB_NAME_MAX + 2];

    (void)state;
    for (size_t i = 0; i < TF_COUNT(wrong); i++) {
        assert_false(tf_job_name_is_sound(wrong[i]));
    }
    assert_true(tf_job_name_is_sound("case-42"));
    assert_true(tf_job_name_is_sound("2026.11_A"));
    memset(name, 'a', sizeof name);
    name[TF_JOB_NAME_MAX + 1] = '\0';
    assert_false(tf_job_name_is_sound(name));
    name[TF_JOB_NAME_MAX] = '\0';
    assert_true(tf_job_name_is_sound(name));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(times_are_absolute_or_relative),
        cmocka_unit_test(other_times_are_refused),
        cmocka_unit_test(all_conditions_must_hold),
        cmocka_unit_test(nothing_asked_for_is_everything),
        cmocka_unit_test(what_is_not_decided_matches_and_is_counted),
        cmocka_unit_test(a_long_value_is_not_decided),
        cmocka_unit_test(all_that_is_wrong_is_said_at_once),
        cmocka_unit_test(a_gap_record_is_a_sentence),
        cmocka_unit_test(neighbours_are_joined_and_all_are_counted),
        cmocka_unit_test(what_went_without_a_notice_is_said),
        cmocka_unit_test(losses_with_something_between_are_two),
        cmocka_unit_test_setup_teardown(a_job_is_found_as_it_was_saved, setup, teardown),
        cmocka_unit_test_setup_teardown(a_torn_slot_leaves_the_one_before, setup, teardown),
        cmocka_unit_test(every_flipped_bit_is_seen),
        cmocka_unit_test(a_job_name_is_no_path),
    };

    return cmocka_run_group_tests_name("replay", tests, NULL, NULL);
}
