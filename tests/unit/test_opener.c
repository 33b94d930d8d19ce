/*
 * test_opener.c - what is opened of what a hostile folder holds out, and how that is asked of
 * another process: nothing outside the roots is ever opened, whatever is planted, swapped or asked.
 *
 * The rules are tried three times: in this process, through a process, and as on a kernel without
 * openat2: syscall is defined here, before libc's, so that it says so.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../agent/opener/internal.h"
#include "../../agent/sandbox/internal.h"

#define STRANGER  12345u
#define RACE_MS   300
#define LATE_MS   30000
#define PATH_SIZE 512u

static bool is_by_process, has_no_openat2;

/* What befalls a process. */
static enum {
    NO_FAULT,
    NO_SOCKETS,
    NO_DATAGRAMS,
    NO_FORK,
    DIES_STARTING,
    HANGS_STARTING,
    HANGS_ENDING,
    TOO_MANY_ON_THEIR_WAY
} fault;

int socketpair(int family, int type, int protocol, int fds[2])
{
    if (fault == NO_SOCKETS ||
        (fault == NO_DATAGRAMS && (type & SOCK_SEQPACKET) != SOCK_SEQPACKET)) {
        errno = EMFILE;
        return -1;
    }
    return (int)syscall(SYS_socketpair, family, type, protocol, fds);
}

pid_t fork(void)
{
    if (fault == NO_FORK) {
        errno = EAGAIN;
        return -1;
    }
    return ((pid_t(*)(void))dlsym(RTLD_NEXT, "fork"))();
}

/* Descriptors are on their way, of all processes of the user. */
ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
    if (fault == TOO_MANY_ON_THEIR_WAY && message->msg_controllen > 0) {
        errno = ETOOMANYREFS;
        return -1;
    }
    return syscall(SYS_sendmsg, fd, message, flags);
}

/* No test waits long for what hangs. */
int poll(struct pollfd *fds, nfds_t count, int timeout_ms)
{
    int (*real)(struct pollfd *, nfds_t, int) =
        (int (*)(struct pollfd *, nfds_t, int))dlsym(RTLD_NEXT, "poll");

    if (fault == HANGS_STARTING && count > 0) {
        timeout_ms = 50;
    }
    return real(fds, count, fault == HANGS_ENDING ? 0 : timeout_ms);
}

pid_t waitpid(pid_t pid, int *status, int options)
{
    if (fault == HANGS_ENDING) {
        return 0;
    }
    return ((pid_t(*)(pid_t, int *, int))dlsym(RTLD_NEXT, "waitpid"))(pid, status, options);
}

static void suffer(void)
{
    if (fault == DIES_STARTING) {
        _exit(1);
    }
    while (fault == HANGS_STARTING) {
        (void)pause();
    }
}

/* It takes six words whoever called it with fewer, as libc's does. */
__attribute__((no_sanitize("address"))) long syscall(long number, ...)
{
    static long (*real)(long, ...);
    long words[6];
    va_list list;

    if (real == NULL) {
        real = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
    }
    if (number == SYS_openat2 && has_no_openat2) {
        errno = ENOSYS;
        return -1;
    }
    if (number == SYS_close_range) {
        suffer();
    }
    va_start(list, number);
    for (size_t i = 0; i < TF_COUNT(words); i++) {
        words[i] = va_arg(list, long);
    }
    va_end(list);
    return real(number, words[0], words[1], words[2], words[3], words[4], words[5]);
}

/* ---- a tree -----------------------------------------------------------------------------------
 */

/* DIR/logs and DIR/docker are roots, DIR/secret is outside. */
struct world {
    char dir[64];
    char path[PATH_SIZE];
    struct tf_opener opener;
    struct tf_opener_process *process;
};

static const char *at(struct world *world, const char *name)
{
    (void)snprintf(world->path, sizeof world->path, "%s/%s", world->dir, name);
    return world->path;
}

