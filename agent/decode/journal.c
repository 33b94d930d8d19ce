/*
 * journal.c - the table of an entry's fields, and the record that it becomes, per
 * docs/journal-records.md.
 *
 * Fields of one name are chained. A name is found by its hash in a small table of slots, and so are
 * the values of a name that comes again; slots of the entry before are told by an older generation,
 * so that nothing is cleared between entries. What is compared byte by byte is at most COMPARED_MAX
 * bytes of an entry, behind which values are kept without looking for their like.
 *
 * A record is fields that point into the arena, where each line of the entry, NAME=value and
 * '\n', is copied unless the same bytes are there already: most lines are those of an entry before.
 * A table of a fixed size has where lines of the batch lie; their hash only leads there. So fields
 * share text, of one record too, and nothing of it is changed (batch.h). A value that is too long
 * is shared with none, and is cut where it lies: behind its head stands "[N bytes left out]" and
 * '\n', and the record's `cut` has the head's end searched for secrets and then taken out, as in a
 * line that is too long. A record has one cut; a second value that is too long is left out whole.
 */
#include "journal_internal.h"

#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <stdio.h>

#include "taffrail/decode.h"

#define COMPARED_MAX   (32u << 20)
#define US_IN_NS       1000u
#define TIME_MAX_US    ((UINT64_C(1) << 32) * 1000000u) /* an event's time ends in 2106 */
#define DIGITS_MAX     20u
#define AROUND_BYTES   4096u /* before a cut, only there to be searched */
#define MARK_BYTES_MAX 64u   /* "[N bytes left out]" */
#define MORE_FIELDS    32u   /* of a record, beside its journald */
#define MORE_BYTES     (8u << 10)
#define GENERATION_MAX ((UINT32_MAX >> 12) - 1)
#define FIELD_BITS     0xfffu
#define PRIORITIES     8

static_assert(TF_ENTRY_FIELDS_MAX * 2 <= TF_ENTRY_SLOTS, "half of the slots are free");
static_assert(TF_ENTRY_FIELDS_MAX < FIELD_BITS, "a slot holds a field's number");
static_assert(TF_JOURNAL_ENTRY_MAX + (1u << 20) < TF_BATCH_TEXT_MAX,
              "an empty batch has room for any entry");

/* By rising size; FIRST_OF_SIZE finds the few of a size. */
static const struct tf_slice NAMES[TF_NAMES] = {
    [TF_NAME_PID] = {"_PID", 4},
    [TF_NAME_UID] = {"_UID", 4},
    [TF_NAME_UNIT] = {"UNIT", 4},
    [TF_NAME_COMM] = {"_COMM", 5},
    [TF_NAME_MESSAGE] = {"MESSAGE", 7},
    [TF_NAME_PRIORITY] = {"PRIORITY", 8},
    [TF_NAME_BOOT_ID] = {"_BOOT_ID", 8},
    [TF_NAME_CURSOR] = {"__CURSOR", 8},
    [TF_NAME_HOSTNAME] = {"_HOSTNAME", 9},
    [TF_NAME_N_DROPPED] = {"N_DROPPED", 9},
    [TF_NAME_MESSAGE_ID] = {"MESSAGE_ID", 10},
    [TF_NAME_TRANSPORT] = {"_TRANSPORT", 10},
    [TF_NAME_SYSLOG_PID] = {"SYSLOG_PID", 10},
    [TF_NAME_CONTAINER_ID] = {"CONTAINER_ID", 12},
    [TF_NAME_SYSTEMD_UNIT] = {"_SYSTEMD_UNIT", 13},
    [TF_NAME_COREDUMP_UNIT] = {"COREDUMP_UNIT", 13},
    [TF_NAME_CONTAINER_NAME] = {"CONTAINER_NAME", 14},
    [TF_NAME_IDENTIFIER] = {"SYSLOG_IDENTIFIER", 17},
    [TF_NAME_CONTAINER_ID_FULL] = {"CONTAINER_ID_FULL", 17},
    [TF_NAME_USER_UNIT] = {"_SYSTEMD_USER_UNIT", 18},
    [TF_NAME_OBJECT_UNIT] = {"OBJECT_SYSTEMD_UNIT", 19},
    [TF_NAME_REALTIME] = {"__REALTIME_TIMESTAMP", 20},
    [TF_NAME_INVOCATION_ID] = {"_SYSTEMD_INVOCATION_ID", 22},
    [TF_NAME_SOURCE_REALTIME] = {"_SOURCE_REALTIME_TIMESTAMP", 26},
};
static const uint8_t FIRST_OF_SIZE[TF_JOURNAL_NAME_MAX + 1] = {
    [4] = TF_NAME_PID + 1,
    [5] = TF_NAME_COMM + 1,
    [7] = TF_NAME_MESSAGE + 1,
    [8] = TF_NAME_PRIORITY + 1,
    [9] = TF_NAME_HOSTNAME + 1,
    [10] = TF_NAME_MESSAGE_ID + 1,
    [12] = TF_NAME_CONTAINER_ID + 1,
    [13] = TF_NAME_SYSTEMD_UNIT + 1,
    [14] = TF_NAME_CONTAINER_NAME + 1,
    [17] = TF_NAME_IDENTIFIER + 1,
    [18] = TF_NAME_USER_UNIT + 1,
    [19] = TF_NAME_OBJECT_UNIT + 1,
    [20] = TF_NAME_REALTIME + 1,
    [22] = TF_NAME_INVOCATION_ID + 1,
    [26] = TF_NAME_SOURCE_REALTIME + 1,
};

