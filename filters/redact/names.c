/*
 * names.c - key names that give their values away, and the JSON in texts in which they stand.
 *
 * What a name gives away is decided in checks.c (tf_redact_name_rule). Here are the forms in which
 * name and value come:
 *
 *     "name": "value"    "name": 123    "names": ["value", …]    {"name": "name", "value": "value"}
 *
 * JSON is not parsed: it may be cut, begin in the middle, or stand in other text. Each colon behind
 * a quote is the end of a key. JSON that is a string in JSON has its quotes escaped, again for each
 * level: the backslashes before a quote tell which level it belongs to,
 *
 *     level       0    1    2      3
 *     quote       "    \"   \\\"   \\\\\\\"       2^level - 1 backslashes
 *
 * and a string of a level ends at the next quote of that level, or of one further out. Backslashes
 * that are content come in multiples of 2^(level+1). A string that is not ended goes to the end of
 * its line. In names, \u0041 is read as the letter.
 *
 * Every byte is looked at a bounded number of times: the search back for a key ends at a quote of
 * its level, or KEY_MAX_BYTES off; what was masked is not looked at again.
 */
#include "names.h"

#include <assert.h>
#include <strings.h>

#include "modes.h"

#define KEY_MAX_BYTES   256u
#define BLANKS_MAX      256u  /* around a colon */
#define PAIR_MAX_BYTES  1024u /* between a name and its value */
#define SLASHES_MAX     7u    /* before a quote of the deepest level */
#define DEPTH_MAX       8u    /* of arrays in arrays under a name */
#define NUMBER_MAX_SIZE 40u
#define DIGITS_MIN      6u /* of a number that is a token */

/* The text, and what is asked of it. */
struct look {
    const char *text;
    size_t size;
    const uint16_t *rules;
    struct tf_redact_scan *scan;
    size_t line_from, line_end; /* what is known of the line last looked at: strings end there */
    /* What the last name of a pair, {"name":"DB_PASSWORD", …}, gave away, and where it stood. */
    enum tf_redact_name pair;
    size_t pair_end, pair_slashes;
};

/* What stands in quotes of a level: text[at..end), its opening quote with its backslashes at
 * `from`. */
struct quoted {
    size_t from, at, end;
    size_t slashes; /* of its quotes: 0, 1, 3 or 7 */
};

const char *tf_redact_name_id(enum tf_redact_name name)
{
    static const char *const ids[TF_REDACT_NAMES] = {
        [TF_REDACT_PASSWORD_NAME] = "assigned-password",
        [TF_REDACT_SECRET_NAME] = "assigned-secret",
        [TF_REDACT_API_KEY_NAME] = "api-key",
        [TF_REDACT_AUTHORIZATION_NAME] = "authorization",
        [TF_REDACT_COOKIE_NAME] = "cookie",
    };

    return ids[name];
}

enum tf_redact_name tf_redact_name_of(struct tf_slice key)
{
    const char *id = tf_redact_name_rule(key);

    for (int name = TF_REDACT_NO_NAME + 1; id != NULL && name < TF_REDACT_NAMES; name++) {
        if (strcmp(id, tf_redact_name_id((enum tf_redact_name)name)) == 0) {
            return (enum tf_redact_name)name;
        }
    }
    return TF_REDACT_NO_NAME;
}

enum tf_redact_name tf_redact_name_of_list(struct tf_slice key)
{
    enum tf_redact_name name = tf_redact_name_of(key);

    if (name == TF_REDACT_NO_NAME && key.size > 1 && (key.data[key.size - 1] | 0x20) == 's') {
        name = tf_redact_name_of(tf_slice(key.data, key.size - 1));
    }
    return name;
}

static bool is_among(struct tf_slice key, const char *const *words)
{
    for (; *words != NULL; words++) {
        if (strlen(*words) == key.size && strncasecmp(*words, key.data, key.size) == 0) {
            return true;
        }
    }
    return false;
}

/* One character, or one of three bytes, over and over: ****, xxxxxx, bullets. */
static bool is_filled(struct tf_slice text)
{
    size_t unit = (uint8_t)text.data[0] < 0x80 ? 1 : 3;

    if (text.size < 3 || (unit == 1 && strchr("*xX.-_#", text.data[0]) == NULL)) {
        return false;
    }
    return text.size % unit == 0 && memcmp(text.data, text.data + unit, text.size - unit) == 0;
}

