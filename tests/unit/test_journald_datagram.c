/*
 * test_journald_datagram.c - modes native and syslog of the journald input: what clients send to
 * the socket arrives once, in order, with who sent it; descriptors are closed; a full queue makes
 * senders wait; a failed sync loses nothing.
 */
#include "journald_fixture.h"

#include "../../agent/inputs/journald/ring.h"

#define SEALS (F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW)

/* ---- faults --------------------------------------------------------------------------------- */

static atomic_int pretend_large; /* so many datagrams are said to be of 9 MiB */

ssize_t recvmsg(int fd, struct msghdr *head, int flags)
{
    ssize_t size = syscall(SYS_recvmsg, fd, head, flags);

    if (size > 0 &&
        atomic_load(&pretend_large) > 0) { /* the kernel makes none here, of 4 KiB pages */
        (void)atomic_fetch_sub(&pretend_large, 1);
        return 9 << 20;
    }
    return size;
}

/* ---- another process --------------------------------------------------------------------------
 * Forked before there are threads: it sends what it is told to.
 */

struct order {
    char path[96];
    char text[64];
};

static struct {
    pid_t pid;
    int to, from;
} helper;

static void help(int from, int to)
{
    struct order order;

    while (read(from, &order, sizeof order) == (ssize_t)sizeof order) {
        int fd = connect_to(order.path, SOCK_DGRAM);

        (void)send(fd, order.text, strlen(order.text), 0);
        (void)close(fd);
        (void)!write(to, "k", 1);
    }
    _exit(0);
}

static int start_helper(void **state)
{
    int there[2], back[2];

    (void)state;
    assert_int_equal(pipe2(there, O_CLOEXEC), 0);
    assert_int_equal(pipe2(back, O_CLOEXEC), 0);
    helper.pid = fork();
    assert_true(helper.pid >= 0);
    if (helper.pid == 0) {
        (void)close(there[1]);
        help(there[0], back[1]);
    }
    (void)close(there[0]);
    (void)close(back[1]);
    helper.to = there[1];
    helper.from = back[0];
    return 0;
}

static int end_helper(void **state)
{
    (void)state;
    (void)close(helper.to);
    (void)close(helper.from);
    return waitpid(helper.pid, NULL, 0) == helper.pid ? 0 : -1;
}

static void let_helper_send(const char *text)
{
    struct order order = {0};
    char done;

    (void)snprintf(order.path, sizeof order.path, "%s", world->path);
    (void)snprintf(order.text, sizeof order.text, "%s", text);
    assert_int_equal(write(helper.to, &order, sizeof order), sizeof order);
    assert_int_equal(read(helper.from, &done, 1), 1);
}

/* ---- sending ----------------------------------------------------------------------------------
 */

static void begin(enum tf_journald_mode mode)
{
    world->options.mode = (int)mode;
    start();
}

/* A datagram that may have to wait: the loop runs meanwhile. */
static void send_bytes(int fd, const void *data, size_t size)
{
    ssize_t sent;

    while ((sent = send(fd, data, size, MSG_DONTWAIT)) < 0 && errno == EAGAIN) {
        run_for(1);
    }
    assert_int_equal(sent, size);
}

static void send_text(int fd, const char *text)
{
    send_bytes(fd, text, strlen(text));
}

static void send_numbered(int fd, const char *what, unsigned from, unsigned to)
{
    char text[64];

    for (unsigned i = from; i < to; i++) {
        (void)snprintf(text, sizeof text, "MESSAGE=%s %u\n", what, i);
        send_text(fd, text);
    }
}

/* Records of what, each once and in order, from 0 on. */
static void expect_numbered(const char *what, uint32_t count)
{
    char start[48], key[48];
    uint32_t next = 0;

    (void)snprintf(start, sizeof start, "\"log\":\"%s ", what);
    assert_true(run_until(has_records, start, count, DEADLINE_MS));
    run_for(30); /* none comes twice */
    (void)snprintf(key, sizeof key, "\"log\":\"%s ", what);
    for (uint32_t i = 0; i < kept.count; i++) {
        if (strstr(kept.records[i], start) != NULL) {
            assert_int_equal(number_of(kept.records[i], key), next);
            next++;
        }
    }
    assert_int_equal(next, count);
}

