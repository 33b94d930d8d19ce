/*
 * derive.c - a walk over a regex that keeps sets of literals.
 *
 * Of each part of the regex it knows:
 *
 *     length  the least and the most bytes of what it matches
 *     exact   all texts it may match, when they are few and short
 *     head    texts one of which begins whatever it matches
 *     best    texts one of which stands in whatever it matches; where, when that is fixed
 *
 * Exact sets are concatenated in a sequence until a part is not exact, or the set grows too large:
 * that cuts, and what came to be is a candidate. A choice unites the sets of all its branches, or
 * has none. A part that may be left out gives nothing, but when it is exact: then the empty text
 * joins its set. Small classes (CLASS_MAX) and repeats (POWER_MAX) are written out. Assertions
 * match the empty text; that they demand more is not used. Texts under (?i) are kept in lower case,
 * and a set with one such is so as a whole.
 *
 * A set may be larger than the truth, never smaller. Of what is not known here, nothing is derived:
 * verbs, \Q, recursion, conditions, (?x), \K, Unicode properties.
 */
#include "derive.h"

#include <ctype.h>
#include <string.h>

#define CLASS_MAX  8u
#define POWER_MAX  4u
#define LENGTH_MAX 100000u /* more counts as that */
#define REPEAT_MAX 65535u  /* PCRE2's own bound */
#define GOOD_BYTES 6u      /* a longer literal is not better by its length */

struct set {
    char texts[TF_REDACT_DERIVED_MAX][TF_REDACT_DERIVED_BYTES];
    uint8_t sizes[TF_REDACT_DERIVED_MAX];
    size_t count; /* 0: there is none */
    bool fold;
};

struct found {
    struct set set;
    bool is_fixed;
    size_t lead;
};

struct part {
    size_t min, max;
    bool is_exact;
    struct set exact;
    struct set head;
    struct found best;
};

struct walk {
    const char *at;
    bool fold, failed;
    unsigned depth;
};

/* A sequence as it grows: run is what it ends with, exactly, from run_lead on. */
struct sequence {
    struct part all; /* without exact */
    struct set run;
    bool is_cut, run_fixed;
    size_t run_lead;
};

static const struct set empty_text = {.count = 1};

static void walk_choice(struct walk *walk, struct part *out);

/* ---- sets ----------------------------------------------------------------------------------- */

static size_t least_size(const struct set *set)
{
    size_t least = set->count > 0 ? SIZE_MAX : 0;

    for (size_t i = 0; i < set->count; i++) {
        least = set->sizes[i] < least ? set->sizes[i] : least;
    }
    return least;
}

static void make_folded(struct set *set)
{
    set->fold = true;
    for (size_t i = 0; i < set->count; i++) {
        for (size_t j = 0; j < set->sizes[i]; j++) {
            set->texts[i][j] = (char)tolower((unsigned char)set->texts[i][j]);
        }
    }
}

/* False: it is full. */
static bool add_text(struct set *set, const char *text, size_t size)
{
    for (size_t i = 0; i < set->count; i++) {
        if (set->sizes[i] == size && memcmp(set->texts[i], text, size) == 0) {
            return true;
        }
    }
    if (set->count == TF_REDACT_DERIVED_MAX || size > TF_REDACT_DERIVED_BYTES) {
        return false;
    }
    memcpy(set->texts[set->count], text, size);
    set->sizes[set->count++] = (uint8_t)size;
    return true;
}

/* Each text of a before each of b. False, and nothing changed, when that is too much. */
static bool append_set(struct set *a, const struct set *b)
{
    struct set out = {.fold = a->fold || b->fold};
    char text[2 * TF_REDACT_DERIVED_BYTES];

    for (size_t i = 0; i < a->count; i++) {
        for (size_t j = 0; j < b->count; j++) {
            memcpy(text, a->texts[i], a->sizes[i]);
            memcpy(text + a->sizes[i], b->texts[j], b->sizes[j]);
            if (!add_text(&out, text, (size_t)a->sizes[i] + b->sizes[j])) {
                return false;
            }
        }
    }
    if (out.fold) {
        make_folded(&out);
    }
    *a = out;
    return true;
}

/* Where one has none, or both are too many, there is none. */
static void unite_sets(struct set *a, const struct set *b)
{
    bool fits = a->count > 0 && b->count > 0;

    for (size_t i = 0; fits && i < b->count; i++) {
        fits = add_text(a, b->texts[i], b->sizes[i]);
    }
    if (!fits) {
        a->count = 0;
    } else if (a->fold || b->fold) {
        make_folded(a);
    }
}