static void put(struct world *world, const char *name, const char *text)
{
    int fd = open(at(world, name), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    (void)close(fd);
}

static void make_dir(struct world *world, const char *name)
{
    assert_int_equal(mkdir(at(world, name), 0755), 0);
}

static void make_link(struct world *world, const char *target, const char *name)
{
    assert_int_equal(symlink(target, at(world, name)), 0);
}

/* A link to a place in the tree, by its absolute path. */
static void make_link_into(struct world *world, const char *target, const char *name)
{
    char path[PATH_SIZE];

    (void)snprintf(path, sizeof path, "%s/%s", world->dir, target);
    make_link(world, path, name);
}

static void add_roots(struct world *world, struct tf_opener *opener)
{
    assert_int_equal(tf_opener_init(opener), 0);
    assert_int_equal(tf_opener_add_root(opener, at(world, "logs")), 0);
    assert_int_equal(tf_opener_add_root(opener, at(world, "docker")), 0);
}

static struct tf_opener_process *make_process(struct world *world)
{
    struct tf_opener_process *process = tf_opener_process_new();
    struct tf_opener rules;

    add_roots(world, &rules);
    for (size_t i = rules.owner_count; i < world->opener.owner_count; i++) {
        char number[16];

        (void)snprintf(number, sizeof number, "%u", world->opener.owners[i].user);
        assert_int_equal(tf_opener_add_owner(&rules, number), 0);
    }
    assert_non_null(process);
    assert_int_equal(tf_opener_process_add(process, "logs", &rules), 0);
    return process;
}

/* What was added to the opener until now holds; the process gets the same. */
static void begin(struct world *world)
{
    if (!is_by_process) {
        return;
    }
    world->process = make_process(world);
    assert_int_equal(tf_opener_process_start(world->process), 0);
    tf_opener_process_attach(world->process, "logs", &world->opener);
}

static int set_up(void **state)
{
    struct world *world = calloc(1, sizeof *world);

    assert_non_null(world);
    (void)snprintf(world->dir, sizeof world->dir, "/tmp/taffrail-opener-XXXXXX");
    assert_non_null(mkdtemp(world->dir));
    make_dir(world, "logs");
    make_dir(world, "logs/pod");
    make_dir(world, "docker");
    make_dir(world, "docker/id");
    put(world, "logs/pod/a.log", "inside");
    put(world, "docker/id/j.log", "inside");
    put(world, "secret", "outside");
    add_roots(world, &world->opener);
    *state = world;
    return 0;
}

static int remove_one(const char *path, const struct stat *status, int type, struct FTW *ftw)
{
    (void)status;
    (void)type;
    (void)ftw;
    return remove(path);
}

static size_t open_descriptors(void)
{
    size_t count = 0;

    for (int fd = 0; fd < 256; fd++) {
        count += fcntl(fd, F_GETFD) >= 0;
    }
    return count;
}

static int tear_down(void **state)
{
    struct world *world = *state;

    tf_opener_process_free(world->process);
    tf_opener_fini(&world->opener);
    assert_int_equal(nftw(world->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS), 0);
    free(world);
    return 0;
}

/* ---- asking -----------------------------------------------------------------------------------
 */

static int try_file(struct world *world, const char *name, struct tf_opened *opened)
{
    return tf_opener_file(&world->opener, at(world, name), opened);
}

static void opens(struct world *world, const char *name)
{
    struct tf_opened opened;
    char text[16] = "";

    assert_int_equal(try_file(world, name, &opened), 0);
    assert_int_equal(read(opened.fd, text, sizeof text - 1), 6);
    assert_string_equal(text, "inside");
    assert_int_equal(fcntl(opened.fd, F_GETFD), FD_CLOEXEC);
    assert_int_equal(fcntl(opened.fd, F_GETFL) & O_ACCMODE, O_RDONLY);
    (void)close(opened.fd);
}

static void refuses(struct world *world, const char *name, int rc, const char *why)
{
    size_t before = open_descriptors();
    struct tf_opened opened;

    assert_int_equal(try_file(world, name, &opened), rc);
    assert_int_equal(opened.fd, -1);
    assert_non_null(strstr(opened.why, why));
    assert_int_equal(open_descriptors(), before);
}

static void refuses_dir(struct world *world, const char *name, int rc, const char *why)
{
    const char *reason;

    assert_int_equal(tf_opener_dir(&world->opener, at(world, name), &reason), rc);
    assert_non_null(strstr(reason, why));
}

/* ---- the rules --------------------------------------------------------------------------------
 */

static void a_regular_file_is_opened_and_told(void **state)
{
    struct world *world = *state;
    struct tf_opened opened;
    struct stat status;

    begin(world);
    opens(world, "logs/pod/a.log");
    assert_int_equal(try_file(world, "logs/pod/a.log", &opened), 0);
    assert_int_equal(stat(at(world, "logs/pod/a.log"), &status), 0);
    assert_int_equal(opened.id.device, status.st_dev);
    assert_int_equal(opened.id.inode, status.st_ino);
    assert_int_equal(opened.size, 6);
    assert_int_equal(opened.mode, S_IFREG | 0600);
    assert_int_equal(opened.changed_ns,
                     status.st_mtim.tv_sec * TF_S_IN_NS + status.st_mtim.tv_nsec);
    assert_int_equal(opened.altered_ns,
                     status.st_ctim.tv_sec * TF_S_IN_NS + status.st_ctim.tv_nsec);
    assert_false(opened.is_link);
    (void)close(opened.fd);
    refuses(world, "logs/pod/b.log", -ENOENT, "no such file");
    refuses(world, "logs/other/a.log", -ENOENT, "no such file");
    refuses(world, "secret", -EPERM, "out of link_roots");
    refuses(world, "logs-other", -EPERM, "out of link_roots");
}

static void a_folder_is_opened_for_listing(void **state)
{
    struct world *world = *state;
    const char *why;
    int fd;

    begin(world);
    fd = tf_opener_dir(&world->opener, at(world, "logs/pod"), &why);
    assert_true(fd >= 0);
    assert_int_equal(faccessat(fd, "a.log", F_OK, 0), 0);
    (void)close(fd);
    fd = tf_opener_dir(&world->opener, at(world, "logs"), &why);
    assert_true(fd >= 0);
    (void)close(fd);
    refuses_dir(world, "logs/none", -ENOENT, "no such file");
    refuses_dir(world, "logs/pod/a.log", -ENOTDIR, "not a directory");
    make_link(world, "pod", "logs/linked");
    assert_true(tf_opener_dir(&world->opener, at(world, "logs/linked"), &why) < 0);
    assert_true(tf_opener_dir(&world->opener, at(world, "logs/linked/sub"), &why) < 0);
    refuses_dir(world, "", -EPERM, "out of link_roots");
}

static void links_lead_from_root_to_root_only(void **state)
{
    struct world *world = *state;
    struct tf_opened opened;

    begin(world);
    make_link_into(world, "docker/id/j.log", "logs/pod/0.log");
    make_link(world, "../../docker/id/j.log", "logs/pod/1.log");
    make_link(world, "pod/0.log", "logs/2.log");
    make_link(world, "2.log", "logs/3.log");
    make_link(world, "3.log", "logs/4.log");
    make_link_into(world, "secret", "logs/out.log");
    make_link(world, "../secret", "logs/up.log");
    make_link(world, "../docker/../secret", "logs/dots.log");
    make_link(world, "out.log", "logs/two.log");
    make_link(world, "/etc/shadow", "logs/shadow.log");
    make_link(world, "/proc/self/environ", "logs/magic.log");
    make_link(world, "loop.log", "logs/loop.log");
    make_link(world, "none.log", "logs/dangling.log");
    make_link(world, "pod", "logs/folder.log");
    opens(world, "logs/pod/0.log");
    opens(world, "logs/pod/1.log");
    opens(world, "logs/2.log");
    opens(world, "logs/3.log"); /* three links: 3, 2, 0 */
    refuses(world, "logs/4.log", -EPERM, "too many links");
    refuses(world, "logs/loop.log", -EPERM, "too many links");
    refuses(world, "logs/out.log", -EPERM, "out of link_roots");
    refuses(world, "logs/up.log", -EPERM, "out of link_roots");
    refuses(world, "logs/dots.log", -EPERM, "out of link_roots");
    refuses(world, "logs/two.log", -EPERM, "out of link_roots");
    refuses(world, "logs/shadow.log", -EPERM, "out of link_roots");
    refuses(world, "logs/magic.log", -EPERM, "out of link_roots");
    refuses(world, "logs/dangling.log", -ENOENT, "no such file");
    refuses(world, "logs/folder.log", -EPERM, "not a regular file");
    assert_int_equal(try_file(world, "logs/folder.log/a.log", &opened), -ENOTDIR);
    assert_int_equal(try_file(world, "logs/2.log", &opened), 0);
    assert_true(opened.is_link);
    (void)close(opened.fd);
}

static void what_is_no_plain_file_is_refused(void **state)
{
    struct world *world = *state;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char original[PATH_SIZE];
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    begin(world);
    assert_int_equal(mkfifo(at(world, "logs/fifo.log"), 0644), 0);
    assert_true(strlen(at(world, "logs/socket.log")) < sizeof address.sun_path);
    memcpy(address.sun_path, world->path, sizeof address.sun_path - 1);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    (void)close(fd);
    (void)snprintf(original, sizeof original, "%s", at(world, "secret"));
    assert_int_equal(link(original, at(world, "logs/hard.log")), 0);
    refuses(world, "logs/fifo.log", -EPERM, "not a regular file");
    refuses(world, "logs/socket.log", -EPERM, "not a regular file");
    refuses(world, "logs/pod", -EPERM, "not a regular file");
    refuses(world, "logs", -EPERM, "not a regular file");
    refuses(world, "logs/hard.log", -EPERM, "several names");
    if (mknod(at(world, "logs/device.log"), S_IFCHR | 0666, makedev(1, 3)) == 0) { /* /dev/null */
        refuses(world, "logs/device.log", -EPERM, "not a regular file");
    }
}

static void owners_and_modes_are_looked_at_on_the_whole_way(void **state)
{
    struct world *world = *state;

    begin(world);
    make_link(world, "pod/a.log", "logs/link.log");
    assert_int_equal(chmod(at(world, "logs/pod"), 0757), 0);
    refuses(world, "logs/pod/a.log", -EPERM, "others may write");
    refuses(world, "logs/link.log", -EPERM, "others may write");
    refuses_dir(world, "logs/pod", -EPERM, "others may write");
    assert_int_equal(chmod(at(world, "logs/pod"), 0755), 0);
    opens(world, "logs/link.log");
    assert_int_equal(chmod(at(world, "logs"), 01777), 0);
    refuses(world, "logs/pod/a.log", -EPERM, "others may write");
    assert_int_equal(chmod(at(world, "logs"), 0775), 0); /* our group */
    opens(world, "logs/pod/a.log");
    if (geteuid() != 0) {
        return;
    }
    assert_int_equal(chown(at(world, "logs"), 0, STRANGER), 0);
    refuses(world, "logs/pod/a.log", -EPERM, "others may write");
    assert_int_equal(chown(at(world, "logs"), STRANGER, 0), 0);
    refuses(world, "logs/pod/a.log", -EPERM, "its folder belongs to another user");
    assert_int_equal(chown(at(world, "logs"), 0, 0), 0);
    assert_int_equal(chown(at(world, "logs/pod/a.log"), STRANGER, 0), 0);
    refuses(world, "logs/pod/a.log", -EPERM, "it belongs to another user");
}

static void an_access_list_that_lets_others_write_is_no_group(void **state)
{
    /* version 2; owner rwx, user STRANGER rwx, group r-x, mask rwx, others r-x */
    const struct {
        uint32_t version;
        struct {
            uint16_t tag, rights;
            uint32_t id;
        } entries[5];
    } list = {2,
              {{1, 7, UINT32_MAX},
               {2, 7, STRANGER},
               {4, 5, UINT32_MAX},
               {16, 7, UINT32_MAX},
               {32, 5, UINT32_MAX}}};
    struct world *world = *state;

    begin(world);
    if (setxattr(at(world, "logs/pod"), "system.posix_acl_access", &list, sizeof list, 0) < 0) {
        skip(); /* a file system without them */
    }
    refuses(world, "logs/pod/a.log", -EPERM, "others may write");
}

static void named_owners_are_trusted(void **state)
{
    struct world *world = *state;

    if (geteuid() != 0) {
        skip();
    }
    assert_int_equal(chown(at(world, "logs/pod"), STRANGER, STRANGER), 0);
    assert_int_equal(chown(at(world, "logs/pod/a.log"), STRANGER, STRANGER), 0);
    assert_int_equal(tf_opener_add_owner(&world->opener, "no-such-user-here"), -ENOENT);
    assert_int_equal(tf_opener_add_owner(&world->opener, "12x"), -ENOENT);
    assert_int_equal(tf_opener_add_owner(&world->opener, "-1"), -ENOENT);
    assert_int_equal(tf_opener_add_owner(&world->opener, "4294967295"), -ENOENT);
    assert_int_equal(tf_opener_add_owner(&world->opener, "root"), 0);
    assert_int_equal(tf_opener_add_owner(&world->opener, "12345"), 0);
    begin(world);
    opens(world, "logs/pod/a.log");
    assert_int_equal(chmod(at(world, "logs/pod"), 0775), 0); /* of a group that nobody named */
    refuses(world, "logs/pod/a.log", -EPERM, "others may write");
}

/* /proc is one, on every machine. */
static void another_file_system_is_not_entered(void **state)
{
    struct tf_opener opener;
    struct tf_opened opened;
    const char *why;

    (void)state;
    if (is_by_process) {
        skip();
    }
    assert_int_equal(tf_opener_init(&opener), 0);
    assert_int_equal(tf_opener_add_root(&opener, "/"), 0);
    assert_int_equal(tf_opener_file(&opener, "/proc/version", &opened), -EPERM);
    assert_non_null(strstr(opened.why, "another file system"));
    assert_int_equal(tf_opener_dir(&opener, "/proc", &why), -EPERM);
    assert_int_equal(tf_opener_look(&opener, "/proc/version", &opened, NULL), -EPERM);
    tf_opener_fini(&opener);
}

static void a_look_tells_where_something_stands(void **state)
{
    struct world *world = *state;
    char place[TF_FILE_PATH_MAX], path[PATH_SIZE];
    struct tf_opened seen;
    struct stat status;

    begin(world);
    make_link_into(world, "docker/id/j.log", "logs/pod/0.log");
    make_link(world, "gone.log", "logs/pod/1.log");
    make_link_into(world, "secret", "logs/pod/2.log");
    assert_int_equal(tf_opener_look(&world->opener, at(world, "logs/pod/0.log"), &seen, place), 0);
    assert_true(seen.is_link);
    assert_int_equal(seen.fd, -1);
    assert_string_equal(place, at(world, "docker/id/j.log"));
    assert_int_equal(stat(world->path, &status), 0);
    assert_int_equal(seen.id.inode, status.st_ino);
    (void)snprintf(path, sizeof path, "%s", at(world, "logs/pod/1.log"));
    assert_int_equal(tf_opener_look(&world->opener, path, &seen, place), -ENOENT);
    assert_true(seen.is_link);
    assert_string_equal(place, at(world, "logs/pod/gone.log"));
    (void)snprintf(path, sizeof path, "%s", at(world, "logs/pod/2.log"));
    assert_int_equal(tf_opener_look(&world->opener, path, &seen, place), -EPERM);
    assert_true(seen.is_link);
    assert_string_equal(place, path); /* no further */
    assert_int_equal(seen.id.inode, 0);
    assert_int_equal(tf_opener_look(&world->opener, at(world, "logs/pod"), &seen, place), 0);
    assert_true(S_ISDIR(seen.mode));
    assert_int_equal(tf_opener_look(&world->opener, at(world, "logs/none"), &seen, NULL), -ENOENT);
    assert_int_equal(tf_opener_look(&world->opener, at(world, "secret"), &seen, NULL), -EPERM);
}

static void a_watch_tells_of_changes(void **state)
{
    struct world *world = *state;
    int inotify_fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC), fd, watch;
    struct inotify_event event;
    struct tf_opened opened;

    begin(world);
    assert_int_equal(try_file(world, "logs/pod/a.log", &opened), 0);
    watch = tf_opener_watch(&world->opener, inotify_fd, opened.fd, TF_WATCH_FILE_MASK);
    assert_true(watch >= 0);
    put(world, "logs/pod/a.log", "changed");
    assert_true(read(inotify_fd, &event, sizeof event) > 0);
    assert_int_equal(event.wd, watch);
    assert_int_equal(tf_opener_watch(&world->opener, opened.fd, opened.fd, TF_WATCH_FILE_MASK),
                     -EINVAL);
    (void)close(opened.fd);
    fd = open(at(world, "secret"), O_PATH | O_CLOEXEC); /* what cannot be read is not watched */
    assert_int_equal(tf_opener_watch(&world->opener, inotify_fd, fd, TF_WATCH_FILE_MASK), -EPERM);
    (void)close(fd);
    fd = open(at(world, "secret"), O_WRONLY | O_CLOEXEC);
    assert_int_equal(tf_opener_watch(&world->opener, inotify_fd, fd, TF_WATCH_FILE_MASK), -EPERM);
    (void)close(fd);
    (void)close(inotify_fd);
}

