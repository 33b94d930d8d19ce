/*
 * test_admin.c - what an agent tells of itself: metrics and status are sound whatever the names
 * are, the endpoint answers whom it should and nobody else.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <openssl/evp.h>
#include <openssl/sha.h>

#include "admin_fixture.h"
#include "taffrail/http.h"
#include "taffrail/json.h"
#include "taffrail/log.h"

#define HAS(text, part)   assert_non_null(strstr(text, part))
#define LACKS(text, part) assert_null(strstr(text, part))

/* ---- metrics and status -----------------------------------------------------------------------
 */

static struct tf_facts make_facts(const struct tf_conditions *conditions)
{
    return (struct tf_facts){.version = "1.2.3",
                             .revision = "0a1b2c",
                             .host = HOSTILE,
                             .digest = "abcdef",
                             .status = make_status(),
                             .conditions = conditions,
                             .certificates = {{"output/main", NOW_S + 86400 * 3}},
                             .certificate_count = 1,
                             .now_ns = NOW_S * TF_S_IN_NS,
                             .started_ns = (NOW_S - 10) * TF_S_IN_NS};
}

static const char *write_text(void (*write)(const struct tf_facts *facts, struct tf_buf *out),
                              const struct tf_facts *facts, struct tf_buf *out)
{
    tf_buf_init(out, 1 << 20);
    write(facts, out);
    (void)tf_buf_append_byte(out, 0);
    assert_int_equal(out->error, 0);
    return out->data;
}

/* A line of its own. */
static void has_line(const char *text, const char *line)
{
    char wanted[512];

    (void)snprintf(wanted, sizeof wanted, "\n%s\n", line);
    if (strstr(text, wanted) == NULL) {
        fail_msg("no %s in %s", line, text);
    }
}

static void metrics_say_what_inputs_and_filters_did(void **state)
{
    struct tf_conditions conditions = new_conditions();
    struct tf_facts facts = make_facts(&conditions);
    struct tf_buf out;
    const char *text;

    (void)state;
    inputs[0].bytes = UINT64_MAX;
    inputs[0].own.lag_ms = 1500;
    inputs[0].own.rotations[TF_ROTATION_COPYTRUNCATE] = 6;
    inputs[0].own.rate_ms = 2250;
    inputs[1].own.errors[TF_INPUT_ACCEPT] = 4;
    inputs[1].own.refused_by[0] = 3;
    filters[1].own.left_out = 6;
    filters[1].unknown_records = 9;
    facts.status.spool.full_ms = 500;
    facts.status.books.own = 12;
    facts.status.books.joined = 7;
    facts.status.books.filtered = 10;
    text = write_text(tf_metrics_write, &facts, &out);
    has_line(text, "taffrail_input_bytes_total{input=\"pods\"} 18446744073709551615");
    has_line(text, "taffrail_input_lag_seconds{input=\"pods\"} 1.5");
    has_line(text, "taffrail_input_records_total{input=\"taffrail\"} 12");
    has_line(text, "taffrail_input_refused_total{input=\"in\",reason=\"identity\"} 3");
    has_line(text, "taffrail_input_rotations_total{input=\"pods\",kind=\"copytruncate\"} 6");
    has_line(text, "taffrail_input_rotations_total{input=\"pods\",kind=\"rename\"} 0");
    has_line(text, "taffrail_input_paused_seconds_total{input=\"pods\",reason=\"max_rate\"} 2.25");
    has_line(text, "taffrail_input_paused_seconds_total{input=\"in\",reason=\"spool_full\"} 0.5");
    has_line(text, "taffrail_input_errors_total{input=\"in\",reason=\"accept\"} 4");
    has_line(text, "taffrail_input_errors_total{input=\"journal\",reason=\"open\"} 0");
    has_line(text, "taffrail_joined_records_total{filter=\"traces\"} 5");
    has_line(text, "taffrail_joined_records_total{filter=\"taffrail\"} 2");
    has_line(text, "taffrail_held_records{filter=\"traces\"} 2");
    has_line(text, "taffrail_filtered_records_total{filter=\"probes\",rule=\"healthz\"} 8");
    has_line(text, "taffrail_filtered_records_total{filter=\"redact\",rule=\"pin\"} 1");
    has_line(text, "taffrail_filtered_records_total{filter=\"taffrail\",rule=\"others\"} 1");
    has_line(text, "taffrail_kubernetes_up{filter=\"labels\"} 1");
    has_line(text,
             "# HELP taffrail_kubernetes_left_out_total pods, labels and annotations beyond a "
             "bound, and what is malformed");
    has_line(text, "taffrail_kubernetes_left_out_total{filter=\"labels\"} 6");
    has_line(text, "taffrail_kubernetes_unknown_records_total{filter=\"labels\"} 9");
    has_line(text, "taffrail_redactions_total{rule=\"a\\\"b\\\\c\\nd??\"} 7");
    LACKS(text, "jwt"); /* what a rule's limits withheld is no redaction */
    LACKS(text, "taffrail_redactions_total{rule=\"pin\"}"); /* nor is a dropped record */
    tf_buf_fini(&out);
}

