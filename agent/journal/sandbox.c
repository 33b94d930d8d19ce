/*
 * sandbox.c - what the program may still do: read the journal's folders, write to its pipe.
 *
 * Journal files hold what any program of the machine has logged, in a format whose reader has had
 * faults. Whoever gets past it finds a process without capabilities, network, or other programs:
 *
 *     rights  no_new_privs; no capability, also none to be gained; no core file, no file that
 *             grows; not to be traced (PR_SET_DUMPABLE). Where the agent's launcher starts it, it
 *             has been handed CAP_DAC_READ_SEARCH, and the launcher's Landlock, which leaves that
 *             the journal's folders alone. Without such Landlock it lays down that one too
 *     files   Landlock: the journal's folders are read, shared libraries too (libsystemd loads its
 *             decompressors when it first meets them, since 254); nothing is written
 *     calls   seccomp: no new program, socket, mount or trace
 *
 * Each layer is best effort: an old kernel, or a container that forbids a layer, takes nothing from
 * the others. Rights and files are given up by the same code as the agent's (agent/sandbox).
 */
#include <dirent.h>
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#ifdef TF_HAVE_SECCOMP
#include <seccomp.h>
#endif

#include "../sandbox/internal.h"
#include "reader.h"

/* ---- rights ------------------------------------------------------------------------------------
 */

static bool is_regular_file(int fd)
{
    struct stat st;

    return fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
}

static bool set_limits(void)
{
    const struct rlimit nothing = {0, 0};
    bool is_set = setrlimit(RLIMIT_CORE, &nothing) == 0;

    if (!is_regular_file(STDOUT_FILENO) && !is_regular_file(STDERR_FILENO)) {
        is_set &= setrlimit(RLIMIT_FSIZE, &nothing) == 0;
    }
    return is_set;
}

/* From here on, for libsystemd opens the folders before our own Landlock can name them. */
static bool use_what_was_handed_on(void)
{
    if (!tf_landlock_refuses()) {
        (void)fputs("taffrail-journal: without Landlock the right to read all files is given up\n",
                    stderr);
        (void)tf_capabilities_keep(0, false);
        return false;
    }
    tf_sandbox_raise(); /* for as long as it lives */
    return true;
}

void tf_reader_sandbox_rights(struct tf_reader_sandbox *sandbox)
{
    bool is_handed_on = tf_capabilities_are_handed_on();

    sandbox->has_no_new_privs = prctl(PR_SET_NO_NEW_PRIVS, 1UL, 0UL, 0UL, 0UL) == 0;
    tf_capabilities_bound();
    sandbox->has_no_capabilities =
        tf_capabilities_keep(is_handed_on ? TF_CAPABILITY_READ : 0, false);
    sandbox->reads_all = is_handed_on && use_what_was_handed_on();
    sandbox->has_limits = set_limits();
    sandbox->has_limits &= prctl(PR_SET_DUMPABLE, 0UL, 0UL, 0UL, 0UL) == 0;
}

/* ---- files -------------------------------------------------------------------------------------
 */

/* A machine's folder may be a link to another disk. */
static void allow_linked(const struct tf_landlock *rules, const char *folder)
{
    DIR *dir = opendir(folder);
    const struct dirent *entry;
    char path[PATH_MAX];

    if (dir == NULL) {
        return;
    }
    while ((entry = readdir(dir)) != NULL) {
        struct stat st;
        if (strspn(entry->d_name, "0123456789abcdefABCDEF") == 32 &&
            snprintf(path, sizeof path, "%s/%s", folder, entry->d_name) < (int)sizeof path &&
            stat(path, &st) == 0 && S_ISDIR(st.st_mode)) {
            (void)tf_landlock_allow(rules, path, TF_LANDLOCK_READ);
        }
    }
    (void)closedir(dir);
}

static void allow_all(const struct tf_landlock *rules, const char *const *folders,
                      size_t folder_count)
{
    static const char *const libraries[] = {"/lib", "/lib64", "/usr/lib", "/usr/lib64",
                                            "/usr/local/lib"};
    /* libsystemd asks which machine and boot are its own. */
    static const char *const read_only[] = {"/etc/ld.so.cache", "/etc/machine-id",
                                            "/proc/sys/kernel/random"};

    for (size_t i = 0; i < folder_count; i++) {
        (void)tf_landlock_allow(rules, folders[i], TF_LANDLOCK_READ);
        allow_linked(rules, folders[i]);
    }
    for (size_t i = 0; i < sizeof libraries / sizeof libraries[0]; i++) {
        (void)tf_landlock_allow(rules, libraries[i], TF_LANDLOCK_READ);
    }
    for (size_t i = 0; i < sizeof read_only / sizeof read_only[0]; i++) {
        (void)tf_landlock_allow(rules, read_only[i], TF_LANDLOCK_READ);
    }
}