/* ---- races ------------------------------------------------------------------------------------
 */

struct racer {
    char a[PATH_SIZE], b[PATH_SIZE];
    atomic_bool stops;
};

/* Two names change places as fast as can be, and in the end are as they were. */
static void *swap(void *ctx)
{
    struct racer *racer = ctx;

    while (!atomic_load(&racer->stops)) {
        (void)renameat2(AT_FDCWD, racer->a, AT_FDCWD, racer->b, RENAME_EXCHANGE);
        (void)renameat2(AT_FDCWD, racer->a, AT_FDCWD, racer->b, RENAME_EXCHANGE);
    }
    return NULL;
}

/* Opens name while a and b change places. What is opened is never what lies outside. */
static void race(struct world *world, const char *name, const char *a, const char *b)
{
    int64_t begin_ns = tf_now_ns(), took_ms = 0;
    size_t opened_times = 0, refused_times = 0;
    struct racer racer = {.stops = false};
    pthread_t thread;

    (void)snprintf(racer.a, sizeof racer.a, "%s", at(world, a));
    (void)snprintf(racer.b, sizeof racer.b, "%s", at(world, b));
    assert_int_equal(pthread_create(&thread, NULL, swap, &racer), 0);
    for (; took_ms < RACE_MS || ((opened_times == 0 || refused_times == 0) && took_ms < LATE_MS);
         took_ms = (tf_now_ns() - begin_ns) / TF_MS_IN_NS) {
        struct tf_opened opened;
        char text[16] = "";

        if (try_file(world, name, &opened) < 0) {
            refused_times++;
            continue;
        }
        opened_times++;
        if (read(opened.fd, text, sizeof text - 1) != 6 || strcmp(text, "inside") != 0) {
            fail_msg("%s was read", text);
        }
        (void)close(opened.fd);
    }
    atomic_store(&racer.stops, true);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_true(opened_times > 0 && refused_times > 0); /* both were met */
}