static void send_fds(int to, const char *text, const int *fds, uint32_t count)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(64 * sizeof(int))];
    } control = {0};
    struct iovec bytes = {.iov_base = (void *)(uintptr_t)text, .iov_len = strlen(text)};
    struct msghdr head = {.msg_iov = &bytes,
                          .msg_iovlen = 1,
                          .msg_control = &control,
                          .msg_controllen = CMSG_SPACE(count * sizeof(int))};
    struct cmsghdr *rights = CMSG_FIRSTHDR(&head);
    ssize_t sent;

    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(count * sizeof(int));
    memcpy(CMSG_DATA(rights), fds, count * sizeof(int));
    while ((sent = sendmsg(to, &head, MSG_DONTWAIT)) < 0 && errno == EAGAIN) {
        run_for(1); /* nobody else empties the queue */
    }
    assert_int_equal(sent, strlen(text));
}

static int make_memfd(struct tf_slice content, int seals)
{
    int fd = memfd_create("entry", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, content.data, content.size), content.size);
    assert_int_equal(fcntl(fd, F_ADD_SEALS, seals), 0);
    return fd;
}

static void send_memfd(int to, struct tf_slice content, int seals)
{
    int fd = make_memfd(content, seals);

    send_fds(to, "", &fd, 1);
    (void)close(fd);
}

/* ---- what arrives -----------------------------------------------------------------------------
 */

/* The entries that expected.json lists for each file, by its layout. */
static int entries_of(const struct tf_buf *expected, const char *name)
{
    char key[96];
    const char *at, *end;
    int count = 0;

    (void)snprintf(key, sizeof key, "\n \"%s\": [", name);
    at = memmem(expected->data, expected->size, key, strlen(key));
    assert_non_null(at);
    at += strlen(key);
    end = memmem(at, (size_t)(expected->data + expected->size - at), "\n ]", 3);
    if (at[0] == ']') {
        return 0;
    }
    for (; at < end; at++) {
        count += strncmp(at, "\n  {", 4) == 0;
    }
    return count;
}

/* Sends every file of a folder, and behind each a mark. */
static void send_folder(const char *folder, const char *mark)
{
    struct dirent **names;
    int count = scandir(folder, &names, NULL, alphasort), fd = connect_to(world->path, SOCK_DGRAM);
    char path[512], text[320];

    assert_true(count > 0);
    for (int i = 0; i < count; i++) {
        const char *name = names[i]->d_name;

        (void)snprintf(path, sizeof path, "%s%s", folder, name);
        (void)snprintf(text, sizeof text, mark, name);
        if (strstr(name, ".dgram") != NULL || strstr(name, ".memfd") != NULL) {
            struct tf_buf bytes = read_whole(path);

            if (strstr(name, ".memfd") != NULL) {
                send_memfd(fd, tf_buf_slice(&bytes), SEALS | F_SEAL_SEAL);
            } else {
                send_bytes(fd, bytes.data, bytes.size);
            }
            tf_buf_fini(&bytes);
            send_text(fd, text);
        }
        free(names[i]);
    }
    free(names);
    (void)close(fd);
    (void)snprintf(text, sizeof text, mark, "the end");
}

/* Between the marks stand as many records as journald made entries. */
static void expect_folder(const char *folder, const char *mark)
{
    char path[512];
    struct tf_buf expected;
    uint32_t files = 0;
    int since = 0;

    (void)snprintf(path, sizeof path, "%sexpected.json", folder);
    expected = read_whole(path);
    for (uint32_t i = 0; i < kept.count; i++) {
        const char *at = strstr(kept.records[i], mark);
        char name[64];

        if (strstr(kept.records[i], "taffrail.audit") != NULL) {
            continue;
        }
        if (at == NULL) {
            since++;
            continue;
        }
        assert_int_equal(sscanf(at + strlen(mark), "%63[^\"]", name), 1);
        if (since != entries_of(&expected, name)) {
            fail_msg("%s: %d records, journald has %d", name, since, entries_of(&expected, name));
        }
        since = 0;
        files++;
    }
    assert_true(files > 10);
    tf_buf_fini(&expected);
}

