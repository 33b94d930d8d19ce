/*
 * test_tls_watch.c - files of certificates: what counts as a change of them, and when it is told.
 *
 * Files are loaded as an endpoint loads them, then looked at in steps, or by a loop. strdup and
 * reallocarray are defined here, before libc's, so that memory may run out.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "taffrail/admin.h"
#include "taffrail/http.h"
#include "taffrail/pipeline.h"

#include "../../agent/tls/internal.h"
#include "tls_fixture.h"

#define DEADLINE_MS 30000
#define NOBODY      65534
#define COPIES      4u /* of paths: the three, and that of ca for reasons */

static unsigned copies_left = UINT32_MAX;
static bool grows_no_more;

void *reallocarray(void *data, size_t count, size_t size)
{
    return grows_no_more ? NULL : realloc(data, count * size);
}

char *strdup(const char *text)
{
    size_t size = strlen(text) + 1;
    char *copy = copies_left > 0 ? malloc(size) : NULL;

    copies_left -= copies_left > 0;
    return copy != NULL ? memcpy(copy, text, size) : NULL;
}

/* ---- fixture -------------------------------------------------------------------------------- */

struct fixture {
    struct tls_fixture tls;
    struct tls_cert ca, node;
    struct tf_tls_options options;
    struct tf_tls_files *files;
    struct tf_error err;
    char told[256];
    unsigned calls, refusals; /* of on_change: so many, and the first of them fail */
    uv_loop_t loop;
};

static int load(struct fixture *f)
{
    struct tf_tls *endpoint = NULL;
    int rc = tf_tls_client_new(&f->options, f->files, &endpoint, &f->err);

    tf_tls_unref(endpoint);
    return rc;
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);

    assert_non_null(f);
    tls_fixture_init(&f->tls);
    tf_error_init(&f->err);
    f->ca = tls_ca_make("Root");
    f->node = tls_cert_make(&(struct tls_cert_options){
        .name = "node", .san = "DNS:node", .usage = "clientAuth", .issuer = &f->ca});
    tls_fixture_options(&f->tls, "node", &f->ca, &f->node, &f->options);
    f->files = tf_tls_files_new();
    assert_non_null(f->files);
    assert_int_equal(load(f), 0);
    assert_int_equal(uv_loop_init(&f->loop), 0);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(uv_loop_close(&f->loop), 0);
    tf_tls_files_free(f->files);
    tf_error_fini(&f->err);
    tls_cert_free(&f->node);
    tls_cert_free(&f->ca);
    tls_fixture_fini(&f->tls);
    free(f);
    return 0;
}

/* ---- what happens to files ------------------------------------------------------------------ */

