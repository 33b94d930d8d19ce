/*
 * msgpack.c - msgpack values in their smallest form, straight into a buffer.
 *
 * Written by hand because it stands on the path of every record; reading is left to where hostile
 * bytes are checked. Errors stick in the buffer.
 */
#include "taffrail/event.h"

static void put_big_endian(struct tf_buf *buf, uint8_t head, uint64_t value, unsigned bytes)
{
    uint8_t out[9];

    out[0] = head;
    for (unsigned i = 0; i < bytes; i++) {
        out[1 + i] = (uint8_t)(value >> (8 * (bytes - 1 - i)));
    }
    (void)tf_buf_append(buf, out, 1 + bytes);
}

void tf_msgpack_text(struct tf_buf *buf, struct tf_slice text)
{
    if (text.size < 32) {
        (void)tf_buf_append_byte(buf, (uint8_t)(0xa0 | text.size));
    } else if (text.size <= UINT8_MAX) {
        put_big_endian(buf, 0xd9, text.size, 1);
    } else if (text.size <= UINT16_MAX) {
        put_big_endian(buf, 0xda, text.size, 2);
    } else {
        put_big_endian(buf, 0xdb, text.size, 4);
    }
    (void)tf_buf_append(buf, text.data, text.size);
}

void tf_msgpack_bytes(struct tf_buf *buf, struct tf_slice bytes)
{
    if (bytes.size <= UINT8_MAX) {
        put_big_endian(buf, 0xc4, bytes.size, 1);
    } else if (bytes.size <= UINT16_MAX) {
        put_big_endian(buf, 0xc5, bytes.size, 2);
    } else {
        put_big_endian(buf, 0xc6, bytes.size, 4);
    }
    (void)tf_buf_append(buf, bytes.data, bytes.size);
}

void tf_msgpack_uint(struct tf_buf *buf, uint64_t value)
{
    if (value < 0x80) {
        (void)tf_buf_append_byte(buf, (uint8_t)value);
    } else if (value <= UINT8_MAX) {
        put_big_endian(buf, 0xcc, value, 1);
    } else if (value <= UINT16_MAX) {
        put_big_endian(buf, 0xcd, value, 2);
    } else if (value <= UINT32_MAX) {
        put_big_endian(buf, 0xce, value, 4);
    } else {
        put_big_endian(buf, 0xcf, value, 8);
    }
}

void tf_msgpack_int(struct tf_buf *buf, int64_t value)
{
    if (value >= 0) {
        tf_msgpack_uint(buf, (uint64_t)value);
    } else if (value >= -32) {
        (void)tf_buf_append_byte(buf, (uint8_t)value);
    } else if (value >= INT8_MIN) {
        put_big_endian(buf, 0xd0, (uint64_t)value, 1);
    } else if (value >= INT16_MIN) {
        put_big_endian(buf, 0xd1, (uint64_t)value, 2);
    } else if (value >= INT32_MIN) {
        put_big_endian(buf, 0xd2, (uint64_t)value, 4);
    } else {
        put_big_endian(buf, 0xd3, (uint64_t)value, 8);
    }
}

void tf_msgpack_array(struct tf_buf *buf, uint32_t count)
{
    if (count < 16) {
        (void)tf_buf_append_byte(buf, (uint8_t)(0x90 | count));
    } else if (count <= UINT16_MAX) {
        put_big_endian(buf, 0xdc, count, 2);
    } else {
        put_big_endian(buf, 0xdd, count, 4);
    }
}

void tf_msgpack_map(struct tf_buf *buf, uint32_t count)
{
    if (count < 16) {
        (void)tf_buf_append_byte(buf, (uint8_t)(0x80 | count));
    } else if (count <= UINT16_MAX) {
        put_big_endian(buf, 0xde, count, 2);
    } else {
        put_big_endian(buf, 0xdf, count, 4);
    }
}

void tf_msgpack_bool(struct tf_buf *buf, bool value)
{
    (void)tf_buf_append_byte(buf, value ? 0xc3 : 0xc2);
}

void tf_msgpack_nil(struct tf_buf *buf)
{
    (void)tf_buf_append_byte(buf, 0xc0);
}
