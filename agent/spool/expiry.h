/*
 * expiry.h - whether a spool says itself that its oldest frames expired.
 */
#ifndef TAFFRAIL_SPOOL_EXPIRY_H
#define TAFFRAIL_SPOOL_EXPIRY_H

#include <stdint.h>

/* Looks for an expire notice that names frame seq or a later one, the newest segment first: before
 * anything is deleted, a notice of it is on disk. 1, 0: there is none, or -errno. */
int tf_expiry_is_noticed(int dir_fd, uint64_t seq);

#endif
