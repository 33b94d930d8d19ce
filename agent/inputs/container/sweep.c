/*
 * sweep.c - scans: when they run, and what they change. Loop; the walk itself is discovery.c.
 *
 * A scan runs at the start, each `rescan`, and soon after a hint about a directory. What it finds
 * is the truth about names: new files are followed, siblings before the primary they come from; a
 * file that was renamed is the same file; one that a complete scan did not find has lost its name.
 *
 * A scan that left nothing to do leaves a snapshot; while that holds, the next ones are passed over
 * (but SNAPSHOT_USES_MAX times at most), so that an idle node costs next to nothing. When many
 * files were opened before it came to rest, the memory that this took goes back to the kernel.
 */
#include "internal.h"

#include <assert.h>
#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <sys/resource.h>

#define SOON_MS           50u
#define SOON_FACTOR       10u
#define POLL_MS           1000u
#define IDLE_MAX_MS       300000u
#define DESCRIPTORS_MIN   64u
#define MARKER_VERSION    1u
#define SNAPSHOT_USES_MAX 30u
#define JUDGE_BYTES       (64u << 20) /* of compressed siblings, for one scan */
#define TRIM_FILES        1000u       /* opened since memory went back */
#define TRIM_KEEP_BYTES   (2u << 20)  /* at the heap's top, for what comes next */

static void on_timer(uv_timer_t *timer);

/* ---- what the worker gets to know
 * ------------------------------------------------------------------ */

struct known_list {
    struct tf_container *input;
    struct tf_known *items;
    size_t count, capacity;
    bool failed;
};

static void add_known(struct known_list *list, const struct tf_known *known)
{
    if (list->count == list->capacity) {
        size_t capacity = list->capacity == 0 ? 64 : list->capacity * 2;
        struct tf_known *grown = realloc(list->items, capacity * sizeof *grown);

        if (grown == NULL) {
            list->failed = true;
            return;
        }
        list->items = grown;
        list->capacity = capacity;
    }
    list->items[list->count++] = *known;
}

static void add_stored(void *ctx, struct tf_slice key, struct tf_slice value)
{
    struct known_list *list = ctx;
    struct tf_position position = {0};
    struct tf_known known = {0};

    if (tf_position_key_parse(key, list->input->name, &known.id) < 0 ||
        tf_follow_find(list->input, &known.id) != NULL) {
        return;
    }
    if (tf_position_decode(value, &position) == 0) {
        memcpy(known.prints, position.prints, sizeof known.prints);
        known.base_hash = tf_path_hash(position.path);
        known.is_finished = position.finished;
        known.is_gzip = position.is_gzip;
        known.size = tf_position_last(&position);
    }
    add_known(list, &known);
}

static int list_known(struct tf_container *input, struct tf_scan *scan)
{
    struct known_list list = {.input = input};

    for (struct tf_file *file = input->files; file != NULL; file = file->next) {
        struct tf_known known;

        tf_follow_known(file, &known);
        add_known(&list, &known);
    }
    if (input->stored_checks < TF_STORED_CHECKS || input->is_postponing) {
        tf_stored_each(input, add_stored, &list);
    }
    if (list.failed) {
        free(list.items);
        return -ENOMEM;
    }
    scan->known = list.items;
    scan->known_count = list.count;
    tf_scan_sort_known(scan);
    return 0;
}

/* ---- first start
 * ------------------------------------------------------------------------------------------ */

/* "file/INPUT" is set after the first scan of all: what is new from then on is read from its start.
 */
static bool has_marker(struct tf_container *input)
{
    struct tf_buf key;
    struct tf_slice value;
    bool has;

    tf_buf_init(&key, TF_STATE_KEY_MAX);
    (void)tf_buf_printf(&key, "file/%s", input->name);
    has = key.error == 0 &&
          tf_state_get(tf_pipeline_spool(input->pipeline), tf_buf_slice(&key), &value);
    tf_buf_fini(&key);
    return has;
}

static void set_marker(struct tf_container *input)
{
    const uint8_t version = MARKER_VERSION;
    struct tf_buf key, deltas;

    tf_buf_init(&key, TF_STATE_KEY_MAX);
    tf_buf_init(&deltas, TF_DRAFT_DELTAS_MAX);
    (void)tf_buf_printf(&key, "file/%s", input->name);
    tf_delta_append(&deltas, TF_DELTA_SET, tf_buf_slice(&key), tf_slice(&version, sizeof version));
    if (key.error == 0 && tf_pipeline_deltas(input->pipeline, NULL, &deltas) == 0) {
        input->is_first_start = false;
    }
    tf_buf_fini(&key);
    tf_buf_fini(&deltas);
}

