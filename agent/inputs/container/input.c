/*
 * input.c - the container input: its options, its descriptor, how it starts and closes.
 *
 * Tails the log files that containers leave on a node: docker's json-file, Kubernetes' CRI format,
 * plain lines. How files are found, followed and identified is docs/container-input.md; who does
 * what is in internal.h.
 */
#include "internal.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#define WORST_MAX 5u /* files told by name that are behind */

static const struct tf_option selection_options[] = {
    {.name = "namespace",
     .type = TF_OPTION_TEXTS,
     .offset = offsetof(struct tf_selection, namespaces),
     .about = "globs of Kubernetes namespaces"},
    {.name = "pod",
     .type = TF_OPTION_TEXTS,
     .offset = offsetof(struct tf_selection, pods),
     .about = "globs of pod names"},
    {.name = "container",
     .type = TF_OPTION_TEXTS,
     .offset = offsetof(struct tf_selection, containers),
     .about = "globs of container names"},
    {0}};

#define DELETED(member)                                                                            \
    (offsetof(struct tf_container_options, deleted.member) -                                       \
     offsetof(struct tf_container_options, deleted))

static const struct tf_option deleted_options[] = {
    {.name = "size",
     .type = TF_OPTION_SIZE,
     .offset = DELETED(size_bytes),
     .def = "1GiB",
     .about = "bytes of deleted files held open at most"},
    {.name = "age",
     .type = TF_OPTION_TIME,
     .offset = DELETED(age_ms),
     .def = "1h",
     .about = "how long a deleted file is held open at most"},
    {0}};

static const struct tf_option container_options[] = {
    {.name = "paths",
     .type = TF_OPTION_PATHS,
     .offset = offsetof(struct tf_container_options, paths),
     .def = "[/var/log/pods/*/*/*.log, /var/lib/docker/containers/*/*-json.log]",
     .about = "globs of log files; a file that is seen twice is read once"},
    {.name = "link_roots",
     .type = TF_OPTION_PATHS,
     .offset = offsetof(struct tf_container_options, link_roots),
     .def = "[/var/log/pods, /var/lib/docker/containers, /var/log/containers]",
     .about = "links lead into these folders and those of paths, and nowhere else"},
    {.name = "owners",
     .type = TF_OPTION_TEXTS,
     .offset = offsetof(struct tf_container_options, owners),
     .about = "users besides root and the agent's own whose files and folders are read"},
    {.name = "include",
     .type = TF_OPTION_TABLE,
     .offset = offsetof(struct tf_container_options, include),
     .table = selection_options,
     .about = "only these; all when nothing is written"},
    {.name = "exclude",
     .type = TF_OPTION_TABLE,
     .offset = offsetof(struct tf_container_options, exclude),
     .table = selection_options,
     .about = "not these; wins over include"},
    {.name = "format",
     .type = TF_OPTION_CHOICE,
     .offset = offsetof(struct tf_container_options, format),
     .def = "auto",
     .choices = "auto|docker|cri|plain",
     .about = "of the lines; auto finds it by content, for each file"},
    {.name = "encoding",
     .type = TF_OPTION_CHOICE,
     .offset = offsetof(struct tf_container_options, encoding),
     .def = "utf-8",
     .choices = "utf-8|latin1|utf-16",
     .about = "of plain files; the byte order of utf-16 is that of the mark at the file's start"},
    {.name = "start_at",
     .type = TF_OPTION_CHOICE,
     .offset = offsetof(struct tf_container_options, start_at),
     .def = "oldest",
     .choices = "oldest|newest",
     .about = "where files begin that are there at the first start"},
    {.name = "max_line",
     .type = TF_OPTION_SIZE,
     .offset = offsetof(struct tf_container_options, max_line_bytes),
     .def = "1MiB",
     .min = 256,
     .max = 8u << 20,
     .about = "of a longer line head and tail are kept, and its length is marked"},
    {.name = "max_rate",
     .type = TF_OPTION_RATE,
     .offset = offsetof(struct tf_container_options, max_rate_bytes),
     .min = 1024,
     .max = UINT64_C(1) << 40,
     .about = "how fast each log is read at most; the rest waits in its file"},
    {.name = "rescan",
     .type = TF_OPTION_TIME,
     .offset = offsetof(struct tf_container_options, rescan_ms),
     .def = "10s",
     .min = 20,
     .max = 3600000,
     .about = "how often all folders are looked through"},
    {.name = "deleted",
     .type = TF_OPTION_TABLE,
     .offset = offsetof(struct tf_container_options, deleted),
     .table = deleted_options,
     .about = "deleted files with bytes that could not be read yet; past it a gap tells"},
    {0}};

