/* test_redact_modes.c - what becomes of a secret, and what hides it: names, JSON, keys, pairs. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../filters/redact/redact.h"
#include "taffrail/event.h"

#define KEY_LINE "q83vEjRWeJCrze8SNFZ4kKvN7xI0VniQq83vEjRWeJCrze8SNFZ4kKvN7xI0VniQ"
#define KEY_TEXT "taffrail-hash-1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n"
#define HITS_MAX 16u

/* Rules of the test's own, so that it hangs on no shipped one where it asks for modes. */
static const char own_rules[] = "rules:\n"
                                "  - id: ticket\n"
                                "    description: a ticket\n"
                                "    regex: 'TKT-([A-Za-z0-9]{4,40})'\n"
                                "    keywords: [TKT-]\n"
                                "    secret_group: 1\n"
                                "    keep: {first: 6, last: 4}\n"
                                "    tags: [desk]\n"
                                "    examples: {match: [TKT-abcd12], no_match: [TKT-]}\n"
                                "  - id: seat\n"
                                "    description: a seat\n"
                                "    regex: 'seat [0-9]{2}'\n"
                                "    keywords: ['seat ']\n"
                                "    guessable: true\n"
                                "    tags: [desk]\n"
                                "    examples: {match: [seat 12], no_match: [seat x]}\n"
                                "  - id: ticket-word\n"
                                "    description: a word that a ticket stands in\n"
                                "    regex: 'in TKT-[A-Za-z0-9]+'\n"
                                "    keywords: ['in TKT-']\n"
                                "    keep: {first: 4, last: 4}\n"
                                "    examples: {match: [in TKT-abcd], no_match: [in]}\n";

struct fixture {
    char folder[64], key_path[96], rules_path[96];
    struct tf_text rule_file;
    struct tf_redact_options options;
    struct tf_pair pairs[4];
    void *self, *scratch, *state;
    struct tf_batch batch;
    struct tf_filter_hit hits[HITS_MAX];
    uint32_t hit_count;
};

static void write_file(const char *path, const char *text, mode_t mode)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    assert_int_equal(fchmod(fd, mode), 0);
    assert_int_equal(close(fd), 0);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);

    assert_non_null(f);
    *state = f;
    (void)snprintf(f->folder, sizeof f->folder, "/tmp/taffrail-modes-XXXXXX");
    assert_non_null(mkdtemp(f->folder));
    (void)snprintf(f->key_path, sizeof f->key_path, "%s/hash.key", f->folder);
    (void)snprintf(f->rules_path, sizeof f->rules_path, "%s/own.yaml", f->folder);
    write_file(f->key_path, KEY_TEXT, 0600);
    write_file(f->rules_path, own_rules, 0644);
    f->rule_file.text = f->rules_path;
    f->options.rules = (struct tf_texts){.items = &f->rule_file, .count = 1};
    f->options.max_cost.text = "1000us"; /* the machine of a test may be busy */
    return tf_batch_init(&f->batch);
}

static void close_filter(struct fixture *f)
{
    if (f->self != NULL) {
        tf_filter_redact.state_free(f->state);
        tf_filter_redact.scratch_free(f->scratch);
        tf_filter_redact.close(f->self);
    }
    f->self = NULL;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    close_filter(f);
    tf_batch_fini(&f->batch);
    (void)unlink(f->key_path);
    (void)unlink(f->rules_path);
    assert_int_equal(rmdir(f->folder), 0);
    free(f);
    return 0;
}

static void on_hit(void *ctx, const struct tf_filter_hit *hit)
{
    struct fixture *f = ctx;

    if (f->hit_count < HITS_MAX) {
        f->hits[f->hit_count] = *hit;
    }
    f->hit_count++;
}

/* Opens the filter; warnings: how many are wanted. */
static void open_filter(struct fixture *f, size_t warnings)
{
    const struct tf_filter_args args = {.name = "redact", .options = &f->options, .index = 1};
    struct tf_error err;

    close_filter(f);
    tf_error_init(&err);
    if (tf_filter_redact.open(&args, &f->self, &err) != 0) {
        fail_msg("%s", tf_error_first(&err));
    }
    assert_int_equal(err.warnings, warnings);
    tf_error_fini(&err);
    f->scratch = tf_filter_redact.scratch_new(f->self);
    f->state = tf_filter_redact.state_new(f->self);
    assert_non_null(f->scratch);
    assert_non_null(f->state);
    tf_filter_redact.observe(f->scratch, on_hit, f);
}

