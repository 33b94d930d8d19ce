/*
 * status.c - `taffrail status`: what a running agent says of itself, for eyes and for probes.
 *
 *     find the address → ask → print, once; or each second on a terminal, until q or ^C
 *
 * It asks as any client would, over the admin endpoint (docs/admin.md), and needs neither spool nor
 * keys. What answers may be anybody: an answer has at most ANSWER_MAX bytes and comes within
 * ANSWER_MS, the connection included; what is in it is shown with control characters as `?`, and
 * cut to the terminal's width. A live view is one write a second to the alternate screen, each line
 * cleared behind its text, so nothing flickers; rates are the difference of two answers.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "taffrail/commands.h"
#include "taffrail/config.h"
#include "taffrail/http.h"
#include "taffrail/json.h"

#define ANSWER_MAX    (8u << 20)
#define ANSWER_MS     5000
#define REDRAW_MS     1000
#define WIDTH_MAX     400u
#define SCREEN_MAX    (1u << 20)
#define NAMES_MAX     64u   /* of inputs or outputs whose rates are known */
#define TEXT_MAX      4096u /* as it is written, with its escapes */
#define RULES_SHOWN   3u
#define BUSY_MS       20 /* between two attempts at a socket whose queue is full */
#define FIGURE_MAX    1e15
#define GAUGE_CELLS   20u
#define REQUEST(path) "GET " path " HTTP/1.0\r\nHost: localhost\r\n\r\n"

static const char usage[] =
    "usage: taffrail status [-c FILE | --socket ADDRESS] [--once | --json | --check]\n"
    "What the agent on this host is doing: live on a terminal, q ends it; else once.\n"
    "  -c FILE   configuration whose admin.listen is asked (" TF_CONFIG_FILE_DEFAULT ")\n"
    "  --socket  ask there: unix:PATH or ADDRESS:PORT\n"
    "  --once    one look\n"
    "  --json    as /status has it\n"
    "  --check   print nothing; exit 0 when it is ready, else 1\n"
    "exit: 0 fine; 1 --check: not ready or no answer; 2 usage or configuration; 3 no answer\n"
    "examples: taffrail status --once\n"
    "          taffrail status --socket 127.0.0.1:24280 --json\n";

enum mode { LIVE, ONCE, JSON, CHECK };

struct status {
    const char *config_file, *address_text;
    enum mode mode;
    struct tf_http_address address;
    struct tf_buf answer; /* head and body */
};

static volatile sig_atomic_t has_signal;

static void on_signal(int number)
{
    (void)number;
    has_signal = 1;
}

/* ---- asking --------------------------------------------------------------------------------- */

static int64_t now_ms(void)
{
    return (int64_t)(uv_hrtime() / 1000000);
}

/* 0, -ETIMEDOUT, -EINTR by a signal that ends the command. */
static int wait_for(int fd, short events, int64_t end_ms)
{
    struct pollfd ready = {.fd = fd, .events = events};

    for (;;) {
        int64_t left_ms = end_ms - now_ms();
        int n = left_ms <= 0 ? 0 : poll(&ready, 1, (int)left_ms);

        if (has_signal != 0) {
            return -EINTR;
        }
        if (n == 0) {
            return -ETIMEDOUT;
        }
        if (n > 0) {
            return 0;
        }
    }
}

/* A Unix socket whose queue is full says EAGAIN, one of TCP is silent. */
static int connect_until(int fd, const struct sockaddr *to, socklen_t size, int64_t end_ms)
{
    socklen_t error_bytes = sizeof(int);
    int rc = connect(fd, to, size) < 0 ? -errno : 0, error = 0;

    while (rc == -EAGAIN && has_signal == 0 && now_ms() < end_ms) {
        (void)poll(NULL, 0, BUSY_MS);
        rc = connect(fd, to, size) < 0 ? -errno : 0;
    }
    if (rc != -EINPROGRESS) {
        return rc == -EAGAIN ? -ETIMEDOUT : rc;
    }
    rc = wait_for(fd, POLLOUT, end_ms);
    if (rc == 0 && getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &error_bytes) < 0) {
        rc = -errno;
    }
    return rc == 0 ? -error : rc;
}

