/*
 * calls.c - which system calls are refused (seccomp(2)), in all threads and in every child.
 *
 * What is here has no use in a log shipper and was a way out of other programs' sandboxes: mounts,
 * namespaces, tracing, keyrings, modules, io_uring, programs. A refused call gives EPERM, as a
 * service manager's filter would, and the C library goes on without. Sockets are UNIX, INET, INET6,
 * and NETLINK's routes, which the C library asks for addresses.
 *
 * It is a list of what is refused: a new C library that makes a new call goes on working. A call
 * that this kernel or architecture lacks cannot be refused, nor made. The opener is so small that
 * its list can be that of what is allowed.
 */
#include "internal.h"

#ifdef TF_HAVE_SECCOMP
#include <errno.h>
#include <linux/netlink.h>
#include <seccomp.h>
#include <sys/mman.h>
#include <sys/socket.h>

static const int refused[] = {
    SCMP_SYS(process_vm_readv),
    SCMP_SYS(process_vm_writev),
    SCMP_SYS(pidfd_getfd),
    SCMP_SYS(kcmp),
    SCMP_SYS(mount),
    SCMP_SYS(umount2),
    SCMP_SYS(pivot_root),
    SCMP_SYS(chroot),
    SCMP_SYS(open_tree),
    SCMP_SYS(move_mount),
    SCMP_SYS(fsopen),
    SCMP_SYS(fsconfig),
    SCMP_SYS(fsmount),
    SCMP_SYS(fspick),
    SCMP_SYS(mount_setattr),
    SCMP_SYS(unshare),
    SCMP_SYS(setns),
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
    SCMP_SYS(delete_module),
    SCMP_SYS(kexec_load),
    SCMP_SYS(kexec_file_load),
    SCMP_SYS(reboot),
    SCMP_SYS(swapon),
    SCMP_SYS(swapoff),
    SCMP_SYS(open_by_handle_at),
    SCMP_SYS(name_to_handle_at),
    SCMP_SYS(fanotify_init),
    SCMP_SYS(quotactl),
    SCMP_SYS(acct),
    SCMP_SYS(settimeofday),
    SCMP_SYS(clock_settime),
    SCMP_SYS(clock_adjtime),
    SCMP_SYS(adjtimex),
    SCMP_SYS(sethostname),
    SCMP_SYS(setdomainname),
    SCMP_SYS(iopl),
    SCMP_SYS(ioperm),
    SCMP_SYS(personality),
    SCMP_SYS(syslog),
    SCMP_SYS(vhangup),
    SCMP_SYS(mknod),
    SCMP_SYS(mknodat),
#ifndef __SANITIZE_ADDRESS__ /* its search for leaks at the end traces the threads */
    SCMP_SYS(ptrace),
#endif
};

static void refuse(scmp_filter_ctx filter, int call)
{
    (void)seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), call, 0);
}

/* Two comparisons of one argument cannot be joined: all families but ours, each by itself. What is
 * in the upper half of the register, which the kernel ignores, makes it greater than all. */
static void refuse_families(scmp_filter_ctx filter)
{
    for (unsigned family = AF_UNSPEC; family < AF_NETLINK; family++) {
        if (family != AF_UNIX && family != AF_INET && family != AF_INET6) {
            (void)seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(socket), 1,
                                   SCMP_A0(SCMP_CMP_EQ, family));
        }
    }
    (void)seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(socket), 1,
                           SCMP_A0(SCMP_CMP_GT, AF_NETLINK));
    (void)seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(socket), 2,
                           SCMP_A0(SCMP_CMP_EQ, AF_NETLINK), SCMP_A2(SCMP_CMP_NE, NETLINK_ROUTE));
}

/* A page that is written and executed, or that becomes executable. */
static void refuse_executable(scmp_filter_ctx filter)
{
    const scmp_datum_t both = PROT_WRITE | PROT_EXEC;

    (void)seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(mmap), 1,
                           SCMP_A2(SCMP_CMP_MASKED_EQ, both, both));
    (void)seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(mprotect), 1,
                           SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, PROT_EXEC));
    (void)seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(pkey_mprotect), 1,
                           SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, PROT_EXEC));
}

bool tf_calls_refuse(bool may_execute, bool is_memory)
{
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
    bool is_loaded;

    if (filter == NULL) {
        return false;
    }
    for (size_t i = 0; i < TF_COUNT(refused); i++) {
        refuse(filter, refused[i]);
    }
    if (!may_execute) {
        refuse(filter, SCMP_SYS(execve));
        refuse(filter, SCMP_SYS(execveat));
    }
    refuse_families(filter);
    if (is_memory) {
        refuse_executable(filter);
    }
    is_loaded =
        seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1) == 0 && seccomp_load(filter) == 0;
    seccomp_release(filter);
    return is_loaded;
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
bool tf_calls_allow_opener(void)
{
    return false; /* a sanitizer makes calls of its own */
}
#else
/* Requests, opening, watches, raising the right to read; its log; noticing what was replaced; its
 * end. */
static const int allowed[] = {
    SCMP_SYS(recvmsg),         SCMP_SYS(sendmsg),
    SCMP_SYS(openat2),         SCMP_SYS(openat),
    SCMP_SYS(statx),           SCMP_SYS(readlinkat),
    SCMP_SYS(fgetxattr),       SCMP_SYS(fcntl),
    SCMP_SYS(close),           SCMP_SYS(inotify_add_watch),
    SCMP_SYS(capset),          SCMP_SYS(write),
    SCMP_SYS(clock_gettime),   SCMP_SYS(newfstatat),
    SCMP_SYS(restart_syscall), SCMP_SYS(exit_group),
};

bool tf_calls_allow_opener(void)
{
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(EPERM));
    bool is_loaded = filter != NULL;

    for (size_t i = 0; i < TF_COUNT(allowed) && is_loaded; i++) {
        is_loaded = seccomp_rule_add(filter, SCMP_ACT_ALLOW, allowed[i], 0) == 0;
    }
    is_loaded = is_loaded && seccomp_load(filter) == 0;
    seccomp_release(filter);
    return is_loaded;
}
#endif
#else
bool tf_calls_allow_opener(void)
{
    return false;
}

bool tf_calls_refuse(bool may_execute, bool is_memory)
{
    (void)may_execute;
    (void)is_memory;
    return false;
}
#endif
