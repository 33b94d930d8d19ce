/*
 * sandbox.c - the layers in their order; each is tried from inside, and told.
 *
 *     begin    bounding set emptied → another user, where asked → capabilities dropped →
 *              no_new_privs
 *     hand_over  the last capability too, where another process opens logs
 *     close    compiled rules unwritable → files, ports (Landlock) → no page becomes executable
 *              (PR_SET_MDWE) → undumpable → calls (seccomp)
 *
 * The order is not free: Landlock belongs to a thread and to those that it makes, so it comes
 * before libuv's pool; PCRE2 compiles into executable pages, so it has done so before; seccomp
 * refuses what steps before it need; an undumpable process of another user than root loses parts of
 * its own /proc. Where the kernel has no PR_SET_MDWE, seccomp does what it would.
 */
#include "internal.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "taffrail/log.h"

#ifndef PR_SET_MDWE
#define PR_SET_MDWE              65
#define PR_MDWE_REFUSE_EXEC_GAIN 1UL
#endif

const char *const tf_sandbox_layers[TF_SANDBOX_LAYERS] = {
    [TF_LAYER_NO_NEW_PRIVS] = "no_new_privs",
    [TF_LAYER_CAPABILITIES] = "capabilities",
    [TF_LAYER_LANDLOCK] = "landlock",
    [TF_LAYER_SECCOMP] = "seccomp",
};
const char *const tf_sandbox_roles[TF_SANDBOX_ROLES] = {
    [TF_ROLE_PARENT] = "parent",
    [TF_ROLE_OPENER] = "opener",
    [TF_ROLE_LAUNCHER] = "launcher",
    [TF_ROLE_JOURNAL_READER] = "journal-reader",
};
const char *const tf_sandbox_memories[] = {
    [TF_MEMORY_OPEN] = "none", [TF_MEMORY_SECCOMP] = "seccomp", [TF_MEMORY_KERNEL] = "kernel"};
const char *const tf_sandbox_calls[] = {
    [TF_CALLS_OPEN] = "none", [TF_CALLS_NORMAL] = "normal", [TF_CALLS_STRICT] = "strict"};

/* From debuggers, and from others who would look into /proc. */
static void hide(void)
{
#ifndef __SANITIZE_ADDRESS__ /* its search for leaks at the end traces the threads */
    (void)prctl(PR_SET_DUMPABLE, 0UL, 0UL, 0UL, 0UL);
#endif
}

static struct tf_sandbox_status held; /* written while there is one thread, but for a role's */

/* ---- the parent, and what main has of it ---------------------------------------------------- */

void tf_sandbox_parent(void)
{
    bool has[TF_SANDBOX_LAYERS] = {0};

    tf_capabilities_bound();
    has[TF_LAYER_CAPABILITIES] = tf_capabilities_keep(
        TF_CAPABILITY_READ | TF_CAPABILITY_KILL | TF_CAPABILITY_SETGID | TF_CAPABILITY_SETUID,
        true);
    (void)prctl(PR_SET_NO_NEW_PRIVS, 1UL, 0UL, 0UL, 0UL);
    has[TF_LAYER_NO_NEW_PRIVS] = prctl(PR_GET_NO_NEW_PRIVS, 0UL, 0UL, 0UL, 0UL) == 1;
    hide();
    tf_sandbox_note(TF_ROLE_PARENT, has, tf_capabilities_may_read_all()); /* main is forked with
                                                                             it */
}

void tf_sandbox_kill(pid_t pid, int signal)
{
    tf_capabilities_use(TF_CAPABILITY_KILL);
    (void)kill(pid, signal);
    tf_capabilities_use(0);
}

void tf_sandbox_main(void)
{
    tf_capabilities_use(~UINT64_C(0));
}

/* ---- beginning ------------------------------------------------------------------------------ */

int tf_sandbox_check(const struct tf_sandbox_options *options, struct tf_error *err)
{
    return options->user.text != NULL ? tf_user_check(&options->user, err) : 0;
}

int tf_sandbox_begin(const struct tf_sandbox_options *options, struct tf_error *err)
{
    int rc = 0;

    tf_capabilities_bound();
    if (options->user.text != NULL) {
        rc = tf_user_become(&options->user, err);
    }
    held.has[TF_LAYER_CAPABILITIES] = tf_capabilities_keep(TF_CAPABILITY_READ, true);
    held.may_read_all = tf_capabilities_may_read_all();
    (void)prctl(PR_SET_NO_NEW_PRIVS, 1UL, 0UL, 0UL, 0UL);
    held.has[TF_LAYER_NO_NEW_PRIVS] = prctl(PR_GET_NO_NEW_PRIVS, 0UL, 0UL, 0UL, 0UL) == 1;
    return rc;
}

void tf_sandbox_hand_over(bool has_opener)
{
    held.has[TF_LAYER_CAPABILITIES] = tf_capabilities_keep(0, false);
    held.has_opener = has_opener;
    held.may_read_all = has_opener && held.may_read_all;
}

