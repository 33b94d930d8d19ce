/*
 * test_redact_corpus.c - the default rules against lines as software logs them.
 *
 * tests/data/benign holds lines without a secret: each must stay as it is. tests/data/secrets holds
 * lines in which the bytes of secrets are enclosed by U+27E6 and U+27E7, and well-known forms are
 * cut by {{}}, so that no scanner takes the file for a leak; both are taken out before. No secret,
 * nor six bytes of one, may be left, unless they stand outside as well, and something of the rest
 * must be. A line is a record; a file is a stream.
 */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "../../filters/redact/redact.h"
#include "taffrail/event.h"

#define OPEN        "\xe2\x9f\xa6"
#define CLOSE       "\xe2\x9f\xa7"
#define MARK_BYTES  3u
#define PIECE_BYTES 6u
#define SECRETS_MAX 16u /* in a line */
#define LINES_MAX   8192u
#define RULES_BYTES 256u
#define BENIGN_MIN  1000u
#define SECRETS_MIN 500u

/* Lines that are not as they should be, and why that is so. It is an error when none is any more.
 */
struct exception {
    const char *file, *piece; /* the lines that hold it; "": all lines of the file */
    const char *reason;
    size_t lines;
};

static struct exception benign_exceptions[] = {
    {"json-names.log", "", "in JSON a name gives away any text (names.c)", 0},
    {"ai.log", "token=hf_token", "a name of code as a value", 0},
    {"kubernetes.log", "token=\"shop\"/\"default\"", "what stands in quotes may be a token", 0},
    {"python.log", "password=password,", "a weak password looks like it", 0},
};

static struct exception secrets_exceptions[] = {
    {"assigned.log", "passphrase: my little pony", "without quotes it ends at a blank", 0},
};

/* A line with its marks taken out. */
struct line {
    char *text;    /* as it is logged */
    char *outside; /* without its secrets; \1 stands in their place */
    struct {
        const char *text; /* in text above */
        size_t size;
    } secrets[SECRETS_MAX];
    size_t count;
};

struct fixture {
    void *self, *scratch, *state;
    struct tf_batch batch;
    char rules[RULES_BYTES]; /* that hit the line */
    char *seen[LINES_MAX];
    size_t lines, failed, secrets, masked;
};

static void on_hit(void *ctx, const struct tf_filter_hit *hit)
{
    struct fixture *f = ctx;
    size_t used = strlen(f->rules);

    (void)snprintf(f->rules + used, sizeof f->rules - used, " %s",
                   hit->rule != NULL ? hit->rule : "(withheld)");
}

static int setup(void **state)
{
    static const struct tf_redact_options default_options;
    const struct tf_filter_args args = {.name = "redact", .options = &default_options};
    struct fixture *f = calloc(1, sizeof *f);
    struct tf_error err;

    assert_non_null(f);
    *state = f;
    tf_error_init(&err);
    if (tf_filter_redact.open(&args, &f->self, &err) != 0) {
        fail_msg("%s", tf_error_first(&err));
    }
    tf_error_fini(&err);
    f->scratch = tf_filter_redact.scratch_new(f->self);
    assert_non_null(f->scratch);
    tf_filter_redact.observe(f->scratch, on_hit, f);
    return tf_batch_init(&f->batch);
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    for (size_t i = 0; i < f->lines; i++) {
        free(f->seen[i]);
    }
    tf_filter_redact.scratch_free(f->scratch);
    tf_filter_redact.close(f->self);
    tf_batch_fini(&f->batch);
    free(f);
    return 0;
}

/* What the filter makes of a record; to be freed. */
static char *redact(struct fixture *f, const char *text)
{
    const struct tf_field *field;
    char *got;

    f->rules[0] = '\0';
    assert_int_equal(tf_batch_reset(&f->batch), 0);
    assert_non_null(tf_batch_add_record(&f->batch, 1, TF_STREAM_STDOUT));
    assert_int_equal(tf_batch_add_text_field(&f->batch, "log", tf_slice_text(text)), 0);
    assert_int_equal(tf_filter_redact.apply(f->self, f->scratch, f->state, &f->batch), 0);
    field = &f->batch.fields[0];
    got = strndup(f->batch.text.data + field->value.text.at, field->value.text.size);
    assert_non_null(got);
    return got;
}

