/*
 * filter.c - redaction as a filter: every key and text of a batch is scanned, at any depth.
 *
 * A batch's arena is looked through at once; then each record's fields are walked. Of a field:
 *
 *   1. its name: one that gives a value away (`db_password`) has a text value masked whole, and so
 *      the texts of an array under it; a number too, when it is a password;
 *   2. its key's own text, and its text or bytes value: what the rules find is replaced;
 *   3. in the record's main text (log, message, MESSAGE, msg) the lines of an open private key.
 *
 * A changed value is appended to the arena and its field pointed there; what was appended is not
 * scanned again. When the arena has no room, the value is overwritten in place with as much of
 * [WITHHELD] as fits, for which no memory is needed: so apply cannot fail. The strings that every
 * batch begins with are known, and skipped.
 */
#include "redact.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "pem.h"

#define REPLACEMENT_MAX_BYTES 128u
#define WITHHELD_TEXT         "[WITHHELD]"
#define DEFAULT_REPLACEMENT   "[REDACTED:{rule}]"
#define NO_RULE               UINT16_MAX

struct redact {
    struct tf_redact_engine *engine;
    uint16_t index;
    uint16_t private_key; /* number of that rule, or NO_RULE when it is off */
    uint32_t on_count;
    char (*replacements)[REPLACEMENT_MAX_BYTES + 1]; /* by rule */
};

struct scratch {
    struct tf_redact_scan *scan;
    struct tf_buf value; /* the one being rewritten */
    tf_redact_seen_fn *on_seen;
    void *ctx;
};

/* One call of apply. */
struct work {
    const struct redact *redact;
    struct scratch *scratch;
    struct tf_redact_scan *scan;
    struct tf_batch *batch;
    struct tf_redact_pem *pem;
    uint32_t prelude_end; /* where the arena's known strings end */
    uint32_t number;      /* of the record */
    struct tf_record *record;
};

/* Where arrays end whose name gives their values away: items still to come, by depth. */
struct nesting {
    uint32_t left[TF_BATCH_DEPTH_MAX];
    uint16_t rule[TF_BATCH_DEPTH_MAX]; /* for their items */
    unsigned depth;
};

static const struct tf_option options[] = {
    {.name = "enable",
     .type = TF_OPTION_TEXTS,
     .offset = offsetof(struct tf_redact_options, enable),
     .about = "rules or packs to switch on besides the default set"},
    {.name = "disable",
     .type = TF_OPTION_TEXTS,
     .offset = offsetof(struct tf_redact_options, disable),
     .about = "rules or packs to switch off"},
    {.name = "replacement",
     .type = TF_OPTION_TEXT,
     .offset = offsetof(struct tf_redact_options, replacement),
     .def = DEFAULT_REPLACEMENT,
     .about = "what stands in a secret's place; {rule} is the rule's id"},
    {0},
};

static uint16_t rule_by_id(const char *id)
{
    for (size_t i = 0; i < tf_redact_rules_count; i++) {
        if (strcmp(tf_redact_rules[i].id, id) == 0) {
            return (uint16_t)i;
        }
    }
    return NO_RULE;
}

static int switch_rules(const struct tf_texts *names, bool to, bool *on, struct tf_error *err)
{
    int rc = 0;

    for (size_t i = 0; i < names->count; i++) {
        const struct tf_text *name = &names->items[i];
        bool known = false;

        for (size_t rule = 0; rule < tf_redact_rules_count; rule++) {
            if (strcmp(tf_redact_rules[rule].id, name->text) == 0 ||
                strcmp(tf_redact_rules[rule].pack, name->text) == 0) {
                on[rule] = to;
                known = true;
            }
        }
        if (!known) {
            rc = tf_error_add(err, &name->at,
                              "\"%s\" is neither a rule nor a pack; docs/redaction.md lists them",
                              name->text);
        }
    }
    return rc;
}

/* Writes the replacement for a rule. Returns false when it is too long. */
static bool fill_replacement(const char *format, const char *id,
                             char out[REPLACEMENT_MAX_BYTES + 1])
{
    size_t size = 0;

    while (*format != 0) {
        bool is_id = strncmp(format, "{rule}", 6) == 0;
        size_t more = is_id ? strlen(id) : 1;

        if (size + more > REPLACEMENT_MAX_BYTES) {
            return false;
        }
        memcpy(out + size, is_id ? id : format, more);
        size += more;
        format += is_id ? 6 : 1;
    }
    out[size] = 0;
    return true;
}

static int fill_replacements(struct redact *redact, const struct tf_text *replacement,
                             struct tf_error *err)
{
    const char *format = replacement->text != NULL ? replacement->text : DEFAULT_REPLACEMENT;