/* ${NAME}, {{ .name }}, %(name)s: a template that nothing was put into. */
static bool is_template(struct tf_slice text)
{
    static const char *const forms[][2] = {{"${", "}"}, {"{{", "}}"}, {"%(", ")s"}};

    for (size_t i = 0; i < TF_COUNT(forms); i++) {
        size_t end = strlen(forms[i][1]);

        if (text.size > 2 + end && memcmp(text.data, forms[i][0], 2) == 0 &&
            memcmp(text.data + text.size - end, forms[i][1], end) == 0) {
            return memchr(text.data + 2, '}', text.size - 2 - end) == NULL;
        }
    }
    return false;
}

bool tf_redact_is_nothing(struct tf_slice text)
{
    static const char *const words[] = {"null",     "nil",      "none",    "undefined",
                                        "true",     "false",    "hidden",  "masked",
                                        "redacted", "filtered", "omitted", NULL};
    static const char *const in_brackets[] = {"secret", "token",   "password",  "removed",
                                              "empty",  "unset",   "protected", "sensitive",
                                              "key",    "api key", "scrubbed",  NULL};
    static const char opens[] = "[<(", closes[] = "]>)";
    const char *open;

    if (text.size == 0 || tf_redact_is_mark(text) || is_among(text, words) || is_filled(text) ||
        is_template(text)) {
        return true;
    }
    open = memchr(opens, text.data[0], 3);
    if (open == NULL || text.size < 3 || text.data[text.size - 1] != closes[open - opens]) {
        return false;
    }
    text = tf_slice(text.data + 1, text.size - 2);
    return is_among(text, words) || is_among(text, in_brackets);
}

bool tf_redact_names_a_name(struct tf_slice key)
{
    static const char *const words[] = {"name",  "key",      "header", "field",
                                        "param", "variable", "env",    NULL};

    return is_among(key, words);
}

bool tf_redact_names_a_value(struct tf_slice key)
{
    static const char *const words[] = {"value", "values", "val", NULL};

    return is_among(key, words);
}

bool tf_redact_number_is_secret(enum tf_redact_name name, struct tf_slice number, bool is_item)
{
    size_t digits = 0;

    if (is_item && name != TF_REDACT_PASSWORD_NAME) {
        return false; /* numbers of tokens, as models count them */
    }
    for (size_t i = 0; i < number.size; i++) {
        digits += number.data[i] >= '0' && number.data[i] <= '9' ? 1 : 0;
    }
    return digits >= (name == TF_REDACT_PASSWORD_NAME ? 1 : DIGITS_MIN);
}

/* ---- keys --------------------------------------------------------------------------------------
 */

static bool is_blank(char byte)
{
    return byte == ' ' || byte == '\t' || byte == '\n' || byte == '\r';
}

static size_t skip_blanks(struct look *look, size_t at)
{
    size_t end = look->size - at > BLANKS_MAX ? at + BLANKS_MAX : look->size;

    while (at < end && is_blank(look->text[at])) {
        at++;
    }
    return at;
}

/* The place behind the last byte before `at` that is no blank. */
static size_t skip_blanks_back(struct look *look, size_t at)
{
    size_t end = at > BLANKS_MAX ? at - BLANKS_MAX : 0;

    while (at > end && is_blank(look->text[at - 1])) {
        at--;
    }
    return at;
}

/* How many backslashes end at `at`, not before `from`; at most one more than a quote may have. */
static size_t slashes_before(struct look *look, size_t from, size_t at)
{
    size_t count = 0;

    while (count <= SLASHES_MAX && at - count > from && look->text[at - count - 1] == '\\') {
        count++;
    }
    return count;
}

