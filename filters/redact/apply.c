/*
 * apply.c - a batch through the filter: every key and text of it is scanned, at any depth.
 *
 * A batch's arena is looked through at once; then each record's fields are walked. Of a field:
 *
 *   1. its name: one that gives a value away (`db_password`) has its value replaced whole: a text,
 *      a number that could be a secret, the texts of an array, what is under `value` of a map, and
 *      of a pair {name: db_password, value: …} the value;
 *   2. its text behind its key, as JSON has the two, when a keyword stands in the key: what a rule
 *      knows by the name before it is found in fields as in texts;
 *   3. its key's own text, and its text or bytes value: what the rules find is replaced, and in a
 *      text that holds JSON what its names give away (names.c); the same in what it reads when its
 *      escapes are undone, up to three times (undo.c);
 *   4. in the record's main text (log, message, MESSAGE, msg) the lines of an open private key.
 *
 * true, false and null are no secrets. What is a mark as a whole, of this agent or another, stays.
 * A changed value is appended to the arena and its field pointed there; what was appended is not
 * scanned again. Nor is, of keys and of values that are no main text, what was found to hold
 * nothing before in the batch (seen.h). When the arena has no room, the field is pointed at the
 * batch's own word [WITHHELD], for which no memory is needed: so apply cannot fail. Nothing is ever
 * written over: other fields may share the text (batch.h), and each is scanned as it was read.
 * The strings that every batch begins with are known, and skipped. A record of which a rule of mode
 * drop found a part is marked as dropped, and is walked to its end all the same, so that an open
 * private key is followed.
 */
#include "redact.h"

#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include "pem.h"
#include "seen.h"
#include "undo.h"

#define NUMBER_MAX_BYTES 40u
#define MARK_MAX_BYTES   128u

static_assert(sizeof((struct tf_batch_words *)0)->withheld == sizeof TF_REDACT_WITHHELD_TEXT,
              "the batch has the word, followed by a newline");

struct scratch {
    struct tf_redact_scan *scan, *inner; /* inner: of what escapes hid */
    struct tf_redact_undone undone;
    struct tf_redact_seen seen;
    struct tf_redact_hash *hash;
    struct tf_buf value; /* the one being rewritten */
    struct tf_buf pair;  /* a key and its value, as JSON has them */
    struct tf_buf ids;   /* of the rules that hit in the record, each followed by '\n' */
    bool *unions;        /* by span: more than one match of one rule; only where modes ask for it */
    struct tf_redact_span *found; /* the spans before they were united; the same */
    tf_filter_hit_fn *on_hit;
    void *ctx;
};

/* One call of apply. */
struct work {
    const struct tf_redact_filter *redact;
    struct scratch *scratch;
    struct tf_redact_scan *scan;
    struct tf_batch *batch;
    struct tf_redact_pem *pem;
    bool may_drop;        /* not what belongs to no record, or must not be lost: constants, gaps */
    uint32_t prelude_end; /* where the arena's known strings end */
    uint32_t number;      /* of the record */
    struct tf_record *record;
    uint32_t id_count;          /* in scratch->ids */
    uint32_t ids_at, ids_bytes; /* those of an earlier record, in the arena */
};

/* What names say of the fields to come, by depth; 0 is the record itself. */
struct level {
    uint32_t left; /* fields still to come */
    bool is_array;
    enum tf_redact_name items; /* of an array, or of `value` in a map: what its name gave away */
    enum tf_redact_name pair;  /* what the `name` beside it says of `value` */
};

struct nesting {
    struct level levels[TF_BATCH_DEPTH_MAX + 1];
    unsigned depth;
};

/* ---- scratch ------------------------------------------------------------------------------------
 */

static void wipe(struct tf_buf *buf)
{
    if (buf->data != NULL) {
        explicit_bzero(buf->data, buf->capacity);
    }
    tf_buf_fini(buf);
}

void tf_redact_scratch_free(void *self)
{
    struct scratch *scratch = self;

    if (scratch != NULL) {
        tf_redact_scan_free(scratch->scan);
        tf_redact_scan_free(scratch->inner);
        tf_redact_undone_wipe(&scratch->undone, true);
        tf_redact_hash_free(scratch->hash);
        wipe(&scratch->value);
        wipe(&scratch->pair);
        tf_buf_fini(&scratch->ids);
        free(scratch->unions);
        free(scratch->found);
        free(scratch);
    }
}

