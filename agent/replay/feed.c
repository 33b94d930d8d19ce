/*
 * feed.c - a replay behind the functions of a feed, so that every output can ship it.
 *
 * A worker reads ahead: it picks events, marks each with the job (taffrail.replayed), and packs
 * those of one frame into one frame, which keeps number, chain value and tag. Frames wait in a ring
 * until they and all before them are acked; then the job's state moves behind them, and is saved:
 * each second, and after 32 acks. A frame that holds nothing wanted moves it too.
 *
 *     READY    in the ring, not handed out (again)
 *     HANDED   an output has it
 *     ACKED    done; leaves the ring when it is the first
 *
 * So a job that is killed goes on behind the last saved ack: what was acked after it is shipped
 * again. One that is stopped waits for its acks and is exact.
 *
 * What a replay says of itself is a frame too, before the first and behind the last, with the tag
 * taffrail.audit, when the output takes that. Numbers have to rise: the first has the number of
 * what is behind it, the last is one above all. It is made when all else is acked, so that what it
 * counts has arrived; it moves the job's state no further, and no rate holds it up.
 *
 * The rate is a bucket of a quarter of a second that may be overdrawn by one frame. Marks grow a
 * frame by MARKS_MAX_BYTES at most, so that a receiver's bound on what it inflates holds; events
 * past it are marked by the message's option alone.
 */
#include "feed.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "../spool/internal.h"
#include "taffrail/event.h"
#include "taffrail/filters.h"

#define RING_MAX        64u
#define AHEAD_MAX       8u         /* frames packed by one job */
#define AHEAD_BYTES     (1u << 20) /* then it ends */
#define LOOKED_MAX      256u       /* frames looked at by one job */
#define READY_MIN       16u        /* below it a job begins */
#define MARKS_MAX_BYTES (1u << 20)
#define EVENTS_MAX      (TF_DRAFT_PAYLOAD_MAX + MARKS_MAX_BYTES)
#define SAVE_MS         1000u
#define SAVE_AFTER_ACKS 32u
#define BUCKET_PART     4u /* of a second */

enum step { READY, HANDED, ACKED };
struct item {
    enum step step;
    struct tf_frame *frame; /* NULL once acked */
    uint64_t seq, bytes, records;
    uint64_t after;  /* seq behind it and all that holds nothing wanted */
    uint64_t passed; /* bytes of the archive up to there */
    uint64_t losses; /* found up to there, of the whole job */
};

/* A frame as a worker packed it. */
struct packed {
    struct tf_frame like;
    char tag[TF_TAG_MAX + 1];
    struct tf_buf payload;
    uint64_t passed, losses;
};

struct job {
    uv_work_t work;
    struct packed out[AHEAD_MAX];
    uint32_t count;
    bool ended;
    int status;
    uint64_t seq, passed, bytes, found, losses;
};

struct save {
    uv_work_t work;
    struct tf_job_state state;
    int status;
};

struct tf_replay_feed {
    struct tf_replay_feed_options options;
    struct tf_feed *feed;
    struct item items[RING_MAX];
    uint32_t first, count, in_flight;
    struct tf_job_state state; /* as acked */
    uint64_t losses_before;    /* of the job, when it went on */
    struct job job;
    struct tf_buf events; /* the job's */
    size_t marks_bytes;
    struct tf_gzip *gzip;
    struct save save;
    uv_timer_t timer;
    uint64_t filled_ms, saved_ms;
    int64_t tokens;
    uint32_t acks; /* since the last save */
    bool reading, saving, dirty, ended, stopped, told, closing, starving;
    bool has_said_end; /* or has nothing to say */
    int failed;        /* nothing more is read or handed out */
    bool cannot_save;  /* that is what failed: what is on disk stays */
    struct tf_replay_progress progress;
    /* a file output's cursor that waits to be saved */
    tf_feed_saved_fn *on_saved;
    void *saved_ctx;
    uint64_t file_seq;
    struct tf_file_cursor file;
    bool file_asked, file_running;
    void (*on_closed)(void *ctx);
    void *closed_ctx;
};

static void turn(struct tf_replay_feed *replay);
static void kick(struct tf_replay_feed *replay);

static struct item *item_at(struct tf_replay_feed *replay, uint32_t i)
{
    return &replay->items[(replay->first + i) % RING_MAX];
}

