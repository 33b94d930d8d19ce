/*
 * multiline.h - the multiline filter inside: its options, its presets, and what judges a line.
 *
 * docs/multiline.md says what it does. The filter (filter.c) asks for a verdict on each line
 * (judge.c) and joins lines by it (joint.c).
 */
#ifndef TAFFRAIL_FILTERS_MULTILINE_H
#define TAFFRAIL_FILTERS_MULTILINE_H

#include "taffrail/filter.h"

struct tf_multiline_options {
    struct tf_texts presets;
    struct tf_text start, continues, end;
    uint64_t max_lines, max_size_bytes, max_delay_ms;
};

/* ---- presets.c ----------------------------------------------------------------------------------
 */

#define TF_PRESETS_MAX 8u

/* States of a preset are bits, its own but for these. */
#define TF_TRACE_START 0x8000u /* in `from`: no record is open */
#define TF_TRACE_LAST  0u      /* as `to`: the line is the last of its record */

/* A line that matches regex, in one of the states `from`, belongs to the trace and leads to `to`.
 */
struct tf_trace_rule {
    uint16_t from, to;
    /* Of a rule that may start a trace: in each line that it matches stands one of these, parted by
     * '|', each of TF_LITERAL_MIN bytes at least. */
    const char *literals;
    const char *regex;
};

/* The first rule that matches counts. */
struct tf_trace_preset {
    const char *name;
    const struct tf_trace_rule *rules; /* ends with a zeroed entry */
};

extern const struct tf_trace_preset tf_trace_presets[TF_PRESETS_MAX];

/* ---- judge.c ------------------------------------------------------------------------------------
 */

/* Where a stream stands: the state of each preset, 0 when it has no part in the open record. With
 * own patterns only the first counts. Zeroed: no record is open. */
struct tf_standing {
    uint16_t states[TF_PRESETS_MAX];
};

struct tf_verdict {
    enum {
        TF_LINE_ALONE,    /* it ends what is open, and is a record of its own */
        TF_LINE_STARTS,   /* it ends what is open, and starts a record */
        TF_LINE_CONTINUES /* it belongs to the record before it; where that is gone, it starts one
                           */
    } kind;
    bool is_last; /* nothing more belongs to its record */
};

struct tf_judge;         /* immutable, shared by all workers */
struct tf_judge_scratch; /* of one worker */

/*
 * Compiles the patterns of options, one way or the other. All that is wrong goes to err, that it
 * goes slowly too, by a warning. at: the filter's place. Returns new in *out; 0, -EINVAL or
 * -ENOMEM.
 */
int tf_judge_new(const struct tf_multiline_options *options, const struct tf_place *at,
                 struct tf_judge **out, struct tf_error *err);
void tf_judge_free(struct tf_judge *judge);

struct tf_judge_scratch *tf_judge_scratch_new(void); /* NULL: no memory */
void tf_judge_scratch_free(struct tf_judge_scratch *scratch);

/*
 * Judges the next line of a stream and moves its standing. The line lies in a batch's arena: some
 * bytes behind it may be read.
 * Patterns see its first TF_JUDGE_LOOK_BYTES, and what passes their limits counts as no match, so
 * that a line costs no more than some milliseconds whatever is in it.
 */
#define TF_JUDGE_LOOK_BYTES (16u << 10)
struct tf_verdict tf_judge_line(const struct tf_judge *judge, struct tf_judge_scratch *scratch,
                                struct tf_standing *standing, struct tf_slice line);

#endif
