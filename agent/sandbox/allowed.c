/*
 * allowed.c - which system calls are allowed: of main and the launcher in mode strict, and of the
 * opener.
 *
 *     CALL    always
 *     SOME    where arguments are these, counted from 0
 *     RARELY  always, though a test does not see it made: on another processor or with another C
 *             library, or in a rare state; with the reason
 *
 * tests/integration/test_strict.py reads this file. It traces agents at work and fails where one
 * makes a call that is not here, and where a call is here that none made, unless it is RARELY. What
 * a processor does not have (arm64 has no open) is passed over when it is loaded.
 *
 * No list has a way to trace, to mount, to make a namespace, a key or a device, to load anything
 * into the kernel, to change user or clock.
 */
#include "calls.h"

#ifdef TF_HAVE_SECCOMP
#include <linux/netlink.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>

#define IS(index, value)                                                                           \
    {                                                                                              \
        index, SCMP_CMP_EQ, value, 0                                                               \
    }
#define MASKED(index, mask, value)                                                                 \
    {                                                                                              \
        index, SCMP_CMP_MASKED_EQ, mask, value                                                     \
    }

#define CALL(name)                                                                                 \
    {                                                                                              \
        SCMP_SYS(name), 0,                                                                         \
        {                                                                                          \
            {                                                                                      \
                0                                                                                  \
            }                                                                                      \
        }                                                                                          \
    }
#define SOME(name, ...)                                                                            \
    {                                                                                              \
        SCMP_SYS(name), 1,                                                                         \
        {                                                                                          \
            __VA_ARGS__                                                                            \
        }                                                                                          \
    }
#define SOME_BOTH(name, ...)                                                                       \
    {                                                                                              \
        SCMP_SYS(name), 2,                                                                         \
        {                                                                                          \
            __VA_ARGS__                                                                            \
        }                                                                                          \
    }
#define RARELY(name, reason) CALL(name)
#define TABLE(items)                                                                               \
    {                                                                                              \
        items, TF_COUNT(items)                                                                     \
    }

#define WRITE_EXEC (PROT_WRITE | PROT_EXEC)
#define NAMESPACES                                                                                 \
    (CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID |  \
     CLONE_NEWNET)

