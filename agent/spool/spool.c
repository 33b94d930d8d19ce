/*
 * spool.c - open, close, status of the spool; what the other files do is listed in internal.h.
 *
 * Open, in order: directory, lock, spool id, keys, cursors, recovery with the run's first segment,
 * then the handles of the loop, so that all that can fail comes before what only closing frees.
 * Close: all that was taken is written and synced, each done is called, index and footer close the
 * segment, cursors are saved, and when no job is in flight any more the handles are closed and the
 * memory freed.
 */
#include "seal.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/crypto.h>
#include <openssl/rand.h>

#include "taffrail/log.h"

#define TICK_MS           1000u
#define SEGMENT_MIN_BYTES (UINT64_C(1) << 20)
#define DROP_PARTS        4u
#define MISSING_KEYS_MAX  8u                    /* named by check */
#define SEGMENT_TOP_BYTES (UINT64_C(768) << 20) /* soft, below the format's 1 GiB */

static int check_options(const struct tf_spool_options *options, struct tf_error *err)
{
    const struct tf_place *at = &options->path.at;

    if (options->path.text == NULL || options->path.text[0] == '\0') {
        return tf_error_add(err, at, "spool.path is empty; name a directory");
    }
    if (options->segment_size_bytes < SEGMENT_MIN_BYTES ||
        options->segment_size_bytes > SEGMENT_TOP_BYTES) {
        return tf_error_add(err, at, "spool.segment_size is not in 1MiB..768MiB; 64MiB is usual");
    }
    return 0;
}

static int disk_error(struct tf_error *err, const struct tf_spool_options *options, int rc,
                      const char *what)
{
    char reason[64];

    (void)tf_error_add(err, &options->path.at, "spool \"%s\": %s: %s", options->path.text, what,
                       uv_strerror_r(rc, reason, sizeof reason));
    return rc;
}

/* Opens the directory. others may not write in it; when it is ours, nobody else looks into it. */
static int open_dir(const struct tf_spool_options *options, bool may_make, int *out,
                    struct tf_error *err)
{
    struct stat st;
    int fd;

    if (may_make && mkdir(options->path.text, 0700) < 0 && errno != EEXIST) {
        return disk_error(err, options, -errno, "cannot be made; make the folder it is to be in");
    }
    fd = open(options->path.text, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        int rc = -errno;

        return !may_make && rc == -ENOENT ? rc : disk_error(err, options, rc, "cannot be opened");
    }
    if (fstat(fd, &st) < 0 || (st.st_mode & 022) != 0) {
        (void)close(fd);
        return tf_error_add(err, &options->path.at,
                            "spool \"%s\" has mode %04o, so others may "
                            "write in it; chmod 0700",
                            options->path.text, (unsigned)st.st_mode & 07777);
    }
    if (may_make && (st.st_mode & 077) != 0) {
        (void)fchmod(fd, 0700);
    }
    *out = fd;
    return 0;
}

/* True when any segment is in the directory, or that cannot be told: no key is made then. */
static bool has_segments(int dir_fd)
{
    struct tf_listing listing;
    bool has_any = tf_listing_read(dir_fd, &listing) < 0 || listing.count > 0;

    tf_listing_fini(&listing);
    return has_any;
}

/* -EBUSY: another agent has it. */
static int try_lock(int dir_fd, const struct tf_spool_options *options, int *lock_fd,
                    struct tf_error *err)
{
    *lock_fd = openat(dir_fd, "LOCK", O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK, 0600);
    if (*lock_fd < 0) {
        return disk_error(err, options, -errno, "LOCK cannot be opened");
    }
    if (flock(*lock_fd, LOCK_EX | LOCK_NB) < 0) {
        return errno == EWOULDBLOCK ? -EBUSY
                                    : disk_error(err, options, -errno, "LOCK cannot be taken");
    }
    return 0;
}

/* The lock is held as long as *lock_fd is open. */
static int take_lock(int dir_fd, const struct tf_spool_options *options, int *lock_fd,
                     struct tf_error *err)
{
    int rc = try_lock(dir_fd, options, lock_fd, err);

    return rc == -EBUSY ? disk_error(err, options, rc,
                                     "another agent writes here; stop it, or give each its "
                                     "own spool.path")
                        : rc;
}