/* The string whose closing quote is at `quote`. */
static bool find_back(struct look *look, size_t quote, struct quoted *out)
{
    size_t slashes = slashes_before(look, 0, quote);
    size_t end = quote - slashes, from = end > KEY_MAX_BYTES ? end - KEY_MAX_BYTES : 0, at = end;

    if ((slashes & (slashes + 1)) != 0 || slashes > SLASHES_MAX) {
        return false;
    }
    while (at > from) {
        const char *found = memrchr(look->text + from, '"', at - from);
        size_t before;

        if (found == NULL) {
            return false;
        }
        at = (size_t)(found - look->text);
        before = slashes_before(look, 0, at);
        if (before <= slashes) {
            *out =
                (struct quoted){.from = at - before, .at = at + 1, .end = end, .slashes = slashes};
            return before == slashes;
        }
        at -= before < at ? before : at;
    }
    return false;
}

static int hex_value(char byte)
{
    if (byte >= '0' && byte <= '9') {
        return byte - '0';
    }
    byte |= 0x20;
    return byte >= 'a' && byte <= 'f' ? byte - 'a' + 10 : -1;
}

/* The code of \uXXXX at text, with any number of backslashes; 0: none.
 */
static unsigned unicode_escape(const char *text, size_t size, size_t *used)
{
    size_t at = 0;
    unsigned code = 0;

    while (at < size && text[at] == '\\') {
        at++;
    }
    if (at == 0 || size - at < 5 || text[at] != 'u') {
        return 0;
    }
    for (size_t i = 1; i <= 4; i++) {
        int value = hex_value(text[at + i]);

        if (value < 0) {
            return 0;
        }
        code = code << 4 | (unsigned)value;
    }
    *used = at + 5;
    return code;
}

/* Copies a key with its \u undone; returns its size. */
static size_t unescape(struct tf_slice key, char out[KEY_MAX_BYTES])
{
    size_t size = 0, at = 0;

    while (at < key.size && size + 3 <= KEY_MAX_BYTES) {
        size_t used = 1;
        unsigned code =
            key.data[at] == '\\' ? unicode_escape(key.data + at, key.size - at, &used) : 0;

        if (code >= 0x800) {
            out[size++] = (char)(0xe0 | code >> 12);
            out[size++] = (char)(0x80 | (code >> 6 & 0x3f));
            out[size++] = (char)(0x80 | (code & 0x3f));
        } else if (code >= 0x80) {
            out[size++] = (char)(0xc0 | code >> 6);
            out[size++] = (char)(0x80 | (code & 0x3f));
        } else {
            out[size++] = code != 0 ? (char)code : key.data[at];
        }
        at += used;
    }
    return size;
}

static bool is_letter(char byte)
{
    return (byte | 0x20) >= 'a' && (byte | 0x20) <= 'z';
}

/*
 * A quick look at how a string before its closing quote ends; most keys are none of interest. Those
 * that are end in two letters of these, or in something that is no letter: a colour, a \u0064.
 */
static bool may_be_name(const struct look *look, size_t quote)
{
    static const char *const before[26] = {
        ['d' - 'a'] = "rwl",      /* password, passwd, field */
        ['e' - 'a'] = "siuml",    /* passphrase, cookie, value, name, variable */
        ['l' - 'a'] = "a",        /* credential, val */
        ['m' - 'a'] = "a",        /* param */
        ['n' - 'a'] = "eo",       /* token, authorization */
        ['r' - 'a'] = "e",        /* header */
        ['s' - 'a'] = "dwestynl", /* and more than one of them */
        ['t' - 'a'] = "e",        /* secret */
        ['v' - 'a'] = "n",        /* env */
        ['y' - 'a'] = "e",        /* key */
    };
    char last, second;

    while (quote > 0 && look->text[quote - 1] == '\\') {
        quote--;
    }
    if (quote < 2) {
        return false;
    }
    last = look->text[quote - 1];
    second = look->text[quote - 2];
    if (!is_letter(last) || !is_letter(second)) {
        return true;
    }
    return before[(last | 0x20) - 'a'] != NULL &&
           strchr(before[(last | 0x20) - 'a'], second | 0x20) != NULL;
}

static enum tf_redact_name name_of(struct tf_slice key, bool is_list)
{
    char text[KEY_MAX_BYTES];

    if (memchr(key.data, '\\', key.size) != NULL) {
        key = tf_slice(text, unescape(key, text));
    }
    return is_list ? tf_redact_name_of_list(key) : tf_redact_name_of(key);
}

