/*
 * re2.c - reads what Go's regexp reads (package regexp/syntax, with its Perl flags), writes PCRE2.
 *
 * A gitleaks regex is one of these. Most of it means the same to PCRE2; what does not is written
 * otherwise, and what cannot be is refused:
 *
 *     here                        there
 *     {  that is no repeat        \{    so that no fragment, {{name}}, comes to be
 *     \Q…\E                       each character, escaped
 *     \v  \12  \x{41}             \x0b  \x0a  A
 *     é   \x{e9}                  \xc3\xa9, as a group where it is repeated
 *     [é-ü…]                      [\xc2-\xf4][\x80-\xbf]{1,3} or the rest: any beyond ASCII
 *     [[a]  [\w-.]                [\[a]  [\-.0-9A-Z_a-z]
 *     (?i)\p{Lu}                  \p{L&}, letters that have a case
 *     (?U)                        repeats turned lazy, and lazy ones greedy
 *     (…) that is no secret       (?:…); RE2 has no references back
 *     a++  a**  {1001}  (?=…)     refused, as there
 *
 * A character is a byte elsewhere: `.` and [^a] take a character beyond ASCII as several. What else
 * differs is not seen in logs: \s takes a vertical tab too, (?i) folds ASCII only, (?m)^ does not
 * match behind a newline that ends the text. Depth is bounded; size is the caller's matter.
 */
#include "re2.h"

#include <ctype.h>
#include <errno.h>

#include "re2_match.h"
#include "taffrail/config.h"

#define SET_WORDS 8u

struct parser {
    const char *start, *at;
    void *arena;
    struct tf_redact_re2 *out;
    struct tf_redact_re2_error *error;
    unsigned depth;
    bool is_ungreedy, is_folded, is_quoted; /* (?U), (?i), \Q */
    bool failed, no_memory;
};

/* A class being read. */
struct members {
    uint32_t set[SET_WORDS]; /* ASCII; all beyond it, or nothing */
    bool is_wide;            /* some beyond ASCII */
    bool is_alike;           /* PCRE2 reads it as it is written */
    bool has_unicode;
};

static struct tf_redact_re2_node *parse_choice(struct parser *parser);

/* ---- what all share ------------------------------------------------------------------------- */

static void fail(struct parser *parser, const char *at, const char *what)
{
    if (!parser->failed) {
        parser->failed = true;
        *parser->error =
            (struct tf_redact_re2_error){.at = (size_t)(at - parser->start), .what = what};
    }
}

static void *allocate(struct parser *parser, size_t size)
{
    void *memory = tf_arena_alloc(parser->arena, size);

    parser->no_memory |= memory == NULL;
    parser->failed |= memory == NULL;
    return memory;
}

static struct tf_redact_re2_node *make_node(struct parser *parser, enum tf_redact_re2_kind kind)
{
    struct tf_redact_re2_node *node = allocate(parser, sizeof *node);

    if (node != NULL) {
        node->kind = kind;
    }
    return node;
}

static bool starts(const struct parser *parser, const char *text)
{
    return strncmp(parser->at, text, strlen(text)) == 0;
}

static void add_range(uint32_t *set, unsigned from, unsigned to)
{
    for (unsigned byte = from; byte <= to; byte++) {
        set[byte / 32] |= 1u << byte % 32;
    }
}

/* ---- characters ----------------------------------------------------------------------------- */

/* One character of the regex, as its code. */
static uint32_t read_char(struct parser *parser)
{
    uint8_t lead = (uint8_t)*parser->at;
    size_t size = lead < 0x80 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
    uint32_t code = lead < 0x80 ? lead : lead & (0x7fu >> size);

    if (!tf_utf8_valid(parser->at, strnlen(parser->at, size))) {
        fail(parser, parser->at, "this is not UTF-8");
        size = 1;
    }
    for (size_t i = 1; i < size; i++) {
        code = code << 6 | ((uint8_t)parser->at[i] & 0x3f);
    }
    parser->at += size;
    return code;
}

static unsigned hex_value(char digit)
{
    return isdigit((unsigned char)digit) ? (unsigned)(digit - '0')
                                         : (unsigned)((digit | 0x20) - 'a') + 10;
}

