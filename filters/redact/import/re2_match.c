/*
 * re2_match.c - walks over the tree of a regex (re2.h) that tell of its matches, or make one.
 *
 * What is told is true of every match, as far as it goes: assertions match the empty text, what may
 * be left out is left out, of a choice the least counts. An example is a guess: it follows the
 * tree, draws bytes from classes and branches from choices, and does not look at what is asserted.
 */
#include "re2_match.h"

#include <assert.h>
#include <ctype.h>
#include <stdlib.h>

#define LEAST_MAX   65536u /* more bytes count as so many */
#define WORD_MAX    256u   /* of a run of letters, only so many are looked at at once */
#define RECENT      12u    /* a byte that is among the last of so many is drawn again, */
#define DRAWS_MAX   6u     /* so often: for entropy */
#define ROUNDS_MORE 3u     /* of a group that repeats */
#define STEPS_MAX   16384u /* through the tree, for one example; further ones make it fail */

/* ---- runs ----------------------------------------------------------------------------------- */

/* How many bytes a match has, and how many in a row are of a kind. */
struct extent {
    size_t least;
    size_t row;
    bool is_all; /* every byte of each match is of the kind */
};

typedef bool is_kind_fn(int byte);

static bool is_any(int byte)
{
    (void)byte;
    return true;
}

static bool is_digit(int byte)
{
    return byte >= '0' && byte <= '9';
}

static bool is_token(int byte)
{
    return byte < 128 && (isalnum(byte) || (byte != 0 && strchr("+/_-", byte) != NULL));
}

static size_t bounded(size_t size)
{
    return size < LEAST_MAX ? size : LEAST_MAX;
}

static struct extent extent_of(const struct tf_redact_re2_node *node, is_kind_fn *is_kind);

/* A node that is one byte or character. */
static struct extent extent_of_atom(const struct tf_redact_re2_node *node, is_kind_fn *is_kind)
{
    struct extent out = {.least = 1, .is_all = is_kind == is_any};

    if (node->kind == TF_REDACT_RE2_BYTES) {
        out.least = node->text.size;
        out.is_all = true;
        for (size_t i = 0; i < node->text.size; i++) {
            out.is_all &= is_kind((uint8_t)node->text.data[i]);
        }
    } else if (node->kind == TF_REDACT_RE2_CLASS && !node->is_wide) {
        out.is_all = true;
        for (int byte = 0; byte < 256; byte++) {
            out.is_all &= !tf_redact_re2_has(node, (uint8_t)byte) || is_kind(byte);
        }
    }
    out.row = out.is_all ? out.least : 0;
    return out;
}

static struct extent extent_of_sequence(const struct tf_redact_re2_node *node, is_kind_fn *is_kind)
{
    struct extent all = {.is_all = true};
    size_t row = 0; /* that the children so far end with */

    for (const struct tf_redact_re2_node *child = node->first; child != NULL; child = child->next) {
        struct extent one = extent_of(child, is_kind);

        all.least = bounded(all.least + one.least);
        all.is_all &= one.is_all;
        row = one.is_all ? bounded(row + one.least) : 0;
        all.row = one.row > all.row ? one.row : all.row;
        all.row = row > all.row ? row : all.row;
    }
    return all;
}

static struct extent extent_of_choice(const struct tf_redact_re2_node *node, is_kind_fn *is_kind)
{
    struct extent all = {.least = LEAST_MAX, .row = LEAST_MAX, .is_all = true};

    for (const struct tf_redact_re2_node *child = node->first; child != NULL; child = child->next) {
        struct extent one = extent_of(child, is_kind);

        all.least = one.least < all.least ? one.least : all.least;
        all.row = one.row < all.row ? one.row : all.row;
        all.is_all &= one.is_all;
    }
    return all;
}

static struct extent extent_of(const struct tf_redact_re2_node *node, is_kind_fn *is_kind)
{
    struct extent one;

    switch (node->kind) {
    case TF_REDACT_RE2_ASSERTION:
    case TF_REDACT_RE2_FLAGS:
        return (struct extent){.is_all = true};
    case TF_REDACT_RE2_GROUP:
    case TF_REDACT_RE2_CAPTURE:
        return extent_of(node->first, is_kind);
    case TF_REDACT_RE2_REPEAT:
        one = extent_of(node->first, is_kind);
        one.least = bounded(one.least * node->least);
        one.row = one.is_all ? one.least : node->least > 0 ? one.row : 0;
        return one;
    case TF_REDACT_RE2_SEQUENCE:
        return extent_of_sequence(node, is_kind);
    case TF_REDACT_RE2_CHOICE:
        return extent_of_choice(node, is_kind);
    default:
        return extent_of_atom(node, is_kind);
    }
}

