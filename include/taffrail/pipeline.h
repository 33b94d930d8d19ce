/*
 * pipeline.h - joins inputs, filters, spool and outputs into a running agent.
 *
 * Pump jobs run on workers, one a source at a time, round robin; their events go into open frames,
 * one a tag; a frame is closed at TF_FRAME_SOFT_BYTES, by the sync timer, or when order demands it
 * (docs/guarantees.md B2).
 */
#ifndef TAFFRAIL_PIPELINE_H
#define TAFFRAIL_PIPELINE_H

#include <uv.h>

#include "taffrail/config.h"
#include "taffrail/input.h"
#include "taffrail/output.h"

#define TF_FRAME_SOFT_BYTES   (1u << 20)
#define TF_UNSYNCED_MAX_BYTES (2u << 20) /* fires the sync early */
#define TF_PRESSURE_BYTES     (4u << 20) /* taken and not durable: pumps wait */

/*
 * Builds everything a configuration names without starting it: what `check` and `run` share.
 * Returns new in *out, also half-built with a negative result (NULL only without memory): it is
 * always ended by tf_pipeline_stop, then tf_pipeline_free.
 */
int tf_pipeline_new(uv_loop_t *loop, const struct tf_config *config, struct tf_pipeline **out,
                    struct tf_error *err);
/* For `check`, once all is built: appends the names of inputs and outputs, and what they say of
 * themselves (tf_input_kind.summarize): "container: 214 files in 38 pods; journald: 2 units". */
void tf_pipeline_summarize(struct tf_pipeline *pipeline, struct tf_buf *reads,
                           struct tf_buf *ships);
/*
 * For `run`, between the two: makes what cannot be made once the agent is confined, and adds to
 * needs what will be needed then. is_reload: another main works meanwhile. Returns 0 or a negative
 * errno, said in err.
 */
int tf_pipeline_prepare(struct tf_pipeline *pipeline, bool is_reload, struct tf_needs *needs,
                        struct tf_error *err);
/* Before the start: it takes over from a main of another configuration, in which the sections
 * changed were different, and for the reason why (both borrowed). The audit then says so instead of
 * a start. */
void tf_pipeline_takes_over(struct tf_pipeline *pipeline, const char *changed, const char *why);
/* Opens the spool, starts outputs, then inputs. */
int tf_pipeline_start(struct tf_pipeline *pipeline, struct tf_error *err);
/* Stops inputs, flushes, waits for acks up to agent.stop_timeout, closes all; then on_stopped. */
void tf_pipeline_stop(struct tf_pipeline *pipeline, void (*on_stopped)(void *ctx), void *ctx);
/* The same for another main that waits to take over: acks are waited for TF_LEAVE_ACKS_MS at most,
 * since it sends again what has none. */
#define TF_LEAVE_ACKS_MS 1000u
void tf_pipeline_leave(struct tf_pipeline *pipeline, void (*on_stopped)(void *ctx), void *ctx);
void tf_pipeline_free(struct tf_pipeline *pipeline);

/* Pump jobs at once: agent.workers, by default the cores, at most 4. */
uint32_t tf_pipeline_workers(const struct tf_agent_options *options);

/* The books as one log line (event "books") and, at stop, as audit record. */
void tf_pipeline_log_books(struct tf_pipeline *pipeline);

#endif
