/*
 * select.c - keeps or drops records by what stands in their fields (docs/select.md).
 *
 * A rule is a list of conditions, a field and a regex each, that must all hold. Rules have numbers:
 * those of `drop` first, then those of `keep`, and behind them two names that only count, NOT_KEPT
 * and UNDECIDED. A record is dropped by the first drop rule that matches, else as NOT_KEPT when
 * there are keep rules and none matches.
 *
 * A condition has one of three outcomes. UNDECIDED is that of a search which a limit ended: the
 * text is longer than what is searched of it, or PCRE2 needs too many steps or too much memory. A
 * rule is undecided when none of its conditions fails and one is undecided; the record then stays.
 *
 *     outcome known    when
 *     for the source   describe: the path begins with a constant of the source, kept in its state
 *     for the batch    apply: `tag`
 *     for the record   all others, when a rule gets to them
 *
 * Regexes are compiled without UTF, so that no byte of a text can be wrong.
 */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "fields.h"
#include "taffrail/filter.h"

#define RULES_MAX           64u
#define CONDITIONS_MAX      16u /* of a rule */
#define NAME_MAX_BYTES      63u
#define SEARCHED_BYTES_MAX  (16u << 10) /* of a value: some regexes need its square in steps */
#define STEPS_MAX           50000u      /* PCRE2's match limit, at each place: a `.*` may go back */
#define JIT_STACK_MIN_BYTES (64u << 10)
#define JIT_STACK_MAX_BYTES (1u << 20)
#define HEAP_MAX_KIB        8192u
#define NOT_KEPT_NAME       "not-kept"
#define UNDECIDED_NAME      "undecided"
#define KEPT                UINT32_MAX /* in place of a rule */

/* ---- options ------------------------------------------------------------------------------------
 */

struct rule_options {
    struct tf_text name;
    struct tf_pairs where;
};

struct select_options {
    struct tf_tables drop, keep; /* struct rule_options */
};

static const struct tf_option rule_options[] = {
    {.name = "name",
     .type = TF_OPTION_TEXT,
     .offset = offsetof(struct rule_options, name),
     .required = true,
     .about = "what its records are counted under"},
    {.name = "where",
     .type = TF_OPTION_MAP,
     .offset = offsetof(struct rule_options, where),
     .required = true,
     .about = "field: regex; all of them hold"},
    {0},
};

static const struct tf_option options[] = {
    {.name = "drop",
     .type = TF_OPTION_TABLES,
     .offset = offsetof(struct select_options, drop),
     .table = rule_options,
     .table_bytes = sizeof(struct rule_options),
     .about = "rules; what one of them matches is dropped"},
    {.name = "keep",
     .type = TF_OPTION_TABLES,
     .offset = offsetof(struct select_options, keep),
     .table = rule_options,
     .table_bytes = sizeof(struct rule_options),
     .about = "rules; what none of them matches is dropped"},
    {0},
};

/* ---- what is opened -----------------------------------------------------------------------------
 */

enum outcome { UNKNOWN, HOLDS, FAILS, UNDECIDED };

struct condition {
    struct tf_slice path;
    bool is_tag;
    pcre2_code *code;
};

struct rule {
    const struct tf_text *name;
    uint32_t first, end; /* its conditions */
};

/* What one thread needs to search. */
struct scratch {
    pcre2_match_data *match_data;
    pcre2_match_context *match_context;
    pcre2_jit_stack *jit_stack;
    uint8_t *known; /* enum outcome of each condition for this batch; UNKNOWN: look at the record */
};

struct select {
    uint16_t index;
    struct rule rules[RULES_MAX];
    uint32_t drop_count, rule_count;
    struct condition *conditions;
    uint32_t condition_count;
    struct scratch *own; /* for describe, which runs on the loop alone */
};

static void scratch_free(void *self)
{
    struct scratch *scratch = self;

    if (scratch != NULL) {
        pcre2_jit_stack_free(scratch->jit_stack);
        pcre2_match_context_free(scratch->match_context);
        pcre2_match_data_free(scratch->match_data);
        free(scratch->known);
        free(scratch);
    }
}

static void *scratch_new(void *self)
{
    const struct select *select = self;
    struct scratch *scratch = calloc(1, sizeof *scratch);

    assert(select->condition_count > 0);
    if (scratch == NULL) {
        return NULL;
    }
    scratch->match_data = pcre2_match_data_create(1, NULL);
    scratch->match_context = pcre2_match_context_create(NULL);
    scratch->jit_stack = pcre2_jit_stack_create(JIT_STACK_MIN_BYTES, JIT_STACK_MAX_BYTES, NULL);
    scratch->known = calloc(select->condition_count, sizeof *scratch->known);
    if (scratch->match_data == NULL || scratch->match_context == NULL || scratch->known == NULL) {
        scratch_free(scratch);
        return NULL;
    }
    (void)pcre2_set_match_limit(scratch->match_context, STEPS_MAX);
    (void)pcre2_set_heap_limit(scratch->match_context, HEAP_MAX_KIB);
    if (scratch->jit_stack != NULL) { /* where there is no JIT, pcre2_match interprets */
        pcre2_jit_stack_assign(scratch->match_context, NULL, scratch->jit_stack);
    }
    return scratch;
}