/* ---- trying --------------------------------------------------------------------------------- */

/* Changes nothing where it is not refused. By whom does not matter: a filter around the agent may
 * refuse it too, with another error. */
static bool calls_are_refused(void)
{
    return unshare(0) < 0;
}

/* ---- telling -------------------------------------------------------------------------------- */

static const char *const mends[TF_SANDBOX_LAYERS] = {
    [TF_LAYER_NO_NEW_PRIVS] = "a filter around the agent forbids prctl; let it",
    [TF_LAYER_CAPABILITIES] = "a filter around the agent forbids capset; let it",
    [TF_LAYER_LANDLOCK] = "the kernel has no Landlock, or a filter around the agent forbids it; it "
                          "is there from 5.13 on, with landlock in the kernel's lsm=",
    [TF_LAYER_SECCOMP] = "the kernel has no seccomp, a filter around the agent forbids it, or the "
                         "agent was built without libseccomp",
};

/* Warns of what is missing, or refuses it. */
static int tell(const struct tf_sandbox_options *options, struct tf_error *err)
{
    int rc = 0;

    for (unsigned i = 0; i < TF_SANDBOX_LAYERS; i++) {
        if (!held.has[i] && options->required) {
            (void)tf_error_add(err, &options->at,
                               "sandbox.required: layer %s is missing: %s; or write required: "
                               "false",
                               tf_sandbox_layers[i], mends[i]);
            rc = -ENOSYS;
        } else if (!held.has[i]) {
            tf_log(TF_LOG_WARN, "sandbox-lacks", TF_DETAILS(TF_STR("layer", tf_sandbox_layers[i])),
                   "this layer of the sandbox is off: %s", mends[i]);
        }
    }
    return rc;
}

static void log_layers(void)
{
    char parent[TF_SANDBOX_TEXT_BYTES];

    tf_log(TF_LOG_INFO, "sandbox",
           TF_DETAILS(TF_BOOL("no_new_privs", held.has[TF_LAYER_NO_NEW_PRIVS]),
                      TF_BOOL("capabilities", held.has[TF_LAYER_CAPABILITIES]),
                      TF_NUM("landlock", held.landlock_abi),
                      TF_STR("seccomp", tf_sandbox_calls[held.calls]),
                      TF_STR("memory", tf_sandbox_memories[held.memory]),
                      TF_BOOL("reads_all_logs", held.may_read_all),
                      TF_BOOL("opener", held.has_opener), TF_NUM("uid", geteuid())),
           "%u of %u layers on", held.layers, (unsigned)TF_SANDBOX_LAYERS);
    if (held.roles[TF_ROLE_PARENT].is_there) {
        tf_sandbox_text(held.roles[TF_ROLE_PARENT].has, parent);
        tf_log(TF_LOG_INFO, "sandbox-parent", TF_DETAILS(TF_STR("layers", parent)),
               "the process that starts others has these, and can have no more");
    }
}

/* ---- closing -------------------------------------------------------------------------------- */

static enum tf_sandbox_calls close_calls(const struct tf_sandbox_options *options,
                                         const struct tf_needs *needs, bool has_mdwe)
{
    bool is_strict = options->mode == TF_SANDBOX_STRICT, runs = tf_needs_run_programs(needs);

    if (!(is_strict ? tf_calls_allow(runs) : tf_calls_refuse(runs, !has_mdwe)) ||
        !calls_are_refused()) {
        return TF_CALLS_OPEN;
    }
    return is_strict ? TF_CALLS_STRICT : TF_CALLS_NORMAL;
}

static bool forbid_new_code(void)
{
    return prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0UL, 0UL, 0UL) == 0;
}

static void note_files(int abi, const struct tf_needs *needs)
{
    held.landlock_abi = abi > 0 && (tf_needs_root(needs) || tf_landlock_refuses()) ? abi : 0;
    held.has[TF_LAYER_LANDLOCK] = held.landlock_abi > 0;
}

static void note_calls(enum tf_sandbox_calls calls, bool is_sealed, bool has_mdwe)
{
    bool has_seccomp = calls != TF_CALLS_OPEN;

    held.calls = calls;
    held.has[TF_LAYER_SECCOMP] = has_seccomp;
    held.memory = !is_sealed    ? TF_MEMORY_OPEN
                  : has_mdwe    ? TF_MEMORY_KERNEL
                  : has_seccomp ? TF_MEMORY_SECCOMP
                                : TF_MEMORY_OPEN;
    held.layers = 0;
    for (unsigned i = 0; i < TF_SANDBOX_LAYERS; i++) {
        held.layers += held.has[i];
    }
    held.is_closed = true;
}

int tf_sandbox_close(const struct tf_sandbox_options *options, const struct tf_needs *needs,
                     struct tf_error *err)
{
    bool has_mdwe, is_sealed = tf_pages_seal();
    int abi, rc;

