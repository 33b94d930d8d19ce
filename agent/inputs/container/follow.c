/*
 * follow.c - the files that are followed: their sources, their positions, and how they end. Loop.
 *
 *     WAITING --activate--> ACTIVE --leave--> LEAVING --durable, finish--> FINISHED (closed,
 * remembered) ^                  |  \--durable, forget--> freed
 *                             \----- revive -----/
 *
 * A file leaves when it is at its end for good, when it must begin anew elsewhere
 * (docs/guarantees.md B4), when a batch did not fit, and when a run ended (C8). Its source is
 * removed, and on_removed comes when nothing of it is under way any more: only then is it known
 * what became durable. What must not be lost is therefore decided there, by the folded state alone:
 * a file whose last batches or whose end are not in it is revived, and reads on from where the
 * folded state says. So each way back is the same way.
 *
 * A file whose older sibling still has something to read waits for it.
 */
#include "internal.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#define LINE_LIMIT_MIN      256u
#define REFUSALS_BEFORE_CUT 8u

/* ---- the table
 * ------------------------------------------------------------------------------------ */

static struct tf_file **bucket_of(const struct tf_container *input, const struct tf_file_id *id)
{
    uint64_t hash = (id->inode ^ id->device * UINT64_C(0x9e3779b97f4a7c15)) ^ (uint64_t)id->born_ns;

    hash *= UINT64_C(0x9e3779b97f4a7c15);
    return (struct tf_file **)&input->buckets[(hash >> 32) % TF_FILE_BUCKETS];
}

struct tf_file *tf_follow_find(const struct tf_container *input, const struct tf_file_id *id)
{
    struct tf_file *file = *bucket_of(input, id);

    while (file != NULL && tf_file_id_compare(&file->id, id) != 0) {
        file = file->next_in_bucket;
    }
    return file;
}

void tf_follow_known(const struct tf_file *file, struct tf_known *out)
{
    *out = (struct tf_known){.id = file->id,
                             .base_hash = file->base_hash,
                             .size = file->size,
                             .is_followed = file->state != TF_FILE_FINISHED,
                             .is_finished = file->state == TF_FILE_FINISHED,
                             .is_gzip = file->is_gzip};
    tf_follow_prints(file, out->prints);
}

static void link_file(struct tf_container *input, struct tf_file *file)
{
    struct tf_file **bucket = bucket_of(input, &file->id);

    file->next_in_bucket = *bucket;
    *bucket = file;
    file->next = input->files;
    if (input->files != NULL) {
        input->files->previous = file;
    }
    input->files = file;
    input->file_count++;
}

static void unlink_file(struct tf_container *input, struct tf_file *file)
{
    struct tf_file **slot = bucket_of(input, &file->id);

    while (*slot != file) {
        slot = &(*slot)->next_in_bucket;
    }
    *slot = file->next_in_bucket;
    if (file->previous != NULL) {
        file->previous->next = file->next;
    } else {
        input->files = file->next;
    }
    if (file->next != NULL) {
        file->next->previous = file->previous;
    }
    input->file_count--;
}

/* ---- names
 * ------------------------------------------------------------------------------------------ */

int tf_follow_describe(const struct tf_source *source, struct tf_batch *batch)
{
    const struct tf_file *file = (const struct tf_file *)source;
    struct tf_log_path path;
    int rc = tf_batch_init(batch);

    if (rc == 0 && tf_batch_add_record(batch, 0, TF_STREAM_OTHER) == NULL) {
        rc = -ENOMEM;
    }
    if (rc == 0 && tf_log_path_parse(tf_slice_text(file->base), &path)) {
        rc = tf_log_path_describe(&path, file->input->host, batch);
    }
    return rc;
}

/* ---- positions
 * --------------------------------------------------------------------------------------- */

void tf_follow_append_delta(const struct tf_file *file, const struct tf_file_id *id,
                            const struct tf_position *position, struct tf_buf *deltas)
{
    struct tf_buf key, value;

    tf_buf_init(&key, TF_STATE_KEY_MAX);
    tf_buf_init(&value, TF_STATE_VALUE_MAX);
    tf_position_key(file->input->name, id, &key);
    if (position != NULL) {
        tf_position_encode(position, &value);
    }
    if (key.error == 0 && value.error == 0) {
        tf_delta_append(deltas, position != NULL ? TF_DELTA_SET : TF_DELTA_DELETE,
                        tf_buf_slice(&key), tf_buf_slice(&value));
    } else {
        deltas->error = -ENOMEM;
    }
    tf_buf_fini(&key);
    tf_buf_fini(&value);
}