static void every_native_datagram_is_as_journald_has_it(void **state)
{
    (void)state;
    begin(TF_JOURNALD_NATIVE);
    send_folder(FIXTURES "native/", "MESSAGE=mark %s\n");
    assert_true(run_until(has_records, "\"log\":\"mark ", 33, DEADLINE_MS));
    expect_folder(FIXTURES "native/", "\"log\":\"mark ");
    assert_int_equal(input_status().refused, 0);
}

static void every_syslog_datagram_is_as_journald_has_it(void **state)
{
    (void)state;
    begin(TF_JOURNALD_SYSLOG);
    send_folder(FIXTURES "devlog/", "<13>mark %s");
    assert_true(run_until(has_records, "\"log\":\"mark ", 11, DEADLINE_MS));
    expect_folder(FIXTURES "devlog/", "\"log\":\"mark ");
}

static void the_kernel_says_who_sent_it(void **state)
{
    char pid[32], other[32];
    int fd;

    (void)state;
    begin(TF_JOURNALD_NATIVE);
    fd = connect_to(world->path, SOCK_DGRAM);
    send_text(fd, "MESSAGE=by me\n_PID=1\n_UID=7\n");
    let_helper_send("MESSAGE=by another\n_PID=1\n");
    assert_true(run_until(has_records, "by ", 2, DEADLINE_MS));
    (void)snprintf(pid, sizeof pid, "\"pid\":%d", (int)getpid());
    (void)snprintf(other, sizeof other, "\"pid\":%d", (int)helper.pid);
    assert_non_null(strstr(record_with("by me"), pid));
    assert_non_null(strstr(record_with("by another"), other));
    assert_null(strstr(record_with("by me"), "\"_UID\":\"7\""));
    (void)close(fd);
}

static void a_burst_arrives_whole_and_in_order(void **state)
{
    int fd;

    (void)state;
    begin(TF_JOURNALD_NATIVE);
    fd = connect_to(world->path, SOCK_DGRAM);
    send_numbered(fd, "burst", 0, 10000);
    (void)close(fd);
    expect_numbered("burst", 10000);
}

static void large_datagrams_arrive(void **state)
{
    static const size_t sizes[] = {100000, 1000000, 3500000};
    static char text[4 << 20];
    int fd, bytes = 16 << 20;

    (void)state;
    begin(TF_JOURNALD_NATIVE);
    fd = connect_to(world->path, SOCK_DGRAM);
    if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof bytes) < 0) {
        skip();
    }
    for (unsigned round = 0; round < 12; round++) { /* round the ring, and over its end */
        for (unsigned i = 0; i < TF_COUNT(sizes); i++) {
            int head = snprintf(text, sizeof text, "N=%u\nMESSAGE=large %u ", i, round * 3 + i);

            memset(text + head, 'x', sizes[i] - (size_t)head - 1);
            text[sizes[i] - 1] = '\n';
            send_bytes(fd, text, sizes[i]);
        }
    }
    (void)close(fd);
    expect_numbered("large", 36);
    assert_true(strlen(record_with("\"log\":\"large 1 ")) > 999000);
}

/* ---- descriptors ------------------------------------------------------------------------------
 */

static bool is_source_asleep(const void *ctx, uint32_t wanted)
{
    (void)ctx;
    (void)wanted;
    return find_input()->sources->source.state == TF_SOURCE_ASLEEP;
}

