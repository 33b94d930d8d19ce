/*
 * sandbox_probe.c - tries from inside what the agent's sandbox refuses, and takes layers away from
 * outside.
 *
 *     sandbox_probe inside read=PATH write=PATH outside=PATH connect=PORT listen=PORT [run=PROGRAM]
 * [user=NAME] [mode=strict] confines itself as the agent does, to these needs; then prints a line
 * "NAME RESULT" for each trial: 0, a number, or the errno with which the call was refused
 *
 *     sandbox_probe opener ROOT OUTSIDE
 * confines itself as the process that opens logs below ROOT; then the same. Both have a file `file`
 *
 *     taffrail-journal --directory=FOLDER ...
 * under this name: started by the launcher, tries what that lets the reader do, until its stdin
 * ends. Beside FOLDER there are files `secret` and `public`, and in it `file`
 *
 *     sandbox_probe without LAYER PROGRAM ARG...
 * runs the program under a filter that knows not the calls of a layer
 *
 * For test_sandbox.py, test_opener.py and test_launcher.py.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/netlink.h>
#include <pthread.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "taffrail/sandbox.h"

#define PROBE_MDWE 65 /* PR_SET_MDWE */

static const char *inside, *outside, *readable;
static char end_of_trial = '\n';
static int say_to = STDOUT_FILENO;
static uint16_t connect_port, listen_port;

static void say(const char *name, long result)
{
    char line[128];
    int size = snprintf(line, sizeof line, "%s %ld%c", name, result < 0 ? (long)errno : result,
                        end_of_trial);

    (void)!write(say_to, line, (size_t)size);
}

static void say_fd(const char *name, int fd)
{
    say(name, fd < 0 ? -1 : 0);
    if (fd >= 0) {
        (void)close(fd);
    }
}

/* In a child: its exit code is the errno. */
static void say_child(const char *name, int (*run)(void))
{
    int status = 0;
    pid_t pid = fork();

    if (pid == 0) {
        _exit(run() < 0 ? errno : 0);
    }
    if (pid < 0 || waitpid(pid, &status, 0) < 0) {
        say(name, -1);
    } else {
        say(name, WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status));
    }
}

static int run_true(void)
{
    char *words[] = {"true", NULL};

    return execv("/bin/true", words);
}

static int be_traced(void)
{
    return (int)ptrace(PTRACE_TRACEME, 0, NULL, NULL);
}

static void try_files(void)
{
    char path[4096];

    say_fd("open_shadow", open("/etc/shadow", O_RDONLY));
    say_fd("open_allowed", open(readable, O_RDONLY));
    say_fd("write_allowed", open(readable, O_WRONLY));
    (void)snprintf(path, sizeof path, "%s/made", inside);
    say_fd("make_inside", open(path, O_CREAT | O_RDWR, 0600));
    say("remove_inside", unlink(path));
    say("folder_inside", mkdir(path, 0700));
    say("link_inside", symlink("/etc/shadow", path));
    (void)snprintf(path, sizeof path, "%s/made", outside);
    say_fd("make_outside", open(path, O_CREAT | O_RDWR, 0600));
    say_child("execute", run_true);
}

static void try_port(const char *name, uint16_t port, bool is_connect)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    int fd = socket(AF_INET, SOCK_STREAM, 0), rc;

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    rc = is_connect ? connect(fd, (struct sockaddr *)&address, sizeof address)
                    : bind(fd, (struct sockaddr *)&address, sizeof address);
    say(name, rc);
    (void)close(fd);
}

static void try_sockets(void)
{
    try_port("connect_allowed", connect_port, true);
    try_port("connect_other", (uint16_t)(connect_port + 1), true);
    try_port("listen_allowed", listen_port, false);
    try_port("listen_other", (uint16_t)(listen_port + 1), false);
    say_fd("socket_unix", socket(AF_UNIX, SOCK_STREAM, 0));
    say_fd("socket_route", socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE));
    say_fd("socket_uevent", socket(AF_NETLINK, SOCK_RAW, NETLINK_KOBJECT_UEVENT));
    say_fd("socket_packet", socket(AF_PACKET, SOCK_RAW, 0));
    say_fd("socket_alg", socket(AF_ALG, SOCK_SEQPACKET, 0));
    say_fd("socket_hidden", (int)syscall(SYS_socket, (1UL << 32) + AF_ALG, SOCK_SEQPACKET, 0));
}

static int do_nothing(void)
{
    return 0;
}

static long make_namespace(void)
{
    long pid = syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0);

    if (pid == 0) {
        _exit(0);
    }
    return pid < 0 ? -1 : 0;
}

/* Each but the last two is let through in mode normal. */
static void try_unlisted(void)
{
    say("getppid", syscall(SYS_getppid) < 0 ? -1 : 0);
    say("getpriority", syscall(SYS_getpriority, PRIO_PROCESS, 0) < 0 ? -1 : 0);
    say("umask", syscall(SYS_umask, 077) < 0 ? -1 : 0);
    say("setuid", syscall(SYS_setuid, getuid()));
    say("set_name", prctl(PR_SET_NAME, "other"));
    say("ioctl", ioctl(STDERR_FILENO, FIOCLEX));
    say_child("fork", do_nothing);
    say("clone3", syscall(SYS_clone3, NULL, 0));
    say("namespace", make_namespace());
}