/* Behind \x: two digits, or any in braces. */
static uint32_t read_hex(struct parser *parser)
{
    bool has_braces = *parser->at == '{';
    size_t digits = 0, most = has_braces ? 8 : 2;
    uint32_t code = 0;

    parser->at += has_braces ? 1 : 0;
    for (; digits < most && isxdigit((unsigned char)*parser->at); digits++) {
        code = code << 4 | hex_value(*parser->at++);
    }
    if (digits < (has_braces ? 1u : 2u) || (has_braces && *parser->at != '}') || code > 0x10ffff) {
        fail(parser, parser->at, "\\x takes two hexadecimal digits, or a character's in braces");
        return 0;
    }
    parser->at += has_braces ? 1 : 0;
    return code;
}

/* Of an escape for a character, which *at is behind the backslash of. */
static uint32_t read_escape(struct parser *parser)
{
    static const char letters[] = "afnrtv", bytes[] = "\a\f\n\r\t\v";
    char letter = *parser->at;
    const char *found = letter != '\0' ? strchr(letters, letter) : NULL;
    uint32_t code = 0;

    if (found != NULL) {
        parser->at++;
        return (uint8_t)bytes[found - letters];
    }
    if (letter == 'x') {
        parser->at++;
        return read_hex(parser);
    }
    if (letter == '0' ||
        (letter >= '1' && letter <= '7' && parser->at[1] >= '0' && parser->at[1] <= '7')) {
        for (size_t i = 0; i < 3 && *parser->at >= '0' && *parser->at <= '7'; i++) {
            code = code * 8 + (uint32_t)(*parser->at++ - '0');
        }
        return code;
    }
    if (ispunct((unsigned char)letter) || letter == ' ' || iscntrl((unsigned char)letter)) {
        if (letter != '\0') {
            parser->at++;
            return (uint8_t)letter;
        }
    }
    fail(parser, parser->at, "RE2 has no such escape");
    return 0;
}

static size_t encode(uint32_t code, char *out)
{
    size_t size = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;

    if (size == 1) {
        out[0] = (char)code;
        return size;
    }
    for (size_t i = size - 1; i > 0; i--) {
        out[i] = (char)(0x80 | (code & 0x3f));
        code >>= 6;
    }
    out[0] = (char)((0xf00u >> size & 0xf0u) | code);
    return size;
}

static struct tf_redact_re2_node *make_bytes(struct parser *parser, uint32_t code)
{
    struct tf_redact_re2_node *node = make_node(parser, TF_REDACT_RE2_BYTES);
    char *bytes = allocate(parser, 4);

    if (node == NULL || bytes == NULL) {
        return NULL;
    }
    node->text = tf_slice(bytes, encode(code, bytes));
    return node;
}

/* ---- classes -------------------------------------------------------------------------------- */

static bool in_named(const char *name, size_t size, int byte)
{
    static const struct {
        const char *name;
        int (*has)(int byte);
    } classes[] = {{"alnum", isalnum}, {"alpha", isalpha}, {"blank", isblank},
                   {"cntrl", iscntrl}, {"digit", isdigit}, {"graph", isgraph},
                   {"lower", islower}, {"print", isprint}, {"punct", ispunct},
                   {"space", isspace}, {"upper", isupper}, {"xdigit", isxdigit}};

    for (size_t i = 0; i < TF_COUNT(classes); i++) {
        if (strlen(classes[i].name) == size && memcmp(classes[i].name, name, size) == 0) {
            return classes[i].has(byte) != 0;
        }
    }
    return (size == 4 && memcmp(name, "word", 4) == 0 && (isalnum(byte) || byte == '_')) ||
           (size == 5 && memcmp(name, "ascii", 5) == 0);
}

/* Adds what a name stands for, or all the rest. False: there is no such name. */
static bool add_named(uint32_t *set, const char *name, size_t size, bool is_negated)
{
    bool has_any = false;

    for (unsigned byte = 0; byte < 128; byte++) {
        bool is_in = in_named(name, size, (int)byte);

        has_any |= is_in;
        if (is_in != is_negated) {
            add_range(set, byte, byte);
        }
    }
    if (is_negated) {
        add_range(set, 128, 255);
    }
    return has_any;
}

/* \d, \s, \w and their opposites, at behind the backslash. False: it is something else. */
static bool read_shorthand(struct parser *parser, uint32_t *set)
{
    char letter = *parser->at, low = (char)(letter | 0x20);
    bool is_negated = letter != low;

    if (low != 'd' && low != 's' && low != 'w') {
        return false;
    }
    parser->at++;
    return low == 'd'   ? add_named(set, "digit", 5, is_negated)
           : low == 's' ? add_named(set, "space", 5, is_negated)
                        : add_named(set, "word", 4, is_negated);
}

