/*
 * test_lineage.c - a spool that a collector's receipt shows to be a copy of another: what begins
 * then, and that no frame and no id is lost over kills and damage on the way.
 *
 * tests/integration/read_segment.py, which knows the page only, reads each spool that comes out.
 * fdatasync is defined here, before libc's, so that it fails when a test says so.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../agent/spool/seal.h"

#include "taffrail/event.h"
#include "taffrail/log.h"

#define DEADLINE_MS 60000u
#define FRAMES_MAX  256u

static atomic_int fail_syncs; /* so many calls fail */

int fdatasync(int fd)
{
    if (atomic_load(&fail_syncs) > 0) {
        (void)atomic_fetch_sub(&fail_syncs, 1);
        errno = EIO;
        return -1;
    }
    return (int)syscall(SYS_fdatasync, fd);
}

/* ---- fixture -------------------------------------------------------------------------------- */

struct seen {
    uint64_t seq;
    uint8_t spool_id[TF_SPOOL_ID_BYTES];
    char tag[24];
};

struct fixture {
    uv_loop_t loop;
    uv_timer_t deadline;
    bool late, closed;
    char root[64], path[80], key_file[96], event_text[256];
    struct tf_spool_options options;
    struct tf_spool *spool;
    struct tf_feed *feed;
    struct seen seen[FRAMES_MAX];
    uint32_t taken, dones, cancels, seen_count, forks;
};

static void on_deadline(uv_timer_t *timer)
{
    ((struct fixture *)timer->data)->late = true;
}

typedef bool condition_fn(const struct fixture *f);

static void run_until(struct fixture *f, condition_fn *condition)
{
    f->late = false;
    assert_int_equal(uv_timer_start(&f->deadline, on_deadline, DEADLINE_MS, 0), 0);
    while (!condition(f) && !f->late) {
        (void)uv_run(&f->loop, UV_RUN_ONCE);
    }
    (void)uv_timer_stop(&f->deadline);
    assert_true(condition(f));
}

static bool all_done(const struct fixture *f)
{
    return f->dones == f->taken;
}

static bool is_closed(const struct fixture *f)
{
    return f->closed;
}

static bool is_settled(const struct fixture *f)
{
    const struct tf_lineage *lineage = &f->spool->lineage;

    return !lineage->noticing && !lineage->wanted && f->spool->fd >= 0;
}

static bool has_seen_all(const struct fixture *f)
{
    return f->seen_count == f->taken - f->cancels;
}

static void on_done(void *ctx, int status, uint64_t seq)
{
    struct fixture *f = ctx;

    (void)seq;
    f->dones++;
    f->cancels += status != 0;
}

static void on_event(void *ctx, const char *event, const char *text)
{
    struct fixture *f = ctx;

    f->forks += strcmp(event, "fork") == 0;
    (void)snprintf(f->event_text, sizeof f->event_text, "%s", text);
}

static void on_ready(void *ctx)
{
    struct fixture *f = ctx;
    struct tf_frame *frame;

    while (f->feed != NULL && tf_feed_next(f->feed, &frame) == 0) {
        struct seen *seen = &f->seen[f->seen_count++];

        assert_true(f->seen_count < FRAMES_MAX && !frame->is_gap_span);
        seen->seq = frame->seq;
        memcpy(seen->spool_id, frame->spool_id, TF_SPOOL_ID_BYTES);
        (void)snprintf(seen->tag, sizeof seen->tag, "%s", frame->tag);
        (void)tf_feed_ack(f->feed, frame->seq);
        tf_frame_unref(frame);
    }
}

static void open_spool(struct fixture *f)
{
    static const char *const outputs[] = {"out"};
    struct tf_spool_callbacks callbacks = {.ctx = f, .on_event = on_event};
    struct tf_error err;

    tf_error_init(&err);
    if (tf_spool_open(&f->loop, &f->options, outputs, 1, &callbacks, &f->spool, &err) != 0) {
        fail_msg("%s", tf_error_first(&err));
    }
    tf_error_fini(&err);
    f->closed = false;
}

/* Sees all that is pending, and goes on. */
static void follow(struct fixture *f)
{
    static struct tf_text all = {.text = "**"};
    static const struct tf_texts match = {.items = &all, .count = 1};
    struct tf_feed_options options = {
        .name = "out", .match = &match, .window = 32, .on_ready = on_ready, .ctx = f};

    assert_int_equal(tf_feed_open(f->spool, &options, &f->feed), 0);
    on_ready(f);
    run_until(f, has_seen_all);
}

