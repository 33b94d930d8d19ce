/*
 * client.c - one GET at a time, by libcurl's multi interface on the loop.
 *
 *     IDLE --get--> RUNNING --libcurl: done--> IDLE, on_done
 *     any --close--> closed, when its handles are
 *
 * libcurl says which sockets it waits for and how long; a poll handle each and one timer tell it
 * when to go on (curl_multi_socket_action, libcurl-multi(3)). Names are looked up on a thread of
 * libcurl's own, which may wait long for an answer: a request that ends before is not waited for
 * with it (CURLOPT_QUICK_EXIT), and the thread ends by itself. From inside its callbacks libcurl
 * may not be called, so on_done comes after them.
 *
 * What a request may do is set in set_options, and nothing is left to the environment: libcurl
 * would take proxies from there, and the file to which it writes the keys of each session
 * (SSLKEYLOGFILE, curl(1)); and authorities from the system.
 */
#include "taffrail/http_client.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include <curl/curl.h>

#include "taffrail/sandbox.h"

#define READ_BYTES  16384L
#define STATUS_OK   200
#define IGNORED_MAX (64u << 10) /* of the body of another answer */

struct tf_http_client {
    uv_loop_t *loop;
    CURLM *multi;
    CURL *easy; /* NULL: idle */
    struct curl_slist *headers;
    struct tf_http_get get; /* its callbacks */
    size_t ignored_bytes;
    char error[CURL_ERROR_SIZE];
    uv_timer_t timer;
    uint32_t open_handles;
    bool is_inside; /* libcurl is running */
    bool is_closing;
    void (*on_closed)(void *ctx);
    void *closed_ctx;
};

/* One socket that libcurl waits for. */
struct waiting {
    struct tf_http_client *client;
    uv_poll_t poll;
    curl_socket_t fd;
};

const char *tf_http_client_version(void)
{
    return curl_version_info(CURLVERSION_NOW)->version;
}

/* ---- the request -------------------------------------------------------------------------------
 */

/* A token is among them. What libcurl has of it is out of reach. */
static void free_headers(struct tf_http_client *client)
{
    for (struct curl_slist *item = client->headers; item != NULL; item = item->next) {
        explicit_bzero(item->data, strlen(item->data));
    }
    curl_slist_free_all(client->headers);
    client->headers = NULL;
}

static void end_request(struct tf_http_client *client)
{
    if (client->easy != NULL) {
        (void)curl_multi_remove_handle(client->multi, client->easy);
        curl_easy_cleanup(client->easy);
        client->easy = NULL;
    }
    free_headers(client);
}

static unsigned status_of(const struct tf_http_client *client)
{
    long status = 0;

    (void)curl_easy_getinfo(client->easy, CURLINFO_RESPONSE_CODE, &status);
    return status > 0 ? (unsigned)status : 0;
}

/* A line of the head; the last one is empty. */
static size_t on_head(char *data, size_t unit, size_t size, void *ctx)
{
    struct tf_http_client *client = ctx;

    if (unit * size == 2 && memcmp(data, "\r\n", 2) == 0 && status_of(client) == STATUS_OK) {
        client->get.on_begun(client->get.ctx);
    }
    return unit * size;
}

static size_t on_body(char *data, size_t unit, size_t size, void *ctx)
{
    struct tf_http_client *client = ctx;

    if (status_of(client) != STATUS_OK) {
        client->ignored_bytes += unit * size;
        return client->ignored_bytes <= IGNORED_MAX ? unit * size : 0;
    }
    return client->get.on_data(client->get.ctx, tf_slice(data, unit * size)) < 0 ? 0 : unit * size;
}

static void fill_outcome(const struct tf_http_client *client, CURLcode code,
                         struct tf_http_outcome *outcome)
{
    *outcome = (struct tf_http_outcome){.is_whole = code == CURLE_OK, .status = status_of(client)};
    if (code == CURLE_COULDNT_RESOLVE_HOST) {
        tf_sandbox_look(NULL);
    }
    if (outcome->status != 0 && outcome->status != STATUS_OK) {
        (void)snprintf(outcome->why, sizeof outcome->why, "the answer was status %u",
                       outcome->status);
    } else if (code != CURLE_OK) {
        (void)snprintf(outcome->why, sizeof outcome->why, "%s",
                       client->error[0] != '\0' ? client->error : curl_easy_strerror(code));
    }
}

