/*
 * launch.c - whether the journal's readers are to be started by a launcher (launcher.h), and that
 * one's start.
 *
 * Where the agent's user may read the journal, mostly by the group systemd-journal, no process has
 * more rights than that. A group's number differs from one distribution to the next, so a DaemonSet
 * over several cannot name it; there the readers are handed the one capability that the agent has.
 */
#include "internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "taffrail/journald.h"
#include "taffrail/log.h"

#define LOOKS_MAX 4096u /* at files and folders of one; journald keeps 100 files by default */

/* ---- is there something that we may not read --------------------------------------------------
 */

/* Journal files, and folders of machines. */
static bool is_journals(const char *name)
{
    const char *end = strrchr(name, '.');

    return tf_journald_is_machine(name) ||
           (end != NULL && (strcmp(end, ".journal") == 0 || strcmp(end, ".journal~") == 0));
}

static bool may_not_read(int folder_fd, const char *name, int *fd)
{
    *fd = openat(folder_fd, name, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    return *fd < 0 && errno == EACCES;
}

/* Opens it, and what is in it, and so on, depth times. */
static bool is_closed_to_us(int folder_fd, const char *name, unsigned depth, unsigned *looks)
{
    const struct dirent *entry;
    bool is_closed;
    DIR *dir;
    int fd;

    if (may_not_read(folder_fd, name, &fd)) {
        return true;
    }
    dir = fd >= 0 && depth > 0 ? fdopendir(fd) : NULL;
    if (dir == NULL) {
        if (fd >= 0) {
            (void)close(fd);
        }
        return false;
    }
    is_closed = false;
    while (!is_closed && *looks < LOOKS_MAX && (entry = readdir(dir)) != NULL) {
        if (is_journals(entry->d_name)) {
            ++*looks;
            is_closed = is_closed_to_us(dirfd(dir), entry->d_name, depth - 1, looks);
        }
    }
    (void)closedir(dir);
    return is_closed;
}

/* By user and groups: no capability is in effect. */
static bool has_what_we_may_not_read(const struct tf_texts *folders)
{
    for (size_t i = 0; i < folders->count; i++) {
        unsigned looks = 0;

        /* Two levels: machines, their files. */
        if (is_closed_to_us(AT_FDCWD, folders->items[i].text, 2, &looks)) {
            return true;
        }
        if (looks == LOOKS_MAX) {
            tf_log(TF_LOG_INFO, "launcher", TF_DETAILS(TF_STR("path", folders->items[i].text)),
                   "the agent's user may read the first %u of its files and folders; no more were "
                   "looked at",
                   LOOKS_MAX);
        }
    }
    return false;
}

/* ---- the launcher ----------------------------------------------------------------------------
 */

/* Of inputs that read files by taffrail-journal. False: there is none. */
static bool add_needs(const struct tf_plugin_list *inputs, struct tf_child_program *program,
                      struct tf_needs *needs)
{
    bool is_wanted = false;

    for (size_t i = 0; i < inputs->count; i++) {
        const struct tf_journald_options *options = inputs->items[i].options;

        if (inputs->items[i].kind == &tf_input_journald && options->mode == TF_JOURNALD_READER &&
            options->helper != TF_HELPER_JOURNALCTL && tf_child_find_reader(program)) {
            struct tf_texts folders = tf_journald_folders(options);

            is_wanted = is_wanted || has_what_we_may_not_read(&folders);
            tf_sandbox_raise(); /* to look for machines in folders that are closed */
            tf_journald_folder_needs(&folders, TF_NEED_READ_NOW, needs);
            tf_sandbox_lower();
        }
    }
    if (is_wanted) {
        tf_needs_path(needs, TF_NEED_RUN, program->path);
    }
    return is_wanted;
}

int tf_journald_start_launcher(const struct tf_config *config, struct tf_launcher **out)
{
    struct tf_child_program program;
    struct tf_sandbox_status status;
    struct tf_needs *needs;
    int rc = 0;

    tf_sandbox_status(&status);
    if (!status.may_read_all) {
        return 0;
    }
    needs = tf_needs_new();
    if (needs == NULL) {
        return -ENOMEM;
    }
    if (add_needs(&config->inputs, &program, needs)) {
        rc = tf_launcher_start(program.path, &config->sandbox, needs, out);
    }
    tf_needs_free(needs);
    if (rc == -ENOSYS || rc == -EPERM) {
        tf_log(TF_LOG_WARN, "launcher", NULL, 0,
               "the right to read the journal cannot be handed to its reader: %s; add the agent's "
               "user to the group systemd-journal",
               rc == -ENOSYS ? "that takes Landlock"
                             : "capabilities cannot be made ambient here (capabilities(7))");
        rc = 0;
    }
    return rc;
}