    for (const char *byte = format; *byte != 0; byte++) {
        if ((uint8_t)*byte < ' ' || *byte == 0x7f) {
            return tf_error_add(err, &replacement->at,
                                "replacement holds a control character; leave it out");
        }
    }
    assert(tf_redact_rules_count > 0);
    redact->replacements = calloc(tf_redact_rules_count, sizeof *redact->replacements);
    if (redact->replacements == NULL) {
        return -ENOMEM;
    }
    for (size_t i = 0; i < tf_redact_rules_count; i++) {
        if (!fill_replacement(format, tf_redact_rules[i].id, redact->replacements[i])) {
            return tf_error_add(err, &replacement->at,
                                "replacement is longer than %u bytes; shorten it",
                                REPLACEMENT_MAX_BYTES);
        }
    }
    return 0;
}

static void redact_close(void *self)
{
    struct redact *redact = self;

    if (redact != NULL) {
        tf_redact_engine_free(redact->engine);
        free(redact->replacements);
        free(redact);
    }
}

static int build_engine(struct redact *redact, const struct tf_filter_args *args, const bool *on,
                        struct tf_error *err)
{
    struct tf_redact_engine_args engine_args = {
        .rules = tf_redact_rules, .count = tf_redact_rules_count, .on = on};
    struct tf_redact_engine_error error;
    int rc = tf_redact_engine_new(&engine_args, &redact->engine, &error);

    if (rc == -EINVAL) {
        return tf_error_add(err, &args->at, "rule \"%s\" is not sound: %s",
                            tf_redact_rules[error.rule].id, error.text);
    }
    if (rc < 0) {
        return rc;
    }
    if (!tf_redact_engine_jit(redact->engine)) {
        tf_warning_add(err, &args->at,
                       "the JIT compiler of PCRE2 does not work here; redaction goes on without "
                       "it, slower");
    }
    return 0;
}

static int redact_open(const struct tf_filter_args *args, void **self, struct tf_error *err)
{
    const struct tf_redact_options *chosen = args->options;
    struct redact *redact = calloc(1, sizeof *redact);
    bool on[TF_REDACT_RULES_MAX] = {false};
    int rc, rc2;

    if (redact == NULL) {
        return -ENOMEM;
    }
    redact->index = args->index;
    for (size_t i = 0; i < tf_redact_rules_count; i++) {
        on[i] = (tf_redact_rules[i].flags & TF_REDACT_OFF) == 0;
    }
    rc = switch_rules(&chosen->enable, true, on, err);
    rc2 = switch_rules(&chosen->disable, false, on, err);
    rc = rc < 0 ? rc : rc2;
    rc2 = fill_replacements(redact, &chosen->replacement, err);
    rc = rc < 0 ? rc : rc2;
    if (rc == 0) {
        rc = build_engine(redact, args, on, err);
    }
    if (rc == 0) {
        redact->private_key = rule_by_id("private-key");
        if (!tf_redact_engine_on(redact->engine, redact->private_key)) {
            redact->private_key = NO_RULE;
        }
        for (size_t i = 0; i < tf_redact_rules_count; i++) {
            redact->on_count += on[i] ? 1 : 0;
        }
        *self = redact;
        redact = NULL;
    }
    redact_close(redact);
    return rc;
}

static void scratch_free(void *self)
{
    struct scratch *scratch = self;

    if (scratch != NULL) {
        tf_redact_scan_free(scratch->scan);
        if (scratch->value.data != NULL) {
            explicit_bzero(scratch->value.data, scratch->value.capacity);
        }
        tf_buf_fini(&scratch->value);
        free(scratch);
    }
}

static void *scratch_new(void *self)
{
    const struct redact *redact = self;
    struct scratch *scratch = calloc(1, sizeof *scratch);

    if (scratch == NULL) {
        return NULL;
    }
    tf_buf_init(&scratch->value, TF_BATCH_TEXT_MAX);
    scratch->scan = tf_redact_scan_new(redact->engine);
    if (scratch->scan == NULL) {
        scratch_free(scratch);
        return NULL;
    }
    scratch->scan->private_key_rule = redact->private_key;
    return scratch;
}

void tf_redact_observe(void *self, tf_redact_seen_fn *on_seen, void *ctx)
{
    struct scratch *scratch = self;

    scratch->on_seen = on_seen;
    scratch->ctx = ctx;
}

static void *state_new(void *self)
{
    (void)self;
    return calloc(1, sizeof(struct tf_redact_pem));
}

static void state_save(const void *state, enum tf_stream stream, struct tf_stream_state *out)
{
    tf_redact_pem_save(state, stream, out);
}

static void state_load(void *state, enum tf_stream stream, const struct tf_stream_state *in)
{
    tf_redact_pem_load(state, stream, in);
}