static const struct tf_call of_main[] = {
    /* Files: spool, outputs, keys, what a name is looked up with. Landlock says which. */
    CALL(openat),
    CALL(close),
    CALL(read),
    CALL(write),
    CALL(pread64),
    CALL(pwrite64),
    CALL(lseek),
    CALL(fcntl),
    CALL(newfstatat),
    CALL(statx),
    CALL(fstatfs),
    CALL(getdents64),
    CALL(access),
    RARELY(open, "older C libraries, for openat"),
    RARELY(stat, "older C libraries, for newfstatat"),
    RARELY(fstat, "older and newer C libraries, for newfstatat"),
    RARELY(lstat, "older C libraries, for newfstatat"),
    RARELY(faccessat, "arm64 has no access"),
    RARELY(faccessat2, "newer C libraries, for access"),
    RARELY(readv, "libuv, for pread64 of several pieces"),
    RARELY(writev, "libuv, for write of several pieces"),

    /* The spool, file outputs, sockets' names: made, synced, renamed, removed. */
    CALL(fallocate),
    CALL(ftruncate),
    CALL(fsync),
    CALL(fdatasync),
    CALL(flock),
    CALL(renameat),
    CALL(mkdir),
    CALL(unlink),
    CALL(unlinkat),
    CALL(chmod),
    CALL(fchmod),
    CALL(fchmodat),
    RARELY(renameat2, "newer C libraries, for renameat"),
    RARELY(mkdirat, "arm64 has no mkdir"),

    /* Logs: opened, with the right to read them raised, where there is no opener; hints. */
    CALL(openat2),
    CALL(readlinkat),
    CALL(inotify_init1),
    CALL(inotify_add_watch),
    CALL(inotify_rm_watch),
    RARELY(fgetxattr, "access lists of logs, where there is no opener"),
    CALL(capset),

    /* Connections, over TCP and Unix sockets, the opener's and the parent's; looking up names. */
    SOME(socket, IS(0, AF_UNIX)),
    SOME(socket, IS(0, AF_INET)),
    SOME(socket, IS(0, AF_INET6)),
    SOME_BOTH(socket, IS(0, AF_NETLINK), IS(2, NETLINK_ROUTE)),
    CALL(socketpair),
    CALL(connect),
    CALL(bind),
    CALL(listen),
    CALL(accept4),
    CALL(shutdown),
    CALL(getsockname),
    CALL(getpeername),
    CALL(getsockopt),
    CALL(setsockopt),
    CALL(sendto),
    CALL(sendmsg),
    CALL(recvfrom),
    CALL(recvmsg),
    SOME(ioctl, IS(1, FIONBIO)),
    RARELY(sendmmsg, "the C library, two questions to a name server at once"),
    CALL(uname),

    /* Waiting: the loop, the C library while it looks up a name. */
    CALL(epoll_create1),
    CALL(epoll_ctl),
    CALL(epoll_wait),
    CALL(eventfd2),
    CALL(poll),
    CALL(futex),
    CALL(sched_yield),
    RARELY(epoll_pwait, "arm64, and newer libuv, for epoll_wait"),
    RARELY(ppoll, "arm64 has no poll"),
    RARELY(clock_nanosleep, "waiting where a timer of the loop cannot be"),
    RARELY(clock_gettime, "where the kernel's own page cannot tell the time"),
    RARELY(gettimeofday, "where the kernel's own page cannot tell the time"),
    RARELY(restart_syscall, "the kernel's own, behind a SIGSTOP"),

    /* Memory; none that is written and executed, though a library may be loaded. */
    CALL(brk),
    CALL(munmap),
    CALL(madvise),
    SOME(mmap, MASKED(2, WRITE_EXEC, 0)),
    SOME(mmap, MASKED(2, WRITE_EXEC, PROT_WRITE)),
    SOME(mmap, MASKED(2, WRITE_EXEC, PROT_EXEC)),
    SOME(mprotect, MASKED(2, PROT_EXEC, 0)),
    RARELY(mremap, "large pieces of memory that grow"),
    RARELY(getrandom, "OpenSSL's generator, seeded anew each hour; pauses by chance"),

    /* Threads, no processes. clone3 hides its flags behind a pointer; calls.c. */
    SOME(clone, MASKED(0, CLONE_THREAD, CLONE_THREAD)),
    CALL(set_robust_list),
    CALL(rseq),
    CALL(exit),
    CALL(exit_group),
    RARELY(gettid, "a crash: abort(3)"),
    RARELY(tgkill, "a crash: abort(3). Of another process only to one of the same user"),
    RARELY(sched_getaffinity, "the C library, counting processors for its memory"),
    RARELY(membarrier, "the C library, where threads share what is thread-local"),

    /* Signals, limits, who it is and what it has used; the opener's end. */
    CALL(rt_sigaction),
    CALL(rt_sigprocmask),
    RARELY(rt_sigreturn, "the end of a signal's handler"),
    CALL(getpid),
    CALL(geteuid),
    CALL(getrusage),
    CALL(prlimit64),
    CALL(wait4),
    RARELY(kill, "itself, when it must be started again (stale.c)"),
    RARELY(waitid, "newer C libraries, for wait4"),
};

static const struct tf_call of_programs[] = {
    /* Main: a process, pipes to it, the program, its end. */
    SOME(clone, MASKED(0, NAMESPACES, 0)),
    CALL(execve),
    CALL(pipe2),
    CALL(dup2),
    CALL(chdir),
    CALL(kill),
    RARELY(dup3, "arm64 has no dup2"),
    RARELY(vfork, "newer libuv and C libraries, for clone"),
    RARELY(close_range, "newer libuv, before the program"),

    /* Its beginning: the loader, the C library, libsystemd. */
    CALL(arch_prctl),
    CALL(set_tid_address),
    CALL(getrandom),
    CALL(statfs),
    CALL(gettid),
    RARELY(readlink, "the loader, where a library's path depends on the program's"),
    RARELY(getuid, "older libsystemd"),
    RARELY(sysinfo, "libsystemd, how much memory there is"),

    /* What it gives up by itself; libcap asks what capabilities there are. */
    CALL(seccomp),
    CALL(landlock_create_ruleset),
    CALL(landlock_add_rule),
    CALL(landlock_restrict_self),
    CALL(capget),
    CALL(capset),
    CALL(prctl),
    SOME(ioctl, IS(1, TCGETS)),

    /* Waiting for the journal. */
    CALL(ppoll),
};

