/*
 * journal_select.c - whether an entry is wanted.
 *
 * What matches is looked up in the entry's table, so the cost is that of the conditions, not that
 * of the fields. A unit matches by the same fields as in `journalctl -u` (systemd's
 * add_matches_for_unit): those that journald sets itself, and those of others that only PID 1 or
 * root may say.
 */
#include "journal_internal.h"

/* An entry and its bytes. */
struct looked_at {
    const struct tf_entry *entry;
    const char *bytes;
};

static bool has_glob(const char *const *globs, size_t count, struct tf_slice value)
{
    for (size_t i = 0; i < count; i++) {
        if (tf_glob_match(globs[i], value, '\0')) {
            return true;
        }
    }
    return false;
}

/* One of the values from `at` on matches one of the globs. */
static bool matches_any(struct looked_at in, uint16_t at, const char *const *globs, size_t count)
{
    for (; at != TF_ENTRY_NONE; at = in.entry->fields[at].next) {
        if (has_glob(globs, count, tf_entry_value(in.entry, in.bytes, at))) {
            return true;
        }
    }
    return false;
}

static bool has_value(struct looked_at in, uint16_t at, const char *value)
{
    for (; at != TF_ENTRY_NONE; at = in.entry->fields[at].next) {
        if (tf_slice_equal(tf_entry_value(in.entry, in.bytes, at), tf_slice_text(value))) {
            return true;
        }
    }
    return false;
}

static bool is_of_unit(struct looked_at in, const char *const *units, size_t count)
{
    const uint16_t *known = in.entry->known;

    if (matches_any(in, known[TF_NAME_SYSTEMD_UNIT], units, count) ||
        matches_any(in, known[TF_NAME_USER_UNIT], units, count)) {
        return true;
    }
    if (matches_any(in, known[TF_NAME_UNIT], units, count) &&
        has_value(in, known[TF_NAME_PID], "1")) {
        return true;
    }
    if (!has_value(in, known[TF_NAME_UID], "0")) {
        return false;
    }
    return matches_any(in, known[TF_NAME_OBJECT_UNIT], units, count) ||
           (matches_any(in, known[TF_NAME_COREDUMP_UNIT], units, count) &&
            has_value(in, known[TF_NAME_MESSAGE_ID], TF_JOURNAL_COREDUMP));
}

static bool matches_all(struct looked_at in, const struct tf_journal_match *match)
{
    for (size_t i = 0; i < match->count; i++) {
        struct tf_slice name = tf_slice_text(match->pairs[i].name);

        if (!has_value(in, tf_entry_find(in.entry, in.bytes, name), match->pairs[i].value)) {
            return false;
        }
    }
    return true;
}

static bool has_match(struct looked_at in, const struct tf_journal_select *select)
{
    for (size_t i = 0; i < select->match_count; i++) {
        if (matches_all(in, &select->matches[i])) {
            return true;
        }
    }
    return select->match_count == 0;
}

/* What is no priority is not known to be too low: such an entry is wanted. */
static bool has_priority(struct looked_at in, int priority_max)
{
    struct tf_slice value = tf_entry_known(in.entry, in.bytes, TF_NAME_PRIORITY);
    uint64_t priority;

    return priority_max < 0 || !tf_entry_digits(value, &priority) || priority > 7 ||
           priority <= (uint64_t)priority_max;
}

bool tf_entry_is_wanted(const struct tf_entry *entry, const char *bytes,
                        const struct tf_journal_select *select)
{
    const struct looked_at in = {.entry = entry, .bytes = bytes};

    if (select == NULL) {
        return true;
    }
    if (!has_priority(in, select->priority_max)) {
        return false;
    }
    if (select->unit_count > 0 && !is_of_unit(in, select->units, select->unit_count)) {
        return false;
    }
    if (select->exclude_unit_count > 0 &&
        is_of_unit(in, select->exclude_units, select->exclude_unit_count)) {
        return false;
    }
    if (select->identifier_count > 0 &&
        !matches_any(in, entry->known[TF_NAME_IDENTIFIER], select->identifiers,
                     select->identifier_count)) {
        return false;
    }
    if (select->invocation_id != NULL &&
        has_value(in, entry->known[TF_NAME_INVOCATION_ID], select->invocation_id)) {
        return false;
    }
    return has_match(in, select);
}