/* ---- the table ---------------------------------------------------------------------------------
 */

static uint64_t mix(uint64_t hash, uint64_t word)
{
    hash = (hash ^ word) * UINT64_C(0x9e3779b97f4a7c15);
    return hash ^ hash >> 29;
}

static uint64_t load_word(const char *at)
{
    uint64_t word;

    memcpy(&word, at, sizeof word);
    return word;
}

/* Never 0. Where an entry lies in memory is its seed: a sender does not know it, and cannot choose
 * names or values that all want the same slot. */
static uint32_t hash_bytes(uint64_t seed, const char *data, size_t size)
{
    uint64_t hash = seed ^ size, word = 0;
    size_t at = 0;

    for (; at + sizeof word <= size; at += sizeof word) {
        hash = mix(hash, load_word(data + at));
    }
    if (size >= sizeof word) {
        hash = mix(hash, load_word(data + size - sizeof word));
    } else {
        for (; at < size; at++) {
            word = word << 8 | (uint8_t)data[at];
        }
        hash = mix(hash, word);
    }
    return (uint32_t)(hash >> 32) | 1;
}

static void clear_slots(struct tf_entry *entry)
{
    memset(entry->slots, 0, sizeof entry->slots);
    memset(entry->values, 0, sizeof entry->values);
    entry->generation = 0;
}

void tf_entry_init(struct tf_entry *entry)
{
    clear_slots(entry);
    entry->seed = mix((uintptr_t)entry, (uintptr_t)&clear_slots);
    tf_entry_begin(entry);
}

void tf_entry_begin(struct tf_entry *entry)
{
    if (entry->generation == GENERATION_MAX) { /* it went round: no old slot may look new */
        clear_slots(entry);
    }
    entry->generation++;
    entry->count = 0;
    entry->names = 0;
    entry->is_malformed = false;
    entry->is_truncated = false;
    entry->compared_bytes = 0;
    memset(entry->known, 0xff, sizeof entry->known); /* TF_ENTRY_NONE */
}

const bool tf_entry_name_bytes[256] = {
    ['0'] = true, ['1'] = true, ['2'] = true, ['3'] = true, ['4'] = true, ['5'] = true,
    ['6'] = true, ['7'] = true, ['8'] = true, ['9'] = true, ['A'] = true, ['B'] = true,
    ['C'] = true, ['D'] = true, ['E'] = true, ['F'] = true, ['G'] = true, ['H'] = true,
    ['I'] = true, ['J'] = true, ['K'] = true, ['L'] = true, ['M'] = true, ['N'] = true,
    ['O'] = true, ['P'] = true, ['Q'] = true, ['R'] = true, ['S'] = true, ['T'] = true,
    ['U'] = true, ['V'] = true, ['W'] = true, ['X'] = true, ['Y'] = true, ['Z'] = true,
    ['_'] = true,
};

