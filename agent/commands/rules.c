/*
 * rules.c - `taffrail rules`: the rules of redaction, those that ship and one's own.
 *
 *     list    all, a line each, with what each costs
 *     show    one, as YAML, as one would write it
 *     test    a file of own rules: each against its examples
 *     bench   what the rules cost on one's own log: together, and the five dearest
 *     import  a rule file of gitleaks, as one of ours; what it could not take is told
 *
 * The rules are those of a redact filter that is opened as the agent would: with the defaults and
 * the files of --rules, or as a configuration says. Nothing of a log or of an example is printed.
 * Exits 1 when a rule fails its test, a file of rules is not sound, or no rule of one can be
 * imported; 2 on wrong usage, or a file that cannot be read; 3 without memory, or room to write.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <uv.h>

#include "../../filters/redact/import/gitleaks.h"
#include "../../filters/redact/language.h"
#include "../../filters/redact/redact.h"
#include "../../filters/redact/import/toml.h"
#include "taffrail/commands.h"

#define FILES_MAX        32
#define BENCH_MAX_BYTES  (16u << 20) /* of all logs together; more is left out, and that is told */
#define SINGLE_MAX_BYTES (1u << 20)  /* of these, on which each rule alone is measured */
#define DEAREST          5u

static const char usage[] =
    "usage: taffrail rules list [--pack NAME] [-c FILE] [--rules FILE]...\n"
    "       taffrail rules show ID [-c FILE] [--rules FILE]...\n"
    "       taffrail rules test FILE...\n"
    "       taffrail rules bench [-c FILE] [--rules FILE]... LOG...\n"
    "       taffrail rules import [-c FILE] [--rules FILE]... FILE.toml >own.yaml\n"
    "The rules of redaction: those that ship, and your own (docs/rules.md tells how to write "
    "one).\n"
    "  list    all rules, and what each costs: ns a line of an ordinary log\n"
    "  show    one rule as YAML: copy, change, use\n"
    "  test    whether each rule of a file does as its examples say\n"
    "  bench   MB/s and ns a line with the rules that are on, and the five dearest of them\n"
    "  import  a rule file of gitleaks, as one of these; what could not be taken is told\n"
    "  -c FILE       the rules as its redact filter has them; by default all that ship\n"
    "  --rules FILE  own rules, without a configuration\n"
    "exit: 0 fine, 1 a rule failed or none can be imported, 2 usage or a file cannot be read\n"
    "example: taffrail rules show bearer-token >own.yaml && taffrail rules test own.yaml\n";

struct arguments {
    struct tf_texts own; /* --rules */
    struct tf_text own_items[FILES_MAX];
    const char *words[FILES_MAX]; /* the rest */
    size_t word_count;
    const char *pack, *config;
};

/* A redact filter, opened. */
struct subject {
    struct tf_config *config; /* NULL: without one */
    const struct tf_redact_filter *filter;
};

/* ---- arguments ------------------------------------------------------------------------------ */

static int refuse(const char *what, const char *word)
{
    (void)fprintf(stderr, "rules: %s%s\n%s", what, word, usage);
    return TF_EXIT_USAGE;
}

/* Returns TF_EXIT_FINE or TF_EXIT_USAGE. */
static int read_arguments(int argc, char **argv, struct arguments *out)
{
    out->own.items = out->own_items;
    for (int i = 0; i < argc; i++) {
        bool takes_value = strcmp(argv[i], "--rules") == 0 || strcmp(argv[i], "--pack") == 0 ||
                           strcmp(argv[i], "-c") == 0;

        if (takes_value && i + 1 == argc) {
            return refuse("nothing stands behind ", argv[i]);
        }
        if (strcmp(argv[i], "--pack") == 0) {
            out->pack = argv[++i];
        } else if (strcmp(argv[i], "-c") == 0) {
            out->config = argv[++i];
        } else if (strcmp(argv[i], "--rules") == 0 && out->own.count < FILES_MAX) {
            out->own_items[out->own.count++].text = argv[++i];
        } else if (argv[i][0] == '-' && argv[i][1] != '\0' && !takes_value) {
            return refuse("no such option: ", argv[i]);
        } else if (!takes_value && out->word_count < FILES_MAX) {
            out->words[out->word_count++] = argv[i];
        } else {
            return refuse("too many files: ", argv[i]);
        }
    }
    if (out->config != NULL && out->own.count > 0) {
        return refuse("-c and --rules exclude each other: name the files in the configuration", "");
    }
    return TF_EXIT_FINE;
}