static void metrics_say_how_outputs_and_the_process_are(void **state)
{
    struct tf_conditions conditions = new_conditions();
    struct tf_facts facts = make_facts(&conditions);
    struct tf_buf out;
    const char *text;

    (void)state;
    outputs[0].feed.oldest_pending_ns = facts.now_ns - 2500 * TF_MS_IN_NS;
    outputs[0].own.failures = 5;
    outputs[1].feed.in_flight = 4;
    tf_histogram_add(&outputs[0].feed.ack, 1000);
    tf_histogram_add(&outputs[0].feed.ack, UINT64_C(5000000000));
    facts.reloads =
        (struct tf_reloads){.taken = 12, .refused = 3, .renewals_taken = 4, .renewals_refused = 1};
    facts.status.spool.bytes_pending = 11;
    facts.status.sandbox.has[TF_LAYER_LANDLOCK] = false;
    facts.status.sandbox.calls = TF_CALLS_STRICT;
    text = write_text(tf_metrics_write, &facts, &out);
    has_line(text, "taffrail_build_info{version=\"1.2.3\",revision=\"0a1b2c\"} 1");
    has_line(text, "taffrail_config_reloads_total{result=\"taken\"} 12");
    has_line(text, "taffrail_config_reloads_total{result=\"refused\"} 3");
    has_line(text, "taffrail_certificate_reloads_total{result=\"taken\"} 4");
    has_line(text, "taffrail_certificate_reloads_total{result=\"refused\"} 1");
    has_line(text, "taffrail_sandbox_layer{layer=\"landlock\"} 0");
    has_line(text, "taffrail_sandbox_layer{layer=\"seccomp\"} 1");
    has_line(text, "taffrail_sandbox_strict 1");
    has_line(text, "taffrail_spool_bytes{state=\"pending\"} 11");
    has_line(text, "taffrail_output_oldest_seconds{output=\"main\"} 2.5");
    has_line(text, "taffrail_output_inflight_frames{output=\"disk\"} 4");
    has_line(text, "taffrail_output_connects_total{output=\"main\",result=\"failed\"} 5");
    has_line(text, "taffrail_output_ack_seconds_bucket{output=\"main\",le=\"0.0005\"} 0");
    has_line(text, "taffrail_output_ack_seconds_bucket{output=\"main\",le=\"0.001\"} 1");
    has_line(text, "taffrail_output_ack_seconds_bucket{output=\"main\",le=\"3600\"} 1");
    has_line(text, "taffrail_output_ack_seconds_bucket{output=\"main\",le=\"+Inf\"} 2");
    has_line(text, "taffrail_output_ack_seconds_sum{output=\"main\"} 5000.001");
    has_line(text, "taffrail_output_ack_seconds_count{output=\"main\"} 2");
    has_line(text, "taffrail_certificate_expiry_timestamp_seconds{use=\"output/main\"} 1795259200");
    has_line(text, "process_start_time_seconds 1794999990.000");
    tf_buf_fini(&out);
}

/* Each metric is in docs/admin.md, has its HELP and TYPE once and a sample from the start; samples
 * belong to the metric above them. */
