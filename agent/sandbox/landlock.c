/*
 * landlock.c - Landlock (landlock(7)): a process refuses itself files and TCP ports.
 *
 * The numbers are the kernel's (include/uapi/linux/landlock.h), written down here since the C
 * library's headers are older than the kernels we run on. Each ABI can refuse more:
 *
 *     1  13 rights on files     2  moves between folders     3  cutting a file short
 *     4  TCP ports              5  ioctl of devices          6  signals and abstract sockets
 *
 * What an older kernel cannot refuse stays as the user's rights say. A rule holds for the file or
 * folder itself, by inode: whatever replaces it under its name is not covered.
 */
#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef SYS_landlock_create_ruleset
#define SYS_landlock_create_ruleset 444
#define SYS_landlock_add_rule       445
#define SYS_landlock_restrict_self  446
#endif

#define ASK_VERSION       1U
#define RULE_PATH_BENEATH 1
#define RULE_NET_PORT     2
#define FILE_RIGHTS                                                                                \
    (TF_LANDLOCK_EXECUTE | TF_LANDLOCK_WRITE_FILE | TF_LANDLOCK_READ_FILE | TF_LANDLOCK_TRUNCATE)

struct ruleset {
    uint64_t files, ports, scopes;
};

struct path_beneath {
    uint64_t rights;
    int32_t fd;
} __attribute__((packed));

struct net_port {
    uint64_t rights, port;
};

static uint64_t rights_of(int abi)
{
    unsigned count = abi >= 5 ? 16 : abi >= 3 ? 15 : abi == 2 ? 14 : 13;

    return (UINT64_C(1) << count) - 1;
}

bool tf_landlock_begin(struct tf_landlock *rules, bool is_net, uint64_t scopes)
{
    int abi = (int)syscall(SYS_landlock_create_ruleset, NULL, 0UL, ASK_VERSION);
    struct ruleset ruleset = {0};

    if (abi <= 0) {
        return false;
    }
    ruleset.files = rights_of(abi);
    ruleset.ports = abi >= 4 && is_net ? TF_LANDLOCK_BIND_TCP | TF_LANDLOCK_CONNECT_TCP : 0;
    ruleset.scopes = abi >= 6 ? scopes : 0;
    *rules = (struct tf_landlock){.abi = abi, .files = ruleset.files};
    /* Older kernels take a longer struct as long as what they do not know is zero. */
    rules->fd = (int)syscall(SYS_landlock_create_ruleset, &ruleset, sizeof ruleset, 0U);
    return rules->fd >= 0;
}

bool tf_landlock_allow(const struct tf_landlock *rules, const char *path, uint64_t rights)
{
    struct path_beneath rule = {.rights = rights & rules->files};
    struct stat status;

    rule.fd = open(path, O_PATH | O_CLOEXEC);
    if (rule.fd < 0) {
        return false;
    }
    if (fstat(rule.fd, &status) == 0 && !S_ISDIR(status.st_mode)) {
        rule.rights &= FILE_RIGHTS;
    }
    (void)syscall(SYS_landlock_add_rule, rules->fd, RULE_PATH_BENEATH, &rule, 0U);
    (void)close(rule.fd);
    return true;
}

void tf_landlock_allow_port(const struct tf_landlock *rules, uint16_t port, uint64_t rights)
{
    struct net_port rule = {.rights = rights, .port = port};

    if (rules->abi >= 4) {
        (void)syscall(SYS_landlock_add_rule, rules->fd, RULE_NET_PORT, &rule, 0U);
    }
}

int tf_landlock_enforce(struct tf_landlock *rules)
{
    long rc = syscall(SYS_landlock_restrict_self, rules->fd, 0U);

    (void)close(rules->fd);
    rules->fd = -1;
    return rc == 0 ? rules->abi : 0;
}

bool tf_landlock_refuses(void)
{
    int fd = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd >= 0) {
        (void)close(fd);
    }
    return fd < 0 && errno == EACCES;
}
