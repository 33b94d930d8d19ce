/* test_notify.c - what a service manager is told, and that nobody else is. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "taffrail/notify.h"

#define WATCHDOG_USEC "20000"

/* The manager's end: a socket that is bound to a path or, after '@', to an abstract name. */
struct manager {
    int fd;
    char name[64];
};

static void listen_at(struct manager *manager, char first)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    size_t size;

    if (first == '@') {
        (void)snprintf(manager->name, sizeof manager->name, "@taffrail-test-%d", (int)getpid());
    } else {
        (void)snprintf(manager->name, sizeof manager->name, "/tmp/taffrail-notify-%d",
                       (int)getpid());
        (void)unlink(manager->name);
    }
    size = strlen(manager->name);
    memcpy(at.sun_path, manager->name, size);
    at.sun_path[0] = first == '@' ? '\0' : '/';
    manager->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    assert_true(manager->fd >= 0);
    assert_int_equal(bind(manager->fd, (struct sockaddr *)&at,
                          (socklen_t)(offsetof(struct sockaddr_un, sun_path) + size)),
                     0);
    assert_int_equal(setenv("NOTIFY_SOCKET", manager->name, 1), 0);
}

static void end_listening(struct manager *manager)
{
    (void)close(manager->fd);
    if (manager->name[0] == '/') {
        (void)unlink(manager->name);
    }
}

/* The next message, or "" when none waits. */
static const char *heard(const struct manager *manager)
{
    static char text[256];
    ssize_t n = recv(manager->fd, text, sizeof text - 1, MSG_DONTWAIT);

    text[n > 0 ? n : 0] = '\0';
    return text;
}

static void check_message_at(char first)
{
    struct manager manager;
    struct tf_notify notify;

    listen_at(&manager, first);
    assert_int_equal(tf_notify_open(&notify), 0);
    assert_int_equal(tf_notify_send(&notify, "READY=1\nSTATUS=reads"), 0);
    assert_string_equal(heard(&manager), "READY=1\nSTATUS=reads");
    tf_notify_close(&notify);
    end_listening(&manager);
}

static void messages_reach_a_path(void **state)
{
    (void)state;
    check_message_at('/');
}

static void messages_reach_an_abstract_socket(void **state)
{
    (void)state;
    check_message_at('@');
}

static void nobody_asks_nothing_fails(void **state)
{
    struct tf_notify notify;

    (void)state;
    assert_int_equal(unsetenv("NOTIFY_SOCKET"), 0);
    assert_int_equal(setenv("WATCHDOG_USEC", WATCHDOG_USEC, 1), 0);
    assert_int_equal(tf_notify_open(&notify), 0);
    assert_true(notify.watchdog_ms == 0);
    assert_int_equal(tf_notify_send(&notify, "READY=1"), 0);
    tf_notify_close(&notify);
}

static void other_addresses_are_refused(void **state)
{
    static const char *const names[] = {"", "/", "@", "relative", "vsock:2:1234"};
    char long_name[256];
    struct tf_notify notify;

    (void)state;
    for (size_t i = 0; i < TF_COUNT(names); i++) {
        assert_int_equal(setenv("NOTIFY_SOCKET", names[i], 1), 0);
        assert_int_equal(tf_notify_open(&notify), -EINVAL);
        assert_int_equal(tf_notify_send(&notify, "READY=1"), 0);
        tf_notify_close(&notify);
    }
    memset(long_name, '/', sizeof long_name - 1);
    long_name[sizeof notify.to.sun_path] = '\0';
    assert_int_equal(setenv("NOTIFY_SOCKET", long_name, 1), 0);
    assert_int_equal(tf_notify_open(&notify), -EINVAL);
}

static void a_manager_that_is_gone_is_an_error(void **state)
{
    struct manager manager;
    struct tf_notify notify;

    (void)state;
    listen_at(&manager, '@');
    assert_int_equal(tf_notify_open(&notify), 0);
    end_listening(&manager);
    assert_int_equal(tf_notify_send(&notify, "READY=1"), -ECONNREFUSED);
    tf_notify_close(&notify);
}

static void children_do_not_inherit_it(void **state)
{
    struct manager manager;
    struct tf_notify notify;

    (void)state;
    listen_at(&manager, '@');
    assert_int_equal(setenv("WATCHDOG_USEC", WATCHDOG_USEC, 1), 0);
    assert_int_equal(setenv("WATCHDOG_PID", "1", 1), 0);
    assert_int_equal(tf_notify_open(&notify), 0);
    assert_null(getenv("NOTIFY_SOCKET"));
    assert_null(getenv("WATCHDOG_USEC"));
    assert_null(getenv("WATCHDOG_PID"));
    tf_notify_close(&notify);
    end_listening(&manager);
}

/* The interval for these two variables; pid NULL: it is not set. */
static uint64_t watchdog_ms(const char *usec, const char *pid)
{
    struct manager manager;
    struct tf_notify notify;
    uint64_t interval_ms;

    listen_at(&manager, '@');
    assert_int_equal(setenv("WATCHDOG_USEC", usec, 1), 0);
    assert_int_equal(pid != NULL ? setenv("WATCHDOG_PID", pid, 1) : unsetenv("WATCHDOG_PID"), 0);
    assert_int_equal(tf_notify_open(&notify), 0);
    interval_ms = notify.watchdog_ms;
    tf_notify_close(&notify);
    end_listening(&manager);
    return interval_ms;
}

static void the_watchdog_wants_half_its_time(void **state)
{
    char own[16];

    (void)state;
    (void)snprintf(own, sizeof own, "%d", (int)getpid());
    assert_int_equal(watchdog_ms("30000000", own), 15000);
    assert_int_equal(watchdog_ms("30000000", NULL), 15000);
    assert_int_equal(watchdog_ms("1", NULL), 1);
    assert_int_equal(watchdog_ms("30000000", "1"), 0);
    assert_int_equal(watchdog_ms("30000000", "x"), 0);
    assert_int_equal(watchdog_ms("0", NULL), 0);
    assert_int_equal(watchdog_ms("-5", NULL), 0);
    assert_int_equal(watchdog_ms("30s", NULL), 0);
    assert_int_equal(watchdog_ms("99999999999999999999999", NULL), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_reach_a_path),
        cmocka_unit_test(messages_reach_an_abstract_socket),
        cmocka_unit_test(nobody_asks_nothing_fails),
        cmocka_unit_test(other_addresses_are_refused),
        cmocka_unit_test(a_manager_that_is_gone_is_an_error),
        cmocka_unit_test(children_do_not_inherit_it),
        cmocka_unit_test(the_watchdog_wants_half_its_time),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
