/*
 * chance.h - when to try again, so that many machines do not come together.
 */
#ifndef TAFFRAIL_CHANCE_H
#define TAFFRAIL_CHANCE_H

#include <stdint.h>

/* 0..limit, both included. Without randomness the limit: late is safe, in step is not. */
uint64_t tf_random_up_to(uint64_t limit);

/* base_ms, doubled with each failure in a row after the first; cap_ms at most. What part of it is
 * waited is left to chance. */
uint64_t tf_backoff_ms(uint64_t base_ms, uint64_t cap_ms, uint32_t failures);

#endif
