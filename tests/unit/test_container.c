/*
 * test_container.c - what the container input promises, through the real pipeline and a real spool:
 * every line once, over rotation, copies, cuts, deletion, restarts and failed syncs; gaps where a
 * line cannot be had; nothing opened that a hostile folder holds out. All of it twice: the input
 * opens files by itself, and by the process that does nothing else.
 *
 * The output is a fake that keeps what the frames say. fdatasync, pread and inotify_init1 are
 * defined here, before libc's, so that they fail when a test says so; fdopendir and closedir, so
 * that a scan waits.
 */
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>
#include <msgpack.h>
#include <zlib.h>

#include "../../agent/inputs/container/internal.h"

#include "taffrail/container.h"
#include "taffrail/log.h"
#include "taffrail/output.h"
#include "taffrail/pipeline.h"
#include "taffrail/status.h"

#define DEADLINE_MS 20000u
#define SEEN_MAX    40000u
#define PATH_SIZE   512u

/* ---- faults
 * --------------------------------------------------------------------------------------- */

static atomic_int fail_sync_in;

int fdatasync(int fd)
{
    if (atomic_load(&fail_sync_in) > 0 && atomic_fetch_sub(&fail_sync_in, 1) == 1) {
        errno = EIO;
        return -1;
    }
    return (int)syscall(SYS_fdatasync, fd);
}

static atomic_bool fail_reads, no_inotify, no_watches;

/* Fails for log files only. */
ssize_t pread(int fd, void *data, size_t size, off_t offset)
{
    char link[64], path[PATH_SIZE] = "";

    if (atomic_load(&fail_reads)) {
        (void)snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        if (readlink(link, path, sizeof path - 1) > 0 && strstr(path, "/pods/") != NULL) {
            errno = EIO;
            return -1;
        }
    }
    return syscall(SYS_pread64, fd, data, size, offset);
}

int inotify_init1(int flags)
{
    if (atomic_load(&no_inotify)) {
        errno = EMFILE;
        return -1;
    }
    return (int)syscall(SYS_inotify_init1, flags);
}

int inotify_add_watch(int fd, const char *path, uint32_t mask)
{
    if (atomic_load(&no_watches)) {
        errno = ENOSPC;
        return -1;
    }
    return (int)syscall(SYS_inotify_add_watch, fd, path, mask);
}

/* A scan stops before it lists its first folder, until the test lets it go on. */
enum { GATE_OPEN, GATE_ARMED, GATE_SHUT, GATE_RELEASED, GATE_PASSED };
static atomic_int gate;
static _Atomic(DIR *) gated;

DIR *fdopendir(int fd)
{
    DIR *(*real)(int) = (DIR * (*)(int)) dlsym(RTLD_NEXT, "fdopendir");
    int armed = GATE_ARMED;
    DIR *dir;

    if (!atomic_compare_exchange_strong(&gate, &armed, GATE_SHUT)) {
        return real(fd);
    }
    while (atomic_load(&gate) == GATE_SHUT) {
        (void)usleep(100);
    }
    dir = real(fd);
    atomic_store(&gated, dir);
    return dir;
}

int closedir(DIR *dir)
{
    int (*real)(DIR *) = (int (*)(DIR *))dlsym(RTLD_NEXT, "closedir");
    bool is_gated = atomic_load(&gated) == dir;
    int rc = real(dir);

    if (is_gated) {
        atomic_store(&gated, NULL);
        atomic_store(&gate, GATE_PASSED);
    }
    return rc;
}

/* ---- what arrived
 * ----------------------------------------------------------------------------------- */

struct seen {
    char *log, *reason, *pod, *input, *source;
    char tag[64];
    bool is_gap, is_unfinished, is_truncated;
    int64_t bytes_max; /* -1: not told */
};

static struct seen all[SEEN_MAX];
static size_t seen_count, line_count;

static char *copy_text(const msgpack_object *value)
{
    return value->type == MSGPACK_OBJECT_STR || value->type == MSGPACK_OBJECT_BIN
               ? strndup(value->via.str.ptr, value->via.str.size)
               : NULL;
}

static bool key_is(const msgpack_object_kv *pair, const char *key)
{
    return pair->key.via.str.size == strlen(key) &&
           memcmp(pair->key.via.str.ptr, key, strlen(key)) == 0;
}

static void take_field(struct seen *seen, const msgpack_object_kv *pair)
{
    if (key_is(pair, "log")) {
        seen->log = copy_text(&pair->val);
    } else if (key_is(pair, "reason")) {
        seen->reason = copy_text(&pair->val);
    } else if (key_is(pair, "input")) {
        seen->input = copy_text(&pair->val);
    } else if (key_is(pair, "source")) {
        seen->source = copy_text(&pair->val);
    } else if (key_is(pair, "bytes_max")) {
        seen->bytes_max = (int64_t)pair->val.via.u64;
    } else if (key_is(pair, "event")) {
        seen->is_gap = pair->val.via.str.size == 3 && memcmp(pair->val.via.str.ptr, "gap", 3) == 0;
    } else if (key_is(pair, "kubernetes") || key_is(pair, "taffrail")) {
        for (uint32_t i = 0; i < pair->val.via.map.size; i++) {
            const msgpack_object_kv *inner = &pair->val.via.map.ptr[i];

            if (key_is(inner, "pod_name")) {
                seen->pod = copy_text(&inner->val);
            }
            seen->is_unfinished = seen->is_unfinished || key_is(inner, "unfinished");
            seen->is_truncated = seen->is_truncated || key_is(inner, "truncated");
        }
    }
}

static void take_events(const char *tag, const char *data, size_t size)
{
    size_t at = 0;

    while (at < size && seen_count < SEEN_MAX) {
        struct seen *seen = &all[seen_count++];
        msgpack_unpacked event;

        msgpack_unpacked_init(&event);
        assert_int_equal(msgpack_unpack_next(&event, data, size, &at), MSGPACK_UNPACK_SUCCESS);
        *seen = (struct seen){.bytes_max = -1};
        (void)snprintf(seen->tag, sizeof seen->tag, "%s", tag);
        for (uint32_t i = 0; i < event.data.via.array.ptr[1].via.map.size; i++) {
            take_field(seen, &event.data.via.array.ptr[1].via.map.ptr[i]);
        }
        line_count += strcmp(tag, "taffrail.audit") != 0;
        msgpack_unpacked_destroy(&event);
    }
}

static void take_frame(const struct tf_frame *frame)
{
    static char plain[20u << 20];
    z_stream stream = {0};

    assert_int_equal(inflateInit2(&stream, 15 + 16), Z_OK);
    stream.next_in = (Bytef *)(uintptr_t)frame->payload.data;
    stream.avail_in = (uInt)frame->payload.size;
    stream.next_out = (Bytef *)plain;
    stream.avail_out = sizeof plain;
    assert_int_equal(inflate(&stream, Z_FINISH), Z_STREAM_END);
    take_events(frame->tag, plain, sizeof plain - stream.avail_out);
    (void)inflateEnd(&stream);
}

static void forget_seen(void)
{
    for (size_t i = 0; i < seen_count; i++) {
        free(all[i].log);
        free(all[i].reason);
        free(all[i].input);
        free(all[i].source);
        free(all[i].pod);
    }
    seen_count = 0;
    line_count = 0;
}

/* How often a line arrived. */
static unsigned times(const char *log)
{
    unsigned count = 0;

    for (size_t i = 0; i < seen_count; i++) {
        count += strcmp(all[i].tag, "taffrail.audit") != 0 && all[i].log != NULL &&
                 strcmp(all[i].log, log) == 0;
    }
    return count;
}

static const struct seen *find_line(const char *log)
{
    for (size_t i = 0; i < seen_count; i++) {
        if (all[i].log != NULL && strcmp(all[i].log, log) == 0) {
            return &all[i];
        }
    }
    fail_msg("not there: %s", log);
    return NULL;
}

static size_t order_of(const char *log)
{
    return (size_t)(find_line(log) - all);
}

static unsigned gaps(const char *reason)
{
    unsigned count = 0;

    for (size_t i = 0; i < seen_count; i++) {
        count += all[i].is_gap && strcmp(all[i].reason, reason) == 0;
    }
    return count;
}

