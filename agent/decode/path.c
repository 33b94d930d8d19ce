/*
 * path.c - the names that a log file's path tells.
 *
 *     .../pods/NAMESPACE_POD_UID/CONTAINER/N.log      kubelet; N counts restarts; rotated:
 * N.log.MORE
 *     .../containers/POD_NAMESPACE_CONTAINER-ID.log   the runtime's flat links
 *     .../containers/ID/ID-json.log                   docker; rotated: ID-json.log.MORE
 *
 * Names of Kubernetes have letters, digits, '-' and '.', never '_', so the cuts are certain. An id
 * is ID_MIN to ID_MAX hexadecimal digits: the runtime cuts a link's name, and with it the id, to
 * 255 bytes. A path that is not exactly of a shape tells nothing: no name is better than a wrong
 * one.
 */
#include "taffrail/decode.h"

#include <errno.h>

#define ID_MIN       12u
#define ID_MAX       64u
#define RESTARTS_MAX 9u /* digits */

/* Cuts the last component off path; false when there is none. */
static bool cut_last(struct tf_slice *path, struct tf_slice *name)
{
    const char *slash = path->size > 0 ? memrchr(path->data, '/', path->size) : NULL;
    size_t at = slash == NULL ? 0 : (size_t)(slash - path->data) + 1;

    *name = tf_slice(path->data + at, path->size - at);
    path->size = slash == NULL ? 0 : at - 1;
    return name->size > 0;
}

/* Cuts what precedes the first separator off rest; all of it when there is none. */
static struct tf_slice cut_part(struct tf_slice *rest, char separator)
{
    const char *at = rest->size > 0 ? memchr(rest->data, separator, rest->size) : NULL;
    struct tf_slice part = *rest;

