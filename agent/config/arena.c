/*
 * arena.c - memory that is freed at once: a list of zeroed chunks.
 *
 * A configuration is a few thousand small pieces that live and die together. ARENA_MAX_BYTES bounds
 * what a hostile file, or a huge environment, can make of them; past it there is "no memory".
 */
#include <stdlib.h>

#include "taffrail/base.h"
#include "taffrail/config.h"

#define CHUNK_BYTES     16384u
#define ALIGN_BYTES     16u
#define ARENA_MAX_BYTES (64u << 20)

struct chunk {
    struct chunk *next;
    size_t used_bytes, size_bytes;
    _Alignas(ALIGN_BYTES) char bytes[];
};

struct arena {
    struct chunk *newest;
    size_t total_bytes;
};

void *tf_arena_new(void)
{
    return calloc(1, sizeof(struct arena));
}

static struct chunk *add_chunk(struct arena *arena, size_t size_bytes)
{
    struct chunk *chunk = NULL;

    if (size_bytes <= ARENA_MAX_BYTES - arena->total_bytes) {
        chunk = calloc(1, sizeof *chunk + size_bytes);
    }
    if (chunk != NULL) {
        chunk->size_bytes = size_bytes;
        chunk->next = arena->newest;
        arena->newest = chunk;
        arena->total_bytes += size_bytes;
    }
    return chunk;
}

void *tf_arena_alloc(void *arena_, size_t size)
{
    struct arena *arena = arena_;
    struct chunk *chunk = arena->newest;
    void *memory;

    if (size > ARENA_MAX_BYTES) {
        return NULL;
    }
    size = (size + ALIGN_BYTES - 1) & ~(size_t)(ALIGN_BYTES - 1);
    if (chunk == NULL || size > chunk->size_bytes - chunk->used_bytes) {
        chunk = add_chunk(arena, size > CHUNK_BYTES ? size : CHUNK_BYTES);
    }
    if (chunk == NULL) {
        return NULL;
    }
    memory = chunk->bytes + chunk->used_bytes;
    chunk->used_bytes += size;
    return memory;
}

void tf_arena_free(void *arena_)
{
    struct arena *arena = arena_;

    while (arena != NULL && arena->newest != NULL) {
        struct chunk *chunk = arena->newest;

        arena->newest = chunk->next;
        free(chunk);
    }
    free(arena);
}
