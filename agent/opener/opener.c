/*
 * opener.c - what may be opened, and whoever asks for it.
 *
 * A path is taken apart into a root and what lies below it, and what is asked is done here
 * (rules.c) or by the process (process.c). Both give the same answers.
 */
#include "internal.h"

#include <assert.h>
#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <uv.h>

#define ROOTS_MAX  1024u
#define OWNERS_MAX 64u
#define NO_GROUP   UINT32_MAX

/* ---- paths ------------------------------------------------------------------------------------
 */

/* Drops the last component of out. */
static size_t go_up(const char *out, size_t size)
{
    while (size > 0 && out[size - 1] != '/') {
        size--;
    }
    return size > 0 ? size - 1 : 0;
}

int tf_path_normalize(const char *path, char out[TF_FILE_PATH_MAX])
{
    size_t size = 0;

    if (path[0] != '/') {
        return -EINVAL;
    }
    while (*path != '\0') {
        size_t part = strcspn(path, "/");

        if (part == 2 && memcmp(path, "..", 2) == 0) {
            size = go_up(out, size);
        } else if (part > 0 && !(part == 1 && path[0] == '.')) {
            if (size + 1 + part + 1 > TF_FILE_PATH_MAX) {
                return -EMSGSIZE;
            }
            out[size++] = '/';
            memcpy(out + size, path, part);
            size += part;
        }
        path += part;
        path += *path == '/' ? 1 : 0;
    }
    if (size == 0) {
        out[size++] = '/';
    }
    out[size] = '\0';
    return 0;
}

static size_t root_size(const char *root)
{
    return strcmp(root, "/") == 0 ? 0 : strlen(root);
}

int tf_opener_find(const struct tf_opener *opener, const char *path, struct tf_spot *out)
{
    size_t found = opener->root_count, found_size = 0;

    for (size_t i = 0; i < opener->root_count; i++) {
        size_t size = root_size(opener->roots[i]);

        if (strncmp(path, opener->roots[i], size) == 0 &&
            (path[size] == '/' || path[size] == '\0') &&
            (found == opener->root_count || size > found_size)) {
            found = i;
            found_size = size;
        }
    }
    if (found == opener->root_count || strlen(path) >= TF_FILE_PATH_MAX) {
        return -EPERM;
    }
    path += found_size;
    path += *path == '/';
    out->root = (uint16_t)found;
    (void)memmove(out->rest, path, strlen(path) + 1);
    return 0;
}

/* ---- making -----------------------------------------------------------------------------------
 */

static int add_owner(struct tf_opener *opener, uint32_t user, uint32_t group)
{
    struct tf_owner *owners;

    if (opener->owner_count == OWNERS_MAX) {
        return -EMSGSIZE;
    }
    owners = realloc(opener->owners, (opener->owner_count + 1) * sizeof *owners);
    if (owners == NULL) {
        return -ENOMEM;
    }
    opener->owners = owners;
    owners[opener->owner_count++] = (struct tf_owner){.user = user, .group = group};
    return 0;
}

int tf_opener_init(struct tf_opener *opener)
{
    int rc;

    *opener = (struct tf_opener){.roots = NULL};
    rc = add_owner(opener, 0, 0);
    return rc < 0 ? rc : add_owner(opener, geteuid(), getegid());
}

void tf_opener_fini(struct tf_opener *opener)
{
    for (size_t i = 0; i < opener->root_count; i++) {
        free(opener->roots[i]);
    }
    free(opener->roots);
    free(opener->owners);
    *opener = (struct tf_opener){.roots = NULL};
}

int tf_opener_add_root(struct tf_opener *opener, const char *path)
{
    char normal[TF_FILE_PATH_MAX];
    int rc = tf_path_normalize(path, normal);
    char **roots;

    if (rc < 0) {
        return rc;
    }
    if (opener->root_count == ROOTS_MAX) {
        return -EMSGSIZE;
    }
    roots = realloc(opener->roots, (opener->root_count + 1) * sizeof *roots);
    if (roots == NULL) {
        return -ENOMEM;
    }
    opener->roots = roots;
    roots[opener->root_count] = strdup(normal);
    if (roots[opener->root_count] == NULL) {
        return -ENOMEM;
    }
    opener->root_count++;
    return 0;
}

int tf_opener_add_owner(struct tf_opener *opener, const char *user)
{
    const struct passwd *entry = getpwnam(user); // NOLINT(concurrency-mt-unsafe): one thread
    unsigned long number;
    char *end;

    if (entry != NULL) {
        return add_owner(opener, entry->pw_uid, entry->pw_gid);
    }
    errno = 0;
    number = strtoul(user, &end, 10);
    if (user[0] < '0' || user[0] > '9' || *end != '\0' || errno != 0 || number >= UINT32_MAX) {
        return -ENOENT;
    }
    entry = getpwuid((uid_t)number); // NOLINT(concurrency-mt-unsafe): one thread
    return add_owner(opener, (uint32_t)number, entry != NULL ? entry->pw_gid : NO_GROUP);
}