/* What is left before the ring's end is passed over when a datagram may not fit: nothing spins. */
static void nothing_spins_at_the_end_of_the_ring(void **state)
{
    static char text[128 << 10];
    int fd;

    (void)state;
    memset(text, 'a', sizeof text);
    memcpy(text, "MESSAGE=long ", 13);
    text[sizeof text - 1] = '\n';
    begin(TF_JOURNALD_NATIVE);
    fd = connect_to(world->path, SOCK_DGRAM);
    for (unsigned i = 0; i < 300; i++) { /* more than the ring holds */
        send_bytes(fd, text, sizeof text);
        assert_true(run_until(has_records, "long aaa", 1, DEADLINE_MS));
        assert_true(run_until(is_source_asleep, NULL, 0, DEADLINE_MS));
        forget_records();
    }
    (void)close(fd);
}

static void a_sealed_memfd_is_an_entry(void **state)
{
    uint32_t before;
    int fd;

    (void)state;
    begin(TF_JOURNALD_NATIVE);
    fd = connect_to(world->path, SOCK_DGRAM);
    before = count_fds();
    for (unsigned i = 0; i < 200; i++) { /* more than are held at once */
        char text[64];
        int size = snprintf(text, sizeof text, "MESSAGE=in memfd %u\n", i);

        send_memfd(fd, tf_slice(text, (size_t)size), SEALS);
        run_for(1);
    }
    expect_numbered("in memfd", 200);
    assert_in_range(count_fds(), 1, before); /* the spool may have closed one too */
    assert_int_equal(input_status().refused, 0);
    (void)close(fd);
}

static void other_descriptors_are_refused_and_closed(void **state)
{
    int fd, pipes[2], many[40];
    uint32_t before;

    (void)state;
    begin(TF_JOURNALD_NATIVE);
    fd = connect_to(world->path, SOCK_DGRAM);
    before = count_fds();
    send_memfd(fd, tf_slice_text("MESSAGE=unsealed\n"), 0);
    send_memfd(fd, tf_slice_text("MESSAGE=half sealed\n"), F_SEAL_GROW | F_SEAL_SHRINK);
    assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
    send_fds(fd, "", pipes, 2);                            /* one, and one extra */
    send_fds(fd, "MESSAGE=with a descriptor\n", pipes, 1); /* the text counts */
    for (unsigned i = 0; i < TF_COUNT(many); i++) {
        many[i] = pipes[0];
    }
    send_fds(fd, "MESSAGE=with too many\n", many, TF_COUNT(many));
    (void)close(pipes[0]);
    (void)close(pipes[1]);
    assert_true(run_until(has_records, "with too many", 1, DEADLINE_MS));
    assert_true(run_until(has_refused, NULL, 22, DEADLINE_MS)); /* 2, 2, 1, 16 and the cut */
    assert_int_equal(count_records("with a descriptor"), 1);
    assert_int_equal(count_records("sealed"), 0);
    assert_true(run_until(has_records, "\"event\":\"refused\"", 1, DEADLINE_MS));
    assert_true(was_logged("event=refused"));
    assert_in_range(count_fds(), 1, before); /* the spool may have closed one too */
    (void)close(fd);
}

static void a_syslog_client_sends_no_descriptors(void **state)
{
    int fd, null;
    uint32_t before;

    (void)state;
    begin(TF_JOURNALD_SYSLOG);
    fd = connect_to(world->path, SOCK_DGRAM);
    before = count_fds();
    null = make_memfd(tf_slice_text("MESSAGE=no\n"), SEALS);
    send_fds(fd, "", &null, 1);
    send_fds(fd, "<13>text counts", &null, 1);
    (void)close(null);
    assert_true(run_until(has_records, "text counts", 1, DEADLINE_MS));
    assert_int_equal(input_status().refused, 2);
    assert_in_range(count_fds(), 1, before); /* the spool may have closed one too */
    (void)close(fd);
}

