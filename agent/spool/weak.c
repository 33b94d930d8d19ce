/*
 * weak.c - what about a spool's place and keys weakens its promises; for `check`.
 *
 *     shred     overwriting a key slot destroys it only where a file is written in place: not on
 *               filesystems that copy on write, nor where another machine keeps the blocks
 *     keys      on the spool's own filesystem they protect copies of the spool, not its disk
 *     auditor   what is kept for him cannot be replayed here; without `retain` nothing is kept
 *
 * Each is a warning, not an error: there may be no better place. What no program can see: flash
 * that keeps old pages, snapshots below the filesystem, backups (docs/retention.md).
 */
#include "internal.h"

#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/statfs.h>

/* f_type of statfs(2), by its manual page; the last three are not there. */
static const struct {
    uint32_t type;
    const char *name;
} copying[] = {
    {0x9123683e, "btrfs"},     {0x2fc12fc1, "zfs"},  {0xca451a4e, "bcachefs"}, {0xf2f52010, "f2fs"},
    {0x794c7630, "overlayfs"}, {0x3434, "nilfs"},    {0x6969, "nfs"},          {0xff534d42, "cifs"},
    {0xfe534d42, "smb2"},      {0x517b, "smb"},      {0x65735546, "fuse"},     {0x00c36400, "ceph"},
    {0x01021997, "9p"},        {0x47504653, "gpfs"}, {0x0bd00bd0, "lustre"},
};

const char *tf_copying_filesystem(uint32_t type)
{
    for (size_t i = 0; i < TF_COUNT(copying); i++) {
        if (copying[i].type == type) {
            return copying[i].name;
        }
    }
    return NULL;
}

/* The spool's folder, or the one that it is to be made in. */
static int find_folder(const struct tf_spool_options *options, char *out, size_t size)
{
    struct stat st;
    int n = snprintf(out, size, "%s", options->path.text);
    char *slash;

    if (n < 0 || (size_t)n >= size) {
        return -ENAMETOOLONG;
    }
    if (stat(out, &st) == 0) {
        return 0;
    }
    slash = strrchr(out, '/');
    if (slash == NULL) {
        return -ENOENT;
    }
    slash[slash == out] = '\0';
    return 0;
}

static void check_shred(const struct tf_spool_options *options, const char *folder,
                        struct tf_error *err)
{
    struct statfs fs;
    const char *name = statfs(folder, &fs) == 0 ? tf_copying_filesystem((uint32_t)fs.f_type) : NULL;

    if (options->shred && name != NULL) {
        tf_warning_add(err, &options->path.at,
                       "spool.shred: %s does not overwrite in place, so that keys of deleted "
                       "segments may live on there; put the spool on ext4 or xfs, or replace and "
                       "destroy the key of spool.keys from time to time",
                       name);
    }
}

static void check_keys(const struct tf_spool_options *options, const char *folder,
                       struct tf_error *err)
{
    struct stat spool, key;

    if (options->keys.count == 0) {
        tf_warning_add(err, &options->path.at,
                       "without spool.keys the key lies beside the "
                       "spool: it protects copies, not this disk");
        return;
    }
    for (size_t i = 0; stat(folder, &spool) == 0 && i < options->keys.count; i++) {
        const struct tf_text *file = &options->keys.items[i];

        if (stat(file->text, &key) == 0 && key.st_dev == spool.st_dev) {
            tf_warning_add(err, &file->at,
                           "key file \"%s\" lies on the filesystem of the spool: it protects "
                           "copies, not this disk; a systemd credential or a mounted secret does",
                           file->text);
        }
    }
}

static void check_auditor(const struct tf_spool_options *options, struct tf_error *err)
{
    if (options->auditor.text == NULL) {
        return;
    }
    if (options->retain_age_ms == 0 && options->retain_size_bytes == 0) {
        tf_warning_add(err, &options->auditor.at,
                       "spool.auditor without spool.retain: what is delivered is deleted, and "
                       "nothing is kept for the auditor; set spool.retain");
        return;
    }
    tf_warning_add(err, &options->auditor.at,
                   "spool.auditor: what is kept opens with the auditor's private key only; "
                   "`taffrail replay` here needs it as --key");
}

void tf_spool_weaknesses(const struct tf_spool_options *options, struct tf_error *err)
{
    char folder[4096];

    if (find_folder(options, folder, sizeof folder) == 0) {
        check_shred(options, folder, err);
        check_keys(options, folder, err);
    }
    check_auditor(options, err);
}
