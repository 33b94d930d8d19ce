/*
 * forward.c - events of the Fluent Forward Protocol v1: from bytes of a stranger to a batch.
 *
 * The last of three steps, each cheaper to refuse than the next: tf_msgpack_size finds the end of a
 * message while it arrives, tf_message_head reads what stands around the events
 * (forward_message.c), tf_message_decode reads the events. `time` is EventTime (ext 0, 8 bytes), or
 * unsigned seconds; 0 means now. [[time, {metadata}], record] (v1.5) is read too, a map that is not
 * empty becomes the field `metadata`.
 *
 * What is written on a record, in this order: identity, via (relays only), the sender's own fields,
 * claimed, taffrail. No sender can set identity: see enum fate below.
 *
 * Bounds: nesting counts from the event's array (1) and ends at TF_BATCH_DEPTH_MAX, so that the
 * batch can always be printed. Inflating goes in steps of 64 KiB and ends at TF_MESSAGE_PLAIN_MAX
 * or, past RATIO_FREE_BYTES, at ratio RATIO_MAX: deflate itself ends at 1032, and a frame of one
 * long repeated line comes near.
 *
 * A message is taken whole or not at all: after an error the batch is empty.
 */
#include "forward.h"

#include <stdlib.h>

#include <zlib.h>

#define RECORD_FIELDS_MAX 1024u
#define KEY_MAX           1024u
#define INFLATE_STEP      (64u << 10)
#define RATIO_MAX         1000u
#define RATIO_FREE_BYTES  (2u << 20)

/* ---- inflating ----------------------------------------------------------------------------------
 */

/* One step of at most INFLATE_STEP; the size is charged before the step. Z_OK, Z_STREAM_END, or a
 * negative errno. */
static int inflate_step(z_stream *z, struct tf_buf *out, uint64_t *taken)
{
    const Bytef *before = z->next_in;
    int rc = tf_buf_reserve(out, INFLATE_STEP);
    int z_rc;

    if (rc < 0) {
        return rc;
    }
    z->next_out = (Bytef *)out->data + out->size;
    z->avail_out = INFLATE_STEP;
    z_rc = inflate(z, Z_NO_FLUSH);
    *taken += (uint64_t)(z->next_in - before);
    out->size += INFLATE_STEP - z->avail_out;
    if (z_rc == Z_MEM_ERROR) {
        return -ENOMEM;
    }
    if (z_rc != Z_OK && z_rc != Z_STREAM_END) {
        return -EPROTO; /* Z_BUF_ERROR: the member ends too early */
    }
    if (out->size > TF_MESSAGE_PLAIN_MAX ||
        (out->size > RATIO_FREE_BYTES && out->size / RATIO_MAX > *taken)) {
        return -EMSGSIZE;
    }
    return z_rc;
}

/* All members of payload into out. 0, -EPROTO, -EMSGSIZE, -ENOMEM. */
static int gunzip(struct tf_slice payload, struct tf_buf *out)
{
    z_stream z = {.next_in = (z_const Bytef *)payload.data, .avail_in = (uInt)payload.size};
    uint64_t taken = 0;
    int rc;

    if (payload.size == 0 || payload.size > TF_MESSAGE_BYTES_MAX) {
        return payload.size == 0 ? -EPROTO : -EMSGSIZE;
    }
    if (inflateInit2(&z, 16 + MAX_WBITS) != Z_OK) {
        return -ENOMEM;
    }
    do {
        rc = inflate_step(&z, out, &taken);
        if (rc == Z_STREAM_END && z.avail_in > 0) {
            rc = inflateReset(&z) == Z_OK ? Z_OK : -EPROTO;
        }
    } while (rc == Z_OK);
    (void)inflateEnd(&z);
    return rc == Z_STREAM_END ? 0 : rc;
}

/* 1 when the payload is gzip, 0 when plain, -EPROTO for anything else. */
static int is_gzip(const struct tf_message_layout *layout)
{
    struct reader at;
    struct token token;
    int rc = tf_message_option(layout, "compressed", &at);

    if (rc == -ENOENT) {
        return 0;
    }
    if (rc < 0 || next_of(&at, TF_MSGPACK_STR, &token) < 0) {
        return -EPROTO;
    }
    if (is_str(&token, "gzip")) {
        return 1;
    }
    return is_str(&token, "text") ? 0 : -EPROTO;
}

/* ---- records ------------------------------------------------------------------------------------
 */

