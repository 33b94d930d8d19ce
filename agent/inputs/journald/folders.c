/*
 * folders.c - the folders that hold the journal, and what reading them needs.
 *
 * Journal files lie in them and in their folders of machines, whose names are a machine's id, 32
 * hexadecimal digits, with ".NAMESPACE" behind it in a namespace (files.c of agent/journal).
 */
#include "internal.h"

#include <dirent.h>
#include <stdio.h>

bool tf_journald_is_machine(const char *name)
{
    return strspn(name, "0123456789abcdefABCDEF") == 32;
}

/* Each by itself, for it may be a link to another disk, or become one; the reader follows it. */
static void add_machines(const char *folder, enum tf_need kind, struct tf_needs *needs)
{
    DIR *dir = opendir(folder);
    const struct dirent *entry;
    char path[TF_PATH_MAX];

    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        if (tf_journald_is_machine(entry->d_name) &&
            snprintf(path, sizeof path, "%s/%s", folder, entry->d_name) < (int)sizeof path) {
            tf_needs_path(needs, kind, path);
        }
    }
    if (dir != NULL) {
        (void)closedir(dir);
    }
}

struct tf_texts tf_journald_folders(const struct tf_journald_options *options)
{
    static struct tf_text usual[] = {{.text = "/var/log/journal"}, {.text = "/run/log/journal"}};

    return options->paths.count > 0 ? options->paths
                                    : (struct tf_texts){.items = usual, .count = TF_COUNT(usual)};
}

void tf_journald_folder_needs(const struct tf_texts *folders, enum tf_need kind,
                              struct tf_needs *needs)
{
    for (size_t i = 0; i < folders->count; i++) {
        tf_needs_path(needs, kind, folders->items[i].text);
        add_machines(folders->items[i].text, kind, needs);
    }
}
