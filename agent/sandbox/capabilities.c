/*
 * capabilities.c - the powers of root, taken apart (capabilities(7)): given up but for one.
 *
 * A set of capabilities belongs to a thread; a new thread gets its maker's. So they are dropped
 * while there is one thread only, and raised by each thread for itself: while the looker opens a
 * log, no other thread may read more than its user.
 *
 * What is kept can be handed on to a program only while it is inheritable too. The kernel makes
 * none inheritable that the bounding set lacks, so that comes before this is emptied. By itself it
 * gives nothing: a program gets what is ambient (which takes inheritable), or what its file grants,
 * and with no_new_privs a file grants nothing.
 */
#include "internal.h"

#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define CAPABILITIES_MAX 64u

/* Set while there is one thread. */
static bool may_read_all, is_inheritable;
static _Thread_local unsigned raised_times;

static bool set(uint64_t permitted, uint64_t effective)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {
        {.permitted = (uint32_t)permitted, .effective = (uint32_t)effective},
        {.permitted = (uint32_t)(permitted >> 32), .effective = (uint32_t)(effective >> 32)}};

    data[0].inheritable = is_inheritable ? (uint32_t)(permitted & TF_CAPABILITY_READ) : 0;
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

static void make_inheritable(void)
{
    uint64_t permitted = 0, effective = 0;

    is_inheritable = true;
    is_inheritable = get(&permitted, &effective) && set(permitted, effective);
}

void tf_capabilities_bound(void)
{
    make_inheritable();
    for (unsigned long capability = 0; capability < CAPABILITIES_MAX; capability++) {
        (void)prctl(PR_CAPBSET_DROP, capability, 0UL, 0UL, 0UL);
    }
    (void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0UL, 0UL, 0UL);
}

bool tf_capabilities_keep(uint64_t keep, bool may_hand_on)
{
    uint64_t permitted = 0, effective = 0;

    is_inheritable = is_inheritable && may_hand_on;
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

bool tf_capabilities_hand_on(void)
{
    return may_read_all && prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE,
                                 (unsigned long)CAP_DAC_READ_SEARCH, 0UL, 0UL) == 0;
}

bool tf_capabilities_are_handed_on(void)
{
    return prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, (unsigned long)CAP_DAC_READ_SEARCH, 0UL,
                 0UL) == 1;
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
