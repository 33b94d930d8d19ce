/*
 * cache.c - the newest durable frames, kept for all feeds: a caught-up output sends the bytes that
 * were just synced without reading them back.
 *
 * A ring of at most TF_CACHE_MAX_FRAMES and TF_CACHE_MAX_BYTES; all data frames above cache_floor
 * are in it. It is filled only while a feed is open.
 */
#include "feed.h"

static struct tf_cached *cache_at(const struct tf_spool *spool, uint32_t i)
{
    return &spool->cache[(spool->cache_first + i) % TF_CACHE_MAX_FRAMES];
}

static size_t cached_bytes(const struct tf_body *body)
{
    return sizeof *body + body->payload.capacity;
}

static void cache_drop_oldest(struct tf_spool *spool)
{
    struct tf_cached *oldest = cache_at(spool, 0);

    spool->cache_floor = oldest->after.seq;
    spool->cache_bytes -= cached_bytes(oldest->body);
    tf_body_unref(oldest->body);
    spool->cache_first = (spool->cache_first + 1) % TF_CACHE_MAX_FRAMES;
    spool->cache_count--;
}

static void cache_add(struct tf_spool *spool, struct tf_body *body, const struct tf_spot *after)
{
    if (spool->cache_count == TF_CACHE_MAX_FRAMES) {
        cache_drop_oldest(spool);
    }
    *cache_at(spool, spool->cache_count) = (struct tf_cached){.body = body, .after = *after};
    spool->cache_count++;
    spool->cache_bytes += cached_bytes(body);
    while (spool->cache_bytes > TF_CACHE_MAX_BYTES && spool->cache_count > 1) {
        cache_drop_oldest(spool);
    }
}

void tf_cache_clear(struct tf_spool *spool, uint64_t floor)
{
    while (spool->cache_count > 0) {
        cache_drop_oldest(spool);
    }
    spool->cache_floor = floor;
}

void tf_feeds_released(struct tf_spool *spool, struct tf_write *write)
{
    struct tf_body *body =
        spool->feeds == NULL ? NULL : tf_body_new(&write->header, tf_slice_text(write->tag));

    if (write->read_ms != 0) {
        tf_ages_note(&spool->ages, write->header.seq, write->read_ms, tf_feeds_lowest_seq(spool));
    }
    if (body == NULL) {
        tf_cache_clear(spool, write->header.seq); /* then it is read from disk */
        return;
    }
    tf_buf_fini(&body->payload);
    body->payload = write->packed;
    tf_buf_init(&write->packed, TF_BODY_MAX);
    memcpy(body->spool_id, write->keys->spool_id, TF_SPOOL_ID_BYTES);
    memcpy(body->chain, write->after.chain, TF_CHAIN_BYTES);
    cache_add(spool, body, &write->after);
}

const struct tf_cached *tf_cache_find(const struct tf_spool *spool, uint64_t seq)
{
    uint32_t low = 0, high = spool->cache_count;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;

        if (cache_at(spool, middle)->after.seq <= seq) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < spool->cache_count ? cache_at(spool, low) : NULL;
}
