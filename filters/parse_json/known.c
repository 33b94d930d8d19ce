/*
 * known.c - the names under which programs log their message, its level and its time.
 *
 * Names of a role are tried in the order of the table: the first whose value will do is the one. A
 * value that will not do, such as a level that is not known, leaves the role to a later name, and
 * its key in the body. Letters count without their case; of two keys that differ only so, the first
 * one in the body counts.
 */
#include "parse_json.h"

#include "taffrail/decode.h"

#define TIME_END_NS       ((INT64_C(1) << 32) * TF_S_IN_NS) /* EventTime holds no more */
#define TIME_MIN_BYTES    20u                               /* 2026-11-23T10:15:04Z */
#define TIME_MAX_BYTES    40u
#define DIGITS_OF_SECONDS 10u /* of a time since the epoch, from 2001 on */
#define DIGITS_OF_NS      19u
#define WORD_MAX_BYTES    16u

enum { TRACE, DEBUG, INFO, NOTICE, WARNING, ERROR, CRITICAL, ALERT, EMERGENCY };

const char *const tf_parse_json_levels[TF_PARSE_JSON_LEVELS] = {
    [TRACE] = "trace",       [DEBUG] = "debug",     [INFO] = "info",
    [NOTICE] = "notice",     [WARNING] = "warning", [ERROR] = "error",
    [CRITICAL] = "critical", [ALERT] = "alert",     [EMERGENCY] = "emergency"};

/* A word in lower case, and what it stands for. */
struct word {
    char text[WORD_MAX_BYTES];
    uint8_t size, meaning;
};

#define WORD(text, meaning)                                                                        \
    {                                                                                              \
        text, sizeof(text) - 1, meaning                                                            \
    }

static const struct word names[] = {
    WORD("message", TF_PARSE_JSON_MESSAGE),
    WORD("msg", TF_PARSE_JSON_MESSAGE),
    WORD("@m", TF_PARSE_JSON_MESSAGE),
    WORD("log", TF_PARSE_JSON_MESSAGE),
    WORD("short_message", TF_PARSE_JSON_MESSAGE),
    WORD("event", TF_PARSE_JSON_MESSAGE),
    WORD("@mt", TF_PARSE_JSON_MESSAGE),
    WORD("severity", TF_PARSE_JSON_LEVEL),
    WORD("level", TF_PARSE_JSON_LEVEL),
    WORD("log.level", TF_PARSE_JSON_LEVEL),
    WORD("levelname", TF_PARSE_JSON_LEVEL),
    WORD("level_name", TF_PARSE_JSON_LEVEL),
    WORD("loglevel", TF_PARSE_JSON_LEVEL),
    WORD("lvl", TF_PARSE_JSON_LEVEL),
    WORD("@l", TF_PARSE_JSON_LEVEL),
    WORD("time", TF_PARSE_JSON_TIME),
    WORD("@timestamp", TF_PARSE_JSON_TIME),
    WORD("timestamp", TF_PARSE_JSON_TIME),
    WORD("ts", TF_PARSE_JSON_TIME),
    WORD("@t", TF_PARSE_JSON_TIME),
    WORD("datetime", TF_PARSE_JSON_TIME),
    WORD("timemillis", TF_PARSE_JSON_TIME),
};

static const struct word levels[] = {
    WORD("info", INFO),           WORD("debug", DEBUG),
    WORD("error", ERROR),         WORD("warn", WARNING),
    WORD("warning", WARNING),     WORD("trace", TRACE),
    WORD("notice", NOTICE),       WORD("critical", CRITICAL),
    WORD("fatal", CRITICAL),      WORD("alert", ALERT),
    WORD("emergency", EMERGENCY), WORD("information", INFO),
    WORD("informational", INFO),  WORD("inf", INFO),
    WORD("dbg", DEBUG),           WORD("dbug", DEBUG),
    WORD("verbose", DEBUG),       WORD("vrb", DEBUG),
    WORD("fine", DEBUG),          WORD("err", ERROR),
    WORD("eror", ERROR),          WORD("severe", ERROR),
    WORD("wrn", WARNING),         WORD("trc", TRACE),
    WORD("silly", TRACE),         WORD("finer", TRACE),
    WORD("finest", TRACE),        WORD("crit", CRITICAL),
    WORD("ftl", CRITICAL),        WORD("panic", CRITICAL),
    WORD("pnc", CRITICAL),        WORD("dpanic", CRITICAL),
    WORD("emerg", EMERGENCY),
};

