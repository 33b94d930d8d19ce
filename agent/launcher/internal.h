/*
 * internal.h - what the files of the launcher room share.
 *
 *     message.c   requests and notices as bytes
 *     server.c    the process: starts, kills, waits, tells
 *     client.c    main's side: forks it, asks, hears
 */
#ifndef TAFFRAIL_LAUNCHER_INTERNAL_H
#define TAFFRAIL_LAUNCHER_INTERNAL_H

#include "taffrail/base.h"
#include "taffrail/launcher.h"
#include "taffrail/process.h"

/* ---- message.c ------------------------------------------------------------------------------ */

#define TF_LAUNCH_HEAD         8u
#define TF_LAUNCH_BYTES_MAX    (TF_LAUNCH_HEAD + TF_LAUNCH_TEXT_MAX)
#define TF_LAUNCH_NOTICE_BYTES 12u

enum tf_launch_op { TF_LAUNCH_START = 1, TF_LAUNCH_KILL };

struct tf_launch_request {
    enum tf_launch_op op;
    uint32_t id;                              /* of the run, main's choice */
    const char *args[TF_LAUNCH_ARGS_MAX + 2]; /* [0] is free; borrowed; ends in NULL */
};

enum tf_launch_end { TF_LAUNCH_FAILED = 1, TF_LAUNCH_EXITED, TF_LAUNCH_SIGNALLED };

struct tf_launch_notice {
    enum tf_launch_end end;
    uint32_t id;
    uint32_t number; /* an errno, an exit status, a signal */
};

/* Returns the bytes written, or -E2BIG. */
int tf_launch_request_encode(const struct tf_launch_request *request,
                             uint8_t out[TF_LAUNCH_BYTES_MAX]);
void tf_launch_notice_encode(const struct tf_launch_notice *notice,
                             uint8_t out[TF_LAUNCH_NOTICE_BYTES]);

/* 0 or -EPROTO; out is then undefined. */
int tf_launch_request_decode(const uint8_t *data, size_t size, struct tf_launch_request *out);
int tf_launch_notice_decode(const uint8_t *data, size_t size, struct tf_launch_notice *out);

/* ---- server.c ------------------------------------------------------------------------------- */

struct tf_launch_work {
    const char *program;
    const struct tf_sandbox_options *options;
    const struct tf_needs *needs;
};

/* All that the process does (struct tf_process_work). */
int tf_launch_serve(void *work);

/* ---- client.c ------------------------------------------------------------------------------- */

struct tf_launcher {
    struct tf_process process;
    int fd;       /* owned; main's end */
    bool is_shut; /* asking is of no use */
    bool is_attached;
    uv_poll_t heard;
    uv_timer_t late; /* when what it was told last has to be read */
    void (*on_ended)(void *ctx);
    void *ctx;
    uint32_t id;                 /* of the newest run */
    struct tf_launched *running; /* each until its end is told */
    uint8_t bytes[TF_LAUNCH_BYTES_MAX];
};

#endif
