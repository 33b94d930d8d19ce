/*
 * datagram.c - modes native and syslog: a datagram socket that clients write to, where there is no
 * journald (native), or that journald forwards to (syslog: ForwardToSyslog=).
 *
 *     kernel's queue --on_readable--> ring: arrived --pump--> handed --committed--> durable
 *
 * Backpressure: when the ring is full, or while nothing is pumped, the socket is not read; the
 * kernel then makes senders wait (net.unix.max_dgram_qlen datagrams each), as it does for journald.
 * Nothing that was received is dropped but what passes a bound: a datagram over TF_DATAGRAM_MAX, a
 * memfd over FILE_MAX, one that fits no frame. Each is counted, and a gap `overrun` tells of them.
 *
 * A datagram cannot be read again. So what was handed to the pipeline stays in the ring until it is
 * durable; after a failed sync the source leaves the pipeline, which ends every batch of it either
 * durable or not at all, comes back, and the rest is decoded again (docs/guarantees.md C8). A kill
 * loses what was received and is not durable.
 *
 * Descriptors come from anybody. A memfd that is the entry (native, systemd.io "Native Journal
 * Protocol") is taken when it is fully sealed, so that its reader is safe from its writer, and read
 * by pread(2), never mapped; every other descriptor is closed, counted and said as `refused`.
 */
#include "internal.h"
#include "ring.h"
#include "socket.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdalign.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define NATIVE_PATH    "/run/systemd/journal/socket"
#define SYSLOG_PATH    "/run/systemd/journal/syslog"
#define RECEIVE_BYTES  (8 << 20) /* of the socket's buffer, as journald asks for */
#define FDS_MAX        16u       /* of one datagram; with more its control data is cut */
#define FILE_MAX       (TF_JOURNAL_ENTRY_MAX + (1u << 20))
#define WAKE_DATAGRAMS 64u     /* received before the loop goes on */
#define WAKE_NS        1000000 /* the same */
#define TELL_EVERY_MS  1000u
#define RETRY_MS       100u
#define DRAIN_MS       2000u /* at most, when the input closes */
#define ALL_SEALS      (F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW)

struct datagrams {
    struct tf_journal_source base; /* first */
    struct tf_journald *input;
    bool is_native;
    struct tf_socket_file file;
    struct tf_ring ring;
    uv_poll_t poll;
    uv_timer_t timer;
    bool is_reading;
    bool is_source;
    bool is_reviving; /* leaves the pipeline to come back */
    bool is_draining; /* the input closes: no more is received */
    bool is_late;     /* and no longer waits for the pump */

    /* Set before a wake, the worker's until `pumped`. */
    bool is_pumping;
    uint32_t pump_items_max; /* fewer after a batch that was too large */
    uint64_t pump_from, pump_to, pump_end;
    uint32_t pumped_items;
    struct tf_buf content; /* of a memfd */

    uint64_t newest_cookie; /* of a batch handed on; it is in the pipeline when above durable */
    /* Datagrams lost and not told of, and told of in a gap that may not be durable. */
    uint64_t lost, lost_bytes, unsure, unsure_bytes, unsure_at;
    uint64_t untold_refused;
    uint64_t told_ms;
};

/* ---- pump: on a worker ----------------------------------------------------------------------- */

/* 0 or a negative errno; a file that is shorter than it was has no seals, so there is none. */
static int read_file(struct datagrams *self, const struct tf_ring_item *item)
{
    size_t size = 0;
    int rc;

    tf_buf_clear(&self->content);
    rc = tf_buf_reserve(&self->content, item->file_bytes);
    while (rc == 0 && size < item->file_bytes) {
        ssize_t got = pread(item->fd, self->content.data + size, item->file_bytes - size,
                            (off_t)size); /* from its start, wherever its sender stands */

        if (got > 0) {
            size += (size_t)got;
        } else if (got == 0 || errno != EINTR) {
            rc = got == 0 ? -EIO : -errno;
        }
    }
    self->content.size = size;
    return rc;
}

