/*
 * needs.c - what plugins have said they need, as rules of Landlock; all else is refused.
 *
 *     READ     the file, or the folder and all below. Where it is not there yet the nearest folder
 *              above it that is: logs come into new folders. But none that holds more than logs
 *     READ_NOW the file or folder, and nothing in place of it
 *     LOOK     nothing; but it is seen when another takes its name (stale.c)
 *     FRESH    the folder of the file, so that another that takes its name is read too; the file
 *              alone where its folder holds more than that
 *     WRITE    the folder, to make, read, write and remove files in; no links, no folders
 *     SOCKET   the folder of the path, to make and remove sockets in
 *     RUN      the program and the loader of ours, to execute; what libsystemd reads
 *     NAMES    names.c
 *     common   (but in the opener) shared libraries: the C library loads some when it first needs
 *              them; (but in the launcher) /proc/self, /dev/null, /dev/urandom
 */
#include "internal.h"

#include <elf.h>
#include <errno.h>
#include <limits.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "taffrail/log.h"

#define NEEDS_MAX 16384u /* more than a configuration can name; past it is an error */

struct need {
    enum tf_need kind;
    char *path; /* owned; NULL: port or names */
    uint16_t port;
};

struct tf_needs {
    struct need *items;
    size_t count, capacity;
    bool no_memory;
};

/* ---- the list ------------------------------------------------------------------------------- */

struct tf_needs *tf_needs_new(void)
{
    return calloc(1, sizeof(struct tf_needs));
}

void tf_needs_free(struct tf_needs *needs)
{
    if (needs == NULL) {
        return;
    }
    for (size_t i = 0; i < needs->count; i++) {
        free(needs->items[i].path);
    }
    free(needs->items);
    free(needs);
}

static void add(struct tf_needs *needs, struct need need)
{
    size_t capacity = needs->capacity == 0 ? 32 : 2 * needs->capacity;

    if (needs->count == needs->capacity) {
        struct need *items =
            capacity <= NEEDS_MAX ? realloc(needs->items, capacity * sizeof *items) : NULL;
        if (items == NULL) {
            needs->no_memory = true;
            free(need.path);
            return;
        }
        needs->items = items;
        needs->capacity = capacity;
    }
    needs->items[needs->count++] = need;
}

void tf_needs_path(struct tf_needs *needs, enum tf_need kind, const char *path)
{
    char *copy = strdup(path);

    if (copy == NULL) {
        needs->no_memory = true;
        return;
    }
    add(needs, (struct need){.kind = kind, .path = copy});
}

void tf_needs_port(struct tf_needs *needs, enum tf_need kind, uint16_t port)
{
    add(needs, (struct need){.kind = kind, .port = port});
}

void tf_needs_names(struct tf_needs *needs)
{
    add(needs, (struct need){.kind = TF_NEED_NAMES});
}

bool tf_needs_run_programs(const struct tf_needs *needs)
{
    for (size_t i = 0; i < needs->count; i++) {
        if (needs->items[i].kind == TF_NEED_RUN) {
            return true;
        }
    }
    return false;
}

bool tf_needs_root(const struct tf_needs *needs)
{
    for (size_t i = 0; i < needs->count; i++) {
        if (needs->items[i].kind == TF_NEED_READ && strcmp(needs->items[i].path, "/") == 0) {
            return true;
        }
    }
    return false;
}

/* ---- as rules ------------------------------------------------------------------------------- */

static void allow_all(const struct tf_landlock *rules, const char *const *paths, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        (void)tf_landlock_allow(rules, paths[i], TF_LANDLOCK_READ);
    }
}

bool tf_needs_folder(const char *path, char out[PATH_MAX])
{
    size_t size = strlen(path);

    while (size > 1 && path[size - 1] == '/') {
        size--;
    }
    while (size > 0 && path[size - 1] != '/') {
        size--;
    }
    if (size <= 1 || size >= PATH_MAX) {
        return false;
    }
    memcpy(out, path, size - 1);
    out[size - 1] = '\0';
    return true;
}

/* Folders that hold more than logs. */
static bool is_wide(const char *folder)
{
    static const char *const wide[] = {"/var", "/var/lib", "/run", "/etc",
                                       "/usr", "/home",    "/root"};

    for (size_t i = 0; i < TF_COUNT(wide); i++) {
        if (strcmp(folder, wide[i]) == 0) {
            return true;
        }
    }
    return false;
}

static void tell_missing(const char *path)
{
    tf_log(TF_LOG_INFO, "sandbox-missing", TF_DETAILS(TF_STR("path", path)),
           "not there yet; once it is, the agent reads it after another start");
}