void *tf_redact_scratch_new(void *self)
{
    const struct tf_redact_filter *redact = self;
    struct scratch *scratch = calloc(1, sizeof *scratch);
    bool ok;

    if (scratch == NULL) {
        return NULL;
    }
    tf_buf_init(&scratch->value, TF_BATCH_TEXT_MAX);
    tf_buf_init(&scratch->pair, TF_BATCH_TEXT_MAX);
    tf_buf_init(&scratch->ids, (TF_RECORD_IDS_MAX + 1) * 64);
    scratch->scan = tf_redact_scan_new(redact->engine);
    scratch->inner = tf_redact_scan_new_inner(redact->engine);
    scratch->hash = tf_redact_hash_new(&redact->modes);
    ok = scratch->scan != NULL && scratch->inner != NULL && scratch->hash != NULL;
    if (redact->modes.has_partial) {
        scratch->unions = calloc(TF_REDACT_SPANS_MAX, sizeof *scratch->unions);
        scratch->found = calloc(TF_REDACT_SPANS_MAX, sizeof *scratch->found);
        ok = ok && scratch->unions != NULL && scratch->found != NULL;
    }
    if (!ok) {
        tf_redact_scratch_free(scratch);
        return NULL;
    }
    scratch->scan->private_key_rule = redact->private_key;
    scratch->inner->private_key_rule = redact->private_key;
    return scratch;
}

void tf_redact_observe(void *self, tf_filter_hit_fn *on_hit, void *ctx)
{
    struct scratch *scratch = self;

    scratch->on_hit = on_hit;
    scratch->ctx = ctx;
}

/* ---- putting spans on a text --------------------------------------------------------------------
 */

static void mark_withheld(struct work *work, struct tf_field *field, const char *reason)
{
    field->withheld = true;
    work->record->flags |= TF_RECORD_WITHHELD;
    work->record->withheld_reason = reason;
}

/* Counts what is withheld, for the rule whose limits it was; TF_REDACT_WITHHELD: for none. */
static void tally_withheld(struct work *work, uint16_t rule)
{
    tf_batch_tally(work->batch, work->redact->index,
                   TF_RULE_WITHHELD | (rule != TF_REDACT_WITHHELD ? rule : TF_RULE_NONE), 1);
}

/* No memory: hides a text behind a word that is there already. */
static void point_at_withheld(struct work *work, struct tf_field *field, uint32_t *at,
                              uint32_t *size)
{
    *at = work->batch->words + (uint32_t)offsetof(struct tf_batch_words, withheld);
    *size = sizeof TF_REDACT_WITHHELD_TEXT - 1;
    tally_withheld(work, TF_REDACT_WITHHELD);
    mark_withheld(work, field, "memory");
}

/* Builds a part of a value, text[from..to), from what stands between its spans, and what replaces
 * them. */
static void build_part(struct work *work, struct tf_slice text, size_t from, size_t to)
{
    struct scratch *scratch = work->scratch;
    size_t done = from;

    for (uint32_t i = 0; i < work->scan->span_count; i++) {
        const struct tf_redact_span *span = &work->scan->spans[i];
        size_t start = span->start > from ? span->start : from;
        size_t end = span->end < to ? span->end : to;
        bool is_whole = scratch->unions != NULL && !scratch->unions[i];

        if (start >= end) {
            continue;
        }
        (void)tf_buf_append(&scratch->value, text.data + done, start - done);
        tf_redact_modes_put(&work->redact->modes, scratch->hash, span->rule,
                            tf_slice(text.data + span->start, span->end - span->start),
                            is_whole && end - start == span->end - span->start, &scratch->value);
        done = end;
    }
    (void)tf_buf_append(&scratch->value, text.data + done, to - done);
}

/* Builds the new text of a value; of one with a cut, its head, the mark and its tail. */
static int build_value(struct work *work, struct tf_slice text, const struct tf_cut *cut)
{
    struct tf_buf *value = &work->scratch->value;

    tf_buf_clear(value);
    if (cut->to == 0) {
        build_part(work, text, 0, text.size);
    } else {
        build_part(work, text, 0, cut->from);
        (void)tf_buf_append(value, text.data + cut->mark_at, cut->mark_end - cut->mark_at);
        build_part(work, text, cut->to, text.size);
    }
    return value->error;
}

