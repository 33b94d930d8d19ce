/*
 * state.c - the folded state: what the deltas of all durable frames add up to.
 *
 * Entries stand sorted by key in an array. An entry is a value or a list of at most
 * TF_STATE_LIST_MAX values; a push beyond that drops the oldest. Changes are prepared with all
 * their memory when a draft is taken, and applied when its frame is durable: applying cannot fail,
 * so the state never lags behind a frame that left.
 *
 * Invariants: keys are unique and sorted; capacity >= count + promised.
 */
#include "internal.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#define ENTRIES_MAX (1u << 20) /* past it a draft is refused */
#define CHANGES_MAX (1u << 20) /* of one draft */

struct list_value {
    struct list_value *next;
    size_t size;
    char data[];
};

struct list {
    struct list_value *first, *last; /* oldest first */
    size_t count;
};

/* There is one for each file that is followed: small. */
struct tf_state_entry {
    struct list *list; /* NULL: it is a value */
    uint32_t key_size, value_size;
    char bytes[]; /* key, then value */
};

static_assert(TF_META_MAX <= UINT32_MAX, "the size of any key or value fits");

struct tf_change {
    enum tf_delta_op op;
    struct tf_state_entry *entry; /* holds the key; becomes the state's when there is none yet */
    struct list_value *value;     /* of a push */
};

static struct tf_slice entry_key(const struct tf_state_entry *entry)
{
    return tf_slice(entry->bytes, entry->key_size);
}

static struct tf_slice entry_value(const struct tf_state_entry *entry)
{
    return tf_slice(entry->bytes + entry->key_size, entry->value_size);
}

static const struct list_value *first_value(const struct tf_state_entry *entry)
{
    return entry->list != NULL ? entry->list->first : NULL;
}

static void entry_free(struct tf_state_entry *entry)
{
    if (entry == NULL) {
        return;
    }
    while (entry->list != NULL && entry->list->first != NULL) {
        struct list_value *value = entry->list->first;

        entry->list->first = value->next;
        free(value);
    }
    free(entry->list);
    free(entry);
}

static int compare_keys(struct tf_slice a, struct tf_slice b)
{
    size_t size = a.size < b.size ? a.size : b.size;
    int order = size == 0 ? 0 : memcmp(a.data, b.data, size);

    return order != 0 ? order : (a.size > b.size) - (a.size < b.size);
}

