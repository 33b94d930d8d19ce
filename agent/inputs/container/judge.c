/*
 * judge.c - what an unknown compressed sibling is: a copy of a file that is known, what is left of
 * one that is gone, or new. Worker, within a scan.
 *
 * Its whole text is inflated once, and compared with the prints of each known file of the same base
 * where these stand. All of a scan's siblings share a budget of text; when it is used up, the
 * others wait for the next scan. A file that is not whole yet waits too, unless nobody has changed
 * it for a while: then it is what it is, and is read as far as it goes.
 */
#include "internal.h"

#include <errno.h>

#define STALE_NS    (60 * TF_S_IN_NS)
#define BLOCK_BYTES (64u << 10)
#define TEXT_MAX    (UINT64_C(4) << 30)

/* Candidates are known files of the base; of those past the bound nothing is found out. */
#define CANDIDATES_MAX 64u

struct judged {
    const struct tf_known *known;
    bool differs; /* at one of its prints */
};

/* Compares the prints that lie in block, which begins at text offset `at`. */
static void compare_block(struct judged *judged, const char *block, size_t size, uint64_t at)
{
    for (unsigned i = 0; i < TF_PRINTS && !judged->differs; i++) {
        const struct tf_print *print = &judged->known->prints[i];
        size_t covers = tf_print_size(print->offset);

        if (print->offset != 0 && print->offset - covers >= at && print->offset <= at + size) {
            judged->differs = !tf_print_matches(print, block + (print->offset - covers - at));
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

/* The candidate that agrees, and of several the one that was read furthest. */
static const struct tf_known *best(const struct judged *candidates, size_t count,
                                   uint64_t text_bytes)
{
    const struct tf_known *found = NULL;

    for (size_t i = 0; i < count; i++) {
        const struct tf_known *known = candidates[i].known;

        if (!candidates[i].differs && known->prints[0].offset > 0 &&
            known->prints[0].offset <= text_bytes &&
            (found == NULL || known->prints[0].offset > found->prints[0].offset)) {
            found = known;
        }
    }
    return found;
}

enum tf_verdict tf_judge(struct tf_scan *scan, const struct tf_opened *opened, uint64_t base_hash,
                         struct tf_file_id *match, uint64_t *text_bytes)
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
    *text_bytes = 0;
    rc = read_through(gunzip, candidates, count, text_bytes);
    is_damaged = tf_gunzip_is_damaged(gunzip);
    tf_gunzip_free(gunzip);
    scan->judge_bytes -= *text_bytes < scan->judge_bytes ? *text_bytes : scan->judge_bytes;
    if (rc == -EFBIG) {
        return TF_VERDICT_REFUSED;
    }
    if (rc < 0 || (is_damaged && tf_now_ns() - opened->changed_ns < STALE_NS)) {
        return TF_VERDICT_WAIT;
    }
    known = best(candidates, count, *text_bytes);
    if (known == NULL) {
        return TF_VERDICT_NEW;
    }
    *match = known->id;
    return TF_VERDICT_KNOWN;
}