bool tf_entry_is_name(struct tf_slice name)
{
    for (size_t i = 0; i < name.size; i++) {
        if (!tf_entry_name_bytes[(uint8_t)name.data[i]]) {
            return false;
        }
    }
    return name.size > 0 && name.size <= TF_JOURNAL_NAME_MAX;
}

/* The slot of a name: where its first field is, or where it belongs. */
static uint32_t find_slot(const struct tf_entry *entry, const char *bytes, struct tf_slice name,
                          uint32_t hash)
{
    uint32_t at = hash / 2 % TF_ENTRY_SLOTS;

    for (;; at = (at + 1) % TF_ENTRY_SLOTS) {
        const struct tf_entry_field *field;

        if (entry->slots[at] >> 12 != entry->generation) {
            return at;
        }
        field = &entry->fields[entry->slots[at] & FIELD_BITS];
        if (field->name_hash == hash && field->name_size == name.size &&
            memcmp(bytes + field->name_at, name.data, name.size) == 0) {
            return at;
        }
    }
}

uint16_t tf_entry_find(const struct tf_entry *entry, const char *bytes, struct tf_slice name)
{
    uint32_t slot = find_slot(entry, bytes, name, hash_bytes(entry->seed, name.data, name.size));

    return entry->slots[slot] >> 12 == entry->generation ? entry->slots[slot] & FIELD_BITS
                                                         : TF_ENTRY_NONE;
}

static void note_known(struct tf_entry *entry, struct tf_slice name, uint16_t number)
{
    uint8_t at = FIRST_OF_SIZE[name.size];

    for (; at > 0 && at <= TF_NAMES && NAMES[at - 1].size == name.size; at++) {
        if (memcmp(NAMES[at - 1].data, name.data, name.size) == 0) {
            entry->known[at - 1] = number;
            return;
        }
    }
}

/* Whether two values of one name are the same. */
static bool is_same(struct tf_entry *entry, const char *bytes, const struct tf_entry_field *a,
                    const struct tf_entry_field *b)
{
    if (a->first != b->first || a->value_hash != b->value_hash || a->value_size != b->value_size ||
        entry->compared_bytes > COMPARED_MAX) {
        return false;
    }
    entry->compared_bytes += a->value_size;
    return memcmp(bytes + a->value_at, bytes + b->value_at, a->value_size) == 0;
}

/* Notes a field's value; false when its name has it already. Values that are cut are all new. */
static bool note_value(struct tf_entry *entry, const char *bytes, uint16_t number)
{
    struct tf_entry_field *field = &entry->fields[number];
    uint32_t at;

    if (field->value_size > TF_JOURNAL_FIELD_MAX) {
        return true;
    }
    field->value_hash =
        hash_bytes(entry->seed + field->first, bytes + field->value_at, field->value_size);
    at = field->value_hash / 2 % TF_ENTRY_SLOTS;
    for (; entry->values[at] >> 12 == entry->generation; at = (at + 1) % TF_ENTRY_SLOTS) {
        if (is_same(entry, bytes, &entry->fields[entry->values[at] & FIELD_BITS], field)) {
            return false;
        }
    }
    entry->values[at] = entry->generation << 12 | number;
    return true;
}

/* Chains a further value of a name, if it is new. */
static bool add_further(struct tf_entry *entry, const char *bytes, uint16_t number)
{
    struct tf_entry_field *head = &entry->fields[entry->fields[number].first];

    if (head->count == 1) {
        (void)note_value(entry, bytes, head->first);
    }
    if (!note_value(entry, bytes, number)) {
        return false;
    }
    entry->fields[head->last].next = number;
    head->last = number;
    head->count++;
    return true;
}

static bool has_place(const struct tf_entry *entry, char first_of_name)
{
    return entry->count < (first_of_name == '_' ? TF_ENTRY_FIELDS_MAX : TF_JOURNAL_FIELDS_MAX);
}

