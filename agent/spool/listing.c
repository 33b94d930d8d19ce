/*
 * listing.c - which files of a directory are segments, and which of them count.
 *
 * Shared by a start (recover.c) and by readers (archive.c), so that both accept the same frames.
 * Only names and headers are read.
 */
#include "internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#define FILES_MAX (1u << 20)

/* "%020u.seg" to its number; false for other names. */
static bool parse_name(const char *name, uint64_t *no)
{
    uint64_t value = 0;

    if (strlen(name) != TF_SEGMENT_NAME_BYTES - 1 || strcmp(name + 20, ".seg") != 0) {
        return false;
    }
    for (size_t i = 0; i < 20; i++) {
        if (name[i] < '0' || name[i] > '9' || value > (UINT64_MAX - 9) / 10) {
            return false;
        }
        value = value * 10 + (uint64_t)(name[i] - '0');
    }
    *no = value;
    return value > 0 && value < UINT64_MAX;
}

static int add_file(struct tf_listing *listing, uint64_t no)
{
    if (listing->count == listing->capacity) {
        size_t capacity = listing->capacity == 0 ? 64 : listing->capacity * 2;
        struct tf_listed *files =
            capacity > FILES_MAX ? NULL : realloc(listing->files, capacity * sizeof *files);

        if (files == NULL) {
            return -ENOMEM;
        }
        listing->files = files;
        listing->capacity = capacity;
    }
    listing->files[listing->count++] = (struct tf_listed){.no = no};
    return 0;
}

static int by_number(const void *a, const void *b)
{
    const struct tf_listed *x = a, *y = b;

    return (x->no > y->no) - (x->no < y->no);
}

int tf_listing_read(int dir_fd, struct tf_listing *out)
{
    int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    const struct dirent *entry;
    uint64_t no;
    int rc = 0;

    *out = (struct tf_listing){0};
    if (dir == NULL) {
        rc = -errno;
        if (fd >= 0) {
            (void)close(fd);
        }
        return rc;
    }
    while (rc == 0 && (errno = 0, entry = readdir(dir)) != NULL) {
        if (parse_name(entry->d_name, &no)) {
            rc = add_file(out, no);
        }
    }
    rc = rc == 0 && errno != 0 ? -errno : rc;
    (void)closedir(dir);
    if (out->count > 0) {
        qsort(out->files, out->count, sizeof out->files[0], by_number);
    }
    return rc;
}

void tf_listing_fini(struct tf_listing *listing)
{
    free(listing->files);
    *listing = (struct tf_listing){0};
}

/* The run of a frame counts where sector 0 rots. */
int tf_listed_read(int dir_fd, const struct tf_keyring *ring, struct tf_listed *file)
{
    char name[TF_SEGMENT_NAME_BYTES];
    uint8_t head[TF_SEGMENT_HEADER_BYTES], raw[TF_FRAME_HEADER_BYTES];
    struct tf_frame_header header;
    int fd, rc;

    tf_segment_name(file->no, name);
    fd = openat(dir_fd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        return errno == ELOOP ? 0 : -errno; /* a planted link is no segment */
    }
    rc = tf_read_around(fd, head, sizeof head, 0, &file->has_bad);
    if (rc == 0) {
        rc = tf_read_around(fd, raw, sizeof raw, TF_SEGMENT_HEADER_BYTES, &file->has_bad);
    }
    (void)close(fd);
    if (rc < 0) {
        return rc == -EISDIR ? 0 : rc;
    }
    if (ring != NULL) {
        file->slots = tf_slots_look(ring, head + TF_SECTOR_BYTES);
    }
    if (tf_sector0_decode(head, &file->sector) == 0) {
        file->run = TF_SEQ_RUN(file->sector.first_seq);
        file->sound = file->sector.segment_no == file->no;
    } else if (tf_frame_header_decode(raw, &header) == 0) {
        file->run = TF_SEQ_RUN(header.seq);
    }
    return 0;
}

/* ---- lineages -------------------------------------------------------------------------------- */

struct lineages {
    struct tf_listing *listing;
    uint8_t (*ids)[TF_SPOOL_ID_BYTES];
    size_t count, hit;
};