/* Notes a rule's id for the record, once. */
static void note_id(struct work *work, uint16_t rule)
{
    const char *id = work->redact->rules[rule].id;
    struct tf_buf *ids = &work->scratch->ids;
    size_t size = strlen(id);

    for (size_t at = 0; at < ids->size;) {
        const char *end = memchr(ids->data + at, '\n', ids->size - at);
        size_t length = (size_t)(end - (ids->data + at));

        if (length == size && memcmp(ids->data + at, id, size) == 0) {
            return;
        }
        at += length + 1;
    }
    if (work->id_count < TF_RECORD_IDS_MAX && tf_buf_append_text(ids, id) == 0 &&
        tf_buf_append_byte(ids, '\n') == 0) {
        work->id_count++;
    }
}

static void tell(struct work *work, const struct tf_redact_span *span)
{
    const struct tf_redact_filter *redact = work->redact;
    bool withheld = span->rule == TF_REDACT_WITHHELD;
    const struct tf_redact_rule *rule = withheld ? NULL : &redact->rules[span->rule];

    if (withheld) {
        tally_withheld(work, work->scan->withheld_rule);
    } else {
        tf_batch_tally(work->batch, redact->index, span->rule, 1);
        if (redact->mark) {
            note_id(work, span->rule);
        }
    }
    if (work->scratch->on_hit != NULL) {
        const struct tf_filter_hit hit = {
            .record = work->number,
            .from = span->start,
            .to = span->end,
            .rule = withheld ? NULL : rule->id,
            .pack = withheld ? NULL : rule->pack,
            .mode = withheld ? NULL : tf_redact_mode_name(&redact->modes, span->rule),
            .keyword = withheld ? NULL : span->keyword,
            .reason = withheld ? work->scan->reason : NULL,
        };

        work->scratch->on_hit(work->scratch->ctx, &hit);
    }
}

/* The field with the record's cut, or NULL. */
static const struct tf_field *cut_field(const struct work *work)
{
    const struct tf_cut *cut = &work->record->cut;

    return cut->to > 0 ? &work->batch->fields[cut->field] : NULL;
}

/* Puts the scan's merged spans on a text of the field, its key or its value, that reads `text`. */
static void replace(struct work *work, struct tf_field *field, struct tf_slice text, uint32_t *at,
                    uint32_t *size)
{
    const struct tf_cut whole = {.to = 0};
    bool has_cut = field == cut_field(work) && at == &field->value.text.at;
    int rc = build_value(work, text, has_cut ? &work->record->cut : &whole);

    for (uint32_t i = 0; i < work->scan->span_count; i++) {
        tell(work, &work->scan->spans[i]);
    }
    if (has_cut) {
        work->record->cut = whole;
    }
    if (work->scan->span_count > 0) {
        work->record->flags |= TF_RECORD_REDACTED;
    }
    if (rc == 0) {
        uint32_t new_at;

        rc = tf_batch_add_text(work->batch, work->scratch->value.data, work->scratch->value.size,
                               &new_at);
        if (rc == 0) {
            *at = new_at;
            *size = (uint32_t)work->scratch->value.size;
        }
    }
    if (rc < 0) {
        point_at_withheld(work, field, at, size);
    } else if (work->scan->reason != NULL) {
        mark_withheld(work, field, work->scan->reason);
    }
}

/* ---- finding spans ------------------------------------------------------------------------------
 */

/* Whether a text only opens a list or a map, {"password":["…, as a rule for names may take it. */
static bool is_opening(struct tf_slice text)
{
    return text.size == 1 && (text.data[0] == '[' || text.data[0] == '{');
}

/* Whether a place of a mark is in its id: no rule finds anything in a true one, so what it found
 * there is a secret that poses as an id. */
static bool is_in_id(struct tf_slice mark, size_t at)
{
    const char *colon = memchr(mark.data, ':', mark.size);
    size_t from = colon != NULL ? (size_t)(colon - mark.data) + 1 : mark.size, to = from;

    while (to < mark.size && mark.data[to] != ':' && mark.data[to] != ']') {
        to++;
    }
    return at >= from && at < to;
}

/* Whether a span is a mark, or lies in one, as in [HASH:access-key:…], where a name seems to give
 * its value away. */
