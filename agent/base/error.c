/*
 * error.c - findings with their places, sorted when printed.
 *
 * Texts are kept with control characters escaped, since names and values from files stand in them.
 * Out of memory never hides a finding: it is counted, though its text is lost.
 */
#include "taffrail/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>

#define TEXT_MAX_BYTES 4096u

void tf_error_init(struct tf_error *err)
{
    *err = (struct tf_error){0};
}

void tf_error_fini(struct tf_error *err)
{
    for (size_t i = 0; i < err->count; i++) {
        free(err->findings[i].file);
        free(err->findings[i].text);
    }
    free(err->findings);
    tf_error_init(err);
}

static char *format_escaped(const char *format, va_list args)
{
    char plain[TEXT_MAX_BYTES];
    struct tf_buf out;

    tf_buf_init(&out, sizeof plain * 4 + 1);
    (void)vsnprintf(plain, sizeof plain, format, args);
    for (const char *at = plain; *at != '\0'; at++) {
        if ((unsigned char)*at < 0x20 || *at == 0x7f) {
            (void)tf_buf_printf(&out, "\\x%02x", (unsigned char)*at);
        } else {
            (void)tf_buf_append_byte(&out, (uint8_t)*at);
        }
    }
    (void)tf_buf_append_byte(&out, '\0');
    if (out.error != 0) {
        tf_buf_fini(&out);
        return NULL;
    }
    return out.data; /* the finding owns it now */
}

static void add(struct tf_error *err, enum tf_severity severity, const struct tf_place *at,
                const char *format, va_list args)
{
    struct tf_finding *findings;
    struct tf_finding *finding;

    err->errors += severity == TF_SEVERITY_ERROR;
    err->warnings += severity == TF_SEVERITY_WARNING;
    if (err->count == TF_FINDINGS_MAX) {
        err->dropped++;
        return;
    }
    findings = realloc(err->findings, (err->count + 1) * sizeof *findings);
    if (findings == NULL) {
        err->dropped++;
        return;
    }
    err->findings = findings;
    finding = &findings[err->count];
    *finding = (struct tf_finding){.severity = severity};
    finding->text = format_escaped(format, args);
    if (at != NULL && at->file != NULL) {
        finding->file = strdup(at->file);
        finding->line = at->line;
        finding->column = at->column;
    }
    if (finding->text == NULL || (at != NULL && at->file != NULL && finding->file == NULL)) {
        free(finding->text);
        free(finding->file);
        err->dropped++;
        return;
    }
    err->count++;
}

int tf_error_add(struct tf_error *err, const struct tf_place *at, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    add(err, TF_SEVERITY_ERROR, at, format, args);
    va_end(args);
    return -EINVAL;
}

void tf_warning_add(struct tf_error *err, const struct tf_place *at, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    add(err, TF_SEVERITY_WARNING, at, format, args);
    va_end(args);
}

static int compare_places(const struct tf_finding *a, const struct tf_finding *b)
{
    int files = strcmp(a->file != NULL ? a->file : "", b->file != NULL ? b->file : "");

    if (files != 0) {
        return files;
    }
    if (a->line != b->line) {
        return a->line < b->line ? -1 : 1;
    }
    return a->column == b->column ? 0 : a->column < b->column ? -1 : 1;
}

/* Indices of the findings in the order of place; those of one place stay in the order of adding.
 * NULL: no memory. */
static size_t *sorted(const struct tf_error *err)
{
    size_t *order = malloc((err->count + 1) * sizeof *order);

    for (size_t i = 0; order != NULL && i < err->count; i++) {
        size_t at = i;

        while (at > 0 && compare_places(&err->findings[i], &err->findings[order[at - 1]]) < 0) {
            order[at] = order[at - 1];
            at--;
        }
        order[at] = i;
    }
    return order;
}

static const char *severity_word(const struct tf_finding *finding)
{
    return finding->severity == TF_SEVERITY_ERROR ? "error" : "warning";
}

size_t tf_error_print(const struct tf_error *err, FILE *to)
{
    size_t *order = sorted(err);

    for (size_t i = 0; i < err->count; i++) {
        const struct tf_finding *finding = &err->findings[order != NULL ? order[i] : i];

        if (finding->file != NULL && finding->line > 0) {
            (void)fprintf(to, "%s:%u:%u: ", finding->file, finding->line, finding->column);
        } else if (finding->file != NULL) {
            (void)fprintf(to, "%s: ", finding->file);
        }
        (void)fprintf(to, "%s: %s\n", severity_word(finding), finding->text);
    }
    if (err->dropped > 0) {
        (void)fprintf(to, "and %zu more\n", err->dropped);
    }
    free(order);
    return err->errors;
}

static void print_json_text(const char *text, FILE *to)
{
    (void)fputc('"', to);
    for (; *text != '\0'; text++) {
        if (*text == '"' || *text == '\\') {
            (void)fputc('\\', to);
        }
        (void)fputc(
            *text, to); /* control characters are escaped already, but for those of a file's name */
    }
    (void)fputc('"', to);
}

void tf_error_print_json(const struct tf_error *err, FILE *to)
{
    size_t *order = sorted(err);

    for (size_t i = 0; i < err->count; i++) {
        const struct tf_finding *finding = &err->findings[order != NULL ? order[i] : i];

        (void)fputs("{\"file\":", to);
        print_json_text(finding->file != NULL ? finding->file : "", to);
        (void)fprintf(to, ",\"line\":%u,\"column\":%u,\"severity\":\"%s\",\"text\":", finding->line,
                      finding->column, severity_word(finding));
        print_json_text(finding->text, to);
        (void)fputs("}\n", to);
    }
    free(order);
}

const char *tf_error_first(const struct tf_error *err)
{
    for (size_t i = 0; i < err->count; i++) {
        if (err->findings[i].severity == TF_SEVERITY_ERROR) {
            return err->findings[i].text;
        }
    }
    return "no error";
}
