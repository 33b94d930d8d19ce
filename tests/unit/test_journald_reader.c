/*
 * test_journald_reader.c - mode reader of the journald input, with a script for the program that
 * reads: whenever and however that ends, it is started again behind the last entry, and nothing is
 * lost or doubled.
 */
#include <linux/securebits.h>
#include <sys/prctl.h>

#include "journald_fixture.h"

#include "taffrail/journald.h"

#include "../../agent/launcher/internal.h"
#include "../../agent/sandbox/internal.h"

#define CURSOR                                                                                     \
    "s=00000000000000000000000000000001;i=1;b=00000000000000000000000000000002;m=1;t=%llx;x=1"

/* ---- faults --------------------------------------------------------------------------------- */

static unsigned fails_at_pair; /* counted from 1; 0: none does */

/* Before libc's. */
int socketpair(int family, int type, int protocol, int fds[2])
{
    if (fails_at_pair > 0 && --fails_at_pair == 0) {
        errno = EMFILE;
        return -1;
    }
    return (int)syscall(SYS_socketpair, family, type, protocol, fds);
}

/* ---- the program ------------------------------------------------------------------------------
 */

/* Before libuv's: the program is looked for beside ours. */
int uv_exepath(char *path, size_t *size)
{
    (void)snprintf(path, *size, "%s/taffrail", world->path);
    return 0;
}

static const char *file_named(const char *name)
{
    static char path[160];

    (void)snprintf(path, sizeof path, "%s/%s", world->path, name);
    return path;
}

/* A script of sh. $n is its start, counted from 1; its arguments are a line in the file `args`. */
static void write_script(const char *script)
{
    FILE *file;

    (void)snprintf(world->path, sizeof world->path, "%s.bin", world->folder);
    assert_int_equal(mkdir(world->path, 0700), 0);
    file = fopen(file_named("taffrail-journal"), "we");
    assert_non_null(file);
    assert_true(
        fprintf(file,
                "#!/bin/sh\ncd %s\necho \"$*\" >>args\nn=$(wc -l <args)\n"
                "entry() { printf '__CURSOR=%%s\\nMESSAGE=%%s\\n\\n' \"$1\" \"$2\"; }\n%s\n",
                world->path, script) > 0);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(chmod(file_named("taffrail-journal"), 0700), 0);
}

static void begin(const char *script)
{
    write_script(script);
    world->options.mode = TF_JOURNALD_READER;
    world->options.listen.text = NULL;
    world->options.start_at.text = "oldest";
    start();
}

static void take_for_journalctl(void)
{
    ((struct tf_child_program *)find_input()->own)->is_journalctl = true;
}

static bool has_file(const void *ctx, uint32_t wanted)
{
    (void)wanted;
    return access(file_named(ctx), F_OK) == 0;
}

/* The arguments of a start, counted from 1; freed by the next call. */
static const char *arguments_of(unsigned number)
{
    static char line[4096];
    FILE *file = fopen(file_named("args"), "re");

    assert_non_null(file);
    line[0] = '\0';
    for (unsigned i = 0; i < number; i++) {
        assert_non_null(fgets(line, sizeof line, file));
    }
    (void)fclose(file);
    return line;
}

static void expect_record(const char *text)
{
    assert_true(run_until(has_records, text, 1, DEADLINE_MS));
    assert_int_equal(count_records(text), 1);
}

/* ---- it ends ----------------------------------------------------------------------------------
 */

/* Entries from $1 to $2 in a row, of 107 bytes. */
#define WRITES_MANY                                                                                \
    "many() { awk -v from=$1 -v to=$2 'BEGIN { for (i = from + 0; i < to + 0; i++)"                \
    "  printf \"__CURSOR=c%05d\\nMESSAGE=%s %05d\\n\\n\", i, \"many 123456789 123456789 "          \
    "123456789 123456789 123456789 123456789 123456789 \", i }'; }\n"

/* More than waits for the pump, and one read beside (320 KiB), behind a first entry, which the
   filter holds. The pipe, a pair of sockets, takes the rest once the beginning was read: who waits
   for room in there is called only when most of what it holds was read, so he may wait for ever. */
