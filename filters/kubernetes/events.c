/*
 * events.c - what an object of the API server's answers does to the pods.
 *
 * A watch sends {"type":T,"object":O} (Kubernetes API concepts, "Efficient detection of changes"):
 *
 *     ADDED, MODIFIED   O is the pod as it is now
 *     DELETED           O is the pod as it was
 *     BOOKMARK          O has nothing but the version that the watch has come to
 *     ERROR             O is a Status; code 410: the version to go on from is not known any more
 *
 * The version in O is where the next watch goes on. It is opaque, so it is only kept and sent back.
 * An object that is malformed, as one without a version, is passed over and counted: what it would
 * have changed comes with the next list. One that there is no memory for ends the answer; the
 * version stays before it, so that it comes again.
 */
#include "kubernetes.h"

#include <errno.h>

#include "taffrail/json.h"

#define SCRATCH_MAX (TF_POD_BYTES_MAX + TF_OBJECT_MAX)

/* A version goes into a URL as it is. */
static bool is_version(struct tf_slice text)
{
    for (size_t i = 0; i < text.size; i++) {
        char c = text.data[i];

        if (!(c >= '0' && c <= '9') && !(c >= 'a' && c <= 'z') && !(c >= 'A' && c <= 'Z') &&
            c != '-' && c != '_' && c != '.') {
            return false;
        }
    }
    return text.size > 0 && text.size <= TF_VERSION_MAX;
}

static bool find_version(struct tf_slice metadata, struct tf_slice *version)
{
    struct tf_slice value;
    struct tf_json in;

    if (!tf_json_member(metadata, "resourceVersion", &value)) {
        return false;
    }
    in = tf_json(value);
    return value.data[0] == '"' && tf_json_raw(&in, version) && is_version(*version);
}

static void keep_version(struct tf_pod_events *events, struct tf_slice version)
{
    memcpy(events->version, version.data, version.size);
    events->version[version.size] = '\0';
}

enum tf_pod_answer tf_pod_events_metadata(struct tf_pod_events *events, struct tf_slice metadata)
{
    struct tf_slice version;

    if (!tf_json_is_whole(metadata) || !find_version(metadata, &version)) {
        return TF_EVENT_MALFORMED;
    }
    keep_version(events, version);
    return TF_EVENT_NONE;
}

static enum tf_pod_answer take_pod(struct tf_pod_events *events, struct tf_slice object,
                                   bool is_deleted, uint64_t now_ms)
{
    uint64_t before = events->pods->version, left_out = 0;
    struct tf_buf bytes;
    int rc;

    tf_buf_init(&bytes, SCRATCH_MAX);
    /* At once, for a buffer that grows leaves labels behind: what is kept, and a text that is
     * looked at. */
    rc = tf_buf_reserve(&bytes, TF_POD_BYTES_MAX + object.size);
    if (rc == 0) {
        rc = tf_pod_parse(object, &events->choice, &bytes, &left_out);
    }
    if (rc == 0 && is_deleted) {
        tf_pods_delete(events->pods, tf_buf_slice(&bytes), now_ms);
    } else if (rc == 0) {
        events->left_out += left_out;
        rc = tf_pods_put(events->pods, tf_buf_slice(&bytes), now_ms);
    }
    tf_buf_wipe(&bytes);
    if (rc == -ENOMEM) {
        return TF_EVENT_NO_MEMORY;
    }
    if (rc < 0 && rc != -ENOSPC) { /* ENOSPC: the table has counted it */
        return TF_EVENT_MALFORMED;
    }
    return is_deleted || events->pods->version != before ? TF_EVENT_CHANGED : TF_EVENT_NONE;
}

enum tf_pod_answer tf_pod_events_item(struct tf_pod_events *events, struct tf_slice item,
                                      uint64_t now_ms)
{
    enum tf_pod_answer answer = take_pod(events, item, false, now_ms);

    events->left_out += answer == TF_EVENT_MALFORMED;
    return answer;
}

static bool is_type(struct tf_slice type, const char *word)
{
    return type.size == strlen(word) + 2 && memcmp(type.data + 1, word, strlen(word)) == 0;
}

static enum tf_pod_answer take_error(struct tf_pod_events *events, struct tf_slice status)
{
    struct tf_slice code;

    if (tf_json_member(status, "code", &code) && tf_slice_equal(code, tf_slice_text("410"))) {
        events->version[0] = '\0';
        return TF_EVENT_GONE;
    }
    return TF_EVENT_REFUSED;
}

static enum tf_pod_answer take_event(struct tf_pod_events *events, struct tf_slice type,
                                     struct tf_slice object, uint64_t now_ms)
{
    enum tf_pod_answer answer = TF_EVENT_MALFORMED;
    struct tf_slice metadata, version;

    if (is_type(type, "ERROR")) {
        return take_error(events, object);
    }
    if (!tf_json_member(object, "metadata", &metadata) || !find_version(metadata, &version)) {
        return TF_EVENT_MALFORMED;
    }
    if (is_type(type, "BOOKMARK")) {
        answer = TF_EVENT_NONE;
    } else if (is_type(type, "ADDED") || is_type(type, "MODIFIED") || is_type(type, "DELETED")) {
        answer = take_pod(events, object, is_type(type, "DELETED"), now_ms);
    }
    if (answer == TF_EVENT_NONE || answer == TF_EVENT_CHANGED) {
        keep_version(events, version);
    }
    return answer;
}

enum tf_pod_answer tf_pod_events_take(struct tf_pod_events *events, struct tf_slice object,
                                      uint64_t now_ms)
{
    enum tf_pod_answer answer = TF_EVENT_MALFORMED;
    struct tf_slice type, of;

    if (tf_json_is_whole(object) && tf_json_member(object, "type", &type) &&
        tf_json_member(object, "object", &of)) {
        answer = take_event(events, type, of, now_ms);
    }
    events->left_out += answer == TF_EVENT_MALFORMED;
    return answer;
}
