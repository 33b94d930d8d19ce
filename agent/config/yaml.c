/*
 * yaml.c - one YAML document as nodes with places, by libyaml's events.
 *
 * Less than YAML: anchors, aliases, tags, keys that are no text and keys twice are errors, so that
 * a file means what a reader thinks, and its tree is as large as its text. Bounds are in
 * internal.h; size of the input is bounded by the caller. After a mistake that leaves the structure
 * known, parsing goes on; libyaml's own errors end it.
 *
 * libyaml counts characters and knows line breaks of its own; places count bytes behind a newline.
 * Its marks come in the order of the text, so that one cursor over the bytes turns each into a
 * place.
 */
#include "internal.h"

#include <errno.h>

#include <yaml.h>

/* A place in the bytes, and how many characters come before it. */
struct cursor {
    size_t characters, byte, line_start;
    unsigned line;
};

/* An open list or map. */
struct level {
    struct tf_yaml *node;
    bool has_key, is_skipped; /* of a map: a key waits for its value; that value is dropped */
    const char *key;
    struct tf_place key_at;
};

struct parse {
    yaml_parser_t parser;
    struct tf_slice bytes;
    const char *file;
    void *arena;
    struct tf_error *err;
    struct cursor cursor;
    struct level levels[TF_YAML_DEPTH_MAX];
    size_t depth, nodes;
    struct tf_yaml *root;
    bool no_memory, has_document;
};

static bool is_continuation(char byte)
{
    return ((uint8_t)byte & 0xc0) == 0x80;
}

static void step(struct cursor *cursor, struct tf_slice bytes)
{
    if (bytes.data[cursor->byte] == '\n') {
        cursor->line++;
        cursor->line_start = cursor->byte + 1;
    }
    do {
        cursor->byte++;
    } while (cursor->byte < bytes.size && is_continuation(bytes.data[cursor->byte]));
    cursor->characters++;
}

/* The place of the character that libyaml calls number index; leaves the cursor there. */
static struct tf_place place(struct parse *parse, size_t index)
{
    struct cursor *cursor = &parse->cursor;

    if (index < cursor->characters) {
        *cursor = (struct cursor){.line = 1};
    }
    while (cursor->characters < index && cursor->byte < parse->bytes.size) {
        step(cursor, parse->bytes);
    }
    return (struct tf_place){parse->file, cursor->line,
                             (unsigned)(cursor->byte - cursor->line_start) + 1};
}

/* ---- what libyaml refuses ------------------------------------------------------------------- */

static int refuse_bytes(struct parse *parse)
{
    struct cursor cursor = {.line = 1};
    struct tf_place at;

    while (cursor.byte < parse->parser.problem_offset && cursor.byte < parse->bytes.size) {
        step(&cursor, parse->bytes);
    }
    at = (struct tf_place){parse->file, cursor.line,
                           (unsigned)(cursor.byte - cursor.line_start) + 1};
    if (parse->parser.problem_value > 0xff || strstr(parse->parser.problem, "control") != NULL) {
        return tf_error_add(parse->err, &at,
                            "character U+%04X may not stand in YAML; write it as an escape in "
                            "double quotes",
                            (unsigned)parse->parser.problem_value);
    }
    return tf_error_add(parse->err, &at, "the file is not UTF-8 here; save it as UTF-8");
}

static char byte_at_cursor(const struct parse *parse)
{
    return parse->cursor.byte < parse->bytes.size ? parse->bytes.data[parse->cursor.byte] : '\0';
}

static char byte_before_cursor(const struct parse *parse)
{
    return parse->cursor.byte > 0 ? parse->bytes.data[parse->cursor.byte - 1] : '\0';
}

/* An error of the scanner or parser: the usual ones get a mend of their own. */
static int refuse_syntax(struct parse *parse)
{
    const yaml_parser_t *parser = &parse->parser;
    bool is_alias = parser->context != NULL && strstr(parser->context, "alias") != NULL;
    struct tf_place at =
        place(parse, is_alias ? parser->context_mark.index : parser->problem_mark.index);
    char byte = byte_at_cursor(parse);

    if (is_alias && byte == '*') {
        return tf_error_add(parse->err, &at,
                            "a value that begins with * needs quotes, or YAML takes it for an "
                            "alias; write it as \"*...\"");
    }
    if (byte == '\t') {
        return tf_error_add(parse->err, &at, "a tab cannot indent YAML; write spaces");
    }
    if (byte == '{' && byte_before_cursor(parse) == '$') {
        return tf_error_add(parse->err, &at,
                            "${...} needs quotes within brackets; write \"${...}\"");
    }
    if (byte != '\0' && strchr("%@`", byte) != NULL) {
        return tf_error_add(parse->err, &at, "a value cannot begin with %c; put it in quotes",
                            byte);
    }
    if (parser->context != NULL) {
        struct tf_place from = place(parse, parser->context_mark.index);

        return tf_error_add(parse->err, &at,
                            "not YAML: %s, %s of line %u; look at indentation, brackets, quotes",
                            parser->problem, parser->context, from.line);
    }
    return tf_error_add(parse->err, &at, "not YAML: %s; look at indentation, brackets, quotes",
                        parser->problem != NULL ? parser->problem : "a mistake");
}