/* Notes what the value of a key `name` is, in a pair {"name":"DB_PASSWORD","value":…}. */
static void note_pair(struct look *look, const struct quoted *key, const struct quoted *value)
{
    look->pair = name_of(tf_slice(look->text + value->at, value->end - value->at), false);
    look->pair_end = value->end;
    look->pair_slashes = key->slashes;
}

/* What the value of a pair is, by the name noted before its key in the same braces. */
static enum tf_redact_name name_of_pair(struct look *look, const struct quoted *key)
{
    const char *from = look->text + look->pair_end;

    if (look->pair == TF_REDACT_NO_NAME || key->slashes != look->pair_slashes ||
        key->from < look->pair_end || key->from - look->pair_end > PAIR_MAX_BYTES ||
        memchr(from, '}', key->from - look->pair_end) != NULL ||
        memchr(from, '{', key->from - look->pair_end) != NULL) {
        return TF_REDACT_NO_NAME;
    }
    return look->pair;
}

/* ---- values ------------------------------------------------------------------------------------
 */

/* Where the line ends that a place is in; found once a line. */
static size_t line_end(struct look *look, size_t at)
{
    const char *newline;

    if (at < look->line_from || at >= look->line_end) {
        newline = memchr(look->text + at, '\n', look->size - at);
        look->line_from = at;
        look->line_end = newline != NULL ? (size_t)(newline - look->text) : look->size;
    }
    return look->line_end;
}

/* The string that begins at `at` with a quote of that level; false: there is none. */
static bool find_string(struct look *look, size_t at, size_t slashes, struct quoted *out,
                        size_t *behind)
{
    size_t start = at + slashes + 1, end, i;

    if (start > look->size || look->text[start - 1] != '"' ||
        slashes_before(look, at, start - 1) != slashes) {
        return false;
    }
    end = line_end(look, start);
    *out = (struct quoted){.from = at, .at = start, .end = end, .slashes = slashes};
    *behind = end;
    for (i = start; i < end; i++) {
        const char *quote = memchr(look->text + i, '"', end - i);
        size_t run = 0;

        if (quote == NULL) {
            break;
        }
        i = (size_t)(quote - look->text);
        while (i - run > start && look->text[i - run - 1] == '\\') {
            run++;
        }
        if (run < slashes || (run - slashes) % (2 * (slashes + 1)) == 0) {
            out->end = i - (run < slashes ? run : slashes);
            *behind = run < slashes ? out->end : i + 1;
            break;
        }
    }
    return true;
}

static void add(struct look *look, enum tf_redact_name name, size_t at, size_t end)
{
    if (look->rules[name] != UINT16_MAX) {
        tf_redact_scan_add(look->scan, at, end, look->rules[name], NULL);
    }
}

/* Masks a string or number at `at`; returns the place behind it, or `at` for anything else. */
static size_t take_scalar(struct look *look, enum tf_redact_name name, size_t at, size_t slashes,
                          bool is_item)
{
    struct quoted string;
    size_t behind = at;

    if (find_string(look, at, slashes, &string, &behind)) {
        if (!tf_redact_is_nothing(tf_slice(look->text + string.at, string.end - string.at))) {
            add(look, name, string.at, string.end);
        }
        return behind;
    }
    while (behind < look->size && behind - at < NUMBER_MAX_SIZE && look->text[behind] != 0 &&
           strchr("0123456789+-.eE", look->text[behind]) != NULL) {
        behind++;
    }
    if (behind > at &&
        tf_redact_number_is_secret(name, tf_slice(look->text + at, behind - at), is_item)) {
        add(look, name, at, behind);
    }
    return behind;
}

/* Steps over an object: to its brace, or the end of its line. */
static size_t skip_object(struct look *look, size_t at, size_t slashes)
{
    size_t end = line_end(look, at), behind;
    struct quoted string;
    unsigned depth = 0;

    while (at < end) {
        if (look->text[at] == '{') {
            depth++;
        } else if (look->text[at] == '}' && --depth == 0) {
            return at + 1;
        } else if (find_string(look, at, slashes, &string, &behind)) {
            at = behind;
            continue;
        }
        at++;
    }
    return end;
}

