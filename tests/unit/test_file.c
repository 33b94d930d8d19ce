/*
 * test_file.c - the pump of one file (file.c), called by itself with a clock of its own: rates, and
 * pieces whose last one does not come.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <unistd.h>

#include "../../agent/inputs/container/internal.h"

#define LINE      "2026-11-24T10:00:00Z stdout F 0123456789\n"
#define LINE_SIZE (sizeof LINE - 1)

struct world {
    char path[64];
    struct tf_file_io io;
    struct tf_file_id id;
    struct tf_opener opener;
    struct tf_file_read read;
    struct tf_batch batch;
    struct tf_pump_result result;
};

static int set_up(void **state)
{
    struct world *world = calloc(1, sizeof *world);

    assert_non_null(world);
    (void)snprintf(world->path, sizeof world->path, "/tmp/taffrail-file-XXXXXX");
    world->io = (struct tf_file_io){.fd = mkstemp(world->path),
                                    .watch = -1,
                                    .block_bytes = TF_BLOCK_BYTES,
                                    .format = TF_FORMAT_CRI,
                                    .line_limit_bytes = 1 << 20,
                                    .held_at = UINT64_MAX};
    assert_true(world->io.fd >= 0);
    tf_opener_init(&world->opener);
    world->read = (struct tf_file_read){.pool = tf_block_pool_new(),
                                        .id = &world->id,
                                        .opener = &world->opener,
                                        .base = world->path,
                                        .inotify_fd = -1};
    assert_non_null(world->read.pool);
    assert_int_equal(tf_batch_init(&world->batch), 0);
    *state = world;
    return 0;
}

static int tear_down(void **state)
{
    struct world *world = *state;

    tf_lines_free(world->io.lines);
    free(world->io.mend);
    tf_block_pool_free(world->read.pool);
    tf_opener_fini(&world->opener);
    tf_batch_fini(&world->batch);
    (void)close(world->io.fd);
    (void)unlink(world->path);
    free(world);
    return 0;
}

static void append(struct world *world, const char *text, unsigned times)
{
    for (unsigned i = 0; i < times; i++) {
        assert_true(lseek(world->io.fd, 0, SEEK_END) >= 0);
        assert_int_equal(write(world->io.fd, text, strlen(text)), (ssize_t)strlen(text));
    }
}

/* Returns how many records came. */
static uint32_t pump_at(struct world *world, uint64_t now_ms)
{
    assert_int_equal(tf_batch_reset(&world->batch), 0);
    world->batch.now_ms = now_ms;
    world->result = (struct tf_pump_result){0};
    tf_file_pump(&world->io, &world->read, &world->batch, &world->result);
    assert_int_equal(world->result.status, 0);
    return world->batch.record_count;
}

/* As the loop does it: at once when there is more, else when it is woken by time. */
static void a_rate_is_held_over_time(void **state)
{
    struct world *world = *state;
    const unsigned lines = 60000;
    uint64_t now_ms = 1000, started_ms = now_ms;
    uint32_t came = 0;
    unsigned pumps = 0;

    append(world, LINE, lines);
    world->io.max_rate_bytes = 200000;
    while (came < lines) {
        came += pump_at(world, now_ms);
        assert_true(++pumps < 1000);
        if (world->io.is_throttled) {
            assert_false(world->result.again);
            assert_true(world->result.wake_at_ms > now_ms);
            now_ms = world->result.wake_at_ms;
        }
        /* never more than a second's worth and a block ahead of the rate */
        assert_true((uint64_t)came * LINE_SIZE <=
                    (now_ms - started_ms + 1000) * world->io.max_rate_bytes / 1000 +
                        TF_BLOCK_BYTES);
    }
    assert_in_range(now_ms - started_ms, lines * LINE_SIZE * 1000 / 200000 - 3000,
                    lines * LINE_SIZE * 1000 / 200000);
    (void)pump_at(world, now_ms + 10000); /* what was not used is kept for a second only */
    assert_in_range(world->io.tokens_bytes, 0, 200000);
}

static void without_a_rate_nothing_waits(void **state)
{
    struct world *world = *state;

    append(world, LINE, 10);
    assert_int_equal(pump_at(world, 1), 10);
    assert_int_equal(world->result.wake_at_ms, 0);
    assert_false(world->io.is_throttled);
}

static void a_piece_waits_so_long_and_no_longer(void **state)
{
    struct world *world = *state;
    const uint64_t bound_ms = 30000;

    append(world, LINE "2026-11-24T10:00:01Z stdout P begun, \n", 1);
    assert_int_equal(pump_at(world, 1000), 1);
    assert_int_equal(world->result.wake_at_ms, 1000 + bound_ms);
    assert_int_equal(world->io.position.done[TF_STREAM_STDOUT], LINE_SIZE); /* it stands before */
    assert_int_equal(pump_at(world, 1000 + bound_ms - 1), 0);
    assert_int_equal(pump_at(world, 1000 + bound_ms), 1);
    assert_true(world->batch.records[0].flags & TF_RECORD_UNFINISHED);
    assert_true(world->result.has_position);
    assert_int_equal(world->io.position.done[TF_STREAM_STDOUT], world->io.offset);
    append(world, "2026-11-24T10:00:02Z stdout F and ended\n", 1);
    assert_int_equal(pump_at(world, 2000 + bound_ms), 1); /* a record of its own */
    assert_int_equal(world->result.wake_at_ms, 0);
}

