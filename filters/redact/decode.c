/*
 * decode.c - base64 undone, one level deep, so that what it hides is found.
 *
 * A run of at least 16 base64 characters, of either alphabet, may begin a quantum at each of its
 * first four places: so a secret is found also behind characters that are glued to it. Such a phase
 * is decoded when somewhere in it four quanta in a row are ASCII, as text is and other bytes hardly
 * ever are. The decoded texts are scanned as values are. Where a rule matches in one, the
 * whole run and its padding is masked under that rule's name; where one is withheld, the run is
 * withheld. All that is decoded of a value is 64 KiB at most; past it, runs stand as they are.
 *
 * Cost is linear in the run: four times three quarters of it are scanned at most, and the tries
 * there count against the value's own allowance of work.
 */
#include "engine.h"

#define PHASES       4u
#define QUANTA_ASCII 4u
#define NO_VALUE     0x80u

/* By byte: its six bits, of either alphabet, or NO_VALUE. */
static const uint8_t values[256] = {
    0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80,
    0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80,
    0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x3e, 0x80, 0x3e, 0x80, 0x3f,
    0x34, 0x35, 0x36, 0x37, 0x38, 0x39, 0x3a, 0x3b, 0x3c, 0x3d, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80,
    0x80, 0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0a, 0x0b, 0x0c, 0x0d, 0x0e,
    0x0f, 0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18, 0x19, 0x80, 0x80, 0x80, 0x80, 0x3f,
    0x80, 0x1a, 0x1b, 0x1c, 0x1d, 0x1e, 0x1f, 0x20, 0x21, 0x22, 0x23, 0x24, 0x25, 0x26, 0x27, 0x28,
    0x29, 0x2a, 0x2b, 0x2c, 0x2d, 0x2e, 0x2f, 0x30, 0x31, 0x32, 0x33, 0x80, 0x80, 0x80, 0x80, 0x80,
    0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80,
    0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80,
    0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80,
    0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80,
    0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80,
    0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80,
    0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80,
    0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80};

int tf_redact_base64_value(uint8_t byte)
{
    return values[byte] == NO_VALUE ? -1 : values[byte];
}

size_t tf_redact_base64_decode(const char *text, size_t size, char *out)
{
    const uint8_t *in = (const uint8_t *)text;
    size_t written = 0, at = 0;
    uint32_t bits;

    for (; size - at >= 4; at += 4) {
        bits = (uint32_t)values[in[at]] << 18 | (uint32_t)values[in[at + 1]] << 12 |
               (uint32_t)values[in[at + 2]] << 6 | values[in[at + 3]];
        out[written++] = (char)(bits >> 16 & 0xff);
        out[written++] = (char)(bits >> 8 & 0xff);
        out[written++] = (char)(bits & 0xff);
    }
    if (size - at >= 2) {
        bits = (uint32_t)values[in[at]] << 6 | values[in[at + 1]];
        out[written++] = (char)(bits >> 4 & 0xff);
    }
    if (size - at == 3) {
        bits = (uint32_t)values[in[at + 1]] << 6 | values[in[at + 2]];
        out[written++] = (char)(bits >> 2 & 0xff);
    }
    return written;
}

/* The phases in which text may be, a bit each; *end is where the run ends, at limit at the latest.
 */
static unsigned find_phases(const char *text, size_t limit, size_t *end)
{
    const uint8_t *in = (const uint8_t *)text;
    uint8_t in_a_row[PHASES] = {0};
    uint32_t last = 0xffffffff; /* four values, the newest lowest */
    unsigned phases = 0;
    size_t at = 0;

    for (; at < limit && values[in[at]] != NO_VALUE; at++) {
        uint8_t *row = &in_a_row[(at + 1) % PHASES]; /* where the first of the four is */
        bool ascii;

        last = last << 8 | values[in[at]];
        ascii = (last & 0x20080200u) == 0;
        *row = ascii ? *row + 1 : 0;
        if (*row == QUANTA_ASCII) {
            phases |= 1u << (at + 1) % PHASES;
            *row = 0;
        }
    }
    *end = at;
    return phases;
}

/* Books what was found in the decoded text, each for the whole run. False: nothing. */
static bool take_found(struct tf_redact_scan *scan, size_t run, size_t end)
{
    const struct tf_redact_scan *inner = scan->inner;

    if (inner->reason != NULL) {
        tf_redact_scan_add(scan, run, end, TF_REDACT_WITHHELD, NULL);
        scan->withheld_rule = inner->withheld_rule;
        scan->reason = inner->reason;
        return true;
    }
    for (uint32_t i = 0; i < inner->span_count; i++) {
        uint32_t before = scan->span_count;

        tf_redact_scan_add(scan, run, end, inner->spans[i].rule, inner->spans[i].keyword);
        if (scan->span_count > before) {
            scan->spans[before].is_encoded = true;
        }
    }
    return inner->span_count > 0;
}

/* Scans a run in one phase, as far as there is room for it. */
static bool undo_phase(struct tf_redact_scan *scan, const char *value, size_t run, size_t end,
                       size_t from, size_t to)
{
    size_t room = (size_t)scan->decoded_left / 3 * 4, bytes;

    to = to - from < room ? to : from + room;
    bytes = tf_redact_base64_decode(value + from, to - from, scan->decoded);
    scan->decoded_left -= (uint32_t)bytes;
    memset(scan->decoded + bytes, 0, TF_REDACT_READAHEAD_BYTES);
    if (!tf_redact_scan_inner(scan->inner, scan, scan->decoded, bytes)) {
        tf_redact_scan_add(scan, run, end, TF_REDACT_WITHHELD, NULL);
        scan->reason = "budget";
        return true;
    }
    return take_found(scan, run, end);
}

void tf_redact_decode_run(struct tf_redact_scan *scan, const char *value, size_t size, size_t run)
{
    size_t end, to;
    unsigned phases = find_phases(value + run, size - run, &to);
    bool found = false;

    to += run;
    end = to;
    while (end < size && value[end] == '=') {
        end++;
    }
    for (size_t phase = 0; !found && phase < PHASES; phase++) {
        if ((phases >> phase & 1u) != 0) {
            found = undo_phase(scan, value, run, end, run + phase, to);
        }
    }
}