/* ---- opening ----------------------------------------------------------------------------------
 */

/* To look and to watch asks for fewer rights than to open, and a request costs as much as ten
 * looks: so the process is asked only where this one may not. */
static bool is_refused_here(const struct tf_opener *opener, const struct tf_asked *asked,
                            struct tf_answer *answer)
{
    if (asked->op == TF_OPEN_FILE || asked->op == TF_OPEN_DIR) {
        return true;
    }
    tf_rules_perform(opener, asked, answer);
    return answer->rc == -EACCES;
}

static void perform(const struct tf_opener *opener, const struct tf_asked *asked,
                    struct tf_answer *answer)
{
    if (opener->process == NULL) {
        tf_rules_perform(opener, asked, answer);
    } else if (is_refused_here(opener, asked, answer)) {
        tf_process_perform(opener->process, opener->number, asked, answer);
    }
}

/* What stands at a path. */
static void perform_at(const struct tf_opener *opener, enum tf_open_op op, const char *path,
                       struct tf_answer *answer)
{
    struct tf_asked asked = {.op = op};
    int rc = tf_opener_find(opener, path, &asked.spot);

    if (rc < 0) {
        *answer = (struct tf_answer){.rc = rc, .why = TF_WHY_OUTSIDE, .opened = {.fd = -1}};
        return;
    }
    perform(opener, &asked, answer);
}

static const char *why_text(const struct tf_answer *answer)
{
    static const char *const texts[TF_WHYS] = {
        [TF_WHY_OUTSIDE] = "it leads out of link_roots",
        [TF_WHY_MOUNT] = "another file system is mounted there",
        [TF_WHY_FOLDER_OWNER] = "its folder belongs to another user",
        [TF_WHY_FOLDER_MODE] = "others may write to its folder",
        [TF_WHY_KIND] = "not a regular file",
        [TF_WHY_NAMES] = "it has several names (hard links)",
        [TF_WHY_OWNER] = "it belongs to another user",
        [TF_WHY_HOPS] = "too many links",
        [TF_WHY_GONE] = "the process that opens logs has ended",
    };

    assert(answer->why < TF_WHYS);
    return texts[answer->why] != NULL ? texts[answer->why] : uv_strerror(answer->rc);
}

/* The answer as the caller has it. */
static int take(const struct tf_answer *answer, struct tf_opened *out)
{
    *out = answer->opened;
    out->why = answer->rc < 0 ? why_text(answer) : NULL;
    return answer->rc;
}

int tf_opener_dir(const struct tf_opener *opener, const char *path, const char **why)
{
    struct tf_answer answer;
    struct tf_opened opened;
    int rc;

    perform_at(opener, TF_OPEN_DIR, path, &answer);
    rc = take(&answer, &opened);
    *why = opened.why;
    return rc < 0 ? rc : opened.fd;
}

int tf_opener_file(const struct tf_opener *opener, const char *path, struct tf_opened *out)
{
    struct tf_answer answer;

    perform_at(opener, TF_OPEN_FILE, path, &answer);
    return take(&answer, out);
}

/* The path of a spot. */
static bool join(const struct tf_opener *opener, const struct tf_spot *spot,
                 char out[TF_FILE_PATH_MAX])
{
    const char *root = opener->roots[spot->root];
    int size = snprintf(out, TF_FILE_PATH_MAX, "%.*s/%s", (int)root_size(root), root, spot->rest);

    return size >= 0 && (unsigned)size < TF_FILE_PATH_MAX;
}

int tf_opener_look(const struct tf_opener *opener, const char *path, struct tf_opened *out,
                   char place[TF_FILE_PATH_MAX])
{
    struct tf_answer answer;

    perform_at(opener, TF_OPEN_LOOK, path, &answer);
    if (place != NULL) {
        (void)snprintf(place, TF_FILE_PATH_MAX, "%s", path);
    }
    if (place != NULL && answer.opened.is_link && !join(opener, &answer.spot, place)) {
        answer.rc = -ENAMETOOLONG;
    }
    return take(&answer, out);
}

int tf_opener_watch(const struct tf_opener *opener, int inotify_fd, int fd, uint32_t mask)
{
    const struct tf_asked asked = {
        .op = TF_OPEN_WATCH, .inotify_fd = inotify_fd, .fd = fd, .mask = mask};
    struct tf_answer answer;

    perform(opener, &asked, &answer);
    return answer.rc < 0 ? answer.rc : answer.watch;
}
