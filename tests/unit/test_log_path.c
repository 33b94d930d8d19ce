/* test_log_path.c - names in the paths of log files, and how a source is described by them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "taffrail/decode.h"

#define ID  "9b1f5c0e7a3d9b1f5c0e7a3d9b1f5c0e7a3d9b1f5c0e7a3d9b1f5c0e7a3d0123"
#define UID "6c1e2f3a-0000-4444-8888-123456789abc"

static void check(struct tf_slice found, const char *expected)
{
    assert_int_equal(found.size, strlen(expected));
    assert_memory_equal(found.data, expected, found.size);
}

static void kubelet_paths_tell_the_pod(void **state)
{
    static const char *const paths[] = {
        "/var/log/pods/shop_pay-0_" UID "/app/2.log",
        "pods/shop_pay-0_" UID "/app/2.log",
        "/var/log/pods/shop_pay-0_" UID "/app/2.log.20261123-101504",
    };
    struct tf_log_path out;

    (void)state;
    for (size_t i = 0; i < TF_COUNT(paths); i++) {
        assert_true(tf_log_path_parse(tf_slice_text(paths[i]), &out));
        check(out.namespace_name, "shop");
        check(out.pod_name, "pay-0");
        check(out.pod_uid, UID);
        check(out.container_name, "app");
        check(out.container_id, "");
        assert_true(out.has_restart_count);
        assert_int_equal(out.restart_count, 2);
    }
}

static void links_tell_pod_and_id(void **state)
{
    struct tf_log_path out;

    (void)state;
    assert_true(tf_log_path_parse(
        tf_slice_text("/var/log/containers/pay-0.x_shop_my-app-" ID ".log"), &out));
    check(out.namespace_name, "shop");
    check(out.pod_name, "pay-0.x");
    check(out.container_name, "my-app");
    check(out.container_id, ID);
    assert_false(out.has_restart_count);
    assert_true(
        tf_log_path_parse(tf_slice_text("/var/log/containers/p_n_c-9b1f5c0e7a3d.log"), &out));
    check(out.container_id, "9b1f5c0e7a3d");
}

static void docker_paths_tell_the_id(void **state)
{
    struct tf_log_path out;

    (void)state;
    assert_true(tf_log_path_parse(
        tf_slice_text("/var/lib/docker/containers/" ID "/" ID "-json.log"), &out));
    check(out.container_id, ID);
    check(out.pod_name, "");
    assert_true(tf_log_path_parse(
        tf_slice_text("/var/lib/docker/containers/" ID "/" ID "-json.log.1"), &out));
    check(out.container_id, ID);
}

static void other_paths_tell_nothing(void **state)
{
    static const char *const bad[] = {
        "",
        "/",
        "app.log",
        "/var/log/app.log",
        "/var/log/pods/shop_pay-0_" UID "/app/",
        "/var/log/pods/shop_pay-0_" UID "/app/x.log",
        "/var/log/pods/shop_pay-0_" UID "/app/.log",
        "/var/log/pods/shop_pay-0_" UID "/app/2.txt",
        "/var/log/pods/shop_pay-0_" UID "/app/2.log.",
        "/var/log/pods/shop_pay-0_" UID "/app/2.logs",
        "/var/log/pods/shop_pay-0_" UID "/app/1234567890.log",
        "/var/log/pods/shop_pay-0_" UID "/a_p/2.log",
        "/var/log/pods/shop_pay-0_" UID "/a\np/2.log",
        "/var/log/pods/shop_pay-0/app/2.log",
        "/var/log/pods/shop_pay-0_x_y/app/2.log",
        "/var/log/pods/_pay-0_" UID "/app/2.log",
        "/var/log/pots/shop_pay-0_" UID "/app/2.log",
        "/app/2.log",
        "/var/log/containers/pay-0_shop_app.log",
        "/var/log/containers/pay-0_shop_app-beef.log",
        "/var/log/containers/pay-0_app-" ID ".log",
        "/var/log/containers/pay-0_shop_app-" ID ".txt",
        "/var/log/containers/pay-0_shop_app-" ID "0.log",
        "/var/log/container/pay-0_shop_app-" ID ".log",
        "/var/log/containers/.log",
        "/var/lib/docker/containers/" ID "/9b1f5c0e7a3d-json.log",
        "/var/lib/docker/containers/" ID "/" ID ".log",
        "/var/lib/docker/containers/" ID "/" ID "-json.txt",
        "/var/lib/docker/other/" ID "/" ID "-json.log",
        "/var/lib/docker/containers/XYZ/XYZ-json.log",
    };
    struct tf_log_path out;

    (void)state;
    for (size_t i = 0; i < TF_COUNT(bad); i++) {
        assert_false(tf_log_path_parse(tf_slice_text(bad[i]), &out));
        assert_int_equal(out.namespace_name.size + out.pod_name.size + out.pod_uid.size +
                             out.container_name.size + out.container_id.size,
                         0);
        assert_false(out.has_restart_count);
    }
}

static void cut_paths_are_never_read_past_their_end(void **state)
{
    static const char *const whole[] = {
        "/var/log/pods/shop_pay-0_" UID "/app/2.log.20261123-101504",
        "/var/log/containers/pay-0_shop_app-" ID ".log",
        "/var/lib/docker/containers/" ID "/" ID "-json.log.1",
    };

    (void)state;
    for (size_t i = 0; i < TF_COUNT(whole); i++) {
        for (size_t size = 0; size <= strlen(whole[i]); size++) {
            char *copy = malloc(size + (size == 0));
            struct tf_log_path out;

            assert_non_null(copy);
            memcpy(copy, whole[i], size);
            (void)tf_log_path_parse(tf_slice(copy, size), &out);
            free(copy);
        }
    }
}

/* The field after which `seen` others of the record stand, as "key=value". */
static void check_field(const struct tf_batch *batch, uint32_t index, const char *key,
                        const char *value)
{
    const struct tf_field *field = &batch->fields[batch->records[0].first_field + index];

    check(tf_batch_slice(batch, field->key_at, field->key_size), key);
    if (value != NULL) {
        assert_int_equal(field->type, TF_VALUE_TEXT);
        check(tf_batch_slice(batch, field->value.text.at, field->value.text.size), value);
    }
}

