/*
 * journald_fixture.h - the journald input on a real pipeline and spool, for tests of its sockets.
 */
#ifndef TAFFRAIL_JOURNALD_FIXTURE_H
#define TAFFRAIL_JOURNALD_FIXTURE_H

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <zlib.h>

#include "../../agent/inputs/journald/internal.h"
#include "pipeline_fixture.h"

#define DEADLINE_MS 60000u
#define LOG_MAX     (256u << 10)
#define START       "\"event\":\"start\""
#define FIXTURES    TF_SOURCE_DIR "/tests/fixtures/journald/"

/* ---- world ---------------------------------------------------------------------------------- */

struct world {
    uv_loop_t loop;
    uv_timer_t deadline;
    bool late, stopped, is_running;
    char folder[64], path[96]; /* of all, of the socket */
    int log_fd, stderr_fd;
    struct tf_config config;
    struct tf_plugin_config input, filter, output;
    struct tf_journald_options options;
    void *arena;
    struct tf_pipeline *pipeline;
    void (*before_start)(void); /* the input is checked, and not started; may be NULL */
};

static struct world *world;

/* ---- running the loop -------------------------------------------------------------------------
 */

static void on_deadline(uv_timer_t *timer)
{
    (void)timer;
    world->late = true;
}

typedef bool condition_fn(const void *ctx, uint32_t wanted);

static bool run_until(condition_fn *condition, const void *ctx, uint32_t wanted, uint64_t ms)
{
    world->late = false;
    assert_int_equal(uv_timer_start(&world->deadline, on_deadline, ms, 0), 0);
    while (!condition(ctx, wanted) && !world->late) {
        (void)uv_run(&world->loop, UV_RUN_ONCE);
    }
    (void)uv_timer_stop(&world->deadline);
    return condition(ctx, wanted);
}

static bool never(const void *ctx, uint32_t wanted)
{
    (void)ctx;
    (void)wanted;
    return false;
}

static void run_for(uint64_t ms)
{
    (void)run_until(never, NULL, 0, ms);
}

static bool has_records(const void *ctx, uint32_t wanted)
{
    return count_records(ctx) >= wanted;
}

/* The number behind key in a record; -1: it has none. */
static inline int64_t number_of(const char *record, const char *key)
{
    const char *at = strstr(record, key);

    return at == NULL ? -1 : strtoll(at + strlen(key), NULL, 10);
}

/* All the agent logged so far. */
static inline bool was_logged(const char *text)
{
    char *log = calloc(1, LOG_MAX);
    bool found;

    assert_non_null(log);
    assert_true(pread(world->log_fd, log, LOG_MAX - 1, 0) >= 0);
    found = strstr(log, text) != NULL;
    free(log);
    return found;
}

static inline uint32_t count_fds(void)
{
    DIR *dir = opendir("/proc/self/fd");
    uint32_t count = 0;

    assert_non_null(dir);
    while (readdir(dir) != NULL) {
        count++;
    }
    (void)closedir(dir);
    return count;
}

/* ---- life -------------------------------------------------------------------------------------
 */

static int set_up(void **state)
{
    static struct tf_text all = {.text = "**"}, host = {.text = "host"};
    char path[96];

    (void)state;
    world = calloc(1, sizeof *world);
    assert_non_null(world);
    world->arena = tf_arena_new();
    assert_non_null(world->arena);
    (void)snprintf(world->folder, sizeof world->folder, "/tmp/taffrail-journald-XXXXXX");
    assert_non_null(mkdtemp(world->folder));
    (void)snprintf(world->path, sizeof world->path, "%s.sock", world->folder);
    assert_int_equal(tf_options_default(tf_input_journald.options, &world->options, world->arena),
                     0);
    world->options.listen.text = world->path;
    world->input = (struct tf_plugin_config){
        .kind = &tf_input_journald, .name = "journal", .tag = "host", .options = &world->options};
    world->filter = (struct tf_plugin_config){
        .kind = &waiting_filter, .name = "waiting", .match = {.items = &host, .count = 1}};
    world->output = (struct tf_plugin_config){
        .kind = &fake_output, .name = "out", .match = {.items = &all, .count = 1}};
    world->config.inputs = (struct tf_plugin_list){.items = &world->input, .count = 1};
    world->config.filters = (struct tf_plugin_list){.items = &world->filter, .count = 1};
    world->config.outputs = (struct tf_plugin_list){.items = &world->output, .count = 1};
    world->config.agent.host.text = "node-1";
    world->config.agent.stop_timeout_ms = 10000;
    world->config.spool.path.text = world->folder;
    world->config.spool.max_size_bytes = 1 << 30;
    world->config.spool.sync = (struct tf_sync_option){.mode = TF_SYNC_INTERVAL, .interval_ms = 5};
    world->config.spool.segment_size_bytes = 64 << 20;
    (void)snprintf(path, sizeof path, "%s.log", world->folder);
    world->stderr_fd = dup(STDERR_FILENO);
    world->log_fd = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    assert_true(world->stderr_fd >= 0 && world->log_fd >= 0);
    assert_true(dup2(world->log_fd, STDERR_FILENO) >= 0);
    return 0;
}

