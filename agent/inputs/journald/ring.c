/*
 * ring.c - datagrams that arrived, kept until they are durable.
 */
#include "ring.h"

#include <assert.h>
#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#define ITEM_BYTES 64u /* a head, and what every item is a multiple of */
#define PAD_ITEM   UINT32_MAX
#define PAGE_BYTES 4096u
#define GIVE_BYTES (256u << 10) /* memory is given back in such pieces: each costs a call */

/* What is held, what is passed over at the end, and one datagram more. */
#define RING_BYTES (32u << 20)
static_assert(TF_RING_HELD_MAX + 3 * (uint64_t)(TF_DATAGRAM_MAX + ITEM_BYTES) < RING_BYTES,
              "the newest item never reaches the oldest");
static_assert(sizeof(struct tf_ring_item) <= ITEM_BYTES, "a head has room");
static_assert(RING_BYTES % GIVE_BYTES == 0, "a piece has one place");

static struct tf_ring_item *item_at(const struct tf_ring *ring, uint64_t at)
{
    return (struct tf_ring_item *)(void *)(ring->memory + at % RING_BYTES);
}

static uint64_t item_bytes(const struct tf_ring_item *item)
{
    uint64_t bytes = (uint64_t)ITEM_BYTES + item->bytes;

    return (bytes + ITEM_BYTES - 1) / ITEM_BYTES * ITEM_BYTES;
}

int tf_ring_init(struct tf_ring *ring)
{
    void *memory = mmap(NULL, RING_BYTES, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    *ring = (struct tf_ring){.memory = memory == MAP_FAILED ? NULL : memory};
    return memory == MAP_FAILED ? -ENOMEM : 0;
}

void tf_ring_fini(struct tf_ring *ring)
{
    if (ring->memory != NULL) {
        tf_ring_release(ring, ring->arrived);
        assert(ring->held_items == 0 && ring->held_fds == 0 && ring->held_bytes == 0);
        (void)munmap(ring->memory, RING_BYTES);
        ring->memory = NULL;
    }
}

bool tf_ring_has_room(const struct tf_ring *ring)
{
    return ring->held_bytes < TF_RING_HELD_MAX && ring->held_fds < TF_RING_FDS_MAX;
}

struct tf_ring_item *tf_ring_next(struct tf_ring *ring)
{
    uint64_t left = RING_BYTES - ring->arrived % RING_BYTES;

    assert(tf_ring_has_room(ring));
    if (left < ITEM_BYTES + TF_DATAGRAM_MAX) {
        item_at(ring, ring->arrived)->bytes = PAD_ITEM;
        ring->arrived += left;
    }
    assert(ring->arrived + ITEM_BYTES + TF_DATAGRAM_MAX - ring->durable <= RING_BYTES);
    return item_at(ring, ring->arrived);
}

char *tf_ring_data(const struct tf_ring_item *item)
{
    return (char *)(uintptr_t)item + ITEM_BYTES;
}

void tf_ring_keep(struct tf_ring *ring)
{
    const struct tf_ring_item *item = item_at(ring, ring->arrived);

    assert(item->bytes <= TF_DATAGRAM_MAX);
    ring->held_items++;
    ring->held_fds += item->fd >= 0;
    ring->held_bytes += item_bytes(item);
    ring->arrived += item_bytes(item);
}

void tf_ring_drop(struct tf_ring *ring)
{
    char *data = tf_ring_data(item_at(ring, ring->arrived));
    size_t before_page = -(uintptr_t)data % PAGE_BYTES;

    explicit_bzero(data, before_page);
    (void)madvise(data + before_page, (TF_DATAGRAM_MAX - before_page) / PAGE_BYTES * PAGE_BYTES,
                  MADV_DONTNEED);
}

const struct tf_ring_item *tf_ring_walk(const struct tf_ring *ring, uint64_t *at, uint64_t to)
{
    const struct tf_ring_item *item;

    if (*at < to && item_at(ring, *at)->bytes == PAD_ITEM) {
        *at += RING_BYTES - *at % RING_BYTES;
    }
    if (*at >= to) {
        return NULL;
    }
    item = item_at(ring, *at);
    *at += item_bytes(item);
    return item;
}

/* Whole pieces that nothing lies in any more. */
static void give_back(struct tf_ring *ring)
{
    for (; ring->given + GIVE_BYTES <= ring->durable; ring->given += GIVE_BYTES) {
        (void)madvise(ring->memory + ring->given % RING_BYTES, GIVE_BYTES, MADV_DONTNEED);
    }
}

void tf_ring_release(struct tf_ring *ring, uint64_t to)
{
    uint64_t at = ring->durable;
    const struct tf_ring_item *item;

    assert(to <= ring->arrived);
    while ((item = tf_ring_walk(ring, &at, to)) != NULL) {
        if (item->fd >= 0) {
            (void)close(item->fd);
            ring->held_fds--;
        }
        ring->held_items--;
        ring->held_bytes -= item_bytes(item);
        explicit_bzero(tf_ring_data(item), item->bytes);
    }
    ring->durable = to > ring->durable ? to : ring->durable;
    ring->handed = ring->handed < ring->durable ? ring->durable : ring->handed;
    give_back(ring);
}
