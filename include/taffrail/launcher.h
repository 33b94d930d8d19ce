/*
 * launcher.h - a process of its own that starts taffrail-journal with the right to read the
 * journal's files, where the agent's user and groups do not suffice.
 *
 * It has CAP_DAC_READ_SEARCH and hands it on to what it starts; Landlock, which is handed on too,
 * leaves that the journal's folders alone. Main has neither, but with sandbox.opener off the
 * capability, for its own logs. docs/launcher.md.
 */
#ifndef TAFFRAIL_LAUNCHER_H
#define TAFFRAIL_LAUNCHER_H

#include <stdbool.h>
#include <stdint.h>

#include <uv.h>

#include "taffrail/sandbox.h"

#define TF_LAUNCH_ARGS_MAX  1152u       /* arguments of a start */
#define TF_LAUNCH_TEXT_MAX  (60u << 10) /* bytes of all of them, each with its NUL */
#define TF_LAUNCH_COUNT_MAX 256u        /* programs at a time; more are not started: -EAGAIN */

struct tf_launcher;

/* One run of the program; the caller's memory, kept until it has ended. */
struct tf_launched {
    /* Once, on the loop: it ended with code, or of signal; or could not be started, for code, a
     * negative errno. -ESHUTDOWN: the launcher is gone, and ends with it. */
    void (*on_ended)(struct tf_launched *launched, int64_t code, int signal);
    struct tf_launched *next; /* the launcher's, as all below */
    uint32_t id;
};

/*
 * Forks it, while there is one thread and no key in memory; it then starts `program` and nothing
 * else, which can do no more than needs says (all borrowed, for this call). Returns 0 with *out
 * new, or a negative errno. -ENOSYS: there is no Landlock; -EPERM: the capability cannot be handed
 * on.
 */
int tf_launcher_start(const char *program, const struct tf_sandbox_options *options,
                      const struct tf_needs *needs, struct tf_launcher **out);

/* Ends it and all that it started, and waits for that. Accepts NULL. */
void tf_launcher_free(struct tf_launcher *launcher);

/* Main's end joins the loop; leaves it again: before the loop is closed. Both accept NULL. on_ended
 * is called once, when it has ended, or is killed because it is stopped, hangs or lies; its runs
 * have ended before. */
void tf_launcher_attach(struct tf_launcher *launcher, uv_loop_t *loop, void (*on_ended)(void *ctx),
                        void *ctx);
void tf_launcher_detach(struct tf_launcher *launcher);

/*
 * Starts the program with args (args[0] is not looked at, it ends in NULL), stdout and stderr; its
 * stdin ends when the launcher does. All are borrowed for this call. Returns 0; on_ended is then
 * called, later. Or a negative errno, and it is not: -E2BIG past the bounds above, -ESHUTDOWN when
 * the launcher is gone.
 */
int tf_launcher_run(struct tf_launcher *launcher, struct tf_launched *launched, char *const *args,
                    int out_fd, int err_fd);
void tf_launcher_kill(struct tf_launcher *launcher, const struct tf_launched *launched);

#endif
