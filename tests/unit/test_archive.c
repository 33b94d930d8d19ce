/*
 * test_archive.c - a spool that is only read: everything that counts, nothing else, and what is
 * missing by its name.
 */
#include "segment_fixture.h"

/* ---- reading ------------------------------------------------------------------------------------
 */

static void query_hours(struct fixture *f, int from, int to)
{
    tf_archive_query(f->archive, &(struct tf_archive_query){.from_ns = BASE_NS + from * HOUR_NS,
                                                            .to_ns = BASE_NS + to * HOUR_NS});
}

static bool take_text(void *ctx, struct tf_slice text)
{
    struct fixture *f = ctx;
    size_t used = strlen(f->got);

    (void)snprintf(f->got + used, sizeof f->got - used, "%.*s ", (int)text.size, text.data);
    return true;
}

static void take(struct fixture *f, const struct tf_archived *item)
{
    static const char *const words[] = {"", "damaged", "missing", "expired", "unreadable"};
    size_t used = strlen(f->got);

    if (item->kind == TF_ARCHIVED_FRAME) {
        struct tf_buf events;

        tf_buf_init(&events, 65536);
        assert_int_equal(tf_archive_inflate(item->payload, &events), 0);
        assert_true(tf_event_any(tf_buf_slice(&events), tf_slice_text("log"), take_text, f));
        tf_buf_fini(&events);
        return;
    }
    (void)snprintf(f->got + used, sizeof f->got - used, "(%s %llu:%llu-%llu) ", words[item->kind],
                   (unsigned long long)item->segment_no,
                   (unsigned long long)TF_SEQ_N(item->from_seq),
                   (unsigned long long)TF_SEQ_N(item->to_seq));
}

/* Reads to the end; returns what came. */
static const char *read_all(struct fixture *f)
{
    struct tf_archived item;
    int rc;

    f->got[0] = '\0';
    while ((rc = tf_archive_next(f->archive, &item)) == 1) {
        take(f, &item);
    }
    assert_int_equal(rc, 0);
    return f->got;
}

static uint64_t segments_read(struct fixture *f)
{
    struct tf_archive_status status;

    tf_archive_status(f->archive, &status);
    return status.read;
}

/* ---- tests --------------------------------------------------------------------------------------
 */

static void all_frames_come_in_order(void **state)
{
    struct fixture *f = *state;
    struct tf_archive_status status;

    fill(f, 1, 3, false);
    open_archive(f);
    assert_string_equal(read_all(f), "1a 1b 1c 2a 2b 2c 3a 3b 3c ");
    tf_archive_status(f->archive, &status);
    assert_int_equal(status.segments, 3);
    assert_int_equal(status.read, 3);
    assert_int_equal(status.events, 9);
    assert_int_equal(status.seq, f->at.seq);
}

static void a_span_touches_what_it_needs(void **state)
{
    struct fixture *f = *state;

    fill(f, 1, 6, true);
    open_archive(f);
    query_hours(f, 3, 5);
    assert_string_equal(read_all(f), "3a 3b 3c 4a 4b 4c ");
    assert_int_equal(segments_read(f), 2);
}

static void a_lost_index_costs_only_headers(void **state)
{
    struct fixture *f = *state;

    fill(f, 1, 6, false);
    open_archive(f);
    query_hours(f, 3, 5);
    assert_string_equal(read_all(f), "3a 3b 3c 4a 4b 4c ");
    assert_int_equal(segments_read(f), 2);
}

/* And no loss: it holds nothing. */
static void a_damaged_index_is_no_index(void **state)
{
    struct fixture *f = *state;
    uint64_t end;

    fill(f, 1, 1, true);
    end = f->at.offset;
    fill(f, 2, 3, true);
    flip(f, 1, end - 60); /* in the body of its index */
    open_archive(f);
    query_hours(f, 1, 2);
    assert_string_equal(read_all(f), "1a 1b 1c ");
}

/* What the index rules out is not even read: damage there is not met. */
static void stretches_that_cannot_match_are_passed_over(void **state)
{
    struct fixture *f = *state;
    uint64_t begin[8];

    begin_segment(f, 1);
    for (int i = 0; i < 8; i++) {
        char text[16];

        (void)snprintf(text, sizeof text, "h%d", i);
        begin[i] = f->at.offset;
        add_frame(f, i, text);
    }
    add_index(f);
    fill(f, 2, 2, true);
    flip(f, 1, begin[1] + 70);
    flip(f, 1, begin[1] + 10); /* its header too, so that nobody can hop over it */
    flip(f, 1, begin[6] + 10);
    open_archive(f);
    query_hours(f, 3, 5);
    assert_string_equal(read_all(f), "h3 h4 ");
    query_hours(f, 5, 6);
    assert_string_equal(read_all(f), "h5 ");
    query_hours(f, 1, 2);
    assert_string_equal(read_all(f), "(damaged 1:3-3) ");
}

