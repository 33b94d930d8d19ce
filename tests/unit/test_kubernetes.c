/*
 * test_kubernetes.c - pods from JSON, in a table and in a file: what is kept, for how long, within
 * which bounds. The filter as a whole, with an API server, is tests/integration/test_kubernetes.py.
 */
#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "../../filters/kubernetes/kubernetes.h"

#define NOW_MS 1000000u

/* Buffers grow by it, and leave behind what they held; it is found before libc's. */
static bool has_no_memory;

#define SECRET "secret-5d41402a"
static bool looks_for_secrets;
static unsigned secrets_left, secrets_wiped;

static bool has_secret(const void *data, size_t size)
{
    return looks_for_secrets && data != NULL && memmem(data, size, SECRET, strlen(SECRET)) != NULL;
}

void *realloc(void *data, size_t size)
{
    static void *(*next)(void *data, size_t size);

    if (next == NULL) {
        *(void **)&next = dlsym(RTLD_NEXT, "realloc");
    }
    secrets_left += has_secret(data, data != NULL ? malloc_usable_size(data) : 0);
    return has_no_memory ? NULL : next(data, size);
}

/* In place of libc's. */
void explicit_bzero(void *data, size_t size)
{
    char *volatile bytes = data; /* for gcc, that only writes */

    secrets_wiped += has_secret(bytes, size);
    for (size_t i = 0; i < size; i++) {
        bytes[i] = 0;
    }
}

struct fixture {
    struct tf_pods pods;
    struct tf_pod_events events;
    struct tf_text label_globs[2], annotation_globs[1];
    struct tf_texts labels, annotations;
    struct tf_buf bytes;
    uint64_t left_out;
};

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);

    assert_non_null(f);
    f->label_globs[0].text = "*";
    f->annotation_globs[0].text = "team/*";
    f->labels = (struct tf_texts){.items = f->label_globs, .count = 1};
    f->annotations = (struct tf_texts){.items = f->annotation_globs, .count = 1};
    f->events = (struct tf_pod_events){
        .pods = &f->pods, .choice = {.labels = &f->labels, .annotations = &f->annotations}};
    tf_buf_init(&f->bytes, 2 << 20);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    has_no_memory = looks_for_secrets = false; /* after a failed test, too */
    tf_pods_fini(&f->pods);
    tf_buf_fini(&f->bytes);
    free(f);
    return 0;
}

/* ---- one pod ------------------------------------------------------------------------------------
 */

static int parse(struct fixture *f, const char *json)
{
    tf_buf_clear(&f->bytes);
    f->left_out = 0;
    return tf_pod_parse(tf_slice_text(json), &f->events.choice, &f->bytes, &f->left_out);
}

static struct tf_pod_view view(const struct fixture *f)
{
    struct tf_pod_view view;

    assert_int_equal(tf_pod_decode(tf_buf_slice(&f->bytes), &view), 0);
    return view;
}

static void assert_text(struct tf_slice text, const char *wanted)
{
    assert_int_equal(text.size, strlen(wanted));
    assert_memory_equal(text.data, wanted, text.size);
}

static void assert_pair(struct tf_slice *pairs, const char *key, const char *value)
{
    struct tf_slice a, b;

    assert_true(tf_pod_pair(pairs, &a, &b));
    assert_text(a, key);
    assert_text(b, value);
}

#define NAMES "\"name\":\"pay-0\",\"namespace\":\"shop\",\"uid\":\"u-1\""

static void a_pod_is_its_names_labels_and_annotations(void **state)
{
    struct fixture *f = *state;
    struct tf_pod_view pod;

    assert_int_equal(
        parse(f, " {\"kind\":\"Pod\",\"spec\":{\"labels\":{\"no\":\"no\"}},\"metadata\":{" NAMES
                 ",\"labels\":{\"app\":\"p\\u00e4y\",\"a.b/c\":\"\"},\"annotations\":"
                 "{\"team/x\":\"1\\n2\",\"other\":\"no\"}},\"status\":{}} "),
        0);
    pod = view(f);
    assert_text(pod.uid, "u-1");
    assert_text(pod.namespace_name, "shop");
    assert_text(pod.name, "pay-0");
    assert_text(pod.owner_kind, "");
    assert_text(pod.owner_name, "");
    assert_int_equal(pod.label_count, 2);
    assert_pair(&pod.labels, "app", "p\xc3\xa4y");
    assert_pair(&pod.labels, "a.b/c", "");
    assert_int_equal(pod.annotation_count, 1);
    assert_pair(&pod.annotations, "team/x", "1\n2");
    assert_int_equal(f->left_out, 0);
}

