/*
 * pages.c - compiled rules become unwritable.
 *
 * PCRE2's JIT leaves its code in pages that are writable and executable (its allocator keeps its
 * own notes between the pieces of code, and changes them when code is freed). Whoever could write
 * there could run what he wrote, though no new page becomes executable. So once all rules are
 * compiled such pages lose the right to be written, and get it back, for that to be executed, when
 * nothing is matched any more and they are freed. PR_SET_MDWE and the filter allow both.
 */
#include "internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#define RANGES_MAX 4096u /* some hundred KiB each; the rest stays writable, and is told */

struct range {
    void *begin;
    size_t size;
};

static struct range *ranges;
static size_t range_count;

/* From a line "BEGIN-END rwxp ...", proc(5). False: the range is not both. */
static bool parse_line(const char *line, struct range *out)
{
    char *end;
    uintptr_t begin = strtoul(line, &end, 16), after;

    if (*end != '-') {
        return false;
    }
    after = strtoul(end + 1, &end, 16);
    if (strncmp(end, " rwx", 4) != 0 || after <= begin) {
        return false;
    }
    *out = (struct range){.begin = (void *)begin, .size = after - begin}; // NOLINT: an address
    return true;
}

static void read_ranges(FILE *maps)
{
    char line[512];
    bool is_start = true; /* the names of files may be longer than a line here */

    while (range_count < RANGES_MAX && fgets(line, sizeof line, maps) != NULL) {
        if (is_start && parse_line(line, &ranges[range_count])) {
            range_count++;
        }
        is_start = strchr(line, '\n') != NULL;
    }
}

bool tf_pages_seal(void)
{
    FILE *maps = fopen("/proc/self/maps", "re");
    bool is_sealed = true;

    if (maps == NULL) {
        return false;
    }
    ranges = calloc(RANGES_MAX, sizeof *ranges);
    if (ranges != NULL) {
        read_ranges(maps);
    }
    (void)fclose(maps);
    for (size_t i = 0; ranges != NULL && i < range_count; i++) {
        is_sealed &= mprotect(ranges[i].begin, ranges[i].size, PROT_READ | PROT_EXEC) == 0;
    }
    return is_sealed && ranges != NULL && range_count < RANGES_MAX;
}

void tf_pages_unseal(void)
{
    for (size_t i = 0; ranges != NULL && i < range_count; i++) {
        (void)mprotect(ranges[i].begin, ranges[i].size, PROT_READ | PROT_WRITE);
    }
    free(ranges);
    ranges = NULL;
    range_count = 0;
}