static void what_is_too_large_is_a_gap(void **state)
{
    size_t size = TF_JOURNAL_ENTRY_MAX + (1u << 20) + 1;
    char *content = calloc(1, size);
    uint32_t before;
    int fd;

    (void)state;
    assert_non_null(content);
    begin(TF_JOURNALD_NATIVE);
    fd = connect_to(world->path, SOCK_DGRAM);
    before = count_fds();
    send_memfd(fd, tf_slice(content, size), SEALS);
    free(content);
    assert_true(run_until(has_records, "\"reason\":\"overrun\"", 1, DEADLINE_MS));
    assert_int_equal(number_of(record_with("overrun"), "\"bytes_max\":"), size);
    atomic_store(&pretend_large, 2);
    send_text(fd, "MESSAGE=pretended\n");
    send_text(fd, "MESSAGE=pretended\n");
    send_text(fd, "MESSAGE=behind it\n");
    assert_true(run_until(has_records, "behind it", 1, DEADLINE_MS));
    assert_true(run_until(has_records, "\"log\":\"2 datagrams of 18874368 bytes", 1, DEADLINE_MS));
    assert_int_equal(count_records("pretended"), 0);
    assert_in_range(count_fds(), 1, before); /* the spool may have closed one too */
    (void)close(fd);
}

/* ---- the socket's file ------------------------------------------------------------------------
 */

static void a_stale_socket_is_replaced(void **state)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct stat found;
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    (void)state;
    (void)snprintf(address.sun_path, sizeof address.sun_path, "%s", world->path);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    (void)close(fd); /* as a killed agent leaves it */
    begin(TF_JOURNALD_NATIVE);
    assert_int_equal(stat(world->path, &found), 0);
    assert_int_equal(found.st_mode & 0777, 0666);
    let_helper_send("MESSAGE=anew\n");
    assert_true(run_until(has_records, "anew", 1, DEADLINE_MS));
    stop();
    assert_int_equal(stat(world->path, &found), -1); /* and its own is taken away */
}

static void a_socket_that_somebody_listens_on_is_left_alone(void **state)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0), client;
    char text[16] = "";

    (void)state;
    world->options.mode = TF_JOURNALD_NATIVE;
    (void)snprintf(address.sun_path, sizeof address.sun_path, "%s", world->path);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    expect_start_error("somebody listens on");
    client = connect_to(world->path, SOCK_DGRAM);
    assert_int_equal(send(client, "hello", 5, 0), 5);
    assert_int_equal(recv(fd, text, sizeof text, 0), 5);
    (void)close(client);
    (void)close(fd);
}

static void what_is_no_socket_is_left_alone(void **state)
{
    int fd = open(world->path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

    (void)state;
    (void)close(fd);
    world->options.mode = TF_JOURNALD_NATIVE;
    expect_start_error("is no socket");
    assert_int_equal(access(world->path, F_OK), 0);
}

static void another_socket_under_our_name_stays(void **state)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    (void)state;
    begin(TF_JOURNALD_NATIVE);
    assert_int_equal(unlink(world->path), 0);
    (void)snprintf(address.sun_path, sizeof address.sun_path, "%s", world->path);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    stop();
    assert_int_equal(access(world->path, F_OK), 0);
    (void)close(fd);
}

static void wrong_paths_are_told(void **state)
{
    char longest[160];

    (void)state;
    world->options.mode = TF_JOURNALD_NATIVE;
    world->options.listen.text = "journal.sock";
    expect_check_error("is not the path of a socket");
    memset(longest, 'x', sizeof longest);
    longest[0] = '/';
    longest[sizeof longest - 1] = '\0';
    world->options.listen.text = longest;
    expect_check_error("the path of a socket has at most 107 bytes");
    world->options.listen.text = "unix:/nowhere/at/all";
    expect_start_error("make its folder first");
}

/* ---- backpressure -----------------------------------------------------------------------------
 */

struct flood {
    unsigned count;
    atomic_uint sent;
};

static void send_flood(void *ctx)
{
    struct flood *flood = ctx;
    char text[2048];
    int fd = connect_to(world->path, SOCK_DGRAM);

    for (unsigned i = 0; i < flood->count; i++) {
        int head = snprintf(text, sizeof text, "N=1\nMESSAGE=flood %u ", i);

        memset(text + head, 'x', sizeof text - (size_t)head - 1);
        text[sizeof text - 1] = '\n';
        if (send(fd, text, sizeof text, 0) != (ssize_t)sizeof text) {
            break;
        }
        (void)atomic_fetch_add(&flood->sent, 1);
    }
    (void)close(fd);
}

