/*
 * msgpack.h - what the first byte of a msgpack value says (the msgpack specification, "Formats").
 *
 * Each reader of msgpack has bounds and errors of its own; what a lead byte means is the same for
 * all of them.
 */
#ifndef TAFFRAIL_MSGPACK_H
#define TAFFRAIL_MSGPACK_H

#include <stdint.h>

enum tf_msgpack_kind {
    TF_MSGPACK_NIL,
    TF_MSGPACK_FLAG,
    TF_MSGPACK_UINT,
    TF_MSGPACK_INT,
    TF_MSGPACK_DOUBLE,
    TF_MSGPACK_STR,
    TF_MSGPACK_BIN,
    TF_MSGPACK_EXT, /* one byte of type is behind its length */
    TF_MSGPACK_ARRAY,
    TF_MSGPACK_MAP,
    TF_MSGPACK_NEVER /* 0xc1, which does not exist */
};

struct tf_msgpack_lead {
    enum tf_msgpack_kind kind;
    uint8_t wide;  /* bytes behind it of the number, the length or the count; 0: it is `fixed` */
    uint8_t fixed; /* of INT as two's complement */
};

static inline struct tf_msgpack_lead tf_msgpack_lead(uint8_t byte)
{
    static const struct tf_msgpack_lead leads[] = {
        /* 0xc0 to 0xdf */
        {TF_MSGPACK_NIL, 0, 0},  {TF_MSGPACK_NEVER, 0, 0},  {TF_MSGPACK_FLAG, 0, 0},
        {TF_MSGPACK_FLAG, 0, 1}, {TF_MSGPACK_BIN, 1, 0},    {TF_MSGPACK_BIN, 2, 0},
        {TF_MSGPACK_BIN, 4, 0},  {TF_MSGPACK_EXT, 1, 0},    {TF_MSGPACK_EXT, 2, 0},
        {TF_MSGPACK_EXT, 4, 0},  {TF_MSGPACK_DOUBLE, 4, 0}, {TF_MSGPACK_DOUBLE, 8, 0},
        {TF_MSGPACK_UINT, 1, 0}, {TF_MSGPACK_UINT, 2, 0},   {TF_MSGPACK_UINT, 4, 0},
        {TF_MSGPACK_UINT, 8, 0}, {TF_MSGPACK_INT, 1, 0},    {TF_MSGPACK_INT, 2, 0},
        {TF_MSGPACK_INT, 4, 0},  {TF_MSGPACK_INT, 8, 0},    {TF_MSGPACK_EXT, 0, 1},
        {TF_MSGPACK_EXT, 0, 2},  {TF_MSGPACK_EXT, 0, 4},    {TF_MSGPACK_EXT, 0, 8},
        {TF_MSGPACK_EXT, 0, 16}, {TF_MSGPACK_STR, 1, 0},    {TF_MSGPACK_STR, 2, 0},
        {TF_MSGPACK_STR, 4, 0},  {TF_MSGPACK_ARRAY, 2, 0},  {TF_MSGPACK_ARRAY, 4, 0},
        {TF_MSGPACK_MAP, 2, 0},  {TF_MSGPACK_MAP, 4, 0},
    };

    if (byte < 0x80) {
        return (struct tf_msgpack_lead){TF_MSGPACK_UINT, 0, byte};
    }
    if (byte < 0x90) {
        return (struct tf_msgpack_lead){TF_MSGPACK_MAP, 0, byte & 0x0f};
    }
    if (byte < 0xa0) {
        return (struct tf_msgpack_lead){TF_MSGPACK_ARRAY, 0, byte & 0x0f};
    }
    if (byte < 0xc0) {
        return (struct tf_msgpack_lead){TF_MSGPACK_STR, 0, byte & 0x1f};
    }
    if (byte >= 0xe0) {
        return (struct tf_msgpack_lead){TF_MSGPACK_INT, 0, byte};
    }
    return leads[byte - 0xc0];
}

#endif
