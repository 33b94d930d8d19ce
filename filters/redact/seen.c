/*
 * seen.c - see seen.h. The hash takes in the size of a text, and eight bytes at its start, its
 * middle and its end.
 */
#include "seen.h"

static uint64_t mix(uint64_t hash, uint64_t word)
{
    hash = (hash ^ word) * UINT64_C(0x9e3779b97f4a7c15);
    return hash ^ hash >> 32;
}

static uint64_t hash_of(const char *text, uint32_t size)
{
    uint64_t first = tf_load64(text), hash;

    if (size < sizeof first) { /* what is read behind it does not count */
        return mix(size, size > 0 ? first << (64 - 8 * size) : 0);
    }
    hash = mix(size, first);
    hash = mix(hash, tf_load64(text + (size - sizeof first) / 2));
    return mix(hash, tf_load64(text + size - sizeof first));
}

bool tf_redact_seen_is(const struct tf_redact_seen_text *text, const char *arena, uint32_t at,
                       uint32_t size)
{
    return text->size == size &&
           (text->at == at || memcmp(arena + text->at, arena + at, size) == 0);
}

struct tf_redact_seen_text *tf_redact_seen_place(struct tf_redact_seen *seen, const char *arena,
                                                 uint32_t at, uint32_t size)
{
    return &seen->texts[hash_of(arena + at, size) % TF_REDACT_SEEN_TEXTS];
}

static bool is_main_text(struct tf_slice key)
{
    return tf_slice_equal(key, tf_slice_text("log")) ||
           tf_slice_equal(key, tf_slice_text("message")) ||
           tf_slice_equal(key, tf_slice_text("MESSAGE")) ||
           tf_slice_equal(key, tf_slice_text("msg"));
}

struct tf_redact_key *tf_redact_seen_key(struct tf_redact_seen *seen, const char *arena,
                                         uint32_t at, uint32_t size)
{
    struct tf_redact_key *keys = seen->keys[hash_of(arena + at, size) % TF_REDACT_SEEN_KEYS];
    struct tf_slice text = tf_slice(arena + at, size);

    for (int i = 0; i < 2; i++) {
        if (tf_redact_seen_is(&keys[i].text, arena, at, size)) {
            return &keys[i];
        }
    }
    keys[1] = keys[0];
    keys[0] = (struct tf_redact_key){.text = {.at = at, .size = size},
                                     .name = tf_redact_name_of(text),
                                     .names_a_name = tf_redact_names_a_name(text),
                                     .names_a_value = tf_redact_names_a_value(text),
                                     .is_main = is_main_text(text)};
    return &keys[0];
}