/* It is refused, with one error that holds these words. */
static void assert_refused(struct fixture *f, const char *words)
{
    const struct tf_filter_args args = {.name = "redact", .options = &f->options};
    struct tf_error err;
    void *self = NULL;

    tf_error_init(&err);
    assert_int_equal(tf_filter_redact.open(&args, &self, &err), -EINVAL);
    assert_null(self);
    assert_int_equal(err.errors, 1);
    if (strstr(tf_error_first(&err), words) == NULL) {
        fail_msg("\"%s\" is not in: %s", words, tf_error_first(&err));
    }
    tf_error_fini(&err);
}

static void set_mode(struct fixture *f, size_t count, ...)
{
    va_list list;

    va_start(list, count);
    for (size_t i = 0; i < count; i++) {
        f->pairs[i] = (struct tf_pair){.key.text = va_arg(list, const char *)};
        f->pairs[i].value.text = va_arg(list, const char *);
    }
    va_end(list);
    f->options.modes = (struct tf_pairs){.items = f->pairs, .count = count};
}

static void add(struct fixture *f, const char *key, const char *value)
{
    assert_non_null(tf_batch_add_record(&f->batch, 1, TF_STREAM_STDOUT));
    assert_int_equal(tf_batch_add_text_field(&f->batch, key, tf_slice_text(value)), 0);
}

static void apply(struct fixture *f)
{
    f->hit_count = 0;
    assert_int_equal(tf_filter_redact.apply(f->self, f->scratch, f->state, &f->batch), 0);
}

static void assert_field(const struct fixture *f, uint32_t number, const char *text)
{
    const struct tf_field *field = &f->batch.fields[number];
    char *got;

    assert_true(field->type == TF_VALUE_TEXT || field->type == TF_VALUE_BYTES);
    got = calloc(1, field->value.text.size + 1);
    assert_non_null(got);
    memcpy(got, f->batch.text.data + field->value.text.at, field->value.text.size);
    assert_string_equal(got, text);
    free(got);
}

/* One value through the filter. */
static void assert_becomes(struct fixture *f, const char *value, const char *wanted)
{
    assert_int_equal(tf_batch_reset(&f->batch), 0);
    add(f, "log", value);
    apply(f);
    assert_field(f, 0, wanted);
}

/* ---- modes ---------------------------------------------------------------------------------- */

static void a_mask_does_not_tell_the_length(void **state)
{
    struct fixture *f = *state;

    open_filter(f, 0);
    assert_becomes(f, "x TKT-abcd y", "x TKT-[REDACTED:ticket] y");
    assert_becomes(f, "x TKT-abcdefghijklmnopqrstuvwxyz y", "x TKT-[REDACTED:ticket] y");
    assert_int_equal(f->hit_count, 1);
    assert_string_equal(f->hits[0].rule, "ticket");
    assert_string_equal(f->hits[0].pack, "own");
    assert_string_equal(f->hits[0].mode, "mask");
    assert_int_equal(f->hits[0].from, 6);
    assert_int_equal(f->hits[0].to, 32);
    assert_becomes(f, "password=[REDACTED:x]hunter2", "password=[REDACTED:assigned-password]");
}

/* The mark was computed apart, from docs/redaction.md. */
static void the_same_secret_has_the_same_mark(void **state)
{
    struct fixture *f = *state;

    f->options.mode = TF_REDACT_HASH;
    f->options.hash_key.text = f->key_path;
    open_filter(f, 0);
    assert_becomes(f, "TKT-abcd1234", "TKT-[HASH:ticket:b102c4be:VJGGRPWW5KS4PZCNF2C0]");
    assert_becomes(f, "a TKT-abcd1234 b TKT-abcd1234",
                   "a TKT-[HASH:ticket:b102c4be:VJGGRPWW5KS4PZCNF2C0] b "
                   "TKT-[HASH:ticket:b102c4be:VJGGRPWW5KS4PZCNF2C0]");
    assert_string_equal(f->hits[1].mode, "hash");
    /* The rule is not in the MAC: a name's rule leaves the same mark, of a number too. */
    assert_int_equal(tf_batch_reset(&f->batch), 0);
    add(f, "client_secret", "abcd1234");
    add(f, "x", "y");
    assert_int_equal(tf_batch_add_int_field(&f->batch, "auth_token", 12345678), 0);
    apply(f);
    assert_field(f, 0, "[HASH:assigned-secret:b102c4be:VJGGRPWW5KS4PZCNF2C0]");
    assert_field(f, 2, "[HASH:assigned-secret:b102c4be:X0CKBVSCVVNQ0YN1ZYG0]");
    /* A second agent leaves marks as they are. */
    assert_becomes(f, "client_secret=[HASH:assigned-secret:b102c4be:VJGGRPWW5KS4PZCNF2C0] x",
                   "client_secret=[HASH:assigned-secret:b102c4be:VJGGRPWW5KS4PZCNF2C0] x");
    assert_int_equal(f->hit_count, 0);
    assert_becomes(f, "a [HASH:aws-access-key:0123abcd:0123456789ABCDEFGHJK] b",
                   "a [HASH:aws-access-key:0123abcd:0123456789ABCDEFGHJK] b");
    /* What only looks like one, or has more to it, does not hide a secret. */
    assert_becomes(f, "[HASH: TKT-abcd1234 ]",
                   "[HASH: TKT-[HASH:ticket:b102c4be:VJGGRPWW5KS4PZCNF2C0] ]");
}