static void damage_is_told_and_passed_over(void **state)
{
    struct fixture *f = *state;
    uint64_t second;

    begin_segment(f, 1);
    add_frame(f, 1, "1a");
    second = f->at.offset;
    add_frame(f, 1, "1b");
    add_frame(f, 1, "1c");
    fill(f, 2, 2, false);
    flip(f, 1, second + TF_FRAME_HEADER_BYTES + 3);
    open_archive(f);
    assert_string_equal(read_all(f), "1a (damaged 1:3-3) 1c 2a 2b 2c ");
}

static void the_damaged_end_of_a_segment_is_told(void **state)
{
    struct fixture *f = *state;
    uint64_t last;

    begin_segment(f, 1);
    add_frame(f, 1, "1a");
    last = f->at.offset;
    add_frame(f, 1, "1b");
    fill(f, 2, 2, false);
    flip(f, 1, last + TF_FRAME_HEADER_BYTES + 3);
    open_archive(f);
    assert_string_equal(read_all(f), "1a (damaged 1:3-3) 2a 2b 2c ");
}

static void a_torn_tail_is_no_damage(void **state)
{
    struct fixture *f = *state;
    uint64_t second;

    begin_segment(f, 1);
    add_frame(f, 1, "1a");
    second = f->at.offset;
    add_frame(f, 1, "1b");
    flip(f, 1, second + TF_FRAME_HEADER_BYTES + 3);
    open_archive(f);
    assert_string_equal(read_all(f), "1a ");
}

/* add_frame's `durable` is the frame before: the third tells that the second was synced. */
static void rot_in_the_newest_segment_is_told(void **state)
{
    struct fixture *f = *state;
    uint64_t second;

    begin_segment(f, 1);
    add_frame(f, 1, "1a");
    second = f->at.offset;
    add_frame(f, 1, "1b");
    add_frame(f, 1, "1c");
    flip(f, 1, second + TF_FRAME_HEADER_BYTES + 3);
    open_archive(f);
    assert_string_equal(read_all(f), "1a (damaged 1:3-3) 1c ");
}

static void what_a_successor_leaves_out_is_void(void **state)
{
    struct fixture *f = *state;
    struct tf_spot before;
    struct tf_sector0 sector;

    fill(f, 1, 1, false);
    before = f->at;
    sector = f->sector;
    add_frame(f, 1, "void");
    begin_segment(f, 2); /* an attempt that builds on it, and came to nothing */
    add_frame(f, 2, "void too");
    f->at = before;
    f->sector = sector;
    fill(f, 3, 3, false);
    open_archive(f);
    assert_string_equal(read_all(f), "1a 1b 1c 3a 3b 3c ");
}

static void a_missing_segment_is_told(void **state)
{
    struct fixture *f = *state;

    fill(f, 1, 4, true);
    unlink_segment(f, 2);
    unlink_segment(f, 3);
    open_archive(f);
    assert_string_equal(read_all(f), "1a 1b 1c (missing 4:6-15) 4a 4b 4c ");
}

static void the_oldest_need_not_be_the_first(void **state)
{
    struct fixture *f = *state;

    fill(f, 1, 3, true);
    add_expire_notice(f, f->at.seq);
    fill(f, 4, 5, true);
    unlink_segment(f, 1);
    open_archive(f);
    assert_string_equal(read_all(f), "2a 2b 2c 3a 3b 3c 4a 4b 4c 5a 5b 5c ");
}

/* Unless what is asked for came later. */
static void the_oldest_that_went_without_a_notice_are_told(void **state)
{
    struct fixture *f = *state;

    fill(f, 1, 3, true);
    add_expire_notice(f, f->at.seq); /* of the first two only */
    unlink_segment(f, 1);
    unlink_segment(f, 2);
    unlink_segment(f, 3);
    fill(f, 4, 5, true);
    add_expire_notice(f, (UINT64_C(1) << 40) + 10);
    open_archive(f);
    assert_string_equal(read_all(f), "(missing 4:0-16) 4a 4b 4c 5a 5b 5c ");
    query_hours(f, 4, 5);
    assert_string_equal(read_all(f), "(missing 4:0-16) 4a 4b 4c ");
    query_hours(f, 5, 6);
    assert_string_equal(read_all(f), "5a 5b 5c ");
}

