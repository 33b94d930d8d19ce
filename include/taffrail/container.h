/*
 * container.h - how a container input reads a log file, for those who read one by themselves.
 */
#ifndef TAFFRAIL_CONTAINER_H
#define TAFFRAIL_CONTAINER_H

#include "taffrail/config.h"
#include "taffrail/decode.h"

/* So long the pieces of a line wait for the next one; then they go out as they are. */
#define TF_PIECES_WAIT_MS 30000u

/* What a container input's options say of each file. */
struct tf_reading {
    enum tf_format format;
    enum tf_encoding encoding;
    uint64_t max_line_bytes;
};

/*
 * The first container input of the list whose `paths` name the file, or what it was before it was
 * rotated. path is absolute; NULL: any container input. Returns NULL when there is none.
 */
const struct tf_plugin_config *tf_container_find(const struct tf_plugin_list *inputs,
                                                 const char *path);

/* input NULL: a container input as it is without options. Returns 0 or -ENOMEM. */
int tf_container_reading(const struct tf_plugin_config *input, struct tf_reading *out);

/*
 * Starts the process that opens the logs of all container inputs (opener.h), while there is one
 * thread and no key in memory. Returns 0, with *out NULL where there is no such input, or a
 * negative errno.
 */
struct tf_opener_process;
int tf_container_start_opener(const struct tf_plugin_list *inputs, struct tf_opener_process **out);

/* An input's tag with a file's names in place of {namespace}, {pod} and {container}, `none` for one
 * that is not known. What is too long is cut. Returns new; NULL: no memory. */
char *tf_container_tag(const char *template, const struct tf_log_path *names);

#endif
