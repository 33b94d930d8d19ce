/*
 * test_journald_listen.c - mode export_socket of the journald input: what journald forwards becomes
 * records however it is cut; a slow agent never makes the writer wait, and its gaps and records
 * together are what was sent; strangers are refused.
 */
#include "journald_fixture.h"

#include <arpa/inet.h>
#include <sys/ioctl.h>

#define CAPTURE FIXTURES "export/forward-to-socket-257.export"

/* ---- another user -----------------------------------------------------------------------------
 * Forked before there are threads: it connects when it is told to, writes an entry, and says what
 * came of it: 'e' for an end, 'o' for a connection that stays open.
 */

static struct {
    pid_t pid;
    int to, from;
} stranger;

static void be_a_stranger(int from, int to)
{
    char path[96], answer, byte;

    if (setresgid(65534, 65534, 65534) < 0 || setresuid(65534, 65534, 65534) < 0) {
        _exit(1);
    }
    while (read(from, path, sizeof path) == (ssize_t)sizeof path) {
        int fd = connect_to(path, SOCK_STREAM);
        struct timeval patience = {.tv_sec = 10};

        (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
        (void)send(fd, "MESSAGE=of a stranger\n\n", 23, MSG_NOSIGNAL);
        answer = recv(fd, &byte, 1, 0) < 0 && errno == EAGAIN ? 'o' : 'e';
        (void)close(fd);
        (void)!write(to, &answer, 1);
    }
    _exit(0);
}

static int start_stranger(void **state)
{
    int there[2], back[2];

    (void)state;
    assert_int_equal(pipe2(there, O_CLOEXEC), 0);
    assert_int_equal(pipe2(back, O_CLOEXEC), 0);
    stranger.pid = fork();
    assert_true(stranger.pid >= 0);
    if (stranger.pid == 0) {
        (void)close(there[1]);
        be_a_stranger(there[0], back[1]);
    }
    (void)close(there[0]);
    (void)close(back[1]);
    stranger.to = there[1];
    stranger.from = back[0];
    return 0;
}

static int end_stranger(void **state)
{
    (void)state;
    (void)close(stranger.to);
    (void)close(stranger.from);
    return waitpid(stranger.pid, NULL, 0) == stranger.pid ? 0 : -1;
}

/* ---- helpers ----------------------------------------------------------------------------------
 */

static void begin(void)
{
    world->options.mode = TF_JOURNALD_EXPORT_SOCKET;
    start();
}

static bool has_connections(const void *ctx, uint32_t wanted)
{
    (void)ctx;
    return input_status().connections == wanted;
}

static bool has_sources(const void *ctx, uint32_t wanted)
{
    (void)ctx;
    return input_status().sources == wanted;
}

static int connect_journald(void)
{
    uint32_t before = (uint32_t)input_status().connections;
    int fd = connect_to(world->path, SOCK_STREAM);

    assert_true(run_until(has_connections, NULL, before + 1, DEADLINE_MS));
    return fd;
}

/* The loop runs while the socket is full: the agent is not slow here. */
static void write_bytes(int fd, const char *data, size_t size)
{
    while (size > 0) {
        ssize_t sent = send(fd, data, size, MSG_DONTWAIT | MSG_NOSIGNAL);

        if (sent < 0) {
            assert_int_equal(errno, EAGAIN);
            run_for(1);
            continue;
        }
        data += sent;
        size -= (size_t)sent;
    }
}

static void write_text(int fd, const char *text)
{
    write_bytes(fd, text, strlen(text));
}

static void hang_up(int fd)
{
    (void)close(fd);
    assert_true(run_until(has_sources, NULL, 0, DEADLINE_MS));
}

/* ---- what arrives -----------------------------------------------------------------------------
 */

/* Entries of export format, counted by its rules alone (systemd.io "Journal Export Formats"). */
static uint32_t count_entries(struct tf_slice bytes)
{
    uint32_t count = 0;
    size_t at = 0;

    while (at < bytes.size) {
        const char *end = memchr(bytes.data + at, '\n', bytes.size - at);
        const char *equals = memchr(bytes.data + at, '=', (size_t)(end - bytes.data) - at);

        assert_non_null(end);
        if (end == bytes.data + at) {
            count++;
        } else if (equals == NULL) {
            end += 8 + tf_load64(end + 1) + 1;
        }
        at = (size_t)(end - bytes.data) + 1;
    }
    return count;
}

static void a_capture_arrives_however_it_is_cut(void **state)
{
    struct tf_buf bytes = read_whole(CAPTURE);
    uint32_t count = count_entries(tf_buf_slice(&bytes));
    unsigned seed = 1;

    (void)state;
    assert_true(count > 30);
    begin();
    for (uint32_t round = 0; round < 12; round++) {
        int fd = connect_journald();

        for (size_t at = 0; at < bytes.size;) {
            size_t most = round == 0 ? bytes.size : 1 + (size_t)rand_r(&seed) % (40u << round);
            size_t size = most < bytes.size - at ? most : bytes.size - at;

            write_bytes(fd, bytes.data + at, size);
            if (round > 0 && rand_r(&seed) % 4 == 0) {
                run_for(1);
            }
            at += size;
        }
        hang_up(fd);
        assert_true(run_until(has_records, "\"tag\":\"host\"", (round + 1) * count, DEADLINE_MS));
    }
    run_for(30);
    assert_int_equal(count_records("\"tag\":\"host\""), 12 * count);
    assert_int_equal(count_records("\"event\":\"gap\""), 0);
    for (uint32_t i = 0, own = 0; i < kept.count; i++) { /* of the first connection */
        if (strstr(kept.records[i], "\"tag\":\"host\"") != NULL && own++ >= count) {
            assert_int_equal(count_records(kept.records[i]), 12);
        }
    }
    tf_buf_fini(&bytes);
}

static void a_connection_may_end_and_begin_again(void **state)
{
    uint32_t before;

    (void)state;
    begin();
    before = count_fds();
    for (unsigned i = 0; i < 20; i++) {
        int fd = connect_journald();

        write_text(fd, "MESSAGE=again\n\n");
        hang_up(fd);
    }
    assert_true(run_until(has_records, "again", 20, DEADLINE_MS));
    assert_in_range(count_fds(), 1, before); /* the spool may have closed one too */
    assert_int_equal(count_records("\"event\":\"gap\""), 0);
}

static void a_part_of_an_entry_is_a_gap(void **state)
{
    int fd;

    (void)state;
    begin();
    fd = connect_journald();
    write_text(fd, "MESSAGE=whole\n\nMESSAGE=no end\n");
    hang_up(fd);
    assert_true(run_until(has_records, "\"reason\":\"unreadable\"", 1, DEADLINE_MS));
    assert_int_equal(number_of(record_with("unreadable"), "\"bytes_max\":"), 15);
    assert_true(run_until(has_records, "\"log\":\"whole\"", 1, DEADLINE_MS));
    assert_int_equal(count_records("\"log\":\"no end\""), 0);
}

static void what_is_no_export_format_ends_its_connection(void **state)
{
    static const char bytes[] = "MESSAGE=sound\n\nBAD\n\1\0\0\0\0\0\0\0xy\n\n";
    char byte;
    int fd, other;

    (void)state;
    begin();
    other = connect_journald();
    fd = connect_journald();
    write_bytes(fd, bytes, sizeof bytes - 1);
    assert_true(run_until(has_connections, NULL, 1, DEADLINE_MS));
    assert_int_equal(recv(fd, &byte, 1, 0), 0);
    (void)close(fd);
    assert_true(run_until(has_records, "\"reason\":\"unreadable\"", 1, DEADLINE_MS));
    write_text(other, "MESSAGE=still here\n\n");
    assert_true(run_until(has_records, "still here", 1, DEADLINE_MS));
    assert_true(run_until(has_records, "sound", 1, DEADLINE_MS));
    hang_up(other);
}

/* ---- no room ----------------------------------------------------------------------------------
 */

struct flood {
    int fd; /* 0: one of its own */
    unsigned from, count, bytes;
    unsigned large_every; /* one of so many has large_bytes */
    unsigned large_bytes;
    atomic_bool done;
    atomic_uint failed;
};

static bool is_done(const void *ctx, uint32_t wanted)
{
    (void)wanted;
    return atomic_load(&((const struct flood *)ctx)->done);
}

/* As journald does it: blocking. */
static void write_flood(void *ctx)
{
    struct flood *flood = ctx;
    char *text = malloc(8u << 20);
    int fd = flood->fd > 0 ? flood->fd : connect_to(world->path, SOCK_STREAM);

    for (unsigned i = flood->from; i < flood->from + flood->count; i++) {
        bool is_large = flood->large_every != 0 && i % flood->large_every == 1;
        size_t size = is_large ? flood->large_bytes : flood->bytes;
        int head = snprintf(text, 128, "MESSAGE=flood %u\nFILL=", i);

        memset(text + head, 'x', size);
        memcpy(text + (size_t)head + size, "\n\n", 2);
        for (size_t at = 0, all = (size_t)head + size + 2; at < all;) {
            ssize_t sent = send(fd, text + at, all - at, MSG_NOSIGNAL);

            if (sent <= 0) {
                (void)atomic_fetch_add(&flood->failed, 1);
                break;
            }
            at += (size_t)sent;
        }
    }
    free(text);
    if (flood->fd == 0) {
        (void)close(fd);
    }
    atomic_store(&flood->done, true);
}

/* So many numbers are in records and gaps. */
static uint32_t count_told(void)
{
    uint32_t told = 0;

    for (uint32_t i = 0; i < kept.count; i++) {
        if (strstr(kept.records[i], "\"reason\":\"overrun\"") != NULL) {
            told += (uint32_t)number_of(kept.records[i], "\"log\":\"");
        } else {
            told += strstr(kept.records[i], "\"log\":\"flood ") != NULL;
        }
    }
    return told;
}

/* Records and gaps, in order, are all the numbers; returns how many are in gaps. */
static uint32_t check_flood(uint32_t count)
{
    uint32_t next = 0, missing = 0;

    for (unsigned ms = 0; world->is_running && count_told() < count && ms < DEADLINE_MS; ms += 50) {
        run_for(50); /* what was read comes to the output a little later */
    }
    for (uint32_t i = 0; i < kept.count; i++) {
        const char *record = kept.records[i];

        if (strstr(record, "\"reason\":\"overrun\"") != NULL) {
            int64_t entries = number_of(record, "\"log\":\"");

            assert_true(entries > 0);
            next += (uint32_t)entries;
            missing += (uint32_t)entries;
        } else if (strstr(record, "\"log\":\"flood ") != NULL) {
            assert_int_equal(number_of(record, "\"log\":\"flood "), next);
            next++;
        }
    }
    assert_int_equal(next, count);
    return missing;
}

static void run_flood(struct flood *flood, bool is_held)
{
    uv_thread_t thread;

    atomic_store(&hold_filter, is_held);
    assert_int_equal(uv_thread_create(&thread, write_flood, flood), 0);
    assert_true(run_until(is_done, flood, 0, DEADLINE_MS)); /* though nothing is taken */
    assert_int_equal(uv_thread_join(&thread), 0);
    assert_int_equal(atomic_load(&flood->failed), 0);
}

/* The bytes that wait in the agent. */
static size_t waiting_bytes(void)
{
    size_t bytes = 0;

    for (const struct tf_journal_source *at = find_input()->sources; at != NULL; at = at->next) {
        bytes += ((const struct tf_journal_stream *)at)->arrived.capacity;
    }
    return bytes;
}

static void a_slow_agent_never_makes_journald_wait(void **state)
{
    struct flood flood = {.count = 20000, .bytes = 2000};
    uint32_t missing;

    (void)state;
    begin();
    run_flood(&flood, true);
    assert_in_range(waiting_bytes(), 1, 2u << 20); /* besides 9 MiB of the connection's own */
    atomic_store(&hold_filter, false);
    assert_true(run_until(has_sources, NULL, 0, DEADLINE_MS));
    missing = check_flood(flood.count);
    assert_in_range(missing, 1, flood.count - 100);
    assert_true(was_logged("event=gap"));
}

/* Room comes and goes; some entries are larger than what the stream itself holds. */
static void gaps_and_records_are_all_that_was_sent(void **state)
{
    int fd;

    (void)state;
    begin();
    fd = connect_journald();
    for (unsigned round = 0; round < 4; round++) {
        struct flood flood = {.fd = fd,
                              .from = round * 1000,
                              .count = 1000,
                              .bytes = 300,
                              .large_every = 50,
                              .large_bytes = 1500000};

        run_flood(&flood, true);
        atomic_store(&hold_filter, false);
        assert_true(run_until(has_records, "\"reason\":\"overrun\"", round + 1, DEADLINE_MS));
    }
    hang_up(fd);
    assert_in_range(check_flood(4000), 4, 3900);
    assert_int_equal(count_records("\"reason\":\"overrun\""), 4);
}

static void an_agent_that_keeps_up_drops_nothing(void **state)
{
    struct flood flood = {.count = 200, .bytes = 1000, .large_every = 50, .large_bytes = 400000};

    (void)state;
    begin();
    run_flood(&flood, false);
    assert_true(run_until(has_sources, NULL, 0, DEADLINE_MS));
    assert_int_equal(check_flood(flood.count), 0);
}

/* ---- who may write ----------------------------------------------------------------------------
 */

static bool has_answer(const void *ctx, uint32_t wanted)
{
    int left = 0;

    (void)wanted;
    return ioctl(*(const int *)ctx, FIONREAD, &left) == 0 && left > 0;
}

static void a_stranger_is_refused(void **state)
{
    char path[96] = "", answer = '?';

    (void)state;
    if (geteuid() != 0) {
        skip(); /* it could not become another */
    }
    begin();
    (void)snprintf(path, sizeof path, "%s", world->path);
    assert_int_equal(write(stranger.to, path, sizeof path), sizeof path);
    assert_true(run_until(has_answer, &stranger.from, 0, DEADLINE_MS));
    assert_int_equal(read(stranger.from, &answer, 1), 1);
    assert_int_equal(answer, 'e');
    assert_int_equal(input_status().refused, 1);
    assert_true(run_until(has_records, "\"event\":\"refused\"", 1, DEADLINE_MS));
    assert_non_null(strstr(record_with("\"event\":\"refused\""), "\"reason\":\"user\""));
    assert_int_equal(count_records("of a stranger"), 0);
}

static void a_fifth_connection_is_refused(void **state)
{
    int fds[5];

    (void)state;
    begin();
    for (unsigned i = 0; i < 4; i++) {
        fds[i] = connect_journald();
    }
    fds[4] = connect_to(world->path, SOCK_STREAM);
    assert_true(run_until(has_refused, NULL, 1, DEADLINE_MS));
    assert_true(run_until(has_records, "\"reason\":\"connections\"", 1, DEADLINE_MS));
    (void)close(fds[0]);
    assert_true(run_until(has_connections, NULL, 3, DEADLINE_MS));
    fds[0] = connect_journald();
    for (unsigned i = 0; i < 5; i++) {
        (void)close(fds[i]);
    }
    assert_true(run_until(has_sources, NULL, 0, DEADLINE_MS));
}

static void a_loopback_port_is_taken_and_no_other(void **state)
{
    static const char *const reachable[] = {"0.0.0.0:19599", "192.0.2.1:19599", "[::]:19599"};
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t size = sizeof address;
    char text[32];
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    (void)state;
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &size), 0);
    (void)close(fd); /* a port that is free */
    world->options.mode = TF_JOURNALD_EXPORT_SOCKET;
    for (unsigned i = 0; i < TF_COUNT(reachable); i++) {
        world->options.listen.text = reachable[i];
        expect_check_error("can be reached from outside");
    }
    world->options.listen.text = "localhost";
    expect_check_error("is not the path of a socket");
    (void)snprintf(text, sizeof text, "127.0.0.1:%d", ntohs(address.sin_port));
    world->options.listen.text = text;
    begin();
    fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    write_text(fd, "MESSAGE=by TCP\n\n");
    assert_true(run_until(has_records, "by TCP", 1, DEADLINE_MS));
    hang_up(fd);
}

