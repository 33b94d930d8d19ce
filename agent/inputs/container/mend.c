/*
 * mend.c - how a file goes on after the bytes before its position have changed, on a worker.
 *
 * In order:
 *
 *     TF_MEND_SIBLING  a copy in the same directory, compressed or not, holds the bytes before the
 *                      position: it is read on from there, then this file from its start
 *                      (`copytruncate`; lost is only what was seen and stands in neither).
 *                      One that ends before the position, since lines were read that were written
 *                      after it was made, holds nothing more to read; when that was an earlier
 *                      run, a gap tells how much of it could not be compared
 *     TF_MEND_OLDER    an older print still matches: from there (the file lost its own tail)
 *     TF_MEND_START    nothing matches: from the start
 */
#include "internal.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#define SIBLINGS_MAX 4096u /* names looked at for a copy */
#define LOOKS        2u    /* it may be renamed or compressed under one's eyes */

/* What the file's position becomes when it goes on at an older print, or (0) at its start. */
static void go_back_to(const struct tf_position *from, unsigned print, struct tf_position *out)
{
    *out = (struct tf_position){.path = from->path, .is_gzip = from->is_gzip};
    if (print == 0) {
        return;
    }
    for (unsigned i = 0; i < TF_STREAMS; i++) {
        out->done[i] = from->prints[print].offset;
        out->states[i] = from->states[i];
    }
    out->format = from->format;
    out->prints[0] = from->prints[print];
    for (unsigned i = print + 1; i < TF_PRINTS; i++) {
        out->prints[i] = from->prints[i];
    }
}

static bool is_sibling_name(const char *name, const char *base)
{
    size_t size = strlen(base);

    return strncmp(name, base, size) == 0 && (name[size] == '.' || name[size] == '-') &&
           !tf_is_compressed_name(name);
}

/* Reads on while a compressed one only inflates. 1: it holds those bytes, 0: not, -ENODATA: it ends
 * before them, or another -errno. */
static int holds(struct tf_file_io *sibling, const struct tf_print *print)
{
    struct tf_print found;
    int rc;

    do {
        rc = tf_file_print_text(sibling, print->offset, &found);
    } while (rc == -EAGAIN);
    return rc < 0 ? rc : memcmp(found.hash, print->hash, sizeof found.hash) == 0;
}

/* Of a sibling that ends before the position: the newest print that it holds, when it holds all
 * that lie within it; 0: it does not. */
static uint64_t compare_beginning(struct tf_file_io *sibling, const struct tf_position *position)
{
    const struct tf_print any = {.offset = TF_PRINT_BYTES};
    bool is_tiny = holds(sibling, &any) == -ENODATA;
    uint64_t held_to = 0;

    for (unsigned i = TF_PRINTS - 1; i > 0; i--) { /* forward, for a compressed one */
        int rc = position->prints[i].offset != 0 ? holds(sibling, &position->prints[i]) : -ENODATA;

        if (rc != 1 && rc != -ENODATA) {
            return 0;
        }
        if (rc == 1 && tf_print_tells(&position->prints[i], is_tiny ? 0 : TF_PRINT_BYTES)) {
            held_to = position->prints[i].offset;
        }
    }
    return held_to;
}

/* Where the newest print stands that it holds: the position's, or an older one in a copy that was
 * made before the last lines were read. 0: it is no copy. */
static uint64_t compare_sibling(const struct tf_file_io *io, const struct tf_opened *opened,
                                bool is_gzip)
{
    struct tf_file_io sibling = {.fd = opened->fd, .position = {.is_gzip = is_gzip}};
    uint64_t held_to = 0;
    int rc = holds(&sibling, &io->position.prints[0]);

    if (rc == 1) {
        held_to = io->position.prints[0].offset;
    } else if (rc == -ENODATA) {
        held_to = compare_beginning(&sibling, &io->position);
    }
    tf_gunzip_free(sibling.gunzip);
    return held_to;
}

/* Of two that hold as much the newer. */
static bool is_better(const struct tf_mend *mend, const struct tf_opened *opened, uint64_t held_to)
{
    return held_to > mend->held_to ||
           (held_to == mend->held_to && opened->changed_ns > mend->sibling.changed_ns);
}

/* It is not the file itself, by another name, and was born after it. */
static bool may_be_copy(const struct tf_file_id *sibling, const struct tf_file_id *file)
{
    return tf_file_id_compare(sibling, file) != 0 && sibling->born_ns >= file->born_ns;
}

/* Opens the sibling `name`; keeps it when it is the best so far. 0, or -errno: another try may find
 * it. */
static int try_sibling(struct tf_file_io *io, const struct tf_file_read *read, const char *dir,
                       const char *name)
{
    struct tf_mend *mend = io->mend;
    char path[TF_FILE_PATH_MAX];
    struct tf_opened opened;
    struct tf_print end = {0};
    bool is_gzip = tf_is_gzip_name(name), is_short;
    uint64_t held_to;
    int rc = tf_path_join(dir, name, path) ? tf_opener_file(read->opener, path, &opened) : -ENOENT;

    if (rc < 0) {
        return tf_scan_is_final(rc) ? 0 : rc;
    }
    held_to = may_be_copy(&opened.id, read->id) ? compare_sibling(io, &opened, is_gzip) : 0;
    is_short = held_to < io->position.prints[0].offset;
    if (held_to == 0 || !is_better(mend, &opened, held_to) ||
        (is_short && !is_gzip && tf_file_print(opened.fd, opened.size, &end) < 0)) {
        (void)close(opened.fd);
        return 0;
    }
    if (mend->kind != TF_MEND_NONE) {
        (void)close(mend->sibling.fd);
    }
    mend->kind = TF_MEND_SIBLING;
    mend->sibling = opened;
    mend->is_gzip = is_gzip;
    mend->is_short = is_short;
    mend->held_to = held_to;
    mend->end = end;
    return 0;
}