static void the_owner_is_what_people_call_it(void **state)
{
    static const struct {
        const char *references, *hash, *kind, *name;
    } cases[] = {
        {"{\"kind\":\"ReplicaSet\",\"name\":\"pay-5f7c9d8b6d\",\"controller\":true}", "5f7c9d8b6d",
         "Deployment", "pay"},
        {"{\"kind\":\"ReplicaSet\",\"name\":\"pay-5f7c9d8b6d\"}", "other", "ReplicaSet",
         "pay-5f7c9d8b6d"},
        {"{\"kind\":\"ReplicaSet\",\"name\":\"-5f7c9d8b6d\"}", "5f7c9d8b6d", "ReplicaSet",
         "-5f7c9d8b6d"},
        {"{\"kind\":\"Job\",\"name\":\"backup-29412345\"}", "", "CronJob", "backup"},
        {"{\"kind\":\"Job\",\"name\":\"backup-2941234\"}", "", "Job", "backup-2941234"},
        {"{\"kind\":\"Job\",\"name\":\"29412345\"}", "", "Job", "29412345"},
        {"{\"kind\":\"Job\",\"name\":\"migrate\"}", "", "Job", "migrate"},
        {"{\"kind\":\"A\",\"name\":\"a\"},{\"controller\":true,\"kind\":\"DaemonSet\",\"name\":"
         "\"agent\"}",
         "", "DaemonSet", "agent"},
        {"{\"kind\":\"A\",\"name\":\"a\"},{\"controller\":false,\"kind\":\"B\",\"name\":\"b\"}", "",
         "A", "a"},
        {"7", "", "", ""},
    };
    struct fixture *f = *state;

    for (size_t i = 0; i < TF_COUNT(cases); i++) {
        struct tf_pod_view pod;
        char json[512];

        (void)snprintf(json, sizeof json,
                       "{\"metadata\":{" NAMES ",\"ownerReferences\":[%s],\"labels\":"
                       "{\"pod-template-hash\":\"%s\"}}}",
                       cases[i].references, cases[i].hash);
        assert_int_equal(parse(f, json), 0);
        pod = view(f);
        assert_text(pod.owner_kind, cases[i].kind);
        assert_text(pod.owner_name, cases[i].name);
    }
}

/* The kubelet names a static pod's folder by the hash of its manifest. */
static void a_mirror_goes_by_the_uid_of_its_logs(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(parse(f, "{\"metadata\":{" NAMES ",\"annotations\":"
                              "{\"kubernetes.io/config.mirror\":\"5d41402abc4b2a76\"}}}"),
                     0);
    assert_text(view(f).uid, "5d41402abc4b2a76");
    assert_int_equal(view(f).annotation_count, 0); /* not chosen */
}

static void what_is_no_pod_is_refused(void **state)
{
    static const char *const texts[] = {
        "",
        "{",
        "[]",
        "7",
        "{}",
        "{\"metadata\":7}",
        "{\"metadata\":{}}",
        "{\"metadata\":{\"name\":\"a\",\"namespace\":\"b\"}}",
        "{\"metadata\":{\"name\":\"a\",\"namespace\":\"b\",\"uid\":7}}",
        "{\"metadata\":{\"name\":\"a\",\"namespace\":\"b\",\"uid\":\"\"}}",
        "{\"metadata\":{\"name\":\"a b\",\"namespace\":\"b\",\"uid\":\"u\"}}",
        "{\"metadata\":{\"name\":\"a\\u0000\",\"namespace\":\"b\",\"uid\":\"u\"}}",
        "{\"metadata\":{" NAMES "},}",
        "{\"metadata\":{" NAMES "}} {}",
    };
    struct fixture *f = *state;

    for (size_t i = 0; i < TF_COUNT(texts); i++) {
        assert_int_equal(parse(f, texts[i]), -EPROTO);
    }
}

/* A value that is no text, an equal key: the rest stands. */
static void strange_labels_are_left_out(void **state)
{
    struct fixture *f = *state;
    struct tf_pod_view pod;

    assert_int_equal(parse(f, "{\"metadata\":{" NAMES ",\"labels\":{\"a\":7,\"b\":null,\"c\":{},"
                              "\"d\":\"1\",\"d\":\"2\",\"e\":\"x\ty\",\"f\":\"2\"}}}"),
                     0);
    pod = view(f);
    assert_int_equal(pod.label_count, 2);
    assert_pair(&pod.labels, "d", "1");
    assert_pair(&pod.labels, "f", "2");
    assert_int_equal(f->left_out, 4); /* a, b, c and e, where a control character stands */
    assert_int_equal(parse(f, "{\"metadata\":{" NAMES ",\"labels\":[\"a\"]}}"), 0);
    assert_int_equal(view(f).label_count, 0);
}