/* \pL, \p{Greek}, \P…, at behind the backslash. False: it is something else. */
static bool read_unicode(struct parser *parser)
{
    const char *end = parser->at + 1;

    if (*parser->at != 'p' && *parser->at != 'P') {
        return false;
    }
    if (*end == '{') {
        end += end[1] == '^' ? 2 : 1;
        end += strspn(end, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_");
    }
    if (*end != '}' && !isalpha((unsigned char)*end)) {
        fail(parser, parser->at, "\\p takes a letter, or a name in braces");
        return true;
    }
    parser->at = end + 1;
    parser->out->has_unicode = true;
    return true;
}

/* Whether what was read from there is \p{Lu} or the like under (?i), which PCRE2 does not fold. */
static bool is_cased(const struct parser *parser, const char *from)
{
    return parser->is_folded && parser->at - from == 6 && strncmp(from, "\\p{L", 4) == 0 &&
           strchr("ult", from[4]) != NULL;
}

/* [:alpha:], at the bracket. False: it is something else. */
static bool read_posix(struct parser *parser, struct members *members)
{
    const char *end = starts(parser, "[:") ? strstr(parser->at + 2, ":]") : NULL;
    const char *name = parser->at + 2;
    bool is_negated;

    if (end == NULL) {
        return false;
    }
    is_negated = *name == '^';
    name += is_negated ? 1 : 0;
    if (!add_named(members->set, name, (size_t)(end - name), is_negated)) {
        fail(parser, parser->at, "there is no class of this name");
    }
    parser->at = end + 2;
    return true;
}

/* A character in a class. */
static uint32_t read_member(struct parser *parser, struct members *members)
{
    const char *from = parser->at;
    uint32_t code;

    if (*from == '\\') {
        parser->at++;
        code = read_escape(parser);
    } else {
        code = read_char(parser);
    }
    /* As it is written there where it is itself, an escaped sign, or one of these. */
    if (*from == '\\' ? !ispunct((unsigned char)from[1]) && strchr("nrtfx", from[1]) == NULL
                      : code < ' ' || code == '[' || code == '{') {
        members->is_alike = false;
    }
    if (code >= 0x7f || (from[0] == '\\' && from[1] == 'x' && from[2] == '{')) {
        members->is_alike = false;
    }
    return code;
}

/* A character, or a range of them. */
static void read_range(struct parser *parser, struct members *members, bool is_first)
{
    const char *from = parser->at;
    uint32_t low = read_member(parser, members), high = low;
    bool is_range = parser->at[0] == '-' && parser->at[1] != ']' && parser->at[1] != '\0';

    if (is_range) {
        parser->at++;
        high = read_member(parser, members);
    }
    if (*from == '-' && !is_first && *parser->at != ']') {
        members->is_alike = false; /* PCRE2 takes it for a range, or refuses it */
    }
    if (high < low) {
        fail(parser, from, "the range ends before it begins");
    }
    if (low < 128) {
        add_range(members->set, low, high < 128 ? high : 127);
    }
    if (low <= 128 && high == 0x10ffff) {
        add_range(members->set, 128, 255);
    } else if (high >= 128) {
        members->is_wide = true;
    }
}

static void read_item(struct parser *parser, struct members *members, bool is_first)
{
    const char *from = parser->at;

    if (parser->at[0] == '\\') {
        parser->at++;
        if (read_shorthand(parser, members->set)) {
            return;
        }
        if (read_unicode(parser)) {
            members->has_unicode = true;
            members->is_alike &= !is_cased(parser, from);
            return;
        }
        parser->at--;
    }
    if (!read_posix(parser, members)) {
        read_range(parser, members, is_first);
    }
}

/* What is between the brackets; at is then behind them. */
static void read_members(struct parser *parser, const char *from, struct members *members)
{
    bool is_negated = *parser->at == '^';

    parser->at += is_negated ? 1 : 0;
    for (bool is_first = true; !parser->failed && (*parser->at != ']' || is_first);
         is_first = false) {
        if (*parser->at == '\0') {
            fail(parser, from, "the class has no end");
            return;
        }
        read_item(parser, members, is_first);
    }
    parser->at += parser->failed ? 0 : 1;
    parser->out->has_wide |= members->is_wide;
    if (is_negated) { /* beyond ASCII it then has all, or nothing */
        members->is_wide = false;
        for (size_t i = 0; i < SET_WORDS; i++) {
            members->set[i] = ~members->set[i];
        }
    }
}

/* at is behind the bracket. */
static struct tf_redact_re2_node *parse_class(struct parser *parser)
{
    const char *from = parser->at - 1;
    struct members members = {.is_alike = true};
    struct tf_redact_re2_node *node = make_node(parser, TF_REDACT_RE2_CLASS);
    uint32_t *set = allocate(parser, sizeof members.set), any = 0;

    if (node == NULL || set == NULL) {
        return NULL;
    }
    read_members(parser, from, &members);
    for (size_t i = 0; i < SET_WORDS; i++) {
        set[i] = members.set[i];
        any |= set[i];
    }
    node->set = set;
    node->is_wide = members.has_unicode || (members.is_wide && (set[SET_WORDS - 1] >> 31) == 0);
    if (members.is_alike) {
        node->text = tf_slice(from, (size_t)(parser->at - from));
    } else if (members.has_unicode) {
        fail(parser, from, "this class, with \\p in it, has no counterpart");
    } else if (any == 0 && !node->is_wide) {
        fail(parser, from, "the class holds nothing");
    }
    return node;
}

/* ---- groups --------------------------------------------------------------------------------- */

/* The letters of [imsU-], which at is at the first of; U is kept by the parser. */
static struct tf_slice read_flags(struct parser *parser)
{
    char *out = allocate(parser, 16);
    size_t size = 0;
    bool to = true;

    for (; out != NULL && *parser->at != '\0' && strchr("imsU-", *parser->at) != NULL;
         parser->at++) {
        if (*parser->at == 'U') {
            parser->is_ungreedy = to;
        } else if (size == 15 || (*parser->at == '-' && !to)) {
            fail(parser, parser->at, "these flags are no group of RE2");
            break;
        } else {
            parser->is_folded = *parser->at == 'i' ? to : parser->is_folded;
            out[size++] = *parser->at;
        }
        to = to && *parser->at != '-';
    }
    if (!to && size > 0 && out[size - 1] == '-') { /* only U is behind it, or nothing */
        size--;
    }
    return tf_slice(out, size);
}

/* Behind "(?": what opens a group. The node that it makes has no child yet. */
static struct tf_redact_re2_node *parse_opening(struct parser *parser)
{
    const char *from = parser->at - 2;
    bool is_named = *parser->at == '<' || starts(parser, "P<");
    struct tf_redact_re2_node *node;

    if (is_named) {
        const char *name = strchr(parser->at, '<') + 1;
        size_t size = strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                   "0123456789_");

        parser->at = name + size;
        if (size == 0 || *parser->at != '>') {
            fail(parser, from, "RE2 has no look-behind, and a name is of letters, digits and _");
            return NULL;
        }
        parser->at++;
        return make_node(parser, TF_REDACT_RE2_CAPTURE);
    }
    node = make_node(parser, TF_REDACT_RE2_GROUP);
    if (node != NULL) {
        node->text = read_flags(parser);
        if (*parser->at == ')') {
            node->kind = TF_REDACT_RE2_FLAGS;
        } else if (*parser->at != ':') {
            fail(parser, from, "RE2 has no such group; it looks neither ahead nor behind");
        }
        parser->at += *parser->at != '\0' ? 1 : 0;
    }
    return node;
}