/* A pump changes the position on its worker, while the loop may want to know how it was. */
static int keep_prints(struct tf_file *file)
{
    struct tf_print *prints = file->prints;

    if (prints != NULL) {
        return 0; /* of a pump whose outcome the loop did not get to see */
    }
    prints = calloc(TF_PRINTS, sizeof *prints);
    if (prints == NULL) {
        return -ENOMEM;
    }
    memcpy(prints, file->io.position.prints, sizeof file->io.position.prints);
    uv_mutex_lock(&file->input->mutex);
    file->prints = prints;
    uv_mutex_unlock(&file->input->mutex);
    return 0;
}

/* No pump is running. */
static void forget_prints(struct tf_file *file)
{
    free(file->prints);
    file->prints = NULL;
}

void tf_follow_prints(const struct tf_file *file, struct tf_print out[TF_PRINTS])
{
    uv_mutex_lock(&file->input->mutex);
    memcpy(out, file->prints != NULL ? file->prints : file->io.position.prints,
           sizeof file->io.position.prints);
    uv_mutex_unlock(&file->input->mutex);
}

uint64_t tf_follow_read_to(const struct tf_file *file)
{
    struct tf_print prints[TF_PRINTS];

    tf_follow_prints(file, prints);
    return prints[0].offset;
}

/* The value in the folded state; borrows. */
static bool stored_value(const struct tf_file *file, const struct tf_file_id *id,
                         struct tf_slice *value)
{
    struct tf_buf key;
    bool is_there;

    tf_buf_init(&key, TF_STATE_KEY_MAX);
    tf_position_key(file->input->name, id, &key);
    is_there = key.error == 0 &&
               tf_state_get(tf_pipeline_spool(file->input->pipeline), tf_buf_slice(&key), value);
    tf_buf_fini(&key);
    return is_there;
}

static bool is_stored(const struct tf_file *file)
{
    struct tf_slice value;

    return stored_value(file, &file->id, &value);
}

/* 0; 1 when there is none, so that it begins at its start; -EPROTO when what is stored is none. */
static int load_position(struct tf_file *file)
{
    struct tf_position *position = &file->io.position;
    struct tf_slice value;
    int rc = stored_value(file, &file->id, &value) ? tf_position_decode(value, position) : 1;

    if (rc == 1 && file->replaces && stored_value(file, &file->shadow_of, &value)) {
        rc = tf_position_decode(value, position);
    }
    if (rc != 0) {
        *position = file->start != NULL ? *file->start : (struct tf_position){0};
    }
    position->path = tf_slice_text(file->base);
    position->finished = false;
    position->is_gzip = file->is_gzip;
    return rc;
}

/* ---- life
 * ---------------------------------------------------------------------------------------------- */

struct tf_file *tf_follow_new(struct tf_container *input, const struct tf_file_id *id,
                              struct tf_slice base, int fd)
{
    struct tf_file *file = calloc(1, sizeof *file);
    struct tf_log_path path;

    if (file == NULL) {
        goto failed;
    }
    file->base = strndup(base.data, base.size);
    (void)tf_log_path_parse(base, &path);
    file->tag = tf_container_tag(input->tag, &path);
    if (file->base == NULL || file->tag == NULL) {
        goto failed;
    }
    file->input = input;
    file->id = *id;
    file->base_hash = tf_path_hash(base);
    file->scan_number = input->scan_number;
    file->watch = -1;
    file->block_bytes = TF_BLOCK_BYTES;
    file->line_limit_bytes = input->options->max_line_bytes;
    file->io.fd = fd;
    file->io.watch = -1;
    file->io.wants_watch = true;
    input->descriptor_count += fd >= 0;
    link_file(input, file);
    return file;
failed:
    if (fd >= 0) {
        (void)close(fd);
    }
    if (file != NULL) {
        free(file->base);
        free(file->tag);
        free(file);
    }
    return NULL;
}

