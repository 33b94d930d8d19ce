/*
 * globs.c - the globs of `paths`, taken apart for a walk, and what a file's name tells.
 */
#include "internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

static bool has_wildcard(const char *text, size_t size)
{
    return memchr(text, '*', size) != NULL || memchr(text, '?', size) != NULL;
}

static int add_part(struct tf_path_glob *glob, const char *text, size_t size)
{
    char **parts = realloc(glob->parts, (glob->part_count + 1) * sizeof *parts);

    if (parts == NULL) {
        return -ENOMEM;
    }
    glob->parts = parts;
    parts[glob->part_count] = strndup(text, size);
    if (parts[glob->part_count] == NULL) {
        return -ENOMEM;
    }
    glob->part_count++;
    return 0;
}

/* `a / ** / b` names `a/b` too. */
static int keep_deep_text(struct tf_path_glob *glob, const char *normal)
{
    const char *deep = strstr(normal, "/**/");

    glob->text = strdup(normal);
    if (glob->text == NULL) {
        return -ENOMEM;
    }
    if (deep == NULL) {
        return 0;
    }
    glob->text_short = strdup(normal);
    if (glob->text_short == NULL) {
        return -ENOMEM;
    }
    (void)memmove(glob->text_short + (deep - normal), deep + 3, strlen(deep + 3) + 1);
    return 0;
}

int tf_path_glob_init(struct tf_path_glob *glob, const char *pattern)
{
    char normal[TF_FILE_PATH_MAX];
    const char *at = normal;
    int rc = tf_path_normalize(pattern, normal);

    *glob = (struct tf_path_glob){0};
    if (rc < 0) {
        return rc;
    }
    if (normal[1] == '\0') {
        return -EINVAL;
    }
    for (;;) { /* at stands on a slash */
        size_t part = strcspn(at + 1, "/");

        if (at[1 + part] == '\0' || has_wildcard(at + 1, part)) {
            break;
        }
        at += 1 + part;
    }
    glob->folder = strndup(normal, at == normal ? 1 : (size_t)(at - normal));
    if (glob->folder == NULL) {
        return -ENOMEM;
    }
    if (strstr(at, "**") != NULL) {
        return keep_deep_text(glob, normal);
    }
    while (*at == '/' && rc == 0) {
        size_t part = strcspn(at + 1, "/");

        rc = add_part(glob, at + 1, part);
        at += 1 + part;
    }
    return rc;
}

void tf_path_glob_fini(struct tf_path_glob *glob)
{
    for (size_t i = 0; i < glob->part_count; i++) {
        free(glob->parts[i]);
    }
    free(glob->parts);
    free(glob->folder);
    free(glob->text);
    free(glob->text_short);
    *glob = (struct tf_path_glob){0};
}

bool tf_path_join(const char *dir, const char *name, char out[TF_FILE_PATH_MAX])
{
    int size = snprintf(out, TF_FILE_PATH_MAX, "%s/%s", dir, name);

    return size >= 0 && (unsigned)size < TF_FILE_PATH_MAX;
}

static bool has_ending(const char *name, const char *ending)
{
    size_t size = strlen(name), ending_size = strlen(ending);

    return size > ending_size && strcmp(name + size - ending_size, ending) == 0;
}

bool tf_is_compressed_name(const char *name)
{
    static const char *const endings[] = {".tmp", ".bz2", ".xz", ".zst", ".zip"};

    for (size_t i = 0; i < TF_COUNT(endings); i++) {
        if (has_ending(name, endings[i])) {
            return true;
        }
    }
    return false;
}

bool tf_is_gzip_name(const char *name)
{
    return has_ending(name, TF_GZIP_ENDING);
}

/* The path dir/name[0..size) matches one of the glob's two texts. */
static bool deep_names(const struct tf_path_glob *glob, const char *dir, const char *name,
                       size_t size)
{
    char path[TF_FILE_PATH_MAX];
    int length = snprintf(path, sizeof path, "%s/%.*s", dir, (int)size, name);

    if (length < 0 || (size_t)length >= sizeof path) {
        return false;
    }
    return tf_glob_match(glob->text, tf_slice(path, (size_t)length), '/') ||
           (glob->text_short != NULL &&
            tf_glob_match(glob->text_short, tf_slice(path, (size_t)length), '/'));
}

bool tf_path_glob_names(const struct tf_path_glob *glob, const char *dir, const char *name,
                        size_t size)
{
    if (name[0] == '.') {
        return false; /* hidden, as for a shell */
    }
    if (glob->text != NULL) {
        return deep_names(glob, dir, name, size);
    }
    return tf_glob_match(glob->parts[glob->part_count - 1], tf_slice(name, size), '/');
}

bool tf_path_glob_descends(const struct tf_path_glob *glob, size_t part, const char *name)
{
    return (name[0] != '.' || glob->parts[part][0] == '.') &&
           tf_glob_match(glob->parts[part], tf_slice_text(name), '/');
}

int tf_path_glob_depth(const struct tf_path_glob *glob, const char *dir)
{
    size_t size = strcmp(glob->folder, "/") == 0 ? 0 : strlen(glob->folder);
    int depth = 0;

    if (strncmp(dir, glob->folder, size) != 0 || (dir[size] != '/' && dir[size] != '\0')) {
        return -1;
    }
    for (const char *at = dir + size; *at == '/'; depth++) {
        char part[NAME_MAX + 1];
        size_t part_size = strcspn(at + 1, "/");

        if (part_size > NAME_MAX || depth == (int)TF_DEPTH_MAX) {
            return -1;
        }
        memcpy(part, at + 1, part_size);
        part[part_size] = '\0';
        if (glob->text == NULL && ((size_t)depth + 1 >= glob->part_count ||
                                   !tf_path_glob_descends(glob, (size_t)depth, part))) {
            return -1;
        }
        at += 1 + part_size;
    }
    return depth;
}

bool tf_path_glob_takes(const struct tf_path_glob *glob, const char *dir, const char *name)
{
    int depth = tf_path_glob_depth(glob, dir);

    if (depth < 0 || (glob->text == NULL && (size_t)depth + 1 != glob->part_count)) {
        return false;
    }
    for (size_t size = strlen(name); size > 0; size--) {
        bool is_base = name[size] == '\0' || name[size] == '.' || name[size] == '-';

        if (is_base && tf_path_glob_names(glob, dir, name, size)) {
            return true;
        }
    }
    return false;
}

uint64_t tf_path_hash(struct tf_slice base)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325); /* FNV-1a */

    for (size_t i = 0; i < base.size; i++) {
        hash = (hash ^ (uint8_t)base.data[i]) * UINT64_C(0x100000001b3);
    }
    return hash;
}
