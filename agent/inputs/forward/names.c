/*
 * names.c - the names of frames received: repeats, contradictions, and what is forgotten.
 *
 * For each proved identity and spool id the folded state has a list, key
 * "recv/IDENTITY/SPOOL" (spool id in lower-case hex), of the newest TF_STATE_LIST_MAX frames
 * (docs/guarantees.md D4). A value, integers little-endian:
 *
 *     offset  bytes  field
 *          0     16  name    first bytes of the frame's chain value
 *         16      8  seq     number of the frame, or the last one of a derived gap
 *         24      8  prev    number of the frame before it on the same output; 0: none
 *         32      8  seen    seconds since the epoch, when it was received
 *         40      1  flags   1: a derived gap, 2: it contradicted (fork, back, between)
 *         41     16  rest    of the chain value; values of 41 bytes, without it, are still read
 *
 * It is pushed by the frame that holds the data: both are there or neither. What is taken and not
 * yet durable stands in memory, in struct names, and counts the same for every comparison. Equal
 * names are a repeat; anything else is stored, and a number that cannot be is said (D6):
 *
 *     fork       a remembered number, with another name
 *     back       below all remembered ones, when as many as are kept are remembered
 *     between    between another frame's prev and its number, or the reverse
 *     new-spool  the first frame of a spool, of an identity that had another
 *     unseen     its prev was not received here
 *
 * A derived gap has no number of its own: it is compared by name only. At most TF_SPOOLS_MAX spools
 * of an identity are remembered; a further one takes the place of the one unseen for longest that
 * nobody sends for, in the frame that brings it. A list unseen for 30 days is forgotten.
 *
 * Beside each value, the frame has a note for readers, which changes no state: the whole frame as
 * it was stated, the digest of its events as they came, and when (docs/protocol.md, section 7). A
 * replayed message has the note alone.
 */
#include "internal.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define KEY_PREFIX    "recv/"
#define HEX_BYTES     (2u * TF_SPOOL_ID_BYTES)
#define FLAG_GAP      1u
#define FLAG_DISPUTED 2u
#define OLD_BYTES     41u /* of a value without the rest of the chain */
#define NOTE_GAP      1u
#define NOTE_REPLAYED 2u

/* ---- senders and their spools --------------------------------------------------------------- */

struct sender *tf_sender_get(struct forward *forward, const char *identity)
{
    struct sender *sender = forward->senders;
    size_t size = strlen(identity) + 1;

    while (sender != NULL && strcmp(sender->identity, identity) != 0) {
        sender = sender->next;
    }
    if (sender == NULL) {
        sender = calloc(1, sizeof *sender + size);
        if (sender == NULL) {
            return NULL;
        }
        memcpy(sender->identity, identity, size);
        sender->next = forward->senders;
        forward->senders = sender;
    }
    sender->refs++;
    return sender;
}

void tf_sender_unref(struct forward *forward, struct sender *sender)
{
    struct sender **at = &forward->senders;

    assert(sender->refs > 0);
    if (--sender->refs > 0) {
        return;
    }
    while (*at != sender) {
        at = &(*at)->next;
    }
    *at = sender->next;
    free(sender);
}

static void make_key(char key[TF_NAMES_KEY_MAX + 1], const char *identity,
                     const uint8_t spool_id[TF_SPOOL_ID_BYTES])
{
    static const char digits[] = "0123456789abcdef";
    int at = snprintf(key, TF_NAMES_KEY_MAX + 1, KEY_PREFIX "%s/", identity);

    assert(at > 0 && (size_t)at + HEX_BYTES <= TF_NAMES_KEY_MAX);
    for (size_t i = 0; i < TF_SPOOL_ID_BYTES; i++) {
        key[(size_t)at + 2 * i] = digits[spool_id[i] >> 4];
        key[(size_t)at + 2 * i + 1] = digits[spool_id[i] & 15];
    }
    key[(size_t)at + HEX_BYTES] = '\0';
}

struct names *tf_names_get(struct forward *forward, struct sender *sender,
                           const uint8_t spool_id[TF_SPOOL_ID_BYTES])
{
    char key[TF_NAMES_KEY_MAX + 1];
    struct names *names = sender->names;

    make_key(key, sender->identity, spool_id);
    while (names != NULL && strcmp(names->key, key) != 0) {
        names = names->next;
    }
    if (names == NULL) {
        names = calloc(1, sizeof *names);
        if (names == NULL) {
            return NULL;
        }
        memcpy(names->key, key, sizeof key);
        names->forward = forward;
        names->sender = sender;
        names->next = sender->names;
        sender->names = names;
        sender->refs++;
    }
    names->refs++;
    return names;
}