static void start(void)
{
    uint32_t starts = count_records(START);
    struct tf_error err;

    tf_error_init(&err);
    assert_int_equal(uv_loop_init(&world->loop), 0);
    assert_int_equal(uv_timer_init(&world->loop, &world->deadline), 0);
    assert_int_equal(tf_pipeline_new(&world->loop, &world->config, &world->pipeline, &err), 0);
    if (world->before_start != NULL) {
        world->before_start();
    }
    assert_int_equal(tf_pipeline_start(world->pipeline, &err), 0);
    tf_error_fini(&err);
    world->stopped = false;
    world->is_running = true;
    assert_true(run_until(has_records, START, starts + 1, DEADLINE_MS));
    run_for(20); /* the start's own frames are synced */
}

static struct tf_journald *find_input(void)
{
    return world->pipeline->inputs[0].self;
}

static struct tf_input_status input_status(void)
{
    struct tf_input_status status;

    tf_input_journald.status(find_input(), &status);
    return status;
}

static inline bool has_refused(const void *ctx, uint32_t wanted)
{
    (void)ctx;
    return input_status().refused >= wanted;
}

static void on_stopped(void *ctx)
{
    (void)ctx;
    world->stopped = true;
}

static bool has_stopped(const void *ctx, uint32_t wanted)
{
    (void)ctx;
    (void)wanted;
    return world->stopped;
}

static void begin_stop(void)
{
    tf_pipeline_stop(world->pipeline, on_stopped, NULL);
}

/* Proves that everything is closed. */
static void end_stop(void)
{
    assert_true(run_until(has_stopped, NULL, 0, DEADLINE_MS));
    tf_pipeline_free(world->pipeline);
    uv_close((uv_handle_t *)&world->deadline, NULL);
    (void)uv_run(&world->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&world->loop), 0);
    world->is_running = false;
}

static void stop(void)
{
    begin_stop();
    end_stop();
}

/* The start is refused with a text. */
static inline void expect_start_error(const char *text)
{
    struct tf_error err;

    tf_error_init(&err);
    assert_int_equal(uv_loop_init(&world->loop), 0);
    assert_int_equal(uv_timer_init(&world->loop, &world->deadline), 0);
    assert_int_equal(tf_pipeline_new(&world->loop, &world->config, &world->pipeline, &err), 0);
    assert_true(tf_pipeline_start(world->pipeline, &err) < 0);
    assert_non_null(strstr(tf_error_first(&err), text));
    tf_error_fini(&err);
    world->stopped = false;
    stop();
}

/* The check of the options finds an error with a text. */
static inline void expect_check_error(const char *text)
{
    struct tf_input_args args = {.name = "journal", .tag = "host", .options = &world->options};
    struct tf_error err;
    void *self = NULL;

    tf_error_init(&err);
    assert_int_equal(tf_input_journald.open(&args, &self, &err), -EINVAL);
    assert_non_null(strstr(tf_error_first(&err), text));
    tf_error_fini(&err);
}

static int tear_down(void **state)
{
    char command[320];

    (void)state;
    mend_all();
    if (world->is_running) {
        stop();
    }
    forget_records();
    tf_arena_free(world->arena);
    (void)dup2(world->stderr_fd, STDERR_FILENO);
    (void)close(world->stderr_fd);
    (void)close(world->log_fd);
    (void)snprintf(command, sizeof command, "rm -rf %s %s.key %s.log %s", world->folder,
                   world->folder, world->folder, world->path);
    assert_int_equal(system(command), 0); /* NOLINT: a fixed command on our own folder */
    free(world);
    return 0;
}

/* ---- files and sockets ------------------------------------------------------------------------
 */

/* A whole file, to be freed by tf_buf_fini. */
static inline struct tf_buf read_whole(const char *path)
{
    struct tf_buf bytes;

    tf_buf_init(&bytes, 64u << 20);
    assert_int_equal(tf_config_read_file(path, &bytes), 0);
    return bytes;
}

static inline int connect_to(const char *path, int type)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    (void)snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

#endif
