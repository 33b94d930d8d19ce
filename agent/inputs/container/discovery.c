/*
 * discovery.c - the walk over the globs: which files there are, now.
 *
 * Runs on a worker, from the fixed folder of each glob down, directory by directory through the
 * opener, and only into those that a glob can name. It sees primaries (a glob names them) and
 * siblings (what rotation made of one: the primary's name, then '.' or '-' and anything). A file
 * that is already followed is known by its identity and not opened again. What an unknown
 * sibling is tells judge.c; other compressed files are passed over. A link's path tells the names,
 * the file it leads to is the identity, and siblings are looked for where it leads: rotation
 * happens there.
 *
 * A look (scan->only) goes the same way below single paths, sees primaries only, and concludes
 * nothing.
 *
 * Bounds: TF_FILES_MAX files, ENTRIES_MAX names, TF_DEPTH_MAX folders deep, open_max descriptors;
 * past one of them the scan is not complete, and nothing is concluded from what it did not find.
 */
#include "internal.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define ENTRIES_MAX (1u << 20)
#define LOOK_BACK_BYTES                                                                            \
    65536u /* with start_at newest: the last newline is looked for so far back */

struct walk {
    struct tf_scan *scan;
    const struct tf_path_glob *glob;
    char path[TF_FILE_PATH_MAX]; /* of the directory */
    size_t size;
    unsigned depth;
    uint32_t entries;
};

/* ---- names ------------------------------------------------------------------------------------
 */

static bool names(const struct walk *walk, const char *name, size_t size)
{
    return tf_path_glob_names(walk->glob, walk->path, name, size);
}

/* Something stands in the folder under the first size characters of name. */
static bool exists(const struct tf_scan *scan, const char *dir_path, const char *name, size_t size)
{
    char base[NAME_MAX + 1], path[TF_FILE_PATH_MAX];
    struct tf_opened seen;

    memcpy(base, name, size);
    base[size] = '\0';
    return tf_path_join(dir_path, base, path) &&
           (tf_opener_look(scan->opener, path, &seen, NULL) == 0 || seen.is_link);
}

/* What is left of a name when rotation's ending is taken off: the size of the base's name, 0 when
 * none. */
static size_t sibling_base(const struct walk *walk, const char *name)
{
    size_t size = strlen(name);
    bool is_primary = names(walk, name, size);

    for (size_t i = size; i-- > 1;) {
        if ((name[i] != '.' && name[i] != '-') || !names(walk, name, i)) {
            continue;
        }
        if (!is_primary) {
            return i;
        }
        if (strspn(name + i, "0123456789.-:+_TZ") < size - i) {
            continue; /* a glob like `*` names both; only numbers and times make a sibling then */
        }
        if (exists(walk->scan, walk->path, name, i)) {
            return i;
        }
    }
    return 0;
}

/* ---- what is found
 * -------------------------------------------------------------------------------- */

static int compare_known(const void *a, const void *b)
{
    return tf_file_id_compare(a, b);
}

void tf_scan_sort_known(struct tf_scan *scan)
{
    if (scan->known_count > 0) {
        qsort(scan->known, scan->known_count, sizeof *scan->known, compare_known);
    }
}

const struct tf_known *tf_scan_known(const struct tf_scan *scan, const struct tf_file_id *id)
{
    static_assert(offsetof(struct tf_known, id) == 0, "the key is compared as an id");
    return scan->known_count == 0
               ? NULL
               : bsearch(id, scan->known, scan->known_count, sizeof *scan->known, compare_known);
}

static void note_found(struct tf_scan *scan, const struct tf_file_id *id)
{
    const struct tf_known *known = tf_scan_known(scan, id);

    if (known != NULL) {
        scan->known[known - scan->known].is_found = true;
    }
}

/* Takes found->base and found->fd. */
static void add_found(struct tf_scan *scan, struct tf_found *found)
{
    if (scan->found_count == scan->found_capacity && scan->found_capacity < TF_FILES_MAX) {
        size_t capacity = scan->found_capacity == 0 ? 64 : scan->found_capacity * 2;
        struct tf_found *grown = realloc(scan->found, capacity * sizeof *grown);

        if (grown != NULL) {
            scan->found = grown;
            scan->found_capacity = capacity;
        }
    }
    if (found->base == NULL || scan->found_count == scan->found_capacity) {
        scan->is_complete = false;
        free(found->base);
        free(found->start);
        if (found->fd >= 0) {
            (void)close(found->fd);
        }
        return;
    }
    scan->found[scan->found_count++] = *found;
    note_found(scan, &found->id);
}

