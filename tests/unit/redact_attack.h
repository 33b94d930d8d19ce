/*
 * redact_attack.h - texts made to cost the redaction engine as much as they can.
 *
 * From each keyword, each class and each example of the rules: a unit that is repeated to the end
 * of the line. Shared by the test, which counts work, and the bench, which takes the time.
 */
#ifndef TAFFRAIL_TEST_REDACT_ATTACK_H
#define TAFFRAIL_TEST_REDACT_ATTACK_H

#include <stdlib.h>

#include "../../filters/redact/engine.h"

#define ATTACK_UNIT_MAX 1024u

struct attack {
    char unit[ATTACK_UNIT_MAX];
    size_t size;
    const char *of; /* the rule's id, or what kind of text it is */
};

static inline bool attack_set(struct attack *out, const char *of, const char *first,
                              const char *filler, unsigned times)
{
    size_t filler_size = strlen(filler);

    out->of = of;
    out->size = strlen(first);
    if (out->size >= ATTACK_UNIT_MAX) {
        out->size = ATTACK_UNIT_MAX - 1;
    }
    memcpy(out->unit, first, out->size);
    for (unsigned i = 0; i < times && out->size + filler_size < ATTACK_UNIT_MAX; i++) {
        memcpy(out->unit + out->size, filler, filler_size);
        out->size += filler_size;
    }
    return out->size > 0;
}

/* Texts that belong to no rule: e-mail and URL heads, numbers, blobs. */
static inline bool attack_plain(uint32_t index, struct attack *out)
{
    static const char *const units[] = {
        "a.a.a.",
        "@AAA",
        "a@",
        "a.b-c@d.",
        "@a.a.a.a.",
        "aaaaaaaa@b ",
        "0",
        "4",
        "4111 ",
        "1234-",
        "4111111111111111 ",
        "4111 1111 1111 1112 ",
        "DE89",
        "DE89 3704 0044 0532 0130 01 ",
        "AB12",
        "A",
        "a",
        "A1",
        "aB3",
        "=",
        "-",
        "-----",
        "-----BEGIN ",
        "-----BEGIN RSA PRIVATE KEY-----",
        "-----BEGIN PGP PRIVATE KEY BLOCK-----\n",
        "://",
        "://a:",
        "://a:b@",
        "https://a:a/",
        ":\\/\\/a:",
        "eyJ",
        "eyJ.",
        "eyJaaaaaaaa.eyJ",
        "\\",
        "\\\"",
        "\"",
        "{\"a\":",
        "%2B",
        "%3D",
        "\n",
        " ",
        "\t",
        "/",
        "+",
        "_",
        "token=",
        "password=",
        "password: ",
        "pwd=a ",
        "pass=1 ",
        "pass=a",
        "secret=\"",
        "secret=\\\"",
        "api_key='",
        "api_key=a,",
        "Basic a",
        "Bearer a",
        "cookie=a=b;",
        "cookie: a",
        "authorization: digest ",
        "authorization: a",
        "--token ",
        "\xff",
        "\xc3",
        "\xd0\xbe", /* look-alikes, characters of no width, colours */
        "p\xd0\xb0ssw\xd0\xberd=",
        "\xe2\x80\x8b",
        "\x1b[",
        "\x1b[36mpassword\x1b[0m=",
        "\x1b[000000000000000000000000000000",
        "%2525", /* escapes in escapes */
        "%25253d",
        "%41",
        "&amp;amp;amp;",
        "&#38;",
        "&;",
        "&aaaaaaaaaaaa",
        "\\u005cu005cu005c",
        "\\u0041",
        "\\\\\\\"",
        "\\\"password\\\":\\\"a\\\",",
        "=3D=3D",
        "p\0a\0",
    };

    return index < TF_COUNT(units) && attack_set(out, "plain", units[index], "", 0);
}

/* How a keyword is filled up: with what, and how often. */
static inline const char *attack_filler(uint32_t index, unsigned *times)
{
    static const struct {
        const char *text;
        unsigned times;
    } fillers[] = {
        {"", 0},      {"=", 1},
        {"=a ", 1},   {": \"", 1},
        {"a", 40},    {"A", 200},
        {"0", 40},    {" ", 7},
        {"a.", 60},   {"-", 30},
        {"_a", 30},   {"=\"a\\", 90},
        {"a", 900},   {"0", 15},
        {"/", 40},    {"=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa ", 1},
        {"aB3-", 60}, {":", 3},
        {"\n", 1},    {"=[REDACTED:x] ", 1},
    };

    *times = index < TF_COUNT(fillers) ? fillers[index].times : 0;
    return index < TF_COUNT(fillers) ? fillers[index].text : NULL;
}

/* An example with its last bytes cut off, so that it nearly matches; or whole. */
static inline bool attack_example(const struct tf_redact_rule *rule, uint32_t index,
                                  struct attack *out)
{
    static const size_t cuts[] = {0, 1, 4};
    uint32_t number = index / (uint32_t)TF_COUNT(cuts);
    size_t cut = cuts[index % TF_COUNT(cuts)];
    const char *text = number < TF_REDACT_EXAMPLES_MAX ? rule->match[number] : NULL;

    if (text == NULL || !attack_set(out, rule->id, text, "", 0) || out->size <= cut) {
        return false;
    }
    out->size -= cut;
    if (cut == 0 && out->size < ATTACK_UNIT_MAX) {
        out->unit[out->size++] = ' ';
    }
    return true;
}

static inline uint32_t attack_fillers(void)
{
    uint32_t count = 0;
    unsigned times;

    while (attack_filler(count, &times) != NULL) {
        count++;
    }
    return count;
}

/* The index-th text of a rule: each of its first keywords with each filler, then the examples.
 * Returns false behind the last one. */
static inline bool attack_of_rule(const struct tf_redact_rule *rule, uint32_t keywords_max,
                                  uint32_t index, struct attack *out)
{
    uint32_t fillers = attack_fillers(), keywords = 0;
    unsigned times;

    while (keywords < keywords_max && rule->keywords[keywords] != NULL) {
        keywords++;
    }
    if (index < keywords * fillers) {
        const char *filler = attack_filler(index % fillers, &times);

        return attack_set(out, rule->id, rule->keywords[index / fillers], filler, times);
    }
    return attack_example(rule, index - keywords * fillers, out);
}

/* Writes the unit over and over; no line is longer than line_bytes. */
static inline void attack_write(const struct attack *attack, char *line, size_t line_bytes)
{
    for (size_t at = 0; at < line_bytes; at += attack->size) {
        size_t left = line_bytes - at;

        memcpy(line + at, attack->unit, attack->size < left ? attack->size : left);
    }
}

#endif
