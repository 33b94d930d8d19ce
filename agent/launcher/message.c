/*
 * message.c - requests to the launcher and its notices as bytes; docs/launcher.md has the tables.
 *
 * Whoever reads one does not trust whoever wrote it: there is one way to write each, and all else
 * is refused. Of arguments only those are let through that the journald input has.
 */
#include "internal.h"

#include <errno.h>

#define ERRNO_MAX  4095u /* the kernel's MAX_ERRNO */
#define STATUS_MAX 255u
#define SIGNAL_MAX 64u

/* ---- requests ------------------------------------------------------------------------------- */

int tf_launch_request_encode(const struct tf_launch_request *request,
                             uint8_t out[TF_LAUNCH_BYTES_MAX])
{
    size_t used = TF_LAUNCH_HEAD;

    memset(out, 0, TF_LAUNCH_HEAD);
    out[0] = (uint8_t)request->op;
    tf_store32(out + 4, request->id);
    for (size_t i = 1; request->op == TF_LAUNCH_START && request->args[i] != NULL; i++) {
        size_t size = strlen(request->args[i]) + 1;

        if (size > TF_LAUNCH_BYTES_MAX - used) {
            return -E2BIG;
        }
        memcpy(out + used, request->args[i], size);
        used += size;
    }
    return (int)used;
}

/* Ends in NUL. */
static bool is_known(const char *argument)
{
    static const char *const with_value[] = {
        "--directory=", "--namespace=", "--after=",   "--since=",
        "--start=",     "--match=",     "--priority="};
    static const char *const alone[] = {"--verbose", "--or", "--and"};

    for (size_t i = 0; i < TF_COUNT(with_value); i++) {
        if (strncmp(argument, with_value[i], strlen(with_value[i])) == 0) {
            return true;
        }
    }
    for (size_t i = 0; i < TF_COUNT(alone); i++) {
        if (strcmp(argument, alone[i]) == 0) {
            return true;
        }
    }
    return false;
}

static int take_arguments(const char *text, size_t size, struct tf_launch_request *out)
{
    size_t count = 1;

    for (size_t at = 0; at < size; at += strlen(text + at) + 1) {
        if (count > TF_LAUNCH_ARGS_MAX || memchr(text + at, '\0', size - at) == NULL ||
            !is_known(text + at)) {
            return -EPROTO;
        }
        out->args[count++] = text + at;
    }
    out->args[count] = NULL;
    return 0;
}

int tf_launch_request_decode(const uint8_t *data, size_t size, struct tf_launch_request *out)
{
    if (size < TF_LAUNCH_HEAD || size > TF_LAUNCH_BYTES_MAX || data[0] < TF_LAUNCH_START ||
        data[0] > TF_LAUNCH_KILL || data[1] != 0 || data[2] != 0 || data[3] != 0) {
        return -EPROTO;
    }
    out->op = (enum tf_launch_op)data[0];
    out->id = tf_load32(data + 4);
    out->args[0] = NULL;
    if (out->op == TF_LAUNCH_KILL && size != TF_LAUNCH_HEAD) {
        return -EPROTO;
    }
    return take_arguments((const char *)data + TF_LAUNCH_HEAD, size - TF_LAUNCH_HEAD, out);
}

/* ---- notices -------------------------------------------------------------------------------- */

void tf_launch_notice_encode(const struct tf_launch_notice *notice,
                             uint8_t out[TF_LAUNCH_NOTICE_BYTES])
{
    memset(out, 0, TF_LAUNCH_NOTICE_BYTES);
    out[0] = (uint8_t)notice->end;
    tf_store32(out + 4, notice->id);
    tf_store32(out + 8, notice->number);
}

static bool is_sound(const struct tf_launch_notice *notice)
{
    switch (notice->end) {
    case TF_LAUNCH_FAILED:
        return notice->number > 0 && notice->number <= ERRNO_MAX;
    case TF_LAUNCH_EXITED:
        return notice->number <= STATUS_MAX;
    case TF_LAUNCH_SIGNALLED:
        return notice->number > 0 && notice->number <= SIGNAL_MAX;
    }
    return false;
}

int tf_launch_notice_decode(const uint8_t *data, size_t size, struct tf_launch_notice *out)
{
    if (size != TF_LAUNCH_NOTICE_BYTES || data[1] != 0 || data[2] != 0 || data[3] != 0) {
        return -EPROTO;
    }
    out->end = (enum tf_launch_end)data[0];
    out->id = tf_load32(data + 4);
    out->number = tf_load32(data + 8);
    return is_sound(out) ? 0 : -EPROTO;
}