/* ---- spool id ------------------------------------------------------------------------------- */

static int read_id(int dir_fd, uint8_t id[TF_SPOOL_ID_BYTES])
{
    uint8_t bytes[TF_SPOOL_META_BYTES];
    int fd = openat(dir_fd, "spool.meta", O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    int rc;

    if (fd < 0) {
        return -errno;
    }
    rc = tf_read_at(fd, bytes, sizeof bytes, 0);
    (void)close(fd);
    return rc == 0 ? tf_spool_meta_decode(bytes, id) : rc;
}

/* Written under another name and renamed: spool.meta is whole or not there. */
int tf_spool_meta_write(int dir_fd, const uint8_t id[TF_SPOOL_ID_BYTES])
{
    uint8_t bytes[TF_SPOOL_META_BYTES];
    ssize_t n;
    int fd, rc;

    tf_spool_meta_encode(id, bytes);
    (void)unlinkat(dir_fd, "spool.meta.new", 0);
    fd = openat(dir_fd, "spool.meta.new", O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
                0600);
    if (fd < 0) {
        return -errno;
    }
    n = write(fd, bytes, sizeof bytes);
    rc = n == (ssize_t)sizeof bytes ? 0 : n < 0 ? -errno : -ENOSPC;
    if (rc == 0 && fsync(fd) < 0) {
        rc = -errno;
    }
    (void)close(fd);
    if (rc == 0 && renameat(dir_fd, "spool.meta.new", dir_fd, "spool.meta") < 0) {
        rc = -errno;
    }
    return rc == 0 ? tf_sync_dir(dir_fd) : rc;
}

/* What sound headers of segments say, of this spool or another. */
struct headers {
    struct tf_sector0 newest; /* segment_no 0: none */
    uint64_t highest_run;
};

/* All segments, with what their headers say; one that is gone meanwhile or cannot be read is not
 * sound. ring NULL: not who may open them. */
static int list_headers(int dir_fd, const struct tf_keyring *ring, struct tf_listing *listing)
{
    int rc = tf_listing_read(dir_fd, listing);

    for (size_t i = 0; rc == 0 && i < listing->count; i++) {
        (void)tf_listed_read(dir_fd, ring, &listing->files[i]);
    }
    return rc;
}

static int read_headers(int dir_fd, struct headers *out)
{
    struct tf_listing listing;
    int rc = list_headers(dir_fd, NULL, &listing);

    *out = (struct headers){0};
    for (size_t i = 0; rc == 0 && i < listing.count; i++) {
        const struct tf_listed *file = &listing.files[i];

        out->highest_run = file->run > out->highest_run ? file->run : out->highest_run;
        out->newest = file->sound ? file->sector : out->newest;
    }
    tf_listing_fini(&listing);
    return rc;
}

/* The id out of the newest segment, when spool.meta is lost. */
static int id_from_segments(int dir_fd, uint8_t id[TF_SPOOL_ID_BYTES])
{
    struct headers headers;
    int rc = read_headers(dir_fd, &headers);

    if (rc == 0) {
        memcpy(id, headers.newest.spool_id, TF_SPOOL_ID_BYTES);
    }
    return rc < 0 ? rc : headers.newest.segment_no > 0 ? 0 : -ENOENT;
}

static int find_id(struct tf_spool *spool, bool is_empty)
{
    int rc = read_id(spool->dir_fd, spool->id);

    if (rc == 0 || (rc != -ENOENT && rc != -EPROTO)) {
        return rc;
    }
    if (is_empty || id_from_segments(spool->dir_fd, spool->id) < 0) {
        if (RAND_bytes(spool->id, TF_SPOOL_ID_BYTES) != 1) {
            return -EIO;
        }
    } else {
        tf_log(TF_LOG_WARN, "spool-recovered", TF_DETAILS(TF_STR("spool", spool->path)),
               "spool.meta was lost; made again from the segments");
    }
    return tf_spool_meta_write(spool->dir_fd, spool->id);
}

/* ---- open ----------------------------------------------------------------------------------- */

static void spool_free(struct tf_spool *spool)
{
    int fds[] = {spool->fd, spool->old_fd, spool->cursors_fd, spool->lock_fd, spool->dir_fd};

    tf_feeds_fini(spool);
    tf_plan_drop(spool);
    tf_sealing_free(spool);
    free(spool->index);
    tf_state_fini(&spool->state);
    for (uint32_t i = 0; i < TF_ENCODERS; i++) {
        tf_gzip_free(spool->gzips[i]);
    }
    tf_buf_fini(&spool->io.bytes);
    tf_buf_fini(&spool->spare);
    tf_secure_free(spool->keys, sizeof *spool->keys);
    tf_keyring_free(spool->ring);
    for (size_t i = 0; i < TF_COUNT(fds); i++) {
        if (fds[i] >= 0) {
            (void)close(fds[i]);
        }
    }
    free(spool->segments);
    free(spool->path);
    free(spool);
}

static int load_ring(const struct tf_spool_options *options, bool is_empty, struct tf_keyring *ring,
                     struct tf_error *err)
{
    bool made;
    int rc = tf_keys_load(options, is_empty, ring, &made, err);

    if (rc == -ENOENT) {
        return tf_error_add(err, &options->path.at,
                            "the key \"%s.key\" is missing, without it the "
                            "spool cannot be read; put it back",
                            options->path.text);
    }
    rc = rc < 0 ? rc : tf_auditor_load(options, ring, err);
    if (rc == 0 && made) {
        tf_log(TF_LOG_WARN, "spool-key", TF_DETAILS(TF_STR("spool", options->path.text)),
               "a key was made beside the spool: it protects copies of the spool, not this disk; "
               "see spool.keys");
    }
    return rc;
}

static int load_keys(struct tf_spool *spool, const struct tf_spool_options *options, bool is_empty,
                     struct tf_error *err)
{
    int rc = load_ring(options, is_empty, spool->ring, err);

    spool->key_is_beside = rc == 0 && options->keys.count == 0;
    return rc;
}

static int init_memory(struct tf_spool *spool, const struct tf_spool_options *options)
{
    spool->path = strdup(options->path.text);
    spool->ring = tf_secure_new(sizeof *spool->ring);
    spool->cache = calloc(TF_CACHE_MAX_FRAMES, sizeof *spool->cache);
    spool->index = calloc(TF_INDEX_MAX, sizeof *spool->index);
    if (spool->index == NULL || tf_sealing_new(spool) < 0) {
        return -ENOMEM;
    }
    tf_buf_init(&spool->io.bytes, TF_SEGMENT_MAX_BYTES);
    for (uint32_t i = 0; i < TF_ENCODERS; i++) {
        spool->gzips[i] = tf_gzip_new(options->compress);
        if (spool->gzips[i] == NULL) {
            return -ENOMEM;
        }
    }
    return spool->path == NULL || spool->ring == NULL || spool->cache == NULL ? -ENOMEM : 0;
}

static int check_outputs(const struct tf_spool_options *options, const char *const *outputs,
                         size_t count, struct tf_error *err)
{
    if (count > TF_CURSORS_MAX) {
        return tf_error_add(err, &options->path.at, "%zu outputs are too many; at most %u", count,
                            TF_CURSORS_MAX);
    }
    for (size_t i = 0; i < count; i++) {
        if (strlen(outputs[i]) >= TF_CURSOR_NAME_BYTES) {
            return tf_error_add(err, &options->path.at,
                                "output name \"%s\" is too long; at most "
                                "%u bytes",
                                outputs[i], TF_CURSOR_NAME_BYTES - 1);
        }
    }
    return 0;
}

static int open_files(struct tf_spool *spool, const struct tf_spool_options *options,
                      const char *const *outputs, size_t output_count, struct tf_error *err)
{
    bool is_empty;
    int rc = open_dir(options, true, &spool->dir_fd, err);

    if (rc == 0) {
        rc = take_lock(spool->dir_fd, options, &spool->lock_fd, err);
    }
    if (rc < 0) {
        return rc;
    }
    is_empty = !has_segments(spool->dir_fd);
    rc = load_keys(spool, options, is_empty, err);
    if (rc < 0) {
        return rc;
    }
    rc = find_id(spool, is_empty);
    if (rc == 0) {
        rc = tf_cursors_open(spool, outputs, output_count, is_empty, &spool->run);
    }
    if (rc < 0) {
        return disk_error(err, options, rc, "its files cannot be made or read");
    }
    return tf_spool_recover(spool, &options->path.at, err);
}

static void on_tick(uv_timer_t *timer)
{
    struct tf_spool *spool = timer->data;

    if (tf_cursors_dirty(spool) || spool->save_wanted) {
        tf_cursors_save(spool);
    }
    tf_feeds_tick(spool);
    tf_seal_tick(spool);
    tf_writer_tick(spool);
    tf_retention_tick(spool);
    tf_slots_tick(spool);
    tf_room_changed(spool);
}

/* drop_oldest deletes whole segments, so that some of them must fit into max_size. */
static void bound_segments(struct tf_spool_options *options)
{
    uint64_t most = options->max_size_bytes / DROP_PARTS;

    if (options->on_full == TF_ON_FULL_DROP_OLDEST && options->segment_size_bytes > most) {
        options->segment_size_bytes = most > SEGMENT_MIN_BYTES ? most : SEGMENT_MIN_BYTES;
    }
}

static void tell_open(const struct tf_spool *spool, uint64_t began_ns)
{
    struct tf_spool_status status;

    tf_spool_status(spool, &status);
    tf_log(TF_LOG_INFO, "spool-open",
           TF_DETAILS(TF_NUM("segments", status.segments),
                      TF_NUM("pending_records", status.pending_events),
                      TF_NUM("bytes", status.bytes_pending + status.bytes_retained),
                      TF_BOOL("encrypted", true), TF_BOOL("sealed", tf_seal_is_on(spool)),
                      TF_NUM("torn_bytes", status.torn_bytes),
                      TF_NUM("took_ms", (uv_hrtime() - began_ns) / TF_MS_IN_NS)),
           "spool ready");
}

int tf_spool_open(uv_loop_t *loop, const struct tf_spool_options *options,
                  const char *const *outputs, size_t output_count,
                  const struct tf_spool_callbacks *callbacks, struct tf_spool **out,
                  struct tf_error *err)
{
    uint64_t began_ns = uv_hrtime();
    struct tf_spool *spool;
    int rc = check_options(options, err);

    if (rc == 0) {
        rc = check_outputs(options, outputs, output_count, err);
    }
    if (rc < 0) {
        return rc;
    }
    spool = calloc(1, sizeof *spool);
    if (spool == NULL) {
        return disk_error(err, options, -ENOMEM, "cannot be opened");
    }
    spool->fd = spool->old_fd = spool->dir_fd = spool->lock_fd = spool->cursors_fd = -1;
    spool->loop = loop;
    spool->options = *options;
    bound_segments(&spool->options);
    spool->callbacks = *callbacks;
    rc = init_memory(spool, options);
    rc = rc < 0 ? disk_error(err, options, rc, "cannot be opened")
                : open_files(spool, options, outputs, output_count, err);
    if (rc < 0) {
        spool_free(spool);
        return rc;
    }
    spool->options.path = (struct tf_text){0}; /* texts belong to the caller */
    spool->options.keys = (struct tf_texts){0};
    spool->options.auditor = (struct tf_text){0};
    (void)uv_timer_init(loop, &spool->wake_timer);
    (void)uv_timer_init(loop, &spool->tick_timer);
    spool->wake_timer.data = spool->tick_timer.data = spool;
    spool->open_handles = 2;
    (void)uv_timer_start(&spool->tick_timer, on_tick, TICK_MS, TICK_MS);
    spool->free_bytes = tf_free_bytes(spool->dir_fd);
    spool->cache_floor = spool->mark.seq;
    spool->had_room = true;
    tf_room_changed(spool);
    tf_seal_opened(spool);
    tf_slots_opened(spool);
    tell_open(spool, began_ns);
    *out = spool;
    return 0;
}

/* ---- prepare -------------------------------------------------------------------------------- */

static void add_needs(const struct tf_spool_options *options, struct tf_needs *needs)
{
    char key[4096];

    tf_needs_path(needs, TF_NEED_WRITE, options->path.text);
    for (size_t i = 0; i < options->keys.count; i++) {
        tf_needs_path(needs, TF_NEED_READ, options->keys.items[i].text);
    }
    if (options->keys.count == 0 && tf_key_beside_path(options->path.text, key, sizeof key) == 0) {
        tf_needs_path(needs, TF_NEED_READ, key);
    }
    if (options->auditor.text != NULL) {
        tf_needs_path(needs, TF_NEED_READ, options->auditor.text);
    }
}

int tf_spool_prepare(const struct tf_spool_options *options, bool is_reload, struct tf_needs *needs,
                     struct tf_error *err)
{
    struct tf_keyring *ring = tf_secure_new(sizeof *ring);
    int dir_fd = -1, lock_fd = -1, rc = ring != NULL ? check_options(options, err) : -ENOMEM;

    if (rc == 0 && is_reload) { /* before the other main leaves, not behind */
        rc = tf_spool_check(options, err);
    }
    if (rc == 0) {
        rc = open_dir(options, true, &dir_fd, err);
    }
    if (rc == 0) {
        rc = is_reload ? try_lock(dir_fd, options, &lock_fd, err)
                       : take_lock(dir_fd, options, &lock_fd, err);
        rc = is_reload && rc == -EBUSY ? 0 : rc;
    }
    if (rc == 0) {
        rc = load_ring(options, !has_segments(dir_fd), ring, err);
    }
    if (lock_fd >= 0) {
        (void)close(lock_fd);
    }
    if (dir_fd >= 0) {
        (void)close(dir_fd);
    }
    tf_keyring_free(ring);
    add_needs(options, needs);
    return rc;
}

/* ---- check ---------------------------------------------------------------------------------- */

/* Segments that wait for one key. */
struct missing_key {
    uint8_t id[TF_KEY_ID_BYTES];
    uint64_t segments, newest_no;
};

/* Counts a segment under its key; of more than MISSING_KEYS_MAX keys the rest is not told. */
static void add_missing(struct missing_key missing[MISSING_KEYS_MAX], const struct tf_listed *file)
{
    size_t i = 0;

    while (i < MISSING_KEYS_MAX && missing[i].segments > 0 &&
           memcmp(missing[i].id, file->slots.unknown_id, TF_KEY_ID_BYTES) != 0) {
        i++;
    }
    if (i < MISSING_KEYS_MAX) {
        memcpy(missing[i].id, file->slots.unknown_id, TF_KEY_ID_BYTES);
        missing[i].segments++;
        missing[i].newest_no = file->no;
    }
}

static void tell_missing(const struct tf_spool_options *options, const struct missing_key *missing,
                         struct tf_error *err)
{
    char id[2 * TF_KEY_ID_BYTES + 1] = "";

    for (size_t i = 0; i < TF_KEY_ID_BYTES; i++) {
        (void)snprintf(id + 2 * i, 3, "%02x", missing->id[i]);
    }
    tf_warning_add(err, &options->path.at,
                   "no key of spool.keys opens %llu segment%s up to %llu, written for the key with "
                   "id %s; what is in them waits, add that key",
                   (unsigned long long)missing->segments, missing->segments == 1 ? "" : "s",
                   (unsigned long long)missing->newest_no, id);
}

/* The newest segment that is sound must open, for a start to go on; what is in older ones waits.
 * Damage is for a start to judge. */
static int judge_keys(const struct tf_listing *listing, const struct tf_spool_options *options,
                      struct tf_error *err)
{
    struct missing_key missing[MISSING_KEYS_MAX] = {0};
    const struct tf_listed *newest = NULL;

    for (size_t i = 0; i < listing->count; i++) {
        const struct tf_listed *file = &listing->files[i];

        newest = file->sound ? file : newest;
        if (file->sound && file->slots.kek == TF_KEK_UNKNOWN) {
            add_missing(missing, file);
        }
    }
    for (size_t i = 0; i < MISSING_KEYS_MAX && missing[i].segments > 0; i++) {
        tell_missing(options, &missing[i], err);
    }
    if (newest != NULL && (newest->slots.kek == TF_KEK_UNKNOWN ||
                           (newest->slots.kek == TF_KEK_NONE && newest->slots.has_recipient))) {
        return tf_error_add(err, &options->path.at,
                            "no key of spool.keys opens segment %llu, the newest; add the key that "
                            "it was written with",
                            (unsigned long long)newest->no);
    }
    return 0;
}

static int check_segment_keys(int dir_fd, const struct tf_spool_options *options,
                              const struct tf_keyring *ring, struct tf_error *err)
{
    uint8_t id[TF_SPOOL_ID_BYTES];
    struct tf_listing listing;
    int rc = list_headers(dir_fd, ring, &listing);

    rc = rc == 0 ? tf_listing_keep_own(&listing, read_id(dir_fd, id) == 0 ? id : NULL) : rc;
    rc = rc == 0 ? judge_keys(&listing, options, err)
                 : disk_error(err, options, rc, "cannot be read");
    tf_listing_fini(&listing);
    return rc;
}

/* The folder that the spool's own is in; path is absolute. The caller's, NULL: no memory. */
static char *folder_above(const char *path)
{
    const char *slash = strrchr(path, '/');

    return strndup(path, slash > path ? (size_t)(slash - path) : 1);
}

/* Only the spool's own folder is made by a start. */
static void check_above(const struct tf_spool_options *options, struct tf_error *err)
{
    char *above = folder_above(options->path.text);
    struct stat st;

    if (above != NULL && stat(above, &st) < 0 && errno == ENOENT) {
        tf_warning_add(err, &options->path.at,
                       "spool \"%s\": the folder \"%s\" is not there; make it before the start",
                       options->path.text, above);
    }
    free(above);
}

int tf_spool_check(const struct tf_spool_options *options, struct tf_error *err)
{
    struct tf_keyring *ring = tf_secure_new(sizeof *ring);
    bool made;
    int dir_fd = -1;
    int rc = ring == NULL ? -ENOMEM : check_options(options, err), keys_rc;

    if (rc == 0) {
        rc = open_dir(options, false, &dir_fd, err);
        if (rc == -ENOENT) { /* the first start makes it */
            check_above(options, err);
            rc = 0;
        }
    }
    if (rc == 0) {
        keys_rc = tf_keys_load(options, false, ring, &made, err);
        if (keys_rc == -ENOENT && dir_fd >= 0 && has_segments(dir_fd)) {
            rc = tf_error_add(err, &options->path.at,
                              "the key \"%s.key\" is missing, without it "
                              "the spool cannot be read; put it back",
                              options->path.text);
        } else {
            rc = keys_rc == -ENOENT ? 0 : keys_rc;
        }
        if (tf_auditor_load(options, ring, err) < 0) {
            rc = -EINVAL;
        }
        if (keys_rc == 0 && dir_fd >= 0 && check_segment_keys(dir_fd, options, ring, err) < 0) {
            rc = -EINVAL;
        }
        if (tf_seal_check(dir_fd, options, err) < 0) {
            rc = -EINVAL;
        }
        tf_spool_weaknesses(options, err);
    }
    if (dir_fd >= 0) {
        (void)close(dir_fd);
    }
    tf_keyring_free(ring);
    return rc;
}

uint64_t tf_spool_free_bytes(const struct tf_spool_options *options)
{
    char *above = folder_above(options->path.text);
    int dir_fd = open(options->path.text, O_PATH | O_DIRECTORY | O_CLOEXEC);
    uint64_t bytes = UINT64_MAX;

    if (dir_fd < 0 && above != NULL) {
        dir_fd = open(above, O_PATH | O_DIRECTORY | O_CLOEXEC);
    }
    if (dir_fd >= 0) {
        bytes = tf_free_bytes(dir_fd);
        (void)close(dir_fd);
    }
    free(above);
    return bytes;
}

bool tf_spool_would_seal(const struct tf_spool_options *options)
{
    int dir_fd = open(options->path.text, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct tf_error err;
    bool would;

    tf_error_init(&err); /* tf_spool_check has told them */
    would = tf_seal_check(dir_fd, options, &err) == 1;
    tf_error_fini(&err);
    if (dir_fd >= 0) {
        (void)close(dir_fd);
    }
    return would;
}

/* ---- the first key of the seal --------------------------------------------------------------- */

/* May a first key be made: there is none, or renew asks for a new series. */
static int check_begin(const struct tf_spool_options *options, const struct tf_spool *spool,
                       const struct headers *headers, bool renew, struct tf_error *err)
{
    struct tf_seal_key *key = tf_secure_new(sizeof *key);
    bool was_on = (headers->newest.flags & TF_SEGMENT_SEALING) != 0;
    uint32_t slot;
    int rc = key == NULL ? -ENOMEM : tf_seal_state_read(spool->dir_fd, key, &slot);

    tf_secure_free(key, sizeof *key);
    if (rc < 0 && rc != -ENOENT && rc != -EPROTO) {
        return disk_error(err, options, rc, "seal.state cannot be read");
    }
    if (renew || (rc == -ENOENT && !was_on)) {
        return 0;
    }
    return tf_error_add(err, &options->path.at,
                        rc == 0 ? "spool \"%s\" is sealed already, and its first key is not "
                                  "overwritten; --renew begins a new series, with a new key"
                                : "spool \"%s\" was sealed, and its seal.state is lost or damaged; "
                                  "--renew begins a new series, with a new key",
                        options->path.text);
}

/* By its descriptor, and only a file with one name: the folder is another user's, who may have put
 * a link there. */
static int give_file(int dir_fd, const char *name, uid_t uid, gid_t gid)
{
    struct stat st;
    int fd = openat(dir_fd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    int rc = fd < 0 || fstat(fd, &st) < 0               ? -errno
             : !S_ISREG(st.st_mode) || st.st_nlink != 1 ? -EPERM
             : fchown(fd, uid, gid) < 0                 ? -errno
                                                        : 0;

    if (fd >= 0) {
        (void)close(fd);
    }
    return rc;
}

/* Made by root for an agent that is not: the directory's owner is to own what is in it. */
static void give_away(int dir_fd)
{
    static const char *const names[] = {"LOCK", "spool.meta", "seal.state"};
    struct stat st;

    if (geteuid() != 0 || fstat(dir_fd, &st) < 0 || st.st_uid == 0) {
        return;
    }
    for (size_t i = 0; i < TF_COUNT(names); i++) {
        if (give_file(dir_fd, names[i], st.st_uid, st.st_gid) < 0) {
            tf_log(TF_LOG_WARN, "spool-owner", TF_DETAILS(TF_STR("file", names[i])),
                   "the file could not be given to the spool's owner; chown it");
        }
    }
}

static int write_first_key(const struct tf_seal_begin *begin, struct tf_spool *spool,
                           const struct tf_seal_key *key, struct tf_error *err)
{
    int rc = tf_seal_state_make(spool->dir_fd, key, begin->renew);

    give_away(spool->dir_fd);
    return rc < 0 ? disk_error(err, begin->options, rc, "seal.state cannot be written") : 0;
}

/* run: the first to be sealed. */
static int begin_series(const struct tf_seal_begin *begin, struct tf_spool *spool, uint64_t run,
                        struct tf_error *err)
{
    struct tf_seal_key *key = tf_secure_new(sizeof *key);
    char text[TF_SEAL_TEXT_BYTES] = "";
    int rc = key == NULL ? -ENOMEM : tf_seal_key_new(spool->id, key);

    rc = rc == 0 ? tf_seal_text(key, text) : rc;
    if (rc < 0) {
        rc = disk_error(err, begin->options, rc, "a key cannot be made");
    } else {
        rc = begin->keep(begin->ctx, text);
    }
    if (rc == 0) {
        key->sealed_seq = run << 40;
        rc = write_first_key(begin, spool, key, err);
    }
    OPENSSL_cleanse(text, sizeof text);
    tf_secure_free(key, sizeof *key);
    return rc;
}

int tf_spool_seal_begin(const struct tf_seal_begin *begin, uint64_t *first_seq,
                        struct tf_error *err)
{
    const struct tf_spool_options *options = begin->options;
    struct tf_spool spool = {
        .dir_fd = -1, .lock_fd = -1, .path = (char *)(uintptr_t)options->path.text};
    struct headers headers = {0};
    int rc = open_dir(options, true, &spool.dir_fd, err);

    if (rc == 0) {
        rc = take_lock(spool.dir_fd, options, &spool.lock_fd, err);
    }
    if (rc == 0) {
        rc = read_headers(spool.dir_fd, &headers);
        rc = rc < 0 ? rc : find_id(&spool, headers.newest.segment_no == 0);
        rc = rc < 0 ? disk_error(err, options, rc, "its files cannot be made or read")
                    : check_begin(options, &spool, &headers, begin->renew, err);
    }
    if (rc == 0) {
        *first_seq = (headers.highest_run + 1) << 40 | 1;
        rc = begin_series(begin, &spool, headers.highest_run + 1, err);
    }
    if (spool.lock_fd >= 0) {
        (void)close(spool.lock_fd);
    }
    if (spool.dir_fd >= 0) {
        (void)close(spool.dir_fd);
    }
    return rc;
}

/* ---- close ---------------------------------------------------------------------------------- */

static void on_handle_closed(uv_handle_t *handle)
{
    struct tf_spool *spool = handle->data;
    void (*on_closed)(void *ctx) = spool->on_closed;
    void *ctx = spool->closed_ctx;

    assert(spool->open_handles > 0);
    if (--spool->open_handles == 0) {
        spool_free(spool);
        on_closed(ctx);
    }
}

void tf_spool_advance_close(struct tf_spool *spool)
{
    if (!spool->closing || spool->closed || spool->releasing || spool->io_running ||
        spool->encoding > 0 || spool->creating || spool->saving || spool->retaining ||
        spool->slots_running || spool->sealing->moving || spool->feed_jobs > 0) {
        return;
    }
    if (spool->first != NULL) {
        tf_writer_cancel(spool); /* no job runs, and yet they wait: there is no segment for them */
    }
    tf_writer_finish(spool);
    if (spool->io_running) {
        return;
    }
    if (!spool->close_saved) {
        spool->close_saved = true;
        if (tf_cursors_dirty(spool)) {
            tf_cursors_save(spool);
            if (spool->saving) {
                return;
            }
        }
    }
    spool->closed = true;
    uv_close((uv_handle_t *)&spool->wake_timer, on_handle_closed);
    uv_close((uv_handle_t *)&spool->tick_timer, on_handle_closed);
}

void tf_spool_close(struct tf_spool *spool, void (*on_closed)(void *ctx), void *ctx)
{
    assert(!spool->closing);
    assert(spool->feeds == NULL);
    spool->closing = true;
    spool->on_closed = on_closed;
    spool->closed_ctx = ctx;
    (void)uv_timer_stop(&spool->wake_timer);
    (void)uv_timer_stop(&spool->tick_timer);
    tf_spool_sync(spool);
    tf_spool_advance_close(spool);
}

/* ---- status --------------------------------------------------------------------------------- */

const uint8_t *tf_spool_id(const struct tf_spool *spool)
{
    return spool->id;
}

const char *tf_spool_path(const struct tf_spool *spool)
{
    return spool->path;
}

void tf_disk_failed(struct tf_spool *spool, enum tf_disk_error what, int error)
{
    spool->status.error = error;
    spool->status.errors[what]++;
}

void tf_spool_status(const struct tf_spool *spool, struct tf_spool_status *status)
{
    uint64_t address, events, tail = tf_spot_address(spool, &spool->mark);

    tf_feeds_lowest(spool, &address, &events);
    *status = spool->status;
    status->segments = spool->segment_count;
    status->bytes_pending = tail - address;
    status->bytes_retained = spool->segment_count == 0 ? 0 : address - spool->segments[0].base;
    status->pending_events = spool->mark.events - events;
    status->run = spool->run;
    status->max_bytes = spool->options.max_size_bytes;
    status->free_bytes = spool->free_bytes;
    if (!spool->had_room) {
        status->full_ms += uv_now(spool->loop) - spool->full_since_ms;
    }
    status->key_is_beside = spool->key_is_beside;
    status->unreadable_segments = tf_slots_unreadable(spool);
    tf_seal_status(spool, status);
}

bool tf_state_get(const struct tf_spool *spool, struct tf_slice key, struct tf_slice *value)
{
    return tf_state_find(&spool->state, key, value);
}

size_t tf_state_list(const struct tf_spool *spool, struct tf_slice key,
                     struct tf_slice values[TF_STATE_LIST_MAX])
{
    return tf_state_find_list(&spool->state, key, values);
}

void tf_state_each(const struct tf_spool *spool, struct tf_slice prefix, tf_state_fn *fn, void *ctx)
{
    tf_state_walk(&spool->state, prefix, fn, ctx);
}