static int exit_code(int rc)
{
    return rc == 0 ? TF_EXIT_FINE : rc == -ENOMEM ? TF_EXIT_CANNOT_RUN : TF_EXIT_FOUND;
}

/* The options of the configuration's redact filter. NULL: it is off. */
static const struct tf_plugin_config *find_redact(const struct tf_config *config)
{
    for (size_t i = 0; i < config->filters.count; i++) {
        if (config->filters.items[i].kind == &tf_filter_redact) {
            return &config->filters.items[i];
        }
    }
    return NULL;
}

static int open_filter(const struct arguments *arguments, struct subject *subject,
                       struct tf_error *err)
{
    const struct tf_redact_options plain = {.rules = arguments->own};
    struct tf_filter_args args = {.name = "redact", .options = &plain};
    const struct tf_plugin_config *plugin;
    void *self = NULL;
    int rc = 0;

    if (arguments->config != NULL) {
        rc = tf_config_load(arguments->config, &tf_plugins, &subject->config, err);
        plugin = rc == 0 ? find_redact(subject->config) : NULL;
        if (rc == 0 && plugin == NULL) {
            rc = tf_error_add(err, &(struct tf_place){.file = arguments->config},
                              "redact is off, so no rule is on; take the off out");
        }
        if (plugin != NULL) {
            args.options = plugin->options;
            args.at = plugin->at;
        }
    }
    if (rc == 0) {
        rc = tf_filter_redact.open(&args, &self, err);
    }
    subject->filter = self;
    return rc;
}

static void close_subject(struct subject *subject)
{
    if (subject->filter != NULL) {
        tf_filter_redact.close((void *)subject->filter);
    }
    tf_config_free(subject->config);
}

/* Returns TF_EXIT_FINE, or what was wrong and was told. The subject is closed in each case. */
static int open_subject(const struct arguments *arguments, struct subject *subject)
{
    struct tf_error err;
    int rc;

    for (size_t i = 0; i < arguments->own.count; i++) {
        if (access(arguments->own_items[i].text, R_OK) != 0) {
            (void)fprintf(stderr, "rules: %s cannot be read\n", arguments->own_items[i].text);
            return TF_EXIT_USAGE;
        }
    }
    tf_error_init(&err);
    rc = open_filter(arguments, subject, &err);
    (void)tf_error_print(&err, stderr);
    tf_error_fini(&err);
    if (rc < 0 && rc != -EINVAL && rc != -ENOMEM) {
        return TF_EXIT_USAGE; /* a file that cannot be read */
    }
    return exit_code(rc);
}

/* ---- list ----------------------------------------------------------------------------------- */

/* Those rules of the filter that are wanted, with their costs. Returns how many. */
static size_t print_rules(const struct tf_redact_filter *filter, const bool *wanted,
                          const double *costs)
{
    size_t printed = 0;

    for (size_t i = 0; i < filter->count; i++) {
        const struct tf_redact_rule *rule = &filter->rules[i];

        if (!wanted[i]) {
            continue;
        }
        if (printed++ == 0) {
            (void)printf("%-32s %-10s %-3s %-7s %7s  %s\n", "ID", "PACK", "ON", "MODE", "NS/LINE",
                         "ABOUT");
        }
        (void)printf("%-32s %-10s %-3s %-7s %7.1f  %s\n", rule->id, rule->pack,
                     tf_redact_engine_on(filter->engine, i) ? "yes" : "no",
                     tf_redact_mode_name(&filter->modes, (uint16_t)i), costs[i], rule->about);
    }
    return printed;
}