static void close_file(struct tf_file *file)
{
    tf_watch_forget(file->input, file);
    file->io.watch = -1;
    file->io.wants_watch = true;
    tf_gunzip_free(file->io.gunzip);
    file->io.gunzip = NULL;
    if (file->io.fd >= 0) {
        (void)close(file->io.fd);
        file->io.fd = -1;
        file->input->descriptor_count--;
    }
}

static void forget_mend(struct tf_file *file)
{
    struct tf_mend *mend = file->io.mend;

    if (mend != NULL && mend->kind == TF_MEND_SIBLING && mend->sibling.fd >= 0) {
        (void)close(mend->sibling.fd);
    }
    free(mend);
    file->io.mend = NULL;
}

/* It was released and is dropped before its wake-up came, or released twice. */
static void forget_wake(struct tf_file *file)
{
    struct tf_file **slot = &file->input->to_wake;

    while (*slot != NULL) {
        if (*slot == file) {
            *slot = file->next_to_wake;
        } else {
            slot = &(*slot)->next_to_wake;
        }
    }
    file->next_to_wake = NULL;
}

/* Whoever waited for this file goes on, from the loop's next turn on: `pumped` may not wake a
 * source. */
static void release_follower(struct tf_file *file)
{
    struct tf_container *input = file->input;
    struct tf_file *follower = file->follower;

    file->follower = NULL;
    if (follower == NULL) {
        return;
    }
    follower->waits_for = NULL;
    forget_wake(follower);
    if (!input->is_closing) {
        follower->next_to_wake = input->to_wake;
        input->to_wake = follower;
        (void)uv_timer_start(&input->wake_timer, tf_follow_on_wake_timer, 0, 0);
    }
}

void tf_follow_on_wake_timer(uv_timer_t *timer)
{
    struct tf_container *input = timer->data;

    while (input->to_wake != NULL) {
        struct tf_file *file = input->to_wake;

        input->to_wake = file->next_to_wake;
        file->next_to_wake = NULL;
        tf_follow_wake(file);
    }
}

void tf_follow_drop(struct tf_file *file)
{
    if (file == NULL) {
        return;
    }
    if (file->waits_for != NULL) {
        file->waits_for->follower = NULL;
    }
    release_follower(file);
    forget_wake(file);
    forget_mend(file);
    close_file(file);
    unlink_file(file->input, file);
    tf_lines_free(file->io.lines);
    tf_follow_drop(file->adopted);
    free(file->prints);
    free(file->start);
    free(file->base);
    free(file->tag);
    free(file);
}

uint64_t tf_follow_lag_bytes(const struct tf_file *file)
{
    uint64_t size = file->found_size > file->size ? file->found_size : file->size;

    if (file->state == TF_FILE_FINISHED) {
        return 0;
    }
    if (file->is_gzip) { /* how much text is left cannot be known */
        return file->size;
    }
    return size > file->offset ? size - file->offset : 0;
}

void tf_follow_wake(struct tf_file *file)
{
    if (file->behind_since_ms == 0) {
        file->behind_since_ms = uv_now(file->input->loop);
    }
    if (file->state == TF_FILE_ACTIVE && file->waits_for == NULL && file->io.fd >= 0 &&
        !file->input->is_closing) {
        tf_source_wake(&file->source);
    }
}

static int add_source(struct tf_file *file)
{
    struct tf_batch metadata;
    int rc;

    file->source.kind = &tf_input_container;
    file->source.tag = file->tag;
    file->source.path = file->base;
    file->source.states = file->io.position.states;
    rc = tf_follow_describe(&file->source, &metadata);
    if (rc == 0) {
        rc = tf_source_add(file->input->pipeline, file->input, &file->source, &metadata);
    }
    tf_batch_fini(&metadata);
    return rc;
}

/* A position that cannot be read says nothing: all of the file goes out, and why. */
static void tell_unsound(struct tf_file *file)
{
    struct tf_buf deltas;

    tf_buf_init(&deltas, TF_DRAFT_DELTAS_MAX);
    tf_follow_append_delta(file, &file->id, &file->io.position, &deltas);
    (void)tf_source_gap(&file->source, "position",
                        "the stored position of this file is damaged; it is read from its start",
                        UINT64_MAX, &deltas);
    tf_buf_fini(&deltas);
}

