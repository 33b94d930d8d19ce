/*
 * count.c - figures for people: grouped by thousands, and with a noun that agrees.
 */
#include "taffrail/base.h"

#include <inttypes.h>
#include <stdio.h>

const char *tf_count_text(uint64_t count, char text[TF_COUNT_TEXT_BYTES])
{
    char digits[TF_COUNT_TEXT_BYTES];
    int size = snprintf(digits, sizeof digits, "%" PRIu64, count), at = 0;

    for (int i = 0; i < size; i++) {
        if (i > 0 && (size - i) % 3 == 0) {
            text[at++] = ',';
        }
        text[at++] = digits[i];
    }
    text[at] = '\0';
    return text;
}

const char *tf_counted_text(uint64_t count, const char *noun, char text[TF_COUNTED_TEXT_BYTES])
{
    char figure[TF_COUNT_TEXT_BYTES];

    (void)snprintf(text, TF_COUNTED_TEXT_BYTES, "%s %s%s", tf_count_text(count, figure), noun,
                   count == 1 ? "" : "s");
    return text;
}