void tf_names_unref(struct names *names)
{
    struct names **at;

    if (names == NULL) {
        return;
    }
    assert(names->refs > 0);
    if (--names->refs > 0) {
        return;
    }
    assert(names->first == NULL);
    at = &names->sender->names;
    while (*at != names) {
        at = &(*at)->next;
    }
    *at = names->next;
    tf_sender_unref(names->forward, names->sender);
    free(names);
}

void tf_names_add(struct names *names, struct taken *taken)
{
    names->refs++;
    taken->names = names;
    taken->names_next = NULL;
    taken->names_before = names->last;
    if (names->last != NULL) {
        names->last->names_next = taken;
    } else {
        names->first = taken;
    }
    names->last = taken;
}

void tf_names_remove(struct taken *taken)
{
    struct names *names = taken->names;

    if (names == NULL) {
        return;
    }
    if (taken->is_replay) {
        taken->names = NULL;
        tf_names_unref(names);
        return;
    }
    if (taken->evicts) {
        names->evicts[0] = '\0';
    }
    if (taken->names_before != NULL) {
        taken->names_before->names_next = taken->names_next;
    } else {
        names->first = taken->names_next;
    }
    if (taken->names_next != NULL) {
        taken->names_next->names_before = taken->names_before;
    } else {
        names->last = taken->names_before;
    }
    taken->names = NULL;
    tf_names_unref(names);
}

/* ---- values --------------------------------------------------------------------------------- */

static void write_value(const struct remembered *value, uint8_t bytes[TF_REMEMBERED_BYTES])
{
    memcpy(bytes, value->chain, TF_FRAME_NAME_BYTES);
    tf_store64(bytes + 16, value->seq);
    tf_store64(bytes + 24, value->prev);
    tf_store64(bytes + 32, (uint64_t)value->seen_s);
    bytes[40] =
        (uint8_t)((value->is_gap ? FLAG_GAP : 0) | (value->is_disputed ? FLAG_DISPUTED : 0));
    memcpy(bytes + OLD_BYTES, value->chain + TF_FRAME_NAME_BYTES,
           TF_CHAIN_BYTES - TF_FRAME_NAME_BYTES);
}

static bool read_value(struct tf_slice bytes, struct remembered *value)
{
    if (bytes.size != TF_REMEMBERED_BYTES && bytes.size != OLD_BYTES) {
        return false;
    }
    *value = (struct remembered){.has_chain = bytes.size == TF_REMEMBERED_BYTES};
    memcpy(value->chain, bytes.data, TF_FRAME_NAME_BYTES);
    if (value->has_chain) {
        memcpy(value->chain + TF_FRAME_NAME_BYTES, bytes.data + OLD_BYTES,
               TF_CHAIN_BYTES - TF_FRAME_NAME_BYTES);
    }
    value->seq = tf_load64(bytes.data + 16);
    value->prev = tf_load64(bytes.data + 24);
    value->seen_s = (int64_t)tf_load64(bytes.data + 32);
    value->is_gap = (bytes.data[40] & FLAG_GAP) != 0;
    value->is_disputed = (bytes.data[40] & FLAG_DISPUTED) != 0;
    return true;
}

static uint8_t hex_value(char digit)
{
    return (uint8_t)(digit <= '9' ? digit - '0' : digit - 'a' + 10);
}

/* The spool's id, out of its own key. */
void tf_names_spool(const struct names *names, uint8_t spool_id[TF_SPOOL_ID_BYTES])
{
    const char *hex = names->key + strlen(names->key) - HEX_BYTES;

    for (size_t i = 0; i < TF_SPOOL_ID_BYTES; i++) {
        spool_id[i] = (uint8_t)(hex_value(hex[2 * i]) << 4 | hex_value(hex[2 * i + 1]));
    }
}

static void append_note(const struct taken *taken, struct tf_buf *deltas)
{
    const struct remembered *value = &taken->value;
    uint8_t note[TF_NOTE_BYTES];

    tf_names_spool(taken->names, note);
    tf_store64(note + 16, value->seq);
    tf_store64(note + 24, value->prev);
    memcpy(note + 32, value->chain, TF_CHAIN_BYTES);
    memcpy(note + 64, taken->digest, TF_RECEIPT_DIGEST_BYTES);
    tf_store64(note + 96, (uint64_t)taken->received_ns);
    note[104] = (uint8_t)((value->is_gap ? NOTE_GAP : 0) | (taken->is_replay ? NOTE_REPLAYED : 0));
    tf_delta_append(deltas, TF_DELTA_NOTE, tf_slice_text(taken->names->key),
                    tf_slice(note, sizeof note));
}