static void put_label(struct tf_buf *json, unsigned number, size_t size)
{
    (void)tf_buf_printf(json, "%s\"label-%u\":\"", number > 0 ? "," : "", number);
    for (size_t i = 0; i < size; i++) {
        (void)tf_buf_append_byte(json, 'x');
    }
    (void)tf_buf_append_byte(json, '"');
}

static void parse_many(struct fixture *f, unsigned count, size_t size)
{
    struct tf_buf json;

    tf_buf_init(&json, 2 << 20);
    (void)tf_buf_append_text(&json, "{\"metadata\":{" NAMES ",\"labels\":{");
    for (unsigned i = 0; i < count; i++) {
        put_label(&json, i, size);
    }
    (void)tf_buf_append_text(&json, "}}}");
    (void)tf_buf_append_byte(&json, 0);
    assert_int_equal(json.error, 0);
    assert_int_equal(parse(f, json.data), 0);
    tf_buf_fini(&json);
}

static void what_is_kept_has_a_bound(void **state)
{
    struct fixture *f = *state;

    parse_many(f, 500, 10);
    assert_int_equal(view(f).label_count, TF_POD_PAIRS_MAX);
    assert_int_equal(f->left_out, 500 - TF_POD_PAIRS_MAX);
    parse_many(f, 60, 1000);
    assert_true(view(f).label_count >= 14 && f->bytes.size <= TF_POD_BYTES_MAX);
    assert_int_equal(f->left_out, 60 - view(f).label_count);
    parse_many(f, 2, TF_POD_BYTES_MAX); /* none has room */
    assert_int_equal(view(f).label_count, 0);
    assert_int_equal(f->left_out, 2);
    for (size_t size = TF_POD_BYTES_MAX - 300; size < TF_POD_BYTES_MAX; size++) {
        parse_many(f, 1, size); /* whatever fits, fits with what comes behind */
        assert_int_equal(view(f).label_count + f->left_out, 1);
    }
}

/* What is kept is read again from a file: any change of it is refused, or is a pod too. */
static void what_is_kept_is_checked_when_read(void **state)
{
    struct fixture *f = *state;
    struct tf_pod_view pod;

    assert_int_equal(parse(f, "{\"metadata\":{" NAMES ",\"labels\":{\"a\":\"b\"}}}"), 0);
    for (size_t i = 0; i < f->bytes.size; i++) {
        assert_int_equal(tf_pod_decode(tf_slice(f->bytes.data, i), &pod), -EPROTO);
    }
    (void)tf_buf_append_byte(&f->bytes, 0);
    assert_int_equal(tf_pod_decode(tf_buf_slice(&f->bytes), &pod), -EPROTO);
}

/* ---- where the server is ------------------------------------------------------------------------
 */

static void a_server_is_a_host_and_a_port(void **state)
{
    static const struct {
        const char *url;
        unsigned port;
        bool is_literal;
    } sound[] = {{"https://10.0.0.1:6443", 6443, true},
                 {"https://[2001:db8::1]:443/", 443, true},
                 {"https://[::1]", 443, true},
                 {"https://api.example.com", 443, false},
                 {"https://api-1.example.com:1/", 1, false}};
    static const char *const wrong[] = {"",
                                        "http://10.0.0.1",
                                        "https://",
                                        "https://:443",
                                        "https://a:0",
                                        "https://a:65536",
                                        "https://a:99999999999999999999",
                                        "https://a:000443", /* no more than a URL has room for */
                                        "https://a:",
                                        "https://a:443x",
                                        "https://a/path",
                                        "https://a?b",
                                        "https://user@a",
                                        "https://[::1",
                                        "https://[a.b]",
                                        "https://[::1]x",
                                        "https://a b"};
    struct tf_server server;

    (void)state;
    for (size_t i = 0; i < TF_COUNT(sound); i++) {
        assert_int_equal(tf_server_parse(sound[i].url, &server), 0);
        assert_int_equal(server.port, sound[i].port);
        assert_int_equal(server.is_literal, sound[i].is_literal);
    }
    for (size_t i = 0; i < TF_COUNT(wrong); i++) {
        assert_int_equal(tf_server_parse(wrong[i], &server), -EINVAL);
    }
}

/* ---- the table ----------------------------------------------------------------------------------
 */

static const char *pod_json(const char *name, const char *uid, const char *label)
{
    static char json[512];

    (void)snprintf(json, sizeof json,
                   "{\"metadata\":{\"name\":\"%s\",\"namespace\":\"shop\",\"uid\":\"%s\","
                   "\"resourceVersion\":\"7\",\"labels\":{\"app\":\"%s\"}}}",
                   name, uid, label);
    return json;
}

