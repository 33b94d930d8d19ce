/*
 * undo.c - escapes undone, of every kind at once, with the way back to the written bytes.
 *
 * What is undone, once each time:
 *
 *     \" \' \\ \/ \n \r \t \b \f         as JSON and most languages write them; \ and a newline:
 * none \u0041 \x41 %41 %u0041             by number &quot; &amp; &lt; … &#65; &#x41;   entities of
 * XML and HTML, those below =3D, = and a newline               quoted-printable, in a text that
 * holds "=3D" two or three bytes for an ASCII one, as UTF-8 forbids it
 *
 * What is left out: control characters but for \t \n \r, so NUL too, which makes ASCII of UTF-16;
 * colour codes; characters of no width; bytes that are no UTF-8. Cyrillic and Greek letters that
 * look like Latin ones are read as these where they stand with Latin letters in one word.
 *
 * The text that comes of it is only searched, never written. Each of its bytes knows how many
 * written ones it stands for, so a span of it is one of the written text. What is left out counts
 * to the byte behind it. A text is never longer than it was, so it is undone in place.
 */
#include "undo.h"

#include <errno.h>
#include <stdlib.h>
#include <strings.h>

#include "prefilter.h"

#define ENTITY_MAX_BYTES 12u /* of one, without & and ; */
#define VECTOR_BYTES     16u
#define LOOK_ALIKES_MAX  8u /* in a row, before a Latin letter */

typedef uint8_t vector __attribute__((vector_size(VECTOR_BYTES)));

/* One pass over a text, in place. */
struct pass {
    const uint8_t *in;
    size_t size, at;
    uint8_t *out;
    size_t out_size;
    uint32_t *widths;
    uint32_t carried; /* width of what was left out, for the next byte */
    bool is_quoted_printable, changed;
    bool has_unquoted; /* a quote was escaped by a backslash, as in JSON in JSON */
};

/* ---- a quick look --------------------------------------------------------------------------- */

static inline bool any(vector v)
{
    uint64_t halves[2];

    memcpy(halves, &v, sizeof halves);
    return (halves[0] | halves[1]) != 0;
}

static inline vector load(const char *at)
{
    vector v;

    memcpy(&v, at, sizeof v);
    return v;
}

static inline vector is_in(vector v, uint8_t first, uint8_t last)
{
    return (vector)(v - first <= (uint8_t)(last - first));
}

/* Marks what is undone or left out whatever stands around it: \ % and controls. */
static inline vector mark_odd(vector v)
{
    vector blank = (vector)(v == '\t') | (vector)(v == '\n') | (vector)(v == '\r');

    return ((vector)(v < ' ') & ~blank) | (vector)(v == 0x7f) | (vector)(v == '\\') |
           (vector)(v == '%');
}

/* Marks, of UTF-8 that is sound, what may be left out or read as something else: see take_wide.
 * Most text of any language is nothing of that. next has the bytes behind those of v. */
static inline vector mark_wide(vector v, vector next)
{
    return ((vector)(v == 0xc2) & ((vector)(next < 0xa0) | (vector)(next == 0xad))) |
           ((vector)(v == 0xe2) & is_in(next, 0x80, 0x81)) |      /* of no width, perhaps */
           ((vector)(v == 0xef) & (vector)(next == 0xbb)) |       /* byte order mark */
           (is_in(v | 0x20, 'a', 'z') & is_in(next, 0xce, 0xd1)); /* Greek behind Latin */
}

/* What a text holds, by kind. */
struct looked {
    vector odd, ands, ends, equals;
    vector wide, greek, latin; /* latin: behind what is not ASCII */
};

static inline void look(struct looked *looked, vector v, vector next)
{
    looked->odd |= mark_odd(v);
    looked->ands |= (vector)(v == '&');
    looked->ends |= (vector)(v == ';');
    looked->equals |= (vector)(v == '=') & (vector)(next == '3');
    if (any((v | next) & 0x80)) { /* seldom */
        looked->odd |= mark_wide(v, next);
        looked->wide |= v & 0x80;
        looked->greek |= is_in(v, 0xce, 0xd1);
        looked->latin |= (vector)(v >= 0x80) & is_in(next | 0x20, 'a', 'z');
    }
}

