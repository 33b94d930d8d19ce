/*
 * files.c - which segments there are, and which of them count.
 *
 * The rules are those of a start (docs/spool-format.md, "What counts"): the newest segment with a
 * sound header and snapshot; before it, each that begins at or below the number on which its
 * successor builds. What they leave out came to nothing, and is void. Unlike a start this says what
 * no start leaves behind: a segment of another spool, one under another number, one whose header
 * does not hold though frames that only a sound one gets stand behind it.
 *
 * A spool's id changes with a new lineage: sector 0 that begins one names the id before it, so the
 * ids are followed from the newest segment back.
 *
 * Kept for each file: some 150 bytes, for at most as many files as ../spool/listing.c lists.
 */
#include "verify.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- listing -------------------------------------------------------------------------------- */

/* Takes the numbers of a listing. */
static int list_files(struct tf_verify_files *files)
{
    struct tf_listing listing;
    int rc = tf_listing_read(files->dir_fd, &listing);

    if (rc == 0) {
        files->items = calloc(listing.count + 1, sizeof *files->items);
        rc = files->items == NULL ? -ENOMEM : 0;
    }
    for (size_t i = 0; rc == 0 && i < listing.count; i++) {
        files->items[files->count++] =
            (struct tf_verify_file){.no = listing.files[i].no, .state = TF_FILE_UNSOUND};
        files->newest_no = listing.files[i].no;
    }
    tf_listing_fini(&listing);
    return rc;
}

int tf_verify_files_grew(const struct tf_verify_files *files)
{
    struct tf_listing listing;
    int rc = files->single[0] == '\0' ? tf_listing_read(files->dir_fd, &listing) : 0;

    if (files->single[0] == '\0') {
        rc = rc < 0 ? rc
                    : listing.count > 0 && listing.files[listing.count - 1].no > files->newest_no;
        tf_listing_fini(&listing);
    }
    return rc;
}

int tf_verify_file_open(const struct tf_verify_files *files, const struct tf_verify_file *file)
{
    const int flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
    char name[TF_SEGMENT_NAME_BYTES];
    int fd;

    tf_segment_name(file->no, name);
    fd = files->single[0] != '\0' ? openat(files->dir_fd, files->single, flags)
                                  : openat(files->dir_fd, name, flags | O_NOFOLLOW);
    return fd < 0 ? -errno : fd;
}

/* Fills file from its sector 0. 0, -ENOENT when it is gone meanwhile, or -errno. */
static int read_sector(struct tf_verify *verify, struct tf_verify_file *file)
{
    struct tf_sector0 sector = {0};
    uint8_t raw[TF_SECTOR_BYTES];
    struct stat st;
    int fd = tf_verify_file_open(&verify->files, file);
    int rc = fd < 0 ? fd : fstat(fd, &st) < 0 ? -errno : 0;

    if (rc == 0 && S_ISREG(st.st_mode)) {
        file->size = (uint64_t)st.st_size;
        rc = tf_read_at(fd, raw, sizeof raw, 0);
        if (rc == 0 && tf_sector0_decode(raw, &sector) == 0) {
            file->state = TF_FILE_SOUND;
        }
        file->is_crc_sound =
            rc == 0 && memcmp(raw, "TFSEG", 5) == 0 &&
            tf_load32(raw + TF_SECTOR_BYTES - 4) == tf_crc32c(0, raw, TF_SECTOR_BYTES - 4);
    }
    if (fd >= 0) {
        (void)close(fd);
    }
    if (rc < 0) {
        return rc == -ELOOP ? 0 : rc; /* a planted link is no segment */
    }
    if (file->state != TF_FILE_SOUND) {
        return 0;
    }
    if (verify->files.single[0] != '\0') {
        file->no = sector.segment_no;
    }
    file->state = sector.segment_no == file->no ? TF_FILE_SOUND : TF_FILE_RENAMED;
    file->first_seq = sector.first_seq;
    file->prev_last_seq = sector.prev_last_seq;
    file->prev_end = sector.prev_end;
    file->is_new_lineage = (sector.flags & TF_SEGMENT_NEW_LINEAGE) != 0;
    memcpy(file->id, sector.segment_id, 16);
    memcpy(file->prev_id, sector.prev_segment_id, 16);
    memcpy(file->spool_id, sector.spool_id, TF_SPOOL_ID_BYTES);
    memcpy(file->prev_spool_id, sector.prev_spool_id, TF_SPOOL_ID_BYTES);
    return 0;
}