struct decoding {
    struct tf_batch *batch;
    const struct tf_message_head *head;
    struct tf_slice identity;
    const char *contradicts;
    bool is_relay; /* and a taffrail sender */
    int64_t now_ns;
    uint32_t records;
};

/* What becomes of a key of the sender's record. */
enum fate {
    FATE_KEEP,
    FATE_CLAIM, /* under claimed */
    FATE_OWN,   /* a relay's identity or via: written at the front */
    FATE_MARKS, /* a taffrail sender's marks: ours are added at the end */
};

/* A record's map, after the first look. */
struct record_map {
    struct reader pairs;
    uint64_t count, claimed;
    struct reader identity, via, marks; /* at the value; at is NULL when there is none */
    uint64_t via_count, marks_count;
    struct reader metadata; /* whole map, or at is NULL */
};

static struct tf_field *add_field(struct decoding *d, struct tf_slice key, enum tf_value_type type,
                                  int *rc)
{
    const struct tf_record *record = &d->batch->records[d->batch->record_count - 1];
    struct tf_field *field;
    uint32_t at = 0;

    *rc = -EMSGSIZE;
    if (key.size > KEY_MAX || record->field_count >= RECORD_FIELDS_MAX) {
        return NULL;
    }
    *rc = key.size > 0 ? tf_batch_add_text(d->batch, key.data, key.size, &at) : 0;
    if (*rc < 0) {
        return NULL;
    }
    field = tf_batch_add_field(d->batch, at, (uint32_t)key.size, type);
    *rc = field != NULL ? 0 : -EMSGSIZE;
    return field;
}

static int add_container(struct decoding *d, struct tf_slice key, enum tf_value_type type,
                         uint64_t count)
{
    int rc;
    struct tf_field *field = add_field(d, key, type, &rc);

    if (field != NULL) {
        field->value.count = (uint32_t)count;
    }
    return rc;
}

static int add_bytes(struct decoding *d, struct tf_slice key, enum tf_value_type type,
                     struct tf_slice bytes)
{
    int rc;
    uint32_t at = 0;
    size_t index;

    if (add_field(d, key, type, &rc) == NULL) {
        return rc;
    }
    index = d->batch->field_count - 1;
    rc = tf_batch_add_text(d->batch, bytes.data, bytes.size, &at);
    d->batch->fields[index].value.text.at = at;
    d->batch->fields[index].value.text.size = (uint32_t)bytes.size;
    return rc;
}

static int event_time(struct tf_slice bytes, int64_t *time_ns)
{
    const uint8_t *at = (const uint8_t *)bytes.data;
    uint64_t nanoseconds = big_endian(at + 4, 4);

    if (nanoseconds >= (uint64_t)TF_S_IN_NS) {
        return -EPROTO;
    }
    *time_ns = (int64_t)big_endian(at, 4) * TF_S_IN_NS + (int64_t)nanoseconds;
    return 0;
}

/* An EventTime that is the value of a field becomes its text. */
static int add_time(struct decoding *d, struct tf_slice key, struct tf_slice bytes)
{
    char text[TF_TIME_TEXT_BYTES];
    int64_t time_ns;
    int rc = event_time(bytes, &time_ns);

    if (rc < 0) {
        return rc;
    }
    tf_time_format(time_ns, text);
    return add_bytes(d, key, TF_VALUE_TEXT, tf_slice_text(text));
}

static int add_scalar(struct decoding *d, struct tf_slice key, const struct token *token)
{
    static const enum tf_value_type types[] = {[TF_MSGPACK_NIL] = TF_VALUE_NIL,
                                               [TF_MSGPACK_UINT] = TF_VALUE_UINT,
                                               [TF_MSGPACK_INT] = TF_VALUE_INT,
                                               [TF_MSGPACK_DOUBLE] = TF_VALUE_DOUBLE};
    enum tf_value_type type;
    struct tf_field *field;
    int rc;

    if (token->kind == TF_MSGPACK_FLAG) {
        type = token->number != 0 ? TF_VALUE_TRUE : TF_VALUE_FALSE;
    } else {
        type = types[token->kind];
    }
    field = add_field(d, key, type, &rc);
    if (field == NULL) {
        return rc;
    }
    if (token->kind == TF_MSGPACK_DOUBLE) {
        field->value.d = token->real;
    } else if (token->kind == TF_MSGPACK_INT) {
        field->value.i = (int64_t)token->number;
    } else if (token->kind == TF_MSGPACK_UINT) {
        field->value.u = token->number;
    }
    return 0;
}

