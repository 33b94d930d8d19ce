/*
 * base.h - what every room uses: slices, a bounded growable buffer, little-endian access, crash
 * points.
 *
 * Nothing here knows of logs. A slice borrows; a buffer owns. Sizes are bytes.
 */
#ifndef TAFFRAIL_BASE_H
#define TAFFRAIL_BASE_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define TF_PRINTF(format_at, first_at)         __attribute__((format(printf, format_at, first_at)))
#define TF_COUNT(array)                        (sizeof(array) / sizeof((array)[0]))
#define TF_CONTAINER_OF(pointer, type, member) ((type *)((char *)(pointer)-offsetof(type, member)))
#define TF_MS_IN_NS                            INT64_C(1000000)
#define TF_S_IN_NS                             INT64_C(1000000000)

/* Bytes that somebody else owns. Need not end in NUL; data may be NULL when size is 0. */
struct tf_slice {
    const char *data;
    size_t size;
};

static inline struct tf_slice tf_slice(const void *data, size_t size)
{
    return (struct tf_slice){.data = data, .size = size};
}

/* The characters of a C string, without its NUL. */
static inline struct tf_slice tf_slice_text(const char *text)
{
    return tf_slice(text, strlen(text));
}

static inline bool tf_slice_equal(struct tf_slice a, struct tf_slice b)
{
    return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

/*
 * A growable buffer that never exceeds limit_bytes. All functions return 0, -ENOMEM, or -EMSGSIZE
 * when the limit would be passed; the first error also sticks in error, later appends then do
 * nothing and return it, so that a sequence of appends may be checked once, at its end.
 * TF_BUF_SLACK_BYTES beyond capacity are always allocated, so that SIMD loads and stores may run
 * over the end. A zeroed struct with limit_bytes set is a sound empty buffer.
 */
#define TF_BUF_SLACK_BYTES 128
struct tf_buf {
    char *data;
    size_t size;
    size_t capacity;
    size_t limit_bytes;
    int error;
};

void tf_buf_init(struct tf_buf *buf, size_t limit_bytes);
void tf_buf_fini(struct tf_buf *buf);                      /* frees; sound to use again */
void tf_buf_wipe(struct tf_buf *buf);                      /* the same, for what may hold secrets */
void tf_buf_clear(struct tf_buf *buf);                     /* size and error 0, keeps the memory */
int tf_buf_reserve(struct tf_buf *buf, size_t more_bytes); /* makes room behind size */
int tf_buf_append(struct tf_buf *buf, const void *data, size_t size);
int tf_buf_append_byte(struct tf_buf *buf, uint8_t byte);
int tf_buf_append_text(struct tf_buf *buf, const char *text);
int tf_buf_printf(struct tf_buf *buf, const char *format, ...) TF_PRINTF(2, 3);
void tf_buf_consume(struct tf_buf *buf, size_t size); /* drops size bytes at the front */
/* Writes all of it to fd, which may block, and empties it. A signal ends that only when *stop is
 * not 0 (NULL: none does). 0; what the buffer's error is; -errno: a part may be written. */
int tf_buf_write(struct tf_buf *buf, int fd, const volatile sig_atomic_t *stop);

static inline struct tf_slice tf_buf_slice(const struct tf_buf *buf)
{
    return tf_slice(buf->data, buf->size);
}

/* Little-endian integers at any alignment. */
static inline void tf_store16(void *at, uint16_t value)
{
    uint8_t *to = at;

    to[0] = (uint8_t)value;
    to[1] = (uint8_t)(value >> 8);
}

static inline void tf_store32(void *at, uint32_t value)
{
    tf_store16(at, (uint16_t)value);
    tf_store16((uint8_t *)at + 2, (uint16_t)(value >> 16));
}

static inline void tf_store64(void *at, uint64_t value)
{
    tf_store32(at, (uint32_t)value);
    tf_store32((uint8_t *)at + 4, (uint32_t)(value >> 32));
}

static inline uint16_t tf_load16(const void *at)
{
    const uint8_t *from = at;

    return (uint16_t)(from[0] | from[1] << 8);
}

static inline uint32_t tf_load32(const void *at)
{
    return tf_load16(at) | (uint32_t)tf_load16((const uint8_t *)at + 2) << 16;
}

static inline uint64_t tf_load64(const void *at)
{
    return tf_load32(at) | (uint64_t)tf_load32((const uint8_t *)at + 4) << 32;
}

/* CRC32C (Castagnoli, RFC 3720 B.4), by SSE4.2 where the machine has it. Chain by passing the last
 * result; begin with 0. */
uint32_t tf_crc32c(uint32_t crc, const void *data, size_t size);

/* True when all bytes are valid UTF-8 (RFC 3629: no overlong form, no surrogate). */
bool tf_utf8_valid(const char *data, size_t size);

/* Standard base64 with padding, RFC 4648 section 4. Appends; returns as tf_buf_append. */
int tf_base64_append(struct tf_buf *buf, const void *data, size_t size);

/*
 * Matches text against a glob: `?` is one character, `*` any run without separator, `**` any run.
 * separator is '/' for paths and identities, '.' for tags, 0 for none (then `*` crosses
 * everything). Time is bounded by pattern length times text length.
 */
bool tf_glob_match(const char *pattern, struct tf_slice text, char separator);

/*
 * True when the group's right to read the open file, as st shows it, reaches nobody but us: it has
 * none; or the owner is root, and the group is ours (mounted secrets are 0440 so) or the bits come
 * from an access list that lets in no group and no user but us (systemd credentials are so).
 */
struct stat;
bool tf_group_read_is_ours(int fd, const struct stat *st);

/* Wall clock, ns since the epoch, UTC. */
int64_t tf_now_ns(void);

/*
 * Writes RFC 3339 in UTC with nine fraction digits, "2026-11-23T10:15:04.120000000Z": 30 characters
 * and NUL. Times outside the years 0000 to 9999 are clamped.
 */
#define TF_TIME_TEXT_BYTES 31
void tf_time_format(int64_t time_ns, char text[TF_TIME_TEXT_BYTES]);

/*
 * Writes the fewest of 15 to 17 digits that read back the same, always with '.' or 'e': "0.1",
 * "3.0", "1e+300". What is no number is "NaN", "Infinity" or "-Infinity".
 */
#define TF_DOUBLE_TEXT_BYTES 32
void tf_double_format(double value, char text[TF_DOUBLE_TEXT_BYTES]);

/* A figure with thousands separators: "1,204". Returns text. */
#define TF_COUNT_TEXT_BYTES 32u
const char *tf_count_text(uint64_t count, char text[TF_COUNT_TEXT_BYTES]);

/* The form of a noun, or of noun and verb, for so many. */
static inline const char *tf_plural(uint64_t count, const char *one, const char *more)
{
    return count == 1 ? one : more;
}

/* The same with a noun whose plural ends in s: "1 frame", "1,204 frames". noun has at most 28
 * characters; a longer one is cut. Returns text. */
#define TF_COUNTED_TEXT_BYTES 64u
const char *tf_counted_text(uint64_t count, const char *noun, char text[TF_COUNTED_TEXT_BYTES]);

/*
 * A place where a test build may die by SIGKILL: TAFFRAIL_CRASH="NAME:N" kills at the N-th pass of
 * NAME. Nothing in a release build. The names are listed in docs/guarantees.md.
 */
#ifdef TF_TEST_HOOKS
void tf_crash_point(const char *name);
#else
static inline void tf_crash_point(const char *name)
{
    (void)name;
}
#endif

#endif