static int print_list(const struct tf_redact_filter *filter, const char *pack)
{
    struct tf_redact_sample sample = tf_redact_sample_new();
    double *costs = calloc(filter->count, sizeof *costs);
    bool *wanted = calloc(filter->count, sizeof *wanted);
    int rc = sample.text == NULL || costs == NULL || wanted == NULL ? -ENOMEM : 0;
    int code;

    for (size_t i = 0; rc == 0 && i < filter->count; i++) {
        wanted[i] = pack == NULL || strcmp(filter->rules[i].pack, pack) == 0;
    }
    if (rc == 0) {
        rc = tf_redact_rules_cost(&sample, filter->rules, filter->count, wanted, costs);
    }
    code = exit_code(rc);
    if (rc == 0 && print_rules(filter, wanted, costs) == 0) {
        (void)fprintf(stderr, "rules: there is no pack \"%s\"; rules list shows all\n", pack);
        code = TF_EXIT_USAGE;
    }
    free(wanted);
    free(costs);
    free(sample.text);
    return code;
}

static int list(const struct arguments *arguments)
{
    struct subject subject = {.config = NULL};
    int code;

    if (arguments->word_count > 0) {
        return refuse("list takes no file: ", arguments->words[0]);
    }
    code = open_subject(arguments, &subject);
    if (code == TF_EXIT_FINE) {
        code = print_list(subject.filter, arguments->pack);
    }
    close_subject(&subject);
    return code;
}

/* ---- show ----------------------------------------------------------------------------------- */

static bool is_printable(const char *text)
{
    bool is = true;

    for (; *text != '\0'; text++) {
        is &= (uint8_t)*text >= ' ' && *text != 0x7f;
    }
    return is;
}

/* In single quotes, where a backslash is plain; in double ones only where it must be. */
static void print_text(const char *text)
{
    bool is_plain = is_printable(text);

    (void)putchar(is_plain ? '\'' : '"');
    for (; *text != '\0'; text++) {
        if (is_plain) {
            (void)printf(*text == '\'' ? "''" : "%c", *text);
        } else if ((uint8_t)*text < ' ' || *text == 0x7f) {
            (void)printf("\\x%02X", (uint8_t)*text);
        } else {
            (void)printf(*text == '"' || *text == '\\' ? "\\%c" : "%c", *text);
        }
    }
    (void)putchar(is_plain ? '\'' : '"');
}

static void print_key(const char *key, const char *text)
{
    if (text != NULL) {
        (void)printf("    %s: ", key);
        print_text(text);
        (void)putchar('\n');
    }
}

static void print_texts(const char *indent, const char *key, const char *const *texts)
{
    if (texts[0] == NULL) {
        return;
    }
    (void)printf("%s%s:\n", indent, key);
    for (; *texts != NULL; texts++) {
        (void)printf("%s  - ", indent);
        print_text(*texts);
        (void)putchar('\n');
    }
}

static void print_requires(const struct tf_redact_rule *rule)
{
    char byte[16];

    switch (rule->requires) {
    case TF_REDACT_REQUIRES_DIGITS:
        (void)printf("    requires: digits(%u)\n", rule->requires_count);
        break;
    case TF_REDACT_REQUIRES_TOKEN:
        (void)printf("    requires: token(%u)\n", rule->requires_count);
        break;
    case TF_REDACT_REQUIRES_BYTE:
        (void)snprintf(byte, sizeof byte, "byte(%c)", (char)rule->requires_count);
        print_key("requires", byte);
        break;
    case TF_REDACT_REQUIRES_NOTHING:
        break;
    }
}

