/*
 * internal.h - what the files of the sandbox room share.
 *
 *     sandbox.c       the order of the layers, trying them, telling
 *     capabilities.c  what root may that others may not; also of taffrail-journal
 *     landlock.c      the kernel's interface for rules on files and ports; also of taffrail-journal
 *     needs.c         what plugins need, as such rules
 *     names.c         how host names are looked up
 *     calls.c         which system calls are refused
 *     allowed.c       which are allowed, in mode strict and in the opener; calls.h
 *     pages.c         compiled rules become unwritable
 *     stale.c         what was replaced since the start
 *     user.c          from root to another user
 */
#ifndef TAFFRAIL_SANDBOX_INTERNAL_H
#define TAFFRAIL_SANDBOX_INTERNAL_H

#include <limits.h>

#include "taffrail/base.h"
#include "taffrail/sandbox.h"

/* ---- capabilities.c ------------------------------------------------------------------------- */

/* capabilities(7) */
#define TF_CAPABILITY_READ   (UINT64_C(1) << 2) /* CAP_DAC_READ_SEARCH */
#define TF_CAPABILITY_KILL   (UINT64_C(1) << 5)
#define TF_CAPABILITY_SETGID (UINT64_C(1) << 6)
#define TF_CAPABILITY_SETUID (UINT64_C(1) << 7)

/* None can be gained by running a program from now on. Where that is not permitted nothing changes:
 * no_new_privs does the same. */
void tf_capabilities_bound(void);

/* Drops all but those of keep that are permitted; none is effective then. may_hand_on: the one to
 * read may still be handed on to a program, if it could before. False: some are left. */
bool tf_capabilities_keep(uint64_t keep, bool may_hand_on);
bool tf_capabilities_may_read_all(void); /* of what was kept */
/* Of those that are permitted, these come into effect. */
void tf_capabilities_use(uint64_t wanted);
/* From now on programs that are started have the one to read, in effect. False: they have not. */
bool tf_capabilities_hand_on(void);
bool tf_capabilities_are_handed_on(void); /* to this program, before tf_capabilities_bound */

/* ---- landlock.c ----------------------------------------------------------------------------- */

#define TF_LANDLOCK_EXECUTE     (UINT64_C(1) << 0)
#define TF_LANDLOCK_WRITE_FILE  (UINT64_C(1) << 1)
#define TF_LANDLOCK_READ_FILE   (UINT64_C(1) << 2)
#define TF_LANDLOCK_READ_DIR    (UINT64_C(1) << 3)
#define TF_LANDLOCK_REMOVE_FILE (UINT64_C(1) << 5)
#define TF_LANDLOCK_MAKE_REG    (UINT64_C(1) << 8)
#define TF_LANDLOCK_MAKE_SOCK   (UINT64_C(1) << 9)
#define TF_LANDLOCK_TRUNCATE    (UINT64_C(1) << 14)
#define TF_LANDLOCK_READ        (TF_LANDLOCK_READ_FILE | TF_LANDLOCK_READ_DIR)

#define TF_LANDLOCK_BIND_TCP    (UINT64_C(1) << 0)
#define TF_LANDLOCK_CONNECT_TCP (UINT64_C(1) << 1)

#define TF_LANDLOCK_SCOPE_ABSTRACT (UINT64_C(1) << 0) /* abstract sockets of others */
#define TF_LANDLOCK_SCOPE_SIGNAL   (UINT64_C(1) << 1) /* signals to others */

/* Rules being made. */
struct tf_landlock {
    int abi, fd;
    uint64_t files; /* the rights that this kernel can refuse */
};

/* Begins rules that refuse all rights on files, TCP ports where is_net, and scopes. False: the
 * kernel has no Landlock, or it is off. */
bool tf_landlock_begin(struct tf_landlock *rules, bool is_net, uint64_t scopes);

/* Allows rights on path and below; a link is followed. False: it is not there. */
bool tf_landlock_allow(const struct tf_landlock *rules, const char *path, uint64_t rights);
void tf_landlock_allow_port(const struct tf_landlock *rules, uint16_t port, uint64_t rights);

/* Puts the calling thread, and what it starts later, under the rules; ends them. Needs
 * no_new_privs. Returns the ABI that holds, or 0. */
int tf_landlock_enforce(struct tf_landlock *rules);

/* Tries it: anybody may list the root, so only Landlock can refuse that. */
bool tf_landlock_refuses(void);

/* ---- needs.c -------------------------------------------------------------------------------- */

/* What is read besides needs. */
enum tf_common {
    TF_COMMON_NONE,
    TF_COMMON_LIBRARIES, /* shared ones: a program is started */
    TF_COMMON_ALL,       /* also what the C library looks at in a program that works on */
};

/* Confines the thread to needs and common. Returns Landlock's ABI, 0, or -ENOMEM. */
int tf_needs_enforce(const struct tf_needs *needs, enum tf_common common);
bool tf_needs_run_programs(const struct tf_needs *needs);
bool tf_needs_root(const struct tf_needs *needs); /* all files may be read */

/* The folder that path lies in; false: that is the root, or has no name. */
bool tf_needs_folder(const char *path, char out[PATH_MAX]);

/* ---- names.c -------------------------------------------------------------------------------- */

bool tf_names_allow(const struct tf_landlock *rules); /* false: no memory */

/* ---- stale.c -------------------------------------------------------------------------------- */

/* What stands under path now is what the rules are for; copies path. False: no memory. */
bool tf_stale_note(const char *path, bool is_name);
void tf_stale_forget(void);

/* ---- calls.c -------------------------------------------------------------------------------- */

/* Refuses calls in all threads; also pages that become executable, where is_memory. False: there
 * is no filter. */
bool tf_calls_refuse(bool may_execute, bool is_memory);

/* Mode strict: refuses, in all threads, whatever is not on the list; no page becomes executable.
 * False: there is no filter. */
bool tf_calls_allow(bool may_execute);

/* Allows the calls only of the opener; of the launcher and the program that it starts. False: there
 * is no filter. */
bool tf_calls_allow_opener(void);
bool tf_calls_allow_launcher(void);

/* ---- pages.c -------------------------------------------------------------------------------- */

/* No page is writable and executable then. False: one may be. */
bool tf_pages_seal(void);
void tf_pages_unseal(void); /* they may be freed, and not be executed any more */

/* ---- user.c --------------------------------------------------------------------------------- */

/* Becomes that user, with its groups; permitted capabilities stay. 0 or -EINVAL, said in err. */
int tf_user_become(const struct tf_text *user, struct tf_error *err);
int tf_user_check(const struct tf_text *user, struct tf_error *err); /* whether there is one */

#endif