static int put(struct fixture *f, const char *name, const char *uid, const char *label)
{
    assert_int_equal(parse(f, pod_json(name, uid, label)), 0);
    return tf_pods_put(&f->pods, tf_buf_slice(&f->bytes), NOW_MS);
}

static void delete_pod(struct fixture *f, const char *name, const char *uid, uint64_t now_ms)
{
    assert_int_equal(parse(f, pod_json(name, uid, "any")), 0);
    tf_pods_delete(&f->pods, tf_buf_slice(&f->bytes), now_ms);
}

static struct tf_pod *find(const struct fixture *f, const char *name, const char *uid)
{
    return tf_pods_find(&f->pods, &(struct tf_pod_name){.uid = tf_slice_text(uid),
                                                        .namespace_name = tf_slice_text("shop"),
                                                        .name = tf_slice_text(name)});
}

static void a_pod_is_found_by_all_its_names(void **state)
{
    struct fixture *f = *state;
    struct tf_pod *first, *second;

    assert_int_equal(put(f, "pay-0", "u-1", "pay"), 0);
    assert_int_equal(put(f, "other", "u-1", "liar"), 0); /* claims its uid */
    assert_int_equal(f->pods.count, 2);
    first = find(f, "pay-0", "u-1");
    second = find(f, "other", "u-1");
    assert_true(first != NULL && second != NULL && first != second);
    assert_null(find(f, "pay-0", "u-2"));
    assert_null(find(f, "pay-1", "u-1"));
    assert_ptr_equal(find(f, "pay-0", ""), first); /* a path without a uid */
    assert_int_equal(put(f, "pay-0", "u-3", "pay"), 0);
    delete_pod(f, "pay-0", "u-1", NOW_MS);
    assert_ptr_equal(find(f, "pay-0", ""), find(f, "pay-0", "u-3")); /* the one that lives */
}

static void only_a_change_makes_a_version(void **state)
{
    struct fixture *f = *state;
    uint64_t version;

    assert_int_equal(put(f, "pay-0", "u-1", "one"), 0);
    version = find(f, "pay-0", "u-1")->version;
    assert_int_equal(put(f, "pay-0", "u-1", "one"), 0);
    assert_int_equal(find(f, "pay-0", "u-1")->version, version);
    assert_int_equal(put(f, "pay-0", "u-1", "two"), 0);
    assert_true(find(f, "pay-0", "u-1")->version > version);
    assert_int_equal(f->pods.count, 1);
}

static void a_deleted_pod_stays_for_its_last_lines(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(put(f, "pay-0", "u-1", "one"), 0);
    assert_int_equal(put(f, "pay-1", "u-2", "two"), 0);
    find(f, "pay-1", "u-2")->users = 1;
    delete_pod(f, "pay-0", "u-1", NOW_MS);
    delete_pod(f, "pay-1", "u-2", NOW_MS);
    tf_pods_drop_old(&f->pods, NOW_MS + TF_POD_KEPT_MS - 1);
    assert_int_equal(f->pods.count, 2);
    tf_pods_drop_old(&f->pods, NOW_MS + TF_POD_KEPT_MS);
    assert_null(find(f, "pay-0", "u-1"));
    assert_non_null(find(f, "pay-1", "u-2")); /* its log is being read */
    find(f, "pay-1", "u-2")->users = 0;
    tf_pods_drop_old(&f->pods, NOW_MS + TF_POD_KEPT_MS);
    assert_int_equal(f->pods.count, 0);
    assert_int_equal(f->pods.bytes, 0);
}

/* It came back, as after a list that was too old. */
static void a_pod_that_is_put_again_lives(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(put(f, "pay-0", "u-1", "one"), 0);
    delete_pod(f, "pay-0", "u-1", NOW_MS);
    assert_int_equal(put(f, "pay-0", "u-1", "one"), 0);
    tf_pods_drop_old(&f->pods, NOW_MS + 10 * TF_POD_KEPT_MS);
    assert_int_equal(f->pods.count, 1);
}

static void what_a_list_lacks_was_deleted(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(put(f, "pay-0", "u-1", "one"), 0);
    assert_int_equal(put(f, "pay-1", "u-2", "two"), 0);
    tf_pods_begin_list(&f->pods);
    assert_int_equal(put(f, "pay-1", "u-2", "two"), 0);
    assert_true(tf_pods_end_list(&f->pods, NOW_MS));
    assert_int_equal(find(f, "pay-0", "u-1")->deleted_ms, NOW_MS);
    assert_int_equal(find(f, "pay-1", "u-2")->deleted_ms, 0);
    tf_pods_begin_list(&f->pods);
    assert_int_equal(put(f, "pay-1", "u-2", "two"), 0);
    assert_false(tf_pods_end_list(&f->pods, NOW_MS + 5));
    assert_int_equal(find(f, "pay-0", "u-1")->deleted_ms, NOW_MS); /* since then, not since now */
}

