/*
 * input.c - the journald input: its options, its modes, how it starts and closes.
 *
 * Entries of the systemd journal reach the agent on one of five ways (`mode`), each in a file of
 * its own; docs/journald.md tells what each can lose. This file checks what all have in common,
 * keeps the list of sources, and hands the pipeline's calls on to the source that they are for.
 */
#include "internal.h"

#include <errno.h>
#include <stdlib.h>

static const struct tf_option allow_table[] = {
    {.name = "identity",
     .type = TF_OPTION_TEXT,
     .offset = offsetof(struct tf_journald_allow, identity),
     .required = true,
     .about = "URI, or dns:NAME; * stands for one whole path segment or label"},
    {0}};

static const struct tf_option options_table[] = {
    {.name = "mode",
     .type = TF_OPTION_CHOICE,
     .offset = offsetof(struct tf_journald_options, mode),
     .def = "reader",
     .choices = "reader|native|export_socket|syslog|upload",
     .about = "how entries get here; only reader and upload lose nothing"},
    {.name = "helper",
     .type = TF_OPTION_CHOICE,
     .offset = offsetof(struct tf_journald_options, helper),
     .def = "auto",
     .choices = "auto|reader|journalctl",
     .about = "the program that reads the journal's files: taffrail-journal, or else journalctl"},
    {.name = "paths",
     .type = TF_OPTION_PATHS,
     .offset = offsetof(struct tf_journald_options, paths),
     .about = "folders of journal files, in place of /var/log/journal and /run/log/journal"},
    {.name = "namespace",
     .type = TF_OPTION_TEXT,
     .offset = offsetof(struct tf_journald_options, namespace_name),
     .about = "the journal of this namespace, in place of the system's"},
    {.name = "units",
     .type = TF_OPTION_TEXTS,
     .offset = offsetof(struct tf_journald_options, units),
     .about = "globs of units; all when nothing is written"},
    {.name = "exclude_units",
     .type = TF_OPTION_TEXTS,
     .offset = offsetof(struct tf_journald_options, exclude_units),
     .about = "globs of units; wins over units"},
    {.name = "identifiers",
     .type = TF_OPTION_TEXTS,
     .offset = offsetof(struct tf_journald_options, identifiers),
     .about = "globs of syslog identifiers"},
    {.name = "priority",
     .type = TF_OPTION_TEXT,
     .offset = offsetof(struct tf_journald_options, priority),
     .about = "only entries of this level and above, and those without one"},
    {.name = "matches",
     .type = TF_OPTION_MAPS,
     .offset = offsetof(struct tf_journald_options, matches),
     .about = "fields and their values: all of a map hold, of one map at least"},
    {.name = "start_at",
     .type = TF_OPTION_TEXT,
     .offset = offsetof(struct tf_journald_options, start_at),
     .def = "boot",
     .about = "where reading begins at the very first start: oldest, newest, boot or a time"},
    {.name = "listen",
     .type = TF_OPTION_TEXT,
     .offset = offsetof(struct tf_journald_options, listen),
     .about = "where the other modes listen; by default the usual place of the mode"},
    {.name = "tls",
     .type = TF_OPTION_TABLE,
     .offset = offsetof(struct tf_journald_options, tls),
     .table = tf_tls_option_table,
     .present_offset = offsetof(struct tf_journald_options, has_tls),
     .about = "for mode upload: own certificate and key, and who signs those of senders"},
    {.name = "allow",
     .type = TF_OPTION_TABLES,
     .offset = offsetof(struct tf_journald_options, allow),
     .table = allow_table,
     .table_bytes = sizeof(struct tf_journald_allow),
     .about = "for mode upload: who may send"},
    {0}};

static const struct tf_journald_way *const ways[] = {
    [TF_JOURNALD_READER] = &tf_journald_reader,
    [TF_JOURNALD_NATIVE] = &tf_journald_native,
    [TF_JOURNALD_EXPORT_SOCKET] = &tf_journald_export_socket,
    [TF_JOURNALD_SYSLOG] = &tf_journald_syslog,
    [TF_JOURNALD_UPLOAD] = &tf_journald_upload,
};

/* ---- making --------------------------------------------------------------------------------- */

struct use {
    const char *key;
    bool is_written;
    struct tf_place at;
    unsigned modes; /* a bit each */
};