/* Lines "PREFIX0".."PREFIXn-1", each once. */
static void assert_each_once(const char *prefix, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        char line[64];

        (void)snprintf(line, sizeof line, "%s%u", prefix, i);
        if (times(line) != 1) {
            fail_msg("%s came %u times", line, times(line));
        }
    }
}

/* ---- the fake output
 * ---------------------------------------------------------------------------------- */

static bool acks;

struct fake {
    struct tf_feed *feed;
};

static void fake_wake(void *self)
{
    struct fake *fake = self;
    struct tf_frame *frame;

    while (tf_feed_next(fake->feed, &frame) == 0) {
        take_frame(frame);
        if (acks) {
            (void)tf_feed_ack(fake->feed, frame->seq);
        }
        tf_frame_unref(frame);
    }
}

static int fake_open(const struct tf_output_args *args, void **self, struct tf_error *err)
{
    (void)args;
    (void)err;
    *self = calloc(1, sizeof(struct fake));
    return *self == NULL ? -ENOMEM : 0;
}

static int fake_start(void *self, struct tf_feed *feed, struct tf_error *err)
{
    (void)err;
    ((struct fake *)self)->feed = feed;
    fake_wake(self);
    return 0;
}

static void fake_close(void *self, void (*on_closed)(void *ctx), void *ctx)
{
    free(self);
    on_closed(ctx);
}

static const struct tf_output_kind fake_kind = {.name = "fake",
                                                .window = 32,
                                                .open = fake_open,
                                                .start = fake_start,
                                                .wake = fake_wake,
                                                .close = fake_close};

/* ---- fixture
 * ---------------------------------------------------------------------------------------------- */

struct fixture {
    uv_loop_t loop;
    uv_timer_t tick, deadline;
    bool is_late, is_stopped, is_running;
    char root[64], logs[96], spool[96], path[PATH_SIZE];
    struct tf_text globs[4], link_roots[2], everything, names[4];
    struct tf_container_options options;
    struct tf_plugin_config input, output;
    struct tf_config config;
    struct tf_pair label;
    char label_text[4096];
    struct tf_pipeline *pipeline;
};

static bool is_by_process; /* logs are opened by a process of its own (opener.h) */

static const char *at(struct fixture *f, const char *name)
{
    (void)snprintf(f->path, sizeof f->path, "%s/%s", f->logs, name);
    return f->path;
}

static void on_tick(uv_timer_t *timer)
{
    (void)timer;
}

static void on_deadline(uv_timer_t *timer)
{
    ((struct fixture *)timer->data)->is_late = true;
}

static void start(struct fixture *f)
{
    struct tf_error err;

    assert_int_equal(uv_loop_init(&f->loop), 0);
    assert_int_equal(uv_timer_init(&f->loop, &f->tick), 0);
    assert_int_equal(uv_timer_init(&f->loop, &f->deadline), 0);
    f->deadline.data = f;
    assert_int_equal(uv_timer_start(&f->tick, on_tick, 5, 5), 0);
    tf_error_init(&err);
    if (is_by_process) {
        assert_int_equal(tf_container_start_opener(&f->config.inputs, &f->config.opener), 0);
        assert_non_null(f->config.opener);
    }
    if (tf_pipeline_new(&f->loop, &f->config, &f->pipeline, &err) < 0 ||
        tf_pipeline_start(f->pipeline, &err) < 0) {
        fail_msg("%s", tf_error_first(&err));
    }
    tf_error_fini(&err);
    f->is_running = true;
}

static void on_stopped(void *ctx)
{
    ((struct fixture *)ctx)->is_stopped = true;
}

static void stop(struct fixture *f)
{
    f->is_stopped = false;
    tf_pipeline_stop(f->pipeline, on_stopped, f);
    while (!f->is_stopped) {
        (void)uv_run(&f->loop, UV_RUN_ONCE);
    }
    tf_pipeline_free(f->pipeline);
    assert_false(tf_opener_process_has_ended(f->config.opener));
    tf_opener_process_free(f->config.opener);
    f->config.opener = NULL;
    uv_close((uv_handle_t *)&f->tick, NULL);
    uv_close((uv_handle_t *)&f->deadline, NULL);
    (void)uv_run(&f->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&f->loop), 0);
    f->is_running = false;
}

static void run_for(struct fixture *f, uint64_t ms)
{
    f->is_late = false;
    assert_int_equal(uv_timer_start(&f->deadline, on_deadline, ms, 0), 0);
    while (!f->is_late) {
        (void)uv_run(&f->loop, UV_RUN_ONCE);
    }
}

/* Until so many lines have arrived; then a little longer, for what should not come. */
static void run_until_lines(struct fixture *f, size_t lines)
{
    f->is_late = false;
    assert_int_equal(uv_timer_start(&f->deadline, on_deadline, DEADLINE_MS, 0), 0);
    while (line_count < lines && !f->is_late) {
        (void)uv_run(&f->loop, UV_RUN_ONCE);
    }
    if (line_count < lines) {
        fail_msg("%zu lines came, not %zu", line_count, lines);
    }
    run_for(f, 30);
    assert_int_equal(line_count, lines);
}

static void run_until_gap(struct fixture *f, const char *reason)
{
    f->is_late = false;
    assert_int_equal(uv_timer_start(&f->deadline, on_deadline, DEADLINE_MS, 0), 0);
    while (gaps(reason) == 0 && !f->is_late) {
        (void)uv_run(&f->loop, UV_RUN_ONCE);
    }
    assert_int_equal(gaps(reason), 1);
}

static struct tf_input_status status_of(const struct fixture *f)
{
    struct tf_status status;
    struct tf_input_status own;

    assert_int_equal(tf_pipeline_status(f->pipeline, &status), 0);
    own = status.inputs[0].own;
    tf_status_fini(&status);
    return own;
}

static void run_until_a_read_fails(struct fixture *f)
{
    uint64_t before = status_of(f).errors[TF_INPUT_READ];

    f->is_late = false;
    assert_int_equal(uv_timer_start(&f->deadline, on_deadline, DEADLINE_MS, 0), 0);
    while (status_of(f).errors[TF_INPUT_READ] == before && !f->is_late) {
        (void)uv_run(&f->loop, UV_RUN_ONCE);
    }
    assert_true(status_of(f).errors[TF_INPUT_READ] > before);
}

static size_t stored(struct fixture *f);

static void run_until_stored(struct fixture *f, size_t count)
{
    f->is_late = false;
    assert_int_equal(uv_timer_start(&f->deadline, on_deadline, DEADLINE_MS, 0), 0);
    while (stored(f) != count && !f->is_late) {
        (void)uv_run(&f->loop, UV_RUN_ONCE);
    }
    assert_int_equal(stored(f), count);
}

static void count_key(void *ctx, struct tf_slice key, struct tf_slice value)
{
    (void)key;
    (void)value;
    ++*(size_t *)ctx;
}

/* How many positions the spool knows. */
static size_t stored(struct fixture *f)
{
    size_t count = 0;

    tf_state_each(tf_pipeline_spool(f->pipeline), tf_slice_text("file/container/"), count_key,
                  &count);
    return count;
}

static void make_dir(struct fixture *f, const char *name)
{
    assert_int_equal(mkdir(at(f, name), 0755), 0);
}

static void append(struct fixture *f, const char *name, const char *text)
{
    int fd = open(at(f, name), O_WRONLY | O_CREAT | O_APPEND, 0644);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    assert_int_equal(close(fd), 0);
}

/* Plain lines PREFIXfirst..PREFIX(first + count - 1). */
static void append_lines(struct fixture *f, const char *name, const char *prefix, unsigned first,
                         unsigned count)
{
    FILE *file = fopen(at(f, name), "a");

    assert_non_null(file);
    for (unsigned i = first; i < first + count; i++) {
        (void)fprintf(file, "%s%u\n", prefix, i);
    }
    assert_int_equal(fclose(file), 0);
}

static void rename_log(struct fixture *f, const char *from, const char *to)
{
    char old[PATH_SIZE];

    (void)snprintf(old, sizeof old, "%s/%s", f->logs, from);
    assert_int_equal(rename(old, at(f, to)), 0);
}