static void write_text(const char *path, const char *text)
{
    FILE *file = tls_fixture_create(path);

    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

/* As one who renews does: another file takes the name. */
static void replace(const char *path)
{
    char other[256];

    (void)snprintf(other, sizeof other, "%s.new", path);
    write_text(other, "new");
    assert_int_equal(rename(other, path), 0);
}

/* The kernel's clock of files is coarse: until it shows. */
static void change_mode(const char *path)
{
    struct stat before, after;

    assert_int_equal(stat(path, &before), 0);
    do {
        assert_int_equal(chmod(path, 0400), 0);
        assert_int_equal(stat(path, &after), 0);
    } while (before.st_ctim.tv_sec == after.st_ctim.tv_sec &&
             before.st_ctim.tv_nsec == after.st_ctim.tv_nsec);
}

/* ---- looks ---------------------------------------------------------------------------------- */

static const char *look(struct fixture *f)
{
    tf_tls_files_look(f->files);
    return tf_tls_files_judge(f->files);
}

/* At the second look, until it is taken. */
static void tells(struct fixture *f, const char *path)
{
    assert_null(look(f));
    assert_string_equal(look(f), path);
    assert_string_equal(look(f), path);
    tf_tls_files_take(f->files);
    assert_null(look(f));
}

static void what_stays_is_not_told(void **state)
{
    struct fixture *f = *state;

    for (int i = 0; i < 3; i++) {
        assert_null(look(f));
    }
}

static void each_of_the_three_is_told(void **state)
{
    struct fixture *f = *state;
    const char *paths[] = {f->options.ca.text, f->options.cert.text, f->options.key.text};

    for (size_t i = 0; i < TF_COUNT(paths); i++) {
        replace(paths[i]);
        tells(f, paths[i]);
    }
}

/* Also a change before the first look: what counts is the file that was loaded. */
static void all_endpoints_are_looked_at(void **state)
{
    struct fixture *f = *state;
    const char *first = f->options.ca.text;

    tls_fixture_options(&f->tls, "other", &f->ca, &f->node, &f->options);
    for (int i = 0; i < 4; i++) { /* the list grows */
        assert_int_equal(load(f), 0);
    }
    replace(f->options.key.text);
    tells(f, f->options.key.text);
    replace(first);
    tells(f, first);
}

static void it_is_told_when_all_have_settled(void **state)
{
    struct fixture *f = *state;

    replace(f->options.cert.text);
    assert_null(look(f));
    replace(f->options.key.text);
    assert_null(look(f));
    replace(f->options.key.text);
    assert_null(look(f));
    assert_string_equal(look(f), f->options.cert.text);
}

static void one_that_is_gone_has_not_changed(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(unlink(f->options.key.text), 0);
    for (int i = 0; i < 3; i++) {
        assert_null(look(f));
    }
    write_text(f->options.key.text, "back");
    tells(f, f->options.key.text);
}

static void one_that_is_closed_to_us_has_not_changed(void **state)
{
    struct fixture *f = *state;
    bool is_root = geteuid() == 0;

    assert_int_equal(chmod(f->tls.folder, 0), 0);
    assert_true(!is_root || seteuid(NOBODY) == 0);
    for (int i = 0; i < 3; i++) {
        assert_null(look(f));
    }
    tf_tls_files_take(f->files); /* for another; what cannot be seen stays as it was */
    assert_true(!is_root || seteuid(0) == 0);
    assert_int_equal(chmod(f->tls.folder, 0700), 0);
    for (int i = 0; i < 3; i++) {
        assert_null(look(f));
    }
}

/* As the kubelet does with a Secret: x.pem -> ..data/x.pem, ..data -> ..0, then ..1. */
static void another_target_of_a_link_is_told(void **state)
{
    struct fixture *f = *state;
    const char *data = tls_fixture_path(&f->tls, "..data");
    const char *link = tls_fixture_path(&f->tls, "x.pem"), *swap = tls_fixture_path(&f->tls, "..2");
    char folders[2][64], files[2][96];

    for (int i = 0; i < 2; i++) {
        (void)snprintf(folders[i], sizeof folders[i], "%s/..%d", f->tls.folder, i);
        (void)snprintf(files[i], sizeof files[i], "%s/x.pem", folders[i]);
        assert_int_equal(mkdir(folders[i], 0700), 0);
    }
    assert_int_equal(rename(f->options.cert.text, files[0]), 0);
    write_text(files[1], "new");
    assert_int_equal(symlink("..0", data), 0);
    assert_int_equal(symlink("..data/x.pem", link), 0);
    f->options.cert.text = link;
    tf_tls_files_free(f->files);
    f->files = tf_tls_files_new();
    assert_int_equal(load(f), 0);
    assert_null(look(f));
    assert_int_equal(symlink("..1", swap), 0);
    assert_int_equal(rename(swap, data), 0);
    tells(f, link);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(unlink(files[i]), 0);
        assert_int_equal(rmdir(folders[i]), 0);
    }
}

/* It mends what a reload was refused for. */
static void another_mode_is_told(void **state)
{
    struct fixture *f = *state;

    change_mode(f->options.key.text);
    tells(f, f->options.key.text);
}