/* A rule that knows a secret by the name before it finds it in fields as in texts. */
static void a_value_is_read_behind_its_key(void **state)
{
    struct fixture *f = *state;

    open_filter(f, 0);
    assert_int_equal(tf_batch_reset(&f->batch), 0);
    add(f, "storageAccountKey",
        "NutIx0NhhXL6Fb7l4sOro29XwryC6NKzazLqJgF5rFCttMMtJF9tf6D8M5/8TrOqvhWnaIOoe0CvHUKOFELr+H==");
    add(f, "db.pwd", "rwci\"GeipUxft");
    add(f, "db.pwd", "[REDACTED:x]");
    add(f, "seat 12", "what stands in the key stays out of it");
    apply(f);
    assert_int_equal(f->hit_count, 3);
    assert_int_equal(f->hits[0].from, 0);
    assert_int_equal(f->hits[0].to, 88);
    assert_int_equal(f->hits[1].from, 0);
    assert_int_equal(f->hits[1].to, 13); /* a quote in it does not end it */
    assert_string_equal(f->hits[2].rule, "seat");
    assert_field(f, 2, "[REDACTED:x]");
    assert_field(f, 3, "what stands in the key stays out of it");
}

static void guessable_values_are_hashed_only_by_name(void **state)
{
    struct fixture *f = *state;

    f->options.mode = TF_REDACT_HASH;
    f->options.hash_key.text = f->key_path;
    open_filter(f, 0);
    assert_becomes(f, "seat 12", "[REDACTED:seat]");
    set_mode(f, 1, "desk", "hash");
    open_filter(f, 0);
    assert_becomes(f, "seat 12", "[REDACTED:seat]");
    set_mode(f, 1, "seat", "hash");
    open_filter(f, 1); /* a warning says that they can be tried */
    assert_becomes(f, "seat 12", "[HASH:seat:b102c4be:MGKF2CFYZ1972A467T00]");
}

static void a_part_is_a_quarter_at_most(void **state)
{
    struct fixture *f = *state;

    f->options.mode = TF_REDACT_PARTIAL;
    open_filter(f, 0);
    assert_becomes(f, "TKT-0123456789abcdefghij0123456789abcdefghij",
                   "TKT-012345[REDACTED:ticket]ghij"); /* 6 and 4 of 40 */
    assert_becomes(f, "TKT-0123456789abcdef", "TKT-0123[REDACTED:ticket]");
    assert_becomes(f, "TKT-01234567", "TKT-01[REDACTED:ticket]");
    assert_becomes(f, "TKT-abcdef1", "TKT-a[REDACTED:ticket]");
    assert_becomes(f, "seat 12", "[REDACTED:seat]"); /* keeps nothing */
    /* A union with another match is no secret of its own: nothing of it stays. */
    assert_becomes(f, "in TKT-0123456789abcdefghij", "[REDACTED:ticket]");
    assert_string_equal(f->hits[0].mode, "partial");
    f->options.replacement.text = "<{rule}>";
    open_filter(f, 0);
    assert_becomes(f, "TKT-01234567", "TKT-01<ticket>");
}

