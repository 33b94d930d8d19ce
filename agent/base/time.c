/*
 * time.c - the wall clock, and RFC 3339 in UTC with nine fraction digits.
 */
#include "taffrail/base.h"

#include <stdio.h>
#include <time.h>

#define FIRST_SECOND INT64_C(-62167219200) /* 0000-01-01T00:00:00Z */
#define LAST_SECOND  INT64_C(253402300799) /* 9999-12-31T23:59:59Z */

int64_t tf_now_ns(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_REALTIME, &now); /* fails only for a clock that does not exist */
    return (int64_t)now.tv_sec * TF_S_IN_NS + now.tv_nsec;
}

void tf_time_format(int64_t time_ns, char text[TF_TIME_TEXT_BYTES])
{
    int64_t seconds = time_ns / TF_S_IN_NS;
    int64_t fraction_ns = time_ns % TF_S_IN_NS;
    struct tm parts;
    time_t when;

    if (fraction_ns < 0) {
        fraction_ns += TF_S_IN_NS;
        seconds--;
    }
    if (seconds < FIRST_SECOND) {
        seconds = FIRST_SECOND;
    } else if (seconds > LAST_SECOND) {
        seconds = LAST_SECOND;
    }
    when = (time_t)seconds;
    (void)gmtime_r(&when, &parts);
    (void)snprintf(text, TF_TIME_TEXT_BYTES, "%04u-%02u-%02uT%02u:%02u:%02u.%09uZ",
                   (unsigned)(parts.tm_year + 1900) % 10000, (unsigned)(parts.tm_mon + 1) % 100,
                   (unsigned)parts.tm_mday % 100, (unsigned)parts.tm_hour % 100,
                   (unsigned)parts.tm_min % 100, (unsigned)parts.tm_sec % 100,
                   (unsigned)fraction_ns % 1000000000u);
}
