/*
 * log.c - the agent's own log, on stderr.
 *
 * One line is made in a buffer on the stack and written by one write(2), so that lines of threads
 * never mix. Repeats are found in a small table by event and first detail: the first is told at
 * once, then one a minute with repeated=N. When the table is full its oldest entry is taken over.
 */
#include "taffrail/log.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#define LINE_MAX_BYTES    8192u
#define MESSAGE_MAX_BYTES 1024u
#define FOREIGN_MAX_BYTES 256u
#define SUBJECTS_MAX      128u
#define SUBJECT_MAX_BYTES 96u
#define REPEAT_NS         (60 * TF_S_IN_NS)

struct subject {
    char text[SUBJECT_MAX_BYTES];
    int64_t told_ns;
    uint64_t repeated; /* since told_ns */
};

static struct {
    pthread_mutex_t lock;
    enum tf_log_level level;
    enum tf_log_format format;
    struct subject subjects[SUBJECTS_MAX];
    uint64_t counts[TF_LOG_ERROR + 1];
} logger = {.lock = PTHREAD_MUTEX_INITIALIZER, .level = TF_LOG_INFO};

struct line {
    char text[LINE_MAX_BYTES];
    size_t size;
};

void tf_log_configure(enum tf_log_level level, enum tf_log_format format)
{
    (void)pthread_mutex_lock(&logger.lock);
    logger.level = level;
    logger.format = format;
    (void)pthread_mutex_unlock(&logger.lock);
}

/* Cuts at the end of the line's room; one byte stays free for the newline. */
static void put(struct line *line, const char *text, size_t size)
{
    size_t room = sizeof line->text - 1 - line->size;

    size = size < room ? size : room;
    memcpy(line->text + line->size, text, size);
    line->size += size;
}

static void put_text(struct line *line, const char *text)
{
    put(line, text, strlen(text));
}

/* Quotes and escapes a text of foreign origin, so that it stays one value of one line. */
static void put_quoted(struct line *line, const char *text, size_t max_bytes)
{
    size_t size = strnlen(text, max_bytes);
    bool is_utf8 = tf_utf8_valid(text, size);

    put(line, "\"", 1);
    for (size_t i = 0; i < size; i++) {
        unsigned char byte = (unsigned char)text[i];
        char escape[8];

        if (byte == '"' || byte == '\\') {
            put(line, "\\", 1);
            put(line, text + i, 1);
        } else if (byte < 0x20 || byte == 0x7f || (byte >= 0x80 && !is_utf8)) {
            (void)snprintf(escape, sizeof escape, "\\u%04x", byte);
            put_text(line, escape);
        } else {
            put(line, text + i, 1);
        }
    }
    put(line, "\"", 1);
}

static bool is_plain(const char *text)
{
    size_t size = strnlen(text, FOREIGN_MAX_BYTES);

    for (size_t i = 0; i < size; i++) {
        unsigned char byte = (unsigned char)text[i];

        if (byte <= ' ' || byte >= 0x7f || byte == '"' || byte == '=' || byte == '\\') {
            return false;
        }
    }
    return size > 0;
}

static void put_key(struct line *line, enum tf_log_format format, const char *key)
{
    if (format == TF_LOG_JSON) {
        put_text(line, line->size == 1 ? "\"" : ",\"");
        put_text(line, key);
        put_text(line, "\":");
        return;
    }
    put_text(line, line->size == 0 ? "" : " ");
    put_text(line, key);
    put_text(line, "=");
}

static void put_pair(struct line *line, enum tf_log_format format, const char *key,
                     const char *text)
{
    put_key(line, format, key);
    if (format == TF_LOG_LOGFMT && is_plain(text)) {
        put(line, text, strnlen(text, FOREIGN_MAX_BYTES));
    } else {
        put_quoted(line, text, strcmp(key, "msg") == 0 ? MESSAGE_MAX_BYTES : FOREIGN_MAX_BYTES);
    }
}