static void select_close(void *self)
{
    struct select *select = self;

    if (select != NULL) {
        scratch_free(select->own);
        for (uint32_t i = 0; i < select->condition_count; i++) {
            pcre2_code_free(select->conditions[i].code);
        }
        free(select->conditions);
        free(select);
    }
}

/* Each of these goes on after what is wrong, and tells it. */

static void check_name(const struct select *select, const struct tf_text *name,
                       struct tf_error *err)
{
    size_t size = strlen(name->text);

    if (size == 0 || size > NAME_MAX_BYTES ||
        strspn(name->text, "abcdefghijklmnopqrstuvwxyz0123456789_-") != size) {
        (void)tf_error_add(err, &name->at,
                           "name: \"%s\" is no name; write 1 to %u of a-z, 0-9, - and _",
                           name->text, NAME_MAX_BYTES);
    }
    if (strcmp(name->text, NOT_KEPT_NAME) == 0 || strcmp(name->text, UNDECIDED_NAME) == 0) {
        (void)tf_error_add(err, &name->at,
                           "name: \"%s\" is what select itself counts under; take another",
                           name->text);
    }
    for (uint32_t i = 0; i < select->rule_count; i++) {
        if (strcmp(select->rules[i].name->text, name->text) == 0) {
            (void)tf_error_add(err, &name->at,
                               "name: two rules are called \"%s\" (line %u); give this one another "
                               "name",
                               name->text, select->rules[i].name->at.line);
        }
    }
}

static void check_field(const struct tf_text *field, struct tf_error *err)
{
    struct tf_slice path = tf_slice_text(field->text);

    if (tf_path_is_in(path, tf_slice_text("time")) ||
        tf_path_is_in(path, tf_slice_text("taffrail"))) {
        (void)tf_error_add(err, &field->at,
                           "where: \"%s\" is no field yet when records are selected; name "
                           "another, such as log",
                           field->text);
    }
    (void)tf_path_check("where", field, err);
}

/* The regex of a condition, or NULL. */
static pcre2_code *compile(const struct tf_pair *pair, struct tf_error *err)
{
    PCRE2_SIZE offset;
    PCRE2_UCHAR reason[128];
    int number;
    pcre2_code *code =
        pcre2_compile((PCRE2_SPTR)pair->value.text, PCRE2_ZERO_TERMINATED,
                      PCRE2_DOLLAR_ENDONLY | PCRE2_NEVER_UTF, &number, &offset, NULL);

    if (code == NULL) {
        (void)pcre2_get_error_message(number, reason, sizeof reason);
        (void)tf_error_add(err, &pair->value.at,
                           "where: regex of \"%s\": %s, at byte %zu; mend it there", pair->key.text,
                           (const char *)reason, (size_t)offset);
        return NULL;
    }
    (void)pcre2_jit_compile(code, PCRE2_JIT_COMPLETE); /* where it does not work: interpreted */
    return code;
}

/* There is room for the rule and its conditions. */
static void add_rule(struct select *select, const struct rule_options *from, struct tf_error *err)
{
    struct rule *rule = &select->rules[select->rule_count];

    check_name(select, &from->name, err);
    *rule = (struct rule){.name = &from->name, .first = select->condition_count};
    for (size_t i = 0; i < from->where.count; i++) {
        const struct tf_pair *pair = &from->where.items[i];

        check_field(&pair->key, err);
        select->conditions[select->condition_count++] =
            (struct condition){.path = tf_slice_text(pair->key.text),
                               .is_tag = strcmp(pair->key.text, "tag") == 0,
                               .code = compile(pair, err)};
    }
    rule->end = select->condition_count;
    select->rule_count++;
}

static void add_rules(struct select *select, const struct tf_tables *tables, struct tf_error *err)
{
    const struct rule_options *items = tables->items;

    for (size_t i = 0; i < tables->count; i++) {
        size_t count = items[i].where.count;

        if (count == 0 || count > CONDITIONS_MAX) {
            (void)tf_error_add(err, &items[i].where.at,
                               "where: a rule has 1 to %u conditions, this one has %zu; write "
                               "where: {log: 'REGEX'}",
                               CONDITIONS_MAX, count);
        } else {
            add_rule(select, &items[i], err);
        }
    }
}