void tf_entry_add(struct tf_entry *entry, const char *bytes, uint32_t name_at, uint32_t name_size,
                  uint32_t value_at, uint32_t value_size)
{
    struct tf_slice name = tf_slice(bytes + name_at, name_size);
    uint32_t hash = hash_bytes(entry->seed, name.data, name.size),
             slot = find_slot(entry, bytes, name, hash);
    bool is_first = entry->slots[slot] >> 12 != entry->generation;
    uint16_t number = (uint16_t)entry->count, first = entry->slots[slot] & FIELD_BITS;
    struct tf_entry_field *field = &entry->fields[number];

    if (!has_place(entry, name.data[0])) {
        entry->is_truncated = true;
        return;
    }
    *field = (struct tf_entry_field){.name_at = name_at,
                                     .value_at = value_at,
                                     .value_size = value_size,
                                     .name_hash = hash,
                                     .next = TF_ENTRY_NONE,
                                     .first = is_first ? number : first,
                                     .last = number,
                                     .count = 1,
                                     .name_size = (uint8_t)name_size,
                                     .is_first = is_first};
    if (is_first) {
        entry->slots[slot] = entry->generation << 12 | number;
        entry->names++;
        note_known(entry, name, number);
    } else if (!add_further(entry, bytes, number)) {
        return;
    }
    entry->is_truncated = entry->is_truncated || value_size > TF_JOURNAL_FIELD_MAX;
    entry->count++;
}

struct tf_slice tf_entry_value(const struct tf_entry *entry, const char *bytes, uint16_t field)
{
    uint32_t size;

    if (field == TF_ENTRY_NONE) {
        return tf_slice(NULL, 0);
    }
    size = entry->fields[field].value_size;
    return tf_slice(bytes + entry->fields[field].value_at,
                    size < TF_JOURNAL_FIELD_MAX ? size : TF_JOURNAL_FIELD_MAX);
}

bool tf_entry_digits(struct tf_slice text, uint64_t *value)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < text.size; i++) {
        unsigned digit = (unsigned)(uint8_t)text.data[i] - '0';

        if (digit > 9 || i == DIGITS_MAX || sum > (UINT64_MAX - digit) / 10) {
            return false;
        }
        sum = sum * 10 + digit;
    }
    *value = sum;
    return text.size > 0;
}

/* ---- the record --------------------------------------------------------------------------------
 */

/* One record on its way into a batch. */
struct emit {
    struct tf_entry *entry;
    const struct tf_entry_bytes *from;
    struct tf_batch *batch;
    struct tf_cut cut; /* of the value that was too long */
};

static const char *bytes_of(const struct emit *emit)
{
    return emit->from->bytes != NULL ? emit->from->bytes
                                     : emit->batch->text.data + emit->from->arena_at;
}

static struct tf_slice known(const struct emit *emit, enum tf_entry_name name)
{
    return tf_entry_known(emit->entry, bytes_of(emit), name);
}

/* A field that is known, with a value short enough to be told once more, or TF_ENTRY_NONE. */
static uint16_t short_field(const struct emit *emit, enum tf_entry_name name)
{
    uint16_t field = emit->entry->known[name];

    return field != TF_ENTRY_NONE && emit->entry->fields[field].value_size < AROUND_BYTES
               ? field
               : TF_ENTRY_NONE;
}

static struct tf_slice short_value(const struct emit *emit, enum tf_entry_name name)
{
    return tf_entry_value(emit->entry, bytes_of(emit), short_field(emit, name));
}

/* Where a field's value lies in the arena. */
static uint32_t value_at(const struct tf_entry_field *field)
{
    return field->lies_at + (field->value_at - field->name_at);
}

static int64_t time_of(const struct emit *emit, int64_t now_ns)
{
    static const enum tf_entry_name names[] = {TF_NAME_SOURCE_REALTIME, TF_NAME_REALTIME};
    uint64_t us;

    for (size_t i = 0; i < TF_COUNT(names); i++) {
        if (tf_entry_digits(known(emit, names[i]), &us) && us < TIME_MAX_US) {
            return (int64_t)(us * US_IN_NS);
        }
    }
    return now_ns;
}