static void expiry_while_reading_is_told(void **state)
{
    struct fixture *f = *state;
    struct tf_archived item;

    fill(f, 1, 4, true);
    open_archive(f);
    assert_int_equal(tf_archive_next(f->archive, &item), 1);
    unlink_segment(f, 1); /* held open: nothing of it is lost */
    unlink_segment(f, 2);
    unlink_segment(f, 3);
    assert_string_equal(read_all(f), "1b 1c (expired 2:6-10) (expired 3:11-15) 4a 4b 4c ");
}

static void a_shredded_segment_is_expired(void **state)
{
    static const uint8_t zero[TF_SEGMENT_SLOTS * TF_SECTOR_BYTES];
    struct fixture *f = *state;
    char name[TF_SEGMENT_NAME_BYTES];
    int fd;

    fill(f, 1, 3, true);
    tf_segment_name(2, name);
    fd = openat(f->dir_fd, name, O_RDWR);
    assert_int_equal(pwrite(fd, zero, sizeof zero, TF_SECTOR_BYTES), sizeof zero);
    assert_int_equal(close(fd), 0);
    open_archive(f);
    assert_string_equal(read_all(f), "1a 1b 1c (expired 2:6-10) 3a 3b 3c ");
}

static void a_segment_without_its_key_is_told(void **state)
{
    struct fixture *f = *state;

    fill(f, 1, 1, true);
    memset(f->ring->keks[0].key, 8, TF_KEY_BYTES);
    assert_int_equal(tf_kek_id(&f->ring->keks[0]), 0);
    fill(f, 2, 2, true);
    memset(f->ring->keks[0].key, 7, TF_KEY_BYTES);
    assert_int_equal(tf_kek_id(&f->ring->keks[0]), 0);
    fill(f, 3, 3, true);
    open_archive(f);
    assert_string_equal(read_all(f), "1a 1b 1c (unreadable 2:6-10) 3a 3b 3c ");
}

static void frames_behind_a_number_only(void **state)
{
    struct fixture *f = *state;

    fill(f, 1, 3, true);
    open_archive(f);
    for (uint64_t n = 0; n <= 15; n++) { /* each segment: snapshot, three frames, index */
        uint64_t after = n == 0 ? 0 : (UINT64_C(1) << 40) + n;
        char expected[64] = "";

        for (uint64_t k = 1; k <= 15; k++) {
            if (k > n && k % 5 >= 2 && k % 5 <= 4) {
                size_t used = strlen(expected);

                (void)snprintf(expected + used, sizeof expected - used, "%llu%c ",
                               (unsigned long long)(k / 5 + 1), (char)('a' + k % 5 - 2));
            }
        }
        tf_archive_query(f->archive, &(struct tf_archive_query){.from_ns = INT64_MIN,
                                                                .to_ns = INT64_MAX,
                                                                .after_seq = after});
        assert_string_equal(read_all(f), expected);
    }
}

static void what_expired_behind_a_number_is_told(void **state)
{
    struct fixture *f = *state;

    fill(f, 1, 3, true);
    unlink_segment(f, 1);
    open_archive(f);
    tf_archive_query(f->archive, &(struct tf_archive_query){.from_ns = INT64_MIN,
                                                            .to_ns = INT64_MAX,
                                                            .after_seq = (UINT64_C(1) << 40) + 3});
    assert_string_equal(read_all(f), "(expired 2:4-5) 2a 2b 2c 3a 3b 3c ");
}

static void what_is_added_follows(void **state)
{
    struct fixture *f = *state;

    fill(f, 1, 1, false);
    open_archive(f);
    assert_string_equal(read_all(f), "1a 1b 1c ");
    assert_int_equal(tf_archive_refresh(f->archive), 0);
    assert_string_equal(read_all(f), "");
    add_frame(f, 1, "1d");
    assert_int_equal(tf_archive_refresh(f->archive), 0);
    assert_string_equal(read_all(f), "1d ");
    add_frame(f, 1, "1e");
    fill(f, 2, 3, true); /* rolled twice meanwhile */
    assert_int_equal(tf_archive_refresh(f->archive), 0);
    assert_string_equal(read_all(f), "1e 2a 2b 2c 3a 3b 3c ");
    assert_int_equal(tf_archive_refresh(f->archive), 0);
    assert_string_equal(read_all(f), "");
}

