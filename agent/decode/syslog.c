/*
 * syslog.c - syslog datagrams, RFC 5424 and what is sent instead of it.
 *
 *     <PRI>1 TIME HOST APP PROCID MSGID [SD] text     RFC 5424, section 6
 *     <PRI>Mon dd hh:mm:ss ident[pid]: text           RFC 3164 as libc's syslog(3) writes it
 *
 * What is not exactly of the first form is read as the second, in which any part but the text may
 * be absent, just as journald 252 does (journald-syslog.c): white space around the datagram is
 * taken off, the text ends at a NUL, and SYSLOG_RAW keeps the whole when something was left out or
 * there was no time. The time of the second form has neither year nor zone: it stays text, and the
 * record's time is that of receipt.
 */
#include "taffrail/journal.h"

#include <errno.h>

#include "taffrail/decode.h"

#include "journal_internal.h"

#define PRIORITY_DEFAULT 14u /* user.info */
#define PRIORITY_MAX     191u
#define TIMESTAMP_BYTES  16u /* "Mon dd hh:mm:ss " */

struct message {
    uint32_t priority; /* facility and severity */
    struct tf_slice time, host, identifier, pid, id, data, text;
    int64_t time_ns;
    bool is_raw_kept;
};

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static void advance(struct tf_slice *text, size_t size)
{
    *text = tf_slice(text->data + size, text->size - size);
}

/* Takes "<PRI>" of 1 to 3 digits off the text. */
static void take_priority(struct tf_slice *text, uint32_t *priority)
{
    uint32_t value = 0;
    size_t at = 1;

    if (text->size == 0 || text->data[0] != '<') {
        return;
    }
    for (; at < text->size && at <= 3 && is_digit(text->data[at]); at++) {
        value = value * 10 + (uint32_t)(text->data[at] - '0');
    }
    if (at > 1 && at < text->size && text->data[at] == '>') {
        *priority = value;
        advance(text, at + 1);
    }
}

/* ---- RFC 3164 ----------------------------------------------------------------------------------
 */

/* a: a letter, 0: a digit, ' ' and ':' themselves, _: a digit or a space. */
static bool has_form(struct tf_slice text, const char *form)
{
    for (size_t i = 0; form[i] != '\0'; i++) {
        char c = i < text.size ? text.data[i] : '\0';
        bool fits = form[i] == 'a'   ? is_letter(c)
                    : form[i] == '0' ? is_digit(c)
                    : form[i] == '_' ? is_digit(c) || c == ' '
                                     : c == form[i];

        if (!fits) {
            return false;
        }
    }
    return true;
}

/* Takes "ident[pid]: " or "ident: " off the text. */
static void take_identifier(struct message *message)
{
    struct tf_slice text = message->text, word;
    const char *open = NULL;
    size_t size = 0;

    while (text.size > 0 && is_space(text.data[0])) {
        advance(&text, 1);
    }
    while (size < text.size && !is_space(text.data[size])) {
        size++;
    }
    if (size == 0 || text.data[size - 1] != ':') {
        return;
    }
    word = tf_slice(text.data, size - 1);
    if (word.size > 0 && word.data[word.size - 1] == ']') {
        open = memrchr(word.data, '[', word.size);
    }
    if (open != NULL) {
        size_t at = (size_t)(open - word.data);

        message->pid = tf_slice(open + 1, word.size - at - 2);
        word.size = at;
    }
    message->identifier = word;
    message->text = text;
    advance(&message->text, size + (size < text.size ? 1 : 0)); /* one space parts them */
}

static void read_old(struct tf_slice datagram, struct message *message)
{
    const char *nul;

    message->text = datagram;
    take_priority(&message->text, &message->priority);
    if (has_form(message->text, "aaa _0 _0:_0:_0 ")) {
        message->time = tf_slice(message->text.data, TIMESTAMP_BYTES);
        advance(&message->text, TIMESTAMP_BYTES);
    } else {
        message->is_raw_kept = true;
    }
    take_identifier(message);
    nul = message->text.size > 0 ? memchr(message->text.data, '\0', message->text.size) : NULL;
    if (nul != NULL) {
        message->text.size = (size_t)(nul - message->text.data);
        message->is_raw_kept = true;
    }
}

/* ---- RFC 5424 ----------------------------------------------------------------------------------
 */

/* Takes a word of printable ASCII and the space behind it off the text; "-" is none (size 0).
 * False when it is no such word, or longer than the RFC has it. */
static bool take_word(struct tf_slice *text, size_t max, struct tf_slice *word)
{
    size_t size = 0;

    while (size < text->size && size <= max && text->data[size] > ' ' && text->data[size] < 0x7f) {
        size++;
    }
    if (size == 0 || size > max || size == text->size || text->data[size] != ' ') {
        return false;
    }
    *word = tf_slice(text->data, size == 1 && text->data[0] == '-' ? 0 : size);
    advance(text, size + 1);
    return true;
}