bool tf_redact_may_undo(struct tf_slice text)
{
    struct looked looked = {.odd = {0}};
    char tail[VECTOR_BYTES + 1];
    size_t at = 0;

    for (; text.size - at > VECTOR_BYTES; at += VECTOR_BYTES) {
        look(&looked, load(text.data + at), load(text.data + at + 1));
    }
    memset(tail, ' ', sizeof tail);
    memcpy(tail, text.data + at, text.size - at);
    look(&looked, load(tail), load(tail + 1));
    return any(looked.odd) || (any(looked.greek) && any(looked.latin)) ||
           (any(looked.wide) && !tf_utf8_valid(text.data, text.size)) ||
           (any(looked.ands) && any(looked.ends)) ||
           (any(looked.equals) && memmem(text.data, text.size, "=3D", 3) != NULL);
}

/* ---- bytes out ------------------------------------------------------------------------------ */

/* Writes a byte that stands for `used` bytes of the pass's text. */
static void put(struct pass *pass, uint8_t byte, size_t used)
{
    uint32_t width = pass->carried;

    for (size_t i = 0; i < used; i++) {
        width += pass->widths[pass->at + i];
    }
    pass->at += used;
    pass->carried = 0;
    pass->out[pass->out_size] = byte;
    pass->widths[pass->out_size++] = width;
}

/* Takes so many bytes for nothing. */
static void leave_out(struct pass *pass, size_t used)
{
    for (size_t i = 0; i < used; i++) {
        pass->carried += pass->widths[pass->at + i];
    }
    pass->at += used;
    pass->changed = true;
}

/* Writes a character by its number, for `used` bytes, which are as many as it takes at least. */
static void put_code(struct pass *pass, uint32_t code, size_t used)
{
    pass->changed = true;
    if (code < 0x80) {
        put(pass, (uint8_t)code, used);
    } else if (code < 0x800) {
        put(pass, (uint8_t)(0xc0 | code >> 6), used);
        put(pass, (uint8_t)(0x80 | (code & 0x3f)), 0);
    } else {
        put(pass, (uint8_t)(0xe0 | (code >> 12 & 15)), used);
        put(pass, (uint8_t)(0x80 | (code >> 6 & 0x3f)), 0);
        put(pass, (uint8_t)(0x80 | (code & 0x3f)), 0);
    }
}

/* ---- escapes -------------------------------------------------------------------------------- */

/* The number that so many hexadecimal digits at `at` make, or -1. */
static int32_t hex_number(const struct pass *pass, size_t at, size_t digits)
{
    int32_t number = 0;

    if (pass->size < at || pass->size - at < digits) {
        return -1;
    }
    for (size_t i = 0; i < digits; i++) {
        uint8_t byte = pass->in[at + i], letter = byte | 0x20;
        int32_t value = byte >= '0' && byte <= '9'       ? byte - '0'
                        : letter >= 'a' && letter <= 'f' ? letter - 'a' + 10
                                                         : -1;

        if (value < 0) {
            return -1;
        }
        number = number * 16 + value;
    }
    return number;
}

/* \uXXXX, \xXX, %XX, %uXXXX: a number behind `head` bytes. False: there is none. */
static bool undo_number(struct pass *pass, size_t head, size_t digits)
{
    int32_t code = hex_number(pass, pass->at + head, digits);

    if (code < 0) {
        return false;
    }
    if (digits == 2) { /* a byte, not a character */
        pass->changed = true;
        put(pass, (uint8_t)code, head + digits);
    } else {
        put_code(pass, (uint32_t)code, head + digits);
    }
    return true;
}

static bool undo_backslash(struct pass *pass)
{
    static const char letters[] = "\"'\\/nrtbf", bytes[] = "\"'\\/\n\r\t  ";
    char letter = pass->at + 1 < pass->size ? (char)pass->in[pass->at + 1] : '\0';
    const char *found;

    if (letter == 'u') {
        return undo_number(pass, 2, 4);
    }
    if (letter == 'x') {
        return undo_number(pass, 2, 2);
    }
    if (letter == '\n') {
        leave_out(pass, 2);
        return true;
    }
    found = letter != '\0' ? strchr(letters, letter) : NULL;
    if (found == NULL) {
        return false;
    }
    pass->has_unquoted = pass->has_unquoted || letter == '"';
    put_code(pass, (uint8_t)bytes[found - letters], 2);
    return true;
}

