/*
 * output.h - the contract of an output: it pulls frames from its feed and acknowledges them.
 *
 * All functions run on the loop. open loads and checks (certificates, paths) without touching the
 * network or writing; start begins to deliver. An output never blocks the loop: inflating,
 * printing and file I/O go to workers.
 */
#ifndef TAFFRAIL_OUTPUT_H
#define TAFFRAIL_OUTPUT_H

#include <uv.h>

#include "taffrail/config.h"
#include "taffrail/probe.h"
#include "taffrail/sandbox.h"
#include "taffrail/spool.h"

struct tf_tls_files;

struct tf_output_args {
    const char *name;
    const void *options; /* borrowed for the life of the output */
    struct tf_place at;
    uv_loop_t *loop;
    struct tf_tls_files *tls_files; /* for tf_tls_client_new (tls.h); NULL: not wanted */
};

/* How an output stands. peer and identity are "" unless up. connects: connections whose peer was
 * verified; retries: frames sent again. */
struct tf_output_status {
    bool up;
    char peer[128];     /* "127.0.0.1:24224", or "" */
    char identity[512]; /* proved by the peer, or "" */
    char why[256];      /* the last attempt's failure, while it is not up, or "" */
    uint64_t connects, retries;
    uint64_t failures;           /* attempts that came to no connection with a verified peer */
    int64_t certificate_until_s; /* end of our own certificate, UTC; 0: there is none */
};

struct tf_output_kind {
    const char *name;
    const struct tf_option *options;
    size_t options_bytes;
    uint32_t window;      /* for the feed, 1..32 */
    uint32_t unsaved_max; /* for the feed; 64 for forward, 0 none */
    int (*open)(const struct tf_output_args *args, void **self, struct tf_error *err);
    /* For `run`, after open: says what it will need once the agent is confined; what it does not
     * say is refused. NULL: it needs nothing. */
    void (*needs)(const void *self, struct tf_needs *needs);
    /* For `check`, after open, never started: appends where it would deliver, in words that follow
     * its name ("2 hosts"). NULL: there is nothing to tell. */
    void (*summarize)(const void *self, struct tf_buf *out);
    int (*start)(void *self, struct tf_feed *feed, struct tf_error *err);
    /* tf_feed_next may have a frame again; never re-entrant; may still come between close and
     * on_closed. */
    void (*wake)(void *self);
    void (*close)(void *self, void (*on_closed)(void *ctx),
                  void *ctx); /* frees self, then calls on_closed; also when never started. The
                             caller closes the feed inside on_closed */
    void (*status)(const void *self, struct tf_output_status *status);
    /*
     * For `check --connect`, after open and in place of start: tries each receiver as a started
     * output would, and sends nothing that one would store. on_probed comes for each in the order
     * of the configuration, then on_done, none of them inside this call; close only after that.
     * Each step has a bound of time, but for a lookup, which may hold the loop as long as the
     * system's resolver takes. Returns 0 or -ENOMEM. NULL: it connects to nothing.
     */
    int (*probe)(void *self, const struct tf_probe_events *events);
};

extern const struct tf_output_kind tf_output_forward;
extern const struct tf_output_kind tf_output_file;
extern const struct tf_output_kind tf_output_stdout;

#endif
