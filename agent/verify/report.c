/*
 * report.c - findings, for people and for programs.
 *
 * The worst verdict leads. Of findings of one kind right behind each other in one segment the first
 * is kept and the others are counted; of all, the worst TF_VERIFY_FINDINGS_MAX. Then comes what was
 * read, what is proved by what was given, and what is not: an honest verdict names its limits.
 * Texts are ours; the only foreign bytes in them are numbers.
 */
#include "verify.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#define RUN(seq) ((unsigned long long)TF_SEQ_RUN(seq))
#define N(seq)   ((unsigned long long)TF_SEQ_N(seq))

static const char *const verdict_names[TF_VERDICTS] = {
    [TF_VERDICT_INTACT] = "intact",        [TF_VERDICT_NOTHING_YET] = "nothing here yet",
    [TF_VERDICT_TORN] = "torn tail",       [TF_VERDICT_GAP] = "gap",
    [TF_VERDICT_NOTHING] = "nothing here", [TF_VERDICT_DAMAGED] = "damaged",
    [TF_VERDICT_FORGED] = "forged",        [TF_VERDICT_CUT] = "cut",
    [TF_VERDICT_FORKED] = "forked",
};
/* Those that matter are loud. */
static const char *const loud_names[TF_VERDICTS] = {
    [TF_VERDICT_INTACT] = "intact",        [TF_VERDICT_NOTHING_YET] = "nothing here yet",
    [TF_VERDICT_TORN] = "torn tail",       [TF_VERDICT_GAP] = "gap",
    [TF_VERDICT_NOTHING] = "NOTHING HERE", [TF_VERDICT_DAMAGED] = "DAMAGED",
    [TF_VERDICT_FORGED] = "FORGED",        [TF_VERDICT_CUT] = "CUT",
    [TF_VERDICT_FORKED] = "FORKED",
};

/* Where the next finding goes; NULL: it is only counted. When there is no room, the last of the
 * least verdict gives way to a worse one: many small ones cannot hide it. */
static struct tf_verify_finding *room_for(struct tf_verify_report *report, enum tf_verdict verdict)
{
    struct tf_verify_finding *least = &report->findings[0];

    if (report->finding_count < TF_VERIFY_FINDINGS_MAX) {
        return &report->findings[report->finding_count++];
    }
    report->dropped++;
    for (size_t i = 1; i < report->finding_count; i++) {
        least = report->findings[i].verdict <= least->verdict ? &report->findings[i] : least;
    }
    return least->verdict < verdict ? least : NULL;
}

void tf_verify_tell(struct tf_verify *verify, enum tf_verdict verdict, const char *code,
                    const struct tf_verify_place *at, const char *format, ...)
{
    struct tf_verify_report *report = verify->report;
    struct tf_verify_finding *last =
        report->finding_count == 0 ? NULL : &report->findings[report->finding_count - 1];
    struct tf_verify_finding *finding;
    va_list arguments;

    report->verdict = verdict > report->verdict ? verdict : report->verdict;
    if (last != NULL && at != NULL && strcmp(last->code, code) == 0 &&
        last->at.segment_no == at->segment_no) {
        last->more++;
        return;
    }
    finding = room_for(report, verdict);
    if (finding == NULL) {
        return;
    }
    *finding = (struct tf_verify_finding){.verdict = verdict, .code = code};
    if (at != NULL) {
        finding->at = *at;
    }
    va_start(arguments, format);
    (void)vsnprintf(finding->text, sizeof finding->text, format, arguments);
    va_end(arguments);
}

int tf_verify_outcome(const struct tf_verify_report *report)
{
    return report->verdict >= TF_VERDICT_NOTHING || report->has_expired ? 1 : 0;
}

/* ---- for people ----------------------------------------------------------------------------- */

static void put_count(struct tf_buf *out, uint64_t count)
{
    char text[TF_COUNT_TEXT_BYTES];

    (void)tf_buf_append_text(out, tf_count_text(count, text));
}