static void metrics_are_well_formed(void **state)
{
    struct tf_conditions conditions = new_conditions();
    struct tf_facts facts = make_facts(&conditions);
    char *reference = read_project_file("docs/admin.md");
    char name[128] = "", row[160];
    unsigned samples = 1, metrics = 0, rows = 0;
    struct tf_buf out;

    (void)state;
    (void)write_text(tf_metrics_write, &facts, &out);
    for (char *line = strtok(out.data, "\n"); line != NULL; line = strtok(NULL, "\n")) {
        if (strncmp(line, "# HELP ", 7) == 0) {
            if (samples == 0) {
                fail_msg("%s has no sample", name);
            }
            (void)snprintf(name, sizeof name, "%.*s", (int)strcspn(line + 7, " "), line + 7);
            (void)snprintf(row, sizeof row, "| `%s` |", name);
            if (strstr(reference, row) == NULL) {
                fail_msg("docs/admin.md has no %s", name);
            }
            samples = 0;
            metrics++;
        } else if (strncmp(line, "# TYPE ", 7) == 0) {
            assert_memory_equal(line + 7, name, strlen(name));
            assert_int_equal(samples, 0);
        } else {
            assert_memory_equal(line, name, strlen(name));
            assert_non_null(strrchr(line, ' '));
            samples++;
        }
    }
    for (const char *at = reference; (at = strstr(at, "\n| `")) != NULL; at++) {
        rows += strncmp(at + 4, "taffrail_", 9) == 0 || strncmp(at + 4, "process_", 8) == 0;
    }
    assert_int_equal(metrics, rows);
    free(reference);
    tf_buf_fini(&out);
}

static void expect_member(struct tf_slice object, const char *key, const char *wanted)
{
    struct tf_slice value;

    assert_true(tf_json_member(object, key, &value));
    if (!tf_slice_equal(value, tf_slice_text(wanted))) {
        fail_msg("%s is %.*s", key, (int)value.size, value.data);
    }
}

static bool find_item(struct tf_slice array, size_t index, struct tf_slice *out)
{
    struct tf_json in = tf_json(array);
    bool is_there;

    do {
        is_there = tf_json_next_item(&in, out);
    } while (is_there && index-- > 0);
    return is_there;
}

static void status_is_one_object(void **state)
{
    struct tf_conditions conditions = new_conditions();
    struct tf_facts facts = make_facts(&conditions);
    struct tf_slice whole, list, item, roles;
    struct tf_buf out;

    (void)state;
    outputs[1].own.up = false;
    for (uint64_t ms = 1000; ms <= 4000; ms += 1000) {
        look_at(&conditions, &facts.status, ms);
    }
    whole = tf_slice_text(write_text(tf_status_write, &facts, &out));
    assert_true(tf_json_is_whole(whole));
    expect_member(whole, "host", "\"a\\u0022b\\u005cc\\u000ad\\u0001\\ufffd\"");
    expect_member(whole, "state", "\"degraded\"");
    expect_member(whole, "uptime_seconds", "10.000");
    assert_true(tf_json_member(whole, "conditions", &list) && find_item(list, 0, &item));
    expect_member(item, "code", "\"output-down\"");
    expect_member(item, "since", "\"2026-11-18T11:06:41.000Z\"");
    assert_false(find_item(list, 1, &item));
    assert_true(tf_json_member(whole, "outputs", &list) && find_item(list, 1, &item));
    expect_member(item, "name", "\"disk\"");
    assert_false(tf_json_member(item, "ack_p50_seconds", &list)); /* none was acknowledged */
    assert_true(tf_json_member(whole, "sandbox", &item) && tf_json_member(item, "layers", &list));
    expect_member(item, "seccomp", "\"normal\"");
    assert_true(tf_json_member(item, "roles", &roles) && find_item(roles, 0, &item));
    expect_member(item, "role", "\"opener\"");
    expect_member(item, "layers", "\"no_new_privs, capabilities\"");
    assert_false(find_item(roles, 1, &item)); /* others have not told */
    assert_true(find_item(list, 2, &item));
    expect_member(item, "layer", "\"landlock\"");
    expect_member(item, "on", "true");
    assert_true(tf_json_member(whole, "certificates", &list) && find_item(list, 0, &item));
    expect_member(item, "days", "3");
    tf_buf_fini(&out);
    tf_conditions_fini(&conditions);
}

