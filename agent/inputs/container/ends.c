/*
 * ends.c - how files end: what a scan concludes of each that is known. Loop.
 *
 * The end of a file is for good when it is read to its end, nothing was added from one scan to the
 * next, and either it was rotated and a successor stands under its name, or it has no name any
 * more. Then what is held goes out as unfinished, and the descriptor is closed.
 *
 * Deleted files that are not read yet are held open within the bounds of `deleted`; past them they
 * are read before all others, and let go only when the spool has no room for that.
 */
#include "internal.h"

#include <sys/stat.h>

/* A file may have been compressed while a scan ran, which saw neither: it is remembered until the
 * next one has seen what it became. */
#define UNSEEN_SCANS 2u

void tf_ends_forget(struct tf_container *input, struct tf_file *file)
{
    struct tf_buf key, deltas;

    tf_buf_init(&key, TF_STATE_KEY_MAX);
    tf_buf_init(&deltas, TF_DRAFT_DELTAS_MAX);
    tf_position_key(input->name, &file->id, &key);
    if (key.error == 0) {
        tf_delta_append(&deltas, TF_DELTA_DELETE, tf_buf_slice(&key), tf_slice(NULL, 0));
    }
    if (key.error == 0 && tf_pipeline_deltas(input->pipeline, NULL, &deltas) == 0) {
        tf_follow_drop(file);
    }
    tf_buf_fini(&key);
    tf_buf_fini(&deltas);
}

/* At its end twice in a row: it ends there. */
static void settle_end(struct tf_file *file)
{
    if (!file->is_at_end || file->source.state != TF_SOURCE_ASLEEP) {
        return;
    }
    if (file->is_quiet && file->quiet_size == file->size) {
        file->io.is_final = true; /* no job of it runs */
        tf_follow_wake(file);
        return;
    }
    file->is_quiet = true;
    file->quiet_size = file->size;
    if (!file->is_seen) {
        tf_follow_wake(file); /* only its descriptor can tell its size now */
    }
}

static void settle(struct tf_container *input, struct tf_file *file)
{
    bool is_complete = input->scan.is_complete;

    if (file->is_undecided) {
        return;
    }
    if (file->state == TF_FILE_FINISHED && !file->is_seen && is_complete) {
        if (++file->unseen == UNSEEN_SCANS) {
            tf_ends_forget(input, file);
        }
        return;
    }
    file->unseen = 0;
    if (file->is_shadow) {
        tf_shadow_check(file);
        return;
    }
    if (file->state != TF_FILE_ACTIVE) {
        return;
    }
    if (file->is_seen ? file->is_sibling && file->has_successor : is_complete || file->is_deleted) {
        settle_end(file);
    } else {
        file->is_quiet = false;
    }
    if (!file->is_seen && (!file->is_at_end || !file->is_deleted)) {
        tf_follow_wake(file); /* it may have been deleted: its descriptor tells */
    }
}

/* A file without a name whose pump must wait: what its descriptor tells (from memory) is all there
 * is. */
static void look_at_waiting(struct tf_file *file)
{
    struct stat status;

    if ((file->source.state == TF_SOURCE_QUEUED || file->waits_for != NULL) &&
        fstat(file->io.fd, &status) == 0) {
        file->is_deleted = status.st_nlink == 0;
        file->size = (uint64_t)status.st_size;
    }
}

static bool is_held(const struct tf_file *file)
{
    return file->is_deleted && file->offset < file->size &&
           (file->source.state == TF_SOURCE_QUEUED || !file->is_at_end);
}

/* Deleted files that wait to be read: too many bytes, or too long. */
static void bound_deleted(struct tf_container *input)
{
    uint64_t now_ms = uv_now(input->loop), held_bytes = 0, done;
    bool has_room = tf_spool_has_room(tf_pipeline_spool(input->pipeline));
    struct tf_file *next;

    for (struct tf_file *file = input->files; file != NULL; file = next) {
        next = file->next;
        if (file->state != TF_FILE_ACTIVE || file->is_seen ||
            file->source.state == TF_SOURCE_RUNNING) {
            continue;
        }
        look_at_waiting(file);
        if (!is_held(file)) {
            continue;
        }
        file->deleted_since_ms = file->deleted_since_ms == 0 ? now_ms : file->deleted_since_ms;
        held_bytes += file->size;
        if (now_ms - file->deleted_since_ms < input->options->deleted.age_ms &&
            held_bytes <= input->options->deleted.size_bytes) {
            continue;
        }
        if (has_room) { /* then it goes before all others */
            tf_source_hurry(&file->source, true);
            continue;
        }
        held_bytes -= file->size;
        done = tf_position_first(&file->io.position); /* what is held back is lost too */
        tf_follow_give_up(
            file, "a deleted file was held open past `deleted`; its last bytes were not read",
            file->size > done ? file->size - done : 0);
    }
}

/* What a look found and the scan did not: gone already, so its path is the look's. */
static void settle_provisional(struct tf_file *file)
{
    if (file->is_provisional && !file->is_seen) {
        file->is_provisional = false;
        tf_follow_activate(file);
    }
}

void tf_ends_settle(struct tf_container *input)
{
    struct tf_file *next;

    for (struct tf_file *file = input->files; file != NULL; file = next) {
        next = file->next;
        settle_provisional(file);
        settle(input, file);
    }
    bound_deleted(input);
}