static int open_socket(const struct tf_http_address *address, int64_t end_ms)
{
    struct sockaddr_un unix_address = {.sun_family = AF_UNIX};
    bool is_unix = address->unix_path[0] != '\0';
    const struct sockaddr *to = (const struct sockaddr *)&address->address;
    socklen_t size =
        to->sa_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
    int fd, rc;

    if (is_unix) {
        memcpy(unix_address.sun_path, address->unix_path, sizeof unix_address.sun_path);
        to = (const struct sockaddr *)&unix_address;
        size = sizeof unix_address;
    }
    fd = socket(to->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return -errno;
    }
    rc = connect_until(fd, to, size, end_ms);
    if (rc < 0) {
        (void)close(fd);
        return rc;
    }
    return fd;
}

/* Reads up to the end. 0, -ETIMEDOUT, -EMSGSIZE, -errno. */
static int read_answer(int fd, struct tf_buf *out, int64_t end_ms)
{
    for (;;) {
        int rc = wait_for(fd, POLLIN, end_ms);
        ssize_t n;

        if (rc < 0) {
            return rc;
        }
        if (tf_buf_reserve(out, 65536) < 0) {
            return out->error;
        }
        n = read(fd, out->data + out->size, 65536);
        if (n == 0) {
            return 0;
        }
        if (n < 0 && errno != EINTR && errno != EAGAIN) {
            return -errno;
        }
        out->size += n > 0 ? (size_t)n : 0;
    }
}

/* Asks for a path; *code is the answer's status, *body borrows from status->answer. */
static int ask(struct status *status, const char *request, int *code, struct tf_slice *body)
{
    int64_t end_ms = now_ms() + ANSWER_MS;
    int fd = open_socket(&status->address, end_ms), rc = 0;
    const char *end;

    if (fd < 0) {
        return fd;
    }
    tf_buf_clear(&status->answer);
    if (write(fd, request, strlen(request)) != (ssize_t)strlen(request)) {
        rc = -EIO; /* it is shorter than any socket's room */
    }
    rc = rc == 0 ? read_answer(fd, &status->answer, end_ms) : rc;
    (void)close(fd);
    rc = rc == 0 ? tf_buf_append_byte(&status->answer, '\0') : rc;
    if (rc < 0) {
        return rc;
    }
    end = strstr(status->answer.data, "\r\n\r\n");
    if (end == NULL || strncmp(status->answer.data, "HTTP/1.", 7) != 0 ||
        sscanf(status->answer.data + 8, " %d", code) != 1) { // NOLINT(cert-err34-c): three digits
        return -EPROTO;
    }
    *body = tf_slice(end + 4, status->answer.size - 1 - (size_t)(end + 4 - status->answer.data));
    return 0;
}

/* ---- reading JSON --------------------------------------------------------------------------- */

static struct tf_slice member(struct tf_slice object, const char *key)
{
    struct tf_slice value = tf_slice("", 0);

    (void)tf_json_member(object, key, &value);
    return value;
}

/* 0 where there is no number; at most FIGURE_MAX, so that it may become an integer. */
static double number(struct tf_slice object, const char *key)
{
    struct tf_slice value = member(object, key);
    char text[40];
    double found;

    (void)snprintf(text, sizeof text, "%.*s", (int)value.size, value.data);
    found = strtod(text, NULL);
    return found >= 0 ? found < FIGURE_MAX ? found : FIGURE_MAX : 0;
}

static bool is_true(struct tf_slice object, const char *key)
{
    return tf_slice_equal(member(object, key), tf_slice_text("true"));
}

/* A text as it may stand on a terminal. "" where there is none. */
struct shown {
    char text[512];
};

/* The controls of ASCII and of Latin-1 (U+0080 to U+009F), and bytes that are no UTF-8. */
static void hide_controls(char *text)
{
    bool is_utf8 = tf_utf8_valid(text, strlen(text));

    for (uint8_t *at = (uint8_t *)text; *at != '\0'; at++) {
        if (*at < ' ' || *at == 0x7f || (*at >= 0x80 && !is_utf8)) {
            *at = '?';
        } else if (at[0] == 0xc2 && at[1] < 0xa0) {
            at[0] = at[1] = '?';
        }
    }
}

static struct shown text(struct tf_slice object, const char *key)
{
    struct tf_slice value = member(object, key);
    char whole[TEXT_MAX];
    struct tf_json in;
    struct shown shown;
    char *end;