static void close_feed(struct fixture *f)
{
    tf_feed_close(f->feed);
    f->feed = NULL;
}

/* Sees all that is pending. */
static void open_feed(struct fixture *f)
{
    follow(f);
    close_feed(f);
}

static void on_closed(void *ctx)
{
    ((struct fixture *)ctx)->closed = true;
}

static void close_spool(struct fixture *f)
{
    tf_spool_close(f->spool, on_closed, f);
    run_until(f, is_closed);
    f->spool = NULL;
}

static void append(struct fixture *f)
{
    struct tf_frame_draft draft = {.type = TF_FRAME_DATA, .events = 1, .done = on_done, .ctx = f};

    (void)snprintf(draft.tag, sizeof draft.tag, "frame-%u", f->taken++);
    tf_buf_init(&draft.payload, TF_DRAFT_PAYLOAD_MAX);
    tf_buf_init(&draft.deltas, TF_DRAFT_DELTAS_MAX);
    tf_msgpack_text(&draft.payload, tf_slice_text("an event"));
    tf_delta_append(&draft.deltas, TF_DELTA_SET, tf_slice_text("pos"), tf_slice_text(draft.tag));
    assert_int_equal(tf_spool_append(f->spool, &draft), 0);
}

static void append_synced(struct fixture *f, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        append(f);
    }
    tf_spool_sync(f->spool);
    run_until(f, all_done);
}

/* What `pki seal` does, with the key kept in a file. */
static void make_seal_key(struct fixture *f)
{
    struct tf_seal_key key;
    char text[TF_SEAL_TEXT_BYTES];
    int fd = open(f->path, O_RDONLY | O_DIRECTORY);
    int file = open(f->key_file, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    uint8_t spool_id[TF_SPOOL_ID_BYTES];

    open_spool(f);
    memcpy(spool_id, tf_spool_id(f->spool), sizeof spool_id);
    close_spool(f);
    assert_int_equal(tf_seal_key_new(spool_id, &key), 0);
    assert_int_equal(tf_seal_text(&key, text), 0);
    fd = fd >= 0 ? fd : open(f->path, O_RDONLY | O_DIRECTORY);
    assert_true(fd >= 0 && file >= 0);
    assert_int_equal(write(file, text, sizeof text - 1), sizeof text - 1);
    assert_int_equal(tf_seal_state_make(fd, &key, false), 0);
    (void)close(file);
    (void)close(fd);
}

/* The independent reader finds nothing wrong, seals included, and so many events. */
static void assert_sound(const struct fixture *f, uint32_t events)
{
    char command[512], line[512];
    uint32_t count = 0;
    FILE *reader;

    (void)snprintf(command, sizeof command, "/usr/bin/python3 '%s' --seal-key '%s' '%s'",
                   TF_SOURCE_DIR "/tests/integration/read_segment.py", f->key_file, f->path);
    reader = popen(command, "r"); /* NOLINT: fixed words and the test's own folder */
    assert_non_null(reader);
    while (fgets(line, sizeof line, reader) != NULL) {
        count++;
    }
    assert_int_equal(pclose(reader), 0);
    assert_int_equal(count, events);
}

/* Of the test that will kill this process. */
static const char *given_root;

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);

    if (f == NULL || uv_loop_init(&f->loop) != 0) {
        return -1;
    }
    (void)snprintf(f->root, sizeof f->root, "%s",
                   given_root != NULL ? given_root : "/tmp/test_lineage.XXXXXX");
    if (given_root == NULL && mkdtemp(f->root) == NULL) {
        return -1;
    }
    (void)snprintf(f->path, sizeof f->path, "%s/spool", f->root);
    (void)snprintf(f->key_file, sizeof f->key_file, "%s/verification", f->root);
    (void)uv_timer_init(&f->loop, &f->deadline);
    f->deadline.data = f;
    f->options = (struct tf_spool_options){.path = {.text = f->path},
                                           .max_size_bytes = UINT64_C(1) << 30,
                                           .retain_age_ms = 3600000,
                                           .sync = {TF_SYNC_INTERVAL, 200},
                                           .segment_size_bytes = 1u << 20};
    tf_log_configure(TF_LOG_ERROR + 1, TF_LOG_LOGFMT);
    *state = f;
    if (given_root == NULL) {
        make_seal_key(f);
    }
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    char command[96];
    int rc;

    atomic_store(&fail_syncs, 0);
    if (f->spool != NULL) {
        close_spool(f);
    }
    uv_close((uv_handle_t *)&f->deadline, NULL);
    (void)uv_run(&f->loop, UV_RUN_DEFAULT);
    rc = uv_loop_close(&f->loop);
    (void)snprintf(command, sizeof command, "rm -rf '%s'", f->root);
    rc |= system(command); /* NOLINT: a test's own folder */
    free(f);
    return rc;
}

