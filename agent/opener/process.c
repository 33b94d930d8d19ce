/*
 * process.c - the process that opens logs: how it starts, and how it ends.
 *
 * It is forked while there is one thread and no key in memory, and has nothing of main's but its
 * end of a socket pair and stderr. It ends when main's end is closed, however main dies; signals to
 * the whole group are main's to obey. When it is gone nothing can be opened any more: main has no
 * right to start another, and stops (run.c).
 */
#include "internal.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "taffrail/sandbox.h"

#define PROCESS_NAME    "taffrail-opener" /* 15 characters, as many as the kernel keeps */
#define DESCRIPTORS_MAX 256

struct tf_opener_process {
    struct tf_client client;
    struct tf_process process;
    const char **names;
    struct tf_opener *rules;
    size_t count;
};

/* ---- making -----------------------------------------------------------------------------------
 */

struct tf_opener_process *tf_opener_process_new(void)
{
    struct tf_opener_process *process = calloc(1, sizeof *process);

    if (process == NULL || tf_client_init(&process->client) < 0) {
        free(process);
        return NULL;
    }
    return process;
}

int tf_opener_process_add(struct tf_opener_process *process, const char *name,
                          struct tf_opener *rules)
{
    const char **names = realloc(process->names, (process->count + 1) * sizeof *names);
    struct tf_opener *all = realloc(process->rules, (process->count + 1) * sizeof *all);

    process->names = names != NULL ? names : process->names;
    process->rules = all != NULL ? all : process->rules;
    if (names == NULL || all == NULL) {
        tf_opener_fini(rules);
        return -ENOMEM;
    }
    names[process->count] = name;
    all[process->count++] = *rules;
    *rules = (struct tf_opener){.roots = NULL};
    return 0;
}

void tf_opener_process_attach(struct tf_opener_process *process, const char *name,
                              struct tf_opener *opener)
{
    size_t i = 0;

    while (strcmp(process->names[i], name) != 0) {
        i++;
        assert(i < process->count); /* every container input was added */
    }
    assert(opener->root_count == process->rules[i].root_count); /* from the same options */
    opener->process = process;
    opener->number = (uint16_t)i;
}

/* ---- start and end ----------------------------------------------------------------------------
 */

/* It makes no process, keeps no core, and has few descriptors at a time. */
static void set_limits(void)
{
    const struct rlimit none = {0, 0}, few = {DESCRIPTORS_MAX, DESCRIPTORS_MAX};

    (void)setrlimit(RLIMIT_CORE, &none);
    (void)setrlimit(RLIMIT_NPROC, &none);
    (void)setrlimit(RLIMIT_NOFILE, &few);
}

static int confine(const struct tf_opener_process *process, struct tf_sandbox_status *out)
{
    struct tf_needs *needs = tf_needs_new();
    int rc;

    for (size_t i = 0; i < process->count && needs != NULL; i++) {
        for (size_t j = 0; j < process->rules[i].root_count; j++) {
            tf_needs_path(needs, TF_NEED_READ, process->rules[i].roots[j]);
        }
    }
    rc = needs != NULL ? tf_sandbox_close_opener(needs, out) : -ENOMEM;
    tf_needs_free(needs);
    return rc;
}

/* The first message says what holds of its sandbox. */
static int run(void *ctx)
{
    const struct tf_opener_process *process = ctx;
    struct tf_sandbox_status status;

    set_limits();
    if (confine(process, &status) < 0 || tf_process_report(&status, sizeof status) < 0) {
        return 1;
    }
    return tf_opener_serve(STDIN_FILENO, process->rules, process->count) == 0 ? 0 : 1;
}

int tf_opener_process_start(struct tf_opener_process *process)
{
    const struct tf_process_work work = {.name = PROCESS_NAME, .run = run, .ctx = process};
    struct tf_sandbox_status status;
    int fd = tf_process_start(&process->process, &work, &status, sizeof status);

    if (fd < 0) {
        return fd;
    }
    tf_client_connect(&process->client, fd);
    tf_sandbox_tell(TF_ROLE_OPENER, process->process.pid, &status, "opens logs");
    return 0;
}

bool tf_opener_process_has_ended(struct tf_opener_process *process)
{
    return process != NULL && tf_process_has_ended(&process->process);
}

void tf_opener_process_shut(struct tf_opener_process *process)
{
    if (process != NULL) {
        tf_client_shut(&process->client);
    }
}

void tf_opener_process_free(struct tf_opener_process *process)
{
    if (process == NULL) {
        return;
    }
    tf_client_fini(&process->client);
    tf_process_wait(&process->process);
    for (size_t i = 0; i < process->count; i++) {
        tf_opener_fini(&process->rules[i]);
    }
    free(process->rules);
    free(process->names);
    free(process);
}

/* ---- asking -----------------------------------------------------------------------------------
 */

void tf_process_perform(struct tf_opener_process *process, uint16_t number,
                        const struct tf_asked *asked, struct tf_answer *answer)
{
    tf_client_perform(&process->client, number, process->rules[number].root_count, asked, answer);
}
