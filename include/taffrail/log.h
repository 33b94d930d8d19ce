/*
 * log.h - the agent's own log, on stderr: one line an event, logfmt or JSON.
 *
 * time, level, event and msg come first, then details. `event` is a stable word. Repeats about one
 * subject (event and first detail) are told at once, then at most once a minute with repeated=N.
 * Never record text, never a secret: values of foreign origin are escaped and cut to 256 bytes.
 * Safe from any thread; blocks only as stderr does. Process-wide, because a process has one stderr.
 */
#ifndef TAFFRAIL_LOG_H
#define TAFFRAIL_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "taffrail/base.h"

enum tf_log_level { TF_LOG_DEBUG, TF_LOG_INFO, TF_LOG_WARN, TF_LOG_ERROR };
enum tf_log_format { TF_LOG_LOGFMT, TF_LOG_JSON };

/* One detail of a log line. Made by TF_STR, TF_UINT, TF_BOOL only. */
struct tf_detail {
    const char *key;
    const char *text; /* NULL: number or flag counts */
    int64_t number;
    bool is_bool;
};

#define TF_STR(name, value)  ((struct tf_detail){.key = (name), .text = (value)})
#define TF_NUM(name, value)  ((struct tf_detail){.key = (name), .number = (int64_t)(value)})
#define TF_BOOL(name, value) ((struct tf_detail){.key = (name), .number = (value), .is_bool = true})
#define TF_DETAILS(...)                                                                            \
    (const struct tf_detail[]){__VA_ARGS__},                                                       \
        sizeof((const struct tf_detail[]){__VA_ARGS__}) / sizeof(struct tf_detail)

void tf_log_configure(enum tf_log_level level, enum tf_log_format format);

/* details borrows count entries, or is NULL with count 0:
 *     tf_log(TF_LOG_WARN, "output-down", TF_DETAILS(TF_STR("output", name)), "connect: %s",
 * reason); */
void tf_log(enum tf_log_level level, const char *event, const struct tf_detail *details,
            size_t count, const char *format, ...) TF_PRINTF(5, 6);

/* Lines that were written since the process began, by level. */
void tf_log_counts(uint64_t counts[TF_LOG_ERROR + 1]);

/* What somebody asked for (the books, by a signal): level info, and never left out as a repeat. */
void tf_log_answer(const char *event, const struct tf_detail *details, size_t count,
                   const char *text);

#endif