static void a_dropped_record_is_marked_and_counted(void **state)
{
    struct fixture *f = *state;
    struct tf_events_summary summary;
    struct tf_buf events;
    uint32_t dropped = 0;

    set_mode(f, 2, "ticket", "drop", "assigned-password", "drop");
    open_filter(f, 0);
    add(f, "log", "fine");
    add(f, "log", "a TKT-abcd1234");
    add(f, "log", "in TKT-abcd1234"); /* also when its span is part of another's */
    add(f, "password", "x");
    add(f, "log", "seat 12");
    apply(f);
    for (uint32_t i = 0; i < 5; i++) {
        assert_int_equal((f->batch.records[i].flags & TF_RECORD_DROPPED) != 0, i >= 1 && i <= 3);
    }
    assert_int_equal(f->hit_count, 4);
    assert_string_equal(f->hits[0].mode, "drop");
    assert_true(f->batch.tally_count >= 2);
    for (uint32_t i = 0; i < f->batch.tally_count; i++) {
        const struct tf_tally *tally = &f->batch.tallies[i];

        if (tf_rule_is_dropped(tally->rule)) {
            assert_true(tf_filter_redact.rule_drops(f->self, tf_rule_number(tally->rule)));
            dropped += tally->hits;
        }
    }
    tf_buf_init(&events, 1 << 20);
    assert_int_equal(tf_events_encode(&f->batch, NULL, &events, &summary), 0);
    assert_int_equal(summary.events, 2);
    assert_int_equal(summary.dropped, 3);
    assert_int_equal(dropped, 3); /* a record counts once, however much is in it */
    tf_buf_fini(&events);
}

static void the_nearest_word_of_modes_counts(void **state)
{
    struct fixture *f = *state;

    set_mode(f, 3, "ticket", "mask", "desk", "drop", "own", "partial");
    open_filter(f, 0);
    assert_becomes(f, "TKT-abcd1234", "TKT-[REDACTED:ticket]");
    assert_int_equal(f->batch.records[0].flags & TF_RECORD_DROPPED, 0);
    assert_becomes(f, "seat 12", "[REDACTED:seat]");
    assert_true(f->batch.records[0].flags & TF_RECORD_DROPPED);
    assert_becomes(f, "in TKT-", "in TKT-");
}

static void wrong_options_are_told(void **state)
{
    struct fixture *f = *state;
    struct tf_text base64 = {.text = "base64"}, rot13 = {.text = "rot13"};

    set_mode(f, 1, "no-such-rule", "mask");
    assert_refused(f, "no-such-rule");
    set_mode(f, 1, "ticket", "hide");
    assert_refused(f, "no mode");
    set_mode(f, 1, "ticket", "hash");
    assert_refused(f, "hash_key");
    f->options.modes.count = 0;
    f->options.mode = TF_REDACT_HASH;
    assert_refused(f, "hash_key");
    f->options.mode = TF_REDACT_MASK;
    f->options.decode = (struct tf_texts){.items = &rot13, .count = 1};
    assert_refused(f, "rot13");
    f->options.decode.items = &base64;
    f->options.max_cost.text = "1";
    assert_refused(f, "max_cost");
    f->options.max_cost.text = "0us";
    assert_refused(f, "max_cost");
    f->options.max_cost.text = "99999999999999999999us";
    assert_refused(f, "max_cost");
    f->options.max_cost.text = "900us";
    open_filter(f, 0);
}

static void a_hash_key_is_a_secret_file(void **state)
{
    static const char *const wrong[] = {
        "",
        "taffrail-hash-1:\n",
        "taffrail-kek-1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n",
        "taffrail-hash-1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh9=\n", /* spare bits */
        "taffrail-hash-1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n\n",
        "taffrail-hash-1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwd!h8=\n"};
    struct fixture *f = *state;
    uint8_t key[TF_REDACT_HASH_KEY_BYTES];

    for (size_t i = 0; i < TF_COUNT(wrong); i++) {
        assert_int_equal(tf_redact_hash_key_parse(tf_slice_text(wrong[i]), key), -EPROTO);
    }
    assert_int_equal(tf_redact_hash_key_parse(tf_slice_text(KEY_TEXT), key), 0);
    for (uint8_t i = 0; i < TF_REDACT_HASH_KEY_BYTES; i++) {
        assert_int_equal(key[i], i);
    }
    f->options.mode = TF_REDACT_HASH;
    f->options.hash_key.text = f->key_path;
    write_file(f->key_path, KEY_TEXT, 0644);
    assert_refused(f, "can be read by others");
    write_file(f->key_path, "secret\n", 0600);
    assert_refused(f, "is not one line");
    f->options.hash_key.text = "/tmp/taffrail-absent/hash.key";
    assert_refused(f, "hash key");
}

static void marks_of_others_are_known(void **state)
{
    static const char *const marks[] = {"[REDACTED:x]", "[WITHHELD]",
                                        "[HASH:a-b:0123abcd:0123456789ABCDEFGHJK]"};
    static const char *const others[] = {"",
                                         "[",
                                         "[]",
                                         "[REDACTED:]",
                                         "[REDACTED:X]",
                                         "[REDACTED:x]]",
                                         "[HASH:x]",
                                         "[HASH:x:0123abc:0123456789ABCDEFGHJK]",
                                         "[HASH:x:0123abcd:0123456789ABCDEFGHJI]",
                                         "[WITHHELD]x",
                                         "[HASH:x:0123abcd:0123456789ABCDEFGHJKM]"};

    (void)state;
    for (size_t i = 0; i < TF_COUNT(marks); i++) {
        assert_true(tf_redact_is_mark(tf_slice_text(marks[i])));
    }
    for (size_t i = 0; i < TF_COUNT(others); i++) {
        assert_false(tf_redact_is_mark(tf_slice_text(others[i])));
    }
}

