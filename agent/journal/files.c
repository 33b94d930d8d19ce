/*
 * files.c - the folders of journal files, and what libsystemd passes over in silence.
 *
 * libsystemd reads what it can open and understands, and says nothing of the rest. So each file's
 * header is read here too, and what keeps libsystemd from it is told, once for each path and
 * reason. Header (systemd.io "Journal File Format"), integers little-endian:
 *
 *     offset  bytes  field
 *          0      8  signature           "LPKSHHRH"
 *         12      4  incompatible flags  1 xz, 2 lz4, 4 keyed hash, 8 zstd, 16 compact (252)
 *         88      8  header size         at least 208
 *         96      8  arena size          header and arena lie in the file
 *
 * Files are *.journal and *.journal~ in a folder and in its folders of machines: a machine's id (32
 * hexadecimal digits), with ".NAMESPACE" behind it in a namespace.
 *
 * Not here: damage behind the header (write.c tells what it finds), reading at all.
 */
#include <dirent.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "reader.h"

#define HEADER_BYTES_MIN 208u
#define FLAGS_KNOWN      (TF_LIBSYSTEMD_NUMBER >= 252 ? 31u : 15u)
#define FOLDERS_MAX      2
#define TOLD_MAX         1024 /* faults told; more are not told */
#define YOUNG_S          3    /* a file without a header may still be made by journald */

struct folder_identity {
    dev_t device;
    ino_t inode;
    bool is_there;
};

struct tf_reader_files {
    const struct tf_reader_options *options;
    struct tf_reader_out *out;
    const char *folders[FOLDERS_MAX];
    struct folder_identity identities[FOLDERS_MAX];
    size_t folder_count;
    uint64_t told[TOLD_MAX]; /* FNV-1a of path and reason */
    size_t told_count;
};

struct tf_reader_files *tf_reader_files_new(const struct tf_reader_options *options,
                                            struct tf_reader_out *out)
{
    struct tf_reader_files *files = calloc(1, sizeof *files);

    if (files == NULL) {
        return NULL;
    }
    files->options = options;
    files->out = out;
    if (options->directory != NULL) {
        files->folders[files->folder_count++] = options->directory;
    } else {
        files->folders[files->folder_count++] = "/var/log/journal";
        files->folders[files->folder_count++] = "/run/log/journal";
    }
    return files;
}

void tf_reader_files_free(struct tf_reader_files *files)
{
    free(files);
}

size_t tf_reader_files_folders(const struct tf_reader_files *files, const char *const **paths)
{
    *paths = files->folders;
    return files->folder_count;
}

/* ---- which folders are there -------------------------------------------------------------------
 */

static struct folder_identity identify(const char *path)
{
    struct folder_identity identity = {0};
    struct stat st;

    if (stat(path, &st) == 0) {
        identity.device = st.st_dev;
        identity.inode = st.st_ino;
        identity.is_there = true;
    }
    return identity;
}

void tf_reader_files_note_folders(struct tf_reader_files *files)
{
    for (size_t i = 0; i < files->folder_count; i++) {
        files->identities[i] = identify(files->folders[i]);
    }
}

bool tf_reader_files_have_moved(const struct tf_reader_files *files)
{
    for (size_t i = 0; i < files->folder_count; i++) {
        struct folder_identity now = identify(files->folders[i]);
        const struct folder_identity *then = &files->identities[i];
        if (now.is_there &&
            (!then->is_there || now.device != then->device || now.inode != then->inode)) {
            return true;
        }
    }
    return false;
}

/* ---- faults ------------------------------------------------------------------------------------
 */

static uint64_t hash_text(uint64_t hash, const char *text)
{
    for (; *text != '\0'; text++) {
        hash = (hash ^ (unsigned char)*text) * UINT64_C(0x100000001b3);
    }
    return hash;
}

static bool is_told(struct tf_reader_files *files, uint64_t hash)
{
    for (size_t i = 0; i < files->told_count; i++) {
        if (files->told[i] == hash) {
            return true;
        }
    }
    if (files->told_count == TOLD_MAX) {
        return true;
    }
    files->told[files->told_count++] = hash;
    return false;
}

void tf_reader_files_tell(struct tf_reader_files *files, const char *path, const char *reason,
                          const char *mend)
{
    char text[PATH_MAX + 512];
    uint64_t hash = hash_text(hash_text(UINT64_C(0xcbf29ce484222325), path), reason);

    if (!is_told(files, hash)) {
        (void)snprintf(text, sizeof text, "%s: %s; %s", path, reason, mend);
        tf_reader_out_word(files->out, "__READER_ERROR", text, NULL);
    }
}

