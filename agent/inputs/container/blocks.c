/*
 * blocks.c - buffers for blocks, shared by all jobs: as many as jobs run at once, so that an idle
 * file has none.
 */
#include "internal.h"

#include <stdlib.h>

#define POOL_MAX 16u

struct tf_block_pool {
    uv_mutex_t mutex;
    struct tf_buf *free[POOL_MAX];
    unsigned count;
};

struct tf_block_pool *tf_block_pool_new(void)
{
    struct tf_block_pool *pool = calloc(1, sizeof *pool);

    if (pool != NULL && uv_mutex_init(&pool->mutex) < 0) {
        free(pool);
        pool = NULL;
    }
    return pool;
}

static void block_free(struct tf_buf *block)
{
    if (block != NULL) {
        tf_buf_fini(block);
        free(block);
    }
}

void tf_block_pool_free(struct tf_block_pool *pool)
{
    if (pool == NULL) {
        return;
    }
    while (pool->count > 0) {
        block_free(pool->free[--pool->count]);
    }
    uv_mutex_destroy(&pool->mutex);
    free(pool);
}

struct tf_buf *tf_block_get(struct tf_block_pool *pool)
{
    struct tf_buf *block = NULL;

    uv_mutex_lock(&pool->mutex);
    if (pool->count > 0) {
        block = pool->free[--pool->count];
    }
    uv_mutex_unlock(&pool->mutex);
    if (block != NULL) {
        return block;
    }
    block = calloc(1, sizeof *block);
    if (block == NULL) {
        return NULL;
    }
    tf_buf_init(block, TF_BLOCK_BYTES + TF_PRINT_BYTES);
    if (tf_buf_reserve(block, TF_BLOCK_BYTES + TF_PRINT_BYTES) < 0) {
        block_free(block);
        return NULL;
    }
    return block;
}

void tf_block_put(struct tf_block_pool *pool, struct tf_buf *block)
{
    explicit_bzero(block->data, block->size); /* it may hold what redaction takes out */
    tf_buf_clear(block);
    uv_mutex_lock(&pool->mutex);
    if (pool->count < POOL_MAX) {
        pool->free[pool->count++] = block;
        block = NULL;
    }
    uv_mutex_unlock(&pool->mutex);
    block_free(block);
}