static bool is_in_mark(const struct tf_redact_span *span, struct tf_slice text)
{
    size_t from = span->start > MARK_MAX_BYTES ? span->start - MARK_MAX_BYTES : 0;
    const char *open = memrchr(text.data + from, '[', span->start + 1 - from), *end;
    size_t rest;

    if (open == NULL) {
        return false;
    }
    rest = (size_t)(text.data + text.size - open);
    end = memchr(open, ']', rest < MARK_MAX_BYTES ? rest : MARK_MAX_BYTES);
    return end != NULL && end + 1 >= text.data + span->end &&
           !is_in_id(tf_slice(open, rest), (size_t)(text.data + span->start - open)) &&
           tf_redact_is_mark(tf_slice(open, (size_t)(end + 1 - open)));
}

/* Takes out the spans that hide nothing: those that are marks already, so that what another agent
 * hid stays as that one left it, and brackets. */
static void pass_marks(struct tf_redact_scan *scan, struct tf_slice text)
{
    uint32_t kept = 0;

    for (uint32_t i = 0; i < scan->span_count; i++) {
        const struct tf_redact_span *span = &scan->spans[i];

        if (!is_in_mark(span, text) &&
            !is_opening(tf_slice(text.data + span->start, span->end - span->start))) {
            scan->spans[kept++] = *span;
        }
    }
    scan->span_count = kept;
}

/* The merged span that holds a place; spans are in order and do not overlap. */
static uint32_t span_around(const struct tf_redact_scan *scan, uint32_t place)
{
    uint32_t low = 0, high = scan->span_count;

    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;

        if (scan->spans[middle].start <= place) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return low;
}

static bool ends_run(char byte)
{
    return strchr(" \t\r\n\"'`,;<>&", byte) != NULL; /* a NUL too */
}

/* A secret that reaches over a cut is known on one side only. What was found up to the cut goes on
 * behind it: to the end of the word there. */
static void reach_over_cut(struct work *work, struct tf_slice text)
{
    const struct tf_cut *cut = &work->record->cut;
    struct tf_redact_scan *scan = work->scan;
    size_t end = cut->to;

    for (uint32_t i = 0; i < scan->span_count; i++) {
        const struct tf_redact_span *span = &scan->spans[i];

        if (span->start < cut->mark_at && span->end >= cut->mark_at && span->end < text.size) {
            while (end < text.size && !ends_run(text.data[end])) {
                end++;
            }
            tf_redact_scan_add(scan, cut->mark_end, end, span->rule, span->keyword);
            return;
        }
    }
}

/* Unites the spans; where parts of secrets may stay, finds which spans are one match as it was. */
static void merge(struct work *work, size_t size)
{
    struct tf_redact_scan *scan = work->scan;
    struct scratch *scratch = work->scratch;
    uint32_t count = scan->span_count;

    if (scratch->found == NULL) {
        tf_redact_scan_merge(scan, size);
        return;
    }
    memcpy(scratch->found, scan->spans, count * sizeof *scan->spans);
    tf_redact_scan_merge(scan, size);
    memset(scratch->unions, 0, scan->span_count * sizeof *scratch->unions);
    for (uint32_t i = 0; i < count && scan->span_count > 0; i++) {
        uint32_t at = span_around(scan, scratch->found[i].start);
        const struct tf_redact_span *span = &scan->spans[at], *found = &scratch->found[i];

        if (span->start != found->start || span->end != found->end || span->rule != found->rule ||
            found->is_encoded) {
            scratch->unions[at] = true;
        }
    }
}

/* Whether one of the spans, not yet united, is of a rule that drops; the first one is told. */
static void drop_by_mode(struct work *work)
{
    const struct tf_redact_modes *modes = &work->redact->modes;
    bool was_dropped = (work->record->flags & TF_RECORD_DROPPED) != 0;

    if (!modes->has_drop || !work->may_drop || was_dropped) {
        return;
    }
    for (uint32_t i = 0; i < work->scan->span_count; i++) {
        uint16_t rule = work->scan->spans[i].rule;

        if (rule != TF_REDACT_WITHHELD && modes->mode[rule] == TF_REDACT_DROP) {
            work->record->flags |= TF_RECORD_DROPPED;
            tf_batch_tally(work->batch, work->redact->index, TF_RULE_DROPPED | rule, 1);
            return;
        }
    }
}

