/*
 * test_snapshot.c - a snapshot of directories and files holds until one of them changes, and is not
 * usable where a change could hide behind a time that is too young.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../agent/inputs/container/internal.h"

struct world {
    char folder[64];
    int fd;
    struct tf_opener opener;
    struct tf_snapshot snapshot;
};

static void add(struct world *world, const char *name)
{
    char path[TF_FILE_PATH_MAX];

    assert_true(tf_path_join(world->folder, name, path));
    tf_snapshot_add(&world->snapshot, &world->opener, path);
}

static void put(const struct world *world, const char *name, const char *text)
{
    int fd = openat(world->fd, name, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    (void)close(fd);
}

/* As a scan that began long after the last change would take it. */
static void take(struct world *world)
{
    tf_snapshot_fini(&world->snapshot);
    tf_snapshot_begin(&world->snapshot);
    world->snapshot.began_ns += 10 * TF_S_IN_NS;
    tf_snapshot_add_dir(&world->snapshot, world->fd, world->folder);
    add(world, "a.log");
    add(world, "link.log");
    assert_true(world->snapshot.is_usable);
    assert_true(tf_snapshot_holds(&world->snapshot, &world->opener));
}

static int set_up(void **state)
{
    struct world *world = calloc(1, sizeof *world);

    assert_non_null(world);
    (void)snprintf(world->folder, sizeof world->folder, "/tmp/taffrail-snapshot-XXXXXX");
    assert_non_null(mkdtemp(world->folder));
    assert_int_equal(tf_opener_init(&world->opener), 0);
    assert_int_equal(tf_opener_add_root(&world->opener, world->folder), 0);
    world->fd = open(world->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(world->fd >= 0);
    put(world, "a.log", "one\n");
    put(world, "target", "one\n");
    assert_int_equal(symlinkat("target", world->fd, "link.log"), 0);
    *state = world;
    return 0;
}

static int tear_down(void **state)
{
    struct world *world = *state;
    const char *names[] = {"a.log", "b.log", "target", "link.log", "other"};

    tf_snapshot_fini(&world->snapshot);
    for (size_t i = 0; i < TF_COUNT(names); i++) {
        (void)unlinkat(world->fd, names[i], 0);
    }
    (void)close(world->fd);
    tf_opener_fini(&world->opener);
    assert_int_equal(rmdir(world->folder), 0);
    free(world);
    return 0;
}

static void each_change_ends_it(void **state)
{
    struct world *world = *state;

    take(world);
    put(world, "a.log", "two\n");
    assert_false(tf_snapshot_holds(&world->snapshot, &world->opener));
    take(world);
    put(world, "b.log", "");
    assert_false(tf_snapshot_holds(&world->snapshot, &world->opener));
    take(world);
    assert_int_equal(renameat(world->fd, "b.log", world->fd, "other"), 0);
    assert_false(tf_snapshot_holds(&world->snapshot, &world->opener));
    take(world);
    assert_int_equal(unlinkat(world->fd, "other", 0), 0);
    assert_false(tf_snapshot_holds(&world->snapshot, &world->opener));
    take(world);
    put(world, "target", "two\n"); /* behind a link, in a directory that is not noted for it */
    assert_false(tf_snapshot_holds(&world->snapshot, &world->opener));
    take(world);
    assert_int_equal(unlinkat(world->fd, "a.log", 0), 0);
    assert_false(tf_snapshot_holds(&world->snapshot, &world->opener));
}

static void a_young_directory_is_looked_at_again(void **state)
{
    struct world *world = *state;

    tf_snapshot_begin(&world->snapshot);
    tf_snapshot_add_dir(&world->snapshot, world->fd, world->folder);
    assert_false(world->snapshot.is_usable);
    assert_false(tf_snapshot_holds(&world->snapshot, &world->opener));
}

static void what_is_not_there_is_noted_until_it_comes(void **state)
{
    struct world *world = *state;

    tf_snapshot_begin(&world->snapshot);
    add(world, "not-there");
    assert_true(tf_snapshot_holds(&world->snapshot, &world->opener));
    put(world, "not-there", "it came\n");
    assert_false(tf_snapshot_holds(&world->snapshot, &world->opener));
    assert_int_equal(unlinkat(world->fd, "not-there", 0), 0);
}

static void what_cannot_be_seen_is_not_noted(void **state)
{
    struct world *world = *state;

    tf_snapshot_begin(&world->snapshot);
    add(world, "a.log/not-a-folder");
    assert_false(world->snapshot.is_usable);
    add(world, "a.log");
    assert_int_equal(world->snapshot.entries.size, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(each_change_ends_it, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_young_directory_is_looked_at_again, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_is_not_there_is_noted_until_it_comes, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(what_cannot_be_seen_is_not_noted, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
