/*
 * job.h - how far a replay to an output has come: the file JOB.job.
 */
#ifndef TAFFRAIL_REPLAY_JOB_H
#define TAFFRAIL_REPLAY_JOB_H

#include "taffrail/error.h"
#include "taffrail/spool.h"

#define TF_JOB_NAME_MAX     64u
#define TF_JOB_SLOT_BYTES   148u
#define TF_JOB_FILE_BYTES   8192u
#define TF_JOB_DIGEST_BYTES 32u

enum tf_job_step { TF_JOB_RUNNING = 1, TF_JOB_DONE = 2 };

struct tf_job_state {
    uint32_t step; /* enum tf_job_step */
    uint8_t spool_id[TF_SPOOL_ID_BYTES];
    uint8_t digest[TF_JOB_DIGEST_BYTES]; /* of the options that say what is shipped, and where */
    uint64_t seq;                        /* frames up to it are acked, or hold nothing wanted */
    uint64_t records, bytes;             /* acked */
    int64_t from_ns, to_ns;              /* the span, fixed when the job began */
    int64_t begun_ns;
    struct tf_file_cursor file; /* of a file output; else zero */
    uint64_t losses;            /* that were told of what lies up to seq */
    uint64_t counter;           /* rises by one with each save */
};

struct tf_job {
    int fd;        /* locked: one process a job */
    uint32_t slot; /* that counts */
    struct tf_job_state state;
};

/* [A-Za-z0-9_-], dots within; 1 to TF_JOB_NAME_MAX bytes: a name of a file, never a path. */
bool tf_job_name_is_sound(const char *name);

/* Pure. decode: 0 or -EPROTO. */
void tf_job_encode(const struct tf_job_state *state, uint8_t out[TF_JOB_SLOT_BYTES]);
int tf_job_decode(const uint8_t in[TF_JOB_SLOT_BYTES], struct tf_job_state *out);

/*
 * Opens NAME.job in the folder, or makes it with fresh (synced). Returns 1 when it was there: then
 * state is what it says; 0 when it was made; -EINVAL with a finding: another process has it, or it
 * is no job; other -errno, with a finding too.
 */
int tf_job_open(int dir_fd, const char *name, const struct tf_job_state *fresh, struct tf_job *job,
                struct tf_error *err);
void tf_job_close(struct tf_job *job); /* sound on fd -1 */

/* Writes state into the other slot and syncs. Any thread, one at a time. 0 or -errno: what was
 * saved before still counts. */
int tf_job_save(struct tf_job *job, const struct tf_job_state *state);

#endif
