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
 *
 * In memory an entry is a struct tf_snapshot_entry, then what its path does not share with the path
 * before it: a walk goes from neighbour to neighbour, so that is a name at most.
 */
#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#define SETTLED_NS    (1 * TF_S_IN_NS)
#define ENTRIES_BYTES (64u << 20)
#define SNAPSHOT_PATH (2u * TF_FILE_PATH_MAX)

/* How a path stands. */
struct standing {
    uint64_t inode, size;
    int64_t changed_ns, altered_ns; /* its content; its inode */
    bool is_dir;
};

struct tf_snapshot_entry {
    int64_t altered_ns;   /* only the kernel sets it: whatever changes, this does */
    uint64_t rest_hash;   /* of all else */
    uint16_t shared, own; /* bytes of its path: as the one before, and those that follow */
};

static int64_t to_ns(const struct statx_timestamp *time)
{
    return time->tv_sec * TF_S_IN_NS + time->tv_nsec;
}

/* What is not there is all zeros. False: it cannot be told. */
static bool look_at(int dir_fd, const char *name, struct standing *out)
{
    struct statx status;
    int flags = name[0] == '\0' ? AT_EMPTY_PATH : 0, rc;

    *out = (struct standing){0};
    tf_sandbox_raise();
    rc = statx(dir_fd, name, flags, STATX_BASIC_STATS, &status) != 0 ? -errno : 0;
    tf_sandbox_lower();
    if (rc < 0) {
        return rc == -ENOENT;
    }
    out->is_dir = S_ISDIR(status.stx_mode);
    out->inode = status.stx_ino;
    out->size = out->is_dir ? 0 : status.stx_size;
    out->changed_ns = to_ns(&status.stx_mtime);
    out->altered_ns = to_ns(&status.stx_ctime);
    return true;
}

static uint64_t mix(uint64_t hash, uint64_t number)
{
    hash = (hash ^ number) * UINT64_C(0x9e3779b97f4a7c15);
    return hash ^ hash >> 32;
}

static struct tf_snapshot_entry entry_of(const struct standing *standing)
{
    uint64_t hash =
        mix(mix(mix(1, standing->inode), standing->size), (uint64_t)standing->changed_ns);

    return (struct tf_snapshot_entry){.altered_ns = standing->altered_ns, .rest_hash = hash};
}

void tf_snapshot_begin(struct tf_snapshot *snapshot)
{
    *snapshot = (struct tf_snapshot){.began_ns = tf_now_ns(), .is_usable = true};
    tf_buf_init(&snapshot->entries, ENTRIES_BYTES);
    tf_buf_init(&snapshot->last_path, SNAPSHOT_PATH);
}

void tf_snapshot_fini(struct tf_snapshot *snapshot)
{
    tf_buf_fini(&snapshot->entries);
    tf_buf_fini(&snapshot->last_path);
    *snapshot = (struct tf_snapshot){0};
}

static size_t shared_bytes(const struct tf_buf *last, const char *path, size_t size)
{
    size_t shared = 0;

    while (shared < size && shared < last->size && last->data[shared] == path[shared]) {
        shared++;
    }
    return shared;
}

/* Returns 0, -ENOMEM or -EMSGSIZE. */
static int append(struct tf_snapshot *snapshot, struct tf_snapshot_entry entry, const char *path)
{
    size_t size = strlen(path), shared = shared_bytes(&snapshot->last_path, path, size);

    entry.shared = (uint16_t)shared;
    entry.own = (uint16_t)(size - shared);
    (void)tf_buf_append(&snapshot->entries, &entry, sizeof entry);
    (void)tf_buf_append(&snapshot->entries, path + shared, entry.own);
    snapshot->last_path.size = shared;
    (void)tf_buf_append(&snapshot->last_path, path + shared, entry.own);
    return snapshot->entries.error != 0 ? snapshot->entries.error : snapshot->last_path.error;
}

void tf_snapshot_add(struct tf_snapshot *snapshot, int dir_fd, const char *dir_path,
                     const char *name)
{
    int64_t young_ns = snapshot->began_ns - SETTLED_NS;
    char path[SNAPSHOT_PATH];
    struct standing standing;

    if (!snapshot->is_usable) {
        return;
    }
    (void)snprintf(path, sizeof path, "%s%s%s", dir_path, name[0] == '\0' ? "" : "/", name);
    snapshot->is_usable =
        look_at(dir_fd, name, &standing) && append(snapshot, entry_of(&standing), path) == 0 &&
        !(standing.is_dir && (standing.changed_ns > young_ns || standing.altered_ns > young_ns));
}

static bool all_stand(const struct tf_snapshot *snapshot)
{
    char path[SNAPSHOT_PATH];
    struct tf_snapshot_entry then, now;
    struct standing standing;

    for (size_t at = 0; at < snapshot->entries.size; at += sizeof then + then.own) {
        memcpy(&then, snapshot->entries.data + at, sizeof then);
        memcpy(path + then.shared, snapshot->entries.data + at + sizeof then, then.own);
        path[then.shared + then.own] = '\0';
        if (!look_at(AT_FDCWD, path, &standing)) {
            return false;
        }
        now = entry_of(&standing);
        if (now.altered_ns != then.altered_ns || now.rest_hash != then.rest_hash) {
            return false;
        }
    }
    return snapshot->is_usable;
}

bool tf_snapshot_holds(const struct tf_snapshot *snapshot)
{
    bool holds;

    tf_sandbox_raise(); /* once for all of them: nothing is opened */
    holds = all_stand(snapshot);
    tf_sandbox_lower();
    return holds;
}
