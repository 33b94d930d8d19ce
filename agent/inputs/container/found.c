/*
 * found.c - what a scan or a look found becomes files that are followed. Loop.
 *
 * What is found is known or fresh, by identity. Of a known file it is seen that it is there, and by
 * which name. Fresh ones are followed: the siblings of a base before its primary, the oldest first,
 * each waiting for the one before it. Siblings that hold what a file held come last, when it is
 * known what else is there (shadow.c says what becomes of them).
 */
#include "internal.h"

#include <assert.h>
#include <stdlib.h>

#define TIME_DIGITS 8u /* of a day, as 20260101 */

static int compare_found(const void *a, const void *b)
{
    const struct tf_found *const *x = a, *const *y = b;
    int order = tf_file_id_compare(&(*x)->id, &(*y)->id);

    return order != 0 ? order : (*x > *y) - (*x < *y); /* in the order of `paths` */
}

/* Some fresh file goes on in the known one's place. */
static bool is_taken_over(struct tf_found **fresh, size_t count, const struct tf_file_id *known)
{
    for (size_t i = 0; i < count; i++) {
        if (fresh[i]->replaces && tf_file_id_compare(&fresh[i]->match, known) == 0) {
            return true;
        }
    }
    return false;
}

/* By the ends of their names where both tell: a time, which rises, or a number, which falls with
 * age. 0: they do not. */
static int compare_suffixes(const char *a, const char *b)
{
    size_t a_digits = strspn(a + (*a != '\0'), "0123456789");
    size_t b_digits = strspn(b + (*b != '\0'), "0123456789");
    bool a_is_number = a_digits > 0 && a[1 + a_digits] == '\0' && a_digits < TIME_DIGITS;
    bool b_is_number = b_digits > 0 && b[1 + b_digits] == '\0' && b_digits < TIME_DIGITS;

    if (a_digits >= TIME_DIGITS && b_digits >= TIME_DIGITS) {
        return strcmp(a, b);
    }
    if (!a_is_number || !b_is_number || a_digits != b_digits) {
        return a_is_number && b_is_number ? (a_digits < b_digits) - (a_digits > b_digits) : 0;
    }
    return strcmp(b, a);
}

/* Those that are to be read: siblings first, the oldest first, for each base. */
static int compare_fresh(const void *a, const void *b)
{
    const struct tf_found *const *x = a, *const *y = b;
    int order = strcmp((*x)->base, (*y)->base);

    if (order != 0) {
        return order;
    }
    if ((*x)->is_sibling != (*y)->is_sibling) {
        return (*x)->is_sibling ? -1 : 1;
    }
    order = compare_suffixes((*x)->suffix, (*y)->suffix);
    return order != 0
               ? order
               : ((*x)->changed_ns > (*y)->changed_ns) - ((*x)->changed_ns < (*y)->changed_ns);
}

static int take_descriptor(struct tf_found *found)
{
    int fd = found->fd;

    found->fd = -1;
    return fd;
}

static void note_rotation(struct tf_file *file, const struct tf_found *found)
{
    if (found->is_sibling && !file->is_sibling) {
        file->input->counts.rotations[TF_ROTATION_RENAME]++;
        tf_log(TF_LOG_DEBUG, "rotated", TF_DETAILS(TF_STR("path", file->base)),
               "renamed; it is read to its end");
    }
    file->is_sibling = found->is_sibling;
    file->has_successor = found->has_successor;
}

/* A file that is known was found, by whatever name. */
static void see(struct tf_container *input, struct tf_file *file, struct tf_found *found)
{
    file->is_seen = true;
    file->deleted_since_ms = 0;
    if (!found->is_left_out) {
        note_rotation(file, found);
    }
    if (file->state == TF_FILE_FINISHED && found->fd >= 0) { /* it has grown after all */
        file->io.fd = take_descriptor(found);
        input->descriptor_count++;
        tf_follow_activate(file);
    } else if (file->state == TF_FILE_ACTIVE && (found->size != file->size || file->has_error)) {
        file->has_error = false;
        file->found_size = found->size;
        tf_follow_wake(file);
    }
}

/* The file that a new one of its base comes behind: it is looked at once more before the new one is
 * read, though it was at its end, since its last lines may have been written since. */
static struct tf_file *find_older(struct tf_container *input, const char *base)
{
    uint64_t hash = tf_path_hash(tf_slice_text(base));
    struct tf_file *older = NULL;

    for (struct tf_file *file = input->files; file != NULL; file = file->next) {
        if (file->state == TF_FILE_ACTIVE && !file->has_error && file->follower == NULL &&
            file->base_hash == hash && strcmp(file->base, base) == 0 &&
            (older == NULL || (older->is_at_end && !file->is_at_end))) {
            older = file;
        }
    }
    return older;
}