/* Names and numbers in order: "a":1,"b":2. */
static void has_figures(const char *text, const char *names)
{
    char copy[512], wanted[1024] = "";
    int value = 1;

    (void)snprintf(copy, sizeof copy, "%s", names);
    for (char *name = strtok(copy, " "); name != NULL; name = strtok(NULL, " ")) {
        size_t size = strlen(wanted);

        (void)snprintf(wanted + size, sizeof wanted - size, ",\"%s\":%d", name, value++);
    }
    if (strstr(text, wanted + 1) == NULL) {
        fail_msg("no %s in %s", wanted + 1, text);
    }
}

/* Each number is told by its own name. */
static void status_has_every_figure(void **state)
{
    struct tf_conditions conditions = new_conditions();
    struct tf_facts facts = make_facts(&conditions);
    struct tf_buf out;
    const char *text;

    (void)state;
    inputs[0].own = (struct tf_input_status){
        .sources = 1, .connections = 2, .refused = 7, .errors = {3, 5}, .lag_bytes = 9};
    inputs[0].bytes = 3;
    inputs[0].records = 4;
    inputs[0].malformed = 5;
    inputs[0].truncated = 6;
    outputs[0].feed =
        (struct tf_feed_status){.pending_at_start = 1,
                                .acked = 2,
                                .acked_bytes = 3,
                                .skipped = 4,
                                .expired = 5,
                                .rejected = 6,
                                .pending = 7,
                                .pending_bytes = 8,
                                .oldest_pending_ns = facts.now_ns - 2500 * TF_MS_IN_NS};
    facts.status.spool = (struct tf_spool_status){.bytes_pending = 1,
                                                  .pending_events = 2,
                                                  .bytes_retained = 3,
                                                  .max_bytes = 4,
                                                  .free_bytes = 5,
                                                  .segments = 6,
                                                  .written_bytes = 7};
    facts.status.books = (struct tf_status_books){
        .decoded = 1, .spooled = 2, .joined = 3, .filtered = 4, .held = 5, .missing = 6};
    facts.reloads =
        (struct tf_reloads){.taken = 5, .refused = 4, .renewals_taken = 3, .renewals_refused = 2};
    text = write_text(tf_status_write, &facts, &out);
    HAS(text,
        "\"reloads\":{\"taken\":5,\"refused\":4,\"certificates\":{\"taken\":3,\"refused\":2}}");
    has_figures(text, "sources connections bytes records malformed truncated refused errors "
                      "lag_bytes");
    has_figures(text, "pending_at_start acked acked_bytes skipped expired rejected pending "
                      "pending_bytes");
    HAS(text, ",\"pending_bytes\":8,\"oldest_seconds\":2.500,");
    has_figures(text, "pending_bytes pending_records retained_bytes max_bytes free_bytes segments "
                      "written_bytes");
    has_figures(text, "decoded spooled joined filtered held missing");
    tf_buf_fini(&out);
}

static void what_is_not_ready_says_why(void **state)
{
    struct tf_conditions conditions = new_conditions();
    struct tf_facts facts = make_facts(&conditions);
    struct tf_buf out;

    (void)state;
    facts.is_ready = true;
    assert_string_equal(write_text(tf_ready_write, &facts, &out), "ready\n");
    tf_buf_fini(&out);
    facts.status.has_room = facts.is_ready = false;
    facts.status.is_stopping = true;
    look_at(&conditions, &facts.status, 1000);
    assert_string_equal(write_text(tf_ready_write, &facts, &out),
                        "stopping\nspool-full: the spool has no room: 0 MiB are not delivered, 0 "
                        "MiB are free on its disk; inputs wait, records stay where they are\n");
    tf_buf_fini(&out);
    tf_conditions_fini(&conditions);
}

/* ---- the page ---------------------------------------------------------------------------------
 */