static bool is_better(const struct found *a, const struct found *b)
{
    size_t a_size = least_size(&a->set), b_size = least_size(&b->set);
    size_t a_good = a_size < GOOD_BYTES ? a_size : GOOD_BYTES;
    size_t b_good = b_size < GOOD_BYTES ? b_size : GOOD_BYTES;

    if (a_good != b_good) {
        return a_good > b_good;
    }
    if (a->is_fixed != b->is_fixed) {
        return a->is_fixed;
    }
    return a_size != b_size ? a_size > b_size : a->set.count < b->set.count;
}

static void offer(struct found *best, const struct set *set, bool is_fixed, size_t lead)
{
    struct found candidate = {.set = *set, .is_fixed = is_fixed, .lead = lead};

    if (set->count > 0 && is_better(&candidate, best)) {
        *best = candidate;
    }
}

static size_t bounded(size_t length)
{
    return length < LENGTH_MAX ? length : LENGTH_MAX;
}

/* ---- parts ---------------------------------------------------------------------------------- */

/* What is known when only the length is. */
static void be_unknown(struct part *part, size_t min, size_t max)
{
    *part = (struct part){.min = bounded(min), .max = bounded(max)};
}

static void be_exact(struct part *part, const struct set *set)
{
    size_t most = 0;

    for (size_t i = 0; i < set->count; i++) {
        most = set->sizes[i] > most ? set->sizes[i] : most;
    }
    *part = (struct part){.min = least_size(set), .max = most, .is_exact = true};
    part->exact = *set;
    part->head = *set;
    offer(&part->best, set, true, 0);
}

static void be_byte(struct part *part, const struct walk *walk, char byte)
{
    struct set set = {.count = 1, .sizes = {1}};

    if (byte == '\0') { /* no literal can hold it */
        be_unknown(part, 1, 1);
        return;
    }
    set.texts[0][0] = byte;
    if (walk->fold && isalpha((unsigned char)byte)) {
        make_folded(&set);
    }
    be_exact(part, &set);
}

/* The texts of n in a row, as far as they fit; false when they did not. */
static bool power(const struct set *set, size_t n, struct set *out)
{
    bool fits = n <= POWER_MAX;

    *out = empty_text;
    for (size_t i = 0; i < n && i < POWER_MAX; i++) {
        if (!append_set(out, set)) {
            return false;
        }
    }
    return fits;
}

static void repeat(struct part *part, size_t least, size_t most)
{
    struct part once = *part;
    struct set out;
    bool is_whole;

    if (least == 1 && most == 1) {
        return;
    }
    if (least == 0) {
        out = once.exact;
        if (once.is_exact && most == 1 && add_text(&out, "", 0)) {
            be_exact(part, &out);
        } else {
            be_unknown(part, 0, once.max * most);
        }
        return;
    }
    if (once.is_exact) {
        is_whole = power(&once.exact, least, &out);
        if (is_whole && least == most) {
            be_exact(part, &out);
            return;
        }
        part->is_exact = false;
        part->head = out;
        part->best = (struct found){.set = out, .is_fixed = true};
    }
    part->min = bounded(once.min * least);
    part->max = bounded(once.max * most);
}

/* ---- atoms ---------------------------------------------------------------------------------- */

static bool read_hex(struct walk *walk, char *byte)
{
    static const char digits[] = "0123456789abcdef";
    unsigned value = 0;

    for (size_t i = 0; i < 2; i++) {
        char digit = (char)tolower((unsigned char)*walk->at);
        const char *found = digit != '\0' ? strchr(digits, digit) : NULL;

        if (found == NULL) {
            return false;
        }
        value = value * 16 + (unsigned)(found - digits);
        walk->at++;
    }
    *byte = (char)value;
    return true;
}

/* What an escape may be, in a class or not. at is behind the letter. */
enum escape { ESCAPE_BYTE, ESCAPE_CLASS, ESCAPE_OTHER };

static enum escape read_escape(struct walk *walk, char *byte)
{
    static const char letters[] = "nrtfae", bytes[] = "\n\r\t\f\a\x1b";
    char letter = *walk->at;
    const char *found;