static bool undo_percent(struct pass *pass)
{
    if (pass->at + 1 < pass->size && (pass->in[pass->at + 1] | 0x20) == 'u') {
        return undo_number(pass, 2, 4);
    }
    return undo_number(pass, 1, 2);
}

/* The number of an entity "#65", "#x41"; 0: it is none. */
static uint32_t entity_number(struct tf_slice name)
{
    bool is_hex = name.size > 1 && (name.data[1] | 0x20) == 'x';
    uint32_t number = 0;

    for (size_t i = is_hex ? 2 : 1; i < name.size; i++) {
        char byte = name.data[i], letter = (char)(byte | 0x20);
        uint32_t digit = byte >= '0' && byte <= '9'                 ? (uint32_t)(byte - '0')
                         : is_hex && letter >= 'a' && letter <= 'f' ? (uint32_t)(letter - 'a') + 10
                                                                    : UINT32_MAX;

        if (digit == UINT32_MAX || number > 0xffff) {
            return 0;
        }
        number = number * (is_hex ? 16 : 10) + digit;
    }
    return number <= 0xffff ? number : 0;
}

static uint32_t entity_code(struct tf_slice name)
{
    static const struct {
        const char *name;
        char byte;
    } table[] = {
        {"quot", '"'},  {"amp", '&'},   {"lt", '<'},     {"gt", '>'},     {"apos", '\''},
        {"colon", ':'}, {"nbsp", ' '},  {"sol", '/'},    {"equals", '='}, {"commat", '@'},
        {"semi", ';'},  {"comma", ','}, {"lowbar", '_'},
    };

    if (name.size > 1 && name.data[0] == '#') {
        return entity_number(name);
    }
    for (size_t i = 0; i < TF_COUNT(table); i++) {
        if (strlen(table[i].name) == name.size &&
            strncasecmp(table[i].name, name.data, name.size) == 0) {
            return (uint32_t)table[i].byte;
        }
    }
    return 0;
}

static bool undo_entity(struct pass *pass)
{
    const char *name = (const char *)pass->in + pass->at + 1;
    size_t left = pass->size - pass->at - 1;
    size_t most = left < ENTITY_MAX_BYTES ? left : ENTITY_MAX_BYTES;
    const char *end = most > 0 ? memchr(name, ';', most) : NULL;
    uint32_t code = end != NULL ? entity_code(tf_slice(name, (size_t)(end - name))) : 0;

    if (code == 0) {
        return false;
    }
    put_code(pass, code, (size_t)(end - name) + 2);
    return true;
}

static bool undo_quoted_printable(struct pass *pass)
{
    size_t at = pass->at + 1;

    if (!pass->is_quoted_printable) {
        return false;
    }
    at += at < pass->size && pass->in[at] == '\r' ? 1 : 0;
    if (at < pass->size && pass->in[at] == '\n') {
        leave_out(pass, at + 1 - pass->at);
        return true;
    }
    return undo_number(pass, 1, 2);
}

/* ---- other alphabets ------------------------------------------------------------------------ */

char tf_redact_look_alike(uint8_t first, uint8_t second)
{
    /* By the two bytes of a letter in UTF-8: Greek has 0xce and 0xcf, Cyrillic 0xd0 and 0xd1. */
    static const char letters[4][64] = {
        {[0x11] = 'a',
         [0x15] = 'e',
         [0x19] = 'i',
         [0x1a] = 'k',
         [0x1f] = 'o',
         [0x21] = 'p',
         [0x24] = 't',
         [0x25] = 'y',
         [0x31] = 'a',
         [0x39] = 'i',
         [0x3a] = 'k',
         [0x3f] = 'o'},
        {[0x01] = 'p'},
        {[0x05] = 's',
         [0x06] = 'i',
         [0x10] = 'a',
         [0x15] = 'e',
         [0x1a] = 'k',
         [0x1e] = 'o',
         [0x20] = 'p',
         [0x21] = 'c',
         [0x22] = 't',
         [0x30] = 'a',
         [0x35] = 'e',
         [0x3a] = 'k',
         [0x3e] = 'o'},
        {[0x00] = 'p', [0x01] = 'c', [0x03] = 'y', [0x15] = 's', [0x16] = 'i'},
    };

    return first >= 0xce && first <= 0xd1 && (second & 0xc0) == 0x80
               ? letters[first - 0xce][second & 0x3f]
               : 0;
}

