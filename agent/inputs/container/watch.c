/*
 * watch.c - inotify: hints that there may be something to read, or to look for.
 *
 * Directories are watched by the scan, files by their first pump, through their descriptors, so
 * that no path is looked up twice. Each kind has an inotify descriptor of its own:
 *
 *     files    a hint wakes the file's source. What comes first is served at once; then the
 *              descriptor rests for HINT_PAUSE_MS, so that a container that writes line by line
 *              costs some 50 wake-ups a second, not one for each line.
 *     folders  something that was made is looked at alone and at once (look.c): a container may be
 *              gone again in a moment. Whatever else changed asks for a scan.
 *
 * Hints may be lost (a full queue, no watches left, a file system that has none): the scan each
 * `rescan` finds it all. No timer runs without a hint: nothing wakes while nothing is written.
 */
#include "internal.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/inotify.h>
#include <unistd.h>

#define HINT_PAUSE_MS 20u
#define READS_MAX     16u /* of 16 KiB, for one wake-up */

/* A watched folder. */
struct tf_dir {
    struct tf_dir *next;
    int watch;
    char path[];
};

static_assert(TF_WATCH_DIR_MASK == (IN_MOVED_FROM | IN_MOVED_TO | IN_CREATE | IN_DELETE),
              "as said");
static_assert(TF_WATCH_FILE_MASK == IN_MODIFY, "as said");

int tf_watch_add(int inotify_fd, int fd, uint32_t mask)
{
    char path[64];
    int watch;

    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    watch = inotify_add_watch(inotify_fd, path, mask);
    return watch < 0 ? -errno : watch;
}

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

/* ---- files --------------------------------------------------------------------------------------
 */

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
    (void)inotify_rm_watch(input->file_watcher.fd, file->watch); /* gone already with the file */
    file->watch = -1;
}

static void on_file_event(struct tf_container *input, const struct inotify_event *event)
{
    struct tf_file *file = event->wd < 0 ? NULL : *find_slot(input, event->wd);

    if (file != NULL && (event->mask & IN_MODIFY) != 0) {
        tf_follow_wake(file);
    } else if ((event->mask & IN_Q_OVERFLOW) != 0) {
        tf_sweep_soon(input);
    }
}

/* ---- folders ------------------------------------------------------------------------------------
 */

static struct tf_dir **find_dir(struct tf_container *input, int watch)
{
    struct tf_dir **slot = &input->dirs[(uint32_t)watch % TF_FILE_BUCKETS];

    while (*slot != NULL && (*slot)->watch != watch) {
        slot = &(*slot)->next;
    }
    return slot;
}

static void drop_dir(struct tf_dir **slot)
{
    struct tf_dir *dir = *slot;

    *slot = dir->next;
    free(dir);
}

/* A hint came before the folder's path was known. It may be too late for the scan. */
static void note_unnamed(struct tf_container *input, int watch)
{
    input->unnamed[input->unnamed_count % TF_UNNAMED_MAX] = watch;
    input->unnamed_count++;
}

static void look_again(struct tf_container *input, const struct tf_dir *dir)
{
    const char *slash = strrchr(dir->path, '/');
    char parent[TF_FILE_PATH_MAX];

    for (size_t i = 0; i < TF_UNNAMED_MAX; i++) {
        if (input->unnamed[i] == dir->watch && slash != NULL) {
            input->unnamed[i] = 0; /* watches count from 1 */
            (void)snprintf(parent, sizeof parent, "%.*s", (int)(slash - dir->path), dir->path);
            tf_look_at(input, parent, slash + 1);
        }
    }
}

void tf_watch_name_dir(struct tf_container *input, int watch, const char *path)
{
    struct tf_dir **slot = find_dir(input, watch), *dir;
    size_t size = strlen(path) + 1;

    if (*slot != NULL && strcmp((*slot)->path, path) == 0) {
        return;
    }
    if (*slot != NULL) {
        drop_dir(slot); /* it was renamed */
    }
    dir = malloc(sizeof *dir + size);
    if (dir == NULL) {
        return; /* what is made there is found by the next scan */
    }
    dir->watch = watch;
    dir->next = NULL;
    memcpy(dir->path, path, size);
    *find_dir(input, watch) = dir;
    look_again(input, dir);
}

