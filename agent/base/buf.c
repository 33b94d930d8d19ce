/*
 * buf.c - the growable buffer of base.h.
 *
 * It doubles, never passes its limit, and keeps TF_BUF_SLACK_BYTES behind its capacity. The first
 * error sticks, so that a sequence of appends is checked once, at its end.
 */
#include "taffrail/base.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define FIRST_CAPACITY_BYTES 256u

void tf_buf_init(struct tf_buf *buf, size_t limit_bytes)
{
    *buf = (struct tf_buf){.limit_bytes = limit_bytes};
}

void tf_buf_fini(struct tf_buf *buf)
{
    size_t limit_bytes = buf->limit_bytes;

    free(buf->data);
    tf_buf_init(buf, limit_bytes);
}

void tf_buf_wipe(struct tf_buf *buf)
{
    if (buf->data != NULL) {
        explicit_bzero(buf->data, buf->capacity);
    }
    tf_buf_fini(buf);
}

void tf_buf_clear(struct tf_buf *buf)
{
    buf->size = 0;
    buf->error = 0;
}

static int grow(struct tf_buf *buf, size_t needed_bytes)
{
    size_t capacity = buf->capacity == 0 ? FIRST_CAPACITY_BYTES : buf->capacity;
    char *data;

    while (capacity < needed_bytes) {
        capacity *= 2; /* cannot overflow: needed_bytes is at most the limit */
    }
    if (capacity > buf->limit_bytes) {
        capacity = buf->limit_bytes;
    }
    data = realloc(buf->data, capacity + TF_BUF_SLACK_BYTES);
    if (data == NULL) {
        buf->error = -ENOMEM;
        return buf->error;
    }
    memset(data + capacity, 0, TF_BUF_SLACK_BYTES);
    buf->data = data;
    buf->capacity = capacity;
    return 0;
}

int tf_buf_reserve(struct tf_buf *buf, size_t more_bytes)
{
    assert(buf->size <= buf->limit_bytes || buf->size == 0);
    if (buf->error != 0) {
        return buf->error;
    }
    if (more_bytes > buf->limit_bytes - buf->size) {
        buf->error = -EMSGSIZE;
        return buf->error;
    }
    if (buf->data == NULL || buf->size + more_bytes > buf->capacity) {
        return grow(buf, buf->size + more_bytes);
    }
    return 0;
}

int tf_buf_append(struct tf_buf *buf, const void *data, size_t size)
{
    int rc = tf_buf_reserve(buf, size);

    if (rc == 0 && size > 0) {
        memcpy(buf->data + buf->size, data, size);
        buf->size += size;
    }
    return rc;
}

int tf_buf_append_byte(struct tf_buf *buf, uint8_t byte)
{
    return tf_buf_append(buf, &byte, 1);
}

int tf_buf_append_text(struct tf_buf *buf, const char *text)
{
    return tf_buf_append(buf, text, strlen(text));
}

int tf_buf_printf(struct tf_buf *buf, const char *format, ...)
{
    va_list args;
    int length, rc;

    va_start(args, format);
    length = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (length < 0) {
        buf->error = buf->error != 0 ? buf->error : -EINVAL;
        return buf->error;
    }
    rc = tf_buf_reserve(buf, (size_t)length);
    if (rc < 0) {
        return rc;
    }
    va_start(args, format);
    (void)vsnprintf(buf->data + buf->size, (size_t)length + 1, format,
                    args); /* its NUL lies in the slack */
    va_end(args);
    buf->size += (size_t)length;
    return 0;
}

void tf_buf_consume(struct tf_buf *buf, size_t size)
{
    assert(size <= buf->size);
    if (size > 0) {
        memmove(buf->data, buf->data + size, buf->size - size);
        buf->size -= size;
    }
}

int tf_buf_write(struct tf_buf *buf, int fd, const volatile sig_atomic_t *stop)
{
    size_t at = 0;

    while (buf->error == 0 && at < buf->size) {
        ssize_t put = write(fd, buf->data + at, buf->size - at);

        if (put < 0 && (errno != EINTR || (stop != NULL && *stop != 0))) {
            return -errno;
        }
        at += put > 0 ? (size_t)put : 0;
    }
    if (buf->error != 0) {
        return buf->error;
    }
    tf_buf_clear(buf);
    return 0;
}
