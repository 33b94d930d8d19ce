/*
 * checks.c - what a match must pass besides its regex, and names that give their value away.
 *
 * Pure functions of the bytes they are given; each is linear in them.
 */
#include "engine.h"
#include "undo.h"

#define NAME_MAX_BYTES 256u /* of a name, only so many are looked at: the last ones */

static char fold(char byte)
{
    return byte >= 'A' && byte <= 'Z' ? (char)(byte | 0x20) : byte;
}

static bool luhn(const char *text, size_t size)
{
    unsigned sum = 0, digits = 0;

    for (size_t i = size; i-- > 0;) {
        unsigned digit = (unsigned)(uint8_t)text[i] - '0';

        if (digit > 9) {
            continue;
        }
        if (digits++ % 2 == 1) {
            digit = digit * 2 > 9 ? digit * 2 - 9 : digit * 2;
        }
        sum += digit;
    }
    return digits >= 13 && digits <= 19 && sum % 10 == 0;
}

/* Length of an account number, by country, from the IBAN registry; 0: no such country. */
static unsigned iban_length(const char *country)
{
    static const char table[] =
        "AD24AE23AL28AT20AZ28BA20BE16BG22BH22BI27BR29BY28CH21CR22CY28CZ24DE22DJ27DK18DO28EE20EG29"
        "ES24FI18FK18FO18FR27GB22GE22GI23GL18GR27GT28HR21HU28IE22IL23IQ23IS26IT27JO30KW30KZ20LB28"
        "LC32LI21LT20LU20LV21LY25MC27MD24ME22MK19MN20MR27MT31MU30NI28NL18NO15OM23PK24PL28PS29PT25"
        "QA29RO24RS22RU33SA24SC31SD18SE24SI19SK24SM27SO23ST25SV28TL23TN24TR26UA29VA22VG24XK20YE30";

    for (size_t i = 0; i + 4 < sizeof table; i += 4) {
        if (table[i] == country[0] && table[i + 1] == country[1]) {
            return (unsigned)(table[i + 2] - '0') * 10 + (unsigned)(table[i + 3] - '0');
        }
    }
    return 0;
}

/* Takes in one character of a number in base 10, letters counting 10 to 35. */
static unsigned add_mod97(unsigned sum, char byte)
{
    unsigned value = (unsigned)(uint8_t)byte;

    return value <= '9' ? (sum * 10 + value - '0') % 97 : (sum * 100 + value - 'A' + 10) % 97;
}

/* Where the number ends, or 0. */
static size_t mod97(const char *text, size_t size)
{
    unsigned length = size >= 4 ? iban_length(text) : 0, taken = 4, sum = 0;
    size_t at = 4;

    while (at < size && taken < length) {
        if (text[at] != ' ') {
            sum = add_mod97(sum, text[at]);
            taken++;
        }
        at++;
    }
    for (size_t i = 0; length != 0 && i < 4; i++) {
        sum = add_mod97(sum, text[i]);
    }
    return length != 0 && taken == length && sum == 1 ? at : 0;
}

static bool is_basic(const char *text, size_t size)
{
    uint32_t bits = 0;
    unsigned held = 0;
    bool colon = false;

    for (size_t i = 0; i < size; i++) {
        int value = tf_redact_base64_value((uint8_t)text[i]);
        uint8_t byte;

        if (value < 0) { /* padding */
            break;
        }
        bits = bits << 6 | (uint32_t)value;
        held += 6;
        if (held < 8) {
            continue;
        }
        held -= 8;
        byte = (uint8_t)(bits >> held);
        if (byte < 0x20 || byte == 0x7f) {
            return false;
        }
        colon = colon || byte == ':';
    }
    return colon;
}

size_t tf_redact_check_match(enum tf_redact_check check, const char *text, size_t size)
{
    switch (check) {
    case TF_REDACT_LUHN:
        return luhn(text, size) ? size : 0;
    case TF_REDACT_MOD97:
        return mod97(text, size);
    case TF_REDACT_BASIC:
        return is_basic(text, size) ? size : 0;
    case TF_REDACT_NO_CHECK:
        break;
    }
    return size;
}

/* log2 of a number from 1 on, to 16 places: the same on every machine. */
static double log2_of(size_t number)
{
    double whole = 63 - __builtin_clzll(number), value = (double)number, part = 0.5, sum = 0;

    value /= (double)(1ull << (unsigned)whole);
    for (unsigned i = 0; i < 16; i++, part /= 2) {
        value *= value;
        if (value >= 2) {
            value /= 2;
            sum += part;
        }
    }
    return whole + sum;
}