void tf_scan_fini(struct tf_scan *scan)
{
    for (size_t i = 0; i < scan->found_count; i++) {
        free(scan->found[i].base);
        free(scan->found[i].start);
        if (scan->found[i].fd >= 0) {
            (void)close(scan->found[i].fd);
        }
    }
    for (size_t i = 0; i < scan->only_count; i++) {
        free(scan->only[i]);
    }
    free(scan->only);
    free(scan->found);
    free(scan->known);
    tf_snapshot_fini(&scan->snapshot);
    *scan = (struct tf_scan){0};
}

static bool any_matches(const struct tf_texts *globs, struct tf_slice name)
{
    for (size_t i = 0; i < globs->count; i++) {
        if (name.size > 0 && tf_glob_match(globs->items[i].text, name, '\0')) {
            return true;
        }
    }
    return false;
}

/* All lists of `include` that are written must name it, no list of `exclude` may. */
static bool is_selected(const struct tf_scan *scan, const char *base)
{
    struct tf_log_path path;

    (void)tf_log_path_parse(tf_slice_text(base), &path); /* empty when it tells nothing */
    if (any_matches(&scan->exclude->namespaces, path.namespace_name) ||
        any_matches(&scan->exclude->pods, path.pod_name) ||
        any_matches(&scan->exclude->containers, path.container_name)) {
        return false;
    }
    return (scan->include->namespaces.count == 0 ||
            any_matches(&scan->include->namespaces, path.namespace_name)) &&
           (scan->include->pods.count == 0 || any_matches(&scan->include->pods, path.pod_name)) &&
           (scan->include->containers.count == 0 ||
            any_matches(&scan->include->containers, path.container_name));
}

/* What is gone meanwhile is nothing to tell, nor each file that a lost opener does not open. */
static void tell_unreadable(struct tf_scan *scan, const char *path, int rc, const char *why)
{
    if (rc != -ENOENT && rc != -ESHUTDOWN) {
        scan->unreadable++;
        tf_log(TF_LOG_WARN, "unreadable", TF_DETAILS(TF_STR("path", path)), "not read: %s", why);
    }
}

/* ---- candidates
 * ------------------------------------------------------------------------------------ */

/* Where the last whole line ends. */
static uint64_t newest_start(int fd, uint64_t size)
{
    char block[4096];
    uint64_t end = size, limit = size > LOOK_BACK_BYTES ? size - LOOK_BACK_BYTES : 0;

    while (end > limit) {
        size_t want = end - limit < sizeof block ? (size_t)(end - limit) : sizeof block;
        ssize_t got = pread(fd, block, want, (off_t)(end - want));
        const char *newline = got > 0 ? memrchr(block, '\n', (size_t)got) : NULL;

        if (newline != NULL) {
            return end - want + (size_t)(newline - block) + 1;
        }
        end -= want;
    }
    return limit == 0 ? 0 : size;
}

/* 0, or -ENOMEM: then it is found again by the next scan. */
static int set_start(struct tf_found *found)
{
    uint64_t at = newest_start(found->fd, found->size);
    struct tf_position *start = calloc(1, sizeof *start);

    if (start == NULL) {
        return -ENOMEM;
    }
    if (tf_file_print(found->fd, at, &start->prints[0]) == 0) {
        for (unsigned i = 0; i < TF_STREAMS; i++) {
            start->done[i] = at;
        }
    }
    found->start = start;
    return 0;
}

static bool needs_no_opening(const struct tf_known *known, uint64_t size)
{
    return known != NULL &&
           (known->is_followed || (known->is_finished && (known->is_gzip || known->size == size)));
}

/* Finds out what the compressed sibling at path is, which is not known. */
static void judge(struct tf_scan *scan, const char *path, const struct tf_opened *opened,
                  struct tf_found *found)
{
    found->verdict = tf_judge(scan, opened, tf_path_hash(tf_slice_text(found->base)), found);
    if (found->verdict == TF_VERDICT_REFUSED) {
        tell_unreadable(scan, path, -EFBIG, "its text has more than 4 GiB");
    }
    found->is_left_out = found->verdict == TF_VERDICT_WAIT || found->verdict == TF_VERDICT_REFUSED;
}

bool tf_scan_is_final(int rc)
{
    return rc == -EPERM || rc == -ENOENT || rc == -ELOOP;
}

/* Opens what is not known yet, which stands at path. False: it is not to be read (now). */
static bool open_found(struct tf_scan *scan, const struct tf_candidate *place, const char *path,
                       struct tf_found *found)
{
    const struct tf_known *known;
    struct tf_opened opened;
    int rc = tf_opener_file(scan->opener, path, &opened);