/* The bytes between <tag> and </tag>, hashed as a browser does, are in the policy. */
static void expect_hash(const char *directive, const char *tag)
{
    char begin[16], end[16], wanted[96];
    unsigned char digest[SHA256_DIGEST_LENGTH], base64[64];
    const char *page = (const char *)tf_page, *from, *to;

    (void)snprintf(begin, sizeof begin, "<%s>", tag);
    (void)snprintf(end, sizeof end, "</%s>", tag);
    from = (const char *)memmem(page, tf_page_bytes, begin, strlen(begin)) + strlen(begin);
    to = memmem(page, tf_page_bytes, end, strlen(end));
    assert_non_null(to);
    (void)SHA256((const unsigned char *)from, (size_t)(to - from), digest);
    assert_int_equal(EVP_EncodeBlock(base64, digest, sizeof digest), 44);
    (void)snprintf(wanted, sizeof wanted, "; %s 'sha256-%s'; ", directive, base64);
    if (strstr(tf_page_policy, wanted) == NULL) {
        fail_msg("no%s in %s", wanted, tf_page_policy);
    }
}

static void the_page_runs_its_own_script_alone(void **state)
{
    static const char *const banned[] = {
        "http:",          "https:",  "//www",     "innerHTML", "outerHTML",    "insertAdjacent",
        "document.write", "eval(",   "Function(", "cookie",    "localStorage", " src=",
        " href=",         " style=", "onclick",   "@import",   "url("};

    (void)state;
    expect_hash("script-src", "script");
    expect_hash("style-src", "style");
    HAS(tf_page_policy, "default-src 'none'");
    HAS(tf_page_policy, "frame-ancestors 'none'");
    LACKS(tf_page_policy, "unsafe");
    for (size_t i = 0; i < TF_COUNT(banned); i++) {
        if (memmem(tf_page, tf_page_bytes, banned[i], strlen(banned[i])) != NULL) {
            fail_msg("the page has %s", banned[i]);
        }
    }
}

/* ---- the endpoint -----------------------------------------------------------------------------
 */

static struct {
    uv_loop_t loop;
    char folder[64];
    struct tf_config *config;
    struct tf_pipeline *pipeline;
    struct tf_admin *admin;
    struct tf_error err;
    bool is_stopped, is_closed;
    unsigned looks; /* at the output, so at the pipeline */
} world;

static void on_stopped(void *ctx)
{
    *(bool *)ctx = true;
}

static void count_look(const void *self, struct tf_output_status *status)
{
    world.looks++;
    tf_output_file.status(self, status);
}

/* Reads an empty folder, writes to a file; admin as given. */
static int make_world(const char *admin)
{
    static const struct tf_reloads reloads;
    static struct tf_output_kind counted;
    static const struct tf_output_kind *const counted_outputs[] = {&counted, NULL};
    struct tf_plugins plugins = tf_plugins;
    char yaml[1024];

    memset(&world, 0, sizeof world);
    counted = tf_output_file;
    counted.status = count_look;
    plugins.outputs = counted_outputs;
    (void)snprintf(world.folder, sizeof world.folder, "/tmp/taffrail-admin-XXXXXX");
    assert_non_null(mkdtemp(world.folder));
    tf_error_init(&world.err);
    (void)snprintf(yaml, sizeof yaml,
                   "agent: {host: node-7}\n"
                   "inputs: [container: {paths: [logs/*.log], format: plain}]\n"
                   "spool: {path: spool, keep_free: 0}\noutputs: [file: {path: out}]\n%s",
                   admin);
    assert_int_equal(tf_config_parse(tf_slice_text(yaml), "t.yaml", world.folder, &plugins,
                                     &world.config, &world.err),
                     0);
    assert_int_equal(uv_loop_init(&world.loop), 0);
    return tf_admin_new(&(struct tf_admin_args){.loop = &world.loop,
                                                .config = world.config,
                                                .version = "1.2.3",
                                                .revision = "0a1b2c",
                                                .reloads = &reloads},
                        &world.admin, &world.err);
}

static int start_world(void)
{
    assert_int_equal(tf_pipeline_new(&world.loop, world.config, &world.pipeline, &world.err), 0);
    assert_int_equal(tf_pipeline_start(world.pipeline, &world.err), 0);
    return tf_admin_start(world.admin, world.pipeline, &world.err);
}