/* The index of the first entry whose key is not below key; *found: it is key. */
static size_t lower_bound(const struct tf_state *state, struct tf_slice key, bool *found)
{
    size_t low = 0, high = state->count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (compare_keys(entry_key(state->entries[middle]), key) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    *found = low < state->count && tf_slice_equal(entry_key(state->entries[low]), key);
    return low;
}

void tf_state_fini(struct tf_state *state)
{
    for (size_t i = 0; i < state->count; i++) {
        entry_free(state->entries[i]);
    }
    free(state->entries);
    *state = (struct tf_state){0};
}

static int promise(struct tf_state *state)
{
    size_t needed = state->count + state->promised + 1;

    if (needed > ENTRIES_MAX) {
        return -EMSGSIZE;
    }
    if (needed > state->capacity) {
        size_t capacity = state->capacity == 0 ? 64 : state->capacity * 2;
        struct tf_state_entry **entries = realloc(state->entries, capacity * sizeof *entries);

        if (entries == NULL) {
            return -ENOMEM;
        }
        state->entries = entries;
        state->capacity = capacity;
    }
    state->promised++;
    return 0;
}

static int add_change(struct tf_changes *changes, const struct tf_delta *delta)
{
    size_t value_size = delta->op == TF_DELTA_SET ? delta->value.size : 0;
    struct tf_change change = {.op = delta->op};

    if (changes->count == changes->capacity) {
        size_t capacity = changes->capacity == 0 ? 4 : changes->capacity * 2;
        struct tf_change *items =
            capacity > CHANGES_MAX ? NULL : realloc(changes->items, capacity * sizeof *items);

        if (items == NULL) {
            return -ENOMEM;
        }
        changes->items = items;
        changes->capacity = capacity;
    }
    change.entry = calloc(1, sizeof *change.entry + delta->key.size + value_size);
    if (change.entry == NULL) {
        return -ENOMEM;
    }
    change.entry->key_size = (uint32_t)delta->key.size;
    change.entry->value_size = (uint32_t)value_size;
    memcpy(change.entry->bytes, delta->key.data, delta->key.size);
    if (value_size > 0) {
        memcpy(change.entry->bytes + delta->key.size, delta->value.data, value_size);
    }
    if (delta->op == TF_DELTA_PUSH) {
        change.entry->list = calloc(1, sizeof *change.entry->list);
        change.value = calloc(1, sizeof *change.value + delta->value.size);
        if (change.entry->list == NULL || change.value == NULL) {
            free(change.value);
            entry_free(change.entry);
            return -ENOMEM;
        }
        change.value->size = delta->value.size;
        memcpy(change.value->data, delta->value.data, delta->value.size);
    }
    changes->items[changes->count++] = change;
    return 0;
}

int tf_state_prepare(struct tf_state *state, struct tf_slice deltas, struct tf_changes *changes)
{
    struct tf_delta delta;
    int rc;

    *changes = (struct tf_changes){0};
    while ((rc = tf_delta_next(&deltas, &delta)) == 1) {
        if (delta.op == TF_DELTA_NOTE) {
            continue; /* for readers of the frame */
        }
        rc = promise(state);
        if (rc == 0) {
            rc = add_change(changes, &delta);
            state->promised -= rc < 0;
        }
        if (rc < 0) {
            break;
        }
    }
    if (rc != 0) {
        tf_state_abandon(state, changes);
    }
    return rc;
}

void tf_state_abandon(struct tf_state *state, struct tf_changes *changes)
{
    assert(state->promised >= changes->count);
    for (size_t i = 0; i < changes->count; i++) {
        entry_free(changes->items[i].entry);
        free(changes->items[i].value);
    }
    state->promised -= changes->count;
    free(changes->items);
    *changes = (struct tf_changes){0};
}

static void push_value(struct list *list, struct list_value *value)
{
    if (list->last != NULL) {
        list->last->next = value;
    } else {
        list->first = value;
    }
    list->last = value;
    list->count++;
    if (list->count > TF_STATE_LIST_MAX) {
        struct list_value *oldest = list->first;

        list->first = oldest->next;
        free(oldest);
        list->count--;
    }
}

static void apply(struct tf_state *state, struct tf_change *change)
{
    bool found;
    size_t at = lower_bound(state, entry_key(change->entry), &found);

    if (change->op == TF_DELTA_DELETE) {
        if (found) {
            entry_free(state->entries[at]);
            state->count--;
            memmove(&state->entries[at], &state->entries[at + 1],
                    (state->count - at) * sizeof state->entries[0]);
        }
        entry_free(change->entry);
        return;
    }
    if (found && change->op == TF_DELTA_PUSH && state->entries[at]->list != NULL) {
        entry_free(change->entry);
    } else if (found) {
        entry_free(state->entries[at]);
        state->entries[at] = change->entry;
    } else {
        assert(state->count < state->capacity);
        memmove(&state->entries[at + 1], &state->entries[at],
                (state->count - at) * sizeof state->entries[0]);
        state->entries[at] = change->entry;
        state->count++;
    }
    if (change->op == TF_DELTA_PUSH) {
        push_value(state->entries[at]->list, change->value);
    }
}

void tf_state_apply(struct tf_state *state, struct tf_changes *changes)
{
    assert(state->promised >= changes->count);
    for (size_t i = 0; i < changes->count; i++) {
        apply(state, &changes->items[i]);
    }
    state->promised -= changes->count;
    free(changes->items);
    *changes = (struct tf_changes){0};
}

int tf_state_fold(struct tf_state *state, struct tf_slice deltas)
{
    struct tf_changes changes;
    int rc = tf_state_prepare(state, deltas, &changes);

    if (rc == 0) {
        tf_state_apply(state, &changes);
    }
    return rc;
}

bool tf_state_find(const struct tf_state *state, struct tf_slice key, struct tf_slice *value)
{
    bool found;
    size_t at = lower_bound(state, key, &found);

    if (!found || state->entries[at]->list != NULL) {
        return false;
    }
    *value = entry_value(state->entries[at]);
    return true;
}

size_t tf_state_find_list(const struct tf_state *state, struct tf_slice key,
                          struct tf_slice values[TF_STATE_LIST_MAX])
{
    bool found;
    size_t at = lower_bound(state, key, &found);
    size_t count = 0;

    if (found) {
        for (const struct list_value *value = first_value(state->entries[at]); value != NULL;
             value = value->next) {
            values[count++] = tf_slice(value->data, value->size);
        }
    }
    return count;
}

void tf_state_walk(const struct tf_state *state, struct tf_slice prefix, tf_state_fn *fn, void *ctx)
{
    bool found;

    for (size_t at = lower_bound(state, prefix, &found); at < state->count; at++) {
        struct tf_slice key = entry_key(state->entries[at]);

        if (key.size < prefix.size || !tf_slice_equal(tf_slice(key.data, prefix.size), prefix)) {
            return;
        }
        fn(ctx, key, entry_value(state->entries[at]));
    }
}

/* ---- snapshot ------------------------------------------------------------------------------- */

struct snapshot {
    struct tf_buf *chunks;
    size_t count;
    int error;
};

static void new_chunk(struct snapshot *snapshot)
{
    struct tf_buf *chunks = realloc(snapshot->chunks, (snapshot->count + 1) * sizeof *chunks);

    if (chunks == NULL) {
        snapshot->error = -ENOMEM;
        return;
    }
    tf_buf_init(&chunks[snapshot->count], TF_META_MAX - 1024);
    snapshot->chunks = chunks;
    snapshot->count++;
}

static void add_delta(struct snapshot *snapshot, enum tf_delta_op op, struct tf_slice key,
                      struct tf_slice value)
{
    struct tf_buf *chunk = &snapshot->chunks[snapshot->count - 1];

    if (snapshot->error != 0) {
        return;
    }
    if (chunk->size >= TF_SNAPSHOT_CHUNK_BYTES) {
        new_chunk(snapshot);
        if (snapshot->error != 0) {
            return;
        }
        chunk = &snapshot->chunks[snapshot->count - 1];
    }
    tf_delta_append(chunk, op, key, value);
    snapshot->error = chunk->error;
}

int tf_snapshot_new(const struct tf_state *state, struct tf_buf **chunks, size_t *count)
{
    struct snapshot snapshot = {0};

    new_chunk(&snapshot);
    for (size_t i = 0; snapshot.error == 0 && i < state->count; i++) {
        const struct tf_state_entry *entry = state->entries[i];

        if (entry->list == NULL) {
            add_delta(&snapshot, TF_DELTA_SET, entry_key(entry), entry_value(entry));
        }
        for (const struct list_value *value = first_value(entry); value != NULL;
             value = value->next) {
            add_delta(&snapshot, TF_DELTA_PUSH, entry_key(entry),
                      tf_slice(value->data, value->size));
        }
    }
    if (snapshot.error != 0) {
        tf_snapshot_free(snapshot.chunks, snapshot.count);
        return snapshot.error;
    }
    *chunks = snapshot.chunks;
    *count = snapshot.count;
    return 0;
}

void tf_snapshot_free(struct tf_buf *chunks, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        tf_buf_fini(&chunks[i]);
    }
    free(chunks);
}
