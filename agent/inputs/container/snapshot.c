/*
 * snapshot.c - how directories and files stood when they were last looked at, so that a look at a
 * node where nothing happens costs one stat for each of them, and no walk.
 *
 * Taken by a scan, of every directory before it is listed and of every file that is read. When all
 * of them still have the same inode, size and times, a walk would find what the last one found. A
 * directory that was changed less than a second before the scan began could change again without
 * its time showing it: such a snapshot is not usable. What a scan did not find (a folder, or what a
 * link means) is noted as well: it may come.
 *
 * In memory an entry is a struct tf_snapshot_entry, then what its path does not share with the path
 * before it: a walk goes from neighbour to neighbour, so that is a name at most.
 */
#include "internal.h"

#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>

#define SETTLED_NS    (1 * TF_S_IN_NS)
#define ENTRIES_BYTES (64u << 20)

struct tf_snapshot_entry {
    int64_t altered_ns;   /* only the kernel sets it: whatever changes, this does; or an error */
    uint64_t rest_hash;   /* of all else */
    uint16_t shared, own; /* bytes of its path: as the one before, and those that follow */
};

static uint64_t mix(uint64_t hash, uint64_t number)
{
    hash = (hash ^ number) * UINT64_C(0x9e3779b97f4a7c15);
    return hash ^ hash >> 32;
}

/* What is not there, or not to be opened, is nothing but that. */
static struct tf_snapshot_entry entry_of(int rc, const struct tf_opened *seen)
{
    uint64_t size = S_ISDIR(seen->mode) ? 0 : seen->size;
    uint64_t hash = mix(mix(mix(1, seen->id.inode), size), (uint64_t)seen->changed_ns);

    return rc == 0 ? (struct tf_snapshot_entry){.altered_ns = seen->altered_ns, .rest_hash = hash}
                   : (struct tf_snapshot_entry){.altered_ns = rc};
}

void tf_snapshot_begin(struct tf_snapshot *snapshot)
{
    *snapshot = (struct tf_snapshot){.began_ns = tf_now_ns(), .is_usable = true};
    tf_buf_init(&snapshot->entries, ENTRIES_BYTES);
    tf_buf_init(&snapshot->last_path, TF_FILE_PATH_MAX);
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

static int64_t to_ns(const struct timespec *time)
{
    return time->tv_sec * TF_S_IN_NS + time->tv_nsec;
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

/* Changed so lately that it could change again without its time showing it. */
static bool is_young(const struct tf_snapshot *snapshot, const struct tf_opened *seen)
{
    int64_t young_ns = snapshot->began_ns - SETTLED_NS;

    return S_ISDIR(seen->mode) && (seen->changed_ns > young_ns || seen->altered_ns > young_ns);
}

void tf_snapshot_note(struct tf_snapshot *snapshot, const char *path, int rc,
                      const struct tf_opened *seen)
{
    if (snapshot->is_usable) {
        snapshot->is_usable = (rc == 0 || tf_scan_is_final(rc)) &&
                              append(snapshot, entry_of(rc, seen), path) == 0 &&
                              !is_young(snapshot, seen);
    }
}

void tf_snapshot_add(struct tf_snapshot *snapshot, const struct tf_opener *opener, const char *path)
{
    struct tf_opened seen;
    int rc = tf_opener_look(opener, path, &seen, NULL);

    tf_snapshot_note(snapshot, path, rc, &seen);
}

static struct tf_opened seen_by(const struct stat *status)
{
    return (struct tf_opened){.fd = -1,
                              .id = {.inode = status->st_ino},
                              .size = (uint64_t)status->st_size,
                              .changed_ns = to_ns(&status->st_mtim),
                              .altered_ns = to_ns(&status->st_ctim),
                              .mode = status->st_mode};
}

void tf_snapshot_add_dir(struct tf_snapshot *snapshot, int fd, const char *path)
{
    struct tf_opened seen = {.fd = -1};
    struct stat status;
    int rc = fstat(fd, &status) < 0 ? -errno : 0;

    if (rc == 0) {
        seen = seen_by(&status);
    }
    tf_snapshot_note(snapshot, path, rc, &seen);
}

static bool is_same(const struct tf_snapshot_entry *then, int rc, const struct tf_opened *seen)
{
    struct tf_snapshot_entry now = entry_of(rc, seen);

    return now.altered_ns == then->altered_ns && now.rest_hash == then->rest_hash;
}

/* What has the same numbers has not changed, whatever way leads to it; that is soon seen. Else, or
 * where this process may not see it, a look decides. */
static bool stands(const struct tf_snapshot_entry *then, const struct tf_opener *opener,
                   const char *path)
{
    struct tf_opened seen;
    struct stat status;

    if (stat(path, &status) == 0) {
        seen = seen_by(&status);
        if (is_same(then, 0, &seen)) {
            return true;
        }
    }
    return is_same(then, tf_opener_look(opener, path, &seen, NULL), &seen);
}

bool tf_snapshot_holds(const struct tf_snapshot *snapshot, const struct tf_opener *opener)
{
    char path[TF_FILE_PATH_MAX];
    struct tf_snapshot_entry then;
    bool holds = snapshot->is_usable;

    for (size_t at = 0; at < snapshot->entries.size && holds; at += sizeof then + then.own) {
        memcpy(&then, snapshot->entries.data + at, sizeof then);
        memcpy(path + then.shared, snapshot->entries.data + at + sizeof then, then.own);
        path[then.shared + then.own] = '\0';
        holds = stands(&then, opener, path[0] == '\0' ? "/" : path);
    }
    return holds;
}
