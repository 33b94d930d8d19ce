/*
 * time.c - RFC 3339, section 5.6, to nanoseconds since the Unix epoch.
 *
 * Strict in form and range, but for what container runtimes write: 0 to 9 fraction digits, and `Z`
 * or any offset up to 23:59. A leap second (60) is taken as the last nanosecond before the next
 * minute. Years 1678 to 2261, so that the result fits.
 */
#include "taffrail/decode.h"

#include <errno.h>

#define PREFIX_BYTES  19u /* 2026-11-23T10:15:04 */
#define YEAR_MIN      1678
#define YEAR_MAX      2261
#define DAYS_PER_ERA  146097
#define DAYS_TO_EPOCH 719468 /* from 0000-03-01 to 1970-01-01 */
#define FRACTION_MAX  9u

/* `count` digits at `at`, or -1. */
static int digits(const char *at, unsigned count)
{
    int value = 0;

    for (unsigned i = 0; i < count; i++) {
        if (at[i] < '0' || at[i] > '9') {
            return -1;
        }
        value = value * 10 + (at[i] - '0');
    }
    return value;
}

static int days_in_month(int year, int month)
{
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;

    return days[month - 1] + (month == 2 && leap ? 1 : 0);
}

/* Days since the epoch of a proleptic Gregorian date; the year is counted from March, so that
 * February ends it. */
static int64_t days_since_epoch(int year, int month, int day)
{
    int shifted = month <= 2 ? year - 1 : year;
    int era = shifted / 400;
    int year_of_era = shifted - era * 400;
    int day_of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    int day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;

    return (int64_t)era * DAYS_PER_ERA + day_of_era - DAYS_TO_EPOCH;
}

static int parse_seconds(const char *at, int64_t *seconds, bool *is_leap)
{
    int year = digits(at, 4), month = digits(at + 5, 2), day = digits(at + 8, 2);
    int hour = digits(at + 11, 2), minute = digits(at + 14, 2), second = digits(at + 17, 2);

    if (at[4] != '-' || at[7] != '-' || (at[10] != 'T' && at[10] != 't') || at[13] != ':' ||
        at[16] != ':') {
        return -EPROTO;
    }
    if (year < YEAR_MIN || year > YEAR_MAX || month < 1 || month > 12 || day < 1 ||
        day > days_in_month(year, month)) {
        return -EPROTO;
    }
    if (hour < 0 || hour > 23 || minute < 0 || minute > 59 || second < 0 || second > 60) {
        return -EPROTO;
    }
    *is_leap = second == 60;
    *seconds = days_since_epoch(year, month, day) * 86400 + hour * 3600 + minute * 60 +
               (*is_leap ? 59 : second);
    return 0;
}

/* "Z", "+01:00", "-23:59"; anything behind it is an error. */
static int parse_offset(struct tf_slice text, int64_t *offset_seconds)
{
    int hours, minutes;

    if (text.size == 1 && (text.data[0] == 'Z' || text.data[0] == 'z')) {
        *offset_seconds = 0;
        return 0;
    }
    if (text.size != 6 || (text.data[0] != '+' && text.data[0] != '-') || text.data[3] != ':') {
        return -EPROTO;
    }
    hours = digits(text.data + 1, 2);
    minutes = digits(text.data + 4, 2);
    if (hours < 0 || hours > 23 || minutes < 0 || minutes > 59) {
        return -EPROTO;
    }
    *offset_seconds = hours * 3600 + minutes * 60;
    if (text.data[0] == '-') {
        *offset_seconds = -*offset_seconds;
    }
    return 0;
}

int tf_time_parse(struct tf_slice text, int64_t *time_ns)
{
    int64_t seconds, offset_seconds, fraction_ns = 0;
    size_t at = PREFIX_BYTES;
    unsigned count = 0;
    bool is_leap;
    int rc;

    if (text.size <= PREFIX_BYTES) {
        return -EPROTO;
    }
    rc = parse_seconds(text.data, &seconds, &is_leap);
    if (rc < 0) {
        return rc;
    }
    if (text.data[at] == '.') {
        at++;
        for (;
             at < text.size && text.data[at] >= '0' && text.data[at] <= '9' && count < FRACTION_MAX;
             at++, count++) {
            fraction_ns = fraction_ns * 10 + (text.data[at] - '0');
        }
    }
    for (; count < FRACTION_MAX; count++) {
        fraction_ns *= 10;
    }
    rc = parse_offset(tf_slice(text.data + at, text.size - at), &offset_seconds);
    if (rc < 0) {
        return rc;
    }
    *time_ns = (seconds - offset_seconds) * TF_S_IN_NS + (is_leap ? TF_S_IN_NS - 1 : fraction_ns);
    return 0;
}
