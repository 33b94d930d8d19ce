/*
 * ages.c - when what is in the spool was read, for how long its delivery takes.
 *
 * A frame on disk has the times of its records, not that of its reading; so the latter is kept
 * here, by number, from durable to acked: TF_AGES_MAX entries, in order. When they are full, those
 * below the lowest cursor go. If it is a backlog that fills them, every second one goes, and from
 * then on only every second frame gets one, then every fourth, until it is delivered: a frame
 * without one has the time of the entry before it, so its delivery is told a little too long, never
 * too short. What an earlier life of the agent has read has no entry.
 */
#include "internal.h"

#define WORTH_DROPPING 64u

/* Entries whose next one is needed by nobody either. */
static void drop_delivered(struct tf_ages *ages, uint64_t lowest_seq)
{
    uint32_t gone = 0;

    while (gone + 1 < ages->count && ages->items[gone + 1].seq <= lowest_seq) {
        gone++;
    }
    ages->count -= gone;
    memmove(ages->items, ages->items + gone, ages->count * sizeof ages->items[0]);
}

static bool has_much_delivered(const struct tf_ages *ages, uint64_t lowest_seq)
{
    return ages->count >= WORTH_DROPPING && ages->items[ages->count / 2].seq <= lowest_seq;
}

static void thin_out(struct tf_ages *ages)
{
    for (uint32_t i = 0; 2 * i < ages->count; i++) {
        ages->items[i] = ages->items[2 * i];
    }
    ages->count = (ages->count + 1) / 2;
    ages->stride = 2 * ages->stride;
}

void tf_ages_note(struct tf_ages *ages, uint64_t seq, uint64_t read_ms, uint64_t lowest_seq)
{
    ages->stride = ages->stride == 0 ? 1 : ages->stride;
    if (++ages->passed < ages->stride) {
        return;
    }
    ages->passed = 0;
    if (ages->count == TF_AGES_MAX || has_much_delivered(ages, lowest_seq)) {
        drop_delivered(ages, lowest_seq);
    }
    if (ages->count == TF_AGES_MAX) {
        thin_out(ages);
    } else if (ages->count < TF_AGES_MAX / 4 && ages->stride > 1) {
        ages->stride /= 2;
    }
    ages->items[ages->count++] = (struct tf_age){.seq = seq, .read_ms = read_ms};
}

uint64_t tf_ages_find(const struct tf_ages *ages, uint64_t seq)
{
    uint32_t low = 0, high = ages->count;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;

        if (ages->items[middle].seq <= seq) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low == 0 ? 0 : ages->items[low - 1].read_ms;
}