static void a_swapped_link_is_never_followed_out(void **state)
{
    struct world *world = *state;

    begin(world);
    make_dir(world, "private");
    put(world, "private/a.log", "outside");
    make_link_into(world, "private", "logs/planted");
    make_link_into(world, "secret", "logs/pod/planted.log");
    race(world, "logs/pod/a.log", "logs/pod", "logs/planted");
    race(world, "logs/pod/a.log", "logs/pod/a.log", "logs/pod/planted.log");
    race(world, "logs/pod/planted.log", "logs/pod/a.log", "logs/pod/planted.log");
}

static void a_swapped_fifo_or_hard_link_is_never_read(void **state)
{
    struct world *world = *state;
    char original[PATH_SIZE];

    begin(world);
    assert_int_equal(mkfifo(at(world, "logs/pod/fifo"), 0644), 0);
    (void)snprintf(original, sizeof original, "%s", at(world, "secret"));
    assert_int_equal(link(original, at(world, "logs/pod/hard")), 0);
    race(world, "logs/pod/a.log", "logs/pod/a.log", "logs/pod/fifo");
    race(world, "logs/pod/hard", "logs/pod/a.log", "logs/pod/hard");
}

/* ---- bytes ------------------------------------------------------------------------------------
 */

static struct tf_request sample_request(void)
{
    struct tf_request request = {.id = 7, .number = 1, .asked = {.op = TF_OPEN_FILE}};