static void put_counted(struct tf_buf *out, uint64_t count, const char *noun)
{
    char text[TF_COUNTED_TEXT_BYTES];

    (void)tf_buf_append_text(out, tf_counted_text(count, noun, text));
}

/* Whole seconds; of the day alone when the day is the same as that of other_ns. */
static void put_time(struct tf_buf *out, int64_t time_ns, int64_t other_ns)
{
    char text[TF_TIME_TEXT_BYTES], other[TF_TIME_TEXT_BYTES];
    unsigned skip;

    tf_time_format(time_ns, text);
    tf_time_format(other_ns, other);
    skip = memcmp(text, other, 10) == 0 && other_ns != 0 ? 11 : 0;
    (void)tf_buf_printf(out, "%.*sZ", 19 - (int)skip, text + skip);
}

static void put_place(struct tf_buf *out, const struct tf_verify_place *at)
{
    const char *between = "";

    if (at->is_end) {
        (void)tf_buf_printf(out, "ends at frame %llu/%llu; ", RUN(at->seq), N(at->seq));
        return;
    }
    if (at->segment_no != 0) {
        (void)tf_buf_printf(out, "%04llu.seg", (unsigned long long)at->segment_no);
        between = ", ";
    }
    if (at->seq != 0) {
        (void)tf_buf_printf(out, "%sframe %llu/%llu", between, RUN(at->seq), N(at->seq));
        between = " ";
    }
    if (at->byte != 0) {
        (void)tf_buf_printf(out, "%sat byte ", between);
        put_count(out, at->byte);
    }
    if (at->segment_no != 0 || at->seq != 0 || at->byte != 0) {
        (void)tf_buf_append_text(out, ": ");
    }
}

static void put_finding(struct tf_buf *out, const struct tf_verify_finding *finding)
{
    (void)tf_buf_printf(out, "%s: ", loud_names[finding->verdict]);
    put_place(out, &finding->at);
    (void)tf_buf_append_text(out, finding->text);
    if (finding->more > 0) {
        (void)tf_buf_append_text(out, "; and ");
        put_count(out, finding->more);
        (void)tf_buf_append_text(out, " more like it behind it");
    }
    (void)tf_buf_append_byte(out, '\n');
}

static void put_summary(const struct tf_verify_report *report, struct tf_buf *out)
{
    bool leads = report->finding_count == 0;

    (void)tf_buf_append_text(out, leads ? "intact: " : "  read        ");
    put_counted(out, report->segments, "segment");
    (void)tf_buf_append_text(out, ", ");
    put_counted(out, report->frames, "frame");
    if (report->time_max_ns != 0) {
        (void)tf_buf_append_text(out, ", ");
        put_time(out, report->time_min_ns, 0);
        (void)tf_buf_append_text(out, " to ");
        put_time(out, report->time_max_ns, 0);
    }
    (void)tf_buf_printf(out, ", agent %02x%02x%02x%02x", report->spool_id[0], report->spool_id[1],
                        report->spool_id[2], report->spool_id[3]);
    if (report->gaps > 0) {
        (void)tf_buf_append_text(out, ", ");
        put_counted(out, report->gaps, "gap");
    }
    (void)tf_buf_append_byte(out, '\n');
}

/* A list of sentences, parted by semicolons, behind one label. */
struct list {
    struct tf_buf *out;
    const char *label, *between;
    bool is_begun;
};

static struct tf_buf *next_of(struct list *list)
{
    (void)tf_buf_append_text(list->out, list->is_begun ? list->between : list->label);
    list->is_begun = true;
    return list->out;
}

