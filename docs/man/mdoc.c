/*
 * mdoc.c - helps and option tables in mdoc(7).
 */
#include "manual.h"

#include <string.h>

#include "../../agent/config/internal.h"
#include "taffrail/filter.h"
#include "taffrail/input.h"
#include "taffrail/output.h"

#define LINE_CHARS 64u /* escapes and a full stop come on top; mandoc -T lint wants 80 */

/* ---- text ----------------------------------------------------------------------------------- */

/* mandoc_char(7): what would be taken for roff, or set as another character than was written. */
static const char *escape_of(char c)
{
    switch (c) {
    case '\\':
        return "\\e";
    case '-':
        return "\\-";
    case '"':
        return "\\(dq";
    case '`':
        return "\\(ga";
    case '\'':
        return "\\(aq";
    case '^':
        return "\\(ha";
    case '~':
        return "\\(ti";
    default:
        return NULL;
    }
}

void manual_put(FILE *to, const char *text, size_t size)
{
    if (size > 0 && text[0] == '.') {
        (void)fputs("\\&", to);
    }
    for (size_t i = 0; i < size; i++) {
        const char *escape = escape_of(text[i]);

        if (escape != NULL) {
            (void)fputs(escape, to);
        } else {
            (void)fputc(text[i], to);
        }
    }
}

/* Words, in lines of LINE_CHARS at most where they are not longer. */
static void put_words(FILE *to, const char *text, size_t size)
{
    size_t column = 0;

    while (size > 0) {
        size_t word = 0;

        while (word < size && text[word] != ' ') {
            word++;
        }
        if (column > 0 && column + 1 + word > LINE_CHARS) {
            (void)fputc('\n', to);
            column = 0;
        } else if (column > 0) {
            (void)fputc(' ', to);
            column++;
        }
        manual_put(to, text, word);
        column += word;
        word += word < size ? 1 : 0;
        text += word;
        size -= word;
    }
}

/* Sentences, each on lines of its own as mdoc wants it, the last with its full stop. */
static void put_sentences(FILE *to, const char *text)
{
    const char *end;

    while ((end = strstr(text, ". ")) != NULL) {
        put_words(to, text, (size_t)(end - text) + 1);
        (void)fputc('\n', to);
        text = end + 1 + strspn(end + 1, " ");
    }
    if (text[0] != '\0') {
        put_words(to, text, strlen(text));
        (void)fputs(strchr(".:", text[strlen(text) - 1]) != NULL ? "\n" : ".\n", to);
    }
}

/* ---- a help --------------------------------------------------------------------------------- */

enum part { PART_NONE, PART_FORMS, PART_TEXT, PART_TERMS, PART_EXAMPLES };

struct help {
    FILE *to;
    enum part part;
    char text[2048]; /* of a paragraph or a term, gathered over lines */
};

static void flush(struct help *help)
{
    put_sentences(help->to, help->text);
    help->text[0] = '\0';
}

static void gather(struct help *help, const char *text)
{
    size_t used = strlen(help->text);

    text += strspn(text, " ");
    (void)snprintf(help->text + used, sizeof help->text - used, "%s%s", used > 0 ? " " : "", text);
}

static void change_part(struct help *help, enum part part)
{
    static const char *const ends[] = {"", ".Ed\n", "", ".El\n", ".Ed\n"};
    static const char *const begins[] = {"", ".Bd -literal\n", ".Pp\n", ".Bl -tag -width Ds\n",
                                         ".Pp\nExamples:\n.Bd -literal\n"};

    flush(help);
    if (part != help->part || part == PART_TEXT) {
        (void)fputs(ends[help->part], help->to);
        (void)fputs(begins[part], help->to);
    }
    help->part = part;
}

static void put_literal(struct help *help, const char *line)
{
    manual_put(help->to, line, strlen(line));
    (void)fputc('\n', help->to);
}

/* "exit: 0 fine, 1 …" with a capital. */
static void put_named(struct help *help, const char *line)
{
    change_part(help, PART_TEXT);
    gather(help, line);
    help->text[0] = (char)(help->text[0] - 'a' + 'A');
}

static void put_term(struct help *help, const char *line, size_t term_bytes, const char *text)
{
    change_part(help, PART_TERMS);
    (void)fputs(".It Sy \"", help->to);
    manual_put(help->to, line + 2, term_bytes);
    (void)fputs("\"\n", help->to);
    gather(help, text);
}

static void put_line(struct help *help, const char *line)
{
    size_t term_bytes;
    const char *text = manual_term(line, &term_bytes);

    if (strncmp(line, "usage: ", 7) == 0) {
        change_part(help, PART_FORMS);
        put_literal(help, line + 7);
    } else if (help->part == PART_FORMS && line[0] == ' ') {
        put_literal(help, line + 7);
    } else if (strncmp(line, "example: ", 9) == 0 || strncmp(line, "examples: ", 10) == 0) {
        change_part(help, PART_EXAMPLES);
        put_literal(help, strchr(line, ' ') + 1);
    } else if (strncmp(line, "exit: ", 6) == 0 || strncmp(line, "signals: ", 9) == 0) {
        put_named(help, line);
    } else if (help->part == PART_EXAMPLES && line[0] == ' ') {
        put_literal(help, line + strspn(line, " "));
    } else if (text != NULL) {
        put_term(help, line, term_bytes, text);
    } else if (line[0] == ' ' || help->part == PART_TEXT) {
        gather(help, line);
    } else {
        change_part(help, PART_TEXT);
        gather(help, line);
    }
}