/* A copy of it is known by them. */
static void remember_prints(struct tf_file *file)
{
    struct tf_position position;

    if (tf_stored_position(file->input, &file->id, &position)) {
        memcpy(file->io.position.prints, position.prints, sizeof position.prints);
    }
}

/* A look's file stands under its path now: that of the scan, which sees links too. */
static void take_provisional(struct tf_container *input, struct tf_file *file,
                             struct tf_found *found)
{
    if (found->fd < 0) {
        found->fd = file->io.fd;
        file->io.fd = -1;
        input->descriptor_count--;
    }
    tf_follow_drop(file);
}

static void follow_fresh(struct tf_container *input, struct tf_found *found, struct tf_file *before,
                         bool is_look)
{
    bool is_finished = found->fd < 0; /* known by its stored position, and not grown since */
    struct tf_file *file =
        tf_follow_new(input, &found->id, tf_slice_text(found->base), take_descriptor(found));

    if (file == NULL) {
        input->wants_scan = true;
        return;
    }
    file->is_seen = true;
    file->is_sibling = found->is_sibling;
    file->has_successor = found->has_successor;
    file->size = found->size;
    file->start = found->start;
    found->start = NULL;
    file->is_gzip = found->is_gzip;
    file->io.wants_watch = !found->is_gzip;
    file->replaces = found->replaces;
    file->shadow_of = found->match;
    if (is_look && !is_finished && !found->is_first_glob) {
        file->is_provisional = true;
        return;
    }
    if (is_finished) {
        remember_prints(file);
        file->state = TF_FILE_FINISHED;
        return;
    }
    if (before != NULL && before->state == TF_FILE_ACTIVE && before->follower == NULL) {
        file->waits_for = before;
        before->follower = file;
        tf_follow_wake(before);
    }
    tf_follow_activate(file);
}

/* A stored position of the base has no file in this scan: it may have been renamed under its eyes,
 * and is to be read first. When the next ones do not find it either, it is gone (stored.c). */
static bool must_wait_for_older(const struct tf_container *input, const struct tf_scan *scan,
                                struct tf_found **fresh, size_t count, const char *base)
{
    uint64_t hash = tf_path_hash(tf_slice_text(base));

    for (size_t i = 0; input->complete_scans < TF_STORED_CHECKS && i < scan->known_count; i++) {
        const struct tf_known *known = &scan->known[i];

        if (known->base_hash == hash && !known->is_found && !known->is_followed &&
            !known->is_finished && !is_taken_over(fresh, count, &known->id)) {
            return true;
        }
    }
    return false;
}

static bool has_unfound(const struct tf_scan *scan)
{
    for (size_t i = 0; i < scan->known_count; i++) {
        if (!scan->known[i].is_found) {
            return true;
        }
    }
    return false;
}

static void follow_all(struct tf_container *input, struct tf_scan *scan, struct tf_found **fresh,
                       size_t count)
{
    bool is_start = input->file_count == 0, unfound = has_unfound(scan);

    if (count > 0) {
        qsort(fresh, count, sizeof *fresh, compare_fresh);
    }
    for (size_t i = 0; i < count; i++) {
        struct tf_file *before = NULL;

        if (i > 0 && strcmp(fresh[i - 1]->base, fresh[i]->base) == 0) {
            before = tf_follow_find(input, &fresh[i - 1]->id);
        } else if (!is_start) {
            before = find_older(input, fresh[i]->base);
        }
        if (input->file_count >= TF_FILES_MAX) {
            scan->is_complete = false;
            return;
        }
        if (unfound && must_wait_for_older(input, scan, fresh, count, fresh[i]->base)) {
            input->wants_scan = input->is_postponing = true;
            continue;
        }
        follow_fresh(input, fresh[i], before, scan->only != NULL);
    }
}

/* Sorts what was found by identity: the first of each counts. Returns new, or NULL. */
static struct tf_found **sort_found(struct tf_scan *scan)
{
    struct tf_found **sorted = calloc(scan->found_count + 1, sizeof *sorted);

    for (size_t i = 0; sorted != NULL && i < scan->found_count; i++) {
        sorted[i] = &scan->found[i];
    }
    if (sorted != NULL && scan->found_count > 0) {
        qsort(sorted, scan->found_count, sizeof *sorted, compare_found);
    }
    return sorted;
}

/* A file keeps the base by which it was found first: what a link told is not known to its target's
 * folder. */