/* ---- the mark on the record ----------------------------------------------------------------- */

static void assert_printed(struct fixture *f, uint32_t number, const char *part)
{
    struct tf_events_summary summary;
    struct tf_buf events, lines;
    size_t used, at = 0;

    tf_buf_init(&events, 1 << 20);
    tf_buf_init(&lines, 1 << 20);
    assert_int_equal(tf_events_encode(&f->batch, NULL, &events, &summary), 0);
    for (uint32_t i = 0; i <= number; i++) {
        tf_buf_clear(&lines);
        assert_int_equal(tf_event_print_json(tf_slice(events.data + at, events.size - at),
                                             tf_slice_text("t"), &lines, &used),
                         0);
        at += used;
    }
    assert_int_equal(tf_buf_append_byte(&lines, 0), 0);
    if (strstr(lines.data, part) == NULL) {
        fail_msg("%s is not in %s", part, lines.data);
    }
    tf_buf_fini(&events);
    tf_buf_fini(&lines);
}

static void rules_that_hit_are_named_on_the_record(void **state)
{
    struct fixture *f = *state;

    f->options.mark = true;
    open_filter(f, 0);
    add(f, "log", "fine");
    add(f, "log", "seat 12 TKT-abcd1234 seat 13");
    add(f, "log", "seat 99 TKT-zzzz1111");
    add(f, "log", "[REDACTED:seat]"); /* from elsewhere: it names nothing */
    apply(f);
    assert_int_equal(f->batch.records[0].redacted_bytes, 0);
    assert_int_equal(f->batch.records[2].redacted_at, f->batch.records[1].redacted_at);
    assert_int_equal(f->batch.records[3].redacted_bytes, 0);
    assert_printed(f, 0, "\"tag\":\"t\",\"log\":\"fine\"");
    assert_printed(f, 1, "\"taffrail\":{\"redacted\":[\"seat\",\"ticket\"]}");
    assert_printed(f, 2, "\"taffrail\":{\"redacted\":[\"seat\",\"ticket\"]}");
    f->options.mark = false;
    open_filter(f, 0);
    assert_becomes(f, "seat 12", "[REDACTED:seat]");
    assert_int_equal(f->batch.records[0].redacted_bytes, 0);
}

/* ---- names and structure -------------------------------------------------------------------- */

static struct tf_field *put_field(struct fixture *f, const char *key, enum tf_value_type type)
{
    uint32_t at;
    struct tf_field *field;

    assert_int_equal(tf_batch_add_text(&f->batch, key, strlen(key), &at), 0);
    field = tf_batch_add_field(&f->batch, at, (uint32_t)strlen(key), type);
    assert_non_null(field);
    return field;
}

static void names_count_at_any_depth(void **state)
{
    struct fixture *f = *state;

    open_filter(f, 0);
    assert_non_null(tf_batch_add_record(&f->batch, 1, TF_STREAM_STDOUT));
    for (unsigned i = 0; i + 1 < TF_BATCH_DEPTH_MAX; i++) {
        assert_int_equal(tf_batch_add_map_field(&f->batch, "m", 1), 0);
    }
    assert_int_equal(tf_batch_add_text_field(&f->batch, "password", tf_slice_text("x")), 0);
    assert_int_equal(tf_batch_add_text_field(&f->batch, "after", tf_slice_text("y")), 0);
    apply(f);
    assert_field(f, TF_BATCH_DEPTH_MAX - 1, "[REDACTED:assigned-password]");
    assert_field(f, TF_BATCH_DEPTH_MAX, "y");
}

/* {env: [{name: DB_PASSWORD, value: x}, {name: HOME, value: y}], passwords: [a, 7, [b], {c: d}],
 *  token: {value: v, kind: k}, tokens: [100257]} */
