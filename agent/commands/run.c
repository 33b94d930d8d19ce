/*
 * run.c - `taffrail run`: the agent; with a forward input, the collector.
 *
 *     the parent (parent.h) ─ forks ─> main: read the configuration → narrow the process → fork
 *     opener and launcher (opener.h, launcher.h) → build every plugin → confine the process →
 *     SOUND → GO → start → loop → stop
 *
 * At SIGHUP the parent forks another main. That does the same up to SOUND, while this one works;
 * then this one leaves, and the other has its GO (docs/reload.md). When a file of a certificate has
 * changed, this one asks for the same.
 *
 * SIGTERM and SIGINT stop it: inputs close, what was read is committed, outputs get until
 * agent.stop_timeout for their acks; at a second signal the parent kills main, and nothing is lost
 * by that either. SIGUSR1 prints the books. Exits 0 after a stop; 2 when the configuration, a key
 * or a certificate is wrong; 3 when the machine refuses (spool locked, port taken, no memory), or
 * names can be looked up only after another start (sandbox.h).
 *
 * A service manager that asks (sd_notify(3)) hears by the parent that all is started, that the loop
 * turns, and that it stops.
 */
#include <assert.h>
#include <errno.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <openssl/crypto.h>
#include <uv.h>

#include "taffrail/admin.h"
#include "taffrail/commands.h"
#include "taffrail/container.h"
#include "taffrail/journald.h"
#include "taffrail/launcher.h"
#include "taffrail/log.h"
#include "taffrail/opener.h"
#include "taffrail/parent.h"
#include "taffrail/pipeline.h"
#include "taffrail/sandbox.h"
#include "taffrail/tls.h"

#define SECURE_HEAP_BYTES     (256u << 10)
#define SECURE_HEAP_MIN_BYTES 32
#define TRIM_BYTES            (2 << 20) /* freed memory above it goes back to the kernel */
#define MAP_BYTES             (2 << 20)
#define SPARE_WORKERS         2u     /* for syncs, opens and names, beside the pump jobs */
#define NOTICE_BYTES_MAX      8192u  /* more than all names of a configuration take */
#define CLOSE_MS              10000u /* what a stop needs beside agent.stop_timeout */
#define LOADING_MS            30000u /* of a reload; rules of ten times our own take 2 s */
#define OPENER_MS             5000u /* an open that takes as long hangs, and a stop does not wait */
#define RENEW_MS              60000u /* a file may be written again and again */
#define AGAIN_MS              3600000u
#define PLACE_BYTES           256u
#define NUMBER_BYTES          48u

static const char usage[] =
    "usage: taffrail run [-c FILE]\n"
    "Reads what the configuration's inputs name, redacts it, and ships it to its outputs; with a\n"
    "forward input it is the collector. Runs in the foreground, logs on stderr.\n"
    "  -c FILE  configuration (" TF_CONFIG_FILE_DEFAULT ")\n"
    "signals: TERM, INT stop after what was read is safe, a second one at once; HUP takes\n"
    "         a changed configuration over, if it is sound; USR1 prints the books\n"
    "example: taffrail check -c conf/taffrail.yaml && taffrail run -c conf/taffrail.yaml\n";

struct run {
    const char *file;
    const struct tf_channel *channel; /* to the parent */
    uv_loop_t loop;
    uv_signal_t signal, child_signal;
    uv_poll_t heard;  /* of the channel */
    uv_timer_t alive; /* for the service manager's watchdog */
    uv_timer_t late;  /* when a stop waits for the opener no longer */
    bool is_watching; /* the five are open */
    struct tf_config *config;
    struct tf_pipeline *pipeline;
    struct tf_admin *admin;
    struct tf_message go; /* what the parent said with it */
    struct tf_reloads reloads;
    char changed[TF_CONFIG_NAMES_BYTES]; /* by this reload */
    const char *why;                     /* it was */
    bool is_stopping, has_lost_process;
};