static void cut_out(char *text, const char *word)
{
    size_t size = strlen(word);

    for (char *at = strstr(text, word); at != NULL; at = strstr(at, word)) {
        memmove(at, at + size, strlen(at + size) + 1);
    }
}

/* Puts \1 in place of what the filter leaves for a secret: it tells nothing. */
static void cut_out_masks(char *text)
{
    static const char *const masks[] = {"[REDACTED:", "[WITHHELD"};

    for (size_t i = 0; i < TF_COUNT(masks); i++) {
        for (char *at = strstr(text, masks[i]); at != NULL; at = strstr(at, masks[i])) {
            char *end = strchr(at, ']');

            assert_non_null(end);
            *at = '\1';
            memmove(at + 1, end + 1, strlen(end + 1) + 1);
        }
    }
}

static bool is_blank(const char *text)
{
    return text[strspn(text, " \t\1")] == '\0';
}

/* Takes the marks out of a line of the file; what is left is in new memory. */
static void parse(const char *file, size_t number, const char *marked, struct line *line)
{
    char *copy = strdup(marked), *to, *outside;
    const char *from = copy;

    assert_non_null(copy);
    cut_out(copy, "{{}}");
    line->count = 0;
    line->text = to = calloc(1, strlen(copy) + 1);
    line->outside = outside = calloc(1, strlen(copy) + 1);
    assert_non_null(to);
    assert_non_null(outside);
    for (;;) {
        const char *open = strstr(from, OPEN), *close;
        size_t size = open != NULL ? (size_t)(open - from) : strlen(from);

        memcpy(to, from, size);
        memcpy(outside, from, size);
        to += size;
        outside += size;
        if (open == NULL) {
            break;
        }
        close = strstr(open, CLOSE);
        if (close == NULL || line->count == SECRETS_MAX) {
            fail_msg("%s:%zu: a mark is not closed, or there are too many", file, number);
            break;
        }
        size = (size_t)(close - open) - MARK_BYTES;
        memcpy(to, open + MARK_BYTES, size);
        line->secrets[line->count].text = to;
        line->secrets[line->count++].size = size;
        to += size;
        *outside++ = '\1';
        from = close + MARK_BYTES;
    }
    free(copy);
}

/* Is a part of a secret still there, and not only where it stands in the rest of the line too? */
static bool is_left(const char *got, const char *outside, const char *part, size_t size)
{
    return memmem(got, strlen(got), part, size) != NULL &&
           memmem(outside, strlen(outside), part, size) == NULL;
}

static bool is_masked(const char *got, const struct line *line, size_t number)
{
    const char *secret = line->secrets[number].text;
    size_t size = line->secrets[number].size;

    for (size_t at = 0; at + PIECE_BYTES <= size; at++) {
        if (is_left(got, line->outside, secret + at, PIECE_BYTES)) {
            return false;
        }
    }
    return !is_left(got, line->outside, secret, size);
}

/* NULL, or the exception that the line is. */
static struct exception *find_exception(struct exception *list, size_t count, const char *file,
                                        const char *text)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(list[i].file, file) == 0 && strstr(text, list[i].piece) != NULL) {
            return &list[i];
        }
    }
    return NULL;
}

static void check_benign(struct fixture *f, const char *file, size_t number, const char *text)
{
    struct exception *exception =
        find_exception(benign_exceptions, TF_COUNT(benign_exceptions), file, text);
    char *got = redact(f, text);

    if (exception != NULL) {
        exception->lines += strcmp(got, text) != 0 ? 1 : 0;
    } else if (strcmp(got, text) != 0) {
        f->failed++;
        print_error("benign/%s:%zu is changed by%s\n  %s\n", file, number, f->rules, got);
    }
    free(got);
}

