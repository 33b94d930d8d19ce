/*
 * run.c - `taffrail run`: the agent; with a forward input, the collector.
 *
 *     read the configuration → narrow the process → build every plugin → confine the process →
 *     start → loop → stop
 *
 * SIGTERM and SIGINT stop it: inputs close, what was read is committed, outputs get until
 * agent.stop_timeout for their acks; a second signal ends it at once, and nothing is lost by that
 * either. SIGUSR1 prints the books. Exits 0 after a stop; 2 when the configuration, a key or a
 * certificate is wrong; 3 when the machine refuses (spool locked, port taken, no memory), or names
 * can be looked up only after another start (sandbox.h).
 *
 * A service manager that asks (sd_notify(3)) hears READY=1 once all is started, WATCHDOG=1 for as
 * long as the loop turns, and STOPPING=1.
 */
#include <assert.h>
#include <errno.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/crypto.h>
#include <uv.h>

#include "taffrail/admin.h"
#include "taffrail/commands.h"
#include "taffrail/log.h"
#include "taffrail/notify.h"
#include "taffrail/pipeline.h"
#include "taffrail/sandbox.h"

#define SECURE_HEAP_BYTES     (256u << 10)
#define SECURE_HEAP_MIN_BYTES 32
#define TRIM_BYTES            (2 << 20) /* freed memory above it goes back to the kernel */
#define MAP_BYTES             (2 << 20)
#define SPARE_WORKERS         2u     /* for syncs, opens and names, beside the pump jobs */
#define NOTICE_BYTES_MAX      8192u  /* more than all names of a configuration take */
#define CLOSE_MS              10000u /* what a stop needs beside agent.stop_timeout */

static const char usage[] =
    "usage: taffrail run [-c FILE]\n"
    "Reads what the configuration's inputs name, redacts it, and ships it to its outputs; with a\n"
    "forward input it is the collector. Runs in the foreground, logs on stderr.\n"
    "  -c FILE  configuration (" TF_CONFIG_FILE_DEFAULT ")\n"
    "signals: TERM, INT stop after what was read is safe; USR1 prints the books\n"
    "example: taffrail check -c conf/taffrail.yaml && taffrail run -c conf/taffrail.yaml\n";

struct run {
    uv_loop_t loop;
    uv_signal_t signals[3];
    struct tf_config *config;
    struct tf_pipeline *pipeline;
    struct tf_admin *admin;
    struct tf_notify notify;
    bool is_stopping;
};

/* No core file, no file for others, all descriptors that the limit allows, keys in locked memory
 * where the machine lets us. */
static void narrow_process(void)
{
    const struct rlimit none = {0, 0};
    struct rlimit files;

    (void)umask(077);
    (void)signal(SIGPIPE, SIG_IGN);
    (void)setrlimit(RLIMIT_CORE, &none);
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &files);
    }
    if (CRYPTO_secure_malloc_init(SECURE_HEAP_BYTES, SECURE_HEAP_MIN_BYTES) == 0) {
        tf_log(TF_LOG_WARN, "memory", NULL, 0, "no secure heap: keys are in ordinary memory");
    }
    (void)OPENSSL_init_crypto(OPENSSL_INIT_LOAD_CONFIG, NULL); /* a file of the machine's */
}

/* One heap for all threads, and big buffers straight from the kernel: a burst leaves nothing. */
static void bound_memory(void)
{
    (void)mallopt(M_ARENA_MAX, 1);
    (void)mallopt(M_TRIM_THRESHOLD, TRIM_BYTES);
    (void)mallopt(M_MMAP_THRESHOLD, MAP_BYTES);
}

/* libuv reads it at its first job. */
static int size_thread_pool(const struct tf_config *config)
{
    char text[16];

    (void)snprintf(text, sizeof text, "%u", tf_pipeline_workers(&config->agent) + SPARE_WORKERS);
    return setenv("UV_THREADPOOL_SIZE", text, 1) == 0 ? 0 : -errno;
}

/* ---- the service manager ------------------------------------------------------------------- */

static void warn_of_notify(int rc)
{
    if (rc < 0) {
        char reason[64];

        tf_log(TF_LOG_WARN, "notify", NULL, 0, "the service manager cannot be told: %s",
               uv_strerror_r(rc, reason, sizeof reason));
    }
}

