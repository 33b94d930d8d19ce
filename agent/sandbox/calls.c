/*
 * calls.c - which system calls are refused (seccomp(2)), in all threads and in every child.
 *
 * What is here has no use in a log shipper and was a way out of other programs' sandboxes: mounts,
 * namespaces, tracing, keyrings, modules, io_uring, programs. A refused call gives EPERM, as a
 * service manager's filter would, and the C library goes on without. Sockets are UNIX, INET, INET6,
 * and NETLINK's routes, which the C library asks for addresses.
 *
 * It is a list of what is refused: a new C library that makes a new call goes on working. A call
 * that this kernel or architecture lacks cannot be refused, nor made. In mode strict, and in the
 * opener, which is small, the list is that of what is allowed (allowed.c).
 */
#include "calls.h"

#ifdef TF_HAVE_SECCOMP
#include <errno.h>
#include <linux/netlink.h>
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

/* Of all threads. */
static bool load(scmp_filter_ctx filter)
{
    bool is_loaded =
        seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1) == 0 && seccomp_load(filter) == 0;

    seccomp_release(filter);
    return is_loaded;
}

bool tf_calls_refuse(bool may_execute, bool is_memory)
{
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);

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
    return load(filter);
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define MAKES_OTHER_CALLS true /* a sanitizer does */
#else
#define MAKES_OTHER_CALLS false
#endif

/* A call that this architecture lacks is passed over. */
static bool allow(scmp_filter_ctx filter, const struct tf_calls *calls)
{
    bool is_added = true;

    for (size_t i = 0; i < calls->count && is_added; i++) {
        const struct tf_call *call = &calls->items[i];

        is_added = seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, call->number, call->test_count,
                                          call->tests) == 0;
    }
    return is_added;
}

/* Told that there is no clone3, the C library takes clone, whose flags can be looked at. */
static bool deny_clone3(scmp_filter_ctx filter)
{
    return seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0) == 0;
}

/* more: NULL, or what is allowed besides. */
static bool allow_only(const struct tf_calls *calls, const struct tf_calls *more)
{
    scmp_filter_ctx filter = MAKES_OTHER_CALLS ? NULL : seccomp_init(SCMP_ACT_ERRNO(EPERM));

    if (filter == NULL) {
        return false;
    }
    if (!deny_clone3(filter) || !allow(filter, calls) || (more != NULL && !allow(filter, more))) {
        seccomp_release(filter);
        return false;
    }
    return load(filter);
}

bool tf_calls_allow(bool may_execute)
{
    return allow_only(&tf_allowed_main, may_execute ? &tf_allowed_programs : NULL);
}

bool tf_calls_allow_opener(void)
{
    return allow_only(&tf_allowed_opener, NULL);
}

bool tf_calls_allow_launcher(void)
{
    return allow_only(&tf_allowed_launcher, NULL);
}
#else
bool tf_calls_refuse(bool may_execute, bool is_memory)
{
    (void)may_execute;
    (void)is_memory;
    return false;
}

bool tf_calls_allow(bool may_execute)
{
    (void)may_execute;
    return false;
}

bool tf_calls_allow_opener(void)
{
    return false;
}

bool tf_calls_allow_launcher(void)
{
    return false;
}
#endif