/* The index of the word that text is, without the case of its letters; count when it is none. */
static uint32_t find_word(const struct word *list, uint32_t count, struct tf_slice text)
{
    char lower[WORD_MAX_BYTES] = {0};
    uint32_t i = 0;

    if (text.size > WORD_MAX_BYTES) {
        return count;
    }
    for (size_t at = 0; at < text.size; at++) {
        char byte = text.data[at];

        lower[at] = byte >= 'A' && byte <= 'Z' ? (char)(byte | 0x20) : byte;
    }
    while (i < count &&
           (list[i].size != text.size || memcmp(list[i].text, lower, WORD_MAX_BYTES) != 0)) {
        i++;
    }
    return i;
}

/* ---- levels -------------------------------------------------------------------------------------
 */

static bool read_level(const struct tf_parse_json_pair *pair, uint32_t *level)
{
    static const uint32_t tens[] = {TRACE, DEBUG, INFO, WARNING, ERROR, CRITICAL}; /* from 10 on */
    const char *digits = pair->value.data;
    uint32_t found;

    if (!pair->is_text) {
        if (pair->value.size != 2 || digits[0] < '1' || digits[0] > '6' || digits[1] != '0') {
            return false;
        }
        *level = tens[digits[0] - '1'];
        return true;
    }
    found = find_word(levels, TF_COUNT(levels), pair->value);
    if (found == TF_COUNT(levels)) {
        return false;
    }
    *level = levels[found].meaning;
    return true;
}

/* ---- times --------------------------------------------------------------------------------------
 */

/* Seconds, milliseconds, microseconds or nanoseconds, told apart by their digits: whichever it is,
 * its first DIGITS_OF_NS digits are the nanoseconds. */
static bool read_epoch(struct tf_slice number, int64_t *time_ns)
{
    uint64_t value = 0;
    unsigned count = 0, whole = 0;

    for (size_t i = 0; i < number.size; i++) {
        if (number.data[i] == '.') {
            whole = count;
        } else if (number.data[i] < '0' || number.data[i] > '9' || count == DIGITS_OF_NS) {
            return false; /* a sign, an exponent, or finer than nanoseconds */
        } else {
            value = value * 10 + (uint64_t)(number.data[i] - '0');
            count++;
        }
    }
    whole = whole == 0 ? count : whole;
    if (whole < DIGITS_OF_SECONDS || (whole - DIGITS_OF_SECONDS) % 3 != 0) {
        return false;
    }
    for (; count < DIGITS_OF_NS; count++) {
        value *= 10;
    }
    if (value >= (uint64_t)TIME_END_NS) {
        return false;
    }
    *time_ns = (int64_t)value;
    return true;
}

/* RFC 3339, and what differs from it in writing only: `2026-11-23 10:15:04,12+0200`. */
static bool read_date(struct tf_slice text, int64_t *time_ns)
{
    char copy[TIME_MAX_BYTES + 1];
    size_t size = text.size;

    if (size < TIME_MIN_BYTES || size > TIME_MAX_BYTES) {
        return false;
    }
    memcpy(copy, text.data, size);
    copy[10] = copy[10] == ' ' ? 'T' : copy[10];
    copy[19] = copy[19] == ',' ? '.' : copy[19];
    if (copy[size - 5] == '+' || copy[size - 5] == '-') {
        memmove(copy + size - 1, copy + size - 2, 2);
        copy[size - 2] = ':';
        size++;
    }
    return tf_time_parse(tf_slice(copy, size), time_ns) == 0 && *time_ns > 0 &&
           *time_ns < TIME_END_NS;
}

/* ---- pairs --------------------------------------------------------------------------------------
 */

void tf_parse_json_know(struct tf_parse_json_known *known, const struct tf_parse_json_pair *pair,
                        uint32_t field)
{
    enum tf_parse_json_role role;
    uint32_t rank = find_word(names, TF_COUNT(names), pair->key);
    bool is_known = pair->is_text;
    uint32_t level = known->level;
    int64_t time_ns = known->time_ns;

    if (rank == TF_COUNT(names)) {
        return;
    }
    role = (enum tf_parse_json_role)names[rank].meaning;
    if (known->of[role].field != 0 && known->of[role].rank <= rank) {
        return;
    }
    if (role == TF_PARSE_JSON_LEVEL) {
        is_known = read_level(pair, &level);
    } else if (role == TF_PARSE_JSON_TIME) {
        is_known =
            pair->is_text ? read_date(pair->value, &time_ns) : read_epoch(pair->value, &time_ns);
    }
    if (is_known) {
        known->of[role].field = field;
        known->of[role].rank = rank;
        known->level = level;
        known->time_ns = time_ns;
    }
}