static void pairs_lists_and_wrapped_values_are_found(void **state)
{
    struct fixture *f = *state;

    open_filter(f, 0);
    assert_non_null(tf_batch_add_record(&f->batch, 1, TF_STREAM_STDOUT));
    put_field(f, "env", TF_VALUE_ARRAY)->value.count = 2;
    assert_int_equal(tf_batch_add_map_field(&f->batch, "", 2), 0);
    assert_int_equal(tf_batch_add_text_field(&f->batch, "name", tf_slice_text("DB_PASSWORD")), 0);
    assert_int_equal(tf_batch_add_text_field(&f->batch, "value", tf_slice_text("x")), 0); /* 3 */
    assert_int_equal(tf_batch_add_map_field(&f->batch, "", 2), 0);
    assert_int_equal(tf_batch_add_text_field(&f->batch, "name", tf_slice_text("HOME")), 0);
    assert_int_equal(tf_batch_add_text_field(&f->batch, "value", tf_slice_text("y")), 0); /* 6 */
    put_field(f, "passwords", TF_VALUE_ARRAY)->value.count = 4;
    assert_int_equal(tf_batch_add_text_field(&f->batch, "", tf_slice_text("a")), 0); /* 8 */
    assert_int_equal(tf_batch_add_int_field(&f->batch, "", 7), 0);                   /* 9 */
    put_field(f, "", TF_VALUE_ARRAY)->value.count = 1;
    assert_int_equal(tf_batch_add_text_field(&f->batch, "", tf_slice_text("b")), 0); /* 11 */
    assert_int_equal(tf_batch_add_map_field(&f->batch, "", 1), 0);
    assert_int_equal(tf_batch_add_text_field(&f->batch, "c", tf_slice_text("d")), 0); /* 13 */
    assert_int_equal(tf_batch_add_map_field(&f->batch, "token", 2), 0);
    assert_int_equal(tf_batch_add_text_field(&f->batch, "value", tf_slice_text("v")), 0); /* 15 */
    assert_int_equal(tf_batch_add_text_field(&f->batch, "kind", tf_slice_text("k")), 0);  /* 16 */
    put_field(f, "tokens", TF_VALUE_ARRAY)->value.count = 1;
    assert_int_equal(tf_batch_add_int_field(&f->batch, "", 100257), 0); /* 18 */
    apply(f);
    assert_field(f, 3, "[REDACTED:assigned-password]");
    assert_field(f, 6, "y");
    assert_field(f, 8, "[REDACTED:assigned-password]");
    assert_field(f, 9, "[REDACTED:assigned-password]");
    assert_field(f, 11, "[REDACTED:assigned-password]");
    assert_field(f, 13, "d");
    assert_field(f, 15, "[REDACTED:assigned-secret]");
    assert_field(f, 16, "k");
    assert_int_equal(f->batch.fields[18].type, TF_VALUE_INT);
}

static void numbers_that_could_be_secrets_are_masked(void **state)
{
    struct fixture *f = *state;

    open_filter(f, 0);
    assert_non_null(tf_batch_add_record(&f->batch, 1, TF_STREAM_STDOUT));
    assert_int_equal(tf_batch_add_int_field(&f->batch, "password", -5), 0);
    put_field(f, "passwd", TF_VALUE_UINT)->value.u = UINT64_MAX;
    put_field(f, "password", TF_VALUE_DOUBLE)->value.d = 1.5;
    assert_int_equal(tf_batch_add_int_field(&f->batch, "token", 123456), 0);
    assert_int_equal(tf_batch_add_int_field(&f->batch, "token", 4096), 0);
    (void)put_field(f, "password", TF_VALUE_TRUE);
    (void)put_field(f, "password", TF_VALUE_NIL);
    apply(f);
    for (uint32_t i = 0; i < 3; i++) {
        assert_field(f, i, "[REDACTED:assigned-password]");
    }
    assert_field(f, 3, "[REDACTED:assigned-secret]");
    assert_int_equal(f->batch.fields[4].type, TF_VALUE_INT);
    assert_int_equal(f->batch.fields[5].type, TF_VALUE_TRUE); /* they tell nothing */
    assert_int_equal(f->batch.fields[6].type, TF_VALUE_NIL);
    assert_int_equal(f->hits[1].to, 20);
}

/* Between the braces of JSON in a text. */
static void assert_json(struct fixture *f, const char *value, const char *wanted)
{
    assert_becomes(f, value, wanted);
}