static void describe(const char *path, const char *host, struct tf_batch *batch)
{
    struct tf_log_path out;

    (void)tf_log_path_parse(tf_slice_text(path), &out);
    assert_int_equal(tf_batch_init(batch), 0);
    assert_non_null(tf_batch_add_record(batch, 0, TF_STREAM_OTHER));
    assert_int_equal(tf_log_path_describe(&out, host, batch), 0);
}

static void pod_is_described_under_kubernetes(void **state)
{
    struct tf_batch batch;

    (void)state;
    describe("/var/log/pods/shop_pay-0_" UID "/app/2.log", "node-7", &batch);
    assert_int_equal(batch.records[0].field_count, 7);
    check_field(&batch, 0, "kubernetes", NULL);
    assert_int_equal(batch.fields[0].type, TF_VALUE_MAP);
    assert_int_equal(batch.fields[0].value.count, 6);
    check_field(&batch, 1, "namespace_name", "shop");
    check_field(&batch, 2, "pod_name", "pay-0");
    check_field(&batch, 3, "pod_id", UID);
    check_field(&batch, 4, "container_name", "app");
    check_field(&batch, 5, "host", "node-7");
    check_field(&batch, 6, "restart_count", NULL);
    assert_true(batch.fields[6].value.i == 2);
    tf_batch_fini(&batch);
    describe("/var/log/containers/pay-0_shop_app-" ID ".log", NULL, &batch);
    assert_int_equal(batch.fields[0].value.count, 4);
    check_field(&batch, 4, "docker_id", ID);
    tf_batch_fini(&batch);
}

static void docker_alone_is_described_by_its_id(void **state)
{
    struct tf_batch batch;

    (void)state;
    describe("/var/lib/docker/containers/" ID "/" ID "-json.log", "node-7", &batch);
    assert_int_equal(batch.records[0].field_count, 1);
    check_field(&batch, 0, "container_id", ID);
    tf_batch_fini(&batch);
    describe("/var/log/app.log", "node-7", &batch);
    assert_int_equal(batch.records[0].field_count, 0);
    tf_batch_fini(&batch);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kubelet_paths_tell_the_pod),
        cmocka_unit_test(links_tell_pod_and_id),
        cmocka_unit_test(docker_paths_tell_the_id),
        cmocka_unit_test(other_paths_tell_nothing),
        cmocka_unit_test(cut_paths_are_never_read_past_their_end),
        cmocka_unit_test(pod_is_described_under_kubernetes),
        cmocka_unit_test(docker_alone_is_described_by_its_id),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
