/*
 * chance.c - when to try again.
 *
 * The kernel's randomness (getrandom(2)), for this room knows no OpenSSL. It never waits: a machine
 * that has just started may have none yet.
 */
#include "taffrail/chance.h"

#include <sys/random.h>

uint64_t tf_random_up_to(uint64_t limit)
{
    uint64_t value;

    if (getrandom(&value, sizeof value, GRND_NONBLOCK) != sizeof value) {
        return limit;
    }
    return limit == UINT64_MAX ? value : value % (limit + 1);
}

uint64_t tf_backoff_ms(uint64_t base_ms, uint64_t cap_ms, uint32_t failures)
{
    uint64_t limit_ms = base_ms;

    for (uint32_t i = 1; i < failures && limit_ms < cap_ms; i++) {
        limit_ms *= 2;
    }
    return limit_ms < cap_ms ? limit_ms : cap_ms;
}
