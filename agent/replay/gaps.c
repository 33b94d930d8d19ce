/*
 * gaps.c - what a replay could not give, collected while it reads, told at its end.
 *
 * Texts of records are hostile: what is shown of them is cut and has no control character.
 */
#include "gaps.h"

#include <inttypes.h>
#include <stdlib.h>

#include "taffrail/event.h"

#define AUDIT_TAG "taffrail.audit"

/* ---- gap records --------------------------------------------------------------------------------
 */

struct copy {
    char *to;
    size_t size;
};

static bool copy_text(void *ctx, struct tf_slice text)
{
    struct copy *copy = ctx;
    size_t size = text.size < copy->size - 1 ? text.size : copy->size - 1;

    for (size_t i = 0; i < size; i++) {
        uint8_t byte = (uint8_t)text.data[i];

        copy->to[i] = byte < 0x20 || byte >= 0x7f ? '?' : (char)byte;
    }
    copy->to[size] = '\0';
    return true;
}

/* The value at path as printable ASCII; "" when there is none. */
static bool get(struct tf_slice event, const char *path, char *to, size_t size)
{
    struct copy copy = {.to = to, .size = size};

    to[0] = '\0';
    return tf_event_any(event, tf_slice_text(path), copy_text, &copy);
}

/* Whose lines are lost: a pod, else the source's name, else the input. */
static void get_subject(struct tf_slice event, char *to, size_t size)
{
    char name[64], pod[64];

    if (get(event, "kubernetes.namespace_name", name, sizeof name) &&
        get(event, "kubernetes.pod_name", pod, sizeof pod)) {
        (void)snprintf(to, size, "%s/%s, ", name, pod);
    } else if (get(event, "source", name, sizeof name) || get(event, "input", name, sizeof name)) {
        (void)snprintf(to, size, "%s, ", name);
    } else {
        to[0] = '\0';
    }
}

static void describe(struct tf_slice event, char *to, size_t size)
{
    char subject[132], reason[48], bytes[24], text[120];

    get_subject(event, subject, sizeof subject);
    if (get(event, "bytes_max", bytes, sizeof bytes) &&
        get(event, "reason", reason, sizeof reason)) {
        uint64_t count = strtoull(bytes, NULL, 10);
        bool is_large = count >= 10240;

        (void)snprintf(to, size, "%sup to %" PRIu64 " %s lost at %s", subject,
                       is_large ? (count + 1023) / 1024 : count, is_large ? "KiB" : "bytes",
                       reason);
        return;
    }
    (void)get(event, "log", text, sizeof text);
    (void)snprintf(to, size, "%s%s", subject, text);
}

void tf_gaps_add_event(struct tf_gaps *gaps, int64_t time_ns, struct tf_slice tag,
                       struct tf_slice event)
{
    char word[8];

    if (!tf_slice_equal(tag, tf_slice_text(AUDIT_TAG)) || !get(event, "event", word, sizeof word) ||
        strcmp(word, "gap") != 0) {
        return;
    }
    if (gaps->record_count < TF_GAPS_MAX) {
        struct tf_gap_record *record = &gaps->records[gaps->record_count];

        record->time_ns = time_ns;
        describe(event, record->text, sizeof record->text);
    }
    gaps->record_count++;
}

/* ---- losses -------------------------------------------------------------------------------------
 */

/* Whole segments; what is missing has one behind it that is there. */
static bool is_of_segments(enum tf_archived_kind kind)
{
    return kind == TF_ARCHIVED_EXPIRED || kind == TF_ARCHIVED_UNREADABLE;
}

void tf_gaps_add_loss(struct tf_gaps *gaps, const struct tf_archived *lost)
{
    struct tf_gap_loss *last = gaps->loss_count > 0 && gaps->loss_count <= TF_GAPS_MAX
                                   ? &gaps->losses[gaps->loss_count - 1]
                                   : NULL;

    if (last != NULL && last->kind == lost->kind && is_of_segments(lost->kind) &&
        lost->segment_no == last->last_segment + 1) {
        last->last_segment = lost->segment_no;
        last->to_seq = lost->to_seq;
        last->events += lost->lost_events;
        return;
    }
    if (gaps->loss_count < TF_GAPS_MAX) {
        gaps->losses[gaps->loss_count] = (struct tf_gap_loss){.kind = lost->kind,
                                                              .first_segment = lost->segment_no,
                                                              .last_segment = lost->segment_no,
                                                              .from_seq = lost->from_seq,
                                                              .to_seq = lost->to_seq,
                                                              .events = lost->lost_events};
    }
    gaps->loss_count++;
}