static void on_dir_event(struct tf_container *input, const struct inotify_event *event)
{
    struct tf_dir **slot = event->wd < 0 ? NULL : find_dir(input, event->wd);

    if ((event->mask & IN_IGNORED) != 0) {
        if (slot != NULL && *slot != NULL) {
            drop_dir(slot);
        }
        return;
    }
    if ((event->mask & IN_CREATE) != 0 && event->len > 0 && slot != NULL) {
        if (*slot != NULL) {
            tf_look_at(input, (*slot)->path, event->name);
        } else {
            note_unnamed(input, event->wd);
        }
    }
    tf_sweep_soon(input);
}

/* ---- both ---------------------------------------------------------------------------------------
 */

static void read_events(struct tf_watcher *watcher)
{
    _Alignas(struct inotify_event) char bytes[16384];

    for (unsigned i = 0; i < READS_MAX; i++) {
        ssize_t size = read(watcher->fd, bytes, sizeof bytes);

        if (size <= 0) {
            break; /* an error too: the scan does without hints */
        }
        for (size_t at = 0; at + sizeof(struct inotify_event) <= (size_t)size;) {
            const struct inotify_event *event = (const struct inotify_event *)(bytes + at);

            watcher->on_event(watcher->input, event);
            at += sizeof *event + event->len;
        }
    }
}

static void on_dirs_readable(uv_poll_t *poll, int status, int events)
{
    (void)status;
    (void)events;
    read_events(poll->data);
}

static void on_files_readable(uv_poll_t *poll, int status, int events);

static void on_hint_timer(uv_timer_t *timer)
{
    struct tf_container *input = timer->data;

    (void)uv_poll_start(&input->file_watcher.poll, UV_READABLE, on_files_readable);
}

static void on_files_readable(uv_poll_t *poll, int status, int events)
{
    struct tf_watcher *watcher = poll->data;

    (void)status;
    (void)events;
    read_events(watcher);
    (void)uv_poll_stop(poll);
    (void)uv_timer_start(&watcher->input->hint_timer, on_hint_timer, HINT_PAUSE_MS, 0);
}

static void start_watcher(struct tf_container *input, struct tf_watcher *watcher,
                          void (*on_event)(struct tf_container *, const struct inotify_event *),
                          uv_poll_cb on_readable)
{
    int rc;

    watcher->input = input;
    watcher->on_event = on_event;
    watcher->fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    rc = watcher->fd < 0 ? -errno : uv_poll_init(input->loop, &watcher->poll, watcher->fd);
    if (rc < 0) {
        tf_watch_tell(input, rc);
        if (watcher->fd >= 0) {
            (void)close(watcher->fd);
            watcher->fd = -1;
        }
        return;
    }
    watcher->poll.data = watcher;
    watcher->has_poll = true;
    input->open_handles++;
    (void)uv_poll_start(&watcher->poll, UV_READABLE, on_readable);
}

void tf_watch_start(struct tf_container *input)
{
    start_watcher(input, &input->dir_watcher, on_dir_event, on_dirs_readable);
    start_watcher(input, &input->file_watcher, on_file_event, on_files_readable);
}

void tf_watch_close(struct tf_container *input, uv_close_cb on_closed)
{
    struct tf_watcher *watchers[] = {&input->dir_watcher, &input->file_watcher};

    for (size_t i = 0; i < TF_COUNT(watchers); i++) {
        if (watchers[i]->has_poll) {
            watchers[i]->poll.data = input; /* for on_closed; no event comes any more */
            uv_close((uv_handle_t *)&watchers[i]->poll, on_closed);
        }
    }
}

void tf_watch_fini(struct tf_container *input)
{
    struct tf_watcher *watchers[] = {&input->dir_watcher, &input->file_watcher};

    for (size_t i = 0; i < TF_COUNT(watchers); i++) {
        if (watchers[i]->fd >= 0) {
            (void)close(watchers[i]->fd);
        }
    }
    for (size_t i = 0; i < TF_FILE_BUCKETS; i++) {
        while (input->dirs[i] != NULL) {
            drop_dir(&input->dirs[i]);
        }
    }
}
