/*
 * crash.c - places where a test build dies by SIGKILL, chosen by TAFFRAIL_CRASH="NAME:N".
 *
 * Passes are counted over all threads. Only compiled with TF_TEST_HOOKS; a release build has none
 * of it.
 */
#include "taffrail/base.h"

#ifdef TF_TEST_HOOKS
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>

void tf_crash_point(const char *name)
{
    static atomic_long passes;
    const char *wanted = getenv("TAFFRAIL_CRASH");
    size_t size = strlen(name);

    if (wanted == NULL || strncmp(wanted, name, size) != 0 || wanted[size] != ':') {
        return;
    }
    if (atomic_fetch_add(&passes, 1) + 1 == strtol(wanted + size + 1, NULL, 10)) {
        (void)raise(SIGKILL);
    }
}
#else
typedef int tf_crash_is_empty; /* ISO C wants something in a file */
#endif