/* Where a file begins that was there before the agent: kept, so that a restart does not move it. */
static void store_start(struct tf_file *file)
{
    struct tf_buf deltas;

    tf_buf_init(&deltas, TF_DRAFT_DELTAS_MAX);
    tf_follow_append_delta(file, &file->id, &file->io.position, &deltas);
    (void)tf_pipeline_deltas(file->input->pipeline, &file->source, &deltas);
    tf_buf_fini(&deltas);
}

static void prepare_io(struct tf_file *file)
{
    struct tf_file_io *io = &file->io;
    bool begins = tf_position_first(&io->position) == 0;
    enum tf_format format = (enum tf_format)file->input->options->format;

    if (format == TF_FORMAT_AUTO && !begins) {
        format = io->position.format;
    }
    io->offset = 0;
    file->offset = tf_position_first(&io->position);
    io->tail = (struct tf_print){0};
    io->is_verified = false;
    io->is_final = file->is_gzip; /* nobody writes it any more */
    io->is_damaged = io->is_throttled = false;
    io->held_at = UINT64_MAX;
    io->largest_size = 0;
    tf_gunzip_free(io->gunzip);
    io->gunzip = NULL;
    io->block_bytes = file->block_bytes;
    io->cookie = 0;
    file->cookie_durable = 0;
    file->is_at_end = false;
    file->is_quiet = false;
    forget_prints(file);
    tf_lines_free(io->lines);
    io->lines = NULL;
    io->format = format;
    io->encoding = (enum tf_encoding)file->input->options->encoding;
    io->line_limit_bytes = file->line_limit_bytes;
}

void tf_follow_activate(struct tf_file *file)
{
    int loaded, rc;

    assert(file->state != TF_FILE_ACTIVE);
    file->source = (struct tf_source){0};
    forget_mend(file);
    loaded = load_position(file);
    prepare_io(file);
    rc = add_source(file);
    if (rc < 0) {
        file->input->counts.errors[TF_INPUT_OPEN]++;
        tf_log(TF_LOG_ERROR, "unreadable", TF_DETAILS(TF_STR("path", file->base)),
               "not read now: %s; found again at the next rescan", uv_strerror(rc));
        tf_follow_drop(file);
        return;
    }
    file->state = TF_FILE_ACTIVE;
    file->replaces = file->replaces && !is_stored(file);
    file->tells_replaced = file->replaces;
    if (file->io.fd < 0) {
        tf_follow_give_up(file,
                          "the file vanished while no agent read it; what it held unread is lost",
                          UINT64_MAX);
        return;
    }
    if (loaded == -EPROTO) {
        tell_unsound(file);
    } else if (loaded == 1 && file->start != NULL) {
        store_start(file);
    }
    if (!file->has_error) {
        tf_follow_wake(file);
    }
}

void tf_follow_leave(struct tf_file *file, enum tf_file_after after)
{
    assert(file->state == TF_FILE_ACTIVE);
    file->state = TF_FILE_LEAVING;
    file->after = after;
    tf_source_remove(&file->source);
}

void tf_follow_give_up(struct tf_file *file, const char *text, uint64_t bytes_max)
{
    struct tf_buf deltas;
    int rc;

    if (tf_shadow_take_over(file)) {
        file->input->stored_checks = 0; /* so that scans know its position */
        tf_sweep_soon(file->input);
        tf_follow_leave(file, TF_AFTER_DROP);
        return;
    }
    tf_buf_init(&deltas, TF_DRAFT_DELTAS_MAX);
    tf_follow_append_delta(file, &file->id, NULL, &deltas);
    rc = tf_source_gap(&file->source, "deleted", text, bytes_max, &deltas);
    tf_buf_fini(&deltas);
    if (rc < 0 && file->io.fd < 0) {
        tf_follow_leave(file, TF_AFTER_DROP); /* its position stays: told at the next start */
        return;
    }
    file->has_error = rc < 0;
    tf_follow_leave(file, TF_AFTER_FORGET); /* not durable: revived, and told again */
}

/* Read to its end: closed, and remembered. */
static void rest(struct tf_file *file)
{
    file->state = TF_FILE_FINISHED;
    tf_lines_free(file->io.lines);
    file->io.lines = NULL;
    close_file(file);
    release_follower(file);
}