/* Books what was found in the undone text, for the written one. */
static void take_undone(struct work *work, size_t size)
{
    const struct tf_redact_undone *undone = &work->scratch->undone;
    struct tf_redact_scan *inner = work->scratch->inner;
    struct tf_redact_written place = {0};

    if (inner->reason != NULL && work->scan->reason == NULL) {
        work->scan->reason = inner->reason;
        work->scan->withheld_rule = inner->withheld_rule;
    }
    tf_redact_scan_merge(inner, undone->size); /* what is withheld is a span then */
    for (uint32_t i = 0; i < inner->span_count; i++) {
        const struct tf_redact_span *span = &inner->spans[i];
        size_t start = tf_redact_written_at(undone, &place, span->start);
        size_t end = tf_redact_written_at(undone, &place, span->end);

        if (span->rule == TF_REDACT_WITHHELD && span->end == undone->size) {
            end = size; /* with what was left out behind it */
        }
        tf_redact_scan_add(work->scan, start, end, span->rule, span->keyword);
    }
}

/* Follows a private key through the undone text, where that may hold some of it; left is as it was
 * before the text. What it is behind it, is the more cautious of both ways to read it. */
static void follow_undone(struct work *work, uint8_t left)
{
    const struct tf_redact_undone *undone = &work->scratch->undone;
    struct tf_redact_scan *inner = work->scratch->inner;
    uint8_t *written = &work->pem->left[work->record->stream];

    if (left > 0 || inner->private_key_seen || inner->reason != NULL) {
        tf_redact_pem_follow(&left, tf_slice(undone->text, undone->size), inner,
                             work->redact->private_key);
        *written = left > *written ? left : *written;
    }
}

/* Scans what a text reads when its escapes are undone, and what that reads then. left: of an open
 * private key, before the text; is_main: it may hold lines of one. */
static void scan_undone(struct work *work, struct tf_slice text, bool is_main, uint8_t left)
{
    struct tf_redact_undone *undone = &work->scratch->undone;
    struct tf_redact_scan *inner = work->scratch->inner;
    int rc = tf_redact_undo(undone, text);

    while (rc > 0) {
        if (!tf_redact_scan_inner(inner, work->scan, undone->text, undone->size)) {
            tf_redact_scan_withhold(work->scan, 0, TF_REDACT_WITHHELD, "budget");
            return;
        }
        if (!undone->has_unquoted) { /* else names.c saw more in the written text */
            tf_redact_names_scan(tf_slice(undone->text, undone->size), work->redact->name_rules,
                                 inner);
        }
        if (is_main) {
            follow_undone(work, left);
        }
        if (inner->span_count > 0 || inner->reason != NULL) {
            take_undone(work, text.size);
        }
        rc = tf_redact_undo_again(undone);
    }
    if (rc < 0) {
        tf_redact_scan_withhold(work->scan, 0, TF_REDACT_WITHHELD, "memory");
    }
}

/* Books what was found in a pair, for its value, which begins at `from` there. */
static void take_pair(struct work *work, size_t from, struct tf_slice text)
{
    struct tf_redact_scan *inner = work->scratch->inner;

    if (inner->reason != NULL && work->scan->reason == NULL) {
        work->scan->reason = inner->reason;
        work->scan->withheld_rule = inner->withheld_rule;
    }
    tf_redact_scan_merge(inner, work->scratch->pair.size);
    for (uint32_t i = 0; i < inner->span_count; i++) {
        const struct tf_redact_span *span = &inner->spans[i];
        size_t start = span->start > from ? span->start - from : 0;
        size_t end = span->end > from ? span->end - from : 0;

        end = end < text.size ? end : text.size;
        if (start >= end) {
            continue; /* in the key, whose text is scanned for itself */
        }
        if (end < text.size && text.data[end] == '"') {
            end = text.size; /* no quote ends a value here */
        }
        tf_redact_scan_add(work->scan, start, end, span->rule, span->keyword);
    }
}

/* Whether a keyword stands in a field's key: then its text is scanned behind it, too. */
static bool is_pair(struct work *work, const struct tf_field *field)
{
    return field->key_at >= work->prelude_end &&
           tf_redact_scan_has_keyword(work->scan, field->key_at, field->key_size);
}

