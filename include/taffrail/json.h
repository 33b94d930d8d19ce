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

/* ---- documents of ours (json_document.c): small, read by path, not by token -------------------
 */

#define TF_JSON_DEPTH_MAX 32u /* deeper is refused */

/* The value of a key of an object, as it is written: borrows from object. False: it is not there,
 * or what stands before it is no JSON. */
bool tf_json_member(struct tf_slice object, const char *key, struct tf_slice *out);
/*
 * Takes the next member of an object, or the next item of an array, off `in`, which begins at its
 * bracket; name and value are as they are written, borrowed. False at the end. For a text that
 * tf_json_is_whole holds of: what stands between is not looked at.
 */
bool tf_json_next_member(struct tf_json *in, struct tf_slice *name, struct tf_slice *value);
bool tf_json_next_item(struct tf_json *in, struct tf_slice *value);
/* True when text is one value with nothing but space around it. */
bool tf_json_is_whole(struct tf_slice text);
/* Appends text as a string. What is not UTF-8 is U+FFFD, byte for byte. Errors stick in out. */
void tf_json_put(struct tf_buf *out, const char *text);

#endif