/* How the rule is found. */
static void print_search(const struct tf_redact_rule *rule)
{
    static const char *const classes[] = {NULL, "card", "iban", "at"};

    print_texts("    ", "keywords", rule->keywords);
    if ((rule->flags & TF_REDACT_FOLD) != 0) {
        (void)puts("    fold: true");
    }
    if ((rule->flags & TF_REDACT_LINE) != 0) {
        (void)puts("    search: line");
    }
    print_key("follow", rule->follow);
    if (rule->lead > 0) {
        (void)printf("    lead: %u\n", rule->lead);
    }
    print_key("class", classes[rule->class_]);
    print_requires(rule);
}

/* What its match must pass, and how it is switched. */
static void print_rest(const struct tf_redact_rule *rule)
{
    static const char *const checks[] = {NULL, "luhn", "mod97", "basic"};

    if (rule->secret_group > 0) {
        (void)printf("    secret_group: %u\n", rule->secret_group);
    }
    print_key("check", checks[rule->check]);
    if (rule->entropy_min > 0) {
        (void)printf("    entropy: %g\n", rule->entropy_min);
    }
    print_texts("    ", "allow", rule->allow);
    print_texts("    ", "stopwords", rule->stopwords);
    if (rule->keep_first > 0 || rule->keep_last > 0) {
        (void)printf("    keep: {first: %u, last: %u}\n", rule->keep_first, rule->keep_last);
    }
    print_texts("    ", "tags", rule->tags);
    (void)fputs((rule->flags & TF_REDACT_OFF) != 0 ? "    off: true\n" : "", stdout);
    (void)fputs(rule->guessable ? "    guessable: true\n" : "", stdout);
    (void)fputs(rule->allow_slow ? "    allow_slow: true\n" : "", stdout);
}

static void print_rule(const struct tf_redact_rule *rule)
{
    (void)printf("pack: %s\nrules:\n  - id: %s\n", rule->pack, rule->id);
    print_key("description", rule->about);
    print_key("regex", rule->regex);
    print_search(rule);
    print_rest(rule);
    (void)puts("    examples:");
    print_texts("      ", "match", rule->match);
    print_texts("      ", "no_match", rule->no_match);
}

static int show(const struct arguments *arguments)
{
    struct subject subject = {.config = NULL};
    int code, number;

    if (arguments->word_count != 1) {
        return refuse("show takes the id of one rule", "");
    }
    code = open_subject(arguments, &subject);
    if (code == TF_EXIT_FINE) {
        number = tf_redact_ruleset_find(subject.filter->set, arguments->words[0]);
        if (number >= 0) {
            print_rule(&subject.filter->rules[number]);
        } else {
            (void)fprintf(stderr, "rules: there is no rule \"%s\"; rules list shows all\n",
                          arguments->words[0]);
            code = TF_EXIT_USAGE;
        }
    }
    close_subject(&subject);
    return code;
}

/* ---- test ----------------------------------------------------------------------------------- */

struct test {
    const struct tf_redact_ruleset *shipped;
    void *arena;
    size_t tried, failed;
};

/* Returns 0, also when it fails, or -ENOMEM. */
static int test_rule(struct test *test, const struct tf_redact_rule *rule)
{
    struct tf_redact_verdict verdict;
    int rc = tf_redact_rule_try(rule, &verdict);

    test->tried++;
    if (rc == -ENOMEM) {
        return rc;
    }
    if (verdict.text[0] != '\0') {
        (void)printf("FAIL  %-24s %s\n", rule->id, verdict.text);
        test->failed++;
    } else {
        (void)printf("ok    %-24s %u match, %u no_match%s\n", rule->id, verdict.match,
                     verdict.no_match,
                     tf_redact_ruleset_find(test->shipped, rule->id) >= 0
                         ? "; a rule that ships has this id: take another to use it"
                         : "");
    }
    return 0;
}

