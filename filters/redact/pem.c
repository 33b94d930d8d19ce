/*
 * pem.c - the state across records: between BEGIN and END of a private key.
 *
 * States of a stream: closed (left is 0), and open with `left` lines to go.
 *
 *     closed  a line has "-----BEGIN … PRIVATE KEY" and no END behind it -> open, 200 to go
 *     open    a line has "-----END … PRIVATE KEY"                        -> closed
 *     open    a line is base64-shaped: masked; it was the last to go     -> closed
 *     open    another line: passes, but for what looks like a part of the key in it (then it
 *             counts): runs of base64 of 40 bytes or more, or of 4 or more that end in `=`, and
 *             what stands right before END
 *
 * The line with BEGIN itself is the private-key rule's. Foreign lines between those of a key, from
 * other threads, pass and do not end it. Saved: format (1), left; nothing when closed.
 */
#include "pem.h"

#define FORMAT         1u
#define RUN_MIN_BYTES  40u
#define TAIL_MIN_BYTES 4u /* of one with padding */
#define LABEL_MAX_SIZE 60u

static bool is_base64(char byte)
{
    return (byte >= 'A' && byte <= 'Z') || (byte >= 'a' && byte <= 'z') ||
           (byte >= '0' && byte <= '9') || byte == '+' || byte == '/' || byte == '=';
}

/* How many bytes at the start of a text may stand in a label: capitals, digits, blanks. */
static size_t label_size(const char *text, size_t size)
{
    size_t at = 0;

    while (at < size && at < LABEL_MAX_SIZE &&
           ((text[at] >= 'A' && text[at] <= 'Z') || (text[at] >= '0' && text[at] <= '9') ||
            text[at] == ' ')) {
        at++;
    }
    return at;
}

/* Whether a mark ("-----BEGIN ") of a private key stands in the line, at *from; *behind is the
 * place after its label. */
static bool find_mark(struct tf_slice line, const char *mark, size_t *from, size_t *behind)
{
    static const char label[] = "PRIVATE KEY";
    const char *at = line.data, *end = line.data + line.size;

    while (at < end && (at = memmem(at, (size_t)(end - at), mark, strlen(mark))) != NULL) {
        const char *text = at + strlen(mark);
        size_t size = label_size(text, (size_t)(end - text));
        const char *found = memmem(text, size, label, sizeof label - 1);

        if (found != NULL) {
            *from = (size_t)(at - line.data);
            *behind = (size_t)(found - line.data) + sizeof label - 1;
            return true;
        }
        at++;
    }
    return false;
}

/* The part of a line within blanks, quotes and commas, as in a printed list. */
static struct tf_slice trim(struct tf_slice line)
{
    while (line.size > 0 && strchr(" \t\r\"',", line.data[0]) != NULL && line.data[0] != 0) {
        line.data++;
        line.size--;
    }
    while (line.size > 0 && strchr(" \t\r\"',", line.data[line.size - 1]) != NULL &&
           line.data[line.size - 1] != 0) {
        line.size--;
    }
    return line;
}

/* Adds what is base64 of a line; true when there was some. */
static bool mask_line(struct tf_slice line, size_t at, struct tf_redact_scan *scan, uint16_t rule)
{
    struct tf_slice body = trim(line);
    size_t start = 0, i = 0;
    bool found = false;

    while (i < body.size && is_base64(body.data[i])) {
        i++;
    }
    at += (size_t)(body.data - line.data);
    if (i == body.size) {
        tf_redact_scan_add(scan, at, at + body.size, rule, NULL);
        return body.size > 0;
    }
    for (i = 0; i <= body.size; i++) {
        if (i < body.size && is_base64(body.data[i])) {
            continue;
        }
        if (i - start >= RUN_MIN_BYTES ||
            (i - start >= TAIL_MIN_BYTES && body.data[i - 1] == '=' && body.data[start] != '=')) {
            tf_redact_scan_add(scan, at + start, at + i, rule, NULL);
            found = true;
        }
        start = i + 1;
    }
    return found;
}

/* The last piece of a key may be short, "…\\nabcd\\n-----END": what stands right before END. */
static void mask_before(struct tf_slice line, size_t end, size_t at, struct tf_redact_scan *scan,
                        uint16_t rule)
{
    size_t start = end;

    while (start > 0 && (is_base64(line.data[start - 1]) || line.data[start - 1] == '\\')) {
        start--;
    }
    tf_redact_scan_add(scan, at + start, at + end, rule, NULL);
}

static void follow_line(uint8_t *left, struct tf_slice line, size_t at, struct tf_redact_scan *scan,
                        uint16_t rule)
{
    size_t behind = 0, from;

    if (*left > 0) {
        if (find_mark(line, "-----END ", &from, &behind)) {
            (void)mask_line(tf_slice(line.data, from), at, scan, rule); /* it ends on this line */
            mask_before(line, from, at, scan, rule);
            *left = 0;
        } else if (mask_line(line, at, scan, rule)) {
            (*left)--;
        }
    }
    /* A key may follow behind the END of another. */
    line.data += behind;
    line.size -= behind;
    while (find_mark(line, "-----BEGIN ", &from, &behind)) {
        *left = TF_REDACT_PEM_LINES_MAX;
        line.data += behind;
        line.size -= behind;
        if (!find_mark(line, "-----END ", &from, &behind)) {
            break;
        }
        *left = 0;
        line.data += behind;
        line.size -= behind;
    }
}

void tf_redact_pem_follow(uint8_t *left, struct tf_slice value, struct tf_redact_scan *scan,
                          uint16_t rule)
{
    size_t at = 0;

    while (at < value.size) {
        const char *newline = memchr(value.data + at, '\n', value.size - at);
        size_t end = newline != NULL ? (size_t)(newline - value.data) : value.size;

        follow_line(left, tf_slice(value.data + at, end - at), at, scan, rule);
        at = end + 1;
    }
}

void tf_redact_pem_save(const struct tf_redact_pem *pem, enum tf_stream stream,
                        struct tf_stream_state *out)
{
    *out = (struct tf_stream_state){0};
    if (pem->left[stream] > 0) {
        out->size = 2;
        out->bytes[0] = FORMAT;
        out->bytes[1] = pem->left[stream];
    }
}

void tf_redact_pem_load(struct tf_redact_pem *pem, enum tf_stream stream,
                        const struct tf_stream_state *in)
{
    pem->left[stream] = 0;
    if (in->size != 0) {
        bool sound = in->size == 2 && in->bytes[0] == FORMAT && in->bytes[1] > 0 &&
                     in->bytes[1] <= TF_REDACT_PEM_LINES_MAX;

        pem->left[stream] = sound ? in->bytes[1] : TF_REDACT_PEM_LINES_MAX;
    }
}