/* All descriptors that the limit allows, keys in locked memory where the machine lets us. */
static void narrow_process(void)
{
    struct rlimit files;

    (void)signal(SIGPIPE, SIG_IGN);
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

/* ---- the parent ----------------------------------------------------------------------------- */

static void say(const struct run *run, const struct tf_message *message)
{
    int rc = tf_channel_send(run->channel, message);

    if (rc < 0 && rc != -EPIPE) { /* the end of the parent is heard in its turn */
        tf_log(TF_LOG_WARN, "parent", NULL, 0, "the parent does not listen: %s", uv_strerror(rc));
    }
}

static void append_names(struct tf_buf *text, const char *verb, const struct tf_plugin_list *list)
{
    (void)tf_buf_append_text(text, verb);
    for (size_t i = 0; i < list->count; i++) {
        (void)tf_buf_printf(text, "%s%s", i > 0 ? ", " : " ", list->items[i].name);
    }
}

/* The loop owns all state, so a loop that stands still is an agent that does. */
static void on_alive_timer(uv_timer_t *timer)
{
    say(timer->data, &(struct tf_message){.word = TF_WORD_ALIVE});
}

static void say_ready(struct run *run)
{
    struct tf_message message = {.word = TF_WORD_READY};
    struct tf_buf text;

    tf_buf_init(&text, NOTICE_BYTES_MAX);
    append_names(&text, "reads", &run->config->inputs);
    append_names(&text, "; ships to", &run->config->outputs);
    (void)tf_buf_append_byte(&text, '\0');
    if (text.error == 0) { /* the longest names are cut */
        (void)snprintf(message.text, sizeof message.text, "%s", text.data);
    }
    tf_buf_fini(&text);
    say(run, &message);
    if (run->channel->alive_ms > 0) {
        (void)uv_timer_start(&run->alive, on_alive_timer, 0, run->channel->alive_ms);
    }
}

/* Main may not read them any more: a next one does. */
static int on_certificates_changed(void *ctx, const char *path)
{
    struct run *run = ctx;
    struct tf_message message = {.word = TF_WORD_RENEW};

    if (run->is_stopping) {
        return 0;
    }
    (void)snprintf(message.text, sizeof message.text, "%s", path);
    return tf_channel_send(run->channel, &message);
}

/* How long an end may take: agent.stop_timeout, and what closing needs. */
static uint32_t end_ms(const struct run *run)
{
    return (uint32_t)run->config->agent.stop_timeout_ms + CLOSE_MS;
}

static void say_stopping(struct run *run)
{
    struct tf_message message = {.word = TF_WORD_STOPPING, .number = end_ms(run)};

    (void)snprintf(message.text, sizeof message.text,
                   "stopping; outputs get %llu ms for acknowledgements",
                   (unsigned long long)run->config->agent.stop_timeout_ms);
    say(run, &message);
}

static void say_sound(const struct run *run)
{
    tf_channel_end_with_parent(run->channel, false);
    say(run, &(struct tf_message){.word = TF_WORD_SOUND,
                                  .number = end_ms(run),
                                  .log_format = (uint32_t)run->config->agent.log_format,
                                  .mark = run->config->mark});
}

/* Until its GO another main works, and the agent does not depend on this one. */
static bool is_candidate(const struct run *run)
{
    return run->channel->is_reload && run->go.word != TF_WORD_GO;
}

static const char *failure_event(const struct run *run)
{
    return is_candidate(run) ? "reload-refused" : "start";
}

/* What the machine refuses. */
static void tell_failure(const struct run *run, const char *what, const char *why)
{
    tf_log(TF_LOG_ERROR, failure_event(run), NULL, 0, "%s: %s", what, why);
}

/* Each is a subject of its own: none is a repeat. */
static void log_finding(const struct run *run, const struct tf_finding *finding, size_t number,
                        size_t count)
{
    bool is_error = finding->severity == TF_SEVERITY_ERROR;
    char at[PLACE_BYTES], which[NUMBER_BYTES];

    (void)snprintf(which, sizeof which, "%zu/%zu", number, count);
    (void)snprintf(at, sizeof at, finding->line > 0 ? "%s:%u:%u" : "%s",
                   finding->file != NULL ? finding->file : "", finding->line, finding->column);
    tf_log(is_error ? TF_LOG_ERROR : TF_LOG_WARN, is_error ? failure_event(run) : "reload-warning",
           TF_DETAILS(TF_STR(is_error ? "error" : "warning", which), TF_STR("at", at)), "%s",
           finding->text);
}

/* What was found, as it is told before a start; beside a main that works, in the log. */
static void tell(const struct run *run, const struct tf_error *err)
{
    size_t errors = 0, warnings = 0;

    if (!run->channel->is_reload) {
        (void)tf_error_print(err, stderr);
        return;
    }
    for (size_t i = 0; i < err->count; i++) {
        const struct tf_finding *finding = &err->findings[i];

        if (finding->severity == TF_SEVERITY_ERROR) {
            log_finding(run, finding, ++errors, err->errors);
        } else {
            log_finding(run, finding, ++warnings, err->warnings);
        }
    }
}

static void say_unsound(const struct run *run, size_t errors)
{
    say(run, &(struct tf_message){.word = TF_WORD_UNSOUND, .number = (uint32_t)errors});
}

/* ---- stop ----------------------------------------------------------------------------------- */

static void close_handle(void *handle)
{
    if (!uv_is_closing(handle)) {
        uv_close(handle, NULL);
    }
}

static void close_handles(struct run *run)
{
    tf_tls_files_unwatch(run->config->tls_files);
    if (run->is_watching) {
        close_handle(&run->signal);
        close_handle(&run->child_signal);
        close_handle(&run->heard);
        close_handle(&run->alive);
        close_handle(&run->late);
        tf_launcher_detach(run->config->launcher);
    }
}

static void on_admin_closed(void *ctx)
{
    if (!is_candidate(ctx)) {
        tf_log(TF_LOG_INFO, "stopped", NULL, 0, "what was not read yet is read at the next start");
    }
    close_handles(ctx);
}

static void on_stopped(void *ctx)
{
    struct run *run = ctx;
    struct tf_admin *admin = run->admin;

    run->admin = NULL;
    tf_admin_close(admin, on_admin_closed, run);
}

/* What was read is safe before; an open that hangs would hold the stop. */
static void on_late(uv_timer_t *late)
{
    const struct run *run = late->data;

    tf_opener_process_shut(run->config->opener);
}

static void begin_stop(struct run *run)
{
    run->is_stopping = true;
    (void)uv_timer_start(&run->late, on_late, OPENER_MS, 0);
}

static void stop(struct run *run)
{
    begin_stop(run);
    say_stopping(run);
    tf_pipeline_stop(run->pipeline, on_stopped, run);
}

static void stop_for(struct run *run, const char *why, int signal_number)
{
    if (run->is_stopping) {
        return;
    }
    tf_log(TF_LOG_INFO, "stop", TF_DETAILS(TF_NUM("signal", signal_number)), "%s", why);
    stop(run);
}

static void leave(struct run *run)
{
    if (run->is_stopping) {
        return;
    }
    begin_stop(run);
    tf_log(TF_LOG_INFO, "stop", NULL, 0, "another main takes over");
    tf_pipeline_leave(run->pipeline, on_stopped, run);
}

/* Of the parent itself a terminal or a manager may have asked as well. */
static void on_stop_signal(uv_signal_t *handle, int number)
{
    stop_for(handle->data, "stopping", number);
}

/* Without the process that opens logs none can be opened, without the launcher no journal be read,
 * and the right to start another is gone. */
static void lose_process(struct run *run, const char *event, const char *what)
{
    if (run->is_stopping) {
        return;
    }
    run->has_lost_process = true;
    tf_log(TF_LOG_ERROR, event, NULL, 0,
           "the process that %s has ended; the agent stops, to be started again", what);
    stop(run);
}

static void on_launcher_ended(void *run)
{
    lose_process(run, "launcher-ended", "starts the journal's reader");
}

static void check_opener(struct run *run)
{
    if (tf_opener_process_has_ended(run->config->opener)) {
        lose_process(run, "opener-ended", "opens logs");
    }
}

static void on_child_signal(uv_signal_t *handle, int number)
{
    (void)number;
    check_opener(handle->data);
}

/* ---- what the parent says ------------------------------------------------------------------- */

static void on_refused(struct run *run, const struct tf_message *message)
{
    char digest[TF_CONFIG_DIGEST_BYTES], count[NUMBER_BYTES];

    run->reloads = message->reloads;
    if (run->is_stopping) {
        return;
    }
    tf_config_digest(&run->config->mark, digest);
    (void)snprintf(count, sizeof count, "%llu", (unsigned long long)message->reloads.refused);
    tf_log(TF_LOG_ERROR, "reload-refused",
           TF_DETAILS(TF_STR("refused", count), TF_STR("digest", digest)),
           "%s; the old configuration goes on%s", message->text,
           message->number > 0 ? "; run taffrail check" : "");
    (void)tf_pipeline_audit(run->pipeline, "reload-refused", message->text,
                            TF_DETAILS(TF_STR("digest", digest)));
}

static void on_message(struct run *run, const struct tf_message *message)
{
    switch (message->word) {
    case TF_WORD_STOP:
        stop_for(run, "stopping", (int)message->number);
        break;
    case TF_WORD_LEAVE:
        leave(run);
        break;
    case TF_WORD_REFUSED:
        on_refused(run, message);
        break;
    case TF_WORD_BOOKS:
        if (!run->is_stopping) {
            tf_pipeline_log_books(run->pipeline);
        }
        break;
    default: /* main's own words, and GO, which comes once */
        break;
    }
}

static void on_heard(uv_poll_t *poll, int status, int events)
{
    struct run *run = poll->data;
    struct tf_message message;
    int rc = status < 0 ? -EPIPE : tf_channel_receive(run->channel, &message);

    (void)events;
    if (rc == 0) {
        on_message(run, &message);
    } else if (rc == -EPIPE) {
        (void)uv_poll_stop(poll);
        stop_for(run, "the parent is gone; stopping", 0);
    }
}

/* Before the start of the pipeline, so that no thread exists that would take a signal. */
static int watch(struct run *run)
{
    int rc;

    (void)uv_signal_init(&run->loop, &run->signal); /* fails only with a failed loop */
    (void)uv_signal_init(&run->loop, &run->child_signal);
    (void)uv_timer_init(&run->loop, &run->alive);
    (void)uv_timer_init(&run->loop, &run->late);
    rc = uv_poll_init(&run->loop, &run->heard, run->channel->fd);
    assert(rc == 0); /* the descriptor is a socket, and nobody else's */
    run->signal.data = run->child_signal.data = run->alive.data = run->late.data = run->heard.data =
        run;
    rc = uv_signal_start(&run->signal, on_stop_signal, SIGTERM);
    if (rc == 0) {
        rc = uv_signal_start(&run->child_signal, on_child_signal, SIGCHLD);
    }
    if (rc == 0) {
        rc = uv_poll_start(&run->heard, UV_READABLE, on_heard);
    }
    tf_launcher_attach(run->config->launcher, &run->loop, on_launcher_ended, run);
    return rc;
}

/* ---- start ---------------------------------------------------------------------------------- */

static void log_start(const struct tf_config *config)
{
    char digest[TF_CONFIG_DIGEST_BYTES];

    tf_config_digest(&config->mark, digest);
    tf_log(TF_LOG_INFO, "start",
           TF_DETAILS(TF_STR("host", config->agent.host.text), TF_NUM("pid", getpid()),
                      TF_NUM("parent", getppid()), TF_STR("config", config->file),
                      TF_STR("digest", digest)),
           "taffrail %s", TF_VERSION);
}

static void log_reload(const struct run *run)
{
    char digest[TF_CONFIG_DIGEST_BYTES], was[TF_CONFIG_DIGEST_BYTES];

    tf_config_digest(&run->config->mark, digest);
    tf_config_digest(&run->go.mark, was);
    tf_log(TF_LOG_INFO, "reload",
           TF_DETAILS(TF_STR("digest", digest), TF_STR("was", was), TF_STR("changed", run->changed),
                      TF_NUM("took_ms", uv_hrtime() / TF_MS_IN_NS - run->go.began_ms)),
           "%s", run->why);
}

/* The last step for which the process has the rights that it was started with. */
static int confine(struct run *run, struct tf_error *err)
{
    struct tf_needs *needs = tf_needs_new();
    int rc = needs != NULL ? tf_pipeline_prepare(run->pipeline, run->channel->is_reload, needs, err)
                           : -ENOMEM;

    if (rc == 0) {
        tf_admin_needs(run->admin, needs);
        rc = tf_sandbox_close(&run->config->sandbox, needs, err);
    }
    tf_needs_free(needs);
    return rc;
}

/* Builds all that needs neither the spool's lock nor a listener. 0 or a negative errno. */
static int build(struct run *run, struct tf_error *err)
{
    int rc = -ENOMEM;

    run->config->tls_files = tf_tls_files_new();
    if (run->config->tls_files != NULL) {
        rc = tf_pipeline_new(&run->loop, run->config, &run->pipeline, err);
    }
    if (rc == 0) {
        rc = tf_admin_new(&(struct tf_admin_args){.loop = &run->loop,
                                                  .config = run->config,
                                                  .version = TF_VERSION,
                                                  .revision = TF_REVISION,
                                                  .reloads = &run->reloads},
                          &run->admin, err);
    }
    return rc == 0 ? confine(run, err) : rc;
}

/* -ECANCELED: it is not wanted any more. */
static int wait_for_go(struct run *run)
{
    int rc = tf_channel_wait(run->channel, &run->go);

    if (rc < 0 || run->go.word != TF_WORD_GO) {
        return -ECANCELED;
    }
    run->reloads = run->go.reloads;
    if (run->go.is_reload) {
        tf_config_changed(&run->go.mark, &run->config->mark, run->changed);
        run->why = run->go.text[0] != '\0' ? run->go.text : "a new configuration took over";
        tf_pipeline_takes_over(run->pipeline, run->changed, run->why);
    }
    (void)signal(SIGINT, SIG_IGN); /* a terminal sends it to the parent too */
    return 0;
}

/* Takes the spool, and begins. */
static int begin(struct run *run, struct tf_error *err)
{
    int rc = watch(run);

    run->is_watching = true;
    if (rc == 0) {
        rc = tf_pipeline_start(run->pipeline, err);
    }
    if (rc == 0 && run->go.is_reload) { /* as the record has it; an address may be taken yet */
        log_reload(run);
    }
    return rc == 0 ? tf_admin_start(run->admin, run->pipeline, err) : rc;
}

/* Returns the exit code, FINE while it runs. */
static int start(struct run *run)
{
    struct tf_error err;
    int rc;

    tf_error_init(&err);
    rc = build(run, &err);
    if (rc == 0) {
        say_sound(run);
        rc = wait_for_go(run);
        rc = rc == 0 ? begin(run, &err) : rc;
    } else {
        say_unsound(run, err.errors);
    }
    tell(run, &err);
    if (rc < 0 && rc != -ECANCELED && err.errors == 0) {
        tell_failure(run, "cannot start", uv_strerror(rc));
    }
    tf_error_fini(&err);
    if (rc < 0) {
        return rc == -EINVAL ? TF_EXIT_USAGE : TF_EXIT_CANNOT_RUN;
    }
    tf_log(TF_LOG_INFO, "ready", NULL, 0, "reading");
    say_ready(run);
    tf_tls_files_watch(run->config->tls_files,
                       &(struct tf_tls_watch){.loop = &run->loop,
                                              .every_ms = TF_TLS_LOOK_MS,
                                              .on_change = on_certificates_changed,
                                              .ctx = run});
    return TF_EXIT_FINE;
}

static void end_failed_start(struct run *run)
{
    if (run->pipeline != NULL) {
        run->is_stopping = true;
        tf_pipeline_stop(run->pipeline, on_stopped, run);
    }
}

static int run_loop(struct run *run)
{
    int code = start(run);

    if (code != TF_EXIT_FINE) {
        end_failed_start(run);
    } else {
        check_opener(run); /* it may have ended before its signal was looked for */
    }
    (void)uv_run(&run->loop, UV_RUN_DEFAULT);
    tf_sandbox_end();
    if (code == TF_EXIT_FINE && (run->has_lost_process || tf_sandbox_is_outdated())) {
        code = TF_EXIT_CANNOT_RUN;
    }
    tf_pipeline_free(run->pipeline);
    return code;
}

/* The configuration, and what it says of this process. What is wrong is told. */
static int load(struct run *run)
{
    struct tf_error err;
    int rc;

    tf_error_init(&err);
    rc = tf_config_load(run->file, &tf_plugins, &run->config, &err);
    if (rc == 0) {
        tf_log_configure((enum tf_log_level)run->config->agent.log_level,
                         (enum tf_log_format)run->config->agent.log_format);
        if (!run->channel->is_reload) {
            log_start(run->config);
        }
        narrow_process();
        rc = tf_sandbox_begin(&run->config->sandbox, &err);
        tf_channel_end_with_parent(run->channel, true); /* as the user that it is now */
    }
    if (rc < 0) {
        say_unsound(run, err.errors);
    }
    tell(run, &err);
    if (rc < 0 && err.errors == 0) {
        tell_failure(run, "cannot load the configuration", uv_strerror(rc));
    }
    tf_error_fini(&err);
    return rc;
}

/* One beside main (process.h). */
static const char *why_not_started(int rc)
{
    return rc == -ESHUTDOWN   ? "it could not confine itself"
           : rc == -ETIMEDOUT ? "it has not confined itself in time"
                              : uv_strerror(rc);
}

/* The process that opens logs, where the agent is not to. Then it has no right to, either. */
static int start_opener(const struct run *run)
{
    struct tf_config *config = run->config;
    int rc;

    if (config->sandbox.opener == TF_OPENER_OFF) {
        return 0;
    }
    rc = tf_container_start_opener(&config->inputs, &config->opener);
    if (rc < 0) {
        tell_failure(run, "the process that opens logs cannot start", why_not_started(rc));
        return rc;
    }
    tf_sandbox_hand_over(config->opener != NULL);
    return 0;
}

static int start_launcher(const struct run *run)
{
    int rc = tf_journald_start_launcher(run->config, &run->config->launcher);

    if (rc < 0) {
        tell_failure(run, "the process that starts the journal's reader cannot start",
                     why_not_started(rc));
    }
    return rc;
}

static int init_loop(struct run *run)
{
    int rc = size_thread_pool(run->config);

    if (rc == 0) {
        rc = uv_loop_init(&run->loop);
    }
    if (rc < 0) {
        tell_failure(run, "cannot start", uv_strerror(rc));
    }
    return rc;
}

static int run_main(void *file, const struct tf_channel *channel)
{
    struct run run = {.file = file, .channel = channel};
    int code = TF_EXIT_CANNOT_RUN;

    bound_memory();
    tf_sandbox_main();
    if (load(&run) < 0) {
        tf_config_free(run.config);
        return TF_EXIT_USAGE;
    }
    if (start_launcher(&run) == 0 && start_opener(&run) == 0 && init_loop(&run) == 0) {
        code = run_loop(&run);
        (void)uv_loop_close(&run.loop);
    } else {
        say_unsound(&run, 0);
    }
    tf_tls_files_free(run.config->tls_files);
    tf_opener_process_free(run.config->opener);
    tf_launcher_free(run.config->launcher);
    tf_config_free(run.config);
    return code;
}

int tf_command_run(int argc, char **argv)
{
    static char default_file[] = TF_CONFIG_FILE_DEFAULT;
    char *file = default_file;

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
    return tf_parent_run(&(struct tf_parent_args){.main = run_main,
                                                  .ctx = file,
                                                  .loading_ms = LOADING_MS,
                                                  .renew_ms = RENEW_MS,
                                                  .again_ms = AGAIN_MS});
}
