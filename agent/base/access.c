/*
 * access.c - whom the group bits of a secret's file let in.
 *
 * Where a file has an access list, its group bits are the list's mask (acl(5)), not what the group
 * may do. systemd's credentials are so: root's, 0400, and an entry for the service's user makes
 * that 0440. The list is read from the extended attribute that the kernel keeps it in
 * (linux/posix_acl_xattr.h): a version, 4 bytes, then 8 bytes an entry: tag and rights, 2 each, id,
 * 4; little-endian.
 */
#include <linux/posix_acl.h>
#include <linux/posix_acl_xattr.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "taffrail/base.h"

#define GROUPS_MAX      1024
#define LIST_HEAD_BYTES 4u
#define ENTRY_BYTES     8u
#define ENTRIES_MAX     32u /* more are not ours alone */

static bool is_our_group(gid_t group)
{
    gid_t groups[GROUPS_MAX];
    int count = getgroups(GROUPS_MAX, groups);

    for (int i = 0; i < count; i++) {
        if (groups[i] == group) {
            return true;
        }
    }
    return group == getegid();
}

static bool entry_is_ours(const uint8_t *entry)
{
    uint16_t tag = tf_load16(entry), rights = tf_load16(entry + 2);

    switch (tag) {
    case ACL_USER_OBJ: /* the owner's and the others' stand in the mode, too */
    case ACL_OTHER:
    case ACL_MASK:
        return true;
    case ACL_USER:
        return tf_load32(entry + 4) == geteuid();
    default: /* a group's */
        return rights == 0;
    }
}

/* False when there is no list. */
static bool list_is_ours(int fd)
{
    uint8_t list[LIST_HEAD_BYTES + ENTRIES_MAX * ENTRY_BYTES];
    ssize_t size = fgetxattr(fd, "system.posix_acl_access", list, sizeof list);

    if (size < (ssize_t)LIST_HEAD_BYTES || tf_load32(list) != POSIX_ACL_XATTR_VERSION) {
        return false;
    }
    for (size_t at = LIST_HEAD_BYTES; at < (size_t)size; at += ENTRY_BYTES) {
        if (at + ENTRY_BYTES > (size_t)size || !entry_is_ours(list + at)) {
            return false;
        }
    }
    return true;
}

bool tf_group_read_is_ours(int fd, const struct stat *st)
{
    return (st->st_mode & S_IRGRP) == 0 ||
           (st->st_uid == 0 && (is_our_group(st->st_gid) || list_is_ours(fd)));
}