#define MANY            3200u
#define BEGINNING_BYTES (2300u * 107)
#define END_IN_A_PAUSE                                                                             \
    "entry first first; until [ -e go ]; do sleep 0.02; done\n" WRITES_MANY                        \
    "many 0 2300; until [ -e rest ]; do sleep 0.02; done; many 2300 3200; touch done; exit 3"

static bool does_filter_wait(const void *ctx, uint32_t wanted)
{
    (void)ctx;
    (void)wanted;
    return atomic_load(&filter_waits);
}

static bool has_arrived(const void *ctx, uint32_t bytes)
{
    const struct tf_journal_stream *stream = (const void *)find_input()->sources;

    (void)ctx;
    return tf_journal_stream_arrived(stream).size >= bytes;
}

static void touch(const char *name)
{
    assert_int_equal(close(open(file_named(name), O_CREAT | O_CLOEXEC | O_WRONLY, 0600)), 0);
}

static void begin_to_end_in_a_pause(const char *script)
{
    atomic_store(&hold_filter, true);
    begin(script);
    assert_true(run_until(does_filter_wait, NULL, 0, DEADLINE_MS));
    touch("go");
    assert_true(run_until(has_arrived, NULL, BEGINNING_BYTES, DEADLINE_MS));
    touch("rest");
    assert_true(run_until(has_file, "done", 0, DEADLINE_MS));
    run_for(200); /* its end is known, its pipe is not read */
}

static void what_it_wrote_before_it_ended_is_read_behind_a_pause(void **state)
{
    (void)state;
    begin_to_end_in_a_pause("if [ $n = 1 ]; then " END_IN_A_PAUSE
                            "; fi; entry last last; exec sleep 1000");
    assert_int_equal(input_status().restarts, 0);
    atomic_store(&hold_filter, false);
    expect_record("\"log\":\"last\"");
    assert_int_equal(count_records("\"log\":\"many"), MANY);
    assert_non_null(strstr(arguments_of(2), "--after=c03199"));
}

static void it_is_closed_also_when_it_ended_in_a_pause(void **state)
{
    (void)state;
    begin_to_end_in_a_pause(END_IN_A_PAUSE);
    begin_stop();
    atomic_store(&hold_filter, false);
    end_stop();
}

static bool has_told_its_layers(const void *ctx, uint32_t may_read_all)
{
    struct tf_sandbox_status sandbox;
    const struct tf_sandbox_role_status *reader = &sandbox.roles[TF_ROLE_JOURNAL_READER];

    (void)ctx;
    tf_sandbox_status(&sandbox);
    return reader->is_there && reader->may_read_all == (may_read_all != 0);
}

static void it_tells_which_layers_confine_it(void **state)
{
    struct tf_sandbox_status sandbox;
    const struct tf_sandbox_role_status *reader = &sandbox.roles[TF_ROLE_JOURNAL_READER];

    (void)state;
    begin("echo 'taffrail-journal: sandbox: no_new_privs limits landlock=7' >&2\n"
          "entry said said; exec sleep 1000");
    expect_record("\"log\":\"said\"");
    assert_true(run_until(has_told_its_layers, NULL, 0, DEADLINE_MS)); /* by the other pipe */
    tf_sandbox_status(&sandbox);
    assert_true(reader->is_there && reader->has[TF_LAYER_NO_NEW_PRIVS]);
    assert_true(reader->has[TF_LAYER_LANDLOCK]);
    assert_false(reader->has[TF_LAYER_CAPABILITIES] || reader->has[TF_LAYER_SECCOMP]);
    assert_false(reader->may_read_all);
    assert_non_null(strstr(arguments_of(1), "--verbose"));
}

static void it_tells_that_it_may_read_all(void **state)
{
    struct tf_sandbox_status sandbox;

    (void)state;
    begin("echo 'taffrail-journal: sandbox: limits landlock=7 reads_all' >&2\n"
          "entry said said; exec sleep 1000");
    expect_record("\"log\":\"said\"");
    assert_true(run_until(has_told_its_layers, NULL, 1, DEADLINE_MS));
    tf_sandbox_status(&sandbox);
    assert_true(sandbox.roles[TF_ROLE_JOURNAL_READER].may_read_all);
}

