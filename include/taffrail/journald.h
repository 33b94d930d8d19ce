/*
 * journald.h - what the journald input wants of main before its own start.
 */
#ifndef TAFFRAIL_JOURNALD_H
#define TAFFRAIL_JOURNALD_H

#include "taffrail/config.h"
#include "taffrail/launcher.h"

/*
 * Starts the process that starts the journal's readers (launcher.h), where all of this holds: an
 * input reads files by taffrail-journal, there are some that this process may not read, it has
 * CAP_DAC_READ_SEARCH, and that can be handed on, with Landlock. While there is one thread and no
 * key in memory. Returns 0, with *out NULL where readers are started by main as ever, or a negative
 * errno.
 */
int tf_journald_start_launcher(const struct tf_config *config, struct tf_launcher **out);

#endif
