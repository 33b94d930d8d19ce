/*
 * sandbox.h - the agent gives up, for good, what it does not need.
 *
 * Two steps of main, both on the loop's thread before any other thread exists: `begin` right after
 * the configuration was read, `close` when every plugin is open and has said what it will need. A
 * layer that the kernel lacks takes nothing from the others. docs/sandbox.md.
 */
#ifndef TAFFRAIL_SANDBOX_H
#define TAFFRAIL_SANDBOX_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "taffrail/config.h"

/* ---- what is needed once it is closed ------------------------------------------------------- */

enum tf_need {
    TF_NEED_READ,     /* a file, or a folder and all below; one that is missing may come later */
    TF_NEED_READ_NOW, /* the same, but what is missing stays so: nothing above it is read */
    TF_NEED_LOOK,     /* none itself: another process reads it; tf_sandbox_look knows it */
    TF_NEED_FRESH,    /* a file that others replace, as Kubernetes does its tokens: its folder is
                         read */
    TF_NEED_WRITE,    /* files of this folder are made, read, written and removed */
    TF_NEED_SOCKET,   /* a socket is made under this path, and removed */
    TF_NEED_RUN,      /* this program is started */
    TF_NEED_CONNECT,  /* a TCP port */
    TF_NEED_LISTEN,   /* a TCP port; 0: one that the kernel chooses */
    TF_NEED_NAMES,    /* host names are looked up */
};

struct tf_needs;

struct tf_needs *tf_needs_new(void);        /* NULL: no memory */
void tf_needs_free(struct tf_needs *needs); /* accepts NULL */

/* Both copy. Lack of memory sticks: tf_sandbox_close then returns -ENOMEM. */
void tf_needs_path(struct tf_needs *needs, enum tf_need kind, const char *path);
void tf_needs_port(struct tf_needs *needs, enum tf_need kind, uint16_t port);
void tf_needs_names(struct tf_needs *needs);

/* ---- the layers ----------------------------------------------------------------------------- */

enum tf_sandbox_memory {
    TF_MEMORY_OPEN,    /* a page may be, or become, writable and executable */
    TF_MEMORY_SECCOMP, /* none is or may, by the filter */
    TF_MEMORY_KERNEL,  /* none is or may, by PR_SET_MDWE */
};

enum tf_sandbox_calls {
    TF_CALLS_OPEN,   /* no layer seccomp */
    TF_CALLS_NORMAL, /* calls without use here are refused */
    TF_CALLS_STRICT, /* all but those of a list are */
};

enum tf_sandbox_layer {
    TF_LAYER_NO_NEW_PRIVS,
    TF_LAYER_CAPABILITIES, /* none is left but one, which is raised only while a log is opened */
    TF_LAYER_LANDLOCK,
    TF_LAYER_SECCOMP,
    TF_SANDBOX_LAYERS
};
extern const char *const tf_sandbox_layers[TF_SANDBOX_LAYERS]; /* their names */
extern const char *const tf_sandbox_memories[TF_MEMORY_KERNEL + 1];
extern const char *const tf_sandbox_calls[TF_CALLS_STRICT + 1];

/* The processes besides main. */
enum tf_sandbox_role {
    TF_ROLE_PARENT, /* has no Landlock and no filter: another main may need other files (parent.h)
                     */
    TF_ROLE_OPENER,
    TF_ROLE_LAUNCHER,
    TF_ROLE_JOURNAL_READER, /* the one that said so last */
    TF_SANDBOX_ROLES
};
extern const char *const tf_sandbox_roles[TF_SANDBOX_ROLES]; /* their names */

struct tf_sandbox_role_status {
    bool is_there; /* it has told */
    bool has[TF_SANDBOX_LAYERS];
    bool may_read_all; /* has the one capability, permitted */
};

