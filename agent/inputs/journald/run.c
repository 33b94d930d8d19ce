/*
 * run.c - one run of the program that reads the journal's files: started by this process, or, where
 * there is a launcher, by that.
 *
 * Either way the program has a pair of sockets each for stdout and stderr, of which the caller
 * keeps one end, and a stdin that ends when the agent does. The launcher is not asked for
 * journalctl, which confines itself in no way.
 */
#include "internal.h"

#include <errno.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---- by the launcher ------------------------------------------------------------------------ */

static void on_launched_ended(struct tf_launched *launched, int64_t code, int signal)
{
    struct tf_child_run *run = TF_CONTAINER_OF(launched, struct tf_child_run, launched);

    run->on_ended(run, code, signal);
}

/* ---- by ourselves --------------------------------------------------------------------------- */

static void on_closed(uv_handle_t *handle)
{
    struct tf_child_run *run = handle->data;

    if (--run->open_handles == 0) {
        run->on_ended(run, run->code, run->signal);
    }
}

static void end_spawned(struct tf_child_run *run, int64_t code, int signal)
{
    run->code = code;
    run->signal = signal;
    uv_close((uv_handle_t *)&run->process, on_closed);
    uv_close((uv_handle_t *)&run->in, on_closed);
}

static void on_exit_of_child(uv_process_t *process, int64_t code, int signal)
{
    end_spawned(process->data, code, signal);
}

static void spawn(struct tf_child_run *run, uv_loop_t *loop, char **args, int out_fd, int err_fd)
{
    static char locale[] = "LC_ALL=C.UTF-8";
    char *environment[] = {locale, NULL};
    uv_stdio_container_t stdio[3] = {
        {.flags = UV_CREATE_PIPE | UV_READABLE_PIPE, .data.stream = (uv_stream_t *)&run->in},
        {.flags = UV_INHERIT_FD, .data.fd = out_fd},
        {.flags = UV_INHERIT_FD, .data.fd = err_fd},
    };
    uv_process_options_t options = {.file = args[0],
                                    .args = args,
                                    .env = environment,
                                    .cwd = "/",
                                    .stdio = stdio,
                                    .stdio_count = 3,
                                    .exit_cb = on_exit_of_child};
    int rc;

    (void)uv_pipe_init(loop, &run->in, 0); /* cannot fail: it only fills the struct */
    rc = uv_spawn(loop, &run->process, &options);
    run->in.data = run->process.data = run;
    run->open_handles = 2; /* also after a failure they are to be closed */
    if (rc < 0) {
        end_spawned(run, rc, 0);
    }
}

/* ---- both ----------------------------------------------------------------------------------- */

static int start(struct tf_child_run *run, uv_loop_t *loop, char **args, int out_fd, int err_fd)
{
    if (run->launcher != NULL) {
        run->launched.on_ended = on_launched_ended;
        return tf_launcher_run(run->launcher, &run->launched, args, out_fd, err_fd);
    }
    spawn(run, loop, args, out_fd, err_fd);
    return 0;
}

static int make_pair(int ends[2])
{
    return socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0 ? -errno : 0;
}

static void close_end(int fd)
{
    if (fd >= 0) {
        (void)close(fd);
    }
}

int tf_child_run_start(struct tf_child_run *run, uv_loop_t *loop, char **args, int fds[2])
{
    int out[2] = {-1, -1}, err[2] = {-1, -1}, rc = make_pair(out);

    if (rc == 0) {
        rc = make_pair(err);
    }
    if (rc == 0) {
        rc = start(run, loop, args, out[1], err[1]);
    }
    close_end(out[1]);
    close_end(err[1]);
    if (rc < 0) {
        close_end(out[0]);
        close_end(err[0]);
        return rc;
    }
    fds[0] = out[0];
    fds[1] = err[0];
    return 0;
}

void tf_child_run_kill(struct tf_child_run *run)
{
    if (run->launcher != NULL) {
        tf_launcher_kill(run->launcher, &run->launched);
    } else if (!uv_is_closing((uv_handle_t *)&run->process)) { /* else its pid may be another's */
        (void)uv_process_kill(&run->process, SIGKILL);
    }
}