    if (letter == '\0') {
        walk->failed = true;
        return ESCAPE_OTHER;
    }
    walk->at++;
    found = strchr(letters, letter);
    *byte = found != NULL ? bytes[found - letters] : letter;
    if (found != NULL || !isalnum((unsigned char)letter)) {
        return ESCAPE_BYTE;
    }
    if (letter == 'x') {
        walk->failed |= !read_hex(walk, byte);
        return ESCAPE_BYTE;
    }
    return strchr("dDwWsShHvV", letter) != NULL ? ESCAPE_CLASS : ESCAPE_OTHER;
}

static void walk_escape(struct walk *walk, struct part *out)
{
    char byte = '\0';
    enum escape kind = read_escape(walk, &byte);

    if (kind == ESCAPE_BYTE) {
        be_byte(out, walk, byte);
    } else if (kind == ESCAPE_CLASS || byte == 'N') {
        be_unknown(out, 1, 1);
    } else if (byte == 'R') {
        be_unknown(out, 1, 2);
    } else if (byte != '\0' && strchr("bBAzZG", byte) != NULL) {
        be_exact(out, &empty_text);
    } else if (byte >= '1' && byte <= '9' && !isdigit((unsigned char)*walk->at)) {
        be_unknown(out, 0, LENGTH_MAX); /* a backreference */
    } else {
        walk->failed = true;
    }
}

/* A class being read. */
struct members {
    bool has[256];
    bool is_large; /* it is not worth while to list them */
};

/* One byte of a class, or the end of a range; false: it was something else. */
static bool read_member(struct walk *walk, struct members *members, char *byte)
{
    enum escape kind;

    if (walk->at[0] == '[' && (walk->at[1] == ':' || walk->at[1] == '.' || walk->at[1] == '=')) {
        const char *end = strstr(walk->at + 2, ":]");

        walk->failed |= end == NULL || walk->at[1] != ':';
        walk->at = end != NULL ? end + 2 : walk->at + 1;
        members->is_large = true;
        return false;
    }
    *byte = *walk->at++;
    if (*byte != '\\') {
        return true;
    }
    kind = read_escape(walk, byte);
    if (kind == ESCAPE_OTHER && *byte == 'b') {
        *byte = '\b';
        kind = ESCAPE_BYTE;
    }
    walk->failed |= kind == ESCAPE_OTHER;
    members->is_large |= kind == ESCAPE_CLASS;
    return kind == ESCAPE_BYTE;
}

static void read_members(struct walk *walk, struct members *members)
{
    bool is_first = true;

    for (; !walk->failed && (*walk->at != ']' || is_first); is_first = false) {
        char from = '\0', to;

        if (*walk->at == '\0') {
            walk->failed = true;
            return;
        }
        if (!read_member(walk, members, &from)) {
            continue;
        }
        to = from;
        if (walk->at[0] == '-' && walk->at[1] != ']' && walk->at[1] != '\0') {
            walk->at++;
            members->is_large |= !read_member(walk, members, &to);
        }
        for (unsigned byte = (uint8_t)from; byte <= (uint8_t)to; byte++) {
            members->has[byte] = true;
        }
    }
    walk->at += *walk->at == ']' ? 1 : 0;
}

static void walk_class(struct walk *walk, struct part *out)
{
    struct members members = {.is_large = false};
    struct set set = {.fold = walk->fold};

    if (*walk->at == '^') {
        members.is_large = true;
        walk->at++;
    }
    read_members(walk, &members);
    members.is_large |= members.has[0];
    for (unsigned byte = 1; byte < 256 && !members.is_large; byte++) {
        char text = walk->fold ? (char)tolower((int)byte) : (char)byte;

        if (members.has[byte]) {
            (void)add_text(&set, &text, 1);
            members.is_large = set.count > CLASS_MAX;
        }
    }
    if (members.is_large || set.count == 0) {
        be_unknown(out, 1, 1);
    } else {
        be_exact(out, &set);
    }
}

/* ---- groups --------------------------------------------------------------------------------- */

/* Behind "(?": letters that switch options, then `)` or `:`. True for `)`: there is no group. */
static bool read_options(struct walk *walk, bool *fold)
{
    bool to = true;

    for (; *walk->at != '\0' && strchr("ims-", *walk->at) != NULL; walk->at++) {
        if (*walk->at == '-') {
            to = false;
        } else if (*walk->at == 'i') {
            *fold = to;
        }
    }
    if (*walk->at != ')' && *walk->at != ':') {
        walk->failed = true;
        return true;
    }
    return *walk->at++ == ')';
}

/* Steps over the name of a group, which ends with `end`. */
static void skip_name(struct walk *walk, char end)
{
    const char *stop = strchr(walk->at, end);

    walk->failed |= stop == NULL;
    walk->at = stop != NULL ? stop + 1 : walk->at;
}