static void there_are_only_so_many(void **state)
{
    struct fixture *f = *state;
    char uid[32];

    for (unsigned i = 0; i < TF_PODS_MAX; i++) {
        (void)snprintf(uid, sizeof uid, "u-%u", i);
        assert_int_equal(put(f, "pay", uid, "x"), 0);
    }
    assert_int_equal(put(f, "pay", "one-more", "x"), -ENOSPC);
    assert_int_equal(f->pods.left_out, 1);
    assert_int_equal(put(f, "pay", "u-7", "changed"), 0); /* no new one */
    delete_pod(f, "pay", "u-5", NOW_MS);
    delete_pod(f, "pay", "u-6", NOW_MS);
    find(f, "pay", "u-6")->users = 1;
    assert_int_equal(put(f, "pay", "one-more", "x"), 0); /* in place of one that was deleted */
    assert_null(find(f, "pay", "u-5"));
    assert_non_null(find(f, "pay", "u-6"));
    assert_int_equal(put(f, "pay", "another", "x"), -ENOSPC);
    find(f, "pay", "u-6")->users = 0;
}

/* Until there is no room for another as large. */
static unsigned fill(struct fixture *f)
{
    unsigned count = 0;
    char uid[32];
    int rc = 0;

    while (rc == 0) {
        parse_many(f, 1, TF_POD_BYTES_MAX - 200);
        (void)snprintf(uid, sizeof uid, "%03u", count);
        memcpy(f->bytes.data + 4, uid, 3); /* in place of "u-1" */
        rc = tf_pods_put(&f->pods, tf_buf_slice(&f->bytes), NOW_MS);
        count += rc == 0;
    }
    assert_int_equal(rc, -ENOSPC);
    return count;
}

static void they_have_only_so_many_bytes(void **state)
{
    struct fixture *f = *state;
    unsigned count = fill(f);

    assert_true(f->pods.bytes <= TF_PODS_BYTES_MAX);
    assert_true(count > 500 && count < TF_PODS_MAX);
}

/* Its new labels are left out, but it was not deleted. */
static void one_without_room_to_grow_lives(void **state)
{
    struct fixture *f = *state;
    uint64_t version;

    parse_many(f, 1, 10);
    assert_int_equal(tf_pods_put(&f->pods, tf_buf_slice(&f->bytes), NOW_MS), 0);
    version = find(f, "pay-0", "u-1")->version;
    (void)fill(f);
    tf_pods_begin_list(&f->pods);
    parse_many(f, 1, TF_POD_BYTES_MAX - 200);
    assert_int_equal(tf_pods_put(&f->pods, tf_buf_slice(&f->bytes), NOW_MS), -ENOSPC);
    (void)tf_pods_end_list(&f->pods, NOW_MS);
    assert_int_equal(find(f, "pay-0", "u-1")->deleted_ms, 0);
    assert_int_equal(find(f, "pay-0", "u-1")->version, version);
}

/* ---- streams ------------------------------------------------------------------------------------
 */

struct parts {
    char texts[8][256];
    enum tf_split_part kinds[8];
    unsigned count;
    int answer;
};

static int take_part(void *ctx, enum tf_split_part part, struct tf_slice object)
{
    struct parts *parts = ctx;

    assert_true(parts->count < TF_COUNT(parts->texts));
    (void)snprintf(parts->texts[parts->count], sizeof parts->texts[0], "%.*s", (int)object.size,
                   object.size > 0 ? object.data : "");
    parts->kinds[parts->count++] = part;
    return parts->answer;
}

/* Fed whole, and cut in two everywhere, the same parts come out. */
static void split(enum tf_split_kind kind, const char *text, struct parts *out, bool *is_whole)
{
    size_t size = strlen(text);

    for (size_t cut = 0; cut <= size; cut++) {
        struct tf_split own;
        struct parts parts = {0};

        tf_split_init(&own, kind);
        assert_int_equal(tf_split_feed(&own, tf_slice(text, cut), take_part, &parts), 0);
        assert_int_equal(tf_split_feed(&own, tf_slice(text + cut, size - cut), take_part, &parts),
                         0);
        *is_whole = tf_split_is_whole(&own);
        tf_split_fini(&own);
        assert_true(cut == 0 || memcmp(out, &parts, sizeof parts) == 0);
        *out = parts;
    }
}

