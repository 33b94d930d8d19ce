/*
 * main.c - the command line of taffrail-journal.
 *
 * It is no program for people: the agent starts it (docs/architecture.md). Filters are told as
 * libsystemd takes them, in order: --match NAME=VALUE, --or (sd_journal_add_disjunction), --and
 * (sd_journal_add_conjunction).
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "reader.h"

static const char usage_text[] =
    "taffrail-journal writes journald's entries to stdout, in Journal Export Format, until stdin "
    "ends.\n"
    "usage: taffrail-journal [--directory DIR | --namespace NAME]\n"
    "                        [--after CURSOR | --start oldest|newest|boot | --since USEC]\n"
    "                        [--match NAME=VALUE | --or | --and]... [--priority N] [--once]\n"
    "    --directory DIR   instead of /var/log/journal and /run/log/journal\n"
    "    --once            end at the end of the journal\n"
    "    --verbose         say on stderr which layers of the sandbox hold\n"
    "exit: 0 done, 1 could not run, 2 usage, 3 start again behind the last entry\n";

enum option_id {
    OPT_DIRECTORY = 256,
    OPT_NAMESPACE,
    OPT_AFTER,
    OPT_START,
    OPT_SINCE,
    OPT_MATCH,
    OPT_OR,
    OPT_AND,
    OPT_PRIORITY,
    OPT_ONCE,
    OPT_VERBOSE,
    OPT_VERSION,
    OPT_HELP,
};

static const struct option long_options[] = {
    {"directory", required_argument, NULL, OPT_DIRECTORY},
    {"namespace", required_argument, NULL, OPT_NAMESPACE},
    {"after", required_argument, NULL, OPT_AFTER},
    {"start", required_argument, NULL, OPT_START},
    {"since", required_argument, NULL, OPT_SINCE},
    {"match", required_argument, NULL, OPT_MATCH},
    {"or", no_argument, NULL, OPT_OR},
    {"and", no_argument, NULL, OPT_AND},
    {"priority", required_argument, NULL, OPT_PRIORITY},
    {"once", no_argument, NULL, OPT_ONCE},
    {"verbose", no_argument, NULL, OPT_VERBOSE},
    {"version", no_argument, NULL, OPT_VERSION},
    {"help", no_argument, NULL, OPT_HELP},
    {NULL, 0, NULL, 0},
};

static int refuse(const char *text, const char *value)
{
    (void)fprintf(stderr, "taffrail-journal: %s: %s\n", text, value);
    return -EINVAL;
}

static int parse_start(struct tf_reader_options *options, const char *word)
{
    static const struct {
        const char *word;
        enum tf_reader_start start;
    } starts[] = {
        {"oldest", TF_READER_START_OLDEST},
        {"newest", TF_READER_START_NEWEST},
        {"boot", TF_READER_START_BOOT},
    };

    for (size_t i = 0; i < sizeof starts / sizeof starts[0]; i++) {
        if (strcmp(word, starts[i].word) == 0) {
            options->start = starts[i].start;
            return 0;
        }
    }
    return refuse("--start is oldest, newest or boot", word);
}

static int parse_number(const char *word, unsigned long long max, uint64_t *out)
{
    char *end;
    unsigned long long number;

    errno = 0;
    number = strtoull(word, &end, 10);
    if (word[0] < '0' || word[0] > '9' || *end != '\0' || errno != 0 || number > max) {
        return refuse("not a number, or too large", word);
    }
    *out = number;
    return 0;
}

static int add_term(struct tf_reader_options *options, struct tf_reader_term term)
{
    if (options->term_count == TF_READER_TERMS_MAX) {
        return refuse("too many matches", term.match == NULL ? "" : term.match);
    }
    if (term.kind == TF_READER_MATCH && strchr(term.match, '=') == NULL) {
        return refuse("--match wants NAME=VALUE", term.match);
    }
    options->terms[options->term_count++] = term;
    return 0;
}

static int parse_option(struct tf_reader_options *options, int id, const char *word)
{
    uint64_t number;
    int rc = 0;

    switch (id) {
    case OPT_DIRECTORY:
        options->directory = word;
        break;
    case OPT_NAMESPACE:
        options->namespace_name = word;
        break;
    case OPT_AFTER:
        options->start = TF_READER_START_AFTER;
        options->after = word;
        break;
    case OPT_START:
        rc = parse_start(options, word);
        break;
    case OPT_SINCE:
        options->start = TF_READER_START_SINCE;
        rc = parse_number(word, UINT64_MAX - 1, &options->since_usec);
        break;
    case OPT_MATCH:
        rc = add_term(options, (struct tf_reader_term){TF_READER_MATCH, word});
        break;
    case OPT_OR:
        rc = add_term(options, (struct tf_reader_term){TF_READER_OR, NULL});
        break;
    case OPT_AND:
        rc = add_term(options, (struct tf_reader_term){TF_READER_AND, NULL});
        break;
    case OPT_PRIORITY:
        rc = parse_number(word, 7, &number);
        options->priority_max = rc == 0 ? (int)number : -1;
        break;
    case OPT_ONCE:
        options->is_once = true;
        break;
    case OPT_VERBOSE:
        options->is_verbose = true;
        break;
    default: /* getopt has said what is wrong */
        rc = -EINVAL;
    }
    return rc;
}

static int check_together(const struct tf_reader_options *options, int start_count)
{
    if (options->directory != NULL && options->namespace_name != NULL) {
        return refuse("--directory and --namespace exclude each other", options->directory);
    }
    if (start_count > 1) {
        return refuse("--after, --start and --since exclude each other", "give one");
    }
    return 0;
}

int main(int argc, char **argv)
{
    static struct tf_reader_options options = {.priority_max = -1};
    int id, start_count = 0;

    while ((id = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
        if (id == OPT_VERSION) {
            (void)printf("taffrail-journal %s (libsystemd %s)\n", TF_VERSION, TF_LIBSYSTEMD);
            return TF_READER_DONE;
        }
        if (id == OPT_HELP) {
            (void)fputs(usage_text, stdout);
            return TF_READER_DONE;
        }
        start_count += id == OPT_AFTER || id == OPT_START || id == OPT_SINCE;
        if (parse_option(&options, id, optarg) < 0) {
            return TF_READER_USAGE;
        }
    }
    if (optind < argc) {
        (void)refuse("no such word", argv[optind]);
        return TF_READER_USAGE;
    }
    if (check_together(&options, start_count) < 0) {
        return TF_READER_USAGE;
    }
    return tf_reader_run(&options);
}