    request.asked.spot.root = 2;
    (void)snprintf(request.asked.spot.rest, sizeof request.asked.spot.rest, "pod/.a/0.log");
    return request;
}

static void requests_come_back_as_they_were(void **state)
{
    struct tf_request request = sample_request(), again;
    uint8_t data[TF_REQUEST_BYTES_MAX];
    size_t size = tf_request_encode(&request, data);

    (void)state;
    assert_int_equal(size, TF_REQUEST_HEAD + 12);
    assert_int_equal(tf_request_decode(data, size, &again), 0);
    assert_int_equal(again.id, 7);
    assert_int_equal(again.number, 1);
    assert_int_equal(again.asked.op, TF_OPEN_FILE);
    assert_int_equal(again.asked.spot.root, 2);
    assert_string_equal(again.asked.spot.rest, "pod/.a/0.log");
    for (size_t cut = 0; cut < TF_REQUEST_HEAD; cut++) {
        assert_int_equal(tf_request_decode(data, cut, &again), -EPROTO);
    }
    request = (struct tf_request){.asked = {.op = TF_OPEN_WATCH, .mask = TF_WATCH_DIR_MASK}};
    size = tf_request_encode(&request, data);
    assert_int_equal(tf_request_decode(data, size, &again), 0);
    assert_int_equal(again.asked.mask, TF_WATCH_DIR_MASK);
}

static int decode_with(size_t offset, uint8_t value)
{
    struct tf_request request = sample_request();
    uint8_t data[TF_REQUEST_BYTES_MAX];
    size_t size = tf_request_encode(&request, data);

    data[offset] = value;
    return tf_request_decode(data, size, &request);
}

static int decode_path(const char *path, size_t path_size)
{
    static uint8_t data[TF_REQUEST_BYTES_MAX + 64];
    struct tf_request request = {.asked = {.op = TF_OPEN_LOOK}};

    (void)tf_request_encode(&request, data);
    memcpy(data + TF_REQUEST_HEAD, path, path_size);
    return tf_request_decode(data, TF_REQUEST_HEAD + path_size, &request);
}

static void what_is_no_request_is_refused(void **state)
{
    static const char *const sound[] = {"", "a", "a/b", "...", "a/..b", ".a", "a/...", "\xff/\n"};
    static const char *const unsound[] = {"/",    "/a",  "a/",   "a//b",  ".",      "..", "./a",
                                          "../a", "a/.", "a/..", "a/./b", "a/../b", "//"};
    char path[TF_FILE_PATH_MAX + 8];

    (void)state;
    assert_int_equal(decode_with(1, 0), 0);
    assert_int_equal(decode_with(0, 0), -EPROTO);
    assert_int_equal(decode_with(0, TF_OPEN_WATCH + 1), -EPROTO);
    assert_int_equal(decode_with(0, TF_OPEN_WATCH), -EPROTO); /* has no path */
    assert_int_equal(decode_with(1, 1), -EPROTO);
    assert_int_equal(decode_with(8, 2), -EPROTO); /* a mask, and no watch */
    assert_int_equal(decode_with(14, 1), -EPROTO);
    for (size_t i = 0; i < TF_COUNT(sound); i++) {
        assert_int_equal(decode_path(sound[i], strlen(sound[i])), 0);
    }
    for (size_t i = 0; i < TF_COUNT(unsound); i++) {
        assert_int_equal(decode_path(unsound[i], strlen(unsound[i])), -EPROTO);
    }
    assert_int_equal(decode_path("a\0b", 3), -EPROTO);
    assert_int_equal(decode_path("a\0", 2), -EPROTO);
    memset(path, 'x', sizeof path);
    assert_int_equal(decode_path(path, TF_FILE_PATH_MAX - 1), 0);
    assert_int_equal(decode_path(path, TF_FILE_PATH_MAX), -EPROTO);
}

static void a_watch_has_one_of_two_masks(void **state)
{
    struct tf_request request = {.asked = {.op = TF_OPEN_WATCH, .mask = TF_WATCH_FILE_MASK}};
    uint8_t data[TF_REQUEST_BYTES_MAX];
    size_t size = tf_request_encode(&request, data);

    (void)state;
    assert_int_equal(tf_request_decode(data, size, &request), 0);
    tf_store32(data + 8, IN_ACCESS);
    assert_int_equal(tf_request_decode(data, size, &request), -EPROTO);
    tf_store32(data + 8, 0);
    assert_int_equal(tf_request_decode(data, size, &request), -EPROTO);
    tf_store32(data + 8, TF_WATCH_FILE_MASK);
    tf_store16(data + 12, 1); /* a root */
    assert_int_equal(tf_request_decode(data, size, &request), -EPROTO);
}

static struct tf_answer sample_answer(void)
{
    struct tf_answer answer = {.watch = 3,
                               .opened = {.fd = -1,
                                          .id = {.device = 1, .inode = 2, .born_ns = -3},
                                          .size = UINT64_MAX,
                                          .changed_ns = INT64_MIN,
                                          .altered_ns = 5,
                                          .mode = S_IFREG,
                                          .is_link = true}};

    answer.spot.root = 4;
    (void)snprintf(answer.spot.rest, sizeof answer.spot.rest, "a/b");
    return answer;
}

static void replies_come_back_as_they_were(void **state)
{
    struct tf_answer answer = sample_answer(), again;
    uint8_t data[TF_REPLY_BYTES_MAX];
    size_t size = tf_reply_encode(9, &answer, data);
    uint32_t id;

    (void)state;
    assert_int_equal(tf_reply_decode(data, size, &id, &again), 0);
    assert_int_equal(id, 9);
    assert_int_equal(again.rc, 0);
    assert_int_equal(again.watch, 3);
    assert_int_equal(again.spot.root, 4);
    assert_string_equal(again.spot.rest, "a/b");
    assert_memory_equal(&again.opened.id, &answer.opened.id, sizeof answer.opened.id);
    assert_true(again.opened.size == UINT64_MAX && again.opened.changed_ns == INT64_MIN);
    assert_true(again.opened.altered_ns == 5 && again.opened.mode == S_IFREG);
    assert_true(again.opened.is_link);
    answer.rc = -EPERM;
    answer.why = TF_WHY_NAMES;
    size = tf_reply_encode(9, &answer, data);
    assert_int_equal(tf_reply_decode(data, size, &id, &again), 0);
    assert_int_equal(again.rc, -EPERM);
    assert_int_equal(again.why, TF_WHY_NAMES);
    for (size_t cut = 0; cut < TF_REPLY_HEAD; cut++) {
        assert_int_equal(tf_reply_decode(data, cut, &id, &again), -EPROTO);
    }
}