/* ---- on a worker: picking and packing ----------------------------------------------------------
 */

static int mark_event(void *ctx, struct tf_slice event, struct tf_slice tag)
{
    struct tf_replay_feed *replay = ctx;
    size_t before = replay->events.size;
    int rc;

    (void)tag;
    if (replay->marks_bytes > MARKS_MAX_BYTES - 1024) {
        rc = tf_buf_append(&replay->events, event.data, event.size);
    } else {
        rc = tf_event_mark(event, "replayed", tf_slice_text(replay->options.name), &replay->events);
        replay->marks_bytes += rc == 0 && replay->events.size - before > event.size
                                   ? replay->events.size - before - event.size
                                   : 0;
    }
    replay->job.out[replay->job.count].like.events += rc == 0;
    return rc;
}

/* Packs what is wanted of one frame; nothing is added when there is nothing. */
static int pack_frame(struct tf_replay_feed *replay, const struct tf_archived *frame)
{
    struct packed *packed = &replay->job.out[replay->job.count];
    int rc;

    packed->like = (struct tf_frame){.seq = frame->seq,
                                     .type = frame->type,
                                     .time_min_ns = frame->time_min_ns,
                                     .time_max_ns = frame->time_max_ns,
                                     .replayed = replay->options.name,
                                     .tag = packed->tag};
    memcpy(packed->like.chain, frame->chain, TF_CHAIN_BYTES);
    if (frame->tag.size > TF_TAG_MAX) {
        return -EPROTO;
    }
    if (frame->tag.size > 0) {
        memcpy(packed->tag, frame->tag.data, frame->tag.size);
    }
    packed->tag[frame->tag.size] = '\0';
    tf_buf_clear(&replay->events);
    replay->marks_bytes = 0;
    rc = tf_pick_events(replay->options.pick, frame, mark_event, replay);
    if (rc < 0 || packed->like.events == 0) {
        return rc;
    }
    tf_buf_init(&packed->payload, TF_BODY_MAX);
    rc = tf_gzip_run(replay->gzip, tf_buf_slice(&replay->events), &packed->payload);
    if (rc < 0) {
        tf_buf_fini(&packed->payload);
        return rc;
    }
    replay->job.count++;
    return 0;
}

static void read_work(uv_work_t *work)
{
    struct job *job = TF_CONTAINER_OF(work, struct job, work);
    struct tf_replay_feed *replay = TF_CONTAINER_OF(job, struct tf_replay_feed, job);
    struct tf_pick *pick = replay->options.pick;
    struct tf_archive_status status;
    struct tf_archived frame;
    size_t bytes = 0;
    int rc = 1;

    job->count = 0;
    for (uint32_t looked = 0;
         rc == 1 && job->count < AHEAD_MAX && bytes < AHEAD_BYTES && looked < LOOKED_MAX;
         looked++) {
        uint32_t before = job->count;

        rc = tf_pick_next(pick, &frame);
        if (rc == 1) {
            int packed_rc = pack_frame(replay, &frame);

            rc = packed_rc < 0 ? packed_rc : 1;
        }
        tf_archive_status(pick->archive, &status);
        if (job->count > before) {
            bytes += job->out[before].payload.size;
            job->out[before].passed = status.passed;
            job->out[before].losses = replay->losses_before + pick->gaps.loss_count;
        }
    }
    job->status = rc < 0 ? rc : 0;
    job->ended = rc == 0;
    job->seq = status.seq;
    job->passed = status.passed;
    job->bytes = status.bytes;
    job->found = pick->found;
    job->losses = replay->losses_before + pick->gaps.loss_count;
}

static void save_work(uv_work_t *work)
{
    struct save *save = TF_CONTAINER_OF(work, struct save, work);
    struct tf_replay_feed *replay = TF_CONTAINER_OF(save, struct tf_replay_feed, save);

    save->status = tf_job_save(replay->options.job, &save->state);
}

/* ---- the ring ----------------------------------------------------------------------------------
 */