    if (rc < 0) {
        scan->is_complete = scan->is_complete && tf_scan_is_final(rc);
        tell_unreadable(scan, path, rc, opened.why);
        found->is_left_out = true;
        return rc != -ENOENT;
    }
    found->id = opened.id;
    found->size = opened.size;
    found->changed_ns = opened.changed_ns;
    known = tf_scan_known(scan, &opened.id);
    found->is_cut = known != NULL && !known->is_followed && !known->is_finished &&
                    !found->is_gzip && known->prints[0].offset > 0 &&
                    !tf_file_matches(opened.fd, &known->prints[0]);
    if (found->is_gzip && known == NULL) {
        judge(scan, path, &opened, found);
    } else if (found->is_sibling && known == NULL &&
               tf_judge_copy(scan, place, &opened, found) < 0) {
        found->is_left_out = true;
        scan->is_complete = false;
    }
    if (found->is_left_out || scan->keeps_none || needs_no_opening(known, opened.size)) {
        (void)close(opened.fd);
        return true;
    }
    if (scan->opened >= scan->open_max) {
        (void)close(opened.fd);
        scan->is_complete = false;
        return false;
    }
    found->fd = opened.fd;
    if (scan->start_newest && known == NULL && !found->is_gzip && set_start(found) < 0) {
        (void)close(opened.fd);
        scan->is_complete = false;
        return false;
    }
    scan->opened++;
    return true;
}

/* What rotation put behind the base's name; it tells the order of siblings. */
static void set_suffix(struct tf_found *found, const struct tf_candidate *place)
{
    const char *suffix = place->name + place->base_size;
    size_t size = strlen(suffix);

    found->is_gzip = size > 0 && tf_is_gzip_name(place->name);
    size -= found->is_gzip ? sizeof TF_GZIP_ENDING - 1 : 0;
    size = size < sizeof found->suffix ? size : sizeof found->suffix - 1;
    memcpy(found->suffix, suffix, size); /* zeroed behind */
}

/* Takes over what stands at path, as it was seen. */
static void take(struct tf_scan *scan, const struct tf_candidate *place, const char *path,
                 const struct tf_opened *seen)
{
    struct tf_found found = {.fd = -1,
                             .id = seen->id,
                             .size = seen->size,
                             .changed_ns = seen->changed_ns,
                             .base = strdup(place->base),
                             .is_sibling = place->name[place->base_size] != '\0',
                             .is_first_glob = place->is_first_glob};

    if (found.base == NULL) {
        scan->is_complete = false;
        return;
    }
    set_suffix(&found, place);
    found.is_left_out = !is_selected(scan, place->base);
    found.has_successor =
        found.is_sibling && exists(scan, place->dir_path, place->name, place->base_size);
    if (!found.is_left_out && /* whether a link's target may be read is not known yet */
        (seen->is_link || !needs_no_opening(tf_scan_known(scan, &found.id), found.size)) &&
        !open_found(scan, place, path, &found)) {
        free(found.base);
        return;
    }
    add_found(scan, &found);
}

/* True when it is a link, and there may be more where that leads, which goes to target. */
static bool look_at(struct tf_scan *scan, const struct tf_candidate *place,
                    char target[TF_FILE_PATH_MAX])
{
    char path[TF_FILE_PATH_MAX];
    struct tf_opened seen;
    int rc;

    if (!tf_path_join(place->dir_path, place->name, path)) {
        return false;
    }
    rc = tf_opener_look(scan->opener, path, &seen, target);
    if (rc < 0 && !seen.is_link) {
        scan->is_complete = false; /* renamed right now: look again */
        return false;
    }
    if (rc == 0 && S_ISDIR(seen.mode) && !seen.is_link) {
        return false;
    }
    if (rc < 0 || is_selected(scan, place->base)) { /* what is refused too: it may become fine */
        tf_snapshot_note(&scan->snapshot, path, rc, &seen);
    }
    take(scan, place, path, &seen);
    return seen.is_link && (rc == 0 || rc == -ENOENT);
}

/* Counts a name of a directory; past the bound the scan is not complete. */
static bool may_look_on(struct walk *walk, const struct dirent *entry)
{
    struct tf_scan *scan = walk->scan;

    if (entry == NULL || ++walk->entries > ENTRIES_MAX) {
        scan->is_complete = scan->is_complete && entry == NULL && (errno == 0 || errno == ENOENT);
        return false;
    }
    return true;
}

