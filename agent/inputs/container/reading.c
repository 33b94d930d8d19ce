/*
 * reading.c - how a file is read: by which input, with which options, under which tag.
 *
 * Also for commands that read files by themselves; they see no folder, so a name that its glob
 * would take is a primary's, and any other that begins with such a name is a sibling's.
 */
#include "internal.h"

#include <errno.h>
#include <stdlib.h>

/* ---- the input ----------------------------------------------------------------------------------
 */

/* normal is absolute, and taken apart here. */
static bool input_takes(const struct tf_container_options *options, char *normal)
{
    char *slash = strrchr(normal, '/');
    bool is_taken = false;

    *slash = '\0';
    for (size_t i = 0; i < options->paths.count && !is_taken; i++) {
        struct tf_path_glob glob;

        is_taken = tf_path_glob_init(&glob, options->paths.items[i].text) == 0 &&
                   tf_path_glob_takes(&glob, normal, slash + 1);
        tf_path_glob_fini(&glob);
    }
    *slash = '/';
    return is_taken;
}

const struct tf_plugin_config *tf_container_find(const struct tf_plugin_list *inputs,
                                                 const char *path)
{
    char normal[TF_FILE_PATH_MAX];

    if (path != NULL && tf_path_normalize(path, normal) < 0) {
        return NULL;
    }
    for (size_t i = 0; i < inputs->count; i++) {
        const struct tf_plugin_config *item = &inputs->items[i];

        if (item->kind == &tf_input_container &&
            (path == NULL || input_takes(item->options, normal))) {
            return item;
        }
    }
    return NULL;
}

static int default_options(struct tf_container_options *options)
{
    void *arena = tf_arena_new();
    int rc =
        arena != NULL ? tf_options_default(tf_input_container.options, options, arena) : -ENOMEM;

    tf_arena_free(arena); /* what is in it is not looked at */
    return rc;
}

int tf_container_reading(const struct tf_plugin_config *input, struct tf_reading *out)
{
    struct tf_container_options options = {.format = 0};
    int rc = 0;

    if (input != NULL) {
        options = *(const struct tf_container_options *)input->options;
    } else {
        rc = default_options(&options);
    }
    if (rc == 0) {
        *out = (struct tf_reading){.format = (enum tf_format)options.format,
                                   .encoding = (enum tf_encoding)options.encoding,
                                   .max_line_bytes = options.max_line_bytes};
    }
    return rc;
}

/* ---- the tag ------------------------------------------------------------------------------------
 */

static void append_name(struct tf_buf *out, struct tf_slice name)
{
    if (name.size == 0) {
        name = tf_slice_text("none");
    }
    for (size_t i = 0; i < name.size; i++) {
        uint8_t byte = (uint8_t)name.data[i];

        (void)tf_buf_append_byte(out, byte > ' ' && byte < 0x7f ? byte : '_');
    }
}

char *tf_container_tag(const char *template, const struct tf_log_path *names)
{
    const struct {
        const char *word;
        struct tf_slice name;
    } words[] = {{"{namespace}", names->namespace_name},
                 {"{pod}", names->pod_name},
                 {"{container}", names->container_name}};
    struct tf_buf out;
    char *tag;

    tf_buf_init(&out, 64u << 10);
    while (*template != '\0') {
        size_t used = 0;

        for (size_t i = 0; i < TF_COUNT(words) && used == 0; i++) {
            if (strncmp(template, words[i].word, strlen(words[i].word)) == 0) {
                append_name(&out, words[i].name);
                used = strlen(words[i].word);
            }
        }
        if (used == 0) {
            (void)tf_buf_append_byte(&out, (uint8_t) * template);
            used = 1;
        }
        template += used;
    }
    tag = out.error == -ENOMEM ? NULL
                               : strndup(out.data != NULL ? out.data : "",
                                         out.size > TF_TAG_MAX ? TF_TAG_MAX : out.size);
    tf_buf_fini(&out);
    return tag;
}