/* at is behind the bracket. */
static struct tf_redact_re2_node *parse_group(struct parser *parser)
{
    const char *from = parser->at - 1;
    bool was_ungreedy = parser->is_ungreedy, was_folded = parser->is_folded;
    struct tf_redact_re2_node *node;

    if (++parser->depth > TF_REDACT_RE2_DEPTH_MAX) {
        fail(parser, from, "groups stand in groups more than 64 deep");
    }
    if (*parser->at == '?') {
        parser->at++;
        node = parse_opening(parser);
    } else {
        node = make_node(parser, TF_REDACT_RE2_CAPTURE);
    }
    if (parser->failed || node->kind == TF_REDACT_RE2_FLAGS) {
        parser->depth--;
        return node;
    }
    node->number = node->kind == TF_REDACT_RE2_CAPTURE ? ++parser->out->groups : 0;
    node->first = parse_choice(parser);
    if (*parser->at == ')') {
        parser->at++;
    } else {
        fail(parser, from, "the group has no end");
    }
    parser->is_ungreedy = was_ungreedy;
    parser->is_folded = was_folded;
    parser->depth--;
    return node;
}

/* ---- atoms ---------------------------------------------------------------------------------- */

static struct tf_redact_re2_node *make_written(struct parser *parser, enum tf_redact_re2_kind kind,
                                               const char *from)
{
    struct tf_redact_re2_node *node = make_node(parser, kind);

    if (node != NULL) {
        node->text = tf_slice(from, (size_t)(parser->at - from));
    }
    return node;
}