/* Before a directory is listed, so that nothing falls between. */
static void watch_dir(struct tf_scan *scan, int fd, const char *path)
{
    int rc = tf_looker_watch(scan->looker, fd, path);

    tf_snapshot_add_dir(&scan->snapshot, fd, path);
    scan->watch_error = rc < 0 ? rc : scan->watch_error;
}

static bool is_first_glob(const struct walk *walk)
{
    return walk->glob == walk->scan->globs;
}

int tf_scan_list_folder(const struct tf_opener *opener, char path[TF_FILE_PATH_MAX],
                        const char **name, DIR **out)
{
    char *slash = strrchr(path, '/');
    const char *why;
    DIR *dir;
    int fd;

    *slash = '\0';
    *name = slash + 1;
    fd = tf_opener_dir(opener, path[0] == '\0' ? "/" : path, &why);
    dir = fd < 0 ? NULL : fdopendir(fd);
    if (dir == NULL) {
        int rc = fd < 0 ? fd : -errno;

        if (fd >= 0) {
            (void)close(fd);
        }
        return rc;
    }
    *out = dir;
    return 0;
}

/* The siblings of what a link means, which is at path: base is the link's path. */
static void look_behind_link(struct walk *walk, char path[TF_FILE_PATH_MAX], const char *base)
{
    char other[TF_FILE_PATH_MAX];
    struct tf_candidate place = {
        .dir_path = path, .base = base, .is_first_glob = is_first_glob(walk)};
    const char *target;
    DIR *dir;

    if (tf_scan_list_folder(walk->scan->opener, path, &target, &dir) < 0) {
        return; /* what is wrong with the link was told when it was looked at */
    }

    watch_dir(walk->scan, dirfd(dir), path);
    place.base_size = strlen(target);
    for (;;) {
        const struct dirent *entry;

        errno = 0;
        entry = readdir(dir);
        if (!may_look_on(walk, entry)) {
            break;
        }
        place.name = entry->d_name;
        if (strncmp(place.name, target, place.base_size) == 0 &&
            (place.name[place.base_size] == '.' || place.name[place.base_size] == '-') &&
            entry->d_type != DT_DIR && !tf_is_compressed_name(place.name)) {
            (void)look_at(walk->scan, &place, other);
        }
    }
    (void)closedir(dir);
}

/* How much of name is the primary's name; 0: it is not for this glob. */
static size_t base_size_of(const struct walk *walk, const char *name, bool is_gzip)
{
    char plain[NAME_MAX + 1];
    size_t size = strlen(name) - (is_gzip ? sizeof TF_GZIP_ENDING - 1 : 0), base_size;

    if (size > NAME_MAX) {
        return 0;
    }
    memcpy(plain, name, size);
    plain[size] = '\0';
    base_size = sibling_base(walk, plain);
    return base_size == 0 && names(walk, plain, size) ? size : base_size;
}

static void candidate(struct walk *walk, const char *name)
{
    char base[TF_FILE_PATH_MAX], target[TF_FILE_PATH_MAX];
    bool is_gzip = tf_is_gzip_name(name), is_sibling;
    struct tf_candidate place = {
        .dir_path = walk->path, .name = name, .base = base, .is_first_glob = is_first_glob(walk)};

    if (name[0] == '.' || tf_is_compressed_name(name)) {
        return;
    }
    place.base_size = base_size_of(walk, name, is_gzip);
    is_sibling = name[place.base_size] != '\0';
    if (place.base_size == 0 || walk->size + place.base_size + 2 > sizeof base ||
        (is_sibling && walk->scan->only != NULL)) { /* the scan knows what it could be a copy of */
        return;
    }
    memcpy(base, walk->path, walk->size);
    base[walk->size] = '/';
    memcpy(base + walk->size + 1, name, place.base_size);
    base[walk->size + 1 + place.base_size] = '\0';
    if (look_at(walk->scan, &place, target) && !is_sibling) {
        look_behind_link(walk, target, base);
    }
}

/* ---- the walk
 * --------------------------------------------------------------------------------------- */

static void walk_dir(struct walk *walk, int fd, size_t part);