/* ---- telling ------------------------------------------------------------------------------------
 */

static void print_records(const struct tf_gaps *gaps, FILE *to)
{
    uint64_t shown = gaps->record_count < TF_GAPS_MAX ? gaps->record_count : TF_GAPS_MAX;
    bool is_one = gaps->record_count == 1;

    if (shown == 0) {
        return;
    }
    (void)fprintf(to, "; %" PRIu64 " %s inside:%s", gaps->record_count, is_one ? "gap" : "gaps",
                  is_one ? " " : "");
    for (uint64_t i = 0; i < shown; i++) {
        char time[TF_TIME_TEXT_BYTES];

        tf_time_format(gaps->records[i].time_ns, time);
        (void)fprintf(to, "%s%.19sZ, %s", is_one ? "" : "\n  ", time, gaps->records[i].text);
    }
    if (shown < gaps->record_count) {
        (void)fprintf(to, "\n  … %" PRIu64 " more", gaps->record_count - shown);
    }
}

static void print_segments(const struct tf_gap_loss *loss, FILE *to)
{
    if (loss->first_segment == loss->last_segment) {
        (void)fprintf(to, "segment %" PRIu64, loss->first_segment);
    } else {
        (void)fprintf(to, "segments %" PRIu64 "..%" PRIu64, loss->first_segment,
                      loss->last_segment);
    }
}

static void print_frames(const struct tf_gap_loss *loss, FILE *to)
{
    if (loss->from_seq == 0) {
        (void)fprintf(to,
                      "all up to frame %" PRIu64 "/%" PRIu64 ", and no notice says that it expired",
                      TF_SEQ_RUN(loss->to_seq), (uint64_t)TF_SEQ_N(loss->to_seq));
        return;
    }
    (void)fprintf(to, "frames %" PRIu64 "/%" PRIu64 " to %" PRIu64 "/%" PRIu64,
                  TF_SEQ_RUN(loss->from_seq), (uint64_t)TF_SEQ_N(loss->from_seq),
                  TF_SEQ_RUN(loss->to_seq), (uint64_t)TF_SEQ_N(loss->to_seq));
}

static void print_loss(const struct tf_gap_loss *loss, FILE *to)
{
    switch (loss->kind) {
    case TF_ARCHIVED_EXPIRED:
        print_segments(loss, to);
        (void)fputs(" expired while reading: ", to);
        print_frames(loss, to);
        break;
    case TF_ARCHIVED_UNREADABLE:
        print_segments(loss, to);
        (void)fputs(loss->first_segment == loss->last_segment
                        ? ": no key opens it; name its key with --key FILE: "
                        : ": no key opens them; name theirs with --key FILE: ",
                    to);
        print_frames(loss, to);
        break;
    case TF_ARCHIVED_MISSING:
        (void)fputs("missing before ", to);
        print_segments(loss, to);
        (void)fputs(": ", to);
        print_frames(loss, to);
        break;
    default:
        (void)fputs("damaged: ", to);
        print_segments(loss, to);
        (void)fputs(", ", to);
        print_frames(loss, to);
        break;
    }
    if (loss->events > 0) {
        char count[TF_COUNT_TEXT_BYTES];

        (void)fprintf(to, ", %s %s", tf_count_text(loss->events, count),
                      loss->events == 1 ? "record" : "records");
    }
    (void)fputc('\n', to);
}

void tf_gaps_print(const struct tf_gaps *gaps, FILE *to)
{
    uint64_t shown = gaps->loss_count < TF_GAPS_MAX ? gaps->loss_count : TF_GAPS_MAX;

    print_records(gaps, to);
    (void)fputc('\n', to);
    for (uint64_t i = 0; i < shown; i++) {
        print_loss(&gaps->losses[i], to);
    }
    if (shown < gaps->loss_count) {
        (void)fprintf(to, "… %" PRIu64 " more\n", gaps->loss_count - shown);
    }
}

void tf_undecided_print(uint64_t count, FILE *to)
{
    char text[TF_COUNT_TEXT_BYTES];

    if (count > 0) {
        (void)fprintf(to,
                      "%s of them were not decided: too long, or too many steps; they are shown\n",
                      tf_count_text(count, text));
    }
}