void tf_names_append(const struct taken *taken, struct tf_buf *deltas)
{
    const struct names *names = taken->names;
    uint8_t bytes[TF_REMEMBERED_BYTES];

    append_note(taken, deltas);
    if (taken->is_replay) {
        return;
    }
    if (taken->evicts) {
        tf_delta_append(deltas, TF_DELTA_DELETE, tf_slice_text(names->evicts), tf_slice(NULL, 0));
    }
    write_value(&taken->value, bytes);
    tf_delta_append(deltas, TF_DELTA_PUSH, tf_slice_text(names->key),
                    tf_slice(bytes, sizeof bytes));
}

/* The newest of a list; false when there is none. */
static bool newest_of(const struct tf_spool *spool, struct tf_slice key, struct remembered *value)
{
    struct tf_slice values[TF_STATE_LIST_MAX];
    size_t count = tf_state_list(spool, key, values);

    return count > 0 && read_value(values[count - 1], value);
}

/* ---- the identity's other spools ------------------------------------------------------------ */

struct survey {
    const struct names *names;
    size_t prefix_size;
    uint32_t others;                   /* remembered spools but this one */
    struct remembered newest;          /* frame of them */
    char oldest[TF_NAMES_KEY_MAX + 1]; /* that may be forgotten, or "" */
    int64_t oldest_s;
};

/* Whether something in this process sends for that key or forgets it already. */
static bool is_in_use(const struct sender *sender, struct tf_slice key)
{
    for (const struct names *names = sender->names; names != NULL; names = names->next) {
        if (tf_slice_equal(tf_slice_text(names->key), key) ||
            tf_slice_equal(tf_slice_text(names->evicts), key)) {
            return true;
        }
    }
    return false;
}

static void see_other(void *ctx, struct tf_slice key, struct tf_slice none)
{
    struct survey *survey = ctx;
    struct remembered value = {0};

    (void)none;
    if (key.size != survey->prefix_size + HEX_BYTES || /* another identity that begins alike */
        tf_slice_equal(key, tf_slice_text(survey->names->key)) ||
        !newest_of(tf_pipeline_spool(survey->names->forward->pipeline), key, &value)) {
        return;
    }
    survey->others++;
    if (survey->others == 1 || value.seen_s >= survey->newest.seen_s) {
        survey->newest = value;
    }
    if ((survey->oldest[0] == '\0' || value.seen_s < survey->oldest_s) &&
        !is_in_use(survey->names->sender, key)) {
        memcpy(survey->oldest, key.data, key.size);
        survey->oldest[key.size] = '\0';
        survey->oldest_s = value.seen_s;
    }
}

/* Others of which the first frame is not durable yet; those that make room for themselves count as
 * what they take the place of. */
static uint32_t count_coming(const struct names *names)
{
    const struct tf_spool *spool = tf_pipeline_spool(names->forward->pipeline);
    uint32_t count = 0;

    for (const struct names *at = names->sender->names; at != NULL; at = at->next) {
        struct tf_slice values[TF_STATE_LIST_MAX];

        count += at != names && at->first != NULL && at->evicts[0] == '\0' &&
                 tf_state_list(spool, tf_slice_text(at->key), values) == 0;
    }
    return count;
}

/* A spool of which nothing is remembered: is it the identity's first, and is there room? */
static void judge_first(struct names *names, struct judgement *out)
{
    struct survey survey = {.names = names};
    uint32_t others;

    survey.prefix_size = strlen(names->key) - HEX_BYTES;
    tf_state_each(tf_pipeline_spool(names->forward->pipeline),
                  tf_slice(names->key, survey.prefix_size), see_other, &survey);
    others = survey.others + count_coming(names);
    names->evicts[0] = '\0';
    if (others >= TF_SPOOLS_MAX) {
        out->is_full = survey.oldest[0] == '\0';
        memcpy(names->evicts, survey.oldest, sizeof names->evicts);
    }
    if (others > 0) {
        out->contradicts = "new-spool";
        out->last_seq = survey.newest.seq;
    }
}

/* ---- judging -------------------------------------------------------------------------------- */

struct look {
    const struct tf_message_head *head;
    bool has_number;
    size_t count;
    bool is_repeat, is_fork, is_between, prev_seen;
    uint64_t lowest;
};

static void compare(struct look *look, const struct remembered *old)
{
    const struct tf_message_head *head = look->head;

    if (memcmp(old->chain, head->chain, TF_FRAME_NAME_BYTES) == 0) {
        look->is_repeat = true;
    }
    look->prev_seen |= old->seq == head->prev;
    if (old->is_gap || !look->has_number) {
        look->count++;
        return;
    }
    look->is_fork |= old->seq == head->seq;
    look->is_between |= (old->prev != 0 && old->prev < head->seq && head->seq < old->seq) ||
                        (head->prev != 0 && head->prev < old->seq && old->seq < head->seq);
    look->lowest = old->seq < look->lowest ? old->seq : look->lowest;
    look->count++;
}