static int refuse_event(struct parse *parse)
{
    switch (parse->parser.error) {
    case YAML_MEMORY_ERROR:
        parse->no_memory = true;
        return -ENOMEM;
    case YAML_READER_ERROR:
        return refuse_bytes(parse);
    default:
        return refuse_syntax(parse);
    }
}

/* ---- nodes ---------------------------------------------------------------------------------- */

static struct level *top(struct parse *parse)
{
    return parse->depth > 0 ? &parse->levels[parse->depth - 1] : NULL;
}

static void append(struct tf_yaml *parent, struct tf_yaml *node)
{
    if (parent->last != NULL) {
        parent->last->next = node;
    } else {
        parent->first = node;
    }
    parent->last = node;
    parent->count++;
}

/* Hangs a new node to where the parse is. NULL: too many, or no memory. */
static struct tf_yaml *add_node(struct parse *parse, enum tf_yaml_type type, struct tf_place at)
{
    struct level *level = top(parse);
    struct tf_yaml *node;

    if (++parse->nodes > TF_YAML_NODES_MAX) {
        (void)tf_error_add(parse->err, &at, "the file has more than %u values; write fewer",
                           TF_YAML_NODES_MAX);
        return NULL;
    }
    node = tf_arena_alloc(parse->arena, sizeof *node);
    if (node == NULL) {
        parse->no_memory = true;
        return NULL;
    }
    *node = (struct tf_yaml){.type = type, .at = at};
    if (level == NULL) {
        parse->root = node;
    } else if (level->node->type == TF_YAML_LIST) {
        append(level->node, node);
    } else {
        node->key = level->key;
        node->key_at = level->key_at;
        level->has_key = false;
        if (!level->is_skipped) {
            append(level->node, node);
        }
    }
    return node;
}

static const char *copy_text(struct parse *parse, const char *text, size_t size)
{
    char *copy = tf_arena_alloc(parse->arena, size + 1);

    if (copy == NULL) {
        parse->no_memory = true;
        return NULL;
    }
    memcpy(copy, text, size);
    return copy;
}

const struct tf_yaml *tf_yaml_get(const struct tf_yaml *map, const char *key)
{
    const struct tf_yaml *node = map != NULL && map->type == TF_YAML_MAP ? map->first : NULL;

    while (node != NULL && strcmp(node->key, key) != 0) {
        node = node->next;
    }
    return node;
}

bool tf_yaml_is_null(const struct tf_yaml *node)
{
    return node->type == TF_YAML_TEXT && node->is_plain &&
           (node->text[0] == '\0' || strcmp(node->text, "~") == 0 ||
            strcmp(node->text, "null") == 0);
}

/* ---- events --------------------------------------------------------------------------------- */

static bool expects_key(struct parse *parse)
{
    const struct level *level = top(parse);

    return level != NULL && level->node->type == TF_YAML_MAP && !level->has_key;
}

/* Takes a key; when it was there before, its value will be dropped. */
static int take_key(struct parse *parse, const char *text, size_t size, struct tf_place at)
{
    struct level *level = top(parse);
    const struct tf_yaml *before;

    if (level->node->count == TF_YAML_KEYS_MAX) {
        return tf_error_add(parse->err, &at, "the map has more than %u keys; write fewer",
                            TF_YAML_KEYS_MAX);
    }
    *level = (struct level){.node = level->node, .has_key = true, .key_at = at};
    level->key = copy_text(parse, text, size);
    if (level->key == NULL) {
        return -ENOMEM;
    }
    if (memchr(text, '\0', size) != NULL) {
        level->is_skipped = true;
        (void)tf_error_add(parse->err, &at, "a key holds a NUL character; take it out");
        return 0;
    }
    before = tf_yaml_get(level->node, level->key);
    if (before != NULL) {
        level->is_skipped = true;
        (void)tf_error_add(parse->err, &at, "key %s is written twice, first in line %u; keep one",
                           tf_quote(level->key).text, before->key_at.line);
    }
    return 0;
}

/* Tags and anchors: told, and the value is taken without. */
static void refuse_marks(struct parse *parse, const yaml_char_t *anchor, const yaml_char_t *tag,
                         const struct tf_place *at)
{
    if (anchor != NULL) {
        (void)tf_error_add(parse->err, at,
                           "YAML anchors are not used here; write the value out, or put it in "
                           "quotes when its & is meant");
    }
    if (tag != NULL) {
        (void)tf_error_add(parse->err, at,
                           "YAML tags are not used here; leave it out, or put the value in quotes "
                           "when its ! is meant");
    }
}

