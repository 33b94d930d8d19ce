/*
 * watch.c - sees that a file that TLS was loaded from is not the same any more.
 *
 * A file is what stat(2) tells of it, links followed: device, inode, size, and when content or
 * inode changed. It is looked at by a worker and judged on the loop:
 *
 *     taken   as it was loaded, from the open descriptor, or when its change was told last
 *     last    at the look before this one
 *     now     at this look
 *
 * A change is told when one that can be seen differs from taken, and none from last: a certificate
 * and its key are written one after the other. One that cannot be seen has not changed, but that it
 * went and came counts as a difference from last.
 *
 * The change of mode and owner is one, too: it mends what a reload was refused for.
 */
#include "internal.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct print {
    int error; /* of stat(2); then there is nothing else */
    dev_t device;
    ino_t inode;
    off_t size;
    struct timespec written, changed;
};

struct file {
    char *path;
    struct print taken, last, now; /* now: the worker's, while it looks */
};

struct tf_tls_files {
    struct file *items; /* at most three of each endpoint of a configuration */
    size_t count, capacity;
    struct tf_tls_watch watch;
    uv_timer_t timer;
    uv_work_t work;
    bool is_watching, is_looking;
};

/* ---- the list ------------------------------------------------------------------------------- */

struct tf_tls_files *tf_tls_files_new(void)
{
    return calloc(1, sizeof(struct tf_tls_files));
}

void tf_tls_files_free(struct tf_tls_files *files)
{
    if (files == NULL) {
        return;
    }
    assert(!files->is_looking);
    for (size_t i = 0; i < files->count; i++) {
        free(files->items[i].path);
    }
    free(files->items);
    free(files);
}

static struct print print_of(const struct stat *st)
{
    return (struct print){.device = st->st_dev,
                          .inode = st->st_ino,
                          .size = st->st_size,
                          .written = st->st_mtim,
                          .changed = st->st_ctim};
}

static bool same_time(const struct timespec *a, const struct timespec *b)
{
    return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

static bool same(const struct print *a, const struct print *b)
{
    return a->error == b->error && a->device == b->device && a->inode == b->inode &&
           a->size == b->size && same_time(&a->written, &b->written) &&
           same_time(&a->changed, &b->changed);
}

int tf_tls_files_add(struct tf_tls_files *files, const char *path, const struct stat *st)
{
    struct print print = print_of(st);
    char *copy = strdup(path);

    assert(!files->is_watching);
    if (copy != NULL && files->count == files->capacity) {
        size_t capacity = files->capacity == 0 ? 8 : 2 * files->capacity;
        struct file *items = reallocarray(files->items, capacity, sizeof *items);

        if (items != NULL) {
            files->items = items;
            files->capacity = capacity;
        }
    }
    if (copy == NULL || files->count == files->capacity) {
        free(copy);
        return -ENOMEM;
    }
    files->items[files->count++] =
        (struct file){.path = copy, .taken = print, .last = print, .now = print};
    return 0;
}

/* ---- a look --------------------------------------------------------------------------------- */

void tf_tls_files_look(struct tf_tls_files *files)
{
    for (size_t i = 0; i < files->count; i++) {
        struct stat st;
        bool is_seen = stat(files->items[i].path, &st) == 0;

        files->items[i].now = is_seen ? print_of(&st) : (struct print){.error = errno};
    }
}

const char *tf_tls_files_judge(struct tf_tls_files *files)
{
    const char *changed = NULL;
    bool is_settled = true;

    for (size_t i = 0; i < files->count; i++) {
        struct file *file = &files->items[i];

        is_settled &= same(&file->now, &file->last);
        if (changed == NULL && file->now.error == 0 && !same(&file->now, &file->taken)) {
            changed = file->path;
        }
        file->last = file->now;
    }
    return is_settled ? changed : NULL;
}

void tf_tls_files_take(struct tf_tls_files *files)
{
    for (size_t i = 0; i < files->count; i++) {
        if (files->items[i].now.error == 0) {
            files->items[i].taken = files->items[i].now;
        }
    }
}

/* ---- on the loop ---------------------------------------------------------------------------- */

static void on_look(uv_work_t *work)
{
    tf_tls_files_look(work->data);
}

static void on_looked(uv_work_t *work, int status)
{
    struct tf_tls_files *files = work->data;
    const char *path;

    files->is_looking = false;
    if (!files->is_watching || status < 0) {
        return;
    }
    path = tf_tls_files_judge(files);
    if (path != NULL && files->watch.on_change(files->watch.ctx, path) >= 0) {
        tf_tls_files_take(files);
    }
}

/* A file system may keep a worker waiting; then the next look is left out. */
static void on_timer(uv_timer_t *timer)
{
    struct tf_tls_files *files = timer->data;

    if (!files->is_looking) {
        files->work.data = files;
        files->is_looking = uv_queue_work(files->watch.loop, &files->work, on_look, on_looked) == 0;
    }
}

void tf_tls_files_watch(struct tf_tls_files *files, const struct tf_tls_watch *watch)
{
    assert(!files->is_watching);
    if (files->count == 0) {
        return;
    }
    files->watch = *watch;
    files->is_watching = true;
    (void)uv_timer_init(watch->loop, &files->timer); /* neither fails with a sound loop */
    files->timer.data = files;
    (void)uv_timer_start(&files->timer, on_timer, watch->every_ms, watch->every_ms);
}

void tf_tls_files_unwatch(struct tf_tls_files *files)
{
    if (files->is_watching) {
        files->is_watching = false;
        if (files->is_looking) {
            (void)uv_cancel((uv_req_t *)&files->work); /* one that has begun goes on */
        }
        uv_close((uv_handle_t *)&files->timer, NULL);
    }
}