static bool has_sent(const void *ctx, uint32_t wanted)
{
    return atomic_load((const atomic_uint *)ctx) >= wanted;
}

/* How many datagrams the kernel lets wait (unix(7)). */
static unsigned kernel_queue(void)
{
    struct tf_buf text = read_whole("/proc/sys/net/unix/max_dgram_qlen");
    unsigned count = (unsigned)strtoul(text.data, NULL, 10) + 2;

    tf_buf_fini(&text);
    return count;
}

static void a_full_queue_makes_senders_wait(void **state)
{
    struct flood flood = {.count = 6000};
    uv_thread_t thread;
    unsigned sent;

    (void)state;
    begin(TF_JOURNALD_NATIVE);
    atomic_store(&hold_filter, true);
    assert_int_equal(uv_thread_create(&thread, send_flood, &flood), 0);
    assert_true(run_until(has_sent, &flood.sent, 1900, DEADLINE_MS)); /* about 4 MiB, with heads */
    do {                                                              /* until it stands still */
        sent = atomic_load(&flood.sent);
        run_for(300);
    } while (atomic_load(&flood.sent) != sent);
    assert_in_range(sent, 1900, 2100 + kernel_queue()); /* no more than the ring and that */
    run_for(100);
    assert_int_equal(atomic_load(&flood.sent), sent);
    atomic_store(&hold_filter, false);
    assert_true(run_until(has_sent, &flood.sent, flood.count, DEADLINE_MS));
    assert_int_equal(uv_thread_join(&thread), 0);
    expect_numbered("flood", flood.count);
}

/* ---- failures ---------------------------------------------------------------------------------
 */

static void a_failed_sync_loses_and_doubles_nothing(void **state)
{
    int fd;

    (void)state;
    begin(TF_JOURNALD_NATIVE);
    fd = connect_to(world->path, SOCK_DGRAM);
    send_numbered(fd, "kept", 0, 50);
    run_for(50);
    atomic_store(&hold_syncs, true);
    for (unsigned i = 0; i < 10; i++) { /* several batches and frames */
        send_numbered(fd, "kept", 50 + i * 10, 60 + i * 10);
        run_for(10);
    }
    atomic_store(&fail_syncs, 1);
    atomic_store(&hold_syncs, false);
    send_numbered(fd, "kept", 150, 200);
    expect_numbered("kept", 200);
    assert_true(was_logged("event=disk-error"));
    (void)close(fd);
}

/* Frames that the spool has already become durable, those behind them do not. */
static void a_lost_batch_is_decoded_again_alone(void **state)
{
    int fd;

    (void)state;
    begin(TF_JOURNALD_NATIVE);
    fd = connect_to(world->path, SOCK_DGRAM);
    atomic_store(&hold_syncs, true);
    for (unsigned i = 0; i < 5; i++) {
        send_numbered(fd, "kept", i * 10, i * 10 + 10);
        run_for(20);
    }
    atomic_store(&fail_filter, 1);
    send_numbered(fd, "kept", 50, 60);
    run_for(50);
    send_numbered(fd, "kept", 60, 70);
    run_for(20);
    atomic_store(&hold_syncs, false);
    send_numbered(fd, "kept", 70, 80);
    expect_numbered("kept", 80);
    assert_int_equal(atomic_load(&fail_filter), 0);
    (void)close(fd);
}

static void a_gap_that_was_lost_is_told_again(void **state)
{
    int fd;

    (void)state;
    begin(TF_JOURNALD_NATIVE);
    fd = connect_to(world->path, SOCK_DGRAM);
    atomic_store(&hold_syncs, true);
    atomic_store(&pretend_large, 1);
    send_text(fd, "MESSAGE=pretended\n");
    run_for(100); /* told, and its frame waits for the sync */
    atomic_store(&fail_syncs, 1);
    atomic_store(&hold_syncs, false);
    assert_true(run_until(has_records, "\"reason\":\"overrun\"", 1, DEADLINE_MS));
    run_for(30);
    assert_int_equal(count_records("\"reason\":\"overrun\""), 1);
    (void)close(fd);
}