    if (value.size >= sizeof whole) {
        return (struct shown){"(too long)"};
    }
    in = tf_json(value);
    end = tf_json_text(&in, whole, false);
    whole[end == NULL ? 0 : end - whole] = '\0';
    hide_controls(whole);
    (void)snprintf(shown.text, sizeof shown.text, "%.511s", whole);
    return shown;
}

/* ---- figures -------------------------------------------------------------------------------- */

static struct shown size_text(double bytes)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    struct shown shown;
    size_t i = 0;

    while (i + 1 < TF_COUNT(units) && bytes >= 1024) {
        bytes /= 1024;
        i++;
    }
    (void)snprintf(shown.text, sizeof shown.text, i == 0 ? "%.0f %s" : "%.1f %s", bytes, units[i]);
    return shown;
}

static struct shown time_text(double seconds)
{
    struct shown shown;
    unsigned long long whole = (unsigned long long)(seconds < 0            ? 0
                                                    : seconds < FIGURE_MAX ? seconds
                                                                           : FIGURE_MAX);

    if (seconds < 60) {
        (void)snprintf(shown.text, sizeof shown.text, "%.1f s", seconds);
    } else if (whole < 3600) {
        (void)snprintf(shown.text, sizeof shown.text, "%llum%02llus", whole / 60, whole % 60);
    } else if (whole < 86400) {
        (void)snprintf(shown.text, sizeof shown.text, "%lluh%02llum", whole / 3600,
                       whole / 60 % 60);
    } else {
        (void)snprintf(shown.text, sizeof shown.text, "%llud %lluh", whole / 86400,
                       whole / 3600 % 24);
    }
    return shown;
}

static struct shown count_text(double count)
{
    struct shown shown;

    (void)tf_count_text((uint64_t)count, shown.text);
    return shown;
}

static struct shown counted_text(double count, const char *noun)
{
    struct shown shown;

    (void)tf_counted_text((uint64_t)count, noun, shown.text);
    return shown;
}

/* ---- the screen ----------------------------------------------------------------------------- */

/* Counters of the look before, by name. */
struct counters {
    struct {
        char name[72];
        double value;
    } items[3 * NAMES_MAX + 1]; /* two of an input, one of an output, and the spool's */
    size_t count;
    double at_s; /* uptime; 0: there was none */
};

struct screen {
    struct tf_buf out;
    const struct counters *before;
    struct counters now;
};

/* A rate in a second; negative: not known yet. */
static double rate(struct screen *screen, const char *what, const char *name, double value)
{
    char key[72];
    double passed_s = screen->now.at_s - screen->before->at_s;

    (void)snprintf(key, sizeof key, "%s %s", what, name);
    if (screen->now.count < TF_COUNT(screen->now.items)) {
        memcpy(screen->now.items[screen->now.count].name, key, sizeof key);
        screen->now.items[screen->now.count++].value = value;
    }
    for (size_t i = 0; i < screen->before->count; i++) {
        if (strcmp(screen->before->items[i].name, key) == 0 && passed_s > 0) {
            return (value - screen->before->items[i].value) / passed_s;
        }
    }
    return -1;
}

static struct shown rate_text(double value, double unit, int digits)
{
    struct shown shown = {"-"};

    if (value >= 0) {
        (void)snprintf(shown.text, sizeof shown.text, "%.*f", digits, value / unit);
    }
    return shown;
}

static void put(struct screen *screen, const char *format, ...) TF_PRINTF(2, 3);
static void put(struct screen *screen, const char *format, ...)
{
    char line[2048];
    va_list args;

    va_start(args, format);
    (void)vsnprintf(line, sizeof line, format, args);
    va_end(args);
    (void)tf_buf_append_text(&screen->out, line);
    (void)tf_buf_append_byte(&screen->out, '\n');
}

static void put_head(struct screen *screen, struct tf_slice all)
{
    struct shown time = text(all, "time");

    put(screen, "taffrail %s, %s, up %s, %s, %s   %.8sZ", text(all, "version").text,
        text(all, "host").text, time_text(number(all, "uptime_seconds")).text,
        text(all, "state").text, is_true(all, "ready") ? "ready" : "NOT READY",
        strlen(time.text) > 19 ? time.text + 11 : "");
}