static void copy_log(struct fixture *f, const char *from, const char *to)
{
    char bytes[65536];
    int in = open(at(f, from), O_RDONLY);
    int out = open(at(f, to), O_WRONLY | O_CREAT | O_TRUNC, 0644);
    ssize_t size;

    assert_true(in >= 0 && out >= 0);
    while ((size = read(in, bytes, sizeof bytes)) > 0) {
        assert_int_equal(write(out, bytes, (size_t)size), size);
    }
    (void)close(in);
    (void)close(out);
}

static void cut_log(struct fixture *f, const char *name)
{
    assert_int_equal(truncate(at(f, name), 0), 0);
}

/* As gzip does it: the file is gone, what it held stands in name.gz. */
static void compress_log(struct fixture *f, const char *name)
{
    char bytes[65536], path[PATH_SIZE];
    int in = open(at(f, name), O_RDONLY);
    gzFile out;
    ssize_t size;

    (void)snprintf(path, sizeof path, "%s/%s.gz", f->logs, name);
    out = gzopen(path, "wb");
    assert_true(in >= 0 && out != NULL);
    while ((size = read(in, bytes, sizeof bytes)) > 0) {
        assert_int_equal(gzwrite(out, bytes, (unsigned)size), size);
    }
    (void)close(in);
    assert_int_equal(gzclose(out), Z_OK);
    assert_int_equal(unlink(at(f, name)), 0);
}

/* From here on a scan knows what it knew, and sees what is made before let_scan_go. */
static void hold_scan(struct fixture *f)
{
    atomic_store(&gate, GATE_ARMED);
    append(f, "a hint", "");
    f->is_late = false;
    assert_int_equal(uv_timer_start(&f->deadline, on_deadline, DEADLINE_MS, 0), 0);
    while (atomic_load(&gate) != GATE_SHUT && !f->is_late) {
        (void)uv_run(&f->loop, UV_RUN_ONCE);
    }
    assert_int_equal(atomic_load(&gate), GATE_SHUT);
}

/* The loop learns of nothing before the scan has seen all there is. */
static void let_scan_go(void)
{
    atomic_store(&gate, GATE_RELEASED);
    while (atomic_load(&gate) != GATE_PASSED) {
        (void)usleep(100);
    }
}

static void make_link(struct fixture *f, const char *target, const char *name)
{
    assert_int_equal(symlink(target, at(f, name)), 0);
}

static int remove_entry(const char *path, const struct stat *status, int type, struct FTW *ftw)
{
    (void)status;
    (void)type;
    (void)ftw;
    return remove(path);
}

static void set_glob(struct fixture *f, const char *glob)
{
    free((char *)(uintptr_t)f->globs[0].text);
    f->globs[0].text = strdup(at(f, glob));
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);

    assert_non_null(f);
    (void)snprintf(f->root, sizeof f->root, "/tmp/taffrail-container-XXXXXX");
    acks = true;
    assert_non_null(mkdtemp(f->root));
    (void)snprintf(f->logs, sizeof f->logs, "%s/pods", f->root);
    (void)snprintf(f->spool, sizeof f->spool, "%s/spool", f->root);
    assert_int_equal(mkdir(f->logs, 0755), 0);
    f->everything.text = "**";
    set_glob(f, "*.log");
    f->options = (struct tf_container_options){.paths = {.items = f->globs, .count = 1},
                                               .format = TF_FORMAT_PLAIN,
                                               .max_line_bytes = 1u << 20,
                                               .rescan_ms = 50,
                                               .deleted = {1u << 30, 3600000}};
    f->input = (struct tf_plugin_config){.kind = &tf_input_container,
                                         .kind_name = "container",
                                         .name = "container",
                                         .tag = "container",
                                         .options = &f->options};
    f->output = (struct tf_plugin_config){.kind = &fake_kind,
                                          .kind_name = "fake",
                                          .name = "fake",
                                          .match = {.items = &f->everything, .count = 1}};
    f->config = (struct tf_config){
        .agent = {.workers = 2, .stop_timeout_ms = 5000},
        .inputs = {.items = &f->input, .count = 1},
        .outputs = {.items = &f->output, .count = 1},
        .spool = {.path = {.text = f->spool},
                  .max_size_bytes = UINT64_C(1) << 30,
                  .sync = {TF_SYNC_INTERVAL, 10},
                  .segment_size_bytes = 16u << 20},
    };
    tf_log_configure(TF_LOG_ERROR + 1, TF_LOG_LOGFMT);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    if (f->is_running) {
        stop(f);
    }
    forget_seen();
    atomic_store(&fail_sync_in, 0);
    atomic_store(&fail_reads, false);
    atomic_store(&no_inotify, false);
    atomic_store(&no_watches, false);
    atomic_store(&gate, GATE_OPEN);
    (void)nftw(f->root, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
    free((char *)(uintptr_t)f->globs[0].text);
    free(f);
    return 0;
}

/* ---- finding
 * ------------------------------------------------------------------------------------------------
 */

#define POD_A "shop_web-1_0a1b2c3d-0000-4000-8000-000000000001"
#define POD_B "kube-system_dns-1_0a1b2c3d-0000-4000-8000-000000000002"

static void make_pods(struct fixture *f)
{
    set_glob(f, "*/*/*.log");
    f->options.format = TF_FORMAT_AUTO;
    make_dir(f, POD_A);
    make_dir(f, POD_A "/app");
    make_dir(f, POD_B);
    make_dir(f, POD_B "/dns");
    append(f, POD_A "/app/0.log", "2026-11-24T10:00:00.000000001Z stdout F from a\n");
    append(f, POD_B "/dns/3.log",
           "{\"log\":\"from b\\n\",\"stream\":\"stderr\",\"time\":\"2026-11-24T10:00:00Z\"}\n");
    append(f, POD_B "/dns/3.log.20261124-100000.gz", "not read");
    append(f, POD_A "/app/notes.txt", "not read\n");
}

static void files_are_found_by_glob_and_named_by_their_path(void **state)
{
    struct fixture *f = *state;

    make_pods(f);
    f->input.tag = "k.{namespace}.{container}";
    start(f);
    run_until_lines(f, 2);
    assert_string_equal(find_line("from a")->pod, "web-1");
    assert_string_equal(find_line("from a")->tag, "k.shop.app");
    assert_string_equal(find_line("from b")->tag, "k.kube-system.dns");
}

static void include_and_exclude_select_by_names(void **state)
{
    struct fixture *f = *state;

    make_pods(f);
    f->names[0].text = "kube-*";
    f->options.exclude.namespaces = (struct tf_texts){.items = &f->names[0], .count = 1};
    start(f);
    run_until_lines(f, 1);
    assert_int_equal(times("from a"), 1);
    stop(f);
    forget_seen();
    f->options.exclude.namespaces.count = 0;
    f->names[1].text = "dn?";
    f->options.include.containers = (struct tf_texts){.items = &f->names[1], .count = 1};
    start(f);
    run_until_lines(f, 1);
    assert_int_equal(times("from b"), 1);
    assert_int_equal(gaps("deleted"), 0); /* what is left out is still there */
}

static void an_unknown_name_is_none(void **state)
{
    struct fixture *f = *state;

    append(f, "app.log", "one\n");
    f->input.tag = "x.{namespace}.{pod}";
    start(f);
    run_until_lines(f, 1);
    assert_string_equal(find_line("one")->tag, "x.none.none");
}

static void two_stars_cross_folders(void **state)
{
    struct fixture *f = *state;

    set_glob(f, "**/*.log");
    make_dir(f, "a");
    make_dir(f, "a/b");
    append(f, "top.log", "top\n");
    append(f, "a/b/deep.log", "deep\n");
    append(f, "a/b/deep.txt", "no\n");
    start(f);
    run_until_lines(f, 2);
    make_dir(f, "a/c");
    append(f, "a/c/late.log", "late\n");
    run_until_lines(f, 3);
}