static void a_batch_that_is_too_large_goes_in_parts(void **state)
{
    int fd;

    (void)state;
    begin(TF_JOURNALD_NATIVE);
    fd = connect_to(world->path, SOCK_DGRAM);
    atomic_store(&filter_takes, 3);
    send_numbered(fd, "part", 0, 40);
    send_text(fd, "MESSAGE=too-large\n");
    send_numbered(fd, "part", 40, 80);
    expect_numbered("part", 80);
    assert_int_equal(count_records("too-large"), 0);
    assert_true(run_until(has_records, "\"reason\":\"overrun\"", 1, DEADLINE_MS));
    assert_int_equal(number_of(record_with("overrun"), "\"bytes_max\":"), 18);
    (void)close(fd);
}

static void what_was_sent_before_the_stop_is_stored(void **state)
{
    int fd;

    (void)state;
    begin(TF_JOURNALD_NATIVE);
    fd = connect_to(world->path, SOCK_DGRAM);
    assert_int_equal(send(fd, "MESSAGE=last 0\n", 15, MSG_DONTWAIT), 15);
    assert_int_equal(send(fd, "MESSAGE=last 1\n", 15, MSG_DONTWAIT), 15);
    assert_int_equal(send(fd, "MESSAGE=last 2\n", 15, MSG_DONTWAIT), 15);
    stop(); /* the loop has not seen them */
    assert_int_equal(count_records("\"log\":\"last "), 3);
    assert_int_equal(send(fd, "MESSAGE=late\n", 13, MSG_DONTWAIT), -1); /* who sends is told */
    (void)close(fd);
}

static void a_stop_does_not_wait_for_ever(void **state)
{
    struct flood flood = {.count = 1000};
    uv_thread_t thread;

    (void)state;
    begin(TF_JOURNALD_NATIVE);
    atomic_store(&hold_filter, true);
    assert_int_equal(uv_thread_create(&thread, send_flood, &flood), 0);
    assert_true(run_until(has_sent, &flood.sent, flood.count, DEADLINE_MS));
    assert_int_equal(uv_thread_join(&thread), 0);
    run_for(50);
    begin_stop();
    run_for(2500); /* its patience is over, and a job still runs */
    atomic_store(&hold_filter, false);
    end_stop();
    assert_true(count_records("\"log\":\"flood ") < flood.count);
    assert_int_equal(number_of(record_with("\"reason\":\"overrun\""), "\"log\":\"") +
                         count_records("\"log\":\"flood "),
                     flood.count);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(every_native_datagram_is_as_journald_has_it),
        TEST(every_syslog_datagram_is_as_journald_has_it),
        TEST(the_kernel_says_who_sent_it),
        TEST(a_burst_arrives_whole_and_in_order),
        TEST(large_datagrams_arrive),
        TEST(nothing_spins_at_the_end_of_the_ring),
        TEST(a_sealed_memfd_is_an_entry),
        TEST(other_descriptors_are_refused_and_closed),
        TEST(a_syslog_client_sends_no_descriptors),
        TEST(what_is_too_large_is_a_gap),
        TEST(a_stale_socket_is_replaced),
        TEST(a_socket_that_somebody_listens_on_is_left_alone),
        TEST(what_is_no_socket_is_left_alone),
        TEST(another_socket_under_our_name_stays),
        TEST(wrong_paths_are_told),
        TEST(a_full_queue_makes_senders_wait),
        TEST(a_failed_sync_loses_and_doubles_nothing),
        TEST(a_lost_batch_is_decoded_again_alone),
        TEST(a_gap_that_was_lost_is_told_again),
        TEST(a_batch_that_is_too_large_goes_in_parts),
        TEST(what_was_sent_before_the_stop_is_stored),
        TEST(a_stop_does_not_wait_for_ever),
    };

    (void)signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, start_helper, end_helper);
}
