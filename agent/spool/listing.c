/*
 * listing.c - which files of a directory are segments, and which of them count.
 *
 * Shared by a start (recover.c) and by readers (archive.c), so that both accept the same frames.
 * Only names and headers are read. Where a lineage begins, the segments before it carry the
 * spool id that its header names.
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
int tf_listed_read(int dir_fd, const uint8_t *spool_id, const struct tf_keyring *ring,
                   struct tf_listed *file)
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
    rc = tf_read_at(fd, head, sizeof head, 0);
    if (rc == 0) {
        rc = tf_read_at(fd, raw, sizeof raw, TF_SEGMENT_HEADER_BYTES);
    }
    (void)close(fd);
    if (rc < 0) {
        return rc == -EISDIR ? 0 : rc;
    }
    file->slots = tf_slots_look(ring, head + TF_SECTOR_BYTES);
    if (tf_sector0_decode(head, &file->sector) == 0) {
        file->run = TF_SEQ_RUN(file->sector.first_seq);
        file->sound =
            file->sector.segment_no == file->no &&
            (spool_id == NULL || memcmp(file->sector.spool_id, spool_id, TF_SPOOL_ID_BYTES) == 0);
    } else if (tf_frame_header_decode(raw, &header) == 0) {
        file->run = TF_SEQ_RUN(header.seq);
    }
    return 0;
}

size_t tf_listing_choose(const struct tf_listing *listing, size_t newest, size_t *chosen)
{
    const struct tf_sector0 *next = &listing->files[newest].sector;
    size_t count = 0;

    for (size_t i = newest + 1; i-- > 0;) {
        const struct tf_listed *file = &listing->files[i];
        const uint8_t *id =
            (next->flags & TF_SEGMENT_NEW_LINEAGE) != 0 ? next->prev_spool_id : next->spool_id;

        if (i == newest || (file->sound && file->sector.first_seq <= next->prev_last_seq &&
                            memcmp(file->sector.spool_id, id, TF_SPOOL_ID_BYTES) == 0)) {
            chosen[count++] = i;
            next = &file->sector;
        }
    }
    return count;
}