size_t tf_redact_uncounted(const uint8_t *text, size_t size)
{
    if (text[0] == 0x1b && size >= 2 && text[1] == '[') {
        size_t i = 2;

        while (i < size && (text[i] < '@' || text[i] > '~')) {
            i++;
        }
        return i < size ? i + 1 : size;
    }
    if (size >= 2 && text[0] == 0xc2 && text[1] == 0xad) {
        return 2;
    }
    if (size >= 3 && text[0] == 0xe2 && text[1] == 0x80 && text[2] >= 0x8b && text[2] <= 0x8f) {
        return 3;
    }
    if (size >= 3 && text[0] == 0xe2 && text[1] == 0x81 && text[2] == 0xa0) {
        return 3;
    }
    return size >= 3 && text[0] == 0xef && text[1] == 0xbb && text[2] == 0xbf ? 3 : 0;
}

static bool is_letter(uint8_t byte)
{
    return (uint8_t)((byte | 0x20) - 'a') < 26;
}

/* Whether some look-alikes from `at` on are followed by a Latin letter. */
static bool leads_to_latin(const struct pass *pass, size_t at)
{
    size_t end = at + 2 * (size_t)LOOK_ALIKES_MAX;

    while (at + 1 < pass->size && at < end &&
           tf_redact_look_alike(pass->in[at], pass->in[at + 1]) != '\0') {
        at += 2;
    }
    return at < pass->size && is_letter(pass->in[at]);
}

/* Reads a letter that looks like a Latin one as that, when it stands in a word with some. */
static bool undo_look_alike(struct pass *pass)
{
    char letter = pass->size - pass->at >= 2
                      ? tf_redact_look_alike(pass->in[pass->at], pass->in[pass->at + 1])
                      : '\0';
    bool is_behind_latin = pass->out_size > 0 && is_letter(pass->out[pass->out_size - 1]);

    if (letter == '\0' || (!is_behind_latin && !leads_to_latin(pass, pass->at))) {
        return false;
    }
    put_code(pass, (uint8_t)letter, 2);
    return true;
}