/* What opens a group behind "(?". */
enum opening { OPENS_GROUP, OPENS_ASSERTION, OPENS_NOTHING };

static enum opening read_opening(struct walk *walk, bool *fold)
{
    const char *at = walk->at;

    if (at[0] == ':' || at[0] == '|' || at[0] == '>') {
        walk->at++;
        return OPENS_GROUP;
    }
    if (at[0] == '=' || at[0] == '!') {
        walk->at++;
        return OPENS_ASSERTION;
    }
    if (at[0] == '<' && (at[1] == '=' || at[1] == '!')) {
        walk->at += 2;
        return OPENS_ASSERTION;
    }
    if (at[0] == '<' || at[0] == '\'' || (at[0] == 'P' && at[1] == '<')) {
        walk->at += at[0] == 'P' ? 2 : 1;
        skip_name(walk, at[0] == '\'' ? '\'' : '>');
        return OPENS_GROUP;
    }
    if (at[0] == '#') {
        skip_name(walk, ')');
        return OPENS_NOTHING;
    }
    return read_options(walk, fold) ? OPENS_NOTHING : OPENS_GROUP;
}

/* at is behind the bracket. False: it is no part, but a comment or switches options. */
static bool walk_group(struct walk *walk, struct part *out)
{
    bool before = walk->fold, fold = before;
    enum opening opening = OPENS_GROUP;

    walk->failed |= *walk->at == '*' || ++walk->depth > TF_REDACT_DERIVED_DEPTH_MAX;
    if (*walk->at == '?') {
        walk->at++;
        opening = read_opening(walk, &fold);
    }
    walk->fold = fold;
    if (opening == OPENS_NOTHING || walk->failed) {
        walk->depth--;
        return false;
    }
    walk_choice(walk, out);
    walk->failed |= *walk->at != ')';
    walk->at += *walk->at == ')' ? 1 : 0;
    walk->fold = before;
    walk->depth--;
    if (opening == OPENS_ASSERTION) {
        be_exact(out, &empty_text);
    }
    return true;
}

/* One atom; false: none that counts. */
static bool walk_atom(struct walk *walk, struct part *out)
{
    char byte = *walk->at++;

    switch (byte) {
    case '(':
        return walk_group(walk, out);
    case '[':
        walk_class(walk, out);
        return true;
    case '\\':
        walk_escape(walk, out);
        return true;
    case '.':
        be_unknown(out, 1, 1);
        return true;
    case '^':
    case '$':
        be_exact(out, &empty_text);
        return true;
    case '*':
    case '+':
    case '?':
        walk->failed = true;
        return false;
    default:
        be_byte(out, walk, byte);
        return true;
    }
}

/* ---- repeats -------------------------------------------------------------------------------- */

static size_t read_number(struct walk *walk)
{
    size_t number = 0;

    for (; isdigit((unsigned char)*walk->at); walk->at++) {
        number = number * 10 + (size_t)(*walk->at - '0');
        number = number < REPEAT_MAX ? number : REPEAT_MAX;
    }
    return number;
}

/* {n}, {n,} and {n,m}; a bracket before anything else is itself. False: there is none. */
static bool read_braces(struct walk *walk, size_t *least, size_t *most)
{
    if (!isdigit((unsigned char)walk->at[1])) {
        walk->failed |= walk->at[1] == ',' || walk->at[1] == ' '; /* a repeat for newer PCRE2 */
        return false;
    }
    walk->at++;
    *least = *most = read_number(walk);
    if (*walk->at == ',') {
        walk->at++;
        *most = isdigit((unsigned char)*walk->at) ? read_number(walk) : LENGTH_MAX;
    }
    walk->failed |= *walk->at != '}' || *most < *least;
    walk->at += *walk->at == '}' ? 1 : 0;
    return true;
}

static void walk_repeat(struct walk *walk, struct part *part)
{
    size_t least = 1, most = 1;
    char byte = *walk->at;

    if (byte == '{') {
        if (!read_braces(walk, &least, &most)) {
            return;
        }
    } else if (byte != '\0' && strchr("?*+", byte) != NULL) {
        least = byte == '+' ? 1 : 0;
        most = byte == '?' ? 1 : LENGTH_MAX;
        walk->at++;
    } else {
        return;
    }
    walk->at += *walk->at == '?' || *walk->at == '+' ? 1 : 0; /* lazy, possessive: all the same */
    repeat(part, least, most);
}

