/*
 * json.h - what readers of JSON (RFC 8259) share: space, punctuation, and strings.
 *
 * A reader is two pointers into borrowed bytes; each function passes over what it takes. After a
 * failure the reader stands somewhere in what was wrong. What stands between the tokens is each
 * reader's own affair: docker's lines are read with some room, bodies strictly.
 */
#ifndef TAFFRAIL_JSON_H
#define TAFFRAIL_JSON_H

#include "taffrail/base.h"

struct tf_json {
    const char *at, *end;
};

static inline struct tf_json tf_json(struct tf_slice text)
{
    return (struct tf_json){.at = text.data, .end = text.data + text.size};
}

static inline void tf_json_skip_space(struct tf_json *in)
{
    while (in->at < in->end &&
           (*in->at == ' ' || *in->at == '\t' || *in->at == '\r' || *in->at == '\n')) {
        in->at++;
    }
}

/* Passes over `byte` and the space before it; false when something else stands there. */
static inline bool tf_json_take(struct tf_json *in, char byte)
{
    tf_json_skip_space(in);
    if (in->at == in->end || *in->at != byte) {
        return false;
    }
    in->at++;
    return true;
}

/* A string, the space before it passed over: *out borrows the bytes between its quotes as they are
 * written. Neither its escapes nor its bytes are looked at. */
bool tf_json_raw(struct tf_json *in, struct tf_slice *out);

/*
 * The same string with its escapes undone, \u0000 too; a surrogate without its partner becomes
 * U+FFFD. `to` has room for as many bytes as are left in `in`, and all of these may be overwritten;
 * what is written is no longer than the string with its quotes, for an escape is longer than what
 * it stands for. A control character (below 0x20) is an error unless takes_controls; other bytes
 * are copied as they are, be they UTF-8 or not.
 * Returns where what was written ends, or NULL when it is no string.
 */
char *tf_json_text(struct tf_json *in, char *to, bool takes_controls);

#endif