static bool is_continuation(char byte)
{
    return ((uint8_t)byte & 0xc0) == 0x80;
}

/* Writes what is left out at `at`, over what stands there; returns its size. */
static uint32_t write_mark(char *at, uint64_t left_out)
{
    char text[MARK_BYTES_MAX];
    int size = snprintf(text, sizeof text, "[%llu bytes left out]\n", (unsigned long long)left_out);

    assert(size > 0 && size < (int)sizeof text);
    memcpy(at, text, (size_t)size);
    return (uint32_t)size - 1;
}

static void cut_value(struct emit *emit, struct tf_field *field, const struct tf_entry_field *from)
{
    char *text = emit->batch->text.data + field->value.text.at;
    uint32_t head = TF_JOURNAL_FIELD_MAX - MARK_BYTES_MAX, shown = head - AROUND_BYTES;

    if (emit->cut.to > 0) {
        field->value.text.size = write_mark(text, from->value_size);
        return;
    }
    for (unsigned i = 0; i < 3 && is_continuation(text[shown]); i++) {
        shown--;
    }
    field->value.text.size = head + write_mark(text + head, from->value_size - shown);
    emit->cut = (struct tf_cut){.field = emit->batch->field_count - 1,
                                .from = shown,
                                .mark_at = head,
                                .mark_end = field->value.text.size,
                                .to = field->value.text.size};
}

/* Adds one value; key_size 0: as an item. False: the batch is full. */
static bool add_value(struct emit *emit, uint32_t key_at, uint32_t key_size,
                      const struct tf_entry_field *from)
{
    struct tf_field *field = tf_batch_add_field(emit->batch, key_at, key_size, TF_VALUE_TEXT);

    if (field == NULL) {
        return false;
    }
    field->value.text.at = value_at(from);
    field->value.text.size = from->value_size;
    if (from->value_size > TF_JOURNAL_FIELD_MAX) {
        cut_value(emit, field, from);
    }
    return true;
}

/* Adds all values of a name from `at` on: one, or an array. */
static bool add_values(struct emit *emit, uint16_t at, uint32_t count)
{
    const struct tf_entry_field *fields = emit->entry->fields, *from = &fields[at];
    uint32_t key_at = from->lies_at, key_size = from->name_size;
    struct tf_field *array;

    if (count == 1) {
        return add_value(emit, key_at, key_size, from);
    }
    array = tf_batch_add_field(emit->batch, key_at, key_size, TF_VALUE_ARRAY);
    if (array == NULL) {
        return false;
    }
    array->value.count = count;
    for (; at != TF_ENTRY_NONE; at = fields[at].next) {
        if (!add_value(emit, key_at, 0, &fields[at])) {
            return false;
        }
    }
    return true;
}

/* Every field of the entry; of MESSAGE what is not in `log`. */
static bool add_journald(struct emit *emit)
{
    const struct tf_entry *entry = emit->entry;
    uint16_t message = entry->known[TF_NAME_MESSAGE];
    bool leaves_message = message != TF_ENTRY_NONE && entry->fields[message].count == 1;
    uint32_t names = entry->names - leaves_message;
    struct tf_field *map;

    if (names == 0) {
        return true;
    }
    map = tf_batch_add_field(
        emit->batch, emit->batch->words + (uint32_t)offsetof(struct tf_batch_words, journald),
        sizeof(((struct tf_batch_words *)0)->journald) - 1, TF_VALUE_MAP);
    if (map == NULL) {
        return false;
    }
    map->value.count = names;
    for (uint16_t i = 0; i < entry->count; i++) {
        const struct tf_entry_field *field = &entry->fields[i];
        bool is_message = i == message, ok;

        if (!field->is_first || (is_message && leaves_message)) {
            continue;
        }
        ok = is_message ? add_values(emit, field->next, field->count - 1u)
                        : add_values(emit, i, field->count);
        if (!ok) {
            return false;
        }
    }
    return true;
}

#define WORD(name) offsetof(struct tf_batch_words, name), sizeof(((struct tf_batch_words *)0)->name)