static void a_socket_that_somebody_listens_on_is_left_alone(void **state)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    (void)state;
    world->options.mode = TF_JOURNALD_EXPORT_SOCKET;
    (void)snprintf(address.sun_path, sizeof address.sun_path, "%s", world->path);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(fd, 1), 0);
    expect_start_error("somebody listens on");
    assert_int_equal(access(world->path, F_OK), 0);
    (void)close(fd); /* now it is stale */
    begin();
    (void)close(connect_journald());
    stop();
    assert_int_equal(access(world->path, F_OK), -1);
}

/* ---- failures and the end ---------------------------------------------------------------------
 */

/* journald does not send again, so what was not durable is lost, and said; the rest goes on. */
static void a_failed_sync_is_a_gap(void **state)
{
    int fd;

    (void)state;
    begin();
    fd = connect_journald();
    write_text(fd, "MESSAGE=before\n\n");
    assert_true(run_until(has_records, "before", 1, DEADLINE_MS));
    run_for(20);
    atomic_store(&hold_syncs, true);
    write_text(fd, "MESSAGE=not durable\n\n");
    run_for(50);
    atomic_store(&fail_syncs, 1);
    atomic_store(&hold_syncs, false);
    assert_true(run_until(has_records, "\"reason\":\"unsynced\"", 1, DEADLINE_MS));
    assert_int_equal(number_of(record_with("unsynced"), "\"bytes_max\":"), 21);
    write_text(fd, "MESSAGE=behind\n\n");
    assert_true(run_until(has_records, "behind", 1, DEADLINE_MS));
    assert_int_equal(count_records("not durable"), 0);
    assert_int_equal(count_records("\"log\":\"before\""), 1);
    atomic_store(&fail_syncs, 1); /* nothing is at stake, or the same again */
    write_text(fd, "MESSAGE=second\n\n");
    assert_true(run_until(has_records, "\"reason\":\"unsynced\"", 2, DEADLINE_MS));
    assert_int_equal(number_of(record_with("bytes_max\":16"), "\"bytes_max\":"), 16);
    hang_up(fd);
}