/* All that the job looked at behind the last item is not wanted. */
static void pass(struct tf_replay_feed *replay, const struct job *job)
{
    if (replay->count > 0) {
        struct item *item = item_at(replay, replay->count - 1);

        item->after = job->seq;
        item->passed = job->passed;
        item->losses = job->losses;
        return;
    }
    replay->progress.passed = job->passed;
    if (job->seq > replay->state.seq || job->losses > replay->state.losses) {
        replay->state.seq = job->seq > replay->state.seq ? job->seq : replay->state.seq;
        replay->state.losses = job->losses;
        replay->dirty = true;
    }
}

static int push(struct tf_replay_feed *replay, struct packed *packed)
{
    uint64_t bytes = packed->payload.size;
    struct tf_frame *frame = tf_frame_make(&packed->like, &packed->payload);

    if (frame == NULL) {
        return -ENOMEM;
    }
    assert(replay->count < RING_MAX);
    *item_at(replay, replay->count) = (struct item){.step = READY,
                                                    .frame = frame,
                                                    .seq = frame->seq,
                                                    .bytes = bytes,
                                                    .records = frame->events,
                                                    .after = frame->seq,
                                                    .passed = packed->passed,
                                                    .losses = packed->losses};
    replay->count++;
    return 0;
}

/* Packs the audit event alone. The worker's buffers are free: it does not read. */
static int pack_audit(struct tf_replay_feed *replay, bool is_end, struct packed *packed)
{
    struct tf_slice part;
    struct tf_buf event;
    int rc;

    assert(!replay->reading);
    tf_buf_init(&event, EVENTS_MAX);
    tf_buf_clear(&replay->events);
    rc = replay->options.say(replay->options.ctx, &replay->state, is_end, &event);
    if (rc == 0) {
        rc = tf_event_mark(tf_buf_slice(&event), "replayed", tf_slice_text(replay->options.name),
                           &replay->events);
    }
    part = tf_buf_slice(&replay->events);
    if (rc == 0) {
        rc = tf_sha256(&part, 1, packed->like.chain); /* its name: the time is in it */
    }
    tf_buf_init(&packed->payload, TF_BODY_MAX);
    if (rc == 0) {
        rc = tf_gzip_run(replay->gzip, part, &packed->payload);
    }
    tf_buf_fini(&event);
    return rc;
}

static bool has_to_say(const struct tf_replay_feed *replay)
{
    return replay->options.say != NULL &&
           tf_pick_takes_tag(replay->options.pick, tf_slice_text(TF_AUDIT_TAG));
}

/* Puts the audit event behind what is in the ring. */
static int say(struct tf_replay_feed *replay, bool is_end)
{
    struct packed packed = {.passed = replay->progress.passed, .losses = replay->state.losses};
    uint64_t first_seq = replay->state.seq > 0 ? replay->state.seq : 1;
    int rc;

    packed.like = (struct tf_frame){.seq = first_seq + is_end,
                                    .type = TF_FRAME_DATA,
                                    .events = 1,
                                    .replayed = replay->options.name,
                                    .tag = TF_AUDIT_TAG};
    rc = pack_audit(replay, is_end, &packed);
    if (rc == 0) {
        rc = push(replay, &packed);
    }
    tf_buf_fini(&packed.payload); /* empty when it was taken */
    if (rc == 0) {
        struct item *item = item_at(replay, replay->count - 1);

        item->bytes = item->records = 0;
        item->after = replay->state.seq;
    }
    return rc;
}

static void pop_acked(struct tf_replay_feed *replay)
{
    while (replay->count > 0 && item_at(replay, 0)->step == ACKED) {
        const struct item *item = item_at(replay, 0);

        replay->state.seq = item->after;
        replay->state.losses = item->losses;
        replay->state.records += item->records;
        replay->state.bytes += item->bytes;
        replay->progress.passed = item->passed;
        replay->dirty = true;
        replay->first = (replay->first + 1) % RING_MAX;
        replay->count--;
    }
}

static void finish_item(struct tf_replay_feed *replay, struct item *item)
{
    replay->in_flight -= item->step == HANDED;
    item->step = ACKED;
    tf_frame_unref(item->frame);
    item->frame = NULL;
    replay->acks++;
}

/* ---- what an output calls ----------------------------------------------------------------------
 */