static void check_secrets(struct fixture *f, const char *file, size_t number, const char *text)
{
    struct exception *exception;
    struct line line;
    const char *fault = NULL;
    char *got;

    parse(file, number, text, &line);
    exception = find_exception(secrets_exceptions, TF_COUNT(secrets_exceptions), file, line.text);
    got = redact(f, line.text);
    if (line.count == 0 && strcmp(got, line.text) != 0) {
        fault = "is changed, and has no secret";
    }
    cut_out_masks(got);
    for (size_t i = 0; i < line.count; i++) {
        f->secrets++;
        if (is_masked(got, &line, i)) {
            f->masked++;
        } else {
            fault = "shows a secret";
        }
    }
    if (is_blank(got) && !is_blank(line.outside)) {
        fault = "is masked as a whole";
    }
    if (exception != NULL) {
        exception->lines += fault != NULL ? 1 : 0;
    } else if (fault != NULL) {
        f->failed++;
        print_error("secrets/%s:%zu %s; hit by%s\n  %s\n", file, number, fault, f->rules, text);
    }
    free(got);
    free(line.text);
    free(line.outside);
}

/* Each line of a file through a state of its own. */
static void check_file(struct fixture *f, const char *folder, const char *file,
                       void (*check)(struct fixture *, const char *, size_t, const char *))
{
    char path[512], *text = NULL;
    size_t number = 0, room = 0;
    FILE *in;

    (void)snprintf(path, sizeof path, "%s/%s", folder, file);
    in = fopen(path, "r");
    assert_non_null(in);
    f->state = tf_filter_redact.state_new(f->self);
    assert_non_null(f->state);
    while (getline(&text, &room, in) > 0) {
        text[strcspn(text, "\n")] = '\0';
        assert_true(f->lines < LINES_MAX);
        f->seen[f->lines] = strdup(text);
        assert_non_null(f->seen[f->lines++]);
        check(f, file, ++number, text);
    }
    tf_filter_redact.state_free(f->state);
    free(text);
    (void)fclose(in);
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int is_log(const struct dirent *entry)
{
    size_t size = strlen(entry->d_name);

    return size > 4 && strcmp(entry->d_name + size - 4, ".log") == 0;
}

static void check_folder(struct fixture *f, const char *folder,
                         void (*check)(struct fixture *, const char *, size_t, const char *))
{
    struct dirent **entries;
    int count = scandir(folder, &entries, is_log, alphasort);

    assert_true(count > 0);
    for (int i = 0; i < count; i++) {
        check_file(f, folder, entries[i]->d_name, check);
        free(entries[i]);
    }
    free(entries);
    qsort(f->seen, f->lines, sizeof *f->seen, by_text);
    for (size_t i = 1; i < f->lines; i++) {
        if (strcmp(f->seen[i - 1], f->seen[i]) == 0) {
            fail_msg("%s: a line stands there twice: %s", folder, f->seen[i]);
        }
    }
}

/* How many lines are known to be wrong. An exception that none needs any more hides the next fault.
 */
static size_t count_known(const struct exception *list, size_t count)
{
    size_t lines = 0;

    for (size_t i = 0; i < count; i++) {
        if (list[i].lines == 0) {
            fail_msg("%s \"%s\" is as it should be: take out \"%s\"", list[i].file, list[i].piece,
                     list[i].reason);
        }
        lines += list[i].lines;
    }
    return lines;
}

static void benign_lines_stay_as_they_are(void **state)
{
    struct fixture *f = *state;
    size_t known;

    check_folder(f, TF_SOURCE_DIR "/tests/data/benign", check_benign);
    known = count_known(benign_exceptions, TF_COUNT(benign_exceptions));
    print_message("benign: %zu lines, %zu changed, %zu of them known\n", f->lines,
                  f->failed + known, known);
    assert_true(f->lines >= BENIGN_MIN);
    assert_int_equal(f->failed, 0);
}

static void secrets_are_masked_in_every_context(void **state)
{
    struct fixture *f = *state;
    size_t known;

    check_folder(f, TF_SOURCE_DIR "/tests/data/secrets", check_secrets);
    known = count_known(secrets_exceptions, TF_COUNT(secrets_exceptions));
    print_message("secrets: %zu lines, %zu secrets, %zu masked, %zu known\n", f->lines, f->secrets,
                  f->masked, known);
    assert_true(f->lines >= SECRETS_MIN);
    assert_int_equal(f->failed, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(benign_lines_stay_as_they_are),
        TEST(secrets_are_masked_in_every_context),
    };

    return cmocka_run_group_tests_name("redact corpus", tests, NULL, NULL);
}