static void use_stored_base(struct tf_container *input, struct tf_found *found)
{
    struct tf_position position;
    char *base = tf_stored_position(input, &found->id, &position)
                     ? strndup(position.path.data, position.path.size)
                     : NULL;

    if (base != NULL) {
        free(found->base);
        found->base = base;
    }
}

/* ---- compressed siblings (shadow.c)
 * ------------------------------------------------------------------ */

static void mark_undecided(struct tf_container *input, const struct tf_found *found)
{
    uint64_t hash = tf_path_hash(tf_slice_text(found->base));

    input->has_undecided = true;
    for (struct tf_file *file = input->files; file != NULL; file = file->next) {
        file->is_undecided = file->is_undecided || file->base_hash == hash;
    }
}

/* Such a file is there, and will be followed. */
static const struct tf_found *find_fresh(struct tf_found **fresh, size_t count,
                                         const struct tf_file_id *id)
{
    for (size_t i = 0; i < count; i++) {
        if (fresh[i]->fd >= 0 && tf_file_id_compare(&fresh[i]->id, id) == 0) {
            return fresh[i];
        }
    }
    return NULL;
}

/* The verdict is outdated: the next scan finds another. */
static void wait_for_next(struct tf_container *input, struct tf_found *found)
{
    found->verdict = TF_VERDICT_WAIT;
    input->wants_scan = true;
    mark_undecided(input, found);
}

/* A fresh file of the same base and size may be what it was made of: it is known better by the next
 * scan. */
static bool is_being_compressed(struct tf_found **fresh, size_t count, const struct tf_found *found)
{
    for (size_t i = 0; i < count; i++) {
        if (!fresh[i]->is_gzip && fresh[i]->size == found->text_bytes &&
            strcmp(fresh[i]->base, found->base) == 0) {
            return true;
        }
    }
    return false;
}

/* It holds what a file held that is gone, or was read to its end. True: it is to be read. */
static bool read_on(struct tf_container *input, struct tf_found *found)
{
    struct tf_position position;

    if (!tf_stored_position(input, &found->match, &position)) {
        wait_for_next(input, found); /* it was forgotten since they were compared */
        return false;
    }
    found->replaces = tf_follow_find(input, &found->match) == NULL;
    if (found->text_bytes <= tf_position_last(&position)) {
        tf_shadow_read(input, found, &position);
        return false;
    }
    position.path = tf_slice("", 0);
    position.finished = false;
    for (unsigned i = 1; i < TF_PRINTS && found->is_gzip; i++) {
        position.prints[i] = (struct tf_print){0};
    }
    found->start = malloc(sizeof position);
    if (found->start == NULL) {
        input->wants_scan = true;
        return false;
    }
    *found->start = position;
    return true;
}

/* The file was cut since it was compared: what holds its old bytes is not its copy any more. */
static bool is_outdated(const struct tf_found *found, const struct tf_file *file)
{
    return file != NULL && file->state != TF_FILE_FINISHED &&
           (file->state != TF_FILE_ACTIVE || tf_follow_read_to(file) < found->match_offset);
}

/* Since the scan began some of a file of its base was read for the first time, or it was cut: the
 * sibling may hold that, which the scan could not know. Once for each: the next scan knows. */
static bool is_outrun(const struct tf_container *input, const struct tf_scan *scan,
                      const struct tf_found *found)
{
    uint64_t hash = tf_path_hash(tf_slice_text(found->base));

    for (const struct tf_file *file = input->files; file != NULL; file = file->next) {
        const struct tf_known *known;

        if (file->base_hash != hash || file->is_gzip || file->state == TF_FILE_FINISHED) {
            continue;
        }
        known = tf_scan_known(scan, &file->id);
        if (file->mended_scan == input->scan_number ||
            ((known == NULL || known->prints[0].offset == 0) &&
             (tf_follow_read_to(file) > 0 || file->source.state == TF_SOURCE_RUNNING))) {
            return true;
        }
    }
    return false;
}

/* A copy that lacks the last lines read of a file that is gone, and not only hidden by a rename. It
 * counts as read; what was lost of the file is told by its position (stored.c). A compressed one
 * may be that file itself, cut before: it is read whole. True: it is to be read. */
static bool decide_short(struct tf_container *input, struct tf_found *found)
{
    if (input->complete_scans == 0) {
        wait_for_next(input, found);
        return false;
    }
    if (!found->is_gzip) {
        tf_shadow_read_short(input, found);
    }
    return found->is_gzip;
}

/* True while the file that it is a copy of holds all of it, or will find it: where nothing is left
 * to read in a copy, its file says so in the frame that says how that goes on (mend.c). */
static bool is_left_to_its_file(const struct tf_found *found, struct tf_found **fresh, size_t count)
{
    const struct tf_found *of = find_fresh(fresh, count, &found->match);

    return of != NULL && (!of->is_cut || found->text_bytes <= found->match_offset);
}

