/*
 * look.c - looks: what was just made in a watched folder is opened at once, on a thread of its own.
 *
 * A container may live for 50 ms, and its log is gone with it: neither a scan of the whole tree nor
 * a job that waits for the loop and for a worker comes in time. So this thread does nothing but
 * wait for inotify's hints about folders, walk what is new below each (discovery.c, with
 * scan->only), and hand what it has opened to the loop. It concludes nothing from what it did not
 * find, and leaves siblings alone: names, ends, rotations and deletions are the scan's, which each
 * hint asks for too.
 *
 *     thread   hint → look → list of looks → uv_async_send        (sleeps without a hint)
 *     loop     found.c takes over what the looks have found
 *
 * Shared with scans on workers, under dirs_mutex: the paths of watched folders. A watch is added
 * and its path is noted under one lock, so that no hint comes for a folder without a path. Shared
 * with the loop, which never waits for an open, under looks_mutex: the finished looks, and whether
 * a scan is wanted.
 */
#include "internal.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define PATHS_MAX  1024u /* of one look; further ones are the scan's */
#define LOOKS_MAX  64u   /* that wait for the loop */
#define OPENED_MAX 256u  /* descriptors of one look */

/* A watched folder. Its path is its parent's, a slash and its name; or its name, without a parent.
 */
struct dir {
    struct dir *next, *parent;
    int watch;
    uint32_t refs; /* of the table, of its children, and of the newest */
    char name[];
};

struct tf_looker {
    struct tf_container *input;
    const struct tf_opener *opener;
    int inotify_fd, stop_fd;
    uv_thread_t thread;
    uv_async_t async;
    bool is_running;
    uv_mutex_t dirs_mutex;
    struct dir *dirs[TF_FILE_BUCKETS]; /* by watch */
    struct dir *newest;                /* to be noted: the parent of the next one, or near it */
    uv_mutex_t looks_mutex;
    struct tf_scan looks[LOOKS_MAX]; /* finished */
    size_t look_count;
    bool wants_scan;
};

/* ---- watched folders: any thread ----------------------------------------------------------------
 */

static struct dir **find_dir(struct tf_looker *looker, int watch)
{
    struct dir **slot = &looker->dirs[(uint32_t)watch % TF_FILE_BUCKETS];

    while (*slot != NULL && (*slot)->watch != watch) {
        slot = &(*slot)->next;
    }
    return slot;
}

static void unref_dir(struct dir *dir)
{
    while (dir != NULL && --dir->refs == 0) {
        struct dir *parent = dir->parent;

        free(dir);
        dir = parent;
    }
}

static void drop_dir(struct dir **slot)
{
    struct dir *dir = *slot;

    *slot = dir->next;
    unref_dir(dir);
}

/* What path has behind the folder's own path: "" for the same. NULL: it is another. */
static const char *behind_dir(const struct dir *dir, const char *path)
{
    size_t size = strlen(dir->name);

    if (dir->parent != NULL) {
        path = behind_dir(dir->parent, path);
        path = path != NULL && *path == '/' ? path + 1 : NULL;
    }
    if (path == NULL || strncmp(path, dir->name, size) != 0) {
        return NULL;
    }
    return path[size] == '/' || path[size] == '\0' ? path + size : NULL;
}

/* A walk comes to a folder's children behind it, so the parent is not far. NULL: keep the whole. */
static struct dir *find_parent(const struct tf_looker *looker, const char *path)
{
    struct dir *dir = looker->newest;

    while (dir != NULL) {
        const char *behind = behind_dir(dir, path);

        if (behind != NULL && *behind == '/') {
            return dir;
        }
        dir = dir->parent;
    }
    return NULL;
}

static struct dir *new_dir(struct dir *parent, int watch, const char *path)
{
    const char *name = parent != NULL ? behind_dir(parent, path) + 1 : path;
    size_t size = strlen(name) + 1;
    struct dir *dir = malloc(sizeof *dir + size);

    if (dir != NULL) {
        *dir = (struct dir){.parent = parent, .watch = watch, .refs = 1};
        memcpy(dir->name, name, size);
        if (parent != NULL) {
            parent->refs++;
        }
    }
    return dir;
}

static void set_newest(struct tf_looker *looker, struct dir *dir)
{
    dir->refs++;
    unref_dir(looker->newest);
    looker->newest = dir;
}