void tf_sweep_rewind(struct tf_container *input)
{
    if (!input->is_closing && input->pipeline != NULL && !input->is_first_start &&
        !has_marker(input)) {
        set_marker(input);
    }
}

/* ---- scans
 * ---------------------------------------------------------------------------------------------------
 */

static void tell_descriptors(struct tf_container *input)
{
    if (input->scan.opened < input->scan.open_max) {
        return;
    }
    input->counts.errors[TF_INPUT_OPEN]++;
    if (input->told_descriptors) {
        return;
    }
    input->told_descriptors = true;
    tf_log(TF_LOG_WARN, "unreadable", TF_DETAILS(TF_STR("input", input->name)),
           "%zu files are open, as many as the limit of descriptors allows; others wait. Raise "
           "LimitNOFILE",
           input->descriptor_count);
}

static void apply_scan(struct tf_container *input)
{
    for (struct tf_file *file = input->files; file != NULL; file = file->next) {
        file->is_seen = file->scan_number == input->scan_number; /* a look found it meanwhile */
        file->is_undecided = false;
    }
    input->has_undecided = input->is_postponing = false;
    tf_found_apply(input, &input->scan);
    tf_ends_settle(input);
    input->wants_scan = input->wants_scan || input->scan.judge_bytes == 0;
    tell_descriptors(input);
    if (input->scan.watch_error < 0) {
        tf_watch_tell(input, input->scan.watch_error);
    }
    input->complete_scans += input->scan.is_complete && input->complete_scans < TF_STORED_CHECKS;
    if (input->scan.is_complete && input->stored_checks < TF_STORED_CHECKS) {
        tf_stored_check(input);
    }
    if (input->is_first_start) {
        set_marker(input);
    }
    tf_looker_start(input->looker);
}

/* Every file was seen, was read, and is not at its end for good. */
static bool all_rest(const struct tf_container *input)
{
    for (const struct tf_file *file = input->files; file != NULL; file = file->next) {
        bool is_resting =
            file->state == TF_FILE_FINISHED ||
            (file->state == TF_FILE_ACTIVE && file->is_at_end &&
             file->source.state == TF_SOURCE_ASLEEP && !(file->is_sibling && file->has_successor));

        if (!file->is_seen || !is_resting) {
            return false;
        }
    }
    return true;
}

/* Another scan of the same would change nothing. */
static bool is_settled(const struct tf_container *input)
{
    return input->scan.is_complete && !input->has_undecided && input->scan.watch_error >= 0 &&
           !input->wants_scan && !input->is_first_start &&
           input->stored_checks == TF_STORED_CHECKS && all_rest(input);
}

static void keep_snapshot(struct tf_container *input)
{
    tf_snapshot_fini(&input->snapshot);
    input->snapshot_uses = 0;
    if (is_settled(input)) {
        input->snapshot = input->scan.snapshot;
        input->scan.snapshot = (struct tf_snapshot){0};
    }
}

/* By itself the allocator gives back the heap's top alone; what a start takes for each file and
 * frees lies between what stays. Some milliseconds, while nothing is read. */
static void trim_memory(struct tf_container *input)
{
    if (input->snapshot.is_usable && input->untrimmed_files >= TRIM_FILES) {
        (void)malloc_trim(TRIM_KEEP_BYTES);
        input->untrimmed_files = 0;
    }
}

static void run_scan(uv_work_t *work)
{
    struct tf_container *input = work->data;
    uint64_t start_ns = uv_hrtime();

    tf_scan_run(&input->scan);
    input->scan.took_ms = (uv_hrtime() - start_ns) / (uint64_t)TF_MS_IN_NS;
}

/* Hints that never end (files made and deleted all the time) may cost a tenth of one worker. */
static uint64_t soon_ms(const struct tf_container *input)
{
    uint64_t wait_ms = SOON_MS + SOON_FACTOR * input->scan_took_ms;

    return wait_ms < input->options->rescan_ms ? wait_ms : input->options->rescan_ms;
}

/* Where the kernel gives no hints for some files, they are looked at by time. */
static uint64_t rescan_ms(const struct tf_container *input)
{
    uint64_t poll_ms = POLL_MS + SOON_FACTOR * input->scan_took_ms;

    return input->told_watches && poll_ms < input->options->rescan_ms ? poll_ms
                                                                      : input->options->rescan_ms;
}