static int decode_answer(struct tf_answer answer, size_t offset, uint8_t value)
{
    uint8_t data[TF_REPLY_BYTES_MAX];
    size_t size = tf_reply_encode(9, &answer, data);
    uint32_t id;

    data[offset] = value;
    return tf_reply_decode(data, size, &id, &answer);
}

static int decode_reply_with(size_t offset, uint8_t value)
{
    return decode_answer(sample_answer(), offset, value);
}

static int decode_refusal_with(size_t offset, uint8_t value)
{
    struct tf_answer answer = sample_answer();

    answer.rc = -EPERM;
    return decode_answer(answer, offset, value);
}

static void what_is_no_reply_is_refused(void **state)
{
    (void)state;
    assert_int_equal(decode_reply_with(9, 1), 0);
    assert_int_equal(decode_reply_with(7, 1), -EPROTO);           /* no errno */
    assert_int_equal(decode_reply_with(8, TF_WHY_KIND), -EPROTO); /* a reason, and no error */
    assert_int_equal(decode_refusal_with(8, TF_WHY_HOPS), 0);
    assert_int_equal(decode_refusal_with(8, TF_WHY_GONE), -EPROTO); /* none that it may say */
    assert_int_equal(decode_refusal_with(8, UINT8_MAX), -EPROTO);
    assert_int_equal(decode_reply_with(9, 2), -EPROTO);
    assert_int_equal(decode_reply_with(68, 1), -EPROTO);
    assert_int_equal(decode_reply_with(TF_REPLY_HEAD, '/'), -EPROTO);
    assert_int_equal(decode_reply_with(TF_REPLY_HEAD + 1, 0), -EPROTO);
}

/* ---- the server, asked by hand ----------------------------------------------------------------
 */

struct served {
    struct tf_opener opener;
    int fds[2]; /* ours, the server's */
    pthread_t thread;
    int rc;
};

static void *serve(void *ctx)
{
    struct served *served = ctx;

    served->rc = tf_opener_serve(served->fds[1], &served->opener, 1);
    (void)shutdown(served->fds[1], SHUT_RDWR);
    return NULL;
}

static void start_server(struct world *world, struct served *served)
{
    add_roots(world, &served->opener);
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, served->fds), 0);
    assert_int_equal(pthread_create(&served->thread, NULL, serve, served), 0);
}

static int stop_server(struct served *served)
{
    (void)shutdown(served->fds[0], SHUT_WR);
    assert_int_equal(pthread_join(served->thread, NULL), 0);
    (void)close(served->fds[0]);
    (void)close(served->fds[1]);
    tf_opener_fini(&served->opener);
    return served->rc;
}

static void send_by_hand(int socket_fd, const void *data, size_t size, const int *fds, size_t count)
{
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(4 * sizeof(int))] = {0};
    struct iovec part = {.iov_base = (void *)(uintptr_t)data, .iov_len = size};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};

    if (count > 0) {
        struct cmsghdr *head;

        message.msg_control = control;
        message.msg_controllen = CMSG_SPACE(count * sizeof(int));
        head = CMSG_FIRSTHDR(&message);
        head->cmsg_level = SOL_SOCKET;
        head->cmsg_type = SCM_RIGHTS;
        head->cmsg_len = CMSG_LEN(count * sizeof(int));
        memcpy(CMSG_DATA(head), fds, count * sizeof(int));
    }
    assert_int_equal(sendmsg(socket_fd, &message, MSG_NOSIGNAL), (ssize_t)size);
}

/* The server ends for it, replies nothing, and keeps no descriptor. */
static void ends_for(struct world *world, const void *data, size_t size, const int *fds,
                     size_t count)
{
    size_t before = open_descriptors();
    struct served served;
    uint8_t reply[16];

    start_server(world, &served);
    send_by_hand(served.fds[0], data, size, fds, count);
    assert_true(recv(served.fds[0], reply, sizeof reply, 0) <= 0);
    assert_int_equal(stop_server(&served), -EPROTO);
    assert_int_equal(open_descriptors(), before);
}

static void what_is_no_request_ends_the_server(void **state)
{
    struct world *world = *state;
    const int fds[] = {0, 1, 2};
    struct tf_request request = {.asked = {.op = TF_OPEN_DIR}};
    static uint8_t data[TF_REQUEST_BYTES_MAX + 64];
    size_t size = tf_request_encode(&request, data);
    struct served served;

    start_server(world, &served);
    assert_int_equal(stop_server(&served), 0); /* an end is none */
    ends_for(world, "x", 1, NULL, 0);
    ends_for(world, data, sizeof data, NULL, 0);
    ends_for(world, data, size, fds, 1); /* a descriptor that nobody asked for */
    request.asked.spot.root = 2;         /* there are two */
    ends_for(world, data, tf_request_encode(&request, data), NULL, 0);
    request = (struct tf_request){.number = 1, .asked = {.op = TF_OPEN_DIR}}; /* no such rules */
    ends_for(world, data, tf_request_encode(&request, data), NULL, 0);
    request = (struct tf_request){.asked = {.op = TF_OPEN_WATCH, .mask = TF_WATCH_FILE_MASK}};
    size = tf_request_encode(&request, data);
    ends_for(world, data, size, NULL, 0);
    ends_for(world, data, size, fds, 1);
    ends_for(world, data, size, fds, 3);
}