static void a_watch_is_cut_into_its_objects(void **state)
{
    struct parts parts;
    bool is_whole;

    (void)state;
    split(TF_SPLIT_WATCH, "{\"a\":\"}\\\"{\",\"b\":[{}]}\n\n{\"c\":1}{\"d\":", &parts, &is_whole);
    assert_int_equal(parts.count, 2);
    assert_string_equal(parts.texts[0], "{\"a\":\"}\\\"{\",\"b\":[{}]}");
    assert_string_equal(parts.texts[1], "{\"c\":1}");
    assert_false(is_whole);
    split(TF_SPLIT_WATCH, "{\"c\":1}\n", &parts, &is_whole);
    assert_true(is_whole);
}

static void a_list_is_cut_into_its_items(void **state)
{
    struct parts parts;
    bool is_whole;

    (void)state;
    split(TF_SPLIT_LIST,
          "{\"kind\":\"items\",\"x\":[{\"no\":1}],\"metadata\":{\"v\":\"9\",\"items\":[{}]},"
          "\"items\": [{\"metadata\":{\"n\":1}} , {\"b\":[]}],\"y\":[{\"no\":2}],\"z\":{}}\n",
          &parts, &is_whole);
    assert_int_equal(parts.count, 3);
    assert_int_equal(parts.kinds[0], TF_SPLIT_METADATA);
    assert_string_equal(parts.texts[0], "{\"v\":\"9\",\"items\":[{}]}");
    assert_int_equal(parts.kinds[1], TF_SPLIT_OBJECT);
    assert_string_equal(parts.texts[1], "{\"metadata\":{\"n\":1}}");
    assert_string_equal(parts.texts[2], "{\"b\":[]}");
    assert_true(is_whole);
    split(TF_SPLIT_LIST, "{\"items\":[{\"a\":1}]", &parts, &is_whole);
    assert_int_equal(parts.count, 1);
    assert_false(is_whole);
    split(TF_SPLIT_LIST, "", &parts, &is_whole);
    assert_false(is_whole);
}

static void a_stream_without_end_is_bounded(void **state)
{
    static char block[65536];
    struct tf_split own;
    struct parts parts = {0};

    (void)state;
    memset(block, 'x', sizeof block);
    tf_split_init(&own, TF_SPLIT_WATCH);
    assert_int_equal(tf_split_feed(&own, tf_slice_text("{\"a\":\""), take_part, &parts), 0);
    for (unsigned i = 0; i < 64; i++) {
        assert_int_equal(tf_split_feed(&own, tf_slice(block, sizeof block), take_part, &parts), 0);
        assert_true(own.object.capacity <= TF_OBJECT_MAX);
    }
    assert_int_equal(tf_split_feed(&own, tf_slice_text("\"}{\"b\":1}"), take_part, &parts), 0);
    assert_int_equal(parts.count, 2);
    assert_int_equal(parts.kinds[0], TF_SPLIT_TOO_LARGE);
    assert_string_equal(parts.texts[1], "{\"b\":1}"); /* what follows is taken */
    tf_split_fini(&own);
}

static void what_is_no_json_ends_the_stream(void **state)
{
    static const struct {
        enum tf_split_kind kind;
        const char *text;
    } cases[] = {{TF_SPLIT_WATCH, "}"}, {TF_SPLIT_LIST, "{}]"}, {TF_SPLIT_LIST, "{}{"}};
    struct tf_split own;
    struct parts parts = {0};

    (void)state;
    for (size_t i = 0; i < TF_COUNT(cases); i++) {
        tf_split_init(&own, cases[i].kind);
        assert_int_equal(tf_split_feed(&own, tf_slice_text(cases[i].text), take_part, &parts),
                         -EPROTO);
        tf_split_fini(&own);
    }
    tf_split_init(&own, TF_SPLIT_WATCH);
    for (unsigned i = 0; i < 64; i++) {
        assert_int_equal(tf_split_feed(&own, tf_slice_text("["), take_part, &parts), 0);
    }
    assert_int_equal(tf_split_feed(&own, tf_slice_text("["), take_part, &parts), -EPROTO);
    tf_split_fini(&own);
    tf_split_init(&own, TF_SPLIT_WATCH);
    parts.answer = -ECANCELED;
    assert_int_equal(tf_split_feed(&own, tf_slice_text("{}{}"), take_part, &parts), -ECANCELED);
    assert_int_equal(parts.count, 1);
    tf_split_fini(&own);
}

/* ---- events -------------------------------------------------------------------------------------
 */

static enum tf_pod_answer event(struct fixture *f, const char *type, const char *object)
{
    char json[1024];