/* A field whose key is one of the batch's words. size counts the word's '\n'. */
static struct tf_field *add_word(struct emit *emit, size_t at, size_t size, enum tf_value_type type)
{
    return tf_batch_add_field(emit->batch, emit->batch->words + (uint32_t)at, (uint32_t)size - 1,
                              type);
}

/* A value once more, under a name of ours: the same text. */
static int add_again(struct emit *emit, size_t word_at, size_t word_size, uint16_t number)
{
    const struct tf_entry_field *from;
    struct tf_field *field;

    if (number == TF_ENTRY_NONE || emit->entry->fields[number].value_size == 0) {
        return 0;
    }
    from = &emit->entry->fields[number];
    field = add_word(emit, word_at, word_size, TF_VALUE_TEXT);
    if (field == NULL) {
        return -EMSGSIZE;
    }
    field->value.text.at = value_at(from);
    field->value.text.size = from->value_size;
    emit->batch->shared_bytes += from->value_size;
    return 0;
}

static int add_severity(struct emit *emit)
{
    static const struct {
        size_t at, size;
    } words[PRIORITIES] = {{WORD(emergency)}, {WORD(alert)},  {WORD(critical)}, {WORD(error)},
                           {WORD(warning)},   {WORD(notice)}, {WORD(info)},     {WORD(debug)}};
    struct tf_slice value = known(emit, TF_NAME_PRIORITY);
    struct tf_field *field;
    unsigned priority;

    if (value.size != 1 || value.data[0] < '0' || value.data[0] >= '0' + PRIORITIES) {
        return 0;
    }
    priority = (unsigned)(value.data[0] - '0');
    field = add_word(emit, WORD(severity), TF_VALUE_TEXT);
    if (field == NULL) {
        return -EMSGSIZE;
    }
    field->value.text.at = emit->batch->words + (uint32_t)words[priority].at;
    field->value.text.size = (uint32_t)words[priority].size - 1;
    return 0;
}

static int add_pid(struct emit *emit)
{
    struct tf_slice value = known(emit, TF_NAME_PID);
    struct tf_field *field;
    uint64_t pid;

    if (value.size == 0) {
        value = known(emit, TF_NAME_SYSLOG_PID);
    }
    if (!tf_entry_digits(value, &pid) || pid > INT64_MAX) {
        return 0;
    }
    field = add_word(emit, WORD(pid), TF_VALUE_INT);
    if (field == NULL) {
        return -EMSGSIZE;
    }
    field->value.i = (int64_t)pid;
    return 0;
}

/* The first of two known fields that has a value. */
static uint16_t either(const struct emit *emit, enum tf_entry_name a, enum tf_entry_name b)
{
    return short_value(emit, a).size > 0 ? short_field(emit, a) : short_field(emit, b);
}

static bool is_short_id(struct tf_slice text)
{
    for (size_t i = 0; i < text.size; i++) {
        if ((text.data[i] < 'a' || text.data[i] > 'f') &&
            (text.data[i] < '0' || text.data[i] > '9')) {
            return false;
        }
    }
    return text.size >= 12 && text.size <= 64;
}

/*
 * Whether the entry is of a container runtime that may say whose output it is: CONTAINER_* are what
 * the sender claims. Of root, and in a unit that only holds the runtime: containers are in
 * scopes of their own, so that one which reaches the journal's socket is not believed.
 */
static bool is_runtime(const struct emit *emit)
{
    static const char *const units[] = {
        "docker.service", "snap.docker.dockerd.service", "podman.service",     "containerd.service",
        "crio.service",   "libpod-conmon-*.scope",       "crio-conmon-*.scope"};
    struct tf_slice unit = short_value(emit, TF_NAME_SYSTEMD_UNIT);

    if (!tf_slice_equal(known(emit, TF_NAME_UID), tf_slice_text("0"))) {
        return false;
    }
    for (size_t i = 0; i < TF_COUNT(units); i++) {
        if (tf_glob_match(units[i], unit, '\0')) {
            return true;
        }
    }
    return false;
}