static void bad_options_are_told(void **state)
{
    struct fixture *f = *state;
    struct tf_input_args args = {.name = "container", .tag = "{host}", .options = &f->options};
    struct tf_text owner = {.text = "nobody-of-this-name"};
    struct tf_error err;
    void *self;

    f->options.link_roots = (struct tf_texts){.items = f->link_roots, .count = 1};
    f->link_roots[0].text = "relative";
    tf_error_init(&err);
    assert_int_equal(tf_input_container.open(&args, &self, &err), -EINVAL);
    assert_int_equal(err.errors, 2);
    tf_error_fini(&err);
    tf_error_init(&err);
    f->options.link_roots.count = 0;
    f->options.owners = (struct tf_texts){.items = &owner, .count = 1};
    args.tag = "container";
    assert_int_equal(tf_input_container.open(&args, &self, &err), -EINVAL);
    assert_int_equal(err.errors, 1);
    assert_non_null(strstr(tf_error_first(&err), "\"nobody-of-this-name\" is no user"));
    tf_error_fini(&err);
    tf_error_init(&err);
    f->options.paths.count = 0;
    assert_int_equal(tf_input_container.open(&args, &self, &err), -EINVAL);
    tf_error_fini(&err);
}

/* ---- what is not opened
 * ---------------------------------------------------------------------------------------- */

static void links_lead_into_link_roots_only(void **state)
{
    struct fixture *f = *state;
    char inside[PATH_SIZE], outside[PATH_SIZE], in_root[96];

    (void)snprintf(in_root, sizeof in_root, "%s/docker", f->root);
    assert_int_equal(mkdir(in_root, 0755), 0);
    f->link_roots[0].text = in_root;
    f->options.link_roots = (struct tf_texts){.items = f->link_roots, .count = 1};
    (void)snprintf(inside, sizeof inside, "%s/in.txt", in_root);
    (void)snprintf(outside, sizeof outside, "%s/secret", f->root);
    append(f, "../docker/in.txt", "inside\n");
    append(f, "../secret", "outside\n");
    make_link(f, inside, "in.log");
    make_link(f, outside, "out.log");
    make_link(f, "../secret", "relative.log");
    make_link(f, "../docker/../secret", "dots.log");
    make_link(f, "in.log", "twice.log");     /* the same file: read once */
    make_link(f, "loop.log", "loop.log");    /* too many */
    make_link(f, "/dev/null", "device.log"); /* leads out */
    start(f);
    run_until_lines(f, 1);
    assert_int_equal(times("inside"), 1);
}

static void what_is_no_plain_file_of_ours_is_refused(void **state)
{
    struct fixture *f = *state;
    char original[PATH_SIZE];

    append(f, "good.log", "good\n");
    append(f, "shadow", "hard\n");
    (void)snprintf(original, sizeof original, "%s", at(f, "shadow"));
    assert_int_equal(link(original, at(f, "hard.log")), 0);
    assert_int_equal(mkfifo(at(f, "fifo.log"), 0644), 0);
    make_dir(f, "dir.log");
    append(f, ".hidden.log", "hidden\n");
    if (geteuid() == 0) {
        append(f, "foreign.log", "foreign\n");
        assert_int_equal(chown(at(f, "foreign.log"), 12345, 12345), 0);
    }
    start(f);
    run_until_lines(f, 1);
    assert_int_equal(times("good"), 1);
    assert_true(status_of(f).errors[TF_INPUT_OPEN] >= (geteuid() == 0 ? 3 : 2));
}

static void a_folder_that_others_may_write_is_not_read(void **state)
{
    struct fixture *f = *state;

    set_glob(f, "*/*.log");
    make_dir(f, "open");
    make_dir(f, "closed");
    append(f, "open/a.log", "open\n");
    append(f, "closed/a.log", "closed\n");
    assert_int_equal(chmod(at(f, "open"), 0777), 0);
    make_link(f, "closed", "linked"); /* folders are not reached through links */
    start(f);
    run_until_lines(f, 1);
    assert_int_equal(times("closed"), 1);
}

/* ---- following
 * ----------------------------------------------------------------------------------------------------
 */

static void what_is_appended_arrives_once(void **state)
{
    struct fixture *f = *state;

    f->options.rescan_ms = 10000; /* by hints alone */
    append_lines(f, "a.log", "l", 0, 10);
    start(f);
    run_until_lines(f, 10);
    append_lines(f, "a.log", "l", 10, 10);
    run_until_lines(f, 20);
    append(f, "a.log", "l2");
    run_for(f, 50);
    append(f, "a.log", "0\n");
    append_lines(f, "new.log", "n", 0, 5);
    run_until_lines(f, 26);
    assert_each_once("l", 21);
    assert_each_once("n", 5);
    assert_int_equal(stored(f), 2);
}

static void long_files_are_read_in_blocks(void **state)
{
    struct fixture *f = *state;
    static char line[600001];

    memset(line, 'x', sizeof line - 2);
    line[sizeof line - 2] = '\n';
    append_lines(f, "a.log", "some text that makes the line longer ", 0, 20000);
    append(f, "a.log", line); /* longer than a block */
    append_lines(f, "a.log", "after", 0, 3);
    start(f);
    run_until_lines(f, 20004);
    assert_each_once("after", 3);
}

static void many_files_are_followed(void **state)
{
    struct fixture *f = *state;

    for (unsigned i = 0; i < 200; i++) {
        char name[32], prefix[32];

        (void)snprintf(name, sizeof name, "%u.log", i);
        (void)snprintf(prefix, sizeof prefix, "f%u-", i);
        append_lines(f, name, prefix, 0, 5);
    }
    start(f);
    run_until_lines(f, 1000);
    append(f, "77.log", "more\n");
    run_until_lines(f, 1001);
    assert_int_equal(stored(f), 200);
    assert_each_once("f77-", 5);
}

static void a_restart_goes_on_where_it_was(void **state)
{
    struct fixture *f = *state;

    append_lines(f, "a.log", "l", 0, 1000);
    start(f);
    run_until_lines(f, 1000);
    stop(f);
    append_lines(f, "a.log", "l", 1000, 500);
    append_lines(f, "born.log", "b", 0, 5);
    start(f);
    run_until_lines(f, 1505);
    assert_each_once("l", 1500);
    stop(f);
    start(f);
    run_for(f, 60);
    assert_int_equal(line_count, 1505);
}

static void a_stop_in_the_middle_loses_and_doubles_nothing(void **state)
{
    struct fixture *f = *state;

    append_lines(f, "a.log", "some text that fills the block ", 0, 20000);
    for (unsigned i = 0; i < 8; i++) {
        start(f);
        run_for(f, 5 + i);
        stop(f);
    }
    start(f);
    run_until_lines(f, 20000);
    for (unsigned i = 0; i < 20000; i += 997) {
        char line[64];

        (void)snprintf(line, sizeof line, "some text that fills the block %u", i);
        assert_int_equal(times(line), 1);
    }
}

static void a_piece_that_was_held_is_read_again(void **state)
{
    struct fixture *f = *state;

    f->options.format = TF_FORMAT_CRI;
    append(f, "a.log",
           "2026-11-24T10:00:00Z stdout P first \n2026-11-24T10:00:00Z stderr F other\n");
    start(f);
    run_until_lines(f, 1);
    stop(f);
    append(f, "a.log", "2026-11-24T10:00:01Z stdout F second\n");
    start(f);
    run_until_lines(f, 2);
    assert_int_equal(times("first second"), 1);
    assert_int_equal(times("other"), 1);
}

static void a_failed_sync_is_read_again_once(void **state)
{
    struct fixture *f = *state;

    append_lines(f, "a.log", "l", 0, 10);
    start(f);
    run_until_lines(f, 10);
    atomic_store(&fail_sync_in, 1);
    append_lines(f, "a.log", "l", 10, 100);
    run_until_lines(f, 110);
    append_lines(f, "a.log", "l", 110, 10);
    run_until_lines(f, 120);
    assert_each_once("l", 120);
}