static void put_proved(const struct tf_verify_report *report, struct list *list)
{
    if (report->proved_seq != 0) {
        struct tf_buf *out = next_of(list);

        (void)tf_buf_append_text(out, "nothing up to ");
        if (report->proved_time_ns != 0) {
            put_time(out, report->proved_time_ns, report->time_max_ns);
        } else {
            (void)tf_buf_printf(out, "frame %llu/%llu", RUN(report->proved_seq),
                                N(report->proved_seq));
        }
        (void)tf_buf_append_text(out, report->is_proof_holed ? ", but for what is damaged," : "");
        (void)tf_buf_append_text(out, " was changed, dropped, moved or added (seal)");
    }
    if (report->witness_seq != 0) {
        (void)tf_buf_printf(next_of(list),
                            "the collector saw the same to frame %llu/%llu (witness)",
                            RUN(report->witness_seq), N(report->witness_seq));
    }
    if (report->receipt_seq != 0) {
        struct tf_buf *out = next_of(list);

        (void)tf_buf_printf(out, "a collector had the same to frame %llu/%llu by ",
                            RUN(report->receipt_seq), N(report->receipt_seq));
        put_time(out, report->receipt_time_ns, report->time_max_ns);
        (void)tf_buf_printf(out, " (receipt%s)",
                            report->is_receipt_key_given ? "" : ", its key as the spool has it");
    }
    if (report->opened_segments > 0 && report->verdict < TF_VERDICT_FORGED) {
        (void)tf_buf_append_text(next_of(list), "the content of ");
        put_counted(list->out, report->opened_segments, "segment");
        (void)tf_buf_append_text(list->out, " was made by who has the key");
    }
    if (!list->is_begun && report->segments > 0 && report->verdict < TF_VERDICT_DAMAGED) {
        (void)tf_buf_append_text(next_of(list),
                                 "consistent, not authenticated: against accident only");
    }
}

/* The newest frame that a seal or a collector vouches for. */
static uint64_t vouched(const struct tf_verify_report *report)
{
    uint64_t seq = report->proved_seq;

    seq = report->witness_seq > seq ? report->witness_seq : seq;
    return report->receipt_seq > seq ? report->receipt_seq : seq;
}

static void put_not_proved(const struct tf_verify_report *report, struct list *list)
{
    uint64_t last = vouched(report);

    if (last != 0 && last < report->last_seq) {
        struct tf_buf *out = next_of(list);
        bool is_one = last + 1 == report->last_seq;

        (void)tf_buf_append_text(out, is_one ? "frame " : "frames ");
        if (!is_one && TF_SEQ_RUN(last) == TF_SEQ_RUN(report->last_seq)) {
            (void)tf_buf_printf(out, "%llu/%llu to ", RUN(last), N(last) + 1);
        } else if (!is_one) {
            (void)tf_buf_printf(out, "behind %llu/%llu, to ", RUN(last), N(last));
        }
        (void)tf_buf_printf(out, "%llu/%llu: written after the last %s", RUN(report->last_seq),
                            N(report->last_seq),
                            last == report->proved_seq    ? "seal"
                            : last == report->witness_seq ? "frame that the collector saw"
                                                          : "receipt");
    }
    if (report->is_sealed && report->first_sealed_seq > report->first_seq) {
        (void)tf_buf_printf(next_of(list), "frames before %llu/%llu: never sealed",
                            RUN(report->first_sealed_seq), N(report->first_sealed_seq));
    }
    if (report->between_from != 0) {
        (void)tf_buf_printf(
            next_of(list), "frames behind %llu/%llu, before %llu/%llu: between two series of seals",
            RUN(report->between_from), N(report->between_from), RUN(report->between_to),
            N(report->between_to));
    }
    if (report->is_sealed && !report->has_seal_key) {
        (void)tf_buf_append_text(next_of(list), "its seals: no --seal-key was given");
    } else if (report->verdict == TF_VERDICT_NOTHING_YET) {
        (void)tf_buf_append_text(next_of(list),
                                 "that nothing was written and taken away before a first seal");
    } else if (!report->is_sealed && !report->has_witness && report->receipt_seq == 0) {
        (void)tf_buf_append_text(next_of(list), "that its end was not taken away: no seal is here");
    }
    if (report->unopened_segments > 0) {
        (void)tf_buf_append_text(next_of(list), "the content of ");
        put_counted(list->out, report->unopened_segments, "segment");
        (void)tf_buf_append_text(list->out, ": no key that was given opens it");
    }
    if (report->receipts_unkeyed > 0) {
        put_counted(next_of(list), report->receipts_unkeyed, "receipt");
        (void)tf_buf_append_text(list->out, report->receipts_unkeyed == 1 ? ": no key for it"
                                                                          : ": no key for them");
    }
    if (report->receipts_unfollowed > 0) {
        put_counted(next_of(list), report->receipts_unfollowed, "receipt");
        (void)tf_buf_append_text(list->out, ": the frames that receipts name jump to and fro, more "
                                            "than is followed");
    }
    if (report->is_segment) {
        (void)tf_buf_append_text(next_of(list), "what comes before and behind this segment");
    }
    (void)tf_buf_append_text(next_of(list), "whether the host told the truth when it wrote");
}

