/*
 * stored.c - positions in the folded state: that of a file, all of them, and those that belong to
 * no file. Loop.
 *
 * Positions that were stored by an earlier run and belong to no file of two complete scans (a
 * rename may hide a file from one) are those of files that vanished while nobody ran: unless they
 * were read to their end, or a sibling holds their text, that is a gap. Those that `paths` does not
 * name any more are kept, for the time that it does again: nothing is known of such a file.
 */
#include "internal.h"

#include <stdlib.h>

bool tf_stored_position(struct tf_container *input, const struct tf_file_id *id,
                        struct tf_position *out)
{
    struct tf_buf key;
    struct tf_slice value;
    bool is_sound;

    tf_buf_init(&key, TF_STATE_KEY_MAX);
    tf_position_key(input->name, id, &key);
    is_sound = key.error == 0 &&
               tf_state_get(tf_pipeline_spool(input->pipeline), tf_buf_slice(&key), &value) &&
               tf_position_decode(value, out) == 0;
    tf_buf_fini(&key);
    return is_sound;
}

void tf_stored_each(struct tf_container *input, tf_state_fn *fn, void *ctx)
{
    struct tf_buf prefix;

    tf_buf_init(&prefix, TF_STATE_KEY_MAX);
    (void)tf_buf_printf(&prefix, "file/%s/", input->name);
    if (prefix.error == 0) {
        tf_state_each(tf_pipeline_spool(input->pipeline), tf_buf_slice(&prefix), fn, ctx);
    }
    tf_buf_fini(&prefix);
}

struct missing {
    struct tf_file_id id;
    char *base;
    bool is_finished;
    struct missing *next;
};

struct missing_list {
    struct tf_container *input;
    struct missing *first;
    bool failed;
    bool is_waiting;  /* for what a compressed file turns out to be */
    uint64_t unnamed; /* by `paths` */
};

static bool was_found(const struct missing_list *list, const struct tf_file_id *id)
{
    for (size_t i = 0; i < list->input->scan.found_count; i++) {
        if (tf_file_id_compare(&list->input->scan.found[i].id, id) == 0) {
            return true;
        }
    }
    return false;
}

/* A sibling goes on there, or will, and takes its place. */
static bool is_replaced(const struct tf_container *input, const struct tf_file_id *id)
{
    for (const struct tf_file *file = input->files; file != NULL; file = file->next) {
        if (file->replaces && tf_file_id_compare(&file->shadow_of, id) == 0) {
            return true;
        }
    }
    for (size_t i = 0; i < input->scan.found_count; i++) { /* left for the next scan */
        const struct tf_found *found = &input->scan.found[i];

        if (found->replaces && tf_file_id_compare(&found->match, id) == 0) {
            return true;
        }
    }
    return false;
}

static bool may_be_compressed(const struct tf_container *input, struct tf_slice base)
{
    for (size_t i = 0; i < input->scan.found_count; i++) {
        const struct tf_found *found = &input->scan.found[i];

        if (found->verdict == TF_VERDICT_WAIT && tf_slice_equal(tf_slice_text(found->base), base)) {
            return true;
        }
    }
    return false;
}

/* By `paths`. base is absolute; "", of a position that is damaged, may be any. */
static bool is_named(const struct tf_container *input, struct tf_slice base)
{
    char dir[TF_FILE_PATH_MAX];
    char *slash;

    if (base.size == 0) {
        return true;
    }
    memcpy(dir, base.data, base.size);
    dir[base.size] = '\0';
    slash = strrchr(dir, '/');
    *slash = '\0';
    for (size_t i = 0; i < input->glob_count; i++) {
        if (tf_path_glob_takes(&input->globs[i], dir, slash + 1)) {
            return true;
        }
    }
    return false;
}

static void add_missing(void *ctx, struct tf_slice key, struct tf_slice value)
{
    struct missing_list *list = ctx;
    struct tf_position position = {.path = tf_slice("", 0)};
    struct tf_file_id id;
    struct missing *missing;

    if (tf_position_key_parse(key, list->input->name, &id) < 0 ||
        tf_follow_find(list->input, &id) != NULL || was_found(list, &id) ||
        is_replaced(list->input, &id)) {
        return;
    }
    (void)tf_position_decode(value, &position);
    if (!is_named(list->input, position.path)) {
        list->unnamed++;
        return;
    }
    if (may_be_compressed(list->input, position.path)) {
        list->is_waiting = true;
        return;
    }
    missing = calloc(1, sizeof *missing);
    if (missing != NULL) {
        missing->base = strndup(position.path.data, position.path.size);
    }
    if (missing == NULL || missing->base == NULL) {
        free(missing);
        list->failed = true;
        return;
    }
    missing->id = id;
    missing->is_finished = position.finished;
    missing->next = list->first;
    list->first = missing;
}

/* It has a source only to say what was lost; without a descriptor, activating it does that. */
static void tell_missing(struct tf_container *input, const struct missing *missing)
{
    struct tf_file *file = tf_follow_new(input, &missing->id, tf_slice_text(missing->base), -1);

    if (file == NULL) {
        return; /* told at the next start */
    }
    if (missing->is_finished) {
        file->state = TF_FILE_FINISHED;
        tf_ends_forget(input, file);
        return;
    }
    tf_follow_activate(file);
}

/* Once; at a reload by those that it takes from the input. */
static void tell_unnamed(struct tf_container *input, uint64_t unnamed)
{
    char files[TF_COUNTED_TEXT_BYTES];

    if (unnamed > 0 && !input->told_unnamed) {
        input->told_unnamed = true;
        tf_log(TF_LOG_INFO, "unnamed", TF_DETAILS(TF_STR("input", input->name)),
               "%s once read that `paths` does not name: how far is kept, should it do so again",
               tf_counted_text(unnamed, "file", files));
    }
}

void tf_stored_check(struct tf_container *input)
{
    struct missing_list list = {.input = input};
    struct missing *next;

    tf_stored_each(input, add_missing, &list);
    tell_unnamed(input, list.unnamed);
    if (list.first == NULL && !list.failed && !list.is_waiting) {
        input->stored_checks = TF_STORED_CHECKS;
        return;
    }
    input->stored_checks += list.failed ? 0 : 1;
    input->wants_scan = input->wants_scan || input->stored_checks < TF_STORED_CHECKS;
    for (struct missing *missing = list.first; missing != NULL; missing = next) {
        next = missing->next;
        if (input->stored_checks == TF_STORED_CHECKS) {
            tell_missing(input, missing);
        }
        free(missing->base);
        free(missing);
    }
    if (list.is_waiting && input->stored_checks == TF_STORED_CHECKS) {
        input->stored_checks--; /* the others were told; these are compared again */
    }
}