size_t tf_redact_re2_least(const struct tf_redact_re2_node *node)
{
    return extent_of(node, is_any).least;
}

size_t tf_redact_re2_run(const struct tf_redact_re2_node *node, enum tf_redact_re2_run kind)
{
    return extent_of(node, kind == TF_REDACT_RE2_DIGITS ? is_digit : is_token).row;
}

/* ---- words ---------------------------------------------------------------------------------- */

struct words {
    const char *const *items;
    size_t count;
};

static bool holds_word(const char *text, const struct words *words)
{
    bool holds = false;

    for (size_t i = 0; i < words->count && !holds; i++) {
        holds = strstr(text, words->items[i]) != NULL;
    }
    return holds;
}

/* The letter that a node stands for, in lower case; 0: it is no letter, or not one only. */
static char letter_of(const struct tf_redact_re2_node *node)
{
    char letter = '\0';

    if (node->kind == TF_REDACT_RE2_BYTES && node->text.size == 1) {
        return (char)tolower((unsigned char)node->text.data[0]);
    }
    for (int byte = 0; byte < 256 && node->kind == TF_REDACT_RE2_CLASS; byte++) {
        char low = (char)tolower(byte);

        if (tf_redact_re2_has(node, (uint8_t)byte)) {
            if (node->is_wide || (letter != '\0' && low != letter)) {
                return '\0';
            }
            letter = low;
        }
    }
    return letter;
}

static bool holds(const struct tf_redact_re2_node *node, const struct words *words);

/* A child holds one, or letters in a row do. */
static bool sequence_holds(const struct tf_redact_re2_node *node, const struct words *words)
{
    char text[WORD_MAX + 1];
    size_t size = 0;

    for (const struct tf_redact_re2_node *child = node->first; child != NULL; child = child->next) {
        char letter = letter_of(child);

        if (child->kind == TF_REDACT_RE2_ASSERTION || child->kind == TF_REDACT_RE2_FLAGS) {
            continue;
        }
        if (letter == '\0' || size == WORD_MAX) {
            size = 0;
        }
        if (letter != '\0') {
            text[size++] = letter;
        }
        text[size] = '\0';
        if (letter != '\0' ? holds_word(text, words) : holds(child, words)) {
            return true;
        }
    }
    return false;
}

static bool holds(const struct tf_redact_re2_node *node, const struct words *words)
{
    bool all = true;

    switch (node->kind) {
    case TF_REDACT_RE2_GROUP:
    case TF_REDACT_RE2_CAPTURE:
        return holds(node->first, words);
    case TF_REDACT_RE2_REPEAT:
        return node->least > 0 && holds(node->first, words);
    case TF_REDACT_RE2_SEQUENCE:
        return sequence_holds(node, words);
    case TF_REDACT_RE2_CHOICE:
        for (const struct tf_redact_re2_node *child = node->first; child != NULL && all;
             child = child->next) {
            all = holds(child, words);
        }
        return all;
    default:
        return false;
    }
}

bool tf_redact_re2_holds(const struct tf_redact_re2_node *node, const char *const *words,
                         size_t count)
{
    const struct words all = {.items = words, .count = count};

    return holds(node, &all);
}

/* ---- examples ------------------------------------------------------------------------------- */

struct maker {
    uint64_t seed;
    unsigned attempt;
    struct tf_buf *to;
    unsigned steps;
    bool failed;
};

/* Numbers that look like chance and are always the same. */
static uint32_t draw(struct maker *maker, uint32_t below)
{
    assert(below > 0);
    maker->seed = maker->seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(maker->seed >> 33) % below;
}

static bool is_recent(const struct tf_buf *text, uint8_t byte)
{
    size_t size = text->size < RECENT ? text->size : RECENT;

    return size > 0 && memchr(text->data + text->size - size, byte, size) != NULL;
}

static void put_byte(struct maker *maker, uint8_t byte)
{
    maker->failed |= byte == '\0' || maker->to->size >= TF_REDACT_RE2_EXAMPLE_MAX;
    if (!maker->failed) {
        (void)tf_buf_append_byte(maker->to, byte);
    }
}

/* One of some bytes, rather one that was not put lately. */
static void put_one_of(struct maker *maker, const uint8_t *bytes, uint32_t count)
{
    uint8_t byte = bytes[draw(maker, count)];

    for (unsigned i = 0; i < DRAWS_MAX && is_recent(maker->to, byte); i++) {
        byte = bytes[draw(maker, count)];
    }
    put_byte(maker, byte);
}