static int next_key(struct reader *in, struct tf_slice *key)
{
    struct token token;
    int rc = next_of(in, TF_MSGPACK_STR, &token);

    if (rc < 0 || !tf_utf8_valid(token.bytes.data, token.bytes.size)) {
        return -EPROTO;
    }
    *key = token.bytes;
    return token.bytes.size > KEY_MAX ? -EMSGSIZE : 0;
}

/* One value with its children, from *in. depth is its own if it is a container; recursion ends with
 * it. */
static int add_value(struct decoding *d, struct tf_slice key, struct reader *in, uint32_t depth)
{
    struct token token;
    int rc = next(in, &token);

    if (rc < 0) {
        return rc;
    }
    if (token.kind == TF_MSGPACK_STR || token.kind == TF_MSGPACK_BIN) {
        return add_bytes(d, key, token.kind == TF_MSGPACK_STR ? TF_VALUE_TEXT : TF_VALUE_BYTES,
                         token.bytes);
    }
    if (token.kind == TF_MSGPACK_EXT) {
        return add_time(d, key, token.bytes);
    }
    if (token.kind != TF_MSGPACK_MAP && token.kind != TF_MSGPACK_ARRAY) {
        return add_scalar(d, key, &token);
    }
    if (depth > TF_BATCH_DEPTH_MAX) {
        return -EPROTO;
    }
    if (token.number > RECORD_FIELDS_MAX) {
        return -EMSGSIZE;
    }
    rc = add_container(d, key, token.kind == TF_MSGPACK_MAP ? TF_VALUE_MAP : TF_VALUE_ARRAY,
                       token.number);
    for (uint64_t i = 0; i < token.number && rc == 0; i++) {
        struct tf_slice child = tf_slice(NULL, 0);

        rc = token.kind == TF_MSGPACK_MAP ? next_key(in, &child) : 0;
        if (rc == 0) {
            rc = add_value(d, child, in, depth + 1);
        }
    }
    return rc;
}

static bool is_one_of(struct tf_slice key, const char *const *names, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (tf_slice_equal(key, tf_slice_text(names[i]))) {
            return true;
        }
    }
    return false;
}

/* A relay is trusted with identity, via and claimed, each of the right type and once. */
static enum fate fate_at_relay(struct tf_slice key)
{
    static const char *const own[] = {"identity", "via"};

    return is_one_of(key, own, TF_COUNT(own)) ? FATE_OWN : FATE_KEEP;
}

static enum fate fate_of(const struct decoding *d, struct tf_slice key)
{
    static const char *const foreign[] = {"time",    "tag",      "identity", "via",
                                          "claimed", "taffrail", "host"};
    static const char *const taffrail[] = {"identity", "via", "claimed"};

    if (!d->head->has_taffrail) {
        return is_one_of(key, foreign, TF_COUNT(foreign)) ? FATE_CLAIM : FATE_KEEP;
    }
    if (tf_slice_equal(key, tf_slice_text("taffrail"))) {
        return FATE_MARKS;
    }
    if (d->is_relay) {
        return fate_at_relay(key);
    }
    return is_one_of(key, taffrail, TF_COUNT(taffrail)) ? FATE_CLAIM : FATE_KEEP;
}

/* Notes where a relay's identity or via, or the marks, are. -EPROTO when twice or of another type.
 */
static int note(struct record_map *map, struct tf_slice key, struct reader at)
{
    bool is_identity = tf_slice_equal(key, tf_slice_text("identity"));
    bool is_via = tf_slice_equal(key, tf_slice_text("via"));
    struct reader *place = is_identity ? &map->identity : is_via ? &map->via : &map->marks;
    struct reader in = at;
    struct token token;

    if (place->at != NULL || next_of(&in,
                                     is_identity ? TF_MSGPACK_STR
                                     : is_via    ? TF_MSGPACK_ARRAY
                                                 : TF_MSGPACK_MAP,
                                     &token) < 0) {
        return -EPROTO;
    }
    if (is_identity) {
        *place = at;
        return token.bytes.size > 0 ? 0 : -EPROTO;
    }
    *place = in;
    if (is_via) {
        map->via_count = token.number;
    } else {
        map->marks_count = token.number;
    }
    return token.number < RECORD_FIELDS_MAX ? 0 : -EMSGSIZE;
}