/* Lists of any length: each is passed over once, and a screen that is full ends it. */
static void put_conditions(struct screen *screen, struct tf_slice all)
{
    struct tf_json list = tf_json(member(all, "conditions"));
    struct tf_slice item;

    while (screen->out.error == 0 && tf_json_next_item(&list, &item)) {
        put(screen, "! %-14s %s", text(item, "code").text, text(item, "text").text);
        put(screen, "  since %.19sZ; %s", text(item, "since").text, text(item, "safe").text);
    }
}

static void put_inputs(struct screen *screen, struct tf_slice all)
{
    struct tf_json list = tf_json(member(all, "inputs"));
    struct tf_slice item;

    put(screen, "%-14s %9s %11s %9s %10s", "INPUT", "SOURCES", "RECORDS/s", "MiB/s", "LAG");
    for (size_t i = 0; i < NAMES_MAX && tf_json_next_item(&list, &item); i++) {
        struct shown name = text(item, "name");
        double records = rate(screen, "records", name.text, number(item, "records"));
        double bytes = rate(screen, "bytes", name.text, number(item, "bytes"));

        put(screen, "%-14s %9s %11s %9s %10s", name.text, count_text(number(item, "sources")).text,
            rate_text(records, 1, 0).text, rate_text(bytes, 1 << 20, 1).text,
            time_text(number(item, "lag_seconds")).text);
    }
}

static void put_spool(struct screen *screen, struct tf_slice all)
{
    struct tf_slice spool = member(all, "spool");
    double pending = number(spool, "pending_bytes"), max = number(spool, "max_bytes");
    double share = max > 0 ? pending / max : 0;
    double growth = rate(screen, "spool", "", pending);
    char gauge[GAUGE_CELLS + 1], full[80] = "";

    for (unsigned i = 0; i < GAUGE_CELLS; i++) {
        gauge[i] = i + 0.5 < share * GAUGE_CELLS ? '#' : '-';
    }
    gauge[GAUGE_CELLS] = '\0';
    if (growth > 0 && share > 0.01) {
        (void)snprintf(full, sizeof full, ", full in %.20s",
                       time_text((max - pending) / growth).text);
    }
    put(screen, "SPOOL          [%s] %s of %s%s, kept %s, seal %s", gauge, size_text(pending).text,
        size_text(max).text, is_true(spool, "has_room") ? full : ", FULL",
        size_text(number(spool, "retained_bytes")).text, text(spool, "seal").text);
}

static void put_outputs(struct screen *screen, struct tf_slice all)
{
    struct tf_json list = tf_json(member(all, "outputs"));
    struct tf_slice item;

    put(screen, "%-14s %-6s %11s %11s %9s  %s", "OUTPUT", "STATE", "RECORDS/s", "PENDING", "OLDEST",
        "ACK p50/p99");
    for (size_t i = 0; i < NAMES_MAX && tf_json_next_item(&list, &item); i++) {
        struct shown name = text(item, "name");
        double acked = rate(screen, "acked", name.text, number(item, "acked"));
        char acks[64] = "-";

        if (member(item, "ack_p99_seconds").size > 0) {
            (void)snprintf(acks, sizeof acks, "%g/%g ms", number(item, "ack_p50_seconds") * 1e3,
                           number(item, "ack_p99_seconds") * 1e3);
        }
        put(screen, "%-14s %-6s %11s %11s %9s  %s", name.text, is_true(item, "up") ? "up" : "down",
            rate_text(acked, 1, 0).text, count_text(number(item, "pending")).text,
            time_text(number(item, "oldest_seconds")).text, acks);
    }
}

/* The rules with most hits, the most first; of those with as many the first ones. */
static void put_rules(struct screen *screen, struct tf_slice all)
{
    struct tf_slice redaction = member(all, "redaction"), item;
    struct tf_json list = tf_json(member(redaction, "rules"));
    struct {
        struct tf_slice rule;
        double hits;
    } best[RULES_SHOWN] = {0};
    char shown[512] = "";

    while (tf_json_next_item(&list, &item)) {
        double hits = number(item, "hits");
        size_t at = RULES_SHOWN;

        while (at > 0 && hits > best[at - 1].hits) {
            at--;
        }
        if (at < RULES_SHOWN) {
            memmove(&best[at + 1], &best[at], (RULES_SHOWN - 1 - at) * sizeof best[0]);
            best[at].rule = item;
            best[at].hits = hits;
        }
    }
    for (size_t i = 0; i < RULES_SHOWN && best[i].hits > 0; i++) {
        size_t size = strlen(shown);

        (void)snprintf(shown + size, sizeof shown - size, ", %.60s %.26s",
                       text(best[i].rule, "rule").text, count_text(best[i].hits).text);
    }
    put(screen, "REDACTED       %s%s%s, withheld %s", is_true(redaction, "off") ? "OFF, " : "",
        counted_text(number(redaction, "redacted"), "record").text, shown,
        count_text(number(redaction, "withheld")).text);
}

