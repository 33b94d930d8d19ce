/*
 * probe.h - what comes of trying a receiver, a step at a time (taffrail check --connect).
 *
 * An output fills it, the command prints it. Texts are one line each, without control characters;
 * what another end said stands in them only as far as it is bounded and printable.
 */
#ifndef TAFFRAIL_PROBE_H
#define TAFFRAIL_PROBE_H

#include <stdint.h>

#include "taffrail/error.h"

#define TF_PROBE_STEPS_MAX 8u
#define TF_PROBE_TEXT_MAX  511u

enum tf_probe_state {
    TF_PROBE_NOT_REACHED,
    TF_PROBE_OK,
    TF_PROBE_FAILED,
    TF_PROBE_UNKNOWN, /* tried; nothing stands against it, and nothing proves it */
};

struct tf_probe_step {
    const char *name; /* static */
    enum tf_probe_state state;
    bool is_timed;
    uint64_t took_ms;
    char text[TF_PROBE_TEXT_MAX + 1];  /* what was found, or what was wrong */
    char about[TF_PROBE_TEXT_MAX + 1]; /* more of it, or "" */
};

/* One receiver. Behind the first step that failed none is reached. */
struct tf_probe {
    const char *receiver; /* as the configuration has it, with its port; borrowed for the call */
    struct tf_place at;
    struct tf_probe_step steps[TF_PROBE_STEPS_MAX];
    uint32_t step_count;
    char mend[TF_PROBE_TEXT_MAX + 1]; /* "" when none failed */
};

struct tf_probe_events {
    void *ctx;
    void (*on_probed)(void *ctx, const struct tf_probe *probe); /* borrowed for the call */
    void (*on_done)(void *ctx);                                 /* always last */
};

/* The first step in that state; NULL: none is. */
static inline const struct tf_probe_step *tf_probe_find(const struct tf_probe *probe,
                                                        enum tf_probe_state state)
{
    for (uint32_t i = 0; i < probe->step_count; i++) {
        if (probe->steps[i].state == state) {
            return &probe->steps[i];
        }
    }
    return NULL;
}

#endif
