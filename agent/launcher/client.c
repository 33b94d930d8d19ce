/*
 * client.c - main's side of the launcher: forks it, asks it, and hears how runs have ended.
 *
 * Nothing here waits: a request is sent, and what came of it is heard by the loop. A notice is
 * checked as if its writer were hostile. After the first that is none, or when the other end does
 * not read what it is told, the launcher is killed, and its runs end with it. Then, or when it has
 * ended by itself, all runs are over as far as main is concerned.
 */
#include "internal.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "taffrail/log.h"

#define PROCESS_NAME "taffrail-launch" /* 15 characters, as many as the kernel keeps */
#define LATE_MS      5000u             /* it reads at once, unless it is stopped, or hangs */

/* ---- start and end -------------------------------------------------------------------------- */

int tf_launcher_start(const char *program, const struct tf_sandbox_options *options,
                      const struct tf_needs *needs, struct tf_launcher **out)
{
    struct tf_launcher *launcher = calloc(1, sizeof *launcher);
    struct tf_launch_work work = {.program = program, .options = options, .needs = needs};
    struct tf_sandbox_status status;
    int rc = 0;

    if (launcher == NULL) {
        return -ENOMEM;
    }
    launcher->fd = tf_process_start(
        &launcher->process,
        &(struct tf_process_work){.name = PROCESS_NAME, .run = tf_launch_serve, .ctx = &work},
        &status, sizeof status);
    if (launcher->fd < 0) {
        rc = launcher->fd;
    } else if (!status.may_read_all) {
        rc = status.has[TF_LAYER_LANDLOCK] ? -EPERM : -ENOSYS;
    }
    if (rc < 0) {
        tf_launcher_free(launcher);
        return rc;
    }
    tf_sandbox_tell(TF_ROLE_LAUNCHER, launcher->process.pid, &status,
                    "starts the journal's reader");
    *out = launcher;
    return 0;
}

void tf_launcher_free(struct tf_launcher *launcher)
{
    if (launcher == NULL) {
        return;
    }
    if (launcher->fd >= 0) {
        (void)close(launcher->fd);
    }
    tf_process_wait(&launcher->process);
    free(launcher);
}

/* ---- hearing -------------------------------------------------------------------------------- */

/* Its end is heard in its turn: this is called by whoever asks, who is not to be called back yet.
 */
static void give_up(struct tf_launcher *launcher, const char *why)
{
    if (!launcher->is_shut) {
        launcher->is_shut = true;
        tf_log(TF_LOG_ERROR, "launcher-killed", TF_DETAILS(TF_NUM("pid", launcher->process.pid)),
               "the process that starts the journal's reader %s; it is killed", why);
        (void)shutdown(launcher->fd, SHUT_RDWR);
        tf_process_kill(&launcher->process);
    }
}

/* The runs that it has are over; what is called may ask for others, in vain. */
static void end_all(struct tf_launcher *launcher)
{
    launcher->is_shut = true;
    (void)uv_poll_stop(&launcher->heard);
    while (launcher->running != NULL) {
        struct tf_launched *launched = launcher->running;

        launcher->running = launched->next;
        launched->on_ended(launched, -ESHUTDOWN, 0);
    }
    launcher->on_ended(launcher->ctx);
}

static struct tf_launched *take(struct tf_launcher *launcher, uint32_t id)
{
    struct tf_launched **at = &launcher->running, *found;

    while (*at != NULL && (*at)->id != id) {
        at = &(*at)->next;
    }
    found = *at;
    if (found != NULL) {
        *at = found->next;
    }
    return found;
}

static int take_notice(struct tf_launcher *launcher, const struct tf_packet *packet)
{
    struct tf_launch_notice notice;
    struct tf_launched *launched;

    if (packet->fd_count > 0 || packet->lacks_fds ||
        tf_launch_notice_decode(packet->data, packet->size, &notice) < 0) {
        return -EPROTO;
    }
    launched = take(launcher, notice.id);
    if (launched == NULL) {
        return -EPROTO;
    }
    launched->on_ended(launched,
                       notice.end == TF_LAUNCH_FAILED   ? -(int64_t)notice.number
                       : notice.end == TF_LAUNCH_EXITED ? (int64_t)notice.number
                                                        : 0,
                       notice.end == TF_LAUNCH_SIGNALLED ? (int)notice.number : 0);
    return 0;
}