/* The first look: counts what moves, and leaves *in behind the map. */
static int survey(const struct decoding *d, struct reader *in, struct record_map *map)
{
    struct token token;
    int rc = next_of(in, TF_MSGPACK_MAP, &token);

    if (rc < 0) {
        return rc;
    }
    if (token.number > RECORD_FIELDS_MAX) {
        return -EMSGSIZE;
    }
    map->count = token.number;
    map->pairs = *in;
    for (uint64_t i = 0; i < map->count; i++) {
        struct tf_slice key;
        enum fate fate;

        rc = next_key(in, &key);
        if (rc < 0) {
            return rc;
        }
        fate = fate_of(d, key);
        if (fate == FATE_CLAIM) {
            map->claimed++;
        } else if (fate != FATE_KEEP) {
            rc = note(map, key, *in);
        }
        if (rc == 0) {
            rc = skip(in, 1);
        }
        if (rc < 0) {
            return rc;
        }
    }
    return 0;
}

/* Writes all fields of one fate, in the sender's order. Records are 2 deep: array, map. */
static int add_fields(struct decoding *d, const struct record_map *map, enum fate fate,
                      uint32_t depth)
{
    struct reader in = map->pairs;
    int rc = 0;

    for (uint64_t i = 0; i < map->count && rc == 0; i++) {
        struct tf_slice key;

        rc = next_key(&in, &key);
        if (rc == 0) {
            rc = fate_of(d, key) == fate ? add_value(d, key, &in, depth) : skip(&in, 1);
        }
    }
    return rc;
}

/* identity, and of a relay via: the identity it states stays, its own proved one joins via. */
static int add_identity(struct decoding *d, const struct record_map *map)
{
    struct reader in = map->identity;
    int rc;

    if (map->identity.at == NULL) {
        rc = add_bytes(d, tf_slice_text("identity"), TF_VALUE_TEXT, d->identity);
    } else {
        rc = add_value(d, tf_slice_text("identity"), &in, 3);
    }
    if (rc < 0 || (map->identity.at == NULL && map->via.at == NULL)) {
        return rc;
    }
    rc = add_container(d, tf_slice_text("via"), TF_VALUE_ARRAY, map->via_count + 1);
    in = map->via;
    for (uint64_t i = 0; i < map->via_count && rc == 0; i++) {
        rc = add_value(d, tf_slice(NULL, 0), &in, 4);
    }
    return rc == 0 ? add_bytes(d, tf_slice(NULL, 0), TF_VALUE_TEXT, d->identity) : rc;
}

/* The sender's marks without those that are ours to set now, then ours. */
static int add_marks(struct decoding *d, const struct record_map *map)
{
    struct tf_slice ours[2] = {
        tf_slice(d->contradicts, d->contradicts == NULL ? 0 : strlen(d->contradicts)),
        d->head->replayed};
    static const char *const names[2] = {"contradicts", "replayed"};
    struct reader in = map->marks;
    uint32_t count = 0;
    size_t index;
    int rc;

    if (map->marks.at == NULL && ours[0].size == 0 && ours[1].size == 0) {
        return 0;
    }
    rc = add_container(d, tf_slice_text("taffrail"), TF_VALUE_MAP, 0);
    index = d->batch->field_count - 1;
    for (uint64_t i = 0; i < map->marks_count && rc == 0; i++) {
        struct tf_slice key;
        bool is_ours;

        rc = next_key(&in, &key);
        if (rc < 0) {
            break;
        }
        is_ours = (ours[0].size > 0 && is_one_of(key, &names[0], 1)) ||
                  (ours[1].size > 0 && is_one_of(key, &names[1], 1));
        rc = is_ours ? skip(&in, 1) : add_value(d, key, &in, 4);
        count += is_ours ? 0 : 1;
    }
    for (unsigned i = 0; i < 2 && rc == 0; i++) {
        if (ours[i].size > 0) {
            rc = add_bytes(d, tf_slice_text(names[i]), TF_VALUE_TEXT, ours[i]);
            count++;
        }
    }
    if (rc == 0) {
        d->batch->fields[index].value.count = count;
    }
    return rc;
}