/* Scans a field's text behind its key. */
static void scan_pair(struct work *work, const struct tf_field *field, struct tf_slice text)
{
    struct tf_redact_scan *inner = work->scratch->inner;
    struct tf_buf *pair = &work->scratch->pair;
    size_t from;

    tf_buf_clear(pair);
    (void)tf_buf_append_byte(pair, '"');
    (void)tf_buf_append(pair, work->batch->text.data + field->key_at, field->key_size);
    (void)tf_buf_append_text(pair, "\": \"");
    from = pair->size;
    (void)tf_buf_append(pair, text.data, text.size);
    if (tf_buf_append_byte(pair, '"') < 0) {
        tf_redact_scan_withhold(work->scan, 0, TF_REDACT_WITHHELD, "memory");
    } else if (!tf_redact_scan_inner(inner, work->scan, pair->data, pair->size)) {
        tf_redact_scan_withhold(work->scan, 0, TF_REDACT_WITHHELD, "budget");
    } else {
        tf_redact_names_scan(tf_buf_slice(pair), work->redact->name_rules, inner);
        take_pair(work, from, text);
    }
    if (pair->data != NULL) {
        explicit_bzero(pair->data, pair->size);
    }
}

/* Scans a field's key or value, and replaces it when something is found. True: nothing was. */
static bool scan_text(struct work *work, struct tf_field *field, uint32_t *at, uint32_t *size,
                      bool is_main)
{
    struct tf_redact_scan *scan = work->scan;
    uint8_t *left = &work->pem->left[work->record->stream], before;
    struct tf_slice text;

    if (*size == 0 || *at < work->prelude_end) {
        return true;
    }
    text = tf_batch_slice(work->batch, *at, *size);
    tf_redact_scan_value(scan, work->batch->text.data, *at, *size);
    tf_redact_names_scan(text, work->redact->name_rules, scan);
    if (at == &field->value.text.at && is_pair(work, field)) {
        scan_pair(work, field, text);
    }
    is_main = is_main && work->redact->private_key != TF_REDACT_NO_RULE;
    before = *left;
    if (is_main && (*left > 0 || scan->private_key_seen || scan->reason != NULL)) {
        tf_redact_pem_follow(left, text, scan, work->redact->private_key);
    }
    if (tf_redact_may_undo(text)) {
        scan_undone(work, text, is_main, before);
    }
    if (scan->span_count > 0) {
        pass_marks(scan, text);
    }
    if (at == &field->value.text.at && field == cut_field(work)) {
        reach_over_cut(work, text);
    } else if (scan->span_count == 0 && scan->reason == NULL) {
        return true;
    }
    drop_by_mode(work);
    merge(work, *size);
    replace(work, field, text, at, size);
    return false;
}

/* Scans a field's text, unless the same one was clean before, and nothing but its bytes says
 * whether it is: no key, no open private key, and no cut. A word of the prelude says nothing of the
 * same text elsewhere: it is not scanned. True: nothing was found; *is_new: in a text that was not
 * there before. */
static bool scan_value(struct work *work, struct tf_field *field, bool is_main, bool *is_new)
{
    struct tf_redact_seen_text text = {.at = field->value.text.at, .size = field->value.text.size};
    const char *arena = work->batch->text.data;
    struct tf_redact_seen_text *seen;

    *is_new = false;
    if (is_main || text.at < work->prelude_end || field == cut_field(work) ||
        is_pair(work, field)) {
        return scan_text(work, field, &field->value.text.at, &field->value.text.size, is_main);
    }
    seen = tf_redact_seen_place(&work->scratch->seen, arena, text.at, text.size);
    if (tf_redact_seen_is(seen, arena, text.at, text.size)) {
        return true;
    }
    if (!scan_text(work, field, &field->value.text.at, &field->value.text.size, false)) {
        return false;
    }
    *seen = text;
    *is_new = true;
    return true;
}

/* ---- names --------------------------------------------------------------------------------------
 */

/* A number as a text; size 0 for what is no number. */
static struct tf_slice write_number(const struct tf_field *field, char out[NUMBER_MAX_BYTES])
{
    int size = 0;

    if (field->type == TF_VALUE_INT) {
        size = snprintf(out, NUMBER_MAX_BYTES, "%lld", (long long)field->value.i);
    } else if (field->type == TF_VALUE_UINT) {
        size = snprintf(out, NUMBER_MAX_BYTES, "%llu", (unsigned long long)field->value.u);
    } else if (field->type == TF_VALUE_DOUBLE) {
        size = snprintf(out, NUMBER_MAX_BYTES, "%.17g", field->value.d);
    }
    return tf_slice(out, size > 0 ? (size_t)size : 0);
}

