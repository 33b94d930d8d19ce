/*
 * fuzz_replay.c - what a replay reads that others may have written: options, events, job files.
 *
 * Byte 0 chooses: a time and a condition from the command line; an event through a query and the
 * list of gaps; a slot of a job file, which is what it encodes to when it is sound; a payload.
 */
#include <stdio.h>
#include <stdlib.h>

#include "../../agent/replay/gaps.h"
#include "../../agent/replay/job.h"
#include "../../agent/replay/query.h"

#define TEXT_MAX 512u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool holds)
{
    if (!holds) {
        abort();
    }
}

static void try_words(const uint8_t *data, size_t size)
{
    struct tf_query_options options = {.where_count = 1};
    struct tf_query *query = NULL;
    struct tf_error err;
    char text[TEXT_MAX + 1];
    int64_t from_ns = 0, out;

    size = size < TEXT_MAX ? size : TEXT_MAX;
    memcpy(text, data, size);
    text[size] = '\0';
    (void)tf_when_parse(text, 0, NULL, &out);
    (void)tf_when_parse(text, 0, &from_ns, &out);
    (void)tf_job_name_is_sound(text);
    options.from = options.to = options.where[0] = text;
    tf_error_init(&err);
    if (tf_query_new(&options, 0, &query, &err) == 0) {
        tf_query_free(query);
    } else {
        check(err.errors > 0);
    }
    tf_error_fini(&err);
}

static void try_event(const uint8_t *data, size_t size)
{
    static const struct tf_query_options options = {
        .where = {"a.b=*x?*", "tag=**"}, .where_count = 2, .grep = "(a|b)+c"};
    static struct tf_query *query;
    struct tf_slice event = tf_slice(data, size);
    struct tf_gaps *gaps = calloc(1, sizeof *gaps);
    struct tf_error err;
    static char text[65536];
    FILE *to;

    check(gaps != NULL);
    if (query == NULL) {
        tf_error_init(&err);
        check(tf_query_new(&options, 0, &query, &err) == 0);
        tf_error_fini(&err);
    }
    (void)tf_query_matches(query, 0, tf_slice_text("t"), event);
    tf_gaps_add_event(gaps, 0, tf_slice_text("taffrail.audit"), event);
    to = fmemopen(text, sizeof text, "w");
    check(to != NULL);
    tf_gaps_print(gaps, to);
    check(fclose(to) == 0);
    for (size_t i = 0; text[i] != '\0'; i++) {
        check((uint8_t)text[i] >= 0x20 || text[i] == '\n');
    }
    free(gaps);
}

static void try_slot(const uint8_t *data, size_t size)
{
    uint8_t bytes[TF_JOB_SLOT_BYTES] = {0}, again[TF_JOB_SLOT_BYTES];
    struct tf_job_state state;

    memcpy(bytes, data, size < sizeof bytes ? size : sizeof bytes);
    tf_store32(bytes + 144, tf_crc32c(0, bytes, 144)); /* so that more than the CRC is met */
    if (tf_job_decode(bytes, &state) == 0) {
        tf_job_encode(&state, again);
        check(memcmp(bytes, again, sizeof bytes) == 0);
    }
}

static void try_payload(const uint8_t *data, size_t size)
{
    struct tf_buf out;

    tf_buf_init(&out, 1u << 20);
    if (tf_archive_inflate(tf_slice(data, size), &out) == 0) {
        check(out.size <= out.limit_bytes);
    }
    tf_buf_fini(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void (*const tries[])(const uint8_t *data, size_t size) = {try_words, try_event,
                                                                      try_slot, try_payload};

    if (size > 0) {
        tries[data[0] % TF_COUNT(tries)](data + 1, size - 1);
    }
    return 0;
}
