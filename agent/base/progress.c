/*
 * progress.c - a line on a terminal: how far, how fast, how long still.
 *
 *     verify  [##########----------]  51%  0.8 of 1.6 GiB · 412 MiB/s · 0:02 left · 904 found
 *
 * The clock is monotonic. The rate is the mean since the beginning: what is read first from the
 * cache and then from the disk gives a wrong one for a while, never a jumping one. Where the locale
 * is not UTF-8 the dots are commas.
 */
#include "taffrail/progress.h"

#include <langinfo.h>
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#define SILENT_NS  (TF_S_IN_NS / 2)
#define STEP_NS    (TF_S_IN_NS / 5)
#define BAR_CHARS  20u
#define LINE_CHARS 160u

static volatile sig_atomic_t is_asked;

static void on_usr1(int number)
{
    (void)number;
    is_asked = 1;
}

static int64_t monotonic_ns(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * TF_S_IN_NS + now.tv_nsec;
}

void tf_progress_begin(struct tf_progress *progress, const char *command, uint64_t total_bytes)
{
    struct sigaction action = {.sa_handler = on_usr1, .sa_flags = SA_RESTART};

    (void)setlocale(LC_CTYPE, "");
    *progress = (struct tf_progress){.command = command,
                                     .total_bytes = total_bytes,
                                     .begun_ns = monotonic_ns(),
                                     .is_terminal = isatty(STDERR_FILENO) == 1,
                                     .is_ascii = strcmp(nl_langinfo(CODESET), "UTF-8") != 0};
    (void)sigemptyset(&action.sa_mask);
    (void)sigaction(SIGUSR1, &action, NULL);
}

/* The largest unit that leaves a figure of at least 1. */
static unsigned unit_of(uint64_t bytes, const char **name)
{
    static const char *const names[] = {"KiB", "MiB", "GiB", "TiB"};
    unsigned unit = 0;

    while (unit + 1 < TF_COUNT(names) && bytes >> (10 * (unit + 2)) > 0) {
        unit++;
    }
    *name = names[unit];
    return 10 * (unit + 1);
}

static void print_line(const struct tf_progress *progress, int64_t now_ns, const char *more)
{
    uint64_t done = progress->done_bytes;
    uint64_t total = progress->total_bytes > done ? progress->total_bytes : done;
    double seconds = (double)(now_ns - progress->begun_ns) / (double)TF_S_IN_NS;
    double rate = seconds > 0 ? (double)done / seconds : 0;
    double left_s = rate > 0 ? (double)(total - done) / rate : 0;
    unsigned filled = total > 0 ? (unsigned)((double)done * BAR_CHARS / (double)total) : 0;
    const char *unit, *dot = progress->is_ascii ? "," : " ·";
    double scale = (double)(UINT64_C(1) << unit_of(total, &unit));
    unsigned whole_s = left_s > 359999 ? 359999 : (unsigned)left_s;

    (void)fprintf(stderr, "%s%s  [%.*s%.*s] %3.0f%%  %.1f of %.1f %s%s %.0f MiB/s%s %u:%02u left",
                  progress->is_terminal ? "\r\033[K" : "", progress->command, (int)filled,
                  "####################", (int)(BAR_CHARS - filled), "--------------------",
                  total > 0 ? (double)done * 100 / (double)total : 0, (double)done / scale,
                  (double)total / scale, unit, dot, rate / 1048576, dot, whole_s / 60,
                  whole_s % 60);
    if (more != NULL) {
        (void)fprintf(stderr, "%s %.*s", dot, (int)LINE_CHARS, more);
    }
    (void)fputs(progress->is_terminal ? "" : "\n", stderr);
    (void)fflush(stderr);
}

void tf_progress_add(struct tf_progress *progress, uint64_t bytes, const char *more)
{
    int64_t now_ns;

    progress->done_bytes += bytes;
    if (!progress->is_terminal && is_asked == 0) {
        return;
    }
    now_ns = monotonic_ns();
    if (is_asked == 0 &&
        (now_ns - progress->begun_ns < SILENT_NS || now_ns - progress->looked_ns < STEP_NS)) {
        return;
    }
    is_asked = 0;
    progress->looked_ns = now_ns;
    progress->is_shown = true;
    print_line(progress, now_ns, more);
}

void tf_progress_end(struct tf_progress *progress)
{
    if (progress->is_terminal && progress->is_shown) {
        (void)fputs("\r\033[K", stderr);
    }
    progress->is_shown = false;
}
