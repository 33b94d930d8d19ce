/*
 * shadow.c - siblings that hold what a file held, on the loop: what becomes of a compressed one
 * that a scan has judged (judge.c). A copy that is not compressed is passed over while its file is
 * there (discovery.c), and goes the same way where that is gone.
 *
 *     nothing known    it is read whole, as any new sibling
 *     it holds what a  that is gone: it is read on from that one's position, and its first position
 *     file held          takes that one's place
 *                      that was read to its end: it is remembered as read; what it holds beyond is
 *                        read
 *                      that is followed: it is a shadow, not read, and nothing is stored of it
 *                        until that file comes to one of the ends above
 *     not known yet    no file of its base ends before that is known
 *
 * One that ends before the position, since lines were read that were written after it was made,
 * counts as read to its end (found.c, mend.c).
 *
 * So at every instant the folded state says of one of the two, and of one only, where reading goes
 * on: a kill between any two steps loses and doubles nothing.
 */
#include "internal.h"

static bool is_shadow_of(const struct tf_file *file, const struct tf_file *of)
{
    return file->is_shadow && tf_file_id_compare(&file->shadow_of, &of->id) == 0;
}

/* Remembered as read, from the frame of deltas on; read: as far as it was. */
static void append_read(const struct tf_file *file, const struct tf_position *read,
                        struct tf_buf *deltas)
{
    struct tf_position position = *read;

    position.finished = true;
    position.is_gzip = file->is_gzip;
    position.path = tf_slice_text(file->base);
    tf_follow_append_delta(file, &file->id, &position, deltas);
}

/* The file of a sibling that is not to be read. */
static struct tf_file *new_closed(struct tf_container *input, const struct tf_found *found)
{
    struct tf_file *file = tf_follow_new(input, &found->id, tf_slice_text(found->base), -1);

    if (file != NULL) {
        file->state = TF_FILE_FINISHED;
        file->is_seen = true;
        file->is_sibling = true;
        file->is_gzip = found->is_gzip;
        file->size = found->size;
        file->text_bytes = found->text_bytes;
    }
    return file;
}

void tf_shadow_add(struct tf_container *input, struct tf_file *of, const struct tf_found *found)
{
    struct tf_file *shadow = new_closed(input, found);

    if (shadow != NULL) { /* else it is judged again */
        shadow->is_shadow = true;
        shadow->shadow_of = of->id;
        of->has_shadow = true;
    }
}

void tf_shadow_read(struct tf_container *input, const struct tf_found *found,
                    const struct tf_position *read)
{
    struct tf_file *file = new_closed(input, found);
    struct tf_buf deltas;

    if (file == NULL) {
        return;
    }
    memcpy(file->io.position.prints, read->prints, sizeof read->prints);
    tf_buf_init(&deltas, TF_DRAFT_DELTAS_MAX);
    append_read(file, read, &deltas);
    if (found->replaces) {
        tf_follow_append_delta(file, &found->match, NULL, &deltas);
    }
    if (deltas.error != 0 || tf_pipeline_deltas(input->pipeline, NULL, &deltas) < 0) {
        tf_follow_drop(file);
    }
    tf_buf_fini(&deltas);
}

void tf_shadow_read_short(struct tf_container *input, const struct tf_found *found)
{
    struct tf_position read = {.prints = {found->end}};

    for (unsigned i = 0; i < TF_STREAMS; i++) {
        read.done[i] = found->end.offset;
    }
    tf_shadow_read(input, found, &read);
}

void tf_shadow_settle(struct tf_file *file, struct tf_buf *deltas)
{
    uint64_t end = tf_position_last(&file->io.position);
    struct tf_file *next;

    for (struct tf_file *shadow = file->input->files; file->has_shadow && shadow != NULL;
         shadow = next) {
        next = shadow->next;
        if (!is_shadow_of(shadow, file)) {
            continue;
        }
        if (shadow->text_bytes <= end) {
            shadow->is_shadow = false;
            append_read(shadow, &file->io.position, deltas);
        } else {
            tf_follow_drop(shadow); /* the next scan finds it, and that file read to its end */
        }
    }
}

bool tf_shadow_take_over(struct tf_file *file)
{
    bool has_one = false;
    struct tf_file *next;

    for (struct tf_file *shadow = file->input->files; file->has_shadow && shadow != NULL;
         shadow = next) {
        next = shadow->next;
        if (is_shadow_of(shadow, file)) {
            tf_follow_drop(shadow); /* the next scan finds it, and a position without a file */
            has_one = true;
        }
    }
    return has_one;
}

void tf_shadow_check(struct tf_file *shadow)
{
    if (tf_follow_find(shadow->input, &shadow->shadow_of) == NULL) {
        tf_follow_drop(shadow);
    }
}