    (void)snprintf(json, sizeof json, "{\"type\":\"%s\",\"object\":%s}", type, object);
    return tf_pod_events_take(&f->events, tf_slice_text(json), NOW_MS);
}

static void events_change_pods(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(event(f, "ADDED", pod_json("pay-0", "u-1", "one")), TF_EVENT_CHANGED);
    assert_string_equal(f->events.version, "7");
    assert_int_equal(event(f, "MODIFIED", pod_json("pay-0", "u-1", "one")), TF_EVENT_NONE);
    assert_int_equal(event(f, "MODIFIED", pod_json("pay-0", "u-1", "two")), TF_EVENT_CHANGED);
    assert_int_equal(event(f, "BOOKMARK", "{\"metadata\":{\"resourceVersion\":\"8-a.B_\"}}"),
                     TF_EVENT_NONE);
    assert_string_equal(f->events.version, "8-a.B_");
    assert_int_equal(event(f, "DELETED", pod_json("pay-0", "u-1", "two")), TF_EVENT_CHANGED);
    assert_int_equal(find(f, "pay-0", "u-1")->deleted_ms, NOW_MS);
    assert_int_equal(event(f, "DELETED", pod_json("never", "u-9", "seen")), TF_EVENT_CHANGED);
    assert_int_equal(f->events.left_out, 0);
}

static void errors_end_a_watch(void **state)
{
    struct fixture *f = *state;

    (void)snprintf(f->events.version, sizeof f->events.version, "7");
    assert_int_equal(event(f, "ERROR", "{\"code\":500}"), TF_EVENT_REFUSED);
    assert_string_equal(f->events.version, "7");
    assert_int_equal(event(f, "ERROR", "{\"code\":410}"), TF_EVENT_GONE);
    assert_string_equal(f->events.version, "");
}

/* Otherwise the watch goes on behind a pod that nobody knows. */
static void without_memory_the_version_stays(void **state)
{
    struct fixture *f = *state;

    (void)snprintf(f->events.version, sizeof f->events.version, "5");
    has_no_memory = true;
    assert_int_equal(event(f, "ADDED", pod_json("pay-0", "u-1", "one")), TF_EVENT_NO_MEMORY);
    has_no_memory = false;
    assert_string_equal(f->events.version, "5");
    assert_int_equal(f->events.left_out, 0);
}

static int take_object(void *ctx, enum tf_split_part part, struct tf_slice object)
{
    struct fixture *f = ctx;

    assert_int_equal(part, TF_SPLIT_OBJECT);
    assert_int_equal(tf_pod_events_take(&f->events, object, NOW_MS), TF_EVENT_CHANGED);
    return 0;
}

/* An annotation may be one; redaction takes it out of records only. */
static void secrets_of_pods_are_left_nowhere(void **state)
{
    struct fixture *f = *state;
    struct tf_split split;
    char json[8192];
    int size = snprintf(json, sizeof json,
                        "{\"type\":\"ADDED\",\"object\":{\"metadata\":{" NAMES
                        ",\"resourceVersion\":\"7\",\"labels\":{\"a\":\"" SECRET
                        "\",\"b\":\"%.4000d\"}}}}",
                        0);

    looks_for_secrets = true;
    secrets_left = secrets_wiped = 0;
    tf_split_init(&split, TF_SPLIT_WATCH);
    assert_int_equal(tf_split_feed(&split, tf_slice(json, (size_t)size), take_object, f), 0);
    assert_int_equal(secrets_wiped, 1); /* what was made of the object */
    tf_split_fini(&split);
    assert_int_equal(secrets_wiped, 2); /* the object */
    assert_int_equal(put(f, "pay-0", "u-1", "changed"), 0);
    assert_int_equal(secrets_wiped, 3); /* the pod as it was */
    assert_int_equal(put(f, "pay-0", "u-1", SECRET), 0);
    delete_pod(f, "pay-0", "u-1", NOW_MS);
    tf_pods_drop_old(&f->pods, NOW_MS + TF_POD_KEPT_MS);
    assert_int_equal(f->pods.count, 0);
    assert_int_equal(secrets_wiped, 4); /* the pod that is gone */
    assert_int_equal(secrets_left, 0);
}

