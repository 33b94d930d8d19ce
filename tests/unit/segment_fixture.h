/*
 * segment_fixture.h - a spool made frame by frame with the spool's own functions, so that a test
 * has its times, its index and its damage where it wants them.
 */
#ifndef TAFFRAIL_TEST_SEGMENT_FIXTURE_H
#define TAFFRAIL_TEST_SEGMENT_FIXTURE_H

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../agent/spool/seal.h"

#include "taffrail/archive.h"
#include "taffrail/event.h"

#define HOUR_NS  (INT64_C(3600) * TF_S_IN_NS)
#define BASE_NS  (INT64_C(1700000000) * TF_S_IN_NS)
#define TEXT_MAX 4096u

struct fixture {
    char root[64], path[80], key_path[96];
    int dir_fd;
    struct tf_keyring *ring;
    struct tf_state empty;
    struct tf_gzip *gzip;
    /* the segment being written */
    int fd;
    struct tf_sector0 sector;
    struct tf_frame_keys *keys;
    struct tf_spot at;
    struct tf_index_entry entries[64];
    uint32_t entry_count;
    struct tf_archive *archive;
    char got[TEXT_MAX]; /* texts of the frames that came, and what was told between them */
};

static inline void write_key(const char *path, const uint8_t key[TF_KEY_BYTES])
{
    struct tf_buf text;
    FILE *file;

    tf_buf_init(&text, 256);
    (void)tf_buf_append_text(&text, "taffrail-kek-1:");
    (void)tf_base64_append(&text, key, TF_KEY_BYTES);
    (void)tf_buf_append_byte(&text, '\n');
    file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(text.data, 1, text.size, file), text.size);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(chmod(path, 0600), 0);
    tf_buf_fini(&text);
}

static inline int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);

    assert_non_null(f);
    (void)snprintf(f->root, sizeof f->root, "%s/taffrail-test-XXXXXX",
                   getenv("TMPDIR") != NULL ? getenv("TMPDIR") : "/tmp");
    assert_non_null(mkdtemp(f->root));
    (void)snprintf(f->path, sizeof f->path, "%s/spool", f->root);
    (void)snprintf(f->key_path, sizeof f->key_path, "%s/spool.key", f->root);
    assert_int_equal(mkdir(f->path, 0700), 0);
    f->dir_fd = open(f->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    f->ring = tf_secure_new(sizeof *f->ring);
    assert_non_null(f->ring);
    f->ring->count = 1;
    memset(f->ring->keks[0].key, 7, TF_KEY_BYTES);
    assert_int_equal(tf_kek_id(&f->ring->keks[0]), 0);
    write_key(f->key_path, f->ring->keks[0].key);
    f->gzip = tf_gzip_new(TF_COMPRESS_ZLIB);
    f->fd = -1;
    f->at.seq = UINT64_C(1) << 40;
    memset(f->sector.spool_id, 3, sizeof f->sector.spool_id);
    *state = f;
    return 0;
}

static inline void remove_all(struct fixture *f)
{
    char name[TF_SEGMENT_NAME_BYTES];

    for (uint64_t no = 1; no < 20; no++) {
        tf_segment_name(no, name);
        (void)unlinkat(f->dir_fd, name, 0);
    }
    (void)unlink(f->key_path);
    (void)rmdir(f->path);
    (void)rmdir(f->root);
}

static inline int teardown(void **state)
{
    struct fixture *f = *state;

    tf_archive_close(f->archive);
    remove_all(f);
    tf_secure_free(f->keys, sizeof *f->keys);
    tf_secure_free(f->ring, sizeof *f->ring);
    tf_gzip_free(f->gzip);
    if (f->fd >= 0) {
        (void)close(f->fd);
    }
    (void)close(f->dir_fd);
    free(f);
    return 0;
}

/* ---- writing ------------------------------------------------------------------------------------
 */

