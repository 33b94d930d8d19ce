/*
 * sample.h - ordinary lines of logs.
 */
#ifndef TAFFRAIL_REDACT_SAMPLE_H
#define TAFFRAIL_REDACT_SAMPLE_H

#include <stddef.h>

/*
 * Lines of a log to measure with, the last one with its newline; TF_REDACT_READAHEAD_BYTES behind
 * them can be read. tf_redact_sample_new makes ordinary lines, always the same ones, without a
 * secret; its text is freed with free, and is NULL without memory.
 */
struct tf_redact_sample {
    char *text;
    size_t size, lines;
};
struct tf_redact_sample tf_redact_sample_new(void);

#endif