/* at is behind the backslash. */
static struct tf_redact_re2_node *parse_escape(struct parser *parser)
{
    const char *from = parser->at - 1;
    uint32_t *set = allocate(parser, SET_WORDS * sizeof *set);
    struct tf_redact_re2_node *node;

    if (set == NULL) {
        return NULL;
    }
    if (*parser->at != '\0' && strchr("AzbB", *parser->at) != NULL) {
        parser->at++;
        return make_written(parser, TF_REDACT_RE2_ASSERTION, from);
    }
    if (read_shorthand(parser, set)) {
        node = make_written(parser, TF_REDACT_RE2_CLASS, from);
        if (node != NULL) {
            node->set = set;
        }
        return node;
    }
    if (read_unicode(parser)) {
        node = make_written(parser, TF_REDACT_RE2_UNICODE, from);
        if (node != NULL && is_cased(parser, from)) {
            node->text = tf_slice_text("\\p{L&}");
        }
        return node;
    }
    return make_bytes(parser, read_escape(parser));
}

/* {n}, {n,} or {n,m} at a bracket: its end; NULL: it is no repeat. */
static const char *read_braces(const char *at, uint32_t *least, uint32_t *most)
{
    uint32_t numbers[2] = {0, TF_REDACT_RE2_ENDLESS};
    size_t count = 0, digits;

    do {
        at++;
        digits = strspn(at, "0123456789");
        if ((digits == 0 && (count == 0 || *at != '}')) || (digits > 1 && *at == '0')) {
            return NULL;
        }
        for (size_t i = 0; i < digits; i++) {
            uint32_t number = i == 0 ? 0 : numbers[count];

            numbers[count] =
                number > TF_REDACT_RE2_REPEAT_MAX ? number : number * 10 + (uint32_t)(at[i] - '0');
        }
        at += digits;
        count++;
    } while (*at == ',' && count < 2);
    *least = numbers[0];
    *most = count == 1 ? numbers[0] : numbers[1];
    return *at == '}' ? at + 1 : NULL;
}

/* What repeats, at behind it; false: nothing does. */
static bool read_repeat(struct parser *parser, uint32_t *least, uint32_t *most)
{
    char byte = *parser->at;
    const char *end = byte == '{' ? read_braces(parser->at, least, most) : NULL;

    if (byte == '*' || byte == '+' || byte == '?') {
        *least = byte == '+' ? 1 : 0;
        *most = byte == '?' ? 1 : TF_REDACT_RE2_ENDLESS;
        end = parser->at + 1;
    }
    if (end == NULL) {
        return false;
    }
    if (*least > TF_REDACT_RE2_REPEAT_MAX || *most < *least ||
        (*most > TF_REDACT_RE2_REPEAT_MAX && *most != TF_REDACT_RE2_ENDLESS)) {
        fail(parser, parser->at, "RE2 repeats 1000 times at most, and from less to more");
    }
    parser->at = end;
    return true;
}

static struct tf_redact_re2_node *parse_atom(struct parser *parser)
{
    const char *from = parser->at;
    uint32_t least, most;

    if (read_repeat(parser, &least, &most)) {
        fail(parser, from, "there is nothing before it to repeat");
        return NULL;
    }
    switch (*from) {
    case '(':
        parser->at++;
        return parse_group(parser);
    case '[':
        parser->at++;
        return parse_class(parser);
    case '\\':
        parser->at++;
        return parse_escape(parser);
    case '.':
        parser->at++;
        return make_node(parser, TF_REDACT_RE2_ANY);
    case '^':
    case '$':
        parser->at++;
        return make_written(parser, TF_REDACT_RE2_ASSERTION, from);
    default:
        return make_bytes(parser, read_char(parser));
    }
}

static struct tf_redact_re2_node *parse_repeat(struct parser *parser,
                                               struct tf_redact_re2_node *atom)
{
    const char *from = parser->at;
    uint32_t least, most;
    struct tf_redact_re2_node *node;
    bool is_marked;

