/*
 * opener.h - how the path of a log becomes a descriptor, when whoever writes the log is hostile.
 *
 * An opener opens regular files and folders below its roots, reads only, and nothing else. It does
 * that by itself, or asks a process of its own that has the right to (tf_opener_process): whoever
 * uses it does not know which. The rules and the protocol are in docs/opener.md.
 */
#ifndef TAFFRAIL_OPENER_H
#define TAFFRAIL_OPENER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TF_FILE_PATH_MAX 4096u /* with its NUL */

/* Makes an absolute path normal: no "//", "." or "..". 0, -EINVAL or -EMSGSIZE. */
int tf_path_normalize(const char *path, char out[TF_FILE_PATH_MAX]);

/* ---- what may be opened ----------------------------------------------------------------------
 */

struct tf_owner;
struct tf_opener_process;

/* Immutable after its making; used by any thread. */
struct tf_opener {
    char **roots; /* absolute, normal, without a slash at the end */
    size_t root_count;
    struct tf_owner *owners; /* who may own files and folders, and write to these */
    size_t owner_count;
    struct tf_opener_process *process; /* NULL: it opens by itself */
    uint16_t number;                   /* of the same rules there */
};

/* Without a root. Owners are root and the user of this process. 0 or -ENOMEM. */
int tf_opener_init(struct tf_opener *opener);
void tf_opener_fini(struct tf_opener *opener);

/* Adds a root (copied, made normal). 0, -ENOMEM, -EINVAL when it is not absolute, or -EMSGSIZE. */
int tf_opener_add_root(struct tf_opener *opener, const char *path);

/* Adds a user, by name or number, and its group. 0, -ENOMEM, -ENOENT: nobody is called so, or
 * -EMSGSIZE: too many. */
int tf_opener_add_owner(struct tf_opener *opener, const char *user);

/* ---- opening: any thread but the loop's, for it may block -------------------------------------
 */

/* What identifies a file: its name may change. born_ns is 0 where the file system does not know it.
 */
struct tf_file_id {
    uint64_t device, inode;
    int64_t born_ns;
};

struct tf_opened {
    int fd; /* the caller's; -1: none */
    struct tf_file_id id;
    uint64_t size;
    int64_t changed_ns, altered_ns; /* its content; its inode */
    uint32_t mode;
    bool is_link;    /* the name that was asked for is a link */
    const char *why; /* on failure: what was wrong, a static text */
};

/*
 * Opens the folder `path`, absolute and normal, which is reached without a link. Returns a
 * descriptor, or a negative errno with *why: -EPERM when it is not to be opened.
 */
int tf_opener_dir(const struct tf_opener *opener, const char *path, const char **why);

/*
 * Opens the regular file `path`; a link there is followed at most 3 times, to targets that lie in a
 * root. Returns 0, or a negative errno with out->why; -EPERM when it is not to be opened.
 */
int tf_opener_file(const struct tf_opener *opener, const char *path, struct tf_opened *out);

/*
 * How `path` stands, of any kind, a link followed as above; opens nothing (fd is -1), and trusts
 * whom it tells of no more than a listing would. place (NULL: not wanted) becomes the path it
 * stands under, which is another where a link led there, also where nothing stands (-ENOENT).
 * Returns as tf_opener_file; is_link and place are always set.
 */
int tf_opener_look(const struct tf_opener *opener, const char *path, struct tf_opened *out,
                   char place[TF_FILE_PATH_MAX]);

/* Watches what an opener has opened. mask is one of these. Returns the watch or a negative errno.
 */
int tf_opener_watch(const struct tf_opener *opener, int inotify_fd, int fd, uint32_t mask);
#define TF_WATCH_DIR_MASK  0x000003c0u /* IN_MOVED_FROM, IN_MOVED_TO, IN_CREATE, IN_DELETE */
#define TF_WATCH_FILE_MASK 0x00000002u /* IN_MODIFY */

/* ---- the process ------------------------------------------------------------------------------
 */

/* In its order: new, add, start, while there is one thread; attach; free. NULL: no memory. */
struct tf_opener_process *tf_opener_process_new(void);

/* Ends it, and waits for that. Nobody may ask it any more. Accepts NULL. */
void tf_opener_process_free(struct tf_opener_process *process);

/* Adds rules, and takes them, on failure too. name is borrowed for as long as the process lives.
 * 0 or -ENOMEM. */
int tf_opener_process_add(struct tf_opener_process *process, const char *name,
                          struct tf_opener *rules);

/* Forks it. It has this process' rights, and gives up what it does not need. 0 or a negative errno:
 * -ESHUTDOWN when it ends instead, -ETIMEDOUT when it hangs; it is killed then. */
int tf_opener_process_start(struct tf_opener_process *process);

/* From now on the process opens what opener opens; its rules are those that were added under that
 * name. */
void tf_opener_process_attach(struct tf_opener_process *process, const char *name,
                              struct tf_opener *opener);

/* From now on it refuses everything with -ESHUTDOWN, also what was asked before and is not
 * answered: it may hang. Any thread. Accepts NULL. */
void tf_opener_process_shut(struct tf_opener_process *process);

/* True when it is no more; then everything is refused with -ESHUTDOWN. The loop's thread, after
 * SIGCHLD. Accepts NULL. */
bool tf_opener_process_has_ended(struct tf_opener_process *process);

#endif
