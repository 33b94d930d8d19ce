/*
 * judge.c - what an unknown sibling is: a copy of a file that is known, what is left of one that is
 * gone, or new. Worker, within a scan.
 *
 * A plain one may be a copy that `copytruncate` made, or makes right now. It is one when it was
 * born after a known file of its base and holds the bytes at each print of that file's position
 * that lies within it, and one at least does: lines may have been read that were written after the
 * copy was made, which it lacks then. Or the primary still begins with it.
 *
 * Of a compressed one the whole text is inflated once, and compared with the prints of each known
 * file of the same base where these stand. All of a scan's siblings share a budget of text; when it
 * is used up, the others wait for the next scan. A file that is not whole yet waits too, unless
 * nobody has changed it for a while: then it is what it is, and is read as far as it goes.
 */
#include "internal.h"

#include <errno.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#define STALE_NS    (60 * TF_S_IN_NS)
#define BLOCK_BYTES (64u << 10)
#define TEXT_MAX    (UINT64_C(4) << 30)

/* ---- copies -------------------------------------------------------------------------------------
 */

/* The bytes [offset - size, offset) of both files are the same. */
static bool same_bytes(int a_fd, int b_fd, uint64_t offset, size_t size)
{
    char a[TF_PRINT_BYTES], b[TF_PRINT_BYTES];

    return pread(a_fd, a, size, (off_t)(offset - size)) == (ssize_t)size &&
           pread(b_fd, b, size, (off_t)(offset - size)) == (ssize_t)size && memcmp(a, b, size) == 0;
}

/* A copy that lacks lines which were read. */
static bool is_short(const struct tf_known *known, uint64_t text_bytes)
{
    return known->prints[0].offset > text_bytes;
}

/* What was read to its end was not cut before: its copies lack nothing. */
static bool is_too_short(const struct tf_known *known, uint64_t text_bytes)
{
    return known->is_finished && is_short(known, text_bytes);
}

/* Of two that agree: the one that the copy holds all of; that was read further; that is a copy, not
 * what it is a copy of. */
static bool is_nearer(const struct tf_known *a, const struct tf_known *b, uint64_t text_bytes)
{
    if (is_short(a, text_bytes) != is_short(b, text_bytes)) {
        return is_short(b, text_bytes);
    }
    if (a->prints[0].offset != b->prints[0].offset) {
        return a->prints[0].offset > b->prints[0].offset;
    }
    return a->id.born_ns > b->id.born_ns;
}

static void set_match(struct tf_found *found, const struct tf_known *known)
{
    found->match = known->id;
    found->match_offset = known->prints[0].offset;
    found->is_short = is_short(known, found->text_bytes);
}

/* It was born after the file that is known, and holds what stands at each of that one's prints, as
 * far as it reaches. */
static bool holds_all_of(const struct tf_opened *copy, const struct tf_known *known)
{
    bool holds_one = false;

    if (known->prints[0].offset == 0 || copy->id.born_ns < known->id.born_ns ||
        is_too_short(known, copy->size)) {
        return false;
    }
    for (unsigned i = 0; i < TF_PRINTS; i++) {
        const struct tf_print *print = &known->prints[i];

        if (print->offset == 0 || print->offset > copy->size) {
            continue;
        }
        if (!tf_file_matches(copy->fd, print)) {
            return false;
        }
        holds_one = holds_one || i == 0 || tf_print_tells(print, copy->size);
    }
    return holds_one;
}

/* It has grown since it was opened: somebody writes it right now. */
static bool has_grown(const struct tf_opened *copy)
{
    struct stat status;

    return fstat(copy->fd, &status) == 0 && (uint64_t)status.st_size != copy->size;
}

/* A copy that is being made, or was made of a part: the primary begins with it. 1, 0, or a negative
 * errno where that is not known. */
static int is_beginning(const struct tf_scan *scan, const struct tf_candidate *candidate,
                        const struct tf_opened *copy)
{
    size_t size = tf_print_size(copy->size);
    char base_name[NAME_MAX + 1], path[TF_FILE_PATH_MAX];
    struct tf_opened base;
    int rc;
    bool is;

    memcpy(base_name, candidate->name, candidate->base_size);
    base_name[candidate->base_size] = '\0';
    if (!tf_path_join(candidate->dir_path, base_name, path)) {
        return 0;
    }
    rc = tf_opener_file(scan->opener, path, &base);
    if (rc < 0) {
        return tf_scan_is_final(rc) ? 0 : rc;
    }
    is = tf_file_id_compare(&base.id, &copy->id) != 0 && copy->id.born_ns >= base.id.born_ns &&
         copy->size <= base.size && same_bytes(copy->fd, base.fd, size, size) &&
         same_bytes(copy->fd, base.fd, copy->size, size);
    (void)close(base.fd);
    return is;
}