static void try_calls(void)
{
    say_child("ptrace", be_traced);
    say("process_vm_readv", syscall(SYS_process_vm_readv, getpid(), NULL, 0, NULL, 0, 0));
    say("io_uring", syscall(SYS_io_uring_setup, 0, NULL));
    say("keyctl", syscall(SYS_keyctl, 0, -3, 0)); /* KEYCTL_GET_KEYRING_ID of the session */
    say("unshare", syscall(SYS_unshare, 0));
    say("bpf", syscall(SYS_bpf, 99, NULL, 0));
    say("userfaultfd", syscall(SYS_userfaultfd, ~0U));
    say("mount", syscall(SYS_mount, NULL, NULL, NULL, 0, NULL));
    say("signal", kill(getppid(), 0));
}

static void try_memory(void)
{
    const size_t size = 4096;
    void *both =
        mmap(NULL, size, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    void *page;

    say("map_both", both == MAP_FAILED ? -1 : 0);
    page = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    say("make_executable", mprotect(page, size, PROT_READ | PROT_EXEC));
    say("dumpable", prctl(PR_GET_DUMPABLE, 0, 0, 0, 0));
}

static long effective(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {{0}};

    return syscall(SYS_capget, &header, data) < 0 ? -1 : (long)data[0].effective;
}

static void *look(void *out)
{
    *(long *)out = effective();
    return NULL;
}

/* Of two threads, that which raises may more. */
static void try_capability(void)
{
    pthread_t thread;
    long other = -1;

    say("effective", effective());
    if (pthread_create(&thread, NULL, look, &other) == 0) {
        (void)pthread_join(thread, NULL);
    }
    say("effective_of_thread", other);
    tf_sandbox_raise();
    tf_sandbox_raise();
    tf_sandbox_lower();
    say("raised", effective());
    say_fd("open_shadow_raised", open("/etc/shadow", O_RDONLY));
    tf_sandbox_lower();
    say("lowered", effective());
}

static bool take_need(struct tf_needs *needs, char *word, struct tf_sandbox_options *options)
{
    char *value = strchr(word, '=');

    if (value == NULL) {
        return false;
    }
    *value++ = '\0';
    if (strcmp(word, "read") == 0) {
        tf_needs_path(needs, TF_NEED_READ, readable = value);
    } else if (strcmp(word, "write") == 0) {
        tf_needs_path(needs, TF_NEED_WRITE, inside = value);
    } else if (strcmp(word, "run") == 0) {
        tf_needs_path(needs, TF_NEED_RUN, value);
    } else if (strcmp(word, "connect") == 0) {
        tf_needs_port(needs, TF_NEED_CONNECT, connect_port = (uint16_t)strtoul(value, NULL, 10));
    } else if (strcmp(word, "listen") == 0) {
        tf_needs_port(needs, TF_NEED_LISTEN, listen_port = (uint16_t)strtoul(value, NULL, 10));
    } else if (strcmp(word, "outside") == 0) {
        outside = value;
    } else if (strcmp(word, "mode") == 0) {
        options->mode = strcmp(value, "strict") == 0 ? TF_SANDBOX_STRICT : TF_SANDBOX_NORMAL;
    } else {
        options->user.text = value;
    }
    return true;
}

static int probe(int argc, char **argv)
{
    struct tf_sandbox_options options = {0};
    struct tf_sandbox_status status;
    struct tf_needs *needs = tf_needs_new();
    struct tf_error err;

    tf_error_init(&err);
    for (int i = 0; i < argc; i++) {
        if (!take_need(needs, argv[i], &options)) {
            return 2;
        }
    }
    if (tf_sandbox_begin(&options, &err) < 0 || tf_sandbox_close(&options, needs, &err) < 0) {
        (void)tf_error_print(&err, stderr);
        return 1;
    }
    tf_sandbox_status(&status);
    say("layers", status.layers);
    say("landlock", status.landlock_abi);
    say("memory", status.memory);
    say("calls", status.calls);
    try_files();
    try_sockets();
    try_calls();
    try_memory();
    try_capability();
    try_unlisted();
    return 0;
}

static void try_open_in(const char *name, const char *folder, const char *file, int flags)
{
    char path[4096];

    (void)snprintf(path, sizeof path, "%s/%s", folder, file);
    say_fd(name, open(path, flags, 0600));
}

static int probe_opener(const char *root, const char *other)
{
    struct tf_needs *needs = tf_needs_new();
    struct tf_sandbox_options options = {0};
    struct tf_sandbox_status status;
    struct tf_error err;
    char path[4096], byte;
    int fd;

    tf_error_init(&err);
    tf_needs_path(needs, TF_NEED_READ, root);
    if (tf_sandbox_begin(&options, &err) < 0 || tf_sandbox_close_opener(needs, &status) < 0) {
        return 1;
    }
    (void)snprintf(path, sizeof path, "%s/file", root);
    say("layers", status.layers);
    tf_sandbox_raise();
    try_open_in("open_inside", root, "file", O_RDONLY);
    try_open_in("list_inside", root, "", O_RDONLY | O_DIRECTORY);
    try_open_in("write_inside", root, "file", O_WRONLY);
    try_open_in("cut_inside", root, "file", O_RDONLY | O_TRUNC);
    try_open_in("make_inside", root, "made", O_CREAT | O_WRONLY);
    try_open_in("open_outside", other, "file", O_RDONLY);
    try_open_in("make_outside", other, "made", O_CREAT | O_WRONLY);
    try_open_in("open_shadow", "/etc", "shadow", O_RDONLY);
    try_open_in("open_proc", "/proc/self", "maps", O_RDONLY);
    fd = open(path, O_RDONLY);
    say("read", read(fd, &byte, 1)); /* not even what it opens */
    say("pread", pread(fd, &byte, 1, 0));
    say("map", mmap(NULL, 1, PROT_READ, MAP_PRIVATE, fd, 0) == MAP_FAILED ? -1 : 0);
    say("remove", unlink(path));
    say("socket", socket(AF_UNIX, SOCK_STREAM, 0));
    say("internet", socket(AF_INET, SOCK_STREAM, 0));
    say("fork", (long)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0));
    say("execute", run_true());
    say("signal", kill(getppid(), 0));
    say("ptrace", ptrace(PTRACE_TRACEME, 0, NULL, NULL));
    say("capget", effective());
    say("setuid", setuid(65534));
    return 0;
}

