/*
 * literals.c - one pass over a line for all literals.
 *
 * Three bytes of the line are looked up at every second place, as a hash in a map of bits. A
 * literal of four bytes or more covers such a place wherever it stands, so the trigrams at its
 * first two bytes are in the map, and a line that hits none holds no literal. A hit is compared
 * with the literals that have this trigram.
 *
 * The map has 64 Ki bits and some hundred of them are set: of the places that hold no trigram of a
 * literal one in 500 hits. Four places are looked up for one branch.
 */
#include "literals.h"

#include <assert.h>

#define PLACES      4u
#define PLACE_BYTES 2u

static_assert(PLACES * PLACE_BYTES + 3 < TF_LITERALS_READAHEAD_BYTES, "the last places fit");

static uint32_t load_trigram(const char *at)
{
    return tf_load32(at) & 0xffffffu;
}

static uint32_t hash(uint32_t trigram)
{
    return (trigram * 0x9e3779b1u) >> (32 - TF_LITERAL_MAP_BITS);
}

uint32_t tf_literals_add(struct tf_literals *set, struct tf_slice text)
{
    uint32_t number = set->count;

    assert(text.size >= TF_LITERAL_MIN);
    for (uint32_t i = 0; i < set->count; i++) {
        if (tf_slice_equal(set->texts[i], text)) {
            return i;
        }
    }
    assert(number < TF_LITERALS_MAX);
    set->texts[set->count++] = text;
    for (uint8_t at = 0; at < PLACE_BYTES; at++) {
        struct tf_trigram *trigram = &set->trigrams[set->trigram_count++];
        uint8_t *bucket;

        trigram->bytes = (uint8_t)text.data[at] | (uint32_t)(uint8_t)text.data[at + 1] << 8 |
                         (uint32_t)(uint8_t)text.data[at + 2] << 16;
        trigram->literal = (uint8_t)number;
        trigram->at = at;
        bucket = &set->buckets[hash(trigram->bytes) % TF_COUNT(set->buckets)];
        trigram->next = *bucket;
        *bucket = (uint8_t)set->trigram_count;
        set->map[hash(trigram->bytes) / 64] |= UINT64_C(1) << hash(trigram->bytes) % 64;
    }
    return number;
}

/* Whether a literal may have the trigram at `at`, in bit 0. */
static uint64_t look_up(const struct tf_literals *set, const char *at)
{
    uint32_t bit = hash(load_trigram(at));

    return set->map[bit / 64] >> (bit % 64);
}

/* The literals that stand where they have this trigram at `at`. */
static uint64_t compare(const struct tf_literals *set, struct tf_slice text, size_t at)
{
    uint32_t bytes = load_trigram(text.data + at);
    uint64_t found = 0;
    uint8_t next = set->buckets[hash(bytes) % TF_COUNT(set->buckets)];

    while (next != 0) {
        const struct tf_trigram *trigram = &set->trigrams[next - 1];
        struct tf_slice literal = set->texts[trigram->literal];

        if (trigram->bytes == bytes && at >= trigram->at &&
            at - trigram->at + literal.size <= text.size &&
            memcmp(text.data + at - trigram->at, literal.data, literal.size) == 0) {
            found |= UINT64_C(1) << trigram->literal;
        }
        next = trigram->next;
    }
    return found;
}

uint64_t tf_literals_find(const struct tf_literals *set, struct tf_slice text)
{
    uint64_t found = 0;

    for (size_t at = 0; at + 3 <= text.size; at += PLACES * PLACE_BYTES) {
        const char *here = text.data + at;
        uint64_t hits = look_up(set, here) | look_up(set, here + 2) | look_up(set, here + 4) |
                        look_up(set, here + 6);

        for (size_t i = 0; i < PLACES && (hits & 1) != 0; i++) {
            found |= compare(set, text, at + i * PLACE_BYTES);
        }
    }
    return found;
}