    if (!read_repeat(parser, &least, &most)) {
        return atom;
    }
    node = make_node(parser, TF_REDACT_RE2_REPEAT);
    is_marked = *parser->at == '?';
    parser->at += is_marked ? 1 : 0;
    if (atom->kind == TF_REDACT_RE2_FLAGS) {
        fail(parser, from, "there is nothing before it to repeat");
    } else if (node != NULL) {
        node->first = atom;
        node->least = least;
        node->most = most;
        node->is_lazy = is_marked != parser->is_ungreedy && least != most;
        from = parser->at;
        if (read_repeat(parser, &least, &most)) {
            fail(parser, from, "RE2 takes no repeat of a repeat");
        }
    }
    return node;
}

/* ---- the tree ------------------------------------------------------------------------------- */

/* Steps over \Q and \E; true when there was one. */
static bool skip_quote(struct parser *parser)
{
    if (!starts(parser, parser->is_quoted ? "\\E" : "\\Q")) {
        return false;
    }
    parser->at += 2;
    parser->is_quoted = !parser->is_quoted;
    return true;
}

/* One atom with its repeat. NULL: it failed. */
static struct tf_redact_re2_node *parse_item(struct parser *parser)
{
    struct tf_redact_re2_node *node =
        parser->is_quoted ? make_bytes(parser, read_char(parser)) : parse_atom(parser);

    if (parser->is_quoted) {
        (void)skip_quote(parser);
    }
    return node != NULL && !parser->failed && !parser->is_quoted ? parse_repeat(parser, node)
                                                                 : node;
}

static bool ends_sequence(const struct parser *parser)
{
    char byte = *parser->at;

    return parser->failed || byte == '\0' || (!parser->is_quoted && (byte == '|' || byte == ')'));
}

static struct tf_redact_re2_node *parse_sequence(struct parser *parser)
{
    struct tf_redact_re2_node *sequence = make_node(parser, TF_REDACT_RE2_SEQUENCE), **end;

    if (sequence == NULL) {
        return NULL;
    }
    end = &sequence->first;
    while (!ends_sequence(parser)) {
        if (skip_quote(parser)) {
            continue;
        }
        *end = parse_item(parser);
        if (*end == NULL) {
            break;
        }
        end = &(*end)->next;
    }
    return sequence;
}

static struct tf_redact_re2_node *parse_choice(struct parser *parser)
{
    struct tf_redact_re2_node *branch = parse_sequence(parser), *choice;

    if (*parser->at != '|' || parser->failed) {
        return branch;
    }
    choice = make_node(parser, TF_REDACT_RE2_CHOICE);
    if (choice != NULL) {
        choice->first = branch;
    }
    while (*parser->at == '|' && !parser->failed) {
        parser->at++;
        branch->next = parse_sequence(parser);
        branch = branch->next;
    }
    return choice;
}

int tf_redact_re2_parse(const char *regex, void *arena, struct tf_redact_re2 *out,
                        struct tf_redact_re2_error *error)
{
    struct parser parser = {
        .start = regex, .at = regex, .arena = arena, .out = out, .error = error};

    *out = (struct tf_redact_re2){.root = NULL};
    out->root = parse_choice(&parser);
    if (!parser.failed && *parser.at != '\0') {
        fail(&parser, parser.at, "there is no group that ends here");
    }
    return parser.no_memory ? -ENOMEM : parser.failed ? -EINVAL : 0;
}

/* ---- the secret ----------------------------------------------------------------------------- */

/* Whether a match of a node has a secret in it. */
enum yield { NEVER, MAYBE, ALWAYS, UNCLEAR };

static enum yield choose(struct tf_redact_re2_node *node);

/* The first child that has one; one behind it, only if that is sure. */
static enum yield choose_in_sequence(struct tf_redact_re2_node *sequence)
{
    enum yield all = NEVER;

    for (struct tf_redact_re2_node *child = sequence->first; child != NULL && all != ALWAYS;
         child = child->next) {
        enum yield one = choose(child);

        if (one == UNCLEAR || (one != NEVER && all == MAYBE)) {
            return UNCLEAR;
        }
        all = one != NEVER ? one : all;
    }
    return all;
}

static enum yield choose_in_choice(struct tf_redact_re2_node *choice)
{
    size_t with = 0, sure = 0, branches = 0;