static void end_world(void)
{
    char command[128];

    if (world.pipeline != NULL) {
        tf_pipeline_stop(world.pipeline, on_stopped, &world.is_stopped);
        while (!world.is_stopped) {
            (void)uv_run(&world.loop, UV_RUN_ONCE);
        }
        tf_admin_close(world.admin, on_stopped, &world.is_closed);
        (void)uv_run(&world.loop, UV_RUN_DEFAULT);
        assert_true(world.is_closed);
        tf_pipeline_free(world.pipeline);
    }
    assert_int_equal(uv_loop_close(&world.loop), 0);
    tf_config_free(world.config);
    tf_error_fini(&world.err);
    (void)snprintf(command, sizeof command, "rm -rf %s", world.folder);
    assert_int_equal(system(command), 0);
}

/* Sends text and runs the loop until the other end closes. */
static const char *ask_fd(int fd, const char *text)
{
    static char answer[1 << 16];
    size_t size = 0;
    ssize_t n = -1;

    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
    for (uint64_t end_ms = uv_hrtime() / 1000000 + 20000; n != 0;) {
        assert_true(uv_hrtime() / 1000000 < end_ms);
        (void)uv_run(&world.loop, UV_RUN_NOWAIT);
        n = read(fd, answer + size, sizeof answer - 1 - size);
        size += n > 0 ? (size_t)n : 0;
    }
    answer[size] = '\0';
    (void)close(fd);
    return answer;
}

static const char *ask_unix(const char *text)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);

    (void)snprintf(address.sun_path, sizeof address.sun_path, "%s",
                   world.config->admin.listen.items[0].text + 5);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    return ask_fd(fd, text);
}

static const char *ask_port(int port, const char *text)
{
    struct sockaddr_in address;
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    assert_int_equal(uv_ip4_addr("127.0.0.1", port, &address), 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    return ask_fd(fd, text);
}

/* A port that nobody has now. */
static int free_port(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t size = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    assert_int_equal(bind(fd, (struct sockaddr *)&address, size), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &size), 0);
    (void)close(fd);
    return ntohs(address.sin_port);
}

#define ASK(method, path, host)                                                                    \
    method " " path " HTTP/1.1\r\nHost: " host "\r\nConnection: close\r\n\r\n"

static char admin_yaml[512];

static const char *unix_admin(void)
{
    (void)snprintf(admin_yaml, sizeof admin_yaml,
                   "admin: {listen: ['unix:/tmp/taffrail-admin-%d.sock']}\n", (int)getpid());
    return admin_yaml;
}

static void a_unix_socket_tells_all(void **state)
{
    struct stat status;
    const char *text;

    (void)state;
    assert_int_equal(make_world(unix_admin()), 0);
    assert_int_equal(start_world(), 0);
    assert_int_equal(stat(world.config->admin.listen.items[0].text + 5, &status), 0);
    assert_int_equal(status.st_mode & 0777, 0660);
    text = ask_unix(ASK("GET", "/healthz", "x"));
    HAS(text, "HTTP/1.1 200 ");
    HAS(text, "\r\n\r\nok\n");
    text = ask_unix(ASK("GET", "/readyz", "x"));
    HAS(text, "HTTP/1.1 200 ");
    text = ask_unix(ASK("GET", "/status", "x"));
    HAS(text, "Content-Type: application/json\r\n");
    HAS(text, "\"host\":\"node-7\"");
    text = ask_unix(ASK("GET", "/metrics", "x"));
    HAS(text, "Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n");
    HAS(text, "\ntaffrail_ledger_missing_records 0\n");
    HAS(text, "\nprocess_open_fds ");
    text = ask_unix(ASK("GET", "/", "x"));
    HAS(text, "Content-Type: text/html; charset=utf-8\r\n");
    HAS(text, tf_page_policy);
    HAS(text, "\r\n\r\n<!DOCTYPE html>");
    text = ask_unix(ASK("GET", "/../etc/passwd", "x"));
    HAS(text, "HTTP/1.1 404 ");
    end_world();
}