static void a_failed_read_is_tried_again(void **state)
{
    struct fixture *f = *state;

    append_lines(f, "a.log", "l", 0, 10);
    atomic_store(&fail_reads, true);
    start(f);
    run_until_a_read_fails(f);
    assert_int_equal(line_count, 0);
    atomic_store(&fail_reads, false);
    run_until_lines(f, 10);
    atomic_store(&fail_reads, true);
    append_lines(f, "a.log", "l", 10, 10);
    run_until_a_read_fails(f);
    atomic_store(&fail_reads, false);
    run_until_lines(f, 20);
    assert_each_once("l", 20);
    assert_int_equal(gaps("copytruncate"), 0);
    assert_int_equal(status_of(f).errors[TF_INPUT_OPEN], 0);
}

/* It is told how long it did not read, and not once more for each time that it was woken. */
static void a_log_over_its_rate_waits_in_its_file(void **state)
{
    struct fixture *f = *state;
    uint64_t began_ns = uv_hrtime(), took_ms;

    f->options.max_rate_bytes = 512 << 10;
    append_lines(f, "a.log", "a line of the log that is read at some rate ", 0, 12000);
    start(f);
    for (unsigned i = 0; i < 10; i++) {
        run_for(f, 20);
        append_lines(f, "a.log", "more ", i, 1);
    }
    run_until_lines(f, 12010);
    took_ms = (uv_hrtime() - began_ns) / (uint64_t)TF_MS_IN_NS;
    assert_true(status_of(f).rate_ms > 300);
    assert_true(status_of(f).rate_ms <= took_ms + 1000); /* what is still to be waited, too */
}

static void without_hints_the_scans_find_it_all(void **state)
{
    struct fixture *f = *state;

    atomic_store(&no_inotify, true);
    append_lines(f, "0.log", "l", 0, 10);
    start(f);
    run_until_lines(f, 10);
    append_lines(f, "0.log", "l", 10, 10);
    run_until_lines(f, 20);
    rename_log(f, "0.log", "0.log.1");
    append_lines(f, "0.log", "n", 0, 10);
    run_until_lines(f, 30);
    assert_int_equal(unlink(at(f, "0.log.1")), 0);
    run_until_stored(f, 1);
}

/* Then files are looked at by time, whatever `rescan` says. */
static void without_watches_files_are_polled(void **state)
{
    struct fixture *f = *state;

    atomic_store(&no_watches, true);
    f->options.rescan_ms = 3600000;
    append_lines(f, "0.log", "l", 0, 10);
    start(f);
    run_until_lines(f, 10);
    append_lines(f, "0.log", "l", 10, 10);
    append_lines(f, "1.log", "n", 0, 10);
    run_until_lines(f, 30);
}

static void newest_begins_at_the_end_of_what_is_there(void **state)
{
    struct fixture *f = *state;

    f->options.start_at = 1;
    append_lines(f, "a.log", "old", 0, 10);
    append(f, "a.log", "half");
    start(f);
    run_until_stored(f, 1);
    append(f, "a.log", " line\n");
    append_lines(f, "b.log", "new", 0, 3);
    run_until_lines(f, 4);
    assert_int_equal(times("half line"), 1);
    stop(f);
    append_lines(f, "c.log", "down", 0, 3); /* born while nobody ran: not passed over */
    start(f);
    run_until_lines(f, 7);
    assert_each_once("down", 3);
}

/* ---- rotation
 * --------------------------------------------------------------------------------------------------------
 */

static void a_renamed_file_is_read_to_its_end(void **state)
{
    struct fixture *f = *state;
    int fd;

    append_lines(f, "0.log", "l", 0, 10);
    start(f);
    run_until_lines(f, 10);
    fd = open(at(f, "0.log"), O_WRONLY | O_APPEND);
    rename_log(f, "0.log", "0.log.20261124-100000");
    append_lines(f, "0.log", "n", 0, 10);
    assert_int_equal(write(fd, "late\nlast", 9), 9); /* the writer had not noticed yet */
    assert_int_equal(close(fd), 0);
    run_until_lines(f, 22); /* `last` has no newline: it ends with the file */
    assert_each_once("l", 10);
    assert_each_once("n", 10);
    assert_int_equal(times("last"), 1);
    append(f, "0.log.20261124-100000", "\nafter\n"); /* even then */
    run_until_lines(f, 24);
    assert_int_equal(unlink(at(f, "0.log.20261124-100000")), 0);
    run_until_stored(f, 1);
    assert_int_equal(gaps("deleted"), 0);
    assert_int_equal(status_of(f).rotations[TF_ROTATION_RENAME], 1);
    assert_int_equal(status_of(f).rotations[TF_ROTATION_COPYTRUNCATE], 0);
}

static void what_was_rotated_while_nobody_ran_is_read_first(void **state)
{
    struct fixture *f = *state;

    append_lines(f, "0.log", "l", 0, 10);
    start(f);
    run_until_lines(f, 10);
    stop(f);
    append_lines(f, "0.log", "l", 10, 10);
    rename_log(f, "0.log", "0.log.1");
    append_lines(f, "0.log", "m", 0, 10);
    rename_log(f, "0.log.1", "0.log.2");
    rename_log(f, "0.log", "0.log.1"); /* born and rotated while nobody ran */
    append_lines(f, "0.log", "n", 0, 10);
    start(f);
    run_until_lines(f, 40);
    assert_each_once("l", 20);
    assert_each_once("m", 10);
    assert_each_once("n", 10);
    assert_true(order_of("l19") < order_of("n0"));
    assert_true(order_of("m9") < order_of("n0"));
    run_for(f, 60);
    stop(f);
    start(f);
    run_for(f, 60);
    assert_int_equal(line_count, 40);
    assert_int_equal(gaps("deleted") + gaps("copytruncate"), 0);
}

/* As cri-dockerd has it: the pod's file is a link, rotation happens where it leads. */
static void a_linked_file_is_followed_over_rotation(void **state)
{
    struct fixture *f = *state;
    char docker[96], old[128], new[128];

    (void)snprintf(docker, sizeof docker, "%s/docker", f->root);
    (void)snprintf(old, sizeof old, "%s/x.json", docker);
    (void)snprintf(new, sizeof new, "%s/x.json.1", docker);
    assert_int_equal(mkdir(docker, 0755), 0);
    make_pods(f);
    f->options.format = TF_FORMAT_PLAIN;
    f->link_roots[0].text = docker; /* a glob would name a file, too, if it found it first */
    f->options.link_roots = (struct tf_texts){.items = f->link_roots, .count = 1};
    assert_int_equal(unlink(at(f, POD_A "/app/0.log")), 0);
    make_link(f, old, POD_A "/app/0.log");
    append(f, "../docker/x.json", "one\n");
    start(f);
    run_until_lines(f, 2);
    assert_string_equal(find_line("one")->pod, "web-1");
    append(f, "../docker/x.json", "two\n");
    assert_int_equal(rename(old, new), 0);
    append(f, "../docker/x.json", "three\n");
    run_until_lines(f, 4);
    stop(f);
    append(f, "../docker/x.json", "four\n");
    (void)snprintf(new, sizeof new, "%s/x.json.2", docker);
    assert_int_equal(rename(old, new), 0);
    append(f, "../docker/x.json", "five\n");
    start(f);
    run_until_lines(f, 6);
    assert_string_equal(find_line("four")->pod, "web-1"); /* from its position */
    assert_string_equal(find_line("five")->pod, "web-1");
    assert_true(order_of("four") < order_of("five"));
    assert_int_equal(gaps("deleted"), 0);
}

static void a_held_piece_ends_with_its_file(void **state)
{
    struct fixture *f = *state;

    f->options.format = TF_FORMAT_CRI;
    append(f, "0.log", "2026-11-24T10:00:00Z stdout P never ends\n");
    start(f);
    run_for(f, 50);
    assert_int_equal(line_count, 0);
    rename_log(f, "0.log", "0.log.1");
    append(f, "0.log", "2026-11-24T10:00:00Z stdout F next\n");
    run_until_lines(f, 2);
    assert_true(find_line("never ends")->is_unfinished);
}

static void a_deleted_file_is_read_to_its_end_and_forgotten(void **state)
{
    struct fixture *f = *state;
    int fd;

    append_lines(f, "a.log", "l", 0, 10);
    start(f);
    run_until_lines(f, 10);
    assert_int_equal(stored(f), 1);
    fd = open(at(f, "a.log"), O_WRONLY | O_APPEND);
    assert_int_equal(unlink(at(f, "a.log")), 0);
    assert_int_equal(write(fd, "l10\nl11\n", 8), 8);
    run_until_lines(f, 12);
    assert_int_equal(close(fd), 0);
    run_until_stored(f, 0);
    assert_each_once("l", 12);
    assert_int_equal(gaps("deleted"), 0);
}