static void put_books(struct screen *screen, struct tf_slice all)
{
    struct tf_slice books = member(all, "books");

    if (is_true(books, "balanced")) {
        put(screen, "BOOKS          balanced, gaps since start: %s",
            count_text(number(books, "gaps")).text);
    } else {
        put(screen, "BOOKS          DO NOT BALANCE by %s, gaps since start: %s",
            count_text(number(books, "missing")).text, count_text(number(books, "gaps")).text);
    }
}

static void put_config(struct screen *screen, struct tf_slice all)
{
    struct tf_slice reloads = member(all, "reloads");

    put(screen, "CONFIG         %s, reloads taken %s, refused %s", text(all, "digest").text,
        count_text(number(reloads, "taken")).text, count_text(number(reloads, "refused")).text);
}

static void put_sandbox(struct screen *screen, struct tf_slice all)
{
    struct tf_slice sandbox = member(all, "sandbox"), item;
    struct tf_json layers = tf_json(member(sandbox, "layers"));
    struct tf_json roles = tf_json(member(sandbox, "roles"));
    bool is_strict = strcmp(text(sandbox, "seccomp").text, "strict") == 0;
    char on[256] = "";

    while (tf_json_next_item(&layers, &item)) {
        size_t size = strlen(on);

        if (is_true(item, "on")) {
            (void)snprintf(on + size, sizeof on - size, "%s%.40s", size > 0 ? ", " : "",
                           text(item, "layer").text);
        }
    }
    put(screen, "SANDBOX        %s%s", on[0] != '\0' ? on : "none", is_strict ? " strict" : "");
    while (screen->out.error == 0 && tf_json_next_item(&roles, &item)) {
        put(screen, "  %-12.20s %.80s", text(item, "role").text, text(item, "layers").text);
    }
}

static void draw(struct screen *screen, struct tf_slice all)
{
    screen->now = (struct counters){.at_s = number(all, "uptime_seconds")};
    put_head(screen, all);
    put_conditions(screen, all);
    put_inputs(screen, all);
    put_spool(screen, all);
    put_outputs(screen, all);
    put_rules(screen, all);
    put_books(screen, all);
    put_config(screen, all);
    put_sandbox(screen, all);
}

/* ---- once ----------------------------------------------------------------------------------- */

static const char *reason_text(int rc, char text[64])
{
    return rc == -EPROTO    ? "what answers is no taffrail agent"
           : rc == -ENODATA ? "metrics and probes are read there, and nothing else"
                            : uv_strerror_r(rc, text, 64);
}

static int cannot_ask(const struct status *status, int rc)
{
    const char *mend = rc == -ENODATA
                           ? "give admin.listen a unix:PATH or a loopback address besides, or"
                           : "is an agent running there, and may you ask it?";
    char reason[64];

    (void)fprintf(stderr, "status: %s: %s; %s name another with --socket\n", status->address_text,
                  reason_text(rc, reason), mend);
    return TF_EXIT_CANNOT_RUN;
}

/* The body of /status. A negative errno: -ENODATA when it is not told there, -EPROTO when it is
 * none.
 */
static int ask_status(struct status *status, struct tf_slice *all)
{
    int code = 0, rc = ask(status, REQUEST("/status"), &code, all);

    if (rc < 0) {
        return rc;
    }
    return code == 200 && tf_json_is_whole(*all) ? 0 : code == 404 ? -ENODATA : -EPROTO;
}

/* Writes all of it to stdout; the exit code. */
static int print(struct tf_buf *out)
{
    int rc = tf_buf_write(out, STDOUT_FILENO, NULL);
    char reason[64];

    if (rc < 0) {
        (void)fprintf(stderr, "status: cannot write it: %s\n",
                      uv_strerror_r(rc, reason, sizeof reason));
        return TF_EXIT_CANNOT_RUN;
    }
    return TF_EXIT_FINE;
}