/* ---- tests ---------------------------------------------------------------------------------- */

static const uint8_t foreign_chain[TF_CHAIN_BYTES] = {9, 8, 7};

/* Frame `from` and those behind it are of the spool id, the ones before it are not. */
static void assert_ids(const struct fixture *f, uint32_t from, const uint8_t *id)
{
    for (uint32_t i = 0; i < f->seen_count; i++) {
        char tag[24];

        (void)snprintf(tag, sizeof tag, "frame-%u", i);
        assert_string_equal(f->seen[i].tag, tag);
        assert_true(i == 0 || f->seen[i].seq > f->seen[i - 1].seq);
        assert_int_equal(memcmp(f->seen[i].spool_id, id, TF_SPOOL_ID_BYTES) == 0, i >= from);
    }
}

static void a_fork_begins_a_new_lineage(void **state)
{
    struct fixture *f = *state;
    uint8_t old_id[TF_SPOOL_ID_BYTES], new_id[TF_SPOOL_ID_BYTES];
    uint64_t run;

    open_spool(f);
    memcpy(old_id, tf_spool_id(f->spool), sizeof old_id);
    run = f->spool->run;
    append_synced(f, 3);
    tf_spool_forked(f->spool, (run + 5) << 40 | 77, foreign_chain);
    run_until(f, is_settled);
    memcpy(new_id, tf_spool_id(f->spool), sizeof new_id);
    assert_memory_not_equal(old_id, new_id, sizeof old_id);
    assert_true(tf_spool_is_lineage(f->spool, old_id) && tf_spool_is_lineage(f->spool, new_id));
    assert_int_equal(f->spool->run, run + 6);
    assert_int_equal(f->forks, 1);
    append_synced(f, 3);
    open_feed(f);
    assert_int_equal(f->seen_count, 6);
    assert_ids(f, 3, new_id);
    close_spool(f);
    assert_sound(f, 6);
    open_spool(f); /* and stays */
    assert_memory_equal(tf_spool_id(f->spool), new_id, sizeof new_id);
    assert_true(tf_spool_is_lineage(f->spool, old_id));
    append_synced(f, 2);
    close_spool(f);
    assert_sound(f, 8);
}

static void frames_that_come_meanwhile_are_of_the_new_one(void **state)
{
    struct fixture *f = *state;

    open_spool(f);
    append_synced(f, 3);
    for (unsigned i = 0; i < 20; i++) {
        append(f);
        if (i == 10) {
            tf_spool_forked(f->spool, UINT64_C(9) << 40 | 1, foreign_chain);
            tf_spool_forked(f->spool, UINT64_C(9) << 40 | 2, foreign_chain); /* the same one */
        }
    }
    tf_spool_sync(f->spool);
    run_until(f, all_done);
    run_until(f, is_settled);
    append_synced(f, 5);
    open_feed(f);
    assert_int_equal(f->seen_count, 28);
    assert_int_equal(f->cancels, 0);
    assert_int_equal(f->forks, 1);
    assert_memory_equal(f->seen[27].spool_id, tf_spool_id(f->spool), TF_SPOOL_ID_BYTES);
    assert_memory_not_equal(f->seen[0].spool_id, tf_spool_id(f->spool), TF_SPOOL_ID_BYTES);
    close_spool(f);
    assert_sound(f, 28);
}

