/*
 * test_gunzip.c - compressed log files read as their text (gunzip.c), and what an unknown one is
 * (judge.c): whatever the members, the reads and the damage.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <zlib.h>

#include "../../agent/inputs/container/internal.h"

#define TEXT_BYTES (6u << 20) /* more than one step of a worker */

struct world {
    char path[64];
    int fd;
    char *text;
};

static int set_up(void **state)
{
    struct world *world = calloc(1, sizeof *world);
    uint32_t seed = 7;

    assert_non_null(world);
    (void)snprintf(world->path, sizeof world->path, "/tmp/taffrail-gunzip-XXXXXX");
    world->fd = mkstemp(world->path);
    assert_true(world->fd >= 0);
    world->text = malloc(TEXT_BYTES);
    assert_non_null(world->text);
    for (size_t i = 0; i < TEXT_BYTES; i++) {
        seed = seed * 1664525u + 1013904223u;
        world->text[i] = i % 80 == 79 ? '\n' : (char)('a' + (seed >> 27) % 26);
    }
    *state = world;
    return 0;
}

static int tear_down(void **state)
{
    struct world *world = *state;

    (void)close(world->fd);
    (void)unlink(world->path);
    free(world->text);
    free(world);
    return 0;
}

/* Appends a member that holds text[from..to). */
static void append_member(const struct world *world, size_t from, size_t to)
{
    z_stream deflate_stream = {.next_in = (Bytef *)world->text + from,
                               .avail_in = (uInt)(to - from)};
    uLong bound;
    Bytef *packed;

    assert_int_equal(deflateInit2(&deflate_stream, 1, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY),
                     Z_OK);
    bound = deflateBound(&deflate_stream, (uLong)(to - from));
    packed = malloc(bound);
    assert_non_null(packed);
    deflate_stream.next_out = packed;
    deflate_stream.avail_out = (uInt)bound;
    assert_int_equal(deflate(&deflate_stream, Z_FINISH), Z_STREAM_END);
    assert_true(lseek(world->fd, 0, SEEK_END) >= 0);
    assert_int_equal(write(world->fd, packed, deflate_stream.total_out),
                     (ssize_t)deflate_stream.total_out);
    (void)deflateEnd(&deflate_stream);
    free(packed);
}

/* Reads again while it only inflates on. */
static ssize_t read_on(struct tf_gunzip *gunzip, char *to, size_t size, uint64_t offset)
{
    ssize_t got;

    do {
        got = tf_gunzip_read(gunzip, to, size, offset);
    } while (got == -EAGAIN);
    return got;
}

static void assert_text(const struct world *world, struct tf_gunzip *gunzip, uint64_t offset,
                        size_t size)
{
    char *got = malloc(size);
    size_t there = offset < TEXT_BYTES ? TEXT_BYTES - (size_t)offset : 0;

    assert_non_null(got);
    there = there < size ? there : size;
    assert_int_equal(read_on(gunzip, got, size, offset), (ssize_t)there);
    assert_memory_equal(got, world->text + (offset < TEXT_BYTES ? offset : 0), there);
    free(got);
}

static void all_text_comes_block_by_block(void **state)
{
    struct world *world = *state;
    struct tf_gunzip *gunzip;
    uint64_t at = 0;

    append_member(world, 0, 1000);
    append_member(world, 1000, 1000); /* an empty one */
    append_member(world, 1000, TEXT_BYTES);
    gunzip = tf_gunzip_new(world->fd);
    assert_non_null(gunzip);
    while (at < TEXT_BYTES + 4096) {
        assert_text(world, gunzip, at > 64 ? at - 64 : 0, 200000 + 64);
        at += 200000;
    }
    assert_false(tf_gunzip_is_damaged(gunzip));
    tf_gunzip_free(gunzip);
}

static void any_offset_is_read(void **state)
{
    static const uint64_t offsets[] = {5000000,    10, 3000000,       2999990,
                                       TEXT_BYTES, 0,  TEXT_BYTES - 1};
    struct world *world = *state;
    struct tf_gunzip *gunzip;
    char byte;

    append_member(world, 0, TEXT_BYTES);
    gunzip = tf_gunzip_new(world->fd);
    assert_non_null(gunzip);
    assert_int_equal(tf_gunzip_read(gunzip, &byte, 1, 5000000), -EAGAIN); /* a worker's share */
    for (size_t i = 0; i < TF_COUNT(offsets); i++) {
        assert_text(world, gunzip, offsets[i], 70000);
    }
    tf_gunzip_free(gunzip);
}