/* Whether the rate lets a frame go now. */
static bool has_tokens(struct tf_replay_feed *replay)
{
    uint64_t now_ms = uv_now(replay->options.loop), rate = replay->options.max_rate;
    int64_t most = (int64_t)(rate / BUCKET_PART);

    if (rate == 0) {
        return true;
    }
    replay->tokens += (int64_t)((now_ms - replay->filled_ms) * rate / 1000);
    replay->filled_ms = now_ms;
    replay->tokens = replay->tokens < most ? replay->tokens : most;
    return replay->tokens >= 0;
}

static struct item *first_ready(struct tf_replay_feed *replay)
{
    for (uint32_t i = 0; i < replay->count; i++) {
        if (item_at(replay, i)->step == READY) {
            return item_at(replay, i);
        }
    }
    return NULL;
}

static int replay_next(void *self, struct tf_frame **out)
{
    struct tf_replay_feed *replay = self;
    struct item *item;

    replay->starving = true;
    if (replay->stopped || replay->failed < 0 || replay->in_flight >= replay->options.window) {
        return -EAGAIN;
    }
    item = first_ready(replay);
    if (item == NULL || !has_tokens(replay)) {
        kick(replay);
        return -EAGAIN;
    }
    replay->starving = false;
    replay->tokens -= replay->options.max_rate > 0 ? (int64_t)item->bytes : 0;
    item->step = HANDED;
    replay->in_flight++;
    tf_frame_ref(item->frame);
    *out = item->frame;
    return 0;
}

/* Refused for good counts as done: it would be refused again. The output says so in the log. */
static bool replay_finish(void *self, uint64_t seq, bool rejected)
{
    struct tf_replay_feed *replay = self;

    (void)rejected;
    for (uint32_t i = 0; i < replay->count; i++) {
        struct item *item = item_at(replay, i);

        if (item->seq == seq && item->step != ACKED) {
            finish_item(replay, item);
            pop_acked(replay);
            kick(replay);
            return true;
        }
    }
    return false;
}

static void replay_rewind(void *self)
{
    struct tf_replay_feed *replay = self;

    for (uint32_t i = 0; i < replay->count; i++) {
        struct item *item = item_at(replay, i);

        if (item->step == HANDED) {
            item->step = READY;
            replay->in_flight--;
        }
    }
    kick(replay);
}

static void replay_save_file(void *self, uint64_t seq, const struct tf_file_cursor *file,
                             tf_feed_saved_fn *on_saved, void *ctx)
{
    struct tf_replay_feed *replay = self;

    assert(!replay->file_asked);
    replay->file_asked = true;
    replay->file_seq = seq;
    replay->file = *file;
    replay->on_saved = on_saved;
    replay->saved_ctx = ctx;
    kick(replay);
}

static bool replay_saved_file(const void *self, struct tf_file_cursor *file, uint64_t *seq)
{
    const struct tf_job_state *saved = &((const struct tf_replay_feed *)self)->options.job->state;

    if (saved->file.device == 0 && saved->file.inode == 0) {
        return false;
    }
    *file = saved->file;
    *seq = saved->seq;
    return true;
}

static const struct tf_feed_ops ops = {.next = replay_next,
                                       .finish = replay_finish,
                                       .rewind = replay_rewind,
                                       .save_file = replay_save_file,
                                       .saved_file = replay_saved_file};

/* ---- saving ------------------------------------------------------------------------------------
 */

/* What would be acked with the file's cursor, as the job's state. */
static void add_file(const struct tf_replay_feed *replay, struct tf_job_state *state)
{
    for (uint32_t i = 0; i < replay->count; i++) {
        const struct item *item = &replay->items[(replay->first + i) % RING_MAX];

        if (item->seq > replay->file_seq) {
            break;
        }
        state->seq = item->after;
        state->losses = item->losses;
        state->records += item->records;
        state->bytes += item->bytes;
    }
    state->file = replay->file;
}

static void settle_file(struct tf_replay_feed *replay, int status)
{
    replay->file_asked = replay->file_running = false;
    if (status == 0) {
        replay->state.file = replay->file;
        for (uint32_t i = 0; i < replay->count; i++) {
            struct item *item = item_at(replay, i);

            if (item->seq <= replay->file_seq && item->step != ACKED) {
                finish_item(replay, item);
            }
        }
        pop_acked(replay);
    }
    if (replay->on_saved != NULL) {
        replay->on_saved(replay->saved_ctx, status);
    }
}