/* Also when journald has hung up meanwhile. */
static void a_failed_sync_behind_the_end_is_a_gap(void **state)
{
    int fd;

    (void)state;
    begin();
    fd = connect_journald();
    atomic_store(&hold_syncs, true);
    write_text(fd, "MESSAGE=lost\n\n");
    run_for(100); /* it waits for its sync */
    (void)close(fd);
    run_for(100);
    atomic_store(&fail_syncs, 1);
    atomic_store(&hold_syncs, false);
    assert_true(run_until(has_records, "\"reason\":\"unsynced\"", 1, DEADLINE_MS));
    assert_int_equal(count_records("\"log\":\"lost\""), 0);
    assert_true(run_until(has_sources, NULL, 0, DEADLINE_MS));
}

static void what_was_written_before_the_stop_is_stored(void **state)
{
    int fd;

    (void)state;
    begin();
    fd = connect_journald();
    for (unsigned i = 0; i < 100; i++) {
        assert_int_equal(send(fd, "MESSAGE=last\n\n", 14, MSG_NOSIGNAL), 14);
    }
    stop(); /* the loop has not seen them */
    assert_int_equal(count_records("\"log\":\"last\""), 100);
    assert_int_equal(count_records("\"event\":\"gap\""), 0);
    (void)close(fd);
}