static int read_sectors(struct tf_verify *verify)
{
    struct tf_verify_files *files = &verify->files;
    size_t kept = 0;

    for (size_t i = 0; i < files->count; i++) {
        struct tf_verify_file file = files->items[i];
        int rc = read_sector(verify, &file);

        if (rc < 0 && rc != -ENOENT) {
            return rc;
        }
        if (rc == 0) { /* what is gone already had expired when we came */
            files->items[kept++] = file;
            verify->progress->total_bytes += file.size;
        }
    }
    files->count = kept;
    return 0;
}

/* ---- choosing ------------------------------------------------------------------------------- */

/* What stands in a segment without looking at its sector 0: a whole snapshot, other frames. */
struct glance {
    bool has_snapshot, has_others;
};

static int look_into(struct tf_verify *verify, const struct tf_verify_file *file,
                     struct glance *out)
{
    struct tf_walk walk;
    struct tf_walked frame;
    uint64_t offset = TF_SEGMENT_HEADER_BYTES;
    int fd = tf_verify_file_open(&verify->files, file);
    int rc;

    *out = (struct glance){0};
    if (fd < 0) {
        return fd == -ENOENT || fd == -ELOOP ? 0 : fd;
    }
    rc = tf_walk_open_raw(&walk, fd);
    while (rc == 0 && (rc = tf_walk_search(&walk, &offset, UINT64_MAX, 0, &frame)) == 1) {
        bool is_snapshot = (frame.header.flags & TF_FRAME_SNAPSHOT) != 0;

        out->has_others |= !is_snapshot;
        out->has_snapshot |= is_snapshot && (frame.header.flags & TF_FRAME_MORE) == 0;
        offset += frame.bytes;
        rc = 0;
        if (out->has_others || (out->has_snapshot && file->state == TF_FILE_SOUND)) {
            break;
        }
    }
    tf_walk_close(&walk);
    return rc == -EPROTO ? 0 : rc;
}

/*
 * The newest that counts, or count. A header whose snapshot is not whole is void, unless frames
 * stand behind it that are written only when both are synced.
 */
static int find_newest(struct tf_verify *verify, size_t *newest)
{
    struct tf_verify_files *files = &verify->files;

    *newest = files->count;
    for (size_t i = files->count; i-- > 0;) {
        const struct tf_verify_file *file = &files->items[i];
        struct tf_verify_place at = {.segment_no = file->no};
        struct glance glance;
        int rc;

        if (file->state == TF_FILE_FOREIGN || file->state == TF_FILE_RENAMED) {
            continue; /* told elsewhere */
        }
        rc = look_into(verify, file, &glance);
        if (rc < 0) {
            return rc;
        }
        if (file->state == TF_FILE_SOUND && (glance.has_snapshot || glance.has_others)) {
            *newest = i;
            return 0;
        }
        if (glance.has_others) {
            verify->is_end_unread = true;
            tf_verify_tell(verify, file->is_crc_sound ? TF_VERDICT_FORGED : TF_VERDICT_DAMAGED,
                           "header", &at,
                           "its header does not hold; frames behind it are not judged");
        } else {
            verify->report->void_segments++;
        }
    }
    return 0;
}

int tf_verify_cannot_read(const struct tf_verify *verify, const char *name, int rc,
                          struct tf_error *err)
{
    char reason[64];

    (void)tf_error_add(err, NULL, "\"%s/%s\": cannot be read: %s", verify->options->path, name,
                       uv_strerror_r(rc, reason, sizeof reason));
    return rc;
}

/* Reads spool.meta; tells when there is none, or it does not hold. One that cannot be opened is
 * neither. 0, or -errno with a finding in err. */
