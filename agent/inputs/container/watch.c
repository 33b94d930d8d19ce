/*
 * watch.c - inotify: hints that there may be something to read.
 *
 * Files are watched by their first pump, through their descriptors, so that no path is looked up
 * twice; folders have an inotify descriptor of their own (look.c). A hint about a file wakes its
 * source. What comes first is served at once; then the descriptor rests for HINT_PAUSE_MS, so that
 * a container that writes line by line costs some 50 wake-ups a second, not one for each line. The
 * timer runs only after a hint: nothing wakes while nothing is written.
 *
 * Hints may be lost (a full queue, no watches left, a file system that has none): the scan each
 * `rescan` finds it all.
 */
#include "internal.h"

#include <assert.h>
#include <errno.h>
#include <sys/inotify.h>
#include <unistd.h>

#define HINT_PAUSE_MS 20u
#define READS_MAX     16u /* of 16 KiB, for one wake-up */

static_assert(TF_WATCH_DIR_MASK == (IN_MOVED_FROM | IN_MOVED_TO | IN_CREATE | IN_DELETE),
              "as said");
static_assert(TF_WATCH_FILE_MASK == IN_MODIFY, "as said");

void tf_watch_tell(struct tf_container *input, int error)
{
    if (input->told_watches) {
        return;
    }
    input->told_watches = true;
    if (error == -ENOSPC || error == -EMFILE) {
        tf_log(
            TF_LOG_WARN, "watches", TF_DETAILS(TF_STR("input", input->name)),
            "no hints from the kernel for some files: %s is reached; they are looked at by time. "
            "Raise it with sysctl",
            error == -ENOSPC ? "fs.inotify.max_user_watches" : "fs.inotify.max_user_instances");
    } else {
        tf_log(TF_LOG_WARN, "watches", TF_DETAILS(TF_STR("input", input->name)),
               "no hints from the kernel: %s; files are looked at by time", uv_strerror(error));
    }
}

static struct tf_file **find_slot(struct tf_container *input, int watch)
{
    struct tf_file **slot = &input->by_watch[(uint32_t)watch % TF_FILE_BUCKETS];

    while (*slot != NULL && (*slot)->watch != watch) {
        slot = &(*slot)->next_by_watch;
    }
    return slot;
}

void tf_watch_register(struct tf_container *input, struct tf_file *file, int watch)
{
    struct tf_file **slot = find_slot(input, watch);

    if (*slot == NULL && file->watch < 0) {
        file->watch = watch;
        file->next_by_watch = NULL;
        *slot = file;
    }
}

void tf_watch_forget(struct tf_container *input, struct tf_file *file)
{
    struct tf_file **slot;

    if (file->watch < 0) {
        return;
    }
    slot = find_slot(input, file->watch);
    if (*slot == file) {
        *slot = file->next_by_watch;
    }
    (void)inotify_rm_watch(input->inotify_fd, file->watch); /* gone already with the file */
    file->watch = -1;
}

static void on_event(struct tf_container *input, const struct inotify_event *event)
{
    struct tf_file *file = event->wd < 0 ? NULL : *find_slot(input, event->wd);

    if (file != NULL && (event->mask & IN_MODIFY) != 0) {
        tf_follow_wake(file);
    } else if ((event->mask & IN_Q_OVERFLOW) != 0) {
        tf_sweep_soon(input);
    }
}

/* ---- hints --------------------------------------------------------------------------------------
 */

static void read_events(struct tf_container *input)
{
    _Alignas(struct inotify_event) char bytes[16384];

    for (unsigned i = 0; i < READS_MAX; i++) {
        ssize_t size = read(input->inotify_fd, bytes, sizeof bytes);

        if (size <= 0) {
            break; /* an error too: the scan does without hints */
        }
        for (size_t at = 0; at + sizeof(struct inotify_event) <= (size_t)size;) {
            const struct inotify_event *event = (const struct inotify_event *)(bytes + at);

            on_event(input, event);
            at += sizeof *event + event->len;
        }
    }
}

static void on_readable(uv_poll_t *poll, int status, int events);

static void on_hint_timer(uv_timer_t *timer)
{
    struct tf_container *input = timer->data;

    (void)uv_poll_start(&input->watch_poll, UV_READABLE, on_readable);
}

static void on_readable(uv_poll_t *poll, int status, int events)
{
    struct tf_container *input = poll->data;

    (void)status;
    (void)events;
    read_events(input);
    (void)uv_poll_stop(poll);
    (void)uv_timer_start(&input->hint_timer, on_hint_timer, HINT_PAUSE_MS, 0);
}

void tf_watch_start(struct tf_container *input)
{
    int rc;

    input->inotify_fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    rc = input->inotify_fd < 0 ? -errno
                               : uv_poll_init(input->loop, &input->watch_poll, input->inotify_fd);
    if (rc < 0) {
        tf_watch_tell(input, rc);
        if (input->inotify_fd >= 0) {
            (void)close(input->inotify_fd);
            input->inotify_fd = -1;
        }
        return;
    }
    input->watch_poll.data = input;
    input->has_poll = true;
    input->open_handles++;
    (void)uv_poll_start(&input->watch_poll, UV_READABLE, on_readable);
    rc = tf_looker_new(input, &input->looker);
    if (rc < 0) {
        tf_watch_tell(input, rc);
    }
}