static void a_stop_does_not_wait_for_ever(void **state)
{
    struct flood flood = {.count = 20000, .bytes = 500};

    (void)state;
    begin();
    run_flood(&flood, true);
    begin_stop();
    run_for(2500); /* its patience is over, and a job still runs */
    atomic_store(&hold_filter, false);
    end_stop();
    assert_in_range(check_flood(flood.count), 1, flood.count);
    /* Dropped for want of room, and not stored before the stop. */
    assert_int_equal(count_records("\"reason\":\"overrun\""), 2);
    assert_int_equal(count_records("were not stored before the agent stopped"), 1);
}

/* Who writes here may say anything: no text of a record gets into our own log. */
static void what_is_no_unit_is_not_logged_as_one(void **state)
{
    static const char suppressed[] =
        "MESSAGE_ID=a596d6fe7bfa4994828e72309e95d61e\n_TRANSPORT=driver\nN_DROPPED=7\n";
    int fd;

    (void)state;
    begin();
    fd = connect_journald();
    write_text(fd, suppressed);
    write_text(fd, "OBJECT_SYSTEMD_UNIT=password=hunter22\n\n");
    assert_true(run_until(has_records, "journald suppressed 7 messages by", 1, DEADLINE_MS));
    write_text(fd, suppressed);
    write_text(fd, "OBJECT_SYSTEMD_UNIT=dbus-org.x\\x2da@1.service\n\n");
    assert_true(run_until(has_records, "7 messages of dbus-org", 1, DEADLINE_MS));
    assert_false(was_logged("hunter22"));
    assert_int_equal(input_status().suppressed, 14);
    hang_up(fd);
}