static void a_server_keeps_no_descriptor(void **state)
{
    struct world *world = *state;
    const int fds[] = {inotify_init1(IN_CLOEXEC), open("/dev/null", O_RDONLY | O_CLOEXEC)};
    struct tf_request request = {.asked = {.op = TF_OPEN_WATCH, .mask = TF_WATCH_FILE_MASK}};
    uint8_t data[TF_REPLY_BYTES_MAX];
    struct served served;
    size_t before;

    start_server(world, &served);
    before = open_descriptors();
    send_by_hand(served.fds[0], data, tf_request_encode(&request, data), fds, 2);
    assert_true(recv(served.fds[0], data, sizeof data, 0) > 0);
    request.asked = (struct tf_asked){.op = TF_OPEN_DIR};
    send_by_hand(served.fds[0], data, tf_request_encode(&request, data), NULL, 0);
    assert_true(recv(served.fds[0], data, sizeof data, 0) > 0); /* its descriptor is let go */
    assert_int_equal(stop_server(&served), 0);
    assert_int_equal(open_descriptors(), before - 2);
    (void)close(fds[0]);
    (void)close(fds[1]);
}

/* ---- the client, answered by hand -------------------------------------------------------------
 */

struct liar {
    int fd;
    uint32_t id; /* that it answers, above the one asked */
    int rc;
    uint16_t root;
    int descriptor; /* -1: none */
    bool twice;     /* and once more */
};

static void *lie(void *ctx)
{
    const struct liar *liar = ctx;
    struct tf_answer answer = {.rc = liar->rc, .opened = {.fd = -1}};
    uint8_t data[TF_REPLY_BYTES_MAX];
    struct tf_request request;
    ssize_t size = recv(liar->fd, data, sizeof data, 0);

    if (size > 0 && tf_request_decode(data, (size_t)size, &request) == 0) {
        answer.spot.root = liar->root;
        size = (ssize_t)tf_reply_encode(request.id + liar->id, &answer, data);
        send_by_hand(liar->fd, data, (size_t)size,
                     (const int[]){liar->descriptor, liar->descriptor},
                     (size_t)(liar->descriptor >= 0) + liar->twice);
    }
    (void)close(liar->fd);
    return NULL;
}

/* What a client that has one root makes of such a reply to op. */
static int hear(enum tf_open_op op, struct liar liar)
{
    size_t before = open_descriptors();
    struct tf_asked asked = {.op = op, .mask = op == TF_OPEN_WATCH ? TF_WATCH_FILE_MASK : 0};
    struct tf_answer answer, again;
    struct tf_client client;
    pthread_t thread;
    int fds[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds), 0);
    assert_int_equal(tf_client_init(&client), 0);
    tf_client_connect(&client, fds[0]);
    liar.fd = fds[1];
    assert_int_equal(pthread_create(&thread, NULL, lie, &liar), 0);
    tf_client_perform(&client, 0, 1, &asked, &answer);
    assert_int_equal(pthread_join(thread, NULL), 0);
    if (answer.opened.fd >= 0) {
        (void)close(answer.opened.fd);
    }
    tf_client_perform(&client, 0, 1, &asked, &again); /* it has closed */
    assert_int_equal(again.rc, -ESHUTDOWN);
    tf_client_fini(&client);
    assert_int_equal(open_descriptors(), before);
    return answer.rc;
}

static void what_is_no_reply_ends_the_asking(void **state)
{
    (void)state;
    assert_int_equal(hear(TF_OPEN_FILE, (struct liar){.descriptor = 1}), 0);
    assert_int_equal(hear(TF_OPEN_LOOK, (struct liar){.descriptor = -1}), 0);
    assert_int_equal(hear(TF_OPEN_FILE, (struct liar){.descriptor = -1}), -EMFILE);
    assert_int_equal(hear(TF_OPEN_FILE, (struct liar){.id = 1, .descriptor = 1}), -ESHUTDOWN);
    assert_int_equal(hear(TF_OPEN_LOOK, (struct liar){.descriptor = 1}), -ESHUTDOWN);
    assert_int_equal(hear(TF_OPEN_WATCH, (struct liar){.descriptor = 1}), -ESHUTDOWN);
    assert_int_equal(hear(TF_OPEN_FILE, (struct liar){.rc = -EPERM, .descriptor = 1}), -ESHUTDOWN);
    assert_int_equal(hear(TF_OPEN_LOOK, (struct liar){.root = 1, .descriptor = -1}), -ESHUTDOWN);
    assert_int_equal(hear(TF_OPEN_FILE, (struct liar){.descriptor = 1, .twice = true}), -ESHUTDOWN);
}

/* ---- the process ------------------------------------------------------------------------------
 */

static pid_t child(void)
{
    char path[64];
    FILE *file;
    int pid = 0;

    (void)snprintf(path, sizeof path, "/proc/self/task/%d/children", getpid());
    file = fopen(path, "re");
    assert_non_null(file);
    assert_int_equal(fscanf(file, "%d", &pid), 1);
    (void)fclose(file);
    return pid;
}

static void a_process_that_is_gone_opens_nothing(void **state)
{
    struct world *world = *state;
    const char *why;

    is_by_process = true;
    begin(world);
    is_by_process = false;
    opens(world, "logs/pod/a.log");
    assert_false(tf_opener_process_has_ended(world->process));
    assert_int_equal(kill(child(), SIGTERM), 0); /* which is main's to obey */
    opens(world, "logs/pod/a.log");
    assert_int_equal(kill(child(), SIGKILL), 0);
    assert_int_equal(waitid(P_ALL, 0, &(siginfo_t){0}, WEXITED | WNOWAIT), 0);
    refuses(world, "logs/pod/a.log", -ESHUTDOWN, "has ended");
    assert_int_equal(tf_opener_dir(&world->opener, at(world, "logs"), &why), -ESHUTDOWN);
    assert_true(tf_opener_process_has_ended(world->process));
    assert_true(tf_opener_process_has_ended(world->process));
}

static void *ask(void *ctx)
{
    struct world *world = ctx;

    refuses(world, "logs/pod/a.log", -ESHUTDOWN, "has ended");
    return NULL;
}