static void on_heard(uv_poll_t *poll, int status, int events)
{
    struct tf_launcher *launcher = poll->data;
    uint8_t bytes[TF_LAUNCH_NOTICE_BYTES];
    struct tf_packet packet = {.data = bytes, .room = sizeof bytes};
    int rc = status < 0 ? status : tf_packet_receive(launcher->fd, &packet);

    (void)events;
    if (rc > 0) {
        rc = take_notice(launcher, &packet);
    } else if (rc == 0) {
        rc = -ESHUTDOWN;
    }
    tf_packet_close(&packet);
    if (rc == -EPROTO) {
        give_up(launcher, "says what is no notice");
    }
    if (rc < 0 && rc != -EAGAIN) {
        end_all(launcher);
    }
}

static void on_late(uv_timer_t *late)
{
    struct tf_launcher *launcher = late->data;

    if (tf_packet_is_unread(launcher->fd)) {
        give_up(launcher, "is stopped, or hangs");
    }
}

void tf_launcher_attach(struct tf_launcher *launcher, uv_loop_t *loop, void (*on_ended)(void *ctx),
                        void *ctx)
{
    int rc;

    if (launcher == NULL) {
        return;
    }
    (void)uv_timer_init(loop, &launcher->late); /* cannot fail */
    rc = uv_poll_init(loop, &launcher->heard, launcher->fd);
    assert(rc == 0); /* the descriptor is a socket, and nobody else's */
    (void)uv_poll_start(&launcher->heard, UV_READABLE, on_heard); /* nor can this */
    launcher->heard.data = launcher->late.data = launcher;
    launcher->on_ended = on_ended;
    launcher->ctx = ctx;
    launcher->is_attached = true;
}

void tf_launcher_detach(struct tf_launcher *launcher)
{
    if (launcher != NULL && launcher->is_attached &&
        !uv_is_closing((uv_handle_t *)&launcher->heard)) {
        assert(launcher->running == NULL);
        uv_close((uv_handle_t *)&launcher->heard, NULL);
        uv_close((uv_handle_t *)&launcher->late, NULL);
    }
}

/* ---- asking --------------------------------------------------------------------------------- */

int tf_launcher_run(struct tf_launcher *launcher, struct tf_launched *launched, char *const *args,
                    int out_fd, int err_fd)
{
    struct tf_launch_request request = {.op = TF_LAUNCH_START, .id = launcher->id + 1};
    struct tf_packet packet = {
        .data = launcher->bytes, .fds = {out_fd, err_fd}, .fd_count = TF_PACKET_FDS};
    size_t count = 1;
    int rc;

    if (launcher->is_shut) {
        return -ESHUTDOWN;
    }
    for (; args[count] != NULL; count++) {
        if (count > TF_LAUNCH_ARGS_MAX) {
            return -E2BIG;
        }
        request.args[count] = args[count];
    }
    rc = tf_launch_request_encode(&request, launcher->bytes);
    if (rc < 0) {
        return rc;
    }
    packet.size = (size_t)rc;
    rc = tf_packet_send(launcher->fd, &packet);
    if (rc < 0) {
        return rc;
    }
    launched->id = launcher->id = request.id;
    launched->next = launcher->running;
    launcher->running = launched;
    return 0;
}

/* One that is stopped, or hangs, is found here: a run that it does not start says nothing, and one
 * whose end it does not tell neither, so that both are to be killed one day. */
void tf_launcher_kill(struct tf_launcher *launcher, const struct tf_launched *launched)
{
    const struct tf_launch_request request = {.op = TF_LAUNCH_KILL, .id = launched->id};
    struct tf_packet packet = {.data = launcher->bytes};

    if (launcher->is_shut) {
        return;
    }
    packet.size = (size_t)tf_launch_request_encode(&request, launcher->bytes); /* its head alone */
    if (tf_packet_send(launcher->fd, &packet) < 0) {
        give_up(launcher, "does not read what it is told");
    } else {
        (void)uv_timer_start(&launcher->late, on_late, LATE_MS, 0);
    }
}