static void a_file_that_vanished_while_nobody_ran_is_a_gap(void **state)
{
    struct fixture *f = *state;

    make_pods(f);
    start(f);
    run_until_lines(f, 2);
    stop(f);
    append(f, POD_A "/app/0.log", "2026-11-24T10:00:01Z stdout F lost\n");
    assert_int_equal(unlink(at(f, POD_A "/app/0.log")), 0);
    start(f);
    run_until_gap(f, "deleted");
    for (size_t i = 0; i < seen_count; i++) {
        if (all[i].is_gap) {
            assert_string_equal(all[i].pod, "web-1");
            assert_string_equal(all[i].input, "container");
            assert_string_equal(all[i].source, at(f, POD_A "/app/0.log"));
            assert_int_equal(all[i].bytes_max, -1);
        }
    }
    run_until_stored(f, 1);
    stop(f);
    start(f);
    run_for(f, 60);
    assert_int_equal(gaps("deleted"), 1);
}

/* It is there, only not named for a time: no loss, and it goes on where it was. */
static void what_paths_does_not_name_is_kept(void **state)
{
    struct fixture *f = *state;

    make_dir(f, "one");
    make_dir(f, "two");
    set_glob(f, "one/*.log");
    append_lines(f, "one/a.log", "l", 0, 3);
    start(f);
    run_until_lines(f, 3);
    stop(f);
    set_glob(f, "two/*.log");
    append(f, "two/b.log", "other\n");
    append_lines(f, "one/a.log", "l", 3, 2);
    start(f);
    run_until_lines(f, 4);
    run_for(f, 100); /* scans that would tell of a missing file */
    assert_int_equal(gaps("deleted"), 0);
    assert_int_equal(stored(f), 2);
    stop(f);
    set_glob(f, "one/*.log");
    start(f);
    run_until_lines(f, 6);
    run_for(f, 100);
    assert_each_once("l", 5);
    assert_int_equal(gaps("deleted"), 0);
}

/* ---- files that are cut
 * --------------------------------------------------------------------------------------------------
 */

static void a_copy_is_read_on_before_the_cut_file(void **state)
{
    struct fixture *f = *state;

    append_lines(f, "a.log", "l", 0, 100);
    start(f);
    run_until_lines(f, 100);
    copy_log(f, "a.log", "a.log.1"); /* not read as a file of its own */
    run_for(f, 80);
    assert_int_equal(line_count, 100);
    assert_int_equal(truncate(at(f, "a.log"), 0), 0);
    append_lines(f, "a.log", "n", 0, 5);
    run_until_lines(f, 105);
    assert_each_once("l", 100);
    assert_each_once("n", 5);
    assert_int_equal(gaps("copytruncate"), 0);
    assert_int_equal(status_of(f).rotations[TF_ROTATION_COPYTRUNCATE], 1);
    assert_int_equal(status_of(f).rotations[TF_ROTATION_RENAME], 0);
}

static void a_copy_made_while_nobody_ran_is_read_on(void **state)
{
    struct fixture *f = *state;

    append_lines(f, "a.log", "l", 0, 100);
    start(f);
    run_until_lines(f, 100);
    stop(f);
    append_lines(f, "a.log", "l", 100, 20);
    copy_log(f, "a.log", "a.log.1");
    assert_int_equal(truncate(at(f, "a.log"), 0), 0);
    append_lines(f, "a.log", "a line that makes it longer than before ", 0, 50);
    start(f);
    run_until_lines(f, 170);
    assert_each_once("l", 120);
    assert_true(order_of("l119") < order_of("a line that makes it longer than before 0"));
    assert_int_equal(gaps("copytruncate"), 0);
    stop(f);
    start(f);
    run_for(f, 60);
    assert_int_equal(line_count, 170);
}

/* A copy, five more lines that are read, and a stop: before the file is cut. */
static void stop_between_copy_and_cut(struct fixture *f)
{
    append_lines(f, "a.log", "l", 0, 100);
    start(f);
    run_until_lines(f, 100);
    copy_log(f, "a.log", "a.log.1");
    append_lines(f, "a.log", "l", 100, 5);
    run_until_lines(f, 105);
    stop(f);
}

static void assert_all_came_once(struct fixture *f)
{
    start(f);
    run_until_lines(f, 110);
    run_for(f, 200);
    stop(f);
    start(f);
    run_for(f, 200);
    assert_each_once("l", 105);
    assert_each_once("n", 5);
    assert_int_equal(line_count, 110);
}

static int64_t gap_bytes(const char *reason)
{
    for (size_t i = 0; i < seen_count; i++) {
        if (all[i].is_gap && strcmp(all[i].reason, reason) == 0) {
            return all[i].bytes_max;
        }
    }
    return -1;
}

/* What of the copy could not be compared is told. */
static void a_copy_that_lacks_lines_read_is_known_after_a_restart(void **state)
{
    struct fixture *f = *state;

    stop_between_copy_and_cut(f);
    cut_log(f, "a.log");
    append_lines(f, "a.log", "n", 0, 5);
    assert_all_came_once(f);
    assert_int_equal(gaps("copytruncate"), 1);
    assert_int_equal(gap_bytes("copytruncate"), 390 - 64); /* its first bytes were compared */
    compress_log(f, "a.log.1");
    run_for(f, 200);
    assert_int_equal(line_count, 110);
}

static void a_compressed_copy_that_lacks_lines_read_is_known_after_a_restart(void **state)
{
    struct fixture *f = *state;

    stop_between_copy_and_cut(f);
    compress_log(f, "a.log.1");
    cut_log(f, "a.log");
    append_lines(f, "a.log", "n", 0, 5);
    assert_all_came_once(f);
    assert_int_equal(gaps("copytruncate"), 1);
    assert_int_equal(gaps("deleted"), 0);
}

/* Of the file more may have been lost: that is told. */
static void a_copy_that_lacks_lines_read_is_known_without_its_file(void **state)
{
    struct fixture *f = *state;

    stop_between_copy_and_cut(f);
    assert_int_equal(unlink(at(f, "a.log")), 0);
    append_lines(f, "a.log", "n", 0, 5);
    assert_all_came_once(f);
    assert_int_equal(gaps("deleted"), 1);
}

/* Compressed, such a copy cannot be told from a file that was cut and then compressed itself. */
static void a_file_that_was_cut_and_compressed_is_read(void **state)
{
    struct fixture *f = *state;

    append_lines(f, "a.log", "l", 0, 100);
    start(f);
    run_until_lines(f, 100);
    stop(f);
    assert_int_equal(truncate(at(f, "a.log"), 190), 0);
    append_lines(f, "a.log", "m", 0, 5);
    rename_log(f, "a.log", "a.log.1");
    compress_log(f, "a.log.1");
    append_lines(f, "a.log", "n", 0, 5);
    start(f);
    run_until_gap(f, "deleted");
    run_until_lines(f, 100 + 50 + 5 + 5);
    assert_each_once("m", 5);
    assert_each_once("n", 5);
}

/* It is none when its file was not cut, but renamed like itself. */
static void a_shorter_log_with_the_same_beginning_is_read(void **state)
{
    struct fixture *f = *state;

    append(f, "a.log", "it begins\n");
    append_lines(f, "a.log", "l", 0, 100);
    start(f);
    run_until_lines(f, 101);
    stop(f);
    rename_log(f, "a.log", "a.log.2");
    append(f, "a.log", "it begins\n");
    append_lines(f, "a.log", "l", 100, 20);
    rename_log(f, "a.log", "a.log.1");
    append_lines(f, "a.log", "n", 0, 5);
    start(f);
    run_until_lines(f, 101 + 21 + 5);
    assert_each_once("l", 120);
    assert_each_once("n", 5);
}