/* ---- turns ------------------------------------------------------------------------------------
 */

/* A source that reads no more than its share owes no turn to others. */
static void what_is_read_counts_once(void **state)
{
    static char text[200000];
    int fd;

    (void)state;
    begin();
    fd = connect_journald();
    memset(text, 'x', sizeof text);
    memcpy(text, "MESSAGE=once ", 13);
    memcpy(text + sizeof text - 2, "\n\n", 2);
    write_bytes(fd, text, sizeof text);
    assert_true(run_until(has_records, "\"log\":\"once", 1, DEADLINE_MS));
    assert_int_equal(find_input()->sources->source.deficit_bytes, 0);
    hang_up(fd);
}

/* The part of an entry that waited for its end is no measure for what comes behind that. */
static void what_comes_behind_an_entry_that_is_too_large_is_decoded(void **state)
{
    static char text[300000];
    int fd;

    (void)state;
    begin();
    fd = connect_journald();
    memset(text, 'x', sizeof text);
    memcpy(text, "MESSAGE=too-large ", 18);
    write_bytes(fd, text, sizeof text);
    run_for(100); /* it is a rest now */
    write_text(fd, "\n\nMESSAGE=behind");
    assert_true(run_until(has_records, "\"reason\":\"overrun\"", 1, DEADLINE_MS));
    write_text(fd, " it\n\n");
    assert_true(run_until(has_records, "\"log\":\"behind it\"", 1, DEADLINE_MS));
    assert_int_equal(count_records("\"reason\":\"overrun\""), 1);
    hang_up(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_capture_arrives_however_it_is_cut),
        TEST(a_connection_may_end_and_begin_again),
        TEST(a_part_of_an_entry_is_a_gap),
        TEST(what_is_no_export_format_ends_its_connection),
        TEST(a_slow_agent_never_makes_journald_wait),
        TEST(gaps_and_records_are_all_that_was_sent),
        TEST(an_agent_that_keeps_up_drops_nothing),
        TEST(a_stranger_is_refused),
        TEST(a_fifth_connection_is_refused),
        TEST(a_loopback_port_is_taken_and_no_other),
        TEST(a_socket_that_somebody_listens_on_is_left_alone),
        TEST(a_failed_sync_is_a_gap),
        TEST(a_failed_sync_behind_the_end_is_a_gap),
        TEST(what_is_no_unit_is_not_logged_as_one),
        TEST(what_is_read_counts_once),
        TEST(what_comes_behind_an_entry_that_is_too_large_is_decoded),
        TEST(what_was_written_before_the_stop_is_stored),
        TEST(a_stop_does_not_wait_for_ever),
    };

    (void)signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, start_stranger, end_stranger);
}