/* Docker's name of a container of Kubernetes: k8s_CONTAINER_POD_NAMESPACE_UID_ATTEMPT. */
static bool parse_pod(struct tf_slice name, struct tf_log_path *out)
{
    struct tf_slice *const parts[] = {&out->container_name, &out->pod_name, &out->namespace_name,
                                      &out->pod_uid};
    uint64_t attempt;

    if (name.size < 4 || memcmp(name.data, "k8s_", 4) != 0) {
        return false;
    }
    name = tf_slice(name.data + 4, name.size - 4);
    for (size_t i = 0; i < TF_COUNT(parts); i++) {
        const char *end = name.size > 0 ? memchr(name.data, '_', name.size) : NULL;

        if (end == NULL || end == name.data) {
            return false;
        }
        *parts[i] = tf_slice(name.data, (size_t)(end - name.data));
        name = tf_slice(end + 1, name.size - parts[i]->size - 1);
    }
    if (!tf_entry_digits(name, &attempt) || attempt > UINT32_MAX) {
        return false;
    }
    out->has_restart_count = true;
    out->restart_count = (uint32_t)attempt;
    return true;
}

static struct tf_slice container_id(const struct emit *emit)
{
    return tf_entry_value(emit->entry, bytes_of(emit),
                          either(emit, TF_NAME_CONTAINER_ID_FULL, TF_NAME_CONTAINER_ID));
}

static int add_container(struct emit *emit)
{
    struct tf_slice id = container_id(emit), name = short_value(emit, TF_NAME_CONTAINER_NAME);
    struct tf_log_path path = {.has_restart_count = false};
    bool has_pod = false;
    int rc;

    if ((id.size == 0 && name.size == 0) || !is_runtime(emit)) {
        return 0;
    }
    rc = tf_buf_reserve(&emit->batch->text, MORE_BYTES * 2); /* so that nothing moves below */
    if (rc < 0) {
        emit->batch->text.error = 0;
        return rc;
    }
    id = container_id(emit);
    name = short_value(emit, TF_NAME_CONTAINER_NAME);
    has_pod = parse_pod(name, &path);
    if (!has_pod) {
        path = (struct tf_log_path){.has_restart_count = false};
    }
    if (is_short_id(id)) {
        path.container_id = id;
    }
    rc = tf_log_path_describe(&path, NULL, emit->batch);
    if (rc == 0 && !has_pod) {
        rc = add_again(emit, WORD(container_name), short_field(emit, TF_NAME_CONTAINER_NAME));
    }
    return rc;
}

static int add_fields(struct emit *emit, bool keeps_host)
{
    uint16_t message = emit->entry->known[TF_NAME_MESSAGE];
    int rc = 0;

    if (message != TF_ENTRY_NONE &&
        !add_value(emit, emit->batch->key_log, 3, &emit->entry->fields[message])) {
        return -EMSGSIZE;
    }
    rc = add_severity(emit);
    if (rc == 0) {
        rc = add_again(emit, WORD(unit), either(emit, TF_NAME_SYSTEMD_UNIT, TF_NAME_USER_UNIT));
    }
    if (rc == 0) {
        rc = add_again(emit, WORD(identifier), either(emit, TF_NAME_IDENTIFIER, TF_NAME_COMM));
    }
    if (rc == 0) {
        rc = add_pid(emit);
    }
    if (rc == 0) {
        rc = add_again(emit, WORD(boot_id), short_field(emit, TF_NAME_BOOT_ID));
    }
    if (rc == 0 && keeps_host) {
        rc = add_again(emit, WORD(host), short_field(emit, TF_NAME_HOSTNAME));
    }
    if (rc == 0) {
        rc = add_container(emit);
    }
    return rc < 0 ? rc : add_journald(emit) ? 0 : -EMSGSIZE;
}

static bool has_room(const struct tf_entry *entry, const struct tf_entry_bytes *from,
                     const struct tf_batch *batch)
{
    size_t copied = from->bytes != NULL ? from->size : 0;

    return batch->record_count < TF_BATCH_RECORDS_MAX &&
           batch->field_count + 2 * entry->count + MORE_FIELDS <= TF_BATCH_FIELDS_MAX &&
           batch->text.size + copied + 8 * MORE_BYTES <= batch->text.limit_bytes;
}