/* Replaces a value because of its name; true when it is done. */
static bool mask_named(struct work *work, struct tf_field *field, enum tf_redact_name name,
                       bool is_item)
{
    struct tf_redact_scan *scan = work->scan;
    char digits[NUMBER_MAX_BYTES];
    struct tf_slice text = write_number(field, digits);

    if (text.size > 0) {
        if (!tf_redact_number_is_secret(name, text, is_item)) {
            return false;
        }
        field->type = TF_VALUE_TEXT;
        field->value.text.at = 0; /* the arena's first byte; it is replaced */
        field->value.text.size = 0;
    } else if (field->type == TF_VALUE_TEXT || field->type == TF_VALUE_BYTES) {
        text = tf_batch_slice(work->batch, field->value.text.at, field->value.text.size);
        if (tf_redact_is_nothing(text)) {
            return false;
        }
    } else {
        return false;
    }
    scan->reason = NULL;
    scan->withheld_from = UINT32_MAX;
    scan->span_count = 1;
    scan->spans[0] = (struct tf_redact_span){
        .start = 0, .end = (uint32_t)text.size, .rule = work->redact->name_rules[name]};
    drop_by_mode(work);
    merge(work, text.size);
    replace(work, field, text, &field->value.text.at, &field->value.text.size);
    explicit_bzero(digits, sizeof digits);
    return true;
}

/* What a field's value is by its name, or by what stands around it. */
static enum tf_redact_name name_of(const struct work *work, const struct tf_field *field,
                                   const struct tf_redact_key *key, struct level *level)
{
    enum tf_redact_name name = key->name;
    bool is_text = field->type == TF_VALUE_TEXT || field->type == TF_VALUE_BYTES;

    if (level->is_array) {
        return level->items;
    }
    if (field->key_at < work->prelude_end) {
        return TF_REDACT_NO_NAME;
    }
    if (field->type == TF_VALUE_ARRAY) {
        name = tf_redact_name_of_list(tf_batch_slice(work->batch, field->key_at, field->key_size));
    }
    if (name == TF_REDACT_NO_NAME && key->names_a_value) {
        name = level->pair != TF_REDACT_NO_NAME ? level->pair : level->items;
    }
    if (is_text && key->names_a_name) {
        enum tf_redact_name pair = tf_redact_name_of(
            tf_batch_slice(work->batch, field->value.text.at, field->value.text.size));

        level->pair = pair != TF_REDACT_NO_NAME ? pair : level->pair;
    }
    return work->redact->name_rules[name] != TF_REDACT_NO_RULE ? name : TF_REDACT_NO_NAME;
}

/* Goes one field on: into it when it holds others, and out of all that end with it. */
static void step(struct nesting *nesting, const struct tf_field *field, enum tf_redact_name name)
{
    bool is_array = field->type == TF_VALUE_ARRAY;
    bool holds = field->type == TF_VALUE_MAP || is_array;

    nesting->levels[nesting->depth].left--;
    if (holds && field->value.count > 0 && nesting->depth < TF_BATCH_DEPTH_MAX) {
        bool is_in_list = nesting->levels[nesting->depth].is_array;

        nesting->depth++;
        nesting->levels[nesting->depth] = (struct level){
            .left = field->value.count,
            .is_array = is_array,
            .items = is_array || !is_in_list ? name : TF_REDACT_NO_NAME,
        };
        return;
    }
    while (nesting->depth > 0 && nesting->levels[nesting->depth].left == 0) {
        nesting->depth--;
    }
}

static struct tf_redact_seen_text key_text(const struct tf_field *field)
{
    return (struct tf_redact_seen_text){.at = field->key_at, .size = field->key_size};
}

static struct tf_redact_seen_text value_text(const struct tf_field *field)
{
    return (struct tf_redact_seen_text){.at = field->value.text.at, .size = field->value.text.size};
}

static struct tf_redact_seen_field *seen_place(struct work *work, const struct tf_field *field)
{
    return tf_redact_seen_field(&work->scratch->seen, field->key_at, field->value.text.at);
}

/* Whether nothing was found before in the key and the value that the field shares; of a text with a
 * cut, more than that counts. */
static bool is_seen_field(const struct work *work, const struct tf_redact_seen_field *seen,
                          const struct tf_field *field)
{
    return tf_redact_seen_field_is(seen, key_text(field), value_text(field)) &&
           field != cut_field(work);
}

