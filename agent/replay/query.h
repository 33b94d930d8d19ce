/*
 * query.h - what a replay looks for: a span of time, conditions on fields, a regex on the text.
 */
#ifndef TAFFRAIL_REPLAY_QUERY_H
#define TAFFRAIL_REPLAY_QUERY_H

#include "taffrail/error.h"

#define TF_WHERE_MAX 32u

struct tf_query;

/* Texts as they stand on the command line, borrowed while the query lives; NULL: not given. */
struct tf_query_options {
    const char *from, *to;
    const char *where[TF_WHERE_MAX];
    size_t where_count;
    const char *grep;
};

/* Returns new in *out. -EINVAL with findings for all that is wrong; -ENOMEM. */
int tf_query_new(const struct tf_query_options *options, int64_t now_ns, struct tf_query **out,
                 struct tf_error *err);
void tf_query_free(struct tf_query *query); /* accepts NULL */

/* From from_ns <= t < to_ns; INT64_MIN and INT64_MAX where none was given. */
void tf_query_span(const struct tf_query *query, int64_t *from_ns, int64_t *to_ns);
/* Fixes the span: of a job that goes on. */
void tf_query_set_span(struct tf_query *query, int64_t from_ns, int64_t to_ns);

/*
 * Whether an event of that time is looked for. What cannot be decided in bounds (a limit of the
 * regex, a value too long for a glob) matches, and is counted. One thread at a time.
 */
bool tf_query_matches(struct tf_query *query, int64_t time_ns, struct tf_slice tag,
                      struct tf_slice event);
uint64_t tf_query_undecided(const struct tf_query *query);

/*
 * A point in time: RFC 3339; a date, its first instant in UTC; `now`; `-2h`, `-1h30m` before now;
 * `+72h` behind *from_ns (NULL: not allowed). Units s, m, h, d. Returns 0 or -EINVAL.
 */
int tf_when_parse(const char *text, int64_t now_ns, const int64_t *from_ns, int64_t *out);

#endif