static void json_in_a_text_gives_values_away(void **state)
{
    struct fixture *f = *state;

#define P "[REDACTED:assigned-password]"
#define S "[REDACTED:assigned-secret]"
    open_filter(f, 0);
    assert_json(f, "{\"password\": 12345, \"n\": 1}", "{\"password\": " P ", \"n\": 1}");
    assert_json(f, "{\"a\":{\"b\":[{\"password\":[\"x\",\"y z\",[7]]}]},\"n\":[1]}",
                "{\"a\":{\"b\":[{\"password\":[\"" P "\",\"" P "\",[" P "]]}]},\"n\":[1]}");
    assert_json(f, "{\"passwords\" : [ \"x\" ], \"tokens\":[100257]}",
                "{\"passwords\" : [ \"" P "\" ], \"tokens\":[100257]}");
    assert_json(f, "{\"name\":\"DB_PASSWORD\",\"value\":\"x\"}",
                "{\"name\":\"DB_PASSWORD\",\"value\":\"[REDACTED:dumped-secret]\"}");
    assert_json(f, "{\"name\":\"HOME\",\"value\":\"x\"}", "{\"name\":\"HOME\",\"value\":\"x\"}");
    assert_json(f, "{\"pass\\u0077ord\":\"x\"}", "{\"pass\\u0077ord\":\"" P "\"}");
    assert_json(f, "{\"p\xd0\xb0ssword\":\"x\"}", "{\"p\xd0\xb0ssword\":\"" P "\"}");
    assert_json(f, "{\"pass\\u200bword\":\"x\"}", "{\"pass\\u200bword\":\"" P "\"}");
    assert_json(f, "{\"client-secret\":\"a\\\\\\\"b\",\"n\":1}",
                "{\"client-secret\":\"" S "\",\"n\":1}");
    assert_json(f, "{\"password\":true,\"token\":null,\"secret\":\"\",\"password\":\"null\"}",
                "{\"password\":true,\"token\":null,\"secret\":\"\",\"password\":\"null\"}");
    assert_json(f, "{\"password\":\"" P "\"}", "{\"password\":\"" P "\"}");
    /* Escaped once and twice, and cut. */
    assert_json(f, "{\"m\":\"{\\\"password\\\":[\\\"a b\\\",\\\"c\\\"],\\\"n\\\":1}\"}",
                "{\"m\":\"{\\\"password\\\":[\\\"" P "\\\",\\\"" P "\\\"],\\\"n\\\":1}\"}");
    assert_json(f, "{\"m\":\"{\\\"k\\\":\\\"{\\\\\\\"password\\\\\\\":[\\\\\\\"x\\\\\\\"]}\\\"}\"}",
                "{\"m\":\"{\\\"k\\\":\\\"{\\\\\\\"password\\\\\\\":[\\\\\\\"" P
                "\\\\\\\"]}\\\"}\"}");
    assert_json(f, "{\"m\":\"{\\\"passwords\\\":[\\\"cut\",\"n\":1}",
                "{\"m\":\"{\\\"passwords\\\":[\\\"" P "\",\"n\":1}");
    assert_json(f, "{\"passwords\":[\"cut", "{\"passwords\":[\"" P);
    assert_json(f, "{\"passwords\":[\"cut\nnext\":1", "{\"passwords\":[\"" P "\nnext\":1");
    assert_json(f, "{\"passwords\":[", "{\"passwords\":[");
    assert_json(f, "{\"passwords\":", "{\"passwords\":");
    assert_json(f, "{:\":\"\":", "{:\":\"\":");
#undef P
#undef S
}

/* Many colons, quotes and backslashes: each byte is looked at a few times. */
static void json_of_an_attacker_costs_what_it_is_long(void **state)
{
    static const char *const pieces[] = {
        "\":",         "\\\":", "d\\\":d\":", "\\\\\\\":",  "\"passwords\":[",
        "{\"value\":", "\\",    "\"",         "[[[[[[[[[[", ", \"value\":"};
    struct fixture *f = *state;
    const size_t size = 1u << 20;
    char *text = malloc(size + 1);

    assert_non_null(text);
    open_filter(f, 0);
    for (size_t i = 0; i < TF_COUNT(pieces); i++) {
        size_t at = 1, piece = strlen(pieces[i]);

        text[0] = '{';
        while (at + piece <= size) {
            memcpy(text + at, pieces[i], piece);
            at += piece;
        }
        text[at] = 0;
        assert_int_equal(tf_batch_reset(&f->batch), 0);
        add(f, "log", text);
        apply(f); /* the test's time limit is the judge */
    }
    free(text);
}

/* ---- private keys, credentials -------------------------------------------------------------- */