static int take_scalar(struct parse *parse, const yaml_event_t *event, struct tf_place at)
{
    const char *text = (const char *)event->data.scalar.value;
    size_t size = event->data.scalar.length;
    struct tf_yaml *node;

    refuse_marks(parse, event->data.scalar.anchor, event->data.scalar.tag, &at);
    if (expects_key(parse)) {
        return take_key(parse, text, size, at);
    }
    node = add_node(parse, TF_YAML_TEXT, at);
    if (node == NULL) {
        return -EINVAL;
    }
    node->is_plain = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    node->text = copy_text(parse, text, size);
    if (node->text != NULL && memchr(text, '\0', size) != NULL) {
        node->type = TF_YAML_BAD;
        (void)tf_error_add(parse->err, &at, "the value holds a NUL character; take it out");
    }
    return node->text != NULL ? 0 : -ENOMEM;
}

static int take_alias(struct parse *parse, const yaml_event_t *event, struct tf_place at)
{
    const char *name = (const char *)event->data.alias.anchor;

    (void)tf_error_add(parse->err, &at,
                       "a value that begins with * needs quotes, or YAML takes it for an alias; "
                       "write it as \"*%.32s\"",
                       name);
    if (expects_key(parse)) {
        struct level *level = top(parse);

        *level = (struct level){
            .node = level->node, .has_key = true, .is_skipped = true, .key = "", .key_at = at};
        return 0;
    }
    return add_node(parse, TF_YAML_BAD, at) != NULL ? 0 : -EINVAL;
}

static int open_level(struct parse *parse, enum tf_yaml_type type, struct tf_place at)
{
    struct tf_yaml *node;

    if (expects_key(parse)) {
        return tf_error_add(parse->err, &at,
                            "a key is a text, not a %s; put {{...}} and [...] in quotes where they "
                            "are meant as text",
                            type == TF_YAML_MAP ? "map" : "list");
    }
    if (parse->depth == TF_YAML_DEPTH_MAX) {
        return tf_error_add(parse->err, &at, "nested deeper than %u; no key goes so deep",
                            TF_YAML_DEPTH_MAX);
    }
    node = add_node(parse, type, at);
    if (node == NULL) {
        return -EINVAL;
    }
    parse->levels[parse->depth++] = (struct level){.node = node};
    return 0;
}

static int take_event(struct parse *parse, const yaml_event_t *event)
{
    struct tf_place at = place(parse, event->start_mark.index);

    switch (event->type) {
    case YAML_DOCUMENT_START_EVENT:
        if (parse->has_document) {
            return tf_error_add(parse->err, &at,
                                "a second document begins; one file holds one, take the --- out");
        }
        parse->has_document = true;
        return 0;
    case YAML_SCALAR_EVENT:
        return take_scalar(parse, event, at);
    case YAML_ALIAS_EVENT:
        return take_alias(parse, event, at);
    case YAML_SEQUENCE_START_EVENT:
        refuse_marks(parse, event->data.sequence_start.anchor, event->data.sequence_start.tag, &at);
        return open_level(parse, TF_YAML_LIST, at);
    case YAML_MAPPING_START_EVENT:
        refuse_marks(parse, event->data.mapping_start.anchor, event->data.mapping_start.tag, &at);
        return open_level(parse, TF_YAML_MAP, at);
    case YAML_SEQUENCE_END_EVENT:
    case YAML_MAPPING_END_EVENT:
        parse->depth--;
        return 0;
    default:
        return 0;
    }
}

static int parse_events(struct parse *parse)
{
    bool at_end = false;
    int rc = 0;

    while (rc == 0 && !at_end) {
        yaml_event_t event;

        if (yaml_parser_parse(&parse->parser, &event) == 0) {
            return refuse_event(parse);
        }
        rc = take_event(parse, &event);
        at_end = event.type == YAML_STREAM_END_EVENT;
        yaml_event_delete(&event);
    }
    return parse->no_memory ? -ENOMEM : rc;
}

int tf_yaml_parse(struct tf_slice yaml, const char *file, void *arena, struct tf_yaml **out,
                  struct tf_error *err)
{
    struct parse parse = {.file = file, .arena = arena, .err = err, .cursor = {.line = 1}};
    int rc;

    if (yaml.size >= 3 && memcmp(yaml.data, "\xef\xbb\xbf", 3) == 0) {
        yaml = tf_slice(yaml.data + 3, yaml.size - 3); /* a byte order mark counts as nothing */
    }
    parse.bytes = yaml;
    if (yaml_parser_initialize(&parse.parser) == 0) {
        return -ENOMEM;
    }
    yaml_parser_set_encoding(&parse.parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&parse.parser, (const unsigned char *)yaml.data, yaml.size);
    rc = parse_events(&parse);
    yaml_parser_delete(&parse.parser);
    if (rc == 0 && parse.root == NULL) {
        rc = -ENODATA;
    }
    if (rc == 0) {
        *out = parse.root;
    }
    return rc;
}