static bool reads_and_runs(struct tf_journald *input, struct tf_launcher *launcher)
{
    struct tf_needs *needs = tf_needs_new();
    bool reads, runs;

    assert_non_null(needs);
    input->launcher = launcher;
    tf_journald_reader.needs(input, needs);
    input->launcher = NULL;
    reads = tf_needs_root(needs);
    runs = tf_needs_run_programs(needs);
    tf_needs_free(needs);
    assert_int_equal(reads, runs);
    return reads;
}

/* journalctl is not the launcher's to start. */
static void with_a_launcher_main_needs_neither_journal_nor_program(void **state)
{
    static char nobody; /* is not asked */
    struct tf_launcher *launcher = (struct tf_launcher *)&nobody;
    struct tf_text root[] = {{.text = "/"}};

    (void)state;
    begin("exec sleep 1000");
    world->options.paths = (struct tf_texts){.items = root, .count = 1};
    assert_true(reads_and_runs(find_input(), NULL));
    assert_false(reads_and_runs(find_input(), launcher));
    take_for_journalctl();
    assert_true(reads_and_runs(find_input(), launcher));
    world->options.paths.count = 0;
}

/* ---- a launcher -------------------------------------------------------------------------------
 */

static struct tf_launcher gone_launcher = {.is_shut = true};

static void take_gone_launcher(void)
{
    find_input()->launcher = &gone_launcher;
}

static bool was_to_start(const void *ctx, uint32_t wanted)
{
    (void)ctx;
    return input_status().restarts >= wanted;
}

/* The agent stops for that (run.c); the input counts it, and closes as ever. */
static void without_its_launcher_nothing_is_started(void **state)
{
    (void)state;
    world->before_start = take_gone_launcher;
    begin("entry first first; exec sleep 1000");
    assert_true(run_until(was_to_start, NULL, 1, DEADLINE_MS));
    begin_stop();
    end_stop();
    assert_false(has_file("args", 0));
}

