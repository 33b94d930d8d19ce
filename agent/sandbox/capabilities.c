/*
 * capabilities.c - the powers of root, taken apart (capabilities(7)): given up but for one.
 *
 * A set of capabilities belongs to a thread; a new thread gets its maker's. So they are dropped
 * while there is one thread only, and raised by each thread for itself: while the looker opens a
 * log, no other thread may read more than its user.
 */
#include "internal.h"

#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define CAPABILITIES_MAX 64u

/* Set while there is one thread. */
static bool may_read_all;
static _Thread_local unsigned raised_times;

static bool set(uint64_t permitted, uint64_t effective)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {
        {.permitted = (uint32_t)permitted, .effective = (uint32_t)effective},
        {.permitted = (uint32_t)(permitted >> 32), .effective = (uint32_t)(effective >> 32)}};

    return syscall(SYS_capset, &header, data) == 0;
}

static bool get(uint64_t *permitted, uint64_t *effective)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {{0}};

    if (syscall(SYS_capget, &header, data) != 0) {
        return false;
    }
    *permitted = data[0].permitted | (uint64_t)data[1].permitted << 32;
    *effective = data[0].effective | (uint64_t)data[1].effective << 32;
    return true;
}

void tf_capabilities_bound(void)
{
    for (unsigned long capability = 0; capability < CAPABILITIES_MAX; capability++) {
        (void)prctl(PR_CAPBSET_DROP, capability, 0UL, 0UL, 0UL);
    }
    (void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0UL, 0UL, 0UL);
}

bool tf_capabilities_keep(uint64_t keep)
{
    uint64_t permitted = 0, effective = 0;

    if (!get(&permitted, &effective)) {
        return false;
    }
    (void)set(permitted & keep, 0); /* a filter around us may forbid it */
    if (!get(&permitted, &effective)) {
        return false;
    }
    may_read_all = (permitted & TF_CAPABILITY_READ) != 0;
    return (permitted & ~keep) == 0 && effective == 0;
}

void tf_capabilities_use(uint64_t wanted)
{
    uint64_t permitted = 0, effective = 0;

    if (get(&permitted, &effective)) {
        (void)set(permitted, permitted & wanted);
    }
}

bool tf_capabilities_may_read_all(void)
{
    return may_read_all;
}

void tf_sandbox_raise(void)
{
    if (may_read_all && raised_times++ == 0) {
        (void)set(TF_CAPABILITY_READ, TF_CAPABILITY_READ);
    }
}

void tf_sandbox_lower(void)
{
    if (may_read_all && --raised_times == 0) {
        (void)set(TF_CAPABILITY_READ, 0);
    }
}