static const struct tf_call of_opener[] = {
    /* Requests. */
    CALL(recvmsg),
    CALL(sendmsg),

    /* Opening, watches, raising the right to read. */
    CALL(openat2),
    CALL(openat),
    CALL(statx),
    CALL(readlinkat),
    CALL(fgetxattr),
    CALL(fcntl),
    CALL(close),
    CALL(inotify_add_watch),
    CALL(capset),

    /* Its log; noticing what was replaced (stale.c); its end. */
    RARELY(write, "its log, of a request that is none"),
    RARELY(clock_gettime, "where the kernel's own page cannot tell the time"),
    RARELY(newfstatat, "a root was replaced, so it is refused"),
    RARELY(restart_syscall, "the kernel's own, behind a SIGSTOP"),
    CALL(exit_group),
};

/* What it starts inherits the filter. */
static const struct tf_call of_launcher[] = {
    /* Requests, and ends of children; its log. */
    CALL(poll),
    CALL(recvmsg),
    CALL(sendmsg),
    CALL(read),
    CALL(write),
    CALL(close),
    CALL(wait4),
    CALL(kill),
    CALL(exit_group),
    RARELY(ppoll, "arm64 has no poll"),
    RARELY(waitid, "newer C libraries, for wait4"),
    RARELY(restart_syscall, "the kernel's own, behind a SIGSTOP"),

    /* A process, its descriptors and signals, the program. */
    SOME(clone, MASKED(0, NAMESPACES, 0)),
    CALL(rt_sigaction),
    CALL(rt_sigprocmask),
    CALL(dup2),
    CALL(fcntl),
    CALL(execve),
    RARELY(dup3, "arm64 has no dup2"),
    RARELY(vfork, "other C libraries, for clone"),

    /* The program's beginning: the loader, the C library. */
    CALL(access),
    CALL(arch_prctl),
    CALL(set_tid_address),
    CALL(set_robust_list),
    CALL(rseq),
    CALL(prlimit64),
    CALL(getrandom),
    CALL(futex),
    RARELY(faccessat, "arm64 has no access"),
    RARELY(faccessat2, "newer C libraries, for access"),
    RARELY(readlink, "the loader, where a library's path depends on the program's"),
    RARELY(readlinkat, "arm64 has no readlink"),

    /* Memory; none that is written and executed. */
    CALL(brk),
    CALL(munmap),
    SOME(mmap, MASKED(2, WRITE_EXEC, 0)),
    SOME(mmap, MASKED(2, WRITE_EXEC, PROT_WRITE)),
    SOME(mmap, MASKED(2, WRITE_EXEC, PROT_EXEC)),
    SOME(mprotect, MASKED(2, PROT_EXEC, 0)),
    RARELY(madvise, "memory that is given back"),
    RARELY(mremap, "large pieces of memory that grow"),

    /* What it gives up by itself; libcap asks what capabilities there are. */
    CALL(seccomp),
    CALL(landlock_create_ruleset),
    CALL(landlock_add_rule),
    CALL(landlock_restrict_self),
    CALL(capget),
    CALL(capset),
    CALL(prctl),
    CALL(getpid),

    /* The journal's files, and waiting for them. */
    CALL(openat),
    CALL(newfstatat),
    CALL(fstatfs),
    CALL(getdents64),
    CALL(pread64),
    CALL(inotify_init1),
    CALL(inotify_add_watch),
    RARELY(inotify_rm_watch, "a machine's folder is gone"),
    RARELY(open, "older C libraries, for openat"),
    RARELY(stat, "older C libraries, for newfstatat"),
    RARELY(fstat, "older and newer C libraries, for newfstatat"),
    RARELY(lstat, "older C libraries, for newfstatat"),
    RARELY(statx, "newer libsystemd, for newfstatat"),
    RARELY(statfs, "libsystemd, whether a folder is on the network"),
    RARELY(lseek, "the C library, at the end of a listing"),
    RARELY(getuid, "older libsystemd"),
    RARELY(sysinfo, "libsystemd, how much memory there is"),
    RARELY(uname, "older libsystemd"),
    RARELY(clock_gettime, "where the kernel's own page cannot tell the time"),
    RARELY(gettimeofday, "where the kernel's own page cannot tell the time"),
    RARELY(rt_sigreturn, "the end of a signal's handler"),
    RARELY(gettid, "a crash: abort(3)"),
    RARELY(tgkill, "a crash: abort(3)"),
};

const struct tf_calls tf_allowed_main = TABLE(of_main);
const struct tf_calls tf_allowed_programs = TABLE(of_programs);
const struct tf_calls tf_allowed_opener = TABLE(of_opener);
const struct tf_calls tf_allowed_launcher = TABLE(of_launcher);
#endif