static void a_copy_is_known_before_its_file_was_ever_read(void **state)
{
    struct fixture *f = *state;

    append_lines(f, "a.log", "l", 0, 100);
    copy_log(f, "a.log", "a.log.1");
    start(f);
    run_until_lines(f, 100);
    run_for(f, 200);
    cut_log(f, "a.log");
    append_lines(f, "a.log", "n", 0, 5);
    run_until_lines(f, 105);
    run_for(f, 200);
    assert_each_once("l", 100);
    assert_each_once("n", 5);
    assert_int_equal(gaps("copytruncate"), 0);
}

static void a_copy_of_what_was_read_while_a_scan_ran_is_known(void **state)
{
    struct fixture *f = *state;

    append(f, "a.log", "");
    start(f);
    run_for(f, 100);
    hold_scan(f);
    append_lines(f, "a.log", "l", 0, 100);
    run_until_lines(f, 100);
    copy_log(f, "a.log", "a.log.1");
    cut_log(f, "a.log");
    let_scan_go();
    run_for(f, 200);
    append_lines(f, "a.log", "n", 0, 5);
    run_until_lines(f, 105);
    assert_each_once("l", 100);
    assert_each_once("n", 5);
    assert_int_equal(gaps("copytruncate"), 0);
}

static void a_copy_of_what_stood_behind_a_cut_while_a_scan_ran_is_known(void **state)
{
    struct fixture *f = *state;

    append_lines(f, "a.log", "l", 0, 100);
    start(f);
    run_until_lines(f, 100);
    hold_scan(f);
    copy_log(f, "a.log", "a.log.1");
    cut_log(f, "a.log");
    append_lines(f, "a.log", "n", 0, 30);
    run_until_lines(f, 130);
    copy_log(f, "a.log", "a.log.2");
    cut_log(f, "a.log");
    let_scan_go();
    run_for(f, 200);
    assert_each_once("l", 100);
    assert_each_once("n", 30);
    assert_int_equal(line_count, 130);
    assert_int_equal(gaps("copytruncate"), 0);
}

static void a_cut_without_a_copy_is_a_gap(void **state)
{
    struct fixture *f = *state;

    append_lines(f, "a.log", "l", 0, 100);
    start(f);
    run_until_lines(f, 100);
    assert_int_equal(truncate(at(f, "a.log"), 0), 0);
    append_lines(f, "a.log", "n", 0, 5);
    run_until_lines(f, 105);
    assert_int_equal(gaps("copytruncate"), 1);
    assert_each_once("n", 5);
    assert_int_equal(status_of(f).rotations[TF_ROTATION_COPYTRUNCATE], 1);
}

static void a_cut_file_that_grew_again_is_noticed(void **state)
{
    struct fixture *f = *state;

    append_lines(f, "a.log", "l", 0, 100);
    start(f);
    run_until_lines(f, 100);
    stop(f);
    assert_int_equal(truncate(at(f, "a.log"), 0), 0);
    append_lines(f, "a.log", "other", 0, 300);
    start(f);
    run_until_lines(f, 400);
    assert_int_equal(gaps("copytruncate"), 1);
    assert_each_once("other", 300);
}

static void a_lost_tail_goes_back_to_an_older_print(void **state)
{
    struct fixture *f = *state;

    append_lines(f, "a.log", "line number ", 0, 10000);
    start(f);
    run_until_lines(f, 10000);
    stop(f);
    assert_int_equal(truncate(at(f, "a.log"), 160000), 0);
    append_lines(f, "a.log", "\nafter the cut ", 0, 3);
    start(f);
    run_until_gap(f, "copytruncate");
    for (unsigned i = 0; i < 100 && times("after the cut 2") == 0; i++) {
        run_for(f, 100);
    }
    assert_int_equal(times("after the cut 2"), 1);
    assert_int_equal(times("line number 0"), 1); /* not from the start */
    assert_true(line_count < 10000 + 8000);      /* but from the print some 64 KiB back */
    assert_int_equal(status_of(f).rotations[TF_ROTATION_COPYTRUNCATE], 0);
}

/* ---- too much, and too hostile
 * -------------------------------------------------------------------------------------------- */

static void a_batch_that_is_too_large_is_read_in_smaller_blocks(void **state)
{
    struct fixture *f = *state;

    memset(f->label_text, 'x', sizeof f->label_text - 1);
    f->label = (struct tf_pair){.key = {.text = "wide"}, .value = {.text = f->label_text}};
    f->config.agent.labels = (struct tf_pairs){.items = &f->label, .count = 1};
    append_lines(f, "a.log", "", 0, 6000); /* 4 KiB of labels each: 24 MiB in one block */
    start(f);
    run_until_lines(f, 6000);
    assert_each_once("", 100);
}

static void set_state(struct fixture *f, const char *key, const void *value, size_t size)
{
    struct tf_buf deltas;

    tf_buf_init(&deltas, TF_DRAFT_DELTAS_MAX);
    tf_delta_append(&deltas, TF_DELTA_SET, tf_slice_text(key), tf_slice(value, size));
    assert_int_equal(tf_pipeline_deltas(f->pipeline, NULL, &deltas), 0);
    tf_buf_fini(&deltas);
}

static void key_of(struct fixture *f, const char *name, char out[128])
{
    struct statx status;

    assert_int_equal(statx(AT_FDCWD, at(f, name), 0, STATX_BASIC_STATS | STATX_BTIME, &status), 0);
    (void)snprintf(
        out, 128, "file/container/%llu:%llu:%lld",
        (unsigned long long)(((uint64_t)status.stx_dev_major << 8) | status.stx_dev_minor),
        (unsigned long long)status.stx_ino,
        (long long)status.stx_btime.tv_sec * 1000000000 + status.stx_btime.tv_nsec);
}

static void a_damaged_position_is_a_gap_and_a_new_start(void **state)
{
    struct fixture *f = *state;
    char key[128];

    start(f); /* empty, so that the position below is all there is */
    append(f, "../elsewhere", "");
    stop(f);
    append_lines(f, "a.log", "l", 0, 10);
    key_of(f, "a.log", key);
    f->options.rescan_ms = 3600000;
    start(f);
    set_state(f, key, "\x01hostile", 8);
    set_state(f, "file/container/1:2:x", "no key of ours", 14);
    set_state(f, "file/container/1:2:3", "damaged, and its file is gone", 29);
    stop(f);
    forget_seen();
    f->options.rescan_ms = 50;
    start(f);
    run_until_lines(f, 10);
    run_until_gap(f, "position");
    run_until_gap(f, "deleted");
    assert_each_once("l", 10);
}

/* Lines that do not compress. */
/* Versions before this one stored such prints. */
static void a_print_of_few_bytes_shows_no_copy(void **state)
{
    struct fixture *f = *state;
    struct tf_position position = {.done = {390, 390, 390}, .format = TF_FORMAT_PLAIN};
    char key[128], path[PATH_SIZE];
    struct tf_buf value;
    int fd;

    append_lines(f, "a.log", "l", 0, 100);
    start(f);
    run_until_lines(f, 100);
    key_of(f, "a.log", key);
    (void)snprintf(path, sizeof path, "%s", at(f, "a.log"));
    fd = open(path, O_RDONLY);
    position.path = tf_slice_text(path);
    assert_int_equal(tf_file_print(fd, 390, &position.prints[0]), 0);
    assert_int_equal(tf_file_print(fd, 21, &position.prints[1]), 0);
    (void)close(fd);
    tf_buf_init(&value, TF_STATE_VALUE_MAX);
    tf_position_encode(&position, &value);
    set_state(f, key, value.data, value.size);
    tf_buf_fini(&value);
    stop(f);
    forget_seen();
    cut_log(f, "a.log");
    append_lines(f, "a.log", "l", 0, 7); /* 21 bytes, as before */
    append_lines(f, "a.log", "m", 0, 50);
    rename_log(f, "a.log", "a.log.2");
    append_lines(f, "a.log", "l", 0, 7);
    append_lines(f, "a.log", "o", 0, 50);
    rename_log(f, "a.log", "a.log.1");
    append_lines(f, "a.log", "n", 0, 5);
    start(f);
    run_until_lines(f, 50 + 57 + 5); /* the cut file is read on from that print */
    assert_each_once("m", 50);
    assert_each_once("o", 50);
    assert_each_once("n", 5);
}