/* Tests the sound rules of a file; those that are not were told. */
static int test_text(struct test *test, const char *file, struct tf_slice yaml)
{
    const struct tf_redact_language_args args = {
        .yaml = yaml, .file = file, .arena = test->arena, .shared = tf_redact_shared_fragments()};
    struct tf_redact_rule *rules;
    size_t count;
    struct tf_error err;
    int rc, rc2 = 0;

    tf_error_init(&err);
    rc = tf_redact_language_parse(&args, &rules, &count, &err);
    (void)tf_error_print(&err, stderr);
    tf_error_fini(&err);
    for (size_t i = 0; rc2 == 0 && i < count; i++) {
        rc2 = test_rule(test, &rules[i]);
    }
    return rc2 < 0 ? rc2 : rc;
}

static int test_file(struct test *test, const char *file)
{
    struct tf_buf yaml;
    char reason[128];
    int rc;

    tf_buf_init(&yaml, TF_REDACT_FILE_MAX + 1);
    rc = tf_config_read_file(file, &yaml);
    if (rc < 0) {
        (void)fprintf(stderr, "rules: %s cannot be read: %s\n", file,
                      uv_strerror_r(rc, reason, sizeof reason));
        rc = -ENOENT;
    } else {
        rc = test_text(test, file, tf_buf_slice(&yaml));
    }
    tf_buf_fini(&yaml);
    return rc;
}

static int run_tests(const struct arguments *arguments)
{
    struct subject subject = {.config = NULL};
    struct test test = {.tried = 0};
    int code, rc = 0;

    if (arguments->word_count == 0) {
        return refuse("test takes a file of rules", "");
    }
    code = open_subject(arguments, &subject);
    test.arena = tf_arena_new();
    for (size_t i = 0; code == TF_EXIT_FINE && rc == 0 && i < arguments->word_count; i++) {
        test.shipped = subject.filter->set;
        rc = test.arena != NULL ? test_file(&test, arguments->words[i]) : -ENOMEM;
    }
    code = rc == -ENOENT ? TF_EXIT_USAGE : rc < 0 ? exit_code(rc) : code;
    if (test.failed > 0) {
        (void)printf("%zu of %zu %s failed\n", test.failed, test.tried,
                     tf_plural(test.tried, "rule", "rules"));
        code = code == TF_EXIT_FINE ? TF_EXIT_FOUND : code;
    }
    tf_arena_free(test.arena);
    close_subject(&subject);
    return code;
}

/* ---- bench ---------------------------------------------------------------------------------- */

/* Reads the logs, as far as they fit. Returns TF_EXIT_FINE or TF_EXIT_USAGE. */
static int read_logs(const struct arguments *arguments, struct tf_buf *text)
{
    char reason[128];

    for (size_t i = 0; i < arguments->word_count; i++) {
        int rc = tf_config_read_file(arguments->words[i], text);

        if (rc == -EMSGSIZE) {
            text->data[text->size - 1] = '\n';
            (void)fprintf(stderr, "rules: only the first %u bytes are looked at\n",
                          BENCH_MAX_BYTES);
            break;
        }
        if (rc < 0) {
            (void)fprintf(stderr, "rules: %s cannot be read: %s\n", arguments->words[i],
                          uv_strerror_r(rc, reason, sizeof reason));
            return TF_EXIT_USAGE;
        }
        if (text->size > 0 && text->data[text->size - 1] != '\n' &&
            tf_buf_append_byte(text, '\n') < 0) {
            break;
        }
    }
    return TF_EXIT_FINE;
}

/* The first size bytes of a text, to the last newline in them. */
static struct tf_redact_sample sample_of(const struct tf_buf *text, size_t size)
{
    struct tf_redact_sample sample = {.text = text->data};

    size = text->size < size ? text->size : size;
    while (size > 0 && text->data[size - 1] != '\n') {
        size--;
    }
    sample.size = size;
    for (size_t i = 0; i < size; i++) {
        sample.lines += text->data[i] == '\n' ? 1 : 0;
    }
    return sample;
}