static int decode_item(struct datagrams *self, const struct tf_ring_item *item,
                       struct tf_batch *batch)
{
    struct tf_slice bytes = tf_slice(tf_ring_data(item), item->bytes);
    const struct tf_journal_select *select = &self->input->select;
    int rc;

    if (!self->is_native) {
        return tf_syslog_decode(bytes, &item->sender, select, batch);
    }
    if (item->fd < 0) {
        return tf_native_decode(bytes, &item->sender, select, batch);
    }
    rc = read_file(self, item);
    if (rc == 0) {
        rc = tf_native_decode(tf_buf_slice(&self->content), &item->sender, select, batch);
    }
    if (self->content.data != NULL) { /* not redacted yet */
        explicit_bzero(self->content.data, self->content.size);
    }
    return rc;
}

/* Decodes until about TF_BLOCK_BYTES were read, or what has no room in the batch. */
static void datagrams_pump(struct tf_journal_source *base, struct tf_batch *batch,
                           struct tf_pump_result *result)
{
    struct datagrams *self = (struct datagrams *)base;
    uint64_t at = self->pump_from;
    const struct tf_ring_item *item;

    self->pumped_items = 0;
    self->pump_end = at;
    while (self->pumped_items < self->pump_items_max && batch->read_bytes < TF_BLOCK_BYTES) {
        int rc;

        item = tf_ring_walk(&self->ring, &at, self->pump_to);
        if (item == NULL) {
            self->pump_end = at; /* what is passed over at the ring's end counts as done */
            break;
        }
        rc = decode_item(self, item, batch);
        if (rc < 0 && self->pumped_items > 0) {
            break; /* what fitted goes on its way first */
        }
        self->pumped_items++;
        self->pump_end = at;
        batch->read_bytes += item->bytes + item->file_bytes;
        if (rc < 0) {
            result->status = rc;
            result->wake_at_ms = rc == -ENOMEM ? batch->now_ms + RETRY_MS : 0;
            return;
        }
    }
    result->cookie = batch->record_count > 0 ? self->pump_end : 0;
}

/* ---- telling --------------------------------------------------------------------------------- */

/* Once a second, and at the end. What it tells is booked as unsure until a later batch is durable.
 */
static void tell(struct datagrams *self)
{
    char text[192];

    if (self->untold_refused > 0) {
        (void)snprintf(
            text, sizeof text, "%llu %s that no client should send %s refused",
            (unsigned long long)self->untold_refused,
            tf_plural(self->untold_refused, "descriptor or datagram", "descriptors or datagrams"),
            tf_plural(self->untold_refused, "was", "were"));
        tf_log(
            TF_LOG_WARN, "refused",
            TF_DETAILS(TF_STR("input", self->input->name), TF_NUM("refused", self->untold_refused)),
            "%s", text);
        (void)tf_pipeline_audit(self->input->pipeline, "refused", text,
                                TF_DETAILS(TF_STR("reason", "descriptor"),
                                           TF_STR("input", self->input->name),
                                           TF_NUM("refused", self->untold_refused)));
        self->untold_refused = 0;
    }
    if (self->lost > 0 && self->is_source) {
        (void)snprintf(text, sizeof text,
                       "%llu %s of %llu bytes to input \"%.40s\" %s lost: larger than its "
                       "bounds, or not stored before it stopped",
                       (unsigned long long)self->lost,
                       tf_plural(self->lost, "datagram", "datagrams"),
                       (unsigned long long)self->lost_bytes, self->input->name,
                       tf_plural(self->lost, "is", "are"));
        if (tf_source_gap(&self->base.source, "overrun", text, self->lost_bytes, NULL) < 0) {
            return; /* again with the next */
        }
        self->unsure += self->lost;
        self->unsure_bytes += self->lost_bytes;
        self->unsure_at = self->ring.handed;
        self->lost = self->lost_bytes = 0;
    }
    self->told_ms = uv_now(self->input->loop);
}

static void on_timer(uv_timer_t *timer);