/* The answer without its head, whatever its size. */
static int print_body(struct tf_buf *answer, struct tf_slice body)
{
    tf_buf_consume(answer, (size_t)(body.data - answer->data));
    answer->size = body.size; /* the NUL behind it goes */
    return print(answer);
}

static int print_once(struct status *status)
{
    static struct counters none;
    struct screen screen = {.before = &none};
    struct tf_slice all;
    int rc = ask_status(status, &all);

    if (rc < 0) {
        return cannot_ask(status, rc);
    }
    if (status->mode == JSON) {
        return print_body(&status->answer, all);
    }
    tf_buf_init(&screen.out, SCREEN_MAX);
    draw(&screen, all);
    rc = print(&screen.out);
    tf_buf_fini(&screen.out);
    return rc;
}

static int check(struct status *status)
{
    struct tf_slice body;
    int code = 0, rc = ask(status, REQUEST("/readyz"), &code, &body);

    return rc == 0 && code == 200 ? TF_EXIT_FINE : TF_EXIT_FOUND;
}

/* ---- live ----------------------------------------------------------------------------------- */

static unsigned terminal_width(unsigned *rows)
{
    struct winsize size = {0};

    (void)ioctl(STDOUT_FILENO, TIOCGWINSZ, &size);
    *rows = size.ws_row > 0 ? size.ws_row : 24;
    return size.ws_col > 0 && size.ws_col < WIDTH_MAX ? size.ws_col : 80;
}

/* Lines of text as one screen: each cut to the width (by characters) and cleared behind, then
 * what is below. */
static void compose(const struct tf_buf *lines, struct tf_buf *out)
{
    unsigned rows, width = terminal_width(&rows), row = 0, column = 0;

    (void)tf_buf_append_text(out, "\x1b[H");
    for (size_t i = 0; i < lines->size && row < rows; i++) {
        uint8_t byte = (uint8_t)lines->data[i];

        if (byte == '\n') {
            (void)tf_buf_append_text(out, ++row < rows ? "\x1b[K\r\n" : "\x1b[K");
            column = 0;
            continue;
        }
        column += (byte & 0xc0) != 0x80;
        if (column <= width) {
            (void)tf_buf_append_byte(out, byte);
        }
    }
    (void)tf_buf_append_text(out, "\x1b[J");
}

/* Waits for the next look. False: somebody wants it to end. */
static bool wait_for_key(void)
{
    struct pollfd keys = {.fd = STDIN_FILENO, .events = POLLIN};
    int64_t end_ms = now_ms() + REDRAW_MS;
    int64_t left_ms = REDRAW_MS;

    while (has_signal == 0 && left_ms > 0) {
        char key = 0;

        if (poll(&keys, 1, (int)left_ms) > 0) {
            if (read(STDIN_FILENO, &key, 1) <= 0) {
                return false; /* the terminal is gone */
            }
            if (key == 'q' || key == 'Q' || key == 3) {
                return false;
            }
        }
        left_ms = end_ms - now_ms();
    }
    return has_signal == 0;
}

static void redraw(struct status *status, struct counters *before)
{
    struct screen screen = {.before = before};
    struct tf_buf whole;
    struct tf_slice all;
    int rc = ask_status(status, &all);
    char reason[64];

    tf_buf_init(&screen.out, SCREEN_MAX);
    tf_buf_init(&whole, SCREEN_MAX);
    if (rc == 0) {
        draw(&screen, all);
        *before = screen.now;
    } else {
        put(&screen, "taffrail: %s does not answer: %s; asked again each second",
            status->address_text, reason_text(rc, reason));
    }
    put(&screen, "q quits");
    compose(&screen.out, &whole);
    (void)tf_buf_write(&whole, STDOUT_FILENO, NULL);
    tf_buf_fini(&screen.out);
    tf_buf_fini(&whole);
}

static int show_live(struct status *status)
{
    static const char begin[] = "\x1b[?1049h\x1b[?25l", end[] = "\x1b[?25h\x1b[?1049l";
    const struct sigaction action = {.sa_handler = on_signal};
    struct termios saved, raw;
    static struct counters before;
    struct tf_slice all;
    int rc = ask_status(status, &all);

    if (rc < 0) {
        return cannot_ask(status, rc);
    }
    if (tcgetattr(STDIN_FILENO, &saved) < 0) {
        return print_once(status);
    }
    (void)sigaction(SIGINT, &action, NULL);
    (void)sigaction(SIGTERM, &action, NULL);
    (void)sigaction(SIGHUP, &action, NULL);
    raw = saved;
    raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
    (void)tcsetattr(STDIN_FILENO, TCSANOW, &raw);
    (void)!write(STDOUT_FILENO, begin, sizeof begin - 1);
    do {
        redraw(status, &before);
    } while (wait_for_key());
    (void)!write(STDOUT_FILENO, end, sizeof end - 1);
    (void)tcsetattr(STDIN_FILENO, TCSANOW, &saved);
    return TF_EXIT_FINE;
}