/* Scans a field's key, and its value when it is a text and was not masked by its name. Where both
 * are clean, and no open private key may change that, the field is noted; but not for a value that
 * is new: most of these do not come again, and would take the places of those that do. */
static void scan_field(struct work *work, struct tf_field *field, struct tf_redact_key *key,
                       bool is_text, struct tf_redact_seen_field *seen)
{
    bool is_key_clean = field->key_at < work->prelude_end || key->is_clean;
    bool may_note = is_text && !key->is_main && field != cut_field(work);
    struct tf_redact_seen_text key_before = key_text(field);
    bool is_new;

    if (!is_key_clean) {
        key->is_clean = scan_text(work, field, &field->key_at, &field->key_size, false);
        is_key_clean = key->is_clean;
    }
    if (is_text && scan_value(work, field, key->is_main, &is_new) && is_key_clean && may_note &&
        !is_new) {
        *seen = (struct tf_redact_seen_field){
            .key_text = key_before, .value = value_text(field), .key = *key};
    }
}

static void scan_record(struct work *work)
{
    struct nesting nesting = {.depth = 0};
    uint32_t first = work->record->first_field;

    nesting.levels[0] = (struct level){.left = UINT32_MAX};
    for (uint32_t i = 0; i < work->record->field_count; i++) {
        struct tf_field *field = &work->batch->fields[first + i];
        struct level *level = &nesting.levels[nesting.depth];
        bool is_text = field->type == TF_VALUE_TEXT || field->type == TF_VALUE_BYTES;
        bool is_item = level->is_array;
        struct tf_redact_seen_field *seen = seen_place(work, field); /* of a text */
        bool is_seen = is_text && is_seen_field(work, seen, field);
        struct tf_redact_key *key =
            is_seen ? &seen->key
                    : tf_redact_seen_key(&work->scratch->seen, work->batch->text.data,
                                         field->key_at, field->key_size);
        enum tf_redact_name name = name_of(work, field, key, level);

        step(&nesting, field, name); /* before a number becomes a text */
        if (name != TF_REDACT_NO_NAME && mask_named(work, field, name, is_item)) {
            is_text = false;
        }
        if (!is_seen) {
            scan_field(work, field, key, is_text, seen);
        }
    }
}

/* ---- the batch ----------------------------------------------------------------------------------
 */

/* Puts the ids of the record's rules on it, at those of an earlier one where they are the same.
 * Where there is no room, they are left out: the masks tell. */
static void put_ids(struct work *work)
{
    const struct tf_buf *ids = &work->scratch->ids;

    if (work->id_count == 0) {
        return;
    }
    if (ids->size != work->ids_bytes ||
        memcmp(ids->data, work->batch->text.data + work->ids_at, ids->size) != 0) {
        if (tf_batch_add_text(work->batch, ids->data, ids->size, &work->ids_at) < 0) {
            work->ids_bytes = 0;
            return;
        }
        work->ids_bytes = (uint32_t)ids->size;
    }
    work->record->redacted_at = work->ids_at;
    work->record->redacted_bytes = work->ids_bytes;
}

int tf_redact_apply(void *self, void *scratch_self, void *state, struct tf_batch *batch)
{
    struct scratch *scratch = scratch_self;
    struct tf_redact_pem none = {{0}};
    struct work work = {.redact = self,
                        .scratch = scratch,
                        .scan = scratch->scan,
                        .batch = batch,
                        .pem = state != NULL ? state : &none,
                        .may_drop = state != NULL,
                        .prelude_end = batch->text_stderr + 6};

    scratch->seen = (struct tf_redact_seen){.texts = {{0}}};
    tf_redact_scan_text(scratch->scan, batch->text.data, batch->text.size);
    tf_redact_scan_allow(scratch->scan, batch->shared_bytes);
    for (uint32_t i = 0; i < batch->record_count; i++) {
        work.number = i;
        work.record = &batch->records[i];
        if ((work.record->flags & TF_RECORD_DROPPED) == 0) {
            work.id_count = 0;
            tf_buf_clear(&scratch->ids);
            scan_record(&work);
            put_ids(&work);
        }
    }
    if (scratch->value.data != NULL) {
        explicit_bzero(scratch->value.data, scratch->value.size);
    }
    tf_redact_undone_wipe(&scratch->undone, false);
    return 0;
}