static void what_is_damaged_is_told(void **state)
{
    struct world *world = *state;
    struct tf_gunzip *gunzip;
    struct stat status;
    char got[200];
    ssize_t size;

    append_member(world, 0, 5000);
    assert_int_equal(fstat(world->fd, &status), 0);
    for (off_t cut = 0; cut < status.st_size; cut += 97) { /* cut anywhere */
        uint64_t at = 0;

        assert_int_equal(ftruncate(world->fd, cut), 0);
        gunzip = tf_gunzip_new(world->fd);
        assert_non_null(gunzip);
        while ((size = read_on(gunzip, got, sizeof got, at)) > 0) {
            assert_memory_equal(got, world->text + at, (size_t)size);
            at += (uint64_t)size;
        }
        assert_int_equal(size, 0);
        assert_true(tf_gunzip_is_damaged(gunzip));
        tf_gunzip_free(gunzip);
        assert_int_equal(ftruncate(world->fd, 0), 0);
        append_member(world, 0, 5000);
    }
    assert_int_equal(pwrite(world->fd, "wrong", 5, status.st_size - 8), 5); /* its checksum */
    gunzip = tf_gunzip_new(world->fd);
    assert_non_null(gunzip);
    assert_text(world, gunzip, 0, 100);
    assert_int_equal(read_on(gunzip, got, sizeof got, 6000), 0);
    assert_true(tf_gunzip_is_damaged(gunzip));
    tf_gunzip_free(gunzip);
}

/* gzip passes over what stands behind the last member, and so do we. */
static void what_stands_behind_is_no_damage(void **state)
{
    struct world *world = *state;
    struct tf_gunzip *gunzip;
    char got[10];

    append_member(world, 0, 5000);
    assert_true(lseek(world->fd, 0, SEEK_END) > 0);
    assert_int_equal(write(world->fd, "\0\0\0\0no member", 13), 13);
    gunzip = tf_gunzip_new(world->fd);
    assert_non_null(gunzip);
    assert_int_equal(read_on(gunzip, got, sizeof got, 4995), 5);
    assert_false(tf_gunzip_is_damaged(gunzip));
    tf_gunzip_free(gunzip);
}

static void a_failed_read_is_told(void **state)
{
    struct tf_gunzip *gunzip = tf_gunzip_new(-1);
    char got;

    (void)state;
    assert_non_null(gunzip);
    assert_int_equal(tf_gunzip_read(gunzip, &got, 1, 0), -EBADF);
    tf_gunzip_free(gunzip);
    tf_gunzip_free(NULL);
}

/* ---- judging -----------------------------------------------------------------------------------
 */

#define BASE 42u

/* A known file of the base that was read up to `read` of the text. */
static struct tf_known known_file(const struct world *world, uint64_t inode, uint64_t read)
{
    struct tf_known known = {.id = {.inode = inode}, .base_hash = BASE, .size = read};

    if (read > 0) {
        tf_print_take(world->text + read - tf_print_size(read), read, &known.prints[0]);
    }
    return known;
}

static enum tf_verdict judge(const struct world *world, struct tf_known *known, size_t count,
                             int64_t changed_ns, struct tf_file_id *match, uint64_t *text_bytes)
{
    struct tf_scan scan = {.known = known, .known_count = count, .judge_bytes = 1u << 20};
    struct tf_opened opened = {.fd = world->fd, .changed_ns = changed_ns};
    struct tf_found found = {.fd = -1};
    enum tf_verdict verdict = tf_judge(&scan, &opened, BASE, &found);

    *match = found.match;
    *text_bytes = found.text_bytes;
    return verdict;
}

static void a_compressed_file_is_known_by_its_text(void **state)
{
    struct world *world = *state;
    struct tf_known known[3] = {known_file(world, 1, 100), known_file(world, 2, 4000),
                                known_file(world, 3, 5001)};
    struct tf_file_id match = {0};
    uint64_t text_bytes = 0;

    append_member(world, 0, 5000);
    assert_int_equal(judge(world, known, 3, 0, &match, &text_bytes), TF_VERDICT_KNOWN);
    assert_int_equal(match.inode, 2); /* the one that was read furthest; the third is longer */
    assert_int_equal(text_bytes, 5000);
    known[1].prints[1] = (struct tf_print){.offset = 1000, .hash = {1}}; /* differs further back */
    assert_int_equal(judge(world, known, 3, 0, &match, &text_bytes), TF_VERDICT_KNOWN);
    assert_int_equal(match.inode, 1);
    known[0].base_hash = BASE + 1;
    assert_int_equal(judge(world, known, 3, 0, &match, &text_bytes), TF_VERDICT_NEW);
    assert_int_equal(judge(world, NULL, 0, 0, &match, &text_bytes), TF_VERDICT_NEW);
}