/* In the folder that the base lies in, or leads into. 0, also where there is none; or -errno. */
static int look_for_copy(struct tf_file_io *io, const struct tf_file_read *read)
{
    char path[TF_FILE_PATH_MAX];
    struct tf_opened seen;
    const char *name;
    DIR *dir;
    int rc = tf_opener_look(read->opener, read->base, &seen, path);

    if (rc == 0 || rc == -ENOENT) {
        rc = tf_scan_list_folder(read->opener, path, &name, &dir);
    }
    if (rc != 0) {
        return tf_scan_is_final(rc) ? 0 : rc;
    }
    for (unsigned i = 0; i < SIBLINGS_MAX && rc == 0; i++) {
        const struct dirent *entry = readdir(dir);

        if (entry == NULL) {
            break;
        }
        if (is_sibling_name(entry->d_name, name)) {
            rc = try_sibling(io, read, path, entry->d_name);
        }
    }
    (void)closedir(dir);
    return rc;
}

/* Moves the place back behind the newest newline before it, so that no half line goes out; false
 * when there is none within a block. */
static bool go_to_line_start(struct tf_file_io *io, const struct tf_file_read *read,
                             struct tf_position *position)
{
    uint64_t at = position->prints[0].offset;
    size_t size = at < TF_BLOCK_BYTES ? (size_t)at : TF_BLOCK_BYTES;
    struct tf_buf *block = tf_block_get(read->pool);
    const char *newline;
    bool found = false;

    if (block == NULL) {
        return false;
    }
    if (tf_file_read(io->fd, block->data, size, at - size) == (ssize_t)size) {
        block->size = size;
        newline = memrchr(block->data, '\n', size);
        if (newline != NULL) {
            at = at - size + (size_t)(newline - block->data) + 1;
            found = tf_file_print(io->fd, at, &position->prints[0]) == 0;
        }
    }
    tf_block_put(read->pool, block);
    for (unsigned i = 1; i < TF_PRINTS; i++) {
        if (position->prints[i].offset >= at) {
            position->prints[i] = (struct tf_print){0};
        }
    }
    for (unsigned i = 0; i < TF_STREAMS; i++) {
        position->done[i] = at;
    }
    return found;
}

/* What was seen in the file, and not read, and is not in its copy. Of a short copy that is found
 * after a start, by what an earlier run has stored, also what could not be compared. */
static uint64_t lost_bytes(const struct tf_file_io *io)
{
    const struct tf_mend *mend = io->mend;
    uint64_t from = tf_position_last(&io->position);

    if (mend->is_short && !io->is_verified) {
        return (mend->is_gzip ? from : mend->sibling.size) - mend->held_to;
    }
    if (mend->is_gzip) {
        return 0;
    }
    from = mend->sibling.size > from ? mend->sibling.size : from;
    return io->largest_size > from ? io->largest_size - from : 0;
}

/* As tf_file_compare, for a print and all that are older: alone it may match by chance, where lines
 * are much alike. 0 where there is none. */
static int compare_from(const struct tf_file_io *io, unsigned i)
{
    int same = io->position.prints[i].offset != 0;

    for (; i < TF_PRINTS && same == 1; i++) {
        if (io->position.prints[i].offset != 0) {
            same = tf_file_compare(io->fd, &io->position.prints[i]);
        }
    }
    return same;
}

int tf_file_mend(struct tf_file_io *io, const struct tf_file_read *read)
{
    int rc = 0;

    assert(io->mend == NULL);
    io->mend = calloc(1, sizeof *io->mend);
    if (io->mend == NULL) {
        return -ENOMEM;
    }
    for (unsigned i = 0; i < LOOKS && io->mend->kind == TF_MEND_NONE && !io->position.is_gzip &&
                         io->position.prints[0].offset > 0 && rc == 0;
         i++) {
        rc = look_for_copy(io, read);
    }
    if (rc < 0) {
        return rc;
    }
    if (io->mend->kind == TF_MEND_SIBLING) {
        io->mend->lost_bytes = lost_bytes(io);
        go_back_to(&io->position, 0, &io->mend->position);
        return 0;
    }
    for (unsigned i = 1; i < TF_PRINTS && !io->position.is_gzip; i++) {
        bool is_head = i >= TF_PRINT_HEADS && io->position.prints[i].offset <= TF_HEAD_MAX;
        int same = is_head ? 0 : compare_from(io, i); /* from its start, rather */

        if (same < 0) {
            return same;
        }
        if (same == 1) {
            go_back_to(&io->position, i, &io->mend->position);
            if (!go_to_line_start(io, read, &io->mend->position)) {
                continue; /* further back, in the end the start */
            }
            io->mend->kind = TF_MEND_OLDER;
            return 0;
        }
    }
    io->mend->kind = TF_MEND_START;
    go_back_to(&io->position, 0, &io->mend->position);
    return 0;
}