static bool is_known(struct lineages *lineages, const uint8_t id[TF_SPOOL_ID_BYTES])
{
    for (size_t i = 0; i < lineages->count; i++) {
        size_t at = (lineages->hit + i) % lineages->count; /* neighbours share theirs */

        if (memcmp(lineages->ids[at], id, TF_SPOOL_ID_BYTES) == 0) {
            lineages->hit = at;
            return true;
        }
    }
    return false;
}

static int add_id(struct lineages *lineages, const uint8_t id[TF_SPOOL_ID_BYTES])
{
    uint8_t(*ids)[TF_SPOOL_ID_BYTES] =
        is_known(lineages, id)
            ? NULL
            : realloc(lineages->ids, (lineages->count + 1) * sizeof *lineages->ids);

    if (ids != NULL) {
        memcpy(ids[lineages->count++], id, TF_SPOOL_ID_BYTES);
        lineages->ids = ids;
    }
    return ids == NULL && !is_known(lineages, id) ? -ENOMEM : 0;
}

/* The header that begins a lineage links its id with the one before. */
static int link_file(struct lineages *lineages, const struct tf_listed *file)
{
    const struct tf_sector0 *sector = &file->sector;
    int rc = 0;

    if (!file->sound || (sector->flags & TF_SEGMENT_NEW_LINEAGE) == 0) {
        return 0;
    }
    if (is_known(lineages, sector->prev_spool_id)) {
        rc = add_id(lineages, sector->spool_id);
    } else if (is_known(lineages, sector->spool_id)) {
        rc = add_id(lineages, sector->prev_spool_id);
    }
    return rc;
}

/* Each header comes before the ones that it links, so one look in each direction finds all. */
static int link_files(struct lineages *lineages)
{
    int rc = 0;

    for (size_t i = 0; i < lineages->listing->count && rc == 0; i++) {
        rc = link_file(lineages, &lineages->listing->files[i]);
    }
    for (size_t i = lineages->listing->count; i-- > 0 && rc == 0;) {
        rc = link_file(lineages, &lineages->listing->files[i]);
    }
    return rc;
}

/* The newest sound header; NULL: none. With known_only of a lineage of this spool. */
static const struct tf_listed *newest_sound(struct lineages *lineages, bool known_only)
{
    for (size_t i = lineages->listing->count; i-- > 0;) {
        const struct tf_listed *file = &lineages->listing->files[i];

        if (file->sound && (!known_only || is_known(lineages, file->sector.spool_id))) {
            return file;
        }
    }
    return NULL;
}

/*
 * Headers of other spools are void. spool.meta has the newest lineage's id, or the one before it
 * when a crash came between its first segment and spool.meta; the others are linked by headers.
 * When none is left (the one header of the newest lineage is damaged), the newest one decides, as
 * when spool.meta is lost.
 */
int tf_listing_keep_own(struct tf_listing *listing, const uint8_t *spool_id)
{
    struct lineages own = {.listing = listing}, *lineages = &own;
    const struct tf_listed *newest = newest_sound(lineages, false);
    int rc = spool_id == NULL ? 0 : add_id(lineages, spool_id);

    rc = rc == 0 ? link_files(lineages) : rc;
    if (rc == 0 && newest != NULL && newest_sound(lineages, true) == NULL) {
        rc = add_id(lineages, newest->sector.spool_id);
        rc = rc == 0 ? link_files(lineages) : rc;
    }
    for (size_t i = 0; i < listing->count && rc == 0; i++) {
        struct tf_listed *file = &listing->files[i];

        file->sound = file->sound && is_known(lineages, file->sector.spool_id);
    }
    free(own.ids);
    return rc;
}

/* ---- which count ---------------------------------------------------------------------------- */

size_t tf_listing_choose(const struct tf_listing *listing, size_t newest, size_t *chosen)
{
    const struct tf_sector0 *next = &listing->files[newest].sector;
    size_t count = 0;

    for (size_t i = newest + 1; i-- > 0;) {
        const struct tf_listed *file = &listing->files[i];

        if (i == newest || (file->sound && file->sector.first_seq <= next->prev_last_seq)) {
            chosen[count++] = i;
            next = &file->sector;
        }
    }
    return count;
}
