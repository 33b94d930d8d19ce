/*
 * snapshot.c - how directories and files stood when they were last looked at, so that a look at a
 * node where nothing happens costs one statx for each of them, and no walk.
 *
 * Taken by a scan, of every directory before it is listed and of every file that is read. When all
 * of them still have the same inode, size and times, a walk would find what the last one found. A
 * directory that was changed less than a second before the scan began could change again without
 * its time showing it: such a snapshot is not usable. What a scan did not find (a folder, or what a
 * link means) is noted as well: it may come. Links are followed here, since only numbers
 * are compared.
 */
#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#define SETTLED_NS      (1 * TF_S_IN_NS)
#define NAMES_MAX_BYTES (64u << 20)

struct tf_snapshot_entry {
    uint64_t inode, size;
    int64_t changed_ns, altered_ns; /* its content; its inode */
    uint32_t dir_at, name_at; /* in names, each ends with NUL; the path of its folder, its name */
    bool is_dir;
};

static int64_t to_ns(const struct statx_timestamp *time)
{
    return time->tv_sec * TF_S_IN_NS + time->tv_nsec;
}

static struct tf_snapshot_entry make_entry(const struct statx *status)
{
    return (struct tf_snapshot_entry){
        .inode = status->stx_ino,
        .size = S_ISDIR(status->stx_mode) ? 0 : status->stx_size,
        .changed_ns = to_ns(&status->stx_mtime),
        .altered_ns = to_ns(&status->stx_ctime),
        .is_dir = S_ISDIR(status->stx_mode),
    };
}

/* What is not there has an entry of zeros. False: it cannot be told. */
static bool look_at(int dir_fd, const char *name, struct tf_snapshot_entry *out)
{
    struct statx status;
    int flags = name[0] == '\0' ? AT_EMPTY_PATH : 0;

    if (statx(dir_fd, name, flags, STATX_BASIC_STATS, &status) == 0) {
        *out = make_entry(&status);
        return true;
    }
    *out = (struct tf_snapshot_entry){0};
    return errno == ENOENT;
}

void tf_snapshot_begin(struct tf_snapshot *snapshot)
{
    *snapshot = (struct tf_snapshot){.began_ns = tf_now_ns(), .is_usable = true};
    tf_buf_init(&snapshot->names, NAMES_MAX_BYTES);
}

void tf_snapshot_fini(struct tf_snapshot *snapshot)
{
    free(snapshot->entries);
    tf_buf_fini(&snapshot->names);
    *snapshot = (struct tf_snapshot){0};
}

static struct tf_snapshot_entry *make_room(struct tf_snapshot *snapshot)
{
    size_t capacity = snapshot->capacity == 0 ? 64 : snapshot->capacity * 2;
    struct tf_snapshot_entry *grown;

    if (snapshot->count < snapshot->capacity) {
        return &snapshot->entries[snapshot->count];
    }
    grown = realloc(snapshot->entries, capacity * sizeof *grown);
    if (grown == NULL) {
        return NULL;
    }
    snapshot->entries = grown;
    snapshot->capacity = capacity;
    return &snapshot->entries[snapshot->count];
}

/* A folder's path is kept once for all that is noted of it in a row. */
static uint32_t note_dir(struct tf_snapshot *snapshot, const char *dir_path)
{
    const char *last = snapshot->names.data + snapshot->last_dir_at;

    if (snapshot->count == 0 || strcmp(last, dir_path) != 0) {
        snapshot->last_dir_at = (uint32_t)snapshot->names.size;
        (void)tf_buf_append(&snapshot->names, dir_path, strlen(dir_path) + 1);
    }
    return snapshot->last_dir_at;
}

void tf_snapshot_add(struct tf_snapshot *snapshot, int dir_fd, const char *dir_path,
                     const char *name)
{
    struct tf_snapshot_entry *entry = snapshot->is_usable ? make_room(snapshot) : NULL;

    if (entry == NULL || !look_at(dir_fd, name, entry)) {
        snapshot->is_usable = false;
        return;
    }
    entry->dir_at = note_dir(snapshot, dir_path);
    entry->name_at = (uint32_t)snapshot->names.size;
    (void)tf_buf_append(&snapshot->names, name, strlen(name) + 1);
    if (snapshot->names.error != 0 ||
        (entry->is_dir && (entry->changed_ns > snapshot->began_ns - SETTLED_NS ||
                           entry->altered_ns > snapshot->began_ns - SETTLED_NS))) {
        snapshot->is_usable = false;
        return;
    }
    snapshot->count++;
}

bool tf_snapshot_holds(const struct tf_snapshot *snapshot)
{
    for (size_t i = 0; i < snapshot->count; i++) {
        const struct tf_snapshot_entry *then = &snapshot->entries[i];
        const char *name = snapshot->names.data + then->name_at;
        char path[2 * TF_FILE_PATH_MAX];
        struct tf_snapshot_entry now;

        (void)snprintf(path, sizeof path, "%s%s%s", snapshot->names.data + then->dir_at,
                       name[0] == '\0' ? "" : "/", name);
        if (!look_at(AT_FDCWD, path, &now)) {
            return false;
        }
        if (now.inode != then->inode || now.size != then->size ||
            now.changed_ns != then->changed_ns || now.altered_ns != then->altered_ns) {
            return false;
        }
    }
    return snapshot->is_usable;
}