static int probe_reader(const char *folder)
{
    char beside[4096], byte;

    say_to = STDERR_FILENO; /* on one line, which becomes one of the agent's log */
    end_of_trial = ' ';
    (void)snprintf(beside, sizeof beside, "%s/..", folder);
    say("effective", effective());
    try_open_in("open_inside", folder, "file", O_RDONLY);
    try_open_in("list_inside", folder, "", O_RDONLY | O_DIRECTORY);
    try_open_in("write_inside", folder, "file", O_WRONLY);
    try_open_in("make_inside", folder, "made", O_CREAT | O_WRONLY);
    try_open_in("open_secret", beside, "secret", O_RDONLY);
    try_open_in("open_public", beside, "public", O_RDONLY);
    try_open_in("open_shadow", "/etc", "shadow", O_RDONLY);
    try_open_in("open_proc", "/proc/self", "environ", O_RDONLY);
    try_port("connect", 9, true);
    say_child("execute", run_true);
    say("mount", syscall(SYS_mount, NULL, NULL, NULL, 0, NULL));
    say("unshare", syscall(SYS_unshare, 0));
    (void)!write(say_to, "done\n", 5);
    return read(STDIN_FILENO, &byte, 1) == 0 ? 0 : 1;
}

static void forbid(scmp_filter_ctx filter, int error, int call)
{
    (void)seccomp_rule_add(filter, SCMP_ACT_ERRNO((unsigned)error), call, 0);
}

static void forbid_prctl(scmp_filter_ctx filter, int option)
{
    (void)seccomp_rule_add(filter, SCMP_ACT_ERRNO(EINVAL), SCMP_SYS(prctl), 1,
                           SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)option));
}

static int without(const char *layer, char **argv)
{
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);

    if (strcmp(layer, "landlock") == 0) {
        forbid(filter, ENOSYS, SCMP_SYS(landlock_create_ruleset));
    } else if (strcmp(layer, "mdwe") == 0) {
        forbid_prctl(filter, PROBE_MDWE);
    } else if (strcmp(layer, "seccomp") == 0) {
        forbid(filter, ENOSYS, SCMP_SYS(seccomp));
        forbid_prctl(filter, PR_SET_SECCOMP);
    } else if (strcmp(layer, "capabilities") == 0) {
        forbid(filter, EPERM, SCMP_SYS(capset));
    } else if (strcmp(layer, "no_new_privs") == 0) {
        forbid_prctl(filter, PR_SET_NO_NEW_PRIVS);
    } else {
        return 2;
    }
    /* Root may load a filter without no_new_privs; so that is not set from outside. */
    if (seccomp_attr_set(filter, SCMP_FLTATR_CTL_NNP, 0) != 0 || seccomp_load(filter) != 0) {
        return 1;
    }
    (void)execv(argv[0], argv);
    return 1;
}

int main(int argc, char **argv)
{
    const char *slash = strrchr(argv[0], '/'), *option = "--directory=";

    if (slash != NULL && strcmp(slash, "/taffrail-journal") == 0) {
        for (int i = 1; i < argc; i++) {
            if (strncmp(argv[i], option, strlen(option)) == 0) {
                return probe_reader(argv[i] + strlen(option));
            }
        }
    }
    if (argc > 3 && strcmp(argv[1], "without") == 0) {
        return without(argv[2], argv + 3);
    }
    if (argc == 4 && strcmp(argv[1], "opener") == 0) {
        _exit(probe_opener(argv[2], argv[3])); /* there is no call for more */
    }
    return argc > 2 && strcmp(argv[1], "inside") == 0 ? probe(argc - 2, argv + 2) : 2;
}