static void note_path(struct tf_looker *looker, int watch, const char *path)
{
    struct dir **slot = find_dir(looker, watch), *dir = *slot;
    const char *behind = dir != NULL ? behind_dir(dir, path) : NULL;

    if (behind != NULL && *behind == '\0') {
        set_newest(looker, dir);
        return;
    }
    if (dir != NULL) {
        drop_dir(slot); /* it was renamed */
    }
    dir = new_dir(find_parent(looker, path), watch, path);
    if (dir != NULL) { /* else what is made there is found by the scan */
        slot = find_dir(looker, watch);
        dir->next = *slot;
        *slot = dir;
        set_newest(looker, dir);
    }
}

int tf_looker_watch(struct tf_looker *looker, int fd, const char *path)
{
    int rc;

    if (looker == NULL) {
        return 0; /* told at the start */
    }
    uv_mutex_lock(&looker->dirs_mutex);
    rc = tf_opener_watch(looker->opener, looker->inotify_fd, fd, TF_WATCH_DIR_MASK);
    if (rc >= 0) {
        note_path(looker, rc, path);
    }
    uv_mutex_unlock(&looker->dirs_mutex);
    return rc < 0 ? rc : 0;
}

/* ---- the thread ---------------------------------------------------------------------------------
 */

/* The sticky error tells. */
static void append_path(const struct dir *dir, struct tf_buf *path)
{
    if (dir->parent != NULL) {
        append_path(dir->parent, path);
        (void)tf_buf_append_byte(path, '/');
    }
    (void)tf_buf_append_text(path, dir->name);
}

/* What was made there becomes one more path of the look. */
static void add_path(struct tf_scan *look, const struct dir *dir, const char *name)
{
    struct tf_buf path;

    tf_buf_init(&path, TF_FILE_PATH_MAX - 1);
    append_path(dir, &path);
    (void)tf_buf_append_byte(&path, '/');
    (void)tf_buf_append_text(&path, name);
    if (look->only_count < PATHS_MAX && path.error == 0) {
        look->only[look->only_count] = strndup(path.data, path.size);
        look->only_count += look->only[look->only_count] != NULL;
    }
    tf_buf_fini(&path);
}

/* Under dirs_mutex. True when a scan is wanted for it. */
static bool take_event(struct tf_looker *looker, const struct inotify_event *event,
                       struct tf_scan *look)
{
    struct dir **slot = event->wd < 0 ? NULL : find_dir(looker, event->wd);

    if ((event->mask & IN_IGNORED) != 0) {
        if (slot != NULL && *slot != NULL) {
            drop_dir(slot);
        }
        return false;
    }
    if ((event->mask & IN_CREATE) != 0 && event->len > 0 && slot != NULL && *slot != NULL) {
        add_path(look, *slot, event->name);
    }
    return true;
}

/* Reads what hints there are; without memory for it nothing is looked at. True when a scan is
 * wanted. */
static bool read_events(struct tf_looker *looker, struct tf_scan *look)
{
    _Alignas(struct inotify_event) char bytes[16384];
    bool wants_scan = false;
    ssize_t size;

    look->only = calloc(PATHS_MAX, sizeof *look->only);
    uv_mutex_lock(&looker->dirs_mutex);
    while ((size = read(looker->inotify_fd, bytes, sizeof bytes)) > 0) {
        for (size_t at = 0; at + sizeof(struct inotify_event) <= (size_t)size;) {
            const struct inotify_event *event = (const struct inotify_event *)(bytes + at);

            wants_scan |= look->only == NULL || take_event(looker, event, look);
            at += sizeof *event + event->len;
        }
    }
    uv_mutex_unlock(&looker->dirs_mutex);
    return wants_scan;
}

/* Hands a look to the loop, or drops it: then its files are found by the scan, if they still live.
 */
static void hand_over(struct tf_looker *looker, struct tf_scan *look, bool wants_scan)
{
    uv_mutex_lock(&looker->looks_mutex);
    looker->wants_scan = looker->wants_scan || wants_scan;
    if (look->found_count > 0 && looker->look_count < LOOKS_MAX) {
        looker->looks[looker->look_count++] = *look;
        *look = (struct tf_scan){0};
    }
    uv_mutex_unlock(&looker->looks_mutex);
    tf_scan_fini(look);
    (void)uv_async_send(&looker->async); /* for the scan too */
}