/* The copy goes on where this file was; this file begins anew behind it. */
static void adopt(struct tf_file *file)
{
    struct tf_file *copy = file->adopted;
    struct tf_position position;

    file->adopted = NULL;
    if (copy == NULL) {
        return;
    }
    if (!tf_stored_position(file->input, &copy->id, &position)) {
        tf_follow_drop(copy); /* its position did not become durable: it is found again */
        return;
    }
    if (position.finished) {
        memcpy(copy->io.position.prints, position.prints, sizeof position.prints);
        rest(copy);
        return;
    }
    if (file->waits_for == NULL && copy->follower == NULL) {
        file->waits_for = copy;
        copy->follower = file;
    }
    tf_follow_activate(copy);
}

void tf_follow_on_removed(struct tf_source *source)
{
    struct tf_file *file = (struct tf_file *)source;
    struct tf_container *input = file->input;
    bool is_durable = file->cookie_durable == file->io.cookie;

    assert(file->state == TF_FILE_LEAVING);
    if (input->is_closing) {
        tf_follow_drop(file);
        tf_container_maybe_closed(input);
        return;
    }
    if (file->after == TF_AFTER_DROP ||
        (file->after == TF_AFTER_FORGET && is_durable && !is_stored(file))) {
        tf_follow_drop(file);
        return;
    }
    if (file->after == TF_AFTER_FINISH && is_durable) {
        rest(file);
        return;
    }
    adopt(file);
    tf_follow_activate(file);
}

/* ---- pumps
 * -----------------------------------------------------------------------------------------------
 */

void tf_follow_pump(struct tf_source *source, struct tf_batch *batch, struct tf_pump_result *result)
{
    struct tf_file *file = (struct tf_file *)source;
    struct tf_container *input = file->input;
    struct tf_file_read read = {
        .pool = input->pool,
        .opener = &input->opener,
        .base = file->base,
        .id = &file->id,
        .inotify_fd = input->inotify_fd,
    };

    if (keep_prints(file) < 0) {
        result->status = -ENOMEM;
        return;
    }
    file->io.is_held = source->held_records > 0;
    file->io.max_rate_bytes = input->options->max_rate_bytes;
    tf_file_pump(&file->io, &read, batch, result);
}

void tf_follow_position(struct tf_source *source, const uint64_t held_from[TF_STREAMS],
                        const struct tf_stream_state states[TF_STREAMS], struct tf_buf *deltas)
{
    struct tf_file *file = (struct tf_file *)source;

    if (tf_file_hold_back(&file->io, held_from) < 0) {
        deltas->error = -EIO; /* it is read again */
        return;
    }
    memcpy(file->io.position.states, states, sizeof file->io.position.states);
    tf_follow_append_delta(file, &file->id, &file->io.position, deltas);
    if (file->tells_replaced) {
        tf_follow_append_delta(file, &file->shadow_of, NULL, deltas);
    }
}

void tf_follow_committed(struct tf_source *source, uint64_t cookie)
{
    struct tf_file *file = (struct tf_file *)source;

    file->cookie_durable = cookie;
}

/* The encoded batch was too large: less at once, and in the end a shorter line. */
static void take_less(struct tf_file *file)
{
    if (file->io.block_bytes > TF_FILE_BLOCK_MIN) {
        file->block_bytes = file->io.block_bytes / 2;
    }
    if (++file->refusals > REFUSALS_BEFORE_CUT && file->line_limit_bytes > LINE_LIMIT_MIN) {
        file->line_limit_bytes /= 2;
        file->line_limit_bytes =
            file->line_limit_bytes < LINE_LIMIT_MIN ? LINE_LIMIT_MIN : file->line_limit_bytes;
    }
    tf_follow_leave(file, TF_AFTER_REVIVE);
}

static const char *gap_text(enum tf_mend_kind kind)
{
    switch (kind) {
    case TF_MEND_SIBLING:
        return "the file was copied and cut, and the copy lacks its last lines; let logrotate "
               "rename "
               "it instead";
    case TF_MEND_OLDER:
        return "the file was cut or changed; it is read on from the newest place that is unchanged";
    default:
        return "the file was cut and no copy of it was found; it is read from its start. Let "
               "logrotate rename it instead of copytruncate";
    }
}