static void descend(struct walk *walk, const char *name, size_t part)
{
    size_t size = walk->size, name_size = strlen(name);
    const char *why;
    int fd;

    if (size + 1 + name_size >= sizeof walk->path || walk->depth == TF_DEPTH_MAX) {
        walk->scan->is_complete = false;
        return;
    }
    walk->path[size] = '/';
    memcpy(walk->path + size + 1, name, name_size + 1);
    walk->size = size + 1 + name_size;
    fd = tf_opener_dir(walk->scan->opener, walk->path, &why);
    if (fd >= 0) {
        walk->depth++;
        walk_dir(walk, fd, part);
        walk->depth--;
    } else if (fd != -ENOENT && fd != -ENOTDIR && fd != -ELOOP) {
        walk->scan->is_complete = walk->scan->is_complete && fd == -EPERM;
        tf_snapshot_add(&walk->scan->snapshot, walk->scan->opener, walk->path);
        tell_unreadable(walk->scan, walk->path, fd, why);
    } /* else gone meanwhile, a file, or a link: folders are not reached through links */
    walk->size = size;
    walk->path[size] = '\0';
}

/* type: as readdir has it. */
static void visit(struct walk *walk, const char *name, unsigned char type, size_t part)
{
    const struct tf_path_glob *glob = walk->glob;
    bool may_be_dir = type == DT_DIR || type == DT_UNKNOWN;

    if (glob->text != NULL) {
        if (may_be_dir && name[0] != '.') {
            descend(walk, name, 0);
        }
        if (type != DT_DIR) {
            candidate(walk, name);
        }
    } else if (part + 1 == glob->part_count) {
        if (type != DT_DIR) {
            candidate(walk, name);
        }
    } else if (may_be_dir && tf_path_glob_descends(glob, part, name)) {
        descend(walk, name, part + 1);
    }
}

/* Takes fd. */
static void list_dir(struct walk *walk, int fd, size_t part)
{
    DIR *dir = fdopendir(fd);

    if (dir == NULL) {
        (void)close(fd);
        walk->scan->is_complete = false;
        return;
    }
    for (;;) {
        const struct dirent *entry;

        errno = 0;
        entry = readdir(dir);
        if (!may_look_on(walk, entry)) {
            break;
        }
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            visit(walk, entry->d_name, entry->d_type, part);
        }
    }
    (void)closedir(dir);
}

/* Takes fd. */
static void walk_dir(struct walk *walk, int fd, size_t part)
{
    const struct tf_path_glob *glob = walk->glob;

    watch_dir(walk->scan, fd, walk->path);
    if (glob->text == NULL && part + 1 < glob->part_count &&
        strpbrk(glob->parts[part], "*?") == NULL) {
        (void)close(fd);
        descend(walk, glob->parts[part], part + 1);
        return;
    }
    list_dir(walk, fd, part);
}

/* The whole tree of a glob. */
static void walk_glob(struct tf_scan *scan, const struct tf_path_glob *glob)
{
    struct walk walk = {.scan = scan, .glob = glob};
    const char *why = NULL;
    int fd;

    walk.size = strlen(glob->folder);
    memcpy(walk.path, glob->folder, walk.size + 1);
    if (strcmp(walk.path, "/") == 0) {
        walk.path[0] = '\0';
        walk.size = 0;
    }
    fd = tf_opener_dir(scan->opener, glob->folder, &why);
    if (fd >= 0) {
        walk_dir(&walk, fd, 0);
    } else if (fd == -ENOENT) {
        tf_snapshot_add(&scan->snapshot, scan->opener, glob->folder);
    } else {
        scan->is_complete = false;
        tell_unreadable(scan, glob->folder, fd, why);
    }
}

/* What stands under one path, where the glob can name it. */
static void walk_only(struct tf_scan *scan, const struct tf_path_glob *glob, const char *path)
{
    struct walk walk = {.scan = scan, .glob = glob};
    const char *slash = strrchr(path, '/');
    int depth;

    walk.size = (size_t)(slash - path);
    memcpy(walk.path, path, walk.size);
    walk.path[walk.size] = '\0';
    depth = tf_path_glob_depth(glob, walk.path);
    if (depth < 0) {
        return;
    }
    walk.depth = (unsigned)depth;
    visit(&walk, slash + 1, DT_UNKNOWN, glob->text != NULL ? 0 : (size_t)depth);
}

void tf_scan_run(struct tf_scan *scan)
{
    scan->is_complete = true;
    if (scan->only == NULL) {
        tf_snapshot_begin(&scan->snapshot);
    }
    for (size_t i = 0; i < scan->glob_count; i++) {
        if (scan->only == NULL) {
            walk_glob(scan, &scan->globs[i]);
        }
        assert(scan->only != NULL || scan->only_count == 0);
        for (size_t j = 0; j < scan->only_count; j++) {
            walk_only(scan, &scan->globs[i], scan->only[j]);
        }
    }
}
