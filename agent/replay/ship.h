/*
 * ship.h - `replay --to-output`: what was picked, to an output of the configuration.
 */
#ifndef TAFFRAIL_REPLAY_SHIP_H
#define TAFFRAIL_REPLAY_SHIP_H

#include "job.h"
#include "pick.h"

struct tf_ship_options {
    const struct tf_config *config;
    struct tf_archive *archive;
    struct tf_query *query;
    const struct tf_query_options *words; /* that the query was made of */
    const char *output, *job;
    uint64_t limit, max_rate; /* UINT64_MAX, 0: none */
};

/* Runs until the job is done, or SIGINT or SIGTERM stops it; tells on stderr. Returns the exit
 * code. */
int tf_ship(const struct tf_ship_options *options);

#endif