/* What was seen in the file and not read, at most; that more was written cannot be known. */
static uint64_t gap_bytes(const struct tf_file *file)
{
    const struct tf_mend *mend = file->io.mend;
    uint64_t last = tf_position_last(&file->io.position);

    if (mend->kind == TF_MEND_SIBLING) {
        return mend->lost_bytes;
    }
    return mend->kind == TF_MEND_START && file->io.largest_size > last
               ? file->io.largest_size - last
               : UINT64_MAX;
}

/* Where the copy is to be read on; one that ends before the file's position counts as read. */
static void begin_copy(const struct tf_file *file, struct tf_position *out)
{
    const struct tf_mend *mend = file->io.mend;

    *out = file->io.position;
    if (mend->is_short) {
        *out = (struct tf_position){
            .prints = {mend->end}, .format = out->format, .finished = true, .path = out->path};
        for (unsigned i = 0; i < TF_STREAMS; i++) {
            out->done[i] = mend->end.offset;
        }
    }
    out->is_gzip = mend->is_gzip;
}

/* The copy goes on where the file was; its position stands in deltas. 0 or -ENOMEM. */
static int adopt_later(struct tf_file *file, struct tf_buf *deltas)
{
    struct tf_mend *mend = file->io.mend;
    struct tf_file *known = tf_follow_find(file->input, &mend->sibling.id);
    struct tf_position copied;

    if (known != NULL && !known->is_shadow) {
        return 0; /* it is read already */
    }
    if (known != NULL) {
        tf_follow_drop(known);
    }
    begin_copy(file, &copied);
    file->adopted = tf_follow_new(file->input, &mend->sibling.id, copied.path, mend->sibling.fd);
    mend->sibling.fd = -1;
    if (file->adopted == NULL) {
        return -ENOMEM;
    }
    file->adopted->is_sibling = true;
    file->adopted->is_seen = true; /* just now */
    file->adopted->is_gzip = mend->is_gzip;
    file->adopted->size = mend->sibling.size;
    tf_follow_append_delta(file, &mend->sibling.id, &copied, deltas);
    return 0;
}

/* The copy that goes on where this file was, since a scan found it so (shadow.c). */
static const struct tf_file *find_heir(const struct tf_file *file)
{
    for (const struct tf_file *heir = file->input->files; file->has_heir && heir != NULL;
         heir = heir->next) {
        if (heir->replaces && tf_file_id_compare(&heir->shadow_of, &file->id) == 0) {
            return heir;
        }
    }
    return NULL;
}

/* Writes down how the file goes on, and starts it anew from there. */
static void apply_mend(struct tf_file *file)
{
    const struct tf_file *heir = find_heir(file);
    struct tf_mend *mend = file->io.mend;
    struct tf_buf deltas;
    int rc = 0;

    file->mended_scan = file->input->scan_number;
    if (heir != NULL &&
        !is_stored(heir)) {     /* until it is, this position is all that is known of it */
        file->has_error = true; /* the next scan tries again */
        release_follower(file);
        tf_follow_leave(file, TF_AFTER_REVIVE);
        return;
    }
    tf_buf_init(&deltas, TF_DRAFT_DELTAS_MAX);
    tf_follow_append_delta(file, &file->id, &mend->position, &deltas);
    if (mend->kind == TF_MEND_SIBLING && heir == NULL) {
        tf_log(TF_LOG_DEBUG, "rotated", TF_DETAILS(TF_STR("path", file->base)),
               "copied and cut: the copy is read to its end, then the file from its start");
        rc = adopt_later(file, &deltas);
    }
    tf_shadow_settle(file, &deltas); /* compressed copies are of what stood there before */
    if (rc == 0 && ((heir != NULL && mend->kind != TF_MEND_OLDER) ||
                    (mend->kind == TF_MEND_SIBLING && mend->lost_bytes == 0))) {
        rc = tf_pipeline_deltas(file->input->pipeline, &file->source, &deltas);
    } else if (rc == 0) {
        rc = tf_source_gap(&file->source, "copytruncate", gap_text(mend->kind), gap_bytes(file),
                           &deltas);
    }
    tf_buf_fini(&deltas);
    if (rc == 0 && mend->kind != TF_MEND_OLDER) { /* else it lost its own tail */
        file->input->counts.rotations[TF_ROTATION_COPYTRUNCATE]++;
    }
    file->has_error = rc < 0; /* it is found changed again, at the next rescan */
    file->has_heir = file->has_heir && rc < 0;
    free(file->start);
    file->start = NULL;
    tf_follow_leave(file, TF_AFTER_REVIVE);
}