/* After each time that libcurl ran. */
static void finish_request(struct tf_http_client *client)
{
    struct tf_http_outcome outcome;
    const CURLMsg *message;
    int left;

    do {
        message = curl_multi_info_read(client->multi, &left);
        if (message != NULL && message->msg == CURLMSG_DONE) {
            fill_outcome(client, message->data.result, &outcome);
            end_request(client);
            client->get.on_done(client->get.ctx, &outcome);
            return;
        }
    } while (message != NULL);
}

static void run(struct tf_http_client *client, curl_socket_t fd, int events)
{
    int running;

    client->is_inside = true;
    (void)curl_multi_socket_action(client->multi, fd, events, &running);
    client->is_inside = false;
    finish_request(client);
}

static int set_options(struct tf_http_client *client, const struct tf_http_get *get)
{
    struct curl_blob authorities = {
        .data = (void *)get->authorities.data,
        .len = get->authorities.size,
        .flags = CURL_BLOB_COPY,
    };
    CURL *easy = client->easy;
    const CURLcode codes[] = {
        curl_easy_setopt(easy, CURLOPT_URL, get->url),
        curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "https"),
        curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1),
        curl_easy_setopt(easy, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2),
        curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 1L),
        curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 2L),
        curl_easy_setopt(easy, CURLOPT_CAINFO, NULL),
        curl_easy_setopt(easy, CURLOPT_CAPATH, NULL),
        curl_easy_setopt(easy, CURLOPT_CAINFO_BLOB, &authorities),
        curl_easy_setopt(easy, CURLOPT_PROXY, ""),
        curl_easy_setopt(easy, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED),
        curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L),
        curl_easy_setopt(easy, CURLOPT_HTTPHEADER, client->headers),
        curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L),
        curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L),
        curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, READ_BYTES),
        curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)get->connect_ms),
        curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)get->whole_ms),
        curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_head),
        curl_easy_setopt(easy, CURLOPT_HEADERDATA, client),
        curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body),
        curl_easy_setopt(easy, CURLOPT_WRITEDATA, client),
        curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, client->error),
    };

    for (size_t i = 0; i < TF_COUNT(codes); i++) {
        if (codes[i] != CURLE_OK) {
            return codes[i] == CURLE_OUT_OF_MEMORY ? -ENOMEM : -EINVAL;
        }
    }
    return 0;
}

int tf_http_client_get(struct tf_http_client *client, const struct tf_http_get *get)
{
    int rc = 0;

    assert(client->easy == NULL && !client->is_inside && !client->is_closing);
    for (size_t i = 0; rc == 0 && get->headers[i] != NULL; i++) {
        struct curl_slist *longer = curl_slist_append(client->headers, get->headers[i]);

        client->headers = longer != NULL ? longer : client->headers;
        rc = longer != NULL ? 0 : -ENOMEM;
    }
    client->get = *get;
    client->ignored_bytes = 0;
    client->error[0] = '\0';
    client->easy = curl_easy_init();
    if (rc == 0) {
        rc = client->easy != NULL ? set_options(client, get) : -ENOMEM;
    }
    if (rc == 0 && curl_multi_add_handle(client->multi, client->easy) != CURLM_OK) {
        rc = -ENOMEM;
    }
    if (rc < 0) {
        end_request(client);
    }
    return rc; /* libcurl has asked for its timer, so it begins with the loop's next turn */
}

/* ---- what libcurl waits for --------------------------------------------------------------------
 */

static void on_timer(uv_timer_t *timer)
{
    run(timer->data, CURL_SOCKET_TIMEOUT, 0);
}

static int on_timeout(CURLM *multi, long timeout_ms, void *ctx)
{
    struct tf_http_client *client = ctx;

    (void)multi;
    if (timeout_ms < 0) {
        (void)uv_timer_stop(&client->timer);
    } else {
        (void)uv_timer_start(&client->timer, on_timer, (uint64_t)timeout_ms, 0);
    }
    return 0;
}