    for (struct tf_redact_re2_node *branch = choice->first; branch != NULL; branch = branch->next) {
        enum yield one = choose(branch);

        if (one == UNCLEAR) {
            return one;
        }
        with += one != NEVER ? 1 : 0;
        sure += one == ALWAYS ? 1 : 0;
        branches++;
    }
    choice->is_reset = with > 1;
    return with == 0 ? NEVER : sure == branches ? ALWAYS : MAYBE;
}

/* Whether there is a choice in it of which more than one branch has a secret. */
static bool has_reset(const struct tf_redact_re2_node *node)
{
    bool has = node->is_reset;

    for (const struct tf_redact_re2_node *child = node->first; child != NULL; child = child->next) {
        has |= has_reset(child);
    }
    return has;
}

static enum yield choose(struct tf_redact_re2_node *node)
{
    enum yield inner;

    switch (node->kind) {
    case TF_REDACT_RE2_CAPTURE:
        node->is_secret = true;
        return tf_redact_re2_least(node) > 0 ? ALWAYS : MAYBE;
    case TF_REDACT_RE2_GROUP:
        return choose(node->first);
    case TF_REDACT_RE2_SEQUENCE:
        return choose_in_sequence(node);
    case TF_REDACT_RE2_CHOICE:
        return choose_in_choice(node);
    case TF_REDACT_RE2_REPEAT:
        inner = choose(node->first);
        if (inner != NEVER && node->most > 1 && has_reset(node->first)) {
            return UNCLEAR; /* the last round's here, the first branch's there */
        }
        return inner == ALWAYS && node->least == 0 ? MAYBE : inner;
    default:
        return NEVER;
    }
}

/* Makes the group of that number the only secret; 0: none. */
static void mark(struct tf_redact_re2_node *node, unsigned number)
{
    node->is_reset = false;
    node->is_secret = node->kind == TF_REDACT_RE2_CAPTURE && node->number == number;
    for (struct tf_redact_re2_node *child = node->first; child != NULL; child = child->next) {
        mark(child, number);
    }
}

enum tf_redact_re2_secret tf_redact_re2_choose(struct tf_redact_re2 *re2, unsigned number)
{
    enum yield yield;

    mark(re2->root, number);
    if (number > 0) {
        return TF_REDACT_RE2_GROUP_1;
    }
    yield = choose(re2->root);
    if (yield == UNCLEAR) {
        mark(re2->root, 0);
    }
    return yield == NEVER     ? TF_REDACT_RE2_WHOLE
           : yield == UNCLEAR ? TF_REDACT_RE2_UNCLEAR
                              : TF_REDACT_RE2_GROUP_1;
}

/* ---- writing -------------------------------------------------------------------------------- */

static void write_node(const struct tf_redact_re2_node *node, struct tf_buf *to);

/* A byte; those of special that are no letters get a backslash. */
static void write_byte(uint8_t byte, const char *special, struct tf_buf *to)
{
    static const char letters[] = "nrtf", bytes[] = "\n\r\t\f";
    const char *found = byte != 0 ? strchr(bytes, byte) : NULL;

    if (found != NULL) {
        (void)tf_buf_printf(to, "\\%c", letters[found - bytes]);
    } else if (byte < ' ' || byte >= 0x7f) {
        (void)tf_buf_printf(to, "\\x%02x", byte);
    } else {
        (void)tf_buf_printf(to, strchr(special, byte) != NULL ? "\\%c" : "%c", byte);
    }
}

/* The bytes that are in the set, or those that are not. */
static void write_set(const struct tf_redact_re2_node *node, bool is_negated, struct tf_buf *to)
{
    static const char special[] = "\\]^-[{";

    (void)tf_buf_append_text(to, is_negated ? "[^" : "[");
    for (unsigned byte = 0; byte < 256; byte++) {
        unsigned last = byte;

        if (tf_redact_re2_has(node, (uint8_t)byte) == is_negated) {
            continue;
        }
        while (last < 255 && tf_redact_re2_has(node, (uint8_t)(last + 1)) != is_negated) {
            last++;
        }
        write_byte((uint8_t)byte, special, to);
        if (last > byte) {
            (void)tf_buf_append_text(to, last > byte + 1 ? "-" : "");
            write_byte((uint8_t)last, special, to);
        }
        byte = last;
    }
    (void)tf_buf_append_byte(to, ']');
}