static void without_memory_nothing_is_loaded(void **state)
{
    struct fixture *f = *state;
    unsigned copies = 0;

    for (copies_left = 0; load(f) < 0; copies_left = ++copies) {
        assert_int_equal(f->err.errors, 0);
    }
    copies_left = UINT32_MAX;
    assert_int_equal(copies, COPIES);
}

/* One that cannot grow keeps what it has. */
static void without_memory_the_list_stays(void **state)
{
    struct fixture *f = *state;
    const char *path = f->options.key.text;
    struct stat st;
    unsigned added = 0;

    assert_int_equal(stat(path, &st), 0);
    grows_no_more = true;
    while (tf_tls_files_add(f->files, path, &st) == 0) {
        added++;
    }
    assert_int_equal(tf_tls_files_add(f->files, path, &st), -ENOMEM);
    grows_no_more = false;
    assert_in_range(added, 1, 16);
    assert_int_equal(tf_tls_files_add(f->files, path, &st), 0);
    assert_null(look(f));
    replace(path);
    tells(f, path);
}

/* ---- who loads them -------------------------------------------------------------------------- */

static const char all_that_load[] =
    "inputs:\n"
    "  - forward: {listen: '127.0.0.1:0', allow: [{identity: 'dns:*'}], tls: {ca: 0-ca.pem, "
    "cert: 0.pem, key: 0.key}}\n"
    "  - journald: {mode: upload, listen: '127.0.0.1:0', allow: [{identity: 'dns:*'}], tls: {ca: "
    "1-ca.pem, cert: 1.pem, key: 1.key}}\n"
    "outputs: [forward: {hosts: [localhost], tls: {ca: 2-ca.pem, cert: 2.pem, key: 2.key}}]\n"
    "spool: {path: spool}\n"
    "admin: {listen: ['127.0.0.1:0'], tls: {ca: 3-ca.pem, cert: 3.pem, key: 3.key}}\n";

static void on_end(void *ctx)
{
    (void)ctx;
}

/* Opens all that a configuration names, as `run` does, and closes it again. */
static void open_all(struct fixture *f)
{
    static const struct tf_reloads none;
    struct tf_pipeline *pipeline = NULL;
    struct tf_config *config = NULL;
    struct tf_admin *admin = NULL;
    struct tf_admin_args args = {.loop = &f->loop, .version = "", .reloads = &none};

    assert_int_equal(tf_config_parse(tf_slice_text(all_that_load), "all.yaml", f->tls.folder,
                                     &tf_plugins, &config, &f->err),
                     0);
    config->tls_files = f->files;
    args.config = config;
    assert_int_equal(tf_pipeline_new(&f->loop, config, &pipeline, &f->err), 0);
    assert_int_equal(tf_admin_new(&args, &admin, &f->err), 0);
    tf_admin_close(admin, on_end, NULL);
    tf_pipeline_stop(pipeline, on_end, NULL);
    (void)uv_run(&f->loop, UV_RUN_DEFAULT);
    tf_pipeline_free(pipeline);
    tf_config_free(config);
}

static void all_that_load_are_looked_at(void **state)
{
    struct fixture *f = *state;
    struct tls_cert both = tls_cert_make(&(struct tls_cert_options){
        .san = "DNS:node", .usage = "clientAuth,serverAuth", .issuer = &f->ca});
    const char *certs[4];

    if (!tf_http_is_built()) {
        skip();
    }
    for (int i = 0; i < 4; i++) {
        char name[] = {(char)('0' + i), '\0'};

        tls_fixture_options(&f->tls, name, &f->ca, &both, &f->options);
        certs[i] = f->options.cert.text;
    }
    tls_cert_free(&both);
    open_all(f);
    for (int i = 0; i < 4; i++) {
        replace(certs[i]);
        tells(f, certs[i]);
    }
}

/* ---- on a loop ------------------------------------------------------------------------------ */

static int on_change(void *ctx, const char *path)
{
    struct fixture *f = ctx;

    (void)snprintf(f->told, sizeof f->told, "%s", path);
    return f->calls++ < f->refusals ? -EAGAIN : 0;
}