static void tell_soon(struct datagrams *self)
{
    uint64_t now_ms = uv_now(self->input->loop);

    if (!self->is_draining && !uv_is_active((const uv_handle_t *)&self->timer)) {
        uint64_t since_ms = now_ms - self->told_ms;

        (void)uv_timer_start(&self->timer, on_timer,
                             since_ms < TELL_EVERY_MS ? TELL_EVERY_MS - since_ms : 0, 0);
    }
}

static void refuse(struct datagrams *self, uint32_t count)
{
    tf_input_refused(&self->input->status, "descriptor", count);
    self->untold_refused += count;
    tell_soon(self);
}

static void lose(struct datagrams *self, uint64_t bytes)
{
    self->lost++;
    self->lost_bytes += bytes;
    tell_soon(self);
}

/* ---- receiving ------------------------------------------------------------------------------- */

/* What comes with a datagram. */
struct received {
    struct msghdr head;
    struct iovec bytes;
    alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(struct ucred)) +
                                         CMSG_SPACE(sizeof(struct timespec)) +
                                         CMSG_SPACE(FDS_MAX * sizeof(int))];
    struct tf_journal_sender sender;
    int fds[FDS_MAX];
    uint32_t fd_count;
};

static void take_control(struct received *got)
{
    got->sender = (struct tf_journal_sender){.received_ns = tf_now_ns()};
    got->fd_count = 0;
    for (struct cmsghdr *at = CMSG_FIRSTHDR(&got->head); at != NULL;
         at = CMSG_NXTHDR(&got->head, at)) {
        if (at->cmsg_level != SOL_SOCKET) {
            continue;
        }
        if (at->cmsg_type == SCM_CREDENTIALS) {
            struct ucred by;

            memcpy(&by, CMSG_DATA(at), sizeof by);
            got->sender.is_known = true;
            got->sender.pid = by.pid;
            got->sender.uid = by.uid;
            got->sender.gid = by.gid;
        } else if (at->cmsg_type == SCM_TIMESTAMPNS) {
            struct timespec when;

            memcpy(&when, CMSG_DATA(at), sizeof when);
            got->sender.received_ns = (int64_t)when.tv_sec * TF_S_IN_NS + when.tv_nsec;
        } else if (at->cmsg_type == SCM_RIGHTS) {
            size_t bytes = at->cmsg_len - CMSG_LEN(0);

            assert(bytes <= sizeof got->fds);
            memcpy(got->fds, CMSG_DATA(at), bytes);
            got->fd_count = (uint32_t)(bytes / sizeof(int));
        }
    }
}

static void close_fds(struct datagrams *self, struct received *got, uint32_t from)
{
    for (uint32_t i = from; i < got->fd_count; i++) {
        (void)close(got->fds[i]);
    }
    if (got->fd_count > from) {
        refuse(self, got->fd_count - from);
        got->fd_count = from;
    }
}

/* The size of a memfd that may be read; negative: it may not, or is no memfd (fcntl(2)). */
static int64_t sealed_bytes(int fd)
{
    int seals = fcntl(fd, F_GET_SEALS);
    struct stat found;

    if (seals < 0 || (seals & ALL_SEALS) != ALL_SEALS || fstat(fd, &found) < 0 ||
        !S_ISREG(found.st_mode)) {
        return -EPERM;
    }
    return found.st_size;
}

/* An empty datagram with a descriptor: the entry is in that file. False: there is none. */
static bool take_file(struct datagrams *self, struct received *got, struct tf_ring_item *item)
{
    int64_t size = sealed_bytes(got->fds[0]);

    if (size < 0) {
        close_fds(self, got, 0);
        return false;
    }
    if (size > (int64_t)FILE_MAX) {
        (void)close(got->fds[0]);
        lose(self, (uint64_t)size);
        return false;
    }
    item->fd = got->fds[0];
    item->file_bytes = (uint32_t)size;
    return true;
}