static void after_scan(uv_work_t *work, int status)
{
    struct tf_container *input = work->data;

    input->is_scanning = false;
    if (!input->is_closing && status == 0) {
        apply_scan(input);
        keep_snapshot(input);
    }
    input->scan_took_ms = input->scan.took_ms;
    input->untrimmed_files += input->scan.opened;
    tf_scan_fini(&input->scan);
    if (input->is_closing) {
        tf_container_maybe_closed(input);
        return;
    }
    trim_memory(input);
    (void)uv_timer_start(&input->scan_timer, on_timer,
                         input->wants_scan ? soon_ms(input) : rescan_ms(input), 0);
}

static void begin_scan(struct tf_container *input)
{
    struct tf_scan *scan = &input->scan;

    *scan = (struct tf_scan){
        .opener = &input->opener,
        .globs = input->globs,
        .glob_count = input->glob_count,
        .include = &input->options->include,
        .exclude = &input->options->exclude,
        .looker = input->looker,
        .open_max = (uint32_t)(input->descriptor_max > input->descriptor_count
                                   ? input->descriptor_max - input->descriptor_count
                                   : 0),
        .start_newest = input->is_first_start && input->options->start_at == 1,
        .judge_bytes = JUDGE_BYTES,
    };
    input->scan_number++;
    input->wants_scan = false;
    if (list_known(input, scan) < 0 ||
        uv_queue_work(input->loop, &input->scan_work, run_scan, after_scan) < 0) {
        tf_scan_fini(scan);
        (void)uv_timer_start(&input->scan_timer, on_timer, input->options->rescan_ms, 0);
        return;
    }
    input->is_scanning = true;
}

static void compare_snapshot(uv_work_t *work)
{
    struct tf_container *input = work->data;

    uint64_t start_ns = uv_hrtime();

    input->snapshot_held = tf_snapshot_holds(&input->snapshot, &input->opener);
    input->comparing_us = (uv_hrtime() - start_ns) / 1000;
}

/* Where all that is read has watches, comparing a very large tree may cost a thousandth of a core.
 */
static uint64_t idle_ms(const struct tf_container *input)
{
    uint64_t wait_ms = input->comparing_us < IDLE_MAX_MS ? input->comparing_us : IDLE_MAX_MS;

    return wait_ms > input->options->rescan_ms && !input->told_watches ? wait_ms : rescan_ms(input);
}

static void after_comparing(uv_work_t *work, int status)
{
    struct tf_container *input = work->data;

    input->is_scanning = false;
    if (input->is_closing) {
        tf_container_maybe_closed(input);
    } else if (status == 0 && input->snapshot_held && !input->wants_scan) {
        input->snapshot_uses++;
        (void)uv_timer_start(&input->scan_timer, on_timer, idle_ms(input), 0);
    } else {
        begin_scan(input);
    }
}

static void on_timer(uv_timer_t *timer)
{
    struct tf_container *input = timer->data;

    assert(!input->is_scanning);
    if (input->wants_scan || !input->snapshot.is_usable ||
        input->snapshot_uses == SNAPSHOT_USES_MAX || !all_rest(input)) {
        begin_scan(input);
    } else if (uv_queue_work(input->loop, &input->scan_work, compare_snapshot, after_comparing) <
               0) {
        begin_scan(input);
    } else {
        input->is_scanning = true;
    }
}

void tf_sweep_soon(struct tf_container *input)
{
    if (input->is_closing) {
        return;
    }
    if (input->is_scanning || input->wants_scan) {
        input->wants_scan = true;
        return;
    }
    input->wants_scan = true;
    (void)uv_timer_start(&input->scan_timer, on_timer, soon_ms(input), 0);
}

void tf_sweep_start(struct tf_container *input)
{
    struct rlimit limit;

    input->descriptor_max = DESCRIPTORS_MIN;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur / 4 * 3 > DESCRIPTORS_MIN) {
        input->descriptor_max =
            limit.rlim_cur / 4 * 3 > TF_FILES_MAX ? TF_FILES_MAX : (size_t)(limit.rlim_cur / 4 * 3);
    }
    input->is_first_start = !has_marker(input);
    input->scan_work.data = input;
    (void)uv_timer_start(&input->scan_timer, on_timer, 0, 0);
}

void tf_sweep_stop(struct tf_container *input)
{
    if (input->is_scanning) {
        (void)uv_cancel((uv_req_t *)&input->scan_work); /* when it has begun, it is waited for */
    }
}