/* What needs no look needs no memory for it: a liveness probe is answered as long as the loop
 * turns.
 */
static void health_and_the_page_take_no_look(void **state)
{
    enum { ASKED = 30 }; /* the timer looks once a second */

    (void)state;
    assert_int_equal(make_world(unix_admin()), 0);
    assert_int_equal(start_world(), 0);
    for (unsigned i = 0; i < ASKED; i++) {
        HAS(ask_unix(ASK("GET", "/healthz", "x")), "HTTP/1.1 200 ");
        HAS(ask_unix(ASK("GET", "/", "x")), "HTTP/1.1 200 ");
    }
    assert_true(world.looks < ASKED);
    world.looks = 0;
    HAS(ask_unix(ASK("GET", "/readyz", "x")), "HTTP/1.1 200 ");
    assert_true(world.looks > 0);
    end_world();
}

static void every_answer_has_the_headers(void **state)
{
    static const char *const asked[] = {ASK("GET", "/healthz", "x"), ASK("GET", "/nothing", "x"),
                                        ASK("DELETE", "/status", "x"), ASK("GET", "/status", "x"),
                                        ASK("GET", "/", "x")};

    (void)state;
    assert_int_equal(make_world(unix_admin()), 0);
    assert_int_equal(start_world(), 0);
    for (size_t i = 0; i < TF_COUNT(asked); i++) {
        const char *text = ask_unix(asked[i]);

        HAS(text, "Content-Security-Policy: default-src 'none'");
        HAS(text, "frame-ancestors 'none'");
        HAS(text, "X-Content-Type-Options: nosniff\r\n");
        HAS(text, "Referrer-Policy: no-referrer\r\n");
        HAS(text, "Cache-Control: no-store\r\n");
        HAS(text, "Cross-Origin-Resource-Policy: same-origin\r\n");
        LACKS(text, "Access-Control");
        LACKS(text, "Set-Cookie");
    }
    end_world();
}

static void only_get_and_head(void **state)
{
    const char *text;

    (void)state;
    assert_int_equal(make_world(unix_admin()), 0);
    assert_int_equal(start_world(), 0);
    text = ask_unix("POST /status HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nConnection: "
                    "close\r\n\r\n{}");
    HAS(text, "HTTP/1.1 405 ");
    HAS(text, "Allow: GET, HEAD\r\n");
    text = ask_unix(ASK("OPTIONS", "/healthz", "x"));
    HAS(text, "HTTP/1.1 405 ");
    text = ask_unix(ASK("HEAD", "/healthz", "x"));
    HAS(text, "HTTP/1.1 200 ");
    HAS(text, "Content-Length: 3\r\n");
    LACKS(text, "\r\n\r\nok");
    end_world();
}

/* A name that leads to loopback is how a page of somebody else would get here. */
static void loopback_is_asked_by_address(void **state)
{
    static const char *const good[] = {
        ASK("GET", "/status", "127.0.0.1:1"), ASK("GET", "/status", "localhost"),
        ASK("GET", "/status", "LocalHost:80"), ASK("GET", "/status", "[::1]:8"),
        ASK("GET", "/status", "192.0.2.1")};
    static const char *const bad[] = {ASK("GET", "/status", "evil.example"),
                                      ASK("GET", "/healthz", "localhost.evil.example"),
                                      ASK("GET", "/status", "127.0.0.1.evil.example:24280"),
                                      ASK("GET", "/status", ""),
                                      ASK("GET", "/status", "[evil.example]"),
                                      ASK("GET", "/status", "[::1"),
                                      ASK("GET", "/status", "[::1%evil.example]"),
                                      ASK("GET", "/status", "localhost:80.evil.example"),
                                      ASK("GET", "/status", "127.0.0.1:80:evil.example"),
                                      ASK("GET", "/status", "[::1].evil.example"),
                                      "GET /status HTTP/1.0\r\n\r\n"};
    int port = free_port();

    (void)state;
    (void)snprintf(admin_yaml, sizeof admin_yaml, "admin: {listen: '127.0.0.1:%d'}\n", port);
    assert_int_equal(make_world(admin_yaml), 0);
    assert_int_equal(start_world(), 0);
    for (size_t i = 0; i < TF_COUNT(good); i++) {
        HAS(ask_port(port, good[i]), "HTTP/1.1 200 ");
    }
    for (size_t i = 0; i < TF_COUNT(bad); i++) {
        const char *text = ask_port(port, bad[i]);

        if (strstr(text, " 421 ") == NULL || strstr(text, "node-7") != NULL) {
            fail_msg("%s got %s", bad[i], text);
        }
    }
    end_world();
}