static void mark_record(struct emit *emit, struct tf_record *record, uint64_t true_bytes)
{
    if (emit->entry->is_malformed) {
        record->flags |= TF_RECORD_MALFORMED;
        emit->batch->malformed++;
    }
    if (emit->entry->is_truncated) {
        record->flags |= TF_RECORD_TRUNCATED;
        record->true_bytes = true_bytes < UINT32_MAX ? (uint32_t)true_bytes : UINT32_MAX;
        record->cut = emit->cut;
        emit->batch->truncated++;
    }
}

/* The place of a line in the table; `size` counts its '\n'. */
static struct tf_entry_line *place_of(struct tf_entry_lines *lines,
                                      const struct tf_entry_field *field, const char *line,
                                      uint32_t size)
{
    uint64_t hash = mix(field->name_hash, size);

    if (size >= sizeof hash) {
        hash = mix(hash, load_word(line + (size - sizeof hash)));
        hash = mix(hash, load_word(line + (size - sizeof hash) / 2));
    }
    return &lines->items[(hash >> 32) % TF_ENTRY_LINES];
}

/* Points the field at its line in the arena, which is copied there unless its like is known. There
 * is room. */
static void lay_line(struct emit *emit, struct tf_entry_field *field)
{
    struct tf_buf *text = &emit->batch->text;
    const char *line = emit->from->bytes + field->name_at;
    bool is_long = field->value_size > TF_JOURNAL_FIELD_MAX;
    uint32_t value = is_long ? TF_JOURNAL_FIELD_MAX : field->value_size;
    uint32_t size = field->value_at - field->name_at + value + 1;
    struct tf_entry_line *known = place_of(emit->from->lines, field, line, size);

    if (!is_long && known->size == size && memcmp(text->data + known->at, line, size) == 0) {
        field->lies_at = known->at;
        emit->batch->shared_bytes += size;
        return;
    }
    field->lies_at = (uint32_t)text->size;
    (void)tf_buf_append(text, line, size);
    if (is_long) { /* it is cut where it lies, and so is shared with none */
        text->data[text->size - 1] = '\n';
    } else {
        *known = (struct tf_entry_line){.at = field->lies_at, .size = size};
    }
}

/* Sees to it that all fields lie in the arena. Returns 0 or -ENOMEM. */
static int lay_lines(struct emit *emit)
{
    const struct tf_entry_bytes *from = emit->from;
    int rc;

    if (from->bytes == NULL) {
        for (uint32_t i = 0; i < emit->entry->count; i++) {
            emit->entry->fields[i].lies_at = from->arena_at + emit->entry->fields[i].name_at;
        }
        return 0;
    }
    rc = tf_buf_reserve(&emit->batch->text, from->size); /* lines are parts of it */
    for (uint32_t i = 0; rc == 0 && i < emit->entry->count; i++) {
        lay_line(emit, &emit->entry->fields[i]);
    }
    return rc;
}

int tf_entry_emit(struct tf_entry *entry, const struct tf_entry_bytes *from, struct tf_batch *batch)
{
    struct emit emit = {.entry = entry, .from = from, .batch = batch};
    int rc = 0;

    if (!has_room(entry, from, batch)) {
        return -EMSGSIZE;
    }
    rc = lay_lines(&emit);
    if (rc < 0 || tf_batch_add_record(batch, 0, TF_STREAM_OTHER) == NULL) {
        batch->text.error = 0;
        return -ENOMEM;
    }
    rc = add_fields(&emit, from->keeps_host);
    if (rc < 0) {
        tf_batch_undo_record(batch);
        return -ENOMEM; /* room was seen before */
    }
    batch->records[batch->record_count - 1].time_ns = time_of(&emit, from->now_ns);
    mark_record(&emit, &batch->records[batch->record_count - 1], from->true_bytes);
    return 0;
}

void tf_entry_drop_text(struct tf_batch *batch, size_t at)
{
    explicit_bzero(batch->text.data + at, batch->text.size - at);
    batch->text.size = at;
}