static void append_names(struct tf_buf *text, const char *verb, const struct tf_plugin_list *list)
{
    (void)tf_buf_append_text(text, verb);
    for (size_t i = 0; i < list->count; i++) {
        (void)tf_buf_printf(text, "%s%s", i > 0 ? ", " : " ", list->items[i].name);
    }
}

static void notify_ready(struct run *run)
{
    struct tf_buf text;

    tf_buf_init(&text, NOTICE_BYTES_MAX);
    (void)tf_buf_append_text(&text, "READY=1\nSTATUS=");
    append_names(&text, "reads", &run->config->inputs);
    append_names(&text, "; ships to", &run->config->outputs);
    (void)tf_buf_append_byte(&text, '\0');
    warn_of_notify(tf_notify_send(&run->notify, text.error == 0 ? text.data : "READY=1"));
    tf_buf_fini(&text);
    warn_of_notify(tf_notify_watch(&run->notify, &run->loop));
}

/* The manager's patience is stretched to ours: agent.stop_timeout may be longer. */
static void notify_stopping(struct run *run)
{
    uint64_t stop_ms = run->config->agent.stop_timeout_ms;
    char text[160];

    (void)snprintf(text, sizeof text,
                   "STOPPING=1\nEXTEND_TIMEOUT_USEC=%llu\nSTATUS=stopping; outputs get %llu ms for "
                   "acknowledgements",
                   (unsigned long long)(stop_ms + CLOSE_MS) * 1000, (unsigned long long)stop_ms);
    warn_of_notify(tf_notify_send(&run->notify, text));
}

/* ---- start and stop ------------------------------------------------------------------------- */

static void close_signals(struct run *run)
{
    for (size_t i = 0; i < TF_COUNT(run->signals); i++) {
        if (!uv_is_closing((uv_handle_t *)&run->signals[i])) {
            uv_close((uv_handle_t *)&run->signals[i], NULL);
        }
    }
}

static void on_admin_closed(void *ctx)
{
    struct run *run = ctx;

    tf_log(TF_LOG_INFO, "stopped", NULL, 0, "what was not read yet is read at the next start");
    close_signals(run);
    tf_notify_close(&run->notify);
}

static void on_stopped(void *ctx)
{
    struct run *run = ctx;
    struct tf_admin *admin = run->admin;

    run->admin = NULL;
    tf_admin_close(admin, on_admin_closed, run);
}

static void stop(struct run *run)
{
    run->is_stopping = true;
    notify_stopping(run);
    tf_pipeline_stop(run->pipeline, on_stopped, run);
}

static void on_stop_signal(uv_signal_t *handle, int number)
{
    struct run *run = handle->data;

    if (run->is_stopping) {
        _exit(128 + number); /* asked twice: what is committed is safe at any instant */
    }
    tf_log(TF_LOG_INFO, "stop", TF_DETAILS(TF_NUM("signal", number)), "stopping");
    stop(run);
}

static void on_books_signal(uv_signal_t *handle, int number)
{
    struct run *run = handle->data;

    (void)number;
    if (!run->is_stopping) {
        tf_pipeline_log_books(run->pipeline);
    }
}

static int watch_signals(struct run *run)
{
    static const int numbers[] = {SIGTERM, SIGINT, SIGUSR1};
    int rc = 0;

    static_assert(TF_COUNT(numbers) == TF_COUNT(((struct run *)0)->signals), "one handle each");
    for (size_t i = 0; i < TF_COUNT(numbers); i++) {
        (void)uv_signal_init(&run->loop, &run->signals[i]); /* fails only with a failed loop */
        run->signals[i].data = run;
    }
    for (size_t i = 0; i < TF_COUNT(numbers) && rc == 0; i++) {
        rc = uv_signal_start(&run->signals[i],
                             numbers[i] == SIGUSR1 ? on_books_signal : on_stop_signal, numbers[i]);
    }
    return rc;
}

static void log_start(const struct tf_config *config)
{
    char digest[TF_CONFIG_DIGEST_BYTES];

    tf_config_digest(&config->mark, digest);
    tf_log(TF_LOG_INFO, "start",
           TF_DETAILS(TF_STR("host", config->agent.host.text), TF_NUM("pid", getpid()),
                      TF_STR("config", config->file), TF_STR("digest", digest)),
           "taffrail %s", TF_VERSION);
}