void manual_put_help(FILE *to, const char *text)
{
    struct help help = {.to = to};

    while (*text != '\0') {
        size_t size = strcspn(text, "\n");
        char line[256];

        (void)snprintf(line, sizeof line, "%.*s", (int)size, text);
        put_line(&help, line);
        text += size + (text[size] == '\n' ? 1 : 0);
    }
    change_part(&help, PART_NONE);
}

/* ---- option tables -------------------------------------------------------------------------- */

static const char *type_text(const struct tf_option *option)
{
    switch (option->type) {
    case TF_OPTION_PATH:
        return "path";
    case TF_OPTION_TEXTS:
        return "list of texts";
    case TF_OPTION_PATHS:
        return "list of paths";
    case TF_OPTION_SIZE:
        return "size";
    case TF_OPTION_RATE:
        return "rate";
    case TF_OPTION_TIME:
        return "time";
    case TF_OPTION_COUNT:
        return "count";
    case TF_OPTION_SWITCH:
        return "true or false";
    case TF_OPTION_CHOICE:
        return option->choices;
    case TF_OPTION_OCTAL:
        return "file mode";
    case TF_OPTION_MAP:
        return "map of texts";
    case TF_OPTION_MAPS:
        return "list of maps of texts";
    case TF_OPTION_TABLE:
        return "map";
    case TF_OPTION_TABLES:
        return "list of maps";
    case TF_OPTION_SYNC:
        return "time, always or never";
    case TF_OPTION_TEXT:
        break;
    }
    return "text";
}

/* A figure in the largest unit in which it is whole. */
static void put_figure(FILE *to, const struct tf_option *option, uint64_t figure)
{
    static const struct {
        uint64_t size;
        const char *name;
    } bytes[] = {{1u << 30, "GiB"}, {1u << 20, "MiB"}, {1u << 10, "KiB"}, {1, "B"}},
      times[] = {{86400000, "d"}, {3600000, "h"}, {60000, "m"}, {1000, "s"}, {1, "ms"}};
    bool is_time = option->type == TF_OPTION_TIME || option->type == TF_OPTION_SYNC;
    bool is_size = option->type == TF_OPTION_SIZE || option->type == TF_OPTION_RATE;
    size_t i = 0;

    while (is_time && figure % times[i].size != 0) {
        i++;
    }
    while (is_size && figure % bytes[i].size != 0) {
        i++;
    }
    (void)fprintf(to, "%llu%s%s",
                  (unsigned long long)(figure / (is_time   ? times[i].size
                                                 : is_size ? bytes[i].size
                                                           : 1)),
                  is_time   ? times[i].name
                  : is_size ? bytes[i].name
                            : "",
                  option->type == TF_OPTION_RATE ? "/s" : "");
}

static void put_range(FILE *to, const struct tf_option *option)
{
    if (option->min > 0) {
        (void)fputs(", at least ", to);
        put_figure(to, option, option->min);
    }
    if (option->max > 0) {
        (void)fputs(", at most ", to);
        put_figure(to, option, option->max);
    }
}

static void put_key(FILE *to, const struct tf_option *option, const char *key)
{
    const char *type = type_text(option);

    (void)fprintf(to, ".It Ic %s\n.Pq ", key);
    for (const char *c = type; *c != '\0'; c++) {
        (void)fputs(*c == '|' ? ", " : (char[]){*c, '\0'}, to);
    }
    put_range(to, option);
    if (option->required) {
        (void)fputs("; required", to);
    } else if (option->def != NULL) {
        (void)fputs("; default ", to);
        manual_put(to, option->def, strlen(option->def));
    }
    (void)fputs("\n.br\n", to);
    put_sentences(to, option->about);
}

static void put_keys(FILE *to, const char *prefix, const struct tf_option *table)
{
    for (; table != NULL && table->name != NULL; table++) {
        char key[128], inner[129];

        (void)snprintf(key, sizeof key, "%s%s", prefix, table->name);
        put_key(to, table, key);
        if (table->type == TF_OPTION_TABLE || table->type == TF_OPTION_TABLES) {
            (void)snprintf(inner, sizeof inner, "%s.", key);
            put_keys(to, inner, table->table);
        }
    }
}

void manual_put_table(FILE *to, const struct tf_option *table)
{
    (void)fputs(".Bl -tag -width Ds\n", to);
    put_keys(to, "", table);
    (void)fputs(".El\n", to);
}

static void put_titled(FILE *to, const char *kind, const char *name, const struct tf_option *table)
{
    (void)fprintf(to, ".Ss %s %s\n", kind, name);
    manual_put_table(to, table);
}

void manual_put_configuration(FILE *to)
{
    for (size_t i = 0; tf_config_sections[i].name != NULL; i++) {
        put_titled(to, "Section", tf_config_sections[i].name, tf_config_sections[i].table);
    }
    for (size_t i = 0; tf_plugins.inputs[i] != NULL; i++) {
        put_titled(to, "Input", tf_plugins.inputs[i]->name, tf_plugins.inputs[i]->options);
    }
    for (size_t i = 0; tf_plugins.filters[i] != NULL; i++) {
        put_titled(to, "Filter", tf_plugins.filters[i]->name, tf_plugins.filters[i]->options);
    }
    for (size_t i = 0; tf_plugins.outputs[i] != NULL; i++) {
        put_titled(to, "Output", tf_plugins.outputs[i]->name, tf_plugins.outputs[i]->options);
    }
}