/* From disk, not from the cache: ids come from the headers of segments. */
static void what_is_unacked_goes_out_under_its_own_id(void **state)
{
    struct fixture *f = *state;
    uint8_t new_id[TF_SPOOL_ID_BYTES];

    open_spool(f);
    append_synced(f, 4);
    tf_spool_forked(f->spool, UINT64_C(9) << 40, foreign_chain);
    run_until(f, is_settled);
    append_synced(f, 4);
    memcpy(new_id, tf_spool_id(f->spool), sizeof new_id);
    close_spool(f);
    open_spool(f);
    open_feed(f);
    assert_int_equal(f->seen_count, 8);
    assert_ids(f, 4, new_id);
    close_spool(f);
}

/* What a collector says is a stranger's word: it may neither fill the disk nor use up the numbers.
 */
static void a_hostile_collector_is_bounded(void **state)
{
    struct fixture *f = *state;
    uint8_t id[TF_SPOOL_ID_BYTES];
    uint64_t run, segments;
    struct tf_spool_status status;

    open_spool(f);
    run = f->spool->run;
    append_synced(f, 1);
    tf_spool_forked(f->spool, UINT64_MAX, foreign_chain);
    run_until(f, is_settled);
    assert_int_equal(f->spool->run, run + 1);
    memcpy(id, tf_spool_id(f->spool), sizeof id);
    tf_spool_status(f->spool, &status);
    segments = status.segments;
    for (unsigned i = 0; i < 100; i++) {
        tf_spool_forked(f->spool, UINT64_MAX, foreign_chain);
    }
    append_synced(f, 1);
    tf_spool_status(f->spool, &status);
    assert_int_equal(status.segments, segments);
    assert_memory_equal(tf_spool_id(f->spool), id, sizeof id);
    assert_int_equal(f->forks, 2); /* the second one without a lineage, once a minute */
    assert_non_null(strstr(f->event_text, "no new lineage"));
    f->spool->lineage.begun_ms -= 60000;
    tf_spool_forked(f->spool, UINT64_MAX, foreign_chain);
    run_until(f, is_settled);
    assert_memory_not_equal(tf_spool_id(f->spool), id, sizeof id);
    close_spool(f);
    assert_sound(f, 2);
}

static bool is_at_rest(const struct fixture *f)
{
    return !tf_seal_is_busy(f->spool);
}

static void a_run_that_ends_meanwhile_ends_in_a_new_lineage(void **state)
{
    struct fixture *f = *state;
    uint8_t old_id[TF_SPOOL_ID_BYTES];

    open_spool(f);
    memcpy(old_id, tf_spool_id(f->spool), sizeof old_id);
    append_synced(f, 2);
    run_until(f, is_at_rest); /* the sync that fails is to be the segment's, not the state file's */
    atomic_store(&fail_syncs, 1);
    tf_spool_forked(f->spool, UINT64_C(3) << 40 | 5, foreign_chain);
    run_until(f, is_settled);
    assert_memory_not_equal(tf_spool_id(f->spool), old_id, sizeof old_id);
    append_synced(f, 2);
    open_feed(f);
    assert_ids(f, 2, tf_spool_id(f->spool));
    close_spool(f);
    assert_sound(f, 4);
}

static void flip(const struct fixture *f, uint64_t segment, off_t at)
{
    char path[160];
    uint8_t byte = 0;
    int fd;

    (void)snprintf(path, sizeof path, "%s/%020llu.seg", f->path, (unsigned long long)segment);
    fd = open(path, O_RDWR);
    assert_true(fd >= 0 && pread(fd, &byte, 1, at) == 1);
    byte ^= 1;
    assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    (void)close(fd);
}

static void without_its_one_header_the_lineage_before_goes_on(void **state)
{
    struct fixture *f = *state;
    uint8_t old_id[TF_SPOOL_ID_BYTES];
    uint64_t newest, run;

    open_spool(f);
    memcpy(old_id, tf_spool_id(f->spool), sizeof old_id);
    append_synced(f, 3);
    tf_spool_forked(f->spool, UINT64_C(9) << 40, foreign_chain);
    run_until(f, is_settled);
    newest = f->spool->segments[f->spool->segment_count - 1].no;
    run = f->spool->run;
    close_spool(f);
    flip(f, newest, 20);
    open_spool(f);
    assert_memory_equal(tf_spool_id(f->spool), old_id, sizeof old_id);
    assert_true(f->spool->run > run); /* no number is used again */
    open_feed(f);
    assert_int_equal(f->seen_count, 3);
    close_spool(f);
}