static void mark_withheld(struct work *work, struct tf_field *field, const char *reason)
{
    field->withheld = true;
    work->record->flags |= TF_RECORD_WITHHELD;
    work->record->withheld_reason = reason;
}

/* No memory: hides a text where it stands, and needs none. */
static void overwrite(struct work *work, struct tf_field *field, uint32_t at, uint32_t *size)
{
    static const char text[] = WITHHELD_TEXT;
    uint32_t fits = *size < sizeof text - 1 ? *size : (uint32_t)sizeof text - 1;

    if (at < work->prelude_end) { /* others refer to it */
        fits = 0;
    } else {
        memcpy(work->batch->text.data + at, text, fits);
    }
    *size = fits;
    mark_withheld(work, field, "memory");
}

/* Builds the new text of a value from what stands between its spans, and their replacements. */
static int build_value(struct work *work, uint32_t at, uint32_t size)
{
    const char *text = work->batch->text.data + at;
    struct tf_buf *value = &work->scratch->value;
    uint32_t done = 0;

    tf_buf_clear(value);
    for (uint32_t i = 0; i < work->scan->span_count; i++) {
        const struct tf_redact_span *span = &work->scan->spans[i];

        (void)tf_buf_append(value, text + done, span->start - done);
        (void)tf_buf_append_text(value, span->rule == TF_REDACT_WITHHELD
                                            ? WITHHELD_TEXT
                                            : work->redact->replacements[span->rule]);
        done = span->end;
    }
    return tf_buf_append(value, text + done, size - done);
}

static void tell(struct work *work, const struct tf_redact_span *span)
{
    bool withheld = span->rule == TF_REDACT_WITHHELD;

    if (!withheld) {
        tf_batch_tally(work->batch, work->redact->index, span->rule, 1);
    }
    if (work->scratch->on_seen != NULL) {
        work->scratch->on_seen(work->scratch->ctx, work->number, span,
                               withheld ? NULL : &tf_redact_rules[span->rule]);
    }
}

/* Puts the scan's merged spans on a text of the field, its key or its value. */
static void replace(struct work *work, struct tf_field *field, uint32_t *at, uint32_t *size)
{
    int rc = build_value(work, *at, *size);

    for (uint32_t i = 0; i < work->scan->span_count; i++) {
        tell(work, &work->scan->spans[i]);
    }
    work->record->flags |= TF_RECORD_REDACTED;
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
        overwrite(work, field, *at, size);
    } else if (work->scan->reason != NULL) {
        mark_withheld(work, field, work->scan->reason);
    }
}

static void scan_text(struct work *work, struct tf_field *field, uint32_t *at, uint32_t *size,
                      bool is_main)
{
    struct tf_redact_scan *scan = work->scan;
    uint8_t *left = &work->pem->left[work->record->stream];

    if (*size == 0 || *at < work->prelude_end) {
        return;
    }
    tf_redact_scan_value(scan, work->batch->text.data, *at, *size);
    if (is_main && work->redact->private_key != NO_RULE && (*left > 0 || scan->private_key_seen)) {
        tf_redact_pem_follow(left, tf_batch_slice(work->batch, *at, *size), scan,
                             work->redact->private_key);
    }
    if (scan->span_count == 0 && scan->reason == NULL) {
        return;
    }
    tf_redact_scan_merge(scan, *size);
    replace(work, field, at, size);
}

/* Whether a whole value is a mask already, as another agent left it. */
static bool is_mask(struct tf_slice value)
{
    static const char start[] = "[REDACTED:";

    if (tf_slice_equal(value, tf_slice_text(WITHHELD_TEXT))) {
        return true;
    }
    if (value.size <= sizeof start || memcmp(value.data, start, sizeof start - 1) != 0 ||
        value.data[value.size - 1] != ']') {
        return false;
    }
    for (size_t i = sizeof start - 1; i + 1 < value.size; i++) {
        char byte = value.data[i];

        if ((byte < 'a' || byte > 'z') && (byte < '0' || byte > '9') && byte != '-') {
            return false;
        }
    }
    return true;
}

/* Masks a value because of its name; true when it is done. */
static bool mask_named(struct work *work, struct tf_field *field, uint16_t rule)
{
    bool is_text = field->type == TF_VALUE_TEXT || field->type == TF_VALUE_BYTES;
    bool is_number = field->type == TF_VALUE_INT || field->type == TF_VALUE_UINT ||
                     field->type == TF_VALUE_DOUBLE;

    if (is_number && strcmp(tf_redact_rules[rule].id, "assigned-password") == 0) {
        field->type = TF_VALUE_TEXT;
        field->value.text.at = 0; /* the arena's first byte; it is replaced */
        field->value.text.size = 0;
    } else if (!is_text || field->value.text.size == 0 ||
               is_mask(tf_batch_slice(work->batch, field->value.text.at, field->value.text.size))) {
        return false;
    }
    work->scan->reason = NULL;
    work->scan->span_count = 1;
    work->scan->spans[0] =
        (struct tf_redact_span){.start = 0, .end = field->value.text.size, .rule = rule};
    replace(work, field, &field->value.text.at, &field->value.text.size);
    return true;
}

