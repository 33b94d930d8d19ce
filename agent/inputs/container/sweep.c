/*
 * sweep.c - scans: when they run, and what they change. Loop; the walk itself is discovery.c.
 *
 * A scan runs at the start, each `rescan`, and soon after a hint about a directory. What it finds
 * is the truth about names: new files are followed, siblings before the primary they come from; a
 * file that was renamed is the same file; one that a complete scan did not find has lost its name.
 *
 * A scan that left nothing to do leaves a snapshot; while that holds, the next ones are passed over
 * (but SNAPSHOT_USES_MAX times at most), so that an idle node costs next to nothing.
 *
 * The end of a file is for good when it is read to its end, nothing was added from one scan to the
 * next, and either it was rotated and a successor stands under its name, or it has no name any
 * more. Then what is held goes out as unfinished, and the descriptor is closed.
 *
 * Positions that were stored by an earlier run and belong to no file of two complete scans (a
 * rename may hide a file from one) are those of files that vanished while nobody ran: unless they
 * were read to their end, that is a gap.
 */
#include "internal.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>

#define SOON_MS           50u
#define SOON_FACTOR       10u
#define POLL_MS           1000u
#define IDLE_MAX_MS       300000u
#define STORED_CHECKS     2u
#define DESCRIPTORS_MIN   64u
#define MARKER_VERSION    1u
#define SNAPSHOT_USES_MAX 30u
#define TIME_DIGITS       8u          /* of a day, as 20260101 */
#define JUDGE_BYTES       (64u << 20) /* of compressed siblings, for one scan */

static void on_timer(uv_timer_t *timer);

/* ---- what the worker gets to know
 * ------------------------------------------------------------------ */

struct known_list {
    struct tf_container *input;
    struct tf_known *items;
    size_t count, capacity;
    bool failed;
};

static void add_known(struct known_list *list, const struct tf_known *known)
{
    if (list->count == list->capacity) {
        size_t capacity = list->capacity == 0 ? 64 : list->capacity * 2;
        struct tf_known *grown = realloc(list->items, capacity * sizeof *grown);

        if (grown == NULL) {
            list->failed = true;
            return;
        }
        list->items = grown;
        list->capacity = capacity;
    }
    list->items[list->count++] = *known;
}

static void add_stored(void *ctx, struct tf_slice key, struct tf_slice value)
{
    struct known_list *list = ctx;
    struct tf_position position = {0};
    struct tf_known known = {0};

    if (tf_position_key_parse(key, list->input->name, &known.id) < 0 ||
        tf_follow_find(list->input, &known.id) != NULL) {
        return;
    }
    if (tf_position_decode(value, &position) == 0) {
        memcpy(known.prints, position.prints, sizeof known.prints);
        known.base_hash = tf_path_hash(position.path);
        known.is_finished = position.finished;
        known.is_gzip = position.is_gzip;
        known.size = tf_position_last(&position);
    }
    add_known(list, &known);
}

static void each_stored(struct tf_container *input, tf_state_fn *fn, void *ctx)
{
    struct tf_buf prefix;

    tf_buf_init(&prefix, TF_STATE_KEY_MAX);
    (void)tf_buf_printf(&prefix, "file/%s/", input->name);
    if (prefix.error == 0) {
        tf_state_each(tf_pipeline_spool(input->pipeline), tf_buf_slice(&prefix), fn, ctx);
    }
    tf_buf_fini(&prefix);
}

static int list_known(struct tf_container *input, struct tf_scan *scan)
{
    struct known_list list = {.input = input};

    for (struct tf_file *file = input->files; file != NULL; file = file->next) {
        struct tf_known known;

        tf_follow_known(file, &known);
        add_known(&list, &known);
    }
    if (input->stored_checks < STORED_CHECKS) {
        each_stored(input, add_stored, &list);
    }
    if (list.failed) {
        free(list.items);
        return -ENOMEM;
    }
    scan->known = list.items;
    scan->known_count = list.count;
    tf_scan_sort_known(scan);
    return 0;
}