/* How many bytes a UTF-8 character at `at` has, by RFC 3629; 0: it is none. */
static size_t character_size(const struct pass *pass, size_t at)
{
    uint8_t first = pass->in[at];
    size_t size = first < 0xc2 ? 0 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : first < 0xf5 ? 4 : 0;

    if (size == 0 || pass->size - at < size) {
        return 0;
    }
    for (size_t i = 1; i < size; i++) {
        if ((pass->in[at + i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    return size;
}

/* An ASCII character in two or three bytes; false: there is none. */
static bool undo_overlong(struct pass *pass)
{
    const uint8_t *in = pass->in + pass->at;
    size_t left = pass->size - pass->at;

    if (left >= 2 && (in[0] & 0xfe) == 0xc0 && (in[1] & 0xc0) == 0x80) {
        put_code(pass, (uint32_t)(in[0] & 1) << 6 | (in[1] & 0x3f), 2);
        return true;
    }
    if (left >= 3 && in[0] == 0xe0 && (in[1] & 0xfe) == 0x80 && (in[2] & 0xc0) == 0x80) {
        put_code(pass, (uint32_t)(in[1] & 1) << 6 | (in[2] & 0x3f), 3);
        return true;
    }
    return false;
}

/* A byte that is not ASCII, and what belongs to it. */
static void take_wide(struct pass *pass)
{
    size_t size;

    if (undo_overlong(pass) || undo_look_alike(pass)) {
        return;
    }
    size = character_size(pass, pass->at);
    if (size == 0) {
        leave_out(pass, 1);
    }
    for (; size > 0; size--) {
        put(pass, pass->in[pass->at], 1);
    }
}

/* ---- the pass ------------------------------------------------------------------------------- */

/* One byte, or one escape. */
static void take(struct pass *pass)
{
    uint8_t byte = pass->in[pass->at];
    size_t uncounted = byte == 0x1b || byte >= 0x80
                           ? tf_redact_uncounted(pass->in + pass->at, pass->size - pass->at)
                           : 0;
    bool is_undone = false;

    if (uncounted > 0) {
        leave_out(pass, uncounted);
        return;
    }
    if (byte >= 0x80) {
        take_wide(pass);
        return;
    }
    if ((byte < ' ' && byte != '\t' && byte != '\n' && byte != '\r') || byte == 0x7f) {
        leave_out(pass, 1);
        return;
    }
    switch (byte) {
    case '\\':
        is_undone = undo_backslash(pass);
        break;
    case '%':
        is_undone = undo_percent(pass);
        break;
    case '&':
        is_undone = undo_entity(pass);
        break;
    case '=':
        is_undone = undo_quoted_printable(pass);
        break;
    default:
        break;
    }
    if (!is_undone) {
        put(pass, byte, 1);
    }
}

/* How many bytes from here on stand for themselves. */
static size_t plain_size(const struct pass *pass)
{
    size_t at = pass->at;

    for (; pass->size - at >= VECTOR_BYTES; at += VECTOR_BYTES) {
        vector v = load((const char *)pass->in + at);

        if (any(mark_odd(v) | (vector)(v >= 0x80) | (vector)(v == '&') | (vector)(v == '='))) {
            break;
        }
    }
    return at - pass->at;
}

/* Takes over bytes that stand for themselves. */
static void take_plain(struct pass *pass, size_t size)
{
    if (pass->out_size != pass->at) {
        memmove(pass->out + pass->out_size, pass->in + pass->at, size);
        memmove(pass->widths + pass->out_size, pass->widths + pass->at,
                size * sizeof *pass->widths);
    }
    pass->widths[pass->out_size] += pass->carried;
    pass->carried = 0;
    pass->out_size += size;
    pass->at += size;
}

static int run_pass(struct tf_redact_undone *undone)
{
    struct pass pass = {.in = (const uint8_t *)undone->text,
                        .size = undone->size,
                        .out = (uint8_t *)undone->text,
                        .widths = undone->widths};

    pass.is_quoted_printable = memmem(undone->text, undone->size, "=3D", 3) != NULL;
    while (pass.at < pass.size) {
        size_t plain = plain_size(&pass);

        if (plain > 0) {
            take_plain(&pass, plain);
        }
        for (size_t i = 0; i < VECTOR_BYTES && pass.at < pass.size; i++) {
            take(&pass);
        }
    }
    undone->size = pass.out_size;
    undone->has_unquoted = undone->has_unquoted || pass.has_unquoted;
    memset(undone->text + undone->size, 0, TF_REDACT_READAHEAD_BYTES);
    return pass.changed ? 1 : 0;
}

static int reserve(struct tf_redact_undone *undone, size_t size)
{
    char *text;
    uint32_t *widths;

    if (size <= undone->capacity) {
        return 0;
    }
    tf_redact_undone_wipe(undone, true);
    size = size < 4096 ? 4096 : size;
    text = malloc(size + TF_REDACT_READAHEAD_BYTES);
    widths = malloc(size * sizeof *widths);
    if (text == NULL || widths == NULL) {
        free(text);
        free(widths);
        return -ENOMEM;
    }
    undone->text = text;
    undone->widths = widths;
    undone->capacity = size;
    return 0;
}

int tf_redact_undo(struct tf_redact_undone *out, struct tf_slice written)
{
    int rc = reserve(out, written.size);

    out->size = 0;
    if (rc < 0 || written.size == 0) {
        return rc;
    }
    memcpy(out->text, written.data, written.size);
    out->size = written.size;
    out->depth = 1;
    out->has_unquoted = false;
    for (size_t i = 0; i < written.size; i++) {
        out->widths[i] = 1;
    }
    return run_pass(out);
}

int tf_redact_undo_again(struct tf_redact_undone *out)
{
    if (out->size == 0 || out->depth == TF_REDACT_UNDO_DEPTH ||
        !tf_redact_may_undo(tf_slice(out->text, out->size))) {
        return 0;
    }
    out->depth++;
    return run_pass(out);
}

void tf_redact_undone_wipe(struct tf_redact_undone *undone, bool all)
{
    if (undone->text != NULL) {
        explicit_bzero(undone->text, undone->capacity);
    }
    if (all || undone->capacity > TF_REDACT_UNDO_KEEP_BYTES) {
        free(undone->text);
        free(undone->widths);
        *undone = (struct tf_redact_undone){.size = 0};
    }
}

size_t tf_redact_written_at(const struct tf_redact_undone *undone, struct tf_redact_written *place,
                            size_t at)
{
    for (; place->undone < at; place->undone++) {
        place->written += undone->widths[place->undone];
    }
    return place->written;
}
