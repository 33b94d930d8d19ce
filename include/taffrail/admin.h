/*
 * admin.h - what a running agent tells of itself: conditions, metrics, status, over HTTP.
 *
 * Once a second the pipeline is looked at, and what needs somebody becomes a condition
 * (docs/conditions.md): in the log, in the audit, as a metric, in /status. That is so with or
 * without an endpoint. The endpoint (section `admin`) only tells: GET and HEAD, nothing changes
 * state.
 *
 * Loop only.
 */
#ifndef TAFFRAIL_ADMIN_H
#define TAFFRAIL_ADMIN_H

#include <uv.h>

#include "taffrail/config.h"
#include "taffrail/parent.h"
#include "taffrail/pipeline.h"
#include "taffrail/sandbox.h"

struct tf_admin;

struct tf_admin_args {
    uv_loop_t *loop;
    const struct tf_config *config;   /* borrowed for the life of the admin */
    const char *version;              /* the same */
    const struct tf_reloads *reloads; /* the same; what it says may change */
};

/*
 * Checks addresses and loads certificates; touches no network: what `check` and `run` share.
 * Returns new in *out; -EINVAL with findings in err; -ENOMEM.
 */
int tf_admin_new(const struct tf_admin_args *args, struct tf_admin **out, struct tf_error *err);

/* Adds to needs what it will need once the agent is confined (sandbox.h). */
void tf_admin_needs(const struct tf_admin *admin, struct tf_needs *needs);

/*
 * Begins to watch a pipeline that was started (borrowed until tf_admin_close), and to listen. An
 * address that cannot be listened on is an error, said in err, when it was written in the
 * configuration; else a warning in the log. Returns 0 or a negative errno; ended by tf_admin_close
 * in each case.
 */
int tf_admin_start(struct tf_admin *admin, struct tf_pipeline *pipeline, struct tf_error *err);

/* Cuts connections, frees admin (NULL: nothing), then calls on_closed. Not in this call when it was
 * started. */
void tf_admin_close(struct tf_admin *admin, void (*on_closed)(void *ctx), void *ctx);

#endif