double tf_redact_entropy(const char *text, size_t size)
{
    uint32_t counts[256] = {0};
    double sum = 0;

    if (size == 0) {
        return 0;
    }
    for (size_t i = 0; i < size; i++) {
        counts[(uint8_t)text[i]]++;
    }
    for (size_t i = 0; i < TF_COUNT(counts); i++) {
        sum += counts[i] > 1 ? counts[i] * log2_of(counts[i]) : 0;
    }
    return log2_of(size) - sum / (double)size;
}

static bool holds(const char *text, size_t size, const char *word)
{
    size_t word_size = strlen(word);

    for (size_t at = 0; at + word_size <= size; at++) {
        size_t i = 0;

        while (i < word_size && fold(text[at + i]) == word[i]) {
            i++;
        }
        if (i == word_size) {
            return true;
        }
    }
    return false;
}

bool tf_redact_has_word(const char *text, size_t size, const char *const *words)
{
    for (size_t i = 0; words[i] != NULL; i++) {
        if (holds(text, size, words[i])) {
            return true;
        }
    }
    return false;
}

static size_t normalise(struct tf_slice name, char out[NAME_MAX_BYTES])
{
    const uint8_t *text = (const uint8_t *)name.data;
    size_t size = 0, at = name.size > NAME_MAX_BYTES ? name.size - NAME_MAX_BYTES : 0;

    while (at < name.size) {
        size_t skip = tf_redact_uncounted(text + at, name.size - at);
        char twin = at + 1 < name.size ? tf_redact_look_alike(text[at], text[at + 1]) : 0;
        uint8_t byte = text[at];

        if (skip > 0) {
            at += skip;
            continue;
        }
        at += twin != 0 ? 2 : 1;
        if (twin != 0) {
            out[size++] = twin;
        } else if (byte > ' ' && byte != 0x7f && byte != '_' && byte != '-' && byte != '.') {
            out[size++] = fold((char)byte);
        }
    }
    return size;
}

struct ending {
    const char *text;
    size_t size;
    const char *rule; /* NULL: the name gives nothing away */
};

#define ENDING(text, rule)                                                                         \
    {                                                                                              \
        text, sizeof(text) - 1, rule                                                               \
    }

static bool ends_with(const char *text, size_t size, const struct ending *ending)
{
    return size >= ending->size && text[size - 1] == ending->text[ending->size - 1] &&
           memcmp(text + size - ending->size, ending->text, ending->size) == 0;
}

const char *tf_redact_name_rule(struct tf_slice name)
{
    static const struct ending table[] = {
        ENDING("bostoken", NULL), /* of a language model: none is a secret */
        ENDING("eostoken", NULL),
        ENDING("unktoken", NULL),
        ENDING("padtoken", NULL),
        ENDING("septoken", NULL),
        ENDING("clstoken", NULL),
        ENDING("masktoken", NULL),
        ENDING("stoptoken", NULL),
        ENDING("password", "assigned-password"),
        ENDING("passwd", "assigned-password"),
        ENDING("passphrase", "assigned-password"),
        ENDING("secret", "assigned-secret"),
        ENDING("secretkey", "assigned-secret"),
        ENDING("token", "assigned-secret"),
        ENDING("credential", "assigned-secret"),
        ENDING("credentials", "assigned-secret"),
        ENDING("privatekey", "assigned-secret"),
        ENDING("secretaccesskey", "assigned-secret"),
        ENDING("accesskey", "assigned-secret"),
        ENDING("signingkey", "assigned-secret"),
        ENDING("encryptionkey", "assigned-secret"),
        ENDING("apikey", "api-key"),
        ENDING("authorization", "authorization"),
        ENDING("setcookie", "cookie"),
        ENDING("cookie", "cookie"),
    };
    char text[NAME_MAX_BYTES];
    size_t size = name.size > 2 ? normalise(name, text) : 0;

    if (size < 5 || strchr("delnsty", text[size - 1]) == NULL) { /* how all of them end */
        return NULL;
    }
    for (size_t i = 0; i < TF_COUNT(table); i++) {
        if (ends_with(text, size, &table[i])) {
            return table[i].rule;
        }
    }
    return NULL;
}