/* Letters and digits if there are any; else what can be printed; else what there is. */
static void put_of_class(struct maker *maker, const struct tf_redact_re2_node *node)
{
    uint8_t bytes[128];
    uint32_t count = 0;

    for (unsigned kind = 0; kind < 3 && count == 0; kind++) {
        for (int byte = 1; byte < 128; byte++) {
            bool is_wanted = kind == 0 ? isalnum(byte) != 0 : kind == 1 ? isprint(byte) != 0 : true;

            if (is_wanted && tf_redact_re2_has(node, (uint8_t)byte)) {
                bytes[count++] = (uint8_t)byte;
            }
        }
    }
    if (count > 0) {
        put_one_of(maker, bytes, count);
    } else if (node->is_wide && node->text.size > 0) {
        put_byte(maker, 'a'); /* \p is in it */
    } else if (node->is_wide || tf_redact_re2_has(node, 0xc3)) {
        put_byte(maker, 0xc3); /* é; two of a class of bytes */
        put_byte(maker, 0xa9);
    } else {
        maker->failed = true; /* it has only what no text holds */
    }
}

/* A byte that is likely to be in \pL, \p{Nd} and the like. */
static void put_of_unicode(struct maker *maker, const char *name)
{
    const char *letter = name + 2 + strspn(name + 2, "{^");
    bool is_other = name[1] == 'P' || (name[2] == '{' && name[3] == '^');
    uint8_t byte = *letter == 'N' ? '7' : *letter == 'P' ? '.' : *letter == 'Z' ? ' ' : 'a';

    byte = *letter == 'S' ? '+' : strncmp(letter, "Lu", 2) == 0 ? 'A' : byte;
    put_byte(maker, is_other ? (byte == '.' ? '7' : '.') : byte);
}

static void put_node(struct maker *maker, const struct tf_redact_re2_node *node);

static void put_branch(struct maker *maker, const struct tf_redact_re2_node *choice)
{
    const struct tf_redact_re2_node *branch = choice->first;
    uint32_t count = 0, wanted;

    for (; branch != NULL; branch = branch->next) {
        count++;
    }
    wanted = maker->attempt > 0 ? draw(maker, count) : 0;
    branch = choice->first;
    assert(branch != NULL); /* a choice has two at least */
    for (uint32_t i = 0; i < wanted && branch->next != NULL; i++) {
        branch = branch->next;
    }
    put_node(maker, branch);
}

static void put_rounds(struct maker *maker, const struct tf_redact_re2_node *repeat)
{
    bool is_group =
        repeat->first->kind == TF_REDACT_RE2_GROUP || repeat->first->kind == TF_REDACT_RE2_CAPTURE;
    uint32_t more = is_group ? ROUNDS_MORE : 8 * maker->attempt + 1;
    uint32_t room = repeat->most - repeat->least, rounds = repeat->least;

    more = room < more ? room : more;
    rounds += maker->attempt > 0 ? draw(maker, more + 1) : 0;
    for (uint32_t i = 0; i < rounds && !maker->failed; i++) {
        put_node(maker, repeat->first);
    }
}

static void put_node(struct maker *maker, const struct tf_redact_re2_node *node)
{
    maker->failed |= ++maker->steps > STEPS_MAX;
    switch (node->kind) {
    case TF_REDACT_RE2_BYTES:
        for (size_t i = 0; i < node->text.size; i++) {
            put_byte(maker, (uint8_t)node->text.data[i]);
        }
        break;
    case TF_REDACT_RE2_CLASS:
        put_of_class(maker, node);
        break;
    case TF_REDACT_RE2_ANY:
        put_one_of(maker, (const uint8_t *)"abcdefghijklmnopqrstuvwxyz0123456789", 36);
        break;
    case TF_REDACT_RE2_UNICODE:
        put_of_unicode(maker, node->text.data);
        break;
    case TF_REDACT_RE2_ASSERTION:
    case TF_REDACT_RE2_FLAGS:
        break;
    case TF_REDACT_RE2_GROUP:
    case TF_REDACT_RE2_CAPTURE:
        put_node(maker, node->first);
        break;
    case TF_REDACT_RE2_REPEAT:
        put_rounds(maker, node);
        break;
    case TF_REDACT_RE2_SEQUENCE:
        for (node = node->first; node != NULL && !maker->failed; node = node->next) {
            put_node(maker, node);
        }
        break;
    case TF_REDACT_RE2_CHOICE:
        put_branch(maker, node);
        break;
    }
}

bool tf_redact_re2_example(const struct tf_redact_re2_node *node, unsigned attempt,
                           struct tf_buf *to)
{
    struct maker maker = {.seed = attempt + 1, .attempt = attempt, .to = to};

    put_node(&maker, node);
    return !maker.failed && to->error == 0;
}