static void append_noise(struct fixture *f, const char *name, unsigned lines)
{
    static uint64_t random = 1;
    FILE *file = fopen(at(f, name), "a");

    assert_non_null(file);
    for (unsigned i = 0; i < lines * 13; i++) {
        random = random * UINT64_C(6364136223846793005) + 1442695040888963407u;
        (void)fprintf(file, "%016llx%s", (unsigned long long)random, i % 13 == 12 ? "\n" : "");
    }
    assert_int_equal(fclose(file), 0);
}

static void run_until_full(struct fixture *f)
{
    f->is_late = false;
    assert_int_equal(uv_timer_start(&f->deadline, on_deadline, DEADLINE_MS, 0), 0);
    while (tf_spool_has_room(tf_pipeline_spool(f->pipeline)) && !f->is_late) {
        (void)uv_run(&f->loop, UV_RUN_ONCE);
    }
    assert_false(tf_spool_has_room(tf_pipeline_spool(f->pipeline)));
}

static void a_deleted_file_past_its_bound_is_let_go(void **state)
{
    struct fixture *f = *state;

    append_noise(f, "a.log", 10000);
    f->config.agent.stop_timeout_ms = 10;
    f->config.spool.max_size_bytes = 100u << 10;
    f->options.deleted.age_ms = 1;
    acks = false;
    start(f);
    run_until_full(f);
    append_noise(f, "a.log", 1000); /* no room: it waits in its file */
    run_for(f, 60);
    assert_int_equal(unlink(at(f, "a.log")), 0);
    run_until_gap(f, "deleted");
    assert_in_range(line_count, 1, 10000);
    for (size_t i = 0; i < seen_count; i++) {
        if (all[i].is_gap) {
            assert_int_equal(all[i].bytes_max, (11000 - line_count) * (13 * 16 + 1));
        }
    }
    run_until_stored(f, 0);
}

static void past_the_limit_of_descriptors_files_wait(void **state)
{
    struct fixture *f = *state;
    struct rlimit limit, low;

    for (unsigned i = 0; i < 120; i++) {
        char name[32], prefix[32];

        (void)snprintf(name, sizeof name, "%u.log", i);
        (void)snprintf(prefix, sizeof prefix, "f%u-", i);
        append_lines(f, name, prefix, 0, 1);
    }
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    low = limit;
    low.rlim_cur = 120;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
    start(f);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    run_until_lines(f, 90);
    run_for(f, 60);
    assert_int_equal(line_count, 90);
    assert_true(status_of(f).errors[TF_INPUT_OPEN] > 0);
    for (unsigned i = 0; i < 120; i++) {
        char name[32], line[32];

        (void)snprintf(name, sizeof name, "%u.log", i);
        (void)snprintf(line, sizeof line, "f%u-0", i);
        if (times(line) == 1) {
            assert_int_equal(unlink(at(f, name)), 0);
        }
    }
    run_until_lines(f, 120);
}

/* Random writing, rotation by name and by copy, stops and starts: in the end each line came once.
 */
static void whatever_happens_each_line_comes_once(void **state)
{
    struct fixture *f = *state;
    uint64_t random = 20261124;
    unsigned written = 0, rotations = 0;

    start(f);
    for (unsigned step = 0; step < 120; step++) {
        char name[32];

        random = random * UINT64_C(6364136223846793005) + 1442695040888963407u;
        (void)snprintf(name, sizeof name, "a.log.%u", rotations + 1);
        switch (random >> 61) {
        case 0:
            if (f->is_running) {
                stop(f);
            } else {
                start(f);
            }
            break;
        case 1:
            if (access(at(f, "a.log"), F_OK) == 0) {
                rename_log(f, "a.log", name);
                rotations++;
            }
            break;
        case 2:
            if (access(at(f, "a.log"), F_OK) == 0) {
                copy_log(f, "a.log", name);
                assert_int_equal(truncate(at(f, "a.log"), 0), 0);
                rotations++;
            }
            break;
        default:
            append_lines(f, "a.log", "a line of some length ", written, (random >> 50) % 40);
            written += (random >> 50) % 40;
        }
        if (f->is_running) {
            run_for(f, (random >> 40) % 25);
        }
    }
    if (!f->is_running) {
        start(f);
    }
    run_until_lines(f, written);
    assert_each_once("a line of some length ", written);
    assert_int_equal(gaps("copytruncate") + gaps("deleted"), 0);
}

static void a_status_counts_sources(void **state)
{
    struct fixture *f = *state;
    struct tf_input_args args = {
        .name = "container", .tag = "container", .options = &f->options, .loop = &f->loop};
    struct tf_input_status status;
    struct tf_error err;
    void *self;

    tf_error_init(&err);
    assert_int_equal(tf_input_container.open(&args, &self, &err), 0);
    tf_input_container.status(self, &status);
    assert_int_equal(status.sources, 0);
    tf_input_container.close(self, on_stopped, f); /* never started */
    assert_true(f->is_stopped);
    tf_error_fini(&err);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(files_are_found_by_glob_and_named_by_their_path),
        TEST(include_and_exclude_select_by_names),
        TEST(an_unknown_name_is_none),
        TEST(two_stars_cross_folders),
        TEST(bad_options_are_told),
        TEST(links_lead_into_link_roots_only),
        TEST(what_is_no_plain_file_of_ours_is_refused),
        TEST(a_folder_that_others_may_write_is_not_read),
        TEST(what_is_appended_arrives_once),
        TEST(long_files_are_read_in_blocks),
        TEST(many_files_are_followed),
        TEST(a_restart_goes_on_where_it_was),
        TEST(a_stop_in_the_middle_loses_and_doubles_nothing),
        TEST(a_piece_that_was_held_is_read_again),
        TEST(a_failed_sync_is_read_again_once),
        TEST(a_failed_read_is_tried_again),
        TEST(a_log_over_its_rate_waits_in_its_file),
        TEST(without_hints_the_scans_find_it_all),
        TEST(without_watches_files_are_polled),
        TEST(newest_begins_at_the_end_of_what_is_there),
        TEST(a_renamed_file_is_read_to_its_end),
        TEST(what_was_rotated_while_nobody_ran_is_read_first),
        TEST(a_linked_file_is_followed_over_rotation),
        TEST(a_held_piece_ends_with_its_file),
        TEST(a_deleted_file_is_read_to_its_end_and_forgotten),
        TEST(a_file_that_vanished_while_nobody_ran_is_a_gap),
        TEST(what_paths_does_not_name_is_kept),
        TEST(a_copy_is_read_on_before_the_cut_file),
        TEST(a_copy_made_while_nobody_ran_is_read_on),
        TEST(a_copy_that_lacks_lines_read_is_known_after_a_restart),
        TEST(a_compressed_copy_that_lacks_lines_read_is_known_after_a_restart),
        TEST(a_copy_that_lacks_lines_read_is_known_without_its_file),
        TEST(a_file_that_was_cut_and_compressed_is_read),
        TEST(a_shorter_log_with_the_same_beginning_is_read),
        TEST(a_copy_is_known_before_its_file_was_ever_read),
        TEST(a_copy_of_what_was_read_while_a_scan_ran_is_known),
        TEST(a_copy_of_what_stood_behind_a_cut_while_a_scan_ran_is_known),
        TEST(a_cut_without_a_copy_is_a_gap),
        TEST(a_cut_file_that_grew_again_is_noticed),
        TEST(a_lost_tail_goes_back_to_an_older_print),
        TEST(a_batch_that_is_too_large_is_read_in_smaller_blocks),
        TEST(a_damaged_position_is_a_gap_and_a_new_start),
        TEST(a_print_of_few_bytes_shows_no_copy),
        TEST(a_deleted_file_past_its_bound_is_let_go),
        TEST(past_the_limit_of_descriptors_files_wait),
        TEST(whatever_happens_each_line_comes_once),
        TEST(a_status_counts_sources),
    };

    int failures = cmocka_run_group_tests_name("opening by itself", tests, NULL, NULL);

    is_by_process = true;
    return failures + cmocka_run_group_tests_name("opening by a process", tests, NULL, NULL);
}