static void who_waits_for_one_that_hangs_is_let_go(void **state)
{
    struct world *world = *state;
    pthread_t thread;

    is_by_process = true;
    begin(world);
    is_by_process = false;
    assert_int_equal(kill(child(), SIGSTOP), 0);
    assert_int_equal(pthread_create(&thread, NULL, ask, world), 0);
    (void)poll(NULL, 0, 50); /* it waits; or asks later, in vain, too */
    tf_opener_process_shut(world->process);
    assert_int_equal(pthread_join(thread, NULL), 0);
}

static void what_others_send_ends_nothing(void **state)
{
    struct world *world = *state;
    int inotify_fd = inotify_init1(IN_CLOEXEC), fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    struct tf_asked asked = {
        .op = TF_OPEN_WATCH, .mask = TF_WATCH_FILE_MASK, .inotify_fd = inotify_fd, .fd = fd};
    struct tf_answer answer;

    is_by_process = true;
    fault = TOO_MANY_ON_THEIR_WAY;
    begin(world);
    is_by_process = false;
    refuses(world, "logs/pod/a.log", -EMFILE, "");
    tf_process_perform(world->process, 0, &asked, &answer);
    assert_int_equal(answer.rc, -EMFILE);
    assert_false(tf_opener_process_has_ended(world->process));
    refuses(world, "logs/pod/a.log", -EMFILE, ""); /* it lives, and answers */
    fault = NO_FAULT;
    (void)close(inotify_fd);
    (void)close(fd);
}

static void does_not_start(struct world *world, int rc)
{
    struct tf_opener_process *process = make_process(world);

    assert_int_equal(tf_opener_process_start(process), rc);
    tf_opener_process_free(process);
}

static void one_that_cannot_start_is_told_and_leaves_nothing(void **state)
{
    size_t before = open_descriptors();
    int status;

    fault = NO_SOCKETS;
    does_not_start(*state, -EMFILE);
    fault = NO_DATAGRAMS; /* by which it is killed */
    does_not_start(*state, -EMFILE);
    assert_int_equal(waitpid(-1, &status, 0), -1); /* it was waited for */
    fault = NO_FORK;
    does_not_start(*state, -EAGAIN);
    fault = DIES_STARTING;
    does_not_start(*state, -ESHUTDOWN);
    assert_int_equal(waitpid(-1, &status, 0), -1);
    fault = HANGS_STARTING;
    does_not_start(*state, -ETIMEDOUT);
    fault = NO_FAULT;
    assert_int_equal(waitpid(-1, &status, 0), -1); /* it was killed */
    assert_int_equal(open_descriptors(), before);
}

/* Main is confined, and may send no signal. */
static void one_that_is_stopped_is_killed(void **state)
{
    pid_t pid = fork();
    int status = -1;

    if (pid == 0) {
        struct tf_opener_process *process = make_process(*state);
        struct tf_needs *none = tf_needs_new();

        assert_int_equal(tf_opener_process_start(process), 0);
        assert_int_equal(kill(child(), SIGSTOP), 0);
        assert_true(tf_needs_enforce(none, TF_COMMON_ALL) >= 0);
        tf_opener_process_free(process);
        _exit(waitpid(-1, &status, 0) == -1 ? 0 : 1);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void one_that_hangs_in_the_kernel_is_told_and_left_behind(void **state)
{
    struct tf_opener_process *process = make_process(*state);
    int log_fd = memfd_create("log", MFD_CLOEXEC), stderr_fd = dup(STDERR_FILENO), status;
    size_t before = open_descriptors();
    char text[4096] = "";

    assert_int_equal(tf_opener_process_start(process), 0);
    assert_true(dup2(log_fd, STDERR_FILENO) >= 0);
    fault = HANGS_ENDING;
    tf_opener_process_free(process);
    fault = NO_FAULT;
    assert_true(dup2(stderr_fd, STDERR_FILENO) >= 0);
    assert_true(pread(log_fd, text, sizeof text - 1, 0) > 0);
    assert_non_null(strstr(text, "event=process-hangs"));
    assert_non_null(strstr(text, "taffrail-opener"));
    assert_int_equal(open_descriptors(), before);
    assert_true(waitpid(-1, &status, 0) > 0); /* which ended, in truth */
    (void)close(log_fd);
    (void)close(stderr_fd);
}

int main(void)
{
#define TREE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest rules[] = {
        TREE(a_regular_file_is_opened_and_told),
        TREE(a_folder_is_opened_for_listing),
        TREE(links_lead_from_root_to_root_only),
        TREE(what_is_no_plain_file_is_refused),
        TREE(owners_and_modes_are_looked_at_on_the_whole_way),
        TREE(an_access_list_that_lets_others_write_is_no_group),
        TREE(named_owners_are_trusted),
        TREE(another_file_system_is_not_entered),
        TREE(a_look_tells_where_something_stands),
        TREE(a_watch_tells_of_changes),
        TREE(a_swapped_link_is_never_followed_out),
        TREE(a_swapped_fifo_or_hard_link_is_never_read),
    };
    const struct CMUnitTest bytes[] = {
        cmocka_unit_test(requests_come_back_as_they_were),
        cmocka_unit_test(what_is_no_request_is_refused),
        cmocka_unit_test(a_watch_has_one_of_two_masks),
        cmocka_unit_test(replies_come_back_as_they_were),
        cmocka_unit_test(what_is_no_reply_is_refused),
        TREE(what_is_no_request_ends_the_server),
        TREE(a_server_keeps_no_descriptor),
        cmocka_unit_test(what_is_no_reply_ends_the_asking),
        TREE(a_process_that_is_gone_opens_nothing),
        TREE(who_waits_for_one_that_hangs_is_let_go),
        TREE(what_others_send_ends_nothing),
        TREE(one_that_cannot_start_is_told_and_leaves_nothing),
        TREE(one_that_is_stopped_is_killed),
        TREE(one_that_hangs_in_the_kernel_is_told_and_left_behind),
    };
    int failures = cmocka_run_group_tests_name("in this process", rules, NULL, NULL);

    is_by_process = true;
    failures += cmocka_run_group_tests_name("by a process", rules, NULL, NULL);
    is_by_process = false;
    has_no_openat2 = true;
    failures += cmocka_run_group_tests_name("without openat2", rules, NULL, NULL);
    has_no_openat2 = false;
    return failures + cmocka_run_group_tests_name("the protocol", bytes, NULL, NULL);
}