/* The bytes of one "[id name="value" ...]" at the start of text; 0: there is none. */
static size_t element_bytes(struct tf_slice text)
{
    bool is_quoted = false;

    if (text.size == 0 || text.data[0] != '[') {
        return 0;
    }
    for (size_t i = 1; i < text.size; i++) {
        if (is_quoted && text.data[i] == '\\') {
            i++; /* of what is escaped: \" \\ \] */
        } else if (text.data[i] == '"') {
            is_quoted = !is_quoted;
        } else if (!is_quoted && text.data[i] == ']') {
            return i + 1;
        }
    }
    return 0;
}

static bool take_data(struct tf_slice *text, struct tf_slice *data)
{
    size_t size = 0, element;

    if (text->size > 0 && text->data[0] == '-') {
        *data = tf_slice(text->data, 0);
        size = 1;
    } else {
        do {
            element = element_bytes(tf_slice(text->data + size, text->size - size));
            size += element;
        } while (element > 0);
        *data = tf_slice(text->data, size);
    }
    if (size == 0 || (size < text->size && text->data[size] != ' ')) {
        return false;
    }
    advance(text, size + (size < text->size ? 1 : 0));
    return true;
}

/* False: it is not of this form, and *message is as before. */
static bool read_new(struct tf_slice datagram, struct message *message)
{
    struct message found = {.priority = UINT32_MAX};
    struct tf_slice text = datagram, version;

    take_priority(&text, &found.priority);
    if (found.priority > PRIORITY_MAX || !take_word(&text, 3, &version) || version.size == 0 ||
        version.data[0] < '1' || version.data[0] > '9' || !take_word(&text, 48, &found.time) ||
        !take_word(&text, 255, &found.host) || !take_word(&text, 48, &found.identifier) ||
        !take_word(&text, 128, &found.pid) || !take_word(&text, 32, &found.id) ||
        !take_data(&text, &found.data)) {
        return false;
    }
    found.time_ns = message->time_ns;
    if (found.time.size > 0 && tf_time_parse(found.time, &found.time_ns) < 0) {
        return false;
    }
    if (text.size >= 3 && memcmp(text.data, "\xef\xbb\xbf", 3) == 0) {
        advance(&text, 3); /* it says that the text is UTF-8 */
    }
    found.text = text;
    found.is_raw_kept = message->is_raw_kept;
    *message = found;
    return true;
}

/* ---- fields ------------------------------------------------------------------------------------
 */

static int put_message(struct tf_entry_build *build, const struct message *message,
                       struct tf_slice datagram)
{
    const struct {
        const char *name;
        struct tf_slice value;
    } texts[] = {
        {"SYSLOG_IDENTIFIER", message->identifier},
        {"SYSLOG_PID", message->pid},
        {"SYSLOG_TIMESTAMP", message->time},
        {"SYSLOG_HOSTNAME", message->host},
        {"SYSLOG_MSGID", message->id},
        {"SYSLOG_STRUCTURED_DATA", message->data},
        {"SYSLOG_RAW", message->is_raw_kept ? datagram : tf_slice(NULL, 0)},
    };
    int rc = tf_entry_put(build, tf_slice_text("MESSAGE"), message->text);

    if (rc == 0) {
        rc = tf_entry_put_number(build, "PRIORITY", message->priority % 8);
    }
    if (rc == 0 && message->priority >= 8) {
        rc = tf_entry_put_number(build, "SYSLOG_FACILITY", message->priority / 8);
    }
    for (size_t i = 0; rc == 0 && i < TF_COUNT(texts); i++) {
        if (texts[i].value.size > 0) {
            rc = tf_entry_put(build, tf_slice_text(texts[i].name), texts[i].value);
        }
    }
    return rc;
}

/* Without the white space around it, and NULs behind it. */
static struct tf_slice strip(struct tf_slice text)
{
    while (text.size > 0 &&
           (is_space(text.data[text.size - 1]) || text.data[text.size - 1] == '\0')) {
        text.size--;
    }
    while (text.size > 0 && is_space(text.data[0])) {
        advance(&text, 1);
    }
    return text;
}

int tf_syslog_decode(struct tf_slice datagram, const struct tf_journal_sender *sender,
                     const struct tf_journal_select *select, struct tf_batch *batch)
{
    struct tf_entry entry;
    struct tf_entry_build build = {.entry = &entry, .batch = batch, .start = batch->text.size};
    struct message message = {.priority = PRIORITY_DEFAULT, .time_ns = sender->received_ns};
    struct tf_slice text = strip(datagram);
    int rc;

    message.is_raw_kept = text.size < datagram.size;
    if (!read_new(text, &message)) {
        read_old(text, &message);
    }
    tf_entry_init(&entry);
    rc = put_message(&build, &message, datagram);
    if (rc == 0) {
        rc = tf_entry_put_sender(&build, sender, "syslog");
    }
    if (rc == 0) {
        rc = tf_entry_end(&build, select, message.time_ns, datagram.size);
    }
    if (rc < 0) {
        tf_entry_drop_text(batch, build.start);
    }
    return rc;
}