static bool is_main_text(struct tf_slice key)
{
    return tf_slice_equal(key, tf_slice_text("log")) ||
           tf_slice_equal(key, tf_slice_text("message")) ||
           tf_slice_equal(key, tf_slice_text("MESSAGE")) ||
           tf_slice_equal(key, tf_slice_text("msg"));
}

/* The rule for a field by its name, or by that of the array it is in. */
static uint16_t rule_by_name(const struct work *work, const struct tf_field *field,
                             const struct nesting *nesting)
{
    const char *id = NULL;
    uint16_t rule = NO_RULE;

    if (field->key_size == 0 && nesting->depth > 0) {
        return nesting->rule[nesting->depth - 1];
    }
    if (field->key_at >= work->prelude_end) {
        id = tf_redact_name_rule(tf_batch_slice(work->batch, field->key_at, field->key_size));
    }
    rule = id != NULL ? rule_by_id(id) : NO_RULE;
    return tf_redact_engine_on(work->redact->engine, rule) ? rule : NO_RULE;
}

/* Goes one field on: into it when it holds others, and out of all that end with it. */
static void step(struct nesting *nesting, const struct tf_field *field, uint16_t rule)
{
    bool holds = (field->type == TF_VALUE_MAP || field->type == TF_VALUE_ARRAY);

    if (nesting->depth > 0) {
        nesting->left[nesting->depth - 1]--;
    }
    if (holds && field->value.count > 0 && nesting->depth < TF_BATCH_DEPTH_MAX) {
        nesting->left[nesting->depth] = field->value.count;
        nesting->rule[nesting->depth] = field->type == TF_VALUE_ARRAY ? rule : NO_RULE;
        nesting->depth++;
        return;
    }
    while (nesting->depth > 0 && nesting->left[nesting->depth - 1] == 0) {
        nesting->depth--;
    }
}

static void scan_record(struct work *work)
{
    struct nesting nesting = {.depth = 0};
    uint32_t first = work->record->first_field;

    for (uint32_t i = 0; i < work->record->field_count; i++) {
        struct tf_field *field = &work->batch->fields[first + i];
        bool is_text = field->type == TF_VALUE_TEXT || field->type == TF_VALUE_BYTES;
        uint16_t rule = rule_by_name(work, field, &nesting);
        bool is_main = is_main_text(tf_batch_slice(work->batch, field->key_at, field->key_size));

        step(&nesting, field, rule); /* before a number becomes a text */
        if (rule != NO_RULE && mask_named(work, field, rule)) {
            is_text = false;
        }
        scan_text(work, field, &field->key_at, &field->key_size, false);
        if (is_text) {
            scan_text(work, field, &field->value.text.at, &field->value.text.size, is_main);
        }
    }
}

static int redact_apply(void *self, void *scratch_self, void *state, struct tf_batch *batch)
{
    struct scratch *scratch = scratch_self;
    struct tf_redact_pem none = {{0}};
    struct work work = {.redact = self,
                        .scratch = scratch,
                        .scan = scratch->scan,
                        .batch = batch,
                        .pem = state != NULL ? state : &none,
                        .prelude_end = batch->text_stderr + 6};

    tf_redact_scan_text(scratch->scan, batch->text.data, batch->text.size);
    for (uint32_t i = 0; i < batch->record_count; i++) {
        work.number = i;
        work.record = &batch->records[i];
        if ((work.record->flags & TF_RECORD_DROPPED) == 0) {
            scan_record(&work);
        }
    }
    if (scratch->value.data != NULL) {
        explicit_bzero(scratch->value.data, scratch->value.size);
    }
    return 0;
}

static const char *rule_name(const void *self, uint16_t rule)
{
    (void)self;
    return rule < tf_redact_rules_count ? tf_redact_rules[rule].id : NULL;
}

static uint32_t rule_count(const void *self)
{
    const struct redact *redact = self;

    return redact->on_count;
}

const struct tf_filter_kind tf_filter_redact = {
    .name = "redact",
    .options = options,
    .options_bytes = sizeof(struct tf_redact_options),
    .open = redact_open,
    .close = redact_close,
    .scratch_new = scratch_new,
    .scratch_free = scratch_free,
    .state_new = state_new,
    .state_free = free,
    .state_save = state_save,
    .state_load = state_load,
    .apply = redact_apply,
    .rule_name = rule_name,
    .rule_count = rule_count,
};