/* ---- making
 * ---------------------------------------------------------------------------------------- */

static void container_free(struct tf_container *input)
{
    if (input == NULL) {
        return;
    }
    uv_mutex_destroy(&input->mutex);
    tf_snapshot_fini(&input->snapshot);
    for (size_t i = 0; i < input->glob_count; i++) {
        tf_path_glob_fini(&input->globs[i]);
    }
    free(input->globs);
    tf_opener_fini(&input->opener);
    tf_block_pool_free(input->pool);
    free(input->name);
    free(input);
}

/* The names that a tag may hold are the three of UX; a brace that is anything else is a typing
 * error. */
static int check_tag(const struct tf_input_args *args, struct tf_error *err)
{
    static const char *const words[] = {"{namespace}", "{pod}", "{container}"};

    for (const char *at = strchr(args->tag, '{'); at != NULL; at = strchr(at + 1, '{')) {
        bool is_known = false;

        for (size_t i = 0; i < TF_COUNT(words); i++) {
            is_known = is_known || strncmp(at, words[i], strlen(words[i])) == 0;
        }
        if (!is_known) {
            return tf_error_add(
                err, &args->at,
                "tag \"%s\" has an unknown name in braces; known are {namespace}, {pod} "
                "and {container}",
                args->tag);
        }
    }
    return 0;
}

/* The fixed folder of a glob. */
static int add_folder(struct tf_opener *opener, const struct tf_text *path, struct tf_error *err)
{
    struct tf_path_glob glob;
    int rc = tf_path_glob_init(&glob, path->text);

    if (rc == 0) {
        rc = tf_opener_add_root(opener, glob.folder);
    }
    tf_path_glob_fini(&glob);
    if (rc < 0 && rc != -ENOMEM) {
        return tf_error_add(err, &path->at, "path \"%s\" is not an absolute path below a folder",
                            path->text);
    }
    return rc;
}

static int add_link_root(struct tf_opener *opener, const struct tf_text *root, struct tf_error *err)
{
    int rc = tf_opener_add_root(opener, root->text);

    if (rc < 0 && rc != -ENOMEM) {
        return tf_error_add(err, &root->at, "link root \"%s\" is not an absolute path", root->text);
    }
    return rc;
}

static int add_owner(struct tf_opener *opener, const struct tf_text *owner, struct tf_error *err)
{
    int rc = tf_opener_add_owner(opener, owner->text);

    if (rc < 0 && rc != -ENOMEM) {
        return tf_error_add(err, &owner->at, "owner \"%s\" %s", owner->text,
                            rc == -ENOENT ? "is no user of this machine; write its name or number"
                                          : "is one too many; 62 may be written");
    }
    return rc;
}

typedef int add_fn(struct tf_opener *opener, const struct tf_text *text, struct tf_error *err);

/* The first error; all are told. */
static int add_each(struct tf_opener *opener, const struct tf_texts *texts, add_fn *add,
                    struct tf_error *err)
{
    int first = 0;

    for (size_t i = 0; i < texts->count; i++) {
        int rc = add(opener, &texts->items[i], err);

        first = first == 0 ? rc : first;
    }
    return first;
}

/* What the options let be opened. On failure too *opener is to be ended. */
static int make_opener(const struct tf_container_options *options, struct tf_opener *opener,
                       struct tf_error *err)
{
    int rc = tf_opener_init(opener), roots_rc, owners_rc;

    if (rc < 0) {
        return rc;
    }
    rc = add_each(opener, &options->paths, add_folder, err);
    roots_rc = add_each(opener, &options->link_roots, add_link_root, err);
    owners_rc = add_each(opener, &options->owners, add_owner, err);
    rc = rc == 0 ? roots_rc : rc;
    return rc == 0 ? owners_rc : rc;
}

static int make_globs(struct tf_container *input)
{
    const struct tf_texts *paths = &input->options->paths;
    int rc = 0;

    input->globs = calloc(paths->count, sizeof *input->globs);
    if (input->globs == NULL) {
        return -ENOMEM;
    }
    for (size_t i = 0; i < paths->count && rc == 0; i++) {
        rc = tf_path_glob_init(&input->globs[i], paths->items[i].text);
        input->glob_count++; /* also half-built: it is ended with the others */
    }
    return rc;
}