static void run(void *ctx)
{
    struct tf_looker *looker = ctx;
    struct pollfd polled[] = {{.fd = looker->inotify_fd, .events = POLLIN},
                              {.fd = looker->stop_fd, .events = POLLIN}};

    for (;;) {
        struct tf_scan look = {.opener = looker->opener,
                               .globs = looker->input->globs,
                               .glob_count = looker->input->glob_count,
                               .include = &looker->input->options->include,
                               .exclude = &looker->input->options->exclude,
                               .looker = looker,
                               .open_max = OPENED_MAX};
        bool wants_scan;

        if (poll(polled, TF_COUNT(polled), -1) < 0 && errno != EINTR) {
            return; /* never: the descriptors are ours, and valid */
        }
        if (polled[1].revents != 0) {
            return;
        }
        wants_scan = read_events(looker, &look);
        if (look.only_count > 0) {
            tf_scan_run(&look);
        }
        hand_over(looker, &look, wants_scan);
    }
}

/* ---- the loop -----------------------------------------------------------------------------------
 */

static void on_async(uv_async_t *async)
{
    struct tf_looker *looker = async->data;
    struct tf_container *input = looker->input;
    struct tf_scan looks[LOOKS_MAX];
    size_t count;
    bool wants_scan;

    uv_mutex_lock(&looker->looks_mutex);
    count = looker->look_count;
    memcpy(looks, looker->looks, count * sizeof *looks);
    looker->look_count = 0;
    wants_scan = looker->wants_scan;
    looker->wants_scan = false;
    uv_mutex_unlock(&looker->looks_mutex);
    for (size_t i = 0; i < count; i++) {
        if (!input->is_closing) {
            tf_found_apply(input, &looks[i]);
        }
        tf_scan_fini(&looks[i]);
    }
    if (wants_scan) {
        tf_sweep_soon(input);
    }
}

void tf_looker_free(struct tf_looker *looker)
{
    if (looker == NULL) {
        return;
    }
    if (looker->inotify_fd >= 0) {
        (void)close(looker->inotify_fd);
    }
    if (looker->stop_fd >= 0) {
        (void)close(looker->stop_fd);
    }
    for (size_t i = 0; i < looker->look_count; i++) {
        tf_scan_fini(&looker->looks[i]);
    }
    for (size_t i = 0; i < TF_FILE_BUCKETS; i++) {
        while (looker->dirs[i] != NULL) {
            drop_dir(&looker->dirs[i]);
        }
    }
    unref_dir(looker->newest);
    uv_mutex_destroy(&looker->dirs_mutex);
    uv_mutex_destroy(&looker->looks_mutex);
    free(looker);
}

int tf_looker_new(struct tf_container *input, struct tf_looker **out)
{
    struct tf_looker *looker = calloc(1, sizeof *looker);
    int rc;

    if (looker == NULL) {
        return -ENOMEM;
    }
    if (uv_mutex_init(&looker->dirs_mutex) < 0) {
        free(looker);
        return -ENOMEM;
    }
    if (uv_mutex_init(&looker->looks_mutex) < 0) {
        uv_mutex_destroy(&looker->dirs_mutex);
        free(looker);
        return -ENOMEM;
    }
    looker->input = input;
    looker->opener = &input->opener;
    looker->stop_fd = -1;
    looker->inotify_fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    rc = looker->inotify_fd < 0 ? -errno : 0;
    if (rc == 0) {
        looker->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        rc = looker->stop_fd < 0 ? -errno : uv_async_init(input->loop, &looker->async, on_async);
    }
    if (rc < 0) {
        tf_looker_free(looker);
        return rc;
    }
    looker->async.data = looker;
    input->open_handles++;
    *out = looker;
    return 0;
}

void tf_looker_start(struct tf_looker *looker)
{
    if (looker != NULL && !looker->is_running && !looker->input->is_closing) {
        looker->is_running = uv_thread_create(&looker->thread, run, looker) == 0;
    }
}

static void on_closed(uv_handle_t *handle)
{
    struct tf_looker *looker = handle->data;
    struct tf_container *input = looker->input;

    input->open_handles--;
    tf_container_maybe_closed(input);
}

void tf_looker_stop(struct tf_looker *looker)
{
    uint64_t one = 1;

    if (looker == NULL) {
        return;
    }
    if (looker->is_running) {
        (void)!write(looker->stop_fd, &one, sizeof one); /* cannot be full */
        (void)uv_thread_join(&looker->thread);           /* at most the look that it is at */
        looker->is_running = false;
    }
    uv_close((uv_handle_t *)&looker->async, on_closed);
}
