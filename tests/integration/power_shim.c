/*
 * power_shim.c - records what a program does to the files below one folder, so that a test can take
 * away what no sync had covered: a power loss.
 *
 *     LD_PRELOAD=power_shim.so TAFFRAIL_RECORD=FILE TAFFRAIL_RECORD_ROOT=FOLDER program …
 *
 * FILE grows by one entry a call, appended after the call succeeded; of a sync also one before it,
 * because it covers only what was written before it began. An entry, integers little-endian:
 *
 *     offset  bytes  field
 *          0      1  op: 'C' created, 'W' written, 'T' cut to size, 'A' allocated, 'U' unlinked,
 *                    'B' sync begun, 'E' sync ended
 *          1      8  offset in the file; of B and E: the sync's number
 *          9      8  size: bytes that follow the path (W), the new length (T), bytes allocated (A)
 *         17      4  path bytes
 *         21      n  path, then the data of W
 *
 * The descriptor's path is asked of the kernel at each call: slow, and it cannot be wrong.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#define HEAD_BYTES 21

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int record_fd = -1;
static char root[PATH_MAX];
static uint64_t syncs;

static void *real(const char *name)
{
    void *function = dlsym(RTLD_NEXT, name);

    if (function == NULL) {
        abort();
    }
    return function;
}

/* At the start: later the sandbox does not let the agent open it. */
__attribute__((constructor)) static void open_record(void)
{
    int (*open_real)(const char *, int, ...) = (int (*)(const char *, int, ...))real("open");
    const char *file = getenv("TAFFRAIL_RECORD");
    const char *folder = getenv("TAFFRAIL_RECORD_ROOT");

    if (file == NULL || folder == NULL || realpath(folder, root) == NULL) {
        return;
    }
    record_fd = open_real(file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

/* True when fd is a file below root; its path goes to path. */
static int is_watched(int fd, char path[PATH_MAX])
{
    char link[64];
    ssize_t size;

    if (record_fd < 0 || fd < 0) {
        return 0;
    }
    (void)snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    size = readlink(link, path, PATH_MAX - 1);
    if (size <= 0) {
        return 0;
    }
    path[size] = '\0';
    return strncmp(path, root, strlen(root)) == 0;
}

static void put64(unsigned char *at, uint64_t value)
{
    for (int i = 0; i < 8; i++) {
        at[i] = (unsigned char)(value >> (8 * i));
    }
}

/* One writev under O_APPEND: whole, or (killed before it) not there. */
static void note(char op, const char *path, uint64_t offset, uint64_t size, const void *data)
{
    unsigned char head[HEAD_BYTES];
    uint32_t path_bytes = (uint32_t)strlen(path);
    struct iovec parts[3] = {{head, sizeof head}, {(void *)path, path_bytes}, {(void *)data, 0}};

    head[0] = (unsigned char)op;
    put64(head + 1, offset);
    put64(head + 9, size);
    for (int i = 0; i < 4; i++) {
        head[17 + i] = (unsigned char)(path_bytes >> (8 * i));
    }
    if (op == 'W') {
        parts[2].iov_len = size;
    }
    if (writev(record_fd, parts, 3) < 0) {
        abort();
    }
}

static void note_write(int fd, const void *data, ssize_t done, off_t offset)
{
    char path[PATH_MAX];

    if (done > 0 && is_watched(fd, path)) {
        note('W', path, (uint64_t)offset, (uint64_t)done, data);
    }
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t offset)
{
    ssize_t (*call)(int, const void *, size_t, off_t) =
        (ssize_t(*)(int, const void *, size_t, off_t))real("pwrite");
    ssize_t done;

    (void)pthread_mutex_lock(&lock);
    done = call(fd, data, size, offset);
    note_write(fd, data, done, offset);
    (void)pthread_mutex_unlock(&lock);
    return done;
}

ssize_t pwrite64(int fd, const void *data, size_t size, off_t offset)
{
    return pwrite(fd, data, size, offset);
}

ssize_t write(int fd, const void *data, size_t size)
{
    ssize_t (*call)(int, const void *, size_t) =
        (ssize_t(*)(int, const void *, size_t))real("write");
    off_t offset;
    ssize_t done;

    (void)pthread_mutex_lock(&lock);
    offset = lseek(fd, 0, SEEK_CUR);
    done = call(fd, data, size);
    if (offset >= 0 && (fcntl(fd, F_GETFL) & O_APPEND) != 0 && done > 0) {
        offset = lseek(fd, 0, SEEK_CUR) - done;
    }
    if (offset >= 0) {
        note_write(fd, data, done, offset);
    }
    (void)pthread_mutex_unlock(&lock);
    return done;
}

static void note_size(char op, int fd, int rc, off_t offset, off_t size)
{
    char path[PATH_MAX];

    if (rc == 0 && is_watched(fd, path)) {
        note(op, path, (uint64_t)offset, (uint64_t)size, NULL);
    }
}

int ftruncate(int fd, off_t size)
{
    int (*call)(int, off_t) = (int (*)(int, off_t))real("ftruncate");
    int rc;

    (void)pthread_mutex_lock(&lock);
    rc = call(fd, size);
    note_size('T', fd, rc, 0, size);
    (void)pthread_mutex_unlock(&lock);
    return rc;
}

int ftruncate64(int fd, off_t size)
{
    return ftruncate(fd, size);
}

/* Only plain allocation is told: holes that are punched were void before. */
int fallocate(int fd, int mode, off_t offset, off_t size)
{
    int (*call)(int, int, off_t, off_t) = (int (*)(int, int, off_t, off_t))real("fallocate");
    int rc;

    (void)pthread_mutex_lock(&lock);
    rc = call(fd, mode, offset, size);
    if (mode == 0) {
        note_size('A', fd, rc, offset, size);
    }
    (void)pthread_mutex_unlock(&lock);
    return rc;
}

int fallocate64(int fd, int mode, off_t offset, off_t size)
{
    return fallocate(fd, mode, offset, size);
}

int posix_fallocate(int fd, off_t offset, off_t size)
{
    return fallocate(fd, 0, offset, size) == 0 ? 0 : errno;
}

static int sync_by(const char *name, int fd)
{
    int (*call)(int) = (int (*)(int))real(name);
    char path[PATH_MAX];
    uint64_t number;
    int watched, rc;

    (void)pthread_mutex_lock(&lock);
    number = ++syncs << 24 | (uint64_t)(getpid() & 0xffffff);
    watched = is_watched(fd, path);
    if (watched) {
        note('B', path, number, 0, NULL);
    }
    (void)pthread_mutex_unlock(&lock);
    rc = call(fd);
    (void)pthread_mutex_lock(&lock);
    if (watched && rc == 0) {
        note('E', path, number, 0, NULL);
    }
    (void)pthread_mutex_unlock(&lock);
    return rc;
}

int fsync(int fd)
{
    return sync_by("fsync", fd);
}

int fdatasync(int fd)
{
    return sync_by("fdatasync", fd);
}

static int open_by(const char *name, int folder, const char *file, int flags, mode_t mode)
{
    int (*call)(int, const char *, int, ...) = (int (*)(int, const char *, int, ...))real(name);
    char path[PATH_MAX];
    int existed, fd;

    (void)pthread_mutex_lock(&lock);
    existed = (flags & O_CREAT) == 0 || faccessat(folder, file, F_OK, 0) == 0;
    fd = call(folder, file, flags, mode);
    if (!existed && is_watched(fd, path)) {
        note('C', path, 0, 0, NULL);
    }
    (void)pthread_mutex_unlock(&lock);
    return fd;
}

static mode_t read_mode(int flags, va_list args)
{
    return (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(args, mode_t) : 0;
}

#define OPEN_LIKE(name)                                                                            \
    int name(const char *file, int flags, ...)                                                     \
    {                                                                                              \
        va_list args;                                                                              \
        mode_t mode;                                                                               \
                                                                                                   \
        va_start(args, flags);                                                                     \
        mode = read_mode(flags, args);                                                             \
        va_end(args);                                                                              \
        return open_by("openat", AT_FDCWD, file, flags, mode);                                     \
    }
OPEN_LIKE(open)
OPEN_LIKE(open64)

#define OPENAT_LIKE(name)                                                                          \
    int name(int folder, const char *file, int flags, ...)                                         \
    {                                                                                              \
        va_list args;                                                                              \
        mode_t mode;                                                                               \
                                                                                                   \
        va_start(args, flags);                                                                     \
        mode = read_mode(flags, args);                                                             \
        va_end(args);                                                                              \
        return open_by("openat", folder, file, flags, mode);                                       \
    }
OPENAT_LIKE(openat)
OPENAT_LIKE(openat64)

/* The path is asked of the kernel while the file is still there. */
int unlinkat(int folder, const char *file, int flags)
{
    int (*call)(int, const char *, int) = (int (*)(int, const char *, int))real("unlinkat");
    int (*open_real)(int, const char *, int, ...) =
        (int (*)(int, const char *, int, ...))real("openat");
    char path[PATH_MAX];
    int fd, watched, rc;

    (void)pthread_mutex_lock(&lock);
    fd = open_real(folder, file, O_PATH | O_CLOEXEC | O_NOFOLLOW);
    watched = is_watched(fd, path);
    if (fd >= 0) {
        (void)close(fd);
    }
    rc = call(folder, file, flags);
    if (rc == 0 && watched) {
        note('U', path, 0, 0, NULL);
    }
    (void)pthread_mutex_unlock(&lock);
    return rc;
}

int unlink(const char *file)
{
    return unlinkat(AT_FDCWD, file, 0);
}
