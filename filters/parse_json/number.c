/*
 * number.c - numbers of JSON (RFC 8259, section 6), kept as they are or not taken for numbers.
 *
 *     an integer of 64 bits           INT, or UINT above INT64_MAX
 *     up to 15 significant digits     DOUBLE: every such decimal comes back from one
 *     16 or 17                        DOUBLE when they are what one prints as its shortest form,
 *                                     as programs write them; 0.10000000000000001 is not
 *     anything else                   TEXT: more digits, -0, what is not finite or not normal
 *
 * Leading and trailing zeros are no significant digits.
 */
#include "parse_json.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define SURE_DIGITS_MAX   15u
#define DOUBLE_DIGITS_MAX 17u
#define EXPONENT_MAX      400        /* no double has a larger one, in 17 digits */
#define EXPONENT_END      1000000000 /* what is written is not followed further */
#define EXACT_POWER_MAX   22         /* 10^22 is a double */
#define WRITTEN_BYTES     40u

/* digits * 10^exponent; digits ends in no zero, unless it is 0. */
struct decimal {
    uint64_t digits; /* of the first 17 */
    uint32_t count;  /* of significant digits */
    int64_t exponent;
    bool is_negative;
};

/* ---- as it is written ---------------------------------------------------------------------------
 */

static bool is_digit(char byte)
{
    return byte >= '0' && byte <= '9';
}

/* One digit at least. */
static bool skip_digits(struct tf_json *in)
{
    const char *start = in->at;

    while (in->at < in->end && is_digit(*in->at)) {
        in->at++;
    }
    return in->at > start;
}

/* True when one of both stands there; it is passed over. */
static bool take_either(struct tf_json *in, char one, char other)
{
    bool is_there = in->at < in->end && (*in->at == one || *in->at == other);

    in->at += is_there ? 1 : 0;
    return is_there;
}

static bool skip_number(struct tf_json *in, bool *is_integer)
{
    *is_integer = true;
    (void)take_either(in, '-', '-');
    if (!take_either(in, '0', '0') && !skip_digits(in)) {
        return false;
    }
    if (take_either(in, '.', '.')) {
        *is_integer = false;
        if (!skip_digits(in)) {
            return false;
        }
    }
    if (take_either(in, 'e', 'E')) {
        *is_integer = false;
        (void)take_either(in, '+', '-');
        return skip_digits(in);
    }
    return true;
}

/* ---- integers -----------------------------------------------------------------------------------
 */

static bool read_integer(struct tf_slice digits, struct tf_field *field)
{
    bool is_negative = digits.data[0] == '-';
    uint64_t value = 0;

    for (size_t i = is_negative ? 1 : 0; i < digits.size; i++) {
        unsigned digit = (unsigned)(digits.data[i] - '0');

        if (value > (UINT64_MAX - digit) / 10) {
            return false;
        }
        value = value * 10 + digit;
    }
    if (is_negative) {
        if (value == 0 || value > (uint64_t)INT64_MAX + 1) {
            return false;
        }
        field->type = TF_VALUE_INT;
        field->value.i = -(int64_t)(value - 1) - 1;
    } else if (value <= INT64_MAX) {
        field->type = TF_VALUE_INT;
        field->value.i = (int64_t)value;
    } else {
        field->type = TF_VALUE_UINT;
        field->value.u = value;
    }
    return true;
}

/* ---- decimals -----------------------------------------------------------------------------------
 */

/* What is behind the `e`. */
static int64_t read_exponent(const char *at, const char *end)
{
    bool is_negative = *at == '-';
    int64_t value = 0;

    at += *at == '-' || *at == '+' ? 1 : 0;
    for (; at < end && value < EXPONENT_END; at++) {
        value = value * 10 + (*at - '0');
    }
    return is_negative ? -value : value;
}

static struct decimal read_decimal(struct tf_slice number)
{
    struct decimal decimal = {.is_negative = number.data[0] == '-'};
    const char *at = number.data + (decimal.is_negative ? 1 : 0);
    const char *end = number.data + number.size;
    uint32_t zeros = 0; /* behind the last significant digit */
    bool is_fraction = false;

    for (; at < end && *at != 'e' && *at != 'E'; at++) {
        if (*at == '.') {
            is_fraction = true;
            continue;
        }
        decimal.exponent -= is_fraction ? 1 : 0;
        zeros++;
        if (*at != '0') {
            decimal.count += decimal.count > 0 ? zeros : 1;
            for (; zeros > 1 && decimal.count <= DOUBLE_DIGITS_MAX; zeros--) {
                decimal.digits *= 10;
            }
            decimal.digits = decimal.digits * 10 + (uint64_t)(*at - '0');
            zeros = 0;
        }
    }
    decimal.exponent += zeros + (at < end ? read_exponent(at + 1, end) : 0);
    return decimal;
}

/* The nearest double. */
static double to_double(const struct decimal *decimal)
{
    static const double powers[EXACT_POWER_MAX + 1] = {
        1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
        1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
    char written[WRITTEN_BYTES];

    if (decimal->count <= SURE_DIGITS_MAX && llabs(decimal->exponent) <= EXACT_POWER_MAX) {
        return decimal->exponent < 0
                   ? (double)decimal->digits / powers[-decimal->exponent]
                   : (double)decimal->digits * powers[decimal->exponent]; /* rounded once */
    }
    (void)snprintf(written, sizeof written, "%llue%lld", (unsigned long long)decimal->digits,
                   (long long)decimal->exponent);
    return strtod(written, NULL);
}

/* Whether value, which is not negative, has the decimal's digits as its shortest form. */
static bool is_shortest(const struct decimal *decimal, double value)
{
    char digits[WRITTEN_BYTES], written[WRITTEN_BYTES];

    (void)snprintf(written, sizeof written, "%.*e", (int)decimal->count - 2, value);
    if (strtod(written, NULL) == value) {
        return false;
    }
    (void)snprintf(digits, sizeof digits, "%llu", (unsigned long long)decimal->digits);
    (void)snprintf(written, sizeof written, "%.*e", (int)decimal->count - 1, value);
    return written[0] == digits[0] && memcmp(written + 2, digits + 1, decimal->count - 1) == 0;
}

static bool read_double(struct tf_slice number, struct tf_field *field)
{
    struct decimal decimal = read_decimal(number);
    double value = 0;

    if (decimal.count > DOUBLE_DIGITS_MAX || (decimal.count == 0 && decimal.is_negative)) {
        return false;
    }
    if (decimal.count > 0) {
        if (llabs(decimal.exponent) > EXPONENT_MAX) {
            return false;
        }
        value = to_double(&decimal);
        if (!isnormal(value) ||
            (decimal.count > SURE_DIGITS_MAX && !is_shortest(&decimal, value))) {
            return false;
        }
    }
    field->type = TF_VALUE_DOUBLE;
    field->value.d = decimal.is_negative ? -value : value;
    return true;
}

bool tf_parse_json_number(struct tf_json *in, struct tf_slice *digits, struct tf_field *field)
{
    const char *start = in->at;
    bool is_integer;

    if (!skip_number(in, &is_integer)) {
        return false;
    }
    *digits = tf_slice(start, (size_t)(in->at - start));
    if (!(is_integer && read_integer(*digits, field)) && !read_double(*digits, field)) {
        field->type = TF_VALUE_TEXT;
    }
    return true;
}