static void put_detail(struct line *line, enum tf_log_format format, const struct tf_detail *detail)
{
    char number[32];

    if (detail->text != NULL) {
        put_pair(line, format, detail->key, detail->text);
        return;
    }
    put_key(line, format, detail->key);
    if (detail->is_bool) {
        put_text(line, detail->number != 0 ? "true" : "false");
        return;
    }
    (void)snprintf(number, sizeof number, "%lld", (long long)detail->number);
    put_text(line, number);
}

/* True when this line is told; *repeated is how many of its kind were not. The lock is held. */
static bool is_told(const char *event, const struct tf_detail *details, size_t count,
                    int64_t now_ns, uint64_t *repeated)
{
    char text[SUBJECT_MAX_BYTES];
    struct subject *entry = &logger.subjects[0];

    (void)snprintf(text, sizeof text, "%s %s", event,
                   count > 0 && details[0].text != NULL ? details[0].text : "");
    for (size_t i = 0; i < SUBJECTS_MAX; i++) {
        if (strcmp(logger.subjects[i].text, text) == 0) {
            entry = &logger.subjects[i];
            break;
        }
        if (logger.subjects[i].told_ns < entry->told_ns) {
            entry = &logger.subjects[i];
        }
    }
    if (strcmp(entry->text, text) != 0) {
        *entry = (struct subject){.told_ns = now_ns};
        memcpy(entry->text, text, sizeof text);
        *repeated = 0;
        return true;
    }
    if (now_ns - entry->told_ns < REPEAT_NS && now_ns >= entry->told_ns) {
        entry->repeated++;
        return false;
    }
    *repeated = entry->repeated;
    entry->told_ns = now_ns;
    entry->repeated = 0;
    return true;
}

static void write_line(const struct line *line)
{
    size_t at = 0;

    while (at < line->size) {
        ssize_t n = write(STDERR_FILENO, line->text + at, line->size - at);

        if (n <= 0) {
            return; /* nobody is left to be told */
        }
        at += (size_t)n;
    }
}

/* One line; is_answer: told whatever was told before. */
static void log_line(enum tf_log_level level, bool is_answer, const char *event,
                     const struct tf_detail *details, size_t count, const char *message)
{
    static const char *const words[] = {"debug", "info", "warn", "error"};
    char time[TF_TIME_TEXT_BYTES];
    struct line line = {.size = 0};
    uint64_t repeated = 0;
    int64_t now_ns = tf_now_ns();

    tf_time_format(now_ns, time);
    memcpy(time + 23, "Z", 2); /* milliseconds are enough here */
    (void)pthread_mutex_lock(&logger.lock);
    if (level >= logger.level && (is_answer || is_told(event, details, count, now_ns, &repeated))) {
        put_text(&line, logger.format == TF_LOG_JSON ? "{" : "");
        put_pair(&line, logger.format, "time", time);
        put_pair(&line, logger.format, "level", words[level]);
        put_pair(&line, logger.format, "event", event);
        put_pair(&line, logger.format, "msg", message);
        for (size_t i = 0; i < count; i++) {
            put_detail(&line, logger.format, &details[i]);
        }
        if (repeated > 0) {
            put_detail(&line, logger.format, &TF_NUM("repeated", repeated));
        }
        put_text(&line, logger.format == TF_LOG_JSON ? "}" : "");
        line.text[line.size++] = '\n';
        write_line(&line);
        logger.counts[level]++;
    }
    (void)pthread_mutex_unlock(&logger.lock);
}

void tf_log(enum tf_log_level level, const char *event, const struct tf_detail *details,
            size_t count, const char *format, ...)
{
    char message[MESSAGE_MAX_BYTES];
    va_list args;

    va_start(args, format);
    (void)vsnprintf(message, sizeof message, format, args);
    va_end(args);
    log_line(level, false, event, details, count, message);
}

void tf_log_counts(uint64_t counts[TF_LOG_ERROR + 1])
{
    (void)pthread_mutex_lock(&logger.lock);
    memcpy(counts, logger.counts, sizeof logger.counts);
    (void)pthread_mutex_unlock(&logger.lock);
}

void tf_log_answer(const char *event, const struct tf_detail *details, size_t count,
                   const char *text)
{
    log_line(TF_LOG_INFO, true, event, details, count, text);
}