/* False: nothing waits in the kernel. */
static bool receive_one(struct datagrams *self)
{
    struct tf_ring_item *item = tf_ring_next(&self->ring);
    struct received got;
    ssize_t size;

    got.bytes = (struct iovec){.iov_base = tf_ring_data(item), .iov_len = TF_DATAGRAM_MAX};
    got.head = (struct msghdr){.msg_iov = &got.bytes,
                               .msg_iovlen = 1,
                               .msg_control = got.control,
                               .msg_controllen = sizeof got.control};
    size = recvmsg(self->file.fd, &got.head, MSG_DONTWAIT | MSG_CMSG_CLOEXEC | MSG_TRUNC);
    if (size < 0) {
        return errno == EINTR;
    }
    take_control(&got);
    if (size == 0 && !got.sender.is_known) {
        return false; /* the end of a socket that was shut down; whoever sends is known */
    }
    *item = (struct tf_ring_item){.fd = -1, .sender = got.sender};
    if ((got.head.msg_flags & MSG_CTRUNC) != 0) { /* more than FDS_MAX; the kernel closed some */
        close_fds(self, &got, 0);
        refuse(self, 1);
    }
    if (size > (ssize_t)TF_DATAGRAM_MAX) {
        close_fds(self, &got, 0);
        lose(self, (uint64_t)size);
        tf_ring_drop(&self->ring);
        return true;
    }
    close_fds(self, &got, self->is_native && size == 0 ? 1 : 0);
    item->bytes = (uint32_t)size;
    if (size > 0 || (got.fd_count > 0 && take_file(self, &got, item))) {
        tf_ring_keep(&self->ring);
    }
    return true;
}

static void receive(struct datagrams *self)
{
    uint64_t until_ns = uv_hrtime() + WAKE_NS;

    for (uint32_t i = 0; i < WAKE_DATAGRAMS && tf_ring_has_room(&self->ring) && receive_one(self) &&
                         uv_hrtime() < until_ns;
         i++) {
    }
}

/* ---- the source ------------------------------------------------------------------------------ */

static void on_readable(uv_poll_t *poll, int status, int events);

static void update_reading(struct datagrams *self)
{
    bool may_read = self->is_source && !self->is_draining && tf_ring_has_room(&self->ring);

    if (may_read == self->is_reading) {
        return;
    }
    self->is_reading = may_read;
    if (may_read) {
        (void)uv_poll_start(&self->poll, UV_READABLE, on_readable); /* fails for a closed fd */
    } else {
        (void)uv_poll_stop(&self->poll);
    }
}

static void end_source(struct datagrams *self)
{
    if (self->is_source) {
        self->is_source = false;
        tf_journal_source_remove(&self->base);
    }
}

/* What was not decoded when the input ends. */
static void count_rest(struct datagrams *self)
{
    uint64_t at = self->ring.handed;
    const struct tf_ring_item *item;

    while ((item = tf_ring_walk(&self->ring, &at, self->ring.arrived)) != NULL) {
        self->lost++;
        self->lost_bytes += (uint64_t)item->bytes + item->file_bytes;
    }
}

/* Wakes the pump when there is something to decode; else, when the input closes, ends. */
static void go_on(struct datagrams *self)
{
    if (self->is_draining && !self->is_late) {
        while (tf_ring_has_room(&self->ring) && receive_one(self)) { /* bounded: none may send */
        }
    }
    if (self->is_source && !self->is_pumping && !self->is_late &&
        self->ring.handed < self->ring.arrived) {
        self->is_pumping = true;
        self->pump_from = self->ring.handed;
        self->pump_to = self->ring.arrived;
        tf_source_wake(&self->base.source);
    }
    update_reading(self);
    if (self->is_draining && !self->is_pumping && self->is_source) {
        count_rest(self);
        tell(self);
        end_source(self);
    }
}

static void on_readable(uv_poll_t *poll, int status, int events)
{
    struct datagrams *self = poll->data;

    (void)events;
    if (status < 0) {
        self->input->status.errors[TF_INPUT_READ]++;
        tf_log(TF_LOG_ERROR, "receive", TF_DETAILS(TF_STR("input", self->input->name)),
               "the socket %s gives nothing any more: %s", self->file.path, uv_strerror(status));
        return;
    }
    receive(self);
    go_on(self);
}