/* ---- what a scan found
 * ------------------------------------------------------------------------------- */

static int compare_found(const void *a, const void *b)
{
    const struct tf_found *const *x = a, *const *y = b;
    int order = tf_file_id_compare(&(*x)->id, &(*y)->id);

    return order != 0 ? order : (*x > *y) - (*x < *y); /* in the order of `paths` */
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

/* The sibling that a new primary comes from, when there is still something to read in it. */
static struct tf_file *find_unread_sibling(struct tf_container *input, const char *base)
{
    uint64_t hash = tf_path_hash(tf_slice_text(base));

    for (struct tf_file *file = input->files; file != NULL; file = file->next) {
        if (file->state == TF_FILE_ACTIVE && !file->is_at_end && !file->has_error &&
            file->follower == NULL && file->base_hash == hash && strcmp(file->base, base) == 0) {
            return file;
        }
    }
    return NULL;
}

/* The position of a file in the folded state; its path borrows from there. */
static bool stored_position(struct tf_container *input, const struct tf_file_id *id,
                            struct tf_position *out)
{
    struct tf_buf key;
    struct tf_slice value;
    bool is_sound;

    tf_buf_init(&key, TF_STATE_KEY_MAX);
    tf_position_key(input->name, id, &key);
    is_sound = key.error == 0 &&
               tf_state_get(tf_pipeline_spool(input->pipeline), tf_buf_slice(&key), &value) &&
               tf_position_decode(value, out) == 0;
    tf_buf_fini(&key);
    return is_sound;
}

/* A copy of it is known by them. */
static void remember_prints(struct tf_file *file)
{
    struct tf_position position;

    if (stored_position(file->input, &file->id, &position)) {
        memcpy(file->prints, position.prints, sizeof file->prints);
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
    }
    tf_follow_activate(file);
}

static void follow_all(struct tf_container *input, struct tf_scan *scan, struct tf_found **fresh,
                       size_t count)
{
    bool is_start = input->file_count == 0;

    if (count > 0) {
        qsort(fresh, count, sizeof *fresh, compare_fresh);
    }
    for (size_t i = 0; i < count; i++) {
        struct tf_file *before = NULL;

        if (i > 0 && strcmp(fresh[i - 1]->base, fresh[i]->base) == 0) {
            before = tf_follow_find(input, &fresh[i - 1]->id);
        } else if (!is_start) {
            before = find_unread_sibling(input, fresh[i]->base);
        }
        if (input->file_count >= TF_FILES_MAX) {
            scan->is_complete = false;
            return;
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
    char *base = stored_position(input, &found->id, &position)
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

static bool is_among(struct tf_found **fresh, size_t count, const struct tf_file_id *id)
{
    for (size_t i = 0; i < count; i++) {
        if (fresh[i]->fd >= 0 && tf_file_id_compare(&fresh[i]->id, id) == 0) {
            return true;
        }
    }
    return false;
}

/* It holds what a file held that is gone, or was read to its end. True: it is to be read. */
static bool read_on(struct tf_container *input, struct tf_found *found)
{
    struct tf_position position;

    if (!stored_position(input, &found->match, &position)) {
        return true; /* of which nothing was read */
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

/* True: it is to be read. Those that are copies of files that are followed come later. */
static bool decide(struct tf_container *input, struct tf_found *found, struct tf_found **fresh,
                   size_t count)
{
    static const struct tf_position nothing;
    const struct tf_file *file;

    switch (found->verdict) {
    case TF_VERDICT_WAIT:
        mark_undecided(input, found);
        return false;
    case TF_VERDICT_NEW:
        if (!input->scan.start_newest) {
            return true;
        }
        tf_shadow_read(input, found, &nothing);
        return false;
    case TF_VERDICT_KNOWN:
        file = tf_follow_find(input, &found->match);
        if ((file != NULL && (file->state != TF_FILE_FINISHED || !found->is_gzip)) ||
            is_among(fresh, count, &found->match)) {
            return false;
        }
        return read_on(input, found);
    default:
        return false;
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

static void apply_found(struct tf_container *input, struct tf_scan *scan, struct tf_found **sorted)
{
    const struct tf_file_id *previous = NULL;
    size_t fresh = 0; /* they are moved to the front of sorted */

    for (size_t i = 0; i < scan->found_count; i++) {
        struct tf_found *found = sorted[i];
        struct tf_file *file = tf_follow_find(input, &found->id);

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
        } else if (!found->is_left_out && found->verdict == TF_VERDICT_NONE) {
            use_stored_base(input, found);
            sorted[fresh++] = found;
        }
    }
    for (size_t i = 0; i < scan->found_count; i++) { /* when it is known what else is there */
        struct tf_found *found = &scan->found[i];

        if (found->verdict != TF_VERDICT_NONE && tf_follow_find(input, &found->id) == NULL &&
            decide(input, found, sorted, fresh)) {
            sorted[fresh++] = found;
        }
    }
    follow_all(input, scan, sorted, fresh);
    add_shadows(input, scan);
}

/* ---- files without a name, files at their end
 * -------------------------------------------------------- */

static void forget_finished(struct tf_container *input, struct tf_file *file)
{
    struct tf_buf key, deltas;

    tf_buf_init(&key, TF_STATE_KEY_MAX);
    tf_buf_init(&deltas, TF_DRAFT_DELTAS_MAX);
    tf_position_key(input->name, &file->id, &key);
    if (key.error == 0) {
        tf_delta_append(&deltas, TF_DELTA_DELETE, tf_buf_slice(&key), tf_slice(NULL, 0));
    }
    if (key.error == 0 && tf_pipeline_deltas(input->pipeline, NULL, &deltas) == 0) {
        tf_follow_drop(file);
    }
    tf_buf_fini(&key);
    tf_buf_fini(&deltas);
}

/* At its end twice in a row: it ends there. */
static void settle_end(struct tf_file *file)
{
    if (!file->is_at_end || file->source.state != TF_SOURCE_ASLEEP) {
        return;
    }
    if (file->is_quiet && file->quiet_size == file->size) {
        file->io.is_final = true; /* no job of it runs */
        tf_follow_wake(file);
        return;
    }
    file->is_quiet = true;
    file->quiet_size = file->size;
    if (!file->is_seen) {
        tf_follow_wake(file); /* only its descriptor can tell its size now */
    }
}

static void settle(struct tf_container *input, struct tf_file *file)
{
    bool is_complete = input->scan.is_complete;

    if (file->is_undecided) {
        return;
    }
    if (file->state == TF_FILE_FINISHED && !file->is_seen && is_complete) {
        forget_finished(input, file);
        return;
    }
    if (file->is_shadow) {
        tf_shadow_check(file);
        return;
    }
    if (file->state != TF_FILE_ACTIVE) {
        return;
    }
    if (file->is_seen ? file->is_sibling && file->has_successor : is_complete || file->is_deleted) {
        settle_end(file);
    } else {
        file->is_quiet = false;
    }
    if (!file->is_seen && (!file->is_at_end || !file->is_deleted)) {
        tf_follow_wake(file); /* it may have been deleted: its descriptor tells */
    }
}

/* A file without a name whose pump must wait: what its descriptor tells (from memory) is all there
 * is. */
static void look_at_waiting(struct tf_file *file)
{
    struct stat status;

    if ((file->source.state == TF_SOURCE_QUEUED || file->waits_for != NULL) &&
        fstat(file->io.fd, &status) == 0) {
        file->is_deleted = status.st_nlink == 0;
        file->size = (uint64_t)status.st_size;
    }
}

static bool is_held(const struct tf_file *file)
{
    return file->is_deleted && file->offset < file->size &&
           (file->source.state == TF_SOURCE_QUEUED || !file->is_at_end);
}

/* Deleted files that wait to be read: too many bytes, or too long. */
static void bound_deleted(struct tf_container *input)
{
    uint64_t now_ms = uv_now(input->loop), held_bytes = 0, done;
    bool has_room = tf_spool_has_room(tf_pipeline_spool(input->pipeline));
    struct tf_file *next;

    for (struct tf_file *file = input->files; file != NULL; file = next) {
        next = file->next;
        if (file->state != TF_FILE_ACTIVE || file->is_seen ||
            file->source.state == TF_SOURCE_RUNNING) {
            continue;
        }
        look_at_waiting(file);
        if (!is_held(file)) {
            continue;
        }
        file->deleted_since_ms = file->deleted_since_ms == 0 ? now_ms : file->deleted_since_ms;
        held_bytes += file->size;
        if (now_ms - file->deleted_since_ms < input->options->deleted.age_ms &&
            held_bytes <= input->options->deleted.size_bytes) {
            continue;
        }
        if (has_room) { /* then it goes before all others */
            tf_source_hurry(&file->source, true);
            continue;
        }
        held_bytes -= file->size;
        done = tf_position_first(&file->io.position); /* what is held back is lost too */
        tf_follow_give_up(
            file, "a deleted file was held open past `deleted`; its last bytes were not read",
            file->size > done ? file->size - done : 0);
    }
}

/* What a look found and the scan did not: gone already, so its path is the look's. */
static void settle_provisional(struct tf_file *file)
{
    if (file->is_provisional && !file->is_seen) {
        file->is_provisional = false;
        tf_follow_activate(file);
    }
}

static void settle_all(struct tf_container *input)
{
    struct tf_file *next;

    for (struct tf_file *file = input->files; file != NULL; file = next) {
        next = file->next;
        settle_provisional(file);
        settle(input, file);
    }
    bound_deleted(input);
}

/* ---- positions of files that vanished
 * ------------------------------------------------------------------ */

struct missing {
    struct tf_file_id id;
    char *base;
    bool is_finished;
    struct missing *next;
};

struct missing_list {
    struct tf_container *input;
    struct missing *first;
    bool failed;
    bool is_waiting; /* for what a compressed file turns out to be */
};

static bool was_found(const struct missing_list *list, const struct tf_file_id *id)
{
    for (size_t i = 0; i < list->input->scan.found_count; i++) {
        if (tf_file_id_compare(&list->input->scan.found[i].id, id) == 0) {
            return true;
        }
    }
    return false;
}

/* A compressed file goes on there, and will take its place. */
static bool is_replaced(const struct tf_container *input, const struct tf_file_id *id)
{
    for (const struct tf_file *file = input->files; file != NULL; file = file->next) {
        if (file->replaces && tf_file_id_compare(&file->shadow_of, id) == 0) {
            return true;
        }
    }
    return false;
}

static bool may_be_compressed(const struct tf_container *input, struct tf_slice base)
{
    for (size_t i = 0; i < input->scan.found_count; i++) {
        const struct tf_found *found = &input->scan.found[i];

        if (found->verdict == TF_VERDICT_WAIT && tf_slice_equal(tf_slice_text(found->base), base)) {
            return true;
        }
    }
    return false;
}

static void add_missing(void *ctx, struct tf_slice key, struct tf_slice value)
{
    struct missing_list *list = ctx;
    struct tf_position position = {.path = tf_slice("", 0)};
    struct tf_file_id id;
    struct missing *missing;

    if (tf_position_key_parse(key, list->input->name, &id) < 0 ||
        tf_follow_find(list->input, &id) != NULL || was_found(list, &id) ||
        is_replaced(list->input, &id)) {
        return;
    }
    (void)tf_position_decode(value, &position);
    if (may_be_compressed(list->input, position.path)) {
        list->is_waiting = true;
        return;
    }
    missing = calloc(1, sizeof *missing);
    if (missing != NULL) {
        missing->base = strndup(position.path.data, position.path.size);
    }
    if (missing == NULL || missing->base == NULL) {
        free(missing);
        list->failed = true;
        return;
    }
    missing->id = id;
    missing->is_finished = position.finished;
    missing->next = list->first;
    list->first = missing;
}

/* It has a source only to say what was lost; without a descriptor, activating it does that. */
static void tell_missing(struct tf_container *input, const struct missing *missing)
{
    struct tf_file *file = tf_follow_new(input, &missing->id, tf_slice_text(missing->base), -1);

    if (file == NULL) {
        return; /* told at the next start */
    }
    if (missing->is_finished) {
        file->state = TF_FILE_FINISHED;
        forget_finished(input, file);
        return;
    }
    tf_follow_activate(file);
}

static void check_stored(struct tf_container *input)
{
    struct missing_list list = {.input = input};
    struct missing *next;

    each_stored(input, add_missing, &list);
    if (list.first == NULL && !list.failed && !list.is_waiting) {
        input->stored_checks = STORED_CHECKS;
        return;
    }
    input->stored_checks += list.failed || list.is_waiting ? 0 : 1;
    input->wants_scan = input->wants_scan || input->stored_checks < STORED_CHECKS;
    for (struct missing *missing = list.first; missing != NULL; missing = next) {
        next = missing->next;
        if (input->stored_checks == STORED_CHECKS) {
            tell_missing(input, missing);
        }
        free(missing->base);
        free(missing);
    }
}

/* ---- first start
 * ------------------------------------------------------------------------------------------ */

/* "file/INPUT" is set after the first scan of all: what is new from then on is read from its start.
 */
static bool has_marker(struct tf_container *input)
{
    struct tf_buf key;
    struct tf_slice value;
    bool has;

    tf_buf_init(&key, TF_STATE_KEY_MAX);
    (void)tf_buf_printf(&key, "file/%s", input->name);
    has = key.error == 0 &&
          tf_state_get(tf_pipeline_spool(input->pipeline), tf_buf_slice(&key), &value);
    tf_buf_fini(&key);
    return has;
}

static void set_marker(struct tf_container *input)
{
    const uint8_t version = MARKER_VERSION;
    struct tf_buf key, deltas;

    tf_buf_init(&key, TF_STATE_KEY_MAX);
    tf_buf_init(&deltas, TF_DRAFT_DELTAS_MAX);
    (void)tf_buf_printf(&key, "file/%s", input->name);
    tf_delta_append(&deltas, TF_DELTA_SET, tf_buf_slice(&key), tf_slice(&version, sizeof version));
    if (key.error == 0 && tf_pipeline_deltas(input->pipeline, NULL, &deltas) == 0) {
        input->is_first_start = false;
    }
    tf_buf_fini(&key);
    tf_buf_fini(&deltas);
}

void tf_sweep_rewind(struct tf_container *input)
{
    if (!input->is_closing && input->pipeline != NULL && !input->is_first_start &&
        !has_marker(input)) {
        set_marker(input);
    }
}

/* ---- scans
 * ---------------------------------------------------------------------------------------------------
 */

static void tell_descriptors(struct tf_container *input)
{
    if (input->scan.opened < input->scan.open_max || input->told_descriptors) {
        return;
    }
    input->told_descriptors = true;
    tf_log(TF_LOG_WARN, "unreadable", TF_DETAILS(TF_STR("input", input->name)),
           "%zu files are open, as many as the limit of descriptors allows; others wait. Raise "
           "LimitNOFILE",
           input->descriptor_count);
}

/* The paths of folders that got a watch. */
static void name_dirs(struct tf_container *input, const struct tf_scan *scan)
{
    for (size_t i = 0; i < scan->watched_count; i++) {
        tf_watch_name_dir(input, scan->watched[i].watch, scan->watched[i].path);
        if (scan->watched[i].watch > input->watch_named_max) {
            input->watch_named_max = scan->watched[i].watch;
        }
    }
}

void tf_sweep_apply_look(struct tf_container *input)
{
    struct tf_found **sorted = sort_found(&input->look);

    name_dirs(input, &input->look);
    if (sorted != NULL) { /* else the scan finds it */
        apply_found(input, &input->look, sorted);
        free(sorted);
    }
}

static void apply_scan(struct tf_container *input)
{
    struct tf_found **sorted = sort_found(&input->scan);

    if (sorted == NULL) {
        input->wants_scan = true;
        return;
    }
    for (struct tf_file *file = input->files; file != NULL; file = file->next) {
        file->is_seen = file->scan_number == input->scan_number; /* a look found it meanwhile */
        file->is_undecided = false;
    }
    input->has_undecided = false;
    name_dirs(input, &input->scan);
    apply_found(input, &input->scan, sorted);
    free(sorted);
    settle_all(input);
    input->wants_scan = input->wants_scan || input->scan.judge_bytes == 0;
    tell_descriptors(input);
    if (input->scan.watch_error < 0) {
        tf_watch_tell(input, input->scan.watch_error);
    }
    if (input->scan.is_complete && input->stored_checks < STORED_CHECKS) {
        check_stored(input);
    }
    if (input->is_first_start) {
        set_marker(input);
    }
    input->has_scanned = true;
}

/* Every file was seen, was read, and is not at its end for good. */
static bool all_rest(const struct tf_container *input)
{
    for (const struct tf_file *file = input->files; file != NULL; file = file->next) {
        bool is_resting =
            file->state == TF_FILE_FINISHED ||
            (file->state == TF_FILE_ACTIVE && file->is_at_end &&
             file->source.state == TF_SOURCE_ASLEEP && !(file->is_sibling && file->has_successor));

        if (!file->is_seen || !is_resting) {
            return false;
        }
    }
    return true;
}

/* Another scan of the same would change nothing. */
static bool is_settled(const struct tf_container *input)
{
    return input->scan.is_complete && !input->has_undecided && input->scan.watch_error >= 0 &&
           !input->wants_scan && !input->is_first_start && input->stored_checks == STORED_CHECKS &&
           all_rest(input);
}

static void keep_snapshot(struct tf_container *input)
{
    tf_snapshot_fini(&input->snapshot);
    input->snapshot_uses = 0;
    if (is_settled(input)) {
        input->snapshot = input->scan.snapshot;
        input->scan.snapshot = (struct tf_snapshot){0};
    }
}

static void run_scan(uv_work_t *work)
{
    struct tf_container *input = work->data;
    uint64_t start_ns = uv_hrtime();

    tf_scan_run(&input->scan);
    input->scan.took_ms = (uv_hrtime() - start_ns) / (uint64_t)TF_MS_IN_NS;
}

/* Hints that never end (files made and deleted all the time) may cost a tenth of one worker. */
static uint64_t soon_ms(const struct tf_container *input)
{
    uint64_t wait_ms = SOON_MS + SOON_FACTOR * input->scan_took_ms;

    return wait_ms < input->options->rescan_ms ? wait_ms : input->options->rescan_ms;
}

/* Where the kernel gives no hints for some files, they are looked at by time. */
static uint64_t rescan_ms(const struct tf_container *input)
{
    uint64_t poll_ms = POLL_MS + SOON_FACTOR * input->scan_took_ms;

    return input->told_watches && poll_ms < input->options->rescan_ms ? poll_ms
                                                                      : input->options->rescan_ms;
}

static void after_scan(uv_work_t *work, int status)
{
    struct tf_container *input = work->data;

    input->is_scanning = false;
    if (!input->is_closing && status == 0) {
        apply_scan(input);
        keep_snapshot(input);
    }
    input->scan_took_ms = input->scan.took_ms;
    tf_scan_fini(&input->scan);
    if (input->is_closing) {
        tf_container_maybe_closed(input);
        return;
    }
    (void)uv_timer_start(&input->scan_timer, on_timer,
                         input->wants_scan ? soon_ms(input) : rescan_ms(input), 0);
}

void tf_sweep_prepare(const struct tf_container *input, struct tf_scan *scan)
{
    *scan = (struct tf_scan){
        .opener = &input->opener,
        .globs = input->globs,
        .glob_count = input->glob_count,
        .include = &input->options->include,
        .exclude = &input->options->exclude,
        .inotify_fd = input->dir_watcher.fd,
        .watch_named_max = input->watch_named_max,
        .open_max = (uint32_t)(input->descriptor_max > input->descriptor_count
                                   ? input->descriptor_max - input->descriptor_count
                                   : 0),
        .start_newest = input->is_first_start && input->options->start_at == 1,
        .judge_bytes = JUDGE_BYTES,
    };
}

static void begin_scan(struct tf_container *input)
{
    struct tf_scan *scan = &input->scan;

    tf_sweep_prepare(input, scan);
    input->scan_number++;
    input->wants_scan = false;
    if (list_known(input, scan) < 0 ||
        uv_queue_work(input->loop, &input->scan_work, run_scan, after_scan) < 0) {
        tf_scan_fini(scan);
        (void)uv_timer_start(&input->scan_timer, on_timer, input->options->rescan_ms, 0);
        return;
    }
    input->is_scanning = true;
}

static void compare_snapshot(uv_work_t *work)
{
    struct tf_container *input = work->data;

    uint64_t start_ns = uv_hrtime();

    input->snapshot_held = tf_snapshot_holds(&input->snapshot);
    input->comparing_us = (uv_hrtime() - start_ns) / 1000;
}

/* Where all that is read has watches, comparing a very large tree may cost a thousandth of a core.
 */
static uint64_t idle_ms(const struct tf_container *input)
{
    uint64_t wait_ms = input->comparing_us < IDLE_MAX_MS ? input->comparing_us : IDLE_MAX_MS;

    return wait_ms > input->options->rescan_ms && !input->told_watches ? wait_ms : rescan_ms(input);
}

static void after_comparing(uv_work_t *work, int status)
{
    struct tf_container *input = work->data;

    input->is_scanning = false;
    if (input->is_closing) {
        tf_container_maybe_closed(input);
    } else if (status == 0 && input->snapshot_held && !input->wants_scan) {
        input->snapshot_uses++;
        (void)uv_timer_start(&input->scan_timer, on_timer, idle_ms(input), 0);
    } else {
        begin_scan(input);
    }
}

static void on_timer(uv_timer_t *timer)
{
    struct tf_container *input = timer->data;

    assert(!input->is_scanning);
    if (input->wants_scan || !input->snapshot.is_usable ||
        input->snapshot_uses == SNAPSHOT_USES_MAX || !all_rest(input)) {
        begin_scan(input);
    } else if (uv_queue_work(input->loop, &input->scan_work, compare_snapshot, after_comparing) <
               0) {
        begin_scan(input);
    } else {
        input->is_scanning = true;
    }
}

void tf_sweep_soon(struct tf_container *input)
{
    if (input->is_closing) {
        return;
    }
    if (input->is_scanning || input->wants_scan) {
        input->wants_scan = true;
        return;
    }
    input->wants_scan = true;
    (void)uv_timer_start(&input->scan_timer, on_timer, soon_ms(input), 0);
}

void tf_sweep_start(struct tf_container *input)
{
    struct rlimit limit;

    input->descriptor_max = DESCRIPTORS_MIN;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur / 4 * 3 > DESCRIPTORS_MIN) {
        input->descriptor_max =
            limit.rlim_cur / 4 * 3 > TF_FILES_MAX ? TF_FILES_MAX : (size_t)(limit.rlim_cur / 4 * 3);
    }
    input->is_first_start = !has_marker(input);
    input->scan_work.data = input;
    (void)uv_timer_start(&input->scan_timer, on_timer, 0, 0);
}

void tf_sweep_stop(struct tf_container *input)
{
    if (input->is_scanning) {
        (void)uv_cancel((uv_req_t *)&input->scan_work); /* when it has begun, it is waited for */
    }
}