/* The last step for which the process has the rights that it was started with. */
static int confine(struct run *run, struct tf_error *err)
{
    struct tf_needs *needs = tf_needs_new();
    int rc = needs != NULL ? tf_pipeline_prepare(run->pipeline, needs, err) : -ENOMEM;

    if (rc == 0) {
        tf_admin_needs(run->admin, needs);
        rc = tf_sandbox_close(&run->config->sandbox, needs, err);
    }
    tf_needs_free(needs);
    return rc;
}

/* Builds and starts; what is wrong is printed. Returns the exit code, FINE while it runs. */
static int start(struct run *run)
{
    struct tf_error err;
    int rc;

    tf_error_init(&err);
    rc = tf_pipeline_new(&run->loop, run->config, &run->pipeline, &err);
    if (rc == 0) {
        rc = tf_admin_new(&(struct tf_admin_args){.loop = &run->loop,
                                                  .config = run->config,
                                                  .version = TF_VERSION},
                          &run->admin, &err);
    }
    if (rc == 0) {
        rc = confine(run, &err);
    }
    if (rc == 0) {
        rc = tf_pipeline_start(run->pipeline, &err);
    }
    if (rc == 0) {
        rc = tf_admin_start(run->admin, run->pipeline, &err);
    }
    (void)tf_error_print(&err, stderr);
    if (rc < 0 && err.errors == 0) {
        tf_log(TF_LOG_ERROR, "start", NULL, 0, "cannot start: %s", uv_strerror(rc));
    }
    tf_error_fini(&err);
    if (rc < 0) {
        return rc == -EINVAL ? TF_EXIT_USAGE : TF_EXIT_CANNOT_RUN;
    }
    tf_log(TF_LOG_INFO, "ready", NULL, 0, "reading");
    notify_ready(run);
    return TF_EXIT_FINE;
}

static int run_loop(struct run *run)
{
    int code = TF_EXIT_CANNOT_RUN;

    if (watch_signals(run) == 0) {
        code = start(run);
    }
    if (code != TF_EXIT_FINE) {
        if (run->pipeline != NULL) {
            stop(run);
        } else {
            close_signals(run);
            tf_notify_close(&run->notify);
        }
    }
    (void)uv_run(&run->loop, UV_RUN_DEFAULT);
    tf_sandbox_end();
    code = code == TF_EXIT_FINE && tf_sandbox_is_outdated() ? TF_EXIT_CANNOT_RUN : code;
    tf_pipeline_free(run->pipeline);
    return code;
}

static int load(const char *file, struct tf_config **out)
{
    struct tf_error err;
    int rc;

    tf_error_init(&err);
    rc = tf_config_load(file, &tf_plugins, out, &err);
    (void)tf_error_print(&err, stderr);
    tf_error_fini(&err);
    return rc;
}

/* What is wrong is printed. */
static int begin_sandbox(const struct tf_config *config)
{
    struct tf_error err;
    int rc;

    tf_error_init(&err);
    rc = tf_sandbox_begin(&config->sandbox, &err);
    (void)tf_error_print(&err, stderr);
    tf_error_fini(&err);
    return rc;
}

int tf_command_run(int argc, char **argv)
{
    const char *file = TF_CONFIG_FILE_DEFAULT;
    struct run run = {0};
    int code = TF_EXIT_CANNOT_RUN;

    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0) {
            (void)fputs(usage, stdout);
            return TF_EXIT_FINE;
        }
        if (strcmp(argv[i], "-c") == 0 && i + 1 < argc) {
            file = argv[++i];
        } else {
            (void)fprintf(stderr, "run: \"%s\" is no option of it\n%s", argv[i], usage);
            return TF_EXIT_USAGE;
        }
    }
    bound_memory();
    if (load(file, &run.config) < 0) {
        return TF_EXIT_USAGE;
    }
    tf_log_configure((enum tf_log_level)run.config->agent.log_level,
                     (enum tf_log_format)run.config->agent.log_format);
    log_start(run.config);
    narrow_process();
    if (begin_sandbox(run.config) < 0) {
        tf_config_free(run.config);
        return TF_EXIT_USAGE;
    }
    warn_of_notify(tf_notify_open(&run.notify));
    if (size_thread_pool(run.config) == 0 && uv_loop_init(&run.loop) == 0) {
        code = run_loop(&run);
        (void)uv_loop_close(&run.loop);
    }
    tf_notify_close(&run.notify); /* for a loop that was never made */
    tf_config_free(run.config);
    return code;
}