static void a_key_is_followed_in_every_form(void **state)
{
    struct fixture *f = *state;

    open_filter(f, 0);
    /* One text: with newlines, with \n, in one line. */
    assert_becomes(
        f, "k -----BEGIN EC PRIVATE KEY-----\n" KEY_LINE "\nab==\n-----END EC PRIVATE KEY-----",
        "k [REDACTED:private-key]");
    assert_becomes(f,
                   "{\"k\":\"-----BEGIN PRIVATE KEY-----\\n" KEY_LINE
                   "\\nab\\n-----END PRIVATE KEY-----\\n\"}",
                   "{\"k\":\"[REDACTED:private-key]\\n\"}");
    assert_becomes(f, "-----BEGIN PRIVATE KEY----- " KEY_LINE " ab -----END PRIVATE KEY----- x",
                   "[REDACTED:private-key] x");
    /* Cut by the end of a batch, foreign lines between, a short tail, an END glued to it. */
    assert_becomes(f, "-----BEGIN PRIVATE KEY-----\\n" KEY_LINE, "[REDACTED:private-key]");
    assert_becomes(f, "12:00:01 GET /healthz 200", "12:00:01 GET /healthz 200");
    assert_becomes(f, "12:00:01 key: " KEY_LINE "\\n", "12:00:01 key: [REDACTED:private-key]\\n");
    assert_becomes(f, "12:00:02 key: abcd+/8=", "12:00:02 key: [REDACTED:private-key]");
    assert_becomes(f, "key \"abcdefgh\\n-----END PRIVATE KEY-----\"",
                   "key \"[REDACTED:private-key]-----END PRIVATE KEY-----\"");
    assert_becomes(f, KEY_LINE, KEY_LINE);
}

static void credentials_of_urls_are_found(void **state)
{
    struct fixture *f = *state;

    open_filter(f, 0);
    assert_becomes(f, "GET https://app:p%40ss%3Aw@db:5432/x",
                   "GET https://app:[REDACTED:url-password]@db:5432/x");
    assert_becomes(f, "bus:\\/\\/app:hunter2@mq", "bus:\\/\\/app:[REDACTED:url-password]@mq");
    assert_becomes(f, "?u=bus%3A%2F%2Fapp%3Ahunter2%40mq%3A5432",
                   "?u=bus%3A%2F%2Fapp%3A[REDACTED:url-password]%40mq%3A5432");
    assert_becomes(f, "u=bus%253A%252F%252Fapp%253Ahunter2%2540mq",
                   "u=bus%253A%252F%252Fapp%253A[REDACTED:url-password]%2540mq");
}

static void base64_is_looked_into_when_asked(void **state)
{
    /* base64 of "token=" and the token */
    static const char line[] = "data Z2hwX2ExQjJjM0Q0ZTVGNmc3SDhpOUowazFMMm0zTjRvNVA2cTdSOA== end";
    struct fixture *f = *state;
    struct tf_text base64 = {.text = "base64"};

    open_filter(f, 0);
    assert_becomes(f, line, line);
    f->options.decode = (struct tf_texts){.items = &base64, .count = 1};
    open_filter(f, 0);
    assert_int_equal(tf_batch_reset(&f->batch), 0);
    add(f, "log", line);
    apply(f);
    assert_int_equal(f->hit_count, 1);
    assert_string_equal(f->hits[0].rule, "github-token");
}

static void rules_that_are_off_take_their_names_along(void **state)
{
    struct fixture *f = *state;
    struct tf_text off[] = {{.text = "assigned-password"}};

    f->options.disable = (struct tf_texts){.items = off, .count = 1};
    open_filter(f, 0);
    assert_int_equal(tf_batch_reset(&f->batch), 0);
    add(f, "password", "x");
    add(f, "log", "{\"password\":[\"x\"]}");
    apply(f);
    assert_field(f, 0, "x");
    assert_field(f, 1, "{\"password\":[\"x\"]}");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_mask_does_not_tell_the_length),
        TEST(the_same_secret_has_the_same_mark),
        TEST(a_value_is_read_behind_its_key),
        TEST(guessable_values_are_hashed_only_by_name),
        TEST(a_part_is_a_quarter_at_most),
        TEST(a_dropped_record_is_marked_and_counted),
        TEST(the_nearest_word_of_modes_counts),
        TEST(wrong_options_are_told),
        TEST(a_hash_key_is_a_secret_file),
        TEST(marks_of_others_are_known),
        TEST(rules_that_hit_are_named_on_the_record),
        TEST(names_count_at_any_depth),
        TEST(pairs_lists_and_wrapped_values_are_found),
        TEST(numbers_that_could_be_secrets_are_masked),
        TEST(json_in_a_text_gives_values_away),
        TEST(json_of_an_attacker_costs_what_it_is_long),
        TEST(a_key_is_followed_in_every_form),
        TEST(credentials_of_urls_are_found),
        TEST(base64_is_looked_into_when_asked),
        TEST(rules_that_are_off_take_their_names_along),
    };

    return cmocka_run_group_tests_name("redact modes", tests, NULL, NULL);
}