/* A live agent's frame half written is neither the end for good nor damage. */
static void a_frame_half_written_comes_when_it_is_whole(void **state)
{
    struct fixture *f = *state;
    uint64_t begin;

    fill(f, 1, 1, false);
    begin = f->at.offset;
    add_frame(f, 1, "1d");
    flip(f, 1, begin + TF_FRAME_HEADER_BYTES + 3);
    open_archive(f);
    assert_string_equal(read_all(f), "1a 1b 1c ");
    flip(f, 1, begin + TF_FRAME_HEADER_BYTES + 3);
    assert_int_equal(tf_archive_refresh(f->archive), 0);
    assert_string_equal(read_all(f), "1d ");
}

static void no_key_and_no_spool_are_said(void **state)
{
    struct fixture *f = *state;
    struct tf_archive_options options = {.path = f->path};
    struct tf_archive *archive = NULL;
    struct tf_error err;

    tf_error_init(&err);
    assert_int_equal(tf_archive_open(&options, &archive, &err), -EINVAL); /* empty */
    assert_non_null(strstr(tf_error_first(&err), "no sound segment"));
    tf_error_fini(&err);
    fill(f, 1, 1, false);
    assert_int_equal(unlink(f->key_path), 0);
    tf_error_init(&err);
    assert_int_equal(tf_archive_open(&options, &archive, &err), -EINVAL);
    assert_non_null(strstr(tf_error_first(&err), "--key"));
    tf_error_fini(&err);
    options.path = "/does/not/exist";
    tf_error_init(&err);
    assert_int_equal(tf_archive_open(&options, &archive, &err), -ENOENT);
    tf_error_fini(&err);
    assert_null(archive);
}

static void inflating_is_bounded(void **state)
{
    struct fixture *f = *state;
    struct tf_buf plain, packed, out;
    static const char zeros[4096];

    tf_buf_init(&plain, 8u << 20);
    tf_buf_init(&packed, 8u << 20);
    tf_buf_init(&out, 1u << 20);
    for (size_t i = 0; i < 512; i++) {
        assert_int_equal(tf_buf_append(&plain, zeros, sizeof zeros), 0);
    }
    assert_int_equal(tf_gzip_run(f->gzip, tf_buf_slice(&plain), &packed), 0);
    assert_int_equal(tf_archive_inflate(tf_buf_slice(&packed), &out), -EMSGSIZE);
    tf_buf_fini(&out);
    tf_buf_init(&out, 2u << 20);
    assert_int_equal(tf_archive_inflate(tf_buf_slice(&packed), &out), 0);
    assert_int_equal(out.size, plain.size);
    for (size_t size = 0; size < packed.size; size += 97) {
        assert_int_equal(tf_archive_inflate(tf_slice(packed.data, size), &out), -EPROTO);
    }
    (void)tf_buf_append_byte(&packed, 0);
    assert_int_equal(tf_archive_inflate(tf_buf_slice(&packed), &out), -EPROTO);
    tf_buf_fini(&plain);
    tf_buf_fini(&packed);
    tf_buf_fini(&out);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(all_frames_come_in_order),
        TEST(a_span_touches_what_it_needs),
        TEST(a_lost_index_costs_only_headers),
        TEST(a_damaged_index_is_no_index),
        TEST(stretches_that_cannot_match_are_passed_over),
        TEST(damage_is_told_and_passed_over),
        TEST(the_damaged_end_of_a_segment_is_told),
        TEST(a_torn_tail_is_no_damage),
        TEST(rot_in_the_newest_segment_is_told),
        TEST(what_a_successor_leaves_out_is_void),
        TEST(a_missing_segment_is_told),
        TEST(the_oldest_need_not_be_the_first),
        TEST(the_oldest_that_went_without_a_notice_are_told),
        TEST(expiry_while_reading_is_told),
        TEST(a_shredded_segment_is_expired),
        TEST(a_segment_without_its_key_is_told),
        TEST(frames_behind_a_number_only),
        TEST(what_expired_behind_a_number_is_told),
        TEST(what_is_added_follows),
        TEST(a_frame_half_written_comes_when_it_is_whole),
        TEST(no_key_and_no_spool_are_said),
        TEST(inflating_is_bounded),
    };

    return cmocka_run_group_tests_name("archive", tests, NULL, NULL);
}
