/*
 * select.c - which entries are wanted, and where reading begins: from options to what the decoders
 * and the reader are told.
 */
#include "internal.h"

#include <errno.h>
#include <stdlib.h>

static const char *const priorities[] = {"emergency", "alert",  "critical", "error",
                                         "warning",   "notice", "info",     "debug"};

/* Texts as an array of C strings in the arena; NULL: none, or no memory (then *rc says so). */
static const char *const *copy_texts(struct tf_journald *input, const struct tf_texts *texts,
                                     size_t *count, int *rc)
{
    const char **items = NULL;

    if (texts->count > 0) {
        items = tf_arena_alloc(input->arena, texts->count * sizeof *items);
        *rc = items == NULL ? -ENOMEM : *rc;
    }
    for (size_t i = 0; items != NULL && i < texts->count; i++) {
        items[i] = texts->items[i].text;
    }
    *count = items != NULL ? texts->count : 0;
    return items;
}

/* ---- checks --------------------------------------------------------------------------------- */

static int check_units(const struct tf_texts *units, struct tf_error *err)
{
    int rc = 0;

    for (size_t i = 0; i < units->count; i++) {
        const char *unit = units->items[i].text;

        if (unit != NULL && strpbrk(unit, ".*?") == NULL) {
            rc = tf_error_add(err, &units->items[i].at,
                              "unit \"%s\" has no type, so nothing matches it; write %s.service",
                              unit, unit);
        }
    }
    return rc;
}

static bool is_field_name(const char *name)
{
    size_t size = strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_");

    return size > 0 && size <= TF_JOURNAL_NAME_MAX && name[size] == '\0' &&
           !(name[0] >= '0' && name[0] <= '9');
}

static int read_priority(struct tf_journald *input, struct tf_error *err)
{
    const struct tf_text *priority = &input->options->priority;

    input->select.priority_max = -1;
    if (priority->text == NULL) {
        return 0;
    }
    for (size_t i = 0; i < TF_COUNT(priorities); i++) {
        if (strcmp(priority->text, priorities[i]) == 0) {
            input->select.priority_max = (int)i;
            return 0;
        }
    }
    return tf_error_add(err, &priority->at,
                        "priority \"%s\" is no level; write emergency, alert, critical, error, "
                        "warning, notice, info or debug",
                        priority->text);
}

static int read_matches(struct tf_journald *input, struct tf_error *err)
{
    const struct tf_tables *tables = &input->options->matches;
    const struct tf_pairs *maps = tables->items;
    struct tf_journal_match *matches = NULL;
    int rc = 0;

    if (tables->count > 0) {
        matches = tf_arena_alloc(input->arena, tables->count * sizeof *matches);
    }
    for (size_t i = 0; i < tables->count; i++) {
        struct tf_journal_pair *pairs =
            tf_arena_alloc(input->arena, maps[i].count * sizeof *pairs + 1);

        if (matches == NULL || pairs == NULL) {
            return -ENOMEM;
        }
        for (size_t k = 0; k < maps[i].count; k++) {
            const struct tf_pair *pair = &maps[i].items[k];

            if (!is_field_name(pair->key.text)) {
                rc = tf_error_add(err, &pair->key.at,
                                  "matches: \"%s\" is no journal field; names are capitals, digits "
                                  "and _, such as _SYSTEMD_UNIT",
                                  pair->key.text);
            }
            pairs[k] = (struct tf_journal_pair){pair->key.text, pair->value.text};
        }
        if (maps[i].count == 0) {
            rc = tf_error_add(err, &tables->at,
                              "matches: a map is empty and would match all; "
                              "leave it out, or name a field");
        }
        matches[i] = (struct tf_journal_match){pairs, maps[i].count};
    }
    input->select.matches = matches;
    input->select.match_count = tables->count;
    return rc;
}

static int read_start(struct tf_journald *input, struct tf_error *err)
{
    static const char *const words[] = {"oldest", "newest", "boot"};
    const struct tf_text *start = &input->options->start_at;

    for (size_t i = 0; i < TF_COUNT(words); i++) {
        if (start->text != NULL && strcmp(start->text, words[i]) == 0) {
            input->start_at = (enum tf_journal_start)i;
            return 0;
        }
    }
    input->start_at = TF_START_TIME;
    if (start->text != NULL && tf_time_parse(tf_slice_text(start->text), &input->start_ns) == 0 &&
        input->start_ns >= 0) {
        return 0;
    }
    return tf_error_add(err, &start->at,
                        "start_at \"%s\" is no beginning; write oldest, newest, boot or a time "
                        "such as 2026-11-23T10:15:00Z",
                        start->text == NULL ? "" : start->text);
}