static void malformed_events_are_passed_over(void **state)
{
    static const char *const versions[] = {"7", "\"\"", "\"a&b\"", "\"a b\"", "null"};
    struct fixture *f = *state;
    char json[128];

    (void)snprintf(f->events.version, sizeof f->events.version, "5");
    assert_int_equal(event(f, "UNKNOWN", pod_json("a", "u", "x")), TF_EVENT_MALFORMED);
    assert_int_equal(event(f, "ADDED", "{}"), TF_EVENT_MALFORMED);
    assert_int_equal(event(f, "ADDED", "{\"metadata\":"), TF_EVENT_MALFORMED);
    assert_int_equal(event(f, "BOOKMARK", "{}"), TF_EVENT_MALFORMED);
    /* Nothing is taken of it: a change that nobody is told of would be worse. */
    assert_int_equal(event(f, "ADDED", "{\"metadata\":{" NAMES "}}"), TF_EVENT_MALFORMED);
    assert_int_equal(f->pods.count, 0);
    for (size_t i = 0; i < TF_COUNT(versions); i++) {
        (void)snprintf(json, sizeof json, "{\"metadata\":{\"resourceVersion\":%s}}", versions[i]);
        assert_int_equal(event(f, "BOOKMARK", json), TF_EVENT_MALFORMED);
    }
    assert_string_equal(f->events.version, "5");
    assert_int_equal(f->events.left_out, 5 + TF_COUNT(versions));
    assert_int_equal(f->pods.count, 0);
}

/* ---- the file -----------------------------------------------------------------------------------
 */

static void the_file_holds_all_pods(void **state)
{
    struct fixture *f = *state;
    struct fixture again = {0};
    struct tf_buf text;

    assert_int_equal(put(f, "pay-0", "u-1", "one"), 0);
    assert_int_equal(put(f, "pay-1", "u-2", "two"), 0);
    delete_pod(f, "pay-1", "u-2", NOW_MS);
    tf_buf_init(&text, 1 << 20);
    tf_pod_cache_encode(&f->pods, &text);
    assert_int_equal(text.error, 0);
    assert_int_equal(tf_pod_cache_decode(tf_buf_slice(&text), &again.pods, 5), 0);
    assert_int_equal(again.pods.count, 2);
    assert_int_equal(find(&again, "pay-0", "u-1")->deleted_ms, 0);
    assert_int_equal(find(&again, "pay-1", "u-2")->deleted_ms, 5); /* it stays a while from here */
    tf_pods_fini(&again.pods);
    tf_buf_fini(&text);
}

static void a_damaged_file_holds_nothing(void **state)
{
    struct fixture *f = *state;
    struct tf_pods again = {0};
    struct tf_buf text;

    assert_int_equal(put(f, "pay-0", "u-1", "one"), 0);
    assert_int_equal(put(f, "pay-1", "u-2", "two"), 0);
    tf_buf_init(&text, 1 << 20);
    tf_pod_cache_encode(&f->pods, &text);
    for (size_t i = 0; i < text.size; i++) {
        assert_int_equal(tf_pod_cache_decode(tf_slice(text.data, i), &again, 1), -EPROTO);
        assert_int_equal(again.count, 0);
    }
    (void)tf_buf_append_byte(&text, 0);
    assert_int_equal(tf_pod_cache_decode(tf_buf_slice(&text), &again, 1), -EPROTO);
    text.size--;
    text.data[3] = '2'; /* another version */
    assert_int_equal(tf_pod_cache_decode(tf_buf_slice(&text), &again, 1), -EPROTO);
    text.data[3] = '1';
    tf_store32(text.data + 4, UINT32_MAX);
    assert_int_equal(tf_pod_cache_decode(tf_buf_slice(&text), &again, 1), -EPROTO);
    tf_buf_fini(&text);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(a_pod_is_its_names_labels_and_annotations),
        TEST(the_owner_is_what_people_call_it),
        TEST(a_mirror_goes_by_the_uid_of_its_logs),
        TEST(what_is_no_pod_is_refused),
        TEST(strange_labels_are_left_out),
        TEST(what_is_kept_has_a_bound),
        TEST(what_is_kept_is_checked_when_read),
        TEST(a_server_is_a_host_and_a_port),
        TEST(a_pod_is_found_by_all_its_names),
        TEST(only_a_change_makes_a_version),
        TEST(a_deleted_pod_stays_for_its_last_lines),
        TEST(a_pod_that_is_put_again_lives),
        TEST(what_a_list_lacks_was_deleted),
        TEST(there_are_only_so_many),
        TEST(they_have_only_so_many_bytes),
        TEST(one_without_room_to_grow_lives),
        TEST(a_watch_is_cut_into_its_objects),
        TEST(a_list_is_cut_into_its_items),
        TEST(a_stream_without_end_is_bounded),
        TEST(what_is_no_json_ends_the_stream),
        TEST(events_change_pods),
        TEST(errors_end_a_watch),
        TEST(without_memory_the_version_stays),
        TEST(secrets_of_pods_are_left_nowhere),
        TEST(malformed_events_are_passed_over),
        TEST(the_file_holds_all_pods),
        TEST(a_damaged_file_holds_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