static int restrict_files(const char *const *folders, size_t folder_count)
{
    struct tf_landlock rules;

    if (!tf_landlock_begin(&rules, false, 0)) {
        return 0;
    }
    allow_all(&rules, folders, folder_count);
    return tf_landlock_enforce(&rules);
}

/* ---- calls -------------------------------------------------------------------------------------
 */

#ifdef TF_HAVE_SECCOMP
static const int fatal[] = {SCMP_SYS(execve), SCMP_SYS(execveat)};
static const int refused[] = {
    SCMP_SYS(socket),
    SCMP_SYS(socketpair),
    SCMP_SYS(connect),
    SCMP_SYS(bind),
    SCMP_SYS(listen),
    SCMP_SYS(accept),
    SCMP_SYS(accept4),
    SCMP_SYS(sendto),
    SCMP_SYS(sendmsg),
    SCMP_SYS(sendmmsg),
    SCMP_SYS(ptrace),
    SCMP_SYS(process_vm_readv),
    SCMP_SYS(process_vm_writev),
    SCMP_SYS(kill),
    SCMP_SYS(tkill),
    SCMP_SYS(pidfd_open),
    SCMP_SYS(pidfd_getfd),
    SCMP_SYS(pidfd_send_signal),
    SCMP_SYS(mount),
    SCMP_SYS(umount2),
    SCMP_SYS(pivot_root),
    SCMP_SYS(chroot),
    SCMP_SYS(open_tree),
    SCMP_SYS(move_mount),
    SCMP_SYS(fsopen),
    SCMP_SYS(fsmount),
    SCMP_SYS(mount_setattr),
    SCMP_SYS(unshare),
    SCMP_SYS(setns),
    SCMP_SYS(fork),
    SCMP_SYS(vfork),
    SCMP_SYS(bpf),
    SCMP_SYS(perf_event_open),
    SCMP_SYS(keyctl),
    SCMP_SYS(add_key),
    SCMP_SYS(request_key),
    SCMP_SYS(io_uring_setup),
    SCMP_SYS(io_uring_enter),
    SCMP_SYS(io_uring_register),
    SCMP_SYS(userfaultfd),
    SCMP_SYS(init_module),
    SCMP_SYS(finit_module),
    SCMP_SYS(kexec_load),
    SCMP_SYS(reboot),
    SCMP_SYS(setuid),
    SCMP_SYS(setgid),
    SCMP_SYS(setresuid),
    SCMP_SYS(setresgid),
    SCMP_SYS(unlink),
    SCMP_SYS(unlinkat),
    SCMP_SYS(rename),
    SCMP_SYS(renameat),
    SCMP_SYS(renameat2),
    SCMP_SYS(truncate),
    SCMP_SYS(open_by_handle_at),
    SCMP_SYS(quotactl),
    SCMP_SYS(swapon),
};

static bool forbid_calls(void)
{
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
    bool is_loaded;

    if (filter == NULL) {
        return false;
    }
    /* A call that this kernel or architecture lacks cannot be forbidden, nor made. */
    for (size_t i = 0; i < sizeof fatal / sizeof fatal[0]; i++) {
        (void)seccomp_rule_add(filter, SCMP_ACT_KILL_PROCESS, fatal[i], 0);
    }
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        (void)seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), refused[i], 0);
    }
    /* Signals to itself, as abort(3) sends; threads, but no processes. clone3 hides its flags
     * behind a pointer: told that there is none, the C library falls back to clone. */
    (void)seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(tgkill), 1,
                           SCMP_A0(SCMP_CMP_NE, (scmp_datum_t)getpid()));
    (void)seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(clone), 1,
                           SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD, 0));
    (void)seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
    is_loaded = seccomp_load(filter) == 0;
    seccomp_release(filter);
    return is_loaded;
}
#else
static bool forbid_calls(void)
{
    return false;
}
#endif

void tf_reader_sandbox_files(struct tf_reader_sandbox *sandbox, const char *const *folders,
                             size_t folder_count)
{
    int abi = restrict_files(folders, folder_count);

    sandbox->landlock_abi = tf_landlock_refuses() ? abi : 0;
    sandbox->has_seccomp = forbid_calls() && unshare(0) < 0; /* changes nothing where it is let */
}

void tf_reader_sandbox_print(const struct tf_reader_sandbox *sandbox)
{
    char landlock[32] = "";

    if (sandbox->landlock_abi > 0) {
        (void)snprintf(landlock, sizeof landlock, " landlock=%d", sandbox->landlock_abi);
    }
    (void)fprintf(stderr, "taffrail-journal: sandbox:%s%s%s%s%s%s\n",
                  sandbox->has_no_new_privs ? " no_new_privs" : "",
                  sandbox->has_no_capabilities ? " capabilities" : "",
                  sandbox->has_limits ? " limits" : "", landlock,
                  sandbox->has_seccomp ? " seccomp" : "", sandbox->reads_all ? " reads_all" : "");
}