static int read_meta(struct tf_verify *verify, struct tf_error *err)
{
    uint8_t raw[TF_SPOOL_META_BYTES + 1];
    int fd = openat(verify->files.dir_fd, "spool.meta",
                    O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    int rc = fd < 0 ? -errno : 0;
    ssize_t size = fd < 0 ? -1 : pread(fd, raw, sizeof raw, 0);

    if (fd >= 0) {
        (void)close(fd);
    }
    if (rc < 0 && rc != -ENOENT && rc != -ELOOP && rc != -ENXIO) {
        return tf_verify_cannot_read(verify, "spool.meta", rc, err);
    }
    verify->files.has_meta =
        size == TF_SPOOL_META_BYTES && tf_spool_meta_decode(raw, verify->files.meta_id) == 0;
    if (!verify->files.has_meta) {
        tf_verify_tell(verify, TF_VERDICT_DAMAGED, "meta", NULL, "spool.meta %s",
                       rc == -ENOENT ? "is not there" : "does not hold");
    }
    return 0;
}

static const struct tf_verify_file *newest_sound(const struct tf_verify_files *files)
{
    for (size_t i = files->count; i-- > 0;) {
        if (files->items[i].state == TF_FILE_SOUND) {
            return &files->items[i];
        }
    }
    return NULL;
}

static bool has_spool(const struct tf_verify_files *files, const uint8_t id[TF_SPOOL_ID_BYTES])
{
    for (size_t i = 0; i < files->count; i++) {
        if (files->items[i].state == TF_FILE_SOUND &&
            memcmp(files->items[i].spool_id, id, TF_SPOOL_ID_BYTES) == 0) {
            return true;
        }
    }
    return false;
}

static bool is_same(const uint8_t a[TF_SPOOL_ID_BYTES], const uint8_t b[TF_SPOOL_ID_BYTES])
{
    return memcmp(a, b, TF_SPOOL_ID_BYTES) == 0;
}

/*
 * spool.meta is replaced after the first segment of a new lineage was synced, so it may be one
 * behind: a crash came between, or it was read first.
 */
static void follow_lineage(const struct tf_verify_files *files, const struct tf_verify_file *newest,
                           uint8_t id[TF_SPOOL_ID_BYTES])
{
    for (size_t i = 0; i < files->count && newest != NULL; i++) {
        const struct tf_verify_file *file = &files->items[i];

        if (file->state == TF_FILE_SOUND && file->is_new_lineage &&
            is_same(file->prev_spool_id, id) && is_same(file->spool_id, newest->spool_id)) {
            memcpy(id, newest->spool_id, TF_SPOOL_ID_BYTES);
            return;
        }
    }
}

/* Tells the segments of other spools and numbers, which then do not count. The first segment of a
 * lineage that came to nothing (a crash before it was durable) is none of them: the lineage before
 * went on behind it. */
static void find_strangers(struct tf_verify *verify)
{
    struct tf_verify_files *files = &verify->files;
    const struct tf_verify_file *newest = newest_sound(files);
    uint8_t id[TF_SPOOL_ID_BYTES];

    memcpy(id, files->meta_id, sizeof id);
    if (newest != NULL && (!files->has_meta || !has_spool(files, id))) {
        if (files->has_meta) {
            tf_verify_tell(verify, TF_VERDICT_FORGED, "meta-spool", NULL,
                           "spool.meta is of another spool than every segment");
        }
        memcpy(id, newest->spool_id, sizeof id);
    }
    follow_lineage(files, newest, id);
    memcpy(verify->report->spool_id, id, sizeof id);
    for (size_t i = files->count; i-- > 0;) {
        struct tf_verify_file *file = &files->items[i];
        struct tf_verify_place at = {.segment_no = file->no};

        if (file->state == TF_FILE_RENAMED) {
            tf_verify_tell(verify, TF_VERDICT_FORGED, "segment-name", &at,
                           "its header has another segment's number: doubled or renamed");
        } else if (file->state == TF_FILE_SOUND && !is_same(file->spool_id, id) &&
                   !(file->is_new_lineage && is_same(file->prev_spool_id, id))) {
            file->state = TF_FILE_FOREIGN;
            tf_verify_tell(verify, TF_VERDICT_FORGED, "segment-foreign", &at,
                           "it is of another spool");
        } else if (file->state == TF_FILE_SOUND && file->is_new_lineage &&
                   is_same(file->spool_id, id)) {
            memcpy(id, file->prev_spool_id, sizeof id);
        }
    }
}

static int choose(struct tf_verify *verify)
{
    struct tf_verify_files *files = &verify->files;
    size_t newest;
    int rc = find_newest(verify, &newest);
    uint64_t below = UINT64_MAX;

    if (rc < 0 || newest == files->count) {
        return rc;
    }
    for (size_t i = newest + 1; i-- > 0;) {
        struct tf_verify_file *file = &files->items[i];

        if (file->state != TF_FILE_SOUND) {
            continue;
        }
        file->is_chosen = file->first_seq <= below;
        if (file->is_chosen) {
            below = file->prev_last_seq;
        } else {
            verify->report->void_segments++;
        }
    }
    return 0;
}

/* ---- the room's --------------------------------------------------------------------------------
 */

/* A path to one file: its folder is opened, its name kept. */
static int open_single(struct tf_verify_files *files, const char *path)
{
    const char *slash = strrchr(path, '/');
    const char *name = slash == NULL ? path : slash + 1;
    char *folder = slash == NULL ? strdup(".") : strndup(path, (size_t)(slash - path) + 1);

    if (folder == NULL) {
        return -ENOMEM;
    }
    if (strlen(name) >= sizeof files->single) {
        free(folder);
        return -ENAMETOOLONG;
    }
    memcpy(files->single, name, strlen(name) + 1);
    files->dir_fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    free(folder);
    if (files->dir_fd < 0) {
        return -errno;
    }
    files->items = calloc(1, sizeof *files->items);
    if (files->items == NULL) {
        return -ENOMEM;
    }
    files->items[files->count++] = (struct tf_verify_file){.no = 1, .state = TF_FILE_UNSOUND};
    return 0;
}

static int cannot_read(const struct tf_verify *verify, int rc, struct tf_error *err)
{
    char reason[64];

    (void)tf_error_add(err, NULL, "\"%s\": %s", verify->options->path,
                       uv_strerror_r(rc, reason, sizeof reason));
    return rc;
}

int tf_verify_files_open(struct tf_verify *verify, struct tf_error *err)
{
    struct tf_verify_files *files = &verify->files;
    const char *path = verify->options->path;
    int rc = 0;

    files->dir_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (files->dir_fd >= 0) {
        return read_meta(verify, err);
    }
    rc = errno == ENOTDIR ? open_single(files, path) : -errno;
    verify->report->is_segment = rc == 0;
    return rc < 0 ? cannot_read(verify, rc, err) : 0;
}

int tf_verify_files_list(struct tf_verify *verify, struct tf_error *err)
{
    struct tf_verify_files *files = &verify->files;
    int rc = files->single[0] == '\0' ? list_files(files) : 0;

    if (rc == 0) {
        rc = read_sectors(verify);
    }
    if (rc == 0 && files->single[0] == '\0') {
        find_strangers(verify);
        rc = choose(verify);
    } else if (rc == 0 && files->count > 0) {
        files->items[0].is_chosen = files->items[0].state == TF_FILE_SOUND;
        if (!files->items[0].is_chosen) {
            tf_verify_tell(verify, TF_VERDICT_DAMAGED, "header", NULL,
                           "its header does not hold, or it is no segment");
        }
        memcpy(verify->report->spool_id, files->items[0].spool_id, TF_SPOOL_ID_BYTES);
    }
    return rc < 0 ? cannot_read(verify, rc, err) : 0;
}

bool tf_verify_is_own_spool(const struct tf_verify *verify, const uint8_t id[TF_SPOOL_ID_BYTES])
{
    if (memcmp(id, verify->report->spool_id, TF_SPOOL_ID_BYTES) == 0) {
        return true;
    }
    for (size_t i = 0; i < verify->files.count; i++) {
        const struct tf_verify_file *file = &verify->files.items[i];

        if (file->is_chosen &&
            (memcmp(file->spool_id, id, TF_SPOOL_ID_BYTES) == 0 ||
             (file->is_new_lineage && memcmp(file->prev_spool_id, id, TF_SPOOL_ID_BYTES) == 0))) {
            return true;
        }
    }
    return false;
}

void tf_verify_files_close(struct tf_verify_files *files)
{
    if (files->dir_fd >= 0) {
        (void)close(files->dir_fd);
    }
    free(files->items);
    *files = (struct tf_verify_files){.dir_fd = -1};
}