static void on_timer(uv_timer_t *timer)
{
    struct datagrams *self = timer->data;

    if (self->is_draining) {
        self->is_late = true;
        if (self->base.source.state != TF_SOURCE_RUNNING) {
            self->is_pumping = false;
        }
        go_on(self);
        return;
    }
    tell(self);
}

/* Behind the newest batch that holds records there may be datagrams that came to nothing. */
static void release(struct datagrams *self)
{
    if (self->newest_cookie <= self->ring.durable) {
        tf_ring_release(&self->ring, self->ring.handed);
    }
}

static void take_less(struct datagrams *self)
{
    uint64_t at = self->ring.handed;
    const struct tf_ring_item *item;

    if (self->pumped_items > 1) {
        self->pump_items_max = self->pumped_items / 2;
        return;
    }
    item = tf_ring_walk(&self->ring, &at, self->pump_end);
    assert(item != NULL && at == self->pump_end);
    lose(self, (uint64_t)item->bytes + item->file_bytes);
    self->ring.handed = self->pump_end;
    release(self);
}

static void datagrams_pumped(struct tf_journal_source *base, const struct tf_pump_result *result)
{
    struct datagrams *self = (struct datagrams *)base;

    if (result->status == -ENOMEM && !self->is_late) {
        return; /* it is pumped again, by time */
    }
    self->is_pumping = false;
    if (result->status == -EMSGSIZE) {
        take_less(self);
    } else if (result->status == 0) {
        self->pump_items_max = UINT32_MAX;
        self->ring.handed = self->pump_end;
        self->newest_cookie = result->cookie != 0 ? result->cookie : self->newest_cookie;
        release(self);
    } else if (result->status != -ENOMEM) { /* a memfd that could not be read */
        take_less(self);
    }
    go_on(self);
}

static void datagrams_committed(struct tf_journal_source *base, uint64_t cookie)
{
    struct datagrams *self = (struct datagrams *)base;

    if (cookie > self->unsure_at) {
        self->unsure = self->unsure_bytes = 0;
    }
    tf_ring_release(&self->ring, cookie);
    release(self);
    go_on(self);
}

static void datagrams_rewind(struct tf_journal_source *base)
{
    struct datagrams *self = (struct datagrams *)base;

    self->is_pumping = false;
    self->is_reviving = true;
    self->pump_items_max = UINT32_MAX;
    end_source(self);
}

static void datagrams_close(struct tf_journal_source *base)
{
    struct datagrams *self = (struct datagrams *)base;

    if (self->is_draining) {
        return;
    }
    tf_socket_file_unlink(&self->file);
    (void)shutdown(self->file.fd, SHUT_RD); /* from now on sending fails; what was sent is taken */
    self->is_draining = true;
    (void)uv_timer_start(&self->timer, on_timer, DRAIN_MS, 0);
    go_on(self);
}

static int add_source(struct datagrams *self);

static void close_socket(struct datagrams *self)
{
    self->is_reading = false;
    tf_journald_close_handle(self->input, (uv_handle_t *)&self->poll);
    tf_journald_close_handle(self->input, (uv_handle_t *)&self->timer);
    tf_socket_file_unlink(&self->file);
    (void)close(self->file.fd);
    self->file.fd = -1;
}

/* No batch of it is under way any more. */
static void datagrams_free(struct tf_journal_source *base)
{
    struct datagrams *self = (struct datagrams *)base;
    int rc = 0;

    self->is_source = false;
    if (self->is_reviving) {
        self->is_reviving = false;
        self->ring.handed = self->newest_cookie = self->ring.durable;
        self->lost += self->unsure;
        self->lost_bytes += self->unsure_bytes;
        self->unsure = self->unsure_bytes = 0;
        rc = add_source(self);
    }
    if (rc < 0) {
        self->input->status.errors[TF_INPUT_READ]++;
        tf_log(TF_LOG_ERROR, "receive", TF_DETAILS(TF_STR("input", self->input->name)),
               "no memory to go on; the socket %s is closed", self->file.path);
    }
    if (!self->is_source) {
        close_socket(self);
        return;
    }
    if (self->lost > 0) {
        tell_soon(self);
    }
    go_on(self);
}