static int open_rules(struct select *select, const struct tf_filter_args *args,
                      struct tf_error *err)
{
    const struct select_options *chosen = args->options;
    size_t count = chosen->drop.count + chosen->keep.count, errors_before = err->errors;

    if (count == 0 || count > RULES_MAX) {
        return tf_error_add(err, &args->at,
                            "select has 1 to %u rules, this one has %zu; write drop: [{name: "
                            "probes, where: {log: 'REGEX'}}]",
                            RULES_MAX, count);
    }
    select->conditions = calloc(count * CONDITIONS_MAX, sizeof *select->conditions);
    if (select->conditions == NULL) {
        return -ENOMEM;
    }
    add_rules(select, &chosen->drop, err);
    select->drop_count = select->rule_count;
    add_rules(select, &chosen->keep, err);
    if (err->errors > errors_before) {
        return -EINVAL;
    }
    select->own = scratch_new(select);
    return select->own != NULL ? 0 : -ENOMEM;
}

static int select_open(const struct tf_filter_args *args, void **self, struct tf_error *err)
{
    struct select *select = calloc(1, sizeof *select);
    int rc;

    if (select == NULL) {
        return -ENOMEM;
    }
    select->index = args->index;
    rc = open_rules(select, args, err);
    if (rc == 0) {
        *self = select;
        select = NULL;
    }
    select_close(select);
    return rc;
}

/* ---- conditions ---------------------------------------------------------------------------------
 */

/* One look at one record. */
struct look {
    const struct select *select;
    struct scratch *scratch;
    struct tf_fields fields;
    bool is_undecided; /* some rule is */
};

static enum outcome search(const struct condition *condition, struct scratch *scratch,
                           struct tf_slice text)
{
    bool is_cut = text.size > SEARCHED_BYTES_MAX;
    int rc =
        pcre2_match(condition->code, (PCRE2_SPTR)text.data, is_cut ? SEARCHED_BYTES_MAX : text.size,
                    0, is_cut ? PCRE2_NOTEOL : 0, scratch->match_data, scratch->match_context);

    if (rc >= 0) {
        return HOLDS;
    }
    return rc == PCRE2_ERROR_NOMATCH && !is_cut ? FAILS : UNDECIDED;
}

/* The text of a value that is no text; room has TF_DOUBLE_TEXT_BYTES. NULL: it has none. */
static const char *format_value(const struct tf_field *field, char *room)
{
    switch ((enum tf_value_type)field->type) {
    case TF_VALUE_INT:
        (void)snprintf(room, TF_DOUBLE_TEXT_BYTES, "%" PRId64, field->value.i);
        return room;
    case TF_VALUE_UINT:
        (void)snprintf(room, TF_DOUBLE_TEXT_BYTES, "%" PRIu64, field->value.u);
        return room;
    case TF_VALUE_DOUBLE:
        tf_double_format(field->value.d, room);
        return room;
    case TF_VALUE_TRUE:
        return "true";
    case TF_VALUE_FALSE:
        return "false";
    case TF_VALUE_NIL:
        return "null";
    default:
        return NULL;
    }
}

static enum outcome match_scalar(const struct condition *condition, const struct look *look,
                                 const struct tf_field *field)
{
    char room[TF_DOUBLE_TEXT_BYTES];
    const char *text;

    if (field->type == TF_VALUE_TEXT || field->type == TF_VALUE_BYTES) {
        return search(condition, look->scratch,
                      tf_slice(look->fields.arena + field->value.text.at, field->value.text.size));
    }
    text = format_value(field, room);
    return text != NULL ? search(condition, look->scratch, tf_slice_text(text)) : FAILS;
}

static enum outcome match_items(const struct condition *condition, const struct look *look,
                                uint32_t at)
{
    struct tf_fields_level items = tf_fields_inside(&look->fields, at);
    enum outcome outcome = FAILS;

    for (at = items.first; at < items.end; at = tf_fields_behind(&look->fields, at)) {
        enum outcome item = match_scalar(condition, look, &look->fields.items[at]);

        if (item == HOLDS) {
            return HOLDS;
        }
        outcome = item == UNDECIDED ? UNDECIDED : outcome;
    }
    return outcome;
}

static enum outcome match_field(const struct condition *condition, const struct look *look)
{
    uint32_t at = tf_fields_find(&look->fields, condition->path, NULL);

    if (at == TF_FIELDS_NONE) {
        return FAILS;
    }
    if (look->fields.items[at].type == TF_VALUE_ARRAY) {
        return match_items(condition, look, at);
    }
    return match_scalar(condition, look, &look->fields.items[at]);
}

/* ---- rules --------------------------------------------------------------------------------------
 */