/* ---- where to ask --------------------------------------------------------------------------- */

/* The first address that needs no certificate of ours, best one that tells all. */
static bool pick_address(struct status *status, const struct tf_admin_options *admin)
{
    static char chosen[sizeof status->address.unix_path + 64];
    bool is_local = false;

    for (size_t i = 0; i < admin->listen.count && !is_local; i++) {
        const char *text = admin->listen.items[i].text;
        struct tf_http_address address;

        if (tf_http_address_parse(text, &address) < 0 ||
            (address.unix_path[0] == '\0' && admin->has_tls)) {
            continue;
        }
        is_local = tf_http_address_is_local(&address);
        if (status->address_text == NULL || is_local) {
            (void)snprintf(chosen, sizeof chosen, "%s", text);
            status->address = address;
            status->address_text = chosen;
        }
    }
    return status->address_text != NULL;
}

static int find_address(struct status *status)
{
    struct tf_config *config = NULL;
    struct tf_error err;
    int rc = TF_EXIT_FINE;

    if (status->address_text != NULL) {
        if (tf_http_address_parse(status->address_text, &status->address) < 0) {
            (void)fprintf(stderr, "status: \"%s\" is no address; write unix:PATH or ADDRESS:PORT\n",
                          status->address_text);
            return TF_EXIT_USAGE;
        }
        return TF_EXIT_FINE;
    }
    tf_error_init(&err);
    if (tf_config_load(status->config_file, &tf_plugins, &config, &err) < 0) {
        (void)tf_error_print(&err, stderr);
        rc = TF_EXIT_USAGE;
    } else if (!pick_address(status, &config->admin)) {
        (void)fprintf(stderr,
                      "status: %s: admin.listen has no address to ask; name one with "
                      "--socket\n",
                      status->config_file);
        rc = TF_EXIT_USAGE;
    }
    tf_error_fini(&err);
    tf_config_free(config);
    return rc;
}

static int parse(struct status *status, int argc, char **argv)
{
    static const struct {
        const char *word;
        enum mode mode;
    } modes[] = {{"--once", ONCE}, {"--json", JSON}, {"--check", CHECK}};

    for (int i = 1; i < argc; i++) {
        size_t at = 0;

        while (at < TF_COUNT(modes) && strcmp(argv[i], modes[at].word) != 0) {
            at++;
        }
        if (at < TF_COUNT(modes)) {
            status->mode = modes[at].mode;
        } else if (strcmp(argv[i], "-c") == 0 && i + 1 < argc) {
            status->config_file = argv[++i];
        } else if (strcmp(argv[i], "--socket") == 0 && i + 1 < argc) {
            status->address_text = argv[++i];
        } else {
            (void)fprintf(stderr, "status: \"%s\" is no option of it\n%s", argv[i], usage);
            return TF_EXIT_USAGE;
        }
    }
    return TF_EXIT_FINE;
}

static int show(struct status *status)
{
    if (status->mode == CHECK) {
        return check(status);
    }
    if (status->mode == LIVE && isatty(STDOUT_FILENO) && isatty(STDIN_FILENO)) {
        return show_live(status);
    }
    return print_once(status);
}

int tf_command_status(int argc, char **argv)
{
    struct status status = {.config_file = TF_CONFIG_FILE_DEFAULT};
    int code;

    if (argc > 1 && strcmp(argv[1], "--help") == 0) {
        (void)fputs(usage, stdout);
        return TF_EXIT_FINE;
    }
    code = parse(&status, argc, argv);
    code = code == TF_EXIT_FINE ? find_address(&status) : code;
    if (code != TF_EXIT_FINE) {
        return code;
    }
    (void)signal(SIGPIPE, SIG_IGN);
    tf_buf_init(&status.answer, ANSWER_MAX);
    code = show(&status);
    tf_buf_fini(&status.answer);
    return code;
}