static const struct tf_journal_source_ops datagrams_ops = {.pump = datagrams_pump,
                                                           .pumped = datagrams_pumped,
                                                           .committed = datagrams_committed,
                                                           .rewind = datagrams_rewind,
                                                           .close = datagrams_close,
                                                           .free = datagrams_free};

static int add_source(struct datagrams *self)
{
    int rc;

    self->base = (struct tf_journal_source){.source = {.tag = self->input->tag}};
    rc = tf_journal_source_add(self->input, &self->base, &datagrams_ops, NULL);
    self->is_source = rc == 0;
    return rc;
}

/* ---- begin and end --------------------------------------------------------------------------- */

static int check(struct tf_journald *input, bool is_native, struct tf_error *err)
{
    struct datagrams *self = calloc(1, sizeof *self);

    if (self == NULL) {
        return -ENOMEM;
    }
    input->own = self;
    self->input = input;
    self->is_native = is_native;
    self->pump_items_max = UINT32_MAX;
    tf_buf_init(&self->content, FILE_MAX);
    return tf_socket_file_name(&self->file, &input->options->listen,
                               is_native ? NATIVE_PATH : SYSLOG_PATH, err);
}

static int check_native(struct tf_journald *input, struct tf_error *err)
{
    return check(input, true, err);
}

static int check_syslog(struct tf_journald *input, struct tf_error *err)
{
    return check(input, false, err);
}

/* As much as the kernel gives. */
static void widen(int fd)
{
    static const int receive_bytes = RECEIVE_BYTES;

    if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &receive_bytes, sizeof receive_bytes) < 0) {
        (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &receive_bytes, sizeof receive_bytes);
    }
}

/* A timer and a poll on the loop, and the source; on failure nothing of them is left. */
static int begin(struct datagrams *self)
{
    int rc = uv_poll_init(self->input->loop, &self->poll, self->file.fd);

    if (rc < 0) {
        return rc;
    }
    self->poll.data = self;
    (void)uv_timer_init(self->input->loop, &self->timer); /* cannot fail */
    self->timer.data = self;
    rc = add_source(self);
    if (rc < 0) {
        close_socket(self);
    }
    return rc;
}

static void datagrams_needs(const struct tf_journald *input, struct tf_needs *needs)
{
    tf_socket_file_needs(&((const struct datagrams *)input->own)->file, needs);
}

static int datagrams_start(struct tf_journald *input, struct tf_error *err)
{
    struct datagrams *self = input->own;
    const struct tf_place *at = &input->options->listen.at;
    int rc = tf_ring_init(&self->ring);

    if (rc == 0) {
        rc = tf_socket_file_open(&self->file, SOCK_DGRAM, at, err);
    }
    if (rc < 0) {
        return rc;
    }
    widen(self->file.fd);
    rc = begin(self);
    if (rc < 0) {
        return tf_error_add(err, at, "cannot receive on %s: %s", self->file.path, uv_strerror(rc));
    }
    tf_log(TF_LOG_INFO, "listening",
           TF_DETAILS(TF_STR("address", self->file.path), TF_STR("input", input->name)),
           "clients may send");
    update_reading(self);
    return 0;
}

static void datagrams_end(struct tf_journald *input)
{
    struct datagrams *self = input->own;

    if (self == NULL) {
        return;
    }
    if (self->file.fd >= 0) {
        tf_socket_file_unlink(&self->file);
        (void)close(self->file.fd);
    }
    tf_ring_fini(&self->ring);
    tf_buf_fini(&self->content);
    free(self);
    input->own = NULL;
}

const struct tf_journald_way tf_journald_native = {.check = check_native,
                                                   .needs = datagrams_needs,
                                                   .start = datagrams_start,
                                                   .free = datagrams_end};
const struct tf_journald_way tf_journald_syslog = {.check = check_syslog,
                                                   .needs = datagrams_needs,
                                                   .start = datagrams_start,
                                                   .free = datagrams_end};