/* Steps over null, true, false. */
static size_t skip_word(const struct look *look, size_t at)
{
    static const char *const words[] = {"null", "true", "false"};

    for (size_t i = 0; i < TF_COUNT(words); i++) {
        size_t size = strlen(words[i]);

        if (look->size - at >= size && memcmp(look->text + at, words[i], size) == 0) {
            return at + size;
        }
    }
    return at;
}

/* One item at a place, which is not behind the text. Returns the place behind it, or the same when
 * there is none. */
static size_t take_item(struct look *look, enum tf_redact_name name, size_t at, size_t slashes)
{
    size_t behind;

    if (look->text[at] == '{') { /* its names speak for themselves */
        return skip_object(look, at, slashes);
    }
    behind = take_scalar(look, name, at, slashes, true);
    return behind > at ? behind : skip_word(look, at);
}

/* The items of an array, and of arrays in it. */
static size_t take_array(struct look *look, enum tf_redact_name name, size_t at, size_t slashes)
{
    unsigned depth = 0;

    while (at < look->size) {
        size_t behind;

        at = skip_blanks(look, at);
        if (at == look->size) {
            return at;
        }
        if (look->text[at] == '[' && depth < DEPTH_MAX) {
            depth++;
            at++;
        } else if (look->text[at] == ']' && depth > 1) {
            depth--;
            at++;
        } else if (look->text[at] == ',') {
            at++;
        } else {
            behind = take_item(look, name, at, slashes);
            if (behind == at) {
                return at;
            }
            at = behind;
        }
    }
    return at;
}

/* {"value": …} under a name: what stands there is its value. */
static size_t take_wrapped(struct look *look, enum tf_redact_name name, size_t at, size_t slashes)
{
    struct quoted key;
    size_t behind, value = skip_blanks(look, at + 1);

    if (!find_string(look, value, slashes, &key, &behind) ||
        !tf_redact_names_a_value(tf_slice(look->text + key.at, key.end - key.at))) {
        return at;
    }
    value = skip_blanks(look, behind);
    if (value == look->size || look->text[value] != ':') {
        return at;
    }
    return take_scalar(look, name, skip_blanks(look, value + 1), slashes, false);
}

static bool is_at(const struct look *look, size_t at, char byte)
{
    return at < look->size && look->text[at] == byte;
}

/* The colon at `colon` may end a key. Returns the place behind it and what was masked. */
static size_t look_at(struct look *look, size_t colon)
{
    enum tf_redact_name name;
    struct quoted key, string;
    struct tf_slice text;
    size_t at = skip_blanks_back(look, colon), value, behind;

    if (at == 0 || look->text[at - 1] != '"' || !may_be_name(look, at - 1) ||
        !find_back(look, at - 1, &key)) {
        return colon + 1;
    }
    text = tf_slice(look->text + key.at, key.end - key.at);
    value = skip_blanks(look, colon + 1);
    name = name_of(text, is_at(look, value, '['));
    if (name == TF_REDACT_NO_NAME && tf_redact_names_a_value(text)) {
        name = name_of_pair(look, &key);
    }
    if (tf_redact_names_a_name(text) && find_string(look, value, key.slashes, &string, &behind)) {
        note_pair(look, &key, &string);
    }
    if (name == TF_REDACT_NO_NAME || value == look->size) {
        return colon + 1;
    }
    if (is_at(look, value, '[')) {
        at = take_array(look, name, value, key.slashes);
    } else if (is_at(look, value, '{')) {
        at = take_wrapped(look, name, value, key.slashes);
    } else {
        at = take_scalar(look, name, value, key.slashes, false);
    }
    return at > colon ? at : colon + 1;
}

void tf_redact_names_scan(struct tf_slice text, const uint16_t rules[TF_REDACT_NAMES],
                          struct tf_redact_scan *scan)
{
    struct look look = {.text = text.data, .size = text.size, .rules = rules, .scan = scan};
    const char *quote = text.size > 0 ? memchr(text.data, '"', text.size) : NULL;
    size_t at = quote != NULL ? (size_t)(quote - text.data) : text.size;

    while (at < text.size && at < scan->withheld_from) {
        const char *colon = memchr(text.data + at, ':', text.size - at);

        if (colon == NULL) {
            return;
        }
        at = look_at(&look, (size_t)(colon - text.data));
        assert(at > (size_t)(colon - text.data));
    }
}