    if (at == NULL) {
        *rest = tf_slice(rest->data + rest->size, 0);
        return part;
    }
    part.size = (size_t)(at - rest->data);
    *rest = tf_slice(at + 1, rest->size - part.size - 1);
    return part;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_name(struct tf_slice text)
{
    for (size_t i = 0; i < text.size; i++) {
        char c = text.data[i];

        if (!(c >= 'a' && c <= 'z') && !(c >= 'A' && c <= 'Z') && !is_digit(c) && c != '-' &&
            c != '.') {
            return false;
        }
    }
    return text.size > 0;
}

static bool is_id(struct tf_slice text)
{
    for (size_t i = 0; i < text.size; i++) {
        char c = text.data[i];

        if (!(c >= 'a' && c <= 'f') && !is_digit(c)) {
            return false;
        }
    }
    return text.size >= ID_MIN && text.size <= ID_MAX;
}

/* "A_B_C" with three names, nothing else. */
static bool cut_three(struct tf_slice text, struct tf_slice names[3])
{
    for (unsigned i = 0; i < 3; i++) {
        names[i] = cut_part(&text, '_');
        if (!is_name(names[i])) {
            return false;
        }
    }
    return text.size == 0;
}

static bool has_prefix(struct tf_slice text, const char *prefix)
{
    return text.size >= strlen(prefix) && memcmp(text.data, prefix, strlen(prefix)) == 0;
}

/* ".log", or ".log." with something behind it: a rotated file. */
static bool is_log_suffix(struct tf_slice text)
{
    return has_prefix(text, ".log") && (text.size == 4 || (text.size > 5 && text.data[4] == '.'));
}

/* "N.log" in a directory of a container in a directory of a pod. */
static bool parse_pod_file(struct tf_slice path, struct tf_slice file, struct tf_log_path *out)
{
    struct tf_slice container, pod, root, names[3];
    size_t digits = 0;

    if (!cut_last(&path, &container) || !cut_last(&path, &pod) || !cut_last(&path, &root) ||
        !tf_slice_equal(root, tf_slice_text("pods"))) {
        return false;
    }
    for (; digits < file.size && is_digit(file.data[digits]); digits++) {
        if (digits == RESTARTS_MAX) {
            return false;
        }
        out->restart_count = out->restart_count * 10 + (uint32_t)(file.data[digits] - '0');
    }
    if (digits == 0 || !is_log_suffix(tf_slice(file.data + digits, file.size - digits)) ||
        !is_name(container) || !cut_three(pod, names)) {
        return false;
    }
    out->has_restart_count = true;
    out->namespace_name = names[0];
    out->pod_name = names[1];
    out->pod_uid = names[2];
    out->container_name = container;
    return true;
}

/* "POD_NAMESPACE_CONTAINER-ID.log" */
static bool parse_link(struct tf_slice path, struct tf_slice file, struct tf_log_path *out)
{
    struct tf_slice root, id, names[3];
    const char *dash;

    if (!cut_last(&path, &root) || !tf_slice_equal(root, tf_slice_text("containers")) ||
        file.size < 4 || memcmp(file.data + file.size - 4, ".log", 4) != 0) {
        return false;
    }
    file.size -= 4;
    dash = memrchr(file.data, '-', file.size);
    if (dash == NULL) {
        return false;
    }
    id = tf_slice(dash + 1, file.size - (size_t)(dash + 1 - file.data));
    file.size = (size_t)(dash - file.data);
    if (!is_id(id) || !cut_three(file, names)) {
        return false;
    }
    out->pod_name = names[0];
    out->namespace_name = names[1];
    out->container_name = names[2];
    out->container_id = id;
    return true;
}

/* "ID-json.log" in a directory ID. */
static bool parse_docker(struct tf_slice path, struct tf_slice file, struct tf_log_path *out)
{
    struct tf_slice id, root, rest;

    if (!cut_last(&path, &id) || !is_id(id) || !cut_last(&path, &root) ||
        !tf_slice_equal(root, tf_slice_text("containers")) || file.size < id.size + 5 ||
        memcmp(file.data, id.data, id.size) != 0) {
        return false;
    }
    rest = tf_slice(file.data + id.size, file.size - id.size);
    if (!has_prefix(rest, "-json") || !is_log_suffix(tf_slice(rest.data + 5, rest.size - 5))) {
        return false;
    }
    out->container_id = id;
    return true;
}

bool tf_log_path_parse(struct tf_slice path, struct tf_log_path *out)
{
    static bool (*const shapes[])(struct tf_slice, struct tf_slice, struct tf_log_path *) = {
        parse_pod_file, parse_link, parse_docker};
    struct tf_slice file;

    *out = (struct tf_log_path){0};
    if (!cut_last(&path, &file)) {
        return false;
    }
    for (size_t i = 0; i < TF_COUNT(shapes); i++) {
        if (shapes[i](path, file, out)) {
            return true;
        }
        *out = (struct tf_log_path){0};
    }
    return false;
}

int tf_log_path_describe(const struct tf_log_path *path, const char *host, struct tf_batch *batch)
{
    const struct {
        const char *key;
        struct tf_slice value;
    } texts[] = {
        {"namespace_name", path->namespace_name},
        {"pod_name", path->pod_name},
        {"pod_id", path->pod_uid},
        {"container_name", path->container_name},
        {"docker_id", path->container_id},
        {"host", tf_slice_text(host != NULL ? host : "")},
    };
    uint32_t pairs = path->has_restart_count ? 1 : 0;
    int rc;

    if (path->namespace_name.size == 0) {
        return path->container_id.size > 0
                   ? tf_batch_add_text_field(batch, "container_id", path->container_id)
                   : 0;
    }
    for (size_t i = 0; i < TF_COUNT(texts); i++) {
        pairs += texts[i].value.size > 0 ? 1 : 0;
    }
    rc = tf_batch_add_map_field(batch, "kubernetes", pairs);
    for (size_t i = 0; i < TF_COUNT(texts) && rc == 0; i++) {
        if (texts[i].value.size > 0) {
            rc = tf_batch_add_text_field(batch, texts[i].key, texts[i].value);
        }
    }
    if (rc == 0 && path->has_restart_count) {
        rc = tf_batch_add_int_field(batch, "restart_count", path->restart_count);
    }
    return rc;
}