static void allow_reading(const struct tf_landlock *rules, const char *path)
{
    char folder[PATH_MAX], above[PATH_MAX];
    bool is_there = tf_landlock_allow(rules, path, TF_LANDLOCK_READ);

    if (is_there || errno != ENOENT) {
        return;
    }
    (void)snprintf(folder, sizeof folder, "%s", path);
    while (!is_there && tf_needs_folder(folder, above) && !is_wide(above)) {
        is_there = tf_landlock_allow(rules, above, TF_LANDLOCK_READ);
        memcpy(folder, above, sizeof folder);
    }
    if (!is_there) {
        tell_missing(path);
    }
}

/* What starts a program that is linked as we are (ld.so(8)). */
static int find_loader(struct dl_phdr_info *info, size_t size, void *loader)
{
    (void)size;
    for (unsigned i = 0; i < info->dlpi_phnum; i++) {
        if (info->dlpi_phdr[i].p_type == PT_INTERP) {
            (void)snprintf(loader, PATH_MAX, "%s",
                           (const char *)(info->dlpi_addr + info->dlpi_phdr[i].p_vaddr));
        }
    }
    return 1; /* the first is the program itself */
}

static void allow_running(const struct tf_landlock *rules, const char *program)
{
    static const char *const read[] = {"/etc/ld.so.cache", "/etc/machine-id",
                                       "/proc/sys/kernel/random"};
    const uint64_t rights = TF_LANDLOCK_EXECUTE | TF_LANDLOCK_READ_FILE;
    char loader[PATH_MAX] = "";

    (void)dl_iterate_phdr(find_loader, loader);
    (void)tf_landlock_allow(rules, loader, rights);
    (void)tf_landlock_allow(rules, program, rights);
    allow_all(rules, read, TF_COUNT(read));
}

/* False: no memory. */
static bool allow_need(const struct tf_landlock *rules, const struct need *need)
{
    char folder[PATH_MAX];

    switch (need->kind) {
    case TF_NEED_READ:
        allow_reading(rules, need->path);
        return tf_stale_note(need->path, false);
    case TF_NEED_READ_NOW:
        if (!tf_landlock_allow(rules, need->path, TF_LANDLOCK_READ)) {
            tell_missing(need->path);
        }
        break;
    case TF_NEED_LOOK:
        return tf_stale_note(need->path, false);
    case TF_NEED_FRESH:
        allow_reading(rules, tf_needs_folder(need->path, folder) && !is_wide(folder) ? folder
                                                                                     : need->path);
        return tf_stale_note(need->path, false);
    case TF_NEED_WRITE:
        (void)tf_landlock_allow(rules, need->path,
                                TF_LANDLOCK_READ | TF_LANDLOCK_WRITE_FILE | TF_LANDLOCK_TRUNCATE |
                                    TF_LANDLOCK_MAKE_REG | TF_LANDLOCK_REMOVE_FILE);
        return tf_stale_note(need->path, false);
    case TF_NEED_SOCKET:
        (void)tf_landlock_allow(rules, tf_needs_folder(need->path, folder) ? folder : "/",
                                TF_LANDLOCK_MAKE_SOCK | TF_LANDLOCK_REMOVE_FILE);
        break;
    case TF_NEED_RUN:
        allow_running(rules, need->path);
        break;
    case TF_NEED_CONNECT:
        tf_landlock_allow_port(rules, need->port, TF_LANDLOCK_CONNECT_TCP);
        break;
    case TF_NEED_LISTEN:
        tf_landlock_allow_port(rules, need->port, TF_LANDLOCK_BIND_TCP);
        break;
    case TF_NEED_NAMES:
        return tf_names_allow(rules);
    }
    return true;
}

static void allow_common(const struct tf_landlock *rules, enum tf_common common)
{
    static const char *const libraries[] = {"/lib", "/lib64", "/usr/lib", "/usr/lib64",
                                            "/usr/local/lib"};
    static const char *const others[] = {"/proc/self", "/dev/urandom"};

    if (common != TF_COMMON_NONE) {
        allow_all(rules, libraries, TF_COUNT(libraries));
    }
    if (common == TF_COMMON_ALL) {
        allow_all(rules, others, TF_COUNT(others));
        (void)tf_landlock_allow(rules, "/dev/null", TF_LANDLOCK_READ_FILE | TF_LANDLOCK_WRITE_FILE);
    }
}

int tf_needs_enforce(const struct tf_needs *needs, enum tf_common common)
{
    struct tf_landlock rules;
    bool is_noted = true;

    if (needs->no_memory) {
        return -ENOMEM;
    }
    if (!tf_landlock_begin(&rules, true, TF_LANDLOCK_SCOPE_SIGNAL | TF_LANDLOCK_SCOPE_ABSTRACT)) {
        return 0;
    }
    tf_sandbox_raise(); /* logs may lie in folders that only root enters */
    allow_common(&rules, common);
    for (size_t i = 0; i < needs->count; i++) {
        is_noted &= allow_need(&rules, &needs->items[i]);
    }
    tf_sandbox_lower();
    if (!is_noted) {
        (void)close(rules.fd);
        return -ENOMEM;
    }
    return tf_landlock_enforce(&rules);
}