/* True: it is to be read. Those that are copies of files that are followed come later. */
static bool decide(struct tf_container *input, const struct tf_scan *scan, struct tf_found *found,
                   struct tf_found **fresh, size_t count)
{
    static const struct tf_position nothing;
    const struct tf_file *file;

    switch (found->verdict) {
    case TF_VERDICT_WAIT:
        mark_undecided(input, found);
        return false;
    case TF_VERDICT_NEW:
        if (is_being_compressed(fresh, count, found) || is_outrun(input, scan, found)) {
            wait_for_next(input, found);
            return false;
        }
        if (!input->scan.start_newest) {
            return true;
        }
        tf_shadow_read(input, found, &nothing);
        return false;
    case TF_VERDICT_KNOWN:
        file = tf_follow_find(input, &found->match);
        if (is_outdated(found, file) || is_taken_over(fresh, count, &found->match)) {
            wait_for_next(input, found);
            return false;
        }
        if ((file != NULL && (file->state != TF_FILE_FINISHED || !found->is_gzip)) ||
            is_left_to_its_file(found, fresh, count)) {
            return false;
        }
        return found->is_short ? decide_short(input, found) : read_on(input, found);
    default:
        return false;
    }
}

/* When it is known what else is there. What is not compressed goes first: one that is may be its
 * copy. Returns how many are fresh then. */
static size_t take_decided(struct tf_container *input, struct tf_scan *scan, bool is_gzip,
                           struct tf_found **fresh, size_t count)
{
    for (size_t i = 0; i < scan->found_count; i++) {
        struct tf_found *found = &scan->found[i];

        if (found->verdict != TF_VERDICT_NONE && found->is_gzip == is_gzip &&
            tf_follow_find(input, &found->id) == NULL && decide(input, scan, found, fresh, count)) {
            fresh[count++] = found;
        }
    }
    return count;
}

/* Files that were cut, and whose copies go on in their place. */
static void note_heirs(struct tf_container *input, struct tf_found **fresh, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct tf_file *file = fresh[i]->replaces ? tf_follow_find(input, &fresh[i]->match) : NULL;

        if (file != NULL && tf_follow_find(input, &fresh[i]->id) != NULL) {
            file->has_heir = true;
        }
    }
}

static void add_shadows(struct tf_container *input, struct tf_scan *scan)
{
    for (size_t i = 0; i < scan->found_count; i++) {
        struct tf_found *found = &scan->found[i];
        struct tf_file *file =
            found->verdict == TF_VERDICT_KNOWN ? tf_follow_find(input, &found->match) : NULL;

        if (file != NULL && file->state != TF_FILE_FINISHED && found->is_gzip &&
            tf_follow_find(input, &found->id) == NULL) {
            tf_shadow_add(input, file, found);
        }
    }
}

/* ---- what a scan found, all of it
 * -------------------------------------------------------------------- */

void tf_found_apply(struct tf_container *input, struct tf_scan *scan)
{
    struct tf_found **sorted = sort_found(scan);
    const struct tf_file_id *previous = NULL;
    size_t fresh = 0; /* they are moved to the front of sorted */

    input->counts.errors[TF_INPUT_OPEN] += scan->unreadable;
    if (sorted == NULL) {
        input->wants_scan = true;
        return;
    }
    for (size_t i = 0; i < scan->found_count; i++) {
        struct tf_found *found = sorted[i];
        struct tf_file *file;

        assert(found != NULL); /* as sort_found made it */
        file = tf_follow_find(input, &found->id);
        if (previous != NULL && tf_file_id_compare(previous, &found->id) == 0) {
            found->verdict = TF_VERDICT_NONE;
            continue; /* seen twice, read once */
        }
        previous = &found->id;
        if (file != NULL && file->is_provisional && scan->only == NULL) {
            take_provisional(input, file, found);
            file = NULL;
        }
        if (file != NULL) {
            see(input, file, found);
        } else if (found->is_left_out || found->verdict != TF_VERDICT_NONE) {
            continue; /* it is decided on when it is known what else is there */
        } else if (found->is_sibling && tf_scan_known(scan, &found->id) == NULL &&
                   is_outrun(input, scan, found)) {
            wait_for_next(input, found);
        } else {
            use_stored_base(input, found);
            sorted[fresh++] = found;
        }
    }
    fresh = take_decided(input, scan, false, sorted, fresh);
    fresh = take_decided(input, scan, true, sorted, fresh);
    follow_all(input, scan, sorted, fresh);
    note_heirs(input, sorted, fresh);
    add_shadows(input, scan);
    free(sorted);
}
