/*
 * check_connect.h - the part of `taffrail check` that goes to the network, on --connect.
 */
#ifndef TAFFRAIL_CHECK_CONNECT_H
#define TAFFRAIL_CHECK_CONNECT_H

#include "taffrail/config.h"

/*
 * Tries the receivers of all outputs of a sound configuration, one after the other, and prints what
 * comes of each step to stdout; as_json: what failed, a finding a line, and the sum to stderr.
 * Returns the command's exit code: TF_EXIT_FOUND when a receiver would not be delivered to.
 */
int tf_check_connect(const struct tf_config *config, bool as_json);

#endif