static const char *kind_of(const struct look *look)
{
    if (look->is_fork) {
        return "fork";
    }
    if (look->count >= TF_STATE_LIST_MAX && look->head->seq < look->lowest &&
        look->lowest != UINT64_MAX) {
        return "back";
    }
    return look->is_between ? "between" : NULL;
}

void tf_names_judge(struct names *names, const struct tf_message_head *head, struct judgement *out)
{
    struct look look = {.head = head, .has_number = head->gap_from == 0, .lowest = UINT64_MAX};
    struct tf_slice values[TF_STATE_LIST_MAX];
    size_t count = tf_state_list(tf_pipeline_spool(names->forward->pipeline),
                                 tf_slice_text(names->key), values);

    *out = (struct judgement){0};
    for (size_t i = 0; i < count; i++) {
        struct remembered old;

        if (read_value(values[i], &old)) {
            compare(&look, &old);
        }
    }
    out->is_durable = look.is_repeat;
    for (struct taken *at = names->first; at != NULL && !look.is_repeat; at = at->names_next) {
        compare(&look, &at->value);
        out->original = look.is_repeat ? at : NULL;
    }
    if (look.is_repeat) {
        return;
    }
    if (look.count == 0) {
        judge_first(names, out);
    }
    if (look.has_number && out->contradicts == NULL) {
        out->contradicts = kind_of(&look);
        if (out->contradicts == NULL && head->prev != 0 && !look.prev_seen) {
            out->contradicts = "unseen";
        }
    }
}

/* ---- what receipts name ---------------------------------------------------------------------- */

/* The newest durable frame that contradicted nothing. */
static struct vouched newest_sound(const struct names *names)
{
    struct tf_slice values[TF_STATE_LIST_MAX];
    size_t count = tf_state_list(tf_pipeline_spool(names->forward->pipeline),
                                 tf_slice_text(names->key), values);
    struct vouched newest = {0};

    for (size_t i = 0; i < count; i++) {
        struct remembered value;

        if (read_value(values[i], &value) && value.has_chain && !value.is_gap &&
            !value.is_disputed && value.seq > newest.seq) {
            newest.seq = value.seq;
            memcpy(newest.chain, value.chain, TF_CHAIN_BYTES);
        }
    }
    return newest;
}

struct vouched tf_names_vouch(const struct names *names)
{
    return names->disputed.seq != 0 ? names->disputed : newest_sound(names);
}

void tf_names_vouched(struct names *names)
{
    names->disputed = (struct vouched){0};
}

void tf_names_dispute(struct names *names)
{
    if (names->disputed.seq == 0) {
        names->disputed = newest_sound(names);
    }
}

/* ---- forgetting ----------------------------------------------------------------------------- */

struct forgetting {
    struct forward *forward;
    int64_t now_s;
    struct tf_buf deltas;
};

static bool is_any_in_use(const struct forward *forward, struct tf_slice key)
{
    for (const struct sender *at = forward->senders; at != NULL; at = at->next) {
        if (is_in_use(at, key)) {
            return true;
        }
    }
    return false;
}

static void forget_old(void *ctx, struct tf_slice key, struct tf_slice none)
{
    struct forgetting *forgetting = ctx;
    struct remembered value;

    (void)none;
    if (newest_of(tf_pipeline_spool(forgetting->forward->pipeline), key, &value) &&
        forgetting->now_s - value.seen_s > TF_UNSEEN_S &&
        forgetting->deltas.size + 2 * TF_STATE_KEY_MAX < forgetting->deltas.limit_bytes &&
        !is_any_in_use(forgetting->forward, key)) {
        tf_delta_append(&forgetting->deltas, TF_DELTA_DELETE, key, tf_slice(NULL, 0));
    }
}

void tf_names_forget(struct forward *forward)
{
    struct forgetting forgetting = {.forward = forward, .now_s = tf_now_ns() / TF_S_IN_NS};

    tf_buf_init(&forgetting.deltas, 64u << 10); /* what does not fit goes next time */
    tf_state_each(tf_pipeline_spool(forward->pipeline), tf_slice_text(KEY_PREFIX), forget_old,
                  &forgetting);
    if (forgetting.deltas.size > 0 && forgetting.deltas.error == 0) {
        (void)tf_pipeline_deltas(forward->pipeline, NULL, &forgetting.deltas);
    }
    tf_buf_fini(&forgetting.deltas);
}