static void write_class(const struct tf_redact_re2_node *node, struct tf_buf *to)
{
    unsigned count = 0;

    for (unsigned byte = 0; byte < 256; byte++) {
        count += tf_redact_re2_has(node, (uint8_t)byte) ? 1 : 0;
    }
    if (node->text.size > 0) {
        (void)tf_buf_append(to, node->text.data, node->text.size);
    } else if (node->is_wide) {
        (void)tf_buf_append_text(to, "(?:");
        if (count > 0) {
            write_set(node, false, to);
            (void)tf_buf_append_byte(to, '|');
        }
        (void)tf_buf_append_text(to, "[\\xc2-\\xf4][\\x80-\\xbf]{1,3})");
    } else {
        write_set(node, count > 128 && count < 256, to);
    }
}

/* Groups and captures, and what is in them. */
static void write_group(const struct tf_redact_re2_node *node, struct tf_buf *to)
{
    const struct tf_redact_re2_node *child = node->first;
    int size = (int)node->text.size;

    if (node->is_secret) {
        (void)tf_buf_append_byte(to, '(');
    } else if (child->is_reset) {
        (void)tf_buf_append_text(to, "(?|");
        if (size > 0) {
            (void)tf_buf_printf(to, "(?%.*s)", size, node->text.data);
        }
    } else {
        (void)tf_buf_printf(to, "(?%.*s:", size, size > 0 ? node->text.data : "");
    }
    write_node(child, to);
    (void)tf_buf_append_byte(to, ')');
}

static void write_repeat(const struct tf_redact_re2_node *node, struct tf_buf *to)
{
    const struct tf_redact_re2_node *child = node->first;
    bool is_bytes = child->kind == TF_REDACT_RE2_BYTES;
    bool needs_group = child->kind == TF_REDACT_RE2_ASSERTION ||
                       (is_bytes && (child->text.size > 1 || child->text.data[0] == '{'));

    (void)tf_buf_append_text(to, needs_group ? "(?:" : "");
    write_node(child, to);
    (void)tf_buf_append_text(to, needs_group ? ")" : "");
    if (node->most == 1 && node->least == 0) {
        (void)tf_buf_append_byte(to, '?');
    } else if (node->most == TF_REDACT_RE2_ENDLESS && node->least <= 1) {
        (void)tf_buf_append_byte(to, node->least == 0 ? '*' : '+');
    } else if (node->most == TF_REDACT_RE2_ENDLESS) {
        (void)tf_buf_printf(to, "{%u,}", node->least);
    } else if (node->most == node->least) {
        (void)tf_buf_printf(to, "{%u}", node->least);
    } else {
        (void)tf_buf_printf(to, "{%u,%u}", node->least, node->most);
    }
    (void)tf_buf_append_text(to, node->is_lazy ? "?" : "");
}

static void write_node(const struct tf_redact_re2_node *node, struct tf_buf *to)
{
    switch (node->kind) {
    case TF_REDACT_RE2_BYTES:
        for (size_t i = 0; i < node->text.size; i++) {
            write_byte((uint8_t)node->text.data[i], "\\^$.[]|()?*+{}", to);
        }
        break;
    case TF_REDACT_RE2_CLASS:
        write_class(node, to);
        break;
    case TF_REDACT_RE2_ANY:
        (void)tf_buf_append_byte(to, '.');
        break;
    case TF_REDACT_RE2_UNICODE:
    case TF_REDACT_RE2_ASSERTION:
        (void)tf_buf_append(to, node->text.data, node->text.size);
        break;
    case TF_REDACT_RE2_FLAGS:
        if (node->text.size > 0) {
            (void)tf_buf_printf(to, "(?%.*s)", (int)node->text.size, node->text.data);
        }
        break;
    case TF_REDACT_RE2_GROUP:
    case TF_REDACT_RE2_CAPTURE:
        write_group(node, to);
        break;
    case TF_REDACT_RE2_REPEAT:
        write_repeat(node, to);
        break;
    case TF_REDACT_RE2_SEQUENCE:
    case TF_REDACT_RE2_CHOICE:
        for (const struct tf_redact_re2_node *child = node->first; child != NULL;
             child = child->next) {
            write_node(child, to);
            if (node->kind == TF_REDACT_RE2_CHOICE && child->next != NULL) {
                (void)tf_buf_append_byte(to, '|');
            }
        }
        break;
    }
}

int tf_redact_re2_write(const struct tf_redact_re2 *re2, struct tf_buf *to)
{
    (void)tf_buf_append_text(to, re2->root->is_reset ? "(?|" : "");
    write_node(re2->root, to);
    (void)tf_buf_append_text(to, re2->root->is_reset ? ")" : "");
    return to->error;
}