static void print_dearest(const struct tf_redact_rule *rules, size_t count, double *costs)
{
    for (size_t i = 0; i < DEAREST && i < count; i++) {
        size_t dearest = 0;

        for (size_t j = 1; j < count; j++) {
            dearest = costs[j] > costs[dearest] ? j : dearest;
        }
        if (costs[dearest] <= 0) {
            break;
        }
        (void)printf("  %8.1f ns a line  %s (%s)\n", costs[dearest], rules[dearest].id,
                     rules[dearest].pack);
        costs[dearest] = -1;
    }
}

static int bench_text(const struct tf_redact_filter *filter, const struct tf_buf *text)
{
    struct tf_redact_sample all = sample_of(text, text->size);
    struct tf_redact_sample part = sample_of(text, SINGLE_MAX_BYTES);
    double *costs = calloc(filter->count, sizeof *costs), ns = 0;
    bool *on = calloc(filter->count, sizeof *on);
    int rc = costs == NULL || on == NULL ? -ENOMEM : 0;

    for (size_t i = 0; rc == 0 && i < filter->count; i++) {
        on[i] = tf_redact_engine_on(filter->engine, i);
    }
    if (rc == 0) {
        rc = tf_redact_rules_time(&all, filter->rules, filter->count, on, &ns);
    }
    if (rc == 0) {
        (void)printf("%u %s, %zu %s, %zu bytes: %.0f MB/s, %.1f ns a line\n", filter->on_count,
                     tf_plural(filter->on_count, "rule", "rules"), all.lines,
                     tf_plural(all.lines, "line", "lines"), all.size,
                     (double)all.size * 1000.0 / ns, ns / (double)all.lines);
        rc = tf_redact_rules_cost(part.lines > 0 ? &part : &all, filter->rules, filter->count, on,
                                  costs);
    }
    if (rc == 0) {
        print_dearest(filter->rules, filter->count, costs);
    }
    free(on);
    free(costs);
    return exit_code(rc);
}

static int bench(const struct arguments *arguments)
{
    struct subject subject = {.config = NULL};
    struct tf_buf text;
    int code;

    if (arguments->word_count == 0) {
        return refuse("bench takes a log", "");
    }
    code = open_subject(arguments, &subject);
    tf_buf_init(&text, BENCH_MAX_BYTES);
    code = code == TF_EXIT_FINE ? read_logs(arguments, &text) : code;
    if (code == TF_EXIT_FINE && text.size == 0) {
        (void)fputs("rules: there is no line in it\n", stderr);
        code = TF_EXIT_USAGE;
    } else if (code == TF_EXIT_FINE) {
        code = bench_text(subject.filter, &text);
    }
    tf_buf_fini(&text);
    close_subject(&subject);
    return code;
}

/* ---- import --------------------------------------------------------------------------------- */

/* Warns when imported rules cost more than own rules may by default. */
static int check_cost(const char *file, const struct tf_redact_rule *rules, size_t count,
                      struct tf_error *err)
{
    struct tf_redact_sample sample = tf_redact_sample_new();
    double *costs = calloc(count, sizeof *costs), sum = 0;
    size_t dearest = 0;
    int rc = sample.text == NULL || costs == NULL ? -ENOMEM : 0;

    if (rc == 0) {
        rc = tf_redact_rules_cost(&sample, rules, count, NULL, costs);
    }
    for (size_t i = 0; rc == 0 && i < count; i++) {
        costs[i] = rules[i].allow_slow ? 0 : costs[i];
        sum += costs[i];
        dearest = costs[i] > costs[dearest] ? i : dearest;
    }
    if (rc == 0 && sum > TF_REDACT_COST_MAX_NS) {
        tf_warning_add(err, &(struct tf_place){.file = file},
                       "its rules cost %.0f ns a line of ordinary logs, and own rules may cost %u; "
                       "write redact: {max_cost: %.0fus}, or disable the dearest, such as \"%s\"",
                       sum, TF_REDACT_COST_MAX_NS, sum / 1000 + 1, rules[dearest].id);
    }
    free(costs);
    free(sample.text);
    return rc;
}