static void tell_errno(struct tf_reader_files *files, const char *path, int error)
{
    if (error == EACCES || error == EPERM) {
        tf_reader_files_tell(files, path, "permission denied", TF_READER_MEND_ACCESS);
    } else if (error != ENOENT) { /* it has just gone: rotated, or vacuumed */
        tf_reader_files_tell(files, path, strerrordesc_np(error), "it is not read");
    }
}

/* ---- headers -----------------------------------------------------------------------------------
 */

struct header {
    unsigned char signature[8];
    uint32_t compatible_flags, incompatible_flags;
    unsigned char state_and_ids[72];
    uint64_t header_size, arena_size;
    unsigned char rest[HEADER_BYTES_MIN - 104];
};
_Static_assert(sizeof(struct header) == HEADER_BYTES_MIN, "this is the disk layout");
_Static_assert(offsetof(struct header, header_size) == 88, "this is the disk layout");

static bool is_young(const struct stat *st)
{
    return time(NULL) - st->st_mtime < YOUNG_S;
}

/* Returns true when the file may be in the making. */
static bool check_header(struct tf_reader_files *files, const char *path, int fd)
{
    struct header header;
    struct stat st;
    ssize_t size = pread(fd, &header, sizeof header, 0);
    uint64_t header_size, file_size;
    uint32_t flags;
    char reason[96];

    if (size < 0 || fstat(fd, &st) < 0) {
        tell_errno(files, path, errno);
        return false;
    }
    if ((size_t)size < sizeof header) {
        if (is_young(&st)) {
            return true;
        }
        tf_reader_files_tell(files, path, "too short to be a journal file",
                             "move it away, it holds no entries");
        return false;
    }
    if (memcmp(header.signature, "LPKSHHRH", sizeof header.signature) != 0) {
        if (is_young(&st)) {
            return true;
        }
        tf_reader_files_tell(files, path, "not a journal file", "move it away");
        return false;
    }
    flags = le32toh(header.incompatible_flags);
    if ((flags & ~FLAGS_KNOWN) != 0) {
        (void)snprintf(reason, sizeof reason,
                       "made by a newer journald: unknown incompatible flags 0x%x",
                       flags & ~FLAGS_KNOWN);
        tf_reader_files_tell(files, path, reason,
                             "run taffrail-journal with a libsystemd as new as journald");
        return false;
    }
    header_size = le64toh(header.header_size);
    file_size = (uint64_t)st.st_size;
    if (header_size < sizeof header || header_size > file_size ||
        le64toh(header.arena_size) > file_size - header_size) {
        tf_reader_files_tell(files, path, "cut short: its header tells of more than it holds",
                             "its entries are lost; journalctl --verify tells more");
    }
    return false;
}

static bool check_file(struct tf_reader_files *files, const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    bool is_in_the_making;

    if (fd < 0) {
        tell_errno(files, path, errno);
        return false;
    }
    is_in_the_making = check_header(files, path, fd);
    (void)close(fd);
    return is_in_the_making;
}

/* ---- folders -----------------------------------------------------------------------------------
 */

static bool ends_with(const char *name, const char *end)
{
    size_t name_size = strlen(name), end_size = strlen(end);

    return name_size > end_size && strcmp(name + name_size - end_size, end) == 0;
}

/* Is it a folder of a machine's, in the namespace that is read? */
static bool is_machine_folder(const char *name, const char *namespace_name)
{
    size_t digits = strspn(name, "0123456789abcdefABCDEF");

    if (digits != 32) {
        return false;
    }
    if (namespace_name == NULL) {
        return name[digits] == '\0';
    }
    return name[digits] == '.' && strcmp(name + digits + 1, namespace_name) == 0;
}

/* depth: 1 in a folder that is read, 0 in a machine's. */
static bool look_into(struct tf_reader_files *files, const char *folder, int depth)
{
    DIR *dir = opendir(folder);
    const struct dirent *entry;
    char path[PATH_MAX];
    bool is_due = false;

    if (dir == NULL) {
        tell_errno(files, folder, errno);
        return false;
    }
    while ((entry = readdir(dir)) != NULL) {
        bool is_file =
            ends_with(entry->d_name, ".journal") || ends_with(entry->d_name, ".journal~");
        if (snprintf(path, sizeof path, "%s/%s", folder, entry->d_name) >= (int)sizeof path) {
            continue;
        }
        if (is_file) {
            is_due |= check_file(files, path);
        } else if (depth > 0 && is_machine_folder(entry->d_name, files->options->namespace_name)) {
            is_due |= look_into(files, path, depth - 1);
        }
    }
    (void)closedir(dir);
    return is_due;
}

bool tf_reader_files_look(struct tf_reader_files *files)
{
    bool is_due = false;

    for (size_t i = 0; i < files->folder_count; i++) {
        is_due |= look_into(files, files->folders[i], 1);
    }
    return is_due;
}