/* [time, {metadata}] or time. */
static int read_time(struct decoding *d, struct reader *in, struct record_map *map,
                     int64_t *time_ns)
{
    struct token token, wrap = {.kind = TF_MSGPACK_NIL};
    int rc = next(in, &token);

    if (rc == 0 && token.kind == TF_MSGPACK_ARRAY) {
        wrap = token;
        rc = wrap.number == 2 ? next(in, &token) : -EPROTO;
    }
    if (rc < 0) {
        return rc;
    }
    if (token.kind == TF_MSGPACK_EXT) {
        rc = event_time(token.bytes, time_ns);
    } else if (token.kind == TF_MSGPACK_UINT &&
               token.number <= (uint64_t)(INT64_MAX / TF_S_IN_NS)) {
        *time_ns = (int64_t)token.number * TF_S_IN_NS;
    } else {
        rc = -EPROTO;
    }
    *time_ns = rc == 0 && *time_ns == 0 ? d->now_ns : *time_ns;
    if (rc == 0 && wrap.kind == TF_MSGPACK_ARRAY) {
        struct reader start = *in;

        rc = next_of(in, TF_MSGPACK_MAP, &token);
        if (rc == 0 && token.number > 0) {
            map->metadata = start;
        }
        rc = rc == 0 ? skip(in, children_of(&token)) : rc;
    }
    return rc;
}

/* time and record, from *in, as one record of the batch. */
static int add_event(struct decoding *d, struct reader *in)
{
    struct record_map map = {0};
    int64_t time_ns = 0;
    int rc = read_time(d, in, &map, &time_ns);

    if (rc == 0) {
        rc = survey(d, in, &map);
    }
    if (rc < 0) {
        return rc;
    }
    if (++d->records > TF_BATCH_RECORDS_MAX ||
        tf_batch_add_record(d->batch, time_ns, TF_STREAM_OTHER) == NULL) {
        return -EMSGSIZE;
    }
    rc = add_identity(d, &map);
    if (rc == 0) {
        rc = add_fields(d, &map, FATE_KEEP, 3);
    }
    if (rc == 0 && map.metadata.at != NULL) {
        rc = add_value(d, tf_slice_text("metadata"), &map.metadata, 3);
    }
    if (rc == 0 && map.claimed > 0) {
        rc = add_container(d, tf_slice_text("claimed"), TF_VALUE_MAP, map.claimed);
        rc = rc == 0 ? add_fields(d, &map, FATE_CLAIM, 4) : rc;
    }
    return rc == 0 ? add_marks(d, &map) : rc;
}

static int add_pair(struct decoding *d, struct reader *in)
{
    struct token token;
    int rc = next_of(in, TF_MSGPACK_ARRAY, &token);

    if (rc < 0 || token.number != 2) {
        return -EPROTO;
    }
    return add_event(d, in);
}

static int add_packed(struct decoding *d, struct reader in)
{
    int rc = 0;

    while (rc == 0 && bytes_left(&in) > 0) {
        rc = add_pair(d, &in);
    }
    return rc;
}

static int add_gzip(struct decoding *d, const struct reader *in)
{
    struct tf_buf plain;
    int rc;

    tf_buf_init(&plain, TF_MESSAGE_PLAIN_MAX + INFLATE_STEP);
    rc = gunzip(tf_slice(in->at, bytes_left(in)), &plain);
    if (rc == 0) {
        rc = add_packed(d, reader_of(tf_buf_slice(&plain)));
    }
    if (plain.data != NULL) { /* not redacted yet */
        explicit_bzero(plain.data, plain.size);
    }
    tf_buf_fini(&plain);
    return rc;
}

static int add_events(struct decoding *d, struct tf_message_layout *layout)
{
    int rc = is_gzip(layout);

    if (rc < 0 || (rc == 1 && layout->mode != PACKED)) {
        return -EPROTO;
    }
    if (layout->mode == PACKED) {
        return rc == 1 ? add_gzip(d, &layout->events) : add_packed(d, layout->events);
    }
    if (layout->mode == ONE) {
        return add_event(d, &layout->events);
    }
    rc = 0;
    for (uint64_t i = 0; i < layout->count && rc == 0; i++) {
        rc = add_pair(d, &layout->events);
    }
    return rc;
}

int tf_message_decode(struct tf_slice message, const struct tf_message_head *head,
                      const char *identity, bool is_relay, const char *contradicts, int64_t now_ns,
                      struct tf_batch *batch)
{
    struct decoding d = {.batch = batch,
                         .head = head,
                         .identity = tf_slice_text(identity),
                         .contradicts = contradicts,
                         .is_relay = is_relay && head->has_taffrail,
                         .now_ns = now_ns};
    struct tf_message_layout layout;
    int rc = tf_message_find(message, &layout);

    if (rc == 0) {
        rc = add_events(&d, &layout);
    }
    if (rc < 0) {
        int reset_rc = tf_batch_reset(batch);

        return reset_rc < 0 ? reset_rc : rc;
    }
    batch->read_bytes = message.size;
    return 0;
}