/* A segment that builds on what was written last; the old one, if open, stays as it is. */
static inline void begin_segment(struct fixture *f, uint64_t no)
{
    struct tf_segment_plan plan = {.dir_fd = f->dir_fd, .old_fd = -1, .size_bytes = 1u << 16};
    struct tf_sector0 *sector = &plan.sector;
    bool first = f->sector.segment_no == 0;

    *sector = f->sector;
    sector->segment_no = no;
    sector->first_seq = f->at.seq + 1;
    sector->created_ns = BASE_NS + (int64_t)no * HOUR_NS;
    sector->prev_end = f->at.offset;
    memcpy(sector->prev_segment_id, f->sector.segment_id, 16);
    memcpy(sector->prev_chain, f->at.chain, TF_CHAIN_BYTES);
    sector->prev_last_seq = first ? 0 : f->at.seq;
    sector->events_before = f->at.events;
    memset(sector->segment_id, (int)(no + 100), 16);
    memset(sector->run_id, 9, 16);
    tf_secure_free(f->keys, sizeof *f->keys);
    plan.keys = f->keys = tf_secure_new(sizeof *f->keys);
    assert_int_equal(tf_dek_new(f->ring, sector, plan.slots, f->keys), 0);
    assert_int_equal(tf_snapshot_new(&f->empty, &plan.chunks, &plan.chunk_count), 0);
    assert_int_equal(tf_segment_create(&plan), 0);
    tf_snapshot_free(plan.chunks, plan.chunk_count);
    if (f->fd >= 0) {
        (void)close(f->fd);
    }
    f->fd = plan.fd;
    f->sector = *sector;
    f->at = plan.end;
    f->entry_count = 0;
}

static inline void put_event(struct tf_buf *out, int64_t time_ns, const char *text)
{
    uint32_t seconds = (uint32_t)(time_ns / TF_S_IN_NS);
    uint8_t time[10] = {0xd7,
                        0,
                        (uint8_t)(seconds >> 24),
                        (uint8_t)(seconds >> 16),
                        (uint8_t)(seconds >> 8),
                        (uint8_t)seconds};

    tf_msgpack_array(out, 2);
    (void)tf_buf_append(out, time, sizeof time);
    tf_msgpack_map(out, 1);
    tf_msgpack_text(out, tf_slice_text("log"));
    tf_msgpack_text(out, tf_slice_text(text));
}

/* Finishes a sealed frame and puts it behind the others. */
static inline void put_frame(struct fixture *f, const struct tf_frame_header *header,
                             struct tf_buf *frame, const uint8_t leaf[TF_DIGEST_BYTES],
                             uint32_t crc)
{
    assert_int_equal(
        tf_frame_finish((uint8_t *)frame->data, frame->size, f->at.seq, leaf, crc, f->at.chain), 0);
    assert_int_equal(pwrite(f->fd, frame->data, frame->size, (off_t)f->at.offset), frame->size);
    f->at.offset += frame->size;
    f->at.seq = header->seq;
    f->at.events += header->events;
}

static inline void append(struct fixture *f, struct tf_frame_header *header,
                          const struct tf_meta *meta, struct tf_slice payload)
{
    uint8_t leaf[TF_DIGEST_BYTES];
    struct tf_buf meta_bytes, frame;
    uint32_t crc;

    tf_buf_init(&meta_bytes, TF_META_MAX);
    tf_buf_init(&frame, TF_BODY_MAX);
    tf_meta_encode(&meta_bytes, meta);
    header->seq = f->at.seq + 1;
    header->flags = TF_FRAME_ENCRYPTED;
    assert_int_equal(
        tf_frame_seal(f->keys, header, tf_buf_slice(&meta_bytes), payload, &frame, leaf, &crc), 0);
    put_frame(f, header, &frame, leaf, crc);
    tf_buf_fini(&meta_bytes);
    tf_buf_fini(&frame);
}

/* One that names frame last_seq as the last that expires. */
static inline void add_expire_notice(struct fixture *f, uint64_t last_seq)
{
    struct tf_notice notice = {.kind = TF_NOTICE_EXPIRE, .a = 1, .b = last_seq};
    struct tf_frame_header header = {.type = TF_FRAME_NOTICE,
                                     .seq = f->at.seq + 1,
                                     .time_min_ns = INT64_MAX,
                                     .time_max_ns = INT64_MIN};
    uint8_t bytes[TF_NOTICE_BYTES], leaf[TF_DIGEST_BYTES];
    struct tf_buf frame;
    uint32_t crc;

    tf_notice_encode(&notice, bytes);
    tf_buf_init(&frame, TF_BODY_MAX);
    assert_int_equal(
        tf_frame_seal_clear(f->keys, &header, tf_slice(bytes, sizeof bytes), &frame, leaf, &crc),
        0);
    put_frame(f, &header, &frame, leaf, crc);
    tf_buf_fini(&frame);
}