    held.has[TF_LAYER_CAPABILITIES] = tf_capabilities_keep(TF_CAPABILITY_READ, false);
    abi = tf_needs_enforce(needs, TF_COMMON_ALL);
    if (abi < 0) {
        return abi;
    }
    note_files(abi, needs);
    has_mdwe = forbid_new_code();
    hide();
    note_calls(close_calls(options, needs, has_mdwe), is_sealed, has_mdwe);
    rc = tell(options, err);
    if (rc == 0) {
        log_layers();
    }
    return rc;
}

/* Of a process beside main: its rights, its files, nothing executable, not to be traced. */
static int close_beside(const struct tf_needs *needs, bool may_hand_on, enum tf_common common,
                        bool *has_mdwe)
{
    int abi;

    held.has[TF_LAYER_CAPABILITIES] = tf_capabilities_keep(TF_CAPABILITY_READ, may_hand_on);
    held.may_read_all = tf_capabilities_may_read_all();
    held.has[TF_LAYER_NO_NEW_PRIVS] = prctl(PR_SET_NO_NEW_PRIVS, 1UL, 0UL, 0UL, 0UL) == 0;
    abi = tf_needs_enforce(needs, common);
    if (abi < 0) {
        return abi;
    }
    note_files(abi, needs);
    *has_mdwe = forbid_new_code();
    (void)prctl(PR_SET_DUMPABLE, 0UL, 0UL, 0UL, 0UL);
    return 0;
}

/* is_loaded: a filter, of that kind. */
static void end_beside(bool is_loaded, enum tf_sandbox_calls calls, bool has_mdwe,
                       struct tf_sandbox_status *out)
{
    note_calls(is_loaded && calls_are_refused() ? calls : TF_CALLS_OPEN, true, has_mdwe);
    *out = held;
}

int tf_sandbox_close_opener(const struct tf_needs *needs, struct tf_sandbox_status *out)
{
    bool has_mdwe;
    int rc = close_beside(needs, false, TF_COMMON_NONE, &has_mdwe);

    if (rc == 0) {
        end_beside(tf_calls_allow_opener(), TF_CALLS_STRICT, has_mdwe, out);
    }
    return rc;
}

int tf_sandbox_close_launcher(const struct tf_sandbox_options *options,
                              const struct tf_needs *needs, struct tf_sandbox_status *out)
{
    bool is_strict = options->mode == TF_SANDBOX_STRICT, has_mdwe;
    int rc = close_beside(needs, true, TF_COMMON_LIBRARIES, &has_mdwe);

    if (rc < 0) {
        return rc;
    }
    held.may_read_all = held.has[TF_LAYER_LANDLOCK] && tf_capabilities_hand_on();
    end_beside(is_strict ? tf_calls_allow_launcher() : tf_calls_refuse(true, !has_mdwe),
               is_strict ? TF_CALLS_STRICT : TF_CALLS_NORMAL, has_mdwe, out);
    return 0;
}

void tf_sandbox_end(void)
{
    tf_pages_unseal();
    tf_stale_forget();
}

void tf_sandbox_note(enum tf_sandbox_role role, const bool has[TF_SANDBOX_LAYERS],
                     bool may_read_all)
{
    held.roles[role].is_there = true;
    held.roles[role].may_read_all = may_read_all;
    memcpy(held.roles[role].has, has, sizeof held.roles[role].has);
}

void tf_sandbox_tell(enum tf_sandbox_role role, pid_t pid, const struct tf_sandbox_status *status,
                     const char *what)
{
    tf_sandbox_note(role, status->has, status->may_read_all);
    tf_log(status->layers == TF_SANDBOX_LAYERS ? TF_LOG_INFO : TF_LOG_WARN, tf_sandbox_roles[role],
           TF_DETAILS(TF_NUM("pid", pid), TF_NUM("landlock", status->landlock_abi),
                      TF_STR("seccomp", tf_sandbox_calls[status->calls]),
                      TF_BOOL("reads_all_logs", status->may_read_all)),
           "a process of its own %s, with %u of %u layers on", what, status->layers,
           (unsigned)TF_SANDBOX_LAYERS);
}

void tf_sandbox_text(const bool has[TF_SANDBOX_LAYERS], char text[TF_SANDBOX_TEXT_BYTES])
{
    size_t size = 0;

    (void)snprintf(text, TF_SANDBOX_TEXT_BYTES, "none");
    for (unsigned i = 0; i < TF_SANDBOX_LAYERS; i++) {
        if (has[i]) {
            size += (size_t)snprintf(text + size, TF_SANDBOX_TEXT_BYTES - size, "%s%s",
                                     size > 0 ? ", " : "", tf_sandbox_layers[i]);
        }
    }
}

void tf_sandbox_status(struct tf_sandbox_status *out)
{
    *out = held;
}