int tf_judge_copy(const struct tf_scan *scan, const struct tf_candidate *candidate,
                  const struct tf_opened *copy, struct tf_found *found)
{
    uint64_t hash = tf_path_hash(tf_slice_text(candidate->base));
    const struct tf_known *match = NULL;
    int beginning = 0;

    found->text_bytes = copy->size;
    for (size_t i = 0; i < scan->known_count && !found->is_left_out; i++) {
        const struct tf_known *known = &scan->known[i];

        if (known->base_hash != hash || known->is_gzip || !holds_all_of(copy, known)) {
            continue;
        }
        found->is_left_out = known->is_followed;
        match = match == NULL || is_nearer(known, match, copy->size) ? known : match;
    }
    if (match != NULL) {
        found->verdict = TF_VERDICT_KNOWN;
        set_match(found, match);
    }
    if (match == NULL && copy->size > 0) {
        beginning = is_beginning(scan, candidate, copy);
    }
    if (beginning < 0) {
        return beginning;
    }
    if (copy->size == 0 || (match == NULL && (beginning == 1 || has_grown(copy))) ||
        (found->is_short && tf_file_print(copy->fd, copy->size, &found->end) < 0)) {
        found->is_left_out = true; /* there is nothing to read yet */
    }
    if (found->is_left_out) {
        found->verdict = TF_VERDICT_NONE;
        tf_log(TF_LOG_DEBUG, "copy",
               TF_DETAILS(TF_STR("path", found->base), TF_STR("name", candidate->name)),
               "a copy of what is read already; read only when the file is cut");
    }
    return 0;
}

/* ---- compressed siblings -----------------------------------------------------------------------
 */

/* Candidates are known files of the base; of those past the bound nothing is found out. */
#define CANDIDATES_MAX 64u

struct judged {
    const struct tf_known *known;
    bool holds[TF_PRINTS];
    bool differs; /* at one of them */
};

/* Compares the prints that lie in block, which begins at text offset `at`. */
static void compare_block(struct judged *judged, const char *block, size_t size, uint64_t at)
{
    for (unsigned i = 0; i < TF_PRINTS && !judged->differs; i++) {
        const struct tf_print *print = &judged->known->prints[i];
        size_t covers = tf_print_size(print->offset);

        if (print->offset != 0 && print->offset - covers >= at && print->offset <= at + size) {
            judged->differs = !tf_print_matches(print, block + (print->offset - covers - at));
            judged->holds[i] = true;
        }
    }
}

/* Reads the text from start to end. 0 with *text_bytes, -EFBIG, or another -errno. */
static int read_through(struct tf_gunzip *gunzip, struct judged *candidates, size_t count,
                        uint64_t *text_bytes)
{
    char block[BLOCK_BYTES + TF_PRINT_BYTES];
    uint64_t at = 0;

    for (;;) {
        size_t before = tf_print_size(at); /* a print may lie across two blocks */
        ssize_t got = tf_gunzip_read(gunzip, block, before + BLOCK_BYTES, at - before);

        if (got < 0) {
            return (int)got;
        }
        for (size_t i = 0; i < count; i++) {
            compare_block(&candidates[i], block, (size_t)got, at - before);
        }
        at += (uint64_t)got - before;
        if ((size_t)got < before + BLOCK_BYTES) {
            break;
        }
        if (at > TEXT_MAX) {
            return -EFBIG;
        }
    }
    explicit_bzero(block, sizeof block);
    *text_bytes = at;
    return 0;
}

static size_t list_candidates(const struct tf_scan *scan, uint64_t base_hash,
                              struct judged candidates[CANDIDATES_MAX], bool *is_unread)
{
    size_t count = 0;

    for (size_t i = 0; i < scan->known_count && count < CANDIDATES_MAX; i++) {
        const struct tf_known *known = &scan->known[i];

        if (known->base_hash == base_hash && !known->is_gzip) {
            *is_unread = *is_unread ||
                         (known->is_followed && known->size > 0 && known->prints[0].offset == 0);
            candidates[count++] = (struct judged){.known = known};
        }
    }
    return count;
}

static bool holds_one(const struct judged *judged, uint64_t text_bytes)
{
    for (unsigned i = 0; i < TF_PRINTS; i++) {
        if (judged->holds[i] && (i == 0 || tf_print_tells(&judged->known->prints[i], text_bytes))) {
            return true;
        }
    }
    return false;
}

/* The candidate that agrees. */
static const struct tf_known *best(const struct judged *candidates, size_t count,
                                   uint64_t text_bytes)
{
    const struct tf_known *found = NULL;

    for (size_t i = 0; i < count; i++) {
        const struct tf_known *known = candidates[i].known;

        if (!candidates[i].differs && holds_one(&candidates[i], text_bytes) &&
            !is_too_short(known, text_bytes) &&
            (found == NULL || is_nearer(known, found, text_bytes))) {
            found = known;
        }
    }
    return found;
}

enum tf_verdict tf_judge(struct tf_scan *scan, const struct tf_opened *opened, uint64_t base_hash,
                         struct tf_found *found)
{
    struct judged candidates[CANDIDATES_MAX];
    struct tf_gunzip *gunzip;
    const struct tf_known *known;
    bool is_unread = false, is_damaged;
    size_t count = list_candidates(scan, base_hash, candidates, &is_unread);
    int rc;

    if (is_unread || scan->judge_bytes == 0 || (gunzip = tf_gunzip_new(opened->fd)) == NULL) {
        return TF_VERDICT_WAIT; /* a file of which nothing is known yet may be this one */
    }
    rc = read_through(gunzip, candidates, count, &found->text_bytes);
    is_damaged = tf_gunzip_is_damaged(gunzip);
    tf_gunzip_free(gunzip);
    scan->judge_bytes -=
        found->text_bytes < scan->judge_bytes ? found->text_bytes : scan->judge_bytes;
    if (rc == -EFBIG) {
        return TF_VERDICT_REFUSED;
    }
    if (rc < 0 || (is_damaged && tf_now_ns() - opened->changed_ns < STALE_NS)) {
        return TF_VERDICT_WAIT;
    }
    known = best(candidates, count, found->text_bytes);
    if (known == NULL) {
        return TF_VERDICT_NEW;
    }
    set_match(found, known);
    return TF_VERDICT_KNOWN;
}
