/*
 * look.c - looks: what was just made in a watched folder is walked alone, at once.
 *
 * A container may live for 50 ms, and its log is gone with it: a scan of the whole tree would come
 * too late. A look opens what is new below one path (a file, or a folder with all that is in it)
 * and watches the folders on its way. It concludes nothing from what it did not find: names, ends
 * and deletions are the scan's (sweep.c), which runs beside it. One look runs at a time, over all
 * paths that came since the last one.
 */
#include "internal.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#define PENDING_MAX 4096u /* paths at once; further ones wait for the scan */

static void begin(struct tf_container *input);

/* Those that a new sibling could be a copy of: files of the same folder. */
static int list_known(const struct tf_container *input, struct tf_scan *scan)
{
    size_t capacity = 0;

    for (const struct tf_file *file = input->files; file != NULL; file = file->next) {
        for (size_t i = 0; i < scan->only_count; i++) {
            if (scan->only[i].dir_hash != file->dir_hash) {
                continue;
            }
            if (scan->known_count == capacity) {
                struct tf_known *grown;

                capacity = capacity == 0 ? 16 : capacity * 2;
                grown = realloc(scan->known, capacity * sizeof *grown);
                if (grown == NULL) {
                    return -1;
                }
                scan->known = grown;
            }
            tf_follow_known(file, &scan->known[scan->known_count++]);
            break;
        }
    }
    tf_scan_sort_known(scan);
    return 0;
}

static void run(uv_work_t *work)
{
    struct tf_container *input = work->data;

    tf_scan_run(&input->look);
}

static void after(uv_work_t *work, int status)
{
    struct tf_container *input = work->data;

    input->is_looking = false;
    if (!input->is_closing && status == 0) {
        tf_sweep_apply_look(input);
    }
    tf_scan_fini(&input->look);
    if (input->is_closing) {
        tf_container_maybe_closed(input);
    } else if (input->pending_count > 0) {
        begin(input);
    }
}

static void begin(struct tf_container *input)
{
    struct tf_scan *look = &input->look;

    assert(!input->is_looking);
    tf_sweep_prepare(input, look);
    look->only = input->pending;
    look->only_count = input->pending_count;
    input->pending = NULL;
    input->pending_count = input->pending_capacity = 0;
    if (list_known(input, look) < 0 ||
        uv_queue_work(input->loop, &input->look_work, run, after) < 0) {
        tf_scan_fini(look); /* the scan that follows each hint finds it */
        return;
    }
    input->is_looking = true;
}

void tf_look_at(struct tf_container *input, const char *dir, const char *name)
{
    struct tf_only *grown;
    char path[TF_FILE_PATH_MAX];
    int size = snprintf(path, sizeof path, "%s/%s", dir, name);

    if (input->is_closing || !input->has_scanned || input->pending_count == PENDING_MAX ||
        size < 0 || (size_t)size >= sizeof path) {
        return;
    }
    if (input->pending_count == input->pending_capacity) {
        uint32_t capacity = input->pending_capacity == 0 ? 16 : input->pending_capacity * 2;

        grown = realloc(input->pending, capacity * sizeof *grown);
        if (grown == NULL) {
            return;
        }
        input->pending = grown;
        input->pending_capacity = capacity;
    }
    grown = &input->pending[input->pending_count];
    grown->path = strdup(path);
    grown->dir_hash = tf_dir_hash(path);
    if (grown->path != NULL) {
        input->pending_count++;
        if (!input->is_looking) {
            begin(input);
        }
    }
}

void tf_look_stop(struct tf_container *input)
{
    if (input->is_looking) {
        (void)uv_cancel((uv_req_t *)&input->look_work); /* when it has begun, it is waited for */
    }
    tf_only_free(input->pending, input->pending_count);
    input->pending = NULL;
    input->pending_count = 0;
}