/* Keys that the mode has no use for are errors: whoever wrote them expects something of them. */
static int refuse_unused(const struct tf_journald_options *options, struct tf_error *err)
{
    static const char *const names[] = {"reader", "native", "export_socket", "syslog", "upload"};
    const unsigned reader = 1u << TF_JOURNALD_READER, upload = 1u << TF_JOURNALD_UPLOAD;
    const struct use uses[] = {
        {"paths", options->paths.count > 0, options->paths.at, reader},
        {"namespace", options->namespace_name.text != NULL, options->namespace_name.at, reader},
        {"listen", options->listen.text != NULL, options->listen.at, ~reader},
        {"tls", options->has_tls, options->tls.ca.at, upload},
        {"allow", options->allow.count > 0, options->allow.at, upload},
    };
    int rc = 0;

    for (size_t i = 0; i < TF_COUNT(uses); i++) {
        if (uses[i].is_written && (uses[i].modes & 1u << options->mode) == 0) {
            rc = tf_error_add(err, &uses[i].at, "%s has no meaning in mode %s; leave it out",
                              uses[i].key, names[options->mode]);
        }
    }
    if (options->paths.count > 0 && options->namespace_name.text != NULL) {
        rc = tf_error_add(err, &options->namespace_name.at,
                          "namespace and paths exclude each other; leave one out");
    }
    return rc;
}

static void journald_free(struct tf_journald *input)
{
    if (input->way->free != NULL) {
        input->way->free(input);
    }
    tf_arena_free(input->arena);
    free(input);
}

static int journald_open(const struct tf_input_args *args, void **self, struct tf_error *err)
{
    struct tf_journald *input = calloc(1, sizeof *input);
    int rc, other;

    if (input == NULL) {
        return -ENOMEM;
    }
    input->name = args->name;
    input->tag = args->tag;
    input->at = args->at;
    input->loop = args->loop;
    input->tls_files = args->tls_files;
    input->launcher = args->launcher;
    input->options = args->options;
    input->way = ways[input->options->mode];
    input->arena = tf_arena_new();
    if (input->arena == NULL) {
        free(input);
        return -ENOMEM;
    }
    rc = refuse_unused(input->options, err);
    other = tf_journald_select(input, err);
    rc = rc == 0 ? other : rc;
    other = input->way->check(input, err);
    rc = rc == 0 ? other : rc;
    if (rc < 0) {
        journald_free(input);
        return rc;
    }
    *self = input;
    return 0;
}

static int journald_prepare(void *self, const char *spool_path, struct tf_needs *needs,
                            struct tf_error *err)
{
    const struct tf_journald *input = self;

    (void)spool_path;
    (void)err;
    input->way->needs(input, needs);
    return 0;
}

static void journald_summarize(void *self, struct tf_buf *out)
{
    static const char *const modes[] = {[TF_JOURNALD_NATIVE] = "native",
                                        [TF_JOURNALD_EXPORT_SOCKET] = "export_socket",
                                        [TF_JOURNALD_SYSLOG] = "syslog",
                                        [TF_JOURNALD_UPLOAD] = "upload"};
    const struct tf_journald_options *options = ((const struct tf_journald *)self)->options;
    char units[TF_COUNTED_TEXT_BYTES];

    if (options->mode != TF_JOURNALD_READER) {
        (void)tf_buf_printf(out, "mode %s", modes[options->mode]);
    } else if (options->units.count == 0) {
        (void)tf_buf_append_text(out, "all units");
    } else {
        (void)tf_buf_append_text(out, tf_counted_text(options->units.count, "unit", units));
    }
}

static int journald_start(void *self, struct tf_pipeline *pipeline, struct tf_error *err)
{
    struct tf_journald *input = self;

    input->pipeline = pipeline;
    return input->way->start(input, err);
}

/* ---- sources -------------------------------------------------------------------------------- */

int tf_journal_source_add(struct tf_journald *input, struct tf_journal_source *self,
                          const struct tf_journal_source_ops *ops, struct tf_batch *metadata)
{
    int rc;

    self->input = input;
    self->ops = ops;
    self->source.kind = &tf_input_journald;
    self->source.tag = input->tag;
    rc = tf_source_add(input->pipeline, input, &self->source, metadata);
    if (rc == 0) {
        self->next = input->sources;
        input->sources = self;
        input->status.sources++;
    }
    return rc;
}