static void prints_across_blocks_are_compared(void **state)
{
    struct world *world = *state;
    struct tf_file_id match;
    uint64_t text_bytes;

    append_member(world, 0, 300000);
    for (uint64_t read = 65530; read < 65610; read += 7) { /* a block of judge.c has 64 KiB */
        struct tf_known known = known_file(world, 1, read);

        assert_int_equal(judge(world, &known, 1, 0, &match, &text_bytes), TF_VERDICT_KNOWN);
        known.prints[0].hash[3] ^= 1;
        assert_int_equal(judge(world, &known, 1, 0, &match, &text_bytes), TF_VERDICT_NEW);
    }
}

static void what_cannot_be_judged_yet_waits(void **state)
{
    struct world *world = *state;
    struct tf_known unread = known_file(world, 1, 0);
    struct tf_scan used_up = {0};
    struct tf_opened opened = {.fd = world->fd};
    struct tf_found found = {.fd = -1};
    struct tf_file_id match;
    uint64_t text_bytes;
    struct stat status;

    append_member(world, 0, 5000);
    assert_int_equal(tf_judge(&used_up, &opened, BASE, &found), TF_VERDICT_WAIT);
    unread.is_followed = true; /* it may be this one: nothing of it was read */
    unread.size = 10;
    assert_int_equal(judge(world, &unread, 1, 0, &match, &text_bytes), TF_VERDICT_WAIT);
    unread.size = 0;
    assert_int_equal(judge(world, &unread, 1, 0, &match, &text_bytes), TF_VERDICT_NEW);
    assert_int_equal(fstat(world->fd, &status), 0);
    assert_int_equal(ftruncate(world->fd, status.st_size - 1), 0); /* being written, or damaged */
    assert_int_equal(judge(world, NULL, 0, tf_now_ns(), &match, &text_bytes), TF_VERDICT_WAIT);
    assert_int_equal(judge(world, NULL, 0, 0, &match, &text_bytes), TF_VERDICT_NEW);
}

/* It may be a copy of what stands under the base's name: that is found out, or it waits. */
static void a_sibling_waits_while_its_base_cannot_be_opened(void **state)
{
    struct world *world = *state;
    struct tf_opener_process *process = tf_opener_process_new(); /* never started */
    struct tf_opener opener, rules;
    struct tf_scan scan = {.opener = &opener};
    struct tf_candidate candidate = {
        .dir_path = "/tmp", .name = "no-such.log.1", .base = "/tmp/no-such.log", .base_size = 11};
    struct tf_opened copy = {.fd = world->fd, .size = 10};
    struct tf_found found = {.fd = -1};

    append_member(world, 0, 5000);
    assert_int_equal(tf_opener_init(&opener), 0);
    assert_int_equal(tf_opener_init(&rules), 0);
    assert_int_equal(tf_opener_add_root(&opener, "/tmp"), 0);
    assert_int_equal(tf_opener_add_root(&rules, "/tmp"), 0);
    assert_int_equal(tf_opener_process_add(process, "logs", &rules), 0);
    tf_opener_process_attach(process, "logs", &opener);
    assert_int_equal(tf_judge_copy(&scan, &candidate, &copy, &found), -ESHUTDOWN);
    opener.process = NULL; /* and by itself: there is none, or none that may be opened */
    assert_int_equal(tf_judge_copy(&scan, &candidate, &copy, &found), 0);
    tf_opener_process_free(process);
    tf_opener_fini(&opener);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(all_text_comes_block_by_block, set_up, tear_down),
        cmocka_unit_test_setup_teardown(any_offset_is_read, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_is_damaged_is_told, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_stands_behind_is_no_damage, set_up, tear_down),
        cmocka_unit_test(a_failed_read_is_told),
        cmocka_unit_test_setup_teardown(a_compressed_file_is_known_by_its_text, set_up, tear_down),
        cmocka_unit_test_setup_teardown(prints_across_blocks_are_compared, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_cannot_be_judged_yet_waits, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_sibling_waits_while_its_base_cannot_be_opened, set_up,
                                        tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