static void tell_damaged(struct tf_file *file)
{
    (void)tf_source_gap(&file->source, "damaged",
                        "a compressed log ends too early, or its checksum does not hold; it was "
                        "read as far as it goes",
                        UINT64_MAX, NULL);
}

/* Read to its end for good. It is remembered while it has a name, so that it is not read twice, and
 * two scans longer, so that what it was made into by then is known as its copy (ends.c). */
static void apply_finish(struct tf_file *file)
{
    struct tf_buf deltas;

    if (file->io.is_damaged) {
        tell_damaged(file);
    }
    tf_buf_init(&deltas, TF_DRAFT_DELTAS_MAX);
    tf_shadow_settle(file, &deltas);
    if (deltas.size > 0) {
        (void)tf_pipeline_deltas(file->input->pipeline, &file->source, &deltas);
    }
    tf_buf_fini(&deltas);
    tf_follow_leave(file, TF_AFTER_FINISH);
}

static void note_watch(struct tf_file *file)
{
    struct tf_container *input = file->input;

    if (file->io.watch_error < 0) {
        tf_watch_tell(input, file->io.watch_error);
    }
    if (file->io.watch >= 0 && file->watch < 0) {
        tf_watch_register(input, file, file->io.watch);
    }
}

/* Read, or failed to be, without a batch. */
static void note_error(struct tf_file *file, int status)
{
    file->input->counts.errors[TF_INPUT_READ]++;
    tf_log(TF_LOG_WARN, "unreadable", TF_DETAILS(TF_STR("path", file->base)),
           "reading failed: %s; tried again at the next rescan", uv_strerror(status));
    file->has_error = true;
    release_follower(file);
    tf_follow_leave(file, TF_AFTER_REVIVE);
}

/* A pump that was woken early waits for the same bytes again: no time counts twice. */
static void note_throttled(struct tf_file *file, uint64_t wake_at_ms)
{
    uint64_t from_ms = uv_now(file->input->loop);

    from_ms = from_ms > file->throttled_to_ms ? from_ms : file->throttled_to_ms;
    if (wake_at_ms > from_ms) {
        file->input->counts.rate_ms += wake_at_ms - from_ms;
        file->throttled_to_ms = wake_at_ms;
    }
}

void tf_follow_pumped(struct tf_source *source, const struct tf_pump_result *result)
{
    struct tf_file *file = (struct tf_file *)source;
    struct tf_file_io *io = &file->io;

    file->size = io->size;
    file->offset = io->offset;
    file->is_deleted = io->is_deleted;
    forget_prints(file);
    file->block_bytes = io->block_bytes;
    file->is_at_end = false;
    if (result->status == -EMSGSIZE) {
        take_less(file);
        return;
    }
    if (result->status < 0) {
        note_error(file, result->status);
        return;
    }
    if (io->mend != NULL) {
        apply_mend(file);
        return;
    }
    if (result->has_position) {
        file->refusals = 0;
        file->is_quiet = false;
    }
    file->tells_replaced = file->tells_replaced && !result->has_position; /* once: that file may be
                                                                             there again */
    if (io->position.finished) {
        apply_finish(file);
        return;
    }
    note_watch(file);
    if (io->is_throttled) {
        note_throttled(file, result->wake_at_ms);
    }
    file->is_at_end = !result->again && io->is_verified && !io->is_throttled;
    if (file->is_at_end) {
        file->behind_since_ms = 0;
        file->found_size = 0;
        release_follower(file);
    }
}

void tf_follow_rewind(struct tf_container *input)
{
    struct tf_file *next;

    for (struct tf_file *file = input->files; file != NULL; file = next) {
        next = file->next;
        if (file->state == TF_FILE_ACTIVE) {
            tf_follow_leave(file, TF_AFTER_REVIVE);
        }
    }
}

void tf_follow_close(struct tf_container *input)
{
    struct tf_file *file = input->files;

    assert(input->is_closing);
    while (file != NULL) {
        struct tf_file *next = file->next;

        if (file->state == TF_FILE_ACTIVE) {
            tf_follow_leave(file, TF_AFTER_REVIVE);
        } else if (file->state == TF_FILE_FINISHED || file->is_provisional) {
            tf_follow_drop(file);
        }
        file = next;
    }
}
