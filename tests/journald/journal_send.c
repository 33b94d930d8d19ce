/*
 * journal_send.c - feeds journald, through libsystemd.
 *
 *     journal_send cases                     one entry of each kind that readers get wrong
 *     journal_send flood N [SIZE [RATE]]     N entries with SEQ=0…N-1 and about SIZE bytes of text
 *                                            (80), RATE a second (0: as fast as journald takes
 * them) journal_send value SIZE                one entry whose NOTE has SIZE bytes
 */
#define SD_JOURNAL_SUPPRESS_LOCATION
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <systemd/sd-journal.h>

#define FIELDS_MAX 8
#define NOTES_MAX  64

struct field {
    const char *bytes;
    size_t size;
};
#define FIELD(text)                                                                                \
    {                                                                                              \
        (text), sizeof(text) - 1                                                                   \
    }

struct entry {
    struct field fields[FIELDS_MAX];
};

static const struct entry cases[] = {
    {{FIELD("MESSAGE=plain one-line message"), FIELD("PRIORITY=6"), FIELD("REQUEST_ID=r-0001")}},
    {{FIELD("MESSAGE=first line\nsecond line\n\nfourth line"), FIELD("PRIORITY=4")}},
    {{FIELD("MESSAGE=bytes follow"), FIELD("PRIORITY=5"), FIELD("BLOB=\0\1\2\xff\xfe\n\0end")}},
    {{FIELD("MESSAGE=one field thrice"), FIELD("TAG=one"), FIELD("TAG=two"), FIELD("TAG=one")}},
    {{FIELD("MESSAGE=caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x90\xa7 tab\there"), FIELD("PRIORITY=6")}},
    {{FIELD("MESSAGE=latin1 \xe9\xe8"), FIELD("PRIORITY=3"), FIELD("RED=\x1b[31mred\x1b[0m")}},
    {{FIELD("MESSAGE=del \x7f"), FIELD("NEL=c1 \xc2\x85 control"), FIELD("NBSP=\xc2\xa0")}},
    {{FIELD("MESSAGE=long \xc0\xaf"), FIELD("NONE=\xef\xbf\xbe"), FIELD("SURROGATE=\xed\xa0\x80")}},
    {{FIELD("MESSAGE=cut \xe2\x82"), FIELD("BEYOND=\xf4\x90\x80\x80"),
      FIELD("LAST=\xf4\x8f\xbf\xbd")}},
    {{FIELD("MESSAGE=12345678\x01"), FIELD("TABS=\t\t\t\t\t\t\t\t\t"), FIELD("CR=12345678\r")}},
    {{FIELD("MESSAGE="), FIELD("PRIORITY=6"), FIELD("EMPTY=")}},
    {{FIELD("PRIORITY=7"), FIELD("NOTE=no MESSAGE at all")}},
    {{FIELD("MESSAGE=spoof"), FIELD("_SYSTEMD_UNIT=evil.service"), FIELD("__CURSOR=x"),
      FIELD("__READER_HEARTBEAT=1")}},
};

static int send_entry(const struct field *fields, size_t count)
{
    struct iovec parts[FIELDS_MAX + 1] = {{"SYSLOG_IDENTIFIER=cases", 23}};
    int parts_count = 1;

    for (size_t i = 0; i < count && fields[i].bytes != NULL; i++) {
        parts[parts_count++] = (struct iovec){(void *)fields[i].bytes, fields[i].size};
    }
    return sd_journal_sendv(parts, parts_count);
}

/* NOTE=, and bytes that differ by seed. Returns new, or NULL. */
static char *make_note(size_t size, size_t seed)
{
    static const char name[] = "NOTE=";
    char *bytes = malloc(sizeof name - 1 + size);

    if (bytes != NULL) {
        memcpy(bytes, name, sizeof name - 1);
        for (size_t i = 0; i < size; i++) {
            bytes[sizeof name - 1 + i] = (char)('a' + (i + seed) % 26);
        }
    }
    return bytes;
}

static int send_values(size_t count, size_t size)
{
    struct iovec parts[NOTES_MAX + 1] = {{"MESSAGE=long values", 19}};
    size_t made = 0;
    int rc = -1;

    while (made < count && made < NOTES_MAX) {
        char *note = make_note(size, made);
        if (note == NULL) {
            break;
        }
        parts[++made] = (struct iovec){note, size + sizeof "NOTE=" - 1};
    }
    if (made == count) {
        rc = sd_journal_sendv(parts, (int)made + 1);
    }
    for (size_t i = 1; i <= made; i++) {
        free(parts[i].iov_base);
    }
    return rc;
}

static int send_cases(void)
{
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if (send_entry(cases[i].fields, FIELDS_MAX) < 0) {
            return -1;
        }
    }
    return send_values(1, 70000); /* compressed, and above libsystemd's own threshold */
}

static void sleep_until(const struct timespec *began, double seconds)
{
    struct timespec at = *began;
    long whole = (long)seconds;

    at.tv_sec += whole;
    at.tv_nsec += (long)((seconds - (double)whole) * 1e9);
    if (at.tv_nsec >= 1000000000) {
        at.tv_sec++;
        at.tv_nsec -= 1000000000;
    }
    (void)clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL);
}

static int flood(long count, int size, double rate)
{
    struct timespec began;
    char *text = malloc((size_t)size + 1);

    if (text == NULL) {
        return -1;
    }
    memset(text, 'x', (size_t)size);
    text[size] = '\0';
    (void)clock_gettime(CLOCK_MONOTONIC, &began);
    for (long i = 0; i < count; i++) {
        int rc = sd_journal_send("MESSAGE=entry %ld %s", i, text, "PRIORITY=6",
                                 "SYSLOG_IDENTIFIER=flood", "SEQ=%ld", i, "REQUEST_ID=%08lx",
                                 (unsigned long)(i * 2654435761 & 0xffffffff), NULL);
        if (rc < 0) {
            free(text);
            return rc;
        }
        if (rate > 0) {
            sleep_until(&began, (double)(i + 1) / rate);
        }
    }
    free(text);
    return 0;
}

int main(int argc, char **argv)
{
    int rc = -1;

    if (argc == 2 && strcmp(argv[1], "cases") == 0) {
        rc = send_cases();
    } else if (argc == 3 && strcmp(argv[1], "value") == 0) {
        rc = send_values(1, strtoul(argv[2], NULL, 10));
    } else if (argc == 4 && strcmp(argv[1], "values") == 0) {
        rc = send_values(strtoul(argv[2], NULL, 10), strtoul(argv[3], NULL, 10));
    } else if (argc >= 3 && strcmp(argv[1], "flood") == 0) {
        rc = flood(strtol(argv[2], NULL, 10), argc > 3 ? (int)strtol(argv[3], NULL, 10) : 80,
                   argc > 4 ? strtod(argv[4], NULL) : 0);
    } else {
        (void)fputs(
            "usage: journal_send cases | value SIZE | values N SIZE | flood N [SIZE [RATE]]\n",
            stderr);
    }
    return rc < 0;
}