static void on_saved(uv_work_t *work, int status)
{
    struct save *save = TF_CONTAINER_OF(work, struct save, work);
    struct tf_replay_feed *replay = TF_CONTAINER_OF(save, struct tf_replay_feed, save);
    int rc = status < 0 ? status : save->status;

    replay->saving = false;
    if (replay->file_running) {
        settle_file(replay, rc);
    } else if (rc < 0) {
        replay->failed = rc;
        replay->cannot_save = true;
    }
    turn(replay);
}

/* All that was wanted is acked. */
static bool is_done(const struct tf_replay_feed *replay)
{
    return replay->ended && replay->has_said_end && replay->count == 0 && replay->failed == 0;
}

static void begin_save(struct tf_replay_feed *replay)
{
    struct save *save = &replay->save;

    save->state = replay->state;
    save->state.step = is_done(replay) ? TF_JOB_DONE : TF_JOB_RUNNING;
    replay->file_running = replay->file_asked;
    if (replay->file_running) {
        add_file(replay, &save->state);
    } else {
        replay->dirty = false;
    }
    replay->acks = 0;
    replay->saved_ms = uv_now(replay->options.loop);
    replay->saving = uv_queue_work(replay->options.loop, &save->work, save_work, on_saved) == 0;
    if (!replay->saving) {
        replay->failed = -ENOMEM;
        replay->cannot_save = true;
    }
}

/* ---- turning: by the timer and after work, never from inside an output's call -------------------
 */

static void on_read(uv_work_t *work, int status)
{
    struct job *job = TF_CONTAINER_OF(work, struct job, work);
    struct tf_replay_feed *replay = TF_CONTAINER_OF(job, struct tf_replay_feed, job);
    int rc = status < 0 ? status : job->status;

    replay->reading = false;
    for (uint32_t i = 0; i < job->count; i++) {
        int pushed = rc < 0 ? rc : push(replay, &job->out[i]);

        tf_buf_fini(&job->out[i].payload); /* empty when it was taken */
        rc = pushed;
    }
    job->count = 0;
    if (rc < 0) {
        replay->failed = rc;
    } else {
        pass(replay, job);
        replay->ended = job->ended;
        replay->progress.bytes = job->bytes;
        replay->progress.found = job->found;
    }
    turn(replay);
}

static void begin_read(struct tf_replay_feed *replay)
{
    replay->reading =
        uv_queue_work(replay->options.loop, &replay->job.work, read_work, on_read) == 0;
    if (!replay->reading) {
        replay->failed = -ENOMEM;
    }
}

static bool may_read(const struct tf_replay_feed *replay)
{
    return !replay->reading && !replay->ended && !replay->stopped && replay->failed == 0 &&
           replay->count - replay->in_flight < READY_MIN && replay->count + AHEAD_MAX <= RING_MAX;
}

/* Nothing will be handed out any more, and nothing is in flight. */
static bool is_settled(const struct tf_replay_feed *replay)
{
    return is_done(replay) ||
           ((replay->stopped || replay->failed < 0) && replay->in_flight == 0 && !replay->reading);
}

static bool must_save(const struct tf_replay_feed *replay)
{
    const struct tf_job_state *saved = &replay->options.job->state;

    if (replay->saving || replay->file_asked) {
        return !replay->saving; /* a file output waits for it, also when all else has failed */
    }
    if (is_done(replay) && saved->step != TF_JOB_DONE) {
        return true;
    }
    return !replay->cannot_save && replay->dirty &&
           (replay->acks >= SAVE_AFTER_ACKS || is_settled(replay) ||
            uv_now(replay->options.loop) - replay->saved_ms >= SAVE_MS);
}

static bool may_hand_out(struct tf_replay_feed *replay)
{
    return replay->starving && !replay->stopped && replay->failed == 0 &&
           replay->in_flight < replay->options.window && first_ready(replay) != NULL &&
           has_tokens(replay);
}

static void on_timer(uv_timer_t *timer)
{
    turn(timer->data);
}

static void kick(struct tf_replay_feed *replay)
{
    if (!replay->closing) {
        (void)uv_timer_start(&replay->timer, on_timer, 0, 0);
    }
}