static void put_findings(const struct tf_verify_report *report, struct tf_buf *out)
{
    for (int verdict = TF_VERDICTS - 1; verdict > TF_VERDICT_INTACT; verdict--) {
        for (size_t i = 0; i < report->finding_count; i++) {
            if ((int)report->findings[i].verdict == verdict) {
                put_finding(out, &report->findings[i]);
            }
        }
    }
    if (report->dropped > 0) {
        (void)tf_buf_append_text(out, "  and        ");
        put_counted(out, report->dropped, "finding");
        (void)tf_buf_append_text(out, " more\n");
    }
}

void tf_verify_print(const struct tf_verify_report *report, struct tf_buf *out)
{
    struct list proved = {.out = out, .label = "  proved      ", .between = "; "};
    struct list not_proved = {.out = out, .label = "  not proved  ", .between = "; "};

    put_findings(report, out);
    put_summary(report, out);
    put_proved(report, &proved);
    (void)tf_buf_append_text(out, proved.is_begun ? "\n" : "");
    put_not_proved(report, &not_proved);
    (void)tf_buf_append_byte(out, '\n');
}

/* ---- for programs --------------------------------------------------------------------------- */

static void put_number(struct tf_buf *out, const char *key, uint64_t value)
{
    (void)tf_buf_printf(out, ",\"%s\":%" PRIu64, key, value);
}

static void put_seq(struct tf_buf *out, const char *key, uint64_t seq)
{
    if (seq != 0) {
        (void)tf_buf_printf(out, ",\"%s\":\"%llu/%llu\"", key, RUN(seq), N(seq));
    }
}

static void put_json_time(struct tf_buf *out, const char *key, int64_t time_ns)
{
    char text[TF_TIME_TEXT_BYTES];

    if (time_ns != 0) {
        tf_time_format(time_ns, text);
        (void)tf_buf_printf(out, ",\"%s\":\"%s\"", key, text);
    }
}

/* Our own texts and a quoted path have no quotes or controls in them but these. */
static void put_json_text(struct tf_buf *out, const char *text)
{
    (void)tf_buf_append_byte(out, '"');
    for (; *text != '\0'; text++) {
        if (*text == '"' || *text == '\\') {
            (void)tf_buf_append_byte(out, '\\');
        }
        (void)tf_buf_append_byte(out, (uint8_t)*text);
    }
    (void)tf_buf_append_byte(out, '"');
}

static void put_json_finding(struct tf_buf *out, const struct tf_verify_finding *finding)
{
    (void)tf_buf_printf(out, "{\"verdict\":\"%s\",\"code\":\"%s\"", verdict_names[finding->verdict],
                        finding->code);
    if (finding->at.segment_no != 0) {
        put_number(out, "segment", finding->at.segment_no);
    }
    put_seq(out, "frame", finding->at.seq);
    if (finding->at.byte != 0) {
        put_number(out, "byte", finding->at.byte);
    }
    put_number(out, "more", finding->more);
    (void)tf_buf_append_text(out, ",\"text\":");
    put_json_text(out, finding->text);
    (void)tf_buf_append_byte(out, '}');
}

