/*
 * child.c - which program reads the journal's files, and what it is called with.
 *
 * taffrail-journal is the rule: it reads with libsystemd, sandboxed, three times as fast as
 * journalctl(1), and tells gaps exactly. journalctl is taken where it was not built. Both write the
 * export format to their stdout.
 */
#include "internal.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#ifndef TF_LIBEXEC_DIR
#define TF_LIBEXEC_DIR "/usr/libexec/taffrail"
#endif

/* ---- finding -------------------------------------------------------------------------------- */

static bool is_program(const char *path)
{
    return access(path, X_OK) == 0;
}

bool tf_child_find_reader(struct tf_child_program *out)
{
    size_t size = sizeof out->path;
    char *slash;

    out->is_journalctl = false;
    if (uv_exepath(out->path, &size) == 0) {
        slash = strrchr(out->path, '/');
        if (slash != NULL &&
            (size_t)(slash - out->path) + sizeof "/taffrail-journal" <= TF_PATH_MAX) {
            memcpy(slash, "/taffrail-journal", sizeof "/taffrail-journal");
            if (is_program(out->path)) {
                return true;
            }
        }
    }
    (void)snprintf(out->path, sizeof out->path, "%s/taffrail-journal", TF_LIBEXEC_DIR);
    return is_program(out->path);
}

static bool find_journalctl(struct tf_child_program *out)
{
    static const char *const places[] = {"/usr/bin/journalctl", "/bin/journalctl"};

    out->is_journalctl = true;
    for (size_t i = 0; i < TF_COUNT(places); i++) {
        (void)snprintf(out->path, sizeof out->path, "%s", places[i]);
        if (is_program(out->path)) {
            return true;
        }
    }
    return false;
}

int tf_child_find(const struct tf_journald *input, struct tf_child_program *out,
                  struct tf_error *err)
{
    int helper = input->options->helper;

    if ((helper != TF_HELPER_JOURNALCTL && tf_child_find_reader(out)) ||
        (helper != TF_HELPER_READER && find_journalctl(out))) {
        return 0;
    }
    (void)tf_error_add(err, &input->at, "journald: there is no %s to read the journal with; %s",
                       helper == TF_HELPER_JOURNALCTL ? "journalctl"
                       : helper == TF_HELPER_READER   ? "taffrail-journal"
                                                      : "taffrail-journal and no journalctl",
                       helper == TF_HELPER_JOURNALCTL
                           ? "install systemd, or take helper: auto"
                           : "put taffrail-journal beside taffrail or into " TF_LIBEXEC_DIR);
    return -ENOENT;
}

/* ---- arguments ------------------------------------------------------------------------------ */

static int make_room(struct tf_child_args *args)
{
    size_t capacity = args->capacity == 0 ? 32 : 2 * args->capacity;
    char **items;

    if (args->count + 2 <= args->capacity) {
        return 0;
    }
    items = realloc(args->items, capacity * sizeof *items);
    if (items == NULL) {
        return -ENOMEM;
    }
    args->items = items;
    args->capacity = capacity;
    return 0;
}

void tf_child_args_add(struct tf_child_args *args, const char *format, ...)
{
    va_list list;
    char *text = NULL;

    if (args->error != 0) {
        return;
    }
    args->error = make_room(args);
    va_start(list, format);
    if (args->error == 0 && vasprintf(&text, format, list) < 0) {
        args->error = -ENOMEM;
    }
    va_end(list);
    if (args->error == 0) {
        args->items[args->count++] = text;
        args->items[args->count] = NULL;
    }
}

void tf_child_args_fini(struct tf_child_args *args)
{
    for (size_t i = 0; i < args->count; i++) {
        free(args->items[i]);
    }
    free(args->items);
    *args = (struct tf_child_args){0};
}

/* Where it reads; both programs have the same words for it. */
static void add_place(const struct tf_journald *input, const struct tf_child_start *start,
                      struct tf_child_args *args)
{
    if (start->directory != NULL) {
        tf_child_args_add(args, "--directory=%s", start->directory);
    } else if (input->options->namespace_name.text != NULL) {
        tf_child_args_add(args, "--namespace=%s", input->options->namespace_name.text);
    }
}

static size_t bytes_of(const struct tf_child_args *args)
{
    size_t bytes = 0;

    for (size_t i = 0; i < args->count; i++) {
        bytes += strlen(args->items[i]) + 1;
    }
    return bytes;
}

static void cut(struct tf_child_args *args, size_t count)
{
    while (args->count > count) {
        free(args->items[--args->count]);
        args->items[args->count] = NULL;
    }
}

static void fill_reader(const struct tf_journald *input, const struct tf_child_start *start,
                        struct tf_child_args *args)
{
    size_t place_count;

    tf_child_args_add(args, "--verbose"); /* says once which layers of its sandbox hold */
    add_place(input, start, args);
    if (start->after[0] != '\0') {
        tf_child_args_add(args, "--after=%s", start->after);
    } else if (start->since_us >= 0) {
        tf_child_args_add(args, "--since=%lld", (long long)start->since_us);
    } else {
        tf_child_args_add(args, "--start=%s", input->start_at == TF_START_BOOT ? "boot" : "oldest");
    }
    place_count = args->count;
    tf_journald_select_args(input, false, args);
    if (bytes_of(args) > TF_LAUNCH_TEXT_MAX) { /* left to the decoders, which decide in any case */
        cut(args, place_count);
    }
}

/* When this boot began, by the clock as it is now. */
static int64_t boot_s(void)
{
    struct timespec up = {0};

    (void)clock_gettime(CLOCK_BOOTTIME, &up);
    return tf_now_ns() / TF_S_IN_NS - up.tv_sec - 1;
}

/* `--cursor` gives that entry itself too, so that one sees whether it was still there;
 * `--after-cursor` would pass over one that is another. */
static void fill_journalctl(const struct tf_journald *input, const struct tf_child_start *start,
                            struct tf_child_args *args)
{
    tf_child_args_add(args, "--output=export");
    tf_child_args_add(args, "--all");
    tf_child_args_add(args, "--no-pager");
    tf_child_args_add(args, "--quiet");
    tf_child_args_add(args, "--merge");
    tf_child_args_add(args, "--follow");
    tf_child_args_add(args, "--no-tail");
    add_place(input, start, args);
    if (start->after[0] != '\0') {
        tf_child_args_add(args, "--cursor=%s", start->after);
    } else if (start->since_us >= 0) {
        tf_child_args_add(args, "--since=@%lld.%06lld", (long long)start->since_us / 1000000,
                          (long long)start->since_us % 1000000);
    } else if (input->start_at == TF_START_BOOT) { /* its --boot does not go with --merge */
        tf_child_args_add(args, "--since=@%lld", (long long)boot_s());
    }
    tf_journald_select_args(input, true, args);
}

void tf_child_args_fill(const struct tf_journald *input, const struct tf_child_program *program,
                        const struct tf_child_start *start, struct tf_child_args *args)
{
    tf_child_args_add(args, "%s", program->path);
    if (program->is_journalctl) {
        fill_journalctl(input, start, args);
    } else {
        fill_reader(input, start, args);
    }
}