static enum outcome match_rule(struct look *look, const struct rule *rule)
{
    enum outcome outcome = HOLDS;

    for (uint32_t i = rule->first; i < rule->end; i++) {
        enum outcome one = (enum outcome)look->scratch->known[i];

        if (one == UNKNOWN) {
            one = match_field(&look->select->conditions[i], look);
        }
        if (one == FAILS) {
            return FAILS;
        }
        outcome = one == UNDECIDED ? UNDECIDED : outcome;
    }
    look->is_undecided = look->is_undecided || outcome == UNDECIDED;
    return outcome;
}

/* The number under which the record is dropped, or KEPT. */
static uint32_t find_fate(struct look *look)
{
    const struct select *select = look->select;

    for (uint32_t i = 0; i < select->drop_count; i++) {
        if (match_rule(look, &select->rules[i]) == HOLDS) {
            return i;
        }
    }
    for (uint32_t i = select->drop_count; i < select->rule_count; i++) {
        if (match_rule(look, &select->rules[i]) != FAILS) {
            return KEPT;
        }
    }
    return select->drop_count < select->rule_count ? select->rule_count : KEPT;
}

/* What is known before the first record is looked at. */
static void begin_batch(const struct select *select, struct scratch *scratch, const uint8_t *state,
                        const struct tf_batch *batch)
{
    for (uint32_t i = 0; i < select->condition_count; i++) {
        const struct condition *condition = &select->conditions[i];
        enum outcome outcome = state != NULL ? (enum outcome)state[i] : UNKNOWN;

        if (condition->is_tag) {
            outcome =
                batch->tag != NULL ? search(condition, scratch, tf_slice_text(batch->tag)) : FAILS;
        }
        scratch->known[i] = (uint8_t)outcome;
    }
}

static int apply(void *self, void *scratch, void *state, struct tf_batch *batch)
{
    const struct select *select = self;
    uint32_t hits[RULES_MAX + 2] = {0};

    begin_batch(select, scratch, state, batch);
    for (uint32_t i = 0; i < batch->record_count; i++) {
        struct tf_record *record = &batch->records[i];
        struct look look = {
            .select = select, .scratch = scratch, .fields = tf_fields_of(batch, record)};
        uint32_t number;

        if ((record->flags & TF_RECORD_DROPPED) != 0) {
            continue;
        }
        number = find_fate(&look);
        if (number != KEPT) {
            record->flags |= TF_RECORD_DROPPED;
            hits[number]++;
        } else if (look.is_undecided) {
            hits[select->rule_count + 1]++;
        }
    }
    for (uint32_t i = 0; i < select->rule_count + 2; i++) {
        uint16_t fate = i <= select->rule_count ? TF_RULE_DROPPED : 0; /* the last are kept */

        if (hits[i] > 0) {
            tf_batch_tally(batch, select->index, (uint16_t)(i | fate), hits[i]);
        }
    }
    return 0;
}

static const char *rule_name(const void *self, uint16_t rule)
{
    const struct select *select = self;

    if (rule < select->rule_count) {
        return select->rules[rule].name->text;
    }
    return rule == select->rule_count       ? NOT_KEPT_NAME
           : rule == select->rule_count + 1 ? UNDECIDED_NAME
                                            : NULL;
}

static bool rule_drops(const void *self, uint16_t rule)
{
    const struct select *select = self;
    bool has_keep = select->drop_count < select->rule_count;

    return rule < select->drop_count || (rule == select->rule_count && has_keep);
}

/* ---- the state of a source ----------------------------------------------------------------------
 */

/* enum outcome of each condition, as far as the source's constants tell. */
static void *state_new(void *self)
{
    const struct select *select = self;

    return calloc(select->condition_count, sizeof(uint8_t));
}

static void describe(void *self, void *state, const char *tag, const struct tf_batch *constants)
{
    const struct select *select = self;
    uint8_t *known = state;
    const struct look look = {.select = select,
                              .scratch = select->own,
                              .fields = tf_fields_of(constants, &constants->records[0])};

    (void)tag; /* a receiver's changes: tf_batch.tag has it */
    for (uint32_t i = 0; i < select->condition_count; i++) {
        if (tf_fields_begin(&look.fields, select->conditions[i].path)) {
            known[i] = (uint8_t)match_field(&select->conditions[i], &look);
        }
    }
}

const struct tf_filter_kind tf_filter_select = {
    .name = "select",
    .options = options,
    .options_bytes = sizeof(struct select_options),
    .open = select_open,
    .close = select_close,
    .scratch_new = scratch_new,
    .scratch_free = scratch_free,
    .state_new = state_new,
    .state_free = free,
    .describe = describe,
    .apply = apply,
    .rule_name = rule_name,
    .rule_drops = rule_drops,
};