static void put_json_findings(const struct tf_verify_report *report, struct tf_buf *out)
{
    const char *between = "";

    (void)tf_buf_append_text(out, ",\"findings\":[");
    for (int verdict = TF_VERDICTS - 1; verdict > TF_VERDICT_INTACT; verdict--) {
        for (size_t i = 0; i < report->finding_count; i++) {
            if ((int)report->findings[i].verdict == verdict) {
                (void)tf_buf_append_text(out, between);
                put_json_finding(out, &report->findings[i]);
                between = ",";
            }
        }
    }
    (void)tf_buf_printf(out, "],\"findings_dropped\":%zu", report->dropped);
}

/* What stands behind the label for people, as a list of texts. */
static void put_json_list(const struct tf_verify_report *report, struct tf_buf *out,
                          const char *key,
                          void (*fill)(const struct tf_verify_report *, struct list *))
{
    struct tf_buf text;
    struct list list = {.out = &text, .label = "\"", .between = "\",\""};

    tf_buf_init(&text, 64u << 10);
    fill(report, &list);
    (void)tf_buf_printf(out, ",\"%s\":[%.*s%s]", key, (int)text.size,
                        text.data == NULL ? "" : text.data, list.is_begun ? "\"" : "");
    tf_buf_fini(&text);
}

static void put_json_proofs(const struct tf_verify_report *report, struct tf_buf *out)
{
    (void)tf_buf_printf(out, ",\"sealed\":%s", report->is_sealed ? "true" : "false");
    put_number(out, "seals", report->seals);
    put_seq(out, "sealed_to", report->sealed_seq);
    put_seq(out, "seal_proves_to", report->proved_seq);
    put_number(out, "segments_opened", report->opened_segments);
    put_number(out, "receipts", report->receipts);
    put_number(out, "receipts_checked", report->receipts_checked);
    put_number(out, "receipts_unkeyed", report->receipts_unkeyed);
    put_seq(out, "receipt_to", report->receipt_seq);
    put_json_time(out, "receipt_time", report->receipt_time_ns);
    if (report->has_witness) {
        put_number(out, "witness_records", report->witness_records);
        put_number(out, "witness_compared", report->witness_compared);
        put_number(out, "witness_digests", report->witness_digests);
        put_number(out, "witness_expired", report->witness_gone);
        put_seq(out, "witness_to", report->witness_seq);
    }
}

void tf_verify_print_json(const struct tf_verify_report *report, struct tf_buf *out)
{
    (void)tf_buf_printf(out, "{\"verdict\":\"%s\",\"exit\":%d,\"spool\":\"",
                        verdict_names[report->verdict], tf_verify_outcome(report));
    for (size_t i = 0; i < TF_SPOOL_ID_BYTES; i++) {
        (void)tf_buf_printf(out, "%02x", report->spool_id[i]);
    }
    (void)tf_buf_append_byte(out, '"');
    put_number(out, "segments", report->segments);
    put_number(out, "segments_void", report->void_segments);
    put_number(out, "frames", report->frames);
    put_number(out, "events", report->events);
    put_number(out, "gaps", report->gaps);
    put_number(out, "bytes", report->bytes);
    put_seq(out, "first", report->first_seq);
    put_seq(out, "last", report->last_seq);
    put_json_time(out, "time_min", report->time_min_ns);
    put_json_time(out, "time_max", report->time_max_ns);
    put_json_proofs(report, out);
    put_json_findings(report, out);
    put_json_list(report, out, "proved", put_proved);
    put_json_list(report, out, "not_proved", put_not_proved);
    (void)tf_buf_append_text(out, "}\n");
}