static void other_addresses_tell_metrics_alone(void **state)
{
    int port = free_port();
    const char *text;

    (void)state;
    (void)snprintf(admin_yaml, sizeof admin_yaml, "admin: {listen: '0.0.0.0:%d'}\n", port);
    assert_int_equal(make_world(admin_yaml), 0);
    assert_int_equal(start_world(), 0);
    HAS(ask_port(port, ASK("GET", "/metrics", "node-7.example")), "\ntaffrail_build_info");
    HAS(ask_port(port, ASK("GET", "/healthz", "node-7.example")), "HTTP/1.1 200 ");
    HAS(ask_port(port, ASK("GET", "/readyz", "node-7.example")), "HTTP/1.1 200 ");
    text = ask_port(port, ASK("GET", "/status", "node-7.example"));
    HAS(text, "HTTP/1.1 404 ");
    HAS(ask_port(port, ASK("GET", "/", "node-7.example")), "HTTP/1.1 404 ");
    end_world();
}

static void only_a_written_address_ends_a_start(void **state)
{
    (void)state;
    assert_int_equal(make_world(""), 0); /* the default: its folder is there for services only */
    if (access("/run/taffrail", F_OK) != 0) {
        assert_int_equal(start_world(), 0);
    }
    assert_int_equal(world.err.errors, 0);
    if (world.pipeline == NULL) {
        tf_admin_close(world.admin, on_stopped, &world.is_closed);
    }
    end_world();

    assert_int_equal(make_world("admin: {listen: 'unix:/nowhere/at/all'}\n"), 0);
    assert_int_equal(start_world(), UV_ENOENT);
    HAS(tf_error_first(&world.err), "admin.listen: cannot listen on unix:/nowhere/at/all: ");
    HAS(tf_error_first(&world.err), "; the folder of a socket must be there");
    end_world();
}

static void addresses_are_checked(void **state)
{
    (void)state;
    assert_int_equal(make_world("admin: {listen: [nonsense, 'unix:relative.sock']}\n"), -EINVAL);
    assert_int_equal(world.err.errors, 2);
    end_world();
    assert_int_equal(make_world("admin: {listen: 'unix:/a', tls: {ca: a, cert: b, key: c}}\n"),
                     -EINVAL);
    HAS(tf_error_first(&world.err), "no address of admin.listen uses it");
    end_world();
    assert_int_equal(make_world("admin: {listen: off}\n"), 0);
    tf_admin_close(world.admin, on_stopped, &world.is_closed);
    assert_true(world.is_closed);
    end_world();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(metrics_say_what_inputs_and_filters_did),
        cmocka_unit_test(metrics_say_how_outputs_and_the_process_are),
        cmocka_unit_test(metrics_are_well_formed),
        cmocka_unit_test(status_is_one_object),
        cmocka_unit_test(status_has_every_figure),
        cmocka_unit_test(what_is_not_ready_says_why),
        cmocka_unit_test(the_page_runs_its_own_script_alone),
        cmocka_unit_test(a_unix_socket_tells_all),
        cmocka_unit_test(health_and_the_page_take_no_look),
        cmocka_unit_test(every_answer_has_the_headers),
        cmocka_unit_test(only_get_and_head),
        cmocka_unit_test(loopback_is_asked_by_address),
        cmocka_unit_test(other_addresses_tell_metrics_alone),
        cmocka_unit_test(only_a_written_address_ends_a_start),
        cmocka_unit_test(addresses_are_checked),
    };

    tf_log_configure(TF_LOG_ERROR, TF_LOG_LOGFMT);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