static int add_paths(struct tf_container *input, const struct tf_input_args *args,
                     struct tf_error *err)
{
    int rc;

    if (input->options->paths.count == 0) {
        return tf_error_add(err, &args->at, "paths is empty; leave it out for the usual folders");
    }
    rc = make_opener(input->options, &input->opener, err);
    if (rc == 0) {
        rc = make_globs(input);
    }
    if (rc == 0 && args->opener != NULL) {
        tf_opener_process_attach(args->opener, args->name, &input->opener);
    }
    return rc;
}

/* Adds the rules of an input; what is wrong with them is told when that is opened. */
static int add_rules(struct tf_opener_process *process, const struct tf_plugin_config *item)
{
    struct tf_opener opener;
    struct tf_error err;
    int rc;

    tf_error_init(&err);
    rc = make_opener(item->options, &opener, &err);
    tf_error_fini(&err);
    if (rc == -ENOMEM) {
        tf_opener_fini(&opener);
        return rc;
    }
    return tf_opener_process_add(process, item->name, &opener);
}

int tf_container_start_opener(const struct tf_plugin_list *inputs, struct tf_opener_process **out)
{
    struct tf_opener_process *process = tf_opener_process_new();
    bool is_needed = false;
    int rc = process != NULL ? 0 : -ENOMEM;

    for (size_t i = 0; i < inputs->count && rc == 0; i++) {
        if (inputs->items[i].kind == &tf_input_container) {
            is_needed = true;
            rc = add_rules(process, &inputs->items[i]);
        }
    }
    if (rc == 0 && is_needed) {
        rc = tf_opener_process_start(process);
    }
    if (rc < 0 || !is_needed) {
        tf_opener_process_free(process);
        process = NULL;
    }
    if (rc == 0) {
        *out = process;
    }
    return rc;
}

/* docker and CRI write UTF-8. */
static int check_encoding(const struct tf_container *input, const struct tf_input_args *args,
                          struct tf_error *err)
{
    const struct tf_container_options *options = input->options;

    if (options->encoding == TF_ENCODING_UTF8 || options->format == TF_FORMAT_PLAIN) {
        return 0;
    }
    return tf_error_add(err, &args->at,
                        "encoding: only plain files have another than utf-8; write format: plain");
}

static int container_open(const struct tf_input_args *args, void **self, struct tf_error *err)
{
    struct tf_container *input = calloc(1, sizeof *input);
    int rc = -ENOMEM, tag_rc, encoding_rc;

    if (input == NULL) {
        return -ENOMEM;
    }
    if (uv_mutex_init(&input->mutex) < 0) {
        free(input);
        return -ENOMEM;
    }
    input->options = args->options;
    input->tag = args->tag;
    input->host = args->host;
    input->loop = args->loop;
    input->inotify_fd = -1;
    input->name = strdup(args->name);
    input->pool = tf_block_pool_new();
    if (input->name == NULL || input->pool == NULL) {
        goto done;
    }
    tag_rc = check_tag(args, err);
    encoding_rc = check_encoding(input, args, err);
    rc = add_paths(input, args, err);
    rc = rc == 0 ? tag_rc : rc;
    rc = rc == 0 ? encoding_rc : rc;
    if (rc == 0) {
        *self = input;
        input = NULL;
    }
done:
    container_free(input);
    return rc;
}

/* ---- start and close
 * ------------------------------------------------------------------------------- */

static int container_prepare(void *self, const char *spool_path, struct tf_needs *needs,
                             struct tf_error *err)
{
    const struct tf_container *input = self;

    (void)spool_path;
    (void)err;
    for (size_t i = 0; input->opener.process == NULL && i < input->opener.root_count; i++) {
        tf_needs_path(needs, TF_NEED_READ, input->opener.roots[i]);
    }
    return 0;
}

static int container_start(void *self, struct tf_pipeline *pipeline, struct tf_error *err)
{
    struct tf_container *input = self;

    (void)err;
    input->pipeline = pipeline;
    (void)uv_timer_init(input->loop,
                        &input->scan_timer); /* cannot fail: it only fills the struct */
    (void)uv_timer_init(input->loop, &input->hint_timer);
    (void)uv_timer_init(input->loop, &input->wake_timer);
    input->scan_timer.data = input;
    input->hint_timer.data = input;
    input->wake_timer.data = input;
    input->open_handles = 3;
    tf_watch_start(input);
    tf_sweep_start(input);
    return 0;
}