static void on_handle_closed(struct tf_http_client *client)
{
    assert(client->open_handles > 0);
    if (--client->open_handles == 0 && client->is_closing) {
        void (*on_closed)(void *ctx) = client->on_closed;
        void *ctx = client->closed_ctx;

        free(client);
        curl_global_cleanup();
        on_closed(ctx);
    }
}

static void on_poll_closed(uv_handle_t *handle)
{
    struct waiting *waiting = handle->data;
    struct tf_http_client *client = waiting->client;

    free(waiting);
    on_handle_closed(client);
}

static void on_timer_closed(uv_handle_t *handle)
{
    on_handle_closed(handle->data);
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    const struct waiting *waiting = poll->data;
    int what = status < 0 ? CURL_CSELECT_ERR : 0;

    what |= (events & UV_READABLE) != 0 ? CURL_CSELECT_IN : 0;
    what |= (events & UV_WRITABLE) != 0 ? CURL_CSELECT_OUT : 0;
    run(waiting->client, waiting->fd, what);
}

static struct waiting *wait_for(struct tf_http_client *client, curl_socket_t fd)
{
    struct waiting *waiting = calloc(1, sizeof *waiting);

    if (waiting == NULL || uv_poll_init_socket(client->loop, &waiting->poll, fd) < 0) {
        free(waiting);
        return NULL;
    }
    waiting->client = client;
    waiting->fd = fd;
    waiting->poll.data = waiting;
    client->open_handles++;
    (void)curl_multi_assign(client->multi, fd, waiting);
    return waiting;
}

/* own: what curl_multi_assign said of this socket. */
static int on_socket(CURL *easy, curl_socket_t fd, int what, void *ctx, void *own)
{
    struct tf_http_client *client = ctx;
    struct waiting *waiting = own;
    int events = 0;

    (void)easy;
    if (what == CURL_POLL_REMOVE) {
        if (waiting != NULL) {
            (void)curl_multi_assign(client->multi, fd, NULL);
            uv_close((uv_handle_t *)&waiting->poll, on_poll_closed);
        }
        return 0;
    }
    waiting = waiting != NULL ? waiting : wait_for(client, fd);
    if (waiting == NULL) {
        return -1; /* libcurl ends the request */
    }
    events |= (what & CURL_POLL_IN) != 0 ? UV_READABLE : 0;
    events |= (what & CURL_POLL_OUT) != 0 ? UV_WRITABLE : 0;
    return uv_poll_start(&waiting->poll, events, on_poll) < 0 ? -1 : 0;
}

/* ---- life --------------------------------------------------------------------------------------
 */

int tf_http_client_new(uv_loop_t *loop, struct tf_http_client **out)
{
    struct tf_http_client *client = calloc(1, sizeof *client);

    (void)uv_os_unsetenv("SSLKEYLOGFILE"); /* the next call opens it */
    if (client == NULL || curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
        free(client);
        return -ENOMEM;
    }
    client->multi = curl_multi_init();
    if (client->multi == NULL) {
        curl_global_cleanup();
        free(client);
        return -ENOMEM;
    }
    (void)curl_multi_setopt(client->multi, CURLMOPT_SOCKETFUNCTION, on_socket);
    (void)curl_multi_setopt(client->multi, CURLMOPT_SOCKETDATA, client);
    (void)curl_multi_setopt(client->multi, CURLMOPT_TIMERFUNCTION, on_timeout);
    (void)curl_multi_setopt(client->multi, CURLMOPT_TIMERDATA, client);
    (void)curl_multi_setopt(client->multi, CURLMOPT_MAXCONNECTS, 1L);
    (void)uv_timer_init(loop, &client->timer); /* cannot fail: it only fills the struct */
    client->timer.data = client;
    client->loop = loop;
    client->open_handles = 1;
    *out = client;
    return 0;
}

void tf_http_client_close(struct tf_http_client *client, void (*on_closed)(void *ctx), void *ctx)
{
    assert(!client->is_inside && !client->is_closing);
    client->is_closing = true;
    client->on_closed = on_closed;
    client->closed_ctx = ctx;
    end_request(client);
    (void)curl_multi_cleanup(client->multi); /* lets its sockets go */
    uv_close((uv_handle_t *)&client->timer, on_timer_closed);
}
