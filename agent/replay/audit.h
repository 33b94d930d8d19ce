/*
 * audit.h - what a replay says of itself to the output it ships to: the audit event `replay`.
 */
#ifndef TAFFRAIL_REPLAY_AUDIT_H
#define TAFFRAIL_REPLAY_AUDIT_H

#include "job.h"
#include "query.h"
#include "taffrail/filters.h"

/* Borrows all it points to, but for filters. */
struct tf_replay_audit {
    const struct tf_config *config;
    const struct tf_query_options *words;
    const char *output, *job;
    uint64_t limit; /* UINT64_MAX: none */
    bool goes_on;   /* the job was begun by another process */
    struct tf_filters *filters;
};

/* Opens the configuration's filters: what was asked for may hold a secret. 0; -EINVAL with
 * findings; other -errno. */
int tf_replay_audit_open(struct tf_replay_audit *audit, struct tf_error *err);
void tf_replay_audit_close(struct tf_replay_audit *audit); /* sound without open */

/*
 * Appends the event of now. state says how far the job is; with is_end all of it is shipped:
 * undecided of its records are there though a condition could not be decided. 0 or -errno.
 */
int tf_replay_audit_write(const struct tf_replay_audit *audit, const struct tf_job_state *state,
                          bool is_end, uint64_t undecided, struct tf_buf *out);

#endif