static void watch(struct fixture *f)
{
    tf_tls_files_watch(
        f->files,
        &(struct tf_tls_watch){.loop = &f->loop, .every_ms = 1, .on_change = on_change, .ctx = f});
}

static void run_until_called(struct fixture *f, unsigned calls)
{
    uint64_t deadline_ms = uv_now(&f->loop) + DEADLINE_MS;

    while (f->calls < calls && uv_now(&f->loop) < deadline_ms) {
        (void)uv_run(&f->loop, UV_RUN_ONCE);
    }
    assert_int_equal(f->calls, calls);
}

static void a_loop_tells_a_change_once(void **state)
{
    struct fixture *f = *state;

    watch(f);
    replace(f->options.ca.text);
    run_until_called(f, 1);
    assert_string_equal(f->told, f->options.ca.text);
    replace(f->options.cert.text);
    run_until_called(f, 2);
    assert_string_equal(f->told, f->options.cert.text);
    tf_tls_files_unwatch(f->files);
    (void)uv_run(&f->loop, UV_RUN_DEFAULT);
    assert_int_equal(f->calls, 2);
}

static void what_was_not_passed_on_is_told_again(void **state)
{
    struct fixture *f = *state;

    f->refusals = 2;
    watch(f);
    replace(f->options.ca.text);
    run_until_called(f, 3);
    replace(f->options.ca.text);
    run_until_called(f, 4);
    tf_tls_files_unwatch(f->files);
    (void)uv_run(&f->loop, UV_RUN_DEFAULT);
}

static void hold_worker(uv_work_t *work)
{
    uv_sem_wait(work->data);
}

static void on_held(uv_work_t *work, int status)
{
    (void)work;
    assert_int_equal(status, 0);
}

/* Its result counts for nothing. The pool's one worker is held until then. */
static void it_ends_while_a_look_is_under_way(void **state)
{
    struct fixture *f = *state;
    uv_work_t hold;
    uv_sem_t over;

    assert_int_equal(uv_sem_init(&over, 0), 0);
    hold.data = &over;
    assert_int_equal(uv_queue_work(&f->loop, &hold, hold_worker, on_held), 0);
    replace(f->options.ca.text);
    assert_null(look(f)); /* so the next one tells */
    watch(f);
    while (f->loop.active_reqs.count < 2) {
        (void)uv_run(&f->loop, UV_RUN_ONCE);
    }
    tf_tls_files_unwatch(f->files);
    tf_tls_files_unwatch(f->files);
    uv_sem_post(&over);
    (void)uv_run(&f->loop, UV_RUN_DEFAULT);
    assert_int_equal(f->calls, 0);
    uv_sem_destroy(&over);
}

static void without_files_there_is_nothing_to_do(void **state)
{
    struct fixture *f = *state;

    tf_tls_files_free(f->files);
    f->files = tf_tls_files_new();
    watch(f);
    assert_false(uv_loop_alive(&f->loop));
    tf_tls_files_unwatch(f->files);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_stays_is_not_told),
        TEST(each_of_the_three_is_told),
        TEST(all_endpoints_are_looked_at),
        TEST(it_is_told_when_all_have_settled),
        TEST(one_that_is_gone_has_not_changed),
        TEST(one_that_is_closed_to_us_has_not_changed),
        TEST(another_target_of_a_link_is_told),
        TEST(another_mode_is_told),
        TEST(without_memory_nothing_is_loaded),
        TEST(without_memory_the_list_stays),
        TEST(all_that_load_are_looked_at),
        TEST(a_loop_tells_a_change_once),
        TEST(what_was_not_passed_on_is_told_again),
        TEST(it_ends_while_a_look_is_under_way),
        TEST(without_files_there_is_nothing_to_do),
    };

    return setenv("UV_THREADPOOL_SIZE", "1", 1) == 0 ? cmocka_run_group_tests(tests, NULL, NULL)
                                                     : 1;
}