/* Each piece that is another record's has its own time. */
static void a_piece_that_ends_is_no_reason_to_hurry_the_next(void **state)
{
    struct world *world = *state;

    append(world, "2026-11-24T10:00:01Z stdout P one\n", 1);
    assert_int_equal(pump_at(world, 1000), 0);
    append(world, "2026-11-24T10:00:01Z stdout F \n2026-11-24T10:00:01Z stdout P two\n", 1);
    assert_int_equal(pump_at(world, 20000), 1);
    assert_int_equal(world->result.wake_at_ms, 50000);
    assert_int_equal(pump_at(world, 31000), 0);
    assert_int_equal(pump_at(world, 50000), 1);
}

static void assert_print_at(const struct world *world, unsigned i, uint64_t offset)
{
    struct tf_print print = {0};

    if (offset > 0) {
        assert_int_equal(tf_file_print(world->io.fd, offset, &print), 0);
    }
    assert_memory_equal(&world->io.position.prints[i], &print, sizeof print);
}

/* The first line has a time; but of a longer text 64 bytes are to be compared. What is left of
 * those for a print 4 KiB back would be too few. */
static void small_files_have_prints_of_their_beginning(void **state)
{
    struct world *world = *state;
    const unsigned lines = (4096 + 40) / LINE_SIZE + 1;

    append(world, LINE, lines);
    assert_int_equal(pump_at(world, 1), lines);
    assert_print_at(world, 0, lines * LINE_SIZE);
    assert_print_at(world, 1, 0);
    assert_print_at(world, 3, TF_PRINT_BYTES);
    assert_print_at(world, 4, LINE_SIZE);
    append(world, LINE, 4);
    assert_int_equal(pump_at(world, 1), 4);
    assert_print_at(world, 1, (lines + 4) * LINE_SIZE - 4096);
    assert_print_at(world, 3, TF_PRINT_BYTES);
    append(world, LINE, (3u << 20) / LINE_SIZE);
    do {
        (void)pump_at(world, 1);
    } while (world->result.again);
    assert_true(world->io.position.prints[3].offset > 1u << 20);
    assert_print_at(world, 4, LINE_SIZE);
}

/* The time stands at the end of its lines. */
static void a_print_of_dockers_first_line_is_of_its_end(void **state)
{
    struct world *world = *state;
    const char *line = "{\"log\":\"a message that comes again and again, nothing else does\\n\","
                       "\"stream\":\"stdout\",\"time\":\"2026-11-24T10:00:00Z\"}\n";

    world->io.format = TF_FORMAT_DOCKER;
    append(world, line, 3);
    assert_int_equal(pump_at(world, 1), 3);
    assert_print_at(world, 3, 0);
    assert_print_at(world, 4, strlen(line));
}

/* A filter holds records back: the position stays before them, with a print of what stands there.
 */
static void a_position_stays_before_what_is_held(void **state)
{
    struct world *world = *state;
    const uint64_t from[TF_STREAMS] = {LINE_SIZE, 2 * LINE_SIZE, LINE_SIZE};
    const uint64_t none[TF_STREAMS] = {UINT64_MAX, UINT64_MAX, UINT64_MAX};
    struct tf_print print;

    append(world, LINE, 3);
    assert_int_equal(pump_at(world, 1), 3);
    assert_int_equal(world->batch.records[1].source_at, LINE_SIZE);
    assert_int_equal(tf_file_hold_back(&world->io, none), 0);
    assert_int_equal(tf_position_first(&world->io.position), 3 * LINE_SIZE);
    assert_int_equal(tf_file_hold_back(&world->io, from), 0);
    assert_int_equal(tf_position_first(&world->io.position), LINE_SIZE);
    assert_int_equal(tf_position_last(&world->io.position), 2 * LINE_SIZE);
    assert_int_equal(tf_file_print(world->io.fd, 2 * LINE_SIZE, &print), 0);
    assert_memory_equal(&world->io.position.prints[0], &print, sizeof print);
    world->io.is_held = true; /* the position moves on though nothing is read */
    assert_int_equal(pump_at(world, 2), 0);
    assert_true(world->result.has_position);
    assert_int_equal(tf_position_first(&world->io.position), 3 * LINE_SIZE);
}

/* Else it would be read anew, though a copy may hold what goes on. */
static void without_an_opener_a_cut_file_waits(void **state)
{
    struct world *world = *state;
    struct tf_opener rules;
    struct tf_opener_process *process = tf_opener_process_new(); /* never started */

    append(world, LINE, 10);
    assert_int_equal(pump_at(world, 1), 10);
    assert_int_equal(ftruncate(world->io.fd, 0), 0);
    assert_int_equal(tf_opener_init(&rules), 0);
    assert_int_equal(tf_opener_add_root(&rules, "/tmp"), 0);
    assert_int_equal(tf_opener_add_root(&world->opener, "/tmp"), 0);
    assert_int_equal(tf_opener_process_add(process, "logs", &rules), 0);
    tf_opener_process_attach(process, "logs", &world->opener);
    world->result = (struct tf_pump_result){0};
    tf_file_pump(&world->io, &world->read, &world->batch, &world->result);
    assert_int_equal(world->result.status, -ESHUTDOWN);
    tf_opener_process_free(process);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_rate_is_held_over_time, set_up, tear_down),
        cmocka_unit_test_setup_teardown(without_a_rate_nothing_waits, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_piece_waits_so_long_and_no_longer, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_piece_that_ends_is_no_reason_to_hurry_the_next, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(small_files_have_prints_of_their_beginning, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_print_of_dockers_first_line_is_of_its_end, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_position_stays_before_what_is_held, set_up, tear_down),
        cmocka_unit_test_setup_teardown(without_an_opener_a_cut_file_waits, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
