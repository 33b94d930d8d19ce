/*
 * fault_shim.c - a disk that fails while a test says so.
 *
 *     LD_PRELOAD=fault_shim.so TAFFRAIL_FAULT_SWITCH=FILE TAFFRAIL_FAULT_ROOT=FOLDER program …
 *
 * While FILE holds a line such as "28 pwrite fallocate", these calls fail with that errno on what
 * lies below FOLDER; "create" is openat with O_CREAT. Of calls that only read, pread is known. The
 * file is read and the descriptor's path asked at each call: slow, and it cannot be wrong.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define LINE_BYTES 256

/* True when fd is FOLDER or lies below it. */
static int is_below_root(int fd)
{
    const char *root = getenv("TAFFRAIL_FAULT_ROOT");
    char link[64], path[PATH_MAX];
    ssize_t size;

    (void)snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    size = readlink(link, path, sizeof path - 1);
    if (root == NULL || size <= 0) {
        return 0;
    }
    path[size] = '\0';
    return strncmp(path, root, strlen(root)) == 0;
}

/* Sets errno when the call is to fail. */
static int fails(const char *call, int fd)
{
    const char *file = getenv("TAFFRAIL_FAULT_SWITCH");
    int switch_fd =
        file == NULL ? -1 : (int)syscall(SYS_openat, AT_FDCWD, file, O_RDONLY | O_CLOEXEC);
    char line[LINE_BYTES + 1], word[64];
    ssize_t size;

    if (switch_fd < 0) {
        return 0;
    }
    size = read(switch_fd, line, LINE_BYTES);
    (void)close(switch_fd);
    if (size <= 0 || !is_below_root(fd)) {
        return 0;
    }
    line[size] = '\0';
    (void)snprintf(word, sizeof word, " %s ", call);
    if (strstr(line, word) == NULL) {
        return 0;
    }
    errno = atoi(line);
    return 1;
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t offset)
{
    return fails("pwrite", fd) ? -1 : (ssize_t)syscall(SYS_pwrite64, fd, data, size, offset);
}

ssize_t pread(int fd, void *data, size_t size, off_t offset)
{
    return fails("pread", fd) ? -1 : (ssize_t)syscall(SYS_pread64, fd, data, size, offset);
}

ssize_t pread64(int fd, void *data, size_t size, off_t offset)
{
    return pread(fd, data, size, offset);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off_t offset)
{
    return pwrite(fd, data, size, offset);
}

int fdatasync(int fd)
{
    return fails("fdatasync", fd) ? -1 : (int)syscall(SYS_fdatasync, fd);
}

int fsync(int fd)
{
    return fails("fsync", fd) ? -1 : (int)syscall(SYS_fsync, fd);
}

int fallocate(int fd, int mode, off_t offset, off_t size)
{
    return fails("fallocate", fd) ? -1 : (int)syscall(SYS_fallocate, fd, mode, offset, size);
}

int fallocate64(int fd, int mode, off_t offset, off_t size)
{
    return fallocate(fd, mode, offset, size);
}

int ftruncate(int fd, off_t size)
{
    return fails("ftruncate", fd) ? -1 : (int)syscall(SYS_ftruncate, fd, size);
}

int ftruncate64(int fd, off_t size)
{
    return ftruncate(fd, size);
}

int unlinkat(int folder, const char *file, int flags)
{
    return fails("unlinkat", folder) ? -1 : (int)syscall(SYS_unlinkat, folder, file, flags);
}

static int open_at(int folder, const char *file, int flags, va_list args)
{
    mode_t mode = (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(args, mode_t) : 0;

    if ((flags & O_CREAT) != 0 && fails("create", folder)) {
        return -1;
    }
    return (int)syscall(SYS_openat, folder, file, flags, mode);
}

int openat(int folder, const char *file, int flags, ...)
{
    va_list args;
    int fd;

    va_start(args, flags);
    fd = open_at(folder, file, flags, args);
    va_end(args);
    return fd;
}

int openat64(int folder, const char *file, int flags, ...)
{
    va_list args;
    int fd;

    va_start(args, flags);
    fd = open_at(folder, file, flags, args);
    va_end(args);
    return fd;
}