/* One event of that text, at BASE_NS + hour. */
static inline void add_frame(struct fixture *f, int hour, const char *text)
{
    int64_t time_ns = BASE_NS + hour * HOUR_NS;
    struct tf_frame_header header = {
        .type = TF_FRAME_DATA, .time_min_ns = time_ns, .time_max_ns = time_ns, .events = 1};
    uint8_t digest[TF_DIGEST_BYTES];
    struct tf_meta meta = {.tag = tf_slice_text("container"), .digest = digest};
    struct tf_buf events, payload;
    struct tf_slice part;

    f->entries[f->entry_count++] = (struct tf_index_entry){.seq = f->at.seq + 1,
                                                           .offset = f->at.offset,
                                                           .time_min_ns = time_ns,
                                                           .time_max_ns = time_ns,
                                                           .events_before = f->at.events};
    tf_buf_init(&events, 65536);
    tf_buf_init(&payload, 4u << 20);
    put_event(&events, time_ns, text);
    assert_int_equal(tf_gzip_run(f->gzip, tf_buf_slice(&events), &payload), 0);
    part = tf_buf_slice(&payload);
    assert_int_equal(tf_sha256(&part, 1, digest), 0);
    append(f, &header, &meta, part);
    tf_buf_fini(&events);
    tf_buf_fini(&payload);
}

/* The index, one entry a frame. */
static inline void add_index(struct fixture *f)
{
    struct tf_frame_header header = {
        .type = TF_FRAME_INDEX, .time_min_ns = INT64_MAX, .time_max_ns = INT64_MIN};
    struct tf_slice nothing = tf_slice("", 0);
    uint8_t digest[TF_DIGEST_BYTES], bytes[64 * TF_INDEX_ENTRY_BYTES];
    struct tf_meta meta = {.tag = tf_slice("", 0), .digest = digest};

    for (uint32_t i = 0; i < f->entry_count; i++) {
        const struct tf_index_entry *entry = &f->entries[i];

        tf_index_entry_encode(entry, bytes + (size_t)i * TF_INDEX_ENTRY_BYTES);
        header.time_min_ns =
            entry->time_min_ns < header.time_min_ns ? entry->time_min_ns : header.time_min_ns;
        header.time_max_ns =
            entry->time_max_ns > header.time_max_ns ? entry->time_max_ns : header.time_max_ns;
    }
    meta.deltas = tf_slice(bytes, (size_t)f->entry_count * TF_INDEX_ENTRY_BYTES);
    assert_int_equal(tf_sha256(&nothing, 1, digest), 0);
    append(f, &header, &meta, nothing);
}

/* Segments first to last, three frames each, of one hour each: "1a", "1b", "1c", "2a" and so on. */
static inline void fill(struct fixture *f, int first, int last, bool with_index)
{
    for (int no = first; no <= last; no++) {
        begin_segment(f, (uint64_t)no);
        for (int i = 0; i < 3; i++) {
            char text[16];

            (void)snprintf(text, sizeof text, "%d%c", no, 'a' + i);
            add_frame(f, no, text);
        }
        if (with_index) {
            add_index(f);
        }
    }
}

static inline void flip(struct fixture *f, uint64_t no, uint64_t offset)
{
    char name[TF_SEGMENT_NAME_BYTES];
    uint8_t byte;
    int fd;

    tf_segment_name(no, name);
    fd = openat(f->dir_fd, name, O_RDWR);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &byte, 1, (off_t)offset), 1);
    byte ^= 1;
    assert_int_equal(pwrite(fd, &byte, 1, (off_t)offset), 1);
    assert_int_equal(close(fd), 0);
}

static inline void unlink_segment(struct fixture *f, uint64_t no)
{
    char name[TF_SEGMENT_NAME_BYTES];

    tf_segment_name(no, name);
    assert_int_equal(unlinkat(f->dir_fd, name, 0), 0);
}

static inline void open_archive(struct fixture *f)
{
    struct tf_archive_options options = {.path = f->path};
    struct tf_error err;
    int rc;

    tf_error_init(&err);
    rc = tf_archive_open(&options, &f->archive, &err);
    (void)tf_error_print(&err, stderr);
    tf_error_fini(&err);
    assert_int_equal(rc, 0);
}

#endif