/* ---- sequences and choices ------------------------------------------------------------------ */

/* Ends the run; next, which comes behind it, may lengthen it by its head. */
static void cut(struct sequence *sequence, const struct part *next)
{
    struct set run = sequence->run;

    if (next != NULL && next->head.count > 0) {
        (void)append_set(&run, &next->head);
    }
    if (!sequence->is_cut) {
        sequence->all.head = run;
    }
    offer(&sequence->all.best, &run, sequence->run_fixed, sequence->run_lead);
    sequence->is_cut = true;
}

static void begin_run(struct sequence *sequence, const struct set *run)
{
    sequence->run = *run;
    sequence->run_fixed =
        sequence->all.min == sequence->all.max && sequence->all.max <= TF_REDACT_DERIVED_LEAD_MAX;
    sequence->run_lead = sequence->all.min;
}

static void append_part(struct sequence *sequence, const struct part *part)
{
    struct part *all = &sequence->all;
    bool is_fixed = all->min == all->max && part->best.is_fixed;

    if (part->is_exact && append_set(&sequence->run, &part->exact)) {
        all->min = bounded(all->min + part->min);
        all->max = bounded(all->max + part->max);
        return;
    }
    cut(sequence, part);
    if (part->is_exact) {
        begin_run(sequence, &part->exact);
    } else {
        offer(&all->best, &part->best.set,
              is_fixed && all->min + part->best.lead <= TF_REDACT_DERIVED_LEAD_MAX,
              all->min + part->best.lead);
    }
    all->min = bounded(all->min + part->min);
    all->max = bounded(all->max + part->max);
    if (!part->is_exact) {
        begin_run(sequence, &empty_text);
    }
}

static void walk_sequence(struct walk *walk, struct part *out)
{
    struct sequence sequence = {.run = empty_text, .run_fixed = true};

    while (!walk->failed && *walk->at != '\0' && *walk->at != '|' && *walk->at != ')') {
        struct part part = {.min = 0};

        if (walk_atom(walk, &part)) {
            walk_repeat(walk, &part);
            append_part(&sequence, &part);
        }
    }
    if (sequence.is_cut) {
        cut(&sequence, NULL);
        *out = sequence.all;
    } else {
        be_exact(out, &sequence.run);
    }
}

static void unite_parts(struct part *a, const struct part *b)
{
    struct found *best = &a->best;

    best->is_fixed = best->is_fixed && b->best.is_fixed && best->lead == b->best.lead;
    unite_sets(&best->set, &b->best.set);
    unite_sets(&a->head, &b->head);
    unite_sets(&a->exact, &b->exact);
    a->is_exact = a->is_exact && b->is_exact && a->exact.count > 0;
    a->min = b->min < a->min ? b->min : a->min;
    a->max = b->max > a->max ? b->max : a->max;
    if (a->is_exact) {
        a->best = (struct found){.set = a->exact, .is_fixed = true};
    }
}

static void walk_choice(struct walk *walk, struct part *out)
{
    walk_sequence(walk, out);
    while (!walk->failed && *walk->at == '|') {
        struct part branch;

        walk->at++;
        walk_sequence(walk, &branch);
        unite_parts(out, &branch);
    }
}

/* ---- the whole ------------------------------------------------------------------------------ */

/* True when another text of the set begins this one: then it need not be looked for. */
static bool is_implied(const struct set *set, size_t index)
{
    bool is = false;

    for (size_t i = 0; i < set->count; i++) {
        is |= i != index && set->sizes[i] < set->sizes[index] &&
              memcmp(set->texts[i], set->texts[index], set->sizes[i]) == 0;
    }
    return is;
}

void tf_redact_derive(const char *regex, struct tf_redact_derived *out)
{
    struct walk walk = {.at = regex};
    struct part all;
    struct found *best = &all.best;

    *out = (struct tf_redact_derived){.count = 0};
    walk_choice(&walk, &all);
    if (walk.failed || *walk.at != '\0') {
        return;
    }
    offer(best, &all.head, true, 0);
    if (least_size(&best->set) < TF_REDACT_DERIVED_LEAST) {
        return;
    }
    for (size_t i = 0; i < best->set.count; i++) {
        if (!is_implied(&best->set, i)) {
            memcpy(out->texts[out->count++], best->set.texts[i], best->set.sizes[i]);
        }
    }
    out->fold = best->set.fold;
    out->is_fixed = best->is_fixed;
    out->lead = (uint8_t)(best->is_fixed ? best->lead : 0);
}