/* In another process, which gives up its rights. It has none to start there. */
static void expect_no_launcher(unsigned long securebits, const char *why)
{
    const struct tf_sandbox_options options = {0};
    struct tf_launcher *launcher = NULL;
    struct tf_error err;
    int status = -1;
    pid_t pid = fork();

    if (pid == 0) {
        tf_error_init(&err);
        (void)prctl(PR_SET_SECUREBITS, securebits, 0UL, 0UL, 0UL);
        if (tf_sandbox_begin(&options, &err) == 0 &&
            tf_journald_start_launcher(&world->config, &launcher) == 0 && launcher == NULL) {
            _exit(0);
        }
        _exit(1);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_true(was_logged(why));
}

static void make_folder(struct tf_text *folder)
{
    write_script("exit 0");
    folder->text = file_named("journal");
    assert_int_equal(mkdir(folder->text, 0700), 0);
    world->options.mode = TF_JOURNALD_READER;
    world->options.paths = (struct tf_texts){.items = folder, .count = 1};
}

static void a_capability_that_cannot_be_handed_on_is_told(void **state)
{
    struct tf_text folder;

    (void)state;
    if (geteuid() != 0) {
        skip();
    }
    make_folder(&folder);
    assert_int_equal(chmod(folder.text, 0), 0);
    expect_no_launcher(SECBIT_NO_CAP_AMBIENT_RAISE, "capabilities cannot be made ambient here");
    world->options.paths.count = 0;
}

static void the_bound_of_looking_is_told(void **state)
{
    struct tf_text folder;
    char name[32];

    (void)state;
    if (geteuid() != 0) {
        skip();
    }
    make_folder(&folder);
    for (unsigned i = 0; i < 4096; i++) {
        (void)snprintf(name, sizeof name, "journal/%u.journal", i);
        assert_int_equal(close(open(file_named(name), O_CREAT | O_CLOEXEC | O_WRONLY, 0600)), 0);
    }
    folder.text = file_named("journal");
    expect_no_launcher(0, "the first 4096 of its files and folders");
    world->options.paths.count = 0;
}

static void a_run_that_cannot_be_started_leaves_no_descriptor(void **state)
{
    static const int ends[] = {-EMFILE, -EMFILE, -ESHUTDOWN};
    struct tf_child_run run = {.launcher = &gone_launcher};
    char *args[] = {"", NULL};
    uint32_t before = count_fds();

    (void)state;
    for (unsigned i = 0; i < TF_COUNT(ends); i++) {
        int fds[2] = {-1, -1};

        fails_at_pair = i + 1;
        assert_int_equal(tf_child_run_start(&run, NULL, args, fds), ends[i]);
        assert_int_equal(fds[0], -1);
        assert_int_equal(count_fds(), before);
    }
    fails_at_pair = 0;
}

/* ---- it ends again and again ------------------------------------------------------------------
 */

static bool has_started(const void *ctx, uint32_t wanted)
{
    (void)ctx;
    return input_status().restarts + 1 >= wanted;
}

static unsigned long long now_us(void)
{
    return (unsigned long long)tf_now_ns() / 1000;
}

static const char *cursor_at(unsigned long long time_us)
{
    static char cursor[160];

    (void)snprintf(cursor, sizeof cursor, CURSOR, time_us);
    return cursor;
}

/* The script ends each time behind one entry; its first and last starts write one. */
static void begin_deaths(unsigned long long time_us, const char *end)
{
    char script[512];

    (void)snprintf(script, sizeof script,
                   "if [ $n = 1 ]; then entry '%s' first; fi\n"
                   "if [ $n -le 4 ]; then %s; fi\n"
                   "entry later later; exec sleep 1000",
                   cursor_at(time_us), end);
    begin(script);
    expect_record("\"log\":\"later\"");
    assert_true(has_started(NULL, 5));
    assert_int_equal(count_records("\"log\":\"first\""), 1);
}

static void what_cannot_be_read_is_stepped_over(void **state)
{
    unsigned long long time_us = now_us() - 3600000000;
    char since[64];

    (void)state;
    begin_deaths(time_us, "kill -BUS $$");
    (void)snprintf(since, sizeof since, "--since=%llu\n", time_us + 1);
    assert_non_null(strstr(arguments_of(4), since));
    (void)snprintf(since, sizeof since, "--since=%llu\n", time_us + 1001);
    assert_non_null(strstr(arguments_of(5), since));
    assert_int_equal(count_records("\"reason\":\"unreadable\""), 2);
}

/* What is written from now on can be read. */
static void nothing_to_come_is_stepped_over(void **state)
{
    unsigned long long time_us = now_us() + 3600000000;
    char since[64];

    (void)state;
    begin_deaths(time_us, "exit 3");
    (void)snprintf(since, sizeof since, "--since=%llu\n", time_us + 1);
    assert_non_null(strstr(arguments_of(5), since));
}

static void deaths_that_are_not_of_reading_step_over_nothing(void **state)
{
    static const char *const ends[] = {"exit 127", "kill -KILL $$"};

    for (size_t i = 0; i < TF_COUNT(ends); i++) {
        begin_deaths(now_us(), ends[i]);
        assert_non_null(strstr(arguments_of(5), "--after="));
        assert_int_equal(count_records("\"reason\":\"unreadable\""), 0);
        (void)tear_down(state);
        (void)set_up(state);
    }
}

/* ---- journalctl -------------------------------------------------------------------------------
 */

static void the_entry_that_journalctl_repeats_is_dropped_again(void **state)
{
    (void)state;
    world->before_start = take_for_journalctl;
    atomic_store(&filter_takes, 1); /* the batch behind it is decoded in parts */
    begin("entry c1 first; if [ $n = 1 ]; then exit 0; fi\n"
          "sleep 0.2\n" /* the repeat by itself, handed on before */
          "entry c2 second; entry c3 third; exec sleep 1000");
    expect_record("\"log\":\"third\"");
    assert_non_null(strstr(arguments_of(2), "--cursor=c1"));
    assert_int_equal(count_records("\"log\":\"first\""), 1);
    assert_int_equal(count_records("\"log\":\"second\""), 1);
    assert_int_equal(count_records("\"reason\":\"vacuumed\""), 0);
}

static void an_entry_that_journalctl_should_repeat_and_does_not_is_a_gap(void **state)
{
    (void)state;
    world->before_start = take_for_journalctl;
    begin("if [ $n = 1 ]; then entry c1 first; exit 0; fi\n" WRITES_MANY
          "many 0 3200; exec sleep 1000");
    expect_record("\"log\":\"first\"");
    assert_true(run_until(has_records, "\"log\":\"many", MANY, DEADLINE_MS));
    assert_int_equal(count_records("\"reason\":\"vacuumed\""), 1);
}

/* ---- options and arguments --------------------------------------------------------------------
 */

static void a_folder_is_not_read_twice(void **state)
{
    struct tf_text paths[] = {
        {.text = "/a/journal"}, {.text = "/b/journal"}, {.text = "/a/journal"}};

    (void)state;
    write_script("exit 0");
    world->options.mode = TF_JOURNALD_READER;
    world->options.listen.text = NULL;
    world->options.start_at.text = "oldest";
    world->options.paths = (struct tf_texts){.items = paths, .count = TF_COUNT(paths)};
    expect_check_error("/a/journal is there twice");
}

static size_t count_arguments(const char *const *units, size_t count)
{
    const struct tf_journald input = {
        .select = {.units = units, .unit_count = count, .priority_max = -1}};
    struct tf_child_args args = {0};
    size_t arguments;

    tf_journald_select_args(&input, false, &args);
    assert_int_equal(args.error, 0);
    arguments = args.count;
    tf_child_args_fini(&args);
    return arguments;
}

/* As the launcher takes no more, and the kernel has its own bound. */
static void arguments_that_are_too_long_are_left_to_the_decoder(void **state)
{
    static char name[20000];
    const char *units[3] = {name, name, name};
    const struct tf_journald_options options = {0};
    struct tf_journald input = {.options = &options,
                                .select = {.units = units, .unit_count = 1, .priority_max = -1}};
    const struct tf_child_program program = {.path = "/program"};
    const struct tf_child_start where = {.after = "c1", .since_us = -1};

    (void)state;
    memset(name, 'n', 11000); /* five times for a unit */
    for (; input.select.unit_count <= 2; input.select.unit_count++) {
        struct tf_child_args args = {0};
        bool is_told = input.select.unit_count == 1;

        tf_child_args_fill(&input, &program, &where, &args);
        assert_int_equal(args.error, 0);
        assert_int_equal(args.count > 3, is_told);
        assert_string_equal(args.items[2], "--after=c1");
        assert_null(args.items[args.count]);
        tf_child_args_fini(&args);
    }
}

/* taffrail-journal refuses more terms, and would be started in vain for ever. */
static void what_is_too_much_for_the_program_is_left_to_the_decoder(void **state)
{
    const char *units[100];

    (void)state;
    for (size_t i = 0; i < TF_COUNT(units); i++) {
        units[i] = "a.service";
    }
    for (size_t i = 1; i <= TF_COUNT(units); i++) {
        assert_true(count_arguments(units, i) <= 1024);
    }
    assert_true(count_arguments(units, 10) > 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_it_wrote_before_it_ended_is_read_behind_a_pause),
        TEST(it_is_closed_also_when_it_ended_in_a_pause),
        TEST(it_tells_which_layers_confine_it),
        TEST(it_tells_that_it_may_read_all),
        TEST(with_a_launcher_main_needs_neither_journal_nor_program),
        TEST(without_its_launcher_nothing_is_started),
        TEST(a_capability_that_cannot_be_handed_on_is_told),
        TEST(the_bound_of_looking_is_told),
        TEST(a_run_that_cannot_be_started_leaves_no_descriptor),
        TEST(what_cannot_be_read_is_stepped_over),
        TEST(nothing_to_come_is_stepped_over),
        TEST(deaths_that_are_not_of_reading_step_over_nothing),
        TEST(the_entry_that_journalctl_repeats_is_dropped_again),
        TEST(an_entry_that_journalctl_should_repeat_and_does_not_is_a_gap),
        TEST(a_folder_is_not_read_twice),
        TEST(what_is_too_much_for_the_program_is_left_to_the_decoder),
        TEST(arguments_that_are_too_long_are_left_to_the_decoder),
    };

    (void)signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