/* Comes back when something is due by time alone. */
static void arm(struct tf_replay_feed *replay)
{
    uint64_t wait_ms = SAVE_MS;

    if (replay->tokens < 0) {
        uint64_t full_ms = (uint64_t)-replay->tokens * 1000 / replay->options.max_rate + 1;

        wait_ms = full_ms < SAVE_MS ? full_ms : SAVE_MS;
    }
    (void)uv_timer_start(&replay->timer, on_timer, wait_ms, 0);
}

static void on_timer_closed(uv_handle_t *handle)
{
    struct tf_replay_feed *replay = handle->data;
    void (*on_closed)(void *ctx) = replay->on_closed;
    void *ctx = replay->closed_ctx;

    for (uint32_t i = 0; i < replay->count; i++) {
        tf_frame_unref(item_at(replay, i)->frame);
    }
    tf_feed_close(replay->feed);
    tf_gzip_free(replay->gzip);
    tf_buf_fini(&replay->events);
    free(replay);
    on_closed(ctx);
}

static void close_if_still(struct tf_replay_feed *replay)
{
    if (!replay->reading && !replay->saving && !uv_is_closing((uv_handle_t *)&replay->timer)) {
        uv_close((uv_handle_t *)&replay->timer, on_timer_closed);
    }
}

static bool must_say_end(const struct tf_replay_feed *replay)
{
    return replay->ended && !replay->has_said_end && replay->count == 0 && replay->failed == 0 &&
           !replay->stopped;
}

static void turn(struct tf_replay_feed *replay)
{
    if (replay->closing) {
        close_if_still(replay);
        return;
    }
    arm(replay);
    if (must_say_end(replay)) {
        replay->has_said_end = true;
        replay->failed = say(replay, true);
    }
    if (may_read(replay)) {
        begin_read(replay);
    }
    if (must_save(replay)) {
        begin_save(replay);
    }
    if (may_hand_out(replay)) {
        replay->options.on_ready(replay->options.ctx);
    }
    if (!replay->told && is_settled(replay) && !replay->saving && !must_save(replay)) {
        replay->told = true;
        replay->options.on_idle(replay->options.ctx, replay->failed < 0 ? replay->failed
                                                     : is_done(replay)  ? 0
                                                                        : -ECANCELED);
    }
}

/* ---- open, stop, close -------------------------------------------------------------------------
 */

int tf_replay_feed_open(const struct tf_replay_feed_options *options, struct tf_replay_feed **out)
{
    struct tf_replay_feed *replay = calloc(1, sizeof *replay);
    int rc;

    if (replay == NULL) {
        return -ENOMEM;
    }
    assert(options->window >= 1 && options->window <= RING_MAX / 2);
    replay->options = *options;
    replay->state = options->job->state;
    replay->losses_before = replay->state.losses;
    tf_buf_init(&replay->events, EVENTS_MAX);
    replay->feed = tf_feed_new(&ops, replay);
    replay->gzip = tf_gzip_new(TF_COMPRESS_AUTO);
    replay->has_said_end = !has_to_say(replay);
    rc = replay->feed == NULL || replay->gzip == NULL ? -ENOMEM : 0;
    if (rc == 0 && has_to_say(replay)) {
        rc = say(replay, false);
    }
    if (rc < 0) {
        tf_feed_close(replay->feed);
        tf_gzip_free(replay->gzip);
        tf_buf_fini(&replay->events);
        free(replay);
        return rc;
    }
    (void)uv_timer_init(options->loop, &replay->timer); /* only fills the struct */
    replay->timer.data = replay;
    replay->filled_ms = replay->saved_ms = uv_now(options->loop);
    kick(replay);
    *out = replay;
    return 0;
}

struct tf_feed *tf_replay_feed_get(struct tf_replay_feed *replay)
{
    return replay->feed;
}

void tf_replay_feed_stop(struct tf_replay_feed *replay)
{
    replay->stopped = true;
    kick(replay);
}

void tf_replay_feed_give_up(struct tf_replay_feed *replay)
{
    replay->stopped = true;
    replay_rewind(replay);
}

void tf_replay_feed_close(struct tf_replay_feed *replay, void (*on_closed)(void *ctx), void *ctx)
{
    replay->closing = true;
    replay->on_closed = on_closed;
    replay->closed_ctx = ctx;
    close_if_still(replay);
}

void tf_replay_feed_progress(const struct tf_replay_feed *replay, struct tf_replay_progress *out)
{
    *out = replay->progress;
    out->records = replay->state.records;
}