void tf_container_maybe_closed(struct tf_container *input)
{
    void (*on_closed)(void *ctx) = input->on_closed;
    void *ctx = input->closed_ctx;

    if (input->open_handles > 0 || input->is_scanning || input->files != NULL) {
        return;
    }
    if (input->inotify_fd >= 0) {
        (void)close(input->inotify_fd);
    }
    tf_looker_free(input->looker);
    container_free(input);
    on_closed(ctx);
}

static void on_handle_closed(uv_handle_t *handle)
{
    struct tf_container *input = handle->data;

    assert(input->open_handles > 0);
    input->open_handles--;
    tf_container_maybe_closed(input);
}

static void container_close(void *self, void (*on_closed)(void *ctx), void *ctx)
{
    struct tf_container *input = self;

    input->is_closing = true;
    input->on_closed = on_closed;
    input->closed_ctx = ctx;
    if (input->pipeline == NULL) {
        tf_container_maybe_closed(input);
        return;
    }
    tf_sweep_stop(input);
    tf_follow_close(input); /* the handles below are still open, so it cannot end in here */
    uv_close((uv_handle_t *)&input->scan_timer, on_handle_closed);
    uv_close((uv_handle_t *)&input->hint_timer, on_handle_closed);
    uv_close((uv_handle_t *)&input->wake_timer, on_handle_closed);
    if (input->has_poll) {
        uv_close((uv_handle_t *)&input->watch_poll, on_handle_closed);
    }
    tf_looker_stop(input->looker);
}

static void container_rewind(void *self)
{
    tf_follow_rewind(self);
    tf_sweep_rewind(self);
}

static void container_status(const void *self, struct tf_input_status *status)
{
    const struct tf_container *input = self;
    uint64_t now_ms = uv_now(input->loop);

    *status = input->counts;
    for (const struct tf_file *file = input->files; file != NULL; file = file->next) {
        uint64_t lag_bytes = tf_follow_lag_bytes(file);

        if (file->state == TF_FILE_FINISHED) {
            continue;
        }
        status->sources++;
        status->lag_bytes += lag_bytes;
        status->deleted_bytes += file->is_deleted ? lag_bytes : 0;
        if (file->behind_since_ms != 0 && now_ms - file->behind_since_ms > status->lag_ms) {
            status->lag_ms = now_ms - file->behind_since_ms;
        }
    }
}

/* The files that are furthest behind, the worst first. */
static size_t worst(const struct tf_container *input, const struct tf_file *files[WORST_MAX])
{
    size_t count = 0;

    for (const struct tf_file *file = input->files; file != NULL; file = file->next) {
        uint64_t lag_bytes = tf_follow_lag_bytes(file);
        size_t at = count < WORST_MAX ? count : WORST_MAX - 1;

        if (lag_bytes == 0 || (count == WORST_MAX && tf_follow_lag_bytes(files[at]) >= lag_bytes)) {
            continue;
        }
        while (at > 0 && tf_follow_lag_bytes(files[at - 1]) < lag_bytes) {
            files[at] = files[at - 1];
            at--;
        }
        files[at] = file;
        count += count < WORST_MAX;
    }
    return count;
}

static void container_tell_lag(const void *self)
{
    const struct tf_container *input = self;
    const struct tf_file *files[WORST_MAX];
    size_t count = worst(input, files);
    uint64_t now_ms = uv_now(input->loop);

    for (size_t i = 0; i < count; i++) {
        tf_log_answer("lag",
                      TF_DETAILS(TF_STR("input", input->name), TF_STR("path", files[i]->base),
                                 TF_NUM("lag_bytes", tf_follow_lag_bytes(files[i])),
                                 TF_NUM("lag_ms", files[i]->behind_since_ms != 0
                                                      ? now_ms - files[i]->behind_since_ms
                                                      : 0)),
                      "a log that is behind");
    }
}

const struct tf_input_kind tf_input_container = {
    .name = "container",
    .options = container_options,
    .options_bytes = sizeof(struct tf_container_options),
    .open = container_open,
    .prepare = container_prepare,
    .summarize = tf_container_summarize,
    .start = container_start,
    .describe = tf_follow_describe,
    .pump = tf_follow_pump,
    .position = tf_follow_position,
    .pumped = tf_follow_pumped,
    .committed = tf_follow_committed,
    .on_removed = tf_follow_on_removed,
    .rewind = container_rewind,
    .close = container_close,
    .status = container_status,
    .tell_lag = container_tell_lag,
};