static bool is_old_gone(const struct fixture *f)
{
    return f->spool->segment_count == 1 && !f->spool->retaining;
}

/* The state then still has the id of the lineage of the last seal. */
static void a_seal_goes_on_when_nothing_of_the_lineage_before_is_left(void **state)
{
    struct fixture *f = *state;
    char command[320];

    f->options.retain_age_ms = 0;
    open_spool(f);
    append_synced(f, 3);
    follow(f);
    tf_spool_forked(f->spool, UINT64_C(9) << 40, foreign_chain);
    run_until(f, is_settled);
    run_until(f, is_old_gone);
    (void)snprintf(command, sizeof command, "cp -a '%s' '%s.killed'", f->path, f->path);
    assert_int_equal(system(command), 0); /* NOLINT: a test's own folder */
    close_feed(f);
    close_spool(f);
    (void)snprintf(command, sizeof command, "rm -rf '%s' && mv '%s.killed' '%s'", f->path, f->path,
                   f->path);
    assert_int_equal(system(command), 0); /* NOLINT: a test's own folder */
    open_spool(f);
    assert_true(tf_seal_is_on(f->spool));
    close_spool(f);
}

#ifdef TF_TEST_HOOKS
/* In a process of its own: two frames, then a fork, until it is killed at point. */
static int die_at(const char *point)
{
    void *state = NULL;
    struct fixture *f;

    if (setup(&state) != 0) {
        return 1;
    }
    f = state;
    open_spool(f);
    append_synced(f, 2);
    (void)setenv("TAFFRAIL_CRASH", point, 1);
    tf_spool_forked(f->spool, UINT64_C(9) << 40, foreign_chain);
    run_until(f, is_settled);
    return 1;
}

static void run_killed(const struct fixture *f, const char *point)
{
    int status = 0;
    pid_t child = fork();

    if (child == 0) {
        (void)execl("/proc/self/exe", "test_lineage", "--die", f->root, point, (char *)NULL);
        _exit(9);
    }
    assert_true(child > 0 && waitpid(child, &status, 0) == child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

/* Each point of the order: the id is the old one or the new one, never none, and spool.meta has it
 * after the next start. */
static void a_kill_anywhere_leaves_one_lineage_or_the_other(void **state)
{
    static const struct {
        const char *point;
        bool is_new;
    } kills[] = {{"frame.written:1", false},  {"roll.old_synced:1", false},
                 {"roll.created:1", false},   {"roll.header:1", true},
                 {"lineage.segment:1", true}, {"lineage.meta:1", true}};
    struct fixture *f = *state;
    uint8_t id[TF_SPOOL_ID_BYTES];
    bool is_new;

    open_spool(f);
    memcpy(id, tf_spool_id(f->spool), sizeof id);
    close_spool(f);
    for (size_t i = 0; i < TF_COUNT(kills); i++) {
        run_killed(f, kills[i].point);
        open_spool(f);
        is_new = memcmp(id, tf_spool_id(f->spool), sizeof id) != 0;
        assert_int_equal(is_new, kills[i].is_new);
        memcpy(id, tf_spool_id(f->spool), sizeof id);
        close_spool(f);
        open_spool(f);
        assert_memory_equal(tf_spool_id(f->spool), id, sizeof id);
        close_spool(f);
        assert_sound(f, 2 * ((uint32_t)i + 1));
    }
}
#endif

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
#ifdef TF_TEST_HOOKS
        TEST(a_kill_anywhere_leaves_one_lineage_or_the_other),
#endif
        TEST(a_fork_begins_a_new_lineage),
        TEST(frames_that_come_meanwhile_are_of_the_new_one),
        TEST(what_is_unacked_goes_out_under_its_own_id),
        TEST(a_hostile_collector_is_bounded),
        TEST(a_run_that_ends_meanwhile_ends_in_a_new_lineage),
        TEST(without_its_one_header_the_lineage_before_goes_on),
        TEST(a_seal_goes_on_when_nothing_of_the_lineage_before_is_left),
    };

#ifdef TF_TEST_HOOKS
    if (argc == 4 && strcmp(argv[1], "--die") == 0) {
        given_root = argv[2];
        return die_at(argv[3]);
    }
#endif
    (void)argc;
    (void)argv;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