void tf_journal_source_remove(struct tf_journal_source *self)
{
    tf_source_remove(&self->source);
}

static struct tf_journal_source *source_of(struct tf_source *source)
{
    return (struct tf_journal_source *)source;
}

static void pump(struct tf_source *source, struct tf_batch *batch, struct tf_pump_result *result)
{
    source_of(source)->ops->pump(source_of(source), batch, result);
}

/* No filter holds what is read here (batch->may_hold), so there is nothing to wait behind. */
static void position(struct tf_source *source, const uint64_t held_from[TF_STREAMS],
                     const struct tf_stream_state states[TF_STREAMS], struct tf_buf *deltas)
{
    (void)held_from;
    (void)states;
    source_of(source)->ops->position(source_of(source), deltas);
}

static void pumped(struct tf_source *source, const struct tf_pump_result *result)
{
    source_of(source)->ops->pumped(source_of(source), result);
}

static void committed(struct tf_source *source, uint64_t cookie)
{
    struct tf_journal_source *self = source_of(source);

    if (self->ops->committed != NULL) {
        self->ops->committed(self, cookie);
    }
}

static void rewind_all(void *self)
{
    struct tf_journald *input = self;
    struct tf_journal_source *next;

    for (struct tf_journal_source *at = input->sources; at != NULL; at = next) {
        next = at->next;
        at->ops->rewind(at);
    }
}

/* ---- end ------------------------------------------------------------------------------------ */

static void finish(struct tf_journald *input)
{
    void (*on_closed)(void *ctx) = input->on_closed;
    void *ctx = input->closed_ctx;

    if (!input->closing || input->open_handles > 0 || input->sources != NULL) {
        return;
    }
    journald_free(input);
    on_closed(ctx);
}

static void on_removed(struct tf_source *source)
{
    struct tf_journal_source *self = source_of(source);
    struct tf_journald *input = self->input;
    struct tf_journal_source **at = &input->sources;

    while (*at != self) {
        at = &(*at)->next;
    }
    *at = self->next;
    input->status.sources--;
    self->ops->free(self);
    finish(input);
}

static void on_handle_closed(uv_handle_t *handle)
{
    struct tf_journald *input = handle->data;

    input->open_handles--;
    finish(input);
}

void tf_journald_close_handle(struct tf_journald *input, uv_handle_t *handle)
{
    input->open_handles++;
    handle->data = input;
    uv_close(handle, on_handle_closed);
}

static void journald_close(void *self, void (*on_closed)(void *ctx), void *ctx)
{
    struct tf_journald *input = self;
    struct tf_journal_source *next;

    input->closing = true;
    input->on_closed = on_closed;
    input->closed_ctx = ctx;
    input->open_handles++; /* until all are told */
    if (input->pipeline != NULL && input->way->stop != NULL) {
        input->way->stop(input);
    }
    for (struct tf_journal_source *at = input->sources; at != NULL; at = next) {
        next = at->next;
        at->ops->close(at);
    }
    input->open_handles--;
    finish(input);
}

static void journald_status(const void *self, struct tf_input_status *status)
{
    const struct tf_journald *input = self;

    *status = input->status;
    if (input->way->status != NULL) {
        input->way->status(input, status);
    }
}

static void journald_tell(const void *self)
{
    const struct tf_journald *input = self;
    struct tf_input_status status;
    uint64_t errors = 0;

    journald_status(input, &status);
    for (unsigned i = 0; i < TF_INPUT_ERRORS; i++) {
        errors += status.errors[i];
    }
    tf_log_answer("input",
                  TF_DETAILS(TF_STR("input", input->name), TF_NUM("suppressed", status.suppressed),
                             TF_NUM("restarts", status.restarts), TF_NUM("errors", errors),
                             TF_NUM("repeats", status.repeats), TF_NUM("refused", status.refused)),
                  "what journald dropped, and what was in the way, since start");
}

const struct tf_input_kind tf_input_journald = {
    .name = "journald",
    .options = options_table,
    .options_bytes = sizeof(struct tf_journald_options),
    .open = journald_open,
    .prepare = journald_prepare,
    .summarize = journald_summarize,
    .start = journald_start,
    .pump = pump,
    .position = position,
    .pumped = pumped,
    .committed = committed,
    .on_removed = on_removed,
    .rewind = rewind_all,
    .close = journald_close,
    .status = journald_status,
    .tell_lag = journald_tell,
};