/* What holds, each tried from inside. All false: tf_sandbox_close was not called. */
struct tf_sandbox_status {
    bool is_closed;
    bool has[TF_SANDBOX_LAYERS];
    uint32_t layers;   /* how many of them */
    bool may_read_all; /* that one capability, CAP_DAC_READ_SEARCH, is permitted, here or in: */
    bool has_opener;   /* main has none */
    int landlock_abi;  /* 0: files and ports are as the user's rights say */
    enum tf_sandbox_memory memory;
    enum tf_sandbox_calls calls;
    struct tf_sandbox_role_status roles[TF_SANDBOX_ROLES];
};

/* For the parent of the agent (parent.h): it gives up all rights but those that main begins with,
 * and has none of these in effect. */
void tf_sandbox_parent(void);
void tf_sandbox_kill(pid_t pid, int signal); /* it may also have become another user */
/* For main, to read its configuration with: they come into effect. */
void tf_sandbox_main(void);

/* What of the options can be told without a start: options.user exists. 0, or -EINVAL, said in err.
 */
int tf_sandbox_check(const struct tf_sandbox_options *options, struct tf_error *err);

/* Becomes options.user, drops capabilities, forbids to gain any. 0, or -EINVAL, said in err. */
int tf_sandbox_begin(const struct tf_sandbox_options *options, struct tf_error *err);

/*
 * After tf_sandbox_begin: gives up that one capability too. Logs are opened by another process
 * (opener.h), the journal's files are read by the program that another starts (launcher.h); these
 * were forked before and have it. Where one is not there, nothing needs it.
 */
void tf_sandbox_hand_over(bool has_opener);

/*
 * In that process, instead of tf_sandbox_close: only the roots in needs (borrowed) are read, only
 * what it does is done, by the few system calls for that. *out becomes what holds. 0 or -ENOMEM.
 */
int tf_sandbox_close_opener(const struct tf_needs *needs, struct tf_sandbox_status *out);

/*
 * The same in the launcher: needs are a program and what that reads. What it starts has the one
 * capability where out->may_read_all says so: only with Landlock, which goes with it.
 */
int tf_sandbox_close_launcher(const struct tf_sandbox_options *options,
                              const struct tf_needs *needs, struct tf_sandbox_status *out);

/*
 * Confines files, ports, calls and memory to needs (borrowed), and logs what came of it. From here
 * on no rule is compiled and no key is read. Returns 0; -ENOMEM; -ENOSYS, said in err, when a layer
 * is missing that options.required asks for.
 */
int tf_sandbox_close(const struct tf_sandbox_options *options, const struct tf_needs *needs,
                     struct tf_error *err);

/*
 * From any thread, when path (as it was given to tf_needs_path), or something in it, was refused
 * with EACCES, or, with NULL, when a host name could not be looked up: where what stands there, or
 * under a path below that was given too, was made or replaced since the start, so that only another
 * start can open it, says so, once, and stops the agent (SIGTERM).
 */
void tf_sandbox_look(const char *path);
bool tf_sandbox_is_outdated(void); /* the agent stops or has stopped for that */

/* Before rules are freed; none matches any more. */
void tf_sandbox_end(void);

/* Keeps what a process of role has told of itself; the parent's is known already. */
void tf_sandbox_note(enum tf_sandbox_role role, const bool has[TF_SANDBOX_LAYERS],
                     bool may_read_all);

/* The same of a process beside main that has closed itself, as *status; and logs it, under the name
 * of its role. what: what it does. */
void tf_sandbox_tell(enum tf_sandbox_role role, pid_t pid, const struct tf_sandbox_status *status,
                     const char *what);

/* "no_new_privs, capabilities"; "none". */
#define TF_SANDBOX_TEXT_BYTES 64u
void tf_sandbox_text(const bool has[TF_SANDBOX_LAYERS], char text[TF_SANDBOX_TEXT_BYTES]);

/* On the loop's thread, as tf_sandbox_note. */
void tf_sandbox_status(struct tf_sandbox_status *out);

/*
 * Between the two the calling thread may pass the modes of files and folders for reading
 * (CAP_DAC_READ_SEARCH), where the agent has that right; else they do nothing. May be nested.
 */
void tf_sandbox_raise(void);
void tf_sandbox_lower(void);

#endif