int tf_journald_select(struct tf_journald *input, struct tf_error *err)
{
    const struct tf_journald_options *options = input->options;
    struct tf_journal_select *select = &input->select;
    int rc = 0, memory = 0, other;

    select->units = copy_texts(input, &options->units, &select->unit_count, &memory);
    select->exclude_units =
        copy_texts(input, &options->exclude_units, &select->exclude_unit_count, &memory);
    select->identifiers =
        copy_texts(input, &options->identifiers, &select->identifier_count, &memory);
    select->invocation_id = getenv("INVOCATION_ID"); /* systemd.exec(5): set for each service */
    other = check_units(&options->units, err);
    rc = rc == 0 ? other : rc;
    other = check_units(&options->exclude_units, err);
    rc = rc == 0 ? other : rc;
    other = read_priority(input, err);
    rc = rc == 0 ? other : rc;
    other = read_matches(input, err);
    rc = rc == 0 ? other : rc;
    other = read_start(input, err);
    rc = rc == 0 ? other : rc;
    return memory < 0 ? memory : rc;
}

/* ---- as arguments --------------------------------------------------------------------------- */

/* taffrail-journal takes 1024 terms at most. What is longer is left to the decoders, which decide
 * in any case. */
#define UNITS_TOLD_MAX       32u /* of 14 terms each */
#define IDENTIFIERS_TOLD_MAX 128u
#define PAIRS_TOLD_MAX       128u /* and as many joiners, at most */

static bool are_exact(const char *const *texts, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (strpbrk(texts[i], "*?") != NULL) {
            return false;
        }
    }
    return count > 0;
}

/* What the journal says of one unit, as select has it; terms of taffrail-journal. */
static void add_unit(const char *unit, struct tf_child_args *args)
{
    tf_child_args_add(args, "--match=_SYSTEMD_UNIT=%s", unit);
    tf_child_args_add(args, "--or");
    tf_child_args_add(args, "--match=_SYSTEMD_USER_UNIT=%s", unit);
    tf_child_args_add(args, "--or");
    tf_child_args_add(args, "--match=UNIT=%s", unit);
    tf_child_args_add(args, "--match=_PID=1");
    tf_child_args_add(args, "--or");
    tf_child_args_add(args, "--match=OBJECT_SYSTEMD_UNIT=%s", unit);
    tf_child_args_add(args, "--match=_UID=0");
    tf_child_args_add(args, "--or");
    tf_child_args_add(args, "--match=COREDUMP_UNIT=%s", unit);
    tf_child_args_add(args, "--match=_UID=0");
    tf_child_args_add(args, "--match=MESSAGE_ID=" TF_JOURNAL_COREDUMP);
}

static bool are_told(const struct tf_journal_select *select)
{
    size_t pairs = 0;

    for (size_t i = 0; i < select->match_count; i++) {
        pairs += select->matches[i].count;
    }
    return pairs <= PAIRS_TOLD_MAX;
}

static void add_reader_terms(const struct tf_journal_select *select, struct tf_child_args *args)
{
    if (select->unit_count <= UNITS_TOLD_MAX && are_exact(select->units, select->unit_count)) {
        for (size_t i = 0; i < select->unit_count; i++) {
            if (i > 0) {
                tf_child_args_add(args, "--or");
            }
            add_unit(select->units[i], args);
        }
        tf_child_args_add(args, "--and");
    }
    if (select->identifier_count <= IDENTIFIERS_TOLD_MAX &&
        are_exact(select->identifiers, select->identifier_count)) {
        for (size_t i = 0; i < select->identifier_count; i++) {
            tf_child_args_add(args, "--match=SYSLOG_IDENTIFIER=%s", select->identifiers[i]);
        }
        tf_child_args_add(args, "--and");
    }
    for (size_t i = 0; are_told(select) && i < select->match_count; i++) {
        if (i > 0) {
            tf_child_args_add(args, "--or");
        }
        for (size_t k = 0; k < select->matches[i].count; k++) {
            tf_child_args_add(args, "--match=%s=%s", select->matches[i].pairs[k].name,
                              select->matches[i].pairs[k].value);
        }
    }
    if (select->priority_max >= 0) {
        tf_child_args_add(args, "--priority=%d", select->priority_max);
    }
}

/* journalctl(1) knows less: a match of one map after the other, `+` between. Units and identifiers
 * are left to the decoders: what `-u` finds grows with the units that exist when it starts. */
static void add_journalctl_terms(const struct tf_journal_select *select, struct tf_child_args *args)
{
    for (size_t i = 0; i < select->match_count; i++) {
        if (i > 0) {
            tf_child_args_add(args, "+");
        }
        for (size_t k = 0; k < select->matches[i].count; k++) {
            tf_child_args_add(args, "%s=%s", select->matches[i].pairs[k].name,
                              select->matches[i].pairs[k].value);
        }
    }
}

void tf_journald_select_args(const struct tf_journald *input, bool is_journalctl,
                             struct tf_child_args *args)
{
    if (is_journalctl) {
        add_journalctl_terms(&input->select, args);
    } else {
        add_reader_terms(&input->select, args);
    }
}