/* *count is how many rules there are. */
static int check_imported(const char *file, struct tf_slice yaml, size_t *count,
                          struct tf_error *err)
{
    struct tf_redact_language_args args = {.yaml = yaml,
                                           .file = file,
                                           .arena = tf_arena_new(),
                                           .shared = tf_redact_shared_fragments()};
    struct tf_redact_rule *rules;
    int rc = args.arena != NULL ? tf_redact_language_parse(&args, &rules, count, err) : -ENOMEM;

    if (rc == 0) {
        rc = check_cost(file, rules, *count, err);
    }
    tf_arena_free(args.arena);
    return rc;
}

static int import_text(const struct subject *subject, const char *file, struct tf_slice toml)
{
    const struct tf_redact_gitleaks_args args = {.toml = toml,
                                                 .file = file,
                                                 .taken = subject->filter->rules,
                                                 .taken_count = subject->filter->count};
    struct tf_error err;
    struct tf_buf yaml;
    size_t count = 0;
    int rc, code;

    tf_error_init(&err);
    tf_buf_init(&yaml, TF_REDACT_FILE_MAX);
    rc = tf_redact_gitleaks_import(&args, &yaml, &err);
    if (rc == 0) {
        rc = check_imported(file, tf_buf_slice(&yaml), &count, &err);
    }
    code = exit_code(rc);
    (void)tf_error_print(&err, stderr);
    if (rc == 0 && (fwrite(yaml.data, 1, yaml.size, stdout) != yaml.size || fflush(stdout) != 0)) {
        (void)fputs("rules: the YAML could not be written; is there room?\n", stderr);
        code = TF_EXIT_CANNOT_RUN;
    } else if (rc == 0) {
        (void)fprintf(stderr, "rules: %zu %s written, %zu %s\n", count,
                      tf_plural(count, "rule", "rules"), err.warnings,
                      tf_plural(err.warnings, "warning", "warnings"));
    }
    tf_buf_fini(&yaml);
    tf_error_fini(&err);
    return code;
}

static int import(const struct arguments *arguments)
{
    struct subject subject = {.config = NULL};
    struct tf_buf toml;
    char reason[128];
    int code, rc = 0;

    if (arguments->word_count != 1) {
        return refuse("import takes one rule file of gitleaks", "");
    }
    code = open_subject(arguments, &subject);
    tf_buf_init(&toml, TF_TOML_FILE_MAX + 1);
    if (code == TF_EXIT_FINE) {
        rc = tf_config_read_file(arguments->words[0], &toml);
    }
    if (rc < 0 && rc != -EMSGSIZE) { /* the import tells of too many bytes */
        (void)fprintf(stderr, "rules: %s cannot be read: %s\n", arguments->words[0],
                      uv_strerror_r(rc, reason, sizeof reason));
        code = TF_EXIT_USAGE;
    } else if (code == TF_EXIT_FINE) {
        code = import_text(&subject, arguments->words[0], tf_buf_slice(&toml));
    }
    tf_buf_fini(&toml);
    close_subject(&subject);
    return code;
}

/* ---- the command ---------------------------------------------------------------------------- */

int tf_command_rules(int argc, char **argv)
{
    static const struct {
        const char *name;
        int (*run)(const struct arguments *arguments);
    } verbs[] = {
        {"list", list}, {"show", show}, {"test", run_tests}, {"bench", bench}, {"import", import}};
    struct arguments arguments = {.word_count = 0};

    if (argc < 2) {
        return refuse("one of list, show, test, bench, import is missing", "");
    }
    if (strcmp(argv[1], "--help") == 0) {
        (void)fputs(usage, stdout);
        return TF_EXIT_FINE;
    }
    for (size_t i = 0; i < TF_COUNT(verbs); i++) {
        if (strcmp(argv[1], verbs[i].name) == 0) {
            int code = read_arguments(argc - 2, argv + 2, &arguments);

            return code == TF_EXIT_FINE ? verbs[i].run(&arguments) : code;
        }
    }
    return refuse("no such thing to do: ", argv[1]);
}
